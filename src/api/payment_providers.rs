//! `/api/payment-providers`: how money can come in, where it is told, and whether that works.

use serde_json::{Value, json};

use crate::explain::time_text;
use crate::funding::Check;
use crate::funding::provider::PaymentProvider;

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, Reply, Route};
use super::shape::{Field, Kind, Need, Shape, field};

static PROVIDER: Shape = Shape {
    name: "PaymentProvider",
    fields: &[
        field!("id", Kind::Text, Required, "Its name"),
        field!("currency", Kind::Text, Nullable, "The one that it takes; null: every one that has a rate"),
        field!(
            "methods",
            Kind::List(&Kind::Text),
            Nullable,
            "Ways to pay there; null: it has names of its own"
        ),
        field!("callback_url", Kind::Text, Nullable, "Where it calls back; null: it does not"),
        field!("check", Kind::Object(&CHECK), Nullable, "The last one of this process; null: none yet"),
    ],
};

static CHECK: Shape = Shape {
    name: "PaymentProviderCheck",
    fields: &[
        field!("at", Kind::Time, Required, "When it began"),
        field!("ok", Kind::Bool, Required, "Whether the provider can be worked with"),
        field!("account_error", Kind::Text, Nullable, "Why it does not know us; null: it does"),
        field!("callback_error", Kind::Text, Nullable, "Why its callbacks would not arrive; null: they do"),
    ],
};

static NOTHING: Shape = Shape { name: "NothingToCheckWith", fields: &[] };

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/payment-providers",
        "listPaymentProviders",
        "The payment providers that are set up",
        &PROVIDER,
        list,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/payment-providers/{id}/check",
        "checkPaymentProvider",
        "Asks the provider something harmless, and calls the address that it calls back at",
        &NOTHING,
        &PROVIDER,
        check,
    )
    .access(Access::MONEY_MOVES),
];

fn view(call: &Call<'_>, provider: &dyn PaymentProvider) -> Value {
    let funding = &call.app.funding;
    let callback = provider.calls_back().then(|| funding.settings().links.callback(provider.name()));
    json!({
        "id": provider.name(),
        "currency": provider.currency(),
        "methods": provider.methods(),
        "callback_url": callback,
        "check": funding.checked(provider.name()).as_ref().map(check_view),
    })
}

fn check_view(check: &Check) -> Value {
    json!({
        "at": time_text(check.at_ms),
        "ok": check.is_fine(),
        "account_error": check.account.as_ref().err(),
        "callback_error": check.callback.as_ref().err(),
    })
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let providers = &call.app.funding.settings().providers;
    Ok(Reply::page(providers.iter().map(|provider| view(call, &**provider)).collect(), None))
}

fn check(call: &Call<'_>) -> Result<Reply, Problem> {
    let funding = &call.app.funding;
    let provider = funding.settings().provider(call.path_text("id")).ok_or(Problem::NotFound)?;
    funding.check_provider(provider.name())?;
    Ok(Reply::ok(view(call, &**provider)))
}
