//! Storage: the journal, the directory, the orders, the tasks and the projections, on embedded SQLite or on PostgreSQL.
//!
//! For: durable rows behind blocking commands; the same SQL on both backends.
//! Promises: what a command reported as done survives a power cut (the projections excepted, which
//! can be rebuilt); no caller can see which backend it talks to.
//! Never: decides anything about money, prices or rights; reads the clock for anything but waiting.

pub mod chain;
mod db;
mod error;
mod journal;
mod lock;
pub mod migrate;
mod pool;
mod postgres;
mod projections;
mod sqlite;
mod value;

pub use self::db::{Db, Tx};
pub use self::error::{Result, StoreError, StoreErrorKind};
pub use self::journal::{AppendError, Batch, JournalReader, JournalStore};
pub use self::lock::{DataDirLock, LOCK_FILE};
pub use self::projections::{
    BalanceRow, CostKey, CostRow, CostSums, MarginKey, MarginRow, MarginSums, MovementRow, ProjectedRows,
    Projections, RequestRow, RequestsOf,
};
pub use self::value::{Row, Value};

use self::journal::{PostgresJournal, SqliteJournal};
use self::postgres::{PgPool, PgServer};
use self::sqlite::{FileOptions, SqlitePool};
use crate::secret::Secret;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the data is.
#[derive(Debug)]
pub struct StoreConfig {
    /// Holds the lock file, the master key and, without PostgreSQL, the database files.
    pub data_dir: PathBuf,
    /// `postgres://user:password@host/database`; `None`: embedded.
    pub postgres_url: Option<Secret>,
}

impl StoreConfig {
    pub fn embedded(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), postgres_url: None }
    }

    pub fn postgres(data_dir: impl Into<PathBuf>, url: Secret) -> Self {
        Self { data_dir: data_dir.into(), postgres_url: Some(url) }
    }
}

/// The opened store. While `lock` lives, no other process opens the same data directory.
pub struct Stores {
    pub journal: Box<dyn JournalStore>,
    pub directory: Db,
    /// Orders, what became of them, refunds.
    pub funding: Db,
    /// Answers that are kept under an Idempotency-Key.
    pub idempotency: Db,
    /// Statements and bills of others, and the differences from them.
    pub reconcile: Db,
    /// Image and video tasks.
    pub tasks: Db,
    /// What was sent and answered, of accounts that want it kept.
    pub transcripts: Db,
    pub projections: Projections,
    pub lock: DataDirLock,
}

/// Files of the embedded store in the data directory.
pub const JOURNAL_FILE: &str = "journal.db";
pub const DIRECTORY_FILE: &str = "directory.db";
pub const FUNDING_FILE: &str = "funding.db";
pub const IDEMPOTENCY_FILE: &str = "idempotency.db";
pub const RECONCILE_FILE: &str = "reconcile.db";
pub const TASKS_FILE: &str = "tasks.db";
pub const TRANSCRIPTS_FILE: &str = "transcripts.db";
pub const PROJECTIONS_FILE: &str = "projections.db";

/// Takes the data directory, opens the store and brings its schema up to date.
pub fn open(config: &StoreConfig) -> Result<Stores> {
    let lock = DataDirLock::take(&config.data_dir)?;
    match &config.postgres_url {
        None => open_embedded(&config.data_dir, lock),
        Some(url) => open_postgres(url, lock),
    }
}

fn open_embedded(data_dir: &Path, lock: DataDirLock) -> Result<Stores> {
    let journal_path = data_dir.join(JOURNAL_FILE);
    let journal_db = Db::sqlite(SqlitePool::new(journal_path.clone(), journal::sqlite_options(false)));
    migrate::migrate(&journal_db, &migrate::JOURNAL)?;
    drop(journal_db);
    let durable =
        FileOptions { full_sync: true, page_bytes: 4096, read_only: false, autocheckpoint_pages: 1000 };
    let directory = Db::sqlite(SqlitePool::new(data_dir.join(DIRECTORY_FILE), durable));
    migrate::migrate(&directory, &migrate::DIRECTORY)?;
    let funding = Db::sqlite(SqlitePool::new(data_dir.join(FUNDING_FILE), durable));
    migrate::migrate(&funding, &migrate::FUNDING)?;
    let idempotency = Db::sqlite(SqlitePool::new(data_dir.join(IDEMPOTENCY_FILE), durable));
    migrate::migrate(&idempotency, &migrate::IDEMPOTENCY)?;
    let reconcile = Db::sqlite(SqlitePool::new(data_dir.join(RECONCILE_FILE), durable));
    migrate::migrate(&reconcile, &migrate::RECONCILE)?;
    let tasks = Db::sqlite(SqlitePool::new(data_dir.join(TASKS_FILE), durable));
    migrate::migrate(&tasks, &migrate::TASKS)?;
    let transcripts = Db::sqlite(SqlitePool::new(data_dir.join(TRANSCRIPTS_FILE), durable));
    migrate::migrate(&transcripts, &migrate::TRANSCRIPTS)?;
    let projections = Db::sqlite(SqlitePool::new(
        data_dir.join(PROJECTIONS_FILE),
        FileOptions { full_sync: false, page_bytes: 4096, read_only: false, autocheckpoint_pages: 4000 },
    ));
    migrate::migrate(&projections, &migrate::PROJECTIONS)?;
    Ok(Stores {
        journal: Box::new(SqliteJournal::open(journal_path)?),
        directory,
        funding,
        idempotency,
        reconcile,
        tasks,
        transcripts,
        projections: Projections::new(projections),
        lock,
    })
}

fn open_postgres(url: &Secret, lock: DataDirLock) -> Result<Stores> {
    let url = Arc::new(url.clone());
    let durable = PgServer::new(Arc::clone(&url), postgres::DURABLE);
    let directory = Db::postgres(PgPool::new(durable.clone()));
    let projections = Db::postgres(PgPool::new(PgServer::new(url, postgres::REBUILDABLE)));
    for part in migrate::PARTS {
        migrate::migrate(&directory, &part)?;
    }
    Ok(Stores {
        journal: Box::new(PostgresJournal::open(durable)?),
        funding: directory.clone(),
        idempotency: directory.clone(),
        reconcile: directory.clone(),
        tasks: directory.clone(),
        transcripts: directory.clone(),
        directory,
        projections: Projections::new(projections),
        lock,
    })
}
