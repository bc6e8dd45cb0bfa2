//! A call under an `Idempotency-Key`: executed once; sent again, it is given the answer of the first one.
//!
//! Promises: whether a repetition may pass is decided by the ladder like everything else; an answer is kept before its
//! last byte leaves, also where nobody waits for it any more. A repetition costs nothing but rate.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};

use crate::api;
use crate::books::lookup::{self, StoredCall};
use crate::books::{BooksError, ChargeState};
use crate::catalogue::Refusal;
use crate::explain::receipt;
use crate::gateway::facts::{Checked, Decided, Facts};
use crate::id::RequestId;
use crate::idempotency::header::{self as names, Name, X_REPLAY_OF};
use crate::idempotency::{ANSWER_BYTES_MAX, Answer, Begun, Claim, Head, Known, Wish};

use super::answer::{AnswerBody, CutOff};
use super::ladder::{self, Caller, Scope};
use super::pipeline::{Arrival, Asked, model_of, sees_money};
use super::request;
use super::respond::{self, X_COST, X_MAX_TOKENS, X_REQUEST_ID};

/// Headers of an answer that a repetition gets as well.
const KEPT_HEADERS: [HeaderName; 2] = [header::CONTENT_TYPE, X_MAX_TOKENS];

impl Arrival {
    /// Executes the call unless it was executed before.
    pub(super) async fn once(self, name: Name, mut facts: Facts, asked: Asked) -> Response<AnswerBody> {
        let name = match name {
            Ok(name) => name,
            Err(fault) => {
                facts.body = Checked::Refused(fault);
                return self.refuse_early(facts);
            }
        };
        let gateway = Arc::clone(&self.worker.gateway);
        let snapshot = gateway.app.directory.snapshot();
        let known = (facts.credential.passed(), facts.address.passed());
        let (Ok(()), (Some(credential), Some(endpoint))) =
            (ladder::decide_before_books(&snapshot, &facts), known)
        else {
            return self.refuse_early(facts);
        };
        drop(snapshot);
        let model: Box<str> = model_of(&facts).unwrap_or_default().into();
        let (key, path, body) = (credential.key, endpoint.path(), asked.body.clone());
        let form = asked.parsed.as_ref().ok().and_then(|request| request.form.clone());
        let (app, id) = (Arc::clone(&gateway.app), self.request);
        // A long body takes a while to be hashed.
        let begun = tokio::task::spawn_blocking(move || {
            let wish = Wish::of_key(key, name.as_bytes(), [path, &model], |said| match &form {
                // A client that sends a form again gives it another boundary.
                Some(media_type) => request::each_part(media_type, &body, |part| said.part(part)),
                None => said.rest(&body),
            });
            drop(body);
            app.idempotency.begin(wish, id, |first| known_of(&app, first))
        });
        match begun.await {
            Ok(Ok(Begun::First(claim))) => self.execute(claim, facts, asked).await,
            // The books know of every call what came of it.
            Ok(Ok(Begun::Running { first } | Begun::Untold { first })) => {
                self.refuse_repetition(names::in_progress(first), facts, asked).await
            }
            Ok(Ok(Begun::Reused { first })) => {
                self.refuse_repetition(names::reused(first), facts, asked).await
            }
            Ok(Ok(Begun::Answered { first, answer })) => self.replay(facts, first, answer).await,
            Ok(Err(why)) => {
                tracing::error!(%why, request = %self.request, "an Idempotency-Key could not be looked up");
                self.without_books(&BooksError::Stopped)
            }
            Err(_stopped) => self.without_books(&BooksError::Stopped),
        }
    }

    async fn refuse_repetition(self, why: Refusal, mut facts: Facts, asked: Asked) -> Response<AnswerBody> {
        facts.repetition.refused = Some(Box::new(why));
        self.decide(facts, asked).await
    }

    /// As a task of its own: the answer is kept whether or not its caller waits for it.
    async fn execute(self, claim: Claim, facts: Facts, asked: Asked) -> Response<AnswerBody> {
        let (reply, answer) = oneshot::channel();
        let arrival = self.clone();
        tokio::task::spawn_local(async move {
            let answered = arrival.decide(facts, asked).await;
            // A caller that has gone gets nothing.
            let _gone = reply.send(keep(claim, answered).await);
        });
        // No answer comes only if the gateway stops.
        answer.await.unwrap_or_else(|_| self.without_books(&BooksError::Stopped))
    }

    /// Gives a kept answer again.
    async fn replay(self, facts: Facts, first: RequestId, answer: Option<Answer>) -> Response<AnswerBody> {
        match (self.refuse_replay(facts, first), answer) {
            (Some(refused), _) => refused,
            (None, Some(answer)) => again(self.request, first, answer),
            (None, None) => self.receipt_instead(first).await,
        }
    }

    /// Decides on a call that is to be given what came of another one, and records it. Only the rungs up to the rate
    /// are asked: it costs nothing. `None`: it passes.
    pub(super) fn refuse_replay(&self, mut facts: Facts, first: RequestId) -> Option<Response<AnswerBody>> {
        let gateway = Arc::clone(&self.worker.gateway);
        let snapshot = gateway.app.directory.snapshot();
        let sees_account_money = sees_money(&snapshot, &facts);
        facts.repetition.replay_of = Some(first);
        let Some(caller) = Caller::of(&snapshot, &facts) else { return Some(self.refuse_early(facts)) };
        let scope = Scope::of(&snapshot, caller, &facts);
        let decided = gateway.app.books.decide(&scope, Decided::new(facts), |decided| {
            let readings = decided.readings.clone().unwrap_or_default();
            let verdict = ladder::decide_free(&snapshot, &decided.facts, &readings);
            decided.refusal = verdict.err().map(Box::new);
            None
        });
        drop(scope);
        drop(snapshot);
        let refusal = match &decided {
            Err(why) => return Some(self.without_books(why)),
            Ok((decided, _)) => decided.refusal.as_deref(),
        };
        refusal.map(|refusal| self.addressee(sees_account_money).refusal(refusal))
    }

    /// What there is to say of an answer that is not kept: the task that it told of, or the receipt.
    async fn receipt_instead(self, first: RequestId) -> Response<AnswerBody> {
        let (app, language) = (Arc::clone(&self.worker.gateway.app), self.language);
        let receipt = tokio::task::spawn_blocking(move || match app.tasks.made_by(first) {
            Ok(Some(task)) => Some(api::shown_task(&task, app.currency()).to_string().into()),
            Ok(None) | Err(_) => receipt::for_caller(&app, first, language),
        });
        match receipt.await {
            Ok(Some(receipt)) => {
                let json = HeaderValue::from_static("application/json");
                let head = Head { status: 200, headers: Vec::new(), role: None };
                let mut response = again(self.request, first, Answer { head, body: receipt });
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Ok(None) | Err(_) => self.without_books(&BooksError::Stopped),
        }
    }
}

/// What the books say of an earlier request.
fn known_of(app: &crate::app::App, request: RequestId) -> Known {
    match app.tasks.made_by(request) {
        Ok(Some(_)) => return Known::Made,
        Ok(None) => {}
        Err(why) => {
            tracing::error!(%why, %request, "the task of an earlier request could not be read");
            return Known::Running;
        }
    }
    match lookup::call(&app.books, &app.projections, request) {
        Ok(None) => Known::Nothing,
        Ok(Some(StoredCall { state, .. })) => match state {
            ChargeState::Held => Known::Running,
            ChargeState::None | ChargeState::Released => Known::Free,
            ChargeState::Settled | ChargeState::Refunded => Known::Charged,
        },
        // Nothing is executed twice because the log could not be read.
        Err(why) => {
            tracing::error!(%why, %request, "an earlier request could not be read");
            Known::Running
        }
    }
}

/// A kept answer, for another request.
fn again(request: RequestId, first: RequestId, answer: Answer) -> Response<AnswerBody> {
    let mut headers = http::HeaderMap::with_capacity(6);
    for (name, value) in &answer.head.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    for (name, id) in [(X_REQUEST_ID, request), (X_REPLAY_OF, first)] {
        if let Ok(id) = HeaderValue::from_bytes(&id.text()) {
            headers.insert(name, id);
        }
    }
    headers.insert(X_COST, HeaderValue::from_static("0"));
    let status = StatusCode::from_u16(answer.head.status).unwrap_or(StatusCode::OK);
    respond::response(status, headers, AnswerBody::whole(answer.body))
}

/// Keeps a good answer while it is given out; after any other the name is free again.
async fn keep(claim: Claim, answered: Response<AnswerBody>) -> Response<AnswerBody> {
    let (mut parts, body) = answered.into_parts();
    let cut_off = parts.extensions.remove::<CutOff>();
    if !parts.status.is_success() {
        finish(move || claim.give_up()).await;
        return Response::from_parts(parts, body);
    }
    let kept = |name: &HeaderName| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((name.to_string(), value.to_owned()))
    };
    let headers = KEPT_HEADERS.iter().filter_map(kept).collect();
    let head = Head { status: parts.status.as_u16(), headers, role: None };
    let body = match body {
        AnswerBody::Whole(bytes) => {
            let kept = bytes.clone().unwrap_or_default();
            let short = kept.len() <= ANSWER_BYTES_MAX;
            finish(move || claim.keep(&head, short.then_some(&kept))).await;
            AnswerBody::Whole(bytes)
        }
        pieces @ (AnswerBody::Pieces(_) | AnswerBody::List(_) | AnswerBody::Other(_)) => {
            let (sender, body) = AnswerBody::pieces();
            tokio::task::spawn_local(pass_on(claim, head, pieces, cut_off, sender));
            body
        }
    };
    Response::from_parts(parts, body)
}

/// Passes pieces on as they come, the last one once the whole answer is kept.
async fn pass_on(
    claim: Claim,
    head: Head,
    mut body: AnswerBody,
    cut_off: Option<CutOff>,
    caller: mpsc::Sender<Bytes>,
) {
    let (mut whole, mut last) = (Some(BytesMut::new()), None);
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(piece) = frame.into_data() else { continue };
        match &mut whole {
            Some(kept) if kept.len() + piece.len() <= ANSWER_BYTES_MAX => kept.extend_from_slice(&piece),
            _ => whole = None,
        }
        if let Some(before) = last.replace(piece) {
            // Fails once the caller has gone; the answer is kept for when it comes back.
            let _gone = caller.send(before).await;
        }
    }
    // The mark is set before the last piece of a cut answer is sent.
    match cut_off.is_some_and(|mark| mark.is_set()) {
        true => finish(move || claim.give_up()).await,
        false => finish(move || claim.keep(&head, whole.as_deref())).await,
    }
    if let Some(last) = last {
        let _gone = caller.send(last).await;
    }
}

/// Without the answer kept, a repetition gets the receipt: nothing is executed twice.
async fn finish(work: impl FnOnce() -> Result<(), crate::idempotency::IdempotencyError> + Send + 'static) {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::error!(%why, "an answer could not be kept"),
        Err(_stopped) => {}
    }
}
