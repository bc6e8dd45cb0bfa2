//! Planted bugs: faults of ten kinds, one at a time, that show that the simulator finds such faults. They
//! exist only with the feature `planted-bugs`; without it every hook is the constant `false`.

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
    #[repr(u8)]
    pub enum Bug {
        /// A settlement counts in the window of today, not in the one that was held.
        SettleInTodaysWindow = 1,
        /// A cost beyond the hold is charged whether or not the purses have it.
        OverrunUnbounded,
        /// A refund may be given again and again.
        RefundWithoutEnd,
        /// Halves are rounded up.
        HalfUpRounding,
        /// Purchased credit is spent before granted credit.
        PurchasedFirst,
        /// A release forgets the last layer.
        ReleaseForgetsLayer,
        /// The same reference posts twice.
        ReferenceIgnored,
        /// The overdraft is taken twice.
        OverdraftDoubled,
        /// Credit that expired can still be spent.
        ExpiredSpendable,
        /// What a settlement leaves over is not given back.
        RestKept,
    }

    impl Bug {
        pub const ALL: [Bug; 10] = [
            Bug::SettleInTodaysWindow,
            Bug::OverrunUnbounded,
            Bug::RefundWithoutEnd,
            Bug::HalfUpRounding,
            Bug::PurchasedFirst,
            Bug::ReleaseForgetsLayer,
            Bug::ReferenceIgnored,
            Bug::OverdraftDoubled,
            Bug::ExpiredSpendable,
            Bug::RestKept,
        ];
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
