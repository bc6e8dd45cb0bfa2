//! What a provider says – in a callback, or when it is asked – and what an order makes of it. The one place where
//! news become states and money.

use parking_lot::Mutex;

use super::error::FundingError;
use super::money;
use super::order::{Order, OrderEvent, OrderState};
use super::orders::{Funding, SYSTEM};
use super::provider::{Callback, Event, News, Paid, PaymentProvider, Rejection, Subject};
use super::store;
use crate::id::OrderId;
use crate::store::{StoreError, Tx};

/// Largest body of a callback, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Headers of a callback that are kept.
pub const HEADERS_KEPT: [&str; 9] = [
    "content-type",
    "stripe-signature",
    "user-agent",
    "wechatpay-nonce",
    "wechatpay-serial",
    "wechatpay-signature",
    "wechatpay-signature-type",
    "wechatpay-timestamp",
    "x-forwarded-for",
];

/// Callbacks without a right signature that are kept within an hour, and their bytes. Anybody can send some; those of
/// a provider are always taken.
const FORGED_PER_HOUR_MAX: u32 = 2_000;
const FORGED_BYTES_PER_HOUR_MAX: usize = 8 << 20;
const HOUR_MS: i64 = 3_600_000;
/// Callbacks on the timeline of one order. A provider's own can be sent again by whoever has seen them: beyond that
/// those alone are kept that change something. What is refused leaves room for what is true.
const CALLBACKS_PER_ORDER_MAX: u64 = 200;
const REFUSED_PER_ORDER_MAX: u64 = 100;

/// How many forged callbacks, and bytes of them, were kept in the current hour.
#[derive(Debug, Default)]
pub(super) struct ForgedBudget(Mutex<(i64, u32, usize)>);

impl ForgedBudget {
    /// Counts one more; false if there were enough.
    fn spend(&self, now_ms: i64, bytes: usize) -> bool {
        let mut budget = self.0.lock();
        let hour = now_ms.div_euclid(HOUR_MS);
        if budget.0 != hour {
            *budget = (hour, 0, 0);
        }
        let fits = budget.1 < FORGED_PER_HOUR_MAX && budget.2 < FORGED_BYTES_PER_HOUR_MAX;
        if fits {
            *budget = (hour, budget.1.saturating_add(1), budget.2.saturating_add(bytes));
        }
        fits
    }
}

/// Whether a line of the timeline is one more callback than is kept of an order: the answer is the same without it.
pub(super) fn is_one_too_many(tx: &mut Tx<'_>, event: &OrderEvent) -> Result<bool, StoreError> {
    let Some(order) = event.order.filter(|_| &*event.kind == CALLBACK) else { return Ok(false) };
    let is_valid = event.verdict.as_deref() == Some("valid");
    let max = if is_valid { CALLBACKS_PER_ORDER_MAX } else { REFUSED_PER_ORDER_MAX };
    Ok(store::callbacks_in(tx, order)? >= max)
}

const CALLBACK: &str = "callback";

/// What became of a callback.
#[derive(Debug)]
pub enum Taken {
    /// It is stored and done; the body of the answer.
    Done(&'static str),
    /// It is stored and changed no money.
    Refused(Rejection),
    /// There is no such provider.
    NoProvider,
    /// Too many were forged lately; it is not stored.
    TooMany,
}

/// Where news came from, for the timeline.
struct Source<'a> {
    kind: &'static str,
    name: &'a str,
    headers: Option<String>,
    body: &'a [u8],
}

impl Funding {
    /// Takes a callback: 2xx may be answered for [`Taken::Done`] alone. An error means that it is to be sent again.
    pub fn receive(&self, provider: &str, callback: &Callback) -> Result<Taken, FundingError> {
        let Some(provider) = self.settings.provider(provider) else { return Ok(Taken::NoProvider) };
        let now_ms = self.clock.now_ms();
        let read = match callback.body.len() > BODY_BYTES_MAX {
            true => Err(Rejection::TooLarge),
            false => provider.read(callback, now_ms),
        };
        if read.is_err() && !self.forged.spend(now_ms, callback.raw().len().min(BODY_BYTES_MAX)) {
            return Ok(Taken::TooMany);
        }
        let headers = callback.headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let source = Source {
            kind: CALLBACK,
            name: read.as_ref().map_or("", |event| &event.name),
            headers: Some(headers.collect::<Vec<_>>().join("\n")),
            body: callback.raw(),
        };
        let done = match &read {
            Ok(event) => self.take(&**provider, event, &source)?,
            Err(why) => self.refuse(&**provider, self.named(&**provider, callback)?, *why, &source)?,
        };
        Ok(match done {
            Ok(()) => Taken::Done(provider.thanks()),
            Err(why) => Taken::Refused(why),
        })
    }

    /// The order whose timeline keeps a callback that is not believed.
    fn named(
        &self,
        provider: &dyn PaymentProvider,
        callback: &Callback,
    ) -> Result<Option<OrderId>, FundingError> {
        if callback.body.len() > BODY_BYTES_MAX {
            return Ok(None);
        }
        let Some(id) = provider.named_order(callback) else { return Ok(None) };
        let order = self.store.order(id)?.filter(|order| &*order.provider == provider.name());
        Ok(order.map(|order| order.id))
    }

    /// What a provider answered when it was asked about an order.
    pub(super) fn take_answer(
        &self,
        provider: &dyn PaymentProvider,
        order: &Order,
        news: News,
        raw: &[u8],
    ) -> Result<Result<(), Rejection>, FundingError> {
        let event = Event { name: "query".into(), subject: Subject::Order(order.id), news };
        let body = raw.get(..raw.len().min(BODY_BYTES_MAX)).unwrap_or_default();
        self.take(provider, &event, &Source { kind: "query", name: "query", headers: None, body })
    }

    fn take(
        &self,
        provider: &dyn PaymentProvider,
        event: &Event,
        source: &Source<'_>,
    ) -> Result<Result<(), Rejection>, FundingError> {
        let known = match &event.subject {
            Subject::Order(id) => self.store.order(*id)?,
            Subject::Payment(payment) => self.store.by_payment(provider.name(), payment)?,
            Subject::Nothing => None,
        };
        if event.news == News::Other {
            self.note(provider, known.as_ref().map(|order| order.id), "valid", "ignored", source)?;
            return Ok(Ok(()));
        }
        let Some(order) = known else { return self.refuse(provider, None, Rejection::OrderUnknown, source) };
        if &*order.provider != provider.name() {
            return self.refuse(provider, Some(order.id), Rejection::OrderMismatch, source);
        }
        match &event.news {
            News::Paid(paid) => self.take_paid(provider, &order, paid, source),
            News::Failed { expired, reason } => self.take_failure(&order, *expired, reason, source),
            News::Refunded { total, currency } => {
                self.take_money_back(provider, &order, currency, source, |funding, line| {
                    funding.refunded_in_all(order.id, *total, line)
                })
            }
            News::Refund(told) => {
                self.take_money_back(provider, &order, &told.currency, source, |funding, line| {
                    funding.refund_told(order.id, told, line)
                })
            }
            News::Dispute(told) => {
                self.take_money_back(provider, &order, &told.currency, source, |funding, line| {
                    funding.take_dispute(order.id, told, line)
                })
            }
            News::Other => Ok(Ok(())),
        }
    }

    /// Money that came: bound to the order, and credited whatever the order's time.
    fn take_paid(
        &self,
        provider: &dyn PaymentProvider,
        order: &Order,
        paid: &Paid,
        source: &Source<'_>,
    ) -> Result<Result<(), Rejection>, FundingError> {
        if let Err(why) = fits(order, paid) {
            if matches!(why, Rejection::AmountMismatch | Rejection::CurrencyMismatch) {
                return self.mismatch(order, paid, why, source);
            }
            return self.refuse(provider, Some(order.id), why, source);
        }
        let order = self.change(order.id, |order| {
            order.notified_ms = order.notified_ms.or((source.kind == CALLBACK).then(|| self.clock.now_ms()));
            let effect = match order.state {
                state if state.awaits_payment() => {
                    order.provider_ref = paid.provider_ref.clone().or_else(|| order.provider_ref.take());
                    order.payment_ref = paid.payment_ref.clone().or_else(|| order.payment_ref.take());
                    order.payer = paid.payer.clone();
                    order.method = paid.method.clone().or_else(|| order.method.take());
                    order.paid = Some((paid.amount, paid.currency.clone()));
                    self.now_paid(order);
                    if state.is_open() { "paid" } else { "paid_late" }
                }
                // The payer paid twice: what came now is to be sent back.
                _ if is_another(&order.payment_ref, &paid.payment_ref) => "paid_twice",
                OrderState::Paid => "paid_before",
                _ => "credited_before",
            };
            Ok(self.line(order, "valid", effect, source))
        })?;
        if order.state == OrderState::Paid {
            self.credit(&order)?;
        }
        Ok(Ok(()))
    }

    /// S42: signed, but not what the order says. Nothing is credited; somebody has to look.
    fn mismatch(
        &self,
        order: &Order,
        paid: &Paid,
        why: Rejection,
        source: &Source<'_>,
    ) -> Result<Result<(), Rejection>, FundingError> {
        let came = money::text(paid.amount, &paid.currency);
        let asked = money::text(order.pay, &order.pay_currency);
        let detail = format!("{came} {} for an order of {asked} {}", paid.currency, order.pay_currency);
        if order.state.may_become(OrderState::AmountMismatch) {
            self.open_case(order, paid)?;
        }
        self.change(order.id, |order| {
            if order.state.may_become(OrderState::AmountMismatch) {
                order.state = OrderState::AmountMismatch;
                order.poll_ms = None;
                order.paid = Some((paid.amount, paid.currency.clone()));
                order.payment_ref = paid.payment_ref.clone().or_else(|| order.payment_ref.take());
            }
            let event = self.line(order, why.as_str(), "refused", source);
            Ok(OrderEvent { detail: Some(detail.as_str().into()), ..event })
        })?;
        Ok(Err(why))
    }

    fn take_failure(
        &self,
        order: &Order,
        expired: bool,
        reason: &str,
        source: &Source<'_>,
    ) -> Result<Result<(), Rejection>, FundingError> {
        let next = if expired { OrderState::Expired } else { OrderState::Failed };
        self.change(order.id, |order| {
            // Out of order: what has been paid meanwhile stays so.
            let effect = match order.state.is_open() {
                true => {
                    (order.state, order.poll_ms) = (next, None);
                    next.as_str()
                }
                false => "ignored",
            };
            let event = self.line(order, "valid", effect, source);
            Ok(OrderEvent { detail: Some(reason.into()), ..event })
        })?;
        Ok(Ok(()))
    }

    /// Refunds and disputes of an order that is not credited yet are to be sent again. What was paid and never credited
    /// goes back without the account.
    fn take_money_back(
        &self,
        provider: &dyn PaymentProvider,
        order: &Order,
        currency: &str,
        source: &Source<'_>,
        act: impl Fn(&Self, &OrderEvent) -> Result<(), FundingError>,
    ) -> Result<Result<(), Rejection>, FundingError> {
        if currency != &*order.pay_currency {
            return self.refuse(provider, Some(order.id), Rejection::CurrencyMismatch, source);
        }
        if order.state.awaits_payment() && order.paid.is_some() {
            self.note(provider, Some(order.id), "valid", "was_not_credited", source)?;
            return Ok(Ok(()));
        }
        if order.state.awaits_payment() || order.state == OrderState::Paid {
            return self.refuse(provider, Some(order.id), Rejection::TooEarly, source);
        }
        act(self, &self.line(order, "valid", "", source))?;
        Ok(Ok(()))
    }

    fn refuse(
        &self,
        provider: &dyn PaymentProvider,
        order: Option<OrderId>,
        why: Rejection,
        source: &Source<'_>,
    ) -> Result<Result<(), Rejection>, FundingError> {
        tracing::warn!(provider = provider.name(), why = why.as_str(), ?order, "a callback was refused");
        self.note(provider, order, why.as_str(), "refused", source)?;
        Ok(Err(why))
    }

    fn note(
        &self,
        provider: &dyn PaymentProvider,
        order: Option<OrderId>,
        verdict: &str,
        effect: &str,
        source: &Source<'_>,
    ) -> Result<(), FundingError> {
        let event = self.written(order, provider.name(), verdict, effect, source);
        self.store.db.transaction(|tx| match is_one_too_many(tx, &event)? {
            true => Ok::<_, StoreError>(()),
            false => store::insert_event(tx, &event),
        })?;
        Ok(())
    }

    fn line(&self, order: &Order, verdict: &str, effect: &str, source: &Source<'_>) -> OrderEvent {
        self.written(Some(order.id), &order.provider, verdict, effect, source)
    }

    fn written(
        &self,
        order: Option<OrderId>,
        provider: &str,
        verdict: &str,
        effect: &str,
        source: &Source<'_>,
    ) -> OrderEvent {
        let actor = if source.kind == CALLBACK { provider } else { SYSTEM };
        let body = if source.body.len() > BODY_BYTES_MAX { &[] } else { source.body };
        OrderEvent {
            id: self.store.event_id(&*self.clock, &*self.entropy),
            order,
            provider: provider.into(),
            at_ms: self.clock.now_ms(),
            kind: source.kind.into(),
            name: Some(source.name).filter(|name| !name.is_empty()).map(Into::into),
            verdict: Some(verdict.into()),
            effect: effect.into(),
            detail: None,
            actor: actor.into(),
            headers: source.headers.as_deref().map(Into::into),
            body: Some(body.to_vec()),
        }
    }
}

/// Whether a payment is the order's.
fn fits(order: &Order, paid: &Paid) -> Result<(), Rejection> {
    if is_another(&order.provider_ref, &paid.provider_ref) {
        return Err(Rejection::OrderMismatch);
    }
    if paid.currency != order.pay_currency {
        return Err(Rejection::CurrencyMismatch);
    }
    if paid.amount != order.pay {
        return Err(Rejection::AmountMismatch);
    }
    Ok(())
}

/// Whether both numbers are known, and differ.
fn is_another(known: &Option<Box<str>>, told: &Option<Box<str>>) -> bool {
    known.as_ref().zip(told.as_ref()).is_some_and(|(known, told)| known != told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_callbacks_are_kept_up_to_a_bound_in_each_hour() {
        let budget = ForgedBudget::default();
        let kept =
            |now_ms, bytes| (0..FORGED_PER_HOUR_MAX * 2).filter(|_| budget.spend(now_ms, bytes)).count();
        assert_eq!(kept(HOUR_MS, 100), FORGED_PER_HOUR_MAX as usize);
        assert_eq!(kept(2 * HOUR_MS - 1, 100), 0);
        assert_eq!(kept(2 * HOUR_MS, 100), FORGED_PER_HOUR_MAX as usize);
        assert_eq!(kept(3 * HOUR_MS, BODY_BYTES_MAX), FORGED_BYTES_PER_HOUR_MAX / BODY_BYTES_MAX);
    }
}
