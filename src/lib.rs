//! Tallygate: the AI API gateway whose bill you can check and whose refusals explain themselves.

pub mod address;
pub mod alerts;
pub mod api;
pub mod app;
pub mod bench;
pub mod books;
pub mod catalogue;
pub mod channel_credit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod demo;
pub mod directory;
pub mod explain;
pub mod funding;
pub mod gateway;
pub mod hex;
pub mod http_client;
pub mod id;
pub mod idempotency;
pub mod job;
pub mod keytext;
pub mod master_key;
pub mod notices;
#[cfg(not(feature = "planted-bugs"))]
mod plant;
#[cfg(feature = "planted-bugs")]
pub mod plant;
pub mod reconcile;
pub mod risk;
pub mod secret;
pub mod store;
pub mod summaries;
pub mod tasks;
pub mod upkeep;
