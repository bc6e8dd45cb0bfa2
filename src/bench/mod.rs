//! `tallygate bench`: what a call costs, beside a plain nginx and the upstream itself.
//!
//! One process plays the clients and the upstream on one core ([`rig`]); the peers take turns on
//! the other ([`peers`], [`rounds`]). What is sent is in [`workload`], what is made of it in
//! [`report`]. `bench/README.md` tells how to read the figures.
//! Promises: a figure is never shown without the machine and the command that made it, and every
//! answer was checked. Never: this part is not used by the gateway.

mod bare;
mod books;
mod gateway;
mod hist;
pub mod history;
mod http1;
mod load;
mod peers;
mod process;
mod report;
mod rig;
mod rounds;
mod table;
mod upstream;
mod workload;

use crate::clock::{Clock, SystemClock};
use peers::Peer;
use report::{IdleStreams, PeerMemory, Report};
use rig::Rig;
use rounds::{Pacing, Run};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use workload::{IDLE_STREAMS, IDLE_STREAMS_TIME};

/// Measure calls per second, CPU per call, added latency and memory beside nginx.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    part: Option<Part>,
    /// Rounds of each scenario; in each, every peer has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Milliseconds that a peer is under load in a round.
    #[arg(long, default_value_t = 3000)]
    millis: u64,
    /// Only these scenarios: whole, stream, saturated, whole_50ms, stream_50ms, unknown_key.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Write the report to FILE.json and FILE.md.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// More keys in the directory of the gateway, to see what they cost.
    #[arg(long, default_value_t = 0)]
    keys: u32,
    /// Folder for the gateway's books; on a disk, or its commits cost nothing.
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
    /// Go before the other work of the machine while measuring (needs root).
    #[arg(long)]
    boost: bool,
    /// Exit with 1 if a call went wrong or a target was missed.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Run the upstream of the benchmark alone.
    Upstream {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Make a data directory ready to be served, for a profiler or another load generator; prints the key.
    Prepare {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
        /// More keys in the directory.
        #[arg(long, default_value_t = 0)]
        keys: u32,
    },
    /// Write books with a long past, and measure how `verify` reads them.
    Verify(books::VerifyArgs),
    /// Write books and their upstream's bill, and measure how they are compared.
    Reconcile(books::ReconcileArgs),
    /// Run the bare proxy alone.
    Bare {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
}

impl BenchArgs {
    /// Whether a scenario is to be measured.
    fn measures(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// Runs the command; prints the report, as JSON if asked to.
pub fn run(args: &BenchArgs, json: bool) -> io::Result<ExitCode> {
    match &args.part {
        Some(Part::Upstream { listen }) => {
            let mut rig = Rig::listening(*listen)?;
            loop {
                rig.idle(Duration::from_secs(3600))?;
            }
        }
        Some(Part::Bare { listen, upstream }) => bare::run(*listen, *upstream).map(|()| ExitCode::SUCCESS),
        Some(Part::Verify(args)) => books::verify(args),
        Some(Part::Reconcile(args)) => books::reconcile(args),
        Some(Part::Prepare { dir, listen, upstream, keys }) => {
            let prepared = gateway::prepare(dir, *listen, *upstream, *keys)?;
            writeln!(io::stdout(), "tallygate serve --config {}", prepared.config().display())?;
            writeln!(io::stdout(), "{}", prepared.key().expose())?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let report = measure(args)?;
            show(args, json, &report)?;
            let bad = report.scenarios.iter().flat_map(|s| &s.peers).any(|peer| peer.bad > 0);
            let missed = report.targets.iter().any(|target| !target.met) || report.books_clean == Some(false);
            Ok(if args.check && (bad || missed) { ExitCode::from(1) } else { ExitCode::SUCCESS })
        }
    }
}

fn measure(args: &BenchArgs) -> io::Result<Report> {
    let dir = args.work.join(format!("tallygate-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure_in(args, &dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure_in(args: &BenchArgs, dir: &std::path::Path) -> io::Result<Report> {
    let machine = process::Machine::read();
    if args.boost {
        process::before_others()?;
    }
    process::pin_self(peers::LOAD_CORE)?;
    let mut rig = Rig::new()?;
    let prepared =
        gateway::prepare(&dir.join("tallygate"), peers::free_addr()?, rig.upstream_addr()?, args.keys)?;
    let mut peers = vec![
        Peer::nginx(&mut rig, &dir.join("nginx"))?,
        Peer::bare(&mut rig, &dir.join("bare"))?,
        prepared.start(&mut rig)?,
        Peer::direct(rig.upstream_addr()?),
    ];
    let pacing = Pacing { rounds: args.rounds.max(1), time: Duration::from_millis(args.millis.max(1)) };
    let mut scenarios = Vec::new();
    let (mut others_ns, mut runs_made) = (0, 0);
    for scenario in workload::SCENARIOS {
        if !args.measures(scenario.name) {
            continue;
        }
        progress(scenario.title)?;
        let runs: Vec<Run> = rounds::scenario(&mut rig, &peers, &scenario, &pacing)?;
        runs_made += runs.len();
        others_ns += runs.iter().map(|run| run.others_ns).sum::<u64>();
        scenarios.push(report::scenario(&scenario, &runs));
    }
    let memory: Vec<PeerMemory> = peers
        .iter()
        .filter(|peer| peer.name != "direct")
        .map(|peer| PeerMemory { peer: peer.name, idle: peer.idle, loaded: peer.memory() })
        .collect();
    let idle_streams = match args.measures(IDLE_STREAMS.name) {
        true => idle_streams(&mut rig, &peers)?,
        false => Vec::new(),
    };
    let time = pacing.time * u32::try_from(runs_made).unwrap_or(u32::MAX);
    peers.iter_mut().for_each(Peer::stop);
    let ready_ms = report::Spread::of_ms(&prepared.ready(&mut rig, pacing.rounds)?);
    let targets = report::targets(&scenarios, &memory, &idle_streams, ready_ms, "tallygate");
    Ok(Report {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        date: date(),
        others_percent: report::percent(others_ns, time, machine.cores),
        machine,
        rounds: pacing.rounds,
        seconds_per_run: pacing.time.as_secs_f64(),
        scenarios,
        memory,
        idle_streams,
        ready_ms,
        books_clean: Some(prepared.verify()?),
        targets,
    })
}

/// What each proxy needs for streams that are open and wait.
fn idle_streams(rig: &mut Rig, peers: &[Peer]) -> io::Result<Vec<IdleStreams>> {
    progress(IDLE_STREAMS.title)?;
    let proxies = peers.iter().filter(|peer| peer.name != "direct");
    proxies
        .map(|peer| {
            let load = rig.run(peer.addr, IDLE_STREAMS.plan(peer.addr, &peer.key, IDLE_STREAMS_TIME))?;
            let whole = load.last_byte.count();
            Ok(IdleStreams {
                peer: peer.name,
                whole,
                bad: load.bad,
                first_bad: load.first_bad,
                peak: peer.memory(),
            })
        })
        .collect()
}

fn date() -> String {
    jiff::Timestamp::from_millisecond(SystemClock.now_ms())
        .map_or_else(|_| String::new(), |now| now.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn progress(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "measuring: {what}")
}

fn show(args: &BenchArgs, json: bool, report: &Report) -> io::Result<()> {
    let as_json = serde_json::to_string_pretty(report).map_err(io::Error::other)?;
    let as_text = table::markdown(report);
    if let Some(out) = &args.out {
        if let Some(dir) = out.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(out.with_extension("json"), format!("{as_json}\n"))?;
        std::fs::write(out.with_extension("md"), &as_text)?;
    }
    write!(io::stdout(), "{}", if json { as_json + "\n" } else { as_text })
}
