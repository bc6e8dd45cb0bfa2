//! Maps in 1,024 parts, of which a change copies one.
//!
//! What is found by a key holds that key itself, so an entry takes no more room than the value: of a million keys the
//! two maps together cost some 40 bytes a key.

use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::marker::PhantomData;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};

use crate::id::{
    AccountId, AnnouncementId, AppealId, KeyId, MemberId, NoticeEndpointId, PolicyId, ProjectId,
};

use super::documents::KeyHash;

const SHARDS: usize = 1_024;

/// See the module.
pub(super) struct Shards<I: Index> {
    parts: Vec<Arc<HashTable<I::Value>>>,
    hasher: DefaultHashBuilder,
}

/// By what the values of a map are found.
pub(super) trait Index {
    type Key: Sharded;
    type Value: Clone;

    fn key(value: &Self::Value) -> &Self::Key;
}

/// Something whose value says which part it is in.
pub(super) trait Sharded: Eq + Hash {
    fn shard(&self) -> usize;
}

pub(super) trait Identified {
    type Id: Sharded;

    fn id(&self) -> &Self::Id;
}

/// What a text of a key leads to.
pub(super) trait Worded {
    fn text(&self) -> &KeyHash;
}

pub(super) struct ById<V>(PhantomData<V>);

pub(super) struct ByText<V>(PhantomData<V>);

impl<V: Identified + Clone> Index for ById<V> {
    type Key = V::Id;
    type Value = V;

    fn key(value: &V) -> &V::Id {
        value.id()
    }
}

impl<V: Worded + Clone> Index for ByText<V> {
    type Key = KeyHash;
    type Value = V;

    fn key(value: &V) -> &KeyHash {
        value.text()
    }
}

impl<I: Index> Shards<I> {
    pub fn get(&self, key: &I::Key) -> Option<&I::Value> {
        self.parts.get(key.shard())?.find(self.hasher.hash_one(key), |value| I::key(value) == key)
    }

    /// Answers what was there under the same key.
    pub fn insert(&mut self, value: I::Value) -> Option<I::Value> {
        let (key, hasher) = (I::key(&value), &self.hasher);
        let part = Arc::make_mut(self.parts.get_mut(key.shard())?);
        let found = part.entry(
            hasher.hash_one(key),
            |other| I::key(other) == key,
            |other| hasher.hash_one(I::key(other)),
        );
        match found {
            Entry::Occupied(mut place) => Some(std::mem::replace(place.get_mut(), value)),
            Entry::Vacant(place) => {
                place.insert(value);
                None
            }
        }
    }

    pub fn remove(&mut self, key: &I::Key) {
        if let Some(part) = self.parts.get_mut(key.shard())
            && let Ok(place) =
                Arc::make_mut(part).find_entry(self.hasher.hash_one(key), |value| I::key(value) == key)
        {
            place.remove();
        }
    }

    pub fn values(&self) -> impl Iterator<Item = &I::Value> {
        self.parts.iter().flat_map(|part| part.iter())
    }
}

impl<I: Index> Default for Shards<I> {
    fn default() -> Self {
        Shards { parts: vec![Arc::default(); SHARDS], hasher: DefaultHashBuilder::default() }
    }
}

impl<I: Index> Clone for Shards<I> {
    fn clone(&self) -> Self {
        Shards { parts: self.parts.clone(), hasher: self.hasher.clone() }
    }
}

impl<I: Index> fmt::Debug for Shards<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: usize = self.parts.iter().map(|part| part.len()).sum();
        write!(f, "Shards({values} values)")
    }
}

macro_rules! sharded_by_id {
    ($($id:ty),*) => { $(
        impl Sharded for $id {
            /// The low 22 bits of an id are random.
            fn shard(&self) -> usize {
                usize::try_from(self.raw()).unwrap_or(0) % SHARDS
            }
        }
    )* };
}
sharded_by_id!(AccountId, KeyId, ProjectId, MemberId, PolicyId, AppealId, NoticeEndpointId, AnnouncementId);

impl Sharded for KeyHash {
    fn shard(&self) -> usize {
        let [first, second, ..] = self.0;
        usize::from(u16::from_le_bytes([first, second])) % SHARDS
    }
}
