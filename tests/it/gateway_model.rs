//! Rung 8 over real sockets: which models a key reaches, at which endpoints, and what the refusal says.

use serde_json::json;

use crate::gateway::{Expected, assert_refused};
use crate::support::demo::Demo;
use crate::support::http::Ask;

const NOT_IN_GROUP: Expected = ("model_not_in_group", 403, "group", "account", false);
const NOT_ALLOWED: Expected = ("model_not_allowed_for_key", 403, "key", "account", false);
const NOT_SUPPORTED: Expected = ("endpoint_not_supported_by_model", 400, "model", "caller", false);

fn listed(demo: &Demo, key: &str) -> Vec<String> {
    let models = demo.own(key, "/v1/models");
    models["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// E8: a group's list decides, and the list of models shows what can be called.
#[test]
fn e8_a_group_reaches_the_models_that_it_names() {
    let demo = Demo::start();
    let key = demo.key("group_without_model");
    let body = assert_refused(&demo, &demo.chat(&key, "gpt-5-mini", "Hello"), NOT_IN_GROUP);
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("deepseek") && message.contains("gpt-5-mini"), "{message}");
    demo.chat(&key, "deepseek-chat", "Hello").ok();
    assert_eq!(listed(&demo, &key), ["deepseek-chat"]);
}

/// D8: a key's own list names models and endpoints together; a beginning with `*` stands for all that begin so.
#[test]
fn d8_a_key_is_held_to_its_own_models_and_endpoints() {
    let demo = Demo::start();
    let account = demo.account("Lists", "1.00");
    let with = |allowed: serde_json::Value| {
        let body = json!({"account": account, "name": "one", "allowed": allowed});
        demo.admin_post("/api/keys", &body)["key"].as_str().unwrap().to_owned()
    };
    let by_beginning = with(json!([{"models": ["gpt-*"]}]));
    demo.chat(&by_beginning, "gpt-5-mini", "Hello").ok();
    let body = assert_refused(&demo, &demo.chat(&by_beginning, "deepseek-chat", "Hello"), NOT_ALLOWED);
    assert_eq!(body["error"]["param"], "model");
    assert_eq!(listed(&demo, &by_beginning), ["gpt-5-mini"]);

    let elsewhere = with(
        json!([{"endpoints": ["embeddings"]}, {"endpoints": ["chat/completions"], "models": ["demo-slow"]}]),
    );
    assert_refused(&demo, &demo.chat(&elsewhere, "gpt-5-mini", "Hello"), NOT_ALLOWED);
    demo.chat(&elsewhere, "demo-slow", "Hello").ok();
}

/// A model that gives no chat says where it works instead.
#[test]
fn a_model_of_another_endpoint_says_which_ones_it_has() {
    let demo = Demo::start();
    let model = json!({"name": "embed-1", "endpoints": ["embeddings", "rerank"]});
    demo.admin_post("/api/models", &model);
    let body = assert_refused(&demo, &demo.chat(&demo.key("healthy"), "embed-1", "Hello"), NOT_SUPPORTED);
    let message = body["error"]["message"].as_str().unwrap();
    for part in ["/v1/chat/completions", "/v1/embeddings", "/v1/rerank"] {
        assert!(message.contains(part), "{message}");
    }
}

/// S25: what a list cannot mean is refused when it is saved, with its place.
#[test]
fn s25_a_list_that_cannot_be_meant_is_refused_with_its_place() {
    let demo = Demo::start();
    let account = demo.account("Lists", "1.00");
    let cases = [
        (json!([{}]), "allowed[0]"),
        (json!([{"models": ["a"]}, {"endpoints": ["chat"]}]), "allowed[1].endpoints[0]"),
        (json!([{"models": ["a*b"]}]), "allowed[0].models[0]"),
        (json!([{"models": ["a", "a"]}]), "allowed[0].models"),
    ];
    for (allowed, field) in cases {
        let body = json!({"account": account, "name": "one", "allowed": allowed});
        let reply = demo.ask(&Ask::post("/api/keys", &body).bearer(&demo.admin_token()));
        assert_eq!((reply.head.status, &reply.json()["error"]["code"]), (400, &json!("invalid_value")));
        let param = reply.json()["error"]["param"].as_str().unwrap().to_owned();
        assert!(param.starts_with(field), "{param} for {field}");
    }
}
