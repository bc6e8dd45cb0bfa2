//! Finds the key among a request's headers, or in its address where the format has it there.

use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use super::examine::{KeyFinding, examine};
use super::problem::KeyProblem;
use super::{Environment, mask};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// What a request presents as its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFinding<'h> {
    Missing,
    Presented(PresentedKey<'h>),
    Malformed(KeyProblem),
}

/// A key that has a possible form, borrowed from the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PresentedKey<'h> {
    text: &'h [u8],
    environment: Option<Environment>,
}

impl<'h> PresentedKey<'h> {
    /// The key itself, for hashing.
    pub const fn expose(&self) -> &'h [u8] {
        self.text
    }

    /// What its prefix says; `None` for foreign keys, whose environment only the directory knows.
    pub const fn environment(&self) -> Option<Environment> {
        self.environment
    }

    /// How lists show it.
    pub fn masked(&self) -> String {
        mask(&String::from_utf8_lossy(self.text))
    }
}

impl fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresentedKey([hidden], {:?})", self.environment)
    }
}

/// Looks at `Authorization: Bearer`, `x-api-key` and `x-goog-api-key`, and at the key of an address, if its format has
/// one there. The same key in several of them is one key; different ones are refused, because nobody can tell which was
/// meant.
pub fn credential_from<'h>(headers: &'h HeaderMap, in_address: Option<&'h str>) -> CredentialFinding<'h> {
    let mut found = Found::default();
    for (header, name) in
        [(AUTHORIZATION, "authorization"), (X_API_KEY, "x-api-key"), (X_GOOG_API_KEY, "x-goog-api-key")]
    {
        for value in headers.get_all(&header) {
            match header == AUTHORIZATION {
                true => match behind_bearer(value.as_bytes()) {
                    Ok(text) => found.add(text, name),
                    Err(problem) => found.scheme_problem = Some(problem),
                },
                false => found.add(value.as_bytes(), name),
            }
        }
    }
    found.add(in_address.unwrap_or_default().as_bytes(), IN_ADDRESS);
    found.finding()
}

/// Where a key of an address is, as it is told.
const IN_ADDRESS: &str = "?key=";

#[derive(Default)]
struct Found<'h> {
    first: Option<(&'h [u8], &'static str)>,
    /// Where different ones are.
    several: Vec<&'static str>,
    scheme_problem: Option<KeyProblem>,
}

impl<'h> Found<'h> {
    fn add(&mut self, text: &'h [u8], name: &'static str) {
        match self.first {
            _ if text.is_empty() => {}
            None => self.first = Some((text, name)),
            Some((first, _)) if first == text => {}
            Some((_, first)) if self.several.is_empty() => self.several = vec![first, name],
            Some(_) => self.several.push(name),
        }
    }

    fn finding(self) -> CredentialFinding<'h> {
        let Found { first, mut several, scheme_problem } = self;
        if !several.is_empty() {
            several.dedup();
            return CredentialFinding::Malformed(KeyProblem::Several { headers: several });
        }
        match (first, scheme_problem) {
            (Some((text, _)), _) => match examine(text) {
                KeyFinding::Empty => CredentialFinding::Missing,
                KeyFinding::WellFormed(environment) => {
                    CredentialFinding::Presented(PresentedKey { text, environment: Some(environment) })
                }
                KeyFinding::Foreign => CredentialFinding::Presented(PresentedKey { text, environment: None }),
                KeyFinding::Malformed(problem) => CredentialFinding::Malformed(problem),
            },
            (None, Some(problem)) => CredentialFinding::Malformed(problem),
            (None, None) => CredentialFinding::Missing,
        }
    }
}

/// The text behind `Bearer` and one blank; empty if there is none. The word's case does not matter
/// (RFC 9110, 11.1).
fn behind_bearer(value: &[u8]) -> Result<&[u8], KeyProblem> {
    let Some((word, behind)) =
        value.split_at_checked(6).filter(|(word, _)| word.eq_ignore_ascii_case(b"bearer"))
    else {
        return match examine(value) {
            KeyFinding::Empty => Ok(value),
            // A quote or an invisible character before the scheme is the nearer truth.
            KeyFinding::Malformed(problem) if problem.at().is_some_and(|at| at.position == 0) => Err(problem),
            _ => Err(KeyProblem::WrongScheme),
        };
    };
    debug_assert_eq!(word.len(), 6);
    match behind.split_first() {
        None => Ok(behind),
        Some((b' ', key)) => Ok(key),
        Some((byte, _)) if byte.is_ascii_graphic() => Err(KeyProblem::WrongScheme),
        // Some other blank: the checker names it.
        Some(_) => Ok(behind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;
    use crate::keytext::{ApiKey, At};
    use http::HeaderValue;

    fn key() -> String {
        ApiKey::generate(&SeededEntropy::new(b"headers"), Environment::Test).expose().to_owned()
    }

    fn headers(list: &[(&'static str, &[u8])]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &[u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        list.iter().map(pair).fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    fn finding(list: &[(&'static str, &[u8])]) -> String {
        match credential_from(&headers(list), None) {
            CredentialFinding::Missing => "missing".to_owned(),
            CredentialFinding::Presented(key) => {
                format!("{} bytes, {:?}", key.expose().len(), key.environment())
            }
            CredentialFinding::Malformed(problem) => {
                format!("{} {:?}", problem.class(), problem.at().map(|At { position, .. }| position))
            }
        }
    }

    #[test]
    fn a_key_is_found_in_each_header() {
        let key = key();
        let bearer = format!("Bearer {key}");
        assert_eq!(finding(&[("authorization", bearer.as_bytes())]), "54 bytes, Some(Test)");
        assert_eq!(finding(&[("authorization", b"bearer ")]), "missing");
        assert_eq!(finding(&[("x-api-key", key.as_bytes())]), "54 bytes, Some(Test)");
        assert_eq!(finding(&[("x-goog-api-key", key.as_bytes())]), "54 bytes, Some(Test)");
        assert_eq!(finding(&[("authorization", b"bearer sk-abc123")]), "9 bytes, None");
        assert_eq!(finding(&[]), "missing");
        assert_eq!(finding(&[("authorization", b"Bearer"), ("x-api-key", b"")]), "missing");
    }

    #[test]
    fn the_same_key_twice_is_one_and_different_ones_are_refused() {
        let key = key();
        let bearer = format!("Bearer {key}");
        let same = [("authorization", bearer.as_bytes()), ("x-api-key", key.as_bytes())];
        assert_eq!(finding(&same), "54 bytes, Some(Test)");
        let different = [("authorization", bearer.as_bytes()), ("x-api-key", b"sk-other1".as_slice())];
        assert_eq!(finding(&different), "several None");
        let CredentialFinding::Malformed(problem) = credential_from(&headers(&different), None).clone()
        else {
            panic!("two keys were taken for one")
        };
        assert_eq!(problem, KeyProblem::Several { headers: vec!["authorization", "x-api-key"] });
    }

    #[test]
    fn a_wrong_scheme_is_told_unless_another_header_has_the_key() {
        let key = key();
        let basic = ("authorization", b"Basic dXNlcjpwYXNz".as_slice());
        assert_eq!(finding(&[basic]), "wrong_scheme None");
        assert_eq!(finding(&[basic, ("x-api-key", key.as_bytes())]), "54 bytes, Some(Test)");
        assert_eq!(finding(&[("authorization", key.as_bytes())]), "wrong_scheme None");
        assert_eq!(finding(&[("authorization", format!("Bearer{key}").as_bytes())]), "wrong_scheme None");
        assert_eq!(finding(&[("authorization", format!("\"Bearer {key}\"").as_bytes())]), "quote Some(0)");
    }

    /// S32 and D5, as the bytes come over the wire.
    #[test]
    fn what_is_wrong_with_the_header_is_named() {
        let key = key();
        let table: [(Vec<u8>, &str); 6] = [
            (format!("Bearer {key}\u{200b}").into(), "invisible_character Some(54)"),
            (format!("Bearer  {key}").into(), "surrounding_blank Some(0)"),
            (format!("Bearer Bearer {key}").into(), "doubled_bearer None"),
            (format!("Bearer\u{a0}{key}").into(), "surrounding_blank Some(0)"),
            ([b"Bearer ", key.as_bytes(), b"\xa0"].concat(), "surrounding_blank Some(54)"),
            (format!("Bearer {}", &key[..30]).into(), "truncated None"),
        ];
        for (value, expected) in table {
            assert_eq!(
                finding(&[("authorization", &value)]),
                expected,
                "{}",
                String::from_utf8_lossy(&value)
            );
        }
    }

    #[test]
    fn a_key_in_the_address_is_one_among_the_others() {
        let key = key();
        let mine = headers(&[("x-goog-api-key", key.as_bytes())]);
        for (headers, in_address) in
            [(&HeaderMap::new(), Some(&*key)), (&mine, Some(&*key)), (&mine, Some("")), (&mine, None)]
        {
            assert!(matches!(credential_from(headers, in_address), CredentialFinding::Presented(_)));
        }
        let CredentialFinding::Malformed(problem) = credential_from(&mine, Some("sk-other1")) else {
            panic!("two keys were taken for one")
        };
        assert_eq!(problem, KeyProblem::Several { headers: vec!["x-goog-api-key", "?key="] });
    }

    #[test]
    fn a_presented_key_is_hidden() {
        let key = key();
        let map = headers(&[("x-api-key", key.as_bytes())]);
        let finding = credential_from(&map, None);
        assert_eq!(format!("{finding:?}"), "Presented(PresentedKey([hidden], Some(Test)))");
    }
}
