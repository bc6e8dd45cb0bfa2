//! Reads a chat request.

use serde_json::value::RawValue;

use super::super::Format;
use super::super::conversation::{
    Conversation, Effort, Image, Marks, Part, Role, Sampling, Shape, Thinking, Tool, ToolCall, ToolChoice,
    ToolResult, Verbosity,
};
use super::super::gemini::thinking_config;
use super::super::object::{ConvertFault, LeftOut, Object, Path, kind_of, list};
use super::super::text::Text;
use super::details::thoughts;
use super::function;

/// The conversation of a body. Model, stream and its options are the caller's to know.
pub fn read<'a>(body: &'a str, left: &mut LeftOut) -> Result<Conversation<'a>, ConvertFault> {
    let path = Path::TOP;
    let mut top = Object::parse(body, &path)?;
    let mut conversation = Conversation::new(Format::OpenAi);
    for name in ["model", "stream", "stream_options"] {
        top.take(name);
    }
    for (at, raw) in top.list("messages")?.unwrap_or_default().into_iter().enumerate() {
        message(&mut conversation, at, raw, &path.member("messages").index(at), left)?;
    }
    for (at, raw) in top.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        conversation.tools.push(tool(raw, &path.member("tools").index(at))?);
    }
    conversation.tool_choice = match top.take("tool_choice") {
        Some(raw) => Some(tool_choice(raw, &path.member("tool_choice"))?),
        None => None,
    };
    conversation.parallel_tools = top.flag("parallel_tool_calls")?;
    if let Some(raw) = top.take("response_format") {
        conversation.shape = shape(raw, &path.member("response_format"))?;
    }
    conversation.thinking = thinking(&mut top, &path)?;
    if let Some(text) = top.text("verbosity")? {
        conversation.verbosity = Some(verbosity(&text, &path.member("verbosity"))?);
    }
    let newer = top.whole("max_completion_tokens")?;
    conversation.output_cap = newer.max(top.whole("max_tokens")?);
    conversation.sampling = sampling(&mut top, &path)?;
    let user = top.text("user")?;
    conversation.user = top.text("safety_identifier")?.or(user);
    // The usage is told in any case.
    for name in ["prompt_cache_key", "prompt_cache_retention", "metadata", "usage"] {
        top.leave(name, left);
    }
    top.only("store", &["false"], "false, as the provider of this model stores nothing")?;
    top.only("logprobs", &["false"], "false, as the provider of this model tells no probabilities")?;
    top.only("top_logprobs", &["0"], "0, as the provider of this model tells no probabilities")?;
    top.only("service_tier", &["\"auto\"", "\"default\""], "`auto` or `default`")?;
    top.only("modalities", &[r#"["text"]"#], "text alone")?;
    top.done()?;
    Ok(conversation)
}

fn sampling<'a>(top: &mut Object<'a, '_>, path: &Path<'_>) -> Result<Sampling<'a>, ConvertFault> {
    let stop = match top.take("stop") {
        None => Vec::new(),
        Some(raw) => match Text::of(raw) {
            Some(text) => vec![text],
            None => texts(raw, &path.member("stop"))?,
        },
    };
    Ok(Sampling {
        temperature: top.number("temperature")?,
        top_p: top.number("top_p")?,
        // No field of OpenAI's, but of many that speak its format.
        top_k: top.number("top_k")?,
        frequency_penalty: top.number("frequency_penalty")?,
        presence_penalty: top.number("presence_penalty")?,
        seed: top.number("seed")?,
        stop,
        choices: top.whole("n")?.filter(|choices| *choices != 1),
    })
}

fn texts<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Vec<Text<'a>>, ConvertFault> {
    let text = |(at, raw): (usize, &'a RawValue)| {
        Text::of(raw).ok_or_else(|| path.index(at).fault("a string", kind_of(raw.get())))
    };
    list(raw, path)?.into_iter().enumerate().map(text).collect()
}

/// `reasoning_effort`, or `thinking`, which is DeepSeek's, and with a budget that of Anthropic's models elsewhere; or the
/// words that servers of many providers and Google's own server of this format have for it.
fn thinking(top: &mut Object<'_, '_>, path: &Path<'_>) -> Result<Option<Thinking>, ConvertFault> {
    let asked = match top.text("reasoning_effort")? {
        None => None,
        Some(text) => Some(effort(&text, &path.member("reasoning_effort"))?),
    };
    // Whether thoughts are shown costs nothing and is no wish about them.
    top.only("include_reasoning", &["true", "false"], "true or false")?;
    let of_router = match top.take("reasoning") {
        None => None,
        Some(raw) => reasoning(raw, &path.member("reasoning"))?,
    };
    let of_google = match top.take("extra_body") {
        None => None,
        Some(raw) => google_thinking(raw, &path.member("extra_body"))?,
    };
    let effort = asked.or(of_router).or(of_google);
    let Some(raw) = top.take("thinking") else { return Ok(effort) };
    let at = path.member("thinking");
    let mut object = Object::read(raw, &at)?;
    let kind = object.need_text("type")?;
    let budget = object.whole("budget_tokens")?.map(Thinking::Budget);
    object.done()?;
    if kind.is("disabled") {
        return Ok(Some(Thinking::Off));
    }
    Ok(budget.or(effort).or(Some(Thinking::Free)))
}

/// `reasoning`, as servers of many providers have it.
fn reasoning(raw: &RawValue, path: &Path<'_>) -> Result<Option<Thinking>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    object.only("exclude", &["true", "false"], "true or false")?;
    let enabled = object.flag("enabled")?;
    let budget = object.whole("max_tokens")?.map(Thinking::Budget);
    let asked = match object.text("effort")? {
        None => None,
        Some(text) => Some(effort(&text, &path.member("effort"))?),
    };
    object.done()?;
    Ok(match enabled {
        Some(false) => Some(Thinking::Off),
        Some(true) => budget.or(asked).or(Some(Thinking::Free)),
        None => budget.or(asked),
    })
}

/// What Google's server of this format is told in Gemini's own words.
fn google_thinking(raw: &RawValue, path: &Path<'_>) -> Result<Option<Thinking>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let at = path.member("google");
    let thinking = match object.take("google") {
        None => None,
        Some(raw) => {
            let mut google = Object::read(raw, &at)?;
            let config = google.take("thinking_config");
            let config = google.take("thinkingConfig").or(config);
            google.done()?;
            config.map(|raw| thinking_config(raw, &at.member("thinking_config"))).transpose()?.flatten()
        }
    };
    object.done()?;
    Ok(thinking)
}

/// How much is to be said.
pub fn verbosity(text: &Text<'_>, path: &Path<'_>) -> Result<Verbosity, ConvertFault> {
    Verbosity::read(text).ok_or_else(|| path.fault("`low`, `medium` or `high`", "another word"))
}

/// How much thinking a word asks for.
pub fn effort(text: &Text<'_>, path: &Path<'_>) -> Result<Thinking, ConvertFault> {
    if text.is("none") {
        return Ok(Thinking::Off);
    }
    let what = "`none`, `minimal`, `low`, `medium`, `high` or `xhigh`";
    Effort::read(text).map(Thinking::Effort).ok_or_else(|| path.fault(what, "another effort"))
}

fn message<'a>(
    conversation: &mut Conversation<'a>,
    at: usize,
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let role = object.need_text("role")?;
    // Who of several speaks has no place elsewhere; of a tool's result it says again what the call is called.
    match object.text("name")? {
        Some(name) if !role.is("tool") && !name.is_empty() => left.add("name"),
        _ => {}
    }
    if role.is("system") || role.is("developer") {
        let (parts, marks) = content(&mut object, path, left)?;
        if parts.iter().any(|part| !matches!(part, Part::Text(_))) {
            return Err(path.member("content").fault("text", "something else"));
        }
        conversation.instruct(at, parts, marks);
    } else if role.is("user") {
        let said = content(&mut object, path, left)?;
        conversation.say_marked(Role::User, at, said);
    } else if role.is("assistant") {
        let said = assistant(&mut object, path, left)?;
        conversation.say_marked(Role::Assistant, at, said);
    } else if role.is("tool") {
        let id = object.need_text("tool_call_id")?;
        let (content, marks) = content(&mut object, path, left)?;
        no_sound(&content, path)?;
        let result = Part::ToolResult(ToolResult { id, content, is_error: false });
        let marks = marks.first().map(|_| 0).into_iter().collect();
        conversation.say_marked(Role::User, at, (vec![result], marks));
    } else {
        return Err(path.member("role").fault("system, developer, user, assistant or tool", "another role"));
    }
    object.done()
}

/// The content of a message: a text, or a list of texts and images; and which of them are marked for a cache.
fn content<'a>(
    object: &mut Object<'a, '_>,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(Vec<Part<'a>>, Marks), ConvertFault> {
    let (mut parts, mut marks) = (Vec::new(), Marks::new());
    let all = cache_mark(object, path)?;
    if let Some(raw) = object.take("content") {
        let path = path.member("content");
        match Text::of(raw) {
            Some(text) => parts.extend(Some(text).filter(|text| !text.is_empty()).map(Part::Text)),
            None => {
                for (at, raw) in list(raw, &path)?.into_iter().enumerate() {
                    let (part, marked) = content_part(raw, &path.index(at), left)?;
                    marks.extend(marked.then_some(at));
                    parts.push(part);
                }
            }
        }
    }
    if let Some(last) = parts.len().checked_sub(1).filter(|last| all && !marks.contains(last)) {
        marks.push(last);
    }
    Ok((parts, marks))
}

/// Anthropic's mark for its cache, which clients of this format write for its models where Anthropic's own do.
fn cache_mark(object: &mut Object<'_, '_>, path: &Path<'_>) -> Result<bool, ConvertFault> {
    let Some(raw) = object.take("cache_control") else { return Ok(false) };
    let path = path.member("cache_control");
    let mut mark = Object::read(raw, &path)?;
    mark.only("type", &["\"ephemeral\""], "`ephemeral`")?;
    mark.only("ttl", &["\"5m\""], "`5m`, as what is cached for longer has a price of its own")?;
    mark.done()?;
    Ok(true)
}

fn content_part<'a>(
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(Part<'a>, bool), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.need_text("type")?;
    let marked = cache_mark(&mut object, path)?;
    let part = if kind.is("text") {
        Part::Text(object.need_text("text")?)
    } else if kind.is("refusal") {
        Part::Text(object.need_text("refusal")?)
    } else if kind.is("image_url") {
        let at = path.member("image_url");
        let mut image = Object::read(object.need("image_url", "an object with a `url`")?, &at)?;
        let url = image.need_text("url")?;
        image.leave("detail", left);
        image.done()?;
        Part::Image(image_of(url, &at.member("url"))?)
    } else if kind.is("input_audio") {
        sound(object.need("input_audio", "an object")?, &path.member("input_audio"))?
    } else {
        let what = "`text`, `image_url` or `input_audio`, as nothing else can be converted for this model's provider";
        return Err(path.member("type").fault(what, "another type"));
    };
    object.done()?;
    Ok((part, marked))
}

/// Formats of recordings, by the names that clients have for them.
const SOUNDS: [(&str, &str); 6] = [
    ("wav", "audio/wav"),
    ("mp3", "audio/mp3"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("aac", "audio/aac"),
    ("aiff", "audio/aiff"),
];

/// A recording of the user's.
pub fn sound<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Part<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let format = object.need_text("format")?;
    let known = SOUNDS.into_iter().find(|(name, _)| format.is(name));
    let (_, media_type) = known
        .ok_or_else(|| path.member("format").fault("wav, mp3, flac, ogg, aac or aiff", "another format"))?;
    let data = object.need_text("data")?;
    object.done()?;
    Ok(Part::Sound { media_type: Text::word(media_type), data })
}

/// What stands in the content of anybody but the user.
fn no_sound(parts: &[Part<'_>], path: &Path<'_>) -> Result<(), ConvertFault> {
    match parts.iter().any(|part| matches!(part, Part::Sound { .. })) {
        true => Err(path.member("content").fault("texts and images", "a recording")),
        false => Ok(()),
    }
}

/// A picture by address, or in the address itself (RFC 2397).
pub fn image_of<'a>(url: Text<'a>, path: &Path<'_>) -> Result<Image<'a>, ConvertFault> {
    // Some encoders write a slash as `\/`.
    let url = if url.escaped().contains('\\') { Text::plain(&url.unescaped()) } else { url };
    let Some(rest) = url.strip_prefix("data:") else { return Ok(Image::Url(url)) };
    match rest.split_once(";base64,") {
        Some((media_type, data)) => Ok(Image::Inline { media_type, data }),
        None => Err(path.fault("an address, or a data URL in base64", "another data URL")),
    }
}

fn assistant<'a>(
    object: &mut Object<'a, '_>,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(Vec<Part<'a>>, Marks), ConvertFault> {
    let mut parts = Vec::new();
    let told = object.text("reasoning_content")?;
    let aloud = object.text("reasoning")?.or(told);
    let details = object.list("reasoning_details")?.unwrap_or_default();
    parts.extend(thoughts(details, aloud, &path.member("reasoning_details"), left)?);
    // What an answer had beside its words – pictures, where words came from, what a client's library noted – is sent back
    // by clients that keep answers as they came.
    for name in ["images", "annotations", "provider_specific_fields", "thinking_blocks"] {
        object.leave(name, left);
    }
    let (said, marks) = content(object, path, left)?;
    no_sound(&said, path)?;
    let marks = marks.into_iter().map(|mark| parts.len() + mark).collect();
    parts.extend(said);
    if let Some(refusal) = object.text("refusal")?.filter(|text| !text.is_empty()) {
        parts.push(Part::Text(refusal));
    }
    for (at, raw) in object.list("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        parts.push(Part::ToolCall(tool_call(raw, &path.member("tool_calls").index(at), left)?));
    }
    Ok((parts, marks))
}

fn tool_call<'a>(
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<ToolCall<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    object.only("type", &["\"function\""], "`function`")?;
    object.take("index");
    object.leave("provider_specific_fields", left);
    let id = object.need_text("id")?;
    let signature = google_signature(&mut object, path)?;
    let at = path.member("function");
    let mut function = Object::read(object.need("function", "an object")?, &at)?;
    let name = function.need_text("name")?;
    let arguments = function::arguments(&mut function)?;
    function.done()?;
    object.done()?;
    Ok(ToolCall { id, name, arguments, signature })
}

/// Gemini's proof of the thought behind a call, where Google's own clients of this format have it.
pub fn google_signature<'a>(
    call: &mut Object<'a, '_>,
    path: &Path<'_>,
) -> Result<Option<Text<'a>>, ConvertFault> {
    let Some(raw) = call.take("extra_content") else { return Ok(None) };
    let (extra, google) = (path.member("extra_content"), path.member("extra_content.google"));
    let mut object = Object::read(raw, &extra)?;
    let mut inner = Object::read(object.need("google", "an object")?, &google)?;
    let signature = inner.text("thought_signature")?;
    inner.done()?;
    object.done()?;
    Ok(signature)
}

fn tool<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Tool<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.need_text("type")?;
    if !kind.is("function") {
        return Err(path.member("type").fault("`function`", "another kind of tool"));
    }
    let at = path.member("function");
    let mut function = Object::read(object.need("function", "an object")?, &at)?;
    let mut tool = function::function(&mut function)?;
    let inner = cache_mark(&mut function, &at)?;
    tool.cached = cache_mark(&mut object, path)? || inner;
    function.done()?;
    object.done()?;
    Ok(tool)
}

fn tool_choice<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<ToolChoice<'a>, ConvertFault> {
    function::tool_choice(raw, path, |object| {
        let at = path.member("function");
        let mut function = Object::read(object.need("function", "an object with a `name`")?, &at)?;
        let name = function.need_text("name")?;
        function.done()?;
        Ok(name)
    })
}

fn shape<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Shape<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.need_text("type")?;
    let shape = if kind.is("text") {
        Shape::Text
    } else if kind.is("json_object") {
        Shape::Json
    } else if kind.is("json_schema") {
        let at = path.member("json_schema");
        let mut inner = Object::read(object.need("json_schema", "an object")?, &at)?;
        let shape = function::schema(&mut inner)?;
        inner.done()?;
        shape
    } else {
        return Err(path.member("type").fault("`text`, `json_object` or `json_schema`", "another type"));
    };
    object.done()?;
    Ok(shape)
}
