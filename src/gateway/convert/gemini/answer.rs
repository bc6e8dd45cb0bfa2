//! Whole answers; an event of a stream has the same shape.

use std::borrow::Cow;

use ledger::{TokenClass, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::conversation::{Image, Part, ToolCall, as_object};
use super::super::json::Json;
use super::super::proof::{Proof, Prover};
use super::super::reply::{Choice, Envelope, Finish, Reply, ReplyFault, unsaid};
use super::super::text::Text;
use super::write::function_call;
use crate::gateway::provider::gemini::UsageMetadata;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire<'a> {
    #[serde(borrow, default)]
    pub response_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub model_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub candidates: Vec<Candidate<'a>>,
    #[serde(borrow, default)]
    pub prompt_feedback: Option<Feedback<'a>>,
    #[serde(default, deserialize_with = "crate::gateway::provider::readable")]
    pub usage_metadata: Option<UsageMetadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(default)]
    pub index: u32,
    #[serde(borrow, default)]
    pub content: Content<'a>,
    #[serde(borrow, default)]
    pub finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
pub(super) struct Content<'a> {
    #[serde(borrow, default)]
    pub parts: Vec<WirePart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
    #[serde(borrow, default)]
    pub block_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WirePart<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(default)]
    pub thought: bool,
    #[serde(borrow, default)]
    pub thought_signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub function_call: Option<WireCall<'a>>,
    #[serde(borrow, default)]
    pub inline_data: Option<Blob<'a>>,
}

/// A picture, or other data.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    #[serde(borrow, default)]
    mime_type: Text<'a>,
    #[serde(borrow, default)]
    data: Text<'a>,
}

impl<'a> Blob<'a> {
    pub fn into_part(self) -> Part<'a> {
        // Some encoders write a slash as `\/`.
        let media_type = match self.mime_type.escaped().contains('\\') {
            true => Text::plain(&self.mime_type.unescaped()),
            false => self.mime_type,
        };
        match media_type.strip_prefix("image/") {
            Some(_) => Part::Image(Image::Inline { media_type, data: self.data }),
            None => Part::Text(unsaid(&media_type)),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireCall<'a> {
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub name: Text<'a>,
    #[serde(borrow, default)]
    pub args: Option<&'a RawValue>,
}

impl<'a> WireCall<'a> {
    /// Many calls have no id; the empty one is given a name later.
    pub fn into_call(self, signature: Option<Text<'a>>) -> ToolCall<'a> {
        let id = self.id.unwrap_or_default();
        let arguments = Cow::Borrowed(self.args.map_or("{}", RawValue::get));
        ToolCall { id, name: self.name, arguments, signature }
    }
}

/// Why an answer ended; one that the model could not make is none.
pub(super) fn finish(reason: &Text<'_>, calls: bool) -> Result<Finish<'static>, ReplyFault> {
    Ok(match reason.escaped() {
        "STOP" if calls => Finish::ToolCalls,
        "STOP" => Finish::Stop,
        "MAX_TOKENS" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "LANGUAGE"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Finish::Filtered,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MALFORMED_RESPONSE"
        | "MISSING_THOUGHT_SIGNATURE" => {
            return Err(ReplyFault::new(format!("the model failed to make it ({})", reason.escaped())));
        }
        _ => Finish::Other,
    })
}

pub(super) fn reason(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filtered => "SAFETY",
        Finish::Other => "OTHER",
    }
}

/// Reads an answer.
pub fn read_reply(body: &str) -> Result<Reply<'_>, ReplyFault> {
    let wire: Wire<'_> = serde_json::from_str(body)?;
    let choices: Result<Vec<Choice<'_>>, ReplyFault> = wire.candidates.into_iter().map(choice).collect();
    let mut choices = choices?;
    if choices.is_empty() {
        // A question that was blocked has no answer at all.
        let blocked = wire.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some());
        let finish = if blocked { Finish::Filtered } else { Finish::Other };
        choices.push(Choice { index: 0, parts: Vec::new(), finish });
    }
    let usage = wire.usage_metadata.and_then(|usage| usage.usage());
    Ok(Reply { id: wire.response_id, model: wire.model_version, choices, usage })
}

fn choice(candidate: Candidate<'_>) -> Result<Choice<'_>, ReplyFault> {
    let mut parts: Vec<Part<'_>> = Vec::with_capacity(candidate.content.parts.len());
    let mut calls = 0;
    for part in candidate.content.parts {
        if let Some(call) = part.function_call {
            parts.push(Part::ToolCall(call.into_call(part.thought_signature)));
            calls += 1;
        } else if let Some(blob) = part.inline_data {
            parts.push(blob.into_part());
        } else if let Some(text) = part.text.filter(|text| !text.is_empty()) {
            parts.push(match part.thought {
                true => {
                    let proof = part.thought_signature.map(|proof| Proof::read(Prover::Gemini, proof).0);
                    Part::Thinking { text, signature: proof }
                }
                false => Part::Text(text),
            });
        }
    }
    let finish = candidate.finish_reason.map_or(Ok(Finish::Other), |reason| finish(&reason, calls > 0))?;
    Ok(Choice { index: candidate.index, parts, finish })
}

/// Writes an answer.
pub fn write_reply(reply: &Reply<'_>, envelope: &Envelope) -> Result<Vec<u8>, ReplyFault> {
    let mut out = Vec::new();
    let mut json = Json::new(&mut out);
    json.open('{').member("candidates").open('[');
    for choice in &reply.choices {
        open_candidate(&mut json);
        for part in &choice.parts {
            write_part(&mut json, part)?;
        }
        close_candidate(&mut json, choice.index, Some(&choice.finish));
    }
    json.close(']');
    if let Some(usage) = &reply.usage {
        write_usage(json.member("usageMetadata"), usage);
    }
    tail(&mut json, reply.id.as_ref(), reply.model.as_ref(), envelope);
    json.close('}');
    Ok(out)
}

pub(super) fn open_candidate(json: &mut Json<'_>) {
    json.open('{').member("content").open('{').member("parts").open('[');
}

pub(super) fn close_candidate(json: &mut Json<'_>, index: u32, finish: Option<&Finish<'_>>) {
    json.close(']').member("role").plain("model").close('}');
    if let Some(finish) = finish {
        json.member("finishReason").plain(reason(finish));
    }
    json.member("index").whole(index.into()).close('}');
}

pub(super) fn tail(
    json: &mut Json<'_>,
    id: Option<&Text<'_>>,
    model: Option<&Text<'_>>,
    envelope: &Envelope,
) {
    match model {
        Some(model) => json.member("modelVersion").text(model),
        None => json.member("modelVersion").plain(&envelope.model),
    };
    match id {
        Some(id) => json.member("responseId").text(id),
        None => json.member("responseId").plain(&envelope.id),
    };
}

pub(super) fn write_part(json: &mut Json<'_>, part: &Part<'_>) -> Result<(), ReplyFault> {
    match part {
        Part::Text(text) => {
            json.open('{').member("text").text(text).close('}');
        }
        Part::Thinking { text, signature } => {
            json.open('{').member("text").text(text).member("thought").flag(true);
            if let Some(signature) = signature {
                json.member("thoughtSignature").text(&signature.written(Prover::Gemini, true));
            }
            json.close('}');
        }
        Part::ToolCall(call) => {
            let text = if call.arguments.trim().is_empty() { "{}" } else { &*call.arguments };
            let arguments =
                as_object(text).ok_or_else(|| ReplyFault::new("arguments that are no JSON object"))?;
            function_call(json, call, arguments, call.signature.as_ref());
        }
        // Nobody can read it but the provider that wrote it, and the format has no place for it.
        Part::Redacted(_) => {}
        Part::Image(Image::Inline { media_type, data }) => {
            json.open('{').member("inlineData").open('{').member("mimeType").text(media_type);
            json.member("data").text(data).close('}').close('}');
        }
        Part::Image(Image::Url(url)) => {
            json.open('{').member("fileData").open('{').member("fileUri").text(url).close('}').close('}');
        }
        Part::Sound { .. } | Part::ToolResult(_) => return Err(ReplyFault::new("a part that no answer has")),
    }
    Ok(())
}

pub(super) fn write_usage(json: &mut Json<'_>, usage: &Usage) {
    let of = |class| usage.get(class);
    let sum = |parts: &[u64]| parts.iter().fold(0u64, |sum, part| sum.saturating_add(*part));
    let (cached, thoughts) = (of(TokenClass::CacheRead), of(TokenClass::Reasoning));
    let fresh =
        [of(TokenClass::Input), of(TokenClass::CacheWrite), of(TokenClass::AudioIn), of(TokenClass::ImageIn)];
    let prompt = sum(&[sum(&fresh), cached]);
    let output = sum(&[of(TokenClass::Output), of(TokenClass::AudioOut)]);
    json.open('{').member("promptTokenCount").whole(prompt).member("candidatesTokenCount").whole(output);
    if cached > 0 {
        json.member("cachedContentTokenCount").whole(cached);
    }
    if thoughts > 0 {
        json.member("thoughtsTokenCount").whole(thoughts);
    }
    json.member("totalTokenCount").whole(sum(&[prompt, output, thoughts])).close('}');
}
