//! Corrections of money: refunds of charges and of orders, compensation, adjustments, plain credits. Each is a document that says who asked for what
//! and why, and above a threshold who agreed; what it does is one new entry of the ledger.

use ledger::{Book, LotKind, Nano, Reference};

use crate::id::{AccountId, CorrectionId, LotId, OrderId, RequestId};

/// What somebody moves by their word alone (B3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CorrectionKind {
    /// Of a charge, back to the lots that paid it.
    Refund,
    /// For something that went wrong, beyond what was charged.
    Compensation,
    /// Any other, up or down.
    Adjustment,
    /// Money that came in on another way than an order's, or was granted.
    Credit,
    /// Of what was paid for an order, back to who paid.
    OrderRefund,
    /// Of an order without its provider's word: its money was seen elsewhere.
    OrderCompletion,
}

impl CorrectionKind {
    pub const ALL: [CorrectionKind; 6] = [
        CorrectionKind::Refund,
        CorrectionKind::Compensation,
        CorrectionKind::Adjustment,
        CorrectionKind::Credit,
        CorrectionKind::OrderRefund,
        CorrectionKind::OrderCompletion,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            CorrectionKind::Refund => "refund",
            CorrectionKind::Compensation => "compensation",
            CorrectionKind::Adjustment => "adjustment",
            CorrectionKind::Credit => "credit",
            CorrectionKind::OrderRefund => "order_refund",
            CorrectionKind::OrderCompletion => "order_completion",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a correction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CorrectionState {
    /// Waits for a second person.
    Pending,
    /// Agreed, or small enough; the ledger is about to be asked.
    Approved,
    /// The entry is in the ledger.
    Posted,
    Rejected,
    /// The ledger refused it for good.
    Failed,
}

impl CorrectionState {
    pub const ALL: [CorrectionState; 5] = [
        CorrectionState::Pending,
        CorrectionState::Approved,
        CorrectionState::Posted,
        CorrectionState::Rejected,
        CorrectionState::Failed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            CorrectionState::Pending => "pending",
            CorrectionState::Approved => "approved",
            CorrectionState::Posted => "posted",
            CorrectionState::Rejected => "rejected",
            CorrectionState::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a correction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrectionTerms {
    pub kind: CorrectionKind,
    pub account: AccountId,
    pub book: Book,
    /// Above zero, but for an adjustment that takes.
    pub amount: Nano,
    /// The call whose charge is refunded, or which a compensation is for.
    pub request: Option<RequestId>,
    /// The order that is refunded or completed, and what goes back to who paid, or came from them, in the currency that was
    /// paid.
    pub order: Option<(OrderId, Nano)>,
    /// Of the lot that a credit, a compensation or an adjustment opens.
    pub lot_kind: LotKind,
    pub priority: u8,
    pub expires_ms: Option<i64>,
    /// What the account lacks is owed, instead of a refusal.
    pub arrears: bool,
}

/// What a second person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrectionDecision {
    pub by: Box<str>,
    pub at_ms: i64,
    pub reason: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    pub id: CorrectionId,
    pub state: CorrectionState,
    pub terms: CorrectionTerms,
    /// The lot that it opens.
    pub lot: LotId,
    /// The caller's own name of it, under which it is asked for once.
    pub reference: Box<str>,
    pub reason: Box<str>,
    pub proposed_by: Box<str>,
    pub proposed_ms: i64,
    /// Too much for one person alone.
    pub needs_approval: bool,
    pub decision: Option<CorrectionDecision>,
    pub posted_ms: Option<i64>,
    /// Why the ledger refused.
    pub problem: Option<Box<str>>,
    pub version: u64,
}

impl Correction {
    /// The name under which the ledger posts it once for ever.
    pub fn posting(&self) -> Reference {
        match self.terms.kind {
            // A credit has the name that it was asked for under.
            CorrectionKind::Credit => Reference::new(self.reference.clone()),
            _ => Reference::new(format!("correction:{}", self.id)),
        }
    }
}

/// Who an actor is, where two are needed. Whoever runs the machine has several ways in and is one person.
pub fn person(actor: &str) -> &str {
    if actor.starts_with("operator ") { actor } else { "machine" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_the_ways_into_the_machine_are_one_person() {
        assert_eq!(person("admin token"), person("admin socket"));
        assert_ne!(person("operator opr_1"), person("operator opr_2"));
        assert_ne!(person("operator opr_1"), person("command line"));
    }
}
