//! Members (成员) of an account: people, and service accounts (服务账号) that stand for programs. A key can belong
//! to one, and is held against its budget.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{AccountId, MemberId, PolicyId};

use super::checks;
use super::documents::Limit;
use super::error::{FieldError, Kind};
use super::limit::{self, Holder};
use super::operator::Token;
use super::policy;
use super::rules::{Document, Owner, UniqueName, present, unchanged};
use super::snapshot::{Object, Snapshot};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub id: MemberId,
    pub account: AccountId,
    pub name: Box<str>,
    #[serde(default)]
    pub kind: MemberKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Box<str>>,
    /// What the member may do in the account.
    pub role: AccountRole,
    /// Budgets over all keys of the member; their windows begin in the account's time zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// By which it is known to the management interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Policies of its keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyId>,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberKind {
    #[default]
    Person,
    ServiceAccount,
}

/// Roles within an account; operators' roles are a set of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountRole {
    Owner,
    Admin,
    Finance,
    Developer,
    Viewer,
}

impl AccountRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            AccountRole::Owner => "owner",
            AccountRole::Admin => "admin",
            AccountRole::Finance => "finance",
            AccountRole::Developer => "developer",
            AccountRole::Viewer => "viewer",
        }
    }
}

impl Document for Member {
    const KIND: Kind = Kind::Member;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Account(self.account)
    }

    /// An address is unique within its account.
    fn unique_names(&self) -> Vec<UniqueName> {
        let email = self.email.iter();
        let email = email.map(|email| format!("{}/{}", self.account, email.to_lowercase()));
        email.map(|email| UniqueName::new("member_email", "email", email)).collect()
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        unchanged("account", before.map(|before| &before.account), &self.account)?;
        unchanged("kind", before.map(|before| &before.kind), &self.kind)?;
        present("account", snapshot.account(self.account), self.account)?;
        self.email.iter().try_for_each(|email| checks::email("email", email))?;
        if self.kind == MemberKind::ServiceAccount && self.email.is_some() {
            return Err(FieldError::new("email", "is not for a service account: nobody reads it"));
        }
        policy::check_attached("policies", &self.policies, Some(self.account), snapshot)?;
        limit::check(&self.limits, Holder::Several, snapshot)
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Member(self)
    }
}
