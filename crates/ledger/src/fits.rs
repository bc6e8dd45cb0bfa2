//! Whether an effect could have been planned on this state. Everything is checked before anything is changed,
//! so that a journal that was replayed twice, out of order or from another ledger stops at its first wrong
//! line, with the books as they were; and so that no figure can leave its range unseen.
//!
//! One thing is checked of a plan and not of a journal: that the money is there already. A journal may write
//! the end of a call beside its beginning, and so an overrun before the money that pays it; by the end of the
//! batch it is there, which [`crate::invariants::check`] sees.

use crate::accounts::Account;
use crate::command::{LedgerError, Withdrawal};
use crate::counters::Metric;
use crate::effect::{Credited, Debit, Effect, Held, Refunded, Released, Settled, Withdrawn};
use crate::holds::Hold;
use crate::ids::{AccountId, HoldId, Reference};
use crate::ledger::Ledger;
use crate::lots::{Lot, LotKind, OVERDRAFT};
use crate::money::Nano;
use crate::plan::{CEILING, Planned, split};
use crate::plant::planted;

type Fit = Result<(), LedgerError>;

/// Where an effect comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Plan,
    Journal,
}

impl Ledger {
    /// The effect itself, if the books can count it.
    pub(crate) fn fitting(&self, effect: Effect) -> Planned {
        self.fits(&effect, Origin::Plan)?;
        Ok(effect)
    }

    pub(crate) fn fits(&self, effect: &Effect, from: Origin) -> Fit {
        let empty = Account::default();
        let account = self.accounts.get(&effect.account()).unwrap_or(&empty);
        match effect {
            Effect::Credited(credit) => self.credit_fits(account, credit, from),
            Effect::Held(held) => self.hold_fits(account, held, from),
            Effect::Settled(settled) => self.settlement_fits(account, settled, from),
            Effect::Released(released) => self.release_fits(released),
            Effect::Refunded(refunded) => self.refund_fits(account, refunded),
            Effect::Withdrawn(withdrawn) => self.withdrawal_fits(account, withdrawn, from),
            Effect::Expired(expired) => {
                demand(expired.debit.kind != LotKind::Overdraft, "an overdraft does not end")?;
                // Nothing is written early that touches a lot that has ended.
                can_pay(account, &[expired.debit], Origin::Plan)?;
                countable(account.families.expiries, sum(&[expired.debit]))
            }
            Effect::CostAccrued(cost) => demand(cost.amount.0 >= 0, "a cost is below zero"),
        }
    }

    fn credit_fits(&self, account: &Account, credit: &Credited, from: Origin) -> Fit {
        demand(credit.amount.is_positive(), "a credit is not above zero")?;
        demand(credit.kind != LotKind::Overdraft && credit.lot != OVERDRAFT, "an overdraft is credited")?;
        self.reference_is_new(&credit.reference)?;
        // A lot that lacks money was spent from before its credit was written.
        let early = |lot: &Lot| from == Origin::Journal && lot.available < Nano::ZERO;
        demand(account.lot(credit.lot).is_none_or(early), "the lot exists")?;
        let payable = account.repayable().min(credit.amount);
        demand((Nano::ZERO..=payable).contains(&credit.repaid), "a credit repays what is not owed")?;
        let kept = i128::from(credit.amount.0) - i128::from(credit.repaid.0);
        let family = account.families.of(credit.source);
        room_in_lots(account, kept)?;
        countable(family, i128::from(credit.amount.0))
    }

    fn hold_fits(&self, account: &Account, held: &Held, from: Origin) -> Fit {
        demand(!self.holds.contains_key(&held.hold), "the hold is open already")?;
        demand(sum(&held.debits) == i128::from(held.amount.0), "a hold is not the sum of its parts")?;
        can_pay(account, &held.debits, from)?;
        countable(account.held, i128::from(held.amount.0))?;
        for (index, layer) in held.layers.iter().enumerate() {
            demand(layer.amount >= 0, "a layer is below zero")?;
            let mut before = held.layers.iter().take(index);
            demand(!before.any(|other| other.counter == layer.counter), "a layer is named twice")?;
            let counter = self.counters.get(&layer.counter, layer.window.start);
            countable(Nano(counter.held), i128::from(layer.amount))?;
        }
        Ok(())
    }

    fn open_hold_of(&self, hold: HoldId, account: AccountId) -> Result<&Hold, LedgerError> {
        let hold = self.holds.get(&hold).ok_or(foreign("the hold is not open"))?;
        demand(hold.account == account, "the hold is another account's")?;
        Ok(hold)
    }

    fn settlement_fits(&self, account: &Account, settled: &Settled, from: Origin) -> Fit {
        let hold = self.open_hold_of(settled.hold, settled.account)?;
        demand(settled.cost.0 >= 0 && settled.loss.0 >= 0, "a cost is below zero")?;
        let (debits, returned) = split(&hold.debits, settled.cost);
        demand(settled.debits == debits && settled.returned == returned, "a charge is not of its hold")?;
        let overrun = sum(&settled.overrun);
        let beyond = (i128::from(settled.cost.0) - i128::from(hold.amount.0)).max(0);
        demand(overrun + i128::from(settled.loss.0) == beyond, "a charge and its loss are not the cost")?;
        can_pay(account, &settled.overrun, from)?;
        let charged = sum(&settled.debits) + overrun;
        countable(account.families.charges, charged)?;
        for layer in hold.layers.iter().filter(|layer| layer.counter.metric == Metric::Spend) {
            let counter = self.counters.get(&layer.counter, layer.window.start);
            countable(Nano(counter.used), charged)?;
        }
        Ok(())
    }

    fn release_fits(&self, released: &Released) -> Fit {
        let hold = self.open_hold_of(released.hold, released.account)?;
        demand(released.returned == hold.debits, "a release is not of its hold")
    }

    fn refund_fits(&self, account: &Account, refunded: &Refunded) -> Fit {
        self.reference_is_new(&refunded.reference)?;
        demand(!refunded.credits.is_empty(), "a refund of nothing")?;
        let (mut owed, mut lots) = (0, 0);
        for credit in &refunded.credits {
            demand(credit.amount.is_positive(), "a refund is not above zero")?;
            let amount = i128::from(credit.amount.0);
            if credit.kind == LotKind::Overdraft {
                owed += amount;
                continue;
            }
            lots += amount;
            let is_of = |other: &Debit| Debit { amount: credit.amount, ..*other } == *credit;
            let known = account.lot(credit.lot).map(|lot| Debit::of(lot, credit.amount));
            let named = refunded.credits.iter().filter(|other| other.lot == credit.lot);
            demand(named.chain(&known).all(is_of), "a refund into another kind of lot")?;
        }
        demand(owed <= i128::from(account.repayable().0), "a refund repays what is not owed")?;
        room_in_lots(account, lots)?;
        countable(account.families.charge_refunds, owed + lots)?;
        countable(self.refunded(refunded.hold), owed + lots)?;
        for layer in &refunded.layers {
            let known = self.counters.find(&layer.counter, layer.window.start);
            let used = known.and_then(|slot| self.counters.at(slot)).map(|instance| instance.counter.used);
            let within = layer.amount >= 0 && used.is_none_or(|used| used >= layer.amount);
            demand(
                within || planted!(RefundWithoutEnd),
                "a refund gives back more of a limit than was used",
            )?;
        }
        Ok(())
    }

    fn withdrawal_fits(&self, account: &Account, withdrawn: &Withdrawn, from: Origin) -> Fit {
        self.reference_is_new(&withdrawn.reference)?;
        can_pay(account, &withdrawn.debits, from)?;
        let amount = sum(&withdrawn.debits);
        demand(amount > 0, "nothing is withdrawn")?;
        match withdrawn.kind {
            Withdrawal::Adjustment => countable(account.families.adjustments, -amount),
            Withdrawal::OrderRefund => countable(account.families.order_refunds, amount),
            Withdrawal::Chargeback => countable(account.families.chargebacks, amount),
        }
    }

    fn reference_is_new(&self, reference: &Reference) -> Fit {
        demand(!self.has_posted(reference) || planted!(ReferenceIgnored), "the reference has posted")
    }
}

fn foreign(what: &'static str) -> LedgerError {
    LedgerError::ForeignEffect { what }
}

fn demand(holds: bool, what: &'static str) -> Fit {
    if holds { Ok(()) } else { Err(foreign(what)) }
}

fn sum(debits: &[Debit]) -> i128 {
    debits.iter().map(|debit| i128::from(debit.amount.0)).sum()
}

/// No lot is named twice or is another one, and what a plan takes is there.
fn can_pay(account: &Account, debits: &[Debit], from: Origin) -> Fit {
    for (index, debit) in debits.iter().enumerate() {
        demand(debit.amount.is_positive(), "a part is not above zero")?;
        let twice = debits.iter().take(index).any(|other| other.lot == debit.lot);
        demand(!twice, "a lot is named twice")?;
        if debit.kind == LotKind::Overdraft {
            demand(debit.lot == OVERDRAFT, "an overdraft is named as a lot")?;
            countable(account.owed, i128::from(debit.amount.0))?;
            let debt = account.owed.saturating_add(debit.amount);
            if from == Origin::Plan && debt.0 > CEILING {
                return Err(LedgerError::TooLarge);
            }
        } else {
            let lot = account.lot(debit.lot);
            demand(lot.is_none_or(|lot| Debit::of(lot, debit.amount) == *debit), "the lot is another one")?;
            let there = lot.is_some_and(|lot| lot.available >= debit.amount);
            demand(there || from == Origin::Journal, "the lot has less")?;
        }
    }
    Ok(())
}

/// All lots together stay an amount, so that every sum over them is exact.
fn room_in_lots(account: &Account, more: i128) -> Fit {
    let there = account.lots.iter().map(|lot| i128::from(lot.available.0) + i128::from(lot.held.0));
    if there.sum::<i128>() + more > i128::from(i64::MAX) { Err(LedgerError::TooLarge) } else { Ok(()) }
}

/// The figure can change by that much.
fn countable(figure: Nano, change: i128) -> Fit {
    i64::try_from(i128::from(figure.0) + change).map(|_| ()).map_err(|_| LedgerError::TooLarge)
}
