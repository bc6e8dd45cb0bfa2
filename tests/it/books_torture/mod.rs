//! Random orders of all providers, codes, calls, refunds, corrections, disputes, expiries and crashes of a real process:
//! I1 to I10 hold after each step, statements close with the balances and sum to the ledger, and the comparison with what
//! the simulated providers and the upstream say finds nothing – and then finds twenty planted faults of ten kinds, each by
//! its name, and no other (B5, B6, B7).
//!
//! `BOOKS_STEPS` says how many steps (`make books-torture`: 10,000), `BOOKS_SEED` repeats a run.

mod acts;
mod audit;
mod crash;
mod faults;
mod world;

use std::time::Instant;

use world::World;

const STEPS: u64 = 120;
/// Everything is added up anew after so many steps.
const AUDIT_STEPS: u64 = 1_000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn books_torture_everything_adds_up_and_every_planted_fault_is_named() {
    let steps = setting("BOOKS_STEPS").unwrap_or(STEPS);
    let seed = setting("BOOKS_SEED").unwrap_or(46);
    eprintln!("repeat with: BOOKS_SEED={seed} BOOKS_STEPS={steps}");
    let begun = Instant::now();
    let mut world = World::new(seed);
    for step in 1..=steps {
        world.step();
        if step % AUDIT_STEPS == 0 {
            world.adds_up();
            eprintln!("{step} steps in {:.0} s: {:?}", begun.elapsed().as_secs_f64(), world.done);
        }
    }
    world.complete_the_mix();
    world.come_to_rest();
    world.adds_up();
    for told in world.agrees_with_everybody() {
        eprintln!("{told}");
    }
    eprintln!("{steps} steps and all comparisons in {:.0} s", begun.elapsed().as_secs_f64());
    eprintln!("{:#?}", world.done);
    world.faults_are_named();
}
