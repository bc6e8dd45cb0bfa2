//! Answers of any length: made piece by piece while they are sent, so that they begin at once, take little memory, and
//! stop when nobody reads on.

use std::fmt;

use axum::body::Body;
use axum::http::header::{self, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::stream;

use super::problem::Problem;

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;

/// The byte that an answer begins with, where it is the rest of one that was interrupted.
pub const RESUMED_AT: HeaderName = HeaderName::from_static("x-tallygate-resumed-at");

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    More,
    Done,
}

/// Appends a little more of an answer. Blocks on the store.
pub type Write = Box<dyn FnMut(&mut Vec<u8>) -> Result<Step, Problem> + Send>;

/// See the module.
pub struct Download {
    content_type: &'static str,
    /// Name under which a browser keeps it.
    file: String,
    first: Vec<u8>,
    rest: Option<Write>,
    /// Names its bytes, which are the same whenever it is made again.
    tag: Option<String>,
    resumed_at: Option<u64>,
}

/// Names are ours; bytes are not for a log.
impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Download {
    /// Begins with the first piece, so that what cannot be answered at all is a refusal. Blocks.
    pub fn begin(content_type: &'static str, file: String, mut write: Write) -> Result<Self, Problem> {
        let (first, step) = piece(&mut write)?;
        let rest = (step == Step::More).then_some(write);
        Ok(Download { content_type, file, first, rest, tag: None, resumed_at: None })
    }

    /// With a name of its bytes, by which the rest of them can be asked for.
    #[must_use]
    pub fn tagged(self, tag: String) -> Self {
        Download { tag: Some(tag), ..self }
    }

    /// The rest of it, from a byte on; `None`: it is not so long. What is before it is made and thrown away. Blocks.
    pub fn rest_from(mut self, byte: u64) -> Result<Option<Self>, Problem> {
        let mut before = byte;
        loop {
            let made = self.first.len() as u64;
            if before <= made {
                self.first.drain(..usize::try_from(before).unwrap_or(usize::MAX).min(self.first.len()));
                self.resumed_at = Some(byte);
                return Ok(Some(self));
            }
            before -= made;
            let Some(mut write) = self.rest.take() else { return Ok(None) };
            let (first, step) = piece(&mut write)?;
            self.first = first;
            self.rest = (step == Step::More).then_some(write);
        }
    }

    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let named = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", self.file)).ok();
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        let tag = self.tag.as_ref().and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok());
        std::iter::once(kind)
            .chain(named.map(|named| (header::CONTENT_DISPOSITION, named)))
            .chain(tag.map(|tag| (header::ETAG, tag)))
            .chain(self.resumed_at.map(|byte| (RESUMED_AT, byte.into())))
    }

    /// The pieces one by one, each made on a thread that may block when it is asked for. A failure breaks the answer off,
    /// so that nobody takes it for whole.
    pub fn body(self) -> Body {
        let first = Bytes::from(self.first);
        Body::from_stream(stream::unfold((Some(first), self.rest), |(first, rest)| async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, rest)));
            }
            let mut write = rest?;
            let made = tokio::task::spawn_blocking(move || piece(&mut write).map(|made| (made, write))).await;
            let failed = |why: &dyn fmt::Display| {
                tracing::error!(%why, "an answer broke off");
                Some((Err(std::io::Error::other("the answer broke off")), (None, None)))
            };
            match made {
                Ok(Ok(((bytes, step), write))) => {
                    let rest = (step == Step::More).then_some(write);
                    Some((Ok(Bytes::from(bytes)), (None, rest)))
                }
                Ok(Err(problem)) => failed(&problem.refusal().code),
                Err(panic) => failed(&panic),
            }
        }))
    }
}

fn piece(write: &mut Write) -> Result<(Vec<u8>, Step), Problem> {
    let mut bytes = Vec::with_capacity(PIECE_BYTES + 1_024);
    loop {
        let step = write(&mut bytes)?;
        if step == Step::Done || bytes.len() >= PIECE_BYTES {
            return Ok((bytes, step));
        }
    }
}

/// A field of a CSV file (RFC 4180). A text that a spreadsheet would take for a formula is marked as text.
pub fn csv_text(out: &mut Vec<u8>, text: &str) {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let mark = if formula { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r']) {
        out.push(b'"');
        out.extend_from_slice(mark.as_bytes());
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(mark.as_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

/// One row of a CSV file. Numbers come as they are, texts are made safe.
pub fn csv_row(out: &mut Vec<u8>, fields: &[Cell<'_>]) {
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match field {
            Cell::Text(text) => csv_text(out, text),
            Cell::Number(number) => out.extend_from_slice(number.as_bytes()),
            Cell::Empty => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A field of a CSV file.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'t> {
    Text(&'t str),
    Number(&'t str),
    Empty,
}

impl<'t> From<&'t str> for Cell<'t> {
    fn from(text: &'t str) -> Self {
        Cell::Text(text)
    }
}

impl<'t> From<Option<&'t str>> for Cell<'t> {
    fn from(text: Option<&'t str>) -> Self {
        text.map_or(Cell::Empty, Cell::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_is_told_texts_and_never_formulas() {
        let mut out = Vec::new();
        csv_row(
            &mut out,
            &["=1+1".into(), "a \"b\", c".into(), Cell::Number("-1.5"), Cell::Empty, "中文".into()],
        );
        assert_eq!(String::from_utf8(out).unwrap(), "'=1+1,\"a \"\"b\"\", c\",-1.5,,中文\r\n");
    }
}
