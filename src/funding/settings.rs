//! What the configuration says about payments.

use std::fmt;
use std::sync::Arc;

use ledger::Nano;

use super::provider::rsa::{NamedKey, SigningKey, VerifyingKey};
use super::provider::wechat::SealKey;
use super::provider::{Alipay, Epay, PaymentProvider, Stripe, Transfer, Wechat};
use crate::config::{Config, Payments};
use crate::directory::decimal::PPM;
use crate::gateway::upstream::{Target, TargetError};
use crate::secret::Secret;

/// See the module.
#[derive(Clone)]
pub struct Settings {
    /// Of the ledger.
    pub currency: Box<str>,
    /// Currency → millionths of it for one unit of the ledger's. The first is what an order is paid in unless it says.
    pub rates: Vec<(String, u64)>,
    pub order_min: Nano,
    pub order_max: Nano,
    /// Of one account.
    pub open_orders_max: u64,
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

/// A setting that no provider can be made of.
#[derive(Debug)]
pub struct SettingsError {
    pub setting: &'static str,
    pub why: Unusable,
}

#[derive(Debug)]
pub enum Unusable {
    Address(TargetError),
    /// The rules of the setting let none through that is no key.
    Key,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Unusable::Address(why) => write!(f, "payments.{}: {why}", self.setting),
            Unusable::Key => write!(f, "payments.{}: is not a key that can be used", self.setting),
        }
    }
}

impl std::error::Error for SettingsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.why {
            Unusable::Address(why) => Some(why),
            Unusable::Key => None,
        }
    }
}

fn target(setting: &'static str, url: &str) -> Result<Target, SettingsError> {
    Target::parse(url).map_err(|why| SettingsError { setting, why: Unusable::Address(why) })
}

fn key<K>(setting: &'static str, key: Option<K>) -> Result<K, SettingsError> {
    key.ok_or(SettingsError { setting, why: Unusable::Key })
}

impl Settings {
    pub fn from_config(config: &Config) -> Result<Self, SettingsError> {
        let (payments, currency) = (&config.payments, &*config.ledger.currency);
        let mut rates = payments.rates.0.clone();
        if rates.is_empty() {
            rates.push((currency.to_owned(), PPM));
        }
        let public_url = config.public_url();
        let links = Links {
            return_url: payments.return_url.clone().unwrap_or_else(|| format!("{public_url}/")).into(),
            public_url: public_url.into(),
        };
        let amount = |text: &str| Nano::parse_decimal(text).unwrap_or_default();
        Ok(Settings {
            currency: currency.into(),
            rates,
            order_min: amount(&payments.order_min),
            order_max: amount(&payments.order_max),
            open_orders_max: u64::from(payments.open_orders_max),
            order_ttl_ms: i64::try_from(payments.order_ttl_ms).unwrap_or(i64::MAX),
            poll_ms: i64::try_from(payments.poll_ms).unwrap_or(i64::MAX),
            transfer_to: payments.transfer_to.as_deref().map(Into::into),
            providers: providers(payments, &links)?,
            links,
        })
    }

    pub fn provider(&self, name: &str) -> Option<&Arc<dyn PaymentProvider>> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    pub fn rate(&self, currency: &str) -> Option<u64> {
        self.rates.iter().find(|(known, _)| known == currency).map(|(_, rate)| *rate)
    }
}

/// Those that are set up. That a provider's settings are whole was seen to when they were read.
fn providers(payments: &Payments, links: &Links) -> Result<Vec<Arc<dyn PaymentProvider>>, SettingsError> {
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
    if let (Some(app_id), Some(own), Some(theirs), Some(url)) = (
        &payments.alipay_app_id,
        &payments.alipay_private_key,
        &payments.alipay_public_key,
        &payments.alipay_url,
    ) {
        providers.push(Arc::new(Alipay {
            url: url.trim_end_matches('/').into(),
            target: target("alipay_url", url)?,
            app_id: app_id.as_str().into(),
            seller: payments.alipay_seller.as_deref().map(Into::into),
            key: key("alipay_private_key", SigningKey::parse(own))?,
            platform: key("alipay_public_key", VerifyingKey::parse(theirs.expose()))?,
        }));
    }
    if let Some(app_id) = &payments.wechat_app_id {
        providers.push(Arc::new(wechat(payments, app_id, links)?));
    }
    if payments.transfer {
        providers.push(Arc::new(Transfer));
    }
    Ok(providers)
}

fn wechat(payments: &Payments, app_id: &str, links: &Links) -> Result<Wechat, SettingsError> {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    let own = payments.wechat_private_key.as_ref().and_then(SigningKey::parse);
    let seal = payments.wechat_v3_key.as_ref().and_then(SealKey::parse);
    let theirs = |keys: &Secret| NamedKey::parse_all(keys.expose(), payments.wechat_platform_id.as_deref());
    Ok(Wechat {
        target: target("wechat_url", payments.wechat_url.as_deref().unwrap_or_default())?,
        app_id: app_id.into(),
        merchant: text(&payments.wechat_merchant),
        serial: text(&payments.wechat_serial),
        key: key("wechat_private_key", own)?,
        seal: key("wechat_v3_key", seal)?,
        platform: key("wechat_platform_key", payments.wechat_platform_key.as_ref().and_then(theirs))?,
        tolerance_ms: payments.wechat_tolerance_ms,
        callback: links.callback("wechat").into(),
    })
}
