//! What moves money. An act that is refused – for want of money, because it was done before, because it waits for a second
//! person – is as good as one that is not; what must not be is seen by the checks.

use serde_json::{Value, json};
use tallygate::clock::{Clock as _, SystemClock};
use tallygate::demo::payments::Play;

use super::world::{PROVIDERS, World};
use crate::support::demo::nano;
use crate::support::http::Ask;

/// A request of an operator.
pub fn asked(path: &str, body: &Value) -> Ask {
    Ask::post(path, body).bearer(crate::support::app::ADMIN_TOKEN)
}

impl World {
    pub fn order(&mut self) {
        let provider = self.pick(&PROVIDERS).unwrap();
        self.order_at(provider);
    }

    pub fn order_at(&mut self, provider: &'static str) {
        let order = self.new_order(provider);
        self.count(provider);
        if provider == "transfer" {
            return self.complete(&order);
        }
        match self.dice.below(12) {
            // It is never paid.
            0 => return,
            1 => self.pay(&order, &Play { lost: true, ..Play::default() }),
            2 => self.pay(&order, &Play { copies: 3, ..Play::default() }),
            3 => {
                self.pay(&order, &Play { forged: true, ..Play::default() });
                self.pay(&order, &Play::default());
            }
            4 => self.pay(&order, &Play { post: true, ..Play::default() }),
            _ => self.pay(&order, &Play::default()),
        }
        if self.house.state(&order) == "credited" {
            self.paid.push((order, provider));
        }
    }

    pub fn new_order(&mut self, provider: &str) -> String {
        let amount = format!("{}.{:02}", 1 + self.dice.below(20), self.dice.below(100));
        let account = self.account();
        self.house.order(&account, provider, &amount)
    }

    /// Pays an order whose callback is lost: the poller finds it.
    pub fn order_without_callback(&mut self, provider: &'static str) {
        let order = self.new_order(provider);
        self.count("callback lost");
        self.pay(&order, &Play { lost: true, ..Play::default() });
    }

    fn pay(&mut self, order: &str, play: &Play) {
        self.house.providers.pay(order, play).expect("the provider knows the order");
        self.sent.insert(order.to_owned());
    }

    fn complete(&mut self, order: &str) {
        let body = json!({"reason": "seen on the account"});
        self.house.post(&format!("/api/orders/{order}/complete"), &body).ok();
        self.paid.push((order.to_owned(), "transfer"));
    }

    pub fn call(&mut self) {
        let ask = self.chat();
        let reply = self.house.ask(&ask);
        self.count("call");
        if reply.is_whole_answer() {
            let cost = reply.head.header("x-tallygate-cost").map_or(0, |cost| nano(&json!(cost)));
            self.charged.push((reply.head.request_id().to_owned(), cost));
        }
    }

    pub fn chat(&mut self) -> Ask {
        let key = self.pick(&self.keys.clone()).unwrap();
        let model = match self.dice.below(12) {
            0 => "demo-500",
            1..4 => "deepseek-chat",
            _ => "gpt-5-mini",
        };
        let text = "word ".repeat(1 + usize::try_from(self.dice.below(20)).unwrap());
        let more = json!({"stream": self.dice.below(3) == 0, "max_tokens": 64});
        Ask::chat_with(&key, model, &text, more)
    }

    /// One account redeems a code, or two race for it (S43).
    pub fn redeem(&mut self) {
        let Some(code) = self.codes.pop() else { return self.new_codes() };
        self.count("code");
        let first = asked("/api/codes/redeem", &json!({"account": self.account(), "code": code}));
        if self.dice.below(4) != 0 {
            self.house.ask(&first).ok();
            return;
        }
        let second = asked("/api/codes/redeem", &json!({"account": self.account(), "code": code}));
        let house = &self.house;
        let won = std::thread::scope(|threads| {
            let racers = [&first, &second].map(|ask| threads.spawn(|| house.ask(ask).head.status == 200));
            racers.map(|racer| racer.join().unwrap())
        });
        // Asked by one account twice, the code is its own both times.
        assert!(won.contains(&true), "nobody got a code that two raced for");
    }

    fn new_codes(&mut self) {
        let batch = json!({"value": "0.75", "count": 10, "note": "torture"});
        let made = self.house.post("/api/code-batches", &batch).ok();
        self.codes
            .extend(made["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()));
    }

    pub fn refund_charge(&mut self) {
        let Some(ask) = self.charge_refund() else { return };
        let _refused = self.house.ask(&ask);
        self.count("refund of a charge");
    }

    /// Of all that is left of a charge, or of a part that may be too much.
    pub fn charge_refund(&mut self) -> Option<Ask> {
        let (request, cost) = self.pick(&self.charged.clone())?;
        let mut body = json!({"kind": "refund", "request": request, "reason": "torture"});
        if self.dice.below(2) == 0 {
            let part = 1 + self.dice.below(cost.max(2_000_000).unsigned_abs());
            body["amount"] = json!(ledger::Nano(i64::try_from(part).unwrap()).to_string());
        }
        Some(asked("/api/corrections", &body))
    }

    pub fn give(&mut self, kind: &'static str) {
        let ask = self.correction(kind);
        let _refused = self.house.ask(&ask);
        self.count(kind);
    }

    /// Some are too much for one person alone; some adjustments take.
    pub fn correction(&mut self, kind: &str) -> Ask {
        let large = self.dice.below(3) == 0;
        let amount = format!("{}.{:02}", if large { 11 } else { 0 }, 1 + self.dice.below(99));
        let takes = kind == "adjustment" && self.dice.below(2) == 0;
        let amount = if takes { format!("-{amount}") } else { amount };
        let body = json!({"kind": kind, "account": self.account(), "amount": amount, "reason": "torture",
            "arrears": takes && self.dice.below(3) == 0});
        asked("/api/corrections", &body)
    }

    /// The second person agrees, or does not.
    pub fn decide_what_waits(&mut self) {
        for waiting in self.house.all("/api/corrections?state=pending") {
            let state = if self.dice.below(4) == 0 { "rejected" } else { "approved" };
            let path = format!("/api/corrections/{}/decision", waiting["id"].as_str().unwrap());
            let body = json!({"state": state, "reason": "looked at"});
            let _refused = self.house.ask(&Ask::post(path, &body).bearer(&self.second));
            self.count(state);
        }
    }

    pub fn refund_order(&mut self) {
        let Some((order, ask)) = self.order_refund() else { return };
        match self.dice.below(8) {
            // The provider did it, and its answer is lost; or it did not.
            0 => self.house.providers.lose_next(1),
            1 => self.house.providers.fail_next(1),
            _ => {}
        }
        let _refused = self.house.ask(&ask);
        // One that was refused has asked nobody.
        self.house.providers.lose_next(0);
        self.house.providers.fail_next(0);
        self.count("refund of an order");
        if self.house.state(&order) == "refunded" {
            self.paid.retain(|(known, _)| *known != order);
        }
    }

    pub fn order_refund(&mut self) -> Option<(String, Ask)> {
        let (order, _) = self.pick(&self.paid.clone())?;
        let arrears = self.dice.below(4) == 0;
        let mut body = json!({"reason": "torture", "arrears": arrears});
        if self.dice.below(4) != 0 {
            body["pay_amount"] = json!(format!("0.{:02}", 1 + self.dice.below(99)));
        }
        let ask = asked(&format!("/api/orders/{order}/refund"), &body);
        Some((order, ask))
    }

    /// The payer's bank takes the money of an order, or decides about what it took.
    pub fn dispute(&mut self) {
        if self.dice.below(2) == 0
            && let Some(order) = self.disputed.pop()
        {
            let won = self.dice.below(2) == 0;
            let told = self.house.providers.end_dispute(&order, won).unwrap();
            assert_eq!(told.status, 200, "{told:?}");
            return self.count(if won { "dispute won" } else { "dispute lost" });
        }
        let stripe: Vec<_> = self.paid.iter().filter(|(_, of)| *of == "stripe").cloned().collect();
        let Some((order, _)) = self.pick(&stripe) else { return };
        let Some(told) = self.house.providers.dispute(&order) else { return };
        assert_eq!(told.status, 200, "{told:?}");
        self.paid.retain(|(known, _)| *known != order);
        self.disputed.push(order);
        self.count("dispute");
    }

    /// Credit that ends in a moment.
    pub fn gift(&mut self) {
        let (_, ask) = self.new_gift();
        self.house.ask(&ask).ok();
        self.count("credit with an end");
    }

    /// Its reference, and what asks for it.
    pub fn new_gift(&mut self) -> (String, Ask) {
        let (account, number) = (self.account(), self.dice.below(1 << 40));
        let (amount, reference) = (1 + self.dice.below(900_000_000), format!("gift:{number}"));
        let amount = i64::try_from(amount).unwrap();
        let end_ms = SystemClock.now_ms() + 300 + i64::try_from(self.dice.below(3_000)).unwrap();
        let body = json!({"amount": ledger::Nano(amount).to_string(), "kind": "granted", "reason": "torture",
            "expires_at": jiff::Timestamp::from_millisecond(end_ms).unwrap().to_string(), "reference": reference});
        let ask = asked(&format!("/api/accounts/{account}/credits"), &body);
        self.gifts.insert(reference.clone(), (account, amount));
        (reference, ask)
    }
}
