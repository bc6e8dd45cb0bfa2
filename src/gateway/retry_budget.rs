//! How many calls may be sent to another channel: a share of the traffic, so that an outage of the upstreams is
//! never made larger by the gateway's own retries.
//!
//! Each worker has its own; together they are the share of all traffic.

use std::cell::Cell;

/// What one retry takes, in hundredths.
const RETRY: u32 = 100;
/// Retries that a quiet worker has saved up at the most.
const SAVED_RETRIES_MAX: u32 = 10;

/// See the module.
pub struct RetryBudget {
    /// In hundredths of a retry.
    left: Cell<u32>,
    share_percent: u32,
}

impl RetryBudget {
    /// Retries for each hundred calls; 0: none at all.
    pub fn new(share_percent: u32) -> Self {
        let saved = if share_percent == 0 { 0 } else { SAVED_RETRIES_MAX * RETRY };
        RetryBudget { left: Cell::new(saved), share_percent }
    }

    /// A call came.
    pub fn earn(&self) {
        let left = self.left.get().saturating_add(self.share_percent);
        self.left.set(left.min(SAVED_RETRIES_MAX * RETRY));
    }

    /// Takes one retry, if there is one.
    pub fn take(&self) -> bool {
        match self.left.get().checked_sub(RETRY) {
            Some(left) => {
                self.left.set(left);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outage: every call fails and asks to be tried again.
    #[test]
    fn retries_never_exceed_their_share_of_the_traffic() {
        let budget = RetryBudget::new(20);
        let taken = (0..10_000).filter(|_| {
            budget.earn();
            budget.take()
        });
        assert_eq!(taken.count(), 2_000 + SAVED_RETRIES_MAX as usize - 1);
    }

    #[test]
    fn a_quiet_time_saves_up_no_more_than_a_few() {
        let budget = RetryBudget::new(100);
        (0..1_000).for_each(|_| budget.earn());
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), SAVED_RETRIES_MAX as usize);
    }

    #[test]
    fn a_share_of_nothing_allows_nothing() {
        let budget = RetryBudget::new(0);
        budget.earn();
        assert!(!budget.take());
    }
}
