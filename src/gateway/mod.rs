//! The data plane: the way of a request, one file per step.

pub mod provider;
pub mod request;
pub mod sse;
pub mod tokens;
