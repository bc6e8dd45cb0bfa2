//! Corrections as rows.

use ledger::{Book, LotKind, Nano};

use super::correction::{Correction, CorrectionDecision, CorrectionKind, CorrectionState, CorrectionTerms};
use crate::id::{AccountId, CorrectionId, LotId, OrderId, RequestId};
use crate::store::{Db, Result, Row, StoreError, Tx, Value};
use crate::store_params;

/// Which corrections to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct CorrectionSearch {
    pub account: Option<AccountId>,
    pub kind: Option<CorrectionKind>,
    pub state: Option<CorrectionState>,
    pub request: Option<RequestId>,
    pub order: Option<OrderId>,
    /// Only corrections before this one.
    pub before: Option<CorrectionId>,
    pub limit: u32,
}

const CORRECTION: &str = "SELECT id, kind, state, account, book, amount_nano, request, lot, lot_kind, priority, \
     expires_ms, arrears, reference, reason, proposed_by, proposed_ms, needs_approval, decided_by, decided_ms, \
     decision_reason, posted_ms, problem, version, order_id, pay_nano FROM corrections";

pub(super) fn correction(db: &Db, id: CorrectionId) -> Result<Option<Correction>> {
    let row = db.query_one(&format!("{CORRECTION} WHERE id = ?1"), store_params![id.raw()])?;
    row.as_ref().map(read).transpose()
}

pub(super) fn search(db: &Db, search: &CorrectionSearch) -> Result<Vec<Correction>> {
    let mut conditions = Vec::new();
    let mut params: Vec<Value> = Vec::new();
    let mut add = |condition: &str, value: Value| {
        params.push(value);
        conditions.push(condition.replace('?', &format!("?{}", params.len())));
    };
    if let Some(account) = search.account {
        add("account = ?", account.raw().into());
    }
    if let Some(kind) = search.kind {
        add("kind = ?", kind.as_str().into());
    }
    if let Some(state) = search.state {
        add("state = ?", state.as_str().into());
    }
    if let Some(request) = search.request {
        add("request = ?", request.raw().to_be_bytes().into());
    }
    if let Some(order) = search.order {
        add("order_id = ?", order.raw().into());
    }
    if let Some(before) = search.before {
        add("id < ?", before.raw().into());
    }
    let given =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let sql = format!("{CORRECTION}{given} ORDER BY id DESC LIMIT {}", search.limit);
    db.query(&sql, &params)?.iter().map(read).collect()
}

/// Corrections that are agreed and not posted, behind an id, in the order of their ids.
pub(super) fn approved(db: &Db, after: u64, limit: u32) -> Result<Vec<Correction>> {
    let sql = format!("{CORRECTION} WHERE state = 'approved' AND id > ?1 ORDER BY id LIMIT {limit}");
    db.query(&sql, store_params![after])?.iter().map(read).collect()
}

pub(super) fn correction_in(tx: &mut Tx<'_>, id: CorrectionId) -> Result<Option<Correction>> {
    let row = tx.query_one(&format!("{CORRECTION} WHERE id = ?1"), store_params![id.raw()])?;
    row.as_ref().map(read).transpose()
}

pub(super) fn by_reference_in(tx: &mut Tx<'_>, reference: &str) -> Result<Option<Correction>> {
    let row = tx.query_one(&format!("{CORRECTION} WHERE reference = ?1"), store_params![reference])?;
    row.as_ref().map(read).transpose()
}

/// What was moved for an account since a time, up or down, without a second person, by corrections of these kinds.
pub(super) fn alone_in(
    tx: &mut Tx<'_>,
    account: AccountId,
    since_ms: i64,
    kinds: &[CorrectionKind],
) -> Result<Nano> {
    let kinds: Vec<_> = kinds.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
    let sql = format!(
        "SELECT CAST(SUM(ABS(amount_nano)) AS BIGINT) FROM corrections WHERE account = ?1 AND proposed_ms > ?2 \
         AND needs_approval = 0 AND state IN ('approved', 'posted') AND kind IN ({})",
        kinds.join(", ")
    );
    let row = tx.query_one(&sql, store_params![account.raw(), since_ms])?;
    let sum = row.map(|row| row.maybe(0, Row::int)).transpose()?.flatten();
    Ok(Nano(sum.unwrap_or(0)))
}

pub(super) fn insert(tx: &mut Tx<'_>, correction: &Correction) -> Result<()> {
    let terms = &correction.terms;
    let params = store_params![
        correction.id.raw(),
        terms.kind.as_str(),
        correction.state.as_str(),
        terms.account.raw(),
        terms.book as u8,
        terms.amount.0,
        terms.request.map(|request| request.raw().to_be_bytes()),
        correction.lot.raw(),
        terms.lot_kind as u8,
        terms.priority,
        terms.expires_ms,
        terms.arrears,
        &*correction.reference,
        &*correction.reason,
        &*correction.proposed_by,
        correction.proposed_ms,
        correction.needs_approval,
        correction.version,
        terms.order.map(|(order, _)| order.raw()),
        terms.order.map(|(_, pay)| pay.0),
    ];
    let sql = "INSERT INTO corrections (id, kind, state, account, book, amount_nano, request, lot, lot_kind, \
         priority, expires_ms, arrears, reference, reason, proposed_by, proposed_ms, needs_approval, version, \
         order_id, pay_nano) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
         ?18, ?19, ?20)";
    tx.execute(sql, params).map(drop)
}

/// Writes what changes of a correction, if it still is at its version; the written one is at the next.
pub(super) fn update(tx: &mut Tx<'_>, correction: &mut Correction) -> Result<()> {
    let decision = correction.decision.as_ref();
    let params = store_params![
        correction.id.raw(),
        correction.version,
        correction.state.as_str(),
        decision.map(|decision| &*decision.by),
        decision.map(|decision| decision.at_ms),
        decision.map(|decision| &*decision.reason),
        correction.posted_ms,
        correction.problem.as_deref(),
    ];
    let sql = "UPDATE corrections SET version = version + 1, state = ?3, decided_by = ?4, decided_ms = ?5, \
         decision_reason = ?6, posted_ms = ?7, problem = ?8 WHERE id = ?1 AND version = ?2";
    match tx.execute(sql, params)? {
        1 => {
            correction.version += 1;
            Ok(())
        }
        _ => Err(StoreError::unavailable("another change of the correction came in between")),
    }
}

fn unknown(what: &str, value: &str) -> StoreError {
    StoreError::corrupt(format!("a correction has the {what} {value}"))
}

fn small(row: &Row, column: usize) -> Result<u8> {
    let value = row.int(column)?;
    u8::try_from(value).map_err(|_| StoreError::corrupt(format!("{value} is out of range")))
}

fn read(row: &Row) -> Result<Correction> {
    let (kind, state) = (row.text(1)?, row.text(2)?);
    let request = row.maybe(6, |row, column| row.bytes::<16>(column))?;
    let decision = match row.maybe(17, Row::text)? {
        Some(by) => {
            Some(CorrectionDecision { by: by.into(), at_ms: row.int(18)?, reason: row.text(19)?.into() })
        }
        None => None,
    };
    let lot_kind = LotKind::from_code(small(row, 8)?).ok_or_else(|| unknown("kind of lot", ""))?;
    Ok(Correction {
        id: CorrectionId::from_raw(row.id(0)?),
        state: CorrectionState::parse(state).ok_or_else(|| unknown("state", state))?,
        terms: CorrectionTerms {
            kind: CorrectionKind::parse(kind).ok_or_else(|| unknown("kind", kind))?,
            account: AccountId::from_raw(row.id(3)?),
            book: if row.int(4)? == 0 { Book::Live } else { Book::Test },
            amount: Nano(row.int(5)?),
            request: request.map(|bytes| RequestId::from_raw(u128::from_be_bytes(bytes))),
            order: row.maybe(23, Row::id)?.map(OrderId::from_raw).zip(row.maybe(24, Row::int)?.map(Nano)),
            lot_kind,
            priority: small(row, 9)?,
            expires_ms: row.maybe(10, Row::int)?,
            arrears: row.int(11)? != 0,
        },
        lot: LotId::from_raw(row.id(7)?),
        reference: row.text(12)?.into(),
        reason: row.text(13)?.into(),
        proposed_by: row.text(14)?.into(),
        proposed_ms: row.int(15)?,
        needs_approval: row.int(16)? != 0,
        decision,
        posted_ms: row.maybe(20, Row::int)?,
        problem: row.maybe(21, Row::text)?.map(Into::into),
        version: row.id(22)?,
    })
}
