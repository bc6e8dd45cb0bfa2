//! `/api/reports/margins`: what calls were charged beside what upstreams bill for all of their attempts, for operators.

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::directory::{Environment, Snapshot};
use crate::explain::margins::{self, Dimension, Margin, Question};

use super::access::Access;
use super::credits::ENVIRONMENT;
use super::download::{Cell, Download, csv_row};
use super::problem::Problem;
use super::reports::{csv, environment, file, period};
use super::route::{Answer, Call, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static COSTS: Shape = Shape {
    name: "MarginCosts",
    fields: &[
        field!("served", Kind::Money, Required, "Of attempts that served a call"),
        field!("failed", Kind::Money, Required, "Of attempts that failed, or were retried elsewhere"),
        field!("total", Kind::Money, Required, "Both"),
        field!(
            "estimated",
            Kind::Money,
            Required,
            "What of it is the most that it can be, where no usage was told"
        ),
    ],
};

static UNKNOWN: Shape = Shape {
    name: "MarginUnknown",
    fields: &[
        field!("served", COUNT, Required, "Attempts that served a call"),
        field!("failed", COUNT, Required, "Attempts that failed, or were retried elsewhere"),
        field!("net", Kind::Money, Required, "What the calls that they served were charged, less refunds"),
    ],
};

macro_rules! margin_fields {
    ($($more:expr),* $(,)?) => {
        &[
            $($more,)*
            field!("calls", COUNT, Required, "Calls that were served here"),
            field!("failed_attempts", COUNT, Required, "Attempts that served no call"),
            field!("gross", Kind::Money, Required, "What the calls were charged"),
            field!("refunds", Kind::Money, Required, "What of it was given back since"),
            field!("net", Kind::Money, Required, "Gross less refunds"),
            field!("cost", Kind::Object(&COSTS), Required, "What upstreams bill, as far as it is known"),
            field!("unknown", Kind::Object(&UNKNOWN), Required, "Attempts whose cost nobody knows; no part of cost"),
            field!("margin", Kind::Money, Required, "Net less unknown.net, less cost.total"),
        ]
    };
}

static SUMS: Shape = Shape { name: "MarginSums", fields: margin_fields!() };
static ROW: Shape = Shape {
    name: "MarginRow",
    fields: margin_fields!(
        field!(
            "of",
            Kind::Map(&Kind::Any),
            Required,
            "The row's value in each dimension; null: not known any more"
        ),
        field!("names", Kind::Map(&Kind::Text), Required, "What channels are called"),
    ),
};

static REPORT: Shape = Shape {
    name: "MarginReport",
    fields: &[
        field!("environment", ENVIRONMENT, Required, "Live books or test books"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("period", Kind::Text, Required, "As it was named, such as 2026-11; its days are those of UTC"),
        field!("first", Kind::Text, Required, "Its first day"),
        field!("last", Kind::Text, Required, "Its last day"),
        field!("by", Kind::List(&Kind::Text), Required, "What the rows tell apart"),
        field!("rows", Kind::List(&Kind::Object(&ROW)), Required, "In the order of their values"),
        field!("total", Kind::Object(&SUMS), Required, "Of all rows"),
    ],
};

pub static ROUTES: &[Route] = &[Route::get(
    "/api/reports/margins",
    "marginReport",
    "What calls were charged beside what upstreams bill for their attempts, by channel, model and day",
    &REPORT,
    report,
)
.answers(Answer::File(&REPORT))
.access(Access::OPERATORS_READ)
.query(&[
    Param { name: "environment", about: "live (default) or test" },
    Param { name: "period", about: "A year, month or day in UTC: 2026-11; default: this month" },
    Param { name: "from", about: "Instead of a period: its first day, such as 2026-11-01" },
    Param { name: "to", about: "Its last day, which belongs to it" },
    Param { name: "channel", about: "Only what this channel was tried for" },
    Param { name: "model", about: "Only calls for this model" },
    Param {
        name: "by",
        about: "What rows tell apart, such as channel,day: day, month, channel, model; default: channel",
    },
    Param { name: "format", about: "json (default) or csv" },
])];

fn report(call: &Call<'_>) -> Result<Reply, Problem> {
    let by = call.query_text("by").map_or_else(|| Ok(vec![Dimension::Channel]), Dimension::list)?;
    let environment = environment(call)?;
    let only = [Dimension::Channel, Dimension::Model]
        .into_iter()
        .filter_map(|dimension| Some((dimension, call.query_text(dimension.as_str())?.to_owned())));
    let book = match environment {
        Environment::Live => ledger::Book::Live,
        Environment::Test => ledger::Book::Test,
    };
    let question = Question { book, period: period(call, &TimeZone::UTC)?, by, only: only.collect() };
    call.app.books.flush_blocking().map_err(crate::books::BooksError::from)?;
    let report = margins::report(&call.app.projections, &question)?;
    if csv(call, false)? {
        return Ok(Reply::file(report_csv(&question, &report)?));
    }
    let snapshot = call.app.directory.snapshot_owned();
    let row = |(values, margin): (&Vec<Option<String>>, &Margin)| {
        let named = question.by.iter().zip(values);
        let of: Map<_, _> = named.clone().map(|(by, value)| (by.as_str().to_owned(), json!(value))).collect();
        let names = named.filter_map(|(by, value)| {
            Some((by.as_str().to_owned(), name(&snapshot, *by, value.as_deref()?)?.into()))
        });
        let mut row = view(margin);
        row.insert("of".into(), Value::Object(of));
        row.insert("names".into(), Value::Object(names.collect()));
        Value::Object(row)
    };
    Ok(Reply::ok(json!({
        "environment": environment,
        "currency": call.app.currency(),
        "period": question.period.name,
        "first": question.period.first.to_string(),
        "last": question.period.last.to_string(),
        "by": question.by.iter().map(|by| by.as_str()).collect::<Vec<_>>(),
        "rows": report.rows.iter().map(row).collect::<Vec<_>>(),
        "total": view(&report.total),
    })))
}

fn name(snapshot: &Snapshot, dimension: Dimension, id: &str) -> Option<String> {
    match dimension {
        Dimension::Channel => Some(snapshot.channel(id.parse().ok()?)?.name.to_string()),
        Dimension::Day | Dimension::Month | Dimension::Model => None,
    }
}

fn view(margin: &Margin) -> Map<String, Value> {
    let sums = margin.sums();
    let money = |amount: i64| ledger::Nano(amount).to_string();
    let cost = json!({
        "served": money(sums.served_cost),
        "failed": money(sums.failed_cost),
        "total": margin.cost().to_string(),
        "estimated": money(sums.estimated_cost),
    });
    let unknown = json!({
        "served": sums.unknown_served,
        "failed": sums.unknown_failed,
        "net": money(sums.unknown_net),
    });
    Map::from_iter([
        ("calls".to_owned(), sums.calls.into()),
        ("failed_attempts".to_owned(), sums.failed.into()),
        ("gross".to_owned(), money(sums.charged).into()),
        ("refunds".to_owned(), money(sums.refunded).into()),
        ("net".to_owned(), margin.net().to_string().into()),
        ("cost".to_owned(), cost),
        ("unknown".to_owned(), unknown),
        ("margin".to_owned(), margin.margin().to_string().into()),
    ])
}

/// Columns of a row behind its dimensions: the fields of [`view`], those of an object with its name before them.
const COLUMNS: [&str; 13] = [
    "calls",
    "failed_attempts",
    "gross",
    "refunds",
    "net",
    "cost_served",
    "cost_failed",
    "cost_total",
    "cost_estimated",
    "unknown_served",
    "unknown_failed",
    "unknown_net",
    "margin",
];

fn report_csv(question: &Question, report: &margins::Report) -> Result<Download, Problem> {
    let mut out = Vec::new();
    let head = question.by.iter().map(|by| by.as_str()).chain(COLUMNS);
    csv_row(&mut out, &head.map(Cell::Text).collect::<Vec<_>>());
    for (values, margin) in &report.rows {
        let row = Value::Object(view(margin));
        let field = |column: &str| {
            let nested = column.split_once('_').and_then(|(object, field)| row.get(object)?.get(field));
            let value = nested.or_else(|| row.get(column)).unwrap_or(&Value::Null);
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        let numbers = COLUMNS.map(field);
        let named = values.iter().map(|value| Cell::from(value.as_deref()));
        let row: Vec<_> = named.chain(numbers.iter().map(|number| Cell::Number(number))).collect();
        csv_row(&mut out, &row);
    }
    file(format!("margins-{}.csv", question.period.name.replace("..", "-to-")), out)
}
