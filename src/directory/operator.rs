//! Those who run the gateway, with what each may do; and the tokens by which operators and members are known.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{MemberId, OperatorId};

use super::checks;
use super::documents::KeyHash;
use super::error::{FieldError, Kind};
use super::rules::{Document, Owner, UniqueName};
use super::snapshot::{Object, Snapshot};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    pub id: OperatorId,
    pub name: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Box<str>>,
    pub role: OperatorRole,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    pub created_at: Timestamp,
}

/// A set of its own beside the roles of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Everything.
    Superadmin,
    /// Reads everything, and moves money.
    Finance,
    /// Reads everything, and changes keys.
    Support,
    /// Reads everything.
    Auditor,
}

impl OperatorRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            OperatorRole::Superadmin => "superadmin",
            OperatorRole::Finance => "finance",
            OperatorRole::Support => "support",
            OperatorRole::Auditor => "auditor",
        }
    }
}

/// What is kept of an access token. Its text is known to its holder alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Keyed hash of the text.
    pub hash: KeyHash,
    pub issued_at: Timestamp,
    /// From then on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenHolder {
    Operator(OperatorId),
    Member(MemberId),
}

impl Document for Operator {
    const KIND: Kind = Kind::Operator;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Operator
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        let email = self.email.iter().map(|email| email.to_lowercase());
        email.map(|email| UniqueName::new("operator_email", "email", email)).collect()
    }

    fn check(&self, _: Option<&Self>, _: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        self.email.iter().try_for_each(|email| checks::email("email", email))
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Operator(self)
    }
}
