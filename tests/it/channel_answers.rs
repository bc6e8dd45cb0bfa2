//! H2: what comes with 200 and is no answer is a fault of its channel: the call goes on to the next one and is charged there
//! alone; and what an upstream says of its own account is known by every vendor's words, but never by a caller's.

use serde_json::{Value, json};

use crate::support::demo::{Demo, nano};
use crate::support::http::Ask;
use crate::support::scripted::{answering, change, channel};

const MODEL: &str = "gpt-5-mini";

fn whole() -> String {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
    .to_string()
}

/// What upstreams send with 200 in the place of an answer.
fn none() -> Vec<(&'static str, String, &'static str)> {
    let failed = "upstream_error";
    vec![
        ("no JSON", "{{{{not json".into(), failed),
        ("half of an answer", whole()[..150].into(), failed),
        (
            "a failure",
            json!({"code": 500, "message": "internal error", "success": false}).to_string(),
            failed,
        ),
        ("a detail", json!({"detail": "Unauthorized"}).to_string(), failed),
        ("a list", "[1,2,3]".into(), failed),
        ("no choice", json!({"choices": [], "usage": {"prompt_tokens": 9}}).to_string(), failed),
        (
            "no money",
            json!({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
                .to_string(),
            "upstream_out_of_credit",
        ),
    ]
}

#[test]
fn h2_what_is_no_answer_goes_on_to_the_next_channel() {
    for provider in ["openai", "anthropic", "gemini"] {
        // Each has retries of its own, which are a share of all calls.
        let demo = Demo::start();
        let account = demo.account("anna", "10");
        let key = demo.key_of(&account, json!([]));
        for (what, body, fault) in none() {
            for stream in [false, true] {
                let what = format!("{what} of {provider}, stream: {stream}");
                // The words are OpenAI's; at others' they are an error like any other.
                let fault = if provider == "openai" { fault } else { "upstream_error" };
                let none = channel(&demo, &what, provider, answering(200, "application/json", &body), MODEL);
                let more = json!({"stream": stream, "max_tokens": 100});
                let reply = demo.ask(&Ask::chat_with(&key, MODEL, "hello", more));
                assert!(reply.is_whole_answer(), "{what}: {reply:?}");
                let id = reply.head.request_id();
                let (row, billed) = (demo.row(id), demo.billed(&format!("{id}-2")));
                let [first, second] = row["attempts"].as_array().unwrap().as_slice() else {
                    panic!("{what}: {row:#}")
                };
                assert_eq!(
                    (&first["channel"], &first["fault"]),
                    (&json!(none), &json!(fault)),
                    "{what}: {row:#}"
                );
                assert_eq!(
                    (&first["failed"], &second["served"]),
                    (&json!(true), &json!(true)),
                    "{what}: {row:#}"
                );
                assert_eq!(row["charge"], billed["cost"], "{what}: charged once");
                change(&demo, &none, &json!({"status": "disabled"}));
            }
        }
    }
}

/// A client that reads events cannot read a whole answer, so that it is none.
#[test]
fn h2_a_whole_answer_in_the_place_of_a_stream_goes_on_to_the_next_channel() {
    let demo = Demo::start();
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let id = channel(&demo, "whole", "openai", answering(200, "application/json", &whole()), MODEL);
    let ask = |stream: bool| {
        let reply =
            demo.ask(&Ask::chat_with(&key, MODEL, "hello", json!({"stream": stream, "max_tokens": 100})));
        assert!(reply.is_whole_answer(), "{reply:?}");
        (reply.is_stream(), demo.row(reply.head.request_id()))
    };
    let (is_stream, row) = ask(true);
    assert!(is_stream && row["attempts"].as_array().unwrap().len() == 2, "{row:#}");
    assert_eq!(row["attempts"][0]["fault"], "upstream_error", "{row:#}");
    let (_, row) = ask(false);
    assert_eq!((&row["channel"], row["attempts"].as_array().unwrap().len()), (&json!(id), 1), "{row:#}");
}

/// An operator's test sees what a call sees; a channel that brings no answers rests like one that fails; where no other is
/// left nothing is charged.
#[test]
fn h2_a_channel_without_answers_does_not_work_and_rests() {
    let demo = Demo::start();
    let own = demo.admin("/api/channels?name=simulated%20upstream")["data"][0]["id"].clone();
    change(&demo, own.as_str().unwrap(), &json!({"status": "disabled"}));
    let body = json!({"detail": "Unauthorized"}).to_string();
    let id = channel(&demo, "hollow", "openai", answering(200, "application/json", &body), MODEL);
    change(&demo, &id, &json!({"cools_down": true}));
    let tested = demo.admin_post(&format!("/api/channels/{id}/test"), &json!({"model": MODEL}));
    assert_eq!((&tested["works"], &tested["code"]), (&json!(false), &json!("upstream_error")), "{tested:#}");
    assert!(tested.to_string().contains("Unauthorized"), "{tested:#}");
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let codes: Vec<Value> = (0..20)
        .map(|_| {
            let reply = demo.chat(&key, MODEL, "hello");
            let row = demo.row(reply.head.request_id());
            assert!(row["charge"].is_null() || nano(&row["charge"]) == 0, "{row:#}");
            reply.json()["error"]["code"].clone()
        })
        .collect();
    assert_eq!(
        (&codes[0], &codes[19]),
        (&json!("upstream_error"), &json!("channel_cooling_down")),
        "{codes:?}"
    );
}

/// S31: a request that an upstream forbids for what it says rests nothing for anybody; an account without money does.
#[test]
fn s31_a_caller_cannot_rest_a_credential_and_a_debt_does() {
    let demo = Demo::start();
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let flagged = json!({"error": {"code": 403, "message": "x requires moderation. Your input was flagged",
        "metadata": {"reasons": ["violence"], "flagged_input": "hello"}}});
    let page = "<html><h1>Attention required</h1></html>".to_owned();
    let debt = json!({"error": {"code": "Arrearage", "type": "Arrearage", "message": "Access denied"}});
    for (what, status, kind, body, code, rests) in [
        ("flagged", 403, "application/json", flagged.to_string(), "upstream_rejected", false),
        ("a firewall", 403, "text/html", page, "upstream_error", false),
        ("a debt", 400, "application/json", debt.to_string(), "upstream_out_of_credit", true),
    ] {
        let id = channel(&demo, what, "openai", answering(status, kind, &body), MODEL);
        change(&demo, &id, &json!({"cools_down": true}));
        for call in 0..2 {
            let reply = demo.chat(&key, MODEL, "hello");
            let row = demo.row(reply.head.request_id());
            let first = &row["attempts"][0];
            let is_tried = first["channel"] == json!(id);
            assert_eq!(is_tried, call == 0 || !rests, "{what}, call {call}: {row:#}");
            if is_tried {
                assert_eq!(first["fault"], code, "{what}: {row:#}");
            }
        }
        change(&demo, &id, &json!({"status": "disabled"}));
    }
}
