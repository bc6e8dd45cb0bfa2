//! The allocator of the test binary: it counts.
//!
//! The product has the system's allocator, as this one has below: only here are the allocations of a thread, and the
//! bytes of the process, counted on the way.
#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

#[global_allocator]
static COUNTING: Counting = Counting;

/// What the system's allocator keeps before each piece.
const HEAD_BYTES: usize = size_of::<usize>();

static BYTES: AtomicI64 = AtomicI64::new(0);
static ALL: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

/// Allocations that this thread made in `work`.
pub fn allocations<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.get();
    let done = work();
    (ALLOCATIONS.get() - before, done)
}

/// Allocations that all other threads made while this one was at `work`.
pub fn allocations_of_others(work: impl FnOnce()) -> u64 {
    let before = ALL.load(Ordering::SeqCst);
    let (own, ()) = allocations(work);
    ALL.load(Ordering::SeqCst) - before - own
}

/// Bytes that the process has allocated now, with what the allocator itself adds to each piece.
pub fn bytes() -> i64 {
    BYTES.load(Ordering::SeqCst)
}

fn count(place: *mut u8, sign: i64) {
    if place.is_null() {
        return;
    }
    // SAFETY: `place` came from the system's allocator and was not given back yet.
    let usable = unsafe { libc::malloc_usable_size(place.cast()) };
    let bytes = i64::try_from(usable + HEAD_BYTES).unwrap_or(0);
    BYTES.fetch_add(sign * bytes, Ordering::Relaxed);
}

fn note() {
    ALL.fetch_add(1, Ordering::Relaxed);
    // A thread that ends frees its last pieces when its own counter is gone.
    let _gone = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are passed on.
        let place = unsafe { System.alloc(layout) };
        count(place, 1);
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as above.
        let place = unsafe { System.alloc_zeroed(layout) };
        count(place, 1);
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(place, -1);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) };
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        count(place, -1);
        // SAFETY: as above.
        let moved = unsafe { System.realloc(place, layout, bytes) };
        // Where it failed, what was there is there still.
        count(if moved.is_null() { place } else { moved }, 1);
        moved
    }
}
