//! A streamed answer: events go on as they come; from the finish reason on they wait until the settlement is
//! on disk. A caller that leaves does not end the reading: the upstream is drained to its usage, bounded.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::catalogue::{Code, Refusal};

use super::answer::AnswerBody;
use super::attempt::Failure;
use super::exchange::Exchange;
use super::facts::{Ending, Endpoint};
use super::meter::Meter;
use super::provider::openai::{self, EventKind, UpstreamFault};
use super::respond;
use super::settle::Ended;
use super::sse::{Cut, Event, SseReader, Verdict};
use super::upstream::Answer;
use super::worker::Interrupt;

/// An event of a stream is at most so long.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is known of a stream while it runs.
struct Watch {
    meter: Meter,
    endpoint: Endpoint,
    /// The caller asked for the usage event itself.
    usage_asked: bool,
    finished: bool,
    done: bool,
    fault: Option<UpstreamFault>,
}

impl Watch {
    fn judge(&mut self, event: &Event<'_>) -> Verdict {
        let facts = openai::inspect(self.endpoint, event.name, event.data);
        if let Some(usage) = facts.usage {
            self.meter.tell(usage);
        }
        match facts.kind {
            EventKind::UsageOnly if !self.usage_asked => Verdict::Drop,
            EventKind::UsageOnly => Verdict::Withhold,
            EventKind::Done => {
                self.done = true;
                self.meter.finish(event.data);
                Verdict::Withhold
            }
            EventKind::Error => {
                self.fault = Some(openai::stream_fault(event.data));
                Verdict::Drop
            }
            EventKind::Delta => {
                self.meter.deliver(event.data);
                self.finished |= facts.has_finish;
                if facts.has_finish { Verdict::Withhold } else { Verdict::Forward }
            }
            EventKind::Other => Verdict::Forward,
        }
    }

    fn is_complete(&self) -> bool {
        self.fault.is_none() && (self.done || self.finished)
    }
}

/// The caller's end of a stream.
struct Caller {
    /// `None` once it has gone.
    pieces: Option<mpsc::Sender<Bytes>>,
    first_byte_us: Option<u64>,
}

impl Caller {
    async fn send(&mut self, bytes: Bytes) {
        if let Some(pieces) = &self.pieces
            && pieces.send(bytes).await.is_err()
        {
            self.pieces = None;
        }
    }

    fn is_gone(&self) -> bool {
        self.pieces.as_ref().is_none_or(mpsc::Sender::is_closed)
    }
}

/// Why reading ended.
enum End {
    Upstream,
    Cut,
    DrainLimit,
    Interrupted(Interrupt),
}

impl Exchange {
    pub(super) async fn stream(mut self, mut answer: Answer) {
        drop(std::mem::take(&mut answer.headers));
        if self.durable(self.held.ticket()).await.is_err() {
            return;
        }
        let mut watch = Watch {
            meter: self.meter(),
            endpoint: self.request.endpoint,
            usage_asked: self.request.include_usage_asked,
            finished: false,
            done: false,
            fault: None,
        };
        let (pieces, body) = AnswerBody::pieces();
        let mut caller = Caller { pieces: Some(pieces), first_byte_us: None };
        let mut head = respond::head(
            self.held.decided().facts.request,
            HeaderValue::from_static("text/event-stream"),
            &self.admitted,
            None,
        );
        head.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        self.answer(respond::response(StatusCode::OK, head, body));
        let mut cut = Cut::default();
        let end = self.pump(&mut answer, &mut watch, &mut caller, &mut cut).await;
        self.end_stream(end, watch, caller, cut).await;
    }

    /// Passes events on until the stream ends, and goes on reading for a while if the caller leaves.
    async fn pump(&self, answer: &mut Answer, watch: &mut Watch, caller: &mut Caller, cut: &mut Cut) -> End {
        let gateway = &self.worker.gateway;
        let mut reader = SseReader::new(EVENT_BYTES_MAX);
        let mut drain = Drain { until: None, bytes_left: gateway.drain_bytes_max };
        let mut interrupted = std::pin::pin!(gateway.interrupted(self.key()));
        loop {
            if caller.is_gone() && drain.until.is_none() {
                drain.until = Some(Instant::now() + gateway.drain_timeout);
            }
            let idle_until = Instant::now() + gateway.idle_timeout;
            let deadline = drain.until.map_or(idle_until, |until| until.min(idle_until));
            let piece = tokio::select! {
                biased;
                piece = timeout_at(deadline, answer.body.next()) => piece,
                why = &mut interrupted => return End::Interrupted(why),
            };
            let piece = match piece {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => {
                    reader.finish(|event| watch.judge(event), cut);
                    caller.forward(self, cut).await;
                    return if watch.is_complete() { End::Upstream } else { End::Cut };
                }
                Ok(Err(_)) => return End::Cut,
                Err(_) if drain.until.is_some() => return End::DrainLimit,
                Err(_) => return End::Cut,
            };
            let length = piece.len() as u64;
            if reader.feed(&piece, |event| watch.judge(event), cut).is_err() {
                return End::Cut;
            }
            drop(piece);
            caller.forward(self, cut).await;
            if watch.fault.is_some() {
                return End::Cut;
            }
            if watch.done {
                return End::Upstream;
            }
            if drain.until.is_some() && !drain.takes(length) {
                return End::DrainLimit;
            }
        }
    }

    async fn end_stream(self, end: End, mut watch: Watch, mut caller: Caller, cut: Cut) {
        let gone = caller.is_gone();
        let complete = watch.is_complete() && !matches!(end, End::DrainLimit | End::Interrupted(_));
        let ending = match &end {
            End::Interrupted(why) => why.ending(),
            End::DrainLimit => Ending::CallerGoneCounted,
            End::Upstream | End::Cut if complete && gone => Ending::CallerGoneDrained,
            End::Upstream | End::Cut if complete => Ending::Complete,
            End::Upstream | End::Cut => Ending::UpstreamCut,
        };
        let refusal = match end {
            End::Interrupted(Interrupt::KeyStopped(refusal)) => *refusal,
            _ => Refusal::new(Code::StreamInterrupted),
        };
        let code = (!complete && !gone).then_some(refusal.code);
        let ended = Ended {
            code,
            first_byte_us: caller.first_byte_us,
            upstream_error: watch.fault.as_ref().map(|fault| Failure::from(fault.clone()).text),
            ..self.ended(200, ending)
        };
        let delivered = complete || watch.meter.has_delivered();
        let settled = match delivered {
            true => self.settle(watch.meter, ended).await,
            false => self.give_back(watch.meter, ended).await,
        };
        let (rest, settled) = match settled {
            Ok(settled) => settled,
            Err(why) => return tracing::error!(%why, "a stream could not be settled and was not ended"),
        };
        if complete {
            for bytes in cut.withheld {
                caller.send(bytes).await;
            }
        } else {
            let refusal = refusal.charged(settled.charged);
            caller.send(rest.addressee().sse_refusal(&refusal)).await;
        }
    }
}

impl Caller {
    /// Sends what may be sent now.
    async fn forward(&mut self, exchange: &Exchange, cut: &mut Cut) {
        if cut.forward.is_empty() {
            return;
        }
        if self.first_byte_us.is_none() {
            self.first_byte_us = Some(exchange.elapsed_us());
        }
        for bytes in cut.forward.drain(..) {
            self.send(bytes).await;
        }
    }
}

/// How much more is read for a caller that has gone.
struct Drain {
    until: Option<Instant>,
    bytes_left: u64,
}

impl Drain {
    fn takes(&mut self, bytes: u64) -> bool {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                true
            }
            None => false,
        }
    }
}
