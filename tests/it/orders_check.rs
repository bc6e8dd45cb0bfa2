//! A payment provider is tried out before a payer does: its keys, and the way of its callbacks.

use serde_json::{Value, json};
use tallygate::demo::payments::{merchant_key, provider_key};

use crate::support::backend::Backend;
use crate::support::demo::Demo;
use crate::support::desk::Desk;
use crate::support::http::Ask;

const PROVIDERS: [&str; 5] = ["stripe", "epay", "alipay", "wechat", "transfer"];

#[track_caller]
fn check(desk: &Desk, provider: &str) -> Value {
    desk.post(&format!("/api/payment-providers/{provider}/check"), json!({})).ok()["check"].clone()
}

#[test]
fn s38_a_provider_that_can_be_worked_with_is_found_fine() {
    let desk = Desk::open(Backend::embedded());
    let listed = desk.get("/api/payment-providers")["data"].as_array().unwrap().clone();
    assert_eq!(listed.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(), PROVIDERS);
    assert!(listed.iter().all(|row| row["check"].is_null()));
    for provider in PROVIDERS {
        let found = check(&desk, provider);
        assert_eq!(found["ok"], true, "{provider}: {found:#}");
    }
    let listed = desk.get("/api/payment-providers");
    assert!(listed["data"].as_array().unwrap().iter().all(|row| row["check"]["ok"] == true));
    assert!(listed["data"][0]["callback_url"].as_str().unwrap().ends_with("/callbacks/stripe"));
    assert_eq!(listed["data"][4]["callback_url"], Value::Null);
    // Nothing of it is taken for a callback, and nobody else can have one answered.
    assert_eq!(desk.get("/api/callbacks")["data"], json!([]));
    assert_eq!(desk.ask(&Ask::get("/callbacks/stripe?tallygate_check=short")).head.status, 400);
    assert_eq!(
        desk.ask(&Ask::get(format!("/callbacks/other?tallygate_check={}", "0".repeat(32)))).head.status,
        404
    );
    assert_eq!(desk.post("/api/payment-providers/other/check", json!({})).head.status, 404);
}

#[test]
fn s38_an_address_where_something_else_answers_is_found() {
    // A page that is there, and one that nobody serves.
    let other = Desk::open(Backend::embedded());
    let elsewhere = other.providers.url();
    let desk = Desk::open_with(Backend::embedded(), vec![("server.public_url", elsewhere.clone())]);
    let found = check(&desk, "stripe");
    assert_eq!((&found["ok"], &found["account_error"]), (&json!(false), &Value::Null));
    let why = found["callback_error"].as_str().unwrap();
    assert!(why.starts_with(&format!("at {elsewhere}/callbacks/stripe something else answers")), "{why}");
    drop(other);
    let why = check(&desk, "stripe")["callback_error"].as_str().unwrap().to_owned();
    assert!(why.contains("cannot be called"), "{why}");
    assert_eq!(check(&desk, "transfer")["ok"], true);
}

/// S37: what is wrong is told without the secret.
#[test]
fn s37_keys_that_a_provider_does_not_know_are_found_and_not_shown() {
    let wrong = "wrong-secret-of-the-tests";
    let desk = Desk::open_with(
        Backend::embedded(),
        vec![
            ("payments.stripe_key", format!("sk_test_{wrong}")),
            ("payments.epay_key", wrong.to_owned()),
            ("payments.alipay_private_key", provider_key().expose().to_owned()),
            ("payments.wechat_private_key", provider_key().expose().to_owned()),
        ],
    );
    for provider in ["stripe", "epay", "alipay", "wechat"] {
        let found = check(&desk, provider);
        let why = found["account_error"].as_str().unwrap_or_else(|| panic!("{provider}: {found:#}"));
        assert!(!why.contains(wrong) && found["callback_error"].is_null(), "{provider}: {why}");
    }
    let config = format!("{:?}", desk.app().config);
    for secret in [wrong, "PRIVATE KEY", &merchant_key().expose()[40..80]] {
        assert!(!config.contains(secret));
    }
}

/// A gateway that starts checks them all; the command says what was found.
#[test]
fn s38_the_command_checks_a_provider() {
    let demo = Demo::start();
    for provider in PROVIDERS {
        let checked = demo.command(&["orders", "check-provider", provider, "--json"]).output().unwrap();
        assert_eq!(checked.status.code(), Some(0), "{provider}: {checked:?}");
        let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
        assert_eq!(checked["check"]["ok"], true, "{checked:#}");
    }
    let listed = demo.command(&["orders", "providers"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("/callbacks/wechat"), "{listed:?}");
}
