//! What the books, the rates and the channels said at a decision.

use ledger::{CounterKey, Nano, WindowInstance};
use smallvec::SmallVec;

use super::LAYERS_INLINE;
use crate::directory::Rates;
use crate::gateway::channel_health::RestReason;
use crate::id::ChannelId;

/// The books as they were at the decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    pub available: Nano,
    pub held: Nano,
    pub counters: SmallVec<[CounterReading; LAYERS_INLINE]>,
    /// `None` if no rate limited the key.
    pub rate: Option<RateReading>,
    /// Channels that could not be used, where that made a difference.
    pub channels: Vec<ChannelReading>,
}

impl Readings {
    /// Whether the channel could not be used.
    pub fn rests(&self, channel: ChannelId) -> bool {
        self.channels.iter().any(|reading| reading.channel == channel)
    }
}

/// A channel that rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelReading {
    pub channel: ChannelId,
    pub reason: RestReason,
    /// Ledger time at which it can be used again, as far as that is known.
    pub until_ms: i64,
}

/// How fast a key was used, and the limits that held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateReading {
    pub limits: Rates,
    /// How far requests were ahead of an even flow.
    pub ahead_ns: u64,
    /// Tokens of the last minute, those that running calls may come to among them.
    pub tokens: u64,
    /// Calls under way.
    pub running: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterReading {
    pub counter: CounterKey,
    pub window: WindowInstance,
    pub used: i64,
    pub held: i64,
}
