//! The upstream's HTTP side: its routes, its streams, and its ways to fail.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::answer::{Answer, PrefixCache};
use super::bill::{Bill, BillOutcome, BillRow, Item};
use super::call::Call;
use super::chat::{Behaviour, Chat};
use super::connection::Resettable;
use super::credit;
use super::respond::{
    Body, broken, busy, chunked, failed, full, gave_up, json, no_credit, picture, rejected,
};
use super::videos::Jobs;
use super::{
    BODY_BYTES_MAX, CALLER_REQUEST_HEADER, UPSTREAM_REQUEST_HEADER, made, studio, wire, wire_gemini,
};
use crate::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::demo::prices::MODELS;
use crate::gateway::facts::{Endpoint, Output};
use crate::secret::Secret;

/// Longest wish for a delay.
const DELAY_MS_MAX: u64 = 60_000;

/// What `demo-unstable` does, call after call.
const TURNS: [Behaviour; 8] = [
    Behaviour::Broken,
    Behaviour::Answer,
    Behaviour::Cut,
    Behaviour::Answer,
    Behaviour::Lost,
    Behaviour::Answer,
    Behaviour::Cut,
    Behaviour::Answer,
];

/// The state of one upstream.
pub(super) struct Server {
    key: Secret,
    pub(super) bill: Bill,
    prefixes: Mutex<PrefixCache>,
    /// Calls of `demo-unstable` so far.
    turns: AtomicUsize,
    pub(super) jobs: Arc<Mutex<Jobs>>,
    pub(super) studio_jobs: Mutex<studio::Jobs>,
}

/// Takes connections until dropped.
pub(super) async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            // Out of file descriptors or a connection that died in the queue.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _nagle_stays = tcp.set_nodelay(true);
        let reset = Arc::new(AtomicBool::new(false));
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let io = TokioIo::new(Resettable { tcp, reset: Arc::clone(&reset) });
            let service = service_fn(|request| {
                let (server, reset) = (Arc::clone(&server), Arc::clone(&reset));
                async move { Ok::<_, Infallible>(server.route(request, reset).await) }
            });
            // A connection that fails is the caller's to notice.
            let _ended = auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        });
    }
}

impl Server {
    pub fn new(key: Secret, bill: Bill) -> Self {
        Self {
            key,
            bill,
            prefixes: Mutex::default(),
            turns: AtomicUsize::new(0),
            jobs: Arc::default(),
            studio_jobs: Mutex::default(),
        }
    }

    async fn route(self: Arc<Self>, request: Request<Incoming>, reset: Arc<AtomicBool>) -> Response<Body> {
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::GET, "/bill") => self.bill(request.uri().query(), false).await,
            (&Method::GET, path) if path.starts_with(made::PICTURES) => picture(path),
            (_, path) if path.starts_with(studio::PATH) => self.studio(request).await,
            (&Method::GET, "/bill.json") => self.bill(request.uri().query(), true).await,
            (&Method::POST, path) if of_other_format(path).is_some() => {
                let (endpoint, model) = of_other_format(path).unwrap_or((Endpoint::Messages, None));
                let model = model.map(str::to_owned);
                if !self.knows(&request) {
                    return failed(endpoint, 401, "");
                }
                if endpoint.is_count() {
                    return self.count(endpoint, model, request).await;
                }
                self.chat(endpoint, model, request, reset).await
            }
            _ if !self.knows(&request) => {
                let message = "Incorrect API key provided.";
                let body = wire::error("invalid_request_error", Some("invalid_api_key"), None, message);
                json(StatusCode::UNAUTHORIZED, &body)
            }
            (&Method::GET, path) if credit::is_asked_at(path) => self.credit(request.uri().path()).await,
            (&Method::GET, "/v1/models") => json(StatusCode::OK, &wire::models()),
            (_, path) if path == "/v1/videos" || path.starts_with("/v1/videos/") => {
                self.videos(request).await
            }
            (&Method::POST, path) if endpoint_at(path).is_some_and(is_text) => {
                let endpoint = endpoint_at(path).unwrap_or(Endpoint::ChatCompletions);
                self.chat(endpoint, None, request, reset).await
            }
            (&Method::POST, path) if endpoint_at(path).is_some() => self.make(request).await,
            (method, path) => {
                let message = format!("Invalid URL ({method} {path})");
                json(StatusCode::NOT_FOUND, &wire::error("invalid_request_error", None, None, &message))
            }
        }
    }

    /// What is left of the gateway's credit here.
    async fn credit(self: Arc<Self>, path: &str) -> Response<Body> {
        let spent = tokio::task::spawn_blocking(move || self.bill.total()).await;
        match spent.ok().and_then(Result::ok) {
            Some(spent) => json(StatusCode::OK, &credit::told(path, spent)),
            None => broken(),
        }
    }

    /// Whether the key is in a header of this name.
    pub(super) fn shows_key(&self, request: &Request<Incoming>, header: &str) -> bool {
        request.headers().get(header).is_some_and(|sent| self.key.matches(sent.as_bytes()))
    }

    fn knows(&self, request: &Request<Incoming>) -> bool {
        let sent = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
        let key = match of_other_format(request.uri().path()).map(|(endpoint, _)| endpoint) {
            // A version is asked for beside the key.
            Some(Endpoint::Messages | Endpoint::CountMessages) => {
                sent("anthropic-version").and_then(|_| sent("x-api-key"))
            }
            Some(_) => sent("x-goog-api-key"),
            None => sent("authorization").and_then(|sent| sent.strip_prefix(b"Bearer ")),
        };
        key.is_some_and(|key| self.key.matches(key))
    }

    /// Pictures, sound, vectors and the like.
    async fn make(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (endpoint, caller) = (endpoint_at(request.uri().path()), caller_of(&request));
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default().to_owned();
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
            let body = wire::error("invalid_request_error", None, None, "The body is broken or too large.");
            return json(StatusCode::PAYLOAD_TOO_LARGE, &body);
        };
        let endpoint = endpoint.unwrap_or(Endpoint::Embeddings);
        let made = match made::make(endpoint, &media_type, &body.to_bytes(), &host) {
            Ok(made) => made,
            Err(rejection) => return rejected(&rejection),
        };
        sleep(Duration::from_millis(made.delay_ms.min(DELAY_MS_MAX))).await;
        let id = fresh_id();
        let item = Item {
            upstream_request_id: format!("up_{id}"),
            answer_id: format!("made_{id}"),
            gateway_request_id: caller,
            model: made.model.name,
            usage: made.usage,
            price: made.price,
            outcome: BillOutcome::Whole,
            at_ms: SystemClock.now_ms(),
        };
        if !self.bill.append(item).await {
            return broken();
        }
        if made.is_lost {
            return gave_up();
        }
        let (send, chunks) = mpsc::channel(4);
        let mut response = chunked(chunks);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(made.content_type));
        if let Ok(id) = HeaderValue::from_str(&format!("up_{id}")) {
            headers.insert(UPSTREAM_REQUEST_HEADER, id);
        }
        tokio::spawn(async move {
            for piece in made.pieces {
                // A caller that has gone has been billed.
                if send.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        });
        response
    }

    async fn chat(
        self: Arc<Self>,
        endpoint: Endpoint,
        model: Option<String>,
        request: Request<Incoming>,
        reset: Arc<AtomicBool>,
    ) -> Response<Body> {
        let caller = caller_of(&request);
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
            let body = wire::error("invalid_request_error", None, None, "The body is broken or too large.");
            return json(StatusCode::PAYLOAD_TOO_LARGE, &body);
        };
        let body = body.to_bytes();
        let read = match &model {
            None => Chat::read(endpoint, &body),
            Some(model) => Chat::read_gemini(endpoint, model, &body),
        };
        let mut chat = match read {
            Ok(chat) => chat,
            Err(rejection) if is_openai(endpoint) => return rejected(&rejection),
            Err(rejection) => return failed(endpoint, rejection.status, &rejection.message),
        };
        if let Some(status) = chat.wish("#status").and_then(|status| u16::try_from(status).ok()) {
            return failed(endpoint, status, "This model was asked to fail.");
        }
        if let Some(ms) = chat.wish("#delay_ms") {
            sleep(Duration::from_millis(ms.min(DELAY_MS_MAX))).await;
        }
        if chat.behaviour == Behaviour::Unstable {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed) % TURNS.len();
            chat.behaviour = TURNS.get(turn).copied().unwrap_or(Behaviour::Answer);
        }
        match chat.behaviour {
            Behaviour::Busy => return busy(),
            Behaviour::NoCredit => return no_credit(),
            Behaviour::Broken => return broken(),
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Answer
            | Behaviour::Slow
            | Behaviour::Cut
            | Behaviour::NoUsage
            | Behaviour::Lost
            | Behaviour::Unstable => {}
        }
        let answer = Answer::new(&chat, &body, &mut self.prefixes.lock());
        let call = Call::new(self, chat, answer, caller);
        call.answer(reset).await
    }

    /// How many tokens a request is. Nobody bills for that.
    async fn count(
        self: Arc<Self>,
        endpoint: Endpoint,
        model: Option<String>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
            return failed(endpoint, 413, "The body is broken or too large.");
        };
        let mut body = body.to_bytes();
        let read = match &model {
            None => Chat::read(endpoint.called(), &body),
            Some(model) => {
                body = wire_gemini::counted(&body).unwrap_or(body);
                Chat::read_gemini(endpoint.called(), model, &body)
            }
        };
        let chat = match read {
            Ok(chat) => chat,
            Err(rejection) => return failed(endpoint, rejection.status, &rejection.message),
        };
        if let Some(status) = chat.wish("#status").and_then(|status| u16::try_from(status).ok()) {
            return failed(endpoint, status, "This model was asked to fail.");
        }
        let tokens = super::answer::input_of(&chat, &body);
        let count = match endpoint {
            Endpoint::CountMessages => serde_json::json!({"input_tokens": tokens}),
            _ => serde_json::json!({
                "totalTokens": tokens,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
            }),
        };
        json(StatusCode::OK, &count)
    }

    /// The bill as JSON lines or as one document; `?since=` leaves out the
    /// rows up to that number, or before that RFC 3339 time.
    async fn bill(self: Arc<Self>, query: Option<&str>, document: bool) -> Response<Body> {
        let since = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("since="));
        let since = since.unwrap_or("0").replace("%3A", ":").replace("%3a", ":").replace("%2B", "+");
        let number = since.parse::<u64>().ok();
        let time = since.parse::<jiff::Timestamp>().ok();
        if number.is_none() && time.is_none() {
            let message = "since is neither a row's number nor a time";
            return json(
                StatusCode::BAD_REQUEST,
                &wire::error("invalid_request_error", None, Some("since"), message),
            );
        }
        let keep = move |row: &BillRow| match (number, time) {
            (Some(number), _) => row.n > number,
            (None, Some(time)) => row.time.parse::<jiff::Timestamp>().is_ok_and(|at| at >= time),
            (None, None) => true,
        };
        let lines = tokio::task::spawn_blocking(move || self.bill.lines(keep)).await;
        let Ok(Ok(lines)) = lines else {
            let body = wire::error("server_error", None, None, "The bill cannot be read.");
            return json(StatusCode::INTERNAL_SERVER_ERROR, &body);
        };
        if !document {
            return full(StatusCode::OK, "application/jsonl", lines.into());
        }
        let rows: Vec<BillRow> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let total: i128 = rows.iter().map(|row| i128::from(row.cost_nano)).sum();
        let total = i64::try_from(total).map_or(Value::Null, |nano| ledger::Nano(nano).to_string().into());
        json(StatusCode::OK, &serde_json::json!({"currency": "USD", "total": total, "rows": rows}))
    }
}

/// Anthropic's and Gemini's addresses, and the model that stands in one of Gemini's.
fn of_other_format(path: &str) -> Option<(Endpoint, Option<&str>)> {
    let of_anthropic = [Endpoint::Messages, Endpoint::CountMessages];
    let below = path.strip_prefix("/v1/").unwrap_or_default();
    if let Some(endpoint) = of_anthropic.into_iter().find(|endpoint| endpoint.path() == below) {
        return Some((endpoint, None));
    }
    let (model, asked) = path.strip_prefix("/v1beta/models/")?.rsplit_once(':')?;
    let endpoints = [Endpoint::GenerateContent, Endpoint::StreamGenerateContent, Endpoint::CountContents];
    endpoints.into_iter().find(|endpoint| endpoint.path() == asked).map(|endpoint| (endpoint, Some(model)))
}

fn is_openai(endpoint: Endpoint) -> bool {
    !matches!(endpoint, Endpoint::Messages | Endpoint::GenerateContent | Endpoint::StreamGenerateContent)
}

/// The endpoint of a path, if it is served here.
fn endpoint_at(path: &str) -> Option<Endpoint> {
    let path = path.strip_prefix("/v1/")?;
    let served = |endpoint: &Endpoint| MODELS.iter().any(|model| model.works_at(*endpoint));
    Endpoint::ALL.into_iter().filter(served).find(|endpoint| endpoint.path() == path)
}

/// Whether its answers are text that a model says.
fn is_text(endpoint: Endpoint) -> bool {
    endpoint.output() == Output::Capped
}

pub(super) fn caller_of(request: &Request<Incoming>) -> Option<String> {
    let caller = request.headers().get(CALLER_REQUEST_HEADER).and_then(|id| id.to_str().ok());
    caller.map(str::to_owned)
}

pub(super) fn fresh_id() -> String {
    let mut random = [0u8; 16];
    SystemEntropy::new().fill(&mut random);
    format!("{:032x}", u128::from_be_bytes(random))
}
