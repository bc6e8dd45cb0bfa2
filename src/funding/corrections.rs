//! Corrections on the books of a running gateway: proposing, deciding, posting, finding them.
//!
//! The way of a correction: it is written down with who asked and why; above a threshold it waits for another person; then
//! the ledger posts one new entry under `correction:<id>`, and the correction says so. What a crash leaves in between is put
//! right at the start.
//! Promises: nothing is changed that was posted before; a charge is never refunded beyond itself, whoever asks at once
//! (I10); what one person moves for an account within a day without another's consent is bounded in all, so that a large
//! correction cannot be cut into small ones; a reference stands for one correction for ever.
//! Must never: move money before it is on disk who asked for it and, where that is needed, who agreed.

use std::fmt;
use std::sync::Arc;

use ledger::{
    Command, CreditSource, Debits, Effect, LedgerError, LotKind, Nano, Settled, Timestamp, Withdrawal,
};

use super::correction::{
    Correction, CorrectionDecision, CorrectionKind, CorrectionState, CorrectionTerms, person,
};
use super::correction_error::CorrectionError;
use super::correction_store::{self as rows, CorrectionSearch};
use super::error::FundingError;
use super::orders::{Funding, checked_reason};
use super::refund::RefundAsk;
use crate::books::lookup::{self, StoredCall};
use crate::books::{Books, BooksError};
use crate::clock::{Clock, Entropy};
use crate::directory::FieldError;
use crate::id::{CorrectionId, LotId, OrderId, RequestId};
use crate::store::{Db, Projections, Tx};

const DAY_MS: i64 = 86_400_000;
const REFERENCE_BYTES_MAX: usize = 200;
/// Corrections that are looked at in one go.
const PAGE: u32 = 500;

/// See the module. Every method blocks.
pub struct Corrections {
    db: Db,
    books: Arc<Books>,
    projections: Projections,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Makes refunds of orders.
    funding: Arc<Funding>,
    approval: ApprovalAbove,
}

/// What one person may move for one account within a day, in all, without a second one.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalAbove {
    /// By refunds of charges, compensation and adjustments.
    pub corrections: Nano,
    /// By plain credits, and refunds and completions of orders.
    pub money: Nano,
}

impl ApprovalAbove {
    /// The threshold of a kind, with the kinds that count together.
    fn of(self, kind: CorrectionKind) -> (Nano, &'static [CorrectionKind]) {
        use CorrectionKind::{Adjustment, Compensation, Credit, OrderCompletion, OrderRefund, Refund};
        match kind {
            Refund | Compensation | Adjustment => (self.corrections, &[Refund, Compensation, Adjustment]),
            Credit | OrderRefund | OrderCompletion => (self.money, &[Credit, OrderRefund, OrderCompletion]),
        }
    }
}

/// A correction as it is asked for.
#[derive(Clone, Debug)]
pub struct NewCorrection {
    pub terms: CorrectionTerms,
    /// The caller's own name of it; `None`: asked for anew each time.
    pub reference: Option<String>,
    pub reason: String,
    pub actor: String,
}

impl Corrections {
    /// Opens the corrections on the books. What a crash left is put right by [`Corrections::repair`].
    pub fn new(
        db: Db,
        books: Arc<Books>,
        projections: Projections,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        funding: Arc<Funding>,
        approval: ApprovalAbove,
    ) -> Self {
        Corrections { db, books, projections, clock, entropy, funding, approval }
    }

    /// What is left of a call's charge, with whose it is: the terms of a refund of all of it.
    pub fn refundable(&self, request: RequestId) -> Result<(ledger::AccountId, Nano), CorrectionError> {
        let charge = self.charge(request)?;
        let charged = ledger::total(&charge.debits);
        Ok((charge.account, charged.saturating_sub(self.books.refunded(charge.hold))))
    }

    /// Writes a correction down, and posts it if one person is enough. The same reference with the same terms is the
    /// correction that it was; `true`: it was there before.
    pub fn propose(&self, new: &NewCorrection) -> Result<(Correction, bool), CorrectionError> {
        let reason = checked_reason(&new.reason)?;
        self.check(&new.terms)?;
        let id = CorrectionId::new(&*self.clock, &*self.entropy);
        let reference = match &new.reference {
            Some(text) if text.trim().is_empty() || text.len() > REFERENCE_BYTES_MAX => {
                return Err(FieldError::new("reference", "must have from 1 to 200 bytes").into());
            }
            Some(text) => text.as_str().into(),
            None => format!("correction:{id}").into(),
        };
        let proposal = Correction {
            id,
            state: CorrectionState::Pending,
            terms: new.terms.clone(),
            lot: LotId::new(&*self.clock, &*self.entropy),
            reference,
            reason: reason.into(),
            proposed_by: new.actor.as_str().into(),
            proposed_ms: self.clock.now_ms(),
            needs_approval: false,
            decision: None,
            posted_ms: None,
            problem: None,
            version: 1,
        };
        let (correction, known) = self.db.transaction(|tx| self.write_down(tx, proposal.clone()))?;
        match correction.state {
            CorrectionState::Approved => Ok((self.post(&correction)?, known)),
            _ => Ok((correction, known)),
        }
    }

    fn write_down(
        &self,
        tx: &mut Tx<'_>,
        mut proposal: Correction,
    ) -> Result<(Correction, bool), CorrectionError> {
        if let Some(known) = rows::by_reference_in(tx, &proposal.reference)? {
            if known.terms != proposal.terms {
                return Err(CorrectionError::ReferenceReused { reference: proposal.reference });
            }
            return Ok((known, true));
        }
        let since_ms = proposal.proposed_ms.saturating_sub(DAY_MS);
        let (above, kinds) = self.approval.of(proposal.terms.kind);
        let alone = rows::alone_in(tx, proposal.terms.account, since_ms, kinds)?;
        let amount = Nano(proposal.terms.amount.0.saturating_abs());
        proposal.needs_approval = alone.saturating_add(amount) > above;
        if !proposal.needs_approval {
            proposal.state = CorrectionState::Approved;
        }
        rows::insert(tx, &proposal)?;
        Ok((proposal, false))
    }

    /// What cannot be is said before anything is written down. The ledger has the last word.
    fn check(&self, terms: &CorrectionTerms) -> Result<(), CorrectionError> {
        let takes = terms.kind == CorrectionKind::Adjustment && terms.amount < Nano::ZERO;
        // What a dispute has taken already is not taken again, however much goes back to who paid.
        let takes_nothing = terms.kind == CorrectionKind::OrderRefund && terms.amount == Nano::ZERO;
        if !terms.amount.is_positive() && !takes && !takes_nothing {
            return Err(FieldError::new("amount", "must be above zero").into());
        }
        if terms.amount.0 == i64::MIN {
            return Err(FieldError::new("amount", "is too large").into());
        }
        if terms.kind == CorrectionKind::Refund {
            let request = terms.request.ok_or_else(|| FieldError::new("request", "is missing"))?;
            let charge = self.charge(request)?;
            let (charged, refunded) = (ledger::total(&charge.debits), self.books.refunded(charge.hold));
            if charge.account != terms.account.in_book(terms.book) {
                return Err(FieldError::new("account", "is not the one that was charged").into());
            }
            if charged.saturating_sub(refunded) < terms.amount {
                return Err(CorrectionError::ExceedsCharge { charged, refunded, asked: terms.amount });
            }
        }
        if takes && !terms.arrears {
            let available = self.books.balance(terms.account.in_book(terms.book)).available;
            let needed = Nano(terms.amount.0.saturating_neg());
            if available < needed {
                return Err(CorrectionError::ExceedsBalance { available, needed });
            }
        }
        let now_ms = self.clock.now_ms();
        if !takes && terms.expires_ms.is_some_and(|end_ms| end_ms <= now_ms) {
            return Err(FieldError::new("expires_at", "is not in the future").into());
        }
        Ok(())
    }

    /// Agrees to a correction, as another person than who proposed it, and posts it.
    pub fn approve(
        &self,
        id: CorrectionId,
        actor: &str,
        reason: &str,
    ) -> Result<Correction, CorrectionError> {
        let approved = self.decide(id, CorrectionState::Approved, actor, reason)?;
        self.post(&approved)
    }

    /// Ends a correction before it is posted. Who proposed it may do that, too.
    pub fn reject(&self, id: CorrectionId, actor: &str, reason: &str) -> Result<Correction, CorrectionError> {
        self.decide(id, CorrectionState::Rejected, actor, reason)
    }

    fn decide(
        &self,
        id: CorrectionId,
        state: CorrectionState,
        actor: &str,
        reason: &str,
    ) -> Result<Correction, CorrectionError> {
        let reason = checked_reason(reason)?;
        let at_ms = self.clock.now_ms();
        self.change(id, |correction| {
            if correction.state != CorrectionState::Pending {
                return Err(CorrectionError::Decided { correction: id, state: correction.state });
            }
            if state == CorrectionState::Approved && person(actor) == person(&correction.proposed_by) {
                return Err(CorrectionError::SamePerson { correction: id });
            }
            correction.state = state;
            correction.decision = Some(CorrectionDecision { by: actor.into(), at_ms, reason: reason.into() });
            Ok(())
        })
    }

    /// Posts what is agreed, and has the correction say so. May be repeated at will.
    fn post(&self, correction: &Correction) -> Result<Correction, CorrectionError> {
        match (correction.terms.kind, correction.terms.order) {
            (CorrectionKind::OrderRefund, Some(order)) => return self.send_back(correction, order),
            (CorrectionKind::OrderCompletion, Some((order, _))) => return self.complete(correction, order),
            _ => {}
        }
        let command = self.command(correction)?;
        match self.books.execute_blocking(&command) {
            Ok(_) => self.posted(correction.id),
            Err(BooksError::Refused(LedgerError::AlreadyPosted { .. })) => {
                // By somebody who may still be waiting for the disk.
                self.books.flush_blocking().map_err(BooksError::from)?;
                self.posted(correction.id)
            }
            Err(BooksError::Refused(why)) => {
                self.failed(correction.id, &why)?;
                Err(refused(why))
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Has an order refunded. What the provider will not do now is the order's to tell; what cannot be ends the correction.
    fn send_back(
        &self,
        correction: &Correction,
        (order, pay): (OrderId, Nano),
    ) -> Result<Correction, CorrectionError> {
        let ask = RefundAsk {
            amount: Some(pay),
            reason: correction.reason.to_string(),
            arrears: correction.terms.arrears,
            actor: correction.proposed_by.to_string(),
            correction: Some(correction.id),
        };
        self.ended(correction, self.funding.refund(order, &ask))
    }

    /// Has an order credited without its provider's word.
    fn complete(&self, correction: &Correction, order: OrderId) -> Result<Correction, CorrectionError> {
        let done = self.funding.complete(order, &correction.proposed_by, &correction.reason, correction.id);
        self.ended(correction, done)
    }

    fn ended<T>(
        &self,
        correction: &Correction,
        done: Result<T, FundingError>,
    ) -> Result<Correction, CorrectionError> {
        match done {
            Ok(_) => self.posted(correction.id),
            // Whether it is under way is not known now.
            Err(why @ (FundingError::Books(_) | FundingError::Store(_))) => Err(why.into()),
            Err(why) => {
                self.failed(correction.id, &why)?;
                Err(why.into())
            }
        }
    }

    fn command(&self, correction: &Correction) -> Result<Command, CorrectionError> {
        let (terms, reference) = (&correction.terms, correction.posting());
        let account = terms.account.in_book(terms.book);
        let credit = |source| Command::Credit {
            account,
            lot: ledger::LotId(correction.lot.raw()),
            kind: terms.lot_kind,
            priority: terms.priority,
            expires_at: terms.expires_ms.map(Timestamp),
            amount: terms.amount,
            source,
            reference: reference.clone(),
        };
        Ok(match (terms.kind, terms.request) {
            (CorrectionKind::Refund, Some(request)) => {
                Command::Refund { charge: self.charge(request)?, amount: terms.amount, reference }
            }
            (CorrectionKind::Refund, None) => return Err(FieldError::new("request", "is missing").into()),
            (CorrectionKind::OrderRefund | CorrectionKind::OrderCompletion, _) => {
                return Err(FieldError::new("order", "is missing").into());
            }
            (CorrectionKind::Credit, _) if terms.lot_kind == LotKind::Purchased => {
                credit(CreditSource::Payment)
            }
            (CorrectionKind::Credit, _) => credit(CreditSource::Promotion),
            (CorrectionKind::Compensation, _) => credit(CreditSource::Compensation),
            (CorrectionKind::Adjustment, _) if terms.amount.is_positive() => credit(CreditSource::Adjustment),
            (CorrectionKind::Adjustment, _) => Command::Withdraw {
                account,
                kind: Withdrawal::Adjustment,
                lot: None,
                amount: Nano(terms.amount.0.saturating_neg()),
                arrears: terms.arrears,
                reference,
            },
        })
    }

    /// The charge of a call as the ledger takes it back: who paid, from which lots, in which windows.
    fn charge(&self, request: RequestId) -> Result<ledger::ChargeRecord, CorrectionError> {
        let call = lookup::call(&self.books, &self.projections, request)?;
        let not_charged = || FieldError::new("request", "is no call that was charged");
        Ok(call.as_ref().and_then(charge_record).ok_or_else(not_charged)?)
    }

    fn posted(&self, id: CorrectionId) -> Result<Correction, CorrectionError> {
        let now_ms = self.clock.now_ms();
        self.change(id, |correction| {
            if correction.state == CorrectionState::Approved {
                (correction.state, correction.posted_ms) = (CorrectionState::Posted, Some(now_ms));
            }
            Ok(())
        })
    }

    fn failed(&self, id: CorrectionId, why: &dyn fmt::Display) -> Result<Correction, CorrectionError> {
        self.change(id, |correction| {
            if correction.state == CorrectionState::Approved {
                correction.state = CorrectionState::Failed;
                correction.problem = Some(why.to_string().into());
            }
            Ok(())
        })
    }

    /// Posts what was agreed and not posted. To be called once the books are open, and from time to time. Answers how
    /// many corrections it was.
    pub fn repair(&self) -> Result<u32, CorrectionError> {
        let (mut repaired, mut after) = (0, 0);
        loop {
            let page = rows::approved(&self.db, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(repaired) };
            after = last.id.raw();
            for correction in &page {
                match self.post(correction) {
                    Ok(_) => repaired += 1,
                    Err(CorrectionError::Store(why)) => return Err(why.into()),
                    // Failed for good, or tried again later.
                    Err(why) => tracing::error!(correction = %correction.id, %why, "was not posted"),
                }
            }
        }
    }

    fn change(
        &self,
        id: CorrectionId,
        change: impl Fn(&mut Correction) -> Result<(), CorrectionError>,
    ) -> Result<Correction, CorrectionError> {
        self.db.transaction(|tx| {
            let mut correction = rows::correction_in(tx, id)?.ok_or(CorrectionError::NotFound)?;
            let before = correction.clone();
            change(&mut correction)?;
            if correction != before {
                rows::update(tx, &mut correction)?;
            }
            Ok(correction)
        })
    }

    pub fn get(&self, id: CorrectionId) -> Result<Correction, CorrectionError> {
        rows::correction(&self.db, id)?.ok_or(CorrectionError::NotFound)
    }

    /// That which was asked for under this reference.
    pub fn by_reference(&self, reference: &str) -> Result<Option<Correction>, CorrectionError> {
        Ok(self.db.transaction(|tx| rows::by_reference_in(tx, reference))?)
    }

    pub fn search(&self, search: &CorrectionSearch) -> Result<Vec<Correction>, CorrectionError> {
        Ok(rows::search(&self.db, search)?)
    }
}

fn refused(why: LedgerError) -> CorrectionError {
    match why {
        LedgerError::RefundExceedsCharge { charged, refunded, asked } => {
            CorrectionError::ExceedsCharge { charged, refunded, asked }
        }
        LedgerError::BalanceInsufficient { available, needed, .. } => {
            CorrectionError::ExceedsBalance { available, needed }
        }
        why => BooksError::Refused(why).into(),
    }
}

/// What each lot paid. One that paid within the hold and beyond it is named once: it gets back one lot's worth.
fn paid(settled: &Settled) -> Debits {
    let mut paid = Debits::new();
    for debit in settled.debits.iter().chain(&settled.overrun) {
        match paid.iter_mut().find(|known| known.lot == debit.lot && known.kind == debit.kind) {
            Some(known) => known.amount = known.amount.saturating_add(debit.amount),
            None => paid.push(*debit),
        }
    }
    paid
}

/// Of a call that was settled with a charge.
fn charge_record(call: &StoredCall) -> Option<ledger::ChargeRecord> {
    let layers = call.money.iter().find_map(|effect| match effect {
        Effect::Held(held) => Some(held.layers.clone()),
        _ => None,
    });
    call.money.iter().find_map(|effect| match effect {
        Effect::Settled(settled) if settled.charged().is_positive() => Some(ledger::ChargeRecord {
            hold: settled.hold,
            account: settled.account,
            debits: paid(settled),
            layers: layers.clone().unwrap_or_default(),
        }),
        _ => None,
    })
}
