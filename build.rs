//! Reads `catalog/refusals.toml`, checks it, and writes the enums `Code` and `Phrase` with their
//! texts for `src/catalogue/`. A catalogue that contradicts itself does not build.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt::Write as _;
use std::{env, fs, path::Path};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    rung: Vec<Rung>,
    refusal: Vec<Refusal>,
    phrase: Vec<Phrase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rung {
    name: String,
    number: u8,
    title: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    en: String,
    zh: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Steps {
    en: Vec<String>,
    zh: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    code: String,
    number: u16,
    rung: String,
    status: u16,
    #[serde(rename = "type")]
    error_type: String,
    layer: String,
    fault: String,
    retryable: bool,
    state: String,
    title: Text,
    message: Text,
    numbers: Option<Text>,
    hint: Text,
    cause: Text,
    next: Steps,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Phrase {
    name: String,
    en: String,
    zh: String,
}

const SOURCE: &str = "catalog/refusals.toml";
const TYPES: &[&str] = &[
    "insufficient_funds",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "invalid_request_error",
    "upstream_error",
    "api_error",
];
const FAULTS: &[&str] = &["caller", "account", "gateway", "upstream"];
const LAYERS: &[&str] = &[
    "request",
    "key",
    "account",
    "project",
    "policy",
    "model",
    "group",
    "member",
    "organization",
    "task",
    "channel",
    "upstream",
    "gateway",
    "management",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=build.rs");
    let catalogue: Catalogue = toml::from_str(&fs::read_to_string(SOURCE)?)?;
    let faults = check(&catalogue);
    if !faults.is_empty() {
        return Err(format!("{SOURCE}:\n  {}", faults.join("\n  ")).into());
    }
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("catalogue.rs"), generate(&catalogue)?)?;
    Ok(())
}

// --- checks ---------------------------------------------------------------------------------------

/// Everything that is wrong with the catalogue, one line each.
fn check(catalogue: &Catalogue) -> Vec<String> {
    let mut faults = Vec::new();
    let rungs: HashMap<&str, &Rung> = catalogue.rung.iter().map(|rung| (rung.name.as_str(), rung)).collect();
    for rung in &catalogue.rung {
        check_text(&mut faults, &rung.name, "title", &rung.title, false);
    }
    let (mut codes, mut numbers, mut last) = (BTreeSet::new(), BTreeSet::new(), 0);
    for refusal in &catalogue.refusal {
        let code = refusal.code.as_str();
        let mut fault = |text: String| faults.push(format!("{code}: {text}"));
        if !is_name(code) || !codes.insert(code) {
            fault("the code is not a new lower-case name".into());
        }
        if !numbers.insert(refusal.number) {
            fault(format!("the number {} is taken", refusal.number));
        }
        match rungs.get(refusal.rung.as_str()) {
            None => fault(format!("there is no rung {}", refusal.rung)),
            Some(rung) => check_place(&mut fault, refusal, rung, &mut last),
        }
        for (field, value, known) in [
            ("type", &refusal.error_type, TYPES),
            ("fault", &refusal.fault, FAULTS),
            ("layer", &refusal.layer, LAYERS),
            ("state", &refusal.state, &["active", "reserved"]),
        ] {
            if !known.contains(&value.as_str()) {
                fault(format!("{field} = {value:?} is not one of {known:?}"));
            }
        }
        check_meaning(&mut fault, refusal);
        check_texts(&mut faults, refusal);
    }
    let mut names = BTreeSet::new();
    for phrase in &catalogue.phrase {
        if !is_name(&phrase.name) || !names.insert(&phrase.name) {
            faults.push(format!("phrase {}: not a new lower-case name", phrase.name));
        }
        if params(&phrase.en) != params(&phrase.zh) || phrase.en.is_empty() || phrase.zh.is_empty() {
            faults.push(format!("phrase {}: the languages differ", phrase.name));
        }
    }
    faults
}

/// The file is in the ladder's order, and a number tells its rung.
fn check_place(fault: &mut impl FnMut(String), refusal: &Refusal, rung: &Rung, last: &mut u16) {
    let hundreds = match rung.name.as_str() {
        "gateway" => 90,
        "management" => 91,
        _ => u16::from(rung.number),
    };
    if refusal.number / 100 != hundreds {
        fault(format!("the number {} does not belong to the rung {}", refusal.number, rung.name));
    }
    if hundreds < *last {
        fault("it stands behind a later rung".into());
    }
    *last = hundreds;
}

/// What a status promises must be true of the code (requirements C2 and C4).
fn check_meaning(fault: &mut impl FnMut(String), refusal: &Refusal) {
    let own_money = matches!(refusal.rung.as_str(), "budgets" | "balance");
    if (refusal.status == 402) != own_money {
        fault("402 is for the caller's own money, and only for that".into());
    }
    if (refusal.error_type == "insufficient_funds") != (refusal.status == 402) {
        fault("insufficient_funds and 402 go together".into());
    }
    let counts = matches!(refusal.rung.as_str(), "rate" | "counts");
    if (refusal.status == 429) != counts && refusal.rung != "management" {
        fault("of the ladder, 429 is for rates and counts, and only for them".into());
    }
    if matches!(refusal.fault.as_str(), "gateway" | "upstream") != (refusal.status >= 500) {
        fault("5xx is the platform's or the upstream's fault, and only theirs".into());
    }
    if !(400..600).contains(&refusal.status) {
        fault(format!("the status {} is not one of a refusal", refusal.status));
    }
}

fn check_texts(faults: &mut Vec<String>, refusal: &Refusal) {
    let code = &refusal.code;
    check_text(faults, code, "title", &refusal.title, false);
    check_text(faults, code, "message", &refusal.message, true);
    check_text(faults, code, "hint", &refusal.hint, true);
    check_text(faults, code, "cause", &refusal.cause, false);
    if let Some(numbers) = &refusal.numbers {
        check_text(faults, code, "numbers", numbers, true);
    }
    let Steps { en, zh } = &refusal.next;
    if en.is_empty() || en.len() != zh.len() {
        faults.push(format!("{code}: next has {} steps in en and {} in zh", en.len(), zh.len()));
    }
    for (en, zh) in en.iter().zip(zh) {
        check_text(faults, code, "next", &Text { en: en.clone(), zh: zh.clone() }, false);
    }
}

fn check_text(faults: &mut Vec<String>, of: &str, field: &str, text: &Text, may_have_params: bool) {
    let mut fault = |what: String| faults.push(format!("{of}: {field}: {what}"));
    let is_cjk = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
    if text.en.trim() != text.en || text.en.is_empty() || text.en.chars().any(is_cjk) {
        fault("the English text is missing, or is none".into());
    }
    if text.zh.trim() != text.zh || !text.zh.chars().any(is_cjk) {
        fault("the Chinese text is missing, or is none".into());
    }
    match (params(&text.en), params(&text.zh)) {
        (Some(en), Some(zh)) if en == zh && (may_have_params || en.is_empty()) => {}
        (Some(en), Some(zh)) => fault(format!("parameters {en:?} in en, {zh:?} in zh")),
        _ => fault("a brace is not closed, or does not hold a name".into()),
    }
}

/// The names in braces; `None` if the braces are not right.
fn params(template: &str) -> Option<BTreeSet<&str>> {
    let mut found = BTreeSet::new();
    let mut rest = template;
    while let Some(open) = rest.find(['{', '}']) {
        let (_, from) = rest.split_at(open);
        let (name, behind) = from.strip_prefix('{')?.split_once('}')?;
        if !is_name(name) {
            return None;
        }
        found.insert(name);
        rest = behind;
    }
    Some(found)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

// --- generation -----------------------------------------------------------------------------------

fn generate(catalogue: &Catalogue) -> Result<String, std::fmt::Error> {
    let mut out = String::from("// Generated by build.rs from catalog/refusals.toml.\n\n");
    let codes: Vec<_> = catalogue.refusal.iter().map(|r| (r.code.as_str(), r.title.en.as_str())).collect();
    write_enum(&mut out, "Code", "A refusal, by its stable name.", &codes)?;
    let phrases: Vec<_> = catalogue.phrase.iter().map(|p| (p.name.as_str(), p.en.as_str())).collect();
    write_enum(&mut out, "Phrase", "A small text that is put into others.", &phrases)?;

    let rungs: HashMap<&str, &Rung> = catalogue.rung.iter().map(|rung| (rung.name.as_str(), rung)).collect();
    writeln!(out, "static ENTRIES: [Entry; {}] = [", catalogue.refusal.len())?;
    for refusal in &catalogue.refusal {
        if let Some(rung) = rungs.get(refusal.rung.as_str()) {
            write_entry(&mut out, refusal, rung)?;
        }
    }
    writeln!(out, "];\n\nstatic PHRASES: [Text; {}] = [", catalogue.phrase.len())?;
    for phrase in &catalogue.phrase {
        writeln!(out, "    Text {{ en: {:?}, zh: {:?} }},", phrase.en, phrase.zh)?;
    }
    out.push_str("];\n");
    Ok(out)
}

fn write_enum(out: &mut String, name: &str, doc: &str, members: &[(&str, &str)]) -> std::fmt::Result {
    writeln!(out, "/// {doc}")?;
    writeln!(out, "#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(u16)]")?;
    writeln!(out, "pub enum {name} {{")?;
    for (member, doc) in members {
        writeln!(out, "    /// {doc}\n    {},", camel(member))?;
    }
    writeln!(out, "}}\n\nimpl {name} {{")?;
    writeln!(out, "    /// Every one, in the order of the catalogue.")?;
    writeln!(out, "    pub const ALL: [Self; {}] = [", members.len())?;
    for (member, _) in members {
        writeln!(out, "        Self::{},", camel(member))?;
    }
    writeln!(out, "    ];\n\n    /// Its stable name.")?;
    writeln!(out, "    pub const fn as_str(self) -> &'static str {{\n        match self {{")?;
    for (member, _) in members {
        writeln!(out, "            Self::{} => {member:?},", camel(member))?;
    }
    writeln!(out, "        }}\n    }}\n}}\n")
}

fn write_entry(out: &mut String, refusal: &Refusal, rung: &Rung) -> std::fmt::Result {
    let text = |text: &Text| format!("Text {{ en: {:?}, zh: {:?} }}", text.en, text.zh);
    let Refusal { number, status, error_type, layer, retryable, .. } = refusal;
    writeln!(out, "    Entry {{")?;
    writeln!(
        out,
        "        number: {number}, status: {status}, error_type: {error_type:?}, layer: {layer:?},"
    )?;
    writeln!(
        out,
        "        rung: {}, rung_name: {:?}, rung_title: {},",
        rung.number,
        rung.name,
        text(&rung.title)
    )?;
    writeln!(out, "        fault: Fault::{}, retryable: {retryable},", camel(&refusal.fault))?;
    writeln!(out, "        reserved: {},", refusal.state == "reserved")?;
    writeln!(out, "        title: {},", text(&refusal.title))?;
    writeln!(out, "        message: {},", text(&refusal.message))?;
    writeln!(
        out,
        "        numbers: {},",
        refusal.numbers.as_ref().map_or("None".into(), |n| format!("Some({})", text(n)))
    )?;
    writeln!(out, "        hint: {},", text(&refusal.hint))?;
    writeln!(out, "        cause: {},", text(&refusal.cause))?;
    writeln!(out, "        next: [&{:?}, &{:?}],", refusal.next.en, refusal.next.zh)?;
    writeln!(out, "    }},")
}

/// `model_not_found` → `ModelNotFound`.
fn camel(name: &str) -> String {
    name.split('_')
        .filter_map(|word| word.split_at_checked(1))
        .map(|(first, rest)| first.to_uppercase() + rest)
        .collect()
}
