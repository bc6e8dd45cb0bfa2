//! Redemption codes.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::{Context, Done, Exit};

use super::args::put;
use super::{ACCOUNT, CODE, CODE_BATCH, answer, secret};

#[derive(Debug, Subcommand)]
pub enum Codes {
    /// Make codes. They are printed now, and can never be shown again.
    Create(CreateArgs),
    /// Batches of codes, the newest first.
    Batches,
    /// Codes, the newest first.
    List(ListArgs),
    /// One batch (cbt_…) or one code (cod_…).
    Show { id: String },
    /// The code that a text is.
    Find {
        #[command(flatten)]
        code: CodeText,
    },
    /// Give the credit of a code to an account.
    Redeem {
        /// Id or e-mail.
        account: String,
        #[command(flatten)]
        code: CodeText,
    },
    /// Take a batch (cbt_…) or a code (cod_…) out of use.
    Disable {
        id: String,
        #[arg(long)]
        reason: String,
    },
}

/// A code is as good as money: it is no argument, which others can read.
#[derive(Debug, Args)]
pub struct CodeText {
    /// Variable that holds the code; without it, the code is read from the standard input.
    #[arg(long, value_name = "NAME")]
    code_env: Option<String>,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What each code credits, in the ledger currency.
    value: String,
    /// How many codes, up to 10,000.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// granted (spent first) or purchased (for codes that are sold).
    #[arg(long, default_value = "granted")]
    kind: String,
    /// Lower is spent first, among lots of a kind.
    #[arg(long)]
    priority: Option<u8>,
    /// RFC 3339; from then on the codes cannot be redeemed.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// RFC 3339; from then on the credit cannot be spent.
    #[arg(long, value_name = "TIME", conflicts_with = "credit_days")]
    credit_expires_at: Option<String>,
    /// Days from its redemption on in which the credit can be spent.
    #[arg(long)]
    credit_days: Option<u32>,
    /// Codes of it that one account can redeem.
    #[arg(long, value_name = "COUNT")]
    per_account_max: Option<u32>,
    /// What they are for.
    #[arg(long)]
    note: Option<String>,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Id of a batch.
    #[arg(long)]
    batch: Option<String>,
    /// Id or e-mail of the account that redeemed them.
    #[arg(long)]
    account: Option<String>,
    /// unused, processing, redeemed, disabled or expired.
    #[arg(long)]
    state: Option<String>,
}

pub fn codes(context: &mut Context, command: Codes) -> Done {
    match command {
        Codes::Create(args) => create(context, args),
        Codes::Batches => CODE_BATCH.list(context, "limit=1000"),
        Codes::List(args) => list(context, args),
        Codes::Show { id } => noun(&id).show(context, &id),
        Codes::Find { code } => {
            let code = secret(code.code_env.as_deref())?;
            let found = context.client()?.post("/api/codes/find", &json!({"code": code}))?;
            answer(context, &found)
        }
        Codes::Redeem { account, code } => {
            let client = context.client()?;
            let account = ACCOUNT.id(&client, &account)?;
            let body = json!({"account": account, "code": secret(code.code_env.as_deref())?});
            let redeemed = client.post("/api/codes/redeem", &body)?;
            answer(context, &redeemed)
        }
        Codes::Disable { id, reason } => {
            let path = format!("{}/{id}/disable", noun(&id).path);
            let disabled = context.client()?.post(&path, &json!({"reason": reason}))?;
            answer(context, &disabled)
        }
    }
}

fn noun(id: &str) -> &'static super::Noun<'static> {
    if id.starts_with(CODE_BATCH.prefix) { &CODE_BATCH } else { &CODE }
}

fn create(context: &mut Context, args: CreateArgs) -> Done {
    let mut body = Map::new();
    put(&mut body, "value", Some(args.value));
    put(&mut body, "count", Some(args.count));
    put(&mut body, "kind", Some(args.kind));
    put(&mut body, "priority", args.priority);
    put(&mut body, "expires_at", args.expires_at);
    put(&mut body, "credit_expires_at", args.credit_expires_at);
    put(&mut body, "credit_days", args.credit_days);
    put(&mut body, "per_account_max", args.per_account_max);
    put(&mut body, "note", args.note);
    let mut made = context.client()?.post(CODE_BATCH.path, &Value::Object(body))?;
    if context.json {
        return context.out.json(&made);
    }
    let texts = made["codes"].take();
    if let Value::Object(fields) = &mut made {
        fields.remove("codes");
    }
    context.out.object(&made)?;
    context.out.line("")?;
    for text in texts.as_array().into_iter().flatten().filter_map(Value::as_str) {
        context.out.line(text)?;
    }
    Ok(Exit::Fine)
}

fn list(context: &mut Context, args: ListArgs) -> Done {
    let mut query = "limit=1000".to_owned();
    if let Some(account) = args.account {
        query += &format!("&account={}", ACCOUNT.id(&context.client()?, &account)?);
    }
    for (name, value) in [("batch", args.batch), ("state", args.state)] {
        if let Some(value) = value {
            query += &format!("&{name}={}", super::escaped(&value));
        }
    }
    CODE.list(context, &query)
}
