//! From a command and the state to an effect, or to the reason why not. Nothing is changed here.

use smallvec::SmallVec;

use crate::accounts::Account;
use crate::command::{
    ChargeRecord, Command, CreditSource, HoldOwner, LayerHold, LedgerError, ReleaseReason, Withdrawal,
};
use crate::counters::Metric;
use crate::effect::{
    CostAccrued, Credited, Debit, Debits, Effect, Expired, Held, HeldLayer, Refunded, Released, Settled,
    Withdrawn, total,
};
use crate::holds::Hold;
use crate::ids::{AccountId, HoldId, LotId, Reference, Timestamp, fnv1a};
use crate::ledger::Ledger;
use crate::lots::LotKind;
use crate::money::Nano;
use crate::plant::planted;

/// How long a lot that had expired stays open after a refund into it.
const REOPENED_MS: i64 = 30 * 24 * 3_600_000;

type Planned = Result<Effect, LedgerError>;

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

    fn plan_credit(
        &self,
        account: AccountId,
        debit: Debit,
        source: CreditSource,
        reference: &Reference,
        now: Timestamp,
    ) -> Planned {
        positive(debit.amount)?;
        let end = debit.expires_at.map_or(i64::MAX, |end| end.0);
        let content = content(
            account,
            &[debit.kind as i64, i64::from(debit.priority), end, debit.amount.0, source as i64],
        );
        self.check_reference(reference, content)?;
        let known = self.accounts.get(&account);
        if debit.lot == crate::lots::OVERDRAFT || known.is_some_and(|known| known.lot(debit.lot).is_some()) {
            return Err(LedgerError::LotExists { lot: debit.lot });
        }
        let owed = known.map_or(Nano::ZERO, |known| known.owed.saturating_sub(known.owed_held));
        let credited = known.map_or(Nano::ZERO, |known| known.families.credits);
        // Nothing that follows can overflow if all that was ever credited fits.
        credited
            .checked_add(debit.amount)
            .filter(|sum| sum.0 <= i64::MAX / 4)
            .ok_or(LedgerError::TooLarge)?;
        Ok(Effect::Credited(Credited {
            account,
            at: now,
            lot: debit.lot,
            kind: debit.kind,
            priority: debit.priority,
            expires_at: debit.expires_at,
            amount: debit.amount,
            repaid: owed.max(Nano::ZERO).min(debit.amount),
            source,
            reference: reference.clone(),
            content,
        }))
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
        if self.holds.contains_key(&hold) {
            return Err(LedgerError::HoldExists { hold });
        }
        for (index, layer) in layers.iter().enumerate() {
            self.check_layer(index, layer)?;
        }
        let empty = Account::default();
        let known = self.accounts.get(&account).unwrap_or(&empty);
        let balance = known.brief(now);
        if amount.is_positive() && balance.available.saturating_add(overdraft) < amount {
            let (available, held) = (balance.available, balance.held);
            return Err(LedgerError::BalanceInsufficient { available, held, needed: amount });
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

    fn check_layer(&self, index: usize, layer: &LayerHold) -> Result<(), LedgerError> {
        if layer.amount < 0 {
            return Err(LedgerError::BadAmount { amount: Nano(layer.amount) });
        }
        let Some(limit) = layer.limit else { return Ok(()) };
        let counter = self.counters.get(&layer.counter, layer.window.start);
        let needed = i128::from(counter.used) + i128::from(counter.held) + i128::from(layer.amount);
        if layer.amount > 0 && needed > i128::from(limit) {
            let (used, held) = (counter.used, counter.held);
            return Err(LedgerError::LayerExhausted { index, layer: *layer, used, held });
        }
        Ok(())
    }

    fn open_hold(&self, hold: HoldId) -> Result<&Hold, LedgerError> {
        self.holds.get(&hold).ok_or(LedgerError::UnknownHold { hold })
    }

    fn plan_settle(&self, id: HoldId, cost: Nano, now: Timestamp) -> Planned {
        not_negative(cost)?;
        let hold = self.open_hold(id)?;
        let (debits, mut returned) = split(&hold.debits, cost);
        if planted!(RestKept) {
            returned.clear();
        }
        let beyond = Nano(cost.0.saturating_sub(hold.amount.0).max(0));
        let overrun = self.overrun(hold, beyond, now);
        let loss = beyond.saturating_sub(total(&overrun));
        let account = hold.account;
        Ok(Effect::Settled(Settled { hold: id, account, at: now, cost, debits, returned, overrun, loss }))
    }

    /// Who pays what a call cost beyond its hold: as much as every layer and the balance have.
    fn overrun(&self, hold: &Hold, beyond: Nano, now: Timestamp) -> Debits {
        let Some(account) = self.accounts.get(&hold.account).filter(|_| beyond.is_positive()) else {
            return Debits::new();
        };
        let balance = account.brief(now).available.saturating_add(hold.overdraft);
        let spend = hold.layers.iter().filter(|layer| layer.counter.metric == Metric::Spend);
        let room = spend.filter_map(|layer| {
            let counter = self.counters.get(&layer.counter, layer.window.start);
            Some(Nano(layer.limit?.saturating_sub(counter.used).saturating_sub(counter.held)))
        });
        let room = room.fold(balance, Ord::min).max(Nano::ZERO);
        let charged = if planted!(OverrunUnbounded) { beyond } else { beyond.min(room) };
        account.draw(charged, now)
    }

    fn plan_release(&self, id: HoldId, reason: ReleaseReason, now: Timestamp) -> Planned {
        let hold = self.open_hold(id)?;
        let (account, returned) = (hold.account, hold.debits.clone());
        Ok(Effect::Released(Released { hold: id, account, at: now, reason, returned }))
    }

    fn plan_expire(&self, account: AccountId, id: LotId, now: Timestamp) -> Planned {
        let lot = self.accounts.get(&account).and_then(|known| known.lot(id));
        let lot = lot.ok_or(LedgerError::UnknownLot { lot: id })?;
        if !lot.is_expired(now) {
            return Err(LedgerError::NotExpired { lot: id });
        }
        if !lot.available.is_positive() {
            return Err(LedgerError::NothingLeft { lot: id });
        }
        Ok(Effect::Expired(Expired { account, at: now, debit: Debit::of(lot, lot.available) }))
    }

    fn plan_refund(
        &self,
        charge: &ChargeRecord,
        amount: Nano,
        reference: &Reference,
        now: Timestamp,
    ) -> Planned {
        positive(amount)?;
        let content =
            content(charge.account, &[charge.hold.0 as i64, (charge.hold.0 >> 64) as i64, amount.0]);
        self.check_reference(reference, content)?;
        let charged = total(&charge.debits);
        let refunded = self.refunded.get(&charge.hold).copied().unwrap_or_default();
        let after = refunded.checked_add(amount).ok_or(LedgerError::TooLarge)?;
        if after > charged && !planted!(RefundWithoutEnd) {
            return Err(LedgerError::RefundExceedsCharge { charged, refunded, asked: amount });
        }
        let layers = charge.layers.iter().filter(|layer| layer.counter.metric == Metric::Spend);
        Ok(Effect::Refunded(Refunded {
            hold: charge.hold,
            account: charge.account,
            at: now,
            credits: self.refund_credits(charge, refunded, amount, reference, now),
            layers: layers.map(|layer| HeldLayer { amount: amount.0, ..*layer }).collect(),
            reference: reference.clone(),
            content,
        }))
    }

    /// Back to the lots that paid, the last one first.
    fn refund_credits(
        &self,
        charge: &ChargeRecord,
        refunded: Nano,
        amount: Nano,
        reference: &Reference,
        now: Timestamp,
    ) -> Debits {
        let owed =
            self.accounts.get(&charge.account).map_or(Nano::ZERO, |a| a.owed.saturating_sub(a.owed_held));
        let reopened = Timestamp(now.0.saturating_add(REOPENED_MS));
        let (mut skip, mut left) = (refunded, amount);
        let mut credits = Debits::new();
        for debit in charge.debits.iter().rev() {
            let skipped = debit.amount.min(skip);
            skip = skip.saturating_sub(skipped);
            let part = debit.amount.saturating_sub(skipped).min(left);
            left = left.saturating_sub(part);
            if !part.is_positive() {
                continue;
            }
            if debit.kind != LotKind::Overdraft {
                let known = self.accounts.get(&charge.account).and_then(|known| known.lot(debit.lot));
                let end = known.map_or(debit.expires_at, |lot| lot.expires_at);
                let expires_at = end.map(|end| if end <= now { reopened } else { end });
                credits.push(Debit { amount: part, expires_at, ..*debit });
                continue;
            }
            // What was owed and has been paid since comes back as money.
            let repaid = part.min(owed.max(Nano::ZERO));
            credits.extend(repaid.is_positive().then_some(Debit { amount: repaid, ..*debit }));
            let rest = part.saturating_sub(repaid);
            let lot = LotId((reference.fingerprint() as u64) | 1);
            let rest = Debit { lot, kind: LotKind::Purchased, priority: 0, expires_at: None, amount: rest };
            credits.extend(rest.amount.is_positive().then_some(rest));
        }
        credits
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one command, taken apart once")]
    fn plan_withdraw(
        &self,
        account: AccountId,
        kind: Withdrawal,
        lot: Option<LotId>,
        amount: Nano,
        arrears: bool,
        reference: &Reference,
        now: Timestamp,
    ) -> Planned {
        positive(amount)?;
        let lot_number = lot.map_or(0, |lot| lot.0 as i64);
        let content = content(account, &[kind as i64, lot_number, amount.0, i64::from(arrears)]);
        self.check_reference(reference, content)?;
        let empty = Account::default();
        let known = self.accounts.get(&account).unwrap_or(&empty);
        let balance = known.brief(now);
        if balance.available < amount && !arrears {
            let (available, held) = (balance.available, balance.held);
            return Err(LedgerError::BalanceInsufficient { available, held, needed: amount });
        }
        let mut debits = Debits::new();
        if let Some(lot) = lot {
            let lot = known.lot(lot).ok_or(LedgerError::UnknownLot { lot })?;
            let part = lot.available.min(amount);
            debits.extend(part.is_positive().then(|| Debit::of(lot, part)));
        }
        let rest = amount.saturating_sub(total(&debits));
        let named = lot;
        let mut others = known.clone();
        others.lots.retain(|lot| Some(lot.id) != named);
        debits.extend(others.draw(rest, now));
        let reference = reference.clone();
        Ok(Effect::Withdrawn(Withdrawn { account, at: now, kind, debits, reference, content }))
    }

    fn check_reference(&self, reference: &Reference, content: u128) -> Result<(), LedgerError> {
        if planted!(ReferenceIgnored) {
            return Ok(());
        }
        match self.references.get(&reference.fingerprint()) {
            None => Ok(()),
            Some(posted) if *posted == content => {
                Err(LedgerError::AlreadyPosted { reference: reference.clone() })
            }
            Some(_) => Err(LedgerError::ReferenceReused { reference: reference.clone() }),
        }
    }
}

/// The first `amount` of some debits, and what is left of them.
fn split(debits: &[Debit], amount: Nano) -> (Debits, Debits) {
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

fn content(account: AccountId, numbers: &[i64]) -> u128 {
    let mut bytes: SmallVec<[u8; 64]> = SmallVec::from_slice(&account.0.to_be_bytes());
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    fnv1a(&bytes)
}

fn positive(amount: Nano) -> Result<(), LedgerError> {
    if amount.is_positive() { Ok(()) } else { Err(LedgerError::BadAmount { amount }) }
}

fn not_negative(amount: Nano) -> Result<(), LedgerError> {
    if amount.0 >= 0 { Ok(()) } else { Err(LedgerError::BadAmount { amount }) }
}
