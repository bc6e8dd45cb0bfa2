//! The key checker: any bytes of any header, and any text of an address, as a client can send them.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tallygate::catalogue::{Language, Refusal};
use tallygate::keytext::{CredentialFinding, KeyFinding, KeyProblem, credential_from, examine, mask};

const HEADERS: [&str; 3] = ["authorization", "x-api-key", "x-goog-api-key"];

fuzz_target!(|data: &[u8]| {
    match examine(data) {
        KeyFinding::Empty => assert!(data.is_empty()),
        KeyFinding::WellFormed(environment) => {
            assert!(data.len() == 54 && data.starts_with(environment.prefix().as_bytes()));
        }
        KeyFinding::Foreign => assert!(data.iter().all(u8::is_ascii_graphic)),
        KeyFinding::Malformed(problem) => check(&problem, data.len()),
    }
    let masked = mask(&String::from_utf8_lossy(data));
    assert!(masked.chars().count() <= 8 + 7);

    // The same bytes as header values, one line for each header in turn.
    let mut map = HeaderMap::new();
    for (line, name) in data.split(|byte| *byte == b'\n').zip(HEADERS.into_iter().cycle()).take(6) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            map.append(HeaderName::from_static(name), value);
        }
    }
    for in_address in [None, std::str::from_utf8(data).ok()] {
        match credential_from(&map, in_address) {
            CredentialFinding::Missing => {}
            CredentialFinding::Presented(key) => assert!(!key.expose().is_empty()),
            CredentialFinding::Malformed(problem) => check(&problem, data.len()),
        }
    }
});

fn check(problem: &KeyProblem, bytes: usize) {
    assert!(problem.at().is_none_or(|at| at.position < bytes));
    for language in Language::ALL {
        assert!(!problem.describe(language).contains(['{', '}']) || problem.at().is_some());
    }
    let refusal = Refusal::from(problem);
    assert_eq!(refusal.code.status(), 401);
}
