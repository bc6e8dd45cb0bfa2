//! Copies in a folder: a file for each, which appears whole or not at all.
//!
//! Promises: a file is written aside, synced, then renamed, and its folder synced; nobody but the gateway's user reads it.
//! Must never: write outside of its folder. Names are made of ids and numbers (`Copy::name`).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::storage::Fault;

/// See the module.
pub struct Disk {
    folder: PathBuf,
}

/// A file that is being written. Without its end it stays aside.
pub struct Writing {
    file: File,
    aside: PathBuf,
    path: PathBuf,
}

impl Disk {
    /// Makes the folder if it is not there, and sees whether it can be written to.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Self::probe(folder)?;
        Ok(Disk { folder: folder.to_owned() })
    }

    /// Whether it can be written to.
    pub fn probe(folder: &Path) -> std::io::Result<()> {
        // Always under one name: what a crash leaves of it is removed by the next one.
        let probe = folder.join(".probe");
        new_file(&probe)?.sync_all()?;
        match std::fs::remove_file(&probe) {
            // Another one that is at it was faster.
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn aside(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.part"))
    }

    pub fn begin(&self, name: &str) -> Result<Writing, Fault> {
        let (aside, path) = (self.aside(name), self.path(name));
        let file = new_file(&aside).map_err(|why| fault("written", &why))?;
        Ok(Writing { file, aside, path })
    }

    /// What is not there is removed already.
    pub fn remove(&self, name: &str) -> Result<(), Fault> {
        let remove = |path: &Path| match std::fs::remove_file(path) {
            Err(why) if why.kind() != ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        };
        let removed = remove(&self.aside(name)).and_then(|()| remove(&self.path(name)));
        removed.and_then(|()| sync(&self.folder)).map_err(|why| fault("removed", &why))
    }
}

impl Writing {
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_all(bytes).map_err(|why| fault("written", &why))
    }

    pub fn finish(self) -> Result<(), Fault> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let done = self.file.sync_all().and_then(|()| std::fs::rename(&self.aside, &self.path));
        done.and_then(|()| sync(folder)).map_err(|why| fault("written", &why))
    }
}

fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn fault(what: &str, why: &std::io::Error) -> Fault {
    Fault::Unavailable(format!("a file could not be {what}: {why}"))
}
