//! Notices and where they are sent to.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::{Context, Done, Failure};

use super::args::put;
use super::{ACCOUNT, NOTICE, NOTICE_ENDPOINT, answer, escaped, secret};

#[derive(Debug, Subcommand)]
pub enum NoticeEndpoints {
    /// Every webhook and mail address.
    List {
        /// Only those of this account, by id or e-mail, or of the operator.
        #[arg(long)]
        account: Option<String>,
    },
    /// One endpoint.
    Show { endpoint: String },
    /// Make a webhook (--url) or a mail address (--address). A webhook's secret is read from --secret-env, else from
    /// the standard input.
    Create {
        #[arg(long)]
        name: String,
        /// Id or e-mail of the account whose notices it gets; default: the operator's own.
        #[arg(long)]
        account: Option<String>,
        /// Name of the environment variable that holds a webhook's secret.
        #[arg(long, value_name = "NAME")]
        secret_env: Option<String>,
        #[command(flatten)]
        fields: EndpointFields,
    },
    /// Change what is named of an endpoint.
    Edit {
        endpoint: String,
        #[arg(long)]
        name: Option<String>,
        /// Replace the secret by what this environment variable holds.
        #[arg(long, value_name = "NAME", conflicts_with = "secret_stdin")]
        secret_env: Option<String>,
        /// Replace the secret by what the standard input holds.
        #[arg(long)]
        secret_stdin: bool,
        /// Refuse if the endpoint is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: EndpointFields,
    },
}

#[derive(Debug, Args)]
pub struct EndpointFields {
    /// Of a webhook: https, or http on this machine.
    #[arg(long, value_name = "URL", conflicts_with = "address")]
    url: Option<String>,
    /// Of mail.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Language of title and text: en or zh.
    #[arg(long = "language", value_name = "LANGUAGE")]
    language: Option<String>,
    /// Tell only this: key_status_changed, low_balance … Replaces all; repeat it for several.
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
    /// Tell everything.
    #[arg(long, conflicts_with = "events")]
    all_events: bool,
    /// enabled or disabled.
    #[arg(long)]
    status: Option<String>,
}

impl EndpointFields {
    fn put(self, body: &mut Map<String, Value>) {
        put(body, "url", self.url);
        put(body, "address", self.address);
        put(body, "language", self.language);
        if self.all_events || !self.events.is_empty() {
            put(body, "events", Some(self.events));
        }
        put(body, "status", self.status);
    }
}

#[derive(Debug, Subcommand)]
pub enum NoticesCommand {
    /// Notices from the newest on.
    List {
        /// Only what this account was told, by id or e-mail, or the operator.
        #[arg(long)]
        account: Option<String>,
        /// Only of this event.
        #[arg(long)]
        event: Option<String>,
        /// Only with a delivery in this state: pending, delivered, failed or dead.
        #[arg(long)]
        state: Option<String>,
    },
    /// One notice with its delivery log.
    Show { notice: String },
    /// Try the deliveries again that did not succeed.
    Retry { notice: String },
}

pub fn notice_endpoints(context: &mut Context, command: NoticeEndpoints) -> Done {
    let client = context.client()?;
    let mut body = Map::new();
    match command {
        NoticeEndpoints::List { account } => {
            let mut query = "limit=1000".to_owned();
            push_owner(&mut query, &client, account)?;
            NOTICE_ENDPOINT.list_by(context, &client, &query)
        }
        NoticeEndpoints::Show { endpoint } => NOTICE_ENDPOINT.show_by(context, &client, &endpoint),
        NoticeEndpoints::Create { name, account, secret_env, fields } => {
            put(&mut body, "account", account.map(|account| ACCOUNT.id(&client, &account)).transpose()?);
            put(&mut body, "name", Some(name));
            if fields.url.is_some() {
                put(&mut body, "secret", Some(secret(secret_env.as_deref())?));
            }
            fields.put(&mut body);
            NOTICE_ENDPOINT.create(context, &client, body)
        }
        NoticeEndpoints::Edit { endpoint, name, secret_env, secret_stdin, if_version, fields } => {
            put(&mut body, "name", name);
            put(&mut body, "version", if_version);
            if secret_stdin || secret_env.is_some() {
                put(&mut body, "secret", Some(secret(secret_env.as_deref())?));
            }
            fields.put(&mut body);
            NOTICE_ENDPOINT.edit(context, &client, &endpoint, body)
        }
    }
}

pub fn notices(context: &mut Context, command: NoticesCommand) -> Done {
    let client = context.client()?;
    match command {
        NoticesCommand::List { account, event, state } => {
            let mut query = "limit=1000".to_owned();
            push_owner(&mut query, &client, account)?;
            for (name, value) in [("event", event), ("state", state)] {
                if let Some(value) = value {
                    query.push_str(&format!("&{name}={}", escaped(&value)));
                }
            }
            NOTICE.list_by(context, &client, &query)
        }
        NoticesCommand::Show { notice } => NOTICE.show_by(context, &client, &notice),
        NoticesCommand::Retry { notice } => {
            let again = client.post(&format!("{}/{notice}/retry", NOTICE.path), &json!({}))?;
            answer(context, &again)
        }
    }
}

/// The account in a query; `operator` stands for itself.
fn push_owner(
    query: &mut String,
    client: &crate::cli::Client,
    account: Option<String>,
) -> Result<(), Failure> {
    if let Some(account) = account {
        let id = if account == "operator" { account } else { ACCOUNT.id(client, &account)? };
        query.push_str(&format!("&account={}", escaped(&id)));
    }
    Ok(())
}

/// A list shows of each notice how far it got by each way.
pub fn deliveries_text(row: &mut Value) {
    let Some(deliveries) = row["deliveries"].as_array() else { return };
    let of = |delivery: &Value| {
        let [channel, state] = ["channel", "state"].map(|name| delivery[name].as_str().unwrap_or(""));
        format!("{channel} {state}")
    };
    let text = deliveries.iter().map(of).collect::<Vec<_>>().join(", ");
    if let Value::Object(fields) = row {
        fields.insert("deliveries_text".into(), text.into());
    }
}
