//! The calls of tools in a stream, between its reader and its writer.
//!
//! Promises: a writer has one call at a time, whole, however the upstream mixed their pieces: what comes of another
//! while one grows waits until that one is a whole object, or the answer ends. A call whose upstream told no arguments
//! is told with none, `{}`, as a whole answer tells it, and one without a name of its own gets a name that no other
//! answer has. A client that wants one call at a time gets the first of those that are made at once; the model makes the
//! next one when it has seen the result.

use std::collections::{BTreeMap, VecDeque};

use super::conversation::{Image, Part};
use super::reply::{Piece, Reply, ReplyFault};
use super::text::Text;

/// What waits for the end of a call is at most so long, in bytes.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// No request asks for more.
const CHOICES_MAX: usize = 128;
/// What a piece that waits takes at the least, in bytes.
const PIECE_BYTES_MIN: usize = 64;

type Tell<'t> = dyn FnMut(&Piece<'_>) -> Result<(), ReplyFault> + 't;

/// The name of a call whose upstream gave none. `request`: the id of the request, so that no two answers of a
/// conversation name their calls alike.
pub fn call_id(request: &str, number: usize) -> Text<'static> {
    Text::plain(&format!("call_{}_{number}", request.strip_prefix("req_").unwrap_or(request)))
}

/// Names the calls of a whole answer whose upstream gave them no name.
pub fn name_calls(reply: &mut Reply<'_>, request: &str) {
    for choice in &mut reply.choices {
        let calls = choice.parts.iter_mut().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        });
        for (number, call) in calls.enumerate().filter(|(_, call)| call.id.is_empty()) {
            call.id = call_id(request, number);
        }
    }
}

/// Keeps the first call of each choice, for a client that wants one at a time.
pub fn keep_one(reply: &mut Reply<'_>) {
    for choice in &mut reply.choices {
        let mut calls = 0;
        choice.parts.retain(|part| {
            calls += usize::from(matches!(part, Part::ToolCall(_)));
            calls < 2 || !matches!(part, Part::ToolCall(_))
        });
    }
}

/// Puts the calls of one stream in order.
#[derive(Debug)]
pub struct Calls {
    request: Box<str>,
    /// No call but the first is told.
    one: bool,
    choices: BTreeMap<u32, Choice>,
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Choice {
    number: u32,
    /// The last call that was told.
    open: Option<Open>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Open {
    tool: u32,
    arguments: Arguments,
}

#[derive(Debug)]
enum Waiting {
    Call { tool: u32, start: Piece<'static>, arguments: String },
    Other(Piece<'static>),
}

impl Calls {
    pub fn new(request: &str, one: bool) -> Self {
        Self { request: request.into(), one, choices: BTreeMap::new(), waiting_bytes: 0 }
    }

    /// Takes a piece, and tells those that may be told.
    pub fn pass(&mut self, piece: Piece<'_>, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        match piece {
            Piece::ToolStart { tool, .. } | Piece::ToolArguments { tool, .. } if self.one && tool > 0 => {
                Ok(())
            }
            Piece::Start { .. } | Piece::Usage(_) => tell(&piece),
            Piece::End => {
                self.waiting_bytes = 0;
                self.choices.values_mut().try_for_each(|choice| choice.end(tell))?;
                tell(&piece)
            }
            Piece::Finish { choice, .. } => {
                self.choice(choice)?.end(tell)?;
                tell(&piece)
            }
            Piece::ToolStart { choice, tool, id, name, signature } => {
                let number = usize::try_from(tool).unwrap_or(usize::MAX);
                let id = if id.is_empty() { call_id(&self.request, number) } else { id };
                let start = Piece::ToolStart { choice, tool, id, name, signature };
                if !self.choice(choice)?.is_busy() {
                    self.choice(choice)?.open = Some(Open { tool, arguments: Arguments::default() });
                    return tell(&start);
                }
                self.grow(start.size())?;
                let call = Waiting::Call { tool, start: start.into_owned(), arguments: String::new() };
                self.choice(choice)?.waiting.push_back(call);
                Ok(())
            }
            Piece::ToolArguments { choice, tool, json } => self.arguments(choice, tool, json, tell),
            Piece::Text { choice, .. }
            | Piece::Thinking { choice, .. }
            | Piece::Signature { choice, .. }
            | Piece::Redacted { choice, .. }
            | Piece::Image { choice, .. } => {
                if !self.choice(choice)?.is_busy() {
                    self.choice(choice)?.open = None;
                    return tell(&piece);
                }
                self.grow(piece.size())?;
                self.choice(choice)?.waiting.push_back(Waiting::Other(piece.into_owned()));
                Ok(())
            }
        }
    }

    fn arguments(
        &mut self,
        choice: u32,
        tool: u32,
        json: Text<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), ReplyFault> {
        let this = self.choice(choice)?;
        if let Some(open) = this.open.as_mut().filter(|open| open.tool == tool) {
            open.arguments.push(json.escaped());
            tell(&Piece::ToolArguments { choice, tool, json })?;
            return this.release(tell);
        }
        let waits = this.waiting.iter_mut().find_map(|waiting| match waiting {
            Waiting::Call { tool: of, arguments, .. } if *of == tool => Some(arguments),
            _ => None,
        });
        match waits {
            Some(arguments) => arguments.push_str(json.escaped()),
            None if Arguments::of(json.escaped()).begun => {
                return Err(ReplyFault::new("arguments of a tool that had ended"));
            }
            None => {}
        }
        self.grow(json.escaped().len())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ReplyFault> {
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        if self.waiting_bytes > WAITING_BYTES_MAX {
            return Err(ReplyFault::new(
                "calls of tools whose arguments are mixed and too long to be put in order",
            ));
        }
        Ok(())
    }

    fn choice(&mut self, number: u32) -> Result<&mut Choice, ReplyFault> {
        if self.choices.len() >= CHOICES_MAX && !self.choices.contains_key(&number) {
            return Err(ReplyFault::new("more choices than anybody can ask for"));
        }
        let new = || Choice { number, open: None, waiting: VecDeque::new() };
        Ok(self.choices.entry(number).or_insert_with(new))
    }
}

impl Choice {
    /// A call grows, so that nothing else can be told.
    fn is_busy(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.arguments.is_whole())
    }

    /// Tells what waited, as far as the call that is open lets it.
    fn release(&mut self, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        while !self.is_busy()
            && let Some(next) = self.waiting.pop_front()
        {
            self.next(next, tell)?;
        }
        Ok(())
    }

    fn next(&mut self, next: Waiting, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        let (tool, start, escaped) = match next {
            Waiting::Other(piece) => {
                self.open = None;
                return tell(&piece);
            }
            Waiting::Call { tool, start, arguments } => (tool, start, arguments),
        };
        tell(&start)?;
        self.open = Some(Open { tool, arguments: Arguments::of(&escaped) });
        if escaped.is_empty() {
            return Ok(());
        }
        tell(&Piece::ToolArguments { choice: self.number, tool, json: Text::of_escaped(escaped) })
    }

    /// Nothing more comes of it.
    fn end(&mut self, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        self.end_open(tell)?;
        while let Some(next) = self.waiting.pop_front() {
            self.next(next, tell)?;
            self.end_open(tell)?;
        }
        Ok(())
    }

    fn end_open(&mut self, tell: &mut Tell<'_>) -> Result<(), ReplyFault> {
        match self.open.take() {
            Some(Open { tool, arguments }) if !arguments.begun => {
                tell(&Piece::ToolArguments { choice: self.number, tool, json: Text::word("{}") })
            }
            _ => Ok(()),
        }
    }
}

impl Piece<'_> {
    /// What it takes while it waits, about, in bytes.
    fn size(&self) -> usize {
        PIECE_BYTES_MIN
            + match self {
                Piece::Text { text, .. } | Piece::Thinking { text, .. } => text.escaped().len(),
                Piece::Signature { signature: proof, .. } | Piece::Redacted { data: proof, .. } => {
                    proof.text.escaped().len()
                }
                Piece::Image { image: Image::Inline { data: text, .. } | Image::Url(text), .. } => {
                    text.escaped().len()
                }
                Piece::ToolStart { id, name, signature, .. } => {
                    let signature = signature.as_ref().map_or(0, |text| text.escaped().len());
                    id.escaped().len() + name.escaped().len() + signature
                }
                _ => 0,
            }
    }
}

/// How far the arguments of a call are: whole once the object that they are has been closed.
#[derive(Debug, Default)]
struct Arguments {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Something other than blanks has come.
    begun: bool,
    /// An object was opened, and closed again.
    closed: bool,
}

impl Arguments {
    fn of(escaped: &str) -> Self {
        let mut arguments = Self::default();
        arguments.push(escaped);
        arguments
    }

    fn is_whole(&self) -> bool {
        self.closed
    }

    /// Takes more of them, as they stand in the JSON around them.
    fn push(&mut self, escaped: &str) {
        let mut rest = escaped.as_bytes();
        while let Some((byte, behind)) = meant(rest) {
            rest = behind;
            self.take(byte);
        }
    }

    fn take(&mut self, byte: u8) {
        self.begun |= !byte.is_ascii_whitespace();
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.closed |= self.depth == 0;
            }
            _ => {}
        }
    }
}

/// The first byte that an escaped text means, and what stands behind it; for what is not ASCII, any that is no sign.
fn meant(escaped: &[u8]) -> Option<(u8, &[u8])> {
    match escaped {
        [b'\\', b'u', rest @ ..] => {
            let (digits, behind) = rest.split_at_checked(4).unwrap_or((rest, &[]));
            let code =
                std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let byte = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(b'x');
            Some((byte, behind))
        }
        [b'\\', b'n' | b'r' | b't', rest @ ..] => Some((b' ', rest)),
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(tool: u32, id: &'static str) -> Piece<'static> {
        Piece::ToolStart { choice: 0, tool, id: Text::word(id), name: Text::word("f"), signature: None }
    }

    fn arguments(tool: u32, json: &str) -> Piece<'static> {
        Piece::ToolArguments { choice: 0, tool, json: Text::plain(json) }
    }

    /// What comes out, a word for each piece.
    fn told(pieces: Vec<Piece<'static>>) -> Result<String, ReplyFault> {
        told_of(pieces, false)
    }

    fn told_of(pieces: Vec<Piece<'static>>, one: bool) -> Result<String, ReplyFault> {
        let (mut calls, mut said) = (Calls::new("req_7", one), String::new());
        for piece in pieces {
            calls.pass(piece, &mut |piece| {
                said.push_str(&match piece {
                    Piece::ToolStart { tool, id, .. } => format!("+{tool}={} ", id.escaped()),
                    Piece::ToolArguments { tool, json, .. } => format!("{tool}:{} ", json.unescaped()),
                    Piece::Text { text, .. } => format!("{} ", text.escaped()),
                    _ => "end ".to_owned(),
                });
                Ok(())
            })?;
        }
        Ok(said)
    }

    #[test]
    fn calls_come_one_behind_the_other_however_they_are_mixed() {
        let mixed = vec![
            start(0, "a"),
            arguments(0, "{\"q\":\"}"),
            start(1, "b"),
            arguments(1, "{\"r\""),
            arguments(0, "\\\"\"}"),
            arguments(1, ":{}}"),
            start(2, "c"),
            Piece::Text { choice: 0, text: Text::word("so") },
            Piece::End,
        ];
        assert_eq!(
            told(mixed).unwrap(),
            "+0=a 0:{\"q\":\"} 0:\\\"\"} +1=b 1:{\"r\" 1::{}} +2=c 2:{} so end "
        );
    }

    #[test]
    fn a_call_without_arguments_has_none_and_one_without_a_name_gets_one() {
        let bare = vec![start(0, ""), start(1, "b"), arguments(1, " "), start(2, ""), Piece::End];
        assert_eq!(told(bare).unwrap(), "+0=call_7_0 0:{} +1=b 1:  1:{} +2=call_7_2 2:{} end ");
    }

    #[test]
    fn who_wants_one_call_at_a_time_gets_the_first() {
        let pieces = vec![
            start(0, "a"),
            arguments(0, "{}"),
            start(1, "b"),
            arguments(1, "{}"),
            Piece::Text { choice: 0, text: Text::word("so") },
            Piece::End,
        ];
        assert_eq!(told_of(pieces, true).unwrap(), "+0=a 0:{} so end ");
    }

    #[test]
    fn what_waits_is_bounded_and_what_has_ended_stays_ended() {
        let long = "x".repeat(WAITING_BYTES_MAX);
        assert!(told(vec![start(0, "a"), start(1, "b"), arguments(1, &long)]).is_err());
        let late = vec![start(0, "a"), arguments(0, "{}"), start(1, "b"), arguments(0, "1")];
        assert!(told(late).is_err());
        assert_eq!(
            told(vec![start(0, "a"), arguments(0, "{}"), start(1, "b"), arguments(0, "\n")]).unwrap(),
            "+0=a 0:{} +1=b "
        );
    }

    #[test]
    fn arguments_are_whole_when_their_object_is_closed() {
        for (escaped, whole) in [
            (r#"{}"#, true),
            (r#"{\"a\":\"}\""#, false),
            (r#"{\"a\":\"}\"}"#, true),
            (r#"{\"a\":\"\\\"}"#, false),
            (r#"\u007b\u0022\ud83d\u0022:1\u007d"#, true),
            (r#"{\"a\":[{}]"#, false),
            (r#"\n"#, false),
        ] {
            assert_eq!(Arguments::of(escaped).is_whole(), whole, "{escaped}");
        }
    }
}
