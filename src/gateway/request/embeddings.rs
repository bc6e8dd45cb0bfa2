//! Requests whose answer has no text of its own: embeddings and moderations.

use super::json::{Members, kind, list};
use super::{Endpoint, ModelRequest, RequestFault};

/// The model of a moderation that names none (OpenAI's API reference, "create moderation").
const MODERATION_MODEL: &str = "omni-moderation-latest";

const KNOWN: &[&str] = &["model", "input"];

pub(super) fn read(endpoint: Endpoint, text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    let input = members.required("input", "a string or a list")?;
    if !input.get().starts_with(['"', '[']) {
        return Err(RequestFault::parameter("input", "a string or a list", kind(input.get())));
    }
    let default = (endpoint == Endpoint::Moderations).then_some(MODERATION_MODEL);
    let model = members.model(default)?;
    let mut spans = members.spans();
    spans.model_unsaid = members.get("model").is_none();
    let mut request = ModelRequest::plain(endpoint, model, spans);
    let parts = list(input).unwrap_or_default();
    let objects = parts.iter().filter(|part| part.get().starts_with('{'));
    match endpoint {
        // `{"type": "image_url", …}` beside texts.
        Endpoint::Moderations => {
            let images = objects.filter(|part| part.get().contains("\"image_url\"")).count();
            request.parts.images = u32::try_from(images).unwrap_or(u32::MAX);
        }
        // Pictures to embed have no format that servers agree on.
        _ if objects.count() > 0 => {
            request.unbounded =
                Some(("input".into(), "what is neither text nor tokens has no highest price"));
        }
        _ => {}
    }
    Ok(request)
}
