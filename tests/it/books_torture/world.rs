//! The gateway, those who pay, and what the test remembers of them: no amounts, which are asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tallygate::clock::{Clock as _, SystemClock};

use crate::support::house::House;
use crate::support::load::Dice;

pub const PROVIDERS: [&str; 5] = ["stripe", "epay", "alipay", "wechat", "transfer"];
/// Those that call back.
pub const CALLING: [&str; 4] = ["stripe", "epay", "alipay", "wechat"];
/// Of each provider that gives a statement there are so many paid orders to plant faults in.
const PAID_MIN: usize = 6;
const CHARGED_MIN: usize = 10;

pub struct World {
    pub house: House,
    pub dice: Dice,
    pub accounts: Vec<String>,
    /// Their texts, one of each account.
    pub keys: Vec<String>,
    /// Access token of the second person.
    pub second: String,
    /// Orders that a payer has paid at their provider, whether or not it called back.
    pub sent: BTreeSet<String>,
    /// Orders that were seen as credited, with their provider.
    pub paid: Vec<(String, &'static str)>,
    /// Orders at Stripe whose payer's bank took the money.
    pub disputed: Vec<String>,
    /// Calls whose answer came whole, with what they cost.
    pub charged: Vec<(String, i64)>,
    pub codes: Vec<String>,
    /// Credits by their reference: account and amount. Each is asked for until it is answered.
    pub gifts: BTreeMap<String, (String, i64)>,
    /// Calls that a crash cut.
    pub cut_calls: u64,
    pub begun_ms: i64,
    /// What was done, how often.
    pub done: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let house = House::open(&[("ledger.approval_above", "10"), ("payments.open_orders_max", "100000")]);
        let accounts: Vec<_> =
            (0..4).map(|at| house.made("/api/accounts", &json!({"name": format!("account {at}")}))).collect();
        furnish(&house);
        let key = |account: &String| {
            let made = house.post("/api/keys", &json!({"account": account, "name": "k"})).ok();
            made["key"].as_str().unwrap().to_owned()
        };
        World {
            dice: Dice::new(seed),
            keys: accounts.iter().map(key).collect(),
            second: house.operator("the second person"),
            accounts,
            sent: BTreeSet::new(),
            paid: Vec::new(),
            disputed: Vec::new(),
            charged: Vec::new(),
            codes: Vec::new(),
            gifts: BTreeMap::new(),
            cut_calls: 0,
            begun_ms: SystemClock.now_ms(),
            done: BTreeMap::new(),
            house,
        }
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        let at = self.dice.below(of.len().max(1) as u64);
        of.get(usize::try_from(at).unwrap()).cloned()
    }

    pub fn account(&mut self) -> String {
        let at = self.dice.below(self.accounts.len() as u64);
        self.accounts[usize::try_from(at).unwrap()].clone()
    }

    pub fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    /// One random movement, and then I1 to I10.
    pub fn step(&mut self) {
        match self.dice.below(100) {
            0..22 => self.order(),
            22..46 => self.call(),
            46..53 => self.redeem(),
            53..62 => self.refund_charge(),
            62..66 => self.give("compensation"),
            66..70 => self.give("adjustment"),
            70..79 => self.refund_order(),
            79..83 => self.dispute(),
            83..89 => self.gift(),
            89..92 => self.decide_what_waits(),
            _ => self.crash(),
        }
        self.house.verified(false);
    }

    /// Enough of everything to plant faults in.
    pub fn complete_the_mix(&mut self) {
        let few = |world: &Self, provider: &str| {
            world.paid.iter().filter(|(_, of)| *of == provider).count() < PAID_MIN
        };
        for provider in PROVIDERS {
            while few(self, provider) {
                self.order_at(provider);
            }
        }
        while self.charged.len() < CHARGED_MIN {
            self.call();
        }
        for provider in CALLING {
            self.order_without_callback(provider);
        }
    }
}

/// Models that the simulated upstream serves, at prices at which a call costs cents; what it bills is told to the channel.
fn furnish(house: &House) {
    let models = ["gpt-5-mini", "deepseek-chat", "demo-500"];
    for name in models {
        house.made("/api/models", &json!({"name": name}));
        let price = json!({"model": name, "per_million": {"input": "1000", "output": "2000"}});
        house.post("/api/prices", &price).ok();
    }
    let cost = |input: &str, cached: &str, output: &str| json!({"per_million": {"input": input, "cache_read": cached, "output": output}});
    let mapped: serde_json::Map<String, Value> =
        models.iter().map(|name| ((*name).to_owned(), json!(name))).collect();
    let channel = json!({"name": "c", "base_url": house.upstream_url, "credential": house.upstream_key(),
    "models": mapped, "environments": ["live", "test"], "cost_prices": {
        "gpt-5-mini": cost("0.25", "0.025", "2"), "deepseek-chat": cost("0.28", "0.028", "0.42"),
        "demo-500": cost("0.25", "0.025", "2"),
    }});
    house.made("/api/channels", &channel);
}
