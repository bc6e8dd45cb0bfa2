//! How a failure of an upstream reaches clients of each format: in their own words where a conversation is too long, and in
//! a streamed response by the events that its clients wait for.

use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::http::Ask;
use crate::support::scripted::{answering, breaking_off, channel};

const MODEL: &str = "gpt-5-mini";

fn asks(key: &str, stream: bool) -> [(&'static str, Ask); 4] {
    let said = json!([{"role": "user", "content": "hello"}]);
    let chat = json!({"model": MODEL, "messages": said, "max_tokens": 100, "stream": stream});
    let response = json!({"model": MODEL, "input": "hello", "max_output_tokens": 100, "stream": stream});
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"maxOutputTokens": 100}});
    let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    let gemini =
        Ask::post(format!("/v1beta/models/{MODEL}:{method}"), &contents).header("x-goog-api-key", key);
    [
        ("chat", Ask::post("/v1/chat/completions", &chat).bearer(key)),
        ("responses", Ask::post("/v1/responses", &response).bearer(key)),
        ("messages", Ask::post("/v1/messages", &chat).header("x-api-key", key)),
        ("gemini", gemini),
    ]
}

/// The data of a stream's events, however it ends.
fn events(demo: &Demo, ask: &Ask) -> Vec<Value> {
    let mut connection = demo.connect();
    connection.send(ask).unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    let mut events = Vec::new();
    while let Ok(Some(event)) = connection.event() {
        events.push(serde_json::from_str(&event).unwrap());
    }
    events
}

/// S31: a conversation that is too long is told in the words by which clients of each format shorten it by themselves,
/// beside the upstream's own code and field; the code stays the catalogue's.
#[test]
fn s31_a_conversation_that_is_too_long_is_told_in_the_words_of_each_format() {
    let demo = Demo::start();
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let open_ai = json!({"error": {"message": "Your input exceeds the context window of this model.",
        "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}});
    let anthropic = json!({"type": "error", "error": {"type": "invalid_request_error",
        "message": "prompt is too long: 208310 tokens > 200000 maximum"}});
    let gemini = json!({"error": {"code": 400, "status": "INVALID_ARGUMENT",
        "message": "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."}});
    for (provider, body, theirs) in [
        ("openai", open_ai, json!({"code": "context_length_exceeded", "param": "messages"})),
        ("anthropic", anthropic, json!({"code": "invalid_request_error", "param": null})),
        ("gemini", gemini, json!({"code": "400", "param": null})),
    ] {
        let name = format!("too long for {provider}");
        let broken =
            channel(&demo, &name, provider, answering(400, "application/json", &body.to_string()), MODEL);
        for (client, ask) in asks(&key, false) {
            let reply = demo.ask(&ask);
            let told = reply.json();
            let (error, code) = match client {
                "gemini" => (&told["error"]["details"][0], &told["error"]["details"][0]["reason"]),
                _ => (&told["error"], &told["error"]["code"]),
            };
            assert_eq!((reply.head.status, code), (400, &json!("upstream_rejected")), "{client}: {told:#}");
            assert_eq!(error["upstream"], theirs, "{client} of {provider}: {told:#}");
            let words = match client {
                "messages" => "prompt is too long",
                "gemini" => "exceeds the maximum number of tokens allowed",
                _ => "context_length_exceeded",
            };
            let message = told["error"]["message"].as_str().unwrap();
            assert!(message.contains(words), "{client} of {provider}: {message}");
            // A field of the caller's own where nothing was converted.
            let same = provider == "openai" && matches!(client, "chat" | "responses");
            assert_eq!(error["param"] == json!("messages"), same, "{client} of {provider}: {told:#}");
            assert_eq!(demo.row(reply.head.request_id())["charge"], "0");
        }
        let ended = format!("/api/channels/{broken}");
        demo.ask(&Ask::new("PATCH", ended).raw_body(r#"{"status":"disabled"}"#).bearer(&demo.admin_token()))
            .ok();
    }
}

fn created() -> String {
    let response = json!({"id": "resp_1", "object": "response", "model": "theirs", "status": "in_progress", "output": []});
    let events = [
        json!({"type": "response.created", "sequence_number": 0, "response": response}),
        json!({"type": "response.in_progress", "sequence_number": 1, "response": response}),
    ];
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// A stream that says before its first word that the request was wrong is told as an answer that says so.
#[test]
fn s31_a_stream_that_begins_with_a_rejection_is_one() {
    let demo = Demo::start();
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let error =
        json!({"code": "context_length_exceeded", "message": "Your input exceeds the context window."});
    let failed = json!({"type": "response.failed", "sequence_number": 2,
        "response": {"id": "resp_1", "status": "failed", "error": error}});
    let stream = format!("{}data: {failed}\n\n", created());
    channel(&demo, "rejects", "openai", breaking_off(&stream), MODEL);
    let [_, (_, ask), ..] = asks(&key, true);
    let reply = demo.ask(&ask);
    let told = reply.json();
    assert_eq!((reply.head.status, &told["error"]["code"]), (400, &json!("upstream_rejected")), "{told:#}");
    assert_eq!(told["error"]["upstream"]["code"], "context_length_exceeded");
    assert!(told["error"]["message"].as_str().unwrap().contains("exceeds the context window"), "{told:#}");
    assert_eq!(demo.row(reply.head.request_id())["charge"], "0");
}

/// H4: a streamed response that breaks off ends with an error and with the response as it failed, numbered behind what
/// came before, whatever its upstream speaks.
#[test]
fn h4_a_response_that_breaks_off_says_so_by_its_last_two_events() {
    let demo = Demo::start();
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let said = [
        json!({"type": "response.output_item.added", "sequence_number": 2, "output_index": 0,
            "item": {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}}),
        // A number may be left out.
        json!({"type": "response.output_text.delta", "sequence_number": 5, "item_id": "msg_1", "output_index": 0,
            "content_index": 0, "delta": "\"sequence_number\":99"}),
    ];
    let said: String = said.iter().map(|event| format!("data: {event}\n\n")).collect();
    let failed = json!({"type": "response.failed", "sequence_number": 6,
        "response": {"id": "resp_1", "status": "failed", "error": {"code": "server_error", "message": "a secret"}}});
    let passes = format!("{}{said}", created());
    let chunk = json!({"id": "resp_1", "model": "theirs", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}});
    let converted = [
        json!({"type": "message_start", "message": chunk}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
    ];
    let converted: String = converted.iter().map(|event| format!("data: {event}\n\n")).collect();
    let cases = [
        ("cut", "openai", passes.clone()),
        ("failed", "openai", format!("{passes}data: {failed}\n\n")),
        ("converted", "anthropic", converted),
    ];
    for (what, provider, stream) in cases {
        let broken = channel(&demo, what, provider, breaking_off(&stream), MODEL);
        let [_, (_, ask), ..] = asks(&key, true);
        let events = events(&demo, &ask);
        let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{what}: {numbers:?}");
        let [before @ .., error, failed] = events.as_slice() else { panic!("{what}: {events:#?}") };
        assert_eq!(before[0]["type"], "response.created", "{what}");
        assert_eq!((&error["type"], &error["param"]), (&json!("error"), &Value::Null), "{what}: {error:#}");
        assert_eq!([&error["code"], &error["error"]["code"]], ["stream_interrupted"; 2], "{what}: {error:#}");
        assert_eq!(error["message"], error["error"]["message"], "{what}");
        assert_eq!(failed["type"], "response.failed", "{what}: {failed:#}");
        let response = &failed["response"];
        assert_eq!([&response["id"], &response["model"]], ["resp_1", "theirs"], "{what}: {failed:#}");
        assert_eq!(
            [&response["status"], &response["error"]["code"]],
            ["failed", "stream_interrupted"],
            "{what}"
        );
        assert!(!json!(events).to_string().contains("a secret"), "{what}: {events:#?}");
        let row = demo.row(error["error"]["request_id"].as_str().unwrap());
        assert_eq!(
            (&row["code"], &row["charge"]),
            (&json!("stream_interrupted"), &error["error"]["charged"])
        );
        let path = format!("/api/channels/{broken}");
        demo.ask(&Ask::new("PATCH", path).raw_body(r#"{"status":"disabled"}"#).bearer(&demo.admin_token()))
            .ok();
    }
}
