//! A task on its way to an upstream: attempt after attempt, until a channel has it or none is left. It runs by itself, so
//! that it goes on whether or not its caller waits.
//!
//! Promises: a task goes to another channel only where the one before has not taken it, for certain; where a task goes
//! is on disk before it is sent there. What may have been taken is the poller's to find, and where there is nothing to
//! be found it ends, unpaid.
//! Must never: send a task that an upstream may have to another one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use ledger::{Nano, Usage};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::catalogue::Code;
use crate::directory::Price;
use crate::tasks::upstream::{News, Question, Speech, Taken};
use crate::tasks::{self, Made, Onward, Submission, Task, TaskError, Used};

use super::attempt::{Attempting, Failure, Spent, code_of, header_pair};
use super::bounds::Bounds;
use super::convert::ConvertFault;
use super::facts::Attempt;
use super::failover::Failing;
use super::meter::{Meter, MeteredCall};
use super::settle;
use super::submit::blocking;
use super::upstream::{Answer, Call, Collected};
use super::worker::Worker;

/// An answer that only names a task is read up to this size, one with pictures in it up to that.
const NAME_BYTES_MAX: usize = 1 << 20;
/// An answer that only names a task comes within this time.
const NAME_PATIENCE: Duration = Duration::from_secs(20);
/// Of a field that an upstream has no place for.
const NO_PLACE: &str = "nothing, as no channel of the model has a place for it";
const PICTURES_BYTES_MAX: usize = 64 << 20;

/// See the module.
pub(super) struct Delivery {
    pub worker: Rc<Worker>,
    pub task: Task,
    pub submission: Submission,
    pub price: Arc<Price>,
    /// The one under way.
    pub attempt: Attempting,
    /// What it can use at the most.
    pub most: Usage,
    /// Output tokens of one picture or film, at the most.
    pub output_cap: u32,
    /// Of the dearest group that may serve it.
    pub multiplier_ppm_max: u64,
    /// Boot-clock time at which the request arrived.
    pub arrived_ns: u64,
    /// Who submitted it waits here until it is told.
    pub reply: Option<oneshot::Sender<Result<Task, Undelivered>>>,
}

/// Why no upstream has the task.
pub(super) enum Undelivered {
    Failed(Failure),
    /// What became of it could not be written down.
    Lost(TaskError),
}

impl From<TaskError> for Undelivered {
    fn from(why: TaskError) -> Self {
        Undelivered::Lost(why)
    }
}

/// What came of one attempt.
enum Sent {
    Taken {
        name: Box<str>,
        news: News,
    },
    Made {
        made: Vec<Made>,
        body: Bytes,
    },
    /// It was not taken.
    Refused(Failure),
    /// It may have been.
    Unclear(Failure),
}

impl Delivery {
    /// Ends once an upstream has it, or may have, or none will.
    pub async fn run(mut self) {
        let mut reply = self.reply.take();
        match (self.deliver(&mut reply).await, reply) {
            // Who has gone hears of it when it asks.
            (delivered, Some(reply)) => drop(reply.send(delivered)),
            (Err(Undelivered::Lost(why)), None) => {
                tracing::error!(%why, "what became of a task could not be written down");
            }
            (_, None) => {}
        }
    }

    async fn deliver(
        mut self,
        reply: &mut Option<oneshot::Sender<Result<Task, Undelivered>>>,
    ) -> Result<Task, Undelivered> {
        loop {
            let channel = Arc::clone(&self.attempt.route.channel);
            let speech = Speech::of(self.task.wish.kind, &channel);
            if speech.answers_with_results()
                && let Some(reply) = reply.take()
            {
                // Nobody waits for what takes minutes.
                let id = self.task.id;
                self.task = self.on_tasks(move |tasks| tasks.begun(id)).await?;
                let _gone = reply.send(Ok(self.task.clone()));
            }
            let gateway = Arc::clone(&self.worker.gateway);
            let sent = tokio::select! {
                biased;
                sent = self.send(speech) => sent,
                // Where a task is not found again, nobody can wait for it after a restart.
                () = gateway.stopped(), if !speech.finds() => {
                    Sent::Unclear(Failure::unclear(Code::GatewayOverloaded, "the gateway stopped".into()))
                }
            };
            match sent {
                Sent::Taken { name, news } => {
                    self.tell_health(None, None);
                    let id = self.task.id;
                    return Ok(self.on_tasks(move |tasks| tasks.confirm(id, &name, &news)).await?);
                }
                Sent::Made { made, body } => return self.made(made, body).await,
                Sent::Unclear(failure) => return self.unclear(speech, failure).await,
                Sent::Refused(failure) => {
                    let tried = self.ended(Some(&failure), &Spent::Nothing);
                    let next = self.next(&failure, &tried);
                    let Some(next) = next else { return self.refused(tried, failure).await };
                    if !self.move_on(tried, next).await? {
                        return Ok(self.task);
                    }
                }
            }
        }
    }

    async fn send(&mut self, speech: Speech<'_>) -> Sent {
        let question = match speech.submit(&self.task, &self.submission) {
            Ok(question) => question,
            Err(unfit) => return Sent::Refused(ConvertFault::new(unfit.field, NO_PLACE, "it").into()),
        };
        let Question { method, path, content_type, headers: more, body } = question;
        let route = Rc::clone(&self.attempt.route);
        let mut headers = match self.worker.gateway.app.tasks.headers(&self.task, &route.channel) {
            Ok(headers) => headers,
            Err(why) => return Sent::Refused(Failure::unusable(&why.to_string())),
        };
        let content_type = content_type.and_then(|kind| HeaderValue::from_str(&kind).ok());
        headers.extend(content_type.map(|kind| (CONTENT_TYPE, kind)));
        headers.extend(more);
        let call = Call { target: &route.target, method, path: &path, headers: &headers, body };
        let total = self.worker.gateway.total_timeout;
        let patience = if speech.answers_with_results() { total } else { NAME_PATIENCE.min(total) };
        let mut answer = match timeout(patience, self.worker.upstreams.send(call)).await {
            Ok(Ok(answer)) => answer,
            // What was not sent was not taken.
            Ok(Err(why)) if !why.sent() => return Sent::Refused(Failure::from(&why)),
            Ok(Err(why)) => return Sent::Unclear(Failure::from(&why)),
            Err(_elapsed) => return Sent::Unclear(Failure::timed_out()),
        };
        self.attempt.note_head(&answer);
        match self.read(&mut answer, speech).await {
            Ok(body) => self.taken(speech, &answer, body),
            Err(failure) => Sent::Unclear(failure),
        }
    }

    async fn read(&self, answer: &mut Answer, speech: Speech<'_>) -> Result<Bytes, Failure> {
        let limit = if speech.answers_with_results() { PICTURES_BYTES_MAX } else { NAME_BYTES_MAX };
        match timeout(self.worker.gateway.total_timeout, answer.body.collect(limit)).await {
            Err(_elapsed) => Err(Failure::timed_out()),
            Ok(Err(why)) => Err(Failure::from(&why)),
            Ok(Ok(Collected::Whole(body))) => Ok(body),
            Ok(Ok(Collected::Begun(_))) => {
                Err(Failure::unclear(Code::UpstreamError, "the answer is too long".into()))
            }
        }
    }

    fn taken(&self, speech: Speech<'_>, answer: &Answer, body: Bytes) -> Sent {
        let headers: HeaderMap = answer.headers.iter().filter_map(header_pair).collect();
        let now_ms = self.worker.gateway.app.clock.now_ms();
        match speech.taken(&self.task, answer.status.as_u16(), &headers, &body, now_ms) {
            Taken::Yes { id, news } => Sent::Taken { name: id, news },
            Taken::Made(made) => Sent::Made { made, body },
            Taken::No(fault) => {
                let mut failure = Failure::from(fault);
                self.attempt.route.hide_credential(self.attempt.credential, &mut failure.text);
                Sent::Refused(failure)
            }
            Taken::Unclear(kind, text) => Sent::Unclear(Failure::unclear(code_of(kind), text)),
        }
    }

    /// Metered as the answer of a call that waits is.
    async fn made(mut self, made: Vec<Made>, body: Bytes) -> Result<Task, Undelivered> {
        let Submission { request, body: asked, .. } = &self.submission;
        let Attempting { route, format, .. } = &self.attempt;
        let (route, format) = (Rc::clone(route), *format);
        let bounds = Bounds::of(request, self.output_cap, &self.worker.gateway.app);
        let call = MeteredCall { route, format, request: request.clone(), body: asked.clone(), bounds };
        let mut meter = Meter::new(Rc::new(call));
        meter.whole(&body);
        let (usage, source) = settle::sold(&self.price, &meter.read().await);
        let tried = self.ended(None, &Spent::Used(usage, source));
        let (id, used) = (self.task.id, Used { usage, source });
        Ok(self.on_tasks(move |tasks| tasks.made(id, &tried, used, made)).await?)
    }

    /// A task is looked for where it may be; where an upstream keeps no tasks, nothing will ever be found.
    async fn unclear(mut self, speech: Speech<'_>, failure: Failure) -> Result<Task, Undelivered> {
        let (id, why) = (self.task.id, &failure.text);
        tracing::warn!(task = %id, %why, "it is not known whether the upstream has a task");
        if !speech.finds() {
            let tried = self.ended(Some(&failure), &Spent::AtMost);
            return self.refused(tried, failure).await;
        }
        self.tell_health(Some(failure.code), failure.retry_after);
        Ok(self.on_tasks(move |tasks| tasks.unconfirmed(id)).await?)
    }

    async fn refused(self, tried: Attempt, failure: Failure) -> Result<Task, Undelivered> {
        let told = match (failure.code, failure.may_be_billed) {
            (Code::GatewayOverloaded, _) => tasks::Failure::interrupted(),
            (code, true) => tasks::Failure::new(code.as_str(), "The upstream's answer was lost."),
            (code, false) => tasks::Failure::new(code.as_str(), "The upstream did not take the task."),
        };
        let id = self.task.id;
        self.on_tasks(move |tasks| tasks.refused(id, &tried, told)).await?;
        Err(Undelivered::Failed(failure))
    }

    fn next(&self, failure: &Failure, tried: &Attempt) -> Option<Attempting> {
        if !failure.is_the_channels() {
            return None;
        }
        let all: Vec<Attempt> = self.task.tried.iter().chain([tried]).cloned().collect();
        let failing = Failing {
            request: self.task.request,
            key: self.task.key,
            model: &self.task.model,
            endpoint: self.submission.request.endpoint,
            tried: &all,
            multiplier_ppm_max: self.multiplier_ppm_max,
            arrived_ns: self.arrived_ns,
        };
        failing.next(&self.worker)
    }

    /// Whether it is still to be made.
    async fn move_on(&mut self, tried: Attempt, next: Attempting) -> Result<bool, Undelivered> {
        let channel = &next.route.channel;
        let onward = Onward {
            channel: channel.id,
            credential: u32::try_from(next.credential).unwrap_or(0),
            upstream_model: channel.models.get(&self.task.model).unwrap_or(&self.task.model).clone(),
            multiplier_ppm: next.multiplier_ppm,
        };
        self.attempt = next;
        let id = self.task.id;
        self.task = self.on_tasks(move |tasks| tasks.move_on(id, &tried, &onward)).await?;
        Ok(!self.task.state.is_final())
    }

    fn tell_health(&mut self, fault: Option<Code>, retry_after: Option<Duration>) {
        let worker = Rc::clone(&self.worker);
        self.attempt.tell_health(&worker, &self.task.model, fault, retry_after);
    }

    /// The attempt as it is kept, and what its channel's health is to learn of it.
    fn ended(&mut self, failure: Option<&Failure>, spent: &Spent) -> Attempt {
        let fault = failure.map(|failure| failure.code);
        self.tell_health(fault, failure.and_then(|failure| failure.retry_after));
        let billed = |usage| self.attempt.route.channel.cost(&self.task.model, &self.price, usage);
        let cost = match spent {
            Spent::Nothing => Some(Nano::ZERO),
            Spent::Used(usage, _) => billed(usage),
            Spent::AtMost => billed(&self.most),
        };
        let now_ns = self.worker.gateway.app.clock.mono_ns();
        self.attempt.ended(now_ns.saturating_sub(self.arrived_ns) / 1_000, fault, spent, cost)
    }

    async fn on_tasks(
        &self,
        work: impl FnOnce(&tasks::Tasks) -> Result<Task, TaskError> + Send + 'static,
    ) -> Result<Task, TaskError> {
        let tasks = Arc::clone(&self.worker.gateway.app.tasks);
        blocking(move || work(&tasks)).await
    }
}
