//! OpenAI's video API (<https://platform.openai.com/docs/api-reference/videos>).

use serde_json::Value;

use super::{Found, News, Product, Question, Submission, Task, failed, milliseconds};
use crate::gateway::request::{Edits, sha256};

/// Clocks of ours and of the upstream may differ by so much.
const SKEW_MS: i64 = 5_000;
/// A submission reaches the upstream within this time, or never.
const ON_ITS_WAY_MS: i64 = 120_000;

/// The body as it came, but for the model's name and what the caller left open.
pub fn submit(task: &Task, submission: &Submission) -> Question {
    let Submission { request, wish, body, media_type } = submission;
    let renamed = Some(&*task.upstream_model).filter(|name| **name != *task.model);
    let body = request.rewrite(body, &Edits { upstream_model: renamed, ..Edits::default() });
    Question {
        method: http::Method::POST,
        path: "/videos".to_owned(),
        headers: Vec::new(),
        content_type: Some(media_type.clone().unwrap_or_else(|| "application/json".into())),
        body: wish.complete(media_type.as_deref(), &body),
    }
}

pub fn id(video: &Value) -> Option<&str> {
    video["id"].as_str()
}

pub fn news(task: &Task, video: &Value) -> News {
    match video["status"].as_str() {
        Some("queued") => News::Queued,
        Some("in_progress") => News::Running { progress: progress(&video["progress"]) },
        Some("completed") => {
            let expires_ms = video["expires_at"].as_i64().map(|seconds| seconds.saturating_mul(1_000));
            News::Made(Product::of(task, milliseconds(&video["seconds"]), expires_ms))
        }
        Some("failed") => {
            let code = video["error"]["code"].as_str().unwrap_or("upstream_failed");
            let text = video["error"]["message"].as_str().unwrap_or("The upstream could not make it.");
            News::Failed(failed(code, text))
        }
        _ => News::Unclear("the answer has no status that is known".into()),
    }
}

pub fn progress(value: &Value) -> u32 {
    value.as_f64().map_or(0, |percent| percent.clamp(0.0, 100.0) as u32)
}

/// The list has no name of ours, so that a task is recognised by its content and the time at which it came. Of
/// several that are alike, each is as good as the other.
pub fn found(task: &Task, list: &Value) -> Found {
    let Some(videos) = list["data"].as_array() else { return Found::Unclear };
    let made_ms = |video: &Value| video["created_at"].as_i64().unwrap_or(0).saturating_mul(1_000);
    let is_ours = |video: &&Value| {
        let at = made_ms(video);
        let in_time = at >= task.created_ms - SKEW_MS && at <= task.created_ms + ON_ITS_WAY_MS;
        let same_prompt =
            video["prompt"].as_str().is_some_and(|prompt| sha256(prompt.as_bytes()) == task.wish.prompt_hash);
        let same_size =
            task.wish.resolution.is_none() || video["size"].as_str() == task.wish.resolution.as_deref();
        in_time
            && same_prompt
            && same_size
            && video["model"].as_str() == Some(&*task.upstream_model)
            && milliseconds(&video["seconds"]) == Some(task.wish.duration_ms)
    };
    let ours: Vec<Box<str>> =
        videos.iter().filter(is_ours).filter_map(|video| id(video).map(Into::into)).collect();
    let tells_prompts = videos.iter().all(|video| video["prompt"].is_string());
    let reaches_back = list["has_more"] != true
        || videos.last().is_some_and(|oldest| made_ms(oldest) < task.created_ms - SKEW_MS);
    match ours.is_empty() {
        false => Found::These(ours),
        true if tells_prompts && reaches_back => Found::Nothing,
        true => Found::Unclear,
    }
}
