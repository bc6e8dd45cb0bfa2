//! Notices do not grow for ever: what is older than it is kept is forgotten, but for what would be told again or is still on
//! its way (J5, L3), on both stores.

use ledger::Nano;
use serde_json::{Value, json};
use tallygate::directory::Window;
use tallygate::id::AccountId;
use tallygate::notices::{Facts, NewNotice};

use crate::notices::{frozen, low_balance};
use crate::on_both_backends;
use crate::support::app::{NOW_MS, TestApp};
use crate::support::backend::Backend;

on_both_backends!(old_notices_are_forgotten_but_for_what_would_be_told_again);

const DAY_MS: u64 = 86_400_000;

fn budget(account: AccountId, window: Window) -> NewNotice {
    let facts = Facts::BudgetAlert {
        name: "all".into(),
        window,
        percent: 80,
        used: Nano(8),
        limit: Nano(10),
        currency: "USD".into(),
    };
    NewNotice { account: Some(account), subject: account.into(), facts }
}

/// What is listed, the oldest first.
fn told(app: &TestApp) -> Vec<(String, Value)> {
    let page = app.get("/api/notices?limit=1000").ok();
    let rows = page["data"].as_array().unwrap().iter().rev();
    rows.map(|row| (row["event"].as_str().unwrap().to_owned(), row["facts"]["window"].clone())).collect()
}

fn old_notices_are_forgotten_but_for_what_would_be_told_again(backend: Backend) {
    let app = TestApp::on(backend);
    let account = app.account("one");
    let post = |notice: NewNotice| app.app().notices.post(notice).unwrap();
    let id: AccountId = account.parse().unwrap();
    for _ in 0..2 {
        post(low_balance(id));
        app.clock.advance_ms(1);
    }
    post(frozen(Some(id)));
    post(budget(id, Window::Day));
    post(budget(id, Window::Total));
    // One more is on its way to an endpoint that nobody has asked yet.
    let endpoint = json!({"account": account, "name": "ops", "url": "http://127.0.0.1:9/hook", "secret": "s".repeat(32),
        "events": ["key_frozen"]});
    app.post("/api/notice-endpoints", endpoint).ok();
    let waiting = post(frozen(Some(id)));
    app.clock.advance_ms(400 * DAY_MS);
    post(budget(id, Window::Month));
    let all = told(&app).len();
    let forget = |days: i64| app.app().notices.forget_before(NOW_MS + (400 - days) * DAY_MS as i64).unwrap();
    assert_eq!(forget(401), 0);
    // The first of the low balances, the first freeze, and the budget of a day that is over.
    assert_eq!(forget(395), 3);
    assert_eq!(forget(395), 0);
    let left = told(&app);
    assert_eq!(left.len(), all - 3, "{left:?}");
    let has = |event: &str, window: Value| left.contains(&(event.to_owned(), window));
    assert!(has("low_balance", Value::Null) && has("budget_alert", json!("total")), "{left:?}");
    assert!(has("budget_alert", json!("month")) && !has("budget_alert", json!("day")), "{left:?}");
    assert!(app.app().notices.find(waiting).unwrap().is_some_and(|(_, log)| log.len() == 2));
}
