//! How a call ended, attempt by attempt.

use ledger::{Nano, Usage};
use smallvec::SmallVec;

use super::Admitted;
use crate::catalogue::Code;
use crate::id::ChannelId;

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
