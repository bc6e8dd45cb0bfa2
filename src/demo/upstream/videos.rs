//! OpenAI's video API as the upstream speaks it: jobs that go on when they are asked about, and end as their model
//! says. A video is billed when it is done, its row on disk before that is told.
//!
//! Words in the prompt that change a job, for tests: `#polls=3` (questions until it is done), `#delay_ms=50` (how
//! long the answer to its submission takes; the job is there at once), `#seconds=8` (how long it comes out),
//! `#bytes=100000` (how large its file is), `#moved` (the answer with its file leads to another one there), `#circle` (to
//! itself), `#away=8000` (to that port), `#lost` (the answer to its submission is a gateway's that gave up).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use ledger::{Unit, Usage};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::bill::{BillOutcome, Item};
use super::chat::{Rejection, model_of, wish};
use super::respond::{Body, full, gave_up, json, rejected};
use super::server::{Server, caller_of, fresh_id};
use super::{BODY_BYTES_MAX, form, wire};
use crate::clock::{Clock, SystemClock};
use crate::demo::prices::DemoModel;
use crate::gateway::facts::Endpoint;

/// Questions until a job is done.
const POLLS: u64 = 2;
/// Results are kept for a day.
const KEPT_S: i64 = 86_400;
/// More jobs are not remembered.
const JOBS_MAX: usize = 100_000;

/// Largest file that can be wished for, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A file that begins with these words, as large as the text wishes.
pub(super) fn file_of(text: &str, mut words: String) -> String {
    let bytes = wish(text, "#bytes").unwrap_or_default().min(FILE_BYTES_MAX);
    let missing = usize::try_from(bytes).unwrap_or_default().saturating_sub(words.len());
    words.extend(std::iter::repeat_n('.', missing));
    words
}

/// Where the answer with a file leads to instead.
fn leads_to(prompt: &str, query: Option<&str>) -> Option<String> {
    let away = wish(prompt, "#away").map(|port| format!("http://127.0.0.1:{port}/file"));
    let circle = prompt.contains("#circle").then(|| "content".to_owned());
    let is_first = query.is_none_or(|query| !query.contains("moved"));
    let near = (prompt.contains("#moved") && is_first).then(|| "content?moved".to_owned());
    away.or(circle).or(near)
}

fn moved(place: &str) -> Response<Body> {
    let mut response = full(StatusCode::FOUND, "text/plain", "".into());
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// The jobs of one upstream, in the order in which they came.
#[derive(Default)]
pub(super) struct Jobs(BTreeMap<u64, Job>);

#[derive(Clone)]
struct Job {
    id: String,
    caller: Option<String>,
    model: &'static DemoModel,
    prompt: String,
    seconds: u64,
    size: String,
    created_ms: i64,
    polls: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Running,
    /// It is done, and its row of the bill is being written.
    Ending,
    Done,
    Failed,
}

impl Job {
    fn read(media_type: &str, body: &[u8], caller: Option<String>) -> Result<Self, Rejection> {
        let fields: Value = match media_type.starts_with("multipart/") {
            true => form::read(media_type, body).ok_or_else(|| Rejection::invalid("body", "broken form"))?.0,
            false => serde_json::from_slice(body).map_err(|error| Rejection::unreadable(&error))?,
        };
        let text = |name: &str| fields[name].as_str().unwrap_or_default();
        let prompt = text("prompt").to_owned();
        if prompt.is_empty() {
            return Err(Rejection::invalid("prompt", "a prompt is needed"));
        }
        let seconds = match &fields["seconds"] {
            Value::Null => Some(12),
            Value::Number(seconds) => seconds.as_u64(),
            _ => text("seconds").parse().ok(),
        };
        let seconds = seconds.ok_or_else(|| Rejection::invalid("seconds", "not a number of seconds"))?;
        let size = if text("size").is_empty() { "1792x1024" } else { text("size") }.to_owned();
        Ok(Job {
            id: format!("video_{}", fresh_id()),
            caller,
            model: model_of(Endpoint::Videos, text("model"))?,
            seconds: wish(&prompt, "#seconds").unwrap_or(seconds),
            prompt,
            size,
            created_ms: SystemClock.now_ms(),
            polls: 0,
            state: State::Queued,
        })
    }

    /// Goes on by one question.
    fn go_on(&mut self) {
        if !matches!(self.state, State::Queued | State::Running) {
            return;
        }
        self.polls += 1;
        let is_due = self.polls >= wish(&self.prompt, "#polls").unwrap_or(POLLS);
        self.state = match self.model.name {
            "demo-video-fail" if is_due => State::Failed,
            "demo-video" if is_due => State::Ending,
            _ => State::Running,
        };
    }

    fn view(&self) -> Value {
        let done = self.state == State::Done;
        let created = self.created_ms / 1_000;
        json!({
            "id": self.id,
            "object": "video",
            "model": self.model.name,
            "status": match self.state {
                State::Queued => "queued",
                State::Running | State::Ending => "in_progress",
                State::Done => "completed",
                State::Failed => "failed",
            },
            "progress": if done { 100 } else { (self.polls * 10).min(90) },
            "prompt": self.prompt,
            "seconds": self.seconds.to_string(),
            "size": self.size,
            "created_at": created,
            "completed_at": done.then_some(created + 1),
            "expires_at": done.then_some(created + KEPT_S),
            "remixed_from_video_id": null,
            "error": (self.state == State::Failed).then(|| json!({
                "code": "moderation_blocked", "message": "The prompt was refused by the demo's moderation.",
            })),
        })
    }

    fn item(&self) -> Item {
        let mut usage = Usage::default();
        usage.set_units(Unit::Second, self.seconds * 1_000);
        Item {
            upstream_request_id: self.id.clone(),
            answer_id: self.id.clone(),
            gateway_request_id: self.caller.clone(),
            model: self.model.name,
            usage,
            price: self.model.price_of(&self.size, ""),
            outcome: BillOutcome::Whole,
            at_ms: SystemClock.now_ms(),
        }
    }
}

impl Jobs {
    fn add(&mut self, job: Job) {
        let number = self.0.last_key_value().map_or(1, |(last, _)| last + 1);
        self.0.insert(number, job);
        if self.0.len() > JOBS_MAX {
            self.0.pop_first();
        }
    }

    fn of(&mut self, id: &str) -> Option<&mut Job> {
        self.0.values_mut().rev().find(|job| job.id == id)
    }

    /// The newest first.
    fn list(&self, limit: usize) -> Value {
        let data: Vec<_> = self.0.values().rev().take(limit).map(Job::view).collect();
        json!({"object": "list", "has_more": self.0.len() > limit, "data": data})
    }
}

impl Server {
    pub(super) async fn videos(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let below = path.strip_prefix("/v1/videos").unwrap_or_default().trim_start_matches('/');
        let (id, content) = match below.strip_suffix("/content") {
            Some(id) => (id, true),
            None => (below, false),
        };
        match (request.method(), id.is_empty(), content) {
            (&Method::POST, true, _) => self.make_video(request).await,
            (&Method::GET, true, _) => {
                let limit = request.uri().query().and_then(|query| query.split("limit=").nth(1));
                let limit = limit.and_then(|limit| limit.split('&').next()?.parse().ok()).unwrap_or(20);
                json(StatusCode::OK, &self.jobs.lock().list(limit))
            }
            (&Method::GET, false, false) => self.video(id).await,
            (&Method::GET, false, true) => self.video_content(id, request.uri().query()),
            (&Method::DELETE, false, false) => self.delete_video(id),
            _ => not_found(id),
        }
    }

    async fn make_video(&self, request: Request<Incoming>) -> Response<Body> {
        let caller = caller_of(&request);
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
            let body = wire::error("invalid_request_error", None, None, "The body is broken or too large.");
            return json(StatusCode::PAYLOAD_TOO_LARGE, &body);
        };
        let job = match Job::read(&media_type, &body.to_bytes(), caller) {
            Ok(job) => job,
            Err(rejection) => return rejected(&rejection),
        };
        let (view, prompt) = (job.view(), job.prompt.clone());
        self.jobs.lock().add(job);
        sleep(Duration::from_millis(wish(&prompt, "#delay_ms").unwrap_or(0).min(60_000))).await;
        if prompt.contains("#lost") {
            return gave_up();
        }
        json(StatusCode::OK, &view)
    }

    /// A question is what makes a job go on.
    async fn video(&self, id: &str) -> Response<Body> {
        let asked = self.jobs.lock().of(id).map(|job| {
            let before = job.state;
            job.go_on();
            (job.clone(), before)
        });
        let Some((job, before)) = asked else { return not_found(id) };
        if job.state != State::Ending || before == State::Ending {
            return json(StatusCode::OK, &job.view());
        }
        // It goes on if the caller leaves: a job whose row is written is done.
        let (jobs, written, name) = (Arc::clone(&self.jobs), self.bill.enqueue(job.item()), id.to_owned());
        let ended = tokio::spawn(async move {
            let billed = written.await.unwrap_or(false);
            let mut jobs = jobs.lock();
            let job = jobs.of(&name).filter(|_| billed)?;
            job.state = State::Done;
            Some(job.view())
        });
        match ended.await {
            Ok(Some(view)) => json(StatusCode::OK, &view),
            _ => not_found(id),
        }
    }

    fn video_content(&self, id: &str, query: Option<&str>) -> Response<Body> {
        let made =
            self.jobs.lock().of(id).filter(|job| job.state == State::Done).map(|job| job.prompt.clone());
        match made {
            Some(prompt) => match leads_to(&prompt, query) {
                Some(place) => moved(&place),
                None => {
                    full(StatusCode::OK, "video/mp4", file_of(&prompt, format!("a video of {prompt}")).into())
                }
            },
            None => not_found(id),
        }
    }

    fn delete_video(&self, id: &str) -> Response<Body> {
        let mut jobs = self.jobs.lock();
        match jobs.of(id).map(|job| job.state) {
            None => not_found(id),
            // It is done, and its row of the bill is being written.
            Some(State::Ending) => {
                let message = format!("Video with id '{id}' is being completed.");
                json(StatusCode::CONFLICT, &wire::error("invalid_request_error", None, None, &message))
            }
            Some(_) => {
                jobs.0.retain(|_, job| job.id != id);
                json(StatusCode::OK, &json!({"id": id, "object": "video.deleted", "deleted": true}))
            }
        }
    }
}

fn not_found(id: &str) -> Response<Body> {
    let message = format!("Video with id '{id}' not found.");
    json(StatusCode::NOT_FOUND, &wire::error("invalid_request_error", None, None, &message))
}
