//! Reports: what the calls of an account cost it, and what is left of that at each channel.

use std::path::PathBuf;

use serde_json::Value;

use super::objects::{ACCOUNT, escaped};
use super::print::cell;
use super::statement::{PeriodArgs, save};
use super::{Context, Done, Exit};

#[derive(Debug, clap::Args)]
pub struct CostsArgs {
    /// Id or e-mail of the account.
    account: String,
    #[command(flatten)]
    period: PeriodArgs,
    /// What rows tell apart, such as day,model: day, month, project, member, key, group, model, request_type,
    /// unit.
    #[arg(long, default_value = "day")]
    by: String,
    /// A file instead of a table; focus is for FinOps tools.
    #[arg(long, value_parser = ["csv", "focus"])]
    format: Option<String>,
    /// Into this file, which is there whole or not at all.
    #[arg(long, value_name = "FILE", requires = "format")]
    output: Option<PathBuf>,
}

pub fn costs(context: &mut Context, args: &CostsArgs) -> Done {
    let client = context.client()?;
    let account = ACCOUNT.id(&client, &args.account)?;
    let query = format!("{}&account={account}", args.period.query());
    let by = format!("&by={}", escaped(&args.by));
    let file = args.format.as_deref().map(|format| match format {
        "focus" => format!("/api/reports/focus{query}"),
        format => format!("/api/reports/costs{query}{by}&format={format}"),
    });
    if let Some(path) = file {
        return save(context, &client, &path, args.output.as_deref(), false);
    }
    let report = client.get(&format!("/api/reports/costs{query}{by}"))?;
    if context.json {
        return context.out.json(&report);
    }
    let columns =
        [("OF", "of"), ("CALLS", "calls"), ("GROSS", "gross"), ("REFUNDS", "refunds"), ("NET", "net")];
    table(context, &report, &columns)?;
    match report["forecast"]["net"].as_str() {
        Some(net) => context.out.text(&format!("at this rate the period comes to {net}")),
        None => Ok(Exit::Fine),
    }
}

#[derive(Debug, clap::Args)]
pub struct MarginsArgs {
    #[command(flatten)]
    period: PeriodArgs,
    /// What rows tell apart, such as channel,day: day, month, channel, model.
    #[arg(long, default_value = "channel")]
    by: String,
    /// A file instead of a table.
    #[arg(long, value_parser = ["csv"])]
    format: Option<String>,
    /// Into this file, which is there whole or not at all.
    #[arg(long, value_name = "FILE", requires = "format")]
    output: Option<PathBuf>,
}

pub fn margins(context: &mut Context, args: &MarginsArgs) -> Done {
    let client = context.client()?;
    let path = format!("/api/reports/margins{}&by={}", args.period.query(), escaped(&args.by));
    if let Some(format) = &args.format {
        return save(context, &client, &format!("{path}&format={format}"), args.output.as_deref(), false);
    }
    let mut report = client.get(&path)?;
    if context.json {
        return context.out.json(&report);
    }
    let Value::Array(mut rows) = report["rows"].take() else { return Ok(Exit::Fine) };
    rows.iter_mut().chain([&mut report["total"]]).for_each(flatten);
    report["rows"] = rows.into();
    let columns = [
        ("OF", "of"),
        ("CALLS", "calls"),
        ("FAILED", "failed_attempts"),
        ("NET", "net"),
        ("COST SERVED", "served"),
        ("COST FAILED", "failed"),
        ("MARGIN", "margin"),
        ("COST UNKNOWN", "unknown_text"),
    ];
    table(context, &report, &columns)?;
    Ok(Exit::Fine)
}

/// What stands in objects of a row, as columns of it; channels by their names.
fn flatten(row: &mut Value) {
    for name in ["served", "failed"] {
        row[name] = row["cost"][name].clone();
    }
    let unknown = &row["unknown"];
    let attempts = ["served", "failed"].map(|name| unknown[name].as_u64().unwrap_or(0));
    row["unknown_text"] = match attempts {
        [0, 0] => "".into(),
        [served, failed] => format!("{served} served for {}, {failed} failed", cell(&unknown["net"])).into(),
    };
    if let Some(name) = row["names"]["channel"].as_str() {
        row["of"]["channel"] = name.into();
    }
}

/// The rows of a report with their values in one column, and the total below them.
fn table(context: &mut Context, report: &Value, columns: &[(&str, &str)]) -> Done {
    let mut rows = report["rows"].as_array().cloned().unwrap_or_default();
    let mut total = report["total"].clone();
    total["of"] = "total".into();
    rows.push(total);
    for row in &mut rows {
        let of = row["of"].as_object().map(|of| of.values().map(cell).collect::<Vec<_>>().join("  "));
        row["of"] = of.map_or_else(|| row["of"].clone(), Into::into);
    }
    context.out.table(&rows, columns)
}
