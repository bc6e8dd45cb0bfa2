//! `statement`: what an account had, what moved, and what it has.

use super::objects::{ACCOUNT, escaped};
use super::print::cell;
use super::{Client, Context, Done, Exit, Failure};

/// Which books of an account, and when.
#[derive(Debug, clap::Args)]
pub struct PeriodArgs {
    /// A year, month or day of the account's zone, such as 2026-11; default: this month.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    period: Option<String>,
    /// First day, such as 2026-11-01.
    #[arg(long, value_name = "DAY", requires = "to")]
    from: Option<String>,
    /// Last day, which belongs to it.
    #[arg(long, value_name = "DAY", requires = "from")]
    to: Option<String>,
    /// The test books.
    #[arg(long)]
    test: bool,
}

impl PeriodArgs {
    /// As a query string, beginning with `?`.
    pub fn query(&self) -> String {
        let environment = if self.test { "test" } else { "live" };
        let named = [("period", &self.period), ("from", &self.from), ("to", &self.to)];
        let given = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let given: String = given.map(|(name, value)| format!("&{name}={}", escaped(value))).collect();
        format!("?environment={environment}{given}")
    }
}

#[derive(Debug, clap::Args)]
pub struct StatementArgs {
    /// Id or e-mail of the account.
    account: String,
    #[command(flatten)]
    period: PeriodArgs,
    /// Every movement, in this format; default: the sums alone, for people.
    #[arg(long, value_parser = ["json", "csv"])]
    format: Option<String>,
}

pub fn statement(context: &mut Context, args: &StatementArgs) -> Done {
    let client = context.client()?;
    let account = ACCOUNT.id(&client, &args.account)?;
    let (path, query) = (format!("/api/accounts/{account}/statement"), args.period.query());
    match args.format.as_deref() {
        Some(format) => save(context, &client, &format!("{path}{query}&format={format}")),
        None => {
            let summary = client.get(&format!("{path}/summary{query}"))?;
            match context.json {
                true => context.out.json(&summary),
                false => context.out.object(&summary),
            }
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct CostsArgs {
    /// Id or e-mail of the account.
    account: String,
    #[command(flatten)]
    period: PeriodArgs,
    /// What rows tell apart, such as day,model: day, month, project, member, key, group, model, request_type.
    #[arg(long, default_value = "day")]
    by: String,
    /// A file instead of a table; focus is for FinOps tools.
    #[arg(long, value_parser = ["csv", "focus"])]
    format: Option<String>,
}

pub fn costs(context: &mut Context, args: &CostsArgs) -> Done {
    let client = context.client()?;
    let account = ACCOUNT.id(&client, &args.account)?;
    let query = format!("{}&account={account}", args.period.query());
    let by = format!("&by={}", escaped(&args.by));
    match args.format.as_deref() {
        Some("focus") => return save(context, &client, &format!("/api/reports/focus{query}")),
        Some(format) => {
            return save(context, &client, &format!("/api/reports/costs{query}{by}&format={format}"));
        }
        None => {}
    }
    let report = client.get(&format!("/api/reports/costs{query}{by}"))?;
    if context.json {
        return context.out.json(&report);
    }
    let mut rows = report["rows"].as_array().cloned().unwrap_or_default();
    let mut total = report["total"].clone();
    total["of"] = "total".into();
    for row in rows.iter_mut().chain([&mut total]) {
        let of = row["of"].as_object().map(|of| of.values().map(cell).collect::<Vec<_>>().join("  "));
        row["of"] = of.map_or_else(|| row["of"].clone(), Into::into);
    }
    rows.push(total);
    let columns =
        [("OF", "of"), ("CALLS", "calls"), ("GROSS", "gross"), ("REFUNDS", "refunds"), ("NET", "net")];
    context.out.table(&rows, &columns)?;
    match report["forecast"]["net"].as_str() {
        Some(net) => context.out.text(&format!("at this rate the period comes to {net}")),
        None => Ok(Exit::Fine),
    }
}

/// To the standard output, as it comes.
pub fn save(context: &mut Context, client: &Client, path: &str) -> Result<Exit, Failure> {
    client.download(path, context.out.out())?;
    Ok(Exit::Fine)
}
