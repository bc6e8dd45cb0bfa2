//! Accepting tasks, submitting them, reading and cancelling them, and putting right what a crash left.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue};
use ledger::{Nano, ReleaseReason};
use parking_lot::Mutex;

use super::claim::{Claim, Claims};
use super::error::TaskError;
use super::looks::Looks;
use super::owners::Owners;
use super::store::{self, Search, TaskStore};
use super::task::{Failure, Task, TaskMoney, TaskState, Wish};
use super::upstream::{News, Product, Question, Speech, Submission, Taken};
use crate::books::{Books, BooksError, TaskEnd, Ticket};
use crate::clock::{Clock, Entropy};
use crate::config::Config;
use crate::directory::{Channel, Directory, Environment};
use crate::gateway::code_of;
use crate::gateway::facts::{Ending, Outcome};
use crate::gateway::upstream::Target;
use crate::http_client::{Ask, HttpClient, HttpError, Reply};
use crate::id::{AccountId, ChannelId, KeyId, PriceId, ProjectId, RequestId, TaskId};
use crate::store::{Db, Projections};

/// The name that a caller gives its call, as OpenAI's API has it.
const CALLER_REQUEST: HeaderName = HeaderName::from_static("x-client-request-id");

/// From the section `tasks` of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub poll_ms: i64,
    pub poll_ms_max: i64,
    pub deadline_ms: i64,
    /// Time until a task whose upstream's name was not learnt is looked for there.
    pub unconfirmed_ms: i64,
    /// Whoever looks at a task has it for so long.
    pub lease_ms: i64,
    pub duplicate_ms: i64,
}

impl Settings {
    pub fn from_config(config: &Config) -> Self {
        let ms = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let tasks = &config.tasks;
        Settings {
            poll_ms: ms(tasks.poll_ms),
            poll_ms_max: ms(tasks.poll_ms_max),
            deadline_ms: ms(tasks.deadline_ms),
            unconfirmed_ms: ms(tasks.unconfirmed_ms),
            lease_ms: ms(tasks.lease_ms),
            duplicate_ms: ms(tasks.duplicate_ms),
        }
    }
}

/// Tasks on the books of a running gateway; see the head of `tasks`. Every method blocks.
pub struct Tasks {
    pub(super) store: TaskStore,
    pub(super) books: Arc<Books>,
    pub(super) projections: Projections,
    pub(super) directory: Arc<Directory>,
    pub(super) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(super) settings: Settings,
    http: HttpClient,
    claims: Arc<Claims>,
    pub(super) looks: Arc<Looks>,
    /// Held while a name that was found at an upstream becomes a task's.
    pub(super) naming: Mutex<()>,
}

/// Where a result is fetched from.
#[derive(Clone, Debug)]
pub struct Place {
    pub base: String,
    pub path: String,
    /// The channel's own, where they are needed.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A task whose cost is held.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub id: TaskId,
    pub request: RequestId,
    pub account: AccountId,
    pub environment: Environment,
    pub key: KeyId,
    pub project: Option<ProjectId>,
    pub channel: ChannelId,
    pub credential: u32,
    pub model: Box<str>,
    pub upstream_model: Box<str>,
    pub wish: Wish,
    pub price: PriceId,
    pub price_row: u64,
    pub multiplier_ppm: u64,
    pub hold: Nano,
    /// Of the hold.
    pub ticket: Ticket,
}

impl Tasks {
    /// Opens the tasks on the books. What a crash left is put right by [`Tasks::repair`].
    pub fn new(
        db: Db,
        books: Arc<Books>,
        projections: Projections,
        directory: Arc<Directory>,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        settings: Settings,
    ) -> Self {
        let http = HttpClient::new(clock.clone(), entropy.clone());
        Tasks {
            store: TaskStore { db },
            books,
            projections,
            directory,
            clock,
            entropy,
            settings,
            http,
            claims: Arc::default(),
            looks: Arc::default(),
            naming: Mutex::default(),
        }
    }

    /// Whose the holds of tasks are, for `verify`.
    pub fn owners(&self) -> Owners {
        Owners::new(self.store.db.clone(), Arc::clone(&self.clock))
    }

    pub fn new_id(&self) -> TaskId {
        TaskId::new(&*self.clock, &*self.entropy)
    }

    /// Held while a submission is looked for among the earlier ones and accepted, so that of two that are alike and
    /// come at once the second finds the first. Does not block.
    pub async fn claim(&self, key: KeyId, fingerprint: u128) -> Claim {
        self.claims.take((key, fingerprint)).await
    }

    /// The task that this key's identical submission within the last minute made (F4).
    pub fn twin(&self, key: KeyId, fingerprint: u128) -> Result<Option<Task>, TaskError> {
        let since = self.clock.now_ms().saturating_sub(self.settings.duplicate_ms);
        Ok(self.store.twin(key, fingerprint, since)?)
    }

    /// Notes that a task answered for another submission.
    pub fn count_duplicate(&self, id: TaskId) -> Result<(), TaskError> {
        Ok(self.store.count_duplicate(id)?)
    }

    /// Writes the row of a task whose hold was made under its name. Without a row the hold would have no owner, so it
    /// is given back.
    pub fn accept(&self, accepted: Accepted) -> Result<Task, TaskError> {
        let ticket = accepted.ticket;
        let now_ms = self.clock.now_ms();
        let task = accepted.task(now_ms, &self.settings);
        let written = self.books.durability().wait_blocking(ticket).map_err(TaskError::from);
        match written.and_then(|()| Ok(self.store.insert(&task)?)) {
            Ok(()) => Ok(task),
            Err(why) => {
                let outcome = Outcome::gateway_fault();
                let end = TaskEnd::Release(ReleaseReason::GatewayFault);
                let ended = self.books.end_task(task.request, self.decided(&task)?, end, outcome);
                ended.map_err(TaskError::from).and(Err(why))
            }
        }
    }

    /// Asks the upstream to make it. An error says that it will not, and that nothing is charged; a task that the
    /// upstream may or may not have comes back as it is, and is the poller's to find.
    pub fn submit(&self, task: &Task, submission: &Submission) -> Result<Task, TaskError> {
        // Until it is answered, nobody looks for it.
        let _on_its_way = self.looks.on_its_way(task.id);
        let taken = match self.say(task, submission) {
            Ok(taken) => taken,
            Err(why) => {
                let failure = Failure::new("not_submitted", "The upstream could not be asked.");
                self.end(task.id, TaskState::Failed, Some(failure), None)?;
                return Err(why);
            }
        };
        let now_ms = self.clock.now_ms();
        match taken {
            Taken::Yes { id, news } => self.confirm(task.id, &id, &news),
            Taken::No(fault) => {
                let code = code_of(fault.kind);
                let failure = Failure::new(code.as_str(), "The upstream did not take the task.");
                self.end(task.id, TaskState::Failed, Some(failure), None)?;
                Err(TaskError::Refused(fault))
            }
            Taken::Unclear(why) => {
                tracing::warn!(task = %task.id, %why, "it is not known whether the upstream has a task");
                self.change(task.id, |task| {
                    task.poll_ms = task.poll_ms.min(Some(now_ms + self.settings.unconfirmed_ms));
                })
            }
        }
    }

    fn say(&self, task: &Task, submission: &Submission) -> Result<Taken, TaskError> {
        let channel = self.channel(task)?;
        match self.ask(task, &channel, Speech.submit(task, submission)) {
            Ok(reply) => Ok(Speech.taken(reply.status, &reply.body, self.clock.now_ms())),
            // What was not sent was not taken.
            Err(TaskError::Http(HttpError::Forward(why))) if !why.sent() => {
                Err(TaskError::Http(HttpError::Forward(why)))
            }
            Err(TaskError::Http(why)) => Ok(Taken::Unclear(why.to_string().into())),
            Err(why) => Err(why),
        }
    }

    /// Notes the upstream's name of a task, and what it says of it.
    pub(super) fn confirm(&self, id: TaskId, name: &str, news: &News) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        let task = self.change(id, |task| {
            task.upstream_id = Some(name.into());
            task.submitted_ms = Some(now_ms);
            if !task.state.is_final() {
                task.poll_ms = Some(now_ms + self.settings.poll_ms);
            }
        })?;
        if task.state.is_final() {
            // It ended here before the upstream's answer came: nobody waits for it any more.
            self.cancel_upstream(&task)?;
            return Ok(task);
        }
        self.take_news(task, news)
    }

    /// A task that is there for this account and key environment; what it owes the ledger is done first.
    pub fn get(&self, id: TaskId) -> Result<Task, TaskError> {
        let task = self.store.task(id)?.ok_or(TaskError::NotFound)?;
        self.follow(task)
    }

    pub fn of_request(&self, request: RequestId) -> Result<Option<Task>, TaskError> {
        Ok(self.store.of_request(request)?)
    }

    /// The task that a call told its caller of, or would have. One that no upstream has taken is none.
    pub fn made_by(&self, request: RequestId) -> Result<Option<Task>, TaskError> {
        let task = self.store.of_request(request)?;
        Ok(task.filter(|task| task.state != TaskState::Failed || task.submitted_ms.is_some()))
    }

    pub fn search(&self, search: &Search) -> Result<Vec<Task>, TaskError> {
        self.store.search(search)?.into_iter().map(|task| self.follow(task)).collect()
    }

    /// Cancels a task that runs. One that turns out to be finished stays so; one that its upstream does not let go
    /// of runs on.
    pub fn cancel(&self, id: TaskId) -> Result<Task, TaskError> {
        // What somebody learns of it at this moment comes first.
        let _look = self.looks.take(id);
        let task = self.get(id)?;
        if task.state.is_final() {
            return Ok(task);
        }
        // What is made already is to be paid.
        let task = match &task.upstream_id {
            Some(_) => self.ask_about(task)?,
            None => task,
        };
        if task.state.is_final() || (task.upstream_id.is_some() && !self.cancel_upstream(&task)?) {
            return Ok(task);
        }
        let failure = Failure::new("cancelled", "It was cancelled before it was finished.");
        self.end(id, TaskState::Cancelled, Some(failure), None)
    }

    /// Hides a finished task from its owner, and has the upstream forget it.
    pub fn delete(&self, id: TaskId) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        let task = self.cancel(id)?;
        if !task.state.is_final() {
            return Ok(task);
        }
        if task.state == TaskState::Succeeded
            && let Err(why) = self.cancel_upstream(&task)
        {
            tracing::warn!(task = %id, %why, "the upstream was not told to forget a task");
        }
        self.change(id, |task| task.deleted_ms = task.deleted_ms.or(Some(now_ms)))
    }

    /// Whether the upstream has let go of it.
    pub(super) fn cancel_upstream(&self, task: &Task) -> Result<bool, TaskError> {
        let Some(name) = &task.upstream_id else { return Ok(false) };
        let channel = self.channel(task)?;
        let status = self.ask(task, &channel, Speech.cancel(name))?.status;
        Ok((200..300).contains(&status) || matches!(status, 404 | 410))
    }

    /// Where the result of a task is; `None`: there is none.
    pub fn place(&self, task: &Task, variant: Option<&str>) -> Result<Option<Place>, TaskError> {
        let Some(name) = task.upstream_id.as_deref().filter(|_| task.state == TaskState::Succeeded) else {
            return Ok(None);
        };
        let channel = self.channel(task)?;
        let path = Speech.content(name, variant);
        let (base, headers) = (channel.base_url.to_string(), self.headers(task, &channel)?);
        Ok(Some(Place { base, path, headers }))
    }

    /// The one way into a final state: the first end that is written stands, whatever comes later. The ledger follows.
    pub(super) fn end(
        &self,
        id: TaskId,
        state: TaskState,
        failure: Option<Failure>,
        product: Option<&Product>,
    ) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        let task = self.change(id, |task| {
            if !task.state.may_become(state) {
                return;
            }
            task.end(state, failure.clone(), now_ms);
            if let Some(product) = product {
                task.used_ms = product.used_ms.or(Some(task.wish.duration_ms));
                task.result_expires_ms = product.expires_ms;
            }
        })?;
        self.follow(task)
    }

    /// Changes a task as it is now, in one transaction.
    pub(super) fn change(&self, id: TaskId, change: impl Fn(&mut Task)) -> Result<Task, TaskError> {
        self.store.db.transaction(|tx| {
            let mut task = store::task_in(tx, id)?.ok_or(TaskError::NotFound)?;
            change(&mut task);
            store::update_in(tx, &mut task)?;
            Ok(task)
        })
    }

    pub(super) fn channel(&self, task: &Task) -> Result<Arc<Channel>, TaskError> {
        let snapshot = self.directory.snapshot_owned();
        let known = snapshot.channels().find(|channel| channel.id == task.channel).cloned();
        known.ok_or_else(|| TaskError::Channel(format!("{} is gone", task.channel)))
    }

    pub(super) fn ask(&self, task: &Task, channel: &Channel, question: Question) -> Result<Reply, TaskError> {
        let target = Target::parse(&channel.base_url).map_err(|why| TaskError::Channel(why.to_string()))?;
        let mut headers = self.headers(task, channel)?;
        if let Some(kind) = question.content_type.as_deref() {
            let kind = HeaderValue::from_str(kind).map_err(|why| TaskError::Channel(why.to_string()))?;
            headers.push((CONTENT_TYPE, kind));
        }
        let Question { method, path, body, .. } = question;
        Ok(self.http.ask(Ask { target, method, path, headers, body })?)
    }

    fn headers(&self, task: &Task, channel: &Channel) -> Result<Vec<(HeaderName, HeaderValue)>, TaskError> {
        let all = self.directory.credentials(channel)?;
        let own = all.get(task.credential as usize).or(all.first());
        let credential = own.ok_or_else(|| TaskError::Channel("it has no credential".to_owned()))?;
        let bearer = format!("Bearer {}", credential.expose());
        let mut bearer = HeaderValue::from_str(&bearer)
            .map_err(|_| TaskError::Channel("the credential is no header value".to_owned()))?;
        bearer.set_sensitive(true);
        let agent = HeaderValue::from_static(concat!("tallygate/", env!("CARGO_PKG_VERSION")));
        let mut headers = vec![(AUTHORIZATION, bearer), (USER_AGENT, agent)];
        headers.extend(HeaderValue::from_bytes(&task.request.text()).ok().map(|name| (CALLER_REQUEST, name)));
        Ok(headers)
    }

    /// Gives back holds whose task was never written: a crash came in between, and the upstream was not asked. To be
    /// called once the books are open. Answers how many there were.
    pub fn repair(&self) -> Result<usize, TaskError> {
        let mut repaired = 0;
        for (request, id) in self.books.task_holds() {
            if self.store.task(id)?.is_some() {
                continue;
            }
            let outcome = Outcome { ending: Ending::ProcessDied, ..Outcome::gateway_fault() };
            let end = TaskEnd::Release(ReleaseReason::ProcessDied);
            match self.books.end_task(request, self.call(request)?, end, outcome) {
                Ok(_) => repaired += 1,
                Err(BooksError::Refused(why)) => tracing::warn!(%request, %why, "a hold without a task"),
                Err(why) => return Err(why.into()),
            }
        }
        Ok(repaired)
    }
}

impl Accepted {
    fn task(self, now_ms: i64, settings: &Settings) -> Task {
        Task {
            id: self.id,
            request: self.request,
            account: self.account,
            environment: self.environment,
            key: self.key,
            project: self.project,
            channel: self.channel,
            credential: self.credential,
            model: self.model,
            upstream_model: self.upstream_model,
            wish: self.wish,
            price: self.price,
            price_row: self.price_row,
            multiplier_ppm: self.multiplier_ppm,
            hold: self.hold,
            deadline_ms: now_ms.saturating_add(settings.deadline_ms),
            created_ms: now_ms,
            state: TaskState::Queued,
            progress: 0,
            failure: None,
            upstream_id: None,
            result_expires_ms: None,
            used_ms: None,
            money: TaskMoney::Held,
            charged: Nano::ZERO,
            attempts: 1,
            duplicates: 0,
            // Unless the upstream's name of it is learnt before.
            poll_ms: Some(now_ms.saturating_add(settings.unconfirmed_ms)),
            polls: 0,
            submitted_ms: None,
            ended_ms: None,
            deleted_ms: None,
            version: 1,
        }
    }
}
