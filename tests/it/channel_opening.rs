//! H2: a stream that fails before it has content has not begun: the call goes on to the next channel. And what a channel's
//! test takes for a good answer, in each provider's format.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::demo::{Demo, nano};
use crate::support::http::Ask;
use crate::support::scripted::{answering, change, channel, playing};

const MODEL: &str = "gpt-5-mini";

/// An upstream whose stream begins with a role, and goes on with signs of life until its caller has seen that; then it
/// fails. Each sign is sent after such a pause.
fn thinking(provider: &str, sign: String, pause: Duration, is_seen: Arc<AtomicBool>) -> SocketAddr {
    let (start, failed) = match provider {
        "openai" => (role(), failed()),
        _ => (start(), overloaded()),
    };
    playing(move |stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("{head}{start}").as_bytes())?;
        while !is_seen.load(Ordering::Acquire) {
            stream.write_all(sign.as_bytes())?;
            std::thread::sleep(pause);
        }
        stream.write_all(failed.as_bytes())
    })
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn named(name: &str, data: &Value) -> String {
    format!("event: {name}\n{}", event(data))
}

fn role() -> String {
    event(&json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}],
    }))
}

fn failed() -> String {
    event(&json!({"error": {"message": "The server had an error.", "type": "server_error"}}))
}

/// Anthropic's stream tells its input at the start.
fn start() -> String {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": INPUT, "output_tokens": 1},
    });
    named("message_start", &json!({"type": "message_start", "message": message}))
}

fn ping() -> String {
    named("ping", &json!({"type": "ping"}))
}

fn overloaded() -> String {
    let error = json!({"type": "overloaded_error", "message": "Overloaded"});
    named("error", &json!({"type": "error", "error": error}))
}

/// Tokens that an upstream told before it failed, and what it bills for each of them.
const INPUT: i64 = 9;
const INPUT_NANO: i64 = 250;

#[test]
fn h2_s46_a_stream_that_fails_before_its_content_goes_on_to_the_next_channel() {
    let demo = Demo::start();
    let busy = event(
        &json!({"error": {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}),
    );
    let (role, failed, start, ping, overloaded) = (role(), failed(), start(), ping(), overloaded());
    let cases = [
        ("nothing at all", "openai", String::new(), "upstream_error"),
        ("a comment", "openai", ": waiting\n\n".to_owned(), "upstream_error"),
        ("a role and the end", "openai", role.clone(), "upstream_error"),
        ("an error", "openai", failed.clone(), "upstream_error"),
        ("a role and an error", "openai", format!("{role}{failed}"), "upstream_error"),
        ("a role and a limit", "openai", format!("{role}{busy}"), "upstream_rate_limited"),
        ("a start and the end", "anthropic", format!("{start}{ping}"), "upstream_error"),
        ("a start and an error", "anthropic", format!("{start}{ping}{overloaded}"), "upstream_rate_limited"),
        ("half an event", "gemini", "data: {\"candidates\": [".to_owned(), "upstream_error"),
    ];
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    for (what, provider, stream, fault) in cases {
        let broken = channel(&demo, what, provider, answering(200, "text/event-stream", &stream), MODEL);
        let reply =
            demo.ask(&Ask::chat_with(&key, MODEL, "hello", json!({"stream": true, "max_tokens": 100})));
        assert!(reply.is_whole_answer(), "{what}: {reply:?}");
        assert_eq!(
            reply.text().matches("\"role\"").count(),
            1,
            "{what}: of one answer alone: {}",
            reply.text()
        );
        let id = reply.head.request_id();
        let (row, billed) = (demo.row(id), demo.billed(&format!("{id}-2")));
        let [first, second] = row["attempts"].as_array().unwrap().as_slice() else {
            panic!("{what}: {row:#}")
        };
        assert_eq!((&first["channel"], &first["fault"]), (&json!(broken), &json!(fault)), "{what}: {row:#}");
        assert_eq!((&first["status"], &first["served"]), (&json!(200), &json!(false)), "{what}: {row:#}");
        assert_eq!((&row["channel"], &second["served"]), (&second["channel"], &json!(true)), "{what}");
        assert_eq!(row["charge"], billed["cost"], "{what}: charged once");
        if stream.contains("message_start") {
            assert_eq!(nano(&first["cost"]), INPUT * INPUT_NANO, "{what}: what it told: {row:#}");
        }
        let receipt = demo.receipt(id);
        assert_eq!(receipt["attempts"].as_array().unwrap().len(), 2, "{what}: {receipt:#}");
        change(&demo, &broken, &json!({"status": "disabled"}));
    }
}

/// An upstream that thinks for long is heard of: what it sends is kept back for five seconds or 64 KiB, whatever it is,
/// and from then on the call stays where it is.
#[test]
fn h2_what_is_kept_back_of_a_stream_is_bounded_in_time_and_bytes() {
    const TIME: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(100);
    let demo = Demo::start();
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let comments = ": still thinking\n\n".repeat(1_000);
    let cases = [
        ("comments", "openai", ": ping\n\n".to_owned(), true),
        ("converted pings", "anthropic", ping(), true),
        ("half an event", "openai", ":".to_owned(), true),
        ("many comments", "openai", comments, false),
        ("many pings", "anthropic", ping().repeat(200), false),
    ];
    for (what, provider, sign, is_slow) in cases {
        let is_seen = Arc::new(AtomicBool::new(false));
        let address = thinking(provider, sign, PAUSE, Arc::clone(&is_seen));
        let thinks = channel(&demo, what, provider, address, MODEL);
        let mut connection = demo.connect();
        let began = Instant::now();
        let more = json!({"stream": true, "max_tokens": 100});
        connection.send(&Ask::chat_with(&key, MODEL, "hello", more)).unwrap();
        let head = connection.head().unwrap();
        assert_eq!((head.status, began.elapsed() >= TIME), (200, is_slow), "{what}: {:?}", began.elapsed());
        is_seen.store(true, Ordering::Release);
        let mut last = None;
        while let Ok(Some(event)) = connection.event() {
            last = Some(event);
        }
        let last: Value = serde_json::from_str(&last.unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "stream_interrupted", "{what}: {last:#}");
        let row = demo.row(head.request_id());
        assert_eq!((&row["channel"], &row["charge"]), (&json!(thinks), &json!("0")), "{what}: {row:#}");
        assert_eq!(row["attempts"].as_array().unwrap().len(), 1, "{what}: {row:#}");
        change(&demo, &thinks, &json!({"status": "disabled"}));
    }
}

/// Where no other channel is left, the caller gets an error with its status, and not a stream that began for nothing.
#[test]
fn h2_a_stream_that_nobody_begins_is_an_error_and_free() {
    let demo = Demo::start();
    let own = demo.admin("/api/channels?name=simulated%20upstream")["data"][0]["id"].clone();
    change(&demo, own.as_str().unwrap(), &json!({"status": "disabled"}));
    channel(&demo, "hollow", "openai", answering(200, "text/event-stream", ""), MODEL);
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let reply = demo.ask(&Ask::chat_with(&key, MODEL, "hello", json!({"stream": true, "max_tokens": 100})));
    assert_eq!((reply.head.status, &reply.json()["error"]["code"]), (502, &json!("upstream_error")));
    let row = demo.row(reply.head.request_id());
    assert_eq!((&row["charge"], &row["charge_state"]), (&json!("0"), &json!("released")), "{row:#}");
    assert!(
        row["upstream_error"].as_str().unwrap().contains("ended before there was anything in it"),
        "{row:#}"
    );
}

/// Each provider's channel is tried in its own format, and what comes back is read in it.
#[test]
fn h2_a_channel_of_each_provider_is_tried_in_its_own_format() {
    let demo = Demo::start();
    let models = [
        ("openai", MODEL, 401),
        ("anthropic", "claude-sonnet-4-5", 401),
        // What Gemini says of a key that it does not know.
        ("gemini", "gemini-2.5-flash", 400),
        ("deepseek", "deepseek-chat", 401),
    ];
    let channels = demo.admin("/api/channels?limit=1000")["data"].as_array().unwrap().clone();
    for (provider, model, refusal) in models {
        let try_out =
            |id: &str| demo.admin_post(&format!("/api/channels/{id}/test"), &json!({"model": model}));
        let serves = |channel: &&Value| channel["provider"] == provider && channel["models"][model] == model;
        let own = channels.iter().find(serves).unwrap();
        let billed = demo.bill().len();
        let works = try_out(own["id"].as_str().unwrap());
        let told = (&works["works"], &works["status"], &works["code"]);
        assert_eq!(told, (&json!(true), &json!(200), &Value::Null), "{provider}: {works:#}");
        let (bill, named) = (demo.bill(), &works["upstream_request_id"]);
        assert_eq!((bill.len(), &bill[billed]["upstream_request_id"]), (billed + 1, named), "{provider}");

        let broken = |name: &str, base_url: Value| {
            let body = json!({
                "name": format!("{provider} {name}"), "provider": provider, "base_url": base_url,
                "credential": "not-the-upstreams-key", "models": {model: model}, "status": "disabled",
            });
            demo.admin_post("/api/channels", &body)["id"].as_str().unwrap().to_owned()
        };
        let refused = try_out(&broken("refused", own["base_url"].clone()));
        let told = (&refused["works"], &refused["status"], &refused["code"]);
        assert_eq!(told, (&json!(false), &json!(refusal), &json!("upstream_auth_failed")), "{provider}");
        let page = answering(200, "text/html", "<html><body>It works!</body></html>");
        let page = try_out(&broken("page", json!(format!("http://{page}/v1"))));
        let told = (&page["works"], &page["status"], &page["code"]);
        assert_eq!(told, (&json!(false), &json!(200), &json!("upstream_error")), "{provider}: {page:#}");
    }
}
