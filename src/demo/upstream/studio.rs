//! A studio: an upstream that makes videos and pictures and speaks of its jobs in a way of its own, so that a channel has
//! to say how (`directory/task_api.rs`). What it makes lies at addresses that anybody may ask for.
//!
//! A job is submitted at `/studio/jobs` and has a name, a state – `WAITING`, `WORKING`, `DONE`, `BROKEN`, `STOPPED` – and
//! at its end what was made and what it costs. It is billed when it is done, its row on disk before that is told.
//!
//! Words in the text that change a job, for tests: `#polls=3` (questions until it is done), `#seconds=8` (how long it comes
//! out), `#bytes=100000` (how large its files are), `#status=429` (it is not taken, with that status), `#lost` (the answer to its submission is a gateway's that gave
//! up), `#nameless` (that answer names no job), `#broken` (it ends without a result), `#paused` (a state that nobody
//! knows), `#down` (questions about it are answered with 500), `#garbled` (with half a JSON), `#vanished` (with 404),
//! `#empty` (it is done and has no address), `#gone` (its address leads nowhere), `#never` (it does not end).

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use ledger::{Nano, Unit, Usage, rate};
use serde_json::{Value, json};

use super::BODY_BYTES_MAX;
use super::bill::{BillOutcome, Item};
use super::chat::wish;
use super::respond::{Body, full, gave_up, json};
use super::server::{Server, caller_of, fresh_id};
use super::videos::file_of;
use crate::clock::{Clock, SystemClock};
use crate::demo::prices::{DemoModel, STUDIO_IMAGE, STUDIO_VIDEO, model_at};
use crate::hex;

/// Below it, what the studio has.
pub(super) const PATH: &str = "/studio";
/// The header that its callers show their key in.
pub(super) const KEY_HEADER: &str = "x-studio-key";
/// Questions until a job is done.
const POLLS: u64 = 2;
/// Results are kept for two hours.
const KEPT_S: i64 = 7_200;
/// More jobs are not remembered.
const JOBS_MAX: usize = 100_000;

/// The jobs of one studio, in the order in which they came.
#[derive(Default)]
pub(super) struct Jobs(BTreeMap<u64, Job>);

#[derive(Clone)]
struct Job {
    name: String,
    caller: Option<String>,
    model: &'static DemoModel,
    text: String,
    /// Seconds of a video, or pictures.
    count: u64,
    size: String,
    polls: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Working,
    /// It is done, and its row of the bill is being written.
    Ending,
    Done,
    Broken,
    Stopped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Waiting => "WAITING",
            State::Working | State::Ending => "WORKING",
            State::Done => "DONE",
            State::Broken => "BROKEN",
            State::Stopped => "STOPPED",
        }
    }
}

impl Job {
    /// The fault is for the caller.
    fn read(body: &[u8], caller: Option<String>) -> Result<Self, String> {
        let asked: Value = serde_json::from_slice(body).map_err(|why| format!("no JSON: {why}"))?;
        let (engine, text) = (asked["engine"].as_str().unwrap_or_default(), &asked["input"]["text"]);
        let known = [STUDIO_VIDEO, STUDIO_IMAGE].into_iter().find(|known| *known == engine);
        let endpoints = crate::gateway::facts::Endpoint::ALL;
        let model = known.and_then(|name| endpoints.into_iter().find_map(|at| model_at(at, name)));
        let model = model.ok_or_else(|| format!("no engine `{engine}`"))?;
        let text = text.as_str().filter(|text| !text.is_empty()).ok_or("input.text is empty")?;
        let options = &asked["options"];
        let count = if model.name == STUDIO_VIDEO { &options["length"] } else { &options["count"] };
        let count = count.as_u64().ok_or("options: how much is to be made?")?;
        Ok(Job {
            name: format!("job-{}", fresh_id()),
            caller,
            model,
            count: wish(text, "#seconds").unwrap_or(count),
            text: text.to_owned(),
            size: options["frame"].as_str().unwrap_or_default().replace('*', "x"),
            polls: 0,
            state: State::Waiting,
        })
    }

    fn unit(&self) -> Unit {
        if self.model.name == STUDIO_VIDEO { Unit::Second } else { Unit::Image }
    }

    /// Goes on by one question.
    fn go_on(&mut self) {
        if !matches!(self.state, State::Waiting | State::Working) {
            return;
        }
        self.polls += 1;
        let is_due = self.polls >= wish(&self.text, "#polls").unwrap_or(POLLS);
        self.state = match is_due && !self.text.contains("#never") {
            true if self.text.contains("#broken") => State::Broken,
            true => State::Ending,
            false => State::Working,
        };
    }

    fn item(&self) -> Item {
        let mut usage = Usage::default();
        usage.set_units(self.unit(), self.count.saturating_mul(self.unit().counted_per_priced()));
        Item {
            upstream_request_id: self.name.clone(),
            answer_id: self.name.clone(),
            gateway_request_id: self.caller.clone(),
            model: self.model.name,
            usage,
            price: self.model.price_of(&self.size, ""),
            outcome: BillOutcome::Whole,
            at_ms: SystemClock.now_ms(),
        }
    }

    fn view(&self, host: &str) -> Value {
        let word = if self.text.contains("#paused") { "PAUSED" } else { self.state.word() };
        let mut job = json!({"name": self.name, "state": word, "done_percent": self.polls * 10});
        match self.state {
            State::Done => {
                let item = self.item();
                let cost = rate(&item.price, &item.usage, 1_000_000).map_or(Nano::MAX, |rated| rated.total);
                let number = if self.unit() == Unit::Second { 1 } else { self.count };
                let kind = if self.text.contains("#gone") { "nowhere" } else { "files" };
                let file = |number| json!({"link": format!("http://{host}{PATH}/{kind}/{number}/{}", hex::encode(self.text.as_bytes()))});
                let files: Vec<Value> = (1..=number).map(file).collect();
                job["files"] = if self.text.contains("#empty") { json!([]) } else { json!(files) };
                job["files_until"] = json!(SystemClock.now_ms() / 1_000 + KEPT_S);
                job["spent"] = json!({"amount": self.count, "price": cost.to_string()});
            }
            State::Broken => {
                job["reason"] = json!({"word": "content_refused", "text": "The studio will not make that."})
            }
            State::Waiting | State::Working | State::Ending | State::Stopped => {}
        }
        json!({"job": job})
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

    fn of(&mut self, name: &str) -> Option<&mut Job> {
        self.0.values_mut().rev().find(|job| job.name == name)
    }
}

impl Server {
    pub(super) async fn studio(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().strip_prefix(PATH).unwrap_or_default().to_owned();
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default().to_owned();
        match (request.method(), path.trim_start_matches('/').split('/').collect::<Vec<_>>().as_slice()) {
            (&Method::GET, ["files", number, text]) => file(number, text),
            (&Method::GET, ["nowhere", ..]) => fault(StatusCode::NOT_FOUND, "no such file"),
            _ if !self.shows_key(&request, KEY_HEADER) => fault(StatusCode::UNAUTHORIZED, "no such key"),
            (&Method::POST, ["jobs"]) => self.take_job(request, &host).await,
            (&Method::GET, ["jobs", name]) => self.job(name, &host).await,
            (&Method::POST, ["jobs", name, "stop"]) => self.stop_job(name),
            _ => fault(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    async fn take_job(&self, request: Request<Incoming>, host: &str) -> Response<Body> {
        let caller = caller_of(&request);
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
            return fault(StatusCode::PAYLOAD_TOO_LARGE, "the body is broken or too large");
        };
        let job = match Job::read(&body.to_bytes(), caller) {
            Ok(job) => job,
            Err(why) => return fault(StatusCode::BAD_REQUEST, &why),
        };
        let status = wish(&job.text, "#status").and_then(|status| u16::try_from(status).ok());
        if let Some(status) = status.and_then(|status| StatusCode::from_u16(status).ok()) {
            return fault(status, "it was asked to fail");
        }
        let (mut view, text) = (job.view(host), job.text.clone());
        self.studio_jobs.lock().add(job);
        if text.contains("#lost") {
            return gave_up();
        }
        if text.contains("#nameless") {
            view["job"]["name"] = Value::Null;
        }
        json(StatusCode::OK, &view)
    }

    /// A question is what makes a job go on.
    async fn job(&self, name: &str, host: &str) -> Response<Body> {
        let asked = self.studio_jobs.lock().of(name).map(|job| {
            let before = job.state;
            job.go_on();
            (job.clone(), before)
        });
        let Some((job, before)) = asked else { return fault(StatusCode::NOT_FOUND, "no such job") };
        for (word, answer) in [
            ("#down", fault(StatusCode::INTERNAL_SERVER_ERROR, "the studio is down")),
            ("#vanished", fault(StatusCode::NOT_FOUND, "no such job")),
            ("#garbled", full(StatusCode::OK, "application/json", Bytes::from_static(b"{\"job\": {\"sta"))),
        ] {
            if job.text.contains(word) {
                return answer;
            }
        }
        if job.state != State::Ending || before == State::Ending {
            return json(StatusCode::OK, &job.view(host));
        }
        let billed = self.bill.append(job.item()).await;
        let mut jobs = self.studio_jobs.lock();
        match jobs.of(name) {
            Some(job) if billed => {
                job.state = State::Done;
                json(StatusCode::OK, &job.view(host))
            }
            _ => fault(StatusCode::NOT_FOUND, "no such job"),
        }
    }

    fn stop_job(&self, name: &str) -> Response<Body> {
        let mut jobs = self.studio_jobs.lock();
        match jobs.of(name) {
            Some(job) if matches!(job.state, State::Waiting | State::Working) => {
                job.state = State::Stopped;
                json(StatusCode::OK, &json!({"stopped": true}))
            }
            // What is being billed is done.
            Some(_) => fault(StatusCode::CONFLICT, "it has ended"),
            None => fault(StatusCode::NOT_FOUND, "no such job"),
        }
    }
}

fn file(number: &str, text: &str) -> Response<Body> {
    match hex::decode_vec(text) {
        Some(text) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let file = file_of(&text, format!("file {number} of {text}"));
            full(StatusCode::OK, "application/octet-stream", file.into())
        }
        None => fault(StatusCode::NOT_FOUND, "no such file"),
    }
}

fn fault(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &json!({"fault": text}))
}

/// How a channel says all that.
pub fn task_api() -> Value {
    let mapping = |options: Value| {
        json!({
            "submit": {
                "path": "/jobs",
                "headers": {"x-studio-mode": "background"},
                "body": {"engine": "{model}", "input": {"text": "{prompt}", "style": "{/style}"}, "options": options},
            },
            "id": "/job/name",
            "poll": {"path": "/jobs/{id}"},
            "cancel": {"path": "/jobs/{id}/stop"},
            "state": "/job/state",
            "states": {"WAITING": "queued", "WORKING": "running", "DONE": "succeeded", "BROKEN": "failed", "STOPPED": "cancelled"},
            "progress": "/job/done_percent",
            "results": ["/job/files/*/link"],
            "expires_at": "/job/files_until",
            "failure_code": "/job/reason/word",
            "failure_message": "/job/reason/text",
            "used": "/job/spent/amount",
            "cost": "/job/spent/price",
        })
    };
    json!({
        "credential_header": KEY_HEADER,
        "video": mapping(json!({"length": "{seconds}", "frame": "{width}*{height}"})),
        "image": mapping(json!({"count": "{n}", "frame": "{width}*{height}"})),
    })
}
