//! Everything that a running gateway holds, opened in one place: by `serve`, by the demo, and by the command
//! line when no server has the data directory.

use std::fmt;
use std::sync::Arc;

use ledger::Nano;

use crate::alerts::Alerts;
use crate::books::{Books, BooksConfig, OnFatal, OpenError};
use crate::channel_credit::ChannelCredit;
use crate::clock::{Clock, Entropy};
use crate::config::Config;
use crate::directory::{Directory, DirectoryError};
use crate::explain::Display;
use crate::funding::{
    self, ApprovalAbove, CodeError, Codes, CorrectionError, Corrections, Funding, FundingError, Poller,
};
use crate::gateway::bodies::Bodies;
use crate::gateway::channel_health::{ChannelHealth, RestPolicy};
use crate::gateway::ladder::HoldPolicy;
use crate::http_client::HttpClient;
use crate::idempotency::Idempotency;
use crate::job::Job;
use crate::master_key::{self, MasterKeys};
use crate::notices::{Notices, StartError};
use crate::reconcile::ReconcileStore;
use crate::risk::{self, RegionsError};
use crate::store::{self, DataDirLock, JournalReader, Projections, StoreConfig, StoreError};
use crate::summaries;
use crate::tasks::{self, TaskError, Tasks};
use crate::transcripts::{self, Transcripts};
use crate::upkeep::Upkeep;

/// See the module.
pub struct App {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub master_keys: Arc<MasterKeys>,
    pub directory: Arc<Directory>,
    pub books: Arc<Books>,
    pub funding: Arc<Funding>,
    pub codes: Arc<Codes>,
    pub corrections: Arc<Corrections>,
    /// The currency that amounts are shown in besides the ledger's.
    pub display: Option<Display>,
    /// Its poller is started by who serves.
    pub tasks: Arc<Tasks>,
    pub risk: risk::Watch,
    pub alerts: Alerts,
    pub channels: Arc<ChannelHealth>,
    /// Of requests, while they are in memory.
    pub bodies: Arc<Bodies>,
    /// Looked at by the upkeep.
    pub credit: ChannelCredit,
    /// Its worker is started by who serves.
    pub notices: Arc<Notices>,
    pub idempotency: Arc<Idempotency>,
    /// Their writer is started by who serves.
    pub transcripts: Arc<Transcripts>,
    pub projections: Projections,
    pub journal: JournalReader,
    /// `verify`, while it runs and after.
    pub verifying: Job,
    pub reconcile: ReconcileStore,
    /// An import or a comparison, while it runs and after.
    pub reconciling: Job,
    /// While it lives, no other process opens the same data directory.
    _lock: DataDirLock,
}

#[derive(Debug)]
pub enum AppError {
    Store(StoreError),
    MasterKey(master_key::OpenError),
    Directory(DirectoryError),
    Books(OpenError),
    Regions(RegionsError),
    Payments(funding::SettingsError),
    Funding(FundingError),
    Codes(CodeError),
    Corrections(CorrectionError),
    Tasks(TaskError),
    Copies(String),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppError::Store(why) => write!(f, "{why}"),
            AppError::MasterKey(why) => write!(f, "{why}"),
            AppError::Directory(why) => write!(f, "{why}"),
            AppError::Books(why) => write!(f, "{why}"),
            AppError::Regions(why) => write!(f, "{why}"),
            AppError::Payments(why) => write!(f, "{why}"),
            AppError::Funding(why) => write!(f, "orders cannot be brought up to date: {why}"),
            AppError::Corrections(why) => write!(f, "corrections cannot be brought up to date: {why}"),
            AppError::Codes(why) => write!(f, "redemption codes cannot be brought up to date: {why}"),
            AppError::Tasks(why) => write!(f, "tasks cannot be brought up to date: {why}"),
            AppError::Copies(why) => write!(f, "copies of results cannot be kept: {why}"),
        }
    }
}

impl std::error::Error for AppError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AppError::Store(why) => Some(why),
            AppError::MasterKey(why) => Some(why),
            AppError::Directory(why) => Some(why),
            AppError::Books(why) => Some(why),
            AppError::Regions(why) => Some(why),
            AppError::Payments(why) => Some(why),
            AppError::Funding(why) => Some(why),
            AppError::Codes(why) => Some(why),
            AppError::Corrections(why) => Some(why),
            AppError::Tasks(why) => Some(why),
            AppError::Copies(_) => None,
        }
    }
}

impl App {
    /// Opens the data directory of the configuration and recovers what is in it.
    pub fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        ports: usize,
        on_fatal: OnFatal,
    ) -> Result<Self, AppError> {
        let alert_percent = config.alerts.budget_percent;
        let rules = risk::Rules::from_config(&config).map_err(AppError::Regions)?;
        let payments = funding::Settings::from_config(&config).map_err(AppError::Payments)?;
        let data_dir = config.store.data_dir.clone();
        let stores = match config.store.database_url.clone() {
            Some(url) => StoreConfig::postgres(&data_dir, url),
            None => StoreConfig::embedded(&data_dir),
        };
        let stores = store::open(&stores).map_err(AppError::Store)?;
        let given = config.secrets.master_key.clone();
        let keyring = master_key::open(&data_dir, given.as_ref(), &stores.directory);
        let keyring = Arc::new(keyring.map_err(AppError::MasterKey)?);
        let outbox = stores.directory.clone();
        let directory =
            Directory::open(stores.directory.clone(), Arc::clone(&keyring), clock.clone(), entropy.clone());
        let directory = Arc::new(directory.map_err(AppError::Directory)?);
        let notices =
            Notices::new(outbox, Arc::clone(&directory), clock.clone(), entropy.clone(), &config.mail);
        let notices = Arc::new(notices);
        let credit = ChannelCredit::new(
            stores.directory.clone(),
            Arc::clone(&directory),
            Arc::clone(&notices),
            HttpClient::new(clock.clone(), entropy.clone()),
            clock.clone(),
        );
        let journal = stores.journal.reader();
        let books = BooksConfig { shard: 0, node: "local".into(), ports, clock: clock.clone(), on_fatal };
        let books =
            Books::open(stores.journal, stores.projections.clone(), books).map_err(AppError::Books)?;
        let books = Arc::new(books);
        let codes =
            Codes::new(stores.funding.clone(), Arc::clone(&books), clock.clone(), entropy.clone(), &keyring);
        let reconcile = ReconcileStore::new(stores.reconcile);
        let funding = Funding::new(
            stores.funding.clone(),
            Arc::clone(&books),
            (clock.clone(), entropy.clone()),
            payments,
            reconcile.clone(),
            (Arc::clone(&directory), Arc::clone(&notices)),
            &keyring.hash_keys().callback_check,
        );
        let funding = Arc::new(funding);
        // The settings were checked when they were read.
        let amount = |text: &str| Nano::parse_decimal(text).unwrap_or_default();
        let corrections = Corrections::new(
            stores.funding,
            Arc::clone(&books),
            stores.projections.clone(),
            (clock.clone(), entropy.clone()),
            Arc::clone(&funding),
            ApprovalAbove {
                corrections: amount(&config.ledger.approval_above),
                money: amount(&config.ledger.money_approval_above),
            },
        );
        let repaired = funding.repair().map_err(AppError::Funding)?;
        if repaired > 0 {
            tracing::info!(repaired, "orders were brought up to date with the ledger");
        }
        let repaired = codes.repair().map_err(AppError::Codes)?;
        if repaired > 0 {
            tracing::info!(repaired, "redemption codes were brought up to date with the ledger");
        }
        let repaired = corrections.repair().map_err(AppError::Corrections)?;
        if repaired > 0 {
            tracing::info!(repaired, "corrections that were agreed are in the ledger now");
        }
        let idempotency = Idempotency::new(stores.idempotency, Arc::clone(&keyring), clock.clone());
        let transcripts = Transcripts::new(
            stores.transcripts,
            Arc::clone(&keyring),
            clock.clone(),
            config.retention.transcripts_days_max,
        );
        let transcripts = Arc::new(transcripts);
        let results = Arc::new(tasks::Results::new(stores.tasks.clone(), Arc::clone(&keyring)));
        let copies = tasks::CopyStore::new(stores.tasks.clone(), Arc::clone(&keyring));
        let copies = Arc::new(tasks::Copies::open(copies, &config).map_err(AppError::Copies)?);
        let thumbnails = Arc::new(tasks::Thumbnails::new(stores.tasks.clone(), Arc::clone(&keyring)));
        let parts = master_key::Parts {
            db: stores.directory,
            keyring,
            results: Arc::clone(&results),
            copies: copies.store.clone(),
            thumbnails: Arc::clone(&thumbnails),
            directory: Arc::clone(&directory),
            idempotency: Arc::clone(&idempotency),
            transcripts: Arc::clone(&transcripts),
            clock: clock.clone(),
        };
        let source = master_key::Source::of(&data_dir, given.as_ref());
        let master_keys = MasterKeys::new(parts, source, given.as_ref(), config.store.database_url.is_some());
        let channels = Arc::new(ChannelHealth::new(RestPolicy::from_config(&config.upstream)));
        let display = Display::of(&config);
        let tasks = Tasks::new(
            stores.tasks,
            Arc::clone(&books),
            stores.projections.clone(),
            (Arc::clone(&directory), Arc::clone(&channels), Arc::clone(&notices)),
            (results, copies, thumbnails),
            (clock.clone(), entropy.clone()),
            tasks::Settings::from_config(&config),
        );
        let repaired = tasks.repair().map_err(AppError::Tasks)?;
        if repaired > 0 {
            tracing::warn!(repaired, "released holds of tasks that were never submitted");
        }
        let bodies = Arc::new(Bodies::new(config.limits.request_bodies_bytes_max));
        Ok(App {
            config,
            clock,
            entropy,
            master_keys: Arc::new(master_keys),
            directory,
            books,
            funding,
            codes: Arc::new(codes),
            corrections: Arc::new(corrections),
            display,
            tasks: Arc::new(tasks),
            risk: risk::Watch::new(rules),
            alerts: Alerts::new(alert_percent),
            channels,
            bodies,
            credit,
            notices,
            idempotency,
            transcripts,
            projections: stores.projections,
            journal,
            verifying: Job::default(),
            reconcile,
            reconciling: Job::default(),
            _lock: stores.lock,
        })
    }

    /// Ends what runs beside the server, in order. Blocks.
    pub fn stop_long_commands(&self) {
        self.verifying.stop_blocking();
        self.reconciling.stop_blocking();
        self.master_keys.resealing.stop_blocking();
    }

    pub fn currency(&self) -> &str {
        &self.config.ledger.currency
    }

    /// Whether others may write the directory too. The embedded store has one writer, which is this process.
    pub fn directory_is_shared(&self) -> bool {
        self.config.store.database_url.is_some()
    }

    pub fn hold_policy(&self) -> HoldPolicy {
        let holds = &self.config.holds;
        HoldPolicy {
            output_share_ppm: u64::from(holds.output_share_ppm),
            output_tokens_floor: holds.output_tokens_floor,
            output_tokens_min: holds.output_tokens_min,
        }
    }
}

/// Worker threads for this configuration: one for each core that the process may use, unless it says.
pub fn workers(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers as usize,
    }
}

/// A journal that cannot be written ends the process: memory must never run ahead of the disk.
pub fn exit_on_fatal() -> OnFatal {
    Box::new(|_| std::process::exit(FATAL_EXIT))
}

/// Exit status of a process whose journal could not be written.
const FATAL_EXIT: i32 = 70;

/// SIGINT and SIGTERM, listened to from the moment this is made: to be made before anybody is told that the
/// program is ready, or a stop that follows at once would end it without order.
pub struct StopSignals {
    runtime: tokio::runtime::Runtime,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// To be called outside of any runtime.
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(entered);
        Ok(StopSignals { runtime, interrupt, terminate })
    }

    /// Waits for either.
    pub fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
        });
    }
}

/// Runs a gateway on the configuration until it is asked to stop. Blocks.
pub fn serve(mut config: Config) -> Result<(), RunError> {
    use crate::gateway::Gateway;
    use crate::gateway::server::{self, Server};
    let bound = server::bind(&config.server.listen.to_string()).map_err(RunError::Serve)?;
    // A port that the system chose is known only now.
    config.server.listen = bound.address;
    let (workers, public_url) = (workers(&config), config.public_url_at(bound.address));
    let patience = std::time::Duration::from_millis(config.limits.shutdown_ms);
    let entropy = Arc::new(crate::clock::SystemEntropy::new());
    let app = App::open(config, Arc::new(crate::clock::SystemClock), entropy, workers, exit_on_fatal());
    let app = Arc::new(app.map_err(RunError::App)?);
    let signals = StopSignals::listen().map_err(RunError::Signals)?;
    tracing::info!(address = %bound.address, workers, "ready");
    let notices = app.notices.start(&app.config.mail).map_err(RunError::Notices)?;
    let poller = Poller::start(Arc::clone(&app.funding)).map_err(RunError::Poller)?;
    let summaries = summaries::Worker::start(Arc::clone(&app)).map_err(RunError::Summaries)?;
    let upkeep = Upkeep::start(Arc::clone(&app)).map_err(RunError::Poller)?;
    let task_poller = tasks::Poller::start(Arc::clone(&app.tasks)).map_err(RunError::Poller)?;
    let copier = tasks::Copier::start(&app.tasks).map_err(RunError::Poller)?;
    let transcripts = transcripts::Writer::start(&app.transcripts).map_err(RunError::Poller)?;
    let router = crate::api::router(Arc::clone(&app), &public_url);
    let gateway = Gateway::new(Arc::clone(&app), router, public_url);
    let server = Server::start(Arc::new(gateway), bound, workers).map_err(RunError::Serve)?;
    app.funding.check_all().map_err(RunError::Poller)?;
    signals.wait();
    tracing::info!("stopping");
    drop((poller, summaries, upkeep, task_poller, copier));
    server.stop_blocking(patience);
    drop(transcripts);
    notices.stop_blocking();
    app.stop_long_commands();
    app.books.close_blocking();
    Ok(())
}

/// Why a gateway did not run.
#[derive(Debug)]
pub enum RunError {
    App(AppError),
    Serve(crate::gateway::server::ServeError),
    Signals(std::io::Error),
    Notices(StartError),
    Poller(std::io::Error),
    Summaries(std::io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::App(why) => write!(f, "{why}"),
            RunError::Serve(why) => write!(f, "{why}"),
            RunError::Signals(why) => write!(f, "signals cannot be received: {why}"),
            RunError::Notices(why) => write!(f, "{why}"),
            RunError::Summaries(why) => {
                write!(f, "the thread that tells monthly summaries cannot be started: {why}")
            }
            RunError::Poller(why) => {
                write!(f, "a thread that looks after money, tasks or transcripts cannot be started: {why}")
            }
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::App(why) => Some(why),
            RunError::Serve(why) => Some(why),
            RunError::Signals(why) | RunError::Poller(why) | RunError::Summaries(why) => Some(why),
            RunError::Notices(why) => Some(why),
        }
    }
}
