//! Independent libraries for Alipay (python-alipay-sdk) and WeChat Pay (wechatpayv3), unmodified, beside our signatures and
//! our simulators: they believe us, and we them, and nobody else.

use std::sync::Arc;

use serde_json::{Value, json};
use tallygate::clock::{Clock, SystemClock};
use tallygate::demo::payments::{Contract, Payments, Play, merchant_key, provider_key};
use tallygate::funding::provider::rsa::SigningKey;
use tallygate::funding::provider::wechat::Call;
use tallygate::secret::Secret;

use crate::support::backend::Backend;
use crate::support::desk::{Desk, contract};
use crate::support::http::Ask;
use crate::support::library::Library;

fn public(key: &Secret) -> String {
    SigningKey::parse(key).unwrap().verifying().to_pem()
}

/// The simulated providers on the true time, as a client of its own meets them.
fn providers() -> (Payments, Contract) {
    let contract = Contract::of_secret(&Secret::new("of the libraries"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    (Payments::start("127.0.0.1:0".parse().unwrap(), contract.clone(), clock).unwrap(), contract)
}

/// The callback on an order's timeline: its headers and its body.
fn told(desk: &Desk, order: &str) -> (Value, String) {
    let timeline = desk.shown(order)["timeline"].as_array().unwrap().clone();
    let line = timeline.into_iter().find(|line| line["kind"] == "callback").unwrap();
    let headers = line["headers"].as_array().unwrap();
    let pair = |line: &Value| {
        line.as_str().unwrap().split_once(": ").map(|(name, value)| (name.to_owned(), json!(value)))
    };
    (headers.iter().filter_map(pair).collect(), line["body"].as_str().unwrap().to_owned())
}

fn alipay() -> Library {
    let mut library = Library::start("alipay_check.py");
    let keep = json!({"do": "keep", "key": merchant_key().expose(), "public": public(&merchant_key())});
    library.ask(&keep);
    library
}

#[test]
fn s37_an_alipay_library_and_ours_believe_each_other_and_nobody_else() {
    let (mut library, desk) = (alipay(), Desk::open(Backend::embedded()));
    let account = desk.account("Ann");
    let order = desk.order(&account, "alipay", "100");
    // What we sign.
    let url = desk.shown(&order)["pay_url"].as_str().unwrap().to_owned();
    let query = url.split_once('?').unwrap().1.to_owned();
    let mut verify = |what: &str, field: &str, text: &str, key: &Secret| {
        library.ask(&json!({"do": what, field: text, "public": public(key)}))["ok"].clone()
    };
    assert_eq!(verify("verify_call", "query", &query, &merchant_key()), true);
    assert_eq!(verify("verify_call", "query", &query.replace("725.00", "7.25"), &merchant_key()), false);
    assert_eq!(verify("verify_call", "query", &query, &provider_key()), false);
    // What our simulator signs.
    assert_eq!(desk.paid(&order, &Play::default()), [200]);
    let (_, form) = told(&desk, &order);
    assert_eq!(verify("verify_notice", "form", &form, &provider_key()), true);
    assert_eq!(verify("verify_notice", "form", &form.replace("725.00", "7.25"), &provider_key()), false);
    assert_eq!(verify("verify_notice", "form", &form, &merchant_key()), false);
    // What the library signs.
    let contract = contract("127.0.0.1:1".parse().unwrap());
    let mut send = |key: &Secret, order: &str, amount: &str| {
        let params = json!({"app_id": contract.alipay_app_id, "seller_id": contract.alipay_seller, "charset": "utf-8",
            "notify_time": "2026-11-22 16:00:00", "notify_id": "of the library", "out_trade_no": order,
            "trade_no": format!("2026{}", &order[4..]), "trade_status": "TRADE_SUCCESS", "total_amount": amount,
            "subject": "充值 100% & more = +", "buyer_logon_id": "ann***@example.com"});
        let signed = library.ask(&json!({"do": "sign_notice", "params": params, "key": key.expose()}));
        let form = signed["form"].as_str().unwrap().to_owned();
        desk.ask(&Ask::new("POST", "/callbacks/alipay").raw_body(form)).head.status
    };
    let order = desk.order(&account, "alipay", "100");
    assert_eq!(send(&merchant_key(), &order, "725.00"), 400);
    assert_eq!(desk.available(&account), "100");
    assert_eq!(send(&provider_key(), &order, "725.00"), 200);
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("credited", "200"));
    let order = desk.order(&account, "alipay", "100");
    assert_eq!((send(&provider_key(), &order, "7.25"), &*desk.state(&order)), (400, "amount_mismatch"));
}

#[test]
fn the_simulated_alipay_is_what_an_alipay_library_expects() {
    let (mut library, (providers, contract)) = (alipay(), providers());
    let answer =
        library.ask(&json!({"do": "calls", "url": providers.url(), "app_id": contract.alipay_app_id,
        "order": "of-the-library", "key": merchant_key().expose(), "public": public(&provider_key()),
        "stranger": provider_key().expose()}));
    let expected = json!({"before": "ACQ.TRADE_NOT_EXIST", "status": "TRADE_SUCCESS", "amount": "72.50",
        "changed": ["Y", "N"], "refunded": "2.50", "found": "REFUND_SUCCESS"});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&answer[field], value, "{field}: {answer:#}");
    }
    assert!(
        answer["refused"].as_str().is_some_and(|why| why.contains("isv.invalid-signature")),
        "{answer:#}"
    );
}

fn merchant(contract: &Contract) -> Value {
    json!({"mchid": contract.wechat_merchant, "appid": contract.wechat_app_id, "serial": contract.wechat_serial,
        "private_key": merchant_key().expose(), "v3_key": contract.wechat_v3_key.expose(),
        "public_key": public(&provider_key()), "public_key_id": contract.wechat_platform_id,
        "notify_url": "http://127.0.0.1:1/callbacks/wechat"})
}

/// The signature has no randomness in it, so that both must write the same.
#[test]
fn s37_a_wechat_pay_library_signs_calls_as_we_do() {
    let (mut library, contract) =
        (Library::start("wechat_check.py"), contract("127.0.0.1:1".parse().unwrap()));
    let key = SigningKey::parse(&merchant_key()).unwrap();
    for (method, path, body) in [
        ("GET", "/v3/pay/transactions/out-trade-no/ord_1?mchid=1900000001", ""),
        ("POST", "/v3/pay/transactions/native", r#"{"description":"充值","amount":{"total":1}}"#),
    ] {
        let ask = json!({"do": "authorize", "method": method, "path": path, "body": body, "at": 1_795_334_400,
            "nonce": "0123456789abcdef", "merchant": merchant(&contract)});
        let theirs = library.ask(&ask)["authorization"].as_str().unwrap().to_owned();
        let call = Call { method, path, body, at_s: 1_795_334_400, nonce: "0123456789abcdef" };
        let ours = call.authorization(&contract.wechat_merchant, &contract.wechat_serial, &key);
        assert_eq!(ours.as_deref(), Some(&*theirs));
    }
}

#[test]
fn s37_a_wechat_pay_library_and_ours_believe_each_others_notices_and_nobody_elses() {
    let (mut library, desk) = (Library::start("wechat_check.py"), Desk::open(Backend::embedded()));
    let (contract, account) = (contract("127.0.0.1:1".parse().unwrap()), desk.account("Ann"));
    let order = desk.order(&account, "wechat", "100");
    assert_eq!(desk.paid(&order, &Play::default()), [200]);
    let (headers, body) = told(&desk, &order);
    let mut open = |body: &str, merchant: &Value| {
        library.ask(&json!({"do": "open_notice", "headers": headers, "body": body, "merchant": merchant}))["resource"]
            .clone()
    };
    let resource = open(&body, &merchant(&contract));
    assert_eq!((&resource["out_trade_no"], &resource["amount"]["total"]), (&json!(order), &json!(72_500)));
    assert_eq!(open(&format!("{body} "), &merchant(&contract)), Value::Null);
    let mut stranger = merchant(&contract);
    stranger["public_key"] = json!(public(&merchant_key()));
    assert_eq!(open(&body, &stranger), Value::Null);

    let at_s = desk.clock.now_ms() / 1_000;
    let mut send = |key: &Secret, at_s: i64, order: &str, total: i64| {
        let content = json!({"appid": contract.wechat_app_id, "mchid": contract.wechat_merchant, "out_trade_no": order,
            "transaction_id": format!("42{}", &order[4..]), "trade_state": "SUCCESS", "attach": "充值",
            "amount": {"total": total, "payer_total": total, "currency": "CNY"}, "payer": {"openid": "o"}});
        let made = library
            .ask(&json!({"do": "make_notice", "event_type": "TRANSACTION.SUCCESS", "content": content,
            "key": key.expose(), "at": at_s, "merchant": merchant(&contract)}));
        let mut ask = Ask::new("POST", "/callbacks/wechat").raw_body(made["body"].as_str().unwrap());
        for name in ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-serial", "wechatpay-signature"] {
            ask = ask.header(name, made["headers"][name].as_str().unwrap());
        }
        desk.ask(&ask).head.status
    };
    let order = desk.order(&account, "wechat", "100");
    assert_eq!(send(&merchant_key(), at_s, &order, 72_500), 400);
    assert_eq!(send(&provider_key(), at_s - 301, &order, 72_500), 400);
    assert_eq!(desk.available(&account), "100");
    assert_eq!(send(&provider_key(), at_s, &order, 72_500), 200);
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("credited", "200"));
    let order = desk.order(&account, "wechat", "100");
    assert_eq!((send(&provider_key(), at_s, &order, 725), &*desk.state(&order)), (400, "amount_mismatch"));
}

#[test]
fn the_simulated_wechat_pay_is_what_a_wechat_pay_library_expects() {
    let (mut library, (providers, contract)) = (Library::start("wechat_check.py"), providers());
    let answer = library.ask(&json!({"do": "calls", "url": providers.url(), "order": "of-the-library",
        "merchant": merchant(&contract)}));
    let expected = json!({"unknown": 404, "code_url": "weixin://wxpay/bizpayurl?pr=of-the-library", "state": "SUCCESS",
        "total": 7_250, "refund": ["SUCCESS", true, "SUCCESS"], "refused": 401});
    assert_eq!(answer, expected);
}
