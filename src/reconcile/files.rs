//! Our rows beside the files of one payment provider or one upstream.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use hashbrown::HashMap;

use super::compare::Rules;
use super::format::{Join, Side};
use super::import::Import;
use super::keeper::Keeper;
use super::ours;
use super::overlap;
use super::row::Row;
use super::run::{LATE_MS, Parts, RunError, SourceReport};
use super::sort::Sorter;
use super::steps::Going;
use super::store::ReconcileStore;
use crate::id::ChannelId;
use crate::store::StoreError;

/// Near the ends of a file a row may be in the next one.
const EDGE_MS: i64 = 10 * 60_000;
/// Rows of ours around the time that a file covers: what is late is found, too.
const AROUND_MS: i64 = 31 * DAY_MS;
const DAY_MS: i64 = 86_400_000;

/// The imports of one counterpart, which are compared together.
pub struct Counterpart {
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

    /// Tells these files from those of another time: an import comes and never goes.
    fn files(&self) -> String {
        let newest = self.imports.iter().map(|import| import.id.raw()).max().unwrap_or(0);
        format!("{} up to {newest}", self.imports.len())
    }

    /// Each import's format, as a number.
    fn formats(&self) -> HashMap<String, usize> {
        let names: BTreeSet<&str> = self.imports.iter().map(|import| &*import.format).collect();
        let number =
            |import: &Import| names.iter().position(|name| *name == import.format).unwrap_or_default();
        self.imports.iter().map(|import| (import.id.to_string(), number(import))).collect()
    }

    fn covered(&self) -> (i64, i64) {
        let from = self.imports.iter().map(|import| import.from_ms).min().unwrap_or(0);
        let until = self.imports.iter().map(|import| import.until_ms).max().unwrap_or(0);
        (from, until)
    }

    fn rules(&self) -> Rules {
        // Where somebody said which time the files cover, that is taken at its word.
        let said = self.imports.iter().all(|import| import.said);
        let edge_ms = if said || self.join == Join::Day { 0 } else { EDGE_MS };
        Rules { late_ms: LATE_MS, covered: self.covered(), edge_ms }
    }
}

pub fn counterparts(store: &ReconcileStore) -> Result<Vec<Counterpart>, StoreError> {
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

pub fn compare(
    store: &ReconcileStore,
    parts: &Parts<'_>,
    going: &Going,
    counterpart: &Counterpart,
) -> Result<SourceReport, RunError> {
    let mut keeper = Keeper::open(store, parts, going, counterpart.source(), counterpart.files())?;
    if keeper.step.done {
        return Ok(keeper.step.report);
    }
    let (mut own, mut theirs) = (keeper.sorter(), keeper.sorter());
    parts.progress.begin("files", counterpart.imports.iter().map(|import| import.rows).sum());
    for import in &counterpart.imports {
        store.each_row(import.id, |row| ours::keep(parts, &mut theirs, row))?;
    }
    parts.progress.begin("books", 0);
    own_rows(parts, counterpart, &mut own)?;
    if parts.progress.is_stopped() {
        return Ok(keeper.interrupted()?);
    }
    if counterpart.join == Join::Day {
        let formats = counterpart.formats();
        // A bill by day tells whose it is by its format alone.
        let maker = |row: &Row| formats.get(overlap::import_of(row)).copied().unwrap_or_default();
        (own, theirs) = (summed(own, &|_| 0, parts)?, summed(theirs, &maker, parts)?);
    }
    if !keeper.walk("comparing", own, theirs, &counterpart.rules())? {
        return Ok(keeper.interrupted()?);
    }
    Ok(keeper.finish(true)?)
}

fn own_rows(parts: &Parts<'_>, counterpart: &Counterpart, to: &mut Sorter) -> Result<(), StoreError> {
    let (from, until) = counterpart.covered();
    let around = (from.saturating_sub(AROUND_MS), until.saturating_add(AROUND_MS));
    match (counterpart.side, counterpart.join) {
        (Side::Payments, join) => ours::payments(parts, &counterpart.scope, join, around, to),
        (Side::Upstream, Join::Day) => {
            ours::attempts(parts, &channels(&counterpart.scope), Join::Day, day_bounds((from, until)), to)
        }
        (Side::Upstream, join) => ours::attempts(parts, &channels(&counterpart.scope), join, around, to),
    }
}

/// Channels by their ids, as a scope names them.
fn channels(scope: &str) -> Vec<u64> {
    scope.split(',').filter_map(|id| id.trim().parse::<ChannelId>().ok()).map(|id| id.raw()).collect()
}

/// Whole days in UTC around a time.
fn day_bounds((from, until): (i64, i64)) -> (i64, i64) {
    (from.div_euclid(DAY_MS) * DAY_MS, (until.div_euclid(DAY_MS) + 1) * DAY_MS - 1)
}

/// The rows of each key and currency as one; what several files of one maker have counts once.
fn summed(rows: Sorter, maker: &dyn Fn(&Row) -> usize, parts: &Parts<'_>) -> io::Result<Sorter> {
    let mut to = Sorter::new(parts.folder);
    let mut rows = rows.sorted()?;
    while let Some(key) = rows.peek().map(|row| row.key.clone()) {
        let mut sums: HashMap<Box<str>, Row> = HashMap::new();
        for row in overlap::once(rows.take_key(&key)?, maker) {
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
