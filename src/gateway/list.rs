//! A stream of events as a list that grows: Google's answer to whoever asks for a stream and not for events.
//!
//! Promises: each event's data is one element, byte for byte; the list is closed wherever the stream ends, also behind
//! an error. Nothing is kept back: a piece goes on when it comes.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::sync::mpsc;

use super::answer::AnswerBody;

/// A body that is a list of the data of a stream's events.
pub struct List {
    pieces: mpsc::Receiver<Bytes>,
    writer: Writer,
    ended: bool,
}

impl List {
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while !self.ended {
            let mut out = Vec::new();
            match self.pieces.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(piece)) => self.writer.push(&piece, &mut out),
                Poll::Ready(None) => {
                    self.ended = true;
                    self.writer.end(&mut out);
                }
            }
            if !out.is_empty() {
                return Poll::Ready(Some(out.into()));
            }
        }
        Poll::Ready(None)
    }
}

/// The answer as a list; a refusal stays what it is.
pub fn as_list(response: Response<AnswerBody>) -> Response<AnswerBody> {
    let (mut head, body) = response.into_parts();
    if !head.status.is_success() {
        return Response::from_parts(head, body);
    }
    let found = head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let is_stream = found.is_some_and(|found| found.as_bytes().starts_with(b"text/event-stream"));
    let body = match body {
        AnswerBody::Pieces(pieces) if is_stream => {
            AnswerBody::List(Box::new(List { pieces, writer: Writer::default(), ended: false }))
        }
        // An earlier answer, told again.
        AnswerBody::Whole(bytes) if is_stream => {
            let mut out = Vec::new();
            let mut writer = Writer::default();
            writer.push(&bytes.unwrap_or_default(), &mut out);
            writer.end(&mut out);
            AnswerBody::whole(out)
        }
        // An upstream that did not stream: a list of one.
        AnswerBody::Whole(Some(bytes)) => AnswerBody::whole([b"[", &*bytes, b"]"].concat()),
        other => other,
    };
    Response::from_parts(head, body)
}

const FIELD: &[u8] = b"data:";

/// Where in its line the writer is.
#[derive(Clone, Copy)]
enum Place {
    /// In the name of a field, of which so many bytes were those of `data:`.
    Field(usize),
    Data,
    Other,
}

struct Writer {
    place: Place,
    /// The list has been opened.
    begun: bool,
    /// The event has had data: more of it goes to the same element.
    in_element: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Writer { place: Place::Field(0), begun: false, in_element: false }
    }
}

impl Writer {
    fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while let Some((first, rest)) = piece.split_first() {
            match self.place {
                Place::Field(matched) => {
                    piece = rest;
                    self.name(matched, *first, out);
                }
                Place::Data | Place::Other => {
                    let end = memchr::memchr(b'\n', piece);
                    let (line, behind) = piece.split_at(end.map_or(piece.len(), |at| at + 1));
                    if matches!(self.place, Place::Data) {
                        out.extend_from_slice(line);
                    }
                    if end.is_some() {
                        self.place = Place::Field(0);
                    }
                    piece = behind;
                }
            }
        }
    }

    /// One byte of a field's name.
    fn name(&mut self, matched: usize, byte: u8, out: &mut Vec<u8>) {
        let expected = FIELD.get(matched).copied();
        self.place = match byte {
            b'\r' if matched == 0 => Place::Field(0),
            b'\n' => {
                // An empty line ends the event.
                self.in_element &= matched > 0;
                Place::Field(0)
            }
            _ if expected == Some(byte) && matched + 1 == FIELD.len() => {
                match (self.begun, self.in_element) {
                    (false, _) => out.push(b'['),
                    (true, false) => out.push(b','),
                    (true, true) => {}
                }
                (self.begun, self.in_element) = (true, true);
                Place::Data
            }
            _ if expected == Some(byte) => Place::Field(matched + 1),
            _ => Place::Other,
        };
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b"]" } else { b"[]" });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_list_has_each_events_data_however_the_stream_is_cut() {
        let stream = "data: {\"a\":\"x\\ny\"}\r\n\r\n: alive\n\nevent: b\ndata:{\"b\":\ndata: [1]}\n\ndatum: 1\n\ndata: \"c\"";
        for cut in 0..=stream.len() {
            let (before, behind) = stream.as_bytes().split_at(cut);
            let (mut writer, mut out) = (Writer::default(), Vec::new());
            writer.push(before, &mut out);
            writer.push(behind, &mut out);
            writer.end(&mut out);
            let list: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(list, json!([{"a": "x\ny"}, {"b": [1]}, "c"]), "{cut}");
        }
        let mut nothing = Vec::new();
        Writer::default().end(&mut nothing);
        assert_eq!(nothing, b"[]");
    }
}
