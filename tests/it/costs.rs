//! Cost reports: gross, refunds and net by whatever is asked for, as the log has them, on both stores (I2).

use std::collections::BTreeMap;

use ledger::{Effect, Nano, total};
use serde_json::{Value, json};
use tallygate::books::encoding;
use tallygate::books::lookup::StoredCall;
use tallygate::store::RequestsOf;

use crate::on_both_backends;
use crate::support::app::{ADMIN_TOKEN, TestApp};
use crate::support::backend::Backend;
use crate::support::history::{History, Person, begin, refund};
use crate::support::http::Ask;
use crate::support::studio::Studio;

on_both_backends!(
    i2_reports_of_random_lives_say_what_the_log_says,
    s45_gross_refunds_and_net_are_three_figures,
    i2_what_is_sold_by_pictures_and_seconds_is_counted_so,
);

/// Calls, gross, refunds, tokens in.
type Figures = (i64, i64, i64, i64);

fn add(sum: &mut Figures, more: Figures) {
    *sum = (sum.0 + more.0, sum.1 + more.1, sum.2 + more.2, sum.3 + more.3);
}

/// Every ended call of a person with what was refunded of it, read from the log and the movements one by one.
fn calls(history: &History, person: &Person) -> Vec<(StoredCall, Nano)> {
    let app = history.app.app();
    app.books.flush_blocking().unwrap();
    let mut refunded: BTreeMap<u128, Nano> = BTreeMap::new();
    for row in app.projections.movements(person.book.0, i64::MAX.cast_unsigned(), 100_000).unwrap() {
        let effects = encoding::decode_effects(&row.body).unwrap_or_default();
        if let Some(Effect::Refunded(back)) = effects.first() {
            let sum = refunded.entry(back.hold.0).or_default();
            *sum = sum.saturating_add(total(&back.credits));
        }
    }
    let rows = app.projections.requests(RequestsOf::Account(person.book.0), i64::MAX, 100_000).unwrap();
    let ended = rows.iter().filter_map(|row| {
        let stored = StoredCall::from_row(row).unwrap();
        let of = refunded.get(&row.id).copied().unwrap_or_default();
        stored.call.outcome.is_some().then_some((stored, of))
    });
    ended.collect()
}

fn figures(row: &Value) -> Figures {
    let money = |name: &str| Nano::parse_decimal(row[name].as_str().unwrap()).unwrap().0;
    assert_eq!(money("gross") - money("refunds"), money("net"), "{row:#}");
    (
        row["calls"].as_i64().unwrap(),
        money("gross"),
        money("refunds"),
        row["tokens"]["input"].as_i64().unwrap_or(0),
    )
}

/// What a call has in a dimension, told by its log row alone.
fn value(stored: &StoredCall, history: &History, dimension: &str) -> Value {
    let facts = &stored.call.decided.facts;
    let credential = facts.credential.passed().unwrap();
    let date =
        jiff::Timestamp::from_millisecond(facts.at_ms).unwrap().to_zoned(jiff::tz::TimeZone::UTC).date();
    match dimension {
        "day" => json!(date.to_string()),
        "month" => json!(date.strftime("%Y-%m").to_string()),
        "account" => json!(credential.account),
        "project" => json!(credential.project),
        "key" => json!(credential.key),
        "group" => json!(history.app.app().directory.snapshot().key(credential.key).unwrap().group),
        "model" => json!(facts.body.passed().unwrap().model),
        "request_type" => json!("chat"),
        "unit" => stored
            .call
            .outcome
            .as_ref()
            .filter(|outcome| !outcome.usage.is_zero())
            .map_or(Value::Null, |_| json!("million_tokens")),
        _ => Value::Null,
    }
}

fn i2_reports_of_random_lives_say_what_the_log_says(backend: Backend) {
    let mut history = History::new(backend, 11);
    for step in 0..400 {
        history.step();
        match step {
            150 => history.restart(),
            300 => history.rebuild(),
            _ => {}
        }
    }
    let bys = [
        "day",
        "month",
        "project",
        "member",
        "key",
        "group",
        "model",
        "request_type",
        "unit",
        "day,model",
        "key,group,model,day",
    ];
    let mut refunds = 0;
    for person in &history.people {
        let calls = calls(&history, person);
        let test = person.book.book() == ledger::Book::Test;
        let environment = if test { "test" } else { "live" };
        let path = format!(
            "/api/reports/costs?account={}&environment={environment}&from=2026-01-01&to=2027-12-31",
            person.account
        );
        for by in bys {
            let mut naive: BTreeMap<String, Figures> = BTreeMap::new();
            for (stored, refunded) in &calls {
                let of: Vec<_> = by.split(',').map(|by| value(stored, &history, by)).collect();
                let input = stored.call.outcome.as_ref().unwrap().usage.get(ledger::TokenClass::Input) as i64;
                let charged =
                    if stored.state == tallygate::books::ChargeState::Settled { stored.charge.0 } else { 0 };
                refunds += refunded.0;
                add(naive.entry(json!(of).to_string()).or_default(), (1, charged, refunded.0, input));
            }
            let report = history.app.get(&format!("{path}&by={by}")).ok();
            let told: BTreeMap<String, Figures> = report["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| {
                    let of: Vec<_> = by.split(',').map(|by| row["of"][by].clone()).collect();
                    (json!(of).to_string(), figures(row))
                })
                .collect();
            assert_eq!(told, naive, "{by} of {} in {environment}", person.account);
            let mut total = Figures::default();
            naive.values().for_each(|row| add(&mut total, *row));
            assert_eq!(figures(&report["total"]), total);
        }
        // The gross of a report is the charges of the statements.
        let whole = history.statement(person, "from=2026-01-01&to=2027-12-31");
        let report = history.app.get(&path).ok();
        assert_eq!(report["total"]["gross"], whole["movements"]["charges"]);
        assert_eq!(report["total"]["refunds"], whole["movements"]["charge_refunds"]);
        // Narrowed to one key, only its rows are left.
        let key = &person.keys[0];
        let of_key = history.app.get(&format!("{path}&by=key&key={key}")).ok();
        let rows = history.app.get(&format!("{path}&by=key")).ok();
        let expected: Vec<_> =
            rows["rows"].as_array().unwrap().iter().filter(|row| row["of"]["key"] == json!(key)).collect();
        assert_eq!(of_key["rows"].as_array().unwrap().iter().collect::<Vec<_>>(), expected);
    }
    assert!(refunds > 0, "nothing was refunded");
    // Of all accounts together, by account.
    let all = history.app.get("/api/reports/costs?from=2026-01-01&to=2027-12-31&by=account").ok();
    assert_eq!(all["rows"].as_array().unwrap().len(), 3, "{all:#}");
}

fn s45_gross_refunds_and_net_are_three_figures(backend: Backend) {
    let app = TestApp::on(backend);
    let account = app.account("one");
    app.model("m");
    app.credit(&account, "10");
    let (key, text) = app.key(&account, json!({"name": "=1+1"}));
    let amount = Nano::parse_decimal("2.26").unwrap();
    let call = begin(app.app(), &key, "m", amount).unwrap().settle(amount);
    assert!(refund(app.app(), call, amount, "refund:1"));
    begin(app.app(), &key, "m", Nano::parse_decimal("1").unwrap())
        .unwrap()
        .settle(Nano::parse_decimal("1").unwrap());
    let path = format!("/api/reports/costs?account={account}");
    let report = app.get(&format!("{path}&by=key,model")).ok();
    let row = &report["rows"][0];
    assert_eq!((&row["gross"], &row["refunds"], &row["net"]), (&json!("3.26"), &json!("2.26"), &json!("1")));
    assert_eq!((&row["calls"], &row["names"]["key"]), (&json!(2), &json!("=1+1")));
    // What older clients and other shapes read is the same money.
    let statement = app.get(&format!("/api/accounts/{account}/statement/summary")).ok();
    let balance = app.get_as(&text, "/user/balance").ok();
    assert_eq!(balance["balance_infos"][0]["total_balance"], statement["closing"]["available"]);
    assert_eq!(statement["closing"]["available"], "9");
    let usage = app.get_as(&text, "/v1/dashboard/billing/usage").ok();
    assert_eq!(usage["total_usage"], 100, "hundredths of the net: {usage:#}");
    // 21 1/3 of 30 days are over.
    assert_eq!(report["forecast"], json!({"method": "linear_run_rate", "net": "1.40625"}));
    assert_eq!(app.get(&format!("{path}&period=2026-10")).ok()["forecast"], Value::Null);
    let csv = app.get(&format!("{path}&by=day,key&format=csv")).ok();
    let lines: Vec<_> = csv.as_str().unwrap().lines().collect();
    assert!(lines[0].starts_with("day,key,calls,gross,refunds,net,input,"), "{csv}");
    assert!(lines[1].starts_with(&format!("2026-11-22,{key},2,3.26,2.26,1,")), "{csv}");
    let focus = app.get(&format!("/api/reports/focus?account={account}&format=json")).ok();
    let rows = focus["rows"].as_array().unwrap();
    let told: Vec<_> =
        rows.iter().map(|row| (&row["ChargeCategory"], row["BilledCost"].to_string())).collect();
    assert_eq!(told, [(&json!("Usage"), "3.26".to_owned()), (&json!("Credit"), "-2.26".to_owned())]);
    let usage = &rows[0];
    for (column, expected) in [
        ("BillingAccountId", json!(account)),
        ("BillingCurrency", json!("USD")),
        ("ChargePeriodStart", json!("2026-11-22T00:00:00Z")),
        ("ChargePeriodEnd", json!("2026-11-23T00:00:00Z")),
        ("BillingPeriodStart", json!("2026-11-01T00:00:00Z")),
        ("BillingPeriodEnd", json!("2026-12-01T00:00:00Z")),
        ("ServiceCategory", json!("AI and Machine Learning")),
        ("ResourceId", json!(key)),
        ("ConsumedUnit", json!("Tokens")),
        ("PricingUnit", json!("1000000 Tokens")),
        ("x_Calls", json!(2)),
    ] {
        assert_eq!(usage[column], expected, "{column}");
    }
    let csv = app.get(&format!("/api/reports/focus?account={account}")).ok();
    let text = csv.as_str().unwrap();
    assert!(
        text.starts_with("BilledCost,BillingAccountId,") && text.contains("'=1+1") && !text.contains(",=1+1"),
        "{text}"
    );
}

/// Pictures, a film, a chat, and a film that nothing came of: each is told in what it was sold by.
fn i2_what_is_sold_by_pictures_and_seconds_is_counted_so(backend: Backend) {
    let mut studio = Studio::open(backend, "10");
    studio.post("/api/models", json!({"name": "gpt-5-mini"})).ok();
    let price = json!({"model": "gpt-5-mini", "per_million": {"input": "1000", "output": "1000"}});
    studio.post("/api/prices", price).ok();
    studio.channel_before("gpt-5-mini", json!({"name": "chats"}));
    for n in 1..=2 {
        let id = studio.ask(&studio.image("demo-image", "a cat", n)).ok()["id"].as_str().unwrap().to_owned();
        assert_eq!(studio.drawn(&id)["status"], "completed");
    }
    studio.submit("demo-video", "a cat", 4);
    studio.submit("demo-video-fail", "a cat", 4);
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    let chat = studio.ask(&Ask::chat_with(&studio.key, "gpt-5-mini", "hello", json!({"max_tokens": 100})));
    chat.ok();
    let path = format!("/api/reports/costs?account={}&by=model,unit", studio.account);
    let report = studio.get(&path);
    let told: Vec<_> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["of"]["model"], row["of"]["unit"], row["calls"], row["units"], row["gross"]]))
        .collect();
    let charged = studio.get(&format!("/api/requests/{}/row", chat.head.request_id()))["charge"].clone();
    let expected = [
        json!(["demo-image", "image", 2, {"image": "3"}, "0.12"]),
        json!(["demo-video", "second", 1, {"second": "4"}, "0.4"]),
        json!(["demo-video-fail", null, 1, {}, "0"]),
        json!(["gpt-5-mini", "million_tokens", 1, {}, charged]),
    ];
    assert_eq!(told, expected, "{report:#}");
    assert_eq!(report["total"]["units"], json!({"image": "3", "second": "4"}));
    assert_eq!(studio.get(&format!("{path}&unit=second"))["total"]["gross"], "0.4");
    let tokens: i64 =
        report["rows"][3]["tokens"].as_object().unwrap().values().filter_map(Value::as_i64).sum();
    assert!(tokens > 0, "{report:#}");
    let csv = studio.ask(&Ask::get(format!("{path}&format=csv")).bearer(ADMIN_TOKEN)).text().to_owned();
    let lines: Vec<_> = csv.lines().collect();
    assert!(lines[0].ends_with(",image_in,image,second,million_characters,search"), "{csv}");
    assert!(
        lines[1].starts_with("demo-image,image,2,0.12,0,0.12,") && lines[1].ends_with(",3,0,0,0"),
        "{csv}"
    );
    assert!(lines[2].ends_with(",0,4,0,0"), "{csv}");
    let focus = studio.get(&format!("/api/reports/focus?account={}&format=json", studio.account));
    let told: Vec<_> = focus["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let exact = |name: &str| row[name].to_string();
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            let (consumed, priced) = (exact("ConsumedQuantity"), exact("PricingQuantity"));
            (text("SkuId"), consumed, text("ConsumedUnit"), priced, text("PricingUnit"))
        })
        .collect();
    let row = |sku: &str, consumed: &str, unit: &str, priced: &str, priced_unit: &str| {
        (sku.to_owned(), consumed.to_owned(), unit.to_owned(), priced.to_owned(), priced_unit.to_owned())
    };
    let millions = tallygate::explain::decimal_text(tokens.into(), 6);
    let expected = [
        row("demo-image", "3", "Images", "3", "Images"),
        row("demo-video", "4", "Seconds", "4", "Seconds"),
        row("demo-video-fail", "1", "Requests", "1", "Requests"),
        row("gpt-5-mini", &tokens.to_string(), "Tokens", &millions, "1000000 Tokens"),
    ];
    assert_eq!(told, expected, "{focus:#}");
    // Built again from the journal, the sums are the same.
    studio.restart_after(|backend| backend.open().projections.clear().unwrap());
    assert_eq!(studio.get(&path)["rows"], report["rows"]);
}

#[test]
fn i2_what_cannot_be_reported_is_refused_by_name() {
    let app = TestApp::new();
    let account = app.account("one");
    for (query, field) in [
        ("by=weekday", "by"),
        ("by=day,day", "by"),
        ("period=november", "period"),
        ("format=xml", "format"),
        ("environment=x", "environment"),
    ] {
        let refused = app.get(&format!("/api/reports/costs?account={account}&{query}"));
        refused.refused(400, "invalid_value");
        assert_eq!(refused.field(), field, "{query}");
    }
    app.get("/api/reports/costs?weekday=1").refused(400, "unknown_field");
    app.get("/api/reports/costs?account=acc_0000000000000").refused(404, "not_found");
}
