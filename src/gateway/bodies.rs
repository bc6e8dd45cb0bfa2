//! The bodies of requests that are in memory, of all callers together: never more than a budget.
//!
//! Promises: what is being read and what is still in use never comes to more than the budget. A body that does not fit
//! waits for a moment until others have gone, and is refused then. What a body takes is given back when it is dropped,
//! however its call ended. A part of the budget is there for small bodies alone, so that large ones never keep them out.
//! Must never: cost an ordinary call more than an addition and a subtraction, or begin to read a body whose declared
//! length has no room: uploads that are half there would keep each other from their ends.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;

/// A body up to this size is small.
const SMALL_BYTES: u64 = 64 << 10;
/// The part of the budget that is for small bodies alone.
const SMALL_SHARE: u64 = 8;
/// What a body of unknown length takes at first.
const UNKNOWN_BYTES: u64 = 16 << 10;
/// How long a body waits for room.
const PATIENCE: Duration = Duration::from_secs(2);

/// The budget, and how much of it is taken.
#[derive(Debug)]
pub struct Bodies {
    bytes_max: u64,
    taken: AtomicU64,
    waiting: AtomicUsize,
    freed: Notify,
}

/// A body with its room; read like the bytes that it is.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    room: Room,
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub struct Room {
    bodies: Arc<Bodies>,
    bytes: u64,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    TooLarge,
    /// There was no room for it in time.
    NoRoom,
    /// Its framing is none.
    Malformed,
    /// It broke off.
    Broken,
}

impl BodyFault {
    /// A lost connection is told apart from chunks that are none: the HTTP library calls those invalid.
    fn of(why: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(why);
        while let Some(why) = cause {
            let kind = why.downcast_ref::<io::Error>().map(io::Error::kind);
            if matches!(kind, Some(ErrorKind::InvalidInput | ErrorKind::InvalidData)) {
                return BodyFault::Malformed;
            }
            cause = why.source();
        }
        BodyFault::Broken
    }
}

impl Bodies {
    pub fn new(bytes_max: u64) -> Self {
        Bodies { bytes_max, taken: AtomicU64::new(0), waiting: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// The largest body that a budget can ever have room for.
    pub fn largest(bytes_max: u64) -> u64 {
        bytes_max - bytes_max / SMALL_SHARE
    }

    /// Bytes of the budget that are taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// Reads a body. `declared`: its length, whose room is taken before anything is read; without it room is taken as
    /// the body comes, which is for callers who are not known.
    pub async fn read<B>(
        self: &Arc<Self>,
        mut body: B,
        bytes_max: u64,
        declared: Option<u64>,
    ) -> Result<Body, BodyFault>
    where
        B: http_body::Body<Data = Bytes, Error: Error + 'static> + Unpin,
    {
        if declared.is_some_and(|length| length > bytes_max) {
            return Err(BodyFault::TooLarge);
        }
        let mut room = Room { bodies: Arc::clone(self), bytes: 0 };
        room.grow(declared.unwrap_or(UNKNOWN_BYTES)).await?;
        let mut first: Option<Bytes> = None;
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|why| BodyFault::of(&why))?.into_data() else { continue };
            let length = (first.as_ref().map_or(0, Bytes::len) + whole.len() + data.len()) as u64;
            if length > bytes_max {
                return Err(BodyFault::TooLarge);
            }
            if length > room.bytes {
                room.grow(room.bytes.saturating_mul(2).clamp(length, bytes_max)).await?;
            }
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                None => whole.extend_from_slice(&data),
                Some(begun) => {
                    whole.reserve(usize::try_from(room.bytes).unwrap_or(0));
                    whole.extend_from_slice(&begun);
                    whole.extend_from_slice(&data);
                }
            }
        }
        let bytes = first.unwrap_or_else(|| whole.freeze());
        room.shrink(bytes.len() as u64);
        Ok(Body { bytes, room })
    }

    fn try_take(&self, bytes: u64, limit: u64) -> bool {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= limit);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::SeqCst);
        // Whoever waits has said so before it looked for the last time.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }
}

impl Room {
    /// Takes as much more as is missing.
    async fn grow(&mut self, bytes: u64) -> Result<(), BodyFault> {
        let more = bytes.saturating_sub(self.bytes);
        let all = self.bodies.bytes_max;
        let limit = if bytes <= SMALL_BYTES { all } else { Bodies::largest(all) };
        if !self.bodies.try_take(more, limit) {
            let waited = timeout(PATIENCE, wait(&self.bodies, more, limit)).await;
            waited.map_err(|_elapsed| BodyFault::NoRoom)?.keep();
        }
        self.bytes += more;
        Ok(())
    }

    fn shrink(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        if less > 0 {
            self.bodies.give_back(less);
        }
    }

    /// It is somebody else's from here on.
    fn keep(mut self) {
        self.bytes = 0;
    }
}

/// A future that is dropped with what it has taken gives it back.
async fn wait(bodies: &Arc<Bodies>, bytes: u64, limit: u64) -> Room {
    let _counted = Waiting::new(&bodies.waiting);
    loop {
        let mut freed = pin!(bodies.freed.notified());
        freed.as_mut().enable();
        if bodies.try_take(bytes, limit) {
            return Room { bodies: Arc::clone(bodies), bytes };
        }
        freed.await;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.bodies.give_back(self.bytes);
        }
    }
}

/// Counts who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Body {
    /// The bytes, and the room that is theirs for as long as they are used.
    pub fn into_parts(self) -> (Bytes, Room) {
        (self.bytes, self.room)
    }
}

impl Deref for Body {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn whole(length: u64) -> Full<Bytes> {
        Full::new(Bytes::from(vec![7; usize::try_from(length).unwrap()]))
    }

    fn in_pieces(pieces: &[usize]) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
        let frames: Vec<Result<_, Infallible>> =
            pieces.iter().map(|length| Ok(Frame::data(Bytes::from(vec![7; *length])))).collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_waits_and_is_refused_and_small_bodies_fit_on() {
        let bodies = Arc::new(Bodies::new(8 * MIB));
        let large = bodies.read(whole(5 * MIB), 8 * MIB, Some(5 * MIB)).await.unwrap();
        let second = bodies.read(whole(3 * MIB), 8 * MIB, Some(3 * MIB)).await;
        assert_eq!(second.err(), Some(BodyFault::NoRoom));
        let third = bodies.read(whole(2 * MIB), 8 * MIB, Some(2 * MIB)).await.unwrap();
        assert_eq!((large.len() as u64, bodies.taken()), (5 * MIB, 7 * MIB));
        // The last eighth is for the small ones, and theirs are the last bytes of it.
        assert_eq!(bodies.read(whole(65 << 10), MIB, None).await.err(), Some(BodyFault::NoRoom));
        let mut small = Vec::new();
        for _ in 0..16 {
            small.push(bodies.read(whole(64 << 10), MIB, Some(64 << 10)).await.unwrap());
        }
        assert_eq!(
            (bodies.taken(), bodies.read(whole(1), 1, None).await.err()),
            (8 * MIB, Some(BodyFault::NoRoom))
        );
        drop((large, third, small));
        assert_eq!((bodies.taken(), bodies.waiting.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_on_when_room_is_given_back() {
        let bodies = Arc::new(Bodies::new(8 * MIB));
        let large = bodies.read(whole(6 * MIB), 8 * MIB, Some(6 * MIB)).await.unwrap();
        let begun = tokio::time::Instant::now();
        let later = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            drop(large);
        };
        let waiting = bodies.read(whole(7 * MIB), 8 * MIB, Some(7 * MIB));
        let (read, ()) = tokio::join!(waiting, later);
        assert_eq!((read.unwrap().len() as u64, begun.elapsed().as_millis()), (7 * MIB, 700));
        assert_eq!(bodies.taken(), 0);
        // Gone while it waits.
        let large = bodies.read(whole(7 * MIB), 8 * MIB, Some(7 * MIB)).await.unwrap();
        let gone = timeout(Duration::from_millis(10), bodies.read(whole(MIB), 8 * MIB, Some(MIB))).await;
        assert!(gone.is_err());
        drop(large);
        assert_eq!((bodies.taken(), bodies.waiting.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_unknown_length_takes_room_as_it_comes() {
        let bodies = Arc::new(Bodies::new(8 * MIB));
        let read = bodies.read(in_pieces(&[10_000, 10_000, 90_000]), MIB, None).await.unwrap();
        assert_eq!((read.len(), bodies.taken()), (110_000, 110_000));
        let (bytes, room) = read.into_parts();
        drop(bytes);
        assert_eq!(bodies.taken(), 110_000);
        drop(room);
        let long = bodies.read(in_pieces(&[10_000, 10_000]), 19_999, None).await;
        assert_eq!((long.err(), bodies.taken()), (Some(BodyFault::TooLarge), 0));
        let declared = bodies.read(whole(5), 4, Some(5)).await;
        assert_eq!((declared.err(), bodies.taken()), (Some(BodyFault::TooLarge), 0));
        let lied = bodies.read(in_pieces(&[10, 10]), 30, Some(4)).await.unwrap();
        assert_eq!((lied.len(), bodies.taken()), (20, 20));
    }
}
