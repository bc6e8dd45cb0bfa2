//! Making orders, crediting them, completing and cancelling them by hand, and putting right what a crash left.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::{Command, CreditSource, LedgerError, LotKind, Nano};
use parking_lot::Mutex;

use super::check::{Check, Probe};
use super::error::FundingError;
use super::money;
use super::order::{Dispute, Order, OrderEvent, OrderState, Refund};
use super::provider::{Payment, PaymentProvider, ProviderError};
use super::settings::Settings;
use super::store::{self, OrderStore, Search};
use crate::books::{Books, BooksError};
use crate::clock::{Clock, Entropy};
use crate::directory::{Directory, FieldError};
use crate::http_client::HttpClient;
use crate::id::{AccountId, CorrectionId, LotId, OrderId};
use crate::notices::Notices;
use crate::reconcile::ReconcileStore;
use crate::secret::SecretBytes;
use crate::store::{Db, Tx};

/// Spent after what was granted, among purchased lots in the middle.
/// On the timeline: an order was completed by hand.
const COMPLETED: &str = "completed";
const LOT_PRIORITY: u8 = 100;
const REASON_BYTES_MAX: usize = 500;
/// Longest name of a payment method, in bytes.
const METHOD_BYTES_MAX: usize = 40;
/// Who is named where nobody acted.
pub(super) const SYSTEM: &str = "system";

/// Orders on the books of a running gateway; see the head of `funding`. Every method blocks.
pub struct Funding {
    pub(super) store: OrderStore,
    pub(super) books: Arc<Books>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) settings: Settings,
    pub(super) http: HttpClient,
    /// Where somebody has to look.
    pub(super) cases: ReconcileStore,
    pub(super) directory: Arc<Directory>,
    pub(super) notices: Arc<Notices>,
    /// Held while money of a refund moves: the books must not be asked twice at once for one refund.
    pub(super) refunding: Mutex<()>,
    pub(super) forged: super::callback::ForgedBudget,
    pub(super) probe: Probe,
    /// By provider.
    pub(super) checks: Mutex<BTreeMap<&'static str, Check>>,
}

/// An order as it is asked for.
#[derive(Clone, Debug)]
pub struct NewOrder {
    pub account: AccountId,
    pub credit: Nano,
    pub provider: String,
    /// `None`: the provider's own, else the first of the settings.
    pub currency: Option<String>,
    pub method: Option<String>,
    pub actor: String,
}

impl Funding {
    /// Opens the orders on the books; `check_key` is the same on every node. What a crash left is put right by [`Funding::repair`].
    pub fn new(
        db: Db,
        books: Arc<Books>,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        settings: Settings,
        cases: ReconcileStore,
        (directory, notices): (Arc<Directory>, Arc<Notices>),
        check_key: &SecretBytes,
    ) -> Self {
        Funding {
            store: OrderStore::new(db),
            http: HttpClient::new(clock.clone(), entropy.clone()),
            books,
            clock,
            entropy,
            settings,
            cases,
            directory,
            notices,
            refunding: Mutex::new(()),
            forged: super::callback::ForgedBudget::default(),
            probe: Probe::new(check_key),
            checks: Mutex::default(),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn order(&self, id: OrderId) -> Result<Order, FundingError> {
        self.store.order(id)?.ok_or(FundingError::NotFound)
    }

    pub fn search(&self, search: &Search) -> Result<Vec<Order>, FundingError> {
        Ok(self.store.search(search)?)
    }

    /// How many orders of an account wait for their payment.
    pub fn open_orders(&self, account: AccountId) -> Result<u64, FundingError> {
        Ok(self.store.db.transaction(|tx| store::open_in(tx, account))?)
    }

    /// What an account's orders will credit that are being paid, or are paid and not credited yet.
    pub fn pending(&self, account: AccountId) -> Result<Nano, FundingError> {
        Ok(self.store.sum_in(account, &[OrderState::Pending, OrderState::Paid])?)
    }

    pub fn timeline(&self, id: OrderId) -> Result<Vec<OrderEvent>, FundingError> {
        Ok(self.store.timeline(id)?)
    }

    /// Callbacks that name no order, newest first; `before` is the id of an event.
    pub fn strays(&self, before: Option<u64>, limit: u32) -> Result<Vec<OrderEvent>, FundingError> {
        Ok(self.store.strays(before, limit)?)
    }

    pub fn refunds(&self, id: OrderId) -> Result<Vec<Refund>, FundingError> {
        Ok(self.store.refunds(id)?)
    }

    pub fn disputes(&self, id: OrderId) -> Result<Vec<Dispute>, FundingError> {
        Ok(self.store.disputes(id)?)
    }

    /// Makes an order and its payment at the provider.
    pub fn create(&self, new: &NewOrder) -> Result<Order, FundingError> {
        let (provider, order) = self.quote(new)?;
        let event = self.event(&order, "created", "created", &new.actor);
        self.store.db.transaction(|tx| -> Result<(), FundingError> {
            let open = store::open_in(tx, order.account)?;
            if open >= self.settings.open_orders_max {
                return Err(FundingError::TooManyOpen { open });
            }
            store::insert_order(tx, &order)?;
            Ok(store::insert_event(tx, &event)?)
        })?;
        match provider.create(&self.http, &order, &self.settings.links) {
            Ok(payment) => self.offered(order.id, payment),
            Err(why) => {
                self.not_offered(order.id, &why)?;
                Err(FundingError::Provider { provider: order.provider.clone(), why })
            }
        }
    }

    /// The order as it will be, with the amount to pay.
    fn quote(&self, new: &NewOrder) -> Result<(&Arc<dyn PaymentProvider>, Order), FundingError> {
        let settings = &self.settings;
        let provider = settings.provider(&new.provider).ok_or_else(|| {
            let known: Vec<_> = settings.providers.iter().map(|provider| provider.name()).collect();
            let known = if known.is_empty() { "none is set up".to_owned() } else { known.join(", ") };
            FieldError::new("provider", format!("is not one that is offered: {known}"))
        })?;
        let is_method = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            (1..=METHOD_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
        };
        if let Some(method) = new.method.as_deref() {
            if !is_method(method) {
                return Err(FieldError::new("method", "is not a payment method").into());
            }
            if let Some(known) = provider.methods().filter(|known| !known.contains(&method)) {
                return Err(FieldError::new("method", format!("is none of {}", known.join(", "))).into());
            }
        }
        let first = settings.rates.first().map_or("", |(currency, _)| currency);
        let currency = new.currency.as_deref().or(provider.currency()).unwrap_or(first);
        let takes_it = provider.currency().is_none_or(|only| only == currency);
        let rate = settings.rate(currency).filter(|_| takes_it);
        let rate_ppm = rate.ok_or_else(|| {
            FieldError::new(
                "pay_currency",
                format!("{currency} is not one that {} takes here", provider.name()),
            )
        })?;
        let (min, max) = (settings.order_min, settings.order_max);
        let out_of_range = |reason| FundingError::AmountOutOfRange { amount: new.credit, reason };
        if !new.credit.is_positive() || new.credit < min || new.credit > max {
            return Err(out_of_range(format!("an order credits from {min} to {max}")));
        }
        let pay = money::price(new.credit, rate_ppm, currency)
            .ok_or_else(|| out_of_range(format!("it cannot be paid in {currency}")))?;
        let now_ms = self.clock.now_ms();
        let order = Order {
            id: OrderId::new(&*self.clock, &*self.entropy),
            account: new.account,
            state: OrderState::Created,
            provider: provider.name().into(),
            method: new.method.as_deref().map(Into::into),
            credit: new.credit,
            pay,
            pay_currency: currency.into(),
            rate_ppm,
            lot: LotId::new(&*self.clock, &*self.entropy),
            provider_ref: None,
            payment_ref: None,
            pay_url: None,
            qr: None,
            payer: None,
            created_by: new.actor.as_str().into(),
            paid: None,
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(settings.order_ttl_ms),
            paid_ms: None,
            notified_ms: None,
            credited_ms: None,
            refunded_pay: Nano::ZERO,
            refunded: Nano::ZERO,
            poll_ms: Some(now_ms.saturating_add(settings.poll_ms)),
            polls: 0,
            version: 1,
        };
        Ok((provider, order))
    }

    /// A callback may have been faster than the provider's own answer: what it said stays.
    fn offered(&self, id: OrderId, payment: Payment) -> Result<Order, FundingError> {
        self.change(id, |order| {
            order.provider_ref = order.provider_ref.take().or_else(|| payment.provider_ref.clone());
            order.payment_ref = order.payment_ref.take().or_else(|| payment.payment_ref.clone());
            (order.pay_url, order.qr) = (payment.url.clone(), payment.qr.clone());
            if order.state == OrderState::Created {
                order.state = OrderState::Pending;
            }
            Ok(self.event(order, "offered", order.state.as_str(), SYSTEM))
        })
    }

    /// The provider refused, or nobody knows: an order that it may have taken stays open to a callback.
    fn not_offered(&self, id: OrderId, why: &ProviderError) -> Result<Order, FundingError> {
        self.change(id, |order| {
            if why.is_final() && order.state == OrderState::Created {
                (order.state, order.poll_ms) = (OrderState::Failed, None);
            }
            let event = self.event(order, "not_offered", order.state.as_str(), SYSTEM);
            Ok(OrderEvent { detail: Some(why.to_string().into()), ..event })
        })
    }

    /// Whether an order can be completed by hand.
    pub fn completable(&self, order: &Order, reason: &str) -> Result<(), FundingError> {
        checked_reason(reason)?;
        if order.state.awaits_payment() { Ok(()) } else { Err(wrong_state(order, "complete")) }
    }

    /// Credits an order without its provider's word. What was paid and how that is known belongs into the reason.
    /// May be repeated for one correction at will.
    pub fn complete(
        &self,
        id: OrderId,
        actor: &str,
        reason: &str,
        correction: CorrectionId,
    ) -> Result<Order, FundingError> {
        let reason = checked_reason(reason)?;
        let correction = correction.to_string();
        let is_done =
            |event: &OrderEvent| &*event.kind == COMPLETED && event.name.as_deref() == Some(&correction);
        if self.timeline(id)?.iter().any(is_done) {
            let order = self.order(id)?;
            return if order.state == OrderState::Paid { self.credit(&order) } else { Ok(order) };
        }
        let order = self.change(id, |order| {
            if !order.state.awaits_payment() {
                return Err(wrong_state(order, "complete"));
            }
            self.now_paid(order);
            let event = self.event(order, COMPLETED, "paid", actor);
            Ok(OrderEvent { name: Some(correction.as_str().into()), detail: Some(reason.into()), ..event })
        })?;
        self.credit(&order)
    }

    /// No payment is expected any more. One that comes all the same is credited. Where money has come already that could
    /// not be credited, an operator alone may end it (`by_member` = false), who has sent it back.
    pub fn cancel(&self, id: OrderId, actor: &str, by_member: bool) -> Result<Order, FundingError> {
        self.change(id, |order| {
            if !order.state.may_become(OrderState::Cancelled) || by_member && order.has_money() {
                return Err(wrong_state(order, "cancel"));
            }
            (order.state, order.poll_ms) = (OrderState::Cancelled, None);
            Ok(self.event(order, "cancelled", "cancelled", actor))
        })
    }

    /// Marks an order as paid; it is looked at again at once, should the ledger not be credited now.
    pub(super) fn now_paid(&self, order: &mut Order) {
        let now_ms = self.clock.now_ms();
        order.state = OrderState::Paid;
        order.paid_ms = Some(now_ms);
        (order.poll_ms, order.polls) = (Some(now_ms), 0);
    }

    /// Credits the ledger for an order that is paid, and has the order say so. May be repeated at will.
    pub(super) fn credit(&self, order: &Order) -> Result<Order, FundingError> {
        let command = Command::Credit {
            account: order.account.in_book(ledger::Book::Live),
            lot: ledger::LotId(order.lot.raw()),
            kind: LotKind::Purchased,
            priority: LOT_PRIORITY,
            expires_at: None,
            amount: order.credit,
            source: CreditSource::Payment,
            reference: order.reference(),
        };
        let problem = match self.books.execute_blocking(&command) {
            Ok(_) => None,
            Err(BooksError::Refused(LedgerError::AlreadyPosted { .. })) => {
                // By somebody who may still be waiting for the disk.
                self.books.flush_blocking().map_err(BooksError::from)?;
                None
            }
            Err(BooksError::Refused(
                why @ (LedgerError::ReferenceReused { .. }
                | LedgerError::TooLarge
                | LedgerError::LotExists { .. }),
            )) => Some(why.to_string()),
            Err(why) => return Err(why.into()),
        };
        self.change(order.id, |order| {
            if order.state != OrderState::Paid {
                return Err(FundingError::NotFound);
            }
            if let Some(why) = &problem {
                (order.state, order.poll_ms) = (OrderState::ManualReview, None);
                let event = self.event(order, "not_credited", "manual_review", SYSTEM);
                return Ok(OrderEvent { detail: Some(why.as_str().into()), ..event });
            }
            (order.state, order.poll_ms) = (OrderState::Credited, None);
            order.credited_ms = Some(self.clock.now_ms());
            let event = self.event(order, "credited", "credited", SYSTEM);
            Ok(OrderEvent { detail: Some(order.reference().0), ..event })
        })
        .or_else(|why| match why {
            // Another callback of the same order was faster.
            FundingError::NotFound => self.order(order.id),
            why => Err(why),
        })
    }

    /// Puts right what a crash left between order and ledger: the order follows the ledger, and what was paid is
    /// credited. To be called once the books are open; refunds that were under way are the poller's. Answers how
    /// many orders it was.
    pub fn repair(&self) -> Result<u32, FundingError> {
        let mut repaired = 0;
        let unsettled = |state: &OrderState| state.awaits_payment() || *state == OrderState::Paid;
        for state in OrderState::ALL.into_iter().filter(unsettled) {
            let mut after = 0;
            loop {
                let orders = self.store.in_state(state, after, 500)?;
                let Some(last) = orders.last() else { break };
                after = last.id.raw();
                for order in &orders {
                    match self.repair_credit(order) {
                        Ok(done) => repaired += u32::from(done),
                        Err(FundingError::Store(why)) => return Err(why.into()),
                        // The poller tries again.
                        Err(why) => {
                            tracing::error!(order = %order.id, %why, "an order could not be credited")
                        }
                    }
                }
            }
        }
        Ok(repaired)
    }

    fn repair_credit(&self, order: &Order) -> Result<bool, FundingError> {
        let posted = order.state.awaits_payment()
            && order.state != OrderState::ManualReview
            && self.books.has_posted(&order.reference());
        let order = match (order.state, posted) {
            (OrderState::Paid, _) => order.clone(),
            (_, true) => self.change(order.id, |order| {
                self.now_paid(order);
                Ok(self.event(order, "found_in_ledger", "paid", SYSTEM))
            })?,
            _ => return Ok(false),
        };
        self.credit(&order)?;
        Ok(true)
    }

    /// Changes an order and writes a line of its timeline, both or none.
    pub(super) fn change(
        &self,
        id: OrderId,
        change: impl Fn(&mut Order) -> Result<OrderEvent, FundingError>,
    ) -> Result<Order, FundingError> {
        self.change_with(id, |_, order| change(order))
    }

    /// The same with more rows in the transaction.
    pub(super) fn change_with(
        &self,
        id: OrderId,
        change: impl Fn(&mut Tx<'_>, &mut Order) -> Result<OrderEvent, FundingError>,
    ) -> Result<Order, FundingError> {
        let changed = self.store.db.transaction(|tx| {
            let mut order = store::order_in(tx, id)?.ok_or(FundingError::NotFound)?;
            let before = order.state;
            let event = change(tx, &mut order)?;
            if order.state != before && !before.may_become(order.state) {
                return Err(wrong_state(&Order { state: before, ..order }, "change"));
            }
            store::update_order(tx, &mut order)?;
            if order.state != before || !super::callback::is_one_too_many(tx, &event)? {
                store::insert_event(tx, &event)?;
            }
            Ok((before, order))
        });
        let (before, order) = changed?;
        if before == OrderState::AmountMismatch && order.state != before {
            self.close_case(&order);
        }
        Ok(order)
    }

    pub(super) fn event(&self, order: &Order, kind: &str, effect: &str, actor: &str) -> OrderEvent {
        OrderEvent {
            id: self.store.event_id(&*self.clock, &*self.entropy),
            order: Some(order.id),
            provider: order.provider.clone(),
            at_ms: self.clock.now_ms(),
            kind: kind.into(),
            name: None,
            verdict: None,
            effect: effect.into(),
            detail: None,
            actor: actor.into(),
            headers: None,
            body: None,
        }
    }
}

pub(super) fn wrong_state(order: &Order, action: &'static str) -> FundingError {
    FundingError::WrongState { order: order.id, state: order.state, action }
}

pub(super) fn checked_reason(reason: &str) -> Result<&str, FieldError> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(FieldError::new("reason", "must have from 1 to 500 bytes"));
    }
    Ok(reason)
}
