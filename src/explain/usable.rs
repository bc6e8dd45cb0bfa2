//! What a key can still spend: the least of what every purse on its way has left, and which one that is.

use ledger::{Balance, Nano, TokenClass, Usage};
use serde::Serialize;

use crate::app::App;
use crate::directory::{Key, Limit, Metric, ModelEntry, ModelStatus, RateMetric, Snapshot, Window, decimal};
use crate::gateway::facts::Output;
use crate::gateway::identify;
use crate::gateway::ladder::{self, Caller, Purse, Scope};

use super::time_text;

/// A limit with its use in the window that is open now (C5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitUse {
    pub scope: &'static str,
    pub id: String,
    pub metric: &'static str,
    /// `None` for what has no window, such as calls at the same time.
    pub window: Option<&'static str>,
    /// The one model that is limited.
    pub model: Option<String>,
    /// Image and video tasks alone are limited.
    pub tasks: bool,
    /// Whether its schedule has the limit hold now.
    pub in_force: bool,
    /// Of the metric: an amount, or a number of calls. Zero blocks.
    #[serde(serialize_with = "decimal::money::serialize")]
    pub value: Nano,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub used: Nano,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub held: Nano,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub left: Nano,
    /// `None`: it never resets.
    pub resets_at: Option<String>,
    /// Who set it.
    pub source: &'static str,
}

/// What a key can spend now, over all layers.
#[derive(Clone, Debug)]
pub struct Usable {
    pub limits: Vec<LimitUse>,
    pub balance: Balance,
    pub overdraft: Nano,
    /// Never below zero.
    pub now: Nano,
    /// The purse that binds.
    pub bound_by: Binding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    Balance,
    /// Place among the limits.
    Limit(usize),
}

/// Every limit that can refuse a call of this key, the narrowest first, with its use.
pub fn limits(app: &App, key: &Key) -> Vec<LimitUse> {
    let snapshot = app.directory.snapshot();
    let caller = Caller::of_key(&snapshot, key.id);
    let Some(caller) = caller else { return Vec::new() };
    let purses = ladder::purses(&snapshot, caller);
    let mut limits: Vec<_> = purses.iter().flat_map(|purse| limits_of(app, &snapshot, purse)).collect();
    limits.extend(rates(app, &snapshot, caller));
    limits
}

/// The limits on how fast a key may be used.
fn rates<'a>(app: &App, snapshot: &Snapshot, caller: Caller<'a>) -> impl Iterator<Item = LimitUse> + use<'a> {
    let now = app.books.now();
    let at = jiff::Timestamp::from_millisecond(now.0).unwrap_or(jiff::Timestamp::MAX);
    let reading = app.books.read(&Scope::of_caller(snapshot, caller, now.0)).rate.unwrap_or_default();
    caller.key.rates.iter().map(move |limit| {
        let (window, used) = match limit.metric {
            RateMetric::RequestsPerSecond => (Some("second"), reading.requests_used()),
            RateMetric::TokensPerMinute => (Some("minute"), reading.tokens),
            RateMetric::Concurrency => (None, reading.running),
        };
        LimitUse {
            scope: "key",
            id: caller.key.id.to_string(),
            metric: limit.metric.as_str(),
            window,
            model: None,
            tasks: false,
            in_force: limit.is_in_force(at, &caller.account.zone),
            value: whole(limit.value),
            used: whole(used),
            held: Nano::ZERO,
            left: whole(limit.value.saturating_sub(used)),
            resets_at: None,
            source: limit.origin.as_str(),
        }
    })
}

/// A count as a decimal.
fn whole(count: u64) -> Nano {
    Metric::Calls.value(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The limits of one purse.
pub fn limits_of(app: &App, snapshot: &Snapshot, purse: &Purse<'_>) -> Vec<LimitUse> {
    let now = app.books.now();
    let at = jiff::Timestamp::from_millisecond(now.0).unwrap_or(jiff::Timestamp::MAX);
    let limit_use = |limit: &Limit| {
        let window = limit.window.kind().instance(now, purse.zone);
        let counter = app.books.counter(&purse.counter_of(limit, snapshot)?, window.start);
        let [used, held] = [counter.used, counter.held].map(|count| limit.metric.value(count));
        Some(LimitUse {
            scope: purse.scope(),
            id: purse.public_id(),
            metric: limit.metric.as_str(),
            window: Some(limit.window.as_str()),
            model: limit.model.as_ref().map(ToString::to_string),
            tasks: limit.tasks,
            in_force: limit.is_in_force(at, purse.zone),
            value: limit.value,
            used,
            held,
            left: Nano(limit.value.saturating_sub(used).saturating_sub(held).0.max(0)),
            resets_at: (window.end.0 != i64::MAX).then(|| time_text(window.end.0)),
            source: limit.origin.as_str(),
        })
    };
    purse.limits.iter().filter_map(limit_use).collect()
}

impl LimitUse {
    /// Whether it bounds what can be spent on any call now.
    fn bounds_spend(&self) -> bool {
        self.metric == Metric::Spend.as_str() && self.model.is_none() && !self.tasks && self.in_force
    }
}

pub fn of(app: &App, key: &Key) -> Usable {
    let limits = limits(app, key);
    let snapshot = app.directory.snapshot();
    let overdraft = snapshot.account(key.account).map_or(Nano::ZERO, |entry| entry.account.overdraft);
    let balance = app.books.balance(crate::api::book(key.account, key.environment));
    let mut now = balance.available.saturating_add(overdraft);
    let mut bound_by = Binding::Balance;
    for (at, limit) in limits.iter().enumerate().filter(|(_, limit)| limit.bounds_spend()) {
        if limit.left < now {
            (now, bound_by) = (limit.left, Binding::Limit(at));
        }
    }
    Usable { limits, balance, overdraft, now: Nano(now.0.max(0)), bound_by }
}

/// What the smallest call of the cheapest model that answers in text holds for this key, and which model that is: one
/// input token and the least answer that the gateway admits.
pub fn cheapest_call(app: &App, key: &Key) -> Option<(Nano, String)> {
    calls_by_cost(app, key).into_iter().next()
}

/// The same of every model, the cheapest first.
pub fn calls_by_cost(app: &App, key: &Key) -> Vec<(Nano, String)> {
    let snapshot = app.directory.snapshot();
    let multiplier_ppm = multiplier(&snapshot, key);
    let (at_ms, policy) = (app.clock.now_ms(), app.hold_policy());
    let answers = |entry: &&ModelEntry| {
        let mut endpoints = entry.model.endpoints().filter_map(identify::call_at);
        endpoints.any(|endpoint| endpoint.output() == Output::Capped)
    };
    let active = snapshot.models().filter(|entry| entry.model.status == ModelStatus::Active).filter(answers);
    let priced = active.filter_map(|entry| {
        let rates = entry.price_at(at_ms)?.rates();
        let (mut usage, mut dearest) = (Usage::default(), rates);
        dearest.per_million = [None; TokenClass::COUNT];
        let sides = [
            (TokenClass::Input, 1, rates.dearest_input()),
            (TokenClass::Output, u64::from(policy.output_tokens_min), rates.dearest_output()),
        ];
        for (class, tokens, price) in sides {
            usage.set(class, tokens);
            if let Some(slot) = dearest.per_million.get_mut(class as usize) {
                *slot = Some(price);
            }
        }
        let rated = ledger::rate(&dearest, &usage, multiplier_ppm).ok()?;
        Some((rated.total, entry.model.name.to_string()))
    });
    let mut priced: Vec<_> = priced.collect();
    priced.sort_unstable();
    priced
}

fn multiplier(snapshot: &Snapshot, key: &Key) -> u64 {
    key.group.and_then(|id| snapshot.group(id)).map_or(decimal::PPM, |group| group.multiplier_ppm)
}

/// What a key ever spent; it is counted whether or not it has a limit.
pub fn spent_in_all(app: &App, key: &Key) -> Nano {
    spent(app, &Purse::of_key(key, &jiff::tz::TimeZone::UTC), Window::Total)
}

/// What was spent from a purse in the window that is open now.
pub fn spent(app: &App, purse: &Purse<'_>, window: Window) -> Nano {
    let instance = window.kind().instance(app.books.now(), purse.zone);
    Nano(app.books.counter(&purse.counter(Metric::Spend, window, 0), instance.start).used)
}
