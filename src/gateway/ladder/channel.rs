//! Rung 14: somewhere to send the call to.

use crate::catalogue::{Code, Refusal};
use crate::gateway::channel_health::RestReason;

use super::case::Case;
use super::evidence::{Evidence, Finding};

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let (Some(call), None) = (case.call, case.chosen) else { return Ok(()) };
    let refuse = |code: Code| Refusal::new(code).param("model", &*call.model);
    match first_end_ms(case) {
        None => Err(refuse(Code::NoChannel)),
        Some(end_ms) => {
            let left_ms = u64::try_from(end_ms.saturating_sub(case.facts.at_ms)).unwrap_or(0);
            Err(refuse(Code::ChannelCoolingDown).retry_after_ms(left_ms.max(1)))
        }
    }
}

/// When the first of the channels that could serve the call has rested; `None` if no waiting helps.
fn first_end_ms(case: &Case<'_>) -> Option<i64> {
    let resting = case.readings.channels.iter().filter(|reading| reading.reason != RestReason::Unusable);
    let could_serve =
        |channel| case.candidates.is_some_and(|all| all.all().any(|known| known.channel.id == channel));
    resting.filter(|reading| could_serve(reading.channel)).map(|reading| reading.until_ms).min()
}

/// How many channels there are, and why those rest that do. Which ones they are is the operator's to know.
pub fn evidence(case: &Case<'_>) -> Vec<Evidence> {
    let Some(candidates) = case.candidates.filter(|_| !case.readings.channels.is_empty()) else {
        return Vec::new();
    };
    let count = candidates.all().count();
    let finding = if case.chosen.is_some() { Finding::Looked } else { Finding::Fail };
    let mut found = vec![Evidence::new(
        "channels",
        finding,
        format!("{} of {count} channels for the model could not be used", case.readings.channels.len()),
        format!("该模型的 {count} 个渠道中有 {} 个当时不可用", case.readings.channels.len()),
    )];
    found.extend(case.readings.channels.iter().map(|reading| {
        let (en, zh) = reading.reason.words();
        let until = crate::catalogue::rfc3339(reading.until_ms);
        Evidence::new(
            "channel_rests",
            Finding::Looked,
            format!("a channel rests until {until}: {en}"),
            format!("某渠道暂停使用至 {until}：{zh}"),
        )
    }));
    found
}
