//! Money that goes back: refunds and disputes whose news are lost, late, out of order or wrong, on both stores.

use serde_json::{Value, json};
use tallygate::demo::payments::Play;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::desk::Desk;
use crate::support::http::Ask;

on_both_backends!(
    b1_disputes_end_the_same_in_whatever_order_they_are_told,
    b1_an_inquiry_that_becomes_a_dispute_takes_the_money,
    b1_what_a_dispute_and_refunds_take_is_never_more_than_was_credited,
    b1_a_refund_that_is_told_meanwhile_is_not_lost,
    b1_a_refund_whose_answer_is_lost_is_sent_once,
    b1_a_refund_on_its_way_ends_when_the_provider_says_so,
    b1_a_refund_that_comes_back_is_in_the_account_again,
    b1_a_dispute_does_not_stop_a_refund_that_is_under_way,
    s42_what_was_never_credited_goes_back_without_the_account,
    s37_a_timeline_keeps_what_is_forged_up_to_a_bound,
    s37_a_method_is_a_plain_name,
);

struct Case {
    desk: Desk,
    account: String,
    order: String,
    payment: Value,
}

impl Case {
    /// An order of 100.00 at Stripe, paid and credited.
    fn paid(backend: Backend) -> Self {
        let desk = Desk::open(backend);
        let account = desk.account("Ann");
        let order = desk.order(&account, "stripe", "100");
        assert_eq!(desk.paid(&order, &Play::default()), [200]);
        let payment = desk.shown(&order)["payment_reference"].clone();
        Case { desk, account, order, payment }
    }

    /// State of the order and what the account has.
    fn now(&self) -> (String, String) {
        (self.desk.state(&self.order), self.desk.available(&self.account))
    }

    #[track_caller]
    fn is(&self, state: &str, available: &str) {
        assert_eq!(
            self.now(),
            (state.to_owned(), available.to_owned()),
            "{:?}",
            self.desk.timeline(&self.order)
        );
    }

    #[track_caller]
    fn tell(&self, kind: &str, object: &Value) {
        let sent = self.desk.providers.stripe_event(kind, object);
        assert_eq!(sent.status, 200, "{}", sent.body);
    }

    #[track_caller]
    fn dispute(&self, kind: &str, number: &str, status: &str, amount: u32) {
        let object = json!({"id": number, "payment_intent": self.payment, "amount": amount, "currency": "usd",
            "status": status});
        self.tell(&format!("charge.dispute.{kind}"), &object);
    }

    #[track_caller]
    fn refunded(&self, total: u32) {
        let charge = json!({"id": "ch_1", "payment_intent": self.payment, "metadata": {"order": self.order},
            "amount": 10_000, "amount_refunded": total, "currency": "usd"});
        self.tell("charge.refunded", &charge);
    }

    #[track_caller]
    fn refund(&self, amount: &str) -> Value {
        let body = json!({"pay_amount": amount, "reason": "asked for"});
        self.desk.post(&format!("/api/orders/{}/refund", self.order), body).ok()
    }

    /// An hour later.
    fn poll(&self) -> usize {
        self.desk.clock.advance_ms(3_600_000);
        self.desk.poll()
    }
}

fn b1_disputes_end_the_same_in_whatever_order_they_are_told(backend: Backend) {
    let case = Case::paid(backend);
    case.dispute("closed", "dp_1", "won", 10_000);
    case.dispute("created", "dp_1", "needs_response", 10_000);
    case.is("credited", "100");
    case.dispute("closed", "dp_2", "lost", 4_000);
    case.is("disputed", "60");
    case.dispute("created", "dp_2", "needs_response", 4_000);
    case.dispute("updated", "dp_2", "under_review", 4_000);
    case.is("disputed", "60");
    // A second one beside it, and the bank thinks again about the first.
    case.dispute("created", "dp_3", "needs_response", 1_000);
    case.is("disputed", "50");
    case.dispute("closed", "dp_3", "won", 1_000);
    case.is("disputed", "60");
    case.dispute("funds_reinstated", "dp_2", "won", 4_000);
    case.is("credited", "100");
    let disputes = case.desk.shown(&case.order)["disputes"].clone();
    assert_eq!(disputes.as_array().unwrap().len(), 3);
    assert!(disputes.as_array().unwrap().iter().all(|dispute| dispute["stage"] == "won"), "{disputes:#}");
}

fn b1_an_inquiry_that_becomes_a_dispute_takes_the_money(backend: Backend) {
    let case = Case::paid(backend);
    case.dispute("created", "dp_1", "warning_needs_response", 10_000);
    case.is("credited", "100");
    case.dispute("funds_withdrawn", "dp_1", "needs_response", 10_000);
    case.is("disputed", "0");
    case.dispute("updated", "dp_1", "under_review", 10_000);
    case.dispute("closed", "dp_1", "lost", 10_000);
    case.is("disputed", "0");
    assert_eq!(case.desk.balance(&case.account)["movements"]["chargebacks"], "100");
}

fn b1_what_a_dispute_and_refunds_take_is_never_more_than_was_credited(backend: Backend) {
    let case = Case::paid(backend);
    case.refund("30");
    case.is("partially_refunded", "70");
    // The bank takes all of it, the provider bears what had gone already.
    case.dispute("created", "dp_1", "needs_response", 10_000);
    case.is("disputed", "0");
    // Another part goes back at the provider meanwhile, out of what the dispute holds.
    case.refunded(5_000);
    case.is("disputed", "0");
    case.dispute("closed", "dp_1", "won", 10_000);
    case.is("partially_refunded", "50");
    let shown = case.desk.shown(&case.order);
    assert_eq!((&shown["refunded_pay_amount"], &shown["refunded_amount"]), (&json!("50.00"), &json!("50")));
    case.refund("50");
    case.is("refunded", "0");
}

fn b1_a_refund_that_is_told_meanwhile_is_not_lost(backend: Backend) {
    let case = Case::paid(backend);
    // One of ours is on its way when somebody sends another part back at the provider.
    case.desk.providers.fail_next(1);
    case.refund("30");
    case.is("refund_pending", "70");
    case.refunded(5_000);
    case.is("partially_refunded", "50");
    assert_eq!(case.poll(), 0);
    // The same while the order is disputed.
    case.dispute("created", "dp_1", "needs_response", 2_000);
    case.is("disputed", "30");
    case.refunded(6_000);
    case.is("disputed", "20");
    case.dispute("closed", "dp_1", "won", 2_000);
    case.is("partially_refunded", "40");
}

fn b1_a_refund_whose_answer_is_lost_is_sent_once(backend: Backend) {
    let case = Case::paid(backend);
    case.desk.providers.lose_next(1);
    case.refund("30");
    case.is("refund_pending", "70");
    // Long after the provider has forgotten under which name it was asked.
    case.desk.clock.advance_ms(48 * 3_600_000);
    assert_eq!(case.desk.poll(), 1);
    case.is("partially_refunded", "70");
    assert_eq!(case.desk.providers.refunded(&case.order), Some(3_000));
    let refund = case.desk.shown(&case.order)["refunds"][0].clone();
    assert!(refund["provider_reference"].as_str().unwrap().starts_with("re_"), "{refund:#}");
    assert_eq!(case.poll(), 0);
}

fn b1_a_refund_on_its_way_ends_when_the_provider_says_so(backend: Backend) {
    let case = Case::paid(backend);
    for (sent, state, available) in [(false, "credited", "100"), (true, "partially_refunded", "70")] {
        case.desk.providers.slow_refunds(true);
        let asked = case.refund("30");
        assert_eq!(asked["state"], "refund_pending");
        case.is("refund_pending", "70");
        assert_eq!(case.poll(), 1);
        case.is("refund_pending", "70");
        case.desk.providers.end_refunds(&case.order, sent);
        assert_eq!(case.poll(), 1);
        case.is(state, available);
        assert_eq!(case.desk.providers.refunded(&case.order), Some(if sent { 3_000 } else { 0 }));
    }
}

fn b1_a_refund_that_comes_back_is_in_the_account_again(backend: Backend) {
    let case = Case::paid(backend);
    case.refund("100");
    case.is("refunded", "0");
    let failed = case.desk.providers.end_refunds(&case.order, false);
    for _ in 0..2 {
        case.tell("refund.failed", &failed[0]);
        case.is("credited", "100");
    }
    let refunds = case.desk.shown(&case.order)["refunds"].clone();
    assert_eq!(refunds[0]["state"], "failed", "{refunds:#}");
    // It can be sent again.
    case.refund("40");
    case.is("partially_refunded", "60");
    assert_eq!(case.desk.providers.refunded(&case.order), Some(4_000));
}

fn b1_a_dispute_does_not_stop_a_refund_that_is_under_way(backend: Backend) {
    let case = Case::paid(backend);
    case.desk.providers.fail_next(1);
    case.refund("30");
    case.dispute("created", "dp_1", "needs_response", 7_000);
    case.poll();
    case.is("disputed", "0");
    assert_eq!(case.desk.providers.refunded(&case.order), Some(3_000));
    case.dispute("closed", "dp_1", "won", 7_000);
    case.is("partially_refunded", "70");
}

fn s42_what_was_never_credited_goes_back_without_the_account(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "100");
    assert_eq!(desk.paid(&order, &Play { amount: Some("1.00".into()), ..Play::default() }), [400]);
    let payment = desk.shown(&order)["payment_reference"].clone();
    let charge = json!({"id": "ch_1", "payment_intent": payment, "metadata": {"order": order}, "amount": 100,
        "amount_refunded": 100, "currency": "usd"});
    assert_eq!(desk.providers.stripe_event("charge.refunded", &charge).status, 200);
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("amount_mismatch", "0"));
    assert_eq!(desk.count(&order, "was_not_credited"), 1);
}

/// Anybody can forge a callback, and whoever has seen a true one can send it again.
fn s37_a_timeline_keeps_what_is_forged_up_to_a_bound(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for provider in ["stripe", "epay"] {
        let order = desk.order(&account, provider, "1");
        assert_eq!(desk.paid(&order, &Play { forged: true, ..Play::default() }), [400]);
        let line = desk.timeline(&order).pop().unwrap();
        assert_eq!(line, ("callback".into(), "signature_wrong".into(), "refused".into()));
        for _ in 0..14 {
            desk.paid(&order, &Play { forged: true, copies: 16, ..Play::default() });
        }
        let callbacks =
            |desk: &Desk| desk.timeline(&order).iter().filter(|(kind, ..)| kind == "callback").count();
        let kept = callbacks(&desk);
        assert!((100..116).contains(&kept), "{kept}");
        // They leave room for what is true, and for what it is told again.
        assert_eq!(desk.paid(&order, &Play { copies: 5, ..Play::default() }), [200; 5]);
        assert_eq!((&*desk.state(&order), callbacks(&desk)), ("credited", kept + 5));
        for _ in 0..8 {
            desk.paid(&order, &Play { copies: 16, ..Play::default() });
        }
        assert!((200..216).contains(&callbacks(&desk)), "{}", callbacks(&desk));
    }
    assert_eq!(desk.available(&account), "2");
}

fn s37_a_method_is_a_plain_name(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for method in ["x&trade_no=1&trade_status=TRADE_SUCCESS", "a b", "", "微信", "a=b", "%26"] {
        let body = json!({"account": account, "provider": "epay", "amount": "1", "method": method});
        let refused = desk.post("/api/orders", body);
        assert_eq!(
            (refused.head.status, &refused.json()["error"]["param"]),
            (400, &json!("method")),
            "{method}"
        );
    }
    let body = json!({"account": account, "provider": "epay", "amount": "1", "method": "wxpay"});
    let made = desk.post("/api/orders", body).ok();
    let asked =
        Ask::get(format!("/callbacks/epay?{}", made["pay_url"].as_str().unwrap().split_once('?').unwrap().1));
    assert_eq!(desk.ask(&asked).head.status, 400);
}
