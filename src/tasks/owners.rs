//! What `verify` asks about the holds of tasks (I3).

use std::sync::Arc;

use ledger::Timestamp;

use super::store::TaskStore;
use super::task::TaskMoney;
use crate::books::verify::{TaskRow, TaskRows};
use crate::clock::Clock;
use crate::id::TaskId;
use crate::store::{Db, StoreError};

/// A hold of a task is on disk before the task's row is, by so much at the most.
const ARRIVES_WITHIN_MS: i64 = 60_000;

/// See the module.
#[derive(Clone)]
pub struct Owners {
    store: TaskStore,
    clock: Arc<dyn Clock>,
}

impl Owners {
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Owners { store: TaskStore { db }, clock }
    }
}

impl TaskRows for Owners {
    fn row_of(&self, task: TaskId, held: Timestamp) -> Result<TaskRow, StoreError> {
        Ok(match self.store.task(task)?.map(|task| task.money) {
            Some(TaskMoney::Held) => TaskRow::Holds,
            Some(end @ (TaskMoney::Settled | TaskMoney::Released)) => TaskRow::Ended(end.as_str()),
            None if self.clock.now_ms().saturating_sub(held.0) < ARRIVES_WITHIN_MS => TaskRow::Holds,
            None => TaskRow::Missing,
        })
    }
}
