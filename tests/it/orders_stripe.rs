//! Stripe's own library, unmodified, beside our signatures and our simulated Stripe (`tests/sdk/python/stripe_check.py`).

use serde_json::json;
use tallygate::clock::{Clock, SystemClock};
use tallygate::funding::provider::stripe_signature;
use tallygate::secret::Secret;

use crate::support::backend::Backend;
use crate::support::desk::{Desk, STRIPE_KEY, WEBHOOK_SECRET};
use crate::support::http::Ask;
use crate::support::library::Library;

/// Both ways, with bodies that a careless reader would change before it verifies.
#[test]
fn s37_stripes_library_and_ours_believe_each_other_and_nobody_else() {
    let mut library = Library::start("stripe_check.py");
    let secret = Secret::new(WEBHOOK_SECRET);
    let now_s = SystemClock.now_ms() / 1_000;
    let event =
        r#"{"id":"evt_1","object":"event","type":"plan.created","livemode":false,"data":{"object":{}}"#;
    let bodies = [
        format!("{event}}}"),
        format!("{event},\n  \"amount\": 1.50,  \"a\": \"充值 \\u00e9\" }}\n"),
        format!("{event},\"z\":[1e2],\"a\":\"é\"}}"),
    ];
    for body in &bodies {
        let verify = |library: &mut Library, at_s: i64, secret_there: &str, body_there: &str| {
            let header = format!("t={at_s},v1={}", stripe_signature(&secret, at_s, body.as_bytes()));
            library.ask(&json!({"do": "verify", "body": body_there, "header": header, "secret": secret_there,
                "tolerance": 300}))["ok"]
                .clone()
        };
        assert_eq!(verify(&mut library, now_s, WEBHOOK_SECRET, body), true, "{body}");
        assert_eq!(verify(&mut library, now_s - 301, WEBHOOK_SECRET, body), false);
        assert_eq!(verify(&mut library, now_s, "whsec_another", body), false);
        assert_eq!(verify(&mut library, now_s, WEBHOOK_SECRET, &format!("{body} ")), false);
    }
    let desk = Desk::open(Backend::embedded());
    let at_s = desk.clock.now_ms() / 1_000;
    for body in &bodies {
        let mut send = |at_s: i64, secret: &str, sent: &str| {
            let signed = library.ask(&json!({"do": "sign", "body": body, "secret": secret, "at": at_s}));
            let header = signed["header"].as_str().unwrap().to_owned();
            let ask = Ask::new("POST", "/callbacks/stripe").raw_body(sent).header("stripe-signature", header);
            desk.ask(&ask).head.status
        };
        assert_eq!(send(at_s, WEBHOOK_SECRET, body), 200, "{body}");
        assert_eq!(send(at_s - 301, WEBHOOK_SECRET, body), 400);
        assert_eq!(send(at_s, "whsec_another-secret", body), 400);
        assert_eq!(send(at_s, WEBHOOK_SECRET, &format!("{body} ")), 400);
    }
}

#[test]
fn the_simulated_stripe_is_what_stripes_library_expects() {
    let (mut library, desk) = (Library::start("stripe_check.py"), Desk::open(Backend::embedded()));
    let calls = json!({"do": "calls", "url": desk.providers.url(), "key": STRIPE_KEY, "order": "ord_x"});
    let answer = library.ask(&calls);
    assert!(answer["id"].as_str().unwrap().starts_with("cs_test_"), "{answer:#}");
    let told = ["again", "status", "amount", "refused"].map(|field| &answer[field]);
    assert_eq!(told, [&answer["id"], &json!("unpaid"), &json!(500), &json!(401)]);
}
