//! The committer: takes all records that wait, writes them as one batch, and tells who waited.
//!
//! Group commit without a timer: while one batch is being synced the next one gathers, so the batch size
//! follows the load by itself. A batch that cannot be written ends the process, because memory would run
//! ahead of the disk.

use std::sync::Arc;
use std::time::Duration;

use crate::store::chain::{Header, Link, seal};
use crate::store::{AppendError, JournalStore};

use super::{Batch, Shared, encoding};

/// What to do when the journal cannot be written; does not return in a running gateway.
pub type OnFatal = Box<dyn Fn(&AppendError) + Send>;

/// How long the journal is left alone before it is tidied up, or its lease renewed.
const IDLE: Duration = Duration::from_millis(500);

pub(super) struct Committer {
    pub shared: Arc<Shared>,
    pub journal: Box<dyn JournalStore>,
    pub shard: u32,
    /// The batch that the next one is chained to.
    pub last: Link,
    pub on_fatal: OnFatal,
}

impl Committer {
    pub fn run(mut self) {
        let mut buffers = encoding::Buffers::default();
        while let Some(batch) = self.next_batch() {
            if batch.records.is_empty() {
                self.tidy();
                continue;
            }
            if let Err(why) = self.commit(&batch, &mut buffers) {
                self.fail(&why);
                return;
            }
        }
        self.finish();
    }

    /// All records that wait, or an empty batch after a while without any; `None` at the end.
    fn next_batch(&self) -> Option<Arc<Batch>> {
        let mut state = self.shared.state.lock();
        while state.pending.is_empty() {
            if state.closed {
                return None;
            }
            if self.shared.work.wait_for(&mut state, IDLE).timed_out() && state.pending.is_empty() {
                let at = state.ledger.now();
                return Some(Arc::new(Batch { n: 0, at, records: Vec::new() }));
            }
        }
        let gathered = state.pending.len();
        let records = std::mem::replace(&mut state.pending, Vec::with_capacity(gathered));
        let batch = Arc::new(Batch { n: state.next_batch, at: state.ledger.now(), records });
        state.next_batch += 1;
        state.waiting += gathered;
        // Under the same lock, so that a reader finds a record either waiting or in the tail.
        self.shared.tail.lock().batches.push_back(Arc::clone(&batch));
        Some(batch)
    }

    fn commit(&mut self, batch: &Batch, buffers: &mut encoding::Buffers) -> Result<(), AppendError> {
        let (effects, facts) = buffers.encode(&batch.records);
        let header = Header {
            shard: self.shard,
            epoch: self.shared.epoch,
            n: batch.n,
            at_ms: batch.at.0,
            prev_hash: self.last.hash,
        };
        let sealed = seal(header, effects, facts);
        self.journal.append(&sealed)?;
        self.last = Link::from(&sealed);
        buffers.take_back(sealed);
        self.shared.durability.publish(batch.n);
        self.shared.projectable.notify_one();
        Ok(())
    }

    fn tidy(&mut self) {
        let renewed = self.journal.renew(self.shard, self.shared.epoch);
        if let Err(why) = renewed.and_then(|()| self.journal.maintain()) {
            tracing::warn!(%why, "the journal could not be tidied up");
        }
    }

    fn fail(&self, why: &AppendError) {
        tracing::error!(%why, "the journal cannot be written; the process ends, because memory must not run ahead of the disk");
        self.shared.state.lock().closed = true;
        self.shared.durability.stop();
        self.close_tail();
        (self.on_fatal)(why);
    }

    fn finish(&mut self) {
        self.shared.durability.stop();
        self.close_tail();
        if let Err(why) = self.journal.release(self.shard, self.shared.epoch) {
            tracing::warn!(%why, "the journal could not be given back");
        }
    }

    fn close_tail(&self) {
        self.shared.tail.lock().closed = true;
        self.shared.projectable.notify_all();
        self.shared.hurried.notify_all();
    }
}
