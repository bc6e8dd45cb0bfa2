//! Making and removing copies, beside everything else: a few at a time, each again until it is done or its source is gone.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::rows::{Copy, CopyState, Written};
use super::sealed::{Damaged, Sealer};
use super::storage::{Fault, PART_BYTES, Writer};
use crate::gateway::upstream::{AnswerStream, Settings, Tls, Upstreams};
use crate::notices::{Event, Facts, NewNotice};
use crate::store::StoreError;
use crate::tasks::error::TaskError;
use crate::tasks::service::{Place, Tasks};
use crate::tasks::task::Task;

/// How often the lane looks for what is due.
const TICK: Duration = Duration::from_millis(500);
/// Rows that are looked at to find one that nobody else has.
const BATCH: u32 = 16;
/// Pause behind a try that failed, doubled from try to try.
const PAUSE_MS: i64 = 10_000;
const PAUSE_MS_MAX: i64 = 600_000;
/// An upstream that is silent for so long in the midst of a result is given up.
const IDLE: Duration = Duration::from_secs(30);
/// Time until an answer begins.
const ANSWER: Duration = Duration::from_secs(60);
/// Time that the storage may take to take in a part.
const TAKE: Duration = Duration::from_secs(120);
/// What is given up is told so often at the most: storage that is down may cost every result of a day.
const TOLD_EVERY_MS: i64 = 3_600_000;
/// Longest content type that is kept, in bytes.
const TYPE_BYTES_MAX: usize = 128;
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// One thread's connections to upstreams and storage.
pub struct Carrier {
    runtime: tokio::runtime::Runtime,
    local: LocalSet,
    pub(super) via: Upstreams,
}

/// Why a try did not end with a copy.
enum Stop {
    /// Somebody else has it now: the task was deleted, or the lease ran out.
    Taken,
    /// Later it may go well.
    Later(String),
    /// It never will.
    Never(String),
}

impl Carrier {
    /// To be used by the thread that makes it.
    pub fn new() -> io::Result<Self> {
        let tls = Tls::new(None).map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let settings = Settings { header_timeout: ANSWER, write_timeout: TAKE, ..Settings::default() };
        Ok(Carrier { runtime, local: LocalSet::new(), via: Upstreams::new(settings, &tls) })
    }

    /// Nothing in the work may block on the store.
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.local.block_on(&self.runtime, work)
    }
}

impl Tasks {
    /// Does all that is due about copies, one after the other. Answers how many there were.
    pub fn copy_due(&self, carrier: &Carrier) -> Result<usize, TaskError> {
        let mut done = 0;
        while self.copy_next(carrier)? {
            done += 1;
        }
        Ok(done)
    }

    /// False: nothing is due that nobody else has.
    fn copy_next(&self, carrier: &Carrier) -> Result<bool, TaskError> {
        for mut copy in self.copies.store.due(self.clock.now_ms(), BATCH)? {
            if self.copies.store.lease(&mut copy, self.lease_ends_ms())? {
                match copy.state {
                    CopyState::Pending => self.copy(carrier, copy)?,
                    CopyState::Kept | CopyState::Removing | CopyState::Failed => self.clear(carrier, copy)?,
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn lease_ends_ms(&self) -> i64 {
        self.clock.now_ms().saturating_add(self.settings.lease_ms)
    }

    fn copy(&self, carrier: &Carrier, mut copy: Copy) -> Result<(), TaskError> {
        let stop = match self.try_copy(carrier, &mut copy) {
            Ok(written) => {
                let until_ms = self.clock.now_ms().saturating_add(self.copies.kept_ms);
                if self.copies.store.keep(&mut copy, &written, until_ms)? {
                    tracing::debug!(task = %copy.task, number = copy.number, length = written.length, "copied");
                    return Ok(());
                }
                Stop::Taken
            }
            Err(stop) => stop,
        };
        let removed = self.remove(carrier, &copy);
        let (reason, is_final) = match stop {
            Stop::Taken => {
                if let Err(why) = removed {
                    tracing::warn!(task = %copy.task, %why, "a copy that nobody wants could not be removed");
                }
                return Ok(());
            }
            Stop::Later(reason) => (reason, false),
            Stop::Never(reason) => (reason, true),
        };
        let now_ms = self.clock.now_ms();
        let next_ms = now_ms.saturating_add(pause_ms(copy.tries));
        let is_over = is_final || now_ms >= copy.until_ms;
        let (task, number) = (copy.task, copy.number);
        let next = match is_over {
            true => (CopyState::Failed, removed.is_err().then_some(next_ms)),
            false => (CopyState::Pending, Some(next_ms.min(copy.until_ms))),
        };
        if is_over {
            // Before it is written down: a crash in between tells it twice, and not never.
            self.tell_given_up(&copy, &reason)?;
        }
        self.copies.store.put_off(&mut copy, next, &reason, removed.is_err())?;
        match is_over {
            true => tracing::error!(%task, number, %reason, "a result could not be copied"),
            false => tracing::warn!(%task, number, %reason, "a result is not copied yet"),
        }
        Ok(())
    }

    /// Tells operators that a result will not be copied, unless they were told so of another one of late.
    fn tell_given_up(&self, copy: &Copy, reason: &str) -> Result<(), TaskError> {
        let told_ms = self.notices.last_told_operators(Event::ResultCopyFailed)?;
        if told_ms.is_some_and(|told_ms| self.clock.now_ms().saturating_sub(told_ms) < TOLD_EVERY_MS) {
            return Ok(());
        }
        let facts = Facts::ResultCopyFailed {
            number: copy.number.saturating_add(1),
            storage: copy.storage.as_str().into(),
            reason: reason.into(),
        };
        self.notices.post(NewNotice { account: None, subject: copy.task.into(), facts })?;
        Ok(())
    }

    fn try_copy(&self, carrier: &Carrier, copy: &mut Copy) -> Result<Written, Stop> {
        let rows = &self.copies.store;
        let storage = self.copies.storages.of(copy.storage)?;
        // An earlier try may have left something.
        self.remove(carrier, copy)?;
        let task = self.store.task(copy.task)?.ok_or_else(|| Stop::Never("its task is gone".to_owned()))?;
        let (mut source, content_type) = self.source(carrier, &task, copy.number)?;
        let key = rows.begin(copy, self.lease_ends_ms())?.ok_or(Stop::Taken)?;
        let name = copy.name().ok_or(Stop::Taken)?;
        let mut writer = storage.write(&name)?;
        let mut sealed = Vec::with_capacity(PART_BYTES);
        let mut sealer = Sealer::new(&key, &mut sealed)?;
        let mut leased_ms = self.clock.now_ms();
        while let Some(piece) = carrier.run(source.next())? {
            sealer.push(&piece, &mut sealed)?;
            if sealer.plain() > self.copies.bytes_max {
                return Err(self.too_large());
            }
            if sealed.len() >= PART_BYTES {
                let rest = sealed.split_off(PART_BYTES);
                let part = std::mem::replace(&mut sealed, rest);
                self.put(carrier, copy, &mut writer, part)?;
                leased_ms = self.clock.now_ms();
            } else if self.clock.now_ms().saturating_sub(leased_ms) > self.settings.lease_ms / 3 {
                leased_ms = self.clock.now_ms();
                if !rows.lease(copy, self.lease_ends_ms())? {
                    return Err(Stop::Taken);
                }
            }
        }
        let length = sealer.finish(&mut sealed)?;
        self.put(carrier, copy, &mut writer, sealed)?;
        if !rows.lease(copy, self.lease_ends_ms())? {
            return Err(Stop::Taken);
        }
        writer.finish()?;
        Ok(Written { content_type, length })
    }

    fn put(
        &self,
        carrier: &Carrier,
        copy: &mut Copy,
        writer: &mut Writer,
        part: Vec<u8>,
    ) -> Result<(), Stop> {
        let number = copy.parts;
        if !self.copies.store.begin_part(copy, self.lease_ends_ms())? {
            return Err(Stop::Taken);
        }
        Ok(carrier.run(writer.put(&carrier.via, number, part.into()))?)
    }

    /// Where the result is now, and what it is.
    fn source(&self, carrier: &Carrier, task: &Task, number: u32) -> Result<(Source, Box<str>), Stop> {
        let place = match self.place(task, number, None) {
            Ok(place) => place.ok_or_else(|| Stop::Never("its result is gone".to_owned()))?,
            Err(TaskError::Channel(why)) => return Err(Stop::Never(why)),
            Err(why) => return Err(Stop::Later(why.to_string())),
        };
        let there = match place {
            Place::Here { content_type, content } => return Ok((Source::Here(Some(content)), content_type)),
            Place::There(there) => there,
        };
        let answer = carrier.run(there.fetch(&carrier.via));
        let answer = answer.map_err(|why| Stop::Later(format!("the upstream was not reached: {why}")))?;
        match answer.status.as_u16() {
            200 => {}
            404 | 410 => return Err(Stop::Never("the upstream has no such result any more".to_owned())),
            // An address that is signed for a while is refused behind it.
            403 if task.results > 0 => {
                return Err(Stop::Never("the result's address is good no more".to_owned()));
            }
            status => return Err(Stop::Later(format!("the upstream answered with {status}"))),
        }
        if answer.body.size_hint().is_some_and(|length| length > self.copies.bytes_max) {
            return Err(self.too_large());
        }
        let told = answer.headers.value("content-type");
        let told = told.as_ref().and_then(|kind| kind.to_str().ok());
        let content_type = told.filter(|kind| kind.len() <= TYPE_BYTES_MAX).unwrap_or(UNKNOWN_TYPE).into();
        Ok((Source::There(answer.body), content_type))
    }

    fn too_large(&self) -> Stop {
        Stop::Never(format!("it is larger than {} bytes", self.copies.bytes_max))
    }

    /// What there is of its object, and of a try that did not end.
    fn remove(&self, carrier: &Carrier, copy: &Copy) -> Result<(), Fault> {
        let Some(name) = copy.name() else { return Ok(()) };
        let storage = self.copies.storages.of(copy.storage)?;
        carrier.run(storage.remove(&carrier.via, &name, copy.parts))
    }

    /// Its time is over, its task was deleted, or a try that failed left something.
    fn clear(&self, carrier: &Carrier, mut copy: Copy) -> Result<(), TaskError> {
        let is_failed = copy.state == CopyState::Failed;
        match self.remove(carrier, &copy) {
            Ok(()) if is_failed => self.copies.store.cleared(&mut copy)?,
            Ok(()) => self.copies.store.forget(&copy)?,
            Err(why) => {
                tracing::warn!(task = %copy.task, number = copy.number, %why, "a copy could not be removed");
                let next_ms = self.clock.now_ms().saturating_add(pause_ms(copy.tries));
                let state = if is_failed { CopyState::Failed } else { CopyState::Removing };
                self.copies.store.put_off(&mut copy, (state, Some(next_ms)), &why.to_string(), true)?;
            }
        }
        Ok(())
    }
}

/// What is copied.
enum Source {
    Here(Option<Bytes>),
    There(AnswerStream),
}

impl Source {
    async fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        match self {
            Source::Here(content) => Ok(content.take()),
            Source::There(body) => match timeout(IDLE, body.next()).await {
                Ok(piece) => piece.map_err(|why| Stop::Later(format!("the result broke off: {why}"))),
                Err(_) => Err(Stop::Later("the upstream fell silent in the midst of the result".to_owned())),
            },
        }
    }
}

fn pause_ms(tries: u32) -> i64 {
    PAUSE_MS.saturating_mul(1 << tries.min(16)).min(PAUSE_MS_MAX)
}

impl From<Fault> for Stop {
    fn from(why: Fault) -> Self {
        Stop::Later(why.to_string())
    }
}

impl From<StoreError> for Stop {
    fn from(why: StoreError) -> Self {
        Stop::Later(why.to_string())
    }
}

impl From<TaskError> for Stop {
    fn from(why: TaskError) -> Self {
        Stop::Later(why.to_string())
    }
}

impl From<Damaged> for Stop {
    fn from(_: Damaged) -> Self {
        Stop::Later("it could not be sealed".to_owned())
    }
}

/// The threads that do it, until it is dropped.
pub struct Copier(#[expect(dead_code, reason = "dropping them ends the threads")] Vec<Sender<()>>);

impl Copier {
    /// None, if no storage is set.
    pub fn start(tasks: &Arc<Tasks>) -> io::Result<Self> {
        let copies = &tasks.copies;
        let threads = if copies.storages.is_empty() { 0 } else { copies.at_a_time };
        (0..threads)
            .map(|number| thread(Arc::clone(tasks), number == 0))
            .collect::<io::Result<_>>()
            .map(Copier)
    }
}

/// `is_first`: it sees whether the storage can be used, so that somebody knows before the first result is lost.
fn thread(tasks: Arc<Tasks>, is_first: bool) -> io::Result<Sender<()>> {
    let (stop, stopped) = channel::<()>();
    let run = move || {
        let carrier = match Carrier::new() {
            Ok(carrier) => carrier,
            Err(why) => return tracing::error!(%why, "no results can be copied"),
        };
        if is_first {
            check(&tasks, &carrier);
        }
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if let Err(why) = tasks.copy_due(&carrier) {
                tracing::warn!(%why, "copies could not be looked at");
            }
        }
    };
    std::thread::Builder::new().name("copies".into()).spawn(run)?;
    Ok(stop)
}

fn check(tasks: &Tasks, carrier: &Carrier) {
    let Some(to) = tasks.copies.storages.to else { return };
    let checked = tasks.copies.storages.of(to).and_then(|storage| carrier.run(storage.check(&carrier.via)));
    if let Err(why) = checked {
        tracing::error!(%why, "the storage for copies of results cannot be used; they are tried again");
    }
}
