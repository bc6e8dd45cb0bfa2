//! What was known of a call when it was decided, and how it ended. Together they are the log row, the Why
//! and the receipt of the call; the money itself is in the ledger's effects.
//!
//! Facts are written into the journal, so they hold no key text, no prompt and no answer.

mod endpoint;
mod outcome;
mod readings;

use std::net::IpAddr;
use std::sync::Arc;

use ledger::{Nano, TokenClass, Unit, Usage};

use crate::catalogue::Refusal;
use crate::directory::{Key, Price, Variant};
use crate::id::{AccountId, ChannelId, KeyId, MemberId, PriceId, ProjectId, RequestId};

pub use endpoint::{Endpoint, Output};
pub use outcome::{Attempt, Attempts, CostBasis, Ending, Outcome, UsageSource};
pub use readings::{ChannelReading, CounterReading, RateReading, Readings};

/// Room for the layers of one call without an allocation: those of a key, its project and its group.
pub const LAYERS_INLINE: usize = 10;

/// The outcome of a check that needs nothing but the request itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked<T> {
    /// An earlier check refused first.
    NotReached,
    Passed(T),
    Refused(Box<Refusal>),
}

impl<T> Checked<T> {
    pub fn passed(&self) -> Option<&T> {
        match self {
            Checked::Passed(value) => Some(value),
            Checked::NotReached | Checked::Refused(_) => None,
        }
    }
}

/// What the caller asked for, whose key it used, and what could be read of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub request: RequestId,
    /// Ledger time at which the call was decided, in ms since the Unix epoch.
    pub at_ms: i64,
    /// Version of the directory that the decision used.
    pub config_version: u64,
    pub address: Checked<Endpoint>,
    pub credential: Checked<Credential>,
    pub body: Checked<CallBody>,
    pub client: Client,
    pub repetition: Repetition,
}

impl Facts {
    /// Whether the call costs nothing, so that nothing is held for it.
    pub fn is_free(&self) -> bool {
        self.address.passed().is_some_and(|endpoint| endpoint.is_count())
    }
}

/// How a call stands to those before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repetition {
    /// The first call of the same key with the same content a moment ago (重复提交).
    pub duplicate_of: Option<RequestId>,
    /// The call whose kept answer this one was given again.
    pub replay_of: Option<RequestId>,
    /// Why it may not be repeated.
    pub refused: Option<Box<Refusal>>,
}

/// A key that is known, whatever its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    pub key: KeyId,
    pub account: AccountId,
    /// What the key belonged to then.
    pub project: Option<ProjectId>,
    pub member: Option<MemberId>,
}

impl Credential {
    pub fn of(key: &Key) -> Self {
        Credential { key: key.id, account: key.account, project: key.project, member: key.member }
    }
}

/// What a decision needs of a request body.
#[derive(Clone, Debug, PartialEq)]
pub struct CallBody {
    pub model: Box<str>,
    pub stream: bool,
    pub body_bytes: u64,
    /// Upper bound of the input's text tokens.
    pub input_tokens_bound: u64,
    pub image_parts: u32,
    pub audio_parts: u32,
    /// Output tokens of one choice, as the caller capped them.
    pub output_cap: Option<u32>,
    /// Answers asked for; at least 1.
    pub choices: u32,
    /// What is asked for that is not sold by tokens.
    pub units: Option<Box<AskedUnits>>,
}

/// What a call asks for beside tokens; each number is an upper bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedUnits {
    pub images: u32,
    /// Of an image or a film, as the caller wrote it; `None`: left to the upstream.
    pub size: Option<Box<str>>,
    pub quality: Option<Box<str>>,
    /// Of sound or film, in milliseconds; `None`: the request does not tell.
    pub ms: Option<u64>,
    pub characters: u64,
    pub searches: u64,
}

impl AskedUnits {
    pub fn variant(&self) -> Variant<'_> {
        Variant { size: self.size.as_deref(), quality: self.quality.as_deref() }
    }

    /// How many of a unit, as it is counted; `None`: nobody knows yet.
    pub fn count(&self, unit: Unit) -> Option<u64> {
        match unit {
            Unit::Image => Some(u64::from(self.images)),
            Unit::Second => self.ms,
            Unit::Character => Some(self.characters),
            Unit::Search => Some(self.searches),
        }
    }
}

/// Who called, as far as the connection tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub address: Option<IpAddr>,
    /// The User-Agent header, cut to 128 bytes.
    pub sdk: Box<str>,
    /// The SDK's own count of its automatic retries (自动重试).
    pub retry_count: u32,
    /// The page that the call came from, if a browser sent it; cut to 128 bytes.
    pub browser_origin: Option<Box<str>>,
    /// The highest cost of a task that the caller confirmed, by `x-tallygate-confirm-cost`.
    pub confirmed_cost: Option<Nano>,
}

/// Everything about one call but its money: the request log row.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    pub decided: Arc<Decided>,
    /// `None` while the call runs, and for ever if it was refused.
    pub outcome: Option<Box<Outcome>>,
}

impl CallRecord {
    /// Status that the caller was answered with; 0 while the call runs.
    pub fn status(&self) -> u16 {
        let (decided, outcome) = (&self.decided, self.outcome.as_deref());
        let refused = decided.refusal.as_ref().map(|refusal| refusal.code.status());
        let replayed = decided.facts.repetition.replay_of.map(|_| 200);
        outcome.map(|outcome| outcome.status).or(refused).or(replayed).unwrap_or(0)
    }
}

/// A call as it was decided; never changes afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    pub facts: Facts,
    /// What was read of the books; `None` if the call was refused before they were looked at.
    pub readings: Option<Readings>,
    pub refusal: Option<Box<Refusal>>,
    pub admitted: Option<Admitted>,
    /// Calls that this is the record of: one, or as many as a flood of like refusals had; zero: it is not recorded.
    pub calls: u32,
}

impl Decided {
    /// Before the decision.
    pub fn new(facts: Facts) -> Self {
        Decided { facts, readings: None, refusal: None, admitted: None, calls: 1 }
    }

    /// The most that an admitted call can use, at this price.
    pub fn most(&self, price: &Price) -> Usage {
        let mut usage = Usage::default();
        let (Some(call), Some(admitted)) = (self.facts.body.passed(), self.admitted) else { return usage };
        let output = u64::from(call.choices).saturating_mul(u64::from(admitted.output_cap));
        usage.set(TokenClass::Input, call.input_tokens_bound);
        usage.set(TokenClass::Output, output);
        let unit = self.facts.address.passed().and_then(|endpoint| endpoint.unit());
        if let (Some(unit), Some(asked)) = (unit, call.units.as_deref()) {
            usage.set_units(unit, asked.count(unit).unwrap_or(0));
            usage.row = price.dearest_row(unit, asked.variant());
        }
        usage
    }
}

/// What an admitted call was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub price: PriceId,
    /// Of the dearest group that may serve the call, which is what the hold covers.
    pub multiplier_ppm: u64,
    /// Where it is sent to first.
    pub channel: ChannelId,
    pub hold: Nano,
    /// Output tokens of one choice, at the most.
    pub output_cap: u32,
    pub cap_reason: CapReason,
}

/// Where a call's output cap comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CapReason {
    Caller = 1,
    Model = 2,
    /// The usable money buys fewer tokens than the model could give.
    Money = 3,
    /// A share of the key's tokens per minute.
    Rate = 4,
    /// The caller's was above what the model can give.
    Lowered = 5,
}

impl CapReason {
    pub fn from_code(code: u8) -> Option<Self> {
        [CapReason::Caller, CapReason::Model, CapReason::Money, CapReason::Rate, CapReason::Lowered]
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            CapReason::Caller => "caller",
            CapReason::Model => "model",
            CapReason::Money => "money",
            CapReason::Rate => "rate",
            CapReason::Lowered => "lowered",
        }
    }
}
