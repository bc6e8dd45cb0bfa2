//! `reconcile`: the books beside what payment providers and upstreams say.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::objects::put;
use super::watch::{self, Long};
use super::{Context, Done, Exit, Failure};

/// Without a subcommand: compare everything; exit 1 if there are differences.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Read the journal from its first batch on.
    #[arg(long)]
    full: bool,
    /// Begin anew, not where the last comparison was interrupted.
    #[arg(long)]
    anew: bool,
    #[command(subcommand)]
    command: Option<Reconcile>,
}

#[derive(Debug, Subcommand)]
pub enum Reconcile {
    /// Import a payment provider's statement or an upstream's bill.
    Import(ImportArgs),
    /// Formats that are known.
    Formats,
    /// Files that were imported.
    Imports,
    /// Differences.
    Cases {
        /// open, closed or gone.
        #[arg(long, default_value = "open")]
        state: String,
        #[arg(long)]
        kind: Option<String>,
        #[arg(long)]
        source: Option<String>,
    },
    /// One difference with both sides' rows.
    Show { case: String },
    /// Make the corrections that a case proposes; posted, they close it.
    Correct {
        case: String,
        /// Why; stays with the corrections and the case.
        #[arg(long)]
        reason: String,
    },
    /// Close a case.
    Close {
        case: String,
        /// What was found and done.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Name of a known format (`reconcile formats`), or a file with a mapping (*.toml).
    format: String,
    file: PathBuf,
    /// The provider, or the channels by id with commas.
    #[arg(long)]
    scope: Option<String>,
    /// The time that the file covers, such as 2026-11-01T00:00:00Z.
    #[arg(long)]
    from: Option<String>,
    #[arg(long)]
    until: Option<String>,
}

const CASES: &[(&str, &str)] = &[
    ("ID", "id"),
    ("KIND", "kind"),
    ("SOURCE", "source"),
    ("SUBJECT", "subject"),
    ("STATE", "state"),
    ("CAUSE", "cause"),
];
const IMPORTS: &[(&str, &str)] = &[
    ("ID", "id"),
    ("FORMAT", "format"),
    ("SCOPE", "scope"),
    ("FILE", "file"),
    ("ROWS", "rows"),
    ("KNOWN", "rows_known"),
    ("FROM", "from"),
    ("UNTIL", "until"),
];
const FORMATS: &[(&str, &str)] = &[("NAME", "name"), ("SIDE", "side"), ("JOIN", "join"), ("ABOUT", "about")];

pub fn reconcile(context: &mut Context, args: ReconcileArgs) -> Done {
    match args.command {
        None => compare(context, &json!({"full": args.full, "anew": args.anew})),
        Some(Reconcile::Import(import)) => import_file(context, &import),
        Some(Reconcile::Formats) => list(context, "/api/reconcile/formats?limit=1000", FORMATS),
        Some(Reconcile::Imports) => list(context, "/api/reconcile/imports?limit=1000", IMPORTS),
        Some(Reconcile::Cases { state, kind, source }) => {
            let mut path =
                format!("/api/reconcile/cases?limit=1000&state={}", super::objects::escaped(&state));
            for (name, value) in [("kind", kind), ("source", source)] {
                if let Some(value) = value {
                    path += &format!("&{name}={}", super::objects::escaped(&value));
                }
            }
            list(context, &path, CASES)
        }
        Some(Reconcile::Show { case }) => {
            let case = context.client()?.get(&format!("/api/reconcile/cases/{case}"))?;
            show_case(context, &case)
        }
        Some(Reconcile::Correct { case, reason }) => {
            let path = format!("/api/reconcile/cases/{case}/correct");
            let case = context.client()?.post(&path, &json!({"reason": reason}))?;
            show_case(context, &case)
        }
        Some(Reconcile::Close { case, reason }) => {
            let path = format!("/api/reconcile/cases/{case}/close");
            let case = context.client()?.post(&path, &json!({"reason": reason}))?;
            show_case(context, &case)
        }
    }
}

/// A case, and for people what to do next.
fn show_case(context: &mut Context, case: &Value) -> Done {
    show(context, case)?;
    match next_step(case).filter(|_| !context.json) {
        Some(step) => context.out.text(&format!("\nnext: {step}")),
        None => Ok(Exit::Fine),
    }
}

fn next_step(case: &Value) -> Option<String> {
    if case["state"] != "open" {
        return None;
    }
    let id = case["id"].as_str()?;
    let made = case["corrections"].as_array()?;
    if let Some(waiting) =
        made.iter().find(|made| made["state"] == "pending").and_then(|made| made["id"].as_str())
    {
        return Some(format!("another person: tallygate corrections approve {waiting} --reason …"));
    }
    if case["entries"].as_array().is_some_and(|entries| !entries.is_empty()) {
        return Some(format!("tallygate reconcile correct {id} --reason …"));
    }
    let order = case["proposal"]["order"].as_str().filter(|order| order.starts_with("ord_"));
    Some(match (case["proposal"]["action"].as_str()?, order) {
        ("complete_order", Some(order)) => format!("tallygate orders complete {order} --reason …"),
        ("look_at_books", _) => "tallygate verify --full".to_owned(),
        _ => format!("once it is looked into: tallygate reconcile close {id} --reason …"),
    })
}

fn show(context: &mut Context, value: &Value) -> Done {
    if context.json { context.out.json(value) } else { context.out.object(value) }
}

fn list(context: &mut Context, path: &str, columns: &[(&str, &str)]) -> Done {
    let client = context.client()?;
    let mut page = client.get(path)?;
    while let Some(cursor) = page["next_cursor"].as_str() {
        let mut next = client.get(&format!("{path}&cursor={cursor}"))?;
        if let (Some(all), Some(more)) = (page["data"].as_array_mut(), next["data"].as_array_mut()) {
            all.append(more);
        }
        page["next_cursor"] = next["next_cursor"].take();
    }
    match context.json {
        true => context.out.json(&page),
        false => context.out.table(page["data"].as_array().map_or(&[][..], Vec::as_slice), columns),
    }
}

fn compare(context: &mut Context, asked: &Value) -> Done {
    let client = context.client()?;
    let long = Long {
        path: "/api/reconcile",
        standing: "/api/reconcile",
        what: "reconcile",
        then: "the next run goes on from there",
    };
    let report = watch::run(context, &client, &long, asked)?;
    show(context, &report)?;
    Ok(match (report["clean"] == true, report["stopped"] == true) {
        (false, _) => Exit::No,
        (true, true) => Exit::Unanswered,
        (true, false) => Exit::Fine,
    })
}

fn import_file(context: &mut Context, args: &ImportArgs) -> Done {
    let client = context.client()?;
    // The server may stand elsewhere in the tree of folders.
    let path = std::fs::canonicalize(&args.file)
        .map_err(|why| Failure::usage(format!("{}: {why}", args.file.display())))?;
    let mut body = Map::new();
    if args.format.ends_with(".toml") {
        let mapping = std::fs::read_to_string(&args.format)
            .map_err(|why| Failure::usage(format!("{}: {why}", args.format)))?;
        put(&mut body, "mapping", Some(mapping));
    } else {
        put(&mut body, "format", Some(args.format.as_str()));
    }
    put(&mut body, "path", Some(path.to_string_lossy().into_owned()));
    put(&mut body, "scope", args.scope.as_deref());
    put(&mut body, "from", args.from.as_deref());
    put(&mut body, "until", args.until.as_deref());
    let long = Long {
        path: "/api/reconcile/imports",
        standing: "/api/reconcile",
        what: "import",
        then: "nothing of the file is kept",
    };
    let report = watch::run(context, &client, &long, &Value::Object(body))?;
    if let Some(reason) = report["refused"]["reason"].as_str() {
        if context.json {
            context.out.json(&report)?;
        }
        return Err(Failure { exit: Exit::No, text: format!("{}: {reason}", args.file.display()) });
    }
    match report["import"].is_object() {
        true => show(context, &report["import"]),
        false => Err(Failure::unanswered("stopped; nothing was imported")),
    }
}
