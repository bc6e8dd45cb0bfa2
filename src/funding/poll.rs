//! Asking providers about orders that they did not call back about (S38), ending orders whose time is over, and trying
//! again what did not succeed.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::error::FundingError;
use super::order::{Order, OrderState};
use super::orders::{Funding, SYSTEM};
use super::provider::{News, ProviderError};

/// Orders that are looked at in one go.
const BATCH: u32 = 100;
/// Longest time between two looks at an order.
const PAUSE_MS_MAX: i64 = 3_600_000;
/// How long after its end an order is still asked about; a callback is taken for ever.
const LATE_MS: i64 = 24 * 3_600_000;
/// How often the poller looks for orders that are due, at the most.
const TICK: Duration = Duration::from_secs(1);

impl Funding {
    /// Looks at every order that is due. Answers how many there were.
    pub fn poll_due(&self) -> Result<usize, FundingError> {
        let due = self.store.due(self.clock.now_ms(), BATCH)?;
        // A provider that does not answer is not waited for again and again, while others' orders wait.
        let mut silent: Vec<&str> = Vec::new();
        for order in &due {
            if order.state.awaits_payment() && silent.contains(&&*order.provider) {
                self.look_later(order)?;
                continue;
            }
            if let Err(why) = self.look_at(order) {
                tracing::warn!(order = %order.id, %why, "an order could not be brought forward");
                if let FundingError::Provider { why: ProviderError::Http(_), .. } = why {
                    silent.push(&order.provider);
                }
                self.look_later(order)?;
            }
        }
        Ok(due.len())
    }

    fn look_at(&self, order: &Order) -> Result<(), FundingError> {
        match order.state {
            OrderState::Paid => self.credit(order).map(drop),
            state if state.awaits_payment() => self.ask_about(order),
            _ => self.repair_refund(order),
        }
    }

    fn ask_about(&self, order: &Order) -> Result<(), FundingError> {
        if let Some(provider) = self.settings.provider(&order.provider) {
            let answer = provider.query(&self.http, order);
            let answer =
                answer.map_err(|why| FundingError::Provider { provider: order.provider.clone(), why })?;
            if let Some(news) = answer.news.filter(|news| *news != News::Other) {
                // What is refused is on the timeline, and asked again like what is still waiting.
                if self.take_answer(&**provider, order, news, &answer.raw)?.is_ok() {
                    return Ok(());
                }
            }
        }
        let now_ms = self.clock.now_ms();
        if order.state.is_open() && now_ms >= order.expires_ms {
            self.change(order.id, |order| {
                if !order.state.is_open() {
                    return Ok(self.event(order, "looked_at", "nothing", SYSTEM));
                }
                order.state = OrderState::Expired;
                order.polls = order.polls.saturating_add(1);
                order.poll_ms = Some(self.next_look(order));
                Ok(self.event(order, "expired", "expired", SYSTEM))
            })?;
            return Ok(());
        }
        self.look_later(order)
    }

    /// Not worth a line of the timeline. Whoever changed the order meanwhile knows better.
    fn look_later(&self, order: &Order) -> Result<(), FundingError> {
        let ends =
            order.state.awaits_payment() && self.clock.now_ms() > order.expires_ms.saturating_add(LATE_MS);
        let looked = Order { polls: order.polls.saturating_add(1), ..order.clone() };
        self.rest(order, (!ends).then(|| self.next_look(&looked)))
    }

    /// When an order is looked at next, unless it has changed.
    pub(super) fn rest(&self, order: &Order, next: Option<i64>) -> Result<(), FundingError> {
        let polls = order.polls.saturating_add(1);
        let sql = "UPDATE orders SET poll_ms = ?3, polls = ?4 WHERE id = ?1 AND version = ?2";
        let params = crate::store_params![order.id.raw(), order.version, next, polls];
        self.store.db.execute(sql, params)?;
        Ok(())
    }

    /// Twice as long as the time before, up to an hour; but not past the order's end.
    pub(super) fn next_look(&self, order: &Order) -> i64 {
        let pause = self.settings.poll_ms.saturating_mul(1 << order.polls.min(12)).min(PAUSE_MS_MAX);
        let (now_ms, next) = (self.clock.now_ms(), self.clock.now_ms().saturating_add(pause));
        if order.state.is_open() && now_ms < order.expires_ms { next.min(order.expires_ms) } else { next }
    }
}

/// The thread that looks after orders, until it is dropped.
pub struct Poller(#[expect(dead_code, reason = "dropping it ends the thread")] Sender<()>);

impl Poller {
    pub fn start(funding: Arc<Funding>) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let tick =
            Duration::from_millis(u64::try_from(funding.settings.poll_ms).unwrap_or(u64::MAX)).min(TICK);
        let run = move || {
            while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                if let Err(why) = funding.poll_due() {
                    tracing::warn!(%why, "orders could not be looked at");
                }
            }
        };
        std::thread::Builder::new().name("orders".into()).spawn(run)?;
        Ok(Poller(stop))
    }
}
