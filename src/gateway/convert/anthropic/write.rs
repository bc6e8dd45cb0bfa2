//! Writes a Messages request.

use std::borrow::Cow;

use super::super::Target;
use super::super::conversation::{
    Conversation, Image, Part, Role, Setting, ToolCall, ToolResult, Turn, as_object,
};
use super::super::json::Json;
use super::super::names;
use super::super::object::{ConvertFault, LeftOut};
use super::super::proof::Prover;
use super::super::text::Text;
use super::settings::{settings, tools};

/// The longest name of a user (`metadata.user_id`, there), in characters.
const USER_CHARACTERS_MAX: usize = 256;

/// Marks for its cache that a request may have; of more, the last ones help most.
const MARKS_MAX: usize = 4;

/// Kinds of pictures that a model can see.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The body for an upstream that speaks Anthropic's format.
pub fn write(
    conversation: &Conversation<'_>,
    target: &Target<'_>,
    left: &mut LeftOut,
) -> Result<Vec<u8>, ConvertFault> {
    let mut out = Vec::with_capacity(target.size_hint);
    let mut json = Json::new(&mut out);
    json.open('{').member("model").plain(target.model);
    let Some(cap) = conversation.output_cap.or(target.output_cap) else {
        let what = "a cap on the answer, as this model's provider needs one";
        return Err(conversation.setting_fault(Setting::OutputCap, what, "nothing"));
    };
    json.member("max_tokens").whole(cap.into());
    let mut marks = CacheMarks::of(conversation, left);
    system(&mut json, conversation, &mut marks);
    json.member("messages").open('[');
    let mut said = false;
    for turn in &conversation.turns {
        said |= message(&mut json, conversation, turn, &mut marks, left)?;
    }
    json.close(']');
    if !said {
        let what = "a message that says something, as this model's provider answers no instructions alone";
        return Err(ConvertFault::new(conversation.turns_name(), what, "nothing"));
    }
    tools(&mut json, conversation, &mut marks, left);
    settings(&mut json, conversation, cap, left)?;
    conversation.leave_verbosity(left);
    if target.stream {
        json.member("stream").flag(true);
    }
    if let Some(user) = &conversation.user {
        let user = names::user(user, USER_CHARACTERS_MAX);
        json.member("metadata").open('{').member("user_id").text(&user).close('}');
    }
    json.close('}');
    Ok(out)
}

/// Where a mark for the cache can stand, in the order in which the provider reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Tools,
    System,
    Turns,
}

/// How many of the first marks are left out, at each place.
#[derive(Debug)]
pub(super) struct CacheMarks([usize; 3]);

impl CacheMarks {
    fn of(conversation: &Conversation<'_>, left: &mut LeftOut) -> Self {
        let marks = conversation.marks();
        let mut over = marks.iter().sum::<usize>().saturating_sub(MARKS_MAX);
        if over > 0 {
            left.add("cache_control");
        }
        Self(marks.map(|marks| {
            let skipped = marks.min(over);
            over -= skipped;
            skipped
        }))
    }

    /// Writes a mark into the block that is open, if there is one and it is not too many.
    pub(super) fn mark(&mut self, marked: bool, place: Place, json: &mut Json<'_>) {
        let [tools, system, turns] = &mut self.0;
        let skip = match place {
            Place::Tools => tools,
            Place::System => system,
            Place::Turns => turns,
        };
        if !marked {
            return;
        }
        match skip.checked_sub(1) {
            Some(fewer) => *skip = fewer,
            None => drop(json.member("cache_control").open('{').member("type").plain("ephemeral").close('}')),
        }
    }
}

/// The provider takes no text of blanks alone.
fn says_nothing(text: &Text<'_>) -> bool {
    let rest = text.escaped().trim_start();
    rest.is_empty() || (rest.starts_with('\\') && text.unescaped().trim().is_empty())
}

fn system(json: &mut Json<'_>, conversation: &Conversation<'_>, marks: &mut CacheMarks) {
    let marked = &conversation.system_cached;
    match conversation.system.as_slice() {
        texts if texts.iter().all(says_nothing) => {}
        [text] if marked.is_empty() => drop(json.member("system").text(text)),
        texts => {
            json.member("system").open('[');
            for (at, text) in texts.iter().enumerate().filter(|(_, text)| !says_nothing(text)) {
                open_text(json, text);
                marks.mark(marked.contains(&at), Place::System, json);
                json.close('}');
            }
            json.close(']');
        }
    }
}

/// A text, whose block is still open.
fn open_text(json: &mut Json<'_>, text: &Text<'_>) {
    json.open('{').member("type").plain("text").member("text").text(text);
}

/// Whether a message was written: what says nothing the provider does not take.
fn message(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    marks: &mut CacheMarks,
    left: &mut LeftOut,
) -> Result<bool, ConvertFault> {
    let role = match turn.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        // They stand before all turns.
        Role::System => return Ok(false),
    };
    for part in turn.parts.iter().filter(|part| is_left_out(part)) {
        left.add(if matches!(part, Part::Redacted(_)) { "redacted_thinking" } else { "reasoning" });
    }
    if !turn.parts.iter().any(is_written) {
        return Ok(false);
    }
    json.open('{').member("role").plain(role).member("content");
    if let ([Part::Text(text)], true) = (turn.parts.as_slice(), turn.cached.is_empty()) {
        json.text(text).close('}');
        return Ok(true);
    }
    json.open('[');
    for (at, part) in turn.parts.iter().enumerate().filter(|(_, part)| is_written(part)) {
        open_block(json, conversation, turn, part)?;
        let may_be_marked = !matches!(part, Part::Thinking { .. } | Part::Redacted(_));
        marks.mark(may_be_marked && turn.cached.contains(&at), Place::Turns, json);
        json.close('}');
    }
    json.close(']').close('}');
    Ok(true)
}

/// It takes no thoughts back but its own.
fn is_left_out(part: &Part<'_>) -> bool {
    match part {
        Part::Thinking { signature, .. } => {
            signature.as_ref().is_none_or(|proof| proof.of != Prover::Anthropic)
        }
        Part::Redacted(data) => data.of != Prover::Anthropic,
        _ => false,
    }
}

pub(super) fn is_written(part: &Part<'_>) -> bool {
    match part {
        Part::Text(text) => !says_nothing(text),
        part => !is_left_out(part),
    }
}

/// A block, which is still open.
fn open_block(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    part: &Part<'_>,
) -> Result<(), ConvertFault> {
    match part {
        Part::Text(text) => open_text(json, text),
        Part::Image(image) => {
            let Some(image) = sendable(image) else {
                let what = "a picture in JPEG, PNG, GIF or WebP, as this model's provider takes no other";
                return Err(conversation.part_fault(turn, part, what, "another kind"));
            };
            open_image(json, &image);
        }
        Part::Sound { .. } => {
            let what = "texts and images, as this model's provider hears nothing";
            return Err(conversation.part_fault(turn, part, what, "a recording"));
        }
        Part::Thinking { text, signature } => {
            json.open('{').member("type").plain("thinking").member("thinking").text(text);
            json.member("signature").text(signature.as_ref().map_or(&Text::word(""), |proof| &proof.text));
        }
        Part::Redacted(data) => {
            json.open('{').member("type").plain("redacted_thinking").member("data").text(&data.text);
        }
        Part::ToolCall(call) => {
            let Some(arguments) = as_object(&call.arguments) else {
                let what = "arguments of a tool call that are a JSON object, as this model's provider takes no others";
                return Err(conversation.part_fault(turn, part, what, "another text"));
            };
            open_tool_use(json, call, arguments);
        }
        Part::ToolResult(result) => open_tool_result(json, conversation, turn, result)?,
    }
    Ok(())
}

fn open_tool_use(json: &mut Json<'_>, call: &ToolCall<'_>, arguments: &str) {
    json.open('{').member("type").plain("tool_use").member("id").text(&names::call_id(&call.id));
    json.member("name").text(&call.name).member("input").raw(arguments);
}

fn open_tool_result(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    result: &ToolResult<'_>,
) -> Result<(), ConvertFault> {
    json.open('{').member("type").plain("tool_result");
    json.member("tool_use_id").text(&names::call_id(&result.id));
    match result.content.as_slice() {
        parts if !parts.iter().any(is_written) => {}
        [Part::Text(text)] => drop(json.member("content").text(text)),
        parts => {
            json.member("content").open('[');
            for part in parts.iter().filter(|part| is_written(part)) {
                open_block(json, conversation, turn, part)?;
                json.close('}');
            }
            json.close(']');
        }
    }
    if result.is_error {
        json.member("is_error").flag(true);
    }
    Ok(())
}

/// The picture as the provider takes it, if it does.
fn sendable<'t, 'a>(image: &'t Image<'a>) -> Option<Cow<'t, Image<'a>>> {
    let Image::Inline { media_type, data } = image else { return Some(Cow::Borrowed(image)) };
    let known = names::picture_type(media_type);
    PICTURES.iter().any(|kind| known.is(kind)).then(|| match known {
        Cow::Borrowed(_) => Cow::Borrowed(image),
        Cow::Owned(media_type) => Cow::Owned(Image::Inline { media_type, data: data.clone() }),
    })
}

fn open_image(json: &mut Json<'_>, image: &Image<'_>) {
    json.open('{').member("type").plain("image").member("source").open('{').member("type");
    match image {
        Image::Inline { media_type, data } => {
            json.plain("base64").member("media_type").text(media_type).member("data").text(data)
        }
        Image::Url(url) => json.plain("url").member("url").text(url),
    };
    json.close('}');
}
