//! The demo: a simulated upstream with every failure in it, a gateway on the embedded database, and accounts
//! and keys that each show one thing. No account anywhere else is needed.

mod companion;
mod keys;
pub mod payments;
pub mod prices;
mod ready;
mod run;
mod seed;
pub mod upstream;

pub use run::{DemoArgs, DemoError, run};
