//! The way of a request from its first byte to its answer, and the only place that branches between steps:
//! identify → decide → reserve → route → then [`Exchange`] forwards, meters and settles.
//!
//! Every call that gets here ends in an answer and, but for the list of models, in a row of the log.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::books::{BooksError, Held, Reserve};
use crate::catalogue::{Code, Language, Refusal, Shape};
use crate::directory::{Environment, Price, Snapshot};
use crate::id::{KeyId, RequestId, TaskId};
use crate::idempotency;
use crate::risk::Observation;

use super::answer::AnswerBody;
use super::attempt::Attempting;
use super::bodies::{Body, BodyFault};
use super::browser;
use super::exchange::Exchange;
use super::experiments::Experiments;
use super::facts::{
    Admitted, Attempts, ChannelReading, Checked, Credential, Decided, Endpoint, Facts, RateReading,
    Repetition,
};
use super::identify::{self, Destination};
use super::ladder::{self, Caller, Scope, Verdict};
use super::list::as_list;
use super::models;
use super::request::{ModelRequest, RequestFault};
use super::respond::{self, Addressee};
use super::submit::{self, SubmissionAsk};
use super::transcript::Hearing;
use super::worker::Worker;

/// A request that has arrived, before anything is known of its caller.
#[derive(Clone)]
pub(super) struct Arrival {
    pub(super) worker: Rc<Worker>,
    pub(super) request: RequestId,
    pub(super) arrived_ns: u64,
    pub(super) language: Language,
    /// How its errors look.
    shape: Shape,
}

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub peer: Option<IpAddr>,
    /// In clear text, at a port that speaks TLS.
    pub is_plain_on_tls: bool,
}

/// What a call asks for.
pub(super) struct Asked {
    pub parsed: Result<ModelRequest, RequestFault>,
    pub body: Body,
    /// Of a submission of a task.
    pub submission: Option<SubmissionAsk>,
    /// Where the account wants a transcript.
    pub hearing: Option<Box<Hearing>>,
}

/// A call that the books hold money for.
pub(super) struct AdmittedCall {
    pub held: Held,
    pub admission: Admission,
    pub request: ModelRequest,
    pub body: Body,
    pub sees_account_money: bool,
}

/// A call on its way.
struct Sent {
    answer: oneshot::Receiver<Response<AnswerBody>>,
    rate: Option<RateReading>,
    tokens: u64,
}

/// What the decision of an admitted call hands on.
pub(super) struct Admission {
    pub admitted: Admitted,
    pub price: Arc<Price>,
    pub first: Attempting,
    /// Tokens that the call can come to.
    tokens: u64,
}

/// Answers one request, whatever comes.
pub async fn serve(
    worker: Rc<Worker>,
    request: Request<Incoming>,
    from: Connection,
) -> Result<Response<AnswerBody>, Infallible> {
    let (peer, public_url) = (from.peer, &worker.gateway.public_url);
    let app = &worker.gateway.app;
    let arrival = Arrival {
        request: RequestId::new(&*app.clock, &*app.entropy),
        arrived_ns: app.clock.mono_ns(),
        language: respond::language(request.headers()),
        shape: identify::shape(request.uri().path()),
        worker: Rc::clone(&worker),
    };
    let path = request.uri().path();
    if let Some(answer) = browser::preflight(request.method(), path, request.headers(), arrival.request) {
        return Ok(answer);
    }
    let is_from_page = browser::is_from_page(path, request.headers());
    let found = match from.is_plain_on_tls {
        false => identify::check_host(request.version(), request.headers())
            .and_then(|()| identify::destination(request.method(), path, public_url)),
        true => Err(identify::plain_http(path, public_url)),
    };
    let mut answer = match found {
        // Boxed: a call must not carry the room that other requests need.
        Ok(Destination::Elsewhere) => Box::pin(elsewhere(&worker, request, peer)).await,
        Ok(Destination::Models(name)) => {
            let shape = models::shape(path, request.headers());
            Arrival { shape, ..arrival }.models(&request, peer, name.as_deref())
        }
        Ok(Destination::Call(endpoint)) if identify::wants_list(endpoint, request.uri()) => {
            as_list(Box::pin(arrival.call(endpoint, request, peer)).await)
        }
        Ok(Destination::Call(endpoint)) => arrival.call(endpoint, request, peer).await,
        Ok(Destination::Content(lane, task)) => Box::pin(arrival.content(&request, lane, &task)).await,
        Err(refusal) => {
            let facts = arrival.facts(Checked::Refused(Box::new(refusal)), &request, peer);
            arrival.refuse_early(facts)
        }
    };
    if is_from_page {
        browser::open(answer.headers_mut());
    }
    Ok(answer)
}

async fn elsewhere(
    worker: &Worker,
    mut request: Request<Incoming>,
    peer: Option<IpAddr>,
) -> Response<AnswerBody> {
    let trusted = &worker.gateway.app.config.server.trusted_proxies;
    if let Some(address) = identify::address(request.headers(), peer, trusted) {
        request.extensions_mut().insert(address);
    }
    let answered = worker.gateway.router.clone().oneshot(request.map(axum::body::Body::new)).await;
    match answered {
        Ok(response) => response.map(AnswerBody::Other),
        Err(never) => match never {},
    }
}

impl Arrival {
    fn facts<B>(&self, address: Checked<Endpoint>, request: &Request<B>, peer: Option<IpAddr>) -> Facts {
        let app = &self.worker.gateway.app;
        let headers = request.headers();
        let in_address = identify::key_in_address(request.uri());
        let credential = match address {
            Checked::Passed(_) => {
                identify::credential(headers, in_address.as_deref(), &app.directory, app.clock.now_ms())
            }
            Checked::Refused(_) | Checked::NotReached => Checked::NotReached,
        };
        Facts {
            request: self.request,
            at_ms: app.clock.now_ms(),
            config_version: app.directory.snapshot().version(),
            address,
            credential,
            body: Checked::NotReached,
            client: identify::client(headers, peer, &app.config.server.trusted_proxies),
            repetition: Repetition::default(),
        }
    }

    pub(super) fn addressee(&self, sees_account_money: bool) -> Addressee<'_> {
        Addressee {
            request: self.request,
            language: self.language,
            public_url: &self.worker.gateway.public_url,
            sees_account_money,
            logged: true,
            shape: self.shape,
        }
    }

    /// Refuses at a rung that needs no figure of the books. Once the caller is known the figures are noted
    /// all the same, so that the Why can tell what the rungs behind would have said.
    pub(super) fn refuse_early(&self, facts: Facts) -> Response<AnswerBody> {
        let books = &self.worker.gateway.app.books;
        let snapshot = self.worker.gateway.app.directory.snapshot();
        let refusal = match ladder::decide_before_books(&snapshot, &facts) {
            Err(refusal) => refusal,
            // Not reached: whoever comes here has found a refusal.
            Ok(()) => Refusal::new(Code::BooksUnavailable),
        };
        let addressee = self.addressee(sees_money(&snapshot, &facts));
        let decided = Decided { refusal: Some(Box::new(refusal.clone())), ..Decided::new(facts) };
        self.observe(&decided.facts, Some(refusal.code));
        if !self.worker.gateway.flood.records(&decided, refusal.code, self.arrived_ns) {
            return Addressee { logged: false, ..addressee }.refusal(&refusal);
        }
        let response = addressee.refusal(&refusal);
        let recorded = match Caller::of(&snapshot, &decided.facts) {
            None => books.record_refusal(decided).map(drop),
            Some(caller) => {
                let scope = Scope::of(&snapshot, caller, &decided.facts);
                books.decide(&scope, decided, |_| None).map(drop)
            }
        };
        match recorded {
            Ok(()) => response,
            Err(why) => self.without_books(&why),
        }
    }

    /// Tells the risk rules of a known key's call.
    pub(super) fn observe(&self, facts: &Facts, refused: Option<Code>) {
        if let Some(credential) = facts.credential.passed() {
            self.worker.gateway.app.risk.observe(Observation {
                key: credential.key,
                address: facts.client.address,
                refused,
                at_ns: self.arrived_ns,
            });
            if let Some(origin) = &facts.client.browser_origin
                && self.is_live(credential.key)
            {
                self.worker.gateway.app.risk.observe_page(credential.key, origin, self.arrived_ns);
            }
        }
    }

    fn is_live(&self, key: KeyId) -> bool {
        let snapshot = self.worker.gateway.app.directory.snapshot();
        snapshot.key(key).is_some_and(|key| key.environment == Environment::Live)
    }

    /// Fail closed: no books, no call.
    pub(super) fn without_books(&self, why: &BooksError) -> Response<AnswerBody> {
        tracing::error!(%why, request = %self.request, "a call was refused without the books");
        let code = match why {
            BooksError::Overloaded => Code::GatewayOverloaded,
            BooksError::Refused(_) | BooksError::ClockJumped { .. } | BooksError::Stopped => {
                Code::BooksUnavailable
            }
        };
        Addressee { logged: false, ..self.addressee(false) }.refusal(&Refusal::new(code))
    }

    fn models(
        &self,
        request: &Request<Incoming>,
        peer: Option<IpAddr>,
        name: Option<&str>,
    ) -> Response<AnswerBody> {
        let facts = self.facts(Checked::Passed(Endpoint::Models), request, peer);
        let snapshot = self.worker.gateway.app.directory.snapshot();
        let refused = ladder::decide_before_body(&snapshot, &facts);
        let asked = models::Asked { name, query: request.uri().query(), shape: self.shape };
        let (Ok(()), Some(caller)) = (refused, Caller::of(&snapshot, &facts)) else {
            return self.refuse_early(facts);
        };
        match models::answer(&snapshot, caller, &facts, asked) {
            Ok(json) => {
                let mut headers = HeaderMap::with_capacity(2);
                headers
                    .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
                if let Ok(id) = http::HeaderValue::from_bytes(&self.request.text()) {
                    headers.insert(respond::X_REQUEST_ID, id);
                }
                respond::response(StatusCode::OK, headers, AnswerBody::whole(json))
            }
            Err(refusal) => Addressee { logged: false, ..self.addressee(false) }.refusal(&refusal),
        }
    }

    async fn call(
        self,
        endpoint: Endpoint,
        request: Request<Incoming>,
        peer: Option<IpAddr>,
    ) -> Response<AnswerBody> {
        let gateway = Arc::clone(&self.worker.gateway);
        let mut facts = self.facts(self.check_address(endpoint, &request), &request, peer);
        if ladder::decide_before_body(&gateway.app.directory.snapshot(), &facts).is_err() {
            return self.refuse_early(facts);
        }
        let name = idempotency::header::name(request.headers());
        let is_task = endpoint.is_task();
        let media_type =
            (endpoint.takes_form() || is_task).then(|| identify::media_type(request.headers())).flatten();
        let said = is_task.then(|| submit::said(request.headers()));
        let named = identify::named(endpoint, request.uri());
        let experiments = Experiments::of(endpoint, request.headers());
        let bytes_max = gateway.body_bytes_max(endpoint, request.headers());
        let mut hearing = self.hearing(&facts, request.headers());
        let body = match self.read_body(request.into_body(), bytes_max).await {
            Ok(body) => body,
            Err(refusal) => {
                facts.address = Checked::Refused(Box::new(refusal));
                return self.refuse_early(facts);
            }
        };
        let mut parsed = match named {
            None => ModelRequest::read(endpoint, media_type.as_deref(), &body),
            Some(Ok(model)) => ModelRequest::read_named(endpoint, &model, &body),
            Some(Err(fault)) => Err(fault),
        };
        if let Ok(parsed) = &mut parsed {
            parsed.experiments = experiments;
        }
        facts.body = identify::call_body(body.len(), &parsed);
        let submission = said.map(|said| SubmissionAsk::new(said, media_type, &mut facts));
        if let Some(hearing) = &mut hearing {
            hearing.asked(&body);
        }
        let asked = Asked { parsed, body, submission, hearing };
        if endpoint.is_count() {
            return Box::pin(self.count(facts, asked)).await;
        }
        match name {
            Some(name) => Box::pin(self.once(name, facts, asked)).await,
            None => self.decide(facts, asked).await,
        }
    }

    fn check_address(&self, endpoint: Endpoint, request: &Request<Incoming>) -> Checked<Endpoint> {
        let limit = self.worker.gateway.body_bytes_max(endpoint, request.headers());
        let too_large = request.body().size_hint().lower() > limit;
        let checked = identify::check_media_type(endpoint, request.headers())
            .and_then(|()| if too_large { Err(identify::body_too_large(limit)) } else { Ok(()) });
        match checked {
            Ok(()) => Checked::Passed(endpoint),
            Err(refusal) => Checked::Refused(Box::new(refusal)),
        }
    }

    async fn read_body(&self, body: Incoming, bytes_max: u64) -> Result<Body, Refusal> {
        let gateway = &self.worker.gateway;
        let declared = body.size_hint().exact();
        let limit_ms = u64::try_from(gateway.body_timeout.as_millis()).unwrap_or(u64::MAX);
        let late = |limit_ms| Refusal::new(Code::RequestTimeout).param("limit_ms", limit_ms);
        match timeout(gateway.body_timeout, gateway.app.bodies.read(body, bytes_max, declared)).await {
            Ok(read) => read.map_err(|fault| match fault {
                BodyFault::TooLarge => identify::body_too_large(bytes_max),
                BodyFault::NoRoom => Refusal::new(Code::GatewayOverloaded),
                BodyFault::Malformed => identify::malformed(identify::BAD_CHUNKS),
                BodyFault::Broken => late(0),
            }),
            Err(_elapsed) => Err(late(limit_ms)),
        }
    }

    /// Decides a call and sends it on its way.
    pub(super) async fn decide(self, facts: Facts, mut asked: Asked) -> Response<AnswerBody> {
        match asked.hearing.take() {
            None => self.decide_unheard(facts, asked).await,
            Some(hearing) => hearing.of(Box::pin(self.decide_unheard(facts, asked)).await),
        }
    }

    async fn decide_unheard(self, facts: Facts, mut asked: Asked) -> Response<AnswerBody> {
        if let Some(submission) = asked.submission.take() {
            return Box::pin(self.submit(facts, asked, submission)).await;
        }
        // What was known of the call is gone before anything is waited for: calls that run must be small.
        match self.admit(facts, asked, None) {
            Ok(call) => self.answer(self.send(call)).await,
            Err(answer) => *answer,
        }
    }

    /// Decides on the books as they are, and holds; or answers with the refusal.
    pub(super) fn admit(
        &self,
        mut facts: Facts,
        asked: Asked,
        task: Option<TaskId>,
    ) -> Result<AdmittedCall, Box<Response<AnswerBody>>> {
        let gateway = Arc::clone(&self.worker.gateway);
        let snapshot = gateway.app.directory.snapshot();
        let sees_account_money = sees_money(&snapshot, &facts);
        let Asked { parsed, body, .. } = asked;
        let (Some(caller), Ok(request)) = (Caller::of(&snapshot, &facts), parsed) else {
            return Err(Box::new(self.refuse_early(facts)));
        };
        facts.repetition.duplicate_of = self.note(&facts, &body);
        let scope = Scope::of(&snapshot, caller, &facts);
        let overdraft = caller.account.account.overdraft;
        let mut admission = None;
        let decided = Decided::new(facts);
        let decided = gateway.app.books.decide(&scope, decided, |decided| {
            let reserve = self.judge(&snapshot, decided, &mut admission)?;
            Some(Reserve { overdraft, task, ..reserve })
        });
        if let Ok((decided, _)) = &decided
            && let Some(readings) = &decided.readings
        {
            gateway.app.alerts.observe(caller, &scope, readings);
        }
        drop(scope);
        drop(snapshot);
        if let Ok((decided, _)) = &decided {
            self.observe(&decided.facts, decided.refusal.as_ref().map(|refusal| refusal.code));
            if decided.refusal.is_some() {
                self.forget(&decided.facts, &body);
            }
        }
        let (decided, held) = decided.map_err(|why| Box::new(self.without_books(&why)))?;
        if let (Some(held), Some(admission)) = (held, admission) {
            return Ok(AdmittedCall { held, admission, request, body, sees_account_money });
        }
        let refusal = decided.refusal.as_deref();
        let fallback = Refusal::new(Code::BooksUnavailable);
        let addressee = Addressee { logged: decided.calls > 0, ..self.addressee(sees_account_money) };
        let mut answer = addressee.refusal(refusal.unwrap_or(&fallback));
        let rate = decided.readings.as_ref().and_then(|readings| readings.rate);
        respond::add_rates(answer.headers_mut(), rate.as_ref(), None);
        Err(Box::new(answer))
    }

    /// Notes what is asked; the first call that asked the same a moment ago.
    fn note(&self, facts: &Facts, body: &[u8]) -> Option<RequestId> {
        let (credential, parts) = (facts.credential.passed()?, content(facts, body)?);
        self.worker.gateway.recent.note(credential.key, parts, self.request, self.arrived_ns)
    }

    fn forget(&self, facts: &Facts, body: &[u8]) {
        if let (Some(credential), Some(parts)) = (facts.credential.passed(), content(facts, body)) {
            self.worker.gateway.recent.forget(credential.key, parts, self.request);
        }
    }

    /// Runs the ladder and notes its verdict. Called with the books locked: no I/O, no waiting.
    fn judge(
        &self,
        snapshot: &Snapshot,
        decided: &mut Decided,
        admission: &mut Option<Admission>,
    ) -> Option<Reserve> {
        let gateway = &self.worker.gateway;
        let mut readings = decided.readings.take().unwrap_or_default();
        let mut reserve = None;
        // Once for most calls; once more for each channel that turns out to be of no use just now.
        loop {
            let resting = match ladder::decide(snapshot, &decided.facts, &readings, &gateway.policy) {
                Verdict::Refuse(refusal) => {
                    decided.refusal = Some(refusal);
                    break;
                }
                Verdict::Admit(admit) => match self.begin(&decided.facts, admit) {
                    Ok(begun) => {
                        decided.admitted = Some(begun.admitted);
                        let (amount, tokens) = (begun.admitted.hold, begun.tokens);
                        let overdraft = ledger::Nano::ZERO;
                        reserve = Some(Reserve { amount, overdraft, tokens, task: None });
                        *admission = Some(begun);
                        break;
                    }
                    Err(first) => self.resting(snapshot, &decided.facts, first),
                },
            };
            let news =
                resting.into_iter().filter(|reading| !readings.rests(reading.channel)).collect::<Vec<_>>();
            readings.channels.extend(news);
        }
        decided.readings = Some(readings);
        if let Some(code) = decided.refusal.as_ref().map(|refusal| refusal.code)
            && !gateway.flood.records(decided, code, self.arrived_ns)
        {
            decided.calls = 0;
        }
        reserve
    }

    /// Readies the first attempt of an admitted call, or says why its channel cannot be used now.
    fn begin(&self, facts: &Facts, admit: ladder::Admission<'_>) -> Result<Admission, ChannelReading> {
        // An admitted call has an address.
        let endpoint = facts.address.passed().copied().unwrap_or(Endpoint::ChatCompletions);
        let first = Attempting::begin(&self.worker, admit.first, endpoint, self.arrived_ns, |_| true);
        let first = first.map_err(|rest| rest.reading(admit.first.channel.id, facts.at_ms))?;
        let admitted = Admitted {
            price: admit.price.id,
            multiplier_ppm: admit.multiplier_ppm,
            channel: admit.first.channel.id,
            hold: admit.sizing.hold,
            output_cap: admit.sizing.output_cap,
            cap_reason: admit.sizing.cap_reason,
        };
        let tokens = facts.body.passed().map_or(0, |call| admit.sizing.tokens(call));
        Ok(Admission { admitted, price: Arc::clone(admit.price), first, tokens })
    }

    /// The channels that cannot take the call now: the one that was just found so, and those like it.
    fn resting(&self, snapshot: &Snapshot, facts: &Facts, first: ChannelReading) -> Vec<ChannelReading> {
        let app = &self.worker.gateway.app;
        let entry = model_of(facts).and_then(|name| snapshot.model(name));
        let (Some(caller), Some(entry)) = (Caller::of(snapshot, facts), entry) else { return vec![first] };
        let candidates = caller.candidates(snapshot, entry);
        let channels = candidates.all().map(|candidate| candidate.channel);
        let others = channels.filter(|channel| channel.id != first.channel);
        let mut resting = app.channels.resting(others, &entry.model.name, app.clock.mono_ns(), facts.at_ms);
        resting.push(first);
        resting
    }

    /// Starts the exchange as a task of its own: if the caller leaves, it goes on to its settlement.
    fn send(&self, call: AdmittedCall) -> Sent {
        let AdmittedCall { held, admission, request, body, sees_account_money } = call;
        let (reply, answer) = oneshot::channel();
        let running = self.worker.gateway.count_call();
        let rate = held.decided().readings.as_ref().and_then(|readings| readings.rate);
        self.worker.retries.earn();
        let exchange = Box::new(Exchange {
            worker: Rc::clone(&self.worker),
            held,
            admitted: admission.admitted,
            price: admission.price,
            attempt: admission.first,
            attempts: Attempts::new(),
            request,
            body,
            language: self.language,
            sees_account_money,
            arrived_ns: self.arrived_ns,
            reply: Some(reply),
        });
        tokio::task::spawn_local(async move {
            exchange.run().await;
            drop(running);
        });
        Sent { answer, rate, tokens: admission.tokens }
    }

    /// Waits for the answer of a call on its way.
    async fn answer(&self, sent: Sent) -> Response<AnswerBody> {
        // No answer comes only if the books stopped, which ends the process.
        let mut answer = sent.answer.await.unwrap_or_else(|_| self.without_books(&BooksError::Stopped));
        respond::add_rates(answer.headers_mut(), sent.rate.as_ref(), Some(sent.tokens));
        answer
    }
}

/// What makes two calls the same: endpoint, model and body.
fn content<'a>(facts: &'a Facts, body: &'a [u8]) -> Option<[&'a [u8]; 3]> {
    let (endpoint, model) = (facts.address.passed()?, model_of(facts)?);
    Some([endpoint.path().as_bytes(), model.as_bytes(), body])
}

/// The model that is asked for, once the body is known.
pub(super) fn model_of(facts: &Facts) -> Option<&str> {
    facts.body.passed().map(|body| &*body.model)
}

/// Whether this caller may be shown amounts of its account.
pub(super) fn sees_money(snapshot: &Snapshot, facts: &Facts) -> bool {
    let account = |credential: &Credential| snapshot.account(credential.account);
    facts.credential.passed().and_then(account).is_some_and(|entry| entry.account.callers_see_account_money())
}
