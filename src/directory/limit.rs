//! Limits: how much of what in which window, since when and by whom.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ledger::{Nano, WindowKind};
use serde::{Deserialize, Serialize};

use super::error::FieldError;
use super::schedule::Schedule;
use super::snapshot::Snapshot;
use super::{checks, decimal};

const LIMITS_MAX: usize = 64;
/// A call, where calls are written as decimals like amounts.
const CALL: i64 = 1_000_000_000;

/// A limit and where it was set. Zero blocks; the absence of a limit means unlimited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub metric: Metric,
    pub window: Window,
    /// The one model that is limited (模型专属额度); unset: all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<str>>,
    /// Image and video tasks alone are limited, of all models together (高成本任务额度).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tasks: bool,
    /// Nano-units of the ledger currency, or of calls: a decimal either way.
    #[serde(with = "decimal::money")]
    pub value: Nano,
    pub origin: Origin,
    /// When the limit holds (生效时间范围); unset: always. Outside of it the limit is as if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<Schedule>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Spend,
    /// Admitted calls; one that ended without an answer does not count.
    Calls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    Day,
    Month,
    Total,
}

/// Who set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Default,
    Owner,
    Operator,
    Organization,
}

impl Limit {
    /// A limit on spend over all models, always in force.
    pub fn spend(window: Window, value: Nano, origin: Origin) -> Self {
        Limit { metric: Metric::Spend, window, model: None, tasks: false, value, origin, schedule: None }
    }

    /// What a counter of the books may reach: nano-units, or calls.
    pub fn ceiling(&self) -> i64 {
        self.metric.count(self.value)
    }

    pub fn is_in_force(&self, at: Timestamp, zone: &TimeZone) -> bool {
        self.schedule.as_ref().is_none_or(|schedule| schedule.is_open(at, zone))
    }
}

impl Metric {
    pub const fn as_str(self) -> &'static str {
        match self {
            Metric::Spend => "spend",
            Metric::Calls => "calls",
        }
    }

    /// As the books name it.
    pub const fn counted(self) -> ledger::Metric {
        match self {
            Metric::Spend => ledger::Metric::Spend,
            Metric::Calls => ledger::Metric::Calls,
        }
    }

    /// From a decimal to what a counter counts.
    pub const fn count(self, value: Nano) -> i64 {
        match self {
            Metric::Spend => value.0,
            Metric::Calls => value.0 / CALL,
        }
    }

    /// From a counter to a decimal.
    pub const fn value(self, count: i64) -> Nano {
        match self {
            Metric::Spend => Nano(count),
            Metric::Calls => Nano(count.saturating_mul(CALL)),
        }
    }
}

impl Window {
    pub const ALL: [Window; 3] = [Window::Day, Window::Month, Window::Total];

    pub const fn as_str(self) -> &'static str {
        match self {
            Window::Day => "day",
            Window::Month => "month",
            Window::Total => "total",
        }
    }

    /// As the books name it.
    pub const fn kind(self) -> WindowKind {
        match self {
            Window::Day => WindowKind::Day,
            Window::Month => WindowKind::Month,
            Window::Total => WindowKind::Total,
        }
    }
}

impl Origin {
    pub const fn as_str(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::Owner => "owner",
            Origin::Operator => "operator",
            Origin::Organization => "organization",
        }
    }
}

/// Whose limits are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Key,
    /// Anybody whose limits are over several keys.
    Several,
}

/// Refuses what could not be enforced, or could be meant in two ways.
pub(super) fn check(limits: &[Limit], holder: Holder, snapshot: &Snapshot) -> Result<(), FieldError> {
    if limits.len() > LIMITS_MAX {
        return Err(FieldError::new("limits", "are more than 64"));
    }
    for (at, limit) in limits.iter().enumerate() {
        let field = |name: &str| format!("limits[{at}].{name}");
        checks::not_negative(&field("value"), limit.value)?;
        if let Some(model) = limit.model.as_deref()
            && snapshot.model(model).is_none()
        {
            return Err(FieldError::new(field("model"), format!("there is no model {model}")));
        }
        if limit.tasks && limit.model.is_some() {
            return Err(FieldError::new(field("tasks"), "is for all models together: leave one of both out"));
        }
        if limit.metric == Metric::Calls {
            if holder == Holder::Several {
                return Err(FieldError::new(field("metric"), "calls are limited at each key"));
            }
            if limit.window != Window::Day {
                return Err(FieldError::new(field("window"), "calls are limited per day alone"));
            }
            if limit.value.0 % CALL != 0 {
                return Err(FieldError::new(field("value"), "must be a whole number of calls"));
            }
        }
        if let Some(schedule) = &limit.schedule {
            schedule.check(&field("schedule"))?;
        }
        let same = |other: &Limit| {
            (other.metric, other.window, &other.model, other.tasks, &other.schedule, other.origin)
                == (limit.metric, limit.window, &limit.model, limit.tasks, &limit.schedule, limit.origin)
        };
        if limits.iter().take(at).any(same) {
            return Err(FieldError::new(field("window"), "has a limit of this metric already"));
        }
    }
    Ok(())
}
