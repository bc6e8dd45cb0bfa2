//! The books of the running gateway: the ledger in memory, the journal on disk, and what is told to whom.
//!
//! One mutex guards the ledger and the records that wait for the journal; it is never held across an
//! await, I/O or an encoding. The committer thread takes all that waits, writes it as one batch and tells
//! the waiters ([`durability`]). The projector thread writes rows for readers ([`projector`]); until then
//! the [`tail`](Books::find_call) answers.
//!
//! Promises: memory never runs ahead of the disk by more than the batches on their way, and a batch that
//! cannot be written ends the process; what was told durable is read again after any crash; every hold
//! ends in a settlement or a release, also when its owner dies.

mod committer;
pub mod durability;
pub mod encoding;
mod expiry;
pub mod lookup;
pub mod movement;
mod projector;
mod rates;
mod recovery;
pub mod rows;
pub mod statement;
mod sums;
mod tasks;
pub mod verify;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use ledger::{
    AccountId, Balance, Command, Counter, CounterKey, Effect, HoldId, HoldOwner, Ledger, LedgerError, Nano,
    Reference, ReleaseReason, Timestamp,
};
use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::gateway::facts::{CallRecord, CounterReading, Decided, Outcome, Readings};
use crate::gateway::ladder::{self, Scope};
use crate::id::{RequestId, TaskId};

use rates::{Meters, Slot};

pub use committer::OnFatal;
pub use durability::{Durability, Stopped, Ticket, Wait};
pub use projector::ChargeState;
pub use rates::Rated;
pub use recovery::{BooksConfig, OpenError};
pub use tasks::TaskEnd;

/// Records that may wait for the journal and the projections together before no more calls are admitted.
const RECORDS_WAITING_MAX: usize = 500_000;
/// A wall clock that leaves the boot clock by more is not trusted with windows and expiries.
const CLOCK_JUMP_MS_MAX: u64 = 60_000;

/// One journal entry: the money it moved and the call it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// A hold that was settled before its batch was written is one record with both effects.
    pub effects: Vec<Effect>,
    pub call: Option<CallRecord>,
}

impl Record {
    pub fn request(&self) -> Option<RequestId> {
        self.call.as_ref().map(|call| call.decided.facts.request)
    }
}

/// A batch that was handed to the committer.
#[derive(Debug)]
pub struct Batch {
    pub n: u64,
    pub at: Timestamp,
    pub records: Vec<Record>,
}

/// Why the books did not do what they were asked to.
#[derive(Debug)]
pub enum BooksError {
    /// The ledger refused the command.
    Refused(LedgerError),
    /// Too much waits for the disk.
    Overloaded,
    /// The clock jumped; see [`CLOCK_JUMP_MS_MAX`].
    ClockJumped { by_ms: u64 },
    /// The books are closed: the process is about to end.
    Stopped,
}

impl fmt::Display for BooksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BooksError::Refused(why) => write!(f, "the ledger refused: {why}"),
            BooksError::Overloaded => f.write_str("too many records wait for the disk"),
            BooksError::ClockJumped { by_ms } => {
                write!(f, "the wall clock is {by_ms} ms away from the boot clock")
            }
            BooksError::Stopped => f.write_str("the books are closed"),
        }
    }
}

impl std::error::Error for BooksError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BooksError::Refused(why) => Some(why),
            BooksError::Overloaded | BooksError::ClockJumped { .. } | BooksError::Stopped => None,
        }
    }
}

impl From<Stopped> for BooksError {
    fn from(Stopped: Stopped) -> Self {
        BooksError::Stopped
    }
}

/// What a decision asks the books to hold.
#[derive(Clone, Copy, Debug)]
pub struct Reserve {
    pub amount: Nano,
    pub overdraft: Nano,
    /// Tokens that the call can come to at the most.
    pub tokens: u64,
    /// The task that the hold will belong to; `None`: this process.
    pub task: Option<TaskId>,
}

/// See the module.
pub struct Books {
    shared: Arc<Shared>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Rung when a record waits, or at the end.
    work: Condvar,
    durability: Arc<Durability>,
    tail: Mutex<Tail>,
    /// Rung when a batch became durable or was projected, or at the end.
    projectable: Condvar,
    /// Rung when somebody waits for what is not projected yet, or at the end.
    hurried: Condvar,
    clock: Arc<dyn Clock>,
    /// Wall minus boot clock at the start, in ms.
    clock_offset_ms: i64,
    epoch: u64,
}

struct State {
    ledger: Ledger,
    ends: expiry::Ends,
    meters: Meters,
    pending: Vec<Record>,
    /// Number that the pending records will be written under.
    next_batch: u64,
    /// Records handed to the committer that are not projected yet.
    waiting: usize,
    closed: bool,
}

/// Batches that are not in the projections yet, oldest first.
#[derive(Default)]
struct Tail {
    batches: VecDeque<Arc<Batch>>,
    projected: u64,
    closed: bool,
}

/// A hold of this process. Dropped without an outcome, it is released: no fault of the gateway keeps
/// anybody's money.
pub struct Held {
    shared: Arc<Shared>,
    hold: HoldId,
    /// The purse that the hold is in: of a live key, or of a test key.
    account: AccountId,
    decided: Arc<Decided>,
    ticket: Ticket,
    /// Place among the records of its batch.
    index: usize,
    /// Its place among the calls of a key whose rate is limited.
    slot: Option<Slot>,
    open: bool,
}

/// What a call cost in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub charged: Nano,
    /// Cost beyond what the caller's purses had; the platform's loss.
    pub loss: Nano,
    pub ticket: Ticket,
}

impl Books {
    /// Ledger time: the clock, but never before what was journaled.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp(self.shared.clock.now_ms());
        now.max(self.shared.state.lock().ledger.now())
    }

    pub fn durability(&self) -> &Arc<Durability> {
        &self.shared.durability
    }

    pub fn balance(&self, account: AccountId) -> Balance {
        let now = Timestamp(self.shared.clock.now_ms());
        self.shared.state.lock().ledger.balance(account, now)
    }

    /// What a decision within this scope would see now.
    pub fn read(&self, scope: &Scope<'_>) -> Readings {
        let (now, now_ns) = (Timestamp(self.shared.clock.now_ms()), self.shared.clock.mono_ns());
        self.shared.state.lock().read(scope, now, now_ns)
    }

    pub fn counter(&self, key: &CounterKey, start: Timestamp) -> Counter {
        self.shared.state.lock().ledger.counter(key, start)
    }

    /// Whether a reference has posted. It may not be on disk yet.
    pub fn has_posted(&self, reference: &Reference) -> bool {
        self.shared.state.lock().ledger.has_posted(reference)
    }

    /// Refunded so far of a charge.
    pub fn refunded(&self, charge: HoldId) -> Nano {
        self.shared.state.lock().ledger.refunded(charge)
    }

    /// Holds that have no outcome yet.
    pub fn open_holds(&self) -> usize {
        self.shared.state.lock().ledger.open_holds().count()
    }

    /// Decides a call on the books as they are, and holds what the decision asks for in the same breath.
    ///
    /// `decided.readings` is filled in; `decide` then sets the refusal or the admission and returns what to
    /// hold. `None` comes back for a call that was refused; it is recorded all the same,
    /// unless `calls` was set to zero.
    pub fn decide(
        &self,
        scope: &Scope<'_>,
        mut decided: Decided,
        decide: impl FnOnce(&mut Decided) -> Option<Reserve>,
    ) -> Result<(Arc<Decided>, Option<Held>), BooksError> {
        let shared = &self.shared;
        let (now, now_ns) = (shared.trusted_now()?, shared.clock.mono_ns());
        let mut state = shared.state.lock();
        state.check_open()?;
        decided.readings = Some(state.read(scope, now, now_ns));
        let hold = HoldId(decided.facts.request.raw());
        let reserve = decide(&mut decided);
        let effect = match reserve {
            None => None,
            Some(reserve) => {
                let command = Command::Reserve {
                    hold,
                    account: scope.account,
                    amount: reserve.amount,
                    overdraft: reserve.overdraft,
                    layers: scope.layers.iter().map(|layer| layer.held(reserve.amount)).collect(),
                    owner: match reserve.task {
                        None => HoldOwner::Process(shared.epoch),
                        Some(task) => HoldOwner::Task(task.raw()),
                    },
                };
                Some(state.ledger.execute(&command, now).map_err(BooksError::Refused)?)
            }
        };
        let slot = scope.rated.and_then(|rated| state.meter(rated, &decided, reserve, now_ns));
        let decided = Arc::new(decided);
        let admitted = effect.is_some();
        let call = CallRecord { decided: Arc::clone(&decided), outcome: None };
        let index = state.pending.len();
        if decided.calls == 0 && !admitted {
            return Ok((decided, None));
        }
        let ticket = state.push(Record { effects: Vec::from_iter(effect), call: Some(call) });
        drop(state);
        shared.work.notify_one();
        let held = admitted.then(|| Held {
            shared: Arc::clone(shared),
            hold,
            account: scope.account,
            decided: Arc::clone(&decided),
            ticket,
            index,
            slot,
            open: true,
        });
        Ok((decided, held))
    }

    /// Records a call that was refused before the books were looked at.
    pub fn record_refusal(&self, decided: Decided) -> Result<Ticket, BooksError> {
        let call = CallRecord { decided: Arc::new(decided), outcome: None };
        self.shared.append(Record { effects: Vec::new(), call: Some(call) })
    }

    /// Records how a call ended that nothing was held for.
    pub fn record_free(&self, decided: Decided, outcome: Outcome) -> Result<Ticket, BooksError> {
        let call = CallRecord { decided: Arc::new(decided), outcome: Some(Box::new(outcome)) };
        self.shared.append(Record { effects: Vec::new(), call: Some(call) })
    }

    /// Executes a money command that belongs to no call.
    pub fn execute(&self, command: &Command) -> Result<(Effect, Ticket), BooksError> {
        let now = self.shared.trusted_now()?;
        let mut state = self.shared.state.lock();
        state.check_open()?;
        let effect = state.ledger.execute(command, now).map_err(BooksError::Refused)?;
        state.ends.note(&effect);
        let ticket = state.push(Record { effects: vec![effect.clone()], call: None });
        drop(state);
        self.shared.work.notify_one();
        Ok((effect, ticket))
    }

    /// The same, waiting until it is on disk. Blocks the thread.
    pub fn execute_blocking(&self, command: &Command) -> Result<Effect, BooksError> {
        let (effect, ticket) = self.execute(command)?;
        self.shared.durability.wait_blocking(ticket)?;
        Ok(effect)
    }

    /// What is known of a call that is not, or not wholly, projected yet: its newest record and the money
    /// that moved in the tail, oldest first.
    pub fn find_call(&self, request: RequestId) -> Option<(CallRecord, Vec<Effect>)> {
        let mut found: Option<(CallRecord, Vec<Effect>)> = None;
        let mut take = |record: &Record| {
            if record.request() == Some(request)
                && let Some(call) = &record.call
            {
                let mut effects = found.take().map(|(_, effects)| effects).unwrap_or_default();
                effects.extend(record.effects.iter().cloned());
                found = Some((call.clone(), effects));
            }
        };
        // The state first: a batch that moves to the tail meanwhile would otherwise be missed.
        let state = self.shared.state.lock();
        let batches: Vec<_> = self.shared.tail.lock().batches.iter().cloned().collect();
        batches.iter().flat_map(|batch| &batch.records).for_each(&mut take);
        state.pending.iter().for_each(&mut take);
        found
    }

    /// What an account had when the last projected batch was written, and the number of that batch.
    pub fn projected_balance(&self, account: AccountId) -> (u64, Balance, Vec<Effect>) {
        let now = Timestamp(self.shared.clock.now_ms());
        // The state first: a batch that moves to the tail meanwhile would otherwise be missed.
        let state = self.shared.state.lock();
        let tail = self.shared.tail.lock();
        let later = tail.batches.iter().filter(|batch| batch.n > tail.projected);
        let records = later.flat_map(|batch| &batch.records).chain(&state.pending);
        let effects = records.flat_map(|record| &record.effects).filter(|effect| effect.account() == account);
        (tail.projected, state.ledger.balance(account, now), effects.cloned().collect())
    }

    /// Waits until everything that was recorded so far is on disk and projected. Blocks the thread.
    pub fn flush_blocking(&self) -> Result<(), Stopped> {
        let last = {
            let state = self.shared.state.lock();
            if state.pending.is_empty() { state.next_batch - 1 } else { state.next_batch }
        };
        self.shared.durability.wait_blocking(Ticket { batch: last })?;
        let mut tail = self.shared.tail.lock();
        while tail.projected < last && !tail.closed {
            self.shared.projectable.notify_all();
            self.shared.hurried.notify_all();
            self.shared.projectable.wait_for(&mut tail, std::time::Duration::from_millis(20));
        }
        if tail.projected < last { Err(Stopped) } else { Ok(()) }
    }

    /// Writes out what waits, takes a checkpoint and ends the threads. Nothing is accepted afterwards.
    pub fn close_blocking(&self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_one();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the books panicked");
            }
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.close_blocking();
    }
}

impl Shared {
    fn trusted_now(&self) -> Result<Timestamp, BooksError> {
        let now_ms = self.clock.now_ms();
        let boot_ms = i64::try_from(self.clock.mono_ns() / 1_000_000).unwrap_or(i64::MAX);
        let by_ms = now_ms.saturating_sub(boot_ms).abs_diff(self.clock_offset_ms);
        if by_ms > CLOCK_JUMP_MS_MAX { Err(BooksError::ClockJumped { by_ms }) } else { Ok(Timestamp(now_ms)) }
    }

    fn append(&self, record: Record) -> Result<Ticket, BooksError> {
        let mut state = self.state.lock();
        state.check_open()?;
        let ticket = state.push(record);
        drop(state);
        self.work.notify_one();
        Ok(ticket)
    }
}

impl State {
    fn check_open(&self) -> Result<(), BooksError> {
        if self.closed {
            Err(BooksError::Stopped)
        } else if self.waiting + self.pending.len() >= RECORDS_WAITING_MAX {
            Err(BooksError::Overloaded)
        } else {
            Ok(())
        }
    }

    fn read(&self, scope: &Scope<'_>, now: Timestamp, now_ns: u64) -> Readings {
        let balance = self.ledger.brief_balance(scope.account, now);
        let counters = scope.layers.iter().map(|layer| {
            let counter = self.ledger.counter(&layer.counter, layer.window.start);
            CounterReading {
                counter: layer.counter,
                window: layer.window,
                used: counter.used,
                held: counter.held,
            }
        });
        Readings {
            available: balance.available,
            held: balance.held,
            counters: counters.collect(),
            rate: scope.rated.map(|rated| self.meters.read(rated, now_ns)),
            channels: Vec::new(),
        }
    }

    /// Counts a call against its key's rates: any that passed them as a request, one that runs with its tokens too.
    fn meter(
        &mut self,
        rated: Rated,
        decided: &Decided,
        reserve: Option<Reserve>,
        now_ns: u64,
    ) -> Option<Slot> {
        let refused_at = decided.refusal.as_ref().map(|refusal| refusal.code.rung());
        if refused_at.is_none_or(|rung| rung > ladder::RATE) {
            self.meters.request(rated, now_ns);
        }
        reserve.map(|reserve| self.meters.begin(rated, reserve.tokens, now_ns))
    }

    fn push(&mut self, record: Record) -> Ticket {
        self.pending.push(record);
        Ticket { batch: self.next_batch }
    }

    /// Adds the end of a call to the record of its hold, or as a record of its own once that is written.
    fn finish(&mut self, held: &Held, effect: Effect, cost: Option<Effect>, outcome: Outcome) -> Ticket {
        let outcome = Some(Box::new(outcome));
        // What was charged beyond the hold may be paid by a credit that came after it, so it keeps its place.
        let in_order = !matches!(&effect, Effect::Settled(settled) if !settled.overrun.is_empty());
        if in_order
            && held.ticket.batch == self.next_batch
            && let Some(Record { effects, call: Some(call) }) = self.pending.get_mut(held.index)
        {
            effects.push(effect);
            effects.extend(cost);
            call.outcome = outcome;
            return held.ticket;
        }
        let call = CallRecord { decided: Arc::clone(&held.decided), outcome };
        let effects = std::iter::once(effect).chain(cost).collect();
        self.push(Record { effects, call: Some(call) })
    }

    /// What the upstreams of a call are expected to bill, of all its attempts.
    fn accrue(
        &mut self,
        (account, hold): (AccountId, HoldId),
        amount: Nano,
        now: Timestamp,
    ) -> Result<Option<Effect>, BooksError> {
        if amount == Nano::ZERO {
            return Ok(None);
        }
        let command = Command::AccrueUpstreamCost { account, hold, amount };
        self.ledger.execute(&command, now).map(Some).map_err(BooksError::Refused)
    }
}

impl Held {
    /// The batch that the hold is in: no byte of an answer may leave before it is on disk.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    pub fn decided(&self) -> &Arc<Decided> {
        &self.decided
    }

    /// Charges what was used and gives the rest back.
    pub fn settle(mut self, charge: Nano, outcome: Outcome) -> Result<Settlement, BooksError> {
        let command = Command::Settle { hold: self.hold, charge };
        let (effect, ticket) = self.end(&command, outcome)?;
        let (charged, loss) = match &effect {
            Effect::Settled(settled) => (settled.charged(), settled.loss()),
            _ => (Nano::ZERO, Nano::ZERO),
        };
        Ok(Settlement { charged, loss, ticket })
    }

    /// Gives everything back.
    pub fn release(mut self, reason: ReleaseReason, outcome: Outcome) -> Result<Ticket, BooksError> {
        let (_, ticket) = self.end(&Command::Release { hold: self.hold, reason }, outcome)?;
        Ok(ticket)
    }

    fn end(&mut self, command: &Command, outcome: Outcome) -> Result<(Effect, Ticket), BooksError> {
        self.open = false;
        let now = Timestamp(self.shared.clock.now_ms());
        let mut state = self.shared.state.lock();
        // A closed ledger takes nothing more: the hold is released when the books are opened again.
        if state.closed {
            return Err(BooksError::Stopped);
        }
        if let Some(slot) = self.slot.take() {
            state.meters.end(slot, outcome.usage.tokens.iter().sum());
        }
        let effect = state.ledger.execute(command, now).map_err(BooksError::Refused)?;
        let cost = state.accrue((self.account, self.hold), outcome.upstream_cost(), now)?;
        let ticket = state.finish(self, effect.clone(), cost, outcome);
        drop(state);
        self.shared.work.notify_one();
        Ok((effect, ticket))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let release = Command::Release { hold: self.hold, reason: ReleaseReason::GatewayFault };
        if let Err(why) = self.end(&release, Outcome::gateway_fault()) {
            tracing::error!(%why, "a hold without an outcome was left to the next start");
        }
    }
}
