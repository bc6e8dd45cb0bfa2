//! Reconcile (对账): the books beside what others say – payment providers by their statements, upstreams by their bills –
//! and the parts of the books beside each other: ledger, request log, orders, tasks.
//!
//! A file is imported first: read by a [`format`](format::Format), checked to its last line, remembered by its hash. Then both
//! sides are sorted ([`sort`]) and walked through together ([`compare`]). Each difference is a case ([`cases`]) with the
//! rows of both sides, what is likely to be the cause, and an entry that would put it right. A run that was interrupted goes on
//! where it was ([`steps`]).
//!
//! Promises: a file is imported whole or not at all, and once; amounts are compared to the nano-unit; memory does not grow
//! with the rows; a case keeps its identity from run to run and is closed when the sides agree.
//! Must never: move money by itself. What it proposes is for somebody to decide, who may have it corrected ([`correct`]).

pub mod begun;
mod books;
pub mod cases;
pub mod compare;
pub mod correct;
pub mod entry;
mod files;
pub mod format;
pub mod import;
mod keeper;
mod ours;
mod overlap;
pub mod read;
mod row;
pub mod run;
pub mod sort;
mod steps;
pub mod store;
mod tasks;

pub use cases::{Case, CaseState};
pub use compare::{Difference, Kind};
pub use format::{Format, FormatError, Join, Side};
pub use import::{FileFault, Import, ImportError, NewImport};
pub use row::{Class, Row};
pub use run::{Parts, Report, RunError, SourceReport};
pub use steps::Asked;
pub use store::ReconcileStore;
