//! The top level of a chat request: which fields are there and where.
//!
//! Keys are compared after unescaping, so that `"mod\u0065l"` is a model too,
//! and a field that matters may stand only once: a second one that the
//! upstream reads differently would be a way round every check.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::messages::{self, Walk};
use super::{
    CHOICES_MAX, CapField, CapSpan, Extras, MODEL_CHARS_MAX, OUTPUT_CAP_MAX, OptionsSpan, Parts,
    RequestFault, Span, Spans,
};

/// What the one pass found.
pub(super) struct Found {
    pub model: Box<str>,
    pub stream: bool,
    pub include_usage: bool,
    pub output_cap: Option<(CapField, u32)>,
    pub choices: u32,
    pub tools: bool,
    pub messages: Parts,
    pub extras: Extras,
    pub spans: Spans,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Model,
    Messages,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    N,
    Tools,
    Functions,
    ServiceTier,
    WebSearchOptions,
    Prediction,
    Audio,
    #[serde(other)]
    Other,
}

/// The values of the fields that matter, as they stand in the text.
#[derive(Default)]
struct Raw<'a> {
    model: Option<&'a RawValue>,
    messages: bool,
    stream: Option<&'a RawValue>,
    stream_options: Option<&'a RawValue>,
    max_tokens: Option<&'a RawValue>,
    max_completion_tokens: Option<&'a RawValue>,
    n: Option<&'a RawValue>,
    service_tier: Option<&'a RawValue>,
    tools: bool,
    extras: Extras,
}

/// Reads the text in one pass.
pub(super) fn read(text: &str) -> Result<Found, RequestFault> {
    let mut walk = Walk::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let raw = match json.deserialize_map(Top { walk: &mut walk }).and_then(|raw| json.end().map(|()| raw)) {
        Ok(raw) => raw,
        Err(error) => return Err(walk.fault.take().unwrap_or_else(|| explain(text, &walk, &error))),
    };
    if !raw.messages {
        return Err(RequestFault::parameter("messages", "a list of messages", "nothing"));
    }
    check(text, &raw, walk.parts)
}

fn check(text: &str, raw: &Raw<'_>, parts: Parts) -> Result<Found, RequestFault> {
    let model_raw =
        raw.model.ok_or_else(|| RequestFault::parameter("model", "the name of a model", "nothing"))?;
    let max_tokens = cap("max_tokens", raw.max_tokens)?;
    let max_completion = cap("max_completion_tokens", raw.max_completion_tokens)?;
    let output_cap = match (max_tokens, max_completion) {
        (Some(older), Some(newer)) if older > newer => Some((CapField::MaxTokens, older)),
        (_, Some(newer)) => Some((CapField::MaxCompletionTokens, newer)),
        (Some(older), None) => Some((CapField::MaxTokens, older)),
        (None, None) => None,
    };
    let (include_usage, stream_options) = options(text, raw.stream_options)?;
    let mut extras = raw.extras;
    extras.service_tier =
        raw.service_tier.is_some_and(|tier| !matches!(tier.get(), "null" | "\"auto\"" | "\"default\""));
    let place = |value: Option<&RawValue>| value.and_then(|value| span(text, value.get()));
    let cap_span = |raw, value| place(raw).map(|at| CapSpan { at, value });
    Ok(Found {
        model: model(model_raw)?,
        stream: flag("stream", raw.stream)?,
        include_usage,
        output_cap,
        choices: number("n", raw.n, 1, CHOICES_MAX, "a whole number from 1 to 128")?.unwrap_or(1),
        tools: raw.tools,
        messages: parts,
        extras,
        spans: Spans {
            body_len: text.len(),
            open: text.bytes().position(|byte| byte == b'{').map_or(0, |at| at + 1),
            model: place(raw.model).unwrap_or_default(),
            max_tokens: cap_span(raw.max_tokens, max_tokens),
            max_completion_tokens: cap_span(raw.max_completion_tokens, max_completion),
            stream_options,
        },
    })
}

/// Where a slice of `text` lies in it, by its address; checked, so that a
/// foreign slice gives nothing.
fn span(text: &str, part: &str) -> Option<Span> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (text.get(start..end)? == part).then_some(start..end)
}

struct Top<'w> {
    walk: &'w mut Walk,
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Raw<'de>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
        let walk = self.walk;
        let mut raw = Raw::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Model => once(walk, &mut map, "model", &mut raw.model)?,
                Key::Stream => once(walk, &mut map, "stream", &mut raw.stream)?,
                Key::StreamOptions => once(walk, &mut map, "stream_options", &mut raw.stream_options)?,
                Key::MaxTokens => once(walk, &mut map, "max_tokens", &mut raw.max_tokens)?,
                Key::MaxCompletionTokens => {
                    once(walk, &mut map, "max_completion_tokens", &mut raw.max_completion_tokens)?;
                }
                Key::N => once(walk, &mut map, "n", &mut raw.n)?,
                Key::ServiceTier => once(walk, &mut map, "service_tier", &mut raw.service_tier)?,
                Key::Messages => {
                    if std::mem::replace(&mut raw.messages, true) {
                        return Err(walk.twice("messages"));
                    }
                    map.next_value_seed(messages::Messages { walk })?;
                }
                Key::Tools | Key::Functions => raw.tools |= present(&mut map)?,
                Key::WebSearchOptions => raw.extras.web_search |= present(&mut map)?,
                Key::Prediction => raw.extras.prediction |= present(&mut map)?,
                Key::Audio => raw.extras.audio_output |= present(&mut map)?,
                Key::Other => drop(map.next_value::<serde::de::IgnoredAny>()?),
            }
        }
        Ok(raw)
    }
}

fn once<'de, A: MapAccess<'de>>(
    walk: &mut Walk,
    map: &mut A,
    name: &'static str,
    slot: &mut Option<&'de RawValue>,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(walk.twice(name));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}

fn present<'de, A: MapAccess<'de>>(map: &mut A) -> Result<bool, A::Error> {
    Ok(map.next_value::<&RawValue>()?.get() != "null")
}

fn model(raw: &RawValue) -> Result<Box<str>, RequestFault> {
    let what = "a name of 1 to 256 characters";
    let name: Box<str> = serde_json::from_str(raw.get())
        .map_err(|_| RequestFault::parameter("model", what, kind(raw.get())))?;
    // Bytes bound characters from above, so that most names are not walked.
    let long = name.len() > MODEL_CHARS_MAX && name.chars().count() > MODEL_CHARS_MAX;
    if name.is_empty() || long {
        let got = if long { "a longer one" } else { "an empty string" };
        return Err(RequestFault::parameter("model", what, got));
    }
    Ok(name)
}

fn flag(field: &'static str, raw: Option<&RawValue>) -> Result<bool, RequestFault> {
    match raw.map(RawValue::get) {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(RequestFault::parameter(field, "true or false", kind(other))),
    }
}

fn cap(field: &'static str, raw: Option<&RawValue>) -> Result<Option<u32>, RequestFault> {
    number(field, raw, 1, OUTPUT_CAP_MAX, "a whole number from 1 to 2147483647")
}

/// A whole number in decimal digits; `1.0` and `1e3` are refused, because
/// upstreams disagree about them.
fn number(
    field: &'static str,
    raw: Option<&RawValue>,
    min: u32,
    max: u32,
    what: &'static str,
) -> Result<Option<u32>, RequestFault> {
    let text = match raw.map(RawValue::get) {
        None | Some("null") => return Ok(None),
        Some(text) => text,
    };
    match text.parse::<u32>() {
        Ok(value) if (min..=max).contains(&value) => Ok(Some(value)),
        _ => Err(RequestFault::parameter(field, what, kind(text))),
    }
}

#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default)]
    include_usage: Option<&'a RawValue>,
}

fn options(text: &str, raw: Option<&RawValue>) -> Result<(bool, OptionsSpan), RequestFault> {
    let Some(raw) = raw else { return Ok((false, OptionsSpan::Absent)) };
    let place = span(text, raw.get()).unwrap_or_default();
    if raw.get() == "null" {
        return Ok((false, OptionsSpan::Null(place)));
    }
    // A derived struct would also read a list by position.
    if !raw.get().starts_with('{') {
        return Err(RequestFault::parameter("stream_options", "an object", kind(raw.get())));
    }
    // The text is JSON already, so that only a second `include_usage` fails.
    let parsed: StreamOptions<'_> = serde_json::from_str(raw.get()).map_err(|_| {
        RequestFault::parameter("stream_options.include_usage", "one value", "the field twice")
    })?;
    // `null` becomes `None`, whose place is not known; it is looked for apart.
    match parsed.include_usage {
        Some(value) => {
            let asked = flag("stream_options.include_usage", Some(value))?;
            Ok((asked, OptionsSpan::Value(span(text, value.get()).unwrap_or_default())))
        }
        None => Ok((false, bare_options(raw.get(), &place))),
    }
}

/// Options without a usable `include_usage`: absent, or `null`.
fn bare_options(raw: &str, place: &Span) -> OptionsSpan {
    #[derive(Deserialize)]
    struct Explicit<'a> {
        #[serde(borrow)]
        include_usage: &'a RawValue,
    }
    if let Ok(explicit) = serde_json::from_str::<Explicit<'_>>(raw)
        && let Some(value) = span(raw, explicit.include_usage.get())
    {
        return OptionsSpan::Value(place.start + value.start..place.start + value.end);
    }
    let empty = raw.get(1..).is_some_and(|rest| rest.trim_start().starts_with('}'));
    OptionsSpan::Object { open: place.start + 1, empty }
}

/// What a JSON text is, in a few words that hold nothing of the client's
/// text but a short number.
pub(super) fn kind(raw: &str) -> Box<str> {
    match raw.as_bytes().first() {
        Some(b'"') => "a string".into(),
        Some(b'{') => "an object".into(),
        Some(b'[') => "a list".into(),
        Some(b't' | b'f' | b'n') => raw.get(..5.min(raw.len())).unwrap_or("a word").into(),
        Some(b'-' | b'0'..=b'9') => match raw.get(..24) {
            Some(head) if raw.len() > 24 => format!("{head}…").into(),
            _ => raw.into(),
        },
        _ => "nothing".into(),
    }
}

/// A parser's error in words of our own: a place for broken JSON, a field for
/// a wrong type.
fn explain(text: &str, walk: &Walk, error: &serde_json::Error) -> RequestFault {
    use serde_json::error::Category;
    let message = error.to_string();
    let wrong_type = error.classify() == Category::Data;
    if wrong_type && let Some((field, what)) = walk.expected() {
        return RequestFault::parameter(field, what, got(&message));
    }
    let (line, column) = (error.line(), error.column());
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let offset = (before + column.saturating_sub(1)).min(text.len());
    let what: Box<str> = if text.is_empty() {
        "the body is empty".into()
    } else if text.starts_with('\u{feff}') {
        "it starts with a byte order mark (U+FEFF)".into()
    } else if wrong_type {
        format!("expected a JSON object, got {}", got(&message)).into()
    } else {
        message.split(" at line ").next().unwrap_or("syntax error").into()
    };
    RequestFault::InvalidJson { offset, line, column, what }
}

/// The kind of value that the parser's message speaks of, without its text.
fn got(message: &str) -> &'static str {
    let kind = message.strip_prefix("invalid type: ").unwrap_or(message);
    let kinds = [
        ("string", "a string"),
        ("integer", "a number"),
        ("floating point", "a number"),
        ("boolean", "true or false"),
        ("null", "null"),
        ("map", "an object"),
        ("sequence", "a list"),
    ];
    kinds.iter().find(|(start, _)| kind.starts_with(start)).map_or("another kind of value", |(_, name)| name)
}

impl Walk {
    /// Keeps the fault of a field that stands twice; the parser's error only
    /// carries it out.
    fn twice<E: serde::de::Error>(&mut self, field: &'static str) -> E {
        self.fault = Some(RequestFault::parameter(field, "the field once", "the field twice"));
        E::custom("duplicate field")
    }
}
