//! Tasks as rows.

use ledger::Nano;

use super::copies::TaskCopies;
use super::task::{Failure, Task, TaskKind, TaskMoney, TaskState, Wish};
use super::tried;
use super::used::Used;
use crate::directory::Environment;
use crate::id::{AccountId, ChannelId, KeyId, PriceId, ProjectId, RequestId, TaskId};
use crate::store::{Db, Result, Row, StoreError, Tx, Value};
use crate::store_params;

/// Which tasks to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct Search {
    pub account: Option<AccountId>,
    pub key: Option<KeyId>,
    pub kind: Option<TaskKind>,
    pub state: Option<TaskState>,
    pub model: Option<String>,
    /// How their copies stand.
    pub copies: Option<String>,
    /// Made at or after, and before: milliseconds since 1970.
    pub since_ms: Option<i64>,
    pub until_ms: Option<i64>,
    /// Those that their owner deleted are left out.
    pub visible: bool,
    /// Only tasks before this one, or behind it.
    pub before: Option<TaskId>,
    pub after: Option<TaskId>,
    pub oldest_first: bool,
    pub limit: u32,
}

const TASK: &str = "SELECT id, request, account, environment, api_key, project, channel, kind, model, upstream_model, \
     resolution, duration_ms, used, reference_hashes, prompt_hash, fingerprint, state, progress, failure_code, \
     failure_text, upstream_id, result_expires_ms, price, multiplier_ppm, hold_nano, money, charged_nano, \
     attempts, duplicates, poll_ms, polls, deadline_ms, created_ms, submitted_ms, ended_ms, deleted_ms, version, price_row, credential, \
     quality, images, results, tried, cost_nano, copy_state, copy_expires_ms, copy_failure FROM tasks";

/// Rows of tasks. Blocking.
#[derive(Clone)]
pub(super) struct TaskStore {
    pub db: Db,
}

impl TaskStore {
    pub fn task(&self, id: TaskId) -> Result<Option<Task>> {
        let row = self.db.query_one(&format!("{TASK} WHERE id = ?1"), store_params![id.raw()])?;
        row.as_ref().map(read_task).transpose()
    }

    pub fn of_request(&self, request: RequestId) -> Result<Option<Task>> {
        let sql = format!("{TASK} WHERE request = ?1");
        self.db
            .query_one(&sql, store_params![request.raw().to_be_bytes()])?
            .as_ref()
            .map(read_task)
            .transpose()
    }

    /// The newest task of the key with this body since then. What came to nothing, and what its owner deleted, is no
    /// answer to anybody who wants it.
    pub fn twin(&self, key: KeyId, fingerprint: u128, since_ms: i64) -> Result<Option<Task>> {
        let sql = format!(
            "{TASK} WHERE api_key = ?1 AND fingerprint = ?2 AND created_ms >= ?3 AND deleted_ms IS NULL \
             AND state NOT IN ('failed', 'cancelled', 'expired') ORDER BY created_ms DESC LIMIT 1"
        );
        let params = store_params![key.raw(), fingerprint.to_be_bytes(), since_ms];
        self.db.query_one(&sql, params)?.as_ref().map(read_task).transpose()
    }

    /// Whether a task of the channel has this name at its upstream.
    pub fn is_taken(&self, channel: ChannelId, upstream_id: &str) -> Result<bool> {
        let sql = "SELECT id FROM tasks WHERE channel = ?1 AND upstream_id = ?2";
        Ok(self.db.query_one(sql, store_params![channel.raw(), upstream_id])?.is_some())
    }

    /// Tasks that have no name at an upstream yet.
    pub fn unnamed(&self) -> Result<Vec<Task>> {
        let sql = format!("{TASK} WHERE state IN ('queued', 'running') AND upstream_id IS NULL");
        self.db.query(&sql, store_params![])?.iter().map(read_task).collect()
    }

    /// Tasks with the same prompt that have no name at the channel's upstream yet.
    pub fn unnamed_like(&self, task: &Task) -> Result<Vec<TaskId>> {
        let sql = "SELECT id FROM tasks WHERE state = 'queued' AND channel = ?1 AND prompt_hash = ?2 \
             AND upstream_id IS NULL";
        let params = store_params![task.channel.raw(), task.wish.prompt_hash];
        self.db.query(sql, params)?.iter().map(|row| Ok(TaskId::from_raw(row.id(0)?))).collect()
    }

    pub fn search(&self, search: &Search) -> Result<Vec<Task>> {
        let mut conditions = Vec::new();
        let mut params: Vec<Value> = Vec::new();
        let mut add = |condition: &str, value: Value| {
            params.push(value);
            conditions.push(format!("{condition} ?{}", params.len()));
        };
        if let Some(account) = search.account {
            add("account =", account.raw().into());
        }
        if let Some(key) = search.key {
            add("api_key =", key.raw().into());
        }
        if let Some(kind) = search.kind {
            add("kind =", kind.as_str().into());
        }
        if let Some(state) = search.state {
            add("state =", state.as_str().into());
        }
        if let Some(model) = &search.model {
            add("model =", model.into());
        }
        if let Some(copies) = &search.copies {
            add("copy_state =", copies.into());
        }
        if let Some(since) = search.since_ms {
            add("created_ms >=", since.into());
        }
        if let Some(until) = search.until_ms {
            add("created_ms <", until.into());
        }
        if let Some(before) = search.before {
            add("id <", before.raw().into());
        }
        if let Some(after) = search.after {
            add("id >", after.raw().into());
        }
        if search.visible {
            conditions.push("deleted_ms IS NULL".to_owned());
        }
        let given = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let order = if search.oldest_first { "ASC" } else { "DESC" };
        let sql = format!("{TASK}{given} ORDER BY id {order} LIMIT {}", search.limit);
        self.db.query(&sql, &params)?.iter().map(read_task).collect()
    }

    /// Tasks that are to be looked at by now, the one that waited longest first.
    pub fn due(&self, now_ms: i64, limit: u32) -> Result<Vec<Task>> {
        let sql = format!("{TASK} WHERE poll_ms <= ?1 ORDER BY poll_ms, id LIMIT {limit}");
        self.db.query(&sql, store_params![now_ms])?.iter().map(read_task).collect()
    }

    pub fn insert(&self, task: &Task) -> Result<()> {
        let wish = &task.wish;
        let params = store_params![
            task.id.raw(),
            task.request.raw().to_be_bytes(),
            task.account.raw(),
            task.environment.as_str(),
            task.key.raw(),
            task.project.map(ProjectId::raw),
            task.channel.raw(),
            wish.kind.as_str(),
            &*task.model,
            &*task.upstream_model,
            wish.resolution.as_deref(),
            wish.ratio().as_deref(),
            wish.duration_ms,
            wish.reference_hashes.join(" "),
            wish.prompt_hash,
            wish.fingerprint.to_be_bytes(),
            task.state.as_str(),
            task.price.raw(),
            task.multiplier_ppm,
            task.hold.0,
            task.money.as_str(),
            task.attempts,
            task.poll_ms,
            task.deadline_ms,
            task.created_ms,
            task.version,
            task.price_row,
            task.credential,
            wish.quality.as_deref(),
            wish.images,
        ];
        let sql = "INSERT INTO tasks (id, request, account, environment, api_key, project, channel, kind, model, \
             upstream_model, resolution, ratio, duration_ms, reference_hashes, prompt_hash, fingerprint, state, \
             price, multiplier_ppm, hold_nano, money, attempts, poll_ms, deadline_ms, created_ms, version, price_row, \
             credential, quality, images, progress, charged_nano, duplicates, polls) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
             ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, 0, 0, 0, 0)";
        self.db.execute(sql, params).map(drop)
    }

    /// Notes another identical submission that was answered with this task.
    pub fn count_duplicate(&self, id: TaskId) -> Result<()> {
        let sql = "UPDATE tasks SET duplicates = duplicates + 1 WHERE id = ?1";
        self.db.execute(sql, store_params![id.raw()]).map(drop)
    }

    /// Takes the task for a look at it until `until_ms`: of several that try, one gets it.
    pub fn lease(&self, task: &mut Task, until_ms: i64) -> Result<bool> {
        let sql = "UPDATE tasks SET poll_ms = ?3, version = version + 1 WHERE id = ?1 AND version = ?2";
        let taken = self.db.execute(sql, store_params![task.id.raw(), task.version, until_ms])? == 1;
        if taken {
            (task.poll_ms, task.version) = (Some(until_ms), task.version + 1);
        }
        Ok(taken)
    }
}

/// The task as the transaction sees it.
pub(super) fn task_in(tx: &mut Tx<'_>, id: TaskId) -> Result<Option<Task>> {
    let row = tx.query_one(&format!("{TASK} WHERE id = ?1"), store_params![id.raw()])?;
    row.as_ref().map(read_task).transpose()
}

/// Writes what changes of a task, if it still is at its version; the written one is at the next.
pub(super) fn update_in(tx: &mut Tx<'_>, task: &mut Task) -> Result<()> {
    let failure = task.failure.as_ref();
    let params = store_params![
        task.id.raw(),
        task.version,
        task.state.as_str(),
        task.progress,
        failure.map(|failure| &*failure.code),
        failure.map(|failure| &*failure.text),
        task.upstream_id.as_deref(),
        task.result_expires_ms,
        task.used.map(|used| used.text()),
        task.money.as_str(),
        task.charged.0,
        task.attempts,
        task.poll_ms,
        task.polls,
        task.submitted_ms,
        task.ended_ms,
        task.deleted_ms,
        task.results,
        tried::text(&task.tried),
        task.channel.raw(),
        task.credential,
        &*task.upstream_model,
        task.multiplier_ppm,
        task.upstream_cost.map(|cost| cost.0),
    ];
    let sql = "UPDATE tasks SET version = version + 1, state = ?3, progress = ?4, failure_code = ?5, \
         failure_text = ?6, upstream_id = ?7, result_expires_ms = ?8, used = ?9, money = ?10, \
         charged_nano = ?11, attempts = ?12, poll_ms = ?13, polls = ?14, submitted_ms = ?15, ended_ms = ?16, \
         deleted_ms = ?17, results = ?18, tried = ?19, channel = ?20, credential = ?21, upstream_model = ?22, \
         multiplier_ppm = ?23, cost_nano = ?24 WHERE id = ?1 AND version = ?2";
    match tx.execute(sql, params)? {
        1 => {
            task.version += 1;
            Ok(())
        }
        _ => Err(StoreError::unavailable("another change of the task came in between")),
    }
}

fn boxed(row: &Row, column: usize) -> Result<Option<Box<str>>> {
    Ok(row.maybe(column, Row::text)?.map(Into::into))
}

fn word<T>(row: &Row, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    parsed(row.text(column)?, parse)
}

fn parsed<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    parse(text).ok_or_else(|| StoreError::corrupt(format!("a task says {text} where that is no word")))
}

fn read_copies(row: &Row) -> Result<Option<TaskCopies>> {
    let Some(state) = boxed(row, 44)? else { return Ok(None) };
    Ok(Some(TaskCopies { state, expires_ms: row.maybe(45, Row::int)?, failure: boxed(row, 46)? }))
}

fn read_task(row: &Row) -> Result<Task> {
    let hashes = row.text(13)?.split_whitespace().map(Into::into).collect();
    let failure = boxed(row, 18)?.zip(boxed(row, 19)?);
    Ok(Task {
        id: TaskId::from_raw(row.id(0)?),
        request: RequestId::from_raw(u128::from_be_bytes(row.bytes(1)?)),
        account: AccountId::from_raw(row.id(2)?),
        environment: word(row, 3, Environment::parse)?,
        key: KeyId::from_raw(row.id(4)?),
        project: row.maybe(5, Row::id)?.map(ProjectId::from_raw),
        channel: ChannelId::from_raw(row.id(6)?),
        model: row.text(8)?.into(),
        upstream_model: row.text(9)?.into(),
        wish: Wish {
            kind: word(row, 7, TaskKind::parse)?,
            resolution: boxed(row, 10)?,
            quality: boxed(row, 39)?,
            images: row.u32(40)?,
            duration_ms: row.id(11)?,
            reference_hashes: hashes,
            prompt_hash: row.bytes(14)?,
            fingerprint: u128::from_be_bytes(row.bytes(15)?),
        },
        used: row.maybe(12, Row::text)?.map(|text| parsed(text, Used::parse)).transpose()?,
        state: word(row, 16, TaskState::parse)?,
        progress: row.u32(17)?,
        failure: failure.map(|(code, text)| Failure { code, text }),
        upstream_id: boxed(row, 20)?,
        result_expires_ms: row.maybe(21, Row::int)?,
        price: PriceId::from_raw(row.id(22)?),
        multiplier_ppm: row.id(23)?,
        hold: Nano(row.int(24)?),
        money: word(row, 25, TaskMoney::parse)?,
        charged: Nano(row.int(26)?),
        attempts: row.u32(27)?,
        duplicates: row.u32(28)?,
        poll_ms: row.maybe(29, Row::int)?,
        polls: row.u32(30)?,
        deadline_ms: row.int(31)?,
        created_ms: row.int(32)?,
        submitted_ms: row.maybe(33, Row::int)?,
        ended_ms: row.maybe(34, Row::int)?,
        deleted_ms: row.maybe(35, Row::int)?,
        copies: read_copies(row)?,
        version: row.id(36)?,
        price_row: row.id(37)?,
        credential: row.u32(38)?,
        upstream_cost: row.maybe(43, Row::int)?.map(Nano),
        results: row.u32(41)?,
        tried: row
            .maybe(42, Row::text)?
            .map(|text| parsed(text, tried::parse))
            .transpose()?
            .unwrap_or_default(),
    })
}
