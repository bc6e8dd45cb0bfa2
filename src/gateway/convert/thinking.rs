//! How much a model is to think, in the words of every format.

use super::text::Text;

/// How much the model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    Off,
    /// As much as it likes.
    Free,
    /// In tokens, at most.
    Budget(u32),
    Effort(Effort),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    /// Of OpenAI's alone; to others it is high.
    XHigh,
}

impl Effort {
    pub fn read(text: &Text<'_>) -> Option<Self> {
        [Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::XHigh]
            .into_iter()
            .find(|known| text.is(known.name()))
    }

    pub fn name(self) -> &'static str {
        match self {
            Effort::Minimal => "minimal",
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::XHigh => "xhigh",
        }
    }

    /// In tokens: the numbers that Gemini's own OpenAI-compatible route stands for.
    pub fn budget(self) -> u32 {
        match self {
            Effort::Minimal | Effort::Low => 1_024,
            Effort::Medium => 8_192,
            Effort::High | Effort::XHigh => 24_576,
        }
    }

    /// The least effort that has this budget.
    pub fn of_budget(tokens: u32) -> Self {
        let fits = |effort: &Effort| tokens <= effort.budget();
        [Effort::Low, Effort::Medium].into_iter().find(fits).unwrap_or(Effort::High)
    }
}

/// How much is to be said: OpenAI's wish for its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    Low,
    /// As it is unsaid.
    Medium,
    High,
}

impl Verbosity {
    pub fn read(text: &Text<'_>) -> Option<Self> {
        [Verbosity::Low, Verbosity::Medium, Verbosity::High].into_iter().find(|known| text.is(known.name()))
    }

    pub fn name(self) -> &'static str {
        match self {
            Verbosity::Low => "low",
            Verbosity::Medium => "medium",
            Verbosity::High => "high",
        }
    }
}
