//! The matrix of the README: what each client was shown to do with each provider's models. It is made of the rows that
//! the checks of `tests/sdk` write, and must be what the README says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

const BEGIN: &str = "<!-- matrix: UPDATE=1 cargo test --test it h3_s28 -->\n";
const END: &str = "<!-- end of matrix -->\n";
/// The models that stand for their providers, in the order of the columns.
const COLUMNS: [(&str, &str); 4] = [
    ("gpt-5-mini", "GPT"),
    ("claude-sonnet-4-5", "Claude"),
    ("gemini-2.5-flash", "Gemini"),
    ("deepseek-chat", "DeepSeek"),
];
/// What a chat has, in the order in which it is told.
const FEATURES: [&str; 5] = ["chat", "stream", "tools", "vision", "schema"];

/// What a check showed.
#[derive(Deserialize)]
struct Row {
    client: String,
    /// `None`: beside the chats.
    model: Option<String>,
    feature: String,
    /// `works`, or the field by whose name it was refused.
    result: String,
}

/// Of one client: its rows by model, and what else it did.
#[derive(Default)]
struct Shown {
    chats: BTreeMap<String, BTreeMap<String, String>>,
    others: Vec<String>,
}

/// The README must say what the rows do; with UPDATE=1 it is written anew.
pub fn check(root: &Path, rows: &str) {
    let path = root.join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has a place for the matrix");
    let (written, after) = rest.split_once(END).expect("the matrix of the README has an end");
    let shown = tables(rows);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{shown}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        written, shown,
        "the checks showed something else than the README says; UPDATE=1 writes it anew"
    );
}

fn tables(rows: &str) -> String {
    let mut clients: BTreeMap<String, Shown> = BTreeMap::new();
    for line in rows.lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        let client = clients.entry(row.client).or_default();
        match row.model {
            Some(model) => {
                let features = client.chats.entry(model).or_default();
                assert!(
                    features.insert(row.feature, row.result).is_none(),
                    "a feature is shown twice: {line}"
                );
            }
            None => {
                assert_eq!(row.result, "works", "{line}");
                client.others.push(row.feature);
            }
        }
    }
    let mut out = String::from("\n| client |");
    COLUMNS.iter().for_each(|(_, provider)| write!(out, " {provider} |").unwrap());
    out.push_str("\n|---|---|---|---|---|\n");
    for (name, shown) in clients.iter().filter(|(_, shown)| !shown.chats.is_empty()) {
        write!(out, "| {name} |").unwrap();
        COLUMNS.iter().for_each(|(model, _)| write!(out, " {} |", cell(&shown.chats[*model])).unwrap());
        out.push('\n');
    }
    out.push_str("\n| client | beside chats |\n|---|---|\n");
    for (name, shown) in clients.iter_mut().filter(|(_, shown)| !shown.others.is_empty()) {
        shown.others.sort();
        writeln!(out, "| {name} | {} |", shown.others.join(", ")).unwrap();
    }
    out.push('\n');
    out
}

/// `all`, or what is missing and the field that the refusal named.
fn cell(features: &BTreeMap<String, String>) -> String {
    assert!(features.len() == FEATURES.len(), "{features:?}");
    let refused = FEATURES.iter().filter(|name| features[**name] != "works");
    let named: Vec<_> = refused.map(|name| format!("{name} (`{}`)", features[*name])).collect();
    match named.is_empty() {
        true => "all".to_owned(),
        false => format!("all but {}", named.join(", ")),
    }
}

#[test]
fn a_matrix_tells_what_works_and_what_was_refused_by_which_name() {
    let mut rows = String::new();
    for (model, _) in COLUMNS {
        for feature in FEATURES {
            let result =
                if model == "deepseek-chat" && feature == "vision" { "messages[0]" } else { "works" };
            let row =
                serde_json::json!({"client": "C", "model": model, "feature": feature, "result": result});
            writeln!(rows, "{row}").unwrap();
        }
    }
    rows.push_str(r#"{"client":"C","model":null,"feature":"speech","result":"works"}"#);
    let shown = tables(&rows);
    assert!(shown.contains("| C | all | all | all | all but vision (`messages[0]`) |"), "{shown}");
    assert!(shown.contains("| C | speech |"), "{shown}");
}
