//! The one price list of the demo: what the simulated upstream bills and what
//! the demo's gateway charges are the same numbers, so that a bill and a
//! ledger that disagree by a nano show a fault.

use ledger::{Nano, Price, TokenClass, Unit};

use crate::directory::ProviderKind;
use crate::gateway::facts::Endpoint;

/// A model of the demo and what it costs.
#[derive(Clone, Copy, Debug)]
pub struct DemoModel {
    /// Its name, at the gateway and at the upstream.
    pub name: &'static str,
    /// Where it works.
    pub endpoints: &'static [Endpoint],
    /// Per million tokens and per call.
    pub price: Price,
    /// What is not sold by tokens; the row that names more wins.
    pub units: &'static [UnitRow],
    /// The gateway has a price for it. (`demo-unpriced` has none there.)
    pub priced: bool,
    /// Largest answer of the model, in tokens.
    pub max_output_tokens: u32,
    /// Largest input, in tokens.
    pub context_tokens: u32,
}

/// A row of a model's table of units.
#[derive(Clone, Copy, Debug)]
pub struct UnitRow {
    pub unit: Unit,
    pub size: Option<&'static str>,
    pub quality: Option<&'static str>,
    /// Of one, in nano-units.
    pub price: Nano,
}

impl DemoModel {
    /// Paths at which the gateway serves it: a chat in any format is one in all.
    pub fn paths(&self) -> Vec<Box<str>> {
        // OpenAI's upstreams have the responses beside the chat.
        let is_format =
            |endpoint: &&Endpoint| endpoint.format().is_some() && **endpoint != Endpoint::Responses;
        let is_chat = self.endpoints.iter().any(|endpoint| is_format(&endpoint));
        let own = self.endpoints.iter().filter(|endpoint| !is_format(endpoint)).map(|own| own.path());
        is_chat.then_some(Endpoint::ChatCompletions.path()).into_iter().chain(own).map(Into::into).collect()
    }

    /// Whose format its upstream speaks.
    pub fn provider(&self) -> ProviderKind {
        match self.endpoints {
            [Endpoint::Messages, ..] => ProviderKind::Anthropic,
            [Endpoint::GenerateContent, ..] => ProviderKind::Gemini,
            _ if self.name.starts_with("deepseek") => ProviderKind::Deepseek,
            _ => ProviderKind::Openai,
        }
    }

    pub fn works_at(&self, endpoint: Endpoint) -> bool {
        self.endpoints.contains(&endpoint)
    }

    /// The price of units of this size and quality.
    pub fn price_of(&self, size: &str, quality: &str) -> Price {
        let mut price = self.price;
        let fits = |own: Option<&str>, made: &str| own.is_none_or(|own| own == made);
        for unit in Unit::ALL {
            let of_unit = self.units.iter().filter(|row| row.unit == unit);
            let fitting = of_unit.filter(|row| fits(row.size, size) && fits(row.quality, quality));
            let row = fitting.max_by_key(|row| row.size.iter().count() + row.quality.iter().count());
            if let (Some(row), Some(slot)) = (row, price.per_unit.get_mut(unit as usize)) {
                *slot = Some(row.price);
            }
        }
        price
    }
}

/// Nano-units per million tokens.
const fn price(input: i64, cache_read: i64, output: i64) -> Price {
    let mut per_million = [None; TokenClass::COUNT];
    per_million[TokenClass::Input as usize] = Some(Nano(input));
    per_million[TokenClass::CacheRead as usize] = Some(Nano(cache_read));
    per_million[TokenClass::Output as usize] = Some(Nano(output));
    Price { per_million, ..NO_TOKENS }
}

/// The same with a price of its own for what is heard or seen.
const fn with_part(mut price: Price, class: TokenClass, per_million: i64) -> Price {
    price.per_million[class as usize] = Some(Nano(per_million));
    price
}

const NO_TOKENS: Price =
    Price { per_million: [None; TokenClass::COUNT], per_unit: [None; Unit::COUNT], per_call: Nano::ZERO };

const fn model(name: &'static str, price: Price) -> DemoModel {
    DemoModel {
        name,
        endpoints: TEXT,
        price,
        units: &[],
        priced: true,
        max_output_tokens: 16_384,
        context_tokens: 128_000,
    }
}

const fn at(endpoints: &'static [Endpoint], model: DemoModel) -> DemoModel {
    DemoModel { endpoints, ..model }
}

const fn row(unit: Unit, price: i64) -> UnitRow {
    UnitRow { unit, size: None, quality: None, price: Nano(price) }
}

const fn picture(size: &'static str, quality: Option<&'static str>, price: i64) -> UnitRow {
    UnitRow { size: Some(size), quality, ..row(Unit::Image, price) }
}

const fn sold_by(name: &'static str, endpoints: &'static [Endpoint], units: &'static [UnitRow]) -> DemoModel {
    DemoModel { units, ..at(endpoints, model(name, NO_TOKENS)) }
}

const TEXT: &[Endpoint] = &[Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Responses];
const IMAGES: &[Endpoint] = &[Endpoint::ImageGenerations, Endpoint::ImageEdits];
const SPEECH: &[Endpoint] = &[Endpoint::Speech];
const TRANSCRIPTIONS: &[Endpoint] = &[Endpoint::Transcriptions];
const VIDEOS: &[Endpoint] = &[Endpoint::Videos];
/// Of an upstream that speaks of its tasks in a way of its own.
pub const STUDIO_VIDEO: &str = "demo-studio-video";
pub const STUDIO_IMAGE: &str = "demo-studio-image";
const MODERATIONS: &[Endpoint] = &[Endpoint::Moderations];

/// $0.25 in, $0.025 cached, $2 out.
const MINI: Price = price(250_000_000, 25_000_000, 2_000_000_000);
/// $0.28 in, $0.028 cached, $0.42 out.
const DEEPSEEK: Price = price(280_000_000, 28_000_000, 420_000_000);
/// $3 in, $0.30 cached, $3.75 to cache, $15 out.
const SONNET: Price =
    with_part(price(3_000_000_000, 300_000_000, 15_000_000_000), TokenClass::CacheWrite, 3_750_000_000);
/// $0.30 in, $0.03 cached, $2.50 out.
const FLASH: Price = price(300_000_000, 30_000_000, 2_500_000_000);
/// Text at $5, pictures at $10, what is drawn at $40.
const DRAWING: Price =
    with_part(price(5_000_000_000, 5_000_000_000, 40_000_000_000), TokenClass::ImageIn, 10_000_000_000);
/// Text at $2.50, sound at $6, what is written at $10.
const LISTENING: Price =
    with_part(price(2_500_000_000, 2_500_000_000, 10_000_000_000), TokenClass::AudioIn, 6_000_000_000);
const FREE: Price = price(0, 0, 0);

/// $0.04 a picture, more where it is larger or finer.
const PICTURES: &[UnitRow] = &[
    row(Unit::Image, 40_000_000),
    picture("1792x1024", None, 80_000_000),
    picture("1024x1024", Some("hd"), 80_000_000),
    picture("1792x1024", Some("hd"), 120_000_000),
];

/// $0.10 a second, more where it is larger.
const FILM: &[UnitRow] =
    &[row(Unit::Second, 100_000_000), UnitRow { size: Some("1792x1024"), ..row(Unit::Second, 500_000_000) }];

/// The models that the simulated upstream serves, each at the endpoints of its own format.
pub const MODELS: [DemoModel; 30] = [
    DemoModel { max_output_tokens: 128_000, context_tokens: 400_000, ..model("gpt-5-mini", MINI) },
    DemoModel {
        max_output_tokens: 8_192,
        ..at(&[Endpoint::ChatCompletions], model("deepseek-chat", DEEPSEEK))
    },
    DemoModel {
        max_output_tokens: 64_000,
        context_tokens: 200_000,
        ..at(&[Endpoint::Messages], model("claude-sonnet-4-5", SONNET))
    },
    DemoModel {
        max_output_tokens: 65_536,
        context_tokens: 1_000_000,
        ..at(&[Endpoint::GenerateContent, Endpoint::StreamGenerateContent], model("gemini-2.5-flash", FLASH))
    },
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
    // $0.02 a million tokens.
    at(&[Endpoint::Embeddings], model("demo-embedding", price(20_000_000, 20_000_000, 0))),
    sold_by("demo-image", IMAGES, PICTURES),
    DemoModel { max_output_tokens: 6_240, ..at(IMAGES, model("demo-image-tokens", DRAWING)) },
    // $15 a million characters.
    sold_by("demo-speech", SPEECH, &[row(Unit::Character, 15_000_000_000)]),
    at(SPEECH, model("demo-speech-tokens", price(600_000_000, 600_000_000, 12_000_000_000))),
    // $0.006 a minute.
    sold_by("demo-transcribe", TRANSCRIPTIONS, &[row(Unit::Second, 100_000)]),
    DemoModel { max_output_tokens: 2_000, ..at(TRANSCRIPTIONS, model("demo-transcribe-tokens", LISTENING)) },
    at(MODERATIONS, model("demo-moderation", FREE)),
    // Whoever names no model means this one.
    at(MODERATIONS, model("omni-moderation-latest", FREE)),
    // $2 for a thousand searches.
    sold_by("demo-rerank", &[Endpoint::Rerank], &[row(Unit::Search, 2_000_000)]),
    at(&[Endpoint::Rerank], model("demo-rerank-tokens", price(50_000_000, 50_000_000, 0))),
    sold_by("demo-video", VIDEOS, FILM),
    sold_by("demo-video-fail", VIDEOS, FILM),
    sold_by("demo-video-stuck", VIDEOS, FILM),
    sold_by(STUDIO_VIDEO, VIDEOS, FILM),
    sold_by(STUDIO_IMAGE, &[Endpoint::Images], PICTURES),
];

/// Tokens of one picture and of one recording, at the most.
pub const IMAGE_TOKENS_MAX: u32 = 2_000;
pub const AUDIO_TOKENS_MAX: u32 = 15_000;
/// Seconds of one recording, at the most.
pub const AUDIO_SECONDS_MAX: u32 = 1_500;

/// The model of that name, if it works there.
pub fn model_at(endpoint: Endpoint, name: &str) -> Option<&'static DemoModel> {
    MODELS.iter().find(|model| model.name == name && model.works_at(endpoint))
}
