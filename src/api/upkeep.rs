//! `/api/verify` and `/api/doctor/key`: checks of the books and of a key.

use bytes::Bytes;
use serde_json::json;

use crate::books::verify::verify;
use crate::explain::doctor;

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static FINDING: Shape = Shape {
    name: "VerifyFinding",
    fields: &[
        field!("invariant", Kind::Text, Required, "I1 … I10, format, or audit"),
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
        field!("batches", COUNT, Required, "Batches read, from the first on"),
        field!("records", COUNT, Required, "Records in them"),
        field!("effects", COUNT, Required, "Movements of money in them"),
        field!("calls", COUNT, Required, "Calls in them"),
        field!("open_holds", COUNT, Required, "Holds without an outcome yet"),
        field!("charged", Kind::Text, Required, "Charged in all"),
        field!("audit_rows", COUNT, Required, "Changes of the directory read, from the first on"),
        field!("findings", Kind::List(&Kind::Object(&FINDING)), Required, "What is not as it must be"),
        field!("cut", Kind::Bool, Required, "More was found than is listed"),
    ],
};

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
        "verify",
        "Reads the whole journal and the audit log, and checks every invariant",
        &REPORT,
        run_verify,
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
    .access(Access::SUPPORT),
];

/// What is recorded by now is written out first, so that it is looked at, too.
fn run_verify(call: &Call<'_>) -> Result<Reply, Problem> {
    call.app.books.flush_blocking().map_err(crate::books::BooksError::from)?;
    let report = verify(&call.app.journal, &call.app.projections, 0, &mut |_| {})?;
    let (audit_rows, faults) = call.app.directory.verify_audit()?;
    let finding =
        |invariant: &str, at: u64, what: &str| json!({"invariant": invariant, "batch": at, "what": what});
    let money = report.findings.iter().map(|found| finding(found.invariant, found.batch, &found.what));
    let audit = faults.iter().map(|fault| finding("audit", fault.version, &fault.what));
    let findings: Vec<_> = money.chain(audit).collect();
    Ok(Reply::ok(json!({
        "clean": findings.is_empty(),
        "batches": report.batches,
        "records": report.records,
        "effects": report.effects,
        "calls": report.calls,
        "open_holds": report.open_holds,
        "charged": crate::explain::decimal_text(report.charged, 9),
        "audit_rows": audit_rows,
        "findings": findings,
        "cut": report.cut,
    })))
}

fn doctor_key(call: &Call<'_>) -> Result<Reply, Problem> {
    let text = Bytes::from(call.fields().text("key").unwrap_or_default().to_owned());
    Reply::of(&doctor::key(call.app, &text, call.language))
}
