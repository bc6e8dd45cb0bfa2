//! What a task can cost at the most, before it is submitted: priced and decided by the code of a real submission,
//! without a call, a charge or a trace (G4).

use std::net::IpAddr;

use bytes::Bytes;
use ledger::{Nano, Unit};
use serde::Serialize;

use crate::app::App;
use crate::catalogue::{Code, Refusal};
use crate::directory::{Key, Variant, decimal};
use crate::gateway::facts::{Checked, Client, Credential, Facts, Repetition};
use crate::gateway::identify;
use crate::gateway::ladder::{self, Caller, Case, Scope, Verdict};
use crate::gateway::request::ModelRequest;
use crate::id::RequestId;
use crate::tasks::TaskKind;

#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    pub model: String,
    /// Of a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// How many pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
    pub size: Option<String>,
    pub quality: Option<String>,
    /// What a submission would hold, and the most that it could be charged.
    #[serde(with = "decimal::money")]
    pub cost_max: Nano,
    pub currency: String,
    /// The price version that would be frozen.
    pub price: String,
    pub price_version: u32,
    /// Of one second or one picture of this size and quality; `None`: it is sold by tokens.
    #[serde(with = "decimal::optional_money")]
    pub per_unit: Option<Nano>,
    pub multiplier: String,
    #[serde(with = "decimal::optional_money")]
    pub task_cost_cap: Option<Nano>,
    /// The cost is beyond the cap: it is to be sent in `x-tallygate-confirm-cost`.
    pub needs_confirmation: bool,
    /// pass or fail: what a submission would meet now, confirmed if that is needed.
    pub would: &'static str,
    /// Why it would be refused.
    pub code: Option<Code>,
}

/// `Err`: the request is wrong, or its model has no price.
pub fn task(
    app: &App,
    key: &Key,
    kind: TaskKind,
    body: &Bytes,
    address: Option<IpAddr>,
) -> Result<Estimate, Box<Refusal>> {
    let (endpoint, unit) = (kind.lane(), kind.unit());
    let snapshot = app.directory.snapshot_owned();
    let at = app.books.now();
    let facts = Facts {
        request: RequestId::from_raw(0),
        at_ms: at.0,
        config_version: snapshot.version(),
        address: Checked::Passed(endpoint),
        credential: Checked::Passed(Credential::of(key)),
        body: identify::call_body(body.len(), &ModelRequest::read(endpoint, None, body)),
        // So that the cap is told apart from everything else that could refuse.
        client: Client { address, confirmed_cost: Some(Nano::MAX), ..Client::default() },
        repetition: Repetition::default(),
    };
    let readings = Caller::of_key(&snapshot, key.id)
        .map(|caller| app.books.read(&Scope::of(&snapshot, caller, &facts)))
        .unwrap_or_default();
    let policy = app.hold_policy();
    let refusal = match ladder::decide(&snapshot, &facts, &readings, &policy) {
        Verdict::Refuse(refusal) => Some(refusal),
        Verdict::Admit(_) => None,
    };
    let case = Case::new(&snapshot, &facts, &readings, &policy);
    let known = (case.call, case.price, case.hold());
    let (Some(call), Some(price), Some(cost_max)) = known else {
        return Err(refusal.unwrap_or_else(|| Box::new(Refusal::new(Code::ModelUnpriced))));
    };
    let asked = call.units.as_deref();
    let counted = asked.and_then(|asked| asked.count(unit));
    let variant = asked.map_or(Variant::default(), |asked| asked.variant());
    let rates = price.rates_at(price.dearest_row(unit, variant));
    let task_cost_cap = ladder::task_cost_cap(&case);
    Ok(Estimate {
        model: call.model.to_string(),
        seconds: counted.filter(|_| unit == Unit::Second).map(|ms| ms / 1_000),
        images: counted.filter(|_| unit == Unit::Image),
        size: variant.size.map(str::to_owned),
        quality: variant.quality.map(str::to_owned),
        cost_max,
        currency: app.currency().to_owned(),
        price: price.id.to_string(),
        price_version: price.version,
        per_unit: price.sells(unit).then(|| rates.of_unit(unit)),
        multiplier: decimal::multiplier_text(case.multiplier_ppm),
        task_cost_cap,
        needs_confirmation: task_cost_cap.is_some_and(|cap| cost_max > cap),
        would: if refusal.is_none() { "pass" } else { "fail" },
        code: refusal.map(|refusal| refusal.code),
    })
}
