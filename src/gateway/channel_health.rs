//! Which channels can be used now, learnt from the calls that are made through them; that a credential is refused, from
//! questions about tasks, too. A channel that fails rests for a
//! while – of one model, or with one of its credentials –, so that calls do not run into the same fault; and it is
//! given no more calls than it was set up for.
//!
//! Promises: in memory, of one process, and bounded by what the directory names; time comes from the caller; a channel
//! without trouble and without limits costs one look at a flag. A rest ends by itself, or when the channel's address or
//! credentials are changed; the first success behind it makes everything good.
//! Must never: keep a caller's or an upstream's text, or decide which channel is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use crate::catalogue::Code;
use crate::directory::Channel;
use crate::id::ChannelId;

use super::facts::ChannelReading;

mod policy;
mod reason;

pub use policy::RestPolicy;
pub use reason::RestReason;

const MINUTE_NS: u64 = 60_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
/// A place is free when a call ends, which nobody knows.
const PLACE_WAIT_NS: u64 = 1_000_000_000;
/// What waits to be told at the most.
const TOLD_MAX: usize = 256;

/// That a channel cannot be used, and for how much longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    pub reason: RestReason,
    pub left_ns: u64,
}

impl Rest {
    /// As it is noted with a decision.
    pub fn reading(self, channel: ChannelId, at_ms: i64) -> ChannelReading {
        let left_ms = i64::try_from(self.left_ns.div_ceil(NS_PER_MS)).unwrap_or(i64::MAX);
        ChannelReading { channel, reason: self.reason, until_ms: at_ms.saturating_add(left_ms) }
    }
}

/// The health of all channels. See the module.
pub struct ChannelHealth {
    policy: RestPolicy,
    channels: RwLock<HashMap<ChannelId, Arc<Health>>>,
    /// How many channels are in trouble.
    troubled: Arc<AtomicUsize>,
    told: Mutex<Vec<Told>>,
}

/// Something about a channel that an operator has to see to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub channel: ChannelId,
    pub reason: RestReason,
    /// Number of the credential, from 1.
    pub credential: usize,
    /// How long it rests; zero: it never does.
    pub rest_ns: u64,
}

impl ChannelHealth {
    pub fn new(policy: RestPolicy) -> Self {
        ChannelHealth {
            policy,
            channels: RwLock::default(),
            troubled: Arc::default(),
            told: Mutex::default(),
        }
    }

    /// The health of a channel as it is now. One whose address or credentials were changed begins anew.
    pub fn of(&self, channel: &Arc<Channel>) -> Arc<Health> {
        let known = self.channels.read().get(&channel.id).cloned();
        if let Some(health) = known {
            health.follow(channel);
            return health;
        }
        let fresh = || Arc::new(Health::new(channel, self.policy, Arc::clone(&self.troubled)));
        Arc::clone(self.channels.write().entry(channel.id).or_insert_with(fresh))
    }

    /// Whether no channel is in trouble.
    pub fn is_quiet(&self) -> bool {
        self.troubled.load(Ordering::Relaxed) == 0
    }

    /// Those of the channels that cannot take a call for this model now. `at_ms`: the time that `now_ns` is on the wall.
    pub fn resting<'c>(
        &self,
        channels: impl Iterator<Item = &'c Arc<Channel>>,
        model: &str,
        now_ns: u64,
        at_ms: i64,
    ) -> Vec<ChannelReading> {
        let reading = |channel: &Arc<Channel>| {
            let rest = self.of(channel).rest(channel, model, now_ns)?;
            Some(rest.reading(channel.id, at_ms))
        };
        channels.filter_map(reading).collect()
    }

    /// Notes that an operator has to see to a channel.
    pub fn tell(&self, told: Told) {
        let mut all = self.told.lock();
        if all.len() < TOLD_MAX {
            all.push(told);
        }
    }

    /// What is to be told.
    pub fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock())
    }
}

/// The health of one channel.
pub struct Health {
    policy: RestPolicy,
    /// Whether a look at `state` is worth it where no limit is set.
    in_trouble: AtomicBool,
    all_troubled: Arc<AtomicUsize>,
    answered: AtomicU64,
    failed: AtomicU64,
    /// Which credential is next.
    turn: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: u32,
    /// Until when the calls of the past fill the rate that the channel may have.
    filled_until_ns: u64,
    /// By the model as callers name it.
    models: HashMap<Box<str>, Trouble>,
    /// The same of each credential, where there are several: what an upstream limits, it limits by account.
    limited: HashMap<Box<str>, Vec<Trouble>>,
    credentials: Vec<Trouble>,
    last_failure: Option<(u64, Code)>,
    /// Address, proxy and sealed credentials that all of this was learnt with.
    base_url: Box<str>,
    proxy: Option<Box<str>>,
    sealed: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    /// In a row.
    failures: u32,
    /// In a row.
    rests: u32,
    until_ns: u64,
    reason: Option<RestReason>,
    is_told: bool,
}

impl Trouble {
    fn rest(&self, now_ns: u64) -> Option<Rest> {
        let left_ns = self.until_ns.checked_sub(now_ns).filter(|left| *left > 0)?;
        self.reason.map(|reason| Rest { reason, left_ns })
    }
}

/// A call's place among those of a channel that may have only so many at a time; given back when it is dropped.
pub struct Place(Option<Arc<Health>>);

impl Place {
    /// Of a channel that counts none, or given back already.
    pub const fn none() -> Self {
        Place(None)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(health) = &self.0 {
            let mut state = health.state.lock();
            state.running = state.running.saturating_sub(1);
        }
    }
}

/// What a failed attempt says of its channel.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    pub model: &'a str,
    /// Place of the credential among those of the channel.
    pub credential: usize,
    pub code: Code,
    pub retry_after: Option<Duration>,
}

/// For people: what is known of a channel.
#[derive(Clone, Debug)]
pub struct HealthView {
    pub running: u32,
    /// Since the process started.
    pub answered: u64,
    pub failed: u64,
    /// How long ago the last failure was, and its code.
    pub last_failure: Option<(u64, Code)>,
    pub troubles: Vec<TroubleView>,
}

/// Of one model, of one credential, or of a model with one credential.
#[derive(Clone, Debug)]
pub struct TroubleView {
    pub model: Option<Box<str>>,
    /// Its number, from 1.
    pub credential: Option<usize>,
    /// In a row.
    pub failures: u32,
    /// `None`: it is used.
    pub rest: Option<Rest>,
}

impl Health {
    fn new(channel: &Channel, policy: RestPolicy, all_troubled: Arc<AtomicUsize>) -> Self {
        let health = Health {
            policy,
            in_trouble: AtomicBool::new(false),
            all_troubled,
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            state: Mutex::default(),
        };
        health.follow(channel);
        health
    }

    /// Forgets what was learnt with another address or other credentials.
    fn follow(&self, channel: &Channel) {
        let mut state = self.state.lock();
        if state.is_of(channel) {
            return;
        }
        state.base_url.clone_from(&channel.base_url);
        state.proxy.clone_from(&channel.proxy);
        state.sealed.clone_from(&channel.credentials);
        state.models.clear();
        state.limited.clear();
        state.credentials.clear();
        state.credentials.resize(channel.credentials.len(), Trouble::default());
        self.settle_flag(&state);
    }

    /// Why the channel cannot take a call for this model now.
    pub fn rest(&self, channel: &Channel, model: &str, now_ns: u64) -> Option<Rest> {
        let is_limited = channel.concurrency.is_some() || channel.requests_per_minute.is_some();
        if !is_limited && !self.in_trouble.load(Ordering::Relaxed) {
            return None;
        }
        self.state.lock().rest(channel, model, now_ns)
    }

    /// Takes a place for a call, or says why there is none.
    pub fn begin(self: &Arc<Self>, channel: &Channel, model: &str, now_ns: u64) -> Result<Place, Rest> {
        let is_limited = channel.concurrency.is_some() || channel.requests_per_minute.is_some();
        if !is_limited && !self.in_trouble.load(Ordering::Relaxed) {
            return Ok(Place(None));
        }
        let mut state = self.state.lock();
        if let Some(rest) = state.rest(channel, model, now_ns) {
            return Err(rest);
        }
        if let Some(rate) = channel.requests_per_minute {
            state.filled_until_ns = state.filled_until_ns.max(now_ns) + interval_ns(rate);
        }
        if channel.concurrency.is_none() {
            return Ok(Place(None));
        }
        state.running += 1;
        Ok(Place(Some(Arc::clone(self))))
    }

    /// The credential whose turn it is for a model, of those that do not rest and that `may` be used.
    pub fn credential(
        &self,
        model: &str,
        count: usize,
        now_ns: u64,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if count <= 1 {
            return (count == 1 && may(0)).then_some(0);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let state = self.state.lock();
        let rests = |at: usize| state.rest_with(at, model, now_ns).is_some();
        (0..count).map(|step| (turn % count + step) % count).find(|at| may(*at) && !rests(*at))
    }

    /// Whether it is left out now.
    pub fn rests_with(&self, credential: usize, now_ns: u64) -> bool {
        let state = self.state.lock();
        state.credentials.get(credential).is_some_and(|known| known.rest(now_ns).is_some())
    }

    /// A call was answered. One that began before the channel's rest does not end it.
    pub fn answered(&self, model: &str, credential: usize, now_ns: u64) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if !self.in_trouble.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state.lock();
        if state.models.get(model).is_some_and(|known| known.rest(now_ns).is_none()) {
            state.models.remove(model);
        }
        if let Some(known) =
            state.credentials.get_mut(credential).filter(|known| known.rest(now_ns).is_none())
        {
            *known = Trouble::default();
        }
        state.no_longer_limited(model, credential, now_ns);
        self.settle_flag(&state);
    }

    /// An attempt failed. What an operator has to see to is told once, until the credential works again. `channel`: as
    /// it was when the attempt began; what failed with another address or other credentials says nothing of those that
    /// it has now.
    pub fn failed(&self, channel: &Channel, fault: &Fault<'_>, now_ns: u64) -> Option<Told> {
        let reason = RestReason::of(fault.code)?;
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        if !state.is_of(channel) {
            return None;
        }
        state.last_failure = Some((now_ns, fault.code));
        let count = channel.credentials.len();
        let known = match reason {
            _ if reason.is_of_credential() => state.credentials.get_mut(fault.credential)?,
            // Bounded by the models that the channel serves.
            _ if !channel.models.contains_key(fault.model) => return None,
            RestReason::RateLimited if count > 1 => {
                let all = state.limited.entry(fault.model.into());
                all.or_insert_with(|| vec![Trouble::default(); count]).get_mut(fault.credential)?
            }
            _ => state.models.entry(fault.model.into()).or_default(),
        };
        known.failures = known.failures.saturating_add(1);
        let counts = matches!(reason, RestReason::Errors | RestReason::Timeouts);
        let is_due = !counts || known.failures >= self.policy.failures;
        let mut rest_ns = 0;
        if channel.cools_down && is_due {
            rest_ns = self.policy.rest_ns(reason, known.rests, fault.retry_after);
            known.rests = known.rests.saturating_add(1);
            known.until_ns = known.until_ns.max(now_ns.saturating_add(rest_ns));
            known.reason = Some(reason);
        }
        let is_news = reason.is_of_credential() && !known.is_told;
        known.is_told |= is_news;
        self.settle_flag(&state);
        let credential = fault.credential + 1;
        is_news.then_some(Told { channel: channel.id, reason, credential, rest_ns })
    }

    /// Keeps the flag and the count of all channels as the state is.
    fn settle_flag(&self, state: &State) {
        let is_troubled = !state.models.is_empty()
            || !state.limited.is_empty()
            || state.credentials.iter().any(|known| known.failures > 0);
        let was = self.in_trouble.swap(is_troubled, Ordering::Relaxed);
        match (was, is_troubled) {
            (false, true) => drop(self.all_troubled.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.all_troubled.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// What is known of the channel.
    pub fn view(&self, now_ns: u64) -> HealthView {
        let state = self.state.lock();
        let view = |model: Option<&str>, credential: Option<usize>, known: &Trouble| TroubleView {
            model: model.map(Into::into),
            credential,
            failures: known.failures,
            rest: known.rest(now_ns),
        };
        let mut troubles: Vec<_> =
            state.models.iter().map(|(model, known)| view(Some(model), None, known)).collect();
        for (model, all) in &state.limited {
            let limited = all.iter().enumerate().filter(|(_, known)| known.failures > 0);
            troubles.extend(limited.map(|(at, known)| view(Some(model), Some(at + 1), known)));
        }
        troubles.sort_unstable_by(|one, other| {
            (&one.model, one.credential).cmp(&(&other.model, other.credential))
        });
        let credentials = state.credentials.iter().enumerate().filter(|(_, known)| known.failures > 0);
        troubles.extend(credentials.map(|(at, known)| view(None, Some(at + 1), known)));
        HealthView {
            running: state.running,
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            last_failure: state.last_failure.map(|(at_ns, code)| (now_ns.saturating_sub(at_ns), code)),
            troubles,
        }
    }
}

impl State {
    /// Whether this was learnt with the channel's address and credentials.
    fn is_of(&self, channel: &Channel) -> bool {
        let is_same = self.base_url == channel.base_url && self.proxy == channel.proxy;
        is_same && self.sealed == channel.credentials
    }

    /// Why a credential cannot be used for a model now: the longer one of its rests.
    fn rest_with(&self, credential: usize, model: &str, now_ns: u64) -> Option<Rest> {
        let limited = self.limited.get(model).and_then(|all| all.get(credential));
        let known = [self.credentials.get(credential), limited];
        known.into_iter().flatten().filter_map(|known| known.rest(now_ns)).max_by_key(|rest| rest.left_ns)
    }

    /// A call with it was answered; one from before its rest says nothing.
    fn no_longer_limited(&mut self, model: &str, credential: usize, now_ns: u64) {
        let Some(all) = self.limited.get_mut(model) else { return };
        if let Some(known) = all.get_mut(credential).filter(|known| known.rest(now_ns).is_none()) {
            *known = Trouble::default();
        }
        if all.iter().all(|known| known.failures == 0) {
            self.limited.remove(model);
        }
    }

    fn rest(&self, channel: &Channel, model: &str, now_ns: u64) -> Option<Rest> {
        if let Some(rest) = self.models.get(model).and_then(|known| known.rest(now_ns)) {
            return Some(rest);
        }
        // It rests for all credentials until the first of them works again.
        let is_well = self.limited.is_empty() && self.credentials.iter().all(|known| known.failures == 0);
        let resting = (0..self.credentials.len()).map(|at| self.rest_with(at, model, now_ns));
        let all: Option<Vec<Rest>> = if is_well { None } else { resting.collect() };
        if let Some(first) = all.and_then(|all| all.into_iter().min_by_key(|rest| rest.left_ns)) {
            return Some(first);
        }
        if channel.concurrency.is_some_and(|limit| self.running >= limit) {
            return Some(Rest { reason: RestReason::Busy, left_ns: PLACE_WAIT_NS });
        }
        let rate = channel.requests_per_minute?;
        // As many as the rate allows in a minute may come at once.
        let burst_ns = interval_ns(rate).saturating_mul(u64::from(rate.saturating_sub(1)));
        let left_ns = self.filled_until_ns.saturating_sub(now_ns).saturating_sub(burst_ns);
        (left_ns > 0).then_some(Rest { reason: RestReason::RateReached, left_ns })
    }
}

fn interval_ns(per_minute: u32) -> u64 {
    MINUTE_NS / u64::from(per_minute.max(1))
}

#[cfg(test)]
mod tests;
