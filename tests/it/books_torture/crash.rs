//! SIGKILL of the gateway: at rest, or while something moves.

use std::time::Duration;

use serde_json::json;
use tallygate::demo::payments::{Mute, Play};

use super::acts::asked;
use super::world::{CALLING, World};
use crate::support::demo::wait_until;
use crate::support::house::ask_at;
use crate::support::http::Ask;

impl World {
    pub fn crash(&mut self) {
        self.count("crash");
        match self.dice.below(8) {
            0 => self.house.crash(),
            1 => self.crash_in_a_payment(),
            2 | 3 => self.crash_in_a_refund(),
            4 => {
                let ask = self.chat();
                self.cut_calls += u64::from(!self.crash_in(ask));
            }
            5 => self.crash_in_a_gift(),
            6 => {
                if let Some(ask) = self.charge_refund() {
                    self.crash_in(ask);
                }
            }
            _ => self.crash_in_a_code(),
        }
    }

    /// Any moment of a request, which takes some milliseconds.
    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.dice.below(12_000))
    }

    /// True if it was answered all the same.
    fn crash_in(&mut self, ask: Ask) -> bool {
        let moment = self.moment();
        self.house.crash_during(moment, move |_, address| {
            ask_at(address, &ask).is_ok_and(|reply| (200..300).contains(&reply.head.status))
        })
    }

    fn crash_in_a_payment(&mut self) {
        let provider = self.pick(&CALLING).unwrap();
        let order = self.new_order(provider);
        let (moment, paid) = (self.moment(), order.clone());
        self.house.crash_during(moment, move |providers, _| {
            providers.pay(&paid, &Play { copies: 2, ..Play::default() });
        });
        // Its callback is lost, or answered; the poller asks.
        let house = &self.house;
        wait_until("a payment during a crash is credited", || house.state(&order) == "credited");
        self.paid.push((order, provider));
    }

    /// Between the ledger's entry and the provider's answer, or at any moment.
    fn crash_in_a_refund(&mut self) {
        let Some((order, ask)) = self.order_refund() else { return };
        if self.dice.below(3) == 0 {
            self.crash_in(ask);
        } else {
            let mute = if self.dice.below(2) == 0 { Mute::Done } else { Mute::Unheard };
            let told = self.house.providers.mute_next(&order, mute);
            self.house.crash_when(&told, move |_, address| drop(ask_at(address, &ask)));
            self.house.providers.unmute();
        }
        self.count("crash in a refund");
        self.settle_refund(&order);
        if self.house.state(&order) == "refunded" {
            self.paid.retain(|(known, _)| *known != order);
        }
    }

    /// What is asked for until it is answered is done once.
    fn crash_in_a_gift(&mut self) {
        let (reference, ask) = self.new_gift();
        // Its end may have come meanwhile: then it is refused, if it was not posted before.
        if !self.crash_in(ask.clone()) && self.house.ask(&ask).head.status >= 400 {
            self.gifts.remove(&reference);
        }
    }

    fn crash_in_a_code(&mut self) {
        let Some(code) = self.codes.pop() else { return self.house.crash() };
        let account = self.account();
        let ask = asked("/api/codes/redeem", &json!({"account": account, "code": code}));
        if !self.crash_in(ask.clone()) {
            // The same account may ask again; the code is given once.
            self.house.ask(&ask);
        }
    }

    /// Until the provider's answer is known. Epay cannot be asked: an operator looks there and tells.
    pub fn settle_refund(&mut self, order: &str) {
        let path = format!("/api/orders/{order}");
        let is_open = |world: &Self| {
            let shown = world.house.get(&path);
            shown["refunds"]
                .as_array()
                .unwrap()
                .iter()
                .any(|refund| matches!(refund["state"].as_str(), Some("asked" | "withdrawn")))
        };
        if self.house.get(&path)["provider"] == "epay" {
            let world = &*self;
            wait_until("a refund at epay is done, or unclear", || {
                let told = world.house.get(&path)["timeline"].to_string();
                !is_open(world) || told.contains("refund_unclear")
            });
            if is_open(self) {
                self.tell_epay(order);
            }
        }
        let world = &*self;
        wait_until("a refund has ended", || !is_open(world));
    }

    fn tell_epay(&mut self, order: &str) {
        let path = format!("/api/orders/{order}");
        let shown = self.house.get(&path);
        let there = self.house.providers.refunded(order).unwrap_or(0);
        let hundredths = |amount: &serde_json::Value| crate::support::demo::nano(amount) / 10_000_000;
        let sent = there > hundredths(&shown["refunded_pay_amount"]);
        let body = json!({"sent": sent, "reason": "looked there"});
        self.house.post(&format!("{path}/refund/resolve"), &body).ok();
    }
}
