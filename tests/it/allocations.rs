//! What the way of a call allocates, counted.

use std::sync::Arc;

use tallygate::directory::organization::DEPTH_MAX;
use tallygate::directory::{Change, Object, Organization, Snapshot};
use tallygate::gateway::ladder::{self, Verdict};
use tallygate::id::OrganizationId;

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

/// Puts more organizations above the one of the call, each with its limits, as many as there may be.
fn deepen(snapshot: &mut Snapshot) {
    let lowest = Arc::clone(&snapshot.organizations().next().unwrap().organization);
    let above = |n: usize| OrganizationId::from_raw(1_000 + n as u64);
    let nodes = (0..DEPTH_MAX).map(|n| Organization {
        id: if n == 0 { lowest.id } else { above(n) },
        parent: (n + 1 < DEPTH_MAX).then(|| above(n + 1)),
        ..Organization::clone(&lowest)
    });
    snapshot.apply(nodes.map(|node| Change { version: 2, object: Object::Organization(Arc::new(node)) }));
}

/// An admitted call is decided without a single allocation: also with eight limits in force over its purses, three
/// rates, and a policy of 20 statements of which only the last allow; and below the deepest tree.
#[test]
fn an_admitted_call_is_decided_without_an_allocation() {
    let mut full = case::full();
    let facts = case::facts(&full, 1);
    let limits = case::scope(&full, facts.at_ms).layers.iter().filter(|layer| layer.limit.is_some()).count();
    assert_eq!(limits, 8);
    assert_eq!((of_decide(&case::plain()), of_decide(&full)), (0, 0));
    deepen(&mut full);
    assert_eq!(full.organizations_above(full.accounts().next().unwrap().organization).count(), DEPTH_MAX);
    assert_eq!(of_decide(&full), 0);
    let (counted, _) = memory::allocations(|| full.clone());
    assert!(counted > 0, "the count is no count");
}
