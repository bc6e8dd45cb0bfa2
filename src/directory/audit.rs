//! The audit log: every change of the directory with who made it, from what to what, chained by hashes.
//!
//! It is the versions themselves that are the log: nothing is written twice, and nothing can change without a row.
//! Secrets are kept as hashes or sealed, and even so a change of one shows only that it was made.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::chain::sha256;
use crate::store::{Db, Row};
use crate::store_params;

use super::commands::Directory;
use super::error::DirectoryError;

/// Fields of which only the fact of a change is shown.
const HIDDEN: [&str; 6] = ["hash", "credential", "credentials", "previous", "token", "secret"];

/// Which rows.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub kind: Option<String>,
    pub object: Option<u64>,
    pub actor: Option<String>,
    /// Only rows before this version.
    pub before: Option<u64>,
}

/// One change.
#[derive(Clone, Debug)]
pub struct AuditRow {
    pub version: u64,
    pub at_ms: i64,
    pub actor: String,
    pub kind: String,
    pub id: u64,
    pub action: Action,
    /// Of an object: what changed, of a note: what was noted.
    pub changes: Vec<FieldChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Created,
    Changed,
    /// An act that is no change of an object, such as a credit, with its reason.
    Noted,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    pub field: String,
    pub before: Value,
    pub after: Value,
}

/// A row of the log that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFault {
    pub version: u64,
    pub what: String,
}

/// The hash of a row behind the one with the hash `before`.
pub(super) fn link(
    before: &[u8],
    version: u64,
    kind: &str,
    id: u64,
    body: &[u8],
    actor: &str,
    at_ms: i64,
) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(96 + kind.len() + body.len() + actor.len());
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&at_ms.to_le_bytes());
    for part in [kind.as_bytes(), actor.as_bytes(), body] {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    sha256(&bytes)
}

/// What a reading of the log came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditVerified {
    /// Rows that were read.
    pub rows: u64,
    pub faults: Vec<AuditFault>,
    /// Version and hash of the last row; 0: there is none.
    pub last: (u64, [u8; 32]),
}

impl Directory {
    /// Rows of the log, newest first.
    pub fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, DirectoryError> {
        page(self.db(), filter, limit)
    }

    /// Rows behind a version, oldest first.
    pub fn changes_since(&self, version: u64, limit: u32) -> Result<Vec<AuditRow>, DirectoryError> {
        let sql =
            format!("SELECT {COLUMNS} FROM directory_log WHERE version > ?1 ORDER BY version LIMIT {limit}");
        self.db().query(&sql, store_params![version])?.iter().map(|row| explained(self.db(), row)).collect()
    }

    /// Reads the whole log and says where its chain does not hold. Returns how many rows were read.
    pub fn verify_audit(&self) -> Result<(u64, Vec<AuditFault>), DirectoryError> {
        let verified = verify(self.db(), None)?;
        Ok((verified.rows, verified.faults))
    }

    /// The same behind a version that was verified before, of which the row's hash is known.
    pub fn verify_audit_from(&self, from: Option<(u64, [u8; 32])>) -> Result<AuditVerified, DirectoryError> {
        verify(self.db(), from.filter(|(version, _)| *version > 0))
    }

    /// The newest note of a kind about something.
    pub fn last_note(&self, kind: &str, id: u64) -> Result<Option<Value>, DirectoryError> {
        let sql = "SELECT body FROM directory_log WHERE kind = ?1 AND id = ?2 ORDER BY version DESC LIMIT 1";
        let row = self.db().query_one(sql, store_params![kind, id])?;
        Ok(row.map(|row| row.blob(0).map(|body| Value::Object(fields(body)))).transpose()?)
    }
}

const COLUMNS: &str = "version, at_ms, actor, kind, id, body";

fn page(db: &Db, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, DirectoryError> {
    let mut sql = format!("SELECT {COLUMNS} FROM directory_log WHERE version < ?1");
    let mut params = store_params![filter.before.unwrap_or(i64::MAX as u64)].to_vec();
    let mut narrow = |column: &str, value: crate::store::Value| {
        params.push(value);
        sql.push_str(&format!(" AND {column} = ?{}", params.len()));
    };
    if let Some(kind) = &filter.kind {
        narrow("kind", kind.as_str().into());
    }
    if let Some(object) = filter.object {
        narrow("id", object.into());
    }
    if let Some(actor) = &filter.actor {
        narrow("actor", actor.as_str().into());
    }
    sql.push_str(&format!(" ORDER BY version DESC LIMIT {limit}"));
    db.query(&sql, &params)?.iter().map(|row| explained(db, row)).collect()
}

/// A row with the version of the same object before it.
fn explained(db: &Db, row: &Row) -> Result<AuditRow, DirectoryError> {
    let (version, kind, id) = (row.id(0)?, row.text(3)?.to_owned(), row.id(4)?);
    let after = fields(row.blob(5)?);
    let is_object = super::error::Kind::parse(&kind).is_some();
    let sql = "SELECT body FROM directory_log WHERE kind = ?1 AND id = ?2 AND version < ?3
         ORDER BY version DESC LIMIT 1";
    let before = match is_object {
        true => db.query_one(sql, store_params![kind.as_str(), id, version])?,
        false => None,
    };
    let before = before.as_ref().map(|row| row.blob(0)).transpose()?.map(fields);
    let action = match (is_object, &before) {
        (false, _) => Action::Noted,
        (true, None) => Action::Created,
        (true, Some(_)) => Action::Changed,
    };
    Ok(AuditRow {
        version,
        at_ms: row.int(1)?,
        actor: row.text(2)?.to_owned(),
        kind,
        id,
        action,
        changes: changes(&before.unwrap_or_default(), &after),
    })
}

fn fields(body: &[u8]) -> Map<String, Value> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// The fields that differ, in the order of the later document.
fn changes(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<FieldChange> {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let value = |of: &Map<String, Value>, name: &str| of.get(name).cloned().unwrap_or(Value::Null);
    let changed = |name: &String| {
        let (was, is) = (value(before, name), value(after, name));
        (was != is).then(|| {
            let hidden = HIDDEN.contains(&name.as_str());
            let shown = |value: Value| if hidden && !value.is_null() { "hidden".into() } else { value };
            FieldChange { field: name.clone(), before: shown(was), after: shown(is) }
        })
    };
    after.keys().chain(gone).filter_map(changed).collect()
}

fn verify(db: &Db, from: Option<(u64, [u8; 32])>) -> Result<AuditVerified, DirectoryError> {
    let (mut rows, mut faults) = (0, Vec::new());
    let mut before: Option<(u64, Vec<u8>)> = None;
    let begin = from.map_or(0, |(version, _)| version);
    let sql = format!("SELECT {COLUMNS}, hash FROM directory_log WHERE version >= ?1 ORDER BY version");
    db.query_each(&sql, store_params![begin], |row| {
        let version = row.id(0)?;
        if let (None, Some((known, hash))) = (&before, from) {
            let kept = row.maybe(6, Row::blob)?.map(<[u8]>::to_vec).unwrap_or_default();
            if (version, kept.as_slice()) != (known, &hash) {
                faults.push(AuditFault {
                    version: known,
                    what: "it is not the row that was verified".to_owned(),
                });
            }
            before = Some((version, kept));
            return Ok(std::ops::ControlFlow::Continue(()));
        }
        rows += 1;
        let mut fault = |what: &str| faults.push(AuditFault { version, what: what.to_owned() });
        if before.as_ref().is_some_and(|(last, _)| version != last + 1) {
            fault("rows before it are missing");
        }
        let kept = row.maybe(6, Row::blob)?.map(<[u8]>::to_vec);
        let last = before.as_ref().map_or(&[][..], |(_, hash)| hash.as_slice());
        let (kind, id, body) = (row.text(3)?, row.id(4)?, row.blob(5)?);
        let right = link(last, version, kind, id, body, row.text(2)?, row.int(1)?);
        match &kept {
            Some(kept) if *kept == right => {}
            Some(_) => fault("it is not what was written, or the row before it is not"),
            None if last.is_empty() => {}
            None => fault("its hash is missing"),
        }
        before = Some((version, kept.unwrap_or_default()));
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    // Rows at the end can be cut off without a trace in the chain, but not in what is current.
    let sql = "SELECT COALESCE(MAX(version), 0) FROM directory_current";
    let newest = db.query_one(sql, store_params![])?.map_or(Ok(0), |row| row.id(0))?;
    if before.as_ref().map_or(0, |(last, _)| *last) < newest {
        faults.push(AuditFault {
            version: newest,
            what: "its row is missing at the end of the log".to_owned(),
        });
    }
    let last = before.and_then(|(version, hash)| Some((version, hash.try_into().ok()?)));
    Ok(AuditVerified { rows, faults, last: last.unwrap_or_default() })
}
