//! The integration tests: one binary, a module per part.

mod upstream;
