//! An admitted call on its way: attempt after attempt → meter → settle. It runs as a task of its own, so that it ends
//! in a settlement or a release whether or not its caller waits for the answer.
//!
//! Promises: no byte of an answer leaves before its hold is on disk; no answer ends before its settlement
//! is on disk. A caller that leaves changes neither what is charged nor whether. A call goes to another channel only
//! while nothing of an answer has left, and is charged once, as the channel that served it was reached.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response};
use ledger::ReleaseReason;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::books::{BooksError, Held, Settlement, Ticket};
use crate::catalogue::{Language, Refusal};
use crate::directory::Price;
use crate::id::KeyId;

use super::answer::{AnswerBody, CutOff};
use super::attempt::{Attempting, Failure, Spent, Tried};
use super::bodies::Body;
use super::bounds::Bounds;
use super::convert::{self, Envelope};
use super::facts::{Admitted, Attempts, Ending, Endpoint};
use super::failover::{self, Failing};
use super::meter::{Meter, Metered, MeteredCall};
use super::outgoing::conversion;
use super::request::ModelRequest;
use super::respond::{self, Addressee};
use super::settle::{self, Ended};
use super::upstream::AnswerStream;
use super::worker::{Interrupt, Worker};

/// The upstream's own words are kept up to this size.
const ERROR_TEXT_BYTES_MAX: usize = 2 * 1024;

/// Everything that a call needs once it is admitted. Boxed by its maker: it is handed from step to step.
pub struct Exchange {
    pub worker: Rc<Worker>,
    pub held: Held,
    pub admitted: Admitted,
    pub price: Arc<Price>,
    /// The one under way.
    pub attempt: Attempting,
    /// Those that have ended.
    pub attempts: Attempts,
    pub request: ModelRequest,
    pub body: Body,
    pub language: Language,
    pub sees_account_money: bool,
    /// Boot-clock time at which the request arrived.
    pub arrived_ns: u64,
    pub reply: Option<oneshot::Sender<Response<AnswerBody>>>,
}

impl Exchange {
    pub async fn run(mut self: Box<Self>) {
        loop {
            let (failure, spent) = match self.attempt().await {
                Tried::Whole { body, converted, content_type } => {
                    return self.finish_whole(body, converted, content_type).await;
                }
                Tried::Stream(opened) => return Box::pin(self.stream(opened)).await,
                Tried::Large { begun, rest, content_type } => {
                    return Box::pin(self.large(begun, rest, content_type)).await;
                }
                Tried::Interrupted(why) => return Box::pin(self.abandon(why)).await,
                Tried::Failed(failure) => {
                    let spent = failure.spent();
                    (failure, spent)
                }
                Tried::Closed(closed) => (closed.failure, closed.spent),
            };
            self.end_attempt(Some(failure.code), failure.retry_after, &spent);
            match self.next_attempt(&failure) {
                Some(next) => self.attempt = next,
                None => return Box::pin(self.fail(failure)).await,
            }
        }
    }

    /// Another channel to try, if one is left, may be tried, and somebody still waits for it.
    fn next_attempt(&self, failure: &Failure) -> Option<Attempting> {
        let is_awaited = self.reply.as_ref().is_some_and(|reply| !reply.is_closed());
        if !failure.is_the_channels() || !is_awaited {
            return None;
        }
        let failing = Failing {
            request: self.held.decided().facts.request,
            key: self.key(),
            model: &self.request.model,
            endpoint: self.request.endpoint,
            tried: &self.attempts,
            multiplier_ppm_max: self.admitted.multiplier_ppm,
            arrived_ns: self.arrived_ns,
        };
        failing.next(&self.worker)
    }

    pub(super) fn meter(&self) -> Meter {
        let Attempting { route, format, .. } = &self.attempt;
        Meter::new(Rc::new(MeteredCall {
            route: Rc::clone(route),
            format: *format,
            request: self.request.clone(),
            body: self.body.clone(),
            bounds: Bounds::of(&self.request, self.admitted.output_cap, &self.worker.gateway.app),
        }))
    }

    pub(super) fn addressee(&self) -> Addressee<'_> {
        Addressee {
            request: self.held.decided().facts.request,
            language: self.language,
            public_url: &self.worker.gateway.public_url,
            sees_account_money: self.sees_account_money,
            logged: true,
            shape: respond::shape(self.request.endpoint),
        }
    }

    pub(super) fn elapsed_us(&self) -> u64 {
        self.worker.gateway.app.clock.mono_ns().saturating_sub(self.arrived_ns) / 1_000
    }

    pub(super) fn ended(&self, status: u16, ending: Ending) -> Ended {
        Ended {
            status,
            ending,
            code: None,
            attempts: Attempts::new(),
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

    /// The upstream brought nothing: release, and say so.
    async fn fail(self: Box<Self>, failure: Failure) {
        let model = &*self.request.model;
        let refusal = failure.refusal(model, self.worker.gateway.header_timeout_ms);
        let refusal = failover::with_patience(refusal, &self.worker, Some(self.key()), model);
        // A field of the upstream's is one of the caller's where both have the same format.
        let is_converted = conversion(self.request.endpoint, self.attempt.format) != Ok(None);
        let field = failure.said.as_ref().and_then(|said| said.param.clone()).filter(|_| !is_converted);
        let refusal = Refusal { field: field.or(refusal.field), ..refusal };
        let response = self.addressee().refusal(&refusal);
        let ended = Ended {
            code: Some(failure.code),
            upstream_error: Some(cut(&failure.text).into()),
            ..self.ended(failure.code.status(), Ending::UpstreamFailed)
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
    async fn abandon(mut self: Box<Self>, why: Interrupt) {
        let (ending, refusal) = (why.ending(), why.refusal());
        let response = self.addressee().refusal(&refusal);
        let (code, status) = (Some(refusal.code), refusal.code.status());
        self.end_attempt(code, None, &Spent::AtMost);
        let ended = Ended { code, ..self.ended(status, ending) };
        self.release(ReleaseReason::NothingDelivered, ended, response).await;
    }

    /// Gives the hold back and answers once that is on disk.
    async fn release(
        mut self: Box<Self>,
        reason: ReleaseReason,
        mut ended: Ended,
        response: Response<AnswerBody>,
    ) {
        ended.attempts = std::mem::take(&mut self.attempts);
        let (mut rest, held) = self.take_held();
        match settle::release(held, reason, ended) {
            Ok(Settlement { ticket, .. }) if rest.durable(ticket).await.is_ok() => rest.answer(response),
            Ok(_) => {}
            Err(why) => tracing::error!(%why, "a call could not be released"),
        }
    }

    /// Settles by the meter; the price is the one that was frozen when the call was admitted, the multiplier that of
    /// the group through which it was served.
    pub(super) async fn settle(
        mut self: Box<Self>,
        metered: &Metered,
        mut ended: Ended,
    ) -> Result<(Unheld, Settlement), BooksError> {
        let (usage, source) = settle::sold(&self.price, metered);
        self.end_attempt(ended.code, None, &Spent::Used(usage, source));
        ended.attempts = std::mem::take(&mut self.attempts);
        let multiplier_ppm = self.attempt.multiplier_ppm;
        let (rest, held) = self.take_held();
        let settled = settle::settle(held, &rest.price, multiplier_ppm, usage, source, ended)?;
        rest.durable(settled.ticket).await?;
        Ok((rest, settled))
    }

    /// Nothing was delivered of an answer that had begun, so nothing is charged; the upstream may bill what it read.
    pub(super) async fn give_back(
        mut self: Box<Self>,
        metered: &Metered,
        mut ended: Ended,
    ) -> Result<(Unheld, Settlement), BooksError> {
        let (usage, source) = settle::sold(&self.price, metered);
        self.end_attempt(ended.code, None, &Spent::Used(usage, source));
        ended.attempts = std::mem::take(&mut self.attempts);
        let (rest, held) = self.take_held();
        let settled = settle::release(held, ReleaseReason::NothingDelivered, ended)?;
        rest.durable(settled.ticket).await?;
        Ok((rest, settled))
    }

    fn take_held(self: Box<Self>) -> (Unheld, Held) {
        let exchange = *self;
        let request = exchange.held.decided().facts.request;
        let rest = Unheld {
            worker: exchange.worker,
            request,
            admitted: exchange.admitted,
            price: exchange.price,
            language: exchange.language,
            sees_account_money: exchange.sees_account_money,
            endpoint: exchange.request.endpoint,
            reply: exchange.reply,
        };
        (rest, exchange.held)
    }

    /// A whole answer: metered, settled, and only then given out.
    async fn finish_whole(self: Box<Self>, body: Bytes, converted: Option<Bytes>, content_type: HeaderValue) {
        let left_out = self.attempt.left_out.clone();
        let mut meter = self.meter();
        meter.whole(&body);
        let metered = meter.read().await;
        let converted = converted.map(|converted| self.with_usage(converted, &body, &metered));
        let mut ended = self.ended(200, Ending::Complete);
        ended.first_byte_us = Some(ended.latency_us);
        match self.settle(&metered, ended).await {
            Ok((mut rest, settled)) => {
                let mut head =
                    respond::head(rest.request, content_type, &rest.admitted, Some(settled.charged));
                respond::add_left_out(&mut head, &left_out);
                let body = AnswerBody::whole(converted.unwrap_or(body));
                rest.answer(respond::response(http::StatusCode::OK, head, body));
            }
            Err(why) => tracing::error!(%why, "an answer could not be settled and was not given out"),
        }
    }

    /// A converted answer with the usage that was counted of it, if its upstream told none.
    fn with_usage(&self, converted: Bytes, body: &[u8], metered: &Metered) -> Bytes {
        let format = self.attempt.format;
        let (Some(counted), Ok(Some(to))) = (metered.counted(), conversion(self.request.endpoint, format))
        else {
            return converted;
        };
        let envelope = Envelope { counted: Some(counted), ..self.envelope() };
        // What was converted once is converted again.
        convert::answer(format, to, body, &envelope).unwrap_or(converted)
    }

    /// An answer of more than 1 MiB: passed on as it comes, but for its last piece.
    async fn large(mut self: Box<Self>, begun: Bytes, mut rest: AnswerStream, content_type: HeaderValue) {
        if self.durable(self.held.ticket()).await.is_err() {
            return;
        }
        let (pieces, body) = AnswerBody::pieces();
        let head = respond::head(self.held.decided().facts.request, content_type, &self.admitted, None);
        let first_byte_us = Some(self.elapsed_us());
        let cut_off = CutOff::default();
        let mut response = respond::response(http::StatusCode::OK, head, body);
        response.extensions_mut().insert(cut_off.clone());
        self.answer(response);
        let mut meter = self.meter();
        meter.begin(&begun);
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
            meter.more(&piece);
            total = total.saturating_add(piece.len() as u64);
            if total > ANSWER_BYTES_MAX {
                ending = Ending::UpstreamCut;
                break;
            }
            // Fails once the caller has gone; the upstream is read on for its usage.
            let _gone = pieces.send(std::mem::replace(&mut last, piece)).await;
        }
        let ended = Ended { first_byte_us, ..self.ended(200, ending) };
        match self.settle(&meter.read().await, ended).await {
            // A cut answer ends without its last piece, so that nobody takes it for a whole one.
            Ok(_) if ending == Ending::Complete => drop(pieces.send(last).await),
            Ok(_) => cut_off.set(),
            Err(why) => tracing::error!(%why, "an answer could not be settled and was not ended"),
        }
    }
}

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
    endpoint: Endpoint,
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
            shape: respond::shape(self.endpoint),
        }
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)).unwrap_or_default()
}
