//! The configuration in writing: what is in effect, the sample file, the reference page.

use std::fmt::Write as _;

use super::Config;
use super::schema::FieldInfo;

impl Config {
    /// What is in effect, as TOML: each value with where it came from, secrets hidden.
    pub fn print_effective(&self) -> String {
        let mut out = String::new();
        for section in self.sections() {
            let _ = writeln!(out, "[{}]", section.name);
            for field in &section.fields {
                let origin = self.origin(section.name, field.name);
                let _ = match &field.value {
                    Some(value) => writeln!(out, "{} = {value}  # {origin}", field.name),
                    None => writeln!(out, "# {} is not set  # {origin}", field.name),
                };
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

const WIDTH: usize = 96;

/// `tallygate.example.toml`: every setting with its default.
pub fn sample() -> String {
    let mut out = String::from(
        "# Every setting of Tallygate with its default; a line that begins with # sets nothing.\n\
         # Environment variables are stronger than this file: TALLYGATE_SERVER__LISTEN=… sets listen in\n\
         # [server]. A secret can be given as the path of a file that holds it: token_file = \"…\", or\n\
         # TALLYGATE_ADMIN__TOKEN_FILE=…\n",
    );
    for section in Config::default().sections() {
        let _ = writeln!(out);
        comment(&mut out, &section.doc);
        let _ = writeln!(out, "[{}]", section.name);
        for field in &section.fields {
            comment(&mut out, &sentence(field));
            let _ = match &field.value {
                Some(value) => writeln!(out, "{} = {value}", field.name),
                None => writeln!(out, "# {} = \"\"", field.name),
            };
        }
    }
    out
}

/// `docs/configuration.md`: every setting in a table.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         Settings come from a TOML file (`--config FILE`), from the environment and from flags; what comes\n\
         later in this list is stronger. A name that is not known, or a value that is not possible, is refused\n\
         at the start with its place: the file and its line, or the variable. `tallygate config show` prints\n\
         what is in effect, each value with where it came from, secrets hidden.\n\n\
         A variable's name is `TALLYGATE_`, the section, two underscores and the setting, in capitals:\n\
         `TALLYGATE_SERVER__LISTEN`. A secret can also be given as the path of a file that holds it, in a\n\
         setting of the same name with `_file` behind it: `token_file` in the file,\n\
         `TALLYGATE_ADMIN__TOKEN_FILE` in the environment.\n\n\
         `tallygate.example.toml` holds every setting with its default. Sizes are in bytes, times in\n\
         milliseconds, shares in millionths, as the names say.\n",
    );
    for section in Config::default().sections() {
        let _ = writeln!(out, "\n## [{}]\n\n{}\n", section.name, section.doc);
        out.push_str("| setting | default | meaning |\n|---|---|---|\n");
        for field in &section.fields {
            let default =
                field.value.as_ref().map_or_else(|| "not set".to_owned(), |value| format!("`{value}`"));
            let secret = if field.secret { " Secret." } else { "" };
            let _ = writeln!(out, "| `{}` | {default} | {}{secret} |", field.name, sentence(field));
        }
    }
    out
}

fn sentence(field: &FieldInfo) -> String {
    match &field.rule {
        Some(rule) => format!("{} Allowed: {rule}.", field.doc),
        None => field.doc.clone(),
    }
}

/// Wraps a text into comment lines.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
