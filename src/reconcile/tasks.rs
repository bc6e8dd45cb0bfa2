//! Rows of tasks beside the ledger's holds and charges (B7): what a task's state says of its money, and what became of it.
//!
//! Promises: a task that is on its way between both is no difference, however long a comparison takes: whatever looks like
//! one is read again, both sides at one moment. Must never: have the ledger follow a row; that is the poller's.

use hashbrown::HashMap;
use ledger::{Book, Nano};

use super::compare::{Difference, Kind};
use super::keeper::Keeper;
use super::row::{Class, Row};
use super::run::{Parts, RunError};
use crate::books::ChargeState;
use crate::directory::Environment;
use crate::id::{RequestId, TaskId};
use crate::tasks::{Entry, Records, Task, TaskMoney, TaskState};

/// A hold is on disk before the task's row is, by so much at the most.
const ARRIVES_WITHIN_MS: i64 = 60_000;
/// The ledger follows the end of a task within this time.
const FOLLOWS_WITHIN_MS: i64 = 3_600_000;

/// Every row, with what the ledger did; `false`: interrupted.
pub(super) fn rows(keeper: &mut Keeper<'_>, parts: &Parts<'_>) -> Result<bool, RunError> {
    parts.progress.begin("tasks", 0);
    let mut after = keeper.step.after.as_deref().and_then(|after| after.parse::<TaskId>().ok());
    loop {
        let page = parts.tasks.rows_behind(after)?;
        let Some(last) = page.last() else { return Ok(true) };
        after = Some(last.id);
        let requests: Vec<_> = page.iter().map(|task| task.request).collect();
        let entries: HashMap<_, _> = parts.tasks.entries(&requests)?.into_iter().collect();
        for task in &page {
            let entry = entries.get(&task.request).copied().flatten();
            one(keeper, parts, task.request, Some(task), entry.as_ref())?;
        }
        if !goes_on(keeper, parts, page.len(), after.map(|after| after.to_string())) {
            return Ok(false);
        }
    }
}

/// Every hold and charge of a task that has no row; `false`: interrupted.
pub(super) fn holds(keeper: &mut Keeper<'_>, parts: &Parts<'_>) -> Result<bool, RunError> {
    parts.progress.begin("holds of tasks", 0);
    let mut after = keeper.step.after.as_deref().and_then(|after| after.parse::<RequestId>().ok());
    loop {
        let page = parts.tasks.entries_behind(after)?;
        let Some((last, _)) = page.last() else { return Ok(true) };
        after = Some(*last);
        let of_tasks: Vec<_> = page.iter().filter_map(|(call, entry)| Some((*call, (*entry)?))).collect();
        let requests: Vec<_> = of_tasks.iter().map(|(call, _)| *call).collect();
        let known = if requests.is_empty() { Default::default() } else { parts.tasks.with_row(&requests)? };
        for (call, entry) in of_tasks.iter().filter(|(call, _)| !known.contains(call)) {
            one(keeper, parts, *call, None, Some(entry))?;
        }
        if !goes_on(keeper, parts, page.len(), after.map(|after| after.to_string())) {
            return Ok(false);
        }
    }
}

/// Shows how far it is; `false`: it is to end here, and go on from there.
fn goes_on(keeper: &mut Keeper<'_>, parts: &Parts<'_>, seen: usize, after: Option<String>) -> bool {
    parts.progress.add(seen as u64);
    let stopped = parts.progress.is_stopped();
    if stopped {
        keeper.step.after = after.map(Into::into);
    }
    !stopped
}

/// One task as it was read. What looks wrong is read again.
fn one(
    keeper: &mut Keeper<'_>,
    parts: &Parts<'_>,
    request: RequestId,
    task: Option<&Task>,
    entry: Option<&Entry>,
) -> Result<(), RunError> {
    let counts = &mut keeper.step.report.counts;
    counts.ours += u64::from(task.is_some());
    counts.theirs += u64::from(entry.is_some());
    let now_ms = parts.clock.now_ms();
    if judge(task, entry, now_ms).is_none() {
        counts.matched += u64::from(task.is_some() && entry.is_some());
        return Ok(());
    }
    let Some(Records { task, entry }) = parts.tasks.records(request)? else {
        counts.awaited += 1;
        return Ok(());
    };
    let Some(kind) = judge(task.as_ref(), entry.as_ref(), now_ms) else {
        counts.matched += u64::from(task.is_some() && entry.is_some());
        return Ok(());
    };
    let ours = task.map(|task| row_of(parts, request, &task)).transpose()?;
    let theirs = entry.map(|entry| row_of_entry(parts, request, &entry));
    Ok(keeper.keep(&Difference { kind, ours, theirs })?)
}

/// What is different between a row and the ledger, if anything is.
fn judge(task: Option<&Task>, entry: Option<&Entry>, now_ms: i64) -> Option<Kind> {
    let (task, entry) = match (task, entry) {
        (Some(task), Some(entry)) => (task, entry),
        (Some(_), None) => return Some(Kind::TaskWithoutHold),
        (None, Some(entry)) => {
            let arrives = now_ms.saturating_sub(entry.held_ms) < ARRIVES_WITHIN_MS;
            return (entry.state != ChargeState::Released && !arrives).then_some(Kind::HoldWithoutTask);
        }
        (None, None) => return None,
    };
    let ended_ms = task.ended_ms.unwrap_or(task.created_ms);
    let follows = task.money == TaskMoney::Held && now_ms.saturating_sub(ended_ms) < FOLLOWS_WITHIN_MS;
    match (task.state, entry.state) {
        (TaskState::Queued | TaskState::Running, ChargeState::Held) => None,
        (TaskState::Queued | TaskState::Running, ChargeState::Released) => Some(Kind::TaskWithoutHold),
        (TaskState::Succeeded, ChargeState::Settled) if follows || task.charged == entry.charged => None,
        (TaskState::Succeeded, ChargeState::Settled) if task.money == TaskMoney::Held => Some(Kind::Late),
        (TaskState::Succeeded, ChargeState::Settled) => Some(Kind::AmountDiffers),
        (_, ChargeState::Settled) => entry.charged.is_positive().then_some(Kind::FailedTaskCharged),
        (_, ChargeState::Held) if follows => None,
        (TaskState::Succeeded, _) => Some(Kind::TaskNotCharged),
        (_, ChargeState::Released) => None,
        (_, ChargeState::Held) if task.money == TaskMoney::Held => Some(Kind::Late),
        // The row says that the hold was given back.
        _ => Some(Kind::BooksBroken),
    }
}

/// What the row says: of a success, what it is to be charged; of what runs, what is held for it.
fn row_of(parts: &Parts<'_>, request: RequestId, task: &Task) -> Result<Row, RunError> {
    let amount = match task.state {
        TaskState::Queued | TaskState::Running => task.hold,
        _ => parts.tasks.owed(task)?,
    };
    let at_ms = task.ended_ms.unwrap_or(task.created_ms);
    let book = match task.environment {
        Environment::Live => Book::Live,
        Environment::Test => Book::Test,
    };
    let mut row = row(parts, request, amount, at_ms, task.account.in_book(book));
    row.name = task.id.to_string().into();
    row.basis = format!("{}, {}", task.state.as_str(), task.money.as_str()).into();
    Ok(row)
}

/// What the ledger has: what was charged, or is held still.
fn row_of_entry(parts: &Parts<'_>, request: RequestId, entry: &Entry) -> Row {
    let amount = if entry.state == ChargeState::Held { entry.held } else { entry.charged };
    let mut row = row(parts, request, amount, entry.at_ms, entry.account);
    row.name = format!("ledger hold of {}", entry.task).into();
    row.basis = entry.state.as_str().into();
    row.charged = entry.charged;
    row
}

fn row(parts: &Parts<'_>, request: RequestId, amount: Nano, at_ms: i64, account: ledger::AccountId) -> Row {
    let row = Row::new(request.to_string(), Class::Cost, Some(amount), parts.currency, at_ms);
    Row { account: super::ours::account_name(account), alias: request.to_string().into(), ..row }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 10 * FOLLOWS_WITHIN_MS;

    fn task(state: TaskState, money: TaskMoney, ended_ms: i64) -> Task {
        Task { charged: Nano(4), ended_ms: Some(ended_ms), ..Task::sample(state, money) }
    }

    fn entry(state: ChargeState, charged: i64, held_ms: i64) -> Entry {
        let account = ledger::AccountId(1);
        let (held, charged) = (Nano(5), Nano(charged));
        Entry { account, task: TaskId::from_raw(1), state, held, charged, held_ms, at_ms: held_ms }
    }

    /// Every state of a row beside every state of a hold, at rest and just now.
    #[test]
    fn b7_what_a_row_says_of_its_money_is_held_against_the_ledger() {
        use ChargeState::{Held, Released, Settled};
        use TaskState::{Cancelled, Failed, Queued, Running, Succeeded};
        let both = |state, money, ended_ms, entry: Entry| {
            judge(Some(&task(state, money, ended_ms)), Some(&entry), NOW_MS)
        };
        let old = |state, money, entry| both(state, money, 0, entry);
        let (held, released) = (entry(Held, 0, 0), entry(Released, 0, 0));
        let settled = |charged| entry(Settled, charged, 0);
        for (state, money, entry, kind) in [
            (Queued, TaskMoney::Held, held, None),
            (Running, TaskMoney::Held, held, None),
            (Running, TaskMoney::Held, released, Some(Kind::TaskWithoutHold)),
            (Running, TaskMoney::Held, settled(4), Some(Kind::FailedTaskCharged)),
            (Succeeded, TaskMoney::Settled, settled(4), None),
            (Succeeded, TaskMoney::Settled, settled(3), Some(Kind::AmountDiffers)),
            (Succeeded, TaskMoney::Held, settled(3), Some(Kind::Late)),
            (Succeeded, TaskMoney::Settled, released, Some(Kind::TaskNotCharged)),
            (Succeeded, TaskMoney::Settled, held, Some(Kind::TaskNotCharged)),
            (Succeeded, TaskMoney::Held, held, Some(Kind::TaskNotCharged)),
            (Failed, TaskMoney::Released, released, None),
            (Failed, TaskMoney::Released, settled(4), Some(Kind::FailedTaskCharged)),
            (Failed, TaskMoney::Released, settled(0), None),
            (Cancelled, TaskMoney::Held, held, Some(Kind::Late)),
            (Cancelled, TaskMoney::Released, held, Some(Kind::BooksBroken)),
        ] {
            assert_eq!(old(state, money, entry), kind, "{state:?} {money:?} {entry:?}");
        }
        // The poller is at it.
        for entry in [held, settled(3)] {
            assert_eq!(both(Succeeded, TaskMoney::Held, NOW_MS - 1, entry), None);
        }
        assert_eq!(both(Failed, TaskMoney::Held, NOW_MS - 1, held), None);
        // One side alone.
        let alone = |entry: Entry| judge(None, Some(&entry), NOW_MS);
        assert_eq!(
            (alone(held), alone(settled(4))),
            (Some(Kind::HoldWithoutTask), Some(Kind::HoldWithoutTask))
        );
        assert_eq!((alone(released), alone(entry(Held, 0, NOW_MS - 1))), (None, None));
        let row = task(Failed, TaskMoney::Released, 0);
        assert_eq!(judge(Some(&row), None, NOW_MS), Some(Kind::TaskWithoutHold));
        assert_eq!(judge(None, None, NOW_MS), None);
    }
}
