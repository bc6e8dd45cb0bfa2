//! Pictures as tasks, made by an upstream whose image API answers with them: the gateway waits in the caller's place.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::http::Ask;
use crate::support::studio::Studio;

on_both_backends!(
    g2_pictures_are_made_charged_and_fetched,
    g2_pictures_by_tokens_are_kept_for_their_time,
    s6_pictures_that_fail_are_given_back,
    s46_pictures_whose_answer_was_lost_are_given_back_and_accrued,
    s17_pictures_that_are_asked_for_again_are_made_once,
    g2_pictures_that_are_being_made_run_on_and_are_charged,
    g2_pictures_of_a_gateway_that_stops_are_given_back,
    g4_pictures_have_an_estimate_and_a_cap,
);

const HOUR_MS: u64 = 3_600_000;

fn g2_pictures_are_made_charged_and_fetched(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let reply = studio.ask(&studio.image("demo-image", "a cat #delay_ms=200", 2));
    let task = reply.ok();
    let id = task["id"].as_str().unwrap().to_owned();
    // The answer comes before the pictures.
    assert_eq!(
        (&task["object"], &task["status"], &task["n"]),
        (&json!("image"), &json!("in_progress"), &json!(2))
    );
    assert_eq!((&task["data"], studio.balance()), (&json!([]), ["0.92", "0.08"].map(String::from)));
    let early = studio.ask(&Ask::get(format!("/v1/images/{id}/content")).bearer(&studio.key));
    assert_eq!((early.head.status, &early.json()["error"]["code"]), (409, &json!("task_not_finished")));
    let done = studio.drawn(&id);
    assert_eq!((&done["status"], &done["progress"]), (&json!("completed"), &json!(100)), "{done:#}");
    assert_eq!(
        (studio.told(&id), studio.balance()),
        (["succeeded", "settled", "0.08"].map(String::from), ["0.92", "0"].map(String::from))
    );
    // The addresses that the upstream told are behind those of the gateway.
    let urls: Vec<_> =
        done["data"].as_array().unwrap().iter().map(|made| made["url"].as_str().unwrap()).collect();
    assert_eq!(urls.len(), 2);
    for url in &urls {
        let content = studio.ask(&Ask::get(*url).bearer(&studio.key));
        assert_eq!(content.head.header("content-type"), Some("image/png"));
        assert_eq!((content.head.status, content.text()), (200, "echo: a cat #delay_ms=200".to_owned()));
    }
    let row = studio.get(&format!("/api/requests/{}/row", reply.head.request_id()));
    let billed = &studio.bill()[0];
    assert_eq!((&row["charge"], &row["charge_state"]), (&json!("0.08"), &json!("settled")), "{row:#}");
    assert_eq!(
        (&billed["cost"], &billed["gateway_request_id"]),
        (&json!("0.08"), &json!(reply.head.request_id()))
    );
    assert_eq!(row["upstream_request_id"], billed["upstream_request_id"], "{row:#}");
    let charged = studio.own(&format!("/v1/images/{id}/charged"));
    assert_eq!(
        (&charged["verdict"], &charged["charged"]),
        (&json!("charged"), &json!("0.08")),
        "{charged:#}"
    );
    // Neither another key nor the lane of the videos has it.
    let (_, other) = studio.key_with(json!({}));
    let paths = [(&other, format!("/v1/images/{id}")), (&studio.key, format!("/v1/videos/{id}"))];
    for (key, path) in paths {
        for more in ["", "/content", "/charged"] {
            let ask = Ask::get(format!("{path}{more}")).bearer(key);
            assert_eq!(studio.ask(&ask).head.status, 404, "{path}{more}");
        }
    }
    let none = studio.ask(&Ask::get(format!("/v1/images/{id}/content?index=2")).bearer(&studio.key));
    assert_eq!(none.head.status, 404);
    let lists = ["/v1/images", "/v1/videos"].map(|path| studio.own(path)["data"].as_array().unwrap().len());
    assert_eq!(lists, [1, 0]);
    // What is deleted is gone, and the call that waits is what it was.
    let deleted = studio.ask(&Ask::new("DELETE", format!("/v1/images/{id}")).bearer(&studio.key)).ok();
    assert_eq!(deleted, json!({"id": id, "object": "image.deleted", "deleted": true, "note": null}));
    assert_eq!(studio.ask(&Ask::get(urls[0]).bearer(&studio.key)).head.status, 404);
    let waits = studio.ask(&studio.image("demo-image", "a dog", 1).at("/v1/images/generations")).ok();
    assert!(waits["data"][0]["url"].is_string() && waits["id"].is_null(), "{waits:#}");
    assert_eq!(studio.own("/v1/images")["data"], json!([]));
}

fn g2_pictures_by_tokens_are_kept_for_their_time(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let reply = studio.ask(&studio.image("demo-image-tokens", "a cat", 2));
    let id = reply.ok()["id"].as_str().unwrap().to_owned();
    studio.drawn(&id);
    // To the nano what the upstream bills, and what its own tokens cost.
    let billed = studio.bill()[0]["cost"].clone();
    assert_eq!((json!(studio.told(&id)[2]), &studio.told(&id)[1]), (billed, &"settled".to_owned()));
    let edited = Ask::form(
        "/v1/images",
        &[
            ("model", None, b"demo-image-tokens"),
            ("prompt", None, b"a hat"),
            ("image", Some("cat.png"), b"png"),
        ],
    );
    let edited = studio.ask(&edited.bearer(&studio.key)).ok()["id"].as_str().unwrap().to_owned();
    studio.drawn(&edited);
    assert_eq!(studio.task(&edited)["reference_hashes"].as_array().unwrap().len(), 1);
    studio.restart();
    let content =
        |id: &str| studio.ask(&Ask::get(format!("/v1/images/{id}/content?index=0")).bearer(&studio.key));
    assert_eq!((content(&id).text(), content(&edited).text()), ("echo: a cat".into(), "echo: a hat".into()));
    // Sealed anew when the master key turns: three pictures, and the credential of the channel.
    studio.post("/api/master-key/rotation", json!({"key": "08".repeat(32)})).ok();
    let standing = || studio.get("/api/master-key/rotation");
    wait_until("all is sealed anew", || !standing()["report"].is_null());
    assert_eq!(standing()["report"]["sealed_anew"], 4, "{:#}", standing());
    assert_eq!(content(&id).text(), "echo: a cat");
    studio.clock.advance_ms(25 * HOUR_MS);
    let gone = content(&id);
    assert_eq!((gone.head.status, &gone.json()["error"]["code"]), (410, &json!("task_result_gone")));
    studio.poll_after(0);
}

fn s6_pictures_that_fail_are_given_back(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let reply = studio.ask(&studio.image("demo-image", "a cat #status=400", 1));
    let id = reply.ok()["id"].as_str().unwrap().to_owned();
    let failed = studio.drawn(&id);
    assert_eq!(
        (&failed["status"], &failed["error"]["code"]),
        (&json!("failed"), &json!("upstream_rejected"))
    );
    assert_eq!((studio.told(&id)[1].as_str(), studio.balance()), ("released", ["1", "0"].map(String::from)));
    // Whoever submitted it was told of a task.
    let row = studio.get(&format!("/api/requests/{}/row", reply.head.request_id()));
    assert_eq!((&row["status"], &row["charge_state"]), (&json!(200), &json!("released")), "{row:#}");
    assert_eq!(
        (&row["attempts"][0]["status"], &row["attempts"][0]["cost"]),
        (&json!(400), &json!("0")),
        "{row:#}"
    );
    let charged = studio.own(&format!("/v1/images/{id}/charged"));
    assert_eq!(charged["verdict"], "not_charged", "{charged:#}");
    for (field, value) in [("stream", json!(true)), ("partial_images", json!(2)), ("n", json!(0))] {
        let mut body = json!({"model": "demo-image", "prompt": "a cat"});
        body[field] = value;
        let refused = studio.ask(&Ask::post("/v1/images", &body).bearer(&studio.key));
        let error = refused.json()["error"].clone();
        assert_eq!(
            (refused.head.status, &error["code"], &error["param"]),
            (400, &json!("invalid_parameter"), &json!(field))
        );
    }
}

fn s46_pictures_whose_answer_was_lost_are_given_back_and_accrued(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let reply = studio.ask(&studio.image("demo-image", "a cat #lost", 3));
    let id = reply.ok()["id"].as_str().unwrap().to_owned();
    let failed = studio.drawn(&id);
    assert_eq!(failed["error"]["code"], "upstream_timeout", "{failed:#}");
    assert_eq!(studio.balance(), ["1", "0"]);
    // It was made and billed all the same: the estimate of the attempt is what the bill has.
    let row = studio.get(&format!("/api/requests/{}/row", reply.head.request_id()));
    let attempt = &row["attempts"][0];
    assert_eq!(
        (&attempt["cost_basis"], &attempt["cost"]),
        (&json!("estimated"), &studio.bill()[0]["cost"]),
        "{row:#}"
    );
}

fn s17_pictures_that_are_asked_for_again_are_made_once(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let ask = studio.image("demo-image", "a cat #delay_ms=300", 1);
    let replies: Vec<_> = std::thread::scope(|threads| {
        let asked: Vec<_> = (0..4).map(|_| threads.spawn(|| studio.ask(&ask))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let ids: Vec<_> = replies.iter().map(|reply| reply.ok()["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let marked = replies.iter().filter(|reply| reply.head.header("x-tallygate-duplicate").is_some()).count();
    studio.drawn(ids[0].as_str().unwrap());
    assert_eq!((marked, studio.bill().len(), studio.balance()[0].as_str()), (3, 1, "0.96"));
    // Under an Idempotency-Key it is answered again, and another body under it is refused.
    let named = studio.image("demo-image", "a dog", 1).header("idempotency-key", "one");
    let (first, again) = (studio.ask(&named), studio.ask(&named));
    assert_eq!(first.ok()["id"], again.ok()["id"]);
    let other = studio.image("demo-image", "a cow", 1).header("idempotency-key", "one");
    assert_eq!(studio.ask(&other).json()["error"]["code"], "idempotency_key_reused");
    studio.drawn(first.ok()["id"].as_str().unwrap());
}

fn g2_pictures_that_are_being_made_run_on_and_are_charged(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let id = studio.ask(&studio.image("demo-image", "a cat #delay_ms=400", 1)).ok()["id"].clone();
    let id = id.as_str().unwrap();
    // Its upstream cannot be told to stop, so nobody is told that it did.
    let deleted = studio.ask(&Ask::new("DELETE", format!("/v1/images/{id}")).bearer(&studio.key)).ok();
    assert_eq!(deleted["deleted"], false, "{deleted:#}");
    assert!(deleted["note"].is_string(), "{deleted:#}");
    studio.drawn(id);
    assert_eq!(studio.told(id), ["succeeded", "settled", "0.04"]);
    let deleted = studio.ask(&Ask::new("DELETE", format!("/v1/images/{id}")).bearer(&studio.key)).ok();
    assert_eq!(deleted["deleted"], true, "{deleted:#}");
    assert_eq!((studio.bill().len(), studio.balance()), (1, ["0.96", "0"].map(str::to_owned)));
}

fn g2_pictures_of_a_gateway_that_stops_are_given_back(backend: Backend) {
    let mut studio = Studio::open(backend, "1");
    let id = studio.ask(&studio.image("demo-image", "a cat #delay_ms=60000", 1)).ok()["id"].clone();
    let id = id.as_str().unwrap();
    let clock = Arc::clone(&studio.clock);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        // Its patience passes while it stops.
        threads.spawn(|| {
            for _ in 0..1_000 {
                if over.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                clock.advance_ms(1_000);
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        studio.restart();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(studio.told(id), ["failed", "released", "0"]);
    assert_eq!(
        (studio.task(id)["failure"]["code"].as_str(), studio.balance()[0].as_str()),
        (Some("interrupted"), "1")
    );
}

fn g4_pictures_have_an_estimate_and_a_cap(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    studio.key = studio.key_with(json!({"tasks": {"cost_cap": "0.10"}})).1;
    let body = json!({"model": "demo-image", "prompt": "a cat", "n": 4, "size": "1024x1024"});
    let estimate = studio.ask(&Ask::post("/v1/images/estimate", &body).bearer(&studio.key)).ok();
    let told = |field: &str| estimate[field].clone();
    assert_eq!(
        [told("cost_max"), told("per_unit"), told("images")],
        [json!("0.16"), json!("0.04"), json!(4)]
    );
    assert_eq!([told("needs_confirmation"), told("would")], [json!(true), json!("pass")]);
    let ask = studio.image("demo-image", "a cat", 4);
    let refused = studio.ask(&ask);
    assert_eq!((refused.head.status, &refused.json()["error"]["code"]), (402, &json!("task_cost_over_cap")));
    let id = studio.ask(&ask.header("x-tallygate-confirm-cost", "0.16")).ok()["id"].clone();
    studio.drawn(id.as_str().unwrap());
    // The cap is of tasks: what is waited for is not one.
    let waits = studio.image("demo-image", "a cat", 4).at("/v1/images/generations");
    assert_eq!(studio.ask(&waits).head.status, 200);
    let other: Value = studio.ask(&studio.image("demo-video", "a cat", 1)).json();
    assert_eq!(other["error"]["code"], "endpoint_not_supported_by_model");
}

/// G2: a process that is killed leaves a task that nobody waits for; the next one gives it back.
#[test]
fn g2_pictures_of_a_gateway_that_was_killed_are_given_back() {
    let env = [
        ("TALLYGATE_UPSTREAM__HEADER_TIMEOUT_MS", "5000"),
        ("TALLYGATE_UPSTREAM__TOTAL_TIMEOUT_MS", "5000"),
        ("TALLYGATE_TASKS__UNCONFIRMED_MS", "100"),
        ("TALLYGATE_TASKS__POLL_MS", "100"),
    ];
    let mut demo = Demo::start_with(&env);
    let body = json!({"model": "demo-image", "prompt": "a cat #delay_ms=60000"});
    let ask = Ask::post("/v1/images", &body).bearer(&demo.key("healthy"));
    let id = demo.ask(&ask).ok()["id"].as_str().unwrap().to_owned();
    demo.kill();
    demo.restart();
    let state = || demo.admin(&format!("/api/tasks/{id}"));
    wait_until("it is given back", || state()["money"] == "released");
    assert_eq!(state()["failure"]["code"], "interrupted");
}

/// G2, I3: whoever waited for the pictures was killed. Nobody can get them any more, so nothing stays held.
#[test]
fn g2_pictures_of_a_gateway_that_was_killed_are_given_back_at_its_start() {
    let mut demo = Demo::start();
    let key = demo.key("healthy");
    let body = json!({"model": "demo-image", "prompt": "a cat #delay_ms=60000", "n": 1});
    let id = demo.ask(&Ask::post("/v1/images", &body).bearer(&key)).ok()["id"].as_str().unwrap().to_owned();
    demo.kill();
    demo.restart();
    let charged = demo.own(&key, &format!("/v1/images/{id}/charged"));
    assert_eq!(charged["verdict"], "not_charged", "{charged:#}");
    assert_eq!(demo.own(&key, &format!("/v1/images/{id}"))["error"]["code"], "interrupted");
    demo.nothing_stays_held();
}
