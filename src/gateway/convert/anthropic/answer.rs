//! Whole answers.

use std::borrow::Cow;

use ledger::{TokenClass, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::conversation::{Part, ToolCall, as_object};
use super::super::json::Json;
use super::super::proof::{Proof, Prover, id_with_proof};
use super::super::reply::{Choice, Envelope, Finish, Reply, ReplyFault, unsaid_image};
use super::super::text::Text;
use crate::gateway::provider::anthropic::UsageSoFar;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    content: Vec<Block<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_sequence: Option<Text<'a>>,
    #[serde(default, deserialize_with = "crate::gateway::provider::readable")]
    usage: UsageSoFar,
}

/// A block, or the beginning of one in a stream.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub data: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
}

pub(super) fn finish<'a>(reason: &Text<'_>, sequence: Option<Text<'a>>) -> Finish<'a> {
    match reason.escaped() {
        "end_turn" => Finish::Stop,
        "stop_sequence" => sequence.map_or(Finish::Stop, Finish::StopSequence),
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::Filtered,
        _ => Finish::Other,
    }
}

pub(super) fn write_finish(json: &mut Json<'_>, finish: &Finish<'_>) {
    json.member("stop_reason").plain(match finish {
        Finish::Stop | Finish::Other => "end_turn",
        Finish::StopSequence(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::Filtered => "refusal",
    });
    match finish {
        Finish::StopSequence(text) => json.member("stop_sequence").text(text),
        _ => json.member("stop_sequence").raw("null"),
    };
}

/// Reads an answer.
pub fn read_reply(body: &str) -> Result<Reply<'_>, ReplyFault> {
    let wire: Wire<'_> = serde_json::from_str(body)?;
    let mut parts = Vec::with_capacity(wire.content.len());
    for block in wire.content {
        parts.extend(part(block)?);
    }
    let finish = wire.stop_reason.map_or(Finish::Other, |reason| finish(&reason, wire.stop_sequence));
    let choices = vec![Choice { index: 0, parts, finish }];
    Ok(Reply { id: wire.id, model: wire.model, choices, usage: wire.usage.usage() })
}

/// What a block says; what the provider did by itself says nothing to others.
fn part(block: Block<'_>) -> Result<Option<Part<'_>>, ReplyFault> {
    Ok(match block.kind.escaped() {
        "text" => block.text.map(Part::Text),
        "thinking" => {
            let signature = block.signature.filter(|signature| !signature.is_empty());
            let signature = signature.map(|proof| Proof::read(Prover::Anthropic, proof).0);
            block.thinking.map(|text| Part::Thinking { text, signature })
        }
        "redacted_thinking" => block.data.map(|data| Part::Redacted(Proof::read(Prover::Anthropic, data).0)),
        "tool_use" => {
            let (Some(id), Some(name)) = (block.id, block.name) else {
                return Err(ReplyFault::new("a tool call without an id or a name"));
            };
            let arguments = Cow::Borrowed(block.input.map_or("{}", RawValue::get));
            Some(Part::ToolCall(ToolCall { id, name, arguments, signature: None }))
        }
        _ => None,
    })
}

/// Writes an answer. The format has one choice; more were not asked for.
pub fn write_reply(reply: &Reply<'_>, envelope: &Envelope) -> Result<Vec<u8>, ReplyFault> {
    let mut out = Vec::new();
    let mut json = Json::new(&mut out);
    json.open('{');
    head(&mut json, reply.id.as_ref(), reply.model.as_ref(), envelope);
    let choice = reply.choices.first().ok_or_else(|| ReplyFault::new("an answer without a choice"))?;
    json.member("content").open('[');
    for part in &choice.parts {
        block(&mut json, part)?;
    }
    json.close(']');
    write_finish(&mut json, &choice.finish);
    write_usage(json.member("usage"), &reply.usage.unwrap_or_default());
    json.close('}');
    Ok(out)
}

pub(super) fn head(
    json: &mut Json<'_>,
    id: Option<&Text<'_>>,
    model: Option<&Text<'_>>,
    envelope: &Envelope,
) {
    match id {
        Some(id) => json.member("id").text(id),
        None => json.member("id").plain(&envelope.id),
    };
    json.member("type").plain("message").member("role").plain("assistant");
    match model {
        Some(model) => json.member("model").text(model),
        None => json.member("model").plain(&envelope.model),
    };
}

fn block(json: &mut Json<'_>, part: &Part<'_>) -> Result<(), ReplyFault> {
    match part {
        Part::Text(text) => {
            json.open('{').member("type").plain("text").member("text").text(text).close('}');
        }
        Part::Thinking { text, signature } => {
            json.open('{').member("type").plain("thinking").member("thinking").text(text);
            // The clients' types want one, and ours takes an empty one for none.
            match signature {
                Some(signature) => json.member("signature").text(&signature.written(Prover::Anthropic, true)),
                None => json.member("signature").plain(""),
            };
            json.close('}');
        }
        Part::Redacted(data) => {
            json.open('{').member("type").plain("redacted_thinking").member("data");
            json.text(&data.written(Prover::Anthropic, false)).close('}');
        }
        Part::ToolCall(call) => {
            let text = if call.arguments.trim().is_empty() { "{}" } else { &*call.arguments };
            let input =
                as_object(text).ok_or_else(|| ReplyFault::new("arguments that are no JSON object"))?;
            json.open('{').member("type").plain("tool_use").member("id");
            json.text(&id_with_proof(&call.id, call.signature.as_ref()));
            json.member("name").text(&call.name).member("input").raw(input).close('}');
        }
        Part::Image(image) => {
            let said = unsaid_image(image);
            json.open('{').member("type").plain("text").member("text").text(&said).close('}');
        }
        Part::Sound { .. } | Part::ToolResult(_) => return Err(ReplyFault::new("a part that no answer has")),
    }
    Ok(())
}

pub(super) fn write_usage(json: &mut Json<'_>, usage: &Usage) {
    let of = |class| usage.get(class);
    let sum = |parts: &[u64]| parts.iter().fold(0u64, |sum, part| sum.saturating_add(*part));
    let input = sum(&[of(TokenClass::Input), of(TokenClass::AudioIn), of(TokenClass::ImageIn)]);
    let output = sum(&[of(TokenClass::Output), of(TokenClass::Reasoning), of(TokenClass::AudioOut)]);
    json.open('{').member("input_tokens").whole(input);
    json.member("cache_creation_input_tokens").whole(of(TokenClass::CacheWrite));
    json.member("cache_read_input_tokens").whole(of(TokenClass::CacheRead));
    json.member("output_tokens").whole(output).close('}');
}
