//! Streams.

use serde::Deserialize;

use super::super::conversation::ToolCall;
use super::super::json::Json;
use super::super::reply::{Envelope, Piece, ReplyFault};
use super::super::text::Text;
use super::answer::{Message, finish, head, reason, write_usage};
use super::write::tool_call;
use crate::gateway::provider::openai::usage_from_body;
use ledger::Usage;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    choices: Vec<ChunkChoice<'a>>,
}

#[derive(Deserialize)]
struct ChunkChoice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Option<Message<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    /// The number of the last tool of each choice that called one.
    tools: Vec<(u32, u32)>,
}

impl Reader {
    pub fn read(
        &mut self,
        data: &[u8],
        tell: &mut dyn FnMut(Piece<'_>) -> Result<(), ReplyFault>,
    ) -> Result<(), ReplyFault> {
        if data == b"[DONE]" {
            return tell(Piece::End);
        }
        let chunk: Chunk<'_> = serde_json::from_slice(data)?;
        if !std::mem::replace(&mut self.started, true) {
            tell(Piece::Start { id: chunk.id, model: chunk.model })?;
        }
        for wire in chunk.choices {
            let choice = wire.index;
            self.delta(choice, wire.delta.unwrap_or_default(), tell)?;
            if let Some(reason) = wire.finish_reason {
                tell(Piece::Finish { choice, finish: finish(&reason) })?;
            }
        }
        match usage_from_body(data) {
            Some(usage) => tell(Piece::Usage(usage)),
            None => Ok(()),
        }
    }

    fn delta(
        &mut self,
        choice: u32,
        delta: Message<'_>,
        tell: &mut dyn FnMut(Piece<'_>) -> Result<(), ReplyFault>,
    ) -> Result<(), ReplyFault> {
        if let Some(text) = delta.reasoning_content.or(delta.reasoning).filter(|text| !text.is_empty()) {
            tell(Piece::Thinking { choice, text })?;
        }
        for text in [delta.content, delta.refusal].into_iter().flatten().filter(|text| !text.is_empty()) {
            tell(Piece::Text { choice, text })?;
        }
        for call in delta.tool_calls.unwrap_or_default() {
            let last = self.tools.iter().position(|(of, _)| *of == choice);
            let known = last.and_then(|at| self.tools.get(at)).map(|(_, tool)| *tool);
            let tool = call.index.or(known).unwrap_or(0);
            if known != Some(tool) {
                if known.is_some_and(|known| tool < known) {
                    return Err(ReplyFault::new("arguments of a tool that had ended"));
                }
                let (Some(id), Some(name)) = (call.id, call.function.name) else {
                    return Err(ReplyFault::new("a tool call without an id or a name"));
                };
                match last.and_then(|at| self.tools.get_mut(at)) {
                    Some(entry) => entry.1 = tool,
                    None => self.tools.push((choice, tool)),
                }
                tell(Piece::ToolStart { choice, tool, id, name, signature: None })?;
            }
            if let Some(json) = call.function.arguments.filter(|json| !json.is_empty()) {
                tell(Piece::ToolArguments { choice, tool, json })?;
            }
        }
        Ok(())
    }
}

/// Writes the events of one stream.
#[derive(Debug)]
pub struct Writer {
    envelope: Envelope,
    id: Option<Text<'static>>,
    model: Option<Text<'static>>,
    /// Choices that have begun.
    begun: Vec<u32>,
    usage: Option<Usage>,
    ended: bool,
}

impl Writer {
    pub fn new(envelope: Envelope) -> Self {
        Self { envelope, id: None, model: None, begun: Vec::new(), usage: None, ended: false }
    }

    pub fn write(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) {
        match piece {
            Piece::Start { id, model } => {
                self.id = id.clone().map(Text::into_owned);
                self.model = model.clone().map(Text::into_owned);
                self.begin(0, out);
            }
            Piece::Text { choice, text } => {
                self.chunk(*choice, out, |json| {
                    json.member("content").text(text);
                });
            }
            Piece::Thinking { choice, text } => {
                self.chunk(*choice, out, |json| {
                    json.member("reasoning_content").text(text);
                });
            }
            Piece::Signature { choice, signature } => self.chunk(*choice, out, |json| {
                json.member("reasoning_details").open('[').open('{').member("type").plain("reasoning.text");
                json.member("signature").text(signature).close('}').close(']');
            }),
            Piece::Redacted { choice, data } => self.chunk(*choice, out, |json| {
                json.member("reasoning_details")
                    .open('[')
                    .open('{')
                    .member("type")
                    .plain("reasoning.encrypted");
                json.member("data").text(data).close('}').close(']');
            }),
            Piece::ToolStart { choice, tool, id, name, signature } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                let call = ToolCall { id, name, arguments: "".into(), signature };
                self.chunk(*choice, out, |json| {
                    json.member("tool_calls").open('[');
                    tool_call(json, Some(*tool), &call, &Text::word(""));
                    json.close(']');
                });
            }
            Piece::ToolArguments { choice, tool, json: more } => self.chunk(*choice, out, |json| {
                json.member("tool_calls").open('[').open('{').member("index").whole((*tool).into());
                json.member("function").open('{').member("arguments").text(more);
                json.close('}').close('}').close(']');
            }),
            Piece::Finish { choice, finish } => self.finish(*choice, reason(finish), out),
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => self.end(out),
        }
    }

    fn begin(&mut self, choice: u32, out: &mut Vec<u8>) {
        if self.begun.contains(&choice) {
            return;
        }
        self.begun.push(choice);
        self.event(out, choice, None, |json| {
            json.member("role").plain("assistant").member("content").plain("");
        });
    }

    fn chunk(&mut self, choice: u32, out: &mut Vec<u8>, delta: impl FnOnce(&mut Json<'_>)) {
        self.begin(choice, out);
        self.event(out, choice, None, delta);
    }

    fn finish(&mut self, choice: u32, reason: &'static str, out: &mut Vec<u8>) {
        self.begin(choice, out);
        self.event(out, choice, Some(reason), |_| {});
    }

    fn event(
        &self,
        out: &mut Vec<u8>,
        choice: u32,
        reason: Option<&'static str>,
        delta: impl FnOnce(&mut Json<'_>),
    ) {
        let mut json = self.open(out);
        json.member("choices").open('[').open('{').member("index").whole(choice.into());
        delta(json.member("delta").open('{'));
        json.close('}').member("logprobs").raw("null").member("finish_reason");
        match reason {
            Some(reason) => json.plain(reason),
            None => json.raw("null"),
        };
        json.close('}').close(']').close('}');
        out.extend_from_slice(b"\n\n");
    }

    fn open<'o>(&self, out: &'o mut Vec<u8>) -> Json<'o> {
        out.extend_from_slice(b"data: ");
        let mut json = Json::new(out);
        json.open('{');
        head(&mut json, self.id.as_ref(), self.model.as_ref(), &self.envelope, "chat.completion.chunk");
        json
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(usage) = self.usage.filter(|_| self.envelope.include_usage) {
            let mut json = self.open(out);
            json.member("choices").open('[').close(']');
            write_usage(json.member("usage"), &usage);
            json.close('}');
            out.extend_from_slice(b"\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}
