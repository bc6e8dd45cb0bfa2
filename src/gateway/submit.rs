//! The way of a task's submission: one at a time of a kind → an earlier one? → decide → accept → deliver to an upstream.
//!
//! Promises: the ladder decides it as it decides every call; of submissions that are alike and come at once one alone
//! goes on; whoever submitted may leave, and the task goes its way. What comes after the answer is the poller's
//! (`tasks`).

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use ledger::Nano;
use tokio::sync::oneshot;

use crate::api;
use crate::books::{BooksError, Ticket};
use crate::catalogue::{Code, Refusal};
use crate::directory::{Environment, Variant};
use crate::id::TaskId;
use crate::tasks::{Accepted, Claim, Submission, Task, TaskError, Wish};

use super::answer::AnswerBody;
use super::delivery::{Delivery, Undelivered};
use super::facts::{Checked, Endpoint, Facts};
use super::failover;
use super::ladder::{self, Caller};
use super::pipeline::{Admission, AdmittedCall, Arrival, Asked};
use super::request::TaskWish;
use super::respond::{self, X_REQUEST_ID};
use super::worker::{Running, Worker};

/// The caller confirms a cost up to this amount: see the cap of its key or account.
const X_CONFIRM_COST: HeaderName = HeaderName::from_static("x-tallygate-confirm-cost");
/// In: `allow`. Out: the task that an identical submission made.
const X_DUPLICATE: HeaderName = HeaderName::from_static("x-tallygate-duplicate");

/// What is known of a submission beside its request.
struct Submitting {
    id: TaskId,
    media_type: Option<Box<str>>,
    wish: TaskWish,
    /// No other one that is alike goes on while it lives.
    claim: Claim,
}

/// A submission as it is asked for.
pub struct SubmissionAsk {
    media_type: Option<Box<str>>,
    may_repeat: bool,
}

/// What a caller says about a submission in its headers.
pub struct Said {
    confirmed: Result<Option<Nano>, Refusal>,
    may_repeat: bool,
}

pub fn said(headers: &HeaderMap) -> Said {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let amount = |text: &str| {
        Nano::parse_decimal(text).map_err(|_| {
            Refusal::new(Code::InvalidParameter)
                .field(X_CONFIRM_COST.as_str())
                .param("reason", "it must be a decimal amount, such as 1.20")
        })
    };
    Said {
        confirmed: text(&X_CONFIRM_COST).map(amount).transpose(),
        may_repeat: text(&X_DUPLICATE).is_some_and(|wish| wish.eq_ignore_ascii_case("allow")),
    }
}

impl SubmissionAsk {
    /// What the ladder has to know of it goes into the facts.
    pub fn new(said: Said, media_type: Option<Box<str>>, facts: &mut Facts) -> Self {
        match said.confirmed {
            Ok(confirmed) => facts.client.confirmed_cost = confirmed,
            Err(refusal) => facts.body = Checked::Refused(Box::new(refusal)),
        }
        SubmissionAsk { media_type, may_repeat: said.may_repeat }
    }
}

impl Arrival {
    pub(super) async fn submit(
        self,
        mut facts: Facts,
        asked: Asked,
        ask: SubmissionAsk,
    ) -> Response<AnswerBody> {
        let app = Arc::clone(&self.worker.gateway.app);
        let endpoint = facts.address.passed().copied().unwrap_or(Endpoint::Videos);
        let wish = TaskWish::read(endpoint, ask.media_type.as_deref(), &asked.body);
        let passes = ladder::decide_before_books(&app.directory.snapshot(), &facts).is_ok();
        let (true, Some(credential), Ok(request), Ok(wish)) =
            (passes, facts.credential.passed(), &asked.parsed, wish)
        else {
            return self.refuse_early(facts);
        };
        let (key, fingerprint) = (credential.key, wish.fingerprint(&request.model));
        let claim = app.tasks.claim(key, fingerprint).await;
        let tasks = Arc::clone(&app.tasks);
        // What its name refuses is refused, whatever else is alike.
        let twin = match ask.may_repeat || facts.repetition.refused.is_some() {
            true => Ok(None),
            false => blocking(move || tasks.twin(key, fingerprint)).await,
        };
        match twin {
            Ok(None) => {}
            Ok(Some(twin)) if self.wants_refusal(&facts) => {
                let refusal = Refusal::new(Code::DuplicateSubmission);
                let refusal = refusal.param("first_request", twin.request.to_string());
                facts.repetition.refused = Some(Box::new(refusal));
            }
            Ok(Some(twin)) => return self.again(facts, twin).await,
            Err(why) => return self.without_books(&unavailable(&why)),
        }
        let submitting = Submitting { id: app.tasks.new_id(), media_type: ask.media_type, wish, claim };
        match self.admit(facts, asked, Some(submitting.id)) {
            Ok(call) => self.accept(call, submitting).await,
            Err(answer) => *answer,
        }
    }

    /// Whether the key or the account wants a repetition refused.
    fn wants_refusal(&self, facts: &Facts) -> bool {
        let snapshot = self.worker.gateway.app.directory.snapshot();
        Caller::of(&snapshot, facts).is_some_and(|caller| {
            let of_account = caller.account.account.tasks.as_ref();
            let terms = [caller.key.tasks.as_ref(), of_account];
            terms.into_iter().flatten().any(|terms| terms.refuse_duplicates)
        })
    }

    /// The task of the first one, marked (F4).
    async fn again(&self, facts: Facts, twin: Task) -> Response<AnswerBody> {
        if let Some(refused) = self.refuse_replay(facts, twin.request) {
            return refused;
        }
        let tasks = Arc::clone(&self.worker.gateway.app.tasks);
        let id = twin.id;
        let counted = blocking(move || tasks.count_duplicate(id).and_then(|()| tasks.get(id))).await;
        let mut answer = self.shown(&counted.unwrap_or(twin));
        if let Ok(mark) = HeaderValue::try_from(id.to_string()) {
            answer.headers_mut().insert(X_DUPLICATE, mark);
        }
        answer
    }

    /// A task as its lane shows it.
    fn shown(&self, task: &Task) -> Response<AnswerBody> {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_bytes(&self.request.text()) {
            headers.insert(X_REQUEST_ID, id);
        }
        let body = api::shown_task(task, self.worker.gateway.app.currency()).to_string();
        respond::response(StatusCode::OK, headers, AnswerBody::whole(body))
    }

    /// Writes the task down and delivers it to an upstream; if the caller leaves, it goes on.
    async fn accept(self, call: AdmittedCall, submitting: Submitting) -> Response<AnswerBody> {
        let (model, sees_account_money) = (call.request.model.clone(), call.sees_account_money);
        let key = call.held.decided().facts.credential.passed().map(|credential| credential.key);
        let (reply, answer) = oneshot::channel();
        let acceptance = Acceptance {
            worker: Rc::clone(&self.worker),
            running: self.worker.gateway.count_call(),
            call,
            submitting,
            arrived_ns: self.arrived_ns,
            reply,
        };
        tokio::task::spawn_local(acceptance.run());
        match answer.await {
            Ok(Ok(task)) => self.shown(&task),
            Ok(Err(Undelivered::Failed(failure))) => {
                let limit_ms = self.worker.gateway.header_timeout_ms;
                let refusal = failure.refusal(&model, limit_ms);
                let refusal = failover::with_patience(refusal, &self.worker, key, &model);
                self.addressee(sees_account_money).refusal(&refusal)
            }
            Ok(Err(Undelivered::Lost(why))) => self.without_books(&unavailable(&why)),
            // It ended without a word, so the books have stopped.
            Err(_) => self.without_books(&BooksError::Stopped),
        }
    }
}

/// A submission that was admitted, on its way to its row and to an upstream.
struct Acceptance {
    worker: Rc<Worker>,
    running: Running,
    call: AdmittedCall,
    submitting: Submitting,
    arrived_ns: u64,
    reply: oneshot::Sender<Result<Task, Undelivered>>,
}

impl Acceptance {
    async fn run(self) {
        let Acceptance { worker, running, call, submitting, arrived_ns, reply } = self;
        let AdmittedCall { held, admission, request, body, .. } = call;
        let Submitting { id, media_type, wish, claim } = submitting;
        let (body, room) = body.into_parts();
        let app = Arc::clone(&worker.gateway.app);
        let decided = Arc::clone(held.decided());
        let key = decided.facts.credential.passed().map(|credential| credential.key);
        let environment = key.and_then(|key| Some(app.directory.snapshot().key(key)?.environment));
        let named = (id, environment.unwrap_or(Environment::Live));
        let Some(accepted) = accepted(&decided.facts, named, &admission, &wish, held.ticket()) else {
            // Not reached: only a known key's call is admitted. The hold is given back as it is dropped.
            return;
        };
        let tasks = Arc::clone(&app.tasks);
        // Until it is answered, nobody looks for it.
        let _on_its_way = tasks.on_its_way(id);
        let written = blocking(move || {
            let _decided = held.hand_over();
            let task = tasks.accept(accepted);
            drop(claim);
            task
        });
        let task = match written.await {
            Ok(task) => task,
            Err(why) => return drop(reply.send(Err(why.into()))),
        };
        let thumbnails = (!wish.references().is_empty()).then(|| {
            let pictures = wish.pictures(media_type.as_deref(), &body);
            tokio::task::spawn_local(Arc::clone(&app.tasks.thumbnails).make(id, pictures))
        });
        let delivery = Delivery {
            task,
            submission: Submission { request, wish, body, media_type },
            most: decided.most(&admission.price),
            output_cap: admission.admitted.output_cap,
            price: admission.price,
            attempt: admission.first,
            multiplier_ppm_max: admission.admitted.multiplier_ppm,
            arrived_ns,
            worker,
            reply: Some(reply),
        };
        delivery.run().await;
        if let Some(thumbnails) = thumbnails {
            // It tells the log itself what went wrong.
            let _ended = thumbnails.await;
        }
        drop((running, room));
    }
}

/// What a store or books that do not answer are to a caller.
fn unavailable(why: &TaskError) -> BooksError {
    tracing::error!(%why, "a task could not be looked after");
    BooksError::Stopped
}

fn accepted(
    facts: &Facts,
    (id, environment): (TaskId, Environment),
    admission: &Admission,
    wish: &TaskWish,
    ticket: Ticket,
) -> Option<Accepted> {
    let (credential, model) = (facts.credential.passed()?, &facts.body.passed()?.model);
    let first = &admission.first;
    let channel = &first.route.channel;
    let variant = Variant { size: wish.size(), quality: wish.quality() };
    let wish = Wish::of(model, wish);
    Some(Accepted {
        id,
        request: facts.request,
        account: credential.account,
        environment,
        key: credential.key,
        project: credential.project,
        channel: channel.id,
        credential: u32::try_from(first.credential).unwrap_or(0),
        model: model.clone(),
        upstream_model: channel.models.get(model).unwrap_or(model).clone(),
        price: admission.price.id,
        price_row: admission.price.dearest_row(wish.kind.unit(), variant),
        wish,
        multiplier_ppm: first.multiplier_ppm,
        hold: admission.admitted.hold,
        ticket,
    })
}

/// Runs what may block on a thread that may. What panics there is a fault of the program.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(TaskError::Books(BooksError::Stopped)))
}
