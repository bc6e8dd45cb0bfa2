//! Rungs 4, 5, 10 and 12 over real sockets: switches, projects, daily calls, and every budget between a key and its
//! account's balance.

use serde_json::{Value, json};

use crate::gateway::{Expected, assert_refused};
use crate::support::demo::Demo;
use crate::support::http::{Ask, Reply};

const MODEL: &str = "gpt-5-mini";

struct Scene {
    demo: Demo,
    account: String,
}

impl Scene {
    fn new() -> Self {
        let demo = Demo::start();
        Scene { account: demo.account("Tenants", "1.00"), demo }
    }

    fn post(&self, path: &str, body: &Value) -> String {
        self.demo.admin_post(path, body)["id"].as_str().unwrap().to_owned()
    }

    fn patch(&self, path: &str, body: &Value) -> Value {
        let ask = Ask::new("PATCH", path.to_owned()).raw_body(body.to_string());
        self.demo.ask(&ask.bearer(&self.demo.admin_token())).json()
    }

    /// Id and text of a key of the account.
    fn key(&self, mut fields: Value) -> (String, String) {
        fields["account"] = json!(self.account);
        fields["name"] = json!("one");
        let made = self.demo.admin_post("/api/keys", &fields);
        (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
    }

    fn chat(&self, key: &str) -> Reply {
        self.demo.chat(key, MODEL, "Hello")
    }

    #[track_caller]
    fn refused(&self, key: &str, expected: Expected) -> Value {
        assert_refused(&self.demo, &self.chat(key), expected)
    }

    fn rungs(&self, key: &str, reply: &Reply) -> Vec<Value> {
        let why = self.demo.own(key, &format!("/v1/requests/{}/why", reply.head.request_id()));
        why["ladder"].as_array().unwrap().clone()
    }
}

fn spend(window: &str, value: &str) -> Value {
    json!([{"window": window, "value": value, "origin": "owner"}])
}

const fn switched_off(code: &'static str) -> Expected {
    (code, 403, "account", "account", false)
}

/// S34: the account's switch outranks every key: each is refused, the limits are not reached, and what may be
/// viewed still is.
#[test]
fn s34_a_view_only_account_refuses_every_key_and_reaches_no_limit() {
    let scene = Scene::new();
    let (_, first) = scene.key(json!({}));
    let (_, second) = scene.key(json!({"limits": spend("day", "0")}));
    let account = format!("/api/accounts/{}", scene.account);
    scene.patch(&account, &json!({"switches": {"api_service": "view_only"}}));
    for key in [&first, &second] {
        let body = scene.refused(key, switched_off("account_view_only"));
        assert!(body["error"]["message"].as_str().unwrap().contains("the account itself"), "{body:#}");
    }
    let rungs = scene.rungs(&second, &scene.chat(&second));
    let state = |number: u64| rungs.iter().find(|rung| rung["rung"] == number).unwrap();
    assert_eq!(state(4)["state"], "fail");
    assert_eq!((&state(12)["state"], &state(10)["state"]), (&json!("not_reached"), &json!("not_reached")));
    let models = scene.demo.own(&first, "/v1/models");
    assert!(!models["data"].as_array().unwrap().is_empty());
    scene.patch(&account, &json!({"switches": {"api_service": "suspended"}}));
    scene.refused(&first, switched_off("account_suspended"));
    let models = scene.demo.ask(&Ask::get("/v1/models").bearer(&first));
    assert_refused(&scene.demo, &models, switched_off("account_suspended"));
    scene.patch(&account, &json!({"switches": {"model_calls": "suspended"}}));
    scene.refused(&first, switched_off("model_calls_suspended"));
    scene.patch(&account, &json!({"switches": {"model_calls": "view_only"}}));
    scene.refused(&first, switched_off("model_calls_view_only"));
    scene.patch(&account, &json!({"switches": {}}));
    scene.chat(&first).ok();
}

/// E1, E2: the tightest switch on the way to the root is in force and names its node; a child cannot loosen it.
#[test]
fn e2_an_organization_tightens_and_is_never_loosened_from_below() {
    let scene = Scene::new();
    let (_, key) = scene.key(json!({}));
    let root = scene.post("/api/organizations", &json!({"name": "Root"}));
    let child = scene.post("/api/organizations", &json!({"name": "Child", "parent": root}));
    let account = format!("/api/accounts/{}", scene.account);
    scene.patch(&account, &json!({"organization": child, "switches": {"api_service": "on"}}));
    scene.chat(&key).ok();
    let root_path = format!("/api/organizations/{root}");
    scene.patch(&root_path, &json!({"switches": {"api_service": "suspended"}}));
    scene.patch(&format!("/api/organizations/{child}"), &json!({"switches": {"api_service": "on"}}));
    let body = scene.refused(&key, switched_off("account_suspended"));
    assert!(body["error"]["message"].as_str().unwrap().contains(&root), "{body:#}");
    let view = scene.demo.admin(&account);
    assert_eq!(view["in_force"]["api_service"], json!({"value": "suspended", "source": root}));
    let error = scene.patch(&root_path, &json!({"parent": child}));
    assert_eq!(error["error"]["param"], "parent");
    scene.patch(&root_path, &json!({"switches": {}, "limits": spend("month", "0")}));
    let over = ("organization_budget_exhausted", 402, "organization", "account", false);
    let body = scene.refused(&key, over);
    assert_eq!(
        (&body["error"]["limit"]["id"], &body["error"]["limit"]["limit"]),
        (&json!(root), &json!("0"))
    );
}

/// Rung 5: a project that is paused, archived or in debt stops its own keys and no other's.
#[test]
fn a_project_stops_its_own_keys_alone() {
    let scene = Scene::new();
    let project = scene.post("/api/projects", &json!({"account": scene.account, "name": "alpha"}));
    let (_, inside) = scene.key(json!({"project": project}));
    let (_, outside) = scene.key(json!({}));
    let path = format!("/api/projects/{project}");
    let refused = |code| (code, 403, "project", "account", false);
    for (change, code) in [
        (json!({"status": "paused"}), "project_paused"),
        (json!({"status": "archived"}), "project_archived"),
        (json!({"status": "running", "arrears": "12.34"}), "project_in_arrears"),
    ] {
        scene.patch(&path, &change);
        let body = scene.refused(&inside, refused(code));
        assert!(body["error"]["message"].as_str().unwrap().contains("alpha"), "{body:#}");
        scene.chat(&outside).ok();
    }
    scene.patch(&path, &json!({"arrears": "0"}));
    scene.chat(&inside).ok();
}

/// S22: a limit by reference holds as one of the key's own: what one key spends, the other cannot spend again, and
/// what was spent before the limit was set counts.
#[test]
fn s22_budgets_by_reference_hold_like_the_keys_own() {
    let scene = Scene::new();
    let account = json!(scene.account);
    let project = scene.post("/api/projects", &json!({"account": account, "name": "p"}));
    let member = scene.post("/api/members", &json!({"account": account, "name": "m"}));
    let group = scene.post("/api/groups", &json!({"name": "g"}));
    let cases = [
        ("project", project, "/api/projects/", "project_budget_exhausted"),
        ("member", member, "/api/members/", "member_budget_exhausted"),
        ("group", group, "/api/groups/", "group_quota_exhausted"),
    ];
    for (scope, id, path, code) in cases {
        let (_, one) = scene.key(json!({scope: id}));
        let (other_id, other) = scene.key(json!({scope: id}));
        scene.chat(&one).ok();
        let path = format!("{path}{id}");
        let view = scene.patch(&path, &json!({"limits": spend("total", "0.000000001")}));
        let used = view["limits"][0]["used"].as_str().unwrap();
        assert!(ledger::Nano::parse_decimal(used).unwrap().is_positive(), "{view:#}");
        let body = scene.refused(&other, (code, 402, scope, "account", false));
        let limit = &body["error"]["limit"];
        assert_eq!((&limit["scope"], &limit["id"]), (&json!(scope), &json!(id)), "{limit:#}");
        assert_eq!((&limit["used"], &limit["origin"]), (&json!(used), &json!("owner")));
        let own = scene.demo.own(&other, "/v1/key");
        assert_eq!((&own["bound_by"]["scope"], &own["usable_now"]), (&json!(scope), &json!("0")), "{own:#}");
        let listed = scene.demo.admin(&format!("/api/keys/{other_id}"));
        assert_eq!(listed["limits"][0]["scope"], scope);
        scene.patch(&path, &json!({"limits": []}));
        scene.chat(&other).ok();
    }
}

/// Callers of an account that keeps its money to itself see that a budget of another layer binds, not its numbers.
#[test]
fn the_numbers_of_other_layers_are_the_accounts_own() {
    let scene = Scene::new();
    let group = scene.post("/api/groups", &json!({"name": "g", "limits": spend("month", "0")}));
    let (_, key) = scene.key(json!({"group": group}));
    let account = format!("/api/accounts/{}", scene.account);
    scene.patch(&account, &json!({"callers_see_account_money": false}));
    let body = scene.refused(&key, ("group_quota_exhausted", 402, "group", "account", false));
    let limit = &body["error"]["limit"];
    assert_eq!(
        (&limit["scope"], &limit["limit"], &limit["used"]),
        (&json!("group"), &Value::Null, &Value::Null)
    );
    assert!(limit["needed"].is_string() && limit["resets_at"].is_string(), "{limit:#}");
    let own = scene.demo.own(&key, "/v1/key");
    assert_eq!((&own["limits"][0]["value"], &own["usable_now"]), (&Value::Null, &Value::Null), "{own:#}");
}

/// D8: a budget and a number of calls for one model leave the others alone.
#[test]
fn d8_a_limit_for_one_model_leaves_the_others_alone() {
    let scene = Scene::new();
    let limits = json!([
        {"window": "month", "model": MODEL, "value": "0"},
        {"metric": "calls", "window": "day", "model": "deepseek-chat", "value": "1"},
    ]);
    let (_, key) = scene.key(json!({"limits": limits}));
    let body = scene.refused(&key, ("model_budget_exhausted", 402, "model", "account", false));
    assert!(body["error"]["message"].as_str().unwrap().contains(MODEL), "{body:#}");
    scene.demo.chat(&key, "deepseek-chat", "Hello").ok();
    let second = scene.demo.chat(&key, "deepseek-chat", "Hello");
    let body =
        assert_refused(&scene.demo, &second, ("daily_calls_exhausted", 429, "model", "account", false));
    assert!(body["error"]["message"].as_str().unwrap().contains("1 deepseek-chat calls"), "{body:#}");
    scene.demo.chat(&key, "demo-no-usage", "Hello").ok();
}

/// S27: a daily limit of 0 that nobody chose says that it is the default, and where to change it.
#[test]
fn s27_a_default_of_zero_says_so() {
    let scene = Scene::new();
    let zero = json!([{"metric": "calls", "window": "day", "value": "0", "origin": "default"}]);
    let (_, key) = scene.key(json!({"limits": zero}));
    let body = scene.refused(&key, ("daily_calls_exhausted", 429, "key", "account", false));
    let error = &body["error"];
    assert!(error["message"].as_str().unwrap().contains("0 (the default)"), "{body:#}");
    assert_eq!((&error["limit"]["limit"], &error["limit"]["origin"]), (&json!("0"), &json!("default")));
    assert!(error["hint"].as_str().unwrap().contains("raised"), "{body:#}");
}

/// Calls per day count admitted calls; one that ended without an answer gives its count back.
#[test]
fn a_call_without_an_answer_gives_its_count_back() {
    let scene = Scene::new();
    let two = json!([{"metric": "calls", "window": "day", "value": "2"}]);
    let (id, key) = scene.key(json!({"limits": two}));
    let used = || scene.demo.admin(&format!("/api/keys/{id}"))["limits"][0]["used"].clone();
    scene.chat(&key).ok();
    assert_eq!(scene.demo.chat(&key, "demo-500", "Hello").head.status, 502);
    assert_eq!(scene.demo.chat(&key, "no-such-model", "Hello").head.status, 404);
    assert_eq!(used(), "1");
    scene.chat(&key).ok();
    scene.refused(&key, ("daily_calls_exhausted", 429, "key", "account", false));
    assert_eq!(used(), "2");
}

/// D8: a limit outside of its hours is as if there were none, and is listed as such.
#[test]
fn d8_a_limit_holds_within_its_schedule_alone() {
    let scene = Scene::new();
    let limits = json!([
        {"window": "day", "value": "0", "schedule": {"from": "2998-01-01T00:00:00Z"}},
        {"window": "day", "value": "0.5", "schedule": {"until": "2997-01-01T00:00:00Z"}},
    ]);
    let (id, key) = scene.key(json!({"limits": limits}));
    scene.chat(&key).ok();
    let listed = scene.demo.admin(&format!("/api/keys/{id}"));
    let in_force: Vec<_> =
        listed["limits"].as_array().unwrap().iter().map(|limit| &limit["in_force"]).collect();
    assert_eq!(in_force, [&json!(false), &json!(true)]);
    assert_eq!(scene.demo.own(&key, "/v1/key")["bound_by"], json!({"scope": "key", "window": "day"}));
}

/// S25: a limit that cannot be enforced is refused when it is set, with its place.
#[test]
fn s25_a_limit_that_cannot_be_enforced_is_refused() {
    let scene = Scene::new();
    let project = scene.post("/api/projects", &json!({"account": scene.account, "name": "p"}));
    let (id, _) = scene.key(json!({}));
    let stranger = scene.demo.account("Stranger", "1.00");
    let theirs = scene.post("/api/projects", &json!({"account": stranger, "name": "p"}));
    let (key, project) = (format!("/api/keys/{id}"), format!("/api/projects/{project}"));
    let cases = [
        (&key, json!({"limits": [{"metric": "calls", "window": "month", "value": "5"}]}), "limits[0].window"),
        (&key, json!({"limits": [{"metric": "calls", "window": "day", "value": "0.5"}]}), "limits[0].value"),
        (&key, json!({"limits": [{"window": "day", "model": "nope", "value": "5"}]}), "limits[0].model"),
        (&key, json!({"limits": [{"window": "day", "value": "-1"}]}), "limits[0].value"),
        (
            &key,
            json!({"limits": [{"window": "day", "value": "1"}, {"window": "day", "value": "2"}]}),
            "limits[1].window",
        ),
        (&key, json!({"project": theirs}), "project"),
        (
            &project,
            json!({"limits": [{"metric": "calls", "window": "day", "value": "5"}]}),
            "limits[0].metric",
        ),
        (&project, json!({"arrears": "-1"}), "arrears"),
    ];
    for (path, body, field) in cases {
        let error = &scene.patch(path, &body)["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("invalid_value"), &json!(field)), "{error:#}");
    }
}

/// I1: a budget that is nearly used is told, again when it is used up, and not with every call; so is a low balance.
#[test]
fn i1_a_budget_and_a_balance_that_run_low_are_told() {
    let scene = Scene::new();
    let project = scene.post("/api/projects", &json!({"account": scene.account, "name": "alpha"}));
    let (_, key) = scene.key(json!({"project": project}));
    scene.chat(&key).ok();
    let path = format!("/api/projects/{project}");
    let used = scene.patch(&path, &json!({"limits": spend("month", "1")}))["limits"][0]["used"].clone();
    let used = ledger::Nano::parse_decimal(used.as_str().unwrap()).unwrap();
    let notices = |event: &str| {
        let page = scene.demo.admin(&format!("/api/notices?account={}&event={event}", scene.account));
        page["data"].as_array().unwrap().clone()
    };
    let limit =
        |percent: i64| json!({"limits": spend("month", &ledger::Nano(used.0 * 100 / percent).to_string())});
    scene.patch(&path, &limit(90));
    let told = |count: usize| {
        crate::support::demo::wait_until("it is told", || notices("budget_alert").len() == count)
    };
    scene.chat(&key);
    told(1);
    (0..3).for_each(|_| drop(scene.chat(&key)));
    scene.patch(&path, &limit(100));
    scene.chat(&key);
    told(2);
    let facts = &notices("budget_alert")[0];
    assert_eq!((&facts["subject"], &facts["facts"]["name"]), (&json!(project), &json!("alpha")), "{facts:#}");
    assert!(facts["facts"]["percent"].as_u64().unwrap() >= 100, "{facts:#}");
    scene.patch(&format!("/api/accounts/{}", scene.account), &json!({"low_balance_alert": "5"}));
    (0..3).for_each(|_| drop(scene.chat(&key)));
    crate::support::demo::wait_until("it is told", || notices("low_balance").len() == 1);
}

/// E4: every key belongs to a project: to the account's own default unless it names another. A paused one stops its own
/// keys alone.
#[test]
fn e4_every_key_belongs_to_a_project() {
    let scene = Scene::new();
    let account = scene.demo.admin(&format!("/api/accounts/{}", scene.account));
    let default = account["default_project"].as_str().unwrap();
    let other = scene.post("/api/projects", &json!({"account": scene.account, "name": "other"}));
    let (plain, plain_text) = scene.key(json!({}));
    let (placed, placed_text) = scene.key(json!({"project": other}));
    let project_of = |key: &str| scene.demo.admin(&format!("/api/keys/{key}"))["project"].clone();
    assert_eq!((project_of(&plain), project_of(&placed)), (json!(default), json!(other)));
    scene.patch(&format!("/api/projects/{default}"), &json!({"status": "paused"}));
    scene.refused(&plain_text, ("project_paused", 403, "project", "account", false));
    scene.chat(&placed_text).ok();
    scene.patch(&format!("/api/keys/{placed}"), &json!({"project": null}));
    assert_eq!(project_of(&placed), json!(default));
    let path = format!("/api/accounts/{}", scene.account);
    assert_eq!(scene.patch(&path, &json!({"default_project": other}))["default_project"], json!(other));
    assert_eq!(project_of(&scene.key(json!({})).0), json!(other));
    let foreign = scene.demo.admin_post("/api/accounts", &json!({"name": "Another"}));
    let refused = scene.patch(&path, &json!({"default_project": foreign["default_project"]}));
    assert_eq!(refused["error"]["param"], "default_project");
}
