//! What of the books a call looks at, and is held in.

use jiff::Timestamp;

use crate::books::Rated;
use crate::directory::{Environment, Rates, Snapshot};
use crate::gateway::facts::Facts;

use super::case::Caller;
use super::purse::{self, Layers, OfCall};

/// See the module.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// The ledger account that pays: test keys spend test money.
    pub account: ledger::AccountId,
    pub layers: Layers<'a>,
    /// `None`: no rate limits the key now.
    pub rated: Option<Rated>,
}

impl<'a> Scope<'a> {
    /// Of this caller's call.
    pub fn of(snapshot: &'a Snapshot, caller: Caller<'a>, facts: &Facts) -> Self {
        let asked = facts.body.passed().and_then(|body| snapshot.model(&body.model));
        let is_task = facts.address.passed().is_some_and(|endpoint| endpoint.is_task());
        let of_call = OfCall { model: asked.map(|entry| &*entry.model), is_task };
        Self::new(snapshot, caller, of_call, facts.at_ms)
    }

    /// Of any call of this caller: what is counted for some calls alone is left out.
    pub fn of_caller(snapshot: &'a Snapshot, caller: Caller<'a>, at_ms: i64) -> Self {
        Self::new(snapshot, caller, OfCall::default(), at_ms)
    }

    pub fn new(snapshot: &'a Snapshot, caller: Caller<'a>, of_call: OfCall<'_>, at_ms: i64) -> Self {
        let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX);
        let limits = Rates::at(&caller.key.rates, at, &caller.account.zone);
        let book = match caller.key.environment {
            Environment::Live => ledger::Book::Live,
            Environment::Test => ledger::Book::Test,
        };
        Scope {
            account: ledger::AccountId(caller.key.account.raw()).in_book(book),
            layers: purse::layers(&purse::purses(snapshot, caller), of_call, at_ms),
            rated: limits.map(|limits| Rated { key: caller.key.id, limits }),
        }
    }
}
