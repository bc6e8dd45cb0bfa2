//! Long commands: one that runs beside the server, tells how far it is, and can be stopped.
//!
//! Promises: at most one run of a job at a time; a run that was asked to stop ends soon and in order; what the last run
//! ended with stays until the next begins. Must never: run on a thread that answers requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use serde_json::Value;

/// How far a run is, seen from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// A part of the work begins; `total` is in the units of [`Progress::reach`], 0: not known.
    pub fn begin(&self, phase: &'static str, total: u64) {
        *self.phase.lock() = phase;
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub fn reach(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    pub fn add(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Asks the run to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Phase, done and total.
    pub fn now(&self) -> (&'static str, u64, u64) {
        (*self.phase.lock(), self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// What a run ended with.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    Done(Value),
    /// Asked to stop; what was reached by then.
    Stopped(Value),
    /// It could not be done; the text is for who asked.
    Failed(String),
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Runs so far; the last one is told of.
    pub run: u64,
    pub running: bool,
    pub phase: &'static str,
    pub done: u64,
    pub total: u64,
    pub ended: Option<Ended>,
}

#[derive(Default)]
struct State {
    run: u64,
    running: Option<Arc<Progress>>,
    ended: Option<Ended>,
}

/// A kind of long command. Cheap to clone.
#[derive(Clone, Default)]
pub struct Job {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Job {
    /// Starts a run, unless one is under way. Returns the number of the run that is, and whether it is a new one.
    pub fn start(
        &self,
        work: impl FnOnce(&Progress) -> Ended + Send + 'static,
    ) -> std::io::Result<(u64, bool)> {
        let mut state = self.shared.0.lock();
        if state.running.is_some() {
            return Ok((state.run, false));
        }
        let (progress, shared) = (Arc::new(Progress::default()), Arc::clone(&self.shared));
        let seen = Arc::clone(&progress);
        let run = move || {
            // A run that panics must not look as if it went on.
            let guard = Ending { shared, ended: Some(Ended::Failed("the run broke off".to_owned())) };
            let ended = work(&seen);
            guard.end(ended);
        };
        std::thread::Builder::new().name("long-command".to_owned()).spawn(run)?;
        state.run += 1;
        state.running = Some(progress);
        state.ended = None;
        Ok((state.run, true))
    }

    pub fn standing(&self) -> Standing {
        let state = self.shared.0.lock();
        let (phase, done, total) = state.running.as_ref().map_or(("", 0, 0), |progress| progress.now());
        Standing {
            run: state.run,
            running: state.running.is_some(),
            phase,
            done,
            total,
            ended: state.ended.clone(),
        }
    }

    /// Asks the run to end, if there is one.
    pub fn stop(&self) {
        if let Some(progress) = &self.shared.0.lock().running {
            progress.stop();
        }
    }

    /// The same, and waits until it has ended.
    pub fn stop_blocking(&self) {
        self.stop();
        let mut state = self.shared.0.lock();
        while state.running.is_some() {
            self.shared.1.wait(&mut state);
        }
    }
}

/// Marks the run as ended, whatever happens to its thread.
struct Ending {
    shared: Arc<(Mutex<State>, Condvar)>,
    ended: Option<Ended>,
}

impl Ending {
    fn end(mut self, ended: Ended) {
        self.ended = Some(ended);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        state.running = None;
        state.ended = self.ended.take();
        self.shared.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn one_run_at_a_time_that_ends_when_it_is_asked_to() {
        let job = Job::default();
        let (begun, has_begun) = channel();
        let work = move |progress: &Progress| {
            progress.begin("waiting", 10);
            progress.reach(4);
            begun.send(()).unwrap();
            while !progress.is_stopped() {
                std::thread::yield_now();
            }
            Ended::Stopped(Value::from(4))
        };
        assert_eq!(job.start(work).unwrap(), (1, true));
        has_begun.recv().unwrap();
        let standing = job.standing();
        assert_eq!(
            (standing.running, standing.phase, standing.done, standing.total),
            (true, "waiting", 4, 10)
        );
        assert_eq!(job.start(|_| Ended::Done(Value::Null)).unwrap(), (1, false));
        job.stop_blocking();
        assert_eq!(job.standing().ended, Some(Ended::Stopped(Value::from(4))));
        assert_eq!(job.start(|_| Ended::Done(Value::Null)).unwrap(), (2, true));
    }

    #[test]
    fn a_run_that_panics_has_failed() {
        let job = Job::default();
        job.start(|_| panic!("planted")).unwrap();
        job.stop_blocking();
        assert_eq!(job.standing().ended, Some(Ended::Failed("the run broke off".to_owned())));
    }
}
