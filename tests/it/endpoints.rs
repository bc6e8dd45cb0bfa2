//! Every route of OpenAI's format over real sockets: what it answers, what it is charged by, and what is refused before
//! anything is held.

use serde_json::{Value, json};

use crate::support::demo::{Demo, nano, wait_until};
use crate::support::http::{Ask, Reply};

/// A call of each kind that the demo's upstream answers, and who counts what it uses.
pub fn calls(key: &str) -> Vec<(&'static str, &'static str, Ask)> {
    let post = |path: &str, body: Value| Ask::post(format!("/v1/{path}"), &body).bearer(key);
    let message = json!([{"role": "user", "content": "Hello there"}]);
    let items = json!([
        {"role": "user", "content": [{"type": "input_text", "text": "What is the weather in Ulm?"}]},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{\"city\":\"Ulm\"}"},
        {"type": "function_call_output", "call_id": "c", "output": "rain"},
    ]);
    let tool = json!([{"type": "function", "name": "weather", "parameters": {"type": "object"}}]);
    let documents = json!(["a red apple", "a blue sky", {"text": "an apple tree"}]);
    vec![
        ("chat", "upstream", post("chat/completions", json!({"model": "gpt-5-mini", "messages": message}))),
        (
            "completion",
            "upstream",
            post("completions", json!({"model": "gpt-5-mini", "prompt": "Once upon a"})),
        ),
        (
            "completion stream",
            "upstream",
            post(
                "completions",
                json!({"model": "gpt-5-mini", "prompt": "Once", "stream": true, "max_tokens": 60}),
            ),
        ),
        (
            "completion without usage",
            "counted",
            post("completions", json!({"model": "demo-no-usage", "prompt": "Once upon a time", "n": 2})),
        ),
        (
            "completions of several prompts",
            "upstream",
            post("completions", json!({"model": "gpt-5-mini", "prompt": ["Once upon", "a time"], "n": 2})),
        ),
        (
            "completions of several prompts without usage",
            "counted",
            post("completions", json!({"model": "demo-no-usage", "prompt": ["Once upon", "a time"]})),
        ),
        (
            "response",
            "upstream",
            post("responses", json!({"model": "gpt-5-mini", "input": "Hello", "store": false})),
        ),
        (
            "response with items and tools",
            "upstream",
            post(
                "responses",
                json!({"model": "gpt-5-mini", "input": items, "tools": tool, "max_output_tokens": 90}),
            ),
        ),
        (
            "response stream",
            "upstream",
            post("responses", json!({"model": "gpt-5-mini", "input": "Hello there, you", "stream": true})),
        ),
        (
            "response without usage",
            "counted",
            post(
                "responses",
                json!({"model": "demo-no-usage", "input": "Hello there", "instructions": "Be kind."}),
            ),
        ),
        (
            "response stream without usage",
            "counted",
            post("responses", json!({"model": "demo-no-usage", "input": "Hello there", "stream": true})),
        ),
        (
            "embeddings",
            "upstream",
            post(
                "embeddings",
                json!({"model": "demo-embedding", "input": ["one", "two words"], "dimensions": 4}),
            ),
        ),
        (
            "embeddings of tokens",
            "upstream",
            post("embeddings", json!({"model": "demo-embedding", "input": [[1, 2, 3], [4]]})),
        ),
        (
            "pictures by the piece",
            "counted",
            post(
                "images/generations",
                json!({"model": "demo-image", "prompt": "a cat", "n": 2, "size": "1792x1024"}),
            ),
        ),
        (
            "pictures by tokens",
            "upstream",
            post(
                "images/generations",
                json!({"model": "demo-image-tokens", "prompt": "a cat", "quality": "low"}),
            ),
        ),
        (
            "a stream of a picture",
            "upstream",
            post(
                "images/generations",
                json!({"model": "demo-image-tokens", "prompt": "a cat", "stream": true}),
            ),
        ),
        (
            "a picture changed",
            "upstream",
            Ask::form(
                "/v1/images/edits",
                &[
                    ("model", None, b"demo-image-tokens"),
                    ("prompt", None, b"with a hat"),
                    ("image[]", Some("a.png"), b"\x89PNG one"),
                    ("image[]", Some("b.png"), b"\x89PNG two"),
                ],
            )
            .bearer(key),
        ),
        (
            "speech by characters",
            "counted",
            post(
                "audio/speech",
                json!({"model": "demo-speech", "input": "Grüß dich, 世界", "voice": "alloy"}),
            ),
        ),
        (
            "speech by tokens",
            "upstream",
            post(
                "audio/speech",
                json!({"model": "demo-speech-tokens", "input": "Hello", "voice": "alloy", "stream_format": "sse"}),
            ),
        ),
        ("transcript by seconds", "upstream", transcription(key, "demo-transcribe", &[])),
        (
            "transcript as text, of a recording that tells its length",
            "counted",
            transcription(key, "demo-transcribe", &[("response_format", "text")]),
        ),
        (
            "transcript as text, of a recording that does not",
            "estimated",
            Ask::form(
                "/v1/audio/transcriptions",
                &[
                    ("model", None, b"demo-transcribe"),
                    ("response_format", None, b"text"),
                    ("file", Some("a.mp3"), &[7; 40_000]),
                ],
            )
            .bearer(key),
        ),
        (
            "subtitles of a recording that tells its length",
            "counted",
            transcription(key, "demo-transcribe", &[("response_format", "srt")]),
        ),
        (
            "transcript by tokens",
            "upstream",
            transcription(key, "demo-transcribe-tokens", &[("prompt", "names")]),
        ),
        (
            "transcript stream",
            "upstream",
            transcription(key, "demo-transcribe-tokens", &[("stream", "true")]),
        ),
        ("moderation", "counted", post("moderations", json!({"input": "a kind word"}))),
        (
            "rerank by searches",
            "upstream",
            post(
                "rerank",
                json!({"model": "demo-rerank", "query": "apple", "documents": documents, "top_n": 2}),
            ),
        ),
        (
            "rerank by tokens",
            "upstream",
            post("rerank", json!({"model": "demo-rerank-tokens", "query": "apple", "documents": documents})),
        ),
    ]
}

/// Two seconds and a bit of silence, as a WAVE file.
pub fn wave() -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend(8_000_u32.to_le_bytes());
    file.extend(16_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(33_000_u32.to_le_bytes());
    file.extend(vec![0; 33_000]);
    file
}

fn transcription(key: &str, model: &str, more: &[(&'static str, &str)]) -> Ask {
    let wave = wave();
    let mut fields = vec![("file", Some("a.wav"), wave.as_slice()), ("model", None, model.as_bytes())];
    fields.extend(more.iter().map(|(name, value)| (*name, None, value.as_bytes())));
    Ask::form("/v1/audio/transcriptions", &fields).bearer(key)
}

/// What the log says of a call is what the upstream billed for it, row by row and to the nano.
#[track_caller]
pub fn assert_billed(name: &str, row: &Value, billed: &Value) {
    let units = |row: &Value| row["units"].as_object().cloned().unwrap_or_default();
    assert_eq!(row["tokens"], billed["tokens"], "{name}: {row:#}\n{billed:#}");
    assert_eq!(units(row), units(billed), "{name}: {row:#}\n{billed:#}");
    assert_eq!(row["charge"], billed["cost"], "{name}: {row:#}\n{billed:#}");
    assert_eq!(row["upstream_request_id"], billed["upstream_request_id"], "{name}");
}

/// H1, H4, F6, B8: every route is served under both bases, and charged as the upstream's bill says.
#[test]
fn h4_every_route_is_charged_as_its_bill_says() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    for (at, (name, source, ask)) in calls(&key).into_iter().enumerate() {
        let path = if at % 2 == 0 { ask.path().to_owned() } else { ask.path().replace("/v1/", "/api/v1/") };
        let reply = demo.ask(&ask.at(path));
        assert!(reply.head.status == 200 && reply.whole, "{name}: {:?} {}", reply.head, reply.text());
        let id = reply.head.request_id();
        let (row, billed) = (demo.row(id), demo.billed(id));
        assert_eq!(row["usage_source"], source, "{name}: {row:#}");
        assert_billed(name, &row, &billed);
        if !reply.is_stream() {
            let cost = reply.head.header("x-tallygate-cost").unwrap_or_default();
            assert_eq!(cost, row["charge"].as_str().unwrap(), "{name}");
        }
        let receipt = demo.receipt(id);
        assert!(nano(&receipt["hold"]["amount"]) >= nano(&row["charge"]), "{name}: {receipt:#}");
    }
}

/// B8: a receipt has a line for each unit, with its quantity and price.
#[test]
fn b8_a_receipt_shows_what_is_not_sold_by_tokens() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let line = |ask: Ask| {
        let reply = demo.ask(&ask.bearer(&key));
        assert_eq!(reply.head.status, 200, "{}", reply.text());
        demo.receipt(reply.head.request_id())["lines"][0].clone()
    };
    let hd = json!({"model": "demo-image", "prompt": "a cat", "n": 3, "size": "1024x1024", "quality": "hd"});
    assert_eq!(
        line(Ask::post("/v1/images/generations", &hd)),
        json!({"class": "image", "quantity": "3", "per_unit": "0.08", "amount": "0.24"})
    );
    assert_eq!(
        line(transcription(&key, "demo-transcribe", &[])),
        json!({"class": "second", "quantity": "2.063", "per_unit": "0.0001", "amount": "0.0002063"})
    );
    let spoken = json!({"model": "demo-speech", "input": "世界", "voice": "alloy"});
    assert_eq!(
        line(Ask::post("/v1/audio/speech", &spoken)),
        json!({"class": "million_characters", "quantity": "0.000002", "per_unit": "15", "amount": "0.00003"})
    );
    let documents: Vec<String> = (0..101).map(|n| format!("document {n}")).collect();
    let ranked = json!({"model": "demo-rerank", "query": "a", "documents": documents});
    assert_eq!(
        line(Ask::post("/v1/rerank", &ranked)),
        json!({"class": "search", "quantity": "2", "per_unit": "0.002", "amount": "0.004"})
    );
}

/// The promise holds for bodies too long to be kept back: they come whole, and are charged as the bill says.
#[test]
fn long_answers_of_every_kind_come_whole_and_are_charged() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let long = format!("much #bytes={}", 3 << 20);
    let many: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    let cases = [
        ("audio/speech", json!({"model": "demo-speech", "input": long, "voice": "alloy"})),
        (
            "images/generations",
            json!({"model": "demo-image", "prompt": long, "response_format": "b64_json", "n": 2}),
        ),
        ("images/generations", json!({"model": "demo-image-tokens", "prompt": long})),
        ("embeddings", json!({"model": "demo-embedding", "input": many, "dimensions": 200})),
    ];
    for (path, body) in cases {
        let reply = demo.ask(&Ask::post(format!("/v1/{path}"), &body).bearer(&key));
        assert!(reply.head.status == 200 && reply.whole, "{path}: {:?}", reply.head);
        assert!(reply.body.len() > 1 << 20, "{path}: {}", reply.body.len());
        let id = reply.head.request_id();
        assert_billed(path, &demo.row(id), &demo.billed(id));
    }
}

/// The last event of a response waits for its settlement; one that breaks off is charged for what was delivered.
#[test]
fn streams_of_other_formats_wait_and_break_as_those_of_chats() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let ask = |path: &str, model: &str, field: &str| {
        let mut body = json!({"model": model, "stream": true, "max_tokens": 200});
        if path == "responses" {
            body = json!({"model": model, "stream": true});
        }
        body[field] = json!("one two three four five six seven eight");
        Ask::post(format!("/v1/{path}"), &body).bearer(&key)
    };
    let mut connection = demo.connect();
    connection.send(&ask("responses", "demo-slow", "input")).unwrap();
    let id = connection.head().unwrap().request_id().to_owned();
    let kind =
        |event: &str| serde_json::from_str::<Value>(event).unwrap()["type"].as_str().unwrap().to_owned();
    assert_eq!(kind(&connection.event().unwrap().unwrap()), "response.created");
    assert_eq!(demo.row(&id)["charge_state"], "held");
    let last = loop {
        let event = connection.event().unwrap().unwrap();
        if kind(&event) == "response.completed" {
            break event;
        }
    };
    assert_eq!(demo.row(&id)["charge_state"], "settled");
    assert!(serde_json::from_str::<Value>(&last).unwrap()["response"]["usage"].is_object());
    assert_billed("response", &demo.row(&id), &demo.billed(&id));
    for (path, field) in [("completions", "prompt"), ("responses", "input")] {
        let mut connection = demo.connect();
        connection.send(&ask(path, "demo-cut", field)).unwrap();
        let id = connection.head().unwrap().request_id().to_owned();
        let mut last = String::new();
        while let Ok(Some(event)) = connection.event() {
            last = event;
        }
        let last: Value = serde_json::from_str(&last).unwrap();
        let error = if path == "responses" { &last["response"]["error"] } else { &last["error"] };
        assert_eq!(error["code"], "stream_interrupted", "{path}: {last:#}");
        let row = demo.row(&id);
        assert_eq!((&row["ending"], &row["usage_source"]), (&json!("upstream_cut"), &json!("counted")));
        assert_ne!(row["charge"], "0");
        assert_billed(path, &row, &demo.billed(&id));
    }
    let mut connection = demo.connect();
    connection.send(&ask("responses", "demo-slow", "input")).unwrap();
    let id = connection.head().unwrap().request_id().to_owned();
    connection.event().unwrap().unwrap();
    drop(connection);
    wait_until("the call is settled", || demo.row(&id)["charge_state"] == "settled");
    assert_eq!(demo.row(&id)["ending"], "caller_gone_drained");
    assert_billed("a caller that left", &demo.row(&id), &demo.billed(&id));
}

/// S24: a cap, a budget and a rate that are used up at one endpoint are used up at every other.
#[test]
fn s24_limits_count_on_every_surface() {
    let demo = Demo::start();
    let account = demo.account("Surfaces", "1.00");
    let limit = |metric: &str, value: &str| json!([{"metric": metric, "window": "day", "value": value, "origin": "owner"}]);
    let embed = |key: &str| {
        demo.ask(
            &Ask::post("/v1/embeddings", &json!({"model": "demo-embedding", "input": "one"})).bearer(key),
        )
    };
    let one_call = demo.key_of(&account, limit("calls", "1"));
    assert_eq!(embed(&one_call).head.status, 200);
    for (name, _, ask) in calls(&one_call) {
        let reply = demo.ask(&ask);
        assert_eq!(reply.json()["error"]["code"], "daily_calls_exhausted", "{name}: {}", reply.text());
    }
    let no_money = demo.key_of(&account, limit("spend", "0"));
    for (name, _, ask) in calls(&no_money) {
        let reply = demo.ask(&ask);
        assert_eq!(reply_code(&reply), "key_budget_exhausted", "{name}: {}", reply.text());
    }
    let slow = demo.key("qps_one");
    assert_eq!(embed(&slow).head.status, 200);
    let rated = demo.chat(&slow, "gpt-5-mini", "Hello");
    assert_eq!(reply_code(&rated), "rate_limit_requests", "{}", rated.text());
}

fn reply_code(reply: &Reply) -> Value {
    serde_json::from_slice::<Value>(&reply.body).map_or(Value::Null, |body| body["error"]["code"].clone())
}

/// A model is called where it works alone; a key at the endpoints that it is allowed.
#[test]
fn models_and_keys_are_bound_to_their_endpoints() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let call = |key: &str, path: &str, body: Value| {
        reply_code(&demo.ask(&Ask::post(format!("/v1/{path}"), &body).bearer(key)))
    };
    let chat = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(call(&key, "chat/completions", chat("demo-embedding")), "endpoint_not_supported_by_model");
    let embed = json!({"model": "gpt-5-mini", "input": "Hi"});
    assert_eq!(call(&key, "embeddings", embed), "endpoint_not_supported_by_model");
    let account = demo.account("Endpoints", "1.00");
    let narrow = json!({"account": account, "name": "narrow", "allowed": [{"endpoints": ["embeddings"]}]});
    let narrow = demo.admin_post("/api/keys", &narrow)["key"].as_str().unwrap().to_owned();
    let embed = json!({"model": "demo-embedding", "input": "Hi"});
    assert_eq!(call(&narrow, "embeddings", embed), Value::Null);
    assert_eq!(call(&narrow, "chat/completions", chat("gpt-5-mini")), "model_not_allowed_for_key");
    // A price that has nothing for what is asked for is none.
    let model = json!({"name": "by-the-piece", "endpoints": ["chat/completions", "images/generations"]});
    demo.admin_post("/api/models", &model);
    let units = json!([{"unit": "image", "size": "1024x1024", "price": "0.04"}]);
    demo.admin_post("/api/prices", &json!({"model": "by-the-piece", "units": units}));
    let channel = demo.admin("/api/channels")["data"][0].clone();
    let mut models = channel["models"].clone();
    models["by-the-piece"] = json!("demo-image");
    let path = format!("/api/channels/{}", channel["id"].as_str().unwrap());
    let patch = Ask::new("PATCH", path).raw_body(json!({"models": models}).to_string());
    demo.ask(&patch.bearer(&demo.admin_token())).ok();
    assert_eq!(call(&key, "chat/completions", chat("by-the-piece")), "model_unpriced");
    let draw = |size: &str| json!({"model": "by-the-piece", "prompt": "a cat", "size": size});
    let odd = demo.ask(&Ask::post("/v1/images/generations", &draw("7x7")).bearer(&key));
    assert_eq!(
        (reply_code(&odd), &odd.json()["error"]["param"]),
        (json!("invalid_parameter"), &json!("size"))
    );
    assert_eq!(call(&key, "images/generations", draw("1024x1024")), Value::Null);
}

/// Bad input at each route: the catalogue's code and the field, and nothing is held for it.
#[test]
fn bad_input_names_the_field_at_every_route() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let deep = format!("{{\"model\":\"demo-embedding\",\"input\":{}", "[".repeat(200_000));
    let json_cases = [
        ("completions", json!({"model": "gpt-5-mini"}), "prompt"),
        ("completions", json!({"model": "gpt-5-mini", "prompt": []}), "prompt"),
        ("completions", json!({"model": "gpt-5-mini", "prompt": ["a", 1]}), "prompt"),
        ("completions", json!({"model": "gpt-5-mini", "prompt": "a", "n": 0}), "n"),
        ("completions", json!({"model": "gpt-5-mini", "prompt": "a", "max_tokens": "many"}), "max_tokens"),
        ("responses", json!({"model": "gpt-5-mini"}), "input"),
        ("responses", json!({"model": "gpt-5-mini", "input": 7}), "input"),
        ("responses", json!({"model": "gpt-5-mini", "input": ["a"]}), "input[0]"),
        (
            "responses",
            json!({"model": "gpt-5-mini", "input": [{"role": "user", "content": [7]}]}),
            "input[0].content[0]",
        ),
        (
            "responses",
            json!({"model": "gpt-5-mini", "input": "a", "previous_response_id": "r"}),
            "previous_response_id",
        ),
        ("responses", json!({"model": "gpt-5-mini", "input": "a", "conversation": "c"}), "conversation"),
        ("responses", json!({"model": "gpt-5-mini", "input": "a", "background": true}), "background"),
        (
            "responses",
            json!({"model": "gpt-5-mini", "input": "a", "tools": [{"type": "web_search"}]}),
            "tools[0]",
        ),
        (
            "responses",
            json!({"model": "gpt-5-mini", "input": [{"type": "item_reference", "id": "i"}]}),
            "input[0]",
        ),
        (
            "responses",
            json!({"model": "gpt-5-mini", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}),
            "input[0].content[0]",
        ),
        ("embeddings", json!({"model": "demo-embedding"}), "input"),
        ("embeddings", json!({"model": "demo-embedding", "input": 7}), "input"),
        ("embeddings", json!({"input": "a"}), "model"),
        ("moderations", json!({"model": "demo-moderation"}), "input"),
        ("images/generations", json!({"model": "demo-image"}), "prompt"),
        ("images/generations", json!({"model": "demo-image", "prompt": "a", "n": 1000}), "n"),
        ("images/generations", json!({"model": "demo-image", "prompt": "a", "size": 7}), "size"),
        (
            "images/generations",
            json!({"model": "demo-image-tokens", "prompt": "a", "partial_images": 2}),
            "partial_images",
        ),
        ("audio/speech", json!({"model": "demo-speech", "voice": "alloy"}), "input"),
        ("audio/speech", json!({"model": "demo-speech", "input": ["a"]}), "input"),
        (
            "audio/speech",
            json!({"model": "demo-speech-tokens", "input": "a", "voice": "alloy"}),
            "stream_format",
        ),
        ("rerank", json!({"model": "demo-rerank", "documents": ["a"]}), "query"),
        ("rerank", json!({"model": "demo-rerank", "query": "a", "documents": []}), "documents"),
        ("rerank", json!({"model": "demo-rerank", "query": "a", "documents": "a"}), "documents"),
    ];
    let refused = |reply: &Reply, code: &str, field: &Value| {
        let body = reply.json();
        assert_eq!((&body["error"]["code"], &body["error"]["param"]), (&json!(code), field), "{body:#}");
        assert_eq!(body["error"]["charged"], "0");
        let row = demo.row(reply.head.request_id());
        assert_eq!((&row["charge_state"], &row["charge"]), (&json!("none"), &json!("0")), "{row:#}");
    };
    for (path, body, field) in json_cases {
        let reply = demo.ask(&Ask::post(format!("/v1/{path}"), &body).bearer(&key));
        refused(&reply, "invalid_parameter", &json!(field));
    }
    for path in [
        "completions",
        "responses",
        "embeddings",
        "images/generations",
        "audio/speech",
        "rerank",
        "moderations",
    ] {
        for body in ["{", "[1]", "\u{feff}{}", "", &deep] {
            let ask = Ask::new("POST", format!("/v1/{path}")).raw_body(body.to_owned()).bearer(&key);
            refused(&demo.ask(&ask), "invalid_json", &Value::Null);
        }
        let twice = r#"{"model":"gpt-5-mini","mod\u0065l":"gpt-5-mini"}"#;
        let ask = Ask::new("POST", format!("/v1/{path}")).raw_body(twice).bearer(&key);
        refused(&demo.ask(&ask), "invalid_parameter", &json!("model"));
    }
    let form =
        |path: &str, fields: &[(&str, Option<&str>, &[u8])]| demo.ask(&Ask::form(path, fields).bearer(&key));
    let (edits, transcriptions) = ("/v1/images/edits", "/v1/audio/transcriptions");
    let model = ("model", None, b"demo-image".as_slice());
    refused(&form(edits, &[model]), "invalid_parameter", &json!("image"));
    refused(&form(edits, &[("image", Some("a.png"), b"x")]), "invalid_parameter", &json!("model"));
    refused(
        &form(edits, &[model, model, ("image", Some("a.png"), b"x")]),
        "invalid_parameter",
        &json!("model"),
    );
    let many = ("n", None, b"many".as_slice());
    refused(&form(edits, &[model, many, ("image", Some("a"), b"x")]), "invalid_parameter", &json!("n"));
    refused(
        &form(transcriptions, &[("model", None, b"demo-transcribe")]),
        "invalid_parameter",
        &json!("file"),
    );
    for body in ["", "--b\r\n", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx"] {
        let ask = Ask::new("POST", transcriptions).body(body, "multipart/form-data; boundary=b").bearer(&key);
        refused(&demo.ask(&ask), "invalid_parameter", &json!("body"));
    }
    let ask = Ask::post(transcriptions, &json!({"model": "demo-transcribe"})).bearer(&key);
    refused(&demo.ask(&ask), "unsupported_media_type", &Value::Null);
    let mut connection = demo.connect();
    let head = format!(
        "POST {transcriptions} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\
         content-type: multipart/form-data; boundary=b\r\ncontent-length: 1000000000\r\n\r\n"
    );
    connection.send_raw(head.as_bytes()).unwrap();
    let reply = connection.reply().unwrap();
    refused(&reply, "body_too_large", &Value::Null);
    assert!(demo.held().iter().all(|held| held == "0"));
}

/// What an upstream does not know of a request is passed on as it came, but for the model's name.
#[test]
fn unknown_fields_reach_the_upstream_untouched() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let body =
        json!({"model": "demo-embedding", "input": "a", "dimensions": 3, "some_new_field": {"a": [1, {}]}});
    let reply = demo.ask(&Ask::post("/v1/embeddings", &body).bearer(&key)).ok();
    assert_eq!(reply["data"][0]["embedding"].as_array().unwrap().len(), 3);
    // A moderation that names no model goes upstream under the format's own.
    let reply = demo.ask(&Ask::post("/v1/moderations", &json!({"input": "#flag"})).bearer(&key)).ok();
    assert_eq!(
        (&reply["model"], &reply["results"][0]["flagged"]),
        (&json!("omni-moderation-latest"), &json!(true))
    );
    // A completion without a cap is as short as the format has it.
    let body = json!({"model": "gpt-5-mini", "prompt": "one two three #tokens=40"});
    let reply = demo.ask(&Ask::post("/v1/completions", &body).bearer(&key)).ok();
    assert_eq!(
        (&reply["choices"][0]["finish_reason"], &reply["usage"]["completion_tokens"]),
        (&json!("length"), &json!(16))
    );
}

/// S35: the policy lacks the embeddings resource → an implicit deny; it is edited → the old Why still shows the old
/// policy, and the simulator now allows.
#[test]
fn s35_a_policy_without_the_embeddings_resource() {
    let demo = Demo::start();
    let account = demo.account("Policies", "1.00");
    let document = |resource: &str| {
        json!({"Version": "2026-11-01", "Statement": [{"Sid": "Some", "Effect": "Allow",
            "Action": ["tallygate:call", "models:*"], "Resource": [resource, "arn:tallygate:model:*"]}]})
    };
    let narrow =
        json!({"account": account, "name": "chats", "document": document("arn:tallygate:api:*/chat/*")});
    let policy = demo.admin_post("/api/policies", &narrow)["id"].as_str().unwrap().to_owned();
    let key = demo.admin_post("/api/keys", &json!({"account": account, "name": "one", "policies": [policy]}));
    let key = key["key"].as_str().unwrap().to_owned();
    let body = json!({"model": "demo-embedding", "input": "Hi"});
    let simulate = || demo.ask(&Ask::post("/v1/simulate?endpoint=embeddings", &body).bearer(&key)).ok();
    let reply = demo.ask(&Ask::post("/v1/embeddings", &body).bearer(&key));
    assert_eq!(reply_code(&reply), "permission_denied_implicit", "{}", reply.text());
    let why = format!("/v1/requests/{}/why", reply.head.request_id());
    let before = demo.own(&key, &why);
    assert!(before.to_string().contains("/embeddings"), "{before:#}");
    assert_eq!(simulate()["would"], "fail");
    let patch = Ask::new("PATCH", format!("/api/policies/{policy}"))
        .raw_body(json!({"document": document("arn:tallygate:api:*/embeddings")}).to_string());
    demo.ask(&patch.bearer(&demo.admin_token())).ok();
    assert_eq!(demo.own(&key, &why), before);
    assert_eq!(simulate()["would"], "pass");
    demo.ask(&Ask::post("/v1/embeddings", &body).bearer(&key)).ok();
}
