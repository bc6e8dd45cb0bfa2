//! The integration tests: one binary, a module per part.

mod api;
mod explain;
mod support;
mod upstream;
