//! How far a run came, kept in the store, so that one that was interrupted goes on where it was.
//!
//! Promises: a source that was compared is not compared again by the same run; within one, rows up to the last key that
//! was compared are not compared again. Must never: go on with files that are not those that the run began with, or with
//! a run of yesterday.

use serde::{Deserialize, Serialize};

use super::compare::Waiting;
use super::row::Row;
use super::run::SourceReport;
use super::store::ReconcileStore;
use crate::store::{Result, Row as StoreRow, StoreError};
use crate::store_params;

/// An interrupted run that is older begins anew: what it found may have changed.
const GOES_ON_WITHIN_MS: i64 = 86_400_000;

/// Which run is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The journal is read from its first batch on.
    pub full: bool,
    /// Not the rest of one that was interrupted.
    pub anew: bool,
}

/// A run that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Going {
    pub run: u64,
    pub full: bool,
    pub began_ms: i64,
    /// It is the rest of one that was interrupted.
    pub goes_on: bool,
}

/// How far one source came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub done: bool,
    /// Of the parts that a source has.
    pub part: u32,
    /// The first and the last batch that were verified by this run.
    pub verified: Option<(u64, u64)>,
    /// The last key that was compared.
    pub after: Option<Box<str>>,
    /// Cases kept so far.
    pub kept: u64,
    pub report: SourceReport,
    #[serde(skip)]
    pub waiting: Waiting,
}

impl ReconcileStore {
    /// Goes on with the last run if it was interrupted, else begins the next.
    pub fn begin_run(&self, asked: Asked, actor: &str, now_ms: i64) -> Result<Going> {
        let sql = "SELECT run, is_full, began_ms, ended_ms FROM reconcile_runs ORDER BY run DESC LIMIT 1";
        if let Some(last) = self.db().query_one(sql, &[])?.filter(|_| !asked.anew) {
            let (run, full, began_ms) = (last.id(0)?, last.int(1)? != 0, last.int(2)?);
            let is_fresh = now_ms.saturating_sub(began_ms) <= GOES_ON_WITHIN_MS;
            if last.maybe(3, StoreRow::int)?.is_none() && is_fresh && (full || !asked.full) {
                return Ok(Going { run, full, began_ms, goes_on: true });
            }
        }
        let going = Going { run: self.next_run()?, full: asked.full, began_ms: now_ms, goes_on: false };
        self.db().transaction(|tx| {
            tx.execute("DELETE FROM reconcile_steps", &[])?;
            tx.execute("DELETE FROM reconcile_runs", &[])?;
            let sql = "INSERT INTO reconcile_runs (run, is_full, began_ms, actor) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, store_params![going.run, i64::from(going.full), going.began_ms, actor]).map(drop)
        })?;
        Ok(going)
    }

    /// Number of the next run.
    fn next_run(&self) -> Result<u64> {
        let mut last = 0;
        for sql in [
            "SELECT COALESCE(MAX(seen_run), 0) FROM reconcile_cases",
            "SELECT COALESCE(MAX(run), 0) FROM reconcile_runs",
        ] {
            last = last.max(self.db().query_one(sql, &[])?.map_or(Ok(0), |row| row.id(0))?);
        }
        Ok(last + 1)
    }

    /// The run came to its end; how far its sources came is not asked for any more.
    pub fn end_run(&self, going: &Going, now_ms: i64) -> Result<()> {
        self.db().transaction(|tx| {
            tx.execute("DELETE FROM reconcile_steps WHERE run = ?1", store_params![going.run])?;
            let sql = "UPDATE reconcile_runs SET ended_ms = ?2 WHERE run = ?1";
            tx.execute(sql, store_params![going.run, now_ms]).map(drop)
        })
    }

    /// How far the run came with a source, if its files are still the same.
    pub fn step(&self, going: &Going, source: &str, files: &str) -> Result<Step> {
        let sql = "SELECT files, body, waiting FROM reconcile_steps WHERE run = ?1 AND source = ?2";
        let Some(row) = self.db().query_one(sql, store_params![going.run, source])? else {
            return Ok(Step::default());
        };
        if row.text(0)? != files {
            return Ok(Step::default());
        }
        let wrong = || StoreError::corrupt("how far a comparison came cannot be understood");
        let step: Step = serde_json::from_str(row.text(1)?).map_err(|why| wrong().caused_by(why))?;
        Ok(Step { waiting: read_waiting(row.blob(2)?).ok_or_else(wrong)?, ..step })
    }

    pub fn save_step(&self, going: &Going, source: &str, files: &str, step: &Step) -> Result<()> {
        let body = serde_json::to_string(step)
            .map_err(|why| StoreError::other("how far a comparison came cannot be kept").caused_by(why))?;
        let sql = "INSERT INTO reconcile_steps (run, source, files, body, waiting) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (run, source) DO UPDATE SET files = excluded.files, body = excluded.body, \
             waiting = excluded.waiting";
        let waiting = write_waiting(&step.waiting);
        self.db().execute(sql, store_params![going.run, source, files, body, waiting]).map(drop)
    }
}

/// Each row with its length before it: ours after a 0, theirs after a 1.
fn write_waiting(waiting: &Waiting) -> Vec<u8> {
    let (mut to, mut bytes) = (Vec::new(), Vec::new());
    for (side, rows) in [(0, &waiting.ours), (1, &waiting.theirs)] {
        for row in rows {
            bytes.clear();
            row.write(&mut bytes);
            to.push(side);
            to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            to.extend_from_slice(&bytes);
        }
    }
    to
}

/// Reads what [`write_waiting`] wrote; `None`: it is something else.
fn read_waiting(mut from: &[u8]) -> Option<Waiting> {
    let mut waiting = Waiting::default();
    while let Some((side, rest)) = from.split_first() {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        from = rest;
        let row = Row::read(bytes)?;
        if *side == 0 { waiting.ours.push(row) } else { waiting.theirs.push(row) }
    }
    Some(waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::row::Class;

    #[test]
    fn waiting_rows_survive_there_and_back() {
        let row = |key: &str| Row { alias: "req_1".into(), ..Row::new(key, Class::Cost, None, "USD", 7) };
        let waiting = Waiting { ours: vec![row("a"), row("b")], theirs: vec![row("c")] };
        let bytes = write_waiting(&waiting);
        assert_eq!(read_waiting(&bytes), Some(waiting));
        assert_eq!(read_waiting(&bytes[..bytes.len() - 1]), None);
        assert_eq!(read_waiting(&[]), Some(Waiting::default()));
    }
}
