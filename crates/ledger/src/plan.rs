//! From a command and the state to an effect, or to the reason why not. Nothing is changed here. This file has
//! the way of a call: hold, settle, release; `funds` has what moves money without one.

use crate::accounts::Account;
use crate::command::{Command, HoldOwner, LayerHold, LedgerError, ReleaseReason};
use crate::counters::{FORGET_AFTER_MS, Metric};
use crate::effect::{CostAccrued, Debit, Debits, Effect, Held, HeldLayer, Released, Settled, total};
use crate::holds::Hold;
use crate::ids::{AccountId, HoldId, Timestamp};
use crate::ledger::Ledger;
use crate::money::Nano;
use crate::plant::planted;

/// Counters and debts end at half of what can be counted. A journal may write the end of a call early (see
/// `fits`), and the sums on that way must fit too.
pub(crate) const CEILING: i64 = i64::MAX / 2;

pub(crate) type Planned = Result<Effect, LedgerError>;

impl Ledger {
    /// What the command would do now. `now` is the caller's clock; ledger time never goes back.
    pub fn plan(&self, command: &Command, now: Timestamp) -> Planned {
        let now = now.max(self.now);
        match command {
            Command::Credit { account, lot, kind, priority, expires_at, amount, source, reference } => {
                let debit = Debit {
                    lot: *lot,
                    kind: *kind,
                    priority: *priority,
                    expires_at: *expires_at,
                    amount: *amount,
                };
                self.plan_credit(*account, debit, *source, reference, now)
            }
            Command::Reserve { hold, account, amount, overdraft, layers, owner } => {
                self.plan_reserve(*hold, *account, *amount, *overdraft, layers, *owner, now)
            }
            Command::Settle { hold, charge } => self.plan_settle(*hold, *charge, now),
            Command::Release { hold, reason } => self.plan_release(*hold, *reason, now),
            Command::Expire { account, lot } => self.plan_expire(*account, *lot, now),
            Command::Refund { charge, amount, reference } => {
                self.plan_refund(charge, *amount, reference, now)
            }
            Command::Withdraw { account, kind, lot, amount, arrears, reference } => {
                self.plan_withdraw(*account, *kind, *lot, *amount, *arrears, reference, now)
            }
            Command::AccrueUpstreamCost { account, hold, amount } => {
                not_negative(*amount)?;
                Ok(Effect::CostAccrued(CostAccrued {
                    account: *account,
                    hold: *hold,
                    at: now,
                    amount: *amount,
                }))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one command, taken apart once")]
    fn plan_reserve(
        &self,
        hold: HoldId,
        account: AccountId,
        amount: Nano,
        overdraft: Nano,
        layers: &[LayerHold],
        owner: HoldOwner,
        now: Timestamp,
    ) -> Planned {
        not_negative(amount)?;
        not_negative(overdraft)?;
        if overdraft.0 > CEILING {
            return Err(LedgerError::TooLarge);
        }
        if self.holds.contains_key(&hold) {
            return Err(LedgerError::HoldExists { hold });
        }
        for (index, layer) in layers.iter().enumerate() {
            well_formed(layer, amount, layers.get(..index).unwrap_or_default())?;
            self.check_layer(index, layer, now)?;
        }
        let empty = Account::default();
        let known = self.accounts.get(&account).unwrap_or(&empty);
        let balance = known.brief(now);
        if amount.is_positive() && balance.available.saturating_add(overdraft) < amount {
            let (available, held) = (balance.available, balance.held);
            return Err(LedgerError::BalanceInsufficient { available, held, needed: amount });
        }
        if known.room_for_charges() < amount {
            return Err(LedgerError::TooLarge);
        }
        let layers = layers.iter().map(|layer| HeldLayer {
            counter: layer.counter,
            window: layer.window,
            limit: layer.limit,
            amount: layer.amount,
        });
        Ok(Effect::Held(Held {
            hold,
            account,
            at: now,
            amount,
            overdraft,
            owner,
            debits: known.draw(amount, now),
            layers: layers.collect(),
        }))
    }

    fn check_layer(&self, index: usize, layer: &LayerHold, now: Timestamp) -> Result<(), LedgerError> {
        if layer.window.end.0.saturating_add(FORGET_AFTER_MS) <= now.0 {
            // What was used of it may be forgotten, here or where the journal is read: it would look like a fresh limit.
            return Err(LedgerError::Malformed { what: "a layer's window ended long ago" });
        }
        let counter = self.counters.get(&layer.counter, layer.window.start);
        let needed = i128::from(counter.used) + i128::from(counter.held) + i128::from(layer.amount);
        if let Some(limit) = layer.limit
            && layer.amount > 0
            && needed > i128::from(limit)
        {
            let (used, held) = (counter.used, counter.held);
            return Err(LedgerError::LayerExhausted { index, layer: *layer, used, held });
        }
        if needed > i128::from(CEILING) { Err(LedgerError::TooLarge) } else { Ok(()) }
    }

    fn open_hold(&self, hold: HoldId) -> Result<&Hold, LedgerError> {
        self.holds.get(&hold).ok_or(LedgerError::UnknownHold { hold })
    }

    /// Never refused for its amount: a hold can always be settled.
    fn plan_settle(&self, id: HoldId, cost: Nano, now: Timestamp) -> Planned {
        not_negative(cost)?;
        let hold = self.open_hold(id)?;
        let (debits, returned) = split(&hold.debits, cost);
        let beyond = Nano(cost.0.saturating_sub(hold.amount.0).max(0));
        let overrun = self.overrun(hold, beyond, now);
        let loss = beyond.saturating_sub(total(&overrun));
        let account = hold.account;
        Ok(Effect::Settled(Settled { hold: id, account, at: now, cost, debits, returned, overrun, loss }))
    }

    /// Who pays what a call cost beyond its hold: as much as every layer and the balance have. The price of a task was
    /// told and agreed to before it was made, so there it is the platform.
    fn overrun(&self, hold: &Hold, beyond: Nano, now: Timestamp) -> Debits {
        if matches!(hold.owner, HoldOwner::Task(_)) {
            return Debits::new();
        }
        let Some(account) = self.accounts.get(&hold.account).filter(|_| beyond.is_positive()) else {
            return Debits::new();
        };
        let balance = account.brief(now).available.saturating_add(hold.overdraft);
        let purse = balance.min(account.room_for_charges());
        let spend = hold.layers.iter().filter(|layer| layer.counter.metric == Metric::Spend);
        let room = spend.map(|layer| {
            let counter = self.counters.get(&layer.counter, layer.window.start);
            // Without a limit, what the figure itself can count is the limit.
            let limit = layer.limit.unwrap_or(CEILING).min(CEILING);
            Nano(limit.saturating_sub(counter.used).saturating_sub(counter.held))
        });
        let room = room.fold(purse, Ord::min).max(Nano::ZERO);
        let charged = if planted!(OverrunUnbounded) { beyond } else { beyond.min(room) };
        account.draw(charged, now)
    }

    fn plan_release(&self, id: HoldId, reason: ReleaseReason, now: Timestamp) -> Planned {
        let hold = self.open_hold(id)?;
        let (account, returned) = (hold.account, hold.debits.clone());
        Ok(Effect::Released(Released { hold: id, account, at: now, reason, returned }))
    }
}

/// A layer that counts money holds what the hold holds, else its limit could be passed at the settlement;
/// and a counter that is named twice would be checked twice against the same room.
fn well_formed(layer: &LayerHold, amount: Nano, before: &[LayerHold]) -> Result<(), LedgerError> {
    if layer.amount < 0 {
        return Err(LedgerError::BadAmount { amount: Nano(layer.amount) });
    }
    if layer.counter.metric == Metric::Spend && layer.amount != amount.0 {
        return Err(LedgerError::Malformed { what: "a layer holds another amount than the hold" });
    }
    if before.iter().any(|other| other.counter == layer.counter) {
        return Err(LedgerError::Malformed { what: "a layer is named twice" });
    }
    Ok(())
}

/// The first `amount` of some debits, and what is left of them.
pub(crate) fn split(debits: &[Debit], amount: Nano) -> (Debits, Debits) {
    let (mut taken, mut rest) = (Debits::new(), Debits::new());
    let mut left = amount;
    for debit in debits {
        let part = debit.amount.min(left);
        left = left.saturating_sub(part);
        let kept = debit.amount.saturating_sub(part);
        taken.extend(part.is_positive().then_some(Debit { amount: part, ..*debit }));
        rest.extend(kept.is_positive().then_some(Debit { amount: kept, ..*debit }));
    }
    (taken, rest)
}

pub(crate) fn positive(amount: Nano) -> Result<(), LedgerError> {
    if amount.is_positive() { Ok(()) } else { Err(LedgerError::BadAmount { amount }) }
}

fn not_negative(amount: Nano) -> Result<(), LedgerError> {
    if amount.0 >= 0 { Ok(()) } else { Err(LedgerError::BadAmount { amount }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::LotId;
    use crate::lots::{Lot, LotKind};

    fn lots(amounts: &[i64]) -> Vec<Lot> {
        let lot = |(index, amount): (usize, &i64)| Lot {
            id: LotId(index as u64 + 1),
            kind: LotKind::Granted,
            priority: 0,
            expires_at: (index % 3 == 0).then_some(Timestamp(5)),
            available: Nano(*amount),
            held: Nano::ZERO,
        };
        amounts.iter().enumerate().map(lot).collect()
    }

    proptest! {
        #[test]
        fn a_split_keeps_every_nano(
            amounts in prop::collection::vec(1_i64..i64::MAX / 8, 0..6), cut in 0..i64::MAX,
        ) {
            let account = Account { lots: lots(&amounts), ..Account::default() };
            let all = amounts.iter().sum();
            let debits = account.draw(Nano(all), Timestamp(0));
            let (taken, rest) = split(&debits, Nano(cut));
            prop_assert_eq!(total(&taken), Nano(cut.min(all)));
            prop_assert_eq!(total(&taken).0 + total(&rest).0, all);
            prop_assert!(taken.iter().chain(&rest).all(|part| part.amount.is_positive()));
        }

        #[test]
        fn a_draw_takes_all_that_is_asked_and_no_lot_twice(
            amounts in prop::collection::vec(1_i64..i64::MAX / 8, 0..6), asked in 0..i64::MAX, now in 0_i64..10,
        ) {
            let account = Account { lots: lots(&amounts), ..Account::default() };
            let debits = account.draw(Nano(asked), Timestamp(now));
            prop_assert_eq!(total(&debits), Nano(asked));
            for (index, debit) in debits.iter().enumerate() {
                prop_assert!(!debits.iter().skip(index + 1).any(|other| other.lot == debit.lot));
                let lot = account.lot(debit.lot);
                prop_assert!(lot.is_none_or(|lot| lot.spendable(Timestamp(now)) >= debit.amount));
                prop_assert_eq!(lot.is_none(), debit.kind == LotKind::Overdraft);
            }
        }
    }
}
