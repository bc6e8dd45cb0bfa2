//! `/v1/dashboard/billing/…`: what older OpenAI clients read to show a limit and its use.
//!
//! Their shape knows JSON numbers alone. They are written as decimals from the exact amounts and are for
//! showing; nothing computes with them.

use ledger::Nano;
use serde_json::{Number, Value, json};

use crate::directory::Key;
use crate::explain::usable::{self, Usable};

use super::own;
use super::problem::Problem;
use super::route::{Call, Param, Reply, Route, Who, both};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static SUBSCRIPTION: Shape = Shape {
    name: "BillingSubscription",
    fields: &[
        field!("object", Kind::Text, Required, "billing_subscription"),
        field!("has_payment_method", Kind::Bool, Required, "Always true: the books are prepaid"),
        field!(
            "hard_limit_usd",
            Kind::Any,
            Required,
            "What was and what can still be spent, in the ledger currency"
        ),
        field!("soft_limit_usd", Kind::Any, Required, "The same"),
        field!("system_hard_limit_usd", Kind::Any, Required, "The same"),
        field!("access_until", COUNT, Required, "Seconds since 1970; 0: no end"),
    ],
};

static USAGE: Shape = Shape {
    name: "BillingUsage",
    fields: &[
        field!("object", Kind::Text, Required, "list"),
        field!(
            "total_usage",
            Kind::Any,
            Required,
            "Spent by this key in all, in hundredths of the ledger currency"
        ),
    ],
};

const DATES: [Param; 2] = [
    Param { name: "start_date", about: "Taken and not looked at: the total of this key is shown" },
    Param { name: "end_date", about: "Taken and not looked at: the total of this key is shown" },
];

static SUBSCRIPTION_ROUTES: [Route; 2] = both!(
    get,
    "/dashboard/billing/subscription",
    "billingSubscription",
    "The limit, as older clients read it",
    &SUBSCRIPTION,
    subscription
);
static USAGE_ROUTES: [Route; 2] = {
    let [v1, api] = both!(
        get,
        "/dashboard/billing/usage",
        "billingUsage",
        "The use, as older clients read it",
        &USAGE,
        usage
    );
    [v1.query(&DATES), api.query(&DATES)]
};

pub static ROUTES: [&[Route]; 2] = [&SUBSCRIPTION_ROUTES, &USAGE_ROUTES];

fn spent(call: &Call<'_>, key: &Key) -> Nano {
    usable::spent_in_all(call.app, key)
}

/// Clients subtract the use from the limit, so the limit is what was spent and what can still be.
fn subscription(call: &Call<'_>) -> Result<Reply, Problem> {
    let key = own::asking(call)?;
    let usable: Usable = usable::of(call.app, &key);
    let rest = match own::usable_now(&usable, own::shows_money(call, &key)) {
        Some(_) => usable.now,
        None => Nano::ZERO,
    };
    let limit = number(spent(call, &key).saturating_add(rest), 9);
    Ok(Reply::ok(json!({
        "object": "billing_subscription",
        "has_payment_method": true,
        "hard_limit_usd": limit,
        "soft_limit_usd": limit,
        "system_hard_limit_usd": limit,
        "access_until": 0,
    })))
}

fn usage(call: &Call<'_>) -> Result<Reply, Problem> {
    let key = own::asking(call)?;
    Ok(Reply::ok(json!({"object": "list", "total_usage": number(spent(call, &key), 7)})))
}

/// An exact decimal as a JSON number; 7 places turn nano-units into hundredths.
fn number(amount: Nano, places: usize) -> Value {
    let text = crate::explain::decimal_text(i128::from(amount.0), places);
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}
