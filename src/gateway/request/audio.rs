//! Requests about sound: a text to be spoken, or a form with a recording to be written down.

use std::borrow::Cow;

use bytes::Bytes;

use super::form::Form;
use super::json::{Members, kind};
use super::{AskedUnits, Endpoint, ModelRequest, RequestFault, TEMPLATE_TOKENS};

const KNOWN: &[&str] = &["model", "input", "instructions", "stream_format"];

pub(super) fn speech(text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    let raw = members.required("input", "a string")?;
    let spoken: Cow<'_, str> = serde_json::from_str(raw.get())
        .map_err(|_| RequestFault::parameter("input", "a string", kind(raw.get())))?;
    let characters = spoken.chars().count() as u64;
    let mut request = ModelRequest::plain(Endpoint::Speech, members.model(None)?, members.spans());
    request.stream = members.text("stream_format")?.is_some_and(|format| &*format == "sse");
    request.units = Some(Box::new(AskedUnits { characters, ..AskedUnits::default() }));
    Ok(request)
}

/// A form with one recording.
pub(super) fn transcription(media_type: &str, body: &Bytes) -> Result<ModelRequest, RequestFault> {
    let form = Form::read(media_type, body)?;
    let mut files = form.fields().filter(|field| field.name == "file");
    let (Some(file), None) = (files.next(), files.next()) else {
        return Err(RequestFault::parameter("file", "one recording", "none or several"));
    };
    let prompt = form.text("prompt")?.map_or(0, |prompt| prompt.value.len() as u64);
    let mut request = form.request(Endpoint::Transcriptions)?;
    request.stream = form.text("stream")?.map(|stream| stream.flag()).transpose()?.unwrap_or(false);
    request.parts.audio = 1;
    request.input_tokens_bound = prompt.saturating_add(TEMPLATE_TOKENS);
    request.recording_bytes = file.content.len() as u64;
    request.units = Some(Box::new(AskedUnits { ms: wave_ms(file.content), ..AskedUnits::default() }));
    Ok(request)
}

/// How long a recording is that is uncompressed in a WAVE file, in milliseconds, rounded up; `None` for any other,
/// whose length its size does not tell.
fn wave_ms(file: &[u8]) -> Option<u64> {
    if file.get(..4)? != b"RIFF" || file.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut rest, mut bytes_per_second) = (file.get(12..)?, None);
    loop {
        let length = usize::try_from(u32_at(rest, 4)?).ok()?;
        let content = rest.get(8..)?;
        match rest.get(..4)? {
            b"fmt " => bytes_per_second = Some(wave_rate(content)?),
            b"data" => {
                // A file that was written as a stream does not know its length.
                let bytes = length.min(content.len()) as u64;
                return Some(bytes.saturating_mul(1_000).div_ceil(bytes_per_second?));
            }
            _ => {}
        }
        rest = content.get(length.checked_add(length % 2)?..)?;
    }
}

/// Bytes per second of whole samples; whole numbers (1) or floating point (3), so nothing compressed.
fn wave_rate(format: &[u8]) -> Option<u64> {
    let [tag, channels, bits] = [0, 2, 14].map(|at| u16_at(format, at));
    if !matches!(tag?, 1 | 3) {
        return None;
    }
    let rate = u64::from(u32_at(format, 4)?) * u64::from(channels?) * u64::from(bits?) / 8;
    (rate > 0).then_some(rate)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording of silence: 8,000 samples of two bytes a second.
    fn wave(samples: u32, tag: u16) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        file.extend(tag.to_le_bytes());
        file.extend(1u16.to_le_bytes());
        file.extend(8_000u32.to_le_bytes());
        file.extend(16_000u32.to_le_bytes());
        file.extend(2u16.to_le_bytes());
        file.extend(16u16.to_le_bytes());
        file.extend(b"data");
        file.extend((samples * 2).to_le_bytes());
        file.extend(vec![0; samples as usize * 2]);
        file
    }

    #[test]
    fn an_uncompressed_recording_tells_its_length_and_no_other() {
        assert_eq!(wave_ms(&wave(8_000, 1)), Some(1_000));
        assert_eq!(wave_ms(&wave(8_001, 3)), Some(1_001));
        assert_eq!(wave_ms(&wave(8_000, 85)), None);
        assert_eq!(wave_ms(b"ID3\x04 and so on, an MP3"), None);
        for end in 0..60 {
            assert!(wave_ms(&wave(100, 1)[..end]).is_none_or(|ms| ms < 13));
        }
    }
}
