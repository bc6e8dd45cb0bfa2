//! Telling those who wait that a batch is on disk.
//!
//! The committer publishes one number: every batch up to it is durable. A waiter registers with the port of
//! its worker thread, and the committer rings each port at most once per commit; the port's own task then
//! wakes its waiters inside their thread. So a commit costs one wake-up per worker, not one per call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Where a record stands in the journal: wait for its batch before an answer may say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// Number of the batch that holds the record.
    pub batch: u64,
}

/// The books have stopped: what was waited for will not become durable in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

pub struct Durability {
    durable: AtomicU64,
    stopped: AtomicBool,
    ports: Vec<Port>,
    /// For threads that block.
    blocked: Mutex<()>,
    published: Condvar,
}

struct Port {
    waiting: Mutex<Vec<(u64, Waker)>>,
    rung: Notify,
}

impl Durability {
    /// One port per worker; at least one.
    pub fn new(ports: usize, durable: u64) -> Arc<Self> {
        let port = || Port { waiting: Mutex::new(Vec::new()), rung: Notify::new() };
        Arc::new(Durability {
            durable: AtomicU64::new(durable),
            stopped: AtomicBool::new(false),
            ports: (0..ports.max(1)).map(|_| port()).collect(),
            blocked: Mutex::new(()),
            published: Condvar::new(),
        })
    }

    /// Every batch up to this number is on disk.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Called by the committer after a batch was synced.
    pub fn publish(&self, batch: u64) {
        self.durable.store(batch, Ordering::Release);
        self.ring();
    }

    /// Called when no batch will be committed any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        for port in &self.ports {
            if !port.waiting.lock().is_empty() {
                port.rung.notify_one();
            }
        }
        let _blocked = self.blocked.lock();
        self.published.notify_all();
    }

    /// Serves one port for ever; each worker runs it as a task of its own.
    pub async fn serve_port(self: Arc<Self>, port: usize) {
        let Some(port) = self.ports.get(port) else { return };
        let mut due = Vec::new();
        loop {
            port.rung.notified().await;
            let (durable, stopped) = (self.durable(), self.stopped());
            due.extend(port.waiting.lock().extract_if(.., |(batch, _)| *batch <= durable || stopped));
            for (_, waker) in due.drain(..) {
                waker.wake();
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn state(&self, ticket: Ticket) -> Option<Result<(), Stopped>> {
        if self.durable() >= ticket.batch { Some(Ok(())) } else { self.stopped().then_some(Err(Stopped)) }
    }

    /// Waits until the ticket's batch is on disk. The port must be served.
    pub fn wait(self: &Arc<Self>, port: usize, ticket: Ticket) -> Wait {
        let port = if port < self.ports.len() { port } else { 0 };
        Wait { durability: Arc::clone(self), port, ticket }
    }

    /// The same for a thread that may block.
    pub fn wait_blocking(&self, ticket: Ticket) -> Result<(), Stopped> {
        let mut blocked = self.blocked.lock();
        loop {
            match self.state(ticket) {
                Some(result) => return result,
                None => self.published.wait(&mut blocked),
            }
        }
    }
}

/// Future of [`Durability::wait`].
pub struct Wait {
    durability: Arc<Durability>,
    port: usize,
    ticket: Ticket,
}

impl Future for Wait {
    type Output = Result<(), Stopped>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.durability.state(self.ticket) {
            return Poll::Ready(result);
        }
        let Some(port) = self.durability.ports.get(self.port) else { return Poll::Ready(Err(Stopped)) };
        let mut waiting = port.waiting.lock();
        // Published between the look and the lock: the committer may have rung before we were listed.
        if let Some(result) = self.durability.state(self.ticket) {
            return Poll::Ready(result);
        }
        waiting.push((self.ticket.batch, context.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_is_woken_by_the_commit_of_its_batch() {
        let durability = Durability::new(1, 0);
        let port = tokio::spawn(Arc::clone(&durability).serve_port(0));
        let early = tokio::spawn(durability.wait(0, Ticket { batch: 1 }));
        let late = tokio::spawn(durability.wait(0, Ticket { batch: 2 }));
        tokio::task::yield_now().await;
        durability.publish(1);
        assert_eq!(early.await.unwrap(), Ok(()));
        assert!(!late.is_finished());
        durability.publish(2);
        assert_eq!(late.await.unwrap(), Ok(()));
        port.abort();
    }

    #[tokio::test]
    async fn a_stop_is_told_to_whoever_still_waits() {
        let durability = Durability::new(1, 7);
        let port = tokio::spawn(Arc::clone(&durability).serve_port(0));
        assert_eq!(durability.wait(0, Ticket { batch: 7 }).await, Ok(()));
        let waiting = tokio::spawn(durability.wait(0, Ticket { batch: 8 }));
        tokio::task::yield_now().await;
        durability.stop();
        assert_eq!(waiting.await.unwrap(), Err(Stopped));
        assert_eq!(durability.wait_blocking(Ticket { batch: 8 }), Err(Stopped));
        port.abort();
    }
}
