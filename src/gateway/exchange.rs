//! An admitted call on its way: forward → meter → settle. It runs as a task of its own, so that it ends in a
//! settlement or a release whether or not its caller waits for the answer.
//!
//! Promises: no byte of an answer leaves before its hold is on disk; no answer ends before its settlement
//! is on disk. A caller that leaves changes neither what is charged nor whether.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response};
use ledger::ReleaseReason;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::books::{BooksError, Held, Settlement, Ticket};
use crate::catalogue::{Code, Language, Refusal};
use crate::directory::{CapField as ChannelCapField, Price};
use crate::id::KeyId;

use super::answer::AnswerBody;
use super::facts::{Admitted, Ending};
use super::meter::{Meter, MeteredCall};
use super::provider::openai::{self, UpstreamFault, UpstreamFaultKind};
use super::request::{CapField, ChatRequest, Edits};
use super::respond::{self, Addressee};
use super::route::Route;
use super::settle::{self, Ended};
use super::upstream::{Answer, AnswerStream, Call, ForwardError};
use super::worker::{Interrupt, Worker};

/// The name that a caller gives its call, as OpenAI's API has it.
const CALLER_REQUEST: HeaderName = HeaderName::from_static("x-client-request-id");
/// An upstream's error is read up to this size.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// The upstream's own words are kept up to this size.
const ERROR_TEXT_BYTES_MAX: usize = 2 * 1024;

/// Everything that a call needs once it is admitted.
pub struct Exchange {
    pub worker: Rc<Worker>,
    pub held: Held,
    pub admitted: Admitted,
    pub price: Arc<Price>,
    pub route: Rc<Route>,
    pub request: ChatRequest,
    pub body: Bytes,
    pub language: Language,
    pub sees_account_money: bool,
    /// Boot-clock time at which the request arrived.
    pub arrived_ns: u64,
    pub reply: Option<oneshot::Sender<Response<AnswerBody>>>,
}

/// Why an upstream brought no answer, ready to be shown and kept.
pub(super) struct Failure {
    pub code: Code,
    pub status: Option<u16>,
    /// For operators; the caller sees it only where the catalogue says so.
    pub text: Box<str>,
    pub retry_after: Option<Duration>,
}

impl Exchange {
    pub async fn run(self) {
        let fields = self.upstream_fields();
        let path = "/chat/completions";
        let worker = Rc::clone(&self.worker);
        let route = Rc::clone(&self.route);
        let headers = self.upstream_headers();
        let call =
            Call { target: &route.target, method: Method::POST, path, headers: &headers, body: fields };
        let interrupted = worker.gateway.interrupted(self.key());
        let sent = tokio::select! {
            biased;
            sent = worker.upstreams.send(call) => sent,
            why = interrupted => return Box::pin(self.abandon(why)).await,
        };
        match sent {
            Err(why) => Box::pin(self.fail(Failure::from(&why), None)).await,
            Ok(answer) if answer.status.is_success() => {
                let upstream_request = upstream_request(&answer);
                if self.request.stream && is_event_stream(&answer) {
                    Box::pin(self.stream(answer, upstream_request)).await;
                } else {
                    self.whole(answer, upstream_request).await;
                }
            }
            Ok(mut answer) => {
                let upstream_request = upstream_request(&answer);
                let failure = self.read_error(&mut answer).await;
                Box::pin(self.fail(failure, upstream_request)).await;
            }
        }
    }

    /// The channel's own headers, and our name of the call, so that the upstream can tell it in its log.
    fn upstream_headers(&self) -> SmallVec<[(HeaderName, HeaderValue); 4]> {
        let request = self.held.decided().facts.request;
        let name = HeaderValue::from_bytes(&request.text()).ok();
        let own = name.map(|name| (CALLER_REQUEST, name));
        self.route.headers.iter().cloned().chain(own).collect()
    }

    /// The body as the upstream is to get it; the same bytes wherever nothing must change.
    fn upstream_fields(&self) -> Bytes {
        let channel = &self.route.channel;
        let upstream_model = channel.models.get(&self.request.model).map(|name| &**name);
        let field = match channel.output_cap_field {
            ChannelCapField::MaxCompletionTokens => CapField::MaxCompletionTokens,
            ChannelCapField::MaxTokens => CapField::MaxTokens,
        };
        let own_cap = self.request.output_cap.is_some();
        let edits = Edits {
            upstream_model: upstream_model.filter(|name| **name != *self.request.model),
            output_cap: (!own_cap).then_some((field, self.admitted.output_cap)),
            include_usage: self.request.stream,
        };
        self.request.rewrite(&self.body, &edits)
    }

    pub(super) fn meter(&self) -> Meter {
        Meter::new(Rc::new(MeteredCall {
            model: self.request.model.clone(),
            body: self.body.clone(),
            images: self.request.parts.images,
            input_tokens_bound: self.request.input_tokens_bound,
        }))
    }

    pub(super) fn addressee(&self) -> Addressee<'_> {
        Addressee {
            request: self.held.decided().facts.request,
            language: self.language,
            public_url: &self.worker.gateway.public_url,
            sees_account_money: self.sees_account_money,
            logged: true,
        }
    }

    pub(super) fn elapsed_us(&self) -> u64 {
        self.worker.gateway.app.clock.mono_ns().saturating_sub(self.arrived_ns) / 1_000
    }

    pub(super) fn ended(&self, status: u16, ending: Ending, upstream_request: Option<Box<str>>) -> Ended {
        Ended {
            status,
            ending,
            code: None,
            upstream_status: Some(200),
            upstream_request,
            upstream_error: None,
            first_byte_us: None,
            latency_us: self.elapsed_us(),
        }
    }

    pub(super) fn answer(&mut self, response: Response<AnswerBody>) {
        if let Some(reply) = self.reply.take() {
            // A caller that has gone gets nothing; that is all there is to it.
            let _gone = reply.send(response);
        }
    }

    pub(super) async fn durable(&self, ticket: Ticket) -> Result<(), BooksError> {
        let durability = self.worker.gateway.app.books.durability();
        durability.wait(self.worker.port, ticket).await.map_err(BooksError::from)
    }

    async fn read_error(&self, answer: &mut Answer) -> Failure {
        let patience = self.worker.gateway.idle_timeout;
        let body = match timeout(patience, answer.body.collect(ERROR_BODY_BYTES_MAX)).await {
            Ok(Ok(super::upstream::Collected::Whole(body) | super::upstream::Collected::Begun(body))) => body,
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        let now_s = self.worker.gateway.app.clock.now_ms() / 1_000;
        let headers: http::HeaderMap = answer.headers.iter().filter_map(header_pair).collect();
        Failure::from(openai::classify(answer.status.as_u16(), &headers, &body, now_s))
    }

    /// The upstream brought nothing: release, and say so.
    pub(super) async fn fail(self, failure: Failure, upstream_request: Option<Box<str>>) {
        let mut refusal = Refusal::new(failure.code).upstream_text(failure.text.clone());
        refusal = match failure.code {
            Code::UpstreamTimeout => refusal.param("limit_ms", self.worker.gateway.header_timeout_ms),
            _ => refusal.param("model", &*self.request.model),
        };
        if let Some(wait) = failure.retry_after {
            refusal = refusal.retry_after_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        let response = self.addressee().refusal(&refusal);
        let ended = Ended {
            code: Some(failure.code),
            upstream_status: failure.status,
            upstream_error: Some(cut(&failure.text).into()),
            ..self.ended(failure.code.status(), Ending::UpstreamFailed, upstream_request)
        };
        self.release(ReleaseReason::UpstreamFailed, ended, response).await;
    }

    /// Whose call it is.
    pub(super) fn key(&self) -> KeyId {
        // Only a known key's call is admitted.
        let credential = self.held.decided().facts.credential.passed();
        credential.map_or(KeyId::from_raw(0), |credential| credential.key)
    }

    /// The call must end before anything was delivered.
    async fn abandon(self, why: Interrupt) {
        let (ending, refusal) = (why.ending(), why.refusal());
        let response = self.addressee().refusal(&refusal);
        let (code, status) = (Some(refusal.code), refusal.code.status());
        let ended = Ended { code, upstream_status: None, ..self.ended(status, ending, None) };
        self.release(ReleaseReason::NothingDelivered, ended, response).await;
    }

    /// Gives the hold back and answers once that is on disk.
    pub(super) async fn release(self, reason: ReleaseReason, ended: Ended, response: Response<AnswerBody>) {
        let (mut rest, held) = self.take_held();
        match settle::release(held, reason, ended) {
            Ok(Settlement { ticket, .. }) if rest.durable(ticket).await.is_ok() => rest.answer(response),
            Ok(_) => {}
            Err(why) => tracing::error!(%why, "a call could not be released"),
        }
    }

    /// Settles by the meter; the price is the one that was frozen when the call was admitted.
    pub(super) async fn settle(self, meter: Meter, ended: Ended) -> Result<(Unheld, Settlement), BooksError> {
        let (usage, source) = meter.read().await;
        let (rest, held) = self.take_held();
        let settled = settle::settle(held, &rest.price, rest.admitted.multiplier_ppm, usage, source, ended)?;
        rest.durable(settled.ticket).await?;
        Ok((rest, settled))
    }

    pub(super) fn take_held(self) -> (Unheld, Held) {
        let request = self.held.decided().facts.request;
        let rest = Unheld {
            worker: self.worker,
            request,
            admitted: self.admitted,
            price: self.price,
            language: self.language,
            sees_account_money: self.sees_account_money,
            reply: self.reply,
        };
        (rest, self.held)
    }

    /// A whole answer: read, metered, settled, and only then given out. One of more than 1 MiB is passed on
    /// as it comes, but for its last piece.
    async fn whole(self, mut answer: Answer, upstream_request: Option<Box<str>>) {
        let content_type = content_type(&answer);
        drop(std::mem::take(&mut answer.headers));
        let collected = {
            let total = self.worker.gateway.total_timeout;
            let interrupted = self.worker.gateway.interrupted(self.key());
            tokio::select! {
                biased;
                collected = timeout(total, answer.body.collect(WHOLE_BYTES_MAX)) => collected,
                why = interrupted => return Box::pin(self.abandon(why)).await,
            }
        };
        use super::upstream::Collected;
        match collected {
            Err(_elapsed) => self.fail(Failure::timed_out(), upstream_request).await,
            Ok(Err(why)) => self.fail(Failure::from(&why), upstream_request).await,
            Ok(Ok(Collected::Whole(body))) if openai::is_error_body(&body) => {
                let failure = Failure::from(openai::classify(502, &http::HeaderMap::new(), &body, 0));
                self.fail(failure, upstream_request).await;
            }
            Ok(Ok(Collected::Whole(body))) => self.finish_whole(body, content_type, upstream_request).await,
            Ok(Ok(Collected::Begun(begun))) => {
                Box::pin(self.large(begun, answer.body, content_type, upstream_request)).await;
            }
        }
    }

    async fn finish_whole(self, body: Bytes, content_type: HeaderValue, upstream_request: Option<Box<str>>) {
        let mut meter = self.meter();
        match openai::usage_from_body(&body) {
            Some(usage) => meter.tell(usage),
            None => meter.deliver_whole(&body),
        }
        let mut ended = self.ended(200, Ending::Complete, upstream_request);
        ended.first_byte_us = Some(ended.latency_us);
        match self.settle(meter, ended).await {
            Ok((mut rest, settled)) => {
                let head = respond::head(rest.request, content_type, &rest.admitted, Some(settled.charged));
                rest.answer(respond::response(http::StatusCode::OK, head, AnswerBody::whole(body)));
            }
            Err(why) => tracing::error!(%why, "an answer could not be settled and was not given out"),
        }
    }

    async fn large(
        mut self,
        begun: Bytes,
        mut rest: AnswerStream,
        content_type: HeaderValue,
        upstream_request: Option<Box<str>>,
    ) {
        if self.durable(self.held.ticket()).await.is_err() {
            return;
        }
        let (pieces, body) = AnswerBody::pieces();
        let head = respond::head(self.held.decided().facts.request, content_type, &self.admitted, None);
        let first_byte_us = Some(self.elapsed_us());
        self.answer(respond::response(http::StatusCode::OK, head, body));
        let mut tap = openai::BodyTap::default();
        tap.push(&begun);
        let mut meter = self.meter();
        meter.deliver_whole(&begun);
        let (mut last, mut ending) = (begun, Ending::Complete);
        let mut total = last.len() as u64;
        let idle = self.worker.gateway.idle_timeout;
        let worker = Rc::clone(&self.worker);
        let mut interrupted = std::pin::pin!(worker.gateway.interrupted(self.key()));
        loop {
            let piece = tokio::select! {
                biased;
                piece = timeout(idle, rest.next()) => piece,
                why = &mut interrupted => { ending = why.ending(); break }
            };
            let Ok(Ok(piece)) = piece else {
                ending = Ending::UpstreamCut;
                break;
            };
            let Some(piece) = piece else { break };
            tap.push(&piece);
            total = total.saturating_add(piece.len() as u64);
            if total > ANSWER_BYTES_MAX {
                ending = Ending::UpstreamCut;
                break;
            }
            // Fails once the caller has gone; the upstream is read on for its usage.
            let _gone = pieces.send(std::mem::replace(&mut last, piece)).await;
        }
        if let Some(usage) = tap.usage() {
            meter.tell(usage);
        }
        let ended = Ended { first_byte_us, ..self.ended(200, ending, upstream_request) };
        match self.settle(meter, ended).await {
            // A cut answer ends without its last piece, so that nobody takes it for a whole one.
            Ok(_) if ending == Ending::Complete => drop(pieces.send(last).await),
            Ok(_) => {}
            Err(why) => tracing::error!(%why, "an answer could not be settled and was not ended"),
        }
    }
}

/// Whole answers up to this size wait for their settlement.
const WHOLE_BYTES_MAX: usize = 1024 * 1024;
/// No answer is read beyond this size.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// A call whose hold has ended.
pub struct Unheld {
    pub worker: Rc<Worker>,
    pub request: crate::id::RequestId,
    pub admitted: Admitted,
    pub price: Arc<Price>,
    pub language: Language,
    pub sees_account_money: bool,
    reply: Option<oneshot::Sender<Response<AnswerBody>>>,
}

impl Unheld {
    fn answer(&mut self, response: Response<AnswerBody>) {
        if let Some(reply) = self.reply.take() {
            let _gone = reply.send(response);
        }
    }

    pub(super) async fn durable(&self, ticket: Ticket) -> Result<(), BooksError> {
        let durability = self.worker.gateway.app.books.durability();
        durability.wait(self.worker.port, ticket).await.map_err(BooksError::from)
    }

    pub fn addressee(&self) -> Addressee<'_> {
        Addressee {
            request: self.request,
            language: self.language,
            public_url: &self.worker.gateway.public_url,
            sees_account_money: self.sees_account_money,
            logged: true,
        }
    }
}

impl Failure {
    pub fn timed_out() -> Self {
        let text = "the upstream did not end its answer in time".into();
        Failure { code: Code::UpstreamTimeout, status: None, text, retry_after: None }
    }
}

impl From<&ForwardError> for Failure {
    fn from(why: &ForwardError) -> Self {
        let code = match why {
            ForwardError::Timeout { .. } => Code::UpstreamTimeout,
            _ => Code::UpstreamError,
        };
        Failure { code, status: None, text: why.to_string().into(), retry_after: None }
    }
}

impl From<UpstreamFault> for Failure {
    fn from(fault: UpstreamFault) -> Self {
        let code = match fault.kind {
            UpstreamFaultKind::Rejected => Code::UpstreamRejected,
            UpstreamFaultKind::Error => Code::UpstreamError,
            UpstreamFaultKind::Timeout => Code::UpstreamTimeout,
            UpstreamFaultKind::RateLimited => Code::UpstreamRateLimited,
            UpstreamFaultKind::OutOfCredit => Code::UpstreamOutOfCredit,
            UpstreamFaultKind::AuthFailed => Code::UpstreamAuthFailed,
            UpstreamFaultKind::ModelMissing => Code::UpstreamModelMissing,
        };
        Failure { code, status: Some(fault.status), text: fault.message, retry_after: fault.retry_after }
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)).unwrap_or_default()
}

fn header_pair((name, value): (&str, &[u8])) -> Option<(http::HeaderName, HeaderValue)> {
    Some((http::HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// The upstream's own name of the call, as its bill will give it.
fn upstream_request(answer: &Answer) -> Option<Box<str>> {
    let id = answer.headers.text("x-request-id").or_else(|| answer.headers.text("request-id"))?;
    id.get(..id.floor_char_boundary(UPSTREAM_ID_BYTES_MAX)).map(Into::into)
}

/// Longest name of a call that is kept, in bytes.
const UPSTREAM_ID_BYTES_MAX: usize = 128;

fn content_type(answer: &Answer) -> HeaderValue {
    answer.headers.value("content-type").unwrap_or(HeaderValue::from_static("application/json"))
}

fn is_event_stream(answer: &Answer) -> bool {
    answer
        .headers
        .text("content-type")
        .is_some_and(|found| found.trim_start().starts_with("text/event-stream"))
}
