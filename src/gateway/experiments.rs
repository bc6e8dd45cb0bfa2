//! Wishes that a caller has in a header and not in the body: the experiments of its provider that it takes part in. Of
//! all that a caller sends beside its body nothing else goes on.
//!
//! Promises: bounded, made of names alone, and to a provider of the same format only. What is not known to leave the
//! price as it is does not go on, and is told.

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::convert::{Format, LeftOut};
use super::facts::Endpoint;

const ANTHROPIC_NAME: &str = "anthropic-beta";
const OPEN_AI_NAME: &str = "openai-beta";
const ANTHROPIC: HeaderName = HeaderName::from_static(ANTHROPIC_NAME);
const OPEN_AI: HeaderName = HeaderName::from_static(OPEN_AI_NAME);

/// Most names that go on, and the longest of them in bytes.
const NAMES_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 64;

/// Families of Anthropic's experiments that change what is said and not what a token costs; each name ends with a date.
const ANTHROPIC_USUAL: [&str; 19] = [
    "adaptive-thinking-",
    "advanced-tool-use-",
    "claude-code-",
    "computer-use-",
    "context-management-",
    "effort-",
    "extended-cache-ttl-",
    "fine-grained-tool-streaming-",
    "interleaved-thinking-",
    "model-context-window-exceeded-",
    "output-128k-",
    "pdfs-",
    "prompt-caching-",
    "redact-thinking-",
    "structured-outputs-",
    "task-budgets-",
    "token-efficient-tools-",
    "tool-examples-",
    "tool-search-tool-",
];
/// What is known to have a price of its own, and how it is told.
const ANTHROPIC_DEARER: [(&str, &str); 3] = [
    ("compact-", "anthropic-beta.compact"),
    ("context-1m-", "anthropic-beta.context-1m"),
    ("fast-mode-", "anthropic-beta.fast-mode"),
];
const OPEN_AI_USUAL: [&str; 1] = ["responses="];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiments {
    header: HeaderName,
    /// Those that go on; `None`: none of them does.
    sent: Option<HeaderValue>,
    left_out: SmallVec<[&'static str; 2]>,
}

impl Experiments {
    /// What the headers of a call ask for; nothing for nearly all.
    pub fn of(endpoint: Endpoint, headers: &HeaderMap) -> Option<Box<Self>> {
        let header = match endpoint.format()? {
            Format::Anthropic => ANTHROPIC,
            Format::OpenAi | Format::DeepSeek | Format::Responses => OPEN_AI,
            Format::Gemini => return None,
        };
        headers.contains_key(&header).then(|| Box::new(Self::read(header, headers)))
    }

    fn read(header: HeaderName, headers: &HeaderMap) -> Self {
        let (usual, all): (&[&str], _) = match header == ANTHROPIC {
            true => (&ANTHROPIC_USUAL, ANTHROPIC_NAME),
            false => (&OPEN_AI_USUAL, OPEN_AI_NAME),
        };
        let mut left_out = SmallVec::new();
        let mut leave = |name| {
            if !left_out.contains(&name) {
                left_out.push(name);
            }
        };
        let mut sent: SmallVec<[&str; 8]> = SmallVec::new();
        for value in headers.get_all(&header) {
            let Ok(value) = value.to_str() else {
                leave(all);
                continue;
            };
            for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                let is_usual = usual.iter().any(|family| name.starts_with(family));
                if sent.contains(&name) {
                    continue;
                }
                match is_usual && is_name(name) && sent.len() < NAMES_MAX {
                    true => sent.push(name),
                    false => {
                        let dearer = ANTHROPIC_DEARER.iter().find(|(family, _)| name.starts_with(family));
                        leave(dearer.filter(|_| header == ANTHROPIC).map_or(all, |(_, told)| told));
                    }
                }
            }
        }
        let sent = (!sent.is_empty()).then(|| HeaderValue::from_str(&sent.join(",")).ok()).flatten();
        Experiments { header, sent, left_out }
    }

    /// What goes to an upstream that is asked in the caller's own format.
    pub fn sent(&self, format: Format, left_out: &mut LeftOut) -> Option<(HeaderName, HeaderValue)> {
        let is_own = match format {
            Format::Anthropic => self.header == ANTHROPIC,
            Format::OpenAi | Format::Responses => self.header == OPEN_AI,
            Format::DeepSeek | Format::Gemini => false,
        };
        if !is_own {
            left_out.add(if self.header == ANTHROPIC { ANTHROPIC_NAME } else { OPEN_AI_NAME });
            return None;
        }
        self.left_out.iter().for_each(|name| left_out.add(name));
        self.sent.clone().map(|value| (self.header.clone(), value))
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=');
    name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(
        endpoint: Endpoint,
        header: &'static str,
        values: &[&str],
        format: Format,
    ) -> (String, Vec<&'static str>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header, value.parse().unwrap());
        }
        let mut left_out = LeftOut::default();
        let sent = Experiments::of(endpoint, &headers).and_then(|wishes| wishes.sent(format, &mut left_out));
        let sent =
            sent.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).unwrap_or_default();
        (sent, left_out.names().to_vec())
    }

    #[test]
    fn h1_experiments_go_on_to_their_own_provider_unless_they_cost() {
        let of = |values: &[&str]| sent(Endpoint::Messages, "anthropic-beta", values, Format::Anthropic);
        let usual = "claude-code-20250219,interleaved-thinking-2025-05-14";
        assert_eq!(
            of(&["claude-code-20250219, interleaved-thinking-2025-05-14"]),
            (format!("anthropic-beta: {usual}"), vec![])
        );
        assert_eq!(
            of(&["claude-code-20250219", "interleaved-thinking-2025-05-14,"]),
            (format!("anthropic-beta: {usual}"), vec![])
        );
        assert_eq!(
            of(&["context-1m-2025-08-07,fast-mode-2026-02-01,effort-2025-11-24,effort-2025-11-24"]),
            (
                "anthropic-beta: effort-2025-11-24".into(),
                vec!["anthropic-beta.context-1m", "anthropic-beta.fast-mode"]
            )
        );
        assert_eq!(of(&["of-tomorrow-2030-01-01"]), (String::new(), vec!["anthropic-beta"]));
        assert_eq!(of(&[&format!("effort-{}", "9".repeat(80))]), (String::new(), vec!["anthropic-beta"]));
        let many = (0..40).map(|day| format!("effort-{day}")).collect::<Vec<_>>().join(",");
        assert_eq!(of(&[&many]).0.matches("effort-").count(), NAMES_MAX);
        assert_eq!(of(&[]), (String::new(), vec![]));
        let elsewhere = sent(Endpoint::Messages, "anthropic-beta", &[usual], Format::OpenAi);
        assert_eq!(elsewhere, (String::new(), vec!["anthropic-beta"]));
        let open_ai = |format| sent(Endpoint::Responses, "openai-beta", &["responses=experimental"], format);
        assert_eq!(open_ai(Format::Responses).0, "openai-beta: responses=experimental");
        assert_eq!(open_ai(Format::DeepSeek), (String::new(), vec!["openai-beta"]));
        // Of another provider than the endpoint's nothing is read.
        assert_eq!(
            sent(Endpoint::Messages, "openai-beta", &["responses=experimental"], Format::OpenAi),
            (String::new(), vec![])
        );
    }
}
