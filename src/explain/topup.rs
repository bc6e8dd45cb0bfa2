//! "Where is my top-up?" (充值未入账, A2): one verdict with its evidence, from facts that were gathered before.
//!
//! Promises: the four identities are compared before any amount – who is signed in, who paid the order, who redeemed the
//! code, whose key made the call (A1); every fact names its source (A3). Pure.
//! Must never: tell an id, an address, a state or an amount of another account. What belongs to another account is not part
//! of the facts, so that nothing of it can be shown.

pub mod gather;

use ledger::Nano;
use serde::Serialize;

use crate::funding::{CodeState, OrderState};
use crate::id::{AccountId, KeyId, OrderId};

use super::time_text;

/// Where a fact was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    ConsoleSession,
    PaymentOrder,
    RedemptionCode,
    RequestLog,
    LedgerRecord,
}

/// What became of the top-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    AccountMismatch,
    OrderProcessing,
    RedemptionIncomplete,
    CallsOnOtherAccount,
    AmountMismatch,
    CallbackMissing,
    OrderNotCompleted,
    NotFound,
    Credited,
}

impl Verdict {
    pub const ALL: [Verdict; 9] = [
        Verdict::AccountMismatch,
        Verdict::OrderProcessing,
        Verdict::RedemptionIncomplete,
        Verdict::CallsOnOtherAccount,
        Verdict::AmountMismatch,
        Verdict::CallbackMissing,
        Verdict::OrderNotCompleted,
        Verdict::NotFound,
        Verdict::Credited,
    ];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 9] = [
        "account_mismatch",
        "order_processing",
        "redemption_incomplete",
        "calls_on_other_account",
        "amount_mismatch",
        "callback_missing",
        "order_not_completed",
        "not_found",
        "credited",
    ];
}

/// Something that was asked about, and whose it is. Of another account nothing is known but that it is another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// It was not asked about.
    NotAsked,
    Nothing,
    Others,
    Own(T),
}

impl<T> Found<T> {
    pub fn own(&self) -> Option<&T> {
        match self {
            Found::Own(own) => Some(own),
            _ => None,
        }
    }
}

/// A payment order of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFact {
    pub id: OrderId,
    pub state: OrderState,
    /// Whether its provider tells by itself that it was paid.
    pub calls_back: bool,
    pub created_ms: i64,
    pub paid_ms: Option<i64>,
    pub credited_ms: Option<i64>,
    pub amount: Nano,
    /// What was to be paid and what came, with their currencies.
    pub to_pay: String,
    pub paid: Option<String>,
    /// Callbacks that named it with a right signature, and those that were refused.
    pub callbacks: u32,
    pub refused_callbacks: u32,
    /// How often its provider was asked since.
    pub asked: u32,
    /// Whether the ledger credited it.
    pub is_posted: bool,
}

/// A redemption code that nobody else has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeFact {
    pub masked: String,
    pub state: CodeState,
    pub redeemed_ms: Option<i64>,
    pub amount: Nano,
    pub is_posted: bool,
}

/// A key of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFact {
    pub id: KeyId,
    pub is_test: bool,
    /// When its last call was, before the time that was asked for.
    pub last_call_ms: Option<i64>,
}

/// All that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// For whom is asked: who is signed in.
    pub account: AccountId,
    pub order: Found<OrderFact>,
    pub code: Found<CodeFact>,
    pub key: Found<KeyFact>,
    /// What the account can spend now.
    pub available: Nano,
}

/// A fact with its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    pub fact: &'static str,
    pub value: String,
    pub source: Source,
}

/// One of the four identities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// `signed_in`, `payer`, `redeemer` or `caller`.
    pub who: &'static str,
    /// `None`: another account, or not known.
    pub account: Option<AccountId>,
    /// Whether it is the account that is signed in; `None`: not known.
    pub same: Option<bool>,
    pub source: Source,
}

/// See the module.
pub fn verdict(facts: &Facts) -> Verdict {
    if matches!(facts.order, Found::Others) || matches!(facts.code, Found::Others) {
        return Verdict::AccountMismatch;
    }
    if matches!(facts.key, Found::Others) {
        return Verdict::CallsOnOtherAccount;
    }
    match (facts.order.own(), facts.code.own()) {
        (Some(order), _) => of_order(order),
        (None, Some(code)) => of_code(code),
        (None, None) => Verdict::NotFound,
    }
}

fn of_order(order: &OrderFact) -> Verdict {
    use OrderState::{
        AmountMismatch, Cancelled, Created, Credited, Disputed, Expired, Failed, ManualReview, Paid,
        PartiallyRefunded, Pending, RefundPending, Refunded,
    };
    match order.state {
        AmountMismatch => Verdict::AmountMismatch,
        Paid | ManualReview => Verdict::OrderProcessing,
        // The order says so; the money is there if the ledger says so, too.
        Credited | RefundPending | PartiallyRefunded | Refunded | Disputed if !order.is_posted => {
            Verdict::OrderProcessing
        }
        Credited | RefundPending | PartiallyRefunded | Refunded | Disputed => Verdict::Credited,
        Created => Verdict::OrderNotCompleted,
        // Somebody completes it when the money is there.
        Pending if !order.calls_back => Verdict::OrderProcessing,
        Pending | Expired if order.callbacks == 0 && (order.refused_callbacks > 0 || order.asked == 0) => {
            Verdict::CallbackMissing
        }
        Pending | Expired | Failed | Cancelled => Verdict::OrderNotCompleted,
    }
}

fn of_code(code: &CodeFact) -> Verdict {
    match code.state {
        CodeState::Redeemed if code.is_posted => Verdict::Credited,
        _ => Verdict::RedemptionIncomplete,
    }
}

/// The four identities (登录账号 / 支付账号 / 兑换码账号 / API 调用账号).
pub fn identities(facts: &Facts) -> Vec<Identity> {
    fn of<T>(who: &'static str, found: &Found<T>, own: AccountId, source: Source) -> Option<Identity> {
        let same = match found {
            Found::NotAsked => return None,
            Found::Nothing => None,
            Found::Others => Some(false),
            Found::Own(_) => Some(true),
        };
        Some(Identity { who, account: (same == Some(true)).then_some(own), same, source })
    }
    let own = facts.account;
    let signed_in =
        Identity { who: "signed_in", account: Some(own), same: Some(true), source: Source::ConsoleSession };
    // A code that is nobody's yet was redeemed by nobody.
    let redeemer = match &facts.code {
        Found::Own(code) if code.redeemed_ms.is_none() => {
            of("redeemer", &Found::<()>::Nothing, own, Source::RedemptionCode)
        }
        found => of("redeemer", found, own, Source::RedemptionCode),
    };
    let others = [
        of("payer", &facts.order, own, Source::PaymentOrder),
        redeemer,
        of("caller", &facts.key, own, Source::RequestLog),
    ];
    std::iter::once(signed_in).chain(others.into_iter().flatten()).collect()
}

/// What the verdict rests on, with where each was read.
pub fn evidence(facts: &Facts) -> Vec<Evidence> {
    let mut found = Vec::new();
    let mut add = |fact, value: String, source| found.push(Evidence { fact, value, source });
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    match &facts.order {
        Found::NotAsked => {}
        Found::Nothing => add("order", "not_found".into(), Source::PaymentOrder),
        Found::Others => add("order", "another_account".into(), Source::PaymentOrder),
        Found::Own(order) => {
            add("order", order.id.to_string(), Source::PaymentOrder);
            add("state", order.state.as_str().into(), Source::PaymentOrder);
            add("created_at", time_text(order.created_ms), Source::PaymentOrder);
            add("to_pay", order.to_pay.clone(), Source::PaymentOrder);
            let paid = order.paid.clone().map(|paid| ("paid", paid));
            let paid_at = order.paid_ms.map(|at| ("paid_at", time_text(at)));
            let credited_at = order.credited_ms.map(|at| ("credited_at", time_text(at)));
            for (fact, value) in [paid, paid_at, credited_at].into_iter().flatten() {
                add(fact, value, Source::PaymentOrder);
            }
            add("callbacks", order.callbacks.to_string(), Source::PaymentOrder);
            add("callbacks_refused", order.refused_callbacks.to_string(), Source::PaymentOrder);
            add("provider_asked", order.asked.to_string(), Source::PaymentOrder);
            add("posted", yes(order.is_posted), Source::LedgerRecord);
            if order.is_posted {
                add("credited", order.amount.to_string(), Source::LedgerRecord);
            }
        }
    }
    match &facts.code {
        Found::NotAsked => {}
        Found::Nothing => add("code", "not_found".into(), Source::RedemptionCode),
        Found::Others => add("code", "another_account".into(), Source::RedemptionCode),
        Found::Own(code) => {
            add("code", code.masked.clone(), Source::RedemptionCode);
            add("code_state", code.state.as_str().into(), Source::RedemptionCode);
            if let Some(at) = code.redeemed_ms {
                add("redeemed_at", time_text(at), Source::RedemptionCode);
            }
            add("code_posted", yes(code.is_posted), Source::LedgerRecord);
            if code.is_posted {
                add("code_credited", code.amount.to_string(), Source::LedgerRecord);
            }
        }
    }
    match &facts.key {
        Found::NotAsked => {}
        Found::Nothing => add("key", "not_found".into(), Source::RequestLog),
        Found::Others => add("key", "another_account".into(), Source::RequestLog),
        Found::Own(key) => {
            add("key", key.id.to_string(), Source::RequestLog);
            // A test key spends test money, whatever was topped up.
            add("environment", if key.is_test { "test" } else { "live" }.into(), Source::RequestLog);
            if let Some(at) = key.last_call_ms {
                add("last_call_at", time_text(at), Source::RequestLog);
            }
        }
    }
    add("available", facts.available.to_string(), Source::LedgerRecord);
    found
}

/// The verdict in a sentence, and what to do next; English and Chinese.
pub fn words(verdict: Verdict) -> [[&'static str; 2]; 2] {
    match verdict {
        Verdict::AccountMismatch => [
            [
                "The order or the code belongs to another account than the one that is signed in.",
                "该订单或兑换码属于另一个账号，不是当前登录账号。",
            ],
            [
                "Sign in with the account that paid or redeemed, and look there.",
                "请用支付或兑换时所用的账号登录后查看。",
            ],
        ],
        Verdict::OrderProcessing => [
            [
                "The payment is known or expected, and being credited.",
                "付款已收到或正在确认，尚在入账处理中。",
            ],
            [
                "Wait some minutes. If nothing changes, send the order number to support.",
                "请等待几分钟；若仍无变化，请将订单号发给客服。",
            ],
        ],
        Verdict::RedemptionIncomplete => [
            ["The code has not been redeemed to the end.", "兑换码尚未完成兑换。"],
            [
                "Redeem it with this account; if it is expired or disabled, ask who gave it to you.",
                "请在当前账号中兑换；若已过期或停用，请联系发放方。",
            ],
        ],
        Verdict::CallsOnOtherAccount => [
            [
                "The calls were made with a key of another account than the one that is signed in.",
                "调用所用的 Key 属于另一个账号，不是当前登录账号。",
            ],
            ["Use a key of the account that was topped up.", "请改用已充值账号下的 Key。"],
        ],
        Verdict::AmountMismatch => [
            [
                "Something else was paid than the order says, so nothing was credited.",
                "实际付款金额与订单不符，因此没有入账。",
            ],
            [
                "Send the order number and the provider's receipt to support; do not pay again.",
                "请将订单号和支付凭证编号发给客服，不要重复付款。",
            ],
        ],
        Verdict::CallbackMissing => [
            [
                "The payment provider has not told validly that the order was paid.",
                "尚未收到支付渠道的有效到账通知。",
            ],
            [
                "The provider is asked again by itself; do not pay again. If it lasts longer than an hour, tell support.",
                "系统会自动向支付渠道查询，请勿重复付款；超过一小时请联系客服。",
            ],
        ],
        Verdict::OrderNotCompleted => [
            [
                "The order was not paid to the end: the provider was asked and knows of no payment, or it ended.",
                "订单未完成支付：支付渠道没有该笔付款，或订单已结束。",
            ],
            [
                "Check your payment app. If you were debited, send its number to support; else make a new order.",
                "请在支付应用中核对：若已扣款，请将支付单号发给客服；否则请重新下单。",
            ],
        ],
        Verdict::NotFound => [
            ["Nothing is known under what you gave.", "没有找到您提供的订单号、兑换码或 Key。"],
            [
                "Check the number: ours begins with ord_, the provider's is on its receipt.",
                "请核对编号：本站订单号以 ord_ 开头，支付渠道单号见支付凭证。",
            ],
        ],
        Verdict::Credited => [
            ["It was credited to the account that is signed in.", "已入账到当前登录账号。"],
            ["The statement shows it, and what was charged since.", "请在对账单中查看该笔入账及之后的扣费。"],
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(state: OrderState) -> OrderFact {
        OrderFact {
            id: OrderId::from_raw(7),
            state,
            calls_back: true,
            created_ms: 0,
            paid_ms: None,
            credited_ms: None,
            amount: Nano(1),
            to_pay: "1.00 USD".into(),
            paid: None,
            callbacks: 0,
            refused_callbacks: 0,
            asked: 1,
            is_posted: false,
        }
    }

    fn code(state: CodeState, is_posted: bool) -> Found<CodeFact> {
        Found::Own(CodeFact { masked: "…".into(), state, redeemed_ms: None, amount: Nano(1), is_posted })
    }

    fn facts(order: Found<OrderFact>, code: Found<CodeFact>, key: Found<KeyFact>) -> Facts {
        Facts { account: AccountId::from_raw(1), order, code, key, available: Nano::ZERO }
    }

    /// A2: each state of an order, and what was heard of it, has one verdict.
    #[test]
    fn a2_orders() {
        use OrderState::*;
        let cases: [(OrderFact, Verdict); 20] = [
            (order(Created), Verdict::OrderNotCompleted),
            (order(Pending), Verdict::OrderNotCompleted),
            (OrderFact { asked: 0, ..order(Pending) }, Verdict::CallbackMissing),
            (OrderFact { refused_callbacks: 1, ..order(Pending) }, Verdict::CallbackMissing),
            (OrderFact { asked: 0, callbacks: 1, ..order(Pending) }, Verdict::OrderNotCompleted),
            (OrderFact { calls_back: false, ..order(Pending) }, Verdict::OrderProcessing),
            (order(Paid), Verdict::OrderProcessing),
            (order(ManualReview), Verdict::OrderProcessing),
            (order(AmountMismatch), Verdict::AmountMismatch),
            (order(Expired), Verdict::OrderNotCompleted),
            (OrderFact { refused_callbacks: 2, ..order(Expired) }, Verdict::CallbackMissing),
            (order(Failed), Verdict::OrderNotCompleted),
            (order(Cancelled), Verdict::OrderNotCompleted),
            (OrderFact { is_posted: true, ..order(Credited) }, Verdict::Credited),
            (OrderFact { is_posted: true, ..order(Refunded) }, Verdict::Credited),
            (OrderFact { is_posted: true, ..order(RefundPending) }, Verdict::Credited),
            (OrderFact { is_posted: true, ..order(PartiallyRefunded) }, Verdict::Credited),
            (OrderFact { is_posted: true, ..order(Disputed) }, Verdict::Credited),
            (order(Credited), Verdict::OrderProcessing),
            (OrderFact { calls_back: false, ..order(Expired) }, Verdict::OrderNotCompleted),
        ];
        for (fact, expected) in cases {
            let facts = facts(Found::Own(fact), Found::NotAsked, Found::NotAsked);
            assert_eq!(verdict(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn a2_codes_and_nothing() {
        for state in CodeState::ALL {
            let facts = facts(Found::NotAsked, code(state, state == CodeState::Redeemed), Found::NotAsked);
            let expected =
                if state == CodeState::Redeemed { Verdict::Credited } else { Verdict::RedemptionIncomplete };
            assert_eq!(verdict(&facts), expected, "{state:?}");
        }
        let unposted = facts(Found::NotAsked, code(CodeState::Redeemed, false), Found::NotAsked);
        assert_eq!(verdict(&unposted), Verdict::RedemptionIncomplete);
        let nothing = facts(Found::Nothing, Found::Nothing, Found::Nothing);
        assert_eq!(verdict(&nothing), Verdict::NotFound);
        assert_eq!(verdict(&facts(Found::NotAsked, Found::NotAsked, Found::NotAsked)), Verdict::NotFound);
    }

    /// A1: whose it is comes before what it is.
    #[test]
    fn a1_identities_are_compared_before_amounts() {
        let credited = || Found::Own(OrderFact { is_posted: true, ..order(OrderState::Credited) });
        let mismatch = || Found::Own(order(OrderState::AmountMismatch));
        let cases = [
            (facts(Found::Others, Found::NotAsked, Found::NotAsked), Verdict::AccountMismatch),
            (facts(mismatch(), Found::Others, Found::NotAsked), Verdict::AccountMismatch),
            (facts(Found::Others, Found::NotAsked, Found::Others), Verdict::AccountMismatch),
            (facts(credited(), Found::NotAsked, Found::Others), Verdict::CallsOnOtherAccount),
            (facts(mismatch(), Found::NotAsked, Found::Others), Verdict::CallsOnOtherAccount),
        ];
        for (facts, expected) in cases {
            assert_eq!(verdict(&facts), expected);
            let told = identities(&facts);
            assert!(told.iter().any(|identity| identity.same == Some(false) && identity.account.is_none()));
        }
    }

    /// A1: whose a code is, is known once somebody redeemed it.
    #[test]
    fn a1_a_code_that_nobody_redeemed_is_nobodys() {
        let told = |code: Found<CodeFact>| {
            let told = identities(&facts(Found::NotAsked, code, Found::NotAsked));
            told.into_iter().find(|identity| identity.who == "redeemer").map(|redeemer| redeemer.same)
        };
        assert_eq!(told(code(CodeState::Unused, false)), Some(None));
        let Found::Own(redeemed) = code(CodeState::Redeemed, true) else { unreachable!() };
        assert_eq!(told(Found::Own(CodeFact { redeemed_ms: Some(1), ..redeemed })), Some(Some(true)));
    }

    #[test]
    fn every_verdict_has_its_words_and_its_name() {
        for (verdict, name) in Verdict::ALL.into_iter().zip(Verdict::NAMES) {
            assert_eq!(serde_json::to_value(verdict).unwrap(), name);
            assert!(words(verdict).iter().flatten().all(|text| text.chars().count() > 5));
        }
    }
}
