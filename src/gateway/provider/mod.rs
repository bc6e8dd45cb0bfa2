//! The wire formats of upstreams, one file for each. A format knows where a
//! message keeps its usage, its end and its faults; it decides nothing.

pub mod anthropic;
pub mod gemini;
pub mod openai;
mod whole;

use http::HeaderMap;
use ledger::Usage;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

use crate::directory::ProviderKind;

use super::convert::Format;
use super::facts::Endpoint;
use openai::{EventFacts, Told, UpstreamFault};

pub use whole::{is_answer, may_be_answer};

impl ProviderKind {
    /// What its upstreams speak.
    pub const fn format(self) -> Format {
        match self {
            ProviderKind::Openai => Format::OpenAi,
            ProviderKind::Deepseek => Format::DeepSeek,
            ProviderKind::Anthropic => Format::Anthropic,
            ProviderKind::Gemini => Format::Gemini,
        }
    }
}

/// A usage that can be read, else none: a number that is none must not take the rest of its event along.
pub(crate) fn readable<'de, D, T>(json: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let raw = <&RawValue>::deserialize(json)?;
    // A derived struct would also read a list by position.
    let object = raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok());
    Ok(object.flatten().unwrap_or_default())
}

/// Looks at the events of one stream.
#[derive(Debug)]
pub enum Inspector {
    OpenAi(Endpoint),
    Anthropic(anthropic::UsageSoFar),
    Gemini,
}

impl Inspector {
    pub fn new(format: Format, endpoint: Endpoint) -> Self {
        match format {
            // A call that was converted is a chat there, whatever it is here.
            Format::OpenAi | Format::DeepSeek if endpoint.format().is_some() => {
                Inspector::OpenAi(Endpoint::ChatCompletions)
            }
            Format::OpenAi | Format::DeepSeek => Inspector::OpenAi(endpoint),
            Format::Responses => Inspector::OpenAi(Endpoint::Responses),
            Format::Anthropic => Inspector::Anthropic(anthropic::UsageSoFar::default()),
            Format::Gemini => Inspector::Gemini,
        }
    }

    pub fn inspect(&mut self, name: &[u8], data: &[u8]) -> EventFacts {
        match self {
            Inspector::OpenAi(endpoint) => openai::inspect(*endpoint, name, data),
            Inspector::Anthropic(so_far) => anthropic::inspect(so_far, data),
            Inspector::Gemini => gemini::inspect(data),
        }
    }

    /// What was told of the input before a stream broke off; only Anthropic's tell it at the start.
    pub fn input(&self) -> Option<Usage> {
        match self {
            Inspector::Anthropic(so_far) => so_far.input(),
            Inspector::OpenAi(_) | Inspector::Gemini => None,
        }
    }

    /// The fault that an error event tells of.
    pub fn fault(&self, data: &[u8]) -> UpstreamFault {
        match self {
            Inspector::OpenAi(_) => openai::stream_fault(data),
            Inspector::Anthropic(_) => anthropic::stream_fault(data),
            Inspector::Gemini => gemini::stream_fault(data),
        }
    }
}

/// The fault that an error tells of which came with 200, in a stream or as a whole body: its status is that which its own
/// words stand for.
pub fn stream_fault(format: Format, data: &[u8]) -> UpstreamFault {
    match format {
        Format::OpenAi | Format::DeepSeek | Format::Responses => openai::stream_fault(data),
        Format::Anthropic => anthropic::stream_fault(data),
        Format::Gemini => gemini::stream_fault(data),
    }
}

/// What a whole body tells of what it used.
pub fn told(format: Format, endpoint: Endpoint, body: &[u8]) -> Told {
    match format {
        Format::OpenAi | Format::DeepSeek if endpoint.format().is_some() => {
            openai::told(Endpoint::ChatCompletions, body)
        }
        Format::OpenAi | Format::DeepSeek => openai::told(endpoint, body),
        Format::Responses => openai::told(Endpoint::Responses, body),
        Format::Anthropic => Told::of(anthropic::usage_from_body(body)),
        Format::Gemini => Told::of(gemini::usage_from_body(body)),
    }
}

/// Reads an error answer. `now_unix_s` is needed for a `Retry-After` that is a date.
pub fn classify(
    format: Format,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now_unix_s: i64,
) -> UpstreamFault {
    let fault = openai::classify(status, headers, body, now_unix_s);
    match format {
        Format::OpenAi | Format::DeepSeek | Format::Responses => fault,
        Format::Anthropic => anthropic::of_kind(fault, body),
        Format::Gemini => gemini::of_kind(fault),
    }
}
