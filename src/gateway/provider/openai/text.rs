//! The text that an answer delivered, gathered so that it can be counted when
//! the upstream gives no usage.

use memchr::{memchr, memchr2, memmem};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Text kept of one answer, in bytes; what goes beyond is only measured.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Choices told apart; what claims a higher index joins the last.
const CHOICES_MAX: usize = 128;

/// The text of an answer so far, or of its first MiB.
#[derive(Debug, Default)]
pub struct Delivered {
    /// By the index of the choice, because their pieces come mixed.
    choices: Vec<Spoken>,
    kept_bytes: usize,
    beyond_bytes: u64,
}

/// The text of one choice.
#[derive(Debug, Default)]
pub struct Spoken {
    /// Said, refused and called (names and arguments of tools).
    pub text: String,
    /// Thought aloud (`reasoning_content`, `reasoning`).
    pub reasoning: String,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    choices: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: usize,
}

impl Delivered {
    /// Adds the text of an event or of a whole body; says how many bytes of
    /// text that was. Reads only the choices, and of them only strings that
    /// the model made. A body that ends in the middle counts as one choice.
    pub fn push(&mut self, json: &[u8]) -> usize {
        let Some(from) = memmem::find(json, b"\"choices\"") else { return 0 };
        match serde_json::from_slice::<Message<'_>>(json) {
            Ok(message) => message.choices.iter().map(|choice| self.push_choice(choice.get())).sum(),
            Err(_) => self.push_text(0, json.get(from..).unwrap_or_default()),
        }
    }

    fn push_choice(&mut self, choice: &str) -> usize {
        let index = serde_json::from_str::<Choice>(choice).map_or(0, |choice| choice.index);
        self.push_text(index.min(CHOICES_MAX - 1), choice.as_bytes())
    }

    fn push_text(&mut self, index: usize, json: &[u8]) -> usize {
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Spoken::default);
        }
        let Some(spoken) = self.choices.get_mut(index) else { return 0 };
        let mut added = 0;
        members(json, |name, value| {
            let kept = match name {
                b"content" | b"refusal" | b"arguments" | b"name" | b"transcript" => &mut spoken.text,
                b"reasoning_content" | b"reasoning" => &mut spoken.reasoning,
                _ => return,
            };
            let before = kept.len();
            push_unescaped(value, kept);
            let more = kept.len() - before;
            added += more;
            let room = KEPT_BYTES_MAX.saturating_sub(self.kept_bytes);
            if more > room {
                kept.truncate(kept.floor_char_boundary(before + room));
            }
            let stays = kept.len() - before;
            self.kept_bytes += stays;
            self.beyond_bytes = self.beyond_bytes.saturating_add((more - stays) as u64);
        });
        added
    }

    /// Nothing has been delivered.
    pub fn is_empty(&self) -> bool {
        self.kept_bytes == 0 && self.beyond_bytes == 0
    }

    /// The choices that have begun, by their index.
    pub fn choices(&self) -> &[Spoken] {
        &self.choices
    }

    /// Bytes of text kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Bytes of text beyond what is kept.
    pub fn beyond_bytes(&self) -> u64 {
        self.beyond_bytes
    }
}

/// Calls `visit` with each member whose value is a string: its name and the
/// text between the quotes, still escaped.
fn members(json: &[u8], mut visit: impl FnMut(&[u8], &[u8])) {
    let mut rest = json;
    while let Some((name, behind)) = next_string(rest) {
        rest = behind;
        // A string that no colon follows is a value of a list.
        let Some(value) = behind.trim_ascii_start().strip_prefix(b":") else { continue };
        if value.trim_ascii_start().first() == Some(&b'"')
            && let Some((text, behind)) = next_string(value)
        {
            visit(name, text);
            rest = behind;
        }
    }
}

/// The next JSON string, without its quotes, and what follows it.
fn next_string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = memchr(b'"', json)? + 1;
    let mut at = start;
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        if json.get(at) == Some(&b'"') {
            return Some((json.get(start..at)?, json.get(at + 1..)?));
        }
        at += 2;
    }
}

fn push_unescaped(raw: &[u8], out: &mut String) {
    if memchr(b'\\', raw).is_none() {
        match std::str::from_utf8(raw) {
            Ok(text) => out.push_str(text),
            Err(_) => out.push_str(&String::from_utf8_lossy(raw)),
        }
        return;
    }
    let quoted = [b"\"", raw, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => out.push_str(&text),
        // Half of a surrogate pair, cut between two events: counted as it is.
        Err(_) => out.push_str(&String::from_utf8_lossy(raw)),
    }
}
