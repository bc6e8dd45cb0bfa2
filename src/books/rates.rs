//! How fast each key is used: requests per second, tokens per minute, calls at the same time.
//!
//! In memory alone: a rate is never journaled, and a restart forgives. Pure: the time is given, in nanoseconds of a
//! clock that never goes back. Requests are metered by GCRA, tokens by a bucket that leaks at the limit's rate.
//! A key that is at rest is forgotten, so that the table is no larger than what is going on.

use hashbrown::HashMap;

use crate::directory::Rates;
use crate::gateway::facts::RateReading;
use crate::id::KeyId;

const SECOND_NS: u64 = 1_000_000_000;
/// A token in the unit of the bucket: it then leaks `tokens per minute` units in a nanosecond.
const TOKEN: u128 = 60 * SECOND_NS as u128;
/// Keys that are kept at least before those at rest are looked for.
const SWEEP_MIN: usize = 1_024;

/// A key whose use is metered, with the limits that hold now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rated {
    pub key: KeyId,
    pub limits: Rates,
}

/// A place of a running call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub key: KeyId,
    /// As many as the call may come to.
    pub tokens: u64,
}

#[derive(Debug, Default)]
pub(super) struct Meters {
    keys: HashMap<KeyId, Meter>,
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    /// When the next request would come if they came evenly (GCRA's theoretical arrival time).
    due_ns: u64,
    /// Fill of the bucket at `filled_ns`.
    fill: u128,
    filled_ns: u64,
    running: u64,
}

impl Meters {
    pub fn read(&self, rated: Rated, now_ns: u64) -> RateReading {
        let meter = self.keys.get(&rated.key).copied().unwrap_or_default();
        let fill = meter.fill_at(rated.limits.tokens_per_minute, now_ns);
        RateReading {
            limits: rated.limits,
            ahead_ns: meter.due_ns.saturating_sub(now_ns),
            tokens: u64::try_from(fill.div_ceil(TOKEN)).unwrap_or(u64::MAX),
            running: meter.running,
        }
    }

    /// A request that the rates let pass, whatever becomes of it.
    pub fn request(&mut self, rated: Rated, now_ns: u64) {
        if let Some(rate) = rated.limits.requests_per_second {
            let meter = self.meter(rated.key, now_ns);
            meter.due_ns = meter.due_ns.max(now_ns).saturating_add(SECOND_NS / rate.max(1));
        }
    }

    /// A call begins, and holds as many tokens as it may come to.
    pub fn begin(&mut self, rated: Rated, tokens: u64, now_ns: u64) -> Slot {
        let meter = self.meter(rated.key, now_ns);
        meter.leak(rated.limits.tokens_per_minute, now_ns);
        meter.fill = meter.fill.saturating_add(u128::from(tokens) * TOKEN);
        meter.running += 1;
        Slot { key: rated.key, tokens }
    }

    /// A call ends: what it held beyond what it used is given back.
    pub fn end(&mut self, slot: Slot, used: u64) {
        if let Some(meter) = self.keys.get_mut(&slot.key) {
            meter.running = meter.running.saturating_sub(1);
            let (held, used) = (u128::from(slot.tokens) * TOKEN, u128::from(used) * TOKEN);
            meter.fill = meter.fill.saturating_sub(held.saturating_sub(used));
            meter.fill = meter.fill.saturating_add(used.saturating_sub(held));
        }
    }

    fn meter(&mut self, key: KeyId, now_ns: u64) -> &mut Meter {
        if self.keys.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.keys.retain(|_, meter| !meter.is_at_rest(now_ns));
            self.sweep_at = self.keys.len() * 2;
        }
        self.keys.entry(key).or_default()
    }
}

impl Meter {
    /// A bucket without a limit does not leak by it, but empties within a minute all the same.
    fn fill_at(&self, limit: Option<u64>, now_ns: u64) -> u128 {
        let elapsed = now_ns.saturating_sub(self.filled_ns);
        match limit {
            Some(limit) => self.fill.saturating_sub(u128::from(limit) * u128::from(elapsed)),
            None if elapsed >= 60 * SECOND_NS => 0,
            None => self.fill,
        }
    }

    fn leak(&mut self, limit: Option<u64>, now_ns: u64) {
        self.fill = self.fill_at(limit, now_ns);
        self.filled_ns = now_ns;
    }

    /// Nothing runs, and whatever limit held, a minute without a call has emptied it.
    fn is_at_rest(&self, now_ns: u64) -> bool {
        let idle_since = self.filled_ns.saturating_add(60 * SECOND_NS);
        self.running == 0 && self.due_ns <= now_ns && idle_since <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: KeyId = KeyId::from_raw(7);

    fn rated(requests_per_second: Option<u64>, tokens_per_minute: Option<u64>) -> Rated {
        Rated { key: KEY, limits: Rates { requests_per_second, tokens_per_minute, concurrency: None } }
    }

    #[test]
    fn tokens_leak_at_the_rate_of_the_limit() {
        let (mut meters, rated) = (Meters::default(), rated(None, Some(600)));
        let slot = meters.begin(rated, 500, 0);
        assert_eq!((meters.read(rated, 0).tokens, meters.read(rated, 0).running), (500, 1));
        meters.end(slot, 100);
        assert_eq!((meters.read(rated, 0).tokens, meters.read(rated, 0).running), (100, 0));
        assert_eq!(meters.read(rated, 5 * SECOND_NS).tokens, 50);
        assert_eq!(meters.read(rated, 10 * SECOND_NS).tokens, 0);
    }

    #[test]
    fn keys_at_rest_are_forgotten() {
        let mut meters = Meters::default();
        for key in 0..100_000 {
            let rated = Rated { key: KeyId::from_raw(key), ..rated(Some(1), None) };
            meters.request(rated, key * SECOND_NS);
        }
        assert!(meters.keys.len() <= SWEEP_MIN, "{}", meters.keys.len());
    }

    proptest! {
        /// Whatever comes when: within any second no more than two rates' worth pass (a burst and a second's flow),
        /// and whoever waits as long as was said passes.
        #[test]
        fn requests_pass_at_the_rate_and_no_faster(
            rate in 1_u64..50, gaps in prop::collection::vec(0_u64..SECOND_NS / 10, 1..400),
        ) {
            let (mut meters, rated) = (Meters::default(), rated(Some(rate), None));
            let (mut now, mut passed) = (SECOND_NS, Vec::new());
            for gap in gaps {
                now += gap;
                match meters.read(rated, now).request_wait_ns() {
                    0 => {
                        meters.request(rated, now);
                        passed.push(now);
                    }
                    wait => prop_assert_eq!(meters.read(rated, now + wait).request_wait_ns(), 0),
                }
            }
            for (at, first) in passed.iter().enumerate() {
                let within = passed.iter().skip(at).filter(|other| **other < first + SECOND_NS).count();
                prop_assert!(within as u64 <= 2 * rate, "{} in a second at {}", within, rate);
            }
        }

        /// Begun and ended in any order, no call leaves a place or a token behind.
        #[test]
        fn every_place_is_given_back(calls in prop::collection::vec((0_u64..1_000_000, 0_u64..1_000_000), 0..100)) {
            let (mut meters, rated) = (Meters::default(), rated(None, Some(1)));
            let slots: Vec<_> = calls.iter().map(|(held, _)| meters.begin(rated, *held, 0)).collect();
            let used: u64 = calls.iter().map(|(_, used)| used).sum();
            for (slot, (_, used)) in slots.into_iter().zip(&calls) {
                meters.end(slot, *used);
            }
            let reading = meters.read(rated, 0);
            prop_assert_eq!((reading.running, reading.tokens), (0, used));
        }
    }
}
