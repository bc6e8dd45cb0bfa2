//! What a call can cost beside its tokens: pictures, time, characters, searches, each at the dearest price that can come
//! to apply. What cannot be bounded is refused.

use ledger::Unit;

use crate::catalogue::{Code, Refusal};
use crate::directory::{Model, Price};
use crate::gateway::facts::{CallBody, Endpoint};

/// Whether a price says what calls at this endpoint cost. Where only units are sold, it is those that the endpoint
/// has; a moderation has none.
pub fn covers(price: &Price, endpoint: Endpoint) -> bool {
    // No upstream tells the tokens of a video.
    if endpoint == Endpoint::Videos {
        return price.sells(Unit::Second) || price.per_call.is_positive();
    }
    price.units.is_empty()
        || price.sells_tokens()
        || price.per_call.is_positive()
        || endpoint == Endpoint::Moderations
        || endpoint.unit().is_some_and(|unit| price.sells(unit))
}

/// The highest cost, exact, in millionths of a nano-unit and before the multiplier.
pub fn cost(call: &CallBody, model: &Model, price: &Price, endpoint: Endpoint) -> Result<i128, Refusal> {
    let Some(unit) = endpoint.unit() else { return Ok(0) };
    if !price.sells(unit) {
        return sold_by_tokens(call, model, price, endpoint).map(|()| 0);
    }
    let Some(asked) = call.units.as_deref() else { return Ok(0) };
    let row = price.dearest_row(unit, asked.variant());
    if row == 0 {
        return Err(Refusal::new(Code::InvalidParameter)
            .field("size")
            .param("reason", format!("this size and quality have no price for the model {}", model.name)));
    }
    let counted = asked.count(unit).or_else(|| model.audio_seconds_max.map(|most| u64::from(most) * 1_000));
    match counted {
        Some(counted) => Ok(price.rates_at(row).of_units(unit, counted)),
        None => Err(Refusal::new(Code::InvalidParameter).field("file").param(
            "reason",
            format!("nobody knows how long a recording for the model {} may be", model.name),
        )),
    }
}

/// An upstream tells the tokens of spoken answers in streams of events alone.
fn sold_by_tokens(call: &CallBody, model: &Model, price: &Price, endpoint: Endpoint) -> Result<(), Refusal> {
    let is_untold = endpoint == Endpoint::Speech && price.sells_tokens() && !call.stream;
    if endpoint.unit() == Some(Unit::Character) && is_untold {
        let reason = format!("the model {} is priced by tokens, which only a stream (sse) tells", model.name);
        return Err(Refusal::new(Code::InvalidParameter).field("stream_format").param("reason", reason));
    }
    Ok(())
}
