//! The channels that could serve a call, and which of them does.
//!
//! A key reaches the channels of its own group first; where none of those can serve, those of the group's fallback
//! groups in their order, each at the multiplier of its group. Inside a group the highest priority comes first, and
//! among equals the weights share the calls out. The choice falls by the request's id, so that the same call is
//! explained as it was decided.

use std::sync::Arc;

use crate::directory::{Channel, Group, Key, Model, ModelEntry, Snapshot, decimal};

/// A channel that could serve a call.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub model: &'a Model,
    pub channel: &'a Arc<Channel>,
    /// Of the group through which it is reached.
    pub multiplier_ppm: u64,
}

/// All of them.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    snapshot: &'a Snapshot,
    model: &'a ModelEntry,
    key: &'a Key,
    group: Option<&'a Group>,
}

impl<'a> Candidates<'a> {
    /// `group`: the key's own.
    pub fn new(
        snapshot: &'a Snapshot,
        model: &'a ModelEntry,
        key: &'a Key,
        group: Option<&'a Group>,
    ) -> Self {
        Candidates { snapshot, model, key, group }
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Group by group, the best first.
    pub fn all(&self) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
        let this = *self;
        (0..this.tiers()).flat_map(move |tier| this.of_tier(tier))
    }

    /// The highest multiplier at which the call can be served: what its hold must cover.
    pub fn dearest_ppm(&self) -> Option<u64> {
        self.all().map(|candidate| candidate.multiplier_ppm).max()
    }

    /// The channel to send the call to, of those that can be used now.
    pub fn choose(&self, seed: u64, can_serve: impl Fn(&Channel) -> bool) -> Option<Candidate<'a>> {
        (0..self.tiers()).find_map(|tier| self.choose_in(tier, seed, &can_serve))
    }

    fn choose_in(
        &self,
        tier: usize,
        seed: u64,
        can_serve: &impl Fn(&Channel) -> bool,
    ) -> Option<Candidate<'a>> {
        let first = self.of_tier(tier).find(|candidate| can_serve(candidate.channel))?;
        let equals = || {
            let priority = first.channel.priority;
            self.of_tier(tier)
                .skip_while(move |candidate| candidate.channel.priority > priority)
                .take_while(move |candidate| candidate.channel.priority == priority)
                .filter(|candidate| can_serve(candidate.channel))
        };
        let total: u64 = equals().map(|candidate| u64::from(candidate.channel.weight)).sum();
        let mut at = seed.checked_rem(total).unwrap_or(0);
        let mut chosen = equals().skip_while(|candidate| {
            let weight = u64::from(candidate.channel.weight);
            let passed = at >= weight;
            at = at.saturating_sub(if passed { weight } else { 0 });
            passed
        });
        // Where all weights are zero, the oldest.
        chosen.next().or(Some(first))
    }

    /// The key's own group, and each that stands in for it.
    fn tiers(&self) -> usize {
        1 + self.group.map_or(0, |group| group.fallback.len())
    }

    fn of_tier(self, tier: usize) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
        let group = self.group_of_tier(tier);
        // A fallback group that is gone, or that does not have the model, serves nothing.
        let is_there = tier == 0 || group.is_some_and(|group| group.contains(&self.model.model.name));
        let multiplier_ppm = group.map_or(decimal::PPM, |group| group.multiplier_ppm);
        self.model
            .channels_for(self.key.environment, group.map(|group| group.id))
            .filter(move |channel| is_there && !self.is_of_earlier_tier(tier, channel))
            .map(move |channel| Candidate { model: &self.model.model, channel, multiplier_ppm })
    }

    fn group_of_tier(&self, tier: usize) -> Option<&'a Group> {
        let own = self.group?;
        match tier.checked_sub(1) {
            None => Some(own),
            Some(at) => self.snapshot.group(*own.fallback.get(at)?).map(|group| &**group),
        }
    }

    /// A channel serves through the first group that has it.
    fn is_of_earlier_tier(&self, tier: usize, channel: &Channel) -> bool {
        let model = &self.model.model.name;
        (0..tier).filter_map(|earlier| Some((earlier, self.group_of_tier(earlier)?))).any(
            |(earlier, group)| (earlier == 0 || group.contains(model)) && channel.is_open_to(Some(group.id)),
        )
    }
}
