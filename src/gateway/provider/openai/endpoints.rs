//! What answers at OpenAI's endpoints say, where it is said in another way than at the chat: in the events of typed
//! streams, and beside or instead of tokens.
//!
//! Promises and bans are those of the format as a whole (see the module above).

use ledger::{Unit, Usage};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::usage::{self, Lenient, WINDOW_BYTES};
use super::{EventFacts, EventKind, inspect_event};
use crate::gateway::facts::Endpoint;

/// What an answer tells of what it used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub usage: Option<Usage>,
    /// Pictures in it.
    pub images: Option<u64>,
    /// Of the pictures, as the upstream chose them.
    pub size: Option<Box<str>>,
    pub quality: Option<Box<str>>,
}

impl Told {
    pub fn of(usage: Option<Usage>) -> Self {
        Told { usage, ..Told::default() }
    }
}

/// Reads a whole body.
pub fn told(endpoint: Endpoint, body: &[u8]) -> Told {
    match endpoint {
        Endpoint::ImageGenerations | Endpoint::ImageEdits => images(body),
        Endpoint::Transcriptions => Told::of(transcription(body)),
        Endpoint::Rerank => Told::of(rerank(body)),
        // Sound, and vectors that cost nothing.
        Endpoint::Speech | Endpoint::Moderations => Told::default(),
        _ => Told::of(usage::usage_from_body(body)),
    }
}

/// Looks at an event of a stream: its name, which may be empty, and its data.
pub fn inspect(endpoint: Endpoint, name: &[u8], data: &[u8]) -> EventFacts {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => inspect_event(data),
        _ => inspect_typed(name, data),
    }
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Streams of the responses format and of pictures and sound: each event has a type, and the last one tells the usage.
fn inspect_typed(name: &[u8], data: &[u8]) -> EventFacts {
    let mut facts = EventFacts { kind: EventKind::Other, has_finish: false, usage: None };
    if data.trim_ascii() == b"[DONE]" {
        facts.kind = EventKind::Done;
        return facts;
    }
    let Ok(typed) = serde_json::from_slice::<Typed<'_>>(data) else { return facts };
    let kind = typed.kind.map_or("", |kind| kind.get().trim_matches('"')).as_bytes();
    let kind = if kind.is_empty() { name } else { kind };
    facts.kind = match kind {
        b"error" | b"response.failed" => EventKind::Error,
        _ if typed.error.is_some_and(|error| error.get() != "null") => EventKind::Error,
        b"response.completed" | b"response.incomplete" => EventKind::Done,
        b"speech.audio.done" | b"transcript.text.done" => EventKind::Done,
        b"image_generation.completed" | b"image_edit.completed" => EventKind::Done,
        _ if kind.ends_with(b".delta") => EventKind::Delta,
        // It has the name of a tool in it.
        b"response.output_item.added" => EventKind::Delta,
        _ => EventKind::Other,
    };
    if facts.kind == EventKind::Done {
        facts.usage = usage_of_last_event(data);
    }
    facts
}

/// The usage of a typed stream's last event: of the response that it has in it, else its own.
pub fn usage_of_last_event(data: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Last {
        #[serde(default)]
        response: Option<Response>,
        #[serde(default)]
        usage: Lenient,
    }
    #[derive(Deserialize)]
    struct Response {
        #[serde(default)]
        usage: Lenient,
    }
    let last: Last = serde_json::from_slice(data).ok()?;
    last.response.and_then(|response| response.usage.0).or(last.usage.0)
}

/// Size and quality as a body or the last event of pictures tells them.
pub fn variant(data: &[u8]) -> Told {
    let mut told = Told::default();
    if let Ok(chosen) = serde_json::from_slice::<Chosen>(data) {
        (told.size, told.quality) = (chosen.size, chosen.quality);
    }
    told
}

#[derive(Deserialize, Default)]
struct Chosen {
    #[serde(default)]
    size: Option<Box<str>>,
    #[serde(default)]
    quality: Option<Box<str>>,
    #[serde(default)]
    usage: Lenient,
}

/// A body with pictures: a list of them, and for newer models what was chosen and used.
fn images(body: &[u8]) -> Told {
    #[derive(Deserialize)]
    struct Images<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
    }
    let Ok(images) = serde_json::from_slice::<Images<'_>>(body) else { return Told::default() };
    let chosen = serde_json::from_slice::<Chosen>(body).unwrap_or_default();
    Told {
        usage: chosen.usage.0,
        images: Some(images.data.len() as u64),
        size: chosen.size,
        quality: chosen.quality,
    }
}

/// A transcript: tokens, or seconds where the model is sold by time.
fn transcription(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Transcript<'a> {
        #[serde(borrow, default)]
        usage: Option<&'a RawValue>,
        #[serde(borrow, default)]
        duration: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Timed<'a> {
        #[serde(borrow, default)]
        seconds: Option<&'a RawValue>,
    }
    let transcript: Transcript<'_> = serde_json::from_slice(body).ok()?;
    let timed = transcript.usage.and_then(|usage| serde_json::from_str::<Timed<'_>>(usage.get()).ok());
    let seconds = timed.and_then(|timed| timed.seconds);
    let told = transcript.usage.and_then(|usage| Lenient::of(usage.get()));
    match (told, seconds.or(transcript.duration).and_then(milliseconds)) {
        (None, None) => None,
        (told, ms) => {
            let mut usage = told.unwrap_or_default();
            usage.set_units(Unit::Second, ms.unwrap_or(0));
            Some(usage)
        }
    }
}

/// Seconds as a JSON number or a text, in whole milliseconds, rounded up; nothing where that is no time.
fn milliseconds(seconds: &RawValue) -> Option<u64> {
    /// No recording is longer than a week.
    const MS_MAX: u64 = 7 * 24 * 3_600 * 1_000;
    let text = seconds.get().trim_matches('"');
    // Digits beyond the nanosecond say nothing, and are more than the parser takes.
    let end = text.find('.').map_or(text.len(), |point| text.len().min(point + 10));
    let nano = ledger::Nano::parse_decimal(text.get(..end)?).ok()?.0;
    let ms = u64::try_from(nano).ok()?.div_ceil(1_000_000);
    (ms > 0 && ms <= MS_MAX).then_some(ms)
}

/// A rerank: units of search as Cohere tells them, tokens as Jina does.
fn rerank(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        usage: Option<Billed>,
        #[serde(default)]
        meta: Option<Meta>,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(default)]
        billed_units: Option<Billed>,
    }
    #[derive(Deserialize, Default)]
    struct Billed {
        #[serde(default)]
        search_units: Option<u64>,
        #[serde(default)]
        total_tokens: Option<u64>,
        #[serde(default)]
        input_tokens: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let (own, meta) = (answer.usage.unwrap_or_default(), answer.meta.and_then(|meta| meta.billed_units));
    let meta = meta.unwrap_or_default();
    let searches = meta.search_units.or(own.search_units).unwrap_or(0);
    let tokens = own.total_tokens.or(own.input_tokens).or(meta.input_tokens).unwrap_or(0);
    let believable = searches <= 1_000_000 && tokens <= usage::ABSURD_TOKENS && (searches > 0 || tokens > 0);
    let mut usage = Usage::default();
    usage.set(ledger::TokenClass::Input, tokens);
    usage.set_units(Unit::Search, searches);
    believable.then_some(usage)
}

/// Watches a long body go by: its head and tail for the usage, and for pictures how many there are.
#[derive(Debug)]
pub struct Tap {
    endpoint: Endpoint,
    body: usage::BodyTap,
    images: u64,
    /// The last bytes, in which a name may have begun.
    seam: Vec<u8>,
}

/// The two ways to hand over a picture, one of which each of them has.
const PICTURE_NAMES: [&[u8]; 2] = [b"\"b64_json\"", b"\"url\""];

impl Tap {
    pub fn new(endpoint: Endpoint) -> Self {
        Tap { endpoint, body: usage::BodyTap::default(), images: 0, seam: Vec::new() }
    }

    pub fn push(&mut self, piece: &[u8]) {
        self.body.push(piece);
        if self.endpoint.unit() == Some(Unit::Image) {
            self.count(piece);
        }
    }

    /// Counts names that end in this piece; inside of a text their quotes would be escaped.
    fn count(&mut self, piece: &[u8]) {
        for name in PICTURE_NAMES {
            // Across the seam, at most all but one byte of a name lie on either side.
            let side = name.len() - 1;
            let before = self.seam.get(self.seam.len().saturating_sub(side)..).unwrap_or_default();
            let across = [before, piece.get(..side.min(piece.len())).unwrap_or_default()].concat();
            self.images += memmem::find_iter(&across, name).count() as u64;
            self.images += memmem::find_iter(piece, name).count() as u64;
        }
        let keep = PICTURE_NAMES.iter().map(|name| name.len() - 1).max().unwrap_or(0);
        self.seam.extend_from_slice(piece.get(piece.len().saturating_sub(keep)..).unwrap_or_default());
        self.seam.drain(..self.seam.len().saturating_sub(keep));
    }

    pub fn told(&self) -> Told {
        match self.endpoint {
            Endpoint::Speech | Endpoint::Moderations => Told::default(),
            Endpoint::Transcriptions | Endpoint::Rerank => told(self.endpoint, self.body.kept()),
            Endpoint::ImageGenerations | Endpoint::ImageEdits => {
                let kept = self.body.kept();
                let tail = kept.get(kept.len().saturating_sub(WINDOW_BYTES)..).unwrap_or_default();
                let chosen = |name: &[u8]| usage::member_of_tail::<Chosen>(tail, name).unwrap_or_default();
                let (size, quality) = (chosen(b"\"size\"").size, chosen(b"\"quality\"").quality);
                Told { usage: self.body.usage(), images: Some(self.images), size, quality }
            }
            _ => Told::of(self.body.usage()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::TokenClass;

    use super::*;

    fn units(usage: Option<Usage>, unit: Unit) -> u64 {
        usage.map_or(0, |usage| usage.units(unit))
    }

    #[test]
    fn a_transcript_tells_tokens_or_seconds() {
        let read = |body: &str| told(Endpoint::Transcriptions, body.as_bytes()).usage;
        let timed = read(r#"{"text":"hi","usage":{"type":"duration","seconds":12.3456}}"#);
        assert_eq!(units(timed, Unit::Second), 12_346);
        assert_eq!(units(read(r#"{"text":"hi","duration":3.0}"#), Unit::Second), 3_000);
        let tokens = read(
            r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":4,"audio_tokens":10},"output_tokens":3,"total_tokens":17}}"#,
        );
        let of = |class| tokens.unwrap().get(class);
        assert_eq!((of(TokenClass::Input), of(TokenClass::AudioIn), of(TokenClass::Output)), (4, 10, 3));
        for bad in ["{\"text\":1}", "spoken", r#"{"usage":{"seconds":-1}}"#, r#"{"usage":{"seconds":1e99}}"#]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_rerank_tells_searches_or_tokens() {
        let read = |body: &str| told(Endpoint::Rerank, body.as_bytes()).usage.unwrap();
        let cohere = read(r#"{"results":[],"meta":{"billed_units":{"search_units":2}}}"#);
        assert_eq!(cohere.units(Unit::Search), 2);
        assert_eq!(read(r#"{"results":[],"usage":{"total_tokens":815}}"#).get(TokenClass::Input), 815);
        assert_eq!(told(Endpoint::Rerank, br#"{"results":[]}"#).usage, None);
    }

    #[test]
    fn pictures_are_counted_however_their_body_is_cut() {
        let long = "A".repeat(40_000);
        let body = format!(
            r#"{{"created":1,"data":[{{"b64_json":"{long}"}},{{"url":"https://x/y","revised_prompt":"a \"url\" \"size\":\"9\""}}],"quality":"high","size":"1024x1024","usage":{{"input_tokens":5,"output_tokens":9,"total_tokens":14,"input_tokens_details":{{"text_tokens":5,"image_tokens":0}}}}}}"#
        );
        let whole = told(Endpoint::ImageGenerations, body.as_bytes());
        assert_eq!(
            (whole.images, whole.size.as_deref(), whole.quality.as_deref()),
            (Some(2), Some("1024x1024"), Some("high"))
        );
        assert_eq!(whole.usage.unwrap().get(TokenClass::Output), 9);
        for size in [1, 7, 8, 1_000, 39_999, body.len()] {
            let mut tap = Tap::new(Endpoint::ImageEdits);
            body.as_bytes().chunks(size).for_each(|piece| tap.push(piece));
            assert_eq!(tap.told(), whole, "pieces of {size}");
        }
    }

    #[test]
    fn typed_events_are_told_apart() {
        let kind = |name: &str, data: &str| inspect(Endpoint::Responses, name.as_bytes(), data.as_bytes());
        let delta = r#"{"type":"response.output_text.delta","delta":"hi"}"#;
        assert_eq!(kind("response.output_text.delta", delta).kind, EventKind::Delta);
        let done = kind(
            "",
            r#"{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":2},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":12}}}"#,
        );
        let usage = done.usage.unwrap();
        let of = |class| usage.get(class);
        assert_eq!(done.kind, EventKind::Done);
        assert_eq!(
            [TokenClass::Input, TokenClass::CacheRead, TokenClass::Output, TokenClass::Reasoning].map(of),
            [5, 2, 4, 1]
        );
        assert_eq!(kind("", r#"{"type":"response.failed","response":{}}"#).kind, EventKind::Error);
        assert_eq!(kind("error", r#"{"message":"no"}"#).kind, EventKind::Error);
        assert_eq!(
            kind("", r#"{"type":"response.created","response":{"usage":null}}"#).kind,
            EventKind::Other
        );
        assert_eq!(kind("", "not JSON").kind, EventKind::Other);
        let speech = inspect(
            Endpoint::Speech,
            b"",
            br#"{"type":"speech.audio.done","usage":{"input_tokens":3,"output_tokens":40,"total_tokens":43}}"#,
        );
        assert_eq!(speech.usage.unwrap().get(TokenClass::Output), 40);
    }
}
