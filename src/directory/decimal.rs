//! Decimal strings of documents: money, prices per million tokens, multipliers. Never a JSON number, so
//! that no reader of a document can round it.

/// One million: the fixed point of a multiplier.
pub const PPM: u64 = 1_000_000;

/// A multiplier such as "1", "0.8" or "1.25" in millionths; `None` unless it is exact in six places.
pub fn parse_multiplier(text: &str) -> Option<u64> {
    let nano = ledger::Nano::parse_decimal(text).ok()?.0;
    (nano >= 0 && nano % 1_000 == 0).then(|| u64::try_from(nano / 1_000).ok()).flatten()
}

pub fn multiplier_text(ppm: u64) -> String {
    let (whole, fraction) = (ppm / PPM, ppm % PPM);
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{fraction:06}");
    text.trim_end_matches('0').to_owned()
}

pub mod money {
    use std::borrow::Cow;

    use ledger::Nano;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(amount: &Nano, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(amount)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Nano, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Nano::parse_decimal(&text)
            .map_err(|why| D::Error::custom(format!("`{text}` is not an amount: {why}")))
    }
}

pub mod optional_money {
    use ledger::Nano;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(amount: &Option<Nano>, serializer: S) -> Result<S::Ok, S::Error> {
        match amount {
            Some(amount) => serializer.collect_str(amount),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Nano>, D::Error> {
        #[derive(Deserialize)]
        struct Amount(#[serde(with = "super::money")] Nano);
        Ok(Option::<Amount>::deserialize(deserializer)?.map(|Amount(amount)| amount))
    }
}

pub mod multiplier {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(ppm: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::multiplier_text(*ppm))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        super::parse_multiplier(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a multiplier with at most six places")))
    }
}

pub mod optional_multiplier {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(ppm: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match ppm {
            Some(ppm) => super::multiplier::serialize(ppm, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        #[derive(Deserialize)]
        struct Written(#[serde(with = "super::multiplier")] u64);
        Ok(Option::<Written>::deserialize(deserializer)?.map(|Written(ppm)| ppm))
    }
}

pub mod per_million {
    use std::collections::BTreeMap;

    use ledger::{Nano, TokenClass};
    use serde::{Deserialize, Deserializer, Serializer, de::Error, ser::SerializeMap};

    type Table = [Option<Nano>; TokenClass::COUNT];

    pub fn serialize<S: Serializer>(table: &Table, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (class, price) in TokenClass::ALL.iter().zip(table) {
            if let Some(price) = price {
                map.serialize_entry(class.as_str(), &price.to_string())?;
            }
        }
        map.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Table, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let mut table = [None; TokenClass::COUNT];
        for (name, text) in texts {
            let class = TokenClass::ALL.iter().position(|class| class.as_str() == name);
            let slot = class.and_then(|index| table.get_mut(index));
            let slot = slot.ok_or_else(|| D::Error::custom(format!("`{name}` is not a token class")))?;
            let price =
                Nano::parse_decimal(&text).map_err(|why| D::Error::custom(format!("{name}: {why}")))?;
            if price.0 < 0 {
                return Err(D::Error::custom(format!("{name}: a price cannot be negative")));
            }
            *slot = Some(price);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_are_exact() {
        assert_eq!(parse_multiplier("1.25"), Some(1_250_000));
        assert_eq!(parse_multiplier("0"), Some(0));
        assert_eq!(parse_multiplier("0.0000001"), None);
        assert_eq!(parse_multiplier("-1"), None);
        assert_eq!(multiplier_text(1_250_000), "1.25");
        assert_eq!(multiplier_text(800_000), "0.8");
        assert_eq!(multiplier_text(2_000_000), "2");
    }
}
