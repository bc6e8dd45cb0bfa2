//! Projects (项目) of an account: keys, budgets and debts that belong together. What happens to one project
//! affects no other.

use std::sync::Arc;

use jiff::Timestamp;
use ledger::Nano;
use serde::{Deserialize, Serialize};

use crate::id::{AccountId, PolicyId, ProjectId};

use super::documents::Limit;
use super::error::{FieldError, Kind};
use super::limit::{self, Holder};
use super::rules::{Document, Owner, UniqueName, present, unchanged};
use super::snapshot::{Object, Snapshot};
use super::{checks, decimal, policy};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    pub id: ProjectId,
    pub account: AccountId,
    pub name: Box<str>,
    #[serde(default)]
    pub status: ProjectStatus,
    /// What the project owes (欠费); zero: nothing.
    #[serde(default, with = "decimal::money")]
    pub arrears: Nano,
    /// Budgets over all keys of the project; their windows begin in the account's time zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// Policies of its keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyId>,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectStatus {
    #[default]
    Running,
    Paused,
    /// Kept for its records.
    Archived,
}

impl Document for Project {
    const KIND: Kind = Kind::Project;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Account(self.account)
    }

    /// Unique within its account.
    fn unique_names(&self) -> Vec<UniqueName> {
        vec![UniqueName::new("project", "name", format!("{}/{}", self.account, self.name))]
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        unchanged("account", before.map(|before| &before.account), &self.account)?;
        present("account", snapshot.account(self.account), self.account)?;
        checks::not_negative("arrears", self.arrears)?;
        policy::check_attached("policies", &self.policies, Some(self.account), snapshot)?;
        limit::check(&self.limits, Holder::Several, snapshot)
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Project(self)
    }
}
