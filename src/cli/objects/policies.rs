//! Policies: documents from files.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Map, Value};

use crate::api::json;
use crate::cli::{Context, Done, Exit, Failure};

use super::args::put;
use super::{ACCOUNT, POLICY, answer};

#[derive(Debug, Subcommand)]
pub enum Policies {
    /// Every policy.
    List {
        /// Only policies of this account, by id or e-mail.
        #[arg(long)]
        account: Option<String>,
    },
    /// One policy with its document.
    Show { policy: String },
    /// Make a policy from a file.
    Create {
        /// JSON with Version and Statement.
        file: PathBuf,
        #[arg(long)]
        name: String,
        /// Id or e-mail of the account whose it is; default: the operator's.
        #[arg(long)]
        account: Option<String>,
    },
    /// Change a policy.
    Edit {
        policy: String,
        #[arg(long)]
        name: Option<String>,
        /// Replace the document by this file.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Refuse if the policy is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
    },
    /// Say what a document says in vain; nothing is kept.
    Lint { file: PathBuf },
}

pub fn policies(context: &mut Context, command: Policies) -> Done {
    let client = context.client()?;
    let mut body = Map::new();
    match command {
        Policies::List { account: None } => POLICY.list_by(context, &client, "limit=1000"),
        Policies::List { account: Some(account) } => {
            let query = format!("limit=1000&account={}", ACCOUNT.id(&client, &account)?);
            POLICY.list_by(context, &client, &query)
        }
        Policies::Show { policy } => POLICY.show_by(context, &client, &policy),
        Policies::Create { file, name, account } => {
            let account = account.map(|account| ACCOUNT.id(&client, &account)).transpose()?;
            put(&mut body, "account", account);
            put(&mut body, "name", Some(name));
            put(&mut body, "document", Some(document(&file)?));
            POLICY.create(context, &client, body)
        }
        Policies::Edit { policy, name, file, if_version } => {
            put(&mut body, "name", name);
            put(&mut body, "document", file.map(|file| document(&file)).transpose()?);
            put(&mut body, "version", if_version);
            POLICY.edit(context, &client, &policy, body)
        }
        Policies::Lint { file } => {
            put(&mut body, "document", Some(document(&file)?));
            let found = client.post("/api/policies/lint", &Value::Object(body))?;
            let is_clean = found["warnings"].as_array().is_none_or(Vec::is_empty);
            answer(context, &found)?;
            Ok(if is_clean { Exit::Fine } else { Exit::No })
        }
    }
}

fn document(file: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(file)?;
    json::read(text.as_bytes()).map_err(|why| Failure::usage(format!("{}: {why}", file.display())))
}
