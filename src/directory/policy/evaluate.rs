//! Whether a call is permitted: every policy that applies to it, united.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::directory::{Account, AccountRole, Environment, Key, Member, Project, Snapshot};
use crate::id::{AccountId, KeyId, MemberId, OrganizationId, PolicyId, ProjectId};
use crate::plant::planted;

use super::{CALL, Effect, Policy, ProjectPattern, Resource, Statement, fine_grained};

/// A call, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub project: Option<ProjectId>,
    /// Path below the version segment.
    pub endpoint: &'a str,
    pub model: &'a str,
    pub environment: Environment,
    pub at: Timestamp,
    /// The account's.
    pub zone: &'a TimeZone,
    pub address: Option<IpAddr>,
}

/// What a policy is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    Organization(OrganizationId),
    Account(AccountId),
    Role(AccountRole),
    Project(ProjectId),
    Member(MemberId),
    Key(KeyId),
}

#[derive(Clone, Copy, Debug)]
pub struct Attached<'a> {
    pub to: Attachment,
    pub policy: &'a Arc<Policy>,
}

/// A statement that decided.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub attached: Attached<'a>,
    /// Place in the document, from 0.
    pub statement: usize,
}

/// One of the two permissions that a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// [`CALL`] on the endpoint.
    Base,
    /// What the endpoint asks for, on the model.
    FineGrained,
}

#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// No policy applies.
    Unrestricted,
    /// The statements that allow the endpoint and the model.
    Allowed([Found<'a>; 2]),
    Denied {
        by: Found<'a>,
        permission: Permission,
    },
    /// No statement allows it.
    NotAllowed {
        permission: Permission,
    },
}

/// The policies that apply to a key's calls, from the widest to the narrowest.
pub fn attached<'a>(
    snapshot: &'a Snapshot,
    key: &'a Key,
    account: &'a Account,
    project: Option<&'a Project>,
    member: Option<&'a Member>,
) -> impl Iterator<Item = Attached<'a>> {
    let nodes = snapshot.organizations_above(account.organization).flat_map(|entry| {
        let to = Attachment::Organization(entry.organization.id);
        entry.organization.policies.iter().map(move |id| (to, *id))
    });
    let role = member.map(|member| member.role);
    let own = account.policies.iter().filter_map(move |given| match given.role {
        None => Some((Attachment::Account(account.id), given.policy)),
        Some(wanted) => (role == Some(wanted)).then_some((Attachment::Role(wanted), given.policy)),
    });
    let project = project
        .into_iter()
        .flat_map(|project| project.policies.iter().map(|id| (Attachment::Project(project.id), *id)));
    let member = member
        .into_iter()
        .flat_map(|member| member.policies.iter().map(|id| (Attachment::Member(member.id), *id)));
    let key = key.policies.iter().map(|id| (Attachment::Key(key.id), *id));
    let all = nodes.chain(own).chain(project).chain(member).chain(key);
    all.filter_map(|(to, id): (Attachment, PolicyId)| Some(Attached { to, policy: snapshot.policy(id)? }))
}

/// A deny anywhere wins; then each of both permissions needs a statement that allows it.
pub fn evaluate<'a>(policies: impl Iterator<Item = Attached<'a>>, question: &Question<'_>) -> Decision<'a> {
    let mut any = false;
    let (mut base, mut fine) = (None, None);
    for attached in policies {
        any = true;
        for (statement, written) in attached.policy.document.statements.iter().enumerate() {
            let wanted = [(Permission::Base, base.is_none()), (Permission::FineGrained, fine.is_none())];
            for (permission, open) in wanted {
                if !(open || written.effect == Effect::Deny) || !written.matches(permission, question) {
                    continue;
                }
                let found = Found { attached, statement };
                match (written.effect, permission) {
                    (Effect::Deny, _) if planted!(AllowWins) => {}
                    (Effect::Deny, permission) => return Decision::Denied { by: found, permission },
                    (Effect::Allow, Permission::Base) => base = Some(found),
                    (Effect::Allow, Permission::FineGrained) => fine = Some(found),
                }
            }
        }
    }
    match (base, fine) {
        _ if !any => Decision::Unrestricted,
        (Some(base), Some(fine)) => Decision::Allowed([base, fine]),
        (None, _) => Decision::NotAllowed { permission: Permission::Base },
        (Some(_), None) => Decision::NotAllowed { permission: Permission::FineGrained },
    }
}

impl Statement {
    pub(crate) fn matches(&self, permission: Permission, question: &Question<'_>) -> bool {
        let action = permission.action(question);
        self.actions.iter().any(|pattern| pattern.matches(action))
            && self.resources.iter().any(|resource| resource.is_of(permission, question))
            && self.conditions.iter().all(|condition| condition.holds(question))
    }
}

impl Resource {
    fn is_of(&self, permission: Permission, question: &Question<'_>) -> bool {
        match (self, permission) {
            (Resource::Any, _) => true,
            (Resource::Api { project, path }, Permission::Base) => {
                project.is(question.project) && path.matches(question.endpoint)
            }
            (Resource::Model(name), Permission::FineGrained) => name.matches(question.model),
            (Resource::Api { .. }, Permission::FineGrained) | (Resource::Model(_), Permission::Base) => false,
        }
    }
}

impl ProjectPattern {
    fn is(self, project: Option<ProjectId>) -> bool {
        match self {
            ProjectPattern::Any => true,
            ProjectPattern::None => project.is_none(),
            ProjectPattern::Exactly(id) => project == Some(id),
        }
    }
}

impl Permission {
    pub fn action(self, question: &Question<'_>) -> &'static str {
        match self {
            Permission::Base => CALL,
            Permission::FineGrained => fine_grained(question.endpoint),
        }
    }

    /// As an ARN.
    pub fn resource(self, question: &Question<'_>) -> String {
        match (self, question.project) {
            (Permission::Base, Some(project)) => format!("arn:tallygate:api:{project}/{}", question.endpoint),
            (Permission::Base, None) => format!("arn:tallygate:api:-/{}", question.endpoint),
            (Permission::FineGrained, _) => format!("arn:tallygate:model:{}", question.model),
        }
    }
}

impl Found<'_> {
    /// The statement's own name, else its number from 1.
    pub fn statement_name(&self) -> String {
        let statement = self.attached.policy.document.statements.get(self.statement);
        match statement.and_then(|statement| statement.sid.as_deref()) {
            Some(sid) => sid.to_owned(),
            None => (self.statement + 1).to_string(),
        }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attachment::Organization(id) => id.fmt(f),
            Attachment::Account(id) => id.fmt(f),
            Attachment::Role(role) => write!(f, "role {}", role.as_str()),
            Attachment::Project(id) => id.fmt(f),
            Attachment::Member(id) => id.fmt(f),
            Attachment::Key(id) => id.fmt(f),
        }
    }
}
