//! Money under pressure, over real sockets: many calls at once, failures, crashes. Nothing goes below zero,
//! nothing stays held, log and ledger say the same.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::demo::{Demo, nano, wait_until};
use crate::support::http::{Ask, Connection, Reply};

const MODEL: &str = "gpt-5-mini";

/// Sends all at once, each on a connection of its own.
fn all_at_once(demo: &Demo, asks: &[Ask]) -> Vec<Reply> {
    let address = demo.address();
    std::thread::scope(|threads| {
        let sent: Vec<_> = asks
            .iter()
            .map(|ask| threads.spawn(move || Connection::open(address).unwrap().ask(ask).unwrap()))
            .collect();
        sent.into_iter().map(|reply| reply.join().unwrap()).collect()
    })
}

fn code(reply: &Reply) -> String {
    reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// Looks at a balance or a limit again and again while something runs.
fn while_running<T>(look: impl Fn() + Sync, run: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let looking = threads.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                look();
            }
        });
        let done = run();
        over.store(true, Ordering::SeqCst);
        looking.join().unwrap();
        done
    })
}

/// The sum of what the log says was charged to an account.
fn logged(demo: &Demo, account: &str) -> i64 {
    let rows = demo.admin(&format!("/api/requests?account={account}&limit=1000"));
    rows["data"].as_array().unwrap().iter().map(|row| nano(&row["charge"])).sum()
}

/// Credits − charges = available, nothing held, and the log says the same as the ledger (I2, I6).
#[track_caller]
fn assert_closed(demo: &Demo, account: &str) -> i64 {
    demo.nothing_stays_held();
    let balance = demo.balance(account);
    let movements = &balance["movements"];
    let (credits, charges) = (nano(&movements["credits"]), nano(&movements["charges"]));
    assert_eq!((nano(&balance["available"]), nano(&balance["held"])), (credits - charges, 0), "{balance:#}");
    assert_eq!(charges, logged(demo, account), "{balance:#}");
    charges
}

/// S18: a small balance, 200 calls in parallel: never below zero, and whoever is refused is told why.
#[test]
fn s18_two_hundred_parallel_calls_never_overdraw() {
    let demo = Demo::start();
    let account = demo.account("small", "0.01");
    let key = demo.key_of(&account, json!([]));
    let asks: Vec<_> = (0..200)
        .map(|n| {
            Ask::chat_with(
                &key,
                MODEL,
                &format!("call {n} #tokens=300"),
                json!({"max_tokens": 400, "stream": n % 3 == 0}),
            )
        })
        .collect();
    let look = || {
        let balance = demo.balance(&account);
        let (available, held) = (nano(&balance["available"]), nano(&balance["held"]));
        assert!(available >= 0 && held >= 0 && available + held <= 10_000_000, "{balance:#}");
    };
    let replies = while_running(look, || all_at_once(&demo, &asks));
    let (good, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.head.status == 200);
    assert!(good.iter().all(|reply| reply.is_whole_answer()));
    assert!(refused.iter().all(|reply| code(reply).starts_with("balance_")), "{:?}", refused.first());
    assert!(!good.is_empty() && !refused.is_empty(), "{} admitted, {} refused", good.len(), refused.len());
    let charged = assert_closed(&demo, &account);
    assert!(charged <= 10_000_000, "{charged}");
    let billed: i64 = good.iter().map(|reply| nano(&demo.billed(reply.head.request_id())["cost"])).sum();
    assert_eq!(charged, billed);
}

/// S20: a key with a small budget, 5 large prompts at once: holds are priced by the function that settles, so
/// that no more are admitted than the budget pays.
#[test]
fn s20_holds_on_a_key_budget_are_priced_like_charges() {
    let demo = Demo::start();
    let account = demo.account("rich", "100");
    let large = "a few words that are many ".repeat(400);
    let text = format!("{large} #tokens=200 #delay_ms=700");
    let ask = |key: &str| Ask::chat_with(key, MODEL, &text, json!({"max_tokens": 256}));
    // What one call holds is learnt from one.
    let probe = demo.ask(&ask(&demo.key_of(&account, json!([]))));
    probe.ok();
    let hold = nano(&demo.receipt(probe.head.request_id())["hold"]["amount"]);
    let budget = hold * 5 / 2;
    let value = ledger::Nano(budget).to_string();
    let key = demo.key_of(&account, json!([{"window": "month", "value": value}]));
    let look = || {
        let limit = &demo.own(&key, "/v1/key")["limits"][0];
        assert!(nano(&limit["used"]) + nano(&limit["held"]) <= budget, "{limit:#}");
    };
    let asks: Vec<_> = (0..5).map(|_| ask(&key)).collect();
    let replies = while_running(look, || all_at_once(&demo, &asks));
    let (good, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.head.status == 200);
    assert_eq!((good.len(), refused.len()), (2, 3));
    for reply in refused {
        let limit = &reply.json()["error"]["limit"];
        assert_eq!(code(reply), "key_budget_exhausted");
        assert_eq!(
            (nano(&limit["needed"]), nano(&limit["held"]), nano(&limit["limit"])),
            (hold, 2 * hold, budget)
        );
    }
    demo.nothing_stays_held();
    let limit = &demo.own(&key, "/v1/key")["limits"][0];
    let charged: i64 = good.iter().map(|reply| nano(&demo.row(reply.head.request_id())["charge"])).sum();
    assert_eq!((nano(&limit["used"]), nano(&limit["held"])), (charged, 0));
    assert!(charged <= budget && charged > 0);
}

/// S3, as far as an honest upstream lets it be reached: a charge larger than what was granted takes the grant
/// first and the rest from what was purchased, in one transaction.
#[test]
fn s3_a_charge_over_two_lots_is_one_transaction() {
    let demo = Demo::start();
    let account = demo.account("two lots", "1");
    demo.credit(&account, "granted", "0.0001");
    let key = demo.key_of(&account, json!([]));
    let reply = demo.chat(&key, MODEL, "Hello #tokens=300");
    reply.ok();
    let receipt = demo.receipt(reply.head.request_id());
    let lots: Vec<_> = receipt["settlement"]["lots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lot| (lot["kind"].as_str().unwrap(), nano(&lot["amount"])))
        .collect();
    let charged = nano(&receipt["charged"]);
    assert_eq!(lots, [("granted", 100_000), ("purchased", charged - 100_000)], "{receipt:#}");
    let balance = demo.balance(&account);
    assert_eq!(
        (nano(&balance["granted"]), nano(&balance["purchased"])),
        (0, 1_000_000_000 + 100_000 - charged)
    );
    assert_eq!(assert_closed(&demo, &account), charged);
}

/// S1: a $4 wallet, 8 calls, 6 of them end badly – upstream errors, a broken stream, a crash of the gateway in
/// the middle of two: every hold is settled or released, and the log says the same as the ledger.
#[test]
fn s1_every_hold_ends_whatever_ends_the_call() {
    let mut demo = Demo::start();
    let account = demo.account("wallet", "4");
    let key = demo.key_of(&account, json!([]));
    let capped = |model: &str, text: &str, stream: bool| {
        Ask::chat_with(&key, model, text, json!({"max_tokens": 1000, "stream": stream}))
    };
    let asks = [
        capped(MODEL, "one", false),
        capped("demo-500", "two", false),
        capped("demo-429", "three", true),
        capped("demo-no-credit", "four", false),
        capped("demo-cut", "five, and some more words to be cut", true),
        capped("deepseek-chat", "six", true),
    ];
    let ended: Vec<_> = asks.iter().map(|ask| demo.ask(ask)).collect();
    // Two are on their way when the process dies: one has begun to answer, one has not.
    let mut streaming = demo.connect();
    streaming.send(&capped("demo-slow", "seven", true)).unwrap();
    let begun = streaming.head().unwrap().request_id().to_owned();
    streaming.event().unwrap().unwrap();
    let mut waiting = demo.connect();
    waiting.send(&capped("demo-timeout", "eight", false)).unwrap();
    let two_held = |demo: &Demo| {
        let rows = demo.admin(&format!("/api/requests?account={account}&limit=1000"));
        let held =
            rows["data"].as_array().unwrap().iter().filter(|row| row["charge_state"] == "held").count();
        held == 2
    };
    wait_until("both are held", || two_held(&demo));
    demo.kill();
    demo.restart();

    let states: Vec<_> =
        ended.iter().map(|reply| demo.row(reply.head.request_id())["charge_state"].clone()).collect();
    assert_eq!(states, ["settled", "released", "released", "released", "settled", "settled"]);
    let rows = demo.admin(&format!("/api/requests?account={account}&limit=1000"));
    let rows = rows["data"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    let died: Vec<_> = rows.iter().filter(|row| row["ending"] == "process_died").collect();
    assert_eq!(died.len(), 2, "{rows:#?}");
    assert!(died.iter().all(|row| row["charge_state"] == "released" && row["charge"] == "0"));
    let receipt = demo.receipt(&begun);
    assert!(receipt["policy"].as_str().unwrap().contains("nothing is charged"), "{receipt:#}");
    assert!(assert_closed(&demo, &account) > 0);
}

/// S23: after a mixed load every hold and every counter is back to exactly what was charged.
#[test]
fn s23_counters_and_holds_return_to_exactly_what_was_charged() {
    let demo = Demo::start();
    let account = demo.account("busy", "50");
    let limits = json!([
        {"window": "day", "value": "40"}, {"window": "month", "value": "45"}, {"window": "total", "value": "49"},
    ]);
    let key = demo.key_of(&account, limits);
    let models = [MODEL, "deepseek-chat", "demo-no-usage", "demo-500", "demo-cut", "demo-429"];
    let address = demo.address();
    std::thread::scope(|threads| {
        for thread in 0..16 {
            let key = &key;
            threads.spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                for call in 0..12 {
                    let n = thread * 12 + call;
                    let more = json!({"stream": n % 2 == 0, "max_tokens": 50 + n});
                    let ask = Ask::chat_with(key, models[n % models.len()], &format!("call {n}"), more);
                    if n % 11 == 0 {
                        // Leaves before the answer.
                        connection.send(&ask).unwrap();
                        connection = Connection::open(address).unwrap();
                    } else {
                        connection.ask(&ask).unwrap();
                    }
                }
            });
        }
    });
    let charged = assert_closed(&demo, &account);
    let own = demo.own(&key, "/v1/key");
    for limit in own["limits"].as_array().unwrap() {
        assert_eq!((nano(&limit["used"]), &limit["held"]), (charged, &json!("0")), "{limit:#}");
    }
    assert_eq!(own["limits"].as_array().unwrap().len(), 3);
}

/// S26: a crash right after an answer, and the restart after it, lose nothing: the call, its charge, the
/// counters and the limits are as they were, and the keys are the same.
#[test]
fn s26_a_restart_loses_nothing() {
    let mut demo = Demo::start();
    let key = demo.key("healthy");
    let keys = demo.ready()["keys"].clone();
    let account = demo.own(&key, "/v1/key")["account"].as_str().unwrap().to_owned();
    // A refusal holds no money, so nobody waits for its row; what is answered after it brings it to the disk.
    let refused = demo.chat(&demo.key("empty_balance"), MODEL, "Hello");
    let whole = demo.chat(&key, MODEL, "Hello");
    let streamed = demo.ask(&Ask::chat_with(&key, MODEL, "Hello", json!({"stream": true})));
    let state = |demo: &Demo| -> Vec<Value> {
        let ids = [&whole, &streamed, &refused].map(|reply| reply.head.request_id());
        let calls = ids.iter().flat_map(|id| [demo.row(id), demo.receipt(id)]);
        calls.chain([demo.balance(&account), demo.own(&key, "/v1/key")]).collect()
    };
    // Killed before anybody has asked for the state, which might have helped it to the disk.
    demo.kill();
    demo.restart();
    let first = state(&demo);
    assert_eq!(
        (&first[0]["charge_state"], &first[2]["charge_state"]),
        (&json!("settled"), &json!("settled"))
    );
    assert_eq!(first[0]["charge"], whole.head.header("x-tallygate-cost").unwrap());
    assert_eq!(first[4]["code"], "balance_exhausted");
    demo.kill();
    demo.restart();
    assert_eq!(state(&demo), first);
    demo.stop();
    demo.restart();
    assert_eq!((state(&demo), &demo.ready()["keys"]), (first, &keys));
    assert_closed(&demo, &account);
}
