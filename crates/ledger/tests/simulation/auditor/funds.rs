//! What must come of credits, ends of lots, refunds and withdrawals.

use ledger::{
    AccountId, ChargeRecord, Command, CreditSource, Credited, Debit, Effect, Expired, HeldLayer, LedgerError,
    LotId, LotKind, Metric, Nano, Reference, Refunded, Timestamp, Withdrawal, Withdrawn,
};

use super::{AuditAccount, Auditor, CEILING, Family, LARGEST, Outcome, nano};

const REOPENED_MS: i64 = 30 * 86_400_000;

impl Auditor {
    pub(super) fn credit(&self, command: &Command, now: Timestamp) -> Outcome {
        let Command::Credit { account: id, lot, kind, priority, expires_at, amount, source, reference } =
            command
        else {
            unreachable!("a credit")
        };
        positive(*amount)?;
        if *kind == LotKind::Overdraft {
            return Err(LedgerError::Malformed { what: "an overdraft cannot be credited" });
        }
        self.once(command, reference)?;
        let account = self.account(*id);
        if lot.0 == 0 || account.lot(*lot, &self.held_of_lots(*id)).is_some() {
            return Err(LedgerError::LotExists { lot: *lot });
        }
        let usable = expires_at.is_none_or(|end| end > now);
        let repaid = if usable { self.debt(*id).min(amount.0.into()) } else { 0 };
        let family = match source {
            CreditSource::Promotion | CreditSource::Payment => Family::Credits,
            CreditSource::Compensation => Family::Compensation,
            CreditSource::Adjustment => Family::Adjustments,
        };
        self.fits(*id, account, i128::from(amount.0) - repaid, family, amount.0.into())?;
        Ok(Effect::Credited(Credited {
            account: *id,
            at: now,
            lot: *lot,
            kind: *kind,
            priority: *priority,
            expires_at: *expires_at,
            amount: *amount,
            repaid: nano(repaid),
            source: *source,
            reference: reference.clone(),
            content: 0,
        }))
    }

    /// Owed, and not a part of an open hold.
    fn debt(&self, account: AccountId) -> i128 {
        let in_holds = self.held_of_lots(account).get(&LotId(0)).copied().unwrap_or_default();
        self.account(account).owed() - in_holds
    }

    /// Lots and families stay amounts.
    fn fits(
        &self,
        id: AccountId,
        account: &AuditAccount,
        into_lots: i128,
        family: Family,
        moved: i128,
    ) -> Result<(), LedgerError> {
        let in_lots: i128 = account.lots.iter().map(|lot| lot.left()).sum();
        let held =
            self.held_of_lots(id).iter().filter(|(lot, _)| lot.0 != 0).map(|(_, held)| *held).sum::<i128>();
        let after = account.sum(family) + moved;
        let fits = in_lots + held + into_lots <= LARGEST && (-LARGEST - 1..=LARGEST).contains(&after);
        if fits { Ok(()) } else { Err(LedgerError::TooLarge) }
    }

    pub(super) fn expire(&self, id: AccountId, lot: LotId, now: Timestamp) -> Outcome {
        let account = self.account(id);
        let found = account.lot(lot, &self.held_of_lots(id)).ok_or(LedgerError::UnknownLot { lot })?;
        if !found.ended(now) {
            return Err(LedgerError::NotExpired { lot });
        }
        let left = found.left();
        if left <= 0 {
            return Err(LedgerError::NothingLeft { lot });
        }
        self.fits(id, account, 0, Family::Expiries, left)?;
        Ok(Effect::Expired(Expired { account: id, at: now, debit: found.part(left) }))
    }

    pub(super) fn refund(
        &self,
        charge: &ChargeRecord,
        amount: Nano,
        reference: &Reference,
        now: Timestamp,
    ) -> Outcome {
        positive(amount)?;
        self.once(
            &Command::Refund { charge: charge.clone(), amount, reference: reference.clone() },
            reference,
        )?;
        let charged: i128 = charge.debits.iter().map(|debit| i128::from(debit.amount.0)).sum();
        let refunded = self.refunded(charge.hold);
        if refunded + i128::from(amount.0) > charged {
            let (charged, refunded) = (nano(charged), nano(refunded));
            return Err(LedgerError::RefundExceedsCharge { charged, refunded, asked: amount });
        }
        let account = self.account(charge.account);
        let credits = self.back_to_lots(charge, refunded, amount, now);
        let into_lots = credits.iter().filter(|credit| credit.kind != LotKind::Overdraft);
        let into_lots = into_lots.map(|credit| i128::from(credit.amount.0)).sum();
        self.fits(charge.account, account, into_lots, Family::ChargeRefunds, amount.0.into())?;
        let spend = charge.layers.iter().filter(|layer| layer.counter.metric == Metric::Spend);
        Ok(Effect::Refunded(Refunded {
            hold: charge.hold,
            account: charge.account,
            at: now,
            credits: credits.into(),
            layers: spend.map(|layer| HeldLayer { amount: amount.0, ..*layer }).collect(),
            reference: reference.clone(),
            content: 0,
        }))
    }

    /// The charge's nano-units stand in a row, in the order in which they were paid; a refund takes them from
    /// the end, leaving out those that went back already.
    fn back_to_lots(
        &self,
        charge: &ChargeRecord,
        refunded: i128,
        amount: Nano,
        now: Timestamp,
    ) -> Vec<Debit> {
        let charged: i128 = charge.debits.iter().map(|debit| i128::from(debit.amount.0)).sum();
        let (to, from) = (charged - refunded, charged - refunded - i128::from(amount.0));
        let account = self.account(charge.account);
        let held = self.held_of_lots(charge.account);
        let mut debt = self.debt(charge.account);
        let mut new = u64::MAX;
        let mut fresh = |debit: Debit| {
            new -= 1;
            Debit { lot: LotId(new + 1), ..debit }
        };
        let mut begin = charged;
        let mut credits = Vec::new();
        for paid in charge.debits.iter().rev() {
            let end = begin;
            begin -= i128::from(paid.amount.0);
            let part = end.min(to) - begin.max(from);
            if part <= 0 {
                continue;
            }
            if paid.kind == LotKind::Overdraft {
                let repaid = part.min(debt);
                debt -= repaid;
                if repaid > 0 {
                    credits.push(Debit { amount: nano(repaid), ..*paid });
                }
                if part > repaid {
                    let amount = nano(part - repaid);
                    credits.push(fresh(Debit { amount, kind: LotKind::Purchased, ..*paid }));
                }
                continue;
            }
            let same = account.lot(paid.lot, &held).is_none_or(|lot| lot.part(paid.amount.0.into()) == *paid);
            let back = Debit { amount: nano(part), ..*paid };
            match paid.expires_at {
                Some(end) if end <= now => {
                    let expires_at = Some(Timestamp(now.0 + REOPENED_MS));
                    credits.push(fresh(Debit { expires_at, ..back }));
                }
                _ if same => credits.push(back),
                _ => credits.push(fresh(back)),
            }
        }
        credits
    }

    pub(super) fn withdraw(&self, command: &Command, now: Timestamp) -> Outcome {
        let Command::Withdraw { account: id, kind, lot, amount, arrears, reference } = command else {
            unreachable!("a withdrawal")
        };
        positive(*amount)?;
        self.once(command, reference)?;
        let account = self.account(*id);
        let held = self.held_of_lots(*id);
        let mut available = account.available(now);
        let mut debits = Vec::new();
        if let Some(lot) = lot {
            let named = account.lot(*lot, &held).ok_or(LedgerError::UnknownLot { lot: *lot })?;
            if named.ended(now) {
                available += named.left();
            }
            let part = named.left().min(amount.0.into());
            debits.extend((part > 0).then(|| named.part(part)));
        }
        if available < i128::from(amount.0) && !arrears {
            let (available, held) = (nano(available), nano(self.held(*id)));
            return Err(LedgerError::BalanceInsufficient { available, held, needed: *amount });
        }
        let taken: i128 = debits.iter().map(|debit| i128::from(debit.amount.0)).sum();
        debits.extend(Self::draw(account, i128::from(amount.0) - taken, now, *lot));
        let owes = debits.iter().filter(|debit| debit.kind == LotKind::Overdraft);
        let owes: i128 = owes.map(|debit| i128::from(debit.amount.0)).sum();
        let (family, moved) = match kind {
            Withdrawal::Adjustment => (Family::Adjustments, -i128::from(amount.0)),
            Withdrawal::OrderRefund => (Family::OrderRefunds, amount.0.into()),
            Withdrawal::Chargeback => (Family::Chargebacks, amount.0.into()),
        };
        if owes > 0 && account.owed() + owes > CEILING {
            return Err(LedgerError::TooLarge);
        }
        self.fits(*id, account, 0, family, moved)?;
        let (account, kind, reference) = (*id, *kind, reference.clone());
        Ok(Effect::Withdrawn(Withdrawn {
            account,
            at: now,
            kind,
            debits: debits.into(),
            reference,
            content: 0,
        }))
    }

    /// A reference posts once; the same words again are no news, other words are a mistake.
    fn once(&self, command: &Command, reference: &Reference) -> Result<(), LedgerError> {
        match self.posted.get(&*reference.0) {
            None => Ok(()),
            Some(words) if *words == meaning(command) => {
                Err(LedgerError::AlreadyPosted { reference: reference.clone() })
            }
            Some(_) => Err(LedgerError::ReferenceReused { reference: reference.clone() }),
        }
    }
}

/// What a reference stands for. The number of the lot that a credit opens is not part of it: who asks again
/// has drawn a new one.
pub fn meaning(command: &Command) -> String {
    match command {
        Command::Credit { account, kind, priority, expires_at, amount, source, .. } => {
            format!("credit {account:?} {kind:?} {priority} {expires_at:?} {amount:?} {source:?}")
        }
        Command::Refund { charge, amount, .. } => {
            format!("refund {:?} {:?} {amount:?}", charge.account, charge.hold)
        }
        Command::Withdraw { account, kind, lot, amount, arrears, .. } => {
            format!("withdraw {account:?} {kind:?} {lot:?} {amount:?} {arrears}")
        }
        _ => String::new(),
    }
}

fn positive(amount: Nano) -> Result<(), LedgerError> {
    if amount.0 > 0 { Ok(()) } else { Err(LedgerError::BadAmount { amount }) }
}
