//! What a task has made: from its copy where there is one, else fetched from its upstream with the gateway's own
//! credential; passed on as it comes.
//!
//! Passes rungs 1 and 2 alone, as everything that a caller asks about its own tasks.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::api;
use crate::catalogue::{Code, Refusal};
use crate::id::TaskId;
use crate::tasks::{Fault, Kept, Place, Reader, Task, TaskError, TaskState};

use super::answer::AnswerBody;
use super::facts::Endpoint;
use super::pipeline::Arrival;
use super::respond::{self, X_REQUEST_ID};
use super::submit::blocking;
use super::upstream::{Answer, AnswerStream};
use super::worker::Worker;

impl Arrival {
    /// `lane`: where it is asked for.
    pub(super) async fn content(
        self,
        request: &Request<Incoming>,
        lane: Endpoint,
        id: &str,
    ) -> Response<AnswerBody> {
        match self.fetch(request, lane, id).await {
            Ok(answer) => answer,
            Err(refusal) => {
                let addressee = super::respond::Addressee { logged: false, ..self.addressee(false) };
                addressee.refusal(&refusal)
            }
        }
    }

    async fn fetch(
        &self,
        request: &Request<Incoming>,
        lane: Endpoint,
        id: &str,
    ) -> Result<Response<AnswerBody>, Box<Refusal>> {
        let app = Arc::clone(&self.worker.gateway.app);
        let key = api::identify(&app, request.headers()).map_err(api::Problem::refusal)?.key;
        let not_found = || api::Problem::NotFound.refusal();
        let id: TaskId = id.parse().map_err(|_| not_found())?;
        let query = request.uri().query();
        let (variant, number) = match lane {
            Endpoint::Images => (None, number(query)?),
            _ => (variant(query)?, 0),
        };
        let found = {
            let tasks = Arc::clone(&app.tasks);
            blocking(move || {
                let task = tasks.get(id)?;
                if task.key != key || task.deleted_ms.is_some() || task.wish.kind.lane() != lane {
                    return Err(TaskError::NotFound);
                }
                let copy = if is_result(variant) { tasks.kept(id, number)? } else { None };
                Ok((task, copy))
            })
        };
        let (task, copy) = found.await.map_err(|why| api::Problem::from(why).refusal())?;
        let copy = match copy {
            None => None,
            Some(Ok(kept)) => match self.copied(kept).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => Some(fault),
            },
            Some(Err(fault)) => Some(fault),
        };
        let answer = self.at_its_source(&task, number, variant).await;
        match (answer, copy) {
            (Err(_), Some(fault @ Fault::Unavailable(_))) => {
                tracing::warn!(task = %id, %fault, "a copy of a result cannot be read");
                Err(Box::new(Refusal::new(Code::TaskResultUnavailable).param("task", id.to_string())))
            }
            (answer, _) => answer,
        }
    }

    /// From the gateway's own rows, or from whoever made it.
    async fn at_its_source(
        &self,
        task: &Task,
        number: u32,
        variant: Option<&'static str>,
    ) -> Result<Response<AnswerBody>, Box<Refusal>> {
        let app = &self.worker.gateway.app;
        let now_ms = app.clock.now_ms();
        if task.result_expires_ms.is_some_and(|end| end <= now_ms) {
            return Err(gone(task.id));
        }
        let (tasks, asked) = (Arc::clone(&app.tasks), task.clone());
        let place = blocking(move || tasks.place(&asked, number, variant)).await;
        let Some(place) = place.map_err(|why| api::Problem::from(why).refusal())? else {
            if task.state == TaskState::Succeeded {
                return Err(api::Problem::NotFound.refusal());
            }
            return Err(Box::new(without_result(task, now_ms)));
        };
        let there = match place {
            Place::Here { content_type, content } => return Ok(self.here(&content_type, content)),
            Place::There(there) => there,
        };
        let answer = there.fetch(&self.worker.upstreams).await.map_err(|why| {
            tracing::warn!(task = %task.id, %why, "a result could not be fetched");
            unreachable(&task.model)
        })?;
        match answer.status.as_u16() {
            200 => Ok(self.pass_on(answer)),
            404 | 410 => Err(gone(task.id)),
            // An address that is signed for a while is refused behind it.
            403 if task.results > 0 => Err(gone(task.id)),
            _ => Err(unreachable(&task.model)),
        }
    }

    /// From the copy, whose first piece is known to be whole before anything of it is answered.
    async fn copied(&self, kept: Kept) -> Result<Response<AnswerBody>, Fault> {
        let (reader, first) = match kept.open(&self.worker.upstreams).await {
            Ok(opened) => opened,
            Err(fault) => {
                lost(&self.worker, kept, &fault).await;
                return Err(fault);
            }
        };
        let mut headers = HeaderMap::with_capacity(3);
        let kind = kept.copy.content_type.as_deref().unwrap_or_default();
        if let Ok(kind) = HeaderValue::from_str(kind) {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(kept.copy.length));
        if let Ok(id) = HeaderValue::from_bytes(&self.request.text()) {
            headers.insert(X_REQUEST_ID, id);
        }
        let (pieces, body) = AnswerBody::pieces();
        tokio::task::spawn_local(pass_copy(Rc::clone(&self.worker), kept, (reader, first), pieces));
        Ok(respond::response(StatusCode::OK, headers, body))
    }

    /// What the gateway itself keeps.
    fn here(&self, content_type: &str, content: Bytes) -> Response<AnswerBody> {
        let mut headers = HeaderMap::with_capacity(2);
        if let Ok(kind) = HeaderValue::from_str(content_type) {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        if let Ok(id) = HeaderValue::from_bytes(&self.request.text()) {
            headers.insert(X_REQUEST_ID, id);
        }
        respond::response(StatusCode::OK, headers, AnswerBody::whole(content))
    }

    fn pass_on(&self, answer: Answer) -> Response<AnswerBody> {
        let mut headers = HeaderMap::with_capacity(3);
        let told = |name| answer.headers.value(name);
        let kind = told("content-type").unwrap_or(HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some(length) = told("content-length") {
            headers.insert(header::CONTENT_LENGTH, length);
        }
        if let Ok(id) = HeaderValue::from_bytes(&self.request.text()) {
            headers.insert(X_REQUEST_ID, id);
        }
        let (pieces, body) = AnswerBody::pieces();
        let idle = self.worker.gateway.idle_timeout;
        tokio::task::spawn_local(pass(answer.body, pieces, idle));
        respond::response(StatusCode::OK, headers, body)
    }
}

/// A piece at a time, as fast as the caller takes them; one that breaks off ends without its length.
async fn pass(mut body: AnswerStream, pieces: mpsc::Sender<Bytes>, idle: Duration) {
    while let Ok(Ok(Some(piece))) = timeout(idle, body.next()).await {
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

/// The same of a copy. One that turns out not to be whole ends without its length, too.
async fn pass_copy(
    worker: Rc<Worker>,
    kept: Kept,
    (mut reader, first): (Reader, Option<Bytes>),
    pieces: mpsc::Sender<Bytes>,
) {
    let mut next = first;
    let idle = worker.gateway.idle_timeout;
    while let Some(piece) = next {
        if pieces.send(piece).await.is_err() {
            return;
        }
        let silent = || Err(Fault::Unavailable("the storage is silent".to_owned()));
        next = match timeout(idle, reader.next(&worker.upstreams)).await.unwrap_or_else(|_| silent()) {
            Ok(next) => next,
            Err(fault) => {
                tracing::warn!(task = %kept.copy.task, %fault, "a copy of a result broke off");
                return lost(&worker, kept, &fault).await;
            }
        };
    }
}

/// What is not there, or not whole, is not offered again.
async fn lost(worker: &Worker, kept: Kept, fault: &Fault) {
    if matches!(fault, Fault::Unavailable(_)) {
        return;
    }
    let (tasks, fault) = (Arc::clone(&worker.gateway.app.tasks), fault.clone());
    if let Err(why) = blocking(move || tasks.copy_lost(kept.copy, &fault)).await {
        tracing::warn!(%why, "a lost copy could not be noted");
    }
}

/// Copies are made of the result itself, not of what an upstream shows of it besides.
fn is_result(variant: Option<&str>) -> bool {
    matches!(variant, None | Some("video"))
}

/// `?variant=`, as OpenAI's API has it.
fn variant(query: Option<&str>) -> Result<Option<&'static str>, Box<Refusal>> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let Some((_, asked)) = pairs.find(|(name, _)| name == "variant") else { return Ok(None) };
    let known = ["video", "thumbnail", "spritesheet"].into_iter().find(|known| *known == asked);
    known.map(Some).ok_or_else(|| {
        let refusal = Refusal::new(Code::InvalidParameter).field("variant");
        Box::new(refusal.param("reason", "it must be video, thumbnail or spritesheet"))
    })
}

/// `?index=`: which of several pictures, from 0.
fn number(query: Option<&str>) -> Result<u32, Box<Refusal>> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let Some((_, asked)) = pairs.find(|(name, _)| name == "index") else { return Ok(0) };
    asked.parse().map_err(|_| {
        let refusal = Refusal::new(Code::InvalidParameter).field("index");
        Box::new(refusal.param("reason", "it must be a whole number, from 0"))
    })
}

/// Nothing is there yet, or never will be.
fn without_result(task: &Task, now_ms: i64) -> Refusal {
    let of = |code| Refusal::new(code).param("task", task.id.to_string()).param("state", task.state.as_str());
    if task.state.is_final() {
        return of(Code::TaskWithoutResult);
    }
    // Nothing can change before its upstream is asked again.
    let until_asked = task.poll_ms.map_or(0, |at_ms| at_ms.saturating_sub(now_ms));
    let until_asked = u64::try_from(until_asked).unwrap_or(0);
    of(Code::TaskNotFinished).retry_after_ms(until_asked.clamp(RETRY_MS_MIN, RETRY_MS_MAX))
}

/// When to come again for the result of a task that runs.
const RETRY_MS_MIN: u64 = 1_000;
const RETRY_MS_MAX: u64 = 10_000;

fn gone(id: TaskId) -> Box<Refusal> {
    Box::new(Refusal::new(Code::TaskResultGone).param("task", id.to_string()))
}

fn unreachable(model: &str) -> Box<Refusal> {
    Box::new(Refusal::new(Code::UpstreamError).param("model", model))
}
