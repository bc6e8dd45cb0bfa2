//! Idempotency keys (幂等键): a request that is sent again under the same `Idempotency-Key` gets the answer that the
//! first one got, and is charged once. Calls are named by API keys, POSTs of the management interface by who sends them.
//!
//! Promises: of the requests under one name of one API key, or of one actor, one is executed at a time; an answer is kept sealed with the
//! master key for a day, up to 1 MiB, and a longer one, or one that a crash lost after it was charged, is answered with
//! its receipt. What was refused or failed, and a stream that was cut off, is not kept, so that it can be sent again. Of a POST
//! that began and whose end nobody knows it says just that: there are no books that could tell whether it was done.
//!
//! Must never: execute a request whose first one ended well, charge one execution twice, or hold the name itself, an answer or a request's content
//! in the clear.

pub mod header;
mod store;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::id::{KeyId, RequestId};
use crate::secret::{Keyring, MasterKeyError};
use crate::store::{Db, StoreError};

pub use store::Place;
use store::{AnswerStore, Kept};

/// How long an answer is kept.
const KEPT_MS: i64 = 24 * 3_600_000;
/// A request of which nothing is known so long after it began will never be heard of again.
const LOST_AFTER_MS: i64 = 60_000;
/// Expired rows are removed so often, by whoever comes first then.
const SWEEP_EVERY_MS: i64 = 60_000;
/// Longest answer that is kept.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Whose the names of actors are in the store: no API key has this id.
const NO_KEY: KeyId = KeyId::from_raw(0);

/// A request that may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whose name it is.
    key: KeyId,
    /// Hash of the Idempotency-Key.
    name: [u8; 32],
    /// Hash of what is asked for.
    fingerprint: [u8; 32],
}

impl Wish {
    /// A call: `content` is its endpoint and model; its body is written into the fingerprint.
    pub fn of_key(
        key: KeyId,
        idempotency_key: &[u8],
        content: [&str; 2],
        write: impl FnOnce(&mut Fingerprint),
    ) -> Self {
        let mut fingerprint = Fingerprint::of(&content);
        write(&mut fingerprint);
        Wish { key, name: digest(&[], idempotency_key), fingerprint: fingerprint.end() }
    }

    /// A POST of the management interface: `content` is its path and query. Actors are known by what is written beside
    /// their changes; the names of two never meet, nor those of an actor and of a key.
    pub fn of_actor(actor: &str, idempotency_key: &[u8], content: [&str; 2], body: &[u8]) -> Self {
        let (name, fingerprint) = (digest(&[actor], idempotency_key), digest(&content, body));
        Wish { key: NO_KEY, name, fingerprint }
    }
}

/// The hash of a content, as it grows.
pub struct Fingerprint(ring::digest::Context);

impl Fingerprint {
    /// Begins with parts, none of which has a zero byte.
    fn of(parts: &[&str]) -> Self {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for part in parts {
            digest.update(part.as_bytes());
            digest.update(&[0]);
        }
        Fingerprint(digest)
    }

    /// All that follows.
    pub fn rest(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// One of several parts that follow, told apart by their lengths.
    pub fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn end(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().unwrap_or([0; 32])
    }
}

/// Hash of parts, none of which has a zero byte, and of what is behind them.
fn digest(parts: &[&str], rest: &[u8]) -> [u8; 32] {
    let mut fingerprint = Fingerprint::of(parts);
    fingerprint.rest(rest);
    fingerprint.end()
}

/// What the books say of an earlier request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// They have nothing that could tell: it is no call. `may_run`: another node may be at work on it.
    Untold {
        may_run: bool,
    },
    Nothing,
    /// Its hold is open.
    Running,
    /// It was refused, or its hold was given back.
    Free,
    Charged,
    /// It made a task, which can be shown.
    Made,
}

/// How a request stands to those before it under its name.
#[derive(Debug)]
pub enum Begun {
    /// It is the first one: to be executed, and then [kept](Claim::keep) or [given up](Claim::give_up).
    First(Claim),
    Running {
        first: RequestId,
    },
    /// The name belongs to another content.
    Reused {
        first: RequestId,
    },
    /// It was answered; `None`: the answer is not kept, the receipt or the task is all there is.
    Answered {
        first: RequestId,
        answer: Option<Answer>,
    },
    /// It began, and whether it was done cannot be told: its process died, or failed in the middle of it.
    Untold {
        first: RequestId,
    },
}

/// An answer as it was given out.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub head: Head,
    pub body: Bytes,
}

/// Contents are the caller's alone.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("head", &self.head).field("bytes", &self.body.len()).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Of a POST of the management interface: the role of who was given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

#[derive(Debug)]
pub enum IdempotencyError {
    Store(StoreError),
    Sealed(MasterKeyError),
    Corrupt(&'static str),
}

impl fmt::Display for IdempotencyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdempotencyError::Store(why) => write!(f, "the kept answers cannot be read: {why}"),
            IdempotencyError::Sealed(why) => write!(f, "a kept answer cannot be opened: {why}"),
            IdempotencyError::Corrupt(what) => write!(f, "a kept answer has no {what}"),
        }
    }
}

impl std::error::Error for IdempotencyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            IdempotencyError::Store(why) => Some(why),
            IdempotencyError::Sealed(why) => Some(why),
            IdempotencyError::Corrupt(_) => None,
        }
    }
}

impl From<StoreError> for IdempotencyError {
    fn from(why: StoreError) -> Self {
        IdempotencyError::Store(why)
    }
}

/// See the module. Everything here blocks on the store.
pub struct Idempotency {
    store: AnswerStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    /// Requests of this process whose end is not written yet.
    running: Mutex<HashSet<RequestId>>,
    swept_ms: AtomicI64,
}

impl Idempotency {
    pub fn new(db: Db, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Idempotency {
            store: AnswerStore::new(db),
            keyring,
            clock,
            running: Mutex::default(),
            swept_ms: AtomicI64::new(i64::MIN),
        })
    }

    /// Takes the name for this request, or says who has it. `known` tells what the books say of an earlier request.
    pub fn begin(
        self: &Arc<Self>,
        wish: Wish,
        request: RequestId,
        known: impl Fn(RequestId) -> Known,
    ) -> Result<Begun, IdempotencyError> {
        let now_ms = self.clock.now_ms();
        self.sweep(now_ms)?;
        // Known to run before anybody can see its row.
        self.running.lock().insert(request);
        let claim = Claim { idempotency: Arc::clone(self), wish, request };
        let Some(kept) = self.store.insert(&wish, request, now_ms, now_ms + KEPT_MS)? else {
            return Ok(Begun::First(claim));
        };
        let first = kept.request;
        if kept.fingerprint != wish.fingerprint {
            return Ok(Begun::Reused { first });
        }
        if kept.head.is_some() {
            return Ok(Begun::Answered { first, answer: self.answer(kept)? });
        }
        if self.running.lock().contains(&first) {
            return Ok(Begun::Running { first });
        }
        let is_forgotten = now_ms.saturating_sub(kept.begun_ms) > LOST_AFTER_MS;
        let is_lost = match known(first) {
            Known::Charged | Known::Made => return Ok(Begun::Answered { first, answer: None }),
            Known::Untold { may_run } if is_forgotten || !may_run => return Ok(Begun::Untold { first }),
            Known::Untold { .. } | Known::Running => false,
            Known::Nothing => is_forgotten,
            Known::Free => true,
        };
        // Whoever comes first takes the name over.
        match is_lost && self.store.take_over(&wish, first, request, now_ms, now_ms + KEPT_MS)? {
            true => Ok(Begun::First(claim)),
            false => Ok(Begun::Running { first }),
        }
    }

    fn answer(&self, kept: Kept) -> Result<Option<Answer>, IdempotencyError> {
        let Some(sealed) = kept.body else { return Ok(None) };
        let head = kept.head.as_deref().and_then(|head| serde_json::from_str(head).ok());
        let head = head.ok_or(IdempotencyError::Corrupt("head"))?;
        match self.keyring.open(&purpose(kept.request), &sealed) {
            Ok(body) => Ok(Some(Answer { head, body: Bytes::copy_from_slice(body.expose()) })),
            // The master key was lost since: the receipt is what is left.
            Err(why) => {
                tracing::warn!(%why, request = %kept.request, "a kept answer cannot be opened");
                Ok(None)
            }
        }
    }

    /// Seals with the newest master key what another one sealed of the kept answers behind a name, a few of them.
    /// Returns the last name looked at and how many were sealed anew; `None`: there are no more.
    pub fn reseal_after(&self, after: &Place) -> Result<Option<(Place, u64)>, IdempotencyError> {
        let kept = self.store.sealed_after(after)?;
        let Some(last) = kept.last().map(|kept| kept.place.clone()) else { return Ok(None) };
        let mut resealed = 0;
        for answer in kept {
            match self.keyring.reseal(&purpose(answer.request), &answer.body) {
                Ok(None) | Err(MasterKeyError::Wrong | MasterKeyError::Damaged) => {}
                Ok(Some(anew)) => {
                    self.store.replace_body(&answer, anew)?;
                    resealed += 1;
                }
                Err(why) => return Err(IdempotencyError::Sealed(why)),
            }
        }
        Ok(Some((last, resealed)))
    }

    /// Answers that are kept now.
    pub fn kept(&self) -> Result<u64, IdempotencyError> {
        Ok(self.store.count_sealed()?)
    }

    fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        let swept_ms = self.swept_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(swept_ms) >= SWEEP_EVERY_MS;
        let is_mine = is_due
            && self.swept_ms.compare_exchange(swept_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_mine { self.store.remove_expired(now_ms) } else { Ok(()) }
    }
}

/// What the master key seals an answer for: this one alone.
fn purpose(request: RequestId) -> String {
    format!("idempotency answer {request}")
}

/// The right to execute a request under its name. Dropped without an end, what the books say of the request decides
/// when it is sent again; of what they cannot tell, nothing is executed under this name any more.
pub struct Claim {
    idempotency: Arc<Idempotency>,
    wish: Wish,
    request: RequestId,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Claim {
    /// Keeps what the request was answered; `None` for the body of an answer that is too long.
    pub fn keep(self, head: &Head, body: Option<&[u8]>) -> Result<(), IdempotencyError> {
        let seal = |body| self.idempotency.keyring.seal(&purpose(self.request), body);
        let sealed = body.map(seal).transpose().map_err(IdempotencyError::Sealed)?;
        let head = serde_json::to_string(head).map_err(|_| IdempotencyError::Corrupt("head"))?;
        Ok(self.idempotency.store.keep(&self.wish, self.request, &head, sealed.as_deref())?)
    }

    /// It failed in the middle: nobody can tell whether it was done. The name stays taken.
    pub fn leave_untold(self) -> Result<(), IdempotencyError> {
        Ok(self.idempotency.store.leave(&self.wish, self.request)?)
    }

    /// The request was refused, failed, or its answer was cut off: the name is free again.
    pub fn give_up(self) -> Result<(), IdempotencyError> {
        Ok(self.idempotency.store.remove(&self.wish, self.request)?)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.idempotency.running.lock().remove(&self.request);
    }
}
