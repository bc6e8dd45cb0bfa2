//! `logs tail`: the request log, newest last.

use std::time::Duration;

use serde_json::Value;

use super::print::cell;
use super::{Client, Context, Done, Exit, Failure};

/// How often a followed log is asked for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Subcommand)]
pub enum Logs {
    /// Show the last calls.
    Tail(Tail),
}

#[derive(Debug, clap::Args)]
pub struct Tail {
    /// Go on and show new calls as they come.
    #[arg(long, short)]
    follow: bool,
    /// Calls shown at first.
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    lines: u32,
    /// Only calls of this account.
    #[arg(long, value_name = "ACC")]
    account: Option<String>,
    /// Only calls of this key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only calls with this status.
    #[arg(long)]
    status: Option<u16>,
    /// Only calls with this code.
    #[arg(long)]
    code: Option<String>,
}

pub fn run(context: &mut Context, Logs::Tail(tail): &Logs) -> Done {
    let client = context.client()?;
    let mut rows = page(&client, &tail.query(&format!("limit={}", tail.lines)))?;
    rows.reverse();
    let mut last = rows.last().and_then(|row| row["id"].as_str()).map(str::to_owned);
    show(context, &rows)?;
    if !tail.follow {
        return Ok(Exit::Fine);
    }
    loop {
        std::thread::sleep(FOLLOW_EVERY);
        let after = last.clone().unwrap_or_else(|| "req_00000000000000000000000000".to_owned());
        let rows = page(&client, &tail.query(&format!("after={after}")))?;
        show(context, &rows)?;
        last = rows.last().and_then(|row| row["id"].as_str()).map(str::to_owned).or(last);
    }
}

impl Tail {
    fn query(&self, more: &str) -> String {
        let mut query = vec![more.to_owned()];
        let texts = [("account", &self.account), ("key", &self.key), ("code", &self.code)];
        query.extend(texts.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?))));
        query.extend(self.status.map(|status| format!("status={status}")));
        query.join("&")
    }
}

fn page(client: &Client, query: &str) -> Result<Vec<Value>, Failure> {
    let page = client.get(&format!("/api/requests?{query}"))?;
    Ok(page["data"].as_array().cloned().unwrap_or_default())
}

fn show(context: &mut Context, rows: &[Value]) -> Result<(), Failure> {
    for row in rows {
        let line = if context.json { row.to_string() } else { line(row) };
        context.out.line(&line)?;
    }
    Ok(())
}

/// Time, id, status, code, model, charge, latency, key.
fn line(row: &Value) -> String {
    let latency =
        row["latency_us"].as_u64().map_or_else(|| "–".to_owned(), |us| format!("{} ms", us / 1_000));
    format!(
        "{:<24} {} {:>3} {:<24} {:<24} {:>12} {:>9} {}",
        cell(&row["at"]),
        cell(&row["id"]),
        cell(&row["status"]),
        cell(&row["code"]),
        cell(&row["model"]),
        cell(&row["charge"]),
        latency,
        cell(&row["key"]),
    )
}
