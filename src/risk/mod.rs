//! Risk rules (风险策略): what a key does that its owner would not do, and what follows from it.
//!
//! The gateway tells of every call ([`Watch::observe`]), in memory and without I/O; what a rule finds is taken by
//! [`Watch::take`] and freezes the key ([`freeze`]) with the evidence beside its status. Bounded: keys at rest are
//! forgotten, and a key is found once.

mod regions;

use std::net::IpAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde_json::{Value, json};
use smallvec::SmallVec;

use crate::catalogue::{Code, Fault};
use crate::config::Config;
use crate::directory::{
    Directory, DirectoryError, Key, KeyStatus, StatusNote, StatusOrigin, StatusReason, Versioned,
};
use crate::id::KeyId;

pub use regions::{Regions, RegionsError};

const ACTOR: &str = "risk policy";
const MINUTE_NS: u64 = 60_000_000_000;
const KEYS_MAX: usize = 100_000;
const REGIONS_KEPT: usize = 4;

/// When a rule finds something; zero: it is off.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Calls of one key in a minute.
    pub calls_per_minute: u32,
    /// Refusals of one key in a minute that are its caller's or its account's fault.
    pub refusals_per_minute: u32,
    /// Calls of one key from two regions within this time.
    pub regions_window_ns: u64,
    pub regions: Regions,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Watch {
    rules: Rules,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: HashMap<KeyId, Track>,
    found: Vec<Finding>,
    /// When each live key was last told to be in a page.
    pages: HashMap<KeyId, u64>,
    told: Vec<KeyInPage>,
}

/// A live key that a browser sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInPage {
    pub key: KeyId,
    /// The page, as the browser named it.
    pub origin: Box<str>,
}

/// It is told once a day.
const PAGE_AGAIN_NS: u64 = 24 * 60 * MINUTE_NS;

#[derive(Debug, Default)]
struct Track {
    minute_began_ns: u64,
    calls: u32,
    refusals: u32,
    /// Where calls came from, and when last.
    regions: SmallVec<[(u32, u64); REGIONS_KEPT]>,
    seen_ns: u64,
    is_found: bool,
}

/// A call as the rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    pub key: KeyId,
    pub address: Option<IpAddr>,
    pub refused: Option<Code>,
    pub at_ns: u64,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub key: KeyId,
    pub reason: StatusReason,
    /// What was seen, with its numbers.
    pub evidence: Value,
}

impl Rules {
    pub fn from_config(config: &Config) -> Result<Self, RegionsError> {
        let risk = &config.risk;
        Ok(Rules {
            calls_per_minute: risk.calls_per_minute_max,
            refusals_per_minute: risk.refusals_per_minute_max,
            regions_window_ns: risk.regions_window_ms.saturating_mul(1_000_000),
            regions: risk.regions_file.as_deref().map_or(Ok(Regions::default()), Regions::load)?,
        })
    }

    fn are_off(&self) -> bool {
        self.calls_per_minute == 0 && self.refusals_per_minute == 0 && self.regions_window_ns == 0
    }
}

impl Watch {
    pub fn new(rules: Rules) -> Self {
        Watch { rules, state: Mutex::default() }
    }

    /// Tells of one call of a known key.
    pub fn observe(&self, call: Observation) {
        if self.rules.are_off() {
            return;
        }
        let region = match (self.rules.regions_window_ns, call.address) {
            (1.., Some(address)) => self.rules.regions.of(address),
            _ => None,
        };
        let mut state = self.state.lock();
        if state.keys.len() >= KEYS_MAX && !state.keys.contains_key(&call.key) {
            // Whoever was silent for a minute has nothing counted.
            let keep = self.rules.regions_window_ns.max(MINUTE_NS);
            state.keys.retain(|_, track| call.at_ns.saturating_sub(track.seen_ns) < keep);
            if state.keys.len() >= KEYS_MAX {
                return;
            }
        }
        let track = state.keys.entry(call.key).or_default();
        track.take(&call, region, self.rules.regions_window_ns);
        if !track.is_found
            && let Some((reason, evidence)) = self.rules.judge(track)
        {
            track.is_found = true;
            state.found.push(Finding { key: call.key, reason, evidence });
        }
    }

    /// Tells of a live key that came from a page.
    pub fn observe_page(&self, key: KeyId, origin: &str, at_ns: u64) {
        let mut state = self.state.lock();
        let is_old = |told_ns: u64| at_ns.saturating_sub(told_ns) >= PAGE_AGAIN_NS;
        if state.pages.len() >= KEYS_MAX {
            state.pages.retain(|_, told_ns| !is_old(*told_ns));
        }
        let is_due = state.pages.get(&key).is_none_or(|told_ns| is_old(*told_ns));
        if is_due && state.pages.len() < KEYS_MAX {
            state.pages.insert(key, at_ns);
            state.told.push(KeyInPage { key, origin: origin.into() });
        }
    }

    pub fn take_pages(&self) -> Vec<KeyInPage> {
        std::mem::take(&mut self.state.lock().told)
    }

    /// What was found since the last time.
    pub fn take(&self) -> Vec<Finding> {
        std::mem::take(&mut self.state.lock().found)
    }

    /// Lets the rules look at a key anew, such as after an appeal.
    pub fn forget(&self, key: KeyId) {
        self.state.lock().keys.remove(&key);
    }
}

impl Track {
    fn take(&mut self, call: &Observation, region: Option<u32>, window_ns: u64) {
        if call.at_ns.saturating_sub(self.minute_began_ns) >= MINUTE_NS {
            (self.minute_began_ns, self.calls, self.refusals) = (call.at_ns, 0, 0);
        }
        self.seen_ns = call.at_ns;
        self.calls = self.calls.saturating_add(1);
        let is_own_fault = |code: Code| matches!(code.fault(), Fault::Caller | Fault::Account);
        self.refusals = self.refusals.saturating_add(u32::from(call.refused.is_some_and(is_own_fault)));
        if let Some(region) = region {
            self.regions
                .retain(|(known, at_ns)| *known != region && call.at_ns.saturating_sub(*at_ns) < window_ns);
            if self.regions.len() == REGIONS_KEPT {
                self.regions.remove(0);
            }
            self.regions.push((region, call.at_ns));
        }
    }
}

impl Rules {
    fn judge(&self, track: &Track) -> Option<(StatusReason, Value)> {
        if self.calls_per_minute > 0 && track.calls > self.calls_per_minute {
            let evidence = json!({"calls_in_a_minute": track.calls, "allowed": self.calls_per_minute});
            return Some((StatusReason::HighFrequency, evidence));
        }
        if self.refusals_per_minute > 0 && track.refusals > self.refusals_per_minute {
            let evidence =
                json!({"refusals_in_a_minute": track.refusals, "allowed": self.refusals_per_minute});
            return Some((StatusReason::RepeatedRefusals, evidence));
        }
        if track.regions.len() > 1 {
            let names: Vec<_> =
                track.regions.iter().filter_map(|(region, _)| self.regions.name(*region)).collect();
            let window_s = self.regions_window_ns / 1_000_000_000;
            return Some((StatusReason::CrossRegion, json!({"regions": names, "within_seconds": window_s})));
        }
        None
    }
}

/// Freezes the key of a finding, with the evidence beside its status. `None`: it is not enabled, so it stays as it is.
pub fn freeze(
    directory: &Directory,
    finding: &Finding,
    now: jiff::Timestamp,
) -> Result<Option<Versioned<Key>>, DirectoryError> {
    let known = directory.snapshot().key(finding.key).cloned();
    if known.is_none_or(|key| key.status_at(now) != KeyStatus::Enabled) {
        return Ok(None);
    }
    let note = StatusNote {
        origin: StatusOrigin::RiskPolicy,
        reason: finding.reason,
        since: now,
        until: None,
        text: None,
        evidence: Some(finding.evidence.clone()),
    };
    let frozen = directory.edit(ACTOR, finding.key.raw(), None, &|key: &mut Key| {
        if key.status_at(now) == KeyStatus::Enabled {
            (key.status, key.status_note) = (KeyStatus::RiskFrozen, Some(Box::new(note.clone())));
        }
        Ok(())
    })?;
    Ok(Some(frozen))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyId = KeyId::from_raw(7);

    fn call(at_ns: u64) -> Observation {
        Observation { key: KEY, address: None, refused: None, at_ns }
    }

    fn reasons(watch: &Watch) -> Vec<StatusReason> {
        watch.take().iter().map(|finding| finding.reason).collect()
    }

    #[test]
    fn d3_a_key_is_found_once_by_its_frequency() {
        let watch = Watch::new(Rules { calls_per_minute: 10, ..Rules::default() });
        (0..10).for_each(|at| watch.observe(call(MINUTE_NS + at)));
        assert_eq!(reasons(&watch), []);
        // Spread over two minutes it is not too often.
        (0..10).for_each(|at| watch.observe(call(3 * MINUTE_NS + at)));
        assert_eq!(reasons(&watch), []);
        (0..30).for_each(|at| watch.observe(call(3 * MINUTE_NS + 20 + at)));
        let found = watch.take();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].evidence, json!({"calls_in_a_minute": 11, "allowed": 10}));
        watch.forget(KEY);
        (0..30).for_each(|at| watch.observe(call(4 * MINUTE_NS + at)));
        assert_eq!(reasons(&watch), [StatusReason::HighFrequency]);
    }

    #[test]
    fn d3_refusals_count_where_they_are_the_keys_own_fault() {
        let watch = Watch::new(Rules { refusals_per_minute: 5, ..Rules::default() });
        let refused = |code| Observation { refused: Some(code), ..call(MINUTE_NS) };
        (0..20).for_each(|_| watch.observe(refused(Code::NoChannel)));
        (0..5).for_each(|_| watch.observe(refused(Code::ModelNotFound)));
        assert_eq!(reasons(&watch), []);
        watch.observe(refused(Code::KeyBudgetExhausted));
        assert_eq!(reasons(&watch), [StatusReason::RepeatedRefusals]);
    }

    #[test]
    fn d3_two_regions_within_the_window_are_found() {
        let regions = Regions::parse("192.0.2.0/24,CN\n198.51.100.0/24,US\n").unwrap();
        let rules = Rules { regions_window_ns: MINUTE_NS, regions, ..Rules::default() };
        let watch = Watch::new(rules);
        let from = |address: &str, at_ns| Observation { address: address.parse().ok(), ..call(at_ns) };
        watch.observe(from("192.0.2.1", MINUTE_NS));
        watch.observe(from("203.0.113.1", MINUTE_NS + 1));
        watch.observe(from("192.0.2.200", MINUTE_NS + 2));
        watch.observe(from("198.51.100.1", 3 * MINUTE_NS));
        assert_eq!(reasons(&watch), []);
        watch.observe(from("192.0.2.1", 3 * MINUTE_NS + 1));
        let found = watch.take();
        assert_eq!(found[0].evidence, json!({"regions": ["US", "CN"], "within_seconds": 60}));
    }

    #[test]
    fn rules_that_are_off_keep_nothing() {
        let watch = Watch::new(Rules::default());
        (0..1_000).for_each(|at| watch.observe(call(at)));
        assert!(watch.state.lock().keys.is_empty());
    }
}
