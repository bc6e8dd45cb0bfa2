//! Changing the directory: validate → one transaction that writes the new version → take it into the snapshot.
//!
//! Promises: a change that was reported is on disk and is what the next call sees; a change that was refused
//! left nothing; two editors of one object never overwrite each other unknowingly (`expected`); a key's text
//! leaves this module once, a channel's credential never. Blocking: called from threads of their own.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::clock::{Clock, Entropy};
use crate::id::{ChannelId, NoticeEndpointId};
use crate::secret::{Keyring, Secret};
use crate::store::Db;

use super::create::KeyMatch;
use super::documents::{Channel, Key, KeyHash, PreviousText};
use super::error::{DirectoryError, Kind};
use super::notice_endpoint::NoticeEndpoint;
use super::operator::TokenHolder;
use super::rules::Document;
use super::snapshot::{Change, Snapshot};
use super::stored::{self, ObjectId, Revision, Versioned, Writer};

/// See the module.
pub struct Directory {
    db: Db,
    pub(super) snapshot: ArcSwap<Snapshot>,
    /// Held by the one who changes the snapshot.
    writing: Mutex<()>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// Sets the fields of a document, or says why it cannot.
pub type Edit<'e, D> = &'e dyn Fn(&mut D) -> Result<(), DirectoryError>;

impl Directory {
    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Loads the directory as it is now.
    pub fn open(
        db: Db,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, DirectoryError> {
        let snapshot = ArcSwap::from_pointee(stored::load(&db)?);
        Ok(Directory { db, snapshot, writing: Mutex::new(()), keyring, clock, entropy })
    }

    /// The directory as it is now, for the length of a decision.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The directory as it is now, to keep.
    pub fn snapshot_owned(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The directory as it was at `version`: models, prices, channels, groups and the objects named.
    pub fn as_of(&self, version: u64, objects: &[ObjectId]) -> Result<Snapshot, DirectoryError> {
        stored::as_of(&self.db, version, objects)
    }

    /// Takes in what other writers wrote. Returns the version that is known then.
    pub fn refresh(&self) -> Result<u64, DirectoryError> {
        let _writing = self.writing.lock();
        self.catch_up()
    }

    fn catch_up(&self) -> Result<u64, DirectoryError> {
        let known = self.snapshot.load_full();
        match stored::catch_up(&self.db, &known)? {
            None => Ok(known.version()),
            Some(next) => {
                let version = next.version();
                self.snapshot.store(Arc::new(next));
                Ok(version)
            }
        }
    }

    /// The document with the version that an editor must name.
    pub fn get<D: Document>(&self, id: u64) -> Result<Option<Versioned<D>>, DirectoryError> {
        stored::current(&self.db, id)
    }

    /// Documents of one kind in the order of their ids: `limit` of them behind the id `after`.
    pub fn page<D: Document>(&self, after: u64, limit: u32) -> Result<Vec<Versioned<D>>, DirectoryError> {
        stored::page(&self.db, after, limit)
    }

    /// The object that has this unique name: spaces are `account_email`, `model`, `channel` and `group`.
    pub fn find_by_name<D: Document>(
        &self,
        space: &str,
        name: &str,
    ) -> Result<Option<Versioned<D>>, DirectoryError> {
        stored::by_name(&self.db, space, name)
    }

    /// Who changed an object and when, newest first.
    pub fn history(&self, kind: Kind, id: u64, limit: u32) -> Result<Vec<Revision>, DirectoryError> {
        stored::history(&self.db, kind, id, limit)
    }

    /// Changes a channel; `credentials` replace its keys.
    pub fn edit_channel(
        &self,
        actor: &str,
        id: ChannelId,
        expected: Option<u64>,
        credentials: Option<&[Secret]>,
        edit: Edit<'_, Channel>,
    ) -> Result<Versioned<Channel>, DirectoryError> {
        let sealed = credentials.map(|credentials| self.seal_all(id, credentials)).transpose()?;
        self.edit(actor, id.raw(), expected, &|channel: &mut Channel| {
            if let Some(sealed) = &sealed {
                channel.credentials.clone_from(sealed);
            }
            edit(channel)
        })
    }

    /// Changes where notices are sent to; `secret` replaces a webhook's.
    pub fn edit_notice_endpoint(
        &self,
        actor: &str,
        id: NoticeEndpointId,
        expected: Option<u64>,
        secret: Option<&Secret>,
        edit: Edit<'_, NoticeEndpoint>,
    ) -> Result<Versioned<NoticeEndpoint>, DirectoryError> {
        let sealed = secret.map(|secret| self.seal_webhook_secret(id, secret)).transpose()?;
        self.edit(actor, id.raw(), expected, &|endpoint: &mut NoticeEndpoint| {
            if let Some(sealed) = &sealed {
                endpoint.secret = Some(sealed.clone());
            }
            edit(endpoint)
        })
    }

    /// Changes a document. `expected` is the version that the editor saw; another one is a conflict. A change
    /// that changes nothing writes nothing.
    pub fn edit<D: Document>(
        &self,
        actor: &str,
        id: u64,
        expected: Option<u64>,
        edit: Edit<'_, D>,
    ) -> Result<Versioned<D>, DirectoryError> {
        let now = self.now()?;
        self.commit(actor, |writer, snapshot| {
            let before = writer.expect::<D>(id, expected)?;
            let mut after = D::clone(&before.document);
            edit(&mut after)?;
            if after == *before.document {
                return Ok((Vec::new(), before));
            }
            after.check(Some(&before.document), snapshot, now)?;
            let written = writer.put(Some(&*before.document), Arc::new(after))?;
            Ok((vec![written.change()], written))
        })
    }

    /// Runs `work` in one transaction and then shows its changes to the next decision. `work` may run more
    /// than once, each time on the directory as the store has it by then.
    pub(super) fn commit<T>(
        &self,
        actor: &str,
        mut work: impl FnMut(&mut Writer<'_, '_>, &Snapshot) -> Result<(Vec<Change>, T), DirectoryError>,
    ) -> Result<T, DirectoryError> {
        let at_ms = self.clock.now_ms();
        let _writing = self.writing.lock();
        self.catch_up()?;
        let snapshot = self.snapshot.load_full();
        let (changes, written) = self.db.transaction(|tx| {
            let mut writer = Writer::begin(tx, actor, at_ms)?;
            work(&mut writer, &snapshot)
        })?;
        let follows = changes.first().is_some_and(|first| first.version == snapshot.version() + 1);
        match follows {
            true => {
                let mut next = Snapshot::clone(&snapshot);
                next.apply(changes);
                self.snapshot.store(Arc::new(next));
            }
            // Nothing, a note, or another writer came in between: take everything in, in its order.
            false => {
                self.catch_up()?;
            }
        }
        Ok(written)
    }

    pub(super) fn now(&self) -> Result<Timestamp, DirectoryError> {
        let now_ms = self.clock.now_ms();
        Timestamp::from_millisecond(now_ms)
            .map_err(|_| DirectoryError::invalid("created_at", "the machine's clock shows no possible time"))
    }

    /// An id that no object of the snapshot has: two of one millisecond may be alike.
    pub(super) fn fresh<I: Copy>(
        &self,
        draw: impl Fn(&dyn Clock, &dyn Entropy) -> I,
        taken: impl Fn(&Snapshot, I) -> bool,
    ) -> I {
        let snapshot = self.snapshot.load();
        loop {
            let id = draw(&*self.clock, &*self.entropy);
            if !taken(&snapshot, id) {
                return id;
            }
        }
    }

    /// How a key's text is looked up: `None` for one that nobody made here.
    pub fn find_key(&self, text: &[u8]) -> Option<Arc<Key>> {
        self.snapshot.load().key_by_hash(&KeyHash(self.keyring.key_hash(text))).cloned()
    }

    /// The same for a caller who presents the text at a moment.
    pub fn match_key(&self, text: &[u8], at_ms: i64) -> Option<KeyMatch> {
        let hash = KeyHash(self.keyring.key_hash(text));
        let key = Arc::clone(self.snapshot.load().key_by_hash(&hash)?);
        let ended = |text: &PreviousText| text.until.as_millisecond() <= at_ms;
        let is_replaced = key.hash != hash && key.replaced().find(|text| text.hash == hash).is_none_or(ended);
        Some(KeyMatch { key, is_replaced })
    }

    /// Who has this access token, if it works at this moment.
    pub fn token_holder(&self, text: &[u8], at: Timestamp) -> Option<TokenHolder> {
        let hash = KeyHash(self.keyring.key_hash(text));
        let snapshot = self.snapshot.load();
        let holder = snapshot.token_holder(&hash)?;
        let token = match holder {
            TokenHolder::Operator(id) => snapshot.operator(id)?.token,
            TokenHolder::Member(id) => snapshot.member(id)?.token,
        };
        let works = token.is_some_and(|token| token.expires_at.is_none_or(|end| at < end));
        works.then_some(holder)
    }

    pub(super) fn hash(&self, text: &Secret) -> KeyHash {
        KeyHash(self.keyring.key_hash(text.expose().as_bytes()))
    }

    /// Keeps a note of an operator's act beside the versions of the directory, with who did it and when.
    pub fn note(
        &self,
        actor: &str,
        kind: &str,
        id: u64,
        body: &serde_json::Value,
    ) -> Result<(), DirectoryError> {
        let body = body.to_string().into_bytes();
        self.commit(actor, |writer, _| Ok((Vec::new(), writer.note(kind, id, &body)?)))
    }
}
