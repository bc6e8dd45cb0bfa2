//! The journal: the authority of the books. One row per batch, appended by one owner, hash-chained.
//!
//! Promises: when `append` returns `Ok`, the batch is on stable storage and will be read again after
//! any crash or power cut; a batch number is never given twice; a process that was overtaken cannot
//! append any more. It never interprets `effects` or `facts`.

mod postgres;
mod reader;
mod sqlite;

pub(super) use self::postgres::PostgresJournal;
pub use self::reader::JournalReader;
pub(super) use self::sqlite::SqliteJournal;
use super::chain::{Header, Link};
use super::error::{Result, StoreError};
use super::sqlite::FileOptions;
use std::fmt;
use std::ops::ControlFlow;

/// One batch: what one commit of the books made durable.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    pub shard: u32,
    pub epoch: u64,
    /// Number in the shard, from 1, without gaps.
    pub n: u64,
    /// Ledger time in milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub prev_hash: [u8; 32],
    pub hash: [u8; 32],
    pub facts_hash: [u8; 32],
    /// Money, counts, ids, codes: kept for ever, free of personal data.
    pub effects: Vec<u8>,
    /// Log rows and the facts behind decisions; `None` once purged.
    pub facts: Option<Vec<u8>>,
}

impl Batch {
    pub fn header(&self) -> Header {
        Header {
            shard: self.shard,
            epoch: self.epoch,
            n: self.n,
            at_ms: self.at_ms,
            prev_hash: self.prev_hash,
        }
    }
}

/// Contents may be personal: sizes alone.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("shard", &self.shard)
            .field("epoch", &self.epoch)
            .field("n", &self.n)
            .field("at_ms", &self.at_ms)
            .field("effects_bytes", &self.effects.len())
            .field("facts_bytes", &self.facts.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

/// Why a batch was not appended.
#[derive(Debug)]
pub enum AppendError {
    /// The batch is not in the journal, or the embedded journal's disk failed so that only a restart
    /// can tell. The process must end: memory must never run ahead of the disk.
    Definite(StoreError),
    /// Another owner has taken over, or wrote another batch of this number. Stop; never write again.
    Fenced,
    /// The server did not come back in time to say whether the batch is there. The process must end;
    /// the journal tells at the next start.
    Unresolved(StoreError),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Definite(error) => write!(f, "the batch was not stored: {error}"),
            Self::Fenced => f.write_str("the books were taken over by another process"),
            Self::Unresolved(error) => write!(f, "whether the batch was stored is not known: {error}"),
        }
    }
}

impl std::error::Error for AppendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Definite(error) | Self::Unresolved(error) => Some(error),
            Self::Fenced => None,
        }
    }
}

/// The writing side of the journal; held by the committer alone.
pub trait JournalStore: Send {
    /// Takes the shard and returns the new epoch, greater than any before. Every append must carry it.
    /// The same node may take over from its own dead process at once; another node's lease is waited
    /// for by nobody: `Taken` until it has run out.
    fn acquire(&mut self, shard: u32, node: &str) -> Result<u64>;

    /// Prolongs the lease by three seconds. `Fenced` when it is lost. A no-op on the embedded store.
    fn renew(&mut self, shard: u32, epoch: u64) -> Result<()>;

    /// Gives the shard back at a clean stop, so that another node need not wait.
    fn release(&mut self, shard: u32, epoch: u64) -> Result<()>;

    /// Appends one batch and syncs it. `n` must be the last number + 1 and `prev_hash` its hash.
    fn append(&mut self, batch: &Batch) -> Result<(), AppendError>;

    /// Starts housekeeping that does not hold up an append; call it when there is nothing to commit.
    fn maintain(&mut self) -> Result<()>;

    /// Forgets the facts of at most `limit` batches with `n < before_n`, oldest first; returns how
    /// many. The chain stays verifiable. Call it until it returns 0, between appends.
    fn purge_facts(&mut self, shard: u32, before_n: u64, limit: u32) -> Result<u64>;

    /// The reading side: other connections, cheap to clone, usable from any thread.
    fn reader(&self) -> JournalReader;

    /// The last batch, if any.
    fn last(&self, shard: u32) -> Result<Option<Link>> {
        self.reader().last(shard)
    }

    /// Reads from `from_n` on, in order, in constant memory. Returns the last number given out.
    fn read(
        &self,
        shard: u32,
        from_n: u64,
        each: &mut dyn FnMut(Batch) -> Result<ControlFlow<()>>,
    ) -> Result<Option<u64>> {
        self.reader().read(shard, from_n, each)
    }
}

/// The columns of a batch in the order that [`batch_from_row`] reads.
const BATCH_COLUMNS: &str = "shard, epoch, n, at_ms, prev_hash, hash, facts_hash, effects, facts";

const PURGE: &str = "UPDATE journal SET facts = NULL WHERE shard = ?1 AND n IN \
     (SELECT n FROM journal WHERE shard = ?1 AND n < ?2 AND facts IS NOT NULL ORDER BY n LIMIT ?3)";

/// Bytes per page of the embedded journal.
const PAGE_BYTES: u32 = 4096;

/// How the embedded journal's file is opened.
pub(super) fn sqlite_options(read_only: bool) -> FileOptions {
    FileOptions { full_sync: true, page_bytes: PAGE_BYTES, read_only, autocheckpoint_pages: 0 }
}
