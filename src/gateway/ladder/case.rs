//! A call with everything that the directory says about it, looked up once for all rungs.

use std::sync::Arc;

use jiff::Timestamp;
use ledger::Nano;

use crate::catalogue::Refusal;
use crate::directory::snapshot::AccountEntry;
use crate::directory::{Group, Key, Member, Metric, ModelEntry, Price, Project, Snapshot, decimal};
use crate::gateway::facts::{CallBody, Endpoint, Facts, Readings};
use crate::id::{GroupId, KeyId, RequestId};
use crate::plant::planted;

use super::candidates::{Candidate, Candidates};
use super::purse::{self, Measured, Purses};
use super::sizing::{self, Sizing};
use super::units;

/// How much is held for a call whose caller set no output cap.
#[derive(Clone, Copy, Debug)]
pub struct HoldPolicy {
    /// Share of the usable money that one call may hold, in millionths.
    pub output_share_ppm: u64,
    /// Output tokens that a call gets beyond its share, as long as the money lasts.
    pub output_tokens_floor: u32,
    /// A call that cannot be given so many output tokens is refused.
    pub output_tokens_min: u32,
}

impl HoldPolicy {
    /// For rungs that never look at money.
    pub const NONE: HoldPolicy =
        HoldPolicy { output_share_ppm: 0, output_tokens_floor: 0, output_tokens_min: 0 };
}

/// A known key with its account and what stands beside them.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub key: &'a Arc<Key>,
    pub account: &'a AccountEntry,
    pub project: Option<&'a Arc<Project>>,
    pub member: Option<&'a Arc<Member>>,
    pub group: Option<&'a Arc<Group>>,
}

/// See the module. A part that could not be looked up is `None`; the rung it belongs to refuses.
pub struct Case<'a> {
    pub snapshot: &'a Snapshot,
    pub facts: &'a Facts,
    pub readings: &'a Readings,
    pub caller: Option<Caller<'a>>,
    pub purses: Purses<'a>,
    pub call: Option<&'a CallBody>,
    pub model: Option<&'a ModelEntry>,
    pub price: Option<&'a Arc<Price>>,
    /// Of the dearest group that may serve the call: what its hold covers.
    pub multiplier_ppm: u64,
    /// `None` while the caller or the model is not known.
    pub candidates: Option<Candidates<'a>>,
    /// Where the call is sent to first; `None` too where all of them rest.
    pub chosen: Option<Candidate<'a>>,
    /// `None` while the model or its price is not known.
    pub sizing: Option<Result<Sizing, Refusal>>,
}

impl<'a> Case<'a> {
    pub fn new(
        snapshot: &'a Snapshot,
        facts: &'a Facts,
        readings: &'a Readings,
        policy: &HoldPolicy,
    ) -> Self {
        let caller = Caller::of(snapshot, facts);
        let call = facts.body.passed();
        let model = call.and_then(|call| snapshot.model(&call.model));
        let endpoint = facts.address.passed().copied().unwrap_or(Endpoint::ChatCompletions);
        let price = model.and_then(|model| model.price_at(facts.at_ms));
        let price = price.filter(|price| units::covers(price, endpoint));
        let candidates = caller.zip(model).map(|(caller, model)| caller.candidates(snapshot, model));
        let chosen = candidates
            .and_then(|all| all.choose(seed(facts.request, 1), |channel| !readings.rests(channel.id)));
        let own_ppm =
            caller.and_then(|caller| caller.group).map_or(decimal::PPM, |group| group.multiplier_ppm);
        let multiplier_ppm = candidates.and_then(|all| all.dearest_ppm()).unwrap_or(own_ppm);
        let mut case = Case {
            snapshot,
            facts,
            readings,
            caller,
            purses: Purses::new(),
            call,
            model,
            price,
            multiplier_ppm,
            candidates,
            chosen,
            sizing: None,
        };
        // Collected where they stay: there is room for the deepest tree, which is not to be moved about.
        if let Some(caller) = caller {
            purse::collect(snapshot, caller, &mut case.purses);
        }
        case.sizing = sizing::size(&case, policy);
        case
    }

    /// Where the call goes.
    pub fn endpoint(&self) -> Endpoint {
        self.facts.address.passed().copied().unwrap_or(Endpoint::ChatCompletions)
    }

    /// Money that the account can still spend: what is available and the declared overdraft.
    pub fn usable_balance(&self) -> Nano {
        if planted!(OverdraftIgnored) {
            return self.readings.available;
        }
        let overdraft = self.caller.map_or(Nano::ZERO, |caller| caller.account.account.overdraft);
        self.readings.available.saturating_add(overdraft)
    }

    /// The limits of this metric that hold for the call, with what is used of them.
    pub fn limits(&self, metric: Metric) -> impl Iterator<Item = Measured<'_>> {
        let at = Timestamp::from_millisecond(self.facts.at_ms).unwrap_or(Timestamp::MAX);
        let model = self.model.map(|entry| &*entry.model);
        self.readings.counters.iter().filter_map(move |reading| {
            if reading.counter.metric != metric.counted() {
                return None;
            }
            let purse = self.purses.iter().find(|purse| purse.is_counted_in(&reading.counter))?;
            let limit = purse.limit(&reading.counter, model, at)?;
            Some(Measured { purse, limit, reading })
        })
    }

    /// Whether an image or a video is made in the background.
    pub fn is_task(&self) -> bool {
        self.endpoint().is_task()
    }

    /// The most that the call can cost; `None` while that is not known.
    pub fn hold(&self) -> Option<Nano> {
        self.sizing.as_ref()?.as_ref().ok().map(|sizing| sizing.hold)
    }

    /// Tokens that the call can come to at the most.
    pub fn tokens(&self) -> u64 {
        match (&self.sizing, self.call) {
            (Some(Ok(sizing)), Some(call)) => sizing.tokens(call),
            _ => 0,
        }
    }

    /// What every purse together leaves: the least of the balance and of each limit.
    pub fn usable(&self) -> Nano {
        let left = self.limits(Metric::Spend).map(|measured| Nano(measured.left()));
        left.fold(self.usable_balance(), std::cmp::Ord::min)
    }
}

impl<'a> Caller<'a> {
    pub fn of(snapshot: &'a Snapshot, facts: &Facts) -> Option<Self> {
        Self::of_key(snapshot, facts.credential.passed()?.key)
    }

    pub fn of_key(snapshot: &'a Snapshot, key: KeyId) -> Option<Self> {
        let key = snapshot.key(key)?;
        Some(Caller {
            key,
            account: snapshot.account(key.account)?,
            project: key.project.and_then(|id| snapshot.project(id)),
            member: key.member.and_then(|id| snapshot.member(id)),
            group: group_of(snapshot, key).and_then(|id| snapshot.group(id)),
        })
    }

    /// The channels that could serve the model to it.
    pub fn candidates(&self, snapshot: &'a Snapshot, model: &'a ModelEntry) -> Candidates<'a> {
        Candidates::new(snapshot, model, self.key, self.group.map(|group| &**group))
    }
}

/// By what the choice among equal channels falls: the random part of the request's id, another for each attempt.
pub fn seed(request: RequestId, attempt: u32) -> u64 {
    (request.raw() as u64).rotate_left(attempt.wrapping_mul(11))
}

fn group_of(snapshot: &Snapshot, key: &Key) -> Option<GroupId> {
    if planted!(ForeignGroup) {
        let other = snapshot.keys().find(|other| other.account == key.account && other.id != key.id);
        return other.and_then(|other| other.group);
    }
    key.group
}
