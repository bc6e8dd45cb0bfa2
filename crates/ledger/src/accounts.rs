//! A customer's account: its lots, what it owes, and the sums of every family of movement.

use crate::command::CreditSource;
use crate::effect::{Debit, Debits};
use crate::ids::{LotId, Timestamp};
use crate::lots::{Lot, LotKind, OVERDRAFT};
use crate::money::Nano;
use crate::plant::planted;

/// What an account has, in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Spendable now; negative while the account is overdrawn.
    pub available: Nano,
    pub granted: Nano,
    pub purchased: Nano,
    /// Owed: overdraft that was used, or arrears.
    pub owed: Nano,
    /// Part of open holds.
    pub held: Nano,
    /// Expired but not yet written off.
    pub expired: Nano,
    /// In the order in which they are spent.
    pub lots: Vec<Lot>,
    pub families: Families,
}

/// The two figures that a decision needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BriefBalance {
    pub available: Nano,
    pub held: Nano,
}

/// Sums of all that ever moved, by family. All positive but adjustments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    pub credits: Nano,
    pub charge_refunds: Nano,
    pub compensation: Nano,
    pub adjustments: Nano,
    pub charges: Nano,
    pub expiries: Nano,
    pub order_refunds: Nano,
    pub chargebacks: Nano,
}

impl Families {
    /// The sum that a credit adds to.
    pub(crate) fn of(&self, source: CreditSource) -> Nano {
        match source {
            CreditSource::Promotion | CreditSource::Payment => self.credits,
            CreditSource::Compensation => self.compensation,
            CreditSource::Adjustment => self.adjustments,
        }
    }

    pub(crate) fn credit(&mut self, source: CreditSource, amount: Nano) {
        let family = match source {
            CreditSource::Promotion | CreditSource::Payment => &mut self.credits,
            CreditSource::Compensation => &mut self.compensation,
            CreditSource::Adjustment => &mut self.adjustments,
        };
        *family = family.saturating_add(amount);
    }

    /// What the account must have, available and held together (invariant I2).
    pub fn net(&self) -> i128 {
        let sum = |amounts: &[Nano]| amounts.iter().map(|amount| i128::from(amount.0)).sum::<i128>();
        sum(&[self.credits, self.charge_refunds, self.compensation, self.adjustments])
            - sum(&[self.charges, self.expiries, self.order_refunds, self.chargebacks])
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// In the order in which they are spent.
    pub lots: Vec<Lot>,
    /// Overdraft in use, or arrears.
    pub owed: Nano,
    /// The part of it that belongs to open holds and may still be given back.
    pub owed_held: Nano,
    pub held: Nano,
    pub families: Families,
}

impl Account {
    pub fn brief(&self, now: Timestamp) -> BriefBalance {
        let spendable = self.lots.iter().fold(Nano::ZERO, |sum, lot| sum.saturating_add(lot.spendable(now)));
        BriefBalance { available: spendable.saturating_sub(self.owed), held: self.held }
    }

    pub fn balance(&self, now: Timestamp) -> Balance {
        let of = |kind: LotKind| {
            let lots = self.lots.iter().filter(|lot| lot.kind == kind);
            lots.fold(Nano::ZERO, |sum, lot| sum.saturating_add(lot.spendable(now)))
        };
        let expired = self.lots.iter().filter(|lot| lot.is_expired(now));
        Balance {
            available: self.brief(now).available,
            granted: of(LotKind::Granted),
            purchased: of(LotKind::Purchased),
            owed: self.owed,
            held: self.held,
            expired: expired.fold(Nano::ZERO, |sum, lot| sum.saturating_add(lot.available)),
            lots: self.lots.clone(),
            families: self.families,
        }
    }

    /// Owed for good: what money that comes in pays back.
    pub fn repayable(&self) -> Nano {
        self.owed.saturating_sub(self.owed_held).max(Nano::ZERO)
    }

    /// How much more can be held or charged before the sum of all charges is no amount any more. What is
    /// held counts as charged, so that a settlement is never refused.
    pub fn room_for_charges(&self) -> Nano {
        Nano::MAX.saturating_sub(self.families.charges).saturating_sub(self.held)
    }

    /// Which lots would pay `amount`, in order; what they lack comes from the overdraft. The caller has
    /// checked that this is allowed.
    pub fn draw(&self, amount: Nano, now: Timestamp) -> Debits {
        let mut debits = Debits::new();
        let mut left = amount;
        for lot in &self.lots {
            let part = lot.spendable(now).min(left);
            if part.is_positive() {
                left = left.saturating_sub(part);
                debits.push(Debit::of(lot, part));
            }
        }
        if left.is_positive() {
            debits.push(Debit {
                lot: OVERDRAFT,
                kind: LotKind::Overdraft,
                priority: 0,
                expires_at: None,
                amount: left,
            });
        }
        debits
    }

    pub fn lot(&self, id: LotId) -> Option<&Lot> {
        self.lots.iter().find(|lot| lot.id == id)
    }

    /// Moves money between a lot (or the overdraft) and the outside. A lot that is empty is forgotten, and
    /// one that is given something back is remembered again.
    pub fn touch(&mut self, debit: &Debit, available: Change, held: Change) {
        let amount = debit.amount;
        if debit.kind == LotKind::Overdraft {
            // What is available falls when more is owed; a hold on the overdraft owes at once.
            let doubled = planted!(OverdraftDoubled) && available == Change::Minus;
            let amount = if doubled { amount.saturating_add(amount) } else { amount };
            self.owed = available.inverse().to(self.owed, amount);
            self.owed_held = held.to(self.owed_held, debit.amount);
            return;
        }
        let index = match self.lots.iter().position(|lot| lot.id == debit.lot) {
            Some(index) => index,
            None => self.insert(debit),
        };
        if let Some(lot) = self.lots.get_mut(index) {
            lot.available = available.to(lot.available, amount);
            lot.held = held.to(lot.held, amount);
            if lot.available == Nano::ZERO && lot.held == Nano::ZERO {
                self.lots.remove(index);
            }
        }
    }

    fn insert(&mut self, debit: &Debit) -> usize {
        let lot = Lot {
            id: debit.lot,
            kind: debit.kind,
            priority: debit.priority,
            expires_at: debit.expires_at,
            available: Nano::ZERO,
            held: Nano::ZERO,
        };
        let index = self.lots.partition_point(|known| known.rank() < lot.rank());
        self.lots.insert(index, lot);
        index
    }
}

/// What happens to a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Plus,
    Minus,
    Keep,
}

impl Change {
    pub fn to(self, figure: Nano, amount: Nano) -> Nano {
        match self {
            Change::Plus => figure.saturating_add(amount),
            Change::Minus => figure.saturating_sub(amount),
            Change::Keep => figure,
        }
    }

    fn inverse(self) -> Self {
        match self {
            Change::Plus => Change::Minus,
            Change::Minus => Change::Plus,
            Change::Keep => Change::Keep,
        }
    }
}
