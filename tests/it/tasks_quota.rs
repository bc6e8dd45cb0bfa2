//! G4, I1: image and video tasks have a quota of their own, beside what other calls live on.

use serde_json::{Value, json};

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::demo::Demo;
use crate::support::http::{Ask, Reply};
use crate::support::studio::Studio;

on_both_backends!(
    g4_a_quota_of_tasks_is_over_all_models_and_whoever_has_it,
    g4_a_quota_of_tasks_counts_them_a_day_and_is_given_back,
);

#[track_caller]
fn error(reply: &Reply, (code, status): (&str, u16)) -> Value {
    let told = reply.json();
    assert_eq!((reply.head.status, &told["error"]["code"]), (status, &json!(code)), "{told:#}");
    told["error"].clone()
}

/// An amount over videos and pictures together, at the key and at the project; half of it held, half used.
fn g4_a_quota_of_tasks_is_over_all_models_and_whoever_has_it(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let limits = json!([{"window": "day", "value": "0.45", "tasks": true}]);
    let project =
        studio.post("/api/projects", json!({"account": studio.account, "name": "p", "limits": limits}));
    let project = project.ok()["id"].as_str().unwrap().to_owned();
    let (id, key) = studio.key_with(json!({"project": project}));
    studio.key = key;
    let picture = studio.ask(&studio.image("demo-image", "a cat", 1)).ok()["id"].clone();
    studio.drawn(picture.as_str().unwrap());
    let video = studio.submit("demo-video", "a cat", 4);
    // 0.04 used and 0.4 held of 0.45.
    let refused = error(&studio.ask(&studio.image("demo-image", "a dog", 1)), ("task_quota_exhausted", 402));
    let limit = &refused["limit"];
    assert_eq!((&limit["scope"], &limit["id"]), (&json!("task"), &json!(project)), "{refused:#}");
    assert_eq!(
        ["limit", "used", "held", "needed"].map(|field| limit[field].clone()),
        ["0.45", "0.04", "0.4", "0.04"].map(|text| json!(text))
    );
    assert_eq!((&refused["layer"], &refused["retryable"]), (&json!("task"), &json!(false)));
    let body = json!({"model": "demo-video", "prompt": "a dog", "seconds": "4"});
    let estimate = studio.ask(&Ask::post("/v1/videos/estimate", &body).bearer(&studio.key)).ok();
    assert_eq!(estimate["code"], "task_quota_exhausted", "{estimate:#}");
    let why = studio.own(&format!("/v1/requests/{}/why", refused["request_id"].as_str().unwrap()));
    assert_eq!(why["refusal"]["code"], "task_quota_exhausted", "{why:#}");
    // Pictures that are waited for are no tasks.
    let body = json!({"model": "demo-image", "prompt": "a dog"});
    studio.ask(&Ask::post("/v1/images/generations", &body).bearer(&studio.key)).ok();

    let shown = studio.get(&format!("/api/projects/{project}"))["limits"][0].clone();
    assert_eq!(
        (&shown["tasks"], &shown["used"], &shown["held"]),
        (&json!(true), &json!("0.04"), &json!("0.4"))
    );
    let shown = studio.get(&format!("/api/keys/{id}"));
    assert_eq!(
        shown["bound_by"]["scope"], "account",
        "what is for tasks alone binds no other call: {shown:#}"
    );
    studio.ask(&Ask::new("DELETE", format!("/v1/videos/{video}")).bearer(&studio.key)).ok();
    let again = studio.ask(&studio.image("demo-image", "a dog", 1)).ok()["id"].clone();
    studio.drawn(again.as_str().unwrap());

    let both = json!({"limits": [{"window": "day", "value": "1", "tasks": true, "model": "demo-video"}]});
    let refused = error(&studio.patch(&format!("/api/keys/{id}"), &both), ("invalid_value", 400));
    assert_eq!(refused["param"], "limits[0].tasks");
}

fn g4_a_quota_of_tasks_counts_them_a_day_and_is_given_back(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let limits = json!([{"metric": "calls", "window": "day", "value": "2", "tasks": true}]);
    studio.key = studio.key_with(json!({"limits": limits})).1;
    let pictures = [studio.image("demo-image", "a cat", 1), studio.image("demo-image-tokens", "a cat", 1)];
    for ask in pictures {
        let id = studio.ask(&ask).ok()["id"].clone();
        studio.drawn(id.as_str().unwrap());
    }
    let refused = studio.ask(&studio.video("demo-video", "a cat", 4));
    let refused = error(&refused, ("daily_calls_exhausted", 429));
    assert!(refused["message"].as_str().unwrap().contains("2 tasks"), "{refused:#}");
    let body = json!({"model": "demo-image", "prompt": "a dog"});
    studio.ask(&Ask::post("/v1/images/generations", &body).bearer(&studio.key)).ok();
    studio.clock.advance_ms(24 * 3_600_000);
    let next_day = studio.submit("demo-video", "a cat", 4);
    studio.ask(&Ask::new("DELETE", format!("/v1/videos/{next_day}")).bearer(&studio.key)).ok();
}

/// A member's own quota for tasks leaves chats alone, and a chat counts in none.
#[test]
fn g4_chats_live_on_when_the_quota_of_tasks_is_used_up() {
    let demo = Demo::start();
    let account = demo.account("Ann", "10.00");
    let member = json!({"account": account, "name": "m", "role": "developer",
        "limits": [{"window": "total", "value": "0", "tasks": true}]});
    let member = demo.admin_post("/api/members", &member)["id"].as_str().unwrap().to_owned();
    let made = demo.admin_post("/api/keys", &json!({"account": account, "name": "k", "member": member}));
    let key = made["key"].as_str().unwrap();
    demo.chat(key, "gpt-5-mini", "Hello").ok();
    let body = json!({"model": "demo-video", "prompt": "a cat", "seconds": "4"});
    let refused = demo.ask(&Ask::post("/v1/videos", &body).bearer(key));
    let refused = error(&refused, ("task_quota_exhausted", 402));
    assert_eq!(refused["limit"]["id"], json!(member), "{refused:#}");
    demo.chat(key, "gpt-5-mini", "Hello").ok();
    let shown = demo.own(key, "/v1/key");
    let limit = shown["limits"].as_array().unwrap().iter().find(|limit| limit["tasks"] == true).unwrap();
    assert_eq!((&limit["scope"], &limit["used"]), (&json!("member"), &json!("0")), "{shown:#}");
}
