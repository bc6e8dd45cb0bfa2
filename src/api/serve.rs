//! Runs the routes over HTTP: who calls → the body → the handler, on a thread that may block → the answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use axum::{RequestExt, Router};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::app::App;
use crate::catalogue::{self, Code, Language, Refusal, RenderContext};
use crate::directory::{FieldError, KeyStatus, TokenHolder};
use crate::gateway::{
    self,
    bodies::{self, BodyFault},
    facts::{Checked, Credential},
    identify,
};
use crate::id::RequestId;

use super::access::Principal;
use super::json::{self, JsonFault};
use super::once::{self, Done};
use super::problem::Problem;
use super::route::{Call, Method, Reply, Route, Who};
use super::{openapi, routes};

/// Largest body of a management request.
const BODY_BYTES_MAX: u64 = 1 << 20;
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every answer needs to know. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    pub app: Arc<App>,
    /// Where callers reach this server, for links.
    pub public_url: Arc<str>,
}

impl Site {
    fn request_id(&self) -> RequestId {
        RequestId::new(&*self.app.clock, &*self.app.entropy)
    }
}

/// Everything that is no model call: the JSON interface and the pages.
///
/// Who came over the admin socket is told by a [`Principal`] among the request's extensions.
pub fn router(app: Arc<App>, public_url: &str) -> Router {
    let site = Site { app, public_url: public_url.into() };
    let mut router = Router::new();
    for route in routes() {
        let filter = match route.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Patch => MethodFilter::PATCH,
            Method::Delete => MethodFilter::DELETE,
        };
        let site = site.clone();
        router = router.route(
            route.path,
            on(filter, move |request: Request| {
                let site = site.clone();
                async move { answer(&site, route, request).await }
            }),
        );
    }
    let ready = Arc::clone(&site.app);
    let (lost, pages, wrong_method) = (site.clone(), site.clone(), site.clone());
    router
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(move || readyz(ready)))
        .merge(super::callbacks::router(site.clone()))
        .route("/openapi.json", get(|| async { json_text(openapi::document().to_string()) }))
        .route("/errors.json", get(|| async { json_text(catalogue::errors_json()) }))
        .merge(crate::console::router(pages))
        .fallback(move |request: Request| async move { unknown(&lost, &request) })
        .method_not_allowed_fallback(
            move |request: Request| async move { wrong_verb(&wrong_method, &request) },
        )
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Ready: the projections can be read and the books take commands.
async fn readyz(app: Arc<App>) -> Response {
    let checked = tokio::task::spawn_blocking(move || app.books.flush_blocking().is_ok()).await;
    match checked {
        Ok(true) => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

/// A failure with what its answer needs to know of the request.
pub struct ApiError {
    refusal: Box<Refusal>,
    language: Language,
    request_id: RequestId,
    public_url: Arc<str>,
}

impl ApiError {
    pub fn new(site: &Site, language: Language, problem: Problem) -> Self {
        Self::of(site, site.request_id(), language, problem)
    }

    fn of(site: &Site, request_id: RequestId, language: Language, problem: Problem) -> Self {
        let refusal = problem.refusal();
        tracing::debug!(%request_id, code = %refusal.code, "a request of the API was refused");
        ApiError { refusal, language, request_id, public_url: Arc::clone(&site.public_url) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let context = RenderContext {
            request_id: self.request_id,
            language: self.language,
            public_url: &self.public_url,
            money_visible: true,
            has_why: false,
            shape: catalogue::Shape::OpenAi,
        };
        let (status, headers, body) = catalogue::render(&self.refusal, &context);
        (status, headers, body).into_response()
    }
}

pub fn language_of(headers: &HeaderMap) -> Language {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    accepted.map(Language::from_accept).unwrap_or_default()
}

fn unknown(site: &Site, request: &Request) -> ApiError {
    let refusal = Refusal::new(Code::UnknownEndpoint).param("path", request.uri().path());
    ApiError::new(site, language_of(request.headers()), refusal.into())
}

fn wrong_verb(site: &Site, request: &Request) -> ApiError {
    let path = request.uri().path();
    let allowed: Vec<_> =
        routes().filter(|route| fits(route.path, path)).map(|route| route.method.as_str()).collect();
    let allowed = if allowed.is_empty() { "GET".to_owned() } else { allowed.join(", ") };
    let refusal = Refusal::new(Code::MethodNotAllowed)
        .param("path", path)
        .param("method", request.method().as_str())
        .param("allowed", allowed);
    ApiError::new(site, language_of(request.headers()), refusal.into())
}

/// Whether a path is one of a route's.
pub fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path) = (pattern.split('/'), path.split('/'));
    pattern.clone().count() == path.clone().count()
        && pattern.zip(path).all(|(wanted, found)| wanted.starts_with('{') || wanted == found)
}

async fn answer(site: &Site, route: &'static Route, request: Request) -> Response {
    let language = language_of(request.headers());
    let id = site.request_id();
    match run(&site.app, route, request, (id, language)).await {
        Ok(Done::Now(reply)) => signed(id, response(reply, language)),
        Ok(Done::Before { first, answer }) => signed(id, once::again(first, answer)),
        Err(problem) => ApiError::of(site, id, language, problem).into_response(),
    }
}

async fn run(
    app: &Arc<App>,
    route: &'static Route,
    mut request: Request,
    (request_id, language): (RequestId, Language),
) -> Result<Done, Problem> {
    let params = request.extract_parts::<RawPathParams>().await.map_err(|_| Problem::NotFound)?;
    let path: Vec<_> = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (parts, body) = request.into_parts();
    let (principal, caller) = admit(app, route, &parts)?;
    let named = once::named(route, &parts, principal.as_ref())?;
    let query = query_of(route, &parts)?;
    let bytes_max = match route.who {
        Who::Key => app.config.limits.request_body_bytes_max,
        Who::KeyOrStranger | Who::Role(_) => BODY_BYTES_MAX,
    };
    let (raw, room) = read(app, body, bytes_max).await?.into_parts();
    let mut body = fields(route, &raw)?;
    let expected = expected(&parts.headers, &mut body)?;
    let app = Arc::clone(app);
    let address = parts.extensions.get::<IpAddr>().copied();
    let work = move || {
        let (app, path, query) = (&app, &*path, &*query);
        let call = Call { app, path, query, body, raw, expected, principal, caller, language, address };
        let done = match &named {
            None => (route.run)(&call).map(Done::Now),
            Some(named) => once::run(app, named, (request_id, language), &call.raw, || (route.run)(&call)),
        };
        drop(room);
        done
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| Problem::Internal(Box::new(panic)))?
}

type Caller = Result<Credential, Box<Refusal>>;

/// Checks who calls, before anything of the body is read.
fn admit(app: &App, route: &Route, parts: &Parts) -> Result<(Option<Principal>, Caller), Problem> {
    match route.who {
        Who::Role(access) => {
            let principal = principal(app, parts)?;
            access.check(&principal, route.name)?;
            Ok((Some(principal), Err(Box::new(Refusal::new(Code::MissingKey)))))
        }
        Who::Key => Ok((None, Ok(identify(app, &parts.headers)?))),
        Who::KeyOrStranger => Ok((None, identify(app, &parts.headers).map_err(Problem::refusal))),
    }
}

/// Who is calling: over the admin socket, with the admin token, or with an access token.
fn principal(app: &App, parts: &Parts) -> Result<Principal, Problem> {
    if let Some(principal) = parts.extensions.get::<Principal>() {
        return Ok(principal.clone());
    }
    let shown = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let token = shown.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let known = token.and_then(|(_, token)| {
        if app.config.admin.token.as_ref().is_some_and(|expected| expected.matches(token)) {
            return Some(Principal::machine("admin token"));
        }
        let now = jiff::Timestamp::from_millisecond(app.clock.now_ms()).unwrap_or(jiff::Timestamp::MAX);
        let snapshot = app.directory.snapshot();
        match app.directory.token_holder(token, now)? {
            TokenHolder::Operator(id) => {
                let role = snapshot.operator(id)?.role;
                Some(Principal::Operator { actor: format!("operator {id}"), role })
            }
            TokenHolder::Member(member) => {
                let known = snapshot.member(member)?;
                Some(Principal::Member { member, account: known.account, role: known.role })
            }
        }
    });
    known.ok_or_else(|| Refusal::new(Code::SignInRequired).into())
}

/// The key of a request: rungs 1 and 2 of the ladder and nothing more.
pub fn identify(app: &App, headers: &HeaderMap) -> Result<Credential, Problem> {
    let credential = match gateway::identify::credential(headers, None, &app.directory, app.clock.now_ms()) {
        Checked::Passed(credential) => credential,
        Checked::Refused(refusal) => return Err(Problem::Refused(refusal)),
        Checked::NotReached => return Err(Refusal::new(Code::MissingKey).into()),
    };
    let status = app.directory.snapshot().key(credential.key).map(|key| key.status);
    match status {
        Some(KeyStatus::Revoked) => {
            Err(Refusal::new(Code::KeyRevoked).param("key", credential.key.to_string()).into())
        }
        // Whatever else its state is: who is refused may ask why.
        Some(_) => Ok(credential),
        None => Err(Refusal::new(Code::UnknownKey).into()),
    }
}

/// The query string; a parameter that the route does not know is refused, as a field of a body would be.
fn query_of(route: &Route, parts: &Parts) -> Result<Vec<(String, String)>, Problem> {
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    let query = query.map_err(|_| FieldError::new("query", "cannot be read"))?.0;
    for (name, _) in &query {
        if !route.query.iter().any(|param| param.name == name) {
            let known: Vec<_> = route.query.iter().map(|param| param.name.to_owned()).collect();
            let refusal = Refusal::new(Code::UnknownField).field(name.as_str()).param("known", known);
            return Err(refusal.into());
        }
    }
    Ok(query)
}

/// Reads a body; the room that it takes is counted like that of a model call.
pub async fn read(app: &App, body: Body, bytes_max: u64) -> Result<bodies::Body, Problem> {
    let limit_ms = app.config.limits.body_timeout_ms;
    let read = app.bodies.read(body, bytes_max, None);
    let refusal = match timeout(Duration::from_millis(limit_ms), read).await {
        Ok(Ok(body)) => return Ok(body),
        Ok(Err(BodyFault::TooLarge)) => Refusal::new(Code::BodyTooLarge).param("limit_bytes", bytes_max),
        Ok(Err(BodyFault::NoRoom)) => Refusal::new(Code::GatewayOverloaded),
        Ok(Err(BodyFault::Malformed)) => {
            Refusal::new(Code::MalformedRequest).param("problem", identify::BAD_CHUNKS)
        }
        Ok(Err(BodyFault::Broken)) => Refusal::new(Code::InvalidJson).param("reason", "the body broke off"),
        Err(_elapsed) => Refusal::new(Code::RequestTimeout).param("limit_ms", limit_ms),
    };
    Err(refusal.into())
}

/// The body as an object of the route's shape.
fn fields(route: &Route, raw: &[u8]) -> Result<Map<String, Value>, Problem> {
    let Some(shape) = route.body.filter(|shape| !shape.fields.is_empty()) else { return Ok(Map::new()) };
    let value = json::read(raw).map_err(|fault| match fault {
        JsonFault::Broken(why) => {
            Problem::from(Refusal::new(Code::InvalidJson).param("reason", why.to_string()))
        }
        JsonFault::Twice(field) => FieldError::new(field, json::IS_TWICE).into(),
    })?;
    shape.check(&value, route.partial()).map_err(|error| Problem::of_shape(shape, error))?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

/// The version that an editor saw: `If-Match`, or the field `version`.
fn expected(headers: &HeaderMap, body: &mut Map<String, Value>) -> Result<Option<u64>, Problem> {
    let field = body.remove("version").and_then(|version| version.as_u64());
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(field) };
    let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
    match text.parse() {
        Ok(version) => Ok(Some(version)),
        Err(_) => Err(FieldError::new("If-Match", "must be the number that ETag showed").into()),
    }
}

fn response(reply: Reply, language: Language) -> Response {
    let mut response = match reply.download {
        None => (reply.status, json_text(reply.body.to_string())).into_response(),
        Some(download) => {
            let headers: HeaderMap = download.headers().collect();
            (reply.status, headers, download.body()).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.as_str()));
    if let Some(version) = reply.version
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\""))
    {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// What every good answer has: its request's id, and that nobody on the way keeps it.
fn signed(id: RequestId, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_bytes(&id.text()) {
        headers.insert(X_REQUEST_ID, id);
    }
    response
}
