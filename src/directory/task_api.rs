//! How an upstream speaks of tasks that speaks in no known way: what it is asked at which path, and where in its JSON it
//! says what (`docs/tasks.md`). A channel's document has one for the videos and one for the pictures that it makes.
//!
//! A template is JSON. A text in it that is `{name}` and nothing else becomes what the name stands for, a number
//! where that is a number, and is left out with its field where there is nothing; inside of a longer text the value
//! stands as text. A place in an answer is a JSON pointer (RFC 6901).

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::FieldError;

/// What a template can name beside places in the caller's own JSON (`{/style}`).
pub const NAMES: [&str; 11] =
    ["id", "request", "model", "prompt", "seconds", "size", "width", "height", "ratio", "n", "quality"];
/// Of one document, as JSON.
const BYTES_MAX: usize = 16 * 1024;
const POINTERS_MAX: usize = 16;
/// Headers that are the gateway's own.
const OWN_HEADERS: [&str; 7] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "user-agent",
];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskApi {
    /// The header that the provider's key goes in; unset: `authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_header: Option<Box<str>>,
    /// What stands before the key; unset: `Bearer ` in `authorization`, nothing in another header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_prefix: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<TaskMapping>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<TaskMapping>,
}

/// One kind of tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskMapping {
    pub submit: Asked,
    /// In the answer to the submission: the upstream's name of the task.
    pub id: Box<str>,
    pub poll: Asked,
    /// Unset: a task that runs cannot be cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Asked>,
    /// In answers: where the task stands, in the upstream's words.
    pub state: Box<str>,
    /// Those words.
    pub states: BTreeMap<Box<str>, MappedState>,
    /// Percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Box<str>>,
    /// Addresses of what was made; `*` stands for every element of a list.
    pub results: Vec<Box<str>>,
    /// When they are no longer there: seconds since 1970, or RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Box<str>>,
    /// For how long they are there, where the upstream does not tell.
    #[serde(default = "an_hour")]
    pub kept_seconds: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_code: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<Box<str>>,
    /// How many seconds, or how many pictures, were made; unset: as many as were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Box<str>>,
    /// What the upstream bills for it, in the ledger currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Box<str>>,
}

const fn an_hour() -> u32 {
    3_600
}

/// What an upstream is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Unset: POST; of a poll without a body GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<AskedMethod>,
    /// Below the channel's base URL; `{id}` stands for the upstream's name of the task.
    pub path: Box<str>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Box<str>, Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AskedMethod {
    Get,
    Post,
    Put,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MappedState {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl TaskApi {
    /// A fault is named with its place below `field`.
    pub(super) fn check(&self, field: &str) -> Result<(), FieldError> {
        let written = serde_json::to_vec(self).map_or(usize::MAX, |json| json.len());
        if written > BYTES_MAX {
            return Err(FieldError::new(field, "is longer than 16 KiB"));
        }
        if self.video.is_none() && self.image.is_none() {
            return Err(FieldError::new(field, "must say how videos or images are made"));
        }
        if let Some(name) = &self.credential_header {
            let is_usable = HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| {
                name == http::header::AUTHORIZATION || !OWN_HEADERS.contains(&name.as_str())
            });
            if !is_usable {
                return Err(FieldError::new(
                    format!("{field}.credential_header"),
                    "is no header that a key can go in",
                ));
            }
        }
        if self.credential_prefix.as_deref().is_some_and(|prefix| HeaderValue::from_str(prefix).is_err()) {
            return Err(FieldError::new(format!("{field}.credential_prefix"), "cannot stand in a header"));
        }
        // What is held for must be told to the upstream, whose own default may be longer.
        let kinds = [("video", &self.video, Some("seconds")), ("image", &self.image, None)];
        for (kind, mapping, needed) in kinds {
            if let Some(mapping) = mapping {
                mapping.check(&format!("{field}.{kind}"), needed)?;
            }
        }
        Ok(())
    }
}

impl TaskMapping {
    fn check(&self, field: &str, needed: Option<&str>) -> Result<(), FieldError> {
        self.submit.check(&format!("{field}.submit"), false)?;
        self.poll.check(&format!("{field}.poll"), true)?;
        if let Some(cancel) = &self.cancel {
            cancel.check(&format!("{field}.cancel"), true)?;
        }
        for needed in ["prompt"].into_iter().chain(needed) {
            if !self.submit.names().iter().any(|name| name == needed) {
                return Err(FieldError::new(
                    format!("{field}.submit.body"),
                    format!("must tell {{{needed}}} to the upstream"),
                ));
            }
        }
        let places = [
            ("id", Some(&self.id)),
            ("state", Some(&self.state)),
            ("progress", self.progress.as_ref()),
            ("expires_at", self.expires_at.as_ref()),
            ("failure_code", self.failure_code.as_ref()),
            ("failure_message", self.failure_message.as_ref()),
            ("used", self.used.as_ref()),
            ("cost", self.cost.as_ref()),
        ];
        for (name, pointer) in places {
            pointer.map_or(Ok(()), |pointer| check_pointer(&format!("{field}.{name}"), pointer))?;
        }
        if self.results.is_empty() || self.results.len() > POINTERS_MAX {
            return Err(FieldError::new(format!("{field}.results"), "must be from 1 to 16 places"));
        }
        for (at, pointer) in self.results.iter().enumerate() {
            check_pointer(&format!("{field}.results[{at}]"), pointer)?;
        }
        for state in [MappedState::Succeeded, MappedState::Failed] {
            if !self.states.values().any(|known| *known == state) {
                let reason = format!("must have a word for {state:?}").to_lowercase();
                return Err(FieldError::new(format!("{field}.states"), reason));
            }
        }
        Ok(())
    }
}

impl Asked {
    /// `is_of_task`: it is about one that the upstream has.
    fn check(&self, field: &str, is_of_task: bool) -> Result<(), FieldError> {
        let path = format!("{field}.path");
        let is_plain =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\');
        if !self.path.starts_with('/') || !self.path.bytes().all(is_plain) {
            return Err(FieldError::new(path, "must be a path that begins with /"));
        }
        let body_names = self.body.as_ref().map(names_in).unwrap_or_default();
        let in_path = names_of(&self.path);
        if is_of_task && !in_path.iter().chain(&body_names).any(|name| name == "id") {
            return Err(FieldError::new(path, "must have {id} in it, or the body must"));
        }
        if let Some(other) = in_path.iter().find(|name| !matches!(name.as_str(), "id" | "request" | "model"))
        {
            return Err(FieldError::new(path, format!("cannot have {{{other}}} in it")));
        }
        let is_known = |name: &str| match is_of_task {
            true => matches!(name, "id" | "request" | "model"),
            false => name != "id" && (NAMES.contains(&name) || name.starts_with('/')),
        };
        let unknown = in_path.iter().chain(&body_names).find(|name| !is_known(name));
        if let Some(unknown) = unknown {
            let reason = format!("{{{unknown}}} stands for nothing here");
            return Err(FieldError::new(format!("{field}.body"), reason));
        }
        if self.body.as_ref().is_some_and(|body| !body.is_object()) {
            return Err(FieldError::new(format!("{field}.body"), "must be an object"));
        }
        for (name, value) in &self.headers {
            let field = format!("{field}.headers.{name}");
            let known = HeaderName::from_bytes(name.as_bytes());
            if !known.is_ok_and(|name| !OWN_HEADERS.contains(&name.as_str())) {
                return Err(FieldError::new(field, "is no header that can be set here"));
            }
            if HeaderValue::from_str(value).is_err() {
                return Err(FieldError::new(field, "cannot stand in a header"));
            }
        }
        Ok(())
    }

    /// Every name that its body has.
    pub fn names(&self) -> Vec<String> {
        self.body.as_ref().map(names_in).unwrap_or_default()
    }
}

fn check_pointer(field: &str, pointer: &str) -> Result<(), FieldError> {
    match pointer.is_empty() || pointer.starts_with('/') {
        true => Ok(()),
        false => Err(FieldError::new(field, "must be a JSON pointer, such as /output/task_id")),
    }
}

fn names_in(template: &Value) -> Vec<String> {
    match template {
        Value::String(text) => names_of(text),
        Value::Array(all) => all.iter().flat_map(names_in).collect(),
        Value::Object(all) => all.values().flat_map(names_in).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// The names between braces in a text.
fn names_of(text: &str) -> Vec<String> {
    pieces(text)
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Name(name) => Some(name.to_owned()),
            Piece::Text(_) => None,
        })
        .collect()
}

/// A text of a template, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    /// What stands between braces.
    Name(&'a str),
}

pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((name, after)) = behind.split_once('}') else { break };
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Name(name));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn api() -> Value {
        json!({"video": {
            "submit": {"path": "/tasks", "body": {"text": "{prompt}", "length": "{seconds}", "look": "{/look}"}},
            "id": "/output/task_id",
            "poll": {"path": "/tasks/{id}"},
            "state": "/output/state",
            "states": {"DONE": "succeeded", "BAD": "failed"},
            "results": ["/output/urls/*"],
        }})
    }

    fn fault(at: &str, value: Value) -> String {
        let mut api = api();
        *api.pointer_mut(at).unwrap() = value;
        let api: TaskApi = serde_json::from_value(api).unwrap();
        api.check("task_api").unwrap_err().field
    }

    #[test]
    fn a_fault_is_named_with_its_place() {
        let good: TaskApi = serde_json::from_value(api()).unwrap();
        assert!(good.check("task_api").is_ok());
        assert_eq!(serde_json::from_value::<TaskApi>(serde_json::to_value(&good).unwrap()).unwrap(), good);
        let faults = [
            ("/video/submit/path", json!("tasks"), "task_api.video.submit.path"),
            ("/video/submit/path", json!("/a b"), "task_api.video.submit.path"),
            ("/video/submit/path", json!("/{prompt}"), "task_api.video.submit.path"),
            ("/video/poll/path", json!("/tasks"), "task_api.video.poll.path"),
            ("/video/submit/body", json!([]), "task_api.video.submit.body"),
            ("/video/submit/body/text", json!("{promt}"), "task_api.video.submit.body"),
            ("/video/submit/body/text", json!("{id} {prompt}"), "task_api.video.submit.body"),
            ("/video/submit/body/length", json!(4), "task_api.video.submit.body"),
            ("/video/id", json!("task_id"), "task_api.video.id"),
            ("/video/state", json!("output.state"), "task_api.video.state"),
            ("/video/results", json!([]), "task_api.video.results"),
            ("/video/results/0", json!("urls"), "task_api.video.results[0]"),
            ("/video/states/BAD", json!("running"), "task_api.video.states"),
            (
                "/video/submit",
                json!({"path": "/t", "headers": {"host": "x"}}),
                "task_api.video.submit.headers.host",
            ),
            (
                "/video/submit",
                json!({"path": "/t", "headers": {"x-a": "\n"}}),
                "task_api.video.submit.headers.x-a",
            ),
            ("", json!({}), "task_api"),
            ("", json!({"credential_header": "host", "video": api()["video"]}), "task_api.credential_header"),
        ];
        for (at, value, field) in faults {
            assert_eq!(fault(at, value), field, "{at}");
        }
        let long = "x".repeat(BYTES_MAX);
        assert_eq!(fault("/video/submit/body/look", json!(long)), "task_api");
    }

    #[test]
    fn a_text_is_taken_apart_at_its_names() {
        use Piece::{Name, Text};
        assert_eq!(pieces("{width}*{height}"), [Name("width"), Text("*"), Name("height")]);
        assert_eq!(pieces("{/a/b}"), [Name("/a/b")]);
        assert_eq!(pieces("a } {b"), [Text("a } {b")]);
    }
}
