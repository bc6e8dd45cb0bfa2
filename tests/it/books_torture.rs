//! Random orders, payments, calls, refunds, disputes, expiries and crashes: the invariants hold after each step, the
//! movements sum to the balances, and the comparison with what the simulated providers say finds nothing – and then finds
//! twenty planted faults of ten kinds, each by its name, and no other (B5, B6, B7).

use std::collections::BTreeMap;

use ledger::{Command, Effect, Nano};
use serde_json::{Value, json};
use tallygate::books::encoding::{self, Verified};
use tallygate::books::verify;
use tallygate::demo::payments::Play;
use tallygate::gateway::facts::Ending;
use tallygate::id::{AccountId, RequestId};
use tallygate::job::Progress;

use crate::support::app::play;
use crate::support::backend::Backend;
use crate::support::desk::Desk;
use crate::support::load::Dice;

const PROVIDERS: [&str; 3] = ["stripe", "alipay", "wechat"];

struct World {
    desk: Desk,
    dice: Dice,
    accounts: Vec<String>,
    keys: Vec<String>,
    /// Paid orders by provider.
    paid: Vec<(String, &'static str)>,
    charges: Vec<String>,
    disputes: Vec<(String, i64)>,
    verified: Option<Verified>,
    begun_ms: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let desk = Desk::open(Backend::embedded());
        let accounts: Vec<_> = (0..4).map(|at| desk.account(&format!("account {at}"))).collect();
        desk.post("/api/models", json!({"name": "m"})).ok();
        let price = json!({"model": "m", "per_million": {"input": "1000", "output": "2000"}});
        desk.post("/api/prices", price).ok();
        let channel = json!({"name": "c", "base_url": "http://127.0.0.1:9/v1", "credential": "sk-x",
            "models": {"m": "m"}, "environments": ["live", "test"]});
        desk.post("/api/channels", channel).ok();
        let key = |account: &String| {
            let made = desk.post("/api/keys", json!({"account": account, "name": "k"})).ok();
            made["id"].as_str().unwrap().to_owned()
        };
        let keys = accounts.iter().map(key).collect();
        let begun_ms = desk.app().clock.now_ms();
        World {
            dice: Dice::new(seed),
            accounts,
            keys,
            paid: Vec::new(),
            charges: Vec::new(),
            disputes: Vec::new(),
            verified: None,
            begun_ms,
            desk,
        }
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.dice.below(of.len() as u64) as usize].clone()) }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..25 => self.order(),
            25..60 => self.call(),
            60..70 => self.refund_charge(),
            70..80 => self.refund_order(),
            80..84 => self.dispute(),
            84..90 => self.credit(),
            90..94 => self.expire(),
            94..98 => self.desk.clock.advance_ms(1 + self.dice.below(120_000)),
            _ => {
                self.desk.restart();
            }
        }
        self.invariants_hold();
    }

    /// I1 to I10, of what is new.
    fn invariants_hold(&mut self) {
        let app = self.desk.app();
        app.books.flush_blocking().unwrap();
        let from = self.verified.take();
        let run = verify::run(&app.journal, &app.projections, 0, from, &Progress::default()).unwrap();
        assert!(run.report.is_clean(), "{:#?}", run.report.findings);
        self.verified = run.verified;
    }

    fn order(&mut self) {
        let (account, provider) =
            (self.pick(&self.accounts.clone()).unwrap(), self.pick(&PROVIDERS).unwrap());
        let amount = format!("{}.{:02}", 1 + self.dice.below(50), self.dice.below(100));
        let order = self.desk.order(&account, provider, &amount);
        let play = match self.dice.below(10) {
            0 => Play { lost: true, ..Play::default() },
            1 => Play { copies: 3, ..Play::default() },
            2 => return,
            _ => Play::default(),
        };
        self.desk.pay(&order, &play);
        if play.lost {
            self.desk.clock.advance_ms(120_000);
            self.desk.poll();
        }
        if matches!(&*self.desk.state(&order), "credited") {
            self.paid.push((order, provider));
        }
    }

    fn call(&mut self) {
        let key = self.pick(&self.keys.clone()).unwrap();
        let tokens = (1 + self.dice.below(200), self.dice.below(200));
        let ending = if self.dice.below(8) == 0 { Ending::UpstreamFailed } else { Ending::Complete };
        let request = play(self.desk.app(), &key, "m", tokens, ending);
        self.charges.push(request);
    }

    fn refund_charge(&mut self) {
        let Some(request) = self.pick(&self.charges.clone()) else { return };
        let app = self.desk.app();
        let id = request.parse::<RequestId>().unwrap();
        let stored = tallygate::books::lookup::call(&app.books, &app.projections, id).unwrap();
        let Some(charge) = stored.and_then(|stored| charge_of(&stored.money)) else { return };
        let charged: i64 = charge.debits.iter().map(|debit| debit.amount.0).sum();
        let amount = Nano(1 + self.dice.below(charged.max(1).unsigned_abs()) as i64);
        let reference = ledger::Reference::new(format!("refund:{request}:{}", self.dice.below(1 << 40)));
        // More than is left of the charge is refused.
        let _refused = self.desk.app().books.execute_blocking(&Command::Refund { charge, amount, reference });
    }

    fn refund_order(&mut self) {
        let Some((order, _)) = self.pick(&self.paid.clone()) else { return };
        let body = json!({"pay_amount": "1.00", "reason": "torture"});
        // What the account lacks, or what has gone already, is refused.
        let _refused = self.desk.post(&format!("/api/orders/{order}/refund"), body);
    }

    fn dispute(&mut self) {
        let Some((order, "stripe")) = self.pick(&self.paid.clone()) else { return };
        let charge = self.desk.providers.charge(&order).unwrap();
        let payment = charge["payment_intent"].as_str().unwrap().to_owned();
        if self.disputes.iter().any(|(known, _)| *known == payment) || charge["amount_refunded"] != 0 {
            return;
        }
        let minor = charge["amount"].as_i64().unwrap();
        let object = json!({"id": format!("dp_{payment}"), "payment_intent": payment, "amount": minor,
            "currency": charge["currency"], "status": "needs_response"});
        if self.desk.providers.stripe_event("charge.dispute.created", &object).status == 200 {
            self.disputes.push((payment, minor));
            self.paid.retain(|(known, _)| *known != order);
        }
    }

    fn credit(&mut self) {
        let account = self.pick(&self.accounts.clone()).unwrap();
        let end = self.desk.app().clock.now_ms() + 1_000 * (1 + self.dice.below(7_200)) as i64;
        let end = jiff::Timestamp::from_millisecond(end).unwrap().to_string();
        let body = json!({"amount": "2.50", "kind": "granted", "expires_at": end, "reason": "torture",
            "reference": format!("gift:{}", self.dice.below(1 << 40))});
        self.desk.post(&format!("/api/accounts/{account}/credits"), body).ok();
    }

    /// Writes off what has ended, where nobody has done it yet.
    fn expire(&mut self) {
        let app = self.desk.app();
        let now = app.books.now();
        for account in &self.accounts {
            let account = account.parse::<AccountId>().unwrap().in_book(ledger::Book::Live);
            for lot in app.books.balance(account).lots.iter().filter(|lot| lot.is_expired(now)) {
                let _nothing_left = app.books.execute_blocking(&Command::Expire { account, lot: lot.id });
            }
        }
    }

    /// What is under way at the providers comes to its end.
    fn come_to_rest(&mut self) {
        for _ in 0..3 {
            self.desk.clock.advance_ms(600_000);
            self.desk.poll();
        }
        self.invariants_hold();
    }

    /// B6: what came in and went out of each account is what it has.
    fn movements_are_the_balances(&self) {
        let app = self.desk.app();
        app.books.flush_blocking().unwrap();
        let sum = |sql: &str, account: u64| {
            let row =
                app.projections.db().query_one(sql, tallygate::store_params![account]).unwrap().unwrap();
            row.int(0).unwrap()
        };
        let mut all = 0;
        for account in &self.accounts {
            let book = account.parse::<AccountId>().unwrap().in_book(ledger::Book::Live);
            let moved = sum(
                "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM movements WHERE account = ?1",
                book.0,
            );
            let balance = app.books.balance(book);
            let there = balance.available.0 + balance.held.0 + balance.expired.0;
            assert_eq!(moved, there, "{account}");
            all += there;
        }
        assert!(all > 0);
    }

    /// Imports every statement and compares. `change` may plant faults in a statement.
    fn reconcile(&self, change: impl Fn(&str, String) -> String) -> Value {
        for provider in PROVIDERS {
            let mut text = self.desk.providers.statement(provider).unwrap();
            if provider == "stripe" {
                for (payment, minor) in &self.disputes {
                    let at = jiff::Timestamp::from_millisecond(self.desk.app().clock.now_ms()).unwrap();
                    let at = at.strftime("%Y-%m-%d %H:%M:%S");
                    let gross = format!("-{}.{:02}", minor / 100, minor % 100);
                    text += &format!("txn_d_{payment},{at},usd,{gross},15.00,{gross},dispute,{payment}\n");
                }
            }
            let format = if provider == "stripe" { "stripe-balance" } else { provider };
            let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
            let body = json!({
                "format": format,
                "content": change(provider, text),
                "from": time(self.begun_ms),
                "until": time(self.desk.app().clock.now_ms()),
            });
            let ended = self.long("/api/reconcile/imports", body);
            assert!(ended["refused"].is_null(), "{provider}: {ended:#}");
        }
        self.long("/api/reconcile", json!({"full": true}))
    }

    fn long(&self, path: &str, body: Value) -> Value {
        self.desk.post(path, body).ok();
        loop {
            let standing = self.desk.get("/api/reconcile");
            if standing["state"] != "running" {
                assert_eq!(standing["state"], "done", "{standing:#}");
                return standing["report"].clone();
            }
            std::thread::yield_now();
        }
    }

    fn cases(&self) -> Vec<Value> {
        self.desk.get("/api/reconcile/cases?limit=1000&state=open")["data"].as_array().unwrap().clone()
    }
}

fn charge_of(money: &[Effect]) -> Option<ledger::ChargeRecord> {
    let mut debits: Option<ledger::Debits> = None;
    for effect in money {
        if let Effect::Settled(settled) = effect {
            debits = Some(settled.debits.iter().chain(&settled.overrun).copied().collect());
        }
    }
    let debits = debits?;
    money.iter().find_map(|effect| match effect {
        Effect::Held(held) => Some(ledger::ChargeRecord {
            hold: held.hold,
            account: held.account,
            debits: debits.clone(),
            layers: held.layers.clone(),
        }),
        _ => None,
    })
}

fn steps() -> u64 {
    std::env::var("BOOKS_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(160)
}

/// Lines of a statement that say a payment or, else, a refund.
fn edit(text: &str, at: usize, is_wanted: impl Fn(&str) -> bool, change: impl Fn(&str) -> String) -> String {
    let mut seen = 0;
    let lines = text.lines().map(|line| {
        if is_wanted(line) {
            seen += 1;
            if seen == at {
                return change(line);
            }
        }
        format!("{line}\n")
    });
    lines.collect()
}

#[test]
fn books_torture_everything_adds_up_and_every_planted_fault_is_named() {
    let mut world = World::new(46);
    for _ in 0..steps() {
        world.step();
    }
    // Enough of everything to plant faults in.
    while PROVIDERS.iter().any(|provider| world.paid.iter().filter(|(_, of)| of == provider).count() < 6) {
        world.order();
    }
    while world.charges.len() < 10 {
        world.call();
    }
    world.come_to_rest();
    world.movements_are_the_balances();
    let clean = world.reconcile(|_, text| text);
    assert_eq!(clean["clean"], true, "{clean:#}\n{:#?}", world.cases());
    let matched = |source: &str| {
        let of = clean["sources"].as_array().unwrap().iter().find(|of| of["source"] == source).unwrap();
        of["matched"].as_u64().unwrap()
    };
    assert!(PROVIDERS.iter().all(|provider| matched(&format!("payments:{provider}")) >= 6), "{clean:#}");
    world.faults_are_named();
}

impl World {
    /// Twenty faults of ten kinds.
    fn faults_are_named(self) {
        let folder = self.desk.backend().folder().to_owned();
        let sql = |file: &str, statement: &str| {
            let db = rusqlite::Connection::open(folder.join(file)).unwrap();
            db.execute(statement, []).unwrap()
        };
        // The files of the clean comparison are forgotten: the same rows come again, with faults.
        for table in ["reconcile_rows", "reconcile_imports"] {
            assert!(sql("reconcile.db", &format!("DELETE FROM {table}")) > 0);
        }
        let mut credited: Vec<_> = self.paid.iter().map(|(order, _)| order.clone()).collect();
        credited.sort();
        let reference = |at: usize| format!("order:{}", credited[at]);
        // A row lost: one here and one in a file. Another account: twice here.
        assert_eq!(
            sql("projections.db", &format!("DELETE FROM movements WHERE reference = '{}'", reference(0))),
            1
        );
        for at in [1, 2] {
            let moved =
                format!("UPDATE movements SET account = account + 1 WHERE reference = '{}'", reference(at));
            assert_eq!(sql("projections.db", &moved), 1);
        }
        assert_eq!(self.charge_without_answer(&folder), 2);
        for n in [3, 5] {
            assert_eq!(sql("journal.db", &format!("UPDATE journal SET at_ms = at_ms + 1 WHERE n = {n}")), 1);
        }
        let report = self.reconcile(|provider, text| match provider {
            "stripe" => stripe_faults(&text),
            "alipay" => alipay_faults(&text),
            _ => wechat_faults(&text),
        });
        assert_eq!(report["clean"], false);
        let cases = self.cases();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for case in &cases {
            *kinds.entry(case["kind"].as_str().unwrap()).or_default() += 1;
        }
        let wanted = [
            "account_differs",
            "amount_differs",
            "chain_cut",
            "charged_without_answer",
            "currency_differs",
            "late",
            "refund_without_charge",
            "row_doubled",
            "row_missing",
            "sign_differs",
        ];
        let wanted: BTreeMap<_, _> = wanted.into_iter().map(|kind| (kind, 2)).collect();
        assert_eq!(kinds, wanted, "{cases:#?}");
        // Each is closed with a reason, and stays closed when it is seen again.
        let case = format!("/api/reconcile/cases/{}", cases[0]["id"].as_str().unwrap());
        self.desk.post(&format!("{case}/close"), json!({"reason": "looked at"})).ok();
        self.long("/api/reconcile", json!({"full": true}));
        assert_eq!(self.desk.get(&case)["state"], "closed");
        assert_eq!(self.cases().len(), cases.len() - 1);
        self.desk.abandon();
    }

    /// Has the log say of two charged calls that nothing came of them.
    fn charge_without_answer(&self, folder: &std::path::Path) -> usize {
        let db = rusqlite::Connection::open(folder.join("projections.db")).unwrap();
        let found: Vec<(Vec<u8>, Vec<u8>)> = db
            .prepare("SELECT id, facts FROM requests WHERE charge > 0 AND state = 2 ORDER BY id LIMIT 2")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for (id, facts) in &found {
            let mut call = encoding::decode_call(facts).unwrap();
            call.outcome.as_mut().unwrap().ending = Ending::UpstreamFailed;
            let facts = encoding::encode_call(&call);
            db.execute("UPDATE requests SET facts = ?2 WHERE id = ?1", rusqlite::params![id, facts]).unwrap();
        }
        found.len()
    }
}

fn stripe_faults(text: &str) -> String {
    let is_charge = |line: &str| line.contains(",charge,");
    let lost = edit(text, 1, is_charge, |_| String::new());
    let doubled = edit(&lost, 1, is_charge, |line| format!("{line}\n{line}\n"));
    let signed = edit(&doubled, 3, is_charge, |line| {
        let mut values: Vec<_> = line.split(',').map(str::to_owned).collect();
        values[3] = format!("-{}", values[3]);
        format!("{}\n", values.join(","))
    });
    let other = edit(&signed, 4, is_charge, |line| format!("{}\n", line.replace(",usd,", ",cny,")));
    let late = edit(&other, 5, is_charge, |line| {
        let values: Vec<_> = line.split(',').collect();
        format!("{}\n", line.replace(values[1], "2026-12-20 00:00:00"))
    });
    late + "txn_x,2026-11-22 08:00:00,usd,-3.00,0.00,-3.00,refund,pi_nobody\n"
}

fn alipay_faults(text: &str) -> String {
    let is_trade = |line: &str| line.contains("交易    ,");
    let value = |line: &str, at: usize, value: &str| {
        let mut values: Vec<_> = line.split(',').map(str::to_owned).collect();
        values[at] = value.to_owned();
        format!("{}\n", values.join(","))
    };
    let amount = edit(text, 1, is_trade, |line| value(line, 4, "999.99"));
    let doubled = edit(&amount, 2, is_trade, |line| format!("{line}\n{line}\n"));
    let late = edit(&doubled, 4, is_trade, |line| value(line, 3, "2026-12-20 00:00:00"));
    edit(
        &late,
        1,
        |line| line.starts_with("#---"),
        |line| format!("20261122\t,ord_nobody\t,退款    ,2026-11-22 16:00:00,-3.00,-3.00\n{line}\n"),
    )
}

fn wechat_faults(text: &str) -> String {
    let is_trade = |line: &str| line.contains("`SUCCESS");
    let value = |line: &str, at: usize, change: &dyn Fn(&str) -> String| {
        let mut values: Vec<_> = line.split(',').map(str::to_owned).collect();
        values[at] = change(&values[at]);
        format!("{}\n", values.join(","))
    };
    let amount = edit(text, 1, is_trade, |line| value(line, 6, &|_| "`999.99".to_owned()));
    let signed = edit(&amount, 2, is_trade, |line| value(line, 6, &|was| was.replace('`', "`-")));
    edit(&signed, 3, is_trade, |line| value(line, 4, &|_| "`USD".to_owned()))
}
