//! Reads the sources of the configuration, weakest first: file, environment, flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Config;
use super::field::Given;

/// What every environment variable of the program begins with.
const ENV_PREFIX: &str = "TALLYGATE_";

/// Where settings are taken from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The environment, or what a test takes for it. Only names that begin with `TALLYGATE_` matter.
    pub env: Vec<(String, String)>,
    /// Flags: `("server.listen", "127.0.0.1:0")`.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// The process's own environment. Names or values that are not Unicode belong to others.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .collect();
        Self { file, env, flags }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Default,
    /// Line of the configuration file, from 1.
    File {
        line: usize,
    },
    /// Name of the variable.
    Env(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "file, line {line}"),
            Self::Env(name) => write!(f, "environment, {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// `section.field` → origin, of what is not a default.
pub(super) type Origins = BTreeMap<String, Origin>;

/// Why one value was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    Unknown,
    Value(String),
}

/// One thing that is wrong, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `tallygate.toml:12` or the name of a variable.
    pub place: String,
    pub text: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not usable:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {}: {}", problem.place, problem.text))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads all sources. Every mistake is reported at once, none is passed over.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut loader = Loader { config: Self::default(), problems: Vec::new() };
        if let Some(path) = &sources.file {
            match std::fs::read_to_string(path) {
                Ok(text) => loader.file(path, &text),
                Err(error) => loader.problem(path.display().to_string(), format!("cannot be read: {error}")),
            }
        }
        loader.env(&sources.env);
        for (name, value) in &sources.flags {
            let (section, field) = name.split_once('.').unwrap_or((name, ""));
            loader.set(section, field, Given::Plain(value), Origin::Flag, &format!("flag for {name}"));
        }
        loader.finish()
    }

    /// Where the value of `section.field` came from.
    pub fn origin(&self, section: &str, field: &str) -> Origin {
        self.origins.get(&format!("{section}.{field}")).cloned().unwrap_or_default()
    }

    /// `section.field` exists, and is a secret.
    fn is_secret(section: &str, field: &str) -> bool {
        let sections = Self::default().sections();
        let fields = sections.iter().filter(|known| known.name == section).flat_map(|known| &known.fields);
        fields.into_iter().any(|known| known.name == field && known.secret)
    }
}

struct Loader {
    config: Config,
    problems: Vec<Problem>,
}

impl Loader {
    fn problem(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem { place: place.into(), text: text.into() });
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        if self.problems.is_empty()
            && let Err((section, field, text)) = self.config.check_together()
        {
            self.problem(format!("{section}.{field}"), text);
        }
        if self.problems.is_empty() { Ok(self.config) } else { Err(ConfigError { problems: self.problems }) }
    }

    /// Sets one value, or takes down why it could not be set.
    fn set(&mut self, section: &str, field: &str, given: Given<'_>, origin: Origin, place: &str) {
        let key = format!("{section}.{field}");
        match self.config.assign(section, field, given) {
            Ok(()) => {
                self.config.origins.insert(key, origin);
            }
            Err(Refused::Value(text)) => self.problem(place, format!("{key}: {text}")),
            Err(Refused::Unknown) => {
                let near = nearest(section, field);
                self.problem(place, format!("there is no setting {key}{near}"));
            }
        }
    }

    /// The content of the file that a secret is kept in, without the line break at its end.
    fn set_from_file(&mut self, section: &str, field: &str, path: &str, origin: Origin, place: &str) {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                self.set(section, field, Given::Plain(text), origin, place);
            }
            Err(error) => self.problem(place, format!("the file {path} cannot be read: {error}")),
        }
    }

    fn file(&mut self, path: &Path, text: &str) {
        let place = |at: usize| format!("{}:{}", path.display(), line_of(text, at));
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                return self.problem(place(at), error.message());
            }
        };
        for (section, fields) in table.get_ref() {
            let section_place = place(section.span().start);
            let name = section.get_ref().as_ref();
            let DeValue::Table(fields) = fields.get_ref() else {
                self.problem(section_place, format!("{name} must be inside of a section, such as [server]"));
                continue;
            };
            if !Config::SECTIONS.contains(&name) {
                let known = Config::SECTIONS.join(", ");
                self.problem(section_place, format!("there is no section [{name}]; known: {known}"));
                continue;
            }
            for (field, value) in fields {
                let at = field.span().start;
                let origin = Origin::File { line: line_of(text, at) };
                self.file_value(name, field.get_ref(), value.get_ref(), origin, &place(at), fields);
            }
        }
    }

    fn file_value(
        &mut self,
        section: &str,
        field: &str,
        value: &DeValue<'_>,
        origin: Origin,
        place: &str,
        beside: &DeTable<'_>,
    ) {
        if let Some(secret) = field.strip_suffix("_file").filter(|secret| Config::is_secret(section, secret))
        {
            if beside.contains_key(secret) {
                return self.problem(place, format!("{section}.{secret} and {section}.{field} are both set"));
            }
            return match value.as_str() {
                Some(path) => self.set_from_file(section, secret, path, origin, place),
                None => self.problem(place, format!("{section}.{field}: expected a path in quotes")),
            };
        }
        self.set(section, field, given(value), origin, place);
    }

    fn env(&mut self, env: &[(String, String)]) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, value) in env {
            let Some((section, field)) = self.env_name(name) else { continue };
            let secret = field.strip_suffix("_file").filter(|secret| Config::is_secret(&section, secret));
            let target = secret.unwrap_or(&field);
            if let Some(other) = seen.insert(format!("{section}.{target}"), name) {
                self.problem(name, format!("{other} sets the same"));
                continue;
            }
            let origin = Origin::Env(name.clone());
            match secret {
                Some(secret) => self.set_from_file(&section, secret, value, origin, name),
                None => self.set(&section, &field, Given::Plain(value), origin, name),
            }
        }
    }

    /// `TALLYGATE_SERVER__LISTEN` → (`server`, `listen`). A name that only looks like a setting is
    /// refused rather than passed over; other names belong to others.
    fn env_name(&mut self, name: &str) -> Option<(String, String)> {
        let rest = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
        if let Some((section, field)) = rest.split_once("__") {
            return Some((section.to_owned(), field.to_owned()));
        }
        let section = Config::SECTIONS
            .iter()
            .find(|section| rest.strip_prefix(**section).is_some_and(|field| field.starts_with('_')))?;
        self.problem(
            name,
            format!(
                "between section and field stand two underscores: {ENV_PREFIX}{}__…",
                section.to_uppercase()
            ),
        );
        None
    }
}

fn given<'v>(value: &'v DeValue<'_>) -> Given<'v> {
    match value {
        DeValue::String(text) => Given::Text(text),
        DeValue::Boolean(value) => Given::Boolean(*value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Given::Integer(value),
            Err(_) => Given::Other,
        },
        _ => Given::Other,
    }
}

/// Line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// "; did you mean …?", if a setting's name is much like this one.
fn nearest(section: &str, field: &str) -> String {
    let sections = Config::default().sections();
    let names =
        sections.iter().flat_map(|known| known.fields.iter().map(move |field| (known.name, field.name)));
    let alike = names
        .filter_map(|(known_section, known)| {
            let elsewhere = usize::from(known_section != section);
            let distance = elsewhere + letters_apart(known, field);
            (distance <= 1 + field.len() / 3).then_some((distance, format!("{known_section}.{known}")))
        })
        .min();
    alike.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

/// Letters to change, add or leave out to make one text of the other (Levenshtein's distance).
fn letters_apart(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_apart_counts_edits() {
        let table =
            [("", "", 0), ("a", "", 1), ("", "abc", 3), ("listen", "listn", 1), ("kitten", "sitting", 3)];
        for (a, b, distance) in table {
            assert_eq!((letters_apart(a, b), letters_apart(b, a)), (distance, distance), "{a} {b}");
        }
    }
}
