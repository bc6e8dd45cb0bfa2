//! Looking after tasks without waiting for their callers: asking about them, finding those whose upstream's name was
//! lost, ending them at their deadline, and letting the ledger follow (S7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use hashbrown::HashSet;
use parking_lot::Mutex;

use super::error::TaskError;
use super::service::Tasks;
use super::task::{CHANNEL_GONE, Failure, LOST_THERE, Task, TaskState};
use super::upstream::{Found, News, Speech};
use crate::directory::Channel;
use crate::id::{ChannelId, TaskId};

/// Tasks that are looked at in one go, so many of them at a time.
const BATCH: u32 = 128;
const AT_A_TIME: usize = 8;
/// How often the poller looks for tasks that are due, at the most.
const TICK: Duration = Duration::from_millis(500);

/// Channels whose upstream was silent, or not there, in this round.
#[derive(Default)]
struct Unreached(Mutex<HashSet<ChannelId>>);

impl Unreached {
    fn has(&self, channel: ChannelId) -> bool {
        self.0.lock().contains(&channel)
    }

    fn note(&self, channel: ChannelId) {
        self.0.lock().insert(channel);
    }
}

impl Tasks {
    /// Looks at every task that is due. Answers how many there were.
    pub fn poll_due(&self) -> Result<usize, TaskError> {
        let now_ms = self.clock.now_ms();
        self.results.sweep(now_ms)?;
        let due = self.store.due(now_ms, BATCH)?;
        let (next, unreached) = (AtomicUsize::new(0), Unreached::default());
        let look = || {
            while let Some(task) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(why) = self.look_at(task.clone(), &unreached) {
                    tracing::warn!(task = %task.id, %why, "a task could not be brought forward");
                }
            }
        };
        // Upstreams are slow, not their number: a few threads wait for them.
        std::thread::scope(|threads| {
            for _ in 1..AT_A_TIME.min(due.len()) {
                threads.spawn(look);
            }
            look();
        });
        Ok(due.len())
    }

    fn look_at(&self, mut task: Task, unreached: &Unreached) -> Result<Task, TaskError> {
        if task.is_unsettled() {
            return self.follow(task);
        }
        // One that is being submitted or cancelled is looked at after.
        let Some(_look) = self.looks.try_take(task.id) else { return Ok(task) };
        let lease = self.clock.now_ms().saturating_add(self.settings.lease_ms);
        if task.state.is_final() || !self.store.lease(&mut task, lease)? {
            // Another poller has it.
            return Ok(task);
        }
        let asked = match task.upstream_id {
            // The others are not to wait for it task after task.
            _ if unreached.has(task.channel) => Ok(task.clone()),
            Some(_) => self.ask_about(task.clone()),
            None => self.look_for(task.clone()),
        };
        if let Err(TaskError::Http(_)) = &asked {
            unreached.note(task.channel);
        }
        match asked {
            Ok(task) if task.state.is_final() => Ok(task),
            Ok(task) => self.look_later(task),
            // The channel was deleted: nobody can ask about it any more (S8).
            Err(TaskError::Channel(why)) => {
                let text = format!("The channel that it was sent to can no longer be used ({why}).");
                self.end(task.id, TaskState::Failed, Some(Failure::new(CHANNEL_GONE, text)), None)
            }
            Err(why) => {
                tracing::warn!(task = %task.id, %why, "nothing was learnt about a task");
                self.look_later(task)
            }
        }
    }

    /// Asks the upstream about a task and takes what it says.
    pub(super) fn ask_about(&self, task: Task) -> Result<Task, TaskError> {
        let channel = self.channel(&task)?;
        let Some((mut news, is_strange)) = self.news_of(&task, &channel)? else { return Ok(task) };
        if is_strange && let Some((found, there)) = self.look_under_others(&task, &channel)? {
            self.forget_unknown(task.id);
            let task = self.change(task.id, |task| task.credential = found)?;
            return self.take_news(task, &there);
        }
        match news {
            News::Unknown if !self.is_lost(task.id) => {
                news = News::Unclear("it knows no such task".into());
            }
            News::Unknown | News::Unclear(_) => {}
            _ => self.forget_unknown(task.id),
        }
        self.take_news(task, &news)
    }

    /// What its upstream says of a task, and whether it may say so because it is asked with another account's key.
    fn news_of(&self, task: &Task, channel: &Channel) -> Result<Option<(News, bool)>, TaskError> {
        let Some(name) = &task.upstream_id else { return Ok(None) };
        let speech = Speech::of(task.wish.kind, channel);
        let Some(question) = speech.ask(task, name) else { return Ok(None) };
        let reply = self.ask(task, channel, question)?;
        let news = speech.news(task, reply.status, &reply.body, self.clock.now_ms());
        Ok(Some((news, matches!(reply.status, 401 | 403 | 404 | 410))))
    }

    /// The channel's keys may have been changed since: which of the others its upstream knows the task under.
    fn look_under_others(&self, task: &Task, channel: &Channel) -> Result<Option<(u32, News)>, TaskError> {
        let all = u32::try_from(channel.credentials.len()).unwrap_or(u32::MAX);
        for credential in (0..all).filter(|other| *other != task.credential) {
            let asked = Task { credential, ..task.clone() };
            if let Some((news, false)) = self.news_of(&asked, channel)?
                && !matches!(news, News::Unclear(_))
            {
                return Ok(Some((credential, news)));
            }
        }
        Ok(None)
    }

    /// Whether the upstream has known nothing of a task for long enough: one such answer proves nothing.
    fn is_lost(&self, id: TaskId) -> bool {
        let now_ms = self.clock.now_ms();
        let since_ms = *self.unknown_since_ms.lock().entry(id).or_insert(now_ms);
        now_ms.saturating_sub(since_ms) >= self.settings.unconfirmed_ms
    }

    fn forget_unknown(&self, id: TaskId) {
        self.unknown_since_ms.lock().remove(&id);
    }

    /// What the upstream says becomes the task's state.
    pub(super) fn take_news(&self, task: Task, news: &News) -> Result<Task, TaskError> {
        let failed = |state, failure: Failure| self.end(task.id, state, Some(failure), None);
        match news {
            News::Made(product) => self.end(task.id, TaskState::Succeeded, None, Some(product)),
            News::Failed(failure) => failed(TaskState::Failed, failure.clone()),
            News::Cancelled => {
                failed(TaskState::Cancelled, Failure::new("cancelled", "The upstream cancelled it."))
            }
            News::Unknown => {
                self.forget_unknown(task.id);
                let text = "The upstream knows no such task any more.";
                failed(TaskState::Failed, Failure::new(LOST_THERE, text))
            }
            News::Running { progress } if (task.state, task.progress) != (TaskState::Running, *progress) => {
                self.change(task.id, |task| {
                    if !task.state.is_final() {
                        (task.state, task.progress) = (TaskState::Running, *progress);
                    }
                })
            }
            News::Running { .. } | News::Queued => Ok(task),
            News::Unclear(why) => {
                tracing::warn!(task = %task.id, %why, "an upstream's answer about a task says nothing");
                Ok(task)
            }
        }
    }

    /// A crash, or a lost answer, came between the question to the upstream and its name of the task.
    fn look_for(&self, task: Task) -> Result<Task, TaskError> {
        let channel = self.channel(&task)?;
        let speech = Speech::of(task.wish.kind, &channel);
        let Some(question) = speech.look_up() else {
            // Whoever waited for its answer would have ended it by now.
            return self.end(task.id, TaskState::Failed, Some(Failure::interrupted()), None);
        };
        let reply = self.ask(&task, &channel, question)?;
        // Of several that are alike, each must get a name of its own.
        let _naming = self.naming.lock();
        match speech.found(&task, reply.status, &reply.body) {
            // A name may be of one that is alike and is just being submitted.
            Found::These(_) if self.looks.is_any_on_its_way(&self.store.unnamed_like(&task)?) => Ok(task),
            Found::These(names) => {
                for name in names {
                    if !self.store.is_taken(task.channel, &name)? {
                        tracing::info!(task = %task.id, %name, "found a task again at its upstream");
                        return self.confirm(task.id, &name, &News::Queued);
                    }
                }
                Ok(task)
            }
            Found::Nothing => {
                let text = "It never reached the upstream: the gateway or the connection failed before.";
                self.end(task.id, TaskState::Failed, Some(Failure::new("not_submitted", text)), None)
            }
            Found::Unclear => Ok(task),
        }
    }

    /// Later each time; at the deadline for the last time.
    fn look_later(&self, task: Task) -> Result<Task, TaskError> {
        let now_ms = self.clock.now_ms();
        if now_ms >= task.deadline_ms {
            let text = match task.upstream_id {
                Some(_) => "It was not finished before its deadline.",
                None => {
                    "The upstream's answer to it was lost, and it was not found there before its deadline."
                }
            };
            let expired = self.end(task.id, TaskState::Expired, Some(Failure::new("expired", text)), None)?;
            if expired.state == TaskState::Expired
                && let Err(why) = self.cancel_upstream(&expired)
            {
                tracing::warn!(task = %task.id, %why, "the upstream was not told that a task has expired");
            }
            return Ok(expired);
        }
        self.change(task.id, |task| {
            if !task.state.is_final() {
                let pause = self.settings.poll_ms.saturating_mul(1 << (task.polls / 4).min(12));
                let pause = pause.min(self.settings.poll_ms_max);
                task.poll_ms = Some(now_ms.saturating_add(pause).min(task.deadline_ms));
                task.polls = task.polls.saturating_add(1);
            }
        })
    }
}

/// The thread that looks after tasks, until it is dropped.
pub struct Poller(#[expect(dead_code, reason = "dropping it ends the thread")] Sender<()>);

impl Poller {
    pub fn start(tasks: Arc<Tasks>) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let tick = Duration::from_millis(u64::try_from(tasks.settings.poll_ms).unwrap_or(u64::MAX)).min(TICK);
        let run = move || {
            while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                if let Err(why) = tasks.poll_due() {
                    tracing::warn!(%why, "tasks could not be looked at");
                }
            }
        };
        std::thread::Builder::new().name("tasks".into()).spawn(run)?;
        Ok(Poller(stop))
    }
}
