//! When and for how long channels rest.
//!
//! Promises: no rest is shorter than the settings have it, whatever an upstream asks for, and none is longer than the
//! longest of the settings and an hour.

use std::time::Duration;

use crate::config::Upstream;

use super::{NS_PER_MS, RestReason};

/// Longest rest that an upstream can ask for.
const ASKED_MS_MAX: u64 = 3_600_000;

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

    /// In nanoseconds, after so many rests in a row. What an upstream asks for makes a rest longer; only that of one
    /// that takes no more requests for now does not grow where it says itself for how long.
    pub(super) fn rest_ns(&self, reason: RestReason, rests: u32, asked: Option<Duration>) -> u64 {
        let asked_ms = asked.map(|asked| u64::try_from(asked.as_millis()).unwrap_or(u64::MAX));
        let doubled = self.first_ms.saturating_mul(1_u64.checked_shl(rests.min(32)).unwrap_or(u64::MAX));
        let own_ms = match reason {
            // Somebody has to do something about it.
            RestReason::OutOfCredit | RestReason::AuthFailed | RestReason::ModelMissing => self.max_ms,
            RestReason::RateLimited if asked_ms.is_some() => self.first_ms,
            _ => doubled.min(self.max_ms),
        };
        let asked_ms = asked_ms.unwrap_or(0).min(ASKED_MS_MAX);
        own_ms.max(asked_ms).saturating_mul(NS_PER_MS)
    }
}
