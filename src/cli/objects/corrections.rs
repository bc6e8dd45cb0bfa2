//! Refunds, compensation and adjustments.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::{Context, Done};

use super::args::put;
use super::{ACCOUNT, CORRECTION, ORDER, TASK, answer, escaped};

#[derive(Debug, Subcommand)]
pub enum Corrections {
    /// Corrections, the newest first.
    List(ListArgs),
    Show {
        correction: String,
    },
    /// Give an account something for what went wrong.
    Compensate(GiveArgs),
    /// Give an account something, or, with a minus, take it.
    Adjust {
        #[command(flatten)]
        args: GiveArgs,
        /// What the account lacks is owed.
        #[arg(long)]
        arrears: bool,
    },
    /// Agree to a correction that another person asked for; it is posted then.
    Approve {
        correction: String,
        #[arg(long)]
        reason: String,
    },
    /// End a correction that is not posted.
    Reject {
        correction: String,
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Id or e-mail of an account.
    #[arg(long)]
    account: Option<String>,
    /// refund, compensation, adjustment, credit, order_refund or order_completion.
    #[arg(long)]
    kind: Option<String>,
    /// pending, approved, posted, rejected or failed.
    #[arg(long)]
    state: Option<String>,
    /// Id of the call that they are about.
    #[arg(long)]
    request: Option<String>,
}

#[derive(Debug, Args)]
pub struct GiveArgs {
    /// Id or e-mail.
    account: String,
    #[arg(allow_hyphen_values = true)]
    amount: String,
    /// Why; stays with it.
    #[arg(long)]
    reason: String,
    /// granted (spent first) or purchased.
    #[arg(long)]
    kind: Option<String>,
    /// Lower is spent first, among lots of a kind.
    #[arg(long)]
    priority: Option<u8>,
    /// RFC 3339; from then on what is left cannot be spent.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Id of the call that it is for.
    #[arg(long)]
    request: Option<String>,
    /// Own name of it; asked for again, it is the same correction.
    #[arg(long)]
    reference: Option<String>,
    /// The test books instead of the live ones.
    #[arg(long)]
    test: bool,
}

/// Money that goes back: of a call's charge to the account, of an order to who paid.
#[derive(Debug, Args)]
pub struct Refund {
    /// Id of a call (req_…), of a task (task_…) or of an order (ord_…).
    of: String,
    /// Of an order, in the currency that was paid; default: all that is left.
    #[arg(long)]
    amount: Option<String>,
    /// Why; stays with it.
    #[arg(long)]
    reason: String,
    /// Of a call: own name of the refund; asked for again, it is the same one.
    #[arg(long)]
    reference: Option<String>,
    /// Of an order: what the account lacks is owed.
    #[arg(long)]
    arrears: bool,
}

pub fn refund(context: &mut Context, args: Refund) -> Done {
    let mut body = Map::new();
    put(&mut body, "reason", Some(args.reason));
    let path = if args.of.starts_with(ORDER.prefix) {
        put(&mut body, "pay_amount", args.amount);
        put(&mut body, "arrears", Some(args.arrears));
        format!("{}/{}/refund", ORDER.path, args.of)
    } else {
        put(&mut body, "kind", Some("refund"));
        let named = if args.of.starts_with(TASK.prefix) { "task" } else { "request" };
        put(&mut body, named, Some(args.of));
        put(&mut body, "amount", args.amount);
        put(&mut body, "reference", args.reference);
        CORRECTION.path.to_owned()
    };
    let refunded = context.client()?.post(&path, &Value::Object(body))?;
    answer(context, &refunded)
}

pub fn corrections(context: &mut Context, command: Corrections) -> Done {
    let (correction, state, reason) = match command {
        Corrections::List(args) => return list(context, args),
        Corrections::Show { correction } => return CORRECTION.show(context, &correction),
        Corrections::Compensate(args) => return give(context, "compensation", args, false),
        Corrections::Adjust { args, arrears } => return give(context, "adjustment", args, arrears),
        Corrections::Approve { correction, reason } => (correction, "approved", reason),
        Corrections::Reject { correction, reason } => (correction, "rejected", reason),
    };
    let path = format!("{}/{correction}/decision", CORRECTION.path);
    let decided = context.client()?.post(&path, &json!({"state": state, "reason": reason}))?;
    answer(context, &decided)
}

fn give(context: &mut Context, kind: &str, args: GiveArgs, arrears: bool) -> Done {
    let client = context.client()?;
    let mut body = Map::new();
    put(&mut body, "kind", Some(kind));
    put(&mut body, "account", Some(ACCOUNT.id(&client, &args.account)?));
    put(&mut body, "amount", Some(args.amount));
    put(&mut body, "reason", Some(args.reason));
    put(&mut body, "lot_kind", args.kind);
    put(&mut body, "priority", args.priority);
    put(&mut body, "expires_at", args.expires_at);
    put(&mut body, "request", args.request);
    put(&mut body, "reference", args.reference);
    put(&mut body, "arrears", arrears.then_some(true));
    put(&mut body, "environment", args.test.then_some("test"));
    CORRECTION.create(context, &client, body)
}

fn list(context: &mut Context, args: ListArgs) -> Done {
    let mut query = "limit=1000".to_owned();
    if let Some(account) = args.account {
        query += &format!("&account={}", ACCOUNT.id(&context.client()?, &account)?);
    }
    for (name, value) in [("kind", args.kind), ("state", args.state), ("request", args.request)] {
        if let Some(value) = value {
            query += &format!("&{name}={}", escaped(&value));
        }
    }
    CORRECTION.list(context, &query)
}
