//! What the routes of reconciliation take and tell, field by field.

use super::super::shape::{COUNT, Field, Kind, Need, Shape, field};
use super::super::upkeep::RUN_STATE;

pub(super) const SIDE: Kind = Kind::OneOf(&["payments", "upstream"]);
pub(super) const CASE_STATE: Kind = Kind::OneOf(&["open", "closed", "gone"]);
pub(super) const CASE_KIND: Kind = Kind::OneOf(&[
    "row_missing",
    "row_doubled",
    "amount_differs",
    "sign_differs",
    "account_differs",
    "currency_differs",
    "late",
    "charged_without_answer",
    "refund_without_charge",
    "chain_cut",
    "never_admitted",
    "books_broken",
    "task_not_charged",
    "failed_task_charged",
    "task_without_hold",
    "hold_without_task",
]);

pub(super) static RUN: Shape = Shape {
    name: "ReconcileRun",
    fields: &[
        field!("run", COUNT, Required, "Number of the run since the start of the server; 0: there was none"),
        field!("state", RUN_STATE, Required, "Where it stands"),
        field!("phase", Kind::Text, Nullable, "What is being done"),
        field!("done", COUNT, Required, "How far it is …"),
        field!("total", COUNT, Required, "… of how much; 0: not known"),
        field!(
            "report",
            Kind::Any,
            Nullable,
            "Of a comparison: clean, sources with their counts and differences by kind, open_cases, goes_on (it was the rest \
             of one that was interrupted; all that both found is told). Of an import: what was imported. Of a file that was \
             refused: refused with line and reason"
        ),
        field!("error", Kind::Text, Nullable, "Why it could not be done"),
    ],
};

pub(super) static RUN_INPUT: Shape = Shape {
    name: "ReconcileInput",
    fields: &[
        field!("full", Kind::Bool, Optional, "Read the journal from its first batch on"),
        field!("anew", Kind::Bool, Optional, "Not the rest of one that was interrupted within the last day"),
    ],
};

pub(super) static NOTHING: Shape = Shape { name: "ReconcileStop", fields: &[] };

pub(super) static FORMAT: Shape = Shape {
    name: "ReconcileFormat",
    fields: &[
        field!("name", Kind::Text, Required, "To be named at an import"),
        field!("about", Kind::Text, Required, "Whose file it is"),
        field!("side", SIDE, Required, "A payment provider's statement or an upstream's bill"),
        field!("join", Kind::Text, Required, "By what its rows are found on our side"),
    ],
};

pub(super) static IMPORT: Shape = Shape {
    name: "ReconcileImport",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, imp_…"),
        field!("side", SIDE, Required, "A payment provider's statement or an upstream's bill"),
        field!("scope", Kind::Text, Required, "The provider, or the channels; empty: all channels"),
        field!("format", Kind::Text, Required, "How it was read"),
        field!("join", Kind::Text, Required, "By what its rows are found on our side"),
        field!("file", Kind::Text, Required, "Name of the file"),
        field!("sha256", Kind::Text, Required, "Of the file; it is imported once"),
        field!("bytes", COUNT, Required, "Size of the file"),
        field!("rows", COUNT, Required, "Rows in it"),
        field!(
            "rows_known",
            COUNT,
            Required,
            "Of them, those that an earlier import of the same provider had, too"
        ),
        field!("from", Kind::Time, Required, "The time that it covers …"),
        field!("until", Kind::Time, Required, "… and its end"),
        field!("imported_at", Kind::Time, Required, "When"),
        field!("actor", Kind::Text, Required, "By whom"),
    ],
};

pub(super) static IMPORT_INPUT: Shape = Shape {
    name: "ReconcileImportInput",
    fields: &[
        field!("format", Kind::Text, Optional, "Name of a known format"),
        field!("mapping", Kind::Text, Optional, "Instead: a mapping of one's own, as TOML"),
        field!("file", Kind::Text, Optional, "Name of the file, for the list"),
        field!("content", Kind::Text, Optional, "The file as text"),
        field!(
            "path",
            Kind::Text,
            Optional,
            "Instead: where it is on the server's machine; superadmins alone"
        ),
        field!(
            "scope",
            Kind::Text,
            Optional,
            "The provider, or the channels by id with commas; default: the format's"
        ),
        field!("from", Kind::Time, Optional, "The time that it covers; default: of its first row"),
        field!("until", Kind::Time, Optional, "Its end; default: of its last row"),
    ],
};

pub(super) static ENTRY: Shape = Shape {
    name: "ReconcileEntry",
    fields: &[
        field!("kind", Kind::OneOf(&["refund", "adjustment"]), Required, "What kind of correction"),
        field!("account", Kind::Text, Required, "Of whom"),
        field!("amount", Kind::Money, Required, "Negative: it takes"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("request", Kind::Text, Nullable, "The call whose charge is refunded"),
        field!("arrears", Kind::Bool, Required, "What the account lacks is owed"),
    ],
};

pub(super) static MADE: Shape = Shape {
    name: "ReconcileCorrection",
    fields: &[
        field!("id", Kind::Text, Required, "Id of the correction"),
        field!(
            "state",
            Kind::OneOf(&["pending", "approved", "posted", "rejected", "failed"]),
            Required,
            "pending: it waits for a second person, at the correction"
        ),
    ],
};

pub(super) static CASE: Shape = Shape {
    name: "ReconcileCase",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, rcs_…"),
        field!(
            "source",
            Kind::Text,
            Required,
            "books, payments:<provider>, upstream:<channels> or orders:<provider>"
        ),
        field!("kind", CASE_KIND, Required, "What is different; docs/reconcile.md tells what to do"),
        field!("subject", Kind::Text, Required, "What it is about"),
        field!("state", CASE_STATE, Required, "gone: both sides agree now"),
        field!("ours", Kind::Any, Nullable, "Our row"),
        field!("theirs", Kind::Any, Nullable, "Theirs; with the values of the file where one case is shown"),
        field!("cause", Kind::Text, Required, "What is likely to be the cause"),
        field!(
            "proposal",
            Kind::Any,
            Nullable,
            "What would put it right: an action of docs/reconcile.md with its order, call, account or amount; it is never \
             done by itself"
        ),
        field!(
            "entries",
            Kind::List(&Kind::Object(&ENTRY)),
            Nullable,
            "Where one case is shown: the corrections that would be made of it now, without what was posted of it; none: the \
             books cannot put it right"
        ),
        field!("corrections", Kind::List(&Kind::Object(&MADE)), Required, "Those that were made of it"),
        field!("opened_at", Kind::Time, Required, "When it was first seen"),
        field!("closed_at", Kind::Time, Nullable, "When it was closed, or seen no more"),
        field!("closed_by", Kind::Text, Nullable, "Who closed it"),
        field!("reason", Kind::Text, Nullable, "Why"),
    ],
};

pub(super) static CORRECT_INPUT: Shape = Shape {
    name: "ReconcileCorrect",
    fields: &[field!("reason", Kind::Text, Required, "Why; stays with the corrections and the case")],
};

pub(super) static CLOSE_INPUT: Shape = Shape {
    name: "ReconcileClose",
    fields: &[field!("reason", Kind::Text, Required, "What was found and done")],
};
