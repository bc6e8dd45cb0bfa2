//! The ledger follows a task's state: once, whoever asks.

use std::sync::Arc;

use ledger::{Effect, LedgerError, Nano, ReleaseReason, Unit, Usage};

use super::error::TaskError;
use super::service::Tasks;
use super::task::{Task, TaskMoney, TaskState};
use crate::books::{BooksError, ChargeState, TaskEnd, lookup};
use crate::catalogue::Code;
use crate::directory::Price;
use crate::gateway::facts::{Attempt, Attempts, CostBasis, Decided, Ending, Outcome, UsageSource};
use crate::id::RequestId;

impl Tasks {
    /// Has the ledger do what the task's state says, and the row say what the ledger did. May be repeated at will:
    /// the hold ends once, and the row is written from what the ledger has on record.
    pub(super) fn follow(&self, task: Task) -> Result<Task, TaskError> {
        if !task.is_unsettled() {
            return Ok(task);
        }
        let usage = used(&task);
        let end = match task.state {
            TaskState::Succeeded => TaskEnd::Settle(self.cost(&task, &usage)?),
            TaskState::Cancelled => TaskEnd::Release(ReleaseReason::Cancelled),
            TaskState::Expired => TaskEnd::Release(ReleaseReason::Expired),
            TaskState::Failed | TaskState::Queued | TaskState::Running => {
                TaskEnd::Release(ReleaseReason::UpstreamFailed)
            }
        };
        let decided = self.decided(&task)?;
        let (money, charged) = match self.books.end_task(task.request, decided, end, outcome(&task, usage)) {
            Ok((effect, ticket)) => {
                self.books.durability().wait_blocking(ticket)?;
                match effect {
                    Effect::Settled(settled) => (TaskMoney::Settled, settled.charged()),
                    _ => (TaskMoney::Released, Nano::ZERO),
                }
            }
            // It has ended before: by somebody at the same time, or before a crash.
            Err(BooksError::Refused(LedgerError::UnknownHold { .. })) => self.on_record(&task)?,
            Err(why) => return Err(why.into()),
        };
        self.change(task.id, |task| {
            (task.money, task.charged) = (money, charged);
            task.poll_ms = None;
        })
    }

    /// What the ledger has done with the hold.
    fn on_record(&self, task: &Task) -> Result<(TaskMoney, Nano), TaskError> {
        // By somebody who may still be waiting for the disk.
        self.books.flush_blocking()?;
        let call = lookup::call(&self.books, &self.projections, task.request)?;
        Ok(match call.map(|call| (call.state, call.charge)) {
            Some((ChargeState::Settled | ChargeState::Refunded, charge)) => (TaskMoney::Settled, charge),
            Some((ChargeState::Released | ChargeState::None, _)) | None => (TaskMoney::Released, Nano::ZERO),
            // Not possible: it was just said that the hold is not open.
            Some((ChargeState::Held, _)) => return Err(BooksError::Stopped.into()),
        })
    }

    /// At the price version and the multiplier of its acceptance.
    fn cost(&self, task: &Task, usage: &Usage) -> Result<Nano, TaskError> {
        let price = self.directory.get::<Price>(task.price.raw())?;
        // A version is never deleted; without it the hold is what was agreed.
        let Some(price) = price else { return Ok(task.hold) };
        // What is beyond every amount is an upstream's nonsense; the hold bounds what it can cost.
        let rates = price.document.rates_at(task.price_row);
        Ok(ledger::rate(&rates, usage, task.multiplier_ppm).map_or(task.hold, |rated| rated.total))
    }

    /// The call as it was accepted; `None` once its facts are purged.
    pub(super) fn decided(&self, task: &Task) -> Result<Option<Arc<Decided>>, TaskError> {
        self.call(task.request)
    }

    pub(super) fn call(&self, request: RequestId) -> Result<Option<Arc<Decided>>, TaskError> {
        let call = lookup::call(&self.books, &self.projections, request)?;
        Ok(call.map(|call| call.call.decided))
    }
}

/// What is charged for: nothing unless it succeeded.
fn used(task: &Task) -> Usage {
    let mut usage = Usage::default();
    if task.state == TaskState::Succeeded {
        usage.row = task.price_row;
        usage.set_units(Unit::Second, task.used_ms.unwrap_or(task.wish.duration_ms));
    }
    usage
}

/// For the row of the log.
fn outcome(task: &Task, usage: Usage) -> Outcome {
    let made = task.state == TaskState::Succeeded;
    let ended_ms = task.ended_ms.unwrap_or(task.created_ms);
    let us = u64::try_from(ended_ms.saturating_sub(task.created_ms)).unwrap_or(0).saturating_mul(1_000);
    let attempt = Attempt {
        channel: Some(task.channel),
        credential: u8::try_from(task.credential + 1).unwrap_or(u8::MAX),
        multiplier_ppm: task.multiplier_ppm,
        duration_us: us,
        upstream_request: task.upstream_id.clone(),
        cost_basis: match task.state {
            TaskState::Succeeded => CostBasis::Upstream,
            // It may have been made all the same.
            TaskState::Expired | TaskState::Cancelled => CostBasis::Estimated,
            TaskState::Failed | TaskState::Queued | TaskState::Running => CostBasis::Nothing,
        },
        ..Attempt::default()
    };
    // A task that its upstream did not take was answered with a refusal, all others when they were accepted.
    let failure = task.failure.as_ref().filter(|_| task.submitted_ms.is_none());
    let code = failure.and_then(|failure| failure.code.parse::<Code>().ok());
    Outcome {
        status: code.map_or(200, Code::status),
        ending: match task.state {
            TaskState::Succeeded => Ending::Complete,
            TaskState::Cancelled => Ending::Cancelled,
            TaskState::Expired => Ending::Expired,
            TaskState::Failed | TaskState::Queued | TaskState::Running => Ending::UpstreamFailed,
        },
        usage,
        usage_source: if made { UsageSource::Upstream } else { UsageSource::None },
        attempts: Attempts::from_iter([attempt]),
        upstream_error: task.failure.as_ref().map(|failure| failure.text.clone()),
        code,
        first_byte_us: None,
        latency_us: us,
    }
}
