//! The projector: writes what readers ask for – log rows, receipts, movements, the checkpoint – beside the
//! journal, never in its way. It keeps books of its own, so that it needs no lock to dump them, and so that
//! a rebuild from the journal runs the very same code.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use ledger::{Effect, HoldId, Ledger, LedgerError, Nano, total};

use crate::store::chain::Link;
use crate::store::{JournalReader, Projections, StoreError};

use super::encoding::{self, Checkpoint};
use super::rows::{Entry, RowMaker};
use super::sums::Called;
use super::{Batch, Shared};

/// Name of the checkpoint of the books.
pub const CHECKPOINT: &str = "books";
/// A transaction of the projections takes at most so many records …
const RECORDS_AT_ONCE: usize = 4_096;
/// … and is begun so long after the one before unless somebody waits for it: it costs nearly the same for one record as
/// for a hundred.
const PACE: Duration = Duration::from_millis(100);
/// Records between two checkpoints, at the least; recovery replays about that many.
const RECORDS_PER_CHECKPOINT: usize = 50_000;
/// Time before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Where the money of a call is; the number is stored in the log row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChargeState {
    None = 0,
    Held = 1,
    Settled = 2,
    Released = 3,
    Refunded = 4,
}

impl ChargeState {
    pub fn from_code(code: u8) -> Option<Self> {
        use ChargeState::{Held, None, Refunded, Released, Settled};
        [None, Held, Settled, Released, Refunded].into_iter().find(|state| *state as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            ChargeState::None => "none",
            ChargeState::Held => "held",
            ChargeState::Settled => "settled",
            ChargeState::Released => "released",
            ChargeState::Refunded => "refunded",
        }
    }

    /// State and charge after some effects of one call.
    pub fn of(effects: &[Effect]) -> (Self, Nano) {
        effects.iter().fold((ChargeState::None, Nano::ZERO), |before, effect| match effect {
            Effect::Held(_) => (ChargeState::Held, Nano::ZERO),
            Effect::Settled(settled) => (ChargeState::Settled, settled.charged()),
            Effect::Released(_) => (ChargeState::Released, Nano::ZERO),
            Effect::Refunded(refund) => {
                (ChargeState::Refunded, before.1.saturating_sub(total(&refund.credits)))
            }
            _ => before,
        })
    }
}

/// The calls whose charges some effects refund, as far as the maker does not know them itself.
pub(super) fn called<'e>(
    projections: &Projections,
    maker: &RowMaker,
    effects: impl Iterator<Item = &'e Effect>,
) -> Result<HashMap<HoldId, Called>, StoreError> {
    let refunded = effects.filter_map(|effect| match effect {
        Effect::Refunded(refund) => Some(refund.hold),
        _ => None,
    });
    let mut found = HashMap::new();
    for hold in refunded {
        let row = if maker.called(hold).is_none() { projections.request(hold.0)? } else { None };
        let call = row.and_then(|row| encoding::decode_call(&row.facts).ok());
        found.extend(call.map(|call| (hold, Called::of(&call))));
    }
    Ok(found)
}

pub(super) struct Projector {
    shared: Arc<Shared>,
    journal: JournalReader,
    projections: Projections,
    shard: u32,
    ledger: Ledger,
    maker: RowMaker,
    /// The last batch that the books here contain.
    last: Link,
    since_checkpoint: usize,
    /// When the last transaction began.
    begun: Instant,
}

impl Projector {
    pub fn new(
        shared: Arc<Shared>,
        journal: JournalReader,
        projections: Projections,
        shard: u32,
        ledger: Ledger,
        last: Link,
    ) -> Self {
        // A recovery that had to replay leaves a checkpoint behind at once.
        Projector {
            shared,
            journal,
            projections,
            shard,
            ledger,
            maker: RowMaker::default(),
            last,
            since_checkpoint: RECORDS_PER_CHECKPOINT,
            begun: Instant::now(),
        }
    }

    pub fn run(mut self) {
        while let Some(batches) = self.next_batches() {
            let records = batches.iter().map(|batch| batch.records.len()).sum::<usize>();
            if let Err(why) = self.project(&batches) {
                tracing::error!(%why, "the projections cannot follow the journal; they are rebuilt at the next start");
                return;
            }
            self.forget(records);
            self.since_checkpoint += records;
            if self.since_checkpoint >= RECORDS_PER_CHECKPOINT {
                self.checkpoint();
            }
        }
        self.checkpoint();
    }

    /// The oldest batches that are on disk and not projected, once it is time for them; `None` at the end.
    fn next_batches(&mut self) -> Option<Vec<Arc<Batch>>> {
        let mut tail = self.shared.tail.lock();
        let mut is_time = false;
        loop {
            let durable = self.shared.durability.durable();
            let mut records = 0;
            let ready = tail.batches.iter().take_while(|batch| {
                let room = records < RECORDS_AT_ONCE;
                records += batch.records.len();
                batch.n <= durable && room
            });
            let ready: Vec<_> = ready.cloned().collect();
            is_time |= tail.closed || records >= RECORDS_AT_ONCE;
            if ready.is_empty() {
                if tail.closed {
                    return None;
                }
                self.shared.projectable.wait(&mut tail);
            } else if is_time {
                self.begun = Instant::now();
                return Some(ready);
            } else {
                self.shared.hurried.wait_until(&mut tail, self.begun + PACE);
                is_time = true;
            }
        }
    }

    fn project(&mut self, batches: &[Arc<Batch>]) -> Result<(), LedgerError> {
        for batch in batches {
            let effects = batch.records.iter().flat_map(|record| &record.effects);
            let called = loop {
                match called(&self.projections, &self.maker, effects.clone()) {
                    Ok(called) => break called,
                    Err(why) if self.is_worth_waiting(&why) => {}
                    Err(_) => break HashMap::new(),
                }
            };
            let entries = batch
                .records
                .iter()
                .map(|record| Entry { effects: &record.effects, call: record.call.as_ref() });
            self.maker.batch(&mut self.ledger, batch.n, entries, &called)?;
        }
        let Some(n) = batches.last().map(|batch| batch.n) else { return Ok(()) };
        let rows = self.maker.take();
        while let Err(why) = self.projections.write_batch(self.shard, n, &rows) {
            if !self.is_worth_waiting(&why) {
                break;
            }
        }
        self.last.n = n;
        Ok(())
    }

    /// Waits before the store is tried again; `false` at the end: what is missing is projected at the next start.
    fn is_worth_waiting(&self, why: &StoreError) -> bool {
        tracing::warn!(%why, "the projections cannot be written; trying again");
        if self.shared.tail.lock().closed {
            return false;
        }
        std::thread::sleep(RETRY);
        true
    }

    fn forget(&self, records: usize) {
        {
            let mut tail = self.shared.tail.lock();
            while tail.batches.front().is_some_and(|batch| batch.n <= self.last.n) {
                tail.batches.pop_front();
            }
            tail.projected = self.last.n;
        }
        let mut state = self.shared.state.lock();
        state.waiting = state.waiting.saturating_sub(records);
        drop(state);
        self.shared.projectable.notify_all();
    }

    fn checkpoint(&mut self) {
        if let Err(why) = self.write_checkpoint() {
            tracing::warn!(%why, "no checkpoint could be written; the next start replays more");
            return;
        }
        self.since_checkpoint = 0;
    }

    fn write_checkpoint(&mut self) -> Result<(), StoreError> {
        // The journal says what the next batch is chained to.
        let mut link = (self.last.n == 0).then_some(Link::START);
        self.journal.read(self.shard, self.last.n, &mut |batch| {
            link = (batch.n == self.last.n).then(|| Link::from(&batch));
            Ok(ControlFlow::Break(()))
        })?;
        let Some(Link { n, hash, epoch }) = link else {
            return Err(StoreError::corrupt(format!("batch {} is not in the journal", self.last.n)));
        };
        let checkpoint = Checkpoint { n, hash, epoch, state: self.ledger.state() };
        self.projections.save_checkpoint(CHECKPOINT, n, encoding::encode_checkpoint(&checkpoint))
    }
}
