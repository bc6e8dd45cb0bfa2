//! The projections' hot statements: what the projector writes, and the reads that answer pages.
//!
//! Promises: rows and cursor change in one transaction, so a projection is always exactly the journal
//! up to its cursor; writing the same rows again changes nothing. Everything here can be deleted and
//! built again.

mod costs;
mod margins;
mod postgres;
mod sqlite;
mod sums;

pub use costs::{CostKey, CostRow, CostSums};
pub use margins::{MarginKey, MarginRow, MarginSums};

use super::db::{Backend, Db};
use super::error::{Result, StoreError};
use super::value::{Row, Value};
use crate::store_params;

/// One line of the request log. Written when the request is held, and again when it is settled.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// Time-ordered id of the request, big-endian in the store.
    pub id: u128,
    pub account: u64,
    /// Key id; 0 when the key was not known.
    pub key: u64,
    /// Time of the call in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// HTTP status.
    pub status: u16,
    /// Number of the refusal's code in the catalogue; 0: none.
    pub code: u16,
    /// State of the charge (none, held, settled, released), as the books number it.
    pub state: u8,
    /// Nano-units of the ledger currency.
    pub charge: i64,
    /// Encoded log row and facts.
    pub facts: Vec<u8>,
    /// Encoded receipt.
    pub money: Vec<u8>,
}

/// Contents may be personal: ids and sizes alone.
impl std::fmt::Debug for RequestRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestRow")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("status", &self.status)
            .field("state", &self.state)
            .field("charge", &self.charge)
            .finish_non_exhaustive()
    }
}

/// One movement of an account's money, or the charges that a batch of the journal has in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovementRow {
    pub account: u64,
    /// In the order of the journal, over all accounts.
    pub seq: u64,
    /// Of the first of several charges.
    pub at_ms: i64,
    /// Kind of movement, as the books number it.
    pub kind: u8,
    /// Nano-units of the ledger currency, signed as the account sees it.
    pub amount: i64,
    /// External reference (`order:…`, `code:…`), or empty.
    pub reference: String,
    /// The encoded effect, or the encoded charges.
    pub body: Vec<u8>,
}

/// What an account had at a moment, before anything happened to it from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceRow {
    pub account: u64,
    pub at_ms: i64,
    /// The first movement from then on has this number or a higher one.
    pub seq: u64,
    /// All that the account has: available, held and expired. Nano-units of the ledger currency, like the others.
    pub balance: i64,
    pub held: i64,
    /// What of it ends, and when, encoded.
    pub ends: Vec<u8>,
}

/// Up to so many rows a transaction gives way to calls between them.
const GIVES_WAY_ROWS_MAX: usize = 256;

/// What some batches of the journal become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectedRows {
    pub requests: Vec<RequestRow>,
    pub movements: Vec<MovementRow>,
    /// One that is there already stays as it is.
    pub balances: Vec<BalanceRow>,
    /// Added to what is there.
    pub costs: Vec<CostRow>,
    /// The same.
    pub margins: Vec<MarginRow>,
}

impl ProjectedRows {
    /// Rows of the log and of movements, of which most of the work comes.
    pub fn len(&self) -> usize {
        self.requests.len() + self.movements.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Between two rows of a transaction: lets whoever waits for this core go first, unless there is much to catch up with.
    fn give_way(&self) {
        if self.len() <= GIVES_WAY_ROWS_MAX {
            std::thread::yield_now();
        }
    }
}

/// Whose requests to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestsOf {
    Account(u64),
    /// Read among the requests of the key's account.
    Key {
        account: u64,
        key: u64,
    },
}

/// The projections of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Projections {
    db: Db,
}

const REQUEST_COLUMNS: &str = "id, account, key, at_ms, status, code, state, charge, facts, money";
const MOVEMENT_COLUMNS: &str = "account, seq, at_ms, kind, amount, reference, body";

impl Projections {
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The database below, for queries of pages.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Writes the rows and moves the shard's cursor to batch `n`, all or nothing; nothing if it is there already.
    /// A row that is there is replaced; of two rows with one id the later wins.
    pub fn write_batch(&self, shard: u32, n: u64, rows: &ProjectedRows) -> Result<()> {
        match &*self.db.backend {
            Backend::Sqlite(pool) => pool.transaction(|conn| {
                sums::add_embedded(conn, shard, n, &rows.margins)?;
                sqlite::write(conn, shard, n, rows)
            }),
            Backend::Postgres(pool) => {
                let columns = postgres::Columns::new(rows);
                pool.plain_transaction(|conn| postgres::write(conn, shard, n, &columns))
            }
        }
    }

    /// The last batch that is projected; 0: none.
    pub fn cursor(&self, shard: u32) -> Result<u64> {
        let row =
            self.db.query_one("SELECT n FROM projection_cursor WHERE shard = ?1", store_params![shard])?;
        row.map_or(Ok(0), |row| row.id(0))
    }

    pub fn request(&self, id: u128) -> Result<Option<RequestRow>> {
        let sql = format!("SELECT {REQUEST_COLUMNS} FROM requests WHERE id = ?1");
        self.db.query_one(&sql, store_params![id.to_be_bytes()])?.map(request_from_row).transpose()
    }

    /// Requests newest first, those before `before_ms` (exclusive), at most `limit`.
    pub fn requests(&self, of: RequestsOf, before_ms: i64, limit: u32) -> Result<Vec<RequestRow>> {
        let (account, key) = match of {
            RequestsOf::Account(account) => (account, None),
            RequestsOf::Key { account, key } => (account, Some(key)),
        };
        let only_key = if key.is_some() { "AND key = ?4" } else { "" };
        let sql = format!(
            "SELECT {REQUEST_COLUMNS} FROM requests WHERE account = ?1 AND at_ms < ?2 {only_key} \
             ORDER BY at_ms DESC, id DESC LIMIT ?3"
        );
        let mut params = store_params![account, before_ms, limit].to_vec();
        params.extend(key.map(Value::from));
        let rows = self.db.query(&sql, &params)?;
        rows.into_iter().map(request_from_row).collect()
    }

    /// Movements of an account, newest first, those with `seq < before_seq`, at most `limit`.
    pub fn movements(&self, account: u64, before_seq: u64, limit: u32) -> Result<Vec<MovementRow>> {
        let sql = format!(
            "SELECT {MOVEMENT_COLUMNS} FROM movements WHERE account = ?1 AND seq < ?2 \
             ORDER BY seq DESC LIMIT ?3"
        );
        let rows = self.db.query(&sql, store_params![account, before_seq, limit])?;
        rows.into_iter().map(movement_from_row).collect()
    }

    /// Movements of an account in the order of the journal, those with `from_seq <= seq < to_seq`, at most `limit`.
    pub fn movements_from(
        &self,
        account: u64,
        from_seq: u64,
        to_seq: u64,
        limit: u32,
    ) -> Result<Vec<MovementRow>> {
        let sql = format!(
            "SELECT {MOVEMENT_COLUMNS} FROM movements WHERE account = ?1 AND seq >= ?2 AND seq < ?3 \
             ORDER BY seq LIMIT ?4"
        );
        let rows = self.db.query(&sql, store_params![account, from_seq, to_seq, limit])?;
        rows.into_iter().map(movement_from_row).collect()
    }

    /// Sum of an account's movements of each kind, those with `from_seq <= seq < to_seq`.
    pub fn movement_sums(&self, account: u64, from_seq: u64, to_seq: u64) -> Result<Vec<(u8, i64)>> {
        let sql = "SELECT kind, CAST(SUM(amount) AS BIGINT) FROM movements \
             WHERE account = ?1 AND seq >= ?2 AND seq < ?3 GROUP BY kind";
        let rows = self.db.query(sql, store_params![account, from_seq, to_seq])?;
        rows.iter().map(|row| Ok((small(row.int(0)?)?, row.int(1)?))).collect()
    }

    /// The first that is known of an account's balance at or after a moment. Where nothing happened to the account in
    /// between, that is what it had at the moment.
    pub fn balance_from(&self, account: u64, at_ms: i64) -> Result<Option<BalanceRow>> {
        let sql = "SELECT account, at_ms, seq, balance, held, ends FROM balances \
             WHERE account = ?1 AND at_ms >= ?2 ORDER BY at_ms LIMIT 1";
        let row = self.db.query_one(sql, store_params![account, at_ms])?;
        let read = |mut row: Row| {
            Ok(BalanceRow {
                account: row.id(0)?,
                at_ms: row.int(1)?,
                seq: row.id(2)?,
                balance: row.int(3)?,
                held: row.int(4)?,
                ends: row.take_blob(5)?,
            })
        };
        row.map(read).transpose()
    }

    /// Accounts, each in its book, to which something happened in a time.
    pub fn active_accounts(&self, from_ms: i64, to_ms: i64) -> Result<Vec<u64>> {
        let sql = "SELECT DISTINCT account FROM balances WHERE at_ms >= ?1 AND at_ms < ?2";
        self.db.query(sql, store_params![from_ms, to_ms])?.iter().map(|row| row.id(0)).collect()
    }

    /// Whether an account is known to have had this much since a moment, holds apart.
    pub fn had_since(&self, account: u64, since_ms: i64, amount: i64) -> Result<bool> {
        let sql =
            "SELECT 1 FROM balances WHERE account = ?1 AND at_ms >= ?2 AND balance - held >= ?3 LIMIT 1";
        Ok(self.db.query_one(sql, store_params![account, since_ms, amount])?.is_some())
    }

    /// Keeps a state of the books as of batch `n` under a name; the one before is replaced.
    pub fn save_checkpoint(&self, name: &str, n: u64, body: Vec<u8>) -> Result<()> {
        let sql = "INSERT INTO checkpoint (name, n, body) VALUES (?1, ?2, ?3) \
             ON CONFLICT (name) DO UPDATE SET n = excluded.n, body = excluded.body";
        self.db.execute(sql, store_params![name, n, body]).map(drop)
    }

    /// The checkpoint of that name: its batch and its body.
    pub fn checkpoint(&self, name: &str) -> Result<Option<(u64, Vec<u8>)>> {
        let row = self.db.query_one("SELECT n, body FROM checkpoint WHERE name = ?1", store_params![name])?;
        row.map(|mut row| Ok((row.id(0)?, row.take_blob(1)?))).transpose()
    }

    /// Empties the projections of everything, so that they are built again from the first batch.
    pub fn clear(&self) -> Result<()> {
        self.db.transaction(|tx| {
            let tables =
                ["requests", "movements", "balances", "costs", "margins", "checkpoint", "projection_cursor"];
            for table in tables {
                tx.execute(&format!("DELETE FROM {table}"), &[])?;
            }
            Ok::<_, StoreError>(())
        })
    }
}

fn request_from_row(mut row: Row) -> Result<RequestRow> {
    Ok(RequestRow {
        id: u128::from_be_bytes(row.bytes(0)?),
        account: row.id(1)?,
        key: row.id(2)?,
        at_ms: row.int(3)?,
        status: small(row.int(4)?)?,
        code: small(row.int(5)?)?,
        state: small(row.int(6)?)?,
        charge: row.int(7)?,
        facts: row.take_blob(8)?,
        money: row.take_blob(9)?,
    })
}

fn movement_from_row(mut row: Row) -> Result<MovementRow> {
    Ok(MovementRow {
        account: row.id(0)?,
        seq: row.id(1)?,
        at_ms: row.int(2)?,
        kind: small(row.int(3)?)?,
        amount: row.int(4)?,
        reference: row.take_text(5)?,
        body: row.take_blob(6)?,
    })
}

fn small<T: TryFrom<i64>>(value: i64) -> Result<T> {
    T::try_from(value).map_err(|_| StoreError::corrupt(format!("{value} is out of range")))
}
