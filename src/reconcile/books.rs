//! The books beside themselves: journal and audit log, the ledger's postings of each order, calls that were charged, and the
//! holds and charges of tasks.

use std::ops::ControlFlow;

use super::compare::{Difference, Kind, Rules};
use super::keeper::Keeper;
use super::run::{LATE_MS, Parts, RunError, SourceReport};
use super::steps::Going;
use super::store::ReconcileStore;
use super::{ours, tasks};
use crate::books::verify::seal;

/// The parts, in their order.
const VERIFY: u32 = 0;
const ORDERS: u32 = 1;
const CALLS: u32 = 2;
const TASKS: u32 = 3;
const HOLDS: u32 = 4;

pub fn compare(store: &ReconcileStore, parts: &Parts<'_>, going: &Going) -> Result<SourceReport, RunError> {
    let mut keeper = Keeper::open(store, parts, going, "books".to_owned(), String::new())?;
    if keeper.step.done {
        return Ok(keeper.step.report);
    }
    if keeper.step.part == VERIFY {
        match verify(&mut keeper, parts, going)? {
            Verified::Whole => keeper.next_part()?,
            Verified::PartOfIt => return Ok(keeper.interrupted()?),
            Verified::NotClean => return Ok(keeper.given_up()?),
        }
    }
    if keeper.step.part == ORDERS {
        if !orders(&mut keeper, parts)? {
            return Ok(keeper.interrupted()?);
        }
        keeper.next_part()?;
    }
    if keeper.step.part == CALLS {
        if !calls(&mut keeper, parts)? {
            return Ok(keeper.interrupted()?);
        }
        keeper.next_part()?;
    }
    if keeper.step.part == TASKS {
        if !tasks::rows(&mut keeper, parts)? {
            return Ok(keeper.interrupted()?);
        }
        keeper.next_part()?;
    }
    if keeper.step.part == HOLDS && !tasks::holds(&mut keeper, parts)? {
        return Ok(keeper.interrupted()?);
    }
    // What an incremental verification does not read again is not known to agree.
    let whole = keeper.step.verified.is_some_and(|(from, _)| from == 1);
    Ok(keeper.finish(whole)?)
}

enum Verified {
    Whole,
    /// Interrupted, and there is a seal to go on from.
    PartOfIt,
    /// Interrupted after something was found: there is no seal.
    NotClean,
}

/// Goes on behind the seal that the interrupted run left, if there is one.
fn verify(keeper: &mut Keeper<'_>, parts: &Parts<'_>, going: &Going) -> Result<Verified, RunError> {
    let (journal, projections, directory) = (parts.journal, parts.projections, parts.directory);
    let owners = parts.tasks.owners();
    let books = seal::Books { journal, projections, directory, tasks: &owners, shard: 0, actor: parts.actor };
    let before = keeper.step.verified;
    let verified = seal::verify(&books, going.full && before.is_none(), parts.progress)?;
    let report = &verified.report;
    for finding in report.findings.iter().filter(|finding| !ours::is_of_task(finding)) {
        keeper.finding(finding)?;
    }
    let from = match before {
        Some((from, through)) if report.from <= through + 1 => from.min(report.from),
        _ => report.from,
    };
    keeper.step.verified = Some((from, report.through));
    Ok(match (verified.stopped, report.is_clean()) {
        (false, _) => Verified::Whole,
        (true, true) => Verified::PartOfIt,
        (true, false) => Verified::NotClean,
    })
}

/// What orders say was posted, beside what the ledger has posted for orders.
fn orders(keeper: &mut Keeper<'_>, parts: &Parts<'_>) -> Result<bool, RunError> {
    let (mut of_orders, mut of_ledger) = (keeper.sorter(), keeper.sorter());
    parts.progress.begin("orders", 0);
    ours::postings_of_orders(parts, &mut of_orders)?;
    ours::movements_of_orders(parts, &mut of_ledger)?;
    if parts.progress.is_stopped() {
        return Ok(false);
    }
    let rules = Rules { late_ms: LATE_MS, covered: (i64::MIN, i64::MAX), edge_ms: 0 };
    keeper.walk("orders", of_orders, of_ledger, &rules)
}

fn calls(keeper: &mut Keeper<'_>, parts: &Parts<'_>) -> Result<bool, RunError> {
    parts.progress.begin("calls", 0);
    let after = keeper.step.after.clone();
    let (mut failed, mut stopped) = (None, false);
    ours::charged_without_answer(parts, after.as_deref(), &mut |call, found| {
        if let Some(row) = found {
            let difference = Difference { kind: Kind::ChargedWithoutAnswer, ours: Some(row), theirs: None };
            if let Err(why) = keeper.keep(&difference) {
                failed = Some(why);
                return Ok(ControlFlow::Break(()));
            }
        }
        parts.progress.add(1);
        stopped = parts.progress.is_stopped();
        if !stopped {
            return Ok(ControlFlow::Continue(()));
        }
        keeper.step.after = Some(call.to_string().into());
        Ok(ControlFlow::Break(()))
    })?;
    match failed {
        Some(why) => Err(why.into()),
        None => Ok(!stopped),
    }
}
