//! What the operator tells everybody, or one account.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::{Context, Done};

use super::args::put;
use super::{ACCOUNT, ANNOUNCEMENT, answer};

#[derive(Debug, Subcommand)]
pub enum Announcements {
    /// Every announcement, from the newest on.
    List {
        /// Only those of this category.
        #[arg(long)]
        category: Option<String>,
        /// Only those of so many days.
        #[arg(long)]
        days: Option<u16>,
    },
    /// One announcement.
    Show { announcement: String },
    /// Announce something.
    Create {
        /// policy_change, pricing, models, maintenance, security or general.
        #[arg(long)]
        category: String,
        #[command(flatten)]
        words: Words,
        /// Id or e-mail of the account that it is for; default: everybody.
        #[arg(long)]
        account: Option<String>,
        /// Id of the policy whose newest change it tells of.
        #[arg(long)]
        policy: Option<String>,
        /// RFC 3339; default: now.
        #[arg(long)]
        published_at: Option<String>,
    },
    /// Take an announcement back.
    Withdraw { announcement: String },
    /// Keys that the announced change of a policy affects.
    Keys { announcement: String },
}

#[derive(Debug, Args)]
pub struct Words {
    #[arg(long)]
    title_en: String,
    #[arg(long)]
    title_zh: String,
    #[arg(long)]
    text_en: String,
    #[arg(long)]
    text_zh: String,
}

pub fn announcements(context: &mut Context, command: Announcements) -> Done {
    let client = context.client()?;
    match command {
        Announcements::List { category, days } => {
            let category = category.map(|category| format!("&category={category}")).unwrap_or_default();
            let days = days.map(|days| format!("&days={days}")).unwrap_or_default();
            ANNOUNCEMENT.list_by(context, &client, &format!("limit=1000{category}{days}"))
        }
        Announcements::Show { announcement } => ANNOUNCEMENT.show_by(context, &client, &announcement),
        Announcements::Create { category, words, account, policy, published_at } => {
            let mut body = Map::new();
            put(&mut body, "category", Some(category));
            put(&mut body, "title", Some(json!({"en": words.title_en, "zh": words.title_zh})));
            put(&mut body, "text", Some(json!({"en": words.text_en, "zh": words.text_zh})));
            put(&mut body, "account", account.map(|account| ACCOUNT.id(&client, &account)).transpose()?);
            put(&mut body, "policy", policy);
            put(&mut body, "published_at", published_at);
            let made = client.post(ANNOUNCEMENT.path, &Value::Object(body))?;
            answer(context, &made)
        }
        Announcements::Withdraw { announcement } => {
            let path = format!("{}/{announcement}", ANNOUNCEMENT.path);
            let withdrawn = client.patch(&path, &json!({"withdrawn": true}))?;
            answer(context, &withdrawn)
        }
        Announcements::Keys { announcement } => {
            let path = format!("{}/{announcement}/keys", ANNOUNCEMENT.path);
            super::Noun { path: &path, ..super::KEY }.list_by(context, &client, "limit=1000")
        }
    }
}

/// The English title, for a table.
pub fn title_text(row: &mut Value) {
    let title = row["title"]["en"].as_str().map(str::to_owned);
    if let (Some(title), Value::Object(fields)) = (title, row) {
        fields.insert("title_text".into(), title.into());
    }
}
