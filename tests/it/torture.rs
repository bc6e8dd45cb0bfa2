//! S16: SIGKILL and SIGTERM at random moments under load. After each restart the upstream's bill, the log and
//! the ledger agree for every answer that a client received whole.
//!
//! `TORTURE_ROUNDS` says how many rounds (`make torture`: 200), `TORTURE_SEED` repeats a run.

use std::time::Duration;

use crate::support::demo::{Demo, wait_until};
use crate::support::load::{Audit, Dice, load};

const ROUNDS: u64 = 8;
/// Of so many rounds, the last ends by SIGTERM, and one is killed once more while it recovers.
const CYCLE: u64 = 8;

pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

pub fn any_seed() -> u64 {
    let mut seed = [0; 4];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed).unwrap();
    u64::from(u32::from_le_bytes(seed))
}

#[test]
fn s16_nothing_that_a_client_got_whole_is_lost_by_sigkill_or_sigterm() {
    let rounds = setting("TORTURE_ROUNDS").unwrap_or(ROUNDS);
    let seed = setting("TORTURE_SEED").unwrap_or_else(any_seed);
    eprintln!("repeat with: TORTURE_SEED={seed} TORTURE_ROUNDS={rounds}");
    let (mut dice, mut audit) = (Dice::new(seed), Audit::default());
    let mut demo = Demo::start();
    let mut before = audit.round(&demo, &[]);
    for round in 0..rounds {
        let clean = round % CYCLE == CYCLE - 1;
        let moment = Duration::from_millis(20 + dice.below(400));
        // Ids are ordered by time: whatever comes from here on has a later one.
        let begin = demo.chat(&demo.key("healthy"), "gpt-5-mini", "a new round").head.request_id().to_owned();
        let seen = load(&mut demo, &mut dice, |demo, _| {
            std::thread::park_timeout(moment);
            if clean { demo.stop() } else { demo.kill() }
        });
        if round % CYCLE == 3 {
            demo.start_and_kill(Duration::from_millis(dice.below(300)));
        }
        demo.restart();
        let counts = audit.round(&demo, &seen);
        if clean {
            assert_eq!(audit.lost_after(&begin), [""; 0], "round {round}: {before:?} {counts:?}");
            assert!(seen.iter().all(|call| call.whole), "round {round}: a stop broke an answer off");
        }
        assert_eq!(demo.verify()["open_holds"], 0, "round {round}");
        before = counts;
        eprintln!("round {round}: {counts:?}");
    }
    // A moment may come before the first answer of a round; but there was load.
    let enough = 10 * usize::try_from(rounds).unwrap();
    assert!(before.whole >= enough, "{before:?}");
}

/// A stop in good order lets streams come to their end, and then ends.
#[test]
fn s16_a_stop_waits_for_running_streams() {
    use crate::support::http::{Ask, Connection};
    let mut demo = Demo::start();
    let mut audit = Audit::default();
    let before = audit.round(&demo, &[]);
    let key = demo.key("healthy");
    let ask = Ask::chat_with(&key, "demo-slow", "Hello", serde_json::json!({"stream": true}));
    let mut streams: Vec<Connection> = (0..8).map(|_| demo.connect()).collect();
    for stream in &mut streams {
        stream.send(&ask).unwrap();
        stream.head().unwrap();
        stream.event().unwrap().unwrap();
    }
    demo.stop();
    for mut stream in streams {
        let mut last = String::new();
        while let Some(event) = stream.event().unwrap() {
            last = event;
        }
        assert_eq!(last, "[DONE]");
    }
    demo.restart();
    let after = audit.round(&demo, &[]);
    assert_eq!(after.settled, before.settled + 8);
    assert_eq!(audit.lost_after(""), [""; 0], "{after:?}");
    wait_until("a stopped demo is started again", || demo.upstream_pid().is_some());
}
