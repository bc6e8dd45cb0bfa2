//! H2: what is left of the platform's credit at an upstream is watched, and told once before it ends.

use ledger::Nano;
use serde_json::{Value, json};
use tallygate::demo::upstream::credit::PAID;

use crate::support::demo::{Demo, nano, wait_until};
use crate::support::http::Ask;

const MODEL: &str = "gpt-5-mini";

fn demo() -> Demo {
    Demo::start_with(&[("TALLYGATE_UPSTREAM__CREDIT_POLL_MS", "100")])
}

/// A channel to the demo's upstream that is watched in this way. Its id.
fn channel(demo: &Demo, name: &str, credit: &Value) -> String {
    let key = std::fs::read_to_string(demo.dir().join("upstream/upstream-key")).unwrap();
    let body = json!({
        "name": name,
        "base_url": demo.ready()["upstream"]["url"],
        "credential": key.trim(),
        "models": {MODEL: MODEL},
        "credit": credit,
    });
    demo.admin_post("/api/channels", &body)["id"].as_str().unwrap().to_owned()
}

fn change(demo: &Demo, channel: &str, to: &Value) -> Value {
    let path = format!("/api/channels/{channel}");
    demo.ask(&Ask::new("PATCH", path).raw_body(to.to_string()).bearer(&demo.admin_token())).json()
}

/// What the health of a channel says of its credit.
fn seen(demo: &Demo, channel: &str) -> Value {
    let health = demo.admin("/api/channels/health");
    let mut rows = health["data"].as_array().unwrap().iter();
    rows.find(|row| row["channel"] == channel).unwrap()["credit"][0].clone()
}

fn told(demo: &Demo, channel: &str) -> Vec<Value> {
    let all = demo.admin("/api/notices?event=upstream_credit_low&limit=1000")["data"].clone();
    all.as_array().unwrap().iter().filter(|notice| notice["subject"] == channel).cloned().collect()
}

fn billed(demo: &Demo) -> Nano {
    demo.bill().iter().fold(Nano::ZERO, |sum, row| sum.saturating_add(Nano(nano(&row["cost"]))))
}

fn left(demo: &Demo) -> Nano {
    PAID.saturating_sub(billed(demo))
}

#[test]
fn h2_each_way_of_telling_the_credit_agrees_with_the_upstreams_bill() {
    let demo = demo();
    demo.chat(&demo.key("healthy"), MODEL, "Hello").ok();
    let below = "0.000000001";
    let ways = [
        json!({"source": "deepseek_balance", "alert_below": below}),
        json!({"source": "openrouter_credits", "alert_below": below}),
        json!({"source": "billing_subscription", "alert_below": below}),
        json!({"source": "json", "path": "/v1/wallet", "pointer": "/wallet/left", "alert_below": below}),
    ];
    for way in &ways {
        let id = channel(&demo, way["source"].as_str().unwrap(), way);
        wait_until("the upstream was asked", || seen(&demo, &id)["remaining"].is_string());
        let seen = seen(&demo, &id);
        assert_eq!(seen["remaining"], left(&demo).to_string(), "{way}: {seen:#}");
        assert_eq!((&seen["is_low"], &seen["fault"]), (&json!(false), &Value::Null), "{way}");
        assert_eq!(told(&demo, &id), Vec::<Value>::new());
        let shown = demo.admin(&format!("/api/channels/{id}"));
        assert_eq!(&shown["credit"], way);
    }
    let id = channel(
        &demo,
        "elsewhere",
        &json!({
            "source": "json", "path": "/v1/models", "pointer": "/no/such", "alert_below": "1"
        }),
    );
    wait_until("the fault is shown", || seen(&demo, &id)["fault"].is_string());
    assert_eq!(seen(&demo, &id)["fault"], "/v1/models has no amount at /no/such");
    assert_eq!(told(&demo, &id), Vec::<Value>::new(), "what is not known is not low");
    change(&demo, &id, &json!({"credit": null}));
    assert_eq!(seen(&demo, &id), Value::Null);
}

/// Falling credit is told once, whatever is restarted, and again only after it was above the threshold.
#[test]
fn h2_credit_that_falls_below_its_threshold_is_told_once_for_each_time() {
    let mut demo = demo();
    let key = demo.key("healthy");
    let threshold = left(&demo);
    let way = |below: Nano| json!({"source": "openrouter_credits", "alert_below": below.to_string()});
    let id = channel(&demo, "watched", &way(threshold));
    wait_until("the upstream was asked", || seen(&demo, &id)["remaining"].is_string());
    assert_eq!((seen(&demo, &id)["is_low"].clone(), told(&demo, &id).len()), (json!(false), 0));
    demo.chat(&key, MODEL, "Hello").ok();
    wait_until("the fall is told", || !told(&demo, &id).is_empty());
    let notice = told(&demo, &id).remove(0);
    let facts = &notice["facts"];
    assert_eq!((&facts["name"], &facts["credential"]), (&json!("watched"), &json!(1)), "{notice:#}");
    assert_eq!(
        (&facts["threshold"], nano(&facts["remaining"])),
        (&json!(threshold.to_string()), left(&demo).0)
    );
    assert_eq!((&notice["account"], &notice["category"]), (&Value::Null, &json!("channels")));

    demo.chat(&key, MODEL, "Hello").ok();
    wait_until("the next fall is seen", || seen(&demo, &id)["remaining"] == left(&demo).to_string());
    demo.kill();
    demo.restart();
    wait_until("the upstream was asked again", || seen(&demo, &id)["is_low"] == true);
    assert_eq!(told(&demo, &id).len(), 1, "once is enough, over a restart too");

    // Somebody pays: here, the threshold sinks. Then it falls again.
    change(&demo, &id, &json!({"credit": way(left(&demo))}));
    wait_until("it has recovered", || seen(&demo, &id)["is_low"] == false);
    let read = seen(&demo, &id)["read_at"].clone();
    wait_until("and was looked at since", || seen(&demo, &id)["read_at"] != read);
    demo.chat(&demo.key("healthy"), MODEL, "Hello").ok();
    wait_until("the second fall is told", || told(&demo, &id).len() == 2);
}

#[test]
fn h2_a_credit_check_that_cannot_work_is_refused_by_its_field() {
    let demo = demo();
    let id = channel(&demo, "watched", &Value::Null);
    let cases = [
        (json!({"source": "json", "alert_below": "1", "pointer": "/a"}), "credit.path"),
        (json!({"source": "json", "alert_below": "1", "path": "/a"}), "credit.pointer"),
        (json!({"source": "json", "alert_below": "1", "path": "a", "pointer": "/a"}), "credit.path"),
        (json!({"source": "json", "alert_below": "1", "path": "/a", "pointer": "a"}), "credit.pointer"),
        (json!({"source": "deepseek_balance", "alert_below": "1", "path": "/a"}), "credit.path"),
        (json!({"source": "deepseek_balance", "alert_below": "0"}), "credit.alert_below"),
        (json!({"source": "crystal_ball", "alert_below": "1"}), "credit.source"),
    ];
    for (credit, field) in cases {
        let refused = change(&demo, &id, &json!({"credit": credit}));
        assert_eq!(
            (&refused["error"]["code"], &refused["error"]["param"]),
            (&json!("invalid_value"), &json!(field))
        );
    }
}
