//! Orders of money that is to come in.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::{Context, Done, Exit};

use super::args::put;
use super::{ACCOUNT, CALLBACK, ORDER, PAYMENT_PROVIDER, answer, escaped, secret};

#[derive(Debug, Subcommand)]
pub enum Orders {
    /// Orders, the newest first.
    List(ListArgs),
    /// One order with all that happened to it.
    Show { order: String },
    /// Make an order and its payment at the provider.
    Create {
        /// Id or e-mail of the account that it credits.
        account: String,
        /// What it credits, in the ledger currency.
        amount: String,
        /// stripe, epay, alipay, wechat or transfer.
        #[arg(long)]
        provider: String,
        /// Currency to pay in.
        #[arg(long, value_name = "CURRENCY")]
        pay_in: Option<String>,
        /// Payment method at the provider, such as alipay.
        #[arg(long)]
        method: Option<String>,
    },
    /// Credit an order without its provider's word.
    Complete {
        order: String,
        /// Why, and how it is known that the money came.
        #[arg(long)]
        reason: String,
    },
    /// Expect no payment any more.
    Cancel { order: String },
    /// Send money back to who paid.
    Refund {
        order: String,
        /// Of what was paid; default: all that is left.
        #[arg(long)]
        amount: Option<String>,
        #[arg(long)]
        reason: String,
        /// Let the account owe what it lacks.
        #[arg(long)]
        arrears: bool,
    },
    /// Say what became of a refund about which the provider's answer was lost.
    ResolveRefund {
        order: String,
        /// The provider has sent it; else it has not.
        #[arg(long)]
        sent: bool,
        #[arg(long)]
        reason: String,
    },
    /// Where a top-up is: any of the numbers will do. Exit 0 if it was credited.
    Where(WhereArgs),
    /// Callbacks that name no order.
    Callbacks,
    /// The payment providers that are set up.
    Providers,
    /// Ask a payment provider something harmless, and call the address that it calls back at.
    CheckProvider { provider: String },
}

#[derive(Debug, Args)]
pub struct WhereArgs {
    /// Id or e-mail of the account that misses it.
    account: String,
    /// Our number of the order, or the provider's.
    #[arg(long)]
    order: Option<String>,
    /// Environment variable that holds a redemption code.
    #[arg(long, value_name = "VARIABLE")]
    code_env: Option<String>,
    /// Public id of the key that calls were made with.
    #[arg(long)]
    key: Option<String>,
    /// When a call was made.
    #[arg(long, value_name = "TIME", requires = "key")]
    at: Option<String>,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Id or e-mail of an account.
    #[arg(long)]
    account: Option<String>,
    #[arg(long)]
    state: Option<String>,
    #[arg(long)]
    provider: Option<String>,
    /// Our number of an order, or one of the provider's.
    #[arg(long)]
    reference: Option<String>,
    /// Who paid, as the provider names them.
    #[arg(long)]
    payer: Option<String>,
}

pub fn orders(context: &mut Context, command: Orders) -> Done {
    let (order, act, body) = match command {
        Orders::List(args) => return list(context, args),
        Orders::Show { order } => return ORDER.show(context, &order),
        Orders::Where(args) => return find(context, args),
        Orders::Callbacks => return CALLBACK.list(context, "limit=1000"),
        Orders::Providers => return PAYMENT_PROVIDER.list(context, "limit=1000"),
        Orders::CheckProvider { provider } => return check_provider(context, &provider),
        Orders::Create { account, amount, provider, pay_in, method } => {
            let client = context.client()?;
            let mut body = Map::new();
            put(&mut body, "account", Some(ACCOUNT.id(&client, &account)?));
            put(&mut body, "amount", Some(amount));
            put(&mut body, "provider", Some(provider));
            put(&mut body, "pay_currency", pay_in);
            put(&mut body, "method", method);
            return ORDER.create(context, &client, body);
        }
        Orders::Complete { order, reason } => (order, "complete", json!({"reason": reason})),
        Orders::Cancel { order } => (order, "cancel", json!({})),
        Orders::Refund { order, amount, reason, arrears } => {
            let mut body = Map::new();
            put(&mut body, "pay_amount", amount);
            put(&mut body, "reason", Some(reason));
            put(&mut body, "arrears", Some(arrears));
            (order, "refund", Value::Object(body))
        }
        Orders::ResolveRefund { order, sent, reason } => {
            (order, "refund/resolve", json!({"sent": sent, "reason": reason}))
        }
    };
    let changed = context.client()?.post(&format!("/api/orders/{order}/{act}"), &body)?;
    answer(context, &changed)
}

fn list(context: &mut Context, args: ListArgs) -> Done {
    let mut query = "limit=1000".to_owned();
    if let Some(account) = args.account {
        query += &format!("&account={}", ACCOUNT.id(&context.client()?, &account)?);
    }
    let filters = [
        ("state", args.state),
        ("provider", args.provider),
        ("reference", args.reference),
        ("payer", args.payer),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            query += &format!("&{name}={}", escaped(&value));
        }
    }
    ORDER.list(context, &query)
}

fn find(context: &mut Context, args: WhereArgs) -> Done {
    let client = context.client()?;
    let mut body = Map::new();
    put(&mut body, "account", Some(ACCOUNT.id(&client, &args.account)?));
    put(&mut body, "order", args.order);
    put(&mut body, "code", args.code_env.map(|name| secret(Some(&name))).transpose()?);
    put(&mut body, "key", args.key);
    put(&mut body, "at", args.at);
    let found = client.post("/api/topups/diagnose", &Value::Object(body))?;
    answer(context, &found)?;
    Ok(if found["verdict"] == "credited" { Exit::Fine } else { Exit::No })
}

fn check_provider(context: &mut Context, provider: &str) -> Done {
    let path = format!("/api/payment-providers/{}/check", escaped(provider));
    let checked = context.client()?.post(&path, &json!({}))?;
    let fine = checked["check"]["ok"] == true;
    answer(context, &checked)?;
    Ok(if fine { Exit::Fine } else { Exit::No })
}
