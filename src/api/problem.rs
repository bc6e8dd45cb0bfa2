//! Every way in which a request of the API can fail, mapped once to a refusal of the catalogue.

use std::error::Error;

use ledger::LedgerError;

use crate::books::BooksError;
use crate::catalogue::{Code, Refusal, Value};
use crate::directory::{DirectoryError, FieldError};
use crate::funding::{CodeError, CorrectionError, FundingError};
use crate::idempotency::IdempotencyError;
use crate::master_key::TurnError;
use crate::reconcile::correct::CorrectError;
use crate::store::{StoreError, StoreErrorKind};
use crate::tasks::TaskError;
use crate::transcripts::TranscriptError;

use super::access;
use super::shape::{Shape, ShapeError};

/// What a handler fails with.
#[derive(Debug)]
pub enum Problem {
    Refused(Box<Refusal>),
    /// The thing asked for is not there, or not the caller's: nobody is told which.
    NotFound,
    /// A fault of the gateway; its text is logged and never shown.
    Internal(Box<dyn Error + Send + Sync>),
}

impl Problem {
    pub fn refusal(self) -> Box<Refusal> {
        match self {
            Problem::Refused(refusal) => refusal,
            Problem::NotFound => Box::new(Refusal::new(Code::NotFound).param("what", "object of this id")),
            Problem::Internal(error) => {
                tracing::error!(error = &*error as &dyn Error, "a request of the API failed");
                Box::new(Refusal::new(Code::InternalError))
            }
        }
    }

    /// Whether it failed in the middle, rather than that it was refused: something may have been done.
    pub fn is_fault(&self) -> bool {
        match self {
            Problem::Refused(refusal) => refusal.code.status() >= 500,
            Problem::NotFound => false,
            Problem::Internal(_) => true,
        }
    }

    /// What is wrong with a body, with the fields that there are.
    pub fn of_shape(shape: &Shape, error: ShapeError) -> Self {
        match error {
            ShapeError::Invalid(error) => error.into(),
            ShapeError::Unknown { field, near } => {
                // The one that was probably meant stands first.
                let rest = shape.fields.iter().map(|field| field.name).filter(|name| Some(*name) != near);
                let known: Vec<_> = near.into_iter().chain(rest).map(str::to_owned).collect();
                let refusal = Refusal::new(Code::UnknownField).field(field).param("known", known);
                Problem::Refused(Box::new(refusal))
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Problem::Refused(Box::new(refusal))
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        let refusal = Refusal::new(Code::InvalidValue).field(error.field).param("reason", error.reason);
        refusal.into()
    }
}

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Invalid(error) => error.into(),
            DirectoryError::NotFound { .. } => Problem::NotFound,
            DirectoryError::EditConflict { kind, expected, current } => Refusal::new(Code::EditConflict)
                .field("version")
                .param("what", kind.as_str())
                .param("yours", expected.to_string())
                .param("current", current.to_string())
                .into(),
            DirectoryError::NameTaken { field, name } => {
                Refusal::new(Code::AlreadyExists).field(field).param("what", name).into()
            }
            DirectoryError::Forbidden { action } => access::forbidden(action),
            DirectoryError::Store(error) => error.into(),
            error @ (DirectoryError::Corrupt { .. } | DirectoryError::Sealing(_)) => {
                Problem::Internal(Box::new(error))
            }
        }
    }
}

impl From<TurnError> for Problem {
    fn from(error: TurnError) -> Self {
        match error {
            TurnError::Refused(why) => why.into(),
            TurnError::Store(why) => why.into(),
            TurnError::Directory(why) => why.into(),
            other => Problem::Internal(Box::new(other)),
        }
    }
}

impl From<FundingError> for Problem {
    fn from(error: FundingError) -> Self {
        match error {
            FundingError::NotFound => Problem::NotFound,
            FundingError::Invalid(why) => why.into(),
            FundingError::AmountOutOfRange { amount, reason } => Refusal::new(Code::AmountOutOfRange)
                .field("amount")
                .param("amount", amount.to_string())
                .param("reason", reason)
                .into(),
            FundingError::TooManyOpen { open } => {
                Refusal::new(Code::TooManyOpenOrders).param("open", open.to_string()).into()
            }
            FundingError::WrongState { order, state, action } => Refusal::new(Code::OrderStateConflict)
                .param("order", order.to_string())
                .param("state", state.as_str())
                .param("action", action)
                .into(),
            FundingError::NotEnoughLeft { available, needed } => Refusal::new(Code::RefundExceedsBalance)
                .param("available", available.to_string())
                .param("needed", needed.to_string())
                .into(),
            FundingError::Provider { provider, why } => {
                tracing::warn!(%provider, %why, "a payment provider failed");
                Refusal::new(Code::PaymentProviderFailed).param("provider", &*provider).into()
            }
            FundingError::Books(why) => why.into(),
            FundingError::Store(why) => why.into(),
        }
    }
}

impl From<CodeError> for Problem {
    fn from(error: CodeError) -> Self {
        match error {
            CodeError::NotFound => Problem::NotFound,
            CodeError::Invalid(why) => why.into(),
            CodeError::Malformed(fault) => {
                let [en, zh] = fault.words();
                Refusal::new(Code::CodeMalformed).field("code").param("problem", (&*en, &*zh)).into()
            }
            CodeError::Unknown => Refusal::new(Code::CodeUnknown).field("code").into(),
            CodeError::AlreadyRedeemed { code, at_ms } => Refusal::new(Code::CodeAlreadyRedeemed)
                .field("code")
                .param("code", code)
                .param("redeemed_at", Value::Time(at_ms))
                .into(),
            CodeError::Expired { code, at_ms } => Refusal::new(Code::CodeExpired)
                .field("code")
                .param("code", code)
                .param("expired_at", Value::Time(at_ms))
                .into(),
            CodeError::Disabled { code } => {
                Refusal::new(Code::CodeDisabled).field("code").param("code", code).into()
            }
            CodeError::LimitReached { max } => {
                Refusal::new(Code::CodeLimitReached).param("max", u64::from(max)).into()
            }
            CodeError::TooManyGuesses { retry_after_ms } => {
                Refusal::new(Code::CodeGuessesExceeded).retry_after_ms(retry_after_ms).into()
            }
            CodeError::Books(why) => why.into(),
            CodeError::Store(why) => why.into(),
        }
    }
}

impl From<CorrectError> for Problem {
    fn from(error: CorrectError) -> Self {
        match error {
            CorrectError::NotFound => Problem::NotFound,
            CorrectError::Correction(why) => why.into(),
            CorrectError::NothingToPost => FieldError::new("proposal", error.to_string()).into(),
            CorrectError::NotOpen | CorrectError::Waiting(_) => {
                FieldError::new("state", error.to_string()).into()
            }
        }
    }
}

impl From<CorrectionError> for Problem {
    fn from(error: CorrectionError) -> Self {
        match error {
            CorrectionError::NotFound => Problem::NotFound,
            CorrectionError::Invalid(why) => why.into(),
            CorrectionError::ExceedsCharge { charged, refunded, asked } => {
                Refusal::new(Code::RefundExceedsCharge)
                    .field("amount")
                    .param("charged", charged.to_string())
                    .param("refunded", refunded.to_string())
                    .param("asked", asked.to_string())
                    .into()
            }
            CorrectionError::ExceedsBalance { available, needed } => {
                Refusal::new(Code::AdjustmentExceedsBalance)
                    .field("amount")
                    .param("available", available.to_string())
                    .param("needed", needed.to_string())
                    .into()
            }
            CorrectionError::ReferenceReused { reference } => {
                Refusal::new(Code::ReferenceConflict).field("reference").param("reference", reference).into()
            }
            CorrectionError::Decided { correction, state } => Refusal::new(Code::CorrectionStateConflict)
                .param("correction", correction.to_string())
                .param("state", state.as_str())
                .into(),
            CorrectionError::SamePerson { correction } => {
                Refusal::new(Code::SecondPersonRequired).param("correction", correction.to_string()).into()
            }
            CorrectionError::Order(why) => (*why).into(),
            CorrectionError::Books(why) => why.into(),
            CorrectionError::Store(why) => why.into(),
            CorrectionError::Lookup(why) => Problem::Internal(Box::new(why)),
        }
    }
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::NotFound => Problem::NotFound,
            TaskError::Directory(why) => why.into(),
            TaskError::Books(why) => why.into(),
            TaskError::Store(why) => why.into(),
            TaskError::Lookup(why) => Problem::Internal(Box::new(why)),
            TaskError::Sealed(why) => Problem::Internal(Box::new(why)),
            error @ (TaskError::Channel(_) | TaskError::Http(_)) => {
                tracing::warn!(%error, "an upstream could not be asked about a task");
                Refusal::new(Code::UpstreamError).param("model", "–").into()
            }
        }
    }
}

impl From<IdempotencyError> for Problem {
    fn from(error: IdempotencyError) -> Self {
        match error {
            IdempotencyError::Store(why) => why.into(),
            error @ (IdempotencyError::Sealed(_) | IdempotencyError::Corrupt(_)) => {
                Problem::Internal(Box::new(error))
            }
        }
    }
}

impl From<TranscriptError> for Problem {
    fn from(why: TranscriptError) -> Self {
        match why {
            TranscriptError::Store(why) => why.into(),
            other => Problem::Internal(Box::new(other)),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Unavailable => {
                tracing::warn!(%error, "the store was not available to a request of the API");
                Refusal::new(Code::BooksUnavailable).into()
            }
            _ => Problem::Internal(Box::new(error)),
        }
    }
}

impl From<BooksError> for Problem {
    fn from(error: BooksError) -> Self {
        match error {
            BooksError::Refused(LedgerError::ReferenceReused { reference }) => {
                Refusal::new(Code::ReferenceConflict)
                    .field("reference")
                    .param("reference", &*reference.0)
                    .into()
            }
            BooksError::Refused(why @ (LedgerError::TooLarge | LedgerError::BadAmount { .. })) => {
                FieldError::new("amount", why.to_string()).into()
            }
            BooksError::Refused(why) => Problem::Internal(Box::new(why)),
            other => {
                tracing::warn!(error = %other, "the books were not available to a request of the API");
                Refusal::new(Code::BooksUnavailable).into()
            }
        }
    }
}
