//! Planning of what moves money without a call: credits, ends of lots, refunds, withdrawals. Nothing is
//! changed here, and nothing is planned that the books could not count.

use smallvec::SmallVec;

use crate::accounts::Account;
use crate::command::{ChargeRecord, CreditSource, LedgerError, Withdrawal};
use crate::counters::Metric;
use crate::effect::{Credited, Debit, Debits, Effect, Expired, HeldLayer, Refunded, Withdrawn, total};
use crate::ids::{AccountId, LotId, Reference, Timestamp, fnv1a};
use crate::ledger::Ledger;
use crate::lots::{LotKind, OVERDRAFT};
use crate::money::Nano;
use crate::plan::{Planned, positive};
use crate::plant::planted;

/// How long money lasts that is refunded out of a lot that has ended.
const REOPENED_MS: i64 = 30 * 24 * 3_600_000;

impl Ledger {
    pub(crate) fn plan_credit(
        &self,
        account: AccountId,
        debit: Debit,
        source: CreditSource,
        reference: &Reference,
        now: Timestamp,
    ) -> Planned {
        positive(debit.amount)?;
        if debit.kind == LotKind::Overdraft {
            return Err(LedgerError::Malformed { what: "an overdraft cannot be credited" });
        }
        let end = debit.expires_at.map_or(i64::MAX, |end| end.0);
        let content = content(
            account,
            &[debit.kind as i64, i64::from(debit.priority), end, debit.amount.0, source as i64],
        );
        self.check_reference(reference, content)?;
        let known = self.accounts.get(&account);
        if debit.lot == OVERDRAFT || known.is_some_and(|known| known.lot(debit.lot).is_some()) {
            return Err(LedgerError::LotExists { lot: debit.lot });
        }
        let ended = debit.expires_at.is_some_and(|end| end <= now);
        let owed = known.filter(|_| !ended).map_or(Nano::ZERO, Account::repayable);
        self.fitting(Effect::Credited(Credited {
            account,
            at: now,
            lot: debit.lot,
            kind: debit.kind,
            priority: debit.priority,
            expires_at: debit.expires_at,
            amount: debit.amount,
            repaid: owed.min(debit.amount),
            source,
            reference: reference.clone(),
            content,
        }))
    }

    pub(crate) fn plan_expire(&self, account: AccountId, id: LotId, now: Timestamp) -> Planned {
        let lot = self.accounts.get(&account).and_then(|known| known.lot(id));
        let lot = lot.ok_or(LedgerError::UnknownLot { lot: id })?;
        if !lot.is_expired(now) {
            return Err(LedgerError::NotExpired { lot: id });
        }
        if !lot.available.is_positive() {
            return Err(LedgerError::NothingLeft { lot: id });
        }
        self.fitting(Effect::Expired(Expired { account, at: now, debit: Debit::of(lot, lot.available) }))
    }

    pub(crate) fn plan_refund(
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
        let refunded = if planted!(RefundWithoutEnd) { Nano::ZERO } else { self.refunded(charge.hold) };
        if charged.saturating_sub(refunded) < amount {
            return Err(LedgerError::RefundExceedsCharge { charged, refunded, asked: amount });
        }
        let layers = charge.layers.iter().filter(|layer| layer.counter.metric == Metric::Spend);
        self.fitting(Effect::Refunded(Refunded {
            hold: charge.hold,
            account: charge.account,
            at: now,
            credits: self.refund_credits(charge, refunded, amount, reference, now),
            layers: layers.map(|layer| HeldLayer { amount: amount.0, ..*layer }).collect(),
            reference: reference.clone(),
            content,
        }))
    }

    /// Back to the lots that paid, the last one first. What a lot that has ended paid comes back as a lot of
    /// its own, so that the rest of the ended lot stays ended.
    fn refund_credits(
        &self,
        charge: &ChargeRecord,
        refunded: Nano,
        amount: Nano,
        reference: &Reference,
        now: Timestamp,
    ) -> Debits {
        let empty = Account::default();
        let account = self.accounts.get(&charge.account).unwrap_or(&empty);
        let mut owed = account.repayable();
        let (mut skip, mut left) = (refunded, amount);
        let mut credits = Debits::new();
        for debit in charge.debits.iter().rev() {
            let skipped = debit.amount.min(skip);
            skip = skip.saturating_sub(skipped);
            let mut back = Debit { amount: debit.amount.saturating_sub(skipped).min(left), ..*debit };
            left = left.saturating_sub(back.amount);
            if debit.kind == LotKind::Overdraft {
                let repaid = back.amount.min(owed);
                owed = owed.saturating_sub(repaid);
                credits.extend(repaid.is_positive().then_some(Debit { amount: repaid, ..back }));
                // What was owed and has been paid since comes back as money.
                back.kind = LotKind::Purchased;
                back.amount = back.amount.saturating_sub(repaid);
            }
            if !back.amount.is_positive() {
                continue;
            }
            if debit.kind == LotKind::Overdraft || !takes_back(account, debit, now) {
                back.lot = fresh_lot(account, &credits, reference);
                let ended = debit.expires_at.filter(|end| *end <= now);
                let reopened = ended.map(|_| Timestamp(now.0.saturating_add(REOPENED_MS)));
                back.expires_at = reopened.or(debit.expires_at);
            }
            credits.push(back);
        }
        credits
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one command, taken apart once")]
    pub(crate) fn plan_withdraw(
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
        let named = lot.map(|lot| known.lot(lot).ok_or(LedgerError::UnknownLot { lot })).transpose()?;
        let balance = known.brief(now);
        // What is left of the named lot can be taken back even after its end: nothing is bought with it.
        let ended = named.map_or(Nano::ZERO, |lot| lot.available.saturating_sub(lot.spendable(now)));
        let available = balance.available.saturating_add(ended);
        if available < amount && !arrears {
            return Err(LedgerError::BalanceInsufficient { available, held: balance.held, needed: amount });
        }
        let mut debits = Debits::new();
        if let Some(lot) = named {
            let part = lot.available.min(amount);
            debits.extend(part.is_positive().then(|| Debit::of(lot, part)));
        }
        let rest = amount.saturating_sub(total(&debits));
        let mut others = known.clone();
        others.lots.retain(|other| Some(other.id) != lot);
        debits.extend(others.draw(rest, now));
        let reference = reference.clone();
        self.fitting(Effect::Withdrawn(Withdrawn { account, at: now, kind, debits, reference, content }))
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

/// Whether what a lot paid can go back into it: it has not ended, and no other lot took its name since.
fn takes_back(account: &Account, debit: &Debit, now: Timestamp) -> bool {
    let same = account.lot(debit.lot).is_none_or(|lot| Debit::of(lot, debit.amount) == *debit);
    same && debit.expires_at.is_none_or(|end| end > now)
}

/// A name for a lot that a refund opens: from the refund's own reference, and not taken yet.
fn fresh_lot(account: &Account, credits: &[Debit], reference: &Reference) -> LotId {
    let mut lot = LotId((reference.fingerprint() as u64) | 1);
    while account.lot(lot).is_some() || credits.iter().any(|credit| credit.lot == lot) {
        lot = LotId(lot.0.wrapping_add(2));
    }
    lot
}

fn content(account: AccountId, numbers: &[i64]) -> u128 {
    let mut bytes: SmallVec<[u8; 64]> = SmallVec::from_slice(&account.0.to_be_bytes());
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    fnv1a(&bytes)
}
