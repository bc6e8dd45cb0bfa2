//! Imports, their rows and cases in the store. Blocking.

use std::ops::ControlFlow;

use ledger::Nano;
use serde_json::Value;

use super::begun::Begun;
use super::cases::{Case, CaseState};
use super::compare::Kind;
use super::format::{Join, Side};
use super::import::Import;
use super::read::FileRow;
use super::row::{Class, Row};
use crate::id::{CorrectionId, ReconcileCaseId, ReconcileImportId};
use crate::store::{Db, Result, Row as StoreRow, StoreError, Tx, Value as StoreValue};
use crate::store_params;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct ReconcileStore {
    db: Db,
}

/// Rows that one statement writes; both backends take so many parameters.
const ROWS_PER_STATEMENT: usize = 64;
const ROW_COLUMNS: usize = 11;

const IMPORT: &str = "SELECT id, side, scope, format, join_by, file, sha256, bytes, row_count, from_ms, until_ms, \
     at_ms, actor, said, known_count FROM reconcile_imports";
const CASE: &str = "SELECT id, source, kind, subject, state, ours, theirs, cause, proposal, opened_ms, seen_run, \
     closed_ms, closed_by, reason, corrections FROM reconcile_cases";

impl ReconcileStore {
    pub fn new(db: Db) -> Self {
        ReconcileStore { db }
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Whether a file was read in this format before.
    pub fn import_of(&self, format: &str, sha256: &[u8; 32]) -> Result<Option<Import>> {
        let sql = format!("{IMPORT} WHERE format = ?1 AND sha256 = ?2 AND state = 'loaded'");
        self.db.query_one(&sql, store_params![format, sha256])?.as_ref().map(read_import).transpose()
    }

    /// Forgets what an import left behind that did not come to its end.
    pub fn forget_unfinished(&self) -> Result<()> {
        for row in self.db.query("SELECT id FROM reconcile_imports WHERE state = 'loading'", &[])? {
            self.forget(ReconcileImportId::from_raw(row.id(0)?))?;
        }
        Ok(())
    }

    pub fn forget(&self, import: ReconcileImportId) -> Result<()> {
        self.db.execute("DELETE FROM reconcile_rows WHERE import = ?1", store_params![import.raw()])?;
        self.db.execute("DELETE FROM reconcile_imports WHERE id = ?1", store_params![import.raw()]).map(drop)
    }

    pub fn begin(&self, import: &Import) -> Result<()> {
        let sql = "INSERT INTO reconcile_imports (id, side, scope, format, join_by, file, sha256, bytes, row_count, \
             from_ms, until_ms, at_ms, actor, said, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
             ?13, ?14, 'loading')";
        let params = store_params![
            import.id.raw(),
            import.side.as_str(),
            &import.scope,
            &import.format,
            import.join.as_str(),
            &import.file,
            import.sha256,
            import.bytes,
            import.rows,
            import.from_ms,
            import.until_ms,
            import.at_ms,
            &import.actor,
            import.said,
        ];
        self.db.execute(sql, params).map(drop)
    }

    /// Writes some rows, the first of which has the number `n`.
    pub fn add_rows(&self, import: ReconcileImportId, n: u64, rows: &[FileRow]) -> Result<()> {
        self.db.transaction(|tx| {
            for (at, chunk) in rows.chunks(ROWS_PER_STATEMENT).enumerate() {
                add_chunk(tx, import, n + (at * ROWS_PER_STATEMENT) as u64, chunk)?;
            }
            Ok(())
        })
    }

    /// Imports of the same counterpart before one that is not finished yet.
    pub fn before(&self, import: &Import) -> Result<Vec<ReconcileImportId>> {
        let mut params = store_params![import.side.as_str(), &import.scope].to_vec();
        let mut sql =
            "SELECT id FROM reconcile_imports WHERE state = 'loaded' AND side = ?1 AND scope = ?2".to_owned();
        if import.join == Join::Day {
            // A bill by day tells whose it is by its format alone.
            params.push(StoreValue::from(&*import.format));
            sql.push_str(" AND join_by = 'day' AND format = ?3");
        } else {
            sql.push_str(" AND join_by <> 'day'");
        }
        self.db.query(&sql, &params)?.iter().map(|row| Ok(ReconcileImportId::from_raw(row.id(0)?))).collect()
    }

    /// From now on its rows are looked at.
    pub fn finish(&self, import: ReconcileImportId, known: u64) -> Result<()> {
        let sql = "UPDATE reconcile_imports SET state = 'loaded', known_count = ?2 WHERE id = ?1";
        self.db.execute(sql, store_params![import.raw(), known]).map(drop)
    }

    /// Imports, the newest first.
    pub fn imports(&self, before: Option<u64>, limit: u32) -> Result<Vec<Import>> {
        let before = before.unwrap_or(i64::MAX.cast_unsigned());
        let sql = format!("{IMPORT} WHERE state = 'loaded' AND id < ?1 ORDER BY id DESC LIMIT {limit}");
        self.db.query(&sql, store_params![before])?.iter().map(read_import).collect()
    }

    /// Every row of an import, as they stand in the file.
    pub fn each_row(
        &self,
        import: ReconcileImportId,
        mut each: impl FnMut(Row) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let sql = "SELECT line, name, alias, class, amount, currency, at_ms, account FROM reconcile_rows \
             WHERE import = ?1 ORDER BY n";
        self.db.query_each(sql, store_params![import.raw()], |row| {
            let class = row.text(3)?;
            let class = Class::parse(class)
                .ok_or_else(|| StoreError::corrupt(format!("a row of a file has the class {class}")))?;
            let amount = row.maybe(4, StoreRow::int)?.map(Nano);
            let mut read = Row::new(row.text(1)?, class, amount, row.text(5)?, row.int(6)?);
            read.alias = row.text(2)?.into();
            read.account = row.text(7)?.into();
            read.name = format!("{import}:{}", row.id(0)?).into();
            each(read)
        })
    }

    /// The values of a line as they came.
    pub fn body(&self, import: ReconcileImportId, line: u64) -> Result<Option<Value>> {
        let sql = "SELECT body FROM reconcile_rows WHERE import = ?1 AND line = ?2 ORDER BY n LIMIT 1";
        let row = self.db.query_one(sql, store_params![import.raw(), line])?;
        row.map(|row| Ok(serde_json::from_str(row.text(0)?).unwrap_or(Value::Null))).transpose()
    }

    /// Opens a case, or sees an open one again with its rows as they are now. One that somebody closed stays closed; one
    /// that closed by itself opens again.
    pub fn see(&self, cases: &[Case]) -> Result<()> {
        let sql = "INSERT INTO reconcile_cases (id, source, kind, subject, state, ours, theirs, cause, proposal, \
             opened_ms, seen_run) VALUES (?1, ?2, ?3, ?4, 'open', ?5, ?6, ?7, ?8, ?9, ?10) \
             ON CONFLICT (source, kind, subject) DO UPDATE SET ours = excluded.ours, theirs = excluded.theirs, \
             cause = excluded.cause, proposal = excluded.proposal, seen_run = excluded.seen_run, \
             state = CASE WHEN reconcile_cases.state = 'gone' THEN 'open' ELSE reconcile_cases.state END";
        self.db.transaction(|tx| {
            for case in cases {
                let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
                let params = store_params![
                    case.id.raw(),
                    &case.source,
                    case.kind.as_str(),
                    &case.subject,
                    text(&case.ours),
                    text(&case.theirs),
                    &case.cause,
                    text(&case.proposal),
                    case.opened_ms,
                    case.seen_run,
                ];
                tx.execute(sql, params)?;
            }
            Ok(())
        })
    }

    /// Open cases of a source that a run did not see any more: both sides agree. Returns how many.
    pub fn gone(&self, source: &str, run: u64, now_ms: i64) -> Result<u64> {
        let sql = "UPDATE reconcile_cases SET state = 'gone', closed_ms = ?3, closed_by = 'reconcile', \
             reason = 'both sides agree now' WHERE source = ?1 AND state = 'open' AND seen_run < ?2";
        self.db.execute(sql, store_params![source, run, now_ms])
    }

    /// An open case whose sides agree, by what somebody did elsewhere.
    pub fn agreed(&self, source: &str, subject: &str, by: (&str, &str), now_ms: i64) -> Result<()> {
        let sql = "UPDATE reconcile_cases SET state = 'gone', closed_ms = ?3, closed_by = ?4, reason = ?5 \
             WHERE source = ?1 AND subject = ?2 AND state = 'open'";
        self.db.execute(sql, store_params![source, subject, now_ms, by.0, by.1]).map(drop)
    }

    /// Closes an open case. `false`: it is not open.
    pub fn close(&self, id: ReconcileCaseId, actor: &str, reason: &str, now_ms: i64) -> Result<bool> {
        let sql = "UPDATE reconcile_cases SET state = 'closed', closed_ms = ?2, closed_by = ?3, reason = ?4 \
             WHERE id = ?1 AND state = 'open'";
        Ok(self.db.execute(sql, store_params![id.raw(), now_ms, actor, reason])? == 1)
    }

    /// Corrections that were made of a case, all of them; none is being made any more.
    pub fn corrected(&self, id: ReconcileCaseId, corrections: &[CorrectionId]) -> Result<()> {
        let names: Vec<_> = corrections.iter().map(CorrectionId::to_string).collect();
        let sql = "UPDATE reconcile_cases SET corrections = ?2, begun = NULL WHERE id = ?1";
        self.db.execute(sql, store_params![id.raw(), names.join(" ")]).map(drop)
    }

    /// Corrections of a case are being made from now on.
    pub fn begin_correcting(&self, id: ReconcileCaseId, begun: &Begun) -> Result<()> {
        let text = serde_json::to_string(begun)
            .map_err(|why| StoreError::other("what was begun cannot be kept").caused_by(why))?;
        let sql = "UPDATE reconcile_cases SET begun = ?2 WHERE id = ?1";
        self.db.execute(sql, store_params![id.raw(), text]).map(drop)
    }

    pub fn begun(&self, id: ReconcileCaseId) -> Result<Option<Begun>> {
        let sql = "SELECT begun FROM reconcile_cases WHERE id = ?1 AND begun IS NOT NULL";
        let Some(row) = self.db.query_one(sql, store_params![id.raw()])? else { return Ok(None) };
        let wrong = |why| StoreError::corrupt("what was begun cannot be understood").caused_by(why);
        serde_json::from_str(row.text(0)?).map(Some).map_err(wrong)
    }

    pub fn forget_begun(&self, id: ReconcileCaseId) -> Result<()> {
        self.db
            .execute("UPDATE reconcile_cases SET begun = NULL WHERE id = ?1", store_params![id.raw()])
            .map(drop)
    }

    /// Cases with corrections that are being made, or were when the process died.
    pub fn all_begun(&self) -> Result<Vec<ReconcileCaseId>> {
        let sql = "SELECT id FROM reconcile_cases WHERE begun IS NOT NULL";
        self.db.query(sql, &[])?.iter().map(|row| Ok(ReconcileCaseId::from_raw(row.id(0)?))).collect()
    }

    /// Open cases that have corrections.
    pub fn being_corrected(&self) -> Result<Vec<ReconcileCaseId>> {
        let sql = "SELECT id FROM reconcile_cases WHERE state = 'open' AND corrections <> ''";
        self.db.query(sql, &[])?.iter().map(|row| Ok(ReconcileCaseId::from_raw(row.id(0)?))).collect()
    }

    pub fn case(&self, id: ReconcileCaseId) -> Result<Option<Case>> {
        let row = self.db.query_one(&format!("{CASE} WHERE id = ?1"), store_params![id.raw()])?;
        row.as_ref().map(read_case).transpose()
    }

    /// Cases, the newest first, narrowed down.
    pub fn cases(&self, narrow: &[(&str, &str)], before: Option<u64>, limit: u32) -> Result<Vec<Case>> {
        let mut params = vec![StoreValue::from(before.unwrap_or(i64::MAX.cast_unsigned()))];
        let mut sql = format!("{CASE} WHERE id < ?1");
        for (column, value) in
            narrow.iter().filter(|(column, _)| matches!(*column, "state" | "kind" | "source"))
        {
            params.push((*value).into());
            sql.push_str(&format!(" AND {column} = ?{}", params.len()));
        }
        sql.push_str(&format!(" ORDER BY id DESC LIMIT {limit}"));
        self.db.query(&sql, &params)?.iter().map(read_case).collect()
    }

    /// Open cases.
    pub fn open_cases(&self) -> Result<u64> {
        let row = self.db.query_one("SELECT COUNT(*) FROM reconcile_cases WHERE state = 'open'", &[])?;
        row.map_or(Ok(0), |row| row.id(0))
    }
}

fn add_chunk(tx: &mut Tx<'_>, import: ReconcileImportId, n: u64, rows: &[FileRow]) -> Result<()> {
    let mut params = Vec::with_capacity(rows.len() * ROW_COLUMNS);
    for (number, FileRow { row, line, body }) in (n..).zip(rows) {
        params.extend_from_slice(store_params![
            import.raw(),
            number,
            *line,
            &*row.key,
            &*row.alias,
            row.class.as_str(),
            row.amount.map(|amount| amount.0),
            &*row.currency,
            row.at_ms,
            &*row.account,
            body,
        ]);
    }
    tx.execute(&insert_rows(rows.len()), &params).map(drop)
}

fn insert_rows(rows: usize) -> String {
    let group = |at: usize| {
        let places: Vec<_> =
            (1..=ROW_COLUMNS).map(|column| format!("?{}", at * ROW_COLUMNS + column)).collect();
        format!("({})", places.join(", "))
    };
    let groups: Vec<_> = (0..rows).map(group).collect();
    format!(
        "INSERT INTO reconcile_rows (import, n, line, name, alias, class, amount, currency, at_ms, account, body) \
         VALUES {}",
        groups.join(", ")
    )
}

fn read_import(row: &StoreRow) -> Result<Import> {
    let unknown = |what: &str| StoreError::corrupt(format!("an import has the {what} of another program"));
    Ok(Import {
        id: ReconcileImportId::from_raw(row.id(0)?),
        side: Side::parse(row.text(1)?).ok_or_else(|| unknown("side"))?,
        scope: row.text(2)?.to_owned(),
        format: row.text(3)?.to_owned(),
        join: Join::parse(row.text(4)?).ok_or_else(|| unknown("join"))?,
        file: row.text(5)?.to_owned(),
        sha256: row.bytes(6)?,
        bytes: row.id(7)?,
        rows: row.id(8)?,
        from_ms: row.int(9)?,
        until_ms: row.int(10)?,
        at_ms: row.int(11)?,
        actor: row.text(12)?.to_owned(),
        said: row.int(13)? != 0,
        known: row.id(14)?,
    })
}

fn read_case(row: &StoreRow) -> Result<Case> {
    let json = |column: usize| -> Result<Option<Value>> {
        let text = row.maybe(column, StoreRow::text)?;
        Ok(text.and_then(|text| serde_json::from_str(text).ok()))
    };
    let text = |column: usize| -> Result<Option<String>> {
        Ok(row.maybe(column, StoreRow::text)?.map(str::to_owned))
    };
    let unknown = |what: &str| StoreError::corrupt(format!("a case has the {what} of another program"));
    Ok(Case {
        id: ReconcileCaseId::from_raw(row.id(0)?),
        source: row.text(1)?.to_owned(),
        kind: Kind::parse(row.text(2)?).ok_or_else(|| unknown("kind"))?,
        subject: row.text(3)?.to_owned(),
        state: CaseState::parse(row.text(4)?).ok_or_else(|| unknown("state"))?,
        ours: json(5)?,
        theirs: json(6)?,
        cause: row.text(7)?.to_owned(),
        proposal: json(8)?,
        opened_ms: row.int(9)?,
        seen_run: row.id(10)?,
        closed_ms: row.maybe(11, StoreRow::int)?,
        closed_by: text(12)?,
        reason: text(13)?,
        corrections: row.text(14)?.split_whitespace().filter_map(|id| id.parse().ok()).collect(),
    })
}
