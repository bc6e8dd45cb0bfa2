//! Requests for pictures: made from a text, or from a form with pictures to change.

use bytes::Bytes;

use super::form::{Field, Form};
use super::json::Members;
use super::{AskedUnits, CHOICES_MAX, Endpoint, ModelRequest, RequestFault, TEMPLATE_TOKENS};

const KNOWN: &[&str] = &["model", "prompt", "n", "size", "quality", "stream", "partial_images"];
const COUNT: &str = "a whole number from 1 to 128";

pub(super) fn generation(text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    members.required("prompt", "a string")?;
    let wish = Wish {
        images: members.number("n", CHOICES_MAX, COUNT)?.unwrap_or(1),
        size: members.text("size")?,
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
        size: form.text("size")?.map(|size| size.value.into()),
        quality: form.text("quality")?.map(|quality| quality.value.into()),
        stream: form.text("stream")?.map(|stream| stream.flag()).transpose()?.unwrap_or(false),
        partial_images: form.text("partial_images")?.is_some_and(|count| count.value != "0"),
    };
    let given = |field: &&Field<'_>| matches!(field.name, "image" | "image[]" | "mask");
    let given = form.fields().filter(given).count();
    if given == 0 {
        return Err(RequestFault::parameter("image", "at least one image", "nothing"));
    }
    let mut request = form.request(Endpoint::ImageEdits)?;
    request.parts.images = u32::try_from(given).unwrap_or(u32::MAX);
    request.input_tokens_bound = prompt.saturating_add(TEMPLATE_TOKENS);
    Ok(wish.asked(request))
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
