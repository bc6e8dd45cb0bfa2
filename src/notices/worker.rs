//! Sends what is due: one thread, which may block. Webhooks of a round go out side by side, so that a slow receiver
//! does not hold up the others; mails one by one.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;

use crate::clock::Entropy;
use crate::config::Mail;
use crate::directory::{DirectoryError, EndpointStatus, NoticeEndpoint, NoticeTarget};
use crate::gateway::upstream::{Tls, TlsSetupError, Upstreams};
use crate::id::NoticeEndpointId;
use crate::store::StoreError;

use super::mail::{MailError, Mailer};
use super::stored::{self, Channel, Due, Outcome};
use super::{Notices, webhook};

/// Attempts of one delivery; with the pauses between them they take up to 17 hours.
pub const ATTEMPTS_MAX: u32 = 14;
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// How long an endpoint is left alone after a failed attempt, at the most.
const ENDPOINT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// An attempt that has not ended after this time was cut short by the end of its process, and the next one is made.
pub const LEASE: Duration = Duration::from_secs(180);
/// Deliveries of a round, at the most.
const ROUND_MAX: u32 = 16;
/// Longest wait without looking, so that a jump of the clock is noticed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time before a store that could not be reached is asked again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Characters of an error that the delivery log keeps.
const ERROR_CHARS_MAX: usize = 300;

/// The ways out of the house.
pub struct Sender {
    runtime: tokio::runtime::Runtime,
    webhooks: Upstreams,
    /// For those whose URL a member named.
    webhooks_of_members: Upstreams,
    mailer: Option<Mailer>,
}

/// Why nothing can be sent.
#[derive(Debug)]
pub enum StartError {
    Runtime(std::io::Error),
    Tls(TlsSetupError),
    Mail(MailError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(why) => write!(f, "notices cannot be sent: {why}"),
            Self::Tls(why) => write!(f, "notices cannot be sent: {why}"),
            Self::Mail(why) => write!(f, "notices cannot be mailed: {why}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Runtime(why) => Some(why),
            Self::Tls(why) => Some(why),
            Self::Mail(why) => Some(why),
        }
    }
}

impl Sender {
    /// To be used by the thread that made it.
    pub fn new(tls: &Tls, mail: &Mail) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Sender {
            runtime: runtime.map_err(StartError::Runtime)?,
            webhooks: webhook::client(tls, false),
            webhooks_of_members: webhook::client(tls, true),
            mailer: Mailer::new(mail).map_err(StartError::Mail)?,
        })
    }
}

/// The running thread.
pub struct Worker {
    notices: Arc<Notices>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// No further attempt is begun.
    pub fn ask_to_stop(&self) {
        self.notices.wake.tell(|state| state.stop = true);
    }

    /// Ends the thread, after the attempt that is under way.
    pub fn stop_blocking(self) {
        self.ask_to_stop();
        if self.thread.join().is_err() {
            tracing::error!("the sender of notices ended by a fault");
        }
    }
}

/// A delivery that is this worker's to attempt.
struct Claimed {
    due: Due,
    /// Which attempt it is, from 1.
    attempt: u32,
    endpoint: Arc<NoticeEndpoint>,
}

/// A webhook ready to be sent.
struct Post {
    claimed: Claimed,
    url: Box<str>,
    body: bytes::Bytes,
    signature: String,
}

impl Notices {
    /// Starts sending, with what an earlier process left.
    pub fn start(self: &Arc<Self>, mail: &Mail) -> Result<Worker, StartError> {
        let tls = Tls::new(None).map_err(StartError::Tls)?;
        let (notices, mail) = (Arc::clone(self), mail.clone());
        // What is wrong with the settings is told by whoever starts, not by the thread.
        Mailer::new(&mail).map_err(StartError::Mail)?;
        let thread = std::thread::Builder::new().name("notices".into()).spawn(move || {
            match Sender::new(&tls, &mail) {
                Ok(sender) => notices.run(&sender),
                Err(why) => tracing::error!(%why, "the sender of notices did not start"),
            }
        });
        Ok(Worker { notices: Arc::clone(self), thread: thread.map_err(StartError::Runtime)? })
    }

    fn run(&self, sender: &Sender) {
        loop {
            let patience = match self.round(sender) {
                Ok(0) => self.until_next(),
                Ok(_) => Ok(Duration::ZERO),
                Err(why) => Err(why),
            };
            let patience = patience.unwrap_or_else(|why| {
                tracing::warn!(%why, "notices could not be sent; trying again");
                STORE_RETRY
            });
            if !self.wake.wait(patience) {
                return;
            }
        }
    }

    fn until_next(&self) -> Result<Duration, StoreError> {
        let next = stored::next_due(&self.db)?;
        let ms = next.map(|next| next.saturating_sub(self.clock.now_ms()).max(0).unsigned_abs());
        Ok(ms.map_or(PATIENCE, |ms| Duration::from_millis(ms).min(PATIENCE)))
    }

    /// Attempts what is due by now, some at a time; returns how many that were. The thread does nothing but this.
    pub fn round(&self, sender: &Sender) -> Result<usize, StoreError> {
        self.tell_changes()?;
        let due = stored::due(&self.db, self.clock.now_ms(), ROUND_MAX)?;
        let count = due.len();
        let (webhooks, mails): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|due| due.channel == Channel::Webhook);
        // What is claimed is sent, even if the next one cannot be.
        let claimed: Vec<_> = webhooks.into_iter().map(|due| self.claim(due)).collect();
        let (claimed, failed): (Vec<_>, Vec<_>) = claimed.into_iter().partition(Result::is_ok);
        let posts = claimed.into_iter().flatten().flatten().filter_map(|claimed| self.post_of(claimed));
        self.send_posts(sender, posts.collect());
        if let Some(Err(why)) = failed.into_iter().next() {
            return Err(why);
        }
        for due in mails {
            if self.wake.is_stopped() {
                break;
            }
            if let Some(claimed) = self.claim(due)? {
                self.send_mail(sender, &claimed);
            }
        }
        Ok(count)
    }

    /// `None` if there is nothing to attempt: another node does, or nobody will any more.
    fn claim(&self, due: Due) -> Result<Option<Claimed>, StoreError> {
        let endpoint = self.endpoint(due.endpoint);
        let refused = match &endpoint {
            _ if due.attempts >= ATTEMPTS_MAX => Some("the last attempt did not end"),
            Some(endpoint) if endpoint.status == EndpointStatus::Disabled => Some("the endpoint is disabled"),
            Some(_) => None,
            None => Some("the endpoint is not known"),
        };
        if let Some(why) = refused {
            stored::finish(&self.db, &due, due.attempts, &Outcome::Dead { error: why.to_owned() })?;
            return Ok(None);
        }
        let now_ms = self.clock.now_ms();
        let claimed = stored::claim(&self.db, &due, now_ms, later(now_ms, LEASE))?;
        let attempt = due.attempts + 1;
        Ok(endpoint.filter(|_| claimed).map(|endpoint| Claimed { due, attempt, endpoint }))
    }

    /// The endpoint as it is now. One that seems not to be in use may have been made or changed by another node.
    fn endpoint(&self, id: NoticeEndpointId) -> Option<Arc<NoticeEndpoint>> {
        let known = || self.directory.snapshot().notice_endpoint(id).cloned();
        let found = known();
        if found.as_ref().is_some_and(|endpoint| endpoint.status == EndpointStatus::Enabled) {
            return found;
        }
        if let Err(why) = self.directory.refresh() {
            tracing::warn!(%why, "changes of other nodes could not be read");
        }
        known()
    }

    /// Writes the request. One that cannot be written is a failed attempt.
    fn post_of(&self, claimed: Claimed) -> Option<Post> {
        let NoticeTarget::Webhook { url } = &claimed.endpoint.target else {
            self.finish(&claimed, Err("the endpoint is no webhook".to_owned()));
            return None;
        };
        match self.signed(&claimed) {
            Ok((body, signature)) => Some(Post { url: url.clone(), body, signature, claimed }),
            Err(why) => {
                tracing::error!(%why, endpoint = %claimed.endpoint.id, "a webhook's secret cannot be opened");
                self.finish(&claimed, Err(why.to_string()));
                None
            }
        }
    }

    fn signed(&self, claimed: &Claimed) -> Result<(bytes::Bytes, String), DirectoryError> {
        let secret = self.directory.webhook_secret(&claimed.endpoint)?;
        let body = webhook::body(&claimed.due.notice, &claimed.endpoint);
        let now_s = self.clock.now_ms().div_euclid(1_000);
        let signature = webhook::signature(&secret, now_s, &body);
        Ok((body, signature))
    }

    fn send_posts(&self, sender: &Sender, posts: Vec<Post>) {
        if posts.is_empty() {
            return;
        }
        let attempts = posts.into_iter().map(|post| async move {
            let Post { claimed, url, body, signature } = post;
            let client =
                if claimed.endpoint.by_member { &sender.webhooks_of_members } else { &sender.webhooks };
            let sent = webhook::post(client, &url, &claimed.due.notice, &signature, body).await;
            (claimed, sent)
        });
        for (claimed, sent) in sender.runtime.block_on(join_all(attempts)) {
            self.finish(&claimed, sent.map_err(|why| why.to_string()));
        }
    }

    fn send_mail(&self, sender: &Sender, claimed: &Claimed) {
        let sent = match (&sender.mailer, &claimed.endpoint.target) {
            (Some(mailer), NoticeTarget::Mail { address }) => mailer
                .send(&claimed.due.notice, address, claimed.endpoint.language)
                .map_err(|why| why.to_string()),
            (None, _) => Err("no mail is configured".to_owned()),
            (_, NoticeTarget::Webhook { .. }) => Err("the endpoint is no mail address".to_owned()),
        };
        self.finish(claimed, sent);
    }

    /// What cannot be written down now is attempted again after its lease: better twice than never.
    fn finish(&self, claimed: &Claimed, sent: Result<(), String>) {
        let (now_ms, Claimed { due, attempt, .. }) = (self.clock.now_ms(), claimed);
        let outcome = match sent {
            Ok(()) => Outcome::Delivered { at_ms: now_ms },
            Err(why) if *attempt >= ATTEMPTS_MAX => {
                tracing::warn!(notice = %due.notice.id, endpoint = %due.endpoint, %why, "a notice was given up");
                Outcome::Dead { error: cut(&why) }
            }
            Err(why) => {
                let pause = backoff(*attempt, &*self.entropy);
                let others_at_ms = later(now_ms, pause.min(ENDPOINT_PAUSE_MAX));
                Outcome::Again { at_ms: later(now_ms, pause), others_at_ms, error: cut(&why) }
            }
        };
        if let Err(why) = stored::finish(&self.db, due, *attempt, &outcome) {
            tracing::warn!(%why, notice = %due.notice.id, "what became of a delivery could not be written down");
        }
    }
}

fn later(now_ms: i64, pause: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX))
}

/// The pause after an attempt: doubled each time up to its maximum, and half of it drawn, so that deliveries that
/// failed together do not come back together.
fn backoff(attempt: u32, entropy: &dyn Entropy) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(30)).min(BACKOFF_MAX);
    let half_ms = u64::try_from(doubled.as_millis() / 2).unwrap_or(u64::MAX);
    let mut random = [0; 8];
    entropy.fill(&mut random);
    let drawn_ms = u64::from_le_bytes(random) % (half_ms + 1);
    Duration::from_millis(half_ms + drawn_ms)
}

/// An error's text may come from a stranger's server.
fn cut(why: &str) -> String {
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;

    #[test]
    fn i3_pauses_grow_up_to_a_bound_and_are_not_alike() {
        let entropy = SeededEntropy::new(b"backoff");
        let pauses: Vec<_> = (1..ATTEMPTS_MAX).map(|attempt| backoff(attempt, &entropy)).collect();
        let mut whole = BACKOFF_FIRST;
        for pause in &pauses {
            assert!((whole / 2..=whole).contains(pause), "{pauses:?}");
            whole = (whole * 2).min(BACKOFF_MAX);
        }
        assert!(pauses.iter().sum::<Duration>() < Duration::from_secs(17 * 60 * 60));
        assert_ne!(backoff(5, &entropy), backoff(5, &entropy));
        assert!(backoff(u32::MAX, &entropy) <= BACKOFF_MAX);
    }

    #[test]
    fn a_strangers_error_is_kept_short_and_on_one_line() {
        let kept = cut(&format!("550 no\r\nsuch user {}", "x".repeat(1_000)));
        assert!(kept.starts_with("550 no  such user") && kept.chars().count() == ERROR_CHARS_MAX);
    }
}
