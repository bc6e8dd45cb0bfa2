//! What must be true of everything that moved, told by ways of their own: statements, documents, the log, and others' files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tallygate::clock::{Clock as _, SystemClock};

use super::world::{PROVIDERS, World};
use crate::support::demo::{nano, wait_until};

/// What epay platforms and banks export, which everybody reads with a mapping of their own.
const EPAY: &str = r#"
name = "epay-trades"
side = "payments"
scope = "epay"
join = "order"
time_zone = "Asia/Shanghai"
currency = "CNY"
[columns]
key = "out_trade_no"
amount = "money"
refunded = "refundmoney"
time = "endtime"
"#;
const BANK: &str = r#"
name = "bank"
side = "payments"
scope = "transfer"
join = "order"
delimiter = ";"
time_zone = "UTC"
[columns]
key = "Reference"
class = "Type"
amount = "Amount"
currency = "Currency"
time = "Booked"
[classes]
CREDIT = "payment"
RETURN = "refund"
"#;

/// Families of movements, and whether they add.
const FAMILIES: [(&str, i64); 8] = [
    ("credits", 1),
    ("charge_refunds", 1),
    ("compensation", 1),
    ("adjustments", 1),
    ("charges", -1),
    ("expiries", -1),
    ("order_refunds", -1),
    ("chargebacks", -1),
];

pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(SystemClock.now_ms()).unwrap()
}

impl World {
    /// What is under way comes to its end.
    pub fn come_to_rest(&mut self) {
        for order in self.house.all("/api/orders?state=refund_pending") {
            self.settle_refund(order["id"].as_str().unwrap());
        }
        let house = &self.house;
        // The provider's statement has what was paid, also if its callback was lost and the poller has not yet asked.
        let waiting =
            || ["pending", "expired"].map(|state| house.all(&format!("/api/orders?state={state}"))).concat();
        wait_until("every order that was paid at its provider is known as paid", || {
            !waiting().iter().any(|order| self.sent.contains(order["id"].as_str().unwrap()))
        });
        wait_until("no order is on its way, and every end of credit is written off", || {
            let none = |state: &str| house.all(&format!("/api/orders?state={state}")).is_empty();
            let balance = |account: &String| house.get(&format!("/api/accounts/{account}/balance"));
            none("paid")
                && none("refund_pending")
                && self.accounts.iter().all(|account| {
                    let lots = balance(account)["lots"].clone();
                    lots.as_array().unwrap().iter().all(|lot| lot["expired"] == false)
                })
        });
        self.house.verified(true);
    }

    /// B5, B6: each statement closes with the balance, by the movements that the documents tell; all of them sum to the
    /// ledger; the log says the same of every call.
    pub fn adds_up(&self) {
        let report = self.house.verified(true);
        let (mut charges, documents) = (0, self.documents());
        for account in &self.accounts {
            let statement = self.statement_closes(account);
            charges += nano(&statement["movements"]["charges"]);
            for kind in ["charge_refunds", "compensation", "adjustments"] {
                let told = documents.get(&(account.as_str(), kind)).copied().unwrap_or_default();
                assert_eq!(nano(&statement["movements"][kind]), told, "{account} {kind}");
            }
            for source in ["promotion", "code"] {
                let told = documents.get(&(account.as_str(), source)).copied().unwrap_or_default();
                assert_eq!(nano(&statement["credits_by_source"][source]), told, "{account} {source}");
            }
        }
        assert_eq!(charges, nano(&report["charged"]), "the statements are not the ledger");
        self.log_has_every_charge(charges);
    }

    /// The statement of this year, which is all that there was.
    fn statement_closes(&self, account: &str) -> Value {
        let year = jiff::Timestamp::from_millisecond(self.begun_ms).unwrap().to_string();
        let (from, to) = (&year[..10], &now().to_string()[..10]);
        let path = format!("/api/accounts/{account}/statement?from={from}&to={to}");
        let statement = self.house.get(&path);
        let lines = statement["lines"].as_array().unwrap();
        let sum = |family: &str| -> i64 {
            let of = lines.iter().filter(|line| line["family"] == family);
            of.map(|line| nano(&line["amount"])).sum()
        };
        let mut running = nano(&statement["opening"]["balance"]);
        assert_eq!(running, 0);
        for (family, sign) in FAMILIES {
            assert_eq!(nano(&statement["movements"][family]) * sign, sum(family), "{account} {family}");
            running += sum(family);
        }
        assert_eq!(running, nano(&statement["closing"]["balance"]), "{account}");
        let balance = self.house.get(&format!("/api/accounts/{account}/balance"));
        let there: i64 = ["available", "held", "expired"].iter().map(|part| nano(&balance[*part])).sum();
        assert_eq!(running, there, "{account}: {balance:#}");
        statement
    }

    /// Sums of what documents say was posted, by account and family.
    fn documents(&self) -> BTreeMap<(&str, &'static str), i64> {
        let mut sums = BTreeMap::new();
        let mut add = |account: &Value, what, amount: i64| {
            let account = self.accounts.iter().find(|known| account == known.as_str()).unwrap();
            *sums.entry((account.as_str(), what)).or_default() += amount;
        };
        for correction in self.house.all("/api/corrections?state=posted") {
            let family = match correction["kind"].as_str().unwrap() {
                "refund" => "charge_refunds",
                "compensation" => "compensation",
                "adjustment" => "adjustments",
                _ => continue,
            };
            add(&correction["account"], family, nano(&correction["amount"]));
        }
        for code in self.house.all("/api/codes?state=redeemed") {
            add(&code["account"], "code", nano(&code["value"]));
        }
        for (account, amount) in self.gifts.values() {
            add(&json!(account), "promotion", *amount);
        }
        sums
    }

    /// I6 from outside: the charges of the log are those of the statements, and whoever got an answer is in it.
    fn log_has_every_charge(&self, charges: i64) {
        let told = self.house.all("/api/requests");
        let rows: BTreeMap<_, _> =
            told.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), nano(&row["charge"]))).collect();
        assert_eq!(rows.values().sum::<i64>(), charges, "the log is not the ledger");
        for (request, cost) in &self.charged {
            let logged = rows.get(request).copied();
            // A stream has no header of its cost.
            assert!(logged == Some(*cost) || *cost == 0 && logged.is_some(), "{request}: {cost} {logged:?}");
        }
    }

    /// B7: nothing differs, but for calls that a crash cut before they were written: the upstream bills them, and they are
    /// named as what they are.
    /// Answers how many rows of each agree.
    pub fn agrees_with_everybody(&self) -> Vec<String> {
        self.import(&|_, text| text);
        let report = self.house.long("/api/reconcile", &json!({"full": true}), "/api/reconcile");
        let cases = self.open_cases();
        for case in &cases {
            assert_eq!(case["kind"], "never_admitted", "{report:#}\n{cases:#?}");
            let close = format!("/api/reconcile/cases/{}/close", case["id"].as_str().unwrap());
            self.house.post(&close, &json!({"reason": "cut by a crash"})).ok();
        }
        assert!(cases.len() as u64 <= self.cut_calls, "{} calls were cut: {cases:#?}", self.cut_calls);
        let sources = report["sources"].as_array().unwrap();
        let matched = |source: &str| {
            let of = sources.iter().find(|of| of["source"] == source);
            of.unwrap_or_else(|| panic!("{source}: {report:#}"))["matched"].as_u64().unwrap()
        };
        assert!(PROVIDERS.iter().all(|provider| matched(&format!("payments:{provider}")) >= 6), "{report:#}");
        assert!(matched("upstream:all") >= self.charged.len() as u64, "{report:#}");
        let told = |of: &Value| format!("{}: {} rows agree", of["source"].as_str().unwrap(), of["matched"]);
        sources.iter().map(told).collect()
    }

    pub fn open_cases(&self) -> Vec<Value> {
        self.house.all("/api/reconcile/cases?state=open")
    }

    /// Imports what everybody says. `change` may plant faults in it.
    pub fn import(&self, change: &dyn Fn(&str, String) -> String) {
        for provider in PROVIDERS {
            let text = match provider {
                "transfer" => self.bank_statement(),
                provider => self.house.providers.statement(provider).unwrap(),
            };
            let mut body = json!({"content": change(provider, text)});
            match provider {
                "epay" => body["mapping"] = json!(EPAY),
                "transfer" => body["mapping"] = json!(BANK),
                "stripe" => body["format"] = json!("stripe-balance"),
                provider => body["format"] = json!(provider),
            }
            self.imported(body);
        }
        let bill = self.house.bill_path();
        self.imported(json!({"format": "simulator", "path": bill.to_str().unwrap()}));
    }

    fn imported(&self, mut body: Value) {
        let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
        body["from"] = json!(time(self.begun_ms));
        body["until"] = json!(time(SystemClock.now_ms()));
        let ended = self.house.long("/api/reconcile/imports", &body, "/api/reconcile");
        assert!(ended["refused"].is_null(), "{}: {ended:#}", body["format"]);
    }

    /// A bank knows what was paid and sent back by the orders' numbers, and tells the same.
    fn bank_statement(&self) -> String {
        let booked = now().strftime("%Y-%m-%d %H:%M:%S").to_string();
        let mut out = "Booked;Reference;Type;Amount;Currency\n".to_owned();
        let orders: BTreeSet<_> =
            self.house.all("/api/orders?provider=transfer").iter().map(Value::to_string).collect();
        for order in orders.iter().map(|order| serde_json::from_str::<Value>(order).unwrap()) {
            if order["paid_at"].is_null() {
                continue;
            }
            let (id, currency) = (order["id"].as_str().unwrap(), order["pay_currency"].as_str().unwrap());
            out += &format!("{booked};{id};CREDIT;{};{currency}\n", order["pay_amount"].as_str().unwrap());
            let back = order["refunded_pay_amount"].as_str().unwrap();
            if nano(&order["refunded_pay_amount"]) > 0 {
                out += &format!("{booked};{id};RETURN;{back};{currency}\n");
            }
        }
        out
    }
}
