//! What a call costs: what it used – tokens by class, and images, time, characters or searches – × the price of its
//! version × the multiplier of its group.

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

/// What is sold by something else than tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Image = 0,
    /// Counted in milliseconds, priced per second.
    Second = 1,
    /// Counted one by one, priced per million.
    Character = 2,
    Search = 3,
}

impl Unit {
    pub const COUNT: usize = 4;
    pub const ALL: [Unit; Self::COUNT] = [Unit::Image, Unit::Second, Unit::Character, Unit::Search];

    /// What the price is for one of.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Image => "image",
            Unit::Second => "second",
            Unit::Character => "million_characters",
            Unit::Search => "search",
        }
    }

    /// How many are counted for one that is priced.
    pub fn counted_per_priced(self) -> u64 {
        match self {
            Unit::Image | Unit::Search => 1,
            Unit::Second => 1_000,
            Unit::Character => 1_000_000,
        }
    }
}

/// What a call used: tokens of each class, and units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub tokens: [u64; TokenClass::COUNT],
    /// By [`Unit`], as they are counted.
    pub units: [u64; Unit::COUNT],
    /// Which row of the price version's table of units applied, from 1; 0: none did. A price has it applied already,
    /// so that it changes no sum here.
    pub row: u64,
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

    pub fn units(&self, unit: Unit) -> u64 {
        self.units.get(unit as usize).copied().unwrap_or(0)
    }

    pub fn set_units(&mut self, unit: Unit, counted: u64) {
        if let Some(slot) = self.units.get_mut(unit as usize) {
            *slot = counted;
        }
    }

    pub fn is_zero(&self) -> bool {
        self.tokens.iter().chain(&self.units).all(|used| *used == 0)
    }
}

/// What a usage is sold by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    Tokens,
    Unit(Unit),
}

impl Measure {
    pub const ALL: [Measure; 1 + Unit::COUNT] = [
        Measure::Tokens,
        Measure::Unit(Unit::Image),
        Measure::Unit(Unit::Second),
        Measure::Unit(Unit::Character),
        Measure::Unit(Unit::Search),
    ];

    /// `None`: nothing was used. A usage has units only where its price asks something for them, and of one kind.
    pub fn of(usage: &Usage) -> Option<Self> {
        let unit = Unit::ALL.into_iter().find(|unit| usage.units(*unit) > 0).map(Measure::Unit);
        unit.or_else(|| (!usage.is_zero()).then_some(Measure::Tokens))
    }

    /// What its price is for one of.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Tokens => "million_tokens",
            Measure::Unit(unit) => unit.as_str(),
        }
    }

    /// A number that it keeps for ever, from 1.
    pub fn number(self) -> u8 {
        match self {
            Measure::Tokens => 1,
            Measure::Unit(unit) => 2 + unit as u8,
        }
    }

    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.number() == number)
    }
}

/// Price per million tokens of each class, of each unit, and per call, in nano-units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// A class without a price is charged as its [parent](TokenClass::parent); a parent without one is free.
    pub per_million: [Option<Nano>; TokenClass::COUNT],
    /// By [`Unit`]; one without a price is free.
    pub per_unit: [Option<Nano>; Unit::COUNT],
    pub per_call: Nano,
}

impl Price {
    /// Price per million tokens of a class.
    pub fn of(&self, class: TokenClass) -> Nano {
        let own = |class: TokenClass| self.per_million.get(class as usize).copied().flatten();
        own(class).or_else(|| own(class.parent())).unwrap_or(Nano::ZERO)
    }

    /// Price of one image, one second, a million characters, one search.
    pub fn of_unit(&self, unit: Unit) -> Nano {
        self.per_unit.get(unit as usize).copied().flatten().unwrap_or(Nano::ZERO)
    }

    /// Exact cost of so many units as they are counted, in millionths of a nano-unit.
    pub fn of_units(&self, unit: Unit, counted: u64) -> i128 {
        let scale = MILLION / i128::from(unit.counted_per_priced());
        i128::from(counted) * i128::from(self.of_unit(unit).0) * scale
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

/// A line of a receipt for a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitLine {
    pub unit: Unit,
    /// As the unit is counted.
    pub counted: u64,
    /// Nano-units per one that is priced.
    pub per_unit: Nano,
    /// As in [`Line`].
    pub exact: i128,
}

/// What a usage costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// A line for each class that was used.
    pub lines: Vec<Line>,
    /// A line for each unit that was used and has a price.
    pub units: Vec<UnitLine>,
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
    let units: Vec<UnitLine> = Unit::ALL
        .into_iter()
        .filter(|unit| price.per_unit.get(*unit as usize).is_some_and(Option::is_some))
        .map(|unit| {
            let counted = usage.units(unit);
            UnitLine { unit, counted, per_unit: price.of_unit(unit), exact: price.of_units(unit, counted) }
        })
        .filter(|line| line.counted > 0)
        .collect();
    let per_call = i128::from(price.per_call.0) * MILLION;
    let exacts = lines.iter().map(|line| line.exact).chain(units.iter().map(|line| line.exact));
    let sum = exacts.into_iter().try_fold(per_call, i128::checked_add);
    let exact =
        sum.and_then(|sum| sum.checked_mul(i128::from(multiplier_ppm))).ok_or(RatingError::TooLarge)?;
    let total = i64::try_from(round_half_even(exact, SCALE)).map_err(|_| RatingError::TooLarge)?;
    Ok(Rated {
        lines,
        units,
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
    fn a_usage_is_sold_by_its_unit_or_else_by_tokens() {
        let mut usage = usage(&[(TokenClass::Input, 2)]);
        assert_eq!((Measure::of(&Usage::default()), Measure::of(&usage)), (None, Some(Measure::Tokens)));
        usage.set_units(Unit::Second, 1);
        assert_eq!(Measure::of(&usage), Some(Measure::Unit(Unit::Second)));
        for measure in Measure::ALL {
            assert_eq!(Measure::of_number(measure.number()), Some(measure));
        }
        assert_eq!(Measure::of_number(0), None);
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
    fn units_are_charged_beside_tokens_in_one_sum() {
        // $0.04 an image, $0.006 a minute, $15 a million characters, $2 for a thousand searches.
        let units = [40_000_000, 100_000, 15_000_000_000, 2_000_000];
        let price = Price { per_unit: units.map(|price| Some(Nano(price))), ..price(1_000_000, 0) };
        let mut used = usage(&[(TokenClass::Input, 7)]);
        for (unit, counted) in Unit::ALL.into_iter().zip([2, 12_345, 1_001, 3]) {
            used.set_units(unit, counted);
        }
        let rated = rate(&price, &used, 1_000_000).unwrap();
        let expected = 7 + 80_000_000 + 1_234_500 + 15_015_000 + 6_000_000;
        assert_eq!((rated.total, rated.lines.len(), rated.units.len()), (Nano(expected), 1, 4));
        // What has no price is counted and free.
        let free = Price { per_unit: [None; Unit::COUNT], ..price };
        assert_eq!(rate(&free, &used, 1_000_000).unwrap().total, Nano(7));
    }

    #[test]
    fn an_absurd_usage_is_an_error() {
        let used = usage(&[(TokenClass::Input, u64::MAX), (TokenClass::Output, u64::MAX)]);
        assert_eq!(rate(&price(i64::MAX, i64::MAX), &used, u64::MAX), Err(RatingError::TooLarge));
    }
}
