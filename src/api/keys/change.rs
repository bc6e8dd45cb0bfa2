//! What a request writes into a key, and who may write what.

use std::sync::Arc;

use crate::address;
use crate::directory::{
    AccountRole, DirectoryError, FieldError, Key, KeyStatus, StatusNote, StatusOrigin, StatusReason,
};
use crate::id::GroupId;

use super::super::access;
use super::super::limits;
use super::super::problem::Problem;
use super::super::route::Call;
use super::super::shape::{self, Fields};
use super::found;

/// Writes what was sent into the key, whether it is new or changed.
pub(super) fn apply(call: &Call<'_>, key: &mut Key, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        key.name = name.into();
    }
    if let Some(group) = fields.nullable_parsed("group")? {
        may_regroup(call, key, group)?;
        key.group = group;
    }
    if let Some(project) = fields.nullable_parsed("project")? {
        let account =
            call.app.directory.snapshot().account(key.account).map(|entry| Arc::clone(&entry.account));
        key.project = project.or_else(|| account?.default_project);
    }
    if let Some(member) = fields.nullable_parsed("member")? {
        key.member = member;
    }
    if let Some((member, AccountRole::Developer)) = call.member() {
        key.member = Some(member);
    }
    if let Some(limits) = fields.list("limits") {
        limits::replace(call, &mut key.limits, limits)?;
    }
    if let Some(rates) = fields.list("rates") {
        limits::replace_rates(call, &mut key.rates, rates)?;
    }
    if fields.has("tasks") {
        key.tasks = fields.one_of::<Option<_>>("tasks")?.flatten();
    }
    if let Some(policies) = fields.list("policies") {
        key.policies = shape::decode("policies", policies)?;
    }
    if let Some(allowed) = fields.list("allowed") {
        key.allowed = shape::decode("allowed", allowed)?;
    }
    if let Some(end) = fields.nullable_parsed("expires_at")? {
        key.expires_at = end;
    }
    if fields.has("schedule") {
        key.schedule = fields.one_of::<Option<_>>("schedule")?.flatten();
    }
    if let Some(ranges) = fields.list("ip_ranges") {
        key.ip_ranges = shape::decode("ip_ranges", ranges)?;
        for (at, range) in key.ip_ranges.iter_mut().enumerate() {
            let fold = address::folded(*range);
            *range = fold.map_err(|why| FieldError::new(format!("ip_ranges[{at}]"), why))?;
        }
    }
    status(call, key, fields)
}

/// A group has a price and a quota: a member moves a key only between those that operators granted to its account,
/// and none.
fn may_regroup(call: &Call<'_>, key: &Key, group: Option<GroupId>) -> Result<(), DirectoryError> {
    if call.member().is_none() || group == key.group {
        return Ok(());
    }
    let snapshot = call.app.directory.snapshot();
    let granted = snapshot.account(key.account).map_or(&[][..], |entry| &entry.account.groups);
    match [key.group, group].into_iter().flatten().find(|group| !granted.contains(group)) {
        None => Ok(()),
        Some(other) => Err(DirectoryError::Forbidden {
            action: format!("to set group: {other} was not granted to the account"),
        }),
    }
}

/// What the platform set, its owner does not lift: an appeal does.
pub(super) fn member_may(call: &Call<'_>, fields: &Fields<'_>) -> Result<(), Problem> {
    let (Some(_), Some(status)) = (call.member(), fields.one_of::<KeyStatus>("status")?) else {
        return Ok(());
    };
    let key = found(call)?.document;
    let now = jiff::Timestamp::from_millisecond(call.app.clock.now_ms()).unwrap_or(jiff::Timestamp::MAX);
    let set_by = key.status_note.as_ref().map(|note| note.origin);
    let is_above = key.status_at(now) != KeyStatus::Enabled && set_by != Some(StatusOrigin::Owner);
    match status {
        KeyStatus::RiskFrozen | KeyStatus::PendingReview => Err(access::forbidden("to set this status")),
        KeyStatus::Enabled | KeyStatus::Disabled if is_above => {
            Err(access::forbidden("to lift what the platform set; an appeal can"))
        }
        _ => Ok(()),
    }
}

/// A status is set with who set it and why; without a change of status there is nothing to give reasons for.
fn status(call: &Call<'_>, key: &mut Key, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    let Some(status) = fields.one_of::<KeyStatus>("status")? else {
        let orphan =
            ["status_reason", "status_text", "status_until"].into_iter().find(|name| fields.has(name));
        return orphan.map_or(Ok(()), |name| Err(FieldError::new(name, "goes with `status`").into()));
    };
    let now = jiff::Timestamp::from_millisecond(call.app.clock.now_ms());
    let until = fields.nullable_parsed("status_until")?.flatten();
    if until.is_some() && matches!(status, KeyStatus::Enabled | KeyStatus::Revoked) {
        return Err(FieldError::new("status_until", "goes with a status that can end by itself").into());
    }
    key.status = status;
    key.status_note = Some(Box::new(StatusNote {
        origin: if call.member().is_some() { StatusOrigin::Owner } else { StatusOrigin::Operator },
        reason: fields.one_of("status_reason")?.unwrap_or(match call.member() {
            Some(_) => StatusReason::Owner,
            None => StatusReason::Operator,
        }),
        since: now
            .map_err(|_| FieldError::new("status", "cannot be set: the clock is beyond the calendar"))?,
        until,
        text: fields.text("status_text").map(Into::into),
        evidence: None,
    }));
    Ok(())
}
