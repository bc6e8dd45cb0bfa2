//! What the way of a call allocates, counted.

use tallygate::directory::Snapshot;
use tallygate::gateway::ladder::{self, Verdict};

use crate::support::memory;

#[path = "../../benches/case/mod.rs"]
mod case;

/// How many allocations the decision of a call makes that passes every rung.
fn of_decide(snapshot: &Snapshot) -> u64 {
    let facts = case::facts(snapshot, 1);
    let readings = case::readings(snapshot, facts.at_ms);
    let (allocations, verdict) =
        memory::allocations(|| ladder::decide(snapshot, &facts, &readings, &case::POLICY));
    assert!(matches!(verdict, Verdict::Admit(_)), "{verdict:?}");
    allocations
}

/// An admitted call is decided without a single allocation: also with eight limits in force over its purses, three
/// rates, and a policy of 20 statements of which only the last allow.
#[test]
fn an_admitted_call_is_decided_without_an_allocation() {
    let full = case::full();
    let facts = case::facts(&full, 1);
    let limits = case::scope(&full, facts.at_ms).layers.iter().filter(|layer| layer.limit.is_some()).count();
    assert_eq!(limits, 8);
    assert_eq!((of_decide(&case::plain()), of_decide(&full)), (0, 0));
    let (counted, _) = memory::allocations(|| full.clone());
    assert!(counted > 0, "the count is no count");
}
