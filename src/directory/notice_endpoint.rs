//! Where notices are sent to, beside the notification centre: a webhook or a mail address.

use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::is_public;
use crate::catalogue::Language;
use crate::id::{AccountId, NoticeEndpointId};
use crate::notices::Event;

use super::checks;
use super::error::{FieldError, Kind};
use super::rules::{Document, Owner, UniqueName, present, unchanged};
use super::snapshot::{Object, Snapshot};

/// Each notice of an account goes to every endpoint of it: not without bound.
const ENDPOINTS_PER_OWNER_MAX: usize = 20;
const URL_BYTES_MAX: usize = 2_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeEndpoint {
    pub id: NoticeEndpointId,
    /// Whose notices it gets; unset: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    pub name: Box<str>,
    pub target: NoticeTarget,
    /// Whether a member named the target: then it is called on the public internet alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_member: bool,
    /// What a webhook's notices are signed with, sealed with the master key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Box<str>>,
    /// Of title and text.
    #[serde(default)]
    pub language: Language,
    /// Empty: all, those that later versions add among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    #[serde(default)]
    pub status: EndpointStatus,
    pub created_at: Timestamp,
}

/// A webhook stays a webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "channel", rename_all = "snake_case")]
pub enum NoticeTarget {
    Webhook { url: Box<str> },
    Mail { address: Box<str> },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointStatus {
    #[default]
    Enabled,
    Disabled,
}

impl NoticeEndpoint {
    /// Whether it gets the notices of this owner about this event.
    pub fn takes(&self, owner: Option<AccountId>, event: Event) -> bool {
        self.account == owner
            && self.status == EndpointStatus::Enabled
            && (self.events.is_empty() || self.events.contains(&event))
    }
}

impl NoticeTarget {
    pub fn channel(&self) -> &'static str {
        match self {
            NoticeTarget::Webhook { .. } => "webhook",
            NoticeTarget::Mail { .. } => "mail",
        }
    }

    /// Whether it names the gateway's own machine or an address of no public network: for operators alone to name,
    /// because what listens there may trust whoever can call it. What a name resolves to is looked at when it is called.
    pub fn is_in_the_house(&self) -> bool {
        match self {
            NoticeTarget::Webhook { url } => url.parse::<Uri>().is_ok_and(|url| {
                let host = bare(url.host().unwrap_or_default());
                url.scheme_str() == Some("http")
                    || is_localhost(host)
                    || host.parse::<IpAddr>().is_ok_and(|address| !is_public(address))
            }),
            NoticeTarget::Mail { .. } => false,
        }
    }
}

impl Document for NoticeEndpoint {
    const KIND: Kind = Kind::NoticeEndpoint;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        self.account.map_or(Owner::Operator, Owner::Account)
    }

    /// Unique within its account, or among the operator's.
    fn unique_names(&self) -> Vec<UniqueName> {
        let owner = self.account.map(|account| account.to_string()).unwrap_or_default();
        vec![UniqueName::new("notice_endpoint", "name", format!("{owner}/{}", self.name))]
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        unchanged("account", before.map(|before| &before.account), &self.account)?;
        if let Some(account) = self.account {
            present("account", snapshot.account(account), account)?;
        }
        let channel = self.target.channel();
        unchanged("channel", before.map(|before| before.target.channel()).as_ref(), &channel)?;
        let of_owner = snapshot.notice_endpoints().filter(|endpoint| endpoint.account == self.account);
        if before.is_none() && of_owner.count() >= ENDPOINTS_PER_OWNER_MAX {
            return Err(FieldError::new("account", "has 20 notice endpoints already"));
        }
        checks::distinct("events", &self.events)?;
        match (&self.target, &self.secret) {
            (NoticeTarget::Webhook { url }, Some(_)) => webhook_url("url", url),
            (NoticeTarget::Mail { address }, None) => checks::email("address", address),
            (NoticeTarget::Webhook { .. }, None) => Err(FieldError::new("secret", "is missing")),
            (NoticeTarget::Mail { .. }, Some(_)) => Err(FieldError::new("secret", "is for a webhook alone")),
        }
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::NoticeEndpoint(self)
    }
}

/// Encrypted, or on this machine. May have a query.
fn webhook_url(field: &str, text: &str) -> Result<(), FieldError> {
    let refuse = |why: &str| Err(FieldError::new(field, why));
    if text.len() > URL_BYTES_MAX {
        return refuse("must not be longer than 2,000 bytes");
    }
    let Ok(uri) = text.parse::<Uri>() else { return refuse("is not a URL") };
    let Some(authority) = uri.authority() else { return refuse("must be a whole URL with a host") };
    if authority.as_str().contains('@') {
        return refuse("must not hold a user name or a password");
    }
    if authority.host().is_empty() {
        return refuse("must have a host");
    }
    if text.contains('#') {
        return refuse("must not have a fragment");
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(authority.host()) => Ok(()),
        _ => refuse("must begin with https:// (http:// is for this machine alone)"),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = bare(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// RFC 6761, section 6.3.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_an_address_of_the_house_is_known_however_it_is_written() {
        let webhook = |url: &str| NoticeTarget::Webhook { url: url.into() };
        for url in [
            "http://hooks.example.com/",
            "https://169.254.169.254/latest",
            "https://10.0.0.1:8443/",
            "https://[::1]/",
            "https://[::ffff:192.168.0.1]/",
            "https://[fd00::1]/",
            "https://LocalHost./",
            "https://a.localhost/",
        ] {
            assert!(webhook(url).is_in_the_house(), "{url}");
        }
        for url in ["https://hooks.example.com/", "https://1.1.1.1/", "https://[2606:4700::1111]/"] {
            assert!(!webhook(url).is_in_the_house(), "{url}");
        }
    }

    #[test]
    fn i3_a_webhook_is_encrypted_or_on_this_machine() {
        let good = [
            "https://hooks.example.com/tallygate?team=1",
            "https://hooks.example.com",
            "http://127.0.0.1:9000/hook",
            "http://[::1]:9000/hook",
            "http://localhost/hook",
        ];
        for url in good {
            assert_eq!(webhook_url("url", url), Ok(()), "{url}");
        }
        let bad = [
            "",
            "/hook",
            "hooks.example.com",
            "http://hooks.example.com/hook",
            "http://127.0.0.1.example.com/hook",
            "ftp://127.0.0.1/hook",
            "https://user:pw@hooks.example.com/hook",
            "https://hooks.example.com/hook#part",
            "https:///hook",
        ];
        for url in bad {
            assert!(webhook_url("url", url).is_err(), "{url}");
        }
    }
}
