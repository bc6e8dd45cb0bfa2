//! Streams.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::conversation::ToolCall;
use super::super::json::Json;
use super::super::reply::{Envelope, Piece, ReplyFault};
use super::super::text::Text;
use super::answer::{Message, WireCall, encrypted, finish, head, reason, thought, write_usage};
use super::write::{image_part, tool_call};
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
    calls: Vec<Called>,
}

/// A call that has begun.
#[derive(Debug)]
struct Called {
    choice: u32,
    /// Its number as the upstream gives it; some give every call the same.
    index: Option<u32>,
    id: Text<'static>,
    /// Its number in its choice.
    tool: u32,
}

/// No answer has more calls.
const CALLS_MAX: usize = 4096;

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
        for image in delta.images.into_iter().flatten() {
            tell(Piece::Image { choice, image: image.into_image()? })?;
        }
        for call in delta.tool_calls.unwrap_or_default() {
            let json = call.function.arguments.clone().filter(|json| !json.is_empty());
            let tool = match self.known(choice, &call) {
                Some(tool) => tool,
                None => self.begin(choice, call, tell)?,
            };
            if let Some(json) = json {
                tell(Piece::ToolArguments { choice, tool, json })?;
            }
        }
        Ok(())
    }

    /// The number of the call that this is more of. A name with another id begins a call, whatever its index is: some
    /// servers give every call the same, or none.
    fn known(&self, choice: u32, more: &WireCall<'_>) -> Option<u32> {
        let id = more.id.as_ref().filter(|id| !id.is_empty());
        let named = more.function.name.as_ref().is_some_and(|name| !name.is_empty());
        let mut mine = self.calls.iter().rev().filter(|call| call.choice == choice);
        let last = match (more.index, id) {
            (None, Some(id)) if named => mine.find(|call| call.id == *id),
            (index, _) => mine.find(|call| index.is_none() || call.index == index),
        }?;
        let begins = named
            && match id {
                Some(id) => last.id != *id,
                None => last.id.is_empty() && more.index.is_none(),
            };
        (!begins).then_some(last.tool)
    }

    fn begin(
        &mut self,
        choice: u32,
        call: WireCall<'_>,
        tell: &mut dyn FnMut(Piece<'_>) -> Result<(), ReplyFault>,
    ) -> Result<u32, ReplyFault> {
        let name = call.function.name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| ReplyFault::new("a tool call without a name"))?;
        if self.calls.len() >= CALLS_MAX {
            return Err(ReplyFault::new("more calls of tools than an answer can have"));
        }
        let last = self.calls.iter().rev().find(|call| call.choice == choice);
        let tool = last.map_or(0, |last| last.tool + 1);
        let id = call.id.unwrap_or_default();
        self.calls.push(Called { choice, index: call.index, id: id.clone().into_owned(), tool });
        tell(Piece::ToolStart { choice, tool, id, name, signature: None })?;
        Ok(tool)
    }
}

/// Thoughts that are told once more beside their proof, so that a client can send both back together, are at most so long,
/// in bytes; of a longer one the proof is told alone.
const THOUGHTS_BYTES_MAX: usize = 1024 * 1024;

/// What a choice thinks, until its proof comes.
#[derive(Debug, Default)]
struct Thought {
    /// Escaped.
    text: String,
    too_long: bool,
    /// Details that were told.
    proven: u64,
}

impl Thought {
    /// No proof of it comes any more.
    fn forget(&mut self) {
        self.text.clear();
        self.too_long = false;
    }

    /// What was thought, if it is not too long, and the number of the detail that tells its proof.
    fn prove(&mut self) -> (Option<Text<'static>>, u64) {
        let text = (!self.too_long).then(|| Text::of_escaped(std::mem::take(&mut self.text)));
        self.forget();
        self.proven += 1;
        (text, self.proven - 1)
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
    thoughts: BTreeMap<u32, Thought>,
    usage: Option<Usage>,
    ended: bool,
}

impl Writer {
    pub fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            id: None,
            model: None,
            begun: Vec::new(),
            thoughts: BTreeMap::new(),
            usage: None,
            ended: false,
        }
    }

    pub fn write(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) {
        match piece {
            Piece::Start { id, model } => {
                self.id = id.clone().map(Text::into_owned);
                self.model = model.clone().map(Text::into_owned);
                self.begin(0, out);
            }
            Piece::Text { choice, text } => {
                self.thought(*choice).forget();
                self.chunk(*choice, out, |json| {
                    json.member("content").text(text);
                });
            }
            Piece::Thinking { choice, text } => {
                self.think(*choice, text);
                self.chunk(*choice, out, |json| {
                    json.member("reasoning_content").text(text);
                });
            }
            Piece::Signature { choice, signature } => {
                let (text, index) = self.thought(*choice).prove();
                self.chunk(*choice, out, |json| {
                    json.member("reasoning_details").open('[');
                    thought(json, text.as_ref(), Some(signature), index);
                    json.close(']');
                });
            }
            Piece::Redacted { choice, data } => {
                let (_, index) = self.thought(*choice).prove();
                self.chunk(*choice, out, |json| {
                    encrypted(json.member("reasoning_details").open('['), data, index);
                    json.close(']');
                });
            }
            Piece::Image { choice, image } => self.chunk(*choice, out, |json| {
                image_part(json.member("images").open('['), image);
                json.close(']');
            }),
            Piece::ToolStart { choice, tool, id, name, signature } => {
                self.thought(*choice).forget();
                let (id, name) = (id.clone(), name.clone());
                let call = ToolCall { id, name, arguments: "".into(), signature: None };
                self.chunk(*choice, out, |json| {
                    json.member("tool_calls").open('[');
                    tool_call(json, Some(*tool), &call, &Text::word(""), signature.as_ref());
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

    fn thought(&mut self, choice: u32) -> &mut Thought {
        self.thoughts.entry(choice).or_default()
    }

    fn think(&mut self, choice: u32, more: &Text<'_>) {
        let kept: usize = self.thoughts.values().map(|thought| thought.text.len()).sum();
        let thought = self.thought(choice);
        thought.too_long |= kept + more.escaped().len() > THOUGHTS_BYTES_MAX;
        if !thought.too_long {
            thought.text.push_str(more.escaped());
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
