//! Why something with a task could not be done.

use std::fmt;

use crate::books::BooksError;
use crate::books::lookup::LookupError;
use crate::directory::DirectoryError;
use crate::http_client::HttpError;
use crate::secret::MasterKeyError;
use crate::store::StoreError;

#[derive(Debug)]
pub enum TaskError {
    NotFound,
    /// The channel's upstream cannot be asked.
    Channel(String),
    Http(HttpError),
    Directory(DirectoryError),
    Books(BooksError),
    Lookup(LookupError),
    Store(StoreError),
    /// A result cannot be sealed or opened.
    Sealed(MasterKeyError),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::NotFound => f.write_str("there is no such task"),
            TaskError::Channel(why) => write!(f, "its channel cannot be used: {why}"),
            TaskError::Http(why) => write!(f, "the upstream was not reached: {why}"),
            TaskError::Directory(why) => write!(f, "{why}"),
            TaskError::Books(why) => write!(f, "{why}"),
            TaskError::Lookup(why) => write!(f, "{why}"),
            TaskError::Store(why) => write!(f, "{why}"),
            TaskError::Sealed(why) => write!(f, "a result: {why}"),
        }
    }
}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TaskError::NotFound | TaskError::Channel(_) => None,
            TaskError::Http(why) => Some(why),
            TaskError::Directory(why) => Some(why),
            TaskError::Books(why) => Some(why),
            TaskError::Lookup(why) => Some(why),
            TaskError::Store(why) => Some(why),
            TaskError::Sealed(why) => Some(why),
        }
    }
}

impl From<StoreError> for TaskError {
    fn from(why: StoreError) -> Self {
        TaskError::Store(why)
    }
}

impl From<BooksError> for TaskError {
    fn from(why: BooksError) -> Self {
        TaskError::Books(why)
    }
}

impl From<crate::books::Stopped> for TaskError {
    fn from(why: crate::books::Stopped) -> Self {
        TaskError::Books(why.into())
    }
}

impl From<LookupError> for TaskError {
    fn from(why: LookupError) -> Self {
        TaskError::Lookup(why)
    }
}

impl From<DirectoryError> for TaskError {
    fn from(why: DirectoryError) -> Self {
        TaskError::Directory(why)
    }
}

impl From<HttpError> for TaskError {
    fn from(why: HttpError) -> Self {
        TaskError::Http(why)
    }
}

impl From<MasterKeyError> for TaskError {
    fn from(why: MasterKeyError) -> Self {
        TaskError::Sealed(why)
    }
}
