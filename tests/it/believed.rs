//! S15, H4: what an upstream tells of its usage is believed up to what the call can have; beyond that it is counted here,
//! charged by that, and the row and the receipt say so.

use serde_json::{Value, json};
use tallygate::gateway::tokens::{Family, count_text};

use crate::support::demo::{Demo, nano};
use crate::support::http::{Ask, Reply};
use crate::support::scripted::{answering, change, channel, saying};

const MODEL: &str = "gpt-5-mini";
const SAID: &str = "Three small words";
/// What the model costs, in nano-units for a token.
const INPUT_NANO: u64 = 250;
const OUTPUT_NANO: u64 = 2_000;
const CAP: u64 = 50;

fn chat(content: &str, usage: &Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": usage,
    })
}

fn stream(usage: &Value) -> String {
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
            "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let said = json!([{"index": 0, "delta": {"role": "assistant", "content": SAID}, "finish_reason": null}]);
    let end = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
    let parts = [chunk(said, &Value::Null), chunk(end, &Value::Null), chunk(json!([]), usage)];
    format!("{}data: [DONE]\n\n", parts.concat())
}

fn anthropic(output: u64) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
        "content": [{"type": "text", "text": SAID}], "usage": {"input_tokens": 9, "output_tokens": output}})
}

fn gemini(output: u64, thoughts: u64) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [{"text": SAID}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": output, "thoughtsTokenCount": thoughts}})
}

fn tokens(row: &Value, class: &str) -> u64 {
    row["tokens"][class].as_u64().unwrap_or(0)
}

fn ask(key: &str, stream: bool) -> Ask {
    Ask::chat_with(key, MODEL, "hello", json!({"max_tokens": CAP, "stream": stream}))
}

/// The row of a call whose upstream is this one alone.
fn served(demo: &Demo, provider: &str, address: std::net::SocketAddr, ask: &Ask) -> (Reply, Value) {
    let name = format!("scripted {}", address.port());
    let id = channel(demo, &name, provider, address, MODEL);
    let reply = demo.ask(ask);
    change(demo, &id, &json!({"status": "disabled"}));
    assert!(reply.is_whole_answer(), "{reply:?}");
    let row = demo.row(reply.head.request_id());
    assert_eq!(row["channel"], json!(id), "{row:#}");
    (reply, row)
}

#[test]
fn s15_h4_a_usage_beyond_what_a_call_can_have_is_counted() {
    let demo = Demo::start();
    let account = demo.account("anna", "1000");
    let key = demo.key_of(&account, json!([]));
    let usage = |input: u64, output: u64| json!({"prompt_tokens": input, "completion_tokens": output});
    let whole = |usage: &Value| saying(&chat(SAID, usage));
    let cases = [
        ("output", "openai", whole(&usage(9, 99_999_999)), false),
        ("a little output", "openai", whole(&usage(9, 70)), false),
        ("input", "openai", whole(&usage(99_999_999, 3)), false),
        (
            "cached input",
            "openai",
            whole(&json!({"prompt_tokens": 9_000, "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 8_990}})),
            false,
        ),
        ("a stream", "openai", answering(200, "text/event-stream", &stream(&usage(9, 99_999_999))), true),
        ("converted", "anthropic", saying(&anthropic(5_000)), false),
        ("thoughts", "gemini", saying(&gemini(3, 5_000)), false),
    ];
    for (what, provider, address, is_stream) in cases {
        let (reply, row) = served(&demo, provider, address, &ask(&key, is_stream));
        assert_eq!(row["usage_source"], "counted", "{what}: {row:#}");
        assert_eq!(tokens(&row, "output"), count_text(Family::O200k, SAID), "{what}: {row:#}");
        let input = tokens(&row, "input");
        assert!((1..40).contains(&input), "{what}: {row:#}");
        let expected = input * INPUT_NANO + tokens(&row, "output") * OUTPUT_NANO;
        assert_eq!(nano(&row["charge"]), i64::try_from(expected).unwrap(), "{what}: {row:#}");
        assert_eq!(row["attempts"][0]["cost_basis"], "counted", "{what}: {row:#}");
        let receipt = demo.receipt(reply.head.request_id());
        assert_eq!(receipt["usage_source"], "counted", "{what}: {receipt:#}");
        if provider != "openai" {
            let told = reply.json()["usage"]["completion_tokens"].clone();
            assert_eq!(told, tokens(&row, "output"), "{what}: a converted answer tells it: {}", reply.text());
        }
    }
}

/// What a call can have is believed: thoughts beside the answer, up to the cap once more.
#[test]
fn s15_a_usage_up_to_the_cap_is_believed_and_so_are_thoughts_beside_it() {
    let demo = Demo::start();
    let account = demo.account("anna", "1000");
    let key = demo.key_of(&account, json!([]));
    let full = json!({"prompt_tokens": 9, "completion_tokens": CAP,
        "completion_tokens_details": {"reasoning_tokens": 40}});
    for (what, provider, address, expected) in [
        ("all of the cap", "openai", saying(&chat(SAID, &full)), [9, 10, 40]),
        ("thoughts beside it", "gemini", saying(&gemini(CAP, CAP)), [9, CAP, CAP]),
    ] {
        let (_, row) = served(&demo, provider, address, &ask(&key, false));
        assert_eq!(row["usage_source"], "upstream", "{what}: {row:#}");
        assert_eq!(["input", "output", "reasoning"].map(|class| tokens(&row, class)), expected, "{what}");
    }
}

/// An answer that goes beyond its cap and tells nothing is charged up to the cap.
#[test]
fn s15_what_is_counted_is_charged_up_to_the_cap() {
    let demo = Demo::start();
    let account = demo.account("anna", "1000");
    let key = demo.key_of(&account, json!([]));
    let address = saying(&chat(&"word ".repeat(1_000), &Value::Null));
    let (_, row) = served(&demo, "openai", address, &ask(&key, false));
    assert_eq!((&row["usage_source"], tokens(&row, "output")), (&json!("counted"), CAP), "{row:#}");
}

/// One document is one search, whatever its upstream says.
#[test]
fn h4_searches_beyond_those_that_were_asked_for_are_counted() {
    let demo = Demo::start();
    let account = demo.account("anna", "1000");
    let key = demo.key_of(&account, json!([]));
    let ranked = json!({"results": [{"index": 0, "relevance_score": 0.5}],
        "meta": {"billed_units": {"search_units": 900_000}}});
    const RERANK: &str = "demo-rerank";
    let id = channel(&demo, "ranks", "openai", saying(&ranked), RERANK);
    let body = json!({"model": RERANK, "query": "apple", "documents": ["a pear"]});
    let reply = demo.ask(&Ask::post("/v1/rerank", &body).bearer(&key));
    assert!(reply.is_whole_answer(), "{reply:?}");
    let row = demo.row(reply.head.request_id());
    assert_eq!((&row["channel"], &row["usage_source"]), (&json!(id), &json!("counted")), "{row:#}");
    assert_eq!((&row["units"]["search"], &row["charge"]), (&json!("1"), &json!("0.002")), "{row:#}");
    assert_eq!(demo.receipt(reply.head.request_id())["usage_source"], "counted");
}

/// H4: of an answer of more than 1 MiB only the beginning is kept; all of its text is charged.
#[test]
fn h4_a_long_answer_without_a_usage_is_counted_to_its_end() {
    let demo = Demo::start();
    let account = demo.account("anna", "1000");
    let key = demo.key_of(&account, json!([]));
    // Within what the model can answer.
    let text = " international".repeat(120_000);
    let address = saying(&chat(&text, &Value::Null));
    let ask = Ask::chat_with(&key, MODEL, "hello", json!({"max_tokens": 128_000}));
    let (reply, row) = served(&demo, "openai", address, &ask);
    assert!(reply.body.len() > 1_600_000);
    assert_eq!((&row["usage_source"], &row["ending"]), (&json!("counted"), &json!("complete")), "{row:#}");
    let (counted, output) = (count_text(Family::O200k, &text), tokens(&row, "output"));
    assert!(output.abs_diff(counted) < counted / 100, "{output} of {counted}: {row:#}");
}
