//! A POST under an `Idempotency-Key`: done once; sent again, it is given the answer of the first one.
//!
//! Promises: a name belongs to whoever sends it – an operator, a member, the admin token – and stands for one path, query
//! and body. Who may do it is asked of each repetition again. An answer is kept before it leaves, also where its caller
//! has gone. Whether a POST was done whose process died, or that failed in the middle, cannot be told, so that it is not
//! done again under its name.
//!
//! Must never: do a thing twice under one name, or give an answer to another role than it was made for.

use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::catalogue::{Code, Language, Refusal};
use crate::id::RequestId;
use crate::idempotency::header as names;
use crate::idempotency::{ANSWER_BYTES_MAX, Answer, Begun, Claim, Head, Known, Wish};

use super::access::{self, Principal};
use super::problem::Problem;
use super::route::{Reply, Route};

/// What a request is called, and by whom.
pub struct Named {
    name: HeaderValue,
    actor: String,
    role: &'static str,
    /// Method and path, and the query.
    place: [String; 2],
}

/// The name of a request, if it has one and its route takes names.
pub fn named(route: &Route, parts: &Parts, principal: Option<&Principal>) -> Result<Option<Named>, Problem> {
    let Some(principal) = principal.filter(|_| route.takes_names()) else { return Ok(None) };
    let Some(name) = names::name(&parts.headers) else { return Ok(None) };
    let name = name.map_err(Problem::Refused)?;
    let path = format!("{} {}", route.method.as_str(), parts.uri.path());
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let named = Named { name, actor: principal.actor(), role: principal.role(), place: [path, query] };
    Ok(Some(named))
}

/// What came of a request.
pub enum Done {
    Now(Reply),
    /// It was done before.
    Before {
        first: RequestId,
        answer: Answer,
    },
}

/// Does the work unless it was done before under this name. Blocks.
pub fn run(
    app: &App,
    named: &Named,
    (request, language): (RequestId, Language),
    raw: &[u8],
    work: impl FnOnce() -> Result<Reply, Problem>,
) -> Result<Done, Problem> {
    let [path, query] = &named.place;
    let wish = Wish::of_actor(&named.actor, named.name.as_bytes(), [path, query], raw);
    let may_run = app.directory_is_shared();
    let refused =
        |code, first: RequestId| Err(Refusal::new(code).param("first_request", first.to_string()).into());
    match app.idempotency.begin(wish, request, |_| Known::Untold { may_run })? {
        Begun::First(claim) => {
            let done = work();
            end(claim, named.role, language, &done);
            done.map(Done::Now)
        }
        Begun::Running { first } => Err(names::in_progress(first).into()),
        Begun::Reused { first } => Err(names::reused(first).into()),
        Begun::Untold { first } => refused(Code::IdempotencyOutcomeUnknown, first),
        Begun::Answered { first, answer: None } => refused(Code::IdempotencyAnswerGone, first),
        Begun::Answered { answer: Some(answer), .. } if answer.head.role.as_deref() != Some(named.role) => {
            Err(access::forbidden("to be given what another role was answered"))
        }
        Begun::Answered { first, answer: Some(answer) } => Ok(Done::Before { first, answer }),
    }
}

/// Keeps a good answer. What was refused was not done, and may be sent again; what failed was done or not. What cannot
/// be written down here stands as begun, and is not done again either.
fn end(claim: Claim, role: &'static str, language: Language, done: &Result<Reply, Problem>) {
    let written = match done {
        Ok(reply) => {
            let body = reply.download.is_none().then(|| reply.body.to_string().into_bytes());
            let body = body.filter(|body| body.len() <= ANSWER_BYTES_MAX);
            claim.keep(&head(reply, role, language), body.as_deref())
        }
        Err(problem) if problem.is_fault() => claim.leave_untold(),
        Err(_) => claim.give_up(),
    };
    if let Err(why) = written {
        tracing::error!(%why, "what came of a request under an Idempotency-Key could not be kept");
    }
}

fn head(reply: &Reply, role: &'static str, language: Language) -> Head {
    let tag = reply.version.map(|version| (header::ETAG, format!("\"{version}\"")));
    let language = (header::CONTENT_LANGUAGE, language.as_str().to_owned());
    let kind = (header::CONTENT_TYPE, "application/json".to_owned());
    let headers = [kind, language].into_iter().chain(tag);
    Head {
        status: reply.status.as_u16(),
        headers: headers.map(|(name, value)| (name.to_string(), value)).collect(),
        role: Some(role.to_owned()),
    }
}

/// A kept answer.
pub fn again(first: RequestId, answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.head.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    for (name, value) in &answer.head.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    if let Ok(first) = HeaderValue::from_bytes(&first.text()) {
        headers.insert(names::X_REPLAY_OF, first);
    }
    response
}
