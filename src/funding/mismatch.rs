//! S42: what was paid is not what the order says. Nothing is credited; a case has both sides, and somebody decides.
//!
//! Promises: the case is there before the order says so, once for an order; it is gone as soon as the order has its money
//! or expects none.

use ledger::Nano;
use serde_json::json;

use super::money;
use super::order::Order;
use super::orders::Funding;
use super::provider::Paid;
use crate::id::ReconcileCaseId;
use crate::reconcile::{Case, CaseState, Class, Kind, Row, cases};
use crate::store::StoreError;

const CAUSE: &str = "The payment is signed and names the order, and is not what the order says: the payer changed the amount, or the order was priced anew";
/// Whose act closes a case.
const CLOSED_BY: &str = "orders";

/// Where cases of orders are, apart from those that a comparison finds and closes.
fn source(order: &Order) -> String {
    format!("orders:{}", order.provider)
}

fn subject(order: &Order) -> String {
    format!("{}:{}", Class::Payment.as_str(), order.id)
}

impl Funding {
    /// Opens the case, or has it show what came last.
    pub(super) fn open_case(&self, order: &Order, paid: &Paid) -> Result<(), StoreError> {
        let key = paid.payment_ref.clone().unwrap_or_else(|| order.id.to_string().into());
        let row = |amount: Nano, currency: &str| {
            Row::new(key.clone(), Class::Payment, Some(amount), currency, self.clock.now_ms())
        };
        let ours = Row {
            name: order.id.to_string().into(),
            account: order.account.to_string().into(),
            at_ms: order.created_ms,
            ..row(order.pay, &order.pay_currency)
        };
        let theirs = Row {
            name: format!("callback of {}", order.provider).into(),
            ..row(paid.amount, &paid.currency)
        };
        let kind =
            if paid.currency == order.pay_currency { Kind::AmountDiffers } else { Kind::CurrencyDiffers };
        let case = Case {
            id: ReconcileCaseId::new(&*self.clock, &*self.entropy),
            source: source(order),
            kind,
            subject: subject(order),
            state: CaseState::Open,
            ours: Some(cases::view(&ours)),
            theirs: Some(cases::view(&theirs)),
            cause: CAUSE.to_owned(),
            proposal: Some(json!({
                "action": "refund_at_provider",
                "order": order.id,
                "amount": money::text(paid.amount, &paid.currency),
                "currency": paid.currency,
            })),
            opened_ms: self.clock.now_ms(),
            seen_run: 0,
            closed_ms: None,
            closed_by: None,
            reason: None,
            corrections: Vec::new(),
        };
        self.cases.see(&[case])
    }

    /// The order has gone on: nobody has to look any more. What cannot be closed now stays for somebody to close.
    pub(super) fn close_case(&self, order: &Order) {
        let reason = format!("the order is {}", order.state.as_str());
        let now_ms = self.clock.now_ms();
        if let Err(why) = self.cases.agreed(&source(order), &subject(order), (CLOSED_BY, &reason), now_ms) {
            tracing::warn!(order = %order.id, %why, "the case of an order could not be closed");
        }
    }
}
