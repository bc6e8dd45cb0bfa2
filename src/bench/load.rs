//! The clients of the benchmark: calls over kept-alive connections, every answer checked.
//!
//! Closed loop: each connection sends its next call when the answer to the last one is whole.
//! Open loop: calls are due at a fixed rate, and their latency counts from the time that they
//! were due, so that a stall of the proxy shows in all the calls it held up.
//! Promises: a call counts as good only if its status is 200 and its body is the upstream's,
//! to the end; where a refusal is what is measured, only if it is that refusal. Never: it does not retry.

use super::hist::Histogram;
use super::http1::{self, Chunks, Framing};
use super::rig::LOAD_TOKENS;
use super::upstream::STREAM_CHUNKS;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So many connections, each always busy.
    Closed { connections: usize },
    /// So many calls per second, on as many connections as that takes.
    Open { per_second: u32 },
}

/// What a good answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The upstream's, in one piece.
    Whole,
    /// The upstream's, in chunks.
    Stream,
    Refusal {
        status: u16,
        code: &'static str,
    },
}

#[derive(Clone)]
pub struct Plan {
    pub pace: Pace,
    pub time: Duration,
    /// The bytes of a whole request, head and body.
    pub request: Vec<u8>,
    pub answer: Answer,
}

#[derive(Default)]
pub struct LoadReport {
    pub good: u64,
    pub bad: u64,
    /// What was wrong with the first bad call.
    pub first_bad: Option<String>,
    pub elapsed: Duration,
    pub first_byte: Histogram,
    pub last_byte: Histogram,
}

pub struct Load {
    target: SocketAddr,
    plan: Plan,
    connections: Vec<Option<Connection>>,
    free: VecDeque<usize>,
    report: LoadReport,
    started: Instant,
    end: Instant,
    next_due: Instant,
    busy: usize,
    read_buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// What of the request is not written yet, as an offset.
    sent: usize,
    /// When the call was due; None while idle.
    due: Option<Instant>,
    input: Vec<u8>,
    body: Body,
    /// Whether the first byte of the body has come. Heads do not count: a proxy can send one
    /// before it has anything to say.
    begun: bool,
}

enum Body {
    Head,
    Length { left: usize, data: Vec<u8> },
    Chunked { chunks: Chunks, data: Vec<u8> },
}

/// How long a call may be late at the end of a run before it counts as lost.
const GRACE: Duration = Duration::from_secs(15);

impl Load {
    pub fn start(registry: &Registry, target: SocketAddr, plan: Plan) -> io::Result<Self> {
        let now = Instant::now();
        let mut load = Self {
            target,
            connections: Vec::new(),
            free: VecDeque::new(),
            report: LoadReport::default(),
            started: now,
            end: now + plan.time,
            next_due: now,
            busy: 0,
            read_buffer: vec![0; 64 * 1024],
            plan,
        };
        if let Pace::Closed { connections } = load.plan.pace {
            for _ in 0..connections {
                let index = load.connect(registry)?;
                load.send(registry, index, now);
            }
        }
        Ok(load)
    }

    pub fn finish(self) -> LoadReport {
        self.report
    }

    fn connect(&mut self, registry: &Registry) -> io::Result<usize> {
        // Blocking: on the loopback a connect is done at once, and the run has not begun.
        let stream = std::net::TcpStream::connect(self.target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let index = self.connections.len();
        registry.register(
            &mut stream,
            Token(LOAD_TOKENS + index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.connections.push(Some(Connection {
            stream,
            sent: 0,
            due: None,
            input: Vec::new(),
            body: Body::Head,
            begun: false,
        }));
        Ok(index)
    }

    /// Starts the calls that are due; the next time it wants to be called, or None at the end.
    pub fn turn(&mut self, registry: &Registry, now: Instant) -> Option<Instant> {
        self.send_due(registry, now);
        if now >= self.end {
            if self.report.elapsed.is_zero() {
                self.report.elapsed = now - self.started;
            }
            if self.busy == 0 || now >= self.end + GRACE {
                for _ in 0..self.busy {
                    self.bad("no answer within the time of grace");
                }
                return None;
            }
            return Some(self.end + GRACE);
        }
        match self.plan.pace {
            Pace::Open { .. } => Some(self.next_due.min(self.end)),
            // All connections of a closed loop are lost: nothing can happen any more.
            Pace::Closed { .. } => (self.busy > 0).then_some(self.end),
        }
    }

    /// Sends the calls of an open loop that are due, however late it is.
    fn send_due(&mut self, registry: &Registry, now: Instant) {
        let Pace::Open { per_second } = self.plan.pace else { return };
        while self.next_due <= now && self.next_due < self.end {
            let due = self.next_due;
            self.next_due += Duration::from_secs(1) / per_second.max(1);
            match self.free.pop_front().map_or_else(|| self.connect(registry), Ok) {
                Ok(index) => self.send(registry, index, due),
                Err(e) => self.bad(&format!("connect: {e}")),
            }
        }
    }

    fn send(&mut self, registry: &Registry, index: usize, due: Instant) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        connection.due = Some(due);
        connection.sent = 0;
        connection.body = Body::Head;
        connection.begun = false;
        self.busy += 1;
        if let Err(e) = connection.flush(&self.plan.request) {
            self.fail(registry, index, &format!("write: {e}"));
        }
    }

    fn bad(&mut self, what: &str) {
        self.report.bad += 1;
        self.report.first_bad.get_or_insert_with(|| what.to_owned());
    }

    /// Ends the connection; its call, if there is one, was bad.
    fn fail(&mut self, registry: &Registry, index: usize, what: &str) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else { return };
        let _ = registry.deregister(&mut connection.stream);
        self.free.retain(|&f| f != index);
        if connection.due.is_some() {
            self.busy -= 1;
            self.bad(what);
            // A closed loop keeps its number of connections, else a proxy that closes would look fast.
            if let (Pace::Closed { .. }, true) = (self.plan.pace, Instant::now() < self.end)
                && self.report.bad < 1000
                && let Ok(index) = self.connect(registry)
            {
                self.send(registry, index, Instant::now());
            }
        }
    }

    pub fn on_event(&mut self, registry: &Registry, event: &Event) {
        let index = event.token().0 - LOAD_TOKENS;
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let mut step = || -> io::Result<bool> {
            if event.is_writable() {
                connection.flush(&self.plan.request)?;
            }
            if event.is_readable() {
                // The end may have come together with the last bytes; no other event tells of it.
                let ended = connection.fill(&mut self.read_buffer, event.is_read_closed())?;
                let whole = connection.advance(self.plan.answer, &mut self.report)?;
                return if ended && !whole {
                    Err(io::Error::other("closed by the proxy"))
                } else {
                    Ok(whole)
                };
            }
            Ok(false)
        };
        match step() {
            Ok(false) => {}
            Ok(true) => self.complete(registry, index),
            Err(e) => self.fail(registry, index, &e.to_string()),
        }
    }

    fn complete(&mut self, registry: &Registry, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let now = Instant::now();
        if let Err(what) = connection.check(self.plan.answer) {
            return self.fail(registry, index, &what);
        }
        if let Some(due) = connection.due.take() {
            self.report.last_byte.record((now - due).as_nanos() as u64);
        }
        self.busy -= 1;
        self.report.good += u64::from(now < self.end);
        match self.plan.pace {
            Pace::Closed { .. } if now < self.end => self.send(registry, index, now),
            Pace::Closed { .. } => {}
            Pace::Open { .. } => self.free.push_back(index),
        }
    }
}

impl Connection {
    fn flush(&mut self, request: &[u8]) -> io::Result<()> {
        if self.due.is_none() {
            return Ok(());
        }
        while let Some(rest) = request.get(self.sent..).filter(|r| !r.is_empty()) {
            match self.stream.write(rest) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Takes in what is there; true if nothing will come any more.
    fn fill(&mut self, buffer: &mut [u8], to_end: bool) -> io::Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(true),
                Ok(n) => {
                    self.input.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    // A short read has emptied the socket; the next bytes raise a new event.
                    if n < buffer.len() && !to_end {
                        return Ok(false);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes in what was read; true when the answer is whole.
    fn advance(&mut self, answer: Answer, report: &mut LoadReport) -> io::Result<bool> {
        let Some(due) = self.due else {
            return if self.input.is_empty() {
                Ok(false)
            } else {
                Err(io::Error::other("bytes without a call"))
            };
        };
        if matches!(self.body, Body::Head) {
            let Some(head) = http1::head(&self.input) else { return Ok(false) };
            if head.status != answer.status() {
                let text = String::from_utf8_lossy(&self.input).into_owned();
                return Err(io::Error::other(format!("status {}: {text}", head.status)));
            }
            self.input.drain(..head.len);
            self.body = match head.body {
                Framing::Length(left) => Body::Length { left, data: Vec::new() },
                Framing::Chunked => Body::Chunked { chunks: Chunks::default(), data: Vec::new() },
                Framing::Absent => return Err(io::Error::other("an answer without length")),
            };
        }
        if !self.begun && !self.input.is_empty() {
            self.begun = true;
            report.first_byte.record(due.elapsed().as_nanos() as u64);
        }
        match &mut self.body {
            Body::Head => Ok(false),
            Body::Length { left, data } => {
                let Some(rest) = left.checked_sub(self.input.len()) else {
                    return Err(io::Error::other("more bytes than stated"));
                };
                *left = rest;
                data.append(&mut self.input);
                Ok(rest == 0)
            }
            Body::Chunked { chunks, data } => {
                chunks.feed(&self.input, data);
                self.input.clear();
                if chunks.is_broken() { Err(io::Error::other("broken chunk")) } else { Ok(chunks.is_done()) }
            }
        }
    }

    /// Whether the answer is the one that was to come, whole.
    fn check(&self, answer: Answer) -> Result<(), String> {
        let (Body::Length { data, .. } | Body::Chunked { data, .. }) = &self.body else {
            return Err("no body".into());
        };
        match answer.is(data) {
            true => Ok(()),
            false => Err(format!("not the answer: {}", String::from_utf8_lossy(data))),
        }
    }
}

impl Answer {
    fn status(self) -> u16 {
        match self {
            Answer::Whole | Answer::Stream => 200,
            Answer::Refusal { status, .. } => status,
        }
    }

    fn is(self, body: &[u8]) -> bool {
        let contains = |text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
        match self {
            Answer::Whole => body.ends_with(b"}") && contains("came from.\""),
            Answer::Stream => {
                body.ends_with(b"data: [DONE]\n\n")
                    && memchr::memmem::find_iter(body, b"\"content\":\"").count() == STREAM_CHUNKS
            }
            Answer::Refusal { code, .. } => body.ends_with(b"}") && contains(&format!("\"code\":\"{code}\"")),
        }
    }
}
