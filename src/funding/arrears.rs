//! Arrears (欠费): what an account owes because its money was taken back. Its owner is told, once for each time.
//!
//! An order is an account's, not a project's, and so are the arrears of it: calls of the account are refused for want of
//! balance (rung 13), and the next money that comes in pays them first. What a project owes (rung 5) is somebody's word.

use ledger::{Nano, Reference};

use super::error::FundingError;
use super::moves::book;
use super::order::Order;
use super::orders::Funding;
use crate::notices::{Event, Facts, NewNotice};

impl Funding {
    /// Tells the account that it is in arrears since something was taken under a reference. May be repeated at will.
    pub(super) fn tell_arrears(
        &self,
        order: &Order,
        reference: &Reference,
        since_ms: i64,
    ) -> Result<(), FundingError> {
        let balance = self.books.balance(book(order));
        let overdraft = self
            .directory
            .snapshot()
            .account(order.account)
            .map_or(Nano::ZERO, |entry| entry.account.overdraft);
        let arrears = balance.owed.saturating_sub(overdraft);
        if !arrears.is_positive() {
            return Ok(());
        }
        let subject = order.account.into();
        let known = |facts: &serde_json::Map<String, serde_json::Value>| {
            facts.get("reference").and_then(|told| told.as_str()) == Some(&*reference.0)
        };
        if self.notices.was_told(Event::AccountInArrears, &subject, since_ms, known)? {
            return Ok(());
        }
        let facts = Facts::AccountInArrears {
            arrears,
            order: order.id.to_string().into(),
            reference: reference.0.clone(),
            currency: self.settings.currency.clone(),
        };
        self.notices.post(NewNotice { account: Some(order.account), subject, facts })?;
        Ok(())
    }
}
