//! The reading side of verify: pages of the journal, the chain, and the decoding, on a thread of its own.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::job::Progress;
use crate::store::chain::{ChainError, Link, verify_link};
use crate::store::{Batch, JournalReader, StoreError};

use crate::books::encoding::{self, DecodeError, StoredRecord};

/// A batch as it was read.
pub(super) struct Parsed {
    pub link: Link,
    pub broken_link: Option<ChainError>,
    pub records: Result<Vec<StoredRecord>, DecodeError>,
    /// Its facts are gone.
    pub purged: bool,
}

/// Small batches are handed over together, so many records at once.
const RECORDS_AT_ONCE: usize = 1_024;
/// Portions that may wait for the books.
pub(super) const CHUNKS_WAITING: usize = 3;

/// Reads behind `last` up to batch `through`, or to the one that the projections had reached when they were asked,
/// whichever is later. Ends early when it is asked to stop, or nobody listens any more.
pub(super) fn read(
    journal: &JournalReader,
    shard: u32,
    mut last: Link,
    through: u64,
    projected: &Receiver<u64>,
    progress: &Progress,
    to: &SyncSender<Vec<Parsed>>,
) -> Result<(), StoreError> {
    read_to(journal, shard, &mut last, through, progress, to)?;
    let projected = projected.recv().unwrap_or(0);
    if projected > through && !progress.is_stopped() {
        read_to(journal, shard, &mut last, projected, progress, to)?;
    }
    Ok(())
}

fn read_to(
    journal: &JournalReader,
    shard: u32,
    last: &mut Link,
    through: u64,
    progress: &Progress,
    to: &SyncSender<Vec<Parsed>>,
) -> Result<(), StoreError> {
    if last.n >= through {
        return Ok(());
    }
    let (mut chunk, mut records) = (Vec::new(), 0);
    let mut listened = true;
    journal.read(shard, last.n + 1, &mut |batch| {
        let parsed = parse(last, &batch);
        *last = parsed.link;
        records += 1 + parsed.records.as_ref().map_or(0, Vec::len);
        chunk.push(parsed);
        if records >= RECORDS_AT_ONCE {
            listened = to.send(std::mem::take(&mut chunk)).is_ok();
            records = 0;
            progress.reach(batch.n);
        }
        let over = batch.n >= through || !listened || progress.is_stopped();
        Ok(if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    progress.reach(last.n);
    // A receiver that is gone says itself why.
    let _listened = to.send(chunk);
    Ok(())
}

fn parse(last: &Link, batch: &Batch) -> Parsed {
    let linked = verify_link(last, batch);
    Parsed {
        link: Link::from(batch),
        broken_link: linked.err(),
        records: encoding::decode_batch(&batch.effects, batch.facts.as_deref()),
        purged: batch.facts.is_none(),
    }
}
