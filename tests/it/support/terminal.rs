//! A program on a terminal, as somebody sits before it: what it shows is read, and Ctrl-C is a key.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use super::demo::wait_until;

/// What Ctrl-C sends.
const INTERRUPT: &[u8] = b"\x03";

pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// Runs the command on a terminal of its own (`script` of Debian's bsdutils, which is always there).
    pub fn run(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''")));
        // The program takes the shell's place, so that nothing stands between it and the key.
        let line = format!("exec {}", quoted.collect::<Vec<_>>().join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = script.spawn().unwrap();
        let (keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                seen.lock().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Terminal { child, keys, shown }
    }

    /// Waits until the screen has shown this.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(&format!("the terminal shows {text}"), || self.shown.lock().contains(text));
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&mut self) {
        self.keys.write_all(INTERRUPT).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for its end: how it ended, and all that was shown.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        wait_until("the command has ended", || self.child.try_wait().unwrap().is_some());
        let code = self.child.wait().unwrap().code();
        let shown = self.shown.lock().clone();
        (code, shown)
    }
}
