//! What the parts of a paid call cost without the network: the decision, the windows, the encoding of a
//! batch, and the commit with the projections behind it.
//!
//! `cargo bench --bench books`; the books lie in a temporary directory, so the commit is as fast as the
//! disk under it syncs. Criterion tells wall time: on a busy machine let it go before the other work
//! (`chrt -f 1 cargo bench …`, as root).
#![expect(clippy::expect_used, clippy::panic, reason = "a measurement ends where it cannot go on")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ledger::{Book, Command, CreditSource, Effect, LotId, LotKind, Nano, Reference, TokenClass, Usage};
use tallygate::books::encoding::Buffers;
use tallygate::books::{Books, BooksConfig, Held, Record, Reserve};
use tallygate::clock::SystemClock;
use tallygate::directory::Snapshot;
use tallygate::gateway::facts::{Attempt, CallRecord, CostBasis, Decided, Ending, Outcome, UsageSource};
use tallygate::gateway::ladder::{self, Verdict};
use tallygate::store::{self, StoreConfig};

use case::{ACCOUNT, POLICY, facts, readings, scope};

mod case;

/// Calls that are under way at a time.
const OPEN_CALLS: usize = 64;
/// Calls in one iteration of the commit: the projector gathers for 25 ms, which must not count for one call.
const AT_ONCE: u64 = 10_000;
const PER_CALL: u32 = 10_000;

fn attempt() -> Attempt {
    Attempt {
        channel: Some(tallygate::id::ChannelId::from_raw(5)),
        credential: 1,
        multiplier_ppm: 1_000_000,
        started_us: 120,
        duration_us: 51_000,
        status: Some(200),
        upstream_request: Some("chatcmpl-0000000000000abc".into()),
        cost_basis: CostBasis::Upstream,
        ..Attempt::default()
    }
}

fn outcome() -> Outcome {
    let mut usage = Usage::default();
    usage.set(TokenClass::Input, 92);
    usage.set(TokenClass::Output, 20);
    Outcome {
        status: 200,
        ending: Ending::Complete,
        usage,
        usage_source: UsageSource::Upstream,
        attempts: [attempt()].into_iter().collect(),
        upstream_error: None,
        code: None,
        first_byte_us: Some(51_000),
        latency_us: 51_200,
    }
}

/// The two calls that are measured. `cargo nextest run --test it allocat` counts what `decide` allocates: nothing.
fn cases() -> [(&'static str, Snapshot); 2] {
    [("", case::plain()), (", 8 limits and 20 statements", case::full())]
}

fn decision(c: &mut Criterion) {
    for (name, snapshot) in cases() {
        let facts = facts(&snapshot, 1);
        let readings = readings(&snapshot, facts.at_ms);
        let verdict = ladder::decide(&snapshot, &facts, &readings, &POLICY);
        assert!(matches!(verdict, Verdict::Admit(_)), "{verdict:?}");
        c.bench_function(&format!("decide{name}"), |b| {
            b.iter(|| {
                matches!(
                    ladder::decide(&snapshot, black_box(&facts), black_box(&readings), &POLICY),
                    Verdict::Admit(_)
                )
            });
        });
        c.bench_function(&format!("scope of a call (windows, layers){name}"), |b| {
            b.iter(|| scope(&snapshot, black_box(facts.at_ms)));
        });
    }
}

/// The books in a fresh directory, with money for ever.
fn books(dir: &std::path::Path) -> Books {
    let stores = store::open(&StoreConfig::embedded(dir)).expect("a fresh store");
    let config = BooksConfig {
        shard: 0,
        node: "bench".into(),
        ports: 1,
        clock: Arc::new(SystemClock),
        on_fatal: Box::new(|why| panic!("{why}")),
    };
    // The lock is of no use here: nobody else knows the directory.
    let books = Books::open(stores.journal, stores.projections, config).expect("open books");
    let credit = Command::Credit {
        account: ACCOUNT.in_book(Book::Live),
        lot: LotId(1),
        kind: LotKind::Purchased,
        priority: 0,
        expires_at: None,
        amount: Nano(9_000_000_000_000_000),
        source: CreditSource::Payment,
        reference: Reference::new("order:bench"),
    };
    books.execute_blocking(&credit).expect("a credit");
    books
}

fn hold(books: &Books, snapshot: &Snapshot, n: u64) -> Held {
    let facts = facts(snapshot, n);
    let scope = scope(snapshot, facts.at_ms);
    let decided = Decided::new(facts);
    let (_, held) = books
        .decide(&scope, decided, |decided| {
            let readings = decided.readings.as_ref()?;
            match ladder::decide(snapshot, &decided.facts, readings, &POLICY) {
                Verdict::Admit(admission) => Some(Reserve {
                    amount: admission.sizing.hold,
                    overdraft: Nano::ZERO,
                    tokens: 0,
                    task: None,
                }),
                Verdict::Refuse(_) => None,
            }
        })
        .expect("books that work");
    held.expect("an admitted call")
}

/// Decides, holds and settles so many calls, some of them under way at a time.
fn calls(books: &Books, snapshot: &Snapshot, from: u64, count: u64) {
    let mut open: VecDeque<Held> = VecDeque::with_capacity(OPEN_CALLS);
    for n in from..from + count {
        if open.len() == OPEN_CALLS
            && let Some(held) = open.pop_front()
        {
            held.settle(Nano(315_000), outcome()).expect("a settlement");
        }
        open.push_back(hold(books, snapshot, n));
    }
    let mut last = None;
    for held in open.drain(..) {
        last = Some(held.settle(Nano(315_000), outcome()).expect("a settlement").ticket);
    }
    if let Some(ticket) = last {
        books.durability().wait_blocking(ticket).expect("a commit");
    }
}

fn encoding(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let (books, snapshot) = (books(dir.path()), case::plain());
    let records: Vec<Record> = (0..64)
        .map(|n| {
            let held = hold(&books, &snapshot, n);
            let call = CallRecord { decided: Arc::clone(held.decided()), outcome: Some(Box::new(outcome())) };
            held.settle(Nano(315_000), outcome()).expect("a settlement");
            let (_, effects): (_, Vec<Effect>) =
                books.find_call(call.decided.facts.request).expect("in the tail");
            Record { effects, call: Some(call) }
        })
        .collect();
    let mut group = c.benchmark_group("encode a batch of 64 calls");
    group.throughput(Throughput::Elements(64));
    let mut buffers = Buffers::default();
    group.bench_function("encode", |b| b.iter(|| black_box(buffers.encode(black_box(&records)))));
    let (effects, facts) = buffers.encode(&records);
    group.bench_function("hash", |b| {
        b.iter(|| {
            black_box(
                store::chain::sha256(black_box(&effects)).len()
                    + store::chain::sha256(black_box(&facts)).len(),
            )
        });
    });
    group.finish();
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide, hold, settle");
    group.sample_size(10).measurement_time(Duration::from_secs(8)).throughput(Throughput::Elements(1));
    for (name, snapshot) in cases() {
        let dir = tempfile::tempdir().expect("a directory");
        let books = books(dir.path());
        let mut next = 0;
        let mut run = |count: u64, projected: bool| -> Duration {
            let start = Instant::now();
            calls(&books, &snapshot, next, count);
            next += count;
            let durable = start.elapsed();
            // In any case: what is not projected yet must not pile up from one measurement to the next.
            books.flush_blocking().expect("projections");
            if projected { start.elapsed() } else { durable }
        };
        // Warm: the files have their size, the statements are prepared.
        run(20_000, true);
        group.bench_function(format!("until durable{name}"), |b| {
            b.iter_custom(|count| run(count * AT_ONCE, false) / PER_CALL);
        });
        group.bench_function(format!("until durable and projected{name}"), |b| {
            b.iter_custom(|count| run(count * AT_ONCE, true) / PER_CALL);
        });
    }
    group.finish();
}

criterion_group!(benches, decision, encoding, commit);
criterion_main!(benches);
