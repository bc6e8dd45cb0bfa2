//! What was known of a call when it was decided, and how it ended. Together they are the log row, the Why
//! and the receipt of the call; the money itself is in the ledger's effects.
//!
//! Facts are written into the journal, so they hold no key text, no prompt and no answer.

use std::net::IpAddr;
use std::sync::Arc;

use ledger::{CounterKey, Nano, Unit, Usage, WindowInstance};
use smallvec::SmallVec;

use crate::catalogue::{Code, Refusal};
use crate::directory::{Key, Rates, Variant};
use crate::gateway::convert::Format;
use crate::id::{AccountId, ChannelId, KeyId, MemberId, PriceId, ProjectId, RequestId};

use super::channel_health::RestReason;

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

/// The data plane's addresses, as the contract lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Endpoint {
    ChatCompletions = 1,
    Models = 2,
    Completions = 3,
    Responses = 4,
    /// Anthropic's.
    Messages = 5,
    Embeddings = 6,
    ImageGenerations = 7,
    ImageEdits = 8,
    Speech = 9,
    Transcriptions = 10,
    Moderations = 11,
    Rerank = 12,
    Videos = 13,
    /// Gemini's.
    GenerateContent = 14,
    /// The same as a stream of events.
    StreamGenerateContent = 15,
}

impl Endpoint {
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| *endpoint as u8 == code)
    }

    pub const ALL: [Endpoint; 15] = [
        Endpoint::ChatCompletions,
        Endpoint::Models,
        Endpoint::Completions,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::Embeddings,
        Endpoint::ImageGenerations,
        Endpoint::ImageEdits,
        Endpoint::Speech,
        Endpoint::Transcriptions,
        Endpoint::Moderations,
        Endpoint::Rerank,
        Endpoint::Videos,
        Endpoint::GenerateContent,
        Endpoint::StreamGenerateContent,
    ];

    /// Path below the version segment; where the model stands in it, what is asked of the model.
    pub fn path(self) -> &'static str {
        self.upstream_path().trim_start_matches('/')
    }

    /// The same as upstreams of the format have it below their base URL.
    pub const fn upstream_path(self) -> &'static str {
        match self {
            Endpoint::ChatCompletions => "/chat/completions",
            Endpoint::Models => "/models",
            Endpoint::Completions => "/completions",
            Endpoint::Responses => "/responses",
            Endpoint::Messages => "/messages",
            Endpoint::Embeddings => "/embeddings",
            Endpoint::ImageGenerations => "/images/generations",
            Endpoint::ImageEdits => "/images/edits",
            Endpoint::Speech => "/audio/speech",
            Endpoint::Transcriptions => "/audio/transcriptions",
            Endpoint::Moderations => "/moderations",
            Endpoint::Rerank => "/rerank",
            Endpoint::Videos => "/videos",
            Endpoint::GenerateContent => "/generateContent",
            Endpoint::StreamGenerateContent => "/streamGenerateContent",
        }
    }

    /// Request type as the log names it.
    pub fn request_type(self) -> &'static str {
        match self {
            Endpoint::ChatCompletions
            | Endpoint::Messages
            | Endpoint::GenerateContent
            | Endpoint::StreamGenerateContent => "chat",
            Endpoint::Models => "models",
            Endpoint::Completions => "completion",
            Endpoint::Responses => "response",
            Endpoint::Embeddings => "embedding",
            Endpoint::ImageGenerations | Endpoint::ImageEdits => "image",
            Endpoint::Speech => "speech",
            Endpoint::Transcriptions => "transcription",
            Endpoint::Moderations => "moderation",
            Endpoint::Rerank => "rerank",
            Endpoint::Videos => "video",
        }
    }

    /// The format of its bodies, where a chat can be converted from it.
    pub const fn format(self) -> Option<Format> {
        match self {
            Endpoint::ChatCompletions => Some(Format::OpenAi),
            Endpoint::Messages => Some(Format::Anthropic),
            Endpoint::GenerateContent | Endpoint::StreamGenerateContent => Some(Format::Gemini),
            Endpoint::Responses => Some(Format::Responses),
            _ => None,
        }
    }

    /// How the length of its answers is bounded.
    pub const fn output(self) -> Output {
        match self {
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::GenerateContent
            | Endpoint::StreamGenerateContent => Output::Capped,
            Endpoint::ImageGenerations
            | Endpoint::ImageEdits
            | Endpoint::Speech
            | Endpoint::Transcriptions => Output::UpToTheModel,
            Endpoint::Models
            | Endpoint::Embeddings
            | Endpoint::Moderations
            | Endpoint::Rerank
            | Endpoint::Videos => Output::None,
        }
    }

    /// Whether its bodies are forms with files.
    pub const fn takes_form(self) -> bool {
        matches!(self, Endpoint::ImageEdits | Endpoint::Transcriptions)
    }

    /// What is counted of its calls beside tokens.
    pub const fn unit(self) -> Option<Unit> {
        match self {
            Endpoint::ImageGenerations | Endpoint::ImageEdits => Some(Unit::Image),
            Endpoint::Speech => Some(Unit::Character),
            Endpoint::Transcriptions | Endpoint::Videos => Some(Unit::Second),
            Endpoint::Rerank => Some(Unit::Search),
            _ => None,
        }
    }
}

/// Output tokens of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The request can cap them, so that the gateway does.
    Capped,
    /// No request can cap them: as many as the model can give.
    UpToTheModel,
    None,
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

/// The books as they were at the decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    pub available: Nano,
    pub held: Nano,
    pub counters: SmallVec<[CounterReading; LAYERS_INLINE]>,
    /// `None` if no rate limited the key.
    pub rate: Option<RateReading>,
    /// Channels that could not be used, where that made a difference.
    pub channels: Vec<ChannelReading>,
}

impl Readings {
    /// Whether the channel could not be used.
    pub fn rests(&self, channel: ChannelId) -> bool {
        self.channels.iter().any(|reading| reading.channel == channel)
    }
}

/// A channel that rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelReading {
    pub channel: ChannelId,
    pub reason: RestReason,
    /// Ledger time at which it can be used again, as far as that is known.
    pub until_ms: i64,
}

/// How fast a key was used, and the limits that held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateReading {
    pub limits: Rates,
    /// How far requests were ahead of an even flow.
    pub ahead_ns: u64,
    /// Tokens of the last minute, those that running calls may come to among them.
    pub tokens: u64,
    /// Calls under way.
    pub running: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterReading {
    pub counter: CounterKey,
    pub window: WindowInstance,
    pub used: i64,
    pub held: i64,
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
}

impl CapReason {
    pub fn from_code(code: u8) -> Option<Self> {
        [CapReason::Caller, CapReason::Model, CapReason::Money, CapReason::Rate]
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            CapReason::Caller => "caller",
            CapReason::Model => "model",
            CapReason::Money => "money",
            CapReason::Rate => "rate",
        }
    }
}

/// How an admitted call ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Status that the caller was answered with.
    pub status: u16,
    pub ending: Ending,
    pub usage: Usage,
    pub usage_source: UsageSource,
    /// The tries at upstreams in their order; the last one is that which the call was answered and charged by.
    pub attempts: Attempts,
    /// The last upstream's own words, cut to 2 KiB; operators only.
    pub upstream_error: Option<Box<str>>,
    /// The code that the caller was shown, if the call ended in one.
    pub code: Option<Code>,
    /// Microseconds from the arrival of the request.
    pub first_byte_us: Option<u64>,
    pub latency_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// The whole answer was there.
    Complete = 1,
    /// The upstream refused, failed or was not reached: nothing was delivered.
    UpstreamFailed = 2,
    /// The upstream broke off after it had begun to answer.
    UpstreamCut = 3,
    /// The caller left and the upstream was drained to its usage.
    CallerGoneDrained = 4,
    /// The caller left and what had come was counted.
    CallerGoneCounted = 5,
    /// The gateway stopped before the answer had ended.
    Shutdown = 6,
    /// A fault of the gateway itself.
    GatewayFault = 7,
    /// The process died before the call was settled.
    ProcessDied = 8,
    /// The key was frozen or revoked before the answer had ended.
    KeyStopped = 9,
    /// A task was cancelled by its owner or an operator.
    Cancelled = 10,
    /// A task's deadline came before its end.
    Expired = 11,
}

impl Ending {
    const ALL: [Ending; 11] = [
        Ending::Complete,
        Ending::UpstreamFailed,
        Ending::UpstreamCut,
        Ending::CallerGoneDrained,
        Ending::CallerGoneCounted,
        Ending::Shutdown,
        Ending::GatewayFault,
        Ending::ProcessDied,
        Ending::KeyStopped,
        Ending::Cancelled,
        Ending::Expired,
    ];

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|ending| *ending as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Complete => "complete",
            Ending::UpstreamFailed => "upstream_failed",
            Ending::UpstreamCut => "upstream_cut",
            Ending::CallerGoneDrained => "caller_gone_drained",
            Ending::CallerGoneCounted => "caller_gone_counted",
            Ending::Shutdown => "shutdown",
            Ending::GatewayFault => "gateway_fault",
            Ending::ProcessDied => "process_died",
            Ending::KeyStopped => "key_stopped",
            Ending::Cancelled => "cancelled",
            Ending::Expired => "expired",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UsageSource {
    /// Nothing was used.
    None = 0,
    /// Told by the upstream.
    Upstream = 1,
    /// Counted here, because the upstream told nothing.
    Counted = 2,
    /// Guessed here from the size of a recording that nobody told the length of.
    Estimated = 3,
}

impl UsageSource {
    pub fn from_code(code: u8) -> Option<Self> {
        [UsageSource::None, UsageSource::Upstream, UsageSource::Counted, UsageSource::Estimated]
            .into_iter()
            .find(|source| *source as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            UsageSource::None => "none",
            UsageSource::Upstream => "upstream",
            UsageSource::Counted => "counted",
            UsageSource::Estimated => "estimated",
        }
    }
}

/// Most calls are answered by the first channel that they are sent to.
pub type Attempts = SmallVec<[Attempt; 1]>;

/// One try of a call at one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// `None` only of calls from before attempts were kept: it is the channel that the call was admitted to.
    pub channel: Option<ChannelId>,
    /// Which of the channel's credentials was used, from 1; never the credential itself.
    pub credential: u8,
    /// Of the group through which the channel was reached; 0 where the channel is not known.
    pub multiplier_ppm: u64,
    /// Microseconds from the arrival of the request.
    pub started_us: u64,
    pub duration_us: u64,
    /// What the upstream answered; `None`: nothing came.
    pub status: Option<u16>,
    /// The upstream's own name of the call, as its bill gives it.
    pub upstream_request: Option<Box<str>>,
    /// What was wrong with it, if anything was.
    pub fault: Option<Code>,
    /// What the upstream is expected to bill for it; `None`: nobody told the gateway what the channel costs.
    pub cost: Option<Nano>,
    pub cost_basis: CostBasis,
}

/// How well the cost of an attempt is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum CostBasis {
    /// The upstream had nothing to bill: it refused, or never had the request.
    #[default]
    Nothing = 0,
    /// By the usage that the upstream told.
    Upstream = 1,
    /// By what was counted of an answer whose usage nobody told.
    Counted = 2,
    /// The most that it can be: the upstream had the request, and no answer came of it.
    Estimated = 3,
}

impl CostBasis {
    pub fn from_code(code: u8) -> Option<Self> {
        [CostBasis::Nothing, CostBasis::Upstream, CostBasis::Counted, CostBasis::Estimated]
            .into_iter()
            .find(|basis| *basis as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            CostBasis::Nothing => "nothing",
            CostBasis::Upstream => "upstream",
            CostBasis::Counted => "counted",
            CostBasis::Estimated => "estimated",
        }
    }
}

impl Outcome {
    /// The multiplier that an admitted call was charged at: that of the group through which it was served.
    pub fn multiplier_ppm(&self, admitted: &Admitted) -> u64 {
        let served = self.served().filter(|attempt| attempt.channel.is_some());
        served.map_or(admitted.multiplier_ppm, |attempt| attempt.multiplier_ppm)
    }

    /// The attempt that the call was answered and charged by.
    pub fn served(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// What all upstreams that were tried are expected to bill, as far as their cost is known.
    pub fn upstream_cost(&self) -> Nano {
        let costs = self.attempts.iter().filter_map(|attempt| attempt.cost);
        costs.fold(Nano::ZERO, Nano::saturating_add)
    }

    /// Of a call that the gateway itself lost.
    pub fn gateway_fault() -> Self {
        Outcome {
            status: 0,
            ending: Ending::GatewayFault,
            usage: Usage::default(),
            usage_source: UsageSource::None,
            attempts: Attempts::new(),
            upstream_error: None,
            code: None,
            first_byte_us: None,
            latency_us: 0,
        }
    }
}
