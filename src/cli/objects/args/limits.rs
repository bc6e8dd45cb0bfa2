//! Limits and rates of whatever has some.

use clap::Args;
use serde_json::{Value, json};

use super::{Body, put};
use crate::cli::Failure;

/// The limits of anything that has some.
#[derive(Debug, Args)]
pub struct LimitFields {
    /// Spend: day=5.00, month=…, total=…; a key's calls per day: calls=100; of one model: day@MODEL=1.00,
    /// calls@MODEL=10. 0 blocks. Replaces all limits; repeat it for several.
    #[arg(long = "limit", value_name = "WINDOW=AMOUNT")]
    limits: Vec<String>,
    /// Who set the limits, as refusals tell: owner, operator, default or organization.
    #[arg(long, value_name = "WHO", requires = "limits")]
    limit_origin: Option<String>,
    /// Take all limits away.
    #[arg(long, conflicts_with = "limits")]
    no_limits: bool,
}

impl LimitFields {
    pub fn put(&self, body: &mut Body) -> Result<(), Failure> {
        if self.no_limits || !self.limits.is_empty() {
            let origin = self.limit_origin.as_deref().unwrap_or("operator");
            let limits: Result<Vec<_>, _> = self.limits.iter().map(|text| limit(text, origin)).collect();
            put(body, "limits", Some(limits?));
        }
        Ok(())
    }
}

fn limit(text: &str, origin: &str) -> Result<Value, Failure> {
    let expected =
        || Failure::usage(format!("--limit {text}: expected WINDOW=AMOUNT or WINDOW@MODEL=AMOUNT"));
    let (what, value) = text.split_once('=').ok_or_else(expected)?;
    let (window, model) = match what.split_once('@') {
        Some((window, model)) => (window, Some(model)),
        None => (what, None),
    };
    let (metric, window) = if window == "calls" { ("calls", "day") } else { ("spend", window) };
    Ok(json!({"metric": metric, "window": window, "model": model, "value": value, "origin": origin}))
}

pub(super) fn rate(text: &str) -> Result<Value, Failure> {
    let read = text.split_once('=').and_then(|(metric, value)| Some((metric, value.parse::<u64>().ok()?)));
    let (metric, value) =
        read.ok_or_else(|| Failure::usage(format!("--rate {text}: expected qps=N, tpm=N or concurrency=N")))?;
    let metric = match metric {
        "qps" => "requests_per_second",
        "tpm" => "tokens_per_minute",
        other => other,
    };
    Ok(json!({"metric": metric, "value": value}))
}
