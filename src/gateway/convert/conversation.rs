//! One conversation, whatever format it came in: who says what, which tools there are, and how the answer is to be.
//!
//! Neighbours of the same role are one turn, so that a conversation has one shape. Texts are those of the body
//! that was read, still escaped.

use serde_json::Number;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::Format;
use super::proof::Proof;
pub use super::setting::Setting;
use super::text::Text;
pub use super::thinking::{Effort, Thinking, Verbosity};

/// A conversation that is to be answered.
#[derive(Debug)]
pub struct Conversation<'a> {
    /// In whose words a fault is told.
    pub origin: Format,
    pub system: Vec<Text<'a>>,
    /// After which of them the provider is to keep what it has read, where its clients say so.
    pub system_cached: Marks,
    pub turns: Vec<Turn<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether several tools may be called at once; `None`: as the model does.
    pub parallel_tools: Option<bool>,
    pub shape: Shape<'a>,
    pub thinking: Option<Thinking>,
    pub verbosity: Option<Verbosity>,
    pub sampling: Sampling<'a>,
    /// The client's own cap on output tokens.
    pub output_cap: Option<u32>,
    /// The client's name for whom it asks.
    pub user: Option<Text<'a>>,
}

/// Indices of what is marked.
pub type Marks = SmallVec<[usize; 2]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    /// Instructions in the midst of a conversation; those before it are its `system`.
    System,
}

#[derive(Clone, Debug)]
pub struct Turn<'a> {
    pub role: Role,
    pub parts: Vec<Part<'a>>,
    /// The client's messages that are in it: with which part each begins, and its index.
    pub messages: SmallVec<[(usize, usize); 1]>,
    /// After which parts the provider is to keep what it has read.
    pub cached: Marks,
}

impl<'a> Turn<'a> {
    pub fn new(role: Role, parts: Vec<Part<'a>>) -> Self {
        Self { role, parts, messages: SmallVec::new(), cached: Marks::new() }
    }

    /// Puts pictures of the answer before in front of what is said, but behind results of tools, which always come first.
    fn show(&mut self, pictures: Vec<Part<'a>>) {
        let results = self.parts.iter().rposition(|part| matches!(part, Part::ToolResult(_)));
        let at = results.map_or(0, |last| last + 1);
        let title = Part::Text(Text::word("[pictures of the answer before]"));
        let more = pictures.len() + 1;
        self.parts.splice(at..at, std::iter::once(title).chain(pictures));
        self.cached.iter_mut().filter(|mark| **mark >= at).for_each(|mark| *mark += more);
        self.messages.iter_mut().filter(|(begin, _)| *begin > at).for_each(|(begin, _)| *begin += more);
    }

    /// Index of the client's message that a part of this turn came in.
    pub fn message_of(&self, part: &Part<'_>) -> usize {
        let is_it = |known: &Part<'_>| {
            let inside = if let Part::ToolResult(result) = known { result.content.as_slice() } else { &[] };
            std::iter::once(known).chain(inside).any(|known| std::ptr::eq(known, part))
        };
        let at = self.parts.iter().position(is_it).unwrap_or(0);
        let before = self.messages.iter().rev().find(|(begin, _)| *begin <= at);
        before.map_or(0, |(_, message)| *message)
    }
}

impl PartialEq for Turn<'_> {
    /// Where it stood does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.role == other.role && self.parts == other.parts
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Part<'a> {
    Text(Text<'a>),
    Image(Image<'a>),
    /// A recording of the user's, in base64.
    Sound {
        media_type: Text<'a>,
        data: Text<'a>,
    },
    /// Thought aloud; the signature is the provider's proof that it did.
    Thinking {
        text: Text<'a>,
        signature: Option<Proof<'a>>,
    },
    /// Thought that the provider alone can read.
    Redacted(Proof<'a>),
    ToolCall(ToolCall<'a>),
    ToolResult(ToolResult<'a>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Image<'a> {
    /// Base64.
    Inline {
        media_type: Text<'a>,
        data: Text<'a>,
    },
    Url(Text<'a>),
}

impl Image<'_> {
    pub fn into_owned(self) -> Image<'static> {
        match self {
            Image::Inline { media_type, data } => {
                Image::Inline { media_type: media_type.into_owned(), data: data.into_owned() }
            }
            Image::Url(url) => Image::Url(url.into_owned()),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall<'a> {
    pub id: Text<'a>,
    pub name: Text<'a>,
    /// JSON, unescaped.
    pub arguments: std::borrow::Cow<'a, str>,
    /// Gemini's proof of the thought behind the call.
    pub signature: Option<Text<'a>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult<'a> {
    /// Of the call.
    pub id: Text<'a>,
    /// Texts and images.
    pub content: Vec<Part<'a>>,
    pub is_error: bool,
}

#[derive(Clone, Debug)]
pub struct Tool<'a> {
    pub name: Text<'a>,
    pub description: Option<Text<'a>>,
    /// JSON Schema.
    pub parameters: Option<std::borrow::Cow<'a, str>>,
    /// The model must keep to the schema.
    pub strict: Option<bool>,
    /// The provider is to keep what it has read up to here.
    pub cached: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice<'a> {
    Auto,
    None,
    Any,
    Named(Text<'a>),
}

/// What the answer must look like.
#[derive(Clone, Debug, Default)]
pub enum Shape<'a> {
    #[default]
    Text,
    Json,
    /// JSON after a schema.
    Schema {
        name: Option<Text<'a>>,
        schema: std::borrow::Cow<'a, str>,
        strict: Option<bool>,
    },
}

/// How tokens are chosen, and when to stop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling<'a> {
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    pub top_k: Option<Number>,
    pub frequency_penalty: Option<Number>,
    pub presence_penalty: Option<Number>,
    pub seed: Option<Number>,
    pub stop: Vec<Text<'a>>,
    /// How many answers, if more than one.
    pub choices: Option<u32>,
}

impl<'a> Conversation<'a> {
    pub fn new(origin: Format) -> Self {
        Self {
            origin,
            system: Vec::new(),
            system_cached: Marks::new(),
            turns: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tools: None,
            shape: Shape::Text,
            thinking: None,
            verbosity: None,
            sampling: Sampling::default(),
            output_cap: None,
            user: None,
        }
    }

    /// Lets somebody say something; it joins the turn before if that is theirs too.
    pub fn say(&mut self, role: Role, at: usize, parts: impl IntoIterator<Item = Part<'a>>) {
        if self.turns.last().is_none_or(|turn| turn.role != role) {
            self.turns.push(Turn::new(role, Vec::new()));
        }
        if let Some(turn) = self.turns.last_mut() {
            turn.messages.push((turn.parts.len(), at));
            turn.parts.extend(parts);
        }
    }

    /// Instructions, texts alone: before all else, or where the conversation has come to.
    pub fn instruct(&mut self, at: usize, parts: Vec<Part<'a>>, marks: Marks) {
        if !self.turns.is_empty() {
            return self.say_marked(Role::System, at, (parts, marks));
        }
        let begin = self.system.len();
        self.system_cached.extend(marks.into_iter().map(|mark| begin + mark));
        let texts =
            parts.into_iter().filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
        self.system.extend(texts);
    }

    /// Moves instructions in the midst of the conversation before all else, and says whether there were any. What was said
    /// around them is one turn, if one side said it.
    pub fn instruct_first(&mut self) -> bool {
        if self.turns.iter().all(|turn| turn.role != Role::System) {
            return false;
        }
        for turn in std::mem::take(&mut self.turns) {
            let Turn { role, parts, messages, cached } = turn;
            if role == Role::System {
                let begin = self.system.len();
                self.system_cached.extend(cached.into_iter().map(|mark| begin + mark));
                self.system.extend(parts.into_iter().filter_map(|part| match part {
                    Part::Text(text) => Some(text),
                    _ => None,
                }));
                continue;
            }
            match self.turns.last_mut().filter(|last| last.role == role) {
                None => self.turns.push(Turn { role, parts, messages, cached }),
                Some(last) => {
                    let begin = last.parts.len();
                    last.messages.extend(messages.into_iter().map(|(at, message)| (begin + at, message)));
                    last.cached.extend(cached.into_iter().map(|mark| begin + mark));
                    last.parts.extend(parts);
                }
            }
        }
        true
    }

    /// Moves the pictures of answers into what the user says next, behind a text that says what they are, and leaves a text
    /// in their place: no provider but Gemini takes a picture of the assistant's back.
    pub fn show_answers_pictures(&mut self) {
        let mut shown = Vec::new();
        for turn in &mut self.turns {
            if turn.role == Role::Assistant {
                for part in &mut turn.parts {
                    if matches!(part, Part::Image(_)) {
                        let instead = Part::Text(Text::word("[the picture is in the next message]"));
                        shown.push(std::mem::replace(part, instead));
                    }
                }
            } else if turn.role == Role::User && !shown.is_empty() {
                turn.show(std::mem::take(&mut shown));
            }
        }
        if !shown.is_empty() {
            let mut last = Turn::new(Role::User, Vec::new());
            last.show(shown);
            self.turns.push(last);
        }
    }

    /// As `say`, of parts of which some are marked.
    pub fn say_marked(&mut self, role: Role, at: usize, (parts, marks): (Vec<Part<'a>>, Marks)) {
        self.say(role, at, parts);
        if let Some(turn) = self.turns.last_mut() {
            let begin = turn.messages.last().map_or(0, |(begin, _)| *begin);
            turn.cached.extend(marks.into_iter().map(|mark| begin + mark));
        }
    }

    /// How many marks there are for a cache: after tools, instructions, and what was said.
    pub fn marks(&self) -> [usize; 3] {
        let tools = self.tools.iter().filter(|tool| tool.cached).count();
        [tools, self.system_cached.len(), self.turns.iter().map(|turn| turn.cached.len()).sum()]
    }
}

/// An object as JSON text, or nothing if the text is no object.
pub fn as_object(json: &str) -> Option<&str> {
    let raw = serde_json::from_str::<&RawValue>(json).ok()?;
    raw.get().starts_with('{').then(|| raw.get())
}
