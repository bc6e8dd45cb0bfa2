//! Money that is put right: refunds of charges, compensation, adjustments and chargebacks, on both stores.

use std::thread;

use serde_json::{Value, json};
use tallygate::clock::Clock;
use tallygate::demo::payments::Play;
use tallygate::gateway::facts::Ending;

use crate::on_both_backends;
use crate::support::app::{ADMIN_TOKEN, play};
use crate::support::backend::Backend;
use crate::support::desk::Desk;
use crate::support::http::{Ask, Connection, Reply};

on_both_backends!(
    b3_a_refund_goes_back_to_the_lots_that_paid,
    b3_money_of_an_ended_lot_comes_back_for_thirty_days,
    s45_charge_refund_and_net_are_three_figures_everywhere,
    s5_a_failure_that_is_seen_twice_is_refunded_once,
    b3_refunds_at_once_never_exceed_the_charge,
    b3_a_large_correction_needs_a_second_person,
    b3_an_adjustment_takes_only_what_is_there,
    b3_what_a_crash_left_of_a_correction_is_put_right,
    e4_a_chargeback_leaves_arrears_that_the_next_payment_clears,
    s4_a_remark_changes_no_balance,
    what_cannot_be_corrected_is_refused,
);

const DAY_MS: u64 = 86_400_000;
const MODEL: &str = "m";

/// A model at 1.00 per million tokens in; an account with a key.
struct Scene {
    desk: Desk,
    account: String,
    /// Its id and its text.
    key: (String, String),
}

impl Scene {
    fn open(backend: Backend) -> Self {
        let desk = Desk::open(backend);
        let made = |path: &str, body: Value| desk.post(path, body).ok();
        made("/api/models", json!({"name": MODEL}));
        made("/api/prices", json!({"model": MODEL, "per_million": {"input": "1.00", "output": "2.00"}}));
        let channel = json!({"name": "c", "base_url": "http://127.0.0.1:9/v1",
            "credential": "sk-upstream-credential", "models": {MODEL: MODEL}, "environments": ["live"]});
        made("/api/channels", channel);
        let account = desk.account("Ann");
        let limits = json!([{"window": "day", "value": "1000"}]);
        let key = made("/api/keys", json!({"account": account, "name": "k", "limits": limits}));
        let text = |at: &str| key[at].as_str().unwrap().to_owned();
        let key = (text("id"), text("key"));
        Scene { desk, account, key }
    }

    /// Credit of a kind; `days`: until its end.
    fn credit(&self, amount: &str, kind: &str, days: Option<u64>) -> Value {
        let now_ms = self.desk.clock.now_ms();
        let end = days.map(|days| now_ms + i64::try_from(days * DAY_MS).unwrap());
        let end = end.map(|end_ms| jiff::Timestamp::from_millisecond(end_ms).unwrap().to_string());
        let body = json!({"amount": amount, "kind": kind, "expires_at": end,
            "reference": format!("test:{kind}:{amount}:{now_ms}"), "reason": "test"});
        self.desk.post(&format!("/api/accounts/{}/credits", self.account), body).ok()
    }

    /// A call that costs so many millionths; its id.
    fn call(&self, cost: u64) -> String {
        play(self.desk.app(), &self.key.0, MODEL, (cost, 0), Ending::Complete)
    }

    fn correct(&self, body: Value) -> Reply {
        self.desk.post("/api/corrections", body)
    }

    fn refund(&self, request: &str, amount: Option<&str>, reference: Option<&str>) -> Reply {
        let mut body = json!({"kind": "refund", "request": request, "reason": "it failed"});
        for (name, value) in [("amount", amount), ("reference", reference)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        self.correct(body)
    }

    fn balance(&self, pointer: &str) -> String {
        self.desk.balance(&self.account).pointer(pointer).and_then(Value::as_str).unwrap().to_owned()
    }

    /// Charge, refunds and net, as the log and the receipt show them.
    fn figures(&self, request: &str) -> [String; 3] {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned();
        let receipt = self.desk.get(&format!("/api/requests/{request}"));
        let row = self.desk.get(&format!("/api/requests/{request}/row"));
        let page = self.desk.get(&format!("/api/requests?account={}", self.account));
        let listed =
            page["data"].as_array().unwrap().iter().find(|row| row["id"] == request).unwrap().clone();
        let own = self.desk.ask(&Ask::get(format!("/v1/requests/{request}")).bearer(&self.key.1)).ok();
        assert_eq!(own["net"], receipt["net"]);
        assert_eq!((&row["net"], &listed["net"]), (&receipt["net"], &receipt["net"]));
        assert_eq!((&row["charge"], &row["refunded"]), (&receipt["charged"], &receipt["refunded"]));
        assert_eq!(row["charge_state"], receipt["state"]);
        [text(&receipt["charged"]), text(&receipt["refunded"]), text(&receipt["net"])]
    }

    /// What the key's daily budget counts as used.
    fn used(&self) -> Value {
        let limits = self.desk.ask(&Ask::get("/v1/key").bearer(&self.key.1)).ok()["limits"].clone();
        let day = limits.as_array().unwrap().iter().find(|limit| limit["window"] == "day").cloned();
        day.unwrap_or_else(|| panic!("{limits:#}"))["used"].clone()
    }

    /// Access token of a new operator.
    fn operator(&self, name: &str) -> String {
        let made = self.desk.post("/api/operators", json!({"name": name, "role": "finance"})).ok();
        let path = format!("/api/operators/{}/token", made["id"].as_str().unwrap());
        self.desk.post(&path, json!({})).ok()["token"].as_str().unwrap().to_owned()
    }

    fn post_as(&self, token: &str, path: &str, body: &Value) -> Reply {
        self.desk.ask(&Ask::post(path, body).bearer(token))
    }
}

#[track_caller]
fn assert_refused(reply: &Reply, code: &str, status: u16) {
    let told = reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!((reply.head.status, &*told), (status, code), "{}", reply.text());
}

#[track_caller]
fn corrected(reply: &Reply) -> Value {
    assert!((200..300).contains(&reply.head.status), "{}", reply.text());
    let body = reply.json();
    tallygate::api::check_answer("POST", "/api/corrections", &body).unwrap_or_else(|why| panic!("{why}"));
    body
}

fn b3_a_refund_goes_back_to_the_lots_that_paid(backend: Backend) {
    let scene = Scene::open(backend);
    scene.credit("0.4", "granted", None);
    scene.credit("5", "purchased", None);
    let request = scene.call(1_000_000);
    assert_eq!([scene.balance("/granted"), scene.balance("/purchased")], ["0", "4.4"]);
    assert_eq!(scene.used(), "1");
    // The last lot that paid comes first.
    let part = corrected(&scene.refund(&request, Some("0.25"), Some("ticket 7")));
    assert_eq!((&part["state"], &part["amount"]), (&json!("posted"), &json!("0.25")), "{part:#}");
    assert_eq!((&part["account"], &part["lot"]), (&json!(scene.account), &Value::Null));
    assert_eq!([scene.balance("/granted"), scene.balance("/purchased")], ["0", "4.65"]);
    assert_eq!(scene.figures(&request), ["1", "0.25", "0.75"]);
    assert_eq!(scene.used(), "0.75");
    let rest = corrected(&scene.refund(&request, None, None));
    assert_eq!(rest["amount"], "0.75");
    assert_eq!([scene.balance("/granted"), scene.balance("/purchased")], ["0.4", "5"]);
    assert_eq!((scene.figures(&request), scene.used()), (["1", "1", "0"].map(str::to_owned), json!("0")));
    assert_refused(&scene.refund(&request, Some("0.000000001"), None), "refund_exceeds_charge", 409);
    assert_refused(&scene.refund(&request, None, None), "invalid_value", 400);
    let listed = scene.desk.get(&format!("/api/corrections?request={request}"));
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
}

fn b3_money_of_an_ended_lot_comes_back_for_thirty_days(backend: Backend) {
    let scene = Scene::open(backend);
    scene.credit("1", "granted", Some(1));
    let request = scene.call(600_000);
    scene.desk.clock.advance_ms(2 * DAY_MS);
    assert_eq!(scene.desk.app().books.expire_due().unwrap(), 1);
    assert_eq!(scene.balance("/movements/expiries"), "0.4");
    corrected(&scene.refund(&request, None, None));
    let balance = scene.desk.balance(&scene.account);
    let lot = &balance["lots"][0];
    assert_eq!((&lot["available"], &lot["kind"]), (&json!("0.6"), &json!("granted")), "{balance:#}");
    assert_eq!(lot["expires_at"], "2026-12-24T08:00:00Z");
    scene.desk.clock.advance_ms(30 * DAY_MS);
    assert_eq!(scene.desk.app().books.expire_due().unwrap(), 1);
    assert_eq!([scene.balance("/available"), scene.balance("/movements/expiries")], ["0", "1"]);
}

fn s45_charge_refund_and_net_are_three_figures_everywhere(backend: Backend) {
    let scene = Scene::open(backend);
    scene.credit("10", "purchased", None);
    let request = scene.call(2_260_000);
    assert_eq!(scene.figures(&request), ["2.26", "0", "2.26"]);
    corrected(&scene.refund(&request, None, None));
    assert_eq!(scene.figures(&request), ["2.26", "2.26", "0"]);
    let figures = ["/movements/credits", "/movements/charges", "/movements/charge_refunds", "/available"];
    assert_eq!(figures.map(|at| scene.balance(at)), ["10", "2.26", "2.26", "10"]);
    // The currency that is shown besides is shown, and nothing else.
    let display = scene.desk.balance(&scene.account)["display"].clone();
    assert_eq!(
        display,
        json!({"currency": "EUR", "rate": "0.9", "available": "9.00", "held": "0.00", "owed": "0.00"})
    );
    let receipt = scene.desk.get(&format!("/api/requests/{request}"));
    assert_eq!((&receipt["display"]["charged"], &receipt["currency"]), (&json!("2.03"), &json!("USD")));
    // A restart knows as much.
    let mut scene = scene;
    scene.desk.restart();
    assert_eq!(scene.figures(&request), ["2.26", "2.26", "0"]);
}

fn s5_a_failure_that_is_seen_twice_is_refunded_once(backend: Backend) {
    let scene = Scene::open(backend);
    scene.credit("10", "purchased", None);
    let request = scene.call(3_000_000);
    let body = json!({"kind": "refund", "request": request, "amount": "1", "reference": "task failed", "reason": "r"});
    let replies = at_once(&scene, 5, |_| body.clone());
    let posted: Vec<_> = replies.iter().filter(|reply| reply.head.status == 201).collect();
    assert_eq!(posted.len(), 1);
    let ids: Vec<_> = replies.iter().map(|reply| corrected(reply)["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(scene.figures(&request), ["3", "1", "2"]);
    let again = corrected(&scene.refund(&request, Some("1"), Some("task failed")));
    assert_eq!((&again["replayed"], &again["state"]), (&json!(true), &json!("posted")));
    assert_refused(&scene.refund(&request, Some("2"), Some("task failed")), "reference_conflict", 409);
    assert_eq!(scene.balance("/available"), "8");
}

/// As many corrections at once; their answers.
fn at_once(scene: &Scene, count: usize, body: impl Fn(usize) -> Value) -> Vec<Reply> {
    let address = scene.desk.address();
    let ask = |n| Ask::post("/api/corrections", &body(n)).bearer(ADMIN_TOKEN);
    let running: Vec<_> = (0..count)
        .map(|n| {
            let ask = ask(n);
            thread::spawn(move || Connection::open(address).unwrap().ask(&ask).unwrap())
        })
        .collect();
    running.into_iter().map(|running| running.join().unwrap()).collect()
}

/// I10: more was asked for than was charged, by five at once.
fn b3_refunds_at_once_never_exceed_the_charge(backend: Backend) {
    let scene = Scene::open(backend);
    scene.credit("10", "purchased", None);
    let request = scene.call(1_000_000);
    let replies = at_once(
        &scene,
        5,
        |n| json!({"kind": "refund", "request": request, "amount": "0.4", "reference": format!("r{n}"), "reason": "r"}),
    );
    let posted = replies.iter().filter(|reply| reply.head.status == 201).count();
    replies
        .iter()
        .filter(|reply| reply.head.status != 201)
        .for_each(|reply| assert_refused(reply, "refund_exceeds_charge", 409));
    assert_eq!((posted, scene.figures(&request)), (2, ["1", "0.8", "0.2"].map(str::to_owned)));
    let failed = scene.desk.get("/api/corrections?state=failed")["data"].as_array().unwrap().len();
    assert!(failed <= 3, "{failed}");
}

fn b3_a_large_correction_needs_a_second_person(backend: Backend) {
    let scene = Scene::open(backend);
    let [first, second] = ["One", "Two"].map(|name| scene.operator(name));
    let give = |token: &str, amount: &str| {
        let body =
            json!({"kind": "compensation", "account": scene.account, "amount": amount, "reason": "outage"});
        scene.post_as(token, "/api/corrections", &body).ok()
    };
    let decide = |token: &str, correction: &Value, state: &str| {
        let path = format!("/api/corrections/{}/decision", correction["id"].as_str().unwrap());
        scene.post_as(token, &path, &json!({"state": state, "reason": "looked at it"}))
    };
    let large = give(&first, "150");
    assert_eq!((&large["state"], &large["needs_approval"]), (&json!("pending"), &json!(true)));
    assert_eq!(scene.balance("/available"), "0");
    assert_refused(&decide(&first, &large, "approved"), "second_person_required", 403);
    let approved = decide(&second, &large, "approved").ok();
    assert_eq!(
        (&approved["state"], &approved["decision_reason"]),
        (&json!("posted"), &json!("looked at it"))
    );
    assert_ne!(approved["decided_by"], approved["proposed_by"]);
    assert_eq!([scene.balance("/available"), scene.balance("/movements/compensation")], ["150", "150"]);
    assert_refused(&decide(&second, &large, "rejected"), "correction_state_conflict", 409);
    // What a second person agreed to does not count; what one moved alone counts in all.
    assert_eq!(give(&first, "60")["state"], "posted");
    let split = give(&first, "60");
    assert_eq!(split["state"], "pending");
    assert_eq!(decide(&first, &split, "rejected").ok()["state"], "rejected");
    assert_eq!(scene.balance("/available"), "210");
    // Whoever runs the machine is one person.
    let by_machine = give(ADMIN_TOKEN, "500");
    assert_refused(&decide(ADMIN_TOKEN, &by_machine, "approved"), "second_person_required", 403);
    assert_eq!(decide(&first, &by_machine, "approved").ok()["state"], "posted");
    scene.desk.clock.advance_ms(DAY_MS);
    assert_eq!(give(&first, "60")["state"], "posted");
    let audit = scene.desk.get("/api/audit?kind=correction_note");
    let noted = |who: &str, action: &str| {
        let rows = audit["data"].as_array().unwrap().iter();
        rows.filter(|row| row["actor"] == who && row.to_string().contains(&format!("\"{action}\""))).count()
    };
    let [proposer, decider] =
        [&approved["proposed_by"], &approved["decided_by"]].map(|who| who.as_str().unwrap());
    assert!(noted(proposer, "propose") > 0 && noted(decider, "approved") > 0, "{audit:#}");
}

fn b3_an_adjustment_takes_only_what_is_there(backend: Backend) {
    let scene = Scene::open(backend);
    scene.credit("10", "purchased", None);
    let adjust = |amount: &str, arrears: bool| {
        let body = json!({"kind": "adjustment", "account": scene.account, "amount": amount, "arrears": arrears, "reason": "r"});
        scene.correct(body)
    };
    corrected(&adjust("-4", false));
    assert_refused(&adjust("-6.000000001", false), "adjustment_exceeds_balance", 409);
    assert_eq!([scene.balance("/available"), scene.balance("/movements/adjustments")], ["6", "-4"]);
    corrected(&adjust("-26", true));
    assert_eq!(["/available", "/owed", "/arrears"].map(|at| scene.balance(at)), ["-20", "20", "20"]);
    let up = corrected(&adjust("50", false));
    assert!(up["lot"].is_string(), "{up:#}");
    assert_eq!(
        ["/available", "/owed", "/movements/adjustments"].map(|at| scene.balance(at)),
        ["30", "0", "20"]
    );
}

fn b3_what_a_crash_left_of_a_correction_is_put_right(backend: Backend) {
    let mut scene = Scene::open(backend);
    scene.credit("10", "purchased", None);
    let request = scene.call(1_000_000);
    scene.desk.app().books.flush_blocking().unwrap();
    let now_ms = scene.desk.clock.now_ms();
    scene.desk.clock.jump_to_ms(now_ms + 120_000);
    assert_refused(&scene.refund(&request, Some("0.5"), Some("r")), "books_unavailable", 503);
    scene.desk.clock.jump_to_ms(now_ms);
    let state = |scene: &Scene| scene.desk.get("/api/corrections")["data"][0]["state"].clone();
    assert_eq!((state(&scene), scene.balance("/available")), (json!("approved"), "9".to_owned()));
    for _ in 0..2 {
        scene.desk.restart();
        assert_eq!((state(&scene), scene.balance("/available")), (json!("posted"), "9.5".to_owned()));
        assert_eq!(scene.figures(&request), ["1", "0.5", "0.5"]);
    }
}

fn e4_a_chargeback_leaves_arrears_that_the_next_payment_clears(backend: Backend) {
    let scene = Scene::open(backend);
    let would = || {
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]});
        scene.desk.ask(&Ask::post("/v1/simulate", &body).bearer(&scene.key.1)).ok()
    };
    let order = scene.desk.order(&scene.account, "stripe", "100");
    assert_eq!(scene.desk.paid(&order, &Play::default()), [200]);
    scene.call(60_000_000);
    assert_eq!((scene.balance("/available"), &would()["would"]), ("40".to_owned(), &json!("pass")));
    let payment = scene.desk.shown(&order)["payment_reference"].clone();
    let dispute = json!({"id": "dp_1", "payment_intent": payment, "amount": 10_000, "currency": "usd",
        "status": "needs_response"});
    assert_eq!(scene.desk.providers.stripe_event("charge.dispute.created", &dispute).status, 200);
    let figures =
        || ["/available", "/owed", "/arrears", "/movements/chargebacks"].map(|at| scene.balance(at));
    assert_eq!(figures(), ["-60", "60", "60", "100"]);
    // Its owner is told, once, however often the bank says it.
    assert_eq!(scene.desk.providers.stripe_event("charge.dispute.updated", &dispute).status, 200);
    let told = scene.desk.get(&format!("/api/notices?account={}", scene.account));
    let told: Vec<_> = told["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|told| told["event"] == "account_in_arrears")
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((&told[0]["facts"]["arrears"], &told[0]["facts"]["order"]), (&json!("60"), &json!(order)));
    let refused = would();
    assert_eq!(refused["would"], "fail");
    assert!(
        refused.to_string().contains("balance_exhausted") && refused.to_string().contains("-60"),
        "{refused:#}"
    );
    // Part of the debt is paid, then all of it.
    for (amount, shown, passes) in
        [("50", ["-10", "10", "10", "100"], "fail"), ("30", ["20", "0", "0", "100"], "pass")]
    {
        let order = scene.desk.order(&scene.account, "stripe", amount);
        assert_eq!(scene.desk.paid(&order, &Play::default()), [200]);
        assert_eq!((figures(), &would()["would"]), (shown.map(str::to_owned), &json!(passes)));
    }
}

/// S4: an operator edits under traffic; what an account has follows from entries alone.
fn s4_a_remark_changes_no_balance(backend: Backend) {
    let scene = Scene::open(backend);
    scene.credit("10", "purchased", None);
    let path = format!("/api/accounts/{}", scene.account);
    let address = scene.desk.address();
    let edits = {
        let path = path.clone();
        thread::spawn(move || {
            for n in 0..20 {
                let ask =
                    Ask::new("PATCH", path.clone()).raw_body(json!({"remark": format!("r{n}")}).to_string());
                Connection::open(address).unwrap().ask(&ask.bearer(ADMIN_TOKEN)).unwrap().ok();
            }
        })
    };
    (0..20).for_each(|_| drop(scene.call(100_000)));
    edits.join().unwrap();
    assert_eq!(["/available", "/movements/charges"].map(|at| scene.balance(at)), ["8", "2"]);
    for field in ["balance", "available", "credits"] {
        let ask = Ask::new("PATCH", path.clone()).raw_body(json!({field: "1000"}).to_string());
        assert_refused(&scene.desk.ask(&ask.bearer(ADMIN_TOKEN)), "unknown_field", 400);
    }
}

fn what_cannot_be_corrected_is_refused(backend: Backend) {
    let scene = Scene::open(backend);
    let other = scene.desk.account("Bob");
    scene.credit("10", "purchased", None);
    let request = scene.call(1_000_000);
    let free = play(scene.desk.app(), &scene.key.0, MODEL, (1, 0), Ending::UpstreamFailed);
    let nobody = "req_00000000000000000000000000";
    let account = &scene.account;
    for (field, body) in [
        ("request", json!({"kind": "refund", "reason": "r"})),
        ("request", json!({"kind": "refund", "request": free, "reason": "r"})),
        ("request", json!({"kind": "refund", "request": nobody, "reason": "r"})),
        ("account", json!({"kind": "refund", "request": request, "account": other, "reason": "r"})),
        ("environment", json!({"kind": "refund", "request": request, "environment": "test", "reason": "r"})),
        ("amount", json!({"kind": "refund", "request": request, "amount": "-1", "reason": "r"})),
        ("account", json!({"kind": "compensation", "amount": "1", "reason": "r"})),
        ("amount", json!({"kind": "compensation", "account": account, "reason": "r"})),
        ("amount", json!({"kind": "compensation", "account": account, "amount": "-1", "reason": "r"})),
        ("amount", json!({"kind": "adjustment", "account": account, "amount": "0", "reason": "r"})),
        ("reason", json!({"kind": "adjustment", "account": account, "amount": "1", "reason": " "})),
        (
            "reference",
            json!({"kind": "adjustment", "account": account, "amount": "1", "reference": "", "reason": "r"}),
        ),
        (
            "expires_at",
            json!({"kind": "compensation", "account": account, "amount": "1", "expires_at": "2020-01-01T00:00:00Z",
                "reason": "r"}),
        ),
    ] {
        let reply = scene.correct(body.clone());
        assert_refused(&reply, "invalid_value", 400);
        assert_eq!(reply.json()["error"]["param"], field, "{body}: {}", reply.text());
    }
    // The credit alone is written down.
    let written = scene.desk.get("/api/corrections")["data"].clone();
    assert_eq!(
        (written.as_array().unwrap().len(), &written[0]["kind"]),
        (1, &json!("credit")),
        "{written:#}"
    );
    assert_eq!(scene.balance("/available"), "9");
}
