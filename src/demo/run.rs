//! Runs the demo: upstream, gateway, seed, and the line that says that it is ready.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, header};

use crate::app::{App, AppError, StopSignals};
use crate::clock::{SystemClock, SystemEntropy};
use crate::config::{Config, ConfigError, Sources};
use crate::funding::Poller;
use crate::gateway::Gateway;
use crate::gateway::server::{self, ServeError, Server};
use crate::gateway::upstream::{Call, Settings, Target, Tls, Upstreams};
use crate::notices::StartError;
use crate::secret::Secret;
use crate::summaries;
use crate::tasks;
use crate::transcripts;
use crate::upkeep::Upkeep;

use super::companion;
use super::keys::{KEYS, SEED_FILE, Seed};
use super::payments::Contract;
use super::ready::{Admin, Ready, texts};
use super::seed::{self, SeedError};
use super::upstream;

/// How to run the demo.
#[derive(Clone, Debug)]
pub struct DemoArgs {
    /// Port 0 takes a free one.
    pub listen: String,
    pub dir: PathBuf,
    /// Begin with an empty folder. Refused for one that is no demo's.
    pub fresh: bool,
    /// Tell by one JSON line instead of a table.
    pub ready_json: bool,
    /// PostgreSQL instead of the embedded database.
    pub database: Option<Secret>,
}

#[derive(Debug)]
pub enum DemoError {
    Folder { path: PathBuf, why: io::Error },
    Config(ConfigError),
    App(AppError),
    Serve(ServeError),
    Seed(SeedError),
    FirstCall(String),
    Signals(io::Error),
    Notices(StartError),
    Poller(io::Error),
    Summaries(io::Error),
    Output(io::Error),
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemoError::Folder { path, why } => write!(f, "{}: {why}", path.display()),
            DemoError::Config(why) => write!(f, "{why}"),
            DemoError::App(why) => write!(f, "{why}"),
            DemoError::Serve(why) => write!(f, "{why}"),
            DemoError::Seed(why) => write!(f, "{why}"),
            DemoError::FirstCall(why) => write!(f, "a first call of the demo failed: {why}"),
            DemoError::Signals(why) => write!(f, "signals cannot be received: {why}"),
            DemoError::Notices(why) => write!(f, "{why}"),
            DemoError::Poller(why) => {
                write!(f, "a thread that looks after money cannot be started: {why}")
            }
            DemoError::Summaries(why) => {
                write!(f, "the thread that tells monthly summaries cannot be started: {why}")
            }
            DemoError::Output(why) => write!(f, "cannot say that the demo is ready: {why}"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DemoError::Folder { why, .. }
            | DemoError::Signals(why)
            | DemoError::Poller(why)
            | DemoError::Summaries(why)
            | DemoError::Output(why) => Some(why),
            DemoError::Config(why) => Some(why),
            DemoError::App(why) => Some(why),
            DemoError::Serve(why) => Some(why),
            DemoError::Seed(why) => Some(why),
            DemoError::Notices(why) => Some(why),
            DemoError::FirstCall(_) => None,
        }
    }
}

/// Runs until SIGINT or SIGTERM. `out` gets the ready line or table. Blocks; to be called outside of any
/// runtime.
pub fn run(args: &DemoArgs, out: &mut dyn io::Write) -> Result<(), DemoError> {
    let in_folder = |why| DemoError::Folder { path: args.dir.clone(), why };
    prepare(&args.dir, args.fresh).map_err(in_folder)?;
    let (seed, _made) = Seed::load_or_make(&args.dir).map_err(in_folder)?;
    let upstream = companion::find_or_start(&args.dir).map_err(in_folder)?;
    let upstream_key = upstream::key_in(&args.dir.join("upstream")).map_err(in_folder)?;

    let bound = server::bind(&args.listen).map_err(DemoError::Serve)?;
    let public_url = format!("http://{}", bound.address);
    let config = config(args, &seed, &public_url, &upstream.payments_url, &upstream_key)?;
    let workers = crate::app::workers(&config);
    let app = App::open(
        config,
        Arc::new(SystemClock),
        Arc::new(SystemEntropy::new()),
        workers,
        crate::app::exit_on_fatal(),
    );
    let app = Arc::new(app.map_err(DemoError::App)?);
    seed::seed(&app, &seed, &upstream.url, &upstream_key).map_err(DemoError::Seed)?;

    let notices = app.notices.start(&app.config.mail).map_err(DemoError::Notices)?;
    let poller = Poller::start(Arc::clone(&app.funding)).map_err(DemoError::Poller)?;
    let summaries = summaries::Worker::start(Arc::clone(&app)).map_err(DemoError::Summaries)?;
    let upkeep = Upkeep::start(Arc::clone(&app)).map_err(DemoError::Poller)?;
    let task_poller = tasks::Poller::start(Arc::clone(&app.tasks)).map_err(DemoError::Poller)?;
    let copier = tasks::Copier::start(&app.tasks).map_err(DemoError::Poller)?;
    let transcripts = transcripts::Writer::start(&app.transcripts).map_err(DemoError::Poller)?;
    let router = crate::api::router(Arc::clone(&app), &public_url);
    let gateway = Arc::new(Gateway::new(Arc::clone(&app), router, public_url.clone()));
    let server = Server::start(gateway, bound, workers).map_err(DemoError::Serve)?;
    app.funding.check_all().map_err(DemoError::Poller)?;
    spend(&app, &seed, &public_url)?;
    let signals = StopSignals::listen().map_err(DemoError::Signals)?;
    let ready = Ready {
        base_url: format!("{public_url}/v1"),
        console_url: public_url,
        pid: std::process::id(),
        admin: Admin { email: None, password: None, token: seed.admin_token().expose().to_owned() },
        users: BTreeMap::new(),
        keys: texts(|key| seed.key(key)),
        upstream: &upstream,
    };
    let told = if args.ready_json { ready.print_json(out) } else { ready.print_table(out) };
    told.map_err(DemoError::Output)?;
    signals.wait();
    drop((poller, summaries, upkeep, task_poller, copier));
    server.stop_blocking(std::time::Duration::from_millis(app.config.limits.shutdown_ms));
    drop(transcripts);
    notices.stop_blocking();
    app.books.close_blocking();
    companion::stop(&args.dir);
    Ok(())
}

/// Makes the folder, or empties a demo's.
fn prepare(dir: &Path, fresh: bool) -> io::Result<()> {
    let is_empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => true,
        Err(why) => return Err(why),
    };
    if fresh && !is_empty {
        if !dir.join(SEED_FILE).is_file() {
            return Err(io::Error::other("is not empty and not a demo's folder; it is left as it is"));
        }
        companion::stop(dir);
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)
}

fn config(
    args: &DemoArgs,
    seed: &Seed,
    public_url: &str,
    payments_url: &str,
    upstream_key: &Secret,
) -> Result<Config, DemoError> {
    let mut flags = vec![
        ("store.data_dir", args.dir.display().to_string()),
        ("server.public_url", public_url.to_owned()),
        ("admin.token", seed.admin_token().expose().to_owned()),
        // The demo's model that never answers is to be seen within a short patience.
        ("upstream.header_timeout_ms", "5000".to_owned()),
        ("payments.rates", "USD=1, CNY=7.25".to_owned()),
        ("payments.poll_ms", "1000".to_owned()),
        ("payments.transfer", "true".to_owned()),
        ("payments.transfer_to", "Demo Bank, account 0000 1111 (no real money)".to_owned()),
    ];
    flags.extend(Contract::of_secret(upstream_key).settings(payments_url));
    if let Some(url) = &args.database {
        flags.push(("store.database_url", url.expose().to_owned()));
    }
    let mut sources = Sources::of_process(None, flags);
    // What a demo is made of is its own: a folder, a database or a secret that was set for a real gateway
    // must never meet it.
    sources.env.retain(|(name, _)| OPEN_SETTINGS.iter().any(|section| name.starts_with(section)));
    Config::load(&sources).map_err(DemoError::Config)
}

/// What the environment may set for a demo.
const OPEN_SETTINGS: [&str; 7] = [
    "TALLYGATE_LIMITS__",
    "TALLYGATE_HOLDS__",
    "TALLYGATE_RISK__",
    "TALLYGATE_UPSTREAM__",
    "TALLYGATE_TASKS__",
    "TALLYGATE_SERVER__TRUSTED_PROXIES",
    "TALLYGATE_SERVER__WORKERS",
];

/// Has the keys whose limit is to be spent make a real call, and limits them to what it cost.
fn spend(app: &App, seed: &Seed, public_url: &str) -> Result<(), DemoError> {
    for (name, spent) in seed::SPENT {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else { continue };
        let text = seed.key(key);
        let known = app.directory.find_key(text.expose().as_bytes());
        if let Some(known) = known.filter(|known| seed::is_unspent(app, known, spent)) {
            first_call(public_url, &text)?;
            seed::limit_to_used(app, &known, spent).map_err(DemoError::Seed)?;
        }
    }
    Ok(())
}

fn first_call(public_url: &str, key: &Secret) -> Result<(), DemoError> {
    let failed = |why: &dyn fmt::Display| DemoError::FirstCall(why.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| failed(&why))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let tls = Tls::new(None).map_err(|why| failed(&why))?;
        let target = Target::parse(&format!("{public_url}/v1")).map_err(|why| failed(&why))?;
        let bearer = HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|why| failed(&why))?;
        let headers: [(HeaderName, HeaderValue); 2] = [
            (header::AUTHORIZATION, bearer),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ];
        let body = r#"{"model":"gpt-5-mini","max_tokens":64,"messages":[{"role":"user","content":"A call that spends the limit."}]}"#;
        let upstreams = Upstreams::new(Settings::default(), &tls);
        let call = Call {
            target: &target,
            method: Method::POST,
            path: "/chat/completions",
            headers: &headers,
            body: bytes::Bytes::from_static(body.as_bytes()),
        };
        let mut answer = upstreams.send(call).await.map_err(|why| failed(&why))?;
        let status = answer.status;
        answer.body.collect(1 << 20).await.map_err(|why| failed(&why))?;
        if status.is_success() { Ok(()) } else { Err(failed(&status)) }
    })
}
