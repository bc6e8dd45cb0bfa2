//! What a task used, and the text that keeps it in its row.

use ledger::{TokenClass, Unit, Usage};

use crate::gateway::facts::UsageSource;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub usage: Usage,
    pub source: UsageSource,
}

const SOURCES: [UsageSource; 3] = [UsageSource::Upstream, UsageSource::Counted, UsageSource::Estimated];

impl Used {
    /// `source=upstream row=1 second=4000`: what is not there is not used.
    pub fn text(&self) -> String {
        let mut text = format!("source={} row={}", self.source.as_str(), self.usage.row);
        let units = Unit::ALL.into_iter().map(|unit| (unit.as_str(), self.usage.units(unit)));
        let tokens = TokenClass::ALL.into_iter().map(|class| (class.as_str(), self.usage.get(class)));
        for (name, count) in units.chain(tokens).filter(|(_, count)| *count > 0) {
            text += &format!(" {name}={count}");
        }
        text
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut used = Used { usage: Usage::default(), source: UsageSource::Upstream };
        for pair in text.split_whitespace() {
            let (name, value) = pair.split_once('=')?;
            if name == "source" {
                used.source = SOURCES.into_iter().find(|source| source.as_str() == value)?;
                continue;
            }
            let count = value.parse().ok()?;
            let unit = Unit::ALL.into_iter().find(|unit| unit.as_str() == name);
            let class = TokenClass::ALL.into_iter().find(|class| class.as_str() == name);
            match (unit, class) {
                _ if name == "row" => used.usage.row = count,
                (Some(unit), _) => used.usage.set_units(unit, count),
                (None, Some(class)) => used.usage.set(class, count),
                (None, None) => return None,
            }
        }
        Some(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_read_as_it_was_written() {
        let mut usage = Usage { row: 3, ..Usage::default() };
        usage.set_units(Unit::Image, 2);
        usage.set(TokenClass::Output, 900);
        for source in SOURCES {
            let used = Used { usage, source };
            assert_eq!(Used::parse(&used.text()), Some(used));
        }
        let used = Used { usage, source: UsageSource::Counted };
        assert_eq!(used.text(), "source=counted row=3 image=2 output=900");
        for odd in ["source=who", "row", "row=-1", "days=3"] {
            assert_eq!(Used::parse(odd), None, "{odd}");
        }
    }
}
