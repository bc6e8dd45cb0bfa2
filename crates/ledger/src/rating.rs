//! What a call costs: token classes × the price of its version × the multiplier of its group.

use std::fmt;

use crate::money::Nano;

/// Kinds of tokens, disjoint: a token counts in one class only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenClass {
    Input = 0,
    CacheRead = 1,
    CacheWrite = 2,
    Output = 3,
    Reasoning = 4,
    AudioIn = 5,
    AudioOut = 6,
    ImageIn = 7,
}

impl TokenClass {
    pub const COUNT: usize = 8;
    pub const ALL: [TokenClass; Self::COUNT] = [
        TokenClass::Input,
        TokenClass::CacheRead,
        TokenClass::CacheWrite,
        TokenClass::Output,
        TokenClass::Reasoning,
        TokenClass::AudioIn,
        TokenClass::AudioOut,
        TokenClass::ImageIn,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            TokenClass::Input => "input",
            TokenClass::CacheRead => "cache_read",
            TokenClass::CacheWrite => "cache_write",
            TokenClass::Output => "output",
            TokenClass::Reasoning => "reasoning",
            TokenClass::AudioIn => "audio_in",
            TokenClass::AudioOut => "audio_out",
            TokenClass::ImageIn => "image_in",
        }
    }

    /// The class whose price applies where this one has none of its own.
    pub fn parent(self) -> TokenClass {
        match self {
            TokenClass::Output | TokenClass::Reasoning | TokenClass::AudioOut => TokenClass::Output,
            _ => TokenClass::Input,
        }
    }
}

/// Tokens of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub tokens: [u64; TokenClass::COUNT],
}

impl Usage {
    pub fn get(&self, class: TokenClass) -> u64 {
        self.tokens.get(class as usize).copied().unwrap_or(0)
    }

    pub fn set(&mut self, class: TokenClass, tokens: u64) {
        if let Some(slot) = self.tokens.get_mut(class as usize) {
            *slot = tokens;
        }
    }

    pub fn is_zero(&self) -> bool {
        self.tokens.iter().all(|tokens| *tokens == 0)
    }
}

/// Price per million tokens of each class, and per call, in nano-units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// A class without a price is charged as its [parent](TokenClass::parent); a parent without one is free.
    pub per_million: [Option<Nano>; TokenClass::COUNT],
    pub per_call: Nano,
}

impl Price {
    /// Price per million tokens of a class.
    pub fn of(&self, class: TokenClass) -> Nano {
        let own = |class: TokenClass| self.per_million.get(class as usize).copied().flatten();
        own(class).or_else(|| own(class.parent())).unwrap_or(Nano::ZERO)
    }

    /// The highest price per million that an input token can cost.
    pub fn dearest_input(&self) -> Nano {
        self.dearest(TokenClass::Input)
    }

    /// The highest price per million that an output token can cost.
    pub fn dearest_output(&self) -> Nano {
        self.dearest(TokenClass::Output)
    }

    fn dearest(&self, parent: TokenClass) -> Nano {
        let of_parent = TokenClass::ALL.into_iter().filter(|class| class.parent() == parent);
        of_parent.map(|class| self.of(class)).max().unwrap_or(Nano::ZERO)
    }
}

/// One line of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub class: TokenClass,
    pub tokens: u64,
    /// Nano-units per million tokens.
    pub per_million: Nano,
    /// Exact cost before the multiplier, in millionths of a nano-unit: `tokens × per_million`.
    pub exact: i128,
}

/// What a usage costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// A line for each class that was used.
    pub lines: Vec<Line>,
    pub per_call: Nano,
    /// Millionths.
    pub multiplier_ppm: u64,
    /// The sum, rounded once, half to even.
    pub total: Nano,
    /// What the rounding took away (positive) or added, in 10⁻¹² nano-units.
    pub rounded_off: i128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatingError {
    /// The cost does not fit an amount.
    TooLarge,
}

impl fmt::Display for RatingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cost is too large")
    }
}

impl std::error::Error for RatingError {}

const MILLION: i128 = 1_000_000;
/// Per-million prices times millionths of a multiplier.
const SCALE: i128 = MILLION * MILLION;

/// Rates a usage. One rounding, of the total, half to even, to the nano-unit.
pub fn rate(price: &Price, usage: &Usage, multiplier_ppm: u64) -> Result<Rated, RatingError> {
    let lines: Vec<Line> = TokenClass::ALL
        .into_iter()
        .map(|class| {
            let (tokens, per_million) = (usage.get(class), price.of(class));
            Line { class, tokens, per_million, exact: i128::from(tokens) * i128::from(per_million.0) }
        })
        .filter(|line| line.tokens > 0)
        .collect();
    let per_call = i128::from(price.per_call.0) * MILLION;
    let sum = lines.iter().try_fold(per_call, |sum, line| sum.checked_add(line.exact));
    let exact =
        sum.and_then(|sum| sum.checked_mul(i128::from(multiplier_ppm))).ok_or(RatingError::TooLarge)?;
    let total = i64::try_from(round_half_even(exact, SCALE)).map_err(|_| RatingError::TooLarge)?;
    Ok(Rated {
        lines,
        per_call: price.per_call,
        multiplier_ppm,
        rounded_off: exact - i128::from(total) * SCALE,
        total: Nano(total),
    })
}

fn round_half_even(exact: i128, scale: i128) -> i128 {
    let (whole, rest) = (exact.div_euclid(scale), exact.rem_euclid(scale));
    let half = scale / 2;
    let round_half_up = crate::plant::planted!(HalfUpRounding);
    match rest.cmp(&half) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal if round_half_up => whole + 1,
        std::cmp::Ordering::Equal => whole + (whole & 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(input: i64, output: i64) -> Price {
        let mut price = Price::default();
        price.per_million[TokenClass::Input as usize] = Some(Nano(input));
        price.per_million[TokenClass::Output as usize] = Some(Nano(output));
        price
    }

    fn usage(entries: &[(TokenClass, u64)]) -> Usage {
        let mut usage = Usage::default();
        entries.iter().for_each(|(class, tokens)| usage.set(*class, *tokens));
        usage
    }

    #[test]
    fn token_classes_are_disjoint_and_charged_once() {
        // S15: $0.25 and $2 per million; 1,000 input of which 800 were read from the cache at a tenth.
        let mut price = price(250_000_000, 2_000_000_000);
        price.per_million[TokenClass::CacheRead as usize] = Some(Nano(25_000_000));
        let usage =
            usage(&[(TokenClass::Input, 200), (TokenClass::CacheRead, 800), (TokenClass::Output, 100)]);
        let rated = rate(&price, &usage, 1_000_000).unwrap();
        assert_eq!(rated.total, Nano(50_000 + 20_000 + 200_000));
        assert_eq!(rated.lines.len(), 3);
    }

    #[test]
    fn a_class_without_a_price_costs_what_its_parent_costs() {
        let rated = rate(&price(1_000_000, 3_000_000), &usage(&[(TokenClass::Reasoning, 5)]), 1_000_000);
        assert_eq!(rated.unwrap().total, Nano(15));
    }

    #[test]
    fn the_total_is_rounded_once_half_to_even() {
        let half =
            |tokens| rate(&price(500_000, 0), &usage(&[(TokenClass::Input, tokens)]), 1_000_000).unwrap();
        assert_eq!([half(1).total, half(3).total, half(5).total], [Nano(0), Nano(2), Nano(2)]);
        // Three halves are rounded as one sum, not three times.
        let mut price = price(500_000, 500_000);
        price.per_million[TokenClass::CacheRead as usize] = Some(Nano(500_000));
        let used = usage(&[(TokenClass::Input, 1), (TokenClass::CacheRead, 1), (TokenClass::Output, 1)]);
        assert_eq!(rate(&price, &used, 1_000_000).unwrap().total, Nano(2));
    }

    #[test]
    fn the_multiplier_is_exact() {
        let rated = rate(&price(1_000_000, 0), &usage(&[(TokenClass::Input, 1_000)]), 1_250_000).unwrap();
        assert_eq!((rated.total, rated.rounded_off), (Nano(1_250), 0));
    }

    #[test]
    fn an_absurd_usage_is_an_error() {
        let used = usage(&[(TokenClass::Input, u64::MAX), (TokenClass::Output, u64::MAX)]);
        assert_eq!(rate(&price(i64::MAX, i64::MAX), &used, u64::MAX), Err(RatingError::TooLarge));
    }
}
