//! What notices are about, and how it is said. A new event is a new line here and a variant of
//! [`Facts`](super::Facts).

use serde::{Deserialize, Serialize};

use crate::catalogue::Language;

/// Title and text of an event, each in English and Chinese, with `{names}` of its facts.
struct Words {
    title: [&'static str; 2],
    text: [&'static str; 2],
}

macro_rules! events {
    ($($(#[doc = $doc:literal])* $event:ident $name:literal: $title:expr, $text:expr;)*) => {
        /// A stable name: receivers depend on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Event { $($(#[doc = $doc])* $event),* }

        impl Event {
            pub const ALL: &'static [Event] = &[$(Event::$event),*];
            /// The names of all, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Event::$event => $name),* }
            }

            const fn words(self) -> Words {
                match self { $(Event::$event => Words { title: $title, text: $text }),* }
            }
        }
    };
}

events! {
    /// A key got another status (D4).
    KeyStatusChanged "key_status_changed":
        ["Key {name} is {to} now", "密钥 {name} 的状态变为{to}"],
        ["The status of key {name} ({subject}) changed from {from} to {to}. By: {origin}. Reason: {reason}. \
          In force until: {until}.",
         "密钥 {name}（{subject}）的状态由{from}变为{to}。操作方：{origin}。原因：{reason}。有效期至：{until}。"];
    /// A risk rule froze a key by itself (D3).
    KeyFrozen "key_frozen":
        ["Key {name} was frozen", "密钥 {name} 已被风险冻结"],
        ["Key {name} ({subject}) was frozen by {origin}. Reason: {reason}. Frozen until: {until}. Calls with it are \
          refused; you can appeal, and the evidence is kept with the key.",
         "密钥 {name}（{subject}）已被{origin}冻结。原因：{reason}。冻结至：{until}。使用该密钥的调用会被拒绝；\
          您可以申请解禁，相关证据保存在该密钥的操作日志中。"];
    /// An appeal against a freeze was decided (D3).
    AppealDecided "appeal_decided":
        ["The appeal for key {name} was {decision}", "密钥 {name} 的申诉结果：{decision}"],
        ["The appeal for key {name} ({subject}) was {decision}. Reason: {reason}",
         "密钥 {name}（{subject}）的解禁申请结果：{decision}。理由：{reason}"];
    /// A live key was used from a browser's page, where everybody can read it (D6).
    LiveKeyFromBrowser "live_key_from_browser":
        ["Live key {name} is used in a browser", "正式密钥 {name} 在浏览器中被使用"],
        ["Live key {name} ({subject}) was used from a page of {origin}. Whoever opens the page can read the key: \
          rotate it and call from a server.",
         "正式密钥 {name}（{subject}）被来自 {origin} 的网页使用。任何打开该网页的人都能看到密钥：请轮换密钥，\
          并改由服务器端发起调用。"];
    /// The balance fell below its threshold.
    LowBalance "low_balance":
        ["The balance is low: {available} {currency}", "余额不足提醒：{available} {currency}"],
        ["{available} {currency} are available to {subject}, less than the threshold of {threshold} {currency}. \
          Calls are refused when nothing is left.",
         "{subject} 的可用余额为 {available} {currency}，低于提醒阈值 {threshold} {currency}。余额用尽后调用会被拒绝。"];
    /// Money was taken back that the account has spent (E4).
    AccountInArrears "account_in_arrears":
        ["The account owes {arrears} {currency}", "账户欠费：{arrears} {currency}"],
        ["Money of order {order} was taken back ({reference}), and {subject} owes {arrears} {currency}. Calls are refused until that is \
          paid; money that comes in pays it first.",
         "订单 {order} 的款项已被收回（{reference}），{subject} 现欠费 {arrears} {currency}。结清前调用会被拒绝，新入账的金额先用于结清欠费。"];
    /// So much of a budget is used (I1).
    BudgetAlert "budget_alert":
        ["{percent}% of the {window} budget of {name} is used", "{name} 的{window}预算已使用 {percent}%"],
        ["{name} ({subject}) used {used} of its {window} budget of {limit} {currency}, which is {percent}%.",
         "{name}（{subject}）的{window}预算为 {limit} {currency}，已使用 {used}，占 {percent}%。"];
    /// An upstream refused a credential of a channel, or its account there has no money left (H2).
    ChannelCoolingDown "channel_cooling_down":
        ["Channel {name} needs attention: {reason}", "渠道 {name} 需要处理：{reason}"],
        ["Channel {name} ({subject}): {reason}. It is about credential number {credential}, which is left out until \
          {until} and then tried again. Callers are told of an upstream's trouble, never of its account.",
         "渠道 {name}（{subject}）：{reason}。涉及第 {credential} 个凭证，在 {until} 之前不再使用，之后会重试。\
          调用方只会看到上游异常，不会看到平台的上游账户信息。"];
    /// What is left of the platform's credit at an upstream fell below its threshold (H2).
    UpstreamCreditLow "upstream_credit_low":
        ["Channel {name}: {remaining} of credit left", "渠道 {name} 的上游余额仅剩 {remaining}"],
        ["The upstream of channel {name} ({subject}) says that {remaining} is left with credential number {credential}, \
          less than the threshold of {threshold}, both in the upstream's own currency. When nothing is left, the \
          credential is left out and calls go to other channels, if there are any.",
         "渠道 {name}（{subject}）的上游显示第 {credential} 个凭证的余额为 {remaining}，低于提醒阈值 {threshold}（均为上游币种）。\
          余额用尽后该凭证会暂停使用，调用将转到其他渠道（如有）。"];
    /// A copy of what a task made was given up (G1).
    ResultCopyFailed "result_copy_failed":
        ["Results of tasks are not copied: {reason}", "任务结果未能备份：{reason}"],
        ["Result {number} of task {subject} was not copied to {storage}: {reason}. It is given up; when its upstream forgets the \
          result, nobody has it. This is told once an hour at the most; `tallygate tasks list --copies failed` shows every such task.",
         "任务 {subject} 的第 {number} 个结果未能备份到 {storage}：{reason}。已放弃备份；上游清除该结果后将无法再获取。\
          此通知每小时最多一次，`tallygate tasks list --copies failed` 可列出所有此类任务。"];
    /// A month of an account is over (月度账单).
    MonthlySummary "monthly_summary":
        ["{period}: {charges} {currency} charged, {closing} {currency} left",
         "{period} 月度账单：扣费 {charges} {currency}，余额 {closing} {currency}"],
        ["{subject} began {period} with {opening} {currency}. Credited: {credits}. Charged: {charges}. Refunded: {refunds}. \
          Anything else: {others}. It ended with {closing} {currency}. The statement has every line.",
         "{subject} 在 {period} 期初余额 {opening} {currency}，入账 {credits}，扣费 {charges}，退款 {refunds}，其他 {others}，\
          期末余额 {closing} {currency}。明细请见对账单。"];
}

/// What notices are sorted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventCategory {
    Keys,
    Money,
    /// The platform's own ways to upstreams; for operators.
    Channels,
    /// Videos and pictures; for operators.
    Tasks,
}

impl EventCategory {
    pub const NAMES: &'static [&'static str] = &["keys", "money", "channels", "tasks"];
}

impl std::str::FromStr for EventCategory {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        serde_json::from_value(name.into()).map_err(|_| format!("must be one of {}", Self::NAMES.join(", ")))
    }
}

impl Event {
    /// Whether it tells amounts of its account's money.
    pub const fn tells_money(self) -> bool {
        match self {
            Event::LowBalance | Event::AccountInArrears | Event::BudgetAlert | Event::MonthlySummary => true,
            Event::KeyStatusChanged
            | Event::KeyFrozen
            | Event::AppealDecided
            | Event::ChannelCoolingDown
            | Event::UpstreamCreditLow
            | Event::ResultCopyFailed
            | Event::LiveKeyFromBrowser => false,
        }
    }

    /// What the notification centre sorts it under.
    pub const fn category(self) -> EventCategory {
        match self {
            Event::KeyStatusChanged | Event::KeyFrozen | Event::AppealDecided | Event::LiveKeyFromBrowser => {
                EventCategory::Keys
            }
            Event::LowBalance | Event::AccountInArrears | Event::BudgetAlert | Event::MonthlySummary => {
                EventCategory::Money
            }
            Event::ChannelCoolingDown | Event::UpstreamCreditLow => EventCategory::Channels,
            Event::ResultCopyFailed => EventCategory::Tasks,
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == name)
    }

    pub(super) const fn title(self, language: Language) -> &'static str {
        of(self.words().title, language)
    }

    pub(super) const fn text(self, language: Language) -> &'static str {
        of(self.words().text, language)
    }
}

const fn of([en, zh]: [&'static str; 2], language: Language) -> &'static str {
    match language {
        Language::En => en,
        Language::Zh => zh,
    }
}

impl std::str::FromStr for Event {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::parse(name).ok_or_else(|| format!("must be one of {}", Self::NAMES.join(", ")))
    }
}
