//! The messages of a chat request: that they are messages, and which of their
//! parts are not text.
//!
//! Contents are looked at as raw JSON: a text is never unescaped or copied,
//! only an inline image or sound is measured.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{is_of_films, kind};
use super::{PartList, PartPlace, Parts, RequestFault};

/// What the walk has seen so far, and where it is.
#[derive(Default)]
pub(super) struct Walk {
    pub parts: Parts,
    pub fault: Option<RequestFault>,
    place: Place,
}

#[derive(Default, Clone, Copy)]
enum Place {
    #[default]
    Top,
    List,
    Message(usize),
}

impl Walk {
    /// The field that the walk was about to read and what it should be, for
    /// the message of a wrong type; nothing at the top level.
    pub fn expected(&self) -> Option<(String, &'static str)> {
        match self.place {
            Place::Top => None,
            Place::List => Some(("messages".into(), "a list of messages")),
            Place::Message(index) => Some((format!("messages[{index}]"), "an object with role and content")),
        }
    }

    fn fail<E: serde::de::Error>(&mut self, field: String, what: &'static str, got: Box<str>) -> E {
        self.fault = Some(RequestFault::parameter(field, what, got));
        E::custom("fault")
    }
}

/// Reads the value of `messages`.
pub(super) struct Messages<'w> {
    pub walk: &'w mut Walk,
}

impl<'de> DeserializeSeed<'de> for Messages<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.walk.place = Place::List;
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Messages<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let walk = self.walk;
        let mut index = 0;
        loop {
            walk.place = Place::Message(index);
            if list.next_element_seed(Message { walk, index })?.is_none() {
                break;
            }
            index += 1;
        }
        walk.place = Place::Top;
        if index == 0 {
            return Err(walk.fail("messages".into(), "at least one message", "an empty list".into()));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum MessageKey {
    Role,
    Content,
    Audio,
    #[serde(other)]
    Other,
}

struct Message<'w> {
    walk: &'w mut Walk,
    index: usize,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { walk, index } = self;
        let (mut role, mut content) = (false, false);
        while let Some(key) = map.next_key::<MessageKey>()? {
            match key {
                MessageKey::Role => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    if std::mem::replace(&mut role, true) || !raw.starts_with('"') {
                        return Err(walk.fail(format!("messages[{index}].role"), "one string", kind(raw)));
                    }
                }
                MessageKey::Content => {
                    let raw = map.next_value::<&RawValue>()?;
                    if std::mem::replace(&mut content, true) {
                        let field = format!("messages[{index}].content");
                        return Err(walk.fail(field, "the field once", "the field twice".into()));
                    }
                    read_content(walk, index, raw).map_err(|()| A::Error::custom("fault"))?;
                }
                MessageKey::Audio => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    walk.parts.audio = walk.parts.audio.saturating_add(u32::from(raw != "null"));
                }
                MessageKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if !role {
            return Err(walk.fail(format!("messages[{index}].role"), "a role", "nothing".into()));
        }
        Ok(())
    }
}

/// A content is a text, a list of parts, or nothing (beside tool calls).
fn read_content(walk: &mut Walk, index: usize, raw: &RawValue) -> Result<(), ()> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"' | b'n') => Ok(()),
        Some(b'[') => {
            let mut json = serde_json::Deserializer::from_str(text);
            json.deserialize_seq(ContentParts { walk, index }).map_err(drop)
        }
        _ => {
            let field = format!("messages[{index}].content");
            walk.fault = Some(RequestFault::parameter(field, "a string or a list of parts", kind(text)));
            Err(())
        }
    }
}

struct ContentParts<'w> {
    walk: &'w mut Walk,
    index: usize,
}

impl<'de> Visitor<'de> for ContentParts<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of parts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { walk, index } = self;
        for part in 0.. {
            let Some(raw) = list.next_element::<&RawValue>()? else { break };
            // A derived struct would also read a list by position.
            let seen = if raw.get().starts_with('{') {
                serde_json::from_str::<Part<'_>>(raw.get()).ok()
            } else {
                None
            };
            let Some(seen) = seen else {
                let field = format!("messages[{index}].content[{part}]");
                return Err(walk.fail(field, "an object with a type, each member once", kind(raw.get())));
            };
            seen.count(&mut walk.parts);
            walk.parts.note_place(|| PartPlace::new(PartList::Messages, index, part));
        }
        Ok(())
    }
}

/// A part of a content. What carries bytes is recognised by its member and by
/// its type, because servers go by either.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    file: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Inline<'a> {
    #[serde(borrow, default)]
    url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl Part<'_> {
    fn count(&self, parts: &mut Parts) {
        let kind = self.kind.map_or("", RawValue::get);
        let url = self.image_url.map_or("", |image| address(image.get()));
        let film = is_of_films(url);
        let image = !film && (self.image_url.is_some() || kind == "\"image_url\"");
        let audio = self.input_audio.is_some() || kind == "\"input_audio\"";
        let file = film || self.file.is_some() || kind == "\"file\"";
        let text = matches!(kind, "\"text\"" | "\"refusal\"");
        parts.images = parts.images.saturating_add(u32::from(image));
        parts.audio = parts.audio.saturating_add(u32::from(audio));
        parts.files = parts.files.saturating_add(u32::from(file));
        parts.others = parts.others.saturating_add(u32::from(!(image || audio || file || text)));
        parts.image_bytes = parts.image_bytes.saturating_add(data_url_bytes(url));
        if let Some(sound) = self.input_audio {
            let data = inline(sound.get()).and_then(|sound| sound.data).map_or(0, |data| data.get().len());
            parts.audio_bytes = parts.audio_bytes.saturating_add(data as u64);
        }
    }
}

/// Where an image is: `{"url": "…"}` or, as some clients write, the bare string.
fn address(raw: &str) -> &str {
    if raw.starts_with('{') { inline(raw).and_then(|image| image.url).map_or("", RawValue::get) } else { raw }
}

/// Bytes of an inline image. An escaped `data:` counts as text, which only makes the bound larger.
fn data_url_bytes(url: &str) -> u64 {
    if url.starts_with("\"data:") { url.len() as u64 } else { 0 }
}

fn inline(raw: &str) -> Option<Inline<'_>> {
    // A derived struct would also read a list by position.
    if raw.starts_with('{') { serde_json::from_str(raw).ok() } else { None }
}
