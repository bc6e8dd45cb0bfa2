//! Tables: lines before the names of the columns, rows, and what ends them.

use std::io::Read;

use serde_json::Value;

use super::{Each, Fault, ReadError, Reading, Values};
use crate::reconcile::format::Columns;

/// Lines before the one with the names of the columns.
const LINES_BEFORE_COLUMNS: usize = 50;

/// The line that names the columns, and where in it is what.
struct Head {
    names: Vec<String>,
    /// In the order of [`Columns::each`].
    places: [Option<usize>; Columns::COUNT],
    /// Columns whose values may say that a row is to be ignored.
    ignoring: Vec<(usize, String)>,
}

impl Reading<'_> {
    pub(super) fn table(&self, from: impl Read, each: &mut Each<'_>) -> Result<(), ReadError> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.format.delimiter as u8)
            .has_headers(false)
            .flexible(true)
            // Lines are counted by it; a carriage return before it is taken off with the blanks.
            .terminator(csv::Terminator::Any(b'\n'))
            .buffer_capacity(1 << 16)
            .from_reader(from);
        let mut record = csv::StringRecord::new();
        let mut head: Option<Head> = None;
        let mut before = 0;
        while reader.read_record(&mut record).map_err(csv_fault)? {
            let line = record.position().map_or(0, csv::Position::line);
            let first = self.clean(record.get(0).unwrap_or_default());
            let is_blank = record.len() == 1 && first.is_empty();
            let is_comment = !self.format.comment.is_empty() && first.starts_with(&self.format.comment);
            if is_blank || is_comment {
                continue;
            }
            let Some(head) = &head else {
                head = self.head(&record, line, before)?;
                before += 1;
                continue;
            };
            if !self.format.end.is_empty() && first.starts_with(&self.format.end) {
                break;
            }
            if record.len() != head.names.len() {
                let reason = format!("{} values where the columns are {}", record.len(), head.names.len());
                return Err(Fault::new(line, reason).into());
            }
            if !self.is_ignored(head, &record) {
                let values = Values::from(head.places.map(|place| self.value(&record, place)));
                self.emit(line, &values, || self.body(head, &record), each)?;
            }
        }
        match head {
            Some(_) => Ok(()),
            None => {
                let wanted: Vec<_> = self.format.columns.each().into_iter().flatten().collect();
                Err(Fault::new(0, format!("no line has the columns {}", wanted.join(", "))).into())
            }
        }
    }

    fn clean<'v>(&self, value: &'v str) -> &'v str {
        value.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || self.format.strip.contains(c))
    }

    /// The head, if this is it. A line that names some of the columns and not all is one of a wrong file.
    fn head(&self, record: &csv::StringRecord, line: u64, before: usize) -> Result<Option<Head>, Fault> {
        let names: Vec<String> = record.iter().map(|name| self.clean(name).to_owned()).collect();
        let place = |wanted: &str| names.iter().position(|name| name == wanted);
        let columns = self.format.columns.each();
        let places = columns.map(|wanted| wanted.and_then(place));
        let wanted = columns.iter().flatten().count();
        let missing = columns.iter().zip(&places).filter_map(|(wanted, place)| {
            let wanted = wanted.as_ref()?;
            place.is_none().then(|| format!("\"{wanted}\""))
        });
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            let read = columns.into_iter().flatten().chain(self.format.ignore.keys().map(String::as_str));
            let is_twice = |wanted: &&str| names.iter().filter(|name| name == wanted).count() > 1;
            if let Some(name) = read.into_iter().find(is_twice) {
                return Err(Fault::new(line, format!("the column \"{name}\" is there twice")));
            }
            let ignoring = self.format.ignore.keys().filter_map(|name| Some((place(name)?, name.clone())));
            let ignoring = ignoring.collect();
            return Ok(Some(Head { names, places, ignoring }));
        }
        if missing.len() < wanted || before >= LINES_BEFORE_COLUMNS {
            return Err(Fault::new(line, format!("the column {} is not there", missing.join(", "))));
        }
        Ok(None)
    }

    fn value<'v>(&self, record: &'v csv::StringRecord, place: Option<usize>) -> &'v str {
        place.and_then(|at| record.get(at)).map_or("", |value| self.clean(value))
    }

    fn is_ignored(&self, head: &Head, record: &csv::StringRecord) -> bool {
        head.ignoring.iter().any(|(at, name)| self.format.ignores(name, self.value(record, Some(*at))))
    }

    /// A row as it came, with the names of its columns.
    fn body(&self, head: &Head, record: &csv::StringRecord) -> String {
        let named = head.names.iter().zip(record);
        let fields = named.map(|(name, value)| (name.clone(), Value::from(self.clean(value))));
        Value::Object(fields.collect()).to_string()
    }
}

fn csv_fault(error: csv::Error) -> ReadError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        csv::ErrorKind::Utf8 { err, .. } => Fault::new(line, format!("is no text: {err}")).into(),
        other => Fault::new(line, format!("cannot be read: {other:?}")).into(),
    }
}
