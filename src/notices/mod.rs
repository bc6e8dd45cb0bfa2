//! The outbox for notices: everything that somebody is told goes through here – to the notification centre, to
//! signed webhooks and by mail.
//!
//! Promises: a notice and its deliveries are on disk when [`Notices::post`] returns; each delivery is attempted until
//! it succeeds or its attempts are used up, also after a restart, and may arrive twice but not silently never; what
//! became of it is kept (the delivery log).
//! Must never: hold a secret in a notice, wait for a receiver in whoever posts, or decide that something is to be
//! told. Blocking: called from threads that may block.

mod changes;
mod event;
mod facts;
mod mail;
mod retention;
mod stored;
mod webhook;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::catalogue::Language;
use crate::clock::{Clock, Entropy};
use crate::config::Mail;
use crate::directory::{Directory, NoticeEndpoint, NoticeTarget};
use crate::id::{AccountId, KeyId, MemberId, NoticeId, OrganizationId, ProjectId, TaskId};
use crate::store::{Db, StoreError};

pub use event::Event;
pub use facts::{AppealDecision, Facts, Words};
pub use mail::MailError;
pub use stored::{Channel, Delivery, Filter, Notice, State};
pub use worker::{ATTEMPTS_MAX, BACKOFF_MAX, LEASE, Sender, StartError, Worker};

/// Draws of an id before a store that has them all is not believed: two of one millisecond may be alike.
const DRAWS_MAX: usize = 8;

/// Something that is to be told.
#[derive(Clone, Debug)]
pub struct NewNotice {
    /// Whom; `None`: the operator.
    pub account: Option<AccountId>,
    pub subject: Subject,
    pub facts: Facts,
}

/// The object that a notice is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(String);

macro_rules! subjects {
    ($($id:ty),*) => {$(
        impl From<$id> for Subject {
            fn from(id: $id) -> Self {
                Subject(id.to_string())
            }
        }
    )*};
}
subjects!(
    AccountId,
    KeyId,
    MemberId,
    OrganizationId,
    ProjectId,
    TaskId,
    crate::id::ChannelId,
    crate::id::GroupId
);

/// See the module.
pub struct Notices {
    db: Db,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    mail_configured: bool,
    wake: Wake,
}

/// How the worker hears that there is something to do, or that it is to end.
#[derive(Default)]
struct Wake {
    state: Mutex<WakeState>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct WakeState {
    posted: bool,
    stop: bool,
}

impl Wake {
    fn tell(&self, change: impl FnOnce(&mut WakeState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Until there is something new, or for so long; `false` at the end.
    fn wait(&self, patience: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.posted && !state.stop {
            self.changed.wait_for(&mut state, patience);
        }
        state.posted = false;
        !state.stop
    }
}

impl Notices {
    /// On the directory's store. Nothing is sent before a worker is started.
    pub fn new(
        db: Db,
        directory: Arc<Directory>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        mail: &Mail,
    ) -> Self {
        let mail_configured = mail.is_configured();
        Notices { db, directory, clock, entropy, mail_configured, wake: Wake::default() }
    }

    /// Tells something: it is on disk when this returns, and on its way.
    pub fn post(&self, notice: NewNotice) -> Result<NoticeId, StoreError> {
        let (mut written, deliveries) = self.written(&notice)?;
        let mut draws = 1;
        while let Err(why) = stored::insert(&self.db, &written, &deliveries) {
            if !why.is_conflict() || draws == DRAWS_MAX {
                return Err(why);
            }
            draws += 1;
            written.id = NoticeId::new(&*self.clock, &*self.entropy);
        }
        self.wake();
        Ok(written.id)
    }

    /// A notice as it is to be written, with a first row of the delivery log for each way.
    fn written(&self, notice: &NewNotice) -> Result<(Notice, Vec<Delivery>), StoreError> {
        let at_ms = self.clock.now_ms();
        let (subject, event) = (notice.subject.0.clone(), notice.facts.event());
        let facts = notice.facts.json();
        let facts = facts.map_err(|why| StoreError::other("a notice's facts are no JSON").caused_by(why))?;
        let texts = Language::ALL.map(|language| notice.facts.words(&subject, language));
        let id = NoticeId::new(&*self.clock, &*self.entropy);
        let event_name = event.as_str().to_owned();
        let written = Notice { id, account: notice.account, event: event_name, subject, at_ms, facts, texts };
        Ok((written, self.deliveries_of(notice.account, event, at_ms)))
    }

    /// The notification centre, and every endpoint that wants to know.
    fn deliveries_of(&self, owner: Option<AccountId>, event: Event, at_ms: i64) -> Vec<Delivery> {
        let in_app = Delivery {
            channel: Channel::InApp,
            endpoint: None,
            target: owner.map_or_else(|| "operator".to_owned(), |account| account.to_string()),
            state: State::Delivered,
            attempts: 0,
            next_at_ms: None,
            last_error: None,
            delivered_at_ms: Some(at_ms),
        };
        let snapshot = self.directory.snapshot_owned();
        let mut endpoints: Vec<_> =
            snapshot.notice_endpoints().filter(|endpoint| endpoint.takes(owner, event)).collect();
        endpoints.sort_unstable_by_key(|endpoint| endpoint.id);
        let sent = endpoints.into_iter().filter_map(|endpoint| self.delivery_to(endpoint, at_ms));
        std::iter::once(in_app).chain(sent).collect()
    }

    /// `None` for a mail where no mail is configured.
    fn delivery_to(&self, endpoint: &NoticeEndpoint, at_ms: i64) -> Option<Delivery> {
        let (channel, target) = match &endpoint.target {
            NoticeTarget::Webhook { url } => (Channel::Webhook, webhook::shown(url)),
            NoticeTarget::Mail { address } if self.mail_configured => (Channel::Mail, &**address),
            NoticeTarget::Mail { .. } => return None,
        };
        Some(Delivery {
            channel,
            endpoint: Some(endpoint.id),
            target: target.to_owned(),
            state: State::Pending,
            attempts: 0,
            next_at_ms: Some(at_ms),
            last_error: None,
            delivered_at_ms: None,
        })
    }

    /// Notices from the newest on, each with its delivery log.
    pub fn page(&self, filter: &Filter, limit: u32) -> Result<Vec<(Notice, Vec<Delivery>)>, StoreError> {
        let notices = stored::page(&self.db, filter, limit)?;
        let with_log = |notice: Notice| {
            let deliveries = stored::deliveries(&self.db, notice.id)?;
            Ok((notice, deliveries))
        };
        notices.into_iter().map(with_log).collect()
    }

    pub fn find(&self, id: NoticeId) -> Result<Option<(Notice, Vec<Delivery>)>, StoreError> {
        let Some(notice) = stored::find(&self.db, id)? else { return Ok(None) };
        let deliveries = stored::deliveries(&self.db, id)?;
        Ok(Some((notice, deliveries)))
    }

    /// Whether there is a notice of this event and subject since a moment, with facts that are alike.
    pub fn was_told(
        &self,
        event: Event,
        subject: &Subject,
        since_ms: i64,
        alike: impl Fn(&serde_json::Map<String, serde_json::Value>) -> bool,
    ) -> Result<bool, StoreError> {
        let facts = stored::facts_since(&self.db, event, &subject.0, since_ms)?;
        Ok(facts.iter().any(alike))
    }

    /// When an event of a subject was last told.
    pub fn last_told(&self, event: Event, subject: &Subject) -> Result<Option<i64>, StoreError> {
        stored::last_told(&self.db, event, &subject.0)
    }

    /// When operators were last told of an event, of whatever subject.
    pub fn last_told_operators(&self, event: Event) -> Result<Option<i64>, StoreError> {
        stored::last_told_operators(&self.db, event)
    }

    /// Gives the deliveries that failed all their attempts again, from now on.
    pub fn retry(&self, id: NoticeId) -> Result<u64, StoreError> {
        let again = stored::retry(&self.db, id, self.clock.now_ms())?;
        self.wake();
        Ok(again)
    }

    /// Has the worker look for what is due.
    pub fn wake(&self) {
        self.wake.tell(|state| state.posted = true);
    }
}
