//! A form as the upstream reads it: by itself, so that a fault of the gateway's own reader is not hidden.

use memchr::memmem;
use serde_json::{Map, Value};

/// A file that came with a form.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct File {
    pub bytes: u64,
    /// How long it is, if it is a plain WAVE file.
    pub ms: Option<u64>,
}

/// The texts of a form, and its files.
pub(super) fn read(media_type: &str, body: &[u8]) -> Option<(Value, Vec<File>)> {
    let boundary = media_type.split("boundary=").nth(1)?.trim_matches('"');
    let delimiter = format!("--{boundary}");
    let (mut texts, mut files) = (Map::new(), Vec::new());
    let starts: Vec<usize> = memmem::find_iter(body, delimiter.as_bytes()).collect();
    for pair in starts.windows(2) {
        let [start, end] = *pair else { continue };
        let part = body.get(start + delimiter.len() + 2..end.checked_sub(2)?)?;
        let length = memmem::find(part, b"\r\n\r\n")?;
        let (head, content) = (part.get(..length)?, part.get(length + 4..)?);
        let head = String::from_utf8_lossy(head);
        let name = head.split("name=\"").nth(1)?.split('"').next()?;
        if head.contains("filename=") {
            files.push(File { bytes: content.len() as u64, ms: wave_ms(content) });
        } else {
            texts.insert(name.to_owned(), String::from_utf8_lossy(content).into_owned().into());
        }
    }
    Some((Value::Object(texts), files))
}

/// Of a WAVE file with the usual head of 44 bytes: its bytes by those of a second.
fn wave_ms(file: &[u8]) -> Option<u64> {
    if file.get(..4)? != b"RIFF" || file.get(36..40)? != b"data" {
        return None;
    }
    let per_second = u64::from(u32::from_le_bytes(file.get(28..32)?.try_into().ok()?));
    let bytes = file.len() as u64 - 44;
    Some((bytes * 1_000).div_ceil(per_second.max(1)))
}
