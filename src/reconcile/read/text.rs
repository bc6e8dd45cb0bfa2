//! The bytes of a file as text: UTF-8 or GB18030, in portions.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, GB18030, UTF_8};

use super::Fault;

/// Bytes as UTF-8 text. What is not of the encoding ends the reading with its line.
pub struct Decoded<R> {
    from: R,
    decoder: Decoder,
    raw: Vec<u8>,
    start: usize,
    end: usize,
    over: bool,
    /// Lines that have ended by `start`.
    lines: u64,
}

impl<R: Read> Decoded<R> {
    pub fn new(from: R, is_utf8: bool) -> Self {
        let encoding = if is_utf8 { UTF_8 } else { GB18030 };
        Decoded {
            from,
            decoder: encoding.new_decoder(),
            raw: vec![0; 1 << 16],
            start: 0,
            end: 0,
            over: false,
            lines: 0,
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.start == self.end && !self.over {
                (self.start, self.end) = (0, self.from.read(&mut self.raw)?);
                self.over = self.end == 0;
            }
            let raw = self.raw.get(self.start..self.end).unwrap_or_default();
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(raw, to, self.over);
            self.start += read;
            let ended = raw.get(..read).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
            self.lines += ended as u64;
            match result {
                DecoderResult::Malformed(..) => {
                    let fault = Fault::new(self.lines + 1, "the text is not of the file's encoding");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
                }
                _ if written > 0 => return Ok(written),
                DecoderResult::OutputFull => return Ok(written),
                DecoderResult::InputEmpty if self.over => return Ok(0),
                DecoderResult::InputEmpty => {}
            }
        }
    }
}

/// Whether all of it is UTF-8, in portions.
pub struct Utf8Check {
    decoder: Decoder,
    fine: bool,
}

impl Default for Utf8Check {
    fn default() -> Self {
        Utf8Check { decoder: UTF_8.new_decoder_without_bom_handling(), fine: true }
    }
}

impl Utf8Check {
    pub fn push(&mut self, mut bytes: &[u8], last: bool) {
        let mut out = [0; 4096];
        while self.fine {
            let (result, read, _) = self.decoder.decode_to_utf8_without_replacement(bytes, &mut out, last);
            bytes = bytes.get(read..).unwrap_or_default();
            match result {
                DecoderResult::Malformed(..) => self.fine = false,
                DecoderResult::OutputFull => {}
                DecoderResult::InputEmpty => break,
            }
        }
    }

    pub fn is_fine(&self) -> bool {
        self.fine
    }
}
