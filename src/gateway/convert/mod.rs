//! Conversation in one format, provider in another: requests, whole answers and streams, converted without I/O.
//!
//! One conversation is in the middle; each format has a reader and a writer of it (`read.rs`, `write.rs`), of whole
//! answers (`answer.rs`) and of streams (`stream.rs`).
//!
//! Promises: what changes the answer is converted or refused by its field's name. What does not – hints for caches,
//! the client's name for its user, thoughts that a provider does not take back – may be left out, and is named in
//! [`LeftOut`] so that the caller can be told. Each token counts in one class, whatever the format.
//!
//! Must never: panic on any bytes, or take a field that it does not know for one that says nothing.

pub mod anthropic;
mod calls;
pub mod conversation;
pub mod gemini;
mod json;
mod names;
mod object;
pub mod openai;
pub mod proof;
pub mod reply;
pub mod responses;
mod setting;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod thinking;

use bytes::Bytes;

pub use object::{ConvertFault, LeftOut, Path};
pub use reply::{Envelope, ReplyFault};
pub use stream::{Converted, StreamConverter};
pub use text::Text;

use conversation::Conversation;
use reply::Reply;

/// A wire format of chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenAi,
    /// OpenAI's, with thoughts and without pictures.
    DeepSeek,
    Anthropic,
    Gemini,
    /// OpenAI's responses.
    Responses,
}

/// What a request is written for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    pub format: Format,
    /// What the upstream calls the model.
    pub model: &'t str,
    pub stream: bool,
    /// The cap for a client that gave none, in tokens.
    pub output_cap: Option<u32>,
    /// The upstream knows the cap as `max_completion_tokens`; OpenAI's format alone.
    pub newer_cap_field: bool,
    /// Bytes that the body will have, about.
    pub size_hint: usize,
}

/// A body in another format.
#[derive(Debug)]
pub struct Rewritten {
    pub body: Bytes,
    pub left_out: LeftOut,
}

/// A request in the format of its target.
pub fn request(from: Format, body: &str, target: &Target<'_>) -> Result<Rewritten, ConvertFault> {
    let mut left_out = LeftOut::default();
    let mut conversation = read(from, body, &mut left_out)?;
    let body = write(&mut conversation, target, &mut left_out)?;
    Ok(Rewritten { body: body.into(), left_out })
}

/// The conversation of a body.
pub fn read<'a>(from: Format, body: &'a str, left: &mut LeftOut) -> Result<Conversation<'a>, ConvertFault> {
    match from {
        Format::OpenAi | Format::DeepSeek => openai::read(body, left),
        Format::Anthropic => anthropic::read(body, left),
        Format::Gemini => gemini::read(body, left),
        Format::Responses => responses::read(body, left),
    }
}

/// Whether the client wants one call of a tool at a time of a provider that cannot be told so: then it gets the first.
pub fn wants_one_call(conversation: &Conversation<'_>, to: Format) -> bool {
    to == Format::Gemini && conversation.parallel_tools == Some(false) && !conversation.tools.is_empty()
}

/// The body of a conversation. Instructions in its midst go before everything else for a provider that takes them there
/// alone, as Anthropic's own server of OpenAI's format has it; their place is named.
pub fn write(
    conversation: &mut Conversation<'_>,
    target: &Target<'_>,
    left: &mut LeftOut,
) -> Result<Vec<u8>, ConvertFault> {
    if matches!(target.format, Format::Anthropic | Format::Gemini) && conversation.instruct_first() {
        left.add("instructions.place");
    }
    if target.format != Format::Gemini {
        conversation.show_answers_pictures();
    }
    // Others find what they can keep by themselves.
    if target.format != Format::Anthropic && conversation.marks() != [0; 3] {
        left.add("cache_control");
    }
    match target.format {
        Format::OpenAi | Format::DeepSeek => openai::write(conversation, target, left),
        Format::Anthropic => anthropic::write(conversation, target, left),
        Format::Gemini => gemini::write(conversation, target, left),
        Format::Responses => responses::write(conversation, target, left),
    }
}

/// A whole answer in another format.
pub fn answer(from: Format, to: Format, body: &[u8], envelope: &Envelope) -> Result<Bytes, ReplyFault> {
    let body = std::str::from_utf8(body).map_err(|_| ReplyFault::new("it is not UTF-8"))?;
    let mut reply = read_reply(from, body)?;
    calls::name_calls(&mut reply, &envelope.id);
    if envelope.one_call {
        calls::keep_one(&mut reply);
    }
    reply.usage = envelope.counted.or(reply.usage);
    write_reply(to, &reply, envelope).map(Bytes::from)
}

/// Reads a whole answer.
pub fn read_reply(from: Format, body: &str) -> Result<Reply<'_>, ReplyFault> {
    if !body.trim_ascii_start().starts_with('{') {
        return Err(ReplyFault::new("it is no object"));
    }
    match from {
        Format::OpenAi | Format::DeepSeek => openai::read_reply(body),
        Format::Anthropic => anthropic::read_reply(body),
        Format::Gemini => gemini::read_reply(body),
        Format::Responses => responses::read_reply(body),
    }
}

/// Writes a whole answer.
pub fn write_reply(to: Format, reply: &Reply<'_>, envelope: &Envelope) -> Result<Vec<u8>, ReplyFault> {
    match to {
        Format::OpenAi | Format::DeepSeek => Ok(openai::write_reply(reply, envelope)),
        Format::Anthropic => anthropic::write_reply(reply, envelope),
        Format::Gemini => gemini::write_reply(reply, envelope),
        Format::Responses => responses::write_reply(reply, envelope),
    }
}
