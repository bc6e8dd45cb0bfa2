//! `tallygate bench verify` and `bench reconcile`: how long the checks of the books take, and what memory they need, on books of a stated size.
//!
//! What is measured is the command as an operator types it, as a process of its own. The figures stand beside the machine,
//! the command and the share of the machine that others had meanwhile.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::history;
use super::process::{CpuSample, Machine, MachineBusy, Memory};

/// Write books with a long past, and measure how `verify` reads them.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Movements of money in the books.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Folder for the books; on a disk.
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
    /// Write the report to FILE.json and FILE.md.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave the books there, and use those that are there.
    #[arg(long)]
    keep: bool,
}

/// One command, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub what: String,
    pub seconds_max: Option<u64>,
    pub mib_max: Option<u64>,
    pub millis: u64,
    pub cpu_millis: u64,
    pub peak_mib: u64,
    /// Time of the machine's cores that others had meanwhile.
    pub others_cpu_millis: u64,
    pub met: bool,
    /// What the command answered.
    pub answer: Value,
}

/// What a measurement of the books says.
#[derive(Debug, Serialize)]
pub struct Report {
    pub title: String,
    pub command: String,
    pub date: String,
    pub machine: Machine,
    pub about: Vec<String>,
    pub runs: Vec<Measured>,
}

pub fn verify(args: &VerifyArgs) -> io::Result<ExitCode> {
    let dir = args.work.join(format!("tallygate-history-{}", args.rows));
    let about = if args.keep && dir.join(crate::store::JOURNAL_FILE).exists() {
        "the books of an earlier measurement".to_owned()
    } else {
        let written = write_history(&dir, args.rows)?;
        format!("{} movements of {} calls in {} batches", written.effects, written.calls, written.batches)
    };
    let full = measured("verify --full", &dir, &["verify", "--full"], Some(60), Some(300))?;
    let again = measured("verify, with nothing new", &dir, &["verify"], None, None)?;
    if !args.keep {
        std::fs::remove_dir_all(&dir)?;
    }
    let report = Report::new("verify", vec![about], vec![full, again]);
    report.show(args.out.as_deref())
}

/// Write books and their upstream's bill, and measure how they are compared.
#[derive(Debug, clap::Args)]
pub struct ReconcileArgs {
    /// Rows of the bill, at the least; the books have as many attempts.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Folder for the books; on a disk.
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
    /// Write the report to FILE.json and FILE.md.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn reconcile(args: &ReconcileArgs) -> io::Result<ExitCode> {
    let dir = args.work.join(format!("tallygate-bill-{}", args.rows));
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let bill = args.work.join(format!("tallygate-bill-{}.csv", args.rows));
    // Two movements for each call, and one call in twenty is not billed.
    let written = history::write_billed(&dir, args.rows * 11 / 5, 7, Some(&bill), &mut |_| {})?;
    let size = std::fs::metadata(&bill)?.len();
    let about = format!("{} calls, and a bill of {} MiB", written.calls, size >> 20);
    let path = bill.to_string_lossy().into_owned();
    let import = ["reconcile", "import", "upstream-csv", &path];
    let import = measured("reconcile import", &dir, &import, Some(60), Some(500))?;
    let compared = measured("reconcile", &dir, &["reconcile"], Some(60), Some(500))?;
    std::fs::remove_dir_all(&dir)?;
    std::fs::remove_file(&bill)?;
    Report::new("reconcile", vec![about], vec![import, compared]).show(args.out.as_deref())
}

fn write_history(dir: &Path, rows: u64) -> io::Result<history::History> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    let mut next = 0;
    history::write(dir, rows, 7, &mut |written| {
        if written >= next {
            next += rows / 10;
            // Progress that nobody reads is no reason to stop.
            let _told = writeln!(io::stderr(), "writing the books: {written} of {rows} movements");
        }
    })
}

/// Runs the program on a data directory and watches it.
pub fn measured(
    what: &str,
    dir: &Path,
    arguments: &[&str],
    seconds_max: Option<u64>,
    mib_max: Option<u64>,
) -> io::Result<Measured> {
    writeln!(io::stderr(), "measuring: {what}")?;
    let (busy, start) = (MachineBusy::now(), Instant::now());
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--data").arg(dir).arg("--json").args(arguments).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut output = child.stdout.take();
    let answer = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(output) = &mut output {
            output.read_to_string(&mut text)?;
        }
        io::Result::Ok(text)
    });
    let (mut memory, mut cpu) = (Memory::default(), CpuSample::default());
    let status = loop {
        let now = Memory::of(child.id());
        memory.peak_kib = memory.peak_kib.max(now.peak_kib);
        cpu = CpuSample::of(child.id()).unwrap_or(cpu);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let cpu_millis = cpu.whole_ns() / 1_000_000;
    let others = (MachineBusy::now().busy_ns - busy.busy_ns) / 1_000_000;
    let text = answer.join().map_err(|_| io::Error::other("the answer was not read"))??;
    let peak_mib = memory.peak_kib.div_ceil(1024);
    let within = |value: u64, most: Option<u64>| most.is_none_or(|most| value <= most);
    Ok(Measured {
        what: what.to_owned(),
        seconds_max,
        mib_max,
        millis,
        cpu_millis,
        peak_mib,
        others_cpu_millis: others.saturating_sub(cpu_millis),
        met: status.success() && within(millis / 1_000, seconds_max) && within(peak_mib, mib_max),
        answer: serde_json::from_str(&text).unwrap_or(Value::Null),
    })
}

impl Report {
    pub fn new(title: &str, about: Vec<String>, runs: Vec<Measured>) -> Self {
        Report {
            title: title.to_owned(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            date: super::date(),
            machine: Machine::read(),
            about,
            runs,
        }
    }

    /// Prints it, and writes it to FILE.json and FILE.md.
    pub fn show(&self, out: Option<&Path>) -> io::Result<ExitCode> {
        let text = self.markdown();
        if let Some(out) = out {
            let json = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
            std::fs::write(out.with_extension("json"), json + "\n")?;
            std::fs::write(out.with_extension("md"), &text)?;
        }
        write!(io::stdout(), "{text}")?;
        Ok(if self.runs.iter().all(|run| run.met) { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a text cannot fail.
        let _ = self.write_to(&mut out);
        out
    }

    fn write_to(&self, out: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(out, "# {} on {}\n", self.title, self.date)?;
        writeln!(out, "- command: `{}`", self.command)?;
        writeln!(
            out,
            "- machine: {}, {} cores, {} MiB, Linux {}; tallygate {}",
            machine.cpu, machine.cores, machine.memory_mib, machine.kernel, machine.tallygate
        )?;
        self.about.iter().try_for_each(|line| writeln!(out, "- {line}"))?;
        writeln!(
            out,
            "\n| what | time ms | at most s | CPU ms | peak MiB | at most MiB | others' CPU ms | met |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|")?;
        for run in &self.runs {
            let most = |limit: Option<u64>| limit.map_or_else(|| "–".to_owned(), |limit| limit.to_string());
            let (seconds, mib) = (most(run.seconds_max), most(run.mib_max));
            let met = if run.met { "yes" } else { "NO" };
            let Measured { what, millis, cpu_millis, peak_mib, others_cpu_millis, .. } = run;
            writeln!(
                out,
                "| `{what}` | {millis} | {seconds} | {cpu_millis} | {peak_mib} | {mib} | {others_cpu_millis} | {met} |"
            )?;
        }
        Ok(())
    }
}
