//! Which channel an admitted call goes to next, once one has failed it.
//!
//! Promises: no channel is tried twice, but where another of its credentials may do better; no more channels than the
//! operator allows, and no more retries than their share of the traffic; nothing is charged beyond what was held for.

use smallvec::SmallVec;

use crate::catalogue::Code;
use crate::directory::Channel;
use crate::id::{ChannelId, KeyId, RequestId};

use super::attempt::Attempting;
use super::facts::{Attempt, Endpoint};
use super::ladder::{self, Caller};
use super::worker::Worker;

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
        if self.tried.len() >= gateway.attempts_max {
            return None;
        }
        let snapshot = gateway.app.directory.snapshot();
        let caller = Caller::of_key(&snapshot, self.key)?;
        let candidates = caller.candidates(&snapshot, snapshot.model(self.model)?);
        let number = u32::try_from(self.tried.len() + 1).unwrap_or(u32::MAX);
        let seed = ladder::seed(self.request, number);
        let mut of_no_use: SmallVec<[ChannelId; 4]> = SmallVec::new();
        loop {
            let can_serve = |channel: &Channel| !of_no_use.contains(&channel.id) && !self.is_used_up(channel);
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

    /// Whether this call has nothing more to look for at a channel: only where a credential was refused, another one
    /// may do better.
    fn is_used_up(&self, channel: &Channel) -> bool {
        let mut tried = self.tried.iter().filter(|attempt| attempt.channel == Some(channel.id)).peekable();
        let is_refused =
            |fault: Option<Code>| matches!(fault, Some(Code::UpstreamAuthFailed | Code::UpstreamOutOfCredit));
        tried.peek().is_some()
            && (tried.clone().count() >= channel.credentials.len()
                || !tried.all(|attempt| is_refused(attempt.fault)))
    }

    fn has_tried(&self, channel: ChannelId, credential: usize) -> bool {
        let number = u8::try_from(credential + 1).unwrap_or(u8::MAX);
        self.tried.iter().any(|attempt| attempt.channel == Some(channel) && attempt.credential == number)
    }
}
