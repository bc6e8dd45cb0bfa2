//! Rung 7 over real sockets: policies attached to whatever a key stands under, united, explained as they were.

use serde_json::{Value, json};

use crate::gateway::{Expected, assert_refused};
use crate::support::demo::Demo;
use crate::support::http::Ask;

const MODEL: &str = "gpt-5-mini";
const IMPLICIT: Expected = ("permission_denied_implicit", 403, "policy", "account", false);
const EXPLICIT: Expected = ("permission_denied_explicit", 403, "policy", "account", false);

struct Scene {
    demo: Demo,
    account: String,
}

impl Scene {
    fn new() -> Self {
        let demo = Demo::start();
        Scene { account: demo.account("Policies", "1.00"), demo }
    }

    fn make(&self, path: &str, mut body: Value) -> Value {
        body["account"] = json!(self.account);
        self.post(path, &body)
    }

    /// The answer, whatever it is.
    fn post(&self, path: &str, body: &Value) -> Value {
        self.demo.ask(&Ask::post(path, body).bearer(&self.demo.admin_token())).json()
    }

    fn policy(&self, name: &str, statements: Value) -> String {
        let document = json!({"Version": "2026-11-01", "Statement": statements});
        let made = self.make("/api/policies", json!({"name": name, "document": document}));
        made["id"].as_str().unwrap_or_else(|| panic!("{made:#}")).to_owned()
    }

    fn patch(&self, path: &str, body: &Value) -> Value {
        let ask = Ask::new("PATCH", path.to_owned()).raw_body(body.to_string());
        self.demo.ask(&ask.bearer(&self.demo.admin_token())).json()
    }

    #[track_caller]
    fn refused(&self, key: &str, expected: Expected) -> Value {
        assert_refused(&self.demo, &self.demo.chat(key, MODEL, "Hello"), expected)
    }

    fn simulate(&self, key: &str) -> Value {
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]});
        self.demo.ask(&Ask::post("/v1/simulate", &body).bearer(key)).ok()
    }
}

fn allow_all() -> Value {
    json!([{"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}])
}

fn embeddings_alone() -> Value {
    json!([{"Effect": "Allow", "Action": ["tallygate:call", "models:*"],
            "Resource": ["arn:tallygate:api:*/embeddings", "arn:tallygate:model:*"]}])
}

fn deny_all() -> Value {
    json!([{"Sid": "Never", "Effect": "Deny", "Action": "*", "Resource": "*"}])
}

/// S35 with a chat path: the policy lacks the resource → implicit deny; it is edited → the old Why still shows the old
/// policy, and the simulator now allows.
#[test]
fn s35_an_old_why_shows_the_policy_as_it_was() {
    let scene = Scene::new();
    let policy = scene.policy("narrow", embeddings_alone());
    let made = scene.make("/api/keys", json!({"name": "one", "policies": [policy]}));
    let [key, project] = ["key", "project"].map(|name| made[name].as_str().unwrap().to_owned());
    let reply = scene.demo.chat(&key, MODEL, "Hello");
    let body = assert_refused(&scene.demo, &reply, IMPLICIT);
    let message = body["error"]["message"].as_str().unwrap();
    let resource = format!("arn:tallygate:api:{project}/chat/completions");
    assert!(message.contains("tallygate:call") && message.contains(&resource), "{message}");
    assert_eq!(scene.simulate(&key)["would"], "fail");
    let path = format!("/v1/requests/{}/why", reply.head.request_id());
    let before = scene.demo.own(&key, &path);
    let evidence =
        &before["ladder"].as_array().unwrap().iter().find(|rung| rung["rung"] == 7).unwrap()["evidence"];
    assert!(evidence.to_string().contains(&policy), "{evidence:#}");
    let models = scene.demo.own(&key, "/v1/models");
    let models: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(models, ["demo-embedding"]);
    let document = json!({"Version": "2026-11-01", "Statement": allow_all()});
    scene.patch(&format!("/api/policies/{policy}"), &json!({"document": document}));
    assert_eq!(scene.demo.own(&key, &path), before);
    let simulated = scene.simulate(&key);
    assert_eq!(simulated["would"], "pass", "{simulated:#}");
    assert!(simulated["why"].to_string().contains("#All"), "{simulated:#}");
    scene.demo.chat(&key, MODEL, "Hello").ok();
}

/// E6: a policy attached to anything that a key stands under applies to it, and names that place; a deny there wins
/// over what is allowed at the key.
#[test]
fn e6_policies_apply_from_wherever_they_are_attached() {
    let scene = Scene::new();
    let (allow, deny) = (scene.policy("allow", allow_all()), scene.policy("deny", deny_all()));
    let operators = scene.demo.admin_post(
        "/api/policies",
        &json!({"name": "deny", "document": {"Version": "2026-11-01", "Statement": deny_all()}}),
    )["id"]
        .clone();
    let id = |made: Value| made["id"].as_str().unwrap().to_owned();
    let organization = id(scene.demo.admin_post("/api/organizations", &json!({"name": "Above"})));
    let project = id(scene.make("/api/projects", json!({"name": "p"})));
    let member =
        id(scene.make("/api/members", json!({"name": "bot", "kind": "service_account", "role": "viewer"})));
    let key = scene
        .make("/api/keys", json!({"name": "one", "project": project, "member": member, "policies": [allow]}));
    let (key_id, key) = (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned());
    let account = format!("/api/accounts/{}", scene.account);
    scene.patch(&account, &json!({"organization": organization}));
    scene.demo.chat(&key, MODEL, "Hello").ok();
    let at = |kind: &str, id: &str| format!("/api/{kind}/{id}");
    let places = [
        (at("organizations", &organization), json!([operators]), json!([]), organization.clone()),
        (account.clone(), json!([{"policy": deny}]), json!([]), scene.account.clone()),
        (account.clone(), json!([{"policy": deny, "role": "viewer"}]), json!([]), "role viewer".to_owned()),
        (at("projects", &project), json!([deny]), json!([]), project.clone()),
        (at("members", &member), json!([deny]), json!([]), member.clone()),
        (at("keys", &key_id), json!([allow, deny]), json!([allow]), key_id.clone()),
    ];
    for (path, with, without, named) in places {
        let changed = scene.patch(&path, &json!({"policies": with}));
        assert!(changed["error"].is_null(), "{changed:#}");
        let body = scene.refused(&key, EXPLICIT);
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(&named) && message.contains("Never"), "{named}: {message}");
        scene.patch(&path, &json!({"policies": without}));
        scene.demo.chat(&key, MODEL, "Hello").ok();
    }
    scene.patch(&account, &json!({"policies": [{"policy": deny, "role": "owner"}]}));
    scene.demo.chat(&key, MODEL, "Hello").ok();
}

/// S25: a document that cannot be meant is refused with its place; one that says something in vain is told so; no
/// account gets another's policy.
#[test]
fn s25_documents_are_read_when_they_are_saved() {
    let scene = Scene::new();
    let bad = json!({"Version": "2026-11-01", "Statement": [{"Effect": "Allow", "Action": "chat", "Resource": "*"}]});
    let error = &scene.make("/api/policies", json!({"name": "bad", "document": bad}))["error"];
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("invalid_value"), &json!("document.Statement[0].Action"))
    );
    let half = json!({"Version": "2026-11-01", "Statement": [
        {"Effect": "Allow", "Action": "tallygate:call", "Resource": "*"}]});
    let made = scene.make("/api/policies", json!({"name": "half", "document": half}));
    assert_eq!(made["warnings"][0]["place"], "Statement", "{made:#}");
    let stranger = scene.demo.account("Stranger", "1.00");
    let refused =
        scene.post("/api/keys", &json!({"account": stranger, "name": "one", "policies": [made["id"]]}));
    assert_eq!(refused["error"]["param"], "policies[0]", "{refused:#}");
    let refused = scene.post("/api/organizations", &json!({"name": "Above", "policies": [made["id"]]}));
    assert_eq!(refused["error"]["param"], "policies[0]", "{refused:#}");
}
