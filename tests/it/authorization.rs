//! Who may do what: every route of the management interface × every role, against the table of docs/roles.md.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallygate::api;

use crate::notices::frozen;
use crate::support::demo::{Demo, wait_until};
use crate::support::http::{Ask, Reply};

const OPERATORS: [&str; 4] = ["superadmin", "finance", "support", "auditor"];
const MEMBERS: [&str; 5] = ["owner", "admin", "finance", "developer", "viewer"];

/// The published table: method and path → who may, in the order of [`OPERATORS`] and [`MEMBERS`].
fn table() -> BTreeMap<(String, String), Vec<bool>> {
    let rows = include_str!("../../docs/roles.md").lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (method, path) = cells[0].trim_matches('`').split_once(' ').unwrap();
        ((method.to_owned(), path.to_owned()), cells[1..].iter().map(|cell| *cell == "✓").collect())
    })
    .collect()
}

struct Scene {
    demo: Demo,
    /// Token of each role.
    operators: Vec<String>,
    members: Vec<String>,
    own: BTreeMap<&'static str, String>,
    others: BTreeMap<&'static str, String>,
}

impl Scene {
    fn new() -> Self {
        let mut demo = Demo::start();
        let id = |made: &Value| made["id"].as_str().unwrap_or_else(|| panic!("{made:#}")).to_owned();
        let token = |path: &str| demo.admin_post(path, &json!({}))["token"].as_str().unwrap().to_owned();
        // The first of its kind, so that it is the one whose token is issued anew all the time.
        demo.admin_post("/api/operators", &json!({"name": "spare", "role": "auditor"}));
        let operators = OPERATORS.map(|role| {
            let made = demo.admin_post("/api/operators", &json!({"name": role, "role": role}));
            token(&format!("/api/operators/{}/token", id(&made)))
        });
        let mut member_tokens = Vec::new();
        let mut world = |name: &str| {
            let account = demo.account(name, "1.00");
            let mut ids = BTreeMap::from([("accounts", account.clone())]);
            let mut developer = None;
            for role in MEMBERS {
                let body = json!({"account": account, "name": role, "role": role});
                let member = id(&demo.admin_post("/api/members", &body));
                member_tokens.push(token(&format!("/api/members/{member}/token")));
                if role == "developer" {
                    developer = Some(member.clone());
                }
            }
            let spare = demo
                .admin_post("/api/members", &json!({"account": account, "name": "spare", "role": "viewer"}));
            ids.insert("members", id(&spare));
            let owner = &member_tokens[member_tokens.len() - MEMBERS.len()];
            let kept = Ask::new("PATCH", format!("/api/accounts/{account}"))
                .raw_body(r#"{"transcripts": {"kept_days": 1}}"#);
            demo.ask(&kept.bearer(owner)).ok();
            let key =
                demo.admin_post("/api/keys", &json!({"account": account, "name": "k", "member": developer}));
            let text = key["key"].as_str().unwrap().to_owned();
            let request = demo.chat(&text, "gpt-5-mini", "Hello").head.request_id().to_owned();
            let transcript = format!("/api/requests/{request}/transcript");
            wait_until("the transcript is written", || {
                demo.ask(&Ask::get(&*transcript).bearer(owner)).head.status == 200
            });
            ids.extend([("keys", id(&key)), ("requests", request)]);
            let document = json!({"Version": "2026-11-01", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
            let frozen = id(&demo.admin_post("/api/keys", &json!({"account": account, "name": "f"})));
            let freeze =
                Ask::new("PATCH", format!("/api/keys/{frozen}")).raw_body(r#"{"status": "risk_frozen"}"#);
            demo.ask(&freeze.bearer(&demo.admin_token())).ok();
            let appeal = demo.admin_post("/api/appeals", &json!({"key": frozen, "statement": "please"}));
            ids.insert("appeals", id(&appeal));
            let words = json!({"en": "Works", "zh": "维护"});
            let announcement =
                json!({"account": account, "category": "maintenance", "title": words, "text": words});
            ids.insert("announcements", id(&demo.admin_post("/api/announcements", &announcement)));
            let order = json!({"account": account, "amount": "10", "provider": "transfer"});
            let video = json!({"model": "demo-video", "prompt": "a cat"});
            ids.insert("tasks", id(&demo.ask(&Ask::post("/v1/videos", &video).bearer(&text)).ok()));
            ids.insert("orders", id(&demo.admin_post("/api/orders", &order)));
            let given = json!({"kind": "compensation", "account": account, "amount": "1", "reason": "test"});
            ids.insert("corrections", id(&demo.admin_post("/api/corrections", &given)));
            let batch = demo.admin_post("/api/code-batches", &json!({"value": "1", "count": 1}));
            let redeem = json!({"account": account, "code": batch["codes"][0]});
            ids.insert("codes", id(&demo.admin_post("/api/codes/redeem", &redeem)));
            for (kind, body) in [
                ("projects", json!({"account": account, "name": "p"})),
                ("policies", json!({"account": account, "name": "p", "document": document})),
                ("notice-endpoints", json!({"account": account, "name": "n", "address": "one@example.com"})),
            ] {
                ids.insert(kind, id(&demo.admin_post(&format!("/api/{kind}"), &body)));
            }
            ids
        };
        let (mut own, mut others) = (world("One"), world("Another"));
        let members = member_tokens[..MEMBERS.len()].to_vec();
        let owners = [&own, &others].map(|ids| ids["accounts"].parse().unwrap());
        own.insert("reconcile", demo.while_down(crate::reconcile::some_case));
        let told = demo.while_down(|app| {
            owners.map(|account| app.notices.post(frozen(Some(account))).unwrap().to_string())
        });
        for (ids, notice) in [&mut own, &mut others].into_iter().zip(told) {
            ids.insert("notices", notice);
        }
        let id = |made: &Value| made["id"].as_str().unwrap_or_else(|| panic!("{made:#}")).to_owned();
        let first = |path: &str| id(&demo.admin(path)["data"][0]);
        for kind in ["models", "prices", "channels", "groups", "organizations", "operators", "code-batches"] {
            own.insert(kind, first(&format!("/api/{kind}")));
        }
        own.insert("payment-providers", "transfer".to_owned());
        let grant = json!({"groups": [own["groups"]]}).to_string();
        let account = format!("/api/accounts/{}", own["accounts"]);
        demo.ask(&Ask::new("PATCH", account).raw_body(grant).bearer(&demo.admin_token())).ok();
        Scene { operators: operators.to_vec(), members, own, others, demo }
    }

    fn send(&self, token: &str, method: &'static str, path: &str, body: &Value) -> Reply {
        self.demo.ask(&Ask::new(method, path.to_owned()).raw_body(body.to_string()).bearer(token))
    }

    fn ask(&self, token: &str, method: &str, path: &str) -> Reply {
        let method = ["GET", "POST", "PATCH", "DELETE"].into_iter().find(|known| *known == method).unwrap();
        let mut ask = Ask::new(method, path.to_owned()).bearer(token);
        if method != "GET" {
            // What is not there is told before what is wrong with a body only if the body is right.
            ask = ask.raw_body(if path.ends_with("/simulate") { r#"{"model": "gpt-5-mini"}"# } else { "{}" });
        }
        self.demo.ask(&ask)
    }
}

/// The path with ids of this world; `None` if it names something that the world does not have.
fn filled(path: &str, ids: &BTreeMap<&'static str, String>) -> Option<String> {
    let kind = path.split('/').nth(2)?;
    match path.contains("{id}") {
        true => Some(path.replace("{id}", ids.get(kind)?)),
        false => Some(path.to_owned()),
    }
}

/// Every endpoint × every role: allowed or refused by the role as published; without a token nobody; of another account
/// nothing is there.
#[test]
fn every_endpoint_is_for_the_roles_that_the_table_names() {
    let scene = Scene::new();
    let mut table = table();
    for route in api::routes().filter(|route| route.is_management()) {
        let (method, path) = (route.method.as_str(), route.path);
        let row = table.remove(&(method.to_owned(), path.to_owned()));
        let row = row.unwrap_or_else(|| panic!("docs/roles.md lacks {method} {path}"));
        let own = filled(path, &scene.own).unwrap_or_else(|| panic!("no object for {path}"));
        assert_eq!(scene.ask("nobody", method, &own).head.status, 401, "{method} {path}");
        let roles = OPERATORS.iter().zip(&scene.operators).chain(MEMBERS.iter().zip(&scene.members));
        for (place, ((role, token), may)) in roles.zip(&row).enumerate() {
            let reply = scene.ask(token, method, &own);
            let what = format!("{role} ({place}): {method} {own}: {}", reply.text());
            match may {
                true => assert!(!matches!(reply.head.status, 401 | 403 | 404 | 405 | 500), "{what}"),
                false => {
                    assert_eq!(reply.head.status, 403, "{what}");
                    assert_eq!(reply.json()["error"]["code"], "role_forbidden", "{what}");
                }
            }
            let is_member = place >= OPERATORS.len();
            if let Some(others) =
                filled(path, &scene.others).filter(|others| is_member && *may && *others != own)
            {
                let reply = scene.ask(token, method, &others);
                assert_eq!(reply.head.status, 404, "{role}: {method} {others}: {}", reply.text());
            }
        }
    }
    assert!(table.is_empty(), "no such endpoints: {:?}", table.keys());
}

/// Lists show a member its own account alone, and a developer its own keys alone.
#[test]
fn a_member_sees_its_own_account_alone() {
    let scene = Scene::new();
    let list =
        |token: &str, path: &str| scene.ask(token, "GET", path).ok()["data"].as_array().unwrap().clone();
    let [owner, _, _, developer, viewer] = &scene.members[..] else { panic!() };
    for kind in ["accounts", "keys", "projects", "members", "policies", "appeals", "requests"] {
        let rows = list(viewer, &format!("/api/{kind}?limit=1000"));
        assert!(!rows.is_empty(), "{kind}");
        let own = json!(scene.own["accounts"]);
        assert!(rows.iter().all(|row| row["account"] == own || row["id"] == own), "{kind}: {rows:#?}");
        let asked = format!("/api/{kind}?account={}", scene.others["accounts"]);
        assert!(kind == "accounts" || scene.ask(viewer, "GET", &asked).head.status == 404, "{kind}");
    }
    let made = Ask::post("/api/keys", &json!({"name": "by the owner"})).bearer(owner);
    let not_mine = scene.demo.ask(&made).ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(list(developer, "/api/keys").len(), 1);
    assert_eq!(scene.ask(developer, "GET", &format!("/api/keys/{not_mine}")).head.status, 404);
    let row = list(owner, "/api/requests?limit=1")[0].clone();
    assert!(row["upstream_request_id"].is_null() && row["channel"].is_null(), "{row:#}");
    let why = |token: &str, audience: &str| {
        scene.ask(token, "GET", &format!("/api/requests/{}/why{audience}", scene.own["requests"]))
    };
    assert_eq!(why(owner, "").ok()["audience"], "owner");
    assert_eq!(why(developer, "").ok()["audience"], "caller");
    assert_eq!(why(&scene.operators[3], "").ok()["audience"], "operator");
    assert_eq!(why(developer, "?audience=owner").head.status, 403);
}

/// What the platform set, the account cannot take away: switches, overdraft, limits, a frozen key.
#[test]
fn an_account_cannot_lift_what_the_platform_set() {
    let scene = Scene::new();
    let owner = &scene.members[0];
    let patch = |token: &str, path: &str, body: Value| {
        scene.demo.ask(&Ask::new("PATCH", path.to_owned()).raw_body(body.to_string()).bearer(token))
    };
    let account = format!("/api/accounts/{}", scene.own["accounts"]);
    let zone = patch(owner, &account, json!({"time_zone": "Asia/Shanghai"}));
    assert_eq!(zone.json()["error"]["code"], "role_forbidden");
    assert!(zone.text().contains("time_zone"), "{}", zone.text());
    for field in ["kind", "overdraft", "switches", "organization", "remark", "groups", "time_zone"] {
        let reply = patch(owner, &account, json!({field: null}));
        assert!(matches!(reply.head.status, 400 | 403), "{field}: {}", reply.text());
    }
    assert_eq!(patch(owner, &account, json!({"overdraft": "100"})).head.status, 403);
    patch(owner, &account, json!({"name": "Renamed by its owner"})).ok();
    let key = format!("/api/keys/{}", scene.own["keys"]);
    let admin = scene.demo.admin_token();
    patch(&admin, &key, json!({"limits": [{"window": "day", "value": "1"}]})).ok();
    let changed = patch(owner, &key, json!({"limits": [{"window": "day", "value": "5"}]})).ok();
    let limits = changed["limits"].as_array().unwrap();
    let told: Vec<_> = limits.iter().map(|limit| (&limit["value"], &limit["source"])).collect();
    assert_eq!(told, [(&json!("5"), &json!("owner")), (&json!("1"), &json!("operator"))]);
    let forged =
        patch(owner, &key, json!({"limits": [{"window": "day", "value": "9", "origin": "operator"}]}));
    assert_eq!(forged.json()["error"]["param"], "limits[0].origin");
    patch(&admin, &key, json!({"status": "risk_frozen", "status_reason": "leaked_key"})).ok();
    assert_eq!(patch(owner, &key, json!({"status": "enabled"})).head.status, 403);
    patch(&admin, &key, json!({"status": "enabled"})).ok();
    patch(owner, &key, json!({"status": "disabled"})).ok();
    patch(owner, &key, json!({"status": "enabled"})).ok();
    let members = format!("/api/members/{}", scene.own["members"]);
    assert_eq!(patch(&scene.members[1], &members, json!({"role": "owner"})).head.status, 403);
    patch(owner, &members, json!({"role": "owner"})).ok();
}

/// E8, C2, I1: a member moves keys between no group and groups that an operator granted, and sees those and no other.
#[test]
fn e8_a_member_reaches_granted_groups_alone() {
    let scene = Scene::new();
    let [owner, _, _, developer, viewer] = &scene.members[..] else { panic!() };
    let admin = scene.demo.admin_token();
    let made = |name: &str| {
        let body = json!({"name": name, "multiplier": "0.1"});
        scene.demo.admin_post("/api/groups", &body)["id"].as_str().unwrap().to_owned()
    };
    let (granted, cheap) = (made("granted"), made("cheap"));
    let account = format!("/api/accounts/{}", scene.own["accounts"]);
    let grant = scene.send(&admin, "PATCH", &account, &json!({"groups": [granted]})).ok();
    assert_eq!(grant["groups"], json!([granted]));
    let key = format!("/api/keys/{}", scene.own["keys"]);
    let forbidden = |reply: &Reply| {
        assert_eq!(reply.json()["error"]["code"], "role_forbidden", "{}", reply.text());
        assert!(reply.text().contains("to set group"), "{}", reply.text());
    };
    let seen = |token: &str| {
        let rows = scene.send(token, "GET", "/api/groups", &json!({})).ok()["data"].clone();
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let there = |token: &str, group: &str| {
        let named = scene.send(token, "GET", "/api/groups?name=cheap", &json!({})).ok();
        let shown = scene.send(token, "GET", &format!("/api/groups/{group}"), &json!({})).head.status;
        (shown, named["data"].as_array().unwrap().len())
    };
    for token in [owner, developer] {
        forbidden(&scene.send(token, "POST", "/api/keys", &json!({"name": "n", "group": cheap})));
        forbidden(&scene.send(token, "PATCH", &key, &json!({"group": cheap})));
        // Nobody learns from it which groups there are.
        forbidden(&scene.send(token, "PATCH", &key, &json!({"group": "grp_0000000000000"})));
        for group in [json!(granted), Value::Null] {
            let moved = scene.send(token, "PATCH", &key, &json!({"group": group})).ok();
            assert_eq!(moved["group"], group);
        }
        scene.send(token, "POST", "/api/keys", &json!({"name": "n", "group": granted})).ok();
        assert_eq!((seen(token), there(token, &cheap)), (vec![granted.clone()], (404, 0)));
    }
    // What an operator put into a group stays there, and is shown to whose key it is.
    scene.send(&admin, "PATCH", &key, &json!({"group": cheap})).ok();
    for token in [owner, developer] {
        for group in [Value::Null, json!(granted)] {
            forbidden(&scene.send(token, "PATCH", &key, &json!({"group": group})));
        }
        scene.send(token, "PATCH", &key, &json!({"name": "renamed", "group": cheap})).ok();
    }
    for token in [owner, developer, viewer] {
        assert_eq!(seen(token), [granted.clone(), cheap.clone()]);
        assert_eq!(there(token, &cheap), (200, 1));
    }
    forbidden_grant(&scene, &account, &cheap);
    let unknown = scene.send(&admin, "PATCH", &account, &json!({"groups": ["grp_0000000000000"]}));
    assert_eq!(unknown.json()["error"]["param"], "groups[0]");
}

/// The account does not grant to itself.
fn forbidden_grant(scene: &Scene, account: &str, group: &str) {
    for token in &scene.members[..2] {
        let reply = scene.send(token, "PATCH", account, &json!({"groups": [group]}));
        assert_eq!((reply.head.status, &reply.json()["error"]["code"]), (403, &json!("role_forbidden")));
    }
}

/// A token that was replaced, taken away or has ended is nobody's; its text is nowhere but in the first answer.
#[test]
fn a_token_ends_when_it_is_replaced_or_taken_away() {
    let demo = Demo::start();
    let made = demo.admin_post("/api/operators", &json!({"name": "A", "role": "auditor"}));
    let path = format!("/api/operators/{}", made["id"].as_str().unwrap());
    let issue =
        || demo.admin_post(&format!("{path}/token"), &json!({}))["token"].as_str().unwrap().to_owned();
    let works = |token: &str| demo.ask(&Ask::get("/api/accounts").bearer(token)).head.status == 200;
    let first = issue();
    assert!(works(&first) && !works(&first[..first.len() - 1]));
    let second = issue();
    assert!(!works(&first) && works(&second));
    let ask = Ask::new("PATCH", path.clone()).raw_body(json!({"token": null}).to_string());
    demo.ask(&ask.bearer(&demo.admin_token())).ok();
    assert!(!works(&second));
    let audit = demo.admin("/api/audit?kind=operator");
    assert!(!audit.to_string().contains(&second) && audit.to_string().contains("hidden"), "{audit:#}");
}
