//! Money: whole nano-units of the ledger currency. 1 unit = 1,000,000,000 nano-units, so the largest amount
//! is about 9.2 billion units.

use std::fmt;

/// Decimal places of a unit.
const PLACES: usize = 9;
const NANO_PER_UNIT: u64 = 1_000_000_000;

/// An amount in nano-units; may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nano(pub i64);

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// Not of the form `-12.345`: no exponent, no sign but minus, no blanks, digits on both sides of a point.
    Malformed,
    /// More than nine decimal places; nothing is rounded silently.
    TooPrecise,
    TooLarge,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MoneyError::Malformed => "an amount is written as digits with at most one decimal point",
            MoneyError::TooPrecise => "an amount has at most nine decimal places",
            MoneyError::TooLarge => "the amount is too large",
        })
    }
}

impl std::error::Error for MoneyError {}

impl Nano {
    pub const ZERO: Nano = Nano(0);
    pub const MAX: Nano = Nano(i64::MAX);

    pub fn checked_add(self, other: Nano) -> Option<Nano> {
        self.0.checked_add(other.0).map(Nano)
    }

    pub fn checked_sub(self, other: Nano) -> Option<Nano> {
        self.0.checked_sub(other.0).map(Nano)
    }

    #[must_use]
    pub fn saturating_add(self, other: Nano) -> Nano {
        Nano(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub fn saturating_sub(self, other: Nano) -> Nano {
        Nano(self.0.saturating_sub(other.0))
    }

    pub fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Reads a plain decimal such as "5", "0.0021" or "-0.5", exactly.
    pub fn parse_decimal(text: &str) -> Result<Nano, MoneyError> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(MoneyError::Malformed);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > PLACES {
            return Err(MoneyError::TooPrecise);
        }
        let magnitude = format!("{whole}{fraction:0<PLACES$}");
        let magnitude: i128 = magnitude.parse().map_err(|_| MoneyError::TooLarge)?;
        let signed = if negative { -magnitude } else { magnitude };
        i64::try_from(signed).map(Nano).map_err(|_| MoneyError::TooLarge)
    }
}

/// The shortest plain decimal: "5", "0.0021", "-0.5".
impl fmt::Display for Nano {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, fraction) = (magnitude / NANO_PER_UNIT, magnitude % NANO_PER_UNIT);
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return f.pad(&format!("{sign}{whole}"));
        }
        let text = format!("{sign}{whole}.{fraction:09}");
        f.pad(text.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(Nano::parse_decimal("0.0021"), Ok(Nano(2_100_000)));
        assert_eq!(Nano::parse_decimal("-0.5"), Ok(Nano(-500_000_000)));
        assert_eq!(Nano::parse_decimal("10000"), Ok(Nano(10_000_000_000_000)));
        assert_eq!(Nano::parse_decimal("1.0000000010"), Ok(Nano(1_000_000_001)));
        assert_eq!(Nano::parse_decimal("0.0000000001"), Err(MoneyError::TooPrecise));
        assert_eq!(Nano::parse_decimal("9223372036.854775808"), Err(MoneyError::TooLarge));
        for text in ["", "-", ".5", "5.", "1e3", "+1", " 1", "1,5", "1_0", "٣", "--1", "0x1"] {
            assert_eq!(Nano::parse_decimal(text), Err(MoneyError::Malformed), "{text}");
        }
        assert_eq!(Nano(-2_260_000_000).to_string(), "-2.26");
        assert_eq!(Nano(i64::MIN).to_string(), "-9223372036.854775808");
    }

    proptest! {
        #[test]
        fn every_amount_survives_there_and_back(amount: i64) {
            prop_assert_eq!(Nano::parse_decimal(&Nano(amount).to_string()), Ok(Nano(amount)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = Nano::parse_decimal(&text);
        }
    }
}
