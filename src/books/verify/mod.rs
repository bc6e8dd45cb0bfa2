//! Verify: reads the journal, keeps books of its own from it, and compares.
//!
//! Checks I1 to I10 by number: each transaction sums to zero, every link of the chain holds, the books close after every
//! batch, no lot and no limit goes below zero, each call has one outcome, each hold a living owner, references post once,
//! refunds stay within their charge, and the request log and the checkpoint say the same as the journal.
//!
//! Three threads: one reads, checks the chain and decodes ([`reading`]), one keeps the books (here), one compares what
//! calls came to with the request log ([`calls`]). Memory does not grow with the journal. A run may begin behind what an
//! earlier one has sealed ([`seal`]).

mod calls;
mod owners;
mod reading;
pub mod seal;

use std::fmt;
use std::sync::mpsc::{SyncSender, sync_channel};

use hashbrown::HashSet;
use ledger::{Effect, HoldId, HoldOwner, Ledger, LedgerError, invariants, total};

use crate::job::Progress;
use crate::store::chain::Link;
use crate::store::{JournalReader, Projections, StoreError};

use super::encoding::{self, Checkpoint, StoredRecord, Totals, Verified};
use super::projector::{CHECKPOINT, ChargeState};

pub use owners::{TaskRow, TaskRows};

use calls::{Comparison, EndedCall, Refund, Told};
use reading::Parsed;

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// "I1" … "I10", "format", "audit" or "seal".
    pub invariant: &'static str,
    /// Batch in which it showed; of the audit log, the version.
    pub batch: u64,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in batch {}: {}", self.invariant, self.batch, self.what)
    }
}

/// What was read, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// First batch that was read; those before it were verified by an earlier run.
    pub from: u64,
    /// Last batch that was read, or verified before.
    pub through: u64,
    pub batches: u64,
    pub records: u64,
    pub effects: u64,
    pub calls: u64,
    pub open_holds: u64,
    /// Nano-units charged in all, since the first batch of the journal.
    pub charged: i128,
    pub findings: Vec<Finding>,
    /// More was found than is listed.
    pub cut: bool,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.cut = true;
        }
    }
}

/// A run with what the next one can begin behind.
#[derive(Debug)]
pub struct Run {
    pub report: Report,
    /// It was asked to stop before the end.
    pub stopped: bool,
    /// The books as far as they were found clean; `None`: something was found.
    pub verified: Option<Verified>,
}

/// Findings listed at most.
const FINDINGS_MAX: usize = 1_000;
/// Batches between two checks of the whole state; the cheap checks run on every effect.
const BATCHES_PER_CHECK: u64 = 4_096;
/// Calls that are compared with the request log at once.
const CALLS_AT_ONCE: usize = 65_536;

/// Verifies everything. `tasks`: whose rows the holds of tasks belong to; `None`: nobody is asked about them. `progress` is
/// told the number of batches read. Blocks on the store.
pub fn verify(
    journal: &JournalReader,
    projections: &Projections,
    tasks: Option<&dyn TaskRows>,
    shard: u32,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, StoreError> {
    let run = run(journal, projections, tasks, shard, None, &Progress::default())?;
    progress(run.report.through);
    Ok(run.report)
}

/// Verifies what comes behind `from`, or everything. Blocks on the store.
pub fn run(
    journal: &JournalReader,
    projections: &Projections,
    tasks: Option<&dyn TaskRows>,
    shard: u32,
    from: Option<Verified>,
    progress: &Progress,
) -> Result<Run, StoreError> {
    let whole = from.is_none();
    let mut verifier = Verifier::new(from);
    let start = verifier.last;
    let through = journal.last(shard)?.map_or(0, |last| last.n);
    progress.begin("journal", through);
    let comparison = std::thread::scope(|scope| -> Result<Comparison, StoreError> {
        let (to_books, parsed) = sync_channel::<Vec<Parsed>>(reading::CHUNKS_WAITING);
        let (to_log, told) = sync_channel::<Told>(1);
        let (to_reader, projected) = sync_channel::<u64>(1);
        let reader = scope
            .spawn(move || reading::read(journal, shard, start, through, &projected, progress, &to_books));
        let log = scope.spawn(move || calls::compare(projections, shard, whole, &told, &to_reader));
        for batch in parsed.into_iter().flatten() {
            verifier.batch(batch, &to_log);
        }
        verifier.tell(&to_log);
        drop(to_log);
        joined(reader)?;
        joined(log)
    })?;
    // Far behind, most holds have ended since.
    if let Some(tasks) = tasks.filter(|_| !progress.is_stopped()) {
        verifier.check_task_owners(tasks, journal, shard)?;
    }
    verifier.finish(projections, comparison, whole, progress.is_stopped())
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
    thread.join().unwrap_or_else(|_| Err(StoreError::other("a thread of verify broke off")))
}

struct Verifier {
    ledger: Ledger,
    last: Link,
    totals: Totals,
    report: Report,
    /// Calls that ended since the log was last asked, and refunds.
    ended: Vec<EndedCall>,
    refunds: Vec<Refund>,
    /// Holds whose end did not fit: that they stay open is no finding of its own.
    astray: HashSet<HoldId>,
    /// How many calls had ended by the end of each of the last batches that were read.
    ended_by: Vec<(u64, u64)>,
    /// Facts that are gone: their calls need not be in the log any more.
    purged: bool,
}

impl Verifier {
    fn new(from: Option<Verified>) -> Self {
        let Verified { totals, checkpoint } = from.unwrap_or_default();
        let Checkpoint { n, hash, epoch, state } = checkpoint;
        Verifier {
            ledger: Ledger::from_state(state),
            last: Link { n, hash, epoch },
            totals,
            report: Report { from: n + 1, through: n, ..Report::default() },
            ended: Vec::new(),
            refunds: Vec::new(),
            astray: HashSet::new(),
            ended_by: Vec::new(),
            purged: false,
        }
    }

    fn find(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.report.find(Finding { invariant, batch: self.last.n, what: what.into() });
    }

    fn batch(&mut self, batch: Parsed, to_log: &SyncSender<Told>) {
        self.last = batch.link;
        if let Some(why) = batch.broken_link {
            self.find("I9", why.to_string());
        }
        self.report.batches += 1;
        self.purged |= batch.purged;
        match batch.records {
            Ok(records) => records.iter().for_each(|record| self.record(record, batch.purged)),
            Err(why) => self.find("format", why.to_string()),
        }
        self.ended_by.push((self.last.n, self.totals.ended));
        if self.last.n.is_multiple_of(BATCHES_PER_CHECK) {
            self.check_state();
            self.forget_counts();
        }
        if self.ended.len() >= CALLS_AT_ONCE {
            self.tell(to_log);
        }
    }

    /// The log is asked what it had at one batch, which lies near the end.
    fn forget_counts(&mut self) {
        let spare = self.ended_by.len().saturating_sub(1 << 20);
        self.ended_by.drain(..spare);
    }

    fn record(&mut self, record: &StoredRecord, purged: bool) {
        self.report.records += 1;
        // The end of a call that began in an earlier batch has a record of its own.
        let ends = matches!(record.effects.first(), Some(Effect::Settled(_) | Effect::Released(_)));
        self.report.calls += u64::from(record.request.is_some() && !ends);
        record.effects.iter().for_each(|effect| self.effect(effect, purged));
        let Some(call) = &record.call else { return };
        let request = call.decided.facts.request;
        let money = ChargeState::of(&record.effects).0;
        let settled = matches!(money, ChargeState::Settled | ChargeState::Released);
        let (refused, free) = (call.decided.refusal.is_some(), call.decided.facts.is_free());
        let ended = if free { !refused } else { settled };
        if (refused || free) && !record.effects.is_empty() {
            let why = if refused { "was refused" } else { "is free" };
            self.find("I5", format!("{request} {why} and moved money"));
        } else if call.outcome.is_some() != ended && !matches!(money, ChargeState::Refunded) {
            self.find("I5", format!("{request} has no one outcome"));
        }
    }

    fn effect(&mut self, effect: &Effect, purged: bool) {
        self.report.effects += 1;
        self.count(effect, purged);
        let doubled = reference_of(effect).filter(|name| self.ledger.has_posted(name));
        let wrong = invariants::balanced(effect)
            .map(|violation| (violation.invariant, violation.what))
            .or_else(|| doubled.map(|name| ("I8", format!("{} posted twice", name.0))))
            .or_else(|| {
                let violation = invariants::admissible(&self.ledger, effect, None)?;
                Some((violation.invariant, violation.what))
            });
        let applied = self.ledger.apply(effect);
        if applied.is_err() {
            self.astray.extend(effect.hold());
        }
        // One cause, one finding: what does not fit because of it is not told again.
        match (wrong, applied) {
            (Some((invariant, what)), _) => self.find(invariant, what),
            (None, Err(why)) => self.find(broken_by(&why), why.to_string()),
            (None, Ok(())) => {}
        }
    }

    fn count(&mut self, effect: &Effect, purged: bool) {
        let batch = self.last.n;
        let (hold, charged) = match effect {
            Effect::Settled(settled) => (settled.hold, settled.charged()),
            Effect::Released(released) => (released.hold, ledger::Nano::ZERO),
            Effect::Refunded(refund) => {
                let refunded = self.ledger.refunded(refund.hold).saturating_add(total(&refund.credits));
                self.refunds.push(Refund { charge: refund.hold, refunded, batch });
                return;
            }
            _ => return,
        };
        self.totals.ended += 1;
        self.totals.charged += i128::from(charged.0);
        self.ended.push(EndedCall { hold, charged, batch, purged });
    }

    /// Hands what calls came to over to the thread that knows the log. It only fails when that has ended, and it says why
    /// itself.
    fn tell(&mut self, to_log: &SyncSender<Told>) {
        let told =
            Told { ended: std::mem::take(&mut self.ended), refunds: std::mem::take(&mut self.refunds) };
        let _ended = to_log.send(told);
    }

    fn check_state(&mut self) {
        for violation in invariants::check(&self.ledger) {
            self.find(violation.invariant, violation.what);
        }
    }

    /// I3: whoever took the books over has released what the processes before it held.
    fn check_owners(&mut self) {
        let epoch = self.last.epoch;
        let is_orphan = |owner: HoldOwner| matches!(owner, HoldOwner::Process(of) if of < epoch);
        let orphans = self.ledger.open_holds().filter(|hold| is_orphan(hold.owner));
        let orphans = orphans.filter(|hold| !self.astray.contains(&hold.id));
        let mut orphans: Vec<_> = orphans.map(|hold| hold.id).collect();
        orphans.sort_unstable();
        for hold in orphans {
            self.find("I3", format!("{} is held by a process that is gone", encoding::request_of(hold)));
        }
    }

    /// I3: a task lives until its hold has an end.
    fn check_task_owners(
        &mut self,
        tasks: &dyn TaskRows,
        journal: &JournalReader,
        shard: u32,
    ) -> Result<(), StoreError> {
        for (hold, what) in owners::orphans(&self.ledger, tasks, journal, (shard, self.last.n))? {
            if !self.astray.contains(&hold) {
                self.find("I3", what);
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        projections: &Projections,
        comparison: Comparison,
        whole: bool,
        stopped: bool,
    ) -> Result<Run, StoreError> {
        self.check_state();
        self.check_owners();
        comparison.findings.iter().for_each(|finding| self.report.find(finding.clone()));
        if whole && !self.purged {
            self.compare_counts(&comparison);
        }
        // Books that went astray are no measure for a checkpoint.
        if self.report.is_clean() {
            self.compare_checkpoint(projections)?;
        }
        self.report.open_holds = self.ledger.open_holds().count() as u64;
        self.report.charged = self.totals.charged;
        self.report.through = self.last.n;
        let Link { n, hash, epoch } = self.last;
        let verified = (self.report.is_clean() && comparison.complete).then(|| Verified {
            totals: self.totals,
            checkpoint: Checkpoint { n, hash, epoch, state: self.ledger.state() },
        });
        Ok(Run { report: self.report, stopped, verified })
    }

    /// I6: the log has no call that the journal does not have.
    fn compare_counts(&mut self, comparison: &Comparison) {
        let Some((cursor, logged)) = comparison.ended_in_log else { return };
        let by = self.ended_by.iter().find(|(n, _)| *n == cursor).map(|(_, ended)| *ended);
        let Some(ended) = by.or((cursor == 0).then_some(0)) else { return };
        let expected = ended.saturating_sub(comparison.missing).saturating_sub(comparison.doubled);
        if logged != expected {
            self.find("I6", format!("the log has {logged} calls that ended, the journal {expected}"));
        }
    }

    fn compare_checkpoint(&mut self, projections: &Projections) -> Result<(), StoreError> {
        let Some((n, body)) = projections.checkpoint(CHECKPOINT)? else { return Ok(()) };
        match encoding::decode_checkpoint(&body) {
            Err(why) => self.find("format", format!("the checkpoint: {why}")),
            Ok(checkpoint) if n == self.last.n && checkpoint.state != self.ledger.state() => {
                self.find("I2", "the checkpoint is not what the journal says");
            }
            Ok(_) => {}
        }
        Ok(())
    }
}

fn reference_of(effect: &Effect) -> Option<&ledger::Reference> {
    match effect {
        Effect::Credited(credit) => Some(&credit.reference),
        Effect::Refunded(refund) => Some(&refund.reference),
        Effect::Withdrawn(withdrawn) => Some(&withdrawn.reference),
        Effect::Held(_)
        | Effect::Settled(_)
        | Effect::Released(_)
        | Effect::Expired(_)
        | Effect::CostAccrued(_) => None,
    }
}

/// The invariant that an effect breaks which could not have been planned.
fn broken_by(why: &LedgerError) -> &'static str {
    let LedgerError::ForeignEffect { what } = why else { return "I2" };
    match *what {
        "the hold is open already" | "the hold is not open" => "I5",
        "a charge is not of its hold" | "a charge and its loss are not the cost" => "I4",
        "the reference has posted" => "I8",
        "the lot has less" | "a layer is below zero" => "I7",
        "a refund gives back more of a limit than was used" => "I10",
        _ => "I2",
    }
}
