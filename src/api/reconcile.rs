//! `/api/reconcile`: statements and bills of others, the comparison with the books, and its cases.

mod fields;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::App;
use crate::catalogue::{Code, Refusal};
use crate::directory::FieldError;
use crate::explain::time_text;
use crate::funding::{CorrectionTerms, provider};
use crate::hex;
use crate::id::ReconcileCaseId;
use crate::job::{Ended, Progress};
use crate::reconcile::import::{self, Content};
use crate::reconcile::{
    Asked, Case, CaseState, Format, Import, ImportError, NewImport, Parts, Report, Side, SourceReport,
    correct, entry, run,
};

use fields::{CASE, CLOSE_INPUT, CORRECT_INPUT, FORMAT, IMPORT, IMPORT_INPUT, NOTHING, RUN, RUN_INPUT};

use super::access::{self, Access, Principal};
use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::upkeep::job_view;

const REASON_BYTES_MAX: usize = 500;

const CASE_QUERY: [Param; 5] = [
    PAGE[0],
    PAGE[1],
    Param { name: "state", about: "open, closed or gone" },
    Param { name: "kind", about: "What is different" },
    Param { name: "source", about: "books, payments:<provider> or upstream:<channels>" },
];

pub static ROUTES: &[Route] = &[
    Route::get(
        "/api/reconcile",
        "getReconcile",
        "How far the comparison is, or what the last one ended with",
        &RUN,
        get,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/reconcile",
        "reconcile",
        "Compares ledger, request log and orders, and each with the files that were imported",
        &RUN_INPUT,
        &RUN,
        start,
    )
    .access(Access::MONEY_MOVES),
    Route::post(
        "/api/reconcile/stop",
        "stopReconcile",
        "Ends the comparison, which then goes on from there, or the import, of which nothing is kept",
        &NOTHING,
        &RUN,
        stop,
    )
    .access(Access::MONEY_MOVES),
    Route::list("/api/reconcile/formats", "listReconcileFormats", "Formats that are known", &FORMAT, formats)
        .access(Access::OPERATORS_READ),
    Route::list(
        "/api/reconcile/imports",
        "listReconcileImports",
        "Files that were imported, the newest first",
        &IMPORT,
        imports,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/reconcile/imports",
        "createReconcileImport",
        "Imports a statement or a bill: whole or not at all, and once",
        &IMPORT_INPUT,
        &RUN,
        create_import,
    )
    .access(Access::MONEY_MOVES),
    Route::list(
        "/api/reconcile/cases",
        "listReconcileCases",
        "Differences, the newest first",
        &CASE,
        list_cases,
    )
    .access(Access::OPERATORS_READ)
    .query(&CASE_QUERY),
    Route::get(
        "/api/reconcile/cases/{id}",
        "getReconcileCase",
        "One difference with both sides' rows",
        &CASE,
        get_case,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/reconcile/cases/{id}/correct",
        "correctReconcileCase",
        "Makes the corrections that a case proposes, with the approval that they need; posted, they close it",
        &CORRECT_INPUT,
        &CASE,
        correct_case,
    )
    .access(Access::MONEY_MOVES),
    Route::post(
        "/api/reconcile/cases/{id}/close",
        "closeReconcileCase",
        "Closes a case with a reason; it stays closed when it is seen again",
        &CLOSE_INPUT,
        &CASE,
        close_case,
    )
    .access(Access::MONEY_MOVES),
];

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::ok(job_view(&call.app.reconciling)))
}

fn start(call: &Call<'_>) -> Result<Reply, Problem> {
    let (app, actor) = (Arc::clone(call.app), call.actor());
    let told = |name: &str| call.fields().boolean(name).unwrap_or(false);
    let asked = Asked { full: told("full"), anew: told("anew") };
    begin(call, move |progress| run_all(&app, &actor, asked, progress))
}

fn stop(call: &Call<'_>) -> Result<Reply, Problem> {
    call.app.reconciling.stop();
    get(call)
}

/// Starts the work, unless other work is under way.
fn begin(call: &Call<'_>, work: impl FnOnce(&Progress) -> Ended + Send + 'static) -> Result<Reply, Problem> {
    let started = call.app.reconciling.start(work).map_err(|why| Problem::Internal(Box::new(why)))?;
    match started {
        (_, true) => get(call),
        (_, false) => Err(Refusal::new(Code::ReconcileRunning).into()),
    }
}

fn run_all(app: &App, actor: &str, asked: Asked, progress: &Progress) -> Ended {
    if app.books.flush_blocking().is_err() {
        return Ended::Failed("the books are closed".to_owned());
    }
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
        actor,
        progress,
    };
    match run::run(&app.reconcile, &parts, asked) {
        Ok(report) if report.stopped => Ended::Stopped(report_view(&report)),
        Ok(report) => Ended::Done(report_view(&report)),
        Err(error) => {
            tracing::error!(%error, "the books could not be compared");
            Ended::Failed(error.to_string())
        }
    }
}

fn report_view(report: &Report) -> Value {
    json!({
        "clean": report.sources.iter().all(|source| source.differences.is_empty()),
        "stopped": report.stopped,
        "goes_on": report.goes_on,
        "sources": report.sources.iter().map(source_view).collect::<Vec<_>>(),
        "open_cases": report.open_cases,
    })
}

fn source_view(source: &SourceReport) -> Value {
    let kinds = source.differences.iter().map(|(kind, count)| (kind.as_str().to_owned(), json!(count)));
    json!({
        "source": source.source,
        "ours": source.counts.ours,
        "theirs": source.counts.theirs,
        "matched": source.counts.matched,
        "awaited": source.counts.awaited,
        "differences": Value::Object(kinds.collect()),
        "gone": source.gone,
        "cut": source.cut,
        "stopped": source.stopped,
    })
}

fn formats(call: &Call<'_>) -> Result<Reply, Problem> {
    let _limit = call.limit()?;
    let view = |format: Format| {
        json!({
            "name": format.name,
            "about": format.about,
            "side": format.side.as_str(),
            "join": format.join.as_str(),
        })
    };
    Ok(Reply::page(Format::known().map(view).collect(), None))
}

fn imports(call: &Call<'_>) -> Result<Reply, Problem> {
    let limit = call.limit()?;
    let rows = call.app.reconcile.imports(call.query_parsed::<u64>("cursor")?, limit)?;
    let full = rows.len() as u64 == u64::from(limit);
    let next = rows.last().filter(|_| full).map(|row| row.id.raw().to_string());
    Ok(Reply::page(rows.iter().map(import_view).collect(), next))
}

fn import_view(import: &Import) -> Value {
    json!({
        "id": import.id,
        "side": import.side.as_str(),
        "scope": import.scope,
        "format": import.format,
        "join": import.join.as_str(),
        "file": import.file,
        "sha256": hex::encode(&import.sha256),
        "bytes": import.bytes,
        "rows": import.rows,
        "rows_known": import.known,
        "from": time_text(import.from_ms),
        "until": time_text(import.until_ms),
        "imported_at": time_text(import.at_ms),
        "actor": import.actor,
    })
}

fn create_import(call: &Call<'_>) -> Result<Reply, Problem> {
    let new = read_import(call)?;
    let app = Arc::clone(call.app);
    begin(call, move |progress| import_one(&app, new, progress))
}

/// What is to be imported, as far as it can be told without reading the file.
fn read_import(call: &Call<'_>) -> Result<NewImport, Problem> {
    let fields = call.fields();
    let format = match (fields.text("format"), fields.text("mapping")) {
        (Some(name), None) => Format::by_name(name)
            .ok_or_else(|| FieldError::new("format", "is none of GET /api/reconcile/formats"))?,
        (None, Some(mapping)) => {
            Format::parse(mapping).map_err(|why| FieldError::new("mapping", why.to_string()))?
        }
        _ => return Err(FieldError::new("format", "either a format or a mapping must be there").into()),
    };
    check_scope(call.app, &format, fields.text("scope"))?;
    let (content, file) = match (fields.text("content"), fields.text("path")) {
        (Some(content), None) => (Content::Bytes(content.as_bytes().to_vec()), "content"),
        (None, Some(path)) => {
            // Whoever names a file of the server's machine can learn what is in it.
            let may = call.principal.as_ref().is_some_and(|principal| Access::SUPERADMIN.includes(principal));
            let is_member = matches!(call.principal, Some(Principal::Member { .. }) | None);
            if !may || is_member {
                return Err(access::forbidden("to name a file of the server's machine"));
            }
            if !std::path::Path::new(path).is_file() {
                return Err(FieldError::new("path", "is no file").into());
            }
            (Content::Path(path.into()), path)
        }
        _ => return Err(FieldError::new("content", "either content or path must be there").into()),
    };
    let time = |name: &str| -> Result<Option<i64>, FieldError> {
        Ok(fields.parsed::<jiff::Timestamp>(name)?.map(|time| time.as_millisecond()))
    };
    let (from_ms, until_ms) = (time("from")?, time("until")?);
    if from_ms.zip(until_ms).is_some_and(|(from, until)| from > until) {
        return Err(FieldError::new("until", "is before from").into());
    }
    let name = fields.text("file").unwrap_or(file);
    Ok(NewImport {
        format,
        file: name.rsplit('/').next().unwrap_or(name).chars().take(200).collect(),
        content,
        scope: fields.text("scope").map(str::to_owned),
        from_ms,
        until_ms,
        actor: call.actor(),
    })
}

/// A scope that names nobody would make a case of each row.
fn check_scope(app: &App, format: &Format, told: Option<&str>) -> Result<(), FieldError> {
    let (field, scope) = told.map_or(("mapping", &*format.scope), |scope| ("scope", scope));
    match format.side {
        Side::Payments if !provider::NAMES.contains(&scope) => {
            let known = provider::NAMES.join(", ");
            Err(FieldError::new(field, format!("the scope \"{scope}\" is no payment provider: {known}")))
        }
        Side::Upstream if !scope.is_empty() => {
            let directory = app.directory.snapshot();
            let is_there = |id: &str| id.parse().is_ok_and(|id| directory.channel(id).is_some());
            match scope.split(',').map(str::trim).find(|id| !is_there(id)) {
                Some(id) => Err(FieldError::new(field, format!("the scope \"{id}\" is no channel's id"))),
                None => Ok(()),
            }
        }
        Side::Payments | Side::Upstream => Ok(()),
    }
}

fn import_one(app: &App, new: NewImport, progress: &Progress) -> Ended {
    let mut currencies = vec![app.currency().to_owned()];
    currencies.extend(app.funding.settings().rates.iter().map(|(currency, _)| currency.clone()));
    let by = (&*app.clock, &*app.entropy);
    match import::import(
        &app.reconcile,
        new,
        app.currency(),
        &currencies,
        by,
        &app.config.store.data_dir,
        progress,
    ) {
        Ok(imported) => Ended::Done(json!({"refused": null, "import": import_view(&imported)})),
        Err(ImportError::Stopped) => Ended::Stopped(json!({"refused": null, "import": null})),
        Err(error @ (ImportError::File(_) | ImportError::Duplicate(_))) => {
            let line = match &error {
                ImportError::File(fault) if fault.line > 0 => Some(fault.line),
                _ => None,
            };
            Ended::Done(json!({"refused": {"line": line, "reason": error.to_string()}, "import": null}))
        }
        Err(error) => {
            tracing::error!(%error, "a file could not be imported");
            Ended::Failed(error.to_string())
        }
    }
}

fn list_cases(call: &Call<'_>) -> Result<Reply, Problem> {
    let limit = call.limit()?;
    let narrow: Vec<_> = ["state", "kind", "source"]
        .into_iter()
        .filter_map(|name| Some((name, call.query_text(name)?)))
        .collect();
    let rows = call.app.reconcile.cases(&narrow, call.query_parsed::<u64>("cursor")?, limit)?;
    let full = rows.len() as u64 == u64::from(limit);
    let next = rows.last().filter(|_| full).map(|row| row.id.raw().to_string());
    let rows: Result<_, Problem> = rows.iter().map(|case| case_view(call, case)).collect();
    Ok(Reply::page(rows?, next))
}

fn books_of<'a>(call: &'a Call<'_>) -> entry::Books<'a> {
    entry::Books { funding: &call.app.funding, corrections: &call.app.corrections }
}

fn case_view(call: &Call<'_>, case: &Case) -> Result<Value, Problem> {
    let made = entry::made_of(&books_of(call), case)?;
    let made = made.iter().map(|made| json!({"id": made.id, "state": made.state.as_str()}));
    Ok(json!({
        "id": case.id,
        "source": case.source,
        "kind": case.kind.as_str(),
        "subject": case.subject,
        "state": case.state.as_str(),
        "ours": case.ours,
        "theirs": case.theirs,
        "cause": case.cause,
        "proposal": case.proposal,
        "entries": null,
        "corrections": made.collect::<Vec<_>>(),
        "opened_at": time_text(case.opened_ms),
        "closed_at": case.closed_ms.map(time_text),
        "closed_by": case.closed_by,
        "reason": case.reason,
    }))
}

fn entry_view(call: &Call<'_>, terms: &CorrectionTerms) -> Value {
    json!({
        "kind": terms.kind.as_str(),
        "account": terms.account,
        "amount": terms.amount.to_string(),
        "currency": call.app.currency(),
        "request": terms.request,
        "arrears": terms.arrears,
    })
}

fn get_case(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.path_id::<ReconcileCaseId>("id")?;
    let now_ms = call.app.clock.now_ms();
    let case = correct::look(&call.app.reconcile, &books_of(call), id, now_ms)?;
    let mut case = case.ok_or(Problem::NotFound)?;
    let place =
        case.theirs.as_ref().and_then(|row| row["name"].as_str()).and_then(|name| name.split_once(':'));
    let place = place.and_then(|(import, line)| Some((import.parse().ok()?, line.parse::<u64>().ok()?)));
    if let (Some((import, line)), Some(Value::Object(row))) = (place, &mut case.theirs) {
        let values = call.app.reconcile.body(import, line)?;
        row.insert("values".to_owned(), values.unwrap_or(Value::Null));
    }
    let entries = match case.state {
        CaseState::Open => entry::entries(&books_of(call), &case)?.unwrap_or_default(),
        CaseState::Closed | CaseState::Gone => Vec::new(),
    };
    let mut view = case_view(call, &case)?;
    view["entries"] = entries.iter().map(|terms| entry_view(call, terms)).collect();
    Ok(Reply::ok(view))
}

/// Who did what to a case, and why, is on record before anything moves.
fn note(call: &Call<'_>, id: ReconcileCaseId, action: &str, reason: &str) -> Result<(), Problem> {
    let note = json!({"case": id, "action": action, "reason": reason});
    Ok(call.app.directory.note(&call.actor(), "reconcile_note", 0, &note)?)
}

fn correct_case(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.path_id::<ReconcileCaseId>("id")?;
    let reason = call.fields().text("reason").unwrap_or_default();
    call.app.reconcile.case(id)?.ok_or(Problem::NotFound)?;
    note(call, id, "correct", reason)?;
    let now_ms = call.app.clock.now_ms();
    correct::correct(&call.app.reconcile, &books_of(call), id, &call.actor(), reason, now_ms)?;
    get_case(call)
}

fn close_case(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.path_id::<ReconcileCaseId>("id")?;
    let reason = call.fields().text("reason").unwrap_or_default();
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(FieldError::new("reason", "must have from 1 to 500 bytes").into());
    }
    call.app.reconcile.case(id)?.ok_or(Problem::NotFound)?;
    note(call, id, "close", reason)?;
    if !call.app.reconcile.close(id, &call.actor(), reason, call.app.clock.now_ms())? {
        return Err(FieldError::new("state", "the case is not open").into());
    }
    get_case(call)
}
