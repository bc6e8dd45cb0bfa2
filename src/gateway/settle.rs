//! The end of an admitted call: rate what was used, settle the hold, say when it is on disk.

use ledger::{Nano, ReleaseReason, Usage};

use crate::books::{BooksError, Held, Settlement};
use crate::catalogue::Code;
use crate::directory::Price;

use super::facts::{Attempts, Ending, Outcome, UsageSource};

/// What is known of a call when it has ended.
pub struct Ended {
    pub status: u16,
    pub ending: Ending,
    pub code: Option<Code>,
    pub attempts: Attempts,
    pub upstream_error: Option<Box<str>>,
    pub first_byte_us: Option<u64>,
    pub latency_us: u64,
}

impl Ended {
    fn outcome(self, usage: Usage, usage_source: UsageSource) -> Outcome {
        Outcome {
            status: self.status,
            ending: self.ending,
            usage,
            usage_source,
            attempts: self.attempts,
            upstream_error: self.upstream_error,
            code: self.code,
            first_byte_us: self.first_byte_us,
            latency_us: self.latency_us,
        }
    }
}

/// Charges what was used at the price and multiplier that were frozen when the call was admitted.
pub fn settle(
    held: Held,
    price: &Price,
    multiplier_ppm: u64,
    usage: Usage,
    source: UsageSource,
    ended: Ended,
) -> Result<Settlement, BooksError> {
    // A usage beyond every amount is an upstream's nonsense; the hold bounds what it can cost.
    let cost = ledger::rate(&price.rates(), &usage, multiplier_ppm).map_or(Nano::MAX, |rated| rated.total);
    held.settle(cost, ended.outcome(usage, source))
}

/// Nothing was delivered, so nothing is charged.
pub fn release(held: Held, reason: ReleaseReason, ended: Ended) -> Result<Settlement, BooksError> {
    let ticket = held.release(reason, ended.outcome(Usage::default(), UsageSource::None))?;
    Ok(Settlement { charged: Nano::ZERO, loss: Nano::ZERO, ticket })
}
