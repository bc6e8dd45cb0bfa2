//! Why a change of the directory was not made.

use std::error::Error;
use std::fmt;

use crate::id::{
    AccountId, AnnouncementId, AppealId, ChannelId, GroupId, KeyId, MemberId, ModelId, NoticeEndpointId,
    OperatorId, OrganizationId, PolicyId, PriceId, ProjectId,
};
use crate::secret::MasterKeyError;
use crate::store::StoreError;

/// The kinds of objects that the directory keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Account,
    Key,
    Model,
    Price,
    Channel,
    Group,
    Organization,
    Project,
    Member,
    Policy,
    Operator,
    Appeal,
    NoticeEndpoint,
    Announcement,
}

impl Kind {
    pub const ALL: [Kind; 14] = [
        Kind::Account,
        Kind::Key,
        Kind::Model,
        Kind::Price,
        Kind::Channel,
        Kind::Group,
        Kind::Organization,
        Kind::Project,
        Kind::Member,
        Kind::Policy,
        Kind::Operator,
        Kind::Appeal,
        Kind::NoticeEndpoint,
        Kind::Announcement,
    ];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Account => "account",
            Kind::Key => "key",
            Kind::Model => "model",
            Kind::Price => "price",
            Kind::Channel => "channel",
            Kind::Group => "group",
            Kind::Organization => "organization",
            Kind::Project => "project",
            Kind::Member => "member",
            Kind::Policy => "policy",
            Kind::Operator => "operator",
            Kind::Appeal => "appeal",
            Kind::NoticeEndpoint => "notice_endpoint",
            Kind::Announcement => "announcement",
        }
    }

    /// The public form of an id of this kind.
    pub fn id_text(self, raw: u64) -> String {
        match self {
            Kind::Account => AccountId::from_raw(raw).to_string(),
            Kind::Key => KeyId::from_raw(raw).to_string(),
            Kind::Model => ModelId::from_raw(raw).to_string(),
            Kind::Price => PriceId::from_raw(raw).to_string(),
            Kind::Channel => ChannelId::from_raw(raw).to_string(),
            Kind::Group => GroupId::from_raw(raw).to_string(),
            Kind::Organization => OrganizationId::from_raw(raw).to_string(),
            Kind::Project => ProjectId::from_raw(raw).to_string(),
            Kind::Member => MemberId::from_raw(raw).to_string(),
            Kind::Policy => PolicyId::from_raw(raw).to_string(),
            Kind::Operator => OperatorId::from_raw(raw).to_string(),
            Kind::Appeal => AppealId::from_raw(raw).to_string(),
            Kind::NoticeEndpoint => NoticeEndpointId::from_raw(raw).to_string(),
            Kind::Announcement => AnnouncementId::from_raw(raw).to_string(),
        }
    }

    /// The raw id behind a public one of this kind.
    pub fn parse_id(self, text: &str) -> Option<u64> {
        match self {
            Kind::Account => text.parse().map(AccountId::raw).ok(),
            Kind::Key => text.parse().map(KeyId::raw).ok(),
            Kind::Model => text.parse().map(ModelId::raw).ok(),
            Kind::Price => text.parse().map(PriceId::raw).ok(),
            Kind::Channel => text.parse().map(ChannelId::raw).ok(),
            Kind::Group => text.parse().map(GroupId::raw).ok(),
            Kind::Organization => text.parse().map(OrganizationId::raw).ok(),
            Kind::Project => text.parse().map(ProjectId::raw).ok(),
            Kind::Member => text.parse().map(MemberId::raw).ok(),
            Kind::Policy => text.parse().map(PolicyId::raw).ok(),
            Kind::Operator => text.parse().map(OperatorId::raw).ok(),
            Kind::Appeal => text.parse().map(AppealId::raw).ok(),
            Kind::NoticeEndpoint => text.parse().map(NoticeEndpointId::raw).ok(),
            Kind::Announcement => text.parse().map(AnnouncementId::raw).ok(),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A field with a value that cannot be taken, and why. Never quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field as the caller wrote it: `limits[0].value`.
    pub field: String,
    pub reason: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        FieldError { field: field.into(), reason: reason.into() }
    }
}

/// What can go wrong with a command of the directory. Nothing was changed, whatever it says, but for
/// [`DirectoryError::Store`] of kind `Unavailable`: then it is not known, and a refresh tells.
#[derive(Debug)]
pub enum DirectoryError {
    Invalid(FieldError),
    NotFound {
        kind: Kind,
        id: String,
    },
    /// The object was changed since the version that the editor had seen.
    EditConflict {
        kind: Kind,
        expected: u64,
        current: u64,
    },
    /// Another object has this name already.
    NameTaken {
        field: &'static str,
        name: String,
    },
    /// Only an operator may make this change; the action says what it would have set.
    Forbidden {
        action: String,
    },
    /// A stored document cannot be read.
    Corrupt {
        kind: Kind,
        version: u64,
        source: serde_json::Error,
    },
    /// A channel's credential or a webhook's secret cannot be sealed or opened.
    Sealing(MasterKeyError),
    Store(StoreError),
}

impl DirectoryError {
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        DirectoryError::Invalid(FieldError::new(field, reason))
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => write!(f, "{}: {}", error.field, error.reason),
            Self::NotFound { kind, id } => write!(f, "there is no {kind} {id}"),
            Self::EditConflict { kind, expected, current } => {
                write!(f, "the {kind} is at version {current} by now, not at {expected}")
            }
            Self::NameTaken { field, name } => write!(f, "{field}: `{name}` is taken"),
            Self::Forbidden { action } => write!(f, "only an operator has the right {action}"),
            Self::Corrupt { kind, version, .. } => {
                write!(f, "version {version} of the directory holds a {kind} that cannot be read")
            }
            Self::Sealing(error) => write!(f, "a sealed credential: {error}"),
            Self::Store(error) => write!(f, "the directory's store: {error}"),
        }
    }
}

impl Error for DirectoryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Corrupt { source, .. } => Some(source),
            Self::Sealing(error) => Some(error),
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for DirectoryError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<FieldError> for DirectoryError {
    fn from(error: FieldError) -> Self {
        Self::Invalid(error)
    }
}
