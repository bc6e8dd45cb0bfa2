//! How answers are shown: as JSON, or as tables that people read.

use std::io::{self, Write};

use serde_json::Value;

use super::{Done, Exit, Failure};

/// Where answers and complaints go.
pub struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
}

impl Output {
    pub fn new(out: Box<dyn Write>, err: Box<dyn Write>) -> Self {
        Output { out, err }
    }

    /// The process's own.
    pub fn standard() -> Self {
        Output::new(Box::new(io::stdout()), Box::new(io::stderr()))
    }

    pub fn out(&mut self) -> &mut dyn Write {
        &mut *self.out
    }

    pub fn err(&mut self) -> &mut dyn Write {
        &mut *self.err
    }

    /// Answers and complaints.
    pub fn both(&mut self) -> (&mut dyn Write, &mut dyn Write) {
        (&mut *self.out, &mut *self.err)
    }

    pub fn text(&mut self, text: &str) -> Done {
        self.line(text.trim_end())?;
        Ok(Exit::Fine)
    }

    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    pub fn json(&mut self, value: &Value) -> Done {
        let text = serde_json::to_string_pretty(value).map_err(Failure::unanswered)?;
        self.text(&text)
    }

    /// An object: one line for each field; what is nested stands below, indented.
    pub fn object(&mut self, value: &Value) -> Done {
        let mut lines = Vec::new();
        describe(value, 0, &mut lines);
        self.text(&lines.join("\n"))
    }

    /// Rows under a heading. A column is a heading and the field that stands below it.
    pub fn table(&mut self, rows: &[Value], columns: &[(&str, &str)]) -> Done {
        let head: Vec<String> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
        let cells = |row: &Value| columns.iter().map(|(_, field)| cell(&row[*field])).collect::<Vec<_>>();
        let mut lines = vec![head];
        lines.extend(rows.iter().map(cells));
        self.text(&aligned(&lines).join("\n"))
    }
}

/// A value on one line.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "–".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => "–".to_owned(),
        Value::Object(fields) => {
            let parts = fields.iter().filter(|(_, value)| !value.is_null());
            parts.map(|(name, value)| format!("{name} {}", cell(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn describe(value: &Value, depth: usize, lines: &mut Vec<String>) {
    let Value::Object(fields) = value else {
        lines.push(format!("{:indent$}{}", "", cell(value), indent = depth * 2));
        return;
    };
    let longest = fields.keys().map(|name| width(name)).max().unwrap_or(0);
    for (name, value) in fields {
        let indent = " ".repeat(depth * 2);
        let pad = " ".repeat(longest.saturating_sub(width(name)));
        match value {
            Value::Array(values) if values.iter().any(Value::is_object) => {
                lines.push(format!("{indent}{name}"));
                values.iter().for_each(|value| lines.push(format!("{indent}  {}", cell(value))));
            }
            Value::Object(inner) if !inner.is_empty() => {
                lines.push(format!("{indent}{name}"));
                describe(value, depth + 1, lines);
            }
            _ => lines.push(format!("{indent}{name}{pad}  {}", cell(value))),
        }
    }
}

/// Columns of equal width, two blanks apart.
pub fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max();
    let widths: Vec<_> = (0..columns).map(|column| widest(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let padded = cells.map(|(cell, width_wanted)| {
            format!("{cell}{}", " ".repeat(width_wanted.saturating_sub(width(cell))))
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Columns of a terminal: Chinese characters and full-width signs take two.
fn width(text: &str) -> usize {
    let wide = |c: char| matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}');
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_whatever_the_script() {
        let rows = [vec!["名称".to_owned(), "x".to_owned()], vec!["abcdef".to_owned(), "y".to_owned()]];
        assert_eq!(aligned(&rows), ["名称    x", "abcdef  y"]);
    }

    #[test]
    fn nested_objects_stand_below() {
        let mut lines = Vec::new();
        describe(&json!({"a": 1, "bcd": {"e": null}, "f": [{"g": 1, "h": null}]}), 0, &mut lines);
        assert_eq!(lines, ["a    1", "bcd", "  e  –", "f", "  g 1"]);
    }
}
