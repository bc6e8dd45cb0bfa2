//! How many tokens a request is: asked of an upstream of the caller's format, else estimated here.
//!
//! Promises: it costs nothing, as at the providers themselves, so it passes the rungs up to rate and none about money;
//! a caller is told who counted; no fault of an upstream refuses it, but a request that the upstream finds wrong.
//! Must never: touch the health of a channel, for many servers that chat do not count.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use ledger::{Nano, TokenClass, Usage};
use serde::Deserialize;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::books::BooksError;
use crate::catalogue::Code;
use crate::directory::{Channel, Snapshot};
use crate::id::ChannelId;

use super::answer::AnswerBody;
use super::attempt::{Attempting, Failure, Spent, read_error};
use super::bodies::Body;
use super::convert::{Format, ReplyFault};
use super::facts::{Attempts, Decided, Ending, Facts, Outcome, UsageSource};
use super::failover;
use super::ladder::{self, Caller, Scope};
use super::outgoing::{Order, Outgoing};
use super::pipeline::{Arrival, Asked, sees_money};
use super::request::ModelRequest;
use super::respond::{self, X_COST, X_REQUEST_ID};
use super::tokens::{self, Family};
use super::upstream::Collected;

/// Who counted: `upstream` or `estimated`.
const X_COUNT: HeaderName = HeaderName::from_static("x-tallygate-count");
/// An upstream that has not counted by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// A count is short.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A count that was let in.
struct Counting {
    arrival: Arrival,
    decided: Arc<Decided>,
    request: ModelRequest,
    body: Body,
    /// Whom to ask.
    attempt: Option<Attempting>,
    sees_account_money: bool,
}

impl Arrival {
    /// Decides a count, and answers it.
    pub(super) async fn count(self, facts: Facts, asked: Asked) -> Response<AnswerBody> {
        let gateway = Arc::clone(&self.worker.gateway);
        let snapshot = gateway.app.directory.snapshot();
        let (Some(caller), Ok(request)) = (Caller::of(&snapshot, &facts), asked.parsed) else {
            return self.refuse_early(facts);
        };
        let sees_account_money = sees_money(&snapshot, &facts);
        let scope = Scope::of(&snapshot, caller, &facts);
        let decided = gateway.app.books.decide(&scope, Decided::new(facts), |decided| {
            let readings = decided.readings.clone().unwrap_or_default();
            decided.refusal = ladder::decide_free(&snapshot, &decided.facts, &readings).err().map(Box::new);
            let is_recorded = match decided.refusal.as_ref().map(|refusal| refusal.code) {
                Some(code) => gateway.flood.records(decided, code, self.arrived_ns),
                // With what came of it.
                None => false,
            };
            decided.calls = u32::from(is_recorded);
            None
        });
        let decided = match decided {
            Ok((decided, _)) => decided,
            Err(why) => return self.without_books(&why),
        };
        self.observe(&decided.facts, decided.refusal.as_ref().map(|refusal| refusal.code));
        if let Some(refusal) = &decided.refusal {
            let addressee = self.addressee(sees_account_money);
            return respond::Addressee { logged: decided.calls > 0, ..addressee }.refusal(refusal);
        }
        let attempt = self.whom_to_ask(&snapshot, caller, &request);
        drop(scope);
        drop(snapshot);
        let counting = Counting {
            arrival: self.clone(),
            decided,
            request,
            body: asked.body,
            attempt,
            sees_account_money,
        };
        // As a task of its own: it is in the log, whether or not its caller waits for it.
        let (reply, answer) = oneshot::channel();
        let running = gateway.count_call();
        tokio::task::spawn_local(async move {
            let _gone = reply.send(counting.run().await);
            drop(running);
        });
        answer.await.unwrap_or_else(|_| self.without_books(&BooksError::Stopped))
    }

    /// A channel that speaks the caller's format and can be used now.
    fn whom_to_ask(
        &self,
        snapshot: &Snapshot,
        caller: Caller<'_>,
        request: &ModelRequest,
    ) -> Option<Attempting> {
        let candidates = caller.candidates(snapshot, snapshot.model(&request.model)?);
        let format = request.endpoint.format()?;
        let mut of_no_use: SmallVec<[ChannelId; 4]> = SmallVec::new();
        loop {
            let may_know =
                |channel: &Channel| channel.provider.format() == format && !of_no_use.contains(&channel.id);
            let next = candidates.choose(ladder::seed(self.request, 1), may_know)?;
            match Attempting::begin(&self.worker, next, request.endpoint, self.arrived_ns, |_| true) {
                Ok(attempt) => return Some(attempt),
                Err(_rest) => of_no_use.push(next.channel.id),
            }
        }
    }
}

impl Counting {
    async fn run(mut self) -> Response<AnswerBody> {
        let mut attempts = Attempts::new();
        let asked = match self.attempt.take() {
            None => None,
            Some(mut attempt) => {
                let asked = timeout(PATIENCE, self.ask(&mut attempt)).await;
                let asked = asked.unwrap_or_else(|_elapsed| Err(Failure::timed_out()));
                let fault = asked.as_ref().err().map(|failure| failure.code);
                attempts.push(attempt.ended(self.elapsed_us(), fault, &Spent::Nothing, Some(Nano::ZERO)));
                Some(asked)
            }
        };
        match asked {
            Some(Ok(count)) => self.answer(attempts, None, "upstream", count),
            Some(Err(failure)) if failure.code == Code::UpstreamRejected => self.refuse(attempts, &failure),
            Some(Err(failure)) => {
                let count = self.estimate().await;
                self.answer(attempts, Some(failure), "estimated", count)
            }
            None => {
                let count = self.estimate().await;
                self.answer(attempts, None, "estimated", count)
            }
        }
    }

    async fn ask(&self, attempt: &mut Attempting) -> Result<Bytes, Failure> {
        let (worker, route) = (&self.arrival.worker, Rc::clone(&attempt.route));
        let name = route.channel.models.get(&self.request.model).unwrap_or(&self.request.model);
        let body = self.request.addressed_to(name, &self.body);
        let order = Order {
            request: &self.request,
            body: &body,
            output_cap: 0,
            format: attempt.format,
            name: (self.arrival.request, 1),
        };
        let outgoing = Outgoing::new(&order, &route, attempt.credential)?;
        let sent = worker.upstreams.send(outgoing.call(&route)).await;
        let mut answer = sent.map_err(|why| Failure::from(&why))?;
        attempt.note_head(&answer);
        if !answer.status.is_success() {
            let now_s = worker.gateway.app.clock.now_ms() / 1_000;
            return Err(read_error(&mut answer, route.format, PATIENCE, now_s).await);
        }
        match answer.body.collect(ANSWER_BYTES_MAX).await {
            Ok(Collected::Whole(body)) if is_count(attempt.format, &body) => Ok(body),
            Ok(_) => Err(ReplyFault::new("it is no count of tokens").into()),
            Err(why) => Err(Failure::from(&why)),
        }
    }

    /// Off the worker's thread: a long text takes a while.
    async fn estimate(&self) -> Bytes {
        let (request, body) = (self.request.clone(), self.request.counted(&self.body));
        let counted = tokio::task::spawn_blocking(move || {
            let (family, bound) = (Family::of(&request.model), request.input_tokens_bound);
            tokens::count_input(request.endpoint.called(), family, &body, request.parts.images, bound)
        });
        // The task cannot fail but with the runtime.
        let usage = counted.await.unwrap_or_default();
        let tokens = usage.get(TokenClass::Input).saturating_add(usage.get(TokenClass::ImageIn));
        let json = match self.request.endpoint.format() {
            Some(Format::Gemini) => serde_json::json!({"totalTokens": tokens}),
            _ => serde_json::json!({"input_tokens": tokens}),
        };
        json.to_string().into()
    }

    fn answer(
        &self,
        attempts: Attempts,
        failure: Option<Failure>,
        counted_by: &'static str,
        count: Bytes,
    ) -> Response<AnswerBody> {
        let outcome = Outcome {
            upstream_error: failure.map(|failure| failure.text),
            ..self.outcome(200, Ending::Complete, attempts)
        };
        if let Err(why) = self.record(outcome) {
            return self.arrival.without_books(&why);
        }
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_COST, HeaderValue::from_static("0"));
        headers.insert(X_COUNT, HeaderValue::from_static(counted_by));
        if let Ok(id) = HeaderValue::from_bytes(&self.arrival.request.text()) {
            headers.insert(X_REQUEST_ID, id);
        }
        respond::response(StatusCode::OK, headers, AnswerBody::whole(count))
    }

    fn refuse(&self, attempts: Attempts, failure: &Failure) -> Response<AnswerBody> {
        let outcome = Outcome {
            code: Some(failure.code),
            upstream_error: Some(failure.text.clone()),
            ..self.outcome(failure.code.status(), Ending::UpstreamFailed, attempts)
        };
        if let Err(why) = self.record(outcome) {
            return self.arrival.without_books(&why);
        }
        let limit_ms = self.arrival.worker.gateway.header_timeout_ms;
        let model = &*self.request.model;
        let refusal = failure.refusal(model, limit_ms);
        let key = self.decided.facts.credential.passed().map(|credential| credential.key);
        let refusal = failover::with_patience(refusal, &self.arrival.worker, key, model);
        self.arrival.addressee(self.sees_account_money).refusal(&refusal)
    }

    fn outcome(&self, status: u16, ending: Ending, attempts: Attempts) -> Outcome {
        let latency_us = self.elapsed_us();
        Outcome {
            status,
            ending,
            usage: Usage::default(),
            usage_source: UsageSource::None,
            attempts,
            upstream_error: None,
            code: None,
            first_byte_us: Some(latency_us),
            latency_us,
        }
    }

    fn record(&self, outcome: Outcome) -> Result<(), BooksError> {
        let decided = Decided { calls: 1, ..Decided::clone(&self.decided) };
        self.arrival.worker.gateway.app.books.record_free(decided, outcome).map(drop)
    }

    fn elapsed_us(&self) -> u64 {
        let now_ns = self.arrival.worker.gateway.app.clock.mono_ns();
        now_ns.saturating_sub(self.arrival.arrived_ns) / 1_000
    }
}

/// Whether an answer tells a number of tokens in the format's words.
fn is_count(format: Format, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Count {
        input_tokens: Option<u64>,
        #[serde(rename = "totalTokens")]
        total_tokens: Option<u64>,
    }
    let Ok(count) = serde_json::from_slice::<Count>(body) else { return false };
    match format {
        Format::Gemini => count.total_tokens.is_some(),
        _ => count.input_tokens.is_some(),
    }
}
