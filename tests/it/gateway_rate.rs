//! Rung 9 over real sockets: requests per second, tokens per minute, calls at the same time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gateway::{Expected, assert_refused};
use crate::support::demo::{Demo, wait_until};
use crate::support::http::{Ask, Connection, Reply};

const MODEL: &str = "gpt-5-mini";
const TOO_MANY: Expected = ("rate_limit_requests", 429, "key", "caller", true);

struct Scene {
    demo: Demo,
    id: String,
    key: String,
}

impl Scene {
    fn new(rates: &Value) -> Self {
        let demo = Demo::start();
        let account = demo.account("Rates", "5.00");
        let made = demo.admin_post("/api/keys", &json!({"account": account, "name": "one", "rates": rates}));
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Scene { id: text("id"), key: text("key"), demo }
    }

    fn chat(&self) -> Reply {
        self.demo.chat(&self.key, MODEL, "Hello")
    }

    fn chat_with(&self, more: Value) -> Reply {
        self.demo.ask(&Ask::chat_with(&self.key, MODEL, "Hello", more))
    }

    /// What is used of the key's one rate.
    fn used(&self) -> Value {
        self.demo.own(&self.key, "/v1/key")["limits"][0]["used"].clone()
    }
}

fn number(reply: &Reply, name: &str) -> u64 {
    reply
        .head
        .header(name)
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{name}: {:?}", reply.head))
}

/// D8: a burst of one second's worth passes, the next is told how long to wait, and passes then. A refusal consumes
/// nothing but rate, and one before this rung not even that.
#[test]
fn d8_requests_per_second_are_limited_and_say_when_there_is_room() {
    let scene = Scene::new(&json!([{"metric": "requests_per_second", "value": 2}]));
    assert_eq!(scene.demo.chat(&scene.key, "no-such-model", "Hello").head.status, 404);
    let begin = Instant::now();
    let first = scene.chat();
    first.ok();
    assert_eq!(number(&first, "x-ratelimit-limit-requests"), 2);
    assert_eq!(number(&first, "x-ratelimit-remaining-requests"), 1);
    // Refused behind the rate: its channel is gone.
    assert_eq!(scene.demo.chat(&scene.key, "demo-down", "Hello").head.status, 503);
    let refused = (0..20).map(|_| scene.chat()).find(|reply| reply.head.status != 200);
    let refused = refused.expect("a machine that answers more than two calls in a second");
    assert!(begin.elapsed() < Duration::from_secs(20));
    let body = assert_refused(&scene.demo, &refused, TOO_MANY);
    assert!(body["error"]["message"].as_str().unwrap().contains("2 per second"), "{body:#}");
    let limit = &body["error"]["limit"];
    assert_eq!((&limit["limit"], &limit["window"]), (&json!("2"), &json!("second")), "{limit:#}");
    assert_eq!(number(&refused, "retry-after"), 1);
    std::thread::sleep(Duration::from_secs(1));
    scene.chat().ok();
}

/// A simulation and a Why consume no rate.
#[test]
fn asking_about_a_call_consumes_no_rate() {
    let scene = Scene::new(&json!([{"metric": "requests_per_second", "value": 1}]));
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]});
    for _ in 0..5 {
        let simulated = scene.demo.ask(&Ask::post("/v1/simulate", &body).bearer(&scene.key)).ok();
        assert_eq!(simulated["would"], "pass", "{simulated:#}");
    }
    assert_eq!(scene.used(), "0");
}

/// D8: one call at a time; a call whose caller has left counts until its answer has ended.
#[test]
fn d8_a_place_is_kept_until_the_answer_has_ended() {
    let scene = Scene::new(&json!([{"metric": "concurrency", "value": 1}]));
    let slow = Ask::chat_with(&scene.key, "demo-slow", "Hello", json!({"stream": true}));
    let mut stream = scene.demo.connect();
    stream.send(&slow).unwrap();
    stream.head().unwrap();
    let full: Expected = ("concurrency_limit", 429, "key", "caller", true);
    let body = assert_refused(&scene.demo, &scene.chat(), full);
    assert_eq!(body["error"]["limit"]["used"], "1");
    // The caller leaves; the upstream is drained.
    drop::<Connection>(stream);
    assert_refused(&scene.demo, &scene.chat(), full);
    wait_until("the drained call has ended", || scene.used() == "0");
    scene.chat().ok();
}

/// S19 [litellm#18730]: with so many tokens per minute and five calls at once that each may need more than half of
/// them, one is admitted. What it did not use is given back.
#[test]
fn s19_calls_at_the_same_time_cannot_pass_the_tokens_of_a_minute() {
    let scene = Scene::new(&json!([{"metric": "tokens_per_minute", "value": 1_000}]));
    let ask = Ask::chat_with(&scene.key, MODEL, "Hello #delay_ms=400", json!({"max_tokens": 600}));
    let mut calls: Vec<Connection> = (0..5).map(|_| scene.demo.connect()).collect();
    calls.iter_mut().for_each(|call| call.send(&ask).unwrap());
    let replies: Vec<Reply> = calls.iter_mut().map(|call| call.reply().unwrap()).collect();
    let admitted: Vec<_> = replies.iter().filter(|reply| reply.head.status == 200).collect();
    assert_eq!(admitted.len(), 1);
    assert_eq!(number(admitted[0], "x-ratelimit-limit-tokens"), 1_000);
    assert!(number(admitted[0], "x-ratelimit-remaining-tokens") < 400);
    for refused in replies.iter().filter(|reply| reply.head.status != 200) {
        assert_refused(&scene.demo, refused, ("rate_limit_tokens", 429, "key", "caller", true));
    }
    let used: u64 = scene.used().as_str().unwrap().parse().unwrap();
    assert!((1..200).contains(&used), "{used}");
    scene.chat_with(json!({"max_tokens": 600})).ok();
}

/// What no wait could make pass is refused as a fault of the request; a call without a cap gets one that fits.
#[test]
fn a_call_beyond_the_tokens_of_a_minute_is_told_so() {
    let scene = Scene::new(&json!([{"metric": "tokens_per_minute", "value": 1_000}]));
    let reply = scene.chat_with(json!({"max_tokens": 2_000}));
    let body = assert_refused(&scene.demo, &reply, ("invalid_parameter", 400, "request", "caller", false));
    assert_eq!(body["error"]["param"], "max_tokens");
    let shortened = scene.chat();
    shortened.ok();
    assert!(number(&shortened, "x-tallygate-max-tokens") < 1_000);
}

/// S23: whatever ends however, every place is given back.
#[test]
fn s23_every_place_is_given_back() {
    let scene = Scene::new(&json!([{"metric": "concurrency", "value": 4}]));
    for model in [MODEL, "demo-500", "demo-cut", "demo-429", "demo-no-usage", "demo-no-credit", "demo-down"] {
        for stream in [false, true] {
            let ask = Ask::chat_with(&scene.key, model, "Hello", json!({"stream": stream}));
            let mut gone = scene.demo.connect();
            gone.send(&ask).unwrap();
            drop::<Connection>(gone);
            let _any = scene.demo.connect().ask(&ask);
        }
    }
    wait_until("every call has ended", || scene.used() == "0");
    scene.chat().ok();
}

/// S25: a rate that cannot be meant is refused at save; the rates are listed with the other limits.
#[test]
fn s25_a_rate_that_cannot_be_meant_is_refused() {
    let scene = Scene::new(&json!([]));
    let patch = |body: Value| {
        let ask = Ask::new("PATCH", format!("/api/keys/{}", scene.id)).raw_body(body.to_string());
        scene.demo.ask(&ask.bearer(&scene.demo.admin_token())).json()
    };
    let cases = [
        (json!([{"metric": "requests_per_second", "value": 0}]), "rates[0].value"),
        (json!([{"metric": "requests_per_second", "value": -1}]), "rates[0].value"),
        (
            json!([{"metric": "concurrency", "value": 1}, {"metric": "concurrency", "value": 2}]),
            "rates[1].metric",
        ),
        (json!([{"metric": "requests_per_hour", "value": 1}]), "rates[0].metric"),
    ];
    for (rates, field) in cases {
        let error = &patch(json!({"rates": rates}))["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("invalid_value"), &json!(field)), "{error:#}");
    }
    patch(json!({"rates": [{"metric": "tokens_per_minute", "value": 5_000, "origin": "owner"}]}));
    let own = scene.demo.own(&scene.key, "/v1/key");
    let limit = &own["limits"][0];
    assert_eq!((&limit["metric"], &limit["value"]), (&json!("tokens_per_minute"), &json!("5000")), "{own:#}");
    assert_eq!(
        (&limit["source"], &own["bound_by"]["scope"]),
        (&json!("owner"), &json!("account")),
        "{own:#}"
    );
}
