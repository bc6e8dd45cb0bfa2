//! What is wrong with a file, and where.

use std::fmt;
use std::io;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0: the file as a whole.
    pub line: u64,
    pub reason: String,
}

impl Fault {
    pub fn new(line: u64, reason: impl Into<String>) -> Self {
        Fault { line, reason: reason.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "the file cannot be used: {}", self.reason),
            line => write!(f, "line {line}: {}", self.reason),
        }
    }
}

impl std::error::Error for Fault {}

/// Why reading ended early.
#[derive(Debug)]
pub enum ReadError {
    File(Fault),
    Io(io::Error),
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        ReadError::File(fault)
    }
}

impl From<io::Error> for ReadError {
    /// A fault that travelled through somebody else's reader is a fault again.
    fn from(error: io::Error) -> Self {
        match error.downcast::<Fault>() {
            Ok(fault) => ReadError::File(fault),
            Err(error) => ReadError::Io(error),
        }
    }
}
