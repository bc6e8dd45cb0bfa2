//! What can go wrong below the books, told apart only as far as a caller acts differently.
//!
//! Promises: no error text holds a parameter value or a connection string, because both may be
//! secret. Every error keeps what caused it (`source`).

use std::error::Error;
use std::fmt;

/// What the caller can do about it. The text is for people, the kind is for code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The store cannot be reached or is too busy now; the same command may work later. For a write
    /// outside a journal append it is not known whether it happened.
    Unavailable,
    /// A unique key or a reference is taken already; nothing was changed.
    Conflict,
    /// What is stored is not what the program wrote, or not in a form that it knows.
    Corrupt,
    /// Another process has taken over what this one meant to write.
    Fenced,
    /// Another living process owns the data directory or the shard.
    Taken,
    /// A mistake of the program or of its surroundings (a wrong statement, a full disk, a missing right).
    Other,
}

/// An error of the storage layer.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    pub fn new(kind: StoreErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), source: None }
    }

    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn corrupt(text: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Corrupt, text)
    }

    pub fn other(text: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Other, text)
    }

    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Unavailable, text)
    }

    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    pub fn is_conflict(&self) -> bool {
        self.kind == StoreErrorKind::Conflict
    }

    /// The same error with what was being done in front of its text.
    #[must_use]
    pub fn during(mut self, doing: &str) -> Self {
        self.text = format!("{doing}: {}", self.text);
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let kind = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                Code::ConstraintViolation if is_unique(failure.extended_code) => StoreErrorKind::Conflict,
                Code::DatabaseBusy | Code::DatabaseLocked => StoreErrorKind::Unavailable,
                Code::DatabaseCorrupt | Code::NotADatabase => StoreErrorKind::Corrupt,
                _ => StoreErrorKind::Other,
            },
            _ => StoreErrorKind::Other,
        };
        Self::new(kind, format!("embedded store: {error}")).caused_by(error)
    }
}

fn is_unique(extended_code: i32) -> bool {
    use rusqlite::ffi;
    [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_ROWID]
        .contains(&extended_code)
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> Self {
        use postgres::error::SqlState;
        let kind = match error.code() {
            Some(code) if *code == SqlState::UNIQUE_VIOLATION => StoreErrorKind::Conflict,
            Some(code) if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => {
                StoreErrorKind::Corrupt
            }
            Some(code) if is_passing(code.code()) => StoreErrorKind::Unavailable,
            Some(_) => StoreErrorKind::Other,
            None if is_local(&error) => StoreErrorKind::Other,
            None => StoreErrorKind::Unavailable,
        };
        // The server's DETAIL line may quote a row; only its primary message is repeated.
        let text = match error.as_db_error() {
            Some(db) => format!("PostgreSQL: {} ({})", db.message(), db.code().code()),
            None => format!("PostgreSQL: {error}"),
        };
        Self::new(kind, text).caused_by(error)
    }
}

/// Classes of SQLSTATE that pass by themselves: connection trouble (08), a rolled back transaction
/// (40), lack of resources (53), an operator's intervention such as a restart (57).
fn is_passing(sqlstate: &str) -> bool {
    ["08", "40", "53", "57"].iter().any(|class| sqlstate.starts_with(class))
}

/// Errors made on this side of the wire: a wrong parameter, a column of another type.
fn is_local(error: &postgres::Error) -> bool {
    let text = error.to_string();
    [
        "error serializing",
        "error deserializing",
        "invalid column",
        "unexpected number of",
        "invalid configuration",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}
