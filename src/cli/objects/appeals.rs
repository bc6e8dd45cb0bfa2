//! Appeals for keys that the platform stopped.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::cli::{Context, Done};

use super::args::put;
use super::{APPEAL, answer};

#[derive(Debug, Subcommand)]
pub enum Appeals {
    /// Every appeal.
    List,
    /// One appeal.
    Show { appeal: String },
    /// Appeal for a key.
    Create {
        key: String,
        /// Why it should work again.
        #[arg(long)]
        statement: String,
    },
    /// Take an appeal into review.
    Review { appeal: String },
    /// Approve an appeal; the key is enabled again.
    Approve {
        appeal: String,
        #[arg(long)]
        reason: String,
    },
    /// Reject an appeal.
    Reject {
        appeal: String,
        #[arg(long)]
        reason: String,
    },
}

pub fn appeals(context: &mut Context, command: Appeals) -> Done {
    let (appeal, state, reason) = match command {
        Appeals::List => return APPEAL.list(context, "limit=1000"),
        Appeals::Show { appeal } => return APPEAL.show(context, &appeal),
        Appeals::Create { key, statement } => {
            let client = context.client()?;
            let body = json!({"key": key, "statement": statement});
            let made = client.post("/api/appeals", &body)?;
            return answer(context, &made);
        }
        Appeals::Review { appeal } => (appeal, "in_review", None),
        Appeals::Approve { appeal, reason } => (appeal, "approved", Some(reason)),
        Appeals::Reject { appeal, reason } => (appeal, "rejected", Some(reason)),
    };
    let mut body = Map::new();
    put(&mut body, "state", Some(state));
    put(&mut body, "reason", reason);
    let decided = context.client()?.post(&format!("/api/appeals/{appeal}/decision"), &Value::Object(body))?;
    answer(context, &decided)
}
