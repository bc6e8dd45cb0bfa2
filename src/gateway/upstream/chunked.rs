//! Chunked transfer coding, undone in place.
//!
//! For: [`super::wire`]. A model's stream arrives as many small chunks, often several in one
//! read; their payloads are moved together inside the read buffer, so that one read becomes one
//! piece for the client and one write.
//! Promises: pure; strict (RFC 9112 section 7.1): sizes are 1 to 16 hexadecimal digits, every line
//! ends in CRLF, every chunk too; extensions are ignored and trailers skipped, both bounded. It
//! takes all bytes that it is given up to the end of the body, and none behind it.
//! Must never: read a size in two ways, or accept a bare line feed.

use super::wire::Fault;

/// Most hexadecimal digits of a chunk size: every such number fits a `u64`.
const SIZE_DIGITS_MAX: u8 = 16;

/// Longest line of a chunk size with its extensions, in bytes.
pub const CHUNK_LINE_BYTES_MAX: u16 = 1_024;

/// Most bytes of trailers after the last chunk.
pub const TRAILER_BYTES_MAX: u16 = 8 * 1_024;

/// Where in the coding the next byte stands.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Digits of a size.
    Size {
        value: u64,
        digits: u8,
    },
    /// Behind the digits: blanks up to an extension or the line's end.
    Blank {
        value: u64,
    },
    /// In an extension.
    Extension {
        value: u64,
    },
    /// The line feed of a size line.
    SizeLf {
        value: u64,
    },
    /// In the payload.
    Data {
        left: u64,
    },
    /// The CRLF behind a payload.
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the blank line that ends the body.
    Trailer,
    /// In a trailer line.
    TrailerLine,
    /// The line feed of a trailer line.
    TrailerLf,
    /// The last line feed.
    EndLf,
    Done,
}

/// The decoder of one body.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Bytes of the present size line, or of all trailers.
    line: u16,
}

/// What one call found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Where the payload starts: it has been moved together there.
    pub start: usize,
    /// Length of the payload.
    pub len: usize,
    /// Bytes of the input that are dealt with, payload included.
    pub consumed: usize,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, line: 0 }
    }
}

impl Chunked {
    /// Whether the last chunk and its trailers have been read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Undoes the coding of everything in `input`, moving payloads together.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<Found, Fault> {
        let mut found = Found::default();
        while let Some(&byte) = input.get(found.consumed) {
            match self.state {
                State::Done => break,
                State::Data { left } => {
                    let here = input.len() - found.consumed;
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(here);
                    found.take(input, take);
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                }
                _ => {
                    self.state = self.step(byte)?;
                    found.consumed += 1;
                }
            }
        }
        Ok(found)
    }

    /// One byte of the coding itself.
    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        const BAD_END: Fault = Fault("a chunk does not end in CRLF");
        Ok(match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(Fault("a chunk size is too large"));
                }
                State::Size { value: value << 4 | hex(byte), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(Fault("a chunk without a size")),
            (State::Size { value, .. } | State::Blank { value } | State::Extension { value }, b'\r') => {
                State::SizeLf { value }
            }
            (State::Size { value, .. } | State::Blank { value }, b' ' | b'\t') => {
                self.count(CHUNK_LINE_BYTES_MAX)?;
                State::Blank { value }
            }
            (State::Size { value, .. } | State::Blank { value }, b';') => State::Extension { value },
            (State::Size { .. } | State::Blank { .. }, _) => {
                return Err(Fault("a chunk size is not a hexadecimal number"));
            }
            (State::Extension { .. }, b'\n') => return Err(BAD_END),
            (State::Extension { value }, _) => {
                self.count(CHUNK_LINE_BYTES_MAX)?;
                State::Extension { value }
            }
            (State::SizeLf { value: 0 }, b'\n') => {
                self.line = 0;
                State::Trailer
            }
            (State::SizeLf { value }, b'\n') => {
                self.line = 0;
                State::Data { left: value }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::Trailer, b'\r') => State::EndLf,
            (State::TrailerLine, b'\r') => {
                self.count(TRAILER_BYTES_MAX)?;
                State::TrailerLf
            }
            (State::Trailer | State::TrailerLine, b'\n') => {
                return Err(Fault("a bare line feed in the trailers"));
            }
            (State::Trailer | State::TrailerLine, _) => {
                self.count(TRAILER_BYTES_MAX)?;
                State::TrailerLine
            }
            (State::TrailerLf, b'\n') => {
                self.count(TRAILER_BYTES_MAX)?;
                State::Trailer
            }
            (State::EndLf, b'\n') => State::Done,
            (State::SizeLf { .. } | State::DataCr | State::DataLf | State::TrailerLf | State::EndLf, _) => {
                return Err(BAD_END);
            }
            // Not reached: `decode` deals with these two.
            (state @ (State::Data { .. } | State::Done), _) => state,
        })
    }

    fn count(&mut self, max: u16) -> Result<(), Fault> {
        if self.line >= max {
            return Err(Fault("chunk extensions or trailers are too long"));
        }
        self.line += 1;
        Ok(())
    }
}

impl Found {
    /// Takes the next `take` bytes as payload, moved behind what there is already.
    fn take(&mut self, input: &mut [u8], take: usize) {
        if self.len == 0 {
            self.start = self.consumed;
        } else {
            input.copy_within(self.consumed..self.consumed + take, self.start + self.len);
        }
        self.len += take;
        self.consumed += take;
    }
}

/// The value of a hexadecimal digit.
fn hex(byte: u8) -> u64 {
    u64::from(match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte.saturating_sub(b'A') + 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<(String, usize, bool), Fault> {
        let mut bytes = text.as_bytes().to_vec();
        let mut chunked = Chunked::default();
        let found = chunked.decode(&mut bytes)?;
        let payload = bytes[found.start..found.start + found.len].to_vec();
        Ok((String::from_utf8(payload).unwrap(), found.consumed, chunked.is_done()))
    }

    #[test]
    fn chunks_of_one_read_come_out_as_one_piece() {
        let text = "5\r\nhello\r\n1 ; a=\"b\"\r\n \r\n00A;x\r\n0123456789\r\n0\r\nT: 1\r\nU: 2\r\n\r\nnext";
        let (payload, consumed, done) = decode(text).unwrap();
        assert_eq!(payload, "hello 0123456789");
        assert!(done);
        assert_eq!(&text[consumed..], "next");
    }

    #[test]
    fn what_is_not_strictly_chunked_is_refused() {
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n",
            "5\nhello\r\n",
            "5\r\nhello\n",
            "5\r\nhellox",
            "5\r\nhello\rx",
            "5 5\r\nhello\r\n",
            "5;\nhello\r\n",
            "5\rhello",
            "10000000000000000\r\n",
            "00000000000000005\r\nhello\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\n\n",
            "0\r\n\rx",
            ";\r\n",
        ] {
            assert!(decode(text).is_err(), "{text:?} was accepted");
        }
        assert!(decode("ffffffffffffffff\r\nhello").is_ok(), "a huge size is just a long chunk");
        assert!(decode(&format!("5;{}", "x".repeat(2_000))).is_err());
        assert!(decode(&format!("5{}", " ".repeat(2_000))).is_err());
        assert!(decode(&format!("0\r\n{}", "a: b\r\n".repeat(2_000))).is_err());
    }
}
