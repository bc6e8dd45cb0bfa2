//! From JSON to statements. Every fault is named with its place.

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::schedule::Minute;
use super::condition::{Condition, TextKey};
use super::pattern::Pattern;
use super::{ACTIONS, Effect, FieldError, ProjectPattern, Resource, Statement, VERSION};
use crate::address;

const STATEMENTS_MAX: usize = 100;
const VALUES_MAX: usize = 200;
const PATTERN_BYTES_MAX: usize = 256;

type Read<T> = Result<T, FieldError>;

fn refuse<T>(place: impl Into<String>, reason: impl Into<String>) -> Read<T> {
    Err(FieldError::new(place, reason))
}

fn object<'v>(place: &str, value: &'v Value, known: &[&str]) -> Read<&'v Map<String, Value>> {
    let Some(object) = value.as_object() else { return refuse(place, "must be an object") };
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            refuse(format!("{place}.{name}"), format!("is unknown; known are {}", known.join(", ")))
        }
        None => Ok(object),
    }
}

pub(super) fn statements(place: &str, value: &Value) -> Read<Vec<Statement>> {
    let document = object(place, value, &["Version", "Statement"])?;
    if document.get("Version").and_then(Value::as_str) != Some(VERSION) {
        return refuse(format!("{place}.Version"), format!("must be \"{VERSION}\""));
    }
    let place = format!("{place}.Statement");
    let Some(list) = document.get("Statement").and_then(Value::as_array) else {
        return refuse(place, "must be a list of statements");
    };
    if list.is_empty() || list.len() > STATEMENTS_MAX {
        return refuse(place, "must have from 1 to 100 statements");
    }
    list.iter().enumerate().map(|(at, value)| statement(&format!("{place}[{at}]"), value)).collect()
}

fn statement(place: &str, value: &Value) -> Read<Statement> {
    let fields = object(place, value, &["Sid", "Effect", "Action", "Resource", "Condition"])?;
    let sid = match fields.get("Sid") {
        None => None,
        Some(Value::String(sid)) if !sid.is_empty() && sid.len() <= PATTERN_BYTES_MAX => {
            Some(sid.as_str().into())
        }
        Some(_) => return refuse(format!("{place}.Sid"), "must be a text of at most 256 bytes"),
    };
    let effect = match fields.get("Effect").and_then(Value::as_str) {
        Some("Allow") => Effect::Allow,
        Some("Deny") => Effect::Deny,
        _ => return refuse(format!("{place}.Effect"), "must be Allow or Deny"),
    };
    let conditions = match fields.get("Condition") {
        None => Vec::new(),
        Some(value) => conditions(&format!("{place}.Condition"), value)?,
    };
    Ok(Statement {
        sid,
        effect,
        actions: each(&format!("{place}.Action"), fields.get("Action"), action)?,
        resources: each(&format!("{place}.Resource"), fields.get("Resource"), resource)?,
        conditions,
    })
}

/// A text or a list of texts.
fn each<T>(place: &str, value: Option<&Value>, read: impl Fn(&str, &str) -> Read<T>) -> Read<Vec<T>> {
    let one = |place: &str, value: &Value| match value.as_str() {
        Some("") => refuse(place, "must not be empty"),
        Some(text) if text.len() > PATTERN_BYTES_MAX => refuse(place, "must not be longer than 256 bytes"),
        Some(text) => read(place, text),
        None => refuse(place, "must be a text"),
    };
    match value {
        None => refuse(place, "is missing"),
        Some(Value::Array(list)) if list.is_empty() => refuse(place, "must not be empty"),
        Some(Value::Array(list)) if list.len() > VALUES_MAX => refuse(place, "are more than 200"),
        Some(Value::Array(list)) => {
            list.iter().enumerate().map(|(at, value)| one(&format!("{place}[{at}]"), value)).collect()
        }
        Some(value) => Ok(vec![one(place, value)?]),
    }
}

fn action(place: &str, text: &str) -> Read<Pattern> {
    let pattern = Pattern::new(text);
    match ACTIONS.iter().any(|action| pattern.matches(action)) {
        true => Ok(pattern),
        false => refuse(place, format!("`{text}` is no action; known are {}", ACTIONS.join(", "))),
    }
}

fn resource(place: &str, text: &str) -> Read<Resource> {
    if matches!(text, "*" | "arn:tallygate:*") {
        return Ok(Resource::Any);
    }
    if let Some(name) = text.strip_prefix("arn:tallygate:model:").filter(|name| !name.is_empty()) {
        return Ok(Resource::Model(Pattern::new(name)));
    }
    let Some(api) = text.strip_prefix("arn:tallygate:api:") else {
        return refuse(
            place,
            "must be *, arn:tallygate:api:<project>/<endpoint path> or arn:tallygate:model:<name>",
        );
    };
    if api == "*" {
        return Ok(Resource::Api { project: ProjectPattern::Any, path: Pattern::new("*") });
    }
    match api.split_once('/') {
        Some((project, path)) if !path.is_empty() => {
            Ok(Resource::Api { project: project_pattern(place, project)?, path: Pattern::new(path) })
        }
        _ => refuse(place, "needs a project and an endpoint path: arn:tallygate:api:*/chat/completions"),
    }
}

fn project_pattern(place: &str, text: &str) -> Read<ProjectPattern> {
    match text {
        "*" => Ok(ProjectPattern::Any),
        "-" => Ok(ProjectPattern::None),
        id => match id.parse() {
            Ok(id) => Ok(ProjectPattern::Exactly(id)),
            Err(_) => refuse(place, format!("`{id}` is no project: give its id, * for any or - for none")),
        },
    }
}

fn conditions(place: &str, value: &Value) -> Read<Vec<Condition>> {
    let Some(operators) = value.as_object() else { return refuse(place, "must be an object") };
    let mut read = Vec::new();
    for (operator, keys) in operators {
        let place = format!("{place}.{operator}");
        let Some(keys) = keys.as_object().filter(|keys| !keys.is_empty()) else {
            return refuse(place, "must be an object with at least one key");
        };
        for (key, values) in keys {
            read.push(condition(&format!("{place}.{key}"), operator, key, values)?);
        }
    }
    Ok(read)
}

fn condition(place: &str, operator: &str, key: &str, values: &Value) -> Read<Condition> {
    let values = Some(values);
    match (operator, key) {
        ("DateGreaterThan", "request:Time") => moment(place, values).map(Condition::After),
        ("DateLessThan", "request:Time") => moment(place, values).map(Condition::Before),
        ("TimeOfDay", "request:Time") => each(place, values, hours).map(Condition::Hours),
        ("IpAddress" | "NotIpAddress", "client:Address") => Ok(Condition::Address {
            ranges: each(place, values, range)?,
            negated: operator == "NotIpAddress",
        }),
        ("StringEquals" | "StringNotEquals" | "StringLike" | "StringNotLike", _) => {
            let key = match key {
                "key:Environment" => TextKey::Environment,
                "request:Model" => TextKey::Model,
                "request:Endpoint" => TextKey::Endpoint,
                _ => return refuse(place, unknown_key(operator)),
            };
            let negated = operator.starts_with("StringNot");
            let is_plain = operator.ends_with("Equals");
            let pattern = |place: &str, text: &str| {
                let pattern = Pattern::new(text);
                match is_plain && !pattern.is_plain() {
                    true => {
                        refuse(place, "has a wildcard, which StringLike reads and this operator does not")
                    }
                    false => Ok(pattern),
                }
            };
            Ok(Condition::Text { key, patterns: each(place, values, pattern)?, negated })
        }
        _ => refuse(place, unknown_key(operator)),
    }
}

fn unknown_key(operator: &str) -> String {
    let known = match operator {
        "DateGreaterThan" | "DateLessThan" | "TimeOfDay" => "this operator reads request:Time",
        "IpAddress" | "NotIpAddress" => "this operator reads client:Address",
        "StringEquals" | "StringNotEquals" | "StringLike" | "StringNotLike" => {
            "this operator reads key:Environment, request:Model and request:Endpoint"
        }
        _ => {
            "the operator is unknown; known are DateGreaterThan, DateLessThan, TimeOfDay, IpAddress, NotIpAddress, \
             StringEquals, StringNotEquals, StringLike and StringNotLike"
        }
    };
    known.to_owned()
}

fn moment(place: &str, values: Option<&Value>) -> Read<Timestamp> {
    let read = |place: &str, text: &str| match text.parse::<Timestamp>() {
        Ok(moment) => Ok(moment),
        Err(_) => refuse(place, "is not a time of the form 2026-01-31T00:00:00Z"),
    };
    match each(place, values, read)?.as_slice() {
        [moment] => Ok(*moment),
        _ => refuse(place, "must be one time"),
    }
}

fn hours(place: &str, text: &str) -> Read<(Minute, Minute)> {
    let read =
        text.split_once('-').and_then(|(from, until)| Some((Minute::parse(from)?, Minute::parse(until)?)));
    read.map_or_else(|| refuse(place, "must be hours such as 09:00-18:00, in the account's time zone"), Ok)
}

fn range(place: &str, text: &str) -> Read<IpNet> {
    let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
    let range = match text.parse::<IpNet>().or(address) {
        Ok(range) => range,
        Err(_) => return refuse(place, format!("`{text}` is no range of addresses such as 10.0.0.0/8")),
    };
    let range = match address::folded(range) {
        Ok(range) => range,
        Err(why) => return refuse(place, format!("{range} {why}")),
    };
    match range.trunc() == range {
        true => Ok(range),
        false => refuse(place, format!("names an address within a range: did you mean {}?", range.trunc())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E6: a condition is on addresses, not on how they are written.
    #[test]
    fn e6_a_range_of_ipv4_is_read_as_one() {
        let read = |text: &str| range("p", text).map(|range| range.to_string()).ok();
        assert_eq!(read("::ffff:10.0.0.0/104").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(read("::ffff:10.0.0.1").as_deref(), Some("10.0.0.1/32"));
        assert_eq!(read("::ffff:10.0.0.1/104"), None, "a host within a range");
        assert_eq!(read("::ffff:0.0.0.0/90"), None);
    }
}
