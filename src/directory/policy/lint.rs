//! What a document says in vain: statements that can never match, or never matter.

use ipnet::IpNet;

use crate::directory::Snapshot;

use super::condition::{Condition, TextKey};
use super::evaluate::Permission;
use super::pattern::Pattern;
use super::{ACTIONS, CALL, Effect, PolicyDocument, Resource, Statement};

/// Something that its writer cannot have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Place in the document: `Statement[1].Condition`.
    pub place: String,
    pub en: String,
    pub zh: String,
}

fn warning(place: String, en: impl Into<String>, zh: impl Into<String>) -> Warning {
    Warning { place, en: en.into(), zh: zh.into() }
}

/// Looks at a document beside the models that there are.
pub fn lint(document: &PolicyDocument, snapshot: &Snapshot) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (at, statement) in document.statements.iter().enumerate() {
        let place = format!("Statement[{at}]");
        warnings.extend(mismatched(&place, statement));
        warnings.extend(contradictory(&place, statement));
        warnings.extend(without_models(&place, statement, snapshot));
        warnings.extend(shadowed(&place, statement, &document.statements));
    }
    warnings.extend(incomplete(&document.statements));
    warnings
}

impl Statement {
    /// Whether some action and some resource of it go together for this permission.
    fn is_about(&self, permission: Permission) -> bool {
        let actions = ACTIONS.iter().filter(|action| (**action == CALL) == (permission == Permission::Base));
        let acts =
            actions.into_iter().any(|action| self.actions.iter().any(|pattern| pattern.matches(action)));
        acts && self.resources.iter().any(|resource| match resource {
            Resource::Any => true,
            Resource::Api { .. } => permission == Permission::Base,
            Resource::Model(_) => permission == Permission::FineGrained,
        })
    }
}

const PERMISSIONS: [Permission; 2] = [Permission::Base, Permission::FineGrained];

fn mismatched(place: &str, statement: &Statement) -> Option<Warning> {
    let matches = PERMISSIONS.into_iter().any(|permission| statement.is_about(permission));
    (!matches).then(|| {
        warning(
            place.to_owned(),
            format!(
                "No action of it is ever asked for a resource of it: {CALL} is asked for endpoints \
                 (arn:tallygate:api:…), every other action for models (arn:tallygate:model:…)."
            ),
            format!(
                "其操作与资源永远不会同时出现：{CALL} 针对接口（arn:tallygate:api:…），其他操作针对模型（arn:tallygate:model:…）。"
            ),
        )
    })
}

fn contradictory(place: &str, statement: &Statement) -> Option<Warning> {
    let conditions = &statement.conditions;
    let never = conditions.iter().enumerate().any(|(at, one)| {
        let others = conditions.iter().skip(at + 1);
        others.into_iter().any(|other| excludes(one, other) || excludes(other, one)) || is_never(one)
    });
    never.then(|| {
        let place = format!("{place}.Condition");
        warning(place, "The conditions can never hold together.", "这些条件永远不会同时成立。")
    })
}

fn is_never(condition: &Condition) -> bool {
    match condition {
        Condition::Text { key: TextKey::Environment, patterns, negated } => {
            let matched = ["live", "test"].map(|text| patterns.iter().any(|pattern| pattern.matches(text)));
            matched.iter().all(|matched| matched == negated)
        }
        _ => false,
    }
}

fn excludes(one: &Condition, other: &Condition) -> bool {
    match (one, other) {
        (Condition::After(from), Condition::Before(until)) => from >= until,
        (
            Condition::Address { ranges, negated: false },
            Condition::Address { ranges: without, negated: true },
        ) => ranges.iter().all(|range| without.iter().any(|out: &IpNet| out.contains(range))),
        (
            Condition::Address { ranges, negated: false },
            Condition::Address { ranges: others, negated: false },
        ) => !ranges.iter().any(|range| others.iter().any(|it| it.contains(range) || range.contains(it))),
        (
            Condition::Text { key, patterns, negated: false },
            Condition::Text { key: same, patterns: without, negated: true },
        ) => key == same && all_covered(patterns, without),
        (
            Condition::Text { key, patterns, negated: false },
            Condition::Text { key: same, patterns: others, negated: false },
        ) => {
            let apart = |pattern: &Pattern| {
                pattern.is_plain() && !others.iter().any(|other| other.matches(pattern.as_str()))
            };
            key == same && patterns.iter().all(apart)
        }
        _ => false,
    }
}

fn all_covered(patterns: &[Pattern], by: &[Pattern]) -> bool {
    patterns.iter().all(|pattern| by.iter().any(|cover| cover.covers(pattern)))
}

fn without_models(place: &str, statement: &Statement, snapshot: &Snapshot) -> Vec<Warning> {
    let unknown = |(at, resource): (usize, &Resource)| match resource {
        Resource::Model(pattern) if !snapshot.models().any(|entry| pattern.matches(&entry.model.name)) => {
            let place = format!("{place}.Resource[{at}]");
            Some(warning(place, "No model that exists has such a name.", "没有这样名称的模型。"))
        }
        _ => None,
    };
    statement.resources.iter().enumerate().filter_map(unknown).collect()
}

/// An allow all of which a deny without conditions takes away again.
fn shadowed(place: &str, statement: &Statement, all: &[Statement]) -> Option<Warning> {
    if statement.effect == Effect::Deny {
        return None;
    }
    let covers = |deny: &&Statement| {
        deny.effect == Effect::Deny
            && deny.conditions.is_empty()
            && all_covered(&statement.actions, &deny.actions)
            && statement
                .resources
                .iter()
                .all(|resource| deny.resources.iter().any(|deny| deny.covers(resource)))
    };
    all.iter().find(covers).map(|_| {
        warning(
            place.to_owned(),
            "A statement of this document denies all that this one allows.",
            "本文档中有语句拒绝了该语句允许的全部内容。",
        )
    })
}

impl Resource {
    fn covers(&self, other: &Resource) -> bool {
        match (self, other) {
            (Resource::Any, _) => true,
            (Resource::Model(one), Resource::Model(other)) => one.covers(other),
            (Resource::Api { project, path }, Resource::Api { project: of, path: other }) => {
                (*project == super::ProjectPattern::Any || project == of) && path.covers(other)
            }
            _ => false,
        }
    }
}

/// A call needs both permissions: a document that gives one of them lets no call pass by itself.
fn incomplete(statements: &[Statement]) -> Option<Warning> {
    let gives = |permission| {
        statements.iter().any(|statement| statement.effect == Effect::Allow && statement.is_about(permission))
    };
    let (en, zh) = match (gives(Permission::Base), gives(Permission::FineGrained)) {
        (true, false) => (
            "It allows endpoints and no model: alone it lets no call pass.",
            "它只允许接口而不允许任何模型：仅凭此策略，任何调用都不能通过。",
        ),
        (false, true) => (
            "It allows models and no endpoint (tallygate:call): alone it lets no call pass.",
            "它只允许模型而不允许任何接口（tallygate:call）：仅凭此策略，任何调用都不能通过。",
        ),
        _ => return None,
    };
    Some(warning("Statement".to_owned(), en, zh))
}
