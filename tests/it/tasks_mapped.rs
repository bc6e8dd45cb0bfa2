//! Tasks at an upstream that speaks of them in its own way, as the channel's document says: the simulated studio.

use serde_json::{Value, json};
use tallygate::demo::upstream::studio_task_api;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::http::Ask;
use crate::support::studio::Studio;

on_both_backends!(
    h1_videos_and_pictures_of_a_foreign_upstream_are_made_and_charged,
    s6_foreign_tasks_that_fail_are_given_back,
    g2_foreign_tasks_that_never_end_end_at_their_deadline,
    g2_a_foreign_task_goes_on_after_a_restart,
    g2_a_foreign_task_that_may_have_been_taken_ends_unpaid,
    g2_a_foreign_task_is_cancelled,
    h1_what_a_foreign_upstream_has_no_place_for_is_refused,
    s25_a_wrong_document_is_refused_with_its_place,
);

const HOUR_MS: i64 = 3_600_000;

/// With a channel to the studio alone.
fn open(backend: Backend, money: &str) -> Studio {
    let studio = Studio::open(backend, money);
    for (name, endpoint, unit, price) in
        [("demo-studio-video", "videos", "second", "0.10"), ("demo-studio-image", "images", "image", "0.04")]
    {
        studio.post("/api/models", json!({"name": name, "endpoints": [endpoint]})).ok();
        studio.post("/api/prices", json!({"model": name, "units": [{"unit": unit, "price": price}]})).ok();
    }
    let models = json!({"demo-studio-video": "demo-studio-video", "demo-studio-image": "demo-studio-image"});
    let base_url = studio.upstream_url().replace("/v1", "/studio");
    let more = json!({"name": "foreign", "models": models, "base_url": base_url, "cools_down": false,
        "task_api": studio_task_api()});
    studio.channel_before("demo-studio-video", more);
    studio
}

fn video(studio: &Studio, prompt: &str) -> String {
    studio.submit("demo-studio-video", prompt, 4)
}

/// Twice, as a job of the studio needs it.
fn poll(studio: &Studio) {
    studio.poll_after(60_000);
    studio.poll_after(60_000);
}

fn h1_videos_and_pictures_of_a_foreign_upstream_are_made_and_charged(backend: Backend) {
    let studio = open(backend, "10");
    let reply = studio.ask(&studio.video("demo-studio-video", "a cat", 4));
    let id = reply.ok()["id"].as_str().unwrap().to_owned();
    assert_eq!((studio.told(&id)[0].as_str(), studio.balance()[1].as_str()), ("queued", "0.4"));
    studio.poll_after(2_000);
    let running = studio.own(&format!("/v1/videos/{id}"));
    assert_eq!((&running["status"], &running["progress"]), (&json!("in_progress"), &json!(10)));
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    let content = studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key));
    assert_eq!((content.head.status, content.text()), (200, "file 1 of a cat".to_owned()));
    let preview = format!("/v1/videos/{id}/content?variant=thumbnail");
    assert_eq!(studio.ask(&Ask::get(preview).bearer(&studio.key)).head.status, 404);
    // Two pictures, and a field of the caller's own that the document has a place for.
    let mut body = json!({"model": "demo-studio-image", "prompt": "a dog", "n": 2, "size": "1024x1024"});
    body["style"] = json!("vivid");
    let drawn = studio.ask(&Ask::post("/v1/images", &body).bearer(&studio.key)).ok()["id"].clone();
    let drawn = drawn.as_str().unwrap();
    poll(&studio);
    assert_eq!(studio.told(drawn), ["succeeded", "settled", "0.08"]);
    let pictures = studio.own(&format!("/v1/images/{drawn}"))["data"].as_array().unwrap().clone();
    let fetched: Vec<_> = pictures
        .iter()
        .map(|picture| studio.ask(&Ask::get(picture["url"].as_str().unwrap()).bearer(&studio.key)).text())
        .collect();
    assert_eq!(fetched, ["file 1 of a dog", "file 2 of a dog"]);
    // It came out longer: what was told before is charged, and the rest is the platform's loss.
    let longer = video(&studio, "a cow #seconds=6");
    poll(&studio);
    assert_eq!(studio.told(&longer), ["succeeded", "settled", "0.4"]);
    let receipt =
        studio.own(&format!("/v1/requests/{}", studio.task(&longer)["request_id"].as_str().unwrap()));
    assert_eq!(receipt["settlement"]["loss"], "0.2", "{receipt:#}");
    // The bill, the log and what the platform reckons with are the same, to the nano.
    let costs: Vec<_> = studio.bill().iter().map(|row| row["cost"].as_str().unwrap().to_owned()).collect();
    assert_eq!(costs, ["0.4", "0.08", "0.6"]);
    let row = studio.get(&format!("/api/requests/{}/row", reply.head.request_id()));
    let (billed, attempt) = (&studio.bill()[0], &row["attempts"][0]);
    assert_eq!((&attempt["cost"], &attempt["cost_basis"]), (&billed["cost"], &json!("upstream")), "{row:#}");
    assert_eq!(row["upstream_request_id"], billed["upstream_request_id"]);
    assert_eq!(billed["gateway_request_id"], json!(reply.head.request_id()));
    // The studio says how long it keeps them.
    studio.clock.advance_ms(3 * HOUR_MS.unsigned_abs());
    let gone = studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key));
    assert_eq!((gone.head.status, &gone.json()["error"]["code"]), (410, &json!("task_result_gone")));
}

fn s6_foreign_tasks_that_fail_are_given_back(backend: Backend) {
    let studio = open(backend, "10");
    for (words, code) in
        [("#broken", "content_refused"), ("#vanished", "upstream_lost_it"), ("#empty", "no_result")]
    {
        let id = video(&studio, &format!("a cat {words}"));
        poll(&studio);
        assert_eq!(studio.told(&id), ["failed", "released", "0"], "{words}");
        let error = studio.own(&format!("/v1/videos/{id}"))["error"].clone();
        assert_eq!(error["code"], code, "{words} {error:#}");
        let charged = studio.own(&format!("/v1/videos/{id}/charged"));
        assert_eq!(charged["verdict"], "not_charged", "{words} {charged:#}");
    }
    // What it does not take is refused at once, and nothing is left of it.
    let answers = [
        (429, 503, "upstream_rate_limited"),
        (400, 400, "upstream_rejected"),
        (402, 502, "upstream_out_of_credit"),
    ];
    for (status, told, code) in answers {
        let refused = studio.ask(&studio.video("demo-studio-video", &format!("a cat #status={status}"), 4));
        assert_eq!((refused.head.status, &refused.json()["error"]["code"]), (told, &json!(code)));
    }
    assert_eq!(studio.balance(), ["10", "0"]);
    // An address that leads nowhere is no fault of the money: it was made.
    let id = video(&studio, "a cat #gone");
    poll(&studio);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    let content = studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key));
    assert_eq!((content.head.status, &content.json()["error"]["code"]), (410, &json!("task_result_gone")));
}

fn g2_foreign_tasks_that_never_end_end_at_their_deadline(backend: Backend) {
    let studio = open(backend, "10");
    // Without an end, with a state that nobody knows, out of order, with half an answer: none of it says anything.
    let ids: Vec<_> = ["#never", "#paused", "#down", "#garbled"]
        .into_iter()
        .map(|words| video(&studio, &format!("a cat {words}")))
        .collect();
    for _ in 0..3 {
        studio.poll_after(60_000);
    }
    for id in &ids {
        assert_eq!(studio.told(id)[1], "held", "{id}");
    }
    studio.poll_after(HOUR_MS);
    for id in &ids {
        assert_eq!(studio.told(id), ["expired", "released", "0"]);
    }
    assert_eq!(studio.balance(), ["10", "0"]);
}

fn g2_a_foreign_task_goes_on_after_a_restart(backend: Backend) {
    let mut studio = open(backend, "10");
    let id = video(&studio, "a cat");
    studio.restart();
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["running", "held", "0"]);
    studio.restart();
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    studio.restart();
    let content = studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key));
    assert_eq!(content.text(), "file 1 of a cat");
}

/// Nobody can find it there again, so nobody waits for it either; nor is it sent to anybody else.
fn g2_a_foreign_task_that_may_have_been_taken_ends_unpaid(backend: Backend) {
    let studio = open(backend, "10");
    let answers = [("#lost", 504, "upstream_timeout"), ("#nameless", 502, "upstream_error")];
    for (words, status, code) in answers {
        let lost = studio.ask(&studio.video("demo-studio-video", &format!("a cat {words}"), 4));
        assert_eq!((lost.head.status, &lost.json()["error"]["code"]), (status, &json!(code)), "{words}");
        let row = studio.get(&format!("/api/requests/{}/row", lost.head.request_id()));
        let attempts = row["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{row:#}");
        assert_eq!((&attempts[0]["cost"], &attempts[0]["cost_basis"]), (&json!("0.4"), &json!("estimated")));
    }
    assert_eq!(studio.balance(), ["10", "0"]);
}

fn g2_a_foreign_task_is_cancelled(backend: Backend) {
    let studio = open(backend, "10");
    let id = video(&studio, "a cat #never");
    let deleted = studio.ask(&Ask::new("DELETE", format!("/v1/videos/{id}")).bearer(&studio.key)).ok();
    assert_eq!((&deleted["deleted"], studio.told(&id)[0].as_str()), (&json!(true), "cancelled"));
    // One that the studio does not let go of runs on.
    let done = video(&studio, "a dog #polls=1");
    studio.post(&format!("/api/tasks/{done}/cancel"), json!({})).ok();
    assert_eq!(studio.told(&done), ["succeeded", "settled", "0.4"]);
    assert_eq!(studio.balance(), ["9.6", "0"]);
    // G3: where nothing can be cancelled the caller is told so, and may ask whether it was charged.
    let mut api = studio_task_api();
    api["video"].as_object_mut().unwrap().remove("cancel").unwrap();
    let base_url = studio.upstream_url().replace("/v1", "/studio");
    let more = json!({"name": "stubborn", "priority": 20, "base_url": base_url, "task_api": api});
    studio.channel_before("demo-studio-video", more);
    let id = video(&studio, "a cow");
    let deleted = studio.ask(&Ask::new("DELETE", format!("/v1/videos/{id}")).bearer(&studio.key)).ok();
    let note = deleted["note"].as_str().unwrap();
    assert_eq!(deleted["deleted"], false);
    assert!(note.contains("runs on") && note.ends_with(&format!("/v1/videos/{id}/charged")), "{note}");
    poll(&studio);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    assert_eq!(studio.own(&format!("/v1/videos/{id}/charged"))["verdict"], "charged");
}

fn h1_what_a_foreign_upstream_has_no_place_for_is_refused(backend: Backend) {
    let studio = open(backend, "10");
    let ask = |path: &str, model: &str, field: &str, value: Value| {
        let mut body = json!({"model": model, "prompt": "a cat"});
        body[field] = value;
        studio.ask(&Ask::post(path, &body).bearer(&studio.key))
    };
    let refused = [
        ("/v1/videos", "demo-studio-video", "camera", json!("fixed")),
        (
            "/v1/videos",
            "demo-studio-video",
            "input_reference",
            json!({"image_url": "https://p.example/1.png"}),
        ),
        ("/v1/images", "demo-studio-image", "quality", json!("hd")),
    ];
    for (path, model, field, value) in refused {
        let reply = ask(path, model, field, value);
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.head.status, &error["code"]),
            (400, &json!("invalid_parameter")),
            "{field} {error:#}"
        );
        assert_eq!(error["param"], field, "{error:#}");
    }
    let file: &[(&str, Option<&str>, &[u8])] = &[
        ("model", None, b"demo-studio-video"),
        ("prompt", None, b"a cat"),
        ("input_reference", Some("cat.png"), b"png"),
    ];
    let reply = studio.ask(&Ask::form("/v1/videos", file).bearer(&studio.key));
    assert_eq!((reply.head.status, &reply.json()["error"]["param"]), (400, &json!("input_reference")));
    // A form without a file is as good as JSON: the SDKs send one.
    let form = Ask::form("/v1/videos", &[("model", None, b"demo-studio-video"), ("prompt", None, b"a cat")]);
    let made = studio.ask(&form.bearer(&studio.key)).ok()["id"].as_str().unwrap().to_owned();
    poll(&studio);
    assert_eq!(
        (studio.told(&made)[0].as_str(), studio.balance()),
        ("succeeded", ["9.6", "0"].map(String::from))
    );
}

fn s25_a_wrong_document_is_refused_with_its_place(backend: Backend) {
    let studio = open(backend, "0");
    let path = format!("/api/channels/{}", studio.channel);
    let change = |at: &str, value: Value| {
        let mut api = studio_task_api();
        *api.pointer_mut(at).unwrap() = value;
        studio.patch(&path, &json!({"task_api": api}))
    };
    let wrong = [
        ("/video/poll/path", json!("/jobs"), "invalid_value", "task_api.video.poll.path"),
        ("/image/submit/body/input/text", json!("{promt}"), "invalid_value", "task_api.image.submit.body"),
        ("/video/states/DONE", json!("finished"), "invalid_value", "task_api.video.states.DONE"),
        ("/video/results/0", json!("files"), "invalid_value", "task_api.video.results[0]"),
        ("/video/submit", json!({"path": "/jobs", "bdy": {}}), "unknown_field", "task_api.video.submit.bdy"),
    ];
    for (at, value, code, field) in wrong {
        let refused = change(at, value);
        let error = refused.json()["error"].clone();
        assert_eq!(
            (refused.head.status, &error["code"], &error["param"]),
            (400, &json!(code), &json!(field)),
            "{error:#}"
        );
    }
    change("/video/progress", json!("/job/percent")).ok();
    assert_eq!(studio.get(&path)["task_api"]["video"]["progress"], "/job/percent");
    studio.patch(&path, &json!({"task_api": null})).ok();
    assert!(studio.get(&path)["task_api"].is_null());
}
