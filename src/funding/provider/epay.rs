//! Epay (易支付): the protocol of the many payment platforms that descend from one PHP program. Payers are sent to
//! `submit.php`; the platform calls back by GET, or POST with a form; `api.php` answers questions.
//!
//! What is signed: every parameter that is not empty, but `sign` and `sign_type`, sorted by name, as `name=value` joined
//! with `&`, and then the merchant's key – appended as it is, or as `&key=…`, a setting, as are capital letters. MD5 is the
//! protocol's choice.
//! A callback carries no time, so it can be replayed; it stays bound to its order, which credits once.

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use ledger::Nano;
use md5::{Digest as _, Md5};
use serde_json::Value;

use super::{
    Answer, Callback, Event, News, Paid, Payment, PaymentProvider, ProviderError, RefundAnswer, Rejection,
    Subject, shortened,
};
use crate::config::EpaySignature;
use crate::funding::money;
use crate::funding::order::{Order, Refund};
use crate::funding::settings::Links;
use crate::gateway::upstream::Target;
use crate::http_client::{Ask, HttpClient, Reply};
use crate::id::OrderId;
use crate::secret::{HIDDEN, Secret};

pub struct Epay {
    /// Without a slash at its end.
    pub url: Box<str>,
    pub target: Target,
    pub merchant: Box<str>,
    pub key: Secret,
    pub currency: Box<str>,
    pub variant: EpaySignature,
}

/// What `sign` is. It is read in capitals and in small letters alike.
pub fn signature<'p>(
    params: impl IntoIterator<Item = (&'p str, &'p str)>,
    key: &Secret,
    variant: EpaySignature,
) -> String {
    let is_signed =
        |(name, value): &(&str, &str)| !matches!(*name, "sign" | "sign_type") && !value.is_empty();
    let mut params: Vec<_> = params.into_iter().filter(is_signed).collect();
    params.sort_unstable();
    let pairs: Vec<_> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let between = match variant {
        EpaySignature::Appended | EpaySignature::AppendedUpper => "",
        EpaySignature::KeyParam | EpaySignature::KeyParamUpper => "&key=",
    };
    let text = format!("{}{between}{}", pairs.join("&"), key.expose());
    let sign = crate::hex::encode(&Md5::digest(text.as_bytes()));
    match variant {
        EpaySignature::Appended | EpaySignature::KeyParam => sign,
        EpaySignature::AppendedUpper | EpaySignature::KeyParamUpper => sign.to_ascii_uppercase(),
    }
}

type Params = Vec<(String, String)>;

impl Epay {
    fn signature(&self, params: &Params) -> String {
        let pairs = params.iter().map(|(name, value)| (&**name, &**value));
        signature(pairs, &self.key, self.variant)
    }

    fn ask(&self, method: Method, path: String, form: Option<String>) -> Ask {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = form.iter().map(|_| (header::CONTENT_TYPE, kind.clone())).collect();
        let body = form.map_or_else(Bytes::new, Bytes::from);
        Ask { target: self.target.clone(), method, path, headers, body }
    }

    fn encoded(&self, params: &[(&str, &str)]) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish()
    }

    /// Some platforms answer with the key that they were asked with.
    fn hidden(&self, text: &str) -> String {
        text.replace(self.key.expose(), HIDDEN)
    }

    fn paid(
        &self,
        money: &str,
        trade: Option<&str>,
        payer: Option<&str>,
        method: Option<&str>,
    ) -> Option<Paid> {
        let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Into::into);
        Some(Paid {
            provider_ref: None,
            payment_ref: some(trade),
            amount: Nano::parse_decimal(money).ok()?,
            currency: self.currency.clone(),
            payer: some(payer),
            method: some(method),
        })
    }
}

impl PaymentProvider for Epay {
    fn name(&self) -> &'static str {
        "epay"
    }

    fn currency(&self) -> Option<&str> {
        Some(&self.currency)
    }

    /// The platform learns of the order when the payer opens the address.
    fn create(&self, _: &HttpClient, order: &Order, links: &Links) -> Result<Payment, ProviderError> {
        let id = order.id.to_string();
        let mut params: Params = [
            ("pid", &*self.merchant),
            ("out_trade_no", &id),
            ("notify_url", &links.callback(self.name())),
            ("return_url", &links.return_url),
            ("name", &format!("Top-up {id}")),
            ("money", &money::text(order.pay, &order.pay_currency)),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        params.extend(order.method.as_ref().map(|method| ("type".to_owned(), method.to_string())));
        let sign = self.signature(&params);
        params.push(("sign".to_owned(), sign));
        params.push(("sign_type".to_owned(), "MD5".to_owned()));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish();
        let url: Box<str> = format!("{}/submit.php?{query}", self.url).into();
        Ok(Payment { qr: Some(url.clone()), url: Some(url), ..Payment::default() })
    }

    fn named_order(&self, callback: &Callback) -> Option<OrderId> {
        let mut params = form_urlencoded::parse(callback.raw());
        params.find(|(name, _)| name == "out_trade_no").and_then(|(_, order)| order.parse().ok())
    }

    fn read(&self, callback: &Callback, _: i64) -> Result<Event, Rejection> {
        let params: Params = form_urlencoded::parse(callback.raw()).into_owned().collect();
        let get =
            |wanted: &str| params.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let sign = get("sign").filter(|sign| !sign.is_empty()).ok_or(Rejection::SignatureMissing)?;
        let expected = Secret::new(self.signature(&params).to_ascii_lowercase());
        if !expected.matches(sign.to_ascii_lowercase().as_bytes()) {
            return Err(Rejection::SignatureWrong);
        }
        let mut names: Vec<_> = params.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Rejection::Malformed);
        }
        if is_ambiguous(&params) {
            return Err(Rejection::Malformed);
        }
        if get("pid") != Some(&*self.merchant) {
            return Err(Rejection::MerchantMismatch);
        }
        let status = get("trade_status").ok_or(Rejection::Malformed)?;
        let subject = match get("out_trade_no").map(str::parse) {
            Some(Ok(order)) => Subject::Order(order),
            _ => Subject::Nothing,
        };
        let news = match status {
            "TRADE_SUCCESS" | "TRADE_FINISHED" => {
                let money = get("money").ok_or(Rejection::Malformed)?;
                let trade = get("trade_no").filter(|trade| !trade.is_empty());
                let trade = trade.ok_or(Rejection::Malformed)?;
                let paid = self.paid(money, Some(trade), get("buyer"), get("type"));
                News::Paid(paid.ok_or(Rejection::Malformed)?)
            }
            _ => News::Other,
        };
        Ok(Event { name: format!("{status} {}", get("trade_no").unwrap_or("?")).into(), subject, news })
    }

    fn query(&self, http: &HttpClient, order: &Order) -> Result<Answer, ProviderError> {
        let id = order.id.to_string();
        let query = self.encoded(&[
            ("act", "order"),
            ("pid", &self.merchant),
            ("key", self.key.expose()),
            ("out_trade_no", &id),
        ]);
        let reply = http.ask(self.ask(Method::GET, format!("/api.php?{query}"), None))?;
        let found = object(&reply)?;
        let get = |field: &str| scalar(&found[field]);
        let raw = self.hidden(&String::from_utf8_lossy(&reply.body)).into_bytes();
        // The platform does not know the order before the payer has been there.
        if get("code").as_deref() != Some("1") || get("status").as_deref() != Some("1") {
            return Ok(Answer { news: None, raw });
        }
        if get("out_trade_no").as_deref() != Some(&id) || get("pid").is_some_and(|pid| *pid != *self.merchant)
        {
            return Err(ProviderError::Malformed("the answer is about another order"));
        }
        let money = get("money").unwrap_or_default();
        let (trade, buyer, method) = (get("trade_no"), get("buyer"), get("type"));
        let paid = self.paid(&money, trade.as_deref(), buyer.as_deref(), method.as_deref());
        let paid = paid.ok_or(ProviderError::Malformed("a payment without an amount"))?;
        Ok(Answer { news: Some(News::Paid(paid)), raw })
    }

    fn refund(
        &self,
        http: &HttpClient,
        order: &Order,
        refund: &Refund,
    ) -> Result<RefundAnswer, ProviderError> {
        let (id, money) = (order.id.to_string(), money::text(refund.pay, &order.pay_currency));
        let trade = order.payment_ref.as_deref().unwrap_or_default();
        let form = self.encoded(&[
            ("pid", &self.merchant),
            ("key", self.key.expose()),
            ("trade_no", trade),
            ("out_trade_no", &id),
            ("money", &money),
        ]);
        let answer = object(&http.ask(self.ask(Method::POST, "/api.php?act=refund".into(), Some(form)))?)?;
        match scalar(&answer["code"]).as_deref() {
            Some("1") => Ok(RefundAnswer::Sent { number: None }),
            _ => {
                let why = answer["msg"].as_str().unwrap_or("no reason was given");
                Err(ProviderError::Refused { status: 400, text: shortened(&self.hidden(why)) })
            }
        }
    }

    /// The protocol has no name for a refund.
    fn refunds_can_be_asked_about(&self) -> bool {
        false
    }

    fn check(&self, http: &HttpClient) -> Result<(), ProviderError> {
        let query = self.encoded(&[("act", "query"), ("pid", &self.merchant), ("key", self.key.expose())]);
        let found = object(&http.ask(self.ask(Method::GET, format!("/api.php?{query}"), None))?)?;
        match scalar(&found["code"]).as_deref() {
            Some("1") => Ok(()),
            _ => {
                let why = found["msg"].as_str().unwrap_or("no reason was given");
                Err(ProviderError::Refused { status: 400, text: shortened(&self.hidden(why)) })
            }
        }
    }

    fn thanks(&self) -> &'static str {
        "success"
    }
}

/// Whether the signed text can be read in another way: what is signed is not escaped, so that a value with `&` in it
/// could be several. Our own signature under an order would otherwise do for a callback.
fn is_ambiguous(params: &Params) -> bool {
    params.iter().any(|(name, value)| name.contains(['&', '=']) || value.contains('&'))
        || params.iter().any(|(name, _)| matches!(&**name, "notify_url" | "return_url"))
}

/// Platforms write numbers as numbers or as texts.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn object(reply: &Reply) -> Result<Value, ProviderError> {
    match reply.status {
        200..=299 => serde_json::from_slice(&reply.body).map_err(|_| ProviderError::Malformed("no JSON")),
        status => Err(ProviderError::Refused { status, text: "no answer of the protocol".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epay(variant: EpaySignature) -> Epay {
        Epay {
            url: "http://127.0.0.1:9".into(),
            target: Target::parse("http://127.0.0.1:9").unwrap(),
            merchant: "1001".into(),
            key: Secret::new("a-key-of-the-tests"),
            currency: "CNY".into(),
            variant,
        }
    }

    fn callback(method: Method, query: &str) -> Callback {
        let (query, body) = if method == Method::GET { (query, "") } else { ("", query) };
        Callback { method, query: query.into(), headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    /// The MD5 of a text that was computed elsewhere (md5sum).
    #[test]
    fn signatures_are_those_of_the_protocol() {
        let params = [("b", "2"), ("a", "1"), ("empty", ""), ("sign", "x"), ("sign_type", "MD5")];
        let key = Secret::new("KEY");
        assert_eq!(signature(params, &key, EpaySignature::Appended), "c5b3153ba616141a0bf58e29ad4cbb3f");
        assert_eq!(signature(params, &key, EpaySignature::KeyParam), "96efed773639208fee49d1158b653e01");
        assert_eq!(signature(params, &key, EpaySignature::KeyParamUpper), "96EFED773639208FEE49D1158B653E01");
    }

    /// S37, by GET and by POST, in both ways of signing.
    #[test]
    fn s37_a_callback_is_believed_only_with_the_merchants_signature() {
        for variant in EpaySignature::ALL.iter().copied() {
            let epay = epay(variant);
            let order = crate::id::OrderId::from_raw(7).to_string();
            let params = [
                ("pid", "1001"),
                ("trade_no", "T1"),
                ("out_trade_no", &*order),
                ("type", "alipay"),
                ("name", "Top-up 充值"),
                ("money", "725.00"),
                ("trade_status", "TRADE_SUCCESS"),
                ("param", ""),
            ];
            let sign = signature(params, &epay.key, variant);
            let query = |sign: &str, money: &str| {
                let mut form = form_urlencoded::Serializer::new(String::new());
                for (name, value) in params {
                    form.append_pair(name, if name == "money" { money } else { value });
                }
                form.append_pair("sign", sign).append_pair("sign_type", "MD5").finish()
            };
            for method in [Method::GET, Method::POST] {
                let read = |query: &str| epay.read(&callback(method.clone(), query), 0);
                let event = read(&query(&sign, "725.00")).unwrap();
                let News::Paid(paid) = event.news else { panic!("{event:?}") };
                assert_eq!((paid.amount.to_string(), &*paid.currency), ("725".to_owned(), "CNY"));
                assert!(read(&query(&sign.to_uppercase(), "725.00")).is_ok());
                assert_eq!(read(&query(&sign, "1.00")), Err(Rejection::SignatureWrong));
                assert_eq!(read(&query("", "725.00")), Err(Rejection::SignatureMissing));
                assert_eq!(read("money=1"), Err(Rejection::SignatureMissing));
            }
            let foreign = [
                ("pid", "1002"),
                ("trade_status", "TRADE_SUCCESS"),
                ("money", "1"),
                ("out_trade_no", &*order),
            ];
            let sign = signature(foreign, &epay.key, variant);
            let query =
                format!("pid=1002&trade_status=TRADE_SUCCESS&money=1&out_trade_no={order}&sign={sign}");
            assert_eq!(epay.read(&callback(Method::GET, &query), 0), Err(Rejection::MerchantMismatch));
        }
    }

    /// S37: what is signed is not escaped. A payer who may choose a value of an order – here its method – could have us
    /// sign a text that reads as a callback, too.
    #[test]
    fn s37_our_own_signature_under_an_order_does_for_no_callback() {
        let epay = epay(EpaySignature::Appended);
        let order = crate::id::OrderId::from_raw(7).to_string();
        let asked = [
            ("money", "7.25"),
            ("out_trade_no", &*order),
            ("pid", "1001"),
            ("return_url", "http://here/"),
            ("type", "x&trade_no=1&trade_status=TRADE_SUCCESS"),
        ];
        let sign = signature(asked, &epay.key, EpaySignature::Appended);
        let told = [
            ("money", "7.25"),
            ("out_trade_no", &*order),
            ("pid", "1001"),
            ("return_url", "http://here/&type=x"),
            ("trade_no", "1"),
            ("trade_status", "TRADE_SUCCESS"),
        ];
        assert_eq!(signature(told, &epay.key, EpaySignature::Appended), sign);
        let mut form = form_urlencoded::Serializer::new(String::new());
        let query = form.extend_pairs(told).append_pair("sign", &sign).finish();
        assert_eq!(epay.read(&callback(Method::GET, &query), 0), Err(Rejection::Malformed));
    }

    #[test]
    fn s37_a_platform_that_repeats_the_key_is_not_repeated() {
        let epay = epay(EpaySignature::Appended);
        assert_eq!(epay.hidden("{\"key\":\"a-key-of-the-tests\"}"), "{\"key\":\"[hidden]\"}");
    }
}
