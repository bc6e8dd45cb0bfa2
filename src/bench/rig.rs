//! The one thread that plays both ends: the clients and the upstream, on one readiness loop.
//!
//! Both ends share a core while the proxy under test has the other, so they must cost less than
//! any proxy does, else the measurement shows the tools. One loop for both saves the switches
//! between them, and takes many ready sockets per system call.
//! Promises: timers fire within some microseconds, because the last two milliseconds are spun
//! away (the kernel's wait counts in milliseconds).
//! Never: it does not run while the caller does something else; call [`Rig::idle`] to wait.

use super::load::{Load, LoadReport, Plan};
use super::upstream::Upstream;
use mio::{Events, Poll, Token};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Tokens from here on belong to the load; below, to the upstream.
pub const LOAD_TOKENS: usize = 1 << 32;
const SPIN: Duration = Duration::from_millis(2);

pub struct Rig {
    poll: Poll,
    events: Events,
    upstream: Upstream,
}

impl Rig {
    /// Binds the upstream to a free port of the loopback.
    pub fn new() -> io::Result<Self> {
        Self::listening("127.0.0.1:0".parse().map_err(io::Error::other)?)
    }

    pub fn listening(addr: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let upstream = Upstream::bind(poll.registry(), addr)?;
        Ok(Self { poll, events: Events::with_capacity(512), upstream })
    }

    pub fn upstream_addr(&self) -> io::Result<SocketAddr> {
        self.upstream.addr()
    }

    /// Serves the upstream alone for a while.
    pub fn idle(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let next = self.upstream.turn(self.poll.registry(), now).map_or(end, |d| d.min(end));
            wait(&mut self.poll, &mut self.events, next)?;
            for event in &self.events {
                self.upstream.on_event(self.poll.registry(), event);
            }
        }
    }

    /// Runs a plan against `target` to its end, the upstream being served meanwhile.
    pub fn run(&mut self, target: SocketAddr, plan: Plan) -> io::Result<LoadReport> {
        let mut load = Load::start(self.poll.registry(), target, plan)?;
        loop {
            let now = Instant::now();
            let Some(load_next) = load.turn(self.poll.registry(), now) else {
                return Ok(load.finish());
            };
            let upstream_next = self.upstream.turn(self.poll.registry(), now);
            wait(&mut self.poll, &mut self.events, upstream_next.map_or(load_next, |d| d.min(load_next)))?;
            for event in &self.events {
                if event.token() < Token(LOAD_TOKENS) {
                    self.upstream.on_event(self.poll.registry(), event);
                } else {
                    load.on_event(self.poll.registry(), event);
                }
            }
        }
    }
}

/// Waits for events, at the longest until `deadline`; spins through the end of the wait.
fn wait(poll: &mut Poll, events: &mut Events, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let sleep = left.saturating_sub(SPIN);
    match poll.poll(events, Some(sleep)) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Pace;
    use crate::bench::workload::{SCENARIOS, Scenario};
    use std::io::{Read, Write};

    fn run(scenario: Scenario, pace: Pace, target: Option<SocketAddr>) -> LoadReport {
        let mut rig = Rig::new().expect("a rig");
        let target = target.unwrap_or(rig.upstream_addr().expect("an address"));
        let plan = Scenario { pace, ..scenario }.plan(target, "key", Duration::from_millis(120));
        rig.run(target, plan).expect("a run")
    }

    #[test]
    fn every_scenario_is_answered_whole_by_the_upstream_itself() {
        for scenario in SCENARIOS.into_iter().filter(|scenario| !scenario.is_refused()) {
            let report = run(scenario, Pace::Closed { connections: 3 }, None);
            assert!(report.good >= 3 && report.bad == 0, "{}: {:?}", scenario.name, report.first_bad);
        }
    }

    #[test]
    fn an_open_loop_sends_at_its_rate_and_counts_from_the_time_due() {
        let report = run(SCENARIOS[3], Pace::Open { per_second: 100 }, None);
        assert_eq!(report.bad, 0, "{:?}", report.first_bad);
        let sent = report.last_byte.quantile_ns(1000);
        assert!(sent >= 50_000_000, "an answer after {sent} ns, before the upstream gave it");
    }

    /// A server that answers every connection with the same bytes.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let addr = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        addr
    }

    #[test]
    fn a_refusal_is_good_where_it_is_the_one_that_was_to_come() {
        let refusal = *SCENARIOS.iter().find(|scenario| scenario.is_refused()).expect("a scenario");
        let unknown =
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 32\r\n\r\n{\"error\":{\"code\":\"unknown_key\"}}";
        let report = run(refusal, Pace::Closed { connections: 1 }, Some(server(unknown)));
        assert!(report.good > 0, "{:?}", report.first_bad);
        let revoked =
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 32\r\n\r\n{\"error\":{\"code\":\"key_revoked\"}}";
        for (answer, what) in [(Some(server(revoked)), "not the answer"), (None, "status 200")] {
            let report = run(refusal, Pace::Closed { connections: 1 }, answer);
            assert_eq!(report.good, 0);
            assert!(report.first_bad.is_some_and(|bad| bad.contains(what)), "{what}");
        }
    }

    #[test]
    fn answers_that_are_not_the_upstreams_count_as_bad() {
        let wrong = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n{\"id\":";
        let refused = "HTTP/1.1 402 Payment Required\r\ncontent-length: 2\r\n\r\n{}";
        for (answer, what) in [(wrong, "not the answer"), (cut, "closed"), (refused, "status 402")] {
            let report = run(SCENARIOS[0], Pace::Closed { connections: 1 }, Some(server(answer)));
            assert_eq!(report.good, 0);
            assert!(report.first_bad.is_some_and(|bad| bad.contains(what)), "{what}");
        }
    }
}
