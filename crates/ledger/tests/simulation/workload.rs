//! Random commands, most of them sensible, many at an edge, some of them nonsense. What it knows of the books
//! (open holds, charges, what has posted) it learns from the effects, and forgets again in a crash.

use std::collections::BTreeMap;

use ledger::{
    AccountId, Book, ChargeRecord, Command, CreditSource, Effect, Held, HoldId, HoldOwner, LayerHold, Ledger,
    LotId, LotKind, Metric, Nano, Reference, ReleaseReason, Timestamp, WindowInstance, Withdrawal,
};

use crate::calendar::Calendar;
use crate::limits::{Limit, limit_value, limits};
use crate::random::Random;
use crate::rounding;

const DAY_MS: i64 = 86_400_000;

#[derive(Clone, Debug)]
struct Customer {
    account: AccountId,
    zone: usize,
    limits: Vec<Limit>,
}

/// What can be learnt from effects.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    pub open: BTreeMap<HoldId, Held>,
    charges: Vec<ChargeRecord>,
    posted: Vec<Command>,
}

pub struct Workload {
    pub random: Random,
    /// The clock on the wall, which need not be the books' time.
    pub clock: i64,
    pub epoch: u64,
    pub learnt: Learnt,
    customers: Vec<Customer>,
    /// Size of an amount: small numbers meet often, huge ones reach the end of what can be counted.
    unit: i64,
    /// Open holds above which no more are sought.
    crowd: usize,
    next: u64,
}

impl Learnt {
    pub fn learn(&mut self, command: &Command, effect: &Effect) {
        match effect {
            Effect::Held(held) => {
                self.open.insert(held.hold, held.clone());
            }
            Effect::Released(released) => {
                self.open.remove(&released.hold);
            }
            Effect::Settled(settled) => {
                if let Some(held) = self.open.remove(&settled.hold) {
                    let debits = settled.debits.iter().chain(&settled.overrun).copied().collect();
                    let (hold, account, layers) = (held.hold, held.account, held.layers);
                    self.charges.push(ChargeRecord { hold, account, debits, layers });
                }
            }
            Effect::Credited(_) | Effect::Refunded(_) | Effect::Withdrawn(_) => {
                self.posted.push(command.clone())
            }
            Effect::Expired(_) | Effect::CostAccrued(_) => {}
        }
    }
}

impl Workload {
    pub fn new(seed: u64, calendar: &Calendar) -> Self {
        let mut random = Random::new(seed);
        let unit = match random.below(10) {
            0 => i64::MAX / 400,
            1 | 2 => 10_000_000,
            _ => 1,
        };
        let clock = 1_767_225_600_000 + random.between(0, 3 * 365) * DAY_MS + random.between(0, DAY_MS);
        let crowd = 1 + random.below(40);
        let mut customers = Vec::new();
        for number in 1..=3 {
            for book in Book::ALL {
                let account = AccountId(number).in_book(book);
                let zone = random.below(calendar.zones());
                let limits = limits(&mut random, account, unit);
                customers.push(Customer { account, zone, limits });
            }
        }
        Workload { random, clock, epoch: 1, learnt: Learnt::default(), customers, unit, crowd, next: 0 }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// 0 … `most` units, more or less a nano-unit.
    fn amount(&mut self, most: i64) -> i64 {
        let units = self.random.between(0, most);
        let off = if self.unit > 1 { self.random.between(-1, 1) } else { 0 };
        let amount = i128::from(units) * i128::from(self.unit) + i128::from(off);
        amount.clamp(0, i128::from(i64::MAX)) as i64
    }

    /// Time goes on, mostly by little; sometimes the clock is set, either way.
    fn pass_time(&mut self) {
        let random = &mut self.random;
        self.clock += match random.below(1_000) {
            0..700 => random.between(0, 5_000),
            700..900 => random.between(0, 600_000),
            900..970 => random.between(0, DAY_MS / 4),
            970..985 => random.between(0, 2 * DAY_MS),
            985..988 => random.between(0, 40 * DAY_MS),
            988..997 => -random.between(0, DAY_MS / 12),
            _ => -random.between(0, 5 * DAY_MS),
        };
        let customer = random.below(self.customers.len());
        let Some(customer) = self.customers.get_mut(customer) else { return };
        if random.per_mille(2) {
            customer.zone = random.below(10);
        }
        let limit = random.below(customer.limits.len());
        if let Some(limit) = customer.limits.get_mut(limit).filter(|limit| limit.moves)
            && random.percent(10)
        {
            limit.limit = limit_value(random, limit.key, self.unit);
        }
    }

    /// The next thing that somebody asks of the books.
    pub fn command(&mut self, ledger: &Ledger, calendar: &mut Calendar) -> Result<Command, String> {
        self.pass_time();
        let choice = self.random.below(100);
        // Now few holds are open, now many.
        let few = self.learnt.open.len() < self.random.below(self.crowd);
        Ok(match choice {
            38..66 if few => self.reserve(ledger, calendar),
            0..38 => self.reserve(ledger, calendar),
            38..60 => self.settle()?,
            60..66 => self.release(),
            66..78 => self.credit(),
            78..83 => self.expire(ledger),
            83..91 => self.refund(ledger),
            91..95 => self.withdraw(ledger),
            95..97 => self.cost(),
            _ => self.again(),
        })
    }

    fn customer(&mut self) -> Customer {
        let index = self.random.below(self.customers.len());
        self.customers[index].clone()
    }

    fn reserve(&mut self, ledger: &Ledger, calendar: &mut Calendar) -> Command {
        let customer = self.customer();
        let available = ledger.brief_balance(customer.account, Timestamp(self.clock)).available.0;
        let amount = match self.random.below(20) {
            0 => 0,
            1 => available.max(0),
            2 => available.saturating_add(1).max(0),
            3 => -self.random.between(1, 9),
            _ => self.amount(30),
        };
        let overdraft = match self.random.below(20) {
            0..15 => 0,
            15..19 => self.amount(60),
            _ => -self.random.between(0, 3),
        };
        // Who asks knows the books' time, or lags a little behind it, or is wrong.
        let now = self.clock.max(ledger.now().0);
        let at = match self.random.below(40) {
            0..36 => now,
            36..39 => now - self.random.between(0, 3_000_000),
            _ => now - self.random.between(0, 60 * DAY_MS),
        };
        let mut layers = Vec::new();
        for limit in &customer.limits {
            if self.random.percent(75) {
                let window = calendar.window(limit.key.window, at, customer.zone);
                let calls = self.random.between(0, 2);
                let amount = if limit.key.metric == Metric::Spend { amount } else { calls };
                layers.push(LayerHold { counter: limit.key, window, limit: limit.limit, amount });
            }
        }
        self.spoil(&mut layers);
        let hold = match self.learnt.open.keys().next() {
            Some(open) if self.random.percent(1) => *open,
            _ => HoldId(u128::from(self.number())),
        };
        let owner = if self.random.percent(85) { HoldOwner::Process(self.epoch) } else { HoldOwner::Task(7) };
        let (amount, overdraft) = (Nano(amount), Nano(overdraft));
        let account = customer.account;
        Command::Reserve { hold, account, amount, overdraft, layers: layers.into(), owner }
    }

    /// One reservation in fifty asks for nonsense.
    fn spoil(&mut self, layers: &mut Vec<LayerHold>) {
        if layers.is_empty() || !self.random.percent(2) {
            return;
        }
        let index = self.random.below(layers.len());
        let layer = layers[index];
        match self.random.below(4) {
            0 => layers.push(layer),
            1 => layers[index].amount += 1,
            2 => layers[index].amount = -1,
            _ => {
                // Another instance of the same counter in the same hold.
                let window = WindowInstance {
                    start: Timestamp(layer.window.start.0.saturating_sub(1)),
                    ..layer.window
                };
                layers.push(LayerHold { window, ..layer });
            }
        }
    }

    fn some_hold(&mut self) -> (HoldId, i64) {
        let open: Vec<_> = self.learnt.open.values().map(|held| (held.hold, held.amount.0)).collect();
        match self.random.pick(&open) {
            Some(open) if !self.random.percent(2) => *open,
            _ => (HoldId(u128::from(self.random.next() % 3_000)), 10),
        }
    }

    fn settle(&mut self) -> Result<Command, String> {
        let (hold, held) = self.some_hold();
        let charge = match self.random.below(20) {
            0..2 => 0,
            2..8 => self.random.between(0, held),
            8..12 => held,
            12 => rounding::priced(&mut self.random)?.0,
            13 => -self.random.between(1, 5),
            14 => i64::MAX - self.amount(1),
            15 => held.saturating_add(1),
            _ => held.saturating_add(self.amount(40)),
        };
        Ok(Command::Settle { hold, charge: Nano(charge) })
    }

    fn release(&mut self) -> Command {
        let reasons = [ReleaseReason::UpstreamFailed, ReleaseReason::Cancelled, ReleaseReason::GatewayFault];
        Command::Release { hold: self.some_hold().0, reason: reasons[self.random.below(3)] }
    }

    fn credit(&mut self) -> Command {
        let random = &mut self.random;
        let kind = match random.below(50) {
            0 => LotKind::Overdraft,
            1..25 => LotKind::Granted,
            _ => LotKind::Purchased,
        };
        let ends_in = match random.below(20) {
            0..8 => None,
            8..14 => Some(random.between(0, 2 * DAY_MS)),
            14..19 => Some(random.between(0, 60 * DAY_MS)),
            _ => Some(-random.between(0, DAY_MS)),
        };
        let sources = [
            CreditSource::Promotion,
            CreditSource::Payment,
            CreditSource::Payment,
            CreditSource::Compensation,
            CreditSource::Adjustment,
        ];
        let source = sources[random.below(sources.len())];
        let priority = random.below(3) as u8;
        let lot = if random.percent(2) { LotId(random.next() % 40) } else { LotId(1_000 + self.number()) };
        let amount = if self.random.percent(2) { -self.amount(3) } else { self.amount(120) };
        Command::Credit {
            account: self.customer().account,
            lot,
            kind,
            priority,
            expires_at: ends_in.map(|ms| Timestamp(self.clock + ms)),
            amount: Nano(amount),
            source,
            reference: self.reference("order"),
        }
    }

    fn reference(&mut self, of: &str) -> Reference {
        Reference::new(format!("{of}:{}", self.number()))
    }

    fn expire(&mut self, ledger: &Ledger) -> Command {
        let account = self.customer().account;
        let now = Timestamp(self.clock).max(ledger.now());
        let lots = ledger.balance(account, now).lots;
        let ended: Vec<_> = lots.iter().filter(|lot| lot.is_expired(now)).copied().collect();
        let lot = if self.random.percent(80) { self.random.pick(&ended) } else { self.random.pick(&lots) };
        Command::Expire { account, lot: lot.map_or(LotId(3), |lot| lot.id) }
    }

    fn refund(&mut self, ledger: &Ledger) -> Command {
        let charges = &self.learnt.charges;
        let recent = charges.len().saturating_sub(if self.random.percent(70) { 30 } else { usize::MAX });
        let Some(charge) = self.random.pick(&charges[recent..]).cloned() else { return self.credit() };
        let charged: i64 = charge.debits.iter().map(|debit| debit.amount.0).sum();
        let left = charged.saturating_sub(ledger.refunded(charge.hold).0);
        let amount = match self.random.below(10) {
            0..4 => left,
            4..8 => self.random.between(1, left.max(1)),
            8 => left.saturating_add(1),
            _ => self.random.between(-1, 2),
        };
        Command::Refund { charge, amount: Nano(amount), reference: self.reference("callback") }
    }

    fn withdraw(&mut self, ledger: &Ledger) -> Command {
        let account = self.customer().account;
        let balance = ledger.balance(account, Timestamp(self.clock));
        let named =
            if self.random.percent(60) { self.random.pick(&balance.lots).map(|lot| lot.id) } else { None };
        let lot = if self.random.percent(3) { Some(LotId(5)) } else { named };
        let amount = match self.random.below(4) {
            0 => balance.available.0,
            1 => balance.available.0.saturating_add(1),
            _ => self.amount(60),
        };
        let kinds = [Withdrawal::Adjustment, Withdrawal::OrderRefund, Withdrawal::Chargeback];
        Command::Withdraw {
            account,
            kind: kinds[self.random.below(3)],
            lot,
            amount: Nano(amount),
            arrears: self.random.percent(30),
            reference: self.reference("back"),
        }
    }

    fn cost(&mut self) -> Command {
        let (hold, amount) = (self.some_hold().0, Nano(self.amount(5) - 1));
        Command::AccrueUpstreamCost { account: self.customer().account, hold, amount }
    }

    /// Something that posted before is asked again: in the same words, or in others.
    fn again(&mut self) -> Command {
        let Some(mut command) = self.random.pick(&self.learnt.posted).cloned() else { return self.credit() };
        let change = self.random.percent(40);
        let number = self.number();
        match &mut command {
            Command::Credit { amount, lot, .. } => {
                lot.0 = 1_000 + number;
                amount.0 = if change { amount.0.saturating_sub(1).max(1) } else { amount.0 };
            }
            Command::Withdraw { arrears, .. } => *arrears ^= change,
            Command::Refund { amount, .. } => {
                amount.0 = if change { amount.0.saturating_add(1) } else { amount.0 };
            }
            _ => {}
        }
        command
    }
}
