//! Accepting tasks, submitting them, reading and cancelling them, and putting right what a crash left.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue};
use ledger::ReleaseReason;
use parking_lot::Mutex;

use super::accepted::Accepted;
use super::claim::{Claim, Claims};
use super::copies::Copies;
use super::error::TaskError;
use super::fetch::There;
use super::looks::{Looks, OnItsWay};
use super::owners::Owners;
use super::results::{Made, Results};
use super::store::{self, Search, TaskStore};
use super::task::{Failure, Task, TaskState};
use super::thumbnails::Thumbnails;
use super::upstream::{News, Product, Question, Speech, credential_header, refusal_of_credential};
use super::used::Used;
use crate::books::{Books, BooksError, TaskEnd};
use crate::catalogue::Code;
use crate::clock::{Clock, Entropy};
use crate::config::Config;
use crate::directory::{Channel, Directory};
use crate::gateway::caller_request;
use crate::gateway::channel_health::{ChannelHealth, Fault};
use crate::gateway::facts::{Attempt, Ending, Outcome};
use crate::gateway::upstream::Target;
use crate::http_client::{Ask, HttpClient, Reply};
use crate::id::{ChannelId, KeyId, RequestId, TaskId};
use crate::notices::Notices;
use crate::store::{Db, Projections};

pub(super) const AGENT: &str = concat!("tallygate/", env!("CARGO_PKG_VERSION"));
/// Addresses of pictures are good for an hour, as OpenAI tells of its own.
const ADDRESS_KEPT_MS: i64 = 3_600_000;

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
    /// Longest time for which an upstream is waited for that answers with what it made.
    pub answer_ms: i64,
    pub duplicate_ms: i64,
    pub result_kept_ms: i64,
    /// No other process works on the same store.
    pub is_alone: bool,
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
            answer_ms: ms(config.upstream.header_timeout_ms.saturating_add(config.upstream.total_timeout_ms)),
            duplicate_ms: ms(tasks.duplicate_ms),
            result_kept_ms: ms(tasks.result_kept_ms),
            is_alone: config.store.database_url.is_none(),
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
    /// Since when its upstream has known nothing of a task that it took.
    pub(super) unknown_since_ms: Mutex<HashMap<TaskId, i64>>,
    pub(super) results: Arc<Results>,
    pub(super) copies: Arc<Copies>,
    pub thumbnails: Arc<Thumbnails>,
    /// Who is told what is learnt of channels, and what operators have to see to.
    pub(super) channels: Arc<ChannelHealth>,
    pub(super) notices: Arc<Notices>,
}

/// Where a result is.
#[derive(Debug)]
pub enum Place {
    /// To be fetched, with the channel's own headers where they are needed.
    There(There),
    Here {
        content_type: Box<str>,
        content: Bytes,
    },
}

/// Another channel that a task moves to before one has it.
#[derive(Clone, Debug)]
pub struct Onward {
    pub channel: ChannelId,
    pub credential: u32,
    pub upstream_model: Box<str>,
    pub multiplier_ppm: u64,
}

impl Tasks {
    /// Opens the tasks on the books. What a crash left is put right by [`Tasks::repair`].
    pub fn new(
        db: Db,
        books: Arc<Books>,
        projections: Projections,
        (directory, channels, notices): (Arc<Directory>, Arc<ChannelHealth>, Arc<Notices>),
        (results, copies, thumbnails): (Arc<Results>, Arc<Copies>, Arc<Thumbnails>),
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        settings: Settings,
    ) -> Self {
        let http = HttpClient::new(clock.clone(), entropy.clone());
        Tasks {
            results,
            copies,
            thumbnails,
            channels,
            notices,
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
            unknown_since_ms: Mutex::default(),
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
        let mut task = accepted.task(now_ms, now_ms.saturating_add(self.settings.deadline_ms));
        task.poll_ms = Some(self.silence_ends_ms(&task, now_ms));
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

    /// Until it is dropped, nobody looks for the task.
    pub fn on_its_way(&self, id: TaskId) -> OnItsWay {
        self.looks.on_its_way(id)
    }

    /// Its upstream has been asked, and answers with what it made; whoever submitted it is told of a task.
    pub fn begun(&self, id: TaskId) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        self.change(id, |task| {
            task.submitted_ms = Some(now_ms);
            if task.state == TaskState::Queued {
                task.state = TaskState::Running;
            }
        })
    }

    /// The upstream may have it: the poller looks for it there.
    pub fn unconfirmed(&self, id: TaskId) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        self.change(id, |task| {
            if !task.state.is_final() {
                task.poll_ms = task.poll_ms.min(Some(now_ms + self.settings.unconfirmed_ms));
            }
        })
    }

    /// A channel did not take it, for certain, so that it moves to another one; on disk before that is asked. A task
    /// that has come to its end meanwhile stays where it is.
    pub fn move_on(&self, id: TaskId, tried: &Attempt, onward: &Onward) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        self.change(id, |task| {
            if task.state.is_final() {
                return;
            }
            task.tried.push(tried.clone());
            (task.channel, task.credential) = (onward.channel, onward.credential);
            task.upstream_model.clone_from(&onward.upstream_model);
            task.multiplier_ppm = onward.multiplier_ppm;
            task.attempts = task.attempts.saturating_add(1);
            task.poll_ms = Some(self.silence_ends_ms(task, now_ms));
        })
    }

    /// No channel made it.
    pub fn refused(&self, id: TaskId, tried: &Attempt, failure: Failure) -> Result<Task, TaskError> {
        self.end_tried(id, Some(tried), TaskState::Failed, Some(failure), None)
    }

    /// Its upstream answered with what it made. One that has come to its end meanwhile stays as it is.
    pub fn made(&self, id: TaskId, tried: &Attempt, used: Used, made: Vec<Made>) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        let is_here = made.iter().all(|made| matches!(made, Made::Here { .. }));
        let kept_ms = if is_here { self.settings.result_kept_ms } else { ADDRESS_KEPT_MS };
        let expires_ms = Some(now_ms.saturating_add(kept_ms));
        let product = Product { used: Some(used), expires_ms, made, cost: None };
        self.end_tried(id, Some(tried), TaskState::Succeeded, None, Some(&product))
    }

    /// Notes the upstream's name of a task, and what it says of it.
    pub fn confirm(&self, id: TaskId, name: &str, news: &News) -> Result<Task, TaskError> {
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
        if task.state.is_final() || self.is_being_made(&task)? {
            return Ok(task);
        }
        if task.upstream_id.is_some() && !self.cancel_upstream(&task)? {
            return Ok(task);
        }
        let failure = Failure::new("cancelled", "It was cancelled before it was finished.");
        self.end(id, TaskState::Cancelled, Some(failure), None)
    }

    /// Whether an upstream is at it that cannot be told to stop, as it answers with what it made.
    fn is_being_made(&self, task: &Task) -> Result<bool, TaskError> {
        let is_begun = task.upstream_id.is_none() && task.state == TaskState::Running;
        Ok(is_begun && Speech::of(task.wish.kind, &*self.channel(task)?).answers_with_results())
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
        self.results.remove(id)?;
        self.thumbnails.remove(id)?;
        self.copies.store.remove(id, now_ms)?;
        self.change(id, |task| task.deleted_ms = task.deleted_ms.or(Some(now_ms)))
    }

    /// Whether the upstream has let go of it.
    pub(super) fn cancel_upstream(&self, task: &Task) -> Result<bool, TaskError> {
        let Some(name) = &task.upstream_id else { return Ok(false) };
        let channel = self.channel(task)?;
        let speech = Speech::of(task.wish.kind, &channel);
        let Some(question) = speech.cancel(task, name) else { return Ok(false) };
        let status = self.ask(task, &channel, question)?.status;
        Ok((200..300).contains(&status) || matches!(status, 404 | 410))
    }

    /// Where a result of a task is, from 0; `None`: there is none.
    pub fn place(&self, task: &Task, number: u32, variant: Option<&str>) -> Result<Option<Place>, TaskError> {
        if task.state != TaskState::Succeeded {
            return Ok(None);
        }
        if task.results > 0 {
            let result = match variant {
                None | Some("video") => self.results.get(task.id, number)?,
                Some(_) => None,
            };
            return match result {
                None => Ok(None),
                Some(Made::Here { content_type, content }) => Ok(Some(Place::Here { content_type, content })),
                Some(Made::At(address)) => self.address(task, &address).map(Some),
            };
        }
        let channel = self.channel(task)?;
        let speech = Speech::of(task.wish.kind, &channel);
        let path = task.upstream_id.as_deref().and_then(|name| speech.content(name, variant));
        let Some(path) = path else { return Ok(None) };
        let headers = self.headers(task, &channel)?;
        let there = There::at_the_upstream(&channel.base_url, &path, channel.proxy.as_deref(), headers);
        there.map(|there| Some(Place::There(there))).map_err(TaskError::Channel)
    }

    /// An address that an upstream told.
    fn address(&self, task: &Task, address: &str) -> Result<Place, TaskError> {
        let channel = self.channel(task)?;
        let there = There::told(address, &channel.base_url, channel.proxy.as_deref());
        let unusable = |why| TaskError::Channel(format!("the address of a result cannot be used: {why}"));
        there.map(Place::There).map_err(unusable)
    }

    /// The one way into a final state: the first end that is written stands, whatever comes later. The ledger follows.
    pub(super) fn end(
        &self,
        id: TaskId,
        state: TaskState,
        failure: Option<Failure>,
        product: Option<&Product>,
    ) -> Result<Task, TaskError> {
        self.end_tried(id, None, state, failure, product)
    }

    /// The same of a task whose last attempt ends with it. What it made is kept in the same transaction.
    fn end_tried(
        &self,
        id: TaskId,
        tried: Option<&Attempt>,
        state: TaskState,
        failure: Option<Failure>,
        product: Option<&Product>,
    ) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        let made = product.map(|product| &*product.made).unwrap_or_default();
        let sealed = self.results.seal(id, made)?;
        let expires_ms = product.and_then(|product| product.expires_ms).unwrap_or(now_ms);
        let task = self.store.db.transaction(|tx| {
            let mut task = store::task_in(tx, id)?.ok_or(TaskError::NotFound)?;
            if !task.state.may_become(state) {
                return Ok::<_, TaskError>(task);
            }
            if let Some(tried) = tried {
                task.tried.push(tried.clone());
                task.upstream_id = task.upstream_id.or_else(|| tried.upstream_request.clone());
            }
            task.end(state, failure.clone(), now_ms);
            task.produced(product);
            for result in &sealed {
                result.insert_in(tx, id, expires_ms)?;
            }
            store::update_in(tx, &mut task)?;
            self.copies.plan_in(tx, &mut task, now_ms)?;
            Ok(task)
        })?;
        self.follow(task)
    }

    /// When a task is looked at of which nothing was heard until then.
    fn silence_ends_ms(&self, task: &Task, now_ms: i64) -> i64 {
        let unconfirmed_ms = self.settings.unconfirmed_ms;
        let silence_ms = match self.channel(task) {
            Ok(channel) if Speech::of(task.wish.kind, &channel).finds() => unconfirmed_ms,
            // It ends then, so nobody may be waiting for the upstream's answer any more.
            _ => self.settings.answer_ms.saturating_add(unconfirmed_ms),
        };
        now_ms.saturating_add(silence_ms).min(task.deadline_ms)
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
        let target = target(channel)?;
        let mut headers = self.headers(task, channel)?;
        if let Some(kind) = question.content_type.as_deref() {
            let kind = HeaderValue::from_str(kind).map_err(|why| TaskError::Channel(why.to_string()))?;
            headers.push((CONTENT_TYPE, kind));
        }
        let Question { method, path, body, headers: own, .. } = question;
        headers.extend(own);
        let reply = self.http.ask(Ask { target, method, path, headers, body })?;
        if let Some(code) = refusal_of_credential(reply.status, &reply.body) {
            self.tell_refused(task, channel, code);
        }
        Ok(reply)
    }

    /// Calls are not to run into what a question about a task has shown. One that rests already does not rest longer, so
    /// that calls find out when it is good again, whatever its upstream says of tasks. `channel`: as it was asked; what was
    /// refused with credentials that were changed meanwhile says nothing of the new ones.
    fn tell_refused(&self, task: &Task, channel: &Channel, code: Code) {
        let Ok(now) = self.channel(task) else { return };
        let (health, now_ns) = (self.channels.of(&now), self.clock.mono_ns());
        let credential = credential_of(task, channel.credentials.len());
        if health.rests_with(credential, now_ns) {
            return;
        }
        let fault = Fault { model: &task.model, credential, code, retry_after: None };
        if let Some(told) = health.failed(channel, &fault, now_ns) {
            self.channels.tell(told);
        }
    }

    /// What is sent with every question about a task. Does not block.
    pub fn headers(
        &self,
        task: &Task,
        channel: &Channel,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, TaskError> {
        let all = self.directory.credentials(channel)?;
        let own = all.get(credential_of(task, all.len()));
        let credential = own.ok_or_else(|| TaskError::Channel("it has no credential".to_owned()))?;
        let credential = credential_header(channel, credential).map_err(TaskError::Channel)?;
        let mut headers = vec![credential, (USER_AGENT, HeaderValue::from_static(AGENT))];
        headers.extend(caller_request(task.request, task.tried.len() + 1));
        Ok(headers)
    }

    /// Gives back holds whose task was never written: a crash came in between, and the upstream was not asked. Ends
    /// what nobody can find again, if nobody else can be waiting for it. To be called once the books are open, and
    /// before a task is taken. Answers how many there were.
    pub fn repair(&self) -> Result<usize, TaskError> {
        let mut repaired = if self.settings.is_alone { self.end_interrupted()? } else { 0 };
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

    /// Tasks whose upstream's answer went to a process that has died, and that cannot be asked about there.
    fn end_interrupted(&self) -> Result<usize, TaskError> {
        let mut ended = 0;
        for task in self.store.unnamed()? {
            let is_lost = match self.channel(&task) {
                Ok(channel) => !Speech::of(task.wish.kind, &channel).finds(),
                Err(TaskError::Channel(_)) => true,
                Err(why) => return Err(why),
            };
            if is_lost {
                self.end(task.id, TaskState::Failed, Some(Failure::interrupted()), None)?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}

/// Place of the credential that its upstream is asked with; the first where its own is gone.
fn credential_of(task: &Task, count: usize) -> usize {
    Some(task.credential as usize).filter(|own| *own < count).unwrap_or(0)
}

fn target(channel: &Channel) -> Result<Target, TaskError> {
    let target = match &channel.proxy {
        None => Target::parse(&channel.base_url),
        Some(proxy) => Target::parse_via(&channel.base_url, proxy),
    };
    target.map_err(|why| TaskError::Channel(why.to_string()))
}
