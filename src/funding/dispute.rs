//! Disputes: the payer's bank takes money of an order back, and may return it.
//!
//! What was taken is remembered when it is taken, so that a dispute that is won gives back exactly that, whatever was
//! refunded meanwhile; news that come out of order lead to where they would have led in order.

use ledger::Nano;

use super::error::FundingError;
use super::money;
use super::moves::Given;
use super::order::{Dispute, DisputeStage, Order, OrderEvent};
use super::orders::Funding;
use super::provider::DisputeTold;
use super::store;
use crate::id::OrderId;
use crate::store::Tx;

impl Funding {
    pub(super) fn take_dispute(
        &self,
        id: OrderId,
        told: &DisputeTold,
        line: &OrderEvent,
    ) -> Result<(), FundingError> {
        let _one_at_a_time = self.refunding.lock();
        self.change_with(id, |tx, order| {
            let known = store::disputes_in(tx, id)?.into_iter().find(|known| known.number == told.number);
            let goes_on = known.as_ref().is_none_or(|known| known.stage.may_become(told.stage));
            let effect = match goes_on {
                true => self.move_dispute(tx, order, known, told)?,
                false => "known",
            };
            Ok(OrderEvent { effect: effect.into(), detail: Some(told.number.clone()), ..line.clone() })
        })?;
        self.go_on(id).map(drop)
    }

    fn move_dispute(
        &self,
        tx: &mut Tx<'_>,
        order: &mut Order,
        known: Option<Dispute>,
        told: &DisputeTold,
    ) -> Result<&'static str, FundingError> {
        let given = Given::read(tx, order)?;
        let mut dispute = known.unwrap_or_else(|| Dispute {
            order: order.id,
            number: told.number.clone(),
            stage: DisputeStage::Inquiry,
            pay: told.amount,
            credit: Nano::ZERO,
            returned: Nano::ZERO,
            at_ms: self.clock.now_ms(),
        });
        let had_it = dispute.stage.takes_money();
        dispute.stage = told.stage;
        if dispute.stage.takes_money() && !had_it {
            dispute.pay = told.amount;
            dispute.credit = money::share(order.credit, told.amount, order.pay).min(given.left(order));
        }
        if dispute.stage == DisputeStage::Won {
            let kept = given.shortfall(order).min(dispute.credit);
            dispute.returned = dispute.credit.saturating_sub(kept);
            order.refunded = order.refunded.saturating_add(kept);
        }
        store::put_dispute(tx, &dispute)?;
        self.restate(tx, order)?;
        Ok(match dispute.stage {
            DisputeStage::Inquiry => "noted",
            DisputeStage::Open => "disputed",
            DisputeStage::Lost => "dispute_lost",
            DisputeStage::Won => "dispute_won",
        })
    }
}
