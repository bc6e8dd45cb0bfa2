//! `/api/reports/…`: what calls cost, by whatever is asked for (I2), and the same for FinOps tools.

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ledger::{Nano, TokenClass};
use serde_json::{Map, Value, json};

use crate::directory::{Account, Environment, FieldError, Snapshot};
use crate::explain::costs::{self, Dimension, Question, ReportError, Sums};
use crate::explain::period::Period;
use crate::explain::time_text;
use crate::id::AccountId;

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

/// A row as FOCUS names its columns; https://focus.finops.org/focus-specification/v1-2/.
static FOCUS: Shape = Shape {
    name: "FocusExport",
    fields: &[
        field!("version", Kind::OneOf(&[FOCUS_VERSION]), Required, "Of the specification"),
        field!("rows", Kind::List(&Kind::Map(&Kind::Any)), Required, "Column and value"),
    ],
};
const FOCUS_VERSION: &str = "1.2";

const FILTERS: [Param; 13] = [
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
    Param {
        name: "by",
        about: "What rows tell apart, such as day,model: day, month, account, project, member, key, group, model, \
            request_type; default: day",
    },
];
const NARROWED_BY: [Dimension; 6] = [
    Dimension::Project,
    Dimension::Member,
    Dimension::Key,
    Dimension::Group,
    Dimension::Model,
    Dimension::RequestType,
];

pub static ROUTES: &[Route] = &[
    Route::get("/api/reports/costs", "costReport", "What calls cost, by what is asked for", &COSTS, costs)
        .answers(Answer::File(&COSTS))
        .access(Access::MONEY_READ)
        .query(&FILTERS),
    Route::get(
        "/api/reports/focus",
        "focusExport",
        "The same for FinOps tools: FOCUS 1.2, a row for each day, project, key, model and request type",
        &FOCUS,
        focus,
    )
    .answers(Answer::File(&FOCUS))
    .access(Access::MONEY_READ)
    .query(FILTERS.split_at(FILTERS.len() - 1).0),
];

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

fn question(call: &Call<'_>, by: Vec<Dimension>) -> Result<Question, Problem> {
    let account = call.asked_account()?;
    let environment = match call.query_text("environment") {
        None | Some("live") => Environment::Live,
        Some("test") => Environment::Test,
        Some(_) => return Err(FieldError::new("environment", "must be one of live, test").into()),
    };
    let zone = match account {
        Some(account) => {
            call.find::<Account>(account.raw())?;
            let snapshot = call.app.directory.snapshot();
            snapshot.account(account).ok_or(Problem::NotFound)?.zone.clone()
        }
        None => TimeZone::get(&call.app.config.ledger.time_zone).unwrap_or(TimeZone::UTC),
    };
    let [period, from, to] = ["period", "from", "to"].map(|name| call.query_text(name));
    let period = Period::asked(period, from, to, call.app.books.now(), &zone)?;
    let only = NARROWED_BY
        .into_iter()
        .filter_map(|dimension| Some((dimension, call.query_text(dimension.as_str())?.to_owned())));
    Ok(Question { account, environment, period, by, only: only.collect() })
}

fn tokens(sums: &Sums) -> Map<String, Value> {
    let told = TokenClass::ALL.into_iter().map(|class| (class, sums.tokens(class)));
    told.filter(|(_, tokens)| *tokens > 0)
        .map(|(class, tokens)| (class.as_str().to_owned(), tokens.into()))
        .collect()
}

fn sums_view(sums: &Sums) -> Map<String, Value> {
    Map::from_iter([
        ("calls".to_owned(), sums.calls().into()),
        ("gross".to_owned(), sums.gross().to_string().into()),
        ("refunds".to_owned(), sums.refunds().to_string().into()),
        ("net".to_owned(), sums.net().to_string().into()),
        ("tokens".to_owned(), Value::Object(tokens(sums))),
    ])
}

/// What people call something, if it has a name and is still there.
fn name(snapshot: &Snapshot, dimension: Dimension, id: &str) -> Option<String> {
    match dimension {
        Dimension::Account => Some(snapshot.account(id.parse().ok()?)?.account.name.to_string()),
        Dimension::Project => Some(snapshot.project(id.parse().ok()?)?.name.to_string()),
        Dimension::Member => Some(snapshot.member(id.parse().ok()?)?.name.to_string()),
        Dimension::Key => Some(snapshot.key(id.parse().ok()?)?.name.to_string()),
        Dimension::Group => Some(snapshot.group(id.parse().ok()?)?.name.to_string()),
        Dimension::Day | Dimension::Month | Dimension::Model | Dimension::RequestType => None,
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

fn csv(call: &Call<'_>, default: bool) -> Result<bool, FieldError> {
    match call.query_text("format") {
        None => Ok(default),
        Some("json") => Ok(false),
        Some("csv") => Ok(true),
        Some(_) => Err(FieldError::new("format", "must be one of json, csv")),
    }
}

const CSV: &str = "text/csv; charset=utf-8";

/// A file that is made at once; reports are bounded.
fn file(name: String, bytes: Vec<u8>) -> Result<Download, Problem> {
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
    let head: Vec<_> = head.chain(TokenClass::ALL.map(TokenClass::as_str)).map(Cell::Text).collect();
    csv_row(&mut out, &head);
    for (values, sums) in &report.rows {
        let numbers: Vec<_> = [sums.calls().to_string()]
            .into_iter()
            .chain([sums.gross(), sums.refunds(), sums.net()].map(|sum| sum.to_string()))
            .chain(TokenClass::ALL.map(|class| sums.tokens(class).to_string()))
            .collect();
        let named = values.iter().map(|value| Cell::from(value.as_deref()));
        let row: Vec<_> = named.chain(numbers.iter().map(|number| Cell::Number(number))).collect();
        csv_row(&mut out, &row);
    }
    file(format!("costs-{}.csv", question.period.name.replace("..", "-to-")), out)
}

/// What a FOCUS row tells apart, in this order.
const FOCUS_BY: [Dimension; 8] = [
    Dimension::Day,
    Dimension::Account,
    Dimension::Project,
    Dimension::Member,
    Dimension::Key,
    Dimension::Group,
    Dimension::Model,
    Dimension::RequestType,
];

/// The columns, in the alphabetical order of the specification; what is ours alone begins with `x_`.
const FOCUS_COLUMNS: [&str; 40] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "x_Calls",
    "x_GroupId",
    "x_MemberId",
    "x_Model",
    "x_RequestType",
    "x_TokensByClass",
];

fn focus(call: &Call<'_>) -> Result<Reply, Problem> {
    let question = question(call, FOCUS_BY.to_vec())?;
    call.app.books.flush_blocking().map_err(crate::books::BooksError::from)?;
    let snapshot = call.app.directory.snapshot_owned();
    let report = costs::report(&call.app.projections, &snapshot, &question)?;
    let mut rows = Vec::new();
    for (values, sums) in &report.rows {
        let row = FocusRow::of(&snapshot, call.app.currency(), values, sums);
        rows.extend(row.iter().flat_map(FocusRow::lines));
    }
    if !csv(call, true)? {
        let row = |row: &[FocusValue]| {
            let fields =
                FOCUS_COLUMNS.iter().zip(row).map(|(name, value)| ((*name).to_owned(), value.json()));
            Value::Object(fields.collect())
        };
        let rows: Vec<_> = rows.iter().map(|fields| row(fields)).collect();
        return Ok(Reply::ok(json!({"version": FOCUS_VERSION, "rows": rows})));
    }
    let mut out = Vec::new();
    csv_row(&mut out, &FOCUS_COLUMNS.map(Cell::Text));
    for row in &rows {
        csv_row(&mut out, &row.iter().map(FocusValue::cell).collect::<Vec<_>>());
    }
    let name = question.period.name.replace("..", "-to-");
    Ok(Reply::file(file(format!("focus-{FOCUS_VERSION}-{name}.csv"), out)?))
}

/// A value of a FOCUS row. Numbers are exact decimals.
#[derive(Clone, Debug, PartialEq)]
enum FocusValue {
    Null,
    Text(String),
    Number(String),
}

impl FocusValue {
    fn text(text: impl Into<String>) -> Self {
        FocusValue::Text(text.into())
    }

    fn maybe(text: Option<String>) -> Self {
        text.map_or(FocusValue::Null, FocusValue::Text)
    }

    fn json(&self) -> Value {
        match self {
            FocusValue::Null => Value::Null,
            FocusValue::Text(text) => text.as_str().into(),
            FocusValue::Number(number) => number.parse().map_or(Value::Null, Value::Number),
        }
    }

    fn cell(&self) -> Cell<'_> {
        match self {
            FocusValue::Null => Cell::Empty,
            FocusValue::Text(text) => Cell::Text(text),
            FocusValue::Number(number) => Cell::Number(number),
        }
    }
}

/// One day of one key, model and request type.
struct FocusRow<'r> {
    snapshot: &'r Snapshot,
    currency: &'r str,
    account: AccountId,
    day: Date,
    values: &'r [Option<String>],
    sums: &'r Sums,
}

impl<'r> FocusRow<'r> {
    fn of(
        snapshot: &'r Snapshot,
        currency: &'r str,
        values: &'r [Option<String>],
        sums: &'r Sums,
    ) -> Option<Self> {
        let day = values.first()?.as_deref()?.parse().ok()?;
        let account = values.get(1)?.as_deref()?.parse().ok()?;
        Some(FocusRow { snapshot, currency, account, day, values, sums })
    }

    /// A line of usage, and one of credit for what was refunded.
    fn lines(&self) -> Vec<Vec<FocusValue>> {
        let usage = self.line("Usage", self.sums.gross());
        let refunded = self.sums.refunds();
        let credit = (refunded != Nano::ZERO).then(|| self.line("Credit", Nano(-refunded.0)));
        std::iter::once(usage).chain(credit).collect()
    }

    fn value(&self, wanted: Dimension) -> Option<String> {
        let place = FOCUS_BY.iter().position(|dimension| *dimension == wanted)?;
        self.values.get(place)?.clone()
    }

    fn named(&self, wanted: Dimension) -> Option<String> {
        name(self.snapshot, wanted, &self.value(wanted)?)
    }

    /// Beginning of a day in the zone of the account.
    fn begin(&self, day: Date) -> FocusValue {
        let entry = self.snapshot.account(self.account);
        let zone = entry.map_or(TimeZone::UTC, |entry| entry.zone.clone());
        let start = day.to_zoned(zone).and_then(|start| start.start_of_day());
        FocusValue::maybe(start.ok().map(|start| time_text(start.timestamp().as_millisecond())))
    }

    fn line(&self, category: &str, cost: Nano) -> Vec<FocusValue> {
        let is_usage = category == "Usage";
        let month = self.day.first_of_month();
        let after = |day: Date, days: jiff::Span| day.checked_add(days).unwrap_or(day);
        let cost = || FocusValue::Number(cost.to_string());
        let quantity = || match is_usage {
            true => FocusValue::Number(self.sums.all_tokens().to_string()),
            false => FocusValue::Null,
        };
        let usage_only = |text: &str| if is_usage { FocusValue::text(text) } else { FocusValue::Null };
        let model = self.value(Dimension::Model);
        let about = match (is_usage, &model) {
            (true, Some(model)) => format!("Calls for {model}"),
            (true, None) => "Calls".to_owned(),
            (false, _) => "Refunds of charges".to_owned(),
        };
        let tokens = Value::Object(tokens(self.sums)).to_string();
        let fields = [
            cost(),
            FocusValue::text(self.account.to_string()),
            FocusValue::maybe(self.named(Dimension::Account)),
            FocusValue::text("Account"),
            FocusValue::text(self.currency),
            self.begin(after(month, 1.month())),
            self.begin(month),
            FocusValue::text(category),
            FocusValue::Null,
            FocusValue::text(about),
            FocusValue::text(if is_usage { "Usage-Based" } else { "One-Time" }),
            self.begin(after(self.day, 1.day())),
            self.begin(self.day),
            quantity(),
            usage_only("Tokens"),
            cost(),
            cost(),
            FocusValue::text("Tallygate"),
            cost(),
            usage_only("Standard"),
            quantity(),
            usage_only("Tokens"),
            FocusValue::text("Tallygate"),
            FocusValue::text("Tallygate"),
            FocusValue::maybe(self.value(Dimension::Key)),
            FocusValue::maybe(self.named(Dimension::Key)),
            FocusValue::maybe(self.value(Dimension::Key).map(|_| "API key".to_owned())),
            FocusValue::text("AI and Machine Learning"),
            FocusValue::text("Tallygate"),
            FocusValue::text("Generative AI"),
            FocusValue::maybe(model.clone()),
            FocusValue::maybe(self.value(Dimension::Project)),
            FocusValue::maybe(self.named(Dimension::Project)),
            FocusValue::maybe(self.value(Dimension::Project).map(|_| "Project".to_owned())),
            if is_usage { FocusValue::Number(self.sums.calls().to_string()) } else { FocusValue::Null },
            FocusValue::maybe(self.value(Dimension::Group)),
            FocusValue::maybe(self.value(Dimension::Member)),
            FocusValue::maybe(model),
            FocusValue::maybe(self.value(Dimension::RequestType)),
            usage_only(&tokens),
        ];
        fields.to_vec()
    }
}
