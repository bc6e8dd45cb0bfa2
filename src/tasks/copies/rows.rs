//! Copies as rows: where each stands, who is at it, and how those of a task stand together.
//!
//! Promises: of several who want to do something about a copy one gets it, and loses it when somebody else changes the
//! row; the row of the task says how its copies stand, in the same transaction.

use std::sync::Arc;

use super::sealed;
use crate::id::TaskId;
use crate::secret::{Keyring, MasterKeyError, SecretBytes};
use crate::store::{Db, Result, Row, StoreError, Tx, Value};
use crate::store_params;
use crate::tasks::error::TaskError;
use crate::tasks::sealed_rows::{ResultPlace, SealedRows};

const SEALED: SealedRows = SealedRows { table: "task_copies", column: "data_key", at_a_time: 128, purpose };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    Pending,
    Kept,
    Failed,
    Removing,
}

impl CopyState {
    pub const ALL: [CopyState; 4] =
        [CopyState::Pending, CopyState::Kept, CopyState::Failed, CopyState::Removing];

    pub const fn as_str(self) -> &'static str {
        match self {
            CopyState::Pending => "pending",
            CopyState::Kept => "kept",
            CopyState::Failed => "failed",
            CopyState::Removing => "removing",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind {
    Disk,
    S3,
}

impl StorageKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            StorageKind::Disk => "disk",
            StorageKind::S3 => "s3",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [StorageKind::Disk, StorageKind::S3].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One copy.
#[derive(Clone, Debug)]
pub struct Copy {
    pub task: TaskId,
    pub number: u32,
    pub state: CopyState,
    pub storage: StorageKind,
    pub object: Option<u64>,
    pub parts: u32,
    pub data_key: Option<Vec<u8>>,
    pub content_type: Option<Box<str>>,
    pub length: u64,
    pub tries: u32,
    pub until_ms: i64,
    pub due_ms: Option<i64>,
    pub version: u64,
}

impl Copy {
    /// Of its object: made of ids and numbers alone.
    pub fn name(&self) -> Option<String> {
        self.object.map(|object| format!("{}-{}-{object}", self.task, self.number))
    }

    fn purpose(&self) -> String {
        purpose(self.task, self.number)
    }
}

/// What an object became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub content_type: Box<str>,
    pub length: u64,
}

const COPY: &str = "SELECT task, number, state, storage, object, parts, data_key, content_type, length, tries, until_ms, \
     due_ms, version FROM task_copies";

/// Rows of copies. Blocking.
#[derive(Clone)]
pub struct CopyStore {
    db: Db,
    keyring: Arc<Keyring>,
}

impl CopyStore {
    pub fn new(db: Db, keyring: Arc<Keyring>) -> Self {
        CopyStore { db, keyring }
    }

    /// Results that are to be copied, as many as the task has.
    pub fn insert_in(
        tx: &mut Tx<'_>,
        task: TaskId,
        results: u32,
        storage: StorageKind,
        (now_ms, until_ms): (i64, i64),
    ) -> Result<()> {
        let sql = "INSERT INTO task_copies (task, number, state, storage, until_ms, due_ms, version) \
             VALUES (?1, ?2, 'pending', ?3, ?4, ?5, 1)";
        for number in 0..results {
            let params = store_params![task.raw(), number, storage.as_str(), until_ms, now_ms];
            tx.execute(sql, params)?;
        }
        stand_in(tx, task)
    }

    pub fn get(&self, task: TaskId, number: u32) -> Result<Option<Copy>> {
        let sql = format!("{COPY} WHERE task = ?1 AND number = ?2");
        self.db.query_one(&sql, store_params![task.raw(), number])?.as_ref().map(read).transpose()
    }

    /// About which something is to be done by now, the one that waited longest first.
    pub fn due(&self, now_ms: i64, limit: u32) -> Result<Vec<Copy>> {
        let sql = format!("{COPY} WHERE due_ms <= ?1 ORDER BY due_ms, task, number LIMIT {limit}");
        self.db.query(&sql, store_params![now_ms])?.iter().map(read).collect()
    }

    /// Takes it until `until_ms`. False: somebody else has it.
    pub fn lease(&self, copy: &mut Copy, until_ms: i64) -> Result<bool> {
        let sql = "UPDATE task_copies SET due_ms = ?4, version = version + 1 \
             WHERE task = ?1 AND number = ?2 AND version = ?3";
        let params = store_params![copy.task.raw(), copy.number, copy.version, until_ms];
        Ok(taken(copy, self.db.execute(sql, params)?))
    }

    /// A new object is about to be written, under a key of its own. `None`: somebody else has it now.
    pub fn begin(&self, copy: &mut Copy, until_ms: i64) -> Result<Option<SecretBytes>, TaskError> {
        let key = sealed::new_key()?;
        let object = copy.version + 1;
        let kept = self.keyring.seal(&copy.purpose(), key.expose())?;
        let sql = "UPDATE task_copies SET object = ?4, parts = 0, data_key = ?5, due_ms = ?6, version = version + 1 \
             WHERE task = ?1 AND number = ?2 AND version = ?3";
        let params = store_params![copy.task.raw(), copy.number, copy.version, object, kept, until_ms];
        if !taken(copy, self.db.execute(sql, params)?) {
            return Ok(None);
        }
        (copy.object, copy.parts) = (Some(object), 0);
        Ok(Some(key))
    }

    /// One more part of the object is about to be written. False: somebody else has it now.
    pub fn begin_part(&self, copy: &mut Copy, until_ms: i64) -> Result<bool> {
        let parts = copy.parts.saturating_add(1);
        let sql = "UPDATE task_copies SET parts = ?4, due_ms = ?5, version = version + 1 \
             WHERE task = ?1 AND number = ?2 AND version = ?3";
        let params = store_params![copy.task.raw(), copy.number, copy.version, parts, until_ms];
        let is_taken = taken(copy, self.db.execute(sql, params)?);
        if is_taken {
            copy.parts = parts;
        }
        Ok(is_taken)
    }

    /// The object is there, until `until_ms`. False: somebody else has it now.
    pub fn keep(&self, copy: &mut Copy, written: &Written, until_ms: i64) -> Result<bool> {
        let sql = "UPDATE task_copies SET state = 'kept', content_type = ?4, length = ?5, until_ms = ?6, due_ms = ?6, \
             reason = NULL, version = version + 1 WHERE task = ?1 AND number = ?2 AND version = ?3";
        let (kind, length) = (&*written.content_type, written.length);
        let params = store_params![copy.task.raw(), copy.number, copy.version, kind, length, until_ms];
        self.change(copy, sql, params)
    }

    /// The try failed; `has_object`: what it wrote could not be removed. Tried again at `due_ms`, or given up.
    pub fn put_off(
        &self,
        copy: &mut Copy,
        (state, due_ms): (CopyState, Option<i64>),
        reason: &str,
        has_object: bool,
    ) -> Result<bool> {
        let sql = "UPDATE task_copies SET state = ?4, due_ms = ?5, reason = ?6, object = ?7, tries = tries + 1, \
             version = version + 1 WHERE task = ?1 AND number = ?2 AND version = ?3";
        let object = copy.object.filter(|_| has_object);
        let (task, state) = (copy.task.raw(), state.as_str());
        let params = store_params![task, copy.number, copy.version, state, due_ms, reason, object];
        self.change(copy, sql, params)
    }

    /// What was kept is not there, or not as it was written: it is copied again, as long as `until_ms` has not come.
    pub fn lost(&self, copy: &mut Copy, reason: &str, (now_ms, until_ms): (i64, i64)) -> Result<bool> {
        let sql = "UPDATE task_copies SET state = 'pending', due_ms = ?4, until_ms = ?5, reason = ?6, tries = 0, \
             version = version + 1 WHERE task = ?1 AND number = ?2 AND version = ?3 AND state = 'kept'";
        let params = store_params![copy.task.raw(), copy.number, copy.version, now_ms, until_ms, reason];
        self.change(copy, sql, params)
    }

    /// All of a task's are to go, and whoever is at one loses it. One that is being written is looked at once its writer
    /// cannot be at it any more.
    pub fn remove(&self, task: TaskId, now_ms: i64) -> Result<()> {
        let sql = "UPDATE task_copies SET state = 'removing', version = version + 1, \
             due_ms = CASE WHEN state = 'pending' AND due_ms > ?2 THEN due_ms ELSE ?2 END WHERE task = ?1";
        self.db.execute(sql, store_params![task.raw(), now_ms]).map(drop)
    }

    /// What a try that failed had left is gone; the row stays, for its reason.
    pub fn cleared(&self, copy: &mut Copy) -> Result<()> {
        let sql = "UPDATE task_copies SET object = NULL, due_ms = NULL, version = version + 1 \
             WHERE task = ?1 AND number = ?2 AND version = ?3";
        let params = store_params![copy.task.raw(), copy.number, copy.version];
        let _is_mine = taken(copy, self.db.execute(sql, params)?);
        Ok(())
    }

    /// Its object is gone, so the row goes.
    pub fn forget(&self, copy: &Copy) -> Result<()> {
        let sql = "DELETE FROM task_copies WHERE task = ?1 AND number = ?2 AND version = ?3";
        self.db.transaction(|tx| {
            tx.execute(sql, store_params![copy.task.raw(), copy.number, copy.version])?;
            stand_in(tx, copy.task)
        })
    }

    /// What its object is sealed with; the error says why nobody can tell.
    pub fn key(&self, copy: &Copy) -> Result<SecretBytes, MasterKeyError> {
        let kept = copy.data_key.as_deref().ok_or(MasterKeyError::Damaged)?;
        self.keyring.open(&copy.purpose(), kept)
    }

    /// How many there are in each state.
    pub fn counts(&self) -> Result<Vec<(CopyState, u64)>> {
        let rows =
            self.db.query("SELECT state, COUNT(*) FROM task_copies GROUP BY state", store_params![])?;
        rows.iter().map(|row| Ok((state(row, 0)?, row.id(1)?))).collect()
    }

    /// See [`SealedRows::reseal_after`].
    pub fn reseal_after(&self, after: ResultPlace) -> Result<Option<(ResultPlace, u64)>, TaskError> {
        SEALED.reseal_after(&self.db, &self.keyring, after)
    }

    /// Changes a row that is still at its version, and what its task says.
    fn change(&self, copy: &mut Copy, sql: &str, params: &[Value]) -> Result<bool> {
        let touched = self.db.transaction(|tx| {
            let touched = tx.execute(sql, params)?;
            stand_in(tx, copy.task)?;
            Ok::<_, StoreError>(touched)
        })?;
        Ok(taken(copy, touched))
    }
}

/// Whether the row was still at its version; it is at the next one then.
fn taken(copy: &mut Copy, touched: u64) -> bool {
    copy.version += touched;
    touched == 1
}

/// What the task's row says of its copies: the worst of them, and the earliest end.
fn stand_in(tx: &mut Tx<'_>, task: TaskId) -> Result<()> {
    let sql = "SELECT state, until_ms, reason FROM task_copies WHERE task = ?1 ORDER BY number";
    let (mut said, mut expires_ms, mut failure) = ("removed", None, None);
    for row in tx.query(sql, store_params![task.raw()])? {
        let (state, until_ms) = (state(&row, 0)?, row.int(1)?);
        failure = failure.or(row.maybe(2, Row::text)?.map(str::to_owned));
        match (state, said) {
            (CopyState::Removing, _) => {}
            (CopyState::Pending, _) => said = "pending",
            (CopyState::Failed, "removed" | "kept") => said = "failed",
            (CopyState::Kept, "removed") => said = "kept",
            (CopyState::Failed | CopyState::Kept, _) => {}
        }
        if state == CopyState::Kept {
            expires_ms = Some(expires_ms.map_or(until_ms, |known: i64| known.min(until_ms)));
        }
    }
    let expires_ms = expires_ms.filter(|_| said == "kept");
    let sql = "UPDATE tasks SET copy_state = ?2, copy_expires_ms = ?3, copy_failure = ?4 WHERE id = ?1";
    tx.execute(sql, store_params![task.raw(), said, expires_ms, failure]).map(drop)
}

fn purpose(task: TaskId, number: u32) -> String {
    format!("copy of result {number} of {task}")
}

fn state(row: &Row, column: usize) -> Result<CopyState> {
    let text = row.text(column)?;
    CopyState::parse(text).ok_or_else(|| StoreError::corrupt(format!("a copy is {text}, which is no state")))
}

fn read(row: &Row) -> Result<Copy> {
    let storage = StorageKind::parse(row.text(3)?);
    Ok(Copy {
        task: TaskId::from_raw(row.id(0)?),
        number: row.u32(1)?,
        state: state(row, 2)?,
        storage: storage.ok_or_else(|| StoreError::corrupt("a copy is in storage of an unknown kind"))?,
        object: row.maybe(4, Row::id)?,
        parts: row.u32(5)?,
        data_key: row.maybe(6, Row::blob)?.map(<[u8]>::to_vec),
        content_type: row.maybe(7, Row::text)?.map(Into::into),
        length: row.maybe(8, Row::id)?.unwrap_or_default(),
        tries: row.u32(9)?,
        until_ms: row.int(10)?,
        due_ms: row.maybe(11, Row::int)?,
        version: row.id(12)?,
    })
}
