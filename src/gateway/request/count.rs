//! Requests for a count of tokens: Anthropic's is the request itself without a cap, Gemini's has its contents, or a whole
//! request as one member.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::json::Members;
use super::{Endpoint, ModelRequest, RequestFault, anthropic, gemini};

/// The member that has a whole request of Gemini's, in either spelling.
const WHOLE: [&str; 2] = ["generateContentRequest", "generate_content_request"];

pub(super) fn messages(text: &str) -> Result<ModelRequest, RequestFault> {
    Ok(ModelRequest { endpoint: Endpoint::CountMessages, stream: false, ..anthropic::read(text)? })
}

pub(super) fn contents(model: &str, text: &str) -> Result<ModelRequest, RequestFault> {
    gemini::read(Endpoint::CountContents, model, whole(text)?.unwrap_or(text))
}

fn whole(text: &str) -> Result<Option<&str>, RequestFault> {
    let members = Members::read(text, &WHOLE)?;
    match WHOLE.map(|name| members.get(name)) {
        [Some(_), Some(_)] => Err(RequestFault::parameter(WHOLE[0], "the field once", "the field twice")),
        [camel, snake] => Ok(camel.or(snake).map(serde_json::value::RawValue::get)),
    }
}

impl ModelRequest {
    /// The request whose tokens are counted, within the body of the count.
    pub fn counted(&self, body: &Bytes) -> Bytes {
        let inner = (self.endpoint == Endpoint::CountContents).then(|| std::str::from_utf8(body).ok());
        let inner = inner.flatten().and_then(|text| whole(text).ok().flatten());
        inner.map_or_else(|| body.clone(), |inner| body.slice_ref(inner.as_bytes()))
    }

    /// The body of a count for an upstream that knows the model by this name, where it stands inside of a whole request.
    pub fn addressed_to(&self, model: &str, body: &Bytes) -> Bytes {
        if self.endpoint != Endpoint::CountContents {
            return body.clone();
        }
        let Ok(mut outer) = serde_json::from_slice::<Map<String, Value>>(body) else { return body.clone() };
        let mut inner = outer.iter_mut().filter(|(name, _)| WHOLE.contains(&name.as_str()));
        let Some((_, Value::Object(inner))) = inner.next() else { return body.clone() };
        inner.insert("model".into(), format!("models/{model}").into());
        Value::Object(outer).to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_like_the_call_that_it_is_of() {
        let body = r#"{"model":"c","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
        let request = messages(body).unwrap();
        assert_eq!(
            (request.endpoint, &*request.model, request.stream),
            (Endpoint::CountMessages, "c", false)
        );
        let bare = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
        let bytes = Bytes::from_static(bare.as_bytes());
        let request = contents("g", bare).unwrap();
        assert_eq!(
            (request.counted(&bytes), request.addressed_to("x", &bytes)),
            (bytes.clone(), bytes.clone())
        );
        let whole =
            Bytes::from(format!(r#"{{"generateContentRequest": {{"model":"models/g",{} }}"#, &bare[1..]));
        let request = contents("g", std::str::from_utf8(&whole).unwrap()).unwrap();
        assert_eq!(&request.counted(&whole)[..19], br#"{"model":"models/g""#);
        let sent: Value = serde_json::from_slice(&request.addressed_to("x", &whole)).unwrap();
        assert_eq!(sent["generateContentRequest"]["model"], "models/x");
        assert_eq!(sent["generateContentRequest"]["contents"][0]["parts"][0]["text"], "hi");
        for wrong in
            ["{}", r#"{"generateContentRequest":[]}"#, r#"{"contents":[],"generateContentRequest":{}}"#]
        {
            assert!(contents("g", wrong).is_err(), "{wrong}");
        }
    }
}
