//! A library of somebody else, in a process of its own: one JSON object a line in, one out (`tests/sdk/python`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

pub struct Library {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Library {
    /// By the name of its script.
    pub fn start(script: &str) -> Self {
        let python = crate::sdk::installed().join("venv/bin/python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/python").join(script);
        let mut command = Command::new(python);
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Library { child, ask, answers: BufReader::new(answers) }
    }

    pub fn ask(&mut self, ask: &Value) -> Value {
        writeln!(self.ask, "{ask}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no answer to {ask}"))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _exit = self.child.wait();
    }
}
