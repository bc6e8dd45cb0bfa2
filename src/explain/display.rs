//! Amounts in the currency that readers think in, beside those of the ledger.
//!
//! Must never: be computed with. What is shown here is rounded to the currency's smallest unit, at a rate that can be
//! another one tomorrow; orders keep a rate of their own.

use ledger::Nano;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::directory::decimal;
use crate::funding::money;

/// A currency and what one unit of the ledger's is worth in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Display {
    currency: String,
    rate_ppm: u64,
}

impl Display {
    /// `None`: amounts are shown in the ledger currency alone.
    pub fn of(config: &Config) -> Option<Self> {
        let (currency, rate_ppm) = config.ledger.display_rate.0.first()?.clone();
        Some(Display { currency, rate_ppm })
    }

    /// Currency, rate and these amounts.
    pub fn view(&self, amounts: &[(&str, Nano)]) -> Value {
        let mut view = Map::new();
        view.insert("currency".into(), self.currency.as_str().into());
        view.insert("rate".into(), decimal::multiplier_text(self.rate_ppm).into());
        for (name, amount) in amounts {
            let shown = money::convert(*amount, self.rate_ppm, &self.currency);
            let shown = shown.map(|shown| money::text(shown, &self.currency));
            view.insert((*name).into(), shown.map_or(Value::Null, Value::String));
        }
        Value::Object(view)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_shown_in_whole_cents_and_below_zero_too() {
        let display = Display { currency: "CNY".into(), rate_ppm: 7_250_000 };
        let amounts =
            [("a", Nano(1_000_000_000)), ("b", Nano(-10_000_000)), ("c", Nano(1)), ("d", Nano::MAX)];
        let view = display.view(&amounts);
        let wanted =
            json!({"currency": "CNY", "rate": "7.25", "a": "7.25", "b": "-0.07", "c": "0.00", "d": null});
        assert_eq!(view, wanted);
    }
}
