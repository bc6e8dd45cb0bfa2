//! Redemption codes and their batches as rows.

use ledger::{LotKind, Nano};

use super::code::{CodeBatch, CodeState, CreditEnd, Disabled, RedemptionCode};
use super::code_guesses::Source;
use crate::id::{AccountId, CodeBatchId, CodeId, LotId};
use crate::store::{Db, Result, Row, StoreError, Tx, Value};
use crate::store_params;

/// Which codes to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct CodeSearch {
    pub batch: Option<CodeBatchId>,
    pub account: Option<AccountId>,
    pub state: Option<CodeState>,
    /// Only codes before this one.
    pub before: Option<CodeId>,
    pub limit: u32,
}

/// How many codes of a batch are in each state, in the order of [`CodeState::ALL`].
pub type CodeCounts = [u64; CodeState::ALL.len()];

const BATCH: &str = "b.id, b.value_nano, b.count, b.kind, b.priority, b.expires_ms, b.credit_expires_ms, \
     b.credit_days, b.per_account_max, b.note, b.disabled_ms, b.disabled_by, b.disabled_reason, b.created_by, \
     b.created_ms, b.version";
const BATCH_COLUMNS: usize = 16;

const CODE: &str = "c.id, c.batch, c.masked, c.state, c.account, c.redeemed_by, c.lot, c.credit_expires_ms, \
     c.marked_ms, c.redeemed_ms, c.disabled_ms, c.disabled_by, c.disabled_reason, c.version";

fn select_codes() -> String {
    format!("SELECT {BATCH}, {CODE} FROM codes c JOIN code_batches b ON b.id = c.batch")
}

/// A code with its batch.
pub type CodeOfBatch = (RedemptionCode, CodeBatch);

pub(super) fn batch(db: &Db, id: CodeBatchId) -> Result<Option<CodeBatch>> {
    let sql = format!("SELECT {BATCH} FROM code_batches b WHERE b.id = ?1");
    db.query_one(&sql, store_params![id.raw()])?.as_ref().map(read_batch).transpose()
}

/// Batches before an id, newest first.
pub(super) fn batches(db: &Db, before: Option<CodeBatchId>, limit: u32) -> Result<Vec<CodeBatch>> {
    let before = before.map_or(i64::MAX.cast_unsigned(), CodeBatchId::raw);
    let sql = format!("SELECT {BATCH} FROM code_batches b WHERE b.id < ?1 ORDER BY b.id DESC LIMIT {limit}");
    db.query(&sql, store_params![before])?.iter().map(read_batch).collect()
}

pub(super) fn counts(db: &Db, batch: &CodeBatch, now_ms: i64) -> Result<CodeCounts> {
    let sql = "SELECT state, CAST(COUNT(*) AS BIGINT) FROM codes WHERE batch = ?1 GROUP BY state";
    let mut counts = CodeCounts::default();
    for row in db.query(sql, store_params![batch.id.raw()])? {
        let unused_is = match (&batch.disabled, batch.is_expired(now_ms)) {
            (Some(_), _) => CodeState::Disabled,
            (None, true) => CodeState::Expired,
            (None, false) => CodeState::Unused,
        };
        let stored = read_state(row.text(0)?)?;
        let state = if stored == CodeState::Unused { unused_is } else { stored };
        if let Some(place) = CodeState::ALL.iter().position(|known| *known == state)
            && let Some(count) = counts.get_mut(place)
        {
            *count += row.id(1)?;
        }
    }
    Ok(counts)
}

pub(super) fn code(db: &Db, id: CodeId) -> Result<Option<CodeOfBatch>> {
    let sql = format!("{} WHERE c.id = ?1", select_codes());
    db.query_one(&sql, store_params![id.raw()])?.as_ref().map(read_code).transpose()
}

pub(super) fn code_by_hash(db: &Db, hash: &[u8]) -> Result<Option<CodeOfBatch>> {
    let sql = format!("{} WHERE c.hash = ?1", select_codes());
    db.query_one(&sql, store_params![hash])?.as_ref().map(read_code).transpose()
}

pub(super) fn search(db: &Db, search: &CodeSearch, now_ms: i64) -> Result<Vec<CodeOfBatch>> {
    let mut conditions = Vec::new();
    let mut params: Vec<Value> = Vec::new();
    let mut add = |condition: &str, value: Value| {
        params.push(value);
        conditions.push(condition.replace('?', &format!("?{}", params.len())));
    };
    if let Some(batch) = search.batch {
        add("c.batch = ?", batch.raw().into());
    }
    if let Some(account) = search.account {
        add("c.account = ?", account.raw().into());
    }
    if let Some(before) = search.before {
        add("c.id < ?", before.raw().into());
    }
    match search.state {
        Some(state @ (CodeState::Processing | CodeState::Redeemed)) => {
            add("c.state = ?", state.as_str().into());
        }
        Some(CodeState::Unused) => add(
            "c.state = 'unused' AND b.disabled_ms IS NULL AND (b.expires_ms IS NULL OR b.expires_ms > ?)",
            now_ms.into(),
        ),
        Some(CodeState::Expired) => {
            add("c.state = 'unused' AND b.disabled_ms IS NULL AND b.expires_ms <= ?", now_ms.into());
        }
        Some(CodeState::Disabled) => conditions
            .push("(c.state = 'disabled' OR (c.state = 'unused' AND b.disabled_ms IS NOT NULL))".to_owned()),
        None => {}
    }
    let given =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let sql = format!("{}{given} ORDER BY c.id DESC LIMIT {}", select_codes(), search.limit);
    db.query(&sql, &params)?.iter().map(read_code).collect()
}

/// Codes that were given to an account and not credited yet, behind an id, in the order of their ids.
pub(super) fn processing(db: &Db, after: u64, limit: u32) -> Result<Vec<CodeOfBatch>> {
    let sql =
        format!("{} WHERE c.state = 'processing' AND c.id > ?1 ORDER BY c.id LIMIT {limit}", select_codes());
    db.query(&sql, store_params![after])?.iter().map(read_code).collect()
}

/// The code as the transaction sees it.
pub(super) fn code_in(tx: &mut Tx<'_>, id: CodeId) -> Result<Option<CodeOfBatch>> {
    let sql = format!("{} WHERE c.id = ?1", select_codes());
    tx.query_one(&sql, store_params![id.raw()])?.as_ref().map(read_code).transpose()
}

pub(super) fn batch_in(tx: &mut Tx<'_>, id: CodeBatchId) -> Result<Option<CodeBatch>> {
    let sql = format!("SELECT {BATCH} FROM code_batches b WHERE b.id = ?1");
    tx.query_one(&sql, store_params![id.raw()])?.as_ref().map(read_batch).transpose()
}

/// Codes of a batch that an account has, or is about to have.
pub(super) fn taken_in(tx: &mut Tx<'_>, batch: CodeBatchId, account: AccountId) -> Result<u64> {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM codes WHERE account = ?1 AND batch = ?2 \
         AND state IN ('processing', 'redeemed')";
    tx.query_one(sql, store_params![account.raw(), batch.raw()])?.map_or(Ok(0), |row| row.id(0))
}

pub(super) fn insert_batch(tx: &mut Tx<'_>, batch: &CodeBatch) -> Result<()> {
    let (credit_expires_ms, credit_days) = match batch.credit_end {
        CreditEnd::Never => (None, None),
        CreditEnd::At(end_ms) => (Some(end_ms), None),
        CreditEnd::Days(days) => (None, Some(days)),
    };
    let params = store_params![
        batch.id.raw(),
        batch.value.0,
        batch.count,
        batch.kind as u8,
        batch.priority,
        batch.expires_ms,
        credit_expires_ms,
        credit_days,
        batch.per_account_max,
        &*batch.note,
        &*batch.created_by,
        batch.created_ms,
        batch.version,
    ];
    let sql = "INSERT INTO code_batches (id, value_nano, count, kind, priority, expires_ms, credit_expires_ms, \
         credit_days, per_account_max, note, created_by, created_ms, version) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    tx.execute(sql, params).map(drop)
}

pub(super) fn insert_code(tx: &mut Tx<'_>, code: &RedemptionCode, hash: &[u8]) -> Result<()> {
    let params = store_params![
        code.id.raw(),
        code.batch.raw(),
        hash,
        &*code.masked,
        code.stored.as_str(),
        code.version,
    ];
    let sql = "INSERT INTO codes (id, batch, hash, masked, state, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    tx.execute(sql, params).map(drop)
}

/// Writes what changes of a code, if it still is at its version; the written one is at the next.
pub(super) fn update_code(tx: &mut Tx<'_>, code: &mut RedemptionCode) -> Result<()> {
    let params = store_params![
        code.id.raw(),
        code.version,
        code.stored.as_str(),
        code.account.map(AccountId::raw),
        code.redeemed_by.as_deref(),
        code.lot.map(LotId::raw),
        code.credit_expires_ms,
        code.marked_ms,
        code.redeemed_ms,
        code.disabled.as_ref().map(|disabled| disabled.at_ms),
        code.disabled.as_ref().map(|disabled| &*disabled.by),
        code.disabled.as_ref().map(|disabled| &*disabled.reason),
    ];
    let sql = "UPDATE codes SET version = version + 1, state = ?3, account = ?4, redeemed_by = ?5, lot = ?6, \
         credit_expires_ms = ?7, marked_ms = ?8, redeemed_ms = ?9, disabled_ms = ?10, disabled_by = ?11, \
         disabled_reason = ?12 WHERE id = ?1 AND version = ?2";
    changed_one(tx.execute(sql, params)?)?;
    code.version += 1;
    Ok(())
}

pub(super) fn disable_batch(tx: &mut Tx<'_>, batch: &mut CodeBatch, disabled: Disabled) -> Result<()> {
    let params =
        store_params![batch.id.raw(), batch.version, disabled.at_ms, &*disabled.by, &*disabled.reason,];
    let sql = "UPDATE code_batches SET version = version + 1, disabled_ms = ?3, disabled_by = ?4, \
         disabled_reason = ?5 WHERE id = ?1 AND version = ?2";
    changed_one(tx.execute(sql, params)?)?;
    batch.version += 1;
    batch.disabled = Some(disabled);
    Ok(())
}

fn changed_one(rows: u64) -> Result<()> {
    match rows {
        1 => Ok(()),
        _ => Err(StoreError::unavailable("another change of the code came in between")),
    }
}

fn read_state(text: &str) -> Result<CodeState> {
    CodeState::parse(text).ok_or_else(|| StoreError::corrupt(format!("a code has the state {text}")))
}

fn read_disabled(row: &Row, first: usize) -> Result<Option<Disabled>> {
    let Some(at_ms) = row.maybe(first, Row::int)? else { return Ok(None) };
    Ok(Some(Disabled { at_ms, by: row.text(first + 1)?.into(), reason: row.text(first + 2)?.into() }))
}

fn small<T: TryFrom<i64>>(row: &Row, column: usize) -> Result<T> {
    let value = row.int(column)?;
    T::try_from(value).map_err(|_| StoreError::corrupt(format!("{value} is out of range")))
}

fn read_batch(row: &Row) -> Result<CodeBatch> {
    let kind = LotKind::from_code(small(row, 3)?);
    let credit_end = match (row.maybe(6, Row::int)?, row.maybe(7, Row::u32)?) {
        (Some(end_ms), _) => CreditEnd::At(end_ms),
        (None, Some(days)) => CreditEnd::Days(days),
        (None, None) => CreditEnd::Never,
    };
    Ok(CodeBatch {
        id: CodeBatchId::from_raw(row.id(0)?),
        value: Nano(row.int(1)?),
        count: row.u32(2)?,
        kind: kind.ok_or_else(|| StoreError::corrupt("a batch of codes has no kind"))?,
        priority: small(row, 4)?,
        expires_ms: row.maybe(5, Row::int)?,
        credit_end,
        per_account_max: row.maybe(8, Row::u32)?,
        note: row.text(9)?.into(),
        disabled: read_disabled(row, 10)?,
        created_by: row.text(13)?.into(),
        created_ms: row.int(14)?,
        version: row.id(15)?,
    })
}

fn read_code(row: &Row) -> Result<CodeOfBatch> {
    let at = |column: usize| BATCH_COLUMNS + column;
    let code = RedemptionCode {
        id: CodeId::from_raw(row.id(at(0))?),
        batch: CodeBatchId::from_raw(row.id(at(1))?),
        masked: row.text(at(2))?.into(),
        stored: read_state(row.text(at(3))?)?,
        account: row.maybe(at(4), Row::id)?.map(AccountId::from_raw),
        redeemed_by: row.maybe(at(5), Row::text)?.map(Into::into),
        lot: row.maybe(at(6), Row::id)?.map(LotId::from_raw),
        credit_expires_ms: row.maybe(at(7), Row::int)?,
        marked_ms: row.maybe(at(8), Row::int)?,
        redeemed_ms: row.maybe(at(9), Row::int)?,
        disabled: read_disabled(row, at(10))?,
        version: row.id(at(13))?,
    };
    Ok((code, read_batch(row)?))
}

/// Guesses that missed: their source, since when, how many.
pub(super) fn misses(db: &Db) -> Result<Vec<(Source, i64, u32)>> {
    let rows = db.query("SELECT source, since_ms, misses FROM code_misses", &[])?;
    let read = |row: &Row| {
        let source =
            Source::parse(row.text(0)?).ok_or_else(|| StoreError::corrupt("guesses are of nobody"))?;
        Ok((source, row.int(1)?, row.u32(2)?))
    };
    rows.iter().map(read).collect()
}

/// Writes what is counted of some sources, and forgets what is over.
pub(super) fn keep_misses(db: &Db, counted: &[(Source, i64, u32)], over_ms: i64) -> Result<()> {
    db.transaction(|tx| {
        tx.execute("DELETE FROM code_misses WHERE since_ms <= ?1", store_params![over_ms])?;
        for (source, since_ms, count) in counted {
            let sql = "INSERT INTO code_misses (source, since_ms, misses) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (source) DO UPDATE SET since_ms = excluded.since_ms, misses = excluded.misses";
            tx.execute(sql, store_params![source.name(), *since_ms, *count])?;
        }
        Ok(())
    })
}
