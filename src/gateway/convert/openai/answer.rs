//! Whole answers.

use std::borrow::Cow;

use ledger::{TokenClass, Usage};
use serde::Deserialize;

use super::super::conversation::{Image, Part, ToolCall};
use super::super::json::Json;
use super::super::object::Path;
use super::super::proof::Proof;
use super::super::reply::{Choice, Envelope, Finish, Reply, ReplyFault};
use super::super::text::Text;
use super::read::image_of;
use super::write::{as_thought, image_part, tool_call};
use crate::gateway::provider::openai::usage_from_body;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    choices: Vec<WireChoice<'a>>,
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow)]
    message: Message<'a>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

/// A message, or what a stream adds to it.
#[derive(Deserialize, Default)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub content: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub reasoning_content: Option<Text<'a>>,
    /// What some servers call it.
    #[serde(borrow, default)]
    pub reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub tool_calls: Option<Vec<WireCall<'a>>>,
    /// Not OpenAI's; the place that other servers have for them.
    #[serde(borrow, default)]
    pub images: Option<Vec<WireImage<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct WireImage<'a> {
    #[serde(borrow)]
    image_url: Address<'a>,
}

#[derive(Deserialize)]
struct Address<'a> {
    #[serde(borrow)]
    url: Text<'a>,
}

impl<'a> WireImage<'a> {
    pub fn into_image(self) -> Result<Image<'a>, ReplyFault> {
        image_of(self.image_url.url, &Path::TOP).map_err(|_| ReplyFault::new("a picture that is none"))
    }
}

#[derive(Deserialize)]
pub(super) struct WireCall<'a> {
    #[serde(default)]
    pub index: Option<u32>,
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub function: Function<'a>,
}

#[derive(Deserialize, Default)]
pub(super) struct Function<'a> {
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub arguments: Option<Text<'a>>,
}

pub(super) fn finish(reason: &Text<'_>) -> Finish<'static> {
    match reason.escaped() {
        "stop" => Finish::Stop,
        // DeepSeek's word for an answer that it had no room to end.
        "length" | "insufficient_system_resource" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolCalls,
        "content_filter" => Finish::Filtered,
        _ => Finish::Other,
    }
}

pub(super) fn reason(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Other => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::Filtered => "content_filter",
    }
}

/// Reads an answer.
pub fn read_reply(body: &str) -> Result<Reply<'_>, ReplyFault> {
    let wire: Wire<'_> = serde_json::from_str(body)?;
    let usage = usage_from_body(body.as_bytes());
    let choices = wire.choices.into_iter().map(choice).collect::<Result<_, _>>()?;
    Ok(Reply { id: wire.id, model: wire.model, choices, usage })
}

fn choice(wire: WireChoice<'_>) -> Result<Choice<'_>, ReplyFault> {
    let (message, mut parts) = (wire.message, Vec::new());
    if let Some(text) = message.reasoning_content.or(message.reasoning).filter(|text| !text.is_empty()) {
        parts.push(Part::Thinking { text, signature: None });
    }
    let said = [message.content, message.refusal];
    parts.extend(said.into_iter().flatten().filter(|text| !text.is_empty()).map(Part::Text));
    for image in message.images.into_iter().flatten() {
        parts.push(Part::Image(image.into_image()?));
    }
    for call in message.tool_calls.unwrap_or_default() {
        let name = call.function.name.ok_or_else(|| ReplyFault::new("a tool call without a name"))?;
        let id = call.id.unwrap_or_default();
        let arguments = call.function.arguments.unwrap_or_default();
        let arguments = whole_arguments(&arguments);
        parts.push(Part::ToolCall(ToolCall { id, name, arguments, signature: None }));
    }
    let finish = wire.finish_reason.as_ref().map_or(Finish::Stop, finish);
    Ok(Choice { index: wire.index, parts, finish })
}

/// The JSON of a call's arguments; of a call without any, an object without any.
pub(in crate::gateway::convert) fn whole_arguments<'a>(text: &Text<'_>) -> Cow<'a, str> {
    match text.unescaped() {
        text if text.trim().is_empty() => Cow::Borrowed("{}"),
        text => Cow::Owned(text.into_owned()),
    }
}

/// Writes an answer.
pub fn write_reply(reply: &Reply<'_>, envelope: &Envelope) -> Vec<u8> {
    let mut out = Vec::new();
    let mut json = Json::new(&mut out);
    json.open('{');
    head(&mut json, reply.id.as_ref(), reply.model.as_ref(), envelope, "chat.completion");
    json.member("choices").open('[');
    for choice in &reply.choices {
        json.open('{').member("index").whole(choice.index.into());
        message(json.member("message"), &choice.parts);
        json.member("logprobs").raw("null");
        json.member("finish_reason").plain(reason(&choice.finish)).close('}');
    }
    json.close(']');
    if let Some(usage) = &reply.usage {
        write_usage(json.member("usage"), usage);
    }
    json.close('}');
    out
}

pub(super) fn head(
    json: &mut Json<'_>,
    id: Option<&Text<'_>>,
    model: Option<&Text<'_>>,
    envelope: &Envelope,
    object: &'static str,
) {
    match id {
        Some(id) => json.member("id").text(id),
        None => json.member("id").plain(&envelope.id),
    };
    json.member("object").plain(object).member("created").whole(envelope.created_s.unsigned_abs());
    match model {
        Some(model) => json.member("model").text(model),
        None => json.member("model").plain(&envelope.model),
    };
}

fn message(json: &mut Json<'_>, parts: &[Part<'_>]) {
    json.open('{').member("role").plain("assistant");
    let said = || parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
    match said().next() {
        Some(_) => json.member("content").texts(said()),
        None => json.member("content").raw("null"),
    };
    json.member("refusal").raw("null");
    let thoughts = || parts.iter().filter_map(as_thought);
    if thoughts().next().is_some() {
        json.member("reasoning_content").texts(thoughts());
    }
    details(json, parts);
    let images =
        || parts.iter().filter_map(|part| if let Part::Image(image) = part { Some(image) } else { None });
    if images().next().is_some() {
        json.member("images").open('[');
        images().for_each(|image| image_part(json, image));
        json.close(']');
    }
    if parts.iter().any(|part| matches!(part, Part::ToolCall(_))) {
        json.member("tool_calls").open('[');
        for part in parts {
            if let Part::ToolCall(call) = part {
                tool_call(json, None, call, &Text::plain(&call.arguments), call.signature.as_ref());
            }
        }
        json.close(']');
    }
    json.close('}');
}

/// What a client must send back for the provider to believe its own thoughts.
fn details(json: &mut Json<'_>, parts: &[Part<'_>]) {
    let proven =
        |part: &Part<'_>| matches!(part, Part::Thinking { signature: Some(_), .. } | Part::Redacted(_));
    if !parts.iter().any(proven) {
        return;
    }
    json.member("reasoning_details").open('[');
    let mut index = 0;
    for part in parts {
        match part {
            Part::Thinking { text, signature } => thought(json, Some(text), signature.as_ref(), index),
            Part::Redacted(data) => encrypted(json, data, index),
            _ => continue,
        }
        index += 1;
    }
    json.close(']');
}

/// A detail that is a thought and its proof.
pub(super) fn thought(json: &mut Json<'_>, text: Option<&Text<'_>>, proof: Option<&Proof<'_>>, index: u64) {
    json.open('{').member("type").plain("reasoning.text");
    if let Some(text) = text {
        json.member("text").text(text);
    }
    if let Some(proof) = proof {
        json.member("signature").text(&proof.text).member("format").plain(proof.of.detail_format());
    }
    json.member("index").whole(index).close('}');
}

/// A detail that its provider alone can read.
pub(super) fn encrypted(json: &mut Json<'_>, data: &Proof<'_>, index: u64) {
    json.open('{').member("type").plain("reasoning.encrypted").member("data").text(&data.text);
    json.member("format").plain(data.of.detail_format()).member("index").whole(index).close('}');
}

pub(super) fn write_usage(json: &mut Json<'_>, usage: &Usage) {
    let of = |class| usage.get(class);
    let (cached, written) = (of(TokenClass::CacheRead), of(TokenClass::CacheWrite));
    let (audio_in, audio_out) = (of(TokenClass::AudioIn), of(TokenClass::AudioOut));
    let reasoning = of(TokenClass::Reasoning);
    let sum = |parts: &[u64]| parts.iter().fold(0u64, |sum, part| sum.saturating_add(*part));
    let prompt = sum(&[of(TokenClass::Input), cached, written, audio_in, of(TokenClass::ImageIn)]);
    let completion = sum(&[of(TokenClass::Output), reasoning, audio_out]);
    json.open('{').member("prompt_tokens").whole(prompt).member("completion_tokens").whole(completion);
    json.member("total_tokens").whole(prompt.saturating_add(completion));
    json.member("prompt_tokens_details").open('{').member("cached_tokens").whole(cached);
    json.member("audio_tokens").whole(audio_in).close('}');
    json.member("completion_tokens_details").open('{').member("reasoning_tokens").whole(reasoning);
    json.member("audio_tokens").whole(audio_out).close('}').close('}');
}
