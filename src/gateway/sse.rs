//! Server-sent events, read where they lie in a stream of chunks, so that the
//! bytes can be passed on unchanged and yet be cut between events.
//!
//! For every event a judge says whether its bytes go on now, go on later, or
//! never. Promises: the bytes that come out are the bytes that came in, in
//! their order, less the dropped events; however the stream is cut into
//! chunks, the same events are seen. An event that lies in one chunk is looked
//! at in place and leaves as a slice of that chunk; one that straddles chunks
//! is gathered in a buffer that is used again and copied out once. A chunk of
//! whole events costs no allocation.
//!
//! Must never: let bytes out before they are judged, hold more than one event
//! of bounded size, or reorder.
//!
//! Format: the `text/event-stream` section of the HTML standard: lines end
//! with LF, CR LF or CR, a blank line ends an event, one byte order mark may
//! lead, a line that starts with a colon is a comment.

use std::fmt;

use bytes::Bytes;
use memchr::{memchr, memchr2};

#[cfg(test)]
mod tests;

/// What happens to the bytes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They go on now (but never past a withheld event: then they wait too).
    Forward,
    /// They wait in [`Cut::withheld`], with all that follows.
    Withhold,
    /// They go nowhere.
    Drop,
}

/// One event, as its judge sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `data` lines joined by LF.
    pub data: &'a [u8],
    /// The last `event` line; empty when there is none.
    pub name: &'a [u8],
    /// First byte of the event in the whole stream.
    pub start: u64,
    /// First byte behind the event, its blank line included.
    pub end: u64,
}

/// The bytes of judged events. The owner empties it between feeds and keeps
/// it, so that its lists are allocated once.
#[derive(Debug, Default)]
pub struct Cut {
    /// To be sent now, in order.
    pub forward: Vec<Bytes>,
    /// To be sent when the owner's condition holds, in order.
    pub withheld: Vec<Bytes>,
    /// How many those are.
    pub withheld_bytes: usize,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SseFault {
    /// An event is longer than the limit.
    EventTooLarge { limit_bytes: usize },
}

impl fmt::Display for SseFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EventTooLarge { limit_bytes } => {
                write!(out, "an event of the stream is longer than {limit_bytes} bytes")
            }
        }
    }
}

impl std::error::Error for SseFault {}

/// The reader of one stream.
#[derive(Debug)]
pub struct SseReader {
    limit_bytes: usize,
    /// The event that has begun and not ended, complete from its first byte.
    begun: Vec<u8>,
    /// Joins the data lines of an event that has several.
    joined: Vec<u8>,
    /// Bytes of the stream before the first byte of `begun`.
    position: u64,
    /// At the first byte of a line.
    line_start: bool,
    /// The byte before was a CR, so that an LF belongs to it.
    after_cr: bool,
    /// An event was withheld: nothing may go past it.
    withholding: bool,
    /// What happened to the last event; an LF that completes its CR follows it.
    last: Verdict,
}

/// Bytes of a chunk that share a verdict and have not been handed out yet.
struct Run {
    from: usize,
    verdict: Verdict,
}

impl SseReader {
    /// A reader that takes events up to `limit_bytes` long, blank line
    /// included.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            begun: Vec::new(),
            joined: Vec::new(),
            position: 0,
            line_start: true,
            after_cr: false,
            withholding: false,
            last: Verdict::Forward,
        }
    }

    /// Reads a chunk. `judge` is called once for each event with data that
    /// ends in it; comments and blank lines follow without a question. The
    /// bytes of all events that end here are in `cut`; those of the event that
    /// has only begun wait inside.
    pub fn feed(
        &mut self,
        chunk: &Bytes,
        mut judge: impl FnMut(&Event<'_>) -> Verdict,
        cut: &mut Cut,
    ) -> Result<(), SseFault> {
        let mut run = Run { from: 0, verdict: self.last };
        let mut at = self.stray_lf(chunk, &mut run);
        while let Some(end) = self.find_end(chunk, at) {
            let part = chunk.get(at..end).unwrap_or_default();
            let raw_len = self.begun.len() + part.len();
            if raw_len > self.limit_bytes {
                return Err(SseFault::EventTooLarge { limit_bytes: self.limit_bytes });
            }
            let gathered = !self.begun.is_empty();
            if gathered {
                self.begun.extend_from_slice(part);
            }
            let verdict = self.judge(if gathered { None } else { Some(part) }, raw_len, &mut judge);
            if gathered {
                let whole = Bytes::copy_from_slice(&self.begun);
                self.begun.clear();
                cut.push(verdict, whole);
                run = Run { from: end, verdict };
            } else if verdict != run.verdict {
                cut.push(run.verdict, chunk.slice(run.from..at));
                run = Run { from: at, verdict };
            }
            self.position += raw_len as u64;
            at = end;
        }
        cut.push(run.verdict, chunk.slice(run.from..at));
        let rest = chunk.get(at..).unwrap_or_default();
        if self.begun.len() + rest.len() > self.limit_bytes {
            return Err(SseFault::EventTooLarge { limit_bytes: self.limit_bytes });
        }
        self.begun.extend_from_slice(rest);
        Ok(())
    }

    /// The stream has ended. What had begun is judged as if its blank line had
    /// come (many servers leave out the last one) and goes out as it is.
    pub fn finish(&mut self, mut judge: impl FnMut(&Event<'_>) -> Verdict, cut: &mut Cut) {
        let raw_len = self.begun.len();
        if raw_len == 0 {
            return;
        }
        let verdict = self.judge(None, raw_len, &mut judge);
        cut.push(verdict, Bytes::copy_from_slice(&self.begun));
        self.begun.clear();
        self.position += raw_len as u64;
    }

    /// Bytes of the stream that have been judged.
    pub fn judged_bytes(&self) -> u64 {
        self.position
    }

    /// Bytes that wait for the end of their event.
    pub fn waiting_bytes(&self) -> usize {
        self.begun.len()
    }

    /// An LF at the start of a chunk that completes the CR which ended the
    /// event before goes where that event went.
    fn stray_lf(&mut self, chunk: &Bytes, run: &mut Run) -> usize {
        if !(self.after_cr && self.begun.is_empty() && chunk.first() == Some(&b'\n')) {
            return 0;
        }
        self.after_cr = false;
        self.position += 1;
        run.verdict = self.last;
        1
    }

    /// First byte behind the blank line that ends the event, or nothing when
    /// the chunk ends before. Keeps its place in the line across chunks.
    fn find_end(&mut self, chunk: &[u8], mut at: usize) -> Option<usize> {
        while let Some(&byte) = chunk.get(at) {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                at += 1;
                continue;
            }
            if self.line_start && (byte == b'\n' || byte == b'\r') {
                let mut end = at + 1;
                if byte == b'\r' {
                    match chunk.get(end) {
                        Some(b'\n') => end += 1,
                        Some(_) => {}
                        None => self.after_cr = true,
                    }
                }
                return Some(end);
            }
            let Some(length) = memchr2(b'\n', b'\r', chunk.get(at..)?) else {
                self.line_start = false;
                return None;
            };
            self.line_start = true;
            self.after_cr = chunk.get(at + length) == Some(&b'\r');
            at += length + 1;
        }
        None
    }

    /// The verdict on an event that is complete: in place, or in `begun`.
    fn judge(
        &mut self,
        in_place: Option<&[u8]>,
        raw_len: usize,
        judge: &mut impl FnMut(&Event<'_>) -> Verdict,
    ) -> Verdict {
        let raw = in_place.unwrap_or(&self.begun);
        let fields = Fields::read(raw, self.position == 0, &mut self.joined);
        let mut verdict = Verdict::Forward;
        if let Some(fields) = fields {
            let data = if fields.several { self.joined.as_slice() } else { fields.data };
            let end = self.position + raw_len as u64;
            verdict = judge(&Event { data, name: fields.name, start: self.position, end });
        }
        self.withholding |= verdict == Verdict::Withhold;
        if self.withholding && verdict == Verdict::Forward {
            verdict = Verdict::Withhold;
        }
        self.last = verdict;
        verdict
    }
}

impl Cut {
    /// Adds what was judged.
    pub fn push(&mut self, verdict: Verdict, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        match verdict {
            Verdict::Forward => self.forward.push(bytes),
            Verdict::Withhold => {
                self.withheld_bytes = self.withheld_bytes.saturating_add(bytes.len());
                self.withheld.push(bytes);
            }
            Verdict::Drop => {}
        }
    }
}

/// The fields of one event that has data.
struct Fields<'a> {
    data: &'a [u8],
    name: &'a [u8],
    /// The data has several lines and is in the buffer.
    several: bool,
}

impl<'a> Fields<'a> {
    fn read(raw: &'a [u8], first: bool, joined: &mut Vec<u8>) -> Option<Self> {
        let mut rest = raw;
        if first {
            rest = rest.strip_prefix("\u{feff}".as_bytes()).unwrap_or(rest);
        }
        let mut found: Option<&'a [u8]> = None;
        let (mut several, mut name): (bool, &'a [u8]) = (false, &[]);
        while !rest.is_empty() {
            let line;
            (line, rest) = next_line(rest);
            if let Some(value) = value_of(line, b"data") {
                match found {
                    None => found = Some(value),
                    Some(before) => {
                        if !several {
                            several = true;
                            joined.clear();
                            joined.extend_from_slice(before);
                        }
                        joined.push(b'\n');
                        joined.extend_from_slice(value);
                    }
                }
            } else if let Some(value) = value_of(line, b"event") {
                name = value;
            }
        }
        found.map(|data| Self { data, name, several })
    }
}

/// The first line without its end, and what follows.
fn next_line(text: &[u8]) -> (&[u8], &[u8]) {
    let Some(length) = memchr2(b'\n', b'\r', text) else { return (text, &[]) };
    let (line, rest) = text.split_at(length);
    let crlf = rest.starts_with(b"\r\n");
    (line, rest.get(if crlf { 2 } else { 1 }..).unwrap_or_default())
}

/// The value of a line if its field has that name; one leading blank is not
/// part of the value.
fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    match memchr(b':', line) {
        Some(colon) if line.get(..colon) == Some(field) => {
            let value = line.get(colon + 1..).unwrap_or_default();
            Some(value.strip_prefix(b" ").unwrap_or(value))
        }
        None if line == field => Some(&[]),
        _ => None,
    }
}
