//! The worth of the comparison: each planted bug is found within a thousand calls.

use tallygate::plant::{Bug, plant};

use super::{Seen, cases, compare_seed};

/// Calls within which a bug must be found.
const WITHIN: usize = 1_000;

#[track_caller]
fn is_found(bug: Bug) {
    plant(Some(bug));
    let seeds = 0..(WITHIN / cases::CALLS) as u64;
    let found = seeds.clone().find_map(|seed| compare_seed(seed, &mut Seen::new()).err());
    plant(None);
    let found = found.unwrap_or_else(|| panic!("{bug:?} is not found within {WITHIN} calls"));
    println!("{bug:?}: {}", found.lines().take(3).collect::<Vec<_>>().join(" "));
    for seed in seeds.take(20) {
        assert_eq!(compare_seed(seed, &mut Seen::new()), Ok(()), "nothing is planted");
    }
}

#[test]
fn planted_swapped_rungs_are_found() {
    is_found(Bug::SwappedRungs);
}

#[test]
fn planted_limit_that_lets_one_more_call_pass_is_found() {
    is_found(Bug::OneCallMore);
}

#[test]
fn planted_ignored_expiry_is_found() {
    is_found(Bug::ExpiryIgnored);
}

/// E3.
#[test]
fn planted_child_that_loosens_a_switch_is_found() {
    is_found(Bug::ChildLoosens);
}

/// E6.
#[test]
fn planted_deny_that_does_not_win_is_found() {
    is_found(Bug::AllowWins);
}

/// C6.
#[test]
fn planted_zero_that_means_unlimited_is_found() {
    is_found(Bug::ZeroUnlimited);
}

#[test]
fn planted_held_money_that_does_not_count_is_found() {
    is_found(Bug::HeldIgnored);
}

#[test]
fn planted_ignored_overdraft_is_found() {
    is_found(Bug::OverdraftIgnored);
}

/// E8.
#[test]
fn planted_group_of_another_key_is_found() {
    is_found(Bug::ForeignGroup);
}

/// D8.
#[test]
fn planted_ignored_schedule_is_found() {
    is_found(Bug::ScheduleIgnored);
}
