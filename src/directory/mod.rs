//! The directory: who may call what, at which price, through which channel.
//!
//! Every object is a versioned JSON document ([`documents`]). The store keeps each version for ever, so
//! that an old Why is explained with the objects as they were. The gateway never reads the store on the
//! way of a request: it looks things up in an immutable [`Snapshot`], which a change replaces in part
//! (one shard for a key or an account, the small root for the rest).
//!
//! No rule of the ladder and no money lives here.

mod announcement;
mod appeal;
pub mod audit;
mod checks;
mod commands;
mod create;
mod credit_check;
pub mod decimal;
pub mod documents;
mod error;
mod import;
mod key;
mod limit;
mod loading;
mod member;
mod notice_endpoint;
mod operator;
pub mod organization;
pub mod policy;
mod project;
mod rate;
mod rules;
pub mod schedule;
mod sealed;
mod shards;
pub mod snapshot;
mod stored;
pub mod task_api;
mod task_terms;
mod unit_price;

pub use announcement::{Announcement, Category, PolicyChange};
pub use appeal::{Appeal, AppealState};
pub use commands::{Directory, Edit};
pub use create::{CreatedKey, CreatedToken, KeyMatch, KeyOrder, Rotation};
pub use credit_check::{CreditCheck, CreditSource};
pub use documents::{
    Account, AccountKind, AccountPolicy, Allowance, CapField, Channel, ChannelStatus, CostPrice, Environment,
    Group, Key, KeyStatus, KeyText, Limit, Metric, Model, ModelStatus, Origin, Price, ProviderKind,
    StatusNote, StatusOrigin, StatusReason, TranscriptTerms, UnitPrice, Variant, Window,
};
pub use error::{DirectoryError, FieldError, Kind};
pub use import::Importer;
pub use member::{AccountRole, Member, MemberKind};
pub use notice_endpoint::{EndpointStatus, NoticeEndpoint, NoticeTarget};
pub use operator::{Operator, OperatorRole, Token, TokenHolder};
pub use organization::{Organization, Switch, Switches};
pub use policy::{Policy, PolicyDocument};
pub use project::{Project, ProjectStatus};
pub use rate::{RateLimit, RateMetric, Rates};
pub use rules::{Document, Owner};
pub use schedule::Schedule;
pub use sealed::SealedObject;
pub use snapshot::{Change, ModelEntry, Object, Snapshot};
pub use stored::{ObjectId, Revision, Versioned};
pub use task_api::TaskApi;
pub use task_terms::TaskTerms;
