//! The documents of the directory, as they are stored and as the management API shows them.
//!
//! Money is written as a decimal string, a multiplier as a decimal string with up to six places, a time as
//! RFC 3339 in UTC. A document never holds a key's text or a channel's credential in the clear: a key is a
//! keyed hash, a credential is sealed with the master key.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::{Nano, TokenClass, Usage};
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::{AccountId, ChannelId, GroupId, ModelId, OrganizationId, PolicyId, PriceId, ProjectId};

use super::credit_check::CreditCheck;
use super::decimal;
use super::member::AccountRole;
use super::organization::Switches;
use super::task_api::TaskApi;
use super::task_terms::TaskTerms;

pub use super::key::{
    Allowance, Environment, Key, KeyHash, KeyStatus, KeyText, PreviousText, REPLACED_TEXTS_MAX, StatusNote,
    StatusOrigin, StatusReason,
};
pub use super::limit::{Limit, Metric, Origin, Window};
pub use super::unit_price::{UnitPrice, Variant};

/// Whose money: everything that is prepaid, limited and billed together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub id: AccountId,
    pub name: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Box<str>>,
    #[serde(default)]
    pub kind: AccountKind,
    /// IANA name of the zone in which the account's days and months begin.
    pub time_zone: Box<str>,
    /// How far below zero the balance may go; zero unless an operator declared otherwise.
    #[serde(default, with = "decimal::money")]
    pub overdraft: Nano,
    /// Whether refusals show callers the account's amounts; unset means yes for a personal account only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers_see_account_money: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<Box<str>>,
    /// The organization that it stands under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationId>,
    #[serde(default, skip_serializing_if = "Switches::is_unset")]
    pub switches: Switches,
    /// Below it, the balance is told to be low.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::optional_money")]
    pub low_balance_alert: Option<Nano>,
    /// What an invoice (发票) needs, such as `title` and `tax_number`, by names of the account's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub invoice: BTreeMap<Box<str>, Box<str>>,
    /// Where its keys belong that name no project. Only accounts from before there was one have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_project: Option<ProjectId>,
    /// Policies of its keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<AccountPolicy>,
    /// Groups that operators granted to it: its members may put keys into them, and take keys out of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Box<TaskTerms>>,
    /// How long transcripts of its calls are kept; unset: nothing of what is said in them is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcripts: Option<TranscriptTerms>,
    pub created_at: Timestamp,
}

/// What an account wants kept of what is sent and answered in its calls (F1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptTerms {
    /// Days from the call on; the installation may keep it for less.
    pub kept_days: u32,
}

/// A policy of an account: of all its keys, or of those whose member has a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountPolicy {
    pub policy: PolicyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AccountRole>,
}

impl Account {
    /// The setting, or the default of the account's kind.
    pub fn callers_see_account_money(&self) -> bool {
        self.callers_see_account_money.unwrap_or(self.kind == AccountKind::Personal)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    #[default]
    Personal,
    Enterprise,
    Education,
}

/// A model as callers name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub id: ModelId,
    pub name: Box<str>,
    #[serde(default)]
    pub status: ModelStatus,
    /// Paths below the version segment at which the model works; empty: `chat/completions` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Box<str>>,
    /// Output tokens of one choice, at the most.
    pub output_tokens_max: u32,
    /// Tokens that one image part can cost at the most; unset: image parts are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tokens_max: Option<u32>,
    /// Tokens that one audio part can cost at the most; unset: audio parts are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_tokens_max: Option<u32>,
    /// Seconds of one recording, at the most; unset: recordings that are priced by time are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_seconds_max: Option<u32>,
    pub owned_by: Box<str>,
    pub created_at: Timestamp,
}

/// Where a model works that does not say.
const CHAT_ENDPOINT: &str = "chat/completions";
/// Pictures as tasks: a model that draws at once does so in the background, too.
const IMAGE_TASKS: &str = "images";
const DRAWS_AT: [&str; 2] = ["images/generations", "images/edits"];
/// The formats of chat: a model that chats in one does so in each of them.
const CHAT_FORMATS: [&str; 5] =
    [CHAT_ENDPOINT, "responses", "messages", "generateContent", "streamGenerateContent"];

impl Model {
    pub fn works_at(&self, endpoint: &str) -> bool {
        let is_chat = CHAT_FORMATS.contains(&endpoint);
        let is_image_task = endpoint == IMAGE_TASKS;
        self.endpoints().any(|known| {
            known == endpoint
                || (is_chat && CHAT_FORMATS.contains(&known))
                || (is_image_task && DRAWS_AT.contains(&known))
        })
    }

    /// Paths below the version segment at which the model works.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        let unsaid = self.endpoints.is_empty().then_some(CHAT_ENDPOINT);
        unsaid.into_iter().chain(self.endpoints.iter().map(|endpoint| &**endpoint))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelStatus {
    #[default]
    Active,
    Retired,
}

/// One version of a model's price. A version never changes; a new price is a new version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub id: PriceId,
    pub model: ModelId,
    /// Counts from 1 for each model.
    pub version: u32,
    pub effective_at: Timestamp,
    /// Price per million tokens of each class; a class that is missing is charged as its parent class.
    #[serde(with = "decimal::per_million")]
    pub per_million: [Option<Nano>; TokenClass::COUNT],
    /// Prices of images, seconds, characters and searches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<UnitPrice>,
    /// Added once per call.
    #[serde(default, with = "decimal::money")]
    pub per_call: Nano,
    pub created_at: Timestamp,
}

impl Price {
    /// The price as the ledger rates with it.
    pub fn rates(&self) -> ledger::Price {
        self.rates_at(0)
    }
}

/// Where calls are sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    pub id: ChannelId,
    pub name: Box<str>,
    pub provider: ProviderKind,
    /// Up to and including the version segment, without a slash at the end: `https://host/v1`.
    pub base_url: Box<str>,
    /// The provider's keys, sealed with the master key; calls take turns with those that work.
    #[serde(alias = "credential", deserialize_with = "one_or_several")]
    pub credentials: Vec<Box<str>>,
    /// Model as callers name it → as this upstream names it.
    pub models: BTreeMap<Box<str>, Box<str>>,
    /// Groups that may use the channel; empty means every group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupId>,
    pub environments: Vec<Environment>,
    /// Higher is tried first.
    #[serde(default)]
    pub priority: i32,
    /// Its share of the calls among channels of the same priority; 0: only where no other of them can.
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub status: ChannelStatus,
    /// The request field through which this upstream takes its output cap.
    #[serde(default)]
    pub output_cap_field: CapField,
    /// Whether it rests after failures; one that does not is tried whatever happened.
    #[serde(default = "yes")]
    pub cools_down: bool,
    /// HTTP proxy through which the upstream is reached: `http://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Box<str>>,
    /// Calls at a time, of one process; unset: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls in a minute, of one process; unset: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// What the upstream bills, as a share of the model's price in millionths; unset: nobody knows.
    #[serde(
        default,
        rename = "cost_share",
        skip_serializing_if = "Option::is_none",
        with = "decimal::optional_multiplier"
    )]
    pub cost_share_ppm: Option<u64>,
    /// How its upstream tells what is left of the platform's credit there; unset: it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<CreditCheck>,
    /// What it bills for single models, where that is no share of their price; by the names that callers use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cost_prices: BTreeMap<Box<str>, CostPrice>,
    /// How it speaks of tasks, where that is in no known way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_api: Option<Box<TaskApi>>,
    pub created_at: Timestamp,
}

/// What an upstream bills for a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostPrice {
    #[serde(with = "decimal::per_million")]
    pub per_million: [Option<Nano>; TokenClass::COUNT],
    #[serde(default, with = "decimal::money")]
    pub per_call: Nano,
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

/// A channel had one credential before it could have several.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<str>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(Box<str>),
        Several(Vec<Box<str>>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::One(one) => vec![one],
        Written::Several(several) => several,
    })
}

impl Channel {
    /// What the upstream is expected to bill for this use of a model; `None`: nobody told what it costs.
    pub fn cost(&self, model: &str, price: &Price, usage: &Usage) -> Option<Nano> {
        let (rates, share_ppm) = match self.cost_prices.get(model) {
            Some(own) => {
                let (per_million, per_call) = (own.per_million, own.per_call);
                // Its own prices are for tokens and calls: what is made of neither has none.
                let is_told = own.per_call.is_positive() || usage.tokens.iter().any(|tokens| *tokens > 0);
                if !is_told && !usage.is_zero() {
                    return None;
                }
                (ledger::Price { per_million, per_call, ..ledger::Price::default() }, decimal::PPM)
            }
            None => (price.rates_at(usage.row), self.cost_share_ppm?),
        };
        Some(ledger::rate(&rates, usage, share_ppm).map_or(Nano::MAX, |rated| rated.total))
    }

    /// Whether keys of this group, or of none, may use it.
    pub fn is_open_to(&self, group: Option<GroupId>) -> bool {
        self.groups.is_empty() || group.is_some_and(|group| self.groups.contains(&group))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// OpenAI, and every server that speaks its format.
    Openai,
    Deepseek,
    Anthropic,
    Gemini,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelStatus {
    #[default]
    Enabled,
    Disabled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapField {
    #[default]
    MaxCompletionTokens,
    MaxTokens,
}

/// Which channels a key may reach, and at which multiple of the price.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub id: GroupId,
    pub name: Box<str>,
    /// Millionths: 1,000,000 charges the list price.
    #[serde(rename = "multiplier", with = "decimal::multiplier")]
    pub multiplier_ppm: u64,
    /// Names of models, `*` at the end standing for any rest; empty: all that its channels serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Box<str>>,
    /// Groups whose channels serve where none of its own can, in this order; a call is charged at the multiplier of
    /// the group that served it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<GroupId>,
    /// Quotas (分组额度) over all keys of the group; their windows begin in UTC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    pub created_at: Timestamp,
}

impl Group {
    pub fn contains(&self, model: &str) -> bool {
        names(&self.models, model)
    }
}

/// Whether one of the patterns names the model; an empty list names every one.
pub(super) fn names(patterns: &[Box<str>], model: &str) -> bool {
    let named = |pattern: &str| match pattern.strip_suffix('*') {
        Some(begin) => model.starts_with(begin),
        None => model == pattern,
    };
    patterns.is_empty() || patterns.iter().any(|pattern| named(pattern))
}
