//! Tasks whose first channel does not take them: they go to the next one, unless the first may have them; every attempt
//! is on the task, the log and the receipt, with what it costs the platform.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::demo::{nano, wait_until};
use crate::support::studio::Studio;

on_both_backends!(
    h2_a_task_goes_on_to_the_next_channel,
    h2_a_task_that_may_have_been_taken_goes_nowhere_else,
    h2_a_task_that_is_wrong_is_wrong_everywhere,
    s7_an_upstream_that_is_down_does_not_keep_others_waiting,
    h2_a_credential_that_is_refused_when_a_task_is_asked_about_rests,
    s6_a_task_is_not_lost_when_its_channel_changes,
    s11_a_task_is_charged_by_the_group_that_took_it,
    s46_what_tasks_cost_the_platform_is_what_is_billed,
);

/// Fault and status of each attempt of a row of the log.
fn attempts(row: &Value) -> Vec<(Option<&str>, Option<u64>)> {
    let attempts = row["attempts"].as_array().unwrap().iter();
    attempts.map(|attempt| (attempt["fault"].as_str(), attempt["status"].as_u64())).collect()
}

fn h2_a_task_goes_on_to_the_next_channel(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let wrong_key =
        json!({"credential": "sk-wrong", "models": {"demo-video": "demo-video", "demo-image": "demo-image"}});
    let first = studio.channel_before("demo-video", wrong_key);
    let closed = json!({"name": "closed", "base_url": "http://127.0.0.1:1/v1", "priority": 20});
    studio.channel_before("demo-video", closed);
    let reply = studio.ask(&studio.video("demo-video", "a cat", 4));
    let id = reply.ok()["id"].as_str().unwrap().to_owned();
    let task = studio.task(&id);
    assert_eq!((&task["attempts"], &task["channel"]), (&json!(3), &json!(studio.channel)), "{task:#}");
    assert_eq!(task["tried"][1]["channel"], json!(first), "{task:#}");
    // What was tried survives a restart.
    studio.restart();
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    let row = studio.get(&format!("/api/requests/{}/row", reply.head.request_id()));
    let tried = [(Some("upstream_error"), None), (Some("upstream_auth_failed"), Some(401)), (None, None)];
    assert_eq!(attempts(&row), tried, "{row:#}");
    let served: Vec<_> =
        row["attempts"].as_array().unwrap().iter().map(|attempt| attempt["served"] == true).collect();
    assert_eq!((served, studio.bill().len()), (vec![false, false, true], 1));
    // The row of the bill belongs to the third attempt.
    let named = format!("{}-3", reply.head.request_id());
    assert_eq!(studio.bill()[0]["gateway_request_id"], json!(named));
    let receipt = studio.own(&format!("/v1/requests/{}", reply.head.request_id()));
    assert_eq!(receipt["attempts"].as_array().unwrap().len(), 3, "{receipt:#}");
    // Pictures go on in the same way.
    let drawn = studio.ask(&studio.image("demo-image", "a cat", 1)).ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(studio.drawn(&drawn)["status"], "completed");
    assert_eq!(studio.task(&drawn)["attempts"], 2, "{:#}", studio.task(&drawn));
}

fn h2_a_task_that_may_have_been_taken_goes_nowhere_else(backend: Backend) {
    let studio = Studio::open(backend, "10");
    let first = studio.channel_before("demo-video", json!({}));
    let id = studio.submit("demo-video", "a cat #lost", 4);
    let task = studio.task(&id);
    assert_eq!(
        (&task["attempts"], &task["channel"], &task["upstream_id"]),
        (&json!(1), &json!(first), &Value::Null)
    );
    // It is found where it is, and made once.
    for _ in 0..4 {
        studio.poll_after(60_000);
    }
    assert_eq!((studio.told(&id)[0].as_str(), studio.bill().len()), ("succeeded", 1));
}

/// Of a channel whose upstream does not answer a few tasks are asked about in a round, and not one after the other.
fn s7_an_upstream_that_is_down_does_not_keep_others_waiting(backend: Backend) {
    let studio = Studio::open(backend, "100");
    let down = studio.channel_before("demo-video", json!({}));
    let on_down: Vec<_> =
        (0..40).map(|number| studio.submit("demo-video", &format!("cat {number}"), 1)).collect();
    let other = studio.submit("demo-video-fail", "a dog", 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (asked, times) = (Arc::new(AtomicUsize::new(0)), 30_000);
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for _connection in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    studio.patch(&format!("/api/channels/{down}"), &json!({"base_url": url})).ok();
    studio.poll_after(times);
    let asked_once = asked.load(Ordering::SeqCst);
    assert!((1..=16).contains(&asked_once), "{asked_once} of 40");
    studio.poll_after(times);
    assert_eq!(studio.told(&other)[0], "failed");
    // None of them is lost.
    let back = json!({"base_url": studio.upstream_url()});
    studio.patch(&format!("/api/channels/{down}"), &back).ok();
    for _ in 0..3 {
        studio.poll_after(times);
    }
    assert!(on_down.iter().all(|id| studio.told(id)[0] == "succeeded"));
}

/// Calls do not run into what a question about a task has shown, operators are told, and the task goes on when the
/// credential is good again.
fn h2_a_credential_that_is_refused_when_a_task_is_asked_about_rests(backend: Backend) {
    let studio = Studio::open(backend, "10");
    let id = studio.submit("demo-video", "a cat", 4);
    let put = |credential: &str| {
        let path = format!("/api/channels/{}", studio.channel);
        studio.patch(&path, &json!({"credential": credential})).ok();
    };
    let health = || studio.get("/api/channels/health")["data"][0].clone();
    put("sk-revoked");
    studio.poll_after(2_000);
    let shown = health();
    assert_eq!(
        (&shown["state"], &shown["last_failure"]),
        (&json!("cooling_down"), &json!("upstream_auth_failed"))
    );
    let until = shown["troubles"][0]["until"].clone();
    let refused = studio.ask(&studio.video("demo-video", "a dog", 4));
    assert_eq!(
        (refused.head.status, &refused.json()["error"]["code"]),
        (503, &json!("channel_cooling_down"))
    );
    wait_until("operators are told", || {
        studio.get("/api/notices?event=channel_cooling_down")["data"][0]["subject"] == json!(studio.channel)
    });
    // The next question does not make it rest longer.
    studio.poll_after(30_000);
    assert_eq!(health()["troubles"][0]["until"], until);
    put(&studio.upstream_key());
    for _ in 0..2 {
        studio.poll_after(30_000);
    }
    assert_eq!((studio.told(&id)[0].as_str(), &health()["state"]), ("succeeded", &json!("healthy")));
}

fn h2_a_task_that_is_wrong_is_wrong_everywhere(backend: Backend) {
    let studio = Studio::open(backend, "10");
    studio.channel_before("demo-video", json!({}));
    let refused = studio.ask(&studio.video("demo-video", "", 4));
    assert_eq!((refused.head.status, &refused.json()["error"]["code"]), (400, &json!("upstream_rejected")));
    let row = studio.get(&format!("/api/requests/{}/row", refused.head.request_id()));
    assert_eq!(attempts(&row), [(Some("upstream_rejected"), Some(400))], "{row:#}");
    // Where no channel takes it, the last one's refusal is told, and all of them are on record.
    studio.patch(&format!("/api/channels/{}", studio.channel), &json!({"status": "disabled"})).ok();
    studio.channel_before("demo-video", json!({"name": "two", "credential": "sk-wrong", "priority": 20}));
    studio.channel_before("demo-video", json!({"name": "three", "credential": "sk-wrong", "priority": 15}));
    let channels = studio.get("/api/channels?name=before")["data"][0]["id"].as_str().unwrap().to_owned();
    studio.patch(&format!("/api/channels/{channels}"), &json!({"status": "disabled"})).ok();
    let refused = studio.ask(&studio.video("demo-video", "a cat", 4));
    assert_eq!(
        (refused.head.status, &refused.json()["error"]["code"]),
        (502, &json!("upstream_auth_failed"))
    );
    let row = studio.get(&format!("/api/requests/{}/row", refused.head.request_id()));
    assert_eq!(attempts(&row), [(Some("upstream_auth_failed"), Some(401)); 2], "{row:#}");
    assert_eq!((&row["status"], &row["charge_state"]), (&json!(502), &json!("released")), "{row:#}");
    assert_eq!(studio.balance(), ["10", "0"]);
}

fn s6_a_task_is_not_lost_when_its_channel_changes(backend: Backend) {
    let studio = Studio::open(backend, "10");
    let channel = format!("/api/channels/{}", studio.channel);
    let known = studio.upstream_key();
    // The keys are turned while it runs: it is found under the one that it was sent with.
    let id = studio.submit("demo-video", "a cat", 4);
    studio.patch(&channel, &json!({"credentials": ["sk-newer", known]})).ok();
    studio.poll_after(60_000);
    studio.poll_after(60_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    // A wrong address for a while: where nothing is known of it proves nothing at once.
    studio.patch(&channel, &json!({"credentials": [known]})).ok();
    let right = studio.get(&channel)["base_url"].clone();
    let wrong = format!("{}/typo", right.as_str().unwrap());
    let [found, lost] = ["a dog", "a cow"].map(|text| studio.submit("demo-video", text, 4));
    studio.patch(&channel, &json!({"base_url": wrong})).ok();
    studio.poll_after(5_000);
    assert_eq!([&found, &lost].map(|id| studio.told(id)[1].clone()), ["held", "held"]);
    studio.patch(&channel, &json!({"base_url": right})).ok();
    studio.poll_after(60_000);
    studio.poll_after(60_000);
    assert_eq!(studio.told(&found), ["succeeded", "settled", "0.4"]);
    // What nobody knows of for a minute is lost.
    let lost = match studio.told(&lost)[0].as_str() {
        "succeeded" => studio.submit("demo-video", "a pig", 4),
        state => panic!("{state}"),
    };
    studio.patch(&channel, &json!({"base_url": wrong})).ok();
    studio.poll_after(60_000);
    studio.poll_after(60_000);
    assert_eq!(studio.told(&lost), ["failed", "released", "0"]);
    let row =
        studio.get(&format!("/api/requests/{}/row", studio.task(&lost)["request_id"].as_str().unwrap()));
    assert_eq!(row["attempts"][0]["fault"], "upstream_error", "{row:#}");
    // It came to nothing, so that what is like it is no repetition.
    studio.patch(&channel, &json!({"base_url": right})).ok();
    assert_ne!(studio.submit("demo-video", "a pig", 4), lost);
    studio.poll_after(60_000);
    studio.poll_after(60_000);
}

fn s11_a_task_is_charged_by_the_group_that_took_it(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let group = |name: &str, multiplier: &str, fallback: &[String]| {
        let body = json!({"name": name, "multiplier": multiplier, "fallback": fallback});
        studio.post("/api/groups", body).ok()["id"].as_str().unwrap().to_owned()
    };
    let dear = group("dear", "3", &[]);
    let cheap = group("cheap", "0.5", std::slice::from_ref(&dear));
    studio.channel_before("demo-video", json!({"credential": "sk-wrong", "groups": [cheap]}));
    studio.patch(&format!("/api/channels/{}", studio.channel), &json!({"groups": [dear]})).ok();
    studio.key = studio.key_with(json!({"group": cheap})).1;
    let id = studio.submit("demo-video", "a cat", 4);
    // Held at the dearest that may take it, charged at the one that did.
    assert_eq!(studio.balance(), ["8.8", "1.2"]);
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "1.2"]);
}

fn s46_what_tasks_cost_the_platform_is_what_is_billed(backend: Backend) {
    let studio = Studio::open(backend, "10");
    let made = studio.ask(&studio.video("demo-video", "a cat #seconds=6", 4));
    let failed = studio.ask(&studio.video("demo-video-fail", "a cat", 4));
    let stuck = studio.ask(&studio.video("demo-video-stuck", "a cat", 4));
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    studio.poll_after(3_600_000);
    let cost = |reply: &crate::support::http::Reply| {
        let row = studio.get(&format!("/api/requests/{}/row", reply.head.request_id()));
        let attempt = &row["attempts"][0];
        (nano(&attempt["cost"]), attempt["cost_basis"].as_str().unwrap().to_owned())
    };
    // 6 seconds were made, and billed; nobody knows whether the one without an end is.
    assert_eq!(cost(&made), (600_000_000, "upstream".to_owned()));
    assert_eq!((cost(&failed), cost(&stuck)), ((0, "nothing".into()), (400_000_000, "estimated".into())));
    let billed: i64 = studio.bill().iter().map(|row| nano(&row["cost"])).sum();
    assert_eq!(billed, 600_000_000);
}
