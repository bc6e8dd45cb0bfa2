//! `/api/verify` and `/api/doctor/key`: checks of the books and of a key.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::app::App;
use crate::books::verify::Finding;
use crate::books::verify::seal::{self, Sealed};
use crate::explain::doctor;
use crate::job::{Ended, Job, Progress};

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static FINDING: Shape = Shape {
    name: "VerifyFinding",
    fields: &[
        field!("invariant", Kind::Text, Required, "I1 … I10, format, audit or seal"),
        field!(
            "batch",
            COUNT,
            Required,
            "Batch of the journal, or version of the directory, in which it showed"
        ),
        field!("what", Kind::Text, Required, "In words"),
    ],
};

static REPORT: Shape = Shape {
    name: "VerifyReport",
    fields: &[
        field!("clean", Kind::Bool, Required, "Nothing was found"),
        field!("full", Kind::Bool, Required, "Read from the first batch on, not from the last seal"),
        field!(
            "stopped",
            Kind::Bool,
            Required,
            "Asked to stop before the end; the next run goes on from there"
        ),
        field!(
            "from",
            COUNT,
            Required,
            "First batch that was read; those before were verified by an earlier run"
        ),
        field!("through", COUNT, Required, "Last batch that was read, or verified before"),
        field!("batches", COUNT, Required, "Batches read"),
        field!("records", COUNT, Required, "Records in them"),
        field!("effects", COUNT, Required, "Movements of money in them"),
        field!("calls", COUNT, Required, "Calls in them"),
        field!("open_holds", COUNT, Required, "Holds without an outcome yet"),
        field!("charged", Kind::Text, Required, "Charged in all, since the first batch"),
        field!("audit_rows", COUNT, Required, "Changes of the directory read"),
        field!(
            "seal",
            Kind::Text,
            Nullable,
            "Hash of what the next run begins from; the audit log has it, too. Null: something was found"
        ),
        field!("findings", Kind::List(&Kind::Object(&FINDING)), Required, "What is not as it must be"),
        field!("cut", Kind::Bool, Required, "More was found than is listed"),
    ],
};

/// Where a long command stands.
pub(super) const RUN_STATE: Kind = Kind::OneOf(&["none", "running", "done", "stopped", "failed"]);

static RUN: Shape = Shape {
    name: "VerifyRun",
    fields: &[
        field!("run", COUNT, Required, "Number of the run since the start of the server; 0: there was none"),
        field!("state", RUN_STATE, Required, "Where it stands"),
        field!("phase", Kind::Text, Nullable, "What is being read"),
        field!("done", COUNT, Required, "How far it is …"),
        field!("total", COUNT, Required, "… of how much; 0: not known"),
        field!("report", Kind::Object(&REPORT), Nullable, "Once it has ended"),
        field!("error", Kind::Text, Nullable, "Why it could not be done"),
    ],
};

static RUN_INPUT: Shape = Shape {
    name: "VerifyInput",
    fields: &[field!("full", Kind::Bool, Optional, "From the first batch on, whatever was verified before")],
};

static NOTHING: Shape = Shape { name: "VerifyStop", fields: &[] };

static KEY_TEXT: Shape = Shape {
    name: "KeyText",
    fields: &[field!("key", Kind::Secret, Required, "The text of a key; it is not kept")],
};

static KEY_FINDINGS: Shape = Shape {
    name: "KeyFindings",
    fields: &[
        field!(
            "text",
            Kind::Any,
            Required,
            "form, environment, class, problem, code_point, position, masked"
        ),
        field!("key", Kind::Any, Nullable, "What is known of the key; null: nothing"),
        field!(
            "would_pass",
            Kind::Bool,
            Required,
            "Whether the smallest call of the cheapest model would pass now"
        ),
        field!("summary", Kind::Text, Required, "The answer in one sentence"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::get(
        "/api/verify",
        "getVerify",
        "How far the verification is, or what the last one ended with",
        &RUN,
        get_verify,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/verify",
        "verify",
        "Reads what is new in the journal and in the audit log, and checks every invariant",
        &RUN_INPUT,
        &RUN,
        start_verify,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/verify/stop",
        "stopVerify",
        "Ends the verification; the next one goes on from there",
        &NOTHING,
        &RUN,
        stop_verify,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/doctor/key",
        "doctorKey",
        "What is wrong with a key's text, and with the key",
        &KEY_TEXT,
        &KEY_FINDINGS,
        doctor_key,
    )
    .reads()
    .access(Access::SUPPORT),
];

fn get_verify(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::ok(job_view(&call.app.verifying)))
}

/// Starts a run, or shows the one under way.
fn start_verify(call: &Call<'_>) -> Result<Reply, Problem> {
    let (app, actor) = (Arc::clone(call.app), call.actor());
    let full = call.fields().boolean("full").unwrap_or(false);
    let started = call.app.verifying.start(move |progress| run_verify(&app, &actor, full, progress));
    started.map_err(|why| Problem::Internal(Box::new(why)))?;
    get_verify(call)
}

fn stop_verify(call: &Call<'_>) -> Result<Reply, Problem> {
    call.app.verifying.stop();
    get_verify(call)
}

/// What is recorded by now is written out first, so that it is looked at, too.
fn run_verify(app: &App, actor: &str, full: bool, progress: &Progress) -> Ended {
    if app.books.flush_blocking().is_err() {
        return Ended::Failed("the books are closed".to_owned());
    }
    let (journal, projections, directory) = (&app.journal, &app.projections, &*app.directory);
    let tasks = &app.tasks.owners();
    let books = seal::Books { journal, projections, directory, tasks, shard: 0, actor };
    match seal::verify(&books, full, progress) {
        Ok(sealed) if sealed.stopped => Ended::Stopped(report_view(&sealed)),
        Ok(sealed) => Ended::Done(report_view(&sealed)),
        Err(error) => {
            tracing::error!(%error, "verify could not be done");
            Ended::Failed(error.to_string())
        }
    }
}

fn report_view(sealed: &Sealed) -> Value {
    let report = &sealed.report;
    let finding =
        |found: &Finding| json!({"invariant": found.invariant, "batch": found.batch, "what": found.what});
    json!({
        "clean": report.is_clean(),
        "full": report.from == 1,
        "stopped": sealed.stopped,
        "from": report.from,
        "through": report.through,
        "batches": report.batches,
        "records": report.records,
        "effects": report.effects,
        "calls": report.calls,
        "open_holds": report.open_holds,
        "charged": crate::explain::decimal_text(report.charged, 9),
        "audit_rows": sealed.audit_rows,
        "seal": sealed.seal,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "cut": report.cut,
    })
}

/// Where a long command stands.
pub(super) fn job_view(job: &Job) -> Value {
    let standing = job.standing();
    let (state, report, error) = match standing.ended {
        _ if standing.running => ("running", None, None),
        None => ("none", None, None),
        Some(Ended::Done(report)) => ("done", Some(report), None),
        Some(Ended::Stopped(report)) => ("stopped", Some(report), None),
        Some(Ended::Failed(why)) => ("failed", None, Some(why)),
    };
    json!({
        "run": standing.run,
        "state": state,
        "phase": standing.running.then_some(standing.phase),
        "done": standing.done,
        "total": standing.total,
        "report": report,
        "error": error,
    })
}

fn doctor_key(call: &Call<'_>) -> Result<Reply, Problem> {
    let text = Bytes::from(call.fields().text("key").unwrap_or_default().to_owned());
    Reply::of(&doctor::key(call.app, &text, call.language))
}
