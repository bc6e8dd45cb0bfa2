//! "Where is my top-up?": a verdict for whatever the user knows, and nothing of anybody else, on both stores.

use serde_json::{Value, json};
use tallygate::demo::payments::Play;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::desk::Desk;

on_both_backends!(
    a2_every_verdict_is_found_from_what_happened,
    a1_another_account_is_told_apart_and_nothing_of_it_is_shown,
    a2_looking_for_codes_is_no_way_around_the_slowing_down,
);

#[track_caller]
fn diagnose(desk: &Desk, account: &str, question: Value) -> Value {
    let mut body = question;
    body["account"] = json!(account);
    let answer = desk.post("/api/topups/diagnose", body).ok();
    tallygate::api::check_answer("POST", "/api/topups/diagnose", &answer).unwrap();
    answer
}

#[track_caller]
fn verdict(desk: &Desk, account: &str, question: Value) -> String {
    diagnose(desk, account, question)["verdict"].as_str().unwrap().to_owned()
}

fn codes(desk: &Desk, count: u32) -> Vec<String> {
    let made = desk.post("/api/code-batches", json!({"value": "3", "count": count, "kind": "granted"})).ok();
    made["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

fn fact<'a>(answer: &'a Value, fact: &str) -> &'a Value {
    let found = answer["evidence"].as_array().unwrap().iter().find(|row| row["fact"] == fact);
    found.unwrap_or_else(|| panic!("no {fact}: {answer:#}"))
}

fn a2_every_verdict_is_found_from_what_happened(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "100");
    let ask = || verdict(&desk, &account, json!({"order": order}));
    // Nothing was heard, and the provider was not asked yet.
    assert_eq!(ask(), "callback_missing");
    desk.clock.advance_ms(30_000);
    desk.poll();
    assert_eq!(ask(), "order_not_completed");
    desk.pay(&order, &Play::default());
    let answer = diagnose(&desk, &account, json!({"order": order}));
    assert_eq!(answer["verdict"], "credited");
    assert_eq!(
        fact(&answer, "credited"),
        &json!({"fact": "credited", "value": "100", "source": "ledger_record"})
    );
    assert_eq!(fact(&answer, "state")["source"], "payment_order");
    assert_eq!(fact(&answer, "callbacks")["value"], "1");
    // The provider's own number does as well.
    let payment = desk.shown(&order)["payment_reference"].as_str().unwrap().to_owned();
    assert_eq!(verdict(&desk, &account, json!({"order": payment})), "credited");
    let short = desk.order(&account, "epay", "100");
    desk.pay(&short, &Play { amount: Some("1.00".into()), ..Play::default() });
    let answer = diagnose(&desk, &account, json!({"order": short}));
    assert_eq!(
        (&answer["verdict"], &fact(&answer, "paid")["value"]),
        (&json!("amount_mismatch"), &json!("1.00 CNY"))
    );
    let transfer = desk.order(&account, "transfer", "5");
    assert_eq!(verdict(&desk, &account, json!({"order": transfer})), "order_processing");
    desk.post(&format!("/api/orders/{transfer}/cancel"), json!({})).ok();
    assert_eq!(verdict(&desk, &account, json!({"order": transfer})), "order_not_completed");
    let code = codes(&desk, 1).remove(0);
    assert_eq!(verdict(&desk, &account, json!({"code": code})), "redemption_incomplete");
    desk.post("/api/codes/redeem", json!({"account": account, "code": code})).ok();
    let answer = diagnose(&desk, &account, json!({"code": code}));
    assert_eq!(
        (&answer["verdict"], &fact(&answer, "code_credited")["value"]),
        (&json!("credited"), &json!("3"))
    );
    assert!(!answer.to_string().contains(&code), "{answer:#}");
    for nothing in [
        json!({"order": "ord_0000000000000"}),
        json!({"order": "4200001"}),
        json!({"key": "key_0000000000000"}),
    ] {
        assert_eq!(verdict(&desk, &account, nothing), "not_found");
    }
    assert_eq!(verdict(&desk, &account, json!({"code": "no code at all"})), "not_found");
    let empty = desk.post("/api/topups/diagnose", json!({"account": account}));
    assert_eq!((empty.head.status, &empty.json()["error"]["param"]), (400, &json!("order")));
    let nobody = desk.post("/api/topups/diagnose", json!({"order": order}));
    assert_eq!((nobody.head.status, &nobody.json()["error"]["param"]), (400, &json!("account")));
}

/// A1: whose it is is told first, and of the other account no id, no address, no state and no amount.
fn a1_another_account_is_told_apart_and_nothing_of_it_is_shown(backend: Backend) {
    let desk = Desk::open(backend);
    let (ann, ben) = (desk.account("Ann"), desk.account("Benedikta"));
    desk.post("/api/projects", json!({"account": ben, "name": "secret project of Ben"})).ok();
    let order = desk.order(&ben, "stripe", "98.76");
    desk.pay(&order, &Play::default());
    let code = codes(&desk, 1).remove(0);
    desk.post("/api/codes/redeem", json!({"account": ben, "code": code})).ok();
    let key = desk.post("/api/keys", json!({"account": ben, "name": "key of Ben"})).ok();
    let own = desk.order(&ann, "stripe", "5");
    desk.pay(&own, &Play::default());
    let provider = desk.shown(&order)["payment_reference"].as_str().unwrap().to_owned();
    let cases = [
        (json!({"order": order}), "account_mismatch", "payer"),
        (json!({"order": provider}), "account_mismatch", "payer"),
        (json!({"code": code}), "account_mismatch", "redeemer"),
        (json!({"order": own, "code": code}), "account_mismatch", "redeemer"),
        (json!({"key": key["id"]}), "calls_on_other_account", "caller"),
        (json!({"order": own, "key": key["id"]}), "calls_on_other_account", "caller"),
    ];
    for (question, expected, who) in cases {
        let answer = diagnose(&desk, &ann, question.clone());
        assert_eq!(answer["verdict"], expected, "{question}");
        let identities = answer["identities"].as_array().unwrap();
        assert_eq!((&identities[0]["who"], &identities[0]["account"]), (&json!("signed_in"), &json!(ann)));
        assert_eq!(identities[0]["source"], "console_session");
        let other = identities.iter().find(|identity| identity["who"] == who).unwrap();
        assert_eq!((&other["account"], &other["same"]), (&Value::Null, &json!(false)), "{answer:#}");
        let text = answer.to_string();
        let key_text = key["key"].as_str().unwrap();
        for secret in [&*ben, "Benedikta", "98.76", "101.76", key_text, &code] {
            assert!(!text.contains(secret), "{question} tells {secret}: {text}");
        }
    }
    // Ben is told everything of his own.
    assert_eq!(verdict(&desk, &ben, json!({"order": order, "code": code, "key": key["id"]})), "credited");
}

fn a2_looking_for_codes_is_no_way_around_the_slowing_down(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let unknown = codes(&desk, 1).remove(0);
    // Well-formed, and of another installation.
    let other = Desk::open(Backend::embedded());
    let foreign = codes(&other, 40);
    let mut statuses = foreign.iter().map(|code| {
        let body = json!({"account": account, "code": code});
        desk.post("/api/topups/diagnose", body).head.status
    });
    assert_eq!(statuses.next(), Some(200));
    assert!(statuses.any(|status| status == 429), "nobody is slowed down");
    let body = json!({"account": account, "code": unknown});
    assert_eq!(desk.post("/api/topups/diagnose", body).head.status, 429);
}
