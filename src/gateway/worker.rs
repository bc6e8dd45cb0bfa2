//! What a gateway and each of its worker threads hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;

use crate::alerts::Alert;
use crate::app::App;
use crate::catalogue::{Code, Refusal};
use crate::directory::KeyStatus;
use crate::id::KeyId;
use crate::notices::{Facts, NewNotice};
use crate::risk::{self, Finding, KeyInPage};

use super::channel_health::Told;
use super::facts::{Ending, Endpoint};
use super::flood::Flood;
use super::identify;
use super::ladder::{self, HoldPolicy};
use super::recent::Recent;
use super::retry_budget::RetryBudget;
use super::route::Routes;
use super::upstream::{Settings, Tls, Upstreams};

/// Shared by all workers.
pub struct Gateway {
    pub app: Arc<App>,
    pub router: axum::Router,
    /// Where callers reach the gateway, without a slash at the end.
    pub public_url: String,
    pub policy: HoldPolicy,
    json_bytes_max: u64,
    upload_bytes_max: u64,
    pub header_bytes_max: usize,
    pub arrival_timeout: Duration,
    pub body_timeout: Duration,
    pub header_timeout_ms: u64,
    pub idle_timeout: Duration,
    pub total_timeout: Duration,
    /// Channels that one call is sent to at the most.
    pub attempts_max: usize,
    pub drain_timeout: Duration,
    pub drain_bytes_max: u64,
    pub connections: Arc<tokio::sync::Semaphore>,
    pub flood: Flood,
    pub recent: Recent,
    calls: AtomicUsize,
    /// Rung when running calls may have to end.
    signal: watch::Sender<Signal>,
}

/// What running calls are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signal {
    /// All of them must end.
    stop: bool,
    /// Version of the directory: a key may have been stopped.
    directory: u64,
}

/// Why a running call must end.
#[derive(Debug)]
pub enum Interrupt {
    Shutdown,
    /// Its key was frozen or revoked.
    KeyStopped(Box<Refusal>),
}

impl Interrupt {
    pub fn ending(&self) -> Ending {
        match self {
            Interrupt::Shutdown => Ending::Shutdown,
            Interrupt::KeyStopped(_) => Ending::KeyStopped,
        }
    }

    /// What a caller is told to whom nothing was delivered yet.
    pub fn refusal(self) -> Refusal {
        match self {
            Interrupt::Shutdown => Refusal::new(Code::GatewayOverloaded),
            Interrupt::KeyStopped(refusal) => *refusal,
        }
    }
}

impl Gateway {
    pub fn new(app: Arc<App>, router: axum::Router, public_url: String) -> Self {
        let (limits, upstream) = (&app.config.limits, &app.config.upstream);
        Gateway {
            router,
            public_url,
            policy: app.hold_policy(),
            json_bytes_max: limits.request_body_bytes_max,
            upload_bytes_max: limits.upload_bytes_max,
            header_bytes_max: limits.header_bytes_max as usize,
            arrival_timeout: Duration::from_millis(limits.header_timeout_ms),
            body_timeout: Duration::from_millis(limits.body_timeout_ms),
            header_timeout_ms: upstream.header_timeout_ms,
            idle_timeout: Duration::from_millis(limits.stream_idle_timeout_ms),
            total_timeout: Duration::from_millis(upstream.total_timeout_ms),
            attempts_max: upstream.attempts_max as usize,
            drain_timeout: Duration::from_millis(limits.drain_ms_max),
            drain_bytes_max: limits.drain_bytes_max,
            connections: Arc::new(tokio::sync::Semaphore::new(limits.connections_max as usize)),
            calls: AtomicUsize::new(0),
            flood: Flood::default(),
            recent: Recent::default(),
            signal: watch::Sender::default(),
            app,
        }
    }

    /// How large a request's body may be: where files are sent, more.
    pub fn body_bytes_max(&self, endpoint: Endpoint, headers: &HeaderMap) -> u64 {
        match identify::is_upload(endpoint, headers) {
            true => self.upload_bytes_max,
            false => self.json_bytes_max,
        }
    }

    /// Ends when a running call of this key must end.
    pub async fn interrupted(&self, key: KeyId) -> Interrupt {
        let mut signal = self.signal.subscribe();
        loop {
            if signal.borrow_and_update().stop {
                return Interrupt::Shutdown;
            }
            if let Some(refusal) = self.key_stopped(key) {
                return Interrupt::KeyStopped(Box::new(refusal));
            }
            // The sender lives as long as the gateway.
            let _ = signal.changed().await;
        }
    }

    /// Ends when all that runs must end.
    pub async fn stopped(&self) {
        // The sender lives as long as the gateway.
        let _ = self.signal.subscribe().wait_for(|signal| signal.stop).await;
    }

    /// A key that is frozen or revoked ends what runs; one that is disabled lets it come to its end.
    fn key_stopped(&self, key: KeyId) -> Option<Refusal> {
        let snapshot = self.app.directory.snapshot();
        let key = snapshot.key(key)?;
        let at = jiff::Timestamp::from_millisecond(self.app.clock.now_ms()).unwrap_or(jiff::Timestamp::MAX);
        match key.status_at(at) {
            KeyStatus::RiskFrozen => ladder::key_status(key, at).err(),
            KeyStatus::Revoked => Some(Refusal::new(Code::KeyRevoked).param("key", key.id.to_string())),
            KeyStatus::Enabled | KeyStatus::Disabled | KeyStatus::PendingReview => None,
        }
    }

    /// Records what was refused too often to be recorded one by one.
    pub fn record_floods(&self) {
        for decided in self.flood.drain(self.app.clock.mono_ns()) {
            if let Err(why) = self.app.books.record_refusal(decided) {
                tracing::error!(%why, "a count of refused calls could not be recorded");
            }
        }
    }

    /// Tells of budgets and balances that run low. Blocks.
    pub fn tell_alerts(&self, alerts: &[Alert]) {
        let snapshot = self.app.directory.snapshot_owned();
        for alert in alerts {
            if let Err(why) =
                alert.tell(&self.app.notices, &self.app.projections, &snapshot, self.app.currency())
            {
                tracing::error!(%why, "a notice could not be written");
            }
        }
    }

    /// Tells operators of credentials of channels that they have to see to. Blocks.
    pub fn tell_channels(&self, told: &[Told]) {
        let snapshot = self.app.directory.snapshot_owned();
        for told in told {
            let Some(channel) = snapshot.channel(told.channel) else { continue };
            let rest_ms = i64::try_from(told.rest_ns / 1_000_000).unwrap_or(i64::MAX);
            let until = (rest_ms > 0).then(|| self.app.clock.now_ms().saturating_add(rest_ms));
            let facts = Facts::ChannelCoolingDown {
                name: channel.name.clone(),
                reason: told.reason,
                credential: u32::try_from(told.credential).unwrap_or(u32::MAX),
                until: until.and_then(|until| jiff::Timestamp::from_millisecond(until).ok()),
            };
            let notice = NewNotice { account: None, subject: told.channel.into(), facts };
            if let Err(why) = self.app.notices.post(notice) {
                tracing::error!(channel = %told.channel, %why, "a notice could not be written");
            }
        }
    }

    /// Tells of live keys that were seen in pages. Blocks.
    pub fn tell_pages(&self, pages: Vec<KeyInPage>) {
        let snapshot = self.app.directory.snapshot_owned();
        for page in pages {
            let Some(key) = snapshot.key(page.key) else { continue };
            let facts = Facts::LiveKeyFromBrowser { name: key.name.clone(), origin: page.origin };
            let notice = NewNotice { account: Some(key.account), subject: key.id.into(), facts };
            if let Err(why) = self.app.notices.post(notice) {
                tracing::error!(key = %page.key, %why, "a notice could not be written");
            }
        }
    }

    /// Freezes keys that a risk rule found. Blocks.
    pub fn freeze(&self, found: &[Finding]) {
        let now = jiff::Timestamp::from_millisecond(self.app.clock.now_ms()).unwrap_or(jiff::Timestamp::MAX);
        for finding in found {
            match risk::freeze(&self.app.directory, finding, now) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    tracing::warn!(key = %finding.key, reason = finding.reason.as_str(), "a key was frozen");
                }
                Err(why) => tracing::error!(key = %finding.key, %why, "a key could not be frozen"),
            }
        }
    }

    /// Tells running calls to end.
    pub fn stop(&self) {
        self.signal.send_modify(|signal| signal.stop = true);
    }

    /// Lets running calls look at their keys again if the directory has changed. Called several times a second, so
    /// that a frozen key ends its streams within one.
    pub fn notice_changes(&self) {
        let version = self.app.directory.snapshot().version();
        let changed = self.signal.send_if_modified(|signal| {
            let changed = signal.directory != version;
            signal.directory = version;
            changed
        });
        if changed {
            self.app.notices.wake();
        }
    }

    /// Admitted calls that have not ended.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    /// Counts a call until the guard is dropped.
    pub fn count_call(self: &Arc<Self>) -> Running {
        self.calls.fetch_add(1, Ordering::AcqRel);
        Running(Arc::clone(self))
    }
}

/// See [`Gateway::count_call`].
pub struct Running(Arc<Gateway>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One worker thread's own.
pub struct Worker {
    pub gateway: Arc<Gateway>,
    pub upstreams: Upstreams,
    pub routes: Routes,
    pub retries: RetryBudget,
    /// Where this thread hears of commits.
    pub port: usize,
}

impl Worker {
    pub fn new(gateway: Arc<Gateway>, tls: &Tls, port: usize) -> Self {
        let upstream = &gateway.app.config.upstream;
        let settings = Settings {
            connect_timeout: Duration::from_millis(upstream.connect_timeout_ms),
            header_timeout: Duration::from_millis(upstream.header_timeout_ms),
            idle_per_host_max: upstream.pool_idle_per_host_max as usize,
            idle_timeout: Duration::from_millis(upstream.pool_idle_timeout_ms),
            http2: upstream.http2,
            ..Settings::default()
        };
        Worker {
            upstreams: Upstreams::new(settings, tls),
            routes: Routes::default(),
            retries: RetryBudget::new(upstream.retry_share_percent),
            gateway,
            port,
        }
    }
}
