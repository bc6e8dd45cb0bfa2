//! Random orders, refunds and disputes beside providers that lose, delay, repeat and forget, with restarts in between:
//! after each step the books are what the orders say, in the end the orders are what the providers say.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallygate::demo::payments::Play;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::demo::nano;
use crate::support::desk::Desk;

on_both_backends!(b1_whatever_comes_the_books_are_what_the_orders_say_and_they_what_the_providers_say);

const SEEDS: [u64; 3] = [1, 2, 3];
const STEPS: usize = 120;
/// Those that can be asked about a refund.
const PROVIDERS: [&str; 3] = ["stripe", "alipay", "wechat"];
const STATUSES: [(&str, &str); 4] =
    [("warning_needs_response", "inquiry"), ("needs_response", "open"), ("lost", "lost"), ("won", "won")];

struct Random(u64);

impl Random {
    /// Below `end` (xorshift64*).
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % end
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

struct Run {
    desk: Desk,
    random: Random,
    account: String,
    /// With their providers.
    orders: Vec<(String, &'static str)>,
    /// The furthest stage that was told of each dispute.
    disputes: BTreeMap<(String, String), usize>,
    by_hand: usize,
}

impl Run {
    fn new(backend: Backend, seed: u64) -> Self {
        let desk = Desk::open(backend);
        let account = desk.account("Ann");
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Run { desk, random, account, orders: Vec::new(), disputes: BTreeMap::new(), by_hand: 0 }
    }

    fn step(&mut self) {
        if self.orders.len() < 5 {
            let provider = *self.random.one_of(&PROVIDERS);
            let amount = ["7", "19.99", "100"][self.random.below(3)];
            self.orders.push((self.desk.order(&self.account, provider, amount), provider));
        }
        let (order, provider) = self.random.one_of(&self.orders).clone();
        match self.random.below(12) {
            0 | 1 => self.pay(&order),
            2..=4 => self.refund(&order),
            5 => {
                let units = 1 + self.random.below(900) as i64;
                self.by_hand += 1;
                self.desk.providers.refund_by_hand(&order, &format!("by-hand-{}", self.by_hand), units);
            }
            6 => drop(self.desk.providers.tell_refund(&order)),
            7 | 8 if provider == "stripe" => self.dispute(&order),
            9 => {
                let slow = self.random.below(2) == 0;
                self.desk.providers.slow_refunds(slow);
            }
            10 => drop(self.desk.providers.end_refunds(&order, true)),
            11 if self.random.below(4) == 0 => self.desk.restart(),
            _ => {
                let hours = 1 + self.random.below(30) as u64;
                self.desk.clock.advance_ms(hours * 3_600_000);
                self.desk.poll();
            }
        }
    }

    fn pay(&mut self, order: &str) {
        let copies = 1 + self.random.below(3) as u32;
        let (lost, forged) = (self.random.below(3) == 0, self.random.below(6) == 0);
        let amount = (self.random.below(8) == 0).then(|| "0.01".to_owned());
        // A payer pays once.
        if self.desk.shown(order)["paid_at"].is_null() {
            self.desk.pay(order, &Play { copies, lost, forged, amount, ..Play::default() });
        }
    }

    fn refund(&mut self, order: &str) {
        match self.random.below(4) {
            0 => self.desk.providers.fail_next(1),
            1 => self.desk.providers.lose_next(1),
            _ => {}
        }
        let cents = 1 + self.random.below(900);
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        let mut body = json!({"pay_amount": amount, "reason": "random"});
        if self.random.below(6) == 0 {
            body.as_object_mut().unwrap().remove("pay_amount");
        }
        let reply = self.desk.post(&format!("/api/orders/{order}/refund"), body);
        assert!(matches!(reply.head.status, 200 | 400 | 409), "{}", reply.text());
        self.desk.providers.fail_next(0);
        self.desk.providers.lose_next(0);
    }

    fn dispute(&mut self, order: &str) {
        let shown = self.desk.shown(order);
        let number = format!("dp_{}_{}", &order[4..], self.random.below(2));
        let stage = self.random.below(STATUSES.len());
        let amount = if number.ends_with('0') { 300 } else { 1_999 };
        let object = json!({"id": number, "payment_intent": shown["payment_reference"], "amount": amount,
            "currency": "usd", "status": STATUSES[stage].0});
        if self.desk.providers.stripe_event("charge.dispute.updated", &object).status == 200
            && !shown["credited_at"].is_null()
        {
            let told = self.disputes.entry((order.to_owned(), number)).or_default();
            *told = stage.max(*told);
        }
    }

    /// What the rows of the orders say that the account has.
    fn check(&self) {
        let mut expected = 0;
        for (order, _) in &self.orders {
            let shown = self.desk.shown(order);
            if shown["credited_at"].is_null() {
                continue;
            }
            let (gone, total) = (gone(&shown), nano(&shown["amount"]));
            assert!((0..=total).contains(&gone), "{shown:#}");
            expected += total - gone;
            for dispute in shown["disputes"].as_array().unwrap() {
                let named = (order.clone(), dispute["number"].as_str().unwrap().to_owned());
                assert_eq!(dispute["stage"], STATUSES[self.disputes[&named]].1, "{dispute:#}");
            }
        }
        let balance = self.desk.balance(&self.account);
        assert_eq!(nano(&balance["available"]), expected, "{balance:#}");
    }

    /// Everything that is under way ends.
    fn settle(&mut self) {
        self.desk.providers.slow_refunds(false);
        for (order, _) in self.orders.clone() {
            self.desk.providers.end_refunds(&order, true);
        }
        for _ in 0..4 {
            self.desk.clock.advance_ms(3_600_000);
            self.desk.poll();
        }
        for (order, provider) in &self.orders {
            let shown = self.desk.shown(order);
            for refund in shown["refunds"].as_array().unwrap() {
                assert!(matches!(refund["state"].as_str().unwrap(), "done" | "failed"), "{refund:#}");
            }
            if !shown["credited_at"].is_null() {
                let there = self.desk.providers.refunded(order).unwrap_or(0);
                // WeChat Pay tells of what is refunded by hand once; Stripe and Alipay of all of it each time.
                if *provider != "wechat" {
                    self.desk.providers.tell_refund(order);
                }
                let known = nano(&self.desk.shown(order)["refunded_pay_amount"]) / 10_000_000;
                assert_eq!(known, there, "{provider}: {:#}", self.desk.shown(order));
            }
        }
        self.check();
    }
}

/// Of the credit of an order, what is not the account's any more.
fn gone(shown: &Value) -> i64 {
    let refunds = shown["refunds"].as_array().unwrap().iter();
    let refunds: i64 =
        refunds.filter(|refund| refund["state"] != "failed").map(|refund| nano(&refund["amount"])).sum();
    let disputes = shown["disputes"].as_array().unwrap().iter().map(|dispute| {
        match dispute["stage"].as_str().unwrap() {
            "open" | "lost" => nano(&dispute["amount"]),
            "won" => nano(&dispute["amount"]) - nano(&dispute["returned_amount"]),
            _ => 0,
        }
    });
    refunds + disputes.sum::<i64>()
}

fn b1_whatever_comes_the_books_are_what_the_orders_say_and_they_what_the_providers_say(backend: Backend) {
    let mut backend = Some(backend);
    for seed in SEEDS {
        let mut run = Run::new(backend.take().unwrap_or_else(Backend::embedded), seed);
        for step in 0..STEPS {
            run.step();
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.check()));
            assert!(checked.is_ok(), "seed {seed}, step {step}");
        }
        run.settle();
        assert!(
            run.orders.iter().any(|(order, _)| !run.desk.shown(order)["credited_at"].is_null()),
            "seed {seed}"
        );
    }
}
