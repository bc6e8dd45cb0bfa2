//! What tasks made, where the gateway itself keeps it: pictures that came with an upstream's answer, and addresses that
//! an upstream told. Sealed with the master key, and removed when they expire.
//!
//! Must never: show an address, which whoever knows it can fetch from, or keep a result beyond its task's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;

use super::error::TaskError;
use crate::id::TaskId;
use crate::secret::{Keyring, MasterKeyError};
use crate::store::{Db, Row, StoreError, Tx};
use crate::store_params;

/// Expired results are removed so often.
const SWEEP_EVERY_MS: i64 = 60_000;
/// Results that are sealed anew in one go; pictures are large.
const SEALED_AT_A_TIME: u32 = 4;

/// One thing that a task made.
#[derive(Clone, PartialEq, Eq)]
pub enum Made {
    /// Its address.
    At(Box<str>),
    /// Itself.
    Here { content_type: Box<str>, content: Bytes },
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Made::At(_) => f.write_str("At([hidden])"),
            Made::Here { content_type, content } => {
                write!(f, "Here({content_type}, {} bytes)", content.len())
            }
        }
    }
}

/// Which result: its task and its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultPlace {
    pub(super) task: u64,
    pub(super) number: u32,
}

/// Rows of results. Blocking.
pub struct Results {
    db: Db,
    keyring: Arc<Keyring>,
    swept_ms: AtomicI64,
}

impl Results {
    pub fn new(db: Db, keyring: Arc<Keyring>) -> Self {
        Results { db, keyring, swept_ms: AtomicI64::new(i64::MIN) }
    }

    pub(super) fn seal(&self, task: TaskId, all: &[Made]) -> Result<Vec<Sealed>, TaskError> {
        let seal = |(number, made): (usize, &Made)| {
            let (content_type, plain) = match made {
                Made::At(address) => (None, address.as_bytes()),
                Made::Here { content_type, content } => (Some(content_type.clone()), &**content),
            };
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let content = self.keyring.seal(&purpose(task, number), plain)?;
            Ok(Sealed { number, content_type, content })
        };
        all.iter().enumerate().map(seal).collect()
    }

    /// `None`: there is no such result, or it was removed.
    pub(super) fn get(&self, task: TaskId, number: u32) -> Result<Option<Made>, TaskError> {
        let sql = "SELECT content_type, content FROM task_results WHERE task = ?1 AND number = ?2";
        let Some(row) = self.db.query_one(sql, store_params![task.raw(), number])? else { return Ok(None) };
        let plain = match self.keyring.open(&purpose(task, number), row.blob(1)?) {
            Ok(plain) => plain,
            // The master key was lost since.
            Err(why) => {
                tracing::warn!(%why, %task, "a result cannot be opened");
                return Ok(None);
            }
        };
        Ok(Some(match row.maybe(0, Row::text)? {
            None => Made::At(String::from_utf8_lossy(plain.expose()).into()),
            Some(content_type) => {
                let content = Bytes::copy_from_slice(plain.expose());
                Made::Here { content_type: content_type.into(), content }
            }
        }))
    }

    pub(super) fn remove(&self, task: TaskId) -> Result<(), StoreError> {
        self.db.execute("DELETE FROM task_results WHERE task = ?1", store_params![task.raw()]).map(drop)
    }

    /// Seals with the newest master key what another one sealed of the results behind a place, a few of them. Returns
    /// the last place looked at and how many were sealed anew; `None`: there are no more.
    pub fn reseal_after(&self, after: ResultPlace) -> Result<Option<(ResultPlace, u64)>, TaskError> {
        let rows = self.db.query(
            "SELECT task, number, content FROM task_results WHERE (task, number) > (?1, ?2) \
             ORDER BY task, number LIMIT ?3",
            store_params![after.task, after.number, SEALED_AT_A_TIME],
        )?;
        let (mut last, mut resealed) = (None, 0);
        for row in &rows {
            let place = ResultPlace { task: row.id(0)?, number: row.u32(1)? };
            let purpose = purpose(TaskId::from_raw(place.task), place.number);
            match self.keyring.reseal(&purpose, row.blob(2)?) {
                Ok(None) | Err(MasterKeyError::Wrong | MasterKeyError::Damaged) => {}
                Ok(Some(anew)) => {
                    let sql = "UPDATE task_results SET content = ?3 WHERE task = ?1 AND number = ?2";
                    self.db.execute(sql, store_params![place.task, place.number, anew])?;
                    resealed += 1;
                }
                Err(why) => return Err(why.into()),
            }
            last = Some(place);
        }
        Ok(last.map(|last| (last, resealed)))
    }

    /// Results that are kept now.
    pub fn count(&self) -> Result<u64, TaskError> {
        let row = self.db.query_one("SELECT COUNT(*) FROM task_results", store_params![])?;
        Ok(row.map_or(Ok(0), |row| row.id(0))?)
    }

    /// Removes what has expired, if it is time to look.
    pub(super) fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        let swept_ms = self.swept_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(swept_ms) < SWEEP_EVERY_MS {
            return Ok(());
        }
        self.swept_ms.store(now_ms, Ordering::Relaxed);
        self.db.execute("DELETE FROM task_results WHERE expires_ms <= ?1", store_params![now_ms]).map(drop)
    }
}

/// A result as it is stored.
pub(super) struct Sealed {
    number: u32,
    content_type: Option<Box<str>>,
    content: Vec<u8>,
}

impl Sealed {
    pub fn insert_in(&self, tx: &mut Tx<'_>, task: TaskId, expires_ms: i64) -> Result<(), StoreError> {
        let sql = "INSERT INTO task_results (task, number, content_type, content, expires_ms) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let (content_type, content) = (self.content_type.as_deref(), self.content.as_slice());
        tx.execute(sql, store_params![task.raw(), self.number, content_type, content, expires_ms]).map(drop)
    }
}

/// What the master key seals a result for: this one alone.
fn purpose(task: TaskId, number: u32) -> String {
    format!("result {number} of {task}")
}
