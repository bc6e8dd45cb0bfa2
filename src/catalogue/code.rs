//! What the catalogue says of each code.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::language::Language;

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// One text in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Text {
    pub en: &'static str,
    pub zh: &'static str,
}

impl Text {
    pub const fn get(self, language: Language) -> &'static str {
        match language {
            Language::En => self.en,
            Language::Zh => self.zh,
        }
    }
}

/// Who can do something about it (requirement C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request was made wrong.
    Caller,
    /// A setting, a limit or the money of the account.
    Account,
    /// The platform itself.
    Gateway,
    /// The model's provider.
    Upstream,
}

impl Fault {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Account => "account",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

struct Entry {
    number: u16,
    status: u16,
    error_type: &'static str,
    layer: &'static str,
    rung: u8,
    rung_name: &'static str,
    rung_title: Text,
    fault: Fault,
    retryable: bool,
    reserved: bool,
    title: Text,
    message: Text,
    numbers: Option<Text>,
    hint: Text,
    cause: Text,
    next: [&'static [&'static str]; 2],
}

impl Code {
    #[expect(clippy::indexing_slicing, reason = "the generator writes one entry per member, in order")]
    const fn entry(self) -> &'static Entry {
        &ENTRIES[self as usize]
    }

    /// A stable number, for compact storage: rung × 100 + 1, 2, …
    pub const fn number(self) -> u16 {
        self.entry().number
    }

    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// HTTP status. Of `stream_interrupted` it is what a log shows; the stream has begun with 200.
    pub const fn status(self) -> u16 {
        self.entry().status
    }

    /// OpenAI's `error.type`.
    pub const fn error_type(self) -> &'static str {
        self.entry().error_type
    }

    /// Where the reason lies, unless the refusal's limit names a narrower place.
    pub const fn layer(self) -> &'static str {
        self.entry().layer
    }

    /// 1–15 on the ladder; 0 for the gateway's own troubles and the management interface.
    pub const fn rung(self) -> u8 {
        self.entry().rung
    }

    pub const fn rung_name(self) -> &'static str {
        self.entry().rung_name
    }

    pub const fn rung_title(self, language: Language) -> &'static str {
        self.entry().rung_title.get(language)
    }

    pub const fn fault(self) -> Fault {
        self.entry().fault
    }

    /// Whether sending the same again can help.
    pub const fn retryable(self) -> bool {
        self.entry().retryable
    }

    /// The name is taken, but this version never refuses with it.
    pub const fn is_reserved(self) -> bool {
        self.entry().reserved
    }

    pub const fn title(self, language: Language) -> &'static str {
        self.entry().title.get(language)
    }

    /// The message with its `{params}`, as a page shows it.
    pub const fn message_template(self, language: Language) -> &'static str {
        self.entry().message.get(language)
    }

    /// The sentence with the amounts, if the code has one.
    pub const fn numbers_template(self, language: Language) -> Option<&'static str> {
        match self.entry().numbers {
            Some(text) => Some(text.get(language)),
            None => None,
        }
    }

    pub const fn hint_template(self, language: Language) -> &'static str {
        self.entry().hint.get(language)
    }

    pub const fn cause(self, language: Language) -> &'static str {
        self.entry().cause.get(language)
    }

    /// What to do, in order.
    pub const fn next_steps(self, language: Language) -> &'static [&'static str] {
        let [en, zh] = self.entry().next;
        match language {
            Language::En => en,
            Language::Zh => zh,
        }
    }

    /// Refused on the ladder before anybody looked at money (requirement C7).
    pub const fn before_balance(self) -> bool {
        matches!(self.rung(), 1..=11)
    }
}

impl Phrase {
    #[expect(clippy::indexing_slicing, reason = "the generator writes one text per member, in order")]
    pub const fn text(self) -> Text {
        PHRASES[self as usize]
    }

    pub const fn get(self, language: Language) -> &'static str {
        self.text().get(language)
    }

    /// The phrase of that name, such as `window_day`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phrase| phrase.as_str() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No code has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no refusal has this name")
    }
}

impl std::error::Error for UnknownCode {}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(name: &str) -> Result<Self, UnknownCode> {
        Self::ALL.into_iter().find(|code| code.as_str() == name).ok_or(UnknownCode)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        into.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(from)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// The whole catalogue for machines, one code per line: what `catalog/errors.json` and
/// `/errors.json` hold (requirement C3).
pub fn errors_json() -> String {
    #[derive(Serialize)]
    struct Row {
        code: Code,
        number: u16,
        rung: u8,
        rung_name: &'static str,
        status: u16,
        #[serde(rename = "type")]
        error_type: &'static str,
        layer: &'static str,
        fault: &'static str,
        retryable: bool,
        reserved: bool,
        title: Text,
        message: Text,
        #[serde(skip_serializing_if = "Option::is_none")]
        numbers: Option<Text>,
        hint: Text,
        cause: Text,
        next: Steps,
    }
    #[derive(Serialize)]
    struct Steps {
        en: &'static [&'static str],
        zh: &'static [&'static str],
    }
    let rows = Code::ALL.iter().map(|code| {
        let Entry { rung_name, status, error_type, layer, retryable, reserved, .. } = *code.entry();
        let Entry { title, message, numbers, hint, cause, next: [en, zh], .. } = *code.entry();
        let (number, rung, fault, next) =
            (code.number(), code.rung(), code.fault().as_str(), Steps { en, zh });
        let row = Row {
            code: *code,
            number,
            rung,
            rung_name,
            status,
            error_type,
            layer,
            fault,
            retryable,
            reserved,
            title,
            message,
            numbers,
            hint,
            cause,
            next,
        };
        // Strings and numbers always serialise.
        serde_json::to_string(&row).unwrap_or_default()
    });
    format!("{{\"errors\": [\n{}\n]}}\n", rows.collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C3: the machine-readable list is the program's own. `UPDATE=1` writes it anew.
    #[test]
    fn the_committed_list_is_what_the_program_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/catalog/errors.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, errors_json()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == errors_json(),
            "run the tests once with UPDATE=1 and commit catalog/errors.json"
        );
        let parsed: serde_json::Value = serde_json::from_str(&committed).unwrap();
        assert_eq!(parsed["errors"].as_array().unwrap().len(), Code::ALL.len());
    }

    #[test]
    fn names_and_numbers_lead_back_to_the_code() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            assert_eq!(Code::from_number(code.number()), Some(code));
            assert_eq!(serde_json::from_str::<Code>(&serde_json::to_string(&code).unwrap()).unwrap(), code);
        }
        assert_eq!("no_such_code".parse::<Code>(), Err(UnknownCode));
        assert_eq!(Code::from_number(0), None);
    }

    /// C1: the catalogue holds the ladder of the design, each rung with its codes, in order.
    #[test]
    fn the_ladder_is_complete_and_in_order() {
        let mut rung = 1;
        for code in Code::ALL.iter().filter(|code| code.rung() > 0) {
            assert!(code.rung() == rung || code.rung() == rung + 1, "{code} is out of order");
            rung = code.rung();
        }
        assert_eq!(rung, 15);
    }

    /// The pages say of a reserved code that nothing uses it, and of the others that they occur:
    /// both must be true.
    #[test]
    fn reserved_codes_are_used_nowhere_and_the_others_somewhere() {
        let mut program = String::new();
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() && !path.ends_with("catalogue") {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    program += &std::fs::read_to_string(&path).unwrap();
                }
            }
        }
        let words: std::collections::HashSet<&str> =
            program.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').collect();
        for code in Code::ALL {
            let used = words.iter().any(|word| word.ends_with(&format!("Code::{}", member(code))));
            assert_eq!(used, !code.is_reserved(), "{code}: its state in the catalogue is not true");
        }
    }

    /// `model_retired` → `ModelRetired`.
    fn member(code: Code) -> String {
        code.as_str().split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
    }

    #[test]
    fn every_phrase_is_found_by_its_name() {
        for phrase in Phrase::ALL {
            assert_eq!(Phrase::named(phrase.as_str()), Some(phrase));
        }
        for window in ["day", "month", "total"] {
            assert!(Phrase::named(&format!("window_{window}")).is_some());
        }
    }
}
