//! JSON: an object on each line, and the reports of two upstreams, which are days with the costs in them.

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Each, Fault, FileRow, ReadError, Reading, Values, day_of};
use crate::reconcile::format::Layout;
use crate::reconcile::row::{Class, Row};

/// Longest line, and largest report.
const LINE_BYTES_MAX: usize = 1 << 20;
const REPORT_BYTES_MAX: u64 = 64 << 20;

impl Reading<'_> {
    pub(super) fn json_lines(&self, from: impl Read, each: &mut Each<'_>) -> Result<(), ReadError> {
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
            let of = |name: &str| fields.get(name).map(plain).unwrap_or_default();
            if self.format.ignore.keys().any(|name| self.format.ignores(name, &of(name))) {
                continue;
            }
            let texts = self.format.columns.each().map(|name| name.map(of).unwrap_or_default());
            let values = Values::from(texts.each_ref().map(String::as_str));
            self.emit(line, &values, || Value::Object(fields.clone()).to_string(), each)?;
        }
    }

    /// OpenAI's and Anthropic's reports, pages one after the other.
    pub(super) fn report(&self, from: impl Read, each: &mut Each<'_>) -> Result<(), ReadError> {
        let mut text = String::new();
        from.take(REPORT_BYTES_MAX).read_to_string(&mut text)?;
        let mut lines = Lines { text: &text, offset: 0, line: 1 };
        let pages = serde_json::Deserializer::from_str(&text).into_iter::<Page<'_>>();
        for page in pages {
            let page = page.map_err(|why| Fault::new(why.line() as u64, format!("is no report: {why}")))?;
            for bucket in page.data {
                let line = lines.of(bucket);
                let bucket: Value = serde_json::from_str(bucket.get())
                    .map_err(|why| Fault::new(line, format!("is no JSON: {why}")))?;
                self.bucket(line, &bucket, each)?;
            }
        }
        Ok(())
    }

    /// The costs of one day, which begins on this line.
    fn bucket(&self, line: u64, bucket: &Value, each: &mut Each<'_>) -> Result<(), ReadError> {
        let fault = |reason: &str| Fault::new(line, format!("the bucket {reason}"));
        let start = [&bucket["start_time"], &bucket["starting_at"]].into_iter().find(|time| !time.is_null());
        let start = start.map(plain).ok_or_else(|| fault("has no start"))?;
        let at_ms = self.time(&start).map_err(|why| fault(&format!("has a start that is none: {why}")))?;
        for result in bucket["results"].as_array().ok_or_else(|| fault("has no results"))? {
            let (amount, currency, places) = match self.format.layout {
                Layout::AnthropicCosts => (plain(&result["amount"]), plain(&result["currency"]), 2),
                _ => (plain(&result["amount"]["value"]), plain(&result["amount"]["currency"]), 0),
            };
            let currency = self.currency_of(&currency);
            let currency = currency.map_err(|why| fault(&format!("has a currency that is none: {why}")))?;
            let read = self.format.notation(places).read(&amount);
            let read = read.map_err(|why| fault(&format!("has the amount \"{amount}\", which {why}")))?;
            let row = Row::new(day_of(at_ms), Class::Cost, Some(read), &currency, at_ms);
            each(FileRow { row, line, body: result.to_string() })?;
        }
        Ok(())
    }
}

/// A page of a report, its buckets as they stand in the text.
#[derive(Deserialize)]
struct Page<'t> {
    #[serde(borrow)]
    data: Vec<&'t RawValue>,
}

/// Finds the lines of a text's parts, which are asked for in their order.
struct Lines<'t> {
    text: &'t str,
    offset: usize,
    line: u64,
}

impl Lines<'_> {
    fn of(&mut self, part: &RawValue) -> u64 {
        let offset = part.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let between = self.text.as_bytes().get(self.offset..offset).unwrap_or_default();
        self.line += between.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.offset = offset;
        self.line
    }
}

/// A JSON value as plain text.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
