//! Ends of lots: what is left of a lot whose end has come is written off by itself, every nano once.
//!
//! The ends wait in a heap that is made from the ledger when the books are opened, so that an end that came while nobody
//! ran is found too. A lot that still has money in open holds stays in it: what they give back later is written off then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ledger::{AccountId, Command, Debit, Effect, Ledger, LedgerError, LotId, Timestamp};

use super::{Books, BooksError, Record};

/// Lots that are written off while nobody else can reach the books.
const LOTS_AT_ONCE: usize = 256;

type End = (Timestamp, AccountId, LotId);

/// Ends of the lots that there are; a lot that was spent meanwhile is known by its absence when its end comes.
#[derive(Default)]
pub(super) struct Ends(BinaryHeap<Reverse<End>>);

impl Ends {
    pub fn of(ledger: &Ledger) -> Self {
        Ends(ledger.ends().map(Reverse).collect())
    }

    /// Takes in the end of a lot that an effect opened.
    pub fn note(&mut self, effect: &Effect) {
        let account = effect.account();
        let mut opened = |lot: LotId, end: Option<Timestamp>| {
            self.0.extend(end.map(|end| Reverse((end, account, lot))));
        };
        match effect {
            Effect::Credited(credit) => opened(credit.lot, credit.expires_at),
            Effect::Refunded(refund) => {
                refund.credits.iter().for_each(|credit: &Debit| opened(credit.lot, credit.expires_at));
            }
            _ => {}
        }
    }

    fn due(&mut self, now: Timestamp) -> Option<End> {
        let Reverse((end, ..)) = self.0.peek()?;
        if *end > now { None } else { self.0.pop().map(|Reverse(due)| due) }
    }
}

impl Books {
    /// Writes off what is left of lots whose end has come. Answers how many lots it was.
    pub fn expire_due(&self) -> Result<usize, BooksError> {
        let (mut expired, mut held) = (0, Vec::new());
        loop {
            let now = self.shared.trusted_now()?;
            let mut state = self.shared.state.lock();
            state.check_open()?;
            let mut looked_at = 0;
            while looked_at < LOTS_AT_ONCE
                && let Some((end, account, lot)) = state.ends.due(now)
            {
                looked_at += 1;
                match state.ledger.execute(&Command::Expire { account, lot }, now) {
                    Ok(effect) => {
                        state.push(Record { effects: vec![effect], call: None });
                        expired += 1;
                    }
                    Err(LedgerError::UnknownLot { .. }) => continue,
                    Err(LedgerError::NothingLeft { .. }) => {}
                    Err(why) => {
                        tracing::error!(account = account.0, lot = lot.0, %why, "a lot did not expire")
                    }
                }
                if state.ledger.has_lot(account, lot) {
                    held.push(Reverse((end, account, lot)));
                }
            }
            if looked_at < LOTS_AT_ONCE {
                state.ends.0.extend(held);
                drop(state);
                self.shared.work.notify_one();
                return Ok(expired);
            }
        }
    }
}
