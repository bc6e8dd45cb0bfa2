//! Usage in Anthropic's format: `input_tokens`, `cache_creation_input_tokens` and `cache_read_input_tokens` are
//! disjoint already; thinking is part of `output_tokens` (Anthropic's API reference, "Messages").
//!
//! A stream tells its input at the start and its output at the end, and may tell any of them again: they are
//! running totals, never summed.

use ledger::{TokenClass, Usage};
use serde::Deserialize;

/// No call has more tokens of a kind; beyond it a usage is not believed.
const ABSURD_TOKENS: u64 = 100_000_000;

/// What was told so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UsageSoFar {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl UsageSoFar {
    /// Takes what an event says; what it does not say stays.
    pub fn tell(&mut self, more: &Self) {
        let put = |slot: &mut Option<u64>, more: Option<u64>| *slot = more.or(*slot);
        put(&mut self.input_tokens, more.input_tokens);
        put(&mut self.cache_creation_input_tokens, more.cache_creation_input_tokens);
        put(&mut self.cache_read_input_tokens, more.cache_read_input_tokens);
        put(&mut self.output_tokens, more.output_tokens);
    }

    pub fn tells_output(&self) -> bool {
        self.output_tokens.is_some()
    }

    /// The classes of the input, as soon as they are told: a stream that breaks off has told no more.
    pub fn input(&self) -> Option<Usage> {
        let told = Self { output_tokens: Some(0), ..*self };
        told.usage()
    }

    /// The classes, or nothing where nothing was told that can be believed.
    pub fn usage(&self) -> Option<Usage> {
        let (input, output) = (self.input_tokens?, self.output_tokens?);
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let all = [input, output, read, written];
        if all.iter().any(|tokens| *tokens > ABSURD_TOKENS) || all.iter().all(|tokens| *tokens == 0) {
            return None;
        }
        let mut usage = Usage::default();
        usage.set(TokenClass::Input, input);
        usage.set(TokenClass::CacheRead, read);
        usage.set(TokenClass::CacheWrite, written);
        usage.set(TokenClass::Output, output);
        Some(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> UsageSoFar {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn s15_classes_are_disjoint_and_totals_replace_each_other() {
        let mut so_far = told(
            r#"{"input_tokens":7,"cache_creation_input_tokens":100,"cache_read_input_tokens":2000,
                "output_tokens":1,"service_tier":"standard"}"#,
        );
        so_far.tell(&told(r#"{"output_tokens":55}"#));
        so_far.tell(&told(r#"{"output_tokens":60,"input_tokens":7}"#));
        let usage = so_far.usage().unwrap();
        let of = |class| usage.get(class);
        assert_eq!((of(TokenClass::Input), of(TokenClass::CacheRead)), (7, 2000));
        assert_eq!((of(TokenClass::CacheWrite), of(TokenClass::Output)), (100, 60));
    }

    #[test]
    fn a_usage_that_cannot_be_is_none() {
        assert_eq!(
            told(r#"{"input_tokens":7,"output_tokens":1}"#).input().unwrap().get(TokenClass::Input),
            7
        );
        assert_eq!(told(r#"{"output_tokens":7}"#).input(), None);
        assert_eq!(told(r#"{"input_tokens":9000000000}"#).input(), None);
        assert_eq!(told(r#"{"input_tokens":7}"#).usage(), None);
        assert_eq!(told(r#"{"input_tokens":0,"output_tokens":0}"#).usage(), None);
        assert_eq!(told(r#"{"input_tokens":1,"output_tokens":9000000000}"#).usage(), None);
        assert!(serde_json::from_str::<UsageSoFar>(r#"{"input_tokens":-1}"#).is_err());
    }
}
