//! What of a channel can be tried out, and what a call would meet, where its models make videos (H2, E7).

use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::http::Ask;

const VIDEO: &str = "demo-video";

fn channel(demo: &Demo, name: &str, credential: &str, more: Value) -> String {
    let mut body = json!({
        "name": name, "base_url": demo.ready()["upstream"]["url"], "credential": credential,
        "models": {VIDEO: VIDEO}, "status": "disabled",
    });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    demo.admin_post("/api/channels", &body)["id"].as_str().unwrap().to_owned()
}

/// A video would be billed, so none is made: the list of models tells whether the address and the credential work.
#[test]
fn h2_a_channel_of_videos_is_tested_as_far_as_is_free() {
    let demo = Demo::start();
    let key = std::fs::read_to_string(demo.dir().join("upstream/upstream-key")).unwrap();
    let billed = demo.bill().len();
    let try_out = |id: &str| {
        let path = format!("/api/channels/{id}/test");
        demo.ask(&Ask::post(path, &json!({})).bearer(&demo.admin_token()))
    };
    let good = try_out(&channel(&demo, "good", key.trim(), json!({}))).ok();
    assert_eq!((&good["works"], &good["status"], &good["model"]), (&json!(true), &json!(200), &json!(VIDEO)));
    assert!(good["text"].as_str().unwrap().contains("No task was made"), "{good:#}");
    let bad = try_out(&channel(&demo, "bad", "sk-that-nobody-knows", json!({}))).ok();
    assert_eq!((&bad["works"], &bad["code"]), (&json!(false), &json!("upstream_auth_failed")), "{bad:#}");
    // An address without a list, and one whose tasks are spoken of in another way.
    let lost = json!({"base_url": format!("{}/nowhere", demo.ready()["upstream"]["url"].as_str().unwrap())});
    let refused = try_out(&channel(&demo, "lost", key.trim(), lost));
    assert_eq!(refused.head.status, 400, "{}", refused.text());
    assert_eq!(refused.json()["error"]["param"], "model");
    assert!(refused.text().contains("test another model of the channel"), "{}", refused.text());
    assert_eq!(demo.bill().len(), billed, "nothing is billed");
    assert_eq!(demo.admin("/api/tasks")["data"], json!([]));
}

/// An operator's simulation of a video is the estimate's sum, of the same length and size.
#[test]
fn e7_a_video_can_be_simulated() {
    let demo = Demo::start();
    let account = demo.account("anna", "100");
    let body = json!({"account": account, "name": "films"});
    let made = demo.admin_post("/api/keys", &body);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let simulate = |more: Value| {
        let mut body = json!({"endpoint": "videos", "model": VIDEO});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        demo.ask(&Ask::post(format!("/api/keys/{id}/simulate"), &body).bearer(&demo.admin_token()))
    };
    let sizes = [json!({}), json!({"seconds": 8}), json!({"seconds": 12, "size": "1792x1024"})];
    let mut holds = Vec::new();
    for size in sizes {
        let simulated = simulate(size.clone()).ok();
        assert_eq!(simulated["would"], "pass", "{simulated:#}");
        let mut body = json!({"model": VIDEO, "prompt": "a cat"});
        body.as_object_mut().unwrap().extend(size.as_object().cloned().unwrap());
        let estimate = demo.ask(&Ask::post("/v1/videos/estimate", &body).bearer(key)).ok();
        assert_eq!(simulated["hold"], estimate["cost_max"], "{size}: {estimate:#}");
        holds.push(simulated["hold"].clone());
    }
    holds.dedup();
    assert_eq!(holds.len(), 3);
    for (endpoint, field) in
        [("chat/completions", json!({"seconds": 4})), ("embeddings", json!({"size": "1x1"}))]
    {
        let mut body = json!({"endpoint": endpoint});
        body.as_object_mut().unwrap().extend(field.as_object().cloned().unwrap());
        let refused = simulate(body);
        assert_eq!((refused.head.status, &refused.json()["error"]["code"]), (400, &json!("invalid_value")));
    }
    let command = ["--json", "simulate", id, "--endpoint", "videos", "--model", VIDEO, "--seconds", "8"];
    let simulated: Value = serde_json::from_slice(&demo.command(&command).output().unwrap().stdout).unwrap();
    assert_eq!(simulated["hold"], holds[1]);
}
