//! A chat request as the upstream reads it, and how the model named in it
//! behaves.

use serde::Deserialize;
use serde_json::Value;

use super::wire_gemini;
use crate::demo::prices::{DemoModel, model_at};
use crate::directory::ProviderKind;
use crate::gateway::facts::Endpoint;

/// What a model does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Answer,
    /// 20 chunks, 50 ms apart.
    Slow,
    /// Breaks off half-way.
    Cut,
    /// Never says what it used.
    NoUsage,
    /// 429 with `Retry-After`.
    Busy,
    /// 500.
    Broken,
    /// Never answers.
    Silent,
    /// 429 `insufficient_quota`.
    NoCredit,
    /// Billed, and never sent.
    Lost,
    /// Any of these in turn.
    Unstable,
}

impl Behaviour {
    fn of(model: &str) -> Self {
        match model {
            "demo-slow" => Self::Slow,
            "demo-cut" => Self::Cut,
            "demo-no-usage" => Self::NoUsage,
            "demo-429" => Self::Busy,
            "demo-500" => Self::Broken,
            "demo-timeout" => Self::Silent,
            "demo-no-credit" => Self::NoCredit,
            "demo-unstable" => Self::Unstable,
            _ => Self::Answer,
        }
    }
}

/// A request that can be served.
#[derive(Debug)]
pub(super) struct Chat {
    /// Chat, completions or responses.
    pub endpoint: Endpoint,
    pub model: &'static DemoModel,
    pub behaviour: Behaviour,
    pub stream: bool,
    pub include_usage: bool,
    /// Most output tokens of a choice.
    pub cap: u64,
    pub choices: u64,
    pub images: u32,
    /// The last user message.
    pub asked: String,
    /// Name of the tool to call, if the message or the request wants it.
    pub tool: Option<String>,
    /// The answer must be JSON, after a schema or not.
    pub is_json: bool,
    /// It is asked to think first.
    pub thinks: bool,
    /// The request tells the provider to keep its beginning (Anthropic's `cache_control`).
    pub wants_cache: bool,
}

/// Why a request cannot be served, in OpenAI's words.
#[derive(Debug)]
pub(super) struct Rejection {
    pub status: u16,
    pub code: Option<&'static str>,
    pub param: Option<&'static str>,
    pub message: String,
}

#[derive(Deserialize)]
struct Wire {
    model: String,
    #[serde(default)]
    messages: Vec<Message>,
    /// Of the older completions.
    #[serde(default)]
    prompt: Value,
    /// Of the responses.
    #[serde(default)]
    input: Value,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    /// Anthropic's and DeepSeek's.
    #[serde(default)]
    thinking: Value,
    #[serde(default)]
    tool_choice: Value,
    /// Of the chat.
    #[serde(default)]
    response_format: Value,
    /// Of the responses.
    #[serde(default)]
    text: Value,
    /// Anthropic's.
    #[serde(default)]
    output_config: Value,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Value,
    /// Of an item of the responses.
    #[serde(default, rename = "type")]
    kind: String,
}

impl Message {
    fn of_user(text: String) -> Self {
        Message { role: "user".into(), content: Value::String(text), kind: String::new() }
    }

    /// What a tool gave, and no word beside it.
    fn is_result(&self) -> bool {
        let parts = self.content.as_array().filter(|parts| !parts.is_empty());
        let of_parts = parts.is_some_and(|parts| parts.iter().all(|part| part["type"] == "tool_result"));
        of_parts || self.role == "tool" || self.kind == "function_call_output"
    }

    fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
                texts.join("\n")
            }
            _ => String::new(),
        }
    }

    fn images(&self) -> u32 {
        let parts = self.content.as_array().into_iter().flatten();
        u32::try_from(
            parts
                .filter(|part| {
                    part["type"]
                        .as_str()
                        .is_some_and(|kind| matches!(kind, "image_url" | "input_image" | "image"))
                })
                .count(),
        )
        .unwrap_or(u32::MAX)
    }
}

impl Wire {
    /// The tool to call: the one that must be, else the first if the question wants it; none once there is a result.
    fn tool(&self, asked: &str) -> Option<String> {
        let name =
            |tool: &Value| tool["function"]["name"].as_str().or(tool["name"].as_str()).map(str::to_owned);
        let wanted = self.tool_choice["type"].as_str().or(self.tool_choice.as_str());
        let must = matches!(wanted, Some("any" | "required" | "tool" | "function"));
        let has_result = self.messages.last().is_some_and(Message::is_result);
        if !must && (has_result || !asked.contains("#tool")) {
            return None;
        }
        name(&self.tool_choice).or(self.tools.as_ref().and_then(|tools| name(tools.first()?)))
    }

    fn is_json(&self) -> bool {
        let kinds = [&self.response_format, &self.text["format"], &self.output_config["format"]];
        kinds.iter().any(|format| matches!(format["type"].as_str(), Some("json_schema" | "json_object")))
    }
}

impl Chat {
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, Rejection> {
        let wire = serde_json::from_slice(body).map_err(|error| Rejection::unreadable(&error))?;
        let wants_cache = memchr::memmem::find(body, b"\"cache_control\"").is_some();
        Ok(Self { wants_cache, ..Self::of(endpoint, wire)? })
    }

    /// A request whose model stands in the address.
    pub fn read_gemini(endpoint: Endpoint, model: &str, body: &[u8]) -> Result<Self, Rejection> {
        let body: Value = serde_json::from_slice(body).map_err(|error| Rejection::unreadable(&error))?;
        let chat = wire_gemini::as_chat(model, endpoint == Endpoint::StreamGenerateContent, &body);
        Self::of(endpoint, serde_json::from_value(chat).map_err(|error| Rejection::unreadable(&error))?)
    }

    fn of(endpoint: Endpoint, mut wire: Wire) -> Result<Self, Rejection> {
        let prompts = prompts(&wire.prompt);
        let prompted = prompts.len().max(1) as u64;
        wire.messages.extend((!prompts.is_empty()).then(|| Message::of_user(prompts.join("\n"))));
        wire.messages.extend(match std::mem::take(&mut wire.input) {
            Value::String(text) => vec![Message::of_user(text)],
            items => serde_json::from_value(items).unwrap_or_default(),
        });
        let model = model_of(endpoint, &wire.model)?;
        // DeepSeek does not know the newer name, and passes over it.
        let newer_cap = wire.max_completion_tokens.filter(|_| !model.name.starts_with("deepseek"));
        let asked_cap = newer_cap.or(wire.max_tokens).or(wire.max_output_tokens);
        let choices = wire.n.unwrap_or(1);
        let invalid = Rejection::invalid;
        if asked_cap.is_some_and(|cap| cap == 0 || cap > u64::from(model.max_output_tokens)) {
            return Err(invalid("max_tokens", "max_tokens is not within what this model can answer"));
        }
        if !(1..=128).contains(&choices) {
            return Err(invalid("n", "n is not from 1 to 128"));
        }
        let is_question = |message: &&Message| message.role == "user" && !message.is_result();
        let last = wire.messages.iter().rev().find(is_question);
        let asked = last.or(wire.messages.last()).map(Message::text).unwrap_or_default();
        let images = wire.messages.iter().map(Message::images).sum();
        if model.provider() == ProviderKind::Deepseek {
            if images > 0 {
                return Err(invalid("messages", "unknown variant `image_url`, expected `text`"));
            }
            if wire.response_format["type"] == "json_schema" {
                return Err(invalid("response_format", "This response_format type is unavailable now"));
            }
        }
        Ok(Self {
            endpoint,
            behaviour: if asked.contains("#cut") { Behaviour::Cut } else { Behaviour::of(model.name) },
            thinks: wire.thinking["type"] == "enabled",
            wants_cache: false,
            stream: wire.stream.unwrap_or(false),
            include_usage: wire
                .stream_options
                .as_ref()
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
            cap: asked_cap.unwrap_or(u64::from(model.max_output_tokens)),
            choices: choices.saturating_mul(prompted),
            images,
            tool: wire.tool(&asked),
            is_json: wire.is_json(),
            model,
            asked,
        })
    }

    /// The number behind a word as `#delay_ms=50` in the last user message.
    pub fn wish(&self, word: &str) -> Option<u64> {
        wish(&self.asked, word)
    }
}

/// The number behind a word as `#delay_ms=50` in a text.
pub(super) fn wish(text: &str, word: &str) -> Option<u64> {
    let (_, behind) = text.split_once(word)?;
    let digits = behind.strip_prefix('=')?;
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// The prompts of an older completion: a text or tokens, one or several; of tokens nothing is read.
fn prompts(prompt: &Value) -> Vec<String> {
    let text = |one: &Value| one.as_str().unwrap_or_default().to_owned();
    match prompt {
        Value::Null => Vec::new(),
        Value::Array(several) if several.iter().all(|one| !one.is_number()) => {
            several.iter().map(text).collect()
        }
        one => vec![text(one)],
    }
}

/// A model that is served there.
pub(super) fn model_of(endpoint: Endpoint, name: &str) -> Result<&'static DemoModel, Rejection> {
    model_at(endpoint, name).filter(|model| model.name != "demo-down").ok_or_else(|| Rejection {
        status: 404,
        code: Some("model_not_found"),
        param: Some("model"),
        message: format!("The model `{name}` does not exist or you do not have access to it."),
    })
}

impl Rejection {
    pub fn unreadable(error: &serde_json::Error) -> Self {
        Rejection {
            status: 400,
            code: None,
            param: None,
            message: format!("We could not parse the JSON body of your request: {error}"),
        }
    }

    pub fn invalid(param: &'static str, message: &str) -> Self {
        Rejection { status: 400, code: Some("invalid_value"), param: Some(param), message: message.into() }
    }
}
