//! The tries of a call at channels, as they are shown: whose call it was sees how many there were, how each ended and
//! at which multiplier; where they went to, and what that costs the platform, is for operators (S31).

use serde::Serialize;

use crate::directory::decimal;
use crate::gateway::facts::{Attempt, Outcome, UsageSource};

use super::why::Audience;

/// One attempt. What is `None` is not known, or not for this audience.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    /// From 1, in their order.
    pub number: usize,
    /// The call was answered, and charged, by this one. No other was charged.
    pub served: bool,
    /// Whether the channel failed.
    pub failed: bool,
    /// Of the group through which the channel was reached; `None` of calls from before it was kept.
    pub multiplier: Option<String>,
    /// Microseconds from the arrival of the request.
    pub started_us: u64,
    pub duration_us: u64,
    pub channel: Option<String>,
    /// Which of the channel's credentials was used.
    pub credential: Option<u8>,
    pub status: Option<u16>,
    pub upstream_request_id: Option<String>,
    /// What was wrong, as a code of the catalogue.
    pub fault: Option<&'static str>,
    /// What the upstream is expected to bill.
    pub cost: Option<String>,
    /// How that is known: nothing, upstream, counted or estimated.
    pub cost_basis: Option<&'static str>,
}

/// The attempts of a call that has ended.
pub fn of(outcome: &Outcome, audience: Audience) -> Vec<AttemptView> {
    let last = outcome.attempts.len();
    let was_charged = outcome.usage_source != UsageSource::None;
    let view =
        |(at, attempt)| AttemptView { served: was_charged && at + 1 == last, ..view(at, attempt, audience) };
    outcome.attempts.iter().enumerate().map(view).collect()
}

fn view(at: usize, attempt: &Attempt, audience: Audience) -> AttemptView {
    let operator = audience == Audience::Operator;
    let is_known = attempt.channel.is_some();
    AttemptView {
        number: at + 1,
        served: false,
        failed: attempt.fault.is_some(),
        multiplier: is_known.then(|| decimal::multiplier_text(attempt.multiplier_ppm)),
        started_us: attempt.started_us,
        duration_us: attempt.duration_us,
        channel: attempt.channel.filter(|_| operator).map(|channel| channel.to_string()),
        credential: (operator && is_known).then_some(attempt.credential),
        status: attempt.status.filter(|_| operator),
        upstream_request_id: attempt.upstream_request.as_deref().filter(|_| operator).map(ToOwned::to_owned),
        fault: attempt.fault.filter(|_| operator).map(|code| code.as_str()),
        cost: attempt.cost.filter(|_| operator).map(|cost| cost.to_string()),
        cost_basis: operator.then(|| attempt.cost_basis.as_str()),
    }
}
