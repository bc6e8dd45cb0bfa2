//! Opening the books: checkpoint, tail of the journal, holds of the dead.
//!
//! The journal is the authority: what it says is applied on top of the last checkpoint, every link of the
//! chain checked on the way. Then every hold of a process that is gone is released, so that from the end
//! of recovery on each hold has a living owner (invariant I3).

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use ledger::{Command, HoldOwner, Ledger, ReleaseReason, Timestamp};
use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::gateway::facts::{CallRecord, Ending, Outcome};
use crate::store::chain::{ChainError, verify_link};
use crate::store::{JournalStore, Projections, StoreError};

use super::committer::Committer;
use super::encoding::{self, Checkpoint, DecodeError};
use super::expiry::Ends;
use super::projector::{CHECKPOINT, Projector, called};
use super::rates::Meters;
use super::rows::{Entry, RowMaker};
use super::{Books, Durability, OnFatal, Record, Shared, State, Tail};
use crate::store::chain::Link;

/// How the books are opened.
pub struct BooksConfig {
    pub shard: u32,
    /// Name under which this process owns the books.
    pub node: String,
    /// Worker threads that will wait for commits.
    pub ports: usize,
    pub clock: Arc<dyn Clock>,
    pub on_fatal: OnFatal,
}

#[derive(Debug)]
pub enum OpenError {
    Store(StoreError),
    Chain(ChainError),
    Decode { n: u64, why: DecodeError },
    Checkpoint(DecodeError),
    Ledger { n: u64, why: ledger::LedgerError },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Store(why) => write!(f, "the books cannot be read: {why}"),
            OpenError::Chain(why) => write!(f, "the journal is not what was written: {why}"),
            OpenError::Decode { n, why } => write!(f, "batch {n} of the journal cannot be read: {why}"),
            OpenError::Checkpoint(why) => write!(f, "the checkpoint cannot be read: {why}"),
            OpenError::Ledger { n, why } => write!(f, "batch {n} of the journal does not follow: {why}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Store(why) => Some(why),
            OpenError::Chain(why) => Some(why),
            OpenError::Decode { why, .. } | OpenError::Checkpoint(why) => Some(why),
            OpenError::Ledger { why, .. } => Some(why),
        }
    }
}

impl From<StoreError> for OpenError {
    fn from(why: StoreError) -> Self {
        OpenError::Store(why)
    }
}

/// The books as far as the journal goes.
pub(super) struct Recovered {
    pub ledger: Ledger,
    pub last: Link,
}

/// Rows are written to the projections in portions of so many requests.
const ROWS_AT_ONCE: usize = 5_000;

/// Replays the journal on top of the last checkpoint and brings the projections up to date.
pub(super) fn recover(
    journal: &dyn JournalStore,
    projections: &Projections,
    shard: u32,
) -> Result<Recovered, OpenError> {
    let (mut ledger, mut last) = match projections.checkpoint(CHECKPOINT)? {
        Some((_, body)) => {
            let Checkpoint { n, hash, epoch, state } =
                encoding::decode_checkpoint(&body).map_err(OpenError::Checkpoint)?;
            (Ledger::from_state(state), Link { n, hash, epoch })
        }
        None => (Ledger::default(), Link::START),
    };
    let mut cursor = projections.cursor(shard)?;
    let mut maker = RowMaker::default();
    let mut failed = None;
    journal.read(shard, last.n + 1, &mut |batch| {
        let mut step = || -> Result<(), OpenError> {
            last = verify_link(&last, &batch).map_err(OpenError::Chain)?;
            let n = batch.n;
            let records = encoding::decode_batch(&batch.effects, batch.facts.as_deref())
                .map_err(|why| OpenError::Decode { n, why })?;
            let effects = records.iter().flat_map(|record| &record.effects);
            let called = called(projections, &maker, effects)?;
            let entries =
                records.iter().map(|record| Entry { effects: &record.effects, call: record.call.as_ref() });
            let made = maker.batch(&mut ledger, n, entries, &called);
            made.map_err(|why| OpenError::Ledger { n, why })?;
            if n <= cursor {
                // Projected before the process ended.
                maker.take();
            } else if maker.waiting() >= ROWS_AT_ONCE {
                projections.write_batch(shard, n, &maker.take())?;
                cursor = n;
            }
            Ok(())
        };
        match step() {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(why) => {
                failed = Some(why);
                Ok(ControlFlow::Break(()))
            }
        }
    })?;
    if let Some(why) = failed {
        return Err(why);
    }
    if last.n > cursor {
        projections.write_batch(shard, last.n, &maker.take())?;
    }
    Ok(Recovered { ledger, last })
}

impl Books {
    /// Takes the books over and starts their threads.
    pub fn open(
        mut journal: Box<dyn JournalStore>,
        projections: Projections,
        config: BooksConfig,
    ) -> Result<Books, OpenError> {
        let shard = config.shard;
        let epoch = journal.acquire(shard, &config.node)?;
        let Recovered { ledger, last } = recover(&*journal, &projections, shard)?;
        let mut live = ledger.clone();
        let now = Timestamp(config.clock.now_ms());
        let orphans = release_orphans(&mut live, &projections, epoch, now)?;
        let boot_ms = i64::try_from(config.clock.mono_ns() / 1_000_000).unwrap_or(i64::MAX);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                meters: Meters::default(),
                ends: Ends::of(&live),
                ledger: live,
                pending: orphans,
                next_batch: last.n + 1,
                waiting: 0,
                closed: false,
            }),
            work: Condvar::new(),
            durability: Durability::new(config.ports, last.n),
            tail: Mutex::new(Tail { projected: last.n, ..Tail::default() }),
            projectable: Condvar::new(),
            hurried: Condvar::new(),
            clock_offset_ms: config.clock.now_ms().saturating_sub(boot_ms),
            clock: config.clock,
            epoch,
        });
        let projector =
            Projector::new(Arc::clone(&shared), journal.reader(), projections, shard, ledger, last);
        let committer =
            Committer { shared: Arc::clone(&shared), journal, shard, last, on_fatal: config.on_fatal };
        let threads =
            vec![spawn("committer", move || committer.run())?, spawn("projector", move || projector.run())?];
        Ok(Books { shared, threads: Mutex::new(threads) })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread
        .map_err(|why| OpenError::Store(StoreError::unavailable("a thread cannot be started").caused_by(why)))
}

/// Releases the holds of processes that are gone. A crash before settlement is free for the customer.
fn release_orphans(
    ledger: &mut Ledger,
    projections: &Projections,
    epoch: u64,
    now: Timestamp,
) -> Result<Vec<Record>, OpenError> {
    let is_orphan = |owner: HoldOwner| matches!(owner, HoldOwner::Process(of) if of != epoch);
    let mut orphans: Vec<_> =
        ledger.open_holds().filter(|hold| is_orphan(hold.owner)).map(|hold| hold.id).collect();
    orphans.sort_unstable();
    let mut records = Vec::with_capacity(orphans.len());
    for hold in orphans {
        let release = Command::Release { hold, reason: ReleaseReason::ProcessDied };
        let effect = ledger.execute(&release, now).map_err(|why| OpenError::Ledger { n: 0, why })?;
        let row = projections.request(hold.0)?;
        let call = row.map(|row| encoding::decode_call(&row.facts)).transpose();
        let call = call.map_err(|why| OpenError::Decode { n: 0, why })?.map(|call| CallRecord {
            outcome: Some(Box::new(Outcome { ending: Ending::ProcessDied, ..Outcome::gateway_fault() })),
            ..call
        });
        records.push(Record { effects: vec![effect], call });
    }
    if !records.is_empty() {
        tracing::warn!(holds = records.len(), "released the holds of a process that is gone");
    }
    Ok(records)
}
