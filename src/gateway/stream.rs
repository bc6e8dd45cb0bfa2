//! A streamed answer that has begun: events go on as they come; from the finish reason on they wait until the settlement
//! is on disk. A caller that leaves does not end the reading: the upstream is drained to its usage, bounded.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use ledger::{Unit, Usage};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::catalogue::{Code, Refusal};

use super::answer::{AnswerBody, CutOff};
use super::attempt::Failure;
use super::convert::responses::SoFar;
use super::convert::{Converted, ReplyFault, StreamConverter};
use super::exchange::Exchange;
use super::facts::{Ending, Endpoint};
use super::meter::{Meter, Metered};
use super::opening::Opened;
use super::outgoing::conversion;
use super::provider::Inspector;
use super::provider::openai::{EventFacts, EventKind, UpstreamFault};
use super::respond;
use super::settle::Ended;
use super::sse::{Cut, Event, Verdict};
use super::worker::Interrupt;

/// An event of a stream is at most so long.
pub(super) const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The end of a stream that waits for its settlement is at most so long.
const WITHHELD_BYTES_MAX: usize = 2 * EVENT_BYTES_MAX;

/// What is known of a stream while it runs.
pub(super) struct Watch {
    pub meter: Meter,
    inspector: Inspector,
    /// Where the caller speaks another format.
    conversion: Option<Conversion>,
    /// Of a response that goes on as it comes: what the caller has been told.
    response: Option<SoFar>,
    /// The caller asked for the usage event itself.
    usage_asked: bool,
    finished: bool,
    done: bool,
    fault: Option<UpstreamFault>,
    /// Why it could not be read on.
    pub unreadable: Option<Box<str>>,
}

impl Watch {
    pub fn judge(&mut self, event: &Event<'_>) -> Verdict {
        // Nothing is delivered behind what broke the stream off, so nothing is charged for it.
        if self.fault.is_some() || self.is_garbled() {
            return Verdict::Drop;
        }
        let facts = self.inspector.inspect(event.name, event.data);
        if let Some(conversion) = self.conversion.as_mut().filter(|_| facts.kind != EventKind::Error) {
            conversion.push(event.data);
            if conversion.fault.is_some() {
                return Verdict::Drop;
            }
        }
        if let Some(usage) = facts.usage {
            self.meter.tell(usage);
        }
        let verdict = self.verdict(&facts, event);
        if verdict == Verdict::Forward
            && let Some(response) = &mut self.response
        {
            response.see(event.data);
        }
        // What comes out of a conversion is the caller's stream.
        if self.conversion.is_some() { Verdict::Drop } else { verdict }
    }

    fn verdict(&mut self, facts: &EventFacts, event: &Event<'_>) -> Verdict {
        match facts.kind {
            EventKind::UsageOnly if !self.usage_asked => Verdict::Drop,
            EventKind::UsageOnly => Verdict::Withhold,
            EventKind::Done => {
                self.done = true;
                self.meter.finish(event.data);
                Verdict::Withhold
            }
            EventKind::Error => {
                self.fault = Some(self.inspector.fault(event.data));
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

    pub fn is_complete(&self) -> bool {
        self.fault.is_none() && !self.is_garbled() && (self.done || self.finished)
    }

    /// An event could not be converted.
    fn is_garbled(&self) -> bool {
        self.conversion.as_ref().is_some_and(|conversion| conversion.fault.is_some())
    }

    /// What is counted of it beside tokens.
    pub fn unit(&self) -> Option<Unit> {
        self.meter.unit()
    }

    /// What was used, with the input that was told of an answer that may have broken off.
    pub async fn metered(&mut self) -> Metered {
        self.meter.tell_input(self.inspector.input());
        self.meter.read().await
    }

    /// Moves what was converted to what goes to the caller.
    pub fn hand_over(&mut self, cut: &mut Cut) {
        if let Some(conversion) = &mut self.conversion {
            conversion.hand_over(cut);
        }
    }

    /// Why the stream cannot go on.
    pub fn failure(&self) -> Option<Failure> {
        let garbled = self.conversion.as_ref().and_then(|conversion| conversion.fault.as_ref());
        let fault = self.fault.as_ref().map(|fault| Failure::from(fault.clone()));
        fault.or_else(|| garbled.map(|fault| Failure::from(ReplyFault::new(fault.to_string()))))
    }

    /// Of a streamed response: what the caller has been told.
    fn so_far(&self) -> Option<SoFar> {
        let converted = self.conversion.as_ref().and_then(|conversion| conversion.converter.so_far());
        converted.or_else(|| self.response.clone())
    }

    /// Why the upstream's stream was no answer, in its own words.
    fn fault_text(&self) -> Option<Box<str>> {
        self.failure().map(|failure| failure.text).or_else(|| self.unreadable.clone())
    }
}

/// A stream that changes its format as it goes.
struct Conversion {
    converter: StreamConverter,
    converted: Converted,
    fault: Option<ReplyFault>,
}

impl Conversion {
    fn push(&mut self, data: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.converter.push(data, &mut self.converted).err();
        }
    }

    fn finish(&mut self, counted: Option<Usage>) {
        if self.fault.is_none() {
            self.fault = self.converter.finish(counted, &mut self.converted).err();
        }
    }

    fn hand_over(&mut self, cut: &mut Cut) {
        let Converted { now, last } = &mut self.converted;
        for (bytes, verdict) in [(now, Verdict::Forward), (last, Verdict::Withhold)] {
            if !bytes.is_empty() {
                cut.push(verdict, Bytes::from(std::mem::take(bytes)));
            }
        }
    }
}

/// The caller's end of a stream.
struct Caller {
    /// `None` once it has gone.
    pieces: Option<mpsc::Sender<Bytes>>,
    cut_off: CutOff,
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
    /// For a stream in the format of the channel that is tried.
    pub(super) fn watch(&self) -> Watch {
        let (format, endpoint) = (self.attempt.format, self.request.endpoint);
        let to = conversion(endpoint, format).ok().flatten();
        let conversion = to.map(|to| Conversion {
            converter: StreamConverter::new(format, to, self.envelope()),
            converted: Converted::default(),
            fault: None,
        });
        Watch {
            meter: self.meter(),
            inspector: Inspector::new(format, endpoint),
            conversion,
            response: (to.is_none() && endpoint == Endpoint::Responses).then(SoFar::default),
            usage_asked: self.request.include_usage_asked,
            finished: false,
            done: false,
            fault: None,
            unreadable: None,
        }
    }

    pub(super) async fn stream(mut self: Box<Self>, mut opened: Box<Opened>) {
        if self.durable(self.held.ticket()).await.is_err() {
            return;
        }
        let (pieces, body) = AnswerBody::pieces();
        let cut_off = CutOff::default();
        let mut caller = Caller { pieces: Some(pieces), cut_off: cut_off.clone(), first_byte_us: None };
        let mut head = respond::head(
            self.held.decided().facts.request,
            HeaderValue::from_static("text/event-stream"),
            &self.admitted,
            None,
        );
        respond::add_left_out(&mut head, &self.attempt.left_out);
        head.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let mut response = respond::response(StatusCode::OK, head, body);
        response.extensions_mut().insert(cut_off);
        self.answer(response);
        let end = self.pump(&mut opened, &mut caller).await;
        let Opened { watch, cut, .. } = *opened;
        // Boxed: a stream that runs must not carry the room of its end.
        Box::pin(self.end_stream(end, watch, caller, cut)).await;
    }

    /// Passes events on until the stream ends, and goes on reading for a while if the caller leaves.
    async fn pump(&self, opened: &mut Opened, caller: &mut Caller) -> End {
        let gateway = &self.worker.gateway;
        let Opened { answer, watch, reader, cut, ended, .. } = opened;
        caller.forward(self, cut).await;
        if *ended || watch.done {
            return End::Upstream;
        }
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
                    watch.hand_over(cut);
                    caller.forward(self, cut).await;
                    return if watch.is_complete() { End::Upstream } else { End::Cut };
                }
                Ok(Err(why)) => {
                    watch.unreadable = Some(why.to_string().into());
                    return End::Cut;
                }
                Err(_) if drain.until.is_some() => return End::DrainLimit,
                Err(_) => return End::Cut,
            };
            let length = piece.len() as u64;
            if let Err(why) = reader.feed(&piece, |event| watch.judge(event), cut) {
                watch.unreadable = Some(why.to_string().into());
                return End::Cut;
            }
            drop(piece);
            watch.hand_over(cut);
            caller.forward(self, cut).await;
            if watch.fault.is_some() || watch.is_garbled() {
                return End::Cut;
            }
            if watch.done {
                return End::Upstream;
            }
            if cut.withheld_bytes > WITHHELD_BYTES_MAX {
                return End::Cut;
            }
            if drain.until.is_some() && !drain.takes(length) {
                return End::DrainLimit;
            }
        }
    }

    async fn end_stream(self: Box<Self>, end: End, mut watch: Watch, mut caller: Caller, mut cut: Cut) {
        let gone = caller.is_gone();
        let metered = watch.metered().await;
        if watch.is_complete()
            && let Some(conversion) = &mut watch.conversion
        {
            conversion.finish(metered.counted());
            conversion.hand_over(&mut cut);
        }
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
            _ => {
                let said = watch.failure().and_then(|failure| failure.said);
                Refusal::new(Code::StreamInterrupted).upstream(said)
            }
        };
        let code = (!complete && !gone).then_some(refusal.code);
        let response = watch.so_far().filter(|_| !complete).map(|so_far| (so_far, self.envelope()));
        let ended = Ended {
            code,
            first_byte_us: caller.first_byte_us,
            upstream_error: watch.fault_text(),
            ..self.ended(200, ending)
        };
        let settled = match complete || watch.meter.has_delivered() {
            true => self.settle(&metered, ended).await,
            false => self.give_back(&metered, ended).await,
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
            caller.cut_off.set();
            let refusal = refusal.charged(settled.charged);
            let addressee = rest.addressee();
            caller
                .send(match response {
                    Some((so_far, envelope)) => addressee.response_refusal(&refusal, &so_far, &envelope),
                    None => addressee.sse_refusal(&refusal),
                })
                .await;
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
