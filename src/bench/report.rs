//! From runs to figures: medians, ranges, ratios to nginx, and the verdict on each target.
//!
//! Ratios are made round by round, of two runs that followed each other, and then the median is
//! taken: so what slowed a whole round falls out. Latencies are of all rounds together, since the
//! 99th percentile of a single round of 200 calls is one call.
//! Promises: every figure carries its range. Never: a bad call or a busy machine is not hidden.
#![expect(clippy::float_arithmetic, reason = "microseconds and ratios for people; no money is near")]

use super::hist::Histogram;
use super::process::{Machine, Memory};
use super::rounds::Run;
use super::workload::Scenario;
use serde::Serialize;
use std::time::Duration;

/// The peer that all others are compared with.
const BASE: &str = "nginx";

#[derive(Debug, Serialize)]
pub struct Report {
    /// What to type to repeat it.
    pub command: String,
    pub date: String,
    pub machine: Machine,
    pub rounds: u32,
    pub seconds_per_run: f64,
    /// Share of the machine's time that something else took during the runs, in percent.
    pub others_percent: f64,
    pub scenarios: Vec<ScenarioReport>,
    pub memory: Vec<PeerMemory>,
    pub idle_streams: Vec<IdleStreams>,
    /// From the start of the process to its first 200 on `/readyz`, on an existing database.
    pub ready_ms: Option<Spread>,
    /// Whether `verify` found the books of the gateway clean after all calls.
    pub books_clean: Option<bool>,
    pub targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
pub struct ScenarioReport {
    pub name: &'static str,
    pub title: &'static str,
    pub peers: Vec<PeerReport>,
}

#[derive(Debug, Serialize)]
pub struct PeerReport {
    pub peer: &'static str,
    pub good: u64,
    pub bad: u64,
    pub first_bad: Option<String>,
    pub cpu_us_per_call: Spread,
    pub cpu_to_nginx: Option<Spread>,
    pub calls_per_s: Spread,
    pub calls_per_s_to_nginx: Option<Spread>,
    pub first_byte: Latency,
    pub last_byte: Latency,
}

/// Milliseconds, over all rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p50_added_to_nginx_ms: Option<f64>,
    pub p99_added_to_nginx_ms: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

#[derive(Debug, Serialize)]
pub struct PeerMemory {
    pub peer: &'static str,
    pub idle: Memory,
    /// After all scenarios; its peak is the most that the process ever held.
    pub loaded: Memory,
}

/// What a proxy needs for streams that are all open at a time and wait.
#[derive(Debug, Serialize)]
pub struct IdleStreams {
    pub peer: &'static str,
    /// Streams that came to their end.
    pub whole: u64,
    pub bad: u64,
    pub first_bad: Option<String>,
    /// Its peak is the most that the process ever held.
    pub peak: Memory,
}

/// A figure that was promised.
#[derive(Debug, Serialize)]
pub struct Target {
    pub what: &'static str,
    pub unit: &'static str,
    pub at_most: bool,
    pub limit: f64,
    pub goal: Option<f64>,
    pub measured: f64,
    pub met: bool,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match (values.get(middle.saturating_sub(1)), values.get(middle)) {
            (Some(a), Some(b)) if values.len().is_multiple_of(2) => (a + b) / 2.0,
            (_, Some(b)) => *b,
            _ => min,
        };
        Some(Self { median, min, max })
    }

    /// Of durations, in milliseconds.
    pub fn of_ms(durations: &[Duration]) -> Option<Self> {
        Self::of(durations.iter().map(|duration| duration.as_secs_f64() * 1000.0))
    }

    fn or_zero(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values).unwrap_or(Self { median: 0.0, min: 0.0, max: 0.0 })
    }
}

fn cpu_us(run: &Run) -> f64 {
    run.cpu_ns as f64 / 1000.0 / run.load.good as f64
}

fn rate(run: &Run) -> f64 {
    run.load.good as f64 / run.load.elapsed.as_secs_f64()
}

pub fn scenario(scenario: &Scenario, runs: &[Run]) -> ScenarioReport {
    let mut names: Vec<&'static str> = Vec::new();
    for run in runs {
        if !names.contains(&run.peer) {
            names.push(run.peer);
        }
    }
    let of = |name: &str| -> Vec<&Run> { runs.iter().filter(|run| run.peer == name).collect() };
    let base = of(BASE);
    let peers = names.iter().map(|&name| peer(name, &of(name), &base)).collect();
    ScenarioReport { name: scenario.name, title: scenario.title, peers }
}

fn peer(name: &'static str, runs: &[&Run], base: &[&Run]) -> PeerReport {
    let ratio = |figure: fn(&Run) -> f64| {
        let pairs = runs.iter().zip(base);
        if name == BASE { None } else { Spread::of(pairs.map(|(run, base)| figure(run) / figure(base))) }
    };
    let base_for = |of: fn(&Run) -> &Histogram| (name != BASE && !base.is_empty()).then(|| merged(base, of));
    let latency = |of: fn(&Run) -> &Histogram| Latency::of(&merged(runs, of), base_for(of).as_ref());
    PeerReport {
        peer: name,
        good: runs.iter().map(|run| run.load.good).sum(),
        bad: runs.iter().map(|run| run.load.bad).sum(),
        first_bad: runs.iter().find_map(|run| run.load.first_bad.clone()),
        cpu_us_per_call: Spread::or_zero(runs.iter().map(|run| cpu_us(run))),
        cpu_to_nginx: ratio(cpu_us).filter(|r| r.max > 0.0),
        calls_per_s: Spread::or_zero(runs.iter().map(|run| rate(run))),
        calls_per_s_to_nginx: ratio(rate),
        first_byte: latency(|run| &run.load.first_byte),
        last_byte: latency(|run| &run.load.last_byte),
    }
}

fn merged(runs: &[&Run], of: fn(&Run) -> &Histogram) -> Histogram {
    let mut all = Histogram::default();
    runs.iter().for_each(|run| all.add(of(run)));
    all
}

impl Latency {
    fn of(own: &Histogram, base: Option<&Histogram>) -> Self {
        let ms = |histogram: &Histogram, per_mille| histogram.quantile_ns(per_mille) as f64 / 1e6;
        Self {
            p50_ms: ms(own, 500),
            p99_ms: ms(own, 990),
            p50_added_to_nginx_ms: base.map(|base| ms(own, 500) - ms(base, 500)),
            p99_added_to_nginx_ms: base.map(|base| ms(own, 990) - ms(base, 990)),
        }
    }
}

/// Share of the time of all cores, in percent.
pub fn percent(busy_ns: u64, wall: Duration, cores: usize) -> f64 {
    busy_ns as f64 / (wall.as_nanos() as f64 * cores as f64) * 100.0
}

/// What was promised of the gateway, beside what was measured of it.
pub fn targets(
    scenarios: &[ScenarioReport],
    memory: &[PeerMemory],
    idle_streams: &[IdleStreams],
    ready_ms: Option<Spread>,
    subject: &str,
) -> Vec<Target> {
    let peer = |scenario: &str| {
        let found = scenarios.iter().find(|s| s.name == scenario)?;
        found.peers.iter().find(|p| p.peer == subject)
    };
    let memory = memory.iter().find(|m| m.peer == subject);
    let idle_streams = idle_streams.iter().find(|streams| streams.peer == subject && streams.whole >= 5_000);
    let cpu = |scenario| peer(scenario)?.cpu_to_nginx.map(|r| r.median);
    let own_cpu = |scenario| Some(peer(scenario)?.cpu_us_per_call.median);
    let refused = own_cpu("unknown_key").zip(own_cpu("whole")).map(|(refused, admitted)| refused / admitted);
    let mib = |kib: u64| kib as f64 / 1024.0;
    let rows = [
        ("CPU per call, whole answer", "× nginx", true, 3.5, Some(2.5), cpu("whole")),
        ("CPU per refusal of an unknown key", "× an admitted call", true, 0.5, None, refused),
        ("CPU per call, streamed answer", "× nginx", true, 2.2, Some(1.8), cpu("stream")),
        (
            "calls per second on one core, 128 connections",
            "× nginx",
            false,
            0.27,
            Some(0.35),
            peer("saturated").and_then(|p| Some(p.calls_per_s_to_nginx?.median)),
        ),
        (
            "added p50 of a whole answer, upstream 50 ms",
            "ms",
            true,
            1.5,
            None,
            peer("whole_50ms").and_then(|p| p.last_byte.p50_added_to_nginx_ms),
        ),
        (
            "added p50 to the first token, upstream 50 ms",
            "ms",
            true,
            0.4,
            None,
            peer("stream_50ms").and_then(|p| p.first_byte.p50_added_to_nginx_ms),
        ),
        (
            "added p99 to the first token, 200 streams open",
            "ms",
            true,
            1.0,
            None,
            peer("streams_200").and_then(|p| p.first_byte.p99_added_to_nginx_ms),
        ),
        (
            "memory with 5,000 idle streams, peak",
            "MiB",
            true,
            300.0,
            None,
            idle_streams.map(|streams| mib(streams.peak.peak_kib)),
        ),
        ("memory idle", "MiB", true, 30.0, None, memory.map(|m| mib(m.idle.rss_kib))),
        ("memory under load, peak", "MiB", true, 80.0, None, memory.map(|m| mib(m.loaded.peak_kib))),
        ("start to ready, existing database", "ms", true, 300.0, None, ready_ms.map(|r| r.median)),
    ];
    let target = |(what, unit, at_most, limit, goal, measured): (_, _, bool, f64, _, Option<f64>)| {
        let measured = measured?;
        let met = if at_most { measured <= limit } else { measured >= limit };
        Some(Target { what, unit, at_most, limit, goal, measured, met })
    };
    rows.into_iter().filter_map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::LoadReport;

    fn run(peer: &'static str, calls: u64, cpu_us: u64, latency_ms: u64) -> Run {
        let mut load = LoadReport { good: calls, elapsed: Duration::from_secs(1), ..LoadReport::default() };
        (0..calls).for_each(|_| load.last_byte.record(latency_ms * 1_000_000));
        Run { peer, cpu_ns: calls * cpu_us * 1000, load, others_ns: 0 }
    }

    #[test]
    fn ratios_are_of_neighbours_so_that_a_slow_round_falls_out() {
        let slow_round = [run("nginx", 100, 40, 3), run("tallygate", 50, 100, 4)];
        let runs: Vec<Run> = [run("nginx", 200, 20, 3), run("tallygate", 100, 50, 4)]
            .into_iter()
            .chain(slow_round)
            .chain([run("nginx", 200, 20, 3), run("tallygate", 100, 50, 4)])
            .collect();
        let report = scenario(&crate::bench::workload::SCENARIOS[0], &runs);
        let gateway = &report.peers[1];
        let ratio = gateway.cpu_to_nginx.expect("a ratio");
        assert!((ratio.max - 2.5).abs() < 1e-9 && (ratio.min - 2.5).abs() < 1e-9, "{ratio:?}");
        let added = gateway.last_byte.p50_added_to_nginx_ms.expect("a difference");
        assert!((added - 1.0).abs() < 0.05, "{added}");

        let targets = targets(&[report], &[], &[], None, "tallygate");
        assert_eq!(targets.len(), 1, "only what was measured is judged");
        assert!(targets[0].met && targets[0].limit > 3.0);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).expect("values");
        assert!((spread.median - 2.5).abs() < 1e-9);
        assert!(Spread::of([]).is_none());
    }
}
