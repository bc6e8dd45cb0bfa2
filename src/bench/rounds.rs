//! The measuring: every peer in turn, round after round, so that a noisy minute hits them all.
//!
//! Promises: what it returns is what was seen; nothing is left out and nothing is averaged.
//! Never: it compares nothing – that is the report's part.

use super::load::LoadReport;
use super::peers::Peer;
use super::process::MachineBusy;
use super::rig::Rig;
use super::workload::Scenario;
use std::io;
use std::time::Duration;

/// One peer in one round of one scenario.
pub struct Run {
    pub peer: &'static str,
    pub cpu_ns: u64,
    pub load: LoadReport,
    /// Time that the rest of the machine took from this run.
    pub others_ns: u64,
}

pub struct Pacing {
    pub rounds: u32,
    pub time: Duration,
}

/// Time to open connections and fill caches before a scenario is measured.
const WARM_UP: Duration = Duration::from_millis(400);

pub fn scenario(rig: &mut Rig, peers: &[Peer], scenario: &Scenario, pacing: &Pacing) -> io::Result<Vec<Run>> {
    let mut runs = Vec::new();
    let peers = || peers.iter().filter(|peer| peer.checks_keys || !scenario.is_refused());
    for peer in peers() {
        rig.run(peer.addr, scenario.plan(peer.addr, &peer.key, WARM_UP))?;
    }
    for _ in 0..pacing.rounds {
        for peer in peers() {
            runs.push(run(rig, peer, scenario, pacing.time)?);
        }
    }
    Ok(runs)
}

fn run(rig: &mut Rig, peer: &Peer, scenario: &Scenario, time: Duration) -> io::Result<Run> {
    let plan = scenario.plan(peer.addr, &peer.key, time);
    let own = || super::process::CpuSample::of(std::process::id());
    let (cpu, own_cpu, busy) = (peer.cpu()?, own()?, MachineBusy::now());
    let load = rig.run(peer.addr, plan)?;
    // What follows an answer – its settlement, its row in the log – belongs to the call.
    rig.idle(Duration::from_millis(50))?;
    let cpu_ns = peer.cpu()?.since(&cpu);
    // The peers are children of this process, so its own sample counts them too.
    let known = own()?.since(&own_cpu);
    let total = MachineBusy::now();
    let others_ns = (total.busy_ns - busy.busy_ns + total.stolen_ns - busy.stolen_ns).saturating_sub(known);
    Ok(Run { peer: peer.name, cpu_ns, load, others_ns })
}
