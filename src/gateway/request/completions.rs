//! The older completions request: a prompt, or several, that the model goes on with.

use super::json::{Members, kind, list};
use super::{CHOICES_MAX, CapField, Endpoint, ModelRequest, RequestFault};

/// OpenAI's own cap where the client sets none (its API reference, "create completion").
const DEFAULT_CAP: u32 = 16;
/// Most prompts of one call (OpenAI's own limit).
const PROMPTS_MAX: u32 = 2_048;

const KNOWN: &[&str] =
    &["model", "prompt", "stream", "stream_options", "max_tokens", "n", "best_of", "service_tier"];

pub(super) fn read(text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    let prompts = prompts(&members)?;
    let max_tokens = members.cap("max_tokens")?;
    let number = |name| members.number(name, CHOICES_MAX, "a whole number from 1 to 128");
    // Each prompt is answered as often as the better of both says; all of it is billed.
    let choices = number("n")?.unwrap_or(1).max(number("best_of")?.unwrap_or(1));
    let (include_usage_asked, stream_options) = members.stream_options()?;
    let mut spans = members.spans();
    spans.max_tokens = members.cap_span("max_tokens", max_tokens);
    spans.stream_options = stream_options;
    let mut request = ModelRequest::plain(Endpoint::Completions, members.model(None)?, spans);
    request.extras.service_tier = members.has_other_tier();
    Ok(ModelRequest {
        stream: members.flag("stream")?,
        include_usage_asked,
        output_cap: max_tokens.map(|cap| (CapField::MaxTokens, cap)),
        default_cap: Some(DEFAULT_CAP),
        choices: choices.saturating_mul(prompts),
        ..request
    })
}

/// How many there are: a text, a list of tokens, or a list of either.
fn prompts(members: &Members<'_>) -> Result<u32, RequestFault> {
    const WHAT: &str = "a string, a list of tokens, or a list of up to 2048 of them";
    let raw = members.required("prompt", WHAT)?;
    let fault = |got: Box<str>| RequestFault::parameter("prompt", WHAT, got);
    if raw.get().starts_with('"') {
        return Ok(1);
    }
    let elements = list(raw).ok_or_else(|| fault(kind(raw.get())))?;
    let is_prompt = |text: &str| text.starts_with(['"', '[']);
    let several = elements.iter().filter(|element| is_prompt(element.get())).count();
    match (several, u32::try_from(elements.len())) {
        (_, Ok(0)) => Err(fault("an empty list".into())),
        (0, _) => Ok(1),
        (_, Ok(count)) if several == elements.len() && count <= PROMPTS_MAX => Ok(count),
        (_, Ok(count)) if several == elements.len() => Err(fault(format!("a list of {count}").into())),
        _ => Err(fault("a list of both texts and tokens".into())),
    }
}
