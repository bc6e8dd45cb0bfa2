//! The data plane, the way of a request: identify → decide → reserve → route → forward → meter → settle →
//! record. One file per step; the pipeline is the only place that branches between them.

pub mod answer;
mod attempt;
pub mod bodies;
mod bounds;
mod browser;
pub mod channel_health;
pub mod channel_test;
mod content;
pub mod convert;
mod count;
mod delivery;
mod edge;
mod exchange;
mod experiments;
pub mod facts;
mod failover;
mod flood;
pub mod identify;
pub mod ladder;
mod list;
mod meter;
mod models;
mod once;
mod opening;
mod outgoing;
pub mod pipeline;
pub mod provider;
mod recent;
pub mod request;
mod respond;
mod retry_budget;
mod route;
pub mod server;
mod settle;
pub mod sse;
mod stream;
mod submit;
pub mod tokens;
mod transcript;
pub mod upstream;
mod worker;

pub(crate) use outgoing::caller_request;
pub(crate) use route::credential_headers;
pub use worker::{Gateway, Worker};
