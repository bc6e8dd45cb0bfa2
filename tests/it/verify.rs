//! `verify` finds each broken invariant by its number, and nothing else; it goes on from its seal (B5).

use std::path::Path;
use std::sync::Arc;

use ledger::{
    AccountId, ChargeRecord, Command, Debit, Effect, Held, HoldId, HoldOwner, Nano, Reference, Timestamp,
};
use rusqlite::params;
use serde_json::json;
use tallygate::bench::history;
use tallygate::books::Record;
use tallygate::books::encoding::{Buffers, decode_batch};
use tallygate::books::verify::{self, Report};
use tallygate::clock::SystemClock;
use tallygate::gateway::facts::Ending;
use tallygate::id::RequestId;
use tallygate::job::Progress;
use tallygate::store::chain::{Header, Link, seal};
use tallygate::store::{self, StoreConfig};
use tallygate::tasks::Owners;

use crate::support::app::TestApp;

/// Books with a bit of everything: a credit, a charge, a release, a refund, and a restart. Closed; their folder.
fn world() -> tempfile::TempDir {
    let mut app = TestApp::new();
    let account = app.account("one");
    app.credit(&account, "10");
    app.model("m");
    let limit = json!({"limits": [{"metric": "spend", "window": "day", "value": "5", "origin": "owner"}]});
    let (key, _) = app.key(&account, limit);
    let charged = app.call(&key, "m", (100, 50));
    app.call_ending(&key, "m", (100, 50), Ending::UpstreamFailed);
    refund(&app, &charged, Nano(1_000));
    app.restart();
    app.call(&key, "m", (10, 5));
    app.into_folder()
}

/// Gives a part of a charge back.
fn refund(app: &TestApp, request: &str, amount: Nano) {
    let id = request.parse::<RequestId>().unwrap();
    let stored =
        tallygate::books::lookup::call(&app.app().books, &app.app().projections, id).unwrap().unwrap();
    let (mut charge, mut debits) = (None, Default::default());
    for effect in stored.money {
        match effect {
            Effect::Held(held) => charge = Some((held.hold, held.account, held.layers)),
            Effect::Settled(settled) => debits = settled.debits,
            _ => {}
        }
    }
    let (hold, account, layers) = charge.unwrap();
    let charge = ChargeRecord { hold, account, debits, layers };
    let command = Command::Refund { charge, amount, reference: Reference::new(format!("refund:{request}")) };
    app.app().books.execute_blocking(&command).unwrap();
}

fn verified(folder: &Path) -> Report {
    let stores = store::open(&StoreConfig::embedded(folder)).unwrap();
    let tasks = Owners::new(stores.tasks, Arc::new(SystemClock));
    verify::verify(&stores.journal.reader(), &stores.projections, Some(&tasks), 0, &mut |_| {}).unwrap()
}

/// Number, time, epoch, effects and facts of a batch.
type Stored = (u32, i64, u32, Vec<u8>, Vec<u8>);

/// Rewrites the journal beneath the program, with a chain that holds.
fn rewrite(folder: &Path, mut change: impl FnMut(u64, &mut Vec<Record>)) {
    let db = rusqlite::Connection::open(folder.join(store::JOURNAL_FILE)).unwrap();
    let stored: Vec<Stored> = db
        .prepare("SELECT n, at_ms, epoch, effects, facts FROM journal ORDER BY n")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut last = Link::START;
    for (n, at_ms, epoch, effects, facts) in stored {
        let read = decode_batch(&effects, Some(&facts)).unwrap();
        let mut records =
            read.into_iter().map(|record| Record { effects: record.effects, call: record.call }).collect();
        change(u64::from(n), &mut records);
        let (effects, facts) = Buffers::default().encode(&records);
        let batch = seal(
            Header { shard: 0, epoch: epoch.into(), n: n.into(), at_ms, prev_hash: last.hash },
            effects,
            facts,
        );
        last = Link::from(&batch);
        let sql = "UPDATE journal SET prev_hash = ?2, hash = ?3, facts_hash = ?4, effects = ?5, facts = ?6 WHERE n = ?1";
        let values = params![n, batch.prev_hash, batch.hash, batch.facts_hash, batch.effects, batch.facts];
        assert_eq!(db.execute(sql, values).unwrap(), 1);
    }
}

fn effects(folder: &Path, mut change: impl FnMut(&mut Effect)) {
    rewrite(folder, |_, records| {
        records.iter_mut().flat_map(|record| &mut record.effects).for_each(&mut change);
    });
}

fn sql(folder: &Path, file: &str, statement: &str) {
    let db = rusqlite::Connection::open(folder.join(file)).unwrap();
    assert!(db.execute(statement, []).unwrap() > 0, "{statement}");
}

#[track_caller]
fn finds(folder: &Path, invariant: &str, words: &str) {
    let report = verified(folder);
    let found: Vec<_> = report.findings.iter().map(|finding| finding.invariant).collect();
    assert_eq!(found, [invariant], "{:#?}", report.findings);
    let what = &report.findings[0].what;
    assert!(what.contains(words), "{what}");
}

#[test]
fn b5_books_that_nobody_touched_are_clean() {
    let folder = world();
    let report = verified(folder.path());
    assert!(report.is_clean(), "{:#?}", report.findings);
    // Credits in both books, three holds, two settlements, a release, a refund.
    assert_eq!((report.effects, report.calls, report.from), (9, 3, 1));
    // Written anew as it is, it is the same.
    rewrite(folder.path(), |_, _| {});
    assert!(verified(folder.path()).is_clean());
}

#[test]
fn i1_a_transaction_that_does_not_sum_to_zero() {
    let folder = world();
    effects(folder.path(), |effect| {
        if let Effect::Released(released) = effect {
            // A sum that is no amount any more.
            let part = released.returned[0];
            released.returned =
                [part, part].map(|part| Debit { amount: Nano::MAX, ..part }).into_iter().collect();
        }
    });
    finds(folder.path(), "I1", "sums to");
}

#[test]
fn i2_a_release_that_gives_back_less_than_was_held() {
    let folder = world();
    effects(folder.path(), |effect| {
        if let Effect::Released(released) = effect {
            released.returned[0].amount.0 -= 1;
        }
    });
    finds(folder.path(), "I2", "a release is not of its hold");
}

#[test]
fn i2_a_checkpoint_that_is_not_the_journals() {
    let folder = world();
    let stores = store::open(&StoreConfig::embedded(folder.path())).unwrap();
    let (n, body) = stores.projections.checkpoint("books").unwrap().unwrap();
    let mut checkpoint = tallygate::books::encoding::decode_checkpoint(&body).unwrap();
    checkpoint.state.accounts[0].lots[0].available.0 += 1;
    let body = tallygate::books::encoding::encode_checkpoint(&checkpoint);
    stores.projections.save_checkpoint("books", n, body).unwrap();
    drop(stores);
    finds(folder.path(), "I2", "checkpoint");
}

/// A hold of this owner among the first records.
fn plant_hold(folder: &Path, owner: HoldOwner) {
    let hold = Held {
        hold: HoldId(7),
        account: AccountId(7),
        at: Timestamp(0),
        amount: Nano::ZERO,
        overdraft: Nano::ZERO,
        owner,
        debits: Default::default(),
        layers: Default::default(),
    };
    let mut first = true;
    rewrite(folder, |_, records| {
        if std::mem::take(&mut first) {
            records.push(Record { effects: vec![Effect::Held(hold.clone())], call: None });
        }
    });
}

#[test]
fn i3_a_hold_whose_process_is_gone() {
    let folder = world();
    plant_hold(folder.path(), HoldOwner::Process(1));
    finds(folder.path(), "I3", "a process that is gone");
}

#[test]
fn i3_a_hold_whose_task_has_no_row() {
    let folder = world();
    plant_hold(folder.path(), HoldOwner::Task(7));
    finds(folder.path(), "I3", "which has no row");
}

#[test]
fn i4_a_charge_without_its_hold() {
    let folder = world();
    let mut lost = false;
    rewrite(folder.path(), |_, records| {
        for record in records {
            let held = record.effects.iter().position(|effect| matches!(effect, Effect::Held(_)));
            if let Some(held) = held.filter(|_| !std::mem::replace(&mut lost, true)) {
                record.effects.remove(held);
            }
        }
    });
    let report = verified(folder.path());
    // What follows from it is told, too: the refund of a charge that is not there finds a limit unused.
    assert_eq!(report.findings[0].invariant, "I4", "{:#?}", report.findings);
}

#[test]
fn i5_a_call_that_was_settled_twice_and_one_without_an_outcome() {
    let folder = world();
    let (mut held, mut planted) = (None, false);
    rewrite(folder.path(), |_, records| {
        let mut again = None;
        for record in records.iter().filter(|_| !planted) {
            for effect in &record.effects {
                match effect {
                    Effect::Held(_) => held = Some(effect.clone()),
                    Effect::Settled(_) => {
                        let effects = vec![held.clone().unwrap(), effect.clone()];
                        again = again.or(Some(Record { effects, call: record.call.clone() }));
                    }
                    _ => {}
                }
            }
        }
        planted |= again.is_some();
        records.extend(again);
    });
    finds(folder.path(), "I5", "has two outcomes");

    let folder = world();
    rewrite(folder.path(), |_, records| {
        for call in
            records.iter_mut().filter(|record| matches!(record.effects.last(), Some(Effect::Released(_))))
        {
            if let Some(call) = &mut call.call {
                call.outcome = None;
            }
        }
    });
    finds(folder.path(), "I5", "has no one outcome");
}

#[test]
fn i6_a_log_that_says_another_charge_or_lacks_a_call_or_has_one_too_many() {
    let folder = world();
    sql(
        folder.path(),
        store::PROJECTIONS_FILE,
        "UPDATE requests SET charge = charge + 1 WHERE charge > 100000",
    );
    finds(folder.path(), "I6", "the log says");
    let folder = world();
    sql(folder.path(), store::PROJECTIONS_FILE, "DELETE FROM requests WHERE state = 3");
    finds(folder.path(), "I6", "is not in the request log");
    let folder = world();
    sql(
        folder.path(),
        store::PROJECTIONS_FILE,
        "INSERT INTO requests SELECT x'00000000000000000000000000000001', account, key, at_ms, status, code, state, charge, facts, money FROM requests WHERE state = 3",
    );
    finds(folder.path(), "I6", "the log has 4 calls that ended, the journal 3");
}

#[test]
fn i7_a_hold_beyond_a_limit() {
    let folder = world();
    let mut planted = false;
    effects(folder.path(), |effect| {
        if let Effect::Held(held) = effect
            && let Some(layer) = held.layers.iter_mut().find(|layer| layer.limit.is_some() && !planted)
        {
            layer.limit = Some(layer.amount - 1);
            planted = true;
        }
    });
    finds(folder.path(), "I7", "brings the limit of a Key");
}

#[test]
fn i8_a_reference_that_posts_twice() {
    let folder = world();
    rewrite(folder.path(), |n, records| {
        let credit =
            records.iter().position(|record| matches!(record.effects.as_slice(), [Effect::Credited(_)]));
        if let Some(credit) = credit.filter(|_| n == 1) {
            let effects = records[credit].effects.clone();
            records.push(Record { effects, call: None });
        }
    });
    finds(folder.path(), "I8", "posted twice");
}

#[test]
fn i9_a_batch_that_was_changed_or_cut_out() {
    let folder = world();
    sql(folder.path(), store::JOURNAL_FILE, "UPDATE journal SET at_ms = at_ms + 1 WHERE n = 2");
    finds(folder.path(), "I9", "batch 2 was changed");
    let folder = world();
    // A release that is gone takes its outcome along; the link is what is told first.
    sql(folder.path(), store::JOURNAL_FILE, "DELETE FROM journal WHERE n = 1");
    let report = verified(folder.path());
    assert_eq!(report.findings[0].invariant, "I9", "{:#?}", report.findings);
}

#[test]
fn i10_a_refund_beyond_its_charge() {
    let folder = world();
    effects(folder.path(), |effect| {
        if let Effect::Refunded(refund) = effect {
            refund.credits[0].amount = Nano(1_000_000_000);
        }
    });
    finds(folder.path(), "I10", "is refunded");
}

/// A seal is begun from; what is behind it is all that is read.
#[test]
fn a_second_run_reads_only_what_is_new() {
    let app = TestApp::new();
    let account = app.account("one");
    app.credit(&account, "10");
    app.model("m");
    let (key, _) = app.key(&account, json!({}));
    app.call(&key, "m", (100, 50));
    let run = |full: bool| {
        app.post("/api/verify", json!({"full": full})).ok();
        loop {
            let standing = app.get("/api/verify").ok();
            if standing["state"] != "running" {
                assert_eq!(standing["state"], "done", "{standing:#}");
                return standing["report"].clone();
            }
            std::thread::yield_now();
        }
    };
    let first = run(false);
    assert_eq!((&first["clean"], &first["full"], &first["from"]), (&json!(true), &json!(true), &json!(1)));
    let nothing = run(false);
    assert_eq!((&nothing["clean"], &nothing["batches"]), (&json!(true), &json!(0)));
    app.call(&key, "m", (100, 50));
    let second = run(false);
    assert_eq!(
        (&second["clean"], &second["calls"], &second["full"]),
        (&json!(true), &json!(1), &json!(false))
    );
    assert_eq!(second["charged"], "0.0004");
    assert!(second["audit_rows"].as_u64() < first["audit_rows"].as_u64());
    let full = run(true);
    assert_eq!(
        (&full["clean"], &full["calls"], &full["charged"]),
        (&json!(true), &json!(2), &json!("0.0004"))
    );

    // A seal that was changed is not begun from, and is told once.
    let (n, mut body) = app.app().projections.checkpoint("verify").unwrap().unwrap();
    *body.last_mut().unwrap() ^= 1;
    app.app().projections.save_checkpoint("verify", n, body).unwrap();
    let told = run(false);
    assert_eq!(told["findings"][0]["invariant"], "seal", "{told:#}");
    assert_eq!((&told["clean"], &told["full"]), (&json!(false), &json!(true)));
    assert_eq!(run(false)["clean"], true);
}

/// A run that is stopped leaves a seal as far as it came.
#[test]
fn a_run_that_is_stopped_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let written = history::write(folder.path(), 30_000, 3, &mut |_| {}).unwrap();
    let stores = store::open(&StoreConfig::embedded(folder.path())).unwrap();
    let (journal, projections) = (stores.journal.reader(), &stores.projections);
    let progress = Progress::default();
    progress.stop();
    let first = verify::run(&journal, projections, None, 0, None, &progress).unwrap();
    assert!(first.stopped && first.report.is_clean() && first.report.batches < written.batches);
    let from = first.verified.expect("clean so far");
    let rest = verify::run(&journal, projections, None, 0, Some(from), &Progress::default()).unwrap();
    assert!(rest.report.is_clean(), "{:#?}", rest.report.findings);
    assert_eq!(rest.report.from, first.report.through + 1);
    assert_eq!(first.report.effects + rest.report.effects, written.effects);
    assert_eq!(rest.report.charged, written.charged);
}
