//! The memory that transcripts may take before they are written: one budget for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The budget.
#[derive(Debug)]
pub struct Room {
    bytes_max: usize,
    taken: AtomicUsize,
}

impl Room {
    pub fn new(bytes_max: usize) -> Self {
        Room { bytes_max, taken: AtomicUsize::new(0) }
    }

    fn try_take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// What one transcript takes of it, until it is dropped.
#[derive(Debug)]
pub struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Share {
    pub fn new(room: Arc<Room>) -> Self {
        Share { room, bytes: 0 }
    }

    /// Takes so much more. False: there is no room for it.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.room.try_take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_come_to_more_than_the_room_and_are_given_back() {
        let room = Arc::new(Room::new(100));
        let (mut one, mut other) = (Share::new(Arc::clone(&room)), Share::new(Arc::clone(&room)));
        assert!(one.grow(60) && other.grow(40));
        assert!(!one.grow(1) && !other.grow(usize::MAX));
        drop(one);
        assert!(other.grow(60) && !other.grow(1));
        drop(other);
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }
}
