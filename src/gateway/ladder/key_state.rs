//! Rung 3: the key may be used now, and from here: its status, its end, its hours, its addresses.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::catalogue::{Code, Refusal};
use crate::directory::{Key, KeyStatus};
use crate::plant::planted;

use super::case::{Caller, Case};

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(caller) = case.caller else { return Ok(()) };
    // A moment beyond the calendar is no moment at which a key is open.
    let at = Timestamp::from_millisecond(case.facts.at_ms).unwrap_or(Timestamp::MAX);
    status(caller.key, at)?;
    expiry(caller.key, at)?;
    hours(caller, at)?;
    address(caller.key, case.facts.client.address)
}

/// Refuses a key that was stopped for now.
pub fn status(key: &Key, at: Timestamp) -> Result<(), Refusal> {
    let code = match key.status_at(at) {
        // A revoked key is refused with the credential, one rung before.
        KeyStatus::Enabled | KeyStatus::Revoked => return Ok(()),
        KeyStatus::Disabled => Code::KeyDisabled,
        KeyStatus::PendingReview => Code::KeyPendingReview,
        KeyStatus::RiskFrozen => Code::KeyRiskFrozen,
    };
    let refusal = named(code, key);
    Err(match &key.status_note {
        None => refusal,
        Some(note) => refusal
            .param("since", time(note.since))
            .param("actor", note.origin.words())
            .param("reason", note.reason.as_str()),
    })
}

fn expiry(key: &Key, at: Timestamp) -> Result<(), Refusal> {
    match key.expires_at.filter(|end| *end <= at && !planted!(ExpiryIgnored)) {
        Some(end) => Err(named(Code::KeyExpired, key).param("expired_at", time(end))),
        None => Ok(()),
    }
}

fn hours(caller: Caller<'_>, at: Timestamp) -> Result<(), Refusal> {
    let zone = &caller.account.zone;
    let Some(schedule) = caller
        .key
        .schedule
        .as_deref()
        .filter(|schedule| !schedule.is_open(at, zone) && !planted!(ScheduleIgnored))
    else {
        return Ok(());
    };
    let refusal = named(Code::KeyOutsideSchedule, caller.key);
    Err(match schedule.next_opening(at, zone) {
        Some(opens) => {
            let wait_ms = opens.as_millisecond().saturating_sub(at.as_millisecond());
            let wait_ms = u64::try_from(wait_ms).unwrap_or(0);
            refusal.param("opens_at", time(opens)).retry_after_ms(wait_ms)
        }
        None => refusal.param("opens_at", ("never again", "不再开放")),
    })
}

fn address(key: &Key, from: Option<IpAddr>) -> Result<(), Refusal> {
    let allowed = |address: IpAddr| key.ip_ranges.iter().any(|range| range.contains(&address));
    if key.ip_ranges.is_empty() || from.map(|address| address.to_canonical()).is_some_and(allowed) {
        return Ok(());
    }
    let refusal = named(Code::KeyIpNotAllowed, key);
    Err(match from {
        Some(address) => refusal.param("address", address.to_canonical().to_string()),
        None => refusal.param("address", ("an unknown address", "未知地址")),
    })
}

fn named(code: Code, key: &Key) -> Refusal {
    Refusal::new(code).param("key", key.id.to_string())
}

fn time(at: Timestamp) -> crate::catalogue::Value {
    crate::catalogue::Value::Time(at.as_millisecond())
}
