//! Fetching what a task made from where its upstream has it, wherever that leads.
//!
//! Promises: an answer that leads on is followed a few times; the provider's credential never goes to another origin than
//! the one that it is for; in clear text only the upstream's own origin is asked, and behind an answer that leads on
//! no address but one of the public internet, unless it is on the upstream's own host: nobody is led to what else this
//! machine can reach.

use std::fmt;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::service::AGENT;
use crate::gateway::upstream::{Answer, Call, ForwardError, Target, TargetError, Upstreams};

/// How often an answer may lead on.
const REDIRECTS_MAX: usize = 3;

/// Where a result is to be fetched.
pub struct There {
    url: Url,
    target: Target,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Of the channel, which says what may be asked.
    base: Url,
    proxy: Option<Box<str>>,
}

/// Without its query, which may be all that is needed to fetch it.
impl fmt::Debug for There {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "There({:?})", self.target)
    }
}

/// Why nothing was fetched.
#[derive(Debug)]
pub enum FetchError {
    Forward(ForwardError),
    /// It leads to where nobody may be led.
    Led(&'static str),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Forward(why) => write!(f, "{why}"),
            FetchError::Led(why) => write!(f, "its answer leads on, and {why}"),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FetchError::Forward(why) => Some(why),
            FetchError::Led(_) => None,
        }
    }
}

impl There {
    /// Below the channel's own address, with its headers. The error is for operators.
    pub(super) fn at_the_upstream(
        base: &str,
        path: &str,
        proxy: Option<&str>,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Self, String> {
        let url = parsed(&format!("{}{path}", base.trim_end_matches('/')))?;
        There::new(url, base, proxy, headers)
    }

    /// An address that the upstream told. In clear text only its own origin is asked.
    pub(super) fn told(address: &str, base: &str, proxy: Option<&str>) -> Result<Self, String> {
        let there = There::new(parsed(address)?, base, proxy, plain_headers())?;
        there.is_fit(&there.url).map_err(str::to_owned)?;
        Ok(there)
    }

    fn new(
        url: Url,
        base: &str,
        proxy: Option<&str>,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Self, String> {
        let target = target(&url, proxy).map_err(|why| why.to_string())?;
        Ok(There { url, target, headers, base: parsed(base)?, proxy: proxy.map(Into::into) })
    }

    /// The answer of whoever has it, whatever its status is.
    pub async fn fetch(mut self, via: &Upstreams) -> Result<Answer, FetchError> {
        for _ in 0..=REDIRECTS_MAX {
            let path = self.path();
            let (target, headers) = (&self.target, &*self.headers);
            let call = Call { target, method: Method::GET, path: &path, headers, body: Bytes::new() };
            let answer = via.send(call).await.map_err(FetchError::Forward)?;
            let leads_on = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(place) = answer.headers.value("location").filter(|_| leads_on) else {
                return Ok(answer);
            };
            self = self.led(place.to_str().map_err(|_| FetchError::Led("the place is no text"))?)?;
        }
        Err(FetchError::Led("it does so too often"))
    }

    fn led(self, place: &str) -> Result<Self, FetchError> {
        let mut url = self.url.join(place).map_err(|_| FetchError::Led("the place is no address"))?;
        url.set_fragment(None);
        self.is_fit(&url).map_err(FetchError::Led)?;
        let target = target(&url, self.proxy.as_deref());
        let target = target.map_err(|_| FetchError::Led("the place is no address that can be asked"))?;
        let target = if url.host() == self.base.host() { target } else { target.public_only() };
        let headers = if url.origin() == self.url.origin() { self.headers } else { plain_headers() };
        Ok(There { url, target, headers, base: self.base, proxy: self.proxy })
    }

    fn is_fit(&self, url: &Url) -> Result<(), &'static str> {
        if url.scheme() == "https" || url.origin() == self.base.origin() {
            return Ok(());
        }
        Err("it is in clear text, and not the upstream's own")
    }

    fn path(&self) -> String {
        match self.url.query() {
            None => self.url.path().to_owned(),
            Some(query) => format!("{}?{query}", self.url.path()),
        }
    }
}

fn parsed(address: &str) -> Result<Url, String> {
    let mut url: Url = address.parse().map_err(|_| "it is no URL".to_owned())?;
    url.set_fragment(None);
    Ok(url)
}

/// The origin alone; a name and a password in it are refused.
fn target(url: &Url, proxy: Option<&str>) -> Result<Target, TargetError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TargetError::Credentials);
    }
    let origin = url.origin().ascii_serialization();
    match proxy {
        None => Target::parse(&origin),
        Some(proxy) => Target::parse_via(&origin, proxy),
    }
}

/// Without anything that only the upstream may see.
fn plain_headers() -> Vec<(HeaderName, HeaderValue)> {
    vec![(USER_AGENT, HeaderValue::from_static(AGENT))]
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;

    fn there(base: &str) -> There {
        let headers = vec![(AUTHORIZATION, HeaderValue::from_static("Bearer secret"))];
        There::at_the_upstream(base, "/videos/v/content?variant=video", None, headers).unwrap()
    }

    #[test]
    fn g1_an_answer_leads_on_without_the_credential_and_not_anywhere() {
        let base = "https://api.example.com/v1/";
        let at = there(base);
        assert_eq!(
            (at.url.as_str(), at.path().as_str()),
            (
                "https://api.example.com/v1/videos/v/content?variant=video",
                "/v1/videos/v/content?variant=video",
            )
        );
        for (place, leads_to, keeps) in [
            ("/files/1?a=b#c", "https://api.example.com/files/1?a=b", true),
            ("other", "https://api.example.com/v1/videos/v/other", true),
            ("//cdn.example.net/x", "https://cdn.example.net/x", false),
            ("https://cdn.example.net/x?sig=1", "https://cdn.example.net/x?sig=1", false),
            ("https://api.example.com:8443/x", "https://api.example.com:8443/x", false),
        ] {
            let led = there(base).led(place).unwrap();
            assert_eq!(led.url.as_str(), leads_to);
            assert_eq!(led.headers.iter().any(|(name, _)| *name == AUTHORIZATION), keeps, "{place}");
        }
        for place in [
            "http://api.example.com/x",
            "http://169.254.169.254/latest",
            "ftp://api.example.com/x",
            "https://user:word@cdn.example.net/x",
            "file:///etc/passwd",
            "https://",
        ] {
            assert!(there(base).led(place).is_err(), "{place}");
        }
        // Back to where it came from: it was let go of.
        let back =
            there(base).led("https://cdn.example.net/x").unwrap().led("https://api.example.com/y").unwrap();
        assert!(!back.headers.iter().any(|(name, _)| *name == AUTHORIZATION));
        // An upstream in clear text may lead on in its own origin alone.
        let near = "http://127.0.0.1:8080/v1";
        assert!(there(near).led("http://127.0.0.1:8080/x").is_ok());
        assert!(there(near).led("http://127.0.0.1:8081/x").is_err());
        assert!(!format!("{:?}", there(near)).contains("secret"));
    }
}
