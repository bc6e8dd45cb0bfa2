//! Tables of sums: some columns name a row, the others are added to.
//!
//! Promises: what is written adds to what is there. Whoever writes makes sure that it is written once, by the cursor that
//! moves in the same transaction.

use ::postgres::types::ToSql;
use rusqlite::{Connection, params};

use crate::store::error::{Result, StoreError};
use crate::store::postgres::PgConn;
use crate::store::value::Value;

/// What a column that names a row holds. Sums are integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    /// A fingerprint of the names behind it, so that the key is short; nobody reads it.
    Bytes,
    Text,
}

/// One such table, with its statements.
pub(super) struct SumTable {
    kinds: Vec<Kind>,
    /// What is read, in its order: the names without the fingerprint, then the sums.
    pub read: String,
    /// Adds one row, on the embedded store.
    pub add_one: String,
    add_all: String,
}

/// A row of one.
pub(super) trait SumRow {
    fn table() -> &'static SumTable;
    /// All columns in their order.
    fn values(&self) -> Vec<Value>;
}

impl SumTable {
    /// `key`: the first names, up to the fingerprint.
    pub fn new(table: &str, key: &str, names: &[(&str, Kind)], sums: &[&str]) -> Self {
        let kinds: Vec<_> =
            names.iter().map(|(_, kind)| *kind).chain(sums.iter().map(|_| Kind::Int)).collect();
        let named = |wanted: &dyn Fn(Kind) -> bool| {
            let names = names.iter().filter(|(_, kind)| wanted(*kind)).map(|(name, _)| *name);
            names.chain(sums.iter().copied()).collect::<Vec<_>>().join(", ")
        };
        let columns = named(&|_| true);
        let added: Vec<_> =
            sums.iter().map(|sum| format!("{sum} = {table}.{sum} + excluded.{sum}")).collect();
        let add = |source: &str| {
            format!(
                "INSERT INTO {table} ({columns}) {source} ON CONFLICT ({key}) DO UPDATE SET {}",
                added.join(", ")
            )
        };
        let places = |place: &dyn Fn((usize, &Kind)) -> String| {
            kinds.iter().enumerate().map(place).collect::<Vec<_>>().join(", ")
        };
        let add_one = add(&format!("VALUES ({})", places(&|(at, _)| format!("?{}", at + 1))));
        let arrays = places(&|(at, kind)| {
            let array = match kind {
                Kind::Int => "BIGINT[]",
                Kind::Bytes => "BYTEA[]",
                Kind::Text => "TEXT[]",
            };
            format!("${}::{array}", at + 1)
        });
        let add_all = add(&format!("SELECT * FROM unnest({arrays})"));
        SumTable { read: named(&|kind| kind != Kind::Bytes), add_one, add_all, kinds }
    }
}

/// Adds the rows of batch `n` to what is there, on the embedded store, unless the shard's cursor says that they are. To be
/// called before the cursor moves, in its transaction.
pub(super) fn add_embedded<R: SumRow>(conn: &Connection, shard: u32, n: u64, rows: &[R]) -> Result<()> {
    let sql = "SELECT 1 FROM projection_cursor WHERE shard = ?1 AND n >= ?2";
    if rows.is_empty() || conn.prepare_cached(sql)?.exists(params![shard, n.cast_signed()])? {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(&R::table().add_one)?;
    for row in rows {
        statement.execute(rusqlite::params_from_iter(row.values()))?;
    }
    Ok(())
}

/// Adds the rows to what is there on PostgreSQL, in one statement. The names of the rows differ.
pub(super) fn add<R: SumRow>(conn: &mut PgConn, rows: &[R]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let table = R::table();
    let mut columns: Vec<Column> =
        table.kinds.iter().map(|kind| Column::with_capacity(*kind, rows.len())).collect();
    for row in rows {
        columns.iter_mut().zip(row.values()).try_for_each(|(column, value)| column.push(value))?;
    }
    let params: Vec<_> = columns.iter().map(Column::param).collect();
    let statement = conn.native(&table.add_all)?;
    conn.client().execute(&statement, &params)?;
    Ok(())
}

/// A column of many rows.
enum Column {
    Ints(Vec<i64>),
    Bytes(Vec<Vec<u8>>),
    Texts(Vec<String>),
}

impl Column {
    fn with_capacity(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Int => Column::Ints(Vec::with_capacity(rows)),
            Kind::Bytes => Column::Bytes(Vec::with_capacity(rows)),
            Kind::Text => Column::Texts(Vec::with_capacity(rows)),
        }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        match (self, value) {
            (Column::Ints(column), Value::Int(value)) => column.push(value),
            (Column::Bytes(column), Value::Blob(value)) => column.push(value),
            (Column::Texts(column), Value::Text(value)) => column.push(value),
            (_, value) => return Err(StoreError::other(format!("a sum's column cannot be {value:?}"))),
        }
        Ok(())
    }

    fn param(&self) -> &(dyn ToSql + Sync) {
        match self {
            Column::Ints(column) => column,
            Column::Bytes(column) => column,
            Column::Texts(column) => column,
        }
    }
}
