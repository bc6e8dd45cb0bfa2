//! The JSON of OpenAI's chat format, as the upstream writes it.

use ledger::{TokenClass, Usage};
use serde_json::{Value, json};

use super::answer::Answer;
use super::chat::{Behaviour, Chat, Rejection};
use crate::demo::prices::MODELS;

/// What a model thinks that is asked to.
const THOUGHT: &str = "an echo will do";

/// What stands in every piece of one answer.
pub(super) struct Head {
    pub answer_id: String,
    pub created_s: i64,
}

/// DeepSeek's own additions to the format: cache figures by its names, and the
/// usage in the last chunk that has a choice.
fn is_deepseek(chat: &Chat) -> bool {
    chat.model.name.starts_with("deepseek")
}

/// A usage in the wire's words.
pub(super) fn usage(chat: &Chat, usage: &Usage) -> Value {
    let get = |class| usage.get(class);
    let cached = get(TokenClass::CacheRead);
    let prompt = get(TokenClass::Input) + cached;
    let reasoning = get(TokenClass::Reasoning);
    let completion = get(TokenClass::Output) + reasoning;
    let mut wire = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    });
    if is_deepseek(chat) {
        wire["prompt_cache_hit_tokens"] = cached.into();
        wire["prompt_cache_miss_tokens"] = (prompt - cached).into();
        wire["completion_tokens_details"] = json!({"reasoning_tokens": reasoning});
    } else {
        wire["prompt_tokens_details"] = json!({"cached_tokens": cached, "audio_tokens": 0});
        wire["completion_tokens_details"] = json!({
            "reasoning_tokens": reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        });
    }
    wire
}

/// A failure with this status, in OpenAI's words and DeepSeek's.
pub(super) fn failure(status: u16, message: &str) -> Value {
    match status {
        401 => error("authentication_error", Some("invalid_api_key"), None, "Incorrect API key provided."),
        402 => error("unknown_error", Some("invalid_request_error"), None, "Insufficient Balance"),
        404 => error("invalid_request_error", Some("model_not_found"), None, "The model does not exist."),
        429 => error(
            "requests",
            Some("rate_limit_exceeded"),
            None,
            "Rate limit reached. Please try again in 2s.",
        ),
        500.. => error("server_error", None, None, "The server had an error."),
        _ => error("invalid_request_error", None, None, message),
    }
}

/// A whole answer.
pub(super) fn whole(chat: &Chat, answer: &Answer, head: &Head) -> Value {
    let message = match &chat.tool {
        None if chat.thinks => {
            json!({"role": "assistant", "content": answer.text, "reasoning_content": THOUGHT})
        }
        None => json!({"role": "assistant", "content": answer.text, "refusal": null}),
        Some(name) => json!({
            "role": "assistant", "content": null, "refusal": null,
            "tool_calls": [{"id": "call_demo", "type": "function",
                "function": {"name": name, "arguments": answer.text}}],
        }),
    };
    let choice = |index: u64| json!({"index": index, "message": message, "logprobs": null, "finish_reason": answer.finish});
    let mut body = json!({
        "id": head.answer_id,
        "object": "chat.completion",
        "created": head.created_s,
        "model": chat.model.name,
        "choices": (0..chat.choices).map(choice).collect::<Vec<_>>(),
        "system_fingerprint": "fp_demo",
    });
    if chat.behaviour != Behaviour::NoUsage {
        body["usage"] = usage(chat, &answer.usage);
    }
    body
}

/// An event of a stream with a choice in it.
fn delta(chat: &Chat, head: &Head, index: u64, delta: &Value, finish: Option<&str>) -> Value {
    let mut event = json!({
        "id": head.answer_id,
        "object": "chat.completion.chunk",
        "created": head.created_s,
        "model": chat.model.name,
        "system_fingerprint": "fp_demo",
        "choices": [{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}],
    });
    if chat.include_usage && chat.behaviour != Behaviour::NoUsage {
        event["usage"] = Value::Null;
    }
    event
}

/// The bytes of an event.
pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// The first events of each choice: who speaks, and what it thinks if it is asked to.
pub(super) fn opening(chat: &Chat, head: &Head) -> String {
    let first = match &chat.tool {
        None => json!({"role": "assistant", "content": "", "refusal": null}),
        Some(name) => json!({"role": "assistant", "content": null, "tool_calls": [{"index": 0,
            "id": "call_demo", "type": "function", "function": {"name": name, "arguments": ""}}]}),
    };
    let thought = chat.thinks.then(|| json!({"content": null, "reasoning_content": THOUGHT}));
    let said = || std::iter::once(&first).chain(&thought);
    let events = |index| said().map(move |said| event(&delta(chat, head, index, said, None)));
    (0..chat.choices).flat_map(events).collect()
}

/// A piece of the text, for each choice.
pub(super) fn piece(chat: &Chat, head: &Head, text: &str) -> String {
    let said = match &chat.tool {
        None => json!({"content": text}),
        Some(_) => json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}),
    };
    (0..chat.choices).map(|index| event(&delta(chat, head, index, &said, None))).collect()
}

/// The end of a stream: finish reasons, usage, `[DONE]`.
pub(super) fn closing(chat: &Chat, answer: &Answer, head: &Head) -> String {
    let mut text = String::new();
    for index in 0..chat.choices {
        let mut last = delta(chat, head, index, &json!({}), Some(answer.finish));
        if is_deepseek(chat) && index + 1 == chat.choices {
            last["usage"] = usage(chat, &answer.usage);
        }
        text.push_str(&event(&last));
    }
    if chat.include_usage && chat.behaviour != Behaviour::NoUsage && !is_deepseek(chat) {
        let mut last = delta(chat, head, 0, &Value::Null, None);
        last["choices"] = json!([]);
        last["usage"] = usage(chat, &answer.usage);
        text.push_str(&event(&last));
    }
    text.push_str("data: [DONE]\n\n");
    text
}

/// An error's body.
pub(super) fn error(kind: &str, code: Option<&str>, param: Option<&str>, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}

/// The body of a rejection.
pub(super) fn rejection(rejection: &Rejection) -> Value {
    error("invalid_request_error", rejection.code, rejection.param, &rejection.message)
}

/// The list of models.
pub(super) fn models() -> Value {
    let row =
        |name: &str| json!({"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "demo"});
    let rows: Vec<Value> =
        MODELS.iter().filter(|model| model.name != "demo-down").map(|model| row(model.name)).collect();
    json!({"object": "list", "data": rows})
}
