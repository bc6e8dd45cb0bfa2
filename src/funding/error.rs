//! Why something with an order could not be done.

use std::fmt;

use ledger::Nano;

use super::order::OrderState;
use super::provider::ProviderError;
use crate::books::BooksError;
use crate::directory::FieldError;
use crate::id::OrderId;
use crate::store::StoreError;

#[derive(Debug)]
pub enum FundingError {
    NotFound,
    /// What was asked for cannot be.
    Invalid(FieldError),
    AmountOutOfRange {
        amount: Nano,
        reason: String,
    },
    /// So many orders of the account wait for their payment.
    TooManyOpen {
        open: u64,
    },
    /// The order is not where the act could begin.
    WrongState {
        order: OrderId,
        state: OrderState,
        action: &'static str,
    },
    /// A refund of more than the account has left.
    NotEnoughLeft {
        available: Nano,
        needed: Nano,
    },
    Provider {
        provider: Box<str>,
        why: ProviderError,
    },
    Books(BooksError),
    Store(StoreError),
}

impl fmt::Display for FundingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FundingError::NotFound => f.write_str("there is no such order"),
            FundingError::Invalid(why) => write!(f, "{} {}", why.field, why.reason),
            FundingError::AmountOutOfRange { amount, reason } => write!(f, "{amount}: {reason}"),
            FundingError::TooManyOpen { open } => write!(f, "{open} orders wait for their payment"),
            FundingError::WrongState { order, state, action } => {
                write!(f, "order {order} is {}: it is not possible to {action} it", state.as_str())
            }
            FundingError::NotEnoughLeft { available, needed } => {
                write!(f, "{needed} is needed and {available} is available")
            }
            FundingError::Provider { provider, why } => write!(f, "{provider}: {why}"),
            FundingError::Books(why) => write!(f, "{why}"),
            FundingError::Store(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for FundingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FundingError::Provider { why, .. } => Some(why),
            FundingError::Books(why) => Some(why),
            FundingError::Store(why) => Some(why),
            FundingError::NotFound
            | FundingError::Invalid(_)
            | FundingError::AmountOutOfRange { .. }
            | FundingError::TooManyOpen { .. }
            | FundingError::WrongState { .. }
            | FundingError::NotEnoughLeft { .. } => None,
        }
    }
}

impl From<StoreError> for FundingError {
    fn from(why: StoreError) -> Self {
        FundingError::Store(why)
    }
}

impl From<BooksError> for FundingError {
    fn from(why: BooksError) -> Self {
        FundingError::Books(why)
    }
}

impl From<FieldError> for FundingError {
    fn from(why: FieldError) -> Self {
        FundingError::Invalid(why)
    }
}
