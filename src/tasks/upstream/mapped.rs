//! Upstreams that speak of tasks as the channel's document says (`directory/task_api.rs`).
//!
//! Promises: what a caller asks for and the document has no place for is refused by its name, never dropped; words that
//! the document does not know say nothing about a task.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ledger::Nano;
use serde_json::{Map, Value, json};

use super::super::results::Made;
use super::{Failure, News, Product, Question, Submission, Taken, Task, Unfit, cut, failed, is_name};
use crate::directory::task_api::{Asked, AskedMethod, MappedState, Piece, TaskMapping, pieces};
use crate::gateway::provider::openai::{UpstreamFault, UpstreamFaultKind, classify, of_code};
use crate::gateway::request::TaskWish;

/// Pictures of one task.
const RESULTS_MAX: usize = 128;
/// Longest address of a result, in bytes.
const ADDRESS_BYTES_MAX: usize = 4_096;
/// What stands where the reason of a failure would, and is none.
const FINE: [&str; 5] = ["", "0", "200", "ok", "success"];
/// Fields of a caller that say nothing about what is to be made.
const IDLE_FIELDS: [&str; 3] = ["user", "response_format", "metadata"];

pub fn submit(mapping: &TaskMapping, task: &Task, submission: &Submission) -> Result<Question, Unfit> {
    let wish = &submission.wish;
    let fields = wish.fields(submission.media_type.as_deref(), &submission.body);
    let names = mapping.submit.names();
    let is_told = |name: &str| names.iter().any(|known| known == name);
    for (field, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let field = &**field;
        let has_place = match field {
            "model" | "prompt" => true,
            // One is what there is without being asked for.
            "n" => is_told("n") || *value == 1 || *value == "1",
            "size" => ["size", "width", "height", "ratio"].into_iter().any(is_told),
            _ if IDLE_FIELDS.contains(&field) => true,
            _ => {
                is_told(field)
                    || names.iter().any(|name| name.strip_prefix('/').is_some_and(|path| heads(path, field)))
            }
        };
        if !has_place {
            return Err(Unfit::new(field));
        }
    }
    if wish.has_files(submission.media_type.as_deref()) {
        return Err(Unfit::new(if matches!(wish, TaskWish::Image(_)) { "image" } else { "input_reference" }));
    }
    let values = Values { task, id: None, submission: Some((wish, &fields)) };
    Ok(question(&mapping.submit, AskedMethod::Post, &values))
}

/// Whether a pointer's path begins in this field.
fn heads(path: &str, field: &str) -> bool {
    path.split('/').next() == Some(field)
}

pub fn taken(mapping: &TaskMapping, task: &Task, answer: &Value, now_ms: i64) -> Taken {
    match text_at(answer, &mapping.id).filter(|id| is_name(id)) {
        None => refusal(mapping, answer).map_or_else(|| Taken::odd("the answer names no task"), Taken::No),
        Some(id) => {
            let news = match answer.pointer(&mapping.state) {
                Some(_) => news(mapping, task, answer, now_ms),
                None => News::Queued,
            };
            Taken::Yes { id: id.into(), news }
        }
    }
}

/// Many answer with 200 whatever comes, and say in a field of the answer why they have not taken it: then there is such a
/// word, and no name.
fn refusal(mapping: &TaskMapping, answer: &Value) -> Option<UpstreamFault> {
    let said = |place: Option<&str>| place.and_then(|place| text_at(answer, place));
    let has_name = said(Some(&mapping.id)).is_some_and(|id| !id.is_empty());
    let code =
        said(mapping.failure_code.as_deref()).filter(|code| !FINE.contains(&&*code.to_ascii_lowercase()));
    let code = code.filter(|_| !has_name)?;
    let text = said(mapping.failure_message.as_deref()).unwrap_or_default();
    let words = json!({"error": {"code": code, "message": text}}).to_string();
    let fault = classify(400, &HeaderMap::new(), words.as_bytes(), 0);
    // What these words mean nobody knows but for the known ones: they may be about the request or about anything else.
    let kind = match fault.kind {
        UpstreamFaultKind::Rejected => UpstreamFaultKind::Error,
        known => known,
    };
    Some(UpstreamFault { kind: of_code(&code).unwrap_or(kind), status: 200, ..fault })
}

pub fn ask(mapping: &TaskMapping, task: &Task, id: &str) -> Question {
    let unsaid = if mapping.poll.body.is_some() { AskedMethod::Post } else { AskedMethod::Get };
    question(&mapping.poll, unsaid, &Values { task, id: Some(id), submission: None })
}

pub fn cancel(mapping: &TaskMapping, task: &Task, id: &str) -> Option<Question> {
    let cancel = mapping.cancel.as_ref()?;
    Some(question(cancel, AskedMethod::Post, &Values { task, id: Some(id), submission: None }))
}

pub fn news(mapping: &TaskMapping, task: &Task, answer: &Value, now_ms: i64) -> News {
    let Some(word) = text_at(answer, &mapping.state) else {
        return News::Unclear("the answer has no state".into());
    };
    match mapping.states.get(&*word) {
        None => News::Unclear(format!("the state `{}` is not among the channel's", cut(&word)).into()),
        Some(MappedState::Queued) => News::Queued,
        Some(MappedState::Running) => {
            let progress = mapping.progress.as_deref().and_then(|place| answer.pointer(place));
            News::Running { progress: progress.map_or(0, super::openai::progress) }
        }
        Some(MappedState::Cancelled) => News::Cancelled,
        Some(MappedState::Failed) => {
            let said = |place: Option<&str>| place.and_then(|place| text_at(answer, place));
            let code = said(mapping.failure_code.as_deref()).unwrap_or_else(|| "upstream_failed".into());
            let text = said(mapping.failure_message.as_deref());
            let text = text.unwrap_or_else(|| "The upstream could not make it.".into());
            News::Failed(failed(&code, &text))
        }
        Some(MappedState::Succeeded) => match product(mapping, task, answer, now_ms) {
            product if product.made.is_empty() => News::Failed(Failure::no_result()),
            product => News::Made(product),
        },
    }
}

fn product(mapping: &TaskMapping, task: &Task, answer: &Value, now_ms: i64) -> Product {
    let mut made = Vec::new();
    for pointer in &mapping.results {
        collect(answer, pointer, &mut made);
    }
    let told = mapping.expires_at.as_deref().and_then(|place| time_ms(answer.pointer(place)?));
    let kept_ms = i64::from(mapping.kept_seconds).saturating_mul(1_000);
    let used = mapping.used.as_deref().and_then(|place| counted(task, answer.pointer(place)?));
    let cost = mapping.cost.as_deref().and_then(|place| text_at(answer, place));
    let cost = cost.and_then(|text| Nano::parse_decimal(&text).ok()).filter(|cost| cost.0 >= 0);
    let expires_ms = told.unwrap_or(now_ms.saturating_add(kept_ms));
    Product { made, cost, ..Product::of(task, used, Some(expires_ms)) }
}

/// Every address at a place; `*` stands for each element of a list.
fn collect(answer: &Value, pointer: &str, made: &mut Vec<Made>) {
    match pointer.split_once("/*") {
        Some((list, rest)) if rest.is_empty() || rest.starts_with('/') => {
            let all = answer.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            all.iter().for_each(|element| collect(element, rest, made));
        }
        _ => {
            let address = answer.pointer(pointer).and_then(Value::as_str);
            let address = address.filter(|text| (1..=ADDRESS_BYTES_MAX).contains(&text.len()));
            if let Some(address) = address.filter(|_| made.len() < RESULTS_MAX) {
                made.push(Made::At(address.into()));
            }
        }
    }
}

/// As its unit is counted.
fn counted(task: &Task, told: &Value) -> Option<u64> {
    match task.wish.kind.unit() {
        ledger::Unit::Second => super::milliseconds(told),
        _ => told.as_u64().or_else(|| told.as_str()?.parse().ok()),
    }
}

fn time_ms(told: &Value) -> Option<i64> {
    match told {
        Value::Number(seconds) => seconds.as_i64().map(|seconds| seconds.saturating_mul(1_000)),
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        _ => None,
    }
}

/// A text, a number or a truth as text.
fn text_at(answer: &Value, pointer: &str) -> Option<String> {
    match answer.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// What the names of a template stand for.
struct Values<'a> {
    task: &'a Task,
    id: Option<&'a str>,
    submission: Option<(&'a TaskWish, &'a Map<String, Value>)>,
}

impl Values<'_> {
    fn of(&self, name: &str) -> Option<Value> {
        match name {
            "id" => return self.id.map(Value::from),
            "request" => return Some(self.task.request.to_string().into()),
            "model" => return Some((&*self.task.upstream_model).into()),
            _ => {}
        }
        let (asked, fields) = self.submission?;
        if let Some(path) = name.strip_prefix('/') {
            let mut at = fields.get(path.split('/').next()?)?;
            if let Some((_, below)) = path.split_once('/') {
                at = at.pointer(&format!("/{below}"))?;
            }
            return Some(at.clone()).filter(|value| !value.is_null());
        }
        let sides = || asked.size()?.split_once('x');
        let number = |text: &str| text.parse::<u64>().ok().map(Value::from);
        match name {
            "prompt" => Some(asked.prompt().into()),
            "seconds" => Some((self.task.wish.duration_ms / 1_000).into()),
            "n" => Some(self.task.wish.images.max(1).into()),
            "size" => asked.size().map(Value::from),
            "width" => number(sides()?.0),
            "height" => number(sides()?.1),
            "ratio" => self.task.wish.ratio().map(|ratio| (&*ratio).into()),
            "quality" => asked.quality().map(Value::from),
            _ => None,
        }
    }

    /// `None`: there is nothing, so that its field is left out.
    fn fill(&self, template: &Value) -> Option<Value> {
        match template {
            Value::String(text) => self.fill_text(text),
            Value::Array(all) => Some(all.iter().filter_map(|value| self.fill(value)).collect()),
            Value::Object(all) => {
                let filled = all.iter().filter_map(|(name, value)| Some((name.clone(), self.fill(value)?)));
                Some(Value::Object(filled.collect()))
            }
            other => Some(other.clone()),
        }
    }

    fn fill_text(&self, text: &str) -> Option<Value> {
        let parts = pieces(text);
        if let [Piece::Name(name)] = *parts {
            return self.of(name);
        }
        let mut filled = String::with_capacity(text.len());
        for part in parts {
            match part {
                Piece::Text(text) => filled.push_str(text),
                Piece::Name(name) => match self.of(name)? {
                    Value::String(text) => filled.push_str(&text),
                    other => filled.push_str(&other.to_string()),
                },
            }
        }
        Some(filled.into())
    }

    /// With what stands for a name escaped, so that it stays in its place.
    fn path(&self, template: &str) -> String {
        let part = |part: Piece<'_>| match part {
            Piece::Text(text) => text.to_owned(),
            Piece::Name(name) => {
                let value = self.of(name).and_then(|value| value.as_str().map(str::to_owned));
                form_urlencoded::byte_serialize(value.unwrap_or_default().as_bytes()).collect()
            }
        };
        pieces(template).into_iter().map(part).collect()
    }
}

fn question(asked: &Asked, unsaid: AskedMethod, values: &Values<'_>) -> Question {
    let body = asked.body.as_ref().and_then(|template| values.fill(template));
    let header = |(name, value): (&str, &str)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    Question {
        method: match asked.method.unwrap_or(unsaid) {
            AskedMethod::Get => Method::GET,
            AskedMethod::Post => Method::POST,
            AskedMethod::Put => Method::PUT,
            AskedMethod::Delete => Method::DELETE,
        },
        path: values.path(&asked.path),
        content_type: body.is_some().then(|| "application/json".into()),
        headers: asked.headers.iter().filter_map(|(name, value)| header((name, value))).collect(),
        body: body.map(|body| body.to_string().into()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::gateway::facts::Endpoint;
    use crate::gateway::request::ModelRequest;
    use crate::tasks::accepted::sample;

    fn mapping() -> TaskMapping {
        let mapping = json!({
            "submit": {"path": "/{model}/jobs", "headers": {"x-mode": "async"}, "body": {
                "text": "{prompt}",
                "frame": "{width}*{height}",
                "ratio": "{ratio}",
                "count": "{n}",
                "quality": "{quality}",
                "look": ["{/look/first}", "{/look/second}"],
                "ours": "r-{request}",
                "fixed": 7,
            }},
            "id": "/job/id",
            "poll": {"path": "/jobs", "body": {"id": "{id}"}},
            "cancel": {"path": "/jobs/{id}/stop", "method": "PUT"},
            "state": "/job/state",
            "states": {"NEW": "queued", "GO": "running", "3": "succeeded", "BAD": "failed", "OFF": "cancelled"},
            "progress": "/job/percent",
            "results": ["/job/cover", "/job/files/*/at"],
            "expires_at": "/job/until",
            "kept_seconds": 60,
            "failure_code": "/job/why/0",
            "used": "/job/count",
            "cost": "/job/price",
        });
        serde_json::from_value(mapping).unwrap()
    }

    fn submitted(body: &Value) -> Result<(String, Value), Unfit> {
        let body: Bytes = body.to_string().into();
        let request = ModelRequest::read(Endpoint::Images, None, &body).unwrap();
        let wish = TaskWish::read(Endpoint::Images, None, &body).unwrap();
        let task = sample(&wish);
        let question = submit(&mapping(), &task, &Submission { request, wish, body, media_type: None })?;
        assert_eq!((question.method, question.headers.len()), (Method::POST, 1));
        Ok((question.path, serde_json::from_slice(&question.body).unwrap()))
    }

    #[test]
    fn h1_a_template_is_filled_with_what_was_asked_and_nothing_is_dropped() {
        let whole = json!({"model": "m", "prompt": "a \"cat\"", "n": 2, "size": "1024x512", "quality": "hd",
            "look": {"first": [1], "third": 3}, "user": "u"});
        let (path, body) = submitted(&whole).unwrap();
        assert_eq!(path, "/up%2Fstream/jobs");
        let ours = body["ours"].as_str().unwrap();
        assert!(ours.starts_with("r-req_"), "{ours}");
        assert_eq!(
            body,
            json!({"text": "a \"cat\"", "frame": "1024*512", "ratio": "2:1", "count": 2, "quality": "hd",
                "look": [[1]], "ours": ours, "fixed": 7})
        );
        let (_, open) = submitted(&json!({"model": "m", "prompt": "a"})).unwrap();
        assert_eq!((&open["count"], open.get("frame"), open.get("quality")), (&json!(1), None, None));
        for (field, value) in [("style", json!("x")), ("seed", json!(7))] {
            let mut more = whole.clone();
            more[field] = value;
            assert_eq!(submitted(&more).unwrap_err(), Unfit::new(field));
        }
    }

    /// An answer with 200 that says why no task was made was not taken, for certain; one that only lacks the name may be.
    #[test]
    fn h2_a_refusal_that_comes_with_200_is_one() {
        use UpstreamFaultKind::{AuthFailed, Error, OutOfCredit, RateLimited};
        let wish =
            TaskWish::read(Endpoint::Images, None, &r#"{"model": "m", "prompt": "a"}"#.into()).unwrap();
        let mut mapping = mapping();
        mapping.failure_code = Some("/base/code".into());
        mapping.failure_message = Some("/base/text".into());
        let told = |answer: Value| taken(&mapping, &sample(&wish), &answer, 0);
        let refused =
            |code: Value, text: &str| json!({"job": {"id": ""}, "base": {"code": code, "text": text}});
        for (answer, kind) in [
            (refused(json!(1008), "insufficient balance"), OutOfCredit),
            (refused(json!("InsufficientBalance"), ""), OutOfCredit),
            (refused(json!("invalid_api_key"), "no"), AuthFailed),
            (refused(json!("rate_limit_exceeded"), "no"), RateLimited),
            (refused(json!(1026), "the prompt is not allowed"), Error),
            (json!({"base": {"code": "E7"}}), Error),
        ] {
            let Taken::No(fault) = told(answer.clone()) else { panic!("{answer}") };
            assert_eq!((fault.kind, fault.status), (kind, 200), "{answer}");
        }
        for odd in [
            refused(json!(0), "success"),
            json!({"job": {"id": "a/b"}, "base": {"code": "E7"}}),
            json!({"job": {}}),
            json!({}),
        ] {
            assert!(matches!(told(odd.clone()), Taken::Unclear(..)), "{odd}");
        }
    }

    #[test]
    fn h1_answers_are_read_at_their_places_and_what_is_not_known_says_nothing() {
        let wish =
            TaskWish::read(Endpoint::Images, None, &r#"{"model": "m", "prompt": "a"}"#.into()).unwrap();
        let (mapping, task) = (mapping(), sample(&wish));
        let told = |job: Value| news(&mapping, &task, &json!({"job": job}), 5_000);
        assert_eq!(told(json!({"state": "NEW"})), News::Queued);
        assert_eq!(told(json!({"state": "GO", "percent": 40.7})), News::Running { progress: 40 });
        assert_eq!(told(json!({"state": "OFF"})), News::Cancelled);
        for odd in [json!({"state": "MAYBE"}), json!({"state": null}), json!({}), json!([]), json!(7)] {
            assert!(matches!(told(odd.clone()), News::Unclear(_)), "{odd}");
        }
        let News::Failed(failure) = told(json!({"state": "BAD", "why": ["rude", 2]})) else { panic!() };
        assert_eq!((&*failure.code, &*failure.text), ("rude", "The upstream could not make it."));
        // A number is a word, too.
        let whole = json!({"state": 3, "cover": "https://f.example/0", "files": [{"at": "https://f.example/1"}, {}],
            "until": 99, "count": "2", "price": "0.08"});
        let News::Made(product) = told(whole) else { panic!() };
        assert_eq!(product.made, ["0", "1"].map(|n| Made::At(format!("https://f.example/{n}").into())));
        assert_eq!((product.expires_ms, product.cost), (Some(99_000), Some(Nano(80_000_000))));
        assert_eq!(product.used.unwrap().usage.units(ledger::Unit::Image), 2);
        let News::Made(short) = told(json!({"state": 3, "cover": "x", "price": "-1", "count": {}})) else {
            panic!()
        };
        assert_eq!((short.expires_ms, short.cost, short.used), (Some(65_000), None, None));
        assert!(matches!(told(json!({"state": 3})), News::Failed(_)));
        // A name goes into paths, so it is plain.
        let named = |id: Value| taken(&mapping, &task, &json!({"job": {"id": id}}), 0);
        assert!(matches!(named(json!(17)), Taken::Yes { id, .. } if &*id == "17"));
        for odd in [json!("a/b"), json!(""), json!(".."), json!(null), json!("x".repeat(300))] {
            assert!(matches!(named(odd.clone()), Taken::Unclear(..)), "{odd}");
        }
        let asked = ask(&mapping, &task, "j1");
        assert_eq!(
            (asked.method, &*asked.path, &*asked.body),
            (Method::POST, "/jobs", &br#"{"id":"j1"}"#[..])
        );
        let stopped = cancel(&mapping, &task, "j1").unwrap();
        assert_eq!((stopped.method, &*stopped.path), (Method::PUT, "/jobs/j1/stop"));
    }
}
