//! Orders, their timelines and refunds as rows.

use std::ops::ControlFlow;

use ledger::Nano;
use parking_lot::Mutex;

use super::order::{Dispute, DisputeStage, Order, OrderEvent, OrderState, Refund, RefundState};
use crate::clock::{Clock, Entropy};
use crate::id::{AccountId, CorrectionId, LotId, OrderEventId, OrderId};
use crate::store::{Db, Result, Row, StoreError, Tx, Value};
use crate::store_params;

/// Which orders to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct Search {
    pub account: Option<AccountId>,
    pub state: Option<OrderState>,
    pub provider: Option<String>,
    /// Our number, or one of the provider's.
    pub reference: Option<String>,
    /// As the provider names who paid (支付账号).
    pub payer: Option<String>,
    /// Made at or after, and before: milliseconds since 1970.
    pub since_ms: Option<i64>,
    pub until_ms: Option<i64>,
    /// Only orders before this one.
    pub before: Option<OrderId>,
    pub limit: u32,
}

const ORDER: &str = "SELECT id, account, state, provider, method, credit_nano, pay_nano, pay_currency, rate_ppm, \
     lot, provider_ref, payment_ref, pay_url, qr, payer, created_by, paid_nano, paid_currency, created_ms, \
     expires_ms, paid_ms, notified_ms, credited_ms, refunded_pay, refunded_nano, poll_ms, polls, version FROM orders";

const EVENT: &str = "SELECT id, order_id, provider, at_ms, kind, name, verdict, effect, detail, actor, headers, body \
     FROM order_events";

const REFUND: &str = "SELECT order_id, n, state, pay_nano, credit_nano, arrears, reason, actor, provider_ref, \
     at_ms, done_ms, elsewhere, correction FROM order_refunds";

const DISPUTE: &str =
    "SELECT order_id, dispute, stage, pay_nano, credit_nano, returned_nano, at_ms FROM order_disputes";

/// Rows of orders. Blocking.
pub(super) struct OrderStore {
    pub db: Db,
    /// The newest event's id: events of one process are in their order.
    last_event: Mutex<u64>,
}

impl OrderStore {
    pub fn new(db: Db) -> Self {
        OrderStore { db, last_event: Mutex::new(0) }
    }

    /// An id behind that of every event that this process has written.
    pub fn event_id(&self, clock: &dyn Clock, entropy: &dyn Entropy) -> OrderEventId {
        let mut last = self.last_event.lock();
        *last = OrderEventId::new(clock, entropy).raw().max(*last + 1);
        OrderEventId::from_raw(*last)
    }

    pub fn order(&self, id: OrderId) -> Result<Option<Order>> {
        let row = self.db.query_one(&format!("{ORDER} WHERE id = ?1"), store_params![id.raw()])?;
        row.as_ref().map(read_order).transpose()
    }

    /// The order with a number that the provider gave to its payment.
    pub fn by_payment(&self, provider: &str, payment: &str) -> Result<Option<Order>> {
        let sql = format!("{ORDER} WHERE provider = ?1 AND payment_ref = ?2");
        self.db.query_one(&sql, store_params![provider, payment])?.as_ref().map(read_order).transpose()
    }

    pub fn search(&self, search: &Search) -> Result<Vec<Order>> {
        let mut conditions = Vec::new();
        let mut params: Vec<Value> = Vec::new();
        let mut add = |condition: &str, value: Value| {
            params.push(value);
            conditions.push(condition.replace('?', &format!("?{}", params.len())));
        };
        if let Some(account) = search.account {
            add("account = ?", account.raw().into());
        }
        if let Some(state) = search.state {
            add("state = ?", state.as_str().into());
        }
        if let Some(provider) = &search.provider {
            add("provider = ?", provider.into());
        }
        if let Some(reference) = &search.reference {
            match reference.parse::<OrderId>() {
                Ok(id) => add("id = ?", id.raw().into()),
                Err(_) => add("(provider_ref = ? OR payment_ref = ?)", reference.into()),
            }
        }
        if let Some(payer) = &search.payer {
            add("payer = ?", payer.into());
        }
        if let Some(since) = search.since_ms {
            add("created_ms >= ?", since.into());
        }
        if let Some(until) = search.until_ms {
            add("created_ms < ?", until.into());
        }
        if let Some(before) = search.before {
            add("id < ?", before.raw().into());
        }
        let given = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let sql = format!("{ORDER}{given} ORDER BY id DESC LIMIT {}", search.limit);
        self.db.query(&sql, &params)?.iter().map(read_order).collect()
    }

    /// What the account's orders in these states will credit.
    pub fn sum_in(&self, account: AccountId, states: &[OrderState]) -> Result<Nano> {
        let sql = "SELECT CAST(COALESCE(SUM(credit_nano), 0) AS BIGINT) FROM orders WHERE account = ?1 AND state = ?2";
        states.iter().try_fold(Nano::ZERO, |sum, state| {
            let row = self.db.query_one(sql, store_params![account.raw(), state.as_str()])?;
            Ok(sum.saturating_add(Nano(row.map_or(Ok(0), |row| row.int(0))?)))
        })
    }

    /// Orders in a state, behind an id, in the order of their ids.
    pub fn in_state(&self, state: OrderState, after: u64, limit: u32) -> Result<Vec<Order>> {
        let sql = format!("{ORDER} WHERE state = ?1 AND id > ?2 ORDER BY id LIMIT {limit}");
        self.db.query(&sql, store_params![state.as_str(), after])?.iter().map(read_order).collect()
    }

    /// Orders that are to be looked at by now, the one that waited longest first.
    pub fn due(&self, now_ms: i64, limit: u32) -> Result<Vec<Order>> {
        let sql = format!("{ORDER} WHERE poll_ms <= ?1 ORDER BY poll_ms, id LIMIT {limit}");
        self.db.query(&sql, store_params![now_ms])?.iter().map(read_order).collect()
    }

    /// What happened to an order, oldest first.
    pub fn timeline(&self, order: OrderId) -> Result<Vec<OrderEvent>> {
        let sql = format!("{EVENT} WHERE order_id = ?1 ORDER BY id");
        self.db.query(&sql, store_params![order.raw()])?.iter().map(read_event).collect()
    }

    /// Callbacks that name no order, newest first.
    pub fn strays(&self, before: Option<u64>, limit: u32) -> Result<Vec<OrderEvent>> {
        let before = before.unwrap_or(i64::MAX.cast_unsigned());
        let sql = format!("{EVENT} WHERE order_id IS NULL AND id < ?1 ORDER BY id DESC LIMIT {limit}");
        self.db.query(&sql, store_params![before])?.iter().map(read_event).collect()
    }

    /// Orders that were paid or credited between two times.
    pub fn each_paid(
        &self,
        from_ms: i64,
        until_ms: i64,
        each: &mut dyn FnMut(Order) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let sql = format!(
            "{ORDER} WHERE paid_ms >= ?1 AND paid_ms <= ?2 OR credited_ms >= ?1 AND credited_ms <= ?2"
        );
        self.db.query_each(&sql, store_params![from_ms, until_ms], |row| each(read_order(&row)?))
    }

    /// Refunds that were asked for or done between two times, with their orders.
    pub fn each_refund(
        &self,
        from_ms: i64,
        until_ms: i64,
        each: &mut dyn FnMut(&Order, Refund) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let sql =
            format!("{REFUND} WHERE at_ms <= ?2 AND (at_ms >= ?1 OR done_ms >= ?1) ORDER BY order_id, n");
        self.each_of_orders(&sql, from_ms, until_ms, |order, row| each(order, read_refund(row)?))
    }

    /// Disputes between two times, with their orders.
    pub fn each_dispute(
        &self,
        from_ms: i64,
        until_ms: i64,
        each: &mut dyn FnMut(&Order, Dispute) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let sql = format!("{DISPUTE} WHERE at_ms >= ?1 AND at_ms <= ?2 ORDER BY order_id, dispute");
        self.each_of_orders(&sql, from_ms, until_ms, |order, row| each(order, read_dispute(row)?))
    }

    /// Rows that begin with the id of their order.
    fn each_of_orders(
        &self,
        sql: &str,
        from_ms: i64,
        until_ms: i64,
        mut each: impl FnMut(&Order, &Row) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut known: Option<Order> = None;
        self.db.query_each(sql, store_params![from_ms, until_ms], |row| {
            let id = OrderId::from_raw(row.id(0)?);
            if known.as_ref().is_none_or(|order| order.id != id) {
                known = self.order(id)?;
            }
            match &known {
                Some(order) => each(order, &row),
                None => Ok(ControlFlow::Continue(())),
            }
        })
    }

    pub fn refunds(&self, order: OrderId) -> Result<Vec<Refund>> {
        let sql = format!("{REFUND} WHERE order_id = ?1 ORDER BY n");
        self.db.query(&sql, store_params![order.raw()])?.iter().map(read_refund).collect()
    }

    pub fn disputes(&self, order: OrderId) -> Result<Vec<Dispute>> {
        let sql = format!("{DISPUTE} WHERE order_id = ?1 ORDER BY at_ms, dispute");
        self.db.query(&sql, store_params![order.raw()])?.iter().map(read_dispute).collect()
    }
}

/// The order as the transaction sees it.
pub(super) fn order_in(tx: &mut Tx<'_>, id: OrderId) -> Result<Option<Order>> {
    let row = tx.query_one(&format!("{ORDER} WHERE id = ?1"), store_params![id.raw()])?;
    row.as_ref().map(read_order).transpose()
}

pub(super) fn insert_order(tx: &mut Tx<'_>, order: &Order) -> Result<()> {
    let params = store_params![
        order.id.raw(),
        order.account.raw(),
        order.state.as_str(),
        &*order.provider,
        order.method.as_deref(),
        order.credit.0,
        order.pay.0,
        &*order.pay_currency,
        order.rate_ppm,
        order.lot.raw(),
        &*order.created_by,
        order.created_ms,
        order.expires_ms,
        order.poll_ms,
        order.version,
    ];
    let sql = "INSERT INTO orders (id, account, state, provider, method, credit_nano, pay_nano, pay_currency, \
         rate_ppm, lot, created_by, created_ms, expires_ms, refunded_pay, refunded_nano, poll_ms, polls, version) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, 0, ?14, 0, ?15)";
    tx.execute(sql, params).map(drop)
}

/// Writes what changes of an order, if it still is at its version; the written one is at the next.
pub(super) fn update_order(tx: &mut Tx<'_>, order: &mut Order) -> Result<()> {
    let (paid, paid_currency) = match &order.paid {
        Some((amount, currency)) => (Some(amount.0), Some(&**currency)),
        None => (None, None),
    };
    let params = store_params![
        order.id.raw(),
        order.version,
        order.state.as_str(),
        order.method.as_deref(),
        order.provider_ref.as_deref(),
        order.payment_ref.as_deref(),
        order.pay_url.as_deref(),
        order.qr.as_deref(),
        order.payer.as_deref(),
        paid,
        paid_currency,
        order.paid_ms,
        order.notified_ms,
        order.credited_ms,
        order.refunded_pay.0,
        order.refunded.0,
        order.poll_ms,
        order.polls,
    ];
    let sql = "UPDATE orders SET version = version + 1, state = ?3, method = ?4, provider_ref = ?5, payment_ref = ?6, \
         pay_url = ?7, qr = ?8, payer = ?9, paid_nano = ?10, paid_currency = ?11, paid_ms = ?12, notified_ms = ?13, \
         credited_ms = ?14, refunded_pay = ?15, refunded_nano = ?16, poll_ms = ?17, polls = ?18 \
         WHERE id = ?1 AND version = ?2";
    match tx.execute(sql, params)? {
        1 => {
            order.version += 1;
            Ok(())
        }
        _ => Err(StoreError::unavailable("another change of the order came in between")),
    }
}

pub(super) fn insert_event(tx: &mut Tx<'_>, event: &OrderEvent) -> Result<()> {
    let params = store_params![
        event.id.raw(),
        event.order.map(OrderId::raw),
        &*event.provider,
        event.at_ms,
        &*event.kind,
        event.name.as_deref(),
        event.verdict.as_deref(),
        &*event.effect,
        event.detail.as_deref(),
        &*event.actor,
        event.headers.as_deref(),
        event.body.as_deref(),
    ];
    let sql = "INSERT INTO order_events (id, order_id, provider, at_ms, kind, name, verdict, effect, detail, actor, \
         headers, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    tx.execute(sql, params).map(drop)
}

/// Orders of an account that wait for their payment.
pub(super) fn open_in(tx: &mut Tx<'_>, account: AccountId) -> Result<u64> {
    let sql = "SELECT COUNT(*) FROM orders WHERE account = ?1 AND state IN ('created', 'pending')";
    tx.query_one(sql, store_params![account.raw()])?.map_or(Ok(0), |row| row.id(0))
}

pub(super) fn refunds_in(tx: &mut Tx<'_>, order: OrderId) -> Result<Vec<Refund>> {
    let rows = tx.query(&format!("{REFUND} WHERE order_id = ?1 ORDER BY n"), store_params![order.raw()])?;
    rows.iter().map(read_refund).collect()
}

pub(super) fn insert_refund(tx: &mut Tx<'_>, refund: &Refund) -> Result<()> {
    let params = store_params![
        refund.order.raw(),
        refund.n,
        refund.state.as_str(),
        refund.pay.0,
        refund.credit.0,
        refund.arrears,
        &*refund.reason,
        &*refund.actor,
        refund.provider_ref.as_deref(),
        refund.at_ms,
        refund.done_ms,
        refund.elsewhere,
        refund.correction.map(CorrectionId::raw),
    ];
    let sql = "INSERT INTO order_refunds (order_id, n, state, pay_nano, credit_nano, arrears, reason, actor, \
         provider_ref, at_ms, done_ms, elsewhere, correction) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, \
         ?12, ?13)";
    tx.execute(sql, params).map(drop)
}

pub(super) fn update_refund(tx: &mut Tx<'_>, refund: &Refund) -> Result<()> {
    let params = store_params![
        refund.order.raw(),
        refund.n,
        refund.state.as_str(),
        refund.provider_ref.as_deref(),
        refund.done_ms,
    ];
    let sql =
        "UPDATE order_refunds SET state = ?3, provider_ref = ?4, done_ms = ?5 WHERE order_id = ?1 AND n = ?2";
    tx.execute(sql, params).map(drop)
}

pub(super) fn disputes_in(tx: &mut Tx<'_>, order: OrderId) -> Result<Vec<Dispute>> {
    let sql = format!("{DISPUTE} WHERE order_id = ?1 ORDER BY at_ms, dispute");
    tx.query(&sql, store_params![order.raw()])?.iter().map(read_dispute).collect()
}

pub(super) fn put_dispute(tx: &mut Tx<'_>, dispute: &Dispute) -> Result<()> {
    let params = store_params![
        dispute.order.raw(),
        &*dispute.number,
        dispute.stage.as_str(),
        dispute.pay.0,
        dispute.credit.0,
        dispute.returned.0,
        dispute.at_ms,
    ];
    let sql = "INSERT INTO order_disputes (order_id, dispute, stage, pay_nano, credit_nano, returned_nano, at_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (order_id, dispute) DO UPDATE SET stage = ?3, \
         pay_nano = ?4, credit_nano = ?5, returned_nano = ?6";
    tx.execute(sql, params).map(drop)
}

/// Callbacks on the timeline of an order.
pub(super) fn callbacks_in(tx: &mut Tx<'_>, order: OrderId) -> Result<u64> {
    let sql = "SELECT COUNT(*) FROM order_events WHERE order_id = ?1 AND kind = 'callback'";
    tx.query_one(sql, store_params![order.raw()])?.map_or(Ok(0), |row| row.id(0))
}

fn boxed(row: &Row, column: usize) -> Result<Option<Box<str>>> {
    Ok(row.maybe(column, Row::text)?.map(Into::into))
}

fn read_order(row: &Row) -> Result<Order> {
    let state = row.text(2)?;
    let paid = row.maybe(16, Row::int)?.map(Nano).zip(boxed(row, 17)?);
    Ok(Order {
        id: OrderId::from_raw(row.id(0)?),
        account: AccountId::from_raw(row.id(1)?),
        state: OrderState::parse(state)
            .ok_or_else(|| StoreError::corrupt(format!("an order has the state {state}")))?,
        provider: row.text(3)?.into(),
        method: boxed(row, 4)?,
        credit: Nano(row.int(5)?),
        pay: Nano(row.int(6)?),
        pay_currency: row.text(7)?.into(),
        rate_ppm: row.id(8)?,
        lot: LotId::from_raw(row.id(9)?),
        provider_ref: boxed(row, 10)?,
        payment_ref: boxed(row, 11)?,
        pay_url: boxed(row, 12)?,
        qr: boxed(row, 13)?,
        payer: boxed(row, 14)?,
        created_by: row.text(15)?.into(),
        paid,
        created_ms: row.int(18)?,
        expires_ms: row.int(19)?,
        paid_ms: row.maybe(20, Row::int)?,
        notified_ms: row.maybe(21, Row::int)?,
        credited_ms: row.maybe(22, Row::int)?,
        refunded_pay: Nano(row.int(23)?),
        refunded: Nano(row.int(24)?),
        poll_ms: row.maybe(25, Row::int)?,
        polls: row.u32(26)?,
        version: row.id(27)?,
    })
}

fn read_event(row: &Row) -> Result<OrderEvent> {
    Ok(OrderEvent {
        id: OrderEventId::from_raw(row.id(0)?),
        order: row.maybe(1, Row::id)?.map(OrderId::from_raw),
        provider: row.text(2)?.into(),
        at_ms: row.int(3)?,
        kind: row.text(4)?.into(),
        name: boxed(row, 5)?,
        verdict: boxed(row, 6)?,
        effect: row.text(7)?.into(),
        detail: boxed(row, 8)?,
        actor: row.text(9)?.into(),
        headers: boxed(row, 10)?,
        body: row.maybe(11, Row::blob)?.map(<[u8]>::to_vec),
    })
}

fn read_refund(row: &Row) -> Result<Refund> {
    let state = row.text(2)?;
    Ok(Refund {
        order: OrderId::from_raw(row.id(0)?),
        n: row.u32(1)?,
        state: RefundState::parse(state)
            .ok_or_else(|| StoreError::corrupt(format!("a refund has the state {state}")))?,
        pay: Nano(row.int(3)?),
        credit: Nano(row.int(4)?),
        arrears: row.int(5)? != 0,
        reason: row.text(6)?.into(),
        actor: row.text(7)?.into(),
        provider_ref: boxed(row, 8)?,
        at_ms: row.int(9)?,
        done_ms: row.maybe(10, Row::int)?,
        elsewhere: row.int(11)? != 0,
        correction: row.maybe(12, Row::id)?.map(CorrectionId::from_raw),
    })
}

fn read_dispute(row: &Row) -> Result<Dispute> {
    let stage = row.text(2)?;
    Ok(Dispute {
        order: OrderId::from_raw(row.id(0)?),
        number: row.text(1)?.into(),
        stage: DisputeStage::parse(stage)
            .ok_or_else(|| StoreError::corrupt(format!("a dispute has the stage {stage}")))?,
        pay: Nano(row.int(3)?),
        credit: Nano(row.int(4)?),
        returned: Nano(row.int(5)?),
        at_ms: row.int(6)?,
    })
}
