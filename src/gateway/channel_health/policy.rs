//! When and for how long channels rest.
//!
//! Promises: whatever an upstream asks for, a rest has a least length – of one that takes no more requests for now and says
//! for how long a second, doubled each time, of all others what the settings have –, and none is longer than the longest of
//! the settings and an hour.

use std::time::Duration;

use crate::config::Upstream;

use super::{NS_PER_MS, RestReason};

/// Longest rest that an upstream can ask for.
const ASKED_MS_MAX: u64 = 3_600_000;
/// Shortest first rest of an upstream that says itself for how long it takes no more requests: many say a second, and a
/// channel that may be the only one is not to be left alone for longer than that.
const LIMITED_MS_MIN: u64 = 1_000;

/// The settings.
#[derive(Clone, Copy, Debug)]
pub struct RestPolicy {
    /// Failures in a row.
    pub failures: u32,
    /// The first rest; each that follows without a success between is twice as long.
    pub first_ms: u64,
    pub max_ms: u64,
}

impl RestPolicy {
    pub fn from_config(upstream: &Upstream) -> Self {
        RestPolicy {
            failures: upstream.cool_down_failures,
            first_ms: upstream.cool_down_ms,
            max_ms: upstream.cool_down_ms_max,
        }
    }

    /// In nanoseconds, after so many rests in a row. What an upstream asks for makes a rest longer. One that takes no more
    /// requests for now is believed, and no less each time: one that always says "at once" rests as if it said nothing.
    pub(super) fn rest_ns(&self, reason: RestReason, rests: u32, asked: Option<Duration>) -> u64 {
        let asked_ms = asked.map(|asked| u64::try_from(asked.as_millis()).unwrap_or(u64::MAX));
        let doubled = |ms: u64| ms.saturating_mul(1_u64.checked_shl(rests.min(32)).unwrap_or(u64::MAX));
        let own_ms = match reason {
            // Somebody has to do something about it.
            RestReason::OutOfCredit | RestReason::AuthFailed | RestReason::ModelMissing => self.max_ms,
            RestReason::RateLimited if asked_ms.is_some() => doubled(LIMITED_MS_MIN).min(self.first_ms),
            _ => doubled(self.first_ms).min(self.max_ms),
        };
        let asked_ms = asked_ms.unwrap_or(0).min(ASKED_MS_MAX);
        own_ms.max(asked_ms).saturating_mul(NS_PER_MS)
    }
}
