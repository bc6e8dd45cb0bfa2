//! What is left of the gateway's credit at the simulated upstream, told in the ways in which upstreams tell it.

use ledger::Nano;
use serde_json::{Value, json};

/// What the gateway has paid in advance.
pub const PAID: Nano = Nano(1_000_000_000_000);
const NANO_PER_CENT: i64 = 10_000_000;

const PATHS: [&str; 5] = [
    "/user/balance",
    "/v1/credits",
    "/v1/dashboard/billing/subscription",
    "/v1/dashboard/billing/usage",
    "/v1/wallet",
];

pub(super) fn is_asked_at(path: &str) -> bool {
    PATHS.contains(&path)
}

/// The answer at one of the paths.
pub(super) fn told(path: &str, spent: Nano) -> Value {
    let left = PAID.saturating_sub(spent);
    match path {
        "/user/balance" => json!({
            "is_available": left.is_positive(),
            "balance_infos": [{
                "currency": "USD",
                "total_balance": left.to_string(),
                "granted_balance": "0",
                "topped_up_balance": left.to_string(),
            }],
        }),
        "/v1/credits" => json!({"data": {"total_credits": number(PAID), "total_usage": number(spent)}}),
        "/v1/dashboard/billing/subscription" => {
            json!({"object": "billing_subscription", "hard_limit_usd": number(PAID)})
        }
        "/v1/dashboard/billing/usage" => json!({"object": "list", "total_usage": cents(spent)}),
        _ => json!({"wallet": {"left": left.to_string()}}),
    }
}

fn number(amount: Nano) -> Value {
    serde_json::from_str(&amount.to_string()).unwrap_or(Value::Null)
}

fn cents(amount: Nano) -> Value {
    let (whole, rest) = (amount.0 / NANO_PER_CENT, amount.0 % NANO_PER_CENT);
    serde_json::from_str(&format!("{whole}.{rest:07}")).unwrap_or(Value::Null)
}
