//! Crashes while money of orders moves: what they leave is put right, each order credits once, and a refund goes back once
//! and is never lost.

use ledger::LotKind;
use serde_json::{Value, json};
use tallygate::demo::payments::{Mute, Play};

use crate::on_both_backends;
use crate::support::app::ADMIN_TOKEN;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::desk::Desk;
use crate::support::house::{House, ask_at};
use crate::support::http::{Ask, Connection};

on_both_backends!(what_a_crash_left_between_order_and_ledger_is_put_right);

const PROVIDERS: [&str; 4] = ["stripe", "epay", "alipay", "wechat"];

/// The provider and its smallest units of a fifth of 20 US dollars.
const REFUNDING: [(&str, i64); 4] = [("stripe", 400), ("epay", 2_900), ("alipay", 2_900), ("wechat", 2_900)];

struct Case {
    house: House,
    account: String,
}

impl Case {
    /// A paid order, in the middle of whose refund the gateway is killed and started again.
    fn killed_in_a_refund(&mut self, provider: &str, part: &str, mute: Mute) -> String {
        let order = self.house.order(&self.account, provider, "20");
        self.house.providers.pay(&order, &Play::default()).unwrap();
        assert_eq!(self.house.state(&order), "credited");
        let body = json!({"pay_amount": part, "reason": "half of it failed"});
        let ask = Ask::post(format!("/api/orders/{order}/refund"), &body).bearer(ADMIN_TOKEN);
        let told = self.house.providers.mute_next(&order, mute);
        let answered = self.house.crash_when(&told, |_, address| ask_at(address, &ask).is_ok());
        assert!(!answered, "the gateway was to be killed before it could answer");
        order
    }

    fn has_line(&self, order: &str, effect: &str) -> bool {
        let timeline = self.house.get(&format!("/api/orders/{order}"))["timeline"].clone();
        timeline.as_array().unwrap().iter().any(|line| line["effect"] == effect)
    }

    fn refunds(&self, order: &str) -> Vec<Value> {
        self.house.get(&format!("/api/orders/{order}"))["refunds"].as_array().unwrap().clone()
    }
}

/// SIGKILL between the ledger's entry and the provider's answer, at each provider that refunds, whether it did what it was
/// asked for or never heard it.
#[test]
fn b1_a_refund_that_sigkill_cuts_is_sent_once_and_never_lost() {
    let house = House::open(&[]);
    let account = house.made("/api/accounts", &json!({"name": "Ann"}));
    let mut case = Case { house, account };
    let mut left = 0;
    for mute in [Mute::Unheard, Mute::Done] {
        for (provider, units) in REFUNDING {
            let part = if provider == "stripe" { "4.00" } else { "29.00" };
            let order = case.killed_in_a_refund(provider, part, mute);
            if provider == "epay" {
                // Nobody can ask it; who looks there tells what became of it.
                wait_until("it is told that nobody knows", || case.has_line(&order, "refund_unclear"));
                assert_eq!(case.house.state(&order), "refund_pending");
                let body = json!({"sent": mute == Mute::Done, "reason": "looked there"});
                case.house.post(&format!("/api/orders/{order}/refund/resolve"), &body).ok();
            }
            let sent = provider != "epay" || mute == Mute::Done;
            let ended = if sent { "partially_refunded" } else { "credited" };
            wait_until("the refund has ended", || case.house.state(&order) == ended);
            left += if sent { 16 } else { 20 };
            assert_eq!(
                case.house.providers.refunded(&order),
                Some(if sent { units } else { 0 }),
                "{provider} {mute:?}"
            );
            assert_eq!(case.refunds(&order).len(), 1);
            assert_eq!(case.house.available(&case.account), left.to_string(), "{provider} {mute:?}");
            // Once more: nothing is under way that another start would send.
            case.house.crash();
            assert_eq!(case.house.providers.refunded(&order), Some(if sent { units } else { 0 }));
            assert_eq!(case.house.available(&case.account), left.to_string());
        }
    }
}

fn what_a_crash_left_between_order_and_ledger_is_put_right(backend: Backend) {
    let mut desk = Desk::open(backend);
    let account = desk.account("Ann");
    // Paid on the order, not in the ledger.
    let paid = desk.order(&account, "stripe", "100");
    let now_ms = tallygate::clock::Clock::now_ms(&*desk.clock);
    desk.clock.jump_to_ms(now_ms + 3_600_000);
    assert_eq!(desk.paid(&paid, &Play::default()), [503]);
    desk.clock.jump_to_ms(now_ms);
    // In the ledger, and the order knows nothing of it.
    let posted = desk.order(&account, "epay", "20");
    desk.credit_as(&account, &format!("order:{posted}"), 20, (LotKind::Purchased, None));
    // In the ledger with something else: somebody has to look.
    let other = desk.order(&account, "epay", "30");
    desk.credit_as(&account, &format!("order:{other}"), 3, (LotKind::Purchased, None));
    let untouched = desk.order(&account, "epay", "40");
    let states = |desk: &Desk| [&paid, &posted, &other, &untouched].map(|order| desk.state(order));
    assert_eq!(states(&desk), ["paid", "pending", "pending", "pending"]);
    desk.restart();
    assert_eq!(states(&desk), ["credited", "credited", "manual_review", "pending"]);
    assert_eq!(desk.available(&account), "123");
    assert_eq!([desk.paid(&paid, &Play::default()), desk.paid(&posted, &Play::default())], [[200], [200]]);
    desk.restart();
    assert_eq!(states(&desk), ["credited", "credited", "manual_review", "pending"]);
    assert_eq!(desk.available(&account), "123");
}

/// The built program, killed again and again while callbacks come: each order credits once.
#[test]
fn a_gateway_that_is_killed_among_callbacks_credits_each_order_once() {
    const ROUNDS: usize = 6;
    let mut demo = Demo::start();
    let account =
        demo.admin_post("/api/accounts", &json!({"name": "Ann"}))["id"].as_str().unwrap().to_owned();
    let providers = demo.ready()["upstream"]["payments_url"].as_str().unwrap();
    let providers: std::net::SocketAddr = providers.strip_prefix("http://").unwrap().parse().unwrap();
    let provider = move |path: &str| Connection::open(providers).unwrap().ask(&Ask::get(path)).unwrap();
    let mut orders = Vec::new();
    for round in 0..ROUNDS {
        let fresh: Vec<_> = (0..4)
            .map(|n| {
                let body = json!({"account": account, "amount": "10", "provider": PROVIDERS[n]});
                let order = demo.admin_post("/api/orders", &body);
                if let Some(url) = order["pay_url"].as_str().filter(|_| PROVIDERS[n] != "stripe") {
                    // The payer's browser has been there.
                    provider(&url[url.find("/submit.php").or(url.find("/gateway.do")).unwrap()..]).ok();
                }
                order["id"].as_str().unwrap().to_owned()
            })
            .collect();
        let payers: Vec<_> = fresh
            .iter()
            .map(|order| {
                let path = format!("/pay/{order}?copies=3");
                std::thread::spawn(move || provider(&path).ok())
            })
            .collect();
        std::thread::park_timeout(std::time::Duration::from_millis(3 * round as u64));
        demo.kill();
        payers.into_iter().for_each(|payer| drop(payer.join().unwrap()));
        demo.restart();
        orders.extend(fresh);
    }
    wait_until("every order is credited", || {
        let page = demo.admin(&format!("/api/orders?account={account}&state=credited&limit=1000"));
        page["data"].as_array().unwrap().len() == orders.len()
    });
    for order in &orders {
        let timeline = demo.admin(&format!("/api/orders/{order}"))["timeline"].as_array().unwrap().clone();
        assert_eq!(timeline.iter().filter(|line| line["effect"] == "credited").count(), 1, "{timeline:#?}");
    }
    assert_eq!(demo.balance(&account)["available"], (10 * orders.len()).to_string());
}
