//! Formats: how a file of somebody else's is read. The known ones are files of the same kind as a mapping of one's own.

use std::collections::BTreeMap;
use std::fmt;

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::read::Notation;
use super::row::Class;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// A payment provider's statement.
    Payments,
    /// An upstream's bill.
    Upstream,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Payments => "payments",
            Side::Upstream => "upstream",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Side::Payments, Side::Upstream].into_iter().find(|side| side.as_str() == text)
    }
}

/// By what the file's rows are found on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// Our number of the order.
    Order,
    /// The provider's number of the payment.
    Payment,
    /// The provider's number of the order.
    Provider,
    /// The upstream's id of the call.
    UpstreamRequest,
    /// The day in UTC: costs are summed.
    Day,
}

impl Join {
    pub fn as_str(self) -> &'static str {
        match self {
            Join::Order => "order",
            Join::Payment => "payment",
            Join::Provider => "provider",
            Join::UpstreamRequest => "upstream_request",
            Join::Day => "day",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Join::Order, Join::Payment, Join::Provider, Join::UpstreamRequest, Join::Day]
            .into_iter()
            .find(|join| join.as_str() == text)
    }

    fn side(self) -> Side {
        match self {
            Join::Order | Join::Payment | Join::Provider => Side::Payments,
            Join::UpstreamRequest | Join::Day => Side::Upstream,
        }
    }
}

/// How the file is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    #[default]
    Csv,
    /// A JSON object on each line.
    JsonLines,
    OpenaiCosts,
    AnthropicCosts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// UTF-8 if all of it is, else GB18030.
    #[default]
    Auto,
    #[serde(rename = "utf-8")]
    Utf8,
    Gb18030,
}

/// The mark before the part of an amount that is less than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Decimal {
    #[serde(rename = ".")]
    Point,
    #[serde(rename = ",")]
    Comma,
}

/// Names of columns, or of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    pub key: Option<String>,
    pub alias: Option<String>,
    pub class: Option<String>,
    pub amount: Option<String>,
    /// Of a refund, instead of `amount`.
    pub refund_amount: Option<String>,
    /// What was refunded of the payment of the same row.
    pub refunded: Option<String>,
    pub currency: Option<String>,
    pub time: Option<String>,
    pub account: Option<String>,
}

impl Columns {
    pub const COUNT: usize = 9;

    /// Those that are named, each in its place.
    pub fn each(&self) -> [Option<&str>; Self::COUNT] {
        [
            &self.key,
            &self.alias,
            &self.class,
            &self.amount,
            &self.refund_amount,
            &self.refunded,
            &self.currency,
            &self.time,
            &self.account,
        ]
        .map(Option::as_deref)
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    pub name: String,
    #[serde(default)]
    pub about: String,
    pub side: Side,
    /// Of payments: the provider whose orders are meant. Of an upstream: the channels, by id; none: all.
    #[serde(default)]
    pub scope: String,
    pub join: Join,
    #[serde(default)]
    pub layout: Layout,
    #[serde(default)]
    pub encoding: Encoding,
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Lines that begin with it are no rows.
    #[serde(default)]
    pub comment: String,
    /// Characters that are taken off the ends of each value.
    #[serde(default)]
    pub strip: String,
    /// What the first value of the line begins with that ends the rows.
    #[serde(default)]
    pub end: String,
    /// Where no column tells it; `ledger`: that of the books.
    #[serde(default)]
    pub currency: String,
    /// Of times that do not say theirs.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Amounts are whole minor units, such as cents.
    #[serde(default)]
    pub minor_units: bool,
    /// More places than a nano-unit has are rounded, half to even; else they are refused.
    #[serde(default)]
    pub round: bool,
    /// Of amounts in a table; the other of the two stands between thousands. Unless it is told, what can be read in two ways is
    /// refused.
    #[serde(default)]
    pub decimal: Option<Decimal>,
    /// Amounts in a table may have an exponent; those in JSON may.
    #[serde(default)]
    pub exponents: bool,
    #[serde(default)]
    pub columns: Columns,
    /// What the values of the column `class` mean: payment, refund, dispute, cost or ignore; `*` is any other.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
    /// Values of further columns, where the file has those, whose rows are none: money that never moved.
    #[serde(default)]
    pub ignore: BTreeMap<String, Vec<String>>,
}

fn comma() -> char {
    ','
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Why a text is no format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError(pub String);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormatError {}

const KNOWN: [&str; 9] = [
    include_str!("formats/stripe-balance.toml"),
    include_str!("formats/stripe-payments.toml"),
    include_str!("formats/alipay.toml"),
    include_str!("formats/wechat.toml"),
    include_str!("formats/openai-costs.toml"),
    include_str!("formats/openai-costs-csv.toml"),
    include_str!("formats/anthropic-costs.toml"),
    include_str!("formats/upstream-csv.toml"),
    include_str!("formats/simulator.toml"),
];

impl Format {
    /// The formats that need no mapping of one's own.
    pub fn known() -> impl Iterator<Item = Format> {
        KNOWN.into_iter().filter_map(|text| Format::parse(text).ok())
    }

    pub fn by_name(name: &str) -> Option<Format> {
        Format::known().find(|format| format.name == name)
    }

    /// Reads a mapping.
    pub fn parse(text: &str) -> Result<Format, FormatError> {
        let format: Format = toml::from_str(text).map_err(|why| FormatError(why.message().to_owned()))?;
        format.check()?;
        Ok(format)
    }

    fn check(&self) -> Result<(), FormatError> {
        let wrong = |why: &str| Err(FormatError(why.to_owned()));
        if self.name.is_empty() || self.name.len() > 60 {
            return wrong("name must have from 1 to 60 bytes");
        }
        if self.join.side() != self.side {
            return wrong(
                "join does not fit the side: order, payment or provider for payments, upstream_request or day for upstream",
            );
        }
        if !self.delimiter.is_ascii() {
            return wrong("delimiter must be one ASCII character");
        }
        if TimeZone::get(&self.time_zone).is_err() {
            return wrong("time_zone is not known");
        }
        if self.layout != Layout::Csv && self.decimal.is_some() {
            return wrong("decimal is for layout csv: numbers in JSON have a point");
        }
        if matches!(self.layout, Layout::Csv | Layout::JsonLines) {
            let columns = &self.columns;
            if columns.amount.is_none() || columns.time.is_none() {
                return wrong("columns needs amount and time");
            }
            if columns.key.is_none() && self.join != Join::Day {
                return wrong("columns needs key");
            }
            if columns.currency.is_none() && self.currency.is_empty() {
                return wrong("either currency or columns.currency must be there");
            }
        }
        for class in self.classes.values() {
            if class != "ignore" && Class::parse(class).is_none() {
                return Err(FormatError(format!(
                    "classes: {class} is none of payment, refund, dispute, cost, ignore"
                )));
            }
        }
        Ok(())
    }

    /// How amounts are written, moved right by some places.
    pub fn notation(&self, places: u32) -> Notation {
        let exponents = self.exponents || self.layout != Layout::Csv;
        Notation { decimal: self.decimal, exponents, places, round: self.round }
    }

    /// What a value of the class column means; `Some(None)`: the row is ignored, `None`: the value is not known.
    pub fn class_of(&self, value: &str) -> Option<Option<Class>> {
        let named = self.classes.get(value).or_else(|| self.classes.get("*"))?;
        Some(Class::parse(named))
    }

    /// Whether a row with this value in this column is none.
    pub fn ignores(&self, column: &str, value: &str) -> bool {
        self.ignore.get(column).is_some_and(|values| values.iter().any(|ignored| ignored == value))
    }

    /// The class of rows that do not say.
    pub fn class_by_default(&self) -> Class {
        match self.side {
            Side::Payments => Class::Payment,
            Side::Upstream => Class::Cost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_formats_can_be_read() {
        for text in KNOWN {
            Format::parse(text).unwrap();
        }
        assert_eq!(Format::known().count(), KNOWN.len());
        assert_eq!(Format::by_name("wechat").unwrap().class_of("REVOKED"), Some(None));
    }

    #[test]
    fn a_mapping_that_cannot_work_says_why() {
        let minimal = |more: &str| {
            Format::parse(&format!("name = \"own\"\nside = \"payments\"\njoin = \"order\"\n{more}"))
        };
        let columns = "[columns]\nkey = \"a\"\namount = \"b\"\ntime = \"c\"\n";
        assert!(minimal(&format!("currency = \"EUR\"\n{columns}")).is_ok());
        for (more, why) in [
            ("", "amount and time"),
            (columns, "currency"),
            ("typo = 1", "typo"),
            ("time_zone = \"Nowhere\"", "time_zone"),
            ("decimal = \";\"", "variant"),
            ("decimal = \",\"\nlayout = \"json_lines\"", "decimal is for layout csv"),
            ("[classes]\nx = \"money\"", "none of payment"),
        ] {
            let more = if why == "none of payment" {
                format!("currency = \"EUR\"\n{columns}{more}")
            } else {
                more.to_owned()
            };
            let told = minimal(&more).unwrap_err().0;
            assert!(told.contains(why), "{told}");
        }
    }
}
