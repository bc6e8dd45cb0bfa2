//! The HTTP client that calls upstreams.
//!
//! For: the forward step; one [`Upstreams`] per worker thread, never shared between threads.
//! Promises: as little work per call as a proxy can do: no task and no channel per call, one
//! write for a request, one piece per read of an answer (HTTP/1.1, hand-written; HTTP/2 by hyper,
//! where the upstream chose it). Every limit is a setting or a named constant. One connection per
//! HTTP/1.1 call under way: how many calls there may be is the gateway's admission to bound.
//! Must never: send a call twice that the upstream may have received. A call of a model costs
//! money when it is processed, not when its answer arrives, so the usual rule ("the kept
//! connection was closed, so try another") is not good enough: an upstream that took the request
//! and then crashed looks just the same. Only these are sent again, once, on a new connection:
//! - a request whose last byte this machine never handed to the network: nobody can have it whole;
//! - on HTTP/2, a request of which the upstream says that it did not look at it;
//! - a request with an idempotent method (GET of a model list), closed without a byte of answer.
//!
//! All others come back as [`ForwardError`] with `sent() == true`, and the money side decides.
//! Idle connections are looked at before use, and not used up to the moment at which the upstream
//! said it would close them, so that this is rare.

mod answer;
mod chunked;
mod connect;
mod error;
mod h1;
mod h2;
mod head;
mod pool;
mod request;
mod settings;
mod target;
mod tls;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};

pub use self::answer::{Answer, AnswerStream, Collected, Protocol};
pub use self::chunked::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};
pub use self::error::{ForwardError, Phase};
pub use self::head::{HEAD_BYTES_MAX, HEADERS_MAX, Headers};
pub use self::request::{Call, PATH_BYTES_MAX};
pub use self::settings::Settings;
pub use self::target::{BASE_URL_BYTES_MAX, Target, TargetError};
pub use self::tls::{Tls, TlsSetupError};

use self::h1::{Connection, Fail};
use self::pool::{Host, Pool};

/// A body up to this size is copied behind its head and goes out in one plain write.
const JOINED_BODY_BYTES_MAX: usize = 16 * 1_024;
/// The write buffer that is kept between calls, in bytes.
const KEPT_BUFFER_BYTES_MAX: usize = 64 * 1_024;
/// Idle connections are swept this often, at the latest with the next call after it.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// A worker's connections to all upstreams.
pub struct Upstreams {
    settings: Rc<Settings>,
    tls: Arc<ClientConfig>,
    pool: Pool,
    /// The buffer in which requests are written.
    buffer: RefCell<Vec<u8>>,
    swept: Cell<Option<Instant>>,
}

/// A connection to send a call on.
enum Route {
    /// The flag tells whether it has served a call before.
    Http1(Box<Connection>, bool),
    Http2(h2::Place, bool),
}

/// What became of one attempt.
enum Attempt {
    Done(Answer),
    /// May be sent again without being done twice.
    Again(ForwardError),
    Failed(ForwardError),
}

impl Upstreams {
    #[must_use]
    pub fn new(settings: Settings, tls: &Tls) -> Self {
        Self {
            tls: tls.config(settings.http2),
            settings: Rc::new(settings.bounded()),
            pool: Pool::default(),
            buffer: RefCell::new(Vec::new()),
            swept: Cell::new(None),
        }
    }

    /// Sends a call and waits for the head of its answer. Dropping the future gives the call up
    /// and closes its connection.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, ForwardError> {
        call.check()?;
        let now = Instant::now();
        if self.swept.get().is_none_or(|last| now.saturating_duration_since(last) > SWEEP_EVERY) {
            self.sweep();
        }
        let host = self.pool.host(&call.target.origin.key);
        let route = match self.pooled(&host, now) {
            Some(route) => route,
            // Boxed: most calls find a connection, and must not carry the room that a new one needs.
            None => Box::pin(self.connected(&host, &call)).await?,
        };
        match self.attempt(&host, &call, route).await {
            Attempt::Done(answer) => Ok(answer),
            Attempt::Failed(error) => Err(error),
            Attempt::Again(error) => {
                tracing::debug!(%error, upstream = call.target.origin.key, "a kept connection was gone");
                // A new one: what closed the first has likely closed its neighbours too.
                let route = Box::pin(self.connected(&host, &call)).await?;
                match self.attempt(&host, &call, route).await {
                    Attempt::Done(answer) => Ok(answer),
                    Attempt::Again(error) | Attempt::Failed(error) => Err(error),
                }
            }
        }
    }

    /// Closes connections that have been idle too long. Calls do this by the way; a worker whose
    /// calls may cease calls it from its ticker, every few seconds.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.swept.set(Some(now));
        self.pool.sweep(now, self.settings.idle_timeout);
    }

    /// Idle HTTP/1.1 connections and open HTTP/2 connections, for metrics.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.pool.count()
    }

    fn pooled(&self, host: &Rc<Host>, now: Instant) -> Option<Route> {
        if let Some(shared) = host.shared.borrow().iter().find(|shared| shared.has_room()) {
            return Some(Route::Http2(shared.place(), true));
        }
        host.take(now).map(|connection| Route::Http1(connection, true))
    }

    /// A new connection, or a shared one that another call has just made.
    async fn connected(&self, host: &Rc<Host>, call: &Call<'_>) -> Result<Route, ForwardError> {
        let limit = self.settings.connect_timeout;
        let origin = &*call.target.origin;
        timeout(limit, async {
            // Calls that come together wait for one handshake, because they may share it.
            let may_share = self.settings.http2 && call.target.is_https();
            let turn = match may_share && !host.http1_only.get() {
                true => Some(host.connecting.lock().await),
                false => None,
            };
            if turn.is_some()
                && let Some(shared) = host.shared.borrow().iter().find(|shared| shared.has_room())
            {
                return Ok(Route::Http2(shared.place(), true));
            }
            // The upstream turned out to speak HTTP/1.1 only while this call waited: go on at once.
            let turn = turn.filter(|_| !host.http1_only.get());
            let io = connect::connect(origin, &self.tls, limit, self.settings.public_only).await?;
            host.http1_only.set(!io.speaks_http2());
            if !io.speaks_http2() {
                return Ok(Route::Http1(Box::new(Connection::new(io)), false));
            }
            let shared = Rc::new(h2::Shared::handshake(io).await?);
            let place = shared.place();
            let mut all = host.shared.borrow_mut();
            all.retain(|other| other.is_open());
            all.push(shared);
            drop(all);
            drop(turn);
            Ok(Route::Http2(place, false))
        })
        .await
        .unwrap_or(Err(ForwardError::Timeout { phase: Phase::Connect }))
    }

    async fn attempt(&self, host: &Rc<Host>, call: &Call<'_>, route: Route) -> Attempt {
        match route {
            Route::Http1(connection, reused) => self.attempt_http1(host, call, connection, reused).await,
            Route::Http2(place, reused) => {
                let limit = self.settings.write_timeout.saturating_add(self.settings.header_timeout);
                match place.exchange(call, limit).await {
                    Ok((parts, stream)) => Attempt::Done(Answer {
                        status: parts.status,
                        headers: parts.headers.into(),
                        body: AnswerStream::http2(stream),
                        protocol: Protocol::Http2,
                        reused,
                    }),
                    Err(fail) if reused && fail.untouched => Attempt::Again(fail.error),
                    Err(fail) => Attempt::Failed(fail.error),
                }
            }
        }
    }

    async fn attempt_http1(
        &self,
        host: &Rc<Host>,
        call: &Call<'_>,
        mut connection: Box<Connection>,
        reused: bool,
    ) -> Attempt {
        let mut buffer = self.buffer.take();
        buffer.clear();
        call.write_head(&mut buffer);
        let body: &[u8] = if call.body.len() <= JOINED_BODY_BYTES_MAX {
            buffer.extend_from_slice(&call.body);
            &[]
        } else {
            &call.body
        };
        let to_head = call.method == Method::HEAD;
        let Settings { write_timeout, header_timeout, .. } = *self.settings;
        let sent = connection.send(&buffer, body, to_head, write_timeout).await;
        if buffer.capacity() <= KEPT_BUFFER_BYTES_MAX {
            self.buffer.replace(buffer);
        }
        let head = match sent {
            Ok(Some(early)) => Ok(early),
            Ok(None) => connection.wait_for_head(header_timeout).await,
            Err(fail) => Err(fail),
        };
        match head {
            Ok(head) => Attempt::Done(Answer {
                status: head.status,
                headers: head.headers,
                body: AnswerStream::http1(connection, Rc::clone(host), Rc::clone(&self.settings)),
                protocol: Protocol::Http1,
                reused,
            }),
            Err(Fail::Unfinished(error)) if reused => Attempt::Again(error),
            Err(Fail::Unanswered(error)) if reused && call.is_idempotent() => Attempt::Again(error),
            Err(Fail::Unfinished(error) | Fail::Unanswered(error) | Fail::Final(error)) => {
                Attempt::Failed(error)
            }
        }
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (idle, shared) = self.connections();
        write!(f, "Upstreams({idle} idle, {shared} shared)")
    }
}

#[cfg(test)]
#[path = "upstream/tests/mod.rs"]
mod tests;
