//! What the kernel says of processes and of the machine: CPU time, memory, cores.
//!
//! Promises: CPU time is that of a process, its threads and its children, in nanoseconds, from
//! the scheduler's own books. Never: it starts no process and ends none.

use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;

/// Ticks per second in /proc/PID/stat. Linux shows 100 to programs on every platform (USER_HZ).
const TICK_NS: u64 = 10_000_000;

/// CPU time used so far.
#[derive(Debug, Default)]
pub struct CpuSample {
    /// Nanoseconds on the CPU by process and thread.
    tasks: BTreeMap<(u32, u32), u64>,
    /// The same by process in ticks; threads that have ended still count here.
    ticks: u64,
}

impl CpuSample {
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut sample = Self::default();
        for process in tree(pid) {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
            sample.ticks += ticks(&stat);
            for task in tasks(process) {
                // A thread may end between the listing and the reading.
                let Ok(text) = std::fs::read_to_string(format!("/proc/{process}/task/{task}/schedstat"))
                else {
                    continue;
                };
                sample.tasks.insert((process, task), first_number(&text));
            }
        }
        Ok(sample)
    }

    /// All that the process has used so far, its threads that have ended included, in ticks of 10 ms.
    pub fn whole_ns(&self) -> u64 {
        self.ticks * TICK_NS
    }

    /// Nanoseconds from `before` to `self`. Exact while no thread has ended in between, else
    /// counted in ticks of 10 ms.
    pub fn since(&self, before: &Self) -> u64 {
        if before.tasks.keys().all(|task| self.tasks.contains_key(task)) {
            let used =
                |(task, ns): (_, &u64)| ns.saturating_sub(before.tasks.get(task).copied().unwrap_or(0));
            self.tasks.iter().map(used).sum()
        } else {
            self.ticks.saturating_sub(before.ticks) * TICK_NS
        }
    }
}

/// utime + stime; the name before them may hold blanks and brackets, but ends at the last `)`.
fn ticks(stat: &str) -> u64 {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn first_number(text: &str) -> u64 {
    text.split_ascii_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}

fn tasks(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// A process and all that it started.
fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&process) = all.get(next) {
        next += 1;
        for task in tasks(process) {
            let path = format!("/proc/{process}/task/{task}/children");
            let children = std::fs::read_to_string(path).unwrap_or_default();
            all.extend(children.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
    }
    all
}

/// Memory of a process and its children in KiB.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Memory {
    pub rss_kib: u64,
    /// The most that it ever was.
    pub peak_kib: u64,
}

impl Memory {
    pub fn of(pid: u32) -> Self {
        let mut sum = Self::default();
        for process in tree(pid) {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            sum.rss_kib += field(&status, "VmRSS:");
            sum.peak_kib += field(&status, "VmHWM:");
        }
        sum
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, first_number)
}

/// Whether this process may name another user for its children.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Uid:").is_some_and(|rest| first_number(rest) == 0))
}

/// Busy time of all cores so far, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct MachineBusy {
    pub busy_ns: u64,
    /// Taken away by the hypervisor.
    pub stolen_ns: u64,
}

impl MachineBusy {
    pub fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        // user nice system idle iowait irq softirq steal
        let ticks: Vec<u64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        let of = |fields: &[usize]| fields.iter().filter_map(|&i| ticks.get(i)).sum::<u64>() * TICK_NS;
        Self { busy_ns: of(&[0, 1, 2, 5, 6]), stolen_ns: of(&[7]) }
    }
}

/// The line that every result carries: figures mean nothing without it.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub nginx: String,
    pub tallygate: String,
}

impl Machine {
    pub fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: model.map_or_else(|| "unknown".into(), |(_, name)| name.to_owned()),
            cores: cores(),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal:") / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            nginx: nginx_version(),
            tallygate: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

fn nginx_version() -> String {
    let Ok(output) = Command::new("nginx").arg("-v").output() else { return "not installed".into() };
    // It speaks on standard error: `nginx version: nginx/1.22.1`.
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.rsplit('/').next().unwrap_or_default().trim().to_owned()
}

/// `taskset` in front of a command keeps what it starts on one core; empty where there is just one.
pub fn pinned(core: usize, program: &Path) -> Command {
    if cores() < 2 {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

/// Keeps this process on one core, where there are several.
pub fn pin_self(core: usize) -> io::Result<()> {
    if cores() < 2 {
        return Ok(());
    }
    let pid = std::process::id().to_string();
    let output = Command::new("taskset").args(["-apc", &core.to_string(), &pid]).output()?;
    if output.status.success() { Ok(()) } else { Err(io::Error::other("taskset cannot pin this process")) }
}

/// Cores of the machine, whatever this process is pinned to.
fn cores() -> usize {
    let online = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    online.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// Puts this session before the other work of the machine, if it is allowed to.
pub fn before_others() -> io::Result<()> {
    std::fs::write("/proc/self/autogroup", "-19")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_behind_a_name_with_brackets() {
        let stat = "12 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 50 7 7 20 0";
        assert_eq!(ticks(stat), 300);
    }

    #[test]
    fn work_of_this_process_shows_in_its_sample() {
        let pid = std::process::id();
        let before = CpuSample::of(pid).expect("a sample");
        let start = std::time::Instant::now();
        let mut n = 0u64;
        while start.elapsed().as_millis() < 30 {
            n = std::hint::black_box(n.wrapping_mul(31).wrapping_add(1));
        }
        let used = CpuSample::of(pid).expect("a sample").since(&before);
        assert!(used > 0, "{used}");
        assert!(Memory::of(pid).rss_kib > 100);
    }

    #[test]
    fn an_ended_thread_falls_back_to_ticks() {
        let before = CpuSample { tasks: BTreeMap::from([((1, 1), 5), ((1, 2), 9)]), ticks: 3 };
        let after = CpuSample { tasks: BTreeMap::from([((1, 1), 7)]), ticks: 5 };
        assert_eq!(after.since(&before), 2 * TICK_NS);
        let after = CpuSample { tasks: BTreeMap::from([((1, 1), 7), ((1, 2), 10), ((1, 3), 4)]), ticks: 5 };
        assert_eq!(after.since(&before), 7);
    }
}
