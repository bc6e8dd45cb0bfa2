//! WeChat Pay (微信支付), version 3 of its interface: native payment – the payer scans a code –, notices, questions and
//! refunds. Amounts are in fen.
//!
//! From its documentation: <https://pay.weixin.qq.com/doc/v3/merchant/4012791877> (native payment),
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012791882> (notices), <https://pay.weixin.qq.com/doc/v3/merchant/4012791883>
//! (refunds).
//!
//! Notices and answers are signed with a key of WeChat Pay's: its public key, or one of its certificates, by the number
//! that the signature names.

mod seal;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::{Value, json};

use super::rsa::{NamedKey, SigningKey};
use super::{
    Answer, Callback, Event, News, Paid, Payment, PaymentProvider, ProviderError, RefundAnswer, RefundTold,
    Rejection, Subject, shortened,
};
use crate::funding::money;
use crate::funding::order::{Order, Refund};
use crate::funding::settings::Links;
use crate::gateway::upstream::Target;
use crate::http_client::{Ask, HttpClient, Reply};
use crate::id::OrderId;

pub use seal::{Call, SCHEME, SealKey, signed_text};

const CURRENCY: &str = "CNY";
const METHODS: &[&str] = &["native"];
/// A number that no order has.
const NOBODYS: &str = "tallygate-check";
/// A payment can wait for its payer up to 7 days.
const OPEN_MS_MAX: i64 = 7 * 24 * 3_600_000 - 60_000;

pub struct Wechat {
    pub target: Target,
    pub app_id: Box<str>,
    /// Own number (mchid).
    pub merchant: Box<str>,
    /// Number of the own certificate.
    pub serial: Box<str>,
    pub key: SigningKey,
    pub seal: SealKey,
    pub platform: Vec<NamedKey>,
    pub tolerance_ms: u64,
    /// Where it tells what became of refunds.
    pub callback: Box<str>,
}

impl Wechat {
    fn ask(
        &self,
        http: &HttpClient,
        method: Method,
        path: String,
        body: Option<Value>,
    ) -> Result<Reply, ProviderError> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let (now_ms, nonce) = (http.now_ms(), http.nonce());
        let call = Call {
            method: method.as_str(),
            path: &path,
            body: &body,
            at_s: now_ms.div_euclid(1_000),
            nonce: &nonce,
        };
        let unsendable = || ProviderError::Unsupported("the call cannot be signed");
        let value = call.authorization(&self.merchant, &self.serial, &self.key).ok_or_else(unsendable)?;
        let mut bearer = HeaderValue::try_from(value).map_err(|_| unsendable())?;
        bearer.set_sensitive(true);
        let json = HeaderValue::from_static("application/json");
        let mut headers = vec![
            (header::AUTHORIZATION, bearer),
            (header::ACCEPT, json.clone()),
            (header::USER_AGENT, HeaderValue::from_static("tallygate")),
        ];
        if !body.is_empty() {
            headers.push((header::CONTENT_TYPE, json));
        }
        // Which of its keys the answer is to be signed with.
        if let Some(name) = self.platform.first().and_then(|key| HeaderValue::try_from(&*key.name).ok()) {
            headers.push((HeaderName::from_static("wechatpay-serial"), name));
        }
        let reply =
            http.ask(Ask { target: self.target.clone(), method, path, headers, body: Bytes::from(body) })?;
        self.check_answer(&reply, now_ms)?;
        Ok(reply)
    }

    /// What says yes must be signed; what says no must not be signed wrongly.
    fn check_answer(&self, reply: &Reply, now_ms: i64) -> Result<(), ProviderError> {
        let time = (now_ms, self.tolerance_ms);
        let is_yes = (200..=299).contains(&reply.status);
        match seal::verify(|name| reply.header(name), &reply.body, &self.platform, time) {
            Err(Rejection::SignatureMissing) if !is_yes => Ok(()),
            Err(_) => Err(ProviderError::Malformed("the signature of the answer is wrong")),
            Ok(()) => Ok(()),
        }
    }

    fn is_ours(&self, told: &Value) -> bool {
        let is = |field: &str, own: &str| told[field].as_str() == Some(own);
        is("mchid", &self.merchant) && (told["appid"].is_null() || is("appid", &self.app_id))
    }

    /// What a notice brings, by its kind.
    fn news(&self, kind: &str, told: &Value) -> Result<(Subject, News), Rejection> {
        if !self.is_ours(told) {
            return Err(Rejection::MerchantMismatch);
        }
        let order = told["out_trade_no"].as_str().and_then(|order| order.parse::<OrderId>().ok());
        let subject = order.map_or(Subject::Nothing, Subject::Order);
        let news = match kind {
            "TRANSACTION.SUCCESS" => read_trade(told).ok_or(Rejection::Malformed)?,
            "REFUND.SUCCESS" | "REFUND.CLOSED" => {
                let told = read_refund(order, told, kind == "REFUND.SUCCESS");
                News::Refund(told.ok_or(Rejection::Malformed)?)
            }
            // REFUND.ABNORMAL: it is not sent, and can still be, by hand.
            _ => News::Other,
        };
        Ok((subject, news))
    }
}

fn text(object: &Value, field: &str) -> Option<Box<str>> {
    object[field].as_str().filter(|text| !text.is_empty()).map(Into::into)
}

fn read_trade(told: &Value) -> Option<News> {
    Some(match told["trade_state"].as_str()? {
        "SUCCESS" => News::Paid(paid(told)?),
        // It was paid, and went back in part or in full, before anybody knew of it here.
        "REFUND" => failed(false, "it was paid and refunded at WeChat Pay"),
        "CLOSED" | "REVOKED" => failed(true, "the order was closed at WeChat Pay"),
        "PAYERROR" => failed(false, "the payment failed"),
        _ => News::Other,
    })
}

fn failed(expired: bool, reason: &str) -> News {
    News::Failed { expired, reason: reason.into() }
}

fn paid(told: &Value) -> Option<Paid> {
    let currency = told["amount"]["currency"].as_str().unwrap_or(CURRENCY);
    let fen = told["amount"]["total"].as_i64().filter(|fen| *fen >= 0)?;
    Some(Paid {
        provider_ref: None,
        payment_ref: text(told, "transaction_id"),
        amount: money::from_minor(fen, currency)?,
        currency: currency.into(),
        payer: text(&told["payer"], "openid"),
        method: None,
    })
}

fn read_refund(order: Option<OrderId>, told: &Value, is_sent: bool) -> Option<RefundTold> {
    let fen = told["amount"]["refund"].as_i64().filter(|fen| *fen > 0)?;
    let named = told["out_refund_no"].as_str()?;
    Some(RefundTold {
        ours: order.and_then(|order| Refund::number_in(order, named)),
        number: text(told, "refund_id")?,
        amount: money::from_minor(fen, CURRENCY)?,
        currency: CURRENCY.into(),
        is_sent,
    })
}

fn object(reply: &Reply) -> Result<Value, ProviderError> {
    let value: Result<Value, _> = serde_json::from_slice(&reply.body);
    match (reply.status, value) {
        (200..=299, Ok(value)) => Ok(value),
        (200..=299, Err(_)) => Err(ProviderError::Malformed("no JSON")),
        (status, value) => {
            let value = value.unwrap_or_default();
            let (code, why) = (value["code"].as_str(), value["message"].as_str());
            let why = format!("{} {}", code.unwrap_or_default(), why.unwrap_or("no reason was given"));
            Err(ProviderError::Refused { status, text: shortened(&why) })
        }
    }
}

/// WeChat Pay does not know the number.
fn is_unknown(reply: &Reply) -> bool {
    let code = serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
    let is = |wanted: &str| code["code"].as_str() == Some(wanted);
    reply.status == 404 && (is("ORDER_NOT_EXIST") || is("RESOURCE_NOT_EXISTS"))
}

fn fen(amount: ledger::Nano) -> Result<i64, ProviderError> {
    money::to_minor(amount, CURRENCY)
        .ok_or(ProviderError::Unsupported("the amount is no whole number of fen"))
}

impl PaymentProvider for Wechat {
    fn name(&self) -> &'static str {
        "wechat"
    }

    fn currency(&self) -> Option<&str> {
        Some(CURRENCY)
    }

    fn methods(&self) -> Option<&'static [&'static str]> {
        Some(METHODS)
    }

    fn create(&self, http: &HttpClient, order: &Order, links: &Links) -> Result<Payment, ProviderError> {
        let id = order.id.to_string();
        let open_until = order.expires_ms.min(order.created_ms.saturating_add(OPEN_MS_MAX));
        let at = Timestamp::from_millisecond(open_until).unwrap_or(Timestamp::UNIX_EPOCH);
        let at = at.to_zoned(TimeZone::fixed(Offset::constant(8)));
        let body = json!({
            "appid": self.app_id,
            "mchid": self.merchant,
            "description": format!("Top-up {id}"),
            "out_trade_no": id,
            "time_expire": at.strftime("%Y-%m-%dT%H:%M:%S+08:00").to_string(),
            "notify_url": links.callback(self.name()),
            "amount": {"total": fen(order.pay)?, "currency": CURRENCY},
        });
        let reply = self.ask(http, Method::POST, "/v3/pay/transactions/native".into(), Some(body))?;
        let code = text(&object(&reply)?, "code_url");
        let code = code.ok_or(ProviderError::Malformed("a payment without its code"))?;
        Ok(Payment { qr: Some(code), ..Payment::default() })
    }

    fn read(&self, callback: &Callback, now_ms: i64) -> Result<Event, Rejection> {
        let time = (now_ms, self.tolerance_ms);
        seal::verify(|name| callback.header(name), &callback.body, &self.platform, time)?;
        let notice: Value = serde_json::from_slice(&callback.body).map_err(|_| Rejection::Malformed)?;
        let kind = notice["event_type"].as_str().ok_or(Rejection::Malformed)?;
        let content = self.seal.open(&notice["resource"]).ok_or(Rejection::Malformed)?;
        let told: Value = serde_json::from_slice(&content).map_err(|_| Rejection::Malformed)?;
        let (subject, news) = self.news(kind, &told)?;
        let id = notice["id"].as_str().unwrap_or("?");
        Ok(Event { name: format!("{kind} {id}").into(), subject, news })
    }

    fn query(&self, http: &HttpClient, order: &Order) -> Result<Answer, ProviderError> {
        let id = order.id.to_string();
        let path = format!("/v3/pay/transactions/out-trade-no/{id}?mchid={}", self.merchant);
        let reply = self.ask(http, Method::GET, path, None)?;
        if is_unknown(&reply) {
            return Ok(Answer { news: None, raw: reply.body.to_vec() });
        }
        let told = object(&reply)?;
        if told["out_trade_no"].as_str() != Some(&id) || !self.is_ours(&told) {
            return Err(ProviderError::Malformed("the answer is about another order"));
        }
        let news =
            read_trade(&told).ok_or(ProviderError::Malformed("a trade without its state or amount"))?;
        Ok(Answer { news: Some(news).filter(|news| *news != News::Other), raw: reply.body.to_vec() })
    }

    fn refund(
        &self,
        http: &HttpClient,
        order: &Order,
        refund: &Refund,
    ) -> Result<RefundAnswer, ProviderError> {
        let body = json!({
            "out_trade_no": order.id.to_string(),
            "out_refund_no": refund.name(),
            "notify_url": self.callback,
            "amount": {"refund": fen(refund.pay)?, "total": fen(order.pay)?, "currency": CURRENCY},
        });
        let reply = self.ask(http, Method::POST, "/v3/refund/domestic/refunds".into(), Some(body))?;
        let made = object(&reply)?;
        let number = text(&made, "refund_id");
        Ok(match made["status"].as_str() {
            Some("SUCCESS") => RefundAnswer::Sent { number },
            Some("CLOSED") => RefundAnswer::Failed { reason: "the refund was closed at WeChat Pay".into() },
            _ => RefundAnswer::OnItsWay { number },
        })
    }

    fn ask_refund(
        &self,
        http: &HttpClient,
        _: &Order,
        refund: &Refund,
    ) -> Result<Option<RefundAnswer>, ProviderError> {
        let path = format!("/v3/refund/domestic/refunds/{}", refund.name());
        let reply = self.ask(http, Method::GET, path, None)?;
        if is_unknown(&reply) {
            return Ok(None);
        }
        let made = object(&reply)?;
        let number = text(&made, "refund_id");
        Ok(Some(match made["status"].as_str() {
            Some("SUCCESS") => RefundAnswer::Sent { number },
            Some("CLOSED") => RefundAnswer::Failed { reason: "the refund was closed at WeChat Pay".into() },
            Some("ABNORMAL") => {
                let why =
                    "the payer's bank did not take it: send it by hand at WeChat Pay, then resolve it here";
                return Err(ProviderError::Unsupported(why));
            }
            _ => RefundAnswer::OnItsWay { number },
        }))
    }

    fn check(&self, http: &HttpClient) -> Result<(), ProviderError> {
        let path = format!("/v3/pay/transactions/out-trade-no/{NOBODYS}?mchid={}", self.merchant);
        let reply = self.ask(http, Method::GET, path, None)?;
        if is_unknown(&reply) { Ok(()) } else { object(&reply).map(drop) }
    }

    fn thanks(&self) -> &'static str {
        "{\"code\":\"SUCCESS\",\"message\":\"OK\"}"
    }
}

#[cfg(test)]
mod tests;
