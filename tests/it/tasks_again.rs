//! Submissions that are sent again, and tasks that are alike: what no upstream took is asked for anew, and of lost ones each
//! gets a job of its own (F4, S17).

use serde_json::json;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::http::Ask;
use crate::support::studio::Studio;

on_both_backends!(
    f4_what_no_upstream_took_is_asked_for_anew,
    f4_a_task_that_was_deleted_answers_for_no_other,
    g2_of_lost_tasks_that_are_alike_each_is_found,
);

fn f4_what_no_upstream_took_is_asked_for_anew(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let refused = studio.video("demo-video", "", 4);
    for _ in 0..2 {
        let reply = studio.ask(&refused);
        assert_eq!((reply.head.status, &reply.json()["error"]["code"]), (400, &json!("upstream_rejected")));
    }
    assert_eq!(studio.balance(), ["1", "0"]);
}

fn f4_a_task_that_was_deleted_answers_for_no_other(backend: Backend) {
    let studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video-stuck", "a cat", 4);
    studio.ask(&Ask::new("DELETE", format!("/v1/videos/{id}")).bearer(&studio.key)).ok();
    let again = studio.submit("demo-video-stuck", "a cat", 4);
    assert_ne!(again, id);
    studio.post(&format!("/api/tasks/{again}/cancel"), json!({})).ok();
}

fn g2_of_lost_tasks_that_are_alike_each_is_found(backend: Backend) {
    let studio = Studio::open(backend, "10");
    let ask = studio.video("demo-video", "a cat #lost", 4).header("x-tallygate-duplicate", "allow");
    let ids: Vec<_> = (0..2).map(|_| studio.ask(&ask).ok()["id"].as_str().unwrap().to_owned()).collect();
    for _ in 0..4 {
        studio.poll_after(60_000);
    }
    let mut names: Vec<_> = ids.iter().map(|id| studio.task(id)["upstream_id"].to_string()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 2, "two tasks have one job: {names:?}");
    for id in &ids {
        assert_eq!(studio.told(id), ["succeeded", "settled", "0.4"]);
    }
    assert_eq!(studio.bill().len(), 2);
}
