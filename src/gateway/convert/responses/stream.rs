//! Streams: a response begins, its items begin, grow and end one behind the other, the response ends and is told whole.

use ledger::Usage;
use serde::Deserialize;

use super::super::conversation::ToolCall;
use super::super::json::Json;
use super::super::proof::{Proof, Prover};
use super::super::reply::{Envelope, Finish, Piece, ReplyFault, unsaid_image};
use super::super::text::Text;
use super::answer::{
    Ended, Item, Status, Wire, function_call, item_id, message, part, reasoning, response, summary,
};
use super::broken::SoFar;
use crate::gateway::provider::openai::usage_of_last_event;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    response: Option<Wire<'a>>,
    #[serde(borrow, default)]
    item: Option<Item<'a>>,
    #[serde(borrow, default)]
    delta: Option<Text<'a>>,
    #[serde(default)]
    output_index: Option<u64>,
}

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub struct Reader {
    /// Where the calls stand in the answer, by their numbers, and whether anything came of their arguments.
    calls: Vec<(Option<u64>, bool)>,
}

/// No answer has more calls.
const CALLS_MAX: usize = 4096;

impl Reader {
    pub fn read(
        &mut self,
        data: &[u8],
        tell: &mut dyn FnMut(Piece<'_>) -> Result<(), ReplyFault>,
    ) -> Result<(), ReplyFault> {
        let event: Event<'_> = serde_json::from_slice(data)?;
        let delta = event.delta.filter(|delta| !delta.is_empty());
        match (event.kind.escaped(), delta, event.item, event.response) {
            ("response.created", _, _, Some(response)) => {
                tell(Piece::Start { id: response.id, model: response.model })
            }
            ("response.output_text.delta" | "response.refusal.delta", Some(text), ..) => {
                tell(Piece::Text { choice: 0, text })
            }
            ("response.reasoning_summary_text.delta" | "response.reasoning_text.delta", Some(text), ..) => {
                tell(Piece::Thinking { choice: 0, text })
            }
            ("response.output_item.added", _, Some(item), _) if item.kind.is("function_call") => {
                let (Some(id), Some(name)) = (item.call_id, item.name) else {
                    return Err(ReplyFault::new("a tool call without an id or a name"));
                };
                if self.calls.len() >= CALLS_MAX {
                    return Err(ReplyFault::new("more calls of tools than an answer can have"));
                }
                let tool = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
                self.calls.push((event.output_index, false));
                tell(Piece::ToolStart { choice: 0, tool, id, name, signature: None })
            }
            ("response.function_call_arguments.delta", Some(json), ..) => {
                let (tool, _) = self.call(event.output_index);
                tell(Piece::ToolArguments { choice: 0, tool, json })
            }
            ("response.output_item.done", _, Some(item), _) if item.kind.is("function_call") => {
                // A call of which no piece came has the arguments that its end tells.
                match (self.call(event.output_index), item.arguments) {
                    ((tool, false), Some(json)) if !json.is_empty() => {
                        tell(Piece::ToolArguments { choice: 0, tool, json })
                    }
                    _ => Ok(()),
                }
            }
            ("response.output_item.done", _, Some(item), _) if item.kind.is("reasoning") => {
                let (nothing, proof) = (item.tells_nothing(), item.encrypted_content);
                match proof.map(|proof| Proof::read(Prover::OpenAi, proof)) {
                    None => Ok(()),
                    Some((data, false)) if nothing => tell(Piece::Redacted { choice: 0, data }),
                    Some((signature, _)) => tell(Piece::Signature { choice: 0, signature }),
                }
            }
            ("response.completed" | "response.incomplete", _, _, Some(response)) => {
                tell(Piece::Finish { choice: 0, finish: response.finish(!self.calls.is_empty()) })?;
                if let Some(usage) = usage_of_last_event(data) {
                    tell(Piece::Usage(usage))?;
                }
                tell(Piece::End)
            }
            _ => Ok(()),
        }
    }

    /// The call that stands at a place, else the last, and whether anything had come of its arguments.
    fn call(&mut self, at: Option<u64>) -> (u32, bool) {
        let known = self.calls.iter().rposition(|(place, _)| at.is_some() && *place == at);
        let number = known.unwrap_or(self.calls.len().saturating_sub(1));
        let had = self.calls.get_mut(number).is_some_and(|(_, had)| std::mem::replace(had, true));
        (u32::try_from(number).unwrap_or(u32::MAX), had)
    }
}

/// The last event tells the whole answer again, so it is kept; what is longer, in bytes of JSON, cannot be told.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The item that grows.
#[derive(Debug)]
enum Open {
    Message,
    Reasoning,
    Call { tool: u32, call: Box<ToolCall<'static>> },
}

/// Writes the events of one stream.
#[derive(Debug)]
pub struct Writer {
    envelope: Envelope,
    id: Option<Text<'static>>,
    model: Option<Text<'static>>,
    started: bool,
    /// Of the events.
    sequence: u64,
    open: Option<Open>,
    /// What the open item says so far, escaped.
    said: String,
    /// Items that have ended, as the last event tells them.
    items: Vec<u8>,
    /// Items that have begun.
    begun: u64,
    finish: Option<Finish<'static>>,
    usage: Option<Usage>,
    ended: bool,
}

impl Writer {
    pub fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            id: None,
            model: None,
            started: false,
            sequence: 0,
            open: None,
            said: String::new(),
            items: Vec::new(),
            begun: 0,
            finish: None,
            usage: None,
            ended: false,
        }
    }

    pub fn write(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) -> Result<(), ReplyFault> {
        match piece {
            Piece::Start { id, model } => self.start(id.as_ref(), model.as_ref(), out),
            Piece::Text { text, .. } => {
                self.begin_message(out);
                self.grow("response.output_text.delta", text, out)?;
            }
            Piece::Image { choice, image } => {
                self.write(&Piece::Text { choice: *choice, text: unsaid_image(image) }, out)?;
            }
            Piece::Thinking { text, .. } => {
                self.begin_reasoning(out);
                self.grow("response.reasoning_summary_text.delta", text, out)?;
            }
            Piece::Signature { signature, .. } => {
                self.begin_reasoning(out);
                self.end_reasoning(Some(&signature.written(Prover::OpenAi, true)), out);
            }
            Piece::Redacted { data, .. } => self.redacted(&data.written(Prover::OpenAi, false), out),
            Piece::ToolStart { tool, id, name, signature, .. } => {
                let (id, name) = (id.clone().into_owned(), name.clone().into_owned());
                let signature = signature.clone().map(Text::into_owned);
                let call = Box::new(ToolCall { id, name, arguments: "".into(), signature });
                self.begin_call(*tool, call, out);
            }
            Piece::ToolArguments { tool, json, .. } => {
                match &self.open {
                    Some(Open::Call { tool: open, .. }) if open == tool => {}
                    _ => return Err(ReplyFault::new("arguments of a tool that had ended")),
                }
                self.grow("response.function_call_arguments.delta", json, out)?;
            }
            Piece::Finish { finish, .. } => {
                self.finish = Some(finish.clone().into_owned());
                self.end_item(out);
            }
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => self.end(out),
        }
        Ok(())
    }

    /// What the client has been told.
    pub fn so_far(&self) -> SoFar {
        SoFar { sequence: self.sequence, id: self.id.clone(), model: self.model.clone() }
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        self.id = id.cloned().map(Text::into_owned);
        self.model = model.cloned().map(Text::into_owned);
        self.whole("response.created", None, out);
        self.whole("response.in_progress", None, out);
    }

    /// An event with the response in it, as far as it is.
    fn whole(&mut self, kind: &'static str, finish: Option<&Finish<'_>>, out: &mut Vec<u8>) {
        let (items, usage) = (std::mem::take(&mut self.items), self.usage.filter(|_| finish.is_some()));
        let names = (self.id.clone(), self.model.clone());
        let envelope = self.envelope.clone();
        self.event(kind, out, |json| {
            let names = (names.0.as_ref(), names.1.as_ref());
            let ended = finish.map_or(Ended::Not, Ended::By);
            response(json.member("response"), names, &envelope, ended, &items, usage.as_ref());
        });
    }

    fn begin_message(&mut self, out: &mut Vec<u8>) {
        if matches!(self.open, Some(Open::Message)) {
            return;
        }
        let (id, at) = self.begin("msg", Open::Message, out);
        self.event("response.output_item.added", out, |json| {
            json.member("output_index").whole(at);
            message(json.member("item"), &id, Status::InProgress, std::iter::empty());
        });
        self.event("response.content_part.added", out, |json| {
            place(json, &id, at).member("content_index").whole(0);
            part(json.member("part"), std::iter::empty());
        });
    }

    fn begin_reasoning(&mut self, out: &mut Vec<u8>) {
        if matches!(self.open, Some(Open::Reasoning)) {
            return;
        }
        let (id, at) = self.begin("rs", Open::Reasoning, out);
        self.event("response.output_item.added", out, |json| {
            json.member("output_index").whole(at);
            reasoning(json.member("item"), &id, None, None);
        });
        self.event("response.reasoning_summary_part.added", out, |json| {
            place(json, &id, at).member("summary_index").whole(0);
            summary(json.member("part"), &Text::word(""));
        });
    }

    fn begin_call(&mut self, tool: u32, call: Box<ToolCall<'static>>, out: &mut Vec<u8>) {
        let item = call.clone();
        let (id, at) = self.begin("fc", Open::Call { tool, call }, out);
        self.event("response.output_item.added", out, |json| {
            json.member("output_index").whole(at);
            function_call(json.member("item"), &id, &item, &Text::word(""), Status::InProgress);
        });
    }

    /// Ends the item before, and gives the next its name and its place.
    fn begin(&mut self, kind: &str, open: Open, out: &mut Vec<u8>) -> (String, u64) {
        self.start(None, None, out);
        self.end_item(out);
        self.open = Some(open);
        let at = self.begun;
        self.begun += 1;
        (item_id(&self.envelope, kind, at), at)
    }

    /// The name and place of the item that is open.
    fn at(&self, kind: &str) -> (String, u64) {
        let at = self.begun.saturating_sub(1);
        (item_id(&self.envelope, kind, at), at)
    }

    fn grow(&mut self, kind: &'static str, more: &Text<'_>, out: &mut Vec<u8>) -> Result<(), ReplyFault> {
        if self.said.len() + self.items.len() + more.escaped().len() > KEPT_BYTES_MAX {
            return Err(ReplyFault::new("it is too long to be told as a response"));
        }
        self.said.push_str(more.escaped());
        let (prefix, index) = match &self.open {
            Some(Open::Call { .. }) => ("fc", None),
            Some(Open::Reasoning) => ("rs", Some("summary_index")),
            _ => ("msg", Some("content_index")),
        };
        let (id, at) = self.at(prefix);
        self.event(kind, out, |json| {
            place(json, &id, at);
            if let Some(index) = index {
                json.member(index).whole(0);
            }
            json.member("delta").text(more);
            if prefix == "msg" {
                json.member("logprobs").open('[').close(']');
            }
        });
        Ok(())
    }

    fn end_item(&mut self, out: &mut Vec<u8>) {
        match self.open.take() {
            None => {}
            Some(Open::Message) => self.end_message(out),
            Some(Open::Reasoning) => {
                self.open = Some(Open::Reasoning);
                self.end_reasoning(None, out);
            }
            Some(Open::Call { call, .. }) => self.end_call(&call, out),
        }
    }

    fn end_message(&mut self, out: &mut Vec<u8>) {
        let said = Text::of_escaped(std::mem::take(&mut self.said));
        let (id, at) = self.at("msg");
        self.event("response.output_text.done", out, |json| {
            place(json, &id, at).member("content_index").whole(0).member("text").text(&said);
            json.member("logprobs").open('[').close(']');
        });
        self.event("response.content_part.done", out, |json| {
            place(json, &id, at).member("content_index").whole(0);
            part(json.member("part"), std::iter::once(&said));
        });
        let status = self.finish.as_ref().map_or(Status::Completed, Status::of);
        self.done(at, out, |json| message(json, &id, status, std::iter::once(&said)));
    }

    fn end_reasoning(&mut self, proof: Option<&Text<'_>>, out: &mut Vec<u8>) {
        self.open = None;
        let said = Text::of_escaped(std::mem::take(&mut self.said));
        let (id, at) = self.at("rs");
        self.event("response.reasoning_summary_text.done", out, |json| {
            place(json, &id, at).member("summary_index").whole(0).member("text").text(&said);
        });
        self.event("response.reasoning_summary_part.done", out, |json| {
            place(json, &id, at).member("summary_index").whole(0);
            summary(json.member("part"), &said);
        });
        self.done(at, out, |json| reasoning(json, &id, Some(&said), proof));
    }

    /// A thought of which there is nothing to tell.
    fn redacted(&mut self, data: &Text<'_>, out: &mut Vec<u8>) {
        let (id, at) = self.begin("rs", Open::Reasoning, out);
        self.open = None;
        self.event("response.output_item.added", out, |json| {
            json.member("output_index").whole(at);
            reasoning(json.member("item"), &id, None, None);
        });
        self.done(at, out, |json| reasoning(json, &id, None, Some(data)));
    }

    fn end_call(&mut self, call: &ToolCall<'_>, out: &mut Vec<u8>) {
        let said = Text::of_escaped(std::mem::take(&mut self.said));
        let (id, at) = self.at("fc");
        self.event("response.function_call_arguments.done", out, |json| {
            place(json, &id, at).member("name").text(&call.name).member("arguments").text(&said);
        });
        self.done(at, out, |json| function_call(json, &id, call, &said, Status::Completed));
    }

    /// An item has ended; it is kept for the last event.
    fn done(&mut self, at: u64, out: &mut Vec<u8>, item: impl Fn(&mut Json<'_>)) {
        self.event("response.output_item.done", out, |json| {
            item(json.member("output_index").whole(at).member("item"));
        });
        item(&mut Json::new(&mut self.items));
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.start(None, None, out);
        self.end_item(out);
        let finish = self.finish.take().unwrap_or(Finish::Stop);
        let kind = match Status::of(&finish) {
            Status::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.whole(kind, Some(&finish), out);
    }

    fn event(&mut self, kind: &'static str, out: &mut Vec<u8>, members: impl FnOnce(&mut Json<'_>)) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let mut json = Json::new(out);
        json.open('{').member("type").plain(kind).member("sequence_number").whole(self.sequence);
        self.sequence += 1;
        members(&mut json);
        json.close('}');
        out.extend_from_slice(b"\n\n");
    }
}

/// Which item an event is of.
fn place<'j, 'o>(json: &'j mut Json<'o>, id: &str, at: u64) -> &'j mut Json<'o> {
    json.member("item_id").plain(id).member("output_index").whole(at)
}
