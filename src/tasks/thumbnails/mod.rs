//! Thumbnails of the reference images (参考图) of tasks: all that is kept of them beside their hashes (G1).
//!
//! Promises: they are made beside the task, which neither waits for them nor fails for them, and one picture at a time, so
//! that the memory for it has a bound; they are sealed with the master key, and gone with the task's deletion.

mod shrink;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::error::TaskError;
use super::sealed_rows::{ResultPlace, SealedRows};
use crate::id::TaskId;
use crate::secret::{Keyring, SecretBytes};
use crate::store::{Db, Row};
use crate::store_params;

pub use shrink::{MEDIA_TYPE, shrink};

const SEALED: SealedRows = SealedRows { table: "task_thumbnails", column: "content", at_a_time: 64, purpose };

/// Rows of thumbnails. Blocking, but for [`Thumbnails::make`].
pub struct Thumbnails {
    db: Db,
    keyring: Arc<Keyring>,
    /// Held while a picture is shrunk.
    turn: Mutex<()>,
}

impl Thumbnails {
    pub fn new(db: Db, keyring: Arc<Keyring>) -> Self {
        Thumbnails { db, keyring, turn: Mutex::default() }
    }

    /// Shrinks the reference images of a task and keeps what comes of them. What cannot be shrunk has none.
    pub async fn make(self: Arc<Self>, task: TaskId, pictures: Vec<Bytes>) {
        for (number, picture) in (0..).zip(pictures) {
            let _turn = self.turn.lock().await;
            let this = Arc::clone(&self);
            let made = tokio::task::spawn_blocking(move || match shrink(&picture) {
                Some(small) => this.keep(task, number, &small),
                None => Ok(()),
            });
            match made.await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::error!(%why, %task, number, "a thumbnail could not be kept"),
                Err(why) => tracing::error!(%why, %task, number, "a thumbnail could not be made"),
            }
        }
    }

    /// Unless the task was deleted meanwhile.
    fn keep(&self, task: TaskId, number: u32, small: &[u8]) -> Result<(), TaskError> {
        let sealed = self.keyring.seal(&purpose(task, number), small)?;
        let sql = "INSERT INTO task_thumbnails (task, number, content)
             SELECT id, ?2, ?3 FROM tasks WHERE id = ?1 AND deleted_ms IS NULL ON CONFLICT DO NOTHING";
        self.db.execute(sql, store_params![task.raw(), number, sealed])?;
        Ok(())
    }

    /// Those of a task, by the number of the reference image, from 0.
    pub fn of(&self, task: TaskId) -> Result<Vec<(u32, SecretBytes)>, TaskError> {
        let sql = "SELECT number, content FROM task_thumbnails WHERE task = ?1 ORDER BY number";
        let rows = self.db.query(sql, store_params![task.raw()])?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            let number = row.u32(0)?;
            match self.keyring.open(&purpose(task, number), row.blob(1)?) {
                Ok(small) => all.push((number, small)),
                // The master key was lost since.
                Err(why) => tracing::warn!(%why, %task, number, "a thumbnail cannot be opened"),
            }
        }
        Ok(all)
    }

    pub(super) fn remove(&self, task: TaskId) -> Result<(), TaskError> {
        self.db.execute("DELETE FROM task_thumbnails WHERE task = ?1", store_params![task.raw()])?;
        Ok(())
    }

    /// See [`SealedRows::reseal_after`].
    pub fn reseal_after(&self, after: ResultPlace) -> Result<Option<(ResultPlace, u64)>, TaskError> {
        SEALED.reseal_after(&self.db, &self.keyring, after)
    }

    /// How many there are.
    pub fn count(&self) -> Result<u64, TaskError> {
        let row = self.db.query_one("SELECT COUNT(*) FROM task_thumbnails", store_params![])?;
        Ok(row.map_or(Ok(0), |row: Row| row.id(0))?)
    }
}

/// What the master key seals a thumbnail for: this one alone.
fn purpose(task: TaskId, number: u32) -> String {
    format!("thumbnail {number} of {task}")
}
