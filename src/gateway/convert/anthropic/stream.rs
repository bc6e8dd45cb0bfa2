//! Streams: a message begins, its blocks begin, grow and end one behind the other, the message ends.

use ledger::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::json::Json;
use super::super::proof::{Proof, Prover, id_with_proof};
use super::super::reply::{Envelope, Finish, Piece, ReplyFault, unsaid_image};
use super::super::text::Text;
use super::answer::{Block, finish, head, write_finish, write_usage};
use crate::gateway::provider::anthropic::UsageSoFar;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default, deserialize_with = "crate::gateway::provider::readable")]
    usage: Option<UsageSoFar>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(default, deserialize_with = "crate::gateway::provider::readable")]
    usage: UsageSoFar,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    partial_json: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_sequence: Option<Text<'a>>,
}

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub struct Reader {
    usage: UsageSoFar,
    tools: u32,
    /// The block that grows is a call of a tool of the client's, with what its beginning told of its arguments.
    tool: Option<Text<'static>>,
}

type Tell<'t> = dyn FnMut(Piece<'_>) -> Result<(), ReplyFault> + 't;

impl Reader {
    pub fn read(&mut self, data: &[u8], tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        let event: Event<'_> = serde_json::from_slice(data)?;
        match event.kind.escaped() {
            "message_start" => {
                let Some(message) = event.message else { return Ok(()) };
                self.usage.tell(&message.usage);
                tell(Piece::Start { id: message.id, model: message.model })
            }
            "content_block_start" => event.content_block.map_or(Ok(()), |block| self.begin(block, tell)),
            "content_block_delta" => event.delta.map_or(Ok(()), |delta| self.grow(delta, tell)),
            "content_block_stop" => self.end_block(tell),
            "message_delta" => {
                self.end_block(tell)?;
                let tells_output = event.usage.is_some_and(|usage| usage.tells_output());
                self.usage.tell(&event.usage.unwrap_or_default());
                if let Some(Delta { stop_reason: Some(reason), stop_sequence, .. }) = event.delta {
                    tell(Piece::Finish { choice: 0, finish: finish(&reason, stop_sequence) })?;
                }
                let usage = self.usage.usage().filter(|_| tells_output);
                usage.map_or(Ok(()), |usage| tell(Piece::Usage(usage)))
            }
            "message_stop" => tell(Piece::End),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, block: Block<'_>, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        self.end_block(tell)?;
        match block.kind.escaped() {
            "text" => told(block.text, tell, |text| Piece::Text { choice: 0, text }),
            "thinking" => told(block.thinking, tell, |text| Piece::Thinking { choice: 0, text }),
            "redacted_thinking" => told(block.data, tell, |data| Piece::Redacted {
                choice: 0,
                data: Proof::read(Prover::Anthropic, data).0,
            }),
            "tool_use" => {
                let (Some(id), Some(name)) = (block.id, block.name) else {
                    return Err(ReplyFault::new("a tool call without an id or a name"));
                };
                let told = block.input.map_or("{}", RawValue::get);
                self.tool = Some(Text::plain(told));
                let tool = self.tools;
                self.tools = tool.saturating_add(1);
                tell(Piece::ToolStart { choice: 0, tool, id, name, signature: None })
            }
            _ => Ok(()),
        }
    }

    fn grow(&mut self, delta: Delta<'_>, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        told(delta.text, tell, |text| Piece::Text { choice: 0, text })?;
        told(delta.thinking, tell, |text| Piece::Thinking { choice: 0, text })?;
        told(delta.signature, tell, |proof| Piece::Signature {
            choice: 0,
            signature: Proof::read(Prover::Anthropic, proof).0,
        })?;
        let json = delta.partial_json.filter(|json| !json.is_empty());
        match (json, &mut self.tool) {
            (Some(json), Some(told)) => {
                *told = Text::default();
                tell(Piece::ToolArguments { choice: 0, tool: self.tools.saturating_sub(1), json })
            }
            _ => Ok(()),
        }
    }

    /// A call of which no piece came has the arguments that it began with.
    fn end_block(&mut self, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        let tool = self.tools.saturating_sub(1);
        told(self.tool.take(), tell, |json| Piece::ToolArguments { choice: 0, tool, json })
    }
}

/// Tells a piece whose text says anything.
fn told<'a>(
    text: Option<Text<'a>>,
    tell: &mut Tell<'_>,
    piece: impl FnOnce(Text<'a>) -> Piece<'a>,
) -> Result<(), ReplyFault> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => tell(piece(text)),
        None => Ok(()),
    }
}

/// What kind of block is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Tool(u32),
}

/// Writes the events of one stream.
#[derive(Debug)]
pub struct Writer {
    envelope: Envelope,
    started: bool,
    open: Option<Open>,
    /// Blocks that have begun.
    blocks: u64,
    finish: Option<Finish<'static>>,
    usage: Option<Usage>,
    ended: bool,
}

impl Writer {
    pub fn new(envelope: Envelope) -> Self {
        Self { envelope, started: false, open: None, blocks: 0, finish: None, usage: None, ended: false }
    }

    pub fn write(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) -> Result<(), ReplyFault> {
        match piece {
            Piece::Start { id, model } => self.start(id.as_ref(), model.as_ref(), out),
            Piece::Text { text, .. } => {
                self.begin(Open::Text, out, |json| {
                    json.member("type").plain("text").member("text").plain("");
                });
                self.delta(out, "text_delta", "text", text);
            }
            Piece::Image { choice, image } => {
                return self.write(&Piece::Text { choice: *choice, text: unsaid_image(image) }, out);
            }
            Piece::Thinking { text, .. } => {
                self.begin_thinking(out);
                self.delta(out, "thinking_delta", "thinking", text);
            }
            Piece::Signature { signature, .. } => {
                self.begin_thinking(out);
                self.delta(out, "signature_delta", "signature", &signature.written(Prover::Anthropic, true));
                self.stop(out);
            }
            Piece::Redacted { data, .. } => {
                self.stop(out);
                self.begin(Open::Thinking, out, |json| {
                    json.member("type").plain("redacted_thinking").member("data");
                    json.text(&data.written(Prover::Anthropic, false));
                });
                self.stop(out);
            }
            Piece::ToolStart { tool, id, name, signature, .. } => {
                self.begin(Open::Tool(*tool), out, |json| {
                    let id = id_with_proof(id, signature.as_ref());
                    json.member("type").plain("tool_use").member("id").text(&id).member("name").text(name);
                    json.member("input").open('{').close('}');
                })
            }
            Piece::ToolArguments { tool, json, .. } => {
                if self.open != Some(Open::Tool(*tool)) {
                    return Err(ReplyFault::new("arguments of a tool that had ended"));
                }
                self.delta(out, "input_json_delta", "partial_json", json);
            }
            Piece::Finish { finish, .. } => {
                self.stop(out);
                self.finish = Some(finish.clone().into_owned());
            }
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => self.end(out),
        }
        Ok(())
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        event(out, "message_start", |json| {
            json.member("message").open('{');
            head(json, id, model, &self.envelope);
            json.member("content").open('[').close(']');
            json.member("stop_reason").raw("null").member("stop_sequence").raw("null");
            // Other providers tell it at the end.
            write_usage(json.member("usage"), &Usage::default());
            json.close('}');
        });
    }

    fn begin_thinking(&mut self, out: &mut Vec<u8>) {
        self.begin(Open::Thinking, out, |json| {
            json.member("type").plain("thinking").member("thinking").plain("").member("signature").plain("");
        });
    }

    fn begin(&mut self, kind: Open, out: &mut Vec<u8>, block: impl FnOnce(&mut Json<'_>)) {
        if self.open == Some(kind) {
            return;
        }
        self.start(None, None, out);
        self.stop(out);
        self.open = Some(kind);
        let index = self.blocks;
        self.blocks += 1;
        event(out, "content_block_start", |json| {
            json.member("index").whole(index);
            block(json.member("content_block").open('{'));
            json.close('}');
        });
    }

    fn delta(&self, out: &mut Vec<u8>, kind: &'static str, name: &'static str, text: &Text<'_>) {
        event(out, "content_block_delta", |json| {
            json.member("index").whole(self.blocks.saturating_sub(1)).member("delta").open('{');
            json.member("type").plain(kind).member(name).text(text).close('}');
        });
    }

    fn stop(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            event(out, "content_block_stop", |json| {
                json.member("index").whole(self.blocks.saturating_sub(1));
            });
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.start(None, None, out);
        self.stop(out);
        event(out, "message_delta", |json| {
            write_finish(json.member("delta").open('{'), self.finish.as_ref().unwrap_or(&Finish::Stop));
            json.close('}');
            write_usage(json.member("usage"), &self.usage.unwrap_or_default());
        });
        event(out, "message_stop", |_| {});
    }
}

fn event(out: &mut Vec<u8>, kind: &'static str, members: impl FnOnce(&mut Json<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let mut json = Json::new(out);
    members(json.open('{').member("type").plain(kind));
    json.close('}');
    out.extend_from_slice(b"\n\n");
}
