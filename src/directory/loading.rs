//! Rows of documents on their way into a snapshot.
//!
//! To decode a document costs more than to read its row, so a whole directory is decoded on every core while its rows
//! arrive; a few documents are decoded where they are read. Either way they come out in the order of the rows.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use crate::store::{Db, Row, StoreError, Value};

use super::error::{DirectoryError, Kind};
use super::snapshot::{Change, Object};
use super::stored;

/// Documents that are decoded and taken in together.
const BATCH_ROWS: usize = 1_024;
/// Batches that one thread may be behind.
const QUEUED_MAX: usize = 2;
/// The rows come from one connection, which more threads would wait for.
const THREADS_MAX: usize = 8;

type Decoded = Result<Vec<Change>, DirectoryError>;

/// Rows as they were read, their bodies one behind the other.
#[derive(Default)]
struct Batch {
    heads: Vec<Head>,
    bodies: Vec<u8>,
}

struct Head {
    version: u64,
    /// `None`: a note, or a kind that only a newer program knows; it changes no object.
    kind: Option<Kind>,
    body_end: usize,
}

impl Batch {
    /// Columns: version, kind, body.
    fn push(&mut self, row: &Row) -> Result<(), StoreError> {
        let (version, kind) = (row.id(0)?, Kind::parse(row.text(1)?));
        if kind.is_some() {
            self.bodies.extend_from_slice(row.blob(2)?);
        }
        self.heads.push(Head { version, kind, body_end: self.bodies.len() });
        Ok(())
    }

    fn decode(&self) -> Decoded {
        let mut begin = 0;
        let mut change = |head: &Head| {
            let body = self.bodies.get(begin..head.body_end).unwrap_or_default();
            begin = head.body_end;
            let object = match head.kind {
                Some(kind) => stored::object(kind, head.version, body)?,
                None => Object::Nothing,
            };
            Ok(Change { version: head.version, object })
        };
        self.heads.iter().map(&mut change).collect()
    }
}

/// Reads the rows of a query (version, kind, body) and hands their documents on, some at a time.
pub(super) fn read(
    db: &Db,
    sql: &str,
    params: &[Value],
    mut take: impl FnMut(Vec<Change>),
) -> Result<(), DirectoryError> {
    batches(db, sql, params, |batch| {
        take(batch.decode()?);
        Ok(())
    })
}

/// The same for very many rows: decodes them on every core.
pub(super) fn read_many(
    db: &Db,
    sql: &str,
    params: &[Value],
    mut take: impl FnMut(Vec<Change>),
) -> Result<(), DirectoryError> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let mut decoders = Decoders::start(scope, cores.min(THREADS_MAX))?;
        batches(db, sql, params, |batch| decoders.put(batch, &mut take))?;
        decoders.finish(&mut take)
    })
}

fn batches(
    db: &Db,
    sql: &str,
    params: &[Value],
    mut each: impl FnMut(Batch) -> Result<(), DirectoryError>,
) -> Result<(), DirectoryError> {
    let mut batch = Batch::default();
    let mut failed = None;
    db.query_each(sql, params, |row| {
        batch.push(&row)?;
        if batch.heads.len() == BATCH_ROWS
            && let Err(why) = each(std::mem::take(&mut batch))
        {
            failed = Some(why);
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    match failed {
        Some(why) => Err(why),
        None if batch.heads.is_empty() => Ok(()),
        None => each(batch),
    }
}

/// Threads that take turns, so that what they answer stays in order.
struct Decoders {
    threads: Vec<(SyncSender<Batch>, Receiver<Decoded>)>,
    given: usize,
    taken: usize,
}

impl Decoders {
    fn start<'s>(scope: &'s Scope<'s, '_>, threads: usize) -> Result<Self, DirectoryError> {
        let start = |_| {
            let (give, given) = sync_channel::<Batch>(QUEUED_MAX);
            let (answer, answers) = sync_channel(QUEUED_MAX);
            let run = move || {
                // Whoever hears no more has found a fault.
                given.iter().try_for_each(|batch| answer.send(batch.decode()).ok());
            };
            std::thread::Builder::new().name("directory".into()).spawn_scoped(scope, run).map_err(|why| {
                StoreError::other("a thread that reads the directory cannot be started").caused_by(why)
            })?;
            Ok((give, answers))
        };
        let threads = (0..threads).map(start).collect::<Result<Vec<_>, DirectoryError>>()?;
        Ok(Decoders { threads, given: 0, taken: 0 })
    }

    fn put(&mut self, batch: Batch, take: &mut impl FnMut(Vec<Change>)) -> Result<(), DirectoryError> {
        if self.given - self.taken == self.threads.len() * QUEUED_MAX {
            self.take_next(take)?;
        }
        let (give, _) = self.threads.get(self.given % self.threads.len()).ok_or_else(ended)?;
        give.send(batch).map_err(|_| ended())?;
        self.given += 1;
        Ok(())
    }

    fn finish(mut self, take: &mut impl FnMut(Vec<Change>)) -> Result<(), DirectoryError> {
        while self.taken < self.given {
            self.take_next(take)?;
        }
        Ok(())
    }

    fn take_next(&mut self, take: &mut impl FnMut(Vec<Change>)) -> Result<(), DirectoryError> {
        let (_, answers) = self.threads.get(self.taken % self.threads.len()).ok_or_else(ended)?;
        take(answers.recv().map_err(|_| ended())??);
        self.taken += 1;
        Ok(())
    }
}

fn ended() -> DirectoryError {
    StoreError::other("a thread that reads the directory has ended").into()
}
