//! The beginning of a stream: what comes before the first event with content is kept back, so that a call whose upstream
//! answers 200 and then has nothing to say can still go to another channel.
//!
//! Promises: nothing is lost of a stream that begins, and nothing of one that does not begin reaches the caller; content is
//! never kept back. What is kept back is bounded in time and in bytes, whatever it is, so that the signs of life of an
//! upstream that thinks for long reach the caller – from then on the call stays where it is.

use std::time::Duration;

use bytes::Bytes;
use ledger::Unit;
use tokio::time::{Instant, timeout_at};

use super::attempt::{Failure, Spent, Tried};
use super::convert::ReplyFault;
use super::exchange::Exchange;
use super::settle;
use super::sse::{Cut, SseReader};
use super::stream::{EVENT_BYTES_MAX, Watch};
use super::upstream::Answer;

/// How long what has come is kept back at the most.
const KEPT_BACK_MAX: Duration = Duration::from_secs(5);
/// How much is kept back at the most, beside the piece that goes beyond it.
const KEPT_BACK_BYTES_MAX: usize = 64 * 1024;
/// A piece counts as so many bytes at the least: it takes room of its own.
const PIECE_BYTES_MIN: usize = 512;

/// A stream that has begun, with what came of it so far.
pub(super) struct Opened {
    pub answer: Answer,
    pub watch: Watch,
    pub reader: SseReader,
    pub cut: Cut,
    /// The upstream has ended it.
    pub ended: bool,
    kept_bytes: usize,
    /// From the first piece on.
    kept_until: Option<Instant>,
}

/// A stream that ended before it had begun.
pub(super) struct Closed {
    pub failure: Failure,
    pub spent: Spent,
}

impl Opened {
    fn take(&mut self, piece: &Bytes) -> Result<(), ReplyFault> {
        self.kept_bytes += piece.len().max(PIECE_BYTES_MIN);
        self.kept_until.get_or_insert_with(|| Instant::now() + KEPT_BACK_MAX);
        let watch = &mut self.watch;
        let fed = self.reader.feed(piece, |event| watch.judge(event), &mut self.cut);
        watch.hand_over(&mut self.cut);
        fed.map_err(|why| ReplyFault::new(why.to_string()))
    }

    fn end(&mut self) {
        let watch = &mut self.watch;
        self.reader.finish(|event| watch.judge(event), &mut self.cut);
        watch.hand_over(&mut self.cut);
        self.ended = true;
    }

    /// Whether there is something of an answer, or the whole of an empty one.
    fn has_begun(&mut self) -> bool {
        self.watch.is_complete() || self.has_content()
    }

    fn has_content(&mut self) -> bool {
        self.watch.meter.has_delivered() || self.has_picture()
    }

    /// Of pictures whatever goes to the caller shows something.
    fn has_picture(&self) -> bool {
        self.watch.unit() == Some(Unit::Image) && !self.cut.forward.is_empty()
    }

    /// No more is kept back.
    fn is_full(&self) -> bool {
        self.kept_bytes > KEPT_BACK_BYTES_MAX || self.kept_until.is_some_and(|until| Instant::now() >= until)
    }
}

impl Exchange {
    /// Reads on until the stream has content, or is known to be none.
    pub(super) async fn open(&self, mut answer: Answer) -> Tried {
        drop(std::mem::take(&mut answer.headers));
        let mut opened = Box::new(Opened {
            answer,
            watch: self.watch(),
            reader: SseReader::new(EVENT_BYTES_MAX),
            cut: Cut::default(),
            ended: false,
            kept_bytes: 0,
            kept_until: None,
        });
        loop {
            let idle_until = Instant::now() + self.worker.gateway.idle_timeout;
            let until = opened.kept_until.map_or(idle_until, |kept| kept.min(idle_until));
            let taken = match timeout_at(until, opened.answer.body.next()).await {
                Ok(Ok(Some(piece))) => opened.take(&piece).map_err(Failure::from),
                Ok(Ok(None)) => {
                    opened.end();
                    Ok(())
                }
                Ok(Err(why)) => Err(Failure::from(&why)),
                Err(_elapsed) if opened.is_full() => return Tried::Stream(opened),
                Err(_elapsed) => Err(Failure::timed_out()),
            };
            let failure = taken.err().or_else(|| opened.watch.failure());
            if let Some(failure) = failure {
                // Content that came with what broke it off is the caller's all the same.
                if !opened.has_content() {
                    return self.closed(opened, failure).await;
                }
                opened.watch.unreadable.get_or_insert(failure.text);
                opened.ended = true;
            }
            if opened.has_begun() {
                return Tried::Stream(opened);
            }
            if opened.ended {
                let failure = ReplyFault::new("its stream ended before there was anything in it").into();
                return self.closed(opened, failure).await;
            }
            if opened.is_full() {
                return Tried::Stream(opened);
            }
        }
    }

    /// Nothing has left: what the upstream read, and what it said before it failed, may be billed.
    async fn closed(&self, mut opened: Box<Opened>, failure: Failure) -> Tried {
        let (usage, source) = settle::sold(&self.price, &opened.watch.metered().await);
        Tried::Closed(Box::new(Closed { failure, spent: Spent::Used(usage, source) }))
    }
}
