//! What is sent to a provider, and what is bounded before it is held: whatever an upstream can bill beyond the hold is
//! refused by its name and place, and nothing is charged.

use serde_json::{Value, json};

use crate::support::demo::{Demo, nano};
use crate::support::http::Ask;

const KEY: &str = "healthy";

/// A call in the format of a path, with these members beside what it must have.
fn ask(demo: &Demo, path: &str, more: Value) -> Ask {
    let mut body = match path {
        "/v1/messages" => json!({"model": "claude-sonnet-4-5", "max_tokens": 50,
            "messages": [{"role": "user", "content": "hi"}]}),
        "/v1/responses" => json!({"model": "gpt-5-mini", "input": "hi"}),
        "/v1/chat/completions" => {
            json!({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]})
        }
        _ => json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Ask::post(path, &body).bearer(&demo.key(KEY))
}

const GEMINI: &str = "/v1beta/models/gemini-2.5-flash:generateContent";

/// The call is refused for this field, and nothing is charged.
#[track_caller]
fn refused(demo: &Demo, path: &str, more: Value, field: &str) -> Value {
    let reply = demo.ask(&ask(demo, path, more));
    assert_eq!(reply.head.status, 400, "{}", reply.text());
    let error = reply.json()["error"].clone();
    let (code, param) = match path {
        GEMINI => (&error["details"][0]["reason"], &error["details"][0]["param"]),
        _ => (&error["code"], &error["param"]),
    };
    assert_eq!((code, param), (&json!("invalid_parameter"), &json!(field)), "{error:#}");
    assert_eq!(demo.row(reply.head.request_id())["charge"], "0");
    error
}

/// H1, money: a film is billed by its seconds, wherever it stands and whatever it is said to be; no hold of a picture
/// covers it.
#[test]
fn h1_a_film_is_never_held_as_a_picture() {
    let demo = Demo::start();
    let film = "https://www.youtube.com/watch?v=x";
    let bare = json!({"contents": [{"parts": [{"fileData": {"fileUri": film}}]}]});
    refused(&demo, GEMINI, bare, "contents");
    let image = json!({"type": "image_url", "image_url": {"url": film}});
    let asked = json!({"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": [image]}]});
    refused(&demo, "/v1/chat/completions", asked, "messages");
    let image = json!({"type": "image", "source": {"type": "url", "url": film}});
    let asked = json!({"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": [image]}]});
    refused(&demo, "/v1/messages", asked, "messages");
    let image = json!({"type": "input_image", "image_url": film});
    let asked = json!({"model": "gemini-2.5-flash", "input": [{"role": "user", "content": [image]}]});
    refused(&demo, "/v1/responses", asked, "input");
    demo.nothing_stays_held();
}

/// H1, money: what has another price at Anthropic, or is billed beside the answer, is refused by its name; its words for
/// the usual pass.
#[test]
fn h1_other_prices_of_anthropic_are_refused_by_name() {
    let demo = Demo::start();
    let path = "/v1/messages";
    refused(&demo, path, json!({"inference_geo": "us"}), "inference_geo");
    refused(&demo, path, json!({"speed": "fast"}), "speed");
    let compact = json!({"context_management": {"edits": [{"type": "compact_20260112"}]}});
    refused(&demo, path, compact, "context_management.edits[0].type");
    let usual = json!({"inference_geo": "global", "speed": "standard",
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}});
    demo.ask(&ask(&demo, path, usual)).ok();
    refused(&demo, GEMINI, json!({"serviceTier": "priority"}), "serviceTier");
    demo.nothing_stays_held();
}

/// The log's tokens and its charge are the upstream's bill.
#[track_caller]
fn billed(demo: &Demo, id: &str) -> Value {
    let (row, billed) = (demo.row(id), demo.billed(id));
    assert_eq!(row["charge_state"], "settled", "{row:#}");
    assert_eq!(json!(nano(&row["charge"])), billed["cost_nano"], "{row:#} {billed:#}");
    assert!(nano(&row["charge"]) <= nano(&demo.receipt(id)["hold"]["amount"]), "{row:#}");
    row
}

/// H1, money: DeepSeek passes over `max_completion_tokens`. It is told the cap by the name that it knows, so that the
/// answer is no longer than what is held for it.
#[test]
fn h1_h4_a_cap_counts_whatever_its_caller_named_it() {
    let demo = Demo::start();
    let key = demo.key(KEY);
    for stream in [false, true] {
        let more = json!({"max_completion_tokens": 20, "stream": stream});
        let reply = demo.ask(&Ask::chat_with(&key, "deepseek-chat", "#tokens=900", more));
        assert_eq!(reply.head.status, 200, "{}", reply.text());
        let row = billed(&demo, reply.head.request_id());
        assert_eq!(row["tokens"]["output"], 20, "{row:#}");
    }
    demo.nothing_stays_held();
}

/// H1, H4: a cap above what the model can give is lowered to that, in every format, and the answer says so.
#[test]
fn h1_h4_a_cap_above_the_models_is_lowered_and_told() {
    let demo = Demo::start();
    let key = demo.key(KEY);
    let user = json!([{"role": "user", "content": "hi"}]);
    for (path, mut body) in [
        ("/v1/chat/completions", json!({"max_tokens": 32_000, "messages": user})),
        ("/v1/chat/completions", json!({"max_completion_tokens": 32_000, "messages": user})),
        ("/v1/messages", json!({"max_tokens": 32_000, "messages": user})),
        ("/v1/responses", json!({"max_output_tokens": 32_000, "input": "hi"})),
        (
            "/v1beta/models/deepseek-chat:generateContent",
            json!({"generationConfig": {"maxOutputTokens": 32_000}, "contents": [{"parts": [{"text": "hi"}]}]}),
        ),
    ] {
        if !path.contains("models") {
            body["model"] = json!("deepseek-chat");
        }
        let reply = demo.ask(&Ask::post(path, &body).bearer(&key));
        assert_eq!(reply.head.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.head.header("x-tallygate-max-tokens"), Some("8192"), "{path}");
        let row = billed(&demo, reply.head.request_id());
        let receipt = demo.receipt(reply.head.request_id());
        let hold = &receipt["hold"];
        assert_eq!(
            (&hold["output_cap"], &hold["output_cap_reason"]),
            (&json!(8192), &json!("lowered")),
            "{row:#}"
        );
    }
    let reply = demo.ask(&Ask::chat_with(&key, "deepseek-chat", "hi", json!({"max_tokens": 8192})));
    assert_eq!(reply.head.header("x-tallygate-max-tokens"), None);
    demo.nothing_stays_held();
}
