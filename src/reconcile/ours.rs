//! Our side: orders, the ledger's movements for them, and the attempts of calls, as rows to compare.

use std::ops::ControlFlow;

use ledger::Nano;

use super::format::Join;
use super::row::{Class, Row};
use super::run::Parts;
use super::sort::Sorter;
use crate::books::encoding;
use crate::books::verify::Finding;
use crate::funding::{Moved, Settled};
use crate::gateway::facts::{Attempt, CallRecord, CostBasis, Ending};
use crate::id::{AccountId, OrderId, RequestId};
use crate::store::{Result, Row as StoreRow, StoreError};
use crate::store_params;

/// Bits of a call's id below its time.
const BELOW_TIME: u32 = 80;

fn class_of(moved: Moved) -> Class {
    match moved {
        Moved::Paid => Class::Payment,
        Moved::Refunded => Class::Refund,
        Moved::Disputed => Class::Dispute,
    }
}

/// Takes a row in, and says whether more are wanted.
pub(super) fn keep(parts: &Parts<'_>, sorter: &mut Sorter, row: Row) -> Result<ControlFlow<()>> {
    sorter.push(row).map_err(|why| StoreError::other("rows cannot be sorted").caused_by(why))?;
    parts.progress.add(1);
    Ok(if parts.progress.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}

/// What moved at a payment provider, by our orders.
pub(super) fn payments(
    parts: &Parts<'_>,
    provider: &str,
    join: Join,
    (from_ms, until_ms): (i64, i64),
    to: &mut Sorter,
) -> Result<()> {
    parts.funding.each_settled(from_ms, until_ms, &mut |settled| {
        let (true, Some(pay)) = (&*settled.provider == provider, settled.pay) else {
            return Ok(ControlFlow::Continue(()));
        };
        let key = match join {
            Join::Payment => settled.payment_ref.clone(),
            Join::Provider => settled.provider_ref.clone(),
            _ => Some(settled.order.to_string().into()),
        };
        // An order that a provider never named is found by our number, or not at all.
        let key = key.unwrap_or_else(|| settled.order.to_string().into());
        let row = Row::new(key, class_of(settled.moved), Some(pay), &settled.currency, settled.at_ms);
        keep(parts, to, Row { name: settled.order.to_string().into(), ..row })
    })
}

/// What the ledger must have posted for orders.
pub(super) fn postings_of_orders(parts: &Parts<'_>, to: &mut Sorter) -> Result<()> {
    parts.funding.each_settled(i64::MIN, i64::MAX, &mut |settled| {
        let Settled { order, account, moved, at_ms, posted, uncertain, .. } = settled;
        let Some((amount, reference)) = posted else { return Ok(ControlFlow::Continue(())) };
        let row = Row::new(reference, class_of(moved), Some(amount), parts.currency, at_ms);
        let account = account_name(account.in_book(ledger::Book::Live));
        keep(parts, to, Row { account, name: order.to_string().into(), optional: uncertain, ..row })
    })
}

/// What the ledger has posted under the names of orders.
pub(super) fn movements_of_orders(parts: &Parts<'_>, to: &mut Sorter) -> Result<()> {
    let sql =
        "SELECT account, at_ms, amount, reference FROM movements WHERE reference >= ?1 AND reference < ?2";
    parts.projections.db().query_each(sql, store_params!["order:", "order;"], |row| {
        let reference = row.text(3)?;
        let Some(class) = class_of_reference(reference) else { return Ok(ControlFlow::Continue(())) };
        let amount = Some(Nano(row.int(2)?));
        let account = account_name(ledger::AccountId(row.id(0)?));
        let moved = Row::new(reference, class, amount, parts.currency, row.int(1)?);
        keep(parts, to, Row { account, name: format!("ledger {reference}").into(), ..moved })
    })
}

/// An account as people know it; orders are of its live book.
pub(super) fn account_name(book: ledger::AccountId) -> Box<str> {
    let id = AccountId::from(book);
    if book.book() == ledger::Book::Live { id.to_string().into() } else { format!("{id} (test)").into() }
}

/// An operator may credit under a name that only looks like an order's.
fn class_of_reference(reference: &str) -> Option<Class> {
    let rest = reference.strip_prefix("order:")?;
    let (order, rest) = rest.split_once(':').unwrap_or((rest, ""));
    order.parse::<OrderId>().ok()?;
    match rest.split(':').next() {
        Some("") => Some(Class::Payment),
        Some("refund") => Some(Class::Refund),
        Some("dispute") => Some(Class::Dispute),
        _ => None,
    }
}

/// What upstreams are expected to bill, attempt by attempt, of calls between two times.
pub(super) fn attempts(
    parts: &Parts<'_>,
    channels: &[u64],
    join: Join,
    (from_ms, until_ms): (i64, i64),
    to: &mut Sorter,
) -> Result<()> {
    each_call(parts, from_ms, until_ms, &mut |request, charged, call| {
        let Some(outcome) = &call.outcome else { return Ok(ControlFlow::Continue(())) };
        let admitted = call.decided.admitted.map(|admitted| admitted.channel);
        let last = outcome.attempts.len().saturating_sub(1);
        for (at, attempt) in outcome.attempts.iter().enumerate() {
            let channel = attempt.channel.or(admitted).map_or(0, |channel| channel.raw());
            if !channels.is_empty() && !channels.contains(&channel) {
                continue;
            }
            let charged = if at == last { charged } else { Nano::ZERO };
            let at_ms = call.decided.facts.at_ms.saturating_add((attempt.started_us / 1_000) as i64);
            let row = attempt_row(request, at, attempt, charged, at_ms, parts.currency);
            let row = if join == Join::Day { of_day(row) } else { row };
            if keep(parts, to, row)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn attempt_row(
    request: RequestId,
    number: usize,
    attempt: &Attempt,
    charged: Nano,
    at_ms: i64,
    currency: &str,
) -> Row {
    let name = format!("{request}#{}", number + 1);
    let key = attempt.upstream_request.as_deref().unwrap_or(&name);
    // Nothing is billed of what the upstream refused or never had; and what nobody could learn need not be billed.
    let nothing = attempt.cost_basis == CostBasis::Nothing || attempt.cost == Some(Nano::ZERO);
    let optional = nothing && !charged.is_positive() || attempt.cost_basis == CostBasis::Estimated;
    let mut row = Row::new(key, Class::Cost, attempt.cost, currency, at_ms);
    row.alias = request.to_string().into();
    row.basis = attempt.cost_basis.as_str().into();
    row.charged = charged;
    row.optional = optional;
    row.name = name.into();
    row
}

/// The same among the costs of its day.
fn of_day(row: Row) -> Row {
    let amount = Some(row.amount.unwrap_or_default());
    let key = super::read::day_of(row.at_ms).into();
    Row { key, amount, alias: "".into(), charged: Nano::ZERO, optional: true, ..row }
}

/// Is told a call and what it was charged.
type EachCall<'a> = dyn FnMut(RequestId, Nano, &CallRecord) -> Result<ControlFlow<()>> + 'a;

/// Every call between two times, with what it was charged.
fn each_call(parts: &Parts<'_>, from_ms: i64, until_ms: i64, each: &mut EachCall<'_>) -> Result<()> {
    let bound = |ms: i64| (u128::from(ms.max(0).unsigned_abs()) << BELOW_TIME).to_be_bytes();
    let sql = "SELECT id, charge, facts FROM requests WHERE id >= ?1 AND id < ?2 ORDER BY id";
    let params = store_params![bound(from_ms), bound(until_ms.saturating_add(1))];
    parts.projections.db().query_each(sql, params, |row| {
        let id = RequestId::from_raw(u128::from_be_bytes(row.bytes(0)?));
        let call = encoding::decode_call(row.blob(2)?).map_err(|why| {
            StoreError::corrupt("a row of the request log cannot be understood").caused_by(why)
        })?;
        each(id, Nano(row.int(1)?), &call)
    })
}

/// Calls that were charged, behind one by its id. `each` is told of every one, with a row if nothing came of it.
pub(super) fn charged_without_answer(
    parts: &Parts<'_>,
    after: Option<&str>,
    each: &mut dyn FnMut(RequestId, Option<Row>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let after = after.and_then(|id| id.parse::<RequestId>().ok()).map_or(0, RequestId::raw);
    let sql = "SELECT id, charge, facts, at_ms FROM requests WHERE id > ?1 AND charge > 0 ORDER BY id";
    parts.projections.db().query_each(sql, store_params![after.to_be_bytes()], |row: StoreRow| {
        let call = encoding::decode_call(row.blob(2)?).map_err(|why| {
            StoreError::corrupt("a row of the request log cannot be understood").caused_by(why)
        })?;
        let answered = call.outcome.as_deref().is_some_and(|outcome| {
            !matches!(outcome.ending, Ending::UpstreamFailed | Ending::GatewayFault | Ending::ProcessDied)
        });
        let id = RequestId::from_raw(u128::from_be_bytes(row.bytes(0)?));
        if answered {
            return each(id, None);
        }
        let charged = Nano(row.int(1)?);
        let mut found = Row::new(id.to_string(), Class::Cost, Some(charged), parts.currency, row.int(3)?);
        found.name = id.to_string().into();
        found.charged = charged;
        each(id, Some(found))
    })
}

/// Whether it is about the hold of a task: those are compared with the rows of tasks ([`super::tasks`]).
pub(super) fn is_of_task(finding: &Finding) -> bool {
    finding.invariant == "I3" && finding.what.contains(" is held for ")
}

/// A finding of `verify` as a kind of difference.
pub(super) fn kind_of(finding: &Finding) -> super::Kind {
    use super::Kind;
    let says = |words: &str| finding.what.contains(words);
    match finding.invariant {
        "I9" | "audit" | "seal" => Kind::ChainCut,
        "I6" if says("the log says") => Kind::AmountDiffers,
        "I6" => Kind::RowMissing,
        "I5" if says("two outcomes") => Kind::RowDoubled,
        "I8" => Kind::RowDoubled,
        "I10" if says("nobody knows") => Kind::RefundWithoutCharge,
        "I10" => Kind::AmountDiffers,
        _ => Kind::BooksBroken,
    }
}
