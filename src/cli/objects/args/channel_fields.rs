//! What can be said of a channel.

use clap::Args;
use serde_json::{Map, Value};

use super::{Body, put};
use crate::api::json;
use crate::cli::Failure;

#[derive(Debug, Args)]
pub struct ChannelFields {
    /// Whose wire format it speaks: openai, deepseek, anthropic or gemini.
    #[arg(long)]
    provider: Option<String>,
    /// Up to and including the version segment: https://host/v1
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// A model that it serves, as callers name it, or ASKED=SENT. Replaces all; repeat it for several.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Id or name of a group that may use it. Replaces all; repeat it for several.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Every group may use it, as it is where none was ever named.
    #[arg(long, conflicts_with = "groups")]
    all_groups: bool,
    /// live, test or live,test.
    #[arg(long, value_delimiter = ',', value_name = "ENVIRONMENTS")]
    environments: Vec<String>,
    /// Higher is tried first.
    #[arg(long, allow_hyphen_values = true)]
    priority: Option<i32>,
    /// Its share of the calls among channels of the same priority; 0: only where no other of them can.
    #[arg(long)]
    weight: Option<u32>,
    /// enabled or disabled.
    #[arg(long)]
    status: Option<String>,
    /// max_completion_tokens or max_tokens.
    #[arg(long, value_name = "FIELD")]
    output_cap_field: Option<String>,
    /// false: it is tried whatever happened before.
    #[arg(long, value_name = "BOOL")]
    cools_down: Option<bool>,
    /// HTTP proxy through which it is reached, http://host:port, or none.
    #[arg(long, value_name = "URL|none")]
    proxy: Option<String>,
    /// Calls at a time of one process, or none for no limit.
    #[arg(long, value_name = "COUNT|none")]
    concurrency: Option<String>,
    /// Calls in a minute of one process, or none for no limit.
    #[arg(long, value_name = "COUNT|none")]
    requests_per_minute: Option<String>,
    /// What it bills, as a share of the models' prices, or none if nobody knows.
    #[arg(long, value_name = "SHARE|none")]
    cost_share: Option<String>,
    /// File with the JSON that says how its upstream speaks of tasks (docs/tasks.md), or none.
    #[arg(long, value_name = "FILE|none")]
    task_api: Option<String>,
    /// How its upstream tells what is left of the platform's credit: deepseek_balance, openrouter_credits,
    /// billing_subscription, json, or none.
    #[arg(long, value_name = "SOURCE|none")]
    credit_source: Option<String>,
    /// Tell operators when less is left, in the upstream's currency.
    #[arg(long, value_name = "AMOUNT", requires = "credit_source")]
    credit_alert_below: Option<String>,
    /// Of the source json: the path behind the host.
    #[arg(long, value_name = "PATH", requires = "credit_source")]
    credit_path: Option<String>,
    /// Of the source json: where the amount stands in the answer, such as /data/balance.
    #[arg(long, value_name = "POINTER", requires = "credit_source")]
    credit_pointer: Option<String>,
}

impl ChannelFields {
    pub fn body(self, group: impl Fn(&str) -> Result<String, Failure>) -> Result<Body, Failure> {
        let mut body = Body::new();
        put(&mut body, "provider", self.provider);
        put(&mut body, "base_url", self.base_url);
        if !self.models.is_empty() {
            let pair = |text: &String| {
                let (asked, sent) = text.split_once('=').unwrap_or((text, text));
                (asked.to_owned(), Value::from(sent))
            };
            put(&mut body, "models", Some(self.models.iter().map(pair).collect::<Map<_, _>>()));
        }
        if self.all_groups || !self.groups.is_empty() {
            put(
                &mut body,
                "groups",
                Some(self.groups.iter().map(|text| group(text)).collect::<Result<Vec<_>, _>>()?),
            );
        }
        if !self.environments.is_empty() {
            put(&mut body, "environments", Some(self.environments));
        }
        put(&mut body, "priority", self.priority);
        put(&mut body, "weight", self.weight);
        put(&mut body, "status", self.status);
        put(&mut body, "output_cap_field", self.output_cap_field);
        put(&mut body, "cools_down", self.cools_down);
        let limits = [("concurrency", self.concurrency), ("requests_per_minute", self.requests_per_minute)];
        for (name, limit) in limits {
            let read = |text: String| match &*text {
                "none" => Ok(Value::Null),
                count => count
                    .parse::<u32>()
                    .map(Value::from)
                    .map_err(|why| Failure::usage(format!("--{}: {why}", name.replace('_', "-")))),
            };
            put(&mut body, name, limit.map(read).transpose()?);
        }
        let nullable = |text: String| if text == "none" { Value::Null } else { text.into() };
        put(&mut body, "cost_share", self.cost_share.map(nullable));
        put(&mut body, "proxy", self.proxy.map(nullable));
        put(&mut body, "task_api", self.task_api.map(task_api).transpose()?);
        if let Some(source) = self.credit_source {
            let mut credit = Body::new();
            put(&mut credit, "alert_below", self.credit_alert_below);
            put(&mut credit, "path", self.credit_path);
            put(&mut credit, "pointer", self.credit_pointer);
            let check = if source == "none" {
                Value::Null
            } else {
                put(&mut credit, "source", Some(source));
                Value::Object(credit)
            };
            put(&mut body, "credit", Some(check));
        }
        Ok(body)
    }
}

/// What stands in the file; what may stand there is the API's to say.
fn task_api(file: String) -> Result<Value, Failure> {
    if file == "none" {
        return Ok(Value::Null);
    }
    let text = std::fs::read_to_string(&file);
    let text = text.map_err(|why| Failure::usage(format!("{file} cannot be read: {why}")))?;
    let value = json::read(json::unmarked(&text).as_bytes());
    value.map_err(|why| Failure::usage(format!("{file} is no JSON: {why}")))
}
