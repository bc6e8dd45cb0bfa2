//! One try of an admitted call at one channel: send it, and read on until it is known whether the channel answers.
//!
//! Promises: nothing of an answer goes to the caller here, so that a call whose attempt failed can still go to another
//! channel; what an attempt was and what the upstream may bill for it is kept, however it ended.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use ledger::{Nano, Usage};
use tokio::time::timeout;

use crate::catalogue::{Code, Refusal, UpstreamSaid};

use super::channel_health::{Fault, Place, Rest, RestReason};
use super::convert::{self, ConvertFault, Envelope, Format, LeftOut, ReplyFault, responses};
use super::exchange::Exchange;
use super::facts::{Attempt, CostBasis, Endpoint, Output, UsageSource};
use super::ladder::Candidate;
use super::opening::{Closed, Opened};
use super::outgoing::{Order, Outgoing, conversion};
use super::provider;
use super::provider::openai::{self, UpstreamFault, UpstreamFaultKind};
use super::route::Route;
use super::upstream::{Answer, AnswerStream, Collected, ForwardError};
use super::worker::{Interrupt, Worker};

/// An upstream's error is read up to this size.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Whole answers up to this size wait for their settlement.
const WHOLE_BYTES_MAX: usize = 1024 * 1024;
/// How long a channel is left alone whose settings are of no use.
const UNUSABLE_NS: u64 = 10_000_000_000;
/// An answer that has to be converted, or that is metered at its end, is read whole up to this size.
const CONVERTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest name of a call that is kept, in bytes.
const UPSTREAM_ID_BYTES_MAX: usize = 128;

/// The attempt that is under way.
pub struct Attempting {
    pub route: Rc<Route>,
    /// Place of the credential among those of the channel.
    pub credential: usize,
    /// Of the group through which the channel was reached.
    pub multiplier_ppm: u64,
    /// What its upstream is asked in.
    pub format: Format,
    started_us: u64,
    status: Option<u16>,
    upstream_request: Option<Box<str>>,
    place: Place,
    /// Fields that its upstream's format had no place for.
    pub(super) left_out: LeftOut,
    /// Of calls that are made at once, the caller is told the first.
    one_call: bool,
}

/// What an attempt came to.
pub(super) enum Tried {
    /// It has begun; nothing of it has left.
    Stream(Box<Opened>),
    Whole {
        body: Bytes,
        /// The same in the caller's format, if that is another.
        converted: Option<Bytes>,
        content_type: HeaderValue,
    },
    /// An answer too long to be kept back whole.
    Large {
        begun: Bytes,
        rest: AnswerStream,
        content_type: HeaderValue,
    },
    Failed(Failure),
    /// A stream that ended before there was anything in it.
    Closed(Box<Closed>),
    Interrupted(Interrupt),
}

/// Why an upstream brought no answer, ready to be shown and kept.
pub(super) struct Failure {
    pub code: Code,
    /// For operators; the caller sees it only where the catalogue says so.
    pub text: Box<str>,
    pub retry_after: Option<Duration>,
    /// The upstream may have worked on the call, and bill it.
    pub may_be_billed: bool,
    /// What of the request its format cannot express; nothing was sent.
    pub refused: Option<Box<ConvertFault>>,
    /// What the upstream said of a request that it rejected.
    pub said: Option<Box<UpstreamSaid>>,
}

/// What an upstream is thought to bill an attempt for.
pub(super) enum Spent {
    Nothing,
    Used(Usage, UsageSource),
    /// As much as the call may come to.
    AtMost,
}

impl Spent {
    fn basis(&self) -> CostBasis {
        match self {
            Spent::Nothing | Spent::Used(_, UsageSource::None) => CostBasis::Nothing,
            Spent::Used(_, UsageSource::Upstream) => CostBasis::Upstream,
            Spent::Used(_, UsageSource::Counted) => CostBasis::Counted,
            Spent::Used(_, UsageSource::Estimated) | Spent::AtMost => CostBasis::Estimated,
        }
    }
}

impl Attempting {
    /// Readies an attempt at a channel with one of the credentials that `may` be used, or says why the channel cannot
    /// be used now. `arrived_ns`: boot-clock time at which the request arrived.
    pub fn begin(
        worker: &Worker,
        candidate: Candidate<'_>,
        endpoint: Endpoint,
        arrived_ns: u64,
        may: impl Fn(usize) -> bool,
    ) -> Result<Self, Rest> {
        let (model, now_ns) = (candidate.model, worker.gateway.app.clock.mono_ns());
        let unusable = Rest { reason: RestReason::Unusable, left_ns: UNUSABLE_NS };
        let route = worker.routes.get(candidate.channel, &worker.gateway.app).map_err(|why| {
            tracing::error!(channel = %candidate.channel.id, why, "a channel cannot be used");
            unusable
        })?;
        let place = route.health.begin(candidate.channel, &model.name, now_ns)?;
        let credential = route.credential(&model.name, now_ns, may).ok_or(unusable)?;
        Ok(Attempting {
            credential,
            multiplier_ppm: candidate.multiplier_ppm,
            format: route.speaks(endpoint, model),
            started_us: now_ns.saturating_sub(arrived_ns) / 1_000,
            status: None,
            upstream_request: None,
            route,
            place,
            left_out: LeftOut::default(),
            one_call: false,
        })
    }

    pub(super) fn note_head(&mut self, answer: &Answer) {
        self.status = Some(answer.status.as_u16());
        self.upstream_request = upstream_request(answer);
    }

    /// Tells its channel's health how it ended, and gives the channel's place back.
    pub(super) fn tell_health(
        &mut self,
        worker: &Worker,
        model: &str,
        fault: Option<Code>,
        retry_after: Option<Duration>,
    ) {
        let app = &worker.gateway.app;
        let (now_ns, credential, route) = (app.clock.mono_ns(), self.credential, &self.route);
        match fault {
            None => route.health.answered(model, credential, now_ns),
            Some(code) => {
                let fault = Fault { model, credential, code, retry_after };
                if let Some(told) = route.health.failed(&route.channel, &fault, now_ns) {
                    app.channels.tell(told);
                }
            }
        }
        self.place = Place::none();
    }

    /// The attempt as it is kept, with what its upstream is expected to bill.
    pub(super) fn ended(
        &mut self,
        now_us: u64,
        fault: Option<Code>,
        spent: &Spent,
        cost: Option<Nano>,
    ) -> Attempt {
        Attempt {
            channel: Some(self.route.channel.id),
            credential: u8::try_from(self.credential + 1).unwrap_or(u8::MAX),
            multiplier_ppm: self.multiplier_ppm,
            started_us: self.started_us,
            duration_us: now_us.saturating_sub(self.started_us),
            status: self.status,
            upstream_request: self.upstream_request.take(),
            fault,
            cost,
            cost_basis: spent.basis(),
        }
    }
}

impl Exchange {
    /// Keeps what the attempt under way was, and what its channel's health is to learn of it.
    pub(super) fn end_attempt(&mut self, fault: Option<Code>, retry_after: Option<Duration>, spent: &Spent) {
        let (now_us, worker) = (self.elapsed_us(), Rc::clone(&self.worker));
        let model = &*self.request.model;
        self.attempt.tell_health(&worker, model, fault, retry_after);
        let route = &self.attempt.route;
        let cost = match spent {
            Spent::Nothing => Some(Nano::ZERO),
            Spent::Used(usage, _) => route.channel.cost(model, &self.price, usage),
            Spent::AtMost => {
                let most = self.held.decided().most(&self.price);
                route.channel.cost(model, &self.price, &most)
            }
        };
        let ended = self.attempt.ended(now_us, fault, spent, cost);
        self.attempts.push(ended);
    }

    /// Tries the channel that is up; ends early where the call must end.
    pub(super) async fn attempt(&mut self) -> Tried {
        let worker = Rc::clone(&self.worker);
        let interrupted = worker.gateway.interrupted(self.key());
        let mut tried = tokio::select! {
            biased;
            tried = self.send() => tried,
            why = interrupted => Tried::Interrupted(why),
        };
        if let Tried::Failed(Failure { text, .. }) = &mut tried {
            self.attempt.route.hide_credential(self.attempt.credential, text);
        }
        if let Tried::Closed(closed) = &mut tried {
            self.attempt.route.hide_credential(self.attempt.credential, &mut closed.failure.text);
        }
        tried
    }

    async fn send(&mut self) -> Tried {
        let order = Order {
            request: &self.request,
            body: &self.body,
            output_cap: self.admitted.output_cap,
            format: self.attempt.format,
            name: (self.held.decided().facts.request, self.attempts.len() + 1),
        };
        let route = Rc::clone(&self.attempt.route);
        let mut outgoing = match Outgoing::new(&order, &route, self.attempt.credential) {
            Ok(outgoing) => outgoing,
            Err(fault) => return Tried::Failed(Failure::from(fault)),
        };
        self.attempt.left_out = std::mem::take(&mut outgoing.left_out);
        self.attempt.one_call = outgoing.one_call;
        let mut answer = match self.worker.upstreams.send(outgoing.call(&route)).await {
            Ok(answer) => answer,
            Err(why) => return Tried::Failed(Failure::from(&why)),
        };
        drop(outgoing);
        self.attempt.note_head(&answer);
        if !answer.status.is_success() {
            let gateway = &self.worker.gateway;
            let now_s = gateway.app.clock.now_ms() / 1_000;
            return Tried::Failed(read_error(&mut answer, route.format, gateway.idle_timeout, now_s).await);
        }
        if self.request.stream && is_event_stream(&answer) {
            return Box::pin(self.open(answer)).await;
        }
        let tried = self.read_whole(answer).await;
        let is_whole = matches!(tried, Tried::Whole { .. } | Tried::Large { .. });
        // A client that reads events cannot read it; of sound and pictures some models have no streams.
        if is_whole && self.request.stream && self.request.endpoint.output() == Output::Capped {
            return Tried::Failed(ReplyFault::new("it is whole, where a stream was asked for").into());
        }
        tried
    }

    /// A whole answer; of one of more than 1 MiB the beginning.
    async fn read_whole(&self, mut answer: Answer) -> Tried {
        let content_type = content_type(&answer);
        drop(std::mem::take(&mut answer.headers));
        let patience = self.worker.gateway.total_timeout;
        let (endpoint, format) = (self.request.endpoint, self.attempt.format);
        let limit = if is_read_as_it_goes(endpoint, format) { WHOLE_BYTES_MAX } else { CONVERTED_BYTES_MAX };
        match timeout(patience, answer.body.collect(limit)).await {
            Err(_elapsed) => Tried::Failed(Failure::timed_out()),
            Ok(Err(why)) => Tried::Failed(Failure::from(&why)),
            Ok(Ok(Collected::Whole(body))) => {
                match judge_whole(endpoint, format, &content_type, &body, || self.envelope()) {
                    Ok(converted) => Tried::Whole { body, converted, content_type },
                    Err(failure) => Tried::Failed(failure),
                }
            }
            Ok(Ok(Collected::Begun(_))) if limit != WHOLE_BYTES_MAX => {
                Tried::Failed(ReplyFault::new("it is too long").into())
            }
            Ok(Ok(Collected::Begun(begun))) if !provider::may_be_answer(endpoint, &content_type, &begun) => {
                Tried::Failed(ReplyFault::new("it is no JSON").into())
            }
            Ok(Ok(Collected::Begun(begun))) => Tried::Large { begun, rest: answer.body, content_type },
        }
    }

    /// What a converted answer is wrapped in that is not the upstream's.
    pub(super) fn envelope(&self) -> Envelope {
        Envelope {
            model: self.request.model.clone(),
            id: self.held.decided().facts.request.to_string().into(),
            created_s: self.worker.gateway.app.clock.now_ms().div_euclid(1_000),
            include_usage: self.request.include_usage_asked,
            echo: match self.request.endpoint {
                Endpoint::Responses => responses::echo(std::str::from_utf8(&self.body).unwrap_or_default()),
                _ => Box::default(),
            },
            counted: None,
            one_call: self.attempt.one_call,
        }
    }
}

/// A whole answer as the caller's format has it – `None`: as it is –, or why it is none, whatever its status says.
pub(super) fn judge_whole(
    endpoint: Endpoint,
    format: Format,
    content_type: &HeaderValue,
    body: &[u8],
    envelope: impl FnOnce() -> Envelope,
) -> Result<Option<Bytes>, Failure> {
    if is_json(content_type) && openai::is_error_body(body) {
        return Err(provider::stream_fault(format, body).into());
    }
    if !provider::is_answer(endpoint, format, content_type, body) {
        return Err(Failure::without_answer(provider::stream_fault(format, body)));
    }
    match conversion(endpoint, format) {
        Ok(Some(to)) => Ok(Some(convert::answer(format, to, body, &envelope())?)),
        Ok(None) | Err(_) => Ok(None),
    }
}

/// What an answer that is no good one says. `now_s`: seconds since 1970, for a `Retry-After` that is a date.
pub(super) async fn read_error(
    answer: &mut Answer,
    format: Format,
    patience: Duration,
    now_s: i64,
) -> Failure {
    let body = match timeout(patience, answer.body.collect(ERROR_BODY_BYTES_MAX)).await {
        Ok(Ok(Collected::Whole(body) | Collected::Begun(body))) => body,
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    let headers: http::HeaderMap = answer.headers.iter().filter_map(header_pair).collect();
    Failure::from(provider::classify(format, answer.status.as_u16(), &headers, &body, now_s))
}

impl Failure {
    pub(super) fn timed_out() -> Self {
        let text = "the upstream did not end its answer in time".into();
        Self::unclear(Code::UpstreamTimeout, text)
    }

    /// Of a channel whose settings are of no use; nothing was sent.
    pub(super) fn unusable(why: &str) -> Self {
        let text = format!("the channel cannot be used: {why}").into();
        Failure { may_be_billed: false, ..Self::unclear(Code::UpstreamError, text) }
    }

    /// Of an answer that cannot be used, or that says that it is not known what became of a request.
    pub(super) fn unclear(code: Code, text: Box<str>) -> Self {
        Failure { code, text, retry_after: None, may_be_billed: true, refused: None, said: None }
    }

    /// Of a body that came with 200 and is no answer: what it says of itself, else that it is none.
    fn without_answer(fault: UpstreamFault) -> Self {
        match fault.kind {
            UpstreamFaultKind::Error => {
                ReplyFault::new(format!("there is none in it: {}", fault.message)).into()
            }
            _ => fault.into(),
        }
    }

    /// Whether another channel may do better: a request that is wrong is wrong everywhere.
    pub fn is_the_channels(&self) -> bool {
        self.code != Code::UpstreamRejected
    }

    /// What the caller is told; `limit_ms` is how long an upstream may take to begin an answer.
    pub fn refusal(&self, model: &str, limit_ms: u64) -> Refusal {
        let refusal = Refusal::new(self.code).upstream_text(self.text.clone()).upstream(self.said.clone());
        let refusal = match self.code {
            Code::InvalidParameter => match self.refused.as_deref() {
                Some(fault) => refusal
                    .field(fault.field.clone())
                    .param("reason", format!("expected {}, got {}", fault.what, fault.got)),
                None => refusal,
            },
            Code::UpstreamTimeout => refusal.param("limit_ms", limit_ms),
            _ => refusal.param("model", model),
        };
        match self.retry_after {
            Some(wait) => refusal.retry_after_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            None => refusal,
        }
    }

    pub(super) fn spent(&self) -> Spent {
        if self.may_be_billed { Spent::AtMost } else { Spent::Nothing }
    }
}

impl From<&ForwardError> for Failure {
    fn from(why: &ForwardError) -> Self {
        let code = match why {
            ForwardError::Timeout { .. } => Code::UpstreamTimeout,
            _ => Code::UpstreamError,
        };
        let text = why.to_string().into();
        Failure { code, text, retry_after: None, may_be_billed: why.sent(), refused: None, said: None }
    }
}

impl From<UpstreamFault> for Failure {
    fn from(fault: UpstreamFault) -> Self {
        let code = code_of(fault.kind);
        let is_too_long = fault.is_too_long();
        // Of other faults the caller sees nothing.
        let said = (fault.kind == UpstreamFaultKind::Rejected)
            .then(|| Box::new(UpstreamSaid { code: fault.code, param: fault.param, is_too_long }));
        Failure {
            code,
            text: fault.message,
            retry_after: fault.retry_after,
            may_be_billed: false,
            refused: None,
            said,
        }
    }
}

impl From<ConvertFault> for Failure {
    fn from(fault: ConvertFault) -> Self {
        Failure {
            code: Code::InvalidParameter,
            text: fault.to_string().into(),
            retry_after: None,
            may_be_billed: false,
            refused: Some(Box::new(fault)),
            said: None,
        }
    }
}

impl From<ReplyFault> for Failure {
    fn from(fault: ReplyFault) -> Self {
        let text = fault.to_string().into();
        Failure {
            code: Code::UpstreamError,
            text,
            retry_after: None,
            may_be_billed: true,
            refused: None,
            said: None,
        }
    }
}

/// Whether a long answer can be metered without having all of it.
fn is_read_as_it_goes(endpoint: Endpoint, format: Format) -> bool {
    !matches!(format, Format::Anthropic | Format::Gemini) && matches!(conversion(endpoint, format), Ok(None))
}

/// The code that a fault of an upstream is told by.
pub(super) fn code_of(kind: UpstreamFaultKind) -> Code {
    match kind {
        UpstreamFaultKind::Rejected => Code::UpstreamRejected,
        UpstreamFaultKind::Error => Code::UpstreamError,
        UpstreamFaultKind::Timeout => Code::UpstreamTimeout,
        UpstreamFaultKind::RateLimited => Code::UpstreamRateLimited,
        UpstreamFaultKind::OutOfCredit => Code::UpstreamOutOfCredit,
        UpstreamFaultKind::AuthFailed => Code::UpstreamAuthFailed,
        UpstreamFaultKind::ModelMissing => Code::UpstreamModelMissing,
    }
}

pub(super) fn header_pair((name, value): (&str, &[u8])) -> Option<(http::HeaderName, HeaderValue)> {
    Some((http::HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// The upstream's own name of the call, as its bill will give it.
pub(super) fn upstream_request(answer: &Answer) -> Option<Box<str>> {
    let id = answer.headers.text("x-request-id").or_else(|| answer.headers.text("request-id"))?;
    id.get(..id.floor_char_boundary(UPSTREAM_ID_BYTES_MAX)).map(Into::into)
}

pub(super) fn content_type(answer: &Answer) -> HeaderValue {
    answer.headers.value("content-type").unwrap_or(HeaderValue::from_static("application/json"))
}

/// Sound is no JSON, and what a server calls nothing may be.
fn is_json(content_type: &HeaderValue) -> bool {
    !content_type.as_bytes().starts_with(b"audio/")
}

fn is_event_stream(answer: &Answer) -> bool {
    answer
        .headers
        .text("content-type")
        .is_some_and(|found| found.trim_start().starts_with("text/event-stream"))
}
