//! Connections that wait for their next call.
//!
//! For: [`super::Upstreams`]; one pool per worker, so there is no lock and no atomic in it.
//! Promises: last in, first out, so that a quiet time lets the rest grow old and go; at most
//! `idle_per_host_max` idle connections per origin; a connection is looked at before it is handed
//! out, and never handed out after its time.
//! Must never: keep a connection whose answer was not read to its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::h1::Connection;
use super::h2::Shared;

/// A connection that was idle longer than this is checked in the kernel before it is used; below,
/// what the runtime has heard of it is good enough, and costs no system call.
const TRUST_FOR: Duration = Duration::from_millis(500);

/// Taken off the time for which an upstream says it keeps a connection, so that a call does not
/// cross the upstream's farewell on the way.
const KEEP_FOR_MARGIN: Duration = Duration::from_secs(1);

/// Connections to one origin.
#[derive(Default)]
pub(super) struct Host {
    idle: RefCell<Vec<Idle>>,
    /// Shared HTTP/2 connections.
    pub shared: RefCell<Vec<Rc<Shared>>>,
    /// Known not to speak HTTP/2: calls need not wait for each other's handshake.
    pub http1_only: Cell<bool>,
    /// Held while the first connection is made that later calls may share.
    pub connecting: Mutex<()>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
    until: Instant,
}

/// All origins that a worker talks to.
#[derive(Default)]
pub(super) struct Pool {
    hosts: RefCell<HashMap<String, Rc<Host>>>,
}

impl Pool {
    pub fn host(&self, key: &str) -> Rc<Host> {
        let mut hosts = self.hosts.borrow_mut();
        if let Some(host) = hosts.get(key) {
            return Rc::clone(host);
        }
        let host = Rc::<Host>::default();
        hosts.insert(key.to_owned(), Rc::clone(&host));
        host
    }

    /// Closes what has waited too long, and forgets origins without connections.
    pub fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.hosts.borrow_mut().retain(|_, host| {
            host.sweep(now, idle_timeout);
            // A call under way holds the host, and will bring its connection back.
            Rc::strong_count(host) > 1 || !host.is_empty()
        });
    }

    /// Idle connections, and shared ones, of all origins.
    pub fn count(&self) -> (usize, usize) {
        self.hosts.borrow().values().fold((0, 0), |(idle, shared), host| {
            (idle + host.idle.borrow().len(), shared + host.shared.borrow().len())
        })
    }
}

impl Host {
    /// The connection that was used last and is still good.
    pub fn take(&self, now: Instant) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(last) = idle.pop() {
            let ask_kernel = now.saturating_duration_since(last.since) > TRUST_FOR;
            if now < last.until && last.connection.is_quiet(ask_kernel) {
                return Some(last.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next call, or closes it: when its answer did not end cleanly,
    /// when the upstream is about to close it, or when there are enough.
    pub fn put(&self, mut connection: Box<Connection>, max: usize, idle_timeout: Duration) {
        let keep = match connection.keep_for {
            Some(told) => told.saturating_sub(KEEP_FOR_MARGIN).min(idle_timeout),
            None => idle_timeout,
        };
        let mut idle = self.idle.borrow_mut();
        if keep.is_zero() || idle.len() >= max || !connection.wire().is_reusable() {
            return;
        }
        connection.rest();
        let since = Instant::now();
        idle.push(Idle { connection, since, until: since + keep });
    }

    fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.idle.borrow_mut().retain(|idle| now < idle.until && idle.connection.is_quiet(true));
        self.shared.borrow_mut().retain(|shared| shared.is_worth_keeping(now, idle_timeout));
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty()
    }
}
