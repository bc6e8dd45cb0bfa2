//! What is known of an event: typed, small, never a secret. Codes go to programs, words to people.

use jiff::Timestamp;
use ledger::Nano;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::catalogue::{Language, Value, fill_with, push_value};
use crate::directory::{KeyStatus, StatusOrigin, StatusReason, Window, decimal};
use crate::gateway::channel_health::RestReason;

use super::event::Event;

/// Characters of one fact at the most; a name or an address of a page is an arbitrary text of somebody.
const FACT_CHARS_MAX: usize = 500;

/// The facts of one event, by their names in the JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Facts {
    KeyStatusChanged {
        name: Box<str>,
        from: KeyStatus,
        to: KeyStatus,
        origin: StatusOrigin,
        reason: StatusReason,
        until: Option<Timestamp>,
    },
    KeyFrozen {
        name: Box<str>,
        origin: StatusOrigin,
        reason: StatusReason,
        until: Option<Timestamp>,
    },
    AppealDecided {
        name: Box<str>,
        decision: AppealDecision,
        /// In the words of who decided.
        reason: Box<str>,
    },
    LiveKeyFromBrowser {
        name: Box<str>,
        /// As the browser told it.
        origin: Box<str>,
    },
    LowBalance {
        #[serde(with = "decimal::money")]
        available: Nano,
        #[serde(with = "decimal::money")]
        threshold: Nano,
        currency: Box<str>,
    },
    AccountInArrears {
        #[serde(with = "decimal::money")]
        arrears: Nano,
        /// The order whose money was taken back.
        order: Box<str>,
        /// Under which name the ledger took it.
        reference: Box<str>,
        currency: Box<str>,
    },
    BudgetAlert {
        name: Box<str>,
        window: Window,
        percent: u32,
        #[serde(with = "decimal::money")]
        used: Nano,
        #[serde(with = "decimal::money")]
        limit: Nano,
        currency: Box<str>,
    },
    ChannelCoolingDown {
        name: Box<str>,
        reason: RestReason,
        /// Its number; never the credential itself.
        credential: u32,
        /// Until when it is left out; `None`: it never is.
        until: Option<Timestamp>,
    },
    UpstreamCreditLow {
        name: Box<str>,
        /// Its number; never the credential itself.
        credential: u32,
        /// In the upstream's own currency.
        #[serde(with = "decimal::money")]
        remaining: Nano,
        #[serde(with = "decimal::money")]
        threshold: Nano,
    },
    ResultCopyFailed {
        /// Of the result, from 1.
        number: u32,
        /// `disk` or `s3`.
        storage: Box<str>,
        reason: Box<str>,
    },
    MonthlySummary {
        /// Such as 2026-11.
        period: Box<str>,
        #[serde(with = "decimal::money")]
        opening: Nano,
        #[serde(with = "decimal::money")]
        credits: Nano,
        #[serde(with = "decimal::money")]
        charges: Nano,
        #[serde(with = "decimal::money")]
        refunds: Nano,
        /// Compensation, corrections, expiries, money that was sent back.
        #[serde(with = "decimal::money")]
        others: Nano,
        #[serde(with = "decimal::money")]
        closing: Nano,
        currency: Box<str>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AppealDecision {
    Approved,
    Rejected,
}

impl AppealDecision {
    /// English and Chinese.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            AppealDecision::Approved => ("approved", "已通过"),
            AppealDecision::Rejected => ("rejected", "未通过"),
        }
    }
}

impl Facts {
    pub fn event(&self) -> Event {
        match self {
            Facts::KeyStatusChanged { .. } => Event::KeyStatusChanged,
            Facts::KeyFrozen { .. } => Event::KeyFrozen,
            Facts::AppealDecided { .. } => Event::AppealDecided,
            Facts::LiveKeyFromBrowser { .. } => Event::LiveKeyFromBrowser,
            Facts::LowBalance { .. } => Event::LowBalance,
            Facts::AccountInArrears { .. } => Event::AccountInArrears,
            Facts::BudgetAlert { .. } => Event::BudgetAlert,
            Facts::ChannelCoolingDown { .. } => Event::ChannelCoolingDown,
            Facts::UpstreamCreditLow { .. } => Event::UpstreamCreditLow,
            Facts::ResultCopyFailed { .. } => Event::ResultCopyFailed,
            Facts::MonthlySummary { .. } => Event::MonthlySummary,
        }
    }

    /// For programs: codes, decimal strings and times, each text cut to a sane length.
    pub(super) fn json(&self) -> Result<Map<String, Json>, serde_json::Error> {
        let mut facts = match serde_json::to_value(self)? {
            Json::Object(facts) => facts,
            _ => Map::new(),
        };
        for fact in facts.values_mut() {
            if let Json::String(text) = fact
                && let Some((cut, _)) = text.char_indices().nth(FACT_CHARS_MAX)
            {
                text.truncate(cut);
            }
        }
        Ok(facts)
    }

    /// The same for people, by the names that the texts use.
    fn values(&self) -> Vec<(&'static str, Value)> {
        match self {
            Facts::KeyStatusChanged { name, from, to, origin, reason, until } => vec![
                ("name", text(name)),
                ("from", from.words().into()),
                ("to", to.words().into()),
                ("origin", origin.words().into()),
                ("reason", reason.words().into()),
                ("until", until_words(*until)),
            ],
            Facts::KeyFrozen { name, origin, reason, until } => vec![
                ("name", text(name)),
                ("origin", origin.words().into()),
                ("reason", reason.words().into()),
                ("until", until_words(*until)),
            ],
            Facts::AppealDecided { name, decision, reason } => {
                vec![("name", text(name)), ("decision", decision.words().into()), ("reason", text(reason))]
            }
            Facts::LiveKeyFromBrowser { name, origin } => {
                vec![("name", text(name)), ("origin", text(origin))]
            }
            Facts::LowBalance { available, threshold, currency } => vec![
                ("available", Value::Money(*available)),
                ("threshold", Value::Money(*threshold)),
                ("currency", text(currency)),
            ],
            Facts::AccountInArrears { arrears, order, reference, currency } => vec![
                ("arrears", Value::Money(*arrears)),
                ("order", text(order)),
                ("reference", text(reference)),
                ("currency", text(currency)),
            ],
            Facts::BudgetAlert { name, window, percent, used, limit, currency } => vec![
                ("name", text(name)),
                ("window", window_words(*window).into()),
                ("percent", Value::Count(u64::from(*percent))),
                ("used", Value::Money(*used)),
                ("limit", Value::Money(*limit)),
                ("currency", text(currency)),
            ],
            Facts::ChannelCoolingDown { name, reason, credential, until } => vec![
                ("name", text(name)),
                ("reason", reason.words().into()),
                ("credential", Value::Count(u64::from(*credential))),
                (
                    "until",
                    until.map_or(("the next call", "下一次调用").into(), |at| {
                        Value::Time(at.as_millisecond())
                    }),
                ),
            ],
            Facts::UpstreamCreditLow { name, credential, remaining, threshold } => vec![
                ("name", text(name)),
                ("credential", Value::Count(u64::from(*credential))),
                ("remaining", Value::Money(*remaining)),
                ("threshold", Value::Money(*threshold)),
            ],
            Facts::ResultCopyFailed { number, storage, reason } => vec![
                ("number", Value::Count(u64::from(*number))),
                ("storage", text(storage)),
                ("reason", text(reason)),
            ],
            Facts::MonthlySummary {
                period,
                opening,
                credits,
                charges,
                refunds,
                others,
                closing,
                currency,
            } => vec![
                ("period", text(period)),
                ("opening", Value::Money(*opening)),
                ("credits", Value::Money(*credits)),
                ("charges", Value::Money(*charges)),
                ("refunds", Value::Money(*refunds)),
                ("others", Value::Money(*others)),
                ("closing", Value::Money(*closing)),
                ("currency", text(currency)),
            ],
        }
    }

    /// Title and text in a language.
    pub(super) fn words(&self, subject: &str, language: Language) -> Words {
        let event = self.event();
        let mut values = self.values();
        values.push(("subject", text(subject)));
        let fill = |template: &str| {
            fill_with(template, |name, out| {
                if let Some((_, value)) = values.iter().find(|(known, _)| *known == name) {
                    push_value(value, language, out);
                }
            })
        };
        Words { title: fill(event.title(language)), text: fill(event.text(language)) }
    }
}

/// What people read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Words {
    pub title: String,
    pub text: String,
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn until_words(until: Option<Timestamp>) -> Value {
    match until {
        Some(until) => Value::Time(until.as_millisecond()),
        None => ("somebody changes it", "再次变更为止").into(),
    }
}

fn window_words(window: Window) -> (&'static str, &'static str) {
    match window {
        Window::Day => ("daily", "每日"),
        Window::Month => ("monthly", "每月"),
        Window::Total => ("total", "总"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of each.
    pub fn samples() -> Vec<Facts> {
        let name: Box<str> = "production".into();
        let (origin, reason) = (StatusOrigin::RiskPolicy, StatusReason::HighFrequency);
        let until = Timestamp::from_millisecond(1_800_000_000_000).ok();
        vec![
            Facts::KeyStatusChanged {
                name: name.clone(),
                from: KeyStatus::Enabled,
                to: KeyStatus::Disabled,
                origin: StatusOrigin::Owner,
                reason: StatusReason::Owner,
                until: None,
            },
            Facts::KeyFrozen { name: name.clone(), origin, reason, until },
            Facts::AppealDecided {
                name: name.clone(),
                decision: AppealDecision::Approved,
                reason: "A load test.".into(),
            },
            Facts::LiveKeyFromBrowser { name: name.clone(), origin: "https://app.example".into() },
            Facts::LowBalance {
                available: Nano(1_500_000_000),
                threshold: Nano(5_000_000_000),
                currency: "USD".into(),
            },
            Facts::AccountInArrears {
                arrears: Nano(60_000_000_000),
                order: "ord_1".into(),
                reference: "order:ord_1:dispute:dp_1".into(),
                currency: "USD".into(),
            },
            Facts::BudgetAlert {
                name: name.clone(),
                window: Window::Month,
                percent: 80,
                used: Nano(8_000_000_000),
                limit: Nano(10_000_000_000),
                currency: "USD".into(),
            },
            Facts::ChannelCoolingDown {
                name: name.clone(),
                reason: RestReason::OutOfCredit,
                credential: 2,
                until,
            },
            Facts::UpstreamCreditLow {
                name,
                credential: 1,
                remaining: Nano(4_500_000_000),
                threshold: Nano(10_000_000_000),
            },
            Facts::ResultCopyFailed {
                number: 1,
                storage: "s3".into(),
                reason: "the storage answered with 403 AccessDenied".into(),
            },
            Facts::MonthlySummary {
                period: "2026-11".into(),
                opening: Nano(1_000_000_000),
                credits: Nano(5_000_000_000),
                charges: Nano(2_000_000_000),
                refunds: Nano(500_000_000),
                others: Nano(-250_000_000),
                closing: Nano(4_250_000_000),
                currency: "USD".into(),
            },
        ]
    }

    fn names_in(template: &str) -> Vec<&str> {
        template.split('{').skip(1).map(|from| from.split_once('}').unwrap().0).collect()
    }

    /// D4: whatever happens is told in both languages with the same facts, and a word that a text asks for is known.
    #[test]
    fn d4_every_event_is_told_in_both_languages_with_all_its_facts() {
        assert_eq!(samples().iter().map(Facts::event).collect::<Vec<_>>(), Event::ALL);
        for facts in samples() {
            let event = facts.event();
            assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
            assert_eq!(Event::parse(event.as_str()), Some(event));
            let known: Vec<_> = facts.values().iter().map(|(name, _)| *name).collect();
            let json: Vec<_> = facts.json().unwrap().keys().cloned().collect();
            assert_eq!(known, json, "{event:?}: the facts of programs are those of people");
            let used = Language::ALL.map(|language| {
                let mut used = names_in(event.text(language));
                used.extend(names_in(event.title(language)));
                used.sort_unstable();
                used.dedup();
                used
            });
            assert_eq!(used[0], used[1], "{event:?}");
            for name in &used[0] {
                assert!(*name == "subject" || known.contains(name), "{event:?}: {name}");
            }
            for name in known {
                assert!(used[0].contains(&name), "{event:?} never tells {name}");
            }
        }
    }

    #[test]
    fn d4_a_freeze_is_told_with_its_reason_and_its_end() {
        let frozen = &samples()[1];
        let en = frozen.words("key_1", Language::En);
        assert_eq!(en.title, "Key production was frozen");
        assert_eq!(
            en.text,
            "Key production (key_1) was frozen by the risk policy. Reason: calls in unusual frequency. Frozen until: \
             2027-01-15T08:00:00Z. Calls with it are refused; you can appeal, and the evidence is kept with the key."
        );
        let zh = frozen.words("key_1", Language::Zh);
        assert!(zh.text.contains("风险策略") && zh.text.contains("触发高频检测"), "{}", zh.text);
        let json = serde_json::to_value(frozen.json().unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"name": "production", "origin": "risk_policy", "reason": "high_frequency",
                               "until": "2027-01-15T08:00:00Z"})
        );
    }

    #[test]
    fn what_a_browser_says_cannot_grow_a_notice_or_rearrange_it() {
        let facts = Facts::LiveKeyFromBrowser {
            name: "a".into(),
            origin: format!("https://\u{202e}evil{}", "长".repeat(10_000)).into(),
        };
        let json = facts.json().unwrap();
        assert_eq!(json["origin"].as_str().unwrap().chars().count(), FACT_CHARS_MAX);
        let text = facts.words("key_1", Language::En).text;
        assert!(text.chars().count() < 500 && !text.contains('\u{202e}'), "{text}");
    }
}
