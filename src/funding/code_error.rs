//! Why something with a redemption code could not be done.

use std::fmt;

use super::code_text::CodeFault;
use crate::books::BooksError;
use crate::directory::FieldError;
use crate::store::StoreError;

/// Codes are named masked; nothing is said of the account that has one.
#[derive(Debug)]
pub enum CodeError {
    NotFound,
    /// What was asked for cannot be.
    Invalid(FieldError),
    /// A slip, known without a look-up.
    Malformed(CodeFault),
    /// Well-formed, and nobody made it.
    Unknown,
    AlreadyRedeemed {
        code: Box<str>,
        at_ms: i64,
    },
    Expired {
        code: Box<str>,
        at_ms: i64,
    },
    Disabled {
        code: Box<str>,
    },
    /// The account has as many codes of the batch as it may.
    LimitReached {
        max: u32,
    },
    TooManyGuesses {
        retry_after_ms: u64,
    },
    Books(BooksError),
    Store(StoreError),
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodeError::NotFound => f.write_str("there is no such code or batch"),
            CodeError::Invalid(why) => write!(f, "{} {}", why.field, why.reason),
            CodeError::Malformed(fault) => write!(f, "{fault}"),
            CodeError::Unknown => f.write_str("nobody made this code"),
            CodeError::AlreadyRedeemed { code, .. } => write!(f, "{code} was redeemed before"),
            CodeError::Expired { code, .. } => write!(f, "{code} has expired"),
            CodeError::Disabled { code } => write!(f, "{code} was disabled"),
            CodeError::LimitReached { max } => write!(f, "an account can redeem {max} of these codes"),
            CodeError::TooManyGuesses { .. } => f.write_str("too many unknown codes were tried"),
            CodeError::Books(why) => write!(f, "{why}"),
            CodeError::Store(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for CodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CodeError::Books(why) => Some(why),
            CodeError::Store(why) => Some(why),
            _ => None,
        }
    }
}

impl From<StoreError> for CodeError {
    fn from(why: StoreError) -> Self {
        CodeError::Store(why)
    }
}

impl From<BooksError> for CodeError {
    fn from(why: BooksError) -> Self {
        CodeError::Books(why)
    }
}

impl From<FieldError> for CodeError {
    fn from(why: FieldError) -> Self {
        CodeError::Invalid(why)
    }
}
