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
        for entry in fs::read_dir(&self.folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        copy_files(&self.shadow.path().join("names"), &self.folder);
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != ".new" {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
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
