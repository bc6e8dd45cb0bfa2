//! The command line: the same answers with and without a server, and exit codes that scripts can rely on.

use std::ffi::OsString;
use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tallygate::cli::{self, Exit, Output};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.exit, Exit::Fine, "{}", self.err);
        serde_json::from_str(&self.out).unwrap()
    }
}

/// Runs a command line as a shell would split it at blanks.
fn run(dir: &tempfile::TempDir, line: &str) -> Ran {
    let mut args: Vec<OsString> = vec!["tallygate".into(), "--data".into(), dir.path().into()];
    args.extend(line.split_whitespace().map(OsString::from));
    run_args(args)
}

fn run_args(args: Vec<OsString>) -> Ran {
    let (out, err) = (Buffer::default(), Buffer::default());
    let exit = cli::run(args, Output::new(Box::new(out.clone()), Box::new(err.clone())));
    let text = |buffer: Buffer| String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    Ran { exit, out: text(out), err: text(err) }
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_gateway_is_set_up_from_nothing_by_commands() {
    let dir = dir();
    let account = run(&dir, "--json accounts create --name Ann --email ann@example.com").json();
    run(&dir, "models create m --output-tokens-max 100").json_free();
    run(&dir, "prices add m --input 1.5 --output 3 --cache-read 0.15").json_free();
    run(&dir, "groups create half --multiplier 0.5").json_free();
    let credit =
        run(&dir, "--json credit ann@example.com 5.00 --reference transfer-1 --reason transfer").json();
    assert_eq!((&credit["amount"], &credit["replayed"]), (&"5".into(), &false.into()));
    let again =
        run(&dir, "--json credit ann@example.com 5.00 --reference transfer-1 --reason transfer").json();
    assert_eq!(again["replayed"], true);
    let key = run(
        &dir,
        "--json keys create ann@example.com --name app --group half --limit day=2 --limit-origin owner",
    )
    .json();
    assert_eq!(key["account"], account["id"]);
    assert_eq!((&key["limits"][0]["value"], &key["limits"][0]["source"]), (&"2".into(), &"owner".into()));
    let balance = run(&dir, "--json accounts balance ann@example.com").json();
    assert_eq!(balance["available"], "5");
    let table = run(&dir, "keys list").out;
    assert!(table.contains("LIMITS") && table.contains("day 2"), "{table}");
    assert!(!table.contains(key["key"].as_str().unwrap()), "{table}");
    let revoked = run(&dir, &format!("--json keys revoke {}", key["id"].as_str().unwrap())).json();
    assert_eq!(revoked["status"], "revoked");
    assert_eq!(run(&dir, "--json verify").json()["clean"], true);
    assert_eq!(run(&dir, "logs tail").out, "");
}

impl Ran {
    #[track_caller]
    fn json_free(&self) {
        assert_eq!(self.exit, Exit::Fine, "{}", self.err);
    }
}

#[test]
fn exit_codes_tell_no_from_wrong_usage_from_no_answer() {
    let dir = dir();
    run(&dir, "accounts create --name Ann --email ann@example.com").json_free();
    let cases = [
        ("accounts show acc_0000000000000", Exit::No),
        ("accounts show nobody@example.com", Exit::No),
        ("accounts create --name Ann --email ann@example.com", Exit::No),
        ("why req_00000000000000000000000000", Exit::No),
        ("receipt nonsense", Exit::No),
        ("accounts create --name Bob --time-zone Mars/Olympus", Exit::Usage),
        ("accounts edit ann@example.com", Exit::Usage),
        ("accounts edit ann@example.com --remark x --if-version 99", Exit::No),
        ("accounts list --colour", Exit::Usage),
        ("keys create ann@example.com --name k --limit 5", Exit::Usage),
        ("prices add none --input 1 --output 1", Exit::Usage),
        ("nonsense", Exit::Usage),
        ("--help", Exit::Fine),
        ("accounts list", Exit::Fine),
    ];
    for (line, exit) in cases {
        let ran = run(&dir, line);
        assert_eq!(ran.exit, exit, "{line}: {} {}", ran.out, ran.err);
    }
    let lost =
        run_args(["tallygate", "--data", "/proc/nowhere", "accounts", "list"].map(OsString::from).to_vec());
    assert_eq!(lost.exit, Exit::Unanswered, "{}", lost.err);
}

#[test]
fn a_wrong_setting_is_wrong_usage_and_names_its_place() {
    let dir = dir();
    let file = dir.path().join("tallygate.toml");
    std::fs::write(&file, "[server]\nlisten = \"nowhere\"\n").unwrap();
    let args = ["tallygate".into(), "--config".into(), file.into_os_string(), "config".into(), "show".into()];
    let ran = run_args(args.to_vec());
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("tallygate.toml:2"), "{}", ran.err);
    let args =
        ["tallygate".into(), "--config".into(), dir.path().join("tallygate.toml").into(), "doctor".into()];
    let ran = run_args(args.into_iter().chain(["config".into()]).collect());
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.out.contains("tallygate.toml:2"), "{}", ran.out);
}

#[test]
fn the_configuration_is_printed_without_its_secrets() {
    let dir = dir();
    let file = dir.path().join("tallygate.toml");
    std::fs::write(&file, "[admin]\ntoken = \"a-very-secret-token\"\n").unwrap();
    let args = ["tallygate".into(), "--config".into(), file.into_os_string(), "config".into(), "show".into()];
    let ran = run_args(args.to_vec());
    assert!(ran.out.contains("[hidden]") && !ran.out.contains("a-very-secret-token"), "{}", ran.out);
}

/// S32 and S33 offline: the damage is named, the key is not.
#[test]
fn s33_the_doctor_names_the_damage_and_not_the_key() {
    let whole = "tg-test-00000000000000000000000000000000000000002in2Dx";
    let examine =
        |text: &str| run_args(["tallygate", "--json", "doctor", "key", text].map(OsString::from).to_vec());
    let intact = examine(whole);
    assert_eq!(intact.json()["form"], "intact");
    let cut = examine(&whole[..50]);
    assert_eq!(cut.exit, Exit::No);
    let finding: Value = serde_json::from_str(&cut.out).unwrap();
    assert_eq!(finding["class"], "truncated");
    assert!(finding["problem"].as_str().unwrap().contains("50"), "{finding}");
    let invisible = examine(&format!("{whole}\u{200b}"));
    let finding: Value = serde_json::from_str(&invisible.out).unwrap();
    assert_eq!((&finding["code_point"], &finding["position"]), (&"U+200B".into(), &54.into()));
    for ran in [cut, invisible] {
        assert!(!ran.out.contains(&whole[8..30]) && !ran.err.contains(&whole[8..30]), "{}", ran.out);
    }
}

#[test]
fn the_doctor_asks_the_directory_whether_a_call_would_pass() {
    let dir = dir();
    run(&dir, "accounts create --name Ann --email ann@example.com").json_free();
    run(&dir, "models create m").json_free();
    run(&dir, "prices add m --input 1 --output 2").json_free();
    let key = run(&dir, "--json keys create ann@example.com --name app").json();
    let ask = format!("--json doctor key {}", key["key"].as_str().unwrap());
    let poor = run(&dir, &ask);
    assert_eq!(poor.exit, Exit::No);
    let findings: Value = serde_json::from_str(&poor.out).unwrap();
    assert_eq!((&findings["would_pass"], &findings["key"]["usable_now"]), (&false.into(), &"0".into()));
    run(&dir, "credit ann@example.com 1 --reference r --reason r").json_free();
    let unserved = run(&dir, &ask);
    assert!(unserved.exit == Exit::No && unserved.out.contains("No channel"), "{}", unserved.out);
    // Any variable that is set can stand for a credential.
    run(&dir, "channels create --name c --base-url http://127.0.0.1:9/v1 --model m --credential-env PATH")
        .json_free();
    assert_eq!(run(&dir, &ask).json()["would_pass"], true);
}

/// D4: endpoints are made and the outbox is read by commands; the secret comes from the environment and is not shown.
#[test]
fn d4_notice_endpoints_are_managed_by_commands() {
    let dir = dir();
    run(&dir, "accounts create --name Ann --email ann@example.com").json_free();
    let make = "--json notice-endpoints create --account ann@example.com --name mail --address ann@example.com \
                --language zh --event key_frozen --event low_balance";
    let made = run(&dir, make).json();
    assert_eq!((&made["channel"], &made["language"]), (&"mail".into(), &"zh".into()));
    let id = made["id"].as_str().unwrap();
    let hook = "--json notice-endpoints create --name hook --url https://hooks.example/x --secret-env NO_SUCH_VARIABLE";
    assert_eq!(run(&dir, hook).exit, Exit::Usage);
    let edited =
        run(&dir, &format!("--json notice-endpoints edit {id} --all-events --status disabled")).json();
    assert_eq!((&edited["events"], &edited["status"]), (&serde_json::json!([]), &"disabled".into()));
    let table = run(&dir, "notice-endpoints list --account ann@example.com").out;
    assert!(table.contains("CHANNEL") && table.contains("ann@example.com"), "{table}");
    assert_eq!(run(&dir, "--json notice-endpoints list --account operator").json(), serde_json::json!([]));
    assert_eq!(
        run(&dir, "--json notices list --account ann@example.com --state dead").json(),
        serde_json::json!([])
    );
    assert_eq!(run(&dir, "notices retry ntc_0000000000000").exit, Exit::No);
    assert_eq!(run(&dir, "notices list --event nonsense").exit, Exit::Usage);
}

/// Without a server the command holds the data directory itself, once.
#[test]
fn every_list_can_be_read_without_a_server() {
    let dir = dir();
    run(&dir, "accounts create --name Ann --email ann@example.com").json_free();
    for noun in ["policies", "projects", "members", "notice-endpoints", "notices"] {
        run(&dir, &format!("{noun} list")).json_free();
        run(&dir, &format!("{noun} list --account ann@example.com")).json_free();
    }
    for show in [
        "policies show pol_0000000000000",
        "projects show prj_0000000000000",
        "members show mem_0000000000000",
    ] {
        assert_eq!(run(&dir, show).exit, Exit::No, "{show}");
    }
}

/// Operators and tokens by command: the token is printed once, and is not in any list.
#[test]
fn operators_and_their_tokens_are_made_by_commands() {
    let dir = dir();
    let made = run(&dir, "--json operators create --name Ann --role support --email ann@example.com").json();
    let id = made["id"].as_str().unwrap().to_owned();
    let token = run(&dir, &format!("--json operators token {id} --expires-at 2999-01-01T00:00:00Z")).json();
    let text = token["token"].as_str().unwrap();
    assert!(text.starts_with("tg-operator-") && text.len() > 60, "{text}");
    let changed = run(&dir, &format!("--json operators edit {id} --role auditor")).json();
    assert_eq!(
        (&changed["role"], &changed["token"]["expires_at"]),
        (&"auditor".into(), &"2999-01-01T00:00:00Z".into())
    );
    let listed = run(&dir, "operators list");
    assert!(listed.out.contains("auditor") && !listed.out.contains(text), "{}", listed.out);
    assert!(run(&dir, &format!("--json operators edit {id} --no-token")).json()["token"].is_null());
    let past = run(&dir, &format!("operators token {id} --expires-at 2020-01-01T00:00:00Z"));
    assert!(past.exit != Exit::Fine && past.err.contains("expires_at"), "{}", past.err);
}

/// B2 by command: codes are printed once, and are no argument of any command.
#[test]
fn b2_codes_are_made_and_redeemed_by_commands() {
    let dir = dir();
    run(&dir, "accounts create --name Ann --email ann@example.com").json_free();
    let made = run(&dir, "codes create 5 --count 2 --credit-days 30 --note spring");
    assert_eq!(made.exit, Exit::Fine, "{}", made.err);
    let codes: Vec<_> = made.out.lines().filter(|line| line.starts_with("TGC-")).map(str::to_owned).collect();
    assert_eq!(codes.len(), 2, "{}", made.out);
    let variable = "TALLYGATE_TEST_REDEMPTION_CODE";
    let redeem = |code: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tallygate"));
        command.args(["--json", "--data"]).arg(dir.path()).args(["codes", "redeem", "ann@example.com"]);
        command.args(["--code-env", variable]).env(variable, code).output().unwrap()
    };
    assert_eq!(redeem(&codes[0]).status.code(), Some(0));
    let again = redeem(&codes[0]);
    assert_eq!(again.status.code(), Some(1), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(run(&dir, "--json accounts balance ann@example.com").json()["available"], "5");
    let batches = run(&dir, "codes batches").out;
    assert!(batches.contains("spring") && batches.contains("redeemed 1"), "{batches}");
    let left = run(&dir, "--json codes list --state unused").json();
    let id = left[0]["id"].as_str().unwrap();
    run(&dir, &format!("codes disable {id} --reason misprint")).json_free();
    assert_eq!(run(&dir, &format!("--json codes show {id}")).json()["state"], "disabled");
    assert!(codes.iter().all(|code| !run(&dir, "codes list").out.contains(code.as_str())));
}

/// B6, I2, A2: statements, costs and lost top-ups by command.
#[test]
fn statements_costs_and_top_ups_by_command() {
    let dir = dir();
    run(&dir, "--json accounts create --name Ann --email ann@example.com").json();
    run(&dir, "--json credit ann@example.com 12.5 --kind purchased --reference transfer-1 --reason test")
        .json();
    let csv = run(&dir, "statement ann@example.com --format csv");
    assert_eq!(csv.exit, Exit::Fine, "{}", csv.err);
    assert!(csv.out.starts_with("record,at,family") && csv.out.contains("\r\nline,"), "{}", csv.out);
    let whole: Value =
        serde_json::from_str(&run(&dir, "statement ann@example.com --format json").out).unwrap();
    let summary = run(&dir, "--json statement ann@example.com").json();
    assert_eq!((&whole["closing"], &whole["movements"]), (&summary["closing"], &summary["movements"]));
    assert_eq!(summary["closing"]["available"], "12.5");
    assert!(run(&dir, "statement ann@example.com").out.contains("closing"));
    assert_eq!(run(&dir, "statement ann@example.com --period 2026-13").exit, Exit::Usage);
    assert_eq!(run(&dir, "statement ann@example.com --period 2026 --from 2026-01-01").exit, Exit::Usage);
    assert_eq!(run(&dir, "statement nobody@example.com").exit, Exit::No);
    let costs = run(&dir, "accounts costs ann@example.com --by month,model");
    assert!(costs.exit == Exit::Fine && costs.out.contains("total"), "{}{}", costs.out, costs.err);
    let focus = run(&dir, "accounts costs ann@example.com --format focus");
    assert!(focus.out.starts_with("BilledCost,"), "{}{}", focus.out, focus.err);
    let margins = run(&dir, "channels margins --by channel,model");
    assert!(
        margins.exit == Exit::Fine && margins.out.contains("COST FAILED"),
        "{}{}",
        margins.out,
        margins.err
    );
    assert!(run(&dir, "channels margins --format csv").out.starts_with("channel,calls,"));
    assert_eq!(run(&dir, "--json channels margins --period 2026-11").json()["total"]["margin"], "0");
    assert_eq!(run(&dir, "channels margins --by account").exit, Exit::Usage);
    let lost = run(&dir, "--json orders where ann@example.com --order ord_0000000000000");
    assert_eq!(lost.exit, Exit::No);
    assert!(lost.out.contains("not_found"), "{}{}", lost.out, lost.err);
}

/// B3 by command: who runs the machine corrects little alone, and agrees with nobody but others.
#[test]
fn b3_corrections_are_made_and_decided_by_commands() {
    let dir = dir();
    run(&dir, "accounts create --name Ann --email ann@example.com").json_free();
    let given = run(&dir, "--json corrections compensate ann@example.com 5 --reason outage").json();
    assert_eq!((&given["state"], &given["lot_kind"]), (&"posted".into(), &"granted".into()));
    let taken = run(&dir, "--json corrections adjust ann@example.com -2 --reason mistake").json();
    assert_eq!((&taken["state"], &taken["amount"]), (&"posted".into(), &"-2".into()));
    assert_eq!(run(&dir, "corrections adjust ann@example.com -9 --reason more").exit, Exit::No);
    let large = run(&dir, "--json corrections compensate ann@example.com 500 --reason outage").json();
    assert_eq!(large["state"], "pending");
    let id = large["id"].as_str().unwrap();
    assert_eq!(run(&dir, &format!("corrections approve {id} --reason mine")).exit, Exit::No);
    let rejected = run(&dir, &format!("--json corrections reject {id} --reason mine")).json();
    assert_eq!(rejected["state"], "rejected");
    assert_eq!(run(&dir, "--json corrections list --state posted").json().as_array().unwrap().len(), 2);
    assert_eq!(run(&dir, "refund req_00000000000000000000000000 --reason r").exit, Exit::Usage);
    assert_eq!(run(&dir, "refund ord_0000000000000 --reason r").exit, Exit::No);
    let balance = run(&dir, "--json accounts balance ann@example.com").json();
    assert_eq!((&balance["available"], &balance["movements"]["compensation"]), (&"3".into(), &"5".into()));
}

/// L3: the key of the file is turned and given up by commands; what a start with a lost key says leads on.
#[test]
fn l3_the_master_key_is_turned_and_renounced_by_commands() {
    let dir = dir();
    let file = dir.path().join("master.key");
    let channel = "channels create --name c --base-url http://127.0.0.1:9/v1 --model m --credential-env PATH";
    run(&dir, "models create m").json_free();
    run(&dir, channel).json_free();
    let old = std::fs::read_to_string(&file).unwrap();
    let report = run(&dir, "--json channels rotate-master-key").json();
    assert_eq!((&report["sealed_anew"], &report["old_key_forgotten"]), (&1.into(), &true.into()));
    assert_ne!(std::fs::read_to_string(&file).unwrap(), old);
    let shown = run(&dir, "--json channels master-key").json();
    assert_eq!((&shown["turn"], &shown["sealed"]["objects"]), (&Value::Null, &1.into()));
    assert_eq!(run(&dir, "channels forget-old-master-key").exit, Exit::Usage, "no turn is under way");
    assert_eq!(run(&dir, "channels renounce-master-key --yes").exit, Exit::No, "the right key is there");

    std::fs::remove_file(&file).unwrap();
    let refused = run(&dir, "channels list");
    assert_eq!(refused.exit, Exit::Unanswered);
    assert!(
        refused.err.contains("renounce-master-key") && refused.err.contains("channel \"c\""),
        "{}",
        refused.err
    );
    let asked = run(&dir, "--json channels renounce-master-key");
    assert!(asked.exit == Exit::No && asked.out.contains("\"c\""), "{}", asked.out);
    let done = run(&dir, "--json channels renounce-master-key --yes").json();
    assert_eq!((&done["done"], &done["keys_and_codes_lost"]), (&true.into(), &false.into()));
    let shown = run(&dir, "--json channels master-key");
    assert!(shown.exit == Exit::No && shown.out.contains("unreadable"), "{}", shown.out);
    run(&dir, "channels edit c --credential-env PATH").json_free();
    assert_eq!(run(&dir, "--json channels master-key").json()["unreadable"], Value::Array(Vec::new()));
}
