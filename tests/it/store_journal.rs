//! The journal: what it keeps, who may write, what a lost connection does (S21), the hash chain (I9).

use crate::support::backend::Backend;
use crate::support::child::{child, given};
use crate::support::postgres::socket;
use crate::support::proxy::{Next, Proxy};
use std::ops::ControlFlow;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tallygate::secret::Secret;
use tallygate::store::chain::{ChainError, Header, Link, seal, verify_link};
use tallygate::store::{self, AppendError, Batch, JournalReader, JournalStore, StoreConfig, StoreErrorKind};

crate::on_both_backends!(
    batches_come_back_and_the_chain_verifies,
    an_appended_batch_survives_the_end_of_its_writer,
    reading_starts_anywhere_and_stops_when_told,
    an_owner_that_was_overtaken_cannot_append,
    a_number_is_never_given_twice,
    purged_facts_leave_the_chain_verifiable,
    a_changed_batch_is_found,
    a_missing_batch_is_found,
    reading_takes_constant_memory,
    every_start_gets_a_greater_epoch,
);

/// The batch after `last`, with contents that depend on its number.
pub fn next_batch(last: &Link, epoch: u64, effects_bytes: usize, facts_bytes: usize) -> Batch {
    let n = last.n + 1;
    let fill = |bytes: usize, salt: u64| -> Vec<u8> {
        n.wrapping_mul(salt).to_le_bytes().iter().copied().cycle().take(bytes).collect()
    };
    let header = Header { shard: 0, epoch, n, at_ms: 1_000 + n as i64, prev_hash: last.hash };
    seal(header, fill(effects_bytes, 7), fill(facts_bytes, 13))
}

fn append_some(journal: &mut dyn JournalStore, epoch: u64, count: u64) -> Vec<Batch> {
    let mut last = journal.last(0).unwrap().unwrap_or(Link::START);
    (0..count)
        .map(|at| {
            let batch = next_batch(&last, epoch, 100 + at as usize, 50);
            journal.append(&batch).unwrap();
            last = Link::from(&batch);
            batch
        })
        .collect()
}

/// Reads everything and checks every link.
pub fn verified(reader: &JournalReader) -> Result<Link, ChainError> {
    let mut link = Ok(Link::START);
    reader
        .read(0, 1, &mut |batch| {
            link = link.clone().and_then(|before| verify_link(&before, &batch));
            Ok(if link.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .unwrap();
    link
}

fn read_all(reader: &JournalReader, from: u64) -> Vec<Batch> {
    let mut batches = Vec::new();
    reader
        .read(0, from, &mut |batch| {
            batches.push(batch);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    batches
}

fn batches_come_back_and_the_chain_verifies(backend: Backend) {
    let mut stores = backend.open();
    let journal = stores.journal.as_mut();
    assert_eq!(journal.last(0).unwrap(), None);
    let epoch = journal.acquire(0, "node").unwrap();
    let written = append_some(journal, epoch, 100);
    assert_eq!(read_all(&journal.reader(), 1), written);
    let last = journal.last(0).unwrap().unwrap();
    assert_eq!((last.n, last.epoch), (100, epoch));
    assert_eq!(verified(&journal.reader()), Ok(last));
    assert_eq!(journal.last(1).unwrap(), None, "shards are apart");
    journal.maintain().unwrap();
    assert_eq!(read_all(&journal.reader(), 1), written);
}

fn an_appended_batch_survives_the_end_of_its_writer(backend: Backend) {
    let mut stores = backend.open();
    let epoch = stores.journal.acquire(0, "node").unwrap();
    let written = append_some(stores.journal.as_mut(), epoch, 3);
    drop(stores);
    let mut stores = backend.open();
    assert_eq!(read_all(&stores.journal.reader(), 1), written);
    let epoch = stores.journal.acquire(0, "node").unwrap();
    append_some(stores.journal.as_mut(), epoch, 3);
    assert_eq!(verified(&stores.journal.reader()).unwrap().n, 6);
}

fn reading_starts_anywhere_and_stops_when_told(backend: Backend) {
    let mut stores = backend.open();
    let journal = stores.journal.as_mut();
    let epoch = journal.acquire(0, "node").unwrap();
    append_some(journal, epoch, 70);
    let mut seen = Vec::new();
    let last = journal
        .read(0, 30, &mut |batch| {
            seen.push(batch.n);
            Ok(if batch.n == 66 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .unwrap();
    assert_eq!(last, Some(66));
    assert_eq!(seen, (30..=66).collect::<Vec<_>>());
    assert_eq!(journal.read(0, 71, &mut |_| Ok(ControlFlow::Continue(()))).unwrap(), None);
}

fn an_owner_that_was_overtaken_cannot_append(backend: Backend) {
    let mut stores = backend.open();
    let journal = stores.journal.as_mut();
    let old = journal.acquire(0, "node").unwrap();
    append_some(journal, old, 2);
    let new = journal.acquire(0, "node").unwrap();
    assert!(new > old);
    let batch = next_batch(&journal.last(0).unwrap().unwrap(), old, 10, 10);
    assert!(matches!(journal.append(&batch), Err(AppendError::Fenced)));
    assert_eq!(journal.last(0).unwrap().unwrap().n, 2, "nothing was written");
    append_some(journal, new, 1);
    assert_eq!(verified(&journal.reader()).unwrap().n, 3);
}

fn a_number_is_never_given_twice(backend: Backend) {
    let mut stores = backend.open();
    let journal = stores.journal.as_mut();
    let epoch = journal.acquire(0, "node").unwrap();
    let batch = next_batch(&Link::START, epoch, 10, 10);
    journal.append(&batch).unwrap();
    let other = next_batch(&Link::START, epoch, 11, 10);
    assert!(matches!(journal.append(&other), Err(AppendError::Fenced)));
    assert_eq!(read_all(&journal.reader(), 1), [batch]);
}

fn purged_facts_leave_the_chain_verifiable(backend: Backend) {
    let mut stores = backend.open();
    let journal = stores.journal.as_mut();
    let epoch = journal.acquire(0, "node").unwrap();
    append_some(journal, epoch, 10);
    let purged: Vec<_> = (0..4).map(|_| journal.purge_facts(0, 6, 3).unwrap()).collect();
    assert_eq!(purged, [3, 2, 0, 0]);
    let with_facts: Vec<_> =
        read_all(&journal.reader(), 1).iter().filter(|batch| batch.facts.is_some()).map(|b| b.n).collect();
    assert_eq!(with_facts, [6, 7, 8, 9, 10]);
    assert_eq!(verified(&journal.reader()).unwrap().n, 10);
    append_some(journal, epoch, 1);
    assert_eq!(verified(&journal.reader()).unwrap().n, 11);
}

/// Runs SQL behind the program's back.
fn tamper(backend: &Backend, sql: &str) {
    match backend.url() {
        None => {
            let file = backend.folder().join(store::JOURNAL_FILE);
            rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
        }
        Some(url) => {
            let mut client = ::postgres::Client::connect(url.expose(), ::postgres::NoTls).unwrap();
            client.batch_execute(sql).unwrap();
        }
    }
}

fn a_changed_batch_is_found(backend: Backend) {
    let mut stores = backend.open();
    let epoch = stores.journal.acquire(0, "node").unwrap();
    append_some(stores.journal.as_mut(), epoch, 5);
    drop(stores);
    tamper(&backend, "UPDATE journal SET facts = effects WHERE n = 4");
    assert_eq!(verified(&backend.open().journal.reader()), Err(ChainError::FactsChanged { n: 4 }));
    tamper(&backend, "UPDATE journal SET at_ms = at_ms + 1 WHERE n = 3");
    assert_eq!(verified(&backend.open().journal.reader()), Err(ChainError::Changed { n: 3 }));
    tamper(&backend, "UPDATE journal SET epoch = 0 WHERE n = 2");
    assert!(matches!(verified(&backend.open().journal.reader()), Err(ChainError::EpochFell { n: 2, .. })));
    tamper(&backend, "UPDATE journal SET prev_hash = facts_hash WHERE n = 1");
    assert_eq!(verified(&backend.open().journal.reader()), Err(ChainError::Unlinked { n: 1 }));
}

fn a_missing_batch_is_found(backend: Backend) {
    let mut stores = backend.open();
    let epoch = stores.journal.acquire(0, "node").unwrap();
    append_some(stores.journal.as_mut(), epoch, 80);
    drop(stores);
    tamper(&backend, "DELETE FROM journal WHERE n BETWEEN 20 AND 75");
    assert_eq!(verified(&backend.open().journal.reader()), Err(ChainError::Gap { expected: 20, found: 76 }));
}

fn every_start_gets_a_greater_epoch(backend: Backend) {
    let epochs: Vec<_> = (0..3).map(|_| backend.open().journal.acquire(0, "node").unwrap()).collect();
    assert_eq!(epochs, [1, 2, 3]);
}

/// 64 MB are read back in a process whose memory does not grow by a quarter of that.
fn reading_takes_constant_memory(backend: Backend) {
    let mut stores = backend.open();
    let epoch = stores.journal.acquire(0, "node").unwrap();
    let mut last = Link::START;
    for _ in 0..64 {
        let batch = next_batch(&last, epoch, 900_000, 100_000);
        stores.journal.append(&batch).unwrap();
        last = Link::from(&batch);
    }
    drop(stores);
    let mut reading = child("store_journal::child_reads_everything");
    reading.env("STORE_DIR", backend.folder());
    if let Some(url) = backend.url() {
        reading.env("STORE_URL", url.expose());
    }
    let done = reading.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
#[ignore = "run by reading_takes_constant_memory"]
fn child_reads_everything() {
    let url = std::env::var("STORE_URL").ok().map(Secret::new);
    let config = StoreConfig { data_dir: given("STORE_DIR").into(), postgres_url: url };
    let stores = store::open(&config).unwrap();
    let before = peak_memory_bytes();
    assert_eq!(verified(&stores.journal.reader()).unwrap().n, 64);
    let grown = peak_memory_bytes() - before;
    assert!(grown < 16_000_000, "reading 64 MB grew the process by {grown} bytes");
}

fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The server's connection breaks while an append is under way; whatever was lost, the batch is there
/// once and the append says so (S21).
#[test]
fn an_append_whose_connection_breaks_is_resolved() {
    let backend = Backend::postgres();
    drop(backend.open());
    let proxy = Proxy::to(socket());
    let database = backend.url().unwrap().expose().rsplit('/').next().unwrap().to_owned();
    let url = format!("postgres://postgres@127.0.0.1:{}/{database}", proxy.port());
    let mut stores = store::open(&StoreConfig::postgres(backend.folder(), Secret::new(url))).unwrap();
    let journal = stores.journal.as_mut();
    let epoch = journal.acquire(0, "node").unwrap();
    append_some(journal, epoch, 1);
    for (cuts, next) in [(1, Next::RequestIsLost), (2, Next::AnswerIsLost)] {
        let batch = next_batch(&journal.last(0).unwrap().unwrap(), epoch, 100, 100);
        proxy.set_next(next);
        journal.append(&batch).unwrap_or_else(|error| panic!("{next:?}: {error}"));
        assert_eq!(proxy.cuts(), cuts, "{next:?}");
    }
    assert_eq!(verified(&journal.reader()).unwrap().n, 3);
}

/// The answer is lost, and before we are back another owner has taken over: our batch counts if it
/// was stored, and we are fenced if it was not.
#[test]
fn a_lost_answer_after_a_takeover_is_still_told_right() {
    let backend = Backend::postgres();
    let mut ours = backend.open();
    let old = ours.journal.acquire(0, "a").unwrap();
    let stored = append_some(ours.journal.as_mut(), old, 1).remove(0);
    let other_folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { data_dir: other_folder.path().to_owned(), postgres_url: backend.url() };
    let mut theirs = store::open(&config).unwrap();
    ours.journal.release(0, old).unwrap();
    theirs.journal.acquire(0, "b").unwrap();
    ours.journal.append(&stored).expect("sent again as it is: it was stored");
    let late = next_batch(&Link::from(&stored), old, 10, 10);
    assert!(matches!(ours.journal.append(&late), Err(AppendError::Fenced)));
    assert_eq!(ours.journal.renew(0, old).unwrap_err().kind(), StoreErrorKind::Fenced);
}

/// One node at a time: another waits until the lease has run out or was given back.
#[test]
fn a_lease_keeps_other_nodes_out_until_it_runs_out() {
    let backend = Backend::postgres();
    let mut ours = backend.open();
    let other_folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { data_dir: other_folder.path().to_owned(), postgres_url: backend.url() };
    let mut theirs = store::open(&config).unwrap();
    let epoch = ours.journal.acquire(0, "a").unwrap();
    ours.journal.renew(0, epoch).unwrap();
    assert_eq!(theirs.journal.acquire(0, "b").unwrap_err().kind(), StoreErrorKind::Taken);
    assert_eq!(ours.journal.acquire(0, "a").unwrap(), epoch + 1, "a node overtakes its own dead process");
    let started = Instant::now();
    let taken = loop {
        match theirs.journal.acquire(0, "b") {
            Ok(epoch) => break epoch,
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Taken),
        }
        assert!(started.elapsed() < Duration::from_secs(20), "the lease never ran out");
        std::thread::yield_now();
    };
    assert_eq!(taken, epoch + 2);
    assert!(started.elapsed() > Duration::from_millis(2_500), "the lease was cut short");
}

/// Under an unbroken load the WAL file stays near its limit, although a reader comes by all the time and
/// takes its time over every batch.
#[test]
fn the_wal_stays_bounded_under_load() {
    let backend = Backend::embedded();
    let mut stores = backend.open();
    let epoch = stores.journal.acquire(0, "node").unwrap();
    let reader = stores.journal.reader();
    let wal = backend.folder().join("journal.db-wal");
    let mut last = next_batch(&Link::START, epoch, 1, 1);
    stores.journal.append(&last).unwrap();
    let mut longest = 0;
    for _ in 0..12 {
        reader
            .read(0, 1, &mut |_| {
                for _ in 0..15 {
                    last = next_batch(&Link::from(&last), epoch, 400_000, 100_000);
                    stores.journal.append(&last).unwrap();
                    longest = longest.max(wal.metadata().unwrap().len());
                }
                Ok(ControlFlow::Break(()))
            })
            .unwrap();
    }
    assert!(longest < 36 << 20, "90 MB appended, and the WAL file had {longest} bytes");
    assert_eq!(verified(&reader).unwrap().n, 181);
}
