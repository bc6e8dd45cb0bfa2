//! Conversations, answers and streams go from each format to each other and back, and lose nothing that both can say.

mod answers;
mod calls;
mod cases;
mod clients;
mod hints;
mod proofs;
mod providers;
mod requests;
mod streams;

use super::Format;
use super::proof::Prover;

/// Formats that differ in what they can say.
const FORMATS: [Format; 4] = [Format::OpenAi, Format::Anthropic, Format::Gemini, Format::Responses];

fn pairs() -> impl Iterator<Item = (Format, Format)> {
    FORMATS.into_iter().flat_map(|from| FORMATS.into_iter().map(move |to| (from, to)))
}

/// Whose proofs a format has.
fn native(format: Format) -> Prover {
    match format {
        Format::Anthropic => Prover::Anthropic,
        Format::Gemini => Prover::Gemini,
        Format::OpenAi | Format::DeepSeek | Format::Responses => Prover::OpenAi,
    }
}

pub(super) fn envelope() -> super::Envelope {
    super::Envelope {
        model: "asked".into(),
        id: "req_1".into(),
        created_s: 1_700_000_000,
        include_usage: true,
        echo: super::responses::echo("{}"),
        counted: None,
        one_call: false,
    }
}
