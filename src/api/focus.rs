//! `/api/reports/focus`: what calls cost, for FinOps tools: FOCUS 1.2 (I2).
//!
//! A row has one unit, so that what was sold by tokens, by the picture or by the second stands apart.

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ledger::{Measure, Nano, Unit};
use serde_json::{Value, json};

use crate::directory::Snapshot;
use crate::explain::costs::{self, Dimension, Sums};
use crate::explain::{decimal_text, time_text, units_text};
use crate::id::AccountId;

use super::access::Access;
use super::download::{Cell, csv_row};
use super::problem::Problem;
use super::reports::{FILTERS, csv, file, name, question, tokens};
use super::route::{Answer, Call, Reply, Route};
use super::shape::{Field, Kind, Need, Shape, field};

/// A row as FOCUS names its columns; https://focus.finops.org/focus-specification/v1-2/.
static FOCUS: Shape = Shape {
    name: "FocusExport",
    fields: &[
        field!("version", Kind::OneOf(&[FOCUS_VERSION]), Required, "Of the specification"),
        field!("rows", Kind::List(&Kind::Map(&Kind::Any)), Required, "Column and value"),
    ],
};
const FOCUS_VERSION: &str = "1.2";

pub static ROUTES: &[Route] = &[Route::get(
    "/api/reports/focus",
    "focusExport",
    "The same for FinOps tools: FOCUS 1.2, a row for each day, project, key, model, request type and unit",
    &FOCUS,
    focus,
)
.answers(Answer::File(&FOCUS))
.access(Access::MONEY_READ)
.query(FILTERS.split_at(FILTERS.len() - 1).0)];

/// What a FOCUS row tells apart, in this order.
const FOCUS_BY: [Dimension; 9] = [
    Dimension::Day,
    Dimension::Account,
    Dimension::Project,
    Dimension::Member,
    Dimension::Key,
    Dimension::Group,
    Dimension::Model,
    Dimension::RequestType,
    Dimension::Unit,
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

/// So many of a unit, as FOCUS writes both.
struct Quantity {
    number: String,
    unit: &'static str,
}

impl Quantity {
    fn new(number: String, unit: &'static str) -> Self {
        Quantity { number, unit }
    }
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

    fn sold(&self) -> Option<Measure> {
        let unit = self.value(Dimension::Unit)?;
        Measure::ALL.into_iter().find(|measure| measure.as_str() == unit)
    }

    /// What was used, as it is counted. Of calls that used nothing, or of which that is not known any more, the number.
    fn consumed(&self) -> Quantity {
        match self.sold() {
            None => Quantity::new(self.sums.calls().to_string(), "Requests"),
            Some(Measure::Tokens) => Quantity::new(self.sums.all_tokens().to_string(), "Tokens"),
            Some(Measure::Unit(Unit::Character)) => {
                Quantity::new(self.sums.units(Unit::Character).to_string(), "Characters")
            }
            Some(Measure::Unit(_)) => self.priced(),
        }
    }

    /// The same, as its price is for it.
    fn priced(&self) -> Quantity {
        let Some(Measure::Unit(unit)) = self.sold() else {
            return match self.sold() {
                Some(_) => Quantity::new(decimal_text(self.sums.all_tokens().into(), 6), "1000000 Tokens"),
                None => self.consumed(),
            };
        };
        let counted = u64::try_from(self.sums.units(unit)).unwrap_or(0);
        let name = match unit {
            Unit::Image => "Images",
            Unit::Second => "Seconds",
            Unit::Character => "1000000 Characters",
            Unit::Search => "Searches",
        };
        Quantity::new(units_text(unit, counted), name)
    }

    fn line(&self, category: &str, cost: Nano) -> Vec<FocusValue> {
        let is_usage = category == "Usage";
        let month = self.day.first_of_month();
        let after = |day: Date, days: jiff::Span| day.checked_add(days).unwrap_or(day);
        let cost = || FocusValue::Number(cost.to_string());
        let quantity = |quantity: Quantity| match is_usage {
            true => [FocusValue::Number(quantity.number), FocusValue::text(quantity.unit)],
            false => [FocusValue::Null, FocusValue::Null],
        };
        let [consumed, consumed_unit] = quantity(self.consumed());
        let [priced, priced_unit] = quantity(self.priced());
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
            consumed,
            consumed_unit,
            cost(),
            cost(),
            FocusValue::text("Tallygate"),
            cost(),
            usage_only("Standard"),
            priced,
            priced_unit,
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
