//! Proofs of thoughts: by way of any client they come back to the provider that they are of, and to no other.

use serde_json::{Value, json};

use super::super::{Format, Rewritten, answer};
use super::cases::{became, convert};
use super::{FORMATS, envelope, streams};

const CLAUDE: &str = r#"{"id":"m","model":"c","content":[{"type":"thinking","thinking":"so","signature":"c2ln"},
    {"type":"redacted_thinking","data":"eHg="},{"type":"tool_use","id":"t1","name":"n","input":{}}],"stop_reason":"tool_use"}"#;
const OMITTED: &str = r#"{"id":"m","model":"c","content":[{"type":"thinking","thinking":"","signature":"c2ln"},
    {"type":"tool_use","id":"t1","name":"n","input":{}}],"stop_reason":"tool_use"}"#;
const GEMINI: &str = r#"{"responseId":"g","candidates":[{"content":{"role":"model","parts":[
    {"text":"so","thought":true,"thoughtSignature":"dGhvdWdodA=="},
    {"functionCall":{"id":"f1","name":"n","args":{}},"thoughtSignature":"Y2FsbA+/"},
    {"functionCall":{"id":"f2","name":"n","args":{}}}]},"finishReason":"STOP","index":0}]}"#;
const GPT: &str = r#"{"id":"r","model":"o","output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"so"}],"encrypted_content":"gAAA-_"},
    {"type":"function_call","call_id":"t1","name":"n","arguments":"{}"}]}"#;

/// What a client of a format sends after an answer with calls of `n`: what it was told, and a result of each.
fn next_step(client: Format, told: &[u8]) -> String {
    let told: Value = serde_json::from_slice(told).unwrap();
    let body = match client {
        Format::OpenAi | Format::DeepSeek => {
            let message = &told["choices"][0]["message"];
            let calls = message["tool_calls"].as_array().unwrap().iter();
            let result = |call: &Value| json!({"role": "tool", "tool_call_id": call["id"], "content": "r"});
            let mut messages = vec![json!({"role": "user", "content": "a"}), message.clone()];
            messages.extend(calls.map(result));
            json!({"messages": messages})
        }
        Format::Anthropic => {
            let calls =
                told["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use");
            let result =
                |call: &Value| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "r"});
            json!({"max_tokens": 9, "messages": [{"role": "user", "content": "a"},
                {"role": "assistant", "content": told["content"]},
                {"role": "user", "content": calls.map(result).collect::<Vec<_>>()}]})
        }
        Format::Gemini => {
            let content = &told["candidates"][0]["content"];
            let calls =
                content["parts"].as_array().unwrap().iter().filter_map(|part| part.get("functionCall"));
            let result = |call: &Value| json!({"functionResponse": {"id": call["id"], "name": "n", "response": {"output": "r"}}});
            json!({"contents": [{"role": "user", "parts": [{"text": "a"}]}, content,
                {"role": "user", "parts": calls.map(result).collect::<Vec<_>>()}]})
        }
        Format::Responses => {
            let calls =
                told["output"].as_array().unwrap().iter().filter(|item| item["type"] == "function_call");
            let result = |call: &Value| json!({"type": "function_call_output", "call_id": call["call_id"], "output": "r"});
            let mut input = vec![json!({"role": "user", "content": "a"})];
            input.extend(told["output"].as_array().unwrap().iter().cloned());
            input.extend(calls.map(result));
            json!({"input": input})
        }
    };
    body.to_string()
}

/// The second step of a conversation with one provider, or of one that goes on with another.
fn goes_on(provider: Format, said: &str, client: Format, with: Format) -> (Value, Rewritten) {
    let told = answer(provider, client, said.as_bytes(), &envelope()).unwrap();
    let there = convert(client, with, &next_step(client, &told)).unwrap();
    (serde_json::from_slice(&there.body).unwrap(), there)
}

#[test]
fn thoughts_of_anthropic_come_back_to_it_by_way_of_every_client() {
    for client in [Format::OpenAi, Format::Responses, Format::Anthropic] {
        let (there, _) = goes_on(Format::Anthropic, CLAUDE, client, Format::Anthropic);
        let said = &there["messages"][1]["content"];
        assert_eq!(said[0], json!({"type": "thinking", "thinking": "so", "signature": "c2ln"}), "{client:?}");
        assert_eq!(said[1], json!({"type": "redacted_thinking", "data": "eHg="}), "{client:?}");
        // What was not told of a thought is no reason to take its proof for the thought.
        let (there, _) = goes_on(Format::Anthropic, OMITTED, client, Format::Anthropic);
        let said = &there["messages"][1]["content"][0];
        assert_eq!(*said, json!({"type": "thinking", "thinking": "", "signature": "c2ln"}), "{client:?}");
    }
    let (there, _) = goes_on(Format::Anthropic, CLAUDE, Format::Gemini, Format::Anthropic);
    let said = &there["messages"][1]["content"][0];
    assert_eq!(*said, json!({"type": "thinking", "thinking": "so", "signature": "c2ln"}));
}

#[test]
fn proofs_of_gemini_come_back_to_it_by_way_of_every_client() {
    for client in FORMATS {
        let (there, left) = goes_on(Format::Gemini, GEMINI, client, Format::Gemini);
        let parts = &there["contents"][1]["parts"];
        let thought = json!({"text": "so", "thought": true, "thoughtSignature": "dGhvdWdodA=="});
        assert_eq!(parts[0], thought, "{client:?}");
        assert_eq!(parts[1]["thoughtSignature"], "Y2FsbA+/", "{client:?}");
        assert_eq!(parts[2].get("thoughtSignature"), None, "{client:?}");
        assert_eq!(parts[1]["functionCall"]["id"], "f1", "{client:?}");
        assert_eq!(there["contents"][2]["parts"][0]["functionResponse"]["id"], "f1", "{client:?}");
        assert!(left.left_out.names().is_empty());
    }
}

#[test]
fn no_provider_is_told_the_proofs_of_another() {
    let all = [(Format::Anthropic, CLAUDE), (Format::Gemini, GEMINI), (Format::Responses, GPT)];
    for (provider, said) in all {
        for client in FORMATS {
            for with in FORMATS.into_iter().filter(|with| *with != provider) {
                let (_, there) = goes_on(provider, said, client, with);
                let body = String::from_utf8(there.body.to_vec()).unwrap();
                for proof in [
                    "c2ln",
                    "eHg=",
                    "dGhvdWdodA",
                    "Y2FsbA",
                    "gAAA-_",
                    "tg-proof",
                    "dGctcHJvb2Y6",
                    "__thought_",
                ] {
                    assert!(!body.contains(proof), "{provider:?} by {client:?} to {with:?}: {body}");
                }
                assert!(!there.left_out.names().is_empty(), "{provider:?} by {client:?} to {with:?}");
            }
        }
    }
}

#[test]
fn a_call_without_a_proof_is_told_to_gemini_as_one() {
    let call = |id: &str| {
        format!(r#"{{"id":"{id}","type":"function","function":{{"name":"n","arguments":"{{}}"}}}}"#)
    };
    let ask = format!(
        r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","tool_calls":[{},{}]}},
        {{"role":"tool","tool_call_id":"x","content":"r"}},{{"role":"tool","tool_call_id":"y","content":"r"}}]}}"#,
        call("x"),
        call("y")
    );
    let parts = &became(Format::OpenAi, Format::Gemini, &ask)["contents"][1]["parts"];
    assert_eq!(parts[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(parts[1].get("thoughtSignature"), None);
}

#[test]
fn a_streamed_proof_comes_back_as_a_whole_one_does() {
    let stream = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\"}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"s\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"o\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"c2ln\"}}\n\n",
    );
    let (told, _) = streams::convert(Format::Anthropic, Format::OpenAi, &[stream.as_bytes()]);
    let told = String::from_utf8(told).unwrap();
    let deltas = told.lines().filter_map(|line| line.strip_prefix("data: "));
    let deltas =
        deltas.map(|data| serde_json::from_str::<Value>(data).unwrap()["choices"][0]["delta"].clone());
    // A client gathers them, one behind the other.
    let mut details = Vec::new();
    for delta in deltas {
        details.extend(delta["reasoning_details"].as_array().into_iter().flatten().cloned());
    }
    let came_back = |details: &Value| {
        let message = json!({"role": "assistant", "content": "b", "reasoning_content": "so", "reasoning_details": details});
        let ask = json!({"messages": [{"role": "user", "content": "a"}, message]});
        became(Format::OpenAi, Format::Anthropic, &ask.to_string())["messages"][1]["content"][0].clone()
    };
    let thought = json!({"type": "thinking", "thinking": "so", "signature": "c2ln"});
    assert_eq!(came_back(&json!(details)), thought);
    // Others give pieces, or a proof alone.
    let proof = json!({"type": "reasoning.text", "signature": "c2ln", "index": 0});
    let piece = |text: &str| json!({"type": "reasoning.text", "text": text, "index": 0});
    assert_eq!(came_back(&json!([proof])), thought);
    assert_eq!(came_back(&json!([piece("s"), piece("o"), proof])), thought);
}

#[test]
fn a_call_of_gemini_carries_its_proof_to_clients_of_anthropic_in_a_stream_too() {
    let stream = format!("data: {}\n\n", GEMINI.replace('\n', ""));
    let (told, _) = streams::convert(Format::Gemini, Format::Anthropic, &[stream.as_bytes()]);
    assert!(String::from_utf8(told).unwrap().contains(r#""id":"f1__thought_Y2FsbA-_""#));
}
