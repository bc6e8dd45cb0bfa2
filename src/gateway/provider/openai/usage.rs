//! Usage in OpenAI's format, turned into disjoint token classes.
//!
//! `prompt_tokens` includes the cached, spoken and pictured ones,
//! `completion_tokens` the reasoned and spoken ones (OpenAI's API reference,
//! "the chat completion object"). DeepSeek names its cached ones
//! `prompt_cache_hit_tokens`. Some servers (xAI, Gemini's compatible route)
//! count reasoning beside the completion; their `total_tokens` shows it.

use ledger::{TokenClass, Usage};
use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// Bodies up to this size are parsed whole, in bytes.
pub const SMALL_BODY_BYTES: usize = 64 * 1024;
/// Of larger ones, this much of the head and of the tail is looked at.
pub const WINDOW_BYTES: usize = 16 * 1024;
/// No call has more tokens of a kind; beyond it a usage is not believed.
pub(super) const ABSURD_TOKENS: u64 = 100_000_000;

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
    #[serde(default)]
    prompt_cache_hit_tokens: Option<u64>,
    // The same by the names of the responses, image and audio formats.
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    input_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    input_token_details: Option<PromptDetails>,
    #[serde(default)]
    output_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize, Default)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    image_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

impl Wire {
    /// The classes, or nothing when the numbers contradict each other: then
    /// the gateway counts by itself.
    fn usage(&self) -> Option<Usage> {
        let none = PromptDetails::default();
        let prompt = self
            .prompt_tokens_details
            .as_ref()
            .or(self.input_tokens_details.as_ref())
            .or(self.input_token_details.as_ref())
            .unwrap_or(&none);
        let none = CompletionDetails::default();
        let completion =
            self.completion_tokens_details.as_ref().or(self.output_tokens_details.as_ref()).unwrap_or(&none);
        let input = self.prompt_tokens.or(self.input_tokens)?;
        let output = self.completion_tokens.or(self.output_tokens).unwrap_or(0);
        let cached = prompt.cached_tokens.or(self.prompt_cache_hit_tokens).unwrap_or(0);
        let reasoning = completion.reasoning_tokens.unwrap_or(0);
        let audio_out = completion.audio_tokens.unwrap_or(0);
        let beside = reasoning > 0
            && self.total_tokens.is_some_and(|total| Some(total) == sum([input, output, reasoning]));
        let output = if beside { output.checked_add(reasoning)? } else { output };
        let believable = input <= ABSURD_TOKENS
            && output <= ABSURD_TOKENS
            && cached <= input
            && reasoning.checked_add(audio_out)? <= output
            && (input > 0 || output > 0);
        if !believable {
            return None;
        }
        // What is cached may also be sound or image: each token goes to the
        // first class that claims it, so that the classes add up to the total.
        let mut rest = input - cached;
        let mut take = |claimed: Option<u64>| {
            let taken = claimed.unwrap_or(0).min(rest);
            rest -= taken;
            taken
        };
        let (audio_in, image_in) = (take(prompt.audio_tokens), take(prompt.image_tokens));
        let mut usage = Usage::default();
        usage.set(TokenClass::Input, rest);
        usage.set(TokenClass::CacheRead, cached);
        usage.set(TokenClass::AudioIn, audio_in);
        usage.set(TokenClass::ImageIn, image_in);
        usage.set(TokenClass::Output, output - reasoning - audio_out);
        usage.set(TokenClass::Reasoning, reasoning);
        usage.set(TokenClass::AudioOut, audio_out);
        Some(usage)
    }
}

fn sum<const N: usize>(parts: [u64; N]) -> Option<u64> {
    parts.into_iter().try_fold(0u64, u64::checked_add)
}

/// The usage of a whole body or event: the top-level `usage`, else that of a
/// choice (Moonshot's streams), else `x_groq.usage`. Nothing when there is
/// none, or none that can be believed.
pub fn usage_from_body(json: &[u8]) -> Option<Usage> {
    if json.len() > SMALL_BODY_BYTES {
        let head = json.get(..WINDOW_BYTES)?;
        let tail = json.get(json.len() - WINDOW_BYTES..)?;
        return from_tail(tail).or_else(|| from_head(head));
    }
    let mut found = Found::default();
    top_level(json, &mut found).ok()?;
    found.best()
}

#[derive(Default)]
struct Found {
    top: Option<Usage>,
    choice: Option<Usage>,
    vendor: Option<Usage>,
}

impl Found {
    fn best(&self) -> Option<Usage> {
        self.top.or(self.choice).or(self.vendor)
    }
}

/// Reads a JSON object member by member; what was found stays in `found` also
/// when the text ends in the middle.
fn top_level(json: &[u8], found: &mut Found) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(json);
    json.deserialize_map(Top { found })?;
    json.end()
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Usage,
    Choices,
    XGroq,
    #[serde(other)]
    Other,
}

struct Top<'f> {
    found: &'f mut Found,
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Usage => self.found.top = map.next_value::<Lenient>()?.0,
                Key::XGroq => {
                    let vendor = map.next_value::<Option<Holder>>()?;
                    self.found.vendor = vendor.and_then(|vendor| vendor.usage());
                }
                Key::Choices => {
                    let choices = map.next_value::<Option<Vec<Holder>>>()?.unwrap_or_default();
                    self.found.choice = choices.iter().rev().find_map(Holder::usage);
                }
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// An object that may have a usage in it.
#[derive(Deserialize)]
struct Holder {
    #[serde(default)]
    usage: Lenient,
}

impl Holder {
    fn usage(&self) -> Option<Usage> {
        self.usage.0
    }
}

/// A usage, or nothing where the value is no usage at all; only broken JSON is
/// an error.
#[derive(Default)]
pub(super) struct Lenient(pub Option<Usage>);

impl Lenient {
    /// The usage that an object tells.
    pub fn of(text: &str) -> Option<Usage> {
        // A derived struct would also read a list by position.
        let wire = if text.starts_with('{') { serde_json::from_str::<Wire>(text).ok() } else { None };
        wire.and_then(|wire| wire.usage())
    }
}

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let raw = <&serde_json::value::RawValue>::deserialize(json)?;
        Ok(Self(Self::of(raw.get())))
    }
}

/// The usage in the last bytes of a body. Believed only if the text from it to
/// the body's end closes exactly one object: then it is a member of the top
/// level, and not of something that the server echoes.
fn from_tail(tail: &[u8]) -> Option<Usage> {
    from_member(tail, b"\"usage\"", |object| {
        let mut found = Found::default();
        top_level(object, &mut found).ok()?;
        found.top
    })
}

/// What stands from a member of the top level on, in the last bytes of a body.
pub(super) fn member_of_tail<T: serde::de::DeserializeOwned>(tail: &[u8], name: &[u8]) -> Option<T> {
    from_member(tail, name, |object| serde_json::from_slice(object).ok())
}

fn from_member<T>(tail: &[u8], name: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    memmem::rfind_iter(tail, name).find_map(|at| {
        if at.checked_sub(1).and_then(|before| tail.get(before)) == Some(&b'\\') {
            return None;
        }
        let mut object = vec![b'{'];
        object.extend_from_slice(tail.get(at..)?);
        read(&object)
    })
}

/// The usage in the first bytes of a body, before what is too long to see.
fn from_head(head: &[u8]) -> Option<Usage> {
    let mut found = Found::default();
    // The text ends in the middle of a member, which is an error to the parser
    // and none here.
    let _cut_short = top_level(head, &mut found);
    found.top
}

/// Watches a body go by and keeps only what is needed to find its usage: all
/// of a small one, the head and the tail of a large one.
#[derive(Debug, Default)]
pub struct BodyTap {
    kept: Vec<u8>,
    /// The body outgrew the small size: `kept` is a head and a tail window.
    large: bool,
}

impl BodyTap {
    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > SMALL_BODY_BYTES {
            self.large = true;
            self.kept.drain(WINDOW_BYTES..self.kept.len() - WINDOW_BYTES);
        }
    }

    /// The usage, once the body has ended.
    pub fn usage(&self) -> Option<Usage> {
        if !self.large {
            return usage_from_body(&self.kept);
        }
        let tail = self.kept.len().checked_sub(WINDOW_BYTES)?;
        from_tail(self.kept.get(tail..)?).or_else(|| from_head(self.kept.get(..WINDOW_BYTES)?))
    }

    /// What was kept, for reading an error from it.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }
}
