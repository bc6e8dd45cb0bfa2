//! What a call can use at the most, by what it asked for and by the cap that went upstream with it: an upstream that tells
//! more than that is not believed, and what it made is counted here.
//!
//! Promises: sums and comparisons of a few numbers for a call of text. Nothing that an upstream may honestly bill is beyond
//! them: thoughts, which most of them count into the cap and some beside it, may come to the cap once more, and numbers may
//! be a little larger than they should.

use ledger::{TokenClass, Unit, Usage};

use crate::app::App;

use super::facts::Output;
use super::request::ModelRequest;

/// So many tokens more than the bound are believed, beside a sixteenth of it: what ends an answer counts at some
/// upstreams and not at others.
const LEEWAY_TOKENS: u64 = 16;
const LEEWAY_PART: u64 = 16;
/// Some upstreams tell whole seconds, rounded up.
const LEEWAY_MS: u64 = 1_000;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Tokens of all classes of the input.
    input: u64,
    /// Tokens of all answers, without thoughts.
    output: u64,
    /// What is counted beside tokens, as its unit is counted.
    units: u64,
}

impl Bounds {
    /// `output_cap`: tokens of one choice, as they were promised and sent.
    pub fn of(request: &ModelRequest, output_cap: u32, app: &App) -> Self {
        let (parts, asked) = (&request.parts, request.units.as_deref());
        let has_sound_or_pictures = parts.images > 0 || parts.audio > 0;
        let (mut input, mut units) = (request.input_tokens_bound, u64::MAX);
        if let (Some(unit), Some(asked)) = (request.endpoint.unit(), asked) {
            units = asked.count(unit).unwrap_or(u64::MAX);
        }
        // Only what is more than text needs what its model takes at the most.
        if has_sound_or_pictures {
            let snapshot = app.directory.snapshot();
            let model = snapshot.model(&request.model).map(|entry| &entry.model);
            let images = model.and_then(|model| model.image_tokens_max);
            let audio = model.and_then(|model| model.audio_tokens_max);
            input = input.saturating_add(of_parts(parts.images, images));
            input = input.saturating_add(of_parts(parts.audio, audio));
            if request.endpoint.unit() == Some(Unit::Second) && units == u64::MAX {
                let seconds = model.and_then(|model| model.audio_seconds_max);
                units = seconds.map_or(u64::MAX, |seconds| u64::from(seconds) * 1_000);
            }
        }
        let output = match request.endpoint.output() {
            Output::None => 0,
            // Where tokens are not sold nobody promised any.
            Output::UpToTheModel if output_cap == 0 => u64::MAX,
            Output::Capped | Output::UpToTheModel => {
                u64::from(request.choices).saturating_mul(u64::from(output_cap))
            }
        };
        Bounds { input, output, units }
    }

    /// Whether the call can have used so many tokens.
    pub fn has_tokens(&self, usage: &Usage) -> bool {
        let thoughts = usage.get(TokenClass::Reasoning);
        let output = sum(usage, TokenClass::Output).saturating_sub(thoughts);
        self.has_input(usage) && output.max(thoughts) <= with_leeway(self.output)
    }

    /// The same of its input alone.
    pub fn has_input(&self, usage: &Usage) -> bool {
        sum(usage, TokenClass::Input) <= with_leeway(self.input)
    }

    /// Whether the call can have used so many of what is counted beside tokens.
    pub fn has_units(&self, unit: Unit, counted: u64) -> bool {
        let leeway = if unit == Unit::Second { LEEWAY_MS } else { 0 };
        counted <= self.units.saturating_add(leeway)
    }

    /// What was counted, as far as it was promised: a tokenizer that is not the model's own may find more in an answer.
    pub fn cut(&self, mut usage: Usage) -> Usage {
        for (parent, mut left) in [(TokenClass::Input, self.input), (TokenClass::Output, self.output)] {
            for class in TokenClass::ALL.into_iter().filter(|class| class.parent() == parent) {
                let tokens = usage.get(class).min(left);
                left -= tokens;
                usage.set(class, tokens);
            }
        }
        usage
    }

    /// The same of what is counted beside tokens.
    pub fn cut_units(&self, counted: u64) -> u64 {
        counted.min(self.units)
    }
}

fn of_parts(count: u32, tokens_max: Option<u32>) -> u64 {
    match (count, tokens_max) {
        (0, _) => 0,
        (_, Some(tokens)) => u64::from(count).saturating_mul(u64::from(tokens)),
        (_, None) => u64::MAX,
    }
}

fn sum(usage: &Usage, parent: TokenClass) -> u64 {
    let of_parent = TokenClass::ALL.into_iter().filter(|class| class.parent() == parent);
    of_parent.fold(0, |sum, class| sum.saturating_add(usage.get(class)))
}

fn with_leeway(most: u64) -> u64 {
    most.saturating_add(most / LEEWAY_PART).saturating_add(LEEWAY_TOKENS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { input: 160, output: 320, units: 5_000 };

    fn usage(tokens: &[(TokenClass, u64)]) -> Usage {
        let mut usage = Usage::default();
        tokens.iter().for_each(|(class, tokens)| usage.set(*class, *tokens));
        usage
    }

    #[test]
    fn s15_a_usage_is_believed_up_to_what_the_call_can_have() {
        use TokenClass::*;
        for (tokens, is_believed) in [
            (vec![(Input, 160), (Output, 320)], true),
            (vec![(Input, 100), (CacheRead, 86), (Output, 1)], true),
            (vec![(Input, 100), (CacheRead, 87), (Output, 1)], false),
            (vec![(Input, 1), (Output, 356)], true),
            (vec![(Input, 1), (Output, 357)], false),
            (vec![(Input, 1), (Output, 300), (AudioOut, 57)], false),
            (vec![(Input, 1), (Output, 320), (Reasoning, 320)], true),
            (vec![(Input, 1), (Output, 1), (Reasoning, 357)], false),
            (vec![(Input, u64::MAX), (CacheRead, u64::MAX)], false),
        ] {
            assert_eq!(BOUNDS.has_tokens(&usage(&tokens)), is_believed, "{tokens:?}");
        }
    }

    #[test]
    fn seconds_may_be_rounded_up_and_searches_may_not() {
        assert!(BOUNDS.has_units(Unit::Second, 6_000) && !BOUNDS.has_units(Unit::Second, 6_001));
        assert!(BOUNDS.has_units(Unit::Search, 5_000) && !BOUNDS.has_units(Unit::Search, 5_001));
    }

    #[test]
    fn what_is_counted_never_goes_beyond_what_was_promised() {
        use TokenClass::*;
        let counted = usage(&[(Input, 100), (ImageIn, 765), (Output, 300), (Reasoning, 100)]);
        let cut = BOUNDS.cut(counted);
        assert_eq!([Input, ImageIn, Output, Reasoning].map(|class| cut.get(class)), [100, 60, 300, 20]);
        assert_eq!(BOUNDS.cut_units(9_000), 5_000);
    }
}
