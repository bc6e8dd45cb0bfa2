//! A gateway in the test's own process: on a real socket, on either store, with a clock that the test moves.
//!
//! When the test is over the books are verified, and no secret may be in its files.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tallygate::api;
use tallygate::app::App;
use tallygate::books::verify::verify;
use tallygate::clock::{Clock, ManualClock, SystemEntropy};
use tallygate::config::{Config, Sources};
use tallygate::gateway::Gateway;
use tallygate::gateway::server::{self, Server};

use super::app::ADMIN_TOKEN;
use super::backend::Backend;
use super::http::{Ask, Connection, Reply};
use super::port::Port;
use super::secrets;

pub struct Station {
    backend: Backend,
    pub clock: Arc<ManualClock>,
    port: Port,
    /// Settings beside, or instead of, the usual ones.
    settings: Vec<(&'static str, String)>,
    running: Option<(Arc<App>, Server)>,
}

impl Station {
    pub fn start(
        backend: Backend,
        clock: Arc<ManualClock>,
        port: Port,
        settings: Vec<(&'static str, String)>,
    ) -> Self {
        let mut station = Station { backend, clock, port, settings, running: None };
        station.run();
        station
    }

    fn run(&mut self) {
        let public_url = format!("http://{}", self.address());
        let mut flags = vec![
            ("store.data_dir", self.backend.folder().display().to_string()),
            ("admin.token", ADMIN_TOKEN.to_owned()),
            ("server.public_url", public_url.clone()),
            ("secrets.master_key", "07".repeat(32)),
        ];
        if let Some(url) = self.backend.url() {
            flags.push(("store.database_url", url.expose().to_owned()));
        }
        flags.extend(self.settings.iter().cloned());
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let on_fatal = Box::new(|error: &tallygate::store::AppendError| panic!("{error}"));
        let app = Arc::new(App::open(config, clock, Arc::new(SystemEntropy::new()), 1, on_fatal).unwrap());
        let router = api::router(Arc::clone(&app), &public_url);
        let gateway = Gateway::new(Arc::clone(&app), router, public_url);
        let bound = server::bind(&self.address().to_string()).unwrap();
        let server = Server::start(Arc::new(gateway), bound, 1).unwrap();
        self.running = Some((app, server));
    }

    pub fn app(&self) -> &Arc<App> {
        &self.running.as_ref().unwrap().0
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    fn stop(&mut self) {
        let (app, server) = self.running.take().unwrap();
        server.stop_blocking(Duration::from_secs(10));
        app.books.close_blocking();
    }

    /// Stops the gateway and starts it on what is on disk.
    pub fn restart(&mut self) {
        self.restart_after(|_| {});
    }

    /// The same, with other settings beside, or instead of, the usual ones.
    pub fn restart_with(&mut self, settings: Vec<(&'static str, String)>) {
        self.settings = settings;
        self.restart();
    }

    /// The same, with some work on what is on disk in between.
    pub fn restart_after(&mut self, work: impl FnOnce(&Backend)) {
        self.stop();
        work(&self.backend);
        self.run();
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address()).unwrap()
    }

    pub fn ask(&self, ask: &Ask) -> Reply {
        self.connect().ask(ask).unwrap()
    }

    /// As somebody with this key or token; the answer must be what its route says.
    #[track_caller]
    pub fn get_as(&self, bearer: &str, path: &str) -> Value {
        let answer = self.ask(&Ask::get(path).bearer(bearer)).ok();
        let bare = path.split('?').next().unwrap();
        api::check_answer("GET", bare, &answer).unwrap_or_else(|why| panic!("GET {path}: {why}"));
        answer
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.get_as(ADMIN_TOKEN, path)
    }

    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.ask(&Ask::post(path, &body).bearer(ADMIN_TOKEN))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Reply {
        self.ask(&Ask::new("PATCH", path).raw_body(body.to_string()).bearer(ADMIN_TOKEN))
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        if std::thread::panicking() || self.running.is_none() {
            return;
        }
        let (journal, projections) = (self.app().journal.clone(), self.app().projections.clone());
        let tasks = self.app().tasks.owners();
        self.stop();
        let report = verify(&journal, &projections, Some(&tasks), 0, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "the books are wrong: {:#?}", report.findings);
        secrets::assert_none_below(self.backend.folder(), &[ADMIN_TOKEN]);
    }
}
