//! A task, its states, and what became of its money.

use ledger::{Nano, Unit, Usage};

use crate::directory::Environment;
use crate::gateway::facts::{Attempt, Endpoint, UsageSource};
use crate::gateway::request::{TaskWish, sha256};
use crate::hex;
use crate::id::{AccountId, ChannelId, KeyId, PriceId, ProjectId, RequestId, TaskId};

use super::copies::TaskCopies;
use super::upstream::Product;
use super::used::Used;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    Video,
    Image,
}

impl TaskKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskKind::Video => "video",
            TaskKind::Image => "image",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [TaskKind::Video, TaskKind::Image].into_iter().find(|kind| kind.as_str() == text)
    }

    /// What is counted of it.
    pub const fn unit(self) -> Unit {
        match self {
            TaskKind::Video => Unit::Second,
            TaskKind::Image => Unit::Image,
        }
    }

    /// Where it is submitted and asked about.
    pub const fn lane(self) -> Endpoint {
        match self {
            TaskKind::Video => Endpoint::Videos,
            TaskKind::Image => Endpoint::Images,
        }
    }
}

/// Where a task stands. A final state never changes again; it says what the ledger is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Its cost is held; the upstream has not begun it, or has not been heard of yet.
    Queued,
    Running,
    /// The upstream produced it: what it used is charged.
    Succeeded,
    /// Nothing was produced: nothing is charged, as in the two below.
    Failed,
    Cancelled,
    /// Its deadline came first.
    Expired,
}

use TaskState::{Cancelled, Expired, Failed, Queued, Running, Succeeded};

impl TaskState {
    pub const ALL: [TaskState; 6] = [Queued, Running, Succeeded, Failed, Cancelled, Expired];

    pub const fn as_str(self) -> &'static str {
        match self {
            Queued => "queued",
            Running => "running",
            Succeeded => "succeeded",
            Failed => "failed",
            Cancelled => "cancelled",
            Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub const fn is_final(self) -> bool {
        !matches!(self, Queued | Running)
    }

    pub fn may_become(self, next: TaskState) -> bool {
        match self {
            Queued => next != Queued,
            Running => next.is_final(),
            Succeeded | Failed | Cancelled | Expired => false,
        }
    }
}

/// What the ledger has done with a task's hold. It follows the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskMoney {
    Held,
    Settled,
    Released,
}

impl TaskMoney {
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskMoney::Held => "held",
            TaskMoney::Settled => "settled",
            TaskMoney::Released => "released",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [TaskMoney::Held, TaskMoney::Settled, TaskMoney::Released]
            .into_iter()
            .find(|money| money.as_str() == text)
    }
}

/// Nobody can ask about it any more.
pub(super) const CHANNEL_GONE: &str = "channel_gone";
/// Its upstream knows no such task any more.
pub(super) const LOST_THERE: &str = "upstream_lost_it";
/// Whoever waited for its upstream's answer has stopped.
const INTERRUPTED: &str = "interrupted";
const NO_RESULT: &str = "no_result";

/// Why a task did not succeed, for its caller: the code is ours or the upstream's, the text is safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Box<str>,
    pub text: Box<str>,
}

impl Failure {
    pub fn new(code: impl Into<Box<str>>, text: impl Into<Box<str>>) -> Self {
        Failure { code: code.into(), text: text.into() }
    }

    /// The upstream says that it made it, and not where that is.
    pub(super) fn no_result() -> Self {
        Failure::new(NO_RESULT, "The upstream told no result.")
    }

    pub fn interrupted() -> Self {
        Failure::new(INTERRUPTED, "The gateway stopped while its upstream was making it.")
    }

    /// Whether nobody can say that the upstream did not make it.
    pub(super) fn may_be_billed(&self) -> bool {
        matches!(&*self.code, CHANNEL_GONE | LOST_THERE | INTERRUPTED | NO_RESULT)
    }
}

/// What is known of a request for a task before it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub kind: TaskKind,
    /// `1280x720` (分辨率).
    pub resolution: Option<Box<str>>,
    pub quality: Option<Box<str>>,
    /// Milliseconds (时长); 0: it has no length.
    pub duration_ms: u64,
    /// Pictures; 0: it is a video.
    pub images: u32,
    /// SHA-256 of each reference image (参考图), in hexadecimal digits.
    pub reference_hashes: Vec<Box<str>>,
    pub prompt_hash: [u8; 32],
    /// Of all that was asked for.
    pub fingerprint: u128,
}

impl Wish {
    pub fn of(model: &str, asked: &TaskWish) -> Self {
        let (kind, duration_ms, images) = match asked {
            TaskWish::Video(video) => (TaskKind::Video, video.seconds.saturating_mul(1_000), 0),
            TaskWish::Image(image) => (TaskKind::Image, 0, image.images),
        };
        Wish {
            kind,
            resolution: asked.size().map(Into::into),
            quality: asked.quality().map(Into::into),
            duration_ms,
            images,
            reference_hashes: asked.references().iter().map(|hash| hex::encode(hash).into()).collect(),
            prompt_hash: sha256(asked.prompt().as_bytes()),
            fingerprint: asked.fingerprint(model),
        }
    }

    /// How much of its unit was asked for, as it is counted.
    pub fn asked(&self) -> u64 {
        match self.kind {
            TaskKind::Video => self.duration_ms,
            TaskKind::Image => u64::from(self.images),
        }
    }

    /// The ratio (比例) of the resolution, such as `16:9`.
    pub fn ratio(&self) -> Option<Box<str>> {
        let (width, height) = self.resolution.as_deref()?.split_once('x')?;
        let (width, height) = (width.parse::<u32>().ok()?, height.parse::<u32>().ok()?);
        let divisor = common_divisor(width, height);
        (divisor > 0).then(|| format!("{}:{}", width / divisor, height / divisor).into())
    }
}

fn common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

/// A task. The fields above `state` never change, but that it can move to another channel before one has it, and that
/// its credential may be found in another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    /// The call that submitted it: its row of the log, its hold, its receipt.
    pub request: RequestId,
    pub account: AccountId,
    pub environment: Environment,
    pub key: KeyId,
    pub project: Option<ProjectId>,
    pub channel: ChannelId,
    /// Place of the credential among those of the channel: another one may be another account there.
    pub credential: u32,
    pub model: Box<str>,
    pub upstream_model: Box<str>,
    pub wish: Wish,
    /// Frozen when it was accepted, with the row of its table of units and the multiplier.
    pub price: PriceId,
    pub price_row: u64,
    pub multiplier_ppm: u64,
    /// The most that it can cost.
    pub hold: Nano,
    pub deadline_ms: i64,
    pub created_ms: i64,

    pub state: TaskState,
    /// Percent, as the upstream tells it.
    pub progress: u32,
    pub failure: Option<Failure>,
    /// The upstream's name of it; `None`: not learnt (yet).
    pub upstream_id: Option<Box<str>>,
    pub result_expires_ms: Option<i64>,
    /// What the upstream produced.
    pub used: Option<Used>,
    /// What the upstream bills for it, where it tells that.
    pub upstream_cost: Option<Nano>,
    /// Results that are kept here; 0: the upstream keeps them.
    pub results: u32,
    pub money: TaskMoney,
    pub charged: Nano,
    /// How many upstreams were asked to make it.
    pub attempts: u32,
    /// Those attempts that have ended; the one that is not among them is at `channel`.
    pub tried: Vec<Attempt>,
    /// Identical submissions that were answered with it.
    pub duplicates: u32,
    /// When it is looked at next.
    pub poll_ms: Option<i64>,
    pub polls: u32,
    /// When the upstream took it.
    pub submitted_ms: Option<i64>,
    pub ended_ms: Option<i64>,
    /// Its owner does not want to see it any more.
    pub deleted_ms: Option<i64>,
    /// How the copies of its results stand; `None`: there were never any. Written by those who make them.
    pub copies: Option<TaskCopies>,
    pub version: u64,
}

impl Task {
    /// What is left to do: its state is final, and the ledger has not followed yet.
    pub fn is_unsettled(&self) -> bool {
        self.state.is_final() && self.money == TaskMoney::Held
    }

    /// When its result is no longer there: the copy's end, where that is kept longer than its upstream does.
    pub fn expires_ms(&self) -> Option<i64> {
        let kept = self.copies.as_ref().and_then(|copies| copies.expires_ms);
        self.result_expires_ms.max(kept)
    }

    /// So much of its unit, priced as it was held.
    pub fn usage_of(&self, counted: u64) -> Usage {
        let mut usage = Usage { row: self.price_row, ..Usage::default() };
        usage.set_units(self.wish.kind.unit(), counted);
        usage
    }

    /// What the upstream has produced; where it does not tell how much, as much as was asked for.
    pub(super) fn produced(&mut self, product: Option<&Product>) {
        let Some(product) = product else { return };
        let asked = || Used { usage: self.usage_of(self.wish.asked()), source: UsageSource::Upstream };
        self.used = Some(product.used.unwrap_or_else(asked));
        self.result_expires_ms = product.expires_ms;
        self.upstream_cost = product.cost;
        self.results = u32::try_from(product.made.len()).unwrap_or(u32::MAX);
    }

    /// The one way into a final state.
    pub(super) fn end(&mut self, state: TaskState, failure: Option<Failure>, now_ms: i64) {
        (self.state, self.failure) = (state, failure);
        self.ended_ms = Some(now_ms);
        // Until the ledger has followed.
        (self.poll_ms, self.polls) = (Some(now_ms), 0);
        if state == Succeeded {
            self.progress = 100;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(resolution: &str) -> Wish {
        Wish {
            kind: TaskKind::Video,
            resolution: Some(resolution.into()),
            quality: None,
            duration_ms: 4_000,
            images: 0,
            reference_hashes: Vec::new(),
            prompt_hash: [0; 32],
            fingerprint: 0,
        }
    }

    #[test]
    fn g1_a_ratio_is_that_of_the_resolution() {
        assert_eq!(wish("1280x720").ratio().as_deref(), Some("16:9"));
        assert_eq!(wish("720x1280").ratio().as_deref(), Some("9:16"));
        assert_eq!(wish("1024x1792").ratio().as_deref(), Some("4:7"));
        for odd in ["", "720", "0x0", "axb", "1x"] {
            assert_eq!(wish(odd).ratio(), None, "{odd}");
        }
    }

    #[test]
    fn a_final_state_never_changes() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::parse(state.as_str()), Some(state));
            let onward = TaskState::ALL.into_iter().filter(|next| state.may_become(*next)).count();
            assert_eq!(onward == 0, state.is_final(), "{state:?}");
        }
        assert!(!Running.may_become(Queued));
    }
}
