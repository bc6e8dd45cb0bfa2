//! Keeps the differences of one source as cases, and how far the comparison came.

use std::io;

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::cases::{self, Case, CaseState, Place};
use super::compare::{Difference, Kind, Rules, Walk};
use super::ours;
use super::run::{Parts, RunError, SourceReport};
use super::sort::Sorter;
use super::steps::{Going, Step};
use super::store::ReconcileStore;
use crate::books::verify::Finding;
use crate::id::ReconcileCaseId;
use crate::store::StoreError;

/// Cases that a run keeps of a source.
const CASES_MAX: u64 = 100_000;
const CASES_AT_ONCE: usize = 512;

pub struct Keeper<'a> {
    store: &'a ReconcileStore,
    parts: &'a Parts<'a>,
    going: &'a Going,
    source: String,
    /// Which files are compared; a step of others is not gone on from.
    files: String,
    pub step: Step,
    waiting: Vec<Case>,
    /// How often a subject was met: two differences of one kind about one key are two cases.
    met: HashMap<(Kind, String), u32>,
    /// Of the last case that was found.
    last: ReconcileCaseId,
}

impl<'a> Keeper<'a> {
    /// Goes on from where the run came with this source.
    pub fn open(
        store: &'a ReconcileStore,
        parts: &'a Parts<'a>,
        going: &'a Going,
        source: String,
        files: String,
    ) -> Result<Self, StoreError> {
        let mut step = store.step(going, &source, &files)?;
        step.report.source.clone_from(&source);
        let (waiting, met, last) = (Vec::new(), HashMap::new(), ReconcileCaseId::from_raw(0));
        Ok(Keeper { store, parts, going, source, files, step, waiting, met, last })
    }

    /// A side's rows, but for those that were compared before.
    pub fn sorter(&self) -> Sorter {
        Sorter::new(self.parts.folder).behind(self.step.after.as_deref())
    }

    /// Compares both sides, shown as this phase; `false`: interrupted.
    pub fn walk(
        &mut self,
        phase: &'static str,
        ours: Sorter,
        theirs: Sorter,
        rules: &Rules,
    ) -> Result<bool, RunError> {
        let (progress, waiting) = (self.parts.progress, std::mem::take(&mut self.step.waiting));
        let mut walk = Walk::going_on(self.step.report.counts, self.step.after.take(), waiting);
        let before = walk.counts.ours + walk.counts.theirs;
        progress.begin(phase, ours.count() + theirs.count());
        let mut failed = None;
        let done = walk.compare(
            ours.sorted()?,
            theirs.sorted()?,
            rules,
            &mut |difference| {
                self.keep(&difference).map_err(|why| {
                    failed = Some(why);
                    io::Error::other("a case cannot be kept")
                })
            },
            &mut |walked| {
                progress.reach(walked - before);
                !progress.is_stopped()
            },
        );
        if let Some(why) = failed {
            return Err(why.into());
        }
        let done = done?;
        self.step.report.counts = walk.counts;
        if !done {
            self.step.after.clone_from(&walk.after);
            self.step.waiting = walk.into_waiting();
        }
        Ok(done)
    }

    pub fn finding(&mut self, finding: &Finding) -> Result<(), StoreError> {
        let kind = ours::kind_of(finding);
        let shown = json!({"invariant": finding.invariant, "batch": finding.batch, "what": finding.what});
        let subject = format!("{} in batch {}", finding.invariant, finding.batch);
        let difference = Difference { kind, ours: None, theirs: None };
        let (cause, proposal) =
            (cases::cause(Place::Books, &difference), cases::proposal(Place::Books, &difference));
        self.add(kind, subject, Some(shown), None, cause.to_owned(), proposal)
    }

    pub fn keep(&mut self, difference: &Difference) -> Result<(), StoreError> {
        let place = Place::of(&self.source);
        let ours = difference.ours.as_ref().map(cases::view);
        let theirs = difference.theirs.as_ref().map(cases::view);
        let (cause, proposal) = (cases::cause(place, difference), cases::proposal(place, difference));
        self.add(difference.kind, cases::subject(difference), ours, theirs, cause.to_owned(), proposal)
    }

    fn add(
        &mut self,
        kind: Kind,
        subject: String,
        ours: Option<Value>,
        theirs: Option<Value>,
        cause: String,
        proposal: Value,
    ) -> Result<(), StoreError> {
        *self.step.report.differences.entry(kind).or_default() += 1;
        if self.step.kept >= CASES_MAX {
            self.step.report.cut = true;
            return Ok(());
        }
        self.step.kept += 1;
        let times = self.met.entry((kind, subject.clone())).or_default();
        *times += 1;
        let subject = if *times == 1 { subject } else { format!("{subject}#{times}") };
        let id = ReconcileCaseId::new(self.parts.clock, self.parts.entropy);
        // Ids of one run are in the order in which they were found, and no two of those of one millisecond are equal.
        let id = id.max(ReconcileCaseId::from_raw(self.last.raw().saturating_add(1)));
        self.last = id;
        self.waiting.push(Case {
            id,
            source: self.source.clone(),
            kind,
            subject,
            state: CaseState::Open,
            ours,
            theirs,
            cause,
            proposal: Some(proposal),
            corrections: Vec::new(),
            opened_ms: self.parts.clock.now_ms(),
            seen_run: self.going.run,
            closed_ms: None,
            closed_by: None,
            reason: None,
        });
        if self.waiting.len() >= CASES_AT_ONCE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.store.see(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    /// One part of the source is done.
    pub fn next_part(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.step.part += 1;
        self.step.after = None;
        self.save()
    }

    /// The run ends here, and goes on from here another time.
    pub fn interrupted(mut self) -> Result<SourceReport, StoreError> {
        self.flush()?;
        self.save()?;
        Ok(SourceReport { stopped: true, ..self.step.report })
    }

    /// The run ends here; another time this source begins anew.
    pub fn given_up(mut self) -> Result<SourceReport, StoreError> {
        self.flush()?;
        Ok(SourceReport { stopped: true, ..self.step.report })
    }

    /// All was compared. `whole`: what was not seen any more is known to agree.
    pub fn finish(mut self, whole: bool) -> Result<SourceReport, StoreError> {
        self.flush()?;
        if whole && !self.step.report.cut {
            let now_ms = self.parts.clock.now_ms();
            self.step.report.gone = self.store.gone(&self.source, self.going.run, now_ms)?;
        }
        self.step.done = true;
        self.save()?;
        Ok(self.step.report)
    }

    fn save(&self) -> Result<(), StoreError> {
        self.store.save_step(self.going, &self.source, &self.files, &self.step)
    }
}
