//! One HTTP/1.1 answer after another, from bytes to pieces: the state machine without the I/O.
//!
//! For: [`super::h1`] reads a socket into [`Wire::space`] and asks for the head and the body; a
//! fuzz target drives the very same machine through [`replay`].
//! Promises: pure and total: any bytes, cut anywhere, give the same answer or the same
//! [`Fault`]; a piece of a body is everything that is there, without a copy. The buffer holds at
//! most one head ([`HEAD_BYTES_MAX`]) beside what the last read brought.
//! Must never: panic, or give out a byte that lies behind the end of the answer.

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;

use super::chunked::Chunked;
use super::head::{self, Framing, HEAD_BYTES_MAX, Head};

/// Most interim answers (1xx) before the final one.
pub const INTERIM_MAX: u8 = 16;

/// The rule that an answer breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub &'static str);

#[derive(Debug)]
enum State {
    /// Before the end of the head; so many bytes are known not to contain it.
    Head {
        scanned: usize,
    },
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
}

/// The reader of one connection.
#[derive(Debug)]
pub struct Wire {
    buffer: BytesMut,
    state: State,
    to_head: bool,
    interims: u8,
    keep_alive: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), state: State::Done, to_head: false, interims: 0, keep_alive: true }
    }
}

impl Wire {
    /// Makes ready for the answer to the next request. `to_head`: that request is a HEAD.
    pub fn start(&mut self, to_head: bool) {
        self.state = State::Head { scanned: 0 };
        self.to_head = to_head;
        self.interims = 0;
    }

    /// Where the next bytes of the connection are appended.
    pub fn space(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether a byte of the present answer has arrived.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Head { .. }) || self.interims > 0 || !self.buffer.is_empty()
    }

    /// Whether the answer has been read to its end.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the connection may serve another request: the answer is whole, nothing came behind
    /// it, and the upstream did not say otherwise.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.is_end() && self.keep_alive && self.buffer.is_empty()
    }

    /// Bytes of the body that have not been taken yet, where the head told their number.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Exact(left) => Some(left),
            State::Done => Some(0),
            State::Head { .. } | State::Chunked(_) | State::UntilClose => None,
        }
    }

    /// The final head, once it is whole; interim answers are skipped.
    pub fn take_head(&mut self) -> Result<Option<Head>, Fault> {
        while let State::Head { scanned } = self.state {
            if self.buffer.first().is_some_and(|first| *first != b'H') {
                return Err(Fault("the answer does not begin with HTTP"));
            }
            let Some(end) = end_of_head(&self.buffer, scanned) else {
                if self.buffer.len() > HEAD_BYTES_MAX {
                    return Err(Fault("the head is too large"));
                }
                // The blank line may have been cut: its first bytes are looked at again.
                self.state = State::Head { scanned: self.buffer.len().saturating_sub(2) };
                return Ok(None);
            };
            if end > HEAD_BYTES_MAX {
                return Err(Fault("the head is too large"));
            }
            let head = head::parse(self.buffer.split_to(end).freeze(), self.to_head)?;
            if head.status.is_informational() {
                self.skip_interim(head.status)?;
                continue;
            }
            self.keep_alive = head.keep_alive;
            self.state = match head.framing {
                Framing::Exact(0) => State::Done,
                Framing::Exact(length) => State::Exact(length),
                Framing::Chunked => State::Chunked(Chunked::default()),
                Framing::UntilClose => State::UntilClose,
            };
            return Ok(Some(head));
        }
        Ok(None)
    }

    fn skip_interim(&mut self, status: StatusCode) -> Result<(), Fault> {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault("a switch of protocols that nobody asked for"));
        }
        self.interims += 1;
        if self.interims > INTERIM_MAX {
            return Err(Fault("too many interim answers"));
        }
        self.state = State::Head { scanned: 0 };
        Ok(())
    }

    /// Everything of the body that is there, as one piece. `None`: more bytes are needed, or the
    /// answer has ended.
    pub fn take_body(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let piece = match &mut self.state {
            State::Head { .. } | State::Done => return Ok(None),
            State::UntilClose => self.buffer.split().freeze(),
            State::Exact(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
                *left -= take as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                self.buffer.split_to(take).freeze()
            }
            State::Chunked(chunked) => {
                let found = chunked.decode(&mut self.buffer)?;
                if chunked.is_done() {
                    self.state = State::Done;
                }
                if found.len == 0 {
                    self.buffer.advance(found.consumed);
                    return Ok(None);
                }
                self.buffer.advance(found.start);
                let piece = self.buffer.split_to(found.len).freeze();
                self.buffer.advance(found.consumed - found.start - found.len);
                piece
            }
        };
        Ok(Some(piece))
    }

    /// The connection has ended. `true`: so has the answer; `false`: it was cut off.
    pub fn close(&mut self) -> bool {
        self.keep_alive = false;
        if matches!(self.state, State::UntilClose) {
            self.state = State::Done;
        }
        self.is_end()
    }

    /// The connection must not be used for another request.
    pub fn spoil(&mut self) {
        self.keep_alive = false;
    }
}

/// The position behind the blank line, looked for from `from` on. Line ends are CRLF or LF.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    for at in memchr::memchr_iter(b'\n', tail) {
        match tail.get(at + 1) {
            Some(b'\n') => return Some(from + at + 2),
            Some(b'\r') if tail.get(at + 2) == Some(&b'\n') => return Some(from + at + 3),
            _ => {}
        }
    }
    None
}

/// A recorded answer, read.
#[derive(Debug, PartialEq, Eq)]
pub struct Replayed {
    pub status: StatusCode,
    pub body: Vec<u8>,
    /// The answer came to its end, by its own framing or by the end of the connection.
    pub whole: bool,
    /// The connection could have served another request.
    pub reusable: bool,
    /// Pieces in which the body came out.
    pub pieces: usize,
}

/// Reads a recorded answer that arrives in the given `reads` (lengths; what is left over arrives
/// in a last one) on a connection that then ends. `Ok(None)`: not even its head is whole.
///
/// The entry for fuzzing and for tests: it drives the machine as a connection does.
pub fn replay(
    recorded: &[u8],
    reads: impl IntoIterator<Item = usize>,
    to_head: bool,
) -> Result<Option<Replayed>, Fault> {
    let mut wire = Wire::default();
    wire.start(to_head);
    let mut left = recorded;
    let mut reads = reads.into_iter();
    let mut status = None;
    let (mut body, mut pieces) = (Vec::new(), 0);
    let mut open = true;
    while open && !(status.is_some() && wire.is_end()) {
        let take = reads.next().unwrap_or(left.len()).max(1).min(left.len());
        let (now, later) = left.split_at(take);
        left = later;
        wire.space().extend_from_slice(now);
        open = take > 0;
        if status.is_none() {
            status = wire.take_head()?.map(|head| head.status);
        }
        while let Some(piece) = wire.take_body()? {
            body.extend_from_slice(&piece);
            pieces += 1;
        }
    }
    wire.space().extend_from_slice(left);
    let reusable = wire.is_reusable();
    let whole = wire.close();
    Ok(status.map(|status| Replayed { status, body, whole, reusable, pieces }))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
