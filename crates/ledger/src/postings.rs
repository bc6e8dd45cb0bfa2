//! Double entry: every effect as lines over ledger accounts that sum to zero.

use crate::command::{CreditSource, Withdrawal};
use crate::effect::{Debit, Effect, total};
use crate::ids::{AccountId, Book};
use crate::lots::LotKind;
use crate::money::Nano;

/// A purse of a customer's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purse {
    Granted,
    Purchased,
    /// Negative while something is owed.
    Overdraft,
    Held,
}

impl From<LotKind> for Purse {
    fn from(kind: LotKind) -> Self {
        match kind {
            LotKind::Granted => Purse::Granted,
            LotKind::Purchased => Purse::Purchased,
            LotKind::Overdraft => Purse::Overdraft,
        }
    }
}

/// An account of the double entry; the platform's exist once in each book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LedgerAccount {
    Customer(AccountId, Purse),
    Revenue(Book),
    PaymentProvider(Book),
    Promotions(Book),
    Breakage(Book),
    Compensation(Book),
    PlatformLoss(Book),
    UpstreamCost(Book),
    /// What is owed to somebody outside, or waits for an explanation.
    Suspense(Book),
}

/// One line: positive adds to the account, negative takes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    pub account: LedgerAccount,
    pub amount: Nano,
}

/// Sums of the platform's accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Platform {
    pub sums: [[i128; Platform::ACCOUNTS]; 2],
}

impl Platform {
    pub const ACCOUNTS: usize = 8;

    pub fn post(&mut self, posting: &Posting) {
        let Some((book, index)) = place(posting.account) else { return };
        if let Some(sum) = self.sums.get_mut(book as usize).and_then(|sums| sums.get_mut(index)) {
            *sum += i128::from(posting.amount.0);
        }
    }
}

/// Place of a platform account in [`Platform`].
fn place(account: LedgerAccount) -> Option<(Book, usize)> {
    match account {
        LedgerAccount::Customer(..) => None,
        LedgerAccount::Revenue(book) => Some((book, 0)),
        LedgerAccount::PaymentProvider(book) => Some((book, 1)),
        LedgerAccount::Promotions(book) => Some((book, 2)),
        LedgerAccount::Breakage(book) => Some((book, 3)),
        LedgerAccount::Compensation(book) => Some((book, 4)),
        LedgerAccount::PlatformLoss(book) => Some((book, 5)),
        LedgerAccount::UpstreamCost(book) => Some((book, 6)),
        LedgerAccount::Suspense(book) => Some((book, 7)),
    }
}

impl Effect {
    /// The lines of the transaction.
    pub fn postings(&self) -> Vec<Posting> {
        let mut lines = Vec::new();
        each(self, |line| lines.push(line));
        lines
    }
}

/// Calls `line` for each line of the effect's transaction.
pub(crate) fn each(effect: &Effect, mut line: impl FnMut(Posting)) {
    let customer = effect.account();
    let book = customer.book();
    let mut post = |account: LedgerAccount, amount: i64| {
        if amount != 0 {
            line(Posting { account, amount: Nano(amount) });
        }
    };
    let purse = |purse: Purse| LedgerAccount::Customer(customer, purse);
    let purse_of = |debit: &Debit| purse(Purse::from(debit.kind));
    match effect {
        Effect::Credited(credit) => {
            let source = match credit.source {
                CreditSource::Promotion => LedgerAccount::Promotions(book),
                CreditSource::Payment => LedgerAccount::PaymentProvider(book),
                CreditSource::Compensation => LedgerAccount::Compensation(book),
                CreditSource::Adjustment => LedgerAccount::Suspense(book),
            };
            post(source, credit.amount.0.saturating_neg());
            post(purse(Purse::Overdraft), credit.repaid.0);
            post(purse(Purse::from(credit.kind)), credit.amount.saturating_sub(credit.repaid).0);
        }
        Effect::Held(held) => {
            held.debits.iter().for_each(|debit| post(purse_of(debit), debit.amount.0.saturating_neg()));
            post(purse(Purse::Held), total(&held.debits).0);
        }
        Effect::Settled(settled) => {
            post(purse(Purse::Held), settled.held().0.saturating_neg());
            settled.returned.iter().for_each(|debit| post(purse_of(debit), debit.amount.0));
            settled.overrun.iter().for_each(|debit| post(purse_of(debit), debit.amount.0.saturating_neg()));
            post(LedgerAccount::PlatformLoss(book), settled.loss.0.saturating_neg());
            post(LedgerAccount::Revenue(book), settled.charged().saturating_add(settled.loss).0);
        }
        Effect::Released(released) => {
            post(purse(Purse::Held), total(&released.returned).0.saturating_neg());
            released.returned.iter().for_each(|debit| post(purse_of(debit), debit.amount.0));
        }
        Effect::Expired(expired) => {
            post(purse_of(&expired.debit), expired.debit.amount.0.saturating_neg());
            post(LedgerAccount::Breakage(book), expired.debit.amount.0);
        }
        Effect::Refunded(refunded) => {
            post(LedgerAccount::Revenue(book), total(&refunded.credits).0.saturating_neg());
            refunded.credits.iter().for_each(|credit| post(purse_of(credit), credit.amount.0));
        }
        Effect::Withdrawn(withdrawn) => {
            let sink = match withdrawn.kind {
                Withdrawal::Adjustment => LedgerAccount::Suspense(book),
                Withdrawal::OrderRefund | Withdrawal::Chargeback => LedgerAccount::PaymentProvider(book),
            };
            withdrawn.debits.iter().for_each(|debit| post(purse_of(debit), debit.amount.0.saturating_neg()));
            post(sink, total(&withdrawn.debits).0);
        }
        Effect::CostAccrued(cost) => {
            post(LedgerAccount::UpstreamCost(book), cost.amount.0.saturating_neg());
            post(LedgerAccount::Suspense(book), cost.amount.0);
        }
    }
}
