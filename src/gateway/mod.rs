//! The data plane, the way of a request: identify → decide → reserve → route → forward → meter → settle →
//! record. One file per step; the pipeline is the only place that branches between them.

pub mod answer;
pub mod facts;
pub mod ladder;
pub mod provider;
pub mod request;
pub mod sse;
pub mod tokens;
