//! What the upstream answers: a deterministic function of the request, so that
//! whoever gets the answer can check it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use ledger::{TokenClass, Usage};

use super::chat::{Behaviour, Chat};
use crate::gateway::facts::Endpoint;
use crate::gateway::tokens::{self, Family};

/// Chunks of text in a streamed answer, at most.
pub(super) const CHUNKS: usize = 20;
/// Of a long question, this much is echoed, in bytes.
const ECHO_BYTES_MAX: usize = 16 * 1024;
/// `#tokens=` beyond this is not followed.
const WISHED_TOKENS_MAX: u64 = 128_000;
/// What the reasoning model thinks about each answer, in tokens, if its cap
/// leaves room for it.
const REASONING_TOKENS: u64 = 16;
/// Prompts are cached from this length on and in these steps, in tokens
/// (OpenAI's guide to prompt caching).
const CACHE_MIN_TOKENS: usize = 1024;
const CACHE_STEP_TOKENS: usize = 128;
/// Prefixes remembered before all are forgotten.
const CACHE_PREFIXES_MAX: usize = 65_536;

/// Tokens that a request brings, text and pictures.
pub(super) fn input_of(chat: &Chat, body: &Bytes) -> u64 {
    let bound = u64::from(chat.model.context_tokens);
    let usage = tokens::count_input(chat.endpoint, Family::of(chat.model.name), body, chat.images, bound);
    usage.get(TokenClass::Input) + usage.get(TokenClass::ImageIn)
}

/// An answer that is ready to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub text: String,
    /// `stop`, `length` or `tool_calls`.
    pub finish: &'static str,
    /// What the whole answer uses.
    pub usage: Usage,
    family: Family,
    choices: u64,
    /// Tokens of the name of the tool that each choice calls.
    name: u64,
}

impl Answer {
    /// Thinks of an answer. `cached` is how much of the prompt was seen before.
    pub fn new(chat: &Chat, body: &Bytes, cached: &mut PrefixCache) -> Self {
        let family = Family::of(chat.model.name);
        let mut usage = tokens::count_input(
            chat.endpoint,
            family,
            body,
            chat.images,
            u64::from(chat.model.context_tokens),
        );
        if chat.behaviour != Behaviour::NoUsage {
            // In a usage, as OpenAI gives it, images are input like text.
            let input = usage.get(TokenClass::Input) + usage.get(TokenClass::ImageIn);
            // A stream that breaks off is counted by its caller, who cannot
            // know what was cached; so nothing is.
            let breaks = chat.behaviour == Behaviour::Cut;
            // Anthropic's caches only what it is told to.
            let keeps = !breaks && (chat.endpoint != Endpoint::Messages || chat.wants_cache);
            let read = if keeps { cached.read(chat.endpoint, family, body).min(input) } else { 0 };
            let long = input >= CACHE_MIN_TOKENS as u64;
            let writes = keeps && chat.endpoint == Endpoint::Messages && read == 0 && long;
            let written = if writes { input } else { 0 };
            usage.set(TokenClass::CacheWrite, written);
            usage.set(TokenClass::Input, input - read - written);
            usage.set(TokenClass::CacheRead, read);
            usage.set(TokenClass::ImageIn, 0);
        }
        let thinks = (chat.model.name == "gpt-5-mini" || chat.thinks) && chat.cap >= 2 * REASONING_TOKENS;
        let reasoning = if thinks { REASONING_TOKENS } else { 0 };
        let wished = chat.wish("#tokens").map(|wished| wished.clamp(1, WISHED_TOKENS_MAX));
        let whole = match &chat.tool {
            Some(_) => arguments(&chat.asked),
            None if chat.is_json => arguments(&chat.asked),
            None => echo(chat, family, wished),
        };
        let name = chat.tool.as_deref().map_or(0, |name| tokens::count_text(family, name));
        let room = (chat.cap - reasoning).saturating_sub(name);
        let (text, shortened) = shorten(family, whole, room.min(wished.unwrap_or(u64::MAX)));
        let by_wish = wished.is_some_and(|wished| wished <= room);
        let finish = match (shortened && !by_wish, &chat.tool) {
            (true, _) => "length",
            (false, Some(_)) => "tool_calls",
            (false, None) => "stop",
        };
        usage.set(TokenClass::Reasoning, reasoning * chat.choices);
        let mut answer = Self { text, finish, usage, family, choices: chat.choices, name };
        answer.usage.set(TokenClass::Output, answer.tokens_of(&answer.text));
        if chat.endpoint == Endpoint::Messages {
            // Anthropic bills thoughts as output and does not tell them apart.
            let thought = std::mem::take(&mut answer.usage.tokens[TokenClass::Reasoning as usize]);
            answer.usage.tokens[TokenClass::Output as usize] += thought;
        }
        answer
    }

    /// Output tokens of all choices when each has this text, and has named its tool before.
    fn tokens_of(&self, text: &str) -> u64 {
        (self.name + tokens::count_text(self.family, text)).saturating_mul(self.choices)
    }

    /// What was used when only this much of the text went out.
    pub fn usage_of(&self, delivered: &str) -> Usage {
        let mut usage = self.usage;
        usage.set(TokenClass::Output, self.tokens_of(delivered));
        usage
    }

    /// The text in pieces for a stream, none of them empty.
    pub fn pieces(&self) -> Vec<&str> {
        let letters = self.text.chars().count();
        let count = letters.clamp(1, CHUNKS);
        let mut rest = self.text.as_str();
        let mut pieces = Vec::with_capacity(count);
        for piece in 0..count {
            let length = letters * (piece + 1) / count - letters * piece / count;
            let end = rest.char_indices().nth(length).map_or(rest.len(), |(end, _)| end);
            let (head, tail) = rest.split_at(end);
            pieces.push(head);
            rest = tail;
        }
        pieces
    }
}

fn echo(chat: &Chat, family: Family, wished: Option<u64>) -> String {
    let heard = chat.asked.get(..chat.asked.floor_char_boundary(ECHO_BYTES_MAX)).unwrap_or_default();
    let mut text = format!("echo: {heard}");
    if chat.images > 0 {
        text.push_str(&format!(" [{} image(s)]", chat.images));
    }
    if chat.behaviour == Behaviour::Slow {
        text.push_str(" – one two three four five six seven eight nine ten");
    }
    if let Some(wished) = wished {
        // A blank and a common word are one token; one more, so that the text
        // is never short of a token at its seam.
        let missing = wished.saturating_sub(tokens::count_text(family, &text)) + 1;
        text.push_str(&" word".repeat(usize::try_from(missing).unwrap_or(0)));
    }
    text
}

/// The arguments of a tool call, and an answer that must be JSON.
fn arguments(asked: &str) -> String {
    serde_json::json!({ "echo": asked }).to_string()
}

/// At most `cap` tokens of a text, and whether that took anything away.
fn shorten(family: Family, text: String, cap: u64) -> (String, bool) {
    if tokens::count_text(family, &text) <= cap {
        return (text, false);
    }
    // A prefix of tokens need not be text, nor count the same as text; fewer
    // tokens will do at last.
    let mut keep = usize::try_from(cap).unwrap_or(usize::MAX);
    while keep > 0 {
        if let Some(head) = tokens::first_tokens(family, &text, keep)
            && tokens::count_text(family, &head) <= cap
        {
            return (head, true);
        }
        keep -= 1;
    }
    (String::new(), true)
}

/// Which beginnings of prompts were seen.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    seen: HashSet<u64>,
}

impl PrefixCache {
    /// Tokens of the prompt that were seen before; remembers it.
    fn read(&mut self, endpoint: Endpoint, family: Family, body: &Bytes) -> u64 {
        // A token is a byte at least.
        if body.len() < CACHE_MIN_TOKENS {
            return 0;
        }
        let ids = tokens::input_tokens(endpoint, family, body);
        if self.seen.len() > CACHE_PREFIXES_MAX {
            self.seen.clear();
        }
        let mut hasher = DefaultHasher::new();
        let (mut hashed, mut cached) = (0, 0);
        for end in (CACHE_MIN_TOKENS..=ids.len()).step_by(CACHE_STEP_TOKENS) {
            ids.get(hashed..end).hash(&mut hasher);
            hashed = end;
            if !self.seen.insert(hasher.finish()) {
                cached = end;
            }
        }
        cached as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_with(body: &str, cache: &mut PrefixCache) -> Answer {
        let chat = Chat::read(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        Answer::new(&chat, &Bytes::copy_from_slice(body.as_bytes()), cache)
    }

    fn answer(model: &str, asked: &str, rest: &str) -> Answer {
        let body =
            format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{asked}"}}]{rest}}}"#);
        answer_with(&body, &mut PrefixCache::default())
    }

    #[test]
    fn an_answer_echoes_and_says_what_it_used() {
        let said = answer("gpt-5-mini", "hello", "");
        assert_eq!((said.text.as_str(), said.finish), ("echo: hello", "stop"));
        assert_eq!(said.usage.get(TokenClass::Output), tokens::count_text(Family::O200k, "echo: hello"));
        assert_eq!(said.usage.get(TokenClass::Reasoning), 16);
    }

    #[test]
    fn a_cap_is_kept_to_the_token() {
        for cap in 1..40 {
            let asked = "给你 the quick 🦊 jumped over 12345 dogs";
            let said = answer("gpt-5-mini", asked, &format!(r#","max_tokens":{cap}"#));
            let used = said.usage.get(TokenClass::Output) + said.usage.get(TokenClass::Reasoning);
            assert!(used <= cap, "{used} of {cap}");
            assert_eq!(said.finish == "length", said.text != format!("echo: {asked}"));
        }
        let said = answer("demo-no-usage", "#tokens=500", "");
        assert_eq!((said.usage.get(TokenClass::Output), said.finish), (500, "stop"));
    }

    #[test]
    fn pieces_make_up_the_text() {
        for text in ["", "a", "给你 the quick 🦊 jumped over the lazy dog, twice"] {
            let said = answer("demo-slow", text, "");
            let pieces = said.pieces();
            assert_eq!(pieces.concat(), said.text);
            assert_eq!(pieces.len(), CHUNKS);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
        }
    }

    #[test]
    fn a_long_prompt_is_cached_when_its_beginning_comes_again() {
        let mut cache = PrefixCache::default();
        let body = |end: &str| {
            let long = "one two three four ".repeat(400);
            format!(r#"{{"model":"gpt-5-mini","messages":[{{"role":"user","content":"{long}{end}"}}]}}"#)
        };
        let first = answer_with(&body("a"), &mut cache);
        let again = answer_with(&body("b"), &mut cache);
        assert_eq!(first.usage.get(TokenClass::CacheRead), 0);
        assert_eq!(again.usage.get(TokenClass::CacheRead), 1024 + 4 * 128);
        let total = |said: &Answer| said.usage.get(TokenClass::Input) + said.usage.get(TokenClass::CacheRead);
        assert_eq!(total(&first), total(&again));
    }
}
