//! What is too much for one person alone waits for another, whether it is a credit or goes back to who paid (B3); on both
//! stores.

use serde_json::{Value, json};
use tallygate::demo::payments::Play;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::desk::Desk;
use crate::support::http::{Ask, Reply};

on_both_backends!(
    b3_a_large_credit_waits_for_a_second_person,
    b3_a_large_completion_by_hand_waits_for_a_second_person,
    i8_a_credit_takes_no_name_of_the_programs_own,
    b3_a_large_refund_of_an_order_waits_for_a_second_person,
    b3_a_refund_that_cannot_be_made_any_more_ends_its_correction,
    b3_what_a_crash_left_of_an_agreed_refund_is_sent_once,
);

struct Scene {
    desk: Desk,
    account: String,
    /// Access token of an operator who asks for nothing.
    second: String,
}

impl Scene {
    fn open(backend: Backend) -> Self {
        let desk = Desk::open_with(backend, vec![("ledger.money_approval_above", "100".to_owned())]);
        let made = desk.post("/api/operators", json!({"name": "Bo", "role": "finance"})).ok();
        let path = format!("/api/operators/{}/token", made["id"].as_str().unwrap());
        let second = desk.post(&path, json!({})).ok()["token"].as_str().unwrap().to_owned();
        Scene { account: desk.account("Ann"), desk, second }
    }

    fn credit(&self, amount: &str, reference: &str) -> Reply {
        let body =
            json!({"amount": amount, "kind": "purchased", "reference": reference, "reason": "by bank"});
        self.desk.post(&format!("/api/accounts/{}/credits", self.account), body)
    }

    fn paid_order(&self, amount: &str) -> String {
        let order = self.desk.order(&self.account, "stripe", amount);
        assert_eq!(self.desk.paid(&order, &Play::default()), [200]);
        order
    }

    fn refund(&self, order: &str) -> Reply {
        self.desk.post(&format!("/api/orders/{order}/refund"), json!({"reason": "wrong account"}))
    }

    fn decide(&self, correction: &Value, state: &str) -> Reply {
        let path = format!("/api/corrections/{}/decision", correction.as_str().unwrap());
        let body = json!({"state": state, "reason": "looked at"});
        self.desk.ask(&Ask::post(path, &body).bearer(&self.second))
    }

    fn correction(&self, id: &Value) -> Value {
        self.desk.get(&format!("/api/corrections/{}", id.as_str().unwrap()))
    }
}

#[track_caller]
fn waits(reply: &Reply) -> Value {
    assert_eq!(reply.head.status, 202, "{}", reply.text());
    reply.ok()["correction"].clone()
}

fn b3_a_large_credit_waits_for_a_second_person(backend: Backend) {
    let scene = Scene::open(backend);
    let small = scene.credit("60", "bank:1");
    assert_eq!((small.head.status, &small.ok()["state"]), (201, &json!("posted")));
    // A large one cannot be cut into small ones.
    let correction = waits(&scene.credit("60", "bank:2"));
    assert_eq!(waits(&scene.credit("60", "bank:2")), correction);
    assert_eq!(scene.desk.available(&scene.account), "60");
    let other = scene.credit("61", "bank:2");
    assert_eq!((other.head.status, &other.json()["error"]["code"]), (409, &json!("reference_conflict")));
    // Nobody agrees with themselves.
    let path = format!("/api/corrections/{}/decision", correction.as_str().unwrap());
    let own = scene.desk.post(&path, json!({"state": "approved", "reason": "r"}));
    assert_eq!(own.json()["error"]["code"], "second_person_required");
    let agreed = scene.decide(&correction, "approved").ok();
    assert_eq!((&agreed["state"], &agreed["kind"]), (&json!("posted"), &json!("credit")));
    assert_eq!(
        (&agreed["ledger_reference"], &agreed["proposed_by"]),
        (&json!("bank:2"), &json!("admin token"))
    );
    assert_eq!(scene.desk.available(&scene.account), "120");
    // Asked for again, it is the credit that it was.
    let again = scene.credit("60", "bank:2");
    assert_eq!((again.head.status, &again.ok()["replayed"]), (200, &json!(true)));
    let rejected = waits(&scene.credit("500", "bank:3"));
    scene.decide(&rejected, "rejected").ok();
    let refused = scene.credit("500", "bank:3");
    assert_eq!(refused.json()["error"]["code"], "correction_state_conflict", "{}", refused.text());
    assert_eq!(scene.desk.available(&scene.account), "120");
}

fn b3_a_large_completion_by_hand_waits_for_a_second_person(backend: Backend) {
    let mut scene = Scene::open(backend);
    let complete = |scene: &Scene, order: &str| {
        scene.desk.post(&format!("/api/orders/{order}/complete"), json!({"reason": "row 7 of the statement"}))
    };
    let [small, large] = ["60", "60"].map(|amount| scene.desk.order(&scene.account, "transfer", amount));
    let done = complete(&scene, &small);
    assert_eq!((done.head.status, &done.ok()["state"]), (200, &json!("credited")));
    // Credits and completions count together.
    let correction = waits(&complete(&scene, &large));
    assert_eq!(
        (scene.desk.state(&large), scene.desk.available(&scene.account)),
        ("pending".into(), "60".into())
    );
    let agreed = scene.decide(&correction, "approved").ok();
    assert_eq!(
        (&agreed["state"], &agreed["kind"], &agreed["order"]),
        (&json!("posted"), &json!("order_completion"), &json!(large))
    );
    assert_eq!(
        (scene.desk.state(&large), scene.desk.available(&scene.account)),
        ("credited".into(), "120".into())
    );
    let late = complete(&scene, &large);
    assert_eq!((late.head.status, &late.json()["error"]["code"]), (409, &json!("order_state_conflict")));
    // A crash before the correction said so: it says so at the next start, and nothing is credited twice.
    let id = correction.as_str().unwrap().parse::<tallygate::id::CorrectionId>().unwrap().raw();
    scene.desk.restart_after(|backend| {
        let sql = "UPDATE corrections SET state = 'approved', posted_ms = NULL WHERE id = ?1";
        assert_eq!(backend.open().funding.execute(sql, tallygate::store_params![id]).unwrap(), 1);
    });
    assert_eq!(
        (&scene.correction(&correction)["state"], scene.desk.available(&scene.account)),
        (&json!("posted"), "120".into())
    );
}

/// Under the name of an order or a code its own money could not come any more.
fn i8_a_credit_takes_no_name_of_the_programs_own(backend: Backend) {
    let scene = Scene::open(backend);
    let order = scene.desk.order(&scene.account, "stripe", "50");
    for name in [format!("order:{order}"), "code:cod_1".to_owned(), "correction:cor_1".to_owned()] {
        let refused = scene.credit("5", &name);
        assert_eq!((refused.head.status, &refused.json()["error"]["param"]), (400, &json!("reference")));
    }
    assert_eq!(scene.desk.paid(&order, &Play::default()), [200]);
    assert_eq!(scene.desk.available(&scene.account), "50");
}

fn b3_a_large_refund_of_an_order_waits_for_a_second_person(backend: Backend) {
    let scene = Scene::open(backend);
    let (first, second) = (scene.paid_order("80"), scene.paid_order("80"));
    let small = scene.refund(&first);
    assert_eq!((small.head.status, &small.ok()["state"]), (200, &json!("refunded")));
    let correction = waits(&scene.refund(&second));
    assert_eq!(
        (scene.desk.state(&second), scene.desk.available(&scene.account)),
        ("credited".into(), "80".into())
    );
    assert_eq!(scene.desk.providers.refunded(&second), Some(0));
    let waiting = scene.correction(&correction);
    assert_eq!(
        (&waiting["kind"], &waiting["order"], &waiting["pay_amount"]),
        (&json!("order_refund"), &json!(second), &json!("80"))
    );
    let agreed = scene.decide(&correction, "approved").ok();
    assert_eq!(agreed["state"], "posted");
    assert_eq!(
        (scene.desk.state(&second), scene.desk.available(&scene.account)),
        ("refunded".into(), "0".into())
    );
    assert_eq!(scene.desk.providers.refunded(&second), Some(8_000));
    let listed = scene.desk.get(&format!("/api/corrections?order={second}"));
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

/// Between the asking and the agreeing the account has spent it, and the order went back at the provider.
fn b3_a_refund_that_cannot_be_made_any_more_ends_its_correction(backend: Backend) {
    let scene = Scene::open(backend);
    let order = scene.paid_order("150");
    let correction = waits(&scene.refund(&order));
    scene.desk.providers.refund_by_hand(&order, "by-hand", 15_000).unwrap();
    let late = scene.decide(&correction, "approved");
    assert_eq!((late.head.status, &late.json()["error"]["code"]), (409, &json!("order_state_conflict")));
    let ended = scene.correction(&correction);
    assert_eq!(ended["state"], "failed", "{ended:#}");
    assert!(ended["problem"].as_str().unwrap().contains("refunded"), "{ended:#}");
    assert_eq!(scene.desk.providers.refunded(&order), Some(15_000));
}

/// The refund is made and the correction does not say so yet: the next start says so, and makes no second one.
fn b3_what_a_crash_left_of_an_agreed_refund_is_sent_once(backend: Backend) {
    let mut scene = Scene::open(backend);
    let order = scene.paid_order("150");
    let correction = waits(&scene.refund(&order));
    scene.decide(&correction, "approved").ok();
    let id = correction.as_str().unwrap().parse::<tallygate::id::CorrectionId>().unwrap().raw();
    scene.desk.restart_after(|backend| {
        let sql = "UPDATE corrections SET state = 'approved', posted_ms = NULL WHERE id = ?1";
        assert_eq!(backend.open().funding.execute(sql, tallygate::store_params![id]).unwrap(), 1);
    });
    assert_eq!(scene.correction(&correction)["state"], "posted");
    let shown = scene.desk.shown(&order);
    assert_eq!((&shown["state"], shown["refunds"].as_array().unwrap().len()), (&json!("refunded"), 1));
    assert_eq!(scene.desk.providers.refunded(&order), Some(15_000));
}
