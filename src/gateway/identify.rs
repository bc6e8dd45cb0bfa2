//! First step: what is asked for, and with whose key. Findings only; the ladder puts them in order.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, Uri, Version, header};

use crate::catalogue::{Code, Refusal, Shape};
use crate::config::Ranges;
use crate::directory::Directory;
use crate::keytext::{CredentialFinding, credential_from};

use super::facts::{CallBody, Checked, Client, Credential, Endpoint};
use super::request::{ModelRequest, RequestFault};
use super::respond;

/// Longest User-Agent that is kept, in bytes.
const SDK_BYTES_MAX: usize = 128;
/// Longest path that is shown back, in bytes.
const PATH_BYTES_SHOWN: usize = 200;

/// Where a request is going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A model call.
    Call(Endpoint),
    /// The list of models, or one of them.
    Models(Option<Box<str>>),
    /// What a task has made: which lane it is in, and its id.
    Content(Endpoint, Box<str>),
    /// The management API, self-service or a page.
    Elsewhere,
}

/// Below the version segment: what the caller may ask about itself. Served elsewhere.
const SELF_SERVICE: [&str; 8] =
    ["key", "requests/", "simulate", "dashboard/", "statement", "topups/", "videos/", "images/"];
/// Where tasks are submitted.
const LANES: [Endpoint; 2] = [Endpoint::Videos, Endpoint::Images];
const CALLS: [Endpoint; 14] = [
    Endpoint::ChatCompletions,
    Endpoint::Messages,
    Endpoint::Completions,
    Endpoint::Responses,
    Endpoint::Embeddings,
    Endpoint::ImageGenerations,
    Endpoint::ImageEdits,
    Endpoint::Speech,
    Endpoint::Transcriptions,
    Endpoint::Moderations,
    Endpoint::Rerank,
    Endpoint::Videos,
    Endpoint::Images,
    Endpoint::CountMessages,
];

/// The endpoint of a path below the version segment, if calls are taken there.
pub fn call_at(path: &str) -> Option<Endpoint> {
    CALLS.into_iter().find(|endpoint| endpoint.path() == path)
}

/// Gemini's addresses: `/v1beta/models/{model}:generateContent`. Its newer clients ask below `/v1`.
fn gemini(path: &str) -> Option<(&str, Endpoint)> {
    let below = ["/v1beta/", "/v1/", "/api/v1/"].into_iter().find_map(|base| path.strip_prefix(base))?;
    let (model, asked) = below.strip_prefix("models/")?.rsplit_once(':')?;
    let endpoints = [Endpoint::GenerateContent, Endpoint::StreamGenerateContent, Endpoint::CountContents];
    endpoints.into_iter().find(|endpoint| endpoint.path() == asked).map(|endpoint| (model, endpoint))
}

/// The model that an address names, where the format has it there.
pub fn named(endpoint: Endpoint, address: &Uri) -> Option<Result<Box<str>, RequestFault>> {
    let (model, _) = gemini(address.path())?;
    let mut alts = wishes(address, "alt");
    if endpoint == Endpoint::StreamGenerateContent && alts.any(|alt| alt != "sse" && alt != "json") {
        return Some(Err(ModelRequest::fault("alt", "`sse` or `json`", "another form of answer")));
    }
    // A plus is itself in a path.
    let escaped = format!("m={}", model.replace('+', "%2B").replace('&', "%26"));
    let name = form_urlencoded::parse(escaped.as_bytes()).next().map(|(_, name)| name.into_owned());
    Some(Ok(name.unwrap_or_default().into()))
}

/// Whether a stream is to come as Google has it without a wish: as a list that grows, and not as events.
pub fn wants_list(endpoint: Endpoint, address: &Uri) -> bool {
    endpoint == Endpoint::StreamGenerateContent && !wishes(address, "alt").any(|alt| alt == "sse")
}

fn wishes<'a>(address: &'a Uri, wish: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let query = address.query().unwrap_or_default().as_bytes();
    form_urlencoded::parse(query).filter(move |(name, _)| name == wish).map(|(_, value)| value)
}

/// How errors look to whoever calls this address.
pub fn shape(path: &str) -> Shape {
    if path.starts_with("/v1beta/") || gemini(path).is_some() {
        return Shape::Gemini;
    }
    let below = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/api/v1/"));
    below.and_then(call_at).map_or(Shape::OpenAi, respond::shape)
}

/// Reads method and path. HEAD is a GET whose answer has no body; the HTTP library leaves it out.
pub fn destination(method: &Method, path: &str, public_url: &str) -> Result<Destination, Refusal> {
    let is_get = matches!(*method, Method::GET | Method::HEAD);
    if let Some((_, endpoint)) = gemini(path) {
        return match *method {
            Method::POST => Ok(Destination::Call(endpoint)),
            _ => Err(wrong_method(path, method, "POST")),
        };
    }
    if let Some(below) = path.strip_prefix("/v1beta/") {
        let unknown = || Refusal::new(Code::UnknownEndpoint).param("path", shown(path));
        return match models(below) {
            Some(models) if is_get => Ok(models),
            // What is asked of a model stands behind a colon, and is nothing that there is.
            Some(_) if !below.contains(':') => Err(wrong_method(path, method, "GET")),
            Some(_) | None => Err(unknown()),
        };
    }
    let Some(below) = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/api/v1/")) else {
        return misplaced(path, public_url).map_or(Ok(Destination::Elsewhere), Err);
    };
    if let Some((lane, task)) = content(below) {
        let asked = Destination::Content(lane, task.into());
        return if is_get { Ok(asked) } else { Err(wrong_method(path, method, "GET")) };
    }
    if let Some(endpoint) = call_at(below) {
        return match *method {
            _ if is_get && endpoint.is_task() => Ok(Destination::Elsewhere),
            Method::POST => Ok(Destination::Call(endpoint)),
            _ => Err(wrong_method(path, method, "POST")),
        };
    }
    if let Some(models) = models(below) {
        return if is_get { Ok(models) } else { Err(wrong_method(path, method, "GET")) };
    }
    if SELF_SERVICE.iter().any(|known| below.starts_with(known)) {
        return Ok(Destination::Elsewhere);
    }
    Err(misplaced(path, public_url)
        .unwrap_or_else(|| Refusal::new(Code::UnknownEndpoint).param("path", shown(path))))
}

/// `models`, and `models/{name}`.
fn models(below: &str) -> Option<Destination> {
    let rest = below.strip_prefix("models").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    let name = rest.trim_start_matches('/');
    Some(Destination::Models((!name.is_empty()).then(|| name.into())))
}

/// `videos/{id}/content`, and the same of the other lane.
fn content(below: &str) -> Option<(Endpoint, &str)> {
    let in_lane = |lane: Endpoint| {
        let id = below.strip_prefix(lane.path())?.strip_prefix('/')?.strip_suffix("/content")?;
        Some((lane, id))
    };
    LANES.into_iter().find_map(in_lane)
}

/// An endpoint of the API under a base that is not one: `/v1` is missing, or there twice.
fn misplaced(path: &str, public_url: &str) -> Option<Refusal> {
    // `/api/models` is an address of its own, of the management API.
    let models = (path != "/api/models").then_some("models");
    let known = CALLS.iter().map(|endpoint| endpoint.path()).chain(models);
    let is_known = known.into_iter().any(|tail| {
        // A path of several words is nothing else, wherever it stands: below the console, or behind itself.
        let is_plain = |base: &str| base == "/" || base.ends_with("/v1/") || base == "/api/";
        path.strip_suffix(tail)
            .is_some_and(|base| is_plain(base) || (tail.contains('/') && base.ends_with('/')))
    });
    is_known.then(|| wrong_base_url(path, public_url))
}

fn wrong_base_url(path: &str, public_url: &str) -> Refusal {
    Refusal::new(Code::WrongBaseUrl).param("path", shown(path)).param("base_url", format!("{public_url}/v1"))
}

/// HTTP in clear text at a port that speaks TLS.
pub fn plain_http(path: &str, public_url: &str) -> Refusal {
    let https = match public_url.strip_prefix("http://") {
        Some(rest) => format!("https://{rest}"),
        None => public_url.to_owned(),
    };
    let path = format!("http://…{}", shown(path));
    Refusal::new(Code::WrongBaseUrl).param("path", path).param("base_url", format!("{https}/v1"))
}

/// What is wrong with a head, in English and Chinese; the HTTP library does not say which line of it.
pub const BAD_HEAD: (&str, &str) = (
    "its head cannot be read, or says in no clear way how long its body is",
    "请求头无法解析，或没有明确说明请求体的长度",
);
pub const BAD_CHUNKS: (&str, &str) = ("the chunks of its body cannot be read", "请求体的分块编码无法解析");
const BAD_HOST: (&str, &str) = ("it has not exactly one Host header", "必须有且只有一个 Host 请求头");

/// HTTP that nobody can read.
pub fn malformed(problem: (&str, &str)) -> Refusal {
    Refusal::new(Code::MalformedRequest).param("problem", problem)
}

/// HTTP/1.1 asks for one Host, and for a 400 without it (RFC 9112, 3.2).
pub fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let hosts = headers.get_all(header::HOST).iter().count();
    if version == Version::HTTP_11 && hosts != 1 { Err(malformed(BAD_HOST)) } else { Ok(()) }
}

fn wrong_method(path: &str, method: &Method, allowed: &'static str) -> Refusal {
    Refusal::new(Code::MethodNotAllowed)
        .param("path", shown(path))
        .param("method", method.as_str())
        .param("allowed", allowed)
}

fn shown(path: &str) -> &str {
    path.get(..path.floor_char_boundary(PATH_BYTES_SHOWN)).unwrap_or_default()
}

/// A body that is declared as something else than JSON, or than a form where files are sent, cannot be a call.
pub fn check_media_type(endpoint: Endpoint, headers: &HeaderMap) -> Result<(), Refusal> {
    let is_form = endpoint.takes_form();
    let expected = if is_form { FORM } else { "application/json" };
    let found = match headers.get(header::CONTENT_TYPE) {
        None if is_form => "nothing",
        None => return Ok(()),
        Some(found) => found.to_str().unwrap_or("?"),
    };
    let media_type = found.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case(expected) || is_upload(endpoint, headers) {
        return Ok(());
    }
    Err(Refusal::new(Code::UnsupportedMediaType).param("expected", expected).param("found", shown(found)))
}

const FORM: &str = "multipart/form-data";

/// Whether a body is a form where one is taken: a task is asked for in either way.
pub fn is_upload(endpoint: Endpoint, headers: &HeaderMap) -> bool {
    let takes_form = endpoint.takes_form() || endpoint.is_task();
    let found = headers.get(header::CONTENT_TYPE).filter(|_| takes_form);
    let name = found.and_then(|found| found.to_str().ok()?.split(';').next());
    name.is_some_and(|name| name.trim().eq_ignore_ascii_case(FORM))
}

/// What a body is declared as.
pub fn media_type(headers: &HeaderMap) -> Option<Box<str>> {
    headers.get(header::CONTENT_TYPE).and_then(|found| found.to_str().ok()).map(Into::into)
}

pub fn body_too_large(limit_bytes: u64) -> Refusal {
    Refusal::new(Code::BodyTooLarge).param("limit_bytes", limit_bytes)
}

/// The key in an address of Gemini's, where its format has it; it goes nowhere but to the directory.
pub fn key_in_address(address: &Uri) -> Option<Cow<'_, str>> {
    let is_gemini = address.query().is_some() && shape(address.path()) == Shape::Gemini;
    is_gemini.then(|| wishes(address, "key").next()).flatten()
}

/// Finds the key among the headers, or in the address, and in the directory.
pub fn credential(
    headers: &HeaderMap,
    in_address: Option<&str>,
    directory: &Directory,
    at_ms: i64,
) -> Checked<Credential> {
    let refused = |refusal: Refusal| Checked::Refused(Box::new(refusal));
    match credential_from(headers, in_address) {
        CredentialFinding::Missing => refused(Refusal::new(Code::MissingKey)),
        CredentialFinding::Malformed(problem) => refused(Refusal::from(&problem)),
        CredentialFinding::Presented(presented) => match directory.match_key(presented.expose(), at_ms) {
            Some(found) if found.is_replaced => {
                refused(Refusal::new(Code::KeyRevoked).param("key", found.key.id.to_string()))
            }
            Some(found) => Checked::Passed(Credential::of(&found.key)),
            None => refused(Refusal::new(Code::UnknownKey)),
        },
    }
}

/// The caller's address: the connection's, or what a proxy that is trusted says of it. Anybody can write an
/// X-Forwarded-For of their own, so it is read from its end for as long as each hop is a trusted one.
pub fn address(headers: &HeaderMap, peer: Option<IpAddr>, trusted: &Ranges) -> Option<IpAddr> {
    let mut address = peer?;
    let values: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let mut hops = values.iter().rev().flat_map(|value| value.rsplit(',')).map(str::trim);
    while trusted.contains(address) {
        let Some(hop) = hops.next() else { break };
        let with_port = || hop.parse::<SocketAddr>().map(|socket| socket.ip());
        let Ok(before) = hop.parse::<IpAddr>().or_else(|_| with_port()) else { break };
        address = before.to_canonical();
    }
    Some(address)
}

fn cut(header: &str) -> &str {
    header.get(..header.floor_char_boundary(SDK_BYTES_MAX)).unwrap_or_default()
}

pub fn client(headers: &HeaderMap, peer: Option<IpAddr>, trusted: &Ranges) -> Client {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let sdk = text("user-agent").unwrap_or_default();
    Client {
        address: if trusted.0.is_empty() { peer } else { address(headers, peer, trusted) },
        sdk: cut(sdk).into(),
        browser_origin: text("origin").map(|origin| cut(origin).into()),
        confirmed_cost: None,
        retry_count: text("x-stainless-retry-count").and_then(|count| count.parse().ok()).unwrap_or(0),
    }
}

/// What a decision needs of a request, or why it cannot be decided.
pub fn call_body(body_bytes: usize, parsed: &Result<ModelRequest, RequestFault>) -> Checked<CallBody> {
    let request = match parsed {
        Ok(request) => request,
        Err(fault) => return Checked::Refused(Box::new(fault_refusal(fault))),
    };
    if !request.endpoint.is_count()
        && let Some(refusal) = unpriceable(request)
    {
        return Checked::Refused(Box::new(refusal));
    }
    Checked::Passed(CallBody {
        model: request.model.clone(),
        stream: request.stream,
        body_bytes: body_bytes as u64,
        input_tokens_bound: request.input_tokens_bound,
        image_parts: request.parts.images,
        audio_parts: request.parts.audio,
        output_cap: request.own_cap(),
        choices: request.choices,
        units: request.units.clone(),
    })
}

fn fault_refusal(fault: &RequestFault) -> Refusal {
    match fault {
        RequestFault::InvalidUtf8 { offset } => {
            Refusal::new(Code::InvalidJson).param("reason", format!("it is not UTF-8 at byte {offset}"))
        }
        RequestFault::InvalidJson { line, column, what, .. } => {
            Refusal::new(Code::InvalidJson).param("reason", format!("{what} at line {line}, column {column}"))
        }
        RequestFault::InvalidParameter { field, what, got } => Refusal::new(Code::InvalidParameter)
            .field(field.clone())
            .param("reason", format!("expected {what}, got {got}")),
    }
}

/// What nothing here can put an upper bound on is refused, because no hold could cover it.
fn unpriceable(request: &ModelRequest) -> Option<Refusal> {
    let (parts, extras) = (&request.parts, &request.extras);
    let part = || parts.unbounded_at.map_or("messages".into(), |place| place.to_string());
    let part_field;
    let (field, what) = if let Some((field, what)) = &request.unbounded {
        (&**field, *what)
    } else if parts.files > 0 {
        part_field = part();
        (&*part_field, "a file, or a film, has no highest price: send its text")
    } else if parts.others > 0 {
        part_field = part();
        (&*part_field, "a part of an unknown type has no highest price")
    } else if extras.service_tier {
        ("service_tier", "other service tiers have other prices")
    } else if extras.web_search {
        ("web_search_options", "searches have no price here")
    } else if extras.prediction {
        ("prediction", "rejected predictions are billed beyond the output cap")
    } else if extras.audio_output {
        ("audio", "spoken output has no price here")
    } else {
        return None;
    };
    Some(Refusal::new(Code::InvalidParameter).field(field).param("reason", what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(method: Method, path: &str) -> Result<Destination, Code> {
        destination(&method, path, "https://ai.example").map_err(|refusal| refusal.code)
    }

    #[test]
    fn both_base_paths_lead_to_the_same_endpoints() {
        // F6
        for base in ["/v1", "/api/v1"] {
            for endpoint in CALLS {
                let call = go(Method::POST, &format!("{base}/{}", endpoint.path()));
                assert_eq!(call, Ok(Destination::Call(endpoint)));
            }
            assert_eq!(go(Method::GET, &format!("{base}/models")), Ok(Destination::Models(None)));
            let one = go(Method::GET, &format!("{base}/models/deepseek/v3"));
            assert_eq!(one, Ok(Destination::Models(Some("deepseek/v3".into()))));
            for base in [base, "/v1beta"] {
                let named = format!("{base}/models/a/b:generateContent");
                assert_eq!(go(Method::POST, &named), Ok(Destination::Call(Endpoint::GenerateContent)));
                let of = |name: &str| self::named(Endpoint::GenerateContent, &name.parse().unwrap());
                assert_eq!(of(&named), Some(Ok("a/b".into())));
                let counted = go(Method::POST, &format!("{base}/models/a/b:countTokens"));
                assert_eq!(counted, Ok(Destination::Call(Endpoint::CountContents)));
            }
        }
    }

    #[test]
    fn a_wrong_base_url_is_told_apart_from_a_wrong_endpoint() {
        assert_eq!(go(Method::POST, "/chat/completions"), Err(Code::WrongBaseUrl));
        assert_eq!(go(Method::POST, "/v1/v1/chat/completions"), Err(Code::WrongBaseUrl));
        assert_eq!(go(Method::POST, "/console/chat/completions"), Err(Code::WrongBaseUrl));
        assert_eq!(go(Method::POST, "/v1/chat/completions/chat/completions"), Err(Code::WrongBaseUrl));
        assert_eq!(go(Method::POST, "/embeddings"), Err(Code::WrongBaseUrl));
        assert_eq!(go(Method::POST, "/v1/v1/images/generations"), Err(Code::WrongBaseUrl));
        assert_eq!(go(Method::POST, "/v1/chat"), Err(Code::UnknownEndpoint));
        assert_eq!(go(Method::GET, "/v1/chat/completions"), Err(Code::MethodNotAllowed));
        assert_eq!(go(Method::GET, "/v1/modelsx"), Err(Code::UnknownEndpoint));
        assert_eq!(go(Method::GET, "/v1beta/models/x:generateContent"), Err(Code::MethodNotAllowed));
        assert_eq!(go(Method::POST, "/v1beta/models/x:embedContent"), Err(Code::UnknownEndpoint));
        assert_eq!(go(Method::POST, "/v1beta/models"), Err(Code::MethodNotAllowed));
        assert_eq!(go(Method::GET, "/v1beta/files"), Err(Code::UnknownEndpoint));
        // HEAD is for whatever can be got.
        assert_eq!(go(Method::HEAD, "/v1/models"), Ok(Destination::Models(None)));
        assert_eq!(go(Method::HEAD, "/v1beta/models/x"), Ok(Destination::Models(Some("x".into()))));
        assert_eq!(go(Method::HEAD, "/v1/videos"), Ok(Destination::Elsewhere));
        assert_eq!(go(Method::HEAD, "/v1/chat/completions"), Err(Code::MethodNotAllowed));
    }

    /// D8: the address is the caller's, whoever else writes headers.
    #[test]
    fn d8_only_trusted_proxies_are_believed() {
        let trusted = Ranges(["10.0.0.0/8", "::1/128"].map(|range| range.parse().unwrap()).to_vec());
        let of = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            client(&headers, peer.parse().ok(), &trusted).address.unwrap().to_string()
        };
        assert_eq!(of("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(of("::1", &["203.0.113.9", "[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(of("10.0.0.1", &["198.51.100.7, nonsense"]), "10.0.0.1");
        assert_eq!(of("::ffff:10.0.0.1", &["::ffff:198.51.100.7"]), "198.51.100.7");
    }

    #[test]
    fn everything_else_is_served_elsewhere() {
        for path in
            ["/", "/api/accounts", "/api/models", "/v1/key", "/v1/requests/req_1/why", "/why/req_1", "/livez"]
        {
            assert_eq!(go(Method::GET, path), Ok(Destination::Elsewhere), "{path}");
        }
    }
}
