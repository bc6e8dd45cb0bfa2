//! Image and video tasks whose money always resolves: charged once at success, given back else, whoever asks or not.

use serde_json::{Value, json};
use tallygate::catalogue::Language;
use tallygate::tasks::Verdict;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::demo::{nano, wait_until};
use crate::support::http::Ask;
use crate::support::studio::Studio;

on_both_backends!(
    s7_a_task_that_nobody_asks_about_is_made_and_charged,
    s6_a_failed_task_is_given_back_and_says_so,
    s5_two_pollers_end_a_task_once,
    s8_a_task_without_its_channel_is_given_back_and_says_why,
    s9_a_dearer_task_never_goes_below_zero,
    s10_a_task_is_charged_at_the_price_of_its_acceptance,
    s17_a_resubmission_gets_the_first_ones_task,
    g2_a_task_goes_on_after_a_restart,
    g2_a_task_ends_at_its_deadline,
    g2_a_cancelled_task_is_given_back,
    g2_a_task_whose_answer_was_lost_is_found_again,
    g3_a_task_that_ends_while_its_records_are_read_agrees_with_itself,
    g4_a_task_beyond_the_cap_must_be_confirmed,
    b3_a_charge_is_refunded_by_the_name_of_its_task,
);

const HOUR_MS: i64 = 3_600_000;

fn s7_a_task_that_nobody_asks_about_is_made_and_charged(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let reply = studio.ask(&studio.video("demo-video", "a cat", 4));
    let video = reply.ok();
    let id = video["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&video["status"], &video["seconds"], &video["size"]),
        (&json!("queued"), &json!("4"), &json!("1280x720"))
    );
    assert_eq!(studio.balance(), ["0.6", "0.4"]);
    assert_eq!(studio.task(&id)["ratio"], "16:9");
    assert_eq!((studio.poll_after(2_000), studio.told(&id)), (1, ["running", "held", "0"].map(String::from)));
    assert_eq!(studio.poll_after(2_000), 1);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    assert_eq!((studio.balance(), studio.poll_after(HOUR_MS)), (["0.6", "0"].map(String::from), 0));
    // The log, the receipt and the upstream's bill say the same of it.
    let request = reply.head.request_id();
    let row = studio.get(&format!("/api/requests/{request}/row"));
    assert_eq!(
        (&row["charge"], &row["charge_state"], &row["ending"]),
        (&json!("0.4"), &json!("settled"), &json!("complete"))
    );
    assert_eq!(row["upstream_request_id"], studio.task(&id)["upstream_id"], "{row:#}");
    let billed = &studio.bill()[0];
    assert_eq!(
        (&billed["gateway_request_id"], &billed["cost"]),
        (&json!(request), &json!("0.4")),
        "{billed:#}"
    );
    assert_eq!(billed["upstream_request_id"], row["upstream_request_id"]);
    let charged = studio.own(&format!("/v1/videos/{id}/charged"));
    assert_eq!((&charged["verdict"], &charged["charged"]), (&json!("charged"), &json!("0.4")), "{charged:#}");
    let video = studio.own(&format!("/v1/videos/{id}"));
    assert_eq!((&video["status"], &video["progress"]), (&json!("completed"), &json!(100)));
    let content = studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key));
    assert_eq!((content.head.status, content.text()), (200, "a video of a cat".to_owned()));
    // Another key's are not there.
    let (_, other) = studio.key_with(json!({}));
    for path in ["", "/charged", "/content"] {
        let ask = Ask::get(format!("/v1/videos/{id}{path}")).bearer(&other);
        assert_eq!(studio.ask(&ask).head.status, 404, "{path}");
    }
    studio.clock.advance_ms(25 * HOUR_MS.unsigned_abs());
    let gone = studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key));
    assert_eq!((gone.head.status, &gone.json()["error"]["code"]), (410, &json!("task_result_gone")));
}

/// What was read of the task before it ended is read again, and nobody is sent to support.
fn g3_a_task_that_ends_while_its_records_are_read_agrees_with_itself(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video", "a cat", 4);
    let tasks = &studio.app().tasks;
    let before = tasks.get(id.parse().unwrap()).unwrap();
    for _ in 0..2 {
        studio.poll_after(2_000);
    }
    let charged = tasks.charged(&before, "USD", Language::En).unwrap();
    assert_eq!((charged.verdict, charged.charged.0), (Verdict::Charged, nano(&json!("0.4"))), "{charged:#?}");
}

fn s6_a_failed_task_is_given_back_and_says_so(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video-fail", "a cat", 4);
    let early = studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key));
    assert_eq!((early.head.status, &early.json()["error"]["code"]), (409, &json!("task_not_finished")));
    assert_eq!(
        (early.head.header("retry-after"), &early.json()["error"]["retryable"]),
        (Some("2"), &json!(true))
    );
    let charged = studio.own(&format!("/v1/videos/{id}/charged"));
    assert_eq!((&charged["verdict"], &charged["held"]), (&json!("not_yet"), &json!("0.4")));
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["failed", "released", "0"]);
    assert_eq!(studio.balance(), ["1", "0"]);
    let video = studio.own(&format!("/v1/videos/{id}"));
    assert_eq!((&video["status"], &video["error"]["code"]), (&json!("failed"), &json!("moderation_blocked")));
    let none = studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key));
    assert_eq!((none.head.status, &none.json()["error"]["code"]), (409, &json!("task_without_result")));
    assert_eq!((none.head.header("retry-after"), &none.json()["error"]["retryable"]), (None, &json!(false)));
    // G3: four sources, and what each says.
    let charged = studio.own(&format!("/v1/videos/{id}/charged"));
    assert_eq!(
        (&charged["verdict"], &charged["charged"]),
        (&json!("not_charged"), &json!("0")),
        "{charged:#}"
    );
    let facts = charged["facts"].as_array().unwrap();
    let sources: Vec<_> = facts.iter().map(|fact| fact["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["task", "task_state", "request_log", "ledger_record"]);
    assert_eq!((&facts[0]["id"], &facts[2]["says"]), (&json!(id), &json!("released")));
    assert_eq!(facts[3]["says"], "hold of 0.4 released: upstream_failed");
    assert!(studio.bill().is_empty());
    // What the upstream does not take in the first place is refused, and given back.
    let refused = studio
        .ask(&Ask::post("/v1/videos", &json!({"model": "demo-video", "prompt": ""})).bearer(&studio.key));
    assert_eq!((refused.head.status, &refused.json()["error"]["code"]), (400, &json!("upstream_rejected")));
    let row = studio.get(&format!("/api/requests/{}/row", refused.head.request_id()));
    assert_eq!((&row["status"], &row["charge_state"]), (&json!(400), &json!("released")), "{row:#}");
}

fn s5_two_pollers_end_a_task_once(backend: Backend) {
    let studio = Studio::open(backend, "10");
    let ids: Vec<_> = (0..8).map(|n| studio.submit("demo-video-fail", &format!("cat {n}"), 4)).collect();
    let made: Vec<_> = (0..4).map(|n| studio.submit("demo-video", &format!("dog {n}"), 4)).collect();
    for _ in 0..3 {
        studio.clock.advance_ms(2_000);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| studio.app().tasks.poll_due().unwrap());
            }
            // And the callers ask at the same time.
            threads.spawn(|| ids.iter().for_each(|id| drop(studio.own(&format!("/v1/videos/{id}")))));
        });
    }
    for id in &ids {
        assert_eq!(studio.told(id), ["failed", "released", "0"]);
    }
    for id in &made {
        assert_eq!(studio.told(id), ["succeeded", "settled", "0.4"]);
    }
    assert_eq!((studio.balance(), studio.bill().len()), (["8.4", "0"].map(String::from), 4));
}

fn s8_a_task_without_its_channel_is_given_back_and_says_why(backend: Backend) {
    let mut studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video", "a cat", 4);
    // A channel that takes no more calls is still asked about those that it has.
    studio.patch(&format!("/api/channels/{}", studio.channel), &json!({"status": "disabled"})).ok();
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["running", "held", "0"]);
    studio.restart_without_channel();
    studio.poll_after(60_000);
    assert_eq!(studio.told(&id), ["failed", "released", "0"]);
    let failure = studio.task(&id)["failure"].clone();
    assert_eq!(failure["code"], "channel_gone", "{failure:#}");
    assert!(failure["message"].as_str().unwrap().contains(&studio.channel), "{failure:#}");
    assert_eq!(studio.balance(), ["1", "0"]);
}

fn s9_a_dearer_task_never_goes_below_zero(backend: Backend) {
    let studio = Studio::open(backend, "0.50");
    let short = studio.ask(&studio.video("demo-video", "a cat", 6));
    assert_eq!((short.head.status, &short.json()["error"]["code"]), (402, &json!("balance_insufficient")));
    // Asked for four seconds, and made eight: what was held is charged, the rest is the platform's loss.
    let reply = studio.ask(&studio.video("demo-video", "a cat #seconds=8", 4));
    let id = reply.ok()["id"].as_str().unwrap().to_owned();
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    assert_eq!(studio.balance(), ["0.1", "0"]);
    let receipt = studio.get(&format!("/api/requests/{}", reply.head.request_id()));
    assert_eq!(
        (&receipt["charged"], &receipt["settlement"]["loss"]),
        (&json!("0.4"), &json!("0.4")),
        "{receipt:#}"
    );
}

fn s10_a_task_is_charged_at_the_price_of_its_acceptance(backend: Backend) {
    let studio = Studio::open(backend, "10");
    let id = studio.submit("demo-video", "a cat", 4);
    studio.clock.advance_ms(1_000);
    let price = json!({"model": "demo-video", "units": [{"unit": "second", "price": "1.00"}]});
    studio.post("/api/prices", price).ok();
    let dearer = studio.submit("demo-video", "a dog", 4);
    assert_eq!(studio.balance(), ["5.6", "4.4"]);
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!((studio.told(&id)[2].as_str(), studio.told(&dearer)[2].as_str()), ("0.4", "4"));
}

fn s17_a_resubmission_gets_the_first_ones_task(backend: Backend) {
    let studio = Studio::open(backend, "10");
    // The first one's caller gives up while the upstream thinks; the others come at once.
    let slow = studio.video("demo-video", "a cat #delay_ms=300", 4);
    let mut leaving = studio.connect();
    leaving.send(&slow).unwrap();
    wait_until("the first one is taken", || studio.app().books.open_holds() == 1);
    drop(leaving);
    let replies: Vec<_> = std::thread::scope(|threads| {
        let asked: Vec<_> = (0..4).map(|_| threads.spawn(|| studio.ask(&slow))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let ids: Vec<_> = replies.iter().map(|reply| reply.ok()["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let marked =
        replies.iter().filter(|reply| reply.head.header("x-tallygate-duplicate") == ids[0].as_str()).count();
    assert_eq!((marked, studio.balance()[1].as_str()), (4, "0.4"));
    let id = ids[0].as_str().unwrap().to_owned();
    assert_eq!(studio.task(&id)["duplicates"], 4);
    let list = studio.own("/v1/videos?limit=10");
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list:#}");
    // On purpose, it is another one; by policy, it is refused.
    let again = studio.video("demo-video", "a cat #delay_ms=300", 4).header("x-tallygate-duplicate", "allow");
    assert_ne!(studio.ask(&again).ok()["id"], id);
    studio
        .patch(&format!("/api/accounts/{}", studio.account), &json!({"tasks": {"refuse_duplicates": true}}))
        .ok();
    let refused = studio.ask(&slow);
    assert_eq!(
        (refused.head.status, &refused.json()["error"]["code"]),
        (409, &json!("duplicate_submission"))
    );
    // After a minute it is a new wish.
    studio.clock.advance_ms(61_000);
    assert_ne!(studio.ask(&slow).ok()["id"], id);
    for _ in 0..3 {
        studio.poll_after(60_000);
    }
    assert_eq!(studio.balance(), ["8.8", "0"]);
}

fn g2_a_task_goes_on_after_a_restart(backend: Backend) {
    let mut studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video", "a cat", 4);
    studio.restart();
    assert_eq!((studio.told(&id)[1].as_str(), studio.balance()[1].as_str()), ("held", "0.4"));
    studio.poll_after(2_000);
    studio.restart();
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
}

fn g2_a_task_ends_at_its_deadline(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video-stuck", "a cat", 4);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["running", "held", "0"]);
    studio.poll_after(HOUR_MS);
    assert_eq!(studio.told(&id), ["expired", "released", "0"]);
    let video = studio.own(&format!("/v1/videos/{id}"));
    assert_eq!((&video["status"], &video["error"]["code"]), (&json!("failed"), &json!("expired")));
    let receipt = studio.get(&format!("/api/requests/{}", studio.task(&id)["request_id"].as_str().unwrap()));
    assert_eq!(receipt["settlement"]["reason"], "expired");
}

fn g2_a_cancelled_task_is_given_back(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video-stuck", "a cat", 4);
    let deleted = studio.ask(&Ask::new("DELETE", format!("/v1/videos/{id}")).bearer(&studio.key)).ok();
    assert_eq!((&deleted["object"], &deleted["deleted"]), (&json!("video.deleted"), &json!(true)));
    assert!(deleted["note"].is_null(), "{deleted:#}");
    assert_eq!(studio.told(&id), ["cancelled", "released", "0"]);
    assert_eq!(studio.ask(&Ask::get(format!("/v1/videos/{id}")).bearer(&studio.key)).head.status, 404);
    // G3: whether it was charged is told all the same, to its owner alone.
    let charged = format!("/v1/videos/{id}/charged");
    assert_eq!(studio.own(&charged)["verdict"], "not_charged");
    let (_, other) = studio.key_with(json!({}));
    assert_eq!(studio.ask(&Ask::get(charged).bearer(&other)).head.status, 404);
    // What is done when it is to be cancelled is paid.
    let done = studio.submit("demo-video", "a dog #polls=1", 4);
    studio.post(&format!("/api/tasks/{done}/cancel"), json!({})).ok();
    assert_eq!(studio.told(&done), ["succeeded", "settled", "0.4"]);
    assert_eq!(studio.balance(), ["0.6", "0"]);
    studio.ask(&Ask::new("DELETE", format!("/v1/videos/{done}")).bearer(&studio.key)).ok();
    let charged = studio.own(&format!("/v1/videos/{done}/charged"));
    assert_eq!((&charged["verdict"], &charged["charged"]), (&json!("charged"), &json!("0.4")), "{charged:#}");
}

fn g2_a_task_whose_answer_was_lost_is_found_again(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video", "a cat #lost", 4);
    assert!(studio.task(&id)["upstream_id"].is_null());
    assert_eq!(studio.poll_after(59_000), 0);
    assert_eq!(studio.poll_after(1_000), 1);
    assert!(studio.task(&id)["upstream_id"].is_string());
    for _ in 0..3 {
        studio.poll_after(60_000);
    }
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    assert_eq!(studio.bill().len(), 1);
}

fn g4_a_task_beyond_the_cap_must_be_confirmed(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let (id, key) = studio.key_with(json!({"tasks": {"cost_cap": "0.50"}}));
    studio.key = key;
    let body = json!({"model": "demo-video", "prompt": "a cat", "seconds": "8"});
    let estimate = studio.ask(&Ask::post("/v1/videos/estimate", &body).bearer(&studio.key)).ok();
    let told = |field: &str| estimate[field].clone();
    assert_eq!(
        [told("cost_max"), told("task_cost_cap"), told("per_unit")],
        ["0.8", "0.5", "0.1"].map(|text| json!(text))
    );
    assert_eq!([told("needs_confirmation"), told("would")], [json!(true), json!("pass")]);
    let refused = studio.ask(&studio.video("demo-video", "a cat", 8));
    let error = refused.json()["error"].clone();
    assert_eq!(
        (refused.head.status, &error["code"], &error["layer"]),
        (402, &json!("task_cost_over_cap"), &json!("task"))
    );
    assert_eq!(
        (&error["limit"]["limit"], &error["limit"]["needed"], &error["limit"]["id"]),
        (&json!("0.5"), &json!("0.8"), &json!(id))
    );
    let confirmed =
        |amount: &str| studio.video("demo-video", "a cat", 8).header("x-tallygate-confirm-cost", amount);
    assert_eq!(studio.ask(&confirmed("0.79")).head.status, 402);
    assert_eq!(studio.ask(&confirmed("much")).head.status, 400);
    let task = studio.ask(&confirmed("0.8")).ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(studio.balance(), ["9.2", "0.8"]);
    // Its own quota: so many tasks of a model a day, and so much for them.
    let quota =
        json!({"limits": [{"metric": "calls", "window": "day", "model": "demo-video", "value": "1"}]});
    studio.patch(&format!("/api/keys/{id}"), &quota).ok();
    studio.ask(&studio.video("demo-video", "a small cat", 4)).ok();
    let refused = studio.ask(&studio.video("demo-video", "a third cat", 4));
    assert_eq!(
        (refused.head.status, &refused.json()["error"]["code"]),
        (429, &json!("daily_calls_exhausted"))
    );
    let quota = json!({"limits": [{"window": "day", "model": "demo-video", "value": "0.3"}]});
    studio.patch(&format!("/api/keys/{id}"), &quota).ok();
    let refused = studio.ask(&studio.video("demo-video", "a third cat", 4));
    assert_eq!(
        (refused.head.status, &refused.json()["error"]["code"]),
        (402, &json!("model_budget_exhausted"))
    );
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&task), ["succeeded", "settled", "0.8"]);
    let list: Vec<Value> =
        studio.get(&format!("/api/tasks?key={id}&state=succeeded"))["data"].as_array().unwrap().clone();
    assert_eq!(list.len(), 2);
}

fn b3_a_charge_is_refunded_by_the_name_of_its_task(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video", "a cat", 4);
    let refund = |more: serde_json::Value| {
        let mut body = json!({"kind": "refund", "reason": "it shows a dog"});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        studio.post("/api/corrections", body)
    };
    // Nothing is charged yet.
    let early = refund(json!({"task": id}));
    assert_eq!((early.head.status, &early.json()["error"]["param"]), (400, &json!("request")));
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
    let part = refund(json!({"task": id, "amount": "0.1"})).ok();
    assert_eq!((&part["state"], &part["amount"]), (&json!("posted"), &json!("0.1")));
    let receipt = studio.get(&format!("/api/requests/{}", part["request"].as_str().unwrap()));
    assert_eq!((&receipt["charged"], &receipt["refunded"]), (&json!("0.4"), &json!("0.1")), "{receipt:#}");
    let rest = refund(json!({"task": id})).ok();
    assert_eq!((&rest["amount"], studio.balance()), (&json!("0.3"), ["1", "0"].map(String::from)));
    let charged = studio.own(&format!("/v1/videos/{id}/charged"));
    assert_eq!(charged["verdict"], "refunded", "{charged:#}");
    assert_eq!(studio.get(&format!("/api/corrections?task={id}"))["data"].as_array().unwrap().len(), 2);
    // It is one or the other, and there is nothing left.
    let both = refund(json!({"task": id, "request": part["request"]}));
    assert_eq!((both.head.status, &both.json()["error"]["param"]), (400, &json!("task")));
    assert_eq!(refund(json!({"task": id})).head.status, 400);
}
