//! The durability promise of the whole gateway: no byte of an answer leaves before its hold is on disk; no
//! answer ends before its settlement is on disk. SIGKILL forgives a missing sync, so here power is cut, and
//! the system calls are watched.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::support::demo::{Demo, wait_until};
use crate::support::http::Ask;
use crate::support::load::{Audit, Dice, load};
use crate::support::powercut::PowerCut;

/// S16, S26: what a client got whole is in the log and in the ledger after a power cut, for the same cost.
#[test]
fn what_a_client_got_whole_survives_power_cuts() {
    let (mut demo, mut dice, mut audit) = (Demo::start(), Dice::new(26), Audit::default());
    let mut before = audit.round(&demo, &[]).whole;
    for round in 0..4 {
        // The upstream is a machine of its own: its power stays on, and it keeps its bill.
        demo.kill();
        // Every other round a tenth of what was not synced reaches the disk, in any order and torn.
        let power = PowerCut::over(&demo.dir(), if round % 2 == 0 { 0 } else { 100 });
        demo.launch(|mut command| {
            power.watch(&mut command);
            command
        });
        let moment = Duration::from_millis(dice.below(300));
        let seen = load(&mut demo, &mut dice, |demo, answered| {
            wait_until("there is load", || answered.load(Ordering::SeqCst) >= 20);
            std::thread::park_timeout(moment);
            demo.kill();
        });
        power.restore();
        demo.restart();
        let counts = audit.round(&demo, &seen);
        assert!(counts.whole >= before + 20, "round {round}: {counts:?}");
        assert_eq!(demo.verify()["open_holds"], 0, "round {round}");
        before = counts.whole;
    }
}

/// One thing that the gateway did, in the order in which it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Heard(Peer),
    /// `end`: the bytes tell that the answer ends.
    Told {
        port: u16,
        end: bool,
    },
    JournalWritten,
    SyncBegan,
    SyncEnded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Client(u16),
    Upstream,
}

/// Reads what strace wrote (`-f -yy`). A call that others came between stands there twice: as unfinished where
/// it began, as resumed where it ended.
fn steps(trace: &str, upstream_port: u16, clients: &[u16]) -> Vec<Step> {
    let mut begun: std::collections::HashMap<&str, &str> = std::collections::HashMap::new();
    let mut steps = Vec::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let (began, ended) = if let Some(began) = call.strip_suffix("<unfinished ...>") {
            begun.insert(thread, began);
            (Some(began), None)
        } else if call.starts_with("<... ") {
            (None, begun.remove(thread).map(|began| (began, call)))
        } else {
            (Some(call), Some((call, call)))
        };
        let port =
            |call: &str| clients.iter().copied().find(|port| call.contains(&format!("->127.0.0.1:{port}]")));
        let is = |call: &str, names: &[&str]| names.iter().any(|name| call.starts_with(&format!("{name}(")));
        let in_journal = |call: &str| call.contains("journal.db-wal>");
        if let Some(call) = began {
            if is(call, &["fsync", "fdatasync"]) && in_journal(call) {
                steps.push(Step::SyncBegan);
            }
            if let (true, Some(port)) = (is(call, &["write", "writev", "sendto", "sendmsg"]), port(call)) {
                let end = call.contains(r#"finish_reason\":\"stop\""#) || call.contains("[DONE]");
                steps.push(Step::Told { port, end });
            }
        }
        if let Some((call, result)) = ended {
            let returned = result.rsplit_once("= ").map_or("", |(_, returned)| returned);
            let some = returned.starts_with(|first: char| ('1'..='9').contains(&first));
            match () {
                () if is(call, &["fsync", "fdatasync"]) && in_journal(call) && returned == "0" => {
                    steps.push(Step::SyncEnded);
                }
                () if is(call, &["pwrite64"]) && in_journal(call) && some => steps.push(Step::JournalWritten),
                () if is(call, &["read", "readv", "recvfrom", "recvmsg"]) && some => {
                    let upstream = call.contains(&format!("->127.0.0.1:{upstream_port}]"));
                    let peer = if upstream { Some(Peer::Upstream) } else { port(call).map(Peer::Client) };
                    steps.extend(peer.map(Step::Heard));
                }
                () => {}
            }
        }
    }
    steps
}

/// Whether these steps come one after the other, with anything between them.
fn in_order(steps: &[Step], wanted: &[Step]) -> bool {
    let mut rest = steps.iter();
    wanted.iter().all(|wanted| rest.any(|step| step == wanted))
}

const COMMITTED: [Step; 3] = [Step::JournalWritten, Step::SyncBegan, Step::SyncEnded];

/// One whole answer and one stream, call by call: written and synced between request and first byte, and
/// again between the upstream's last word and ours.
#[test]
fn the_journal_is_synced_before_the_first_and_before_the_last_byte() {
    let mut demo = Demo::start();
    let key = demo.key("healthy");
    demo.kill();
    let trace = tempfile::NamedTempFile::new().unwrap();
    demo.launch(|inner| traced(&inner, trace.path()));
    let mut whole = demo.connect();
    let mut stream = demo.connect();
    let clients = [whole.local_port(), stream.local_port()];
    assert!(whole.ask(&Ask::chat(&key, "gpt-5-mini", "Hello #delay_ms=100")).unwrap().is_whole_answer());
    let streamed = stream.ask(&Ask::chat_with(&key, "demo-slow", "Hello", json!({"stream": true}))).unwrap();
    assert!(streamed.is_whole_answer());
    let upstream = demo.ready()["upstream"]["url"].as_str().unwrap();
    let upstream = upstream.trim_end_matches("/v1").rsplit_once(':').unwrap().1.parse().unwrap();
    demo.nothing_stays_held();
    demo.stop();
    let steps = steps(&std::fs::read_to_string(trace.path()).unwrap(), upstream, &clients);

    for (port, is_stream) in [(clients[0], false), (clients[1], true)] {
        let heard = steps.iter().position(|step| *step == Step::Heard(Peer::Client(port))).unwrap();
        let told = |step: &Step| matches!(step, Step::Told { port: to, .. } if *to == port);
        let first = heard + steps[heard..].iter().position(told).unwrap();
        let last =
            heard + steps[heard..].iter().position(|step| *step == Step::Told { port, end: true }).unwrap();
        let hold = &steps[heard..first];
        assert!(in_order(hold, &COMMITTED), "no sync before the first byte: {hold:?}");
        let before_last = &steps[..last];
        let answered = before_last.iter().rposition(|step| *step == Step::Heard(Peer::Upstream)).unwrap();
        let settlement = &steps[answered..last];
        assert!(in_order(settlement, &COMMITTED), "no sync before the last byte: {settlement:?}");
        assert_eq!(first < last, is_stream, "a whole answer goes out at once, a stream does not");
        assert!(answered > heard, "{steps:?}");
    }
}

/// The same command, its calls written to a file.
fn traced(inner: &Command, file: &Path) -> Command {
    let found = Command::new("strace").arg("-V").output();
    assert!(found.is_ok(), "strace is not installed: apt-get install strace (make test does it)");
    let mut command = Command::new("strace");
    command.args(["-f", "-yy", "-qq", "-s", "65536", "-e"]);
    command.arg("trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync");
    command.arg("-o").arg(file).arg("--").arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}
