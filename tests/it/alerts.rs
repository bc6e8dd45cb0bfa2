//! What accounts are told of their money by themselves: balances that run low, months that are over (I3), on both stores.

use ledger::Nano;
use serde_json::{Value, json};
use tallygate::gateway::ladder::{Caller, OfCall, Scope};
use tallygate::id::KeyId;
use tallygate::summaries::Summaries;

use crate::on_both_backends;
use crate::support::app::{NOW_MS, TestApp};
use crate::support::backend::Backend;
use crate::support::history::{begin, refund};

on_both_backends!(
    i3_a_low_balance_is_told_once_whatever_is_restarted,
    i3_a_month_is_told_once_when_it_is_over,
);

fn nano(text: &str) -> Nano {
    Nano::parse_decimal(text).unwrap()
}

fn notices(app: &TestApp, event: &str) -> Vec<Value> {
    app.get(&format!("/api/notices?event={event}")).ok()["data"].as_array().unwrap().clone()
}

/// Looks at the figures of a call, as the gateway does at each decision, and tells what is to be told.
fn observe(test: &TestApp, key: &str) {
    let app = test.app();
    app.books.flush_blocking().unwrap();
    let snapshot = app.directory.snapshot_owned();
    let caller = Caller::of_key(&snapshot, key.parse::<KeyId>().unwrap()).unwrap();
    let model = snapshot.model("m").map(|entry| &*entry.model);
    let scope = Scope::new(&snapshot, caller, OfCall { model, is_task: false }, app.books.now().0);
    app.alerts.observe(caller, &scope, &app.books.read(&scope));
    for alert in app.alerts.take() {
        alert.tell(&app.notices, &app.projections, &snapshot, app.currency()).unwrap();
    }
}

fn spend(test: &TestApp, key: &str, amount: &str) {
    begin(test.app(), key, "m", nano(amount)).unwrap().settle(nano(amount));
}

fn i3_a_low_balance_is_told_once_whatever_is_restarted(backend: Backend) {
    let mut app = TestApp::on(backend);
    let account = app.account("one");
    app.model("m");
    app.patch(&format!("/api/accounts/{account}"), json!({"low_balance_alert": "5"})).ok();
    let (key, _) = app.key(&account, json!({}));
    app.credit(&account, "6");
    observe(&app, &key);
    assert!(notices(&app, "low_balance").is_empty());
    spend(&app, &key, "2");
    for _ in 0..3 {
        observe(&app, &key);
        assert_eq!(notices(&app, "low_balance").len(), 1);
        app.restart();
        app.clock.advance_ms(20 * 60_000);
        spend(&app, &key, "0.1");
    }
    // It recovers, and runs low again while nobody remembers.
    app.credit(&account, "10");
    app.clock.advance_ms(20 * 60_000);
    spend(&app, &key, "9");
    app.restart();
    observe(&app, &key);
    assert_eq!(notices(&app, "low_balance").len(), 2);
}

fn i3_a_month_is_told_once_when_it_is_over(backend: Backend) {
    let mut app = TestApp::on(backend);
    let account = app.account("one");
    let idle = app.account("idle");
    app.model("m");
    app.patch(&format!("/api/accounts/{account}"), json!({"time_zone": "Asia/Shanghai"})).ok();
    let (key, _) = app.key(&account, json!({}));
    app.credit(&account, "10");
    let call = begin(app.app(), &key, "m", nano("3")).unwrap().settle(nano("3"));
    assert!(refund(app.app(), call, nano("1"), "refund:1"));
    app.app().books.flush_blocking().unwrap();
    let mut summaries = Summaries::default();
    assert_eq!(summaries.tell_due(app.app()).unwrap(), 0);
    // A minute before and a minute after the end of November in Shanghai.
    app.clock.advance_ms((1_796_054_340_000 - NOW_MS).unsigned_abs());
    assert_eq!(summaries.tell_due(app.app()).unwrap(), 0);
    app.clock.advance_ms(120_000);
    assert_eq!(summaries.tell_due(app.app()).unwrap(), 1);
    assert_eq!(summaries.tell_due(app.app()).unwrap(), 0);
    let told = notices(&app, "monthly_summary");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((&told[0]["account"], &told[0]["subject"]), (&json!(account), &json!(account)));
    let facts = json!({"period": "2026-11", "opening": "0", "credits": "10", "charges": "3", "refunds": "1",
        "others": "0", "closing": "8", "currency": "USD"});
    assert_eq!(told[0]["facts"], facts);
    let statement = app.get(&format!("/api/accounts/{account}/statement/summary?period=2026-11")).ok();
    assert_eq!(statement["closing"]["balance"], "8");
    // Another process does not tell it again; nor is a month told that is long over.
    app.restart();
    assert_eq!(Summaries::default().tell_due(app.app()).unwrap(), 0);
    app.credit(&idle, "1");
    app.clock.advance_ms(35 * 86_400_000);
    app.app().books.flush_blocking().unwrap();
    assert_eq!(Summaries::default().tell_due(app.app()).unwrap(), 0);
}
