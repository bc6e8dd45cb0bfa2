//! The simulated upstream as a process of its own. It outlives a gateway that is killed, and a demo that is
//! started again on the same folder finds it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// In the demo's folder: where the running upstream is.
const READY_FILE: &str = "upstream.json";
/// How long an upstream that was told to end may take.
const END_POLLS_MAX: u32 = 250;
const END_POLL: Duration = Duration::from_millis(20);

/// A running upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// Base URL for a channel.
    pub url: String,
    pub bill_url: String,
    /// Where the simulated payment providers are.
    pub payments_url: String,
    pub pid: u32,
}

/// The upstream of this folder: the one that runs, or a new one.
pub fn find_or_start(dir: &Path) -> io::Result<Companion> {
    if let Some(running) = find(dir) {
        return Ok(running);
    }
    let folder = dir.join("upstream");
    std::fs::create_dir_all(&folder)?;
    let log = File::options().create(true).append(true).open(folder.join("upstream.log"))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["demo-upstream", "--listen", "127.0.0.1:0", "--ready-json", "--dir"])
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A group of its own: what ends the gateway from the terminal does not end the upstream's bill.
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    let out = child.stdout.take().ok_or_else(|| io::Error::other("the upstream has no output"))?;
    BufReader::new(out).read_line(&mut line)?;
    let started: Companion = serde_json::from_str(&line)
        .map_err(|why| io::Error::other(format!("the simulated upstream did not start: {why}")))?;
    std::fs::write(ready_path(dir), line)?;
    Ok(started)
}

/// The upstream that was started for this folder, if it still runs.
pub fn find(dir: &Path) -> Option<Companion> {
    let text = std::fs::read_to_string(ready_path(dir)).ok()?;
    let known: Companion = serde_json::from_str(&text).ok()?;
    is_ours(known.pid).then_some(known)
}

/// Ends the upstream and waits until it is gone.
pub fn stop(dir: &Path) {
    if let Some(running) = find(dir) {
        signal(running.pid, libc::SIGTERM);
        for _ in 0..END_POLLS_MAX {
            if !is_ours(running.pid) {
                break;
            }
            std::thread::sleep(END_POLL);
        }
    }
    let _none = std::fs::remove_file(ready_path(dir));
}

fn ready_path(dir: &Path) -> PathBuf {
    dir.join(READY_FILE)
}

/// Whether the process is a simulated upstream, and not another one that got its number.
fn is_ours(pid: u32) -> bool {
    reap(pid);
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|argument| argument == b"demo-upstream")
}

fn signal(pid: u32, signal: i32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    #[expect(unsafe_code, reason = "std can signal its own children only, and this may be an earlier demo's")]
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let _sent = unsafe { libc::kill(pid, signal) };
}

/// Takes the exit status of a child that has ended; does nothing for any other process.
fn reap(pid: u32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    #[expect(unsafe_code, reason = "the child was started by this module and its handle is long gone")]
    // SAFETY: a null status pointer is allowed; WNOHANG never waits.
    let _reaped = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
}
