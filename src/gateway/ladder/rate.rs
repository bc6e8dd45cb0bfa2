//! Rung 9: the key is not used too fast. The one rung that waiting helps with.

use ledger::Nano;

use crate::catalogue::{Code, LimitView, Refusal, Value};
use crate::directory::{Metric, RateMetric};
use crate::gateway::facts::RateReading;

use super::case::Case;

const SECOND_NS: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
/// A place is free when a call ends, which nobody knows.
const PLACE_WAIT_MS: u64 = 1_000;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(reading) = &case.readings.rate else { return Ok(()) };
    requests(case, reading)?;
    tokens(case, reading)?;
    concurrency(case, reading)
}

pub fn figures(case: &Case<'_>) -> Vec<LimitView> {
    let Some(reading) = &case.readings.rate else { return Vec::new() };
    let metrics = [RateMetric::RequestsPerSecond, RateMetric::TokensPerMinute, RateMetric::Concurrency];
    metrics.into_iter().filter_map(|metric| view(case, reading, metric)).collect()
}

fn requests(case: &Case<'_>, reading: &RateReading) -> Result<(), Refusal> {
    let (Some(rate), wait_ns @ 1..) = (reading.limits.requests_per_second, reading.request_wait_ns()) else {
        return Ok(());
    };
    let allowed = (&*format!("{rate} per second"), &*format!("每秒 {rate} 次"));
    Err(refusal(case, reading, RateMetric::RequestsPerSecond, allowed.into(), wait_ns.div_ceil(NS_PER_MS)))
}

fn tokens(case: &Case<'_>, reading: &RateReading) -> Result<(), Refusal> {
    let Some(limit) = reading.limits.tokens_per_minute else { return Ok(()) };
    let beyond = reading.tokens.saturating_add(case.tokens()).saturating_sub(limit);
    if beyond == 0 {
        return Ok(());
    }
    // What is beyond leaks away at the limit's rate.
    let wait_ms = u128::from(beyond) * 60_000 / u128::from(limit.max(1)) + 1;
    let wait_ms = u64::try_from(wait_ms).unwrap_or(u64::MAX);
    Err(refusal(case, reading, RateMetric::TokensPerMinute, limit.into(), wait_ms))
}

fn concurrency(case: &Case<'_>, reading: &RateReading) -> Result<(), Refusal> {
    match reading.limits.concurrency {
        Some(limit) if reading.running >= limit => {
            Err(refusal(case, reading, RateMetric::Concurrency, limit.into(), PLACE_WAIT_MS))
        }
        _ => Ok(()),
    }
}

fn refusal(
    case: &Case<'_>,
    reading: &RateReading,
    metric: RateMetric,
    allowed: Value,
    wait_ms: u64,
) -> Refusal {
    let code = match metric {
        RateMetric::RequestsPerSecond => Code::RateLimitRequests,
        RateMetric::TokensPerMinute => Code::RateLimitTokens,
        RateMetric::Concurrency => Code::ConcurrencyLimit,
    };
    let mut refusal = Refusal::new(code).param("allowed", allowed).retry_after_ms(wait_ms);
    refusal.limit = view(case, reading, metric).map(Box::new);
    refusal
}

/// Counts as decimals, like amounts.
fn view(case: &Case<'_>, reading: &RateReading, metric: RateMetric) -> Option<LimitView> {
    let decimal = |count: u64| Metric::Calls.value(i64::try_from(count).unwrap_or(i64::MAX));
    let (limit, window, used, needed) = match metric {
        RateMetric::RequestsPerSecond => {
            (reading.limits.requests_per_second?, Some("second"), reading.requests_used(), 1)
        }
        RateMetric::TokensPerMinute => {
            (reading.limits.tokens_per_minute?, Some("minute"), reading.tokens, case.tokens())
        }
        RateMetric::Concurrency => (reading.limits.concurrency?, None, reading.running, 1),
    };
    let key = case.caller?.key;
    let origin = key.rates.iter().find(|known| known.metric == metric && known.value == limit);
    Some(LimitView {
        scope: "key".into(),
        id: Some(key.id.to_string()),
        window: window.map(Into::into),
        limit: Some(decimal(limit)),
        used: Some(decimal(used)),
        held: Some(Nano::ZERO),
        needed: Some(decimal(needed)),
        origin: origin.map(|limit| limit.origin.as_str().into()),
        ..LimitView::default()
    })
}

impl RateReading {
    /// How long a request must wait; 0: it may come. As many as the rate allows in a second may come at once.
    pub fn request_wait_ns(&self) -> u64 {
        let Some(rate) = self.limits.requests_per_second else { return 0 };
        self.ahead_ns.saturating_sub(burst_ns(rate))
    }

    /// Requests of the last second, as GCRA counts them.
    pub fn requests_used(&self) -> u64 {
        let Some(rate) = self.limits.requests_per_second else { return 0 };
        self.ahead_ns.div_ceil(interval_ns(rate)).min(rate)
    }
}

const fn interval_ns(rate: u64) -> u64 {
    let rate = if rate == 0 { 1 } else { rate };
    let interval = SECOND_NS / rate;
    if interval == 0 { 1 } else { interval }
}

/// How far ahead of an even flow requests may be.
const fn burst_ns(rate: u64) -> u64 {
    interval_ns(rate).saturating_mul(rate.saturating_sub(1))
}
