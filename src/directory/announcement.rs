//! Announcements (系统公告): what the operator tells everybody, or one account. One that tells of a changed policy
//! names the policy and the version of the change, so that whoever reads it can see what changed, and for which keys.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{AccountId, AnnouncementId, PolicyId};

use super::Directory;
use super::checks;
use super::commands::Edit;
use super::documents::Key;
use super::error::{DirectoryError, FieldError, Kind};
use super::policy;
use super::rules::{Document, Owner, UniqueName, present, unchanged};
use super::snapshot::{Object, Snapshot};
use super::stored::Versioned;

/// Characters of a text, at the most.
const TEXT_CHARS_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    pub id: AnnouncementId,
    /// Whom it is for; `None`: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    pub category: Category,
    pub title: Words,
    pub text: Words,
    /// The change of a policy that it tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyChange>,
    /// Before then it is there for operators alone.
    pub published_at: Timestamp,
    /// It is there for operators alone again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    PolicyChange,
    Pricing,
    Models,
    Maintenance,
    Security,
    General,
}

impl Category {
    pub const NAMES: &'static [&'static str] =
        &["policy_change", "pricing", "models", "maintenance", "security", "general"];
}

impl std::str::FromStr for Category {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        serde_json::from_value(name.into()).map_err(|_| format!("must be one of {}", Self::NAMES.join(", ")))
    }
}

/// The same in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    pub en: Box<str>,
    pub zh: Box<str>,
}

/// One change of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyChange {
    pub policy: PolicyId,
    /// Version of the directory that wrote the policy as it was changed.
    pub version: u64,
}

impl Announcement {
    /// Whether others than operators can read it at this time.
    pub fn is_public(&self, now: Timestamp) -> bool {
        self.published_at <= now && !self.withdrawn
    }

    /// Whether the policy that it tells of is attached to a key, or to what the key stands under.
    pub fn affects(&self, snapshot: &Snapshot, key: &Key) -> bool {
        let (Some(change), Some(account)) = (self.policy, snapshot.account(key.account)) else {
            return false;
        };
        let project = key.project.and_then(|id| snapshot.project(id)).map(|project| &**project);
        let member = key.member.and_then(|id| snapshot.member(id)).map(|member| &**member);
        let mut attached = policy::attached(snapshot, key, &account.account, project, member);
        attached.any(|attached| attached.policy.id == change.policy)
    }
}

impl Directory {
    /// Announces something; it may be published later. A policy is named as it is now.
    pub fn create_announcement(
        &self,
        actor: &str,
        account: Option<AccountId>,
        category: Category,
        policy: Option<PolicyId>,
        edit: Edit<'_, Announcement>,
    ) -> Result<Versioned<Announcement>, DirectoryError> {
        let id = self.fresh(AnnouncementId::new, |snapshot, id| snapshot.announcement(id).is_some());
        let change = policy.map(|policy| self.newest_change(policy)).transpose()?;
        let now = self.now()?;
        let empty = || Words { en: "".into(), zh: "".into() };
        let announcement = Announcement {
            id,
            account,
            category,
            title: empty(),
            text: empty(),
            policy: change,
            published_at: now,
            withdrawn: false,
            created_at: now,
        };
        self.create(actor, edit, announcement)
    }

    fn newest_change(&self, id: PolicyId) -> Result<PolicyChange, DirectoryError> {
        let found = self.get::<policy::Policy>(id.raw())?;
        let missing = || DirectoryError::invalid("policy", format!("there is no {id}"));
        Ok(PolicyChange { policy: id, version: found.ok_or_else(missing)?.version })
    }
}

impl Document for Announcement {
    const KIND: Kind = Kind::Announcement;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        self.account.map_or(Owner::Everybody, Owner::Account)
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        Vec::new()
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        unchanged("account", before.map(|before| &before.account), &self.account)?;
        unchanged("policy", before.map(|before| &before.policy), &self.policy)?;
        if let Some(account) = self.account {
            present("account", snapshot.account(account), account)?;
        }
        for (field, words) in [("title", &self.title), ("text", &self.text)] {
            words.check(field, if field == "title" { checks::name } else { long_text })?;
        }
        let Some(change) = self.policy else { return Ok(()) };
        let owner = snapshot.policy(change.policy).and_then(|policy| policy.account);
        match owner {
            Some(owner) if self.account != Some(owner) => {
                Err(FieldError::new("account", "must be the one whose the policy is"))
            }
            _ => Ok(()),
        }
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Announcement(self)
    }
}

impl Words {
    fn check(&self, field: &str, check: fn(&str, &str) -> Result<(), FieldError>) -> Result<(), FieldError> {
        check(&format!("{field}.en"), &self.en)?;
        check(&format!("{field}.zh"), &self.zh)
    }
}

fn long_text(field: &str, text: &str) -> Result<(), FieldError> {
    if text.trim().is_empty() {
        return Err(FieldError::new(field, "must not be empty"));
    }
    match text.chars().count() > TEXT_CHARS_MAX {
        true => Err(FieldError::new(field, format!("must have at most {TEXT_CHARS_MAX} characters"))),
        false => Ok(()),
    }
}
