//! What a value of a document must look like. Each check names the field that it refused.

use std::collections::BTreeMap;

use http::Uri;
use ipnet::IpNet;
use jiff::tz::TimeZone;
use ledger::Nano;

use crate::address;

use super::error::FieldError;

type Checked = Result<(), FieldError>;

const NAME_BYTES_MAX: usize = 120;
const REMARK_BYTES_MAX: usize = 2_000;
/// RFC 5321, section 4.5.3.1.
const EMAIL_BYTES_MAX: usize = 254;
const URL_BYTES_MAX: usize = 2_000;

/// A name that people read: not blank, no control characters, not padded.
pub fn name(field: &str, text: &str) -> Checked {
    let fault = if text.trim().is_empty() {
        "must not be empty"
    } else if text.len() > NAME_BYTES_MAX {
        "must not be longer than 120 bytes"
    } else if text.chars().any(char::is_control) {
        "must not hold control characters"
    } else if text.trim() != text {
        "must not begin or end with a blank"
    } else {
        return Ok(());
    };
    Err(FieldError::new(field, fault))
}

/// A name that programs send: visible ASCII without blanks, so that no two names look alike.
pub fn token(field: &str, text: &str) -> Checked {
    name(field, text)?;
    match text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
        true => Ok(()),
        false => Err(FieldError::new(field, "must be ASCII letters, digits and signs without blanks")),
    }
}

const IP_RANGES_MAX: usize = 256;

/// Ranges of addresses: in their shortest form, so that one that names a host by mistake is seen.
pub fn ip_ranges(field: &str, ranges: &[IpNet]) -> Checked {
    if ranges.len() > IP_RANGES_MAX {
        return Err(FieldError::new(field, "are more than 256"));
    }
    distinct(field, ranges)?;
    let is_foreign = |range: IpNet| address::folded(range) != Ok(range);
    if let Some((at, range)) = ranges.iter().enumerate().find(|(_, range)| is_foreign(**range)) {
        let reason = format!("{range} is IPv4 written as IPv6, and would never match");
        return Err(FieldError::new(format!("{field}[{at}]"), reason));
    }
    let inexact = ranges.iter().enumerate().find(|(_, range)| range.trunc() != **range);
    match inexact {
        None => Ok(()),
        Some((at, range)) => {
            let reason = format!("{range} names an address within a range: did you mean {}?", range.trunc());
            Err(FieldError::new(format!("{field}[{at}]"), reason))
        }
    }
}

/// Paths of model calls below the version segment, as the contract lists them.
const ENDPOINTS: [&str; 15] = [
    "chat/completions",
    "completions",
    "responses",
    "messages",
    "embeddings",
    "images/generations",
    "images/edits",
    "audio/speech",
    "audio/transcriptions",
    "moderations",
    "rerank",
    "videos",
    "images",
    "generateContent",
    "streamGenerateContent",
];
const PATTERNS_MAX: usize = 2_000;

pub fn endpoints(field: &str, endpoints: &[Box<str>]) -> Checked {
    distinct(field, endpoints)?;
    let unknown = endpoints.iter().enumerate().find(|(_, path)| !ENDPOINTS.contains(&&***path));
    match unknown {
        None => Ok(()),
        Some((at, path)) => {
            let reason = format!("`{path}` is no endpoint; known are {}", ENDPOINTS.join(", "));
            Err(FieldError::new(format!("{field}[{at}]"), reason))
        }
    }
}

/// Names of models, or beginnings of names with `*` behind them. Models that do not exist yet may be named.
pub fn model_patterns(field: &str, patterns: &[Box<str>]) -> Checked {
    if patterns.len() > PATTERNS_MAX {
        return Err(FieldError::new(field, "are more than 2,000"));
    }
    distinct(field, patterns)?;
    for (at, pattern) in patterns.iter().enumerate() {
        let field = format!("{field}[{at}]");
        token(&field, pattern)?;
        if pattern.strip_suffix('*').unwrap_or(pattern).contains('*') {
            return Err(FieldError::new(field, "may have a * at its end only"));
        }
    }
    Ok(())
}

pub fn remark(field: &str, text: &str) -> Checked {
    match text.len() > REMARK_BYTES_MAX {
        true => Err(FieldError::new(field, "must not be longer than 2,000 bytes")),
        false => Ok(()),
    }
}

/// The shape of an address, not its existence: one @ with something on both sides, a dot in the domain.
pub fn email(field: &str, text: &str) -> Checked {
    let shaped = text.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !local.contains('@')
            && domain.split('.').count() >= 2
            && domain.split('.').all(|label| !label.is_empty())
    });
    let clean =
        !text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | '"'));
    match shaped && clean && text.len() <= EMAIL_BYTES_MAX {
        true => Ok(()),
        false => Err(FieldError::new(field, "is not an e-mail address")),
    }
}

/// What an invoice needs: some names, each with a text of one line.
pub fn invoice(field: &str, entries: &BTreeMap<Box<str>, Box<str>>) -> Checked {
    const ENTRIES_MAX: usize = 20;
    const CHARS_MAX: usize = 200;
    if entries.len() > ENTRIES_MAX {
        return Err(FieldError::new(field, "has more than 20 entries"));
    }
    let is_line = |text: &str| text.chars().count() <= CHARS_MAX && !text.chars().any(char::is_control);
    match entries.iter().find(|(name, text)| name.trim().is_empty() || !is_line(name) || !is_line(text)) {
        Some((name, _)) => {
            let name: String = name.chars().filter(|letter| !letter.is_control()).take(40).collect();
            Err(FieldError::new(
                format!("{field}.{name}"),
                "must be one line of at most 200 characters, with a name",
            ))
        }
        None => Ok(()),
    }
}

pub fn time_zone(field: &str, text: &str) -> Checked {
    match TimeZone::get(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(FieldError::new(field, format!("`{text}` is not a time zone of the IANA database"))),
    }
}

pub fn not_negative(field: &str, amount: Nano) -> Checked {
    match amount.0 < 0 {
        true => Err(FieldError::new(field, "must not be negative")),
        false => Ok(()),
    }
}

/// Where an upstream is: http or https, a host, a path, and nothing that could carry a credential.
pub fn base_url(field: &str, text: &str) -> Checked {
    let refuse = |why: &str| Err(FieldError::new(field, why));
    if text.len() > URL_BYTES_MAX {
        return refuse("must not be longer than 2,000 bytes");
    }
    let Ok(uri) = text.parse::<Uri>() else { return refuse("is not a URL") };
    let Some(authority) = uri.authority() else { return refuse("must be a whole URL with a host") };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return refuse("must begin with http:// or https://"),
    }
    if authority.as_str().contains('@') {
        return refuse("must not hold a user name or a password");
    }
    if authority.host().is_empty() {
        return refuse("must have a host");
    }
    if uri.query().is_some() || text.contains('#') {
        return refuse("must not have a query or a fragment");
    }
    match text.ends_with('/') {
        true => refuse("must not end with a slash"),
        false => Ok(()),
    }
}

/// The first value that stands twice.
pub fn distinct<T: PartialEq>(field: &str, values: &[T]) -> Checked {
    let twice =
        values.iter().enumerate().find(|(at, value)| values.iter().take(*at).any(|other| other == *value));
    match twice {
        Some((at, _)) => Err(FieldError::new(format!("{field}[{at}]"), "stands twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_no_upstream_are_refused() {
        for good in ["https://api.example.com/v1", "http://127.0.0.1:9000/v1", "http://[::1]:80"] {
            assert_eq!(base_url("base_url", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "api.example.com",
            "/v1",
            "ftp://host/v1",
            "https://user:pw@host/v1",
            "https://host/v1/",
            "https://host/v1?key=1",
            "https://host/v1#x",
            "https:///v1",
        ] {
            assert!(base_url("base_url", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn emails_have_a_shape() {
        for good in ["a@b.cn", "first.last+tag@sub.example.com"] {
            assert_eq!(email("email", good), Ok(()), "{good}");
        }
        for bad in ["", "a", "a@", "@b.cn", "a@b", "a b@c.de", "a@b..cn", "a@b@c.de", "<a@b.cn>"] {
            assert!(email("email", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_visible_and_zones_exist() {
        assert_eq!(name("name", "团队 A"), Ok(()));
        for bad in ["", " ", " a", "a\n"] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
        assert!(token("name", "gpt 5").is_err());
        assert_eq!(token("name", "org/gpt-5:free"), Ok(()));
        assert_eq!(time_zone("time_zone", "Asia/Shanghai"), Ok(()));
        assert!(time_zone("time_zone", "Asia/Nowhere").is_err());
        assert!(distinct("groups", &[1, 2, 1]).is_err());
    }
}
