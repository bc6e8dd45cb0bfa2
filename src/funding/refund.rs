//! Money that goes back: refunds that are asked for here, refunds and disputes that a provider tells of.
//!
//! The account gives first, then the provider sends: what is on its way back cannot be spent. What a provider has
//! done already is taken from the account even if it lacks it, and owed.

use ledger::{AccountId, Command, CreditSource, LedgerError, LotKind, Nano, Reference, Withdrawal};

use super::error::FundingError;
use super::money;
use super::order::{Order, OrderEvent, OrderState, Refund, RefundState};
use super::orders::{Funding, SYSTEM, checked_reason, wrong_state};
use super::provider::ProviderError;
use super::store;
use crate::books::BooksError;
use crate::directory::FieldError;
use crate::id::{LotId, OrderId};

const LOT_PRIORITY: u8 = 100;
/// Providers remember the name of a refund for a day.
const REPEATABLE_MS: i64 = 20 * 3_600_000;

/// A refund as it is asked for.
#[derive(Clone, Debug)]
pub struct RefundAsk {
    /// Of the currency that was paid; `None`: all that is left.
    pub amount: Option<Nano>,
    pub reason: String,
    /// What the account lacks is owed, instead of a refusal.
    pub arrears: bool,
    pub actor: String,
}

impl Funding {
    /// Takes the money from the account and has the provider send it. The order is `refund_pending` in the answer if
    /// the provider's answer is still to come.
    pub fn refund(&self, id: OrderId, ask: &RefundAsk) -> Result<Order, FundingError> {
        let reason = checked_reason(&ask.reason)?;
        let _one_at_a_time = self.refunding.lock();
        let order = self.change_with(id, |tx, order| {
            if !matches!(order.state, OrderState::Credited | OrderState::PartiallyRefunded) {
                return Err(wrong_state(order, "refund"));
            }
            let left = order.pay.saturating_sub(order.refunded_pay);
            let pay = ask.amount.unwrap_or(left);
            if !pay.is_positive() || pay > left || money::to_minor(pay, &order.pay_currency).is_none() {
                let left = money::text(left, &order.pay_currency);
                return Err(
                    FieldError::new("pay_amount", format!("must be above zero and at most {left}")).into()
                );
            }
            let credit = part_of_credit(order, pay);
            let available = self.books.balance(book(order)).available;
            if available < credit && !ask.arrears {
                return Err(FundingError::NotEnoughLeft { available, needed: credit });
            }
            let n = self.new_refund(tx, order, pay, (&ask.actor, reason, ask.arrears))?;
            let event = self.event(order, "refund", "refund_pending", &ask.actor);
            let pay = money::text(pay, &order.pay_currency);
            let detail = format!("refund {n}: {pay} {}; {reason}", order.pay_currency);
            Ok(OrderEvent { detail: Some(detail.into()), ..event })
        })?;
        self.go_on_with_refund(&order, true)
    }

    /// Says what became of a refund about which the provider's answer was lost.
    pub fn resolve_refund(
        &self,
        id: OrderId,
        sent: bool,
        actor: &str,
        reason: &str,
    ) -> Result<Order, FundingError> {
        let reason = checked_reason(reason)?;
        let _one_at_a_time = self.refunding.lock();
        let order = self.order(id)?;
        let refund = self.open_refund(&order)?.ok_or_else(|| wrong_state(&order, "resolve a refund of"))?;
        if refund.state != RefundState::Withdrawn {
            return self.go_on_with_refund(&order, true);
        }
        match sent {
            true => self.refund_done(&order, &refund, None, (actor, Some(reason))),
            false => self.refund_failed(&order, &refund, (actor, reason)),
        }
    }

    /// Goes on with refunds that a crash or a provider's silence left. Answers whether there was one.
    pub(super) fn repair_refund(&self, order: &Order) -> Result<bool, FundingError> {
        let _one_at_a_time = self.refunding.lock();
        if order.state != OrderState::RefundPending || self.open_refund(order)?.is_none() {
            return Ok(false);
        }
        self.go_on_with_refund(order, false)?;
        Ok(true)
    }

    fn new_refund(
        &self,
        tx: &mut crate::store::Tx<'_>,
        order: &mut Order,
        pay: Nano,
        (actor, reason, arrears): (&str, &str, bool),
    ) -> Result<u32, FundingError> {
        let before = store::refunds_in(tx, order.id)?;
        let n = before.last().map_or(1, |last| last.n + 1);
        let refund = Refund {
            order: order.id,
            n,
            state: RefundState::Asked,
            pay,
            credit: part_of_credit(order, pay),
            arrears,
            reason: reason.into(),
            actor: actor.into(),
            provider_ref: None,
            at_ms: self.clock.now_ms(),
            done_ms: None,
        };
        store::insert_refund(tx, &refund)?;
        order.state = OrderState::RefundPending;
        (order.poll_ms, order.polls) = (Some(self.clock.now_ms().saturating_add(self.settings.poll_ms)), 0);
        Ok(n)
    }

    fn open_refund(&self, order: &Order) -> Result<Option<Refund>, FundingError> {
        let refunds = self.store.refunds(order.id)?;
        Ok(refunds
            .into_iter()
            .find(|refund| matches!(refund.state, RefundState::Asked | RefundState::Withdrawn)))
    }

    /// `first`: nobody has asked the provider for it yet.
    fn go_on_with_refund(&self, order: &Order, first: bool) -> Result<Order, FundingError> {
        let Some(mut refund) = self.open_refund(order)? else { return self.order(order.id) };
        let asked_before = refund.state == RefundState::Withdrawn && !first;
        let age_ms = self.clock.now_ms().saturating_sub(refund.at_ms);
        if refund.state == RefundState::Asked {
            let taken = self.withdraw(
                order,
                Withdrawal::OrderRefund,
                refund.credit,
                refund.arrears,
                refund.reference(),
            );
            if let Err(FundingError::NotEnoughLeft { available, needed }) = taken {
                self.end_refund(
                    order,
                    &refund,
                    RefundState::Failed,
                    (SYSTEM, "the account had too little left"),
                )?;
                return Err(FundingError::NotEnoughLeft { available, needed });
            }
            taken?;
            refund.state = RefundState::Withdrawn;
            self.change_with(order.id, |tx, order| {
                store::update_refund(tx, &refund)?;
                let event = self.event(order, "refund", "withdrawn", SYSTEM);
                Ok(OrderEvent { detail: Some(refund.reference().0), ..event })
            })?;
        }
        if *refund.actor == *order.provider {
            return self.refund_done(order, &refund, None, (SYSTEM, None));
        }
        let Some(provider) = self.settings.provider(&order.provider) else {
            let why = ProviderError::Unsupported("the provider is not set up any more");
            return self.refund_unclear(order, &why, false);
        };
        if asked_before && (!provider.refunds_can_be_repeated() || age_ms > REPEATABLE_MS) {
            let why =
                ProviderError::Unsupported("whether the provider sent it is to be seen at the provider");
            return self.refund_unclear(order, &why, false);
        }
        match provider.refund(&self.http, order, &refund) {
            Ok(number) => self.refund_done(order, &refund, number, (SYSTEM, None)),
            Err(why) if why.is_final() => self.refund_failed(order, &refund, (SYSTEM, &why.to_string())),
            Err(why) => self.refund_unclear(order, &why, provider.refunds_can_be_repeated()),
        }
    }

    fn refund_done(
        &self,
        order: &Order,
        refund: &Refund,
        number: Option<Box<str>>,
        (actor, reason): (&str, Option<&str>),
    ) -> Result<Order, FundingError> {
        let done = Refund {
            state: RefundState::Done,
            provider_ref: number.or_else(|| refund.provider_ref.clone()),
            done_ms: Some(self.clock.now_ms()),
            ..refund.clone()
        };
        self.change_with(order.id, |tx, order| {
            store::update_refund(tx, &done)?;
            order.refunded_pay = order.refunded_pay.saturating_add(done.pay);
            order.refunded = order.refunded.saturating_add(done.credit);
            if order.state == OrderState::RefundPending {
                order.state = order.state_after_refunds();
            }
            order.poll_ms = None;
            let event = self.event(order, "refund", order.state.as_str(), actor);
            Ok(OrderEvent { detail: reason.or(done.provider_ref.as_deref()).map(Into::into), ..event })
        })
    }

    /// The provider will not send it: the money goes back into the account.
    fn refund_failed(
        &self,
        order: &Order,
        refund: &Refund,
        why: (&str, &str),
    ) -> Result<Order, FundingError> {
        self.give_back(order, refund.credit, &format!("{}:returned", refund.reference().0))?;
        self.end_refund(order, refund, RefundState::Failed, why)
    }

    fn end_refund(
        &self,
        order: &Order,
        refund: &Refund,
        state: RefundState,
        (actor, why): (&str, &str),
    ) -> Result<Order, FundingError> {
        let ended = Refund { state, done_ms: Some(self.clock.now_ms()), ..refund.clone() };
        self.change_with(order.id, |tx, order| {
            store::update_refund(tx, &ended)?;
            if order.state == OrderState::RefundPending {
                order.state = order.state_after_refunds();
            }
            order.poll_ms = None;
            let event = self.event(order, "refund", "refund_failed", actor);
            Ok(OrderEvent { detail: Some(why.into()), ..event })
        })
    }

    /// Nobody knows whether the provider sends it: asked again later, where that cannot send it twice.
    fn refund_unclear(&self, order: &Order, why: &ProviderError, again: bool) -> Result<Order, FundingError> {
        self.change(order.id, |order| {
            order.polls = order.polls.saturating_add(1);
            order.poll_ms = again.then(|| self.next_look(order));
            let event = self.event(
                order,
                "refund",
                if again { "asked_again_later" } else { "refund_unclear" },
                SYSTEM,
            );
            Ok(OrderEvent { detail: Some(why.to_string().into()), ..event })
        })
    }

    /// A provider says how much of an order it has sent back in all.
    pub(super) fn refunded_elsewhere(
        &self,
        id: OrderId,
        total: Nano,
        line: OrderEvent,
    ) -> Result<(), FundingError> {
        let _one_at_a_time = self.refunding.lock();
        let order = self.change_with(id, |tx, order| {
            let known = store::refunds_in(tx, id)?;
            let known = known.iter().filter(|refund| refund.state != RefundState::Failed);
            let known = known.fold(Nano::ZERO, |sum, refund| sum.saturating_add(refund.pay));
            let news = total.min(order.pay).saturating_sub(known);
            if !news.is_positive() || !order.state.may_become(OrderState::RefundPending) {
                let effect = if news.is_positive() { "not_possible_now" } else { "known" };
                return Ok(OrderEvent { effect: effect.into(), ..line.clone() });
            }
            let provider = order.provider.clone();
            self.new_refund(tx, order, news, (&provider, "sent back at the provider", true))?;
            Ok(OrderEvent { effect: "refund_pending".into(), ..line.clone() })
        })?;
        self.go_on_with_refund(&order, true)?;
        Ok(())
    }

    /// The payer's bank took money back, for now: it leaves the account, too.
    pub(super) fn dispute_opened(
        &self,
        id: OrderId,
        dispute: &str,
        amount: Nano,
        line: OrderEvent,
    ) -> Result<(), FundingError> {
        let order = self.change(id, |order| {
            let effect = match order.state.may_become(OrderState::Disputed) && amount.is_positive() {
                true => {
                    (order.state, order.poll_ms) = (OrderState::Disputed, None);
                    "disputed"
                }
                false => "noted",
            };
            Ok(OrderEvent { effect: effect.into(), detail: Some(dispute.into()), ..line.clone() })
        })?;
        if !amount.is_positive() || order.state != OrderState::Disputed {
            return Ok(());
        }
        let taken = disputed_part(&order, amount);
        self.withdraw(&order, Withdrawal::Chargeback, taken, true, dispute_reference(&order, dispute))
    }

    /// A dispute that was won gives back what it took; one that was lost leaves things as they are.
    pub(super) fn dispute_closed(
        &self,
        id: OrderId,
        dispute: &str,
        (amount, won): (Nano, bool),
        line: OrderEvent,
    ) -> Result<(), FundingError> {
        let order = self.order(id)?;
        let reference = dispute_reference(&order, dispute);
        let took = self.books.has_posted(&reference);
        if won && took {
            self.give_back(&order, disputed_part(&order, amount), &format!("{}:won", reference.0))?;
        }
        self.change(id, |order| {
            let effect = match (won, took) {
                (true, true) => {
                    if order.state == OrderState::Disputed {
                        order.state = order.state_after_refunds();
                    }
                    "dispute_won"
                }
                (false, true) => "dispute_lost",
                (_, false) => "noted",
            };
            Ok(OrderEvent { effect: effect.into(), detail: Some(dispute.into()), ..line.clone() })
        })?;
        Ok(())
    }

    /// Takes money from the account, once for a reference: from the order's own lot as far as that has it.
    fn withdraw(
        &self,
        order: &Order,
        kind: Withdrawal,
        amount: Nano,
        arrears: bool,
        reference: Reference,
    ) -> Result<(), FundingError> {
        let account = book(order);
        if !amount.is_positive() || self.books.has_posted(&reference) {
            // It may have been posted by somebody who still waits for the disk.
            return self.books.flush_blocking().map_err(|stopped| BooksError::from(stopped).into());
        }
        let lot = ledger::LotId(order.lot.raw());
        let lot = self.books.balance(account).lots.iter().find(|known| known.id == lot).map(|known| known.id);
        let command = Command::Withdraw { account, kind, lot, amount, arrears, reference };
        match self.books.execute_blocking(&command) {
            Ok(_) => Ok(()),
            Err(BooksError::Refused(LedgerError::BalanceInsufficient { available, needed, .. })) => {
                Err(FundingError::NotEnoughLeft { available, needed })
            }
            Err(why) => Err(why.into()),
        }
    }

    fn give_back(&self, order: &Order, amount: Nano, reference: &str) -> Result<(), FundingError> {
        let reference = Reference::new(reference);
        if !amount.is_positive() {
            return Ok(());
        }
        let command = Command::Credit {
            account: book(order),
            lot: ledger::LotId(LotId::new(&*self.clock, &*self.entropy).raw()),
            kind: LotKind::Purchased,
            priority: LOT_PRIORITY,
            expires_at: None,
            amount,
            source: CreditSource::Payment,
            reference,
        };
        match self.books.execute_blocking(&command) {
            Ok(_) => Ok(()),
            Err(BooksError::Refused(LedgerError::AlreadyPosted { .. })) => {
                self.books.flush_blocking().map_err(|stopped| BooksError::from(stopped).into())
            }
            Err(why) => Err(why.into()),
        }
    }
}

fn book(order: &Order) -> AccountId {
    order.account.in_book(ledger::Book::Live)
}

/// What the account gives for a part of what was paid: all parts together are the credit.
fn part_of_credit(order: &Order, pay: Nano) -> Nano {
    let after = money::share(order.credit, order.refunded_pay.saturating_add(pay), order.pay);
    after.saturating_sub(order.refunded)
}

fn disputed_part(order: &Order, amount: Nano) -> Nano {
    money::share(order.credit, amount, order.pay).min(order.credit.saturating_sub(order.refunded))
}

fn dispute_reference(order: &Order, dispute: &str) -> Reference {
    Reference::new(format!("order:{}:dispute:{dispute}", order.id))
}
