//! Reading the members of a body: each is looked at as it stands in the text, and a fault names it.
//!
//! Keys are compared after unescaping, so that `"mod\u0065l"` is a model too, and a member that matters may stand
//! only once: a second one that the upstream reads differently would be a way round every check.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::{CapSpan, MODEL_CHARS_MAX, OUTPUT_CAP_MAX, OptionsSpan, RequestFault, Span, Spans};

/// The members that an endpoint looks at, as they stand in the text; all others are passed over.
pub(super) struct Members<'a> {
    text: &'a str,
    found: SmallVec<[(&'static str, &'a RawValue); 16]>,
}

impl<'a> Members<'a> {
    /// Reads an object in one pass.
    pub fn read(text: &'a str, known: &'static [&'static str]) -> Result<Self, RequestFault> {
        let mut twice = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_map(Top { known, twice: &mut twice });
        match read.and_then(|found| json.end().map(|()| found)) {
            Ok(found) => Ok(Members { text, found }),
            Err(error) => Err(match twice {
                Some(field) => RequestFault::parameter(field, "the field once", "the field twice"),
                None => explain(text, None, &error),
            }),
        }
    }

    /// A member that is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.even_null(name).filter(|value| value.get() != "null")
    }

    fn even_null(&self, name: &str) -> Option<&'a RawValue> {
        self.found.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The name of the model, which every request must have but where the format has a default.
    pub fn model(&self, default: Option<&str>) -> Result<Box<str>, RequestFault> {
        match (self.get("model"), default) {
            (Some(raw), _) => model(raw),
            (None, Some(default)) => Ok(default.into()),
            (None, None) => Err(RequestFault::parameter("model", "the name of a model", "nothing")),
        }
    }

    pub fn flag(&self, name: &'static str) -> Result<bool, RequestFault> {
        flag(name, self.get(name))
    }

    pub fn number(
        &self,
        name: &'static str,
        max: u32,
        what: &'static str,
    ) -> Result<Option<u32>, RequestFault> {
        number(name, self.get(name), 1, max, what)
    }

    pub fn cap(&self, name: &'static str) -> Result<Option<u32>, RequestFault> {
        cap(name, self.get(name))
    }

    /// A text, unescaped.
    pub fn text(&self, name: &'static str) -> Result<Option<Box<str>>, RequestFault> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(RequestFault::parameter(name, "a string", kind(raw.get()))),
        }
    }

    /// What stands there must be there, and must be a text or a list; both are looked at by the caller.
    pub fn required(&self, name: &'static str, what: &'static str) -> Result<&'a RawValue, RequestFault> {
        self.get(name).ok_or_else(|| RequestFault::parameter(name, what, "nothing"))
    }

    /// Another service tier than the one that prices are for.
    pub fn has_other_tier(&self) -> bool {
        self.get("service_tier").is_some_and(|tier| !matches!(tier.get(), "\"auto\"" | "\"default\""))
    }

    /// Where the values lie that may be rewritten.
    pub fn spans(&self) -> Spans {
        Spans {
            body_len: self.text.len(),
            open: opening(self.text),
            // An empty place for a model that has to be added.
            model: self.place("model").unwrap_or_default(),
            ..Spans::default()
        }
    }

    /// The place of a cap and its value, if it is there.
    pub fn cap_span(&self, name: &'static str, value: Option<u32>) -> Option<CapSpan> {
        self.place(name).map(|at| CapSpan { at, value })
    }

    /// What `stream_options` asks for.
    pub fn stream_options(&self) -> Result<(bool, OptionsSpan), RequestFault> {
        options(self.text, self.even_null("stream_options"))
    }

    pub fn place(&self, name: &str) -> Option<Span> {
        self.even_null(name).and_then(|value| span(self.text, value.get()))
    }
}

struct Top<'t> {
    known: &'static [&'static str],
    twice: &'t mut Option<&'static str>,
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = SmallVec<[(&'static str, &'de RawValue); 16]>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Self::Value::new();
        while let Some(key) = map.next_key_seed(Key(self.known))? {
            let Some(name) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if found.iter().any(|(known, _)| *known == name) {
                *self.twice = Some(name);
                return Err(serde::de::Error::custom("duplicate field"));
            }
            found.push((name, map.next_value()?));
        }
        Ok(found)
    }
}

/// Which of the known names a key is.
struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static str>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|known| **known == key).copied())
    }
}

/// The elements of a list, each as it stands; `None` if it is no list.
pub(super) fn list(raw: &RawValue) -> Option<Vec<&RawValue>> {
    raw.get().starts_with('[').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// Whether an address, as it stands in JSON, is one of a place where films are; what takes pictures by their address may
/// take those, too. An address with an escape in it is read as it is meant.
pub(super) fn is_of_films(raw: &str) -> bool {
    const HOSTS: [&str; 3] = ["youtube.com", "youtu.be", "youtube-nocookie.com"];
    if raw.starts_with("\"data:") {
        return false;
    }
    let unescaped;
    let address = if raw.contains('\\') {
        unescaped = serde_json::from_str::<String>(raw).unwrap_or_default();
        &unescaped
    } else {
        raw.trim_matches('"')
    };
    let Some((_, behind)) = address.split_once("//") else { return false };
    let authority = behind.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let host = host.trim().trim_end_matches('.').as_bytes();
    HOSTS.iter().any(|known| {
        let Some(at) = host.len().checked_sub(known.len()) else { return false };
        let (before, tail) = host.split_at(at);
        tail.eq_ignore_ascii_case(known.as_bytes()) && before.last().is_none_or(|byte| *byte == b'.')
    })
}

/// First byte behind the opening brace.
pub(super) fn opening(text: &str) -> usize {
    text.bytes().position(|byte| byte == b'{').map_or(0, |at| at + 1)
}

/// Where a slice of `text` lies in it, by its address; checked, so that a
/// foreign slice gives nothing.
pub(super) fn span(text: &str, part: &str) -> Option<Span> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (text.get(start..end)? == part).then_some(start..end)
}

const MODEL_WANTED: &str = "a name of 1 to 256 characters";

pub(super) fn model(raw: &RawValue) -> Result<Box<str>, RequestFault> {
    let name = serde_json::from_str(raw.get())
        .map_err(|_| RequestFault::parameter("model", MODEL_WANTED, kind(raw.get())))?;
    model_name(name)
}

pub(super) fn model_name(name: Box<str>) -> Result<Box<str>, RequestFault> {
    // Bytes bound characters from above, so that most names are not walked.
    let long = name.len() > MODEL_CHARS_MAX && name.chars().count() > MODEL_CHARS_MAX;
    if name.is_empty() || long {
        let got = if long { "a longer one" } else { "an empty string" };
        return Err(RequestFault::parameter("model", MODEL_WANTED, got));
    }
    Ok(name)
}

pub(super) fn flag(field: &'static str, raw: Option<&RawValue>) -> Result<bool, RequestFault> {
    match raw.map(RawValue::get) {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(RequestFault::parameter(field, "true or false", kind(other))),
    }
}

pub(super) fn cap(field: &'static str, raw: Option<&RawValue>) -> Result<Option<u32>, RequestFault> {
    number(field, raw, 1, OUTPUT_CAP_MAX, "a whole number from 1 to 2147483647")
}

/// A whole number in decimal digits; `1.0` and `1e3` are refused, because
/// upstreams disagree about them.
pub(super) fn number(
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

pub(super) fn options(text: &str, raw: Option<&RawValue>) -> Result<(bool, OptionsSpan), RequestFault> {
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
pub(super) fn explain(
    text: &str,
    expected: Option<(String, &'static str)>,
    error: &serde_json::Error,
) -> RequestFault {
    use serde_json::error::Category;
    let message = error.to_string();
    let wrong_type = error.classify() == Category::Data;
    if wrong_type && let Some((field, what)) = expected {
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
