//! `statement`: what an account had, what moved, and what it has.

use super::objects::{ACCOUNT, escaped};
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

/// To the standard output, as it comes.
pub fn save(context: &mut Context, client: &Client, path: &str) -> Result<Exit, Failure> {
    client.download(path, context.out.out())?;
    Ok(Exit::Fine)
}
