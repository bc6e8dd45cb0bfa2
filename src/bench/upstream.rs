//! The upstream of the benchmark: answers chat completions in OpenAI's format from memory.
//!
//! The name of the model says when it writes ([`Timing`]). `"stream":true` in the request streams 20
//! chunks, then a usage chunk and `[DONE]`, each in a write of its own; the chunks of all open
//! streams take turns, so a proxy sees them one by one and not as one block.
//! Promises: answers differ only by their id, which is unique, so that usage can be joined.
//! Never: it keeps no books and checks no key – the demo's upstream does that.

use super::http1::{self, Framing};
use super::workload::Timing;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

/// Chunks with text in a streamed answer; a usage chunk and `[DONE]` follow them.
pub const STREAM_CHUNKS: usize = 20;
const LISTENER: Token = Token(0);
const ID_DIGITS: usize = 16;

pub struct Upstream {
    listener: TcpListener,
    /// Token n is connection n - 1. A closed connection leaves a gap that is not used again:
    /// a run opens some hundreds.
    connections: Vec<Option<Connection>>,
    streaming: VecDeque<usize>,
    delayed: BinaryHeap<Reverse<(Instant, usize)>>,
    calls: u64,
    read_buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    answer: Answer,
    timing: Timing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Whole(u64),
    /// The next frame to write, of the call with this number.
    Stream(u64, usize),
}

impl Upstream {
    pub fn bind(registry: &Registry, addr: SocketAddr) -> io::Result<Self> {
        let mut listener = TcpListener::bind(addr)?;
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            listener,
            connections: Vec::new(),
            streaming: VecDeque::new(),
            delayed: BinaryHeap::new(),
            calls: 0,
            read_buffer: vec![0; 64 * 1024],
        })
    }

    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Does what is due, and says when it wants to be called next.
    pub fn turn(&mut self, registry: &Registry, now: Instant) -> Option<Instant> {
        while let Some(&Reverse((due, index))) = self.delayed.peek() {
            if due > now {
                break;
            }
            self.delayed.pop();
            self.begin(registry, index);
        }
        for _ in 0..self.streaming.len() {
            if let Some(index) = self.streaming.pop_front() {
                self.begin(registry, index);
            }
        }
        if self.streaming.is_empty() { self.delayed.peek().map(|Reverse((due, _))| *due) } else { Some(now) }
    }

    pub fn on_event(&mut self, registry: &Registry, event: &Event) {
        if event.token() == LISTENER {
            self.accept(registry);
            return;
        }
        let index = event.token().0 - 1;
        let result = self.serve(registry, index, event);
        if result.is_err() {
            self.close(registry, index);
        }
    }

    fn accept(&mut self, registry: &Registry) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let token = Token(self.connections.len() + 1);
            // Small writes must leave at once: they are what is measured.
            if stream.set_nodelay(true).is_err()
                || registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err()
            {
                continue;
            }
            self.connections.push(Some(Connection {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                answer: Answer::None,
                timing: Timing::default(),
            }));
        }
    }

    fn close(&mut self, registry: &Registry, index: usize) {
        if let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) {
            // The descriptor is closed by the drop in any case.
            let _ = registry.deregister(&mut connection.stream);
        }
    }

    fn serve(&mut self, registry: &Registry, index: usize, event: &Event) -> io::Result<()> {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return Ok(()) };
        if event.is_writable() {
            connection.flush()?;
        }
        if !event.is_readable() {
            return Ok(());
        }
        loop {
            match connection.stream.read(&mut self.read_buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    connection.input.extend_from_slice(self.read_buffer.get(..n).unwrap_or_default());
                    // A short read has emptied the socket; the next bytes raise a new event. The end
                    // does not, when it came together with them.
                    if n < self.read_buffer.len() && !event.is_read_closed() {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if connection.take_request(&mut self.calls)? {
            let delay = connection.timing.first;
            match delay.is_zero() {
                true => self.begin(registry, index),
                false => self.delayed.push(Reverse((Instant::now() + delay, index))),
            }
        }
        Ok(())
    }

    /// Writes the answer, or the next frame of it.
    fn begin(&mut self, registry: &Registry, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        match connection.answer {
            Answer::None => return,
            Answer::Whole(call) => {
                whole_answer(call, &mut connection.output);
                connection.answer = Answer::None;
            }
            Answer::Stream(call, frame) => {
                let more = stream_frame(call, frame, &mut connection.output);
                connection.answer = if more { Answer::Stream(call, frame + 1) } else { Answer::None };
                let pause = if frame == 0 { connection.timing.second } else { connection.timing.each };
                match more {
                    true if pause.is_zero() => self.streaming.push_back(index),
                    true => self.delayed.push(Reverse((Instant::now() + pause, index))),
                    false => {}
                }
            }
        }
        if connection.flush().is_err() {
            self.close(registry, index);
        }
    }
}

impl Connection {
    /// Takes a complete request from the input; false while it is incomplete.
    fn take_request(&mut self, calls: &mut u64) -> io::Result<bool> {
        let Some(head) = http1::head(&self.input) else { return Ok(false) };
        let length = match head.body {
            Framing::Length(n) => n,
            Framing::Absent => 0,
            Framing::Chunked => return Err(io::ErrorKind::Unsupported.into()),
        };
        let Some(body) = self.input.get(head.len..head.len + length) else { return Ok(false) };
        self.timing = Timing::of(model_of(body));
        let call = *calls;
        *calls += 1;
        let stream = memchr::memmem::find(body, b"\"stream\":true").is_some();
        self.answer = if stream { Answer::Stream(call, 0) } else { Answer::Whole(call) };
        self.input.drain(..head.len + length);
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// The name in `"model":"bench-50ms"`.
fn model_of(body: &[u8]) -> &[u8] {
    const PREFIX: &[u8] = b"\"model\":\"";
    let Some(at) = memchr::memmem::find(body, PREFIX) else { return &[] };
    body.get(at + PREFIX.len()..).and_then(|rest| rest.split(|byte| *byte == b'"').next()).unwrap_or_default()
}

const TEXT: [&str; STREAM_CHUNKS] = [
    "The ",
    "books ",
    "of ",
    "this ",
    "call ",
    "are ",
    "kept ",
    "by ",
    "the ",
    "gateway, ",
    "and ",
    "every ",
    "cent ",
    "has ",
    "a ",
    "place ",
    "it ",
    "came ",
    "from",
    ".",
];
const USAGE: &str = r#"{"prompt_tokens":92,"completion_tokens":20,"total_tokens":112,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}"#;

fn push_id(call: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"chatcmpl-");
    for digit in (0..ID_DIGITS).rev() {
        let nibble = (call >> (digit * 4)) & 0xf;
        out.push(if nibble < 10 { b'0' + nibble as u8 } else { b'a' - 10 + nibble as u8 });
    }
}

/// A whole answer with its head, some 570 bytes.
fn whole_answer(call: u64, out: &mut Vec<u8>) {
    const BEFORE: &[u8] = br#"{"id":""#;
    const AFTER: &[u8] = br#"","object":"chat.completion","created":1767225600,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    const END: &[u8] =
        br#"","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":"#;
    let id = "chatcmpl-".len() + ID_DIGITS;
    let text: usize = TEXT.iter().map(|t| t.len()).sum();
    let length = BEFORE.len() + id + AFTER.len() + text + END.len() + USAGE.len() + 1;
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ");
    // A write to a Vec cannot fail.
    let _ = write!(out, "{length}\r\nx-request-id: ");
    push_id(call, out);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(BEFORE);
    push_id(call, out);
    out.extend_from_slice(AFTER);
    TEXT.iter().for_each(|t| out.extend_from_slice(t.as_bytes()));
    out.extend_from_slice(END);
    out.extend_from_slice(USAGE.as_bytes());
    out.push(b'}');
}

/// Frame `n` of a streamed answer as one HTTP chunk; false for the last.
fn stream_frame(call: u64, n: usize, out: &mut Vec<u8>) -> bool {
    if n == 0 {
        out.extend_from_slice(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\nx-request-id: ",
        );
        push_id(call, out);
        out.extend_from_slice(b"\r\n\r\n");
    }
    if n > STREAM_CHUNKS {
        out.extend_from_slice(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
        return false;
    }
    // The size takes three hex digits (leading zeros are legal): the frame is written behind it.
    let start = out.len();
    out.extend_from_slice(b"000\r\ndata: {\"id\":\"");
    push_id(call, out);
    out.extend_from_slice(br#"","object":"chat.completion.chunk","created":1767225600,"model":"bench","#);
    match TEXT.get(n) {
        Some(text) => {
            let role = if n == 0 { r#""role":"assistant","# } else { "" };
            let finish = if n + 1 == STREAM_CHUNKS { r#""stop""# } else { "null" };
            let _ = write!(
                out,
                r#""choices":[{{"index":0,"delta":{{{role}"content":"{text}"}},"logprobs":null,"finish_reason":{finish}}}],"usage":null}}"#
            );
        }
        None => {
            let _ = write!(out, r#""choices":[],"usage":{USAGE}}}"#);
        }
    }
    out.extend_from_slice(b"\n\n");
    let size = out.len() - start - 5;
    for (i, shift) in [8, 4, 0].into_iter().enumerate() {
        if let Some(byte) = out.get_mut(start + i) {
            *byte = b"0123456789abcdef".get((size >> shift) & 15).copied().unwrap_or(b'0');
        }
    }
    out.extend_from_slice(b"\r\n");
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::http1::Chunks;
    use std::time::Duration;

    #[test]
    fn a_whole_answer_is_json_of_the_stated_length() {
        let mut out = Vec::new();
        whole_answer(0xabc, &mut out);
        let head = http1::head(&out).expect("a head");
        let body = &out[head.len..];
        assert_eq!(head.body, Framing::Length(body.len()));
        assert!((400..=700).contains(&body.len()), "{}", body.len());
        let json: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(json["id"], "chatcmpl-0000000000000abc");
        assert_eq!(json["usage"]["total_tokens"], 112);
    }

    #[test]
    fn a_stream_is_twenty_chunks_usage_and_done() {
        let mut out = Vec::new();
        let mut n = 0;
        while stream_frame(7, n, &mut out) {
            n += 1;
        }
        let head = http1::head(&out).expect("a head");
        let (mut chunks, mut body) = (Chunks::default(), Vec::new());
        chunks.feed(&out[head.len..], &mut body);
        assert!(chunks.is_done());
        let text = String::from_utf8(body).expect("UTF-8");
        let events: Vec<&str> = text.split_terminator("\n\n").map(|e| &e["data: ".len()..]).collect();
        assert_eq!(events.len(), STREAM_CHUNKS + 2);
        assert_eq!(events.last(), Some(&"[DONE]"));
        let parsed = events[..STREAM_CHUNKS + 1]
            .iter()
            .map(|e| serde_json::from_str::<serde_json::Value>(e).expect("JSON"));
        let answer: String =
            parsed.filter_map(|v| v["choices"][0]["delta"]["content"].as_str().map(String::from)).collect();
        assert_eq!(answer, TEXT.concat());
    }

    #[test]
    fn the_name_of_the_model_gives_its_timing() {
        let timing = |body: &[u8]| Timing::of(model_of(body));
        assert_eq!(timing(br#"{"model":"bench-50ms","n":1}"#).first, Duration::from_millis(50));
        assert_eq!(timing(br#"{"model":"bench-ticking"}"#).each, Duration::from_millis(100));
        assert_eq!(timing(br#"{"model":"bench"}"#), Timing::default());
    }
}
