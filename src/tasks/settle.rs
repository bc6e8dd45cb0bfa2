//! The ledger follows a task's state: once, whoever asks. What the upstreams of all its attempts will bill is accrued in
//! the same record (ADR 9).

use std::sync::Arc;

use ledger::{Effect, LedgerError, Nano, ReleaseReason, Usage};

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
        let price = self.directory.get::<Price>(task.price.raw())?.map(|stored| stored.document);
        let usage = sold(&task);
        let end = match task.state {
            TaskState::Succeeded => TaskEnd::Settle(cost(&task, price.as_deref(), &usage)),
            TaskState::Cancelled => TaskEnd::Release(ReleaseReason::Cancelled),
            TaskState::Expired => TaskEnd::Release(ReleaseReason::Expired),
            TaskState::Failed | TaskState::Queued | TaskState::Running => {
                TaskEnd::Release(ReleaseReason::UpstreamFailed)
            }
        };
        let decided = self.decided(&task)?;
        let attempts = self.attempts(&task, price.as_deref(), decided.as_deref());
        let outcome = outcome(&task, usage, attempts);
        let (money, charged) = match self.books.end_task(task.request, decided, end, outcome) {
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

    /// Those that ended before it, and the one that it ended with.
    fn attempts(&self, task: &Task, price: Option<&Price>, decided: Option<&Decided>) -> Attempts {
        let mut attempts: Attempts = task.tried.iter().cloned().collect();
        if attempts.len() >= task.attempts as usize {
            return attempts;
        }
        let (usage, cost_basis) = match (task.state, task.failure.as_ref()) {
            (TaskState::Succeeded, _) => (sold(task), CostBasis::Upstream),
            // It may have been made all the same.
            (TaskState::Expired | TaskState::Cancelled, _) => {
                (most(task, price, decided), CostBasis::Estimated)
            }
            (_, Some(failure)) if failure.may_be_billed() => {
                (most(task, price, decided), CostBasis::Estimated)
            }
            _ => (Usage::default(), CostBasis::Nothing),
        };
        let channel = self.channel(task).ok();
        let cost = match cost_basis {
            CostBasis::Nothing => Some(Nano::ZERO),
            CostBasis::Upstream if task.upstream_cost.is_some() => task.upstream_cost,
            _ => channel.zip(price).and_then(|(channel, price)| channel.cost(&task.model, price, &usage)),
        };
        let started_us = attempts.last().map_or(0, |last| last.started_us.saturating_add(last.duration_us));
        attempts.push(Attempt {
            channel: Some(task.channel),
            credential: u8::try_from(task.credential + 1).unwrap_or(u8::MAX),
            multiplier_ppm: task.multiplier_ppm,
            started_us,
            duration_us: lasted_us(task).saturating_sub(started_us),
            upstream_request: task.upstream_id.clone(),
            fault: fault(task),
            cost,
            cost_basis,
            ..Attempt::default()
        });
        attempts
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
pub(super) fn sold(task: &Task) -> Usage {
    let used = task.used.filter(|_| task.state == TaskState::Succeeded);
    used.map(|used| used.usage).unwrap_or_default()
}

/// At the price version and the multiplier of its acceptance.
pub(super) fn cost(task: &Task, price: Option<&Price>, usage: &Usage) -> Nano {
    // A version is never deleted; without it the hold is what was agreed.
    let Some(price) = price else { return task.hold };
    // Sold by tokens that nobody told: the same.
    let is_told = price.sells(task.wish.kind.unit()) || price.per_call.is_positive();
    if !is_told && usage.tokens.iter().all(|tokens| *tokens == 0) {
        return task.hold;
    }
    // Of what is beyond its hold a task is charged nothing; what is beyond every amount is an upstream's nonsense.
    let rates = price.rates_at(usage.row);
    ledger::rate(&rates, usage, task.multiplier_ppm).map_or(task.hold, |rated| rated.total)
}

/// What was wrong with the upstream that it ended with.
fn fault(task: &Task) -> Option<Code> {
    match (task.state, &task.failure) {
        (TaskState::Failed, Some(failure)) => Some(failure.code.parse().unwrap_or(Code::UpstreamError)),
        (TaskState::Expired, _) => Some(Code::UpstreamTimeout),
        _ => None,
    }
}

/// The most that it can use.
fn most(task: &Task, price: Option<&Price>, decided: Option<&Decided>) -> Usage {
    let asked = || task.usage_of(task.wish.asked());
    decided.zip(price).map_or_else(asked, |(decided, price)| decided.most(price))
}

fn lasted_us(task: &Task) -> u64 {
    let ended_ms = task.ended_ms.unwrap_or(task.created_ms);
    u64::try_from(ended_ms.saturating_sub(task.created_ms)).unwrap_or(0).saturating_mul(1_000)
}

/// For the row of the log.
fn outcome(task: &Task, usage: Usage, attempts: Attempts) -> Outcome {
    let source = task.used.filter(|_| task.state == TaskState::Succeeded).map(|used| used.source);
    let us = lasted_us(task);
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
        usage_source: source.unwrap_or(UsageSource::None),
        attempts,
        upstream_error: task.failure.as_ref().map(|failure| failure.text.clone()),
        code,
        first_byte_us: None,
        latency_us: us,
    }
}
