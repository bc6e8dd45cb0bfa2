//! The little of HTTP/1.1 that the load and the upstream need: heads, content-length, chunks.
//!
//! Promises: no allocation, one pass. Never: it is no general parser – it reads messages from
//! well-behaved peers and takes whatever else for an error, which the benchmark then counts.

/// What of a message head matters here.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Head {
    /// Bytes of the head, its blank line included.
    pub len: usize,
    /// Three digits of a response's status line; 0 for a request.
    pub status: u16,
    pub body: Framing,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Framing {
    Length(usize),
    Chunked,
    /// Neither header: no body in a request.
    Absent,
}

/// The head at the start of `buf`, or None while it is incomplete.
pub fn head(buf: &[u8]) -> Option<Head> {
    let len = memchr::memmem::find(buf, b"\r\n\r\n")? + 4;
    let text = buf.get(..len)?;
    let status = match text.strip_prefix(b"HTTP/1.1 ") {
        Some([a, b, c, ..]) => [a, b, c].iter().fold(0, |n, d| n * 10 + u16::from(d.wrapping_sub(b'0'))),
        _ => 0,
    };
    let mut body = Framing::Absent;
    for line in text.split(|&b| b == b'\n').skip(1) {
        if let Some(value) = header(line, b"content-length:") {
            body = Framing::Length(decimal(value));
        } else if header(line, b"transfer-encoding:").is_some() {
            body = Framing::Chunked;
        }
    }
    Some(Head { len, status, body })
}

/// The rest of `line` when it starts with `name` (lowercase, with its colon).
fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(rest)
}

fn decimal(text: &[u8]) -> usize {
    let digits = text.iter().skip_while(|b| **b == b' ').take_while(|b| b.is_ascii_digit());
    digits.fold(0usize, |n, d| n.saturating_mul(10).saturating_add(usize::from(d - b'0')))
}

/// Reads a chunked body piece by piece.
#[derive(Debug, Default, Clone)]
pub struct Chunks {
    state: State,
    left: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data,
    DataEnd,
    /// After the chunk of size 0: the blank line (no trailers).
    Last,
    Done,
    Broken,
}

impl Chunks {
    /// Takes in `buf`, appends the data in it to `out`.
    pub fn feed(&mut self, mut buf: &[u8], out: &mut Vec<u8>) {
        while let Some((&byte, rest)) = buf.split_first() {
            match self.state {
                State::Data => {
                    let (data, rest) = buf.split_at(self.left.min(buf.len()));
                    out.extend_from_slice(data);
                    self.left -= data.len();
                    if self.left == 0 {
                        self.state = State::DataEnd;
                    }
                    buf = rest;
                    continue;
                }
                State::Size => match (byte as char).to_digit(16) {
                    Some(digit) => self.left = self.left.saturating_mul(16).saturating_add(digit as usize),
                    None if byte == b'\r' => {}
                    None if byte == b'\n' => {
                        self.state = if self.left == 0 { State::Last } else { State::Data };
                    }
                    None => self.state = State::Broken,
                },
                State::DataEnd if byte == b'\n' => self.state = State::Size,
                State::Last if byte == b'\n' => self.state = State::Done,
                State::DataEnd | State::Last if byte == b'\r' => {}
                State::DataEnd | State::Last | State::Done | State::Broken => self.state = State::Broken,
            }
            buf = rest;
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_give_status_and_framing_whatever_the_case_of_their_names() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello";
        assert_eq!(head(text), Some(Head { len: 39, status: 200, body: Framing::Length(12) }));
        let text = b"POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n";
        assert_eq!(head(text).map(|h| (h.status, h.body)), Some((0, Framing::Chunked)));
        assert_eq!(head(b"HTTP/1.1 200 OK\r\n"), None);
    }

    #[test]
    fn a_chunked_body_reads_the_same_at_every_cut() {
        let wire = b"5\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";
        for cut in 0..wire.len() {
            let (mut chunks, mut out) = (Chunks::default(), Vec::new());
            let (a, b) = wire.split_at(cut);
            chunks.feed(a, &mut out);
            assert!(!chunks.is_done());
            chunks.feed(b, &mut out);
            assert!(chunks.is_done());
            assert_eq!(out, b"helloabcdefghijklmnopqrstuvwxyz");
            chunks.feed(b"x", &mut out);
            assert!(chunks.is_broken());
        }
    }
}
