//! A flood of refused calls must not fill the disk, nor cost the good ones anything.
//!
//! Of each source – an address without a known key, or a key – and each code, so many refusals are recorded one by
//! one; what comes faster is counted, and recorded as one row with its count every few seconds. The caller of a call
//! that was only counted is told that it has no Why. Bounded: where there are too many sources, they share one.

use std::net::IpAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::catalogue::Code;
use crate::id::KeyId;

use super::facts::Decided;

/// Refusals of one source and code that are recorded at once, and how many more per second.
const BURST: u64 = 100;
const PER_SECOND: u64 = 5;
const SOURCES_MAX: usize = 4_096;
const SECOND_NS: u64 = 1_000_000_000;

/// Whose refusals are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Key(KeyId),
    /// IPv4 as it is, of IPv6 the 64 bits of the network.
    Network(u64),
    Unknown,
    /// There are more than can be told apart.
    Any,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Flood {
    buckets: Mutex<HashMap<(Source, Code), Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// GCRA: when the next refusal would come if they came evenly.
    due_ns: u64,
    counted: u32,
    /// The first of those that were only counted.
    sample: Option<Box<Decided>>,
}

impl Flood {
    /// Whether a refusal is to be recorded on its own; if not, it is counted here.
    pub fn records(&self, decided: &Decided, code: Code, now_ns: u64) -> bool {
        let mut buckets = self.buckets.lock();
        let source = Source::of(decided);
        let known = buckets.contains_key(&(source, code)) || buckets.len() < SOURCES_MAX;
        let source = if known { source } else { Source::Any };
        let bucket = buckets.entry((source, code)).or_insert(Bucket { due_ns: 0, counted: 0, sample: None });
        let interval = SECOND_NS / PER_SECOND;
        if bucket.due_ns.saturating_sub(now_ns) <= interval * (BURST - 1) {
            bucket.due_ns = bucket.due_ns.max(now_ns) + interval;
            return true;
        }
        bucket.counted = bucket.counted.saturating_add(1);
        if bucket.sample.is_none() {
            bucket.sample = Some(Box::new(decided.clone()));
        }
        false
    }

    /// What was counted since the last time, one record for each source and code; sources at rest are forgotten.
    pub fn drain(&self, now_ns: u64) -> Vec<Decided> {
        let mut buckets = self.buckets.lock();
        let mut counted = Vec::new();
        buckets.retain(|_, bucket| {
            if let Some(sample) = bucket.sample.take() {
                counted.push(Decided { calls: std::mem::take(&mut bucket.counted), ..*sample });
            }
            bucket.due_ns > now_ns
        });
        counted
    }
}

impl Source {
    fn of(decided: &Decided) -> Self {
        if let Some(credential) = decided.facts.credential.passed() {
            return Source::Key(credential.key);
        }
        match decided.facts.client.address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => Source::Network(u64::from(address.to_bits())),
            Some(IpAddr::V6(address)) => Source::Network((address.to_bits() >> 64) as u64),
            None => Source::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Refusal;
    use crate::gateway::facts::{Checked, Client, Endpoint, Facts, Repetition};
    use crate::id::RequestId;

    fn refused(address: IpAddr) -> Decided {
        let facts = Facts {
            request: RequestId::from_raw(1),
            at_ms: 0,
            config_version: 1,
            address: Checked::Passed(Endpoint::ChatCompletions),
            credential: Checked::Refused(Box::new(Refusal::new(Code::UnknownKey))),
            body: Checked::NotReached,
            client: Client { address: Some(address), ..Client::default() },
            repetition: Repetition::default(),
        };
        Decided::new(facts)
    }

    #[test]
    fn a_flood_is_counted_and_nothing_is_lost() {
        let flood = Flood::default();
        let address = "192.0.2.1".parse().unwrap();
        let recorded = (0..10_000).filter(|_| flood.records(&refused(address), Code::UnknownKey, 7)).count();
        let counted: u32 = flood.drain(7).iter().map(|decided| decided.calls).sum();
        assert_eq!((recorded as u64, recorded + counted as usize), (BURST, 10_000));
        assert!(flood.drain(7).is_empty());
        // Another address, and another code of the same, have allowances of their own.
        assert!(flood.records(&refused("192.0.2.2".parse().unwrap()), Code::UnknownKey, 7));
        assert!(flood.records(&refused(address), Code::MalformedKey, 7));
        let rested = 7 + SECOND_NS * BURST;
        assert!(flood.records(&refused(address), Code::UnknownKey, rested));
    }

    #[test]
    fn many_sources_share_one() {
        let flood = Flood::default();
        let mut recorded = 0;
        for address in 0..20_000_u32 {
            recorded += u64::from(flood.records(&refused(IpAddr::V4(address.into())), Code::UnknownKey, 0));
        }
        assert_eq!(recorded, SOURCES_MAX as u64 + BURST);
        assert!(flood.buckets.lock().len() <= SOURCES_MAX + 1);
        flood.drain(SECOND_NS * BURST);
        assert!(flood.buckets.lock().is_empty());
    }
}
