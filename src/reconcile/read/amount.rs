//! Amounts as files write them.
//!
//! Must never: guess. A mark that may be a decimal one or one of thousands is refused, until a mapping says which it is.

use ledger::Nano;

use crate::reconcile::format::Decimal;

/// How a file writes its amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notation {
    /// `None`: a point, and commas only where they can mean nothing but thousands.
    pub decimal: Option<Decimal>,
    /// Such as 1e-5.
    pub exponents: bool,
    /// Places that the amounts are moved right by: cents to units.
    pub places: u32,
    /// More places than a nano-unit has are rounded, half to even; else refused.
    pub round: bool,
}

const NANO_PLACES: i64 = 9;
const NO_NUMBER: &str = "is no number";
const EXPONENT: &str = "is no number without an exponent";
const NO_GROUPS: &str =
    "has a comma that parts no thousands; where it is the decimal mark, a mapping says so: decimal = \",\"";
const NO_POINT_GROUPS: &str = "has a point that parts no thousands, where the comma is the decimal mark";
const TWO_WAYS: &str =
    "can be read in two ways; a mapping says what its mark is: decimal = \".\" or decimal = \",\"";

impl Notation {
    /// Reads an exact decimal.
    pub fn read(self, text: &str) -> Result<Nano, &'static str> {
        let (negative, text) = bare(text);
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((_, exponent)) if !self.exponents => {
                return Err(if exponent.parse::<i32>().is_ok() { EXPONENT } else { NO_NUMBER });
            }
            Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| NO_NUMBER)?),
            None => (text, 0),
        };
        let (whole, fraction) = self.parts(number)?;
        let all = [&*whole, fraction].concat();
        if all.is_empty() || all.len() > 36 || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NO_NUMBER);
        }
        let digits: i128 = all.parse().map_err(|_| NO_NUMBER)?;
        let shift = NANO_PLACES + i64::from(exponent) - i64::from(self.places) - fraction.len() as i64;
        let nano = shifted(digits, shift, self.round)?;
        i64::try_from(if negative { -nano } else { nano }).map(Nano).map_err(|_| "is too large")
    }

    /// The digits before the decimal mark, without the marks between thousands, and those behind it.
    fn parts(self, number: &str) -> Result<(String, &str), &'static str> {
        let (mark, thousands, wrong) = match self.decimal {
            Some(Decimal::Comma) => (',', '.', NO_POINT_GROUPS),
            Some(Decimal::Point) | None => ('.', ',', NO_GROUPS),
        };
        let has_mark = number.contains(mark);
        let (whole, fraction) = number.split_once(mark).unwrap_or((number, ""));
        if !number.contains(thousands) {
            return Ok((whole.to_owned(), fraction));
        }
        let mut groups = whole.split(thousands);
        let first = groups.next().map_or(0, str::len);
        let fits =
            (1..=3).contains(&first) && groups.all(|group| group.len() == 3) && !fraction.contains(thousands);
        match fits {
            false => Err(wrong),
            true if !has_mark && self.decimal.is_none() => Err(TWO_WAYS),
            true => Ok((whole.replace(thousands, ""), fraction)),
        }
    }
}

/// Whether it is below zero, and the number without its sign and the currency's.
fn bare(text: &str) -> (bool, &str) {
    let is_around = |c: char| c.is_whitespace() || matches!(c, '¥' | '$' | '€' | '￥');
    let text = text.trim_matches(is_around);
    match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest.trim_matches(is_around)),
        None => (false, text),
    }
}

/// Digits moved left by some places, or right and rounded.
fn shifted(digits: i128, places: i64, round: bool) -> Result<i128, &'static str> {
    let power = |by: i64| u32::try_from(by).ok().and_then(|by| 10_i128.checked_pow(by));
    if digits == 0 {
        return Ok(0);
    }
    if places >= 0 {
        return power(places).and_then(|power| digits.checked_mul(power)).ok_or("is too large");
    }
    let Some(unit) = power(-places) else {
        return if round { Ok(0) } else { Err("has more than nine places") };
    };
    let (kept, rest) = (digits / unit, digits % unit);
    if rest != 0 && !round {
        return Err("has more than nine places");
    }
    Ok(kept + i128::from(rest > unit - rest || (rest == unit - rest && kept % 2 == 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Notation = Notation { decimal: None, exponents: false, places: 0, round: false };

    #[test]
    fn amounts_are_exact_or_rounded_once() {
        let rounded = Notation { round: true, ..PLAIN };
        assert_eq!(Notation { places: 2, ..PLAIN }.read("123.45"), Ok(Nano(1_234_500_000)));
        assert_eq!(PLAIN.read("-0.1"), Ok(Nano(-100_000_000)));
        assert_eq!(rounded.read("0.0000000015"), Ok(Nano(2)));
        assert_eq!(rounded.read("0.0000000025"), Ok(Nano(2)));
        assert_eq!(PLAIN.read("0.0000000015"), Err("has more than nine places"));
        assert_eq!(PLAIN.read("99999999999"), Err("is too large"));
        for text in ["", "-", "1.2.3", "1e", "0x1", "1 2", "--1", "1$0", ",", ".", "1-"] {
            assert!(rounded.read(text).is_err(), "{text}");
        }
        for text in ["-$4.50", "$-4.50", "-4.50 €", " -4.5"] {
            assert_eq!(PLAIN.read(text), Ok(Nano(-4_500_000_000)), "{text}");
        }
    }

    /// B7: a comma is one of thousands only where it can be nothing else, and a mapping may say what the marks are.
    #[test]
    fn b7_a_decimal_comma_is_never_read_as_thousands() {
        let comma = Notation { decimal: Some(Decimal::Comma), ..PLAIN };
        let point = Notation { decimal: Some(Decimal::Point), ..PLAIN };
        for (notation, text, read) in [
            (PLAIN, "1,234,567.89", Ok(Nano(1_234_567_890_000_000))),
            (PLAIN, "-1,000.00", Ok(Nano(-1_000_000_000_000))),
            (PLAIN, "100,00", Err(NO_GROUPS)),
            (PLAIN, "1,00.00", Err(NO_GROUPS)),
            (PLAIN, "1.234,56", Err(NO_GROUPS)),
            (PLAIN, "1,2345.6", Err(NO_GROUPS)),
            (PLAIN, ",000.00", Err(NO_GROUPS)),
            (PLAIN, "1,000", Err(TWO_WAYS)),
            (point, "1,000", Ok(Nano(1_000_000_000_000))),
            (point, "100,00", Err(NO_GROUPS)),
            (comma, "100,00", Ok(Nano(100_000_000_000))),
            (comma, "0,125", Ok(Nano(125_000_000))),
            (comma, "1.234,56", Ok(Nano(1_234_560_000_000))),
            (comma, "1.000", Ok(Nano(1_000_000_000_000))),
            (comma, "100.00", Err(NO_POINT_GROUPS)),
            (comma, "1,234.56", Err(NO_POINT_GROUPS)),
        ] {
            assert_eq!(notation.read(text), read, "{text} by {notation:?}");
        }
    }

    #[test]
    fn b7_exponents_are_read_where_a_format_has_them_alone() {
        assert_eq!(PLAIN.read("1e2"), Err(EXPONENT));
        assert_eq!(PLAIN.read("1E-5"), Err(EXPONENT));
        assert_eq!(PLAIN.read("ten"), Err(NO_NUMBER));
        let with = Notation { exponents: true, ..PLAIN };
        assert_eq!(with.read("1e-5"), Ok(Nano(10_000)));
        assert_eq!(with.read("1e400"), Err("is too large"));
        assert_eq!(with.read("1e"), Err(NO_NUMBER));
    }
}
