//! Why a channel is not used now, as a code, a word and in words.

use serde::Serialize;

use crate::catalogue::Code;

/// Why a channel is not used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RestReason {
    /// The upstream refuses more requests for now.
    RateLimited = 1,
    /// It failed several times in a row.
    Errors = 2,
    /// It failed several times in a row, last by its silence.
    Timeouts = 3,
    /// The platform's account there has no money left.
    OutOfCredit = 4,
    /// It does not take the credential.
    AuthFailed = 5,
    /// It does not have the model that the channel names.
    ModelMissing = 6,
    /// As many calls are under way as the channel may have at a time.
    Busy = 7,
    /// As many calls were made within a minute as the channel may have.
    RateReached = 8,
    /// Its address or its credentials cannot be used.
    Unusable = 9,
}

impl RestReason {
    const ALL: [RestReason; 9] = [
        RestReason::RateLimited,
        RestReason::Errors,
        RestReason::Timeouts,
        RestReason::OutOfCredit,
        RestReason::AuthFailed,
        RestReason::ModelMissing,
        RestReason::Busy,
        RestReason::RateReached,
        RestReason::Unusable,
    ];

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }

    /// English and Chinese.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            RestReason::RateLimited => ("the upstream takes no more requests for now", "上游限流"),
            RestReason::Errors => ("it failed several times in a row", "连续多次失败"),
            RestReason::Timeouts => ("it did not answer several times in a row", "连续多次超时"),
            RestReason::OutOfCredit => ("the upstream's account is out of credit", "上游账户余额不足"),
            RestReason::AuthFailed => ("the upstream refused its credential", "上游拒绝了其凭证"),
            RestReason::ModelMissing => ("the upstream does not have the model", "上游没有该模型"),
            RestReason::Busy => ("it has as many calls at a time as it may have", "已达渠道并发上限"),
            RestReason::RateReached => {
                ("it had as many calls in a minute as it may have", "已达渠道每分钟调用上限")
            }
            RestReason::Unusable => {
                ("its address or its credentials cannot be used", "渠道地址或凭证无法使用")
            }
        }
    }

    /// Of a fault of the ladder's last rung; `None`: no fault of the channel.
    pub(super) fn of(fault: Code) -> Option<Self> {
        Some(match fault {
            Code::UpstreamRateLimited => RestReason::RateLimited,
            Code::UpstreamError | Code::StreamInterrupted => RestReason::Errors,
            Code::UpstreamTimeout => RestReason::Timeouts,
            Code::UpstreamOutOfCredit => RestReason::OutOfCredit,
            Code::UpstreamAuthFailed => RestReason::AuthFailed,
            Code::UpstreamModelMissing => RestReason::ModelMissing,
            _ => return None,
        })
    }

    /// Whether another credential of the channel may do better.
    pub fn is_of_credential(self) -> bool {
        matches!(self, RestReason::OutOfCredit | RestReason::AuthFailed)
    }
}
