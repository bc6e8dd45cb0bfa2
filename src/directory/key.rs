//! A caller's key: what it is, whether and when it may be used, and what limits it.

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address;
use crate::id::{AccountId, GroupId, KeyId, MemberId, PolicyId, ProjectId};

use super::documents::names;
use super::error::FieldError;
use super::limit::Limit;
use super::rate::RateLimit;
use super::schedule::Schedule;
use super::task_terms::TaskTerms;

/// A caller's key. Its text is known to the caller alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub id: KeyId,
    pub account: AccountId,
    pub name: Box<str>,
    pub environment: Environment,
    /// Keyed hash of the key's text.
    pub hash: KeyHash,
    /// Prefix, first and last characters: enough to recognise one's own key, useless to anybody else.
    pub masked: Box<str>,
    /// The text before the last rotation, and through it those before: each works to the end of its own overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<PreviousText>>,
    #[serde(default)]
    pub status: KeyStatus,
    /// Who set the status, why and since when; unset while nobody ever changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_note: Option<Box<StatusNote>>,
    /// From this moment on the key is refused as expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When the key may be used (生效时间范围).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<Schedule>>,
    /// Addresses that the key may be used from; empty: all.
    #[serde(default, deserialize_with = "tight_ranges", skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// Whose key it is within the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    /// Spend limits and daily calls of the key.
    #[serde(default, deserialize_with = "tight", skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// How fast it may be used.
    #[serde(default, deserialize_with = "tight", skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateLimit>,
    #[serde(default, deserialize_with = "tight", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyId>,
    /// Which models the key may use at which endpoints; empty: all that its group reaches.
    #[serde(default, deserialize_with = "tight", skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Allowance>,
    /// Boxed: few keys have any, and there may be a million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Box<TaskTerms>>,
    pub created_at: Timestamp,
}

/// A list without spare room: there may be a million keys in memory.
fn tight<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    let mut list = Vec::deserialize(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
}

/// Older keys may have IPv4 that is written as IPv6, which would never match.
fn tight_ranges<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let mut ranges: Vec<IpNet> = tight(deserializer)?;
    for range in &mut ranges {
        *range = address::folded(*range).unwrap_or(*range);
    }
    Ok(ranges)
}

/// Some models at some endpoints. An empty list stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Paths below the version segment: `chat/completions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Box<str>>,
    /// Names as callers send them; `*` at the end stands for any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Box<str>>,
}

impl Allowance {
    pub fn covers(&self, endpoint: &str, model: &str) -> bool {
        (self.endpoints.is_empty() || self.endpoints.iter().any(|known| **known == *endpoint))
            && names(&self.models, model)
    }
}

impl Key {
    /// A new key, enabled and without any restriction.
    pub fn new(
        id: KeyId,
        account: AccountId,
        environment: Environment,
        text: KeyText,
        now: Timestamp,
    ) -> Self {
        Key {
            id,
            account,
            name: "".into(),
            environment,
            hash: text.hash,
            masked: text.masked,
            previous: None,
            status: KeyStatus::Enabled,
            status_note: None,
            expires_at: None,
            schedule: None,
            ip_ranges: Vec::new(),
            group: None,
            project: None,
            member: None,
            limits: Vec::new(),
            rates: Vec::new(),
            policies: Vec::new(),
            allowed: Vec::new(),
            tasks: None,
            created_at: now,
        }
    }

    /// Texts that were replaced, newest first, whether they still work or not.
    pub fn replaced(&self) -> impl Iterator<Item = &PreviousText> {
        std::iter::successors(self.previous.as_deref(), |text| text.earlier.as_deref())
    }

    /// Takes a new text; the present one works on until `until`, the older ones as it was promised.
    ///
    /// Of more texts than are remembered the one that ended first is forgotten, and none whose overlap has not ended.
    pub fn take_text(&mut self, text: KeyText, until: Timestamp, now: Timestamp) -> Result<(), FieldError> {
        let mut texts: Vec<_> =
            self.replaced().map(|old| PreviousText { earlier: None, ..old.clone() }).collect();
        if texts.len() >= REPLACED_TEXTS_MAX {
            let ended = texts.iter().enumerate().rev().filter(|(_, old)| old.until <= now);
            let Some((first, _)) = ended.min_by_key(|(_, old)| old.until) else {
                return Err(FieldError::new("end_older", TEXTS_ALL_WORK));
            };
            texts.remove(first);
        }
        let masked = std::mem::replace(&mut self.masked, text.masked);
        texts.insert(0, PreviousText { hash: self.hash, masked, until, earlier: None });
        self.hash = text.hash;
        let chained = |earlier, text| Some(Box::new(PreviousText { earlier, ..text }));
        self.previous = texts.into_iter().rev().fold(None, chained);
        Ok(())
    }

    /// Ends the overlap of every replaced text.
    pub fn end_replaced(&mut self, now: Timestamp) {
        let mut next = self.previous.as_deref_mut();
        while let Some(text) = next {
            text.until = text.until.min(now);
            next = text.earlier.as_deref_mut();
        }
    }

    /// The status at a moment: one that was set until then has ended.
    pub fn status_at(&self, at: Timestamp) -> KeyStatus {
        let until = self.status_note.as_ref().and_then(|note| note.until);
        match until.is_some_and(|until| until <= at) && self.status != KeyStatus::Revoked {
            true => KeyStatus::Enabled,
            false => self.status,
        }
    }

    /// Whether the key's own list lets it use this model at this endpoint.
    pub fn allows(&self, endpoint: &str, model: &str) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|allowed| allowed.covers(endpoint, model))
    }
}

/// So many replaced texts are known again: one that has ended is told from one that nobody made.
pub const REPLACED_TEXTS_MAX: usize = 32;
const TEXTS_ALL_WORK: &str =
    "is needed: the key has 32 replaced texts that still work; wait for the end of one, or end them";

/// A text that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousText {
    pub hash: KeyHash,
    pub masked: Box<str>,
    /// From then on it does not work.
    pub until: Timestamp,
    /// The text that it had replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Box<PreviousText>>,
}

/// What is kept of a key's text.
#[derive(Clone, Debug)]
pub struct KeyText {
    pub hash: KeyHash,
    pub masked: Box<str>,
}

/// HMAC-SHA-256 of a key's text under the installation's hash key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    Live,
    Test,
}

impl Environment {
    pub const fn as_str(self) -> &'static str {
        match self {
            Environment::Live => "live",
            Environment::Test => "test",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Environment::Live, Environment::Test].into_iter().find(|known| known.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// 已启用
    #[default]
    Enabled,
    /// 已停用
    Disabled,
    /// 待审核
    PendingReview,
    /// 风险冻结
    RiskFrozen,
    /// For good.
    Revoked,
}

impl KeyStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            KeyStatus::Enabled => "enabled",
            KeyStatus::Disabled => "disabled",
            KeyStatus::PendingReview => "pending_review",
            KeyStatus::RiskFrozen => "risk_frozen",
            KeyStatus::Revoked => "revoked",
        }
    }

    /// English and Chinese.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            KeyStatus::Enabled => ("enabled", "已启用"),
            KeyStatus::Disabled => ("disabled", "已停用"),
            KeyStatus::PendingReview => ("pending review", "待审核"),
            KeyStatus::RiskFrozen => ("frozen for risk", "风险冻结"),
            KeyStatus::Revoked => ("revoked", "已吊销"),
        }
    }
}

/// How a key came to its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusNote {
    pub origin: StatusOrigin,
    pub reason: StatusReason,
    pub since: Timestamp,
    /// From this moment on the key counts as enabled again; unset: until somebody changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// What a risk rule saw, with its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<serde_json::Value>,
}

/// Who changed a key's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusOrigin {
    RiskPolicy,
    AbnormalUse,
    Operator,
    Owner,
}

/// Why, as a stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusReason {
    /// 触发高频检测
    HighFrequency,
    /// 跨区域访问异常
    CrossRegion,
    LeakedKey,
    RepeatedRefusals,
    AppealApproved,
    Operator,
    Owner,
}

impl StatusOrigin {
    /// English and Chinese.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            StatusOrigin::RiskPolicy => ("the risk policy", "风险策略"),
            StatusOrigin::AbnormalUse => ("abnormal use", "异常使用检测"),
            StatusOrigin::Operator => ("the operator", "平台管理员"),
            StatusOrigin::Owner => ("the account's owner", "账户所有者"),
        }
    }
}

impl StatusReason {
    pub fn as_str(self) -> &'static str {
        match self {
            StatusReason::HighFrequency => "high_frequency",
            StatusReason::CrossRegion => "cross_region",
            StatusReason::LeakedKey => "leaked_key",
            StatusReason::RepeatedRefusals => "repeated_refusals",
            StatusReason::AppealApproved => "appeal_approved",
            StatusReason::Operator => "operator",
            StatusReason::Owner => "owner",
        }
    }

    /// English and Chinese.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            StatusReason::HighFrequency => ("calls in unusual frequency", "触发高频检测"),
            StatusReason::CrossRegion => ("calls from distant places", "跨区域访问异常"),
            StatusReason::LeakedKey => ("the key was made public", "密钥已泄露"),
            StatusReason::RepeatedRefusals => ("many refused calls", "多次调用被拒绝"),
            StatusReason::AppealApproved => ("an appeal was approved", "申诉已通过"),
            StatusReason::Operator => ("a decision of the operator", "平台管理员操作"),
            StatusReason::Owner => ("a decision of the account's owner", "账户所有者操作"),
        }
    }
}

impl Serialize for KeyHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes =
            crate::hex::decode::<32>(&text).ok_or_else(|| serde::de::Error::custom("not a key hash"))?;
        Ok(KeyHash(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D6: a key of a version that knew one replaced text alone.
    #[test]
    fn d6_an_older_key_is_read_and_rotated_on() {
        let [first, second] = ["11", "22"].map(|byte| byte.repeat(32));
        let stored = serde_json::json!({
            "id": KeyId::from_raw(7), "account": AccountId::from_raw(8), "name": "old", "environment": "live",
            "hash": second, "masked": "tg-live-…2", "created_at": "2026-11-01T00:00:00Z",
            "ip_ranges": ["::ffff:10.0.0.0/104", "2001:db8::/32"],
            "previous": {"hash": first, "masked": "tg-live-…1", "until": "2026-11-20T00:00:00Z"},
        });
        let mut key: Key = serde_json::from_value(stored).unwrap();
        let ranges: Vec<_> = key.ip_ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.0.0.0/8", "2001:db8::/32"]);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let third = KeyText { hash: KeyHash([3; 32]), masked: "tg-live-…3".into() };
        key.take_text(third, at("2026-11-15T00:00:00Z"), at("2026-11-10T00:00:00Z")).unwrap();
        let written = serde_json::to_value(&key).unwrap();
        assert_eq!(serde_json::from_value::<Key>(written).unwrap(), key);
        let told: Vec<_> = key.replaced().map(|text| (&*text.masked, text.until.to_string())).collect();
        let until = |text: &str| text.to_owned();
        assert_eq!(
            told,
            [("tg-live-…2", until("2026-11-15T00:00:00Z")), ("tg-live-…1", until("2026-11-20T00:00:00Z"))]
        );
    }
}
