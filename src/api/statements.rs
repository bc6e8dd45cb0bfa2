//! `/api/accounts/{id}/statement`: what an account had, what moved, and what it has (对账单), as JSON and CSV (B6).

use std::sync::Arc;

use ledger::Nano;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::books::movement::{Family, MovementKind};
use crate::books::statement::{Line, Lines, Standing, Statement, StatementError, Sums};
use crate::directory::{Account, Environment, FieldError, decimal};
use crate::explain::period::Period;
use crate::explain::time_text;
use crate::id::{AccountId, LotId, RequestId};

use super::access::{self, Access};
use super::credits::{ENVIRONMENT, FAMILIES, book};
use super::download::{Cell, Download, Step, csv_row};
use super::own;
use super::problem::Problem;
use super::resource;
use super::route::{Answer, Call, Param, Reply, Route, Who, both};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

const FAMILY_NAMES: Kind = Kind::OneOf(&[
    "credits",
    "charge_refunds",
    "compensation",
    "adjustments",
    "charges",
    "expiries",
    "order_refunds",
    "chargebacks",
]);

static STANDING: Shape = Shape {
    name: "Standing",
    fields: &[
        field!("balance", Kind::Money, Required, "All that the account has: the three below together"),
        field!("available", Kind::Money, Required, "Spendable; negative while overdrawn"),
        field!("held", Kind::Money, Required, "Part of open holds"),
        field!("expired", Kind::Money, Required, "Expired and not yet written off"),
    ],
};

static LINE: Shape = Shape {
    name: "StatementLine",
    fields: &[
        field!("at", Kind::Time, Required, "Ledger time of the movement"),
        field!("family", FAMILY_NAMES, Required, "Which sum it is part of"),
        field!("kind", Kind::Text, Required, "payment, promotion, code, charge, charge_refund …"),
        field!("amount", Kind::Money, Required, "As the account sees it: what is taken is negative"),
        field!("balance", Kind::Money, Required, "What the account had after it"),
        field!("reference", Kind::Text, Nullable, "Name from outside that it was posted under"),
        field!("request", Kind::Text, Nullable, "The call that was charged or refunded; it has a receipt"),
        field!("lot", Kind::Text, Nullable, "The lot that a credit opened or that expired"),
        field!(
            "source",
            Kind::OneOf(&["request_log", "payment_order", "redemption_code", "ledger_record"]),
            Required,
            "Where more is told about it"
        ),
    ],
};

static CREDIT_SOURCES: Shape = Shape {
    name: "CreditSources",
    fields: &[
        field!("payment", Kind::Money, Required, "For payments (充值)"),
        field!("promotion", Kind::Money, Required, "Granted (赠送)"),
        field!("code", Kind::Money, Required, "For redemption codes (兑换码)"),
    ],
};

macro_rules! statement_fields {
    ($($more:expr),* $(,)?) => {
        &[
            field!("account", Kind::Text, Required, "Id of the account"),
            field!("environment", ENVIRONMENT, Required, "Live books or test books"),
            field!("currency", Kind::Text, Required, "Ledger currency"),
            field!("period", Kind::Text, Required, "As it was named, such as 2026-11"),
            field!("time_zone", Kind::Text, Required, "IANA zone in which its days begin"),
            field!("from", Kind::Time, Required, "Its beginning"),
            field!("to", Kind::Time, Required, "Its end, which is no more part of it"),
            field!("complete", Kind::Bool, Required, "False: the period is not over, and this is as of now"),
            field!("opening", Kind::Object(&STANDING), Required, "What the account had at the beginning"),
            $($more,)*
            field!("movements", Kind::Object(&FAMILIES), Required, "Sums by family; opening and these give the closing"),
            field!("credits_by_source", Kind::Object(&CREDIT_SOURCES), Required, "What the credits are made of"),
            field!("closing", Kind::Object(&STANDING), Required, "What the account had at the end"),
        ]
    };
}

static STATEMENT: Shape = Shape {
    name: "Statement",
    fields: statement_fields!(
        field!("lines", Kind::List(&Kind::Object(&LINE)), Required, "Every movement, oldest first"),
        field!("line_count", COUNT, Required, "How many"),
    ),
};

static SUMMARY: Shape = Shape {
    name: "StatementSummary",
    fields: statement_fields!(
        field!("account_name", Kind::Text, Required, "What people call the account"),
        field!(
            "invoice",
            Kind::Map(&Kind::Text),
            Required,
            "What an invoice (发票) needs, as the account has it"
        ),
        field!(
            "pending",
            Kind::Money,
            Nullable,
            "Of orders under way; not part of the balance. null: the period is over"
        ),
    ),
};

/// The period of a statement or a report.
pub const PERIOD: [Param; 4] = [
    Param { name: "environment", about: "live (default) or test" },
    Param {
        name: "period",
        about: "A year, month or day of the account's zone: 2026-11; default: this month",
    },
    Param { name: "from", about: "Instead of a period: its first day, such as 2026-11-01" },
    Param { name: "to", about: "Its last day, which belongs to it" },
];
const FORMAT: Param = Param { name: "format", about: "json (default) or csv" };
const RESUME: Param = Param {
    name: "resume",
    about: "The rest of an answer that was interrupted: its ETag, a colon, and the bytes that came. Where x-tallygate-resumed-at \
        is in the answer it is that; else it is another one from its beginning. Periods that are over have an ETag",
};
const STATEMENT_QUERY: [Param; 6] = [PERIOD[0], PERIOD[1], PERIOD[2], PERIOD[3], FORMAT, RESUME];
/// A key's environment says which books are meant.
const OWN_QUERY: [Param; 5] = [PERIOD[1], PERIOD[2], PERIOD[3], FORMAT, RESUME];

pub static ROUTES: &[Route] = &[
    Route::get(
        "/api/accounts/{id}/statement",
        "getStatement",
        "Opening, every movement and closing of a period; any length, streamed",
        &STATEMENT,
        statement,
    )
    .answers(Answer::File(&STATEMENT))
    .access(Access::MONEY_READ)
    .query(&STATEMENT_QUERY),
    Route::get(
        "/api/accounts/{id}/statement/summary",
        "getStatementSummary",
        "The same without the lines",
        &SUMMARY,
        summary,
    )
    .access(Access::MONEY_READ)
    .query(&PERIOD),
];

pub static OWN_ROUTES: [Route; 2] = {
    let [v1, api] = both!(
        get,
        "/statement",
        "ownStatement",
        "The statement of this key's account",
        &STATEMENT,
        own_statement
    );
    [
        v1.answers(Answer::File(&STATEMENT)).query(&OWN_QUERY),
        api.answers(Answer::File(&STATEMENT)).query(&OWN_QUERY),
    ]
};

impl From<StatementError> for Problem {
    fn from(error: StatementError) -> Self {
        match error {
            StatementError::Store(why) => why.into(),
            other => Problem::Internal(Box::new(other)),
        }
    }
}

/// An account's books and a period in its zone.
pub struct Asked {
    pub account: Arc<Account>,
    pub environment: Environment,
    pub period: Period,
}

impl Asked {
    fn new(call: &Call<'_>, account: AccountId, environment: Environment) -> Result<Self, Problem> {
        let snapshot = call.app.directory.snapshot();
        let entry = snapshot.account(account).ok_or(Problem::NotFound)?;
        let [period, from, to] = ["period", "from", "to"].map(|name| call.query_text(name));
        let period = Period::asked(period, from, to, call.app.books.now(), &entry.zone)?;
        Ok(Asked { account: Arc::clone(&entry.account), environment, period })
    }

    /// Of the account in the path.
    fn of_path(call: &Call<'_>) -> Result<Self, Problem> {
        let account = resource::found::<Account>(call)?.document.id;
        let environment = match call.query_text("environment") {
            None | Some("live") => Environment::Live,
            Some("test") => Environment::Test,
            Some(_) => return Err(FieldError::new("environment", "must be one of live, test").into()),
        };
        Self::new(call, account, environment)
    }

    /// What is not written yet is waited for, so that a movement is on the statement right after its answer.
    fn statement(&self, app: &App) -> Result<Statement, Problem> {
        app.books.flush_blocking().map_err(crate::books::BooksError::from)?;
        let account = book(self.account.id, self.environment);
        Ok(Statement::of(&app.books, &app.projections, account, self.period.span)?)
    }

    fn head(&self, app: &App, statement: &Statement) -> Map<String, Value> {
        let head = json!({
            "account": self.account.id,
            "environment": self.environment,
            "currency": app.currency(),
            "period": self.period.name,
            "time_zone": self.account.time_zone,
            "from": time_text(statement.span.from.0),
            "to": time_text(statement.span.to.0),
            "complete": statement.is_complete,
            "opening": standing(&statement.opening),
        });
        match head {
            Value::Object(head) => head,
            _ => Map::new(),
        }
    }
}

fn standing(standing: &Standing) -> Value {
    json!({
        "balance": standing.balance.to_string(),
        "available": standing.available().to_string(),
        "held": standing.held.to_string(),
        "expired": standing.expired.to_string(),
    })
}

/// What stands below the lines.
fn foot(statement: &Statement, sums: &Sums) -> Map<String, Value> {
    let families = Family::ALL.map(|family| (family, sums.of_family(family)));
    let movements: Map<_, _> =
        families.iter().map(|(family, sum)| (family.as_str().to_owned(), sum.to_string().into())).collect();
    let kinds = [MovementKind::Payment, MovementKind::Promotion, MovementKind::Code];
    let sources: Map<_, _> = kinds
        .into_iter()
        .map(|kind| (kind.as_str().to_owned(), sums.of_kind(kind).to_string().into()))
        .collect();
    Map::from_iter([
        ("movements".to_owned(), Value::Object(movements)),
        ("credits_by_source".to_owned(), Value::Object(sources)),
        ("closing".to_owned(), standing(&statement.closing)),
    ])
}

fn statement(call: &Call<'_>) -> Result<Reply, Problem> {
    answer(call, &Asked::of_path(call)?)
}

fn own_statement(call: &Call<'_>) -> Result<Reply, Problem> {
    let key = own::asking(call)?;
    if !own::shows_money(call, &key) {
        return Err(access::forbidden("to see what the account has"));
    }
    answer(call, &Asked::new(call, key.account, key.environment)?)
}

#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
}

fn answer(call: &Call<'_>, asked: &Asked) -> Result<Reply, Problem> {
    let format = match call.query_text("format") {
        None | Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        Some(_) => return Err(FieldError::new("format", "must be one of json, csv").into()),
    };
    let resume = call.query_text("resume").map(resume).transpose()?;
    let statement = asked.statement(call.app)?;
    let whole = download(call.app, asked, statement.clone(), format)?;
    if !statement.is_complete {
        return Ok(Reply::file(whole));
    }
    let tag = tag(&asked.head(call.app, &statement), &statement, format);
    let rest = match resume {
        Some((same, byte)) if same == tag => whole.rest_from(byte)?,
        _ => Some(whole),
    };
    let download = rest.map_or_else(|| download(call.app, asked, statement, format), Ok)?;
    Ok(Reply::file(download.tagged(tag)))
}

/// A tag and a number of bytes.
fn resume(text: &str) -> Result<(&str, u64), FieldError> {
    let parts = text.rsplit_once(':').and_then(|(tag, bytes)| Some((tag, bytes.parse().ok()?)));
    parts.ok_or_else(|| FieldError::new("resume", "must be an ETag, a colon and a number of bytes"))
}

/// A name of the bytes of a statement that is complete: what they are made of, and the program that makes them.
fn tag(head: &Map<String, Value>, statement: &Statement, format: Format) -> String {
    let (version, head) = (env!("CARGO_PKG_VERSION"), Value::Object(head.clone()));
    let (closing, lines) = (standing(&statement.closing), statement.movements());
    let format = if matches!(format, Format::Csv) { "csv" } else { "json" };
    let made_of = format!("{version} {format} {head} {closing} {lines:?}");
    format!("{:032x}", ledger::fnv1a(made_of.as_bytes()))
}

fn download(
    app: &Arc<App>,
    asked: &Asked,
    statement: Statement,
    format: Format,
) -> Result<Download, Problem> {
    let file = format!("statement-{}-{}", asked.account.id, asked.period.name.replace("..", "-to-"));
    let mut writer = Writer {
        app: Arc::clone(app),
        head: asked.head(app, &statement),
        lines: statement.lines(),
        statement,
        begun: false,
    };
    match format {
        Format::Json => {
            let write = Box::new(move |out: &mut Vec<u8>| writer.json(out));
            Download::begin("application/json", format!("{file}.json"), write)
        }
        Format::Csv => {
            let write = Box::new(move |out: &mut Vec<u8>| writer.csv(out));
            Download::begin("text/csv; charset=utf-8", format!("{file}.csv"), write)
        }
    }
}

fn summary(call: &Call<'_>) -> Result<Reply, Problem> {
    let asked = Asked::of_path(call)?;
    let statement = asked.statement(call.app)?;
    let sums = statement.sums(&call.app.projections)?;
    let mut body = asked.head(call.app, &statement);
    body.insert("account_name".into(), (*asked.account.name).into());
    body.insert("invoice".into(), json!(asked.account.invoice));
    let is_live = asked.environment == Environment::Live;
    let pending = (!statement.is_complete && is_live).then(|| call.app.funding.pending(asked.account.id));
    body.insert("pending".into(), pending.transpose()?.map_or(Value::Null, |sum| sum.to_string().into()));
    body.extend(foot(&statement, &sums));
    Ok(Reply::ok(Value::Object(body)))
}

#[derive(Serialize)]
struct LineView<'a> {
    at: String,
    family: &'static str,
    kind: &'static str,
    #[serde(serialize_with = "decimal::money::serialize")]
    amount: Nano,
    #[serde(serialize_with = "decimal::money::serialize")]
    balance: Nano,
    reference: Option<&'a str>,
    request: Option<String>,
    lot: Option<String>,
    source: &'static str,
}

impl<'a> LineView<'a> {
    fn of(line: &'a Line) -> Self {
        LineView {
            at: time_text(line.at.0),
            family: line.kind.family().as_str(),
            kind: line.kind.as_str(),
            amount: line.amount,
            balance: line.balance,
            reference: (!line.reference.is_empty()).then_some(&*line.reference),
            request: line.hold.map(|hold| RequestId::from_raw(hold.0).to_string()),
            lot: line.lot.map(|lot| LotId::from_raw(lot.0).to_string()),
            source: source(line),
        }
    }
}

/// Where more is told about a movement (A3).
fn source(line: &Line) -> &'static str {
    match line.kind {
        MovementKind::Charge => "request_log",
        _ if line.reference.starts_with("order:") => "payment_order",
        MovementKind::Code => "redemption_code",
        _ => "ledger_record",
    }
}

/// Writes a statement line by line.
struct Writer {
    app: Arc<App>,
    statement: Statement,
    head: Map<String, Value>,
    lines: Lines,
    begun: bool,
}

impl Writer {
    fn json(&mut self, out: &mut Vec<u8>) -> Result<Step, Problem> {
        if !std::mem::replace(&mut self.begun, true) {
            // The object stays open: its lines follow.
            let head = Value::Object(std::mem::take(&mut self.head)).to_string();
            out.extend_from_slice(head.strip_suffix('}').unwrap_or(&head).as_bytes());
            out.extend_from_slice(b",\"lines\":[");
        }
        if let Some(line) = self.lines.next(&self.app.projections)? {
            if self.lines.sums().lines > 1 {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, &LineView::of(&line))
                .map_err(|why| Problem::Internal(Box::new(why)))?;
            return Ok(Step::More);
        }
        self.statement.check(self.lines.sums())?;
        let mut foot = foot(&self.statement, self.lines.sums());
        foot.insert("line_count".into(), self.lines.sums().lines.into());
        out.extend_from_slice(b"],");
        let foot = Value::Object(foot).to_string();
        out.extend_from_slice(foot.strip_prefix('{').unwrap_or(&foot).as_bytes());
        Ok(Step::Done)
    }

    fn csv(&mut self, out: &mut Vec<u8>) -> Result<Step, Problem> {
        if !std::mem::replace(&mut self.begun, true) {
            let names = [
                "record",
                "at",
                "family",
                "kind",
                "amount",
                "balance",
                "reference",
                "request",
                "lot",
                "source",
            ];
            csv_row(out, &names.map(Cell::Text));
            self.csv_standing(out, "opening", self.statement.span.from.0, &self.statement.opening.clone());
        }
        if let Some(line) = self.lines.next(&self.app.projections)? {
            let view = LineView::of(&line);
            let (amount, balance) = (view.amount.to_string(), view.balance.to_string());
            csv_row(
                out,
                &[
                    "line".into(),
                    (&*view.at).into(),
                    view.family.into(),
                    view.kind.into(),
                    Cell::Number(&amount),
                    Cell::Number(&balance),
                    view.reference.into(),
                    view.request.as_deref().into(),
                    view.lot.as_deref().into(),
                    view.source.into(),
                ],
            );
            return Ok(Step::More);
        }
        self.statement.check(self.lines.sums())?;
        for family in Family::ALL {
            let sum = self.lines.sums().of_family(family).to_string();
            let mut row = [Cell::Empty; 10];
            (row[0], row[2], row[4]) = ("sum".into(), family.as_str().into(), Cell::Number(&sum));
            csv_row(out, &row);
        }
        let closing = self.statement.closing;
        self.csv_standing(out, "closing", self.statement.span.to.0.min(self.app.books.now().0), &closing);
        Ok(Step::Done)
    }

    fn csv_standing(&self, out: &mut Vec<u8>, record: &str, at_ms: i64, standing: &Standing) {
        let (at, balance) = (time_text(at_ms), standing.balance.to_string());
        let mut row = [Cell::Empty; 10];
        (row[0], row[1], row[5]) = (record.into(), (&*at).into(), Cell::Number(&balance));
        csv_row(out, &row);
    }
}
