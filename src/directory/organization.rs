//! The organization tree (上级组织): what is set at a node holds for every account below it.
//!
//! A child can tighten what its parents set, never loosen it: of a switch the tightest setting on the way to the
//! root is in force, and a call is held against the budget of every node on that way.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{OrganizationId, PolicyId};

use super::checks;
use super::documents::{Account, AccountKind, Limit};
use super::error::{FieldError, Kind};
use super::limit::{self, Holder};
use super::policy;
use super::rules::{Document, Owner, UniqueName, present};
use super::snapshot::{Object, Snapshot};
use crate::plant::planted;

/// Nodes from an account to the root, at most.
pub const DEPTH_MAX: usize = 8;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<OrganizationId>,
    #[serde(default, skip_serializing_if = "Switches::is_unset")]
    pub switches: Switches,
    /// Budgets over all accounts below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// Policies of all keys below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyId>,
    /// IANA name of the zone in which the budgets' days and months begin.
    pub time_zone: Box<str>,
    pub created_at: Timestamp,
}

/// The switches of the quota centre (额度中心). What is unset is as the kind of the account has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switches {
    /// API服务总开关
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_service: Option<Switch>,
    /// 模型调用总控
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<Switch>,
}

/// From the loosest to the tightest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    #[default]
    On,
    /// 仅查看模式
    ViewOnly,
    /// 暂停服务
    Suspended,
}

/// Where a value in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchSource {
    /// The kind of the account.
    Default,
    Account,
    Organization(OrganizationId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveSwitch {
    pub switch: Switch,
    pub source: SwitchSource,
}

/// Both switches of an account as they are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveSwitches {
    pub api_service: EffectiveSwitch,
    pub model_calls: EffectiveSwitch,
}

impl Switches {
    pub fn is_unset(&self) -> bool {
        *self == Switches::default()
    }

    /// Whether this differs from the defaults of a kind of account; education accounts make no model calls
    /// until somebody lets them (E1).
    pub fn of_kind(kind: AccountKind) -> (Switch, Switch) {
        match kind {
            AccountKind::Personal | AccountKind::Enterprise => (Switch::On, Switch::On),
            AccountKind::Education => (Switch::On, Switch::Suspended),
        }
    }
}

/// The switches in force for an account: its own, or those of its kind, tightened by every node above.
pub fn switches(snapshot: &Snapshot, account: &Account) -> EffectiveSwitches {
    let (api_service, model_calls) = Switches::of_kind(account.kind);
    let own = |set: Option<Switch>, default| match set {
        Some(switch) => EffectiveSwitch { switch, source: SwitchSource::Account },
        None => EffectiveSwitch { switch: default, source: SwitchSource::Default },
    };
    let mut effective = EffectiveSwitches {
        api_service: own(account.switches.api_service, api_service),
        model_calls: own(account.switches.model_calls, model_calls),
    };
    for entry in snapshot.organizations_above(account.organization) {
        let node = &entry.organization;
        effective.api_service.tighten(node.switches.api_service, node.id);
        effective.model_calls.tighten(node.switches.model_calls, node.id);
    }
    effective
}

impl EffectiveSwitch {
    fn tighten(&mut self, set: Option<Switch>, node: OrganizationId) {
        if planted!(ChildLoosens) && self.source != SwitchSource::Default {
            return;
        }
        if let Some(switch) = set.filter(|switch| *switch > self.switch) {
            *self = EffectiveSwitch { switch, source: SwitchSource::Organization(node) };
        }
    }
}

impl Document for Organization {
    const KIND: Kind = Kind::Organization;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Operator
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        vec![UniqueName::new("organization", "name", &*self.name)]
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        checks::time_zone("time_zone", &self.time_zone)?;
        policy::check_attached("policies", &self.policies, None, snapshot)?;
        limit::check(&self.limits, Holder::Several, snapshot)?;
        let Some(parent) = self.parent else { return Ok(()) };
        present("parent", snapshot.organization(parent), parent)?;
        if snapshot.organizations_above(Some(parent)).any(|entry| entry.organization.id == self.id) {
            return Err(FieldError::new("parent", "stands below this organization"));
        }
        // What stands below moves with it, so its own height counts too.
        let above = snapshot.organizations_above(Some(parent)).count();
        let below = before.map_or(1, |_| snapshot.organization_height(self.id));
        match above + below > DEPTH_MAX {
            true => Err(FieldError::new("parent", "would make the tree deeper than 8")),
            false => Ok(()),
        }
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Organization(self)
    }
}
