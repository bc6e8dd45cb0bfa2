//! The way of a command to the routes: over the admin socket of the server that holds the data directory,
//! else in this process.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tower::ServiceExt as _;

use crate::api::{self, Principal};
use crate::app::{App, AppError};
use crate::clock::{SystemClock, SystemEntropy};
use crate::config::Config;
use crate::store::StoreErrorKind;

use super::{Exit, Failure};

/// Who is recorded for changes that a command makes in its own process.
const ACTOR: &str = "command line";

/// See the module.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    way: Way,
    language: &'static str,
}

/// Whoever an answer is for that may be long.
pub trait Taker {
    /// It is no refusal, and begins.
    fn begin(&mut self, headers: &HeaderMap) -> std::io::Result<()>;
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()>;
}

enum Way {
    Socket(std::path::PathBuf),
    /// The books are closed when it is dropped.
    Here {
        app: Arc<App>,
        router: axum::Router,
    },
}

impl Client {
    pub fn connect(config: Config, language: &'static str) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = config.admin_socket();
        let served = runtime.block_on(UnixStream::connect(&socket)).is_ok();
        let way = if served { Way::Socket(socket) } else { here(config)? };
        Ok(Client { runtime, way, language })
    }

    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call("POST", path, Some(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call("PATCH", path, Some(body))
    }

    /// Runs something that must be made within the runtime.
    pub(super) fn enter<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        make()
    }

    /// Waits; true: the signal came.
    pub(super) fn pause(
        &self,
        time: std::time::Duration,
        interrupt: &mut tokio::signal::unix::Signal,
    ) -> bool {
        self.runtime.block_on(super::watch::pause(time, interrupt))
    }

    /// Hands an answer on as it comes, whatever its length. An interrupt ends it.
    pub fn download(&self, path: &str, to: &mut dyn Taker) -> Result<(), Failure> {
        let request = self.request("GET", path, None)?;
        self.runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let response = self.response(request).await?;
            let status = response.status().as_u16();
            let (parts, mut body) = response.into_parts();
            if !(200..300).contains(&status) {
                let bytes = to_bytes(body, usize::MAX).await.map_err(Failure::unanswered)?;
                return Err(refused(status, &serde_json::from_slice(&bytes).unwrap_or(Value::Null)));
            }
            to.begin(&parts.headers)?;
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    _ = interrupt.recv() => return Err(Failure::unanswered("interrupted: what came is not whole")),
                };
                let Some(frame) = frame else { return Ok(()) };
                let frame = frame.map_err(Failure::unanswered)?;
                to.take(frame.data_ref().map(|bytes| &**bytes).unwrap_or_default())?;
            }
        })
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let request = self.request(method, path, body)?;
        let (status, bytes) = self.runtime.block_on(self.send(request))?;
        let answer: Value = serde_json::from_slice(&bytes).map_err(|_| {
            Failure::unanswered(format!("{method} {path} was answered with {status} and no JSON"))
        })?;
        if (200..300).contains(&status) { Ok(answer) } else { Err(refused(status, &answer)) }
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Request<Body>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "admin")
            .header(header::ACCEPT_LANGUAGE, self.language);
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        request.body(body).map_err(Failure::unanswered)
    }

    async fn response(&self, mut request: Request<Body>) -> Result<http::Response<Body>, Failure> {
        match &self.way {
            Way::Here { router, .. } => {
                request.extensions_mut().insert(Principal::machine(ACTOR));
                match router.clone().oneshot(request).await {
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                }
            }
            Way::Socket(path) => {
                let stream = UnixStream::connect(path).await?;
                let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(Failure::unanswered)?;
                tokio::spawn(connection);
                Ok(sender.send_request(request).await.map_err(Failure::unanswered)?.map(Body::new))
            }
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<(u16, axum::body::Bytes), Failure> {
        let response = self.response(request).await?;
        let status = response.status().as_u16();
        Ok((status, to_bytes(response.into_body(), usize::MAX).await.map_err(Failure::unanswered)?))
    }
}

impl Drop for Client {
    /// What was recorded is on disk before the command ends.
    fn drop(&mut self) {
        if let Way::Here { app, .. } = &self.way {
            app.stop_long_commands();
            app.books.close_blocking();
        }
    }
}

fn here(config: Config) -> Result<Way, Failure> {
    let public_url = config.public_url();
    let on_fatal = Box::new(
        |error: &crate::store::AppendError| tracing::error!(%error, "the journal cannot be written"),
    );
    let app = App::open(config, Arc::new(SystemClock), Arc::new(SystemEntropy::new()), 1, on_fatal);
    let app = Arc::new(app.map_err(opening)?);
    let router = api::router(Arc::clone(&app), &public_url);
    Ok(Way::Here { app, router })
}

/// A data directory that is taken, but whose socket does not answer, is being opened or closed.
pub fn opening(error: AppError) -> Failure {
    let taken = matches!(&error, AppError::Store(why) if why.kind() == StoreErrorKind::Taken);
    match taken {
        true => Failure::unanswered(format!("{error}, and its admin socket does not answer")),
        false => Failure::unanswered(error),
    }
}

/// A refusal of the catalogue as an exit.
fn refused(status: u16, answer: &Value) -> Failure {
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
    let message = text("/error/message").unwrap_or("the request was refused");
    let hint = text("/error/hint").map(|hint| format!("\n  {hint}")).unwrap_or_default();
    let code = text("/error/code").unwrap_or("");
    let exit = match (status, code) {
        (_, "unknown_field" | "invalid_value" | "invalid_json" | "amount_out_of_range") => Exit::Usage,
        (404 | 409 | 410, _) | (_, "second_person_required") => Exit::No,
        _ => Exit::Unanswered,
    };
    Failure { exit, text: format!("{message} [{code}]{hint}") }
}
