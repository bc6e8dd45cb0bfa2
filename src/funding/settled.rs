//! What moved for orders, as it must stand at the provider and in the ledger: for whoever compares.

use std::ops::ControlFlow;

use ledger::Nano;

use super::order::{Dispute, DisputeStage, Order, Refund, RefundState};
use super::orders::Funding;
use crate::id::{AccountId, OrderId};
use crate::store::Result;

/// What money moved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Paid,
    Refunded,
    Disputed,
}

/// One movement of an order's money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub order: OrderId,
    pub account: AccountId,
    pub provider: Box<str>,
    /// The provider's own numbers of the order and of the payment in it.
    pub provider_ref: Option<Box<str>>,
    pub payment_ref: Option<Box<str>>,
    pub moved: Moved,
    /// What moved at the provider, as the platform sees it; `None`: nothing moved there.
    pub pay: Option<Nano>,
    pub currency: Box<str>,
    pub at_ms: i64,
    /// What moved in the ledger, as the account sees it, and its reference there; `None`: nothing was posted.
    pub posted: Option<(Nano, Box<str>)>,
    /// Whether it was posted is for the ledger to say.
    pub uncertain: bool,
}

impl Funding {
    /// All that moved for orders between two times, in no order.
    pub fn each_settled(
        &self,
        from_ms: i64,
        until_ms: i64,
        each: &mut dyn FnMut(Settled) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.store.each_paid(from_ms, until_ms, &mut |order| each(paid(&order)))?;
        self.store.each_refund(from_ms, until_ms, &mut |order, refund| {
            for settled in refunded(order, &refund) {
                if each(settled)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.store.each_dispute(from_ms, until_ms, &mut |order, dispute| {
            for settled in disputed(order, &dispute) {
                if each(settled)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

fn of_order(order: &Order, moved: Moved, at_ms: i64) -> Settled {
    let currency = order.paid.as_ref().map_or(&order.pay_currency, |(_, currency)| currency);
    Settled {
        order: order.id,
        account: order.account,
        provider: order.provider.clone(),
        provider_ref: order.provider_ref.clone(),
        payment_ref: order.payment_ref.clone(),
        moved,
        pay: None,
        currency: currency.clone(),
        at_ms,
        posted: None,
        uncertain: false,
    }
}

fn negative(amount: Nano) -> Nano {
    Nano(amount.0.saturating_neg())
}

fn paid(order: &Order) -> Settled {
    let at_ms = order.paid_ms.or(order.credited_ms).unwrap_or(order.created_ms);
    let pay = order.paid.as_ref().map_or(order.pay, |(amount, _)| *amount);
    let posted = order.credited_ms.map(|_| (order.credit, order.reference().0));
    Settled { pay: Some(pay), posted, ..of_order(order, Moved::Paid, at_ms) }
}

fn refunded(order: &Order, refund: &Refund) -> Vec<Settled> {
    let at_ms = refund.done_ms.unwrap_or(refund.at_ms);
    let reference = refund.reference().0;
    let posted = refund.credit.is_positive().then(|| (negative(refund.credit), reference.clone()));
    let base = of_order(order, Moved::Refunded, at_ms);
    match refund.state {
        RefundState::Done => vec![Settled { pay: Some(negative(refund.pay)), posted, ..base }],
        // What was taken before it failed came back.
        RefundState::Failed => {
            let back = (refund.credit, format!("{reference}:returned").into());
            let back = Settled { posted: Some(back), uncertain: true, ..base.clone() };
            vec![Settled { posted, uncertain: true, ..base }, back]
        }
        _ => vec![Settled { posted, uncertain: true, ..base }],
    }
}

fn disputed(order: &Order, dispute: &Dispute) -> Vec<Settled> {
    let reference = dispute.reference().0;
    let posted = dispute.credit.is_positive().then(|| (negative(dispute.credit), reference.clone()));
    let base = of_order(order, Moved::Disputed, dispute.at_ms);
    match dispute.stage {
        DisputeStage::Inquiry => Vec::new(),
        DisputeStage::Open | DisputeStage::Lost => {
            vec![Settled { pay: Some(negative(dispute.pay)), posted, ..base }]
        }
        DisputeStage::Won => {
            let back = (dispute.returned, format!("{reference}:won").into());
            let back =
                Settled { pay: Some(dispute.pay), posted: Some(back), uncertain: true, ..base.clone() };
            vec![Settled { pay: Some(negative(dispute.pay)), posted, uncertain: true, ..base }, back]
        }
    }
}
