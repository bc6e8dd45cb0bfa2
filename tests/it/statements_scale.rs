//! Statements and reports of much: what is bounded, and – with `make bench-statement` – how long it takes.

use std::fmt::Write as _;
use std::time::Instant;

use ledger::{HoldId, Nano, Timestamp};
use serde_json::{Value, json};
use tallygate::books::encoding;
use tallygate::books::lookup::StoredCall;
use tallygate::books::movement::{ChargeLine, MovementKind};
use tallygate::books::rows::first_seq;
use tallygate::store::{BalanceRow, CostKey, CostRow, CostSums, MovementRow, ProjectedRows, RequestsOf};

use crate::support::app::{NOW_MS, TestApp};
use crate::support::history::begin;
use crate::support::memory;

const DAY_MS: i64 = 86_400_000;
/// 2026-10-01 and 2026-11-01 in UTC.
const MONTH_MS: [i64; 2] = [1_790_812_800_000, 1_793_491_200_000];
const ROWS_AT_ONCE: i64 = 5_000;
/// The rows are written beside the journal, under a shard of their own.
const SHARD: u32 = 7;

/// A month with so many charges, one in each row: as many rows as there can be.
pub fn write_month(app: &TestApp, book: u64, rows: i64) {
    let balance = |at_ms: i64, seq: u64, balance: i64| BalanceRow {
        account: book,
        at_ms,
        seq,
        balance,
        held: 0,
        ends: encoding::encode_ends(&[]),
    };
    let mut written = 0;
    let mut n = 0;
    while written < rows {
        n += 1;
        let count = ROWS_AT_ONCE.min(rows - written);
        let movement = |index: i64| {
            let at = Timestamp(MONTH_MS[0] + (written + index) * (30 * DAY_MS) / rows);
            let line = ChargeLine {
                hold: HoldId((1 << 80) + (written + index) as u128),
                at,
                charged: Nano(1_000_001),
            };
            MovementRow {
                account: book,
                seq: first_seq(n) + index as u64,
                at_ms: at.0,
                kind: MovementKind::Charge as u8,
                amount: -line.charged.0,
                reference: String::new(),
                body: encoding::encode_charges(&[line]),
            }
        };
        let movements = (0..count).map(movement).collect();
        let rows = ProjectedRows { movements, ..ProjectedRows::default() };
        app.app().projections.write_batch(SHARD, n, &rows).unwrap();
        written += count;
    }
    let ends =
        [balance(MONTH_MS[0], first_seq(1), 0), balance(MONTH_MS[1], first_seq(n + 1), -1_000_001 * rows)];
    let rows = ProjectedRows { balances: ends.to_vec(), ..ProjectedRows::default() };
    app.app().projections.write_batch(SHARD, n + 1, &rows).unwrap();
}

/// A year of daily sums of so many keys and three models.
fn write_year(app: &TestApp, book: u64, keys: u64) -> usize {
    let of = |day: i64, key: u64, model: &str| CostRow {
        key: CostKey {
            account: book,
            day_ms: NOW_MS.div_euclid(DAY_MS) * DAY_MS - day * DAY_MS,
            key,
            project: 1,
            member: 0,
            group: 0,
            model: model.into(),
            endpoint: 1,
            unit: 1,
        },
        sums: CostSums { calls: 10, charged: 1_000, ..CostSums::default() },
    };
    let days = 0..365;
    let costs: Vec<_> = days
        .flat_map(|day| (1..=keys).flat_map(move |key| ["m", "n", "o"].map(|model| of(day, key, model))))
        .collect();
    let count = costs.len();
    for (n, costs) in costs.chunks(ROWS_AT_ONCE as usize).enumerate() {
        let rows = ProjectedRows { costs: costs.to_vec(), ..ProjectedRows::default() };
        app.app().projections.write_batch(SHARD + 1, n as u64 + 1, &rows).unwrap();
    }
    count
}

/// B6, I2: a statement of a month with many rows begins at once and takes the memory of a short one; a report of a year
/// reads daily sums.
#[test]
fn b6_a_long_statement_takes_the_memory_of_a_short_one() {
    let number = |name: &str, default: i64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (rows, keys) = (number("STATEMENT_ROWS", 20_000), number("STATEMENT_KEYS", 3));
    let app = TestApp::new();
    let account = app.account("busy");
    app.model("m");
    let book = account.parse::<tallygate::id::AccountId>().unwrap().live_book();
    write_month(&app, book, rows);
    let mut told = String::new();
    for format in ["json", "csv"] {
        let path = format!("/api/accounts/{account}/statement?period=2026-10&format={format}");
        let (started, before) = (Instant::now(), memory::bytes());
        let (mut first, mut peak, mut bytes, mut lines) = (None, 0, 0, 0);
        app.each_piece(&path, |piece| {
            first.get_or_insert_with(|| started.elapsed().as_millis());
            peak = peak.max(memory::bytes() - before);
            bytes += piece.len();
            lines += piece.windows(7).filter(|at| at == b"\"charge" || at == b",charge").count();
        });
        // Each line names the family and the kind.
        assert!(lines as i64 >= rows * 2, "{lines} of {rows} lines in {format}");
        assert!(peak < 8 << 20, "{peak} bytes at the most for {rows} rows");
        let whole = started.elapsed().as_millis();
        writeln!(
            told,
            "| statement of {rows} rows, {format} | {} ms | {whole} ms | {} MiB | {} KiB |",
            first.unwrap(),
            bytes >> 20,
            peak >> 10
        )
        .unwrap();
    }
    let started = Instant::now();
    let summary = app.get(&format!("/api/accounts/{account}/statement/summary?period=2026-10")).ok();
    assert_eq!(summary["movements"]["charges"], Nano(1_000_001 * rows).to_string());
    writeln!(told, "| its summary | | {} ms | | |", started.elapsed().as_millis()).unwrap();
    let sums = write_year(&app, book, keys as u64);
    let started = Instant::now();
    let report = app
        .get(&format!("/api/reports/costs?account={account}&from=2025-11-01&to=2026-11-30&by=month,model"))
        .ok();
    assert_eq!(report["total"]["calls"], json!(sums * 10));
    writeln!(
        told,
        "| cost report of a year from {sums} daily sums | | {} ms | | |",
        started.elapsed().as_millis()
    )
    .unwrap();
    writeln!(told, "| the same from the log, for each 1,000,000 calls | | {} ms | | |", log_millis(&app))
        .unwrap();
    if let Ok(file) = std::env::var("STATEMENT_OUT") {
        let build = if cfg!(debug_assertions) { "an unoptimised build" } else { "a release build" };
        let head = format!(
            "# Statements and cost reports\n\nWritten by `make bench-statement`, on the embedded store, {build}. Memory is what was \
             allocated at the most\nwhile the answer was sent.\n\n| what | first byte | whole | size | memory |\n|---|---|---|---|---|\n"
        );
        std::fs::write(file, head + &told).unwrap();
    }
}

/// How long a million rows of the log take to be read and understood.
fn log_millis(app: &TestApp) -> u128 {
    const CALLS: u32 = 2_000;
    let account = app.account("log");
    app.credit(&account, "100");
    let (key, _) = app.key(&account, Value::Object(serde_json::Map::new()));
    for _ in 0..CALLS {
        begin(app.app(), &key, "m", Nano(1_000)).unwrap().settle(Nano(1_000));
    }
    app.app().books.flush_blocking().unwrap();
    let book = account.parse::<tallygate::id::AccountId>().unwrap().live_book();
    let started = Instant::now();
    let rows = app.app().projections.requests(RequestsOf::Account(book), i64::MAX, CALLS).unwrap();
    let charged: i64 = rows.iter().map(|row| StoredCall::from_row(row).unwrap().charge.0).sum();
    assert_eq!(charged, i64::from(CALLS) * 1_000);
    started.elapsed().as_millis() * 1_000_000 / u128::from(CALLS)
}
