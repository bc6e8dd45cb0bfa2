//! Numbered schema changes, the same for both backends, applied at start under a lock.
//!
//! Promises: each is applied once, all of a part in one transaction; two processes that start at once
//! do not disturb each other; a change that was applied and whose text differs now, or a schema newer
//! than the program, is refused and nothing is touched.
//!
//! The text is portable but for three words: `{int}` and `{bytes}` are the backend's types, and
//! `{row_table}` / `{key_table}` end a table: strict types on the embedded store, and a `{key_table}`
//! keeps its rows in the primary key itself.

use super::chain::sha256;
use super::db::{Backend, Conn, Db};
use super::error::{Result, StoreError};
use super::value::{Row, Value};
use super::{StoreErrorKind, sqlite};
use crate::store_params;
use std::ops::ControlFlow;

/// One schema change. `number` counts from 1 in its part.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub number: u32,
    pub name: &'static str,
    pub sql: &'static str,
}

macro_rules! migrations {
    ($part:literal: $($number:literal $name:literal),+ $(,)?) => {
        &[$(Migration {
            number: $number,
            name: $name,
            sql: include_str!(concat!("migrations/", $part, "/", $name, ".sql")),
        }),+]
    };
}

/// A part of the schema: a file of its own on the embedded store.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub name: &'static str,
    pub migrations: &'static [Migration],
}

pub const JOURNAL: Part = Part { name: "journal", migrations: migrations!("journal": 1 "0001_journal") };
pub const DIRECTORY: Part = Part {
    name: "directory",
    migrations: migrations!("directory": 1 "0001_directory", 2 "0002_audit_chain", 3 "0003_notices"),
};
pub const FUNDING: Part = Part {
    name: "funding",
    migrations: migrations!("funding": 1 "0001_orders", 2 "0002_disputes", 3 "0003_codes", 4 "0004_corrections",
        5 "0005_second_person"),
};
pub const IDEMPOTENCY: Part =
    Part { name: "idempotency", migrations: migrations!("idempotency": 1 "0001_answers") };
pub const PROJECTIONS: Part = Part {
    name: "projections",
    migrations: migrations!("projections": 1 "0001_projections", 2 "0002_balances", 3 "0003_units_and_margins"),
};
pub const RECONCILE: Part = Part {
    name: "reconcile",
    migrations: migrations!("reconcile": 1 "0001_reconcile", 2 "0002_runs", 3 "0003_begun", 4 "0004_known_rows"),
};
pub const TASKS: Part = Part {
    name: "tasks",
    migrations: migrations!("tasks": 1 "0001_tasks", 2 "0002_images", 3 "0003_told_cost", 4 "0004_copies",
        5 "0005_thumbnails"),
};
pub const TRANSCRIPTS: Part =
    Part { name: "transcripts", migrations: migrations!("transcripts": 1 "0001_transcripts") };

/// Every part.
pub const PARTS: [Part; 8] =
    [JOURNAL, DIRECTORY, FUNDING, IDEMPOTENCY, RECONCILE, TASKS, TRANSCRIPTS, PROJECTIONS];

/// What all nodes lock while they migrate one database ("tallygat" in ASCII).
const PG_LOCK: i64 = 0x7461_6c6c_7967_6174;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (part TEXT NOT NULL, number {int} NOT NULL, \
     name TEXT NOT NULL, checksum {bytes} NOT NULL, PRIMARY KEY (part, number)){row_table}";

/// Brings `part` up to the program's version. Returns how many changes were applied.
pub fn migrate(db: &Db, part: &Part) -> Result<usize> {
    let done = match &*db.backend {
        Backend::Sqlite(pool) => pool.transaction(|conn| apply(&mut Session(Conn::Sqlite(conn)), part)),
        Backend::Postgres(pool) => {
            pool.exclusive(PG_LOCK, |conn| apply(&mut Session(Conn::Postgres(conn)), part))
        }
    };
    done.map_err(|error| error.during(&format!("schema {}", part.name)))
}

fn apply(session: &mut Session<'_>, part: &Part) -> Result<usize> {
    session.script(TABLE)?;
    let applied = session.query(
        "SELECT number, name, checksum FROM schema_migrations WHERE part = ?1 ORDER BY number",
        store_params![part.name],
    )?;
    check_history(&applied, part.migrations)?;
    let missing = part.migrations.get(applied.len()..).unwrap_or_default();
    for migration in missing {
        session.script(migration.sql).map_err(|error| error.during(&format!("change {}", migration.name)))?;
        session.execute(
            "INSERT INTO schema_migrations (part, number, name, checksum) VALUES (?1, ?2, ?3, ?4)",
            store_params![part.name, migration.number, migration.name, sha256(migration.sql.as_bytes())],
        )?;
    }
    Ok(missing.len())
}

/// What was applied must be a beginning of what the program knows, word for word.
fn check_history(applied: &[Row], known: &[Migration]) -> Result<()> {
    for (at, row) in applied.iter().enumerate() {
        let (number, name, checksum) = (row.u32(0)?, row.text(1)?, row.bytes::<32>(2)?);
        let Some(migration) = known.get(at) else {
            return Err(StoreError::other(format!(
                "the store has change {name}, which this program does not know: it was written by a newer \
                 version; run that version, or restore a backup"
            )));
        };
        if migration.number != number
            || migration.name != name
            || sha256(migration.sql.as_bytes()) != checksum
        {
            return Err(StoreError::new(
                StoreErrorKind::Corrupt,
                format!("change {name} was applied with another text than this program's {}", migration.name),
            ));
        }
    }
    Ok(())
}

/// A connection inside the migration's transaction.
struct Session<'c>(Conn<'c>);

impl Session<'_> {
    fn script(&mut self, text: &str) -> Result<()> {
        match &mut self.0 {
            Conn::Sqlite(conn) => Ok(conn.execute_batch(&substitute(text, &SQLITE_WORDS))?),
            Conn::Postgres(conn) => Ok(conn.client().batch_execute(&substitute(text, &POSTGRES_WORDS))?),
        }
    }

    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut each = |row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        };
        match &mut self.0 {
            Conn::Sqlite(conn) => sqlite::query_each(conn, sql, params, &mut each)?,
            Conn::Postgres(conn) => conn.query_each(sql, params, &mut each)?,
        }
        Ok(rows)
    }

    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        match &mut self.0 {
            Conn::Sqlite(conn) => sqlite::execute(conn, sql, params),
            Conn::Postgres(conn) => conn.execute(sql, params),
        }
    }
}

type Words = [(&'static str, &'static str); 4];

const SQLITE_WORDS: Words = [
    ("{int}", "INTEGER"),
    ("{bytes}", "BLOB"),
    ("{row_table}", " STRICT"),
    ("{key_table}", " STRICT, WITHOUT ROWID"),
];
const POSTGRES_WORDS: Words =
    [("{int}", "BIGINT"), ("{bytes}", "BYTEA"), ("{row_table}", ""), ("{key_table}", "")];

fn substitute(text: &str, words: &Words) -> String {
    words.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
}
