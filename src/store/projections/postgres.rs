//! Writing projections into PostgreSQL: one statement per table, columns sent as arrays.

use super::{BalanceRow, CostRow, MarginRow, MovementRow, ProjectedRows, RequestRow, sums};
use crate::store::error::Result;
use crate::store::postgres::PgConn;
use std::collections::HashMap;

const REQUESTS: &str = "INSERT INTO requests (id, account, key, at_ms, status, code, state, charge, facts, money) \
     SELECT * FROM unnest($1::BYTEA[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[], $6::BIGINT[], \
     $7::BIGINT[], $8::BIGINT[], $9::BYTEA[], $10::BYTEA[]) ON CONFLICT (id) DO UPDATE SET \
     account = excluded.account, key = excluded.key, at_ms = excluded.at_ms, status = excluded.status, \
     code = excluded.code, state = excluded.state, charge = excluded.charge, facts = excluded.facts, \
     money = excluded.money";
const MOVEMENTS: &str = "INSERT INTO movements (account, seq, at_ms, kind, amount, reference, body) \
     SELECT * FROM unnest($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[], $6::TEXT[], \
     $7::BYTEA[]) ON CONFLICT (account, seq) DO UPDATE SET at_ms = excluded.at_ms, kind = excluded.kind, \
     amount = excluded.amount, reference = excluded.reference, body = excluded.body";
const CURSOR: &str = "INSERT INTO projection_cursor (shard, n) VALUES ($1, $2) \
     ON CONFLICT (shard) DO UPDATE SET n = excluded.n WHERE projection_cursor.n < excluded.n";
const BALANCES: &str = "INSERT INTO balances (account, at_ms, seq, balance, held, ends) \
     SELECT * FROM unnest($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[], $6::BYTEA[]) \
     ON CONFLICT (account, at_ms) DO NOTHING";

/// The rows turned into columns; rows with the same id are reduced to the last one, because one
/// statement may touch a row only once.
pub(super) struct Columns<'r> {
    requests: Vec<&'r RequestRow>,
    movements: Vec<&'r MovementRow>,
    /// The first of each account and moment comes first.
    balances: Vec<&'r BalanceRow>,
    /// One for each set of names.
    costs: &'r [CostRow],
    margins: &'r [MarginRow],
}

impl<'r> Columns<'r> {
    pub(super) fn new(rows: &'r ProjectedRows) -> Self {
        Self {
            requests: last_of_each(&rows.requests, |row| row.id),
            movements: last_of_each(&rows.movements, |row| (row.account, row.seq)),
            balances: rows.balances.iter().collect(),
            costs: &rows.costs,
            margins: &rows.margins,
        }
    }
}

/// The last row of each id, in the order of first appearance.
fn last_of_each<T, K: std::hash::Hash + Eq>(rows: &[T], id: impl Fn(&T) -> K) -> Vec<&T> {
    let mut places: HashMap<K, usize> = HashMap::with_capacity(rows.len());
    let mut kept: Vec<&T> = Vec::with_capacity(rows.len());
    for row in rows {
        let place = *places.entry(id(row)).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(earlier) => *earlier = row,
            None => kept.push(row),
        }
    }
    kept
}

pub(super) fn write(conn: &mut PgConn, shard: u32, n: u64, columns: &Columns<'_>) -> Result<()> {
    let cursor = conn.native(CURSOR)?;
    if conn.client().execute(&cursor, &[&i64::from(shard), &n.cast_signed()])? == 0 {
        // It was written before, and only its success was lost: sums must not be added twice.
        return Ok(());
    }
    write_requests(conn, &columns.requests)?;
    write_movements(conn, &columns.movements)?;
    write_balances(conn, &columns.balances)?;
    sums::add(conn, columns.costs)?;
    sums::add(conn, columns.margins)
}

fn column<'r, R, T>(rows: &[&'r R], get: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(|row| get(row)).collect()
}

fn write_requests(conn: &mut PgConn, rows: &[&RequestRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = conn.native(REQUESTS)?;
    let ids = column(rows, |row| row.id.to_be_bytes().to_vec());
    conn.client().execute(
        &statement,
        &[
            &ids,
            &column(rows, |row| row.account.cast_signed()),
            &column(rows, |row| row.key.cast_signed()),
            &column(rows, |row| row.at_ms),
            &column(rows, |row| i64::from(row.status)),
            &column(rows, |row| i64::from(row.code)),
            &column(rows, |row| i64::from(row.state)),
            &column(rows, |row| row.charge),
            &column(rows, |row| row.facts.as_slice()),
            &column(rows, |row| row.money.as_slice()),
        ],
    )?;
    Ok(())
}

fn write_movements(conn: &mut PgConn, rows: &[&MovementRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = conn.native(MOVEMENTS)?;
    conn.client().execute(
        &statement,
        &[
            &column(rows, |row| row.account.cast_signed()),
            &column(rows, |row| row.seq.cast_signed()),
            &column(rows, |row| row.at_ms),
            &column(rows, |row| i64::from(row.kind)),
            &column(rows, |row| row.amount),
            &column(rows, |row| row.reference.as_str()),
            &column(rows, |row| row.body.as_slice()),
        ],
    )?;
    Ok(())
}

fn write_balances(conn: &mut PgConn, rows: &[&BalanceRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = conn.native(BALANCES)?;
    conn.client().execute(
        &statement,
        &[
            &column(rows, |row| row.account.cast_signed()),
            &column(rows, |row| row.at_ms),
            &column(rows, |row| row.seq.cast_signed()),
            &column(rows, |row| row.balance),
            &column(rows, |row| row.held),
            &column(rows, |row| row.ends.as_slice()),
        ],
    )?;
    Ok(())
}
