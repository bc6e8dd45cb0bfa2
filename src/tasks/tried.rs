//! The tries of a task's submission that have ended, and the text that keeps them in its row.

use serde::{Deserialize, Serialize};

use ledger::Nano;

use crate::catalogue::Code;
use crate::gateway::facts::{Attempt, CostBasis};
use crate::id::ChannelId;

#[derive(Serialize, Deserialize)]
struct Kept {
    channel: Option<ChannelId>,
    credential: u8,
    multiplier_ppm: u64,
    started_us: u64,
    duration_us: u64,
    status: Option<u16>,
    upstream_request: Option<Box<str>>,
    fault: Option<String>,
    cost_nano: Option<i64>,
    cost_basis: u8,
}

/// `None`: there are none.
pub fn text(tried: &[Attempt]) -> Option<String> {
    let keep = |attempt: &Attempt| Kept {
        channel: attempt.channel,
        credential: attempt.credential,
        multiplier_ppm: attempt.multiplier_ppm,
        started_us: attempt.started_us,
        duration_us: attempt.duration_us,
        status: attempt.status,
        upstream_request: attempt.upstream_request.clone(),
        fault: attempt.fault.map(|code| code.as_str().to_owned()),
        cost_nano: attempt.cost.map(|cost| cost.0),
        cost_basis: attempt.cost_basis as u8,
    };
    let kept: Vec<Kept> = tried.iter().map(keep).collect();
    if kept.is_empty() { None } else { serde_json::to_string(&kept).ok() }
}

/// `None`: the text is none of ours.
pub fn parse(text: &str) -> Option<Vec<Attempt>> {
    let kept: Vec<Kept> = serde_json::from_str(text).ok()?;
    let read = |kept: Kept| {
        Some(Attempt {
            channel: kept.channel,
            credential: kept.credential,
            multiplier_ppm: kept.multiplier_ppm,
            started_us: kept.started_us,
            duration_us: kept.duration_us,
            status: kept.status,
            upstream_request: kept.upstream_request,
            fault: kept.fault.map(|code| code.parse::<Code>()).transpose().ok()?,
            cost: kept.cost_nano.map(Nano),
            cost_basis: CostBasis::from_code(kept.cost_basis)?,
        })
    };
    kept.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_read_as_they_were_written() {
        let failed = Attempt {
            channel: Some(ChannelId::from_raw(7)),
            credential: 1,
            multiplier_ppm: 1_500_000,
            started_us: 3,
            duration_us: 4_000,
            status: Some(503),
            fault: Some(Code::UpstreamRateLimited),
            cost: Some(Nano(5)),
            cost_basis: CostBasis::Estimated,
            ..Attempt::default()
        };
        let tried = vec![failed, Attempt { upstream_request: Some("up_1".into()), ..Attempt::default() }];
        assert_eq!(text(&tried).and_then(|text| parse(&text)), Some(tried));
        assert_eq!((text(&[]), parse("[{}]")), (None, None));
    }
}
