//! Simulated payment providers: Stripe's and epay's protocols over the loopback, for tests and the demo.
//!
//! A payer pays by `GET /pay/<order>`, at either provider. The provider then calls back, and misbehaves as the query
//! says: `lost=1` (no callback), `copies=5` (so many at once), `forged=1` (signed with another secret), `amount=1.00`
//! (another amount, rightly signed), `late_ms=…`, `post=1` (epay by POST), `fails=1` (the payment fails). The answer
//! is the list of statuses that the callbacks were answered with.
//!
//! It knows nothing of the gateway but what the gateway sends, and the address of its webhook endpoint.

mod epay;
mod send;
mod stripe;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use ring::hmac;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::clock::Clock;
use crate::config::EpaySignature;
use crate::secret::Secret;

pub use send::Sent;

/// What the providers and their merchant have agreed on.
#[derive(Clone)]
pub struct Contract {
    pub stripe_key: Secret,
    pub stripe_webhook_secret: Secret,
    /// Where Stripe sends its events; `None`: to the site that a payer comes back to.
    pub stripe_webhook: Option<String>,
    pub epay_merchant: String,
    pub epay_key: Secret,
    pub epay_signature: EpaySignature,
}

impl Contract {
    /// The demo's, from a secret that both sides have.
    pub fn of_secret(secret: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let derived = |what: &str| crate::hex::encode(hmac::sign(&key, what.as_bytes()).as_ref());
        Contract {
            stripe_key: Secret::new(format!("sk_test_{}", derived("stripe key"))),
            stripe_webhook_secret: Secret::new(format!("whsec_{}", derived("stripe webhook"))),
            stripe_webhook: None,
            epay_merchant: "1001".into(),
            epay_key: Secret::new(derived("epay key")),
            epay_signature: EpaySignature::Appended,
        }
    }
}

/// How a payment goes.
#[derive(Clone, Debug, Default)]
pub struct Play {
    /// No callback is sent.
    pub lost: bool,
    /// Callbacks at once; 0 is one.
    pub copies: u32,
    /// Signed with another secret.
    pub forged: bool,
    /// Another amount, a decimal.
    pub amount: Option<String>,
    pub late_ms: u64,
    /// Epay calls back by POST.
    pub post: bool,
    /// The payment fails.
    pub fails: bool,
}

impl Play {
    fn read(query: &str) -> Self {
        let params: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let is = |name: &str| params.get(name).is_some_and(|value| value == "1");
        let number = |name: &str| params.get(name).and_then(|value| value.parse().ok());
        Play {
            lost: is("lost"),
            copies: number("copies").and_then(|copies: u64| copies.try_into().ok()).unwrap_or(1),
            forged: is("forged"),
            amount: params.get("amount").cloned(),
            late_ms: number("late_ms").unwrap_or(0),
            post: is("post"),
            fails: is("fails"),
        }
    }
}

/// The providers' books.
#[derive(Default)]
struct World {
    sessions: BTreeMap<String, stripe::Session>,
    /// Answers of questions that were asked under a name before.
    answered: BTreeMap<String, Value>,
    trades: BTreeMap<String, epay::Trade>,
    /// Numbers given out.
    numbers: u64,
    /// Questions that are answered with a failure before anything is done.
    failures: u32,
    /// Questions that are answered with a failure after everything is done.
    losses: u32,
    /// Stripe's refunds, and whether new ones take their time.
    refunds: Vec<stripe::Refund>,
    slow_refunds: bool,
}

impl World {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

struct Shared {
    /// Where the providers are reached.
    url: String,
    contract: Contract,
    clock: Arc<dyn Clock>,
    world: Mutex<World>,
}

type Site = Arc<Shared>;

/// Both providers at one address, until it is dropped.
pub struct Payments {
    pub address: SocketAddr,
    shared: Site,
    stop: Option<oneshot::Sender<()>>,
}

impl Payments {
    /// Serves on a thread of its own.
    pub fn start(listen: SocketAddr, contract: Contract, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { url: format!("http://{address}"), contract, clock, world: Mutex::default() });
        let router = router(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name("payment-providers".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = serve(listener, router) => {}
                }
            });
        })?;
        Ok(Payments { address, shared, stop: Some(stop) })
    }

    pub fn url(&self) -> String {
        self.shared.url.clone()
    }

    /// Pays an order; what its callbacks were answered with.
    pub fn pay(&self, order: &str, play: &Play) -> Option<Vec<Sent>> {
        self.shared.pay(order, play)
    }

    /// Sends an event of Stripe, whatever it says.
    pub fn stripe_event(&self, kind: &str, object: &Value) -> Sent {
        self.shared.send_event(kind, object)
    }

    /// The charge of a paid order, as Stripe's events show it.
    pub fn charge(&self, order: &str) -> Option<Value> {
        let world = self.shared.world.lock();
        world.sessions.values().find(|session| session.order == order).map(stripe::Session::charge)
    }

    /// What went back of an order, in the provider's smallest units.
    pub fn refunded(&self, order: &str) -> Option<i64> {
        let world = self.shared.world.lock();
        let session = world.sessions.values().find(|session| session.order == order);
        let trade = world.trades.get(order).map(|trade| trade.refunded);
        session.map(|session| session.refunded).or(trade)
    }

    /// The next questions are answered with a failure, and nothing is done.
    pub fn fail_next(&self, questions: u32) {
        self.shared.world.lock().failures = questions;
    }

    /// What the next questions ask for is done, and their answers are lost.
    pub fn lose_next(&self, questions: u32) {
        self.shared.world.lock().losses = questions;
    }

    /// Whether new refunds are on their way until they are ended.
    pub fn slow_refunds(&self, slow: bool) {
        self.shared.world.lock().slow_refunds = slow;
    }

    /// Ends the refunds of an order at Stripe: sent, or failed. Answers them as Stripe's events show them.
    pub fn end_refunds(&self, order: &str, sent: bool) -> Vec<Value> {
        self.shared.end_refunds(order, sent)
    }
}

impl Drop for Payments {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ended = stop.send(());
        }
    }
}

impl Shared {
    fn pay(&self, order: &str, play: &Play) -> Option<Vec<Sent>> {
        if play.late_ms > 0 {
            std::thread::sleep(std::time::Duration::from_millis(play.late_ms));
        }
        self.pay_session(order, play).or_else(|| self.pay_trade(order, play))
    }

    fn fails(&self) -> bool {
        let mut world = self.world.lock();
        let fails = world.failures > 0;
        world.failures = world.failures.saturating_sub(1);
        fails
    }

    fn loses(&self) -> bool {
        let mut world = self.world.lock();
        let loses = world.losses > 0;
        world.losses = world.losses.saturating_sub(1);
        loses
    }
}

async fn serve(listener: std::net::TcpListener, router: Router) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let router = router.clone();
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    router.clone().oneshot(request.map(axum::body::Body::new))
                });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A connection that fails is the caller's to notice.
            let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn router(site: Site) -> Router {
    Router::new()
        .route("/v1/checkout/sessions", post(create_session))
        .route("/v1/checkout/sessions/{id}", get(show_session))
        .route("/v1/refunds", post(refund_session).get(show_refunds))
        .route("/submit.php", get(submit))
        .route("/api.php", get(ask_epay).post(ask_epay))
        .route("/pay/{order}", get(pay))
        .with_state(site)
}

async fn create_session(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> Response {
    answer(site.create_session(&headers, &body))
}

async fn show_session(State(site): State<Site>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    answer(site.show_session(&headers, &id))
}

async fn refund_session(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> Response {
    answer(site.refund_session(&headers, &body))
}

async fn show_refunds(State(site): State<Site>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    answer(site.show_refunds(&headers, &query.unwrap_or_default()))
}

async fn submit(State(site): State<Site>, RawQuery(query): RawQuery) -> Response {
    answer(site.submit(query.unwrap_or_default().as_bytes()))
}

async fn ask_epay(State(site): State<Site>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    answer(site.ask_epay(&query.unwrap_or_default(), &body))
}

async fn pay(State(site): State<Site>, Path(order): Path<String>, RawQuery(query): RawQuery) -> Response {
    let play = Play::read(&query.unwrap_or_default());
    let paid = tokio::task::spawn_blocking(move || site.pay(&order, &play)).await.ok().flatten();
    match paid {
        Some(sent) => {
            let statuses: Vec<_> = sent.iter().map(|sent| sent.status).collect();
            answer((200, json!({"callbacks": statuses})))
        }
        None => answer((404, json!({"error": "nobody knows this order"}))),
    }
}

fn answer((status, body): (u16, Value)) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(body)).into_response()
}
