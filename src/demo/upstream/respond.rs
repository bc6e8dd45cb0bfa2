//! Answers of the upstream as HTTP has them, and its refusals.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{Either, Full};
use serde_json::Value;
use tokio::sync::mpsc;

use super::chat::Rejection;
use super::{made, wire, wire_anthropic, wire_gemini};
use crate::gateway::convert::Format;
use crate::gateway::facts::Endpoint;

/// What `demo-429` asks to wait, in seconds.
const RETRY_AFTER: &str = "2";

pub(super) type Body = Either<Full<Bytes>, Chunks>;

/// A failure with this status, in the words of the endpoint's format.
pub(super) fn failed(endpoint: Endpoint, status: u16, message: &str) -> Response<Body> {
    let (code, body) = match endpoint.format() {
        Some(Format::Anthropic) => wire_anthropic::error(status, message),
        Some(Format::Gemini) => wire_gemini::error(status, message),
        _ => (status, wire::failure(status, message)),
    };
    let mut response = json(StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY), &body);
    if status == 429 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

pub(super) fn rejected(rejection: &Rejection) -> Response<Body> {
    let status = StatusCode::from_u16(rejection.status).unwrap_or(StatusCode::BAD_REQUEST);
    json(status, &wire::rejection(rejection))
}

pub(super) fn busy() -> Response<Body> {
    let message = "Rate limit reached for demo-429. Please try again in 2s.";
    let body = wire::error("requests", Some("rate_limit_exceeded"), None, message);
    let mut response = json(StatusCode::TOO_MANY_REQUESTS, &body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    response
}

pub(super) fn no_credit() -> Response<Body> {
    let message = "You exceeded your current quota, please check your plan and billing details.";
    let body = wire::error("insufficient_quota", Some("insufficient_quota"), None, message);
    json(StatusCode::TOO_MANY_REQUESTS, &body)
}

/// What a gateway in between says.
pub(super) fn gave_up() -> Response<Body> {
    full(StatusCode::GATEWAY_TIMEOUT, "text/html", Bytes::from_static(b"<h1>504</h1>"))
}

/// Whoever knows its address may see it.
pub(super) fn picture(path: &str) -> Response<Body> {
    let prompt = path.strip_prefix(made::PICTURES).and_then(crate::hex::decode_vec);
    match prompt {
        Some(prompt) => full(StatusCode::OK, "image/png", [b"echo: ".as_slice(), &prompt].concat().into()),
        None => full(StatusCode::NOT_FOUND, "text/plain", Bytes::from_static(b"no such picture")),
    }
}

pub(super) fn broken() -> Response<Body> {
    let message = "The server had an error while processing your request. Sorry about that!";
    json(StatusCode::INTERNAL_SERVER_ERROR, &wire::error("server_error", None, None, message))
}

pub(super) fn json(status: StatusCode, body: &Value) -> Response<Body> {
    full(status, "application/json", body.to_string().into())
}

pub(super) fn full(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer whose body comes in pieces.
pub(super) fn chunked(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Response<Body> {
    Response::new(Either::Right(Chunks(pieces)))
}

/// A body whose chunks come from a task.
pub(super) struct Chunks(mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|bytes| bytes.map(Frame::data)))
    }
}
