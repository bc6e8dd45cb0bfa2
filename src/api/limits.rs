//! Limits and schedules, as they stand in the bodies of keys, members, projects, groups and organizations.

use serde_json::{Value, json};

use crate::directory::{FieldError, Limit, Metric, Origin, RateLimit, TaskTerms};
use crate::explain::usable::LimitUse;

use super::route::Call;
use super::shape::{Field, Fields, Kind, Need, Shape, field};

const METRIC: Kind = Kind::OneOf(&["spend", "calls"]);
const WINDOW: Kind = Kind::OneOf(&["day", "month", "total"]);
const ORIGIN: Kind = Kind::OneOf(&["default", "owner", "operator", "organization"]);

static LIMIT_INPUT: Shape = Shape {
    name: "LimitInput",
    fields: &[
        field!(
            "metric",
            METRIC,
            Optional,
            "What is limited; default: spend. Calls are limited per day and key"
        ),
        field!(
            "window",
            WINDOW,
            Required,
            "In the time zone of the account or organization; of a group: UTC"
        ),
        field!("model", Kind::Text, OptionalNullable, "The one model that is limited; default: all together"),
        field!(
            "tasks",
            Kind::Bool,
            Optional,
            "Image and video tasks alone are limited, of all models together; default: false"
        ),
        field!("value", Kind::Money, Nullable, "0 blocks; null means no limit"),
        field!("origin", ORIGIN, Optional, "Who set it, as refusals tell; default: operator"),
        field!(
            "schedule",
            Kind::Object(&SCHEDULE),
            OptionalNullable,
            "When the limit holds; default: always"
        ),
    ],
};

static RATE_INPUT: Shape = Shape {
    name: "RateLimit",
    fields: &[
        field!(
            "metric",
            Kind::OneOf(&["requests_per_second", "tokens_per_minute", "concurrency"]),
            Required,
            "What is limited; tokens count input and output"
        ),
        field!("value", RATE_VALUE, Required, "At least 1: to block a key, disable it"),
        field!("origin", ORIGIN, Optional, "Who set it, as refusals tell; default: operator"),
        field!(
            "schedule",
            Kind::Object(&SCHEDULE),
            OptionalNullable,
            "When the limit holds; default: always"
        ),
    ],
};
const RATE_VALUE: Kind = Kind::Integer { min: 0, max: i64::MAX };

pub const RATES: Kind = Kind::List(&Kind::Object(&RATE_INPUT));

pub const INPUT: Kind = Kind::List(&Kind::Object(&LIMIT_INPUT));

const METRICS: [&str; 5] = ["spend", "calls", "requests_per_second", "tokens_per_minute", "concurrency"];
const WINDOWS: [&str; 5] = ["second", "minute", "day", "month", "total"];

static LIMIT: Shape = Shape {
    name: "LimitUse",
    fields: &[
        field!("scope", Kind::Text, Required, "Whose limit: key, member, project, group or organization"),
        field!("id", Kind::Text, Required, "Public id of what it belongs to"),
        field!("metric", Kind::OneOf(&METRICS), Required, "What is limited"),
        field!(
            "window",
            Kind::OneOf(&WINDOWS),
            Nullable,
            "In the time zone of the account or organization; of a group: UTC"
        ),
        field!("model", Kind::Text, Nullable, "The one model that is limited; null: all together"),
        field!("tasks", Kind::Bool, Required, "Whether image and video tasks alone are limited"),
        field!("in_force", Kind::Bool, Required, "Whether its schedule has it hold now"),
        field!("value", Kind::Money, Nullable, "0 blocks. Numbers are null where callers may not see them"),
        field!("used", Kind::Money, Nullable, "In the window that is open now"),
        field!("held", Kind::Money, Nullable, "Part of open holds"),
        field!("left", Kind::Money, Nullable, "Never below zero"),
        field!("resets_at", Kind::Time, Nullable, "null: never"),
        field!("source", Kind::Text, Required, "Who set it: default, owner, operator or organization"),
    ],
};

pub const USES: Kind = Kind::List(&Kind::Object(&LIMIT));

static WEEKLY_HOURS: Shape = Shape {
    name: "WeeklyHours",
    fields: &[
        field!("days", Kind::List(&DAY), Required, "Days on which the hours begin"),
        field!("from", Kind::Text, Required, "HH:MM"),
        field!("until", Kind::Text, Required, "HH:MM, to 24:00; not after `from`: of the next day"),
    ],
};
const DAY: Kind = Kind::OneOf(&["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);

pub static TASK_TERMS: Shape = Shape {
    name: "TaskTerms",
    fields: &[
        field!(
            "cost_cap",
            Kind::Money,
            OptionalNullable,
            "A task that can cost more is refused, unless its caller confirms so much; null: no cap"
        ),
        field!(
            "refuse_duplicates",
            Kind::Bool,
            Optional,
            "An identical submission is refused, instead of answered with the first one's task"
        ),
    ],
};

pub fn task_terms_view(terms: Option<&TaskTerms>) -> Option<Value> {
    let terms = terms?;
    Some(json!({
        "cost_cap": terms.cost_cap.map(|cap| cap.to_string()),
        "refuse_duplicates": terms.refuse_duplicates,
    }))
}

pub static SCHEDULE: Shape = Shape {
    name: "Schedule",
    fields: &[
        field!("from", Kind::Time, OptionalNullable, "Not before"),
        field!("until", Kind::Time, OptionalNullable, "Not from then on"),
        field!("time_zone", Kind::Text, OptionalNullable, "IANA name, for the hours; default: the account's"),
        field!(
            "weekly",
            Kind::List(&Kind::Object(&WEEKLY_HOURS)),
            Optional,
            "Open in any of them; none: always"
        ),
    ],
};

/// Replaces limits by those of a body. What operators and organizations set, members cannot take away, and what
/// members set is theirs.
pub fn replace(call: &Call<'_>, limits: &mut Vec<Limit>, given: &[Value]) -> Result<(), FieldError> {
    let mut read = read(given)?;
    if call.own_account().is_some() {
        owners_only(given, "limits")?;
        read.iter_mut().for_each(|limit| limit.origin = Origin::Owner);
        read.extend(limits.drain(..).filter(|limit| is_above(limit.origin)));
    }
    *limits = read;
    Ok(())
}

/// The same for rates.
pub fn replace_rates(call: &Call<'_>, rates: &mut Vec<RateLimit>, given: &[Value]) -> Result<(), FieldError> {
    let mut read = read_rates(given)?;
    if call.own_account().is_some() {
        owners_only(given, "rates")?;
        read.iter_mut().for_each(|rate| rate.origin = Origin::Owner);
        read.extend(rates.drain(..).filter(|rate| is_above(rate.origin)));
    }
    *rates = read;
    Ok(())
}

const fn is_above(origin: Origin) -> bool {
    matches!(origin, Origin::Operator | Origin::Organization)
}

fn owners_only(given: &[Value], list: &str) -> Result<(), FieldError> {
    let foreign = given.iter().position(|value| value.get("origin").is_some_and(|origin| origin != "owner"));
    match foreign {
        Some(at) => {
            Err(FieldError::new(format!("{list}[{at}].origin"), "is for operators to set: leave it out"))
        }
        None => Ok(()),
    }
}

/// The limits of a body; one whose value is null is no limit.
pub fn read(limits: &[Value]) -> Result<Vec<Limit>, FieldError> {
    limits.iter().enumerate().filter_map(|(at, value)| limit(at, value).transpose()).collect()
}

fn limit(at: usize, value: &Value) -> Result<Option<Limit>, FieldError> {
    let Some(values) = value.as_object() else { return Ok(None) };
    let fields = Fields::new(values);
    let named = |error: FieldError| FieldError::new(format!("limits[{at}].{}", error.field), error.reason);
    let Some(amount) = fields.money("value").map_err(named)? else { return Ok(None) };
    let window = fields.one_of("window").map_err(named)?;
    Ok(Some(Limit {
        metric: fields.one_of("metric").map_err(named)?.unwrap_or(Metric::Spend),
        window: window.ok_or_else(|| FieldError::new(format!("limits[{at}].window"), "is missing"))?,
        model: fields.text("model").map(Into::into),
        tasks: fields.boolean("tasks").unwrap_or(false),
        value: amount,
        origin: fields.one_of("origin").map_err(named)?.unwrap_or(Origin::Operator),
        schedule: fields.one_of::<Option<_>>("schedule").map_err(named)?.flatten(),
    }))
}

/// The rates of a body.
fn read_rates(rates: &[Value]) -> Result<Vec<RateLimit>, FieldError> {
    let rate = |(at, value): (usize, &Value)| {
        let named = |error: FieldError| FieldError::new(format!("rates[{at}].{}", error.field), error.reason);
        let missing = |field: &str| FieldError::new(format!("rates[{at}].{field}"), "is missing");
        let fields = Fields::new(value.as_object().ok_or_else(|| missing("metric"))?);
        Ok(RateLimit {
            metric: fields.one_of("metric").map_err(named)?.ok_or_else(|| missing("metric"))?,
            value: fields.number("value").map_err(named)?.ok_or_else(|| missing("value"))?,
            origin: fields.one_of("origin").map_err(named)?.unwrap_or(Origin::Operator),
            schedule: fields.one_of::<Option<_>>("schedule").map_err(named)?.flatten(),
        })
    };
    rates.iter().enumerate().map(rate).collect()
}

pub fn views(limits: &[LimitUse]) -> Value {
    limits.iter().map(|limit| view(limit, true)).collect()
}

/// The limits of a key as its caller sees them: the numbers of other layers only where the account shows them.
pub fn views_for_caller(limits: &[LimitUse], shows_money: bool) -> Value {
    limits.iter().map(|limit| view(limit, shows_money || limit.scope == "key")).collect()
}

fn view(limit: &LimitUse, shown: bool) -> Value {
    let number = |amount: ledger::Nano| shown.then(|| amount.to_string());
    json!({
        "scope": limit.scope,
        "id": limit.id,
        "metric": limit.metric,
        "window": limit.window,
        "model": limit.model,
        "tasks": limit.tasks,
        "in_force": limit.in_force,
        "value": number(limit.value),
        "used": number(limit.used),
        "held": number(limit.held),
        "left": number(limit.left),
        "resets_at": limit.resets_at,
        "source": limit.source,
    })
}
