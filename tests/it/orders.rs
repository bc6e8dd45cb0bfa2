//! Top-ups arrive once, and are found: orders on real sockets, beside providers that misbehave, on both stores.

use serde_json::{Value, json};
use tallygate::demo::payments::Play;

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::desk::Desk;
use crate::support::http::Ask;

on_both_backends!(
    b1_an_order_goes_its_way_and_its_timeline_says_so,
    s37_a_forged_callback_is_kept_and_moves_no_money,
    s38_a_lost_callback_is_asked_for,
    s39_a_credit_that_fails_is_not_acknowledged,
    s40_a_large_top_up_is_credited,
    s41_five_callbacks_at_once_credit_once,
    s42_another_amount_is_not_credited,
    s44_what_is_credited_can_be_spent_at_once,
    money_that_comes_late_is_credited,
    a_payment_may_be_told_before_the_order_is_answered,
    callbacks_may_come_out_of_order_and_again_and_again,
    a_transfer_is_completed_by_hand_once,
    orders_are_found_by_what_is_known_of_them,
    c5_so_many_orders_of_an_account_wait_at_once,
);

const PROVIDERS: [&str; 4] = ["stripe", "epay", "alipay", "wechat"];

fn play() -> Play {
    Play::default()
}

fn b1_an_order_goes_its_way_and_its_timeline_says_so(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for provider in PROVIDERS {
        let (pay, currency) = if provider == "stripe" { ("100.00", "USD") } else { ("725.00", "CNY") };
        let order = desk.order(&account, provider, "100");
        let before = desk.shown(&order);
        assert_eq!((&before["state"], &before["pay_amount"]), (&json!("pending"), &json!(pay)), "{before:#}");
        assert_eq!(
            (&before["pay_currency"], &before["created_by"]),
            (&json!(currency), &json!("admin token"))
        );
        let way = if provider == "wechat" { "qr" } else { "pay_url" };
        assert!(before[way].is_string() && before["credited_at"].is_null());
        let sent = desk.pay(&order, &play());
        let thanks = match provider {
            "stripe" => "{\"received\":true}",
            "wechat" => "{\"code\":\"SUCCESS\",\"message\":\"OK\"}",
            _ => "success",
        };
        assert_eq!((sent[0].status, &*sent[0].body), (200, thanks));
        let after = desk.shown(&order);
        assert_eq!((&after["state"], &after["paid_amount"]), (&json!("credited"), &json!(pay)), "{after:#}");
        let effects: Vec<_> = desk.timeline(&order).into_iter().map(|(_, _, effect)| effect).collect();
        assert_eq!(effects, ["created", "pending", "paid", "credited"]);
        let callback =
            after["timeline"].as_array().unwrap().iter().find(|line| line["kind"] == "callback").unwrap();
        assert_eq!(callback["verdict"], "valid");
        // What WeChat Pay sends is sealed.
        assert!(provider == "wechat" || callback["body"].as_str().unwrap().contains(&order), "{callback:#}");
        for time in ["created_at", "paid_at", "notified_at", "credited_at"] {
            assert!(after[time].is_string(), "{time}: {after:#}");
        }
    }
    assert_eq!(desk.available(&account), "400");
}

fn s37_a_forged_callback_is_kept_and_moves_no_money(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for provider in PROVIDERS {
        let order = desk.order(&account, provider, "100");
        assert_eq!(desk.paid(&order, &Play { forged: true, ..play() }), [400]);
        assert_eq!(desk.state(&order), "pending");
        // Which order it names is sealed in what WeChat Pay sends.
        let (kept, named) = match provider {
            "wechat" => (desk.get("/api/callbacks?limit=1")["data"][0].clone(), "ciphertext"),
            _ => (desk.shown(&order)["timeline"].as_array().unwrap().last().unwrap().clone(), &*order),
        };
        let told = (&kept["kind"], &kept["verdict"]);
        assert_eq!(told, (&json!("callback"), &json!("signature_wrong")), "{kept:#}");
        assert!(kept["body"].as_str().unwrap().contains(named));
        let bare = desk.ask(&Ask::post(format!("/callbacks/{provider}"), &json!({"order": order})));
        let answered = (bare.head.status, bare.json()["error"]["code"].clone());
        assert_eq!(answered, (400, json!("callback_refused")), "{}", bare.text());
    }
    let huge = desk.ask(&Ask::new("POST", "/callbacks/stripe").raw_body(vec![b'x'; (64 << 10) + 1]));
    assert_eq!(huge.head.status, 413);
    assert_eq!(desk.get("/api/callbacks?limit=1")["data"][0]["verdict"], "too_large");
    assert_eq!(desk.ask(&Ask::get("/callbacks/nobody")).head.status, 404);
    // The right signature of the one provider says nothing about an order of the other.
    let epay = desk.order(&account, "epay", "1");
    let session = json!({"id": "cs_1", "client_reference_id": epay, "payment_status": "paid", "amount_total": 725,
        "currency": "cny", "payment_intent": "pi_1"});
    assert_eq!(desk.providers.stripe_event("checkout.session.completed", &session).status, 400);
    assert_eq!(desk.timeline(&epay).last().unwrap().1, "order_mismatch");
    let mut unknown = session;
    unknown["client_reference_id"] = json!("ord_0000000000000");
    assert_eq!(desk.providers.stripe_event("checkout.session.completed", &unknown).status, 400);
    assert_eq!(desk.get("/api/callbacks?limit=1")["data"][0]["verdict"], "order_unknown");
    assert_eq!(desk.available(&account), "0");
}

fn s38_a_lost_callback_is_asked_for(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for provider in PROVIDERS {
        let order = desk.order(&account, provider, "100");
        assert_eq!(desk.poll(), 0);
        desk.clock.advance_ms(30_000);
        assert_eq!(desk.poll(), 1);
        assert_eq!(desk.state(&order), "pending");
        assert!(desk.paid(&order, &Play { lost: true, ..play() }).is_empty());
        // The pause has doubled; a provider that is down meanwhile is asked again.
        desk.clock.advance_ms(30_000);
        assert_eq!(desk.poll(), 0);
        desk.clock.advance_ms(30_000);
        desk.providers.fail_next(1);
        assert_eq!((desk.poll(), &*desk.state(&order)), (1, "pending"));
        desk.clock.advance_ms(120_000);
        assert_eq!((desk.poll(), &*desk.state(&order)), (1, "credited"));
        let query = desk.timeline(&order).into_iter().find(|(kind, ..)| kind == "query").unwrap();
        assert_eq!((&*query.1, &*query.2), ("valid", "paid"));
        // The callback comes after all.
        assert_eq!(desk.paid(&order, &play()), [200]);
        assert_eq!(desk.count(&order, "credited_before"), 1);
        assert_eq!(desk.poll(), 0);
    }
    assert_eq!(desk.available(&account), "400");
}

fn s39_a_credit_that_fails_is_not_acknowledged(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "100");
    let now_ms = tallygate::clock::Clock::now_ms(&*desk.clock);
    // A clock that jumps stops the books.
    desk.clock.jump_to_ms(now_ms + 3_600_000);
    assert_eq!(desk.paid(&order, &play()), [503]);
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("paid", "0"));
    assert_eq!(desk.paid(&order, &play()), [503]);
    desk.clock.jump_to_ms(now_ms);
    assert_eq!(desk.paid(&order, &play()), [200]);
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("credited", "100"));
    assert_eq!(desk.count(&order, "paid_before"), 2);
    assert_eq!(desk.count(&order, "credited"), 1);
}

fn s40_a_large_top_up_is_credited(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for provider in PROVIDERS {
        let order = desk.order(&account, provider, "10000");
        assert_eq!(desk.paid(&order, &play()), [200]);
    }
    assert_eq!(desk.available(&account), "40000");
    for amount in ["0.5", "0", "-5", "1000001"] {
        let body = json!({"account": account, "provider": "stripe", "amount": amount});
        let refused = desk.post("/api/orders", body);
        assert_eq!(refused.json()["error"]["code"], "amount_out_of_range", "{}", refused.text());
    }
    let refused = desk.post(
        "/api/orders",
        json!({"account": account, "provider": "epay", "amount": "5", "pay_currency": "USD"}),
    );
    assert_eq!((refused.head.status, &refused.json()["error"]["param"]), (400, &json!("pay_currency")));
}

fn s41_five_callbacks_at_once_credit_once(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for provider in PROVIDERS {
        let order = desk.order(&account, provider, "100");
        assert_eq!(desk.paid(&order, &Play { copies: 5, ..play() }), [200; 5]);
        let timeline = desk.timeline(&order);
        assert_eq!(timeline.iter().filter(|(kind, ..)| kind == "callback").count(), 5, "{timeline:?}");
        assert_eq!((desk.count(&order, "paid"), desk.count(&order, "credited")), (1, 1), "{timeline:?}");
    }
    assert_eq!(desk.available(&account), "400");
}

fn s42_another_amount_is_not_credited(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let member = desk.post("/api/members", json!({"account": account, "name": "Ann", "role": "owner"})).ok();
    let path = format!("/api/members/{}/token", member["id"].as_str().unwrap());
    let owner = desk.post(&path, json!({})).ok()["token"].as_str().unwrap().to_owned();
    for provider in PROVIDERS {
        let order = desk.order(&account, provider, "100");
        assert_eq!(desk.paid(&order, &Play { amount: Some("1.00".into()), ..play() }), [400]);
        let shown = desk.shown(&order);
        assert_eq!((&shown["state"], &shown["paid_amount"]), (&json!("amount_mismatch"), &json!("1.00")));
        assert_eq!(desk.timeline(&order).last().unwrap().1, "amount_mismatch");
        let found = desk.get("/api/orders?state=amount_mismatch");
        assert_eq!(found["data"][0]["id"], order);
        assert_eq!(desk.available(&account), "0");
        // A case has both sides; told again, it is the same one.
        assert_eq!(desk.paid(&order, &Play { amount: Some("1.00".into()), ..play() }), [400]);
        let cases = desk.get(&format!("/api/reconcile/cases?state=open&source=orders:{provider}"));
        assert_eq!(cases["data"].as_array().unwrap().len(), 1, "{cases:#}");
        let case = &cases["data"][0];
        assert_eq!(
            (&case["kind"], &case["subject"]),
            (&json!("amount_differs"), &json!(format!("payment:{order}")))
        );
        assert_eq!((&case["ours"]["name"], &case["theirs"]["amount"]), (&json!(order), &json!("1")));
        assert_eq!(case["proposal"]["action"], "refund_at_provider");
        // Its owner cannot make it look as if no money had come.
        let cancel = Ask::post(format!("/api/orders/{order}/cancel"), &json!({}));
        let refused = desk.ask(&cancel.bearer(&owner));
        assert_eq!(
            (refused.head.status, &refused.json()["error"]["code"]),
            (409, &json!("order_state_conflict"))
        );
        // Somebody looks, and the right amount came after all: both sides agree.
        assert_eq!(desk.paid(&order, &play()), [200]);
        assert_eq!(desk.state(&order), "credited");
        let case = desk.get(&format!("/api/reconcile/cases/{}", case["id"].as_str().unwrap()));
        assert_eq!((&case["state"], &case["reason"]), (&json!("gone"), &json!("the order is paid")));
        desk.post(&format!("/api/orders/{order}/refund"), json!({"reason": "start over"})).ok();
    }
    let order = desk.order(&account, "stripe", "100");
    let session = json!({"id": desk.shown(&order)["provider_reference"], "client_reference_id": order,
        "payment_status": "paid", "amount_total": 10_000, "currency": "eur", "payment_intent": "pi_1"});
    assert_eq!(desk.providers.stripe_event("checkout.session.completed", &session).status, 400);
    assert_eq!(desk.timeline(&order).last().unwrap().1, "currency_mismatch");
    assert_eq!(desk.available(&account), "0");
}

fn s44_what_is_credited_can_be_spent_at_once(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let made = |path: &str, body: Value| desk.post(path, body).ok();
    made("/api/models", json!({"name": "m"}));
    made("/api/prices", json!({"model": "m", "per_million": {"input": "1.00", "output": "2.00"}}));
    made(
        "/api/channels",
        json!({"name": "c", "base_url": "http://127.0.0.1:9/v1", "credential": "sk-upstream-credential",
            "models": {"m": "m"}, "environments": ["live"]}),
    );
    let key = made("/api/keys", json!({"account": account, "name": "k"}))["key"].as_str().unwrap().to_owned();
    let simulate = || {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
        desk.ask(&Ask::post("/v1/simulate", &body).bearer(&key)).ok()["would"].clone()
    };
    assert_eq!(simulate(), "fail");
    let order = desk.order(&account, "epay", "10");
    assert_eq!(desk.paid(&order, &play()), [200]);
    assert_eq!(simulate(), "pass");
}

fn money_that_comes_late_is_credited(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    for provider in PROVIDERS {
        let order = desk.order(&account, provider, "100");
        for _ in 0..30 {
            desk.clock.advance_ms(3_600_000);
            desk.poll();
        }
        assert_eq!(desk.state(&order), "expired");
        assert_eq!(desk.paid(&order, &play()), [200]);
        assert_eq!((&*desk.state(&order), desk.count(&order, "paid_late")), ("credited", 1));
        let cancelled = desk.order(&account, provider, "1");
        desk.post(&format!("/api/orders/{cancelled}/cancel"), json!({})).ok();
        assert_eq!(desk.paid(&cancelled, &play()), [200]);
        assert_eq!((&*desk.state(&cancelled), desk.count(&cancelled, "paid_late")), ("credited", 1));
    }
    let failed = desk.order(&account, "stripe", "1");
    assert_eq!(desk.paid(&failed, &Play { fails: true, ..play() }), [200]);
    assert_eq!(desk.state(&failed), "failed");
    assert_eq!(desk.paid(&failed, &play()), [200]);
    assert_eq!(desk.available(&account), "405");
}

fn a_payment_may_be_told_before_the_order_is_answered(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    // The provider does not answer; its payer pays all the same.
    desk.providers.fail_next(1);
    let body = json!({"account": account, "provider": "stripe", "amount": "5"});
    let failed = desk.post("/api/orders", body);
    assert_eq!(
        (failed.head.status, &failed.json()["error"]["code"]),
        (502, &json!("payment_provider_failed"))
    );
    let order = desk.get("/api/orders")["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(desk.state(&order), "created");
    let session = json!({"id": "cs_early", "client_reference_id": order, "payment_status": "paid",
        "amount_total": 500, "currency": "usd", "payment_intent": "pi_early"});
    assert_eq!(desk.providers.stripe_event("checkout.session.completed", &session).status, 200);
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("credited", "5"));
}

fn callbacks_may_come_out_of_order_and_again_and_again(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "stripe", "100");
    let provider_reference = desk.shown(&order)["provider_reference"].clone();
    let payment = format!("pi_{}", provider_reference.as_str().unwrap().rsplit('_').next().unwrap());
    // A refund before the payment: to be sent again.
    let refunded = json!({"id": "ch_1", "payment_intent": payment, "metadata": {"order": order}, "amount": 10_000,
        "amount_refunded": 4_000, "currency": "usd"});
    assert_eq!(desk.providers.stripe_event("charge.refunded", &refunded).status, 400);
    assert_eq!(desk.timeline(&order).last().unwrap().1, "too_early");
    // Done, but the money is on its way: nothing yet.
    let session = json!({"id": provider_reference, "client_reference_id": order, "payment_status": "unpaid",
        "amount_total": 10_000, "currency": "usd", "payment_intent": payment});
    assert_eq!(desk.providers.stripe_event("checkout.session.completed", &session).status, 200);
    assert_eq!(desk.state(&order), "pending");
    let mut done = session;
    done["payment_status"] = json!("paid");
    for _ in 0..3 {
        let sent = desk.providers.stripe_event("checkout.session.async_payment_succeeded", &done);
        assert_eq!(sent.status, 200, "{}", sent.body);
    }
    // News from before change nothing.
    assert_eq!(desk.providers.stripe_event("checkout.session.expired", &done).status, 200);
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("credited", "100"));
    for _ in 0..3 {
        assert_eq!(desk.providers.stripe_event("charge.refunded", &refunded).status, 200);
    }
    assert_eq!((&*desk.state(&order), &*desk.available(&account)), ("partially_refunded", "60"));
    // What is not about orders is taken and changes nothing.
    assert_eq!(desk.providers.stripe_event("customer.created", &json!({"id": "cus_1"})).status, 200);
    // A second payment for the same order is seen.
    done["payment_intent"] = json!("pi_second");
    assert_eq!(desk.providers.stripe_event("checkout.session.completed", &done).status, 200);
    assert_eq!(desk.count(&order, "paid_twice"), 1);
    assert_eq!(desk.available(&account), "60");
}

fn a_transfer_is_completed_by_hand_once(backend: Backend) {
    let desk = Desk::open(backend);
    let account = desk.account("Ann");
    let order = desk.order(&account, "transfer", "250");
    let path = format!("/api/orders/{order}/complete");
    assert_eq!(desk.post(&path, json!({"reason": " "})).head.status, 400);
    let done = desk.post(&path, json!({"reason": "statement of 2026-11-22, row 7"})).ok();
    assert_eq!((&done["state"], &*desk.available(&account)), (&json!("credited"), "250"));
    let again = desk.post(&path, json!({"reason": "again"}));
    assert_eq!((again.head.status, &again.json()["error"]["code"]), (409, &json!("order_state_conflict")));
    let line = desk.shown(&order)["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["kind"] == "completed")
        .cloned();
    let line = line.unwrap();
    assert_eq!(
        (&line["actor"], &line["detail"]),
        (&json!("admin token"), &json!("statement of 2026-11-22, row 7"))
    );
    // By hand and by callback at once: once.
    let stripe = desk.order(&account, "stripe", "1");
    desk.post(&format!("/api/orders/{stripe}/complete"), json!({"reason": "seen at the provider"})).ok();
    assert_eq!(desk.paid(&stripe, &play()), [200]);
    assert_eq!(desk.available(&account), "251");
    assert_eq!(desk.ask(&Ask::get("/callbacks/transfer")).head.status, 400);
}

fn orders_are_found_by_what_is_known_of_them(backend: Backend) {
    let desk = Desk::open(backend);
    let (ann, bob) = (desk.account("Ann"), desk.account("Bob"));
    let first = desk.order(&ann, "stripe", "1");
    desk.clock.advance_ms(1_000);
    let second = desk.order(&ann, "epay", "2");
    desk.clock.advance_ms(1_000);
    let third = desk.order(&bob, "transfer", "3");
    desk.pay(&second, &play());
    let found = |query: &str| -> Vec<String> {
        let page = desk.get(&format!("/api/orders?{query}"));
        let rows = page["data"].as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found(""), [&*third, &*second, &*first]);
    assert_eq!(found(&format!("account={ann}")), [&*second, &*first]);
    assert_eq!(found("state=credited"), [&*second]);
    assert_eq!(found("provider=transfer"), [&*third]);
    let trade = desk.shown(&second)["payment_reference"].as_str().unwrap().to_owned();
    let session = desk.shown(&first)["provider_reference"].as_str().unwrap().to_owned();
    assert_eq!(found(&format!("reference={trade}")), [&*second]);
    assert_eq!(found(&format!("reference={session}")), [&*first]);
    assert_eq!(found(&format!("reference={first}")), [&*first]);
    assert_eq!(found("since=2026-11-22T08:00:01Z&until=2026-11-22T08:00:02Z"), [&*second]);
    let page = desk.get("/api/orders?limit=2");
    assert_eq!(found(&format!("limit=2&cursor={}", page["next_cursor"].as_str().unwrap())), [&*first]);
    // By who paid, as the provider names them.
    assert_eq!(found("payer=payer@example.com"), [""; 0]);
    desk.pay(&first, &play());
    assert_eq!(found("payer=payer@example.com"), [&*first]);
}

fn c5_so_many_orders_of_an_account_wait_at_once(backend: Backend) {
    let desk = Desk::open_with(backend, vec![("payments.open_orders_max", "2".to_owned())]);
    let (ann, bob) = (desk.account("Ann"), desk.account("Bob"));
    let made = desk.post("/api/keys", json!({"account": ann, "name": "k"})).ok();
    let shown =
        || desk.ask(&Ask::get("/v1/key").bearer(made["key"].as_str().unwrap())).ok()["open_orders"].clone();
    let (first, second) = (desk.order(&ann, "stripe", "1"), desk.order(&ann, "epay", "1"));
    assert_eq!(shown(), json!({"value": 2, "used": 2, "origin": "operator"}));
    let refused = || {
        let body = json!({"account": ann, "provider": "stripe", "amount": "1"});
        let reply = desk.post("/api/orders", body);
        (reply.head.status, reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(refused(), (429, "too_many_open_orders".to_owned()));
    // Another account has its own; one that is paid or cancelled waits no more.
    desk.order(&bob, "stripe", "1");
    desk.pay(&first, &play());
    desk.order(&ann, "alipay", "1");
    assert_eq!(refused().0, 429);
    desk.post(&format!("/api/orders/{second}/cancel"), json!({})).ok();
    assert_eq!(shown()["used"], 1);
    desk.order(&ann, "wechat", "1");
}
