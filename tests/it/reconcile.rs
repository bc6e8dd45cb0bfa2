//! Imports and comparisons: what is refused, what is remembered, and the upstream's own bill (B7, S16, S46), on both stores.

use serde_json::{Value, json};
use tallygate::app::App;
use tallygate::id::ReconcileCaseId;
use tallygate::reconcile::{Case, CaseState, Kind};

use crate::on_both_backends;
use crate::support::app::TestApp;
use crate::support::backend::Backend;
use crate::support::demo::Demo;

on_both_backends!(
    b7_a_file_is_imported_whole_and_once_or_not_at_all,
    b7_a_difference_is_a_case_with_both_sides,
    b7_a_time_that_ends_before_it_begins_is_refused,
    b7_a_scope_of_nobody_is_refused,
    s46_the_upstreams_bill_is_explained_row_by_row,
);

/// A case, for who only needs one; its id.
pub fn some_case(app: &App) -> String {
    let id = ReconcileCaseId::new(&*app.clock, &*app.entropy);
    let case = Case {
        id,
        source: "payments:stripe".into(),
        kind: Kind::RowMissing,
        subject: "payment:pi_1".into(),
        state: CaseState::Open,
        ours: None,
        theirs: None,
        cause: "a test".into(),
        proposal: None,
        corrections: Vec::new(),
        opened_ms: 0,
        seen_run: 1,
        closed_ms: None,
        closed_by: None,
        reason: None,
    };
    app.reconcile.see(&[case]).unwrap();
    id.to_string()
}

fn long(app: &TestApp, path: &str, body: Value) -> Value {
    app.post(path, body).ok();
    loop {
        let standing = app.get("/api/reconcile").ok();
        if standing["state"] != "running" {
            assert_eq!(standing["state"], "done", "{standing:#}");
            return standing["report"].clone();
        }
        std::thread::yield_now();
    }
}

const HEAD: &str = "created_utc,currency,gross,reporting_category,payment_intent_id\n";

/// Broken files, wrong columns, other currencies and the same file again: refused with line and reason, nothing kept.
fn b7_a_file_is_imported_whole_and_once_or_not_at_all(backend: Backend) {
    let app = TestApp::on(backend);
    let import = |content: &str| {
        long(&app, "/api/reconcile/imports", json!({"format": "stripe-balance", "content": content}))
    };
    let good = "2026-11-22 08:00:00,usd,10.00,charge,pi_1\n";
    for (content, line, reason) in [
        (format!("{HEAD}{good}2026-11-22 08:00:00,usd,10.00\n"), json!(3), "values where the columns are"),
        (format!("{HEAD}{good}2026-11-22 08:00:00,usd,1O.00,charge,pi_2\n"), json!(3), "is no number"),
        (
            format!("{HEAD}{good}2026-11-22 08:00:00,eur,10.00,charge,pi_2\n"),
            json!(3),
            "EUR is no currency of",
        ),
        ("created_utc,currency,net,reporting_category,payment_intent_id\n".to_owned(), json!(1), "\"gross\""),
        ("nothing at all\n".to_owned(), json!(null), "no line has the columns"),
        (HEAD.to_owned(), json!(null), "has no rows"),
    ] {
        let ended = import(&content);
        assert_eq!(ended["refused"]["line"], line, "{ended:#}");
        assert!(ended["refused"]["reason"].as_str().unwrap().contains(reason), "{ended:#}");
    }
    assert_eq!(app.get("/api/reconcile/imports").ok()["data"], json!([]));
    let imported = import(&format!("{HEAD}{good}"));
    assert_eq!(imported["import"]["rows"], 1, "{imported:#}");
    let again = import(&format!("{HEAD}{good}"));
    assert!(again["refused"]["reason"].as_str().unwrap().contains("was imported before"), "{again:#}");
    assert_eq!(app.get("/api/reconcile/imports").ok()["data"].as_array().unwrap().len(), 1);
}

#[test]
fn what_can_be_told_without_reading_the_file_is_told_at_once() {
    let app = TestApp::new();
    for (body, field) in [
        (json!({"format": "paper", "content": "x"}), "format"),
        (json!({"content": "x"}), "format"),
        (json!({"mapping": "name = 1", "content": "x"}), "mapping"),
        (json!({"format": "wechat"}), "content"),
        (json!({"format": "wechat", "path": "/nowhere/at/all"}), "path"),
    ] {
        let answer = app.post("/api/reconcile/imports", body);
        answer.refused(400, "invalid_value");
        assert_eq!(answer.field(), field);
    }
}

/// Both ends said: at once. One said, beside the rows of the file: once it is read.
fn b7_a_time_that_ends_before_it_begins_is_refused(backend: Backend) {
    let app = TestApp::on(backend);
    let content = format!("{HEAD}2026-11-22 08:00:00,usd,10.00,charge,pi_1\n");
    let body = |times: Value| {
        let mut body = json!({"format": "stripe-balance", "content": content});
        body.as_object_mut().unwrap().append(&mut times.as_object().unwrap().clone());
        body
    };
    let (early, late) = ("2026-11-01T00:00:00Z", "2026-11-28T00:00:00Z");
    let answer = app.post("/api/reconcile/imports", body(json!({"from": late, "until": early})));
    answer.refused(400, "invalid_value");
    assert_eq!(answer.field(), "until");
    for times in [json!({"from": late}), json!({"until": early})] {
        let told = long(&app, "/api/reconcile/imports", body(times));
        let reason = told["refused"]["reason"].as_str().unwrap_or_else(|| panic!("{told:#}"));
        assert!(reason.contains("and end before that"), "{told:#}");
    }
    assert_eq!(app.get("/api/reconcile/imports").ok()["data"], json!([]));
    let told = long(&app, "/api/reconcile/imports", body(json!({"from": early, "until": late})));
    assert_eq!(told["import"]["rows"], 1, "{told:#}");
}

/// Every row would be a case that proposes to complete an order of nobody, or be compared with all channels.
fn b7_a_scope_of_nobody_is_refused(backend: Backend) {
    let app = TestApp::on(backend);
    let mapping = |scope: &str| {
        format!(
            "name = \"bank {scope}\"\nside = \"payments\"\njoin = \"order\"\ncurrency = \"USD\"\nscope = \"{scope}\"\n\
             [columns]\nkey = \"Ref\"\namount = \"Amount\"\ntime = \"Booked\"\n"
        )
    };
    let statement = "Ref,Amount,Booked\nord_1,1.00,2026-11-22 08:00:00\n";
    let bill = "request_id,cost,currency,time\nc1,0.1,USD,2026-11-22T08:00:00Z\n";
    let channel =
        json!({"name": "c", "base_url": "http://127.0.0.1:9/v1", "credential": "sk-x", "models": {"m": "m"}});
    app.post("/api/models", json!({"name": "m"})).ok();
    let channel = app.post("/api/channels", channel).ok()["id"].as_str().unwrap().to_owned();
    let with_a_typo = format!("{channel}, chn_0");
    for (body, field, named) in [
        (json!({"mapping": mapping("nope"), "content": statement}), "mapping", "\"nope\""),
        (json!({"mapping": mapping(""), "content": statement}), "mapping", "\"\""),
        (
            json!({"mapping": mapping("transfer"), "scope": "Transfer", "content": statement}),
            "scope",
            "\"Transfer\"",
        ),
        (json!({"format": "upstream-csv", "scope": "openai", "content": bill}), "scope", "\"openai\""),
        (json!({"format": "upstream-csv", "scope": with_a_typo, "content": bill}), "scope", "\"chn_0\""),
    ] {
        let answer = app.post("/api/reconcile/imports", body);
        answer.refused(400, "invalid_value");
        assert_eq!(answer.field(), field);
        assert!(answer.text("/error/message").contains(named), "{:#}", answer.body);
    }
    let body = json!({"format": "upstream-csv", "scope": channel, "content": bill});
    assert_eq!(long(&app, "/api/reconcile/imports", body)["import"]["scope"], channel);
    for provider in tallygate::funding::provider::NAMES {
        let body = json!({"mapping": mapping(provider), "content": statement});
        assert_eq!(long(&app, "/api/reconcile/imports", body)["import"]["scope"], provider);
    }
}

/// A payment that nobody knows is a case with the values of its line, a cause and a proposal; it closes with a reason, or
/// by itself when both sides agree.
fn b7_a_difference_is_a_case_with_both_sides(backend: Backend) {
    let app = TestApp::on(backend);
    let content = format!(
        "{HEAD}2026-11-22 08:00:00,usd,10.00,charge,pi_1\n2026-11-22 08:00:00,usd,-4.00,refund,pi_2\n"
    );
    long(&app, "/api/reconcile/imports", json!({"format": "stripe-balance", "content": content}));
    let report = long(&app, "/api/reconcile", json!({}));
    assert_eq!((&report["clean"], &report["open_cases"]), (&json!(false), &json!(2)), "{report:#}");
    let listed = app.get("/api/reconcile/cases?kind=row_missing").ok()["data"][0].clone();
    let shown = app.get(&format!("/api/reconcile/cases/{}", listed["id"].as_str().unwrap())).ok();
    assert_eq!(shown["subject"], "payment:pi_1");
    assert_eq!(shown["theirs"]["values"]["reporting_category"], "charge", "{shown:#}");
    assert_eq!(shown["proposal"]["action"], "complete_order");
    let other = app.get("/api/reconcile/cases?kind=refund_without_charge").ok()["data"][0].clone();
    assert_eq!(other["subject"], "refund:pi_2");
    let close = format!("/api/reconcile/cases/{}/close", other["id"].as_str().unwrap());
    app.post(&close, json!({"reason": ""})).refused(400, "invalid_value");
    let closed = app.post(&close, json!({"reason": "sent by hand, see ticket 12"})).ok();
    assert_eq!((&closed["state"], &closed["closed_by"]), (&json!("closed"), &json!("admin token")));
    app.post(&close, json!({"reason": "again"})).refused(400, "invalid_value");
    let again = long(&app, "/api/reconcile", json!({}));
    assert_eq!(again["open_cases"], 1);
}

/// S16, S46: calls that end well, fail, break off, time out and are tried again: the upstream's own bill beside the
/// attempts leaves nothing unexplained.
fn s46_the_upstreams_bill_is_explained_row_by_row(backend: Backend) {
    let demo = match backend.url() {
        Some(url) => Demo::start_on(url.expose()),
        None => Demo::start(),
    };
    let run = |args: &[&str]| {
        let mut command = demo.command(&[&["--json", "reconcile"], args].concat());
        let done = command.output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{text}{told}")))
    };
    let key = demo.key("healthy");
    for model in ["gpt-5-mini", "claude-sonnet-4-5", "deepseek-chat"] {
        demo.chat(&key, model, "Hello").ok();
    }
    // By the day, as the upstreams' own reports have it.
    let report = demo.dir().join("costs.csv");
    std::fs::write(&report, by_day(&demo.bill())).unwrap();
    run(&["import", "openai-costs-csv", report.to_str().unwrap()]);
    let (_, by_day) = run(&[]);
    assert_eq!(by_day["clean"], true, "{by_day:#}");
    assert_eq!(by_day["sources"][1]["source"], "upstream:all:day");
    assert!(by_day["sources"][1]["matched"].as_u64() >= Some(1), "{by_day:#}");

    for model in ["gpt-5-mini", "demo-cut", "demo-500", "demo-no-usage", "demo-429", "gpt-5-mini"] {
        demo.chat(&key, model, "Hello");
    }
    let bill = demo.dir().join("upstream/upstream-bill.jsonl");
    let (exit, imported) = run(&["import", "simulator", bill.to_str().unwrap()]);
    assert_eq!(exit, Some(0), "{imported:#}");
    let (_, report) = run(&[]);
    let of = |source: &str| {
        report["sources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|of| of["source"] == source)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(of("books")["differences"], json!({}), "{report:#}");
    let upstream = of("upstream:all");
    assert!(upstream["matched"].as_u64().unwrap() >= 6, "{report:#}");
    let (_, cases) = run(&["cases", "--source", "upstream:all"]);
    for case in cases["data"].as_array().unwrap() {
        // What could only be estimated is told as that; nothing is unknown to the journal.
        assert_eq!(case["kind"], "amount_differs", "{case:#}");
        assert!(matches!(case["ours"]["basis"].as_str(), Some("estimated" | "counted")), "{case:#}");
    }
}

/// The bill's costs as an export of OpenAI's costs page: what each line item came to on a day.
fn by_day(bill: &[Value]) -> String {
    let mut text =
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item\n".to_owned();
    for row in bill {
        let (day, cost) = (&row["time"].as_str().unwrap()[..10], row["cost"].as_str().unwrap());
        text +=
            &format!("0,0,{day}T00:00:00+00:00,,{cost},usd,\"{}, all\"\n", row["model"].as_str().unwrap());
    }
    text
}
