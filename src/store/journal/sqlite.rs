//! The embedded journal: one SQLite file that the committer alone writes.
//!
//! A commit is one write to the WAL and one sync. Copying the WAL into the file (a checkpoint) costs
//! two more syncs; a thread of its own does it, on its own connection, which does not hold up an
//! append. The WAL begins anew, in the same disk blocks, once all of it is copied. Under load there is
//! always something left to copy; so when the WAL is long and little is left, the committer copies
//! that little itself. The WAL therefore stays near [`FINISH_AFTER_PAGES`]; if the disk is so slow that
//! the copier falls behind, the committer waits for it at [`WAIT_AFTER_PAGES`].

use super::reader::JournalReader;
use super::{AppendError, Batch, JournalStore, PAGE_BYTES, sqlite_options};
use crate::store::db::Db;
use crate::store::error::{Result, StoreError};
use crate::store::sqlite::{self, SqlitePool};
use crate::store_params;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// WAL pages after which the other thread begins to copy: 4 MiB.
const COPY_AFTER_PAGES: u64 = (4 << 20) / PAGE_BYTES as u64;
/// WAL pages after which the committer finishes the copy itself: 16 MiB. Also what a start after a
/// crash has to read at most, or little more.
const FINISH_AFTER_PAGES: u64 = (16 << 20) / PAGE_BYTES as u64;

/// WAL pages after which an append waits for the copier: 32 MiB.
const WAIT_AFTER_PAGES: u64 = 2 * FINISH_AFTER_PAGES;

const APPEND: &str = "INSERT INTO journal (shard, epoch, n, at_ms, prev_hash, hash, facts_hash, effects, facts) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM books_owner WHERE shard = ?1 AND epoch = ?2";

pub(in crate::store) struct SqliteJournal {
    conn: Connection,
    reader: JournalReader,
    copier: Copier,
    /// Writes so far; tells the copier's last complete copy from an older one.
    writes: u64,
    /// Pages in the WAL since it last began anew, estimated from above.
    wal_pages: u64,
    /// `wal_pages` at which the copier is woken, and at which its work is finished here.
    copy_at: u64,
    finish_at: u64,
}

impl SqliteJournal {
    pub(in crate::store) fn open(path: PathBuf) -> Result<Self> {
        let conn = sqlite::open(&path, sqlite_options(false))?;
        // Should a reader ever have kept the WAL from beginning anew, it shrinks again afterwards.
        let keep_bytes = WAIT_AFTER_PAGES * u64::from(PAGE_BYTES);
        let _: i64 =
            conn.query_row(&format!("PRAGMA journal_size_limit={keep_bytes}"), [], |row| row.get(0))?;
        let reader = JournalReader::new(Db::sqlite(SqlitePool::new(path.clone(), sqlite_options(true))));
        let copier = Copier::start(path)?;
        let (copy_at, finish_at) = (COPY_AFTER_PAGES, FINISH_AFTER_PAGES);
        Ok(Self { conn, reader, copier, writes: 0, wal_pages: 0, copy_at, finish_at })
    }

    fn insert(&self, batch: &Batch) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(APPEND)?.execute(rusqlite::params![
            batch.shard,
            batch.epoch.cast_signed(),
            batch.n.cast_signed(),
            batch.at_ms,
            batch.prev_hash,
            batch.hash,
            batch.facts_hash,
            batch.effects,
            batch.facts,
        ])
    }

    /// To be called before a write: if all was copied since the last one, this one begins the WAL anew.
    /// (Asked after it, the answer could be about a copy that ran beside it and left it out.)
    fn before_write(&mut self) {
        if self.copier.has_copied(self.writes) {
            self.begun_anew();
        }
    }

    /// Accounts for pages written, and keeps the WAL short: wakes the copier, or finishes its work.
    fn wrote(&mut self, pages: u64) {
        self.writes += 1;
        self.copier.shared.writes.store(self.writes, Ordering::Release);
        self.wal_pages += pages;
        let may_wait = self.wal_pages >= WAIT_AFTER_PAGES;
        if self.wal_pages >= self.finish_at && (may_wait || !self.copier.is_busy()) {
            self.finish_at = self.wal_pages + COPY_AFTER_PAGES;
            self.finish_copy();
        } else if self.wal_pages >= self.copy_at {
            self.copy_at = self.wal_pages + COPY_AFTER_PAGES;
            self.copier.wake();
        }
    }

    /// Copies what the copier has left. What was appended is stored, so a failure here is no failure
    /// of the append: it is tried again, and a broken disk shows at the next append.
    fn finish_copy(&mut self) {
        let shared = Arc::clone(&self.copier.shared);
        let _turn = shared.turn.lock();
        match copy(&self.conn) {
            Ok((_, true)) => self.begun_anew(),
            Ok((in_wal, false)) => self.wal_pages = self.wal_pages.max(in_wal),
            Err(error) => tracing::warn!(%error, "journal: the write-ahead log could not be copied"),
        }
    }

    /// All is copied: the next write begins the WAL anew.
    fn begun_anew(&mut self) {
        self.wal_pages = 0;
        (self.copy_at, self.finish_at) = (COPY_AFTER_PAGES, FINISH_AFTER_PAGES);
    }
}

/// Copies as much of the WAL into the file as readers allow, waiting for nobody. Returns the pages in
/// the WAL, and whether all of them are copied (then the next append begins it anew).
fn copy(conn: &Connection) -> Result<(u64, bool)> {
    let sql = "PRAGMA wal_checkpoint(PASSIVE)";
    Ok(conn.query_row(sql, [], |row| {
        let (busy, in_wal, copied): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((u64::try_from(in_wal).unwrap_or(0), busy == 0 && copied == in_wal))
    })?)
}

impl JournalStore for SqliteJournal {
    fn acquire(&mut self, shard: u32, node: &str) -> Result<u64> {
        let sql = "INSERT INTO books_owner (shard, epoch, node, until_ms) VALUES (?1, 1, ?2, 0) \
             ON CONFLICT (shard) DO UPDATE SET epoch = epoch + 1, node = ?2 RETURNING epoch";
        let epoch: i64 = self.conn.query_row(sql, rusqlite::params![shard, node], |row| row.get(0))?;
        Ok(epoch.cast_unsigned())
    }

    fn renew(&mut self, _shard: u32, _epoch: u64) -> Result<()> {
        Ok(())
    }

    fn release(&mut self, _shard: u32, _epoch: u64) -> Result<()> {
        Ok(())
    }

    fn append(&mut self, batch: &Batch) -> Result<(), AppendError> {
        self.before_write();
        match self.insert(batch).map_err(StoreError::from) {
            Ok(0) => Err(AppendError::Fenced),
            Ok(_) => {
                let bytes = batch.effects.len() + batch.facts.as_ref().map_or(0, Vec::len);
                self.wrote(bytes as u64 / u64::from(PAGE_BYTES) + 3);
                Ok(())
            }
            // Another batch of this number: somebody else has written.
            Err(error) if error.is_conflict() => Err(AppendError::Fenced),
            Err(error) => Err(AppendError::Definite(error)),
        }
    }

    fn maintain(&mut self) -> Result<()> {
        if self.wal_pages > 0 && !self.copier.has_copied(self.writes) {
            self.copier.wake();
        }
        Ok(())
    }

    fn purge_facts(&mut self, shard: u32, before_n: u64, limit: u32) -> Result<u64> {
        self.before_write();
        let purged = sqlite::execute(&self.conn, super::PURGE, store_params![shard, before_n, limit])?;
        self.wrote(purged * 4);
        Ok(purged)
    }

    fn reader(&self) -> JournalReader {
        self.reader.clone()
    }
}

/// The thread that copies the WAL into the file.
struct Copier {
    wake: Option<SyncSender<()>>,
    shared: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Progress {
    /// Held while copying: SQLite lets only one connection copy at a time.
    turn: Mutex<()>,
    /// Writes that the committer has made.
    writes: AtomicU64,
    /// Writes that were made when a copy began which then left nothing.
    copied: AtomicU64,
}

impl Copier {
    fn start(path: PathBuf) -> Result<Self> {
        let conn = sqlite::open(&path, sqlite_options(false))?;
        let (wake, woken) = sync_channel(1);
        let shared = Arc::new(Progress::default());
        let there = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal-copy".into())
            .spawn(move || copy_when_woken(&conn, &woken, &there))
            .map_err(|error| StoreError::other(format!("cannot start a thread: {error}")))?;
        Ok(Self { wake: Some(wake), shared, thread: Some(thread) })
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(()); // full: it is awake already
        }
    }

    fn is_busy(&self) -> bool {
        self.shared.turn.is_locked()
    }

    /// Were all of the first `writes` copied, with nothing written since?
    fn has_copied(&self, writes: u64) -> bool {
        self.shared.copied.load(Ordering::Acquire) == writes
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn copy_when_woken(conn: &Connection, woken: &Receiver<()>, progress: &Progress) {
    while woken.recv().is_ok() {
        let _turn = progress.turn.lock();
        let writes = progress.writes.load(Ordering::Acquire);
        match copy(conn) {
            Ok((_, true)) => progress.copied.store(writes, Ordering::Release),
            Ok((_, false)) => {}
            Err(error) => tracing::warn!(%error, "journal: the write-ahead log could not be copied"),
        }
    }
}
