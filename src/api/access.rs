//! Who may call a route: the roles of operators, and those of an account's members.
//!
//! A member sees what belongs to its account; everything else is not there for it. docs/roles.md has the table, which
//! the tests walk.

use crate::catalogue::{Code, Refusal};
use crate::directory::{AccountRole, OperatorRole};
use crate::id::{AccountId, MemberId};

use super::problem::Problem;

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    Operator {
        /// Written beside every change.
        actor: String,
        role: OperatorRole,
    },
    Member {
        member: MemberId,
        account: AccountId,
        role: AccountRole,
    },
}

impl Principal {
    /// Whoever runs the machine: over the admin socket, or by a command in its own process.
    pub fn machine(actor: &str) -> Self {
        Principal::Operator { actor: actor.to_owned(), role: OperatorRole::Superadmin }
    }

    pub fn actor(&self) -> String {
        match self {
            Principal::Operator { actor, .. } => actor.clone(),
            Principal::Member { member, .. } => format!("member {member}"),
        }
    }

    pub fn role(&self) -> &'static str {
        match self {
            Principal::Operator { role, .. } => role.as_str(),
            Principal::Member { role, .. } => role.as_str(),
        }
    }

    /// The one account that is there for this principal; `None`: all of them.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Principal::Operator { .. } => None,
            Principal::Member { account, .. } => Some(*account),
        }
    }
}

/// Roles that may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    operators: &'static [OperatorRole],
    members: &'static [AccountRole],
}

const EVERY_OPERATOR: &[OperatorRole] =
    &[OperatorRole::Superadmin, OperatorRole::Finance, OperatorRole::Support, OperatorRole::Auditor];
const EVERY_MEMBER: &[AccountRole] = &[
    AccountRole::Owner,
    AccountRole::Admin,
    AccountRole::Finance,
    AccountRole::Developer,
    AccountRole::Viewer,
];
const MANAGERS: &[AccountRole] = &[AccountRole::Owner, AccountRole::Admin];

impl Access {
    /// What holds unless a route says otherwise.
    pub const SUPERADMIN: Access = Access { operators: &[OperatorRole::Superadmin], members: &[] };
    /// What the installation is made of.
    pub const OPERATORS_READ: Access = Access { operators: EVERY_OPERATOR, members: &[] };
    /// Models and prices are no secret. Of what belongs to accounts, a member is shown what is its own account's.
    pub const EVERYBODY_READS: Access = Access { operators: EVERY_OPERATOR, members: EVERY_MEMBER };
    /// What an account has and owes.
    pub const MONEY_READ: Access = Access {
        operators: EVERY_OPERATOR,
        members: &[AccountRole::Owner, AccountRole::Admin, AccountRole::Finance],
    };
    pub const MONEY_MOVES: Access =
        Access { operators: &[OperatorRole::Superadmin, OperatorRole::Finance], members: &[] };
    /// Who else is told what happens in an account.
    pub const MANAGERS_READ: Access = Access { operators: EVERY_OPERATOR, members: MANAGERS };
    /// Orders of money that is to come in.
    pub const ORDERS: Access = Access {
        operators: &[OperatorRole::Superadmin, OperatorRole::Finance],
        members: &[AccountRole::Owner, AccountRole::Admin, AccountRole::Finance],
    };
    /// What the managers of an account change.
    pub const ACCOUNT_CHANGES: Access = Access { operators: &[OperatorRole::Superadmin], members: MANAGERS };
    /// Keys: support helps with them, and developers have their own.
    pub const KEY_CHANGES: Access = Access {
        operators: &[OperatorRole::Superadmin, OperatorRole::Support],
        members: &[AccountRole::Owner, AccountRole::Admin, AccountRole::Developer],
    };
    /// What was said in calls: no operator's business.
    pub const TRANSCRIPTS: Access =
        Access { operators: &[], members: &[AccountRole::Owner, AccountRole::Admin, AccountRole::Developer] };
    pub const SUPPORT: Access =
        Access { operators: &[OperatorRole::Superadmin, OperatorRole::Support], members: &[] };

    /// Whether a principal is among the roles.
    pub fn includes(self, principal: &Principal) -> bool {
        match principal {
            Principal::Operator { role, .. } => self.operators.contains(role),
            Principal::Member { role, .. } => self.members.contains(role),
        }
    }

    /// Refuses a role that is not among those of the route.
    pub fn check(self, principal: &Principal, action: &'static str) -> Result<(), Problem> {
        if self.includes(principal) { Ok(()) } else { Err(forbidden(action)) }
    }
}

pub fn forbidden(action: impl Into<String>) -> Problem {
    Refusal::new(Code::RoleForbidden).param("action", action.into()).into()
}
