use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::directory::Environment;
use crate::id::KeyId;

/// The published table, `docs/policies/cases.toml`.
#[derive(Deserialize)]
struct Table {
    policies: std::collections::BTreeMap<String, String>,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    policies: Vec<String>,
    decision: String,
    #[serde(default = "chat")]
    endpoint: String,
    #[serde(default = "mini")]
    model: String,
    #[serde(default = "inside")]
    address: String,
    #[serde(default = "morning")]
    at: Timestamp,
    #[serde(default = "utc")]
    zone: String,
    #[serde(default = "live")]
    environment: Environment,
    project: Option<ProjectId>,
}

fn chat() -> String {
    "chat/completions".to_owned()
}
fn mini() -> String {
    "gpt-5-mini".to_owned()
}
fn inside() -> String {
    "10.1.2.3".to_owned()
}
fn morning() -> Timestamp {
    "2026-11-25T10:00:00Z".parse().unwrap()
}
fn utc() -> String {
    "UTC".to_owned()
}
fn live() -> Environment {
    Environment::Live
}

fn policy(name: &str, document: &str) -> Arc<Policy> {
    let source = serde_json::from_str(document).unwrap();
    let document =
        PolicyDocument::read("document", &source).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
    Arc::new(Policy {
        id: PolicyId::from_raw(1),
        account: None,
        name: name.into(),
        document,
        created_at: Timestamp::UNIX_EPOCH,
    })
}

/// E6: the published table of decisions.
#[test]
fn e6_the_published_cases_are_decided_as_published() {
    let table: Table = toml::from_str(include_str!("../../../docs/policies/cases.toml")).unwrap();
    let policies: std::collections::BTreeMap<_, _> =
        table.policies.iter().map(|(name, document)| (name.as_str(), policy(name, document))).collect();
    for case in &table.case {
        let zone = TimeZone::get(&case.zone).unwrap();
        let question = Question {
            project: case.project,
            endpoint: &case.endpoint,
            model: &case.model,
            environment: case.environment,
            at: case.at,
            zone: &zone,
            address: case.address.parse().ok(),
        };
        let to = Attachment::Key(KeyId::from_raw(1));
        let attached = case.policies.iter().map(|name| Attached { to, policy: &policies[name.as_str()] });
        let decided = match evaluate(attached, &question) {
            Decision::Unrestricted => "unrestricted".to_owned(),
            Decision::Allowed(_) => "allow".to_owned(),
            Decision::Denied { by, .. } => {
                format!("deny {} {}", by.attached.policy.name, by.statement_name())
            }
            Decision::NotAllowed { permission } => format!("implicit {}", permission.action(&question)),
        };
        assert_eq!(decided, case.decision, "{}", case.about);
    }
}

fn statement(changes: serde_json::Value) -> serde_json::Value {
    let mut statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    for (name, value) in changes.as_object().unwrap() {
        statement[name] = value.clone();
    }
    json!({"Version": VERSION, "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}, statement]})
}

/// S25: what cannot be meant is refused with its place.
#[test]
fn s25_a_document_that_cannot_be_meant_is_refused_with_its_place() {
    let cases = [
        (json!([]), "document"),
        (json!({"Version": "2012-10-17", "Statement": []}), "document.Version"),
        (json!({"Version": VERSION}), "document.Statement"),
        (json!({"Version": VERSION, "Statement": []}), "document.Statement"),
        (json!({"Version": VERSION, "Statements": []}), "document.Statements"),
        (statement(json!({"Effect": "allow"})), "document.Statement[1].Effect"),
        (statement(json!({"Action": "models:infer"})), "document.Statement[1].Action"),
        (statement(json!({"Action": ["*", "s3:*"]})), "document.Statement[1].Action[1]"),
        (statement(json!({"Action": []})), "document.Statement[1].Action"),
        (statement(json!({"Resource": ["*", "arn:aws:s3:::x"]})), "document.Statement[1].Resource[1]"),
        (statement(json!({"Resource": "arn:tallygate:api:chat"})), "document.Statement[1].Resource"),
        (statement(json!({"Resource": "arn:tallygate:api:prj_x/chat"})), "document.Statement[1].Resource"),
        (statement(json!({"Resource": 5})), "document.Statement[1].Resource"),
        (statement(json!({"NotAction": "*"})), "document.Statement[1].NotAction"),
        (
            statement(json!({"Condition": {"IpAddress": {"client:Address": ["10.0.0.0/8", "10.0.0.1/8"]}}})),
            "document.Statement[1].Condition.IpAddress.client:Address[1]",
        ),
        (
            statement(json!({"Condition": {"DateLessThan": {"request:Time": "tomorrow"}}})),
            "document.Statement[1].Condition.DateLessThan.request:Time",
        ),
        (
            statement(json!({"Condition": {"TimeOfDay": {"request:Time": "9-18"}}})),
            "document.Statement[1].Condition.TimeOfDay.request:Time",
        ),
        (
            statement(json!({"Condition": {"StringEquals": {"request:Model": "gpt-*"}}})),
            "document.Statement[1].Condition.StringEquals.request:Model",
        ),
        (
            statement(json!({"Condition": {"StringLike": {"request:Mood": "x"}}})),
            "document.Statement[1].Condition.StringLike.request:Mood",
        ),
        (statement(json!({"Condition": {"Bool": {}}})), "document.Statement[1].Condition.Bool"),
    ];
    for (document, place) in cases {
        match PolicyDocument::read("document", &document) {
            Ok(_) => panic!("{document} was read"),
            Err(fault) => assert_eq!(fault.field, place, "{}", fault.reason),
        }
    }
}

fn warnings(document: &serde_json::Value) -> Vec<String> {
    let document = PolicyDocument::read("document", document).unwrap();
    lint(&document, &Snapshot::default()).into_iter().map(|warning| warning.place).collect()
}

/// The linter names what can never match or never matter, and nothing else.
#[test]
fn the_linter_names_what_is_said_in_vain() {
    let in_vain = [
        (json!({"Action": "tallygate:call", "Resource": "arn:tallygate:model:*"}), "Statement[1]"),
        (json!({"Action": "models:*", "Resource": "arn:tallygate:api:*"}), "Statement[1]"),
        (
            json!({"Condition": {
                "DateGreaterThan": {"request:Time": "2027-01-01T00:00:00Z"},
                "DateLessThan": {"request:Time": "2026-01-01T00:00:00Z"},
            }}),
            "Statement[1].Condition",
        ),
        (
            json!({"Condition": {
                "IpAddress": {"client:Address": "10.1.0.0/16"}, "NotIpAddress": {"client:Address": "10.0.0.0/8"},
            }}),
            "Statement[1].Condition",
        ),
        (json!({"Condition": {"StringEquals": {"key:Environment": "prod"}}}), "Statement[1].Condition"),
        (
            json!({"Condition": {
                "StringEquals": {"request:Model": "a"}, "StringLike": {"request:Model": "b*"},
            }}),
            "Statement[1].Condition",
        ),
        (json!({"Resource": ["*", "arn:tallygate:model:gpt-*"]}), "Statement[1].Resource[1]"),
    ];
    for (changes, place) in in_vain {
        let found = warnings(&statement(changes.clone()));
        assert!(found.contains(&place.to_owned()), "{changes}: {found:?}");
    }
    let shadowed = json!({"Version": VERSION, "Statement": [
        {"Effect": "Allow", "Action": "tallygate:call", "Resource": "arn:tallygate:api:*/chat/completions"},
        {"Effect": "Allow", "Action": "models:inference", "Resource": "*"},
        {"Effect": "Deny", "Action": "tallygate:*", "Resource": "arn:tallygate:api:*/chat/*"},
    ]});
    assert_eq!(warnings(&shadowed), ["Statement[0]"]);
    let half = json!({"Version": VERSION, "Statement": [
        {"Effect": "Allow", "Action": "tallygate:call", "Resource": "*"},
    ]});
    assert_eq!(warnings(&half), ["Statement"]);
    let fine = statement(json!({"Condition": {
        "IpAddress": {"client:Address": "10.0.0.0/8"}, "NotIpAddress": {"client:Address": "10.1.0.0/16"},
        "StringEquals": {"key:Environment": "live"}, "TimeOfDay": {"request:Time": ["09:00-18:00"]},
    }}));
    assert_eq!(warnings(&fine), [""; 0]);
}
