//! Copies of what tasks made, in a folder or a bucket of the operator's own, so that a result outlives its upstream's
//! memory of it (ADR 20).
//!
//! For: `lane.rs` makes and removes them beside everything else; callers read from them first (`gateway/content.rs`).
//! Promises: a task that succeeds while copies are on has its rows in the same transaction, so that a crash forgets none;
//! an object is sealed under a key of its own, which the master key seals; one that was changed or cut is never given out
//! as a whole; what is in storage has a row until it is removed, and a row says when and why it failed.
//! Must never: keep a task from its settlement; end the gateway, or a call, because storage is down; hold a whole result
//! in memory; let a caller's word into a name.

mod disk;
mod examine;
mod lane;
mod rows;
mod s3;
mod sealed;
mod storage;

use bytes::Bytes;
use tokio::time::timeout;

use super::error::TaskError;
use super::service::Tasks;
use super::task::{Task, TaskKind, TaskState};
use crate::config::Config;
use crate::gateway::upstream::Upstreams;
use crate::id::TaskId;
use crate::secret::SecretBytes;
use crate::store::{StoreError, Tx};

pub use examine::examine;
pub use lane::{Carrier, Copier};
pub use rows::{Copy, CopyState, CopyStore};
pub use storage::{Fault, Reader};

use storage::{Storage, Storages};

const DAY_MS: i64 = 86_400_000;
/// Storage that is silent for so long is not waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// See the module.
pub struct Copies {
    pub store: CopyStore,
    storages: Storages,
    kept_ms: i64,
    bytes_max: u64,
    at_a_time: u32,
}

/// How the copies of a task stand, all in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskCopies {
    /// `pending`, `kept`, `failed` or `removed`.
    pub state: Box<str>,
    /// When the first of them is removed.
    pub expires_ms: Option<i64>,
    /// Why the last try failed; for operators.
    pub failure: Option<Box<str>>,
}

/// A copy that can be read.
pub struct Kept {
    pub copy: Copy,
    storage: Storage,
    key: SecretBytes,
}

impl Copies {
    /// The error says what is wrong with the settings, or with the folder.
    pub fn open(store: CopyStore, config: &Config) -> Result<Self, String> {
        let settings = &config.copies;
        Ok(Copies {
            store,
            storages: Storages::open(settings)?,
            kept_ms: i64::from(settings.kept_days) * DAY_MS,
            bytes_max: settings.bytes_max,
            at_a_time: settings.at_a_time,
        })
    }

    /// What is to be copied of a task that has just succeeded.
    pub(super) fn plan_in(&self, tx: &mut Tx<'_>, task: &mut Task, now_ms: i64) -> Result<(), StoreError> {
        let Some(to) = self.storages.to.filter(|_| task.state == TaskState::Succeeded) else { return Ok(()) };
        let results = match (task.wish.kind, task.results) {
            (TaskKind::Image, results) => results,
            // Of a video nobody can ask for another one than the first.
            (TaskKind::Video, 0) => u32::from(task.upstream_id.is_some()),
            (TaskKind::Video, _) => 1,
        };
        if results > 0 {
            CopyStore::insert_in(tx, task.id, results, to, (now_ms, source_until_ms(task)))?;
            task.copies = Some(TaskCopies { state: "pending".into(), expires_ms: None, failure: None });
        }
        Ok(())
    }
}

/// So long the result can be copied from where it is.
fn source_until_ms(task: &Task) -> i64 {
    let ended_ms = task.ended_ms.unwrap_or(task.created_ms);
    task.result_expires_ms.unwrap_or(ended_ms.saturating_add(DAY_MS))
}

impl Tasks {
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    /// The copy of a result; `None`: there is none that could be read. The error says why it cannot be at the moment.
    pub fn kept(&self, task: TaskId, number: u32) -> Result<Option<Result<Kept, Fault>>, TaskError> {
        let now_ms = self.clock.now_ms();
        let copy = self.copies.store.get(task, number)?;
        let Some(copy) = copy.filter(|copy| copy.state == CopyState::Kept && copy.until_ms > now_ms) else {
            return Ok(None);
        };
        let key = match self.copies.store.key(&copy) {
            Ok(key) => key,
            // The master key was lost since.
            Err(why) => {
                tracing::warn!(%why, %task, "a copy cannot be opened");
                return Ok(None);
            }
        };
        let storage = self.copies.storages.of(copy.storage);
        Ok(Some(storage.map(|storage| Kept { copy, storage, key })))
    }

    /// A copy turned out not to be there, or not to be whole: it is made again while its source is there.
    pub fn copy_lost(&self, mut copy: Copy, fault: &Fault) -> Result<(), TaskError> {
        tracing::error!(task = %copy.task, number = copy.number, %fault, "a copy of a result is lost");
        let until_ms = self.store.task(copy.task)?.map_or(0, |task| source_until_ms(&task));
        self.copies.store.lost(&mut copy, &fault.to_string(), (self.clock.now_ms(), until_ms))?;
        Ok(())
    }
}

impl Kept {
    /// A reader of it and its first piece, which is whole.
    pub async fn open(&self, via: &Upstreams) -> Result<(Reader, Option<Bytes>), Fault> {
        let opened = async {
            let mut reader = Reader::open(self.storage.clone(), &self.copy, &self.key).await?;
            let first = reader.next(via).await?;
            Ok((reader, first))
        };
        let silent = || Err(Fault::Unavailable("the storage is silent".to_owned()));
        timeout(PATIENCE, opened).await.unwrap_or_else(|_| silent())
    }
}
