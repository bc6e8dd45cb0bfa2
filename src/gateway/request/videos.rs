//! Requests for videos: JSON, or a form with a reference image in it.
//!
//! What a caller leaves open goes upstream as it was held for, so that a default of the upstream's that differs from
//! ours makes nothing longer or larger.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use ring::digest::{SHA256, digest};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::form::{self, Form};
use super::json::Members;
use super::{AskedUnits, Endpoint, ModelRequest, RequestFault, utf8};

const KNOWN: &[&str] = &["model", "prompt", "seconds", "size", "input_reference", "n"];
/// What a video lasts whose length nobody asked for, and its size, as OpenAI has them.
const SECONDS_DEFAULT: u64 = 4;
const SIZE_DEFAULT: &str = "720x1280";
const SECONDS: &str = "whole seconds from 1 to 3600";
const SECONDS_MAX: u64 = 3_600;
const SIZE: &str = "width x height, such as 1280x720";
const SIDE_MAX: u32 = 16_384;

/// What a request for a video says. The prompt is kept for the upstream alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoWish {
    pub prompt: Box<str>,
    pub seconds: u64,
    pub size: Box<str>,
    /// SHA-256 of each reference image, or of what names it.
    pub references: Vec<[u8; 32]>,
    /// SHA-256 of every other field, which the upstream may know.
    rest: [u8; 32],
    /// What the caller left to a default.
    seconds_unsaid: bool,
    size_unsaid: bool,
}

/// The fields as they were told, wherever they stood.
struct Told {
    prompt: Option<Box<str>>,
    seconds: Option<Box<str>>,
    size: Option<Box<str>>,
    references: Vec<[u8; 32]>,
    rest: [u8; 32],
}

pub fn sha256(data: &[u8]) -> [u8; 32] {
    digest(&SHA256, data).as_ref().try_into().unwrap_or([0; 32])
}

impl VideoWish {
    /// Reads a body; `media_type` is what it was declared as.
    pub fn read(media_type: Option<&str>, body: &[u8]) -> Result<Self, RequestFault> {
        let told = match media_type.filter(|media_type| form::is_form(media_type)) {
            Some(media_type) => Told::of_form(&Form::read(media_type, body)?)?,
            None => Told::of_json(utf8(body)?)?,
        };
        let missing = || RequestFault::parameter("prompt", "a string", "nothing");
        let seconds = told.seconds.as_deref().map(seconds).transpose()?;
        let size = told.size.map(checked_size).transpose()?;
        Ok(VideoWish {
            prompt: told.prompt.ok_or_else(missing)?,
            seconds_unsaid: seconds.is_none(),
            seconds: seconds.unwrap_or(SECONDS_DEFAULT),
            size_unsaid: size.is_none(),
            size: size.unwrap_or_else(|| SIZE_DEFAULT.into()),
            references: told.references,
            rest: told.rest,
        })
    }

    /// Equal wishes have equal fingerprints, whatever boundary their form has.
    pub fn fingerprint(&self, model: &str) -> u128 {
        let seconds = self.seconds.to_string();
        let mut all: Vec<u8> = Vec::new();
        for part in [model, &self.prompt, &seconds, &self.size] {
            all.extend_from_slice(&sha256(part.as_bytes()));
        }
        all.extend(self.references.iter().flatten());
        all.extend_from_slice(&self.rest);
        super::fingerprint(&all)
    }

    /// The body with length and size told where the caller left them open.
    pub fn complete(&self, media_type: Option<&str>, body: &Bytes) -> Bytes {
        let seconds = self.seconds_unsaid.then(|| ("seconds", self.seconds.to_string()));
        let size = self.size_unsaid.then(|| ("size", self.size.to_string()));
        let missing: Vec<_> = seconds.into_iter().chain(size).collect();
        if missing.is_empty() {
            return body.clone();
        }
        match media_type.and_then(|media_type| form::first_delimiter(media_type, body)) {
            Some((boundary, at)) => {
                let mut whole = BytesMut::with_capacity(body.len() + 512);
                for (name, value) in missing {
                    let field = format!(
                        "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                    );
                    whole.extend_from_slice(field.as_bytes());
                }
                whole.extend_from_slice(body.get(at..).unwrap_or_default());
                whole.freeze()
            }
            None => {
                // What stands there as null is as good as unsaid, so that it cannot be spliced in.
                let Ok(mut told) = serde_json::from_slice::<Map<String, Value>>(body) else {
                    return body.clone();
                };
                told.extend(missing.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
                Value::Object(told).to_string().into()
            }
        }
    }
}

impl Told {
    fn of_json(body: &str) -> Result<Self, RequestFault> {
        let members = Members::read(body, KNOWN)?;
        // A number is as good as a text of digits.
        let digits = |name| match members.get(name).map(|raw| raw.get()) {
            Some(raw) if raw.starts_with(|first: char| first.is_ascii_digit()) => Ok(Some(raw.into())),
            _ => members.text(name),
        };
        // A reference by its address or by its name at the upstream: what it says stands for the image.
        let reference = members.get("input_reference").map(|raw| sha256(raw.get().as_bytes()));
        Ok(Told {
            prompt: members.text("prompt")?,
            seconds: digits("seconds")?,
            size: members.text("size")?,
            references: reference.into_iter().collect(),
            rest: rest(
                serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(body)
                    .iter()
                    .flatten()
                    .map(|(name, value)| (&**name, value.get().as_bytes())),
            ),
        })
    }

    fn of_form(form: &Form<'_>) -> Result<Self, RequestFault> {
        let text = |name| Ok::<_, RequestFault>(form.text(name)?.map(|field| field.value.into()));
        let references = form.fields().filter(|field| field.name.starts_with("input_reference"));
        Ok(Told {
            prompt: text("prompt")?,
            seconds: text("seconds")?,
            size: text("size")?,
            references: references.map(|field| sha256(field.content)).collect(),
            rest: rest(form.fields().map(|field| (field.name, field.content))),
        })
    }
}

/// The reference images of a request: the files of a form, or what a `data:` address in JSON holds.
pub(super) fn pictures(media_type: Option<&str>, body: &Bytes) -> Vec<Bytes> {
    match media_type.filter(|media_type| form::is_form(media_type)) {
        Some(media_type) => match Form::read(media_type, body) {
            Ok(form) => {
                let files = form.fields().filter(|field| field.name.starts_with("input_reference"));
                files.map(|field| body.slice_ref(field.content)).collect()
            }
            Err(_) => Vec::new(),
        },
        None => {
            let told = serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default();
            let reference = told.get("input_reference").filter(|told| !told.is_null());
            reference.map(|reference| inline(reference).unwrap_or_default()).into_iter().collect()
        }
    }
}

/// What stands in a reference, as a text or as the address in its object.
fn inline(reference: &Value) -> Option<Bytes> {
    let address = reference.as_str().or_else(|| reference.get("image_url")?.as_str())?;
    let (_, text) = address.strip_prefix("data:")?.split_once(";base64,")?;
    BASE64.decode(text).ok().map(Bytes::from)
}

/// Hash of the fields that are no part of the wish by themselves.
fn rest<'f>(fields: impl Iterator<Item = (&'f str, &'f [u8])>) -> [u8; 32] {
    let known = |name: &str| KNOWN.contains(&name) || name.starts_with("input_reference");
    let mut all = Vec::new();
    for (name, content) in fields.filter(|(name, _)| !known(name)) {
        all.extend_from_slice(&sha256(name.as_bytes()));
        all.extend_from_slice(&sha256(content));
    }
    sha256(&all)
}

fn seconds(text: &str) -> Result<u64, RequestFault> {
    match text.parse::<u64>() {
        Ok(seconds) if (1..=SECONDS_MAX).contains(&seconds) => Ok(seconds),
        _ => Err(RequestFault::parameter("seconds", SECONDS, "something else")),
    }
}

fn checked_size(text: Box<str>) -> Result<Box<str>, RequestFault> {
    if is_size(&text) { Ok(text) } else { Err(RequestFault::parameter("size", SIZE, "something else")) }
}

/// One size has one spelling: prices go by it.
fn is_size(text: &str) -> bool {
    let side = |text: &str| {
        let is_plain = text.starts_with(|first: char| matches!(first, '1'..='9'));
        is_plain && text.parse::<u32>().is_ok_and(|side| side <= SIDE_MAX)
    };
    text.split_once('x').is_some_and(|(width, height)| side(width) && side(height))
}

/// The same of pictures, whose sizes may be words as well.
pub(super) fn checked_word_or_size(text: Box<str>) -> Result<Box<str>, RequestFault> {
    let of_size = |letter: char| letter.is_ascii_digit() || " +x".contains(letter.to_ascii_lowercase());
    let is_word = text.is_empty() || !text.chars().all(of_size);
    if is_word { Ok(text) } else { checked_size(text) }
}

pub(super) fn read(media_type: Option<&str>, body: &Bytes) -> Result<ModelRequest, RequestFault> {
    let wish = VideoWish::read(media_type, body)?;
    let (mut request, count) = match media_type.filter(|media_type| form::is_form(media_type)) {
        Some(media_type) => {
            let form = Form::read(media_type, body)?;
            let count = form.text("n")?.map(|n| n.value.to_owned());
            (form.request(Endpoint::Videos)?, count)
        }
        None => {
            let members = Members::read(utf8(body)?, KNOWN)?;
            let count = members.get("n").map(|n| n.get().to_owned());
            (ModelRequest::plain(Endpoint::Videos, members.model(None)?, members.spans()), count)
        }
    };
    if count.is_some_and(|count| count != "1") {
        request.unbounded = Some(("n".into(), "each video is a task of its own"));
    }
    request.input_tokens_bound = wish.prompt.len() as u64;
    request.units = Some(Box::new(AskedUnits {
        size: Some(wish.size),
        ms: Some(wish.seconds.saturating_mul(1_000)),
        ..AskedUnits::default()
    }));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::request::Edits;

    const FORM: &str = "multipart/form-data; boundary=edge";

    fn json(text: &str) -> Result<VideoWish, RequestFault> {
        VideoWish::read(None, text.as_bytes())
    }

    fn form(boundary: &str, fields: &[(&str, &str)]) -> Bytes {
        let part = |(name, text): &(&str, &str)| {
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        format!("{}--{boundary}--\r\n", fields.iter().map(part).collect::<String>()).into()
    }

    #[test]
    fn g1_the_fields_of_a_task_are_read_from_json_and_from_a_form() {
        let told = json(r#"{"model": "v", "prompt": "a cat", "seconds": "8", "size": "1280x720"}"#).unwrap();
        assert_eq!((told.seconds, &*told.size), (8, "1280x720"));
        assert_eq!(json(r#"{"prompt": "a cat", "seconds": 8, "size": "1280x720"}"#).unwrap(), told);
        let fields = [("model", "v"), ("prompt", "a cat"), ("seconds", "8"), ("size", "1280x720")];
        for boundary in ["edge", "other"] {
            let kind = format!("multipart/form-data; boundary={boundary}");
            let of_form = VideoWish::read(Some(&kind), &form(boundary, &fields)).unwrap();
            assert_eq!((&of_form, of_form.fingerprint("v")), (&told, told.fingerprint("v")));
        }
        let short = json(r#"{"model": "v", "prompt": "a cat"}"#).unwrap();
        assert_eq!((short.seconds, &*short.size), (4, "720x1280"));
        assert_ne!(short.fingerprint("v"), told.fingerprint("v"));
        assert_ne!(told.fingerprint("v"), told.fingerprint("w"));
        // What else is asked for makes another video.
        let styled = |style: &str| {
            json(&format!(r#"{{"model": "v", "prompt": "a cat", "style": "{style}"}}"#)).unwrap()
        };
        let prints = [styled("noir"), styled("comic"), short].map(|wish| wish.fingerprint("v"));
        assert!(prints[0] != prints[1] && prints[0] != prints[2] && prints[1] != prints[2]);
    }

    #[test]
    fn what_matters_and_is_wrong_is_named() {
        let cases = [
            (r#"{"prompt": "a"}"#, "model"),
            (r#"{"model": "v"}"#, "prompt"),
            (r#"{"model": 1, "prompt": "a"}"#, "model"),
            (r#"{"model": "v", "prompt": "a", "seconds": "-1"}"#, "seconds"),
            (r#"{"model": "v", "prompt": "a", "seconds": 4.5}"#, "seconds"),
            (r#"{"model": "v", "prompt": "a", "seconds": "4000"}"#, "seconds"),
            (r#"{"model": "v", "prompt": "a", "seconds": "4", "seconds": "8"}"#, "seconds"),
            (r#"{"model": "v", "prompt": "a", "size": "huge"}"#, "size"),
            (r#"{"model": "v", "prompt": "a", "size": "0x5"}"#, "size"),
            (r#"{"model": "v", "prompt": "a", "size": "01792x1024"}"#, "size"),
            (r#"{"model": "v", "prompt": "a", "size": "+1792x1024"}"#, "size"),
        ];
        for (body, named) in cases {
            let read = super::read(None, &Bytes::copy_from_slice(body.as_bytes()));
            let Err(RequestFault::InvalidParameter { field, .. }) = read else { panic!("{body}") };
            assert_eq!(&*field, named, "{body}");
        }
        let several = super::read(None, &r#"{"model": "v", "prompt": "a", "n": 2}"#.into()).unwrap();
        assert!(several.unbounded.is_some());
    }

    #[test]
    fn s9_what_was_left_to_a_default_is_told_to_the_upstream() {
        let sent = |media_type, body: &Bytes| {
            let request = super::read(media_type, body).unwrap();
            let edits = Edits { upstream_model: Some("w"), ..Edits::default() };
            let wish = VideoWish::read(media_type, body).unwrap();
            wish.complete(media_type, &request.rewrite(body, &edits))
        };
        let whole: Bytes = r#"{"model":"v","prompt":"a","seconds":"8","size":"1x1","own":[1]}"#.into();
        assert_eq!(sent(None, &whole), r#"{"model":"w","prompt":"a","seconds":"8","size":"1x1","own":[1]}"#);
        let open: Bytes = r#" {"model":"v","prompt":"a","size":null}"#.into();
        assert_eq!(sent(None, &open), r#"{"model":"w","prompt":"a","size":"720x1280","seconds":"4"}"#);
        let parts = form("edge", &[("model", "v"), ("prompt", "a"), ("size", "1280x720")]);
        let parts: Bytes = [b"nobody reads this\r\n", &*parts].concat().into();
        let there = sent(Some(FORM), &parts);
        let there = Form::read(FORM, &there).unwrap();
        let told = |name| there.text(name).unwrap().unwrap().value;
        assert_eq!([told("model"), told("seconds"), told("size")], ["w", "4", "1280x720"]);
    }
}
