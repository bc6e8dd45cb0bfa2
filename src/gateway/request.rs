//! A model request: what a decision needs to know of it, and the few edits
//! that the gateway makes to it. Each family of endpoints is read by a file of
//! its own.
//!
//! Promises: one pass over the body, no JSON tree, and for a chat at most one
//! small allocation (the model's name). Every byte that is not edited reaches
//! the upstream as it came, unknown fields included. A fault names the field or
//! the place in the text.
//!
//! Must never: panic on any bytes, nest deeper than its input allows without
//! bound (unknown values are skipped iteratively), understate how many tokens
//! or units a body can be worth, or keep what is in a file.

mod anthropic;
mod audio;
mod chat;
mod completions;
mod count;
mod embeddings;
mod form;
mod gemini;
mod images;
mod json;
mod messages;
mod rerank;
mod responses;
mod rewrite;
mod sample;
mod task;
#[cfg(test)]
mod tests;
mod videos;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::experiments::Experiments;
use super::facts::{AskedUnits, Endpoint, Output};

pub use form::each_part;
pub use rerank::{DOCUMENTS_PER_SEARCH, TOKENS_PER_DOCUMENT};
pub use rewrite::Edits;
pub use sample::Sample;
pub use task::TaskWish;
pub use videos::sha256;

/// Longest model name that is looked up, in characters.
pub const MODEL_CHARS_MAX: usize = 256;
/// Most answers asked for in one call (OpenAI's own limit for `n`).
pub const CHOICES_MAX: u32 = 128;
/// Largest output cap that is understood; more is refused as a mistake.
pub const OUTPUT_CAP_MAX: u32 = i32::MAX as u32;

/// What chat templates may add around the text of any request, in tokens.
const TEMPLATE_TOKENS: u64 = 64;
/// What chat templates may add to explain tools to the model, in tokens.
const TOOL_TEMPLATE_TOKENS: u64 = 1024;

/// Where a value lies in the body, in bytes.
pub type Span = Range<usize>;

/// A request as far as a decision needs it. Spans belong to the body
/// that was parsed; `rewrite` checks them again, so that another body cannot
/// make it panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRequest {
    pub endpoint: Endpoint,
    /// The model asked for, unescaped, 1 to 256 characters.
    pub model: Box<str>,
    /// The answer is asked for as a stream of events.
    pub stream: bool,
    /// The client itself asked for the usage event of a stream.
    pub include_usage_asked: bool,
    /// The client's own cap on output tokens per choice and the field that it
    /// used; when there are several, the largest.
    pub output_cap: Option<(CapField, u32)>,
    /// The cap that the format has where the client sets none.
    pub default_cap: Option<u32>,
    /// How many answers (`n`), at least 1.
    pub choices: u32,
    /// Upper bound of the text tokens that the upstream can bill as input:
    /// the body's bytes less inline images, plus what templates add. A
    /// byte-level tokenizer never makes a token of less than one byte, and the
    /// template's own tokens are fewer than the JSON around each message.
    pub input_tokens_bound: u64,
    /// Parts of messages that are not text; each kind needs a stated maximum
    /// or must be refused.
    pub parts: Parts,
    /// Wishes that change what the upstream charges beyond tokens in and out.
    pub extras: Extras,
    /// A field that asks for what nothing here can bound, and why.
    pub unbounded: Option<(Box<str>, &'static str)>,
    /// What is asked for beside tokens.
    pub units: Option<Box<AskedUnits>>,
    /// Bytes of the recording that is sent.
    pub recording_bytes: u64,
    /// The media type of a form, with its boundary; `None`: JSON.
    pub form: Option<Box<str>>,
    /// What is asked for in a header.
    pub experiments: Option<Box<Experiments>>,
    spans: Spans,
}

/// The names of the output cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapField {
    /// The older name, also the one that most compatible servers know.
    MaxTokens,
    /// OpenAI's newer name; reasoning models know no other.
    MaxCompletionTokens,
    /// Its name in the responses format.
    MaxOutputTokens,
    /// Gemini's, among its settings.
    OfGemini,
}

impl CapField {
    /// The name as it stands in the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::OfGemini => "maxOutputTokens",
        }
    }
}

/// Content parts that are not text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// `image_url` parts, inline or by address.
    pub images: u32,
    /// `input_audio` parts and references to earlier spoken answers.
    pub audio: u32,
    /// Base64 bytes of the audio parts: an upper bound of their audio tokens,
    /// as no codec in use packs a token's time (0.1 s) into a byte.
    pub audio_bytes: u64,
    /// `file` parts. What a compressed file unfolds to has no bound of its own.
    pub files: u32,
    /// Parts of any other type, which nothing here can bound.
    pub others: u32,
    /// Bytes of inline images (data URLs), not part of the text bound.
    pub image_bytes: u64,
    /// Where the first of the parts lies that nothing bounds.
    pub unbounded_at: Option<PartPlace>,
}

/// Where a part lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartPlace {
    pub list: PartList,
    /// Its message, content or item.
    pub item: u32,
    pub part: u32,
}

/// The lists that have parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartList {
    Messages,
    Contents,
    SystemInstruction,
    /// Items of a response's input that are parts themselves.
    Input,
    InputContent,
    InputOutput,
}

impl PartPlace {
    fn new(list: PartList, item: usize, part: usize) -> Self {
        let short = |at| u32::try_from(at).unwrap_or(u32::MAX);
        PartPlace { list, item: short(item), part: short(part) }
    }
}

impl fmt::Display for PartPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PartPlace { list, item, part } = self;
        match list {
            PartList::Messages => write!(out, "messages[{item}].content[{part}]"),
            PartList::Contents => write!(out, "contents[{item}].parts[{part}]"),
            PartList::SystemInstruction => write!(out, "systemInstruction.parts[{part}]"),
            PartList::Input => write!(out, "input[{item}]"),
            PartList::InputContent => write!(out, "input[{item}].content[{part}]"),
            PartList::InputOutput => write!(out, "input[{item}].output[{part}]"),
        }
    }
}

impl Parts {
    /// Notes where the part is that was just counted, if it is the first that nothing bounds.
    fn note_place(&mut self, place: impl FnOnce() -> PartPlace) {
        if self.unbounded_at.is_none() && (self.files > 0 || self.others > 0) {
            self.unbounded_at = Some(place());
        }
    }
}

/// Fields that buy something beside tokens, or tokens beyond the cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// `service_tier` other than `auto` or `default`: other prices upstream.
    pub service_tier: bool,
    /// `web_search_options`: billed per search.
    pub web_search: bool,
    /// `prediction`: rejected predicted tokens are billed as output.
    pub prediction: bool,
    /// `audio`: spoken output, with a price of its own.
    pub audio_output: bool,
}

/// Places of the values that may be rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spans {
    /// Length of the body these spans belong to.
    body_len: usize,
    /// First byte behind the opening brace.
    open: usize,
    model: Span,
    /// The client named no model, so that the format's own must be written in.
    model_unsaid: bool,
    max_tokens: Option<CapSpan>,
    max_completion_tokens: Option<CapSpan>,
    max_output_tokens: Option<CapSpan>,
    stream_options: OptionsSpan,
    /// Gemini's settings.
    config: OptionsSpan,
    /// Of a response that does not say whether it is to be kept: an empty place, or that of a `null`.
    store_unsaid: Option<Span>,
    /// What else a response is to tell: a list, where it is an object.
    include: OptionsSpan,
    /// A response says how its model is to think.
    says_reasoning: bool,
}

/// A cap field that is there; `null` has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CapSpan {
    at: Span,
    value: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum OptionsSpan {
    #[default]
    Absent,
    Null(Span),
    /// An object without `include_usage`: where its members begin, and whether
    /// there are any.
    Object {
        open: usize,
        empty: bool,
    },
    /// The value of `include_usage`.
    Value(Span),
}

impl ModelRequest {
    /// Reads a body as the endpoint has it; `media_type` is what it was declared as. Nothing is guessed: a field that
    /// matters and has a wrong type, stands twice or lies out of its range is a fault.
    pub fn read(endpoint: Endpoint, media_type: Option<&str>, body: &Bytes) -> Result<Self, RequestFault> {
        match endpoint {
            Endpoint::ImageEdits => images::edit(media_type.unwrap_or_default(), body),
            Endpoint::Transcriptions => audio::transcription(media_type.unwrap_or_default(), body),
            Endpoint::Videos => videos::read(media_type, body),
            Endpoint::Images => images::task(media_type, body),
            _ => Self::of_text(endpoint, utf8(body)?),
        }
    }

    /// Reads a body whose model stands in the address.
    pub fn read_named(endpoint: Endpoint, model: &str, body: &Bytes) -> Result<Self, RequestFault> {
        match endpoint {
            Endpoint::CountContents => count::contents(model, utf8(body)?),
            _ => gemini::read(endpoint, model, utf8(body)?),
        }
    }

    /// A fault of the address itself.
    pub fn fault(field: &str, what: &'static str, got: &str) -> RequestFault {
        RequestFault::parameter(field, what, got)
    }

    fn of_text(endpoint: Endpoint, text: &str) -> Result<Self, RequestFault> {
        match endpoint {
            Endpoint::ChatCompletions => Self::chat(text),
            Endpoint::Messages => anthropic::read(text),
            Endpoint::CountMessages => count::messages(text),
            Endpoint::Completions => completions::read(text),
            Endpoint::Responses => responses::read(text),
            Endpoint::Embeddings | Endpoint::Moderations => embeddings::read(endpoint, text),
            Endpoint::ImageGenerations => images::generation(text),
            Endpoint::Speech => audio::speech(text),
            Endpoint::Rerank => rerank::read(text),
            // No call is taken at any other.
            _ => Err(RequestFault::parameter("body", "nothing at this endpoint", "a body")),
        }
    }

    fn chat(text: &str) -> Result<Self, RequestFault> {
        let found = chat::read(text)?;
        let templates = TEMPLATE_TOKENS + if found.tools { TOOL_TEMPLATE_TOKENS } else { 0 };
        let inline = found.messages.image_bytes;
        Ok(Self {
            endpoint: Endpoint::ChatCompletions,
            model: found.model,
            stream: found.stream,
            include_usage_asked: found.include_usage,
            output_cap: found.output_cap,
            default_cap: None,
            choices: found.choices,
            input_tokens_bound: (text.len() as u64).saturating_sub(inline).saturating_add(templates),
            parts: found.messages,
            extras: found.extras,
            unbounded: None,
            units: None,
            recording_bytes: 0,
            form: None,
            experiments: None,
            spans: found.spans,
        })
    }

    /// A request that asks for one answer of text to what is in its JSON body; the family's file adds the rest.
    fn plain(endpoint: Endpoint, model: Box<str>, spans: Spans) -> Self {
        Self {
            endpoint,
            model,
            stream: false,
            include_usage_asked: false,
            output_cap: None,
            default_cap: None,
            choices: 1,
            input_tokens_bound: (spans.body_len as u64).saturating_add(TEMPLATE_TOKENS),
            parts: Parts::default(),
            extras: Extras::default(),
            unbounded: None,
            units: None,
            recording_bytes: 0,
            form: None,
            experiments: None,
            spans,
        }
    }

    /// The cap that holds without the gateway's: the client's, else the format's.
    pub fn own_cap(&self) -> Option<u32> {
        self.output_cap.map(|(_, cap)| cap).or(self.default_cap)
    }

    /// The field that a cap goes upstream in, where chats take theirs in `chat`; `None`: the format has no cap.
    pub fn cap_field(&self, chat: CapField) -> Option<CapField> {
        match self.endpoint {
            Endpoint::ChatCompletions => Some(chat),
            Endpoint::Responses => Some(CapField::MaxOutputTokens),
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => Some(CapField::OfGemini),
            other => (other.output() == Output::Capped).then_some(CapField::MaxTokens),
        }
    }

    /// The body with the edits made; the same bytes without a copy when there
    /// is nothing to edit.
    pub fn rewrite(&self, body: &Bytes, edits: &Edits<'_>) -> Bytes {
        rewrite::rewrite(self, body, edits)
    }
}

fn utf8(body: &[u8]) -> Result<&str, RequestFault> {
    std::str::from_utf8(body).map_err(|error| RequestFault::InvalidUtf8 { offset: error.valid_up_to() })
}

/// 128 bits of the SHA-256 of a body: equal bodies have equal fingerprints,
/// and nobody can make two that collide by chance or by will.
pub fn fingerprint(body: &[u8]) -> u128 {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    digest.as_ref().iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

/// Why a body is no request of its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// The body is not UTF-8 from this byte on.
    InvalidUtf8 { offset: usize },
    /// The body is not JSON, or not an object.
    InvalidJson {
        /// Byte offset of the fault.
        offset: usize,
        /// Line, from 1.
        line: usize,
        /// Byte in the line, from 1.
        column: usize,
        /// What is wrong there, without the client's text.
        what: Box<str>,
    },
    /// A field is missing, of the wrong type, twice there or out of range.
    InvalidParameter {
        /// Path of the field, as `messages[2].content`.
        field: Box<str>,
        /// What is expected.
        what: &'static str,
        /// What was there: a kind (`a string`) or a short number.
        got: Box<str>,
    },
}

impl RequestFault {
    fn parameter(field: impl Into<Box<str>>, what: &'static str, got: impl Into<Box<str>>) -> Self {
        Self::InvalidParameter { field: field.into(), what, got: got.into() }
    }
}

impl fmt::Display for RequestFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUtf8 { offset } => write!(out, "the body is not UTF-8 at byte {offset}"),
            Self::InvalidJson { line, column, what, .. } => {
                write!(out, "the body is not JSON at line {line}, column {column}: {what}")
            }
            Self::InvalidParameter { field, what, got } => {
                write!(out, "`{field}`: expected {what}, got {got}")
            }
        }
    }
}

impl std::error::Error for RequestFault {}
