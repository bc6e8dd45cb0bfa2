//! The top level of a chat request: which fields are there and where. It is read by a table of its own, as the hot
//! path of the gateway.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{cap, explain, flag, model, number, opening, options, span};
use super::messages::{self, Walk};
use super::{CHOICES_MAX, CapField, CapSpan, Extras, OptionsSpan, Parts, RequestFault, Spans};

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
        Err(error) => {
            return Err(walk.fault.take().unwrap_or_else(|| explain(text, walk.expected(), &error)));
        }
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
            open: opening(text),
            model: place(raw.model).unwrap_or_default(),
            max_tokens: cap_span(raw.max_tokens, max_tokens),
            max_completion_tokens: cap_span(raw.max_completion_tokens, max_completion),
            max_output_tokens: None,
            model_unsaid: false,
            stream_options,
            store_unsaid: None,
            config: OptionsSpan::Absent,
            include: OptionsSpan::Absent,
            says_reasoning: false,
        },
    })
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

fn present<'de, A: MapAccess<'de>>(map: &mut A) -> Result<bool, A::Error> {
    Ok(map.next_value::<&RawValue>()?.get() != "null")
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

impl Walk {
    /// Keeps the fault of a field that stands twice; the parser's error only
    /// carries it out.
    fn twice<E: serde::de::Error>(&mut self, field: &'static str) -> E {
        self.fault = Some(RequestFault::parameter(field, "the field once", "the field twice"));
        E::custom("duplicate field")
    }
}
