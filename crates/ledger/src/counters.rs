//! Counters: what was used of a limit in one instance of its window, and what is held against it. The
//! limit's value is configuration and comes with each hold; the books only count.

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::ids::Timestamp;
use crate::window::{WindowInstance, WindowKind};

/// Whose limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Layer {
    Key = 1,
    Member = 2,
    Project = 3,
    Model = 4,
    Group = 5,
    Organization = 6,
    Account = 7,
}

impl Layer {
    pub fn from_code(code: u8) -> Option<Self> {
        use Layer::{Account, Group, Key, Member, Model, Organization, Project};
        [Key, Member, Project, Model, Group, Organization, Account]
            .into_iter()
            .find(|layer| *layer as u8 == code)
    }
}

/// What is counted: nano-units, or calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Metric {
    Spend = 1,
    Calls = 2,
}

impl Metric {
    pub fn from_code(code: u8) -> Option<Self> {
        [Metric::Spend, Metric::Calls].into_iter().find(|metric| *metric as u8 == code)
    }
}

/// Which figure, over all instances of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    pub layer: Layer,
    /// Id of the key, member, project …
    pub subject: u64,
    /// Id of the model that the limit is for; 0 for all.
    pub model: u64,
    pub metric: Metric,
    pub window: WindowKind,
}

/// Two figures of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub used: i64,
    pub held: i64,
}

/// How long after its end an instance is remembered at least: callers' clocks may lag behind the books'.
pub(crate) const FORGET_AFTER_MS: i64 = 3_600_000;

/// Place of an instance in the table; stays valid while a hold counts in it.
pub(crate) type Slot = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub key: CounterKey,
    pub window: WindowInstance,
    pub counter: Counter,
    /// Open holds that count here.
    pub holds: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    slots: Vec<Option<Instance>>,
    free: Vec<Slot>,
    /// Live instances of each counter: one, or two around the turn of a window.
    index: HashMap<CounterKey, SmallVec<[Slot; 2]>>,
}

impl Counters {
    pub fn get(&self, key: &CounterKey, start: Timestamp) -> Counter {
        self.find(key, start)
            .and_then(|slot| self.at(slot))
            .map(|instance| instance.counter)
            .unwrap_or_default()
    }

    pub fn at(&self, slot: Slot) -> Option<&Instance> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub fn at_mut(&mut self, slot: Slot) -> Option<&mut Instance> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub fn find(&self, key: &CounterKey, start: Timestamp) -> Option<Slot> {
        let slots = self.index.get(key)?;
        slots
            .iter()
            .copied()
            .find(|slot| self.at(*slot).is_some_and(|instance| instance.window.start == start))
    }

    /// The slot of an instance, made if it is new. Instances of the same counter that ended a while ago and
    /// that no hold counts in are forgotten on the way. An instance lasts until the latest end that it was
    /// ever given: after a change of the time zone two windows can begin, but not end, together.
    pub fn open(&mut self, key: CounterKey, window: WindowInstance, now: Timestamp) -> Slot {
        if let Some(slot) = self.find(&key, window.start) {
            if let Some(instance) = self.at_mut(slot) {
                instance.window.end = instance.window.end.max(window.end);
            }
            return slot;
        }
        self.forget_ended(&key, now);
        let instance = Instance { key, window, counter: Counter::default(), holds: 0 };
        self.insert(instance)
    }

    pub fn insert(&mut self, instance: Instance) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).unwrap_or(Slot::MAX)
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(instance);
        }
        self.index.entry(instance.key).or_default().push(slot);
        slot
    }

    fn forget_ended(&mut self, key: &CounterKey, now: Timestamp) {
        let Some(known) = self.index.get_mut(key) else { return };
        let (slots, free) = (&mut self.slots, &mut self.free);
        known.retain(|slot| {
            let Some(place) = slots.get_mut(*slot as usize) else { return false };
            let ended = place.is_none_or(|instance| {
                instance.holds == 0 && instance.window.end.0.saturating_add(FORGET_AFTER_MS) <= now.0
            });
            if ended {
                *place = None;
                free.push(*slot);
            }
            !ended
        });
    }

    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Instance)> {
        (0..).zip(&self.slots).filter_map(|(slot, place)| Some((slot, place.as_ref()?)))
    }
}
