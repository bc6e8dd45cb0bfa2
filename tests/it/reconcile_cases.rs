//! From a difference to the entry that puts it right (B3, B7): the case shows what would be posted, somebody has it posted –
//! large ones with a second person –, and the case says who and why. On both stores.

use serde_json::{Value, json};
use tallygate::demo::payments::Play;
use tallygate::funding::NewCorrection;
use tallygate::gateway::facts::Ending;
use tallygate::id::ReconcileCaseId;
use tallygate::reconcile::begun::{Begun, reference};
use tallygate::reconcile::{Case, CaseState, Kind, correct, entry};

use crate::on_both_backends;
use crate::support::app::play;
use crate::support::backend::Backend;
use crate::support::demo::Demo;
use crate::support::desk::Desk;
use crate::support::http::{Ask, Reply};

on_both_backends!(
    b7_another_amount_becomes_an_adjustment_of_the_orders_account,
    b7_what_the_payer_got_back_is_taken_from_the_account,
    b7_a_charge_that_the_upstream_does_not_bill_is_refunded,
    b7_a_large_entry_waits_for_a_second_person_and_then_closes_its_case,
    b7_what_the_books_cannot_put_right_says_what_to_do,
    b7_money_on_the_wrong_account_is_moved,
    b7_corrections_that_a_crash_cut_off_come_to_their_case,
    b7_a_payer_who_paid_more_than_twice_the_order_gets_all_of_it,
    b7_a_case_stays_open_until_its_postings_cover_it,
);

const HEAD: &str = "created_utc,currency,gross,reporting_category,payment_intent_id\n";

fn ended(desk: &Desk) -> Value {
    loop {
        let standing = desk.get("/api/reconcile");
        if standing["state"] != "running" {
            assert_eq!(standing["state"], "done", "{standing:#}");
            return standing["report"].clone();
        }
        std::thread::yield_now();
    }
}

/// Imports a file of that day and compares: the one open case of its source.
#[track_caller]
fn case_of(desk: &Desk, format: &str, source: &str, content: &str) -> Value {
    let body = json!({"format": format, "content": content, "from": "2026-11-22T00:00:00Z",
        "until": "2026-11-23T00:00:00Z"});
    desk.post("/api/reconcile/imports", body).ok();
    let imported = ended(desk);
    assert!(imported["refused"].is_null(), "{imported:#}");
    open_case(desk, source)
}

#[track_caller]
fn open_case(desk: &Desk, source: &str) -> Value {
    desk.post("/api/reconcile", json!({})).ok();
    ended(desk);
    let cases = desk.get(&format!("/api/reconcile/cases?state=open&source={source}"))["data"].clone();
    let [case] = cases.as_array().unwrap().as_slice() else { panic!("{cases:#}") };
    shown(desk, case)
}

fn shown(desk: &Desk, case: &Value) -> Value {
    let case = desk.get(&format!("/api/reconcile/cases/{}", case["id"].as_str().unwrap()));
    tallygate::api::check_answer("GET", "/api/reconcile/cases/{id}", &case)
        .unwrap_or_else(|why| panic!("{why}"));
    case
}

fn correct_case(desk: &Desk, case: &Value) -> Reply {
    let path = format!("/api/reconcile/cases/{}/correct", case["id"].as_str().unwrap());
    desk.post(&path, json!({"reason": "the bank says so"}))
}

/// A paid order of Stripe: account, order, and the provider's number of its payment.
fn paid(desk: &Desk) -> (String, String, String) {
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "10.00");
    desk.pay(&order, &Play::default());
    let charge = desk.providers.charge(&order).unwrap();
    (account, order, charge["payment_intent"].as_str().unwrap().to_owned())
}

#[track_caller]
fn entry_is(case: &Value, kind: &str, account: &str, amount: &str) {
    let entry = &case["entries"][0];
    assert_eq!(
        (&entry["kind"], &entry["account"], &entry["amount"]),
        (&json!(kind), &json!(account), &json!(amount)),
        "{case:#}"
    );
}

#[track_caller]
fn refused_as(reply: &Reply, field: &str) {
    let body = reply.json();
    assert_eq!((reply.head.status, &body["error"]["param"]), (400, &json!(field)), "{body:#}");
}

fn b7_another_amount_becomes_an_adjustment_of_the_orders_account(backend: Backend) {
    let desk = Desk::open(backend);
    let (account, order, payment) = paid(&desk);
    let content = format!("{HEAD}2026-11-22 08:00:00,usd,12.50,charge,{payment}\n");
    let case = case_of(&desk, "stripe-balance", "payments:stripe", &content);
    assert_eq!((&case["kind"], &case["proposal"]["order"]), (&json!("amount_differs"), &json!(order)));
    entry_is(&case, "adjustment", &account, "2.5");
    assert_eq!(desk.available(&account), "10");
    let closed = correct_case(&desk, &case).ok();
    assert_eq!(
        (&closed["state"], &closed["closed_by"]),
        (&json!("closed"), &json!("admin token")),
        "{closed:#}"
    );
    let correction = closed["corrections"][0]["id"].as_str().unwrap();
    assert_eq!(closed["reason"], format!("the bank says so ({correction})"));
    assert_eq!(desk.available(&account), "12.5");
    let made = desk.get(&format!("/api/corrections/{correction}"));
    assert_eq!((&made["state"], &made["reason"]), (&json!("posted"), &json!("the bank says so")));
    // Once; and it stays closed when it is seen again.
    refused_as(&correct_case(&desk, &case), "state");
    desk.post("/api/reconcile", json!({})).ok();
    assert_eq!(ended(&desk)["open_cases"], 0);
    assert_eq!(desk.available(&account), "12.5");
    let audit = desk.get("/api/audit?kind=reconcile_note");
    let noted = audit["data"][0].to_string();
    assert!(noted.contains("the bank says so") && noted.contains(case["id"].as_str().unwrap()), "{audit:#}");
}

fn b7_what_the_payer_got_back_is_taken_from_the_account(backend: Backend) {
    let desk = Desk::open(backend);
    let (account, _, payment) = paid(&desk);
    let content = format!(
        "{HEAD}2026-11-22 08:00:00,usd,10.00,charge,{payment}\n2026-11-22 09:00:00,usd,-4.00,refund,{payment}\n"
    );
    let case = case_of(&desk, "stripe-balance", "payments:stripe", &content);
    assert_eq!(
        (&case["kind"], &case["subject"]),
        (&json!("row_missing"), &json!(format!("refund:{payment}")))
    );
    entry_is(&case, "adjustment", &account, "-4");
    assert_eq!(case["entries"][0]["arrears"], true);
    assert_eq!(correct_case(&desk, &case).ok()["state"], "closed");
    assert_eq!(desk.available(&account), "6");
}

fn b7_a_charge_that_the_upstream_does_not_bill_is_refunded(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let made = |path: &str, body: Value| desk.post(path, body).ok();
    made("/api/models", json!({"name": "m"}));
    made("/api/prices", json!({"model": "m", "per_million": {"input": "1000", "output": "2000"}}));
    let channel =
        json!({"name": "c", "base_url": "http://127.0.0.1:9/v1", "credential": "sk-x", "models": {"m": "m"}});
    made("/api/channels", channel);
    let credit = json!({"amount": "5", "kind": "purchased", "reference": "gift:1", "reason": "test"});
    made(&format!("/api/accounts/{account}/credits"), credit);
    let key = made("/api/keys", json!({"account": account, "name": "k"}));
    let request = play(desk.app(), key["id"].as_str().unwrap(), "m", (1_000, 0), Ending::Complete);
    assert_eq!(desk.available(&account), "4");
    let bill = "request_id,cost,currency,time\nsomebody,0,USD,2026-11-22T00:00:00Z\n";
    let body = json!({"format": "upstream-csv", "content": bill, "from": "2026-11-22T00:00:00Z",
        "until": "2026-11-23T00:00:00Z"});
    made("/api/reconcile/imports", body);
    ended(&desk);
    made("/api/reconcile", json!({}));
    ended(&desk);
    let cases = desk.get("/api/reconcile/cases?kind=charged_without_answer")["data"].clone();
    let case = shown(&desk, &cases[0]);
    entry_is(&case, "refund", &account, "1");
    assert_eq!(case["entries"][0]["request"], json!(request));
    assert_eq!(correct_case(&desk, &case).ok()["state"], "closed");
    assert_eq!(desk.available(&account), "5");
    assert_eq!(desk.get(&format!("/api/requests/{request}"))["net"], "0");
}

/// Access token of a new operator.
fn operator(desk: &Desk) -> String {
    let made = desk.post("/api/operators", json!({"name": "Two", "role": "finance"})).ok();
    let path = format!("/api/operators/{}/token", made["id"].as_str().unwrap());
    desk.post(&path, json!({})).ok()["token"].as_str().unwrap().to_owned()
}

fn b7_a_large_entry_waits_for_a_second_person_and_then_closes_its_case(backend: Backend) {
    let desk = Desk::open_with(backend, vec![("ledger.approval_above", "1".to_owned())]);
    let (account, _, payment) = paid(&desk);
    let content = format!("{HEAD}2026-11-22 08:00:00,usd,12.50,charge,{payment}\n");
    let case = case_of(&desk, "stripe-balance", "payments:stripe", &content);
    let second = operator(&desk);
    let decide = |case: &Value, state: &str| {
        let made = case["corrections"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
        let body = json!({"state": state, "reason": "looked at it"});
        desk.ask(&Ask::post(format!("/api/corrections/{made}/decision"), &body).bearer(&second)).ok();
    };
    let settle = || {
        let app = desk.app();
        let books = entry::Books { funding: &app.funding, corrections: &app.corrections };
        correct::settle_all(&app.reconcile, &books, app.clock.now_ms()).unwrap()
    };
    let asked = correct_case(&desk, &case).ok();
    assert_eq!((&asked["state"], &asked["corrections"][0]["state"]), (&json!("open"), &json!("pending")));
    refused_as(&correct_case(&desk, &case), "state");
    assert_eq!((desk.available(&account).as_str(), settle()), ("10", 0));
    // What was rejected may be asked for again.
    decide(&asked, "rejected");
    assert_eq!(settle(), 0);
    let again = correct_case(&desk, &case).ok();
    assert_eq!(again["corrections"].as_array().unwrap().len(), 2, "{again:#}");
    decide(&again, "approved");
    assert_eq!((desk.available(&account).as_str(), settle(), settle()), ("12.5", 1, 0));
    let closed = shown(&desk, &case);
    assert_eq!(closed["state"], "closed");
    assert!(closed["closed_by"].as_str().unwrap().starts_with("operator "), "{closed:#}");
    let states: Vec<_> =
        closed["corrections"].as_array().unwrap().iter().map(|made| &made["state"]).collect();
    assert_eq!(states, ["rejected", "posted"]);
}

fn b7_what_the_books_cannot_put_right_says_what_to_do(backend: Backend) {
    let desk = Desk::open(backend);
    let (_, order, payment) = paid(&desk);
    // Settled in another currency.
    let content = format!("{HEAD}2026-11-22 08:00:00,cny,72.50,charge,{payment}\n");
    let case = case_of(&desk, "stripe-balance", "payments:stripe", &content);
    assert_eq!((&case["kind"], &case["entries"]), (&json!("currency_differs"), &json!([])));
    assert_eq!(case["proposal"]["action"], "use_other_mapping");
    refused_as(&correct_case(&desk, &case), "proposal");
    let close = format!("/api/reconcile/cases/{}/close", case["id"].as_str().unwrap());
    desk.post(&close, json!({"reason": format!("{order} was settled in yuan")})).ok();
    let audit = desk.get("/api/audit?kind=reconcile_note");
    assert!(audit["data"][0].to_string().contains("was settled in yuan"), "{audit:#}");
}

/// A case of money that the ledger posted to the wrong account.
fn moved(desk: &Desk, wrong: &str, right: &str) -> ReconcileCaseId {
    let id = ReconcileCaseId::new(&*desk.app().clock, &*desk.app().entropy);
    let case = Case {
        id,
        source: "books".into(),
        kind: Kind::AccountDiffers,
        subject: format!("payment:{id}"),
        state: CaseState::Open,
        ours: None,
        theirs: None,
        cause: "a test".into(),
        proposal: Some(json!({"action": "move_between_accounts", "from": wrong, "to": right, "amount": "3"})),
        corrections: Vec::new(),
        opened_ms: 0,
        seen_run: 1,
        closed_ms: None,
        closed_by: None,
        reason: None,
    };
    desk.app().reconcile.see(&[case]).unwrap();
    id
}

fn b7_money_on_the_wrong_account_is_moved(backend: Backend) {
    let desk = Desk::open(backend);
    let (right, _, _) = paid(&desk);
    let (wrong, _, _) = paid(&desk);
    let id = moved(&desk, &wrong, &right);
    let closed = correct_case(&desk, &json!({"id": id.to_string()})).ok();
    assert_eq!(closed["state"], "closed", "{closed:#}");
    assert_eq!(closed["corrections"].as_array().unwrap().len(), 2);
    assert_eq!([desk.available(&wrong), desk.available(&right)], ["7", "13"]);
}

/// The process died after none, one and both of two corrections were posted, and before they were on their case.
fn b7_corrections_that_a_crash_cut_off_come_to_their_case(backend: Backend) {
    let desk = Desk::open(backend);
    let (right, _, _) = paid(&desk);
    let (wrong, _, _) = paid(&desk);
    let app = desk.app();
    let books = entry::Books { funding: &app.funding, corrections: &app.corrections };
    let cut_off = |posted: usize| {
        let id = moved(&desk, &wrong, &right);
        let case = app.reconcile.case(id).unwrap().unwrap();
        let (actor, reason) = ("operator one".to_owned(), "ticket 12".to_owned());
        let begun =
            Begun { count: 2, actor: actor.clone(), reason: reason.clone(), at_ms: app.clock.now_ms() };
        app.reconcile.begin_correcting(id, &begun).unwrap();
        for (number, terms) in
            entry::entries(&books, &case).unwrap().unwrap().into_iter().enumerate().take(posted)
        {
            let reference = Some(reference(&case, number));
            let new = NewCorrection { terms, reference, reason: reason.clone(), actor: actor.clone() };
            app.corrections.propose(&new).unwrap();
        }
        json!({"id": id.to_string()})
    };
    let told = |case: &Value| {
        let case = shown(&desk, case);
        (case["state"].as_str().unwrap().to_owned(), case["corrections"].as_array().unwrap().len())
    };
    let settle = || correct::settle_all(&app.reconcile, &books, app.clock.now_ms()).unwrap();
    let [none, one, both] = [0, 1, 2].map(cut_off);
    assert_eq!([desk.available(&wrong), desk.available(&right)], ["4", "13"]);
    // Whoever looks at what is posted whole finds it closed, by who asked for it. The others may still be under way.
    assert_eq!(told(&both), ("closed".to_owned(), 2));
    assert_eq!(shown(&desk, &both)["closed_by"], "operator one");
    assert_eq!((settle(), told(&one), told(&none)), (0, ("open".to_owned(), 0), ("open".to_owned(), 0)));
    desk.clock.advance_ms(60_000);
    assert_eq!((settle(), told(&one)), (1, ("closed".to_owned(), 2)));
    assert_eq!([desk.available(&wrong), desk.available(&right)], ["4", "16"]);
    // Of what nothing was posted, nobody was told that it was: it is asked for again.
    assert_eq!(told(&none), ("open".to_owned(), 0));
    assert_eq!(correct_case(&desk, &none).ok()["state"], "closed");
    assert_eq!(
        (settle(), [desk.available(&wrong), desk.available(&right)]),
        (0, ["1", "19"].map(String::from))
    );
}

/// A transfer of 35 for an order of 10, another of 4, and one in yuan at 7.25: the account gets or loses what the bank says.
fn b7_a_payer_who_paid_more_than_twice_the_order_gets_all_of_it(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for (number, (provider, paid, currency, difference, entry, then)) in [
        ("transfer", "35.00", "USD", "25", "25", "35"),
        ("transfer", "4.00", "USD", "-6", "-6", "39"),
        ("alipay", "253.75", "CNY", "181.25", "25", "74"),
    ]
    .into_iter()
    .enumerate()
    {
        let order = desk.order(&account, provider, "10.00");
        if provider == "transfer" {
            let path = format!("/api/orders/{order}/complete");
            desk.post(&path, json!({"reason": "it is on the bank's statement"})).ok();
        } else {
            desk.pay(&order, &Play::default());
        }
        assert_eq!(desk.state(&order), "credited");
        let mapping = format!(
            "name = \"bank {number}\"\nside = \"payments\"\nscope = \"{provider}\"\njoin = \"order\"\n\
             currency = \"{currency}\"\n[columns]\nkey = \"Reference\"\namount = \"Amount\"\ntime = \"Booked\"\n"
        );
        let content = format!("Reference,Amount,Booked\n{order},{paid},2026-11-22 08:00:00\n");
        desk.post("/api/reconcile/imports", json!({"mapping": mapping, "content": content})).ok();
        assert!(ended(&desk)["refused"].is_null());
        let case = open_case(&desk, &format!("payments:{provider}"));
        let proposal = &case["proposal"];
        assert_eq!(
            (&proposal["action"], &proposal["amount"], &proposal["currency"]),
            (&json!("adjust_order"), &json!(difference), &json!(currency))
        );
        entry_is(&case, "adjustment", &account, entry);
        assert_eq!(correct_case(&desk, &case).ok()["state"], "closed");
        assert_eq!(desk.available(&account), then);
    }
}

/// Large ones wait for a second person. Of two, one is approved and one rejected; and while one waits the other side says more.
fn b7_a_case_stays_open_until_its_postings_cover_it(backend: Backend) {
    let desk = Desk::open_with(backend, vec![("ledger.approval_above", "1".to_owned())]);
    let ((right, _, _), (wrong, _, _)) = (paid(&desk), paid(&desk));
    let second = operator(&desk);
    let decide = |case: &Value, number: usize, state: &str| {
        let made = case["corrections"][number]["id"].as_str().unwrap().to_owned();
        let body = json!({"state": state, "reason": "looked at it"});
        desk.ask(&Ask::post(format!("/api/corrections/{made}/decision"), &body).bearer(&second)).ok();
    };
    let app = desk.app();
    let settle = || {
        let books = entry::Books { funding: &app.funding, corrections: &app.corrections };
        correct::settle_all(&app.reconcile, &books, app.clock.now_ms()).unwrap()
    };
    let case = moved(&desk, &wrong, &right);
    let id = json!({"id": case.to_string()});
    let asked = correct_case(&desk, &id).ok();
    decide(&asked, 0, "approved");
    decide(&asked, 1, "rejected");
    assert_eq!(settle(), 0);
    assert_eq!([desk.available(&wrong), desk.available(&right)], ["7", "10"]);
    // Only what is missing is asked for again.
    let rest = shown(&desk, &id);
    assert_eq!((&rest["state"], rest["entries"].as_array().unwrap().len()), (&json!("open"), 1), "{rest:#}");
    entry_is(&rest, "adjustment", &right, "3");
    let again = correct_case(&desk, &id).ok();
    let mut case = app.reconcile.case(case).unwrap().unwrap();
    case.proposal =
        Some(json!({"action": "move_between_accounts", "from": wrong, "to": right, "amount": "5"}));
    app.reconcile.see(&[case]).unwrap();
    decide(&again, 2, "approved");
    assert_eq!(settle(), 0);
    let rest = shown(&desk, &id);
    let amounts: Vec<_> = rest["entries"].as_array().unwrap().iter().map(|entry| &entry["amount"]).collect();
    assert_eq!(amounts, ["-2", "2"], "{rest:#}");
    let last = correct_case(&desk, &id).ok();
    decide(&last, 3, "approved");
    decide(&last, 4, "approved");
    assert_eq!((settle(), settle()), (1, 0));
    assert_eq!([desk.available(&wrong), desk.available(&right)], ["5", "15"]);
    assert_eq!(shown(&desk, &id)["state"], "closed");
}

/// The same by the command line, which says what to do next.
#[test]
fn b7_a_case_is_corrected_by_command() {
    let demo = Demo::start();
    let answer = demo.chat(&demo.key("healthy"), "gpt-5-mini", "Hello");
    let request = answer.head.request_id().to_owned();
    answer.ok();
    let bill = demo.dir().join("bill.csv");
    std::fs::write(&bill, "request_id,cost,currency,time\nsomebody,0,USD,2026-01-01T00:00:00Z\n").unwrap();
    let run = |args: &[&str]| {
        let done = demo.command(&[&["reconcile"], args].concat()).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let import = ["import", "upstream-csv", bill.to_str().unwrap(), "--from", "2026-01-01T00:00:00Z"];
    let (exit, _, told) = run(&[&import[..], &["--until", "2099-01-01T00:00:00Z"]].concat());
    assert_eq!(exit, Some(0), "{told}");
    assert_eq!(run(&[]).0, Some(1));
    let (_, listed, _) = run(&["--json", "cases", "--kind", "charged_without_answer"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let of_it = |case: &&Value| case["ours"]["request"] == request;
    let case = listed["data"].as_array().unwrap().iter().find(of_it).unwrap_or_else(|| panic!("{listed:#}"));
    let case = case["id"].as_str().unwrap();
    let (exit, shown, _) = run(&["show", case]);
    assert_eq!(exit, Some(0));
    assert!(shown.contains(&format!("next: tallygate reconcile correct {case} --reason …")), "{shown}");
    let (exit, corrected, told) = run(&["correct", case, "--reason", "no answer came"]);
    assert_eq!(exit, Some(0), "{told}");
    assert!(corrected.contains("no answer came (cor_") && !corrected.contains("next:"), "{corrected}");
    assert_eq!(demo.receipt(&request)["net"], "0");
    assert_eq!(run(&["correct", case, "--reason", "again"]).0, Some(2));
}
