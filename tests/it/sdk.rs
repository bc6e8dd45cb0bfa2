//! The official OpenAI SDKs for Python and Node, unmodified (`tests/sdk`). The folder has libraries of payment
//! providers, too, for `orders_stripe` and `orders_libraries`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tallygate::demo::upstream;

/// The folder with the installed SDKs; they are installed when missing.
pub fn installed() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let into = root.join("target/sdk");
    let status = Command::new(root.join("tests/sdk/install.sh")).arg(&into).status().unwrap();
    assert!(status.success(), "tests/sdk/install.sh needs python3-venv, nodejs and npm");
    into
}

/// Runs the checks of both SDKs against a server; a failed check fails the
/// test and has said so on stderr.
pub fn check(base_url: &str, keys: &serde_json::Value, plain: bool) {
    let sdk = installed();
    let python = [
        sdk.join("venv/bin/python"),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/python/check.py"),
    ];
    let node = [PathBuf::from("node"), sdk.join("node/check.mjs")];
    for [program, script] in [python, node] {
        let status = Command::new(&program)
            .arg(&script)
            .env("BASE_URL", base_url)
            .env("KEYS", keys.to_string())
            .env("SDK_PLAIN", if plain { "1" } else { "0" })
            .status()
            .unwrap();
        assert!(status.success(), "{}", script.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_upstream_is_what_the_sdks_expect() {
    let dir = tempfile::tempdir().unwrap();
    let running = upstream::start("127.0.0.1:0".parse().unwrap(), dir.path()).await.unwrap();
    let (url, key) = (running.url(), upstream::key_in(dir.path()).unwrap());
    tokio::spawn(running.serve());
    let keys = json!({"healthy": key.expose()});
    tokio::task::spawn_blocking(move || check(&url, &keys, true)).await.unwrap();
}

/// H3: Anthropic's and Google's own SDKs, in Python and Node, reach every provider's models.
#[test]
fn h3_the_sdks_of_other_formats_reach_every_provider() {
    let sdk = installed();
    let demo = crate::support::demo::Demo::start();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/python/formats_check.py");
    let python = [sdk.join("venv/bin/python"), here];
    let node = [PathBuf::from("node"), sdk.join("node/formats_check.mjs")];
    for [program, script] in [python, node] {
        let status = Command::new(&program)
            .arg(&script)
            .env("BASE_URL", demo.ready()["base_url"].as_str().unwrap())
            .env("KEYS", demo.ready()["keys"].to_string())
            .status()
            .unwrap();
        assert!(status.success(), "{}", script.display());
    }
}

/// The demo as a process; it is asked to end when the test does, so that its
/// upstream ends with it.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let ended = Command::new("kill").arg(self.0.id().to_string()).status();
        if ended.is_ok_and(|status| status.success()) {
            let _exit = self.0.wait();
        }
    }
}

#[test]
fn s28_the_sdks_work_with_the_demo_and_never_retry_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallygate"))
        .args(["demo", "--listen", "127.0.0.1:0", "--fresh", "--ready-json", "--data"])
        .arg(dir.path().join("demo"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let _demo = Demo(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    check(ready["base_url"].as_str().unwrap(), &ready["keys"], false);
}
