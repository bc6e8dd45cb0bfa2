//! Tallygate as a peer of the benchmark: a data directory made ready, and `serve` started on it.
//!
//! Promises: nothing is switched off – keys, limits, durable books and the log are on, as they are
//! in service; an account with money for any number of calls, a key with limits, a price, a channel
//! to the upstream of the benchmark. Never: it runs the gateway inside this process.

use super::peers::{self, Peer};
use super::process;
use super::rig::Rig;
use super::workload;
use crate::app::App;
use crate::clock::{SystemClock, SystemEntropy};
use crate::config::{Config, Sources};
use crate::directory::documents::Window;
use crate::directory::{CapField, Channel, Environment, Key, KeyOrder, Limit, Model, Origin, Price};
use crate::id::LotId;
use crate::secret::Secret;
use ledger::{Book, Command, CreditSource, LotKind, Nano, Reference, TokenClass};
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ACTOR: &str = "bench";
/// A billion and a hundred million of the ledger's currency: never the reason for a refusal.
const CREDIT: Nano = Nano(1_000_000_000_000_000_000);
const LIMIT: Nano = Nano(100_000_000_000_000_000);

/// A data directory that is ready to be served.
pub struct Prepared {
    dir: PathBuf,
    addr: SocketAddr,
    key: Secret,
}

/// Fills a fresh data directory. `extra_keys` more keys show what a large directory costs.
pub fn prepare(
    dir: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
    extra_keys: u32,
) -> io::Result<Prepared> {
    std::fs::create_dir_all(dir)?;
    let flags = vec![("store.data_dir", dir.display().to_string())];
    let config = Config::load(&Sources { flags, ..Sources::default() }).map_err(other)?;
    let entropy = Arc::new(SystemEntropy::new());
    let app =
        App::open(config, Arc::new(SystemClock), entropy, 1, crate::app::exit_on_fatal()).map_err(other)?;
    let account = app.directory.create_account(ACTOR, &|account| {
        account.name = "Benchmark".into();
        Ok(())
    });
    let account = account.map_err(other)?.document.id;
    let order = KeyOrder { account, environment: Environment::Live };
    let limit = |window| Limit::spend(window, LIMIT, Origin::Owner);
    let edit = |key: &mut Key| {
        key.name = "bench".into();
        key.limits = vec![limit(Window::Day), limit(Window::Month), limit(Window::Total)];
        Ok(())
    };
    let key = app.directory.create_key(ACTOR, order, None, &edit).map_err(other)?.text;
    for _ in 0..extra_keys.div_ceil(KEYS_AT_ONCE) {
        app.directory.create_keys(ACTOR, order, KEYS_AT_ONCE, &edit).map_err(other)?;
    }
    models(&app, upstream)?;
    let credit = Command::Credit {
        account: ledger::AccountId(account.raw()).in_book(Book::Live),
        lot: ledger::LotId(LotId::new(&*app.clock, &*app.entropy).raw()),
        kind: LotKind::Purchased,
        priority: 0,
        expires_at: None,
        amount: CREDIT,
        source: CreditSource::Payment,
        reference: Reference::new("bench"),
    };
    app.books.execute_blocking(&credit).map_err(other)?;
    app.books.close_blocking();
    let config = format!("[server]\nlisten = \"{listen}\"\n[store]\ndata_dir = \"{}\"\n", dir.display());
    let prepared = Prepared { dir: dir.to_owned(), addr: listen, key };
    std::fs::write(prepared.config(), config)?;
    Ok(prepared)
}

/// Keys of one transaction.
const KEYS_AT_ONCE: u32 = 10_000;

fn models(app: &App, upstream: SocketAddr) -> io::Result<()> {
    for name in workload::MODELS {
        let model = app.directory.create_model(ACTOR, &|model: &mut Model| {
            model.name = name.into();
            Ok(())
        });
        let model = model.map_err(other)?.document.id;
        let price = app.directory.add_price(ACTOR, model, &|price: &mut Price| {
            // What a small model of the day costs: 0.25 and 2 for a million tokens.
            for (class, amount) in [(TokenClass::Input, 250_000_000), (TokenClass::Output, 2_000_000_000)] {
                if let Some(slot) = price.per_million.get_mut(class as usize) {
                    *slot = Some(Nano(amount));
                }
            }
            Ok(())
        });
        price.map_err(other)?;
    }
    let channel = app.directory.create_channel(ACTOR, &[Secret::new("bench")], &|channel: &mut Channel| {
        channel.name = "bench".into();
        channel.base_url = format!("http://{upstream}/v1").into();
        channel.models = workload::MODELS.into_iter().map(|name| (name.into(), name.into())).collect();
        channel.output_cap_field = CapField::MaxTokens;
        Ok(())
    });
    channel.map(drop).map_err(other)
}

impl Prepared {
    /// The configuration to serve it with.
    pub fn config(&self) -> PathBuf {
        self.dir.join("bench.toml")
    }

    pub fn key(&self) -> &Secret {
        &self.key
    }

    /// `tallygate serve` on the directory; ready when `/readyz` says so.
    pub fn start(&self, rig: &mut Rig) -> io::Result<Peer> {
        let mut command = process::pinned(peers::PEER_CORE, &std::env::current_exe()?);
        command.arg("serve").arg("--config").arg(self.config());
        let ready = |addr| peers::answers(addr, "/readyz");
        let mut peer = Peer::start("tallygate", command, self.addr, &self.dir, rig, ready)?;
        (peer.key, peer.checks_keys) = (self.key.expose().to_owned(), true);
        Ok(peer)
    }

    /// From start to ready, on the directory as it is after the load.
    pub fn ready(&self, rig: &mut Rig, times: u32) -> io::Result<Vec<Duration>> {
        let once = |_| {
            let start = Instant::now();
            let mut peer = self.start(rig)?;
            // `start` waits a little after the peer was ready, for its memory to settle.
            let ready = start.elapsed().saturating_sub(peers::SETTLE);
            peer.stop();
            Ok(ready)
        };
        (0..times).map(once).collect()
    }

    /// Whether the books are what they must be after all that load.
    pub fn verify(&self) -> io::Result<bool> {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("verify").arg("--data").arg(&self.dir).stdout(std::process::Stdio::null());
        Ok(command.status()?.success())
    }
}

fn other(why: impl Display) -> io::Error {
    io::Error::other(why.to_string())
}
