//! The JSON of Gemini's generateContent, as the upstream reads and writes it.

use bytes::Bytes;
use ledger::{TokenClass, Usage};
use serde_json::{Value, json};

use super::answer::Answer;
use super::chat::Chat;
use super::wire::Head;

/// A request in the words of a chat, so that it is understood by the same rules.
pub(super) fn as_chat(model: &str, stream: bool, body: &Value) -> Value {
    let part = |part: &Value| match (&part["text"], &part["inlineData"], &part["fileData"]) {
        (Value::String(text), ..) => json!({"type": "text", "text": text}),
        (_, Value::Null, Value::Null) => json!({"type": "other"}),
        _ => json!({"type": "image"}),
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let message = |content: &Value| {
        let role = if content["role"] == "model" { "assistant" } else { "user" };
        let said: Vec<Value> = list(&content["parts"]).iter().map(part).collect();
        // Results of functions are no question.
        let is_result = said.iter().all(|part| part["type"] == "other");
        json!({"role": if is_result { "tool" } else { role }, "content": said})
    };
    let messages: Vec<Value> = list(&body["contents"]).iter().map(message).collect();
    let tools: Vec<Value> =
        list(&body["tools"]).iter().flat_map(|tool| list(&tool["functionDeclarations"])).collect();
    let config = &body["generationConfig"];
    let mut chat = json!({"model": model, "stream": stream, "messages": messages, "tools": tools});
    for (name, value) in [("max_tokens", &config["maxOutputTokens"]), ("n", &config["candidateCount"])] {
        if !value.is_null() {
            chat[name] = value.clone();
        }
    }
    if config["responseMimeType"] == "application/json" {
        chat["response_format"] = json!({"type": "json_object"});
    }
    let calling = &body["toolConfig"]["functionCallingConfig"];
    if calling["mode"] == "ANY" {
        chat["tool_choice"] = json!({"type": "any", "name": calling["allowedFunctionNames"][0]});
    }
    if config["thinkingConfig"]["thinkingBudget"].as_i64().is_some_and(|budget| budget != 0) {
        chat["thinking"] = json!({"type": "enabled"});
    }
    chat
}

/// The whole request that a count of tokens may have in it.
pub(super) fn counted(body: &[u8]) -> Option<Bytes> {
    let count: Value = serde_json::from_slice(body).ok()?;
    let request = &count["generateContentRequest"];
    // It names the model again, and that is checked.
    let is_named = request["model"].as_str()?.starts_with("models/");
    is_named.then(|| request.to_string().into())
}

/// A usage in the wire's words: the prompt includes what was cached, the candidates do not include the thoughts.
fn usage(usage: &Usage) -> Value {
    let of = |class| usage.get(class);
    let (cached, thoughts) = (of(TokenClass::CacheRead), of(TokenClass::Reasoning));
    let prompt = of(TokenClass::Input) + cached;
    let mut wire = json!({
        "promptTokenCount": prompt,
        "candidatesTokenCount": of(TokenClass::Output),
        "totalTokenCount": prompt + of(TokenClass::Output) + thoughts,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
    });
    if cached > 0 {
        wire["cachedContentTokenCount"] = cached.into();
    }
    if thoughts > 0 {
        wire["thoughtsTokenCount"] = thoughts.into();
    }
    wire
}

fn finish(answer: &Answer) -> &'static str {
    if answer.finish == "length" { "MAX_TOKENS" } else { "STOP" }
}

fn thought() -> Value {
    json!({"text": "an echo will do", "thought": true})
}

fn call(name: &str, arguments: &str) -> Value {
    let args: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
    json!({"functionCall": {"id": "call_demo", "name": name, "args": args}})
}

/// An answer, or an event of one.
fn answer_of(chat: &Chat, head: &Head, index: u64, parts: &[Value], finish: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": index});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    json!({"candidates": [candidate], "modelVersion": chat.model.name, "responseId": head.answer_id})
}

/// A whole answer.
pub(super) fn whole(chat: &Chat, answer: &Answer, head: &Head) -> Value {
    let mut parts = Vec::new();
    if chat.thinks {
        parts.push(thought());
    }
    parts.push(match &chat.tool {
        None => json!({"text": answer.text}),
        Some(name) => call(name, &answer.text),
    });
    let mut body = answer_of(chat, head, 0, &parts, Some(finish(answer)));
    let first = body["candidates"][0].clone();
    let more = (1..chat.choices).map(|index| {
        let mut candidate = first.clone();
        candidate["index"] = index.into();
        candidate
    });
    if let Some(candidates) = body["candidates"].as_array_mut() {
        candidates.extend(more);
    }
    body["usageMetadata"] = usage(&answer.usage);
    body
}

fn event(data: &Value) -> String {
    format!("data: {data}\r\n\r\n")
}

/// Its thoughts, if it has any; an answer begins with its first piece.
pub(super) fn opening(chat: &Chat, head: &Head) -> String {
    if chat.thinks { event(&answer_of(chat, head, 0, &[thought()], None)) } else { String::new() }
}

/// A piece of text for each candidate; a call comes whole, at the end.
pub(super) fn piece(chat: &Chat, head: &Head, piece: &str) -> String {
    if chat.tool.is_some() {
        return String::new();
    }
    (0..chat.choices)
        .map(|index| event(&answer_of(chat, head, index, &[json!({"text": piece})], None)))
        .collect()
}

/// The reason and what was used, in the last event of each candidate.
pub(super) fn closing(chat: &Chat, answer: &Answer, head: &Head) -> String {
    let part = match &chat.tool {
        None => json!({"text": ""}),
        Some(name) => call(name, &answer.text),
    };
    let last = |index| {
        let mut data = answer_of(chat, head, index, std::slice::from_ref(&part), Some(finish(answer)));
        data["usageMetadata"] = usage(&answer.usage);
        event(&data)
    };
    (0..chat.choices).map(last).collect()
}

/// An error: the status that it goes out with, and its body.
pub(super) fn error(status: u16, message: &str) -> (u16, Value) {
    let (code, status, message) = match status {
        401 => (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        402 => (403, "PERMISSION_DENIED", "This API method requires billing to be enabled."),
        403 => (403, "PERMISSION_DENIED", "The caller does not have permission."),
        404 => (404, "NOT_FOUND", message),
        429 => (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 2s."),
        503 | 529 => (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        500.. => (500, "INTERNAL", "An internal error has occurred."),
        status => (status, "INVALID_ARGUMENT", message),
    };
    (code, json!({"error": {"code": code, "message": message, "status": status}}))
}
