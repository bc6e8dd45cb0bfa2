//! Calls of tools as servers stream them that are no more careful than they must be: each format's client has the calls that
//! the same answer has as a whole.

use serde_json::{Value, json};

use super::super::conversation::Part;
use super::super::{Format, answer, read_reply};
use super::FORMATS;
use super::streams::{convert, hear};

/// Events with these data.
fn stream(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// What a client of each format hears of a stream's calls, and whatever is cut makes no difference.
fn heard(from: Format, stream: &str) -> String {
    let mut all = Vec::new();
    for to in FORMATS {
        let whole = convert(from, to, &[stream.as_bytes()]);
        for at in 0..=stream.len() {
            let (before, behind) = stream.as_bytes().split_at(at);
            assert_eq!(convert(from, to, &[before, behind]), whole, "{from:?} to {to:?} at {at}");
        }
        all.push(hear(to, &[whole.0, whole.1].concat()).said);
    }
    all.dedup();
    assert_eq!(all.len(), 1, "{from:?}: {all:?}");
    all.remove(0)
}

/// The calls of a whole answer, in the words of [`heard`].
fn told(from: Format, body: &Value) -> String {
    let mut all = Vec::new();
    for to in FORMATS {
        let there = answer(from, to, body.to_string().as_bytes(), &super::envelope()).unwrap();
        let reply = read_reply(to, std::str::from_utf8(&there).unwrap()).unwrap();
        let mut said = String::new();
        for part in &reply.choices[0].parts {
            if let Part::ToolCall(call) = part {
                let number = said.matches("|tool").count();
                let arguments = serde_json::to_string(&*call.arguments).unwrap();
                let arguments = arguments.trim_matches('"');
                said.push_str(&format!("|tool {number} {:?} {:?}:{arguments}", call.id, call.name));
            }
        }
        all.push(said);
    }
    all.dedup();
    assert_eq!(all.len(), 1, "{from:?}: {all:?}");
    all.remove(0)
}

/// A delta of OpenAI's with such a piece of a call.
fn delta(calls: Value) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": null}]})
}

fn finished() -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
}

fn chat(calls: Value) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": null, "tool_calls": calls}}]})
}

const TWO: &str = r#"|tool 0 "a" "f":{\"q\":1}|tool 1 "b" "g":{\"r\":2}"#;

#[test]
fn a_call_without_arguments_is_streamed_as_it_is_told_whole() {
    let bare = r#"|tool 0 "a" "f":{}|tool 1 "b" "g":{}"#;
    let anthropic = [
        json!({"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "b", "name": "g", "input": {}}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(heard(Format::Anthropic, &stream(&anthropic)), bare);
    let whole = json!({"id": "m", "model": "c", "stop_reason": "tool_use", "content": [
        {"type": "tool_use", "id": "a", "name": "f", "input": {}}, {"type": "tool_use", "id": "b", "name": "g", "input": {}}]});
    assert_eq!(told(Format::Anthropic, &whole), bare);
    let open_ai = [
        delta(json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}])),
        delta(json!([{"index": 1, "id": "b", "function": {"name": "g"}}])),
        finished(),
    ];
    assert_eq!(heard(Format::OpenAi, &stream(&open_ai)), bare);
    let whole = chat(
        json!([{"id": "a", "function": {"name": "f", "arguments": ""}}, {"id": "b", "function": {"name": "g"}}]),
    );
    assert_eq!(told(Format::OpenAi, &whole), bare);
    let call = |at: u64, id: &str, name: &str| {
        let item = json!({"type": "function_call", "call_id": id, "name": name, "arguments": ""});
        ["added", "done"].map(
            |kind| json!({"type": format!("response.output_item.{kind}"), "output_index": at, "item": item}),
        )
    };
    let end = json!({"type": "response.completed", "response": {"id": "r", "model": "m"}});
    let responses = [&call(0, "a", "f")[..], &call(1, "b", "g")[..], &[end]].concat();
    assert_eq!(heard(Format::Responses, &stream(&responses)), bare);
}

#[test]
fn what_stands_at_the_beginning_or_the_end_of_a_call_alone_is_its_arguments() {
    let anthropic = [
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {"q":1}}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "b", "name": "g", "input": {"r":2}}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}),
    ];
    assert_eq!(heard(Format::Anthropic, &stream(&anthropic)), TWO);
    let call = |kind: &str, at: u64, id: &str, name: &str, arguments: &str| {
        json!({"type": format!("response.output_item.{kind}"), "output_index": at,
            "item": {"type": "function_call", "call_id": id, "name": name, "arguments": arguments}})
    };
    let responses = [
        call("added", 0, "a", "f", ""),
        call("added", 1, "b", "g", ""),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{\"r\":2}"}),
        call("done", 0, "a", "f", "{\"q\":1}"),
        call("done", 1, "b", "g", "{\"r\":2}"),
        json!({"type": "response.completed", "response": {"id": "r", "model": "m"}}),
    ];
    assert_eq!(heard(Format::Responses, &stream(&responses)), TWO);
}

#[test]
fn calls_that_servers_mix_or_give_one_number_are_told_apart() {
    let start = |index: Value, id: &str, name: &str, arguments: &str| json!([{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]);
    let more =
        |index: Value, arguments: &str| json!([{"index": index, "function": {"arguments": arguments}}]);
    let streams = [
        // The second has a name and an id of its own, and the number of the first.
        vec![
            start(json!(0), "a", "f", "{\"q\":1}"),
            start(json!(0), "b", "g", "{\"r\""),
            more(json!(0), ":2}"),
        ],
        // No numbers at all.
        vec![
            start(json!(null), "a", "f", "{\"q\":1}"),
            start(json!(null), "b", "g", ""),
            more(json!(null), "{\"r\":2}"),
        ],
        // The id and the name again with each piece.
        vec![
            start(json!(0), "a", "f", "{\"q\""),
            start(json!(0), "a", "f", ":1}"),
            start(json!(1), "b", "g", "{\"r\":2}"),
        ],
        // Pieces in turns.
        vec![
            start(json!(0), "a", "f", ""),
            start(json!(1), "b", "g", "{\"r\""),
            more(json!(0), "{\"q\""),
            more(json!(1), ":"),
            more(json!(0), ":1}"),
            more(json!(1), "2}"),
        ],
        // Numbers that begin anywhere.
        vec![start(json!(7), "a", "f", "{\"q\":1}"), start(json!(3), "b", "g", "{\"r\":2}")],
    ];
    for calls in streams {
        let events: Vec<_> = calls.into_iter().map(delta).chain([finished()]).collect();
        assert_eq!(heard(Format::OpenAi, &stream(&events)), TWO);
    }
}

#[test]
fn calls_without_a_name_get_one_that_no_other_answer_has() {
    let named = r#"|tool 0 "call_1_0" "f":{\"q\":1}|tool 1 "call_1_1" "f":{}"#;
    let parts = json!([{"functionCall": {"name": "f", "args": {"q":1}}}, {"functionCall": {"name": "f"}}]);
    let gemini = json!({"responseId": "g", "modelVersion": "m", "candidates": [{"index": 0, "finishReason": "STOP",
        "content": {"role": "model", "parts": parts}}]});
    assert_eq!(told(Format::Gemini, &gemini), named);
    assert_eq!(heard(Format::Gemini, &stream(&[gemini])), named);
    let whole = json!([{"function": {"name": "f", "arguments": "{\"q\":1}"}}, {"function": {"name": "f", "arguments": ""}}]);
    assert_eq!(told(Format::OpenAi, &chat(whole.clone())), named);
    let events = [delta(json!([whole[0]])), delta(json!([whole[1]])), finished()];
    assert_eq!(heard(Format::OpenAi, &stream(&events)), named);
}
