//! Announcements (系统公告): what the operator tells everybody, or one account.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::demo::Demo;
use crate::support::http::Ask;

fn words(en: &str) -> Value {
    json!({"en": en, "zh": "公告"})
}

fn announcement(category: &str, title: &str) -> Value {
    json!({"category": category, "title": words(title), "text": words("Read this.")})
}

fn titles(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|row| row["title"]["en"].as_str().unwrap()).collect()
}

/// J5: the centre shows announcements by category and by the last seven days, the newest first.
#[test]
fn j5_announcements_are_listed_by_category_and_age() {
    let app = TestApp::new();
    let announced = |category: &str, title: &str, days_ago: i64| {
        let at_ms = app.app().clock.now_ms() - days_ago * 86_400_000;
        let mut body = announcement(category, title);
        body["published_at"] = json!(jiff::Timestamp::from_millisecond(at_ms).unwrap());
        app.post("/api/announcements", body)
    };
    let old = announced("pricing", "Cheaper", 8);
    announced("maintenance", "Works", 1);
    announced("pricing", "Dearer", 0);
    assert_eq!(titles(&app.get("/api/announcements").ok()), ["Dearer", "Works", "Cheaper"]);
    assert_eq!(titles(&app.get("/api/announcements?days=7").ok()), ["Dearer", "Works"]);
    assert_eq!(titles(&app.get("/api/announcements?days=9&category=pricing").ok()), ["Dearer", "Cheaper"]);
    let first = app.get("/api/announcements?limit=2").ok();
    let next = format!("/api/announcements?limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(titles(&app.get(&next).ok()), ["Cheaper"]);
    for (query, field) in [("days=0", "days"), ("days=367", "days"), ("category=gossip", "category")] {
        assert_eq!(app.get(&format!("/api/announcements?{query}")).field(), field);
    }
    for (field, value) in
        [("title", json!({"en": "", "zh": "公告"})), ("text", json!({"en": "x", "zh": " "}))]
    {
        let mut body = announcement("general", "One");
        body[field] = value;
        assert!(app.post("/api/announcements", body).field().starts_with(field));
    }
    let path = format!("/api/announcements/{}", old.text("/id"));
    let withdrawn = app.patch(&path, json!({"withdrawn": true}));
    assert_eq!(withdrawn.ok()["withdrawn"], true);
}

/// J5: an announcement of a changed policy links the change and the keys that it affects; each member sees its own
/// account's keys alone, and nothing before it is published or after it is taken back.
#[test]
fn j5_an_announcement_links_the_policy_change_and_the_affected_keys() {
    let demo = Demo::start();
    let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
    let document =
        json!({"Version": "2026-11-01", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let policy = id(&demo.admin_post("/api/policies", &json!({"name": "all", "document": document})));
    let admin = demo.admin_token();
    let patch = |path: &str, body: Value| {
        demo.ask(&Ask::new("PATCH", path.to_owned()).raw_body(body.to_string()).bearer(&admin)).ok()
    };
    let member = |name: &str| {
        let account = demo.account(name, "1.00");
        let body = json!({"account": account, "name": "viewer", "role": "viewer"});
        let member = id(&demo.admin_post("/api/members", &body));
        let token = demo.admin_post(&format!("/api/members/{member}/token"), &json!({}));
        let key = |policies: Value| {
            id(&demo.admin_post("/api/keys", &json!({"account": account, "name": "k", "policies": policies})))
        };
        (token["token"].as_str().unwrap().to_owned(), key(json!([policy])), key(json!([])))
    };
    let (ann, ann_key, _) = member("Ann");
    let (bob, bob_key, _) = member("Bob");
    let changed = patch(&format!("/api/policies/{policy}"), json!({"name": "nearly all"}));
    let mut body = announcement("policy_change", "Policy");
    body["policy"] = json!(policy);
    let made = demo.admin_post("/api/announcements", &body);
    assert_eq!(made["change"]["policy"], json!(policy));
    assert_eq!(made["change"]["version"], changed["version"]);
    let audit = demo.admin(&format!("/api/audit?kind=policy&object={policy}"));
    assert_eq!(audit["data"][0]["version"], made["change"]["version"]);
    let keys = |token: &str| {
        let reply = demo.ask(&Ask::get(made["change"]["keys_url"].as_str().unwrap()).bearer(token)).ok();
        reply["data"].as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!((keys(&ann), keys(&bob)), (vec![ann_key.clone()], vec![bob_key.clone()]));
    let mut all = vec![ann_key, bob_key];
    all.sort();
    let mut told = keys(&admin);
    told.sort();
    assert_eq!(told, all);
    let path = format!("/api/announcements/{}", id(&made));
    let status = |token: &str| demo.ask(&Ask::get(&path).bearer(token)).head.status;
    patch(&path, json!({"published_at": "2099-01-01T00:00:00Z"}));
    assert_eq!((status(&ann), status(&admin)), (404, 200));
    patch(&path, json!({"published_at": "2026-01-01T00:00:00Z"}));
    assert_eq!(status(&ann), 200);
    patch(&path, json!({"withdrawn": true}));
    assert_eq!((status(&ann), status(&admin)), (404, 200));
}
