//! What is sent to a provider, and what is bounded before it is held: whatever an upstream can bill beyond the hold is
//! refused by its name and place, and nothing is charged.

use serde_json::{Value, json};

use crate::support::demo::Demo;
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
