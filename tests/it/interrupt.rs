//! Long commands on a terminal: they show how far they are, Ctrl-C ends them in order, nothing is half done, and the next run
//! goes on where the interrupted one was – by themselves and through a running server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tallygate::bench::history;
use tallygate::job::Progress;
use tallygate::reconcile::{Asked, Parts, Report, run};

use crate::on_both_backends;
use crate::statements_scale::write_month;
use crate::support::app::TestApp;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::history::Dice;
use crate::support::terminal::Terminal;

on_both_backends!(b7_a_comparison_comes_to_the_same_wherever_it_is_interrupted);

/// Movements of the books that are long to read.
const EFFECTS: u64 = 40_000;
const CLEAN_SO_FAR: Option<i32> = Some(3);

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallygate"));
    command.args(args).arg("--data").arg(folder);
    command
}

/// Exit status, and the answer as JSON.
fn answer(mut command: Command) -> (Option<i32>, Value) {
    let done = command.arg("--json").output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.code(), serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{told}")))
}

/// A line of an answer for people.
#[track_caller]
fn line<'t>(shown: &'t str, name: &str) -> &'t str {
    let line =
        shown.lines().map(str::trim_start).find_map(|line| line.strip_prefix(name)?.strip_prefix("  "));
    line.unwrap_or_else(|| panic!("no {name}: {shown}")).trim()
}

/// Books that nobody serves, with the bill of their upstream.
fn long_books() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let bill = folder.path().join("bill.csv");
    history::write_billed(&folder.path().join("data"), EFFECTS, 7, Some(&bill), &mut |_| {}).unwrap();
    (folder, bill)
}

/// Begins a command on a terminal, presses Ctrl-C once it shows this phase, and waits for its end.
#[track_caller]
fn interrupted(command: &Command, phase: &str) -> (Option<i32>, String) {
    let mut terminal = Terminal::run(command);
    terminal.wait_for(&format!("{phase:<12} ["));
    terminal.interrupt();
    let (exit, shown) = terminal.end();
    assert!(shown.contains("stopping; "), "{shown}");
    (exit, shown)
}

#[test]
fn b7_verify_is_interrupted_and_goes_on_behind_its_seal() {
    let (folder, _bill) = long_books();
    let data = folder.path().join("data");
    let (exit, shown) = interrupted(&program(&data, &["verify"]), "journal");
    assert_eq!((exit, line(&shown, "stopped")), (CLEAN_SO_FAR, "true"), "{shown}");
    let through: u64 = line(&shown, "through").parse().unwrap();
    let (exit, rest) = answer(program(&data, &["verify"]));
    assert_eq!((exit, &rest["clean"]), (Some(0), &Value::Bool(true)), "{rest:#}");
    assert_eq!(rest["from"], through + 1, "{rest:#}");
}

/// Rows of files that the store keeps, beneath the program.
fn rows_kept(data: &Path) -> i64 {
    let db = rusqlite::Connection::open(data.join("reconcile.db")).unwrap();
    db.query_row("SELECT COUNT(*) FROM reconcile_rows", [], |row| row.get(0)).unwrap()
}

#[test]
fn b7_an_import_that_is_interrupted_leaves_nothing_behind() {
    let (folder, bill) = long_books();
    let data = folder.path().join("data");
    let import = || program(&data, &["reconcile", "import", "upstream-csv", bill.to_str().unwrap()]);
    let (exit, shown) = interrupted(&import(), "importing");
    assert_eq!(exit, Some(3), "{shown}");
    assert!(shown.contains("nothing was imported"), "{shown}");
    assert_eq!(rows_kept(&data), 0);
    let (exit, imported) = answer(import());
    assert_eq!(exit, Some(0));
    assert_eq!(imported["rows"], rows_kept(&data));
}

#[test]
fn b7_a_comparison_that_is_interrupted_goes_on_where_it_was() {
    let (folder, bill) = long_books();
    let data = folder.path().join("data");
    answer(program(&data, &["reconcile", "import", "upstream-csv", bill.to_str().unwrap()]));
    // Twice while the journal is read: the second time behind the seal that the first one left. The moments between the
    // two sides are too short to be met on a terminal; the test of random moments below has them.
    let (exit, shown) = interrupted(&program(&data, &["reconcile"]), "journal");
    assert_eq!((exit, line(&shown, "goes_on")), (CLEAN_SO_FAR, "false"), "{shown}");
    let (exit, shown) = interrupted(&program(&data, &["reconcile"]), "journal");
    assert_eq!((exit, line(&shown, "goes_on")), (CLEAN_SO_FAR, "true"), "{shown}");
    let (exit, rest) = answer(program(&data, &["reconcile"]));
    assert_eq!((exit, &rest["goes_on"]), (Some(0), &Value::Bool(true)), "{rest:#}");
    // What both runs before compared is in the figures.
    let (_, whole) = answer(program(&data, &["reconcile", "--anew"]));
    assert_eq!((&whole["goes_on"], &whole["sources"]), (&Value::Bool(false), &rest["sources"]));
}

/// The same through a server, which goes on serving.
#[test]
fn b7_long_commands_of_a_server_are_interrupted_by_their_command() {
    let (_folder, bill) = long_books();
    let demo = Demo::start();
    let import = || demo.command(&["reconcile", "import", "upstream-csv", bill.to_str().unwrap()]);
    let (exit, shown) = interrupted(&import(), "importing");
    assert_eq!(exit, Some(3), "{shown}");
    assert_eq!(answer(demo.command(&["reconcile", "imports"])).1["data"], Value::Array(Vec::new()));
    let (_, imported) = answer(import());
    // Nobody here called what that upstream bills: each row is a case, once.
    let (exit, shown) = interrupted(&demo.command(&["reconcile"]), "comparing");
    assert_eq!((exit, line(&shown, "stopped")), (Some(1), "true"), "{shown}");
    let (exit, rest) = answer(demo.command(&["reconcile"]));
    assert_eq!((exit, &rest["goes_on"]), (Some(1), &Value::Bool(true)));
    assert_eq!(rest["sources"][1]["differences"]["never_admitted"], imported["rows"], "{rest:#}");
    assert_eq!(rest["open_cases"], imported["rows"]);
    demo.chat(&demo.key("healthy"), "gpt-5-mini", "Hello").ok();
}

/// A comparison whose process is killed goes on with the source that was not done.
#[test]
fn b7_a_comparison_whose_process_dies_goes_on_too() {
    let (folder, bill) = long_books();
    let data = folder.path().join("data");
    answer(program(&data, &["reconcile", "import", "upstream-csv", bill.to_str().unwrap()]));
    let mut child = program(&data, &["reconcile"]).spawn().unwrap();
    wait_until("the books are compared", || {
        let db = rusqlite::Connection::open(data.join("reconcile.db")).unwrap();
        let done = "SELECT COUNT(*) FROM reconcile_steps WHERE body LIKE '{\"done\":true%'";
        db.query_row(done, [], |row| row.get::<_, i64>(0)).is_ok_and(|done| done > 0)
            || child.try_wait().unwrap().is_some()
    });
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it ended by itself before it could be killed");
    let (exit, rest) = answer(program(&data, &["reconcile"]));
    assert_eq!((exit, &rest["goes_on"], &rest["clean"]), (Some(0), &Value::Bool(true), &Value::Bool(true)));
}

/// A month with so many charges that its statement takes a while.
const CHARGES: i64 = 150_000;

#[test]
fn b6_a_statement_that_is_interrupted_goes_on_where_it_was() {
    let app = TestApp::new();
    let account = app.account("one");
    let book = account.parse::<tallygate::id::AccountId>().unwrap().live_book();
    write_month(&app, book, CHARGES);
    let folder = app.into_folder();
    let file = folder.path().join("statement.csv");
    let export = || {
        let path = file.to_str().unwrap();
        let args = ["statement", &account, "--period", "2026-10", "--format", "csv", "--output", path];
        let mut command = program(folder.path(), &args);
        command.env("TALLYGATE_SECRETS__MASTER_KEY", "07".repeat(32));
        command
    };
    let left = || {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("statement")).collect();
        names.sort_unstable();
        names
    };
    let mut terminal = Terminal::run(&export());
    terminal.wait_for(" KiB");
    terminal.interrupt();
    let (exit, shown) = terminal.end();
    assert_eq!(exit, Some(3), "{shown}");
    assert!(shown.contains("what came is not whole; the same command goes on from there"), "{shown}");
    assert_eq!(left(), ["statement.csv.part", "statement.csv.part.note"]);
    let part = folder.path().join("statement.csv.part");
    let came = std::fs::read(&part).unwrap();
    // What a crash tore behind the note does not come to be in the file.
    std::fs::write(&part, [&*came, b"torn"].concat()).unwrap();
    assert!(export().status().unwrap().success());
    assert_eq!(left(), ["statement.csv"]);
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written.lines().filter(|line| line.starts_with("line,")).count() as i64, CHARGES);
    assert!(written.lines().last().unwrap().starts_with("closing,"));
    assert!(written.as_bytes().starts_with(&came) && !came.is_empty() && came.len() < written.len());
}

/// Compares, or goes on, until a moment or the end.
fn compare(app: &TestApp, asked: Asked, until: Option<Duration>) -> Report {
    let (app, progress) = (app.app(), Progress::default());
    let parts = Parts {
        journal: &app.journal,
        projections: &app.projections,
        directory: &app.directory,
        funding: &app.funding,
        tasks: &app.tasks,
        currency: app.currency(),
        clock: &*app.clock,
        entropy: &*app.entropy,
        folder: &app.config.store.data_dir,
        actor: "test",
        progress: &progress,
    };
    std::thread::scope(|scope| {
        if let Some(until) = until {
            let (progress, begun) = (&progress, Instant::now());
            scope.spawn(move || {
                while begun.elapsed() < until {
                    std::hint::spin_loop();
                }
                progress.stop();
            });
        }
        run::run(&app.reconcile, &parts, asked).unwrap()
    })
}

/// Calls, and a bill that has most of them by another name, some twice, and calls of nobody.
fn calls_and_a_bill(app: &TestApp) -> String {
    let account = app.account("one");
    app.credit(&account, "10");
    app.model("m");
    let (key, _) = app.key(&account, json!({}));
    let mut bill = String::new();
    for at in 0..300 {
        let request = if at < 100 { app.call(&key, "m", (10, 5)) } else { format!("nobody's {at}") };
        let time = "2026-11-22T08:00:00Z";
        for _ in 0..[1, 1, 2, 0][at % 4] {
            writeln!(
                bill,
                r#"{{"upstream_request_id": "up_{at}", "gateway_request_id": "{request}", "cost": "0.5", "time": "{time}"}}"#
            )
            .unwrap();
        }
    }
    bill
}

fn b7_a_comparison_comes_to_the_same_wherever_it_is_interrupted(backend: Backend) {
    let app = TestApp::on(backend);
    let body = json!({"format": "simulator", "content": calls_and_a_bill(&app)});
    app.post("/api/reconcile/imports", body).ok();
    wait_until("the bill is imported", || app.get("/api/reconcile").ok()["state"] == "done");
    app.app().books.flush_blocking().unwrap();
    let anew = Asked { anew: true, ..Asked::default() };
    let begun = Instant::now();
    let whole = compare(&app, anew, None);
    let patience = begun.elapsed();
    let found: u64 = whole.sources.iter().flat_map(|source| source.differences.values()).sum();
    assert!(found >= 150 && whole.sources[1].counts.matched >= 50, "{whole:#?}");
    let mut dice = Dice::new(7);
    let (mut interrupted, mut went_on) = (0, 0);
    for _ in 0..12 {
        let mut report = compare(&app, anew, Some(Duration::ZERO));
        while report.stopped {
            interrupted += 1;
            let until = Duration::from_micros(dice.below(1 + patience.as_micros() as u64));
            report = compare(&app, Asked::default(), Some(until));
            went_on += u32::from(report.goes_on);
        }
        assert_eq!(report.sources, whole.sources);
        assert_eq!(report.open_cases, whole.open_cases);
    }
    assert!(interrupted >= 12 && went_on >= 12, "{interrupted} {went_on}");
}
