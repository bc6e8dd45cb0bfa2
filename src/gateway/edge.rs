//! The edge of a connection: what the HTTP library answers by itself becomes an answer of the catalogue.
//!
//! The library refuses a head that it cannot read with a bare status line, before any of our code sees a
//! request. This wrapper notices a write that no request of ours has led to, and puts the catalogue's answer
//! in its place. It looks at one flag per write and touches nothing else.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use crate::catalogue::{Code, Language, Refusal, Shape};
use crate::id::RequestId;

use super::identify;
use super::respond::Addressee;
use super::worker::Worker;

/// A connection's stream with its edge.
pub struct EdgeIo<S> {
    stream: S,
    worker: Rc<Worker>,
    /// Our answer in place of the library's, and how much of it is written.
    own: Option<(Vec<u8>, usize)>,
    /// Something was read that nothing has been answered to.
    unanswered: bool,
    /// Nothing more will come.
    has_ended: bool,
}

impl<S> EdgeIo<S> {
    pub fn new(stream: S, worker: Rc<Worker>) -> Self {
        EdgeIo { stream, worker, own: None, unanswered: false, has_ended: false }
    }

    /// The catalogue's answer for a bare status line of the library; `None` for anything else.
    fn answer_for(&self, written: &[u8]) -> Option<Vec<u8>> {
        let status = written.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        // Every answer of ours says which request it belongs to.
        if written.windows(HEAD_MARK.len()).any(|window| window == HEAD_MARK) {
            return None;
        }
        let limit_bytes = self.worker.gateway.header_bytes_max as u64;
        Some(self.plain(&match status {
            b"431" | b"414" => Refusal::new(Code::HeadersTooLarge).param("limit_bytes", limit_bytes),
            b"400" => identify::malformed(identify::BAD_HEAD),
            _ => return None,
        }))
    }

    fn plain(&self, refusal: &Refusal) -> Vec<u8> {
        let gateway = &self.worker.gateway;
        let addressee = Addressee {
            request: RequestId::new(&*gateway.app.clock, &*gateway.app.entropy),
            language: Language::default(),
            public_url: &gateway.public_url,
            sees_account_money: false,
            logged: false,
            shape: Shape::OpenAi,
        };
        plain(addressee.refusal(refusal))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> EdgeIo<S> {
    /// Ends the connection. A head that did not arrive in time gets its answer; a connection that was merely
    /// idle is closed without a word.
    ///
    /// What a caller is still sending of a body that nobody reads is thrown away for a moment: closed at once, the
    /// connection would be reset, and some systems throw our answer away with it.
    pub async fn end(mut self, failed: Option<hyper::Error>) -> io::Result<()> {
        if self.unanswered && failed.as_ref().is_some_and(hyper::Error::is_timeout) {
            let limit_ms = u64::try_from(self.worker.gateway.arrival_timeout.as_millis()).unwrap_or(u64::MAX);
            let late = self.plain(&Refusal::new(Code::RequestTimeout).param("limit_ms", limit_ms));
            self.own = Some((late, 0));
        }
        self.shutdown().await?;
        let mut thrown_away = [0; 4_096];
        let rest = async { while !self.has_ended && matches!(self.read(&mut thrown_away).await, Ok(1..)) {} };
        // Whoever sends on for longer is not waiting for an answer.
        let _late = timeout(LINGER, rest).await;
        Ok(())
    }
}

/// How long a connection is read on after its end.
const LINGER: Duration = Duration::from_secs(1);

/// In every head that the pipeline makes.
const HEAD_MARK: &[u8] = b"x-request-id";

/// An answer as bytes; the connection closes behind it.
fn plain(response: http::Response<super::answer::AnswerBody>) -> Vec<u8> {
    let (head, body) = response.into_parts();
    let body = match body.collect().now_or_never() {
        Some(Ok(body)) => body.to_bytes(),
        Some(Err(_)) | None => bytes::Bytes::new(),
    };
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
        .extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

impl<S: AsyncRead + Unpin> AsyncRead for EdgeIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, into);
        let came = into.filled().len() > before;
        this.unanswered |= came;
        this.has_ended |= !came && into.remaining() > 0 && matches!(polled, Poll::Ready(Ok(())));
        polled
    }
}

impl<S: AsyncWrite + Unpin> EdgeIo<S> {
    fn poll_own(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((bytes, written)) = &mut self.own {
            let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) else {
                self.own = None;
                break;
            };
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(count)) => *written += count,
                Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the library's bytes as written and begins to write ours.
    fn replace(&mut self, head: &[u8]) -> bool {
        if self.own.is_none()
            && let Some(own) = self.answer_for(head)
        {
            self.own = Some((own, 0));
            return true;
        }
        false
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for EdgeIo<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unanswered = false;
        if is_bare(bytes) && this.replace(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unanswered = false;
        if let [only] = pieces
            && is_bare(only)
            && this.replace(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        Pin::new(&mut this.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.poll_own(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.stream).poll_flush(context),
            other => other,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.poll_own(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.stream).poll_shutdown(context),
            other => other,
        }
    }
}

/// The library's own refusals have no body and are short; every answer of ours is longer.
fn is_bare(bytes: &[u8]) -> bool {
    bytes.len() < BARE_BYTES_MAX && bytes.starts_with(b"HTTP/1.1 4")
}

const BARE_BYTES_MAX: usize = 256;
