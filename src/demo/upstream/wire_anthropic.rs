//! The JSON of Anthropic's Messages, as the upstream writes it.

use ledger::{TokenClass, Usage};
use serde_json::{Value, json};

use super::answer::Answer;
use super::chat::Chat;
use super::wire::Head;

/// What it thinks of every question that it is to think about, and the proof of it.
const THOUGHT: &str = "an echo will do";
const SIGNATURE: &str = "ZGVtbyBzaWduYXR1cmU=";

/// A usage in the wire's words: its classes are disjoint, and thoughts are output.
fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.get(TokenClass::Input),
        "cache_creation_input_tokens": usage.get(TokenClass::CacheWrite),
        "cache_read_input_tokens": usage.get(TokenClass::CacheRead),
        "output_tokens": usage.get(TokenClass::Output),
        "service_tier": "standard",
    })
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        "length" => "max_tokens",
        "tool_calls" => "tool_use",
        _ => "end_turn",
    }
}

/// A whole answer.
pub(super) fn whole(chat: &Chat, answer: &Answer, head: &Head) -> Value {
    let mut content = Vec::new();
    if chat.thinks {
        content.push(json!({"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}));
    }
    content.push(match &chat.tool {
        None => json!({"type": "text", "text": answer.text}),
        Some(name) => {
            let input: Value = serde_json::from_str(&answer.text).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": "toolu_demo", "name": name, "input": input})
        }
    });
    json!({
        "id": head.answer_id, "type": "message", "role": "assistant", "model": chat.model.name,
        "content": content, "stop_reason": stop_reason(answer), "stop_sequence": null,
        "usage": usage(&answer.usage),
    })
}

fn event(kind: &str, mut data: Value) -> String {
    data["type"] = kind.into();
    format!("event: {kind}\ndata: {data}\n\n")
}

/// Number of the block that the answer is in.
fn block(chat: &Chat) -> u64 {
    u64::from(chat.thinks)
}

/// The message begins, and with it what it has read; then its thoughts, and the block of its answer.
pub(super) fn opening(chat: &Chat, answer: &Answer, head: &Head) -> String {
    let mut begun = answer.usage;
    begun.set(TokenClass::Output, 1);
    let message = json!({
        "id": head.answer_id, "type": "message", "role": "assistant", "model": chat.model.name,
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(&begun),
    });
    let mut out = event("message_start", json!({"message": message}));
    out.push_str(&event("ping", json!({})));
    if chat.thinks {
        let start =
            json!({"index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}});
        out.push_str(&event("content_block_start", start));
        for delta in [
            json!({"type": "thinking_delta", "thinking": THOUGHT}),
            json!({"type": "signature_delta", "signature": SIGNATURE}),
        ] {
            out.push_str(&event("content_block_delta", json!({"index": 0, "delta": delta})));
        }
        out.push_str(&event("content_block_stop", json!({"index": 0})));
    }
    let start = match &chat.tool {
        None => json!({"type": "text", "text": ""}),
        Some(name) => json!({"type": "tool_use", "id": "toolu_demo", "name": name, "input": {}}),
    };
    out.push_str(&event("content_block_start", json!({"index": block(chat), "content_block": start})));
    out
}

pub(super) fn piece(chat: &Chat, piece: &str) -> String {
    let delta = match &chat.tool {
        None => json!({"type": "text_delta", "text": piece}),
        Some(_) => json!({"type": "input_json_delta", "partial_json": piece}),
    };
    event("content_block_delta", json!({"index": block(chat), "delta": delta}))
}

/// The reason, what was used in all, and the end.
pub(super) fn closing(chat: &Chat, answer: &Answer) -> String {
    let mut out = event("content_block_stop", json!({"index": block(chat)}));
    let delta = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});
    let output = answer.usage.get(TokenClass::Output);
    out.push_str(&event("message_delta", json!({"delta": delta, "usage": {"output_tokens": output}})));
    out.push_str(&event("message_stop", json!({})));
    out
}

/// An error: the status that it goes out with, and its body.
pub(super) fn error(status: u16, message: &str) -> (u16, Value) {
    let (status, kind, message) = match status {
        401 => (401, "authentication_error", "invalid x-api-key"),
        402 => (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        403 => (403, "permission_error", "Your API key does not have permission to use this resource."),
        404 => (404, "not_found_error", message),
        429 => (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
        529 => (529, "overloaded_error", "Overloaded"),
        500.. => (500, "api_error", "Internal server error"),
        status => (status, "invalid_request_error", message),
    };
    (status, json!({"type": "error", "error": {"type": kind, "message": message}}))
}
