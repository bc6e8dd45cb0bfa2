//! The text that an answer delivered, gathered so that it can be counted when
//! the upstream gives no usage.

use memchr::{memchr, memchr2, memmem};

/// Text kept of one answer, in bytes; what goes beyond is only measured.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// The text of an answer so far, or of its first MiB.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Said, refused and called (names and arguments of tools).
    pub text: String,
    /// Thought aloud (`reasoning_content`, `reasoning`).
    pub reasoning: String,
    /// Bytes beyond what is kept.
    pub beyond_bytes: u64,
}

impl Delivered {
    /// Adds the text of an event or of a whole body; says how many bytes of
    /// text that was. Reads only from the choices on, and only strings that
    /// the model made.
    pub fn push(&mut self, json: &[u8]) -> usize {
        let Some(from) = memmem::find(json, b"\"choices\"") else { return 0 };
        let mut added = 0;
        members(json.get(from..).unwrap_or_default(), |name, value| {
            let kept = match name {
                b"content" | b"refusal" | b"arguments" | b"name" | b"transcript" => &mut self.text,
                b"reasoning_content" | b"reasoning" => &mut self.reasoning,
                _ => return,
            };
            let before = kept.len();
            push_unescaped(value, kept);
            added += kept.len() - before;
            if kept.len() > KEPT_BYTES_MAX {
                let keep = kept.floor_char_boundary(KEPT_BYTES_MAX);
                self.beyond_bytes = self.beyond_bytes.saturating_add((kept.len() - keep) as u64);
                kept.truncate(keep);
            }
        });
        added
    }

    /// Nothing has been delivered.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty() && self.beyond_bytes == 0
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
