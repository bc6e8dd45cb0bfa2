//! "What was I charged?": a statement for any period, opening to closing, that adds up (B5, B6).

use std::collections::BTreeMap;

use ledger::{Nano, Timestamp};
use serde_json::{Value, json};
use tallygate::books::movement::{Family, MovementKind};
use tallygate::books::rows::Standing;
use tallygate::books::statement::{Span, Statement};

use crate::on_both_backends;
use crate::support::app::{NOW_MS, TestApp};
use crate::support::backend::Backend;
use crate::support::history::{History, begin, refund};

on_both_backends!(
    b5_statements_of_random_lives_add_up_to_the_books,
    b6_a_statement_shows_every_family_and_closes,
    b6_money_is_on_the_statement_of_the_period_in_which_it_moved,
);

const DAY_MS: i64 = 86_400_000;

fn nano(value: &Value) -> Nano {
    Nano::parse_decimal(value.as_str().unwrap_or_else(|| panic!("{value} is no amount"))).unwrap()
}

/// Opening and movements give the closing; the lines give the movements.
#[track_caller]
fn assert_closes(statement: &Value) {
    let sums = &statement["movements"];
    let signed = |family: Family| {
        if family.is_taken() { -nano(&sums[family.as_str()]).0 } else { nano(&sums[family.as_str()]).0 }
    };
    let moved: i64 = Family::ALL.into_iter().map(signed).sum();
    let (opening, closing) = (nano(&statement["opening"]["balance"]), nano(&statement["closing"]["balance"]));
    assert_eq!(opening.0 + moved, closing.0, "{statement:#}");
    let mut of_lines: BTreeMap<&str, i64> = BTreeMap::new();
    let mut balance = opening;
    for line in statement["lines"].as_array().unwrap() {
        let amount = nano(&line["amount"]);
        *of_lines.entry(line["family"].as_str().unwrap()).or_default() += amount.0;
        balance = Nano(balance.0 + amount.0);
        assert_eq!(nano(&line["balance"]), balance, "{line:#}");
    }
    assert_eq!(balance, closing);
    for family in Family::ALL {
        assert_eq!(
            of_lines.get(family.as_str()).copied().unwrap_or(0),
            signed(family),
            "{}",
            family.as_str()
        );
    }
    assert_eq!(statement["line_count"], statement["lines"].as_array().unwrap().len());
    let parts = ["available", "held", "expired"].map(|part| nano(&statement["closing"][part]).0);
    assert_eq!(parts.iter().sum::<i64>(), closing.0, "{statement:#}");
}

/// B5, B6: whatever happened, closing is what the account had then, each period begins where the one before ended, and all
/// statements together are what the ledger says; also after a restart, and after the projections were built anew.
fn b5_statements_of_random_lives_add_up_to_the_books(backend: Backend) {
    let mut history = History::new(backend, 7);
    for step in 0..600 {
        history.step();
        match step {
            200 => history.restart(),
            400 => history.rebuild(),
            _ => {}
        }
    }
    let app = history.app.app();
    app.books.flush_blocking().unwrap();
    let last = app.books.now().0.div_euclid(DAY_MS) + 1;
    let mut families = 0;
    for person in &history.people {
        let mut before: Option<Standing> = None;
        let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
        for day in NOW_MS.div_euclid(DAY_MS)..=last {
            let span = Span { from: Timestamp(day * DAY_MS), to: Timestamp((day + 1) * DAY_MS) };
            let statement = Statement::of(&app.books, &app.projections, person.book, span).unwrap();
            assert_eq!(statement.opening, before.unwrap_or_default());
            let expected = history.midnights.get(&(person.book, span.to.0)).map_or_else(
                || Standing::of(&app.books.balance(person.book), app.books.now()),
                |balance| Standing::of(balance, span.to),
            );
            assert_eq!(statement.closing, expected, "day {day} of {:?}", person.book);
            let told = statement.sums(&app.projections).unwrap();
            let mut lines = statement.lines();
            let mut last_at = span.from;
            while let Some(line) = lines.next(&app.projections).unwrap() {
                assert!(last_at <= line.at && line.at < span.to);
                last_at = line.at;
            }
            for kind in MovementKind::ALL {
                assert_eq!(lines.sums().of_kind(kind), told.of_kind(kind));
            }
            statement.check(lines.sums()).unwrap();
            for family in Family::ALL {
                *sums.entry(family.as_str()).or_default() += i128::from(told.of_family(family).0);
            }
            before = Some(statement.closing);
        }
        let books = app.books.balance(person.book).families;
        let ledger = [
            books.credits,
            books.charge_refunds,
            books.compensation,
            books.adjustments,
            books.charges,
            books.expiries,
            books.order_refunds,
            books.chargebacks,
        ];
        for (family, total) in Family::ALL.into_iter().zip(ledger) {
            assert_eq!(
                sums[family.as_str()],
                i128::from(total.0),
                "{} of {:?}",
                family.as_str(),
                person.book
            );
            families += usize::from(total != Nano::ZERO);
        }
        // The same by months, as the API shows it.
        for month in ["2026-11", "2026-12", "2026", "2027"] {
            assert_closes(&history.statement(person, &format!("period={month}")));
        }
        let whole = history.statement(person, "from=2026-01-01&to=2027-12-31");
        let balance = app.books.balance(person.book);
        assert_eq!(nano(&whole["closing"]["available"]), balance.available);
        assert_eq!(nano(&whole["closing"]["held"]), balance.held);
        assert_eq!(nano(&whole["closing"]["expired"]), balance.expired);
    }
    assert!(families > 30, "the histories were too dull: {families} sums of families are not zero");
}

struct Scene {
    app: TestApp,
    account: String,
    key: String,
}

fn scene(backend: Backend) -> Scene {
    let app = TestApp::on(backend);
    let account = app.account("one");
    app.model("m");
    let (key, _) = app.key(&account, json!({}));
    Scene { app, account, key }
}

impl Scene {
    fn call(&self, charge: &str) -> tallygate::id::RequestId {
        let charge = Nano::parse_decimal(charge).unwrap();
        begin(self.app.app(), &self.key, "m", charge).unwrap().settle(charge)
    }

    fn get(&self, query: &str) -> Value {
        let statement = self.app.get(&format!("/api/accounts/{}/statement?{query}", self.account)).ok();
        assert_closes(&statement);
        statement
    }
}

/// S45: 10.00, a task of 2.26 that fails and is refunded: gross, refunds and net are three figures, and nobody sees 12.26.
fn b6_a_statement_shows_every_family_and_closes(backend: Backend) {
    let scene = scene(backend);
    scene.app.credit(&scene.account, "10");
    let call = scene.call("2.26");
    assert!(refund(scene.app.app(), call, Nano::parse_decimal("2.26").unwrap(), "refund:1"));
    let statement = scene.get("period=2026-11");
    let sums = &statement["movements"];
    assert_eq!(
        (&sums["credits"], &sums["charges"], &sums["charge_refunds"]),
        (&json!("10"), &json!("2.26"), &json!("2.26"))
    );
    assert_eq!(
        statement["closing"],
        json!({"balance": "10", "available": "10", "held": "0", "expired": "0"})
    );
    assert_eq!(statement["credits_by_source"]["payment"], "10");
    let lines = statement["lines"].as_array().unwrap();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (&line["family"], &line["amount"], &line["balance"], &line["source"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!("credits"), &json!("10"), &json!("10"), &json!("ledger_record")),
            (&json!("charges"), &json!("-2.26"), &json!("7.74"), &json!("request_log")),
            (&json!("charge_refunds"), &json!("2.26"), &json!("10"), &json!("ledger_record")),
        ]
    );
    let request = json!(call.to_string());
    assert_eq!((&lines[1]["request"], &lines[2]["request"]), (&request, &request));
    assert_eq!(lines[2]["reference"], "refund:1");
    // The balance, the summary and the statement say the same.
    let summary = scene.app.get(&format!("/api/accounts/{}/statement/summary", scene.account)).ok();
    assert_eq!((&summary["movements"], &summary["closing"]), (sums, &statement["closing"]));
    assert_eq!(
        (&summary["account_name"], &summary["pending"], &summary["complete"]),
        (&json!("one"), &json!("0"), &json!(false))
    );
    let balance = scene.app.get(&format!("/api/accounts/{}/balance", scene.account)).ok();
    assert_eq!((&balance["movements"], &balance["available"]), (sums, &json!("10")));
    // The same as text: opening, lines, sums, closing.
    let csv = scene.app.get(&format!("/api/accounts/{}/statement?format=csv", scene.account)).ok();
    let rows: Vec<Vec<&str>> = csv.as_str().unwrap().lines().map(|row| row.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 10), "{csv}");
    let of = |record: &str| rows.iter().filter(|row| row[0] == record).collect::<Vec<_>>();
    assert_eq!((of("line").len(), of("sum").len()), (3, 8));
    assert_eq!((of("opening")[0][5], of("closing")[0][5]), ("0", "10"));
    assert_eq!(of("line")[1][3..8], ["charge", "-2.26", "7.74", "", &*call.to_string()]);
}

/// A hold is no movement; a call is charged in the period in which it ended, in the account's own zone.
fn b6_money_is_on_the_statement_of_the_period_in_which_it_moved(backend: Backend) {
    let scene = scene(backend);
    scene.app.patch(&format!("/api/accounts/{}", scene.account), json!({"time_zone": "Asia/Shanghai"})).ok();
    scene.app.credit(&scene.account, "10");
    // 2026-11-30T15:59:59Z is the last second of November in Shanghai.
    scene.app.clock.advance_ms((1_796_054_399_000 - NOW_MS).unsigned_abs());
    let running = begin(scene.app.app(), &scene.key, "m", Nano::parse_decimal("3").unwrap()).unwrap();
    scene.app.clock.advance_ms(2_000);
    running.settle(Nano::parse_decimal("1").unwrap());
    let (november, december) = (scene.get("period=2026-11"), scene.get("period=2026-12"));
    assert_eq!(november["to"], "2026-11-30T16:00:00Z");
    assert_eq!(november["closing"], json!({"balance": "10", "available": "7", "held": "3", "expired": "0"}));
    assert_eq!((&november["line_count"], &november["complete"]), (&json!(1), &json!(true)));
    assert_eq!(december["opening"], november["closing"]);
    assert_eq!(december["closing"], json!({"balance": "9", "available": "9", "held": "0", "expired": "0"}));
    assert_eq!((&december["line_count"], &december["complete"]), (&json!(1), &json!(false)));
    let days = scene.get("from=2026-11-30&to=2026-12-01");
    assert_eq!((&days["period"], &days["line_count"]), (&json!("2026-11-30..2026-12-01"), &json!(1)));
}

/// Ids that begin like this, shortened.
fn without_ids(text: &str, prefix: &str) -> String {
    let mut parts = text.split(prefix);
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric());
        text + prefix + "…" + rest
    })
}

/// docs/statements.md shows what the program writes: `UPDATE=1` writes it anew.
#[test]
fn b6_the_published_example_is_what_is_written() {
    let scene = scene(Backend::embedded());
    scene.app.credit(&scene.account, "10");
    let call = scene.call("2.26");
    assert!(refund(scene.app.app(), call, Nano::parse_decimal("2.26").unwrap(), "refund:video-1"));
    let path = format!("/api/accounts/{}/statement", scene.account);
    let summary = scene.app.get(&format!("{path}/summary?period=2026-11")).ok();
    let csv = scene.app.get(&format!("{path}?period=2026-11&format=csv")).ok();
    let written = format!(
        "```json\n{}\n```\n\n```csv\n{}```\n",
        serde_json::to_string_pretty(&summary).unwrap(),
        csv.as_str().unwrap().replace('\r', "")
    );
    let written =
        ["acc_", "lot_", "req_"].into_iter().fold(written, |text, prefix| without_ids(&text, prefix));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/statements.md");
    let page = std::fs::read_to_string(file).unwrap();
    let (head, shown) = page.split_once("## An example\n\n").unwrap();
    let (about, shown) = shown.split_once("```json\n").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(file, format!("{head}## An example\n\n{about}{written}")).unwrap();
    }
    assert_eq!(format!("```json\n{shown}"), written, "UPDATE=1 writes it anew");
}

/// Whose key it is may read its statement where the account shows its money; a test key reads the test books.
#[test]
fn b6_a_key_reads_the_statement_of_its_account() {
    let app = TestApp::new();
    let account = app.account("one");
    app.credit(&account, "10");
    let (_, live) = app.key(&account, json!({}));
    let (_, test) = app.key(&account, json!({"environment": "test"}));
    assert_eq!(app.get_as(&live, "/v1/statement?period=2026").ok()["closing"]["available"], "10");
    let tests = app.get_as(&test, "/api/v1/statement").ok();
    assert_eq!((&tests["closing"]["available"], &tests["environment"]), (&json!("100"), &json!("test")));
    app.patch(&format!("/api/accounts/{account}"), json!({"callers_see_account_money": false})).ok();
    app.get_as(&live, "/v1/statement").refused(403, "role_forbidden");
    app.get_bare("/v1/statement").refused(401, "missing_key");
}

/// A summary has what an invoice (发票) needs, as the account itself has named it.
#[test]
fn b6_a_summary_has_what_an_invoice_needs() {
    let app = TestApp::new();
    let account = app.account("one");
    let invoice = json!({"title": "一号科技有限公司", "tax_number": "91310000MA1K35XX0X"});
    app.patch(&format!("/api/accounts/{account}"), json!({"invoice": invoice})).ok();
    let summary = app.get(&format!("/api/accounts/{account}/statement/summary?period=2026-11")).ok();
    assert_eq!(summary["invoice"], invoice);
    for (wrong, field) in [
        (json!({"title": "two\nlines"}), "invoice.title"),
        (json!({"": "no name"}), "invoice."),
        (json!({"title": "长".repeat(201)}), "invoice.title"),
        (json!({"title": 5}), "invoice.title"),
    ] {
        let refused = app.patch(&format!("/api/accounts/{account}"), json!({"invoice": wrong}));
        refused.refused(400, "invalid_value");
        assert_eq!(refused.field(), field);
    }
}

#[test]
fn b6_a_period_that_is_none_is_refused_by_name() {
    let app = TestApp::new();
    let account = app.account("one");
    let path = format!("/api/accounts/{account}/statement");
    for (query, field) in [
        ("period=2026-13", "period"),
        ("period=2026-11&from=2026-11-01&to=2026-11-02", "period"),
        ("from=2026-11-05&to=2026-11-01", "to"),
        ("from=2026-11-05", "to"),
        ("environment=staging", "environment"),
        ("format=pdf", "format"),
    ] {
        let refused = app.get(&format!("{path}?{query}"));
        refused.refused(400, "invalid_value");
        assert_eq!(refused.field(), field, "{query}");
    }
    app.get("/api/accounts/acc_0000000000000/statement").refused(404, "not_found");
}

/// A statement of many lines is sent in pieces of bounded size, each made when it is asked for.
#[test]
fn b6_a_long_statement_is_streamed_in_small_pieces() {
    let app = TestApp::new();
    let account = app.account("one");
    app.model("m");
    app.credit(&account, "100");
    let (key, _) = app.key(&account, json!({}));
    for _ in 0..3_000 {
        begin(app.app(), &key, "m", Nano(1_000)).unwrap().settle(Nano(1_000));
    }
    let (pieces, whole) = app.pieces(&format!("/api/accounts/{account}/statement?period=2026-11"));
    assert!(pieces.len() > 5 && pieces.iter().all(|bytes| *bytes <= (64 << 10) + 1_024), "{pieces:?}");
    let statement: Value = serde_json::from_slice(&whole).unwrap();
    assert_closes(&statement);
    assert_eq!(statement["line_count"], 3_001);
}

/// B6: the rest of a statement that broke off, from any byte on and after a restart, is what the whole one has there.
#[test]
fn b6_the_rest_of_a_statement_can_be_asked_for() {
    let mut history = History::new(Backend::embedded(), 5);
    (0..300).for_each(|_| history.step());
    let person = history.people[0].account.clone();
    // Until both months are over.
    history.app.clock.advance_ms(60 * DAY_MS.unsigned_abs());
    let answer = |history: &History, query: &str| {
        let path = format!("/api/accounts/{person}/statement?from=2026-11-01&to=2026-12-31&{query}");
        let (_, body) = history.app.pieces(&path);
        let headers = history.app.get(&path).headers;
        let header =
            |name: &str| headers.get(name).map(|value| value.to_str().unwrap().trim_matches('"').to_owned());
        (body, header("etag"), header("x-tallygate-resumed-at"))
    };
    for format in ["format=csv", "format=json"] {
        let (whole, tag, resumed_at) = answer(&history, format);
        let tag = tag.unwrap();
        assert_eq!((whole.len() > 1_000, resumed_at), (true, None));
        for byte in [0, 1, 777, whole.len() - 1, whole.len()] {
            let (rest, same, resumed_at) = answer(&history, &format!("{format}&resume={tag}:{byte}"));
            assert_eq!((rest.as_slice(), same.as_ref()), (&whole[byte..], Some(&tag)), "{byte}");
            assert_eq!(resumed_at, Some(byte.to_string()));
        }
        // Longer than it is, or another one: it begins at its beginning.
        for resume in [format!("{tag}:{}", whole.len() + 1), "another:5".to_owned()] {
            assert_eq!(
                answer(&history, &format!("{format}&resume={resume}")),
                (whole.clone(), Some(tag.clone()), None)
            );
        }
        history.rebuild();
        let (rest, _, resumed_at) = answer(&history, &format!("{format}&resume={tag}:777"));
        assert_eq!((rest.as_slice(), resumed_at.as_deref()), (&whole[777..], Some("777")));
    }
    // What is not over has no end that would stay.
    let path = format!("/api/accounts/{person}/statement?format=csv");
    assert!(history.app.get(&path).headers.get("etag").is_none());
    let refused = history.app.get(&format!("{path}&resume=5"));
    refused.refused(400, "invalid_value");
    assert_eq!(refused.field(), "resume");
}
