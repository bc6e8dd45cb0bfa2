//! What the books can be asked to do, and why they may refuse.

use std::fmt;

use smallvec::SmallVec;

use crate::counters::CounterKey;
use crate::effect::{Debits, HeldLayer};
use crate::ids::{AccountId, HoldId, LotId, Reference, Timestamp};
use crate::lots::LotKind;
use crate::money::Nano;
use crate::window::WindowInstance;

/// One layer of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerHold {
    pub counter: CounterKey,
    /// The instance that the call falls into.
    pub window: WindowInstance,
    /// Nano-units or calls, by the counter's metric; `None` counts without limiting.
    pub limit: Option<i64>,
    /// Of money, what the hold holds; else how many calls.
    pub amount: i64,
}

/// Who answers for a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldOwner {
    /// The process of this epoch; its holds end with it.
    Process(u64),
    /// A task row; survives restarts.
    Task(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReleaseReason {
    /// Nothing was delivered to the caller.
    NothingDelivered = 1,
    /// The upstream refused, failed or could not be reached.
    UpstreamFailed = 2,
    /// The process that held it died.
    ProcessDied = 3,
    Cancelled = 4,
    Expired = 5,
    /// A fault of the gateway itself.
    GatewayFault = 6,
}

impl ReleaseReason {
    pub fn from_code(code: u8) -> Option<Self> {
        use ReleaseReason::{
            Cancelled, Expired, GatewayFault, NothingDelivered, ProcessDied, UpstreamFailed,
        };
        [NothingDelivered, UpstreamFailed, ProcessDied, Cancelled, Expired, GatewayFault]
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseReason::NothingDelivered => "nothing_delivered",
            ReleaseReason::UpstreamFailed => "upstream_failed",
            ReleaseReason::ProcessDied => "process_died",
            ReleaseReason::Cancelled => "cancelled",
            ReleaseReason::Expired => "expired",
            ReleaseReason::GatewayFault => "gateway_fault",
        }
    }
}

/// Where credit comes from: the other side of the double entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CreditSource {
    Promotion = 1,
    Payment = 2,
    Compensation = 3,
    Adjustment = 4,
}

impl CreditSource {
    pub fn from_code(code: u8) -> Option<Self> {
        [CreditSource::Promotion, CreditSource::Payment, CreditSource::Compensation, CreditSource::Adjustment]
            .into_iter()
            .find(|source| *source as u8 == code)
    }
}

/// Why money is taken without a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Withdrawal {
    Adjustment = 1,
    OrderRefund = 2,
    Chargeback = 3,
}

impl Withdrawal {
    pub fn from_code(code: u8) -> Option<Self> {
        [Withdrawal::Adjustment, Withdrawal::OrderRefund, Withdrawal::Chargeback]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// A settled call as the request log keeps it: what a refund goes back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRecord {
    pub hold: HoldId,
    pub account: AccountId,
    /// Which lots paid, in order, overrun included.
    pub debits: Debits,
    pub layers: SmallVec<[HeldLayer; 6]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Credit {
        account: AccountId,
        lot: LotId,
        kind: LotKind,
        priority: u8,
        expires_at: Option<Timestamp>,
        amount: Nano,
        source: CreditSource,
        reference: Reference,
    },
    Reserve {
        hold: HoldId,
        account: AccountId,
        amount: Nano,
        overdraft: Nano,
        layers: SmallVec<[LayerHold; 6]>,
        owner: HoldOwner,
    },
    Settle {
        hold: HoldId,
        charge: Nano,
    },
    Release {
        hold: HoldId,
        reason: ReleaseReason,
    },
    /// Writes off what is left of a lot whose end has come.
    Expire {
        account: AccountId,
        lot: LotId,
    },
    Refund {
        charge: ChargeRecord,
        amount: Nano,
        reference: Reference,
    },
    /// Takes money back without a call. `lot` names the lot to take from first, even after its end; what is
    /// missing is refused, or owed if `arrears` says so.
    Withdraw {
        account: AccountId,
        kind: Withdrawal,
        lot: Option<LotId>,
        amount: Nano,
        arrears: bool,
        reference: Reference,
    },
    /// What an upstream will bill the platform for.
    AccrueUpstreamCost {
        account: AccountId,
        hold: HoldId,
        amount: Nano,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// A layer has too little left; `index` is its place in the command.
    LayerExhausted {
        index: usize,
        layer: LayerHold,
        used: i64,
        held: i64,
    },
    BalanceInsufficient {
        available: Nano,
        held: Nano,
        needed: Nano,
    },
    HoldExists {
        hold: HoldId,
    },
    /// Never made, or ended already.
    UnknownHold {
        hold: HoldId,
    },
    UnknownLot {
        lot: LotId,
    },
    LotExists {
        lot: LotId,
    },
    /// The reference posted this very content before; nothing is posted again.
    AlreadyPosted {
        reference: Reference,
    },
    /// The reference posted another content before.
    ReferenceReused {
        reference: Reference,
    },
    /// An amount that must be above zero, or must not be below it, is.
    BadAmount {
        amount: Nano,
    },
    NotExpired {
        lot: LotId,
    },
    NothingLeft {
        lot: LotId,
    },
    RefundExceedsCharge {
        charged: Nano,
        refunded: Nano,
        asked: Nano,
    },
    TooLarge,
    /// A command that no honest caller makes.
    Malformed {
        what: &'static str,
    },
    /// An effect that this state could not have made.
    ForeignEffect {
        what: &'static str,
    },
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::LayerExhausted { layer, used, held, .. } => {
                let limit = layer.limit.unwrap_or(i64::MAX);
                write!(f, "the limit of layer {:?} is {limit}: {used} used, {held} held", layer.counter.layer)
            }
            LedgerError::BalanceInsufficient { available, held, needed } => {
                write!(f, "{needed} is needed, {available} is available and {held} is held")
            }
            LedgerError::HoldExists { .. } => f.write_str("the hold was made before"),
            LedgerError::UnknownHold { .. } => f.write_str("the hold was never made, or has ended"),
            LedgerError::UnknownLot { .. } => f.write_str("the account has no such lot"),
            LedgerError::LotExists { .. } => f.write_str("the account has this lot already"),
            LedgerError::AlreadyPosted { reference } => write!(f, "{} was posted before", reference.0),
            LedgerError::ReferenceReused { reference } => {
                write!(f, "{} was posted before with another content", reference.0)
            }
            LedgerError::BadAmount { amount } => write!(f, "{amount} is no amount for this"),
            LedgerError::NotExpired { .. } => f.write_str("the lot's end has not come"),
            LedgerError::NothingLeft { .. } => f.write_str("nothing is left of the lot"),
            LedgerError::RefundExceedsCharge { charged, refunded, asked } => {
                write!(f, "{charged} was charged and {refunded} refunded; {asked} more is too much")
            }
            LedgerError::TooLarge => f.write_str("the amount is too large for the books"),
            LedgerError::Malformed { what } => f.write_str(what),
            LedgerError::ForeignEffect { what } => write!(f, "an effect does not fit the books: {what}"),
        }
    }
}

impl std::error::Error for LedgerError {}
