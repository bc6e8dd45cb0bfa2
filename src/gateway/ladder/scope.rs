//! What of the books a call looks at, and is held in.

use jiff::Timestamp;

use crate::books::Rated;
use crate::directory::{Environment, Rates, Snapshot};

use super::case::Caller;
use super::purse::{self, Layers};

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
    /// Of this caller's call for this model.
    pub fn new(snapshot: &'a Snapshot, caller: Caller<'a>, model: Option<&str>, at_ms: i64) -> Self {
        let model = model.and_then(|name| snapshot.model(name)).map(|entry| &*entry.model);
        let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX);
        let limits = Rates::at(&caller.key.rates, at, &caller.account.zone);
        let book = match caller.key.environment {
            Environment::Live => ledger::Book::Live,
            Environment::Test => ledger::Book::Test,
        };
        Scope {
            account: ledger::AccountId(caller.key.account.raw()).in_book(book),
            layers: purse::layers(&purse::purses(snapshot, caller), model, at_ms),
            rated: limits.map(|limits| Rated { key: caller.key.id, limits }),
        }
    }
}
