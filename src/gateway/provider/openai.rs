//! OpenAI's format: what an answer says about its tokens, its end and its
//! faults.
//!
//! Promises: an event that says nothing of interest costs a few substring
//! searches and no JSON parse. A usage is believed only at the place where the
//! format puts it: text of the model, or a request echoed by the server, can
//! not forge one.
//!
//! Must never: panic on an upstream's bytes, or return a usage whose classes
//! count a token twice.

mod endpoints;
mod errors;
#[cfg(test)]
mod tests;
mod text;
mod usage;

use std::sync::LazyLock;

use ledger::Usage;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

pub use endpoints::{Tap, Told, inspect, told, usage_of_last_event, variant};
pub use errors::{UpstreamFault, UpstreamFaultKind, classify, of_code, retry_after};
pub use text::{Delivered, Spoken};
pub use usage::{BodyTap, SMALL_BODY_BYTES, WINDOW_BYTES, usage_from_body};

/// What an event of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It carries a choice, so a piece of an answer.
    Delta,
    /// It carries the usage and no choice: the event that is there only
    /// because `stream_options.include_usage` asked for it.
    UsageOnly,
    /// `[DONE]`.
    Done,
    /// An error in the stream; [`stream_fault`] reads it.
    Error,
    /// Anything else, as a comment of the server in its own format.
    Other,
}

/// What an event of a stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFacts {
    pub kind: EventKind,
    /// A choice of it has a finish reason.
    pub has_finish: bool,
    /// The usage so far. Any event may carry one and a later one replaces it:
    /// they are running totals, never summed.
    pub usage: Option<Usage>,
}

/// Looks at the data of an event.
pub fn inspect_event(data: &[u8]) -> EventFacts {
    let mut facts = EventFacts { kind: EventKind::Other, has_finish: false, usage: None };
    if data.trim_ascii() == b"[DONE]" {
        facts.kind = EventKind::Done;
        return facts;
    }
    let mut choices = values_of(data, &CHOICES);
    let has_choice = choices.any(|rest| matches!(after(rest, b'['), Some(next) if next != b']'));
    if has_choice {
        facts.kind = EventKind::Delta;
        facts.has_finish = values_of(data, &FINISH).any(|rest| rest.first() == Some(&b'"'));
    }
    // `null` is what most events say of their usage and of their error.
    if values_of(data, &USAGE).any(|rest| rest.first() == Some(&b'{')) {
        facts.usage = usage::usage_from_body(data);
        if facts.usage.is_some() && !has_choice {
            facts.kind = EventKind::UsageOnly;
        }
    }
    if values_of(data, &ERROR).any(|rest| rest.first() != Some(&b'n')) && has_error(data) {
        facts.kind = EventKind::Error;
    }
    facts
}

/// Whether a whole body is an error, whatever its status says.
pub fn is_error_body(body: &[u8]) -> bool {
    values_of(body, &ERROR).any(|rest| rest.first() != Some(&b'n')) && has_error(body)
}

/// The fault that an error event of a stream tells of. Its status is the one
/// that its code stands for, as the stream itself began with 200.
pub fn stream_fault(data: &[u8]) -> UpstreamFault {
    errors::of_stream(data)
}

fn has_error(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Top<'a> {
        #[serde(borrow, default)]
        error: Option<&'a RawValue>,
    }
    serde_json::from_slice::<Top<'_>>(json).is_ok_and(|top| top.error.is_some())
}

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

/// The texts behind `name:` wherever it stands as a member's name. Inside a
/// JSON string its quote would be escaped, so that it cannot be mistaken.
fn values_of<'a>(json: &'a [u8], name: &'a Finder<'static>) -> impl Iterator<Item = &'a [u8]> {
    name.find_iter(json).filter_map(|at| {
        let escaped = at.checked_sub(1).and_then(|before| json.get(before)) == Some(&b'\\');
        let rest = json.get(at + name.needle().len()..)?.trim_ascii_start();
        if escaped { None } else { rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start) }
    })
}

/// The first byte that is no blank behind `open`, if the text starts with it.
fn after(text: &[u8], open: u8) -> Option<u8> {
    let rest = text.strip_prefix(&[open])?;
    rest.trim_ascii_start().first().copied()
}
