//! Policies (策略): who may do what to what, as documents in the form that cloud users know.
//!
//! A document is read once, when it is saved or loaded; what cannot be meant is refused with its place. It is then
//! matched without an allocation. All policies that apply to a call are united: a statement that denies wins over
//! every statement that allows, and what no statement allows is denied. Where no policy applies at all, everything
//! is allowed.

mod condition;
mod evaluate;
mod lint;
mod pattern;
mod read;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{AccountId, PolicyId, ProjectId};

use super::checks;
use super::error::{FieldError, Kind};
use super::rules::{Document, Owner, UniqueName, present, unchanged};
use super::snapshot::{Object, Snapshot};

pub use evaluate::{Attached, Attachment, Decision, Found, Question, attached, evaluate};
pub use lint::{Warning, lint};

use condition::Condition;
use pattern::Pattern;

/// The one version of the language.
pub const VERSION: &str = "2026-11-01";

/// A named document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub id: PolicyId,
    /// Whose it is; unset: the operator's, for any account and for organizations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    pub name: Box<str>,
    pub document: PolicyDocument,
    pub created_at: Timestamp,
}

/// A document as it was written, and what it means.
#[derive(Clone, Debug)]
pub struct PolicyDocument {
    source: serde_json::Value,
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub sid: Option<Box<str>>,
    pub effect: Effect,
    pub(crate) actions: Vec<Pattern>,
    pub(crate) resources: Vec<Resource>,
    /// All must hold.
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Resource {
    Any,
    /// `arn:tallygate:api:<project>/<endpoint path>`
    Api {
        project: ProjectPattern,
        path: Pattern,
    },
    /// `arn:tallygate:model:<name>`
    Model(Pattern),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProjectPattern {
    Any,
    /// `-`: keys without a project.
    None,
    Exactly(ProjectId),
}

/// The base permission: asked for the endpoint. Beside it each endpoint asks for one of the fine-grained actions
/// on the model.
pub const CALL: &str = "tallygate:call";

/// What an endpoint asks for beside the base permission.
pub fn fine_grained(endpoint: &str) -> &'static str {
    match endpoint {
        "embeddings" => "models:embed",
        "moderations" => "models:moderate",
        "rerank" => "models:rerank",
        "images/generations" | "images/edits" => "images:create",
        "audio/speech" | "audio/transcriptions" => "audio:create",
        "videos" | "images" => "tasks:create",
        _ => "models:inference",
    }
}

/// Every action there is.
pub const ACTIONS: [&str; 9] = [
    CALL,
    "models:inference",
    "models:embed",
    "models:moderate",
    "models:rerank",
    "models:finetune",
    "images:create",
    "audio:create",
    "tasks:create",
];

impl PolicyDocument {
    /// Reads a document; faults are named with their place below `field`.
    pub fn read(field: &str, source: &serde_json::Value) -> Result<Self, FieldError> {
        Ok(PolicyDocument { source: source.clone(), statements: read::statements(field, source)? })
    }

    pub fn source(&self) -> &serde_json::Value {
        &self.source
    }
}

impl PartialEq for PolicyDocument {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Serialize for PolicyDocument {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PolicyDocument {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = serde_json::Value::deserialize(deserializer)?;
        Self::read("document", &source)
            .map_err(|fault| serde::de::Error::custom(format!("{}: {}", fault.field, fault.reason)))
    }
}

impl Document for Policy {
    const KIND: Kind = Kind::Policy;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        self.account.map_or(Owner::Operator, Owner::Account)
    }

    /// Unique within its account, or among the operator's.
    fn unique_names(&self) -> Vec<UniqueName> {
        let owner = self.account.map(|account| account.to_string()).unwrap_or_default();
        vec![UniqueName::new("policy", "name", format!("{owner}/{}", self.name))]
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        unchanged("account", before.map(|before| &before.account), &self.account)?;
        match self.account {
            Some(account) => present("account", snapshot.account(account), account),
            None => Ok(()),
        }
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Policy(self)
    }
}

const ATTACHED_MAX: usize = 32;

/// Checks the policies that something of this account has; `None`: of an organization.
pub(super) fn check_attached(
    field: &str,
    policies: &[PolicyId],
    account: Option<AccountId>,
    snapshot: &Snapshot,
) -> Result<(), FieldError> {
    if policies.len() > ATTACHED_MAX {
        return Err(FieldError::new(field, "are more than 32"));
    }
    checks::distinct(field, policies)?;
    for (at, id) in policies.iter().enumerate() {
        check_one(&format!("{field}[{at}]"), *id, account, snapshot)?;
    }
    Ok(())
}

pub(super) fn check_one(
    field: &str,
    id: PolicyId,
    account: Option<AccountId>,
    snapshot: &Snapshot,
) -> Result<(), FieldError> {
    let usable = snapshot.policy(id).filter(|policy| policy.account.is_none() || policy.account == account);
    present(field, usable, id)
}
