//! What the lanes of tasks have alike (videos, pictures): a key's own tasks, told, listed, deleted, estimated, and whether
//! they were charged. What a lane calls things, and how it shows a task, is its own (`videos.rs`, `images.rs`).
//!
//! Passes rungs 1 and 2 alone, so that a key which may submit nothing any more still sees what became of its tasks.

use serde_json::{Value, json};

use crate::directory::FieldError;
use crate::explain::estimate;
use crate::id::TaskId;
use crate::tasks::{Search, Task, TaskKind, TaskState};

use super::own::asking;
use super::problem::Problem;
use super::route::{Call, Param, Reply};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

/// The members that every lane shows of a task, around those of its own.
pub const ID: Field = field!("id", Kind::Text, Required, "Public id, task_…");
pub const MODEL: Field = field!("model", Kind::Text, Required, "As it was asked for");
pub const STATUS: Field = field!(
    "status",
    Kind::OneOf(&["queued", "in_progress", "completed", "failed"]),
    Required,
    "failed: also cancelled and expired, as error.code says"
);
pub const PROGRESS: Field = field!("progress", COUNT, Required, "Percent");
pub const CREATED_AT: Field = field!("created_at", COUNT, Required, "Seconds since 1970");
pub const COMPLETED_AT: Field = field!("completed_at", COUNT, Nullable, "Seconds since 1970");
pub const ERROR: Field = field!("error", Kind::Any, Nullable, "code, message");
pub const TALLYGATE: Field =
    field!("tallygate", Kind::Any, Required, "request_id, money, hold, charged, currency");

/// The members of a page of them, around its rows.
pub const IS_LIST: Field = field!("object", Kind::OneOf(&["list"]), Required, "What it is");
pub const FIRST_ID: Field = field!("first_id", Kind::Text, Nullable, "Of the first of them");
pub const LAST_ID: Field =
    field!("last_id", Kind::Text, Nullable, "Of the last of them: after of the next page");
pub const HAS_MORE: Field = field!("has_more", Kind::Bool, Required, "Whether there is a next page");

pub const IS_DELETED: Field =
    field!("deleted", Kind::Bool, Required, "false: its upstream does not let go of it, so it runs on");

pub const NOTE: Field =
    field!("note", Kind::Text, Nullable, "That it runs on and may be charged, in words; null: it is deleted");

pub static ESTIMATE: Shape = Shape {
    name: "TaskEstimate",
    fields: &[
        field!("model", Kind::Text, Required, "As it was asked for"),
        field!("seconds", COUNT, Optional, "Of a video: its length"),
        field!("images", COUNT, Optional, "Of pictures: how many"),
        field!("size", Kind::Text, Nullable, "Width and height; null: left to the upstream"),
        field!("quality", Kind::Text, Nullable, "Of pictures; null: left to the upstream"),
        field!("cost_max", Kind::Money, Required, "What would be held, and the most that could be charged"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("price", Kind::Text, Required, "The price version that would be frozen"),
        field!("price_version", COUNT, Required, "Counts from 1 for each model"),
        field!(
            "per_unit",
            Kind::Money,
            Nullable,
            "Of one second or one picture of this size and quality; null: it is sold by tokens"
        ),
        field!("multiplier", Kind::Multiplier, Required, "Of the dearest group that may serve it"),
        field!("task_cost_cap", Kind::Money, Nullable, "null: there is none"),
        field!(
            "needs_confirmation",
            Kind::Bool,
            Required,
            "Send cost_max in x-tallygate-confirm-cost, or it is refused"
        ),
        field!(
            "would",
            Kind::OneOf(&["pass", "fail"]),
            Required,
            "What it would meet now, confirmed if needed"
        ),
        field!("code", Kind::Text, Nullable, "Why it would be refused"),
    ],
};

pub static LIST: [Param; 3] = [
    Param { name: "after", about: "last_id of the page before" },
    Param { name: "limit", about: "Rows, from 1 to 100; default 20" },
    Param { name: "order", about: "asc or desc; default desc" },
];

pub fn status(task: &Task) -> &'static str {
    match task.state {
        TaskState::Queued => "queued",
        TaskState::Running => "in_progress",
        TaskState::Succeeded => "completed",
        TaskState::Failed | TaskState::Cancelled | TaskState::Expired => "failed",
    }
}

/// Seconds since 1970.
pub fn completed_at(task: &Task) -> Option<i64> {
    task.ended_ms.filter(|_| task.state == TaskState::Succeeded).map(|ms| ms / 1_000)
}

pub fn error(task: &Task) -> Option<Value> {
    task.failure.as_ref().map(|failure| json!({"code": failure.code, "message": failure.text}))
}

/// What only this gateway tells of a task.
pub fn money(task: &Task, currency: &str) -> Value {
    json!({
        "request_id": task.request,
        "money": task.money.as_str(),
        "hold": task.hold.to_string(),
        "charged": task.charged.to_string(),
        "currency": currency,
    })
}

/// One of the asking key's own tasks of this kind. Anybody else's is not found, and nobody is told that it exists.
pub fn own(call: &Call<'_>, kind: TaskKind) -> Result<Task, Problem> {
    let task = ever_own(call, kind)?;
    if task.deleted_ms.is_none() { Ok(task) } else { Err(Problem::NotFound) }
}

/// The same, whether or not its owner has deleted it since: what became of its money is told for ever.
fn ever_own(call: &Call<'_>, kind: TaskKind) -> Result<Task, Problem> {
    let key = asking(call)?;
    let task = call.app.tasks.get(call.path_id::<TaskId>("id")?)?;
    let is_own = task.key == key.id && task.wish.kind == kind;
    if is_own { Ok(task) } else { Err(Problem::NotFound) }
}

/// The asking key's own tasks of this kind.
pub fn list(call: &Call<'_>, kind: TaskKind, view: impl Fn(&Task, &str) -> Value) -> Result<Reply, Problem> {
    let key = asking(call)?;
    let limit = call.query_parsed::<u32>("limit")?.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(FieldError::new("limit", "must be from 1 to 100").into());
    }
    let oldest_first = match call.query_text("order") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(FieldError::new("order", "must be asc or desc").into()),
    };
    let after = call.query_parsed::<TaskId>("after")?;
    let search = Search {
        account: Some(key.account),
        key: Some(key.id),
        kind: Some(kind),
        visible: true,
        before: after.filter(|_| !oldest_first),
        after: after.filter(|_| oldest_first),
        oldest_first,
        limit: limit + 1,
        ..Search::default()
    };
    let mut tasks = call.app.tasks.search(&search)?;
    let has_more = tasks.len() > limit as usize;
    tasks.truncate(limit as usize);
    let data: Vec<_> = tasks.iter().map(|task| view(task, call.app.currency())).collect();
    Ok(Reply::ok(json!({
        "object": "list",
        "data": data,
        "first_id": tasks.first().map(|task| task.id),
        "last_id": tasks.last().map(|task| task.id),
        "has_more": has_more,
    })))
}

pub fn delete(call: &Call<'_>, kind: TaskKind, object: &str) -> Result<Reply, Problem> {
    let task = own(call, kind)?;
    let task = call.app.tasks.delete(task.id)?;
    let deleted = task.deleted_ms.is_some();
    let note = (!deleted).then(|| runs_on(call, &task));
    Ok(Reply::ok(json!({"id": task.id, "object": object, "deleted": deleted, "note": note})))
}

/// What a caller is told whose task could not be cancelled.
fn runs_on(call: &Call<'_>, task: &Task) -> String {
    let says = call.words(
        "Its upstream cannot cancel it: it runs on, and is charged if it succeeds. Ask whether it was: ",
        "上游无法取消该任务：任务会继续运行，成功后会扣费。查询是否扣费：",
    );
    format!("{says}/v1/{}/{}/charged", task.wish.kind.lane().path(), task.id)
}

pub fn estimate(call: &Call<'_>, kind: TaskKind) -> Result<Reply, Problem> {
    let key = asking(call)?;
    let estimate = estimate::task(call.app, &key, kind, &call.raw, call.address);
    Reply::of(&estimate.map_err(Problem::Refused)?)
}

pub fn charged(call: &Call<'_>, kind: TaskKind) -> Result<Reply, Problem> {
    Reply::of(&call.app.tasks.charged(&ever_own(call, kind)?, call.app.currency(), call.language)?)
}
