//! Notices of WeChat Pay, as they come from it and from everybody else.

use super::*;
use crate::demo::payments::{merchant_key, provider_key};
use crate::secret::Secret;

const NOW_S: i64 = 1_795_334_400;
const KEY: &str = "an-api-v3-key-has-32-bytes-as-is";
const NONCE: &str = "0123456789ab";

fn wechat() -> Wechat {
    let key = SigningKey::parse(&merchant_key()).unwrap();
    let platform = SigningKey::parse(&provider_key()).unwrap().verifying();
    Wechat {
        target: Target::parse("http://127.0.0.1:9").unwrap(),
        app_id: "wx0000000000000001".into(),
        merchant: "1900000001".into(),
        serial: "5157F09EFDC096DE15EBE81A47057A7200000000".into(),
        key,
        seal: SealKey::parse(&Secret::new(KEY)).unwrap(),
        platform: vec![NamedKey { name: "PUB_KEY_ID_1".into(), key: platform }],
        tolerance_ms: 300_000,
        callback: "http://127.0.0.1:9/callbacks/wechat".into(),
    }
}

fn trade(change: &[(&str, Value)]) -> Value {
    let mut trade = json!({
        "appid": "wx0000000000000001",
        "mchid": "1900000001",
        "out_trade_no": OrderId::from_raw(7).to_string(),
        "transaction_id": "4200000001",
        "trade_state": "SUCCESS",
        "payer": {"openid": "o-1"},
        "amount": {"total": 72_500, "payer_total": 70_000, "currency": "CNY"},
    });
    for (field, value) in change {
        trade[*field] = value.clone();
    }
    trade
}

fn body(kind: &str, content: &Value) -> Vec<u8> {
    let seal = SealKey::parse(&Secret::new(KEY)).unwrap();
    let resource = seal.seal(NONCE, "transaction", content.to_string().as_bytes()).unwrap();
    json!({"id": "n1", "event_type": kind, "resource_type": "encrypt-resource", "resource": resource})
        .to_string()
        .into_bytes()
}

fn notice(at_s: i64, by: &str, key: &Secret, body: Vec<u8>) -> Callback {
    let at = at_s.to_string();
    let signature = SigningKey::parse(key).unwrap().sign(&signed_text(&at, NONCE, &body)).unwrap();
    let headers = [
        ("wechatpay-timestamp", &*at),
        ("wechatpay-nonce", NONCE),
        ("wechatpay-signature", &signature),
        ("wechatpay-serial", by),
    ];
    let headers = headers.map(|(name, value)| (name.into(), value.into())).to_vec();
    Callback { method: Method::POST, query: "".into(), headers, body }
}

fn read(kind: &str, content: &Value) -> Result<News, Rejection> {
    let callback = notice(NOW_S, "PUB_KEY_ID_1", &provider_key(), body(kind, content));
    wechat().read(&callback, NOW_S * 1_000).map(|event| event.news)
}

/// S37: nothing is believed that WeChat Pay has not signed, now, for this merchant.
#[test]
fn s37_a_notice_is_believed_only_with_wechat_pays_signature() {
    let good = || body("TRANSACTION.SUCCESS", &trade(&[]));
    let read = |callback: &Callback| wechat().read(callback, NOW_S * 1_000).map(|event| event.news);
    let News::Paid(paid) = read(&notice(NOW_S, "PUB_KEY_ID_1", &provider_key(), good())).unwrap() else {
        panic!("not paid")
    };
    // What the order cost, not what the payer gave beside a coupon.
    assert_eq!((paid.amount.to_string(), &*paid.currency), ("725".to_owned(), "CNY"));
    let wrong = Err(Rejection::SignatureWrong);
    assert_eq!(read(&notice(NOW_S, "PUB_KEY_ID_1", &merchant_key(), good())), wrong);
    assert_eq!(read(&notice(NOW_S, "PUB_KEY_ID_2", &provider_key(), good())), wrong);
    let signed = notice(NOW_S, "PUB_KEY_ID_1", &provider_key(), good());
    let mut moved = signed.clone();
    moved.body.push(b' ');
    assert_eq!(read(&moved), wrong);
    // WeChat Pay tries out whether we look.
    let mut probed = signed.clone();
    probed.headers[2].1 = "WECHATPAY/SIGNTEST/AAAA".into();
    assert_eq!(read(&probed), wrong);
    for at in 0..4 {
        let mut bare = signed.clone();
        bare.headers.remove(at);
        assert_eq!(read(&bare), Err(Rejection::SignatureMissing));
    }
    for (at_s, late) in [(NOW_S - 301, true), (NOW_S + 301, true), (NOW_S - 300, false)] {
        let told = read(&notice(at_s, "PUB_KEY_ID_1", &provider_key(), good()));
        assert_eq!(told == Err(Rejection::SignatureStale), late, "{at_s}");
    }
}

#[test]
fn s37_notices_for_another_merchant_or_app_are_refused() {
    for field in ["mchid", "appid"] {
        let told = read("TRANSACTION.SUCCESS", &trade(&[(field, json!("1900000002"))]));
        assert_eq!(told, Err(Rejection::MerchantMismatch));
    }
}

#[test]
fn s37_a_content_that_cannot_be_opened_is_refused() {
    let other = SealKey::parse(&Secret::new("another-key-of-32-bytes-which-is")).unwrap();
    let resource = other.seal(NONCE, "transaction", trade(&[]).to_string().as_bytes()).unwrap();
    let mut unsealed = resource.clone();
    unsealed["algorithm"] = json!("NONE");
    unsealed["ciphertext"] = trade(&[]);
    for resource in [resource, unsealed, json!({}), Value::Null] {
        let body = json!({"id": "n1", "event_type": "TRANSACTION.SUCCESS", "resource": resource});
        let callback = notice(NOW_S, "PUB_KEY_ID_1", &provider_key(), body.to_string().into_bytes());
        assert_eq!(wechat().read(&callback, NOW_S * 1_000), Err(Rejection::Malformed));
    }
    assert!(SealKey::parse(&Secret::new("short")).is_none());
    assert_eq!(format!("{:?}", wechat().seal), crate::secret::HIDDEN);
}

#[test]
fn amounts_are_whole_fen() {
    for total in [json!(1.5), json!("100"), json!(-1), Value::Null] {
        let told =
            read("TRANSACTION.SUCCESS", &trade(&[("amount", json!({"total": total, "currency": "CNY"}))]));
        assert_eq!(told, Err(Rejection::Malformed), "{total}");
    }
    assert!(fen(ledger::Nano(5_000_000)).is_err());
    assert_eq!(fen(ledger::Nano(10_000_000)).unwrap(), 1);
}

#[test]
fn refunds_are_ours_by_their_name() {
    let order = OrderId::from_raw(7);
    let told = |name: &str, kind: &str| {
        let refund = json!({"mchid": "1900000001", "out_trade_no": order.to_string(), "out_refund_no": name,
            "refund_id": "5030", "refund_status": "SUCCESS", "amount": {"refund": 2_550, "total": 72_500}});
        read(kind, &refund).unwrap()
    };
    let News::Refund(ours) = told(&format!("{order}-3"), "REFUND.SUCCESS") else { panic!("no refund") };
    assert_eq!((ours.ours, ours.amount.to_string(), ours.is_sent), (Some(3), "25.5".to_owned(), true));
    let News::Refund(other) = told("by-hand", "REFUND.CLOSED") else { panic!("no refund") };
    assert_eq!((other.ours, other.is_sent), (None, false));
    assert_eq!(told("by-hand", "REFUND.ABNORMAL"), News::Other);
}
