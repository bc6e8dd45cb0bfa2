//! Guessing of redemption codes: who names too many codes that nobody made has to wait.
//!
//! A miss counts against the account and against the address. It is counted before the code is looked up and taken back
//! if there is one, so that guesses at the same time are no way around. Bounded: where there are too many sources, they
//! share one. Each process counts for itself; what it has counted is kept on disk, so that a start forgets nothing.

use std::net::IpAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::id::AccountId;

/// Unknown codes within an hour: of an account, and of an address, behind which there can be several.
const ACCOUNT_MISSES_MAX: u32 = 10;
const ADDRESS_MISSES_MAX: u32 = 30;
pub(super) const HOUR_NS: u64 = 3_600_000_000_000;
const SOURCES_MAX: usize = 20_000;
/// Those at rest are looked for so often at the most, where there is no room.
const PURGE_NS: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Account(AccountId),
    /// IPv4 as it is, of IPv6 the 64 bits of the network.
    Network(u64),
    /// There are more than can be told apart.
    Any,
}

/// Misses since the first of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misses {
    pub since_ns: u64,
    pub count: u32,
}

#[derive(Debug, Default)]
struct Known {
    misses: HashMap<Source, Misses>,
    purged_ns: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<Known>);

/// A guess that counts as a miss until it is taken back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess([Option<Source>; 2]);

impl Guesses {
    /// Counts a guess; else how long to wait, in milliseconds.
    pub fn begin(&self, account: AccountId, address: Option<IpAddr>, now_ns: u64) -> Result<Guess, u64> {
        let mut known = self.0.lock();
        let asked = [Some(Source::Account(account)), address.map(network)];
        let guess = Guess(asked.map(|source| source.map(|source| known.place(source, now_ns))));
        for source in guess.0.into_iter().flatten() {
            let misses = known.misses.entry(source).or_insert(Misses { since_ns: now_ns, count: 0 });
            let age_ns = now_ns.saturating_sub(misses.since_ns);
            if age_ns >= HOUR_NS {
                *misses = Misses { since_ns: now_ns, count: 0 };
            } else if misses.count >= source.misses_max() {
                return Err((HOUR_NS - age_ns).div_ceil(1_000_000));
            }
        }
        guess.0.into_iter().flatten().for_each(|source| {
            if let Some(misses) = known.misses.get_mut(&source) {
                misses.count = misses.count.saturating_add(1);
            }
        });
        Ok(guess)
    }

    /// It was no guess: there is such a code.
    pub fn take_back(&self, guess: Guess) {
        let mut known = self.0.lock();
        for source in guess.0.into_iter().flatten() {
            if let Some(misses) = known.misses.get_mut(&source) {
                misses.count = misses.count.saturating_sub(1);
            }
        }
    }
}

impl Guesses {
    /// What is counted now of the sources of a guess.
    pub fn counted(&self, guess: Guess) -> Vec<(Source, Misses)> {
        let known = self.0.lock();
        let sources = guess.0.into_iter().flatten();
        sources.filter_map(|source| Some((source, *known.misses.get(&source)?))).collect()
    }

    /// What an earlier process counted, unless this one knows better.
    pub fn restore(&self, source: Source, misses: Misses) {
        let mut known = self.0.lock();
        if known.misses.len() < SOURCES_MAX {
            known.misses.entry(source).or_insert(misses);
        }
    }
}

impl Known {
    /// Where a source is counted.
    fn place(&mut self, source: Source, now_ns: u64) -> Source {
        let is_full = |misses: &HashMap<_, _>| misses.len() >= SOURCES_MAX && !misses.contains_key(&source);
        let rested = self.purged_ns.is_none_or(|then_ns| now_ns.saturating_sub(then_ns) >= PURGE_NS);
        if is_full(&self.misses) && rested {
            self.purged_ns = Some(now_ns);
            self.misses.retain(|_, misses| now_ns.saturating_sub(misses.since_ns) < HOUR_NS);
        }
        if is_full(&self.misses) { Source::Any } else { source }
    }
}

impl Source {
    /// As a row names it.
    pub fn name(self) -> String {
        match self {
            Source::Account(account) => format!("account:{}", account.raw()),
            Source::Network(network) => format!("network:{network}"),
            Source::Any => "any".to_owned(),
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        match name.split_once(':') {
            Some(("account", id)) => Some(Source::Account(AccountId::from_raw(id.parse().ok()?))),
            Some(("network", network)) => Some(Source::Network(network.parse().ok()?)),
            _ => (name == "any").then_some(Source::Any),
        }
    }

    fn misses_max(self) -> u32 {
        match self {
            Source::Account(_) => ACCOUNT_MISSES_MAX,
            Source::Network(_) | Source::Any => ADDRESS_MISSES_MAX,
        }
    }
}

fn network(address: IpAddr) -> Source {
    Source::Network(match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64 | 1 << 63,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_account_and_an_address_may_miss_so_often_in_an_hour() {
        let guesses = Guesses::default();
        let missed = |account: u64, now_ns| {
            let tried = (0..100).map(|_| guesses.begin(AccountId::from_raw(account), Some(HERE), now_ns));
            tried.filter(Result::is_ok).count()
        };
        assert_eq!([missed(1, 0), missed(2, 0), missed(3, 0), missed(4, 0)], [10, 10, 10, 0]);
        let wait = guesses.begin(AccountId::from_raw(1), Some(HERE), HOUR_NS / 2).unwrap_err();
        assert_eq!(wait, 1_800_000);
        assert_eq!(missed(4, HOUR_NS), 10);
    }

    #[test]
    fn what_was_counted_goes_on_in_the_next_process() {
        let (before, after) = (Guesses::default(), Guesses::default());
        let guess =
            (0..ACCOUNT_MISSES_MAX).map(|_| before.begin(AccountId::from_raw(1), Some(HERE), 5).unwrap());
        for (source, misses) in before.counted(guess.last().unwrap()) {
            assert_eq!(Source::parse(&source.name()), Some(source));
            after.restore(source, misses);
            after.restore(source, Misses { count: 0, ..misses });
        }
        assert!(after.begin(AccountId::from_raw(1), None, 6).is_err());
        assert!(after.begin(AccountId::from_raw(2), Some(HERE), 6).is_ok());
    }

    #[test]
    fn codes_that_there_are_do_not_count() {
        let guesses = Guesses::default();
        for _ in 0..1_000 {
            let guess = guesses.begin(AccountId::from_raw(1), Some(HERE), 5).unwrap();
            guesses.take_back(guess);
        }
        assert!(guesses.begin(AccountId::from_raw(1), None, 5).is_ok());
    }

    #[test]
    fn more_sources_than_can_be_kept_share_one() {
        let guesses = Guesses::default();
        for account in 0..SOURCES_MAX as u64 * 2 {
            let _counted = guesses.begin(AccountId::from_raw(account), None, 5);
        }
        assert!(guesses.0.lock().misses.len() <= SOURCES_MAX + 1);
        assert!(guesses.begin(AccountId::from_raw(u64::MAX >> 1), None, 5).is_err());
        assert!(guesses.begin(AccountId::from_raw(u64::MAX >> 1), None, HOUR_NS + 5).is_ok());
    }
}
