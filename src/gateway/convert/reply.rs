//! One answer, whatever format it came in: whole, or as the pieces of a stream.

use ledger::Usage;

use super::conversation::{Image, Part};
use super::proof::Proof;
use super::text::Text;

/// A whole answer.
#[derive(Debug, Default)]
pub struct Reply<'a> {
    pub id: Option<Text<'a>>,
    pub model: Option<Text<'a>>,
    pub choices: Vec<Choice<'a>>,
    pub usage: Option<Usage>,
}

/// One of the answers of a whole.
#[derive(Debug, PartialEq)]
pub struct Choice<'a> {
    pub index: u32,
    pub parts: Vec<Part<'a>>,
    pub finish: Finish<'a>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish<'a> {
    /// The model had said all.
    Stop,
    /// It came to a text at which it was to stop; OpenAI and Gemini do not say so.
    StopSequence(Text<'a>),
    Length,
    ToolCalls,
    /// The provider or the model refused.
    Filtered,
    Other,
}

impl Finish<'_> {
    pub fn into_owned(self) -> Finish<'static> {
        match self {
            Finish::StopSequence(text) => Finish::StopSequence(text.into_owned()),
            Finish::Stop => Finish::Stop,
            Finish::Length => Finish::Length,
            Finish::ToolCalls => Finish::ToolCalls,
            Finish::Filtered => Finish::Filtered,
            Finish::Other => Finish::Other,
        }
    }
}

/// A piece of a stream. A tool is told by its number in its choice, from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece<'a> {
    Start {
        id: Option<Text<'a>>,
        model: Option<Text<'a>>,
    },
    Text {
        choice: u32,
        text: Text<'a>,
    },
    Thinking {
        choice: u32,
        text: Text<'a>,
    },
    /// Belongs to the thinking before it.
    Signature {
        choice: u32,
        signature: Proof<'a>,
    },
    Redacted {
        choice: u32,
        data: Proof<'a>,
    },
    Image {
        choice: u32,
        image: Image<'a>,
    },
    ToolStart {
        choice: u32,
        tool: u32,
        /// Empty where the upstream gave none.
        id: Text<'a>,
        name: Text<'a>,
        signature: Option<Text<'a>>,
    },
    /// More of the arguments' JSON.
    ToolArguments {
        choice: u32,
        tool: u32,
        json: Text<'a>,
    },
    Finish {
        choice: u32,
        finish: Finish<'a>,
    },
    /// The usage so far.
    Usage(Usage),
    End,
}

impl Piece<'_> {
    pub fn into_owned(self) -> Piece<'static> {
        match self {
            Piece::Start { id, model } => {
                Piece::Start { id: id.map(Text::into_owned), model: model.map(Text::into_owned) }
            }
            Piece::Text { choice, text } => Piece::Text { choice, text: text.into_owned() },
            Piece::Thinking { choice, text } => Piece::Thinking { choice, text: text.into_owned() },
            Piece::Signature { choice, signature } => {
                Piece::Signature { choice, signature: signature.into_owned() }
            }
            Piece::Redacted { choice, data } => Piece::Redacted { choice, data: data.into_owned() },
            Piece::Image { choice, image } => Piece::Image { choice, image: image.into_owned() },
            Piece::ToolStart { choice, tool, id, name, signature } => Piece::ToolStart {
                choice,
                tool,
                id: id.into_owned(),
                name: name.into_owned(),
                signature: signature.map(Text::into_owned),
            },
            Piece::ToolArguments { choice, tool, json } => {
                Piece::ToolArguments { choice, tool, json: json.into_owned() }
            }
            Piece::Finish { choice, finish } => Piece::Finish { choice, finish: finish.into_owned() },
            Piece::Usage(usage) => Piece::Usage(usage),
            Piece::End => Piece::End,
        }
    }
}

/// What stands for something in an answer that the client's format has no place for. Nothing is dropped in silence.
pub fn unsaid(media_type: &Text<'_>) -> Text<'static> {
    let of = media_type.unescaped();
    Text::plain(&format!("[The model answered with data ({of}) that this format has no place for.]"))
}

/// The same for a picture.
pub fn unsaid_image(image: &Image<'_>) -> Text<'static> {
    match image {
        Image::Inline { media_type, .. } => unsaid(media_type),
        Image::Url(_) => unsaid(&Text::word("a picture")),
    }
}

/// What an answer is wrapped in that is not the upstream's.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The model where the upstream names none.
    pub model: Box<str>,
    /// The answer's id where the upstream gives none.
    pub id: Box<str>,
    /// Seconds since 1970.
    pub created_s: i64,
    /// The client asked for the usage of an OpenAI stream.
    pub include_usage: bool,
    /// Members of the request that a response tells again; empty in other formats.
    pub echo: Box<str>,
    /// What was counted of a whole answer, for one whose upstream tells no usage that is believed.
    pub counted: Option<Usage>,
    /// Of calls that are made at once the first alone is told: the client wants one at a time, and the provider cannot be
    /// told so.
    pub one_call: bool,
}

/// An upstream's event or body is not what its format says. For operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyFault(pub Box<str>);

impl ReplyFault {
    pub fn new(what: impl Into<Box<str>>) -> Self {
        Self(what.into())
    }
}

impl From<serde_json::Error> for ReplyFault {
    fn from(why: serde_json::Error) -> Self {
        Self::new(format!("not what the format says at line {}, column {}", why.line(), why.column()))
    }
}

impl std::fmt::Display for ReplyFault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the upstream's answer cannot be converted: {}", self.0)
    }
}

impl std::error::Error for ReplyFault {}
