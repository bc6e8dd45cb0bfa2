//! Where an admitted call goes: a channel's address and credential, made ready once per worker and change.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use http::{HeaderName, HeaderValue, header};

use crate::app::App;
use crate::directory::{Channel, Model};
use crate::id::ChannelId;
use crate::secret::Secret;

use super::channel_health::Health;
use super::convert::Format;
use super::facts::Endpoint;
use super::upstream::Target;

/// A channel that can be called.
pub struct Route {
    pub channel: Arc<Channel>,
    pub target: Target,
    /// What other workers know of it, too.
    pub health: Arc<Health>,
    /// What its upstream speaks.
    pub format: Format,
    /// What is sent with every call, for each of the channel's credentials.
    headers: Vec<Headers>,
}

/// What is shorter is no secret, and may be part of a word.
const SECRET_BYTES_MIN: usize = 6;

type Headers = Vec<(HeaderName, HeaderValue)>;

impl Route {
    /// Sent with every call that uses this credential: the credential itself and the content type.
    pub fn headers(&self, credential: usize) -> &[(HeaderName, HeaderValue)] {
        self.headers.get(credential).map_or(&[], Vec::as_slice)
    }

    /// Takes the credential out of words of the upstream, which may quote it: they are kept with the call, and shown.
    pub fn hide_credential(&self, credential: usize, words: &mut Box<str>) {
        let value = self.headers(credential).first().and_then(|(_, value)| value.to_str().ok());
        let secret = value.map(|value| value.strip_prefix("Bearer ").unwrap_or(value)).unwrap_or_default();
        if secret.len() >= SECRET_BYTES_MIN && words.contains(secret) {
            *words = words.replace(secret, "[hidden]").into();
        }
    }

    /// What the upstream is asked in for a call. OpenAI's has two formats of chat: a model that has both is asked in
    /// the caller's, and one that has a single one in that.
    pub fn speaks(&self, endpoint: Endpoint, model: &Model) -> Format {
        let has = |endpoint: Endpoint| model.endpoints().any(|known| known == endpoint.path());
        let is_chat = endpoint.format().is_some();
        let of_responses = endpoint == Endpoint::Responses || !has(Endpoint::ChatCompletions);
        match self.format {
            Format::OpenAi if is_chat && of_responses && has(Endpoint::Responses) => Format::Responses,
            own => own,
        }
    }

    /// The place of a credential to use for a model now, of those that `may` be.
    pub fn credential(&self, model: &str, now_ns: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        self.health.credential(model, self.headers.len(), now_ns, may)
    }
}

/// The routes of one worker.
#[derive(Default)]
pub struct Routes {
    known: RefCell<HashMap<ChannelId, Rc<Route>>>,
}

impl Routes {
    /// The route of a channel; made anew when the channel has changed. The error is for operators.
    pub fn get(&self, channel: &Arc<Channel>, app: &App) -> Result<Rc<Route>, String> {
        let mut known = self.known.borrow_mut();
        if let Some(route) = known.get(&channel.id)
            && Arc::ptr_eq(&route.channel, channel)
        {
            return Ok(Rc::clone(route));
        }
        let target = match &channel.proxy {
            None => Target::parse(&channel.base_url),
            Some(proxy) => Target::parse_via(&channel.base_url, proxy),
        };
        let target = target.map_err(|why| why.to_string())?;
        let credentials = app.directory.credentials(channel).map_err(|why| why.to_string())?;
        let format = channel.provider.format();
        let headers = credentials
            .iter()
            .map(|credential| credential_headers(format, credential))
            .collect::<Result<_, _>>()?;
        let health = app.channels.of(channel);
        let route = Rc::new(Route { channel: Arc::clone(channel), target, health, format, headers });
        known.insert(channel.id, Rc::clone(&route));
        Ok(route)
    }
}

/// The version of Anthropic's API that its format here is of.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// What is sent with every question: the credential stands where the format has it.
pub(crate) fn credential_headers(format: Format, credential: &Secret) -> Result<Headers, String> {
    let (name, text) = match format {
        Format::OpenAi | Format::DeepSeek | Format::Responses => {
            (header::AUTHORIZATION, format!("Bearer {}", credential.expose()))
        }
        Format::Anthropic => (HeaderName::from_static("x-api-key"), credential.expose().to_owned()),
        Format::Gemini => (HeaderName::from_static("x-goog-api-key"), credential.expose().to_owned()),
    };
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| "the credential is no header value".to_owned())?;
    value.set_sensitive(true);
    let mut headers = vec![
        (name, value),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::USER_AGENT, HeaderValue::from_static(concat!("tallygate/", env!("CARGO_PKG_VERSION")))),
    ];
    if format == Format::Anthropic {
        let version = HeaderValue::from_static(ANTHROPIC_VERSION);
        headers.push((HeaderName::from_static("anthropic-version"), version));
    }
    Ok(headers)
}
