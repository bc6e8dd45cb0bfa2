//! "Would this call be allowed now?": the decision of a real call, without a call, a charge or a trace (E7).

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::app::App;
use crate::catalogue::Language;
use crate::directory::Key;
use crate::gateway::facts::{Admitted, Checked, Client, Credential, Decided, Facts, Repetition};
use crate::gateway::identify;
use crate::gateway::ladder::{self, Caller, Scope, Verdict};
use crate::gateway::request::{ModelRequest, Sample};
use crate::id::RequestId;

use super::why::{self, Audience, Case, Why};

#[derive(Clone, Debug, Serialize)]
pub struct Simulation {
    pub would: &'static str,
    /// What the call would hold.
    pub hold: Option<String>,
    /// Output tokens of one choice, at the most.
    pub output_cap: Option<u32>,
    pub why: Why,
}

/// Decides a call with this body as if the key had made it now, at this endpoint and from this address.
pub fn call(
    app: &App,
    key: &Key,
    asked: &Sample<'_>,
    address: Option<IpAddr>,
    audience: Audience,
    language: Language,
) -> Simulation {
    let snapshot = app.directory.snapshot_owned();
    let at = app.books.now();
    let facts = Facts {
        request: RequestId::from_raw(0),
        at_ms: at.0,
        config_version: snapshot.version(),
        address: Checked::Passed(asked.endpoint),
        credential: Checked::Passed(Credential::of(key)),
        body: identify::call_body(
            asked.body.len(),
            &ModelRequest::read(asked.endpoint, asked.media_type, &asked.body),
        ),
        client: Client { address, ..Client::default() },
        repetition: Repetition::default(),
    };
    let model = facts.body.passed().map(|body| &*body.model);
    let caller = Caller::of_key(&snapshot, key.id);
    let mut readings =
        caller.map(|caller| app.books.read(&Scope::of(&snapshot, caller, &facts))).unwrap_or_default();
    if let (Some(caller), Some(entry)) = (caller, model.and_then(|name| snapshot.model(name))) {
        let candidates = caller.candidates(&snapshot, entry);
        let channels = candidates.all().map(|candidate| candidate.channel);
        readings.channels = app.channels.resting(channels, &entry.model.name, app.clock.mono_ns(), at.0);
    }
    let policy = app.hold_policy();
    let verdict = ladder::decide(&snapshot, &facts, &readings, &policy);
    let (refusal, admitted) = match verdict {
        Verdict::Refuse(refusal) => (Some(refusal), None),
        Verdict::Admit(admission) => {
            let sizing = admission.sizing;
            (
                None,
                Some(Admitted {
                    price: admission.price.id,
                    multiplier_ppm: admission.multiplier_ppm,
                    channel: admission.first.channel.id,
                    hold: sizing.hold,
                    output_cap: sizing.output_cap,
                    cap_reason: sizing.cap_reason,
                }),
            )
        }
    };
    let decided = Arc::new(Decided { readings: Some(readings), refusal, admitted, ..Decided::new(facts) });
    let case =
        Case { decided, outcome: None, money: Vec::new(), refunded: ledger::Nano::ZERO, snapshot, policy };
    let why = Why { request_id: None, ..why::explain(&case, audience, language) };
    Simulation {
        would: if admitted.is_some() { "pass" } else { "fail" },
        hold: admitted.map(|admitted| admitted.hold.to_string()),
        output_cap: admitted.map(|admitted| admitted.output_cap),
        why,
    }
}
