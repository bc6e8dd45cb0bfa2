//! Simulated payment providers: Stripe's, epay's, Alipay's and WeChat Pay's protocols over the loopback, for tests and the
//! demo.
//!
//! A payer pays by `GET /pay/<order>`, at whichever provider knows the order. The provider then calls back, and misbehaves as the query
//! says: `lost=1` (no callback), `copies=5` (so many at once), `forged=1` (signed with another secret), `amount=1.00`
//! (another amount, rightly signed), `late_ms=…`, `post=1` (epay by POST), `fails=1` (the payment fails). The answer
//! is the list of statuses that the callbacks were answered with. `GET /refunded/<order>` says what went back.
//!
//! It knows nothing of the gateway but what the gateway sends, and the address of its webhook endpoint.

mod alipay;
mod bill;
mod dispute;
mod epay;
mod mute;
mod send;
mod statement;
mod stripe;
mod wechat;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use ring::hmac;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::config::EpaySignature;
use crate::funding::provider::rsa::{SigningKey, VerifyingKey};
use crate::secret::Secret;

pub use mute::Mute;
pub use send::Sent;

/// The private key of the simulated merchant. Known to everybody, as is [`provider_key`]: they are for a demo, where
/// neither signs for money.
pub fn merchant_key() -> Secret {
    Secret::new(include_str!("keys/merchant.pem"))
}

/// The private key of the simulated providers.
pub fn provider_key() -> Secret {
    Secret::new(include_str!("keys/provider.pem"))
}

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
    pub alipay_app_id: String,
    pub alipay_seller: String,
    pub wechat_app_id: String,
    pub wechat_merchant: String,
    /// Number of the merchant's certificate.
    pub wechat_serial: String,
    /// Of 32 bytes.
    pub wechat_v3_key: Secret,
    /// Number of WeChat Pay's public key.
    pub wechat_platform_id: String,
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
            alipay_app_id: "2021000000000001".into(),
            alipay_seller: "2088000000000001".into(),
            wechat_app_id: "wx0000000000000001".into(),
            wechat_merchant: "1900000001".into(),
            wechat_serial: "5157F09EFDC096DE15EBE81A47057A7200000000".into(),
            wechat_v3_key: Secret::new(derived("wechat v3 key").split_at(32).0),
            wechat_platform_id: "PUB_KEY_ID_0119000000012026112200000000000001".into(),
        }
    }

    /// The settings of a gateway that is the merchant, with the providers at an address.
    pub fn settings(&self, url: &str) -> Vec<(&'static str, String)> {
        let exposed = |secret: &Secret| secret.expose().to_owned();
        let provider = SigningKey::parse(&provider_key()).map(|key| key.verifying().to_pem());
        let provider = provider.unwrap_or_default();
        vec![
            ("payments.stripe_key", exposed(&self.stripe_key)),
            ("payments.stripe_webhook_secret", exposed(&self.stripe_webhook_secret)),
            ("payments.stripe_url", url.to_owned()),
            ("payments.epay_url", url.to_owned()),
            ("payments.epay_merchant", self.epay_merchant.clone()),
            ("payments.epay_key", exposed(&self.epay_key)),
            ("payments.epay_signature", self.epay_signature.as_str().to_owned()),
            ("payments.alipay_url", url.to_owned()),
            ("payments.alipay_app_id", self.alipay_app_id.clone()),
            ("payments.alipay_seller", self.alipay_seller.clone()),
            ("payments.alipay_private_key", exposed(&merchant_key())),
            ("payments.alipay_public_key", provider.clone()),
            ("payments.wechat_url", url.to_owned()),
            ("payments.wechat_app_id", self.wechat_app_id.clone()),
            ("payments.wechat_merchant", self.wechat_merchant.clone()),
            ("payments.wechat_serial", self.wechat_serial.clone()),
            ("payments.wechat_private_key", exposed(&merchant_key())),
            ("payments.wechat_v3_key", exposed(&self.wechat_v3_key)),
            ("payments.wechat_platform_key", provider),
            ("payments.wechat_platform_id", self.wechat_platform_id.clone()),
        ]
    }
}

/// The merchant's public key, and the providers' private one.
struct Keys {
    merchant: VerifyingKey,
    provider: SigningKey,
}

impl Keys {
    fn parse() -> Option<Self> {
        let merchant = SigningKey::parse(&merchant_key())?.verifying();
        Some(Keys { merchant, provider: SigningKey::parse(&provider_key())? })
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
    alipay: BTreeMap<String, bill::Bill>,
    wechat: BTreeMap<String, bill::Bill>,
    /// Numbers given out.
    numbers: u64,
    /// Questions that are answered with a failure before anything is done.
    failures: u32,
    /// Questions that are answered with a failure after everything is done.
    losses: u32,
    /// Connections that are closed before anything is read.
    hang_ups: u32,
    /// Stripe's refunds, and whether new ones take their time.
    refunds: Vec<stripe::Refund>,
    slow_refunds: bool,
    disputes: Vec<dispute::Dispute>,
    /// What is next not answered at all.
    mute: Option<mute::Waiting>,
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
    keys: Keys,
    clock: Arc<dyn Clock>,
    world: Mutex<World>,
}

type Site = Arc<Shared>;

/// All providers at one address, until it is dropped.
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
        let keys = Keys::parse().ok_or_else(|| io::Error::other("the keys of the demo are none"))?;
        let url = format!("http://{address}");
        let shared = Arc::new(Shared { url, contract, keys, clock, world: Mutex::default() });
        let site = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name("payment-providers".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = serve(listener, site) => {}
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
        self.shared.refunded(order)
    }

    /// Sends money of an order back that nobody has asked for – not at epay, which tells of none – and tells of it.
    /// `units` are the provider's smallest.
    pub fn refund_by_hand(&self, order: &str, name: &str, units: i64) -> Option<Sent> {
        {
            let mut world = self.shared.world.lock();
            let number = format!("by-hand-{}", world.number());
            let world = &mut *world;
            if let Some(session) = world.sessions.values_mut().find(|session| session.order == order) {
                world.refunds.push(session.refund(number, units, None, "succeeded")?);
            } else {
                let (fen, notify_url) = (units, String::new());
                let refund =
                    bill::BillRefund { name: name.into(), number, fen, notify_url, sent: Some(true) };
                let bill = world.alipay.get_mut(order).or_else(|| world.wechat.get_mut(order))?;
                bill.make_refund(refund)?;
            }
        }
        self.tell_refund(order)
    }

    /// The provider tells of refunds of an order: Stripe and Alipay of all, WeChat Pay of the last one.
    pub fn tell_refund(&self, order: &str) -> Option<Sent> {
        if let Some(charge) = self.charge(order) {
            return Some(self.stripe_event("charge.refunded", &charge));
        }
        self.shared.tell_alipay_refund(order).or_else(|| self.shared.tell_wechat_refund(order))
    }

    /// The next questions are answered with a failure, and nothing is done.
    pub fn fail_next(&self, questions: u32) {
        self.shared.world.lock().failures = questions;
    }

    /// The next connections are closed before anything is read.
    pub fn hang_up_next(&self, connections: u32) {
        self.shared.world.lock().hang_ups = connections;
    }

    /// What the next questions ask for is done, and their answers are lost.
    pub fn lose_next(&self, questions: u32) {
        self.shared.world.lock().losses = questions;
    }

    /// Whether new refunds are on their way until they are ended.
    pub fn slow_refunds(&self, slow: bool) {
        self.shared.world.lock().slow_refunds = slow;
    }

    /// Ends the refunds of an order: sent, or failed. Answers them as Stripe's events show them.
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
        self.pay_session(order, play)
            .or_else(|| self.pay_trade(order, play))
            .or_else(|| self.pay_alipay(order, play))
            .or_else(|| self.pay_wechat(order, play))
    }

    fn refunded(&self, order: &str) -> Option<i64> {
        let world = self.world.lock();
        let session = world.sessions.values().find(|session| session.order == order);
        let trade = world.trades.get(order).map(|trade| trade.refunded);
        let bill = world.alipay.get(order).or_else(|| world.wechat.get(order)).map(bill::Bill::refunded);
        session.map(|session| session.refunded).or(trade).or(bill)
    }

    fn fails(&self) -> bool {
        let mut world = self.world.lock();
        let fails = world.failures > 0;
        world.failures = world.failures.saturating_sub(1);
        fails
    }

    fn hangs_up(&self) -> bool {
        let mut world = self.world.lock();
        let hangs_up = world.hang_ups > 0;
        world.hang_ups = world.hang_ups.saturating_sub(1);
        hangs_up
    }

    fn loses(&self) -> bool {
        let mut world = self.world.lock();
        let loses = world.losses > 0;
        world.losses = world.losses.saturating_sub(1);
        loses
    }
}

async fn serve(listener: std::net::TcpListener, site: Site) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(Arc::clone(&site));
    loop {
        let (stream, _) = listener.accept().await?;
        if site.hangs_up() {
            continue;
        }
        let (site, router) = (Arc::clone(&site), router.clone());
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (site, router) = (Arc::clone(&site), router.clone());
                    async move { mute::ask(&site, router, request.map(axum::body::Body::new)).await }
                });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A connection that fails is the caller's to notice.
            let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn router(site: Site) -> Router {
    Router::new()
        .route("/v1/checkout/sessions", post(create_session).get(list_sessions))
        .route("/v1/checkout/sessions/{id}", get(show_session))
        .route("/v1/refunds", post(refund_session).get(show_refunds))
        .route("/submit.php", get(submit))
        .route("/api.php", get(ask_epay).post(ask_epay))
        .route("/gateway.do", get(ask_alipay).post(ask_alipay))
        .route("/v3/{*path}", get(ask_wechat).post(ask_wechat))
        .route("/pay/{order}", get(pay))
        .route("/refunded/{order}", get(refunded))
        .with_state(site)
}

async fn create_session(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> Response {
    answer(site.create_session(&headers, &body))
}

async fn list_sessions(State(site): State<Site>, headers: HeaderMap) -> Response {
    answer(site.list_sessions(&headers))
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

async fn ask_alipay(State(site): State<Site>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let (status, text) = site.ask_alipay(&query.unwrap_or_default(), &body);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, "text/html;charset=utf-8")], text).into_response()
}

async fn ask_wechat(
    State(site): State<Site>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (status, text, signed) = site.ask_wechat(&method, &uri, &headers, &body);
    let mut response = (
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        [(CONTENT_TYPE, "application/json; charset=utf-8")],
        text,
    )
        .into_response();
    for (name, value) in signed {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn refunded(State(site): State<Site>, Path(order): Path<String>) -> Response {
    match site.refunded(&order) {
        Some(units) => answer((200, json!({"refunded": units}))),
        None => answer((404, json!({"error": "nobody knows this order"}))),
    }
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
