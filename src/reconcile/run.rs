//! One run: every source, both sides sorted, walked through, and the differences kept as cases.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use hashbrown::HashMap;
use serde_json::json;

use super::cases::{self, Case, CaseState, Place};
use super::compare::{Counts, Difference, Kind, Rules, compare};
use super::format::{Join, Side};
use super::import::Import;
use super::ours;
use super::row::Row;
use super::sort::Sorter;
use super::store::ReconcileStore;
use crate::books::verify::seal::{self, VerifyError};
use crate::clock::{Clock, Entropy};
use crate::directory::Directory;
use crate::funding::Funding;
use crate::id::ReconcileCaseId;
use crate::job::Progress;
use crate::store::{JournalReader, Projections, StoreError};
use crate::tasks::Tasks;

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
}

#[derive(Debug)]
pub enum RunError {
    Store(StoreError),
    Io(io::Error),
    Verify(VerifyError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Store(why) => write!(f, "{why}"),
            RunError::Io(why) => write!(f, "rows cannot be sorted: {why}"),
            RunError::Verify(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Store(why) => Some(why),
            RunError::Io(why) => Some(why),
            RunError::Verify(why) => Some(why),
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

/// What a source came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceReport {
    pub source: String,
    pub counts: Counts,
    /// Differences by kind.
    pub differences: BTreeMap<Kind, u64>,
    /// Cases that closed because both sides agree now.
    pub gone: u64,
    /// More was found than was kept.
    pub cut: bool,
    /// It was stopped before its end; nothing was closed.
    pub stopped: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub run: u64,
    pub sources: Vec<SourceReport>,
    pub open_cases: u64,
    pub stopped: bool,
}

/// Rows further apart than this are late; near the ends of a file a row may be in the next one.
const LATE_MS: i64 = 48 * 3_600_000;
const EDGE_MS: i64 = 10 * 60_000;
/// Rows of ours around the time that a file covers: what is late is found, too.
const AROUND_MS: i64 = 31 * 86_400_000;
/// Cases that a run keeps of a source.
const CASES_MAX: u64 = 100_000;
const CASES_AT_ONCE: usize = 512;

/// The imports of one counterpart, which are compared together.
struct Counterpart {
    side: Side,
    scope: String,
    join: Join,
    imports: Vec<Import>,
}

impl Counterpart {
    fn source(&self) -> String {
        let by = if self.join == Join::Day { ":day" } else { "" };
        let scope = if self.scope.is_empty() { "all" } else { &self.scope };
        format!("{}:{scope}{by}", self.side.as_str())
    }

    fn covered(&self) -> (i64, i64) {
        let from = self.imports.iter().map(|import| import.from_ms).min().unwrap_or(0);
        let until = self.imports.iter().map(|import| import.until_ms).max().unwrap_or(0);
        (from, until)
    }
}

/// Compares everything. `full`: the journal from its first batch on.
pub fn run(
    store: &ReconcileStore,
    parts: &Parts<'_>,
    full: bool,
    progress: &Progress,
) -> Result<Report, RunError> {
    let run = store.next_run()?;
    let mut report = Report { run, ..Report::default() };
    report.sources.push(books(store, parts, run, full, progress)?);
    for counterpart in counterparts(store)? {
        if progress.is_stopped() {
            break;
        }
        report.sources.push(with_files(store, parts, run, &counterpart, progress)?);
    }
    report.stopped = progress.is_stopped();
    report.open_cases = store.open_cases()?;
    Ok(report)
}

fn counterparts(store: &ReconcileStore) -> Result<Vec<Counterpart>, StoreError> {
    let mut found: BTreeMap<(String, String, bool), Counterpart> = BTreeMap::new();
    let mut before = None;
    loop {
        let page = store.imports(before, 500)?;
        let Some(last) = page.last() else { break };
        before = Some(last.id.raw());
        for import in page {
            let (side, scope, join) = (import.side, import.scope.clone(), import.join);
            let key = (side.as_str().to_owned(), scope.clone(), join == Join::Day);
            let counterpart =
                found.entry(key).or_insert_with(|| Counterpart { side, scope, join, imports: Vec::new() });
            counterpart.imports.push(import);
        }
    }
    Ok(found.into_values().collect())
}

/// Ledger beside request log and orders.
fn books(
    store: &ReconcileStore,
    parts: &Parts<'_>,
    run: u64,
    full: bool,
    progress: &Progress,
) -> Result<SourceReport, RunError> {
    let mut keeper = Keeper::new(store, parts, "books", run);
    let (journal, projections, directory) = (parts.journal, parts.projections, parts.directory);
    let verified = seal::verify(
        &seal::Books {
            journal,
            projections,
            directory,
            tasks: &parts.tasks.owners(),
            shard: 0,
            actor: parts.actor,
        },
        full,
        progress,
    )?;
    for finding in &verified.report.findings {
        keeper.finding(finding)?;
    }
    progress.begin("orders", 0);
    let (mut of_orders, mut of_ledger) = (Sorter::new(parts.folder), Sorter::new(parts.folder));
    ours::postings_of_orders(parts, &mut of_orders)?;
    ours::movements_of_orders(parts, &mut of_ledger)?;
    let rules = Rules { late_ms: LATE_MS, covered: (i64::MIN, i64::MAX), edge_ms: 0 };
    let counts = keeper.walk(of_orders, of_ledger, &rules, progress)?;
    progress.begin("calls", 0);
    let mut failed = None;
    ours::charged_without_answer(parts, &mut |row| {
        let difference = Difference { kind: Kind::ChargedWithoutAnswer, ours: Some(row), theirs: None };
        match keeper.keep(&difference) {
            Ok(()) if !progress.is_stopped() => Ok(ControlFlow::Continue(())),
            Ok(()) => Ok(ControlFlow::Break(())),
            Err(why) => {
                failed = Some(why);
                Ok(ControlFlow::Break(()))
            }
        }
    })?;
    if let Some(why) = failed {
        return Err(why.into());
    }
    // What an incremental verification does not read again is not known to agree.
    let whole = verified.report.from == 1 && !verified.stopped;
    Ok(keeper.finish(counts, progress.is_stopped(), whole)?)
}

/// Ours beside the files of a payment provider or an upstream.
fn with_files(
    store: &ReconcileStore,
    parts: &Parts<'_>,
    run: u64,
    counterpart: &Counterpart,
    progress: &Progress,
) -> Result<SourceReport, RunError> {
    let source = counterpart.source();
    let mut keeper = Keeper::new(store, parts, &source, run);
    let covered = counterpart.covered();
    let around = (covered.0.saturating_sub(AROUND_MS), covered.1.saturating_add(AROUND_MS));
    progress.begin("sorting", counterpart.imports.iter().map(|import| import.rows).sum());
    let (mut own, mut theirs) = (Sorter::new(parts.folder), Sorter::new(parts.folder));
    for import in &counterpart.imports {
        store.each_row(import.id, |row| {
            theirs.push(row).map_err(|why| StoreError::other("rows cannot be sorted").caused_by(why))?;
            progress.add(1);
            Ok(if progress.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
    }
    let by_day = counterpart.join == Join::Day;
    match counterpart.side {
        Side::Payments => ours::payments(parts, &counterpart.scope, counterpart.join, around, &mut own)?,
        Side::Upstream => {
            let channels = channels(&counterpart.scope);
            let days = if by_day { day_bounds(covered) } else { around };
            ours::attempts(parts, &channels, counterpart.join, days, &mut own)?;
        }
    }
    let (own, theirs) = if by_day { (summed(own, parts)?, summed(theirs, parts)?) } else { (own, theirs) };
    // Where somebody said which time the files cover, that is taken at its word.
    let said = counterpart.imports.iter().all(|import| import.said);
    let edge_ms = if said || by_day { 0 } else { EDGE_MS };
    let rules = Rules { late_ms: LATE_MS, covered, edge_ms };
    let counts = keeper.walk(own, theirs, &rules, progress)?;
    Ok(keeper.finish(counts, progress.is_stopped(), true)?)
}

/// Channels by their ids, as a scope names them.
fn channels(scope: &str) -> Vec<u64> {
    scope
        .split(',')
        .filter_map(|id| id.trim().parse::<crate::id::ChannelId>().ok())
        .map(|id| id.raw())
        .collect()
}

/// Whole days in UTC around a time.
fn day_bounds((from, until): (i64, i64)) -> (i64, i64) {
    const DAY_MS: i64 = 86_400_000;
    (from.div_euclid(DAY_MS) * DAY_MS, (until.div_euclid(DAY_MS) + 1) * DAY_MS - 1)
}

/// The rows of each key and currency as one.
fn summed(rows: Sorter, parts: &Parts<'_>) -> io::Result<Sorter> {
    let mut to = Sorter::new(parts.folder);
    let mut rows = rows.sorted()?;
    while let Some(key) = rows.peek().map(|row| row.key.clone()) {
        let mut sums: HashMap<Box<str>, Row> = HashMap::new();
        while rows.peek().is_some_and(|row| row.key == key) {
            let Some(row) = rows.next_row()? else { break };
            match sums.get_mut(&row.currency) {
                Some(sum) => {
                    let (one, other) = (sum.amount.unwrap_or_default(), row.amount.unwrap_or_default());
                    sum.amount = Some(one.saturating_add(other));
                }
                None => {
                    let first = Row { name: format!("costs of {key}").into(), optional: false, ..row };
                    sums.insert(first.currency.clone(), first);
                }
            }
        }
        sums.into_values().try_for_each(|row| to.push(row))?;
    }
    Ok(to)
}

/// Keeps the differences of one source as cases.
struct Keeper<'a> {
    store: &'a ReconcileStore,
    parts: &'a Parts<'a>,
    run: u64,
    report: SourceReport,
    waiting: Vec<Case>,
    /// How often a subject was met: two differences of one kind about one key are two cases.
    met: HashMap<(Kind, String), u32>,
    kept: u64,
}

impl<'a> Keeper<'a> {
    fn new(store: &'a ReconcileStore, parts: &'a Parts<'a>, source: &str, run: u64) -> Self {
        Keeper {
            store,
            parts,
            run,
            report: SourceReport { source: source.to_owned(), ..SourceReport::default() },
            waiting: Vec::new(),
            met: HashMap::new(),
            kept: 0,
        }
    }

    fn walk(
        &mut self,
        ours: Sorter,
        theirs: Sorter,
        rules: &Rules,
        progress: &Progress,
    ) -> Result<Counts, RunError> {
        progress.begin("comparing", ours.count() + theirs.count());
        let mut failed = None;
        let counts = compare(
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
                progress.reach(walked);
                !progress.is_stopped()
            },
        );
        match failed {
            Some(why) => Err(why.into()),
            None => Ok(counts?),
        }
    }

    fn finding(&mut self, finding: &crate::books::verify::Finding) -> Result<(), StoreError> {
        let kind = ours::kind_of(finding);
        let shown = json!({"invariant": finding.invariant, "batch": finding.batch, "what": finding.what});
        let subject = format!("{} in batch {}", finding.invariant, finding.batch);
        let difference = Difference { kind, ours: None, theirs: None };
        let (cause, proposal) = (cases::cause(Place::Books, &difference).to_owned(), None);
        self.add(kind, subject, Some(shown), None, cause, proposal)
    }

    fn keep(&mut self, difference: &Difference) -> Result<(), StoreError> {
        let place = Place::of(&self.report.source);
        let ours = difference.ours.as_ref().map(cases::view);
        let theirs = difference.theirs.as_ref().map(cases::view);
        let (cause, proposal) = (cases::cause(place, difference), cases::proposal(place, difference));
        self.add(difference.kind, cases::subject(difference), ours, theirs, cause.to_owned(), proposal)
    }

    fn add(
        &mut self,
        kind: Kind,
        subject: String,
        ours: Option<serde_json::Value>,
        theirs: Option<serde_json::Value>,
        cause: String,
        proposal: Option<serde_json::Value>,
    ) -> Result<(), StoreError> {
        *self.report.differences.entry(kind).or_default() += 1;
        if self.kept >= CASES_MAX {
            self.report.cut = true;
            return Ok(());
        }
        self.kept += 1;
        let times = self.met.entry((kind, subject.clone())).or_default();
        *times += 1;
        let subject = if *times == 1 { subject } else { format!("{subject}#{times}") };
        let id = ReconcileCaseId::new(self.parts.clock, self.parts.entropy);
        // Ids of one run are in the order in which they were found.
        let id = ReconcileCaseId::from_raw(id.raw().wrapping_add(self.kept));
        self.waiting.push(Case {
            id,
            source: self.report.source.clone(),
            kind,
            subject,
            state: CaseState::Open,
            ours,
            theirs,
            cause,
            proposal,
            opened_ms: self.parts.clock.now_ms(),
            seen_run: self.run,
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

    fn finish(mut self, counts: Counts, stopped: bool, whole: bool) -> Result<SourceReport, StoreError> {
        self.flush()?;
        self.report.counts = counts;
        self.report.stopped = stopped;
        if !stopped && whole && !self.report.cut {
            self.report.gone = self.store.gone(&self.report.source, self.run, self.parts.clock.now_ms())?;
        }
        Ok(self.report)
    }
}
