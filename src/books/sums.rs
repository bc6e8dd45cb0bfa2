//! Daily sums of what calls cost their accounts, and of what they bring beside what their attempts cost the platform.
//!
//! Promises: a call counts once, when it ends, and each refund of its charge once; what all sums say of a time is what the
//! ledger's effects of its calls say. A cost that nobody knows is counted and never taken for zero.

use hashbrown::HashMap;
use ledger::{
    AccountId, CounterKey, Effect, Held, HeldLayer, HoldId, Layer, Measure, Metric, Refunded, Timestamp,
    TokenClass, Unit, WindowKind, total,
};

use crate::gateway::facts::{CallRecord, CostBasis, Ending, Outcome};
use crate::id::ChannelId;
use crate::store::{CostKey, CostRow, CostSums, MarginKey, MarginRow, MarginSums};

use super::encoding;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// What was called: the part of a sum's key that the ledger does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    pub model: Box<str>,
    pub endpoint: u8,
    /// Number of the measure that was sold.
    unit: u8,
    /// The channel that served it, or was to.
    channel: u64,
    /// Whether anybody knows what the attempt that served it costs.
    has_cost: bool,
}

impl Called {
    pub fn of(call: &CallRecord) -> Self {
        let facts = &call.decided.facts;
        let outcome = call.outcome.as_deref();
        let served = outcome.and_then(Outcome::served);
        Called {
            model: facts.body.passed().map(|body| body.model.clone()).unwrap_or_default(),
            endpoint: facts.address.passed().map_or(0, |endpoint| *endpoint as u8),
            unit: outcome.and_then(|outcome| Measure::of(&outcome.usage)).map_or(0, Measure::number),
            channel: channel(call, served.and_then(|served| served.channel)),
            has_cost: served.is_some_and(|served| served.cost.is_some()),
        }
    }
}

/// Of an attempt; where it is not known, that which the call was admitted to.
fn channel(call: &CallRecord, attempted: Option<ChannelId>) -> u64 {
    let admitted = call.decided.admitted.map(|admitted| admitted.channel);
    attempted.or(admitted).map_or(0, ChannelId::raw)
}

/// Sums that wait to be written.
#[derive(Default)]
pub struct Sums {
    costs: HashMap<CostKey, CostSums>,
    margins: HashMap<MarginKey, MarginSums>,
}

impl Sums {
    pub fn take(&mut self) -> (Vec<CostRow>, Vec<MarginRow>) {
        let costs = self.costs.drain().map(|(key, sums)| CostRow { key, sums });
        let margins = self.margins.drain().map(|(key, sums)| MarginRow { key, sums });
        (costs.collect(), margins.collect())
    }

    /// A hold ended: `effect` is its settlement or its release, `record` all that was written together with it.
    pub fn ended(&mut self, effect: &Effect, held: &Held, call: Option<&CallRecord>, record: &[Effect]) {
        let mut sums = CostSums { calls: 1, ..CostSums::default() };
        if let Effect::Settled(settled) = effect {
            sums.charged = settled.charged().0;
        }
        if let Some(outcome) = call.and_then(|call| call.outcome.as_deref()) {
            let count = |used: u64| i64::try_from(used).unwrap_or(i64::MAX);
            sums.tokens = TokenClass::ALL.map(|class| count(outcome.usage.get(class)));
            sums.units = Unit::ALL.map(|unit| count(outcome.usage.units(unit)));
        }
        let called = call.map(Called::of).unwrap_or_default();
        let charged = matches!(effect, Effect::Settled(_)).then_some(sums.charged);
        self.margin(held, charged, call, &called, record);
        self.cost(cost_key(held.account, &held.layers, held.at, called), sums);
    }

    /// A part of a charge was given back.
    pub fn refunded(&mut self, refund: &Refunded, called: Option<Called>) {
        let refunded = total(&refund.credits).0;
        let is_of_unknown_cost = called.as_ref().is_some_and(|called| !called.has_cost);
        let called = called.unwrap_or_default();
        let margin = MarginSums {
            refunded,
            unknown_net: if is_of_unknown_cost { refunded.saturating_neg() } else { 0 },
            ..MarginSums::default()
        };
        self.add_margin(refund.account, refund.hold, (called.channel, &called.model), margin);
        let sums = CostSums { refunds: 1, refunded, ..CostSums::default() };
        self.cost(cost_key(refund.account, &refund.layers, refund.at, called), sums);
    }

    fn cost(&mut self, key: CostKey, sums: CostSums) {
        self.costs.entry(key).or_default().add(&sums);
    }

    /// What a call brought, and what each of its attempts costs. `charged`: `None` if nothing was sold.
    fn margin(
        &mut self,
        held: &Held,
        charged: Option<i64>,
        call: Option<&CallRecord>,
        called: &Called,
        record: &[Effect],
    ) {
        let (account, hold) = (held.account, held.hold);
        let is_served = charged.is_some();
        let outcome = call.and_then(|call| call.outcome.as_deref());
        let attempts = outcome.map(|outcome| &*outcome.attempts).unwrap_or_default();
        let mut has_cost = called.has_cost;
        // Most calls have one attempt, and one sum.
        let mut served = MarginSums::default();
        for (at, attempt) in attempts.iter().enumerate() {
            let is_estimated = attempt.cost_basis == CostBasis::Estimated;
            let (is_last, cost) = (at + 1 == attempts.len(), attempt.cost.map(|cost| cost.0));
            let sums = attempted(is_served && is_last, cost, is_estimated);
            let channel = call.map_or(0, |call| channel(call, attempt.channel));
            match is_served && is_last {
                true => served = sums,
                false => self.add_margin(account, hold, (channel, &called.model), sums),
            }
        }
        // Its attempts are not known: the process died with them, or the facts are gone and the ledger's entry is left.
        let is_lost = outcome.is_none_or(|outcome| is_served || outcome.ending == Ending::ProcessDied);
        if attempts.is_empty() && is_lost {
            let accrued = record.iter().find_map(|effect| match effect {
                Effect::CostAccrued(cost) => Some(cost.amount.0),
                _ => None,
            });
            has_cost = accrued.is_some();
            served = attempted(is_served, accrued, false);
        }
        if let Some(charged) = charged {
            (served.calls, served.charged) = (1, charged);
            served.unknown_net = if has_cost { 0 } else { charged };
        }
        if served != MarginSums::default() {
            self.add_margin(account, hold, (called.channel, &called.model), served);
        }
    }

    fn add_margin(&mut self, account: AccountId, hold: HoldId, at: (u64, &str), sums: MarginSums) {
        let arrived_ms = encoding::request_of(hold).created_ms();
        let key = MarginKey {
            day_ms: arrived_ms.div_euclid(DAY_MS) * DAY_MS,
            book: account.book() as u8,
            channel: at.0,
            model: at.1.into(),
        };
        self.margins.entry(key).or_default().add(&sums);
    }
}

/// The sums of one attempt.
fn attempted(served: bool, cost: Option<i64>, is_estimated: bool) -> MarginSums {
    let (known, unknown) = (cost.unwrap_or(0), i64::from(cost.is_none()));
    let estimated_cost = if is_estimated { known } else { 0 };
    match served {
        true => MarginSums {
            served_cost: known,
            unknown_served: unknown,
            estimated_cost,
            ..MarginSums::default()
        },
        false => MarginSums {
            failed: 1,
            failed_cost: known,
            unknown_failed: unknown,
            estimated_cost,
            ..MarginSums::default()
        },
    }
}

/// Whose calls: the counters that a hold stands in say it.
fn cost_key(account: AccountId, layers: &[HeldLayer], at: Timestamp, called: Called) -> CostKey {
    let is_daily = |counter: &CounterKey| {
        (counter.metric, counter.window, counter.model) == (Metric::Spend, WindowKind::Day, 0)
    };
    let daily =
        |wanted: Layer| layers.iter().find(|layer| layer.counter.layer == wanted && is_daily(&layer.counter));
    // Counters of test books have names of their own.
    let named = |wanted: Layer| {
        daily(wanted).map_or(0, |layer| AccountId(layer.counter.subject).in_book(ledger::Book::Live).0)
    };
    let day = daily(Layer::Key).map(|layer| layer.window.start.0);
    CostKey {
        account: account.0,
        day_ms: day.unwrap_or(at.0.div_euclid(DAY_MS) * DAY_MS),
        key: daily(Layer::Key).map_or(0, |layer| layer.counter.subject),
        project: named(Layer::Project),
        member: named(Layer::Member),
        group: named(Layer::Group),
        model: called.model,
        endpoint: called.endpoint,
        unit: called.unit,
    }
}
