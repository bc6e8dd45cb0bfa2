//! A statement (对账单): what an account had when a period began, every movement in it, and what it had at its end (B6).
//!
//! Promises: opening and closing are what the books had, recorded apart from the movements; a statement whose movements
//! do not lead from the one to the other is an error and never shown as whole. Lines are read in portions, so a month of
//! any size takes the same memory.
//! Must never: read the journal, or hold a connection while nobody reads on.

use std::collections::VecDeque;
use std::fmt;

use ledger::{AccountId, Effect, HoldId, LotId, Nano, Timestamp};

use crate::store::{MovementRow, Projections, StoreError};

use super::encoding::{self, DecodeError};
use super::movement::{Family, MovementKind};
use super::{Books, rows};

pub use super::rows::Standing;

/// Rows read at once.
const ROWS_AT_ONCE: u32 = 128;

/// A span of time: from `from`, and before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// See the module. Lines are read from it.
#[derive(Clone, Debug)]
pub struct Statement {
    pub account: AccountId,
    pub span: Span,
    pub opening: Standing,
    pub closing: Standing,
    /// Whether the period was over when it was made; else it ends now.
    pub is_complete: bool,
    from_seq: u64,
    to_seq: u64,
}

/// One movement on a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Timestamp,
    pub kind: MovementKind,
    /// As the account sees it: what is taken is negative.
    pub amount: Nano,
    /// What the account had after it.
    pub balance: Nano,
    /// The name from outside that it was posted under, or empty.
    pub reference: String,
    /// The call that was charged or refunded.
    pub hold: Option<HoldId>,
    /// The lot that a credit opened or that expired.
    pub lot: Option<LotId>,
}

/// The sum of each kind of movement, as the account sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    kinds: [i128; MovementKind::ALL.len()],
    pub lines: u64,
}

#[derive(Debug)]
pub enum StatementError {
    Store(StoreError),
    Decode(DecodeError),
    /// Opening, movements and closing do not fit together.
    Unbalanced {
        account: AccountId,
        off_by: i128,
    },
}

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatementError::Store(why) => write!(f, "the movements cannot be read: {why}"),
            StatementError::Decode(why) => write!(f, "a movement cannot be understood: {why}"),
            StatementError::Unbalanced { account, off_by } => {
                write!(f, "the statement of account {} does not close: {off_by} nano-units", account.0)
            }
        }
    }
}

impl std::error::Error for StatementError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StatementError::Store(why) => Some(why),
            StatementError::Decode(why) => Some(why),
            StatementError::Unbalanced { .. } => None,
        }
    }
}

impl From<StoreError> for StatementError {
    fn from(why: StoreError) -> Self {
        StatementError::Store(why)
    }
}

impl From<DecodeError> for StatementError {
    fn from(why: DecodeError) -> Self {
        StatementError::Decode(why)
    }
}

impl Sums {
    pub fn add(&mut self, kind: MovementKind, amount: Nano) {
        if let Some(sum) = self.kinds.get_mut(kind as usize - 1) {
            *sum += i128::from(amount.0);
        }
    }

    /// As the account sees it.
    pub fn of_kind(&self, kind: MovementKind) -> Nano {
        nano(self.kinds.get(kind as usize - 1).copied().unwrap_or(0))
    }

    /// As the formula of B5 has it: positive for all but adjustments.
    pub fn of_family(&self, family: Family) -> Nano {
        let kinds = MovementKind::ALL.into_iter().filter(|kind| kind.family() == family);
        let sum: i128 = kinds.map(|kind| i128::from(self.of_kind(kind).0)).sum();
        nano(if family.is_taken() { -sum } else { sum })
    }

    fn net(&self) -> i128 {
        self.kinds.iter().sum()
    }
}

fn nano(sum: i128) -> Nano {
    Nano(i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }))
}

impl Statement {
    /// The numbers of its movements, from the first to that behind the last.
    pub fn movements(&self) -> (u64, u64) {
        (self.from_seq, self.to_seq)
    }

    /// Works out opening and closing. What is on disk and not projected yet is not part of it. Blocks on the store.
    pub fn of(
        books: &Books,
        projections: &Projections,
        account: AccountId,
        span: Span,
    ) -> Result<Self, StatementError> {
        let now = books.now();
        // The books first: what is projected meanwhile is then found among the rows.
        let (n, balance, later) = books.projected_balance(account);
        let present = rows::first_seq(n + 1);
        let at = |moment: Timestamp| -> Result<(Standing, u64), StatementError> {
            Ok(match projections.balance_from(account.0, moment.0)? {
                Some(row) => (Standing::of_row(&row, moment)?, row.seq),
                None => (Standing::of(&balance, moment.min(now)).before(&later), present),
            })
        };
        let (opening, from_seq) = at(span.from)?;
        let (closing, to_seq) = at(span.to)?;
        let is_complete = span.to <= now;
        Ok(Statement { account, span, opening, closing, is_complete, from_seq, to_seq })
    }

    /// The sums alone, without reading the lines one by one.
    pub fn sums(&self, projections: &Projections) -> Result<Sums, StatementError> {
        let mut sums = Sums::default();
        for (kind, amount) in projections.movement_sums(self.account.0, self.from_seq, self.to_seq)? {
            sums.add(kind_of(kind)?, Nano(amount));
        }
        self.check(&sums)?;
        Ok(sums)
    }

    /// The movements, oldest first.
    pub fn lines(&self) -> Lines {
        Lines {
            account: self.account,
            next_seq: self.from_seq,
            to_seq: self.to_seq,
            rows: VecDeque::new(),
            lines: VecDeque::new(),
            balance: self.opening.balance,
            sums: Sums::default(),
        }
    }

    /// Opening and movements must give the closing.
    pub fn check(&self, sums: &Sums) -> Result<(), StatementError> {
        let off_by = i128::from(self.opening.balance.0) + sums.net() - i128::from(self.closing.balance.0);
        match off_by {
            0 => Ok(()),
            off_by => Err(StatementError::Unbalanced { account: self.account, off_by }),
        }
    }
}

/// The movements of a statement, read in portions.
#[derive(Debug)]
pub struct Lines {
    account: AccountId,
    next_seq: u64,
    to_seq: u64,
    rows: VecDeque<MovementRow>,
    lines: VecDeque<Line>,
    balance: Nano,
    sums: Sums,
}

impl Lines {
    /// What was read so far.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The next movement; `None` at the end. Blocks on the store.
    pub fn next(&mut self, projections: &Projections) -> Result<Option<Line>, StatementError> {
        while self.lines.is_empty() {
            if self.rows.is_empty() {
                let rows =
                    projections.movements_from(self.account.0, self.next_seq, self.to_seq, ROWS_AT_ONCE)?;
                self.rows = rows.into();
            }
            let Some(row) = self.rows.pop_front() else { return Ok(None) };
            self.next_seq = row.seq + 1;
            self.expand(row)?;
        }
        let Some(mut line) = self.lines.pop_front() else { return Ok(None) };
        self.balance = self.balance.saturating_add(line.amount);
        line.balance = self.balance;
        self.sums.add(line.kind, line.amount);
        self.sums.lines += 1;
        Ok(Some(line))
    }

    fn expand(&mut self, row: MovementRow) -> Result<(), StatementError> {
        let kind = kind_of(row.kind)?;
        let line = |at, amount, reference, hold, lot| Line {
            at,
            kind,
            amount,
            balance: Nano::ZERO,
            reference,
            hold,
            lot,
        };
        if kind == MovementKind::Charge {
            let charges = encoding::decode_charges(&row.body)?;
            let of_charge = |charge: super::movement::ChargeLine| {
                let taken = Nano(charge.charged.0.saturating_neg());
                line(charge.at, taken, String::new(), Some(charge.hold), None)
            };
            self.lines.extend(charges.into_iter().map(of_charge));
            return Ok(());
        }
        let effects = encoding::decode_effects(&row.body)?;
        let (hold, lot) = match effects.first() {
            Some(Effect::Credited(credit)) => (None, Some(credit.lot)),
            Some(Effect::Expired(expired)) => (None, Some(expired.debit.lot)),
            Some(Effect::Refunded(refund)) => (Some(refund.hold), None),
            _ => (None, None),
        };
        self.lines.push_back(line(Timestamp(row.at_ms), Nano(row.amount), row.reference, hold, lot));
        Ok(())
    }
}

fn kind_of(code: u8) -> Result<MovementKind, DecodeError> {
    MovementKind::from_code(code)
        .ok_or(DecodeError::Unknown { what: "kind of movement", value: u64::from(code) })
}
