//! Image and video tasks.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::{Context, Done};

use super::{ACCOUNT, TASK, answer, escaped};

#[derive(Debug, Subcommand)]
pub enum Tasks {
    /// Tasks, the newest first.
    List(ListArgs),
    /// One task.
    Show { task: String },
    /// Cancel a task that runs; what it held is given back.
    Cancel { task: String },
    /// Whether a task was charged, with the evidence.
    Charged { task: String },
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Id or e-mail of an account.
    #[arg(long)]
    account: Option<String>,
    /// Id of a key.
    #[arg(long)]
    key: Option<String>,
    /// queued, running, succeeded, failed, cancelled or expired.
    #[arg(long)]
    state: Option<String>,
    #[arg(long)]
    model: Option<String>,
    /// How the copies of their results stand: pending, kept, failed or removed.
    #[arg(long)]
    copies: Option<String>,
}

pub fn tasks(context: &mut Context, command: Tasks) -> Done {
    match command {
        Tasks::List(args) => list(context, args),
        Tasks::Show { task } => TASK.show(context, &task),
        Tasks::Cancel { task } => {
            let task = context.client()?.post(&format!("/api/tasks/{task}/cancel"), &json!({}))?;
            answer(context, &task)
        }
        Tasks::Charged { task } => {
            let charged = context.client()?.get(&format!("/api/tasks/{task}/charged"))?;
            answer(context, &charged)
        }
    }
}

fn list(context: &mut Context, args: ListArgs) -> Done {
    let mut query = "limit=1000".to_owned();
    if let Some(account) = args.account {
        query += &format!("&account={}", ACCOUNT.id(&context.client()?, &account)?);
    }
    let given = [("key", args.key), ("state", args.state), ("model", args.model), ("copies", args.copies)];
    for (name, value) in given {
        if let Some(value) = value {
            query += &format!("&{name}={}", escaped(&value));
        }
    }
    TASK.list(context, &query)
}
