//! The turn to a new master key (主密钥轮换), beside the calls that go on.
//!
//! Both keys are written down first, each sealed by the other, so that a process that stops anywhere finds both again
//! with whichever it is given. Then everything is sealed anew, and at last the old key is forgotten.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::directory::{Directory, DirectoryError, FieldError};
use crate::hex;
use crate::id::RequestId;
use crate::idempotency::{Idempotency, IdempotencyError, Place};
use crate::job::{Ended, Job, Progress};
use crate::secret::{Keyring, Link, MasterKey, MasterKeyError, Secret};
use crate::store::{Db, StoreError};
use crate::tasks::{CopyStore, ResultPlace, Results, TaskError, Thumbnails};
use crate::transcripts::{TranscriptError, Transcripts};

use super::Source;
use super::kept::{Stored, TurnRow};

/// Who is told to have sealed anew at a start.
const ACTOR: &str = "master key";

/// What it works on.
pub struct Parts {
    pub db: Db,
    pub keyring: Arc<Keyring>,
    pub directory: Arc<Directory>,
    pub idempotency: Arc<Idempotency>,
    pub results: Arc<Results>,
    pub copies: CopyStore,
    pub thumbnails: Arc<Thumbnails>,
    pub transcripts: Arc<Transcripts>,
    pub clock: Arc<dyn Clock>,
}

/// See the module. Everything here blocks on the store.
pub struct MasterKeys {
    parts: Parts,
    pub source: Source,
    /// Whether other processes work on the same database.
    is_shared: bool,
    /// Whether a start with the key that this process was given needs no link any more.
    is_given_current: AtomicBool,
    /// Sealing anew, while it runs and after.
    pub resealing: Job,
}

#[derive(Debug)]
pub enum TurnError {
    Store(StoreError),
    Key(MasterKeyError),
    Directory(DirectoryError),
    Idempotency(IdempotencyError),
    Tasks(TaskError),
    Transcripts(TranscriptError),
    /// What was asked for cannot be done; nothing was changed.
    Refused(FieldError),
    Thread(std::io::Error),
}

impl fmt::Display for TurnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TurnError::Store(why) => write!(f, "{why}"),
            TurnError::Key(why) => write!(f, "{why}"),
            TurnError::Directory(why) => write!(f, "{why}"),
            TurnError::Idempotency(why) => write!(f, "{why}"),
            TurnError::Tasks(why) => write!(f, "{why}"),
            TurnError::Transcripts(why) => write!(f, "{why}"),
            TurnError::Refused(why) => write!(f, "{}: {}", why.field, why.reason),
            TurnError::Thread(why) => write!(f, "no thread can be started: {why}"),
        }
    }
}

impl std::error::Error for TurnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TurnError::Store(why) => Some(why),
            TurnError::Key(why) => Some(why),
            TurnError::Directory(why) => Some(why),
            TurnError::Idempotency(why) => Some(why),
            TurnError::Tasks(why) => Some(why),
            TurnError::Transcripts(why) => Some(why),
            TurnError::Thread(why) => Some(why),
            TurnError::Refused(_) => None,
        }
    }
}

impl From<StoreError> for TurnError {
    fn from(why: StoreError) -> Self {
        TurnError::Store(why)
    }
}

impl From<MasterKeyError> for TurnError {
    fn from(why: MasterKeyError) -> Self {
        TurnError::Key(why)
    }
}

fn refuse<T>(field: &'static str, why: &str) -> Result<T, TurnError> {
    Err(TurnError::Refused(FieldError::new(field, why)))
}

impl MasterKeys {
    /// `given`: the key that the configuration or the file had at the start, before it was brought up to date.
    pub fn new(parts: Parts, source: Source, given: Option<&Secret>, is_shared: bool) -> Self {
        let current = parts.keyring.held().current.id();
        let is_current = match given {
            Some(text) => MasterKey::from_hex(text.expose()).is_ok_and(|given| given.id() == current),
            None => true,
        };
        let is_given_current = AtomicBool::new(is_current);
        MasterKeys { parts, source, is_shared, is_given_current, resealing: Job::default() }
    }

    /// Id of the key that seals, as it is shown.
    pub fn id(&self) -> String {
        hex::encode(&self.parts.keyring.held().current.id())
    }

    pub fn turn(&self) -> Result<Option<TurnRow>, TurnError> {
        Ok(self.stored().read()?.turn)
    }

    /// Whether the old key can be forgotten without a start failing that is given what this one was.
    pub fn is_given_current(&self) -> bool {
        self.is_given_current.load(Ordering::Relaxed)
    }

    fn stored(&self) -> Stored<'_> {
        Stored::new(&self.parts.db)
    }

    /// Turns to a new key: `key`, which is needed where the configuration names the key, else one made here. Seals with
    /// it from now on; what the old one sealed is still opened. A turn under way simply goes on.
    pub fn begin(&self, key: Option<&Secret>, actor: &str) -> Result<(), TurnError> {
        self.refresh()?;
        let next = match (key, &self.source) {
            (Some(text), _) => match MasterKey::from_hex(text.expose()) {
                Ok(next) => Some(next),
                Err(_) => return refuse("key", "must be 64 hexadecimal digits"),
            },
            (None, _) if self.turn()?.is_some() => None,
            (None, Source::File(_)) => Some(MasterKey::generate()?),
            (None, Source::Configuration) => {
                return refuse(
                    "key",
                    "is needed: the configuration names the master key, so the new one is not made here",
                );
            }
        };
        let Some(next) = next else { return self.keep_file() };
        let held = self.parts.keyring.held();
        let is_current = next.id() == held.current.id();
        match (self.turn()?.is_some(), is_current) {
            (true, true) => return self.keep_file(),
            (true, false) => return refuse("key", "a turn to another key is under way: let it end first"),
            (false, true) => return refuse("key", "is the master key already"),
            (false, false) => {}
        }
        let link = Link::new(&held.current, &next)?;
        let turn = TurnRow::new(held.current.id(), next.id(), &link, self.parts.clock.now_ms());
        let shown = json!({"turned_to": hex::encode(&next.id())});
        if !self.stored().begin_turn(&turn, &next.check_value()?)? {
            return refuse("key", "a turn to another key is under way: let it end first");
        }
        self.parts.keyring.turn(next);
        self.is_given_current.store(matches!(self.source, Source::File(_)), Ordering::Relaxed);
        self.note(actor, &shown)?;
        self.keep_file()
    }

    fn keep_file(&self) -> Result<(), TurnError> {
        match &self.source {
            Source::File(data_dir) => Ok(self.parts.keyring.held().current.keep(data_dir)?),
            Source::Configuration => Ok(()),
        }
    }

    fn note(&self, actor: &str, body: &Value) -> Result<(), TurnError> {
        self.parts.directory.note(actor, "master_key", 0, body).map_err(TurnError::Directory)
    }

    /// Seals everything anew on a thread of its own, and forgets the old key where nobody else may need it.
    pub fn start_resealing(self: &Arc<Self>, actor: &str) -> Result<(), TurnError> {
        let (keys, actor) = (Arc::clone(self), actor.to_owned());
        let run = move |progress: &Progress| match keys.reseal(&actor, progress) {
            Ok((count, true)) => match keys.finish_alone(&actor) {
                Ok(forgotten) => Ended::Done(report(count, forgotten)),
                Err(why) => Ended::Failed(why.to_string()),
            },
            Ok((count, false)) => Ended::Stopped(report(count, false)),
            Err(why) => Ended::Failed(why.to_string()),
        };
        self.resealing.start(run).map(drop).map_err(TurnError::Thread)
    }

    /// Goes on with a turn that an earlier process began.
    pub fn resume(self: &Arc<Self>) -> Result<(), TurnError> {
        match self.turn()? {
            Some(turn) if turn.resealed_ms.is_none() || (self.is_given_current() && !self.is_shared) => {
                tracing::info!("a turn to a new master key goes on");
                self.start_resealing(ACTOR)
            }
            Some(_) if !self.is_given_current() => {
                tracing::warn!(
                    "the configured master key is an old one, which is still found by the new one: configure the new one"
                );
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Seals anew what the old key sealed. Returns how many values it was, and whether that was all.
    fn reseal(&self, actor: &str, progress: &Progress) -> Result<(u64, bool), TurnError> {
        let Some(mut turn) = self.turn()? else { return Ok((0, true)) };
        let (mut count, directory) = (0, &self.parts.directory);
        directory.refresh().map_err(TurnError::Directory)?;
        let objects: Vec<_> = directory.snapshot_owned().sealed().map(|(object, ..)| object).collect();
        progress.begin("credentials", objects.len() as u64);
        for object in objects {
            if progress.is_stopped() {
                return Ok((count, false));
            }
            count += u64::from(directory.reseal(actor, object).map_err(TurnError::Directory)?);
            progress.add(1);
        }
        let Parts { idempotency, results, copies, thumbnails, transcripts, .. } = &self.parts;
        progress.begin("kept answers", idempotency.kept().map_err(TurnError::Idempotency)?);
        let next = |place: &Place| idempotency.reseal_after(place).map_err(TurnError::Idempotency);
        let answers = each(progress, Place::default(), next)?;
        progress.begin("results of tasks", results.count().map_err(TurnError::Tasks)?);
        let next = |place: &ResultPlace| results.reseal_after(*place).map_err(TurnError::Tasks);
        let results = each(progress, ResultPlace::default(), next)?;
        let next = |place: &ResultPlace| copies.reseal_after(*place).map_err(TurnError::Tasks);
        let copies = each(progress, ResultPlace::default(), next)?;
        progress.begin("thumbnails", thumbnails.count().map_err(TurnError::Tasks)?);
        let next = |place: &ResultPlace| thumbnails.reseal_after(*place).map_err(TurnError::Tasks);
        let thumbnails = each(progress, ResultPlace::default(), next)?;
        progress.begin("transcripts", transcripts.count().map_err(TurnError::Transcripts)?);
        let next = |place: &Option<RequestId>| {
            let more = transcripts.reseal_after(*place).map_err(TurnError::Transcripts)?;
            Ok(more.map(|(last, resealed)| (Some(last), resealed)))
        };
        let transcripts = each(progress, None, next)?;
        for resealed in [answers, results, copies, thumbnails, transcripts] {
            count += resealed;
        }
        if progress.is_stopped() {
            return Ok((count, false));
        }
        turn.resealed_ms.get_or_insert(self.parts.clock.now_ms());
        self.stored().keep_turn(&turn)?;
        Ok((count, true))
    }

    /// Forgets the old key if no other process, and no start of this one, can need it.
    fn finish_alone(&self, actor: &str) -> Result<bool, TurnError> {
        let is_alone = self.is_given_current() && !self.is_shared;
        if is_alone && self.turn()?.is_some() {
            self.forget(actor)?;
        }
        Ok(is_alone)
    }

    /// Forgets the old key: it may be destroyed from then on.
    pub fn finish(&self, actor: &str) -> Result<(), TurnError> {
        match self.turn()? {
            None => return refuse("turn", "none is under way"),
            Some(turn) if turn.resealed_ms.is_none() => {
                return refuse("turn", "not everything is sealed anew yet");
            }
            Some(_) if !self.is_given_current() => {
                return refuse(
                    "turn",
                    "the configuration still names the old key: name the new one and restart first",
                );
            }
            Some(_) => {}
        }
        // Another node may have sealed with the old key until it heard of the new one.
        self.reseal(actor, &Progress::default())?;
        self.forget(actor)
    }

    fn forget(&self, actor: &str) -> Result<(), TurnError> {
        self.note(actor, &json!({"forgotten": true}))?;
        self.stored().end_turn()?;
        self.parts.keyring.forget_previous();
        Ok(())
    }

    /// Takes in what another process did: a turn that it began or ended.
    pub fn refresh(&self) -> Result<(), TurnError> {
        if !self.is_shared {
            return Ok(());
        }
        let held = self.parts.keyring.held();
        match self.turn()? {
            Some(turn) if turn.previous_id()? == held.current.id() => {
                self.parts.keyring.turn(turn.link()?.next_for(&held.current)?);
                self.is_given_current.store(matches!(self.source, Source::File(_)), Ordering::Relaxed);
                self.keep_file()
            }
            None if held.previous.is_some() => {
                self.parts.keyring.forget_previous();
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Walks through rows from a place on, some at a time, until there are no more or it is stopped. Returns how many were
/// sealed anew.
fn each<P>(
    progress: &Progress,
    mut place: P,
    next: impl Fn(&P) -> Result<Option<(P, u64)>, TurnError>,
) -> Result<u64, TurnError> {
    let mut count = 0;
    while !progress.is_stopped()
        && let Some((last, resealed)) = next(&place)?
    {
        (place, count) = (last, count + resealed);
        progress.add(resealed);
    }
    Ok(count)
}

fn report(count: u64, forgotten: bool) -> Value {
    json!({"sealed_anew": count, "old_key_forgotten": forgotten})
}
