//! Counting tokens where an upstream does not say how many there were.
//!
//! What is counted here is never called the upstream's: its receipt says
//! `counted`. The count is OpenAI's own for OpenAI's models and an estimate
//! for all others, whose tokenizers are not public or not here.
//!
//! All functions are synchronous and take some 50 ms per MiB: a caller on a
//! runtime thread moves texts above [`BLOCKING_BYTES`] to a blocking thread.
//! The first count of a family loads its table (tens of milliseconds);
//! [`warm`] does that ahead of time.

use bpe_openai::Tokenizer;
use bytes::Bytes;
use ledger::{TokenClass, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::convert::conversation::{Part as Said, Role};
use super::convert::{self, LeftOut, Text};
use super::facts::Endpoint;
use super::provider::openai::Delivered;
use super::request::{DOCUMENTS_PER_SEARCH, TOKENS_PER_DOCUMENT};

/// Texts longer than this are not counted on a runtime thread, in bytes.
pub const BLOCKING_BYTES: usize = 64 * 1024;
/// Of a text, this much is counted; the rest in proportion, in bytes.
pub const COUNTED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What the chat format adds to each message and to the whole, in tokens
/// (OpenAI's published recipe for counting chat messages).
const MESSAGE_TOKENS: u64 = 3;
const NAME_TOKENS: u64 = 1;
const PRIMING_TOKENS: u64 = 3;
/// What an image counts as when nothing else is known: OpenAI's tile price of
/// a 1024 × 1024 picture in high detail.
const IMAGE_TOKENS: u64 = 765;

/// A family of models with one tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `cl100k_base`: GPT-4, GPT-3.5 and the embedding models of their time.
    Cl100k,
    /// `o200k_base`: GPT-4o and later; taken for all models unknown here.
    O200k,
}

impl Family {
    /// The family of a model, by the name that the upstream knows it by.
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let newer = ["gpt-4o", "gpt-4.1", "gpt-4.5"].iter().any(|start| name.starts_with(start));
        let older =
            ["gpt-4", "gpt-3.5", "gpt-35", "text-embedding-"].iter().any(|start| name.starts_with(start));
        if older && !newer { Self::Cl100k } else { Self::O200k }
    }

    fn tokenizer(self) -> &'static Tokenizer {
        match self {
            Self::Cl100k => bpe_openai::cl100k_base(),
            Self::O200k => bpe_openai::o200k_base(),
        }
    }
}

/// Loads a family's table.
pub fn warm(family: Family) {
    let _tokens = count_text(family, "warm");
}

/// Tokens of a text; beyond 4 MiB in proportion, rounded up.
pub fn count_text(family: Family, text: &str) -> u64 {
    let counted = text.get(..text.floor_char_boundary(COUNTED_BYTES_MAX)).unwrap_or(text);
    let tokens = family.tokenizer().count(counted) as u64;
    in_proportion(tokens, counted.len() as u64, (text.len() - counted.len()) as u64)
}

/// `tokens` of `bytes`, and as many again for `more` bytes.
fn in_proportion(tokens: u64, bytes: u64, more: u64) -> u64 {
    if more == 0 {
        return tokens;
    }
    tokens.saturating_add(tokens.saturating_mul(more).div_ceil(bytes.max(1)))
}

/// Tokens of an answer as far as it was delivered.
pub fn count_delivered(family: Family, delivered: &Delivered) -> Usage {
    let (mut said, mut thought) = (0u64, 0u64);
    for spoken in delivered.choices() {
        let called = count_text(family, &spoken.names);
        said = said.saturating_add(count_text(family, &spoken.text)).saturating_add(called);
        thought = thought.saturating_add(count_text(family, &spoken.reasoning));
    }
    let all = in_proportion(said + thought, delivered.kept_bytes() as u64, delivered.beyond_bytes());
    let mut usage = Usage::default();
    usage.set(TokenClass::Output, all - thought);
    usage.set(TokenClass::Reasoning, thought);
    usage
}

/// Input tokens of a request that was accepted: the text of its
/// messages, what the format adds to each, its tools as they are written, and
/// a stated number for each image. Sound and files count as nothing here.
/// Never more than `bound`, which is what was held for it.
pub fn count_input(endpoint: Endpoint, family: Family, body: &Bytes, images: u32, bound: u64) -> Usage {
    let mut text = String::new();
    let added = match endpoint {
        Endpoint::ChatCompletions => gather(body, &mut text).unwrap_or(0),
        Endpoint::Messages | Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            gather_conversation(endpoint, body, &mut text).unwrap_or(0)
        }
        Endpoint::Rerank => return rerank_tokens(family, body, bound),
        _ => gather_plain(body, &mut text).unwrap_or(0),
    };
    let tokens = count_text(family, &text).saturating_add(added).min(bound);
    let mut usage = Usage::default();
    usage.set(TokenClass::Input, tokens);
    usage.set(TokenClass::ImageIn, u64::from(images).saturating_mul(IMAGE_TOKENS));
    usage
}

/// The tokens of what [`count_input`] counts as text.
pub fn input_tokens(endpoint: Endpoint, family: Family, body: &Bytes) -> Vec<u32> {
    let mut text = String::new();
    let _added = match endpoint {
        Endpoint::ChatCompletions => gather(body, &mut text),
        Endpoint::Messages | Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            gather_conversation(endpoint, body, &mut text)
        }
        _ => gather_plain(body, &mut text),
    };
    family.tokenizer().encode(text.as_str())
}

/// The text of the first `keep` tokens; nothing where they end inside of a
/// character.
pub fn first_tokens(family: Family, text: &str, keep: usize) -> Option<String> {
    let tokenizer = family.tokenizer();
    let ids = tokenizer.encode(text);
    tokenizer.decode(ids.get(..keep).unwrap_or(&ids))
}

/// The same of a conversation in another format. What cannot be read as one counts by its JSON.
fn gather_conversation(endpoint: Endpoint, body: &[u8], text: &mut String) -> Option<u64> {
    let json = std::str::from_utf8(body).ok()?;
    let Ok(conversation) = convert::read(endpoint.format()?, json, &mut LeftOut::default()) else {
        text.push_str(json);
        return Some(0);
    };
    let mut said = |part: &str| {
        text.push_str(part);
        text.push('\n');
    };
    for system in &conversation.system {
        said(&system.unescaped());
    }
    for turn in &conversation.turns {
        said(if turn.role == Role::User { "user" } else { "assistant" });
        turn.parts.iter().for_each(|part| say_part(part, &mut said));
    }
    for tool in &conversation.tools {
        said(&tool.name.unescaped());
        said(&tool.description.as_ref().map(Text::unescaped).unwrap_or_default());
        said(tool.parameters.as_deref().unwrap_or_default());
    }
    Some(PRIMING_TOKENS + MESSAGE_TOKENS.saturating_mul(conversation.turns.len() as u64))
}

fn say_part(part: &Said<'_>, said: &mut impl FnMut(&str)) {
    match part {
        Said::Text(text) => said(&text.unescaped()),
        Said::ToolCall(call) => {
            said(&call.name.unescaped());
            said(&call.arguments);
        }
        Said::ToolResult(result) => result.content.iter().for_each(|part| {
            if let Said::Text(text) = part {
                said(&text.unescaped());
            }
        }),
        Said::Image(_) | Said::Sound { .. } | Said::Thinking { .. } | Said::Redacted(_) => {}
    }
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    functions: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
}

/// A request without messages: its texts, wherever they stand. Returns how many tokens were given as numbers.
fn gather_plain(body: &[u8], text: &mut String) -> Option<u64> {
    #[derive(Deserialize)]
    struct Plain<'a> {
        #[serde(borrow, default)]
        instructions: Option<&'a RawValue>,
        #[serde(borrow, default)]
        prompt: Option<&'a RawValue>,
        #[serde(borrow, default)]
        input: Option<&'a RawValue>,
        #[serde(borrow, default)]
        suffix: Option<&'a RawValue>,
        #[serde(borrow, default)]
        tools: Option<&'a RawValue>,
    }
    let plain: Plain<'_> = serde_json::from_slice(body).ok()?;
    push(plain.tools, text);
    let parts = [plain.instructions, plain.prompt, plain.input, plain.suffix];
    Some(parts.into_iter().flatten().map(|raw| gather_deep(raw, text, DEPTH_MAX)).sum())
}

/// Items lie in a list, their parts in a list in them.
const DEPTH_MAX: usize = 6;

fn gather_deep(raw: &RawValue, text: &mut String, depth: usize) -> u64 {
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow, default)]
        text: Option<&'a RawValue>,
        #[serde(borrow, default)]
        content: Option<&'a RawValue>,
        #[serde(borrow, default)]
        summary: Option<&'a RawValue>,
        #[serde(borrow, default)]
        name: Option<&'a RawValue>,
        #[serde(borrow, default)]
        arguments: Option<&'a RawValue>,
        #[serde(borrow, default)]
        output: Option<&'a RawValue>,
    }
    let Some(depth) = depth.checked_sub(1) else { return 0 };
    match raw.get().as_bytes().first() {
        Some(b'"') => {
            push(Some(raw), text);
            0
        }
        Some(b'0'..=b'9') => 1,
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
            elements.into_iter().map(|element| gather_deep(element, text, depth)).sum()
        }
        Some(b'{') => {
            let Ok(item) = serde_json::from_str::<Item<'_>>(raw.get()) else { return 0 };
            let parts = [item.text, item.content, item.summary, item.name, item.arguments, item.output];
            parts.into_iter().flatten().map(|part| gather_deep(part, text, depth)).sum()
        }
        _ => 0,
    }
}

#[derive(Deserialize)]
struct Rerank<'a> {
    #[serde(borrow)]
    query: &'a RawValue,
    #[serde(borrow)]
    documents: Vec<&'a RawValue>,
}

/// Tokens of the query, and of each document.
fn rerank_parts(family: Family, body: &[u8]) -> Option<(u64, Vec<u64>)> {
    let rerank: Rerank<'_> = serde_json::from_slice(body).ok()?;
    let count = |raw: &RawValue| {
        let mut text = String::new();
        gather_deep(raw, &mut text, DEPTH_MAX);
        count_text(family, text.trim_end())
    };
    Some((count(rerank.query), rerank.documents.into_iter().map(count).collect()))
}

/// The query is read again with each document.
fn rerank_tokens(family: Family, body: &[u8], bound: u64) -> Usage {
    let (query, documents) = rerank_parts(family, body).unwrap_or_default();
    let tokens = documents.iter().fold(0u64, |sum, document| sum.saturating_add(query + document));
    let mut usage = Usage::default();
    usage.set(TokenClass::Input, tokens.min(bound));
    usage
}

/// Searches of a rerank: a hundred documents are one, and a long document is several.
pub fn count_searches(family: Family, body: &Bytes) -> u64 {
    let (query, documents) = rerank_parts(family, body).unwrap_or_default();
    let pieces = documents.iter().map(|document| (query + document).div_ceil(TOKENS_PER_DOCUMENT).max(1));
    pieces.fold(0u64, u64::saturating_add).div_ceil(DOCUMENTS_PER_SEARCH)
}

/// Puts all text that counts into `text`; returns the tokens that the format
/// adds.
fn gather(body: &[u8], text: &mut String) -> Option<u64> {
    let request: Request<'_> = serde_json::from_slice(body).ok()?;
    let mut added = PRIMING_TOKENS;
    for message in &request.messages {
        added += MESSAGE_TOKENS + if message.name.is_some() { NAME_TOKENS } else { 0 };
        push(message.role, text);
        push(message.name, text);
        match message.content.filter(|content| content.get().starts_with('[')) {
            None => push(message.content, text),
            Some(list) => {
                for part in serde_json::from_str::<Vec<Part<'_>>>(list.get()).unwrap_or_default() {
                    push(part.text, text);
                    push(part.refusal, text);
                }
            }
        }
        push(message.tool_calls, text);
    }
    push(request.tools, text);
    push(request.functions, text);
    Some(added)
}

/// Appends a string's text or the JSON of anything else, on a line of its own
/// so that neighbours do not melt into one token.
fn push(raw: Option<&RawValue>, text: &mut String) {
    let Some(raw) = raw else { return };
    match serde_json::from_str::<std::borrow::Cow<'_, str>>(raw.get()) {
        Ok(plain) => text.push_str(&plain),
        Err(_) => text.push_str(raw.get()),
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_the_tokenizer_of_their_family() {
        for (model, family) in [
            ("gpt-4", Family::Cl100k),
            ("gpt-4-turbo", Family::Cl100k),
            ("gpt-3.5-turbo-0125", Family::Cl100k),
            ("openai/gpt-4", Family::Cl100k),
            ("gpt-4o-mini", Family::O200k),
            ("gpt-4.1", Family::O200k),
            ("gpt-5-mini", Family::O200k),
            ("deepseek-chat", Family::O200k),
            ("", Family::O200k),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
    }

    #[test]
    fn a_known_text_has_its_known_count() {
        // Counts of OpenAI's tiktoken for this sentence.
        let text = "The quick brown fox jumps over the lazy dog.";
        assert_eq!(count_text(Family::O200k, text), 10);
        assert_eq!(count_text(Family::Cl100k, text), 10);
        assert_eq!(count_text(Family::O200k, ""), 0);
    }

    #[test]
    fn what_is_too_long_is_counted_in_proportion() {
        assert_eq!(in_proportion(10, 40, 0), 10);
        assert_eq!(in_proportion(10, 40, 41), 21);
        let mut delivered = Delivered::default();
        delivered.push(br#"{"choices":[{"index":0,"delta":{"content":"one two three","reasoning":"hm"}}]}"#);
        delivered.push(br#"{"choices":[{"index":1,"delta":{"content":"one two"}}]}"#);
        let usage = count_delivered(Family::O200k, &delivered);
        assert_eq!((usage.get(TokenClass::Output), usage.get(TokenClass::Reasoning)), (5, 1));
        let long = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, " word".repeat(300_000));
        let mut delivered = Delivered::default();
        delivered.push(long.as_bytes());
        let tokens = count_delivered(Family::O200k, &delivered).get(TokenClass::Output);
        assert!((300_000..=300_002).contains(&tokens), "{tokens}");
    }

    #[test]
    fn input_counts_messages_tools_and_images_but_no_image_bytes() {
        let data = "A".repeat(5000);
        let body = Bytes::from(format!(
            r#"{{"model":"gpt-4o","messages":[{{"role":"system","content":"be kind"}},
            {{"role":"user","name":"ann","content":[{{"type":"text","text":"look"}},
            {{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
        ));
        let usage = count_input(Endpoint::ChatCompletions, Family::O200k, &body, 1, 10_000);
        let tokens = usage.get(TokenClass::Input);
        assert!((14..30).contains(&tokens), "{tokens}");
        assert_eq!(usage.get(TokenClass::ImageIn), 765);
        assert_eq!(
            count_input(Endpoint::ChatCompletions, Family::O200k, &body, 0, 5).get(TokenClass::Input),
            5
        );
        let broken = Bytes::from_static(b"{");
        assert_eq!(count_input(Endpoint::ChatCompletions, Family::O200k, &broken, 0, 5), Usage::default());
    }
}
