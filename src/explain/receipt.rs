//! What a call cost and how that came about: price version × token class × quantity, multiplier, one rounding,
//! hold, settlement, lots debited, and the charge policy that applied (B8).

use ledger::{Debits, Effect, Nano, Rated, ReleaseReason};
use serde::Serialize;

use crate::app::App;
use crate::books::{ChargeState, lookup};
use crate::catalogue::{Code, Language};
use crate::directory::{Price, decimal};
use crate::gateway::facts::{Admitted, Ending, Outcome, UsageSource};
use crate::id::{LotId, RequestId};

use super::attempts::{self, AttemptView};
use super::display::Display;
use super::why::{Audience, Case};
use super::{decimal_text, time_text, units_text};

/// Decimal places of a nano-unit, of a price per million tokens of it, and of its multiple.
const NANO_PLACES: usize = 9;
const LINE_PLACES: usize = NANO_PLACES + 6;
const EXACT_PLACES: usize = LINE_PLACES + 6;

#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    pub request_id: String,
    pub at: String,
    /// Whether and how money moved: none, held, settled, released or refunded.
    pub state: &'static str,
    pub currency: String,
    /// Charged, given back after that, and what is left of the charge: three figures (S45).
    #[serde(serialize_with = "decimal::money::serialize")]
    pub charged: Nano,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub refunded: Nano,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub net: Nano,
    /// The same in the currency that is shown besides.
    pub display: Option<serde_json::Value>,
    pub account: Option<String>,
    pub key: Option<String>,
    pub environment: Option<&'static str>,
    pub model: Option<String>,
    pub code: Option<Code>,
    /// How the call ended; `None` while it runs, and if it was refused.
    pub ending: Option<&'static str>,
    /// The rule of the charge policy that applied, in words.
    pub policy: String,
    pub price: Option<PriceView>,
    pub lines: Vec<LineView>,
    pub sum: Option<SumView>,
    /// Who counted: upstream, counted (by the gateway), estimated (by the gateway, from less than it would take to count)
    /// or none.
    pub usage_source: Option<&'static str>,
    pub hold: Option<HoldView>,
    pub settlement: Option<SettlementView>,
    /// The first call with the same content a moment before; its own receipt has what it was charged.
    pub duplicate_of: Option<String>,
    /// The call whose kept answer this one was given again.
    pub replay_of: Option<String>,
    /// The channels that the call was sent to, in their order; it was charged once, as the one that served it was
    /// reached.
    pub attempts: Vec<AttemptView>,
}

/// The version that was frozen when the call was accepted.
#[derive(Clone, Debug, Serialize)]
pub struct PriceView {
    pub id: String,
    pub version: u32,
    pub effective_at: String,
}

/// One token class, or one unit.
#[derive(Clone, Debug, Serialize)]
pub struct LineView {
    pub class: &'static str,
    #[serde(flatten)]
    pub quantity: Quantity,
    /// Exact, before the multiplier.
    pub amount: String,
}

impl LineView {
    /// How much, as a text.
    pub fn counted(&self) -> String {
        match &self.quantity {
            Quantity::Tokens { tokens, .. } => tokens.to_string(),
            Quantity::Units { quantity, .. } => quantity.clone(),
        }
    }

    /// What a million tokens, or one unit, cost.
    pub fn price(&self) -> Nano {
        match &self.quantity {
            Quantity::Tokens { per_million, .. } => *per_million,
            Quantity::Units { per_unit, .. } => *per_unit,
        }
    }
}

/// How much, and what one of it costs.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Quantity {
    Tokens {
        tokens: u64,
        #[serde(serialize_with = "decimal::money::serialize")]
        per_million: Nano,
    },
    Units {
        quantity: String,
        #[serde(serialize_with = "decimal::money::serialize")]
        per_unit: Nano,
    },
}

#[derive(Clone, Debug, Serialize)]
pub struct SumView {
    #[serde(serialize_with = "decimal::money::serialize")]
    pub per_call: Nano,
    /// Of the group that served.
    pub multiplier: String,
    /// All lines and the price per call, times the multiplier, before rounding.
    pub exact: String,
    /// What the one rounding, half to even, took away; negative if it added.
    pub rounded_off: String,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub cost: Nano,
}

#[derive(Clone, Debug, Serialize)]
pub struct HoldView {
    #[serde(serialize_with = "decimal::money::serialize")]
    pub amount: Nano,
    pub at: String,
    pub output_cap: u32,
    pub output_cap_reason: &'static str,
    pub lots: Vec<LotView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SettlementView {
    pub at: String,
    /// settled or released
    pub kind: &'static str,
    /// Why it was released.
    pub reason: Option<&'static str>,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub cost: Nano,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub charged: Nano,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub returned: Nano,
    /// Charged beyond the hold.
    #[serde(serialize_with = "decimal::money::serialize")]
    pub overrun: Nano,
    /// Cost that no purse had money for: the platform's own loss.
    #[serde(serialize_with = "decimal::money::serialize")]
    pub loss: Nano,
    pub lots: Vec<LotView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LotView {
    pub lot: Option<String>,
    pub kind: &'static str,
    #[serde(serialize_with = "decimal::money::serialize")]
    pub amount: Nano,
}

/// The receipt of a call as its own caller sees it, as JSON. Blocks on the store.
pub fn for_caller(app: &App, request: RequestId, language: Language) -> Option<bytes::Bytes> {
    let stored = lookup::call(&app.books, &app.projections, request);
    let case = stored.ok()??;
    let case = Case::of(app, case).ok()?;
    let receipt = of(&case, Audience::Caller, app.currency(), language).shown_in(app.display.as_ref());
    serde_json::to_vec(&receipt).ok().map(Into::into)
}

impl Receipt {
    /// With its figures in the currency that is shown besides.
    #[must_use]
    pub fn shown_in(mut self, display: Option<&Display>) -> Self {
        let amounts = [("charged", self.charged), ("refunded", self.refunded), ("net", self.net)];
        self.display = display.map(|display| display.view(&amounts));
        self
    }
}

/// Writes the receipt of a call.
pub fn of(case: &Case, audience: Audience, currency: &str, language: Language) -> Receipt {
    let (facts, decided, outcome) = (case.facts(), &*case.decided, case.outcome.as_deref());
    let key = case.key().and_then(|id| case.snapshot.key(id));
    let model = facts.body.passed().map(|body| body.model.to_string());
    let price = decided.admitted.and_then(|admitted| price_of(case, &admitted));
    let rated = rated(decided.admitted.as_ref(), price.as_deref(), outcome);
    let refusal = decided.refusal.as_ref().map(|refusal| refusal.code);
    let (state, charged) = ChargeState::of(&case.money);
    let state = if case.refunded.is_positive() { ChargeState::Refunded } else { state };
    Receipt {
        request_id: facts.request.to_string(),
        at: time_text(facts.at_ms),
        state: state.as_str(),
        currency: currency.to_owned(),
        charged,
        refunded: case.refunded,
        net: charged.saturating_sub(case.refunded),
        display: None,
        account: case.account().map(|id| id.to_string()),
        key: case.key().map(|id| id.to_string()),
        environment: key.map(|key| key.environment.as_str()),
        model,
        code: refusal.or_else(|| outcome.and_then(|outcome| outcome.code)),
        ending: outcome.map(|outcome| outcome.ending.as_str()),
        policy: policy(case, state, language).to_owned(),
        price: price.as_deref().map(price_view),
        lines: rated.as_ref().map(lines).unwrap_or_default(),
        sum: rated.as_ref().map(sum),
        usage_source: outcome.map(|outcome| outcome.usage_source.as_str()),
        duplicate_of: facts.repetition.duplicate_of.map(|first| first.to_string()),
        replay_of: facts.repetition.replay_of.map(|first| first.to_string()),
        hold: hold(case),
        settlement: settlement(&case.money),
        attempts: outcome.map(|outcome| attempts::of(outcome, audience)).unwrap_or_default(),
    }
}

fn price_of(case: &Case, admitted: &Admitted) -> Option<std::sync::Arc<Price>> {
    let entries = case.snapshot.models();
    entries.flat_map(|entry| &entry.prices).find(|price| price.id == admitted.price).cloned()
}

/// The rating again, by the function that settled.
fn rated(admitted: Option<&Admitted>, price: Option<&Price>, outcome: Option<&Outcome>) -> Option<Rated> {
    let (admitted, price, outcome) = (admitted?, price?, outcome?);
    if outcome.usage_source == UsageSource::None {
        return None;
    }
    ledger::rate(&price.rates_at(outcome.usage.row), &outcome.usage, outcome.multiplier_ppm(admitted)).ok()
}

fn price_view(price: &Price) -> PriceView {
    PriceView {
        id: price.id.to_string(),
        version: price.version,
        effective_at: time_text(price.effective_at.as_millisecond()),
    }
}

fn lines(rated: &Rated) -> Vec<LineView> {
    let tokens = rated.lines.iter().map(|line| LineView {
        class: line.class.as_str(),
        quantity: Quantity::Tokens { tokens: line.tokens, per_million: line.per_million },
        amount: decimal_text(line.exact, LINE_PLACES),
    });
    let units = rated.units.iter().map(|line| LineView {
        class: line.unit.as_str(),
        quantity: Quantity::Units { quantity: units_text(line.unit, line.counted), per_unit: line.per_unit },
        amount: decimal_text(line.exact, LINE_PLACES),
    });
    tokens.chain(units).collect()
}

fn sum(rated: &Rated) -> SumView {
    // 10¹² nano-parts a nano-unit: an amount times a million times a million fits 128 bits.
    let exact = i128::from(rated.total.0) * 1_000_000_000_000 + rated.rounded_off;
    SumView {
        per_call: rated.per_call,
        multiplier: decimal::multiplier_text(rated.multiplier_ppm),
        exact: decimal_text(exact, EXACT_PLACES),
        rounded_off: decimal_text(rated.rounded_off, EXACT_PLACES),
        cost: rated.total,
    }
}

fn hold(case: &Case) -> Option<HoldView> {
    let admitted = case.decided.admitted?;
    let held = case.money.iter().find_map(|effect| match effect {
        Effect::Held(held) => Some(held),
        _ => None,
    });
    Some(HoldView {
        amount: admitted.hold,
        at: time_text(held.map_or(case.facts().at_ms, |held| held.at.0)),
        output_cap: admitted.output_cap,
        output_cap_reason: admitted.cap_reason.as_str(),
        lots: held.map(|held| lots(&[&held.debits])).unwrap_or_default(),
    })
}

fn settlement(effects: &[Effect]) -> Option<SettlementView> {
    effects.iter().find_map(|effect| match effect {
        Effect::Settled(settled) => Some(SettlementView {
            at: time_text(settled.at.0),
            kind: "settled",
            reason: None,
            cost: settled.cost,
            charged: settled.charged(),
            returned: total(&settled.returned),
            overrun: total(&settled.overrun),
            loss: settled.loss,
            lots: lots(&[&settled.debits, &settled.overrun]),
        }),
        Effect::Released(released) => Some(SettlementView {
            at: time_text(released.at.0),
            kind: "released",
            reason: Some(released.reason.as_str()),
            cost: Nano::ZERO,
            charged: Nano::ZERO,
            returned: total(&released.returned),
            overrun: Nano::ZERO,
            loss: Nano::ZERO,
            lots: Vec::new(),
        }),
        _ => None,
    })
}

fn lots(parts: &[&Debits]) -> Vec<LotView> {
    let view = |debit: &ledger::Debit| LotView {
        // An overdraft is no lot: it is owed.
        lot: (debit.kind != ledger::LotKind::Overdraft).then(|| LotId::from_raw(debit.lot.0).to_string()),
        kind: debit.kind.as_str(),
        amount: debit.amount,
    };
    parts.iter().flat_map(|debits| debits.iter()).map(view).collect()
}

fn total(debits: &Debits) -> Nano {
    debits.iter().fold(Nano::ZERO, |sum, debit| sum.saturating_add(debit.amount))
}

/// The rule of the charge policy that applied. Stated on every receipt.
fn policy(case: &Case, state: ChargeState, language: Language) -> &'static str {
    let ending = case.outcome.as_ref().map(|outcome| outcome.ending);
    let [en, zh] = match (state, ending) {
        (ChargeState::None, _) => [
            "The call was refused before anything was held: nothing is charged.",
            "调用在冻结金额之前已被拒绝，不收费。",
        ],
        (ChargeState::Held, _) => [
            "The call is running: its highest cost is held, and what it really costs is charged at its end.",
            "调用进行中：已冻结最高费用，结束时按实际用量扣费。",
        ],
        (ChargeState::Released, _) => released_policy(&case.money),
        (ChargeState::Refunded, _) => {
            ["The charge was refunded, wholly or in part.", "扣费已全部或部分退款。"]
        }
        (ChargeState::Settled, Some(Ending::UpstreamCut)) => [
            "The upstream broke off: the input and the output that was delivered are charged.",
            "上游中断：按输入和已交付的输出扣费。",
        ],
        (ChargeState::Settled, Some(Ending::CallerGoneDrained)) => [
            "The caller left; the answer was read to its end, and the upstream's own usage is charged.",
            "调用方已断开；网关读完了回答，按上游报告的用量扣费。",
        ],
        (ChargeState::Settled, Some(Ending::CallerGoneCounted)) => [
            "The caller left and the upstream told no usage: what had come was counted and is charged.",
            "调用方已断开且上游未报告用量：按已产生的内容计数扣费。",
        ],
        (ChargeState::Settled, Some(Ending::Shutdown)) => [
            "The gateway was stopped during the answer: what had been delivered was counted and is charged.",
            "回答过程中网关停机：按已交付的内容计数扣费。",
        ],
        (ChargeState::Settled, Some(Ending::KeyStopped)) => [
            "The key was stopped during the answer: what had been delivered was counted and is charged.",
            "回答过程中该 Key 被停用：按已交付的内容计数扣费。",
        ],
        (ChargeState::Settled, _) => [
            "The whole answer was delivered: its usage is charged at the price that was frozen at acceptance.",
            "回答完整交付：按受理时冻结的价格和实际用量扣费。",
        ],
    };
    if language == Language::Zh { zh } else { en }
}

fn released_policy(effects: &[Effect]) -> [&'static str; 2] {
    let reason = effects.iter().find_map(|effect| match effect {
        Effect::Released(released) => Some(released.reason),
        _ => None,
    });
    match reason {
        Some(ReleaseReason::ProcessDied | ReleaseReason::GatewayFault) => [
            "The gateway stopped or failed before the call was settled: nothing is charged.",
            "结算之前网关停止或出错：不收费。",
        ],
        _ => [
            "Nothing was delivered: the hold was given back and nothing is charged.",
            "没有交付任何内容：冻结金额已退回，不收费。",
        ],
    }
}
