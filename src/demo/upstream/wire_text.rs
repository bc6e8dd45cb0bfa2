//! The JSON of OpenAI's older completions and of its responses, as the upstream writes it.

use ledger::{TokenClass, Usage};
use serde_json::{Value, json};

use super::answer::Answer;
use super::chat::{Behaviour, Chat};
use super::wire::{Head, event, usage};
use crate::gateway::facts::Endpoint;

/// A whole answer.
pub(super) fn whole(chat: &Chat, answer: &Answer, head: &Head) -> Value {
    match chat.endpoint {
        Endpoint::Responses => response(chat, Some(answer), head),
        _ => {
            let choices = (0..chat.choices).map(|index| choice(index, &answer.text, Some(answer.finish)));
            completion(chat, head, choices.collect(), Some(&answer.usage))
        }
    }
}

fn choice(index: u64, text: &str, finish: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish})
}

fn completion(chat: &Chat, head: &Head, choices: Vec<Value>, used: Option<&Usage>) -> Value {
    let mut body = json!({
        "id": head.answer_id,
        "object": "text_completion",
        "created": head.created_s,
        "model": chat.model.name,
        "choices": choices,
    });
    if let Some(used) = used
        && chat.behaviour != Behaviour::NoUsage
    {
        body["usage"] = usage(chat, used);
    }
    body
}

/// A response that has begun, or, with its answer, that has ended.
fn response(chat: &Chat, answer: Option<&Answer>, head: &Head) -> Value {
    let is_short = answer.is_some_and(|answer| answer.finish == "length");
    let status = match answer {
        None => "in_progress",
        Some(_) if is_short => "incomplete",
        Some(_) => "completed",
    };
    json!({
        "id": head.answer_id,
        "object": "response",
        "created_at": head.created_s,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": is_short.then(|| json!({"reason": "max_output_tokens"})),
        "instructions": null,
        "max_output_tokens": null,
        "model": chat.model.name,
        "output": answer.map(|answer| vec![item(chat, &answer.text, "completed")]).unwrap_or_default(),
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "store": false,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": answer.filter(|_| chat.behaviour != Behaviour::NoUsage).map(|answer| used(&answer.usage)),
        "user": null,
        "metadata": {},
    })
}

/// What was said, or the call of a tool.
fn item(chat: &Chat, text: &str, status: &str) -> Value {
    match &chat.tool {
        Some(name) => json!({
            "id": "fc_demo", "type": "function_call", "status": status, "call_id": "call_demo",
            "name": name, "arguments": text,
        }),
        None => json!({
            "id": "msg_demo", "type": "message", "status": status, "role": "assistant",
            "content": if status == "completed" { vec![part(text)] } else { Vec::new() },
        }),
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn used(usage: &Usage) -> Value {
    let get = |class| usage.get(class);
    let cached = get(TokenClass::CacheRead);
    let (input, reasoning) = (get(TokenClass::Input) + cached, get(TokenClass::Reasoning));
    let output = get(TokenClass::Output) + reasoning;
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input + output,
    })
}

/// An event of the responses format, with its type as its name.
fn typed(number: &mut u64, kind: &str, mut data: Value) -> String {
    data["type"] = kind.into();
    data["sequence_number"] = (*number).into();
    *number += 1;
    format!("event: {kind}\n{}", event(&data))
}

/// The first events of a stream.
pub(super) fn opening(chat: &Chat, head: &Head, number: &mut u64) -> String {
    if chat.endpoint != Endpoint::Responses {
        return String::new();
    }
    let begun = json!({"response": response(chat, None, head)});
    let added = json!({"output_index": 0, "item": item(chat, "", "in_progress")});
    let mut text = typed(number, "response.created", begun.clone());
    text.push_str(&typed(number, "response.in_progress", begun));
    text.push_str(&typed(number, "response.output_item.added", added));
    if chat.tool.is_none() {
        let part = json!({"item_id": "msg_demo", "output_index": 0, "content_index": 0, "part": part("")});
        text.push_str(&typed(number, "response.content_part.added", part));
    }
    text
}

/// A piece of the text.
pub(super) fn piece(chat: &Chat, head: &Head, piece: &str, number: &mut u64) -> String {
    if chat.endpoint != Endpoint::Responses {
        let of = |index| event(&completion(chat, head, vec![choice(index, piece, None)], None));
        return (0..chat.choices).map(of).collect();
    }
    match &chat.tool {
        Some(_) => {
            let data = json!({"item_id": "fc_demo", "output_index": 0, "delta": piece});
            typed(number, "response.function_call_arguments.delta", data)
        }
        None => {
            let data = json!({
                "item_id": "msg_demo", "output_index": 0, "content_index": 0, "delta": piece, "logprobs": [],
            });
            typed(number, "response.output_text.delta", data)
        }
    }
}

/// The end of a stream.
pub(super) fn closing(chat: &Chat, answer: &Answer, head: &Head, number: &mut u64) -> String {
    if chat.endpoint != Endpoint::Responses {
        return completion_closing(chat, answer, head);
    }
    let text = &answer.text;
    let mut events = String::new();
    match &chat.tool {
        Some(_) => {
            let done = json!({"item_id": "fc_demo", "output_index": 0, "arguments": text});
            events.push_str(&typed(number, "response.function_call_arguments.done", done));
        }
        None => {
            let place = json!({"item_id": "msg_demo", "output_index": 0, "content_index": 0});
            let (mut done, mut ended) = (place.clone(), place);
            (done["text"], done["logprobs"], ended["part"]) = (text.as_str().into(), json!([]), part(text));
            events.push_str(&typed(number, "response.output_text.done", done));
            events.push_str(&typed(number, "response.content_part.done", ended));
        }
    }
    let item = json!({"output_index": 0, "item": item(chat, text, "completed")});
    events.push_str(&typed(number, "response.output_item.done", item));
    let kind = if answer.finish == "length" { "response.incomplete" } else { "response.completed" };
    events.push_str(&typed(number, kind, json!({"response": response(chat, Some(answer), head)})));
    events
}

fn completion_closing(chat: &Chat, answer: &Answer, head: &Head) -> String {
    let last = |index| event(&completion(chat, head, vec![choice(index, "", Some(answer.finish))], None));
    let mut events: String = (0..chat.choices).map(last).collect();
    if chat.include_usage {
        events.push_str(&event(&completion(chat, head, Vec::new(), Some(&answer.usage))));
    }
    events.push_str("data: [DONE]\n\n");
    events
}
