//! The list of models that a key can call, in the shape of the API that the caller speaks: OpenAI's, Anthropic's or
//! Gemini's.
//!
//! OpenAI's list is whole. Those of the other two come in pages, as their SDKs ask for them; a page goes on behind the name
//! of a model, so that it neither repeats nor leaves out what others change meanwhile.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};

use crate::catalogue::{Code, Refusal, Shape};
use crate::directory::{ModelEntry, ModelStatus, Snapshot};

use super::facts::{Endpoint, Facts};
use super::identify;
use super::ladder::{Caller, model_not_found, permits};

/// What only Anthropic's clients send.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Where only Google's clients send a key.
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// Longest page, as both APIs have it.
const PAGE_MAX: usize = 1_000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `None`: all of them.
    pub name: Option<&'a str>,
    pub query: Option<&'a str>,
    pub shape: Shape,
}

/// Whose API is spoken, as the address or the headers tell.
pub fn shape(path: &str, headers: &HeaderMap) -> Shape {
    match identify::shape(path) {
        Shape::OpenAi if headers.contains_key(ANTHROPIC_VERSION) => Shape::Anthropic,
        Shape::OpenAi if headers.contains_key(GOOGLE_KEY) => Shape::Gemini,
        told => told,
    }
}

/// All models, or the one that is named.
pub fn answer(
    snapshot: &Snapshot,
    caller: Caller<'_>,
    facts: &Facts,
    asked: Asked<'_>,
) -> Result<Bytes, Refusal> {
    let can_call = |entry: &&ModelEntry| is_callable(snapshot, entry, caller, facts);
    let answer = match asked.name {
        Some(name) => {
            let entry =
                snapshot.model(name).filter(can_call).ok_or_else(|| model_not_found(snapshot, name))?;
            one(entry, asked.shape)
        }
        None => {
            let mut entries: Vec<_> = snapshot.models().filter(can_call).collect();
            entries.sort_unstable_by_key(|entry| &*entry.model.name);
            list(&entries, asked)?
        }
    };
    Ok(answer.to_string().into())
}

/// Active, priced, on the lists of the group and of the key, permitted by its policies, and served by a channel that the key may use.
fn is_callable(snapshot: &Snapshot, entry: &ModelEntry, caller: Caller<'_>, facts: &Facts) -> bool {
    entry.model.status == ModelStatus::Active
        && caller.group.is_none_or(|group| group.contains(&entry.model.name))
        && entry.price_at(facts.at_ms).is_some()
        && entry.model.endpoints().any(|endpoint| {
            let name = &entry.model.name;
            caller.key.allows(endpoint, name) && permits(snapshot, caller, facts, name, endpoint)
        })
        && !caller.candidates(snapshot, entry).is_empty()
}

fn one(entry: &ModelEntry, shape: Shape) -> Value {
    let model = &entry.model;
    match shape {
        Shape::OpenAi => json!({
            "id": model.name,
            "object": "model",
            // Seconds since 1970.
            "created": model.created_at.as_second(),
            "owned_by": model.owned_by,
        }),
        Shape::Anthropic => json!({
            "type": "model",
            "id": model.name,
            "display_name": model.name,
            "created_at": model.created_at.to_string(),
        }),
        Shape::Gemini => {
            let methods =
                [Endpoint::GenerateContent, Endpoint::StreamGenerateContent, Endpoint::CountContents];
            let works = |endpoint: &Endpoint| model.works_at(endpoint.called().path());
            json!({
                "name": format!("models/{}", model.name),
                "displayName": model.name,
                "outputTokenLimit": model.output_tokens_max,
                "supportedGenerationMethods":
                    methods.iter().filter(|endpoint| works(endpoint)).map(|endpoint| endpoint.path()).collect::<Vec<_>>(),
            })
        }
    }
}

/// `entries`: by name.
fn list(entries: &[&ModelEntry], asked: Asked<'_>) -> Result<Value, Refusal> {
    let shown = |page: &[&ModelEntry]| page.iter().map(|entry| one(entry, asked.shape)).collect::<Vec<_>>();
    let name = |entry: Option<&&ModelEntry>| entry.map(|entry| entry.model.name.clone());
    let behind = |after: &str| entries.partition_point(|entry| *entry.model.name <= *after);
    match asked.shape {
        Shape::OpenAi => Ok(json!({"object": "list", "data": shown(entries)})),
        Shape::Anthropic => {
            let limit = page_size(asked.query, "limit", 20)?;
            let (page, has_more) = match (param(asked.query, "before_id"), param(asked.query, "after_id")) {
                (Some(before), _) => {
                    let end = entries.partition_point(|entry| *entry.model.name < *before);
                    let begin = end.saturating_sub(limit);
                    (entries.get(begin..end), begin > 0)
                }
                (None, after) => {
                    let begin = after.map_or(0, |after| behind(&after));
                    let end = entries.len().min(begin + limit);
                    (entries.get(begin..end), end < entries.len())
                }
            };
            let page = page.unwrap_or_default();
            Ok(json!({
                "data": shown(page),
                "has_more": has_more,
                "first_id": name(page.first()),
                "last_id": name(page.last()),
            }))
        }
        Shape::Gemini => {
            let begin = param(asked.query, "pageToken").map_or(0, |after| behind(&after));
            let end = entries.len().min(begin + page_size(asked.query, "pageSize", 50)?);
            let page = entries.get(begin..end).unwrap_or_default();
            let mut answer = json!({"models": shown(page)});
            if end < entries.len() {
                answer["nextPageToken"] = json!(name(page.last()));
            }
            Ok(answer)
        }
    }
}

fn param(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.into_owned())
}

fn page_size(query: Option<&str>, field: &'static str, unsaid: usize) -> Result<usize, Refusal> {
    let Some(said) = param(query, field) else { return Ok(unsaid) };
    let size = said.parse().ok().filter(|size| (1..=PAGE_MAX).contains(size));
    size.ok_or_else(|| {
        let refusal = Refusal::new(Code::InvalidParameter).field(field);
        refusal.param("reason", format!("expected 1 to {PAGE_MAX}, got {said}"))
    })
}
