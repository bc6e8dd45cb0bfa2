//! HTTP/2 connections to an upstream, each shared by many calls.
//!
//! For: [`super::Upstreams`], where the TLS handshake chose it.
//! Promises: no more calls at a time on one connection than [`CALLS_MAX`], a further one gets a
//! connection of its own; a dead peer is noticed while calls are open; what lies ready of a body
//! comes out as one piece.
//! Must never: say that a request was not sent when the upstream did not say so itself.

use std::cell::Cell;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Uri};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, timeout};

use super::connect::Io;
use super::error::{ForwardError, Phase};
use super::head::HEAD_BYTES_MAX;
use super::request::{Call, is_ours};

/// Most calls at a time on one connection: what every server should allow (RFC 9113 section 6.5.2).
const CALLS_MAX: usize = 100;
/// How much of one answer may wait unread, in bytes.
const STREAM_WINDOW_BYTES: u32 = 256 * 1_024;
/// How much of all answers of a connection may wait unread, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1_024 * 1_024;
/// While calls are open, the peer is asked this often whether it is there …
const PING_EVERY: Duration = Duration::from_secs(20);
/// … and has this long to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Frames that lie ready are put together up to this size, in bytes.
const PIECE_BYTES_MAX: usize = 64 * 1_024;

/// One connection.
pub(super) struct Shared {
    sender: SendRequest<Full<Bytes>>,
    calls: Cell<usize>,
    used: Cell<Instant>,
    /// The upstream turned a call away: it is full, or about to close.
    retired: Cell<bool>,
}

/// A call's place on a connection; gives it back when dropped.
pub(super) struct Place(Rc<Shared>);

/// The body of an answer.
pub(super) struct Stream {
    body: Incoming,
    _place: Place,
}

/// A failure, and whether the upstream vouches that it did nothing.
pub(super) struct Fail {
    pub error: ForwardError,
    pub untouched: bool,
}

impl Shared {
    pub async fn handshake(io: Io) -> Result<Self, ForwardError> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        let (sender, connection) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|source| ForwardError::Http2 { sent: false, source })?;
        // It ends when its last sender is gone, or with the peer. Calls hear of its errors.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
            }
        });
        Ok(Self { sender, calls: Cell::new(0), used: Cell::new(Instant::now()), retired: Cell::new(false) })
    }

    pub fn has_room(&self) -> bool {
        self.is_open() && self.calls.get() < CALLS_MAX
    }

    /// Whether it takes further calls at all.
    pub fn is_open(&self) -> bool {
        !self.retired.get() && !self.sender.is_closed()
    }

    /// `false`: it can go. Calls that are still on it keep it until they end.
    pub fn is_worth_keeping(&self, now: Instant, idle_timeout: Duration) -> bool {
        let rested = now.saturating_duration_since(self.used.get());
        self.is_open() && (self.calls.get() > 0 || rested < idle_timeout)
    }

    pub fn place(self: &Rc<Self>) -> Place {
        self.calls.set(self.calls.get() + 1);
        Place(Rc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get().saturating_sub(1));
        self.0.used.set(Instant::now());
    }
}

impl Place {
    /// Sends a call and waits for the head of its answer. `limit`: for both together.
    pub async fn exchange(
        self,
        call: &Call<'_>,
        limit: Duration,
    ) -> Result<(http::response::Parts, Stream), Fail> {
        let request = request(call).map_err(|error| Fail { error, untouched: false })?;
        let mut sender = self.0.sender.clone();
        let Ok(result) = timeout(limit, sender.try_send_request(request)).await else {
            return Err(Fail { error: ForwardError::Timeout { phase: Phase::Head }, untouched: false });
        };
        match result {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                Ok((parts, Stream { body, _place: self }))
            }
            Err(mut failed) => {
                let untouched = failed.take_message().is_some() || is_untouched(failed.error());
                // The next try must not meet the same refusal.
                self.0.retired.set(untouched || self.0.retired.get());
                let error = ForwardError::Http2 { sent: !untouched, source: failed.into_error() };
                Err(Fail { error, untouched })
            }
        }
    }
}

/// Whether the upstream vouches that it did not look at the request (RFC 9113 section 8.7): it
/// refused the stream, or said farewell and named an earlier stream as its last.
fn is_untouched(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let farewell = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (refused || farewell);
        }
        cause = error.source();
    }
    false
}

fn request(call: &Call<'_>) -> Result<Request<Full<Bytes>>, ForwardError> {
    const UNSENDABLE: ForwardError = ForwardError::Unsendable("the path does not make a URL");
    let path = [&call.target.prefix, call.path].concat();
    let uri = Uri::builder()
        .scheme("https")
        .authority(call.target.origin.authority.as_str())
        .path_and_query(path)
        .build()
        .map_err(|_| UNSENDABLE)?;
    let mut headers = HeaderMap::with_capacity(call.headers.len());
    for (name, value) in call.headers {
        if !is_ours(name) {
            headers.append(name, value.clone());
        }
    }
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

impl Stream {
    pub fn is_end(&self) -> bool {
        self.body.is_end_stream()
    }

    pub fn remaining(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next piece: one frame, and the further ones that have arrived already.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ForwardError> {
        let Some(first) = poll_fn(|cx| self.poll_data(cx)).await? else {
            return Ok(None);
        };
        let mut more = BytesMut::new();
        while more.len() < PIECE_BYTES_MAX && !self.body.is_end_stream() {
            // Errors are met again by the next call: a broken stream stays broken.
            let ready = poll_fn(|cx| Poll::Ready(self.poll_data(cx))).await;
            let Poll::Ready(Ok(Some(next))) = ready else {
                break;
            };
            if more.is_empty() {
                more.reserve(first.len() + next.len());
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&next);
        }
        Ok(Some(if more.is_empty() { first } else { more.freeze() }))
    }

    /// The next data frame; trailers are skipped.
    fn poll_data(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<Option<Bytes>, ForwardError>> {
        loop {
            return Poll::Ready(match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => Ok(None),
                Some(Err(source)) => Err(ForwardError::Http2 { sent: true, source }),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => Ok(Some(data)),
                    Ok(_) | Err(_) => continue,
                },
            });
        }
    }
}
