//! Rows of tasks beside the ledger (B7): what agrees is no case, and each way in which they can disagree is one, with both
//! sides, a cause and an entry that puts it right. Real tasks, whose rows are then rewritten beneath the program.

use serde_json::{Value, json};
use tallygate::id::{RequestId, TaskId};
use tallygate::store_params;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::studio::Studio;

on_both_backends!(
    b7_tasks_that_agree_with_the_ledger_are_no_cases,
    b7_a_success_that_was_never_charged_is_charged_by_its_case,
    b7_a_charge_for_a_task_that_failed_is_refunded_by_its_case,
    b7_a_row_that_the_ledger_knows_nothing_of_is_a_case,
    b7_a_charge_whose_task_is_gone_is_refunded_by_its_case,
    b7_another_charge_than_the_row_says_is_a_case,
);

/// Compares everything: the source of the books, and what is open of it.
fn compare(studio: &Studio) -> (Value, Vec<Value>) {
    studio.post("/api/reconcile", json!({"full": true})).ok();
    let report = loop {
        let standing = studio.get("/api/reconcile");
        if standing["state"] != "running" {
            assert_eq!(standing["state"], "done", "{standing:#}");
            break standing["report"].clone();
        }
        std::thread::yield_now();
    };
    let cases = studio.get("/api/reconcile/cases?state=open&source=books")["data"].clone();
    let shown = cases
        .as_array()
        .unwrap()
        .iter()
        .map(|case| studio.get(&format!("/api/reconcile/cases/{}", case["id"].as_str().unwrap())));
    (report["sources"][0].clone(), shown.collect())
}

/// The one case that there is.
#[track_caller]
fn only_case(studio: &Studio, kind: &str) -> Value {
    let (_, cases) = compare(studio);
    let [case] = cases.as_slice() else { panic!("{cases:#?}") };
    assert_eq!(case["kind"], kind, "{case:#}");
    assert!(case["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{case:#}");
    case.clone()
}

/// Changes the row of one task beneath the program.
fn rewrite(studio: &mut Studio, id: &str, set: &str) {
    let id = id.parse::<TaskId>().unwrap().raw();
    studio.restart_after(|backend| {
        let sql = if set.is_empty() {
            "DELETE FROM tasks WHERE id = ?1"
        } else {
            &format!("UPDATE tasks SET {set} WHERE id = ?1")
        };
        assert_eq!(backend.open().tasks.execute(sql, store_params![id]).unwrap(), 1, "{sql}");
    });
}

fn correct(studio: &Studio, case: &Value) -> Value {
    let path = format!("/api/reconcile/cases/{}/correct", case["id"].as_str().unwrap());
    studio.post(&path, json!({"reason": "looked at it"})).ok()
}

fn entry_is(case: &Value, kind: &str, amount: &str) {
    let [entry] = case["entries"].as_array().unwrap().as_slice() else { panic!("{case:#}") };
    assert_eq!((&entry["kind"], &entry["amount"]), (&json!(kind), &json!(amount)), "{case:#}");
}

/// A film that was made and charged, and one that failed and was given back.
fn two(studio: &Studio) -> [String; 2] {
    let ids = [studio.submit("demo-video", "a cat", 4), studio.submit("demo-video-fail", "a cat", 4)];
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    assert_eq!(studio.told(&ids[0]), ["succeeded", "settled", "0.4"]);
    assert_eq!(studio.told(&ids[1]), ["failed", "released", "0"]);
    ids
}

fn b7_tasks_that_agree_with_the_ledger_are_no_cases(backend: Backend) {
    let studio = Studio::open(backend, "10");
    two(&studio);
    let drawn = studio.ask(&studio.image("demo-image", "a cat", 1)).ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(studio.drawn(&drawn)["status"], "completed");
    let refused = studio.ask(&studio.video("demo-video", "", 4));
    assert_eq!(refused.head.status, 400);
    let running = studio.submit("demo-video-stuck", "a cat", 4);
    // One that runs, one that its upstream refused, and those that ended; and they are looked at.
    let (books, cases) = compare(&studio);
    assert_eq!((cases.len(), &books["differences"]), (0, &json!({})), "{cases:#?}");
    assert_eq!(books["matched"], 5, "{books:#}");
    // What was refunded is charged all the same: the refund is an entry of its own.
    let id = drawn.as_str();
    let refund = json!({"kind": "refund", "task": id, "reason": "it shows a dog"});
    studio.post("/api/corrections", refund).ok();
    // An end that the ledger follows, and one by a deadline.
    studio.poll_after(3_600_000);
    assert_eq!(studio.told(&running)[0], "expired");
    let (books, cases) = compare(&studio);
    assert_eq!((cases.len(), &books["differences"]), (0, &json!({})), "{cases:#?}");
}

fn b7_a_success_that_was_never_charged_is_charged_by_its_case(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let [_, failed] = two(&studio);
    rewrite(&mut studio, &failed, "state = 'succeeded', money = 'settled', charged_nano = 400000000");
    let case = only_case(&studio, "task_not_charged");
    assert_eq!((&case["ours"]["name"], &case["ours"]["amount"]), (&json!(failed), &json!("0.4")), "{case:#}");
    assert_eq!(
        (&case["ours"]["basis"], &case["theirs"]["basis"]),
        (&json!("succeeded, settled"), &json!("released"))
    );
    entry_is(&case, "adjustment", "-0.4");
    assert_eq!(correct(&studio, &case)["state"], "closed");
    assert_eq!(studio.balance()[0], "9.2");
    // It was put right, and stays so.
    assert!(compare(&studio).1.is_empty());
}

fn b7_a_charge_for_a_task_that_failed_is_refunded_by_its_case(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let [made, _] = two(&studio);
    rewrite(&mut studio, &made, "state = 'failed', money = 'released', charged_nano = 0");
    let case = only_case(&studio, "failed_task_charged");
    assert_eq!(
        (&case["ours"]["amount"], &case["theirs"]["amount"]),
        (&json!("0"), &json!("0.4")),
        "{case:#}"
    );
    assert_eq!(
        (&case["ours"]["account"], &case["theirs"]["account"]),
        (&json!(studio.account), &json!(studio.account))
    );
    entry_is(&case, "refund", "0.4");
    assert_eq!(correct(&studio, &case)["state"], "closed");
    assert_eq!(studio.balance()[0], "10");
    assert!(compare(&studio).1.is_empty());
}

fn b7_a_row_that_the_ledger_knows_nothing_of_is_a_case(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let [_, failed] = two(&studio);
    // The ledger gave back what the row waits for.
    rewrite(&mut studio, &failed, "state = 'running', money = 'held'");
    let case = only_case(&studio, "task_without_hold");
    assert_eq!(
        (&case["ours"]["basis"], &case["theirs"]["basis"]),
        (&json!("running, held"), &json!("released"))
    );
    assert_eq!(
        (&case["proposal"]["action"], &case["entries"]),
        (&json!("bear_cost"), &json!([])),
        "{case:#}"
    );
    // Back as it was, both sides agree.
    rewrite(&mut studio, &failed, "state = 'failed', money = 'released'");
    let (books, cases) = compare(&studio);
    assert_eq!((cases.len(), &books["gone"]), (0, &json!(1)), "{cases:#?}");
    // The row names a call that the ledger has never seen.
    let other = RequestId::from_raw(u128::from(u64::MAX) << 32).raw().to_be_bytes();
    let raw = failed.parse::<TaskId>().unwrap().raw();
    studio.restart_after(|backend| {
        let sql = "UPDATE tasks SET request = ?2, state = 'succeeded', money = 'settled', charged_nano = 400000000 WHERE id = ?1";
        assert_eq!(backend.open().tasks.execute(sql, store_params![raw, other]).unwrap(), 1);
    });
    let case = only_case(&studio, "task_without_hold");
    assert_eq!((&case["ours"]["name"], &case["theirs"]), (&json!(failed), &Value::Null), "{case:#}");
    entry_is(&case, "adjustment", "-0.4");
}

fn b7_a_charge_whose_task_is_gone_is_refunded_by_its_case(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let [made, failed] = two(&studio);
    // Of one that was given back nothing is missing.
    rewrite(&mut studio, &failed, "");
    rewrite(&mut studio, &made, "");
    // Its row may yet come.
    let (_, cases) = compare(&studio);
    assert_eq!(cases, Vec::<Value>::new());
    studio.clock.advance_ms(60_000);
    let case = only_case(&studio, "hold_without_task");
    assert_eq!((&case["ours"], &case["theirs"]["amount"]), (&Value::Null, &json!("0.4")), "{case:#}");
    assert_eq!(case["theirs"]["name"], json!(format!("ledger hold of {made}")));
    entry_is(&case, "refund", "0.4");
    assert_eq!(correct(&studio, &case)["state"], "closed");
    assert_eq!(studio.balance()[0], "10");
}

fn b7_another_charge_than_the_row_says_is_a_case(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    let [made, _] = two(&studio);
    rewrite(&mut studio, &made, "charged_nano = 300000000");
    let case = only_case(&studio, "amount_differs");
    entry_is(&case, "refund", "0.1");
    rewrite(&mut studio, &made, "charged_nano = 600000000");
    let case = only_case(&studio, "amount_differs");
    entry_is(&case, "adjustment", "-0.2");
}
