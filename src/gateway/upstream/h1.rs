//! One HTTP/1.1 connection to an upstream.
//!
//! For: [`super::Upstreams`]. Written by hand because it is the larger half of what a streamed
//! call costs: a general client hands out every chunk on its own through a task of its own; this
//! one has no task, one read buffer, and gives out everything that a read brought as one piece.
//! Promises: request head and body go out in one write where the kernel takes them; an answer
//! that comes before the request is through is taken; a dropped future leaves nothing behind but
//! a connection that its owner drops too.
//! Must never: decide whether a request is sent again. It only tells, by [`Fail`], how far it got.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use super::connect::Io;
use super::error::{ForwardError, Phase};
use super::head::Head;
use super::wire::{Fault, Wire};

/// First size of a read, in bytes. It doubles, up to [`READ_BYTES_MAX`], while reads fill it.
const READ_BYTES_FIRST: usize = 8 * 1_024;
/// Largest read, in bytes.
const READ_BYTES_MAX: usize = 128 * 1_024;
/// The buffer is made larger, or a new one, when there is less room than this, in bytes.
const READ_ROOM_MIN: usize = 2 * 1_024;

/// How far a call got that has no answer.
#[derive(Debug)]
pub(super) enum Fail {
    /// Part of the request, its end at least, never left this machine: no upstream can have it.
    Unfinished(ForwardError),
    /// The request went out whole; the connection ended before a single byte of an answer.
    Unanswered(ForwardError),
    /// Anything else.
    Final(ForwardError),
}

pub(super) struct Connection {
    io: Io,
    wire: Wire,
    /// One timer for the life of the connection: setting it anew is much cheaper than making one.
    deadline: Pin<Box<Sleep>>,
    read_bytes: usize,
    /// The buffer may have grown beyond [`READ_BYTES_FIRST`].
    large: bool,
    /// How long the upstream says that it keeps this connection while it is idle.
    pub keep_for: Option<Duration>,
}

/// A request on its way out.
struct Outgoing<'a> {
    head: &'a [u8],
    body: &'a [u8],
    sent: usize,
}

/// How the sending ended.
enum Sending {
    Whole,
    /// The upstream answered before it had the whole request.
    Answered(Box<Head>),
    Failed(Fail),
}

impl Connection {
    pub fn new(io: Io) -> Self {
        Self {
            io,
            wire: Wire::default(),
            deadline: Box::pin(sleep(Duration::ZERO)),
            read_bytes: READ_BYTES_FIRST,
            large: false,
            keep_for: None,
        }
    }

    /// Whether it may be used for another call, as far as one can see.
    pub fn is_quiet(&self, ask_kernel: bool) -> bool {
        self.wire.is_reusable() && self.io.is_quiet(ask_kernel)
    }

    /// Sends a request. `head` may hold the body as well. `Some`: the upstream has answered
    /// before it had the whole request; the connection is good for this answer only.
    pub async fn send(
        &mut self,
        head: &[u8],
        body: &[u8],
        to_head: bool,
        limit: Duration,
    ) -> Result<Option<Head>, Fail> {
        self.wire.start(to_head);
        let mut out = Outgoing { head, body, sent: 0 };
        let mut waiting = false;
        match poll_fn(|cx| self.poll_send(cx, &mut out, &mut waiting, limit)).await {
            Sending::Whole => Ok(None),
            Sending::Answered(head) => {
                self.wire.spoil();
                Ok(Some(*head))
            }
            Sending::Failed(fail) => Err(fail),
        }
    }

    /// Writes, and reads while it cannot write: an upstream that refuses a large request often
    /// answers and closes without reading it to its end.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Outgoing<'_>,
        waiting: &mut bool,
        limit: Duration,
    ) -> Poll<Sending> {
        let broken = match out.poll_write(&mut self.io, cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Sending::Whole),
            Poll::Ready(Err(error)) => Some(ForwardError::from_io(error, false)),
            Poll::Pending => None,
        };
        loop {
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Sending::Failed(self.unsent(ForwardError::Closed { sent: false })));
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Sending::Failed(self.unsent(ForwardError::from_io(error, false))));
                }
                Poll::Ready(Ok(_)) => match self.wire.take_head() {
                    Ok(Some(head)) => return Poll::Ready(Sending::Answered(Box::new(head))),
                    Ok(None) => {}
                    Err(fault) => return Poll::Ready(Sending::Failed(fault.into())),
                },
                Poll::Pending => break,
            }
        }
        if let Some(error) = broken {
            return Poll::Ready(Sending::Failed(self.unsent(error)));
        }
        if !*waiting {
            *waiting = true;
            self.set_deadline(limit);
        }
        self.deadline.as_mut().poll(cx).map(|()| {
            let late = ForwardError::Timeout { phase: Phase::Write };
            Sending::Failed(Fail::Final(late))
        })
    }

    /// A failure before the request was through.
    fn unsent(&self, error: ForwardError) -> Fail {
        if self.wire.has_begun() { Fail::Final(error) } else { Fail::Unfinished(error) }
    }

    /// Waits for the head of the answer to what was sent.
    pub async fn wait_for_head(&mut self, limit: Duration) -> Result<Head, Fail> {
        let mut waiting = false;
        poll_fn(|cx| {
            loop {
                let end = match self.poll_read(cx) {
                    Poll::Ready(Ok(0)) => ForwardError::Closed { sent: true },
                    Poll::Ready(Err(error)) => ForwardError::from_io(error, true),
                    Poll::Ready(Ok(_)) => match self.wire.take_head() {
                        Ok(Some(head)) => {
                            self.keep_for = head.keep_for;
                            return Poll::Ready(Ok(head));
                        }
                        Ok(None) => continue,
                        Err(fault) => return Poll::Ready(Err(fault.into())),
                    },
                    Poll::Pending => break,
                };
                let begun = self.wire.has_begun();
                return Poll::Ready(Err(if begun { Fail::Final(end) } else { Fail::Unanswered(end) }));
            }
            if !waiting {
                waiting = true;
                self.set_deadline(limit);
            }
            let late = || Err(Fail::Final(ForwardError::Timeout { phase: Phase::Head }));
            self.deadline.as_mut().poll(cx).map(|()| late())
        })
        .await
    }

    fn set_deadline(&mut self, limit: Duration) {
        self.deadline.as_mut().reset(Instant::now() + limit);
    }

    /// One read into the buffer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let space = self.wire.space();
        if space.capacity() - space.len() < READ_ROOM_MIN {
            space.reserve(self.read_bytes);
        }
        let room = space.capacity() - space.len();
        let read = pin!(self.io.read_buf(space)).poll(cx);
        if matches!(read, Poll::Ready(Ok(count)) if count == room) {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
            self.large = true;
        }
        read
    }

    /// The next piece of the body: everything that is there, or that the next read brings.
    /// `None`: the answer has ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ForwardError> {
        loop {
            if let Some(piece) = self.wire.take_body().map_err(|fault| ForwardError::Protocol(fault.0))? {
                return Ok(Some(piece));
            }
            if self.wire.is_end() {
                return Ok(None);
            }
            match poll_fn(|cx| self.poll_read(cx)).await {
                Ok(0) if self.wire.close() => return Ok(None),
                Ok(0) => return Err(ForwardError::Closed { sent: true }),
                Ok(_) => {}
                Err(error) => return Err(ForwardError::from_io(error, true)),
            }
        }
    }

    /// Makes room for a body of known length that will be wanted whole, so that it is read into
    /// one piece of memory.
    pub async fn gather(&mut self, length: usize) -> Result<(), ForwardError> {
        while self.wire.space().len() < length {
            // In steps: a length that the upstream only claims must not take memory.
            let missing = length - self.wire.space().len();
            self.wire.space().reserve(missing.min(READ_BYTES_MAX));
            self.large = true;
            match poll_fn(|cx| self.poll_read(cx)).await {
                Ok(0) => return Err(ForwardError::Closed { sent: true }),
                Ok(_) => {}
                Err(error) => return Err(ForwardError::from_io(error, true)),
            }
        }
        Ok(())
    }

    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Gives back memory that only a large answer needed.
    pub fn rest(&mut self) {
        if self.large {
            self.large = false;
            self.read_bytes = READ_BYTES_FIRST;
            *self.wire.space() = BytesMut::new();
        }
    }
}

impl Outgoing<'_> {
    fn poll_write(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = Pin::new(io);
        while self.sent < self.head.len() + self.body.len() {
            let head = self.head.get(self.sent..).unwrap_or_default();
            let body = self.body.get(self.sent.saturating_sub(self.head.len())..).unwrap_or_default();
            let wrote = match (head.is_empty(), body.is_empty()) {
                (false, false) => {
                    io.as_mut().poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)])
                }
                (false, true) => io.as_mut().poll_write(cx, head),
                (true, _) => io.as_mut().poll_write(cx, body),
            };
            match wrote {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        io.poll_flush(cx)
    }
}

impl From<Fault> for Fail {
    fn from(fault: Fault) -> Self {
        Self::Final(ForwardError::Protocol(fault.0))
    }
}
