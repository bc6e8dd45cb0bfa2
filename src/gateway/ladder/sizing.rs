//! How much a call holds and how long its answer may be.
//!
//! The hold covers the dearest way in which the call can end: every input token at the dearest input
//! class, and as many output tokens as the cap allows at the dearest output class. So nothing goes below
//! zero. A caller who set no cap gets one that a share of the usable money buys, so that a cent's answer
//! does not block a dollar.

use ledger::Nano;

use crate::catalogue::{Code, Refusal};
use crate::directory::{Model, decimal};
use crate::gateway::facts::{CallBody, CapReason, Endpoint, Output};

use super::case::{Case, HoldPolicy};
use super::units;

/// What is held and what is promised for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    pub hold: Nano,
    /// Output tokens of one choice, at the most; goes upstream as an explicit maximum.
    pub output_cap: u32,
    pub cap_reason: CapReason,
    /// Upper bound of the input's tokens, those of images and sound among them.
    pub input_tokens: u64,
}

impl Sizing {
    /// Of a call that costs nothing and uses nothing.
    const NOTHING: Sizing =
        Sizing { hold: Nano::ZERO, output_cap: 0, cap_reason: CapReason::Model, input_tokens: 0 };

    /// Tokens that the call can come to at the most.
    pub fn tokens(&self, call: &CallBody) -> u64 {
        let output = u64::from(call.choices).saturating_mul(u64::from(self.output_cap));
        self.input_tokens.saturating_add(output)
    }
}

/// `None` while the model or its price is not known; a refusal if a part of the request cannot be bounded.
pub fn size(case: &Case<'_>, policy: &HoldPolicy) -> Option<Result<Sizing, Refusal>> {
    let (call, model, price) = (case.call?, case.model?, case.price?);
    let endpoint = case.endpoint();
    if endpoint.is_count() {
        return Some(Ok(Sizing::NOTHING));
    }
    let rates = price.rates();
    let input_tokens = match input_tokens(call, &model.model, endpoint, &rates) {
        Ok(tokens) => tokens,
        Err(refusal) => return Some(Err(refusal)),
    };
    let units = match units::cost(call, &model.model, price, endpoint) {
        Ok(units) => units,
        Err(refusal) => return Some(Err(refusal)),
    };
    let multiplier = i128::from(case.multiplier_ppm);
    let per_call = i128::from(rates.per_call.0) * MILLION;
    let costs = Costs {
        fixed: (per_call + units + input_tokens * i128::from(rates.dearest_input().0)) * multiplier,
        output_token: i128::from(call.choices) * i128::from(rates.dearest_output().0) * multiplier,
    };
    let input_tokens = u64::try_from(input_tokens).unwrap_or(u64::MAX);
    let rate = case.readings.rate.and_then(|rate| rate.limits.tokens_per_minute);
    let (output_cap, cap_reason) = match call.output_cap {
        _ if endpoint.output() == Output::None => (0, CapReason::Model),
        // Where tokens are not sold nobody counts them.
        _ if endpoint.output() == Output::UpToTheModel && !price.sells_tokens() => (0, CapReason::Model),
        _ if endpoint.output() == Output::UpToTheModel => (model.model.output_tokens_max, CapReason::Model),
        Some(cap) if cap > model.model.output_tokens_max => {
            (model.model.output_tokens_max, CapReason::Lowered)
        }
        Some(cap) => (cap, CapReason::Caller),
        None => {
            let bought = costs.cap(case.usable(), model.model.output_tokens_max, policy);
            rate.map_or(bought, |rate| shared(rate, input_tokens, call.choices, bought, policy))
        }
    };
    let sized = |hold| Sizing { hold, output_cap, cap_reason, input_tokens };
    Some(match costs.total(output_cap).map(sized) {
        Some(sizing) => match rate.filter(|rate| sizing.tokens(call) > *rate) {
            None => Ok(sizing),
            Some(rate) => Err(beyond_rate(sizing.tokens(call), rate)),
        },
        None => Err(Refusal::new(Code::InvalidParameter)
            .field("max_tokens")
            .param("reason", "the answer's highest cost is beyond what can be held")),
    })
}

/// Upper bound of the input's tokens with those of its images and sound.
fn input_tokens(
    call: &CallBody,
    model: &Model,
    endpoint: Endpoint,
    rates: &ledger::Price,
) -> Result<i128, Refusal> {
    let parts = [
        ("image", call.image_parts, model.image_tokens_max),
        ("audio", call.audio_parts, model.audio_tokens_max),
    ];
    // Where no input costs anything, there is nothing to bound.
    let is_free = endpoint.output() != Output::Capped && rates.dearest_input() == Nano::ZERO;
    let mut tokens = i128::from(call.input_tokens_bound);
    for (kind, count, tokens_max) in parts {
        match tokens_max {
            _ if count == 0 => {}
            Some(tokens_max) => tokens += i128::from(count) * i128::from(tokens_max),
            None if is_free => {}
            None => return Err(unbounded(kind, &model.name, endpoint)),
        }
    }
    Ok(tokens)
}

/// The cap that a share of the key's tokens per minute allows, if that is less.
fn shared(
    rate: u64,
    input_tokens: u64,
    choices: u32,
    bought: (u32, CapReason),
    policy: &HoldPolicy,
) -> (u32, CapReason) {
    let left = rate.saturating_sub(input_tokens) / u64::from(choices.max(1));
    let share = u128::from(left) * u128::from(policy.output_share_ppm) / 1_000_000;
    let share = u64::try_from(share).unwrap_or(u64::MAX);
    let floor = left.min(u64::from(policy.output_tokens_floor));
    let allowed = share.max(floor).max(u64::from(policy.output_tokens_min));
    match u32::try_from(allowed) {
        Ok(allowed) if allowed < bought.0 => (allowed, CapReason::Rate),
        _ => bought,
    }
}

/// No wait would ever let the call pass.
fn beyond_rate(tokens: u64, rate: u64) -> Refusal {
    let reason = (
        &*format!("input and answer can come to {tokens} tokens, and the key may have {rate} in a minute"),
        &*format!("输入与回答最多 {tokens} 个 token，而该 Key 每分钟上限为 {rate} 个"),
    );
    Refusal::new(Code::InvalidParameter).field("max_tokens").param("reason", reason)
}

fn unbounded(kind: &str, model: &str, endpoint: Endpoint) -> Refusal {
    let field = match endpoint {
        Endpoint::Transcriptions => "file",
        Endpoint::ImageEdits | Endpoint::Images => "image",
        Endpoint::Responses | Endpoint::Moderations => "input",
        _ => "messages",
    };
    Refusal::new(Code::InvalidParameter)
        .field(field)
        .param("reason", format!("{kind} parts cannot be priced for the model {model}"))
}

const MILLION: i128 = 1_000_000;
/// Costs are kept exact: nano-units × tokens per million × millionths of the multiplier.
const SCALE: i128 = MILLION * decimal::PPM as i128;

struct Costs {
    fixed: i128,
    output_token: i128,
}

impl Costs {
    /// Rounded up to the nano: a hold is never smaller than what it covers.
    fn total(&self, output_tokens: u32) -> Option<Nano> {
        let exact = self.fixed + self.output_token * i128::from(output_tokens);
        let nano = (exact + SCALE - 1).div_euclid(SCALE);
        i64::try_from(nano).ok().map(Nano)
    }

    /// Output tokens of one choice that `money` buys after the input is paid.
    fn buys(&self, money: i128) -> u32 {
        let left = money - self.fixed;
        match left {
            _ if left < 0 => 0,
            _ if self.output_token == 0 => u32::MAX,
            _ => u32::try_from(left / self.output_token).unwrap_or(u32::MAX),
        }
    }

    fn cap(&self, usable: Nano, model_max: u32, policy: &HoldPolicy) -> (u32, CapReason) {
        let money = i128::from(usable.0.max(0)) * SCALE;
        let share = self.buys(money / MILLION * i128::from(policy.output_share_ppm));
        let all = self.buys(money).min(policy.output_tokens_floor);
        let bought = share.max(all).max(policy.output_tokens_min);
        if bought < model_max { (bought, CapReason::Money) } else { (model_max, CapReason::Model) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: HoldPolicy =
        HoldPolicy { output_share_ppm: 250_000, output_tokens_floor: 1_000, output_tokens_min: 16 };

    /// 1 nano per input and 2 nano per output token.
    fn costs(input_tokens: i128) -> Costs {
        Costs { fixed: input_tokens * SCALE, output_token: 2 * SCALE }
    }

    #[test]
    fn a_rich_account_gets_the_models_maximum() {
        assert_eq!(costs(100).cap(Nano(1_000_000), 4_096, &POLICY), (4_096, CapReason::Model));
    }

    #[test]
    fn a_share_of_the_money_shortens_the_answer() {
        assert_eq!(costs(100).cap(Nano(20_100), 4_096, &POLICY), (2_462, CapReason::Money));
    }

    #[test]
    fn a_poor_account_still_gets_the_floor_while_the_money_lasts() {
        assert_eq!(costs(100).cap(Nano(2_100), 4_096, &POLICY), (1_000, CapReason::Money));
        assert_eq!(costs(100).cap(Nano(300), 4_096, &POLICY), (100, CapReason::Money));
    }

    #[test]
    fn an_empty_purse_asks_for_the_least_answer() {
        let (cap, _) = costs(100).cap(Nano(0), 4_096, &POLICY);
        assert_eq!((cap, costs(100).total(cap)), (16, Some(Nano(132))));
    }

    #[test]
    fn an_answer_that_costs_nothing_needs_no_money_to_be_long() {
        let free = Costs { fixed: 0, output_token: 0 };
        assert_eq!(free.cap(Nano(0), 4_096, &POLICY), (4_096, CapReason::Model));
        let prompt_alone = Costs { fixed: 100 * SCALE, output_token: 0 };
        assert_eq!(prompt_alone.cap(Nano(400), 4_096, &POLICY), (4_096, CapReason::Model));
    }

    #[test]
    fn a_hold_is_rounded_up() {
        let costs = Costs { fixed: 1, output_token: 0 };
        assert_eq!(costs.total(10), Some(Nano(1)));
    }
}
