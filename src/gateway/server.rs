//! The server: worker threads that share one listener, each with a runtime, connections and an upstream pool
//! of its own. A call stays on the thread that accepted it.
//!
//! A stop is orderly: no new connections, running calls get their time, what is left then is settled by
//! count; the books are closed last, by whoever opened them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::edge::EdgeIo;
use super::pipeline::{self, Connection};
use super::upstream::Tls;
use super::worker::{Gateway, Worker};

/// How often an idle gateway looks whether its last calls have ended.
const ENDING_POLL: Duration = Duration::from_millis(20);
/// TLS handshakes take no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub enum ServeError {
    Listen { address: String, why: io::Error },
    Certificate { file: String, why: String },
    Tls(rustls::Error),
    Upstream(String),
    Thread(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Listen { address, why } => write!(f, "cannot listen on {address}: {why}"),
            ServeError::Certificate { file, why } => write!(f, "{file}: {why}"),
            ServeError::Tls(why) => write!(f, "the certificate cannot be used: {why}"),
            ServeError::Upstream(why) => write!(f, "TLS with upstreams cannot be set up: {why}"),
            ServeError::Thread(why) => write!(f, "a worker thread cannot be started: {why}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::Listen { why, .. } | ServeError::Thread(why) => Some(why),
            ServeError::Tls(why) => Some(why),
            ServeError::Certificate { .. } | ServeError::Upstream(_) => None,
        }
    }
}

/// A listener that is bound but not served yet, so that its address is known.
pub struct Bound {
    listener: std::net::TcpListener,
    pub address: SocketAddr,
}

/// Binds the address of the configuration; port 0 takes a free one.
pub fn bind(address: &str) -> Result<Bound, ServeError> {
    let failed = |why| ServeError::Listen { address: address.to_owned(), why };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address })
}

/// A gateway that runs until it is told to stop.
pub struct Server {
    gateway: Arc<Gateway>,
    closing: watch::Sender<bool>,
    workers: Vec<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts `workers` threads on the listener, and the admin socket on the first of them. Whoever reaches the listener
    /// finds the admin socket there, too.
    pub fn start(gateway: Arc<Gateway>, bound: Bound, workers: usize) -> Result<Self, ServeError> {
        let tls = acceptor(&gateway)?;
        let upstream_tls = Tls::new(None).map_err(|why| ServeError::Upstream(why.to_string()))?;
        let closing = watch::Sender::new(false);
        let mut threads = Vec::with_capacity(workers);
        let mut admin = open_admin(gateway.app.config.admin_socket());
        for port in 0..workers.max(1) {
            let listener = bound.listener.try_clone().map_err(ServeError::Thread)?;
            let (gateway, tls, upstream_tls) = (Arc::clone(&gateway), tls.clone(), upstream_tls.clone());
            let admin = admin.take();
            let closing = closing.subscribe();
            let run = move || {
                let worker = Worker::new(gateway, &upstream_tls, port);
                run_worker(worker, listener, tls, admin, closing);
            };
            let thread = std::thread::Builder::new().name(format!("worker-{port}")).spawn(run);
            threads.push(thread.map_err(ServeError::Thread)?);
        }
        Ok(Server { gateway, closing, workers: threads })
    }

    /// Stops taking calls, waits for those that run, ends the rest, and joins the threads. Blocks.
    pub fn stop_blocking(self, patience: Duration) {
        self.closing.send_replace(true);
        let clock = &self.gateway.app.clock;
        let until = clock.mono_ns().saturating_add(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        while self.gateway.calls() > 0 && clock.mono_ns() < until {
            std::thread::sleep(ENDING_POLL);
        }
        self.gateway.stop();
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        self.gateway.record_floods();
    }
}

fn acceptor(gateway: &Gateway) -> Result<Option<TlsAcceptor>, ServeError> {
    let tls = &gateway.app.config.tls;
    let (Some(cert_file), Some(key_file)) = (&tls.cert_file, &tls.key_file) else { return Ok(None) };
    let unreadable = |file: &Path, why: &dyn fmt::Display| ServeError::Certificate {
        file: file.display().to_string(),
        why: why.to_string(),
    };
    let certificates = CertificateDer::pem_file_iter(cert_file).map_err(|why| unreadable(cert_file, &why))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let certificates = certificates.map_err(|why| unreadable(cert_file, &why))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|why| unreadable(key_file, &why))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ServeError::Tls)?;
    let mut config =
        config.with_no_client_auth().with_single_cert(certificates, key).map_err(ServeError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn run_worker(
    worker: Worker,
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    admin: Option<AdminSocket>,
    closing: watch::Receiver<bool>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(why) => return tracing::error!(%why, "a worker's runtime cannot be started"),
    };
    let local = tokio::task::LocalSet::new();
    let worker = Rc::new(worker);
    local.block_on(&runtime, async {
        let durability = Arc::clone(worker.gateway.app.books.durability());
        let port = tokio::spawn(durability.serve_port(worker.port));
        if let Some(socket) = admin {
            tokio::task::spawn_local(serve_admin(Rc::clone(&worker), socket, closing.clone()));
            tokio::task::spawn_local(keep_house(Rc::clone(&worker)));
            if worker.gateway.app.directory_is_shared() {
                tokio::task::spawn_local(follow_directory(Rc::clone(&worker)));
            }
        }
        match TcpListener::from_std(listener) {
            Ok(listener) => accept(Rc::clone(&worker), listener, tls, closing).await,
            Err(why) => tracing::error!(%why, "the listener cannot be used"),
        }
        end(&worker).await;
        port.abort();
    });
}

/// What one worker does for all of them: it lets running calls hear of changes to the directory, freezes the keys
/// that a risk rule found, and records floods.
async fn keep_house(worker: Rc<Worker>) {
    let mut often = tokio::time::interval(DIRECTORY_POLL);
    often.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut until_floods = FLOOD_POLLS;
    loop {
        often.tick().await;
        worker.gateway.notice_changes();
        let found = worker.gateway.app.risk.take();
        if !found.is_empty() {
            let gateway = Arc::clone(&worker.gateway);
            tokio::task::spawn_blocking(move || gateway.freeze(&found));
        }
        let pages = worker.gateway.app.risk.take_pages();
        if !pages.is_empty() {
            let gateway = Arc::clone(&worker.gateway);
            tokio::task::spawn_blocking(move || gateway.tell_pages(pages));
        }
        let told = worker.gateway.app.channels.take_told();
        if !told.is_empty() {
            let gateway = Arc::clone(&worker.gateway);
            tokio::task::spawn_blocking(move || gateway.tell_channels(&told));
        }
        let alerts = worker.gateway.app.alerts.take();
        if !alerts.is_empty() {
            let gateway = Arc::clone(&worker.gateway);
            tokio::task::spawn_blocking(move || gateway.tell_alerts(&alerts));
        }
        until_floods -= 1;
        if until_floods == 0 {
            worker.gateway.record_floods();
            until_floods = FLOOD_POLLS;
        }
    }
}

/// Takes in what other writers of the same store have changed: one small query as long as they change nothing.
async fn follow_directory(worker: Rc<Worker>) {
    let mut often = tokio::time::interval(FOLLOW_POLL);
    often.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_read = true;
    loop {
        often.tick().await;
        let gateway = Arc::clone(&worker.gateway);
        let read = tokio::task::spawn_blocking(move || gateway.app.directory.refresh()).await;
        let is_read = matches!(read, Ok(Ok(_)));
        // Once for each time that the store is lost, not twice a second.
        match read {
            Ok(Err(why)) if was_read => tracing::warn!(%why, "changes of other nodes cannot be read"),
            Err(why) if was_read => tracing::error!(%why, "changes of other nodes cannot be read"),
            Ok(Ok(_)) if !was_read => tracing::info!("changes of other nodes are read again"),
            _ => {}
        }
        was_read = is_read;
        worker.gateway.notice_changes();
    }
}

/// How soon a change that another node wrote is looked for.
const FOLLOW_POLL: Duration = Duration::from_millis(400);

/// Floods are recorded every ten seconds.
const FLOOD_POLLS: u32 = 50;

/// How soon a running call hears that its key was stopped.
const DIRECTORY_POLL: Duration = Duration::from_millis(200);

/// Waits until the last call has ended.
async fn end(worker: &Worker) {
    while worker.gateway.calls() > 0 {
        tokio::time::sleep(ENDING_POLL).await;
    }
    // What was answered last is still being written.
    tokio::time::sleep(ENDING_POLL).await;
}

async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    mut closing: watch::Receiver<bool>,
) {
    let connections = Arc::clone(&worker.gateway.connections);
    loop {
        let next = async {
            let permit = Arc::clone(&connections).acquire_owned().await.ok();
            listener.accept().await.map(|(stream, peer)| (stream, peer, permit))
        };
        let accepted = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            accepted = next => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                // Out of file descriptors, mostly: wait for some to come back.
                tracing::warn!(%why, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (worker, tls, closing) = (Rc::clone(&worker), tls.clone(), closing.clone());
        tokio::task::spawn_local(async move {
            connection(worker, stream, peer, tls, closing).await;
            drop(permit);
        });
    }
}

async fn connection(
    worker: Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    closing: watch::Receiver<bool>,
) {
    // Answers are small and come in pieces: never wait for more.
    let _without_delay = stream.set_nodelay(true);
    let from = Connection { peer: Some(peer.ip()), is_plain_on_tls: false };
    let Some(tls) = tls else { return serve_http1(worker, stream, from, closing).await };
    // A client with http:// for https:// is told so, rather than left with a broken handshake.
    let mut first = [0];
    let peeked = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
    if matches!(peeked, Ok(Ok(1))) && first.iter().all(u8::is_ascii_alphabetic) {
        let from = Connection { is_plain_on_tls: true, ..from };
        return serve_http1(worker, stream, from, closing).await;
    }
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            serve_http2(worker, stream, from, closing).await;
        }
        Ok(Ok(stream)) => serve_http1(worker, stream, from, closing).await,
        Ok(Err(why)) => tracing::debug!(%why, "a TLS handshake failed"),
        Err(_elapsed) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve_http1<S>(worker: Rc<Worker>, stream: S, from: Connection, mut closing: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let gateway = Arc::clone(&worker.gateway);
    let io = EdgeIo::new(stream, Rc::clone(&worker));
    // Boxed, so that the connection can be moved out of and its stream taken back.
    let service = service_fn(move |request| Box::pin(pipeline::serve(Rc::clone(&worker), request, from)));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.arrival_timeout)
        .max_buf_size(gateway.header_bytes_max.max(MIN_BUFFER_BYTES));
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let mut told = false;
    let ended = loop {
        let next = std::future::poll_fn(|context| connection.poll_without_shutdown(context));
        tokio::select! {
            biased;
            ended = next => break ended,
            _ = closing.wait_for(|closing| *closing), if !told => {
                told = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let edge = connection.into_parts().io.into_inner();
    if let Err(why) = edge.end(ended.err()).await {
        tracing::debug!(%why, "a connection ended");
    }
}

/// The smallest buffer that hyper takes.
const MIN_BUFFER_BYTES: usize = 8 * 1024;

async fn serve_http2<S>(worker: Rc<Worker>, stream: S, from: Connection, mut closing: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let header_bytes_max = u32::try_from(worker.gateway.header_bytes_max).unwrap_or(u32::MAX);
    let service = service_fn(move |request| pipeline::serve(Rc::clone(&worker), request, from));
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.timer(TokioTimer::new()).max_header_list_size(header_bytes_max).max_concurrent_streams(256);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        _ = closing.wait_for(|closing| *closing) => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(why) = ended {
        tracing::debug!(%why, "a connection ended");
    }
}

/// Runs the tasks of a connection on its worker's thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// The command line's way in: whoever may open the socket file is an operator.
struct AdminSocket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

/// Calls are served without it, too.
fn open_admin(path: PathBuf) -> Option<AdminSocket> {
    // Left over from a process that was killed; the data directory's lock says that it is gone.
    let _none = std::fs::remove_file(&path);
    match bind_private(&path) {
        Ok(listener) => Some(AdminSocket { listener, path }),
        Err(why) => {
            tracing::error!(%why, path = %path.display(), "the admin socket cannot be opened");
            None
        }
    }
}

async fn serve_admin(worker: Rc<Worker>, socket: AdminSocket, mut closing: watch::Receiver<bool>) {
    let AdminSocket { listener, path } = socket;
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(why) => return tracing::error!(%why, "the admin socket cannot be served"),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let router = worker.gateway.router.clone();
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(crate::api::Principal::machine("local"));
            tower::ServiceExt::oneshot(router.clone(), request)
        });
        tokio::task::spawn_local(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(why) = connection.await {
                tracing::debug!(%why, "a connection of the admin socket ended");
            }
        });
    }
    let _gone = std::fs::remove_file(&path);
}

fn bind_private(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
