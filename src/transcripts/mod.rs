//! Transcripts (对话留存): what was sent and what was answered, of the calls of accounts that want it kept (F1, ADR 22).
//!
//! Promises: of an account that did not turn it on nothing is kept. What is kept is sealed with a key of its own, which
//! the master key seals; it is there for its account alone, until its end or until it is erased. No call waits for its
//! transcript, and none fails for it: one that cannot be written is left out, and that is an error in the log.
//! Must never: take more memory than [`WAITING_BYTES_MAX`] for what is being heard or waits to be written.

mod packed;
mod room;
mod store;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::directory::TranscriptTerms;
use crate::id::{AccountId, KeyId, RequestId};
use crate::secret::{Keyring, MasterKeyError};
use crate::store::{Db, StoreError};

pub use packed::Damaged;
pub use room::{Room, Share};
pub use store::{Entry, Filter};
pub use writer::Writer;

use store::TranscriptStore;

/// So much of what was sent is kept, and so much of what was answered, from the beginning on.
pub const SAID_BYTES_MAX: usize = 1024 * 1024;
/// Of everything that is being heard and that waits to be written, together.
pub const WAITING_BYTES_MAX: usize = 128 * 1024 * 1024;
const DAY_MS: i64 = 86_400_000;

/// One side of a call.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub media_type: Option<Box<str>>,
    /// The beginning of it, up to [`SAID_BYTES_MAX`]; less, if there was no room in memory.
    pub text: Bytes,
    /// Length of the whole.
    pub bytes: u64,
}

impl Said {
    pub fn is_whole(&self) -> bool {
        self.text.len() as u64 == self.bytes
    }
}

/// Contents are the account's alone.
impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("media_type", &self.media_type).field("bytes", &self.bytes).finish()
    }
}

/// How the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Whole,
    /// The upstream, or a limit, broke it off.
    CutOff,
    /// The caller went before its end.
    Left,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    pub request: RequestId,
    pub account: AccountId,
    pub key: KeyId,
    pub at_ms: i64,
    /// From then on it is not there any more.
    pub expires_ms: i64,
    /// HTTP status of the answer.
    pub status: u16,
    pub ended: Ended,
    pub asked: Said,
    pub answered: Said,
}

#[derive(Debug)]
pub enum TranscriptError {
    Store(StoreError),
    Key(MasterKeyError),
    Damaged,
}

impl fmt::Display for TranscriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TranscriptError::Store(why) => write!(f, "the transcripts cannot be read or written: {why}"),
            TranscriptError::Key(why) => {
                write!(f, "the key of a transcript cannot be sealed or opened: {why}")
            }
            TranscriptError::Damaged => write!(f, "a transcript is damaged"),
        }
    }
}

impl std::error::Error for TranscriptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TranscriptError::Store(why) => Some(why),
            TranscriptError::Key(why) => Some(why),
            TranscriptError::Damaged => None,
        }
    }
}

impl From<StoreError> for TranscriptError {
    fn from(why: StoreError) -> Self {
        TranscriptError::Store(why)
    }
}

impl From<Damaged> for TranscriptError {
    fn from(_: Damaged) -> Self {
        TranscriptError::Damaged
    }
}

/// A transcript on its way to the store, with the memory that it takes.
struct Waiting {
    transcript: Transcript,
    /// Given back once it is written.
    _share: Share,
}

/// The transcripts of an installation. What reads or erases blocks on the store.
pub struct Transcripts {
    store: TranscriptStore,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    room: Arc<Room>,
    days_max: u32,
    to_writer: Mutex<Option<Sender<Waiting>>>,
    /// Until the writer takes it.
    waiting: Mutex<Option<Receiver<Waiting>>>,
}

impl Transcripts {
    /// `days_max`: the longest that the installation keeps any; 0: it keeps none.
    pub fn new(db: Db, keyring: Arc<Keyring>, clock: Arc<dyn Clock>, days_max: u32) -> Self {
        let (sender, receiver) = channel();
        Transcripts {
            store: TranscriptStore::new(db),
            keyring,
            clock,
            room: Arc::new(Room::new(WAITING_BYTES_MAX)),
            days_max,
            to_writer: Mutex::new(Some(sender)),
            waiting: Mutex::new(Some(receiver)),
        }
    }

    /// The longest that any is kept, in days; 0: none is.
    pub fn days_max(&self) -> u32 {
        self.days_max
    }

    /// When the transcript of a call of this time ends; `None`: the installation keeps none.
    pub fn expires_ms(&self, terms: TranscriptTerms, at_ms: i64) -> Option<i64> {
        let days = terms.kept_days.min(self.days_max);
        (days > 0).then(|| at_ms.saturating_add(i64::from(days).saturating_mul(DAY_MS)))
    }

    /// Memory for one transcript, of which nothing is taken yet.
    pub fn share(&self) -> Share {
        Share::new(Arc::clone(&self.room))
    }

    /// Hands a transcript to the writer. Never waits.
    pub fn keep(&self, transcript: Transcript, share: Share) {
        let request = transcript.request;
        let waiting = Waiting { transcript, _share: share };
        let is_sent = self.to_writer.lock().as_ref().is_some_and(|writer| writer.send(waiting).is_ok());
        if !is_sent {
            tracing::error!(%request, "a transcript is left out: nothing is written any more");
        }
    }

    fn write(&self, transcripts: &[Waiting]) -> Result<(), TranscriptError> {
        let seal = |waiting: &Waiting| {
            let (key, content) = packed::seal(&waiting.transcript)?;
            let purpose = purpose(waiting.transcript.request);
            let data_key = self.keyring.seal(&purpose, key.expose()).map_err(TranscriptError::Key)?;
            Ok(store::Sealed { data_key, content })
        };
        let sealed: Result<Vec<_>, TranscriptError> = transcripts.iter().map(seal).collect();
        let rows = transcripts.iter().map(|waiting| &waiting.transcript).zip(sealed?);
        Ok(self.store.insert(rows.collect())?)
    }

    /// Which transcripts there are, the newest first.
    pub fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Entry>, TranscriptError> {
        Ok(self.store.list(filter, self.clock.now_ms(), limit)?)
    }

    /// `None`: there is none, or none any more.
    pub fn entry(&self, request: RequestId) -> Result<Option<Entry>, TranscriptError> {
        Ok(self.store.entry(request, self.clock.now_ms())?)
    }

    /// `None`: there is none, or none any more, or none that could be opened since its master key was lost.
    pub fn read(&self, request: RequestId) -> Result<Option<Transcript>, TranscriptError> {
        let Some((entry, sealed)) = self.store.read(request, self.clock.now_ms())? else { return Ok(None) };
        let key = match self.keyring.open(&purpose(request), &sealed.data_key) {
            Ok(key) => key,
            Err(why) => {
                tracing::warn!(%why, %request, "a transcript cannot be opened");
                return Ok(None);
            }
        };
        Ok(Some(packed::open(&entry, &key, sealed.content)?))
    }

    /// Whether there was one.
    pub fn erase(&self, request: RequestId) -> Result<bool, TranscriptError> {
        Ok(self.store.erase(request)?)
    }

    /// Every transcript of an account. Returns how many they were.
    pub fn erase_all(&self, account: AccountId) -> Result<u64, TranscriptError> {
        let mut erased = 0;
        loop {
            match self.store.erase_some(account)? {
                0 => return Ok(erased),
                some => erased += some,
            }
        }
    }

    /// Those whose end has come. Returns how many they were.
    pub fn forget_expired(&self) -> Result<u64, TranscriptError> {
        let (now_ms, mut forgotten) = (self.clock.now_ms(), 0);
        loop {
            match self.store.forget_some(now_ms)? {
                0 => return Ok(forgotten),
                some => forgotten += some,
            }
        }
    }

    /// How many there are, expired ones among them.
    pub fn count(&self) -> Result<u64, TranscriptError> {
        Ok(self.store.count()?)
    }

    /// Seals with the newest master key what another one sealed of the keys behind a transcript, some of them. Returns
    /// the last one looked at and how many were sealed anew; `None`: there are no more.
    pub fn reseal_after(
        &self,
        after: Option<RequestId>,
    ) -> Result<Option<(RequestId, u64)>, TranscriptError> {
        let keys = self.store.keys_after(after)?;
        let Some(last) = keys.last().map(|(request, _)| *request) else { return Ok(None) };
        let mut resealed = 0;
        for (request, sealed) in keys {
            match self.keyring.reseal(&purpose(request), &sealed) {
                Ok(None) | Err(MasterKeyError::Wrong | MasterKeyError::Damaged) => {}
                Ok(Some(anew)) => {
                    self.store.replace_key(request, &sealed, anew)?;
                    resealed += 1;
                }
                Err(why) => return Err(TranscriptError::Key(why)),
            }
        }
        Ok(Some((last, resealed)))
    }
}

/// What the master key seals the key of a transcript for: this one alone.
fn purpose(request: RequestId) -> String {
    format!("transcript {request}")
}
