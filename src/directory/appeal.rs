//! Appeals (申请解禁): the owner of a key that the platform stopped says why it should work again, and gets a decision.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{AccountId, AppealId, KeyId};

use super::Directory;
use super::checks;
use super::documents::{Key, KeyStatus, StatusNote, StatusOrigin, StatusReason};
use super::error::{DirectoryError, FieldError, Kind};
use super::rules::{Document, Owner, UniqueName, present, unchanged};
use super::snapshot::{Object, Snapshot};
use super::stored::Versioned;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appeal {
    pub id: AppealId,
    pub account: AccountId,
    pub key: KeyId,
    /// What the owner says.
    pub statement: Box<str>,
    pub state: AppealState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppealState {
    Submitted,
    InReview,
    Approved,
    Rejected,
}

impl AppealState {
    pub const fn is_decided(self) -> bool {
        matches!(self, AppealState::Approved | AppealState::Rejected)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub reason: Box<str>,
    pub by: Box<str>,
    pub at: Timestamp,
}

impl Directory {
    /// Appeals for a key that the platform stopped. One at a time.
    pub fn create_appeal(
        &self,
        actor: &str,
        key: KeyId,
        statement: &str,
    ) -> Result<Versioned<Appeal>, DirectoryError> {
        let snapshot = self.snapshot_owned();
        let not_found = || DirectoryError::NotFound { kind: Kind::Key, id: key.to_string() };
        let known = snapshot.key(key).ok_or_else(not_found)?;
        let now = self.now()?;
        let stopped = matches!(known.status_at(now), KeyStatus::RiskFrozen | KeyStatus::PendingReview);
        if !stopped {
            return Err(DirectoryError::invalid("key", "is neither frozen nor under review"));
        }
        if snapshot.appeals().any(|appeal| appeal.key == key && !appeal.state.is_decided()) {
            return Err(DirectoryError::invalid("key", "has an appeal that is not decided yet"));
        }
        let id = self.fresh(AppealId::new, |snapshot, id| snapshot.appeal(id).is_some());
        let appeal = Appeal {
            id,
            account: known.account,
            key,
            statement: statement.into(),
            state: AppealState::Submitted,
            decision: None,
            created_at: now,
        };
        self.create(actor, &|_| Ok(()), appeal)
    }

    /// Moves an appeal on. An approval enables the key again, in the same transaction.
    pub fn decide_appeal(
        &self,
        actor: &str,
        id: AppealId,
        expected: Option<u64>,
        state: AppealState,
        reason: Option<&str>,
    ) -> Result<Versioned<Appeal>, DirectoryError> {
        let now = self.now()?;
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        let decision = match (state.is_decided(), reason) {
            (true, Some(reason)) => Some(Decision { reason: reason.into(), by: actor.into(), at: now }),
            (true, None) => return Err(DirectoryError::invalid("reason", "is missing: a decision has one")),
            (false, _) => None,
        };
        self.commit(actor, |writer, snapshot| {
            let before = writer.expect::<Appeal>(id.raw(), expected)?;
            if before.document.state.is_decided() {
                return Err(DirectoryError::invalid("state", "is final: the appeal was decided"));
            }
            let mut appeal = Appeal::clone(&before.document);
            (appeal.state, appeal.decision) = (state, decision.clone());
            appeal.check(Some(&before.document), snapshot, now)?;
            let mut changes = Vec::new();
            if state == AppealState::Approved {
                let key = writer.expect::<Key>(appeal.key.raw(), None)?.document;
                let mut enabled = Key::clone(&key);
                enabled.status = KeyStatus::Enabled;
                enabled.status_note = Some(Box::new(StatusNote {
                    origin: StatusOrigin::Operator,
                    reason: StatusReason::AppealApproved,
                    since: now,
                    until: None,
                    text: reason.map(Into::into),
                    evidence: None,
                }));
                enabled.check(Some(&key), snapshot, now)?;
                changes.push(writer.put(Some(&*key), Arc::new(enabled))?.change());
            }
            let written = writer.put(Some(&*before.document), Arc::new(appeal))?;
            changes.push(written.change());
            Ok((changes, written))
        })
    }
}

impl Document for Appeal {
    const KIND: Kind = Kind::Appeal;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Account(self.account)
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        Vec::new()
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        unchanged("key", before.map(|before| &before.key), &self.key)?;
        present("key", snapshot.key(self.key), self.key)?;
        if self.statement.trim().is_empty() {
            return Err(FieldError::new("statement", "must not be empty"));
        }
        checks::remark("statement", &self.statement)?;
        self.decision.iter().try_for_each(|decision| checks::remark("reason", &decision.reason))
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Appeal(self)
    }
}
