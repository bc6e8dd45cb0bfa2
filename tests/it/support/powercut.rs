//! Power cuts: a process works in a folder on a file layer that remembers what was synced
//! (`powercut.c`); then it is killed and the folder set back to what a power cut would have left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder whose power can be cut.
pub struct PowerCut {
    shadow: tempfile::TempDir,
    folder: PathBuf,
    /// How many of 1,000 unsynced writes reach the disk all the same, some of them torn.
    leak_per_mille: u32,
}

impl PowerCut {
    /// Takes the folder as it is now for durable.
    pub fn over(folder: &Path, leak_per_mille: u32) -> Self {
        let shadow = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
        fs::create_dir(shadow.path().join("content")).unwrap();
        fs::create_dir(shadow.path().join("names")).unwrap();
        copy_files(folder, &shadow.path().join("names"));
        Self { shadow, folder: folder.to_owned(), leak_per_mille }
    }

    /// Makes `command` work on the remembering file layer.
    pub fn watch(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("POWERCUT_DIR", &self.folder)
            .env("POWERCUT_SHADOW", self.shadow.path())
            .env("POWERCUT_LEAK", self.leak_per_mille.to_string());
    }

    /// Sets the folder to what was durable. The process must have ended.
    pub fn restore(self) {
        for path in plain_files(&self.folder) {
            fs::remove_file(path).unwrap();
        }
        copy_files(&self.shadow.path().join("names"), &self.folder);
    }
}

fn copy_files(from: &Path, to: &Path) {
    for path in plain_files(from) {
        let name = path.file_name().unwrap();
        if name != ".new" {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// Folders inside of the folder and sockets are not the layer's business.
fn plain_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_type().unwrap().is_file()).map(|entry| entry.path()).collect()
}

/// Builds the layer once per process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/powercut.c");
        let built = folder.join(format!("powercut-{}.so", std::process::id()));
        let done = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wno-format-truncation", "-o"])
            .args([&built, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let library = folder.join("powercut.so");
        fs::rename(built, &library).unwrap();
        library
    })
}
