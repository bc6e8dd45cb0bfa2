//! How an upstream tells what is left of the platform's credit there, and from when on that is too little.

use ledger::Nano;
use serde::{Deserialize, Serialize};

use super::decimal;
use super::error::FieldError;

const PATH_BYTES_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditCheck {
    pub source: CreditSource,
    /// Of `json` alone: the path behind the host that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<str>>,
    /// Of `json` alone: where the amount stands in the answer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Box<str>>,
    /// In the upstream's own currency.
    #[serde(with = "decimal::money")]
    pub alert_below: Nano,
}

/// A way to tell it. Each is asked with the channel's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditSource {
    /// DeepSeek: `/user/balance` behind the host.
    DeepseekBalance,
    /// OpenRouter: `/credits` behind the base URL.
    OpenrouterCredits,
    /// What new-api, one-api and their like have of OpenAI's: `/dashboard/billing/subscription` and `…/usage` behind the
    /// base URL.
    BillingSubscription,
    /// Any answer in JSON.
    Json,
}

impl CreditCheck {
    pub fn check(&self) -> Result<(), FieldError> {
        let refuse = |field: &'static str, why: &str| Err(FieldError::new(field, why));
        if !self.alert_below.is_positive() {
            return refuse("credit.alert_below", "must be more than 0");
        }
        let is_plain =
            |text: &str| text.len() <= PATH_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        match (self.source, self.path.as_deref(), self.pointer.as_deref()) {
            (CreditSource::Json, None, _) => refuse("credit.path", "is needed for the source json"),
            (CreditSource::Json, _, None) => refuse("credit.pointer", "is needed for the source json"),
            (CreditSource::Json, Some(path), Some(pointer)) => {
                if !path.starts_with('/') || !is_plain(path) || path.contains('#') {
                    return refuse("credit.path", "must be a path that begins with /, of visible ASCII");
                }
                if !(pointer.is_empty() || pointer.starts_with('/')) || pointer.len() > PATH_BYTES_MAX {
                    return refuse("credit.pointer", "must be a JSON pointer such as /data/balance");
                }
                Ok(())
            }
            (_, Some(_), _) => refuse("credit.path", "goes with the source json alone"),
            (_, _, Some(_)) => refuse("credit.pointer", "goes with the source json alone"),
            (_, None, None) => Ok(()),
        }
    }
}
