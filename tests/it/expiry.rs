//! Credit with an end: what is left then is written off by itself, every nano once, on both stores (B4, B5).

use ledger::{Command, LotKind, Nano, Timestamp};
use serde_json::{Value, json};
use tallygate::clock::{Clock, SystemClock};
use tallygate::id::AccountId;

use crate::on_both_backends;
use crate::support::app::begin;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::desk::Desk;

on_both_backends!(
    b4_what_is_left_at_the_end_is_written_off_once,
    b4_an_end_that_came_while_nobody_ran_is_found,
    b4_what_a_hold_gives_back_after_the_end_is_written_off_too,
    b4_many_lots_end_at_once,
);

const DAY_MS: u64 = 86_400_000;
const UNIT: i64 = 1_000_000_000;

/// Granted credit that ends in so many days.
fn grant(desk: &Desk, account: &str, amount: &str, days: u64) {
    let end_ms = desk.clock.now_ms() + i64::try_from(days * DAY_MS).unwrap();
    let end = jiff::Timestamp::from_millisecond(end_ms).unwrap().to_string();
    let body = json!({"amount": amount, "kind": "granted", "expires_at": end,
        "reference": format!("grant:{account}:{amount}:{days}"), "reason": "test"});
    desk.post(&format!("/api/accounts/{account}/credits"), body).ok();
}

/// Available, expired and not written off, written off.
fn figures(desk: &Desk, account: &str) -> [String; 3] {
    let balance = desk.balance(account);
    let text = |at: &str| balance.pointer(at).and_then(Value::as_str).unwrap().to_owned();
    [text("/available"), text("/expired"), text("/movements/expiries")]
}

fn book(account: &str) -> ledger::AccountId {
    account.parse::<AccountId>().unwrap().in_book(ledger::Book::Live)
}

fn b4_what_is_left_at_the_end_is_written_off_once(backend: Backend) {
    let mut desk = Desk::open(backend);
    let account = desk.account("Ann");
    grant(&desk, &account, "5", 1);
    grant(&desk, &account, "2", 3);
    desk.clock.advance_ms(DAY_MS - 1);
    assert_eq!(desk.app().books.expire_due().unwrap(), 0);
    assert_eq!(figures(&desk, &account), ["7", "0", "0"]);
    desk.clock.advance_ms(1);
    // Not spendable from the moment on, whether or not it is written off.
    assert_eq!(figures(&desk, &account), ["2", "5", "0"]);
    assert_eq!(desk.app().books.expire_due().unwrap(), 1);
    assert_eq!(desk.app().books.expire_due().unwrap(), 0);
    assert_eq!(figures(&desk, &account), ["2", "0", "5"]);
    desk.restart();
    assert_eq!(desk.app().books.expire_due().unwrap(), 0);
    assert_eq!(figures(&desk, &account), ["2", "0", "5"]);
}

fn b4_an_end_that_came_while_nobody_ran_is_found(backend: Backend) {
    let mut desk = Desk::open(backend);
    let account = desk.account("Ann");
    grant(&desk, &account, "5", 1);
    desk.restart();
    desk.clock.advance_ms(2 * DAY_MS);
    desk.restart();
    assert_eq!(figures(&desk, &account), ["0", "5", "0"]);
    assert_eq!(desk.app().books.expire_due().unwrap(), 1);
    assert_eq!(figures(&desk, &account), ["0", "0", "5"]);
    // Written off in memory and cut off before anybody looked: the journal has it, once.
    desk.restart();
    assert_eq!((desk.app().books.expire_due().unwrap(), figures(&desk, &account)[2].as_str()), (0, "5"));
}

fn b4_what_a_hold_gives_back_after_the_end_is_written_off_too(backend: Backend) {
    let mut desk = Desk::open(backend);
    let account = desk.account("Ann");
    let made = |path: &str, body: Value| desk.post(path, body).ok();
    made("/api/models", json!({"name": "m"}));
    made("/api/prices", json!({"model": "m", "per_million": {"input": "1.00", "output": "2.00"}}));
    let channel = json!({"name": "c", "base_url": "http://127.0.0.1:9/v1", "credential": "sk-upstream-credential",
        "models": {"m": "m"}, "environments": ["live"]});
    made("/api/channels", channel);
    let key = made("/api/keys", json!({"account": account, "name": "k"}))["id"].as_str().unwrap().to_owned();
    grant(&desk, &account, "5", 1);
    // Each call holds 500 tokens in and 1,000 out: 0.0025.
    let [first, second] = [(); 2].map(|()| begin(desk.app(), &key, "m").1.unwrap().0);
    desk.clock.advance_ms(DAY_MS);
    assert_eq!(desk.app().books.expire_due().unwrap(), 1);
    assert_eq!(desk.app().books.expire_due().unwrap(), 0);
    assert_eq!(figures(&desk, &account), ["0", "0", "4.995"]);
    // A call without an outcome gives its hold back.
    drop(first);
    assert_eq!(figures(&desk, &account), ["0", "0.0025", "4.995"]);
    assert_eq!(desk.app().books.expire_due().unwrap(), 1);
    assert_eq!(figures(&desk, &account), ["0", "0", "4.9975"]);
    // The other one's process ends first; the next start releases it.
    desk.restart();
    drop(second);
    assert_eq!(desk.app().books.expire_due().unwrap(), 1);
    assert_eq!(desk.app().books.expire_due().unwrap(), 0);
    assert_eq!(figures(&desk, &account), ["0", "0", "5"]);
}

fn b4_many_lots_end_at_once(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let end = Timestamp(desk.clock.now_ms() + 1_000);
    for lot in 1..=600_u64 {
        let credit = Command::Credit {
            account: book(&account),
            lot: ledger::LotId(lot),
            kind: LotKind::Granted,
            priority: (lot % 250) as u8,
            expires_at: Some(end),
            amount: Nano(UNIT),
            source: ledger::CreditSource::Promotion,
            reference: ledger::Reference::new(format!("test:{lot}")),
        };
        desk.app().books.execute(&credit).unwrap();
    }
    desk.clock.advance_ms(1_000);
    assert_eq!(desk.app().books.expire_due().unwrap(), 600);
    assert_eq!(figures(&desk, &account), ["0", "0", "600"]);
}

/// The built program does it without being asked.
#[test]
fn b4_a_running_gateway_writes_off_by_itself() {
    let demo = Demo::start();
    let account = demo.account("Ann", "1.00");
    // Soon enough to be waited for, and still to come when it is granted on a busy machine.
    let end = jiff::Timestamp::from_millisecond(SystemClock.now_ms() + 3_000).unwrap();
    let body =
        json!({"amount": "3", "kind": "granted", "expires_at": end, "reference": "soon", "reason": "test"});
    demo.admin_post(&format!("/api/accounts/{account}/credits"), &body);
    wait_until("the credit is written off", || demo.balance(&account)["movements"]["expiries"] == "3");
    assert_eq!(demo.balance(&account)["available"], "1");
}
