//! What the tests stand on.

pub mod app;
pub mod backend;
pub mod child;
pub mod postgres;
pub mod powercut;
pub mod proxy;
