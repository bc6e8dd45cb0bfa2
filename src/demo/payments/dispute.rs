//! Disputes at Stripe: the payer's bank takes what was paid, and may return it.

use serde_json::{Value, json};

use super::send::Sent;
use super::{Payments, Shared};

#[derive(Clone, Debug)]
pub(super) struct Dispute {
    pub payment: String,
    pub currency: String,
    pub amount: i64,
    /// It came back.
    pub won: bool,
}

impl Dispute {
    fn object(&self, status: &str) -> Value {
        json!({
            "id": self.payment.replace("pi_", "dp_"),
            "object": "dispute",
            "payment_intent": self.payment,
            "amount": self.amount,
            "currency": self.currency,
            "status": status,
        })
    }
}

impl Payments {
    /// The payer's bank takes back what was paid for an order. `None`: it is not one that is paid here, or there is a
    /// dispute, or money went back already.
    pub fn dispute(&self, order: &str) -> Option<Sent> {
        let object = self.shared.open_dispute(order)?;
        Some(self.shared.send_event("charge.dispute.created", &object))
    }

    /// The bank decides about it, or says again what it decided.
    pub fn end_dispute(&self, order: &str, won: bool) -> Option<Sent> {
        let object = self.shared.close_dispute(order, won)?;
        Some(self.shared.send_event("charge.dispute.closed", &object))
    }
}

impl Shared {
    fn open_dispute(&self, order: &str) -> Option<Value> {
        let mut world = self.world.lock();
        let session = world.sessions.values().find(|session| session.order == order)?;
        let known = world.disputes.iter().any(|dispute| dispute.payment == session.payment);
        if known || !session.paid || session.refunded > 0 {
            return None;
        }
        let (payment, currency) = (session.payment.clone(), session.currency.clone());
        let dispute = Dispute { payment, currency, amount: session.amount, won: false };
        let object = dispute.object("needs_response");
        world.disputes.push(dispute);
        Some(object)
    }

    fn close_dispute(&self, order: &str, won: bool) -> Option<Value> {
        let mut world = self.world.lock();
        let payment = world.sessions.values().find(|session| session.order == order)?.payment.clone();
        let dispute = world.disputes.iter_mut().find(|dispute| dispute.payment == payment)?;
        dispute.won = won;
        Some(dispute.object(if won { "won" } else { "lost" }))
    }
}
