//! I3 of tasks: `verify` finds a hold whose task is gone or says that it has ended, and the next start gives back what
//! belongs to no task.

use std::sync::Arc;

use serde_json::{Value, json};
use tallygate::books::verify::verify;
use tallygate::clock::Clock;
use tallygate::tasks::Owners;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::studio::Studio;

on_both_backends!(i3_a_hold_lives_as_long_as_its_task, i3_a_hold_whose_task_says_that_it_has_ended_is_found);

fn findings(studio: &Studio) -> Vec<(String, String)> {
    studio.post("/api/verify", json!({"full": true})).ok();
    let report = loop {
        let standing = studio.get("/api/verify");
        if standing["state"] != "running" {
            assert_eq!(standing["state"], "done", "{standing:#}");
            break standing["report"].clone();
        }
        std::thread::yield_now();
    };
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let found = report["findings"].as_array().unwrap();
    found.iter().map(|finding| (text(finding, "invariant"), text(finding, "what"))).collect()
}

/// Works on the rows of tasks beneath the program.
fn rewrite(studio: &mut Studio, sql: &str) {
    studio.restart_after(|backend| {
        let stores = backend.open();
        assert_eq!(stores.tasks.execute(sql, &[]).unwrap(), 1, "{sql}");
    });
}

fn i3_a_hold_lives_as_long_as_its_task(backend: Backend) {
    let mut studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video", "a cat", 4);
    assert_eq!(findings(&studio), []);
    let request = studio.task(&id)["request_id"].as_str().unwrap().to_owned();
    let clock = Arc::clone(&studio.clock);
    studio.restart_after(|backend| {
        let stores = backend.open();
        assert_eq!(stores.tasks.execute("DELETE FROM tasks", &[]).unwrap(), 1);
        let tasks = Owners::new(stores.tasks, Arc::clone(&clock) as Arc<dyn Clock>);
        let verify =
            || verify(&stores.journal.reader(), &stores.projections, Some(&tasks), 0, &mut |_| {}).unwrap();
        // It is just made: its row may yet come.
        assert_eq!(verify().findings, []);
        clock.advance_ms(60_000);
        let found = verify().findings;
        assert_eq!((found.len(), found[0].invariant), (1, "I3"), "{found:#?}");
        assert_eq!(found[0].what, format!("{request} is held for {id}, which has no row"));
    });
    // The start has given it back.
    assert_eq!((findings(&studio), studio.balance()), (Vec::new(), ["1", "0"].map(String::from)));
}

fn i3_a_hold_whose_task_says_that_it_has_ended_is_found(backend: Backend) {
    let mut studio = Studio::open(backend, "1");
    let id = studio.submit("demo-video", "a cat", 4);
    rewrite(&mut studio, "UPDATE tasks SET money = 'released'");
    let found = findings(&studio);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].1.ends_with(&format!("is held for {id}, whose row says that it was released")),
        "{found:#?}"
    );
    rewrite(&mut studio, "UPDATE tasks SET money = 'held'");
    assert_eq!(findings(&studio), []);
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&id), ["succeeded", "settled", "0.4"]);
}
