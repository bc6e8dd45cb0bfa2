//! Gemini's generateContent format: what an answer says about its tokens.

mod usage;

pub use usage::UsageMetadata;
