//! A life of some accounts, drawn at random: credits of every source, calls, refunds, expiries, withdrawals, holds that
//! stay open, days that pass, restarts. Beside it, what each account had at each midnight.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::{
    AccountId, Balance, ChargeRecord, Command, CreditSource, Effect, LotId, LotKind, Nano, Reference,
    Timestamp, TokenClass, Usage, Withdrawal,
};
use serde_json::{Value, json};
use tallygate::app::App;
use tallygate::books::{Held, Reserve, lookup};
use tallygate::clock::{Clock as _, Entropy as _, SeededEntropy};
use tallygate::gateway::facts::{
    CallBody, Checked, Client, Credential, Decided, Ending, Endpoint, Facts, Outcome, Repetition, UsageSource,
};
use tallygate::gateway::ladder::{Caller, Scope};
use tallygate::id::{KeyId, RequestId};

use super::app::TestApp;
use super::backend::Backend;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Numbers that a seed repeats.
pub struct Dice(SeededEntropy);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(SeededEntropy::new(&seed.to_be_bytes()))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_be_bytes(bytes) % bound
    }

    pub fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len() as u64) as usize]
    }
}

/// A call that was admitted and may end later.
pub struct Running {
    pub request: RequestId,
    held: Held,
}

/// Begins a call that holds this much, as the gateway would.
pub fn begin(app: &App, key: &str, model: &str, amount: Nano) -> Option<Running> {
    let snapshot = app.directory.snapshot_owned();
    let key = snapshot.key(key.parse::<KeyId>().unwrap()).unwrap();
    let facts = Facts {
        request: RequestId::new(&*app.clock, &*app.entropy),
        at_ms: app.books.now().0,
        config_version: snapshot.version(),
        address: Checked::Passed(Endpoint::ChatCompletions),
        credential: Checked::Passed(Credential::of(key)),
        body: Checked::Passed(CallBody {
            model: model.into(),
            stream: false,
            body_bytes: 100,
            input_tokens_bound: 100,
            image_parts: 0,
            audio_parts: 0,
            output_cap: None,
            choices: 1,
            units: None,
        }),
        client: Client::default(),
        repetition: Repetition::default(),
    };
    let request = facts.request;
    let scope = Scope::of(&snapshot, Caller::of_key(&snapshot, key.id).unwrap(), &facts);
    let admit = |_: &mut Decided| Some(Reserve { amount, overdraft: Nano::ZERO, tokens: 0, task: None });
    let (_, held) = app.books.decide(&scope, Decided::new(facts), admit).ok()?;
    Some(Running { request, held: held? })
}

impl Running {
    /// Ends it with a charge, and as many tokens in as it cost nano-units.
    pub fn settle(self, charge: Nano) -> RequestId {
        let mut usage = Usage::default();
        usage.set(TokenClass::Input, charge.0.unsigned_abs());
        usage.set(TokenClass::Output, 7);
        let outcome = Outcome {
            status: 200,
            ending: Ending::Complete,
            usage,
            usage_source: UsageSource::Upstream,
            ..Outcome::gateway_fault()
        };
        self.held.settle(charge, outcome).unwrap();
        self.request
    }

    pub fn release(self) {
        self.held.release(ledger::ReleaseReason::UpstreamFailed, Outcome::gateway_fault()).unwrap();
    }
}

/// Gives back a part of what a call was charged.
pub fn refund(app: &App, request: RequestId, amount: Nano, reference: &str) -> bool {
    app.books.flush_blocking().unwrap();
    let stored = lookup::call(&app.books, &app.projections, request).unwrap().unwrap();
    let held = stored.money.iter().find_map(|effect| match effect {
        Effect::Held(held) => Some(held.clone()),
        _ => None,
    });
    let settled = stored.money.iter().find_map(|effect| match effect {
        Effect::Settled(settled) => Some(settled.clone()),
        _ => None,
    });
    let (held, settled) = (held.unwrap(), settled.unwrap());
    let charge = ChargeRecord {
        hold: settled.hold,
        account: settled.account,
        debits: settled.debits.iter().chain(&settled.overrun).copied().collect(),
        layers: held.layers,
    };
    let reference = Reference::new(reference);
    app.books.execute_blocking(&Command::Refund { charge, amount, reference }).is_ok()
}

/// One account of a history, in one of its books.
pub struct Person {
    pub account: String,
    pub book: AccountId,
    pub keys: Vec<String>,
    charged: Vec<RequestId>,
}

pub struct History {
    pub app: TestApp,
    pub people: Vec<Person>,
    pub models: [&'static str; 2],
    /// What each had at each midnight of UTC, as the books told it then.
    pub midnights: BTreeMap<(AccountId, i64), Balance>,
    dice: Dice,
    running: Vec<Running>,
    n: u64,
}

impl History {
    pub fn new(backend: Backend, seed: u64) -> Self {
        let app = TestApp::on(backend);
        let models = ["m", "n"];
        models.iter().for_each(|model| drop(app.model(model)));
        let group = app.post("/api/groups", json!({"name": "cheap", "multiplier": "0.5"})).ok();
        let mut people = Vec::new();
        for name in ["Ann", "Ben", "Cho"] {
            let account = app.account(name);
            let project = app.post("/api/projects", json!({"account": account, "name": "p"})).ok();
            let of = |environment: &str| {
                let more = [
                    json!({"environment": environment}),
                    json!({"environment": environment, "project": project["id"], "group": group["id"]}),
                ];
                more.map(|more| app.key(&account, more).0).to_vec()
            };
            let id: tallygate::id::AccountId = account.parse().unwrap();
            for (book, keys) in [(id.live_book(), of("live")), (id.test_book(), of("test"))] {
                let (account, book) = (account.clone(), AccountId(book));
                people.push(Person { account, book, keys, charged: Vec::new() });
            }
        }
        History {
            app,
            people,
            models,
            midnights: BTreeMap::new(),
            dice: Dice::new(seed),
            running: Vec::new(),
            n: 0,
        }
    }

    fn amount(&mut self) -> Nano {
        Nano(1 + self.dice.below(5_000_000_000) as i64)
    }

    fn execute(&self, command: &Command) {
        // What the books refuse is part of life: nothing left, too much refunded.
        let _refused = self.app.app().books.execute_blocking(command);
    }

    /// One thing happens.
    pub fn step(&mut self) {
        self.n += 1;
        let reference = Reference::new(format!("{}:{}", self.dice.of(&["order", "code", "ops"]), self.n));
        let at = self.dice.below(self.people.len() as u64) as usize;
        let account = self.people[at].book;
        let amount = self.amount();
        match self.dice.below(20) {
            0..4 => self.credit(account, amount, reference),
            4 => self.withdraw(account, amount, reference),
            5 => self.expire(account),
            6 if !self.people[at].charged.is_empty() => {
                let request = *self.dice.of(&self.people[at].charged);
                refund(self.app.app(), request, Nano(1 + amount.0 / 10), &reference.0);
            }
            7..16 => self.call(at, Nano(amount.0 / 8)),
            16 | 17 if !self.running.is_empty() => {
                let place = self.dice.below(self.running.len() as u64) as usize;
                self.running.swap_remove(place).release();
            }
            18 => {
                let hours = self.dice_hours();
                self.pass(hours * HOUR_MS);
            }
            _ => self.pass(17 * 60_000),
        }
    }

    fn dice_hours(&mut self) -> i64 {
        1 + self.dice.below(30) as i64
    }

    fn credit(&mut self, account: AccountId, amount: Nano, reference: Reference) {
        let sources = [
            CreditSource::Payment,
            CreditSource::Promotion,
            CreditSource::Compensation,
            CreditSource::Adjustment,
        ];
        let source = *self.dice.of(&sources);
        let granted = source == CreditSource::Promotion;
        let end = Timestamp(self.app.clock.now_ms() + self.dice_hours() * HOUR_MS);
        let ends = granted && self.dice.below(2) == 0;
        self.execute(&Command::Credit {
            account,
            lot: LotId(self.n),
            kind: if granted { LotKind::Granted } else { LotKind::Purchased },
            priority: 100,
            expires_at: ends.then_some(end),
            amount,
            source,
            reference,
        });
    }

    fn withdraw(&mut self, account: AccountId, amount: Nano, reference: Reference) {
        let kind = *self.dice.of(&[Withdrawal::Adjustment, Withdrawal::OrderRefund, Withdrawal::Chargeback]);
        let arrears = kind == Withdrawal::Chargeback;
        self.execute(&Command::Withdraw { account, kind, lot: None, amount, arrears, reference });
    }

    /// Writes off what has expired, one lot.
    fn expire(&mut self, account: AccountId) {
        let app = self.app.app();
        let (balance, now) = (app.books.balance(account), app.books.now());
        if let Some(lot) = balance.lots.iter().find(|lot| lot.is_expired(now)) {
            self.execute(&Command::Expire { account, lot: lot.id });
        }
    }

    fn call(&mut self, at: usize, amount: Nano) {
        let (key, model) = (self.dice.of(&self.people[at].keys).clone(), *self.dice.of(&self.models));
        let Some(call) = begin(self.app.app(), &key, model, amount) else { return };
        match self.dice.below(8) {
            0 => call.release(),
            1 => self.running.push(call),
            2 => drop(call.settle(Nano::ZERO)),
            _ => {
                // A little more than was held, sometimes.
                let charge = Nano(self.dice.below(amount.0.unsigned_abs() * 5 / 4) as i64);
                let request = call.settle(charge);
                let app = self.app.app();
                app.books.flush_blocking().unwrap();
                let stored = lookup::call(&app.books, &app.projections, request).unwrap().unwrap();
                if stored.charge.is_positive() {
                    self.people[at].charged.push(request);
                }
            }
        }
    }

    /// Time passes; what everybody has is noted at each midnight on the way.
    pub fn pass(&mut self, mut ms: i64) {
        while ms > 0 {
            let now_ms = self.app.clock.now_ms();
            let midnight = (now_ms.div_euclid(DAY_MS) + 1) * DAY_MS;
            let step = ms.min(midnight - now_ms);
            self.app.clock.advance_ms(step.unsigned_abs());
            ms -= step;
            if now_ms + step == midnight {
                let books = &self.app.app().books;
                for person in &self.people {
                    self.midnights.insert((person.book, midnight), books.balance(person.book));
                }
            }
        }
    }

    /// Closes everything and opens it again: what still ran is given back.
    pub fn restart(&mut self) {
        self.running.drain(..).for_each(Running::release);
        self.app.restart();
    }

    /// Throws the projections away and has them built again.
    pub fn rebuild(&mut self) {
        self.running.drain(..).for_each(Running::release);
        let app = Arc::clone(self.app.app());
        app.books.close_blocking();
        app.projections.clear().unwrap();
        drop(app);
        self.app.restart();
    }

    pub fn statement(&self, person: &Person, query: &str) -> Value {
        let test = person.book.book() == ledger::Book::Test;
        let environment = if test { "test" } else { "live" };
        let path = format!("/api/accounts/{}/statement?environment={environment}&{query}", person.account);
        self.app.get(&path).ok()
    }
}
