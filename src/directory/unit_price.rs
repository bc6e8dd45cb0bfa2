//! What a price version asks for beside tokens: a table of units, each row for one unit and, where the upstream's
//! price depends on them, for one size and quality of what is made.
//!
//! The most exact row that fits a call applies; a version never changes, so the number of the row is all that has to
//! be kept of it.

use ledger::{Nano, Unit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::checks;
use super::decimal;
use super::documents::Price;
use super::error::FieldError;

/// Rows of one version.
const ROWS_MAX: usize = 200;

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitPrice {
    #[serde(serialize_with = "write_unit", deserialize_with = "read_unit")]
    pub unit: Unit,
    /// As callers write it: `1024x1024`; unset: whatever the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Box<str>>,
    /// As callers write it: `hd`; unset: whatever the quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Box<str>>,
    /// For one image, one second, a million characters or one search.
    #[serde(with = "decimal::money")]
    pub price: Nano,
}

fn write_unit<S: Serializer>(unit: &Unit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(unit.as_str())
}

fn read_unit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Unit, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = Unit::ALL.into_iter().find(|unit| unit.as_str() == name);
    known.ok_or_else(|| D::Error::custom(format!("`{name}` is not a unit")))
}

/// How what is made is to look, as far as its price may depend on it; `None`: the caller left it to the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variant<'a> {
    pub size: Option<&'a str>,
    pub quality: Option<&'a str>,
}

impl UnitPrice {
    /// Whether the row is for what was asked; what is left open fits what asks for no more.
    fn fits(&self, variant: Variant<'_>) -> bool {
        let fits = |own: &Option<Box<str>>, asked: Option<&str>| own.is_none() || own.as_deref() == asked;
        fits(&self.size, variant.size) && fits(&self.quality, variant.quality)
    }

    /// Whether the row may come to apply once the upstream has chosen what was left open.
    fn may_fit(&self, variant: Variant<'_>) -> bool {
        let may = |own: &Option<Box<str>>, asked: Option<&str>| {
            asked.is_none() || own.is_none() || own.as_deref() == asked
        };
        may(&self.size, variant.size) && may(&self.quality, variant.quality)
    }

    fn exactness(&self) -> usize {
        usize::from(self.size.is_some()) + usize::from(self.quality.is_some())
    }
}

impl Price {
    /// The price as the ledger rates with it, where a row of the table applies, from 1; 0: only rows for every size
    /// and quality do.
    pub fn rates_at(&self, row: u64) -> ledger::Price {
        let mut per_unit = [None; Unit::COUNT];
        let mut put = |row: &UnitPrice| {
            if let Some(slot) = per_unit.get_mut(row.unit as usize) {
                *slot = Some(row.price);
            }
        };
        self.units.iter().filter(|row| row.exactness() == 0).for_each(&mut put);
        let chosen = usize::try_from(row).ok().and_then(|row| self.units.get(row.checked_sub(1)?));
        chosen.into_iter().for_each(put);
        ledger::Price { per_million: self.per_million, per_unit, per_call: self.per_call }
    }

    /// The number of the row that applies to units of this variant; 0: none does.
    pub fn row(&self, unit: Unit, variant: Variant<'_>) -> u64 {
        let fitting = self.rows(unit).filter(|(_, row)| row.fits(variant));
        // The first of equals: `max_by_key` would take the last.
        fitting.rev().max_by_key(|(_, row)| row.exactness()).map_or(0, |(number, _)| number)
    }

    /// The number of the dearest row that can come to apply; 0: none can.
    pub fn dearest_row(&self, unit: Unit, variant: Variant<'_>) -> u64 {
        let possible = self.rows(unit).filter(|(_, row)| row.may_fit(variant));
        possible.max_by_key(|(_, row)| row.price).map_or(0, |(number, _)| number)
    }

    /// Whether units of this kind have any price.
    pub fn sells(&self, unit: Unit) -> bool {
        self.rows(unit).next().is_some()
    }

    /// Whether tokens have a price.
    pub fn sells_tokens(&self) -> bool {
        self.per_million.iter().any(Option::is_some)
    }

    fn rows(&self, unit: Unit) -> impl DoubleEndedIterator<Item = (u64, &UnitPrice)> {
        let numbered = self.units.iter().enumerate().map(|(at, row)| (at as u64 + 1, row));
        numbered.filter(move |(_, row)| row.unit == unit)
    }

    pub(super) fn check_units(&self) -> Result<(), FieldError> {
        if self.units.len() > ROWS_MAX {
            return Err(FieldError::new("units", "are more than 200"));
        }
        for (at, row) in self.units.iter().enumerate() {
            checks::not_negative(&format!("units[{at}].price"), row.price)?;
            for (name, text) in [("size", &row.size), ("quality", &row.quality)] {
                if let Some(text) = text {
                    checks::token(&format!("units[{at}].{name}"), text)?;
                }
            }
            let same = |other: &UnitPrice| {
                (other.unit, &other.size, &other.quality) == (row.unit, &row.size, &row.quality)
            };
            if self.units.iter().take(at).any(same) {
                return Err(FieldError::new(format!("units[{at}]"), "is for the same as a row before"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ModelId, PriceId};

    fn price(rows: serde_json::Value) -> Price {
        let document = serde_json::json!({
            "id": PriceId::from_raw(1), "model": ModelId::from_raw(1), "version": 1, "effective_at": "2026-01-01T00:00:00Z",
            "per_million": {}, "units": rows, "created_at": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(document).unwrap()
    }

    fn variant<'a>(size: &'a str, quality: &'a str) -> Variant<'a> {
        let some = |text: &'a str| (!text.is_empty()).then_some(text);
        Variant { size: some(size), quality: some(quality) }
    }

    #[test]
    fn the_most_exact_row_applies_and_what_is_left_open_may_come_to_be_dear() {
        let price = price(serde_json::json!([
            {"unit": "image", "price": "0.04"},
            {"unit": "image", "size": "1792x1024", "price": "0.08"},
            {"unit": "image", "size": "1024x1024", "quality": "hd", "price": "0.09"},
            {"unit": "image", "size": "1792x1024", "quality": "hd", "price": "0.12"},
            {"unit": "second", "price": "0.1"},
        ]));
        let row = |size, quality| price.row(Unit::Image, variant(size, quality));
        assert_eq!((row("1024x1024", "hd"), row("1024x1024", "standard"), row("", "")), (3, 1, 1));
        assert_eq!((row("1792x1024", "hd"), row("1792x1024", "")), (4, 2));
        let dearest = |size, quality| price.dearest_row(Unit::Image, variant(size, quality));
        assert_eq!((dearest("", ""), dearest("1024x1024", ""), dearest("512x512", "")), (4, 3, 1));
        let image = |row| price.rates_at(row).of_unit(Unit::Image);
        assert_eq!((image(4), image(0)), (Nano(120_000_000), Nano(40_000_000)));
        assert_eq!(price.rates_at(4).of_unit(Unit::Second), Nano(100_000_000));
        assert_eq!(price.row(Unit::Search, Variant::default()), 0);
        assert!(price.check_units().is_ok());
    }

    #[test]
    fn two_rows_for_the_same_are_refused() {
        let double =
            price(serde_json::json!([{"unit": "image", "price": "1"}, {"unit": "image", "price": "2"}]));
        assert_eq!(double.check_units().unwrap_err().field, "units[1]");
        let negative = price(serde_json::json!([{"unit": "search", "price": "-1"}]));
        assert_eq!(negative.check_units().unwrap_err().field, "units[0].price");
    }
}
