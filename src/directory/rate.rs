//! Limits on how fast a key may be used: they hold from moment to moment and are never used up.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::error::FieldError;
use super::limit::Origin;
use super::schedule::Schedule;

const VALUE_MAX: u64 = 1_000_000_000_000;
const RATES_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub metric: RateMetric,
    /// From 1; the absence of a limit means unlimited.
    pub value: u64,
    pub origin: Origin,
    /// When the limit holds; unset: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<Schedule>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateMetric {
    /// QPS. As many as come within a second may come at once.
    RequestsPerSecond,
    /// TPM: input and output together; a running call counts with the most that it can be.
    TokensPerMinute,
    /// Calls at the same time; a call whose caller has left counts until its answer has ended.
    Concurrency,
}

impl RateMetric {
    pub const fn as_str(self) -> &'static str {
        match self {
            RateMetric::RequestsPerSecond => "requests_per_second",
            RateMetric::TokensPerMinute => "tokens_per_minute",
            RateMetric::Concurrency => "concurrency",
        }
    }
}

/// The limits that hold at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub requests_per_second: Option<u64>,
    pub tokens_per_minute: Option<u64>,
    pub concurrency: Option<u64>,
}

impl Rates {
    /// `None` if no limit holds.
    pub fn at(limits: &[RateLimit], at: Timestamp, zone: &TimeZone) -> Option<Self> {
        let mut rates = Rates::default();
        for limit in limits.iter().filter(|limit| limit.is_in_force(at, zone)) {
            let tightest = match limit.metric {
                RateMetric::RequestsPerSecond => &mut rates.requests_per_second,
                RateMetric::TokensPerMinute => &mut rates.tokens_per_minute,
                RateMetric::Concurrency => &mut rates.concurrency,
            };
            *tightest = Some(tightest.map_or(limit.value, |known| known.min(limit.value)));
        }
        (rates != Rates::default()).then_some(rates)
    }
}

impl RateLimit {
    pub fn is_in_force(&self, at: Timestamp, zone: &TimeZone) -> bool {
        self.schedule.as_ref().is_none_or(|schedule| schedule.is_open(at, zone))
    }
}

pub(super) fn check(limits: &[RateLimit]) -> Result<(), FieldError> {
    if limits.len() > RATES_MAX {
        return Err(FieldError::new("rates", "are more than 32"));
    }
    for (at, limit) in limits.iter().enumerate() {
        let field = |name: &str| format!("rates[{at}].{name}");
        if limit.value == 0 {
            let reason =
                "must be at least 1: a rate of 0 would have callers retry for ever; disable the key instead";
            return Err(FieldError::new(field("value"), reason));
        }
        if limit.value > VALUE_MAX {
            return Err(FieldError::new(field("value"), "must not be more than 1,000,000,000,000"));
        }
        if let Some(schedule) = &limit.schedule {
            schedule.check(&field("schedule"))?;
        }
        let same = |other: &RateLimit| {
            (other.metric, &other.schedule, other.origin) == (limit.metric, &limit.schedule, limit.origin)
        };
        if limits.iter().take(at).any(same) {
            return Err(FieldError::new(field("metric"), "has a limit already"));
        }
    }
    Ok(())
}
