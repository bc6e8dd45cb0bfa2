//! What a durable batch costs: the measurements behind docs/adr/0001-journal-and-storage.md.
//!
//! `cargo bench --bench journal` measures on a folder in the target directory (a real disk, not a
//! memory file system). Per group one line per variant; `time` is per batch, `thrpt` counts calls.
//! Groups ending in `cpu` count the CPU time of the appending thread alone, the others wall time.
//! `cargo bench --bench journal -- syscalls N` appends 200 batches of N calls and ends, for strace.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement ends where it cannot go on, and prints what it finds"
)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tallygate::store::chain::{Header, Link, seal};
use tallygate::store::{self, Batch, ProjectedRows, RequestRow, StoreConfig, Stores};

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/postgres.rs"]
mod postgres_server;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/support/secrets.rs"]
mod secrets;

const SIZES: [usize; 3] = [1, 32, 256];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "syscalls") {
        return append_and_end(args[at + 1].parse().expect("calls per batch"));
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    appends(&mut criterion, "append", wall);
    appends(&mut criterion, "append_cpu", cpu);
    designs(&mut criterion, "design", wall);
    designs(&mut criterion, "design_cpu", cpu);
    projections(&mut criterion);
    sealing_and_packing(&mut criterion);
    criterion.final_summary();
}

// ---- what is measured -------------------------------------------------------------------------

type Clock = fn(u64, &mut dyn FnMut()) -> Duration;

fn wall(times: u64, work: &mut dyn FnMut()) -> Duration {
    let started = Instant::now();
    (0..times).for_each(|_| work());
    started.elapsed()
}

/// CPU time of this thread, from the kernel's own accounting.
fn cpu(times: u64, work: &mut dyn FnMut()) -> Duration {
    let started = thread_cpu();
    (0..times).for_each(|_| work());
    thread_cpu() - started
}

fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("CPU time"))
}

fn run(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    calls: usize,
    clock: Clock,
    mut work: impl FnMut(),
) {
    group.throughput(Throughput::Elements(calls as u64));
    group.bench_function(BenchmarkId::new(name, calls), |bencher| {
        bencher.iter_custom(|times| clock(times, &mut work));
    });
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

// ---- the data: calls as the books write them -----------------------------------------------------

/// A generator with a fixed seed (splitmix64), so that every run has the same data.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// About 250 bytes per call: a request id, and for each of six layers an id, a window and amounts; the
/// ids are those of 500 keys, so they come again and again, as in life.
fn effects(numbers: &mut Numbers, calls: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(calls * 256);
    for _ in 0..calls {
        out.extend_from_slice(&1_700_000_000_000u64.to_be_bytes()[2..]);
        out.extend_from_slice(&numbers.next().to_be_bytes());
        out.extend_from_slice(&numbers.next().to_be_bytes()[..2]);
        let key = numbers.below(500);
        for layer in 0..6u64 {
            out.extend_from_slice(&(0x0012_3400_0000_0000 | layer << 32 | (key >> layer)).to_le_bytes());
            out.extend_from_slice(&(1_763_769_600_000u64 + layer * 86_400_000).to_le_bytes());
            out.extend_from_slice(&(numbers.below(5_000_000)).to_le_bytes());
            out.extend_from_slice(&(numbers.below(3_000_000)).to_le_bytes());
            out.extend_from_slice(&[layer as u8, 1, 0, 0, 0, 0, 0]);
        }
    }
    out
}

/// About 200 bytes per call: endpoint, model, address, client, the upstream's id, tokens.
fn facts(numbers: &mut Numbers, calls: usize) -> Vec<u8> {
    let models = ["gpt-5-mini", "claude-sonnet-4-5", "gemini-2.5-flash", "deepseek-chat"];
    let mut out = Vec::with_capacity(calls * 220);
    for _ in 0..calls {
        let model = models[numbers.below(4) as usize];
        let text = format!(
            "/v1/chat/completions\0{model}\0{model}\0OpenAI/Python 2.8.1\010.0.{}.{}\0chatcmpl-{:016x}{:08x}\0",
            numbers.below(4),
            numbers.below(256),
            numbers.next(),
            numbers.below(1 << 32),
        );
        out.extend_from_slice(text.as_bytes());
        for _ in 0..10 {
            out.extend_from_slice(&numbers.below(20_000).to_le_bytes());
        }
    }
    out
}

/// Seals batch after batch; the time that takes is measured apart (`seal`).
struct Source {
    numbers: Numbers,
    last: Link,
    epoch: u64,
    calls: usize,
}

impl Source {
    fn new(last: Link, epoch: u64, calls: usize) -> Self {
        Self { numbers: Numbers(7), last, epoch, calls }
    }

    fn next(&mut self) -> Batch {
        let Link { n, hash, .. } = self.last;
        let header = Header { shard: 0, epoch: self.epoch, n: n + 1, at_ms: 0, prev_hash: hash };
        let facts = facts(&mut self.numbers, self.calls);
        let batch = seal(header, effects(&mut self.numbers, self.calls), facts);
        self.last = Link::from(&batch);
        batch
    }
}

// ---- the store as it is --------------------------------------------------------------------------

fn open(postgres: Option<&postgres_server::TestDatabase>, folder: &Path) -> Stores {
    let url = postgres.map(postgres_server::TestDatabase::url);
    store::open(&StoreConfig { data_dir: folder.to_owned(), postgres_url: url }).expect("the store opens")
}

/// Appends by the journal's own code; making the batch is inside the clock of neither.
fn appends(criterion: &mut Criterion, name: &str, clock: Clock) {
    let mut group = criterion.benchmark_group(name);
    for calls in SIZES {
        let (folder, database) = (folder(), postgres_server::TestDatabase::new());
        for (backend, database) in [("sqlite", None), ("postgres", Some(&database))] {
            let folder = folder.path().join(backend);
            let mut stores = open(database, &folder);
            let epoch = stores.journal.acquire(0, "bench").expect("the shard");
            let mut source = Source::new(Link::START, epoch, calls);
            group.throughput(Throughput::Elements(calls as u64));
            group.bench_function(BenchmarkId::new(backend, calls), |bencher| {
                bencher.iter_custom(|times| {
                    (0..times)
                        .map(|_| {
                            let batch = source.next();
                            clock(1, &mut || stores.journal.append(&batch).expect("appended"))
                        })
                        .sum()
                });
            });
        }
    }
    group.finish();
}

fn append_and_end(calls: usize) {
    let folder = folder();
    let mut stores = open(None, folder.path());
    let epoch = stores.journal.acquire(0, "bench").expect("the shard");
    let mut source = Source::new(Link::START, epoch, calls);
    for _ in 0..200 {
        stores.journal.append(&source.next()).expect("appended");
    }
}

// ---- other designs ---------------------------------------------------------------------------------

fn designs(criterion: &mut Criterion, name: &str, clock: Clock) {
    let mut group = criterion.benchmark_group(name);
    for calls in SIZES {
        let mut source = Source::new(Link::START, 1, calls);
        let batches: Vec<Batch> = (0..64).map(|_| source.next()).collect();
        for (table, page_bytes) in [("rowid", 4096), ("key", 4096), ("key", 8192), ("key", 16384)] {
            let folder = folder();
            let conn = sqlite(&folder.path().join("j.db"), page_bytes);
            let end = if table == "key" { "WITHOUT ROWID" } else { "" };
            let sql = format!(
                "CREATE TABLE j (shard INTEGER, n INTEGER, hash BLOB, effects BLOB, facts BLOB, PRIMARY KEY (shard, n)) {end}"
            );
            conn.execute_batch(&sql).expect("a table");
            let mut n = 0usize;
            run(&mut group, &format!("blob_{table}_{page_bytes}"), calls, clock, || {
                let batch = &batches[n % batches.len()];
                n += 1;
                let mut insert =
                    conn.prepare_cached("INSERT INTO j VALUES (0, ?1, ?2, ?3, ?4)").expect("SQL");
                insert.execute((n as i64, batch.hash, &batch.effects, &batch.facts)).expect("inserted");
                bound_wal(&conn, n);
            });
        }
        normalised(&mut group, calls, clock);
        append_file(&mut group, &batches, calls, clock, "file_growing", false);
        append_file(&mut group, &batches, calls, clock, "file_preallocated", true);
    }
    group.finish();
}

fn sqlite(path: &Path, page_bytes: u32) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(path).expect("a database");
    conn.execute_batch(&format!(
        "PRAGMA page_size={page_bytes}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0"
    ))
    .expect("pragmas");
    conn
}

/// Every design pays for its checkpoints inside the clock, every 1,000 batches.
fn bound_wal(conn: &rusqlite::Connection, n: usize) {
    if n.is_multiple_of(1_000) {
        conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("a checkpoint");
    }
}

/// Six rows per call: the request, and five postings; one transaction per batch.
fn normalised(group: &mut BenchmarkGroup<'_, WallTime>, calls: usize, clock: Clock) {
    let folder = folder();
    let conn = sqlite(&folder.path().join("rows.db"), 4096);
    conn.execute_batch(
        "CREATE TABLE request (id BLOB PRIMARY KEY, account INTEGER, at INTEGER, body BLOB) WITHOUT ROWID;
         CREATE TABLE posting (request BLOB, line INTEGER, account INTEGER, amount INTEGER, window INTEGER,
             PRIMARY KEY (account, request, line)) WITHOUT ROWID",
    )
    .expect("tables");
    let mut numbers = Numbers(7);
    let body = [7u8; 200];
    let mut n = 0;
    run(group, "six_rows", calls, clock, || {
        n += 1;
        conn.execute_batch("BEGIN IMMEDIATE").expect("begin");
        for call in 0..calls {
            let id =
                (u128::from(n as u64) << 80 | u128::from(call as u64) << 64 | u128::from(numbers.next()))
                    .to_be_bytes();
            let key = numbers.below(500) as i64;
            let mut request =
                conn.prepare_cached("INSERT INTO request VALUES (?1, ?2, ?3, ?4)").expect("SQL");
            request.execute((id, key, n as i64, body)).expect("inserted");
            let mut posting =
                conn.prepare_cached("INSERT INTO posting VALUES (?1, ?2, ?3, ?4, ?5)").expect("SQL");
            for line in 0..5i64 {
                let amount = numbers.below(5_000_000) as i64;
                posting.execute((id, line, key << 3 | line, amount, n as i64)).expect("inserted");
            }
        }
        conn.execute_batch("COMMIT").expect("commit");
        bound_wal(&conn, n);
    });
}

/// A file of our own: length, CRC and the bytes, one write and one fdatasync per batch. It begins
/// anew after 256 MB.
fn append_file(
    group: &mut BenchmarkGroup<'_, WallTime>,
    batches: &[Batch],
    calls: usize,
    clock: Clock,
    name: &str,
    preallocated: bool,
) {
    const SEGMENT_BYTES: u64 = 256 << 20;
    let folder = folder();
    let path = folder.path().join("segment");
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).expect("a file");
    if preallocated {
        fill(&file, SEGMENT_BYTES);
    }
    let (mut at, mut n) = (0u64, 0usize);
    let mut record = Vec::new();
    run(group, name, calls, clock, || {
        let batch = &batches[n % batches.len()];
        n += 1;
        record.clear();
        let facts = batch.facts.as_deref().unwrap_or_default();
        record.extend_from_slice(&((batch.effects.len() + facts.len()) as u64).to_le_bytes());
        record.extend_from_slice(&batch.hash);
        record.extend_from_slice(&batch.effects);
        record.extend_from_slice(facts);
        record.extend_from_slice(&crc32fast::hash(&record).to_le_bytes());
        if at + record.len() as u64 > SEGMENT_BYTES {
            at = 0;
            if !preallocated {
                file.set_len(0).expect("cut");
            }
        }
        file.write_all_at(&record, at).expect("written");
        file.sync_data().expect("synced");
        at += record.len() as u64;
    });
}

fn fill(file: &File, bytes: u64) {
    let zeros = vec![0u8; 1 << 20];
    for at in (0..bytes).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).expect("filled");
    }
    file.sync_all().expect("synced");
}

// ---- behind the journal ------------------------------------------------------------------------------

fn projections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("project");
    for calls in [32, 256, 2_048] {
        let (folder, database) = (folder(), postgres_server::TestDatabase::new());
        for (backend, database) in [("sqlite", None), ("postgres", Some(&database))] {
            let stores = open(database, &folder.path().join(backend));
            let (mut numbers, mut n) = (Numbers(7), 0u64);
            group.throughput(Throughput::Elements(calls as u64));
            group.bench_function(BenchmarkId::new(backend, calls), |bencher| {
                bencher.iter_custom(|times| {
                    (0..times)
                        .map(|_| {
                            n += 1;
                            let requests = (0..calls).map(|_| row(&mut numbers, n)).collect();
                            let rows = ProjectedRows { requests, ..ProjectedRows::default() };
                            let started = Instant::now();
                            stores.projections.write_batch(0, n, &rows).expect("written");
                            started.elapsed()
                        })
                        .sum()
                });
            });
        }
    }
    group.finish();
}

fn row(numbers: &mut Numbers, n: u64) -> RequestRow {
    let key = numbers.below(500);
    RequestRow {
        id: u128::from(n) << 80 | u128::from(numbers.next()),
        account: key / 3,
        key,
        at_ms: 1_763_769_600_000 + n as i64,
        status: 200,
        code: 0,
        state: 2,
        charge: numbers.below(5_000_000) as i64,
        facts: facts(numbers, 1),
        money: effects(numbers, 1)[..60].to_vec(),
    }
}

/// Hashing, which every batch pays, and compressing, which it might.
fn sealing_and_packing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bytes");
    for calls in SIZES {
        let mut numbers = Numbers(7);
        let (effects, facts) = (effects(&mut numbers, calls), facts(&mut numbers, calls));
        let header = Header { shard: 0, epoch: 1, n: 1, at_ms: 0, prev_hash: [0; 32] };
        run(&mut group, "seal", calls, wall, || {
            black_box(seal(header, black_box(effects.clone()), black_box(facts.clone())));
        });
        for (what, bytes) in [("effects", &effects), ("facts", &facts)] {
            let packed = lz4_flex::compress(bytes).len();
            println!("lz4 {what}: {calls} calls, {} bytes -> {packed}", bytes.len());
            run(&mut group, &format!("lz4_{what}"), calls, wall, || {
                black_box(lz4_flex::compress(black_box(bytes)));
            });
        }
    }
    group.finish();
}
