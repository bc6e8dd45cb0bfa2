//! Writing projections into the embedded store: prepared statements, one transaction.

use super::{ProjectedRows, costs};
use crate::store::error::Result;
use rusqlite::{Connection, params};

const REQUEST: &str = "INSERT INTO requests (id, account, key, at_ms, status, code, state, charge, facts, money) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET \
     account = excluded.account, key = excluded.key, at_ms = excluded.at_ms, status = excluded.status, \
     code = excluded.code, state = excluded.state, charge = excluded.charge, facts = excluded.facts, \
     money = excluded.money";
const MOVEMENT: &str = "INSERT INTO movements (account, seq, at_ms, kind, amount, reference, body) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (account, seq) DO UPDATE SET at_ms = excluded.at_ms, \
     kind = excluded.kind, amount = excluded.amount, reference = excluded.reference, body = excluded.body";
const BALANCE: &str = "INSERT INTO balances (account, at_ms, seq, balance, held, ends) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (account, at_ms) DO NOTHING";
const CURSOR: &str = "INSERT INTO projection_cursor (shard, n) VALUES (?1, ?2) \
     ON CONFLICT (shard) DO UPDATE SET n = excluded.n WHERE projection_cursor.n < excluded.n";

pub(super) fn write(conn: &Connection, shard: u32, n: u64, rows: &ProjectedRows) -> Result<()> {
    if conn.prepare_cached(CURSOR)?.execute(params![shard, n.cast_signed()])? == 0 {
        // It was written before, and only its success was lost: sums must not be added twice.
        return Ok(());
    }
    let mut request = conn.prepare_cached(REQUEST)?;
    for row in &rows.requests {
        request.execute(params![
            row.id.to_be_bytes(),
            row.account.cast_signed(),
            row.key.cast_signed(),
            row.at_ms,
            row.status,
            row.code,
            row.state,
            row.charge,
            row.facts,
            row.money,
        ])?;
        rows.give_way();
    }
    let mut movement = conn.prepare_cached(MOVEMENT)?;
    for row in &rows.movements {
        movement.execute(params![
            row.account.cast_signed(),
            row.seq.cast_signed(),
            row.at_ms,
            row.kind,
            row.amount,
            row.reference,
            row.body,
        ])?;
    }
    let mut balance = conn.prepare_cached(BALANCE)?;
    for row in &rows.balances {
        let (account, seq) = (row.account.cast_signed(), row.seq.cast_signed());
        balance.execute(params![account, row.at_ms, seq, row.balance, row.held, row.ends])?;
    }
    let mut cost = conn.prepare_cached(&costs::ADD_ONE)?;
    for row in &rows.costs {
        cost.execute(rusqlite::params_from_iter(row.values()))?;
        rows.give_way();
    }
    Ok(())
}
