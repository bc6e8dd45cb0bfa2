//! Stripe's side: sessions, refunds, signed events.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::send::{Message, Sent};
use super::{Play, Shared};
use crate::funding::money;
use crate::funding::provider::stripe_signature;
use crate::secret::Secret;

/// A Checkout session with its payment.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub id: String,
    pub order: String,
    pub currency: String,
    pub amount: i64,
    pub paid: bool,
    pub failed: bool,
    pub refunded: i64,
    pub url: String,
    /// Where the payer comes back to.
    pub back: String,
    pub payment: String,
}

impl Session {
    fn object(&self) -> Value {
        json!({
            "id": self.id,
            "object": "checkout.session",
            "mode": "payment",
            "client_reference_id": self.order,
            "metadata": {"order": self.order},
            "currency": self.currency,
            "amount_total": self.amount,
            "payment_status": if self.paid { "paid" } else { "unpaid" },
            "status": if self.paid { "complete" } else { "open" },
            "payment_intent": self.paid.then_some(&self.payment),
            "payment_method_types": ["card"],
            "customer_details": {"email": "payer@example.com"},
            "url": (!self.paid).then_some(&self.url),
            "livemode": false,
        })
    }

    /// `None`: more than is left, or not paid.
    pub fn refund(
        &mut self,
        id: String,
        amount: i64,
        n: Option<String>,
        status: &'static str,
    ) -> Option<Refund> {
        if !self.paid || amount <= 0 || self.refunded + amount > self.amount {
            return None;
        }
        self.refunded += amount;
        let (order, payment, currency) = (self.order.clone(), self.payment.clone(), self.currency.clone());
        Some(Refund { id, order, payment, currency, amount, status, n })
    }

    pub fn charge(&self) -> Value {
        json!({
            "id": self.payment.replace("pi_", "ch_"),
            "object": "charge",
            "payment_intent": self.payment,
            "amount": self.amount,
            "amount_refunded": self.refunded,
            "currency": self.currency,
            "metadata": {"order": self.order},
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Refund {
    id: String,
    order: String,
    payment: String,
    currency: String,
    amount: i64,
    status: &'static str,
    /// Our number of it, as it was asked for.
    n: Option<String>,
}

impl Refund {
    fn object(&self) -> Value {
        json!({
            "id": self.id,
            "object": "refund",
            "payment_intent": self.payment,
            "amount": self.amount,
            "currency": self.currency,
            "status": self.status,
            "metadata": {"order": self.order, "refund": self.n},
        })
    }
}

type Answer = (u16, Value);

fn wrong(status: u16, message: &str) -> Answer {
    (status, json!({"error": {"type": "invalid_request_error", "message": message}}))
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    form_urlencoded::parse(body).into_owned().collect()
}

impl Shared {
    fn knows(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get("authorization").map(|value| value.as_bytes());
        sent.and_then(|sent| sent.strip_prefix(b"Bearer "))
            .is_some_and(|key| self.contract.stripe_key.matches(key))
    }

    /// Runs a question once for its idempotency key.
    fn once(&self, headers: &HeaderMap, run: impl FnOnce() -> Answer) -> Answer {
        if !self.knows(headers) {
            return wrong(401, "Invalid API Key provided");
        }
        if self.fails() {
            return wrong(500, "An error occurred on our end");
        }
        let name = headers.get("idempotency-key").and_then(|name| name.to_str().ok()).map(str::to_owned);
        if let Some(known) = name.as_ref().and_then(|name| self.world.lock().answered.get(name).cloned()) {
            return (200, known);
        }
        let answer = run();
        if let (200, Some(name)) = (answer.0, name) {
            self.world.lock().answered.insert(name, answer.1.clone());
        }
        if self.loses() {
            return wrong(500, "An error occurred on our end");
        }
        answer
    }

    pub(super) fn create_session(&self, headers: &HeaderMap, body: &[u8]) -> Answer {
        self.once(headers, || {
            let form = form(body);
            let get = |name: &str| form.get(name).cloned().unwrap_or_default();
            let Ok(amount) = get("line_items[0][price_data][unit_amount]").parse() else {
                return wrong(400, "Invalid integer: line_items[0][price_data][unit_amount]");
            };
            let order = get("client_reference_id");
            let mut world = self.world.lock();
            let number = world.number();
            let session = Session {
                id: format!("cs_test_{number:08}"),
                url: format!("{}/pay/{order}", self.url),
                back: get("success_url"),
                order,
                currency: get("line_items[0][price_data][currency]"),
                amount,
                paid: false,
                failed: false,
                refunded: 0,
                payment: format!("pi_{number:08}"),
            };
            let answer = session.object();
            world.sessions.insert(session.id.clone(), session);
            (200, answer)
        })
    }

    /// The newest one.
    pub(super) fn list_sessions(&self, headers: &HeaderMap) -> Answer {
        self.once(headers, || {
            let world = self.world.lock();
            let newest: Vec<_> =
                world.sessions.values().next_back().map(Session::object).into_iter().collect();
            (200, json!({"object": "list", "has_more": world.sessions.len() > 1, "data": newest}))
        })
    }

    pub(super) fn show_session(&self, headers: &HeaderMap, id: &str) -> Answer {
        self.once(headers, || match self.world.lock().sessions.get(id) {
            Some(session) => (200, session.object()),
            None => wrong(404, "No such checkout.session"),
        })
    }

    pub(super) fn refund_session(&self, headers: &HeaderMap, body: &[u8]) -> Answer {
        self.once(headers, || {
            let form = form(body);
            let get = |name: &str| form.get(name).cloned().unwrap_or_default();
            let mut world = self.world.lock();
            let number = world.number();
            let status = if world.slow_refunds { "pending" } else { "succeeded" };
            let amount: i64 = get("amount").parse().unwrap_or(0);
            let session =
                world.sessions.values_mut().find(|session| session.payment == get("payment_intent"));
            let Some(session) = session else { return wrong(404, "No such payment_intent") };
            let n = form.get("metadata[refund]").cloned();
            let Some(refund) = session.refund(format!("re_{number:08}"), amount, n, status) else {
                return wrong(400, "Refund amount is greater than unrefunded amount on charge");
            };
            let answer = refund.object();
            world.refunds.push(refund);
            (200, answer)
        })
    }

    pub(super) fn show_refunds(&self, headers: &HeaderMap, query: &str) -> Answer {
        self.once(headers, || {
            let payment = form(query.as_bytes()).remove("payment_intent").unwrap_or_default();
            let world = self.world.lock();
            let found = world.refunds.iter().filter(|refund| refund.payment == payment);
            (200, json!({"object": "list", "has_more": false, "data": found.map(Refund::object).collect::<Vec<_>>()}))
        })
    }

    pub(super) fn end_refunds(&self, order: &str, sent: bool) -> Vec<Value> {
        let mut world = self.world.lock();
        let mut back = 0;
        let mut told = Vec::new();
        for refund in world.refunds.iter_mut().filter(|refund| refund.order == order) {
            refund.status = if sent { "succeeded" } else { "failed" };
            back += if sent { 0 } else { refund.amount };
            told.push(refund.object());
        }
        if let Some(session) = world.sessions.values_mut().find(|session| session.order == order) {
            session.refunded -= back;
        }
        let world = &mut *world;
        let bill = world.alipay.get_mut(order).or_else(|| world.wechat.get_mut(order));
        bill.into_iter().flat_map(|bill| &mut bill.refunds).for_each(|refund| refund.sent = Some(sent));
        told
    }

    pub(super) fn pay_session(&self, order: &str, play: &Play) -> Option<Vec<Sent>> {
        let (kind, mut object, back) = {
            let mut world = self.world.lock();
            let session = world.sessions.values_mut().find(|session| session.order == order)?;
            (session.paid, session.failed) = (!play.fails, play.fails);
            let kind = if play.fails {
                "checkout.session.async_payment_failed"
            } else {
                "checkout.session.completed"
            };
            (kind, session.object(), session.back.clone())
        };
        if play.lost {
            return Some(Vec::new());
        }
        if let Some(amount) = &play.amount {
            let currency = object["currency"].as_str().unwrap_or_default().to_ascii_uppercase();
            let amount = ledger::Nano::parse_decimal(amount)
                .ok()
                .and_then(|amount| money::to_minor(amount, &currency));
            object["amount_total"] = json!(amount);
        }
        let event = self.event(kind, &object);
        let forged = Secret::new("whsec_of_somebody_else");
        let secret = if play.forged { &forged } else { &self.contract.stripe_webhook_secret };
        Some(self.message(&event, secret, &back).send_copies(play.copies.max(1)))
    }

    fn event(&self, kind: &str, object: &Value) -> Value {
        let number = self.world.lock().number();
        json!({
            "id": format!("evt_{number:08}"),
            "object": "event",
            "type": kind,
            "created": self.clock.now_ms() / 1_000,
            "livemode": false,
            "data": {"object": object},
        })
    }

    pub(super) fn send_event(&self, kind: &str, object: &Value) -> Sent {
        self.message(&self.event(kind, object), &self.contract.stripe_webhook_secret, "").send()
    }

    fn message(&self, event: &Value, secret: &Secret, back: &str) -> Message {
        let site = back.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let (at_s, body) = (self.clock.now_ms() / 1_000, event.to_string());
        let signature = stripe_signature(secret, at_s, body.as_bytes());
        Message {
            method: "POST",
            url: self.contract.stripe_webhook.clone().unwrap_or_else(|| format!("{site}/callbacks/stripe")),
            headers: vec![
                ("content-type", "application/json; charset=utf-8".to_owned()),
                ("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)".to_owned()),
                ("stripe-signature", format!("t={at_s},v1={signature}")),
            ],
            body,
        }
    }
}
