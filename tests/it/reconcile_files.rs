//! Statements and bills as their makers write them (B7): read whole and found to agree with the books, or refused with
//! the line and the reason, and then nothing of them is kept. On both stores.
//!
//! The files in `bills/` are made after the public descriptions of their formats. `{a}` and `{b}` stand for the numbers of
//! two orders: one was paid and partly sent back, the other was paid.

use encoding_rs::GB18030;
use serde_json::{Value, json};
use tallygate::app::App;
use tallygate::demo::payments::Play;
use tallygate::funding::provider::NAMES;

use crate::on_both_backends;
use crate::support::app::TestApp;
use crate::support::backend::Backend;
use crate::support::desk::Desk;

on_both_backends!(
    b7_statements_of_payment_providers_agree_with_the_orders,
    b7_chinese_statements_are_read_in_each_encoding,
    b7_cost_reports_are_summed_by_day,
    b7_a_broken_file_is_refused_with_its_line,
    b7_a_file_in_a_currency_of_nobody_is_refused,
    b7_amounts_with_a_decimal_comma_are_refused_or_read_as_the_mapping_says,
    b7_statements_that_overlap_make_no_cases,
    b7_bills_that_overlap_are_counted_once,
);

const STRIPE_BALANCE: &str = include_str!("bills/stripe-balance.csv");
const STRIPE_PAYMENTS: &str = include_str!("bills/stripe-payments.csv");
const ALIPAY: &str = include_str!("bills/alipay.csv");
const WECHAT: &str = include_str!("bills/wechat.csv");
const OPENAI: &str = include_str!("bills/openai-costs.json");
const OPENAI_CSV: &str = include_str!("bills/openai-costs.csv");
const ANTHROPIC: &str = include_str!("bills/anthropic-costs.json");
const UPSTREAM: &str = include_str!("bills/upstream.csv");

/// Waits for a long command that was started.
fn ended(standing: impl Fn() -> Value) -> Value {
    loop {
        let standing = standing();
        if standing["state"] != "running" {
            assert_eq!(standing["state"], "done", "{standing:#}");
            return standing["report"].clone();
        }
        std::thread::yield_now();
    }
}

/// Imports a file as an operator does by the command line: by its path.
fn import(desk: &Desk, format: &str, bytes: &[u8]) -> Value {
    let path = desk.backend().folder().join(format!("{format}.file"));
    std::fs::write(&path, bytes).unwrap();
    let body = json!({"format": format, "path": path, "from": "2026-11-22T00:00:00Z",
        "until": "2026-11-23T00:00:00Z"});
    desk.post("/api/reconcile/imports", body).ok();
    ended(|| desk.get("/api/reconcile"))
}

fn compare(desk: &Desk) -> Value {
    desk.post("/api/reconcile", json!({})).ok();
    ended(|| desk.get("/api/reconcile"))
}

fn source(report: &Value, name: &str) -> Value {
    let sources = report["sources"].as_array().unwrap();
    sources.iter().find(|source| source["source"] == name).cloned().unwrap_or_else(|| panic!("{report:#}"))
}

/// Class, key, amount and currency of each row of an import.
fn rows(app: &App, imported: &Value) -> Vec<(String, String, String, String)> {
    let id = imported["import"]["id"].as_str().unwrap_or_else(|| panic!("{imported:#}")).parse().unwrap();
    let mut found = Vec::new();
    app.reconcile
        .each_row(id, |row| {
            let amount = row.amount.unwrap().to_string();
            found.push((row.class.as_str().to_owned(), row.key.into(), amount, row.currency.into()));
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .unwrap();
    found
}

/// Rows of files that the store keeps, whether of an import that is listed or not.
fn rows_kept(app: &App) -> u64 {
    let counted = app.reconcile.db().query_one("SELECT COUNT(*) FROM reconcile_rows", &[]).unwrap();
    counted.unwrap().id(0).unwrap()
}

/// Two paid orders, the first of which is partly sent back; what the provider calls them.
fn two_orders(desk: &Desk, provider: &str, sent_back: &str) -> [String; 2] {
    let account = desk.account(provider);
    let orders = ["10.00", "5.00"].map(|amount| desk.order(&account, provider, amount));
    for order in &orders {
        desk.pay(order, &Play::default());
        assert_eq!(desk.state(order), "credited");
    }
    let refund = json!({"pay_amount": sent_back, "reason": "asked for"});
    desk.post(&format!("/api/orders/{}/refund", orders[0]), refund).ok();
    assert_eq!(desk.state(&orders[0]), "partially_refunded");
    match provider {
        "stripe" => orders.map(|order| {
            let charge = desk.providers.charge(&order).unwrap();
            charge["payment_intent"].as_str().unwrap().to_owned()
        }),
        _ => orders,
    }
}

fn filled(text: &str, [a, b]: &[String; 2]) -> String {
    text.replace("{a}", a).replace("{b}", b)
}

fn b7_statements_of_payment_providers_agree_with_the_orders(backend: Backend) {
    let desk = Desk::open(backend);
    for (format, provider, text, sent_back) in [
        ("stripe-balance", "stripe", STRIPE_BALANCE, "1.00"),
        ("stripe-payments", "stripe", STRIPE_PAYMENTS, "1.00"),
        ("alipay", "alipay", ALIPAY, "7.25"),
        ("wechat", "wechat", WECHAT, "7.25"),
    ] {
        let imported =
            import(&desk, format, filled(text, &two_orders(&desk, provider, sent_back)).as_bytes());
        // Payouts, fees, what was declined and what WeChat could not send back are no rows.
        assert_eq!(imported["import"]["rows"], 3, "{format}: {imported:#}");
    }
    // Every provider that can be set up is one that a statement can be of.
    let set_up = desk.app().funding.settings().providers.iter().map(|provider| provider.name());
    assert!(set_up.count() == NAMES.len(), "{NAMES:?}");
    assert!(NAMES.iter().all(|name| desk.app().funding.settings().provider(name).is_some()));
    let report = compare(&desk);
    assert_eq!(report["clean"], true, "{report:#}\n{:#}", desk.get("/api/reconcile/cases"));
    for (name, rows) in [("payments:stripe", 6), ("payments:alipay", 3), ("payments:wechat", 3)] {
        let of = source(&report, name);
        assert_eq!((&of["ours"], &of["theirs"], &of["matched"]), (&json!(rows), &json!(rows), &json!(rows)));
    }
}

/// Both merchants' pages write GB18030, and both interfaces UTF-8, with a byte order mark or without.
fn b7_chinese_statements_are_read_in_each_encoding(backend: Backend) {
    let desk = Desk::open(backend);
    for (format, text) in [("alipay", ALIPAY), ("wechat", WECHAT)] {
        let plain = text.trim_start_matches('\u{feff}');
        let (gb, _, _) = GB18030.encode(plain);
        let mut seen = Vec::new();
        for bytes in [plain.as_bytes(), &gb, format!("\u{feff}{plain}").as_bytes()] {
            seen.push(rows(desk.app(), &import(&desk, format, bytes)));
        }
        let row = |class: &str, key: &str, amount: &str| {
            (class.to_owned(), key.to_owned(), amount.to_owned(), "CNY".to_owned())
        };
        let wanted =
            [row("payment", "{a}", "72.5"), row("payment", "{b}", "36.25"), row("refund", "{a}", "-7.25")];
        assert!(seen.iter().all(|seen| *seen == wanted), "{format}: {seen:#?}");
    }
}

fn b7_cost_reports_are_summed_by_day(backend: Backend) {
    let desk = Desk::open(backend);
    for (format, text, wanted) in [
        ("openai-costs", OPENAI, ["0.06", "0.000012346"]),
        ("openai-costs-csv", OPENAI_CSV, ["0.06", "0.000012346"]),
        ("anthropic-costs", ANTHROPIC, ["1.2378912", "0.005"]),
    ] {
        let rows = rows(desk.app(), &import(&desk, format, text.as_bytes()));
        let wanted = wanted
            .map(|amount| ("cost".to_owned(), "2026-11-22".to_owned(), amount.to_owned(), "USD".to_owned()));
        assert_eq!(rows, wanted, "{format}");
    }
    // Nobody called anything that day: all that was billed is one case, whichever file it came from.
    let report = compare(&desk);
    assert_eq!(source(&report, "upstream:all:day")["theirs"], 1, "{report:#}");
    let case = &desk.get("/api/reconcile/cases")["data"][0];
    assert_eq!(case["theirs"]["amount"], "1.362915892", "{case:#}");
    let rows = rows(desk.app(), &import(&desk, "upstream-csv", UPSTREAM.as_bytes()));
    let wanted = [("chatcmpl-1", "0.000125"), ("chatcmpl-2", "0.00002")];
    let wanted =
        wanted.map(|(key, amount)| ("cost".into(), key.to_owned(), amount.to_owned(), "USD".to_owned()));
    assert_eq!(rows, wanted);
}

/// A format's file, with what can be broken in it.
struct Breakable {
    format: &'static str,
    text: &'static str,
    /// Line that names the columns, and a column on it; 0: there is none.
    head: u64,
    column: &'static str,
    /// Line of a row; its amount and its time, as they are and broken.
    row: u64,
    amount: [&'static str; 2],
    time: [&'static str; 2],
}

const BREAKABLE: [Breakable; 8] = [
    Breakable {
        format: "stripe-balance",
        text: STRIPE_BALANCE,
        head: 1,
        column: "gross",
        row: 3,
        amount: ["usd,5.00,0.45", "usd,1O,0.45"],
        time: ["txn_2,2026-11-22 08:00:40", "txn_2,noon"],
    },
    Breakable {
        format: "stripe-payments",
        text: STRIPE_PAYMENTS,
        head: 1,
        column: "Amount Refunded",
        row: 3,
        amount: ["5.00,0.00,usd,true", "1O,0.00,usd,true"],
        time: ["ch_2,2026-11-22 08:00:40", "ch_2,noon"],
    },
    Breakable {
        format: "alipay",
        text: ALIPAY,
        head: 5,
        column: "商户订单号",
        row: 7,
        amount: ["36.25,36.25", "1O,36.25"],
        time: ["2026-11-22 16:00:41", "noon"],
    },
    Breakable {
        format: "wechat",
        text: WECHAT,
        head: 1,
        column: "申请退款金额",
        row: 3,
        amount: ["`0.60%,`36.25", "`0.60%,`1O"],
        time: ["2026-11-22 16:00:52", "noon"],
    },
    Breakable {
        format: "openai-costs-csv",
        text: OPENAI_CSV,
        head: 1,
        column: "amount_value",
        row: 2,
        amount: [",0.06,", ",1O,"],
        time: ["2026-11-22T00:00:00+00:00,2026", "noon,2026"],
    },
    Breakable {
        format: "upstream-csv",
        text: UPSTREAM,
        head: 1,
        column: "cost",
        row: 3,
        amount: ["0.0000200001", "1O"],
        time: ["2026-11-22T08:00:02Z", "noon"],
    },
    Breakable {
        format: "openai-costs",
        text: OPENAI,
        head: 0,
        column: "",
        row: 10,
        amount: ["0.06", "\"1O\""],
        time: ["\"start_time\": 1795305600", "\"start_time\": \"noon\""],
    },
    Breakable {
        format: "anthropic-costs",
        text: ANTHROPIC,
        head: 0,
        column: "",
        row: 3,
        amount: ["123.78912", "1O"],
        time: ["\"starting_at\": \"2026-11-22T00:00:00Z\"", "\"starting_at\": \"noon\""],
    },
];

impl Breakable {
    /// Broken copies of the file, each with the line and the reason that it must be refused with.
    fn broken(&self) -> Vec<(Vec<u8>, u64, String)> {
        let replaced = |[from, to]: [&str; 2]| {
            assert!(self.text.contains(from), "{}: {from}", self.format);
            self.text.replacen(from, to, 1).into_bytes()
        };
        let mut broken = vec![
            (replaced(self.amount), self.row, "is no number".into()),
            (replaced(self.time), self.row, "is no time".into()),
            (self.torn(), self.row, "not of the file's encoding".into()),
        ];
        if self.head > 0 {
            let renamed = self.text.replacen(self.column, "other", 1).into_bytes();
            broken.push((renamed, self.head, format!("the column \"{}\" is not there", self.column)));
            broken.push((self.shortened(), self.row, "values where the columns are".into()));
        } else {
            let cut = self.text.rfind('}').unwrap();
            let lines = self.text[..cut].matches('\n').count() as u64;
            broken.push((self.text.as_bytes()[..cut].to_vec(), lines + 1, "is no report".into()));
        }
        broken
    }

    /// Bytes that are of no encoding, at the end of the row's line.
    fn torn(&self) -> Vec<u8> {
        let bytes = match self.format {
            "alipay" => GB18030.encode(self.text).0.into_owned(),
            _ => self.text.as_bytes().to_vec(),
        };
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let end = ends.map(|(at, _)| at).nth(self.row as usize - 1).unwrap();
        [&bytes[..end], &[0xff, 0xff], &bytes[end..]].concat()
    }

    /// The row's line without its last value.
    fn shortened(&self) -> Vec<u8> {
        let mut lines: Vec<_> = self.text.lines().collect();
        let row = &mut lines[self.row as usize - 1];
        *row = row.rsplit_once(',').unwrap().0;
        lines.join("\n").into_bytes()
    }
}

fn b7_a_broken_file_is_refused_with_its_line(backend: Backend) {
    let desk = Desk::open(backend);
    for file in &BREAKABLE {
        for (bytes, line, reason) in file.broken() {
            let refused = import(&desk, file.format, &bytes);
            let told = refused["refused"]["reason"].as_str().unwrap_or_default();
            assert!(told.contains(&reason), "{}, {reason}: {refused:#}", file.format);
            assert_eq!(refused["refused"]["line"], line, "{}: {refused:#}", file.format);
        }
        assert_eq!(rows_kept(desk.app()), 0, "{}", file.format);
    }
    assert_eq!(desk.get("/api/reconcile/imports")["data"], json!([]));
    for file in &BREAKABLE {
        let first = import(&desk, file.format, file.text.as_bytes());
        assert!(first["import"].is_object(), "{}: {first:#}", file.format);
        let kept = rows_kept(desk.app());
        let again = import(&desk, file.format, file.text.as_bytes());
        let told = again["refused"]["reason"].as_str().unwrap_or_default();
        assert!(told.contains("was imported before, as imp_"), "{}: {again:#}", file.format);
        assert_eq!(rows_kept(desk.app()), kept);
    }
}

/// Books in dollars without a rate of any other currency: no order was ever paid in one.
fn b7_a_file_in_a_currency_of_nobody_is_refused(backend: Backend) {
    let app = TestApp::on(backend);
    let gbp = |text: &str| text.replacen("usd", "gbp", 1).replacen("USD", "GBP", 1);
    for (format, text, line, currency) in [
        ("stripe-balance", gbp(STRIPE_BALANCE), 2, "GBP"),
        ("stripe-payments", gbp(STRIPE_PAYMENTS), 2, "GBP"),
        ("alipay", ALIPAY.to_owned(), 6, "CNY"),
        ("wechat", WECHAT.to_owned(), 2, "CNY"),
        ("openai-costs", gbp(OPENAI), 10, "GBP"),
        ("openai-costs-csv", gbp(OPENAI_CSV), 2, "GBP"),
        ("anthropic-costs", gbp(ANTHROPIC), 3, "GBP"),
        ("upstream-csv", gbp(UPSTREAM), 2, "GBP"),
    ] {
        let body = json!({"format": format, "content": text});
        app.post("/api/reconcile/imports", body).ok();
        let told = ended(|| app.get("/api/reconcile").ok());
        assert_eq!(told["refused"]["line"], line, "{format}: {told:#}");
        let wanted = format!("{currency} is no currency of the books or the orders");
        assert!(told["refused"]["reason"].as_str().unwrap().contains(&wanted), "{format}: {told:#}");
    }
    assert_eq!(rows_kept(app.app()), 0);
}

/// A German bank's file: read as its mapping says, else refused with the line and what to do. Exponents are in no bank's file.
fn b7_amounts_with_a_decimal_comma_are_refused_or_read_as_the_mapping_says(backend: Backend) {
    let app = TestApp::on(backend);
    let import = |decimal: &str, amounts: [&str; 2]| {
        let mapping = format!(
            "name = \"bank\"\nside = \"payments\"\nscope = \"transfer\"\njoin = \"order\"\ndelimiter = \";\"\n\
             currency = \"USD\"\n{decimal}\n[columns]\nkey = \"Ref\"\namount = \"Amount\"\ntime = \"Booked\"\n"
        );
        let rows = amounts.map(|amount| format!("ord_1;{amount};2026-11-22 08:00:00\n"));
        let content = format!("Ref;Amount;Booked\n{}", rows.concat());
        app.post("/api/reconcile/imports", json!({"mapping": mapping, "content": content})).ok();
        ended(|| app.get("/api/reconcile").ok())
    };
    let (comma, point) = ("decimal = \",\"", "decimal = \".\"");
    for (decimal, amount, reason) in [
        ("", "100,00", "\"100,00\" has a comma that parts no thousands"),
        ("", "1.234,50", "decimal = \",\""),
        ("", "1,000", "\"1,000\" can be read in two ways"),
        ("", "1e2", "\"1e2\" is no number without an exponent"),
        (point, "100,00", "parts no thousands"),
        (comma, "100.00", "\"100.00\" has a point that parts no thousands"),
        (comma, "1e2", "without an exponent"),
    ] {
        let told = import(decimal, ["7", amount]);
        assert_eq!(told["refused"]["line"], 3, "{told:#}");
        assert!(told["refused"]["reason"].as_str().unwrap().contains(reason), "{told:#}");
    }
    assert_eq!(rows_kept(app.app()), 0);
    for (decimal, amounts, wanted) in [
        (comma, ["100,00", "1.234,50"], ["100", "1234.5"]),
        (point, ["1,000", "-1,000.25"], ["1000", "-1000.25"]),
        ("", ["100.00", "$1,234.50"], ["100", "1234.5"]),
    ] {
        let read: Vec<_> = rows(app.app(), &import(decimal, amounts)).into_iter().map(|row| row.2).collect();
        assert_eq!(read, wanted);
    }
}

/// The statement of two days, and then that of three: what both have is there once, and twice is only what one file has twice.
fn b7_statements_that_overlap_make_no_cases(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let payments = [(); 3].map(|()| {
        let order = desk.order(&account, "stripe", "10.00");
        desk.pay(&order, &Play::default());
        desk.providers.charge(&order).unwrap()["payment_intent"].as_str().unwrap().to_owned()
    });
    let file = |rows: &[&String]| {
        let rows = rows.iter().map(|payment| format!("2026-11-22 08:00:00,usd,10.00,charge,{payment}\n"));
        let head = "created_utc,currency,gross,reporting_category,payment_intent_id\n";
        format!("{head}{}", rows.collect::<String>())
    };
    let [x0, x1, x2] = &payments;
    let first = import(&desk, "stripe-balance", file(&[x0, x1]).as_bytes());
    assert_eq!(first["import"]["rows_known"], 0, "{first:#}");
    let second = import(&desk, "stripe-balance", file(&[x0, x1, x2]).as_bytes());
    assert_eq!(
        (&second["import"]["rows"], &second["import"]["rows_known"]),
        (&json!(3), &json!(2)),
        "{second:#}"
    );
    let report = compare(&desk);
    assert_eq!(report["clean"], true, "{report:#}");
    let of = source(&report, "payments:stripe");
    assert_eq!((&of["theirs"], &of["matched"]), (&json!(3), &json!(3)));
    // A third that has one payment twice: one of the two was there already, the other is a double.
    let third = import(&desk, "stripe-balance", file(&[x2, x2]).as_bytes());
    assert_eq!(third["import"]["rows_known"], 1, "{third:#}");
    assert_eq!(source(&compare(&desk), "payments:stripe")["differences"], json!({"row_doubled": 1}));
    let again = import(&desk, "stripe-balance", format!("{}\n", file(&[x2, x2])).as_bytes());
    assert_eq!(again["import"]["rows_known"], 2, "{again:#}");
    assert_eq!(source(&compare(&desk), "payments:stripe")["differences"], json!({"row_doubled": 1}));
    let listed = desk.get("/api/reconcile/imports")["data"].clone();
    let known = listed.as_array().unwrap().iter().map(|import| import["rows_known"].as_u64().unwrap());
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    assert_eq!(known, [0, 1, 2, 2]);
}

/// Call by call, and by day: a day that two reports have costs what one of them says.
fn b7_bills_that_overlap_are_counted_once(backend: Backend) {
    let desk = Desk::open(backend);
    let line = |number: u32| format!("chatcmpl-{number},0.000125,USD,2026-11-22T08:00:0{number}Z\n");
    for (numbers, known) in [(&[1, 2][..], 0), (&[1, 2, 3], 2)] {
        let rows: String = numbers.iter().copied().map(line).collect();
        let bill = format!("request_id,cost,currency,time\n{rows}");
        let imported = import(&desk, "upstream-csv", bill.as_bytes());
        assert_eq!(imported["import"]["rows_known"], known, "{imported:#}");
    }
    let day = |day: u32, costs: &[&str]| -> String {
        let line = |cost: &&str| format!("2026-11-{day}T00:00:00+00:00,{cost},usd\n");
        costs.iter().map(line).collect()
    };
    let head = "start_time_iso,amount_value,amount_currency\n";
    // Two line items of one day may cost the same.
    for (days, known) in [
        (day(21, &["0.5", "0.5", "0.25"]), 0),
        (format!("{}{}", day(21, &["0.5", "0.5", "0.25"]), day(22, &["0.5"])), 3),
    ] {
        let imported = import(&desk, "openai-costs-csv", format!("{head}{days}").as_bytes());
        assert_eq!(imported["import"]["rows_known"], known, "{imported:#}");
    }
    let report = compare(&desk);
    assert_eq!(source(&report, "upstream:all")["differences"], json!({"never_admitted": 3}), "{report:#}");
    assert_eq!(source(&report, "upstream:all:day")["differences"], json!({"never_admitted": 2}));
    let cases = desk.get("/api/reconcile/cases?source=upstream:all:day")["data"].clone();
    let mut billed: Vec<_> =
        cases.as_array().unwrap().iter().map(|case| case["theirs"]["amount"].as_str().unwrap()).collect();
    billed.sort_unstable();
    assert_eq!(billed, ["0.5", "1.25"], "{cases:#}");
}
