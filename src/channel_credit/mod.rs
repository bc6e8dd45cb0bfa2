//! What is left of the platform's credit at upstreams that tell it, looked at from time to time, so that somebody is told
//! before it ends (上游余额提醒).
//!
//! Promises: an alert once for each time that the credit of a credential falls below its threshold, whatever is restarted and
//! on however many nodes; a question that fails changes nothing but what is shown. In memory, bounded by what the directory
//! names.
//! Must never: keep a call from its channel (an upstream that is broke says so itself), or show a credential.

mod reading;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use ledger::Nano;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::directory::{Channel, ChannelStatus, CreditCheck, Directory};
use crate::gateway::credential_headers;
use crate::gateway::upstream::Target;
use crate::http_client::{Ask, HttpClient};
use crate::id::ChannelId;
use crate::notices::{Facts, NewNotice, Notices};
use crate::secret::Secret;
use crate::store::{Db, StoreError};
use crate::store_params;

use reading::Question;

/// What was last learnt with one credential of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of the credential, from 1.
    pub credential: u32,
    /// `None`: never learnt.
    pub remaining: Option<Nano>,
    pub read_ms: Option<i64>,
    /// Why the last question brought nothing.
    pub fault: Option<String>,
}

/// See the module.
pub struct ChannelCredit {
    db: Db,
    directory: Arc<Directory>,
    notices: Arc<Notices>,
    http: HttpClient,
    clock: Arc<dyn Clock>,
    seen: Mutex<HashMap<ChannelId, Vec<Seen>>>,
}

impl ChannelCredit {
    /// On the directory's store, where it is kept what was told.
    pub fn new(
        db: Db,
        directory: Arc<Directory>,
        notices: Arc<Notices>,
        http: HttpClient,
        clock: Arc<dyn Clock>,
    ) -> Self {
        ChannelCredit { db, directory, notices, http, clock, seen: Mutex::default() }
    }

    /// What is known of a channel, by credential.
    pub fn of(&self, channel: &Channel) -> Vec<Seen> {
        let is_asked = channel.credit.is_some();
        self.seen.lock().get(&channel.id).filter(|_| is_asked).cloned().unwrap_or_default()
    }

    /// Asks every upstream that tells it. Blocks as long as they take.
    pub fn look(&self) {
        let snapshot = self.directory.snapshot_owned();
        self.seen.lock().retain(|channel, _| snapshot.channel(*channel).is_some());
        for channel in snapshot.channels().filter(|channel| channel.status == ChannelStatus::Enabled) {
            if let Some(check) = &channel.credit {
                self.look_at(channel, check);
            }
        }
    }

    fn look_at(&self, channel: &Channel, check: &CreditCheck) {
        let credentials = match self.directory.credentials(channel) {
            Ok(credentials) => credentials,
            Err(why) => return tracing::warn!(channel = %channel.id, %why, "its credit cannot be asked for"),
        };
        let before = self.of(channel);
        let mut seen = Vec::with_capacity(credentials.len());
        for (number, credential) in (1..).zip(&credentials) {
            let found = self.ask(channel, check, credential);
            if let Ok(remaining) = found
                && let Err(why) = self.compare(channel, number, remaining, check.alert_below)
            {
                tracing::error!(channel = %channel.id, %why, "an alert about its credit could not be written");
            }
            let known = before.iter().find(|known| known.credential == number);
            seen.push(match found {
                Ok(remaining) => Seen {
                    credential: number,
                    remaining: Some(remaining),
                    read_ms: Some(self.clock.now_ms()),
                    fault: None,
                },
                Err(why) => Seen {
                    credential: number,
                    remaining: known.and_then(|known| known.remaining),
                    read_ms: known.and_then(|known| known.read_ms),
                    fault: Some(why),
                },
            });
        }
        self.seen.lock().insert(channel.id, seen);
    }

    /// What is left, or why nobody knows.
    fn ask(&self, channel: &Channel, check: &CreditCheck, credential: &Secret) -> Result<Nano, String> {
        let mut sum = Nano::ZERO;
        for question in reading::questions(check) {
            sum = sum.saturating_add(self.ask_one(channel, &question, credential)?);
        }
        Ok(sum)
    }

    fn ask_one(&self, channel: &Channel, question: &Question, credential: &Secret) -> Result<Nano, String> {
        let base = if question.at_host { host_of(&channel.base_url) } else { &channel.base_url };
        let target = match &channel.proxy {
            None => Target::parse(base),
            Some(proxy) => Target::parse_via(base, proxy),
        };
        let ask = Ask {
            target: target.map_err(|why| why.to_string())?,
            method: Method::GET,
            path: question.path.clone(),
            headers: credential_headers(channel.provider.format(), credential)?,
            body: Bytes::new(),
        };
        let reply = self.http.ask(ask).map_err(|why| why.to_string())?;
        question.answered(reply.status, &reply.body)
    }

    /// Tells it once when it has fallen below the threshold, and again only after it was above it.
    fn compare(
        &self,
        channel: &Channel,
        credential: u32,
        remaining: Nano,
        threshold: Nano,
    ) -> Result<(), StoreError> {
        let mark = format!("channel_credit_low {} {credential}", channel.id);
        if remaining >= threshold {
            return self.unmark(&mark);
        }
        let sql = "INSERT INTO directory_meta (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
        if self.db.execute(sql, store_params![mark.as_str(), Vec::<u8>::new()])? == 0 {
            return Ok(());
        }
        let facts = Facts::UpstreamCreditLow { name: channel.name.clone(), credential, remaining, threshold };
        let posted = self.notices.post(NewNotice { account: None, subject: channel.id.into(), facts });
        if posted.is_err() {
            // To be told by the next look.
            self.unmark(&mark)?;
        }
        posted.map(drop)
    }

    fn unmark(&self, mark: &str) -> Result<(), StoreError> {
        self.db.execute("DELETE FROM directory_meta WHERE name = ?1", store_params![mark]).map(drop)
    }
}

/// A base URL without its path.
fn host_of(base_url: &str) -> &str {
    let behind_scheme = base_url.find("://").map_or(0, |at| at + 3);
    let end = base_url.get(behind_scheme..).and_then(|rest| rest.find('/'));
    end.and_then(|end| base_url.get(..behind_scheme + end)).unwrap_or(base_url)
}
