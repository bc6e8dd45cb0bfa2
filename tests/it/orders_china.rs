//! What Alipay and WeChat Pay have of their own: refunds that are made there, on their way, lost, by whoever, on both
//! stores. What they share with all providers is in `orders`.

use serde_json::{Value, json};
use tallygate::demo::payments::Play;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::desk::Desk;
use crate::support::http::{Ask, Connection};

on_both_backends!(
    s37_a_callback_of_one_provider_says_nothing_about_anothers_order,
    b1_a_refund_is_sent_once_however_its_answer_is_lost,
    b1_a_refund_on_its_way_ends_when_the_provider_says_so,
    b1_a_refund_that_was_made_at_the_provider_leaves_the_account,
    b1_wechat_pay_tells_what_became_of_a_refund,
    b1_what_was_refunded_before_it_was_credited_is_not_credited,
    an_order_that_nobody_pays_ends,
    s38_a_slow_provider_does_not_keep_others_waiting,
);

const PROVIDERS: [&str; 2] = ["alipay", "wechat"];

/// A credited order of 100, which cost 725.00 CNY.
fn paid(desk: &Desk, account: &str, provider: &str) -> String {
    let order = desk.order(account, provider, "100");
    assert_eq!(desk.paid(&order, &Play::default()), [200]);
    order
}

#[track_caller]
fn refund(desk: &Desk, order: &str, amount: &str) -> Value {
    let body = json!({"pay_amount": amount, "reason": "asked for"});
    desk.post(&format!("/api/orders/{order}/refund"), body).ok()
}

fn s37_a_callback_of_one_provider_says_nothing_about_anothers_order(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    // What we have signed for one order is not signed for another.
    let (wechat, alipay) = (desk.order(&account, "wechat", "100"), desk.order(&account, "alipay", "100"));
    let moved = desk.shown(&alipay)["pay_url"].as_str().unwrap().replace(&alipay, &wechat);
    let asked = Ask::get(moved.strip_prefix(&desk.providers.url()).unwrap());
    let opened = Connection::open(desk.providers.address).unwrap().ask(&asked).unwrap();
    assert!(opened.text().contains("isv.invalid-signature"), "{}", opened.text());
    // A true notice of the one, sent to the other.
    assert_eq!(desk.paid(&alipay, &Play::default()), [200]);
    let timeline = desk.shown(&alipay)["timeline"].as_array().unwrap().clone();
    let notice = timeline.iter().find(|line| line["kind"] == "callback").unwrap()["body"].clone();
    let notice = notice.as_str().unwrap().to_owned();
    for provider in ["wechat", "epay", "stripe"] {
        let ask = Ask::new("POST", format!("/callbacks/{provider}")).raw_body(notice.clone());
        assert_eq!(desk.ask(&ask).head.status, 400, "{provider}");
    }
    // Replayed for another order, it is not Alipay's any more.
    let moved = Ask::new("POST", "/callbacks/alipay").raw_body(notice.replace(&alipay, &wechat));
    assert_eq!(desk.ask(&moved).head.status, 400);
    assert_eq!((&*desk.state(&wechat), &*desk.available(&account)), ("pending", "100"));
}

fn b1_a_refund_is_sent_once_however_its_answer_is_lost(backend: Backend) {
    let desk = Desk::open(backend);
    for provider in PROVIDERS {
        let account = desk.account(provider);
        let order = paid(&desk, &account, provider);
        // It was not heard, and then it was and nobody knows.
        for (lost, left, sent) in [(false, "90", 7_250), (true, "80", 14_500)] {
            match lost {
                true => desk.providers.lose_next(1),
                false => desk.providers.fail_next(1),
            }
            assert_eq!(refund(&desk, &order, "72.50")["state"], "refund_pending");
            assert_eq!(desk.available(&account), left);
            desk.clock.advance_ms(48 * 3_600_000);
            assert_eq!(desk.poll(), 1);
            assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("partially_refunded", left));
            assert_eq!(desk.providers.refunded(&order), Some(sent));
        }
        // Two of the same amount are two.
        refund(&desk, &order, "72.50");
        assert_eq!(desk.providers.refunded(&order), Some(21_750));
        let rest = refund(&desk, &order, "507.50");
        assert_eq!((&rest["state"], desk.providers.refunded(&order)), (&json!("refunded"), Some(72_500)));
        assert_eq!((desk.available(&account), desk.poll()), ("0".to_owned(), 0));
    }
}

fn b1_a_refund_on_its_way_ends_when_the_provider_says_so(backend: Backend) {
    let desk = Desk::open(backend);
    for provider in PROVIDERS {
        let account = desk.account(provider);
        let order = paid(&desk, &account, provider);
        desk.providers.slow_refunds(true);
        assert_eq!(refund(&desk, &order, "72.50")["state"], "refund_pending");
        desk.clock.advance_ms(3_600_000);
        assert_eq!((desk.poll(), &*desk.state(&order)), (1, "refund_pending"));
        desk.providers.end_refunds(&order, true);
        desk.clock.advance_ms(3_600_000);
        assert_eq!((desk.poll(), &*desk.state(&order)), (1, "partially_refunded"));
        assert_eq!(
            (desk.available(&account), desk.providers.refunded(&order)),
            ("90".to_owned(), Some(7_250))
        );
        desk.providers.slow_refunds(false);
    }
}

fn b1_a_refund_that_was_made_at_the_provider_leaves_the_account(backend: Backend) {
    let desk = Desk::open(backend);
    for provider in PROVIDERS {
        let account = desk.account(provider);
        let order = paid(&desk, &account, provider);
        refund(&desk, &order, "72.50");
        assert_eq!(desk.providers.tell_refund(&order).unwrap().status, 200);
        assert_eq!(desk.available(&account), "90", "what was asked for here is known");
        assert_eq!(desk.providers.refund_by_hand(&order, "by-hand", 14_500).unwrap().status, 200);
        for _ in 0..3 {
            assert_eq!(desk.providers.tell_refund(&order).unwrap().status, 200);
        }
        assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("partially_refunded", "70"));
        assert_eq!(desk.shown(&order)["refunds"].as_array().unwrap().len(), 2);
    }
}

fn b1_wechat_pay_tells_what_became_of_a_refund(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = paid(&desk, &account, "wechat");
    desk.providers.slow_refunds(true);
    for (sent, state, available) in [(false, "credited", "100"), (true, "partially_refunded", "90")] {
        refund(&desk, &order, "72.50");
        desk.providers.end_refunds(&order, sent);
        assert_eq!(desk.providers.tell_refund(&order).unwrap().status, 200);
        assert_eq!(desk.providers.tell_refund(&order).unwrap().status, 200);
        assert_eq!((&*desk.state(&order), &*desk.available(&account)), (state, available));
        desk.clock.advance_ms(3_600_000);
        assert_eq!(desk.poll(), 0);
        if !sent {
            // Refused by the payer's bank; under its name it is over.
            assert_eq!(desk.count(&order, "refund_failed"), 1);
        }
    }
}

/// The callback was lost, and the payment went back before it was asked about.
fn b1_what_was_refunded_before_it_was_credited_is_not_credited(backend: Backend) {
    let desk = Desk::open(backend);
    for (provider, state) in [("alipay", "expired"), ("wechat", "failed")] {
        let account = desk.account(provider);
        let order = desk.order(&account, provider, "100");
        desk.pay(&order, &Play { lost: true, ..Play::default() });
        let told = desk.providers.refund_by_hand(&order, "by-hand", 72_500).unwrap();
        assert_eq!(told.status, 400, "{}", told.body);
        desk.clock.advance_ms(3_600_000);
        assert_eq!(desk.poll(), 1);
        assert_eq!((&*desk.state(&order), &*desk.available(&account)), (state, "0"));
    }
}

fn an_order_that_nobody_pays_ends(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for provider in PROVIDERS {
        let order = desk.order(&account, provider, "100");
        let failing = Play { fails: true, ..Play::default() };
        let told = desk.paid(&order, &failing);
        assert_eq!(told, if provider == "alipay" { vec![200] } else { vec![] });
        desk.clock.advance_ms(60_000);
        desk.poll();
        assert_eq!(desk.state(&order), if provider == "alipay" { "expired" } else { "failed" });
        // The payer tries again.
        assert_eq!(desk.paid(&order, &Play::default()), [200]);
        assert_eq!(desk.state(&order), "credited");
    }
}

fn s38_a_slow_provider_does_not_keep_others_waiting(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let orders: Vec<_> = (0..3).map(|_| desk.order(&account, "alipay", "1")).collect();
    orders.iter().for_each(|order| drop(desk.pay(order, &Play { lost: true, ..Play::default() })));
    desk.clock.advance_ms(60_000);
    desk.providers.hang_up_next(1);
    assert_eq!(desk.poll(), 3);
    assert!(
        orders.iter().all(|order| desk.state(order) == "pending"),
        "none was asked about after the first"
    );
    desk.clock.advance_ms(3_600_000);
    assert_eq!(desk.poll(), 3);
    assert!(orders.iter().all(|order| desk.state(order) == "credited"));
}
