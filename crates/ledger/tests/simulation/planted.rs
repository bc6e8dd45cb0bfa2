//! The worth of the simulator: each planted bug is found, and what finds it is named.

use ledger::{Bug, plant};

use crate::STEPS;
use crate::calendar::Calendar;
use crate::run::{self, Failure};

/// Seeds within which a bug must be found.
const WITHIN: u64 = 25;

/// The first seed that finds something.
fn first_failure(calendar: &mut Calendar) -> Option<(u64, Failure)> {
    (0..WITHIN).find_map(|seed| run::run(seed, STEPS, calendar).err().map(|failure| (seed, failure)))
}

#[test]
fn simulation_finds_each_planted_bug_and_nothing_without_one() {
    let mut calendar = Calendar::new();
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        plant(Some(bug));
        let found = first_failure(&mut calendar);
        plant(None);
        match found {
            Some((seed, failure)) => {
                let check = failure.what.lines().next().unwrap_or_default();
                println!("{bug:?}: seed {seed}, command {}: {check}", failure.step);
            }
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "not found within {WITHIN} seeds");
    if let Some((seed, failure)) = first_failure(&mut calendar) {
        panic!("nothing is planted: {}", run::told(seed, &failure));
    }
}
