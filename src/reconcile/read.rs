//! Reading files: CSV by a mapping, JSON by line, and the JSON of two upstreams' cost reports.
//!
//! Promises: what cannot be understood is told with its line and the reason; amounts are exact, or rounded once to the
//! nano-unit where the format says so; the file is read once from its beginning to its end, in constant memory (the cost
//! reports, which are small, excepted).

use std::io::{self, BufRead, BufReader, Read};

use encoding_rs::{Decoder, DecoderResult, GB18030, UTF_8};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ledger::Nano;
use serde_json::{Map, Value};

use super::format::{Format, Join, Layout};
use super::row::{Class, Row};
use crate::funding::money;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0: the file as a whole.
    pub line: u64,
    pub reason: String,
}

impl Fault {
    pub fn new(line: u64, reason: impl Into<String>) -> Self {
        Fault { line, reason: reason.into() }
    }
}

/// Why reading ended early.
#[derive(Debug)]
pub enum ReadError {
    File(Fault),
    Io(io::Error),
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        ReadError::File(fault)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

/// A row with the line that it stands on and its values as they are.
pub struct FileRow {
    pub row: Row,
    pub line: u64,
    pub body: String,
}

/// Longest line of JSON, and largest cost report.
const LINE_BYTES_MAX: usize = 1 << 20;
const REPORT_BYTES_MAX: u64 = 64 << 20;
/// Lines before the one with the names of the columns.
const LINES_BEFORE_COLUMNS: usize = 50;
const KEY_BYTES_MAX: usize = 200;

/// Reads all rows. `each` may end the reading.
pub fn rows(
    from: impl Read,
    format: &Format,
    currency: &str,
    is_utf8: bool,
    each: &mut dyn FnMut(FileRow) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let zone = TimeZone::get(&format.time_zone).map_err(|_| Fault::new(0, "the time zone is not known"))?;
    let reading = Reading { format, currency, zone };
    let text = Decoded::new(from, is_utf8);
    match format.layout {
        Layout::Csv => reading.csv(text, each),
        Layout::JsonLines => reading.json_lines(text, each),
        Layout::OpenaiCosts | Layout::AnthropicCosts => reading.report(text, each),
    }
}

struct Reading<'a> {
    format: &'a Format,
    /// Of the books.
    currency: &'a str,
    zone: TimeZone,
}

/// Where the columns of a file are.
#[derive(Default)]
struct Places {
    key: Option<usize>,
    alias: Option<usize>,
    class: Option<usize>,
    amount: Option<usize>,
    refund_amount: Option<usize>,
    refunded: Option<usize>,
    currency: Option<usize>,
    time: Option<usize>,
    account: Option<usize>,
}

/// The values of one row, by what they mean.
#[derive(Clone, Copy, Default)]
struct Values<'v> {
    key: &'v str,
    alias: &'v str,
    class: &'v str,
    amount: &'v str,
    refund_amount: &'v str,
    refunded: &'v str,
    currency: &'v str,
    time: &'v str,
    account: &'v str,
}

impl Reading<'_> {
    fn csv(
        &self,
        from: impl Read,
        each: &mut dyn FnMut(FileRow) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.format.delimiter as u8)
            .has_headers(false)
            .flexible(true)
            // Lines are counted by it; a carriage return before it is taken off with the blanks.
            .terminator(csv::Terminator::Any(b'\n'))
            .buffer_capacity(1 << 16)
            .from_reader(from);
        let mut record = csv::StringRecord::new();
        let mut columns: Option<(Vec<String>, Places)> = None;
        let mut before = 0;
        loop {
            match reader.read_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(csv_fault(error)),
            }
            let line = record.position().map_or(0, csv::Position::line);
            let first = self.clean(record.get(0).unwrap_or_default());
            if record.len() == 1 && first.is_empty() {
                continue;
            }
            let is_comment = !self.format.comment.is_empty() && first.starts_with(&self.format.comment);
            if is_comment {
                continue;
            }
            let Some((names, places)) = &columns else {
                columns = self.columns(&record, line, before)?;
                before += 1;
                continue;
            };
            if !self.format.end.is_empty() && first.starts_with(&self.format.end) {
                break;
            }
            if record.len() != names.len() {
                let reason = format!("{} values where the columns are {}", record.len(), names.len());
                return Err(Fault::new(line, reason).into());
            }
            let values = self.values(&record, places);
            self.emit(line, &values, || body_of(names, &record, self), each)?;
        }
        match columns {
            Some(_) => Ok(()),
            None => {
                Err(Fault::new(0, format!("no line has the columns {}", self.wanted().join(", "))).into())
            }
        }
    }

    fn clean<'v>(&self, value: &'v str) -> &'v str {
        value.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || self.format.strip.contains(c))
    }

    fn wanted(&self) -> Vec<&str> {
        let columns = &self.format.columns;
        [
            &columns.key,
            &columns.alias,
            &columns.class,
            &columns.amount,
            &columns.refund_amount,
            &columns.refunded,
            &columns.currency,
            &columns.time,
            &columns.account,
        ]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect()
    }

    /// The columns, if this is the line that names them. A line that names some of them and not all is a wrong file.
    fn columns(
        &self,
        record: &csv::StringRecord,
        line: u64,
        before: usize,
    ) -> Result<Option<(Vec<String>, Places)>, Fault> {
        let names: Vec<String> = record.iter().map(|name| self.clean(name).to_owned()).collect();
        let wanted = self.wanted();
        let missing: Vec<_> =
            wanted.iter().filter(|wanted| !names.iter().any(|name| name == *wanted)).collect();
        if !missing.is_empty() {
            let some_are_there = missing.len() < wanted.len();
            if some_are_there || before >= LINES_BEFORE_COLUMNS {
                let missing: Vec<_> = missing.iter().map(|name| format!("\"{name}\"")).collect();
                return Err(Fault::new(line, format!("the column {} is not there", missing.join(", "))));
            }
            return Ok(None);
        }
        let place = |name: &Option<String>| {
            let name = name.as_deref()?;
            names.iter().position(|known| known == name)
        };
        let columns = &self.format.columns;
        let places = Places {
            key: place(&columns.key),
            alias: place(&columns.alias),
            class: place(&columns.class),
            amount: place(&columns.amount),
            refund_amount: place(&columns.refund_amount),
            refunded: place(&columns.refunded),
            currency: place(&columns.currency),
            time: place(&columns.time),
            account: place(&columns.account),
        };
        Ok(Some((names, places)))
    }

    fn values<'v>(&self, record: &'v csv::StringRecord, places: &Places) -> Values<'v> {
        let value =
            |place: Option<usize>| place.and_then(|at| record.get(at)).map_or("", |value| self.clean(value));
        Values {
            key: value(places.key),
            alias: value(places.alias),
            class: value(places.class),
            amount: value(places.amount),
            refund_amount: value(places.refund_amount),
            refunded: value(places.refunded),
            currency: value(places.currency),
            time: value(places.time),
            account: value(places.account),
        }
    }

    /// The row of some values, or two where a payment's row says what was refunded of it.
    fn emit(
        &self,
        line: u64,
        values: &Values<'_>,
        body: impl Fn() -> String,
        each: &mut dyn FnMut(FileRow) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let fault = |reason: String| ReadError::File(Fault::new(line, reason));
        let class = match &self.format.columns.class {
            None => self.format.class_by_default(),
            Some(name) => match self.format.class_of(values.class) {
                Some(Some(class)) => class,
                Some(None) => return Ok(()),
                None => return Err(fault(format!("{name}: \"{}\" is not known", values.class))),
            },
        };
        let currency = self.currency_of(values.currency).map_err(&fault)?;
        let at_ms = self.time(values.time).map_err(&fault)?;
        let text = match class {
            Class::Refund if !values.refund_amount.is_empty() => values.refund_amount,
            _ => values.amount,
        };
        let amount = self.amount(text, &currency).map_err(&fault)?;
        // Files write what went back with or without a sign; a dispute's sign says which way the money went.
        let amount =
            if class == Class::Refund { Nano(amount.0.saturating_abs().saturating_neg()) } else { amount };
        let key = match self.format.join {
            Join::Day => day_of(at_ms),
            _ if values.key.is_empty() => return Err(fault("there is no number to find it by".to_owned())),
            _ if values.key.len() > KEY_BYTES_MAX => return Err(fault("the number is too long".to_owned())),
            _ => values.key.to_owned(),
        };
        let mut row = Row::new(key, class, Some(amount), &currency, at_ms);
        row.alias = values.alias.into();
        row.account = values.account.into();
        if class == Class::Payment && !values.refunded.is_empty() {
            let refunded = self.amount(values.refunded, &currency).map_err(&fault)?;
            if refunded != Nano::ZERO {
                let amount = Some(Nano(refunded.0.saturating_abs().saturating_neg()));
                each(FileRow {
                    row: Row { class: Class::Refund, amount, ..row.clone() },
                    line,
                    body: body(),
                })?;
            }
        }
        each(FileRow { row, line, body: body() })
    }

    fn currency_of(&self, told: &str) -> Result<String, String> {
        let text = match (told, self.format.currency.as_str()) {
            ("", "ledger") => self.currency.to_owned(),
            ("", fixed) => fixed.to_owned(),
            (told, _) => told.to_ascii_uppercase(),
        };
        let fine = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        if fine { Ok(text) } else { Err(format!("\"{text}\" is no currency")) }
    }

    fn amount(&self, text: &str, currency: &str) -> Result<Nano, String> {
        let plain: String =
            text.chars().filter(|c| *c != ',' && !matches!(c, '¥' | '$' | '€' | '￥')).collect();
        let places = if self.format.minor_units { money::places(currency) } else { 0 };
        parse_amount(plain.trim(), places, self.format.round)
            .map_err(|why| format!("the amount \"{text}\" {why}"))
    }

    fn time(&self, text: &str) -> Result<i64, String> {
        if let Ok(seconds) = text.parse::<i64>() {
            return seconds.checked_mul(1_000).ok_or_else(|| format!("\"{text}\" is no time"));
        }
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(at.as_millisecond());
        }
        let civil = text.replace('/', "-");
        let civil = civil.parse::<DateTime>().or_else(|_| format!("{civil}:00").parse::<DateTime>());
        let at = civil.ok().and_then(|civil| civil.to_zoned(self.zone.clone()).ok());
        at.map(|at| at.timestamp().as_millisecond()).ok_or_else(|| format!("\"{text}\" is no time"))
    }

    fn json_lines(
        &self,
        from: impl Read,
        each: &mut dyn FnMut(FileRow) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut from = BufReader::new(from);
        let (mut text, mut line) = (Vec::new(), 0);
        loop {
            text.clear();
            if from.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut text)? == 0 {
                return Ok(());
            }
            line += 1;
            if text.len() >= LINE_BYTES_MAX {
                return Err(Fault::new(line, "the line is too long").into());
            }
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let fields: Map<String, Value> = serde_json::from_slice(&text)
                .map_err(|why| Fault::new(line, format!("is no JSON object: {why}")))?;
            let owned = FieldTexts::of(&fields, self.format);
            self.emit(line, &owned.values(), || Value::Object(fields.clone()).to_string(), each)?;
        }
    }

    /// OpenAI's and Anthropic's reports: buckets of a day with the costs in them.
    fn report(
        &self,
        from: impl Read,
        each: &mut dyn FnMut(FileRow) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut text = String::new();
        from.take(REPORT_BYTES_MAX).read_to_string(&mut text)?;
        let pages = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        for page in pages {
            let page = page.map_err(|why| Fault::new(why.line() as u64, format!("is no JSON: {why}")))?;
            let wrong = |what: &str| Fault::new(0, format!("the report has no {what}"));
            let buckets = page["data"].as_array().ok_or_else(|| wrong("data"))?;
            for (at, bucket) in buckets.iter().enumerate() {
                self.bucket(at as u64 + 1, bucket, each)?;
            }
        }
        Ok(())
    }

    fn bucket(
        &self,
        number: u64,
        bucket: &Value,
        each: &mut dyn FnMut(FileRow) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let fault = |reason: &str| Fault::new(number, format!("bucket {number} {reason}"));
        let start = [&bucket["start_time"], &bucket["starting_at"]].into_iter().find(|time| !time.is_null());
        let start = start.map(plain).ok_or_else(|| fault("has no start"))?;
        let at_ms = self.time(&start).map_err(|why| fault(&why))?;
        for result in bucket["results"].as_array().ok_or_else(|| fault("has no results"))? {
            let (amount, currency, places) = match self.format.layout {
                Layout::AnthropicCosts => (plain(&result["amount"]), plain(&result["currency"]), 2),
                _ => (plain(&result["amount"]["value"]), plain(&result["amount"]["currency"]), 0),
            };
            let currency = self.currency_of(&currency).map_err(|why| fault(&why))?;
            let amount = parse_amount(&amount, places, self.format.round);
            let amount = amount.map_err(|why| fault(&format!("has an amount that {why}")))?;
            let row = Row::new(day_of(at_ms), Class::Cost, Some(amount), &currency, at_ms);
            each(FileRow { row, line: number, body: result.to_string() })?;
        }
        Ok(())
    }
}

/// The day of a time in UTC, which rows of a day are called by.
pub(super) fn day_of(at_ms: i64) -> String {
    let day = jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default();
    day.strftime("%Y-%m-%d").to_string()
}

/// A JSON value as plain text.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Values of a JSON object.
struct FieldTexts([String; 9]);

impl FieldTexts {
    fn of(fields: &Map<String, Value>, format: &Format) -> Self {
        let columns = &format.columns;
        let text = |name: &Option<String>| {
            name.as_ref().and_then(|name| fields.get(name)).map(plain).unwrap_or_default()
        };
        FieldTexts(
            [
                &columns.key,
                &columns.alias,
                &columns.class,
                &columns.amount,
                &columns.refund_amount,
                &columns.refunded,
                &columns.currency,
                &columns.time,
                &columns.account,
            ]
            .map(text),
        )
    }

    fn values(&self) -> Values<'_> {
        let [key, alias, class, amount, refund_amount, refunded, currency, time, account] = &self.0;
        Values { key, alias, class, amount, refund_amount, refunded, currency, time, account }
    }
}

fn body_of(names: &[String], record: &csv::StringRecord, reading: &Reading<'_>) -> String {
    let fields =
        names.iter().zip(record).map(|(name, value)| (name.clone(), Value::from(reading.clean(value))));
    Value::Object(fields.collect()).to_string()
}

fn csv_fault(error: csv::Error) -> ReadError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => ReadError::Io(error),
        csv::ErrorKind::Utf8 { err, .. } => ReadError::File(Fault::new(line, format!("is no text: {err}"))),
        other => ReadError::File(Fault::new(line, format!("cannot be read: {other:?}"))),
    }
}

/// An exact decimal, also with an exponent, moved right by some places (cents to units); in nano-units.
fn parse_amount(text: &str, places: u32, round: bool) -> Result<Nano, &'static str> {
    const NANO_PLACES: i64 = 9;
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| "is no number")?),
        None => (text, 0),
    };
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = [whole, fraction].concat();
    if all.is_empty() || all.len() > 36 || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is no number");
    }
    let digits: i128 = all.parse().map_err(|_| "is no number")?;
    let shift = NANO_PLACES + i64::from(exponent) - i64::from(places) - fraction.len() as i64;
    let power = |by: i64| u32::try_from(by).ok().and_then(|by| 10_i128.checked_pow(by));
    let nano = if digits == 0 {
        0
    } else if shift >= 0 {
        power(shift).and_then(|power| digits.checked_mul(power)).ok_or("is too large")?
    } else {
        let Some(unit) = power(-shift) else {
            return if round { Ok(Nano::ZERO) } else { Err("has more than nine places") };
        };
        let (kept, rest) = (digits / unit, digits % unit);
        if rest != 0 && !round {
            return Err("has more than nine places");
        }
        kept + i128::from(rest * 2 > unit || (rest * 2 == unit && kept % 2 == 1))
    };
    i64::try_from(if negative { -nano } else { nano }).map(Nano).map_err(|_| "is too large")
}

/// Bytes as UTF-8 text. What is not of the encoding ends the reading with its line.
struct Decoded<R> {
    from: R,
    decoder: Decoder,
    raw: Vec<u8>,
    start: usize,
    end: usize,
    over: bool,
}

impl<R: Read> Decoded<R> {
    fn new(from: R, is_utf8: bool) -> Self {
        let encoding = if is_utf8 { UTF_8 } else { GB18030 };
        Decoded {
            from,
            decoder: encoding.new_decoder(),
            raw: vec![0; 1 << 16],
            start: 0,
            end: 0,
            over: false,
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.start == self.end && !self.over {
                (self.start, self.end) = (0, self.from.read(&mut self.raw)?);
                self.over = self.end == 0;
            }
            let raw = self.raw.get(self.start..self.end).unwrap_or_default();
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(raw, to, self.over);
            self.start += read;
            match result {
                DecoderResult::Malformed(..) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the text is not of the file's encoding",
                    ));
                }
                _ if written > 0 => return Ok(written),
                DecoderResult::OutputFull => return Ok(written),
                DecoderResult::InputEmpty if self.over => return Ok(0),
                DecoderResult::InputEmpty => {}
            }
        }
    }
}

/// Whether all of it is UTF-8, in portions.
pub struct Utf8Check {
    decoder: Decoder,
    fine: bool,
}

impl Default for Utf8Check {
    fn default() -> Self {
        Utf8Check { decoder: UTF_8.new_decoder_without_bom_handling(), fine: true }
    }
}

impl Utf8Check {
    pub fn push(&mut self, mut bytes: &[u8], last: bool) {
        let mut out = [0; 4096];
        while self.fine {
            let (result, read, _) = self.decoder.decode_to_utf8_without_replacement(bytes, &mut out, last);
            bytes = bytes.get(read..).unwrap_or_default();
            match result {
                DecoderResult::Malformed(..) => self.fine = false,
                DecoderResult::OutputFull => {}
                DecoderResult::InputEmpty => break,
            }
        }
    }

    pub fn is_fine(&self) -> bool {
        self.fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &Format, bytes: &[u8]) -> Result<Vec<(Row, u64)>, Fault> {
        let mut check = Utf8Check::default();
        check.push(bytes, true);
        let mut found = Vec::new();
        let done = rows(bytes, format, "USD", check.is_fine(), &mut |read| {
            found.push((read.row, read.line));
            Ok(())
        });
        match done {
            Ok(()) => Ok(found),
            Err(ReadError::File(fault)) => Err(fault),
            Err(ReadError::Io(error)) => Err(Fault::new(0, error.to_string())),
        }
    }

    fn shown(rows: &[(Row, u64)]) -> Vec<(String, &'static str, String, String, u64)> {
        let show = |(row, line): &(Row, u64)| {
            let amount = row.amount.unwrap().to_string();
            (row.key.to_string(), row.class.as_str(), amount, row.currency.to_string(), *line)
        };
        rows.iter().map(show).collect()
    }

    fn expect(
        key: &str,
        class: &'static str,
        amount: &str,
        currency: &str,
        line: u64,
    ) -> (String, &'static str, String, String, u64) {
        (key.to_owned(), class, amount.to_owned(), currency.to_owned(), line)
    }

    #[test]
    fn a_wechat_bill_with_its_backticks_and_its_summary() {
        let bill = "\u{feff}交易时间,公众账号ID,商户订单号,交易状态,货币种类,应结订单金额,退款金额,订单金额,申请退款金额\r\n\
            `2026-11-22 10:00:00,`wx1,`ord_a,`SUCCESS,`CNY,`72.50,`0.00,`72.50,`0.00\r\n\
            `2026-11-22 11:00:00,`wx1,`ord_a,`REFUND,`CNY,`0.00,`2.50,`0.00,`2.50\r\n\
            总交易单数,应结订单总金额,退款总金额\r\n`2,`72.50,`2.50\r\n";
        let rows = read(&Format::by_name("wechat").unwrap(), bill.as_bytes()).unwrap();
        let wanted =
            [expect("ord_a", "payment", "72.5", "CNY", 2), expect("ord_a", "refund", "-2.5", "CNY", 3)];
        assert_eq!(shown(&rows), wanted);
        // 10:00 in Shanghai.
        assert_eq!(rows[0].0.at_ms, 1_795_312_800_000);
    }

    #[test]
    fn an_alipay_bill_in_gb18030_and_in_utf8() {
        let bill = "#支付宝业务明细查询\r\n#账号：[2088000000000000]\r\n#-----业务明细列表-----\r\n\
            支付宝交易号,商户订单号,业务类型,完成时间,订单金额（元）,商家实收（元）\r\n\
            2026112200000001\t,ord_a\t,交易    ,2026-11-22 10:00:00,72.50,72.50\r\n\
            2026112200000001\t,ord_a\t,退款    ,2026-11-22 11:00:00,-2.50,-2.50\r\n\
            #-----业务明细列表结束-----\r\n#业务明细合计：1笔\r\n";
        let format = Format::by_name("alipay").unwrap();
        let (gb, _, _) = GB18030.encode(bill);
        for bytes in [bill.as_bytes(), &gb] {
            let rows = read(&format, bytes).unwrap();
            let wanted =
                [expect("ord_a", "payment", "72.5", "CNY", 5), expect("ord_a", "refund", "-2.5", "CNY", 6)];
            assert_eq!(shown(&rows), wanted);
        }
    }

    #[test]
    fn stripes_two_exports() {
        let balance = "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,payment_intent_id\n\
            txn_1,2026-11-22 08:00:00,usd,10.00,0.59,9.41,charge,pi_1\n\
            txn_2,2026-11-22 09:00:00,usd,-4.00,0.00,-4.00,refund,pi_1\n\
            txn_3,2026-11-22 10:00:00,usd,-6.00,15.00,-21.00,dispute,pi_1\n\
            txn_4,2026-11-22 11:00:00,usd,-100.00,0.00,-100.00,payout,\n";
        let rows = read(&Format::by_name("stripe-balance").unwrap(), balance.as_bytes()).unwrap();
        let wanted = [
            expect("pi_1", "payment", "10", "USD", 2),
            expect("pi_1", "refund", "-4", "USD", 3),
            expect("pi_1", "dispute", "-6", "USD", 4),
        ];
        assert_eq!(shown(&rows), wanted);
        let payments = "id,Created date (UTC),Amount,Amount Refunded,Currency,Status,PaymentIntent ID\n\
            ch_1,2026-11-22 08:00,\"1,000.00\",4.00,usd,Paid,pi_1\nch_2,2026-11-22 08:00,5.00,0.00,usd,Failed,pi_2\n";
        let rows = read(&Format::by_name("stripe-payments").unwrap(), payments.as_bytes()).unwrap();
        let wanted = [expect("pi_1", "refund", "-4", "USD", 2), expect("pi_1", "payment", "1000", "USD", 2)];
        assert_eq!(shown(&rows), wanted);
    }

    #[test]
    fn the_cost_reports_of_two_upstreams() {
        let openai = r#"{"object": "page", "data": [{"object": "bucket", "start_time": 1795305600, "end_time": 1795392000,
            "results": [{"amount": {"value": 0.06, "currency": "usd"}, "line_item": "gpt-5-mini, input"},
                        {"amount": {"value": 1e-5, "currency": "usd"}, "line_item": "gpt-5-mini, output"}]}], "has_more": false}"#;
        let rows = read(&Format::by_name("openai-costs").unwrap(), openai.as_bytes()).unwrap();
        let wanted = [
            expect("2026-11-22", "cost", "0.06", "USD", 1),
            expect("2026-11-22", "cost", "0.00001", "USD", 1),
        ];
        assert_eq!(shown(&rows), wanted);
        let anthropic = r#"{"data": [{"starting_at": "2026-11-22T00:00:00Z", "ending_at": "2026-11-23T00:00:00Z",
            "results": [{"amount": "123.45", "currency": "USD", "model": "claude-sonnet-4-5"}]}], "has_more": false}"#;
        let rows = read(&Format::by_name("anthropic-costs").unwrap(), anthropic.as_bytes()).unwrap();
        assert_eq!(shown(&rows), [expect("2026-11-22", "cost", "1.2345", "USD", 1)]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_line() {
        let format = Format::by_name("stripe-balance").unwrap();
        let head = "created_utc,currency,gross,reporting_category,payment_intent_id\n";
        let fault = |rest: &str| read(&format, format!("{head}{rest}").as_bytes()).unwrap_err();
        for (rest, line, reason) in [
            ("2026-11-22 08:00:00,usd,10.00,charge\n", 2, "4 values where the columns are 5"),
            (
                "2026-11-22 08:00:00,usd,10.00,charge,pi_1\n2026-11-22 08:00:00,usd,ten,charge,pi_2\n",
                3,
                "\"ten\" is no number",
            ),
            ("yesterday,usd,10.00,charge,pi_1\n", 2, "\"yesterday\" is no time"),
            ("2026-11-22 08:00:00,dollars,10.00,charge,pi_1\n", 2, "\"DOLLARS\" is no currency"),
            ("2026-11-22 08:00:00,usd,10.00,charge,\n", 2, "no number to find it by"),
            ("2026-11-22 08:00:00,usd,0.0000000001,charge,pi_1\n", 2, "more than nine places"),
        ] {
            let told = fault(rest);
            assert_eq!(told.line, line, "{told:?}");
            assert!(told.reason.contains(reason), "{told:?}");
        }
        let told =
            read(&format, b"created_utc,currency,net,reporting_category,payment_intent_id\n").unwrap_err();
        assert_eq!((told.line, told.reason.as_str()), (1, "the column \"gross\" is not there"));
        assert!(read(&format, b"a,b\n1,2\n").unwrap_err().reason.contains("no line has the columns"));
        // Neither UTF-8 nor GB18030.
        assert!(read(&format, &[b'a', 0xff, 0xff, b'\n']).is_err());
    }

    #[test]
    fn amounts_are_exact_or_rounded_once() {
        assert_eq!(parse_amount("123.45", 2, false), Ok(Nano(1_234_500_000)));
        assert_eq!(parse_amount("1e-5", 0, false), Ok(Nano(10_000)));
        assert_eq!(parse_amount("-0.1", 0, false), Ok(Nano(-100_000_000)));
        assert_eq!(parse_amount("0.0000000015", 0, true), Ok(Nano(2)));
        assert_eq!(parse_amount("0.0000000025", 0, true), Ok(Nano(2)));
        assert_eq!(parse_amount("0.0000000015", 0, false), Err("has more than nine places"));
        assert_eq!(parse_amount("99999999999", 0, false), Err("is too large"));
        for text in ["", "-", "1.2.3", "1e", "0x1", "1 2"] {
            assert!(parse_amount(text, 0, true).is_err(), "{text}");
        }
    }
}
