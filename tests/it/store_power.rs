//! Power cuts at the level of the store: every batch whose append returned is there afterwards, and
//! the chain verifies (groundwork of S16, S26).

use crate::store_journal::{next_batch, verified};
use crate::support::backend::Backend;
use crate::support::child::{child, given};
use crate::support::powercut::PowerCut;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use tallygate::store::chain::Link;
use tallygate::store::{self, StoreConfig};

/// Starts the child `name` in the folder, reads `lines` acknowledgements, lets it run for `more`, kills
/// it, cuts the power. Returns the last number that it acknowledged.
fn run_and_cut(name: &str, folder: &Path, leak_per_mille: u32, lines: usize, more: Duration) -> u64 {
    let power = PowerCut::over(folder, leak_per_mille);
    let mut command = child(name);
    power.watch(&mut command);
    let mut process = command.env("STORE_DIR", folder).stdout(Stdio::piped()).spawn().unwrap();
    let acknowledged = last_number(&mut process, lines, more);
    power.restore();
    acknowledged
}

fn last_number(process: &mut Child, lines: usize, more: Duration) -> u64 {
    let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut last = 0;
    let mut take = |line: String| {
        if let Some(n) = line.strip_prefix("stored ").and_then(|n| n.parse().ok()) {
            last = n;
            return 1;
        }
        0
    };
    let mut seen = 0;
    while seen < lines {
        let line = output.next().expect("the child ended early").unwrap();
        seen += take(line);
    }
    std::thread::park_timeout(more);
    process.kill().unwrap();
    process.wait().unwrap();
    // What it said before it was killed counts too; a line cut in the middle was not said.
    output.map_while(Result::ok).for_each(|line| {
        take(line);
    });
    last
}

#[test]
fn every_acknowledged_batch_survives_power_cuts() {
    let backend = Backend::embedded();
    let folder = backend.folder().join("data");
    std::fs::create_dir(&folder).unwrap();
    let mut least = 0;
    for round in 0..12u64 {
        // Every other round a tenth of what was not synced reaches the disk, in any order and torn.
        let leak = if round % 2 == 0 { 0 } else { 100 };
        let more = Duration::from_millis(round * 7 % 40);
        let lines = [1, 3, 200, 40][round as usize % 4];
        let stored = run_and_cut("store_power::child_appends", &folder, leak, lines, more);
        assert!(stored > least, "round {round}");
        let stores = store::open(&StoreConfig::embedded(&folder)).unwrap();
        let last =
            verified(&stores.journal.reader()).unwrap_or_else(|broken| panic!("round {round}: {broken}"));
        assert!(last.n >= stored, "round {round}: {stored} was acknowledged, {} is there", last.n);
        least = last.n;
        let meta =
            stores.directory.query("SELECT name FROM directory_meta WHERE name LIKE 'start %'", &[]).unwrap();
        assert!(meta.len() as u64 > round, "round {round}: what the directory had stored is gone");
        tallygate::master_key::open(&folder, None, &stores.directory).unwrap();
    }
}

#[test]
#[ignore = "run by every_acknowledged_batch_survives_power_cuts"]
fn child_appends() {
    let folder = given("STORE_DIR");
    let mut stores = store::open(&StoreConfig::embedded(&folder)).unwrap();
    tallygate::master_key::open(folder.as_ref(), None, &stores.directory).unwrap();
    let epoch = stores.journal.acquire(0, "node").unwrap();
    let sql = "INSERT INTO directory_meta (name, body) VALUES (?1, ?2)";
    let params = tallygate::store_params![format!("start {epoch}"), b"x"];
    stores.directory.execute(sql, params).unwrap();
    let mut last = stores.journal.last(0).unwrap().unwrap_or(Link::START);
    let mut out = std::io::stdout();
    loop {
        let size = 1 + (last.n * 7919 % 200_000) as usize;
        let batch = next_batch(&last, epoch, size, size / 3);
        stores.journal.append(&batch).unwrap();
        writeln!(out, "stored {}", batch.n).unwrap();
        last = Link::from(&batch);
    }
}

/// The layer does cut: a writer that does not sync loses what it said it had stored.
#[test]
fn a_writer_without_sync_loses_its_rows_in_a_power_cut() {
    let backend = Backend::embedded();
    let folder = backend.folder().join("data");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("careless.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER)")
        .unwrap();
    let stored = run_and_cut("store_power::child_writes_carelessly", &folder, 0, 50, Duration::ZERO);
    let rows: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT COUNT(*) FROM t", [], |r| r.get(0))
        .unwrap();
    assert!((rows as u64) < stored, "{stored} said to be stored, {rows} there: nothing was cut");
}

#[test]
#[ignore = "run by a_writer_without_sync_loses_its_rows_in_a_power_cut"]
fn child_writes_carelessly() {
    let conn = rusqlite::Connection::open(Path::new(&given("STORE_DIR")).join("careless.db")).unwrap();
    conn.execute_batch("PRAGMA synchronous=OFF").unwrap();
    let mut out = std::io::stdout();
    for n in 1u64.. {
        conn.execute("INSERT INTO t VALUES (?1)", [n as i64]).unwrap();
        writeln!(out, "stored {n}").unwrap();
    }
}
