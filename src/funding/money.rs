//! Amounts to pay: of other currencies than the ledger's, and in whole minor units.

use ledger::Nano;

/// Decimal places of a nano-unit.
const NANO_PLACES: u32 = 9;
const PPM: i128 = 1_000_000;

/// Decimal places of a currency (ISO 4217).
pub fn places(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "MGA" | "PYG" | "RWF" | "UGX"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

fn nano_per_minor(currency: &str) -> i64 {
    10_i64.pow(NANO_PLACES - places(currency))
}

/// What a credit costs at a rate, rounded once up to the currency's smallest unit, so that nothing is credited that is not
/// paid for. `None`: nothing, or more than can be counted.
pub fn price(credit: Nano, rate_ppm: u64, currency: &str) -> Option<Nano> {
    let (whole, rest, _) = minor(credit, rate_ppm, currency);
    from_minor(i64::try_from(whole + i128::from(rest > 0)).ok()?, currency)
        .filter(|price| price.is_positive())
}

/// An amount of the ledger currency in another one, to be shown: rounded once, half to even. `None`: more than can be
/// counted.
pub fn convert(amount: Nano, rate_ppm: u64, currency: &str) -> Option<Nano> {
    let (whole, rest, unit) = minor(amount, rate_ppm, currency);
    let up = rest * 2 > unit || (rest * 2 == unit && whole % 2 != 0);
    from_minor(i64::try_from(whole + i128::from(up)).ok()?, currency)
}

/// In whole smallest units, with what is left over and how much of that makes one.
fn minor(amount: Nano, rate_ppm: u64, currency: &str) -> (i128, i128, i128) {
    let exact = i128::from(amount.0) * i128::from(rate_ppm);
    let unit = PPM * i128::from(nano_per_minor(currency));
    (exact.div_euclid(unit), exact.rem_euclid(unit), unit)
}

/// The amount in the currency's smallest unit; `None` if it is not a whole number of them.
pub fn to_minor(amount: Nano, currency: &str) -> Option<i64> {
    let unit = nano_per_minor(currency);
    (amount.0 % unit == 0).then(|| amount.0 / unit)
}

pub fn from_minor(minor: i64, currency: &str) -> Option<Nano> {
    minor.checked_mul(nano_per_minor(currency)).map(Nano)
}

/// With exactly the currency's places, as payment forms want it: `5.00`.
pub fn text(amount: Nano, currency: &str) -> String {
    let places = places(currency) as usize;
    let plain = amount.to_string();
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    if places == 0 { whole.to_owned() } else { format!("{whole}.{fraction:0<places$}") }
}

/// The part of a credit that belongs to a part of what was paid. All of it belongs to all of it.
pub fn share(credit: Nano, part: Nano, pay: Nano) -> Nano {
    if part >= pay || pay.0 <= 0 {
        return credit;
    }
    let share = i128::from(credit.0) * i128::from(part.0.max(0)) / i128::from(pay.0);
    Nano(i64::try_from(share).unwrap_or(credit.0))
}

/// What belongs of a credit to an amount in the currency that was paid, more than was paid too; towards zero. `None`:
/// nothing was paid, or more than can be counted.
pub fn proportion(credit: Nano, amount: Nano, pay: Nano) -> Option<Nano> {
    if pay.0 <= 0 {
        return None;
    }
    let exact = i128::from(credit.0).checked_mul(i128::from(amount.0))? / i128::from(pay.0);
    i64::try_from(exact).ok().map(Nano)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nano(text: &str) -> Nano {
        Nano::parse_decimal(text).unwrap()
    }

    #[test]
    fn b1_prices_are_whole_minor_units_and_never_less_than_the_credit() {
        assert_eq!(price(nano("100"), 7_250_000, "CNY"), Some(nano("725")));
        assert_eq!(price(nano("0.01"), 7_255_000, "CNY"), Some(nano("0.08")));
        assert_eq!(price(nano("1.005"), 1_000_000, "USD"), Some(nano("1.01")));
        assert_eq!(price(nano("1"), 150_500_000, "JPY"), Some(nano("151")));
        assert_eq!(price(nano("0.0001"), 1_000_000, "USD"), Some(nano("0.01")));
        assert_eq!(price(Nano::ZERO, 1_000_000, "USD"), None);
    }

    #[test]
    fn amounts_that_are_shown_are_rounded_half_to_even() {
        assert_eq!(convert(nano("1"), 1_005_000, "USD"), Some(nano("1")));
        assert_eq!(convert(nano("1"), 1_015_000, "USD"), Some(nano("1.02")));
    }

    /// S40: large top-ups are plain numbers.
    #[test]
    fn s40_a_large_amount_does_not_overflow() {
        assert_eq!(price(nano("10000"), 7_250_000, "CNY"), Some(nano("72500")));
        assert_eq!(price(nano("9000000000"), 2_000_000, "USD"), None);
        assert_eq!(to_minor(nano("10000"), "USD"), Some(1_000_000));
        assert_eq!(from_minor(i64::MAX, "USD"), None);
    }

    /// B7: what was paid too much may be more than the order.
    #[test]
    fn b7_a_proportion_has_no_bound_but_what_can_be_counted() {
        assert_eq!(proportion(nano("10"), nano("25"), nano("10")), Some(nano("25")));
        assert_eq!(proportion(nano("10"), nano("-181.25"), nano("72.5")), Some(nano("-25")));
        assert_eq!(proportion(nano("1"), Nano(-1), nano("3")), Some(Nano::ZERO));
        assert_eq!(proportion(nano("10"), nano("25"), Nano::ZERO), None);
        assert_eq!(proportion(Nano(i64::MAX), Nano(i64::MIN), Nano(1)), None);
    }

    #[test]
    fn amounts_are_written_with_the_currencys_places() {
        assert_eq!(text(nano("5"), "CNY"), "5.00");
        assert_eq!(text(nano("5.1"), "CNY"), "5.10");
        assert_eq!(text(nano("500"), "JPY"), "500");
        assert_eq!(to_minor(nano("0.005"), "USD"), None);
    }

    proptest! {
        /// Refunds in parts give back what was credited, to the nano.
        #[test]
        fn shares_of_all_parts_are_the_whole(credit in 1_i64..1 << 50, cuts in prop::collection::vec(1_i64..1 << 40, 1..6)) {
            let pay: i64 = cuts.iter().sum();
            let mut paid = 0;
            let mut given = Nano::ZERO;
            for cut in cuts {
                paid += cut;
                let now = share(Nano(credit), Nano(paid), Nano(pay));
                prop_assert!(now >= given);
                given = now;
            }
            prop_assert_eq!(given, Nano(credit));
        }
    }
}
