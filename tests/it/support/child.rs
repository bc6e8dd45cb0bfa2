//! A part of a test in a process of its own: an ignored test of this very binary.

use std::process::{Command, Stdio};

/// A command that runs the ignored test `name` (its full path) alone, its output unchanged.
pub fn child(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", name]);
    command.stdin(Stdio::null());
    command
}

/// A variable that the parent has set for its child.
pub fn given(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: this test is run by another one"))
}
