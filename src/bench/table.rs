//! The report for people: plain text, in Markdown, as it is kept in `bench/results/`.

use super::report::{Latency, PeerReport, Report, Spread, Target};
use super::workload::IDLE_STREAMS;
use std::fmt::Write;

pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(report, &mut out);
    out
}

fn write_all(report: &Report, out: &mut String) -> std::fmt::Result {
    let m = &report.machine;
    writeln!(out, "# Benchmark of {}\n", report.date)?;
    writeln!(out, "- command: `{}`", report.command)?;
    writeln!(out, "- machine: {}, {} cores, {} MiB, Linux {}", m.cpu, m.cores, m.memory_mib, m.kernel)?;
    writeln!(out, "- versions: tallygate {}, nginx {}", m.tallygate, m.nginx)?;
    writeln!(
        out,
        "- {} rounds of {} s for each peer, peers in turn; other work took {:.0} % of the machine\n",
        report.rounds, report.seconds_per_run, report.others_percent
    )?;
    writeln!(out, "Figures are medians of the rounds, with the lowest and the highest in brackets.")?;
    for scenario in &report.scenarios {
        writeln!(out, "\n## {}: {}\n", scenario.name, scenario.title)?;
        writeln!(
            out,
            "| peer | CPU µs/call | × nginx | calls/s | × nginx | first byte p50, p99 ms | last byte p50, p99 ms | added p50 first, last; p99 first ms | good | bad |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|---|---|")?;
        for peer in &scenario.peers {
            writeln!(out, "{}", row(peer))?;
        }
        for peer in scenario.peers.iter().filter(|peer| peer.bad > 0) {
            writeln!(out, "\n{}: first bad call: {}", peer.peer, peer.first_bad.as_deref().unwrap_or("?"))?;
        }
    }
    writeln!(out, "\n## Memory\n\n| peer | idle MiB | after load MiB | peak MiB |\n|---|---|---|---|")?;
    for row in &report.memory {
        let (idle, loaded, peak) = (mib(row.idle.rss_kib), mib(row.loaded.rss_kib), mib(row.loaded.peak_kib));
        writeln!(out, "| {} | {idle} | {loaded} | {peak} |", row.peer)?;
    }
    if !report.idle_streams.is_empty() {
        writeln!(out, "\n## {}: {}\n", IDLE_STREAMS.name, IDLE_STREAMS.title)?;
        writeln!(out, "| peer | streams whole | bad | peak MiB |\n|---|---|---|---|")?;
        for row in &report.idle_streams {
            let peak = mib(row.peak.peak_kib);
            writeln!(out, "| {} | {} | {} | {peak} |", row.peer, row.whole, row.bad)?;
        }
        for row in report.idle_streams.iter().filter(|row| row.bad > 0) {
            writeln!(out, "\n{}: first bad call: {}", row.peer, row.first_bad.as_deref().unwrap_or("?"))?;
        }
    }
    if let Some(ready) = report.ready_ms {
        writeln!(out, "\nStart to ready on an existing database: {} ms", spread(ready, 0))?;
    }
    if let Some(clean) = report.books_clean {
        let found = if clean { "clean" } else { "NOT CLEAN" };
        writeln!(out, "\n`tallygate verify` after all calls: {found}")?;
    }
    if !report.targets.is_empty() {
        writeln!(out, "\n## Targets\n\n| what | measured | limit | goal | met |\n|---|---|---|---|---|")?;
        for target in &report.targets {
            writeln!(out, "{}", target_row(target))?;
        }
    }
    Ok(())
}

fn mib(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}

fn row(peer: &PeerReport) -> String {
    let ratio = |r: Option<Spread>| r.map_or_else(|| "–".into(), |r| spread(r, 2));
    let latency = |l: Latency| format!("{:.2}, {:.2}", l.p50_ms, l.p99_ms);
    let added = match (peer.first_byte.p50_added_to_nginx_ms, peer.last_byte.p50_added_to_nginx_ms) {
        (Some(first), Some(last)) => {
            let p99 = peer.first_byte.p99_added_to_nginx_ms.unwrap_or_default();
            format!("{first:+.2}, {last:+.2}; {p99:+.2}")
        }
        _ => "–".into(),
    };
    // The upstream without a proxy has no process of its own to be measured.
    let cpu = if peer.cpu_us_per_call.max > 0.0 { spread(peer.cpu_us_per_call, 1) } else { "–".into() };
    format!(
        "| {} | {cpu} | {} | {} | {} | {} | {} | {added} | {} | {} |",
        peer.peer,
        ratio(peer.cpu_to_nginx),
        spread(peer.calls_per_s, 0),
        ratio(peer.calls_per_s_to_nginx),
        latency(peer.first_byte),
        latency(peer.last_byte),
        peer.good,
        peer.bad
    )
}

fn spread(s: Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.min, s.max)
}

fn target_row(t: &Target) -> String {
    let sign = if t.at_most { "≤" } else { "≥" };
    let goal = t.goal.map_or_else(|| "–".into(), |goal| format!("{sign} {goal}"));
    let met = if t.met { "yes" } else { "NO" };
    format!("| {} | {:.2} {} | {sign} {} | {goal} | {met} |", t.what, t.measured, t.unit, t.limit)
}
