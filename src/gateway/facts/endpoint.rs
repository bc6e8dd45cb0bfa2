//! The addresses at which calls are made.

use ledger::Unit;

use crate::gateway::convert::Format;

/// The data plane's addresses, as the contract lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Endpoint {
    ChatCompletions = 1,
    Models = 2,
    Completions = 3,
    Responses = 4,
    /// Anthropic's.
    Messages = 5,
    Embeddings = 6,
    ImageGenerations = 7,
    ImageEdits = 8,
    Speech = 9,
    Transcriptions = 10,
    Moderations = 11,
    Rerank = 12,
    Videos = 13,
    /// Gemini's.
    GenerateContent = 14,
    /// The same as a stream of events.
    StreamGenerateContent = 15,
    /// Pictures as tasks.
    Images = 16,
    /// Anthropic's count of the tokens of messages.
    CountMessages = 17,
    /// Gemini's count of the tokens of contents.
    CountContents = 18,
}

impl Endpoint {
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| *endpoint as u8 == code)
    }

    pub const ALL: [Endpoint; 18] = [
        Endpoint::ChatCompletions,
        Endpoint::Models,
        Endpoint::Completions,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::Embeddings,
        Endpoint::ImageGenerations,
        Endpoint::ImageEdits,
        Endpoint::Speech,
        Endpoint::Transcriptions,
        Endpoint::Moderations,
        Endpoint::Rerank,
        Endpoint::Videos,
        Endpoint::GenerateContent,
        Endpoint::StreamGenerateContent,
        Endpoint::Images,
        Endpoint::CountMessages,
        Endpoint::CountContents,
    ];

    /// Path below the version segment; where the model stands in it, what is asked of the model.
    pub fn path(self) -> &'static str {
        self.upstream_path().trim_start_matches('/')
    }

    /// The same as upstreams of the format have it below their base URL.
    pub const fn upstream_path(self) -> &'static str {
        match self {
            Endpoint::ChatCompletions => "/chat/completions",
            Endpoint::Models => "/models",
            Endpoint::Completions => "/completions",
            Endpoint::Responses => "/responses",
            Endpoint::Messages => "/messages",
            Endpoint::Embeddings => "/embeddings",
            Endpoint::ImageGenerations => "/images/generations",
            Endpoint::ImageEdits => "/images/edits",
            Endpoint::Speech => "/audio/speech",
            Endpoint::Transcriptions => "/audio/transcriptions",
            Endpoint::Moderations => "/moderations",
            Endpoint::Rerank => "/rerank",
            Endpoint::Videos => "/videos",
            Endpoint::Images => "/images",
            Endpoint::GenerateContent => "/generateContent",
            Endpoint::StreamGenerateContent => "/streamGenerateContent",
            Endpoint::CountMessages => "/messages/count_tokens",
            Endpoint::CountContents => "/countTokens",
        }
    }

    /// Request type as the log names it.
    pub fn request_type(self) -> &'static str {
        match self {
            Endpoint::ChatCompletions
            | Endpoint::Messages
            | Endpoint::GenerateContent
            | Endpoint::StreamGenerateContent => "chat",
            Endpoint::Models => "models",
            Endpoint::Completions => "completion",
            Endpoint::Responses => "response",
            Endpoint::Embeddings => "embedding",
            Endpoint::ImageGenerations | Endpoint::ImageEdits | Endpoint::Images => "image",
            Endpoint::Speech => "speech",
            Endpoint::Transcriptions => "transcription",
            Endpoint::Moderations => "moderation",
            Endpoint::Rerank => "rerank",
            Endpoint::Videos => "video",
            Endpoint::CountMessages | Endpoint::CountContents => "count",
        }
    }

    /// The format of its bodies, where a chat can be converted from it.
    pub const fn format(self) -> Option<Format> {
        match self {
            Endpoint::ChatCompletions => Some(Format::OpenAi),
            Endpoint::Messages | Endpoint::CountMessages => Some(Format::Anthropic),
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent | Endpoint::CountContents => {
                Some(Format::Gemini)
            }
            Endpoint::Responses => Some(Format::Responses),
            _ => None,
        }
    }

    /// How the length of its answers is bounded.
    pub const fn output(self) -> Output {
        match self {
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::GenerateContent
            | Endpoint::StreamGenerateContent => Output::Capped,
            Endpoint::ImageGenerations
            | Endpoint::ImageEdits
            | Endpoint::Images
            | Endpoint::Speech
            | Endpoint::Transcriptions => Output::UpToTheModel,
            Endpoint::Models
            | Endpoint::Embeddings
            | Endpoint::Moderations
            | Endpoint::Rerank
            | Endpoint::Videos
            | Endpoint::CountMessages
            | Endpoint::CountContents => Output::None,
        }
    }

    /// Whether tokens are counted and nothing is made of them, which costs nothing.
    pub const fn is_count(self) -> bool {
        matches!(self, Endpoint::CountMessages | Endpoint::CountContents)
    }

    /// The call that a count is of, else the endpoint itself: whoever may make that call may count it, too.
    pub const fn called(self) -> Endpoint {
        match self {
            Endpoint::CountMessages => Endpoint::Messages,
            Endpoint::CountContents => Endpoint::GenerateContent,
            other => other,
        }
    }

    /// Whether what is asked for is made in the background.
    pub const fn is_task(self) -> bool {
        matches!(self, Endpoint::Videos | Endpoint::Images)
    }

    /// Whether its bodies are forms with files.
    pub const fn takes_form(self) -> bool {
        matches!(self, Endpoint::ImageEdits | Endpoint::Transcriptions)
    }

    /// What is counted of its calls beside tokens.
    pub const fn unit(self) -> Option<Unit> {
        match self {
            Endpoint::ImageGenerations | Endpoint::ImageEdits | Endpoint::Images => Some(Unit::Image),
            Endpoint::Speech => Some(Unit::Character),
            Endpoint::Transcriptions | Endpoint::Videos => Some(Unit::Second),
            Endpoint::Rerank => Some(Unit::Search),
            _ => None,
        }
    }
}

/// Output tokens of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The request can cap them, so that the gateway does.
    Capped,
    /// No request can cap them: as many as the model can give.
    UpToTheModel,
    None,
}
