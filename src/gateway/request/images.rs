//! Requests for pictures: made from a text, or from a form with pictures to change.

use bytes::Bytes;

use super::form::{self, Field, Form};
use super::json::Members;
use super::videos::{checked_word_or_size, sha256};
use super::{
    AskedUnits, CHOICES_MAX, Endpoint, ModelRequest, RequestFault, TEMPLATE_TOKENS, fingerprint, utf8,
};

const KNOWN: &[&str] = &["model", "prompt", "n", "size", "quality", "stream", "partial_images"];
const COUNT: &str = "a whole number from 1 to 128";

pub(super) fn generation(text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    members.required("prompt", "a string")?;
    let wish = Wish {
        images: members.number("n", CHOICES_MAX, COUNT)?.unwrap_or(1),
        size: members.text("size")?.map(checked_word_or_size).transpose()?,
        quality: members.text("quality")?,
        stream: members.flag("stream")?,
        partial_images: members.get("partial_images").is_some_and(|count| count.get() != "0"),
    };
    let request = ModelRequest::plain(Endpoint::ImageGenerations, members.model(None)?, members.spans());
    Ok(wish.asked(request))
}

/// A form with the pictures to change, and a text.
pub(super) fn edit(media_type: &str, body: &Bytes) -> Result<ModelRequest, RequestFault> {
    let form = Form::read(media_type, body)?;
    let prompt = form.text("prompt")?.map_or(0, |prompt| prompt.value.len() as u64);
    let number = form.text("n")?.map(|n| n.number(CHOICES_MAX, COUNT)).transpose()?;
    let wish = Wish {
        images: number.unwrap_or(1),
        size: form.text("size")?.map(|size| checked_word_or_size(size.value.into())).transpose()?,
        quality: form.text("quality")?.map(|quality| quality.value.into()),
        stream: form.text("stream")?.map(|stream| stream.flag()).transpose()?.unwrap_or(false),
        partial_images: form.text("partial_images")?.is_some_and(|count| count.value != "0"),
    };
    let given = form.fields().filter(is_picture).count();
    if given == 0 {
        return Err(RequestFault::parameter("image", "at least one image", "nothing"));
    }
    let mut request = form.request(Endpoint::ImageEdits)?;
    request.parts.images = u32::try_from(given).unwrap_or(u32::MAX);
    request.input_tokens_bound = prompt.saturating_add(TEMPLATE_TOKENS);
    Ok(wish.asked(request))
}

fn is_picture(field: &&Field<'_>) -> bool {
    matches!(field.name, "image" | "image[]" | "mask")
}

/// The pictures of a form.
pub(super) fn pictures(media_type: Option<&str>, body: &Bytes) -> Vec<Bytes> {
    let form = media_type.filter(|kind| form::is_form(kind)).map(|kind| Form::read(kind, body));
    let Some(Ok(form)) = form else { return Vec::new() };
    form.fields().filter(is_picture).map(|field| body.slice_ref(field.content)).collect()
}

/// As a task: made from a text, or from a form with pictures to change.
pub(super) fn task(media_type: Option<&str>, body: &Bytes) -> Result<ModelRequest, RequestFault> {
    let request = match media_type.filter(|media_type| form::is_form(media_type)) {
        Some(media_type) => edit(media_type, body)?,
        None => generation(utf8(body)?)?,
    };
    match request.stream {
        true => Err(RequestFault::parameter("stream", "false, as a task is asked about later", "true")),
        false => Ok(request),
    }
}

/// What a request for pictures as a task says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageWish {
    pub prompt: Box<str>,
    pub images: u32,
    /// `None`: left to the upstream.
    pub size: Option<Box<str>>,
    pub quality: Option<Box<str>>,
    /// SHA-256 of each picture to change.
    pub references: Vec<[u8; 32]>,
    /// Of all that was asked for, whatever boundary the form has.
    pub fingerprint: u128,
}

impl ImageWish {
    pub fn read(media_type: Option<&str>, body: &Bytes) -> Result<Self, RequestFault> {
        let request = task(media_type, body)?;
        let asked = request.units.map(|asked| *asked).unwrap_or_default();
        let (prompt, references, fingerprint) = match media_type.filter(|kind| form::is_form(kind)) {
            Some(media_type) => {
                let form = Form::read(media_type, body)?;
                let prompt = form.text("prompt")?.map_or("", |prompt| prompt.value).into();
                let mut all: Vec<u8> = Vec::new();
                for field in form.fields() {
                    all.extend_from_slice(&sha256(field.name.as_bytes()));
                    all.extend_from_slice(&sha256(field.content));
                }
                let pictures = form.fields().filter(is_picture).map(|field| sha256(field.content));
                (prompt, pictures.collect(), fingerprint(&all))
            }
            None => {
                let members = Members::read(utf8(body)?, KNOWN)?;
                (members.text("prompt")?.unwrap_or_default(), Vec::new(), fingerprint(body))
            }
        };
        let (images, size, quality) = (asked.images, asked.size, asked.quality);
        Ok(ImageWish { prompt, images, size, quality, references, fingerprint })
    }
}

/// What both ask for.
struct Wish {
    images: u32,
    size: Option<Box<str>>,
    quality: Option<Box<str>>,
    stream: bool,
    partial_images: bool,
}

impl Wish {
    fn asked(self, mut request: ModelRequest) -> ModelRequest {
        request.stream = self.stream;
        request.choices = self.images;
        if self.partial_images {
            request.unbounded =
                Some(("partial_images".into(), "partial images are billed beside the image itself"));
        } else if self.stream && self.images > 1 {
            request.unbounded = Some(("n".into(), "a stream of several images does not tell what they use"));
        }
        // What is left to the upstream is as good as unsaid.
        let said = |text: Option<Box<str>>| text.filter(|text| !matches!(&**text, "" | "auto"));
        let (size, quality) = (said(self.size), said(self.quality));
        request.units =
            Some(Box::new(AskedUnits { images: self.images, size, quality, ..AskedUnits::default() }));
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g1_the_fields_of_an_image_task_are_read_from_json_and_from_a_form() {
        let json = |text: &str| ImageWish::read(None, &Bytes::copy_from_slice(text.as_bytes()));
        let told =
            json(r#"{"model": "i", "prompt": "a cat", "n": 2, "size": "1x1", "quality": "auto"}"#).unwrap();
        assert_eq!(
            (&*told.prompt, told.images, told.size.as_deref(), told.quality),
            ("a cat", 2, Some("1x1"), None)
        );
        assert_ne!(
            told.fingerprint,
            json(r#"{"model": "i", "prompt": "a cat", "n": 3}"#).unwrap().fingerprint
        );
        for (size, good) in [
            ("1792x1024", true),
            ("auto", true),
            ("2K", true),
            ("", true),
            ("01792x1024", false),
            ("1792 x 1024", false),
        ] {
            let asked = json(&format!(r#"{{"model": "i", "prompt": "a cat", "size": "{size}"}}"#));
            assert_eq!(asked.is_ok(), good, "{size}");
        }
        let stream = json(r#"{"model": "i", "prompt": "a cat", "stream": true}"#).unwrap_err();
        assert!(stream.to_string().contains("`stream`"), "{stream}");
        let form = |boundary: &str| {
            let part = |name: &str, text: &str| {
                format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
            };
            let parts = [part("model", "i"), part("prompt", "a cat"), part("image", "png")].concat();
            let kind = format!("multipart/form-data; boundary={boundary}");
            ImageWish::read(Some(&kind), &format!("{parts}--{boundary}--\r\n").into()).unwrap()
        };
        assert_eq!((form("a"), &form("a").references), (form("b"), &vec![sha256(b"png")]));
    }
}
