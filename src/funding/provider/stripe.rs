//! Stripe: Checkout sessions, and the events of a webhook endpoint.
//!
//! From Stripe's documentation: <https://docs.stripe.com/api/checkout/sessions>,
//! <https://docs.stripe.com/webhooks/signature>, <https://docs.stripe.com/currencies>.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use ledger::Nano;
use ring::hmac;
use serde_json::Value;

use super::{
    Answer, Callback, DisputeTold, Event, News, Paid, Payment, PaymentProvider, ProviderError, RefundAnswer,
    RefundTold, Rejection, Subject, shortened,
};
use crate::funding::money;
use crate::funding::order::{DisputeStage, Order, Refund};
use crate::funding::settings::Links;
use crate::gateway::upstream::Target;
use crate::http_client::{Ask, HttpClient, Reply};
use crate::secret::Secret;

/// The version of the interface that this file speaks.
const VERSION: &str = "2024-06-20";
/// A session can be open from half an hour to a day.
const SESSION_MS: (i64, i64) = (31 * 60_000, 24 * 3_600_000 - 60_000);

pub struct Stripe {
    pub key: Secret,
    pub webhook_secret: Secret,
    /// Own account; events that name another one are refused.
    pub account: Option<Box<str>>,
    pub tolerance_ms: u64,
    pub target: Target,
}

/// The `v1` signature of a body at a time, in seconds since 1970.
pub fn sign(secret: &Secret, at_s: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    crate::hex::encode(hmac::sign(&key, &signed(at_s, body)).as_ref())
}

fn signed(at_s: i64, body: &[u8]) -> Vec<u8> {
    let mut signed = format!("{at_s}.").into_bytes();
    signed.extend_from_slice(body);
    signed
}

impl Stripe {
    /// Any of the `v1` signatures may be right: while a secret is being replaced there are two.
    fn verify(&self, header: Option<&str>, body: &[u8], now_ms: i64) -> Result<(), Rejection> {
        let parts = header.ok_or(Rejection::SignatureMissing)?.split(',');
        let parts: Vec<_> = parts.filter_map(|part| part.trim().split_once('=')).collect();
        let at_s = parts.iter().find(|(name, _)| *name == "t").and_then(|(_, at)| at.parse::<i64>().ok());
        let at_s = at_s.ok_or(Rejection::SignatureMissing)?;
        let mut tags = parts.iter().filter(|(name, _)| *name == "v1").peekable();
        if tags.peek().is_none() {
            return Err(Rejection::SignatureMissing);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.webhook_secret.expose().as_bytes());
        let signed = signed(at_s, body);
        let is_right = |tag: &str| {
            crate::hex::decode_vec(tag).is_some_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
        };
        if !tags.any(|(_, tag)| is_right(tag)) {
            return Err(Rejection::SignatureWrong);
        }
        match at_s.saturating_mul(1_000).abs_diff(now_ms) > self.tolerance_ms {
            true => Err(Rejection::SignatureStale),
            false => Ok(()),
        }
    }

    /// Whether the event is of the environment that the key is for, and of our own account.
    fn is_ours(&self, event: &Value) -> bool {
        let live = event["livemode"].as_bool();
        let environment = match self.key.expose() {
            key if key.contains("_live_") => live == Some(true),
            key if key.contains("_test_") => live == Some(false),
            _ => true,
        };
        let account = match (&self.account, event["account"].as_str()) {
            (Some(own), Some(told)) => **own == *told,
            _ => true,
        };
        environment && account
    }

    fn ask(
        &self,
        method: Method,
        path: String,
        once: Option<&str>,
        form: &[(&str, &str)],
    ) -> Result<Ask, ProviderError> {
        let value = |text: &str| {
            HeaderValue::try_from(text)
                .map_err(|_| ProviderError::Unsupported("the key cannot be sent in a header"))
        };
        let mut bearer = value(&format!("Bearer {}", self.key.expose()))?;
        bearer.set_sensitive(true);
        let mut headers = vec![
            (header::AUTHORIZATION, bearer),
            (HeaderName::from_static("stripe-version"), HeaderValue::from_static(VERSION)),
        ];
        if let Some(once) = once {
            headers.push((HeaderName::from_static("idempotency-key"), value(once)?));
        }
        let mut body = Bytes::new();
        if method == Method::POST {
            headers
                .push((header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")));
            let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            body = form.into();
        }
        Ok(Ask { target: self.target.clone(), method, path, headers, body })
    }
}

impl PaymentProvider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn create(&self, http: &HttpClient, order: &Order, links: &Links) -> Result<Payment, ProviderError> {
        let id = order.id.to_string();
        let (name, currency) = (format!("Top-up {id}"), order.pay_currency.to_ascii_lowercase());
        let amount = to_units(order.pay, &order.pay_currency)
            .ok_or(ProviderError::Unsupported("the amount is not a whole number of the currency's units"))?;
        let open_ms = order.expires_ms.saturating_sub(order.created_ms).clamp(SESSION_MS.0, SESSION_MS.1);
        let expires = (order.created_ms.saturating_add(open_ms) / 1_000).to_string();
        let mut form = vec![
            ("mode", "payment"),
            ("client_reference_id", &id),
            ("metadata[order]", &id),
            ("payment_intent_data[metadata][order]", &id),
            ("line_items[0][quantity]", "1"),
            ("line_items[0][price_data][currency]", &currency),
            ("line_items[0][price_data][unit_amount]", &amount),
            ("line_items[0][price_data][product_data][name]", &name),
            ("success_url", &links.return_url),
            ("cancel_url", &links.return_url),
            ("expires_at", &expires),
        ];
        if let Some(method) = &order.method {
            form.push(("payment_method_types[0]", method));
        }
        let ask = self.ask(Method::POST, "/v1/checkout/sessions".into(), Some(&id), &form)?;
        let session = object(&http.ask(ask)?)?;
        let provider_ref = text(&session, "id").ok_or(ProviderError::Malformed("a session without an id"))?;
        Ok(Payment {
            provider_ref: Some(provider_ref),
            payment_ref: reference(&session["payment_intent"]),
            url: text(&session, "url"),
            qr: None,
        })
    }

    fn named_order(&self, callback: &Callback) -> Option<crate::id::OrderId> {
        let event: Value = serde_json::from_slice(&callback.body).ok()?;
        named_order(&event["data"]["object"])
    }

    fn read(&self, callback: &Callback, now_ms: i64) -> Result<Event, Rejection> {
        self.verify(callback.header("stripe-signature"), &callback.body, now_ms)?;
        let event: Value = serde_json::from_slice(&callback.body).map_err(|_| Rejection::Malformed)?;
        let kind = event["type"].as_str().ok_or(Rejection::Malformed)?;
        if !self.is_ours(&event) {
            return Err(Rejection::MerchantMismatch);
        }
        let (subject, news) = read_event(kind, &event["data"]["object"])?;
        let id = event["id"].as_str().unwrap_or("?");
        Ok(Event { name: format!("{kind} {id}").into(), subject, news })
    }

    fn query(&self, http: &HttpClient, order: &Order) -> Result<Answer, ProviderError> {
        let Some(session) = order.provider_ref.as_deref().filter(|id| is_plain(id)) else {
            return Ok(Answer { news: None, raw: Vec::new() });
        };
        let ask = self.ask(Method::GET, format!("/v1/checkout/sessions/{session}"), None, &[])?;
        let reply = http.ask(ask)?;
        let found = object(&reply)?;
        if found["client_reference_id"].as_str() != Some(&order.id.to_string()) {
            return Err(ProviderError::Malformed("the session is another order's"));
        }
        let news = match (found["payment_status"].as_str(), found["status"].as_str()) {
            (Some("paid"), _) => {
                Some(News::Paid(paid(&found).ok_or(ProviderError::Malformed("a payment without an amount"))?))
            }
            (_, Some("expired")) => {
                Some(News::Failed { expired: true, reason: "the session has expired".into() })
            }
            _ => None,
        };
        Ok(Answer { news, raw: reply.body.to_vec() })
    }

    fn refund(
        &self,
        http: &HttpClient,
        order: &Order,
        refund: &Refund,
    ) -> Result<RefundAnswer, ProviderError> {
        let payment = order.payment_ref.as_deref();
        let payment = payment.ok_or(ProviderError::Unsupported("the payment's number is not known"))?;
        let amount = to_units(refund.pay, &order.pay_currency)
            .ok_or(ProviderError::Unsupported("the amount is not a whole number of the currency's units"))?;
        let (id, n, once) = (order.id.to_string(), refund.n.to_string(), refund.reference().0);
        let form = [
            ("payment_intent", payment),
            ("amount", &amount),
            ("metadata[order]", &id),
            ("metadata[refund]", &n),
        ];
        let made = object(&http.ask(self.ask(Method::POST, "/v1/refunds".into(), Some(&once), &form)?)?)?;
        Ok(refund_answer(&made))
    }

    /// Among those of the payment, as what it was asked under is forgotten after a day.
    fn ask_refund(
        &self,
        http: &HttpClient,
        order: &Order,
        refund: &Refund,
    ) -> Result<Option<RefundAnswer>, ProviderError> {
        let payment = order.payment_ref.as_deref().filter(|id| is_plain(id));
        let payment = payment.ok_or(ProviderError::Unsupported("the payment's number is not known"))?;
        let path = format!("/v1/refunds?payment_intent={payment}&limit=100");
        let found = object(&http.ask(self.ask(Method::GET, path, None, &[])?)?)?;
        let list = found["data"].as_array().ok_or(ProviderError::Malformed("no list of refunds"))?;
        let n = refund.n.to_string();
        Ok(list.iter().find(|made| made["metadata"]["refund"].as_str() == Some(&n)).map(refund_answer))
    }

    fn check(&self, http: &HttpClient) -> Result<(), ProviderError> {
        let path = "/v1/checkout/sessions?limit=1".into();
        object(&http.ask(self.ask(Method::GET, path, None, &[])?)?).map(drop)
    }

    fn thanks(&self) -> &'static str {
        "{\"received\":true}"
    }
}

fn read_event(kind: &str, object: &Value) -> Result<(Subject, News), Rejection> {
    let (subject, ours) = match named_order(object) {
        Some(order) => (Subject::Order(order), true),
        None => (Subject::Nothing, false),
    };
    let news = match kind {
        "checkout.session.completed" if object["payment_status"] != "paid" => News::Other,
        // A session without our number is another program's of the same account.
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" if ours => {
            News::Paid(paid(object).ok_or(Rejection::Malformed)?)
        }
        "checkout.session.async_payment_failed" if ours => {
            News::Failed { expired: false, reason: "the payment failed".into() }
        }
        "checkout.session.expired" if ours => {
            News::Failed { expired: true, reason: "the session has expired".into() }
        }
        "charge.refunded" if ours => {
            let (total, currency) = amount(object, "amount_refunded").ok_or(Rejection::Malformed)?;
            News::Refunded { total, currency }
        }
        "refund.updated" | "refund.failed" | "charge.refund.updated" if ours => read_refund(object)?,
        kind if kind.starts_with("charge.dispute.") => return read_dispute(object),
        _ => News::Other,
    };
    Ok((subject, news))
}

/// What is sent comes as `charge.refunded`, with all that was sent before.
fn read_refund(object: &Value) -> Result<News, Rejection> {
    if !matches!(object["status"].as_str(), Some("failed" | "canceled")) {
        return Ok(News::Other);
    }
    let number = text(object, "id").ok_or(Rejection::Malformed)?;
    let (amount, currency) = amount(object, "amount").ok_or(Rejection::Malformed)?;
    let ours = object["metadata"]["refund"].as_str().and_then(|n| n.parse().ok());
    Ok(News::Refund(RefundTold { ours, number, amount, currency, is_sent: false }))
}

fn refund_answer(made: &Value) -> RefundAnswer {
    let number = text(made, "id");
    match made["status"].as_str() {
        Some("failed" | "canceled") => {
            let reason = made["failure_reason"].as_str().unwrap_or("the refund failed");
            RefundAnswer::Failed { reason: shortened(reason) }
        }
        Some("pending" | "requires_action") => RefundAnswer::OnItsWay { number },
        _ => RefundAnswer::Sent { number },
    }
}

/// Every event about a dispute says where it stands, so that their order does not matter. An inquiry (`warning_…`)
/// takes no money; it may become a dispute.
fn read_dispute(object: &Value) -> Result<(Subject, News), Rejection> {
    let payment = reference(&object["payment_intent"]).ok_or(Rejection::Malformed)?;
    let number = text(object, "id").ok_or(Rejection::Malformed)?;
    let (amount, currency) = amount(object, "amount").ok_or(Rejection::Malformed)?;
    let stage = match object["status"].as_str().ok_or(Rejection::Malformed)? {
        "needs_response" | "under_review" => DisputeStage::Open,
        "lost" => DisputeStage::Lost,
        "won" => DisputeStage::Won,
        _ => DisputeStage::Inquiry,
    };
    Ok((Subject::Payment(payment), News::Dispute(DisputeTold { number, amount, currency, stage })))
}

fn named_order(object: &Value) -> Option<crate::id::OrderId> {
    let named = object["client_reference_id"].as_str().or_else(|| object["metadata"]["order"].as_str());
    named?.parse().ok()
}

fn paid(session: &Value) -> Option<Paid> {
    let (amount, currency) = amount(session, "amount_total")?;
    Some(Paid {
        provider_ref: text(session, "id"),
        payment_ref: reference(&session["payment_intent"]),
        amount,
        currency,
        payer: text(&session["customer_details"], "email"),
        method: session["payment_method_types"][0].as_str().map(Into::into),
    })
}

fn amount(object: &Value, field: &str) -> Option<(Nano, Box<str>)> {
    let currency = object["currency"].as_str()?.to_ascii_uppercase();
    let units = object[field].as_i64().filter(|units| *units >= 0)?;
    let minor = if is_hundredfold(&currency) { units / 100 } else { units };
    Some((money::from_minor(minor, &currency)?, currency.into()))
}

fn to_units(amount: Nano, currency: &str) -> Option<String> {
    let minor = money::to_minor(amount, currency)?;
    let units = if is_hundredfold(currency) { minor.checked_mul(100)? } else { minor };
    Some(units.to_string())
}

/// Has no smaller unit, but Stripe counts hundredths of it.
fn is_hundredfold(currency: &str) -> bool {
    matches!(currency, "UGX" | "ISK")
}

/// An id, or the object that it was expanded to.
fn reference(value: &Value) -> Option<Box<str>> {
    value.as_str().or_else(|| value["id"].as_str()).map(Into::into)
}

fn text(object: &Value, field: &str) -> Option<Box<str>> {
    object[field].as_str().filter(|text| !text.is_empty()).map(Into::into)
}

/// Whether a number can stand in a path.
fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn object(reply: &Reply) -> Result<Value, ProviderError> {
    let value: Result<Value, _> = serde_json::from_slice(&reply.body);
    match (reply.status, value) {
        (200..=299, Ok(value)) => Ok(value),
        (200..=299, Err(_)) => Err(ProviderError::Malformed("no JSON")),
        (status, value) => {
            let value = value.unwrap_or_default();
            let text = value["error"]["message"].as_str().unwrap_or("no reason was given");
            Err(ProviderError::Refused { status, text: shortened(text) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_795_334_400;
    const BODY: &[u8] =
        br#"{"id":"evt_1","object":"event","type":"plan.created","livemode":false,"data":{"object":{}}}"#;

    fn stripe() -> Stripe {
        Stripe {
            key: Secret::new("sk_test_key"),
            webhook_secret: Secret::new("whsec_a-secret-of-the-tests"),
            account: Some("acct_own".into()),
            tolerance_ms: 300_000,
            target: Target::parse("http://127.0.0.1:9").unwrap(),
        }
    }

    fn read(header: Option<String>, body: &[u8]) -> Result<Event, Rejection> {
        let headers = header.into_iter().map(|value| ("stripe-signature".into(), value.into())).collect();
        let callback = Callback { method: Method::POST, query: "".into(), headers, body: body.to_vec() };
        stripe().read(&callback, NOW_S * 1_000)
    }

    fn signed_at(at_s: i64, body: &[u8]) -> Option<String> {
        Some(format!("t={at_s},v1={}", sign(&stripe().webhook_secret, at_s, body)))
    }

    /// S37: nothing is believed that is not signed with the secret, now.
    #[test]
    fn s37_a_signature_that_is_missing_wrong_or_old_is_refused() {
        assert_eq!(read(signed_at(NOW_S, BODY), BODY).unwrap().news, News::Other);
        assert_eq!(read(None, BODY), Err(Rejection::SignatureMissing));
        for header in ["", "t=1", "v1=00", "t=x,v1=00"] {
            assert_eq!(read(Some(header.into()), BODY), Err(Rejection::SignatureMissing), "{header}");
        }
        let other = sign(&Secret::new(""), NOW_S, BODY);
        for tag in ["", "zz", "00", &other] {
            assert_eq!(
                read(Some(format!("t={NOW_S},v1={tag}")), BODY),
                Err(Rejection::SignatureWrong),
                "{tag}"
            );
        }
        assert_eq!(read(signed_at(NOW_S, BODY), b"{}"), Err(Rejection::SignatureWrong));
        let moved =
            signed_at(NOW_S, BODY).unwrap().replace(&format!("t={NOW_S}"), &format!("t={}", NOW_S + 1));
        assert_eq!(read(Some(moved), BODY), Err(Rejection::SignatureWrong));
        for at_s in [NOW_S - 301, NOW_S + 301] {
            assert_eq!(read(signed_at(at_s, BODY), BODY), Err(Rejection::SignatureStale));
        }
        for at_s in [NOW_S - 300, NOW_S + 300] {
            assert!(read(signed_at(at_s, BODY), BODY).is_ok());
        }
    }

    #[test]
    fn one_right_signature_of_several_is_enough_while_a_secret_is_replaced() {
        let right = sign(&stripe().webhook_secret, NOW_S, BODY);
        assert!(read(Some(format!("t={NOW_S},v1=00,v1={right},v0=11")), BODY).is_ok());
        assert_eq!(read(Some(format!("t={NOW_S},v0={right}")), BODY), Err(Rejection::SignatureMissing));
    }

    #[test]
    fn s37_events_of_another_environment_or_account_are_refused() {
        for (from, to) in
            [("\"livemode\":false", "\"livemode\":true"), ("{\"id\"", "{\"account\":\"acct_other\",\"id\"")]
        {
            let body = String::from_utf8(BODY.to_vec()).unwrap().replace(from, to);
            let read = read(signed_at(NOW_S, body.as_bytes()), body.as_bytes());
            assert_eq!(read, Err(Rejection::MerchantMismatch), "{body}");
        }
    }

    #[test]
    fn amounts_are_in_the_currencys_own_units() {
        let of = |field: &Value| amount(field, "amount_total").map(|(amount, _)| amount.to_string());
        assert_eq!(
            of(&serde_json::json!({"currency": "usd", "amount_total": 1_000_000})),
            Some("10000".into())
        );
        assert_eq!(of(&serde_json::json!({"currency": "jpy", "amount_total": 500})), Some("500".into()));
        assert_eq!(of(&serde_json::json!({"currency": "ugx", "amount_total": 500})), Some("5".into()));
        assert_eq!(of(&serde_json::json!({"currency": "usd", "amount_total": -1})), None);
        assert_eq!(of(&serde_json::json!({"currency": "usd", "amount_total": 1.5})), None);
        assert_eq!(to_units(Nano(5_000_000_000), "UGX"), Some("500".into()));
    }
}
