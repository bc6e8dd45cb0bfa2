//! The PostgreSQL backend.
//!
//! Promises: a connection that broke is never used again; one that lay idle is asked before it is
//! used; a client is never closed on an async worker's thread.

mod tls;

use super::error::{Result, StoreError, StoreErrorKind};
use super::pool::{Lease, Pool};
use super::value::{Row, Value};
use crate::secret::Secret;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use ::postgres::{Client, Config, Statement};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

const CONNECTIONS_MAX: usize = 8;
const STATEMENTS_MAX: usize = 256;
/// A connection idle for longer is asked whether it still works.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a transaction is repeated when the server found it in conflict with another.
const SERIALIZE_ATTEMPTS: u32 = 10;

/// Where the server is; knows how to connect.
#[derive(Clone)]
pub(super) struct PgServer {
    url: Arc<Secret>,
    /// Session settings made right after connecting.
    session: &'static str,
}

/// Commits wait for the disk whatever the server's default is: for the journal and the directory.
pub(super) const DURABLE: &str =
    "SET synchronous_commit = on; SET idle_in_transaction_session_timeout = 60000";
/// For what can be rebuilt: a crash of the server may lose the last commits, never their order.
pub(super) const REBUILDABLE: &str =
    "SET synchronous_commit = off; SET idle_in_transaction_session_timeout = 60000";

impl PgServer {
    pub(super) fn new(url: Arc<Secret>, session: &'static str) -> Self {
        Self { url, session }
    }

    pub(super) fn connect(&self) -> Result<PgConn> {
        let mut config: Config = self.url.expose().parse().map_err(|_| {
            StoreError::other("the PostgreSQL URL cannot be read (postgres://user:password@host/database)")
        })?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("tallygate");
        }
        let mut client = tls::connect(config).map_err(|error| error.during("cannot connect"))?;
        client.batch_execute(self.session)?;
        Ok(PgConn { client: Owned(Some(client)), statements: HashMap::new(), conflict: false })
    }
}

/// One connection with its prepared statements, keyed by the portable text.
pub(super) struct PgConn {
    client: Owned,
    statements: HashMap<String, Prepared>,
    /// The server asked for the running transaction to be repeated.
    conflict: bool,
}

#[derive(Clone)]
struct Prepared {
    statement: Statement,
    names: Arc<[String]>,
}

/// Closing a client blocks on its own small runtime, which an async worker's thread forbids; so it is
/// closed on a thread of its own.
struct Owned(Option<Client>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            let closing = std::thread::Builder::new().name("pg-close".into()).spawn(move || drop(client));
            if let Ok(thread) = closing {
                let _ = thread.join();
            }
        }
    }
}

impl PgConn {
    #[expect(clippy::expect_used, reason = "present from creation until drop")]
    pub(super) fn client(&mut self) -> &mut Client {
        self.client.0.as_mut().expect("a connection holds its client")
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.0.as_ref().is_none_or(Client::is_closed)
    }

    fn works(&mut self, idle: Duration) -> bool {
        !self.is_closed() && (idle < TRUSTED_IDLE || self.client().is_valid(Duration::from_secs(2)).is_ok())
    }

    fn prepared(&mut self, sql: &str) -> Result<Prepared> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client().prepare(&dollar_placeholders(sql))?;
        let names = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let prepared = Prepared { statement, names };
        self.statements.insert(sql.to_owned(), prepared.clone());
        Ok(prepared)
    }

    /// Notes a conflict that the server wants answered by repeating the transaction.
    fn noting<T>(&mut self, done: Result<T>) -> Result<T> {
        if let Err(error) = &done
            && is_serialization_conflict(error)
        {
            self.conflict = true;
        }
        done
    }

    pub(super) fn query_each(
        &mut self,
        sql: &str,
        params: &[Value],
        each: &mut dyn FnMut(Row) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let done = self.query_each_once(sql, params, each);
        self.noting(done)
    }

    fn query_each_once(
        &mut self,
        sql: &str,
        params: &[Value],
        each: &mut dyn FnMut(Row) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let prepared = self.prepared(sql)?;
        let mut rows = self.client().query_raw(&prepared.statement, params)?;
        while let Some(row) = rows.next()? {
            let values = (0..row.len()).map(|at| read(&row, at)).collect::<Result<Vec<_>>>()?;
            if each(Row { names: Arc::clone(&prepared.names), values })?.is_break() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let done = self.execute_once(sql, params);
        self.noting(done)
    }

    fn execute_once(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let prepared = self.prepared(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|value| value as _).collect();
        Ok(self.client().execute(&prepared.statement, &params)?)
    }

    /// The prepared form of a statement written for PostgreSQL alone (`$1` placeholders).
    pub(super) fn native(&mut self, sql: &str) -> Result<Statement> {
        Ok(self.prepared(sql)?.statement)
    }
}

fn is_serialization_conflict(error: &StoreError) -> bool {
    use ::postgres::error::SqlState;
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<::postgres::Error>())
        .and_then(::postgres::Error::code)
        .is_some_and(|code| {
            *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
        })
}

/// The connections to one server.
pub(super) struct PgPool {
    server: PgServer,
    pool: Pool<PgConn>,
}

impl PgPool {
    pub(super) fn new(server: PgServer) -> Self {
        Self { server, pool: Pool::new(CONNECTIONS_MAX) }
    }

    fn connection(&self) -> Result<Lease<'_, PgConn>> {
        self.pool.get(PgConn::works, || self.server.connect())
    }

    /// Lends a connection; a broken one is not given out again.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut PgConn) -> Result<T>) -> Result<T> {
        let mut conn = self.connection()?;
        let done = work(&mut conn);
        if done.is_err() && conn.is_closed() {
            conn.discard();
        }
        done
    }

    pub(super) fn transaction<T, E: From<StoreError>>(
        &self,
        mut work: impl FnMut(&mut PgConn) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut attempt = 1;
        loop {
            let mut conn = self.connection()?;
            conn.conflict = false;
            conn.client().batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE").map_err(StoreError::from)?;
            let done = work(&mut conn).and_then(|value| {
                let committed = conn.client().batch_execute("COMMIT").map_err(StoreError::from);
                conn.noting(committed).map(|()| value).map_err(E::from)
            });
            if done.is_ok() {
                return done;
            }
            let conflict = conn.conflict;
            if conn.client().batch_execute("ROLLBACK").is_err() {
                conn.discard();
            }
            if !conflict || attempt >= SERIALIZE_ATTEMPTS {
                return done;
            }
            attempt += 1;
        }
    }

    /// A transaction at the server's default level, run once: for one writer with its own rows.
    pub(super) fn plain_transaction<T>(&self, work: impl FnOnce(&mut PgConn) -> Result<T>) -> Result<T> {
        let mut conn = self.connection()?;
        let done = conn
            .client()
            .batch_execute("BEGIN")
            .map_err(StoreError::from)
            .and_then(|()| work(&mut conn))
            .and_then(|value| Ok(conn.client().batch_execute("COMMIT").map(|()| value)?));
        if done.is_err() && conn.client().batch_execute("ROLLBACK").is_err() {
            conn.discard();
        }
        done
    }

    /// Runs `work` in one transaction while no other process runs one with the same `lock`.
    pub(super) fn exclusive<T>(&self, lock: i64, work: impl FnOnce(&mut PgConn) -> Result<T>) -> Result<T> {
        let mut conn = self.connection()?;
        // The lock is taken before the transaction begins: its snapshot must see what others did.
        conn.client().execute("SELECT pg_advisory_lock($1)", &[&lock])?;
        let done = conn
            .client()
            .batch_execute("BEGIN")
            .map_err(StoreError::from)
            .and_then(|()| work(&mut conn))
            .and_then(|value| Ok(conn.client().batch_execute("COMMIT").map(|()| value)?));
        let unlocked = conn.client().execute("SELECT pg_advisory_unlock($1)", &[&lock]);
        if done.is_err() || unlocked.is_err() {
            conn.discard(); // closing ends the transaction and gives the lock back
        }
        done
    }
}

/// `?1` → `$1`, outside of quotes.
pub(super) fn dollar_placeholders(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut quoted = false;
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        quoted ^= c == '\'';
        let is_placeholder = c == '?' && !quoted && chars.peek().is_some_and(char::is_ascii_digit);
        out.push(if is_placeholder { '$' } else { c });
    }
    out
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut ::postgres::types::private::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(value) => match *ty {
                Type::INT8 => value.to_sql(ty, out),
                Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
                Type::INT2 => i16::try_from(*value)?.to_sql(ty, out),
                _ => Err(format!("an integer given where the statement takes {ty}").into()),
            },
            Value::Text(text) if <&str as ToSql>::accepts(ty) => text.as_str().to_sql(ty, out),
            Value::Blob(bytes) if *ty == Type::BYTEA => bytes.as_slice().to_sql(ty, out),
            other => Err(format!("{other:?} given where the statement takes {ty}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn read(row: &::postgres::Row, column: usize) -> Result<Value> {
    let ty = row.columns().get(column).map_or(Type::UNKNOWN, |column| column.type_().clone());
    Ok(match ty {
        Type::INT8 => row.try_get::<_, Option<i64>>(column)?.into(),
        Type::INT4 => row.try_get::<_, Option<i32>>(column)?.into(),
        Type::INT2 => row.try_get::<_, Option<i16>>(column)?.map(i64::from).into(),
        Type::BOOL => row.try_get::<_, Option<bool>>(column)?.into(),
        Type::TEXT | Type::VARCHAR | Type::NAME => row.try_get::<_, Option<String>>(column)?.into(),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column)?.into(),
        other => {
            let text = format!("a column of type {other} is outside the portable subset; cast it");
            return Err(StoreError::new(StoreErrorKind::Other, text));
        }
    })
}
