//! Notices of what changed in the directory: a key's status, an appeal. They are made of the audit log, from a cursor
//! that moves on in the transaction of the notice: whoever made the change, and whatever ended in between, each change
//! is told, and told once.

use serde_json::Value as Json;

use crate::directory::audit::AuditRow;
use crate::directory::{Directory, Kind, StatusNote, StatusOrigin};
use crate::id::{AppealId, KeyId};
use crate::store::{StoreError, Tx};
use crate::store_params;

use super::facts::{AppealDecision, Facts};
use super::{NewNotice, Notices};

/// Where the cursor stands in `directory_meta`.
const CURSOR: &str = "notices_told";
/// Rows of the log that are looked at in one go.
const ROWS: u32 = 200;

impl Notices {
    /// Tells what changed since the last time. Returns how many notices that made.
    pub fn tell_changes(&self) -> Result<usize, StoreError> {
        let mut told = 0;
        loop {
            let cursor = self.cursor()?;
            let rows = self
                .directory
                .changes_since(cursor, ROWS)
                .map_err(|why| StoreError::other("the audit log cannot be read").caused_by(why))?;
            let Some(last) = rows.last().map(|row| row.version) else { return Ok(told) };
            let notices: Vec<_> = rows.iter().filter_map(|row| notice(&self.directory, row)).collect();
            let written: Vec<_> =
                notices.iter().map(|notice| self.written(notice)).collect::<Result<_, _>>()?;
            // Another node may be as far: whoever moves the cursor tells.
            let is_ours = self.db.transaction(|tx| {
                if !advance(tx, cursor, last)? {
                    return Ok::<_, StoreError>(false);
                }
                for (notice, deliveries) in &written {
                    super::stored::insert_in(tx, notice, deliveries)?;
                }
                Ok(true)
            })?;
            if is_ours {
                told += written.len();
            }
        }
    }

    /// The last version that was looked at. An installation that never told anything begins now.
    fn cursor(&self) -> Result<u64, StoreError> {
        let read = "SELECT body FROM directory_meta WHERE name = ?1";
        if let Some(row) = self.db.query_one(read, store_params![CURSOR])? {
            return Ok(u64::from_le_bytes(row.bytes(0)?));
        }
        let now = self.directory.snapshot().version();
        let begin = "INSERT INTO directory_meta (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
        self.db.execute(begin, store_params![CURSOR, now.to_le_bytes().to_vec()])?;
        Ok(now)
    }
}

fn advance(tx: &mut Tx<'_>, from: u64, to: u64) -> Result<bool, StoreError> {
    let sql = "UPDATE directory_meta SET body = ?1 WHERE name = ?2 AND body = ?3";
    let moved = store_params![to.to_le_bytes().to_vec(), CURSOR, from.to_le_bytes().to_vec()];
    Ok(tx.execute(sql, moved)? == 1)
}

/// What a row of the log has to tell; most have nothing.
fn notice(directory: &Directory, row: &AuditRow) -> Option<NewNotice> {
    match Kind::parse(&row.kind)? {
        Kind::Key => key_status(directory, row),
        Kind::Appeal => appeal(directory, row),
        _ => None,
    }
}

fn field<'r>(row: &'r AuditRow, name: &str) -> Option<(&'r Json, &'r Json)> {
    let change = row.changes.iter().find(|change| change.field == name)?;
    Some((&change.before, &change.after))
}

fn key_status(directory: &Directory, row: &AuditRow) -> Option<NewNotice> {
    let (before, after) = field(row, "status")?;
    let from = serde_json::from_value(before.clone()).ok()?;
    let to = serde_json::from_value(after.clone()).ok()?;
    let note: StatusNote = serde_json::from_value(field(row, "status_note")?.1.clone()).ok()?;
    let snapshot = directory.snapshot();
    let key = snapshot.key(KeyId::from_raw(row.id))?;
    let (name, origin, reason, until) = (key.name.clone(), note.origin, note.reason, note.until);
    let facts = match origin {
        StatusOrigin::RiskPolicy | StatusOrigin::AbnormalUse => {
            Facts::KeyFrozen { name, origin, reason, until }
        }
        _ => Facts::KeyStatusChanged { name, from, to, origin, reason, until },
    };
    Some(NewNotice { account: Some(key.account), subject: key.id.into(), facts })
}

fn appeal(directory: &Directory, row: &AuditRow) -> Option<NewNotice> {
    field(row, "decision")?;
    let snapshot = directory.snapshot();
    let appeal = snapshot.appeal(AppealId::from_raw(row.id))?;
    let decision = match appeal.state {
        crate::directory::AppealState::Approved => AppealDecision::Approved,
        crate::directory::AppealState::Rejected => AppealDecision::Rejected,
        _ => return None,
    };
    let reason = appeal.decision.as_ref()?.reason.clone();
    let name = snapshot.key(appeal.key)?.name.clone();
    Some(NewNotice {
        account: Some(appeal.account),
        subject: appeal.key.into(),
        facts: Facts::AppealDecided { name, decision, reason },
    })
}
