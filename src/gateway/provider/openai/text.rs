//! The text that an answer delivered, gathered so that it can be counted when
//! the upstream gives no usage.

use memchr::{memchr, memchr2, memmem};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::convert::Format;
use crate::gateway::facts::Endpoint;

/// Text kept of one answer, in bytes; what goes beyond is only measured.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Choices told apart; what claims a higher index joins the last.
const CHOICES_MAX: usize = 128;

/// The text of an answer so far, or of its first MiB.
#[derive(Debug, Default)]
pub struct Delivered {
    /// By the index of the choice, because their pieces come mixed.
    choices: Vec<Spoken>,
    shape: Shape,
    /// One choice was asked for: whatever comes is part of it, and no event has to be parsed.
    one_choice: bool,
    kept_bytes: usize,
    beyond_bytes: u64,
    /// Of a body that is not seen whole.
    begun: Option<Begun>,
}

/// How much of the beginning of a body is text, in bytes.
#[derive(Clone, Copy, Debug)]
struct Begun {
    text: u64,
    json: u64,
}

/// Where an answer keeps its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Chat,
    /// The older completions: a text for each choice.
    Completion,
    /// Typed events, and a list of what was made.
    Response,
    /// Typed events, and one text.
    Transcript,
    /// Anthropic's blocks and Gemini's parts: texts wherever they stand.
    Blocks,
}

#[derive(Deserialize)]
struct Made<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<Vec<&'a RawValue>>,
    /// What begins: of the call of a tool its name.
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
}

/// The text of one choice.
#[derive(Debug, Default)]
pub struct Spoken {
    /// Said, refused, and the arguments of tools.
    pub text: String,
    /// Names of the tools that were called, one to a line.
    pub names: String,
    /// Thought aloud (`reasoning_content`, `reasoning`).
    pub reasoning: String,
}

/// What a string of an answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Said,
    Named,
    Thought,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    choices: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: usize,
}

impl Delivered {
    /// Of an answer at this endpoint, of so many choices.
    pub fn of(format: Format, endpoint: Endpoint, choices: u32) -> Self {
        let shape = match endpoint {
            _ if matches!(format, Format::Anthropic | Format::Gemini) => Shape::Blocks,
            Endpoint::Completions => Shape::Completion,
            _ if format == Format::Responses => Shape::Response,
            Endpoint::Transcriptions => Shape::Transcript,
            _ => Shape::Chat,
        };
        Delivered { shape, one_choice: choices == 1, ..Delivered::default() }
    }

    /// Adds the text of an event or of a whole body; says how many bytes of
    /// text that was. Reads only the choices, and of them only strings that
    /// the model made. A body that ends in the middle counts as one choice.
    pub fn push(&mut self, json: &[u8]) -> usize {
        if matches!(self.shape, Shape::Response | Shape::Transcript) {
            return self.push_typed(json);
        }
        if self.shape == Shape::Blocks {
            return self.push_text(0, json);
        }
        const NAME: &[u8] = b"\"choices\"";
        let Some(from) = memmem::find(json, NAME) else { return 0 };
        if self.one_choice {
            return self.push_text(0, list(json.get(from + NAME.len()..).unwrap_or_default()));
        }
        match serde_json::from_slice::<Message<'_>>(json) {
            Ok(message) => message.choices.iter().map(|choice| self.push_choice(choice.get())).sum(),
            Err(_) => self.push_text(0, json.get(from..).unwrap_or_default()),
        }
    }

    /// Adds the text of the beginning of a whole body that goes on.
    pub fn begin(&mut self, json: &[u8]) {
        const OUTPUT: &[u8] = b"\"output\"";
        let text = match self.shape {
            // It says its request's settings again before it says anything of its own.
            Shape::Response => {
                let from = memmem::find(json, OUTPUT).map_or(json.len(), |at| at + OUTPUT.len());
                self.push_text(0, json.get(from..).unwrap_or_default())
            }
            _ => self.push(json),
        };
        self.begun = Some(Begun { text: text as u64, json: json.len() as u64 });
    }

    /// So many bytes more of that body: as much of them is taken for text as of its beginning.
    pub fn more(&mut self, bytes: usize) {
        if let Some(begun) = self.begun {
            let text = (bytes as u64).saturating_mul(begun.text).div_ceil(begun.json.max(1));
            self.beyond_bytes = self.beyond_bytes.saturating_add(text);
        }
    }

    fn push_choice(&mut self, choice: &str) -> usize {
        let index = serde_json::from_str::<Choice>(choice).map_or(0, |choice| choice.index);
        self.push_text(index.min(CHOICES_MAX - 1), choice.as_bytes())
    }

    fn push_text(&mut self, index: usize, json: &[u8]) -> usize {
        let mut added = 0;
        let objects: &[&[u8]] = if self.shape == Shape::Blocks { &[b"args", b"input"] } else { &[] };
        members(json, objects, |name, value| {
            let kind = match name {
                _ if matches!(value, Value::Object(_)) => Kind::Said,
                b"content" | b"refusal" | b"arguments" | b"transcript" => Kind::Said,
                b"name" => Kind::Named,
                b"text" if self.shape != Shape::Chat => Kind::Said,
                b"partial_json" if self.shape == Shape::Blocks => Kind::Said,
                b"thinking" if self.shape == Shape::Blocks => Kind::Thought,
                b"reasoning_content" | b"reasoning" => Kind::Thought,
                _ => return,
            };
            added += self.keep(index, kind, value);
        });
        added
    }

    /// An event with a piece of text, or a body with the list of what was made, or with one text.
    fn push_typed(&mut self, json: &[u8]) -> usize {
        let Ok(made) = serde_json::from_slice::<Made<'_>>(json) else {
            // A transcript that was asked for as plain text.
            return if self.shape == Shape::Transcript { self.keep_plain(json) } else { 0 };
        };
        let thought = made.kind.is_some_and(|kind| kind.get().contains("reasoning"));
        let kind = if thought { Kind::Thought } else { Kind::Said };
        let own = made.delta.or(made.text).map_or(0, |text| self.keep_text(kind, text));
        let begun = made.item.map_or(0, |item| self.push_text(0, item.get().as_bytes()));
        own + begun
            + made.output.iter().flatten().map(|item| self.push_text(0, item.get().as_bytes())).sum::<usize>()
    }

    fn keep_text(&mut self, kind: Kind, raw: &RawValue) -> usize {
        let text = raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        text.map_or(0, |text| self.keep(0, kind, Value::Text(text.as_bytes())))
    }

    fn keep_plain(&mut self, text: &[u8]) -> usize {
        let quoted = serde_json::to_string(&String::from_utf8_lossy(text)).unwrap_or_default();
        let text = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        self.keep(0, Kind::Said, Value::Text(text.as_bytes()))
    }

    /// Keeps a text, or the JSON of an object; says how many bytes it has.
    fn keep(&mut self, index: usize, kind: Kind, value: Value<'_>) -> usize {
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Spoken::default);
        }
        let Some(spoken) = self.choices.get_mut(index) else { return 0 };
        let room = KEPT_BYTES_MAX.saturating_sub(self.kept_bytes);
        let kept = match kind {
            Kind::Said => &mut spoken.text,
            Kind::Named => &mut spoken.names,
            Kind::Thought => &mut spoken.reasoning,
        };
        if kind == Kind::Named && !kept.is_empty() && room > 0 {
            kept.push('\n');
        }
        let before = kept.len();
        match value {
            Value::Text(escaped) => push_unescaped(escaped, kept),
            Value::Object(json) => kept.push_str(&String::from_utf8_lossy(json)),
        }
        let more = kept.len() - before;
        if more > room {
            kept.truncate(kept.floor_char_boundary(before + room));
        }
        let stays = kept.len() - before;
        self.kept_bytes += stays;
        self.beyond_bytes = self.beyond_bytes.saturating_add((more - stays) as u64);
        more
    }

    /// Nothing has been delivered.
    pub fn is_empty(&self) -> bool {
        self.kept_bytes == 0 && self.beyond_bytes == 0
    }

    /// The choices that have begun, by their index.
    pub fn choices(&self) -> &[Spoken] {
        &self.choices
    }

    /// Bytes of text kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Bytes of text beyond what is kept.
    pub fn beyond_bytes(&self) -> u64 {
        self.beyond_bytes
    }
}

/// The value of a member.
#[derive(Clone, Copy)]
enum Value<'a> {
    /// What stands between its quotes, still escaped.
    Text(&'a [u8]),
    Object(&'a [u8]),
}

/// Calls `visit` with each member whose value is a string, and with each of these names whose value is an object that
/// has something in it; what is in that is not visited.
fn members(json: &[u8], objects: &[&[u8]], mut visit: impl FnMut(&[u8], Value<'_>)) {
    let mut rest = json;
    while let Some((name, behind)) = next_string(rest) {
        rest = behind;
        // A string that no colon follows is a value of a list.
        let Some(value) = behind.trim_ascii_start().strip_prefix(b":") else { continue };
        let value = value.trim_ascii_start();
        match value.first() {
            Some(b'"') => {
                // What ends in the middle is the beginning of a longer body.
                let cut = || (value.get(1..).unwrap_or_default(), <&[u8]>::default());
                let (text, behind) = next_string(value).unwrap_or_else(cut);
                visit(name, Value::Text(text));
                rest = behind;
            }
            Some(b'{') if objects.contains(&name) => {
                let object = list(value);
                // An empty one stands where the arguments are yet to come.
                if !object.get(1..).unwrap_or_default().trim_ascii_start().starts_with(b"}") {
                    visit(name, Value::Object(object));
                }
                rest = value.get(object.len()..).unwrap_or_default();
            }
            _ => {}
        }
    }
}

/// The list, or object, at the beginning of `json`, up to its closing bracket or to the end of what is there.
fn list(json: &[u8]) -> &[u8] {
    let (mut rest, mut depth) = (json, 0_u32);
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'[' | b'{' | b']' | b'}')) {
        let behind = rest.get(at + 1..).unwrap_or_default();
        rest = match rest.get(at) {
            Some(b'"') => match next_string(rest) {
                Some((_, behind)) => behind,
                None => return json,
            },
            Some(b'[' | b'{') => {
                depth = depth.saturating_add(1);
                behind
            }
            _ if depth <= 1 => return json.get(..json.len() - behind.len()).unwrap_or(json),
            _ => {
                depth -= 1;
                behind
            }
        };
    }
    json
}

/// The next JSON string, without its quotes, and what follows it.
fn next_string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = memchr(b'"', json)? + 1;
    let mut at = start;
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        if json.get(at) == Some(&b'"') {
            return Some((json.get(start..at)?, json.get(at + 1..)?));
        }
        at += 2;
    }
}

fn push_unescaped(raw: &[u8], out: &mut String) {
    if memchr(b'\\', raw).is_none() {
        match std::str::from_utf8(raw) {
            Ok(text) => out.push_str(text),
            Err(_) => out.push_str(&String::from_utf8_lossy(raw)),
        }
        return;
    }
    let quoted = [b"\"", raw, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => out.push_str(&text),
        // Half of a surrogate pair, cut between two events: counted as it is.
        Err(_) => out.push_str(&String::from_utf8_lossy(raw)),
    }
}
