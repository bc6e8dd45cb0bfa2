//! Streams: each event is an answer with a piece of the text; the calls of functions come whole.

use ledger::Usage;

use super::super::conversation::{Part, ToolCall};
use super::super::json::Json;
use super::super::proof::{Proof, Prover};
use super::super::reply::{Envelope, Finish, Piece, ReplyFault};
use super::super::text::Text;
use super::answer::{
    Blob, Candidate, Wire, close_candidate, finish, open_candidate, tail, write_part, write_usage,
};

/// Arguments of calls that are gathered at a time, in bytes.
const ARGUMENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

type Tell<'t> = dyn FnMut(Piece<'_>) -> Result<(), ReplyFault> + 't;

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    /// How many tools each choice has called.
    calls: Vec<(u32, u32)>,
}

impl Reader {
    pub fn read(&mut self, data: &[u8], tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        let wire: Wire<'_> = serde_json::from_slice(data)?;
        if !std::mem::replace(&mut self.started, true) {
            tell(Piece::Start { id: wire.response_id, model: wire.model_version })?;
        }
        let blocked = wire.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some());
        if wire.candidates.is_empty() && blocked {
            tell(Piece::Finish { choice: 0, finish: Finish::Filtered })?;
        }
        // The usage goes first: nothing is told behind an end.
        if let Some(usage) = wire.usage_metadata.and_then(|usage| usage.usage()) {
            tell(Piece::Usage(usage))?;
        }
        for candidate in wire.candidates {
            self.candidate(candidate, tell)?;
        }
        Ok(())
    }

    fn candidate(&mut self, candidate: Candidate<'_>, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        let choice = candidate.index;
        for part in candidate.content.parts {
            if let Some(call) = part.function_call {
                let tool = self.next_tool(choice);
                let call = call.into_call(part.thought_signature);
                let json = Text::plain(&call.arguments);
                let ToolCall { id, name, signature, .. } = call;
                tell(Piece::ToolStart { choice, tool, id, name, signature })?;
                tell(Piece::ToolArguments { choice, tool, json })?;
                continue;
            }
            match part.inline_data.map(Blob::into_part) {
                Some(Part::Image(image)) => tell(Piece::Image { choice, image })?,
                Some(Part::Text(text)) => tell(Piece::Text { choice, text })?,
                _ => {}
            }
            if let Some(text) = part.text.filter(|text| !text.is_empty()) {
                tell(match part.thought {
                    true => Piece::Thinking { choice, text },
                    false => Piece::Text { choice, text },
                })?;
            }
            if let Some(signature) = part.thought_signature.filter(|_| part.thought) {
                tell(Piece::Signature { choice, signature: Proof::read(Prover::Gemini, signature).0 })?;
            }
        }
        let Some(reason) = candidate.finish_reason else { return Ok(()) };
        let calls = self.calls.iter().any(|(of, calls)| *of == choice && *calls > 0);
        tell(Piece::Finish { choice, finish: finish(&reason, calls)? })
    }

    fn next_tool(&mut self, choice: u32) -> u32 {
        match self.calls.iter_mut().find(|(of, _)| *of == choice) {
            Some((_, calls)) => {
                *calls += 1;
                *calls - 1
            }
            None => {
                self.calls.push((choice, 1));
                0
            }
        }
    }
}

/// A call whose arguments are still to come.
#[derive(Debug)]
struct Growing {
    choice: u32,
    tool: u32,
    id: Text<'static>,
    name: Text<'static>,
    signature: Option<Text<'static>>,
    /// Escaped, as the pieces came.
    arguments: String,
}

/// Writes the events of one stream.
#[derive(Debug)]
pub struct Writer {
    envelope: Envelope,
    id: Option<Text<'static>>,
    model: Option<Text<'static>>,
    growing: Vec<Growing>,
    finished: Vec<(u32, &'static str)>,
    usage: Option<Usage>,
    ended: bool,
}

impl Writer {
    pub fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            id: None,
            model: None,
            growing: Vec::new(),
            finished: Vec::new(),
            usage: None,
            ended: false,
        }
    }

    pub fn write(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) -> Result<(), ReplyFault> {
        match piece {
            Piece::Start { id, model } => {
                self.id = id.clone().map(Text::into_owned);
                self.model = model.clone().map(Text::into_owned);
                Ok(())
            }
            Piece::Text { choice, text } => self.part(*choice, &Part::Text(text.clone()), out),
            Piece::Thinking { choice, text } => {
                self.part(*choice, &Part::Thinking { text: text.clone(), signature: None }, out)
            }
            Piece::Signature { choice, signature } => {
                let (text, signature) = (Text::word(""), Some(signature.clone()));
                self.part(*choice, &Part::Thinking { text, signature }, out)
            }
            Piece::Redacted { .. } => Ok(()),
            Piece::Image { choice, image } => self.part(*choice, &Part::Image(image.clone()), out),
            Piece::ToolStart { choice, tool, id, name, signature } => {
                self.whole_calls(*choice, out)?;
                self.growing.push(Growing {
                    choice: *choice,
                    tool: *tool,
                    id: id.clone().into_owned(),
                    name: name.clone().into_owned(),
                    signature: signature.clone().map(Text::into_owned),
                    arguments: String::new(),
                });
                Ok(())
            }
            Piece::ToolArguments { choice, tool, json } => self.grow(*choice, *tool, json),
            Piece::Finish { choice, finish } => {
                self.whole_calls(*choice, out)?;
                self.finished.push((*choice, super::answer::reason(finish)));
                Ok(())
            }
            Piece::Usage(usage) => {
                self.usage = Some(*usage);
                Ok(())
            }
            Piece::End => {
                self.end(out);
                Ok(())
            }
        }
    }

    fn grow(&mut self, choice: u32, tool: u32, json: &Text<'_>) -> Result<(), ReplyFault> {
        let gathered: usize = self.growing.iter().map(|growing| growing.arguments.len()).sum();
        if gathered + json.escaped().len() > ARGUMENTS_BYTES_MAX {
            return Err(ReplyFault::new("arguments of a tool call that are too long to be made whole"));
        }
        let mine = |growing: &&mut Growing| growing.choice == choice && growing.tool == tool;
        let growing = self.growing.iter_mut().find(mine);
        let growing = growing.ok_or_else(|| ReplyFault::new("arguments of a tool that had ended"))?;
        growing.arguments.push_str(json.escaped());
        Ok(())
    }

    /// Writes the calls of a choice that have grown until now.
    fn whole_calls(&mut self, choice: u32, out: &mut Vec<u8>) -> Result<(), ReplyFault> {
        let ready: Vec<Growing> = self.growing.extract_if(.., |growing| growing.choice == choice).collect();
        for growing in ready {
            let Growing { id, name, signature, arguments, .. } = growing;
            let arguments: String = serde_json::from_str(&format!("\"{arguments}\""))?;
            let call = ToolCall { id, name, arguments: arguments.into(), signature };
            self.part(choice, &Part::ToolCall(call), out)?;
        }
        Ok(())
    }

    fn part(&self, choice: u32, part: &Part<'_>, out: &mut Vec<u8>) -> Result<(), ReplyFault> {
        let mut json = open(out);
        json.member("candidates").open('[');
        open_candidate(&mut json);
        let written = write_part(&mut json, part);
        close_candidate(&mut json, choice, None);
        json.close(']');
        self.close(json);
        out.extend_from_slice(b"\n\n");
        written
    }

    fn close(&self, mut json: Json<'_>) {
        tail(&mut json, self.id.as_ref(), self.model.as_ref(), &self.envelope);
        json.close('}');
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let mut json = open(out);
        json.member("candidates").open('[');
        for (choice, reason) in &self.finished {
            json.open('{').member("content").open('{').member("parts").open('[').open('{');
            json.member("text").plain("").close('}').close(']').member("role").plain("model").close('}');
            json.member("finishReason").plain(reason).member("index").whole((*choice).into()).close('}');
        }
        json.close(']');
        if let Some(usage) = &self.usage {
            write_usage(json.member("usageMetadata"), usage);
        }
        self.close(json);
        out.extend_from_slice(b"\n\n");
    }
}

fn open(out: &mut Vec<u8>) -> Json<'_> {
    out.extend_from_slice(b"data: ");
    let mut json = Json::new(out);
    json.open('{');
    json
}
