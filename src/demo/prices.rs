//! The one price list of the demo: what the simulated upstream bills and what
//! the demo's gateway charges are the same numbers, so that a bill and a
//! ledger that disagree by a nano show a fault.

use ledger::{Nano, Price, TokenClass};

/// A model of the demo and its price per million tokens.
#[derive(Clone, Copy, Debug)]
pub struct DemoModel {
    /// Its name, at the gateway and at the upstream.
    pub name: &'static str,
    pub price: Price,
    /// The gateway has a price for it. (`demo-unpriced` has none there.)
    pub priced: bool,
    /// Largest answer of the model, in tokens.
    pub max_output_tokens: u32,
    /// Largest input, in tokens.
    pub context_tokens: u32,
}

/// Nano-units per million tokens.
const fn price(input: i64, cache_read: i64, output: i64) -> Price {
    let mut per_million = [None; TokenClass::COUNT];
    per_million[TokenClass::Input as usize] = Some(Nano(input));
    per_million[TokenClass::CacheRead as usize] = Some(Nano(cache_read));
    per_million[TokenClass::Output as usize] = Some(Nano(output));
    Price { per_million, per_call: Nano::ZERO }
}

const fn model(name: &'static str, price: Price) -> DemoModel {
    DemoModel { name, price, priced: true, max_output_tokens: 16_384, context_tokens: 128_000 }
}

/// $0.25 in, $0.025 cached, $2 out.
const MINI: Price = price(250_000_000, 25_000_000, 2_000_000_000);
/// $0.28 in, $0.028 cached, $0.42 out.
const DEEPSEEK: Price = price(280_000_000, 28_000_000, 420_000_000);

/// The models that the simulated upstream serves in OpenAI's format.
pub const CHAT_MODELS: [DemoModel; 12] = [
    DemoModel { max_output_tokens: 128_000, context_tokens: 400_000, ..model("gpt-5-mini", MINI) },
    DemoModel { max_output_tokens: 8_192, ..model("deepseek-chat", DEEPSEEK) },
    model("demo-slow", MINI),
    model("demo-cut", MINI),
    model("demo-no-usage", MINI),
    model("demo-429", MINI),
    model("demo-500", MINI),
    model("demo-timeout", MINI),
    model("demo-no-credit", MINI),
    DemoModel { priced: false, ..model("demo-unpriced", MINI) },
    model("demo-down", MINI),
    model("demo-unstable", MINI),
];

/// The model of that name.
pub fn chat_model(name: &str) -> Option<&'static DemoModel> {
    CHAT_MODELS.iter().find(|model| model.name == name)
}
