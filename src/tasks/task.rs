//! A task, its states, and what became of its money.

use ledger::Nano;

use crate::directory::Environment;
use crate::gateway::request::{VideoWish, sha256};
use crate::hex;
use crate::id::{AccountId, ChannelId, KeyId, PriceId, ProjectId, RequestId, TaskId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    Video,
}

impl TaskKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskKind::Video => "video",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [TaskKind::Video].into_iter().find(|kind| kind.as_str() == text)
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
}

/// What is known of a request for a task before it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub kind: TaskKind,
    /// `1280x720` (分辨率).
    pub resolution: Option<Box<str>>,
    /// Milliseconds (时长).
    pub duration_ms: u64,
    /// SHA-256 of each reference image (参考图), in hexadecimal digits.
    pub reference_hashes: Vec<Box<str>>,
    pub prompt_hash: [u8; 32],
    /// Of the whole body.
    pub fingerprint: u128,
}

impl Wish {
    pub fn of(model: &str, video: &VideoWish) -> Self {
        Wish {
            kind: TaskKind::Video,
            resolution: Some(video.size.clone()),
            duration_ms: video.seconds.saturating_mul(1_000),
            reference_hashes: video.references.iter().map(|hash| hex::encode(hash).into()).collect(),
            prompt_hash: sha256(video.prompt.as_bytes()),
            fingerprint: video.fingerprint(model),
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

/// A task. The fields above `state` never change.
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
    /// What the upstream produced, in milliseconds.
    pub used_ms: Option<u64>,
    pub money: TaskMoney,
    pub charged: Nano,
    /// How often the upstream was asked to make it.
    pub attempts: u32,
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
    pub version: u64,
}

impl Task {
    /// What is left to do: its state is final, and the ledger has not followed yet.
    pub fn is_unsettled(&self) -> bool {
        self.state.is_final() && self.money == TaskMoney::Held
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
            duration_ms: 4_000,
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
