//! A call of a model that answers in text, on its way out: whole or as a stream, and the ways in which it breaks off.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use ledger::Usage;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::answer::Answer;
use super::bill::{BillOutcome, Item};
use super::chat::{Behaviour, Chat};
use super::respond::{Body, broken, chunked, full};
use super::server::{Server, fresh_id};
use super::{UPSTREAM_REQUEST_HEADER, wire, wire_anthropic, wire_gemini, wire_text};
use crate::clock::{Clock, SystemClock};
use crate::gateway::facts::Endpoint;

/// Between the chunks of `demo-slow`.
const SLOW_CHUNK: Duration = Duration::from_millis(50);
/// Before a stream is broken off, so that what was sent has arrived: a reset
/// throws away what the other side has not read.
const BEFORE_RESET: Duration = Duration::from_millis(100);

/// One call that is being answered.
pub(super) struct Call {
    server: Arc<Server>,
    chat: Chat,
    answer: Answer,
    head: wire::Head,
    upstream_id: String,
    caller: Option<String>,
}

impl Call {
    pub fn new(server: Arc<Server>, chat: Chat, answer: Answer, caller: Option<String>) -> Self {
        let (now_ms, id) = (SystemClock.now_ms(), fresh_id());
        let kind = match chat.endpoint {
            Endpoint::Messages => "msg_",
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => "gemini_",
            Endpoint::Completions => "cmpl-",
            Endpoint::Responses => "resp_",
            _ => "chatcmpl-",
        };
        let head = wire::Head { answer_id: format!("{kind}{id}"), created_s: now_ms.div_euclid(1000) };
        Self { server, chat, answer, head, upstream_id: format!("up_{id}"), caller }
    }

    fn item(&self, usage: Usage, outcome: BillOutcome) -> Item {
        Item {
            upstream_request_id: self.upstream_id.clone(),
            answer_id: self.head.answer_id.clone(),
            gateway_request_id: self.caller.clone(),
            model: self.chat.model.name,
            usage,
            price: self.chat.model.price,
            outcome,
            at_ms: SystemClock.now_ms(),
        }
    }

    fn named(&self, mut response: Response<Body>) -> Response<Body> {
        if let Ok(id) = HeaderValue::from_str(&self.upstream_id) {
            response.headers_mut().insert(UPSTREAM_REQUEST_HEADER, id);
        }
        response
    }

    /// As its request and its model would have it.
    pub async fn answer(self, reset: Arc<AtomicBool>) -> Response<Body> {
        if self.chat.behaviour == Behaviour::Lost {
            return self.lost().await;
        }
        if self.chat.stream { self.stream(reset) } else { self.whole(reset).await }
    }

    /// The whole answer, its row first.
    async fn whole(self, reset: Arc<AtomicBool>) -> Response<Body> {
        let write = match self.chat.endpoint {
            Endpoint::ChatCompletions => wire::whole,
            Endpoint::Messages => wire_anthropic::whole,
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => wire_gemini::whole,
            _ => wire_text::whole,
        };
        let body = write(&self.chat, &self.answer, &self.head).to_string();
        if self.chat.behaviour == Behaviour::Cut {
            return self.broken_whole(body, reset);
        }
        if !self.server.bill.append(self.item(self.answer.usage, BillOutcome::Whole)).await {
            return broken();
        }
        self.named(full(StatusCode::OK, "application/json", body.into()))
    }

    /// The answer is made and billed, and its caller never hears of it.
    async fn lost(self) -> Response<Body> {
        let _written = self.server.bill.append(self.item(self.answer.usage, BillOutcome::Unsent)).await;
        std::future::pending().await
    }

    /// Half of a body, then nothing: no answer that anybody could use, so that
    /// it is not billed.
    fn broken_whole(self, mut body: String, reset: Arc<AtomicBool>) -> Response<Body> {
        let length = body.len();
        body.truncate(body.floor_char_boundary(length / 2));
        let (send, chunks) = mpsc::channel(1);
        let response = chunked(chunks);
        let mut response = self.named(response);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        tokio::spawn(async move {
            // The caller may be gone already, which is the same to it.
            let _sent = send.send(Ok(body.into())).await;
            cut(&send, &reset).await;
        });
        response
    }

    fn stream(self, reset: Arc<AtomicBool>) -> Response<Body> {
        let (send, chunks) = mpsc::channel(4);
        let mut response = self.named(chunked(chunks));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        tokio::spawn(self.speak(send, reset));
        response
    }

    /// Sends the events; the row of the bill is on disk before the last.
    async fn speak(self, send: mpsc::Sender<io::Result<Bytes>>, reset: Arc<AtomicBool>) {
        let pieces = self.answer.pieces();
        let cut_at = if self.chat.behaviour == Behaviour::Cut { pieces.len() / 2 } else { usize::MAX };
        let mut delivered = 0;
        let mut number = 0;
        let mut gone = !say(&send, self.opening(&mut number)).await;
        for (index, piece) in pieces.iter().enumerate() {
            if gone || index == cut_at {
                break;
            }
            if self.chat.behaviour == Behaviour::Slow {
                sleep(SLOW_CHUNK).await;
            }
            gone = !say(&send, self.piece(piece, &mut number)).await;
            if !gone {
                delivered += piece.len();
            }
        }
        let whole = delivered == self.answer.text.len();
        let outcome = match (gone, whole) {
            (true, _) => BillOutcome::CallerGone,
            (false, true) => BillOutcome::Whole,
            (false, false) => BillOutcome::Cut,
        };
        let usage = match self.answer.text.get(..delivered) {
            Some(text) if !whole => self.answer.usage_of(text),
            _ => self.answer.usage,
        };
        let billed = self.server.bill.append(self.item(usage, outcome)).await;
        if gone {
            return;
        }
        if billed && whole {
            // A caller that leaves now has had everything but the end.
            let _sent = send.send(Ok(self.closing(&mut number).into())).await;
        } else {
            cut(&send, &reset).await;
        }
    }
}

/// The events of a stream in the format of its endpoint; `number` counts those that are numbered.
impl Call {
    fn opening(&self, number: &mut u64) -> String {
        match self.chat.endpoint {
            Endpoint::ChatCompletions => wire::opening(&self.chat, &self.head),
            Endpoint::Messages => wire_anthropic::opening(&self.chat, &self.answer, &self.head),
            Endpoint::StreamGenerateContent => wire_gemini::opening(&self.chat, &self.head),
            _ => wire_text::opening(&self.chat, &self.head, number),
        }
    }

    fn piece(&self, piece: &str, number: &mut u64) -> String {
        match self.chat.endpoint {
            Endpoint::ChatCompletions => wire::piece(&self.chat, &self.head, piece),
            Endpoint::Messages => wire_anthropic::piece(&self.chat, piece),
            Endpoint::StreamGenerateContent => wire_gemini::piece(&self.chat, &self.head, piece),
            _ => wire_text::piece(&self.chat, &self.head, piece, number),
        }
    }

    fn closing(&self, number: &mut u64) -> String {
        match self.chat.endpoint {
            Endpoint::ChatCompletions => wire::closing(&self.chat, &self.answer, &self.head),
            Endpoint::Messages => wire_anthropic::closing(&self.chat, &self.answer),
            Endpoint::StreamGenerateContent => wire_gemini::closing(&self.chat, &self.answer, &self.head),
            _ => wire_text::closing(&self.chat, &self.answer, &self.head, number),
        }
    }
}

/// Sends a piece of a stream; an empty one would end it. False: nobody listens any more.
async fn say(send: &mpsc::Sender<io::Result<Bytes>>, text: String) -> bool {
    if text.is_empty() { !send.is_closed() } else { send.send(Ok(text.into())).await.is_ok() }
}

/// Breaks the connection off.
async fn cut(send: &mpsc::Sender<io::Result<Bytes>>, reset: &AtomicBool) {
    sleep(BEFORE_RESET).await;
    reset.store(true, Ordering::SeqCst);
    let _sent = send.send(Err(io::ErrorKind::ConnectionReset.into())).await;
}
