//! The chat request: what a decision needs to know of it, and the few edits
//! that the gateway makes to it.
//!
//! Promises: one pass over the body, no JSON tree, at most one small
//! allocation (the model's name). Every byte that is not edited reaches the
//! upstream as it came, unknown fields included. A fault names the field or
//! the place in the text.
//!
//! Must never: panic on any bytes, nest deeper than its input allows without
//! bound (unknown values are skipped iteratively), or understate how many
//! tokens a body can be worth.

mod fields;
mod messages;
mod rewrite;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

pub use rewrite::Edits;

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

/// A chat request as far as a decision needs it. Spans belong to the body
/// that was parsed; `rewrite` checks them again, so that another body cannot
/// make it panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// The model asked for, unescaped, 1 to 256 characters.
    pub model: Box<str>,
    /// The answer is asked for as a stream of events.
    pub stream: bool,
    /// The client itself asked for the usage event of a stream.
    pub include_usage_asked: bool,
    /// The client's own cap on output tokens per choice and the field that it
    /// used; when both fields are there, the larger.
    pub output_cap: Option<(CapField, u32)>,
    /// How many answers (`n`), 1 to 128.
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
    spans: Spans,
}

/// The two names of the output cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapField {
    /// The older name, also the one that most compatible servers know.
    MaxTokens,
    /// OpenAI's newer name; reasoning models know no other.
    MaxCompletionTokens,
}

impl CapField {
    /// The name as it stands in the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
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
    max_tokens: Option<CapSpan>,
    max_completion_tokens: Option<CapSpan>,
    stream_options: OptionsSpan,
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

impl ChatRequest {
    /// Reads a body. Nothing is guessed: a field that matters and has a wrong
    /// type, stands twice or lies out of its range is a fault.
    pub fn parse(body: &Bytes) -> Result<Self, RequestFault> {
        let text = std::str::from_utf8(body)
            .map_err(|error| RequestFault::InvalidUtf8 { offset: error.valid_up_to() })?;
        let found = fields::read(text)?;
        let inline = found.messages.image_bytes;
        let templates = TEMPLATE_TOKENS + if found.tools { TOOL_TEMPLATE_TOKENS } else { 0 };
        Ok(Self {
            model: found.model,
            stream: found.stream,
            include_usage_asked: found.include_usage,
            output_cap: found.output_cap,
            choices: found.choices,
            input_tokens_bound: (body.len() as u64).saturating_sub(inline).saturating_add(templates),
            parts: found.messages,
            extras: found.extras,
            spans: found.spans,
        })
    }

    /// The body with the edits made; the same bytes without a copy when there
    /// is nothing to edit.
    pub fn rewrite(&self, body: &Bytes, edits: &Edits<'_>) -> Bytes {
        rewrite::rewrite(self, body, edits)
    }
}

/// 128 bits of the SHA-256 of a body: equal bodies have equal fingerprints,
/// and nobody can make two that collide by chance or by will.
pub fn fingerprint(body: &[u8]) -> u128 {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    digest.as_ref().iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

/// Why a body is no chat request.
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
