//! `/callbacks/{provider}`: where payment providers call back. No JSON interface: each provider speaks its own.
//!
//! Promises: the bytes reach the one who checks their signature as they came; 2xx is answered only when the callback is
//! stored and done.

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem::Problem;
use super::serve::{self, ApiError, Site, language_of};
use crate::catalogue::{Code, Refusal};
use crate::funding::callback::{BODY_BYTES_MAX, HEADERS_KEPT, Taken};
use crate::funding::provider::{Callback, Rejection};
use crate::gateway::bodies::Room;

/// Longest header that is kept, in bytes.
const HEADER_BYTES_MAX: usize = 1_024;

pub fn router(site: Site) -> Router {
    let take = move |Path(provider): Path<String>, request: Request| {
        let site = site.clone();
        async move { take(&site, provider, request).await }
    };
    Router::new().route("/callbacks/{provider}", get(take.clone()).post(take))
}

async fn take(site: &Site, provider: String, request: Request) -> Response {
    let language = language_of(request.headers());
    if let Some(query) = request.uri().query()
        && let Some(answer) = site.app.funding.answer_check(&provider, query)
    {
        return ([(axum::http::header::CONTENT_TYPE, "text/plain")], answer).into_response();
    }
    let answered = match read(site, request).await {
        Ok((callback, room)) => {
            let funding = std::sync::Arc::clone(&site.app.funding);
            let work = move || {
                let taken = funding.receive(&provider, &callback);
                drop(room);
                taken
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(done) => done.map_err(Problem::from),
                Err(panic) => Err(Problem::Internal(Box::new(panic))),
            }
        }
        Err(problem) => Err(problem),
    };
    let problem = match answered {
        Ok(Taken::Done(thanks)) => {
            let kind = if thanks.starts_with('{') { "application/json" } else { "text/plain" };
            return ([(axum::http::header::CONTENT_TYPE, kind)], thanks).into_response();
        }
        Ok(Taken::Refused(Rejection::TooLarge)) => too_large(),
        Ok(Taken::Refused(why)) => Refusal::new(Code::CallbackRefused).param("reason", why.as_str()).into(),
        Ok(Taken::NoProvider) => Problem::NotFound,
        Ok(Taken::TooMany) => return StatusCode::TOO_MANY_REQUESTS.into_response(),
        Err(problem) => problem,
    };
    ApiError::new(site, language, problem).into_response()
}

/// More than may be is read, so that what is too large can be kept as refused.
async fn read(site: &Site, request: Request) -> Result<(Callback, Room), Problem> {
    let (parts, body) = request.into_parts();
    let (body, room) = serve::read(&site.app, body, BODY_BYTES_MAX as u64 * 4).await?.into_parts();
    let callback = Callback {
        method: parts.method,
        query: parts.uri.query().unwrap_or_default().into(),
        headers: kept(&parts.headers),
        body: body.into(),
    };
    Ok((callback, room))
}

fn too_large() -> Problem {
    Refusal::new(Code::BodyTooLarge).param("limit_bytes", BODY_BYTES_MAX as u64).into()
}

fn kept(headers: &HeaderMap) -> Vec<(Box<str>, Box<str>)> {
    let one = |name: &&str| {
        let value = headers.get(*name)?.to_str().ok()?;
        let value = value.get(..value.floor_char_boundary(HEADER_BYTES_MAX)).unwrap_or_default();
        Some(((*name).into(), value.into()))
    };
    HEADERS_KEPT.iter().filter_map(one).collect()
}
