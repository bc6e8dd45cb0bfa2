//! Reads what is known of a top-up. What belongs to another account is left out here, so that it cannot be told.

use crate::app::App;
use crate::directory::Environment;
use crate::explain::topup::{CodeFact, Facts, Found, KeyFact, OrderFact};
use crate::funding::{CodeError, FundingError, Order, Redeemer, Search, money};
use crate::id::KeyId;
use crate::store::{RequestsOf, StoreError};

/// What somebody knows of a top-up. Any of it will do.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Our number of an order, or one of the provider's.
    pub order: Option<String>,
    /// The text of a redemption code.
    pub code: Option<String>,
    /// The public id of the key that calls were made with, and when.
    pub key: Option<String>,
    pub at_ms: Option<i64>,
}

#[derive(Debug)]
pub enum GatherError {
    Funding(FundingError),
    Codes(CodeError),
    Store(StoreError),
}

/// The facts, for the account that is signed in. Looking for a code counts as a guess. Blocks.
pub fn gather(app: &App, who: &Redeemer, asked: &Asked) -> Result<Facts, GatherError> {
    Ok(Facts {
        account: who.account,
        order: order(app, who, asked)?,
        code: code(app, who, asked)?,
        key: key(app, who, asked)?,
        available: app.books.balance(who.account.in_book(ledger::Book::Live)).available,
    })
}

fn order(app: &App, who: &Redeemer, asked: &Asked) -> Result<Found<OrderFact>, GatherError> {
    let Some(number) = asked.order.as_deref() else { return Ok(Found::NotAsked) };
    let search = Search { reference: Some(number.to_owned()), limit: 50, ..Search::default() };
    let orders = app.funding.search(&search).map_err(GatherError::Funding)?;
    // Numbers of different providers may be alike: one's own is meant if there is one.
    let own = orders.iter().find(|order| order.account == who.account);
    match own {
        Some(order) => order_fact(app, order).map(Found::Own),
        None if orders.is_empty() => Ok(Found::Nothing),
        None => Ok(Found::Others),
    }
}

fn order_fact(app: &App, order: &Order) -> Result<OrderFact, GatherError> {
    let timeline = app.funding.timeline(order.id).map_err(GatherError::Funding)?;
    let callbacks = timeline.iter().filter(|event| &*event.kind == "callback");
    let (valid, refused): (Vec<_>, Vec<_>) =
        callbacks.partition(|event| event.verdict.as_deref() == Some("valid"));
    let count = |events: &[_]| u32::try_from(events.len()).unwrap_or(u32::MAX);
    let in_currency = |amount, currency: &str| format!("{} {currency}", money::text(amount, currency));
    Ok(OrderFact {
        id: order.id,
        state: order.state,
        calls_back: &*order.provider != "transfer",
        created_ms: order.created_ms,
        paid_ms: order.paid_ms,
        credited_ms: order.credited_ms,
        amount: order.credit,
        to_pay: in_currency(order.pay, &order.pay_currency),
        paid: order.paid.as_ref().map(|(amount, currency)| in_currency(*amount, currency)),
        callbacks: count(&valid),
        refused_callbacks: count(&refused),
        asked: order.polls,
        is_posted: app.books.has_posted(&order.reference()),
    })
}

fn code(app: &App, who: &Redeemer, asked: &Asked) -> Result<Found<CodeFact>, GatherError> {
    let Some(text) = asked.code.as_deref() else { return Ok(Found::NotAsked) };
    let found = match app.codes.look_for(text, who) {
        Ok(found) => found,
        Err(CodeError::Unknown | CodeError::Malformed(_)) => return Ok(Found::Nothing),
        Err(why) => return Err(GatherError::Codes(why)),
    };
    let (code, batch) = &found;
    if code.account.is_some_and(|account| account != who.account) {
        return Ok(Found::Others);
    }
    Ok(Found::Own(CodeFact {
        masked: code.masked.to_string(),
        state: app.codes.state(&found),
        redeemed_ms: code.redeemed_ms,
        amount: batch.value,
        is_posted: app.books.has_posted(&code.reference()),
    }))
}

fn key(app: &App, who: &Redeemer, asked: &Asked) -> Result<Found<KeyFact>, GatherError> {
    let Some(text) = asked.key.as_deref() else { return Ok(Found::NotAsked) };
    let snapshot = app.directory.snapshot();
    let Some(key) = text.parse::<KeyId>().ok().and_then(|id| snapshot.key(id)) else {
        return Ok(Found::Nothing);
    };
    if key.account != who.account {
        return Ok(Found::Others);
    }
    let book = crate::api::book(key.account, key.environment).0;
    let of = RequestsOf::Key { account: book, key: key.id.raw() };
    let before_ms = asked.at_ms.map_or(i64::MAX, |at_ms| at_ms.saturating_add(1));
    let last = app.projections.requests(of, before_ms, 1).map_err(GatherError::Store)?;
    Ok(Found::Own(KeyFact {
        id: key.id,
        is_test: key.environment == Environment::Test,
        last_call_ms: last.first().map(|row| row.at_ms),
    }))
}
