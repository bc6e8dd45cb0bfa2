//! What tasks made, where the gateway itself keeps it: pictures that came with an upstream's answer, and addresses that
//! an upstream told. Sealed with the master key, and removed when they expire.
//!
//! Must never: show an address, which whoever knows it can fetch from, or keep a result beyond its task's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;

use super::error::TaskError;
use super::sealed_rows::{ResultPlace, SealedRows};
use crate::id::TaskId;
use crate::secret::Keyring;
use crate::store::{Db, Row, StoreError, Tx};
use crate::store_params;

/// Expired results are removed so often.
const SWEEP_EVERY_MS: i64 = 60_000;
/// Pictures are large.
const SEALED: SealedRows = SealedRows { table: "task_results", column: "content", at_a_time: 4, purpose };

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

    /// See [`SealedRows::reseal_after`].
    pub fn reseal_after(&self, after: ResultPlace) -> Result<Option<(ResultPlace, u64)>, TaskError> {
        SEALED.reseal_after(&self.db, &self.keyring, after)
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
