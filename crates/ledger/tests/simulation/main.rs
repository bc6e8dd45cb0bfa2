//! The seeded simulator. Each seed is one history of more than two thousand commands on one ledger, with
//! crashes, replays and a clock that jumps; an auditor foretells every outcome and compares every figure.
//!
//! `LEDGER_SEED=17 cargo nextest run -p ledger simulation` repeats one seed; `LEDGER_SEEDS=100000` runs more
//! of them than the thousand of a normal run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a run tells what happened in it")]

mod auditor;
mod calendar;
mod figures;
mod limits;
#[cfg(feature = "planted-bugs")]
mod planted;
mod random;
mod rounding;
mod run;
mod workload;

use calendar::Calendar;
use figures::Figures;

const STEPS: usize = 2_000;
const SEEDS: u64 = 1_000;
/// The seeds are dealt out to as many tests, which run side by side.
const PARTS: u64 = 4;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn simulate(part: u64) {
    let one = number("LEDGER_SEED");
    let seeds = one.map_or(0..number("LEDGER_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let count = seeds.end - seeds.start;
    let mut calendar = Calendar::new();
    let mut total = Figures::default();
    for seed in seeds.filter(|seed| seed % PARTS == part) {
        match run::run(seed, STEPS, &mut calendar) {
            Ok(figures) => total.add(&figures),
            Err(failure) => panic!("{}", run::told(seed, &failure)),
        }
    }
    println!("{total:?}");
    let never: Vec<_> = Figures::EXPECTED.iter().filter(|what| !total.0.contains_key(*what)).collect();
    assert!(count < SEEDS || never.is_empty(), "never happened: {never:?}");
}

#[test]
fn simulation_part_1_of_4() {
    simulate(0);
}

#[test]
fn simulation_part_2_of_4() {
    simulate(1);
}

#[test]
fn simulation_part_3_of_4() {
    simulate(2);
}

#[test]
fn simulation_part_4_of_4() {
    simulate(3);
}
