//! Settings that a provider may not have, and how a conversation tells that one cannot be converted: by the name that
//! its client gave it.

use serde_json::Number;

use super::Format;
use super::conversation::{Conversation, Part, Turn, Verbosity};
use super::object::{ConvertFault, LeftOut};

/// A setting that a provider may not have, by what its clients call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Temperature,
    TopP,
    TopK,
    FrequencyPenalty,
    PresencePenalty,
    Seed,
    Choices,
    Shape,
    Thinking,
    Verbosity,
    OutputCap,
    Stop,
}

impl Setting {
    pub fn name(self, format: Format) -> &'static str {
        use Setting::{
            Choices, FrequencyPenalty, OutputCap, PresencePenalty, Seed, Shape, Stop, Temperature, Thinking,
            TopK, TopP,
        };
        match (format, self) {
            (Format::Gemini, Temperature) => "generationConfig.temperature",
            (Format::Gemini, TopP) => "generationConfig.topP",
            (Format::Gemini, TopK) => "generationConfig.topK",
            (Format::Gemini, FrequencyPenalty) => "generationConfig.frequencyPenalty",
            (Format::Gemini, PresencePenalty) => "generationConfig.presencePenalty",
            (Format::Gemini, Seed) => "generationConfig.seed",
            (Format::Gemini, Choices) => "generationConfig.candidateCount",
            (Format::Gemini, Shape) => "generationConfig.responseMimeType",
            (Format::Gemini, Thinking) => "generationConfig.thinkingConfig",
            (Format::Gemini, OutputCap) => "generationConfig.maxOutputTokens",
            (Format::Gemini, Stop) => "generationConfig.stopSequences",
            (_, Temperature) => "temperature",
            (_, TopP) => "top_p",
            (_, TopK) => "top_k",
            (_, FrequencyPenalty) => "frequency_penalty",
            (_, PresencePenalty) => "presence_penalty",
            (_, Seed) => "seed",
            (_, Choices) => "n",
            (Format::Anthropic, Shape) => "output_config.format",
            (Format::Responses, Shape) => "text.format",
            (_, Shape) => "response_format",
            (Format::Anthropic, Thinking) => "thinking",
            (Format::Responses, Thinking) => "reasoning.effort",
            (_, Thinking) => "reasoning_effort",
            (Format::Responses, Setting::Verbosity) => "text.verbosity",
            (_, Setting::Verbosity) => "verbosity",
            (Format::Responses, OutputCap) => "max_output_tokens",
            (_, OutputCap) => "max_tokens",
            (Format::Anthropic, Stop) => "stop_sequences",
            (_, Stop) => "stop",
        }
    }
}

impl Conversation<'_> {
    pub fn setting_fault(
        &self,
        setting: Setting,
        what: &'static str,
        got: impl Into<Box<str>>,
    ) -> ConvertFault {
        ConvertFault::new(setting.name(self.origin), what, got)
    }

    /// A part of a turn that cannot be converted, told by the client's message.
    pub fn part_fault(
        &self,
        turn: &Turn<'_>,
        part: &Part<'_>,
        what: &'static str,
        got: &'static str,
    ) -> ConvertFault {
        ConvertFault::new(format!("{}[{}]", self.turns_name(), turn.message_of(part)), what, got)
    }

    /// Where the client has the proofs of thoughts.
    pub fn proof_name(&self) -> &'static str {
        match self.origin {
            Format::OpenAi | Format::DeepSeek => "reasoning_details",
            Format::Anthropic => "signature",
            Format::Gemini => "thoughtSignature",
            Format::Responses => "encrypted_content",
        }
    }

    /// What the client calls the list of what was said.
    pub fn turns_name(&self) -> &'static str {
        match self.origin {
            Format::Gemini => "contents",
            Format::Responses => "input",
            Format::OpenAi | Format::DeepSeek | Format::Anthropic => "messages",
        }
    }

    /// A wish for the style of the answer, where the provider takes none.
    pub fn leave_verbosity(&self, left: &mut LeftOut) {
        if self.verbosity.is_some_and(|verbosity| verbosity != Verbosity::Medium) {
            left.add(Setting::Verbosity.name(self.origin));
        }
    }

    /// A setting that the provider does not have; a number that changes nothing is none.
    pub fn refuse_number(&self, setting: Setting, number: Option<&Number>) -> Result<(), ConvertFault> {
        match number {
            Some(number) if number.as_f64() != Some(0.0) || setting == Setting::Seed => Err(self
                .setting_fault(
                    setting,
                    "nothing, as the provider of this model has no such setting",
                    number.to_string(),
                )),
            _ => Ok(()),
        }
    }

    /// More than one answer, where a provider gives one.
    pub fn refuse_choices(&self) -> Result<(), ConvertFault> {
        match self.sampling.choices {
            Some(choices) if choices > 1 => Err(self.setting_fault(
                Setting::Choices,
                "1, as the provider of this model gives one answer",
                choices.to_string(),
            )),
            _ => Ok(()),
        }
    }
}
