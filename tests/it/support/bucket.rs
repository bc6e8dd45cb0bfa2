//! Storage that speaks S3 and verifies signatures, in a process of its own (`tests/sdk/node/s3.mjs`): a test stops it,
//! starts it again, and sees what lies in its bucket.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::port::Port;

pub const SECRET: &str = "the-secret-of-the-bucket";
const ID: &str = "gateway";
const NAME: &str = "results";

pub struct Bucket {
    folder: tempfile::TempDir,
    port: Port,
    server: Option<Child>,
}

impl Bucket {
    pub fn start() -> Self {
        let mut bucket = Self::without_bucket();
        bucket.run(&[NAME]);
        bucket
    }

    /// Nobody listens, and there is no bucket.
    pub fn without_bucket() -> Self {
        Bucket { folder: tempfile::tempdir().unwrap(), port: Port::reserve(), server: None }
    }

    /// Starts it, with a bucket or with what is there.
    pub fn run(&mut self, bucket: &[&str]) {
        let script = crate::sdk::installed().join("node/s3.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(self.data()).arg(self.port.address.port().to_string()).args([ID, SECRET]);
        let server = command.args(bucket).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut server = server.unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        self.server = Some(server);
    }

    pub fn run_with_bucket(&mut self) {
        self.run(&[NAME]);
    }

    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Answers everything with 503, or no more.
    pub fn fail(&self, fails: bool) {
        let mark = self.folder.path().join("data.fail");
        match fails {
            true => std::fs::write(mark, "").unwrap(),
            false => std::fs::remove_file(mark).unwrap(),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Files with the content of each object, in order.
    pub fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.data(), &mut found);
        found.sort();
        found
    }

    /// Of a gateway that copies there, with this secret.
    pub fn settings(&self, secret: &str) -> Vec<(&'static str, String)> {
        let endpoint = format!("http://{}", self.port.address);
        [
            ("copies.to", "s3"),
            ("copies.s3_endpoint", &endpoint),
            ("copies.s3_bucket", NAME),
            ("copies.s3_prefix", "gateway/copies"),
            ("copies.s3_access_key_id", ID),
            ("copies.s3_secret_access_key", secret),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
    }
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.to_string_lossy().ends_with("_object") {
            found.push(path);
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop();
    }
}
