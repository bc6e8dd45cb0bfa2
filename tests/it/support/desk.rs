//! A gateway on a real socket beside simulated payment providers, on either store, with a clock that the test moves.
//!
//! When the test is over the books are verified, and what the accounts have is what their orders say.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ledger::{Book, Command, CreditSource, LotId, LotKind, Nano, Reference, Timestamp};
use serde_json::{Value, json};
use tallygate::clock::{Clock, ManualClock};
use tallygate::demo::payments::{Contract, Payments, Play, Sent};
use tallygate::id::AccountId;
use tallygate::secret::Secret;

use super::app::NOW_MS;
use super::backend::Backend;
use super::http::{Ask, Connection};
use super::port::Port;
use super::station::Station;

pub const STRIPE_KEY: &str = "sk_test_of-the-tests";
pub const WEBHOOK_SECRET: &str = "whsec_of-the-tests-0123456789";
const EPAY_KEY: &str = "epay-key-of-the-tests";

pub struct Desk {
    station: Station,
    pub providers: Payments,
}

pub fn contract(address: SocketAddr) -> Contract {
    Contract {
        stripe_key: Secret::new(STRIPE_KEY),
        stripe_webhook_secret: Secret::new(WEBHOOK_SECRET),
        stripe_webhook: Some(format!("http://{address}/callbacks/stripe")),
        epay_merchant: "1001".into(),
        epay_key: Secret::new(EPAY_KEY),
        ..Contract::of_secret(&Secret::new("of the tests"))
    }
}

impl Desk {
    pub fn open(backend: Backend) -> Self {
        Self::open_with(backend, Vec::new())
    }

    /// With settings beside, or instead of, the usual ones.
    pub fn open_with(backend: Backend, extra: Vec<(&'static str, String)>) -> Self {
        let port = Port::reserve();
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let (shared, contract): (Arc<dyn Clock>, _) = (clock.clone(), contract(port.address));
        let mut settings = vec![
            ("ledger.display_rate", "EUR=0.9".to_owned()),
            ("payments.rates", "USD=1, CNY=7.25".to_owned()),
            ("payments.transfer", "true".to_owned()),
        ];
        let providers = Payments::start("127.0.0.1:0".parse().unwrap(), contract.clone(), shared).unwrap();
        settings.extend(contract.settings(&providers.url()));
        settings.extend(extra);
        Desk { station: Station::start(backend, clock, port, settings), providers }
    }

    /// A credit that the ledger has under a name of the program's own, as a crash leaves it. Its lot is named by its
    /// amount.
    pub fn credit_as(
        &self,
        account: &str,
        reference: &str,
        units: i64,
        (kind, expires_at): (LotKind, Option<Timestamp>),
    ) {
        let command = Command::Credit {
            account: account.parse::<AccountId>().unwrap().in_book(Book::Live),
            lot: LotId(units.unsigned_abs()),
            kind,
            priority: 100,
            expires_at,
            amount: Nano(units * 1_000_000_000),
            source: if kind == LotKind::Granted { CreditSource::Promotion } else { CreditSource::Payment },
            reference: Reference::new(reference),
        };
        self.app().books.execute_blocking(&command).unwrap();
    }

    #[track_caller]
    pub fn account(&self, name: &str) -> String {
        self.post("/api/accounts", json!({"name": name})).ok()["id"].as_str().unwrap().to_owned()
    }

    /// A new order of the account; its id. A payer of epay or Alipay has been at its page.
    #[track_caller]
    pub fn order(&self, account: &str, provider: &str, amount: &str) -> String {
        let body = json!({"account": account, "provider": provider, "amount": amount});
        let made = self.post("/api/orders", body).ok();
        if matches!(provider, "epay" | "alipay") {
            let url = made["pay_url"].as_str().unwrap();
            let path = url.strip_prefix(&self.providers.url()).unwrap();
            Connection::open(self.providers.address).unwrap().ask(&Ask::get(path)).unwrap().ok();
        }
        made["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn pay(&self, order: &str, play: &Play) -> Vec<Sent> {
        self.providers.pay(order, play).expect("the provider knows the order")
    }

    /// The statuses that a payment's callbacks were answered with.
    #[track_caller]
    pub fn paid(&self, order: &str, play: &Play) -> Vec<u16> {
        self.pay(order, play).iter().map(|sent| sent.status).collect()
    }

    #[track_caller]
    pub fn shown(&self, order: &str) -> Value {
        self.get(&format!("/api/orders/{order}"))
    }

    #[track_caller]
    pub fn state(&self, order: &str) -> String {
        self.shown(order)["state"].as_str().unwrap().to_owned()
    }

    /// Kind, verdict and effect of each line of the timeline.
    pub fn timeline(&self, order: &str) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let lines = self.shown(order)["timeline"].as_array().unwrap().clone();
        lines
            .iter()
            .map(|line| (text(&line["kind"]), text(&line["verdict"]), text(&line["effect"])))
            .collect()
    }

    /// How many lines have this effect.
    pub fn count(&self, order: &str, effect: &str) -> usize {
        self.timeline(order).iter().filter(|(_, _, told)| told == effect).count()
    }

    pub fn balance(&self, account: &str) -> Value {
        self.get(&format!("/api/accounts/{account}/balance"))
    }

    #[track_caller]
    pub fn available(&self, account: &str) -> String {
        self.balance(account)["available"].as_str().unwrap().to_owned()
    }

    pub fn poll(&self) -> usize {
        self.app().funding.poll_due().unwrap()
    }
}

impl Deref for Desk {
    type Target = Station;

    fn deref(&self) -> &Station {
        &self.station
    }
}

impl DerefMut for Desk {
    fn deref_mut(&mut self) -> &mut Station {
        &mut self.station
    }
}
