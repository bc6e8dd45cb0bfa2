//! The embedded backend: SQLite in WAL mode.
//!
//! Promises: files are readable by their owner alone; at most one writer at a time, queued in the
//! process instead of polling; readers never wait for the writer.

use super::error::{Result, StoreError};
use super::pool::{Lease, Pool, WAIT};
use super::value::{Row, Value};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Connections per file: a few readers beside the writer.
const CONNECTIONS_MAX: usize = 8;
const STATEMENTS_MAX: usize = 128;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileOptions {
    /// FULL: a commit is on stable storage when it returns. Else NORMAL: a power cut may lose the last
    /// commits, never the order or the integrity; for what can be rebuilt.
    pub full_sync: bool,
    /// Bytes per page of a new file.
    pub page_bytes: u32,
    /// Refuse every write.
    pub read_only: bool,
    /// Pages in the WAL after which a commit copies them into the file; 0: never by itself.
    pub autocheckpoint_pages: u32,
}

/// Creates the file with mode 0600 if it is not there (SQLite gives its side files the same mode), and
/// makes its name durable.
fn create_private(path: &Path) -> Result<()> {
    let created = match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(_) => path.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    created.map_err(|error| {
        StoreError::other(format!("cannot create {}: {error}", path.display())).caused_by(error)
    })
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens one connection.
pub(super) fn open(path: &Path, options: FileOptions) -> Result<Connection> {
    create_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.pragma_update(None, "page_size", options.page_bytes)?;
    let mode: String = conn.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::other(format!("{}: the file system does not allow WAL", path.display())));
    }
    conn.pragma_update(None, "synchronous", if options.full_sync { "FULL" } else { "NORMAL" })?;
    conn.pragma_update(None, "wal_autocheckpoint", options.autocheckpoint_pages)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "query_only", options.read_only)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(conn)
}

/// The connections to one file.
pub(super) struct SqlitePool {
    path: PathBuf,
    options: FileOptions,
    pool: Pool<Connection>,
    writer: Mutex<()>,
}

impl SqlitePool {
    pub(super) fn new(path: PathBuf, options: FileOptions) -> Self {
        Self { path, options, pool: Pool::new(CONNECTIONS_MAX), writer: Mutex::new(()) }
    }

    fn connection(&self) -> Result<Lease<'_, Connection>> {
        self.pool.get(|_, _| true, || open(&self.path, self.options))
    }

    fn writer(&self) -> Result<MutexGuard<'_, ()>> {
        self.writer
            .try_lock_for(WAIT)
            .ok_or_else(|| StoreError::unavailable("another write to the store has not ended"))
    }

    /// Runs a statement that may or may not write; takes the writer's place only if it does.
    pub(super) fn with<T>(&self, sql: &str, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let conn = self.connection()?;
        let _writer = match conn.prepare_cached(sql)?.readonly() {
            true => None,
            false => Some(self.writer()?),
        };
        work(&conn)
    }

    pub(super) fn with_writer<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let conn = self.connection()?;
        let _writer = self.writer()?;
        work(&conn)
    }

    pub(super) fn transaction<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let conn = self.connection()?;
        let _writer = self.writer()?;
        conn.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::from)?;
        let done = work(&conn)
            .and_then(|value| conn.execute_batch("COMMIT").map(|()| value).map_err(|e| E::from(e.into())));
        if done.is_err() && !conn.is_autocommit() && conn.execute_batch("ROLLBACK").is_err() {
            conn.discard();
        }
        done
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

pub(super) fn query_each(
    conn: &Connection,
    sql: &str,
    params: &[Value],
    each: &mut dyn FnMut(Row) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut statement = conn.prepare_cached(sql)?;
    let names: Arc<[String]> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query(rusqlite::params_from_iter(params))?;
    while let Some(row) = rows.next()? {
        let values = (0..names.len()).map(|at| read(row, at)).collect::<Result<Vec<_>>>()?;
        if each(Row { names: Arc::clone(&names), values })?.is_break() {
            break;
        }
    }
    Ok(())
}

fn read(row: &rusqlite::Row<'_>, column: usize) -> Result<Value> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(bytes) => Value::Text(
            String::from_utf8(bytes.to_vec())
                .map_err(|error| StoreError::corrupt("stored text is not UTF-8").caused_by(error))?,
        ),
        ValueRef::Real(_) => return Err(StoreError::corrupt("a floating point number in the store")),
    })
}

pub(super) fn execute(conn: &Connection, sql: &str, params: &[Value]) -> Result<u64> {
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.execute(rusqlite::params_from_iter(params))? as u64)
}
