//! A call with everything that the directory says about it, looked up once for all rungs.

use std::sync::Arc;

use ledger::{CounterKey, LayerHold, Nano, WindowInstance, WindowKind};
use smallvec::SmallVec;

use crate::catalogue::Refusal;
use crate::directory::documents::{Limit, Window};
use crate::directory::snapshot::AccountEntry;
use crate::directory::{Channel, Key, ModelEntry, Price, Snapshot, decimal};

use super::sizing::{self, Sizing};
use crate::gateway::facts::{CallBody, CounterReading, Facts, LAYERS_INLINE, Readings};

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

/// One counter that a call is held in, and the limit that it is held against.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    pub counter: CounterKey,
    pub window: WindowInstance,
    pub limit: Option<Limit>,
}

impl Layer {
    /// The layer as a hold of this amount counts in it.
    pub fn held(&self, amount: Nano) -> LayerHold {
        let limit = self.limit.map(|limit| limit.value.0);
        LayerHold { counter: self.counter, window: self.window, limit, amount: amount.0 }
    }
}

/// A known key with its account.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub key: &'a Arc<Key>,
    pub account: &'a AccountEntry,
}

/// See the module. A part that could not be looked up is `None`; the rung it belongs to refuses.
pub struct Case<'a> {
    pub snapshot: &'a Snapshot,
    pub facts: &'a Facts,
    pub readings: &'a Readings,
    pub caller: Option<Caller<'a>>,
    pub call: Option<&'a CallBody>,
    pub model: Option<&'a ModelEntry>,
    pub price: Option<&'a Arc<Price>>,
    pub multiplier_ppm: u64,
    pub channel: Option<&'a Arc<Channel>>,
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
        let price = model.and_then(|model| model.price_at(facts.at_ms));
        let group = caller.and_then(|caller| caller.key.group);
        let multiplier_ppm =
            group.and_then(|id| snapshot.group(id)).map_or(decimal::PPM, |group| group.multiplier_ppm);
        let channel = caller
            .zip(model)
            .and_then(|(caller, model)| model.channels_for(caller.key.environment, group).next());
        let mut case = Case {
            snapshot,
            facts,
            readings,
            caller,
            call,
            model,
            price,
            multiplier_ppm,
            channel,
            sizing: None,
        };
        case.sizing = sizing::size(&case, policy);
        case
    }

    /// Money that the account can still spend: what is available and the declared overdraft.
    pub fn usable_balance(&self) -> Nano {
        let overdraft = self.caller.map_or(Nano::ZERO, |caller| caller.account.account.overdraft);
        self.readings.available.saturating_add(overdraft)
    }

    /// The spend limits of the call with what is used of them.
    pub fn limits(&self) -> impl Iterator<Item = (&CounterReading, Limit)> {
        self.readings.counters.iter().filter_map(|reading| Some((reading, self.limit_of(reading)?)))
    }

    /// What every purse together leaves: the least of the balance and of each limit.
    pub fn usable(&self) -> Nano {
        let left = |(reading, limit): (&CounterReading, Limit)| {
            Nano(limit.value.0.saturating_sub(reading.used).saturating_sub(reading.held))
        };
        self.limits().map(left).fold(self.usable_balance(), std::cmp::Ord::min)
    }

    fn limit_of(&self, reading: &CounterReading) -> Option<Limit> {
        let key = self.caller?.key;
        key.limits.iter().find(|limit| window_kind(limit.window) == reading.counter.window).copied()
    }
}

impl<'a> Caller<'a> {
    pub fn of(snapshot: &'a Snapshot, facts: &Facts) -> Option<Self> {
        let credential = facts.credential.passed()?;
        Some(Caller { key: snapshot.key(credential.key)?, account: snapshot.account(credential.account)? })
    }
}

/// The counters that a call of this key is held in. Spend per day, month and in total is always counted,
/// so that a limit that is set later counts what was spent before it.
pub fn layers(caller: Caller<'_>, at_ms: i64) -> SmallVec<[Layer; LAYERS_INLINE]> {
    let at = ledger::Timestamp(at_ms);
    [Window::Day, Window::Month, Window::Total]
        .into_iter()
        .map(|window| {
            let kind = window_kind(window);
            let counter = CounterKey {
                layer: ledger::Layer::Key,
                subject: caller.key.id.raw(),
                model: 0,
                metric: ledger::Metric::Spend,
                window: kind,
            };
            let limit = caller.key.limits.iter().find(|limit| limit.window == window).copied();
            Layer { counter, window: kind.instance(at, &caller.account.zone), limit }
        })
        .collect()
}

pub fn window_kind(window: Window) -> WindowKind {
    match window {
        Window::Day => WindowKind::Day,
        Window::Month => WindowKind::Month,
        Window::Total => WindowKind::Total,
    }
}
