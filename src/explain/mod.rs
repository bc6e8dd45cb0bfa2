//! Explaining: why a call was allowed or refused, what it cost, what a key can still spend.
//!
//! Promises: an explanation is made by the same function that decided, from the facts, the readings and the
//! configuration of the time; the stored code wins. Nothing here changes anything.
//! Must never: show a caller another account's figures, the account's amounts where its setting forbids
//! that, or an upstream's own words.

pub mod attempts;
pub mod base_url;
pub mod costs;
mod display;
pub mod doctor;
pub mod estimate;
pub mod margins;
pub mod period;
pub mod receipt;
pub mod simulate;
pub mod topup;
pub mod usable;
pub mod why;

pub use display::Display;

/// RFC 3339 in UTC with milliseconds; times beyond the calendar are cut to it.
pub fn time_text(ms: i64) -> String {
    crate::catalogue::rfc3339(ms)
}

/// An exact decimal: `value` × 10^-`places`, without zeros at its end.
pub fn decimal_text(value: i128, places: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let sign = if value < 0 { "-" } else { "" };
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

/// Units as their price is for: 12345 milliseconds are "12.345" seconds.
pub fn units_text(unit: ledger::Unit, counted: u64) -> String {
    let places = usize::try_from(unit.counted_per_priced().ilog10()).unwrap_or(0);
    decimal_text(i128::from(counted), places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_place() {
        assert_eq!(decimal_text(0, 21), "0");
        assert_eq!(decimal_text(1, 21), "0.000000000000000000001");
        assert_eq!(decimal_text(-1_500, 3), "-1.5");
        assert_eq!(decimal_text(12_000_000, 6), "12");
    }
}
