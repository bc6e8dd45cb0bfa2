//! What a request for a task asks for, whichever lane it is in.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::form::{self, Field, Form};
use super::images::{self, ImageWish};
use super::videos::{self, VideoWish};
use super::{Endpoint, RequestFault};

/// The prompt lives here for the upstream alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskWish {
    Video(VideoWish),
    Image(ImageWish),
}

impl TaskWish {
    /// Reads a body; `media_type` is what it was declared as.
    pub fn read(endpoint: Endpoint, media_type: Option<&str>, body: &Bytes) -> Result<Self, RequestFault> {
        match endpoint {
            Endpoint::Images => ImageWish::read(media_type, body).map(TaskWish::Image),
            _ => VideoWish::read(media_type, body).map(TaskWish::Video),
        }
    }

    /// Equal wishes have equal fingerprints, whatever boundary their form has.
    pub fn fingerprint(&self, model: &str) -> u128 {
        match self {
            TaskWish::Video(video) => video.fingerprint(model),
            TaskWish::Image(image) => image.fingerprint,
        }
    }

    pub fn prompt(&self) -> &str {
        match self {
            TaskWish::Video(video) => &video.prompt,
            TaskWish::Image(image) => &image.prompt,
        }
    }

    pub fn size(&self) -> Option<&str> {
        match self {
            TaskWish::Video(video) => Some(&video.size),
            TaskWish::Image(image) => image.size.as_deref(),
        }
    }

    pub fn quality(&self) -> Option<&str> {
        match self {
            TaskWish::Video(_) => None,
            TaskWish::Image(image) => image.quality.as_deref(),
        }
    }

    /// SHA-256 of each picture that came with it.
    pub fn references(&self) -> &[[u8; 32]] {
        match self {
            TaskWish::Video(video) => &video.references,
            TaskWish::Image(image) => &image.references,
        }
    }

    /// The pictures themselves, in the order of [`TaskWish::references`]; one that was named by its address or at its
    /// upstream is empty.
    pub fn pictures(&self, media_type: Option<&str>, body: &Bytes) -> Vec<Bytes> {
        match self {
            TaskWish::Video(_) => videos::pictures(media_type, body),
            TaskWish::Image(_) => images::pictures(media_type, body),
        }
    }

    /// The caller's own fields, those of a form as texts.
    pub fn fields(&self, media_type: Option<&str>, body: &Bytes) -> Map<String, Value> {
        match media_type.filter(|media_type| form::is_form(media_type)) {
            // It was read before.
            Some(media_type) => Form::read(media_type, body).map_or_else(
                |_| Map::new(),
                |form| {
                    let text = |field: &Field<'_>| {
                        Some((field.name.to_owned(), Value::from(std::str::from_utf8(field.content).ok()?)))
                    };
                    form.fields().filter(|field| !is_file(field)).filter_map(text).collect()
                },
            ),
            None => serde_json::from_slice(body).unwrap_or_default(),
        }
    }

    /// Whether pictures came with it as files.
    pub fn has_files(&self, media_type: Option<&str>) -> bool {
        media_type.is_some_and(form::is_form) && !self.references().is_empty()
    }

    /// The body with what was held for told where the caller left it open.
    pub fn complete(&self, media_type: Option<&str>, body: &Bytes) -> Bytes {
        match self {
            TaskWish::Video(video) => video.complete(media_type, body),
            TaskWish::Image(_) => body.clone(),
        }
    }
}

/// Fields that hold pictures.
fn is_file(field: &Field<'_>) -> bool {
    matches!(field.name, "image" | "image[]" | "mask") || field.name.starts_with("input_reference")
}
