//! One run: every source, both sides sorted, walked through, and the differences kept as cases.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::compare::{Counts, Kind};
use super::steps::Asked;
use super::store::ReconcileStore;
use super::{books, files};
use crate::books::verify::seal::VerifyError;
use crate::clock::{Clock, Entropy};
use crate::directory::Directory;
use crate::funding::Funding;
use crate::job::Progress;
use crate::store::{JournalReader, Projections, StoreError};
use crate::tasks::{TaskError, Tasks};

/// What a run reads.
pub struct Parts<'a> {
    pub journal: &'a JournalReader,
    pub projections: &'a Projections,
    pub directory: &'a Directory,
    pub funding: &'a Funding,
    pub tasks: &'a Tasks,
    /// Of the ledger.
    pub currency: &'a str,
    pub clock: &'a dyn Clock,
    pub entropy: &'a dyn Entropy,
    /// Where rows that do not fit into memory are sorted.
    pub folder: &'a Path,
    pub actor: &'a str,
    pub progress: &'a Progress,
}

#[derive(Debug)]
pub enum RunError {
    Store(StoreError),
    Io(io::Error),
    Verify(VerifyError),
    Task(TaskError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Store(why) => write!(f, "{why}"),
            RunError::Io(why) => write!(f, "rows cannot be sorted: {why}"),
            RunError::Verify(why) => write!(f, "{why}"),
            RunError::Task(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Store(why) => Some(why),
            RunError::Io(why) => Some(why),
            RunError::Verify(why) => Some(why),
            RunError::Task(why) => Some(why),
        }
    }
}

impl From<StoreError> for RunError {
    fn from(why: StoreError) -> Self {
        RunError::Store(why)
    }
}

impl From<io::Error> for RunError {
    fn from(why: io::Error) -> Self {
        RunError::Io(why)
    }
}

impl From<VerifyError> for RunError {
    fn from(why: VerifyError) -> Self {
        RunError::Verify(why)
    }
}

impl From<TaskError> for RunError {
    fn from(why: TaskError) -> Self {
        RunError::Task(why)
    }
}

/// What a source came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    pub source: String,
    pub counts: Counts,
    /// Differences by kind.
    pub differences: BTreeMap<Kind, u64>,
    /// Cases that closed because both sides agree now.
    pub gone: u64,
    /// More was found than was kept.
    pub cut: bool,
    /// It was stopped before its end; nothing was closed. The next run goes on from there.
    pub stopped: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub run: u64,
    pub sources: Vec<SourceReport>,
    pub open_cases: u64,
    pub stopped: bool,
    /// It was the rest of one that was interrupted; what that one found is told, too.
    pub goes_on: bool,
}

/// Rows further apart than this are late.
pub(super) const LATE_MS: i64 = 48 * 3_600_000;

/// Compares everything, or the rest of what was interrupted. A run that is stopped goes on from there the next time.
pub fn run(store: &ReconcileStore, parts: &Parts<'_>, asked: Asked) -> Result<Report, RunError> {
    let going = store.begin_run(asked, parts.actor, parts.clock.now_ms())?;
    let mut report = Report { run: going.run, goes_on: going.goes_on, ..Report::default() };
    report.sources.push(books::compare(store, parts, &going)?);
    for counterpart in files::counterparts(store)? {
        if report.sources.last().is_some_and(|source| source.stopped) {
            break;
        }
        report.sources.push(files::compare(store, parts, &going, &counterpart)?);
    }
    report.stopped = report.sources.iter().any(|source| source.stopped);
    if !report.stopped {
        store.end_run(&going, parts.clock.now_ms())?;
    }
    report.open_cases = store.open_cases()?;
    Ok(report)
}
