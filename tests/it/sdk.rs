//! The official SDKs for Python and Node, LangChain and the AI SDK over them, all unmodified (`tests/sdk`). The folder has
//! libraries of payment providers, too, for `orders_stripe` and `orders_libraries`.

mod matrix;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tallygate::demo::upstream;

use crate::support::demo::Demo;

/// The folder with the installed SDKs; they are installed when missing.
pub fn installed() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let into = root.join("target/sdk");
    let status = Command::new(root.join("tests/sdk/install.sh")).arg(&into).status().unwrap();
    assert!(status.success(), "tests/sdk/install.sh needs python3-venv, nodejs and npm");
    into
}

/// A script of the folder, in either language.
fn script(sdk: &Path, name: &str, node: bool) -> Command {
    let mut command = match node {
        true => Command::new("node"),
        false => Command::new(sdk.join("venv/bin/python")),
    };
    command.arg(match node {
        true => sdk.join("node").join(format!("{name}.mjs")),
        false => Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sdk/python/{name}.py")),
    });
    // Python would leave its compiled files in the tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a script against a server; a failed check fails the test and has said so on stderr.
fn run(mut command: Command, base_url: &str, keys: &serde_json::Value) {
    let status = command.env("BASE_URL", base_url).env("KEYS", keys.to_string()).status().unwrap();
    assert!(status.success(), "{command:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_upstream_is_what_the_sdks_expect() {
    let dir = tempfile::tempdir().unwrap();
    let running = upstream::start("127.0.0.1:0".parse().unwrap(), dir.path()).await.unwrap();
    let (url, key) = (running.url(), upstream::key_in(dir.path()).unwrap());
    tokio::spawn(running.serve());
    let keys = json!({"healthy": key.expose()});
    let check = move || {
        let sdk = installed();
        for node in [false, true] {
            let mut command = script(&sdk, "check", node);
            command.env("SDK_PLAIN", "1");
            run(command, &url, &keys);
        }
    };
    tokio::task::spawn_blocking(check).await.unwrap();
}

/// H1, H3, S28: the SDKs and what is built on them work unchanged with every provider's models, and never retry in
/// vain. What they showed is the matrix of the README.
#[test]
fn h3_s28_every_client_works_unchanged_and_the_readme_says_what_was_shown() {
    let sdk = installed();
    let demo = Demo::start();
    let (base_url, keys) = (demo.ready()["base_url"].as_str().unwrap(), &demo.ready()["keys"]);
    let folder = tempfile::tempdir().unwrap();
    // In each language one script after the other: the checks of a rate share a key.
    let results = ["check", "matrix"].map(|name| (name, folder.path().join(name)));
    std::thread::scope(|threads| {
        for (name, into) in &results {
            let sdk = &sdk;
            threads.spawn(move || {
                for node in [false, true] {
                    let mut command = script(sdk, name, node);
                    command.env("RESULTS", into);
                    run(command, base_url, keys);
                }
            });
        }
    });
    let rows = results.map(|(_, from)| std::fs::read_to_string(from).unwrap()).concat();
    matrix::check(Path::new(env!("CARGO_MANIFEST_DIR")), &rows);
}

/// H3, G1: `client.videos` of OpenAI's own SDKs, to its corners; pictures as tasks, and a foreign upstream, by the same.
#[test]
fn h3_g1_the_sdks_make_videos_and_pictures_as_tasks() {
    let sdk = installed();
    let demo = Demo::start();
    for node in [false, true] {
        let command = script(&sdk, "tasks_check", node);
        run(command, demo.ready()["base_url"].as_str().unwrap(), &demo.ready()["keys"]);
    }
}
