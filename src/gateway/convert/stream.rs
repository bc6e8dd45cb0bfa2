//! A stream that changes its format as it goes: the data of an upstream's event in, the client's events out.
//!
//! Promises: nothing is kept but what the client's format cannot say in pieces (arguments of a Gemini call), says in
//! another order (calls of tools that an upstream mixed) or says
//! at the end (reason and usage, and a response once more as a whole). Everything from the reason to end on comes out apart, so that the gateway can keep
//! it back until the call is settled.

use ledger::Usage;

use super::calls::Calls;
use super::reply::{Envelope, Piece, ReplyFault};
use super::{Format, anthropic, gemini, openai, responses};

enum Reader {
    OpenAi(openai::Reader),
    Anthropic(anthropic::Reader),
    Gemini(gemini::Reader),
    Responses(responses::Reader),
}

enum Writer {
    OpenAi(openai::Writer),
    Anthropic(anthropic::Writer),
    Gemini(gemini::Writer),
    Responses(Box<responses::Writer>),
}

/// What an event became.
#[derive(Debug, Default)]
pub struct Converted {
    /// May go to the client at once.
    pub now: Vec<u8>,
    /// The end of the answer.
    pub last: Vec<u8>,
}

/// The conversion of one stream.
pub struct StreamConverter {
    reader: Reader,
    calls: Calls,
    writer: Writer,
    finished: bool,
}

impl StreamConverter {
    pub fn new(from: Format, to: Format, envelope: Envelope) -> Self {
        let reader = match from {
            Format::OpenAi | Format::DeepSeek => Reader::OpenAi(openai::Reader::default()),
            Format::Anthropic => Reader::Anthropic(anthropic::Reader::default()),
            Format::Gemini => Reader::Gemini(gemini::Reader::default()),
            Format::Responses => Reader::Responses(responses::Reader::default()),
        };
        let calls = Calls::new(&envelope.id, envelope.one_call);
        let writer = match to {
            Format::OpenAi | Format::DeepSeek => Writer::OpenAi(openai::Writer::new(envelope)),
            Format::Anthropic => Writer::Anthropic(anthropic::Writer::new(envelope)),
            Format::Gemini => Writer::Gemini(gemini::Writer::new(envelope)),
            Format::Responses => Writer::Responses(Box::new(responses::Writer::new(envelope))),
        };
        Self { reader, calls, writer, finished: false }
    }

    /// Takes the data of an event.
    pub fn push(&mut self, data: &[u8], into: &mut Converted) -> Result<(), ReplyFault> {
        let data = data.trim_ascii();
        if !data.starts_with(b"{") && data != b"[DONE]" {
            return Err(ReplyFault::new("an event that is no object"));
        }
        let (writer, finished, calls) = (&mut self.writer, &mut self.finished, &mut self.calls);
        let mut tell = |piece: Piece<'_>| match piece {
            // Usage that was counted comes before the end, so the end is what `finish` writes.
            Piece::End => Ok(()),
            piece => calls.pass(piece, &mut |piece| write(writer, finished, piece, into)),
        };
        match &mut self.reader {
            Reader::OpenAi(reader) => reader.read(data, &mut tell),
            Reader::Anthropic(reader) => reader.read(data, &mut tell),
            Reader::Gemini(reader) => reader.read(data, &mut tell),
            Reader::Responses(reader) => reader.read(data, &mut tell),
        }
    }

    /// What the client of a response has been told.
    pub fn so_far(&self) -> Option<responses::SoFar> {
        match &self.writer {
            Writer::Responses(writer) => Some(writer.so_far()),
            _ => None,
        }
    }

    /// The upstream has ended its stream, whole. `counted`: what was counted of one whose usage the upstream did not tell.
    pub fn finish(&mut self, counted: Option<Usage>, into: &mut Converted) -> Result<(), ReplyFault> {
        // Whatever comes out now is the end of the answer.
        self.finished = true;
        let (writer, finished) = (&mut self.writer, &mut self.finished);
        let usage = counted.map(Piece::Usage);
        for piece in usage.into_iter().chain([Piece::End]) {
            self.calls.pass(piece, &mut |piece| write(writer, finished, piece, into))?;
        }
        Ok(())
    }
}

fn write(
    writer: &mut Writer,
    finished: &mut bool,
    piece: &Piece<'_>,
    into: &mut Converted,
) -> Result<(), ReplyFault> {
    *finished |= matches!(piece, Piece::Finish { .. } | Piece::End);
    let out = if *finished { &mut into.last } else { &mut into.now };
    match writer {
        Writer::OpenAi(writer) => {
            writer.write(piece, out);
            Ok(())
        }
        Writer::Anthropic(writer) => writer.write(piece, out),
        Writer::Gemini(writer) => writer.write(piece, out),
        Writer::Responses(writer) => writer.write(piece, out),
    }
}
