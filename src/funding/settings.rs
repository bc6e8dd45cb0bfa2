//! What the configuration says about payments.

use std::sync::Arc;

use ledger::Nano;

use super::provider::{Epay, PaymentProvider, Stripe, Transfer};
use crate::config::Config;
use crate::directory::decimal::PPM;
use crate::gateway::upstream::{Target, TargetError};

/// See the module.
#[derive(Clone)]
pub struct Settings {
    /// Of the ledger.
    pub currency: Box<str>,
    /// Currency → millionths of it for one unit of the ledger's. The first is what an order is paid in unless it says.
    pub rates: Vec<(String, u64)>,
    pub order_min: Nano,
    pub order_max: Nano,
    pub order_ttl_ms: i64,
    pub poll_ms: i64,
    /// What is shown to who pays by bank transfer.
    pub transfer_to: Option<Box<str>>,
    pub links: Links,
    pub providers: Vec<Arc<dyn PaymentProvider>>,
}

/// Addresses that a provider is told.
#[derive(Clone, Debug)]
pub struct Links {
    /// Of this server, without a slash at its end.
    pub public_url: Box<str>,
    /// Where payers come back to.
    pub return_url: Box<str>,
}

impl Links {
    pub fn callback(&self, provider: &str) -> String {
        format!("{}/callbacks/{provider}", self.public_url)
    }
}

impl Settings {
    /// An address that cannot be called is refused with the name of its setting.
    pub fn from_config(config: &Config) -> Result<Self, (&'static str, TargetError)> {
        let (payments, currency) = (&config.payments, &*config.ledger.currency);
        let mut rates = payments.rates.0.clone();
        if rates.is_empty() {
            rates.push((currency.to_owned(), PPM));
        }
        let target = |name, url: &str| Target::parse(url).map_err(|why| (name, why));
        let mut providers: Vec<Arc<dyn PaymentProvider>> = Vec::new();
        if let (Some(key), Some(secret), Some(url)) =
            (&payments.stripe_key, &payments.stripe_webhook_secret, &payments.stripe_url)
        {
            providers.push(Arc::new(Stripe {
                key: key.clone(),
                webhook_secret: secret.clone(),
                account: payments.stripe_account.as_deref().map(Into::into),
                tolerance_ms: payments.stripe_tolerance_ms,
                target: target("stripe_url", url)?,
            }));
        }
        if let (Some(url), Some(merchant), Some(key)) =
            (&payments.epay_url, &payments.epay_merchant, &payments.epay_key)
        {
            providers.push(Arc::new(Epay {
                url: url.trim_end_matches('/').into(),
                target: target("epay_url", url)?,
                merchant: merchant.as_str().into(),
                key: key.clone(),
                currency: payments.epay_currency.as_str().into(),
                variant: payments.epay_signature,
            }));
        }
        if payments.transfer {
            providers.push(Arc::new(Transfer));
        }
        let amount = |text: &str| Nano::parse_decimal(text).unwrap_or_default();
        let public_url = config.public_url();
        Ok(Settings {
            currency: currency.into(),
            rates,
            order_min: amount(&payments.order_min),
            order_max: amount(&payments.order_max),
            order_ttl_ms: i64::try_from(payments.order_ttl_ms).unwrap_or(i64::MAX),
            poll_ms: i64::try_from(payments.poll_ms).unwrap_or(i64::MAX),
            transfer_to: payments.transfer_to.as_deref().map(Into::into),
            links: Links {
                return_url: payments.return_url.clone().unwrap_or_else(|| format!("{public_url}/")).into(),
                public_url: public_url.into(),
            },
            providers,
        })
    }

    pub fn provider(&self, name: &str) -> Option<&Arc<dyn PaymentProvider>> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    pub fn rate(&self, currency: &str) -> Option<u64> {
        self.rates.iter().find(|(known, _)| known == currency).map(|(_, rate)| *rate)
    }
}
