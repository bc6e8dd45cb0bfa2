//! Which channel an admitted call goes to next, once one has failed it.
//!
//! Promises: no channel is tried twice, but once more where another of its credentials may do better; no more channels
//! than the operator allows, and no more retries than their share of the traffic; nothing is charged beyond what was
//! held for. Who is told to wait is told how long the channels really rest.

use smallvec::SmallVec;

use crate::catalogue::{Code, Refusal};
use crate::directory::Channel;
use crate::id::{ChannelId, KeyId, RequestId};

use super::attempt::Attempting;
use super::facts::{Attempt, Endpoint};
use super::ladder::{self, Caller};
use super::worker::Worker;

/// Attempts at one channel, each with another of its credentials, in one call.
const ATTEMPTS_OF_CHANNEL_MAX: usize = 2;
/// Whoever has to wait waits for as long at the least.
const PATIENCE_MS_MIN: u64 = 1_000;
/// No upstream keeps a caller waiting for longer.
const PATIENCE_MS_MAX: u64 = 3_600_000;
const NS_PER_MS: u64 = 1_000_000;

/// A call whose attempts so far have failed.
pub(super) struct Failing<'a> {
    pub request: RequestId,
    pub key: KeyId,
    pub model: &'a str,
    pub endpoint: Endpoint,
    pub tried: &'a [Attempt],
    /// Of the dearest group that may serve it: what its hold covers.
    pub multiplier_ppm_max: u64,
    /// Boot-clock time at which it arrived.
    pub arrived_ns: u64,
}

impl Failing<'_> {
    /// Another channel to try, if one is left and may be tried.
    pub fn next(&self, worker: &Worker) -> Option<Attempting> {
        let gateway = &worker.gateway;
        let channels = self.channels();
        let may_try = |channel| channels.contains(&channel) || channels.len() < gateway.attempts_max;
        let snapshot = gateway.app.directory.snapshot();
        let caller = Caller::of_key(&snapshot, self.key)?;
        let candidates = caller.candidates(&snapshot, snapshot.model(self.model)?);
        let number = u32::try_from(self.tried.len() + 1).unwrap_or(u32::MAX);
        let seed = ladder::seed(self.request, number);
        let mut of_no_use: SmallVec<[ChannelId; 4]> = SmallVec::new();
        loop {
            let can_serve = |channel: &Channel| {
                !of_no_use.contains(&channel.id) && may_try(channel.id) && !self.is_used_up(channel)
            };
            let next = candidates.choose(seed, can_serve)?;
            let channel = next.channel.id;
            let may = |credential| !self.has_tried(channel, credential);
            match Attempting::begin(worker, next, self.endpoint, self.arrived_ns, may) {
                Ok(mut next) if worker.retries.take() => {
                    // A multiplier that rose meanwhile is charged no higher than the hold covers.
                    next.multiplier_ppm = next.multiplier_ppm.min(self.multiplier_ppm_max);
                    return Some(next);
                }
                Ok(_) => return None,
                Err(_rest) => of_no_use.push(channel),
            }
        }
    }

    /// Those that were tried.
    fn channels(&self) -> SmallVec<[ChannelId; 4]> {
        let mut channels = SmallVec::new();
        for channel in self.tried.iter().filter_map(|attempt| attempt.channel) {
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        channels
    }

    /// Whether this call has nothing more to look for at a channel: only where a credential was refused or has reached its
    /// limit, another one may do better, and one alone is tried: where the first two are of no use, the third is hardly better.
    fn is_used_up(&self, channel: &Channel) -> bool {
        let mut tried = self.tried.iter().filter(|attempt| attempt.channel == Some(channel.id)).peekable();
        let is_refused = |fault: Option<Code>| {
            use Code::{UpstreamAuthFailed, UpstreamOutOfCredit, UpstreamRateLimited};
            matches!(fault, Some(UpstreamAuthFailed | UpstreamOutOfCredit | UpstreamRateLimited))
        };
        tried.peek().is_some()
            && (tried.clone().count() >= channel.credentials.len().min(ATTEMPTS_OF_CHANNEL_MAX)
                || !tried.all(|attempt| is_refused(attempt.fault)))
    }

    fn has_tried(&self, channel: ChannelId, credential: usize) -> bool {
        let number = u8::try_from(credential + 1).unwrap_or(u8::MAX);
        self.tried.iter().any(|attempt| attempt.channel == Some(channel) && attempt.credential == number)
    }
}

/// A refusal of a call that no channel answered, with how long its caller has to wait: until the first of the channels
/// that could serve it has rested, whatever an upstream asked for. Where none rests, what was asked for is all that is known.
pub(super) fn with_patience(
    mut refusal: Refusal,
    worker: &Worker,
    key: Option<KeyId>,
    model: &str,
) -> Refusal {
    let asked_ms = refusal.patience_ms().map(|ms| ms.clamp(PATIENCE_MS_MIN, PATIENCE_MS_MAX));
    refusal.retry_after_ms = None;
    if !refusal.code.retryable() {
        return refusal;
    }
    let rest_ms = key.and_then(|key| first_end_ms(worker, key, model));
    match rest_ms.map(|ms| ms.max(PATIENCE_MS_MIN)).or(asked_ms) {
        Some(wait_ms) => refusal.retry_after_ms(wait_ms),
        None => refusal,
    }
}

/// In how many milliseconds the first of the channels that could serve a call has rested; `None`: one can be used now.
fn first_end_ms(worker: &Worker, key: KeyId, model: &str) -> Option<u64> {
    let app = &worker.gateway.app;
    let (snapshot, now_ns) = (app.directory.snapshot(), app.clock.mono_ns());
    let candidates = Caller::of_key(&snapshot, key)?.candidates(&snapshot, snapshot.model(model)?);
    let mut first = None;
    for candidate in candidates.all() {
        let rest = app.channels.of(candidate.channel).rest(candidate.channel, model, now_ns)?;
        let left_ms = rest.left_ns.div_ceil(NS_PER_MS);
        first = Some(first.map_or(left_ms, |known: u64| known.min(left_ms)));
    }
    first
}
