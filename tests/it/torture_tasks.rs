//! G2, I3: SIGKILL at random moments under a load of task submissions. After the last restart every task has one end and
//! its money one outcome, joined with the upstream's bill by the upstream's name of the task; every wish is one task,
//! however often it was sent; no hold is left without a task.
//!
//! `TORTURE_ROUNDS` says how many rounds (`make torture-tasks`: 100), `TORTURE_SEED` repeats a run.

use std::time::Duration;

use serde_json::json;

use crate::support::demo::{Demo, wait_until};
use crate::support::http::Ask;
use crate::support::load::Dice;
use crate::support::submissions::{QUICK, Submissions, audit, jobs, tasks};
use crate::torture::{any_seed, setting};

const ROUNDS: u64 = 5;
/// Of so many rounds, one is killed once more while it recovers.
const CYCLE: u64 = 5;

#[test]
fn g2_every_task_has_one_end_and_its_money_one_outcome() {
    let rounds = setting("TORTURE_ROUNDS").unwrap_or(ROUNDS);
    let seed = setting("TORTURE_SEED").unwrap_or_else(any_seed);
    eprintln!("repeat with: TORTURE_SEED={seed} TORTURE_ROUNDS={rounds}");
    let (mut dice, submissions) = (Dice::new(seed), Submissions::default());
    let mut demo = Demo::start_with(&QUICK);
    let account = demo.account("Tasks", "5000");
    let credit = json!({"amount": "5000", "kind": "purchased", "reference": "test", "reason": "test", "environment": "test"});
    demo.admin_post(&format!("/api/accounts/{account}/credits"), &credit);
    let keys = ["live", "test"].map(|environment| {
        let body = json!({"account": account, "name": environment, "environment": environment});
        demo.admin_post("/api/keys", &body)["key"].as_str().unwrap().to_owned()
    });
    for round in 0..rounds {
        let moment = Duration::from_millis(50 + dice.below(900));
        submissions.load(&mut demo, &keys, &mut dice, |demo| {
            std::thread::park_timeout(moment);
            demo.kill();
        });
        if round % CYCLE == 2 {
            demo.start_and_kill(Duration::from_millis(dice.below(300)));
        }
        demo.restart();
        // I3 while tasks come and go: no hold is without its task.
        let report = demo.verify();
        submissions.send_again(&demo, &keys);
        eprintln!("round {round}: {} open holds", report["open_holds"]);
    }
    wait_until("every task has its end, and its money", || {
        let all = tasks(&demo);
        all.iter().all(|task| task["money"] != "held")
    });
    let counts = audit(&demo, &submissions, &account);
    eprintln!("{counts:#?}");
    assert_eq!(counts.refused.get("balance_exhausted"), None, "there is money enough: {counts:#?}");
    assert_eq!(counts.never_admitted, 0, "the hold is on disk before the upstream is asked: {counts:#?}");
    assert_eq!(demo.verify()["open_holds"], 0);
    // A moment may come before the first submission of a round; but there was load.
    assert!(counts.wishes >= 5 * usize::try_from(rounds).unwrap(), "{counts:#?}");
    for state in ["succeeded", "failed (moderation_blocked)", "cancelled (cancelled)"] {
        assert!(counts.tasks.contains_key(state), "{counts:#?}");
    }
}

/// F3, S17: the upstream has it, its caller was not answered, and the gateway died: sent again, it is answered with the
/// task that it made.
#[test]
fn f3_a_submission_whose_answer_a_crash_took_is_answered_with_its_task() {
    let mut demo = Demo::start_with(&QUICK);
    let key = demo.key("healthy");
    let body = json!({"model": "demo-video", "prompt": "a cat #delay_ms=20000", "seconds": "4"});
    let submission = || Ask::post("/v1/videos", &body).bearer(&key);
    let named = || submission().header("idempotency-key", "a cat");
    let mut first = demo.connect();
    first.send(&named()).unwrap();
    wait_until("the upstream has it", || jobs(&demo).len() == 1);
    let task = tasks(&demo)[0].clone();
    demo.kill();
    demo.restart();
    for again in [named(), submission()] {
        let reply = demo.ask(&again);
        assert_eq!(reply.ok()["id"], task["id"]);
        let first = ["x-tallygate-replay-of", "x-tallygate-duplicate"].map(|name| reply.head.header(name));
        assert!(
            first.contains(&task["request_id"].as_str()) || first.contains(&task["id"].as_str()),
            "{first:?}"
        );
    }
    wait_until("the upstream's name of it is found, and it is made", || {
        tasks(&demo)[0]["money"] == "settled"
    });
    let billed = demo.billed(task["request_id"].as_str().unwrap());
    assert_eq!(billed["upstream_request_id"], tasks(&demo)[0]["upstream_id"]);
    assert_eq!(tasks(&demo).len(), 1);
}
