//! What the row of a task and the ledger say of its money, side by side, for whoever compares them.
//!
//! Promises: both are read as they were at one moment. Must never: change either.

use hashbrown::HashSet;
use ledger::{AccountId, Effect, HoldOwner, Nano};

use super::error::TaskError;
use super::service::Tasks;
use super::settle;
use super::store::Search;
use super::task::{Task, TaskMoney, TaskState};
use crate::books::{ChargeState, encoding, lookup};
use crate::directory::Price;
use crate::id::{RequestId, TaskId};
use crate::store::{Row, StoreError, Value};
use crate::store_params;

/// What the ledger did with the hold of a task's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In its book.
    pub account: AccountId,
    pub task: TaskId,
    pub state: ChargeState,
    /// What was held, and what of it was charged; refunds are entries of their own.
    pub held: Nano,
    pub charged: Nano,
    pub held_ms: i64,
    /// Of the last of both.
    pub at_ms: i64,
}

impl Entry {
    /// `None`: no task's hold is among the effects of the call.
    pub fn of(money: &[Effect]) -> Option<Self> {
        let mut entry = money.iter().find_map(|effect| match effect {
            Effect::Held(held) => match held.owner {
                HoldOwner::Task(task) => Some(Entry {
                    account: held.account,
                    task: TaskId::from_raw(task),
                    state: ChargeState::Held,
                    held: held.amount,
                    charged: Nano::ZERO,
                    held_ms: held.at.0,
                    at_ms: held.at.0,
                }),
                HoldOwner::Process(_) => None,
            },
            _ => None,
        })?;
        for effect in money {
            match effect {
                Effect::Settled(settled) => {
                    (entry.state, entry.charged) = (ChargeState::Settled, settled.charged());
                    entry.at_ms = settled.at.0;
                }
                Effect::Released(released) => {
                    (entry.state, entry.at_ms) = (ChargeState::Released, released.at.0);
                }
                _ => {}
            }
        }
        Some(entry)
    }
}

/// Both sides of one task, at one moment.
#[derive(Clone, Debug)]
pub struct Records {
    pub task: Option<Task>,
    pub entry: Option<Entry>,
}

/// So many are looked up at a time, at the most.
pub const AT_ONCE: u32 = 128;
/// How often both are read until the row has not changed meanwhile.
const READINGS: u32 = 5;

impl Tasks {
    /// `None`: the task does not keep still long enough; another look will see it.
    pub fn records(&self, request: RequestId) -> Result<Option<Records>, TaskError> {
        let mut task = self.store.of_request(request)?;
        for _ in 0..READINGS {
            let call = lookup::call(&self.books, &self.projections, request)?;
            let again = self.store.of_request(request)?;
            if task == again {
                return Ok(Some(Records { task, entry: call.and_then(|call| Entry::of(&call.money)) }));
            }
            task = again;
        }
        Ok(None)
    }

    /// Rows behind a task, in the order in which they were made; a page of them.
    pub fn rows_behind(&self, after: Option<TaskId>) -> Result<Vec<Task>, StoreError> {
        self.store.search(&Search { after, oldest_first: true, limit: AT_ONCE, ..Search::default() })
    }

    /// Which of these calls have a row of a task.
    pub fn with_row(&self, requests: &[RequestId]) -> Result<HashSet<RequestId>, StoreError> {
        let sql = format!("SELECT request FROM tasks WHERE request IN ({})", places());
        let rows = self.store.db.query(&sql, &keys(requests))?;
        rows.iter().map(|row| Ok(RequestId::from_raw(u128::from_be_bytes(row.bytes(0)?)))).collect()
    }

    /// What the ledger has of these calls, as far as it is projected.
    pub fn entries(&self, requests: &[RequestId]) -> Result<Vec<(RequestId, Option<Entry>)>, StoreError> {
        let sql = format!("SELECT id, money FROM requests WHERE id IN ({})", places());
        self.projections.db().query(&sql, &keys(requests))?.iter().map(entry).collect()
    }

    /// Calls behind one by its id that hold or charge something, with their tasks if they have one; a page of them.
    pub fn entries_behind(
        &self,
        after: Option<RequestId>,
    ) -> Result<Vec<(RequestId, Option<Entry>)>, StoreError> {
        let sql = format!(
            "SELECT id, money FROM requests WHERE id > ?1 AND state IN (?2, ?3) ORDER BY id LIMIT {AT_ONCE}"
        );
        let after = after.map_or(0, RequestId::raw).to_be_bytes();
        let params = store_params![after, ChargeState::Held as u8, ChargeState::Settled as u8];
        self.projections.db().query(&sql, params)?.iter().map(entry).collect()
    }

    /// What a task that succeeded is to be charged.
    pub fn owed(&self, task: &Task) -> Result<Nano, TaskError> {
        if task.state != TaskState::Succeeded {
            return Ok(Nano::ZERO);
        }
        if task.money == TaskMoney::Settled {
            return Ok(task.charged);
        }
        let price = self.directory.get::<Price>(task.price.raw())?.map(|stored| stored.document);
        Ok(settle::cost(task, price.as_deref(), &settle::sold(task)))
    }
}

fn entry(row: &Row) -> Result<(RequestId, Option<Entry>), StoreError> {
    let money = encoding::decode_effects(row.blob(1)?)
        .map_err(|why| StoreError::corrupt("the money of a call cannot be understood").caused_by(why))?;
    Ok((RequestId::from_raw(u128::from_be_bytes(row.bytes(0)?)), Entry::of(&money)))
}

fn places() -> String {
    (1..=AT_ONCE).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ")
}

/// As many as there are places, so that it is one statement: the rest is no call's.
fn keys(requests: &[RequestId]) -> Vec<Value> {
    let nobody = std::iter::repeat(RequestId::from_raw(0));
    let keys = requests.iter().copied().chain(nobody).take(AT_ONCE as usize);
    keys.map(|request| request.raw().to_be_bytes().into()).collect()
}
