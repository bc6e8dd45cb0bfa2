//! The books, pure: money in lots, holds over all layers at once, charges, refunds, and the invariants that
//! they keep.
//!
//! Promises: every transaction sums to zero; nothing goes below zero but within a declared overdraft; the
//! same commands at the same times make the same effects, and the same effects make the same state.
//! Must never: do I/O, read a clock, draw a random number, or panic on any input.
//!
//! The way of a command: [`Ledger::plan`] reads the state and says what would happen as an [`Effect`], or
//! why not; [`Ledger::apply`] makes an effect true. A journal of effects is enough to rebuild the state.

mod accounts;
mod command;
mod counters;
mod effect;
mod fits;
mod funds;
mod holds;
mod ids;
pub mod invariants;
mod ledger;
mod lots;
mod money;
mod plan;
mod plant;
mod postings;
mod rating;
mod state;
mod window;

pub use crate::accounts::{Balance, BriefBalance, Families};
pub use crate::command::{
    ChargeRecord, Command, CreditSource, HoldOwner, LayerHold, LedgerError, ReleaseReason, Withdrawal,
};
pub use crate::counters::{Counter, CounterKey, Layer, Metric};
pub use crate::effect::{
    CostAccrued, Credited, Debit, Debits, Effect, Expired, Held, HeldLayer, Refunded, Released, Settled,
    Withdrawn, total,
};
pub use crate::holds::Hold;
pub use crate::ids::{AccountId, Book, HoldId, LotId, Reference, Timestamp, fnv1a};
pub use crate::ledger::Ledger;
pub use crate::lots::{Lot, LotKind};
pub use crate::money::{MoneyError, Nano};
#[cfg(feature = "planted-bugs")]
pub use crate::plant::{Bug, plant};
pub use crate::postings::{LedgerAccount, Posting, Purse};
pub use crate::rating::{Line, Measure, Price, Rated, RatingError, TokenClass, Unit, UnitLine, Usage, rate};
pub use crate::state::{AccountState, CounterState, State};
pub use crate::window::{Calendar, WindowInstance, WindowKind};
