//! What an answer used: told by the upstream, or counted here and marked so.

use std::rc::Rc;

use bytes::Bytes;
use ledger::Usage;

use super::facts::UsageSource;
use super::provider::openai::Delivered;
use super::tokens::{self, Family};

/// Raw events are kept up to this size before their text is taken out.
const TAPE_BYTES_MAX: usize = 64 * 1024;

/// Stands between two events on the tape; JSON never holds it unescaped.
const SEPARATOR: u8 = 0x1e;

/// Watches one answer go by.
pub struct Meter {
    call: Rc<MeteredCall>,
    /// What the upstream told last; running totals, never summed.
    told: Option<Usage>,
    /// Events since the text was last taken out, so that an answer whose upstream tells its usage is never
    /// taken apart.
    tape: Vec<u8>,
    delivered: Delivered,
}

/// What counting needs to know of the request.
pub struct MeteredCall {
    pub model: Box<str>,
    pub body: Bytes,
    pub images: u32,
    pub input_tokens_bound: u64,
}

impl Meter {
    pub fn new(call: Rc<MeteredCall>) -> Self {
        Meter { call, told: None, tape: Vec::new(), delivered: Delivered::default() }
    }

    pub fn tell(&mut self, usage: Usage) {
        self.told = Some(usage);
    }

    /// A piece of answer that was, or will be, delivered.
    pub fn deliver(&mut self, json: &[u8]) {
        if self.tape.len() + json.len() > TAPE_BYTES_MAX {
            self.take_out();
        }
        self.tape.extend_from_slice(json);
        self.tape.push(SEPARATOR);
    }

    /// The whole body of an answer, or the beginning of a very long one.
    pub fn deliver_whole(&mut self, json: &[u8]) {
        self.delivered.push(json);
    }

    fn take_out(&mut self) {
        for event in self.tape.split(|byte| *byte == SEPARATOR) {
            self.delivered.push(event);
        }
        self.tape.clear();
    }

    /// Whether any text was delivered.
    pub fn has_delivered(&mut self) -> bool {
        self.take_out();
        !self.delivered.is_empty()
    }

    /// The usage of the answer as far as it went.
    pub async fn read(mut self) -> (Usage, UsageSource) {
        if let Some(usage) = self.told {
            return (usage, UsageSource::Upstream);
        }
        self.take_out();
        let family = Family::of(&self.call.model);
        let call = self.call;
        let (body, images, bound) = (call.body.clone(), call.images, call.input_tokens_bound);
        let delivered = self.delivered;
        // Off the worker's thread: the tables are built at the first use, and a long text takes a while.
        let counted = tokio::task::spawn_blocking(move || {
            let mut usage = tokens::count_input(family, &body, images, bound);
            let output = tokens::count_delivered(family, &delivered);
            for (sum, more) in usage.tokens.iter_mut().zip(output.tokens) {
                *sum = sum.saturating_add(more);
            }
            usage
        });
        // The task cannot fail but with the runtime, whose end releases the hold.
        let usage = counted.await.unwrap_or_default();
        (usage, UsageSource::Counted)
    }
}
