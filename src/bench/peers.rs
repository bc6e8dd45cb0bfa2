//! The processes under test: nginx, the bare proxy, Tallygate – and nothing at all.
//!
//! Promises: each runs on the core given to it, on a free port of the loopback, out of a
//! directory of its own, and is ended when it is dropped. Never: it needs no root.

use super::process::{self, CpuSample, Memory};
use super::rig::Rig;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The core of the peers; the load and the upstream have the other one.
pub const PEER_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;
/// Time for a started process to come to rest before its memory is read.
pub const SETTLE: Duration = Duration::from_millis(200);
const START_LIMIT: Duration = Duration::from_secs(60);

pub struct Peer {
    pub name: &'static str,
    pub addr: SocketAddr,
    pub key: String,
    /// Whether it knows one key from another.
    pub checks_keys: bool,
    /// None for the upstream itself, which runs within this process.
    process: Option<Child>,
    pub idle: Memory,
}

impl Peer {
    /// The upstream without anything before it.
    pub fn direct(upstream: SocketAddr) -> Self {
        Self::new("direct", upstream, None)
    }

    fn new(name: &'static str, addr: SocketAddr, process: Option<Child>) -> Self {
        Self { name, addr, key: "none".into(), checks_keys: false, process, idle: Memory::default() }
    }

    pub fn nginx(rig: &mut Rig, dir: &Path) -> io::Result<Self> {
        let addr = free_addr()?;
        let user = if process::is_root() { "user root;" } else { "" };
        let config = include_str!("../../bench/nginx.conf")
            .replace("{user}", user)
            .replace("{dir}", &dir.to_string_lossy())
            .replace("{listen}", &addr.to_string())
            .replace("{upstream}", &rig.upstream_addr()?.to_string());
        std::fs::create_dir_all(dir)?;
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = process::pinned(PEER_CORE, Path::new("nginx"));
        command.arg("-p").arg(dir).arg("-c").arg(file);
        Self::start("nginx", command, addr, dir, rig, |addr| TcpStream::connect(addr).is_ok())
    }

    /// This very program as `tallygate bench bare`.
    pub fn bare(rig: &mut Rig, dir: &Path) -> io::Result<Self> {
        let addr = free_addr()?;
        let upstream = rig.upstream_addr()?.to_string();
        let mut command = process::pinned(PEER_CORE, &std::env::current_exe()?);
        command.args(["bench", "bare", "--listen", &addr.to_string(), "--upstream", &upstream]);
        Self::start("bare proxy", command, addr, dir, rig, |addr| TcpStream::connect(addr).is_ok())
    }

    /// Starts `command`, and waits until `ready` says yes, the upstream being served meanwhile.
    pub fn start(
        name: &'static str,
        mut command: Command,
        addr: SocketAddr,
        dir: &Path,
        rig: &mut Rig,
        ready: impl Fn(SocketAddr) -> bool,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let log = std::fs::File::create(dir.join("output.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|e| io::Error::other(format!("{name} does not start: {e}")))?;
        let mut peer = Self::new(name, addr, Some(child));
        let start = Instant::now();
        while !ready(addr) {
            if start.elapsed() > START_LIMIT || peer.has_ended() {
                let mut log = String::new();
                std::fs::File::open(dir.join("output.log"))?.read_to_string(&mut log)?;
                return Err(io::Error::other(format!("{name} is not ready: {}", log.trim())));
            }
            rig.idle(Duration::from_millis(1))?;
        }
        rig.idle(SETTLE)?;
        peer.idle = peer.memory();
        Ok(peer)
    }

    fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    pub fn cpu(&self) -> io::Result<CpuSample> {
        self.process.as_ref().map_or_else(|| Ok(CpuSample::default()), |child| CpuSample::of(child.id()))
    }

    pub fn memory(&self) -> Memory {
        self.process.as_ref().map_or_else(Memory::default, |child| Memory::of(child.id()))
    }

    /// Ends the process in order, and waits for its end.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.process.take() {
            terminate(child.id());
            let start = Instant::now();
            while matches!(child.try_wait(), Ok(None)) {
                if start.elapsed() > START_LIMIT {
                    // Nothing is left to be asked politely.
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn terminate(pid: u32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    #[expect(
        unsafe_code,
        reason = "std offers no signal but SIGKILL, which would leave nginx's worker behind"
    )]
    // SAFETY: kill takes two integers and touches no memory of this process.
    unsafe {
        libc::kill(pid, libc::SIGTERM);
    }
}

/// An address that was free a moment ago.
pub fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Whether `GET path` answers 200.
pub fn answers(addr: SocketAddr, path: &str) -> bool {
    let get = || -> io::Result<bool> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(&start == b"HTTP/1.1 200")
    };
    get().unwrap_or(false)
}
