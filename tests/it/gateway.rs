//! The running gateway over real sockets: every refusal and failure with its whole answer, its row in the
//! log, and nothing held afterwards (the demo's drop looks at that, and verifies).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::http::{Ask, Reply};

const MODEL: &str = "gpt-5-mini";

/// A refusal as callers know it: code, status, layer, fault, retryable.
pub type Expected = (&'static str, u16, &'static str, &'static str, bool);

fn members(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Holds a refusal against the contract: status, headers, every member of both objects.
#[track_caller]
pub fn assert_refused(
    demo: &Demo,
    reply: &Reply,
    (code, status, layer, fault, retryable): Expected,
) -> Value {
    let body = reply.json();
    let error = &body["error"];
    assert_eq!((reply.head.status, &error["code"]), (status, &json!(code)), "{body:#}");
    let error_members = [
        "message",
        "type",
        "param",
        "code",
        "layer",
        "fault",
        "retryable",
        "charged",
        "limit",
        "hint",
        "request_id",
        "doc_url",
        "why_url",
    ];
    let mut told = members(error);
    // Its own code and field, where it gave any.
    assert!(!told.remove("upstream") || code == "upstream_rejected", "{body:#}");
    assert_eq!(told, BTreeSet::from(error_members));
    assert_eq!(members(&body), BTreeSet::from(["error", "type", "title", "status", "detail", "instance"]));
    assert_eq!(
        (&error["layer"], &error["fault"], &error["retryable"]),
        (&json!(layer), &json!(fault), &json!(retryable))
    );
    assert_eq!((&error["charged"], &body["status"]), (&json!("0"), &json!(status)));
    assert_eq!(
        (&body["type"], &body["detail"], &body["instance"]),
        (&error["doc_url"], &error["message"], &error["why_url"])
    );
    let doc = format!("http://{}/errors/{code}", demo.address());
    assert_eq!(error["doc_url"], doc);
    assert_eq!(error["request_id"], reply.head.request_id());
    for text in ["message", "type", "hint"] {
        assert!(error[text].as_str().is_some_and(|text| !text.is_empty()), "{text}: {body:#}");
    }
    let should_retry = reply.head.header("x-should-retry");
    assert_eq!(should_retry, (!retryable).then_some("false"), "{code}");
    let retry_after = reply.head.header("retry-after").and_then(|after| after.parse::<u64>().ok());
    assert!(!matches!(status, 429) || retry_after.is_some(), "{:?}", reply.head);
    assert!(status != 401 || reply.head.header("www-authenticate").is_some(), "{:?}", reply.head);
    body
}

/// The refused call is in the log, with its code and no money, and can be asked why.
#[track_caller]
fn assert_logged(demo: &Demo, reply: &Reply, code: &str, charge_state: &str) -> Value {
    let id = reply.head.request_id();
    let row = demo.row(id);
    assert_eq!((&row["code"], &row["status"]), (&json!(code), &json!(reply.head.status)), "{row:#}");
    assert_eq!((&row["charge_state"], &row["charge"]), (&json!(charge_state), &json!("0")), "{row:#}");
    let why = demo.admin(&format!("/api/requests/{id}/why"));
    assert_eq!(why["refusal"]["code"], code, "{why:#}");
    row
}

/// S29: empty, too small, spent, revoked and unknown are told apart, each with its own code and status.
#[test]
fn s29_every_demo_key_answers_with_its_own_code() {
    let demo = Demo::start();
    let refused: [(&str, Expected); 26] = [
        ("empty_balance", ("balance_exhausted", 402, "account", "account", false)),
        ("low_balance", ("balance_insufficient", 402, "account", "account", false)),
        ("key_budget_spent", ("key_budget_exhausted", 402, "key", "account", false)),
        ("daily_spend", ("key_budget_exhausted", 402, "key", "account", false)),
        ("member_budget_spent", ("member_budget_exhausted", 402, "member", "account", false)),
        ("project_budget_spent", ("project_budget_exhausted", 402, "project", "account", false)),
        ("group_quota_spent", ("group_quota_exhausted", 402, "group", "account", false)),
        ("daily_zero", ("daily_calls_exhausted", 429, "key", "account", false)),
        ("daily_spent", ("daily_calls_exhausted", 429, "key", "account", false)),
        ("account_suspended", ("account_suspended", 403, "account", "account", false)),
        ("account_view_only", ("account_view_only", 403, "account", "account", false)),
        ("org_suspended", ("account_suspended", 403, "account", "account", false)),
        ("education_default", ("model_calls_suspended", 403, "account", "account", false)),
        ("project_paused", ("project_paused", 403, "project", "account", false)),
        ("project_arrears", ("project_in_arrears", 403, "project", "account", false)),
        ("revoked", ("key_revoked", 401, "key", "account", false)),
        ("disabled", ("key_disabled", 403, "key", "account", false)),
        ("pending_review", ("key_pending_review", 403, "key", "account", false)),
        ("risk_frozen", ("key_risk_frozen", 403, "key", "account", false)),
        ("expired", ("key_expired", 403, "key", "account", false)),
        ("outside_schedule", ("key_outside_schedule", 403, "key", "account", false)),
        ("ip_denied", ("key_ip_not_allowed", 403, "key", "account", false)),
        ("no_permission", ("permission_denied_implicit", 403, "policy", "account", false)),
        ("explicit_deny", ("permission_denied_explicit", 403, "policy", "account", false)),
        ("model_not_allowed", ("model_not_allowed_for_key", 403, "key", "account", false)),
        ("group_without_model", ("model_not_in_group", 403, "group", "account", false)),
    ];
    let names: Vec<_> = demo.ready()["keys"].as_object().unwrap().keys().cloned().collect();
    for name in &names {
        let reply = demo.chat(&demo.key(name), MODEL, "Hello");
        match refused.iter().find(|(known, _)| known == name) {
            Some((_, expected)) => {
                assert_refused(&demo, &reply, *expected);
                let row = assert_logged(&demo, &reply, expected.0, "none");
                assert!(row["upstream_status"].is_null(), "nothing is sent upstream: {row:#}");
            }
            // Those that work, if only once at a time.
            None => {
                let working = ["healthy", "test_env", "qps_one", "concurrency_one"];
                assert!(working.contains(&&**name), "{name}: {}", reply.text());
                assert_eq!(reply.ok()["choices"][0]["message"]["content"], "echo: Hello");
            }
        }
    }
    let nobody = demo.chat("sk-nobody-has-ever-made-this-key-0123456789", MODEL, "Hello");
    assert_refused(&demo, &nobody, ("unknown_key", 401, "key", "caller", false));
    assert_logged(&demo, &nobody, "unknown_key", "none");
    let none = demo.ask(&Ask::post("/v1/chat/completions", &json!({"model": MODEL, "messages": []})));
    assert_refused(&demo, &none, ("missing_key", 401, "key", "caller", false));
}

/// S30: a balance that does not suffice says available, held, needed, short by, and whose account.
#[test]
fn s30_a_refusal_over_money_shows_its_numbers() {
    let demo = Demo::start();
    let key = demo.key("low_balance");
    let reply = demo.chat(&key, MODEL, "Hello");
    let body = assert_refused(&demo, &reply, ("balance_insufficient", 402, "account", "account", false));
    let limit = &body["error"]["limit"];
    let amounts =
        ["available", "held", "needed", "short_by"].map(|name| crate::support::demo::nano(&limit[name]));
    let [available, held, needed, short_by] = amounts;
    assert_eq!((available, held, short_by), (10_000, 0, needed - available));
    assert_eq!((&limit["scope"], &limit["id"]), (&json!("account"), &demo.own(&key, "/v1/key")["account"]));
    let message = body["error"]["message"].as_str().unwrap();
    for name in ["available", "held", "needed", "short_by"] {
        assert!(message.contains(limit[name].as_str().unwrap()), "{message}");
    }
    let spent = demo.chat(&demo.key("key_budget_spent"), MODEL, "Hello").json();
    let limit = &spent["error"]["limit"];
    assert_eq!(
        (&limit["window"], &limit["used"], &limit["held"]),
        (&json!("month"), &limit["limit"], &json!("0"))
    );
    assert!(limit["resets_at"].as_str().unwrap().ends_with("-01T00:00:00Z"), "{limit:#}");
}

/// S31's shape: the upstream's failures are the platform's, with its words for the operator alone; each hold
/// is given back.
#[test]
fn s31_every_failure_of_an_upstream_answers_with_its_own_code() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let failures: [(&str, Expected); 5] = [
        ("demo-429", ("upstream_rate_limited", 503, "upstream", "upstream", true)),
        ("demo-500", ("upstream_error", 502, "upstream", "upstream", true)),
        ("demo-cut", ("upstream_error", 502, "upstream", "upstream", true)),
        ("demo-no-credit", ("upstream_out_of_credit", 502, "upstream", "gateway", false)),
        ("demo-timeout", ("upstream_timeout", 504, "upstream", "upstream", true)),
    ];
    for stream in [false, true] {
        for (model, expected) in failures {
            // A stream that breaks off has an answer of its own; a silence is long enough once.
            if stream && matches!(model, "demo-cut" | "demo-timeout") {
                continue;
            }
            let reply = demo.ask(&Ask::chat_with(&key, model, "Hello", json!({"stream": stream})));
            let body = assert_refused(&demo, &reply, expected);
            let row = assert_logged(&demo, &reply, expected.0, "released");
            assert!(!body.to_string().contains("exceeded your current quota"), "{body:#}");
            if model == "demo-no-credit" {
                let words = row["upstream_error"].as_str().unwrap();
                assert!(words.contains("exceeded your current quota"), "{row:#}");
            }
            if model == "demo-429" {
                assert_eq!(reply.head.header("retry-after"), Some("2"));
            }
        }
    }
    demo.nothing_stays_held();
    assert!(demo.bill().iter().all(|row| row["gateway_request_id"].is_null() || row["model"] == MODEL));
}

/// A model without a price, without a channel, and one that does not exist.
#[test]
fn a_model_that_cannot_be_called_is_refused_before_anything_is_sent() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let cases: [(&str, Expected); 3] = [
        ("demo-unpriced", ("model_unpriced", 503, "model", "gateway", false)),
        ("demo-down", ("no_channel", 503, "channel", "gateway", false)),
        ("gpt-5-mimi", ("model_not_found", 404, "model", "caller", false)),
    ];
    for (model, expected) in cases {
        let reply = demo.chat(&key, model, "Hello");
        let body = assert_refused(&demo, &reply, expected);
        assert_logged(&demo, &reply, expected.0, "none");
        if model == "gpt-5-mimi" {
            assert!(body["error"]["message"].as_str().unwrap().contains("gpt-5-mini"), "{body:#}");
        }
    }
}

/// S32: a zero-width space at the end of a key, as raw bytes; S33: a key that is too short.
#[test]
fn s32_s33_a_malformed_key_is_told_by_code_point_and_length() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let invisible = [key.as_bytes(), "\u{200b}".as_bytes()].concat();
    let ask = Ask::post("/v1/chat/completions", &json!({}))
        .header("authorization", [b"Bearer ", &invisible[..]].concat());
    let reply = demo.ask(&ask);
    let body = assert_refused(&demo, &reply, ("malformed_key", 401, "key", "caller", false));
    let message = body["error"]["message"].as_str().unwrap();
    // Counted from 0, as the key has no character at this place.
    let position = key.chars().count().to_string();
    for part in ["U+200B", position.as_str(), "The balance was not checked."] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_logged(&demo, &reply, "malformed_key", "none");
    assert_eq!(demo.row(reply.head.request_id())["balance_checked"], false);

    let short = demo.chat(&key[..20], MODEL, "Hello");
    let body = assert_refused(&demo, &short, ("malformed_key", 401, "key", "caller", false));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("20") && message.contains(&key.len().to_string()), "{message}");
    let wrong_end = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    let body = assert_refused(
        &demo,
        &demo.chat(&wrong_end, MODEL, "Hello"),
        ("malformed_key", 401, "key", "caller", false),
    );
    assert!(body["error"]["message"].as_str().unwrap().contains("checksum"), "{body:#}");
    assert!(!demo.log().contains(&key));
}

/// Bad input: each has a code of the catalogue, and nothing is held or sent upstream.
#[test]
fn bad_input_is_refused_with_a_code_and_holds_nothing() {
    let demo = Demo::start_with(&[("TALLYGATE_LIMITS__REQUEST_BODY_BYTES_MAX", "65536")]);
    let key = demo.key("healthy");
    let billed = demo.bill().len();
    let chat = |body: &[u8]| Ask::new("POST", "/v1/chat/completions").bearer(&key).raw_body(body);
    let caller = |code, status| (code, status, "request", "caller", false);
    let mut huge = br#"{"model":"gpt-5-mini","messages":[{"role":"user","content":""#.to_vec();
    huge.resize(70_000, b'a');
    let message = br#"{"role":"user","content":"hi"}"#;
    let with = |more: &str| {
        format!(r#"{{"model":"gpt-5-mini","messages":[{}]{more}}}"#, String::from_utf8_lossy(message))
    };
    let cases: Vec<(&str, Ask, Expected, Option<&str>)> = vec![
        ("malformed", chat(b"{\"model\": "), caller("invalid_json", 400), None),
        ("empty", chat(b""), caller("invalid_json", 400), None),
        ("not an object", chat(b"[1, 2]"), caller("invalid_json", 400), None),
        (
            "not UTF-8",
            chat(b"{\"model\":\"gpt-5-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}"),
            caller("invalid_json", 400),
            None,
        ),
        ("deep", chat(&[b'['; 50_000]), caller("invalid_json", 400), None),
        (
            "no messages",
            chat(br#"{"model":"gpt-5-mini","messages":[]}"#),
            caller("invalid_parameter", 400),
            Some("messages"),
        ),
        (
            "model as number",
            chat(br#"{"model":5,"messages":[{"role":"user","content":"hi"}]}"#),
            caller("invalid_parameter", 400),
            Some("model"),
        ),
        (
            "cap as text",
            chat(with(r#","max_tokens":"many""#).as_bytes()),
            caller("invalid_parameter", 400),
            Some("max_tokens"),
        ),
        (
            "negative cap",
            chat(with(r#","max_tokens":-1"#).as_bytes()),
            caller("invalid_parameter", 400),
            Some("max_tokens"),
        ),
        (
            "stream as text",
            chat(with(r#","stream":"yes""#).as_bytes()),
            caller("invalid_parameter", 400),
            Some("stream"),
        ),
        ("no choices", chat(with(r#","n":0"#).as_bytes()), caller("invalid_parameter", 400), Some("n")),
        (
            "too many choices",
            chat(with(r#","n":1000000000"#).as_bytes()),
            caller("invalid_parameter", 400),
            Some("n"),
        ),
        ("huge", chat(&huge), caller("body_too_large", 413), None),
        (
            "other type",
            Ask::new("POST", "/v1/chat/completions").bearer(&key).header("content-type", "text/plain"),
            caller("unsupported_media_type", 415),
            None,
        ),
        (
            "other method",
            Ask::get("/v1/chat/completions").bearer(&key),
            caller("method_not_allowed", 405),
            None,
        ),
        ("no endpoint", chat(b"{}").at("/v1/chat/completion"), caller("unknown_endpoint", 404), None),
        ("no version", chat(b"{}").at("/chat/completions"), caller("wrong_base_url", 404), None),
    ];
    for (name, ask, expected, param) in cases {
        let reply = demo.ask(&ask);
        let body = assert_refused(&demo, &reply, expected);
        assert_eq!(body["error"]["param"].as_str(), param, "{name}: {body:#}");
        let row = assert_logged(&demo, &reply, expected.0, "none");
        assert!(row["upstream_status"].is_null(), "{name}: {row:#}");
    }
    demo.nothing_stays_held();
    assert_eq!(demo.bill().len(), billed);
    // The same connection is good for a call after a refusal.
    let mut connection = demo.connect();
    assert_eq!(connection.ask(&chat(b"{")).unwrap().head.status, 400);
    assert_eq!(connection.ask(&Ask::chat(&key, MODEL, "Hello")).unwrap().head.status, 200);
}

/// A head that cannot be read, one that is too large, and callers that are too slow.
#[test]
fn a_head_that_is_no_head_and_a_slow_caller_get_their_code() {
    let demo = Demo::start_with(&[
        ("TALLYGATE_LIMITS__HEADER_TIMEOUT_MS", "400"),
        ("TALLYGATE_LIMITS__BODY_TIMEOUT_MS", "400"),
        ("TALLYGATE_LIMITS__HEADER_BYTES_MAX", "8192"),
    ]);
    let key = demo.key("healthy");
    let code = |bytes: &[u8]| {
        let mut connection = demo.connect();
        connection.send_raw(bytes).unwrap();
        let reply = connection.reply().unwrap();
        (reply.head.status, reply.json()["error"]["code"].as_str().unwrap().to_owned())
    };
    let large = Ask::chat(&key, MODEL, "Hello").header("x-much", vec![b'a'; 20_000]).bytes();
    assert_eq!(code(&large), (431, "headers_too_large".into()));
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET /v1/models\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    ] {
        assert_eq!(code(garbage), (400, "malformed_request".into()), "{}", String::from_utf8_lossy(garbage));
    }
    // HTTP that leaves open what is asked, or where it ends.
    let with = |head: &str, body: &str| {
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {key}\r\n{head}\r\n");
        code(format!("{head}{body}").as_bytes())
    };
    for (head, body) in [
        ("host: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n", "hello"),
        ("host: a\r\ncontent-length: abc\r\n", ""),
        ("host: a\r\ntransfer-encoding: zip\r\n", ""),
        ("host: a\r\ntransfer-encoding: chunked\r\n", "5\r\nhello\r\nxyz\r\n"),
        ("content-length: 2\r\n", "{}"),
        ("host: a\r\nhost: b\r\ncontent-length: 2\r\n", "{}"),
    ] {
        assert_eq!(with(head, body), (400, "malformed_request".into()), "{head}");
    }
    let slow_head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthoriz";
    assert_eq!(code(slow_head), (408, "request_timeout".into()));
    let whole = Ask::chat(&key, MODEL, "Hello").bytes();
    assert_eq!(code(&whole[..whole.len() - 5]), (408, "request_timeout".into()));
    // A caller that leaves in the middle of its body has asked nothing.
    let mut connection = demo.connect();
    connection.send_raw(&whole[..whole.len() - 5]).unwrap();
    drop(connection);
    demo.nothing_stays_held();
}

/// H3: each SDK's list of models is in its own shape, page by page, and holds the same models.
#[test]
fn h3_models_are_listed_in_the_callers_shape() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let ask = |path: &str| {
        Ask::get(path).header("x-api-key", key.as_str()).header("anthropic-version", "2023-06-01")
    };
    let google = |path: &str| Ask::get(path).header("x-goog-api-key", key.as_str());
    let all = demo.own(&key, "/v1/models");
    let names: Vec<_> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap().to_owned())
        .collect();
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = demo.ask(&ask(&format!("/v1/models?limit=3{after}"))).ok();
        let rows = page["data"].as_array().unwrap().iter();
        paged.extend(rows.map(|model| model["id"].as_str().unwrap().to_owned()));
        assert!(page["first_id"].is_string(), "{page:#}");
        if page["has_more"] == false {
            break;
        }
        after = format!("&after_id={}", page["last_id"].as_str().unwrap());
    }
    assert_eq!(paged, names);
    let before = demo.ask(&ask(&format!("/v1/models?limit=2&before_id={}", names[4]))).ok();
    assert_eq!((&before["data"][0]["id"], &before["has_more"]), (&json!(names[2]), &json!(true)));
    let one = demo.ask(&ask(&format!("/v1/models/{MODEL}"))).ok();
    assert_eq!(
        (&one["type"], &one["id"], &one["display_name"]),
        (&json!("model"), &json!(MODEL), &json!(MODEL))
    );
    assert!(one["created_at"].as_str().unwrap().ends_with('Z'), "{one:#}");
    let missing = demo.ask(&ask("/v1/models/nowhere"));
    assert_eq!((missing.head.status, &missing.json()["type"]), (404, &json!("error")));
    let wrong = demo.ask(&ask("/v1/models?limit=none"));
    assert_eq!((wrong.head.status, &wrong.json()["error"]["code"]), (400, &json!("invalid_parameter")));
    let first = demo.ask(&google("/v1beta/models?pageSize=5")).ok();
    let rest =
        demo.ask(&google(&format!("/v1/models?pageToken={}", first["nextPageToken"].as_str().unwrap()))).ok();
    let named = [&first, &rest].map(|page| page["models"].as_array().unwrap().clone()).concat();
    let told: Vec<_> = named.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, names.iter().map(|name| format!("models/{name}")).collect::<Vec<_>>());
    let one = demo.ask(&google(&format!("/v1beta/models/{MODEL}"))).ok();
    let methods = json!(["generateContent", "streamGenerateContent", "countTokens"]);
    assert_eq!((&one["supportedGenerationMethods"], &rest["nextPageToken"]), (&methods, &Value::Null));
}

/// HEAD is GET without a body; a model that is asked for at the wrong address names all of its own.
#[test]
fn h3_head_is_answered_and_all_addresses_of_a_model_are_named() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    for path in ["/v1/models", "/v1beta/models", "/v1/videos", "/v1/key"] {
        let mut connection = demo.connect();
        connection.send(&Ask::new("HEAD", path).bearer(&key)).unwrap();
        let head = connection.head().unwrap();
        assert_eq!(head.status, 200, "{path}");
        // Nothing stands between it and the next answer.
        connection.send(&Ask::get("/v1/key").bearer(&key)).unwrap();
        assert_eq!(connection.reply().unwrap().ok()["object"], demo.own(&key, "/v1/key")["object"], "{path}");
    }
    let reply = demo.ask(
        &Ask::post("/v1/completions", &json!({"model": "deepseek-chat", "prompt": "Hello"})).bearer(&key),
    );
    let body =
        assert_refused(&demo, &reply, ("endpoint_not_supported_by_model", 400, "model", "caller", false));
    let message = body["error"]["message"].as_str().unwrap();
    for address in
        ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1beta/models/…:generateContent"]
    {
        assert!(message.contains(address), "{address}: {message}");
    }
}

/// F6: both base paths, for calls, models and self-service.
#[test]
fn f6_both_base_paths_lead_to_the_same() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let mut models = Vec::new();
    for base in ["/v1", "/api/v1"] {
        let reply = demo.ask(&Ask::chat(&key, MODEL, "Hello").at(format!("{base}/chat/completions")));
        assert_eq!(reply.ok()["choices"][0]["message"]["content"], "echo: Hello");
        let id = reply.head.request_id();
        assert_eq!(demo.own(&key, &format!("{base}/requests/{id}"))["state"], "settled");
        assert_eq!(demo.own(&key, &format!("{base}/requests/{id}/why"))["verdict"], "admitted");
        models.push(demo.own(&key, &format!("{base}/models")));
        assert_eq!(demo.own(&key, &format!("{base}/models/{MODEL}"))["id"], MODEL);
    }
    assert_eq!(models[0], models[1]);
    assert!(models[0]["data"].as_array().unwrap().iter().any(|model| model["id"] == MODEL));
}

/// S25 over the socket: a misspelt field of the management interface is named, not passed over.
#[test]
fn s25_an_unknown_field_is_refused_by_name() {
    let demo = Demo::start();
    let body = json!({"name": "x", "budget": "5"});
    let reply = demo.ask(&Ask::post("/api/accounts", &body).bearer(&demo.admin_token()));
    let answer = reply.json();
    assert_eq!((reply.head.status, &answer["error"]["code"]), (400, &json!("unknown_field")), "{answer:#}");
    assert_eq!(answer["error"]["param"], "budget");
    let accounts = demo.admin("/api/accounts");
    assert!(accounts["data"].as_array().unwrap().iter().all(|account| account["name"] != "x"));
}

/// The receipt and the Why are there right after the answer, and header, receipt, log and bill agree.
#[test]
fn b8_cost_header_receipt_log_and_bill_agree_right_after_the_answer() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    for model in [MODEL, "deepseek-chat"] {
        let reply = demo.chat(&key, model, "What does this cost? #tokens=37");
        let (answer, id) = (reply.ok(), reply.head.request_id());
        let receipt = demo.own(&key, &format!("/v1/requests/{id}"));
        let why = demo.own(&key, &format!("/v1/requests/{id}/why"));
        assert_eq!((&receipt["state"], &why["verdict"]), (&json!("settled"), &json!("admitted")));
        assert_eq!(receipt["charged"], reply.head.header("x-tallygate-cost").unwrap());
        let (row, billed) = (demo.row(id), demo.billed(id));
        assert_eq!((&row["charge"], &row["tokens"]), (&billed["cost"], &billed["tokens"]));
        assert_eq!(row["upstream_request_id"], billed["upstream_request_id"]);
        assert_eq!(answer["id"], billed["answer_id"]);
        assert_eq!(receipt["charged"], billed["cost"]);
        let other = demo.ask(&Ask::get(format!("/v1/requests/{id}")).bearer(&demo.key("test_env")));
        assert_eq!(other.head.status, 404, "a call of another key is not found");
    }
}

/// `x-tallygate-max-tokens`: said when money shortened the answer, and only then.
#[test]
fn a_caller_is_told_when_money_shortened_its_answer() {
    let demo = Demo::start();
    // Buys some 500 tokens of output.
    let poor = demo.key_of(&demo.account("poor", "0.001"), json!([]));
    let reply = demo.chat(&poor, MODEL, "Tell me much #tokens=100000");
    let cap: u64 = reply.head.header("x-tallygate-max-tokens").unwrap().parse().unwrap();
    let answer = reply.ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert!((16..1_000).contains(&cap), "{cap}");
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() <= cap);
    let receipt = demo.receipt(reply.head.request_id());
    assert_eq!(
        (&receipt["hold"]["output_cap"], &receipt["hold"]["output_cap_reason"]),
        (&json!(cap), &json!("money"))
    );
    let rich = demo.chat(&demo.key("healthy"), MODEL, "Hello");
    assert_eq!((rich.head.status, rich.head.header("x-tallygate-max-tokens")), (200, None));
}

/// A usage that the upstream does not tell is counted, and marked so.
#[test]
fn a_usage_that_nobody_told_is_counted_and_marked() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    for stream in [false, true] {
        let ask = Ask::chat_with(&key, "demo-no-usage", "Count me, 请数一数", json!({"stream": stream}));
        let reply = demo.ask(&ask);
        assert!(reply.is_whole_answer(), "{}", reply.text());
        let (row, billed) = (demo.row(reply.head.request_id()), demo.billed(reply.head.request_id()));
        assert_eq!((&row["usage_source"], &row["ending"]), (&json!("counted"), &json!("complete")));
        assert_eq!((&row["tokens"], &row["charge"]), (&billed["tokens"], &billed["cost"]));
    }
}
