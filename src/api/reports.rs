//! `/api/reports/costs`: what calls cost, by whatever is asked for (I2).

use jiff::tz::TimeZone;
use ledger::{TokenClass, Unit};
use serde_json::{Map, Value, json};

use crate::directory::{Account, Environment, FieldError, Snapshot};
use crate::explain::costs::{self, Dimension, Question, ReportError, Sums};
use crate::explain::period::Period;
use crate::explain::units_text;

use super::access::Access;
use super::credits::ENVIRONMENT;
use super::download::{Cell, Download, Step, csv_row};
use super::problem::Problem;
use super::route::{Answer, Call, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

macro_rules! sum_fields {
    ($($more:expr),* $(,)?) => {
        &[
            $($more,)*
            field!("calls", COUNT, Required, "Calls that came to an end, charged or not"),
            field!("gross", Kind::Money, Required, "What they were charged"),
            field!("refunds", Kind::Money, Required, "What of it was given back since"),
            field!("net", Kind::Money, Required, "Gross less refunds"),
            field!("tokens", Kind::Map(&COUNT), Required, "Tokens of each class"),
            field!(
                "units",
                Kind::Map(&Kind::Text),
                Required,
                "What was sold beside tokens, as it is priced: image, second, million_characters, search"
            ),
        ]
    };
}

static SUMS: Shape = Shape { name: "CostSums", fields: sum_fields!() };
static ROW: Shape = Shape {
    name: "CostRow",
    fields: sum_fields!(
        field!(
            "of",
            Kind::Map(&Kind::Any),
            Required,
            "The row's value in each dimension; null: none, or not known"
        ),
        field!("names", Kind::Map(&Kind::Text), Required, "What people call those that have a name"),
    ),
};

static FORECAST: Shape = Shape {
    name: "CostForecast",
    fields: &[
        field!(
            "method",
            Kind::OneOf(&["linear_run_rate"]),
            Required,
            "Net so far, divided by the time that is gone, times the whole period"
        ),
        field!("net", Kind::Money, Required, "What the period will come to if it goes on like this"),
    ],
};

static COSTS: Shape = Shape {
    name: "CostReport",
    fields: &[
        field!("account", Kind::Text, Nullable, "null: all accounts"),
        field!("environment", ENVIRONMENT, Required, "Live books or test books"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("period", Kind::Text, Required, "As it was named, such as 2026-11"),
        field!("first", Kind::Text, Required, "Its first day"),
        field!("last", Kind::Text, Required, "Its last day"),
        field!("by", Kind::List(&Kind::Text), Required, "What the rows tell apart"),
        field!("rows", Kind::List(&Kind::Object(&ROW)), Required, "In the order of their values"),
        field!("total", Kind::Object(&SUMS), Required, "Of all rows"),
        field!("forecast", Kind::Object(&FORECAST), Nullable, "null: the period is over or has not begun"),
    ],
};

pub(super) const FILTERS: [Param; 14] = [
    Param {
        name: "account",
        about: "Whose calls; members have their own, operators all unless they name one",
    },
    Param { name: "environment", about: "live (default) or test" },
    Param { name: "period", about: "A year, month or day: 2026-11; default: this month" },
    Param { name: "from", about: "Instead of a period: its first day, such as 2026-11-01" },
    Param { name: "to", about: "Its last day, which belongs to it" },
    Param { name: "format", about: "json or csv; default: json for costs, csv for FOCUS" },
    Param { name: "project", about: "Only calls of this project" },
    Param { name: "member", about: "Only calls of this member" },
    Param { name: "key", about: "Only calls of this key" },
    Param { name: "group", about: "Only calls of keys of this group" },
    Param { name: "model", about: "Only calls for this model" },
    Param { name: "request_type", about: "Only calls of this type, such as chat" },
    Param { name: "unit", about: "Only calls that were sold by this, such as million_tokens or image" },
    Param {
        name: "by",
        about: "What rows tell apart, such as day,model: day, month, account, project, member, key, group, model, \
            request_type, unit; default: day",
    },
];
const NARROWED_BY: [Dimension; 7] = [
    Dimension::Project,
    Dimension::Member,
    Dimension::Key,
    Dimension::Group,
    Dimension::Model,
    Dimension::RequestType,
    Dimension::Unit,
];

pub static ROUTES: &[Route] =
    &[Route::get("/api/reports/costs", "costReport", "What calls cost, by what is asked for", &COSTS, costs)
        .answers(Answer::File(&COSTS))
        .access(Access::MONEY_READ)
        .query(&FILTERS)];

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::TooLong => {
                let reason = format!(
                    "makes more than {} rows: ask for less, or for a shorter period",
                    costs::ROWS_MAX
                );
                FieldError::new("by", reason).into()
            }
            ReportError::Store(why) => why.into(),
        }
    }
}

pub(super) fn environment(call: &Call<'_>) -> Result<Environment, FieldError> {
    match call.query_text("environment") {
        None | Some("live") => Ok(Environment::Live),
        Some("test") => Ok(Environment::Test),
        Some(_) => Err(FieldError::new("environment", "must be one of live, test")),
    }
}

/// The period that is asked for, of days of a zone.
pub(super) fn period(call: &Call<'_>, zone: &TimeZone) -> Result<Period, FieldError> {
    let [period, from, to] = ["period", "from", "to"].map(|name| call.query_text(name));
    Period::asked(period, from, to, call.app.books.now(), zone)
}

pub(super) fn question(call: &Call<'_>, by: Vec<Dimension>) -> Result<Question, Problem> {
    let account = call.asked_account()?;
    let environment = environment(call)?;
    let zone = match account {
        Some(account) => {
            call.find::<Account>(account.raw())?;
            let snapshot = call.app.directory.snapshot();
            snapshot.account(account).ok_or(Problem::NotFound)?.zone.clone()
        }
        None => TimeZone::get(&call.app.config.ledger.time_zone).unwrap_or(TimeZone::UTC),
    };
    let period = period(call, &zone)?;
    let only = NARROWED_BY
        .into_iter()
        .filter_map(|dimension| Some((dimension, call.query_text(dimension.as_str())?.to_owned())));
    Ok(Question { account, environment, period, by, only: only.collect() })
}

pub(super) fn tokens(sums: &Sums) -> Map<String, Value> {
    let told = TokenClass::ALL.into_iter().map(|class| (class, sums.tokens(class)));
    told.filter(|(_, tokens)| *tokens > 0)
        .map(|(class, tokens)| (class.as_str().to_owned(), tokens.into()))
        .collect()
}

/// As their prices are for them.
fn units(sums: &Sums) -> impl Iterator<Item = (Unit, String)> {
    Unit::ALL.into_iter().map(|unit| {
        let counted = u64::try_from(sums.units(unit)).unwrap_or(0);
        (unit, units_text(unit, counted))
    })
}

fn units_view(sums: &Sums) -> Map<String, Value> {
    let used = units(sums).filter(|(unit, _)| sums.units(*unit) > 0);
    used.map(|(unit, text)| (unit.as_str().to_owned(), text.into())).collect()
}

fn sums_view(sums: &Sums) -> Map<String, Value> {
    Map::from_iter([
        ("calls".to_owned(), sums.calls().into()),
        ("gross".to_owned(), sums.gross().to_string().into()),
        ("refunds".to_owned(), sums.refunds().to_string().into()),
        ("net".to_owned(), sums.net().to_string().into()),
        ("tokens".to_owned(), Value::Object(tokens(sums))),
        ("units".to_owned(), Value::Object(units_view(sums))),
    ])
}

/// What people call something, if it has a name and is still there.
pub(super) fn name(snapshot: &Snapshot, dimension: Dimension, id: &str) -> Option<String> {
    match dimension {
        Dimension::Account => Some(snapshot.account(id.parse().ok()?)?.account.name.to_string()),
        Dimension::Project => Some(snapshot.project(id.parse().ok()?)?.name.to_string()),
        Dimension::Member => Some(snapshot.member(id.parse().ok()?)?.name.to_string()),
        Dimension::Key => Some(snapshot.key(id.parse().ok()?)?.name.to_string()),
        Dimension::Group => Some(snapshot.group(id.parse().ok()?)?.name.to_string()),
        Dimension::Day | Dimension::Month | Dimension::Model | Dimension::RequestType | Dimension::Unit => {
            None
        }
    }
}

fn costs(call: &Call<'_>) -> Result<Reply, Problem> {
    let by = call.query_text("by").map_or_else(|| Ok(vec![Dimension::Day]), Dimension::list)?;
    let question = question(call, by)?;
    call.app.books.flush_blocking().map_err(crate::books::BooksError::from)?;
    let snapshot = call.app.directory.snapshot_owned();
    let report = costs::report(&call.app.projections, &snapshot, &question)?;
    if csv(call, false)? {
        return Ok(Reply::file(costs_csv(&question, &report)?));
    }
    let row = |(values, sums): (&Vec<Option<String>>, &Sums)| {
        let named = question.by.iter().zip(values);
        let of: Map<_, _> = named.clone().map(|(by, value)| (by.as_str().to_owned(), json!(value))).collect();
        let names = named.filter_map(|(by, value)| {
            Some((by.as_str().to_owned(), name(&snapshot, *by, value.as_deref()?)?.into()))
        });
        let mut row = sums_view(sums);
        row.insert("of".into(), Value::Object(of));
        row.insert("names".into(), Value::Object(names.collect()));
        Value::Object(row)
    };
    let forecast = costs::forecast(report.total.net(), &question.period, call.app.books.now());
    Ok(Reply::ok(json!({
        "account": question.account,
        "environment": question.environment,
        "currency": call.app.currency(),
        "period": question.period.name,
        "first": question.period.first.to_string(),
        "last": question.period.last.to_string(),
        "by": question.by.iter().map(|by| by.as_str()).collect::<Vec<_>>(),
        "rows": report.rows.iter().map(row).collect::<Vec<_>>(),
        "total": sums_view(&report.total),
        "forecast": forecast.map(|net| json!({"method": "linear_run_rate", "net": net.to_string()})),
    })))
}

/// Whether a file for spreadsheets is asked for.
pub(super) fn csv(call: &Call<'_>, default: bool) -> Result<bool, FieldError> {
    match call.query_text("format") {
        None => Ok(default),
        Some("json") => Ok(false),
        Some("csv") => Ok(true),
        Some(_) => Err(FieldError::new("format", "must be one of json, csv")),
    }
}

const CSV: &str = "text/csv; charset=utf-8";

/// A file that is made at once; reports are bounded.
pub(super) fn file(name: String, bytes: Vec<u8>) -> Result<Download, Problem> {
    let mut bytes = Some(bytes);
    let write = move |out: &mut Vec<u8>| {
        out.extend(bytes.take().unwrap_or_default());
        Ok(Step::Done)
    };
    Download::begin(CSV, name, Box::new(write))
}

fn costs_csv(question: &Question, report: &costs::Report) -> Result<Download, Problem> {
    let mut out = Vec::new();
    let head = question.by.iter().map(|by| by.as_str()).chain(["calls", "gross", "refunds", "net"]);
    let head = head.chain(TokenClass::ALL.map(TokenClass::as_str)).chain(Unit::ALL.map(Unit::as_str));
    let head: Vec<_> = head.map(Cell::Text).collect();
    csv_row(&mut out, &head);
    for (values, sums) in &report.rows {
        let numbers: Vec<_> = [sums.calls().to_string()]
            .into_iter()
            .chain([sums.gross(), sums.refunds(), sums.net()].map(|sum| sum.to_string()))
            .chain(TokenClass::ALL.map(|class| sums.tokens(class).to_string()))
            .chain(units(sums).map(|(_, text)| text))
            .collect();
        let named = values.iter().map(|value| Cell::from(value.as_deref()));
        let row: Vec<_> = named.chain(numbers.iter().map(|number| Cell::Number(number))).collect();
        csv_row(&mut out, &row);
    }
    file(format!("costs-{}.csv", question.period.name.replace("..", "-to-")), out)
}
