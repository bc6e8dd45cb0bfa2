//! One process per data directory.
//!
//! Promises: while a [`DataDirLock`] lives, no other process on this machine gets one for the same
//! directory; the kernel gives the lock back when the process ends, however it ends.

use super::error::{Result, StoreError, StoreErrorKind};
use super::sqlite::sync_folder;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Name of the lock file in the data directory; it holds the owner's process id.
pub const LOCK_FILE: &str = "tallygate.lock";

/// The right to write in a data directory.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Creates the directory (mode 0700) if needed and takes the lock. `Taken` names the process that
    /// has it.
    pub fn take(data_dir: &Path) -> Result<Self> {
        let io = |doing: &str, error: std::io::Error| {
            StoreError::other(format!("{doing} {}: {error}", data_dir.display())).caused_by(error)
        };
        create(data_dir).map_err(|error| io("cannot create the data directory", error))?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(data_dir.join(LOCK_FILE))
            .map_err(|error| io("cannot open the lock file of", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(data_dir, &mut file)),
            Err(TryLockError::Error(error)) => return Err(io("cannot lock", error)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| io("cannot write the lock file of", error))?;
        Ok(Self { _file: file })
    }
}

/// Creates the directory if needed, and makes its name durable.
fn create(data_dir: &Path) -> std::io::Result<()> {
    if data_dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    match data_dir.canonicalize()?.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

fn taken(data_dir: &Path, file: &mut File) -> StoreError {
    let mut pid = String::new();
    let holder = match file.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    StoreError::new(
        StoreErrorKind::Taken,
        format!("the data directory {} is in use by {holder}", data_dir.display()),
    )
}
