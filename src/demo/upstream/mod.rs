//! The simulated upstream, with the payment providers beside it: a process of its own that speaks the wire formats of
//! OpenAI, DeepSeek, Anthropic and Gemini and one of its own for tasks, echoes, fails in every way that it is told to, and keeps a bill.
//!
//! Promises: the same request gets the same answer; every answer's row is on
//! disk before its last bytes (a whole answer's: before its first), also when
//! the process is killed; a restart on the same folder finds its bill and its
//! key again. It is an upstream, so it knows nothing of the gateway but what
//! the gateway sends.
//!
//! Words in the last user message that change an answer, for tests:
//! `#tokens=500` (its length), `#delay_ms=50` (how long it thinks), `#tool`
//! (it calls the first tool that the request offers), `#status=429` (it fails with that status), `#cut` (it breaks off
//! half-way), `#lost` (of pictures and videos: they are made, and a gateway in between gives up before the answer).

mod answer;
mod bill;
mod call;
mod chat;
mod connection;
pub mod credit;
mod form;
mod made;
mod respond;
mod server;
mod studio;
mod videos;
mod wire;
mod wire_anthropic;
mod wire_gemini;
mod wire_text;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;

pub use bill::{BillOutcome, BillRow, Tokens};
pub use studio::task_api as studio_task_api;

use crate::clock::{Entropy, SystemClock, SystemEntropy};
use crate::demo::payments::{Contract, Payments};
use crate::secret::Secret;

/// The header by which a caller names its own request, as OpenAI's API has it;
/// it is kept on the row of the bill.
pub const CALLER_REQUEST_HEADER: &str = "x-client-request-id";
/// The header that names the upstream's request, as on the row of its bill.
pub const UPSTREAM_REQUEST_HEADER: &str = "x-request-id";

const BILL_FILE: &str = "upstream-bill.jsonl";
const KEY_FILE: &str = "upstream-key";
/// Largest request body taken, in bytes.
const BODY_BYTES_MAX: usize = 96 * 1024 * 1024;

/// How to start the upstream.
#[derive(Clone, Debug)]
pub struct UpstreamArgs {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder for its bill and its key; made if it is not there.
    pub dir: PathBuf,
    /// Print one JSON line when ready: `{"url", "bill_url", "payments_url", "pid"}`.
    pub ready_json: bool,
}

/// Why the upstream could not start.
#[derive(Debug)]
pub enum UpstreamError {
    /// Its folder or a file in it cannot be used.
    Files { path: PathBuf, source: io::Error },
    /// The address cannot be listened on.
    Listen { address: SocketAddr, source: io::Error },
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { path, .. } => write!(out, "the simulated upstream cannot use {}", path.display()),
            Self::Listen { address, .. } => write!(out, "the simulated upstream cannot listen on {address}"),
        }
    }
}

impl std::error::Error for UpstreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Files { source, .. } | Self::Listen { source, .. } => Some(source),
        }
    }
}

/// A simulated upstream that listens; it serves while it is driven.
pub struct Running {
    listener: TcpListener,
    server: Arc<server::Server>,
    address: SocketAddr,
}

/// Opens the bill, reads or makes the key, and listens. No call is taken
/// before [`Running::serve`] is driven.
pub async fn start(listen: SocketAddr, dir: &Path) -> Result<Running, UpstreamError> {
    let files = |path: &Path| {
        let path = path.to_path_buf();
        move |source| UpstreamError::Files { path, source }
    };
    std::fs::create_dir_all(dir).map_err(files(dir))?;
    let key = key_in(dir).map_err(files(&dir.join(KEY_FILE)))?;
    let bill = bill::Bill::open(&dir.join(BILL_FILE)).map_err(files(&dir.join(BILL_FILE)))?;
    let broken = |source| UpstreamError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(broken)?;
    let address = listener.local_addr().map_err(broken)?;
    Ok(Running { listener, server: Arc::new(server::Server::new(key, bill)), address })
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for a channel.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where its bill is read.
    pub fn bill_url(&self) -> String {
        format!("http://{}/bill", self.address)
    }

    /// Serves until the future is dropped.
    pub async fn serve(self) {
        server::accept(self.listener, self.server).await;
    }
}

/// Runs the upstream until the process is asked to end (SIGTERM or SIGINT).
pub async fn run(args: UpstreamArgs) -> Result<(), UpstreamError> {
    let running = start(args.listen, &args.dir).await?;
    let (url, bill_url, pid) = (running.url(), running.bill_url(), std::process::id());
    let files = |source| UpstreamError::Files { path: args.dir.join(KEY_FILE), source };
    let contract = Contract::of_secret(&key_in(&args.dir).map_err(files)?);
    let address = SocketAddr::new(args.listen.ip(), 0);
    let payments = Payments::start(address, contract, Arc::new(SystemClock));
    let payments = payments.map_err(|source| UpstreamError::Listen { address, source })?;
    let payments_url = payments.url();
    let mut out = io::stdout().lock();
    // A reader that has gone away does not keep the upstream from serving.
    let _printed = if args.ready_json {
        let line =
            serde_json::json!({"url": url, "bill_url": bill_url, "payments_url": payments_url, "pid": pid});
        writeln!(out, "{line}").and_then(|()| out.flush())
    } else {
        writeln!(
            out,
            "simulated upstream at {url}, its bill at {bill_url}, payment providers at {payments_url}, pid {pid}"
        )
    };
    drop(out);
    tokio::select! {
        () = running.serve() => {}
        () = asked_to_end() => {}
    }
    Ok(())
}

async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! { _ = interrupt => {}, _ = terminate.recv() => {} },
        Err(_) => drop(interrupt.await),
    }
}

/// The key that the upstream of this folder asks for; made at first use,
/// readable for its owner only.
pub fn key_in(dir: &Path) -> io::Result<Secret> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join(KEY_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(Secret::new(text.trim())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut random = [0u8; 24];
    SystemEntropy::new().fill(&mut random);
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("sk-demo-upstream-{text}");
    std::fs::create_dir_all(dir)?;
    // Written aside and renamed, so that two that start at once read one key.
    let aside = dir.join(format!("{KEY_FILE}.{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::hard_link(&aside, &path).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    })?;
    std::fs::remove_file(&aside)?;
    Ok(Secret::new(std::fs::read_to_string(&path)?.trim()))
}
