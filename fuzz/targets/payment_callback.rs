//! Callbacks of all payment providers: any bytes, as they are and rightly signed. What nobody signed is never believed; what
//! is signed is read without a fault, whatever it says.

#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use tallygate::config::{Config, EpaySignature, Sources};
use tallygate::demo::payments::{Contract, provider_key};
use tallygate::funding::Settings;
use tallygate::funding::provider::rsa::SigningKey;
use tallygate::funding::provider::{Callback, alipay_text, epay_signature, stripe_signature};
use tallygate::secret::Secret;

const NOW_MS: i64 = 1_795_334_400_000;
const NOW_S: i64 = NOW_MS / 1_000;

struct Payers {
    contract: Contract,
    settings: Settings,
    key: SigningKey,
}

static PAYERS: LazyLock<Payers> = LazyLock::new(|| {
    let contract = Contract::of_secret(&Secret::new("fuzzing"));
    let flags = contract.settings("http://127.0.0.1:9");
    let config = Config::load(&Sources { flags, ..Sources::default() }).expect("the settings are whole");
    let settings = Settings::from_config(&config).expect("the settings are whole");
    Payers { contract, settings, key: SigningKey::parse(&provider_key()).expect("the key is one") }
});

type Headers = Vec<(&'static str, String)>;

fuzz_target!(|data: &[u8]| {
    let Some((way, body)) = data.split_first() else { return };
    let payers = &*PAYERS;
    let name = ["stripe", "epay", "alipay", "wechat"][usize::from(*way & 3)];
    let provider = payers.settings.provider(name).expect("all are set up");
    let read = |query: &str, headers: Headers, body: &[u8]| {
        let headers = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        let callback = Callback { method, query: query.into(), headers, body: body.to_vec() };
        let _order = provider.named_order(&callback);
        provider.read(&callback, NOW_MS)
    };
    let text = String::from_utf8_lossy(body);
    // Nobody who has not the keys can sign by chance.
    assert!(read(&text, Headers::new(), &[]).is_err());
    assert!(read("", headers_of(name, "AAAA", &payers.contract), body).is_err());
    let _read = match name {
        "stripe" => {
            let signature = stripe_signature(&payers.contract.stripe_webhook_secret, NOW_S, body);
            read("", vec![("stripe-signature", format!("t={NOW_S},v1={signature}"))], body)
        }
        "epay" => read(&signed_form(&text, payers, true), Headers::new(), &[]),
        "alipay" => read("", Headers::new(), signed_form(&text, payers, false).as_bytes()),
        _ => {
            let said = [format!("{NOW_S}\nnonce\n").as_bytes(), body, b"\n"].concat();
            let signature = payers.key.sign(&said).expect("it can be signed");
            read("", headers_of(name, &signature, &payers.contract), body)
        }
    };
});

fn headers_of(name: &str, signature: &str, contract: &Contract) -> Headers {
    match name {
        "stripe" => vec![("stripe-signature", format!("t={NOW_S},v1={signature}"))],
        _ => vec![
            ("wechatpay-timestamp", NOW_S.to_string()),
            ("wechatpay-nonce", "nonce".to_owned()),
            ("wechatpay-serial", contract.wechat_platform_id.clone()),
            ("wechatpay-signature", signature.to_owned()),
        ],
    }
}

/// The parameters of a form, with a signature that is right.
fn signed_form(text: &str, payers: &Payers, is_epay: bool) -> String {
    let pairs: Vec<_> = text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    let pairs: Vec<_> =
        pairs.into_iter().filter(|(name, _)| !matches!(*name, "sign" | "sign_type")).collect();
    let (sign, kind) = if is_epay {
        (epay_signature(pairs.iter().copied(), &payers.contract.epay_key, EpaySignature::Appended), "MD5")
    } else {
        let said = alipay_text(pairs.iter().copied());
        (payers.key.sign(said.as_bytes()).expect("it can be signed"), "RSA2")
    };
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs).append_pair("sign_type", kind).append_pair("sign", &sign).finish()
}
