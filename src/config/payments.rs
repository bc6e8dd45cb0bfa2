//! What the settings of payment providers must be together.

use std::net::IpAddr;

use http::Uri;

use super::Payments;
use crate::secret::Secret;

/// Section, field, what is wrong.
type Wrong = (&'static str, &'static str, String);

/// A provider that calls back: its name, where it is, and whether it calls encrypted addresses alone.
struct Calling<'p> {
    name: &'static str,
    url: &'p str,
    needs_https: bool,
}

impl Payments {
    pub(super) fn check(&self, public_url: &str) -> Result<(), Wrong> {
        self.check_complete()?;
        self.calling().iter().try_for_each(|provider| check_callbacks(provider, public_url))
    }

    /// A provider without its secret would take anybody's word for money (S37).
    fn check_complete(&self) -> Result<(), Wrong> {
        let text = |value: &Option<String>| value.as_deref().is_some_and(|text| !text.is_empty());
        let secret = Option::<Secret>::is_some;
        let is_key =
            self.wechat_platform_key.as_ref().is_some_and(|key| !key.expose().contains("CERTIFICATE"));
        let groups: [&[(&'static str, bool)]; 4] = [
            &[
                ("stripe_key", secret(&self.stripe_key)),
                ("stripe_webhook_secret", secret(&self.stripe_webhook_secret)),
            ],
            &[
                ("epay_url", text(&self.epay_url)),
                ("epay_merchant", text(&self.epay_merchant)),
                ("epay_key", secret(&self.epay_key)),
            ],
            &[
                ("alipay_app_id", text(&self.alipay_app_id)),
                ("alipay_private_key", secret(&self.alipay_private_key)),
                ("alipay_public_key", secret(&self.alipay_public_key)),
            ],
            &[
                ("wechat_app_id", text(&self.wechat_app_id)),
                ("wechat_merchant", text(&self.wechat_merchant)),
                ("wechat_serial", text(&self.wechat_serial)),
                ("wechat_private_key", secret(&self.wechat_private_key)),
                ("wechat_v3_key", secret(&self.wechat_v3_key)),
                ("wechat_platform_key", secret(&self.wechat_platform_key)),
                (
                    "wechat_platform_id",
                    text(&self.wechat_platform_id) || (!is_key && self.wechat_platform_key.is_some()),
                ),
            ],
        ];
        for group in groups {
            let missing = group.iter().find(|(_, is_set)| !is_set);
            let given = group.iter().find(|(_, is_set)| *is_set);
            if let (Some((missing, _)), Some((given, _))) = (missing, given) {
                return Err(("payments", missing, format!("is needed too: {given} is set")));
            }
        }
        Ok(())
    }

    fn calling(&self) -> Vec<Calling<'_>> {
        let providers = [
            ("stripe", self.stripe_key.is_some(), &self.stripe_url, true),
            ("epay", self.epay_key.is_some(), &self.epay_url, false),
            ("alipay", self.alipay_app_id.is_some(), &self.alipay_url, false),
            ("wechat", self.wechat_app_id.is_some(), &self.wechat_url, true),
        ];
        let set = providers.into_iter().filter(|(_, is_set, ..)| *is_set);
        set.filter_map(|(name, _, url, needs_https)| {
            Some(Calling { name, url: url.as_deref()?, needs_https })
        })
        .collect()
    }
}

/// Whether the provider can call what it is told to call. One on this machine or net may call here by any address.
fn check_callbacks(provider: &Calling<'_>, public_url: &str) -> Result<(), Wrong> {
    let wrong = |why: &str| {
        let Calling { name, .. } = provider;
        Err((
            "server",
            "public_url",
            format!("{public_url} {why}: {name} calls back at {public_url}/callbacks/{name}"),
        ))
    };
    if public_url.contains(['?', '#']) {
        return wrong("has a query or a fragment");
    }
    if is_near(provider.url) {
        return Ok(());
    }
    if is_near(public_url) {
        return wrong("cannot be reached from the internet");
    }
    if provider.needs_https && !public_url.starts_with("https://") {
        return wrong("does not begin with https://");
    }
    Ok(())
}

/// An address on this machine or in a private net.
fn is_near(url: &str) -> bool {
    let Some(host) = url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_ascii_lowercase)) else {
        return false;
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
        }
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        Err(_) => bare == "localhost" || bare.ends_with(".localhost"),
    }
}
