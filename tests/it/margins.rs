//! Margins (H2, S46): what calls were charged beside what all of their attempts cost the platform, as the log has it
//! attempt by attempt, on both stores.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ledger::{Effect, Nano};
use serde_json::{Value, json};
use tallygate::books::encoding::decode_batch;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::demo::nano;
use crate::support::history::History;
use crate::support::http::Ask;
use crate::support::studio::Studio;

on_both_backends!(
    s46_what_a_call_failed_at_costs_the_channel_that_failed,
    h2_an_attempt_of_unknown_cost_is_counted_and_not_taken_for_free,
    i2_margins_of_random_lives_have_every_charge_and_refund,
);

const MODELS: [&str; 2] = ["gpt-5-mini", "gpt-5"];
/// What an upstream does not answer goes on soon, and as often as there are channels.
const IMPATIENT: [(&str, &str); 2] =
    [("upstream.header_timeout_ms", "2000"), ("upstream.retry_share_percent", "100")];

/// Two models at a channel that is tried first, fails now and then and is dear, and at one that is cheap and works.
fn furnish(studio: &Studio) -> [String; 2] {
    for name in MODELS {
        studio.post("/api/models", json!({"name": name})).ok();
        let price = json!({"model": name, "per_million": {"input": "0.25", "output": "2"}});
        studio.post("/api/prices", price).ok();
    }
    let models = |sent: [&'static str; 2]| MODELS.into_iter().zip(sent).collect::<BTreeMap<_, _>>();
    let dear = json!({"name": "dear", "models": models(["demo-unstable", "gpt-5"]), "cost_share": "3",
        "priority": 20, "cools_down": false});
    let cheap = json!({"name": "cheap", "models": models(MODELS), "cost_share": "0.5"});
    [studio.channel_before(MODELS[0], dear), studio.channel_before(MODELS[0], cheap)]
}

fn chat(studio: &Studio, model: &str, n: u64) -> String {
    let ask = Ask::chat_with(&studio.key, model, &format!("call {n}"), json!({"max_tokens": 100}));
    studio.ask(&ask).head.request_id().to_owned()
}

/// What a row of a report says: calls, failed attempts, gross, cost of what served, cost of what failed.
type Figures = [i64; 5];

fn told(report: &Value, by: &[&str]) -> BTreeMap<Vec<String>, Figures> {
    let rows = report["rows"].as_array().unwrap().iter().map(|row| {
        let of = by.iter().map(|by| row["of"][by].as_str().unwrap().to_owned()).collect();
        let [net, total, margin] = [&row["net"], &row["cost"]["total"], &row["margin"]].map(nano);
        assert_eq!(net - nano(&row["unknown"]["net"]) - total, margin, "{row:#}");
        (of, figures(row))
    });
    rows.collect()
}

fn figures(row: &Value) -> Figures {
    let count = |name: &str| row[name].as_i64().unwrap();
    let cost = |name: &str| nano(&row["cost"][name]);
    [count("calls"), count("failed_attempts"), nano(&row["gross"]), cost("served"), cost("failed")]
}

/// The same from the log, row by row and attempt by attempt; by channel and model.
fn of_log(studio: &Studio) -> BTreeMap<Vec<String>, Figures> {
    let rows = studio.get(&format!("/api/requests?account={}&limit=1000", studio.account))["data"].clone();
    let mut found: BTreeMap<Vec<String>, Figures> = BTreeMap::new();
    for row in rows.as_array().unwrap() {
        let model = row["model"].as_str().unwrap();
        for attempt in row["attempts"].as_array().unwrap() {
            let of = vec![attempt["channel"].as_str().unwrap().to_owned(), model.to_owned()];
            let sums = found.entry(of).or_default();
            let cost = nano(&attempt["cost"]);
            let more = match attempt["served"] == true {
                true => [1, 0, nano(&row["charge"]), cost, 0],
                false => [0, 1, 0, 0, cost],
            };
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }
    found
}

/// All that the ledger accrued.
fn accrued(studio: &Studio) -> i64 {
    let mut sum = 0;
    let read = studio.app().journal.read(0, 0, &mut |batch| {
        let records = decode_batch(&batch.effects, batch.facts.as_deref()).unwrap();
        sum += records.iter().flat_map(|record| &record.effects).fold(0, |sum, effect| match effect {
            Effect::CostAccrued(cost) => sum + cost.amount.0,
            _ => sum,
        });
        Ok(ControlFlow::Continue(()))
    });
    read.unwrap();
    sum
}

fn s46_what_a_call_failed_at_costs_the_channel_that_failed(backend: Backend) {
    let mut studio = Studio::open_with(backend, "10", &IMPATIENT);
    let [dear, cheap] = furnish(&studio);
    let calls: Vec<_> = (0..8).map(|n| chat(&studio, MODELS[0], n)).collect();
    (8..11).for_each(|n| drop(chat(&studio, MODELS[1], n)));
    // A task whose first channel refuses it, and one that nothing comes of.
    studio.channel_before("demo-video", json!({"name": "shut", "credential": "sk-wrong", "priority": 30}));
    studio.submit("demo-video", "a cat", 4);
    studio.submit("demo-video-stuck", "a cat", 4);
    studio.poll_after(2_000);
    studio.poll_after(2_000);
    studio.poll_after(3_600_000);
    let path = "/api/reports/margins";
    let by_both = studio.get(&format!("{path}?by=channel,model"));
    let told_of = told(&by_both, &["channel", "model"]);
    assert_eq!(told_of, of_log(&studio), "{by_both:#}");
    // The dear channel failed at some calls that it is paid for all the same, and the cheap one served them.
    let at = |channel: &String| told_of[&vec![channel.clone(), MODELS[0].to_owned()]];
    let [served, failed, gross, _, failed_cost] = at(&dear);
    assert!(served >= 4 && failed >= 2 && gross > 0 && failed_cost > 0, "{by_both:#}");
    assert!(at(&cheap)[0] >= 2 && at(&cheap)[1] == 0, "{by_both:#}");
    let names: Vec<_> =
        by_both["rows"].as_array().unwrap().iter().map(|row| &row["names"]["channel"]).collect();
    assert!(names.contains(&&json!("dear")) && names.contains(&&json!("studio")), "{names:?}");
    let total = &by_both["total"];
    assert_eq!(nano(&total["cost"]["total"]), accrued(&studio));
    // What is only the most that it can be is told: the task without an end, and lost answers.
    assert!(nano(&total["cost"]["estimated"]) >= 400_000_000, "{total:#}");
    assert_eq!(total["unknown"], json!({"served": 0, "failed": 0, "net": "0"}));
    // Each way of telling apart says the same in sum, and what is asked for alone is the same row.
    for by in ["channel", "model", "day", "month,channel"] {
        let report = studio.get(&format!("{path}?by={by}"));
        assert_eq!(&report["total"], total, "{by}");
        let sum =
            told(&report, &by.split(',').collect::<Vec<_>>()).into_values().fold([0; 5], |mut sum, row| {
                sum.iter_mut().zip(row).for_each(|(sum, more)| *sum += more);
                sum
            });
        assert_eq!(sum, figures(total), "{by}");
    }
    let of_dear = studio.get(&format!("{path}?by=model&channel={dear}&model={}", MODELS[0]));
    assert_eq!(figures(&of_dear["total"]), at(&dear));
    assert_eq!(studio.get(&format!("{path}?environment=test"))["rows"], json!([]));
    // A refund takes from the margin of the channel that served the call.
    let refunded =
        calls.iter().find(|call| nano(&studio.get(&format!("/api/requests/{call}/row"))["charge"]) > 0);
    let refund = json!({"kind": "refund", "request": refunded, "reason": "test"});
    let given = nano(&studio.post("/api/corrections", refund).ok()["amount"]);
    let after = studio.get(&format!("{path}?by=channel,model"));
    assert_eq!(nano(&after["total"]["margin"]), nano(&total["margin"]) - given);
    assert_eq!(nano(&after["total"]["refunds"]), given);
    assert_eq!(told(&after, &["channel", "model"]), told_of);
    // The file says what the table says, and so do the sums once they are built again from the journal.
    let csv = studio.ask(
        &Ask::get(format!("{path}?by=channel,model&format=csv")).bearer(crate::support::app::ADMIN_TOKEN),
    );
    let text = csv.text().to_owned();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0]
            .starts_with("channel,model,calls,failed_attempts,gross,refunds,net,cost_served,cost_failed,")
    );
    let row =
        after["rows"].as_array().unwrap().iter().find(|row| row["of"]["channel"] == json!(dear)).unwrap();
    let cells = [&row["of"]["channel"], &row["of"]["model"]].map(|cell| cell.as_str().unwrap());
    let line = lines.iter().find(|line| line.starts_with(&cells.join(","))).unwrap();
    assert!(line.ends_with(&format!(",0,0,0,{}", row["margin"].as_str().unwrap())), "{line}\n{row:#}");
    studio.restart_after(|backend| backend.open().projections.clear().unwrap());
    assert_eq!(studio.get(&format!("{path}?by=channel,model")), after);
}

fn h2_an_attempt_of_unknown_cost_is_counted_and_not_taken_for_free(backend: Backend) {
    let studio = Studio::open_with(backend, "10", &IMPATIENT);
    let [dear, _cheap] = furnish(&studio);
    let nobody_knows = json!({"cost_share": null});
    studio.patch(&format!("/api/channels/{dear}"), &nobody_knows).ok();
    (0..8).for_each(|n| drop(chat(&studio, MODELS[0], n)));
    // What a model costs is told by the token, and the picture is not made of tokens.
    let prices = json!({"cost_share": "1", "cost_prices": {"demo-image": {"per_million": {"input": "1"}}}});
    studio.patch(&format!("/api/channels/{}", studio.channel), &prices).ok();
    let id = studio.ask(&studio.image("demo-image", "a cat", 2)).ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(studio.drawn(&id)["status"], "completed");
    let report = studio.get("/api/reports/margins?by=channel");
    let row = |channel: &str| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["of"]["channel"] == json!(channel)).unwrap().clone()
    };
    let unstable = row(&dear);
    assert!(unstable["unknown"]["served"].as_i64() >= Some(4), "{unstable:#}");
    assert!(unstable["unknown"]["failed"].as_i64() >= Some(1), "{unstable:#}");
    assert_eq!(unstable["unknown"]["served"], unstable["calls"], "{unstable:#}");
    assert_eq!((&unstable["unknown"]["net"], &unstable["margin"]), (&unstable["net"], &json!("0")));
    let drawn = row(&studio.channel);
    assert_eq!(drawn["unknown"], json!({"served": 1, "failed": 0, "net": "0.08"}), "{drawn:#}");
    let known: i64 = report["rows"].as_array().unwrap().iter().map(|row| nano(&row["margin"])).sum();
    assert_eq!(Nano(known).to_string(), report["total"]["margin"].as_str().unwrap());
    for (query, field) in [("by=account", "by"), ("environment=x", "environment"), ("format=xml", "format")] {
        let refused = studio
            .ask(&Ask::get(format!("/api/reports/margins?{query}")).bearer(crate::support::app::ADMIN_TOKEN));
        assert_eq!((refused.head.status, &refused.json()["error"]["param"]), (400, &json!(field)), "{query}");
    }
}

/// Calls that nobody knows the attempts of, and refunds, over restarts: every charge and refund of the cost reports is
/// there, and nothing of it is a margin.
fn i2_margins_of_random_lives_have_every_charge_and_refund(backend: Backend) {
    let mut history = History::new(backend, 23);
    for step in 0..300 {
        history.step();
        if step % 100 == 50 {
            history.restart();
        }
    }
    let totals = |history: &History| {
        ["live", "test"].map(|book| {
            ["margins", "costs"].map(|report| {
                let query = format!("environment={book}&from=2026-01-01&to=2027-12-31");
                history.app.get(&format!("/api/reports/{report}?{query}")).ok()["total"].clone()
            })
        })
    };
    let before = totals(&history);
    for [margins, costs] in &before {
        for name in ["gross", "refunds", "net"] {
            assert_eq!(margins[name], costs[name], "{name}: {margins:#}\n{costs:#}");
        }
        assert_eq!(margins["unknown"]["served"], margins["calls"], "{margins:#}");
        assert_eq!(margins["unknown"]["net"], margins["net"], "{margins:#}");
        assert_eq!((&margins["margin"], &margins["cost"]["total"]), (&json!("0"), &json!("0")));
    }
    history.rebuild();
    let after = totals(&history);
    let charged = |totals: &[[Value; 2]; 2]| {
        totals.clone().map(|[margins, _]| [margins["gross"].clone(), margins["refunds"].clone()])
    };
    assert_eq!(charged(&before), charged(&after));
}
