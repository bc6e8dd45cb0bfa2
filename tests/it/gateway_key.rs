//! Rung 3 over real sockets: a key's status, end, hours and addresses; each refusal says what to do, and a
//! refused key may still ask why.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::gateway::{Expected, assert_refused};
use crate::support::demo::{Demo, wait_until};
use crate::support::http::Ask;

const MODEL: &str = "gpt-5-mini";

const fn forbidden(code: &'static str) -> Expected {
    (code, 403, "key", "account", false)
}

struct Scene {
    demo: Demo,
    id: String,
    key: String,
}

impl Scene {
    fn new() -> Self {
        let demo = Demo::start();
        let account = demo.account("Key states", "1.00");
        let made = demo.admin_post("/api/keys", &json!({"account": account, "name": "one"}));
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Scene { id: text("id"), key: text("key"), demo }
    }

    fn change(&self, body: &Value) -> Value {
        let ask = Ask::new("PATCH", format!("/api/keys/{}", self.id)).raw_body(body.to_string());
        self.demo.ask(&ask.bearer(&self.demo.admin_token())).json()
    }

    #[track_caller]
    fn refused(&self, code: &'static str) -> String {
        let reply = self.demo.chat(&self.key, MODEL, "Hello");
        let body = assert_refused(&self.demo, &reply, forbidden(code));
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// D1, D4: a status is in force with the next call, says since when and by whom, and ends by itself if it was
/// set so.
#[test]
fn d1_a_status_is_in_force_at_once_and_can_end_by_itself() {
    let scene = Scene::new();
    scene.demo.chat(&scene.key, MODEL, "Hello").ok();
    scene.change(&json!({"status": "risk_frozen", "status_reason": "leaked_key"}));
    let message = scene.refused("key_risk_frozen");
    assert!(message.contains("leaked_key"), "{message}");
    scene.change(&json!({"status": "disabled", "status_text": "holidays"}));
    assert!(scene.refused("key_disabled").contains("operator"));
    scene.change(&json!({"status": "pending_review", "status_until": "2020-01-01T00:00:00Z"}));
    scene.demo.chat(&scene.key, MODEL, "Hello").ok();
    scene.change(&json!({"status": "disabled"}));
    scene.change(&json!({"status": "enabled"}));
    scene.demo.chat(&scene.key, MODEL, "Hello").ok();
}

/// Self-service passes rungs 1 and 2 alone: a frozen key may ask why, and see what it has.
#[test]
fn a_frozen_key_may_still_ask_why() {
    let scene = Scene::new();
    scene.change(&json!({"status": "risk_frozen", "status_reason": "cross_region"}));
    let reply = scene.demo.chat(&scene.key, MODEL, "Hello");
    let id = reply.head.request_id();
    let why = scene.demo.own(&scene.key, &format!("/v1/requests/{id}/why"));
    assert_eq!(why["refusal"]["code"], "key_risk_frozen");
    let rung = |number: u64| why["ladder"].as_array().unwrap().iter().find(|rung| rung["rung"] == number);
    assert_eq!(rung(3).unwrap()["state"], "fail");
    assert_eq!(rung(13).unwrap()["state"], "not_reached");
    assert_eq!(scene.demo.own(&scene.key, "/v1/key")["status"], "risk_frozen");
}

/// D8: the end, the hours and the addresses of a key.
#[test]
fn d8_a_key_has_an_end_hours_and_addresses() {
    let scene = Scene::new();
    scene.change(&json!({"expires_at": "2020-01-01T00:00:00Z"}));
    assert!(scene.refused("key_expired").contains("2020-01-01"));
    scene
        .change(&json!({"expires_at": "2999-01-01T00:00:00Z", "schedule": {"from": "2998-01-01T00:00:00Z"}}));
    assert!(scene.refused("key_outside_schedule").contains("2998-01-01"));
    scene.change(&json!({"schedule": {"until": "2020-01-01T00:00:00Z"}}));
    assert!(scene.refused("key_outside_schedule").contains("never again"));
    scene.change(&json!({"schedule": null, "ip_ranges": ["192.0.2.0/24", "2001:db8::/32"]}));
    assert!(scene.refused("key_ip_not_allowed").contains("127.0.0.1"));
    scene.change(&json!({"ip_ranges": ["127.0.0.0/8"]}));
    scene.demo.chat(&scene.key, MODEL, "Hello").ok();
    // Written as IPv6, it is the same range.
    let shown = scene.change(&json!({"ip_ranges": ["::ffff:10.0.0.0/104"]}));
    assert_eq!(shown["ip_ranges"], json!(["10.0.0.0/8"]));
    assert!(scene.refused("key_ip_not_allowed").contains("127.0.0.1"));
    scene.change(&json!({"ip_ranges": ["::ffff:127.0.0.0/104"]}));
    scene.demo.chat(&scene.key, MODEL, "Hello").ok();
}

/// S25: what cannot be meant is refused at save, with its place.
#[test]
fn s25_what_a_key_cannot_mean_is_refused_with_its_place() {
    let scene = Scene::new();
    let cases = [
        (json!({"ip_ranges": ["10.0.0.0/8", "10.0.0.0/33"]}), "ip_ranges[1]"),
        (json!({"ip_ranges": ["10.0.0.1/8"]}), "ip_ranges[0]"),
        (json!({"ip_ranges": ["10.0.0.0/8", "::ffff:10.0.0.0/104"]}), "ip_ranges[1]"),
        (json!({"ip_ranges": ["::ffff:0.0.0.0/90"]}), "ip_ranges[0]"),
        (json!({"schedule": {"time_zone": "Mars/Olympus"}}), "schedule.time_zone"),
        (json!({"schedule": {"weekly": [{"days": ["mon"], "from": "9", "until": "18:00"}]}}), "schedule"),
        (json!({"status_reason": "leaked_key"}), "status_reason"),
        (json!({"status": "enabled", "status_until": "2030-01-01T00:00:00Z"}), "status_until"),
    ];
    for (body, field) in cases {
        let error = &scene.change(&body)["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("invalid_value"), &json!(field)), "{error:#}");
    }
    scene.change(&json!({"status": "revoked"}));
    assert_eq!(scene.change(&json!({"status": "enabled"}))["error"]["param"], "status");
}

/// An upstream whose stream never ends by itself: a word every 50 ms, until nobody reads it or a minute is over.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut request = [0; 8192];
        let _head = stream.read(&mut request);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let word = r#"data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word "}}]}"#;
        let mut written = stream.write_all(head.as_bytes());
        for _ in 0..1_200 {
            if written.is_err() {
                return;
            }
            written = stream.write_all(format!("{word}\n\n").as_bytes());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    url
}

/// D4: a frozen key ends its running streams, settled for what was delivered, and says why in the stream.
#[test]
fn d4_a_frozen_key_ends_its_running_streams() {
    let scene = Scene::new();
    let group = scene.demo.admin_post("/api/groups", &json!({"name": "endless"}))["id"].clone();
    let channel = json!({
        "name": "endless", "base_url": endless(), "credential": "none", "models": {MODEL: MODEL}, "groups": [group],
        "priority": 9,
    });
    scene.demo.admin_post("/api/channels", &channel);
    scene.change(&json!({"group": group}));
    let mut stream = scene.demo.connect();
    stream.send(&Ask::chat_with(&scene.key, MODEL, "Hello", json!({"stream": true}))).unwrap();
    let request = stream.head().unwrap().request_id().to_owned();
    (0..4).for_each(|_| drop(stream.event().unwrap().unwrap()));
    scene.change(&json!({"status": "risk_frozen", "status_reason": "leaked_key"}));
    // The upstream goes on for a minute: only the gateway can end this.
    let mut last = Value::Null;
    while let Some(event) = stream.event().unwrap() {
        last = serde_json::from_str(&event).unwrap();
    }
    assert_eq!(last["error"]["code"], "key_risk_frozen", "{last:#}");
    let row = scene.demo.row(&request);
    assert_eq!((&row["ending"], &row["charge_state"]), (&json!("key_stopped"), &json!("settled")), "{row:#}");
    assert_eq!(last["error"]["charged"], row["charge"]);
}

/// D4: a disabled key lets its running streams come to their end.
#[test]
fn d4_a_disabled_key_lets_running_streams_end() {
    let scene = Scene::new();
    let mut stream = scene.demo.connect();
    stream.send(&Ask::chat_with(&scene.key, "demo-slow", "Hello", json!({"stream": true}))).unwrap();
    let request = stream.head().unwrap().request_id().to_owned();
    stream.event().unwrap().unwrap();
    scene.change(&json!({"status": "disabled"}));
    while stream.event().unwrap().is_some() {}
    assert_eq!(scene.demo.row(&request)["ending"], "complete");
}

/// D6, C3, S29: a rotated key has a new text; each old one works to the end of its own overlap, whatever is rotated
/// behind it, and is then refused as revoked.
#[test]
fn d6_a_rotation_has_an_overlap() {
    let scene = Scene::new();
    let path = format!("/api/keys/{}/rotate", scene.id);
    let rotate = |overlap: u32| scene.demo.admin_post(&path, &json!({"overlap_seconds": overlap}));
    let second = rotate(600);
    let text = second["key"].as_str().unwrap().to_owned();
    assert_ne!(text, scene.key);
    assert_eq!(second["id"], json!(scene.id));
    scene.demo.chat(&scene.key, MODEL, "Hello").ok();
    scene.demo.chat(&text, MODEL, "Hello").ok();
    let third = rotate(0)["key"].as_str().unwrap().to_owned();
    let revoked = ("key_revoked", 401, "key", "account", false);
    assert_refused(&scene.demo, &scene.demo.chat(&text, MODEL, "Hello"), revoked);
    // Its overlap was promised for longer.
    scene.demo.chat(&scene.key, MODEL, "Hello").ok();
    scene.demo.chat(&third, MODEL, "Hello").ok();
    let shown = scene.demo.admin(&format!("/api/keys/{}", scene.id));
    assert_eq!(shown["previous"].as_array().unwrap().len(), 2, "{shown:#}");
    assert!(shown["previous"][0]["until"].as_str() < shown["previous"][1]["until"].as_str(), "{shown:#}");
    let body = json!({"overlap_seconds": 600, "end_older": true});
    let fourth = scene.demo.admin_post(&path, &body)["key"].as_str().unwrap().to_owned();
    for ended in [&scene.key, &text] {
        assert_refused(&scene.demo, &scene.demo.chat(ended, MODEL, "Hello"), revoked);
    }
    for works in [&third, &fourth] {
        scene.demo.chat(works, MODEL, "Hello").ok();
    }
}

/// D2: the operation log of a key has every change with time, actor, from → to and reason.
#[test]
fn d2_a_key_keeps_a_log_of_what_happened_to_it() {
    let scene = Scene::new();
    scene.change(
        &json!({"status": "risk_frozen", "status_reason": "high_frequency", "status_text": "99 a second"}),
    );
    scene.change(&json!({"status": "enabled", "status_reason": "appeal_approved"}));
    scene.change(&json!({"name": "renamed", "limits": [{"window": "day", "value": "1"}]}));
    let log = scene.demo.admin(&format!("/api/keys/{}/log", scene.id));
    let rows = log["data"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let changed: Vec<_> =
        rows[0]["changes"].as_array().unwrap().iter().map(|change| &change["field"]).collect();
    assert_eq!(changed, [&json!("name"), &json!("limits")]);
    assert_eq!((&rows[0]["from"], &rows[0]["actor"]), (&Value::Null, &json!("admin token")), "{log:#}");
    let status = |row: &Value| json!([row["from"], row["to"], row["reason"], row["text"]]);
    assert_eq!(status(&rows[1]), json!(["risk_frozen", "enabled", "appeal_approved", null]));
    assert_eq!(status(&rows[2]), json!(["enabled", "risk_frozen", "high_frequency", "99 a second"]));
    assert!(!log.to_string().contains(&scene.key));
}

/// D3: a risk rule freezes a key by itself, with the evidence kept; its owner appeals, and an approval enables it again,
/// all in its log.
#[test]
fn d3_a_risk_rule_freezes_and_an_appeal_lifts_it() {
    let demo = Demo::start_with(&[("TALLYGATE_RISK__CALLS_PER_MINUTE_MAX", "20")]);
    let account = demo.account("Risk", "1.00");
    let made = demo.admin_post("/api/keys", &json!({"account": account, "name": "one"}));
    let (id, key) = (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
    let owner = demo.admin_post("/api/members", &json!({"account": account, "name": "o", "role": "owner"}));
    let token = demo.admin_post(&format!("/api/members/{}/token", owner["id"].as_str().unwrap()), &json!({}));
    let token = token["token"].as_str().unwrap().to_owned();
    let as_owner = |path: &str, body: &Value| demo.ask(&Ask::post(path, body).bearer(&token));
    let early = as_owner("/api/appeals", &json!({"key": id, "statement": "Nothing is wrong yet"}));
    assert_eq!(early.json()["error"]["param"], "key");
    wait_until("the rule freezes the key", || demo.chat(&key, MODEL, "Hello").head.status == 403);
    let refused = demo.chat(&key, MODEL, "Hello");
    let body = assert_refused(&demo, &refused, forbidden("key_risk_frozen"));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("high_frequency"), "{message}");
    let note = &demo.admin(&format!("/api/keys/{id}"))["status_note"];
    assert_eq!(
        (&note["origin"], &note["evidence"]["allowed"]),
        (&json!("risk_policy"), &json!(20)),
        "{note:#}"
    );
    let appeal = as_owner("/api/appeals", &json!({"key": id, "statement": "It was a load test"})).ok();
    let path = format!("/api/appeals/{}/decision", appeal["id"].as_str().unwrap());
    assert_eq!(as_owner(&path, &json!({"state": "approved", "reason": "me"})).head.status, 403);
    let again = as_owner("/api/appeals", &json!({"key": id, "statement": "And again"}));
    assert_eq!(again.json()["error"]["param"], "key");
    demo.admin_post(&path, &json!({"state": "in_review"}));
    let without = demo.ask(&Ask::post(&path, &json!({"state": "approved"})).bearer(&demo.admin_token()));
    assert_eq!(without.json()["error"]["param"], "reason");
    let decided = demo.admin_post(&path, &json!({"state": "approved", "reason": "A load test it was"}));
    assert_eq!((&decided["state"], &decided["decision"]["by"]), (&json!("approved"), &json!("admin token")));
    demo.chat(&key, MODEL, "Hello").ok();
    let log = demo.admin(&format!("/api/keys/{id}/log"));
    let told: Vec<_> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["actor"], row["to"], row["reason"]]))
        .collect();
    assert_eq!(told[0], json!(["admin token", "enabled", "appeal_approved"]));
    assert_eq!(told[1], json!(["risk policy", "risk_frozen", "high_frequency"]));
    let final_state = demo
        .ask(&Ask::post(&path, &json!({"state": "rejected", "reason": "no"})).bearer(&demo.admin_token()));
    assert_eq!(final_state.json()["error"]["param"], "state");
}

/// D3: keys that were found where they do not belong are frozen, with the place as evidence; other texts are told apart.
#[test]
fn d3_leaked_keys_are_frozen() {
    let scene = Scene::new();
    let texts = json!([scene.key, "sk-somebody-elses-key-0123456789"]);
    let report = json!({"keys": texts, "source": "https://example.com/paste/1"});
    let told = scene.demo.admin_post("/api/keys/leaked", &report);
    let rows = &told["data"];
    assert_eq!((&rows[0]["key"], &rows[0]["frozen"]), (&json!(scene.id), &json!(true)), "{told:#}");
    assert_eq!((&rows[1]["key"], &rows[1]["frozen"]), (&Value::Null, &json!(false)));
    assert!(!told.to_string().contains(&scene.key) && !scene.demo.log().contains(&scene.key));
    scene.refused("key_risk_frozen");
    let note = &scene.demo.admin(&format!("/api/keys/{}", scene.id))["status_note"];
    assert_eq!(
        (&note["reason"], &note["evidence"]["source"]),
        (&json!("leaked_key"), &report["source"]),
        "{note:#}"
    );
    let again = scene.demo.admin_post("/api/keys/leaked", &report);
    assert_eq!(again["data"][0]["frozen"], false);
}

/// D6, H3: a client that is a page asks first, and may read whatever is answered; the management interface opens to none.
#[test]
fn d6_a_page_may_call_and_read_the_answer() {
    let scene = Scene::new();
    let page = |ask: Ask| scene.demo.ask(&ask.header("origin", "https://chat.example"));
    let asks = |path: &str| {
        Ask::new("OPTIONS", path)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-stainless-os")
    };
    for path in [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1beta/models/gemini-2.5-flash:generateContent",
        "/v1/models",
    ] {
        let reply = page(asks(path));
        assert_eq!((reply.head.status, &*reply.text()), (204, ""), "{path}");
        assert_eq!(reply.head.header("access-control-allow-origin"), Some("*"));
        let names = reply.head.header("access-control-allow-headers");
        assert_eq!(names, Some("authorization,content-type,x-stainless-os"));
        assert!(reply.head.header("access-control-allow-methods").unwrap().contains("POST"));
        assert_eq!(reply.head.header("access-control-allow-credentials"), None);
    }
    // Whole, streamed, refused, and what a key may ask about itself.
    let streamed = Ask::chat_with(&scene.key, MODEL, "Hello", json!({"stream": true}));
    for (ask, status) in [
        (Ask::chat(&scene.key, MODEL, "Hello"), 200),
        (streamed, 200),
        (Ask::chat("sk-nobodys", MODEL, "Hello"), 401),
        (Ask::get("/v1/key").bearer(&scene.key), 200),
    ] {
        let reply = page(ask);
        assert_eq!(reply.head.status, status, "{}", reply.text());
        assert_eq!(reply.head.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.head.header("access-control-expose-headers"), Some("*"));
    }
    for closed in [page(asks("/api/keys")), page(Ask::get("/api/keys")), page(asks("/"))] {
        assert_eq!(closed.head.header("access-control-allow-origin"), None);
    }
    let program = scene.demo.ask(&Ask::chat(&scene.key, MODEL, "Hello"));
    assert_eq!(program.head.header("access-control-allow-origin"), None);
    assert_eq!(scene.demo.ask(&asks("/v1/chat/completions")).head.status, 405);
}

/// D6: a live key that a browser sends is warned about; a test key is not.
#[test]
fn d6_a_live_key_in_a_page_is_warned_about() {
    let scene = Scene::new();
    let from_page = |key: &str| {
        let reply = scene.demo.ask(&Ask::chat(key, MODEL, "Hello").header("origin", "https://shop.example"));
        scene.demo.own(key, &format!("/v1/requests/{}/why", reply.head.request_id()))
    };
    let why = from_page(&scene.key);
    assert!(why["warnings"][0].as_str().unwrap().contains("https://shop.example"), "{why:#}");
    assert_eq!(why["verdict"], "admitted");
    from_page(&scene.key);
    let told =
        || scene.demo.admin("/api/notices?event=live_key_from_browser")["data"].as_array().unwrap().clone();
    wait_until("the notice is there", || told().len() == 1);
    assert_eq!(
        (&told()[0]["subject"], &told()[0]["facts"]["origin"]),
        (&json!(scene.id), &json!("https://shop.example"))
    );
    // J5: the notices of the last days, or since any moment.
    for (from, count) in [("2020-01-01T00:00:00Z", 1), ("2999-01-01T00:00:00Z", 0)] {
        let page = scene.demo.admin(&format!("/api/notices?event=live_key_from_browser&from={from}"));
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{from}");
    }
    for (query, count) in [("category=keys&days=7", 1), ("category=money&days=7", 0)] {
        let page = scene.demo.admin(&format!("/api/notices?event=live_key_from_browser&{query}"));
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(from_page(&scene.demo.key("test_env"))["warnings"], json!([]));
}
