//! Notices through the management interface, and in a gateway as it is run.

use serde_json::{Value, json};
use tallygate::config::Mail;
use tallygate::gateway::upstream::Tls;
use tallygate::id::AccountId;
use tallygate::notices::{NewNotice, Sender};

use crate::notices::{SECRET, frozen, low_balance};
use crate::support::app::TestApp;
use crate::support::demo::{Demo, wait_until};
use crate::support::http::Ask;
use crate::support::receiver::{Receiver, Then};

/// The management interface: a secret goes in and never comes out; what cannot be an endpoint is refused by its field.
#[test]
fn s37_an_endpoint_has_a_secret_and_never_shows_it() {
    let app = TestApp::new();
    let ann = app.account("Ann");
    let hook = json!({"account": ann, "name": "hook", "url": "https://hooks.example/x", "secret": SECRET});
    let made = app.post("/api/notice-endpoints", hook.clone());
    let id = made.text("/id").to_owned();
    assert!(!made.body.to_string().contains(SECRET), "{:#}", made.body);
    assert_eq!((made.text("/channel"), made.text("/language")), ("webhook", "en"));
    let with = |more: Value| {
        let mut body = hook.clone();
        body["name"] = json!("other");
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let without_secret = json!({"account": ann, "name": "other", "url": "https://hooks.example/x"});
    let refused = [
        (without_secret, "secret"),
        (with(json!({"secret": ""})), "secret"),
        (with(json!({"secret": "too-short"})), "secret"),
        (with(json!({"secret": "has blanks in it, many"})), "secret"),
        (with(json!({"url": "http://hooks.example/x"})), "url"),
        (with(json!({"address": "ann@example.com"})), "url"),
        (json!({"name": "other"}), "url"),
        (json!({"name": "other", "address": "nobody"}), "address"),
        (json!({"name": "other", "address": "ann@example.com", "secret": SECRET}), "secret"),
        (with(json!({"events": ["key_frozen", "key_frozen"]})), "events[1]"),
        (with(json!({"events": ["nonsense"]})), "events[0]"),
        (with(json!({"account": "acc_0000000000000"})), "account"),
    ];
    for (body, field) in refused {
        let answer = app.post("/api/notice-endpoints", body);
        answer.refused(400, "invalid_value");
        assert_eq!(answer.field(), field, "{:#}", answer.body);
    }
    app.post("/api/notice-endpoints", hook).refused(409, "already_exists");
    let path = format!("/api/notice-endpoints/{id}");
    let changed =
        app.patch(&path, json!({"language": "zh", "events": ["key_frozen"], "secret": "x".repeat(16)}));
    assert_eq!((changed.text("/language"), changed.text("/events/0")), ("zh", "key_frozen"));
    assert_eq!(app.patch(&path, json!({"address": "ann@example.com"})).field(), "address");
    assert_eq!(app.get(&path).ok(), changed.body);
    let audit = app.get("/api/audit?kind=notice_endpoint").ok();
    let secrets: Vec<_> = audit["data"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row["changes"].as_array().unwrap())
        .filter(|change| change["field"] == "secret")
        .map(|change| change["after"].clone())
        .collect();
    assert_eq!(secrets, ["hidden", "hidden"], "{audit:#}");
    let mail = app.post("/api/notice-endpoints", json!({"name": "ops", "address": "ops@example.com"})).ok();
    assert_eq!(
        (&mail["channel"], &mail["account"], &mail["url"]),
        (&json!("mail"), &Value::Null, &Value::Null)
    );
    let list = |query: &str| app.get(&format!("/api/notice-endpoints{query}")).ok()["data"].clone();
    assert_eq!(list("").as_array().unwrap().len(), 2);
    assert_eq!(list("?account=operator"), json!([mail]));
    assert_eq!(list(&format!("?account={ann}"))[0]["id"], id);
}

/// The notification centre and the delivery log, filtered, paged, in both languages, and still there after a restart.
#[test]
fn d4_notices_are_listed_with_their_deliveries_and_tried_again() {
    let mut app = TestApp::new();
    let (ann, bob) = (app.account("Ann"), app.account("Bob"));
    let url = "http://127.0.0.1:9/hook";
    let hook = json!({"account": ann, "name": "hook", "url": url, "secret": SECRET});
    let endpoint = app.post("/api/notice-endpoints", hook).text("/id").to_owned();
    let post = |app: &TestApp, notice: NewNotice| {
        app.clock.advance_ms(1);
        app.app().notices.post(notice).unwrap().to_string()
    };
    let account = ann.parse::<AccountId>().unwrap();
    let low = post(&app, low_balance(account));
    let freeze = post(&app, frozen(Some(account)));
    let bobs = post(&app, frozen(Some(bob.parse().unwrap())));
    let ids = |app: &TestApp, query: &str| -> Vec<String> {
        let page = app.get(&format!("/api/notices{query}")).ok();
        page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    app.restart();
    assert_eq!(ids(&app, ""), [bobs.clone(), freeze.clone(), low.clone()]);
    assert_eq!(ids(&app, &format!("?account={ann}")), [freeze.clone(), low.clone()]);
    assert_eq!(ids(&app, &format!("?account={ann}&event=low_balance")), [low.as_str()]);
    assert_eq!(ids(&app, "?account=operator"), [] as [String; 0]);
    let first = app.get("/api/notices?limit=2").ok();
    let rest = format!("?limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(ids(&app, &rest), [low.as_str()]);
    assert_eq!(app.get("/api/notices?event=nonsense").field(), "event");
    assert_eq!(app.get("/api/notices?state=nonsense").field(), "state");

    let path = format!("/api/notices/{low}");
    let shown = app.get(&path).ok();
    assert_eq!(shown["title"], "The balance is low: 1.5 USD");
    assert_eq!(shown["facts"], json!({"available": "1.5", "threshold": "5", "currency": "USD"}));
    assert_eq!(shown["deliveries"][0]["channel"], "in_app");
    assert_eq!(
        shown["deliveries"][1],
        json!({"channel": "webhook", "endpoint": endpoint, "target": url, "state": "pending", "attempts": 0,
               "next_at": shown["at"], "last_error": null, "delivered_at": null})
    );
    let sender = Sender::new(&Tls::new(None).unwrap(), &Mail::default()).unwrap();
    assert_eq!(app.app().notices.round(&sender).unwrap(), 2);
    assert_eq!(ids(&app, "?state=failed"), [freeze, low]);
    assert_eq!(app.get(&path).ok()["deliveries"][1]["attempts"], 1);
    let again = app.post(&format!("{path}/retry"), json!({})).ok();
    assert_eq!(
        (&again["deliveries"][1]["state"], &again["deliveries"][1]["attempts"]),
        (&json!("pending"), &json!(0))
    );
    app.post("/api/notices/ntc_0000000000000/retry", json!({})).refused(404, "not_found");
    app.get("/api/notices/nonsense").refused(404, "not_found");
}

/// What was posted before a crash is delivered by the next process, by itself, without anybody asking.
#[test]
fn d4_what_waits_when_a_gateway_dies_is_delivered_by_the_next_one() {
    let receiver = Receiver::start(vec![Then::Answer("200 OK")]);
    let mut demo = Demo::start();
    let account = demo.account("Ann", "1.00");
    let hook = json!({"account": account, "name": "hook", "url": receiver.url(), "secret": SECRET});
    demo.admin_post("/api/notice-endpoints", &hook);
    let told = frozen(Some(account.parse().unwrap()));
    let notice = demo.while_down(|app| app.notices.post(told).unwrap()).to_string();
    let request = receiver.next();
    assert_eq!(request.json()["id"], notice);
    let sent_at = request.header("tallygate-signature").split(['=', ',']).nth(1).unwrap().parse().unwrap();
    request.assert_signed(SECRET, sent_at);
    let path = format!("/api/notices/{notice}");
    wait_until("the delivery is written down", || demo.admin(&path)["deliveries"][1]["state"] == "delivered");
}

/// D4, E5: members have their own account's notices alone, amounts only where their role shows the balance; the
/// gateway's own machine is not theirs to call.
#[test]
fn e5_members_are_told_what_is_theirs() {
    let mut demo = Demo::start();
    let (account, stranger) = (demo.account("One", "1.00"), demo.account("Another", "1.00"));
    let token = |demo: &Demo, role: &str| {
        let body = json!({"account": account, "name": role, "role": role});
        let member = demo.admin_post("/api/members", &body)["id"].as_str().unwrap().to_owned();
        let issued = demo.admin_post(&format!("/api/members/{member}/token"), &json!({}));
        issued["token"].as_str().unwrap().to_owned()
    };
    let [owner, developer] = ["owner", "developer"].map(|role| token(&demo, role));
    let (own, other) = (account.parse::<AccountId>().unwrap(), stranger.parse().unwrap());
    let posted = demo.while_down(|app| {
        let told = [frozen(Some(own)), low_balance(own), frozen(Some(other)), frozen(None)];
        told.map(|notice| app.notices.post(notice).unwrap().to_string())
    });
    let [freeze, low, others, operators] = &posted;
    let status =
        |token: &str, id: &str| demo.ask(&Ask::get(format!("/api/notices/{id}")).bearer(token)).head.status;
    let listed = |token: &str| {
        let page = demo.ask(&Ask::get("/api/notices").bearer(token)).ok();
        let rows = page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned());
        let mut ids: Vec<_> = rows.collect();
        ids.sort_unstable();
        ids
    };
    let mut both = vec![freeze.clone(), low.clone()];
    both.sort_unstable();
    assert_eq!(listed(&owner), both);
    assert_eq!(listed(&developer), std::slice::from_ref(freeze));
    assert_eq!([freeze, low, others, operators].map(|id| status(&owner, id)), [200, 200, 404, 404]);
    assert_eq!([freeze, low, others, operators].map(|id| status(&developer, id)), [200, 404, 404, 404]);
    assert_eq!(demo.ask(&Ask::get("/api/notices?account=operator").bearer(&owner)).head.status, 404);

    let hook = |url: &str| json!({"name": url, "url": url, "secret": SECRET});
    let make = |url: &str| demo.ask(&Ask::post("/api/notice-endpoints", &hook(url)).bearer(&owner));
    let made = make("https://hooks.example/x").ok();
    assert_eq!(made["account"], account);
    assert_eq!(made["by_member"], true);
    let path = format!("/api/notice-endpoints/{}", made["id"].as_str().unwrap());
    let patch = |token: &str, url: &str| {
        let body = json!({"url": url}).to_string();
        demo.ask(&Ask::new("PATCH", path.clone()).raw_body(body).bearer(token))
    };
    for url in [
        "http://127.0.0.1:8080/x",
        "http://localhost/x",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://localhost/",
    ] {
        for reply in [make(url), patch(&owner, url)] {
            assert_eq!(reply.json()["error"]["code"], "role_forbidden", "{url}: {}", reply.text());
        }
    }
    // An operator knows the house; what a member changes afterwards is the member's again.
    assert_eq!(patch(&demo.admin_token(), "https://10.0.0.1/").ok()["by_member"], false);
    assert_eq!(patch(&owner, "https://hooks.example/y").ok()["by_member"], true);
}
