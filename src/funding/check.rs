//! Whether a payment provider can be worked with, found out before a payer does: it is asked something harmless with the
//! own keys, and the address that it calls back at is called from here. A gateway that starts checks all of them.
//!
//! The call to the own address carries a random word, and is answered with its keyed hash: whatever else answers there –
//! another program, a page of a proxy – does not know the key.

use std::sync::Arc;

use http::Method;
use ring::hmac;

use super::error::FundingError;
use super::orders::Funding;
use super::provider::PaymentProvider;
use crate::gateway::upstream::Target;
use crate::http_client::{Ask, HttpClient};
use crate::secret::{Secret, SecretBytes};

/// The parameter that makes a call a check.
pub const PARAM: &str = "tallygate_check";
/// Length of the random word.
const WORD_LEN: usize = 32;

/// What a check found. Neither text has a secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub at_ms: i64,
    /// Whether the provider knows us.
    pub account: Result<(), String>,
    /// Whether its callbacks arrive.
    pub callback: Result<(), String>,
}

impl Check {
    pub fn is_fine(&self) -> bool {
        self.account.is_ok() && self.callback.is_ok()
    }
}

/// Answers checks of the own address.
pub(super) struct Probe(hmac::Key);

impl Probe {
    pub fn new(key: &SecretBytes) -> Self {
        Probe(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    fn answer(&self, provider: &str, word: &str) -> String {
        crate::hex::encode(hmac::sign(&self.0, format!("{provider} {word}").as_bytes()).as_ref())
    }
}

impl Funding {
    /// The answer to a check that was called here. `None`: it is none, or for no provider of ours.
    pub fn answer_check(&self, provider: &str, query: &str) -> Option<String> {
        let word = query.strip_prefix(PARAM)?.strip_prefix('=')?;
        let is_word = word.len() == WORD_LEN && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.settings.provider(provider).filter(|_| is_word).map(|_| self.probe.answer(provider, word))
    }

    /// What the last check of a provider found.
    pub fn checked(&self, provider: &str) -> Option<Check> {
        self.checks.lock().get(provider).cloned()
    }

    /// Blocks as long as the provider and the own address take.
    pub fn check_provider(&self, name: &str) -> Result<Check, FundingError> {
        let provider = self.settings.provider(name).ok_or(FundingError::NotFound)?;
        let check = Check {
            at_ms: self.clock.now_ms(),
            account: provider.check(&self.http).map_err(|why| why.to_string()),
            callback: match provider.calls_back() {
                true => self.call_back(&**provider, &self.http),
                false => Ok(()),
            },
        };
        for (what, found) in [("account", &check.account), ("callback", &check.callback)] {
            if let Err(why) = found {
                tracing::warn!(provider = name, what, why, "a payment provider cannot be worked with");
            }
        }
        self.checks.lock().insert(provider.name(), check.clone());
        Ok(check)
    }

    fn call_back(&self, provider: &dyn PaymentProvider, http: &HttpClient) -> Result<(), String> {
        let address = self.settings.links.callback(provider.name());
        let target = Target::parse(&self.settings.links.public_url);
        let target = target.map_err(|why| format!("{address}: {why}"))?;
        let word = http.nonce();
        let expected = Secret::new(self.probe.answer(provider.name(), &word));
        let path = format!("/callbacks/{}?{PARAM}={word}", provider.name());
        let ask = Ask { target, method: Method::GET, path, headers: Vec::new(), body: bytes::Bytes::new() };
        let reply = http.ask(ask).map_err(|why| format!("{address} cannot be called: {why}"))?;
        match expected.matches(&reply.body) {
            true => Ok(()),
            false => Err(format!("at {address} something else answers, with status {}", reply.status)),
        }
    }

    /// Checks all providers on a thread of its own.
    pub fn check_all(self: &Arc<Self>) -> std::io::Result<()> {
        let funding = Arc::clone(self);
        let run = move || {
            for provider in &funding.settings.providers {
                // What it found is logged and kept; providers of the settings are all there.
                let _kept = funding.check_provider(provider.name());
            }
        };
        std::thread::Builder::new().name("payment-check".into()).spawn(run).map(drop)
    }
}
