//! The demo: a simulated upstream with every failure in it, and the data that
//! the gateway is seeded with.

pub mod prices;
pub mod upstream;
