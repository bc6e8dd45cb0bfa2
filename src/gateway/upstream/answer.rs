//! An upstream's answer: its head, and its body as it comes.
//!
//! For: the steps that meter an answer and hand it on.
//! Promises: a piece is everything that one read brought; the end of a body gives its connection
//! back to the pool; dropping a body before its end closes the connection (HTTP/2: resets the
//! stream), so that nothing of it can reach another call. An end that has arrived by then is
//! taken note of: a caller who stops at the last event of a stream, before the empty chunk behind
//! it, does not cost the next call a new connection. [`AnswerStream::next`] may be dropped while
//! it waits and asked again.
//! Must never: wait with a time limit of its own. How long a silent upstream is waited for is the
//! caller's to decide, who also knows whether the client is still there.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::error::ForwardError;
use super::h1::Connection;
use super::h2;
use super::head::Headers;
use super::pool::Host;
use super::settings::Settings;

/// Which protocol brought an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// An answer whose head has arrived.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// They share the memory of the read buffer: take what is needed and drop them early.
    pub headers: Headers,
    pub body: AnswerStream,
    pub protocol: Protocol,
    /// Whether the connection had served a call before.
    pub reused: bool,
}

/// The body of an answer.
pub struct AnswerStream(Source);

enum Source {
    Http1(Box<Http1>),
    Http2(Box<h2::Stream>),
    /// Read to its end.
    Ended,
    /// An error has been reported.
    Broken,
}

struct Http1 {
    connection: Box<Connection>,
    host: Rc<Host>,
    settings: Rc<Settings>,
}

/// What [`AnswerStream::collect`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Collected {
    /// The whole body.
    Whole(Bytes),
    /// More than the limit: what has been read so far. The rest is still to be asked for.
    Begun(Bytes),
}

impl AnswerStream {
    pub(super) fn http1(connection: Box<Connection>, host: Rc<Host>, settings: Rc<Settings>) -> Self {
        let mut stream = Self(Source::Http1(Box::new(Http1 { connection, host, settings })));
        stream.release_at_end();
        stream
    }

    pub(super) fn http2(stream: h2::Stream) -> Self {
        Self(if stream.is_end() { Source::Ended } else { Source::Http2(Box::new(stream)) })
    }

    /// The next piece: everything that is there, or that the next read brings. `None` is the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ForwardError> {
        let next = match &mut self.0 {
            Source::Http1(http1) => http1.connection.next().await,
            Source::Http2(stream) => stream.next().await,
            Source::Ended => return Ok(None),
            Source::Broken => return Err(ForwardError::Closed { sent: true }),
        };
        match &next {
            Ok(Some(_)) => self.release_at_end(),
            Ok(None) => self.finish(),
            Err(_) => self.0 = Source::Broken,
        }
        next
    }

    /// Whether everything has been given out. `false` may still turn out to be the end.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.0, Source::Ended)
    }

    /// Bytes still to come, where the upstream told.
    #[must_use]
    pub fn size_hint(&self) -> Option<u64> {
        match &self.0 {
            Source::Http1(http1) => http1.connection.wire().remaining(),
            Source::Http2(stream) => stream.remaining(),
            Source::Ended => Some(0),
            Source::Broken => None,
        }
    }

    /// Collects a body of up to `limit` bytes. Not to be dropped while it waits: what it has
    /// collected would be lost.
    pub async fn collect(&mut self, limit: usize) -> Result<Collected, ForwardError> {
        let told = self.size_hint().and_then(|size| usize::try_from(size).ok());
        if let (Source::Http1(http1), Some(length)) = (&mut self.0, told.filter(|size| *size <= limit))
            && let Err(error) = http1.connection.gather(length).await
        {
            self.0 = Source::Broken;
            return Err(error);
        }
        let Some(first) = self.next().await? else {
            return Ok(Collected::Whole(Bytes::new()));
        };
        if self.is_end() && first.len() <= limit {
            return Ok(Collected::Whole(first));
        }
        let mut whole = BytesMut::from(first);
        while whole.len() <= limit {
            match self.next().await? {
                Some(piece) => whole.extend_from_slice(&piece),
                None => return Ok(Collected::Whole(whole.freeze())),
            }
        }
        Ok(Collected::Begun(whole.freeze()))
    }

    fn release_at_end(&mut self) {
        let ended = match &self.0 {
            Source::Http1(http1) => http1.connection.wire().is_end(),
            Source::Http2(stream) => stream.is_end(),
            Source::Ended | Source::Broken => false,
        };
        if ended {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Source::Http1(http1) = std::mem::replace(&mut self.0, Source::Ended) {
            let Http1 { connection, host, settings } = *http1;
            host.put(connection, settings.idle_per_host_max, settings.idle_timeout);
        }
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        let Source::Http1(http1) = &mut self.0 else {
            return;
        };
        // One look, without waiting. A piece of a body, an error or nothing at all: it is closed.
        let mut context = Context::from_waker(Waker::noop());
        let ended = matches!(pin!(http1.connection.next()).poll(&mut context), Poll::Ready(Ok(None)));
        if ended {
            self.finish();
        }
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnswerStream({:?} bytes left)", self.size_hint())
    }
}
