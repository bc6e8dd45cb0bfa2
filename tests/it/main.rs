//! The integration tests: one binary, a module per part.

mod api;
mod cli;
mod console;
mod explain;
mod sdk;
mod store;
mod store_journal;
mod store_power;
mod support;
mod upstream;
