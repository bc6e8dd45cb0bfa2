//! Money of orders that leaves an account, or comes back to it: the ledger follows what the rows of refunds and
//! disputes say, however often it is made to.

use ledger::{AccountId, Command, CreditSource, LedgerError, LotKind, Nano, Reference, Withdrawal};

use super::error::FundingError;
use super::money;
use super::order::{Dispute, DisputeStage, Order, OrderState, Refund, RefundState};
use super::orders::Funding;
use super::store;
use crate::books::BooksError;
use crate::id::LotId;
use crate::store::Tx;

const LOT_PRIORITY: u8 = 100;

/// What has gone from an order, or is about to: of what was paid, and of what was credited.
pub(super) struct Given {
    pub pay: Nano,
    pub credit: Nano,
    /// What disputes hold of the credit.
    pub disputed: Nano,
}

impl Given {
    pub fn of(refunds: &[Refund], disputes: &[Dispute]) -> Self {
        let refunds = refunds.iter().filter(|refund| refund.state != RefundState::Failed);
        let mut given = Given { pay: Nano::ZERO, credit: Nano::ZERO, disputed: Nano::ZERO };
        for refund in refunds {
            given.pay = given.pay.saturating_add(refund.pay);
            given.credit = given.credit.saturating_add(refund.credit);
        }
        for dispute in disputes {
            match dispute.stage {
                stage if stage.takes_money() => {
                    given.disputed = given.disputed.saturating_add(dispute.credit);
                }
                DisputeStage::Won => {
                    given.credit =
                        given.credit.saturating_add(dispute.credit.saturating_sub(dispute.returned));
                }
                _ => {}
            }
        }
        given
    }

    pub fn read(tx: &mut Tx<'_>, order: &Order) -> Result<Self, FundingError> {
        Ok(Self::of(&store::refunds_in(tx, order.id)?, &store::disputes_in(tx, order.id)?))
    }

    /// What the account gives for a further part of what was paid: all parts together are the credit, and never more
    /// than it.
    pub fn next_credit(&self, order: &Order, pay: Nano) -> Nano {
        let after = money::share(order.credit, self.pay.saturating_add(pay), order.pay);
        after.saturating_sub(self.credit).min(self.left(order)).max(Nano::ZERO)
    }

    /// What is left of the credit for a dispute, or after what disputes hold.
    pub fn left(&self, order: &Order) -> Nano {
        order.credit.saturating_sub(self.credit).saturating_sub(self.disputed).max(Nano::ZERO)
    }

    /// What refunds did not take from the account because a dispute had it already.
    pub fn shortfall(&self, order: &Order) -> Nano {
        let share =
            if self.pay.is_positive() { money::share(order.credit, self.pay, order.pay) } else { Nano::ZERO };
        share.saturating_sub(self.credit).max(Nano::ZERO)
    }
}

impl Funding {
    /// Where an order stands whose refunds or disputes have changed. It is looked at again at once, should the
    /// ledger not follow now.
    pub(super) fn restate(&self, tx: &mut Tx<'_>, order: &mut Order) -> Result<(), FundingError> {
        let refunds = store::refunds_in(tx, order.id)?;
        let disputes = store::disputes_in(tx, order.id)?;
        let is_disputed =
            disputes.iter().any(|dispute| dispute.stage.takes_money() && dispute.credit.is_positive());
        order.state = match refunds.iter().any(|refund| refund.state.is_open()) {
            _ if is_disputed => OrderState::Disputed,
            true => OrderState::RefundPending,
            false => order.state_after_refunds(),
        };
        order.poll_ms = Some(self.clock.now_ms());
        Ok(())
    }

    /// Has the ledger follow the disputes, and the refunds that failed.
    pub(super) fn follow(&self, order: &Order) -> Result<(), FundingError> {
        for dispute in self.store.disputes(order.id)? {
            let reference = dispute.reference();
            if dispute.stage.takes_money() {
                self.withdraw(order, Withdrawal::Chargeback, dispute.credit, true, reference.clone())?;
                self.tell_arrears(order, &reference, dispute.at_ms)?;
            } else if dispute.stage == DisputeStage::Won && self.books.has_posted(&reference) {
                self.give_back(order, dispute.returned, &format!("{}:won", reference.0))?;
            }
        }
        for refund in self.store.refunds(order.id)? {
            let reference = refund.reference();
            if refund.state == RefundState::Failed && self.books.has_posted(&reference) {
                self.give_back(order, refund.credit, &format!("{}:returned", reference.0))?;
            }
        }
        Ok(())
    }

    /// Takes money from the account, once for a reference: from the order's own lot as far as that has it.
    pub(super) fn withdraw(
        &self,
        order: &Order,
        kind: Withdrawal,
        amount: Nano,
        arrears: bool,
        reference: Reference,
    ) -> Result<(), FundingError> {
        let account = book(order);
        if !amount.is_positive() || self.books.has_posted(&reference) {
            // It may have been posted by somebody who still waits for the disk.
            return self.books.flush_blocking().map_err(|stopped| BooksError::from(stopped).into());
        }
        let lot = ledger::LotId(order.lot.raw());
        let lot = self.books.balance(account).lots.iter().find(|known| known.id == lot).map(|known| known.id);
        let command = Command::Withdraw { account, kind, lot, amount, arrears, reference };
        match self.books.execute_blocking(&command) {
            Ok(_) => Ok(()),
            Err(BooksError::Refused(LedgerError::BalanceInsufficient { available, needed, .. })) => {
                Err(FundingError::NotEnoughLeft { available, needed })
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Gives money back to the account, once for a reference.
    fn give_back(&self, order: &Order, amount: Nano, reference: &str) -> Result<(), FundingError> {
        let reference = Reference::new(reference);
        if !amount.is_positive() || self.books.has_posted(&reference) {
            return self.books.flush_blocking().map_err(|stopped| BooksError::from(stopped).into());
        }
        let command = Command::Credit {
            account: book(order),
            lot: ledger::LotId(LotId::new(&*self.clock, &*self.entropy).raw()),
            kind: LotKind::Purchased,
            priority: LOT_PRIORITY,
            expires_at: None,
            amount,
            source: CreditSource::Payment,
            reference,
        };
        match self.books.execute_blocking(&command) {
            Ok(_) => Ok(()),
            Err(BooksError::Refused(LedgerError::AlreadyPosted { .. })) => {
                self.books.flush_blocking().map_err(|stopped| BooksError::from(stopped).into())
            }
            Err(why) => Err(why.into()),
        }
    }
}

pub(super) fn book(order: &Order) -> AccountId {
    order.account.in_book(ledger::Book::Live)
}
