//! `/api/tasks`: image and video tasks, for operators and members.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::directory::FieldError;
use crate::explain::time_text;
use crate::gateway::facts::Attempt;
use crate::id::{KeyId, TaskId};
use crate::tasks::{Search, THUMBNAIL_MEDIA_TYPE, Task, TaskState};

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

const STATE: Kind = Kind::OneOf(&["queued", "running", "succeeded", "failed", "cancelled", "expired"]);
const COPIES_NAMES: &[&str] = &["pending", "kept", "failed", "removed"];
const COPIES: Kind = Kind::OneOf(COPIES_NAMES);
const MONEY: Kind = Kind::OneOf(&["held", "settled", "released"]);

static FAILURE: Shape = Shape {
    name: "TaskFailure",
    fields: &[
        field!("code", Kind::Text, Required, "Ours, or the upstream's"),
        field!("message", Kind::Text, Required, "In words"),
    ],
};

static TASK: Shape = Shape {
    name: "Task",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, task_…"),
        field!("request_id", Kind::Text, Required, "The call that submitted it, req_…"),
        field!("account", Kind::Text, Required, "Who pays"),
        field!("environment", Kind::OneOf(&["live", "test"]), Required, "Whose books it posts to"),
        field!("key", Kind::Text, Required, "Whose key submitted it"),
        field!("project", Kind::Text, Nullable, "What the key belonged to then"),
        field!("type", Kind::OneOf(&["video", "image"]), Required, "What is made"),
        field!("model", Kind::Text, Required, "As it was asked for"),
        field!("ratio", Kind::Text, Nullable, "Width to height (比例)"),
        field!("resolution", Kind::Text, Nullable, "Width and height (分辨率)"),
        field!("quality", Kind::Text, Nullable, "Of pictures, as it was asked for"),
        field!("duration_seconds", COUNT, Required, "Of a video, as it was asked for (时长); 0: it has none"),
        field!("images", COUNT, Required, "How many pictures were asked for; 0: it is a video"),
        field!(
            "reference_hashes",
            Kind::List(&Kind::Text),
            Required,
            "SHA-256 of each reference image (参考图)"
        ),
        field!("state", STATE, Required, "Where it stands"),
        field!("progress", COUNT, Required, "Percent, as the upstream tells it"),
        field!("failure", Kind::Object(&FAILURE), Nullable, "Why it did not succeed"),
        field!("channel", Kind::Text, Nullable, "Where it was sent to; for operators"),
        field!("upstream_model", Kind::Text, Nullable, "What the upstream calls the model; for operators"),
        field!("upstream_id", Kind::Text, Nullable, "The upstream's name of it"),
        field!(
            "download_url",
            Kind::Text,
            Nullable,
            "Path of the result, once there is one; with the key that made it"
        ),
        field!("result_expires_at", Kind::Time, Nullable, "When the result is no longer there"),
        field!("copies", COPIES, Nullable, "How the copies of its results stand; null: there were never any"),
        field!("copy_failure", Kind::Text, Nullable, "Why copying failed last; for operators"),
        field!("price", Kind::Text, Required, "Version frozen at acceptance"),
        field!("hold", Kind::Money, Required, "The most that it could cost"),
        field!("money", MONEY, Required, "What became of the hold"),
        field!("charged", Kind::Money, Required, "What was charged"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("attempts", COUNT, Required, "How many upstreams were asked to make it"),
        field!(
            "tried",
            Kind::List(&Kind::Any),
            Nullable,
            "Attempts that have ended: channel, status, fault, cost; for operators"
        ),
        field!("duplicates", COUNT, Required, "Identical submissions that were answered with it"),
        field!("polls", COUNT, Required, "How often the upstream was asked about it"),
        field!("next_poll_at", Kind::Time, Nullable, "When the upstream is asked next"),
        field!("deadline_at", Kind::Time, Required, "When it ends, whatever comes"),
        field!("created_at", Kind::Time, Required, "When it was accepted"),
        field!("submitted_at", Kind::Time, Nullable, "When the upstream took it"),
        field!("ended_at", Kind::Time, Nullable, "When it came to its end"),
        field!("deleted_at", Kind::Time, Nullable, "When its owner deleted it"),
    ],
};

static FACT: Shape = Shape {
    name: "ChargedFact",
    fields: &[
        field!(
            "source",
            Kind::OneOf(&["task", "task_state", "request_log", "ledger_record"]),
            Required,
            "Where it is known from"
        ),
        field!("id", Kind::Text, Required, "Which record it is"),
        field!("says", Kind::Text, Required, "Its word for where things stand"),
        field!("charged", Kind::Money, Nullable, "null: it tells no amount"),
        field!("at", Kind::Time, Nullable, "When that was so"),
    ],
};

pub static CHARGED: Shape = Shape {
    name: "Charged",
    fields: &[
        field!("task", Kind::Text, Required, "Public id, task_…"),
        field!(
            "verdict",
            Kind::OneOf(&["not_yet", "charged", "not_charged", "refunded", "disagreement"]),
            Required,
            "The answer"
        ),
        field!("charged", Kind::Money, Required, "What was charged, less what was refunded"),
        field!("held", Kind::Money, Required, "What is still held"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("summary", Kind::Text, Required, "The answer in one sentence"),
        field!("facts", Kind::List(&Kind::Object(&FACT)), Required, "What it was computed from"),
    ],
};

static REFERENCE: Shape = Shape {
    name: "TaskReference",
    fields: &[
        field!("sha256", Kind::Text, Required, "Of the reference image (参考图), or of what named it"),
        field!("media_type", Kind::Text, Nullable, "Of the thumbnail; null: there is none"),
        field!("thumbnail", Kind::Text, Nullable, "A small picture of it, in base64; null: there is none"),
    ],
};
static REFERENCES: Shape = Shape {
    name: "TaskReferences",
    fields: &[field!(
        "data",
        Kind::List(&Kind::Object(&REFERENCE)),
        Required,
        "In the order in which they were sent"
    )],
};

static NOTHING: Shape = Shape { name: "Nothing", fields: &[] };

pub static ROUTES: &[Route] = &[
    Route::list("/api/tasks", "listTasks", "Image and video tasks, the newest first", &TASK, list)
        .access(Access::EVERYBODY_READS)
        .query(&[
            Param { name: "account", about: "Only tasks of this account" },
            Param { name: "key", about: "Only tasks of this key" },
            Param { name: "state", about: "Only tasks in this state" },
            Param { name: "model", about: "Only tasks of this model" },
            Param { name: "copies", about: "Only tasks whose copies stand so" },
            Param { name: "since", about: "Made at or after this time" },
            Param { name: "until", about: "Made before this time" },
            PAGE[0],
            PAGE[1],
        ]),
    Route::get("/api/tasks/{id}", "getTask", "One task", &TASK, get).access(Access::EVERYBODY_READS),
    Route::get(
        "/api/tasks/{id}/references",
        "getTaskReferences",
        "What is kept of a task's reference images: their hashes and thumbnails",
        &REFERENCES,
        references,
    )
    .access(Access::EVERYBODY_READS),
    Route::get(
        "/api/tasks/{id}/charged",
        "wasTaskCharged",
        "Whether a task was charged, with the evidence",
        &CHARGED,
        charged,
    )
    .access(Access::EVERYBODY_READS),
    Route::post(
        "/api/tasks/{id}/cancel",
        "cancelTask",
        "Cancels a task that runs; what it held is given back",
        &NOTHING,
        &TASK,
        cancel,
    )
    .access(Access::KEY_CHANGES),
];

fn references(call: &Call<'_>) -> Result<Reply, Problem> {
    let task = find(call)?;
    let thumbnails = call.app.tasks.thumbnails.of(task.id)?;
    let reference = |(number, hash): (u32, &str)| {
        let thumbnail = thumbnails.iter().find(|(of, _)| *of == number).map(|(_, small)| small);
        json!({
            "sha256": hash,
            "media_type": thumbnail.map(|_| THUMBNAIL_MEDIA_TYPE),
            "thumbnail": thumbnail.map(|small| BASE64.encode(small.expose())),
        })
    };
    let hashes = task.wish.reference_hashes.iter().map(|hash| &**hash);
    let rows: Vec<_> = (0..).zip(hashes).map(reference).collect();
    Ok(Reply::ok(json!({"data": rows})))
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "channel": attempt.channel,
        "credential": attempt.credential,
        "status": attempt.status,
        "fault": attempt.fault,
        "cost": attempt.cost.map(|cost| cost.to_string()),
        "cost_basis": attempt.cost_basis.as_str(),
    })
}

fn view(call: &Call<'_>, task: &Task) -> Value {
    // Where it was sent to, and what that is called there, is the operator's.
    let shown = call.own_account().is_none();
    let wish = &task.wish;
    json!({
        "id": task.id,
        "request_id": task.request,
        "account": task.account,
        "environment": task.environment.as_str(),
        "key": task.key,
        "project": task.project,
        "type": wish.kind.as_str(),
        "model": task.model,
        "ratio": wish.ratio(),
        "resolution": wish.resolution,
        "quality": wish.quality,
        "duration_seconds": wish.duration_ms / 1_000,
        "images": wish.images,
        "reference_hashes": wish.reference_hashes,
        "state": task.state.as_str(),
        "progress": task.progress,
        "failure": task.failure.as_ref().map(|failure| json!({"code": failure.code, "message": failure.text})),
        "channel": shown.then_some(task.channel),
        "upstream_model": shown.then_some(&task.upstream_model),
        "upstream_id": task.upstream_id,
        "download_url": (task.state == TaskState::Succeeded).then(|| format!("/v1/{}/{}/content", task.wish.kind.lane().path(), task.id)),
        "result_expires_at": task.expires_ms().map(time_text),
        "copies": task.copies.as_ref().map(|copies| &*copies.state),
        "copy_failure": task.copies.as_ref().filter(|_| shown).and_then(|copies| copies.failure.as_deref()),
        "price": task.price,
        "hold": task.hold.to_string(),
        "money": task.money.as_str(),
        "charged": task.charged.to_string(),
        "currency": call.app.currency(),
        "attempts": task.attempts,
        "tried": shown.then(|| task.tried.iter().map(attempt).collect::<Vec<_>>()),
        "duplicates": task.duplicates,
        "polls": task.polls,
        "next_poll_at": task.poll_ms.map(time_text),
        "deadline_at": time_text(task.deadline_ms),
        "created_at": time_text(task.created_ms),
        "submitted_at": task.submitted_ms.map(time_text),
        "ended_at": task.ended_ms.map(time_text),
        "deleted_at": task.deleted_ms.map(time_text),
    })
}

/// A task that is another account's is not there for a member.
fn find(call: &Call<'_>) -> Result<Task, Problem> {
    let task = call.app.tasks.get(call.path_id::<TaskId>("id")?)?;
    match call.own_account() {
        Some(own) if own != task.account => Err(Problem::NotFound),
        _ => Ok(task),
    }
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let time = |name: &str| {
        let time = call.query_parsed::<jiff::Timestamp>(name)?;
        Ok::<_, FieldError>(time.map(jiff::Timestamp::as_millisecond))
    };
    let state = call.query_text("state").map(|state| {
        TaskState::parse(state).ok_or_else(|| FieldError::new("state", "is not a state of a task"))
    });
    let copies = call.query_text("copies");
    if copies.is_some_and(|state| !COPIES_NAMES.contains(&state)) {
        return Err(FieldError::new("copies", format!("must be one of {}", COPIES_NAMES.join(", "))).into());
    }
    let limit = call.limit()?;
    let search = Search {
        account: call.asked_account()?,
        key: call.query_parsed::<KeyId>("key")?,
        state: state.transpose()?,
        model: call.query_text("model").map(str::to_owned),
        copies: copies.map(str::to_owned),
        since_ms: time("since")?,
        until_ms: time("until")?,
        before: call.query_parsed::<TaskId>("cursor")?,
        limit,
        ..Search::default()
    };
    let tasks = call.app.tasks.search(&search)?;
    let next = tasks.last().filter(|_| tasks.len() == limit as usize).map(|task| task.id.to_string());
    Ok(Reply::page(tasks.iter().map(|task| view(call, task)).collect(), next))
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::ok(view(call, &find(call)?)))
}

fn charged(call: &Call<'_>) -> Result<Reply, Problem> {
    Reply::of(&call.app.tasks.charged(&find(call)?, call.app.currency(), call.language)?)
}

/// Money moves on somebody's word: it is in the audit log, too.
fn cancel(call: &Call<'_>) -> Result<Reply, Problem> {
    let task = find(call)?;
    let note = json!({"task": task.id, "account": task.account, "action": "cancel"});
    call.app.directory.note(&call.actor(), "task_note", task.account.raw(), &note)?;
    Ok(Reply::ok(view(call, &call.app.tasks.cancel(task.id)?)))
}
