//! Planted bugs: faults of ten kinds in the decision of a call, one at a time, that show that the comparison with the
//! naive ladder finds such faults. They exist only with the feature `planted-bugs`; without it every hook is the
//! constant `false`.

/// Whether this bug is switched on.
#[cfg(feature = "planted-bugs")]
macro_rules! planted {
    ($bug:ident) => {
        crate::plant::is_planted(crate::plant::Bug::$bug)
    };
}

#[cfg(not(feature = "planted-bugs"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub(crate) use planted;

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Bug {
        /// The balance is asked before the budgets.
        SwappedRungs,
        /// A limit of calls lets one more pass.
        OneCallMore,
        /// A key that expired can still be used.
        ExpiryIgnored,
        /// What is set further down the organization tree holds, though it is looser.
        ChildLoosens,
        /// A statement that allows wins over one that denies.
        AllowWins,
        /// A limit of zero is no limit.
        ZeroUnlimited,
        /// What running calls hold of a limit does not count.
        HeldIgnored,
        /// The declared overdraft cannot be spent.
        OverdraftIgnored,
        /// The group is that of another key of the account.
        ForeignGroup,
        /// A key can be used at any hour.
        ScheduleIgnored,
    }

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Switches one bug on for the calling thread, or all off.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use switch::is_planted;
#[cfg(feature = "planted-bugs")]
pub use switch::{Bug, plant};
