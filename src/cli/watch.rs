//! Watching a long command: a bar on a terminal, lines elsewhere; an interrupt asks it to stop and waits for its end.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Client, Context, Failure};

/// Longest time between two looks.
const LOOK: Duration = Duration::from_millis(150);
/// Time between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
const BAR_CELLS: u64 = 30;

/// A long command by its routes: started at `path`, looked at at `standing`, stopped at `standing`/stop.
pub struct Long {
    pub path: &'static str,
    pub standing: &'static str,
    pub what: &'static str,
    /// What becomes of it once it is interrupted.
    pub then: &'static str,
}

/// Starts it and waits for its report.
pub fn run(context: &mut Context, client: &Client, long: &Long, body: &Value) -> Result<Value, Failure> {
    let mut interrupt = client.enter(|| signal(SignalKind::interrupt()))?;
    let mut standing = client.post(long.path, body)?;
    let mut shown = Shown::new();
    // The first looks come soon: most runs are short.
    let mut look = Duration::from_millis(5);
    while standing["state"] == "running" {
        if client.pause(look, &mut interrupt) {
            shown.end(context);
            writeln!(context.out.err(), "{}: stopping; {}", long.what, long.then)?;
            client.post(&format!("{}/stop", long.standing), &json!({}))?;
        }
        look = (look * 2).min(LOOK);
        standing = client.get(long.standing)?;
        shown.show(context, long.what, &standing)?;
    }
    shown.end(context);
    match standing["state"].as_str() {
        Some("done" | "stopped") => Ok(standing["report"].clone()),
        _ => Err(Failure::unanswered(standing["error"].as_str().unwrap_or("the run cannot be found"))),
    }
}

/// What was shown last.
struct Shown {
    is_terminal: bool,
    bar: bool,
    line_at: Instant,
}

impl Shown {
    fn new() -> Self {
        Shown { is_terminal: std::io::stderr().is_terminal(), bar: false, line_at: Instant::now() }
    }

    fn show(&mut self, context: &mut Context, what: &str, standing: &Value) -> Result<(), Failure> {
        let number = |name: &str| standing[name].as_u64().unwrap_or(0);
        let (done, total) = (number("done"), number("total"));
        let Some(phase) = standing["phase"].as_str() else { return Ok(()) };
        let percent = (done.saturating_mul(100)).checked_div(total).unwrap_or(0).min(100);
        let far = if total == 0 { done.to_string() } else { format!("{done} of {total} ({percent} %)") };
        if self.is_terminal {
            let full = usize::try_from(percent * BAR_CELLS / 100).unwrap_or(0);
            let bar = "#".repeat(full);
            let cells = usize::try_from(BAR_CELLS).unwrap_or(0);
            write!(context.out.err(), "\r\x1b[K{phase:<12} [{bar:<cells$}] {far}")?;
            context.out.err().flush()?;
            self.bar = true;
        } else if self.line_at.elapsed() >= LINE {
            self.line_at = Instant::now();
            writeln!(context.out.err(), "{what}: {phase} {far}")?;
        }
        Ok(())
    }

    fn end(&mut self, context: &mut Context) {
        if std::mem::take(&mut self.bar) {
            let _shown = write!(context.out.err(), "\r\x1b[K");
        }
    }
}

/// Waits for a while, or for the signal; true: it came.
pub(super) async fn pause(time: Duration, interrupt: &mut Signal) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => false,
        interrupted = interrupt.recv() => interrupted.is_some(),
    }
}
