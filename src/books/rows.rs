//! What a record of the journal becomes for readers: rows of the log, movements, balances, and sums ([`super::sums`]).
//!
//! Promises: the same records give the same rows, whether they are projected as they come or rebuilt; rows of batches
//! that are taken together give what they would give one by one.

use hashbrown::{HashMap, HashSet};
use ledger::{AccountId, Balance, Effect, Held, HoldId, Ledger, LedgerError, Nano, Timestamp, total};
use smallvec::SmallVec;

use crate::gateway::facts::CallRecord;
use crate::store::{BalanceRow, MovementRow, ProjectedRows, RequestRow};

use super::encoding::{self, DecodeError};
use super::movement::{ChargeLine, Movement, MovementKind};
use super::projector::ChargeState;
use super::sums::{Called, Sums};

/// Days and months of every zone begin with a quarter of an hour.
const QUARTER_MS: i64 = 15 * 60 * 1_000;
/// Effects of one batch are numbered with so many bits.
const EFFECT_BITS: u32 = 20;
/// Charges in a row of movements, at the most.
const CHARGES_PER_ROW: usize = 256;

/// The number of the first movement that a batch can have.
pub fn first_seq(n: u64) -> u64 {
    n << EFFECT_BITS
}

/// One record as the maker needs it.
#[derive(Clone, Copy)]
pub struct Entry<'r> {
    pub effects: &'r [Effect],
    pub call: Option<&'r CallRecord>,
}

/// Makes rows of records in the order of the journal.
#[derive(Default)]
pub struct RowMaker {
    rows: ProjectedRows,
    sums: Sums,
    /// The quarter that the last effect fell into, and who had one in it.
    quarter_ms: i64,
    seen: HashSet<AccountId>,
}

/// Charges of one account in a row of one batch, not written yet.
type OpenCharges = HashMap<AccountId, (u64, Vec<ChargeLine>)>;

impl RowMaker {
    /// Applies a batch to the books and makes its rows. `called` answers for charges that are refunded in it.
    pub fn batch<'r>(
        &mut self,
        ledger: &mut Ledger,
        n: u64,
        entries: impl Iterator<Item = Entry<'r>>,
        called: &HashMap<HoldId, Called>,
    ) -> Result<(), LedgerError> {
        let mut seq = first_seq(n);
        let mut charges = OpenCharges::new();
        for entry in entries {
            let mut money: SmallVec<[Effect; 2]> = SmallVec::new();
            for effect in entry.effects {
                // The end of a hold that was written earlier: its receipt needs the hold too.
                if let Effect::Settled(_) | Effect::Released(_) = effect
                    && held(&money).is_none()
                    && let Some(hold) = effect.hold().and_then(|id| ledger.hold(id))
                {
                    money.insert(0, Effect::Held(hold.as_held()));
                }
                if self.balance(ledger, effect, seq) {
                    // A row of charges lies within one quarter.
                    self.close_charges(&mut charges, effect.account());
                }
                ledger.apply(effect)?;
                self.movement(&mut charges, seq, effect);
                self.sum(effect, held(&money), &entry, called);
                if !is_apart(effect) {
                    money.push(effect.clone());
                }
                seq += 1;
            }
            self.rows.requests.extend(entry.call.map(|call| request_row(call, &money)));
        }
        charges.into_iter().for_each(|(account, (seq, lines))| self.charges(account, seq, &lines));
        Ok(())
    }

    /// Rows that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.rows.len()
    }

    pub fn take(&mut self) -> ProjectedRows {
        let (costs, margins) = self.sums.take();
        ProjectedRows { costs, margins, ..std::mem::take(&mut self.rows) }
    }

    /// What is known of a call whose row waits to be taken.
    pub fn called(&self, hold: HoldId) -> Option<Called> {
        let row = self.rows.requests.iter().rev().find(|row| row.id == hold.0)?;
        encoding::decode_call(&row.facts).ok().as_ref().map(Called::of)
    }

    /// What an account has, before the first effect in a quarter of an hour; whether this is that effect.
    fn balance(&mut self, ledger: &Ledger, effect: &Effect, seq: u64) -> bool {
        let quarter_ms = effect.at().0.div_euclid(QUARTER_MS) * QUARTER_MS;
        if quarter_ms > self.quarter_ms {
            self.quarter_ms = quarter_ms;
            self.seen.clear();
        }
        let account = effect.account();
        let is_first = self.seen.insert(account);
        if is_first {
            let balance = ledger.balance(account, Timestamp(self.quarter_ms));
            self.rows.balances.push(balance_row(&balance, account, self.quarter_ms, seq));
        }
        is_first
    }

    fn movement(&mut self, charges: &mut OpenCharges, seq: u64, effect: &Effect) {
        let Some(movement) = Movement::of(effect) else { return };
        let account = effect.account();
        if let Effect::Settled(settled) = effect {
            let line = ChargeLine { hold: settled.hold, at: settled.at, charged: settled.charged() };
            let (_, lines) = charges.entry(account).or_insert_with(|| (seq, Vec::new()));
            lines.push(line);
            if lines.len() >= CHARGES_PER_ROW {
                self.close_charges(charges, account);
            }
            return;
        }
        // Charges that came before it stand before it.
        self.close_charges(charges, account);
        self.rows.movements.push(MovementRow {
            account: account.0,
            seq,
            at_ms: effect.at().0,
            kind: movement.kind as u8,
            amount: movement.amount.0,
            reference: movement.reference.to_owned(),
            body: encoding::encode_effects(std::slice::from_ref(effect)),
        });
    }

    fn close_charges(&mut self, charges: &mut OpenCharges, account: AccountId) {
        if let Some((seq, lines)) = charges.remove(&account) {
            self.charges(account, seq, &lines);
        }
    }

    fn charges(&mut self, account: AccountId, seq: u64, lines: &[ChargeLine]) {
        let Some(first) = lines.first() else { return };
        let sum = lines.iter().fold(Nano::ZERO, |sum, line| sum.saturating_add(line.charged));
        self.rows.movements.push(MovementRow {
            account: account.0,
            seq,
            at_ms: first.at.0,
            kind: MovementKind::Charge as u8,
            amount: sum.0.saturating_neg(),
            reference: String::new(),
            body: encoding::encode_charges(lines),
        });
    }

    /// What the sums make of an effect of a record.
    fn sum(
        &mut self,
        effect: &Effect,
        held: Option<&Held>,
        entry: &Entry<'_>,
        called: &HashMap<HoldId, Called>,
    ) {
        match effect {
            Effect::Settled(_) | Effect::Released(_) => {
                held.into_iter().for_each(|held| self.sums.ended(effect, held, entry.call, entry.effects));
            }
            Effect::Refunded(refund) => {
                let called = called.get(&refund.hold).cloned().or_else(|| self.called(refund.hold));
                self.sums.refunded(refund, called);
            }
            _ => {}
        }
    }
}

fn held(money: &[Effect]) -> Option<&Held> {
    money.iter().find_map(|effect| match effect {
        Effect::Held(held) => Some(held),
        _ => None,
    })
}

/// Whether it is no part of a call's receipt, but a movement that stands by itself.
fn is_apart(effect: &Effect) -> bool {
    matches!(effect, Effect::Credited(_) | Effect::Expired(_) | Effect::Refunded(_) | Effect::Withdrawn(_))
}

/// What an account has at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// All that it has: available, held and expired.
    pub balance: Nano,
    pub held: Nano,
    /// Expired and not yet written off.
    pub expired: Nano,
}

impl Standing {
    pub fn of(balance: &Balance, at: Timestamp) -> Self {
        let ended = balance.lots.iter().filter(|lot| lot.is_expired(at));
        Standing {
            balance: net(balance),
            held: balance.held,
            expired: ended.fold(Nano::ZERO, |sum, lot| sum.saturating_add(lot.available)),
        }
    }

    /// Negative while something is owed.
    pub fn available(&self) -> Nano {
        self.balance.saturating_sub(self.held).saturating_sub(self.expired)
    }

    /// As it was before some effects.
    pub fn before(mut self, effects: &[Effect]) -> Self {
        for effect in effects {
            if let Some(movement) = Movement::of(effect) {
                self.balance = self.balance.saturating_sub(movement.amount);
            }
            match effect {
                Effect::Held(held) => self.held = self.held.saturating_sub(held.amount),
                Effect::Settled(settled) => self.held = self.held.saturating_add(settled.held()),
                Effect::Released(released) => {
                    self.held = self.held.saturating_add(total(&released.returned));
                }
                Effect::Expired(expired) => self.expired = self.expired.saturating_add(expired.debit.amount),
                _ => {}
            }
        }
        self
    }

    /// At a moment between which and the row's own nothing happened.
    pub fn of_row(row: &BalanceRow, at: Timestamp) -> Result<Self, DecodeError> {
        let ends = encoding::decode_ends(&row.ends)?;
        let expired = ends.iter().filter(|(end, _)| *end <= at).map(|(_, amount)| *amount);
        let expired = expired.fold(Nano::ZERO, Nano::saturating_add);
        Ok(Standing { balance: Nano(row.balance), held: Nano(row.held), expired })
    }
}

fn net(balance: &Balance) -> Nano {
    Nano(i64::try_from(balance.families.net()).unwrap_or(i64::MAX))
}

fn balance_row(balance: &Balance, account: AccountId, at_ms: i64, seq: u64) -> BalanceRow {
    let ends: Vec<_> = balance.lots.iter().filter_map(|lot| Some((lot.expires_at?, lot.available))).collect();
    BalanceRow {
        account: account.0,
        at_ms,
        seq,
        balance: net(balance).0,
        held: balance.held.0,
        ends: encoding::encode_ends(&ends),
    }
}

fn request_row(call: &CallRecord, money: &[Effect]) -> RequestRow {
    let facts = &call.decided.facts;
    let credential = facts.credential.passed();
    let refusal = call.decided.refusal.as_ref().map(|refusal| refusal.code);
    let outcome = call.outcome.as_deref();
    let code = refusal.or_else(|| outcome.and_then(|outcome| outcome.code));
    let (state, charge) = ChargeState::of(money);
    let account = money.first().map(|effect| effect.account().0);
    RequestRow {
        id: facts.request.raw(),
        account: account.or(credential.map(|credential| credential.account.raw())).unwrap_or(0),
        key: credential.map_or(0, |credential| credential.key.raw()),
        at_ms: facts.at_ms,
        status: call.status(),
        code: code.map_or(0, |code| code.number()),
        state: state as u8,
        charge: charge.0,
        facts: encoding::encode_call(call),
        money: encoding::encode_effects(money),
    }
}
