//! Pictures as tasks (ADR 15), for the key that submitted them: one of the lanes of tasks (`task_lane.rs`), with the words
//! of OpenAI's image API.

use serde_json::{Value, json};

use crate::tasks::{Task, TaskKind, TaskState};

use super::problem::Problem;
use super::route::{Call, Reply, Route, Who, both};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};
use super::task_lane;
use super::tasks::CHARGED;
use super::videos;

static IMAGE: Shape = Shape {
    name: "ImageTask",
    fields: &[
        task_lane::ID,
        field!("object", Kind::OneOf(&["image"]), Required, "What it is"),
        task_lane::MODEL,
        task_lane::STATUS,
        task_lane::PROGRESS,
        task_lane::CREATED_AT,
        task_lane::COMPLETED_AT,
        field!("expires_at", COUNT, Nullable, "When the pictures are no longer there: seconds since 1970"),
        field!("n", COUNT, Required, "How many pictures were asked for"),
        field!("size", Kind::Text, Nullable, "Width and height; null: left to the upstream"),
        field!("quality", Kind::Text, Nullable, "null: left to the upstream"),
        field!(
            "data",
            Kind::List(&Kind::Any),
            Required,
            "The pictures: url is the path of each, to be asked for with the key that made it"
        ),
        task_lane::ERROR,
        task_lane::TALLYGATE,
    ],
};

static IMAGES: Shape = Shape {
    name: "ImageTasks",
    fields: &[
        task_lane::IS_LIST,
        field!(
            "data",
            Kind::List(&Kind::Object(&IMAGE)),
            Required,
            "The newest first, unless asked otherwise"
        ),
        task_lane::FIRST_ID,
        task_lane::LAST_ID,
        task_lane::HAS_MORE,
    ],
};

static DELETED: Shape = Shape {
    name: "ImageTaskDeleted",
    fields: &[
        task_lane::ID,
        field!("object", Kind::OneOf(&["image.deleted"]), Required, "What it is"),
        task_lane::IS_DELETED,
        task_lane::NOTE,
    ],
};

static ESTIMATE_INPUT: Shape = Shape { name: "ImageTaskRequest", fields: &[] };

static LIST_ROUTES: [Route; 2] = {
    let [v1, api] = both!(get, "/images", "listImageTasks", "The image tasks of this key", &IMAGES, list);
    [v1.query(&task_lane::LIST), api.query(&task_lane::LIST)]
};
static GET_ROUTES: [Route; 2] =
    both!(get, "/images/{id}", "getImageTask", "One of this key's image tasks", &IMAGE, get);
static DELETE_ROUTES: [Route; 2] = both!(
    delete,
    "/images/{id}",
    "deleteImageTask",
    "Cancels a task that runs, and hides it; one that is finished is hidden, and its pictures are removed",
    &DELETED,
    delete
);
static ESTIMATE_ROUTES: [Route; 2] = both!(
    post,
    "/images/estimate",
    "estimateImageTask",
    "What pictures can cost at the most; no task, no charge, no trace",
    &ESTIMATE_INPUT,
    &task_lane::ESTIMATE,
    estimate
);
static CHARGED_ROUTES: [Route; 2] = both!(
    get,
    "/images/{id}/charged",
    "wasImageTaskCharged",
    "Whether one of this key's image tasks was charged, with the evidence",
    &CHARGED,
    charged
);

pub static ROUTES: [&[Route]; 5] =
    [&LIST_ROUTES, &GET_ROUTES, &DELETE_ROUTES, &ESTIMATE_ROUTES, &CHARGED_ROUTES];

/// A task as OpenAI's image API would show it, if it had tasks.
pub fn view(task: &Task, currency: &str) -> Value {
    let made = if task.state == TaskState::Succeeded { task.results } else { 0 };
    let picture = |number| json!({"url": format!("/v1/images/{}/content?index={number}", task.id)});
    json!({
        "id": task.id,
        "object": "image",
        "model": task.model,
        "status": task_lane::status(task),
        "progress": task.progress,
        "created_at": task.created_ms / 1_000,
        "completed_at": task_lane::completed_at(task),
        "expires_at": task.expires_ms().map(|ms| ms / 1_000),
        "n": task.wish.images,
        "size": task.wish.resolution,
        "quality": task.wish.quality,
        "data": (0..made).map(picture).collect::<Vec<_>>(),
        "error": task_lane::error(task),
        "tallygate": task_lane::money(task, currency),
    })
}

/// A task as its lane shows it.
pub fn shown(task: &Task, currency: &str) -> Value {
    match task.wish.kind {
        TaskKind::Video => videos::view(task, currency),
        TaskKind::Image => view(task, currency),
    }
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::ok(view(&task_lane::own(call, TaskKind::Image)?, call.app.currency())))
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    task_lane::list(call, TaskKind::Image, view)
}

fn delete(call: &Call<'_>) -> Result<Reply, Problem> {
    task_lane::delete(call, TaskKind::Image, "image.deleted")
}

fn estimate(call: &Call<'_>) -> Result<Reply, Problem> {
    task_lane::estimate(call, TaskKind::Image)
}

fn charged(call: &Call<'_>) -> Result<Reply, Problem> {
    task_lane::charged(call, TaskKind::Image)
}
