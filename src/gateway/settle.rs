//! The end of an admitted call: rate what was used, settle the hold, say when it is on disk.

use ledger::{Nano, ReleaseReason, Usage};

use crate::books::{BooksError, Held, Settlement};
use crate::catalogue::Code;
use crate::directory::Price;

use super::facts::{Attempts, Ending, Outcome, UsageSource};
use super::meter::Metered;

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
    let rated = ledger::rate(&price.rates_at(usage.row), &usage, multiplier_ppm);
    held.settle(rated.map_or(Nano::MAX, |rated| rated.total), ended.outcome(usage, source))
}

/// What the price asks something for: the usage with its row of the table of units, and who counted it. What was only
/// counted here, for a price that does not ask for it, is left out.
pub fn sold(price: &Price, metered: &Metered) -> (Usage, UsageSource) {
    let mut usage = metered.usage;
    let Some(unit) = metered.unit() else { return (usage, metered.tokens_source) };
    if !price.sells(unit) {
        usage.set_units(unit, 0);
        return (usage, metered.tokens_source);
    }
    usage.row = match price.row(unit, metered.variant()) {
        // What was made has no row of its own: it is charged as what was held for it.
        0 => price.dearest_row(unit, metered.asked()),
        row => row,
    };
    if !price.sells_tokens() && metered.tokens_source != UsageSource::Upstream {
        usage.tokens = Usage::default().tokens;
        return (usage, metered.units_source);
    }
    let worse = std::cmp::max_by_key(metered.tokens_source, metered.units_source, |source| *source as u8);
    (usage, worse)
}

/// Nothing was delivered, so nothing is charged.
pub fn release(held: Held, reason: ReleaseReason, ended: Ended) -> Result<Settlement, BooksError> {
    let ticket = held.release(reason, ended.outcome(Usage::default(), UsageSource::None))?;
    Ok(Settlement { charged: Nano::ZERO, loss: Nano::ZERO, ticket })
}
