//! Self-service with the caller's own key: what it can spend, what its calls cost, and why.
//!
//! Passes rungs 1 and 2 alone, so that a limited key may still ask. A call of anybody else is not found.

use serde_json::{Value, json};

use crate::directory::{FieldError, Key};
use crate::explain::simulate;
use crate::explain::usable::{self, Binding, Usable};
use crate::explain::why::{Audience, Case};
use crate::explain::{receipt, why};
use crate::gateway::facts::Endpoint;
use crate::gateway::identify;
use crate::gateway::request::Sample;
use crate::id::{KeyId, RequestId};

use super::limits;
use super::problem::Problem;
use super::requests::{self, RECEIPT, WHY};
use super::route::{Call, Param, Reply, Route, Who, both};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static OWN_BALANCE: Shape = Shape {
    name: "OwnBalance",
    fields: &[
        field!("available", Kind::Money, Required, "Spendable now"),
        field!("held", Kind::Money, Required, "Part of open holds"),
        field!("granted", Kind::Money, Required, "Part of what is available"),
        field!("purchased", Kind::Money, Required, "Part of what is available"),
    ],
};

pub static BOUND_BY: Shape = Shape {
    name: "BoundBy",
    fields: &[
        field!("scope", Kind::Text, Required, "account, key, member, project, group or organization"),
        field!("window", Kind::Text, Nullable, "Of a limit"),
    ],
};

static OPEN_ORDERS: Shape = Shape {
    name: "OpenOrders",
    fields: &[
        field!("value", COUNT, Required, "So many at the same time"),
        field!("used", COUNT, Required, "How many wait now, of this account"),
        field!("origin", Kind::Text, Required, "Who set it: operator"),
    ],
};

static OWN_KEY: Shape = Shape {
    name: "OwnKey",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, key_…"),
        field!("name", Kind::Text, Required, "What people call it"),
        field!("masked", Kind::Text, Required, "Enough to recognise one's own key"),
        field!("account", Kind::Text, Required, "Id of the account that pays"),
        field!("environment", Kind::OneOf(&["live", "test"]), Required, "A test key posts to test books"),
        field!("status", Kind::Text, Required, "State of the key"),
        field!("group", Kind::Text, Nullable, "Name of its group"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("limits", limits::USES, Required, "Every limit with its use"),
        field!(
            "task_cost_cap",
            Kind::Money,
            Nullable,
            "A task that can cost more is refused unless it is confirmed; null: no cap"
        ),
        field!(
            "balance",
            Kind::Object(&OWN_BALANCE),
            Nullable,
            "null: the account does not show it to callers"
        ),
        field!(
            "usable_now",
            Kind::Money,
            Nullable,
            "The least over all layers; null where it would tell the balance"
        ),
        field!("bound_by", Kind::Object(&BOUND_BY), Required, "The purse that binds"),
        field!(
            "open_orders",
            Kind::Object(&OPEN_ORDERS),
            Required,
            "The limit of orders that wait for their payment"
        ),
    ],
};

static BALANCE_INFO: Shape = Shape {
    name: "BalanceInfo",
    fields: &[
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("total_balance", Kind::Text, Required, "Spendable now"),
        field!("granted_balance", Kind::Text, Required, "Part that was granted"),
        field!("topped_up_balance", Kind::Text, Required, "Part that was purchased"),
    ],
};

static USER_BALANCE: Shape = Shape {
    name: "UserBalance",
    fields: &[
        field!("is_available", Kind::Bool, Required, "Whether this key can pay for anything now"),
        field!(
            "balance_infos",
            Kind::List(&Kind::Object(&BALANCE_INFO)),
            Required,
            "Empty where the account does not show it"
        ),
    ],
};

static SIMULATE_INPUT: Shape = Shape { name: "ModelRequest", fields: &[] };

pub static SIMULATION: Shape = Shape {
    name: "Simulation",
    fields: &[
        field!(
            "would",
            Kind::OneOf(&["pass", "fail"]),
            Required,
            "What a call with this body would meet now"
        ),
        field!("hold", Kind::Money, Nullable, "What it would hold"),
        field!("output_cap", Kind::Any, Nullable, "Output tokens of one choice, at the most"),
        field!("why", Kind::Object(&WHY), Required, "Every rung, as a Why shows it"),
    ],
};

static KEY_ROUTES: [Route; 2] =
    both!(get, "/key", "ownKey", "Every limit of this key, and what it can spend now", &OWN_KEY, key);
static RECEIPT_ROUTES: [Route; 2] = both!(
    get,
    "/requests/{id}",
    "ownReceipt",
    "The receipt of one of this key's calls",
    &RECEIPT,
    own_receipt
);
static WHY_ROUTES: [Route; 2] = {
    let [v1, api] = both!(
        get,
        "/requests/{id}/why",
        "ownWhy",
        "Why one of this key's calls was allowed or refused",
        &WHY,
        own_why
    );
    [v1.who(Who::KeyOrStranger), api.who(Who::KeyOrStranger)]
};
static SIMULATE_ROUTES: [Route; 2] = {
    const QUERY: &[Param] =
        &[Param { name: "endpoint", about: "Path behind /v1/ that is called; default: chat/completions" }];
    let [v1, api] = both!(
        post,
        "/simulate",
        "simulate",
        "Whether a call with this body would be allowed now; no call, no charge, no trace",
        &SIMULATE_INPUT,
        &SIMULATION,
        run_simulation
    );
    [v1.query(QUERY), api.query(QUERY)]
};
static BALANCE_ROUTES: [Route; 1] = [Route::get(
    "/user/balance",
    "userBalance",
    "The balance in the shape of DeepSeek's API",
    &USER_BALANCE,
    user_balance,
)
.who(Who::Key)];

pub static ROUTES: [&[Route]; 5] =
    [&KEY_ROUTES, &RECEIPT_ROUTES, &WHY_ROUTES, &SIMULATE_ROUTES, &BALANCE_ROUTES];

/// The key that is asking.
pub fn asking(call: &Call<'_>) -> Result<std::sync::Arc<Key>, Problem> {
    let id: KeyId = call.caller.as_ref().map_err(|refusal| Problem::Refused(refusal.clone()))?.key;
    call.app.directory.snapshot().key(id).cloned().ok_or(Problem::NotFound)
}

/// Whether callers may see what the account has.
pub fn shows_money(call: &Call<'_>, key: &Key) -> bool {
    let snapshot = call.app.directory.snapshot();
    snapshot.account(key.account).is_some_and(|entry| entry.account.callers_see_account_money())
}

fn key(call: &Call<'_>) -> Result<Reply, Problem> {
    let key = asking(call)?;
    let usable = usable::of(call.app, &key);
    let shown = shows_money(call, &key);
    let group =
        key.group.and_then(|id| call.app.directory.snapshot().group(id).map(|group| group.name.to_string()));
    let balance = shown.then(|| {
        json!({
            "available": usable.balance.available.to_string(),
            "held": usable.balance.held.to_string(),
            "granted": usable.balance.granted.to_string(),
            "purchased": usable.balance.purchased.to_string(),
        })
    });
    Ok(Reply::ok(json!({
        "id": key.id,
        "name": key.name,
        "masked": key.masked,
        "account": key.account,
        "environment": key.environment,
        "status": key.status,
        "group": group,
        "currency": call.app.currency(),
        "limits": limits::views_for_caller(&usable.limits, shown),
        "task_cost_cap": task_cost_cap(call, &key),
        "balance": balance,
        "usable_now": usable_now(&usable, shown),
        "bound_by": bound_by(&usable),
        "open_orders": {
            "value": call.app.funding.settings().open_orders_max,
            "used": call.app.funding.open_orders(key.account)?,
            "origin": "operator",
        },
    })))
}

/// The tighter one of the key's and the account's.
fn task_cost_cap(call: &Call<'_>, key: &Key) -> Option<String> {
    let snapshot = call.app.directory.snapshot();
    let account = snapshot.account(key.account).and_then(|entry| entry.account.tasks.as_ref()?.cost_cap);
    let own = key.tasks.as_ref().and_then(|terms| terms.cost_cap);
    own.into_iter().chain(account).min().map(|cap| cap.to_string())
}

/// Where another purse than the key's own binds and may not be shown, the figure would be what it has left.
pub fn usable_now(usable: &Usable, shown: bool) -> Option<String> {
    let is_own = match usable.bound_by {
        Binding::Balance => false,
        Binding::Limit(at) => usable.limits.get(at).is_some_and(|limit| limit.scope == "key"),
    };
    (shown || is_own).then(|| usable.now.to_string())
}

pub fn bound_by(usable: &Usable) -> Value {
    match usable.bound_by {
        Binding::Balance => json!({"scope": "account", "window": null}),
        Binding::Limit(at) => match usable.limits.get(at) {
            Some(limit) => json!({"scope": limit.scope, "window": limit.window}),
            None => Value::Null,
        },
    }
}

/// One of the asking key's own calls. Anybody else's is not found, and nobody is told that it exists.
fn own_case(call: &Call<'_>) -> Result<Case, Problem> {
    let key = asking(call)?;
    let case = Case::of(call.app, requests::find(call, call.path_id::<RequestId>("id")?)?)?;
    if case.key() == Some(key.id) { Ok(case) } else { Err(Problem::NotFound) }
}

/// One of the asking key's own calls, or one that was refused before any key was known.
fn own_or_nobodys_case(call: &Call<'_>) -> Result<Case, Problem> {
    if let Ok(stored) = call.path_id::<RequestId>("id").and_then(|id| requests::find(call, id)) {
        let case = Case::of(call.app, stored)?;
        if case.key().is_none() {
            return Ok(case);
        }
    }
    own_case(call)
}

fn own_receipt(call: &Call<'_>) -> Result<Reply, Problem> {
    let receipt = receipt::of(&own_case(call)?, Audience::Caller, call.app.currency(), call.language);
    Reply::of(&receipt.shown_in(call.app.display.as_ref()))
}

fn own_why(call: &Call<'_>) -> Result<Reply, Problem> {
    Reply::of(&why::explain(&own_or_nobodys_case(call)?, Audience::Caller, call.language))
}

fn run_simulation(call: &Call<'_>) -> Result<Reply, Problem> {
    let key = asking(call)?;
    let path = call.query_text("endpoint").unwrap_or("chat/completions");
    let is_simulated = |endpoint: &Endpoint| !endpoint.takes_form() && !endpoint.is_count();
    let endpoint = identify::call_at(path).filter(is_simulated).ok_or_else(|| {
        FieldError::new("endpoint", format!("no call with a JSON body that costs is taken at `{path}`"))
    })?;
    let asked = Sample { endpoint, media_type: None, body: call.raw.clone() };
    Reply::of(&simulate::call(call.app, &key, &asked, call.address, Audience::Caller, call.language))
}

fn user_balance(call: &Call<'_>) -> Result<Reply, Problem> {
    let key = asking(call)?;
    let usable = usable::of(call.app, &key);
    let infos = match shows_money(call, &key) {
        false => Vec::new(),
        true => vec![json!({
            "currency": call.app.currency(),
            "total_balance": usable.balance.available.to_string(),
            "granted_balance": usable.balance.granted.to_string(),
            "topped_up_balance": usable.balance.purchased.to_string(),
        })],
    };
    Ok(Reply::ok(json!({"is_available": usable.now.is_positive(), "balance_infos": infos})))
}
