//! The projector: writes what readers ask for – log rows, receipts, movements, the checkpoint – beside the
//! journal, never in its way. It keeps books of its own, so that it needs no lock to dump them, and so that
//! a rebuild from the journal runs the very same code.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use ledger::{Effect, Ledger, LedgerError, Nano, total};
use smallvec::SmallVec;

use crate::gateway::facts::CallRecord;
use crate::store::chain::Link;
use crate::store::{JournalReader, MovementRow, Projections, RequestRow, StoreError};

use super::encoding::{self, Checkpoint};
use super::{Batch, Shared};

/// Name of the checkpoint of the books.
pub const CHECKPOINT: &str = "books";
/// A transaction of the projections takes at most so many records …
const RECORDS_AT_ONCE: usize = 4_096;
/// … and is begun at most so often, so that a busy gateway writes few of them.
const PACE: Duration = Duration::from_millis(25);
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

/// What one record becomes.
pub(super) struct Rows {
    pub request: Option<RequestRow>,
    pub movements: SmallVec<[MovementRow; 1]>,
}

/// Applies a record to the projector's books and makes its rows.
pub(super) fn rows_of(
    ledger: &mut Ledger,
    n: u64,
    index: usize,
    effects: &[Effect],
    call: Option<&CallRecord>,
) -> Result<Rows, LedgerError> {
    let mut money: SmallVec<[Effect; 2]> = SmallVec::new();
    let mut movements = SmallVec::new();
    for effect in effects {
        // The end of a hold that was written earlier: its receipt needs the hold too.
        if let Effect::Settled(_) | Effect::Released(_) = effect
            && money.is_empty()
            && let Some(hold) = effect.hold().and_then(|id| ledger.hold(id))
        {
            money.push(Effect::Held(hold.as_held()));
        }
        ledger.apply(effect)?;
        match movement(n, index, effect) {
            Some(row) => movements.push(row),
            None => money.push(effect.clone()),
        }
    }
    Ok(Rows { request: call.map(|call| request_row(call, &money)), movements })
}

fn request_row(call: &CallRecord, money: &[Effect]) -> RequestRow {
    let facts = &call.decided.facts;
    let credential = facts.credential.passed();
    let refusal = call.decided.refusal.as_ref().map(|refusal| refusal.code);
    let outcome = call.outcome.as_deref();
    let code = refusal.or_else(|| outcome.and_then(|outcome| outcome.code));
    let (state, charge) = ChargeState::of(money);
    let account = money.first().map(|effect| effect.account().0);
    RequestRow {
        id: facts.request.raw(),
        account: account.or(credential.map(|credential| credential.account.raw())).unwrap_or(0),
        key: credential.map_or(0, |credential| credential.key.raw()),
        at_ms: facts.at_ms,
        status: call.status(),
        code: code.map_or(0, |code| code.number()),
        state: state as u8,
        charge: charge.0,
        facts: encoding::encode_call(call),
        money: encoding::encode_effects(money),
    }
}

/// A movement of money that is not a call.
fn movement(n: u64, index: usize, effect: &Effect) -> Option<MovementRow> {
    let (kind, amount, reference) = match effect {
        Effect::Credited(credit) => (1, credit.amount.0, &*credit.reference.0),
        Effect::Expired(expired) => (2, -expired.debit.amount.0, ""),
        Effect::Refunded(refund) => (3, total(&refund.credits).0, &*refund.reference.0),
        Effect::Withdrawn(withdrawn) => (4, -total(&withdrawn.debits).0, &*withdrawn.reference.0),
        Effect::CostAccrued(_) | Effect::Held(_) | Effect::Settled(_) | Effect::Released(_) => return None,
    };
    Some(MovementRow {
        account: effect.account().0,
        // In the order of the journal, without a counter of its own.
        seq: (n << 20) | (index as u64 & 0xf_ffff),
        at_ms: effect.at().0,
        kind,
        amount,
        reference: reference.to_owned(),
        body: encoding::encode_effects(std::slice::from_ref(effect)),
    })
}

pub(super) struct Projector {
    shared: Arc<Shared>,
    journal: JournalReader,
    projections: Projections,
    shard: u32,
    ledger: Ledger,
    /// The last batch that the books here contain.
    last: Link,
    since_checkpoint: usize,
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
            last,
            since_checkpoint: RECORDS_PER_CHECKPOINT,
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

    /// The oldest batches that are on disk and not projected; `None` at the end.
    fn next_batches(&self) -> Option<Vec<Arc<Batch>>> {
        let mut tail = self.shared.tail.lock();
        loop {
            let durable = self.shared.durability.durable();
            let mut records = 0;
            let ready = tail.batches.iter().take_while(|batch| {
                let room = records < RECORDS_AT_ONCE;
                records += batch.records.len();
                batch.n <= durable && room
            });
            let ready: Vec<_> = ready.cloned().collect();
            if !ready.is_empty() {
                return Some(ready);
            }
            if tail.closed {
                return None;
            }
            self.shared.projectable.wait(&mut tail);
            // Let more gather: a transaction costs the same for one record and for a thousand.
            if !tail.closed {
                self.shared.projectable.wait_for(&mut tail, PACE);
            }
        }
    }

    fn project(&mut self, batches: &[Arc<Batch>]) -> Result<(), LedgerError> {
        let (mut requests, mut movements) = (Vec::new(), Vec::new());
        for batch in batches {
            for (index, record) in batch.records.iter().enumerate() {
                let rows = rows_of(&mut self.ledger, batch.n, index, &record.effects, record.call.as_ref())?;
                requests.extend(rows.request);
                movements.extend(rows.movements);
            }
        }
        let Some(n) = batches.last().map(|batch| batch.n) else { return Ok(()) };
        while let Err(why) = self.projections.write_batch(self.shard, n, &requests, &movements) {
            tracing::warn!(%why, "the projections cannot be written; trying again");
            if self.shared.tail.lock().closed {
                break;
            }
            std::thread::sleep(RETRY);
        }
        self.last.n = n;
        Ok(())
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
