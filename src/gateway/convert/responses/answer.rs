//! Whole answers.

use ledger::{TokenClass, Usage};
use serde::Deserialize;

use super::super::conversation::{Part, ToolCall};
use super::super::json::Json;
use super::super::openai::whole_arguments;
use super::super::proof::{Proof, Prover};
use super::super::reply::{Choice, Envelope, Finish, Reply, ReplyFault, unsaid_image};
use super::super::text::Text;
use crate::gateway::provider::openai::usage_from_body;

/// A response, or as far as it is in a stream.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub model: Option<Text<'a>>,
    #[serde(borrow, default)]
    output: Vec<Item<'a>>,
    #[serde(borrow, default)]
    incomplete_details: Option<Details<'a>>,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    reason: Text<'a>,
}

/// What it is made of.
#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    #[serde(borrow, default)]
    content: Option<Vec<Content<'a>>>,
    #[serde(borrow, default)]
    summary: Vec<Content<'a>>,
    #[serde(borrow, default)]
    pub encrypted_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub call_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub arguments: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Text<'a>>,
}

/// Reads an answer.
pub fn read_reply(body: &str) -> Result<Reply<'_>, ReplyFault> {
    let mut wire: Wire<'_> = serde_json::from_str(body)?;
    let (id, model) = (wire.id.take(), wire.model.take());
    let mut parts = Vec::new();
    let calls = wire.calls_tools();
    let finish = wire.finish(calls);
    for item in wire.output {
        item.parts(&mut parts)?;
    }
    let choices = vec![Choice { index: 0, parts, finish }];
    Ok(Reply { id, model, choices, usage: usage_from_body(body.as_bytes()) })
}

impl Wire<'_> {
    fn calls_tools(&self) -> bool {
        self.output.iter().any(|item| item.kind.is("function_call"))
    }

    /// Why it ended; `calls`: it calls a tool.
    pub fn finish(&self, calls: bool) -> Finish<'static> {
        match self.incomplete_details.as_ref().map(|details| details.reason.escaped()) {
            Some("max_output_tokens") => Finish::Length,
            Some("content_filter") => Finish::Filtered,
            Some(_) => Finish::Other,
            None if calls => Finish::ToolCalls,
            None => Finish::Stop,
        }
    }
}

impl<'a> Item<'a> {
    /// Of a thought, that nothing of it is told.
    pub fn tells_nothing(&self) -> bool {
        let said = self.summary.iter().chain(self.content.iter().flatten());
        said.filter_map(|content| content.text.as_ref()).all(Text::is_empty)
    }

    /// What an item says; what the provider did by itself says nothing to others.
    fn parts(self, parts: &mut Vec<Part<'a>>) -> Result<(), ReplyFault> {
        match self.kind.escaped() {
            "message" => {
                let said = self.content.unwrap_or_default().into_iter();
                let said = said.filter_map(|content| content.text.or(content.refusal));
                parts.extend(said.filter(|text| !text.is_empty()).map(Part::Text));
            }
            "reasoning" => {
                let told = self.summary.into_iter().chain(self.content.unwrap_or_default());
                let mut told: Vec<_> =
                    told.filter_map(|content| content.text).filter(|text| !text.is_empty()).collect();
                let last = told.pop();
                parts.extend(told.into_iter().map(|text| Part::Thinking { text, signature: None }));
                parts.extend(thought(last, self.encrypted_content));
            }
            "function_call" => {
                let (Some(id), Some(name)) = (self.call_id, self.name) else {
                    return Err(ReplyFault::new("a tool call without an id or a name"));
                };
                let arguments = whole_arguments(&self.arguments.unwrap_or_default());
                parts.push(Part::ToolCall(ToolCall { id, name, arguments, signature: None }));
            }
            _ => {}
        }
        Ok(())
    }
}

/// A thought by the last of what was told of it, and its proof.
pub(super) fn thought<'a>(last: Option<Text<'a>>, proof: Option<Text<'a>>) -> Option<Part<'a>> {
    match (last, proof.map(|proof| Proof::read(Prover::OpenAi, proof))) {
        (Some(text), proof) => Some(Part::Thinking { text, signature: proof.map(|(proof, _)| proof) }),
        // Nothing was told of the thought, but the proof is not the thought.
        (None, Some((proof, true))) => Some(Part::Thinking { text: Text::word(""), signature: Some(proof) }),
        (None, Some((proof, false))) => Some(Part::Redacted(proof)),
        (None, None) => None,
    }
}

/// How far a response or an item of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
}

impl Status {
    pub fn of(finish: &Finish<'_>) -> Self {
        match finish {
            Finish::Length | Finish::Filtered => Status::Incomplete,
            _ => Status::Completed,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete => "incomplete",
        }
    }
}

/// Writes an answer. The format has one choice; more were not asked for.
pub fn write_reply(reply: &Reply<'_>, envelope: &Envelope) -> Result<Vec<u8>, ReplyFault> {
    let choice = reply.choices.first().ok_or_else(|| ReplyFault::new("an answer without a choice"))?;
    let mut items = Vec::new();
    let mut json = Json::new(&mut items);
    let mut number = 0;
    let said = |part: &Part<'_>| match part {
        Part::Image(image) => Some(Part::Text(unsaid_image(image))),
        _ => None,
    };
    let all: Vec<Part<'_>> =
        choice.parts.iter().map(|part| said(part).unwrap_or_else(|| part.clone())).collect();
    let mut parts = all.as_slice();
    while let Some((part, rest)) = parts.split_first() {
        let id = |kind| item_id(envelope, kind, number);
        parts = rest;
        match part {
            Part::Text(_) => {
                let is_text = |part: &Part<'_>| matches!(part, Part::Text(_));
                let more = rest.iter().take_while(|part| is_text(part)).count();
                let said = std::iter::once(part).chain(rest.get(..more).unwrap_or_default());
                let texts =
                    said.filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
                message(&mut json, &id("msg"), Status::of(&choice.finish), texts);
                parts = rest.get(more..).unwrap_or_default();
            }
            Part::Thinking { text, signature } => {
                let proof = signature.as_ref().map(|proof| proof.written(Prover::OpenAi, true));
                reasoning(&mut json, &id("rs"), Some(text), proof.as_deref());
            }
            Part::Redacted(data) => {
                reasoning(&mut json, &id("rs"), None, Some(&data.written(Prover::OpenAi, false)));
            }
            Part::ToolCall(call) => {
                let arguments = Text::plain(&call.arguments);
                function_call(&mut json, &id("fc"), call, &arguments, Status::Completed);
            }
            Part::Image(_) | Part::Sound { .. } | Part::ToolResult(_) => {
                return Err(ReplyFault::new("a part that no answer has"));
            }
        }
        number += 1;
    }
    let mut out = Vec::new();
    let names = (reply.id.as_ref(), reply.model.as_ref());
    response(
        &mut Json::new(&mut out),
        names,
        envelope,
        Ended::By(&choice.finish),
        &items,
        reply.usage.as_ref(),
    );
    Ok(out)
}

/// No two calls give an item the same name.
pub(super) fn item_id(envelope: &Envelope, kind: &str, number: u64) -> String {
    format!("{kind}_{}_{number}", envelope.id)
}

/// How a response stands.
#[derive(Clone, Copy)]
pub(super) enum Ended<'e> {
    Not,
    By(&'e Finish<'e>),
    Failed { code: &'e str, message: &'e str },
}

/// A response. `items`: what it is made of, already written.
pub(super) fn response(
    json: &mut Json<'_>,
    (id, model): (Option<&Text<'_>>, Option<&Text<'_>>),
    envelope: &Envelope,
    ended: Ended<'_>,
    items: &[u8],
    usage: Option<&Usage>,
) {
    json.open('{');
    match id {
        Some(id) => json.member("id").text(id),
        None => json.member("id").plain(&envelope.id),
    };
    json.member("object").plain("response").member("created_at").whole(envelope.created_s.unsigned_abs());
    let status = match ended {
        Ended::Not => Status::InProgress.name(),
        Ended::By(finish) => Status::of(finish).name(),
        Ended::Failed { .. } => "failed",
    };
    json.member("status").plain(status).member("background").flag(false).member("error");
    match ended {
        Ended::Failed { code, message } => {
            json.open('{').member("code").plain(code).member("message").plain(message).close('}');
        }
        _ => drop(json.raw("null")),
    }
    json.member("incomplete_details");
    match ended {
        Ended::By(Finish::Length) => {
            json.open('{').member("reason").plain("max_output_tokens").close('}');
        }
        Ended::By(Finish::Filtered) => {
            json.open('{').member("reason").plain("content_filter").close('}');
        }
        _ => drop(json.raw("null")),
    }
    match model {
        Some(model) => json.member("model").text(model),
        None => json.member("model").plain(&envelope.model),
    };
    json.member("output").open('[').written(items).close(']');
    match usage {
        Some(usage) => write_usage(json.member("usage"), usage),
        None => drop(json.member("usage").raw("null")),
    }
    json.written(envelope.echo.as_bytes()).close('}');
}

/// What is said, as one text.
pub(super) fn message<'t, 'a: 't>(
    json: &mut Json<'_>,
    id: &str,
    status: Status,
    texts: impl Iterator<Item = &'t Text<'a>>,
) {
    json.open('{').member("id").plain(id).member("type").plain("message");
    json.member("status").plain(status.name()).member("role").plain("assistant").member("content").open('[');
    if status != Status::InProgress {
        part(json, texts);
    }
    json.close(']').close('}');
}

pub(super) fn part<'t, 'a: 't>(json: &mut Json<'_>, texts: impl Iterator<Item = &'t Text<'a>>) {
    json.open('{').member("type").plain("output_text").member("text").texts(texts);
    json.member("annotations").open('[').close(']').member("logprobs").open('[').close(']').close('}');
}

/// A thought, and the proof that its provider wants to see again.
pub(super) fn reasoning(json: &mut Json<'_>, id: &str, told: Option<&Text<'_>>, proof: Option<&Text<'_>>) {
    json.open('{').member("id").plain(id).member("type").plain("reasoning").member("summary").open('[');
    if let Some(told) = told {
        summary(json, told);
    }
    json.close(']');
    if let Some(proof) = proof {
        json.member("encrypted_content").text(proof);
    }
    json.close('}');
}

pub(super) fn summary(json: &mut Json<'_>, told: &Text<'_>) {
    json.open('{').member("type").plain("summary_text").member("text").text(told).close('}');
}

pub(super) fn function_call(
    json: &mut Json<'_>,
    id: &str,
    call: &ToolCall<'_>,
    arguments: &Text<'_>,
    status: Status,
) {
    json.open('{').member("id").plain(id).member("type").plain("function_call");
    json.member("status").plain(status.name());
    call_members(json, call, arguments);
    if let Some(signature) = &call.signature {
        json.member("extra_content").open('{').member("google").open('{');
        json.member("thought_signature").text(signature).close('}').close('}');
    }
    json.close('}');
}

pub(super) fn call_members(json: &mut Json<'_>, call: &ToolCall<'_>, arguments: &Text<'_>) {
    json.member("call_id").text(&call.id).member("name").text(&call.name);
    json.member("arguments").text(arguments);
}

fn write_usage(json: &mut Json<'_>, usage: &Usage) {
    let of = |class| usage.get(class);
    let sum = |classes: &[TokenClass]| classes.iter().fold(0u64, |sum, class| sum.saturating_add(of(*class)));
    use TokenClass::*;
    let input = sum(&[Input, CacheRead, CacheWrite, AudioIn, ImageIn]);
    let output = sum(&[Output, Reasoning, AudioOut]);
    json.open('{').member("input_tokens").whole(input);
    json.member("input_tokens_details").open('{').member("cached_tokens").whole(of(CacheRead));
    json.member("cache_write_tokens").whole(of(CacheWrite)).close('}');
    json.member("output_tokens").whole(output);
    json.member("output_tokens_details").open('{').member("reasoning_tokens").whole(of(Reasoning)).close('}');
    json.member("total_tokens").whole(input.saturating_add(output)).close('}');
}
