//! Why a correction could not be made.

use std::fmt;

use ledger::Nano;

use super::correction::CorrectionState;
use super::error::FundingError;
use crate::books::BooksError;
use crate::books::lookup::LookupError;
use crate::directory::FieldError;
use crate::id::CorrectionId;
use crate::store::StoreError;

#[derive(Debug)]
pub enum CorrectionError {
    NotFound,
    /// What was asked for cannot be.
    Invalid(FieldError),
    /// More than is left of the charge (I10).
    ExceedsCharge {
        charged: Nano,
        refunded: Nano,
        asked: Nano,
    },
    /// It takes more than the account has.
    ExceedsBalance {
        available: Nano,
        needed: Nano,
    },
    /// The reference stands for another correction.
    ReferenceReused {
        reference: Box<str>,
    },
    /// It was decided before.
    Decided {
        correction: CorrectionId,
        state: CorrectionState,
    },
    /// Nobody agrees with themselves.
    SamePerson {
        correction: CorrectionId,
    },
    /// A refund of an order.
    Order(Box<FundingError>),
    Books(BooksError),
    Store(StoreError),
    Lookup(LookupError),
}

impl fmt::Display for CorrectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CorrectionError::NotFound => f.write_str("there is no such correction"),
            CorrectionError::Invalid(why) => write!(f, "{} {}", why.field, why.reason),
            CorrectionError::ExceedsCharge { charged, refunded, asked } => {
                write!(f, "{asked} is more than is left of {charged}, of which {refunded} was refunded")
            }
            CorrectionError::ExceedsBalance { available, needed } => {
                write!(f, "{needed} is needed and {available} is available")
            }
            CorrectionError::ReferenceReused { reference } => {
                write!(f, "{reference} stands for another correction")
            }
            CorrectionError::Decided { correction, state } => {
                write!(f, "correction {correction} is {}", state.as_str())
            }
            CorrectionError::SamePerson { correction } => {
                write!(f, "correction {correction} needs another person than who proposed it")
            }
            CorrectionError::Order(why) => write!(f, "{why}"),
            CorrectionError::Books(why) => write!(f, "{why}"),
            CorrectionError::Store(why) => write!(f, "{why}"),
            CorrectionError::Lookup(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for CorrectionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CorrectionError::Order(why) => Some(&**why),
            CorrectionError::Books(why) => Some(why),
            CorrectionError::Store(why) => Some(why),
            CorrectionError::Lookup(why) => Some(why),
            _ => None,
        }
    }
}

impl From<StoreError> for CorrectionError {
    fn from(why: StoreError) -> Self {
        CorrectionError::Store(why)
    }
}

impl From<FundingError> for CorrectionError {
    fn from(why: FundingError) -> Self {
        CorrectionError::Order(Box::new(why))
    }
}

impl From<BooksError> for CorrectionError {
    fn from(why: BooksError) -> Self {
        CorrectionError::Books(why)
    }
}

impl From<LookupError> for CorrectionError {
    fn from(why: LookupError) -> Self {
        CorrectionError::Lookup(why)
    }
}

impl From<FieldError> for CorrectionError {
    fn from(why: FieldError) -> Self {
        CorrectionError::Invalid(why)
    }
}
