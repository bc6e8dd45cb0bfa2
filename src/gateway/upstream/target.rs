//! Where a call goes: a base URL, taken apart once.
//!
//! For: channels hold one [`Target`] each, so that no call parses a URL or a server name.
//! Promises: a target that parsed can be connected to and written into a request as it is.
//! Must never: accept a base URL with credentials, a query or a fragment in it.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use rustls_pki_types::ServerName;

/// Longest base URL, in bytes.
pub const BASE_URL_BYTES_MAX: usize = 2_048;

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Ip(IpAddr),
    Name(String),
}

/// Scheme, host and port: what connections are pooled by.
#[derive(Debug)]
pub(super) struct Origin {
    /// `https://host:port`, lower case: the key of the pool.
    pub key: String,
    pub address: Address,
    pub port: u16,
    /// `host`, or `host:port` where the port is not the scheme's own: the Host header.
    pub authority: String,
    /// The name that the certificate must carry; `None` for plain HTTP.
    pub tls_name: Option<ServerName<'static>>,
    /// The HTTP proxy through which it is reached.
    pub proxy: Option<Proxy>,
    /// Whether it is called only at an address of the public internet, whatever its name resolves to.
    pub public_only: bool,
}

/// An HTTP proxy that opens tunnels (CONNECT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub address: Address,
    pub port: u16,
}

/// A base URL, ready to send to. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    pub(super) origin: Arc<Origin>,
    /// Path of the base URL without a trailing slash; empty for none.
    pub(super) prefix: Arc<str>,
}

/// Why a base URL cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// Not an absolute URL, or longer than [`BASE_URL_BYTES_MAX`].
    NotAUrl,
    /// Neither `http` nor `https`.
    Scheme,
    /// No host, or one that no certificate can name.
    Host,
    /// `user:password@` belongs into the channel's credentials.
    Credentials,
    /// A query or a fragment cannot be the beginning of a path.
    QueryOrFragment,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAUrl => "not an absolute URL",
            Self::Scheme => "the scheme must be http or https",
            Self::Host => "no usable host name",
            Self::Credentials => "no user name or password may be in the URL",
            Self::QueryOrFragment => "no query and no fragment may be in the URL",
        })
    }
}

impl Error for TargetError {}

impl Target {
    /// Takes a base URL apart, e.g. `https://api.example.com/v1`. A trailing slash makes no
    /// difference.
    pub fn parse(base_url: &str) -> Result<Self, TargetError> {
        if base_url.len() > BASE_URL_BYTES_MAX {
            return Err(TargetError::NotAUrl);
        }
        if base_url.contains(['?', '#']) {
            return Err(TargetError::QueryOrFragment);
        }
        let url: Uri = base_url.parse().map_err(|_| TargetError::NotAUrl)?;
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(TargetError::Scheme),
            None => return Err(TargetError::NotAUrl),
        };
        let authority = url.authority().ok_or(TargetError::Host)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::Credentials);
        }
        let origin = Origin::new(https, authority.host(), authority.port_u16())?;
        if origin.port == 0 || (authority.port().is_none() && authority.as_str().ends_with(':')) {
            return Err(TargetError::Host);
        }
        Ok(Self { origin: Arc::new(origin), prefix: url.path().trim_end_matches('/').into() })
    }

    /// The same, reached through an HTTP proxy: `http://host:port`, without a path or a password. Connections through a
    /// proxy are pooled apart from others.
    pub fn parse_via(base_url: &str, proxy: &str) -> Result<Self, TargetError> {
        let (target, proxy) = (Self::parse(base_url)?, Self::parse(proxy)?);
        if proxy.is_https() {
            return Err(TargetError::Scheme);
        }
        if !proxy.prefix.is_empty() {
            return Err(TargetError::NotAUrl);
        }
        let origin = Origin {
            key: format!("{} via {}", target.origin.key, proxy.origin.key),
            address: target.origin.address.clone(),
            port: target.origin.port,
            authority: target.origin.authority.clone(),
            tls_name: target.origin.tls_name.clone(),
            proxy: Some(Proxy { address: proxy.origin.address.clone(), port: proxy.origin.port }),
            public_only: target.origin.public_only,
        };
        Ok(Self { origin: Arc::new(origin), ..target })
    }

    /// The same, called only at an address of the public internet: where a stranger has led to it. Connections to it are
    /// pooled apart from others. Where a proxy is in between, it looks the name up.
    #[must_use]
    pub fn public_only(self) -> Self {
        let known = &*self.origin;
        let origin = Origin {
            key: format!("{} in public", known.key),
            address: known.address.clone(),
            port: known.port,
            authority: known.authority.clone(),
            tls_name: known.tls_name.clone(),
            proxy: known.proxy.clone(),
            public_only: true,
        };
        Self { origin: Arc::new(origin), ..self }
    }

    /// Whether calls to it are encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.origin.tls_name.is_some()
    }
}

impl Origin {
    fn new(https: bool, host: &str, port: Option<u16>) -> Result<Self, TargetError> {
        let host = host.to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&host);
        let address = match bare.parse::<IpAddr>() {
            Ok(ip) => Address::Ip(ip),
            Err(_) if bare.is_empty() || bare.len() != host.len() => return Err(TargetError::Host),
            Err(_) => Address::Name(bare.to_owned()),
        };
        let tls_name = match https {
            true => Some(ServerName::try_from(bare.to_owned()).map_err(|_| TargetError::Host)?),
            false => None,
        };
        let usual = if https { 443 } else { 80 };
        let port = port.unwrap_or(usual);
        let scheme = if https { "https" } else { "http" };
        let authority = if port == usual { host.clone() } else { format!("{host}:{port}") };
        Ok(Self {
            key: format!("{scheme}://{host}:{port}"),
            address,
            port,
            authority,
            tls_name,
            proxy: None,
            public_only: false,
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}{})", self.origin.key, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_plain_address() {
        let through = |proxy: &str| Target::parse_via("https://api.example.com/v1", proxy);
        let target = through("http://proxy.example:3128/").unwrap();
        assert_eq!(target.origin.key, "https://api.example.com:443 via http://proxy.example:3128");
        assert_eq!((target.origin.authority.as_str(), &*target.prefix), ("api.example.com", "/v1"));
        assert_eq!(through("https://proxy.example").unwrap_err(), TargetError::Scheme);
        assert_eq!(through("http://user:secret@proxy.example").unwrap_err(), TargetError::Credentials);
        assert_eq!(through("http://proxy.example/path").unwrap_err(), TargetError::NotAUrl);
    }

    #[test]
    fn a_base_url_is_taken_apart() {
        let target = Target::parse("https://API.Example.com/v1/").unwrap();
        assert_eq!(target.origin.key, "https://api.example.com:443");
        assert_eq!(target.origin.authority, "api.example.com");
        assert_eq!(&*target.prefix, "/v1");
        assert!(target.is_https());

        let target = Target::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!(target.origin.authority, "127.0.0.1:8080");
        assert_eq!(target.origin.address, Address::Ip([127, 0, 0, 1].into()));
        assert_eq!(&*target.prefix, "");
        assert!(!target.is_https());

        let target = Target::parse("https://[::1]:8443/a/b").unwrap();
        assert_eq!(target.origin.authority, "[::1]:8443");
        assert_eq!(target.origin.address, Address::Ip("::1".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_a_base_url_is_refused_with_its_reason() {
        for (text, why) in [
            ("", TargetError::NotAUrl),
            ("api.example.com", TargetError::NotAUrl),
            ("/v1", TargetError::NotAUrl),
            ("ftp://example.com", TargetError::Scheme),
            ("https://user:pass@example.com", TargetError::Credentials),
            ("https://example.com/v1?x=1", TargetError::QueryOrFragment),
            ("https://example.com/v1#x", TargetError::QueryOrFragment),
            ("https://exa mple.com/", TargetError::NotAUrl),
            ("http://example.com:0/", TargetError::Host),
            ("http://[zz]/", TargetError::NotAUrl),
        ] {
            let got = Target::parse(text).map(|t| format!("{t:?}"));
            assert!(
                got.as_ref() == Err(&why) || (got.is_err() && why == TargetError::NotAUrl),
                "{text}: {got:?}"
            );
        }
        assert_eq!(
            Target::parse(&format!("http://a/{}", "x".repeat(3_000))).err(),
            Some(TargetError::NotAUrl)
        );
    }
}
