//! The management interface and self-service, over the router as the server runs it.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::support::app::{ADMIN_TOKEN, NOW_MS, TestApp};

#[test]
fn nobody_without_the_token_manages_anything() {
    let app = TestApp::new();
    app.get_bare("/api/accounts").refused(401, "sign_in_required");
    app.get_as("another-token-altogether", "/api/accounts").refused(401, "sign_in_required");
    assert_eq!(app.get("/api/accounts").status, 200);
    assert_eq!(app.get_on_socket("/api/accounts").status, 200);
    let account = app.account("one");
    let (_, key) = app.key(&account, json!({}));
    app.get_as(&key, "/api/accounts").refused(401, "sign_in_required");
}

#[test]
fn every_management_route_asks_who_calls() {
    let app = TestApp::new();
    for route in tallygate::api::routes() {
        let path = route.path.replace("{id}", "acc_0000000000000");
        let request =
            Request::builder().method(route.method.as_str()).uri(&path).body(Body::empty()).unwrap();
        let answer = app.send(request);
        assert_eq!(answer.status, 401, "{} {path}: {:#}", route.method.as_str(), answer.body);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
}

#[test]
fn accounts_are_made_changed_and_listed() {
    let app = TestApp::new();
    let made = app.post("/api/accounts", json!({"name": "Ann", "email": "ann@example.com"}));
    assert_eq!(made.status, 201);
    let id = made.text("/id").to_owned();
    assert_eq!(made.text("/time_zone"), "UTC");
    let changed = app.patch(&format!("/api/accounts/{id}"), json!({"remark": "good payer"}));
    assert_eq!(changed.text("/remark"), "good payer");
    assert_eq!(app.get(&format!("/api/accounts/{id}")).ok(), changed.body);
    let found = app.get("/api/accounts?email=ANN%40example.com").ok();
    assert_eq!(found["data"][0]["id"], id);
    app.post("/api/accounts", json!({"name": "Anna", "email": "Ann@Example.com"}))
        .refused(409, "already_exists");
    app.patch(&format!("/api/accounts/{id}"), json!({"email": null})).ok();
    app.post("/api/accounts", json!({"name": "Anna", "email": "Ann@Example.com"})).ok();
}

/// D3: a decision says why, in words.
#[test]
fn d3_a_decision_without_a_reason_is_refused() {
    let app = TestApp::new();
    let (key, _) = app.key(&app.account("Ann"), json!({}));
    app.patch(&format!("/api/keys/{key}"), json!({"status": "risk_frozen"})).ok();
    let appeal = app.post("/api/appeals", json!({"key": key, "statement": "It was a test."}));
    let path = format!("/api/appeals/{}", appeal.text("/id"));
    let decision = format!("{path}/decision");
    for state in ["approved", "rejected"] {
        for reason in ["", "  ", "\n\u{3000}"] {
            let answer = app.post(&decision, json!({"state": state, "reason": reason}));
            answer.refused(400, "invalid_value");
            assert_eq!(answer.field(), "reason");
        }
        assert_eq!(app.post(&decision, json!({"state": state})).field(), "reason");
    }
    assert_eq!(app.get(&path).text("/state"), "submitted");
    assert_eq!(app.get(&format!("/api/keys/{key}")).text("/status"), "risk_frozen");
    app.post(&decision, json!({"state": "approved", "reason": " A test, indeed. "})).ok();
    assert_eq!(app.get(&path).text("/decision/reason"), "A test, indeed.");
    assert_eq!(app.get(&format!("/api/keys/{key}")).text("/status_note/text"), "A test, indeed.");
}

/// D8, C6: a change of an account's zone says that its windows begin anew; what changes nothing says nothing.
#[test]
fn d8_a_new_zone_says_that_windows_begin_anew() {
    let app = TestApp::new();
    let (account, model) = (app.account("Ann"), "m");
    app.model(model);
    app.credit(&account, "10");
    let (id, _) = app.key(&account, json!({"limits": [{"window": "day", "value": "1"}]}));
    app.call(&id, model, (100, 100));
    let used = || app.get(&format!("/api/keys/{id}")).text("/limits/0/used").to_owned();
    assert_eq!(used(), "0.0003");
    let path = format!("/api/accounts/{account}");
    let same = app.patch(&path, json!({"time_zone": "UTC"})).ok();
    assert_eq!((&same["notices"], &*used()), (&json!(null), "0.0003"));
    let moved = app.patch(&path, json!({"time_zone": "Asia/Shanghai"}));
    assert_eq!(moved.text("/notices/0/code"), "windows_begin_anew");
    assert_eq!(moved.text("/notices/0/field"), "time_zone");
    assert_eq!(used(), "0", "the day of the new zone began at another moment");
    assert!(app.get(&path).ok()["notices"].is_null());
}

#[test]
fn lists_are_paged_by_cursor() {
    let app = TestApp::new();
    let ids: Vec<_> = (0..5).map(|n| app.account(&format!("account {n}"))).collect();
    let mut seen = Vec::new();
    let mut path = "/api/accounts?limit=2".to_owned();
    loop {
        let page = app.get(&path).ok();
        seen.extend(
            page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/accounts?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    seen.sort();
    let mut expected = ids;
    expected.sort();
    assert_eq!(seen, expected);
}

/// S25: a misspelt or retired field is named, never passed over.
#[test]
fn s25_a_field_that_is_not_known_is_refused_by_name() {
    let app = TestApp::new();
    let account = app.account("one");
    let cases = [
        ("/api/accounts", json!({"name": "x", "budget": "5"}), "budget"),
        ("/api/keys", json!({"account": account, "name": "x", "limit": []}), "limit"),
        (
            "/api/keys",
            json!({"account": account, "name": "x", "limits": [{"window": "day", "value": "5", "budgets": 1}]}),
            "limits[0].budgets",
        ),
        (
            "/api/prices",
            json!({"model": "m", "per_million": {"input": "1", "outputs": "1"}}),
            "per_million.outputs",
        ),
    ];
    for (path, body, field) in cases {
        let answer = app.post(path, body);
        answer.refused(400, "unknown_field");
        assert_eq!(answer.field(), field);
        assert!(answer.text("/error/message").contains(field), "{:#}", answer.body);
    }
    let answer = app.get("/api/accounts?mail=x");
    answer.refused(400, "unknown_field");
    assert_eq!(answer.field(), "mail");
}

/// S25: what cannot be enforced is refused when it is set, with the field named.
#[test]
fn s25_a_value_that_cannot_be_is_refused_by_its_field() {
    let app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    let key = |limits: serde_json::Value| json!({"account": account, "name": "k", "limits": limits});
    let channel = |field: &str, value: serde_json::Value| {
        let mut body =
            json!({"name": "c", "base_url": "http://h/v1", "credential": "x", "models": {"m": "m"}});
        body[field] = value;
        body
    };
    let price = |field: &str, value: serde_json::Value| {
        let mut body = json!({"model": "m", "per_million": {"input": "1", "output": "1"}});
        body[field] = value;
        body
    };
    let cases = [
        ("/api/accounts", json!({"name": ""}), "name"),
        ("/api/accounts", json!({"name": "x", "email": "nobody"}), "email"),
        ("/api/accounts", json!({"name": "x", "time_zone": "Mars/Olympus"}), "time_zone"),
        ("/api/accounts", json!({"name": "x", "overdraft": "-1"}), "overdraft"),
        ("/api/accounts", json!({"name": "x", "overdraft": 5}), "overdraft"),
        ("/api/accounts", json!({"name": "x", "overdraft": "0.0000000001"}), "overdraft"),
        ("/api/accounts", json!({"name": "x", "kind": "company"}), "kind"),
        ("/api/keys", key(json!([{"window": "day", "value": "-0.01"}])), "limits[0].value"),
        ("/api/keys", key(json!([{"window": "week", "value": "1"}])), "limits[0].window"),
        (
            "/api/keys",
            key(json!([{"window": "day", "value": "1"}, {"window": "day", "value": "2"}])),
            "limits[1].window",
        ),
        ("/api/keys", json!({"account": "acc_0000000000000", "name": "k"}), "account"),
        ("/api/keys", json!({"account": account, "name": "k", "import": "short"}), "import"),
        ("/api/models", json!({"name": "a model"}), "name"),
        ("/api/models", json!({"name": "x", "output_tokens_max": 0}), "output_tokens_max"),
        ("/api/prices", price("model", json!("unknown")), "model"),
        ("/api/prices", price("effective_at", json!("2020-01-01T00:00:00Z")), "effective_at"),
        ("/api/prices", price("per_million", json!({"input": "1"})), "per_million.output"),
        ("/api/prices", price("per_million", json!({"input": "-1", "output": "1"})), "per_million.input"),
        ("/api/channels", channel("base_url", json!("ftp://h/v1")), "base_url"),
        ("/api/channels", channel("base_url", json!("https://user:pass@h/v1")), "base_url"),
        ("/api/channels", channel("models", json!({"none": "none"})), "models.none"),
        ("/api/channels", channel("environments", json!(["live", "prod"])), "environments[1]"),
        ("/api/groups", json!({"name": "g", "multiplier": "1.0000001"}), "multiplier"),
    ];
    for (path, body, field) in cases {
        let answer = app.post(path, body.clone());
        answer.refused(400, "invalid_value");
        assert_eq!(answer.field(), field, "{path} {body}");
    }
}

#[test]
fn bad_bodies_and_addresses_get_a_code_of_the_catalogue() {
    let app = TestApp::new();
    let post = |body: Vec<u8>| {
        let request = Request::builder().method("POST").uri("/api/accounts");
        app.send(
            request.header("authorization", format!("Bearer {ADMIN_TOKEN}")).body(Body::from(body)).unwrap(),
        )
    };
    post(b"{\"name\": ".to_vec()).refused(400, "invalid_json");
    post(b"{\"name\": \"\xff\"}".to_vec()).refused(400, "invalid_json");
    post(b"[]".to_vec()).refused(400, "invalid_value");
    post(vec![b' '; (1 << 20) + 1]).refused(413, "body_too_large");
    app.get("/api/nothing").refused(404, "unknown_endpoint");
    app.get("/api/accounts/acc_zzz").refused(404, "not_found");
    app.post("/openapi.json", json!({})).refused(405, "method_not_allowed");
    let answer = app.post("/api/requests", json!({}));
    answer.refused(405, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "GET");
}

#[test]
fn two_editors_of_one_object_do_not_overwrite_each_other() {
    let app = TestApp::new();
    let made = app.post("/api/accounts", json!({"name": "one"}));
    let (id, version) = (made.text("/id").to_owned(), made.body["version"].as_u64().unwrap());
    let path = format!("/api/accounts/{id}");
    app.patch(&path, json!({"remark": "first", "version": version})).ok();
    let second = app.patch(&path, json!({"remark": "second", "version": version}));
    second.refused(409, "edit_conflict");
    assert_eq!(app.get(&path).text("/remark"), "first");
    let tag = app.get(&path).headers["etag"].to_str().unwrap().to_owned();
    let with_tag = |tag: &str| {
        let request = Request::builder().method("PATCH").uri(&path).header("if-match", tag);
        let request = request.header("authorization", format!("Bearer {ADMIN_TOKEN}"));
        app.send(request.body(Body::from(r#"{"remark": "third"}"#)).unwrap())
    };
    with_tag(&tag).ok();
    with_tag(&tag).refused(409, "edit_conflict");
}

#[test]
fn a_reference_posts_once_and_answers_the_same_again() {
    let app = TestApp::new();
    let account = app.account("one");
    let path = format!("/api/accounts/{account}/credits");
    let order =
        json!({"amount": "10.00", "kind": "purchased", "reference": "transfer-1", "reason": "bank transfer"});
    let first = app.post(&path, order.clone());
    assert_eq!((first.status, &first.body["replayed"]), (201, &json!(false)));
    app.clock.advance_ms(5_000);
    let again = app.post(&path, order.clone());
    assert_eq!((again.status, &again.body["replayed"]), (200, &json!(true)));
    let mut expected = first.body.clone();
    expected["replayed"] = json!(true);
    assert_eq!(again.body, expected);
    let mut other = order;
    other["amount"] = json!("11.00");
    let answer = app.post(&path, other);
    answer.refused(409, "reference_conflict");
    assert!(answer.text("/error/message").contains("transfer-1"));
    assert_eq!(app.get(&format!("/api/accounts/{account}/balance")).text("/available"), "10");
}

#[test]
fn a_balance_shows_its_lots_in_the_order_in_which_they_are_spent() {
    let app = TestApp::new();
    let account = app.account("one");
    let path = format!("/api/accounts/{account}/credits");
    app.credit(&account, "5");
    let grant = json!({"amount": "0.10", "kind": "granted", "reference": "promo:1", "reason": "welcome",
        "expires_at": "2026-12-01T00:00:00Z", "priority": 1});
    app.post(&path, grant).ok();
    let balance = app.get(&format!("/api/accounts/{account}/balance")).ok();
    assert_eq!(balance["available"], "5.1");
    assert_eq!((&balance["granted"], &balance["purchased"]), (&json!("0.1"), &json!("5")));
    assert_eq!(balance["lots"][0]["kind"], "granted");
    assert_eq!(balance["movements"]["credits"], "5.1");
    app.clock.advance_ms(10 * 86_400_000);
    assert_eq!(app.get(&format!("/api/accounts/{account}/balance")).text("/available"), "5");
}

#[test]
fn a_key_is_shown_once_and_a_channels_credential_never() {
    let app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    let (id, text) = app.key(&account, json!({"environment": "test"}));
    assert!(text.starts_with("tg-test-"));
    let shown = app.get(&format!("/api/keys/{id}")).body.to_string();
    assert!(!shown.contains(&text) && !shown.contains("hash"), "{shown}");
    let channels = app.get("/api/channels").body.to_string();
    assert!(!channels.contains("sk-upstream-credential") && !channels.contains("credential"), "{channels}");
}

#[test]
fn a_foreign_key_can_be_imported_once() {
    let app = TestApp::new();
    let account = app.account("one");
    let (_, text) = app.key(&account, json!({"import": "sk-0123456789abcdef0123456789"}));
    assert_eq!(text, "sk-0123456789abcdef0123456789");
    assert_eq!(app.get_as(&text, "/v1/key").status, 200);
    let again = app.post("/api/keys", json!({"account": account, "name": "k", "import": text}));
    again.refused(409, "already_exists");
    assert!(!again.body.to_string().contains(&text));
}

/// C6: 0 means blocked, null means unlimited, and a limit under which nothing passes says so at once.
#[test]
fn c6_a_limit_of_zero_or_nearly_says_so_at_creation() {
    let app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    let limits = json!([
        {"window": "day", "value": "0"},
        {"window": "month", "value": "0.000001"},
        {"window": "total", "value": null},
    ]);
    let made = app.post("/api/keys", json!({"account": account, "name": "k", "limits": limits})).ok();
    assert_eq!(made["limits"].as_array().unwrap().len(), 2);
    let codes: Vec<_> = made["notices"].as_array().unwrap().iter().map(|notice| &notice["code"]).collect();
    assert_eq!(codes, ["limit_zero", "limit_low"]);
}

#[test]
fn a_revoked_key_is_revoked_for_ever() {
    let app = TestApp::new();
    let account = app.account("one");
    let (id, text) = app.key(&account, json!({}));
    assert_eq!(app.get_as(&text, "/v1/key").status, 200);
    app.patch(&format!("/api/keys/{id}"), json!({"status": "revoked"})).ok();
    app.get_as(&text, "/v1/key").refused(401, "key_revoked");
    let back = app.patch(&format!("/api/keys/{id}"), json!({"status": "enabled"}));
    back.refused(400, "invalid_value");
}

#[test]
fn a_price_version_never_changes_and_the_next_one_waits_for_its_time() {
    let app = TestApp::new();
    app.model("m");
    let later = json!({"model": "m", "per_million": {"input": "9", "output": "9"}, "effective_at": "2026-12-01T00:00:00Z"});
    app.post("/api/prices", later).ok();
    let versions = |app: &TestApp| {
        let prices = app.get("/api/prices?model=m").ok();
        let of = |price: &serde_json::Value| {
            (price["price_version"].as_u64().unwrap(), price["in_force"].as_bool().unwrap())
        };
        prices["data"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(versions(&app), [(2, false), (1, true)]);
    app.clock.advance_ms(9 * 86_400_000);
    assert_eq!(versions(&app), [(2, true), (1, false)]);
}

#[test]
fn everything_is_there_after_a_restart() {
    let mut app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    app.credit(&account, "3.5");
    let (id, text) = app.key(&account, json!({"limits": [{"window": "day", "value": "1"}]}));
    let before = [
        app.get(&format!("/api/keys/{id}")).ok(),
        app.get("/api/channels").ok(),
        app.get("/api/prices").ok(),
    ];
    app.restart();
    let after = [
        app.get(&format!("/api/keys/{id}")).ok(),
        app.get("/api/channels").ok(),
        app.get("/api/prices").ok(),
    ];
    assert_eq!(before, after);
    assert_eq!(app.get_as(&text, "/v1/key").text("/balance/available"), "3.5");
}

/// C5: every limit with value, used and source; usable now is the least over all layers.
#[test]
fn c5_a_key_learns_what_it_can_spend_and_what_binds() {
    let app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    app.credit(&account, "5");
    let (id, text) =
        app.key(&account, json!({"limits": [{"window": "day", "value": "0.01", "origin": "owner"}]}));
    app.call(&id, "m", (1_000, 500));
    let key = app.get_as(&text, "/v1/key").ok();
    assert_eq!(key["limits"][0]["used"], "0.002");
    assert_eq!(key["limits"][0]["source"], "owner");
    assert_eq!(key["limits"][0]["resets_at"], "2026-11-23T00:00:00Z");
    assert_eq!((&key["usable_now"], &key["bound_by"]["scope"]), (&json!("0.008"), &json!("key")));
    assert_eq!(key["balance"]["available"], "4.998");
    assert_eq!(app.get_as(&text, "/api/v1/key").ok(), key);
    let balance = app.get_as(&text, "/user/balance").ok();
    assert_eq!(balance["balance_infos"][0]["total_balance"], "4.998");
    assert_eq!(balance["is_available"], true);
    let usage =
        app.get_as(&text, "/v1/dashboard/billing/usage?start_date=2026-11-01&end_date=2026-11-30").ok();
    assert_eq!(usage["total_usage"].to_string(), "0.2");
}

#[test]
fn an_account_that_hides_its_money_hides_it_everywhere() {
    let app = TestApp::new();
    let made = app.post("/api/accounts", json!({"name": "Corp", "kind": "enterprise"})).ok();
    let account = made["id"].as_str().unwrap();
    app.model("m");
    app.credit(account, "7.77");
    let (_, text) = app.key(account, json!({}));
    let pages = [
        app.get_as(&text, "/v1/key"),
        app.get_as(&text, "/user/balance"),
        app.get_as(&text, "/v1/dashboard/billing/subscription"),
        app.post_as(
            &text,
            "/v1/simulate",
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
        ),
    ];
    for page in pages {
        assert!(!page.ok().to_string().contains("7.77"));
    }
}

#[test]
fn a_caller_sees_its_own_calls_alone() {
    let app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    app.credit(&account, "5");
    let (id, text) = app.key(&account, json!({}));
    let (_, stranger) = app.key(&account, json!({}));
    let request = app.call(&id, "m", (100, 10));
    for path in [format!("/v1/requests/{request}"), format!("/v1/requests/{request}/why")] {
        assert_eq!(app.get_as(&text, &path).status, 200);
        app.get_as(&stranger, &path).refused(404, "not_found");
        app.get_bare(&path).refused(401, "missing_key");
    }
    app.get_as(&text, "/v1/requests/req_00000000000000000000000000").refused(404, "not_found");
    app.get_as(&text, "/v1/requests/nonsense").refused(404, "not_found");
}

#[test]
fn the_request_log_is_filtered_and_paged() {
    let app = TestApp::new();
    let (one, other) = (app.account("one"), app.account("other"));
    app.model("m");
    app.credit(&one, "5");
    let (rich, _) = app.key(&one, json!({}));
    let (poor, _) = app.key(&other, json!({}));
    let mut calls: Vec<_> = (0..3)
        .map(|_| {
            app.clock.advance_ms(1_000);
            app.call(&rich, "m", (100, 10))
        })
        .collect();
    app.clock.advance_ms(1_000);
    let refused = app.call(&poor, "m", (100, 10));
    calls.reverse();
    let ids = |path: &str| {
        let page = app.get(path).ok();
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&format!("/api/requests?account={one}")), calls);
    assert_eq!(ids("/api/requests?code=balance_exhausted"), std::slice::from_ref(&refused));
    assert_eq!(ids("/api/requests?status=402"), std::slice::from_ref(&refused));
    assert_eq!(ids(&format!("/api/requests?key={rich}&limit=2")), calls[..2]);
    assert_eq!(ids(&format!("/api/requests?key={rich}&limit=2&cursor={}", calls[1])), calls[2..]);
    assert_eq!(ids(&format!("/api/requests?after={}", calls[0])), [refused]);
    let from = jiff::Timestamp::from_millisecond(NOW_MS + 3_000).unwrap();
    assert_eq!(ids(&format!("/api/requests?from={from}")).len(), 2);
    let row = app.get(&format!("/api/requests/{}/row", calls[0])).ok();
    assert_eq!((&row["charge"], &row["charge_state"]), (&json!("0.00012"), &json!("settled")));
    assert_eq!(row["tokens"], json!({"input": 100, "output": 10}));
}

#[test]
fn the_description_is_served_and_the_server_is_ready() {
    let app = TestApp::new();
    assert_eq!(app.get_bare("/livez").status, 200);
    assert_eq!(app.get_bare("/readyz").status, 200);
    assert_eq!(app.get_bare("/openapi.json").ok()["openapi"], "3.1.0");
    assert!(!app.get_bare("/errors.json").ok()["errors"].as_array().unwrap().is_empty());
}

#[test]
fn a_new_account_can_be_tried_out_with_play_money() {
    let app = TestApp::new();
    let account = app.account("one");
    let balance = |environment: &str| {
        app.get(&format!("/api/accounts/{account}/balance?environment={environment}"))
            .text("/available")
            .to_owned()
    };
    assert_eq!((balance("live"), balance("test")), ("0".to_owned(), "100".to_owned()));
    app.get(&format!("/api/accounts/{account}/balance?environment=prod")).refused(400, "invalid_value");
}
