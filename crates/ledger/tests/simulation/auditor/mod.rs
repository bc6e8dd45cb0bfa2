//! The auditor: the books once more, as plain lists and by the longest way, to foretell every outcome. It
//! shares nothing with the ledger but the words (plain data types). What the ledger sums, it keeps as a list
//! of postings; what the ledger stores twice, it works out from the open holds.

mod calls;
mod compare;
mod funds;
mod posting;

use std::collections::{BTreeMap, BTreeSet};

use ledger::{
    AccountId, Book, Command, CounterKey, Debit, Effect, Held, HoldId, LedgerError, Lot, LotId, LotKind,
    Nano, Timestamp,
};

use crate::figures::kind;

pub const LARGEST: i128 = i64::MAX as i128;
/// Of counters and debts.
pub const CEILING: i128 = LARGEST / 2;
/// How long after its end a window is remembered at least.
const REMEMBERED_MS: i64 = 3_600_000;

pub type Outcome = Result<Effect, LedgerError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Credits,
    ChargeRefunds,
    Compensation,
    Adjustments,
    Charges,
    Expiries,
    OrderRefunds,
    Chargebacks,
}

/// A lot with everything that ever moved in or out of it; never forgotten.
#[derive(Clone, Debug)]
pub struct AuditLot {
    pub id: LotId,
    pub kind: LotKind,
    pub priority: u8,
    pub end: Option<Timestamp>,
    pub moves: Vec<i64>,
}

#[derive(Clone, Debug, Default)]
pub struct AuditAccount {
    pub lots: Vec<AuditLot>,
    /// What became owed, and what was paid of it.
    pub debts: Vec<i64>,
    pub events: Vec<(Family, i64)>,
    /// Highest overdraft that any hold declared, and all arrears: nobody may owe more.
    pub overdraft: i128,
    pub arrears: i128,
}

/// One instance of a counter's window.
#[derive(Clone, Debug)]
pub struct AuditWindow {
    pub start: Timestamp,
    pub end: Timestamp,
    pub used: Vec<i64>,
    /// The limit of all holds so far, while it was always the same.
    pub limit: Option<i64>,
    pub limit_changed: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Auditor {
    pub now: Timestamp,
    pub accounts: BTreeMap<AccountId, AuditAccount>,
    /// An account that nothing is known of.
    nobody: AuditAccount,
    pub holds: BTreeMap<HoldId, Held>,
    pub counters: BTreeMap<CounterKey, Vec<AuditWindow>>,
    /// What each reference stood for, in words.
    pub posted: BTreeMap<String, String>,
    pub refunds: BTreeMap<HoldId, Vec<i64>>,
    /// The platform's accounts, in the order in which a dump lists them.
    pub platform: BTreeMap<(Book, usize), i128>,
    /// Broken rules that a commit came upon.
    pub findings: Vec<String>,
}

impl AuditLot {
    pub fn left(&self) -> i128 {
        self.moves.iter().map(|amount| i128::from(*amount)).sum()
    }

    pub fn ended(&self, now: Timestamp) -> bool {
        matches!(self.end, Some(end) if now >= end)
    }

    /// Granted first; lower priority, nearer end, lower number first.
    fn turn(&self) -> (bool, u8, bool, Option<Timestamp>, LotId) {
        (self.kind != LotKind::Granted, self.priority, self.end.is_none(), self.end, self.id)
    }

    pub fn part(&self, amount: i128) -> Debit {
        Debit {
            lot: self.id,
            kind: self.kind,
            priority: self.priority,
            expires_at: self.end,
            amount: nano(amount),
        }
    }
}

impl AuditAccount {
    pub fn sum(&self, family: Family) -> i128 {
        self.events.iter().filter(|(of, _)| *of == family).map(|(_, amount)| i128::from(*amount)).sum()
    }

    pub fn owed(&self) -> i128 {
        self.debts.iter().map(|amount| i128::from(*amount)).sum()
    }

    /// Lots that can be spent from, in turn, each with what is left.
    pub fn spendable(&self, now: Timestamp) -> Vec<(&AuditLot, i128)> {
        let lots = self.lots.iter().filter(|lot| !lot.ended(now)).map(|lot| (lot, lot.left()));
        let mut lots: Vec<_> = lots.filter(|(_, left)| *left > 0).collect();
        lots.sort_by_key(|(lot, _)| lot.turn());
        lots
    }

    pub fn available(&self, now: Timestamp) -> i128 {
        self.spendable(now).iter().map(|(_, left)| *left).sum::<i128>() - self.owed()
    }

    /// The lot of this name that the books still know: with money in it, or in a hold.
    pub fn lot(&self, id: LotId, held: &BTreeMap<LotId, i128>) -> Option<&AuditLot> {
        let live = |lot: &&AuditLot| lot.id == id && (lot.left() != 0 || held.contains_key(&id));
        self.lots.iter().rev().find(live)
    }
}

impl AuditWindow {
    pub fn used(&self) -> i128 {
        self.used.iter().map(|amount| i128::from(*amount)).sum()
    }
}

impl Auditor {
    /// What must come of a command. A lot that a refund opens has a made-up number (from `u64::MAX` down),
    /// and fingerprints are 0: those are the ledger's own business; see [`Self::agrees`].
    pub fn foretell(&self, command: &Command, clock: Timestamp) -> Outcome {
        let now = clock.max(self.now);
        match command {
            Command::Reserve { hold, account, amount, overdraft, layers, owner } => {
                let wish = Held {
                    hold: *hold,
                    account: *account,
                    at: now,
                    amount: *amount,
                    overdraft: *overdraft,
                    owner: *owner,
                    debits: Default::default(),
                    layers: Default::default(),
                };
                self.reserve(wish, layers)
            }
            Command::Settle { hold, charge } => self.settle(*hold, *charge, now),
            Command::Release { hold, reason } => self.release(*hold, *reason, now),
            Command::Credit { .. } => self.credit(command, now),
            Command::Expire { account, lot } => self.expire(*account, *lot, now),
            Command::Refund { charge, amount, reference } => self.refund(charge, *amount, reference, now),
            Command::Withdraw { .. } => self.withdraw(command, now),
            Command::AccrueUpstreamCost { account, hold, amount } => {
                if amount.0 < 0 {
                    return Err(LedgerError::BadAmount { amount: *amount });
                }
                let (account, hold, amount) = (*account, *hold, *amount);
                Ok(Effect::CostAccrued(ledger::CostAccrued { account, hold, at: now, amount }))
            }
        }
    }

    pub fn account(&self, id: AccountId) -> &AuditAccount {
        self.accounts.get(&id).unwrap_or(&self.nobody)
    }

    /// What open holds have of each lot; the overdraft is lot 0.
    pub fn held_of_lots(&self, account: AccountId) -> BTreeMap<LotId, i128> {
        let mut held = BTreeMap::new();
        for hold in self.holds.values().filter(|hold| hold.account == account) {
            for debit in &hold.debits {
                *held.entry(debit.lot).or_default() += i128::from(debit.amount.0);
            }
        }
        held
    }

    pub fn held(&self, account: AccountId) -> i128 {
        let holds = self.holds.values().filter(|hold| hold.account == account);
        holds.map(|hold| i128::from(hold.amount.0)).sum()
    }

    pub fn held_of_layer(&self, key: &CounterKey, start: Timestamp) -> i128 {
        let layers = self.holds.values().flat_map(|hold| &hold.layers);
        let same = layers.filter(|layer| layer.counter == *key && layer.window.start == start);
        same.map(|layer| i128::from(layer.amount)).sum()
    }

    pub fn window(&self, key: &CounterKey, start: Timestamp) -> Option<&AuditWindow> {
        self.counters.get(key)?.iter().find(|window| window.start == start)
    }

    pub fn refunded(&self, charge: HoldId) -> i128 {
        self.refunds.get(&charge).into_iter().flatten().map(|amount| i128::from(*amount)).sum()
    }

    /// What pays `amount`, lot by lot; what no lot pays is owed.
    pub fn draw(account: &AuditAccount, amount: i128, now: Timestamp, but: Option<LotId>) -> Vec<Debit> {
        let mut missing = amount;
        let mut parts = Vec::new();
        for (lot, left) in account.spendable(now) {
            if missing > 0 && Some(lot.id) != but {
                parts.push(lot.part(left.min(missing)));
                missing -= left.min(missing);
            }
        }
        if missing > 0 {
            let (lot, kind) = (LotId(0), LotKind::Overdraft);
            parts.push(Debit { lot, kind, priority: 0, expires_at: None, amount: nano(missing) });
        }
        parts
    }

    /// Whether the ledger's answer is the foretold one, but for what only the ledger can know.
    pub fn agrees(&self, foretold: &Outcome, actual: &Outcome) -> Result<(), String> {
        let differs = || {
            let (own, other) = (kind(foretold), kind(actual));
            format!(
                "outcome: {own} foretold, {other} planned\n  auditor: {foretold:?}\n  ledger:  {actual:?}"
            )
        };
        let mut foretold_now = foretold.clone();
        match (&mut foretold_now, actual) {
            (Ok(Effect::Credited(own)), Ok(Effect::Credited(other))) => own.content = other.content,
            (Ok(Effect::Withdrawn(own)), Ok(Effect::Withdrawn(other))) => own.content = other.content,
            (Ok(Effect::Refunded(own)), Ok(Effect::Refunded(other))) => {
                own.content = other.content;
                let known: BTreeSet<LotId> =
                    self.account(own.account).lots.iter().map(|lot| lot.id).collect();
                let mut new = BTreeSet::new();
                for (credit, answer) in own.credits.iter_mut().zip(&other.credits) {
                    if credit.lot.0 > u64::MAX - 16 {
                        if known.contains(&answer.lot) || answer.lot.0 == 0 || !new.insert(answer.lot) {
                            return Err(format!("a refund opens {:?}, which is not new", answer.lot));
                        }
                        credit.lot = answer.lot;
                    }
                }
            }
            _ => {}
        }
        if foretold_now == *actual { Ok(()) } else { Err(differs()) }
    }
}

/// The books' own list of an account's lots.
pub fn live_lots(account: &AuditAccount, held: &BTreeMap<LotId, i128>) -> Vec<Lot> {
    let mut live: Vec<(&AuditLot, (i128, i128))> = Vec::new();
    for lot in account.lots.iter().rev() {
        // What is held of a number belongs to the last lot that bears it.
        let older = live.iter().any(|(newer, _)| newer.id == lot.id);
        let held = held.get(&lot.id).filter(|_| !older).copied().unwrap_or_default();
        if lot.left() != 0 || held != 0 {
            live.push((lot, (lot.left(), held)));
        }
    }
    live.sort_by_key(|(lot, _)| lot.turn());
    let lot = |(lot, (left, held)): (&AuditLot, (i128, i128))| Lot {
        id: lot.id,
        kind: lot.kind,
        priority: lot.priority,
        expires_at: lot.end,
        available: nano(left),
        held: nano(held),
    };
    live.into_iter().map(lot).collect()
}

/// An amount that the rules say must fit.
pub fn nano(amount: i128) -> Nano {
    Nano(i64::try_from(amount).expect("the auditor's own sum fits"))
}
