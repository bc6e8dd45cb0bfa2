//! Calls of the last minute, by key and content: the same content again is a duplicate submission (重复提交), which is
//! another thing than a client's own retry (自动重试).
//!
//! Promises: bounded in memory; forgets the oldest first. A flag for people: nothing is refused by it.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::Mutex;

use crate::id::{KeyId, RequestId};

/// How long the same content again is a duplicate.
const WINDOW_NS: u64 = 60_000_000_000;
/// Calls that are remembered, at the most.
const CALLS_MAX: usize = 65_536;

/// Key and hash of endpoint, model and body. Seeded anew with each process, and never written down.
type Content = (KeyId, u64);

/// See the module.
#[derive(Default)]
pub struct Recent {
    hasher: DefaultHashBuilder,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    known: HashMap<Content, (RequestId, u64)>,
    /// In the order in which they came.
    order: VecDeque<(Content, RequestId)>,
}

impl Recent {
    /// Notes a call; the first one with the same content within the window, if there was one.
    pub fn note(&self, key: KeyId, parts: [&[u8]; 3], request: RequestId, now_ns: u64) -> Option<RequestId> {
        let content = (key, self.hasher.hash_one(parts));
        let mut calls = self.calls.lock();
        if let Some((first, at_ns)) = calls.known.get(&content)
            && now_ns.saturating_sub(*at_ns) < WINDOW_NS
        {
            return Some(*first);
        }
        calls.known.insert(content, (request, now_ns));
        calls.order.push_back((content, request));
        if calls.order.len() > CALLS_MAX {
            calls.forget_oldest();
        }
        None
    }

    /// A call that was refused is not repeated by the next one.
    pub fn forget(&self, key: KeyId, parts: [&[u8]; 3], request: RequestId) {
        let content = (key, self.hasher.hash_one(parts));
        self.calls.lock().remove(content, request);
    }
}

impl Calls {
    fn forget_oldest(&mut self) {
        if let Some((content, request)) = self.order.pop_front() {
            self.remove(content, request);
        }
    }

    fn remove(&mut self, content: Content, request: RequestId) {
        if self.known.get(&content).is_some_and(|(known, _)| *known == request) {
            self.known.remove(&content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyId = KeyId::from_raw(1);
    const SECOND_NS: u64 = 1_000_000_000;

    fn request(n: u128) -> RequestId {
        RequestId::from_raw(n)
    }

    /// F2: the same content of the same key within a minute names the first; other content, another key and later do not.
    #[test]
    fn the_same_content_within_a_minute_names_the_first_call() {
        let recent = Recent::default();
        let parts: [&[u8]; 3] = [b"chat/completions", b"m", b"{}"];
        assert_eq!(recent.note(KEY, parts, request(1), 0), None);
        assert_eq!(recent.note(KEY, parts, request(2), 59 * SECOND_NS), Some(request(1)));
        assert_eq!(recent.note(KEY, [parts[0], parts[1], b"[]"], request(3), 0), None);
        assert_eq!(recent.note(KeyId::from_raw(2), parts, request(4), 0), None);
        assert_eq!(recent.note(KEY, parts, request(5), 60 * SECOND_NS), None);
        assert_eq!(recent.note(KEY, parts, request(6), 61 * SECOND_NS), Some(request(5)));
        recent.forget(KEY, parts, request(5));
        assert_eq!(recent.note(KEY, parts, request(7), 62 * SECOND_NS), None);
    }

    #[test]
    fn no_more_calls_than_its_bound_are_remembered() {
        let recent = Recent::default();
        for n in 0..2 * CALLS_MAX as u128 {
            let body = n.to_le_bytes();
            recent.note(KEY, [b"chat/completions", b"m", &body], request(n), 0);
        }
        let calls = recent.calls.lock();
        assert!(calls.known.len() <= CALLS_MAX && calls.order.len() <= CALLS_MAX);
    }
}
