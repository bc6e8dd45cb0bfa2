//! The limits of the upstream client.

use std::time::Duration;

/// Longest time limit that makes sense, and that adding to the clock cannot overflow.
const LIMIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Limits of one worker's connections to upstreams.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name look-up, TCP and TLS together, waiting for another call's handshake included.
    pub connect_timeout: Duration,
    /// How long the upstream may take to read a request.
    pub write_timeout: Duration,
    /// From the end of the request to the end of the answer's head. A model that thinks before it
    /// answers as a whole needs minutes.
    pub header_timeout: Duration,
    /// Idle connections kept for one origin, per worker.
    pub idle_per_host_max: usize,
    /// How long a connection may be idle and still be used.
    pub idle_timeout: Duration,
    /// Whether HTTP/2 is offered in the TLS handshake.
    pub http2: bool,
    /// Whether no address is called but one of the public internet: where strangers say what is called.
    pub public_only: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(600),
            idle_per_host_max: 256,
            idle_timeout: Duration::from_secs(50),
            http2: true,
            public_only: false,
        }
    }
}

impl Settings {
    /// With time limits that can be added to the clock.
    pub(super) fn bounded(mut self) -> Self {
        for limit in [
            &mut self.connect_timeout,
            &mut self.write_timeout,
            &mut self.header_timeout,
            &mut self.idle_timeout,
        ] {
            *limit = (*limit).min(LIMIT_MAX);
        }
        self
    }
}
