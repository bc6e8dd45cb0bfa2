//! Usage in Gemini's format. `promptTokenCount` includes the cached ones, `candidatesTokenCount` does not include
//! the thoughts, and what a tool's own prompts used stands beside both (Gemini's API reference, "UsageMetadata").
//!
//! Every chunk of a stream may carry one: running totals, the last counts.

use ledger::{TokenClass, Usage};
use serde::Deserialize;

/// No call has more tokens of a kind; beyond it a usage is not believed.
const ABSURD_TOKENS: u64 = 100_000_000;

/// `usageMetadata` as it stands in an answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UsageMetadata {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    prompt_tokens_details: Option<Vec<OfModality>>,
    cache_tokens_details: Option<Vec<OfModality>>,
    candidates_tokens_details: Option<Vec<OfModality>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OfModality {
    modality: Box<str>,
    token_count: u64,
}

fn of(details: Option<&Vec<OfModality>>, modality: &str) -> u64 {
    let matching = details.into_iter().flatten().filter(|detail| &*detail.modality == modality);
    matching.fold(0, |sum, detail| sum.saturating_add(detail.token_count))
}

impl UsageMetadata {
    /// The classes, or nothing where the numbers contradict each other.
    pub fn usage(&self) -> Option<Usage> {
        let prompt = self.prompt_token_count?;
        let cached = self.cached_content_token_count.unwrap_or(0);
        let tools = self.tool_use_prompt_token_count.unwrap_or(0);
        let output = self.candidates_token_count.unwrap_or(0);
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let audio_out = of(self.candidates_tokens_details.as_ref(), "AUDIO");
        let absurd = [prompt, tools, output, thoughts].iter().any(|tokens| *tokens > ABSURD_TOKENS);
        if absurd || cached > prompt || audio_out > output || prompt + output + thoughts == 0 {
            return None;
        }
        // A cached token counts as cached, whatever it is of; each goes to the first class that claims it.
        let mut rest = prompt - cached;
        let mut take = |modality: &str| {
            let all = of(self.prompt_tokens_details.as_ref(), modality);
            let fresh = all.saturating_sub(of(self.cache_tokens_details.as_ref(), modality)).min(rest);
            rest -= fresh;
            fresh
        };
        let (audio_in, image_in) = (take("AUDIO"), take("IMAGE"));
        let mut usage = Usage::default();
        usage.set(TokenClass::Input, rest.saturating_add(tools));
        usage.set(TokenClass::CacheRead, cached);
        usage.set(TokenClass::AudioIn, audio_in);
        usage.set(TokenClass::ImageIn, image_in);
        usage.set(TokenClass::Output, output - audio_out);
        usage.set(TokenClass::AudioOut, audio_out);
        usage.set(TokenClass::Reasoning, thoughts);
        Some(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Option<Usage> {
        serde_json::from_str::<UsageMetadata>(json).unwrap().usage()
    }

    #[test]
    fn s15_each_token_counts_in_one_class() {
        let usage = usage(
            r#"{"promptTokenCount":1000,"cachedContentTokenCount":600,"candidatesTokenCount":50,
                "thoughtsTokenCount":30,"toolUsePromptTokenCount":5,"totalTokenCount":1085,
                "promptTokensDetails":[{"modality":"TEXT","tokenCount":700},{"modality":"IMAGE","tokenCount":300}],
                "cacheTokensDetails":[{"modality":"IMAGE","tokenCount":100},{"modality":"TEXT","tokenCount":500}]}"#,
        )
        .unwrap();
        let of = |class| usage.get(class);
        assert_eq!(
            (of(TokenClass::Input), of(TokenClass::CacheRead), of(TokenClass::ImageIn)),
            (205, 600, 200)
        );
        assert_eq!((of(TokenClass::Output), of(TokenClass::Reasoning)), (50, 30));
        assert_eq!(usage.tokens.iter().sum::<u64>(), 1085);
    }

    #[test]
    fn numbers_that_contradict_each_other_are_no_usage() {
        assert_eq!(usage(r#"{"promptTokenCount":5,"cachedContentTokenCount":6}"#), None);
        assert_eq!(usage(r#"{"candidatesTokenCount":6}"#), None);
        assert_eq!(usage(r#"{"promptTokenCount":0}"#), None);
    }
}
