//! An order, its states, and what is written on its timeline.

use ledger::{Nano, Reference};

use crate::id::{AccountId, CorrectionId, LotId, OrderEventId, OrderId};

/// Where an order stands. Which way it can go from there is [`OrderState::may_become`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// Ours alone: the provider does not know it yet.
    Created,
    /// Waits for the payer.
    Pending,
    /// The money came; the ledger is about to be credited.
    Paid,
    Credited,
    /// Its time is over without a payment. A late one is credited.
    Expired,
    /// The provider says that the payment failed.
    Failed,
    Cancelled,
    /// Something was paid, but not what the order says (S42).
    AmountMismatch,
    /// The ledger holds something else under the order's reference: somebody has to look.
    ManualReview,
    /// Money is on its way back.
    RefundPending,
    PartiallyRefunded,
    Refunded,
    /// The payer's bank took the money back, at least for now.
    Disputed,
}

use OrderState::{
    AmountMismatch, Cancelled, Created, Credited, Disputed, Expired, Failed, ManualReview, Paid,
    PartiallyRefunded, Pending, RefundPending, Refunded,
};

impl OrderState {
    pub const ALL: [OrderState; 13] = [
        Created,
        Pending,
        Paid,
        Credited,
        Expired,
        Failed,
        Cancelled,
        AmountMismatch,
        ManualReview,
        RefundPending,
        PartiallyRefunded,
        Refunded,
        Disputed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Created => "created",
            Pending => "pending",
            Paid => "paid",
            Credited => "credited",
            Expired => "expired",
            Failed => "failed",
            Cancelled => "cancelled",
            AmountMismatch => "amount_mismatch",
            ManualReview => "manual_review",
            RefundPending => "refund_pending",
            PartiallyRefunded => "partially_refunded",
            Refunded => "refunded",
            Disputed => "disputed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// No money of it has come: a payment would be credited.
    pub const fn awaits_payment(self) -> bool {
        matches!(self, Created | Pending | Expired | Failed | Cancelled | AmountMismatch | ManualReview)
    }

    /// Its payer can still be expected to pay.
    pub const fn is_open(self) -> bool {
        matches!(self, Created | Pending)
    }

    pub fn may_become(self, next: OrderState) -> bool {
        match self {
            Created => next != Created && next.comes_before_credit(),
            Pending => !matches!(next, Created | Pending) && next.comes_before_credit(),
            Expired | Failed => matches!(next, Paid | AmountMismatch | ManualReview | Cancelled),
            Cancelled => matches!(next, Paid | AmountMismatch | ManualReview),
            AmountMismatch | ManualReview => matches!(next, Paid | AmountMismatch | ManualReview | Cancelled),
            Paid => matches!(next, Credited | ManualReview),
            Credited => matches!(next, RefundPending | PartiallyRefunded | Refunded | Disputed),
            RefundPending => matches!(next, Credited | PartiallyRefunded | Refunded | Disputed),
            PartiallyRefunded => matches!(next, Credited | RefundPending | Refunded | Disputed),
            Disputed => matches!(next, Credited | RefundPending | PartiallyRefunded | Refunded),
            // A refund that was sent may come back to the provider.
            Refunded => matches!(next, Credited | PartiallyRefunded),
        }
    }

    const fn comes_before_credit(self) -> bool {
        self.awaits_payment() || matches!(self, Paid)
    }
}

/// An order. Amounts to credit are of the ledger currency, amounts to pay of `pay_currency`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub account: AccountId,
    pub state: OrderState,
    /// Name of the provider.
    pub provider: Box<str>,
    /// How it is paid there, such as `card` or `alipay`.
    pub method: Option<Box<str>>,
    pub credit: Nano,
    pub pay: Nano,
    pub pay_currency: Box<str>,
    /// Millionths of `pay_currency` for one unit of the ledger currency, frozen when the order was made.
    pub rate_ppm: u64,
    /// The lot that the credit opens.
    pub lot: LotId,
    /// The provider's own number of the order.
    pub provider_ref: Option<Box<str>>,
    /// The provider's own number of the payment in it.
    pub payment_ref: Option<Box<str>>,
    /// Where the payer goes.
    pub pay_url: Option<Box<str>>,
    /// What a QR code for the payer's telephone says.
    pub qr: Option<Box<str>>,
    /// Who paid, as the provider names them.
    pub payer: Option<Box<str>>,
    pub created_by: Box<str>,
    /// What came, if it was something else than `pay`, too.
    pub paid: Option<(Nano, Box<str>)>,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub paid_ms: Option<i64>,
    /// When the provider first called back.
    pub notified_ms: Option<i64>,
    pub credited_ms: Option<i64>,
    /// Of `pay` and of `credit`, what went back.
    pub refunded_pay: Nano,
    pub refunded: Nano,
    /// When the order is looked at next; `None`: never by itself.
    pub poll_ms: Option<i64>,
    pub polls: u32,
    pub version: u64,
}

impl Order {
    /// The name under which the ledger credits it once for ever.
    pub fn reference(&self) -> Reference {
        Reference::new(format!("order:{}", self.id))
    }

    /// Money of it has come, which was not credited or is about to be.
    pub fn has_money(&self) -> bool {
        self.paid.is_some() || matches!(self.state, Paid | AmountMismatch | ManualReview)
    }

    /// State of an order whose refunds are all done.
    pub fn state_after_refunds(&self) -> OrderState {
        if self.refunded_pay >= self.pay {
            Refunded
        } else if self.refunded_pay.is_positive() {
            PartiallyRefunded
        } else {
            Credited
        }
    }
}

/// A line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderEvent {
    pub id: OrderEventId,
    /// `None`: it names no order of ours.
    pub order: Option<OrderId>,
    pub provider: Box<str>,
    pub at_ms: i64,
    /// `created`, `callback`, `query`, `credited` …
    pub kind: Box<str>,
    /// What the provider calls it; of a completion by hand, the correction that it is.
    pub name: Option<Box<str>>,
    /// Of a callback: `valid`, or why it was refused.
    pub verdict: Option<Box<str>>,
    /// What it changed.
    pub effect: Box<str>,
    pub detail: Option<Box<str>>,
    pub actor: Box<str>,
    /// `name: value` lines of a callback, those that matter.
    pub headers: Option<Box<str>>,
    /// A callback's or an answer's body, as it came.
    pub body: Option<Vec<u8>>,
}

/// How far a refund is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundState {
    /// The money may or may not have left the account.
    Asked,
    /// It has left the account; the provider may or may not have sent it.
    Withdrawn,
    Done,
    /// The provider refused; the money is back in the account, or about to be.
    Failed,
}

impl RefundState {
    pub const ALL: [RefundState; 4] =
        [RefundState::Asked, RefundState::Withdrawn, RefundState::Done, RefundState::Failed];

    pub const fn is_open(self) -> bool {
        matches!(self, RefundState::Asked | RefundState::Withdrawn)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            RefundState::Asked => "asked",
            RefundState::Withdrawn => "withdrawn",
            RefundState::Done => "done",
            RefundState::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Money of an order that goes back to who paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    pub order: OrderId,
    /// Counts from 1.
    pub n: u32,
    pub state: RefundState,
    pub pay: Nano,
    pub credit: Nano,
    /// What the account lacks is owed.
    pub arrears: bool,
    /// The provider has sent it by itself; nobody here asked for it.
    pub elsewhere: bool,
    /// The correction that asked for it.
    pub correction: Option<CorrectionId>,
    pub reason: Box<str>,
    pub actor: Box<str>,
    pub provider_ref: Option<Box<str>>,
    pub at_ms: i64,
    pub done_ms: Option<i64>,
}

impl Refund {
    /// The name under which the ledger withdraws it, and under which the provider sends it once.
    pub fn reference(&self) -> Reference {
        Reference::new(format!("order:{}:refund:{}", self.order, self.n))
    }

    /// Its name at providers whose names have no colons, and the number in such a name.
    pub fn name(&self) -> String {
        format!("{}-{}", self.order, self.n)
    }

    pub fn number_in(order: OrderId, name: &str) -> Option<u32> {
        name.strip_prefix(&format!("{order}-"))?.parse().ok()
    }
}

/// How far a dispute is: the payer's bank asks, takes the money, and decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisputeStage {
    /// A question; no money has moved.
    Inquiry,
    /// The bank has taken the money, for now.
    Open,
    Lost,
    /// The money came back.
    Won,
}

impl DisputeStage {
    pub const ALL: [DisputeStage; 4] =
        [DisputeStage::Inquiry, DisputeStage::Open, DisputeStage::Lost, DisputeStage::Won];

    pub const fn as_str(self) -> &'static str {
        match self {
            DisputeStage::Inquiry => "inquiry",
            DisputeStage::Open => "open",
            DisputeStage::Lost => "lost",
            DisputeStage::Won => "won",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// Whether the money is away.
    pub const fn takes_money(self) -> bool {
        matches!(self, DisputeStage::Open | DisputeStage::Lost)
    }

    /// News that come out of order lead nowhere back.
    pub fn may_become(self, next: DisputeStage) -> bool {
        match self {
            DisputeStage::Inquiry => next != DisputeStage::Inquiry,
            DisputeStage::Open => matches!(next, DisputeStage::Lost | DisputeStage::Won),
            DisputeStage::Lost => next == DisputeStage::Won,
            DisputeStage::Won => false,
        }
    }
}

/// Money of an order that the payer's bank wants back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    pub order: OrderId,
    /// The provider's number of it.
    pub number: Box<str>,
    pub stage: DisputeStage,
    /// Of the currency that was paid.
    pub pay: Nano,
    /// What it takes from the account.
    pub credit: Nano,
    /// What the account gets back of it once it is won.
    pub returned: Nano,
    pub at_ms: i64,
}

impl Dispute {
    /// The name under which the ledger takes it.
    pub fn reference(&self) -> Reference {
        Reference::new(format!("order:{}:dispute:{}", self.order, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B1: money comes in once; nothing leads back to before it came.
    #[test]
    fn b1_no_way_leads_from_credited_to_a_second_credit() {
        let mut reached = vec![Credited];
        loop {
            let next = OrderState::ALL
                .into_iter()
                .find(|next| !reached.contains(next) && reached.iter().any(|state| state.may_become(*next)));
            match next {
                Some(next) => reached.push(next),
                None => break,
            }
        }
        assert!(!reached.contains(&Paid));
        assert!(reached.iter().all(|state| !state.awaits_payment()));
    }

    #[test]
    fn b1_whatever_awaits_a_payment_can_be_paid() {
        for state in OrderState::ALL {
            assert_eq!(state.awaits_payment(), state.may_become(Paid), "{state:?}");
            assert_eq!(OrderState::parse(state.as_str()), Some(state));
        }
    }
}
