//! The wire formats of upstreams, one file for each. A format knows where a
//! message keeps its usage, its end and its faults; it decides nothing.

pub mod anthropic;
pub mod gemini;
pub mod openai;
