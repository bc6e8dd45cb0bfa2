//! The directory in memory, immutable. A change makes a new snapshot that shares all but what it touched:
//! one shard of 1,024 for a key or an account, the root for models, prices, channels and groups.

use std::sync::Arc;

use hashbrown::HashMap;
use jiff::tz::TimeZone;

use crate::id::{AccountId, ChannelId, GroupId, KeyId, ModelId};

use super::documents::{Account, Channel, ChannelStatus, Environment, Group, Key, KeyHash, Model, Price};

const SHARDS: usize = 1_024;

/// An account with what is worked out once per change rather than once per call.
#[derive(Clone, Debug)]
pub struct AccountEntry {
    pub account: Arc<Account>,
    pub zone: TimeZone,
}

/// A model, its prices from the newest to the oldest, and the channels that serve it, best first.
#[derive(Clone, Debug)]
pub struct ModelEntry {
    pub model: Arc<Model>,
    pub prices: Vec<Arc<Price>>,
    pub channels: Vec<Arc<Channel>>,
}

impl ModelEntry {
    /// The price in force at `at_ms`; `None` if none is yet.
    pub fn price_at(&self, at_ms: i64) -> Option<&Arc<Price>> {
        self.prices.iter().find(|price| price.effective_at.as_millisecond() <= at_ms)
    }

    /// Whether any channel serves the model in this environment, whatever its groups.
    pub fn is_served(&self, environment: Environment) -> bool {
        self.channels.iter().any(|channel| channel.environments.contains(&environment))
    }

    /// The channels that a key of this environment and group may use, best first.
    pub fn channels_for(
        &self,
        environment: Environment,
        group: Option<GroupId>,
    ) -> impl Iterator<Item = &Arc<Channel>> {
        self.channels.iter().filter(move |channel| {
            channel.environments.contains(&environment)
                && (channel.groups.is_empty() || group.is_some_and(|group| channel.groups.contains(&group)))
        })
    }
}

/// One document of the directory.
#[derive(Clone, Debug)]
pub enum Object {
    Account(Arc<Account>),
    Key(Arc<Key>),
    Model(Arc<Model>),
    Price(Arc<Price>),
    Channel(Arc<Channel>),
    Group(Arc<Group>),
    /// A version that changed no object.
    Nothing,
}

/// A document as it is from `version` on.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub object: Object,
}

#[derive(Clone, Debug, Default)]
struct Root {
    models: HashMap<Box<str>, ModelEntry>,
    names: HashMap<ModelId, Box<str>>,
    channels: HashMap<ChannelId, Arc<Channel>>,
    groups: HashMap<GroupId, Arc<Group>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: u64,
    root: Arc<Root>,
    accounts: Vec<Arc<HashMap<AccountId, AccountEntry>>>,
    keys: Vec<Arc<HashMap<KeyId, Arc<Key>>>>,
    hashes: Vec<Arc<HashMap<KeyHash, Arc<Key>>>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Snapshot {
            version: 0,
            root: Arc::default(),
            accounts: vec![Arc::default(); SHARDS],
            keys: vec![Arc::default(); SHARDS],
            hashes: vec![Arc::default(); SHARDS],
        }
    }
}

impl Snapshot {
    /// The configuration version that this snapshot shows.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn account(&self, id: AccountId) -> Option<&AccountEntry> {
        self.accounts.get(shard_of_id(id.raw()))?.get(&id)
    }

    pub fn key(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.get(shard_of_id(id.raw()))?.get(&id)
    }

    pub fn key_by_hash(&self, hash: &KeyHash) -> Option<&Arc<Key>> {
        self.hashes.get(shard_of_hash(hash))?.get(hash)
    }

    pub fn model(&self, name: &str) -> Option<&ModelEntry> {
        self.root.models.get(name)
    }

    pub fn model_by_id(&self, id: ModelId) -> Option<&ModelEntry> {
        self.model(self.root.names.get(&id)?)
    }

    pub fn models(&self) -> impl Iterator<Item = &ModelEntry> {
        self.root.models.values()
    }

    pub fn channel(&self, id: ChannelId) -> Option<&Arc<Channel>> {
        self.root.channels.get(&id)
    }

    pub fn channels(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.root.channels.values()
    }

    pub fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.root.groups.get(&id)
    }

    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.root.groups.values()
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.iter().flat_map(|shard| shard.values().map(|entry| &entry.account))
    }

    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.iter().flat_map(|shard| shard.values())
    }

    /// Takes changes in, in place. Shards that are shared with another snapshot are copied first, so a
    /// change to a clone leaves the original as it was, and a first load copies nothing.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        let mut root_changed = false;
        for change in changes {
            self.version = self.version.max(change.version);
            match change.object {
                Object::Account(account) => self.put_account(account),
                Object::Key(key) => self.put_key(key),
                Object::Nothing => {}
                object => {
                    Arc::make_mut(&mut self.root).put(object);
                    root_changed = true;
                }
            }
        }
        if root_changed {
            Arc::make_mut(&mut self.root).link_channels();
        }
    }

    fn put_account(&mut self, account: Arc<Account>) {
        // A zone is checked when the document is saved; one that a newer time-zone database dropped falls back to UTC.
        let zone = TimeZone::get(&account.time_zone).unwrap_or(TimeZone::UTC);
        if let Some(shard) = self.accounts.get_mut(shard_of_id(account.id.raw())) {
            Arc::make_mut(shard).insert(account.id, AccountEntry { account, zone });
        }
    }

    fn put_key(&mut self, key: Arc<Key>) {
        let by_id = self.keys.get_mut(shard_of_id(key.id.raw()));
        let before = by_id.and_then(|shard| Arc::make_mut(shard).insert(key.id, Arc::clone(&key)));
        if let Some(before) = before.filter(|before| before.hash != key.hash)
            && let Some(shard) = self.hashes.get_mut(shard_of_hash(&before.hash))
        {
            Arc::make_mut(shard).remove(&before.hash);
        }
        if let Some(shard) = self.hashes.get_mut(shard_of_hash(&key.hash)) {
            Arc::make_mut(shard).insert(key.hash, key);
        }
    }
}

impl Root {
    fn put(&mut self, object: Object) {
        match object {
            Object::Model(model) => self.put_model(model),
            Object::Price(price) => self.put_price(price),
            Object::Channel(channel) => {
                self.channels.insert(channel.id, channel);
            }
            Object::Group(group) => {
                self.groups.insert(group.id, group);
            }
            Object::Account(_) | Object::Key(_) | Object::Nothing => {}
        }
    }

    fn put_model(&mut self, model: Arc<Model>) {
        let before = self.names.insert(model.id, model.name.clone());
        let prices =
            before.and_then(|name| self.models.remove(&name)).map(|entry| entry.prices).unwrap_or_default();
        self.models.insert(model.name.clone(), ModelEntry { model, prices, channels: Vec::new() });
    }

    fn put_price(&mut self, price: Arc<Price>) {
        let Some(entry) = self.names.get(&price.model).and_then(|name| self.models.get_mut(name)) else {
            return;
        };
        entry.prices.retain(|known| known.id != price.id);
        entry.prices.push(price);
        entry.prices.sort_by_key(|price| std::cmp::Reverse((price.effective_at, price.version)));
    }

    /// Lists with each model the enabled channels that serve it.
    fn link_channels(&mut self) {
        let mut channels: Vec<_> = self
            .channels
            .values()
            .filter(|channel| channel.status == ChannelStatus::Enabled)
            .cloned()
            .collect();
        channels.sort_by_key(|channel| (std::cmp::Reverse(channel.priority), channel.id));
        for (name, entry) in &mut self.models {
            entry.channels =
                channels.iter().filter(|channel| channel.models.contains_key(name)).cloned().collect();
        }
    }
}

fn shard_of_id(id: u64) -> usize {
    // The low 22 bits of an id are random.
    usize::try_from(id).unwrap_or(0) % SHARDS
}

fn shard_of_hash(hash: &KeyHash) -> usize {
    let [first, second, ..] = hash.0;
    usize::from(u16::from_le_bytes([first, second])) % SHARDS
}
