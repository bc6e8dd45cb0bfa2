//! OpenAI's image API (<https://platform.openai.com/docs/api-reference/images>): what is submitted is answered with the
//! pictures, each as its address or as itself in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Made, Question, Submission, Taken, Task};
use crate::gateway::request::Edits;

/// The body as it came, but for the model's name.
pub fn submit(task: &Task, submission: &Submission) -> Question {
    let Submission { request, body, .. } = submission;
    let renamed = Some(&*task.upstream_model).filter(|name| **name != *task.model);
    Question {
        method: http::Method::POST,
        path: request.endpoint.upstream_path().to_owned(),
        headers: Vec::new(),
        content_type: Some(request.form.clone().unwrap_or_else(|| "application/json".into())),
        body: request.rewrite(body, &Edits { upstream_model: renamed, ..Edits::default() }),
    }
}

pub fn made(answer: &Value) -> Taken {
    let content_type = match answer["output_format"].as_str() {
        Some("jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        _ => "image/png",
    };
    let read = |picture: &Value| {
        if let Some(text) = picture["b64_json"].as_str() {
            let content = STANDARD.decode(text).ok()?.into();
            return Some(Made::Here { content_type: content_type.into(), content });
        }
        picture["url"].as_str().map(|address| Made::At(address.into()))
    };
    let pictures = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    match pictures.iter().map(read).collect::<Option<Vec<_>>>() {
        Some(all) if !all.is_empty() => Taken::Made(all),
        _ => Taken::odd("there is no picture in the answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pictures_are_their_addresses_or_themselves() {
        let answer =
            json!({"output_format": "webp", "data": [{"b64_json": "aGk="}, {"url": "https://p.example/1"}]});
        let here = Made::Here { content_type: "image/webp".into(), content: "hi".into() };
        assert_eq!(made(&answer), Taken::Made(vec![here, Made::At("https://p.example/1".into())]));
        for odd in
            [json!({}), json!({"data": []}), json!({"data": [{"b64_json": "?"}]}), json!({"data": [{}]})]
        {
            assert!(matches!(made(&odd), Taken::Unclear(..)), "{odd}");
        }
    }
}
