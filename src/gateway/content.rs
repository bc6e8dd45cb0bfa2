//! What a task has made, fetched from its upstream with the gateway's own credential and passed on as it comes.
//!
//! Passes rungs 1 and 2 alone, as everything that a caller asks about its own tasks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::api;
use crate::catalogue::{Code, Refusal};
use crate::id::TaskId;
use crate::tasks::{Place, TaskError};

use super::answer::AnswerBody;
use super::pipeline::Arrival;
use super::respond::{self, X_REQUEST_ID};
use super::submit::blocking;
use super::upstream::{Answer, AnswerStream, Call, Target};

impl Arrival {
    pub(super) async fn content(self, request: &Request<Incoming>, id: &str) -> Response<AnswerBody> {
        match self.fetch(request, id).await {
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
        id: &str,
    ) -> Result<Response<AnswerBody>, Box<Refusal>> {
        let app = Arc::clone(&self.worker.gateway.app);
        let key = api::identify(&app, request.headers()).map_err(api::Problem::refusal)?.key;
        let not_found = || api::Problem::NotFound.refusal();
        let id: TaskId = id.parse().map_err(|_| not_found())?;
        let variant = variant(request.uri().query())?;
        let tasks = Arc::clone(&app.tasks);
        let found = blocking(move || {
            let task = tasks.get(id)?;
            if task.key != key || task.deleted_ms.is_some() {
                return Err(TaskError::NotFound);
            }
            let place = tasks.place(&task, variant)?;
            Ok((task, place))
        });
        let (task, place) = found.await.map_err(|why| api::Problem::from(why).refusal())?;
        let now_ms = app.clock.now_ms();
        if task.result_expires_ms.is_some_and(|end| end <= now_ms) {
            return Err(gone(id));
        }
        let Some(place) = place else {
            let refusal = Refusal::new(Code::TaskNotFinished).param("task", id.to_string());
            return Err(Box::new(refusal.param("state", task.state.as_str())));
        };
        let answer = self.ask(&place).await.ok_or_else(|| unreachable(&task.model))?;
        match answer.status.as_u16() {
            200 => Ok(self.pass_on(answer)),
            404 | 410 => Err(gone(id)),
            _ => Err(unreachable(&task.model)),
        }
    }

    async fn ask(&self, place: &Place) -> Option<Answer> {
        let target = Target::parse(&place.base).ok()?;
        let headers = &place.headers;
        let call =
            Call { target: &target, method: Method::GET, path: &place.path, headers, body: Bytes::new() };
        self.worker.upstreams.send(call).await.ok()
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

fn gone(id: TaskId) -> Box<Refusal> {
    Box::new(Refusal::new(Code::TaskResultGone).param("task", id.to_string()))
}

fn unreachable(model: &str) -> Box<Refusal> {
    Box::new(Refusal::new(Code::UpstreamError).param("model", model))
}
