//! What must hold besides action and resource: the time, the address, the environment, the model, the endpoint.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::super::schedule::Minute;
use super::evaluate::Question;
use super::pattern::Pattern;
use crate::directory::Environment;

/// One operator on one key; of several values any may match.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    After(Timestamp),
    Before(Timestamp),
    /// Hours of the day in the account's zone; those that end at or before their beginning last over midnight.
    Hours(Vec<(Minute, Minute)>),
    Address {
        ranges: Vec<IpNet>,
        negated: bool,
    },
    Text {
        key: TextKey,
        patterns: Vec<Pattern>,
        negated: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKey {
    Environment,
    Model,
    Endpoint,
}

impl Condition {
    pub fn holds(&self, question: &Question<'_>) -> bool {
        match self {
            Condition::After(moment) => question.at > *moment,
            Condition::Before(moment) => question.at < *moment,
            Condition::Hours(hours) => within(hours, question),
            // An address that is not known is in no range.
            Condition::Address { ranges, negated } => {
                let found = question.address.is_some_and(|address| in_ranges(ranges, address));
                found != *negated
            }
            Condition::Text { key, patterns, negated } => {
                let text = match key {
                    TextKey::Environment => match question.environment {
                        Environment::Live => "live",
                        Environment::Test => "test",
                    },
                    TextKey::Model => question.model,
                    TextKey::Endpoint => question.endpoint,
                };
                patterns.iter().any(|pattern| pattern.matches(text)) != *negated
            }
        }
    }
}

fn within(hours: &[(Minute, Minute)], question: &Question<'_>) -> bool {
    let now = Minute::of(question.at.to_zoned(question.zone.clone()).time());
    hours.iter().any(
        |(from, until)| {
            if from < until { *from <= now && now < *until } else { *from <= now || now < *until }
        },
    )
}

fn in_ranges(ranges: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    ranges.iter().any(|range| range.contains(&address))
}
