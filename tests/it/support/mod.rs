//! What the tests stand on.

pub mod app;
pub mod backend;
pub mod bucket;
pub mod child;
pub mod demo;
pub mod desk;
pub mod history;
pub mod house;
pub mod http;
pub mod library;
pub mod load;
pub mod memory;
pub mod port;
pub mod postgres;
pub mod powercut;
pub mod proxy;
pub mod receiver;
pub mod scripted;
pub mod secrets;
pub mod station;
pub mod studio;
pub mod submissions;
pub mod terminal;
