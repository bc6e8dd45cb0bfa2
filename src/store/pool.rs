//! A small bounded set of connections, opened when needed and kept.
//!
//! Promises: never more than `max` connections at once; nobody waits longer than [`WAIT`]; a
//! connection that failed is not given out again.

use super::error::{Result, StoreError};
use parking_lot::{Condvar, Mutex};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// How long to wait for a free connection or for the writer's place before giving up.
pub(super) const WAIT: Duration = Duration::from_secs(10);

pub(super) struct Pool<C> {
    state: Mutex<State<C>>,
    freed: Condvar,
    max: usize,
}

struct State<C> {
    idle: Vec<Idle<C>>,
    open: usize,
}

struct Idle<C> {
    connection: C,
    since: Instant,
}

/// A connection on loan; it goes back when dropped.
pub(super) struct Lease<'p, C> {
    pool: &'p Pool<C>,
    connection: Option<C>,
}

impl<C> Pool<C> {
    pub(super) fn new(max: usize) -> Self {
        Self { state: Mutex::new(State { idle: Vec::new(), open: 0 }), freed: Condvar::new(), max }
    }

    /// Lends a connection. `still_good` is asked with the time that it lay idle.
    pub(super) fn get(
        &self,
        mut still_good: impl FnMut(&mut C, Duration) -> bool,
        open: impl FnOnce() -> Result<C>,
    ) -> Result<Lease<'_, C>> {
        let deadline = Instant::now() + WAIT;
        loop {
            match self.take_idle_or_place(deadline)? {
                Some(mut idle) => {
                    if still_good(&mut idle.connection, idle.since.elapsed()) {
                        return Ok(Lease { pool: self, connection: Some(idle.connection) });
                    }
                    drop(idle);
                    self.give_up_place();
                }
                None => {
                    return match open() {
                        Ok(connection) => Ok(Lease { pool: self, connection: Some(connection) }),
                        Err(error) => {
                            self.give_up_place();
                            Err(error)
                        }
                    };
                }
            }
        }
    }

    /// An idle connection, or `None` with a place reserved for a new one.
    fn take_idle_or_place(&self, deadline: Instant) -> Result<Option<Idle<C>>> {
        let mut state = self.state.lock();
        loop {
            if let Some(idle) = state.idle.pop() {
                return Ok(Some(idle));
            }
            if state.open < self.max {
                state.open += 1;
                return Ok(None);
            }
            if self.freed.wait_until(&mut state, deadline).timed_out() {
                return Err(StoreError::unavailable("every connection to the store is busy"));
            }
        }
    }

    fn give_up_place(&self) {
        self.state.lock().open -= 1;
        self.freed.notify_one();
    }
}

impl<C> Lease<'_, C> {
    /// Closes the connection instead of giving it back.
    pub(super) fn discard(mut self) {
        if self.connection.take().is_some() {
            self.pool.give_up_place();
        }
    }
}

impl<C> Deref for Lease<'_, C> {
    type Target = C;

    #[expect(clippy::expect_used, reason = "present from creation until drop or discard, which take self")]
    fn deref(&self) -> &C {
        self.connection.as_ref().expect("a lease holds its connection")
    }
}

impl<C> DerefMut for Lease<'_, C> {
    #[expect(clippy::expect_used, reason = "present from creation until drop or discard, which take self")]
    fn deref_mut(&mut self) -> &mut C {
        self.connection.as_mut().expect("a lease holds its connection")
    }
}

impl<C> Drop for Lease<'_, C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.state.lock().idle.push(Idle { connection, since: Instant::now() });
            self.pool.freed.notify_one();
        }
    }
}
