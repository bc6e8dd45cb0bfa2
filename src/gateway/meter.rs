//! What an answer used: told by the upstream, or counted here and marked so – also where an upstream tells more than the
//! call can have.

use std::rc::Rc;

use bytes::Bytes;
use ledger::{TokenClass, Unit, Usage};

use crate::directory::Variant;

use super::bounds::Bounds;
use super::convert::Format;
use super::facts::{AskedUnits, Endpoint, UsageSource};
use super::outgoing;
use super::provider;
use super::provider::openai::{self, Delivered, Tap, Told};
use super::request::ModelRequest;
use super::route::Route;
use super::tokens::{self, Family};

/// Raw events are kept up to this size before their text is taken out.
const TAPE_BYTES_MAX: usize = 64 * 1024;

/// Stands between two events on the tape; JSON never holds it unescaped.
const SEPARATOR: u8 = 0x1e;

/// A recording whose length nobody told is taken for one of this many bytes a second (128 kbit/s).
const RECORDING_BYTES_PER_SECOND: u64 = 16_000;
/// OpenAI's models hear a tenth of a second as one token.
const MS_PER_AUDIO_TOKEN: u64 = 100;

/// Watches one answer go by.
pub struct Meter {
    call: Rc<MeteredCall>,
    /// What the upstream told last; running totals, never summed.
    told: Told,
    /// What the upstream told of its input, where it broke off before it told the rest.
    told_input: Option<Box<Usage>>,
    /// Events since the text was last taken out, so that an answer whose upstream tells its usage is never
    /// taken apart.
    tape: Vec<u8>,
    delivered: Delivered,
    /// Something was delivered that has no text – pictures and sound –, or that was counted since.
    has_more: bool,
    /// Watches an answer that is too long to be kept.
    tap: Option<Tap>,
}

/// What counting needs to know of the request.
pub struct MeteredCall {
    /// Through which it went.
    pub route: Rc<Route>,
    /// What its upstream speaks.
    pub format: Format,
    pub request: ModelRequest,
    pub body: Bytes,
    /// What it can use at the most.
    pub bounds: Bounds,
}

/// What was used, and who says so.
pub struct Metered {
    /// Its row of the price's table is not known yet.
    pub usage: Usage,
    pub tokens_source: UsageSource,
    pub units_source: UsageSource,
    /// What was made, where the upstream told it.
    pub size: Option<Box<str>>,
    pub quality: Option<Box<str>>,
    pub call: Rc<MeteredCall>,
}

impl Meter {
    pub fn new(call: Rc<MeteredCall>) -> Self {
        let delivered = Delivered::of(call.format, call.request.endpoint, call.request.choices);
        Meter {
            call,
            told: Told::default(),
            told_input: None,
            tape: Vec::new(),
            delivered,
            has_more: false,
            tap: None,
        }
    }

    /// What is counted beside tokens.
    pub fn unit(&self) -> Option<Unit> {
        self.call.request.endpoint.unit()
    }

    pub fn tell(&mut self, usage: Usage) {
        self.told.usage = Some(usage);
    }

    /// The input of an answer whose usage was not told to its end.
    pub fn tell_input(&mut self, input: Option<Usage>) {
        self.told_input = input.map(Box::new);
    }

    /// A piece of answer that was, or will be, delivered.
    pub fn deliver(&mut self, json: &[u8]) {
        if matches!(self.unit(), Some(Unit::Image | Unit::Character)) {
            self.has_more = true;
            return;
        }
        if self.tape.len() + json.len() > TAPE_BYTES_MAX {
            self.take_out();
        }
        self.tape.extend_from_slice(json);
        self.tape.push(SEPARATOR);
    }

    /// The last event of a stream, which may tell what was made.
    pub fn finish(&mut self, json: &[u8]) {
        if self.unit() == Some(Unit::Image) {
            let Told { size, quality, .. } = openai::variant(json);
            self.told = Told { size, quality, images: Some(1), ..std::mem::take(&mut self.told) };
        }
    }

    /// The whole body of an answer.
    pub fn whole(&mut self, body: &[u8]) {
        self.told = provider::told(self.call.format, self.call.request.endpoint, body);
        if self.believed(&self.told).is_none() {
            self.deliver_body(body);
        }
    }

    /// What was told, if the call can have used so much.
    fn believed(&self, told: &Told) -> Option<Usage> {
        told.usage.filter(|usage| self.call.bounds.has_tokens(usage))
    }

    /// The beginning of a body that is too long to be kept.
    pub fn begin(&mut self, begun: &[u8]) {
        let mut tap = Tap::new(self.call.request.endpoint);
        tap.push(begun);
        self.tap = Some(tap);
        if !self.is_made() {
            self.delivered.begin(begun);
        }
    }

    /// The next piece of it.
    pub fn more(&mut self, piece: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.push(piece);
        }
        self.delivered.more(piece.len());
    }

    fn deliver_body(&mut self, body: &[u8]) {
        if !self.is_made() {
            self.delivered.push(body);
        }
    }

    /// Pictures and sound have no text; that they were delivered is noted.
    fn is_made(&mut self) -> bool {
        let endpoint = self.call.request.endpoint;
        let is_made =
            matches!(endpoint, Endpoint::Speech | Endpoint::ImageGenerations | Endpoint::ImageEdits);
        self.has_more |= is_made;
        is_made
    }

    fn take_out(&mut self) {
        for event in self.tape.split(|byte| *byte == SEPARATOR) {
            self.delivered.push(event);
        }
        self.tape.clear();
    }

    /// Whether anything was delivered.
    pub fn has_delivered(&mut self) -> bool {
        self.take_out();
        self.has_more || !self.delivered.is_empty()
    }

    /// The usage of the answer as far as it went.
    pub async fn read(&mut self) -> Metered {
        if let Some(tap) = self.tap.take() {
            self.told = tap.told();
        }
        let told = std::mem::take(&mut self.told);
        if let Some(usage) = self.believed(&told) {
            if self.call.request.units.is_none() {
                return Metered::told(Rc::clone(&self.call), usage);
            }
            // Boxed, here and below: a call without units must not carry their room.
            return Box::pin(self.with_units(usage, UsageSource::Upstream, told)).await;
        }
        self.take_out();
        let mut usage = Box::pin(self.count_tokens()).await;
        if let Some(told) = self.told_input.as_ref().filter(|told| self.call.bounds.has_input(told)) {
            let of_input = |class: &TokenClass| class.parent() == TokenClass::Input;
            TokenClass::ALL.into_iter().filter(of_input).for_each(|class| usage.set(class, told.get(class)));
        }
        // What stands beside tokens is believed, or not, by itself.
        usage.units = told.usage.unwrap_or_default().units;
        Box::pin(self.with_units(usage, UsageSource::Counted, told)).await
    }

    /// What was sent and what came back, as the upstream had it. Off the worker's thread: the tables are built at the
    /// first use, and a long text takes a while.
    async fn count_tokens(&mut self) -> Usage {
        let MeteredCall { route, format, request, body, bounds } = &*self.call;
        let model: Box<str> = outgoing::model(request, route).into();
        let (format, request, body, bounds) = (*format, request.clone(), body.clone(), *bounds);
        let delivered = std::mem::take(&mut self.delivered);
        self.has_more |= !delivered.is_empty();
        let counted = tokio::task::spawn_blocking(move || {
            let family = Family::of(&model);
            let (endpoint, body) = outgoing::sent(&request, &body, format, &model);
            let (images, bound) = (request.parts.images, request.input_tokens_bound);
            let mut usage = tokens::count_input(endpoint, family, &body, images, bound);
            let output = tokens::count_delivered(family, &delivered);
            for (sum, more) in usage.tokens.iter_mut().zip(output.tokens) {
                *sum = sum.saturating_add(more);
            }
            bounds.cut(usage)
        });
        // The task cannot fail but with the runtime, whose end releases the hold.
        counted.await.unwrap_or_default()
    }

    /// Adds what is counted beside tokens, where the upstream did not tell it, or tells what cannot be.
    async fn with_units(&self, usage: Usage, tokens_source: UsageSource, told: Told) -> Metered {
        let call = Rc::clone(&self.call);
        let (size, quality) = (told.size, told.quality);
        let mut metered = Metered { tokens_source, size, quality, ..Metered::told(call, usage) };
        if let (Some(unit), Some(asked)) = (metered.unit(), self.call.request.units.as_deref()) {
            let (bounds, told_units) = (&self.call.bounds, usage.units(unit));
            if told_units == 0 || !bounds.has_units(unit, told_units) {
                let (counted, source) = self.count_units(unit, asked, told.images).await;
                metered.usage.set_units(unit, bounds.cut_units(counted));
                metered.units_source = source;
            }
            if unit == Unit::Second && tokens_source == UsageSource::Counted {
                let ms = metered.usage.units(unit);
                metered.usage.set(TokenClass::AudioIn, ms.div_ceil(MS_PER_AUDIO_TOKEN));
                metered.tokens_source =
                    std::cmp::max_by_key(tokens_source, metered.units_source, |s| *s as u8);
            }
        }
        metered
    }

    async fn count_units(&self, unit: Unit, asked: &AskedUnits, images: Option<u64>) -> (u64, UsageSource) {
        let counted = match unit {
            Unit::Image => images.unwrap_or(u64::from(asked.images)),
            Unit::Character => asked.characters,
            Unit::Search => {
                let (family, body) = (Family::of(&self.call.request.model), self.call.body.clone());
                let count = tokio::task::spawn_blocking(move || tokens::count_searches(family, &body));
                count.await.unwrap_or(asked.searches).min(asked.searches)
            }
            Unit::Second => match asked.ms {
                Some(ms) => ms,
                None => {
                    let bytes = self.call.request.recording_bytes;
                    let ms = bytes.saturating_mul(1_000).div_ceil(RECORDING_BYTES_PER_SECOND);
                    return (ms, UsageSource::Estimated);
                }
            },
        };
        (counted, UsageSource::Counted)
    }
}

impl Metered {
    /// Tokens alone, as the upstream told them.
    fn told(call: Rc<MeteredCall>, usage: Usage) -> Self {
        let source = UsageSource::Upstream;
        Metered { usage, tokens_source: source, units_source: source, size: None, quality: None, call }
    }

    /// What is counted beside tokens.
    pub fn unit(&self) -> Option<Unit> {
        self.call.request.endpoint.unit()
    }

    /// The tokens that were counted, where the upstream did not tell them.
    pub fn counted(&self) -> Option<Usage> {
        (self.tokens_source != UsageSource::Upstream).then_some(self.usage)
    }

    /// What was made, as the upstream told it or as it was asked for.
    pub fn variant(&self) -> Variant<'_> {
        let asked = self.asked();
        Variant {
            size: self.size.as_deref().or(asked.size),
            quality: self.quality.as_deref().or(asked.quality),
        }
    }

    /// What was asked for.
    pub fn asked(&self) -> Variant<'_> {
        self.call.request.units.as_deref().map(AskedUnits::variant).unwrap_or_default()
    }
}
