//! Money that goes back: refunds that are asked for here, and refunds that a provider tells of.
//!
//! The account gives first, then the provider sends: what is on its way back cannot be spent. What a provider has
//! done already is taken from the account even if it lacks it, and owed. A refund that failed is on record as failed
//! before the account gets its money back, so that nobody sends it meanwhile.

use ledger::{Nano, Withdrawal};

use super::error::FundingError;
use super::money;
use super::moves::{Given, book};
use super::order::{Order, OrderEvent, OrderState, Refund, RefundState};
use super::orders::{Funding, SYSTEM, checked_reason, wrong_state};
use super::provider::{ProviderError, RefundAnswer, RefundTold};
use super::store;
use crate::directory::FieldError;
use crate::id::{CorrectionId, OrderId};
use crate::store::Tx;

/// A refund as it is asked for.
#[derive(Clone, Debug)]
pub struct RefundAsk {
    /// Of the currency that was paid; `None`: all that is left.
    pub amount: Option<Nano>,
    pub reason: String,
    /// What the account lacks is owed, instead of a refusal.
    pub arrears: bool,
    pub actor: String,
    /// The correction that it is part of: it makes one refund, however often it asks.
    pub correction: Option<CorrectionId>,
}

/// What a refund is made of beside its amount.
struct Made<'a> {
    actor: &'a str,
    reason: &'a str,
    arrears: bool,
    elsewhere: bool,
    number: Option<Box<str>>,
    correction: Option<CorrectionId>,
}

impl Funding {
    /// Takes the money from the account and has the provider send it. The order is `refund_pending` in the answer if
    /// the provider's answer is still to come.
    pub fn refund(&self, id: OrderId, ask: &RefundAsk) -> Result<Order, FundingError> {
        let reason = checked_reason(&ask.reason)?;
        let _one_at_a_time = self.refunding.lock();
        let is_ours = |refund: &Refund| ask.correction.is_some() && refund.correction == ask.correction;
        if self.store.refunds(id)?.iter().any(is_ours) {
            return self.go_on(id);
        }
        self.change_with(id, |tx, order| {
            let (pay, _) = self.refundable_in(tx, order, ask)?;
            let made = Made {
                actor: &ask.actor,
                reason,
                arrears: ask.arrears,
                elsewhere: false,
                number: None,
                correction: ask.correction,
            };
            let refund = self.new_refund(tx, order, pay, made)?;
            let event = self.event(order, "refund", "refund_pending", &ask.actor);
            let pay = money::text(pay, &order.pay_currency);
            let detail = format!("refund {}: {pay} {}; {reason}", refund.n, order.pay_currency);
            Ok(OrderEvent { detail: Some(detail.into()), ..event })
        })?;
        self.go_on(id)
    }

    /// What a refund would send and take: of what was paid, and of what was credited.
    pub fn refundable(&self, id: OrderId, ask: &RefundAsk) -> Result<(Nano, Nano), FundingError> {
        self.store.db.transaction(|tx| {
            let order = store::order_in(tx, id)?.ok_or(FundingError::NotFound)?;
            self.refundable_in(tx, &order, ask)
        })
    }

    fn refundable_in(
        &self,
        tx: &mut Tx<'_>,
        order: &Order,
        ask: &RefundAsk,
    ) -> Result<(Nano, Nano), FundingError> {
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
        let credit = Given::read(tx, order)?.next_credit(order, pay);
        let available = self.books.balance(book(order)).available;
        if available < credit && !ask.arrears {
            return Err(FundingError::NotEnoughLeft { available, needed: credit });
        }
        Ok((pay, credit))
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
        let open = self.store.refunds(id)?.into_iter().find(|refund| refund.state.is_open());
        let refund = open.ok_or_else(|| wrong_state(&order, "resolve a refund of"))?;
        if refund.state == RefundState::Withdrawn {
            match sent {
                true => self.refund_done(id, &refund, None, (actor, Some(reason)))?,
                false => self.refund_failed(id, &refund, (actor, reason))?,
            };
        }
        self.go_on(id)
    }

    /// Goes on with what a crash or a provider's silence left of refunds and disputes.
    pub(super) fn repair_refund(&self, order: &Order) -> Result<(), FundingError> {
        let _one_at_a_time = self.refunding.lock();
        self.go_on(order.id).map(drop)
    }

    /// A provider says how much of an order it has sent back in all. What it was asked for is in it.
    pub(super) fn refunded_in_all(
        &self,
        id: OrderId,
        total: Nano,
        line: &OrderEvent,
    ) -> Result<(), FundingError> {
        let _one_at_a_time = self.refunding.lock();
        self.change_with(id, |tx, order| {
            let news = total.min(order.pay).saturating_sub(Given::read(tx, order)?.pay);
            let mut effect = "known";
            if news >= Nano::ZERO {
                for refund in store::refunds_in(tx, id)? {
                    if refund.state == RefundState::Withdrawn {
                        effect = "refund_sent";
                        self.close_done(tx, order, &refund, None)?;
                    }
                }
            }
            if news.is_positive() {
                effect = "refund_pending";
                self.new_refund(tx, order, news, sent_there(&line.provider, None))?;
            }
            Ok(OrderEvent { effect: effect.into(), ..line.clone() })
        })?;
        self.go_on(id).map(drop)
    }

    /// A provider says what became of one refund.
    pub(super) fn refund_told(
        &self,
        id: OrderId,
        told: &RefundTold,
        line: &OrderEvent,
    ) -> Result<(), FundingError> {
        let _one_at_a_time = self.refunding.lock();
        self.change_with(id, |tx, order| {
            let known = find_told(&store::refunds_in(tx, id)?, told);
            let left = order.pay.saturating_sub(Given::read(tx, order)?.pay);
            let effect = match (known, told.is_sent) {
                (Some(refund), true) if refund.state == RefundState::Withdrawn => {
                    self.close_done(tx, order, &refund, Some(told.number.clone()))?;
                    "refund_sent"
                }
                (Some(refund), false) if refund.state != RefundState::Failed => {
                    self.close_failed(tx, order, &refund)?;
                    "refund_failed"
                }
                (None, true) if left.is_positive() => {
                    let made = sent_there(&line.provider, Some(told.number.clone()));
                    self.new_refund(tx, order, told.amount.min(left), made)?;
                    "refund_pending"
                }
                (Some(_), _) => "known",
                (None, _) => "noted",
            };
            Ok(OrderEvent { effect: effect.into(), detail: Some(told.number.clone()), ..line.clone() })
        })?;
        self.go_on(id).map(drop)
    }

    fn new_refund(
        &self,
        tx: &mut Tx<'_>,
        order: &mut Order,
        pay: Nano,
        made: Made<'_>,
    ) -> Result<Refund, FundingError> {
        let given = Given::read(tx, order)?;
        let refund = Refund {
            order: order.id,
            n: store::refunds_in(tx, order.id)?.last().map_or(1, |last| last.n + 1),
            state: RefundState::Asked,
            pay,
            credit: given.next_credit(order, pay),
            arrears: made.arrears,
            elsewhere: made.elsewhere,
            correction: made.correction,
            reason: made.reason.into(),
            actor: made.actor.into(),
            provider_ref: made.number,
            at_ms: self.clock.now_ms(),
            done_ms: None,
        };
        store::insert_refund(tx, &refund)?;
        order.polls = 0;
        self.restate(tx, order)?;
        Ok(refund)
    }

    /// Brings every refund of an order forward that is not over, and has the ledger follow what is.
    pub(super) fn go_on(&self, id: OrderId) -> Result<Order, FundingError> {
        self.follow(&self.order(id)?)?;
        let mut look_again = false;
        for refund in self.store.refunds(id)?.into_iter().filter(|refund| refund.state.is_open()) {
            look_again |= self.advance(&self.order(id)?, refund)?;
        }
        let order = self.order(id)?;
        self.rest(&order, look_again.then(|| self.next_look(&order)))?;
        Ok(order)
    }

    /// Answers whether it is to be looked at again.
    fn advance(&self, order: &Order, mut refund: Refund) -> Result<bool, FundingError> {
        let may_be_known = refund.state == RefundState::Withdrawn;
        if !may_be_known {
            self.take_for(order, &mut refund)?;
        }
        if refund.elsewhere {
            return self.refund_done(order.id, &refund, None, (SYSTEM, None)).map(|()| false);
        }
        let Some(provider) = self.settings.provider(&order.provider) else {
            let why = ProviderError::Unsupported("the provider is not set up any more");
            return self.refund_unclear(order, &why, false);
        };
        if may_be_known {
            match provider.ask_refund(&self.http, order, &refund) {
                Ok(Some(answer)) => return self.refund_answered(order, &refund, answer),
                // It never heard of it.
                Ok(None) => {}
                Err(why) => {
                    let again = !matches!(why, ProviderError::Unsupported(_));
                    return self.refund_unclear(order, &why, again);
                }
            }
        }
        match provider.refund(&self.http, order, &refund) {
            Ok(answer) => self.refund_answered(order, &refund, answer),
            Err(why) if why.is_final() => {
                self.refund_failed(order.id, &refund, (SYSTEM, &why.to_string())).map(|()| false)
            }
            Err(why) => self.refund_unclear(order, &why, provider.refunds_can_be_asked_about()),
        }
    }

    /// The account gives what the refund takes.
    fn take_for(&self, order: &Order, refund: &mut Refund) -> Result<(), FundingError> {
        let (kind, reference) = (Withdrawal::OrderRefund, refund.reference());
        let taken = self.withdraw(order, kind, refund.credit, refund.arrears, reference);
        if let Err(FundingError::NotEnoughLeft { available, needed }) = taken {
            self.refund_failed(order.id, refund, (SYSTEM, "the account had too little left"))?;
            return Err(FundingError::NotEnoughLeft { available, needed });
        }
        taken?;
        if refund.arrears {
            self.tell_arrears(order, &refund.reference(), refund.at_ms)?;
        }
        refund.state = RefundState::Withdrawn;
        self.change_with(order.id, |tx, order| {
            store::update_refund(tx, refund)?;
            let event = self.event(order, "refund", "withdrawn", SYSTEM);
            Ok(OrderEvent { detail: Some(refund.reference().0), ..event })
        })?;
        Ok(())
    }

    fn refund_answered(
        &self,
        order: &Order,
        refund: &Refund,
        answer: RefundAnswer,
    ) -> Result<bool, FundingError> {
        match answer {
            RefundAnswer::Sent { number } => {
                self.refund_done(order.id, refund, number, (SYSTEM, None)).map(|()| false)
            }
            RefundAnswer::Failed { reason } => {
                self.refund_failed(order.id, refund, (SYSTEM, &reason)).map(|()| false)
            }
            RefundAnswer::OnItsWay { number } => {
                if refund.provider_ref.is_none() {
                    let known = Refund { provider_ref: number.clone(), ..refund.clone() };
                    self.change_with(order.id, |tx, order| {
                        store::update_refund(tx, &known)?;
                        order.polls = 0;
                        let event = self.event(order, "refund", "on_its_way", SYSTEM);
                        Ok(OrderEvent { detail: number.clone(), ..event })
                    })?;
                }
                Ok(true)
            }
        }
    }

    fn refund_done(
        &self,
        id: OrderId,
        refund: &Refund,
        number: Option<Box<str>>,
        (actor, reason): (&str, Option<&str>),
    ) -> Result<(), FundingError> {
        self.change_with(id, |tx, order| {
            self.close_done(tx, order, refund, number.clone())?;
            let event = self.event(order, "refund", order.state.as_str(), actor);
            let detail = reason.or(number.as_deref()).or(refund.provider_ref.as_deref());
            Ok(OrderEvent { detail: detail.map(Into::into), ..event })
        })?;
        Ok(())
    }

    fn close_done(
        &self,
        tx: &mut Tx<'_>,
        order: &mut Order,
        refund: &Refund,
        number: Option<Box<str>>,
    ) -> Result<(), FundingError> {
        let done = Refund {
            state: RefundState::Done,
            provider_ref: number.or_else(|| refund.provider_ref.clone()),
            done_ms: Some(self.clock.now_ms()),
            ..refund.clone()
        };
        store::update_refund(tx, &done)?;
        order.refunded_pay = order.refunded_pay.saturating_add(done.pay);
        order.refunded = order.refunded.saturating_add(done.credit);
        self.restate(tx, order)
    }

    /// The provider will not send it: the money goes back into the account, once that is on record.
    fn refund_failed(
        &self,
        id: OrderId,
        refund: &Refund,
        (actor, why): (&str, &str),
    ) -> Result<(), FundingError> {
        let order = self.change_with(id, |tx, order| {
            self.close_failed(tx, order, refund)?;
            let event = self.event(order, "refund", "refund_failed", actor);
            Ok(OrderEvent { detail: Some(why.into()), ..event })
        })?;
        self.follow(&order)
    }

    /// Also for one that was sent and came back.
    fn close_failed(&self, tx: &mut Tx<'_>, order: &mut Order, refund: &Refund) -> Result<(), FundingError> {
        if refund.state == RefundState::Done {
            order.refunded_pay = order.refunded_pay.saturating_sub(refund.pay);
            order.refunded = order.refunded.saturating_sub(refund.credit);
        }
        let done_ms = Some(self.clock.now_ms());
        store::update_refund(tx, &Refund { state: RefundState::Failed, done_ms, ..refund.clone() })?;
        self.restate(tx, order)
    }

    /// Nobody knows whether the provider sends it. The first time is worth a line of the timeline.
    fn refund_unclear(&self, order: &Order, why: &ProviderError, again: bool) -> Result<bool, FundingError> {
        tracing::warn!(order = %order.id, %why, again, "what became of a refund is not clear");
        let effect = if again { "asked_again_later" } else { "refund_unclear" };
        if order.polls == 0 {
            self.change(order.id, |order| {
                order.polls = 1;
                let event = self.event(order, "refund", effect, SYSTEM);
                Ok(OrderEvent { detail: Some(why.to_string().into()), ..event })
            })?;
        }
        Ok(again)
    }
}

/// A refund that was made at the provider, and not from here.
fn sent_there(provider: &str, number: Option<Box<str>>) -> Made<'_> {
    Made {
        actor: provider,
        reason: "sent back at the provider",
        arrears: true,
        elsewhere: true,
        number,
        correction: None,
    }
}

/// The refund that a provider tells of: by our number, or by the provider's; one that came back, and that the
/// provider told of in a total alone, by its amount.
fn find_told(refunds: &[Refund], told: &RefundTold) -> Option<Refund> {
    let ours = refunds.iter().find(|refund| Some(refund.n) == told.ours && !refund.elsewhere);
    let by_number = || refunds.iter().find(|refund| refund.provider_ref.as_deref() == Some(&*told.number));
    let by_amount = || {
        let is_it =
            |refund: &&Refund| refund.elsewhere && refund.provider_ref.is_none() && refund.pay == told.amount;
        refunds.iter().filter(|_| !told.is_sent).find(is_it)
    };
    ours.or_else(by_number).or_else(by_amount).cloned()
}
