//! Time and randomness, injected.
//!
//! For: every part that needs to know the time or to draw random bytes takes a [`Clock`] or an
//! [`Entropy`], so that a test, a simulation and the demo can replay it to the byte.
//! Promises: this is the only file that reads the wall clock, the boot clock or the system's
//! random source.
//! Must never: hand out weak randomness in silence. A system that cannot give random bytes ends
//! the process, because keys and ids made without them could be guessed.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// Where a part takes its time from.
pub trait Clock: Send + Sync {
    /// Wall-clock time: milliseconds since 1970-01-01T00:00:00Z. It can jump, in both directions.
    fn now_ms(&self) -> i64;

    /// Nanoseconds on a clock that never jumps and that counts while the machine sleeps. Its zero
    /// is arbitrary: only differences mean something.
    fn mono_ns(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn mono_ns(&self) -> u64 {
        boot_ns()
    }
}

/// The boot clock, read without a system call. Unlike `std::time::Instant` it goes on while the
/// machine is suspended, so that a wake-up is not taken for a jump of the wall clock.
fn boot_ns() -> u64 {
    #[cfg(target_os = "linux")]
    const BOOT: libc::clockid_t = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const BOOT: libc::clockid_t = libc::CLOCK_MONOTONIC;

    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "std does not offer the boot clock")]
    // SAFETY: `now` is a live, exclusively borrowed timespec, which is all that the call writes to.
    let failed = unsafe { libc::clock_gettime(BOOT, &raw mut now) } != 0;
    debug_assert!(!failed, "the boot clock exists since Linux 2.6.39");
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
    mono_ns: AtomicU64,
}

impl ManualClock {
    /// Starts at `now_ms` (milliseconds since 1970, UTC), with the boot clock at zero.
    pub const fn new(now_ms: i64) -> Self {
        Self { now_ms: AtomicI64::new(now_ms), mono_ns: AtomicU64::new(0) }
    }

    /// Lets `ms` milliseconds pass on both clocks.
    pub fn advance_ms(&self, ms: u64) {
        self.now_ms.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.mono_ns.fetch_add(ms.saturating_mul(1_000_000), Ordering::SeqCst);
    }

    /// Sets the wall clock alone: a jump, as when an operator or NTP corrects it.
    pub fn jump_to_ms(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        self.mono_ns.load(Ordering::SeqCst)
    }
}

/// Where a part takes its random bytes from.
pub trait Entropy: Send + Sync {
    /// Fills `into` with random bytes. Never fails: a source that cannot deliver ends the process.
    fn fill(&self, into: &mut [u8]);
}

/// The operating system's random source.
///
/// Small draws (ids) come from a buffer of the thread, one system call for many; what was handed
/// out is erased from it. Larger draws (keys, nonces) go to the system directly.
#[derive(Debug, Clone, Default)]
pub struct SystemEntropy(());

/// Bytes fetched at once for small draws: 51 request ids of 10 bytes.
const POOL_BYTES: usize = 512;
/// The largest draw that the pool serves.
const SMALL_DRAW_BYTES: usize = 16;

struct Pool {
    bytes: [u8; POOL_BYTES],
    next: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], next: POOL_BYTES }) };
}

impl SystemEntropy {
    pub const fn new() -> Self {
        Self(())
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, into: &mut [u8]) {
        if into.len() > SMALL_DRAW_BYTES {
            return draw(into);
        }
        let served = POOL.try_with(|pool| {
            // No draw can nest inside another on one thread, so the borrow always succeeds.
            let Ok(mut pool) = pool.try_borrow_mut() else { return false };
            let Pool { bytes, next } = &mut *pool;
            if POOL_BYTES - *next < into.len() {
                draw(bytes);
                *next = 0;
            }
            for byte in into.iter_mut() {
                if let Some(stock) = bytes.get_mut(*next) {
                    *byte = std::mem::take(stock);
                    *next += 1;
                }
            }
            true
        });
        // A thread that is ending has no pool any more.
        if !matches!(served, Ok(true)) {
            draw(into);
        }
    }
}

/// Reads from the system, or ends the process: there is no safe way to go on without it.
fn draw(into: &mut [u8]) {
    if SystemRandom::new().fill(into).is_err() {
        tracing::error!("the operating system gave no random bytes; stopping");
        std::process::abort();
    }
}

/// Random bytes that follow from a seed: HMAC-SHA-256 of a counter. Equal seeds give equal bytes;
/// without the seed they cannot be told from random ones, so the demo's keys may come from it.
pub struct SeededEntropy {
    key: hmac::Key,
    state: Mutex<Stream>,
}

struct Stream {
    counter: u64,
    block: [u8; 32],
    next: usize,
}

impl SeededEntropy {
    pub fn new(seed: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, seed),
            state: Mutex::new(Stream { counter: 0, block: [0; 32], next: 32 }),
        }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, into: &mut [u8]) {
        let mut state = self.state.lock();
        for byte in into {
            if state.next >= state.block.len() {
                let tag = hmac::sign(&self.key, &state.counter.to_le_bytes());
                state.block.copy_from_slice(tag.as_ref());
                state.counter = state.counter.wrapping_add(1);
                state.next = 0;
            }
            if let Some(drawn) = state.block.get(state.next) {
                *byte = *drawn;
            }
            state.next += 1;
        }
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEntropy([hidden])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_after_2024_and_the_boot_clock_goes_forward() {
        let clock = SystemClock;
        assert!(clock.now_ms() > 1_704_067_200_000);
        let first = clock.mono_ns();
        assert!(first > 0);
        assert!(clock.mono_ns() >= first);
    }

    #[test]
    fn a_manual_clock_advances_both_clocks_and_jumps_one() {
        let clock = ManualClock::new(1_000);
        clock.advance_ms(5);
        assert_eq!((clock.now_ms(), clock.mono_ns()), (1_005, 5_000_000));
        clock.jump_to_ms(500);
        assert_eq!((clock.now_ms(), clock.mono_ns()), (500, 5_000_000));
    }

    #[test]
    fn small_draws_never_repeat_across_refills_and_threads() {
        let draw_many = || {
            let entropy = SystemEntropy::new();
            (0..200)
                .map(|_| {
                    let mut bytes = [0u8; 10];
                    entropy.fill(&mut bytes);
                    bytes
                })
                .collect::<Vec<_>>()
        };
        let mut all = draw_many();
        all.extend(std::thread::spawn(draw_many).join().unwrap());
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(!all.contains(&[0; 10]));
    }

    #[test]
    fn equal_seeds_give_equal_bytes_however_they_are_drawn() {
        let (one, two, other) =
            (SeededEntropy::new(b"a"), SeededEntropy::new(b"a"), SeededEntropy::new(b"b"));
        let (mut whole, mut parts, mut else_) = ([0u8; 100], [0u8; 100], [0u8; 100]);
        one.fill(&mut whole);
        for part in parts.chunks_mut(7) {
            two.fill(part);
        }
        other.fill(&mut else_);
        assert_eq!(whole, parts);
        assert_ne!(whole, else_);
    }
}
