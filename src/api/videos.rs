//! Videos in the shape of OpenAI's API, for the key that submitted them: one of the lanes of tasks (`task_lane.rs`).
//! Submitting goes the way of every call (`gateway/submit.rs`).

use ledger::Unit;
use serde_json::{Value, json};

use crate::tasks::{Task, TaskKind};

use super::problem::Problem;
use super::route::{Call, Reply, Route, Who, both};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};
use super::task_lane;
use super::tasks::CHARGED;

static VIDEO: Shape = Shape {
    name: "Video",
    fields: &[
        task_lane::ID,
        field!("object", Kind::OneOf(&["video"]), Required, "What it is"),
        task_lane::MODEL,
        task_lane::STATUS,
        task_lane::PROGRESS,
        task_lane::CREATED_AT,
        task_lane::COMPLETED_AT,
        field!("expires_at", COUNT, Nullable, "When the result is no longer there: seconds since 1970"),
        field!("seconds", Kind::Text, Required, "Its length"),
        field!("size", Kind::Text, Nullable, "Width and height"),
        field!("remixed_from_video_id", Kind::Text, Nullable, "Always null"),
        task_lane::ERROR,
        task_lane::TALLYGATE,
    ],
};

static VIDEOS: Shape = Shape {
    name: "Videos",
    fields: &[
        task_lane::IS_LIST,
        field!(
            "data",
            Kind::List(&Kind::Object(&VIDEO)),
            Required,
            "The newest first, unless asked otherwise"
        ),
        task_lane::FIRST_ID,
        task_lane::LAST_ID,
        task_lane::HAS_MORE,
    ],
};

static DELETED: Shape = Shape {
    name: "VideoDeleted",
    fields: &[
        task_lane::ID,
        field!("object", Kind::OneOf(&["video.deleted"]), Required, "What it is"),
        task_lane::IS_DELETED,
        task_lane::NOTE,
    ],
};

static ESTIMATE_INPUT: Shape = Shape { name: "VideoRequest", fields: &[] };

static LIST_ROUTES: [Route; 2] = {
    let [v1, api] = both!(get, "/videos", "listVideos", "The tasks of this key", &VIDEOS, list);
    [v1.query(&task_lane::LIST), api.query(&task_lane::LIST)]
};
static GET_ROUTES: [Route; 2] =
    both!(get, "/videos/{id}", "getVideo", "One of this key's tasks", &VIDEO, get);
static DELETE_ROUTES: [Route; 2] = both!(
    delete,
    "/videos/{id}",
    "deleteVideo",
    "Cancels a task that runs, and hides it; one that is finished is hidden",
    &DELETED,
    delete
);
static ESTIMATE_ROUTES: [Route; 2] = both!(
    post,
    "/videos/estimate",
    "estimateVideo",
    "What a video can cost at the most; no task, no charge, no trace",
    &ESTIMATE_INPUT,
    &task_lane::ESTIMATE,
    estimate
);
static CHARGED_ROUTES: [Route; 2] = both!(
    get,
    "/videos/{id}/charged",
    "wasVideoCharged",
    "Whether one of this key's tasks was charged, with the evidence",
    &CHARGED,
    charged
);

pub static ROUTES: [&[Route]; 5] =
    [&LIST_ROUTES, &GET_ROUTES, &DELETE_ROUTES, &ESTIMATE_ROUTES, &CHARGED_ROUTES];

/// A task as OpenAI's API shows a video.
pub fn view(task: &Task, currency: &str) -> Value {
    let used_ms = task.used.map(|used| used.usage.units(Unit::Second));
    json!({
        "id": task.id,
        "object": "video",
        "model": task.model,
        "status": task_lane::status(task),
        "progress": task.progress,
        "created_at": task.created_ms / 1_000,
        "completed_at": task_lane::completed_at(task),
        "expires_at": task.expires_ms().map(|ms| ms / 1_000),
        "seconds": (used_ms.unwrap_or(task.wish.duration_ms) / 1_000).to_string(),
        "size": task.wish.resolution,
        "remixed_from_video_id": null,
        "error": task_lane::error(task),
        "tallygate": task_lane::money(task, currency),
    })
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::ok(view(&task_lane::own(call, TaskKind::Video)?, call.app.currency())))
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    task_lane::list(call, TaskKind::Video, view)
}

fn delete(call: &Call<'_>) -> Result<Reply, Problem> {
    task_lane::delete(call, TaskKind::Video, "video.deleted")
}

fn estimate(call: &Call<'_>) -> Result<Reply, Problem> {
    task_lane::estimate(call, TaskKind::Video)
}

fn charged(call: &Call<'_>) -> Result<Reply, Problem> {
    task_lane::charged(call, TaskKind::Video)
}
