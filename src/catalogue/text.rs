//! Puts values into templates.

use std::fmt::Write as _;

use ledger::Nano;

use super::code::Phrase;
use super::language::Language;
use super::refusal::{LimitView, Refusal, Value};

/// Characters of a value that are shown at most; a model's name is an arbitrary text of the caller.
const VALUE_CHARS_MAX: usize = 200;
/// Characters of an upstream's own words that are shown at most.
const UPSTREAM_CHARS_MAX: usize = 500;
/// Stands where a value is not known.
const UNKNOWN: &str = "–";

/// Fills every `{name}` of `template` with what `refusal` knows.
pub(super) fn fill(template: &str, refusal: &Refusal, language: Language) -> String {
    fill_with(template, |name, out| push_param(name, refusal, language, out))
}

/// Fills every `{name}` of `template` by `push`.
pub(crate) fn fill_with(template: &str, push: impl Fn(&str, &mut String)) -> String {
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, from)) = rest.split_once('{') {
        out.push_str(before);
        // The build checked that every brace is closed.
        let (name, behind) = from.split_once('}').unwrap_or((from, ""));
        push(name, &mut out);
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn push_param(name: &str, refusal: &Refusal, language: Language, out: &mut String) {
    if let Some(limit) = &refusal.limit
        && push_of_limit(name, limit, language, out)
    {
        return;
    }
    match (name, refusal) {
        ("field", Refusal { field: Some(field), .. }) => push_clean(field, VALUE_CHARS_MAX, out),
        ("upstream_text", Refusal { upstream_text: Some(text), .. }) => {
            push_clean(text, UPSTREAM_CHARS_MAX, out)
        }
        ("retry_after", _) if refusal.patience_ms().is_some() => {
            push_display(seconds(refusal.patience_ms().unwrap_or_default()), out);
        }
        _ => match refusal.params.iter().find(|(known, _)| known == name) {
            Some((_, value)) => push_value(value, language, out),
            None => out.push_str(UNKNOWN),
        },
    }
}

/// Whole seconds, rounded up: a caller who waits that long is never early.
pub(super) const fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

/// Writes what the limit knows under `name`; `false` if it knows nothing of that name.
fn push_of_limit(name: &str, limit: &LimitView, language: Language, out: &mut String) -> bool {
    let amount = match name {
        "limit" => match (limit.limit, limit.origin.as_deref()) {
            // "0" alone reads like a defect to somebody who never set a limit (S27, C6).
            (Some(Nano::ZERO), Some("default")) => {
                out.push_str(Phrase::ZeroDefault.get(language));
                return true;
            }
            (amount, _) => amount,
        },
        "used" => limit.used,
        "held" => limit.held,
        "available" => limit.available,
        "needed" => limit.needed,
        "short_by" => limit.short_by,
        "window" => return push_named("window_", limit.window.as_deref(), language, out),
        "resets_at" => {
            out.push_str(&limit.resets_at_ms.map_or_else(|| Phrase::Never.get(language).to_owned(), rfc3339));
            return true;
        }
        name if name == limit.scope => return limit.id.as_ref().map(|id| out.push_str(id)).is_some(),
        _ => return false,
    };
    amount.map(|amount| push_display(amount, out)).is_some()
}

/// The phrase for a word such as `month`, or the word itself.
fn push_named(prefix: &str, word: Option<&str>, language: Language, out: &mut String) -> bool {
    let Some(word) = word else { return false };
    let phrase = Phrase::ALL.into_iter().find(|phrase| phrase.as_str().strip_prefix(prefix) == Some(word));
    out.push_str(phrase.map_or(word, |phrase| phrase.get(language)));
    true
}

/// Writes a value in a language. Texts from outside are cut and cleaned.
pub(crate) fn push_value(value: &Value, language: Language, out: &mut String) {
    match value {
        Value::Text(text) => push_clean(text, VALUE_CHARS_MAX, out),
        Value::List(list) if list.is_empty() => out.push_str(Phrase::None.get(language)),
        Value::List(list) => {
            for (place, item) in list.iter().enumerate() {
                if place > 0 {
                    out.push_str(Phrase::Separator.get(language));
                }
                push_clean(item, VALUE_CHARS_MAX, out);
            }
        }
        Value::Money(amount) => push_display(amount, out),
        Value::Time(ms) => out.push_str(&rfc3339(*ms)),
        Value::Count(count) => push_display(count, out),
        Value::Both { en, zh } => out.push_str(match language {
            Language::En => en,
            Language::Zh => zh,
        }),
    }
}

fn push_display(value: impl std::fmt::Display, out: &mut String) {
    // Writing into a String never fails.
    let _ = write!(out, "{value}");
}

/// Text from outside: at most `chars_max` characters, without those that could rearrange or hide
/// what stands around them.
fn push_clean(text: &str, chars_max: usize, out: &mut String) {
    let mut chars = text.chars();
    for c in chars.by_ref().take(chars_max) {
        let hides = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        out.push(if hides { '\u{fffd}' } else { c });
    }
    if chars.next().is_some() {
        out.push('…');
    }
}

/// A text from outside as it is shown.
pub(super) fn clean(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    push_clean(text, chars_max, &mut out);
    out
}

/// RFC 3339 in UTC, such as `2026-11-22T08:45:53.5Z`.
pub fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| UNKNOWN.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Code;

    #[test]
    fn texts_from_outside_are_cut_and_cleaned() {
        let refusal = Refusal::new(Code::ModelNotFound)
            .param("model", format!("a\u{200b}b\n\u{202e}c{}", "x".repeat(300)))
            .param("near_misses", Vec::new());
        let text = fill("{model}|{near_misses}|{nothing}", &refusal, Language::En);
        assert!(text.starts_with("a\u{fffd}b\u{fffd}\u{fffd}cxxx"));
        assert!(text.ends_with("xx…|none|–"));
        assert_eq!(text.chars().count(), 200 + "…|none|–".chars().count());
    }

    /// S27 and C6: a limit of zero that nobody set says so; one that somebody set is just zero.
    #[test]
    fn a_limit_of_zero_says_whether_it_is_the_default() {
        let view = |limit, origin: &'static str| LimitView {
            scope: "key".into(),
            limit: Some(Nano(limit)),
            origin: Some(origin.into()),
            window: Some("day".into()),
            ..LimitView::default()
        };
        let say = |view: LimitView, language| {
            fill(
                "{window} {limit} {resets_at}",
                &Refusal::new(Code::KeyBudgetExhausted).limit(view),
                language,
            )
        };
        assert_eq!(say(view(0, "default"), Language::En), "daily 0, the default never");
        assert_eq!(say(view(0, "default"), Language::Zh), "每日 0（默认值） 不重置");
        assert_eq!(say(view(0, "owner"), Language::En), "daily 0 never");
        assert_eq!(say(view(5_000_000_000, "default"), Language::Zh), "每日 5 不重置");
    }

    #[test]
    fn lists_times_and_waits_are_written_out() {
        let refusal = Refusal::new(Code::RateLimitRequests)
            .param("list", vec!["a".to_owned(), "b".to_owned()])
            .param("at", Value::Time(1_800_000_000_000))
            .param("both", ("yes", "是"))
            .retry_after_ms(1_001);
        let template = "{list} {at} {both} {retry_after}";
        assert_eq!(fill(template, &refusal, Language::En), "a, b 2027-01-15T08:00:00Z yes 2");
        assert_eq!(fill(template, &refusal, Language::Zh), "a、b 2027-01-15T08:00:00Z 是 2");
        assert_eq!(rfc3339(i64::MAX), "–");
    }
}
