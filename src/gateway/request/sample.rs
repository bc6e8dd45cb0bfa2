//! The smallest body of each format, for calls that nobody made: simulations, and channels that are tried out.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Endpoint;

/// What is called, and with which body.
pub struct Sample<'a> {
    pub endpoint: Endpoint,
    /// As the body is declared; a form needs its boundary.
    pub media_type: Option<&'a str>,
    pub body: Bytes,
}

impl Sample<'static> {
    /// The smallest body that a call of this model can have at an endpoint, with this text in it.
    pub fn smallest(endpoint: Endpoint, model: &str, text: &str) -> Self {
        let body = match endpoint {
            Endpoint::Completions => json!({"model": model, "prompt": text}),
            Endpoint::Responses | Endpoint::Embeddings | Endpoint::Moderations => {
                json!({"model": model, "input": text})
            }
            Endpoint::ImageGenerations | Endpoint::Images | Endpoint::Videos => {
                json!({"model": model, "prompt": text})
            }
            Endpoint::Speech => json!({"model": model, "input": text, "voice": "alloy"}),
            Endpoint::Rerank => json!({"model": model, "query": text, "documents": [text]}),
            Endpoint::ImageEdits => return Self::form(endpoint, model, text, "image"),
            Endpoint::Transcriptions => return Self::form(endpoint, model, text, "file"),
            _ => json!({"model": model, "messages": [{"role": "user", "content": text}]}),
        };
        Sample { endpoint, media_type: None, body: body.to_string().into() }
    }

    /// With an empty file.
    fn form(endpoint: Endpoint, model: &str, text: &str, file: &str) -> Self {
        let field = |name: &str, value: &str| {
            format!("--simulated\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let fields = [("model", model), ("prompt", text), (file, "")].map(|(name, value)| field(name, value));
        let body = format!("{}--simulated--\r\n", fields.concat()).into();
        Sample { endpoint, media_type: Some("multipart/form-data; boundary=simulated"), body }
    }

    /// With a cap on the answer, where the endpoint has one.
    #[must_use]
    pub fn capped(self, cap: Option<i64>) -> Self {
        let field = if self.endpoint == Endpoint::Responses { "max_output_tokens" } else { "max_tokens" };
        self.with(field, cap)
    }

    /// With another field, where the body is JSON.
    #[must_use]
    pub fn with(mut self, field: &str, value: Option<impl Into<Value>>) -> Self {
        let Some(value) = value else { return self };
        if let Ok(Value::Object(mut body)) = serde_json::from_slice(&self.body) {
            body.insert(field.to_owned(), value.into());
            self.body = Value::Object(body).to_string().into();
        }
        self
    }
}
