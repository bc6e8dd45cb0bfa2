//! Money that comes in and is put right: orders with the providers that they are paid through; redemption codes, and corrections.
//!
//! The way of an order: it is made here and at its provider; the provider calls back, or is asked, or an operator
//! completes it by hand; the ledger is credited under the reference `order:<id>`; the order says so.
//!
//! Promises: an order credits once for ever, whatever is repeated, late, out of order or at the same time, because
//! the ledger posts a reference once; money that came is credited also after the order's end; a callback is
//! acknowledged only when it is stored and what it asks for is done; every callback is kept as it came, also a
//! refused one; what a crash left between order and ledger is put right at the start.
//! Must never: move money but by a command of the ledger; believe a callback whose signature, merchant, order,
//! amount or currency is not the order's; keep a secret of a provider anywhere but in the configuration.

mod arrears;
pub mod callback;
mod check;
mod code;
mod code_error;
mod code_guesses;
mod code_store;
mod code_text;
mod codes;
mod correction;
mod correction_error;
mod correction_store;
mod corrections;
mod dispute;
mod error;
mod mismatch;
pub mod money;
mod moves;
mod order;
mod orders;
mod poll;
pub mod provider;
mod refund;
mod settings;
mod settled;
mod store;

pub use check::Check;
pub use code::{CodeBatch, CodeState, CreditEnd, Disabled, RedemptionCode};
pub use code_error::CodeError;
pub use code_store::{CodeCounts, CodeOfBatch, CodeSearch};
pub use code_text::{CodeFault, CodeText};
pub use codes::{BATCH_CODES_MAX, Codes, NewCodeBatch, Redeemer};
pub use correction::{Correction, CorrectionDecision, CorrectionKind, CorrectionState, CorrectionTerms};
pub use correction_error::CorrectionError;
pub use correction_store::CorrectionSearch;
pub use corrections::{ApprovalAbove, Corrections, NewCorrection};
pub use error::FundingError;
pub use order::{Dispute, DisputeStage, Order, OrderEvent, OrderState, Refund, RefundState};
pub use orders::{Funding, NewOrder};
pub use poll::Poller;
pub use refund::RefundAsk;
pub use settings::{Settings, SettingsError};
pub use settled::{Moved, Settled};
pub use store::Search;
