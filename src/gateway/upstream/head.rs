//! The head of an HTTP/1.1 answer: status, headers, and how its body is framed.
//!
//! For: [`super::wire`], which hands over the bytes of one complete head.
//! Promises: pure; bounded by [`HEAD_BYTES_MAX`] and [`HEADERS_MAX`]; header values are slices of
//! the bytes that arrived, not copies. Framing follows RFC 9112 section 6.3, on its strict side:
//! an answer whose end could be read in two ways is refused, so that nobody can smuggle a second
//! answer into a connection that is used again.
//! Must never: guess a length.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};
use httparse::{ParserConfig, Status};

use super::wire::Fault;

/// Largest head of an answer, in bytes, interim answers not included.
pub const HEAD_BYTES_MAX: usize = 64 * 1_024;

/// Most header lines in one answer.
pub const HEADERS_MAX: usize = 128;

/// Most digits of a Content-Length: every such number fits a `u64`.
const LENGTH_DIGITS_MAX: usize = 19;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Exact(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything up to the end of the connection.
    UntilClose,
}

/// One head, understood.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: Headers,
    pub framing: Framing,
    /// Whether the upstream lets the connection be used again.
    pub keep_alive: bool,
    /// How long the upstream says it keeps an idle connection (`Keep-Alive: timeout=…`).
    pub keep_for: Option<Duration>,
}

/// The headers of an answer, in the order in which they arrived. Names are found without regard
/// to case.
#[derive(Debug, Default)]
pub struct Headers(Repr);

#[derive(Debug)]
enum Repr {
    Raw { head: Bytes, lines: Vec<Line> },
    Map(HeaderMap),
}

/// Where in the head a line's name and value stand.
#[derive(Debug, Clone, Copy)]
struct Line {
    name_at: u32,
    name_len: u32,
    value_at: u32,
    value_len: u32,
}

impl Default for Repr {
    fn default() -> Self {
        Self::Map(HeaderMap::new())
    }
}

impl Headers {
    /// The first value of that name, as it arrived.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        match &self.0 {
            Repr::Raw { head, lines } => {
                let line = lines.iter().find(|line| line.is_named(head, name))?;
                head.get(line.value())
            }
            Repr::Map(map) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// The first value of that name as a text, if it is one in visible ASCII.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok()).filter(|text| text.is_ascii())
    }

    /// The first value of that name, ready to be passed on; it shares the bytes that arrived.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<HeaderValue> {
        match &self.0 {
            Repr::Raw { head, lines } => {
                let line = lines.iter().find(|line| line.is_named(head, name))?;
                HeaderValue::from_maybe_shared(head.slice(line.value())).ok()
            }
            Repr::Map(map) => map.get(name).cloned(),
        }
    }

    /// Every header: name (in the case in which it came) and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let (raw, map) = match &self.0 {
            Repr::Raw { head, lines } => (Some((head, lines)), None),
            Repr::Map(map) => (None, Some(map)),
        };
        let raw = raw.into_iter().flat_map(|(head, lines)| {
            lines.iter().filter_map(|line| {
                let name = std::str::from_utf8(head.get(line.name())?).ok()?;
                Some((name, head.get(line.value())?))
            })
        });
        let map = map.into_iter().flat_map(|map| map.iter());
        raw.chain(map.map(|(name, value): (&HeaderName, &HeaderValue)| (name.as_str(), value.as_bytes())))
    }
}

impl From<HeaderMap> for Headers {
    fn from(map: HeaderMap) -> Self {
        Self(Repr::Map(map))
    }
}

impl Line {
    fn new(head: &[u8], name: &str, value: &[u8]) -> Option<Self> {
        let start = head.as_ptr() as usize;
        let at = |part: *const u8| (part as usize).checked_sub(start).and_then(|at| u32::try_from(at).ok());
        let value_len = u32::try_from(value.len()).ok()?;
        Some(Self {
            name_at: at(name.as_ptr())?,
            name_len: u32::try_from(name.len()).ok()?,
            // The place of an empty value means nothing, and need not be inside the head.
            value_at: if value.is_empty() { 0 } else { at(value.as_ptr())? },
            value_len,
        })
    }

    fn name(self) -> std::ops::Range<usize> {
        self.name_at as usize..self.name_at as usize + self.name_len as usize
    }

    fn value(self) -> std::ops::Range<usize> {
        self.value_at as usize..self.value_at as usize + self.value_len as usize
    }

    fn is_named(self, head: &[u8], name: &str) -> bool {
        self.name_len as usize == name.len()
            && head.get(self.name()).is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Reads one complete head, blank line included. `to_head`: it answers a HEAD request.
pub fn parse(head: Bytes, to_head: bool) -> Result<Head, Fault> {
    let mut slots = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(&mut answer, &head, &mut slots) {
        Ok(Status::Complete(read)) if read == head.len() => {}
        Ok(_) => return Err(Fault("the head does not end where its blank line is")),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault("too many headers")),
        Err(_) => return Err(Fault("the head is not HTTP/1.1")),
    }
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Fault("the status is not a number from 100 to 999"))?;
    let mut meaning = Meaning::default();
    let mut lines = Vec::with_capacity(answer.headers.len());
    for header in answer.headers.iter() {
        meaning.take(header.name, header.value)?;
        lines.push(Line::new(&head, header.name, header.value).ok_or(Fault("the head is too large"))?);
    }
    let current = answer.version == Some(1);
    let (framing, sound) = meaning.framing(status, to_head, current)?;
    let keep_alive =
        sound && !meaning.close && (current || meaning.keep_alive) && framing != Framing::UntilClose;
    let headers = Headers(Repr::Raw { lines, head });
    Ok(Head { status, headers, framing, keep_alive, keep_for: meaning.keep_for })
}

/// What the headers that steer a connection say.
#[derive(Default)]
struct Meaning {
    length: Option<u64>,
    coded: bool,
    close: bool,
    keep_alive: bool,
    keep_for: Option<Duration>,
}

impl Meaning {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Fault> {
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => {
                for token in value.split(|byte| *byte == b',') {
                    let token = token.trim_ascii();
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            10 if name.eq_ignore_ascii_case("keep-alive") => self.keep_for = keep_for(value),
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = decimal(value).ok_or(Fault("Content-Length is not a number"))?;
                if self.length.is_some_and(|other| other != length) {
                    return Err(Fault("two Content-Length headers disagree"));
                }
                self.length = Some(length);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                // One coding, named once: gzip was not asked for, and a list is how two readers
                // come to different ends.
                if self.coded || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault("Transfer-Encoding is not exactly chunked"));
                }
                self.coded = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112 section 6.3. The second value is `false` if the answer announces a body where
    /// there is none: readable, but the connection is not to be trusted for another call.
    fn framing(&self, status: StatusCode, to_head: bool, current: bool) -> Result<(Framing, bool), Fault> {
        if self.coded && self.length.is_some() {
            return Err(Fault("both Transfer-Encoding and Content-Length"));
        }
        if self.coded && !current {
            return Err(Fault("Transfer-Encoding in an HTTP/1.0 answer"));
        }
        if to_head || status == StatusCode::NOT_MODIFIED {
            return Ok((Framing::Exact(0), true));
        }
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            return Ok((Framing::Exact(0), !self.coded && self.length.is_none_or(|length| length == 0)));
        }
        match self.length {
            _ if self.coded => Ok((Framing::Chunked, true)),
            Some(length) => Ok((Framing::Exact(length), true)),
            None => Ok((Framing::UntilClose, true)),
        }
    }
}

/// A number in plain decimal digits.
fn decimal(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text.is_empty() || text.len() > LENGTH_DIGITS_MAX || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The `timeout` of a Keep-Alive header, in whole seconds.
fn keep_for(value: &[u8]) -> Option<Duration> {
    value.split(|byte| *byte == b',').find_map(|part| {
        let (name, seconds) = part.trim_ascii().split_at_checked(8)?;
        if !name.eq_ignore_ascii_case(b"timeout=") {
            return None;
        }
        decimal(seconds).map(Duration::from_secs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, Fault> {
        parse(Bytes::copy_from_slice(text.as_bytes()), false)
    }

    #[test]
    fn headers_are_found_in_any_case_and_shared() {
        let head =
            read("HTTP/1.1 200 OK\r\nContent-TYPE: text/plain\r\nX-Empty:\r\ncontent-length: 3\r\n\r\n")
                .unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(head.framing, Framing::Exact(3));
        assert!(head.keep_alive);
        assert_eq!(head.headers.text("content-type"), Some("text/plain"));
        assert_eq!(head.headers.get("x-empty"), Some(&b""[..]));
        assert_eq!(head.headers.value("content-type").unwrap(), "text/plain");
        assert_eq!(head.headers.get("absent"), None);
        let names: Vec<&str> = head.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Content-TYPE", "X-Empty", "content-length"]);
    }

    #[test]
    fn answers_whose_end_can_be_read_in_two_ways_are_refused() {
        for lines in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -1",
            "Content-Length: 0x5",
            "Content-Length: ",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
            "Content-Length: 5\r\n folded: 1",
            " Content-Length: 5",
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
            assert!(read(&answer).is_err(), "{lines:?} was accepted");
        }
        assert!(read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(read("HTTP/2 200 OK\r\n\r\n").is_err());
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n").unwrap().framing,
            Framing::Exact(5)
        );
    }

    #[test]
    fn the_connection_is_kept_only_where_both_say_so() {
        let kept = |text: &str| read(text).unwrap().keep_alive;
        assert!(kept("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(kept("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"));
        assert!(!kept("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 0\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!kept("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
        assert!(kept("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"));
        let head =
            read("HTTP/1.1 200 OK\r\nKeep-Alive: max=9, Timeout=5\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(head.keep_for, Some(Duration::from_secs(5)));
    }

    #[test]
    fn limits_hold() {
        let mut answer = String::from("HTTP/1.1 200 OK\r\n");
        for at in 0..=HEADERS_MAX {
            answer.push_str(&format!("h{at}: x\r\n"));
        }
        answer.push_str("\r\n");
        assert_eq!(read(&answer).unwrap_err().0, "too many headers");
    }
}
