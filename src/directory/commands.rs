//! Changing the directory: validate → one transaction that writes the new version → take it into the snapshot.
//!
//! Promises: a change that was reported is on disk and is what the next call sees; a change that was refused
//! left nothing; two editors of one object never overwrite each other unknowingly (`expected`); a key's text
//! leaves this module once, a channel's credential never. Blocking: called from threads of their own.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use ledger::Nano;
use parking_lot::Mutex;

use crate::clock::{Clock, Entropy};
use crate::hex;
use crate::id::{AccountId, ChannelId, GroupId, KeyId, ModelId, PriceId};
use crate::keytext;
use crate::secret::{MasterKey, MasterKeyError, Secret};
use crate::store::Db;

use super::decimal;
use super::documents::{
    Account, AccountKind, CapField, Channel, ChannelStatus, Environment, Group, Key, KeyHash, KeyStatus,
    Model, ModelStatus, Price, ProviderKind,
};
use super::error::{DirectoryError, Kind};
use super::rules::Document;
use super::snapshot::{Change, Snapshot};
use super::stored::{self, ObjectId, Revision, Versioned, Writer};

/// Shortest foreign key that can be imported, in bytes.
const IMPORTED_KEY_BYTES_MIN: usize = 16;

/// See the module.
pub struct Directory {
    db: Db,
    snapshot: ArcSwap<Snapshot>,
    /// Held by the one who changes the snapshot.
    writing: Mutex<()>,
    master: Arc<MasterKey>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// What a new key needs beyond its text. The rest is set by the editor.
#[derive(Clone, Copy, Debug)]
pub struct KeyOrder {
    pub account: AccountId,
    pub environment: Environment,
}

/// A key just made. Its text is nowhere else.
#[derive(Debug)]
pub struct CreatedKey {
    pub key: Versioned<Key>,
    pub text: Secret,
}

type Edit<'e, D> = &'e dyn Fn(&mut D) -> Result<(), DirectoryError>;

impl Directory {
    /// Loads the directory as it is now.
    pub fn open(
        db: Db,
        master: Arc<MasterKey>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, DirectoryError> {
        let snapshot = ArcSwap::from_pointee(stored::load(&db)?);
        Ok(Directory { db, snapshot, writing: Mutex::new(()), master, clock, entropy })
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
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let known = snapshot.version();
        stored::catch_up(&self.db, &mut snapshot)?;
        let version = snapshot.version();
        if version > known {
            self.snapshot.store(Arc::new(snapshot));
        }
        Ok(version)
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

    pub fn create_account(
        &self,
        actor: &str,
        edit: Edit<'_, Account>,
    ) -> Result<Versioned<Account>, DirectoryError> {
        let id = self.fresh(AccountId::new, |snapshot, id| snapshot.account(id).is_some());
        self.create(
            actor,
            edit,
            Account {
                id,
                name: "".into(),
                email: None,
                kind: AccountKind::Personal,
                time_zone: "UTC".into(),
                overdraft: Nano::ZERO,
                callers_see_account_money: None,
                remark: None,
                created_at: self.now()?,
            },
        )
    }

    pub fn create_model(
        &self,
        actor: &str,
        edit: Edit<'_, Model>,
    ) -> Result<Versioned<Model>, DirectoryError> {
        let id = self.fresh(ModelId::new, |snapshot, id| snapshot.model_by_id(id).is_some());
        self.create(
            actor,
            edit,
            Model {
                id,
                name: "".into(),
                status: ModelStatus::Active,
                output_tokens_max: 4_096,
                image_tokens_max: None,
                audio_tokens_max: None,
                owned_by: "tallygate".into(),
                created_at: self.now()?,
            },
        )
    }

    pub fn create_group(
        &self,
        actor: &str,
        edit: Edit<'_, Group>,
    ) -> Result<Versioned<Group>, DirectoryError> {
        let id = self.fresh(GroupId::new, |snapshot, id| snapshot.group(id).is_some());
        self.create(
            actor,
            edit,
            Group { id, name: "".into(), multiplier_ppm: decimal::PPM, created_at: self.now()? },
        )
    }

    /// Adds the next version of a model's price. `effective_at` is now unless `edit` sets it.
    pub fn add_price(
        &self,
        actor: &str,
        model: ModelId,
        edit: Edit<'_, Price>,
    ) -> Result<Versioned<Price>, DirectoryError> {
        let newest = |snapshot: &Snapshot| {
            let prices = snapshot.model_by_id(model).map(|entry| entry.prices.as_slice()).unwrap_or_default();
            prices.iter().map(|price| price.version).max().unwrap_or(0)
        };
        let taken =
            |snapshot: &Snapshot, id| snapshot.models().flat_map(|entry| &entry.prices).any(|p| p.id == id);
        let now = self.now()?;
        let mut price = Price {
            id: self.fresh(PriceId::new, taken),
            model,
            version: 0,
            effective_at: now,
            per_million: Default::default(),
            per_call: Nano::ZERO,
            created_at: now,
        };
        edit(&mut price)?;
        self.commit(actor, |writer, snapshot| {
            let price = Price { version: newest(snapshot) + 1, ..price.clone() };
            price.check(None, snapshot, now)?;
            let written = writer.put(None, Arc::new(price))?;
            Ok((vec![written.change()], written))
        })
    }

    /// `credential` is the provider's key; it is sealed and never shown again.
    pub fn create_channel(
        &self,
        actor: &str,
        credential: &Secret,
        edit: Edit<'_, Channel>,
    ) -> Result<Versioned<Channel>, DirectoryError> {
        let id = self.fresh(ChannelId::new, |snapshot, id| snapshot.channel(id).is_some());
        self.create(
            actor,
            edit,
            Channel {
                id,
                name: "".into(),
                provider: ProviderKind::Openai,
                base_url: "".into(),
                credential: self.seal(id, credential)?,
                models: Default::default(),
                groups: Vec::new(),
                environments: vec![Environment::Live],
                priority: 0,
                status: ChannelStatus::Enabled,
                output_cap_field: CapField::MaxCompletionTokens,
                created_at: self.now()?,
            },
        )
    }

    /// Changes a channel; `credential` replaces its key.
    pub fn edit_channel(
        &self,
        actor: &str,
        id: ChannelId,
        expected: Option<u64>,
        credential: Option<&Secret>,
        edit: Edit<'_, Channel>,
    ) -> Result<Versioned<Channel>, DirectoryError> {
        let sealed = credential.map(|credential| self.seal(id, credential)).transpose()?;
        self.edit(actor, id.raw(), expected, &|channel: &mut Channel| {
            if let Some(sealed) = &sealed {
                channel.credential = sealed.clone();
            }
            edit(channel)
        })
    }

    /// Makes a key. `import` is the text of a foreign key that is to work here as well; without it a text is
    /// drawn. Either way the text is kept as a keyed hash alone.
    pub fn create_key(
        &self,
        actor: &str,
        order: KeyOrder,
        import: Option<Secret>,
        edit: Edit<'_, Key>,
    ) -> Result<CreatedKey, DirectoryError> {
        let text = match import {
            Some(text) => importable(text)?,
            None => self.draw(order.environment),
        };
        let (masked, hash) = (keytext::mask(text.expose()), self.hash(&text));
        if self.snapshot.load().key_by_hash(&hash).is_some() {
            return Err(DirectoryError::NameTaken { field: "import", name: masked });
        }
        let id = self.fresh(KeyId::new, |snapshot, id| snapshot.key(id).is_some());
        let key = self.create(
            actor,
            edit,
            Key {
                id,
                account: order.account,
                name: "".into(),
                environment: order.environment,
                hash,
                masked: masked.into(),
                status: KeyStatus::Enabled,
                group: None,
                limits: Vec::new(),
                created_at: self.now()?,
            },
        )?;
        Ok(CreatedKey { key, text })
    }

    /// Makes many keys of one account in one transaction, such as for an import or a measurement.
    pub fn create_keys(
        &self,
        actor: &str,
        order: KeyOrder,
        count: u32,
        edit: Edit<'_, Key>,
    ) -> Result<Vec<Secret>, DirectoryError> {
        let mut seen = std::collections::HashSet::new();
        let mut made = Vec::new();
        for _ in 0..count {
            let text = self.draw(order.environment);
            let id = self.fresh(KeyId::new, |snapshot, id| snapshot.key(id).is_some() || seen.contains(&id));
            seen.insert(id);
            let mut key = Key {
                id,
                account: order.account,
                name: "".into(),
                environment: order.environment,
                hash: self.hash(&text),
                masked: keytext::mask(text.expose()).into(),
                status: KeyStatus::Enabled,
                group: None,
                limits: Vec::new(),
                created_at: self.now()?,
            };
            edit(&mut key)?;
            made.push((Arc::new(key), text));
        }
        let now = self.now()?;
        self.commit(actor, |writer, snapshot| {
            let written = made.iter().map(|(key, _)| {
                key.check(None, snapshot, now)?;
                Ok(writer.put(None, Arc::clone(key))?.change())
            });
            Ok((written.collect::<Result<_, DirectoryError>>()?, ()))
        })?;
        Ok(made.into_iter().map(|(_, text)| text).collect())
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
            let before = writer.current::<D>(id)?;
            let before =
                before.ok_or_else(|| DirectoryError::NotFound { kind: D::KIND, id: D::text_of(id) })?;
            if let Some(expected) = expected.filter(|expected| *expected != before.version) {
                return Err(DirectoryError::EditConflict {
                    kind: D::KIND,
                    expected,
                    current: before.version,
                });
            }
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

    fn create<D: Document>(
        &self,
        actor: &str,
        edit: Edit<'_, D>,
        mut document: D,
    ) -> Result<Versioned<D>, DirectoryError> {
        let now = self.now()?;
        edit(&mut document)?;
        self.commit(actor, |writer, snapshot| {
            document.check(None, snapshot, now)?;
            let written = writer.put(None, Arc::new(document.clone()))?;
            Ok((vec![written.change()], written))
        })
    }

    /// Runs `work` in one transaction and then shows its changes to the next decision. `work` may run more
    /// than once, each time on the directory as the store has it by then.
    fn commit<T>(
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

    fn now(&self) -> Result<Timestamp, DirectoryError> {
        let now_ms = self.clock.now_ms();
        Timestamp::from_millisecond(now_ms)
            .map_err(|_| DirectoryError::invalid("created_at", "the machine's clock shows no possible time"))
    }

    /// An id that no object of the snapshot has: two of one millisecond may be alike.
    fn fresh<I: Copy>(
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
        self.snapshot.load().key_by_hash(&KeyHash(self.master.key_hash(text))).cloned()
    }

    fn draw(&self, environment: Environment) -> Secret {
        let environment = match environment {
            Environment::Live => keytext::Environment::Live,
            Environment::Test => keytext::Environment::Test,
        };
        Secret::new(keytext::ApiKey::generate(&*self.entropy, environment).expose())
    }

    fn hash(&self, text: &Secret) -> KeyHash {
        KeyHash(self.master.key_hash(text.expose().as_bytes()))
    }

    fn seal(&self, id: ChannelId, credential: &Secret) -> Result<Box<str>, DirectoryError> {
        if credential.expose().chars().any(|c| !c.is_ascii_graphic()) {
            return Err(DirectoryError::invalid("credential", "must be visible ASCII without blanks"));
        }
        let sealed = self.master.seal(&sealing_purpose(id), credential.expose().as_bytes());
        Ok(hex::encode(&sealed.map_err(DirectoryError::Sealing)?).into())
    }

    /// The provider's key of a channel, for the one who calls it.
    pub fn credential(&self, channel: &Channel) -> Result<Secret, DirectoryError> {
        let damaged = || DirectoryError::Sealing(MasterKeyError::Damaged);
        let sealed = hex::decode_vec(&channel.credential).ok_or_else(damaged)?;
        let plain =
            self.master.open(&sealing_purpose(channel.id), &sealed).map_err(DirectoryError::Sealing)?;
        std::str::from_utf8(plain.expose()).map(Secret::new).map_err(|_| damaged())
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

/// A sealed credential opens for its own channel alone.
fn sealing_purpose(id: ChannelId) -> String {
    format!("channel credential {id}")
}

/// A foreign key must be one that a caller can send, and long enough not to be guessed.
fn importable(text: Secret) -> Result<Secret, DirectoryError> {
    let fault = if text.expose().len() < IMPORTED_KEY_BYTES_MIN {
        "must have at least 16 characters"
    } else if !text.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        "must be visible ASCII without blanks"
    } else {
        return Ok(text);
    };
    Err(DirectoryError::invalid("import", fault))
}
