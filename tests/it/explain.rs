//! Why a call was allowed or refused, and what it cost.

use serde_json::{Value, json};
use tallygate::gateway::facts::Ending;

use crate::support::app::TestApp;

struct Scene {
    app: TestApp,
    account: String,
    key: String,
    text: String,
}

/// An account with 5.00, a model, a key.
fn scene(limits: Value) -> Scene {
    let app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    app.credit(&account, "5");
    let (key, text) = app.key(&account, json!({"limits": limits}));
    Scene { app, account, key, text }
}

/// Number, state, and what it would have said, of every rung.
fn states(why: &Value) -> Vec<(u64, &str, Option<&str>)> {
    let rungs = why["ladder"].as_array().unwrap().iter();
    rungs
        .map(|rung| (rung["rung"].as_u64().unwrap(), rung["state"].as_str().unwrap(), rung["would"].as_str()))
        .collect()
}

/// B8: price version × token class × quantity, multiplier, one rounding, hold, settlement, lots.
#[test]
fn b8_a_receipt_shows_how_every_cent_came_about() {
    let scene = scene(json!([]));
    let request = scene.app.call(&scene.key, "m", (1_234, 567));
    let receipt = scene.app.get_as(&scene.text, &format!("/v1/requests/{request}")).ok();
    assert_eq!(receipt["state"], "settled");
    assert_eq!(receipt["charged"], "0.002368");
    assert_eq!(
        receipt["lines"],
        json!([
            {"class": "input", "tokens": 1_234, "per_million": "1", "amount": "0.001234"},
            {"class": "output", "tokens": 567, "per_million": "2", "amount": "0.001134"},
        ])
    );
    assert_eq!(
        receipt["sum"],
        json!({"per_call": "0", "multiplier": "1", "exact": "0.002368", "rounded_off": "0", "cost": "0.002368"})
    );
    assert_eq!(receipt["price"]["version"], 1);
    assert_eq!(receipt["hold"]["amount"], "0.0025");
    assert_eq!(receipt["settlement"]["kind"], "settled");
    assert_eq!(receipt["settlement"]["returned"], "0.000132");
    assert_eq!(receipt["settlement"]["lots"][0]["amount"], "0.002368");
    assert_eq!(receipt["usage_source"], "upstream");
    assert!(receipt["policy"].as_str().unwrap().starts_with("The whole answer was delivered"));
}

#[test]
fn nothing_delivered_is_nothing_charged_and_says_so() {
    let scene = scene(json!([]));
    let request = scene.app.call_ending(&scene.key, "m", (0, 0), Ending::UpstreamFailed);
    let receipt = scene.app.get_as(&scene.text, &format!("/v1/requests/{request}")).ok();
    assert_eq!((&receipt["state"], &receipt["charged"]), (&json!("released"), &json!("0")));
    assert!(receipt["policy"].as_str().unwrap().contains("nothing is charged"));
    let why = scene.app.get_as(&scene.text, &format!("/v1/requests/{request}/why")).ok();
    assert_eq!((&why["verdict"], &why["refusal"]["code"]), (&json!("failed"), &json!("upstream_error")));
    assert!(states(&why).iter().all(|(_, state, _)| *state == "pass"), "{why:#}");
    assert!(!why.to_string().contains("own words"), "the upstream's text is for operators: {why:#}");
    let operators = scene.app.get(&format!("/api/requests/{request}/why")).ok();
    assert_eq!(operators["upstream"]["error"], "the upstream's own words");
}

/// C1: the rung that refused is named, with the numbers of the time; those behind it tell what they would say.
#[test]
fn c1_a_spent_key_limit_is_told_rung_by_rung() {
    let scene = scene(json!([{"window": "day", "value": "0.003", "origin": "owner"}]));
    scene.app.call(&scene.key, "m", (1_000, 500));
    let request = scene.app.call(&scene.key, "m", (1_000, 500));
    let why = scene.app.get_as(&scene.text, &format!("/v1/requests/{request}/why")).ok();
    assert_eq!(
        (&why["verdict"], &why["refusal"]["code"]),
        (&json!("refused"), &json!("key_budget_exhausted"))
    );
    assert_eq!(
        states(&why),
        [
            (1, "pass", None),
            (2, "pass", None),
            (3, "pass", None),
            (4, "pass", None),
            (5, "pass", None),
            (6, "pass", None),
            (7, "pass", None),
            (8, "pass", None),
            (9, "pass", None),
            (10, "pass", None),
            (11, "pass", None),
            (12, "fail", None),
            (13, "not_reached", Some("pass")),
            (14, "not_reached", Some("pass")),
        ]
    );
    let budget = &why["ladder"][11]["figures"][0];
    assert_eq!(
        (&budget["limit"], &budget["used"], &budget["needed"]),
        (&json!("0.003"), &json!("0.002"), &json!("0.0025"))
    );
    assert_eq!((&budget["origin"], &budget["resets_at"]), (&json!("owner"), &json!("2026-11-23T00:00:00Z")));
    assert_eq!(why["balance_checked"], true);
    assert_eq!(why["refusal"]["charged"], "0");
    let guide: Vec<_> =
        why["guide"].as_array().unwrap().iter().map(|step| (&step["name"], &step["state"])).collect();
    assert_eq!(guide[0], (&json!("account_balance"), &json!("not_reached")));
    assert_eq!(guide[2], (&json!("key_limit"), &json!("fail")));
}

/// S30: available, held, needed, short by, and whose account.
#[test]
fn s30_a_balance_that_does_not_suffice_shows_its_numbers() {
    let scene = scene(json!([]));
    // Input costs 1.00, and 2.00 for the answer that may follow must be held besides.
    scene.app.call(&scene.key, "m", (4_999_000, 0));
    let refused = scene.app.call(&scene.key, "m", (1, 1));
    let why = scene.app.get_as(&scene.text, &format!("/v1/requests/{refused}/why")).ok();
    assert_eq!(why["refusal"]["code"], "balance_insufficient");
    let balance = why["ladder"].as_array().unwrap().iter().find(|rung| rung["rung"] == 13).unwrap();
    let figure = &balance["figures"][0];
    assert_eq!((&figure["scope"], &figure["id"]), (&json!("account"), &json!(scene.account)));
    assert_eq!((&figure["available"], &figure["held"]), (&json!("0.001"), &json!("0")));
    assert_eq!((&figure["needed"], &figure["short_by"]), (&json!("0.0025"), &json!("0.0015")));
    let guide = why["guide"].as_array().unwrap();
    assert_eq!((&guide[0]["name"], &guide[0]["state"]), (&json!("account_balance"), &json!("fail")));
}

/// C7: a call whose key was never known is logged, explained to anybody, and says that nobody looked at money.
#[test]
fn c7_a_call_of_no_known_key_is_explained_to_anybody() {
    let scene = scene(json!([]));
    let request = scene.app.refused_before_the_key();
    for path in [format!("/v1/requests/{request}/why"), format!("/api/v1/requests/{request}/why")] {
        let why = scene.app.get_bare(&path).ok();
        assert_eq!(
            (&why["refusal"]["code"], &why["balance_checked"]),
            (&json!("unknown_key"), &json!(false))
        );
        assert!(why["balance_note"].as_str().unwrap().starts_with("The balance was not checked"));
        assert_eq!(states(&why)[..3], [(1, "pass", None), (2, "fail", None), (3, "not_reached", None)]);
        // Even with a key that is not right, and with one that is somebody's.
        assert_eq!(scene.app.get_as("tg-live-damaged", &path).ok(), why);
        assert_eq!(scene.app.get_as(&scene.text, &path).ok(), why);
    }
    let row = scene.app.get(&format!("/api/requests/{request}/row")).ok();
    assert_eq!(
        (&row["status"], &row["balance_checked"], &row["key"]),
        (&json!(401), &json!(false), &Value::Null)
    );
}

/// S35's half that exists here: an old Why shows the configuration as it was.
#[test]
fn an_old_why_is_explained_with_the_limits_of_its_time() {
    let scene = scene(json!([{"window": "total", "value": "0.001"}]));
    let request = scene.app.call(&scene.key, "m", (1, 1));
    let path = format!("/v1/requests/{request}/why");
    let before = scene.app.get_as(&scene.text, &path).ok();
    assert_eq!(before["refusal"]["code"], "key_budget_exhausted");
    scene.app.patch(&format!("/api/keys/{}", scene.key), json!({"limits": []})).ok();
    scene.app.patch(&format!("/api/accounts/{}", scene.account), json!({"name": "renamed"})).ok();
    assert_eq!(scene.app.get_as(&scene.text, &path).ok(), before);
    let now = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1});
    let simulated = scene.app.post_as(&scene.text, "/v1/simulate", now).ok();
    assert_eq!(simulated["would"], "pass", "{simulated:#}");
}

/// C1: where an earlier rung refused before the call's cost was known, a purse with nothing left says so all the same.
#[test]
fn c1_an_empty_purse_is_told_behind_a_call_of_unknown_cost() {
    let app = TestApp::new();
    let account = app.account("poor");
    let would = |limits: Value| {
        let (key, text) = app.key(&account, json!({"limits": limits}));
        let request = app.call(&key, "nobody-knows", (1, 1));
        let why = app.get_as(&text, &format!("/v1/requests/{request}/why")).ok();
        assert_eq!(why["refusal"]["code"], "model_not_found");
        let of =
            |rung: u64| why["ladder"].as_array().unwrap().iter().find(|step| step["rung"] == rung).unwrap();
        [12, 13].map(|rung| of(rung)["would"].as_str().unwrap().to_owned())
    };
    assert_eq!(would(json!([{"window": "day", "value": "0"}])), ["fail", "fail"]);
    assert_eq!(would(json!([{"window": "day", "value": "1"}])), ["pass", "fail"]);
    app.credit(&account, "5");
    assert_eq!(would(json!([])), ["pass", "pass"]);
}

/// E7's shape: the simulator decides as a call would, and leaves no trace.
#[test]
fn a_simulation_decides_and_leaves_no_trace() {
    let scene = scene(json!([]));
    let body = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100});
    let passed = scene.app.post_as(&scene.text, "/v1/simulate", body("m")).ok();
    assert_eq!((&passed["would"], &passed["output_cap"]), (&json!("pass"), &json!(100)));
    let wrong = scene.app.post_as(&scene.text, "/v1/simulate", body("mm")).ok();
    assert_eq!(
        (&wrong["would"], &wrong["why"]["refusal"]["code"]),
        (&json!("fail"), &json!("model_not_found"))
    );
    let malformed = scene.app.post_as(&scene.text, "/v1/simulate", json!({"model": 5})).ok();
    assert_eq!(malformed["why"]["refusal"]["code"], "invalid_parameter");
    assert_eq!(scene.app.get("/api/requests").ok()["data"], json!([]));
    assert_eq!(scene.app.get(&format!("/api/accounts/{}/balance", scene.account)).text("/held"), "0");
}

#[test]
fn an_explanation_speaks_the_callers_language() {
    let scene = scene(json!([{"window": "total", "value": "0"}]));
    let request = scene.app.call(&scene.key, "m", (1, 1));
    let ask = axum::http::Request::builder()
        .uri(format!("/v1/requests/{request}/why"))
        .header("authorization", format!("Bearer {}", scene.text))
        .header("accept-language", "zh-CN,zh;q=0.9");
    let why = scene.app.send(ask.body(axum::body::Body::empty()).unwrap()).ok();
    let is_chinese =
        |text: &Value| text.as_str().unwrap().chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    assert!(is_chinese(&why["summary"]) && is_chinese(&why["refusal"]["hint"]), "{why:#}");
    assert!(is_chinese(&why["ladder"][0]["title"]) && is_chinese(&why["guide"][0]["title"]), "{why:#}");
}
