//! Holds that belong to tasks: they survive the process that made them and end through the task's row.
//!
//! A hold ends once, whoever asks and how often: every later end is refused as an unknown hold, so that two
//! pollers cannot pay a task back twice (S5).

use std::sync::Arc;

use ledger::{Command, Effect, HoldId, HoldOwner, Nano, ReleaseReason};

use crate::gateway::facts::{CallRecord, Decided, Outcome};
use crate::id::{RequestId, TaskId};

use super::{Books, BooksError, Held, Record, Ticket};

/// What the ledger is to do with a task's hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// Charge so much and give the rest back.
    Settle(Nano),
    Release(ReleaseReason),
}

impl Held {
    /// Leaves the hold to its task. The call that made it runs no longer, as far as rates are concerned.
    pub fn hand_over(mut self) -> (Arc<Decided>, Ticket) {
        self.open = false;
        if let Some(slot) = self.slot.take() {
            self.shared.state.lock().meters.end(slot, 0);
        }
        (Arc::clone(&self.decided), self.ticket)
    }
}

impl Books {
    /// Ends the hold of a task's call. `decided` is that call as it was accepted; `None` if its facts are gone.
    pub fn end_task(
        &self,
        request: RequestId,
        decided: Option<Arc<Decided>>,
        end: TaskEnd,
        outcome: Outcome,
    ) -> Result<(Effect, Ticket), BooksError> {
        let hold = HoldId::from(request);
        let command = match end {
            TaskEnd::Settle(charge) => Command::Settle { hold, charge },
            TaskEnd::Release(reason) => Command::Release { hold, reason },
        };
        // An end is taken whatever the clock says: no window depends on it.
        let now = self.now();
        let mut state = self.shared.state.lock();
        if state.closed {
            return Err(BooksError::Stopped);
        }
        let effect = state.ledger.execute(&command, now).map_err(BooksError::Refused)?;
        let cost = state.accrue((effect.account(), hold), outcome.upstream_cost(), now)?;
        let effects = std::iter::once(effect.clone()).chain(cost).collect();
        let call = decided.map(|decided| CallRecord { decided, outcome: Some(Box::new(outcome)) });
        let ticket = state.push(Record { effects, call });
        drop(state);
        self.shared.work.notify_one();
        Ok((effect, ticket))
    }

    /// The open holds of tasks, with the calls that made them.
    pub fn task_holds(&self) -> Vec<(RequestId, TaskId)> {
        let state = self.shared.state.lock();
        let of_task = |owner: HoldOwner| match owner {
            HoldOwner::Task(task) => Some(TaskId::from_raw(task)),
            HoldOwner::Process(_) => None,
        };
        let holds = state.ledger.open_holds();
        holds.filter_map(|hold| Some((RequestId::from_raw(hold.id.0), of_task(hold.owner)?))).collect()
    }
}
