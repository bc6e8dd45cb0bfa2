//! Amounts as files write them.

use ledger::Nano;

/// An exact decimal, also with an exponent, moved right by some places (cents to units); in nano-units.
pub fn parse_amount(text: &str, places: u32, round: bool) -> Result<Nano, &'static str> {
    const NANO_PLACES: i64 = 9;
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| "is no number")?),
        None => (text, 0),
    };
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = [whole, fraction].concat();
    if all.is_empty() || all.len() > 36 || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is no number");
    }
    let digits: i128 = all.parse().map_err(|_| "is no number")?;
    let shift = NANO_PLACES + i64::from(exponent) - i64::from(places) - fraction.len() as i64;
    let power = |by: i64| u32::try_from(by).ok().and_then(|by| 10_i128.checked_pow(by));
    let nano = if digits == 0 {
        0
    } else if shift >= 0 {
        power(shift).and_then(|power| digits.checked_mul(power)).ok_or("is too large")?
    } else {
        let Some(unit) = power(-shift) else {
            return if round { Ok(Nano::ZERO) } else { Err("has more than nine places") };
        };
        let (kept, rest) = (digits / unit, digits % unit);
        if rest != 0 && !round {
            return Err("has more than nine places");
        }
        kept + i128::from(rest * 2 > unit || (rest * 2 == unit && kept % 2 == 1))
    };
    i64::try_from(if negative { -nano } else { nano }).map(Nano).map_err(|_| "is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_or_rounded_once() {
        assert_eq!(parse_amount("123.45", 2, false), Ok(Nano(1_234_500_000)));
        assert_eq!(parse_amount("1e-5", 0, false), Ok(Nano(10_000)));
        assert_eq!(parse_amount("-0.1", 0, false), Ok(Nano(-100_000_000)));
        assert_eq!(parse_amount("0.0000000015", 0, true), Ok(Nano(2)));
        assert_eq!(parse_amount("0.0000000025", 0, true), Ok(Nano(2)));
        assert_eq!(parse_amount("0.0000000015", 0, false), Err("has more than nine places"));
        assert_eq!(parse_amount("99999999999", 0, false), Err("is too large"));
        for text in ["", "-", "1.2.3", "1e", "0x1", "1 2"] {
            assert!(parse_amount(text, 0, true).is_err(), "{text}");
        }
    }
}
