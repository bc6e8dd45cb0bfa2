//! `doctor`: what is wrong with a key or with the configuration. A key's text is examined on this machine; with a data directory, the
//! directory and the books are asked, too.

use std::io::Read as _;

use serde_json::{Value, json};

use crate::catalogue::Language;
use crate::config::Config;
use crate::explain::{base_url, doctor};
use crate::tasks;

use super::{Context, Done, Exit, Failure, probe};

#[derive(Debug, clap::Subcommand)]
pub enum Doctor {
    /// Examine a key. Without KEY and --env it is read from the standard input.
    Key(KeyArgs),
    /// Examine a client's base URL, and ask the server behind it.
    BaseUrl(BaseUrlArgs),
    /// Check the configuration, and the storage that it names for copies of results, and print what is in effect.
    Config,
}

#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// The key. An argument is visible to other users of the machine: prefer --env or the standard input.
    #[arg(conflicts_with = "env")]
    key: Option<String>,
    /// Name of the environment variable that holds the key.
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct BaseUrlArgs {
    /// As it stands in the client.
    url: String,
    /// Look at the text alone.
    #[arg(long)]
    offline: bool,
}

pub fn run(context: &mut Context, doctor: Doctor) -> Done {
    match doctor {
        Doctor::Key(args) => key(context, &args),
        Doctor::BaseUrl(args) => base_url(context, &args),
        Doctor::Config => config(context),
    }
}

/// A configuration that cannot be used is what was asked about, so it is a finding, and so is storage for copies that
/// cannot be used.
fn config(context: &mut Context) -> Done {
    let loaded = Config::load(&context.sources);
    let copies = loaded.as_ref().ok().and_then(|config| tasks::examine_copies(&config.copies));
    let works = loaded.is_ok() && copies.as_ref().is_none_or(|found| found.works);
    let exit = if works { Exit::Fine } else { Exit::No };
    if context.json {
        let copies = copies.map(|found| json!({"to": found.to, "works": found.works, "text": found.text}));
        let problems = loaded.as_ref().err().map(ToString::to_string);
        let settings = loaded.as_ref().ok().map(Config::print_effective);
        context
            .out
            .json(&json!({"works": works, "problems": problems, "settings": settings, "copies": copies}))?;
        return Ok(exit);
    }
    match &loaded {
        Ok(config) => context.out.text(&config.print_effective())?,
        Err(problems) => context.out.text(&problems.to_string())?,
    };
    if let Some(found) = copies {
        let verdict = if found.works { "fine" } else { "at fault" };
        context.out.text(&format!("\n# [copies] {verdict}: {}", found.text))?;
    }
    Ok(exit)
}

/// The text first; then whether a gateway answers at what it should be.
fn base_url(context: &mut Context, args: &BaseUrlArgs) -> Done {
    let language = if context.language == "zh" { Language::Zh } else { Language::En };
    let found = base_url::examine(&args.url, language);
    let mut report = serde_json::to_value(&found).map_err(Failure::unanswered)?;
    let mut fine = found.problems.is_empty();
    if !args.offline {
        let answer = probe::ask(&found.right);
        fine = fine && answer.is_gateway();
        report["server"] = answer.view(language);
    }
    self::answer(context, &report, fine)
}

fn key(context: &mut Context, args: &KeyArgs) -> Done {
    let text = read(args)?;
    let language = if context.language == "zh" { Language::Zh } else { Language::En };
    let finding = doctor::text(&text, language);
    let has_data = context.sources.file.is_some() || !context.sources.flags.is_empty();
    if !has_data {
        let usable = finding.is_usable();
        let finding = serde_json::to_value(&finding).map_err(Failure::unanswered)?;
        return answer(context, &finding, usable);
    }
    // What is no text cannot be a key of the directory; its finding says why.
    let key = String::from_utf8_lossy(&text).into_owned();
    let findings = context.client()?.post("/api/doctor/key", &json!({"key": key}))?;
    let would_pass = findings["would_pass"] == true;
    answer(context, &findings, would_pass)
}

fn answer(context: &mut Context, findings: &Value, fine: bool) -> Done {
    match context.json {
        true => context.out.json(findings)?,
        false => context.out.object(findings)?,
    };
    Ok(if fine { Exit::Fine } else { Exit::No })
}

/// The key as it would be sent: of the standard input, the end of its last line is not part of it.
fn read(args: &KeyArgs) -> Result<Vec<u8>, Failure> {
    if let Some(key) = &args.key {
        return Ok(key.clone().into_bytes());
    }
    if let Some(name) = &args.env {
        let value = std::env::var_os(name).ok_or_else(|| Failure::usage(format!("{name} is not set")))?;
        return Ok(std::os::unix::ffi::OsStringExt::into_vec(value));
    }
    let mut text = Vec::new();
    std::io::stdin().take(64 << 10).read_to_end(&mut text)?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok(text)
}
