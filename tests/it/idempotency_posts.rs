//! F3: a POST of the management interface under an Idempotency-Key is done once and answered again, on both stores.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};
use tallygate::api;
use tallygate::id::RequestId;
use tallygate::idempotency::{Begun, Known, Wish};

use crate::on_both_backends;
use crate::support::app::ADMIN_TOKEN;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::desk::Desk;
use crate::support::http::{Ask, Reply};

on_both_backends!(
    f3_a_post_is_done_once_and_answered_again,
    f3_every_kind_of_post_is_done_once,
    f3_a_name_is_that_of_who_sends_it,
    f3_an_answer_is_for_the_role_that_it_was_made_for,
    f3_what_was_refused_may_be_sent_again,
    f3_of_ten_posts_at_once_one_is_done,
    f3_a_post_that_a_crash_broke_off_is_not_done_again,
    f3_a_post_that_failed_in_the_middle_is_not_done_again,
    f3_an_answer_that_is_not_kept_is_not_made_up_by_doing_it_again,
    f3_kept_answers_outlive_a_turn_of_the_master_key,
);

const NAME: &str = "idempotency-key";
const DAY_MS: u64 = 24 * 3_600_000;

fn named(name: &str, path: &str, body: &Value) -> Ask {
    Ask::post(path, body).bearer(ADMIN_TOKEN).header(NAME, name)
}

fn replay_of(reply: &Reply) -> Option<&str> {
    reply.head.header("x-tallygate-replay-of")
}

/// Status and code of a refusal.
#[track_caller]
fn assert_refused(reply: &Reply, (code, status): (&str, u16)) {
    let told = reply.json();
    assert_eq!((reply.head.status, &told["error"]["code"]), (status, &json!(code)), "{told:#}");
}

#[track_caller]
fn assert_again(again: &Reply, first: &Reply) {
    assert_eq!((again.head.status, again.text()), (first.head.status, first.text()));
    assert_eq!(replay_of(again), Some(first.head.request_id()));
    assert_ne!(again.head.request_id(), first.head.request_id());
    for name in ["content-type", "content-language", "etag", "cache-control"] {
        assert_eq!(again.head.header(name), first.head.header(name), "{name}");
    }
}

/// How many rows a list has.
fn count(desk: &Desk, path: &str) -> usize {
    desk.get(path)["data"].as_array().unwrap().len()
}

fn key_input(account: &str) -> Value {
    json!({"account": account, "name": "k"})
}

fn f3_a_post_is_done_once_and_answered_again(backend: Backend) {
    let mut desk = Desk::open(backend);
    let account = desk.account("Ann");
    let ask = named("one", "/api/keys", &key_input(&account));
    let first = desk.ask(&ask);
    assert_eq!((first.head.status, replay_of(&first)), (201, None), "{}", first.text());
    assert!(first.json()["key"].as_str().unwrap().starts_with("tg-live-"));
    assert_again(&desk.ask(&ask), &first);
    assert_again(&desk.ask(&ask.clone().header("accept-language", "zh")), &first);
    let other = desk.ask(&named("one", "/api/keys", &json!({"account": account, "name": "other"})));
    assert_refused(&other, ("idempotency_key_reused", 422));
    assert!(other.text().contains(first.head.request_id()), "{}", other.text());
    for path in ["/api/projects", "/api/members"] {
        let elsewhere = desk.ask(&named("one", path, &key_input(&account)));
        assert_refused(&elsewhere, ("idempotency_key_reused", 422));
    }
    desk.restart();
    assert_again(&desk.ask(&ask), &first);
    assert_eq!(count(&desk, "/api/keys"), 1);
    for (name, reason) in [("", "got 0"), (&*"x".repeat(256), "expected 1 to 255 bytes, got 256")] {
        let reply = desk.ask(&named(name, "/api/keys", &key_input(&account)));
        assert_refused(&reply, ("invalid_parameter", 400));
        assert!(reply.text().contains(reason), "{}", reply.text());
    }
    assert_refused(&desk.ask(&ask.clone().header(NAME, "two")), ("invalid_parameter", 400));
    assert_again(&desk.ask(&ask.clone().header(NAME, "one")), &first);
    assert_eq!(count(&desk, "/api/keys"), 1);
    // Without a name, and under another one, it is another request.
    desk.post("/api/keys", key_input(&account)).ok();
    desk.ask(&named("two", "/api/keys", &key_input(&account))).ok();
    desk.clock.advance_ms(DAY_MS);
    let late = desk.ask(&ask);
    assert_eq!((late.head.status, replay_of(&late)), (201, None));
    assert_ne!(late.json()["key"], first.json()["key"]);
    assert_eq!(count(&desk, "/api/keys"), 4);
}

/// Money, codes and orders; a job that runs on; and what only reads, which takes no names.
fn f3_every_kind_of_post_is_done_once(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    desk.post("/api/models", json!({"name": "m"})).ok();
    let credits = format!("/api/accounts/{account}/credits");
    let given = json!({"amount": "1", "kind": "purchased", "reference": "test:named", "reason": "test"});
    let key = desk.post("/api/keys", key_input(&account)).ok();
    let rotate = format!("/api/keys/{}/rotate", key["id"].as_str().unwrap());
    let correction = json!({"kind": "compensation", "account": account, "amount": "2", "reason": "test"});
    let allow = json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]);
    let document = json!({"Version": "2026-11-01", "Statement": allow});
    let posts = [
        (&*credits, given),
        (&*rotate, json!({})),
        ("/api/code-batches", json!({"value": "1", "count": 3})),
        ("/api/orders", json!({"account": account, "provider": "transfer", "amount": "10"})),
        ("/api/orders", json!({"account": account, "provider": "stripe", "amount": "20"})),
        ("/api/corrections", correction),
        ("/api/verify", json!({})),
        ("/api/policies/lint", json!({"document": document})),
    ];
    for (n, (path, body)) in posts.iter().enumerate() {
        let ask = named(&format!("name {n}"), path, body);
        let (first, again) = (desk.ask(&ask), desk.ask(&ask));
        first.ok();
        if *path == "/api/policies/lint" {
            assert_eq!((again.head.status, replay_of(&again)), (200, None));
        } else {
            assert_again(&again, &first);
        }
    }
    assert_eq!(desk.available(&account), "3");
    let counts = ["code-batches", "orders", "corrections"].map(|it| count(&desk, &format!("/api/{it}")));
    // A credit is a correction, too.
    assert_eq!(counts, [1, 2, 2]);
    let shown = desk.get(&format!("/api/keys/{}", key["id"].as_str().unwrap()));
    assert_eq!(shown["previous"].as_array().unwrap().len(), 1, "rotated once");
    wait_until("verify has ended", || desk.get("/api/verify")["state"] == "done");
}

/// A member of this role, and its token.
fn member(desk: &Desk, account: &str, role: &str) -> (String, String) {
    let made = desk.post("/api/members", json!({"account": account, "name": role, "role": role})).ok();
    let id = made["id"].as_str().unwrap().to_owned();
    let issued = desk.post(&format!("/api/members/{id}/token"), json!({})).ok();
    (id, issued["token"].as_str().unwrap().to_owned())
}

fn f3_a_name_is_that_of_who_sends_it(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let (_, ann) = member(&desk, &account, "owner");
    let (_, bo) = member(&desk, &account, "owner");
    let operator = desk.post("/api/operators", json!({"name": "Cy", "role": "superadmin"})).ok();
    let path = format!("/api/operators/{}/token", operator["id"].as_str().unwrap());
    let cy = desk.post(&path, json!({})).ok()["token"].as_str().unwrap().to_owned();
    let by = |token: &str| {
        desk.ask(&Ask::post("/api/keys", &key_input(&account)).bearer(token).header(NAME, "one"))
    };
    let tokens = [&*ann, &*bo, &*cy, ADMIN_TOKEN];
    let firsts = tokens.map(by);
    let keys: BTreeSet<_> = firsts.iter().map(|first| first.ok()["id"].to_string()).collect();
    assert_eq!(keys.len(), tokens.len());
    for (token, first) in tokens.into_iter().zip(&firsts) {
        assert_again(&by(token), first);
    }
    assert_refused(&by("nobody's"), ("sign_in_required", 401));
}

fn f3_an_answer_is_for_the_role_that_it_was_made_for(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let (id, token) = member(&desk, &account, "admin");
    let ask = Ask::post("/api/keys", &key_input(&account)).bearer(&token).header(NAME, "one");
    let first = desk.ask(&ask);
    assert_eq!(first.head.status, 201, "{}", first.text());
    let role = |role: &str| desk.patch(&format!("/api/members/{id}"), &json!({"role": role})).ok();
    // One may not make keys any more; the other may, but not all of those that the first one may.
    for other in ["viewer", "developer"] {
        role(other);
        let refused = desk.ask(&ask);
        assert_refused(&refused, ("role_forbidden", 403));
        assert!(!refused.text().contains("tg-live-"));
    }
    role("admin");
    assert_again(&desk.ask(&ask), &first);
    assert_eq!(count(&desk, "/api/keys"), 1);
    desk.patch(&format!("/api/members/{id}"), &json!({"token": null})).ok();
    assert_refused(&desk.ask(&ask), ("sign_in_required", 401));
}

fn f3_what_was_refused_may_be_sent_again(backend: Backend) {
    let desk = Desk::open(backend);
    let wrong = desk.ask(&named("one", "/api/accounts", &json!({"name": ""})));
    assert_refused(&wrong, ("invalid_value", 400));
    let right = named("one", "/api/accounts", &json!({"name": "Ann"}));
    let first = desk.ask(&right);
    assert_eq!((first.head.status, replay_of(&first)), (201, None), "{}", first.text());
    assert_again(&desk.ask(&right), &first);
    // It is refused by its handler: there is such an account.
    let taken = json!({"name": "Bo", "email": "one@example.com"});
    desk.post("/api/accounts", taken.clone()).ok();
    let ask = named("two", "/api/accounts", &taken);
    (0..2).for_each(|_| assert_refused(&desk.ask(&ask), ("already_exists", 409)));
    let other = json!({"name": "Bo", "email": "two@example.com"});
    assert_eq!(desk.ask(&named("two", "/api/accounts", &other)).head.status, 201);
}

fn f3_of_ten_posts_at_once_one_is_done(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let ask = named("ten", "/api/code-batches", &json!({"value": "1", "count": 2_000}));
    let replies: Vec<Reply> = thread::scope(|scope| {
        let asked: Vec<_> = (0..10).map(|_| scope.spawn(|| desk.ask(&ask))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.head.status == 201);
    let done: Vec<_> = served.iter().filter(|reply| replay_of(reply).is_none()).collect();
    assert_eq!(done.len(), 1);
    served.iter().for_each(|reply| assert_eq!(reply.text(), done[0].text()));
    for reply in refused {
        assert_refused(reply, ("idempotency_in_progress", 409));
        assert_eq!(reply.head.header("retry-after"), Some("1"));
    }
    assert_eq!(count(&desk, "/api/code-batches"), 1);
    let redeem = json!({"account": account, "code": done[0].json()["codes"][0]});
    desk.ask(&named("redeem", "/api/codes/redeem", &redeem)).ok();
    desk.ask(&named("redeem", "/api/codes/redeem", &redeem)).ok();
    assert_eq!(desk.available(&account), "1");
}

fn f3_a_post_that_a_crash_broke_off_is_not_done_again(backend: Backend) {
    let is_shared = backend.url().is_some();
    let mut desk = Desk::open(backend);
    let account = desk.account("Ann");
    let body = key_input(&account);
    let content = body.to_string();
    let wish = Wish::of_actor("admin token", b"one", ["POST /api/keys", ""], content.as_bytes());
    let untold = |_| Known::Untold { may_run: is_shared };
    match desk.app().idempotency.begin(wish, RequestId::from_raw(7), untold).unwrap() {
        // Its process ends before it has written what came of it.
        Begun::First(claim) => drop(claim),
        other => panic!("{other:?}"),
    }
    desk.restart();
    let ask = named("one", "/api/keys", &body);
    if is_shared {
        // Another node may be at work on it, for as long as no request takes.
        assert_refused(&desk.ask(&ask), ("idempotency_in_progress", 409));
        desk.clock.advance_ms(60_001);
    }
    for _ in 0..2 {
        let reply = desk.ask(&ask);
        assert_refused(&reply, ("idempotency_outcome_unknown", 409));
        assert!(reply.text().contains(&RequestId::from_raw(7).to_string()), "{}", reply.text());
        assert_eq!(reply.head.header("x-should-retry"), Some("false"));
    }
    assert_eq!(count(&desk, "/api/keys"), 0);
    desk.ask(&named("two", "/api/keys", &body)).ok();
}

/// A failure is no refusal: the order is there, though its provider did not answer.
fn f3_a_post_that_failed_in_the_middle_is_not_done_again(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    desk.providers.fail_next(1);
    let order = json!({"account": account, "provider": "stripe", "amount": "20"});
    let ask = named("one", "/api/orders", &order);
    assert_refused(&desk.ask(&ask), ("payment_provider_failed", 502));
    assert_refused(&desk.ask(&ask), ("idempotency_outcome_unknown", 409));
    assert_eq!(count(&desk, "/api/orders"), 1);
}

fn f3_an_answer_that_is_not_kept_is_not_made_up_by_doing_it_again(backend: Backend) {
    let mut desk = Desk::open(backend);
    let account = desk.account("Ann");
    let ask = named("one", "/api/keys", &key_input(&account));
    desk.ask(&ask).ok();
    // As where it was longer than what is kept.
    desk.restart_after(|backend| {
        let stores = backend.open();
        let forget = "UPDATE idempotency_answers SET body = NULL";
        assert_eq!(stores.idempotency.execute(forget, &[]).unwrap(), 1);
    });
    assert_refused(&desk.ask(&ask), ("idempotency_answer_gone", 410));
    assert_eq!(count(&desk, "/api/keys"), 1);
}

fn f3_kept_answers_outlive_a_turn_of_the_master_key(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let asks: Vec<_> =
        (0..20).map(|n| named(&format!("name {n}"), "/api/keys", &key_input(&account))).collect();
    let firsts: Vec<_> = asks.iter().map(|ask| desk.ask(ask)).collect();
    // Sealed, they are in no file as they are: that is looked at when the test is over.
    assert_eq!(desk.get("/api/master-key")["sealed"]["answers"], 20);
    let turn = named("turn", "/api/master-key/rotation", &json!({"key": "0a".repeat(32)}));
    let turned = desk.ask(&turn);
    turned.ok();
    wait_until("everything is sealed anew", || desk.get("/api/master-key/rotation")["state"] == "done");
    assert!(desk.get("/api/master-key/rotation")["report"]["sealed_anew"].as_u64().unwrap() >= 20);
    for (ask, first) in asks.iter().zip(&firsts) {
        assert_again(&desk.ask(ask), first);
    }
    assert_again(&desk.ask(&turn), &turned);
    assert_eq!(count(&desk, "/api/keys"), 20);
}

/// A POST that calls an upstream which does not answer, and its upstream.
fn hanging(demo: &Demo) -> (Ask, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let channel = json!({
        "name": "silent", "base_url": format!("http://{}/v1", upstream.local_addr().unwrap()),
        "credential": "sk-upstream-credential", "models": {"gpt-5-mini": "gpt-5-mini"},
    });
    let channel = demo.admin_post("/api/channels", &channel);
    let path = format!("/api/channels/{}/test", channel["id"].as_str().unwrap());
    (Ask::post(&path, &json!({})).bearer(&demo.admin_token()).header(NAME, "one"), upstream)
}

/// A process that is killed in the middle of a POST: the upstream was asked, and is not asked again.
#[test]
fn f3_a_kill_in_the_middle_leaves_the_outcome_unknown() {
    let mut demo = Demo::start();
    let (ask, upstream) = hanging(&demo);
    let mut waiting = demo.connect();
    waiting.send(&ask).unwrap();
    let _asked = upstream.accept().unwrap();
    assert_refused(&demo.ask(&ask), ("idempotency_in_progress", 409));
    demo.kill();
    demo.restart();
    assert_refused(&demo.ask(&ask), ("idempotency_outcome_unknown", 409));
    upstream.set_nonblocking(true).unwrap();
    assert!(upstream.accept().is_err(), "nobody asks the upstream again");
}

/// Who leaves in the middle finds the answer when it comes back.
#[test]
fn f3_an_answer_is_kept_for_who_has_gone() {
    let demo = Demo::start();
    let (ask, upstream) = hanging(&demo);
    let mut leaving = demo.connect();
    leaving.send(&ask).unwrap();
    let asked = upstream.accept().unwrap();
    drop(leaving);
    assert_refused(&demo.ask(&ask), ("idempotency_in_progress", 409));
    drop((asked, upstream));
    let mut again = demo.ask(&ask);
    wait_until("the answer is kept", || {
        let runs = again.head.status == 409;
        if runs {
            again = demo.ask(&ask);
        }
        !runs
    });
    assert!(again.head.status == 200 && replay_of(&again).is_some(), "{}", again.text());
}

/// What takes no names changes nothing, and the documentation names it; what takes them says so in `/openapi.json`.
#[test]
fn f3_what_takes_no_names_is_named() {
    let demo = Demo::start();
    let document = demo.ask(&Ask::get("/openapi.json")).json();
    let told = include_str!("../../docs/idempotency.md");
    let mut seen = [0, 0];
    for route in api::routes().filter(|route| route.method.as_str() == "POST") {
        let parameters = &document["paths"][route.path]["post"]["parameters"];
        let says = parameters.as_array().unwrap().iter().any(|it| it["name"] == "Idempotency-Key");
        assert_eq!(says, route.takes_names(), "{}", route.path);
        let is_told = told.contains(&format!("`{}`", route.path.replace("/api/v1/", "/v1/")));
        assert_eq!(is_told, !route.takes_names(), "{}", route.path);
        seen[usize::from(says)] += 1;
    }
    assert!(seen[0] > 8 && seen[1] > 30, "{seen:?}");
}
