//! Refunds and disputes of orders that go as they should: the account gives, the payer gets, once; on both stores.

use serde_json::json;
use tallygate::demo::payments::Play;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::desk::Desk;

on_both_backends!(
    s45_gross_refunds_and_net_are_three_figures,
    what_was_spent_cannot_be_refunded,
    a_refund_takes_the_money_first_and_is_sent_once,
    a_refund_that_nobody_can_know_of_waits_for_a_word,
    a_dispute_takes_the_money_and_gives_it_back_if_it_is_won,
);

fn a_refund_takes_the_money_first_and_is_sent_once(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "100");
    desk.pay(&order, &Play::default());
    let path = format!("/api/orders/{order}/refund");
    for amount in ["0", "100.01", "0.001", "-1"] {
        let refused = desk.post(&path, json!({"pay_amount": amount, "reason": "r"}));
        assert_eq!(
            (refused.head.status, &refused.json()["error"]["param"]),
            (400, &json!("pay_amount")),
            "{amount}"
        );
    }
    // The provider is down: the money has left the account, and is sent when the provider is back.
    desk.providers.fail_next(1);
    let pending = desk.post(&path, json!({"pay_amount": "30", "reason": "asked for"})).ok();
    assert_eq!((&pending["state"], &*desk.available(&account)), (&json!("refund_pending"), "70"));
    assert_eq!(desk.providers.refunded(&order), Some(0));
    assert_eq!(desk.post(&path, json!({"reason": "again"})).head.status, 409);
    desk.clock.advance_ms(3_600_000);
    assert_eq!(desk.poll(), 1);
    assert_eq!((&*desk.state(&order), desk.providers.refunded(&order)), ("partially_refunded", Some(3_000)));
    // The provider tells of what we asked it for.
    let charge = desk.providers.charge(&order).unwrap();
    assert_eq!(desk.providers.stripe_event("charge.refunded", &charge).status, 200);
    assert_eq!(desk.available(&account), "70");
    // What was spent cannot go back, unless it may be owed.
    let other = desk.order(&account, "stripe", "5");
    desk.pay(&other, &Play::default());
    desk.post(&format!("/api/orders/{other}/refund"), json!({"reason": "r"})).ok();
    assert_eq!(desk.state(&other), "refunded");
    let rest = desk.post(&path, json!({"reason": "the rest"})).ok();
    assert_eq!((&rest["state"], &*desk.available(&account)), (&json!("refunded"), "0"));
    assert_eq!(desk.providers.refunded(&order), Some(10_000));
    let second = desk.order(&account, "transfer", "10");
    desk.post(&format!("/api/orders/{second}/complete"), json!({"reason": "r"})).ok();
    let order = desk.order(&account, "epay", "50");
    desk.pay(&order, &Play::default());
    desk.post(&format!("/api/orders/{order}/refund"), json!({"pay_amount": "72.50", "reason": "r"})).ok();
    assert_eq!((&*desk.available(&account), desk.providers.refunded(&order)), ("50", Some(7_250)));
    let refunds = desk.shown(&order)["refunds"].clone();
    assert_eq!((&refunds[0]["state"], &refunds[0]["amount"]), (&json!("done"), &json!("10")));
    // More than is left at the provider: it refuses, and the account has its money again.
    let paid = desk.order(&account, "stripe", "7");
    let session = json!({"id": desk.shown(&paid)["provider_reference"], "client_reference_id": paid,
        "payment_status": "paid", "amount_total": 700, "currency": "usd", "payment_intent": "pi_unknown"});
    assert_eq!(desk.providers.stripe_event("checkout.session.completed", &session).status, 200);
    let failed = desk.post(&format!("/api/orders/{paid}/refund"), json!({"reason": "r"})).ok();
    assert_eq!((&failed["state"], &*desk.available(&account)), (&json!("credited"), "57"));
    assert_eq!(desk.count(&paid, "refund_failed"), 1);
}

fn a_refund_that_nobody_can_know_of_waits_for_a_word(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for (sent, state, available) in [(true, "refunded", "0"), (false, "credited", "50")] {
        let order = desk.order(&account, "epay", "50");
        desk.pay(&order, &Play::default());
        desk.providers.fail_next(1);
        let pending = desk.post(&format!("/api/orders/{order}/refund"), json!({"reason": "r"})).ok();
        assert_eq!(pending["state"], "refund_pending");
        assert_eq!(desk.count(&order, "refund_unclear"), 1);
        desk.clock.advance_ms(3_600_000);
        assert_eq!(desk.poll(), 0);
        let path = format!("/api/orders/{order}/refund/resolve");
        let resolved = desk.post(&path, json!({"sent": sent, "reason": "seen at the platform"})).ok();
        assert_eq!((&resolved["state"], &*desk.available(&account)), (&json!(state), available));
        assert_eq!(desk.post(&path, json!({"sent": sent, "reason": "again"})).head.status, 409);
    }
}

fn what_was_spent_cannot_be_refunded(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "10");
    desk.pay(&order, &Play::default());
    let id: tallygate::id::AccountId = account.parse().unwrap();
    let spent = ledger::Command::Withdraw {
        account: id.in_book(ledger::Book::Live),
        kind: ledger::Withdrawal::Adjustment,
        lot: None,
        amount: ledger::Nano(6_000_000_000),
        arrears: false,
        reference: ledger::Reference::new("test:spent"),
    };
    desk.app().books.execute_blocking(&spent).unwrap();
    let refused = desk.post(&format!("/api/orders/{order}/refund"), json!({"reason": "all of it"}));
    let error = &refused.json()["error"];
    assert_eq!((refused.head.status, &error["code"]), (409, &json!("refund_exceeds_balance")), "{error:#}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains('4') && message.contains("10"), "{message}");
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("credited", "4"));
    let part = json!({"pay_amount": "4", "reason": "what is left"});
    desk.post(&format!("/api/orders/{order}/refund"), part).ok();
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("partially_refunded", "0"));
}

fn s45_gross_refunds_and_net_are_three_figures(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "10");
    desk.pay(&order, &Play::default());
    let body = json!({"pay_amount": "2.26", "reason": "part of it failed"});
    let shown = desk.post(&format!("/api/orders/{order}/refund"), body).ok();
    assert_eq!((&shown["state"], &shown["refunded_amount"]), (&json!("partially_refunded"), &json!("2.26")));
    let balance = desk.balance(&account);
    let figures = ["/movements/credits", "/movements/order_refunds", "/available"]
        .map(|at| balance.pointer(at).unwrap());
    assert_eq!(figures, [&json!("10"), &json!("2.26"), &json!("7.74")]);
}

fn a_dispute_takes_the_money_and_gives_it_back_if_it_is_won(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "100");
    desk.pay(&order, &Play::default());
    let payment = desk.shown(&order)["payment_reference"].clone();
    let dispute = |id: &str, status: &str| json!({"id": id, "payment_intent": payment, "amount": 10_000, "currency": "usd", "status": status});
    let send = |kind: &str, id: &str, status: &str| {
        assert_eq!(desk.providers.stripe_event(kind, &dispute(id, status)).status, 200);
        (desk.state(&order), desk.available(&account))
    };
    let told = |state: &str, available: &str| (state.to_owned(), available.to_owned());
    let (created, closed) = ("charge.dispute.created", "charge.dispute.closed");
    assert_eq!(send(created, "dp_0", "warning_needs_response"), told("credited", "100"));
    assert_eq!(send(closed, "dp_0", "warning_closed"), told("credited", "100"));
    for _ in 0..2 {
        assert_eq!(send(created, "dp_1", "needs_response"), told("disputed", "0"));
    }
    for _ in 0..2 {
        assert_eq!(send(closed, "dp_1", "won"), told("credited", "100"));
    }
    assert_eq!(send(created, "dp_2", "needs_response"), told("disputed", "0"));
    assert_eq!(send(closed, "dp_2", "lost"), told("disputed", "0"));
    assert_eq!(desk.balance(&account)["movements"]["chargebacks"], "200");
}
