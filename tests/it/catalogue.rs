//! The catalogue against the program: each active code has a scenario that gets it, and none has two statuses.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use tallygate::catalogue::Code;
use tallygate::job::Ended;

use crate::gateway::{Expected, assert_refused};
use crate::support::app::{NOW_MS, TestApp};
use crate::support::demo::Demo;
use crate::support::http::Ask;

const MODEL: &str = "gpt-5-mini";

/// Every source file of these tests.
const SOURCES: &[&str] = &[
    include_str!("api.rs"),
    include_str!("authorization.rs"),
    include_str!("catalogue.rs"),
    include_str!("channels.rs"),
    include_str!("codes.rs"),
    include_str!("corrections.rs"),
    include_str!("explain.rs"),
    include_str!("gateway.rs"),
    include_str!("gateway_address.rs"),
    include_str!("gateway_key.rs"),
    include_str!("gateway_model.rs"),
    include_str!("gateway_money.rs"),
    include_str!("gateway_policy.rs"),
    include_str!("gateway_rate.rs"),
    include_str!("gateway_stream.rs"),
    include_str!("gateway_tenants.rs"),
    include_str!("idempotency.rs"),
    include_str!("idempotency_posts.rs"),
    include_str!("orders.rs"),
    include_str!("orders_refunds.rs"),
    include_str!("tasks.rs"),
    include_str!("tasks_copies.rs"),
    include_str!("tasks_quota.rs"),
];

/// C3: one cause, one code, one status. A code that the program can answer with is met in a scenario of these tests;
/// wherever it is met with a status, that is the catalogue's.
#[test]
fn c3_every_active_code_has_a_scenario_and_one_status() {
    let mut statuses: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for code in Code::ALL {
        let quoted = format!("\"{}\"", code.as_str());
        if !code.is_reserved() {
            assert!(SOURCES.iter().any(|source| source.contains(&quoted)), "no test meets {code}");
        }
        // As the scenarios write it: ("code", status, …
        for source in SOURCES {
            for (_, behind) in source.match_indices(&quoted).map(|(at, _)| source.split_at(at + quoted.len()))
            {
                let number = behind.strip_prefix(", ").and_then(|rest| rest.split(',').next()).map(str::trim);
                if let Some(status) = number.and_then(|number| number.parse().ok()) {
                    statuses.entry(code.as_str()).or_default().push(status);
                }
            }
        }
        if let Some(met) = statuses.get(code.as_str()) {
            assert!(met.iter().all(|status| *status == code.status()), "{code}: {met:?}");
        }
    }
    assert!(statuses.len() > 30, "{statuses:?}");
}

/// An upstream that answers whatever comes with one status and body, so many times.
fn upstream(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        // The demo's bodies end with a brace, and hold no other at the end of a read.
        while !bytes.ends_with(b"}") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let _written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    });
    url
}

/// What an upstream says of our request, of our key and of the model is told apart; its words are for the operator, but
/// for a request that it rejects.
#[test]
fn s31_an_upstreams_refusals_are_told_apart() {
    // What is asked of one channel is told; another one could serve the call.
    let demo = Demo::start_with(&[("TALLYGATE_UPSTREAM__ATTEMPTS_MAX", "1")]);
    let account = demo.account("Upstreams", "1.00");
    let key = demo.key_of(&account, json!([]));
    let cases: [(&str, &str, Expected); 3] = [
        (
            "400 Bad Request",
            r#"{"error": {"message": "the upstream's own words", "type": "invalid_request_error", "param": "tools"}}"#,
            ("upstream_rejected", 400, "upstream", "caller", false),
        ),
        (
            "401 Unauthorized",
            r#"{"error": {"message": "the upstream's own words", "type": "invalid_request_error", "code": "invalid_api_key"}}"#,
            ("upstream_auth_failed", 502, "upstream", "gateway", false),
        ),
        (
            "404 Not Found",
            r#"{"error": {"message": "the upstream's own words", "type": "invalid_request_error", "code": "model_not_found"}}"#,
            ("upstream_model_missing", 502, "upstream", "gateway", false),
        ),
    ];
    for (status, body, expected) in cases {
        let name = format!("upstream-{}", expected.0);
        let group = demo.admin_post("/api/groups", &json!({"name": name}))["id"].clone();
        let channel = json!({
            "name": name, "base_url": upstream(status, body), "credential": "none", "models": {MODEL: MODEL},
            "groups": [group], "priority": 9,
        });
        demo.admin_post("/api/channels", &channel);
        let made = demo.admin_post("/api/keys", &json!({"account": account, "name": name, "group": group}));
        let reply = demo.chat(made["key"].as_str().unwrap(), MODEL, "Hello");
        let answer = assert_refused(&demo, &reply, expected);
        let field = &answer["error"]["param"];
        assert_eq!(field == "tools", expected.0 == "upstream_rejected", "{answer:#}");
        let shown = answer.to_string().contains("own words");
        assert_eq!(shown, expected.0 == "upstream_rejected", "{answer:#}");
        let row = demo.row(reply.head.request_id());
        assert_eq!(row["upstream_error"], "the upstream's own words", "{row:#}");
    }
    demo.chat(&key, MODEL, "Hello").ok();
}

/// A model that was retired says so, and is not listed.
#[test]
fn a_retired_model_says_so() {
    let demo = Demo::start();
    let model =
        demo.admin(&format!("/api/models?name={MODEL}"))["data"][0]["id"].as_str().unwrap().to_owned();
    let retire = Ask::new("PATCH", format!("/api/models/{model}")).raw_body(r#"{"status": "retired"}"#);
    demo.ask(&retire.bearer(&demo.admin_token())).ok();
    let key = demo.key("healthy");
    let expected: Expected = ("model_retired", 404, "model", "caller", false);
    assert_refused(&demo, &demo.chat(&key, MODEL, "Hello"), expected);
    assert!(!demo.own(&key, "/v1/models").to_string().contains(MODEL));
}

/// A call that waits for its upstream when the gateway has to stop gets an answer, and its money back.
#[test]
fn a_call_that_waits_at_the_end_is_told_to_come_again() {
    let mut demo = Demo::start_with(&[("TALLYGATE_LIMITS__SHUTDOWN_MS", "200")]);
    let mut waiting = demo.connect();
    waiting.send(&Ask::chat(&demo.key("healthy"), "demo-timeout", "Hello")).unwrap();
    crate::support::demo::wait_until("the call is held", || demo.held().iter().any(|held| held != "0"));
    demo.stop();
    let reply = waiting.reply().unwrap();
    demo.restart();
    assert_refused_later(&demo, &reply, ("gateway_overloaded", 503, "gateway", "gateway", true));
}

/// The links of the answer are those of the address before the restart.
fn assert_refused_later(demo: &Demo, reply: &crate::support::http::Reply, expected: Expected) {
    let body = reply.json();
    let error = &body["error"];
    let (code, status, layer, fault, retryable) = expected;
    assert_eq!((reply.head.status, &error["code"]), (status, &json!(code)), "{body:#}");
    assert_eq!((&error["layer"], &error["fault"]), (&json!(layer), &json!(fault)));
    assert_eq!((&error["retryable"], &error["charged"]), (&json!(retryable), &json!("0")));
    let row = demo.row(reply.head.request_id());
    assert_eq!((&row["charge_state"], &row["ending"]), (&json!("released"), &json!("shutdown")), "{row:#}");
}

/// B7: comparisons and imports run one at a time; the next one may come again.
#[test]
fn b7_a_comparison_beside_another_is_told_to_come_again() {
    let app = TestApp::new();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let work = move |_: &_| {
        let _told = ended.recv();
        Ended::Done(json!({}))
    };
    app.app().reconciling.start(work).unwrap();
    let import = json!({"format": "upstream-csv", "content": "request_id,cost,currency,time\n"});
    for (path, body) in [("/api/reconcile", json!({})), ("/api/reconcile/imports", import)] {
        let answer = app.post(path, body);
        answer.refused(409, "reconcile_running");
        assert_eq!(answer.body["error"]["retryable"], true, "{:#}", answer.body);
        assert_eq!(answer.body["error"]["param"], json!(null));
    }
    drop(end);
    while app.get("/api/reconcile").ok()["state"] == "running" {
        std::thread::yield_now();
    }
    app.post("/api/reconcile", json!({})).ok();
}

/// Books whose clock has jumped take no money, and say so; a document that cannot be read is a fault of ours.
#[test]
fn the_gateways_own_faults_have_codes() {
    let app = TestApp::new();
    let account = app.account("one");
    app.clock.jump_to_ms(NOW_MS + 120_000);
    let credit = json!({"amount": "1", "kind": "purchased", "reference": "r", "reason": "r"});
    app.post(&format!("/api/accounts/{account}/credits"), credit).refused(503, "books_unavailable");
    app.clock.jump_to_ms(NOW_MS);
    app.damage_directory();
    app.get(&format!("/api/accounts/{account}")).refused(500, "internal_error");
}
