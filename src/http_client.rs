//! Calls to payment providers and to upstreams of tasks, by the gateway's own HTTP client, for threads that may block; and
//! the time and the random words that some of them sign their calls with.
//!
//! Promises: one thread with its connections for all of them, started by the first call; an answer that is too large
//! or takes too long is an error; what went wrong says whether the provider may have heard the question.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock::{Clock, Entropy};
use crate::gateway::upstream::{Call, Collected, ForwardError, Settings, Target, Tls, Upstreams};

/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// From the question to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A question to a provider.
pub struct Ask {
    pub target: Target,
    pub method: Method,
    /// Begins with `/`; appended to the target's path.
    pub path: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(Box<str>, Box<str>)>,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }
}

#[derive(Debug)]
pub enum HttpError {
    Forward(ForwardError),
    TooLarge,
    TooSlow,
    /// The thread of the client could not be started, or has ended.
    NoClient(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Forward(why) => write!(f, "{why}"),
            HttpError::TooLarge => f.write_str("the answer is too large"),
            HttpError::TooSlow => f.write_str("the answer took too long"),
            HttpError::NoClient(why) => write!(f, "no HTTP client: {why}"),
        }
    }
}

impl std::error::Error for HttpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HttpError::Forward(why) => Some(why),
            _ => None,
        }
    }
}

type Outcome = Result<Reply, HttpError>;
type Job = (Ask, SyncSender<Outcome>);

/// See the module.
pub struct HttpClient {
    jobs: Mutex<Option<UnboundedSender<Job>>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl HttpClient {
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        HttpClient { jobs: Mutex::default(), clock, entropy }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// A word that nobody can guess: 32 hexadecimal digits.
    pub fn nonce(&self) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        crate::hex::encode(&bytes)
    }

    /// Blocks the thread until the answer is there.
    pub fn ask(&self, ask: Ask) -> Outcome {
        let gone = || HttpError::NoClient("its thread has ended".into());
        let (done, outcome) = sync_channel(1);
        self.jobs()?.send((ask, done)).map_err(|_| gone())?;
        outcome.recv().map_err(|_| gone())?
    }

    fn jobs(&self) -> Result<UnboundedSender<Job>, HttpError> {
        let mut jobs = self.jobs.lock();
        if let Some(known) = jobs.as_ref().filter(|known| !known.is_closed()) {
            return Ok(known.clone());
        }
        let failed = |why: &dyn fmt::Display| HttpError::NoClient(why.to_string());
        let tls = Tls::new(None).map_err(|why| failed(&why))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| failed(&why))?;
        let (sender, receiver) = unbounded_channel();
        let run = move || tokio::task::LocalSet::new().block_on(&runtime, serve(receiver, tls));
        std::thread::Builder::new().name("http client".into()).spawn(run).map_err(|why| failed(&why))?;
        *jobs = Some(sender.clone());
        Ok(sender)
    }
}

/// Ends when the client is dropped.
async fn serve(mut jobs: UnboundedReceiver<Job>, tls: Tls) {
    let upstreams = std::rc::Rc::new(Upstreams::new(Settings::default(), &tls));
    while let Some((ask, done)) = jobs.recv().await {
        let upstreams = std::rc::Rc::clone(&upstreams);
        tokio::task::spawn_local(async move {
            let outcome = tokio::time::timeout(PATIENCE, call(&upstreams, ask)).await;
            // Who asked may have gone away.
            let _told = done.send(outcome.unwrap_or(Err(HttpError::TooSlow)));
        });
    }
}

async fn call(upstreams: &Upstreams, ask: Ask) -> Outcome {
    let Ask { target, method, path, headers, body } = ask;
    let call = Call { target: &target, method, path: &path, headers: &headers, body };
    let mut answer = upstreams.send(call).await.map_err(HttpError::Forward)?;
    let status = answer.status.as_u16();
    let text = |(name, value): (&str, &[u8])| {
        Some((name.to_ascii_lowercase().into(), std::str::from_utf8(value).ok()?.into()))
    };
    let headers = answer.headers.iter().filter_map(text).collect();
    match answer.body.collect(ANSWER_BYTES_MAX).await.map_err(HttpError::Forward)? {
        Collected::Whole(body) => Ok(Reply { status, headers, body }),
        Collected::Begun(_) => Err(HttpError::TooLarge),
    }
}
