//! What the upstream makes at OpenAI's other endpoints – vectors, pictures, sound, transcripts, verdicts, rankings – in
//! their real shapes: a deterministic function of the request, with what it uses.

use bytes::Bytes;
use ledger::{Price, TokenClass, Unit, Usage};
use serde_json::{Value, json};

use super::chat::{Rejection, model_of, wish};
use super::form;
use super::wire::event;
use crate::demo::prices::DemoModel;
use crate::gateway::facts::Endpoint;
use crate::gateway::tokens::{self, Family};
use crate::hex;

/// Documents that one search ranks, and tokens beyond which a document counts as several.
const DOCUMENTS_PER_SEARCH: usize = 100;
const TOKENS_PER_DOCUMENT: u64 = 500;
/// A recording that does not tell its length is taken for one of 128 kbit/s.
const RECORDING_BYTES_PER_SECOND: u64 = 16_000;
const MS_PER_AUDIO_TOKEN: u64 = 100;
/// What a picture that is sent counts as.
const PICTURE_TOKENS: u64 = 300;
/// Numbers in a vector, unless it is asked for more or fewer.
const DIMENSIONS: usize = 8;
/// Pieces of a stream.
const PIECES: usize = 10;

/// Something made, ready to be sent.
pub(super) struct Made {
    pub model: &'static DemoModel,
    pub usage: Usage,
    /// What it costs by its size and quality.
    pub price: Price,
    pub content_type: &'static str,
    /// One whole body, or the events of a stream.
    pub pieces: Vec<Bytes>,
    pub delay_ms: u64,
    /// It is made and billed, and a gateway in between gives up before the answer is there.
    pub is_lost: bool,
}

/// A request as the endpoints share it.
struct Ask<'a> {
    endpoint: Endpoint,
    model: &'static DemoModel,
    body: &'a Bytes,
    /// A JSON body, or the fields of a form.
    fields: Value,
    /// Sizes of the files of a form, with how long a recording is.
    files: Vec<form::File>,
    /// Where the upstream is reached.
    host: &'a str,
}

/// Below it, a picture whose address was told: its name is the prompt in hexadecimal digits.
pub(super) const PICTURES: &str = "/pictures/";

pub(super) fn make(
    endpoint: Endpoint,
    media_type: &str,
    body: &Bytes,
    host: &str,
) -> Result<Made, Rejection> {
    let (fields, files) = match endpoint.takes_form() {
        true => form::read(media_type, body).ok_or_else(|| Rejection::invalid("body", "broken form"))?,
        false => {
            let fields = serde_json::from_slice(body).map_err(|error| Rejection::unreadable(&error))?;
            (fields, Vec::new())
        }
    };
    // The one format that has a default for it.
    let default = if endpoint == Endpoint::Moderations { "omni-moderation-latest" } else { "" };
    let model = model_of(endpoint, fields["model"].as_str().unwrap_or(default))?;
    let ask = Ask { endpoint, model, body, fields, files, host };
    if let Some(status) = wish(&ask.asked(), "#status").and_then(|status| u16::try_from(status).ok()) {
        return Err(Rejection { status, ..Rejection::invalid("prompt", "it was asked to fail") });
    }
    let mut made = match endpoint {
        Endpoint::Embeddings => ask.vectors(),
        Endpoint::ImageGenerations | Endpoint::ImageEdits => ask.pictures(),
        Endpoint::Speech => ask.speech(),
        Endpoint::Transcriptions => ask.transcript(),
        Endpoint::Moderations => ask.verdicts(),
        _ => ask.ranking(),
    };
    made.delay_ms = wish(&ask.asked(), "#delay_ms").unwrap_or(0);
    made.is_lost = ask.asked().contains("#lost");
    Ok(made)
}

impl Ask<'_> {
    fn text(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }

    /// The text that the caller sent, wherever the format has it.
    fn asked(&self) -> String {
        let texts = ["prompt", "input", "query"].map(|name| self.text(name));
        texts.concat()
    }

    /// As a number or, in a form, as its text.
    fn number(&self, name: &str) -> Option<u64> {
        self.fields[name].as_u64().or_else(|| self.text(name).parse().ok())
    }

    fn is_set(&self, name: &str) -> bool {
        self.fields[name] == true || self.text(name) == "true"
    }

    fn input(&self) -> Usage {
        let family = Family::of(self.model.name);
        tokens::count_input(self.endpoint, family, self.body, 0, u64::from(self.model.context_tokens))
    }

    fn made(&self, usage: Usage, body: &Value) -> Made {
        let pieces = vec![Bytes::from(body.to_string())];
        self.made_of("application/json", usage, pieces)
    }

    fn made_of(&self, content_type: &'static str, usage: Usage, pieces: Vec<Bytes>) -> Made {
        Made {
            model: self.model,
            usage,
            price: self.model.price_of("", ""),
            content_type,
            pieces,
            delay_ms: 0,
            is_lost: false,
        }
    }

    fn vectors(&self) -> Made {
        let usage = self.input();
        let texts: Vec<Value> = match &self.fields["input"] {
            Value::Array(inputs) if inputs.iter().all(|input| !input.is_u64()) => inputs.clone(),
            one => vec![one.clone()],
        };
        let length = self.number("dimensions").map_or(DIMENSIONS, |length| length as usize);
        let row = |(index, input): (usize, &Value)| {
            let numbers = vector(&input.to_string(), length);
            let embedding = match self.text("encoding_format") {
                "base64" => {
                    base64(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>()).into()
                }
                _ => json!(numbers),
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        };
        let tokens = usage.get(TokenClass::Input);
        let data: Vec<Value> = texts.iter().enumerate().map(row).collect();
        let used = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        self.made(usage, &json!({"object": "list", "data": data, "model": self.model.name, "usage": used}))
    }

    fn pictures(&self) -> Made {
        let chosen = |name, default: &'static str| match self.text(name) {
            "" | "auto" => default.to_owned(),
            said => said.to_owned(),
        };
        let by_tokens = self.model.units.is_empty();
        let (size, quality) =
            (chosen("size", "1024x1024"), chosen("quality", if by_tokens { "high" } else { "standard" }));
        let count = self.number("n").unwrap_or(1);
        let mut usage = Usage::default();
        if !by_tokens {
            usage.set_units(Unit::Image, count);
        } else {
            let text = tokens::count_text(Family::of(self.model.name), self.text("prompt"));
            usage.set(TokenClass::Input, text);
            usage.set(TokenClass::ImageIn, self.files.len() as u64 * PICTURE_TOKENS);
            usage.set(TokenClass::Output, count * picture_tokens(&quality));
        }
        let prompt = self.text("prompt");
        let bytes = wish(prompt, "#bytes").unwrap_or(0).min(8 << 20) as usize;
        let picture = base64(format!("echo: {prompt}{}", " ".repeat(bytes)).as_bytes());
        let made = match by_tokens {
            true if self.is_set("stream") => self.picture_stream(usage, &picture, &size, &quality),
            true => {
                let data: Vec<Value> = (0..count).map(|_| json!({"b64_json": picture})).collect();
                let mut body = json!({"created": 1_735_689_600, "background": "opaque", "data": data});
                self.tell(&mut body, &usage, &size, &quality);
                self.made(usage, &body)
            }
            false => {
                let one = match self.text("response_format") {
                    "b64_json" => json!({"b64_json": picture, "revised_prompt": format!("echo: {prompt}")}),
                    _ => {
                        let url = format!("http://{}{PICTURES}{}", self.host, hex::encode(prompt.as_bytes()));
                        json!({"url": url, "revised_prompt": format!("echo: {prompt}")})
                    }
                };
                let data: Vec<Value> = (0..count).map(|_| one.clone()).collect();
                self.made(usage, &json!({"created": 1_735_689_600, "data": data}))
            }
        };
        Made { price: self.model.price_of(&size, &quality), ..made }
    }

    /// What newer models say beside their pictures.
    fn tell(&self, body: &mut Value, usage: &Usage, size: &str, quality: &str) {
        body["output_format"] = "png".into();
        body["quality"] = quality.into();
        body["size"] = size.into();
        let get = |class| usage.get(class);
        let (text, seen, drawn) = (get(TokenClass::Input), get(TokenClass::ImageIn), get(TokenClass::Output));
        body["usage"] = json!({
            "input_tokens": text + seen,
            "input_tokens_details": {"text_tokens": text, "image_tokens": seen},
            "output_tokens": drawn,
            "total_tokens": text + seen + drawn,
        });
    }

    fn picture_stream(&self, usage: Usage, picture: &str, size: &str, quality: &str) -> Made {
        let kind = match self.endpoint {
            Endpoint::ImageEdits => "image_edit.completed",
            _ => "image_generation.completed",
        };
        let mut data =
            json!({"type": kind, "b64_json": picture, "background": "opaque", "created_at": 1_735_689_600});
        self.tell(&mut data, &usage, size, quality);
        let events = vec![Bytes::from(format!("event: {kind}\n{}", event(&data)))];
        self.made_of("text/event-stream; charset=utf-8", usage, events)
    }

    fn speech(&self) -> Made {
        let text = self.text("input");
        let mut usage = Usage::default();
        if self.model.units.is_empty() {
            usage = self.input();
        } else {
            usage.set_units(Unit::Character, text.chars().count() as u64);
        }
        let bytes = wish(text, "#bytes").unwrap_or(0).min(8 << 20) as usize;
        // No sound that anybody could hear, but one that can be told from another.
        let sound = format!("ID3\u{4}echo: {text}{}", "\0".repeat(bytes));
        if self.text("stream_format") != "sse" {
            return self.made_of("audio/mpeg", usage, vec![sound.into()]);
        }
        usage.set(TokenClass::Output, 10 * tokens::count_text(Family::of(self.model.name), text));
        let (input, output) = (usage.get(TokenClass::Input), usage.get(TokenClass::Output));
        let used = json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output});
        let delta = |piece: &[u8]| event(&json!({"type": "speech.audio.delta", "audio": base64(piece)}));
        let length = sound.len().div_ceil(PIECES).max(1);
        let mut events: Vec<Bytes> =
            sound.as_bytes().chunks(length).map(|piece| delta(piece).into()).collect();
        events.push(event(&json!({"type": "speech.audio.done", "usage": used})).into());
        self.made_of("text/event-stream; charset=utf-8", usage, events)
    }

    fn transcript(&self) -> Made {
        let file = self.files.first().copied().unwrap_or_default();
        let ms = file.ms.unwrap_or((file.bytes * 1_000).div_ceil(RECORDING_BYTES_PER_SECOND));
        let text = format!("echo: {} bytes of sound, {}", file.bytes, self.text("prompt"));
        let family = Family::of(self.model.name);
        let by_tokens = self.model.units.is_empty();
        let mut usage = Usage::default();
        if by_tokens {
            usage.set(TokenClass::Input, tokens::count_text(family, self.text("prompt")));
            usage.set(TokenClass::AudioIn, ms.div_ceil(MS_PER_AUDIO_TOKEN));
            usage.set(TokenClass::Output, tokens::count_text(family, &text));
        } else {
            usage.set_units(Unit::Second, ms);
        }
        let seconds: Value =
            serde_json::from_str(&format!("{}.{:03}", ms / 1_000, ms % 1_000)).unwrap_or_default();
        let used = if by_tokens {
            transcript_usage(&usage)
        } else {
            json!({"type": "duration", "seconds": seconds})
        };
        if by_tokens && self.is_set("stream") {
            let length = text.len().div_ceil(PIECES).max(1);
            let pieces =
                text.as_bytes().chunks(length).map(|piece| String::from_utf8_lossy(piece).into_owned());
            let delta = |piece: String| event(&json!({"type": "transcript.text.delta", "delta": piece}));
            let mut events: Vec<Bytes> = pieces.map(|piece| delta(piece).into()).collect();
            events.push(event(&json!({"type": "transcript.text.done", "text": text, "usage": used})).into());
            return self.made_of("text/event-stream; charset=utf-8", usage, events);
        }
        match self.text("response_format") {
            "srt" => {
                let cue = format!("1\n00:00:00,000 --> {}\n{text}\n\n", moment(ms, ','));
                self.made_of("text/plain; charset=utf-8", usage, vec![cue.into()])
            }
            "vtt" => {
                let cue = format!("WEBVTT\n\n00:00:00.000 --> {}\n{text}\n\n", moment(ms, '.'));
                self.made_of("text/plain; charset=utf-8", usage, vec![cue.into()])
            }
            "text" => self.made_of("text/plain; charset=utf-8", usage, vec![format!("{text}\n").into()]),
            "verbose_json" => {
                let body = json!({
                    "task": "transcribe", "language": "english", "duration": seconds, "text": text,
                    "segments": [], "usage": used,
                });
                self.made(usage, &body)
            }
            _ => self.made(usage, &json!({"text": text, "usage": used})),
        }
    }

    fn verdicts(&self) -> Made {
        let texts = match &self.fields["input"] {
            Value::Array(inputs) => inputs.clone(),
            one => vec![one.clone()],
        };
        let verdict = |input: &Value| {
            let flagged = input.to_string().contains("#flag");
            json!({
                "flagged": flagged,
                "categories": {"violence": flagged, "hate": false},
                "category_scores": {"violence": if flagged { 0.9 } else { 0.1 }, "hate": 0.1},
                "category_applied_input_types": {"violence": ["text"], "hate": ["text"]},
            })
        };
        let results: Vec<Value> = texts.iter().map(verdict).collect();
        self.made(self.input(), &json!({"id": "modr-demo", "model": self.model.name, "results": results}))
    }

    /// Documents in the order of how many words of the query they have.
    fn ranking(&self) -> Made {
        let family = Family::of(self.model.name);
        let query = self.text("query").to_owned();
        let documents: Vec<String> =
            self.fields["documents"].as_array().into_iter().flatten().map(text_of).collect();
        let score =
            |document: &String| query.split_whitespace().filter(|word| document.contains(*word)).count();
        let mut order: Vec<usize> = (0..documents.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(documents.get(*at).map_or(0, score)));
        order.truncate(self.number("top_n").map_or(usize::MAX, |most| most as usize));
        let words = query.split_whitespace().count().max(1);
        let result = |at: usize| {
            let document = documents.get(at).cloned().unwrap_or_default();
            let score: Value =
                serde_json::from_str(&format!("{}e-2", score(&document) * 100 / words)).unwrap_or_default();
            let mut row = json!({"index": at, "relevance_score": score});
            if self.is_set("return_documents") {
                row["document"] = json!({"text": document});
            }
            row
        };
        let results: Vec<Value> = order.into_iter().map(result).collect();
        let count = |text: &str| tokens::count_text(family, text);
        let (asked, sizes) = (count(&query), documents.iter().map(|document| count(document)));
        let mut usage = Usage::default();
        let mut body =
            json!({"id": "rerank-demo", "model": self.model.name, "object": "list", "results": results});
        if self.model.units.is_empty() {
            let tokens = sizes.map(|size| asked + size).sum();
            usage.set(TokenClass::Input, tokens);
            body["usage"] = json!({"total_tokens": tokens});
        } else {
            let pieces: u64 = sizes.map(|size| (asked + size).div_ceil(TOKENS_PER_DOCUMENT).max(1)).sum();
            let searches = pieces.div_ceil(DOCUMENTS_PER_SEARCH as u64);
            usage.set_units(Unit::Search, searches);
            body["meta"] =
                json!({"api_version": {"version": "2"}, "billed_units": {"search_units": searches}});
        }
        self.made(usage, &body)
    }
}

fn transcript_usage(usage: &Usage) -> Value {
    let get = |class| usage.get(class);
    let (text, heard, written) = (get(TokenClass::Input), get(TokenClass::AudioIn), get(TokenClass::Output));
    json!({
        "type": "tokens",
        "input_tokens": text + heard,
        "input_token_details": {"text_tokens": text, "audio_tokens": heard},
        "output_tokens": written,
        "total_tokens": text + heard + written,
    })
}

/// A moment of a recording, as subtitles write it.
fn moment(ms: u64, point: char) -> String {
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{point}{:03}", ms % 1_000)
}

fn picture_tokens(quality: &str) -> u64 {
    match quality {
        "low" => 272,
        "medium" => 1_056,
        _ => 4_160,
    }
}

fn text_of(document: &Value) -> String {
    document.as_str().or(document["text"].as_str()).unwrap_or_default().to_owned()
}

/// Small whole numbers that belong to the text.
fn vector(text: &str, length: usize) -> Vec<f32> {
    let bytes = text.bytes().chain(std::iter::repeat(0));
    bytes
        .scan(7u8, |state, byte| {
            *state = state.wrapping_mul(31).wrapping_add(byte);
            Some(f32::from(*state))
        })
        .take(length)
        .collect()
}

/// RFC 4648, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |six: u32| LETTERS.get((six & 63) as usize).map_or('=', |letter| char::from(*letter));
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let all = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            text.push(if place <= three.len() { letter(all >> (18 - 6 * place)) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_what_everybody_reads() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
