//! One way to speak SQL to both backends.
//!
//! The portable subset: placeholders `?1, ?2 …`; BIGINT, TEXT and bytes; `ON CONFLICT`, `RETURNING`,
//! `LIMIT`; sums cast (`CAST(SUM(x) AS BIGINT)`); no function that only one backend has. Blocking:
//! call it from threads of your own or from `spawn_blocking`, never from an async worker.
//!
//! Promises: statements are prepared once per connection; parameters never become text; a
//! transaction runs as if it were alone (embedded: one writer; PostgreSQL: SERIALIZABLE, repeated when
//! the server asks for it). It never retries a write that may have happened.

use super::error::Result;
use super::postgres::PgPool;
use super::sqlite::SqlitePool;
use super::value::{Row, Value};
use super::{StoreError, postgres, sqlite};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A database with a few connections. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pub(super) backend: Arc<Backend>,
}

pub(super) enum Backend {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// One transaction. Everything in it happens, or nothing.
pub struct Tx<'c> {
    conn: Conn<'c>,
}

pub(super) enum Conn<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres(&'c mut postgres::PgConn),
}

impl Db {
    pub(super) fn sqlite(pool: SqlitePool) -> Self {
        Self { backend: Arc::new(Backend::Sqlite(pool)) }
    }

    pub(super) fn postgres(pool: PgPool) -> Self {
        Self { backend: Arc::new(Backend::Postgres(pool)) }
    }

    /// All rows of an answer. For answers without a bound use [`Db::query_each`].
    pub fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.query_each(sql, params, |row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// The first row of an answer, if any.
    pub fn query_one(&self, sql: &str, params: &[Value]) -> Result<Option<Row>> {
        let mut first = None;
        self.query_each(sql, params, |row| {
            first = Some(row);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    /// Rows one by one as they arrive, in constant memory, until `each` breaks. `each` may use the
    /// `Db` for reading (another connection), not for writing.
    pub fn query_each(
        &self,
        sql: &str,
        params: &[Value],
        mut each: impl FnMut(Row) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        match &*self.backend {
            Backend::Sqlite(pool) => pool.with(sql, |conn| sqlite::query_each(conn, sql, params, &mut each)),
            Backend::Postgres(pool) => pool.with(|conn| conn.query_each(sql, params, &mut each)),
        }
    }

    /// Runs one writing statement; returns the number of rows that it touched.
    pub fn execute(&self, sql: &str, params: &[Value]) -> Result<u64> {
        match &*self.backend {
            Backend::Sqlite(pool) => pool.with_writer(|conn| sqlite::execute(conn, sql, params)),
            Backend::Postgres(pool) => pool.with(|conn| conn.execute(sql, params)),
        }
    }

    /// Runs `work` in one transaction: committed when it returns `Ok`, else rolled back. PostgreSQL
    /// may have it run again, so it must do nothing outside the transaction that cannot be repeated.
    pub fn transaction<T, E: From<StoreError>>(
        &self,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match &*self.backend {
            Backend::Sqlite(pool) => pool.transaction(|conn| work(&mut Tx { conn: Conn::Sqlite(conn) })),
            Backend::Postgres(pool) => pool.transaction(|conn| work(&mut Tx { conn: Conn::Postgres(conn) })),
        }
    }
}

impl Tx<'_> {
    pub fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.query_each(sql, params, |row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    pub fn query_one(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    pub fn query_each(
        &mut self,
        sql: &str,
        params: &[Value],
        mut each: impl FnMut(Row) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        match &mut self.conn {
            Conn::Sqlite(conn) => sqlite::query_each(conn, sql, params, &mut each),
            Conn::Postgres(conn) => conn.query_each(sql, params, &mut each),
        }
    }

    pub fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        match &mut self.conn {
            Conn::Sqlite(conn) => sqlite::execute(conn, sql, params),
            Conn::Postgres(conn) => conn.execute(sql, params),
        }
    }
}
