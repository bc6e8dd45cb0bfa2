//! What a key can still spend: the least of what every purse on its way has left, and which one that is.

use ledger::{Balance, Nano, TokenClass, Usage};
use serde::Serialize;

use crate::app::App;
use crate::directory::{Key, ModelStatus, Snapshot, decimal};
use crate::gateway::ladder::{self, Caller, Layer};

use super::time_text;

/// A limit with its use in the window that is open now (C5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitUse {
    pub scope: &'static str,
    pub id: String,
    pub metric: &'static str,
    pub window: &'static str,
    /// Zero blocks.
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

/// The counters that a call of this key is held in.
pub fn layers(snapshot: &Snapshot, key: &Key, at_ms: i64) -> Vec<Layer> {
    let known = snapshot.key(key.id).zip(snapshot.account(key.account));
    known.map(|(key, account)| ladder::layers(Caller { key, account }, at_ms).to_vec()).unwrap_or_default()
}

/// Every limit of a key with its use, the narrowest window first.
pub fn limits(app: &App, key: &Key) -> Vec<LimitUse> {
    let snapshot = app.directory.snapshot();
    let layers = layers(&snapshot, key, app.books.now().0);
    let used = layers.iter().filter_map(|layer| {
        let limit = layer.limit?;
        let counter = app.books.counter(&layer.counter, layer.window.start);
        let (used, held) = (Nano(counter.used), Nano(counter.held));
        Some(LimitUse {
            scope: "key",
            id: key.id.to_string(),
            metric: "spend",
            window: ladder::window_name(limit.window),
            value: limit.value,
            used,
            held,
            left: Nano(limit.value.saturating_sub(used).saturating_sub(held).0.max(0)),
            resets_at: (layer.window.end.0 != i64::MAX).then(|| time_text(layer.window.end.0)),
            source: ladder::origin_name(limit.origin),
        })
    });
    used.collect()
}

pub fn of(app: &App, key: &Key) -> Usable {
    let limits = limits(app, key);
    let snapshot = app.directory.snapshot();
    let overdraft = snapshot.account(key.account).map_or(Nano::ZERO, |entry| entry.account.overdraft);
    let balance = app.books.balance(crate::api::book(key.account, key.environment));
    let mut now = balance.available.saturating_add(overdraft);
    let mut bound_by = Binding::Balance;
    for (at, limit) in limits.iter().enumerate() {
        if limit.left < now {
            (now, bound_by) = (limit.left, Binding::Limit(at));
        }
    }
    Usable { limits, balance, overdraft, now: Nano(now.0.max(0)), bound_by }
}

/// What the smallest call of the cheapest model holds for this key, and which model that is: one input token
/// and the least answer that the gateway admits.
pub fn cheapest_call(app: &App, key: &Key) -> Option<(Nano, String)> {
    let snapshot = app.directory.snapshot();
    let multiplier_ppm = multiplier(&snapshot, key);
    let (at_ms, policy) = (app.clock.now_ms(), app.hold_policy());
    let active = snapshot.models().filter(|entry| entry.model.status == ModelStatus::Active);
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
    priced.min()
}

fn multiplier(snapshot: &Snapshot, key: &Key) -> u64 {
    key.group.and_then(|id| snapshot.group(id)).map_or(decimal::PPM, |group| group.multiplier_ppm)
}

/// What a key ever spent; it is counted whether or not it has a limit.
pub fn spent_in_all(app: &App, key: &Key) -> Nano {
    let snapshot = app.directory.snapshot();
    let layers = layers(&snapshot, key, app.books.now().0);
    let total = layers.iter().find(|layer| layer.counter.window == ledger::WindowKind::Total);
    total.map_or(Nano::ZERO, |layer| Nano(app.books.counter(&layer.counter, layer.window.start).used))
}
