//! A gateway in the test's own process and folder, with a clock that the test moves.
//!
//! Every answer of the API is held against the shape that `/openapi.json` tells, and when the test is over
//! the books are verified: a test that breaks an invariant fails, whatever it looked at.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tallygate::api::{self, Principal};
use tallygate::app::App;
use tallygate::books::Held;
use tallygate::books::verify::verify;
use tallygate::catalogue::{Code, Refusal};
use tallygate::clock::{Clock, ManualClock, SeededEntropy};
use tallygate::config::{Config, Sources};
use tallygate::gateway::facts::{
    Admitted, Attempt, CallBody, Checked, Client, Credential, Decided, Ending, Endpoint, Facts, Outcome,
    Repetition, UsageSource,
};
use tallygate::gateway::ladder::{self, Caller, Scope, Verdict};
use tallygate::id::{KeyId, RequestId};
use tower::ServiceExt;

use super::backend::Backend;
use super::secrets;

/// 2026-11-22T08:00:00Z
pub const NOW_MS: i64 = 1_795_334_400_000;
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

pub struct TestApp {
    app: Option<Arc<App>>,
    router: axum::Router,
    pub clock: Arc<ManualClock>,
    runtime: tokio::runtime::Runtime,
    backend: Backend,
}

/// An answer with its parts.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: axum::http::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The catalogue's code of a refusal.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("")
    }

    /// The field that a refusal names.
    pub fn field(&self) -> &str {
        self.body["error"]["param"].as_str().unwrap_or("")
    }

    pub fn text(&self, pointer: &str) -> &str {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no {pointer}: {:#}", self.body))
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {:#}", self.status, self.body);
        self.body
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{:#}", self.body);
    }
}

fn open(backend: &Backend, clock: &Arc<ManualClock>, seed: &[u8]) -> Arc<App> {
    let mut flags = vec![
        ("store.data_dir", backend.folder().display().to_string()),
        ("admin.token", ADMIN_TOKEN.to_owned()),
        ("server.public_url", "http://gateway.test".to_owned()),
        ("secrets.master_key", "07".repeat(32)),
    ];
    flags.extend(backend.url().map(|url| ("store.database_url", url.expose().to_owned())));
    let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
    let clock: Arc<dyn Clock> = clock.clone();
    let entropy = Arc::new(SeededEntropy::new(seed));
    Arc::new(App::open(config, clock, entropy, 1, Box::new(|error| panic!("{error}"))).unwrap())
}

impl TestApp {
    pub fn new() -> Self {
        Self::on(Backend::embedded())
    }

    pub fn on(backend: Backend) -> Self {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let app = open(&backend, &clock, b"test");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        TestApp {
            router: api::router(Arc::clone(&app), "http://gateway.test"),
            app: Some(app),
            clock,
            runtime,
            backend,
        }
    }

    pub fn app(&self) -> &Arc<App> {
        self.app.as_ref().unwrap()
    }

    /// Makes every document of the directory unreadable, beneath the program.
    pub fn damage_directory(&self) {
        let file = std::fs::read_dir(self.backend.folder()).unwrap().map(|entry| entry.unwrap().path());
        let damage = |path: std::path::PathBuf| {
            let db = rusqlite::Connection::open(path).unwrap();
            db.execute("UPDATE directory_current SET body = x'00'", []).is_ok()
        };
        assert!(
            file.filter(|path| path.extension().is_some_and(|kind| kind == "db" || kind == "sqlite"))
                .any(damage)
        );
    }

    /// Closes everything and opens it again from the disk.
    pub fn restart(&mut self) {
        self.router = axum::Router::new();
        self.app = None;
        let app = open(&self.backend, &self.clock, b"test after a restart");
        self.router = api::router(Arc::clone(&app), "http://gateway.test");
        self.app = Some(app);
    }

    /// Closes everything for good and gives the folder away; nothing is verified.
    pub fn into_folder(mut self) -> tempfile::TempDir {
        self.router = axum::Router::new();
        let app = self.app.take().unwrap();
        app.books.close_blocking();
        drop(app);
        std::mem::replace(&mut self.backend, Backend::embedded()).into_folder()
    }

    pub fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().as_str().to_owned(), request.uri().path().to_owned());
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            if (200..300).contains(&status) {
                api::check_answer(&method, &path, &body)
                    .unwrap_or_else(|why| panic!("{method} {path}: {why}"));
            }
            Answer { status, headers, body }
        })
    }

    /// Shows every piece of an answer as it comes.
    pub fn each_piece(&self, path: &str, mut each: impl FnMut(&[u8])) {
        let request =
            Request::builder().uri(path).header(header::AUTHORIZATION, format!("Bearer {ADMIN_TOKEN}"));
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                each(&frame.unwrap().into_data().unwrap());
            }
        });
    }

    /// Sizes of the pieces of an answer, and all of it.
    pub fn pieces(&self, path: &str) -> (Vec<usize>, Vec<u8>) {
        let (mut sizes, mut whole) = (Vec::new(), Vec::new());
        self.each_piece(path, |piece| {
            sizes.push(piece.len());
            whole.extend_from_slice(piece);
        });
        (sizes, whole)
    }

    fn request(&self, method: &str, path: &str, bearer: Option<&str>, body: Option<&Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, Some(ADMIN_TOKEN), None)
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.request("POST", path, Some(ADMIN_TOKEN), Some(&body))
    }

    pub fn patch(&self, path: &str, body: Value) -> Answer {
        self.request("PATCH", path, Some(ADMIN_TOKEN), Some(&body))
    }

    /// As a caller with this key.
    pub fn get_as(&self, key: &str, path: &str) -> Answer {
        self.request("GET", path, Some(key), None)
    }

    pub fn post_as(&self, key: &str, path: &str, body: Value) -> Answer {
        self.request("POST", path, Some(key), Some(&body))
    }

    /// Without any credential.
    pub fn get_bare(&self, path: &str) -> Answer {
        self.request("GET", path, None, None)
    }

    /// As somebody on the admin socket.
    pub fn get_on_socket(&self, path: &str) -> Answer {
        let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Principal::machine("admin socket"));
        self.send(request)
    }

    pub fn account(&self, name: &str) -> String {
        self.post("/api/accounts", json!({"name": name})).text("/id").to_owned()
    }

    pub fn credit(&self, account: &str, amount: &str) -> Value {
        let reference = format!("test:{amount}:{account}");
        let body = json!({"amount": amount, "kind": "purchased", "reference": reference, "reason": "test"});
        self.post(&format!("/api/accounts/{account}/credits"), body).ok()
    }

    /// A model at 1.00 per million tokens in and 2.00 out, served by a channel.
    pub fn model(&self, name: &str) -> String {
        let model = self.post("/api/models", json!({"name": name})).text("/id").to_owned();
        let per_million = json!({"input": "1.00", "output": "2.00"});
        self.post("/api/prices", json!({"model": name, "per_million": per_million})).ok();
        let channel = json!({
            "name": format!("channel of {name}"),
            "base_url": "http://127.0.0.1:9/v1",
            "credential": "sk-upstream-credential",
            "models": {name: name},
            "environments": ["live", "test"],
        });
        self.post("/api/channels", channel).ok();
        model
    }

    /// A live key of the account: its id and its text.
    pub fn key(&self, account: &str, more: Value) -> (String, String) {
        let mut body = json!({"account": account, "name": "key"});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let created = self.post("/api/keys", body);
        (created.text("/id").to_owned(), created.text("/key").to_owned())
    }

    /// Records a call whose key nobody knows, as the gateway would. Answers the request's id.
    pub fn refused_before_the_key(&self) -> String {
        let app = self.app();
        let refusal = || Box::new(Refusal::new(Code::UnknownKey));
        let facts = Facts {
            request: RequestId::new(&*app.clock, &*app.entropy),
            at_ms: app.books.now().0,
            config_version: app.directory.snapshot().version(),
            address: Checked::Passed(Endpoint::ChatCompletions),
            credential: Checked::Refused(refusal()),
            body: Checked::NotReached,
            client: Client::default(),
            repetition: Repetition::default(),
        };
        let request = facts.request;
        let decided = Decided { refusal: Some(refusal()), ..Decided::new(facts) };
        app.books.record_refusal(decided).unwrap();
        request.to_string()
    }

    /// Plays a call through the ladder and the books, as the gateway would, with this many tokens in and out.
    /// Answers the request's id.
    pub fn call(&self, key: &str, model: &str, tokens: (u64, u64)) -> String {
        self.call_ending(key, model, tokens, Ending::Complete)
    }

    pub fn call_ending(&self, key: &str, model: &str, tokens: (u64, u64), ending: Ending) -> String {
        play(self.app(), key, model, tokens, ending)
    }
}

/// Plays a call through the ladder and the books; answers the request's id.
pub fn play(app: &Arc<App>, key: &str, model: &str, (input, output): (u64, u64), ending: Ending) -> String {
    let (request, begun) = begin(app, key, model);
    let Some((held, (rates, multiplier_ppm))) = begun else { return request };
    let mut usage = ledger::Usage::default();
    usage.set(ledger::TokenClass::Input, input);
    usage.set(ledger::TokenClass::Output, output);
    let delivered = !matches!(ending, Ending::UpstreamFailed);
    let outcome = Outcome {
        status: if delivered { 200 } else { 502 },
        ending,
        usage,
        usage_source: if delivered { UsageSource::Upstream } else { UsageSource::None },
        attempts: std::iter::once(attempt(if delivered { 200 } else { 500 })).collect(),
        upstream_error: (!delivered).then(|| "the upstream's own words".into()),
        code: (!delivered).then_some(Code::UpstreamError),
        latency_us: 1_500,
        ..Outcome::gateway_fault()
    };
    let charge = ledger::rate(&rates, &usage, multiplier_ppm).unwrap().total;
    if delivered {
        held.settle(charge, outcome).unwrap();
    } else {
        held.release(ledger::ReleaseReason::UpstreamFailed, outcome).unwrap();
    }
    request
}

/// What was admitted: its hold, with price and multiplier.
type Begun = (Held, (ledger::Price, u64));

/// A call up to where it waits for its answer: its id and, if it was admitted, its hold.
pub fn begin(app: &Arc<App>, key: &str, model: &str) -> (String, Option<Begun>) {
    let snapshot = app.directory.snapshot_owned();
    let key = snapshot.key(key.parse::<KeyId>().unwrap()).unwrap();
    let account = snapshot.account(key.account).unwrap();
    let request = RequestId::new(&*app.clock, &*app.entropy);
    let facts = Facts {
        request,
        at_ms: app.books.now().0,
        config_version: snapshot.version(),
        address: Checked::Passed(Endpoint::ChatCompletions),
        credential: Checked::Passed(Credential::of(key)),
        body: Checked::Passed(CallBody {
            model: model.into(),
            stream: false,
            body_bytes: 500,
            input_tokens_bound: 500,
            image_parts: 0,
            audio_parts: 0,
            output_cap: Some(1_000),
            choices: 1,
            units: None,
        }),
        client: Client { address: None, sdk: "scenario/1".into(), retry_count: 0, ..Client::default() },
        repetition: Repetition::default(),
    };
    let caller = Caller::of_key(&snapshot, key.id).unwrap();
    let scope = Scope::of(&snapshot, caller, &facts);
    let decided = Decided::new(facts);
    let mut price = None;
    let decide = |decided: &mut Decided| {
        let readings = decided.readings.clone().unwrap();
        match ladder::decide(&snapshot, &decided.facts, &readings, &app.hold_policy()) {
            Verdict::Refuse(refusal) => {
                decided.refusal = Some(refusal);
                None
            }
            Verdict::Admit(admission) => {
                price = Some((admission.price.rates(), admission.multiplier_ppm));
                decided.admitted = Some(Admitted {
                    price: admission.price.id,
                    multiplier_ppm: admission.multiplier_ppm,
                    channel: admission.first.channel.id,
                    hold: admission.sizing.hold,
                    output_cap: admission.sizing.output_cap,
                    cap_reason: admission.sizing.cap_reason,
                });
                Some(tallygate::books::Reserve {
                    amount: admission.sizing.hold,
                    overdraft: account.account.overdraft,
                    tokens: 0,
                    task: None,
                })
            }
        }
    };
    let (_, held) = app.books.decide(&scope, decided, decide).unwrap();
    (request.to_string(), held.zip(price))
}

/// What was tried where the test plays the gateway.
fn attempt(status: u16) -> Attempt {
    Attempt { status: Some(status), ..Attempt::default() }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let Some(app) = self.app.take() else { return };
        if std::thread::panicking() {
            return;
        }
        app.books.close_blocking();
        let report =
            verify(&app.journal, &app.projections, Some(&app.tasks.owners()), 0, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "the books are wrong: {:#?}", report.findings);
        drop(app);
        secrets::assert_none_below(self.backend.folder(), &[ADMIN_TOKEN]);
    }
}
