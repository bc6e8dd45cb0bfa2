//! A gateway on a real socket beside simulated payment providers, on either store, with a clock that the test moves.
//!
//! When the test is over the books are verified, and what the accounts have is what their orders say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallygate::api;
use tallygate::app::App;
use tallygate::books::verify::verify;
use tallygate::clock::{Clock, ManualClock, SystemEntropy};
use tallygate::config::{Config, Sources};
use tallygate::demo::payments::{Contract, Payments, Play, Sent};
use tallygate::gateway::Gateway;
use tallygate::gateway::server::{self, Server};
use tallygate::secret::Secret;

use super::app::{ADMIN_TOKEN, NOW_MS};
use super::backend::Backend;
use super::http::{Ask, Connection, Reply};

pub const STRIPE_KEY: &str = "sk_test_of-the-tests";
pub const WEBHOOK_SECRET: &str = "whsec_of-the-tests-0123456789";
const EPAY_KEY: &str = "epay-key-of-the-tests";

pub struct Desk {
    backend: Backend,
    pub clock: Arc<ManualClock>,
    pub providers: Payments,
    address: SocketAddr,
    /// Settings beside the usual ones.
    extra: Vec<(&'static str, String)>,
    running: Option<(Arc<App>, Server)>,
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
        let bound = server::bind("127.0.0.1:0").unwrap();
        let address = bound.address;
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let shared: Arc<dyn Clock> = clock.clone();
        let providers = Payments::start("127.0.0.1:0".parse().unwrap(), contract(address), shared).unwrap();
        let mut desk = Desk { backend, clock, providers, address, extra, running: None };
        desk.start(bound);
        desk
    }

    fn start(&mut self, bound: server::Bound) {
        let public_url = format!("http://{}", self.address);
        let mut flags = vec![
            ("store.data_dir", self.backend.folder().display().to_string()),
            ("admin.token", ADMIN_TOKEN.to_owned()),
            ("server.public_url", public_url.clone()),
            ("secrets.master_key", "07".repeat(32)),
            ("ledger.display_rate", "EUR=0.9".to_owned()),
            ("payments.rates", "USD=1, CNY=7.25".to_owned()),
            ("payments.transfer", "true".to_owned()),
        ];
        flags.extend(contract(self.address).settings(&self.providers.url()));
        if let Some(url) = self.backend.url() {
            flags.push(("store.database_url", url.expose().to_owned()));
        }
        flags.extend(self.extra.iter().cloned());
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let on_fatal = Box::new(|error: &tallygate::store::AppendError| panic!("{error}"));
        let app = Arc::new(App::open(config, clock, Arc::new(SystemEntropy::new()), 1, on_fatal).unwrap());
        let router = api::router(Arc::clone(&app), &public_url);
        let gateway = Gateway::new(Arc::clone(&app), router, public_url);
        let server = Server::start(Arc::new(gateway), bound, 1).unwrap();
        self.running = Some((app, server));
    }

    pub fn app(&self) -> &Arc<App> {
        &self.running.as_ref().unwrap().0
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    fn stop(&mut self) {
        let (app, server) = self.running.take().unwrap();
        server.stop_blocking(Duration::from_secs(10));
        app.books.close_blocking();
    }

    /// Stops the gateway for good; nobody verifies what a test did to its books.
    pub fn abandon(mut self) {
        self.stop();
    }

    /// The folder that the data is in.
    pub fn folder(&self) -> &std::path::Path {
        self.backend.folder()
    }

    /// Stops the gateway and starts it on what is on disk.
    pub fn restart(&mut self) {
        self.stop();
        let bound = server::bind(&self.address.to_string()).unwrap();
        self.start(bound);
    }

    pub fn ask(&self, ask: &Ask) -> Reply {
        Connection::open(self.address).unwrap().ask(ask).unwrap()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask(&Ask::get(path).bearer(ADMIN_TOKEN)).ok();
        let bare = path.split('?').next().unwrap();
        api::check_answer("GET", bare, &answer).unwrap_or_else(|why| panic!("GET {path}: {why}"));
        answer
    }

    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.ask(&Ask::post(path, &body).bearer(ADMIN_TOKEN))
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

impl Drop for Desk {
    fn drop(&mut self) {
        if std::thread::panicking() || self.running.is_none() {
            return;
        }
        let (journal, projections) = (self.app().journal.clone(), self.app().projections.clone());
        self.stop();
        let report = verify(&journal, &projections, 0, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "the books are wrong: {:#?}", report.findings);
    }
}
