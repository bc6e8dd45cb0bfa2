//! Alipay (支付宝): page payment, its notices, questions and refunds, signed with RSA2.
//!
//! From Alipay's documentation: <https://opendocs.alipay.com/common/02kf5q> (signing),
//! <https://opendocs.alipay.com/open/028r8t> (`alipay.trade.page.pay`), <https://opendocs.alipay.com/open/270/105902>
//! (notices).
//!
//! What is signed: every parameter that is not empty but `sign`, sorted by name, as `name=value` joined with `&`, none of it
//! escaped. Of a notice, `sign_type` is left out, too. Of an answer, the JSON text of its node as it came. A notice
//! carries no time, so it can be replayed; it stays bound to its order, which credits once.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use ledger::Nano;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::rsa::{SigningKey, VerifyingKey};
use super::{
    Answer, Callback, Event, News, Paid, Payment, PaymentProvider, ProviderError, RefundAnswer, Rejection,
    Subject, shortened,
};
use crate::funding::money;
use crate::funding::order::{Order, Refund};
use crate::funding::settings::Links;
use crate::gateway::upstream::Target;
use crate::http_client::{Ask, HttpClient};
use crate::id::OrderId;

const CURRENCY: &str = "CNY";
const PATH: &str = "/gateway.do";
/// A payment can wait for its payer up to 15 days.
const OPEN_MS_MAX: i64 = 15 * 24 * 3_600_000 - 60_000;
/// How payers get there: from a desktop's browser or a telephone's.
const METHODS: &[&str] = &["page", "wap"];
/// A number that no order has.
const NOBODYS: &str = "tallygate-check";
/// Answered for a number that nobody has paid, nor looked at.
const UNKNOWN: &str = "ACQ.TRADE_NOT_EXIST";

pub struct Alipay {
    /// Without a slash at its end.
    pub url: Box<str>,
    pub target: Target,
    pub app_id: Box<str>,
    /// Own number as a seller, `2088…`; notices that name another one are refused.
    pub seller: Option<Box<str>>,
    pub key: SigningKey,
    /// Alipay's own, of this app.
    pub platform: VerifyingKey,
}

type Params = Vec<(String, String)>;

/// The text that is signed.
pub fn signed_text<'p>(params: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let mut params: Vec<_> = params.into_iter().collect();
    params.sort_unstable();
    params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// What Alipay answered, once its signature was right.
struct Said {
    node: Value,
    raw: Vec<u8>,
}

impl Said {
    fn text(&self, field: &str) -> Option<&str> {
        self.node[field].as_str().filter(|text| !text.is_empty())
    }

    fn is_fine(&self) -> bool {
        self.text("code") == Some("10000")
    }

    fn is_unknown(&self) -> bool {
        self.text("sub_code") == Some(UNKNOWN)
    }

    fn error(&self) -> ProviderError {
        let sub_code = self.text("sub_code").unwrap_or_default();
        let may_be_done = self.text("code") == Some("20000")
            || sub_code.contains("SYSTEM_ERROR")
            || sub_code.contains("UNKNOW")
            || sub_code.contains("unknow");
        let why = self.text("sub_msg").or(self.text("msg")).unwrap_or("no reason was given");
        let status = if may_be_done { 503 } else { 400 };
        ProviderError::Refused { status, text: shortened(&format!("{sub_code} {why}")) }
    }
}

impl Alipay {
    /// The query of a signed call, as a form.
    fn signed(
        &self,
        method: &str,
        content: &Value,
        now_ms: i64,
        more: &[(&str, &str)],
    ) -> Result<String, ProviderError> {
        let (content, at) = (content.to_string(), beijing(now_ms));
        let mut params = vec![
            ("app_id", &*self.app_id),
            ("method", method),
            ("format", "JSON"),
            ("charset", "utf-8"),
            ("sign_type", "RSA2"),
            ("timestamp", &at),
            ("version", "1.0"),
            ("biz_content", &content),
        ];
        params.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        let sign = self.key.sign(signed_text(params.iter().copied()).as_bytes());
        let sign = sign.ok_or(ProviderError::Unsupported("the call cannot be signed"))?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        Ok(form.extend_pairs(params).append_pair("sign", &sign).finish())
    }

    fn ask(&self, http: &HttpClient, method: &str, content: &Value) -> Result<Said, ProviderError> {
        let form = self.signed(method, content, http.now_ms(), &[])?;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded;charset=utf-8");
        let reply = http.ask(Ask {
            target: self.target.clone(),
            method: Method::POST,
            path: format!("{PATH}?charset=utf-8"),
            headers: vec![(header::CONTENT_TYPE, kind)],
            body: Bytes::from(form),
        })?;
        if !(200..=299).contains(&reply.status) {
            let text = "no answer of the protocol".into();
            return Err(ProviderError::Refused { status: reply.status.max(500), text });
        }
        self.read_answer(&reply.body, &format!("{}_response", method.replace('.', "_")))
    }

    /// An answer is believed with Alipay's signature alone; what it refuses before it knows who asks has none.
    fn read_answer(&self, body: &[u8], name: &str) -> Result<Said, ProviderError> {
        let nodes: HashMap<&str, &RawValue> =
            serde_json::from_slice(body).map_err(|_| ProviderError::Malformed("no JSON"))?;
        let node = nodes.get(name).or_else(|| nodes.get("error_response"));
        let text = node.ok_or(ProviderError::Malformed("an answer to something else"))?.get();
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let sign = nodes.get("sign").and_then(|sign| serde_json::from_str::<String>(sign.get()).ok());
        if sign.is_some_and(|sign| self.platform.verify(text.as_bytes(), &sign)) {
            return Ok(Said { node: value, raw: body.to_vec() });
        }
        if value["code"] == "10000" {
            return Err(ProviderError::Malformed("the signature of the answer is wrong"));
        }
        let why = value["sub_msg"].as_str().or(value["msg"].as_str()).unwrap_or("no reason was given");
        Err(ProviderError::Refused { status: 503, text: shortened(why) })
    }

    fn is_ours(&self, get: &dyn Fn(&str) -> Option<String>) -> bool {
        get("app_id").as_deref() == Some(&*self.app_id)
            && self.seller.as_deref().is_none_or(|seller| get("seller_id").as_deref() == Some(seller))
    }
}

/// What a notice or an answer says of a trade. `TRADE_CLOSED` is the end of one that nobody paid, and of one that all went
/// back of.
fn news(get: &dyn Fn(&str) -> Option<String>) -> Option<News> {
    let amount = |field| yuan(&get(field)?);
    let refunded = amount("refund_fee").filter(|total| total.is_positive());
    Some(match (get("trade_status")?.as_str(), refunded) {
        ("TRADE_SUCCESS" | "TRADE_FINISHED" | "TRADE_CLOSED", Some(total)) => {
            News::Refunded { total, currency: CURRENCY.into() }
        }
        ("TRADE_SUCCESS" | "TRADE_FINISHED", None) => News::Paid(Paid {
            provider_ref: None,
            payment_ref: get("trade_no").map(Into::into),
            amount: amount("total_amount")?,
            currency: CURRENCY.into(),
            payer: get("buyer_logon_id")
                .or_else(|| get("buyer_id"))
                .or_else(|| get("buyer_user_id"))
                .map(Into::into),
            method: None,
        }),
        ("TRADE_CLOSED", None) => {
            News::Failed { expired: true, reason: "the trade was closed at Alipay".into() }
        }
        _ => News::Other,
    })
}

/// Amounts are in yuan with up to two decimals.
fn yuan(text: &str) -> Option<Nano> {
    let amount = Nano::parse_decimal(text).ok()?;
    money::to_minor(amount, CURRENCY).map(|_| amount)
}

/// A time as Alipay writes it, in Beijing.
fn beijing(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::fixed(Offset::constant(8))).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

impl PaymentProvider for Alipay {
    fn name(&self) -> &'static str {
        "alipay"
    }

    fn currency(&self) -> Option<&str> {
        Some(CURRENCY)
    }

    fn methods(&self) -> Option<&'static [&'static str]> {
        Some(METHODS)
    }

    /// Alipay learns of the order when the payer opens the address.
    fn create(&self, http: &HttpClient, order: &Order, links: &Links) -> Result<Payment, ProviderError> {
        let id = order.id.to_string();
        let (method, product) = match order.method.as_deref() {
            Some("wap") => ("alipay.trade.wap.pay", "QUICK_WAP_WAY"),
            _ => ("alipay.trade.page.pay", "FAST_INSTANT_TRADE_PAY"),
        };
        let open_until = order.expires_ms.min(order.created_ms.saturating_add(OPEN_MS_MAX));
        let content = json!({
            "out_trade_no": id,
            "total_amount": money::text(order.pay, CURRENCY),
            "subject": format!("Top-up {id}"),
            "product_code": product,
            "time_expire": beijing(open_until),
        });
        let callback = links.callback(self.name());
        let more = [("notify_url", &*callback), ("return_url", &*links.return_url)];
        let query = self.signed(method, &content, http.now_ms(), &more)?;
        Ok(Payment { url: Some(format!("{}{PATH}?{query}", self.url).into()), ..Payment::default() })
    }

    fn named_order(&self, callback: &Callback) -> Option<OrderId> {
        let mut params = form_urlencoded::parse(callback.raw());
        params.find(|(name, _)| name == "out_trade_no").and_then(|(_, order)| order.parse().ok())
    }

    fn read(&self, callback: &Callback, _: i64) -> Result<Event, Rejection> {
        let params: Params = form_urlencoded::parse(callback.raw()).into_owned().collect();
        let get = |wanted: &str| {
            let found = params.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let sign = get("sign").ok_or(Rejection::SignatureMissing)?;
        let signed = params.iter().filter(|(name, _)| !matches!(&**name, "sign" | "sign_type"));
        let text = signed_text(signed.map(|(name, value)| (&**name, &**value)));
        if get("sign_type").is_some_and(|kind| kind != "RSA2")
            || !self.platform.verify(text.as_bytes(), &sign)
        {
            return Err(Rejection::SignatureWrong);
        }
        let mut names: Vec<_> = params.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Rejection::Malformed);
        }
        if !self.is_ours(&get) {
            return Err(Rejection::MerchantMismatch);
        }
        let status = get("trade_status").ok_or(Rejection::Malformed)?;
        let news = news(&get).ok_or(Rejection::Malformed)?;
        let subject = match get("out_trade_no").map(|order| order.parse()) {
            Some(Ok(order)) => Subject::Order(order),
            _ => Subject::Nothing,
        };
        let number = get("notify_id").or_else(|| get("trade_no")).unwrap_or_else(|| "?".into());
        Ok(Event { name: format!("{status} {number}").into(), subject, news })
    }

    fn query(&self, http: &HttpClient, order: &Order) -> Result<Answer, ProviderError> {
        let id = order.id.to_string();
        let said = self.ask(http, "alipay.trade.query", &json!({"out_trade_no": id}))?;
        if !said.is_fine() {
            // Alipay does not know the order before the payer has been there.
            return if said.is_unknown() {
                Ok(Answer { news: None, raw: said.raw })
            } else {
                Err(said.error())
            };
        }
        if said.text("out_trade_no") != Some(&id) {
            return Err(ProviderError::Malformed("the answer is about another order"));
        }
        let get = |field: &str| said.text(field).map(str::to_owned);
        let news = news(&get).ok_or(ProviderError::Malformed("a trade without its state or amount"))?;
        Ok(Answer { news: Some(news).filter(|news| *news != News::Other), raw: said.raw })
    }

    fn refund(
        &self,
        http: &HttpClient,
        order: &Order,
        refund: &Refund,
    ) -> Result<RefundAnswer, ProviderError> {
        let content = json!({
            "out_trade_no": order.id.to_string(),
            "out_request_no": refund.name(),
            "refund_amount": money::text(refund.pay, CURRENCY),
        });
        let said = self.ask(http, "alipay.trade.refund", &content)?;
        if !said.is_fine() {
            return Err(said.error());
        }
        // Without a change of funds it is to be asked about: it may have been sent before.
        Ok(match said.text("fund_change") {
            Some("Y") => RefundAnswer::Sent { number: Some(refund.name().into()) },
            _ => RefundAnswer::OnItsWay { number: Some(refund.name().into()) },
        })
    }

    fn ask_refund(
        &self,
        http: &HttpClient,
        order: &Order,
        refund: &Refund,
    ) -> Result<Option<RefundAnswer>, ProviderError> {
        let content = json!({"out_trade_no": order.id.to_string(), "out_request_no": refund.name()});
        let said = self.ask(http, "alipay.trade.fastpay.refund.query", &content)?;
        if !said.is_fine() && !said.is_unknown() {
            return Err(said.error());
        }
        let is_sent = said.text("refund_status") == Some("REFUND_SUCCESS");
        Ok(is_sent.then(|| RefundAnswer::Sent { number: Some(refund.name().into()) }))
    }

    fn check(&self, http: &HttpClient) -> Result<(), ProviderError> {
        let said = self.ask(http, "alipay.trade.query", &json!({"out_trade_no": NOBODYS}))?;
        if said.is_fine() || said.is_unknown() { Ok(()) } else { Err(said.error()) }
    }

    fn thanks(&self) -> &'static str {
        "success"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::payments::{merchant_key, provider_key};

    fn alipay() -> Alipay {
        Alipay {
            url: "http://127.0.0.1:9".into(),
            target: Target::parse("http://127.0.0.1:9").unwrap(),
            app_id: "2021000000000001".into(),
            seller: Some("2088000000000001".into()),
            key: SigningKey::parse(&merchant_key()).unwrap(),
            platform: SigningKey::parse(&provider_key()).unwrap().verifying(),
        }
    }

    fn notice(change: &[(&str, &str)]) -> Callback {
        notice_by(&SigningKey::parse(&provider_key()).unwrap(), "RSA2", change)
    }

    fn notice_by(key: &SigningKey, kind: &str, change: &[(&str, &str)]) -> Callback {
        let order = OrderId::from_raw(7).to_string();
        let mut params: Vec<(&str, &str)> = vec![
            ("notify_id", "n1"),
            ("app_id", "2021000000000001"),
            ("seller_id", "2088000000000001"),
            ("trade_no", "2026112222001"),
            ("out_trade_no", &order),
            ("trade_status", "TRADE_SUCCESS"),
            ("total_amount", "725.00"),
            ("buyer_logon_id", "ann***@example.com"),
            ("subject", "Top-up 充值 & more"),
        ];
        params.retain(|(name, _)| !change.iter().any(|(changed, _)| name == changed));
        params.extend(change);
        let sign = key.sign(signed_text(params.iter().copied()).as_bytes()).unwrap();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(params).append_pair("sign_type", kind).append_pair("sign", &sign);
        let body = form.finish().into_bytes();
        Callback { method: Method::POST, query: "".into(), headers: Vec::new(), body }
    }

    /// S37: nothing is believed that Alipay has not signed for this app and this seller.
    #[test]
    fn s37_a_notice_is_believed_only_with_alipays_signature() {
        let read = |callback: &Callback| alipay().read(callback, 0);
        let event = read(&notice(&[])).unwrap();
        let News::Paid(paid) = event.news else { panic!("{event:?}") };
        assert_eq!((paid.amount.to_string(), &*paid.currency), ("725".to_owned(), "CNY"));
        assert_eq!(paid.payer.as_deref(), Some("ann***@example.com"));
        let merchant = SigningKey::parse(&merchant_key()).unwrap();
        assert_eq!(read(&notice_by(&merchant, "RSA2", &[])), Err(Rejection::SignatureWrong));
        let provider = SigningKey::parse(&provider_key()).unwrap();
        assert_eq!(read(&notice_by(&provider, "RSA", &[])), Err(Rejection::SignatureWrong));
        let mut moved = notice(&[]);
        moved.body = String::from_utf8(moved.body).unwrap().replace("725.00", "7250.00").into_bytes();
        assert_eq!(read(&moved), Err(Rejection::SignatureWrong));
        moved.body = b"trade_status=TRADE_SUCCESS&total_amount=1.00".to_vec();
        assert_eq!(read(&moved), Err(Rejection::SignatureMissing));
        for other in [("app_id", "2021000000000002"), ("seller_id", "2088000000000002")] {
            assert_eq!(read(&notice(&[other])), Err(Rejection::MerchantMismatch));
        }
        for wrong in ["", "x", "1.001", "-", "1e3"] {
            assert_eq!(read(&notice(&[("total_amount", wrong)])), Err(Rejection::Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_closed_trade_was_never_paid_or_all_of_it_went_back() {
        let read = |change: &[(&str, &str)]| alipay().read(&notice(change), 0).unwrap().news;
        let closed = read(&[("trade_status", "TRADE_CLOSED")]);
        assert!(matches!(closed, News::Failed { expired: true, .. }), "{closed:?}");
        for (status, total) in [("TRADE_SUCCESS", "25.50"), ("TRADE_CLOSED", "725.00")] {
            let News::Refunded { total: told, .. } = read(&[("trade_status", status), ("refund_fee", total)])
            else {
                panic!("{status}")
            };
            assert_eq!(told, yuan(total).unwrap());
        }
        assert_eq!(read(&[("trade_status", "WAIT_BUYER_PAY")]), News::Other);
    }

    #[test]
    fn an_answer_is_believed_only_with_alipays_signature() {
        let node = r#"{"code":"10000","msg":"Success","trade_no" : "1\/2"}"#;
        let sign = SigningKey::parse(&provider_key()).unwrap().sign(node.as_bytes()).unwrap();
        let read = |body: &str| alipay().read_answer(body.as_bytes(), "x_response");
        let body = format!(r#"{{"x_response":{node},"sign":"{sign}"}}"#);
        assert_eq!(read(&body).unwrap().text("trade_no"), Some("1/2"));
        assert!(matches!(read(&body.replace("1\\/2", "1\\/3")), Err(ProviderError::Malformed(_))));
        assert!(matches!(read(&format!(r#"{{"x_response":{node}}}"#)), Err(ProviderError::Malformed(_))));
        let refused = r#"{"error_response":{"code":"40002","msg":"Invalid","sub_msg":"no app"}}"#;
        let refused = read(refused).err().unwrap();
        assert!(!refused.is_final() && refused.to_string().ends_with("no app"), "{refused}");
    }

    #[test]
    fn times_are_beijings() {
        assert_eq!(beijing(1_795_334_400_000), "2026-11-22 16:00:00");
    }
}
