//! Taking in a file: hashed and checked to its last line first, then its rows are written; whole or not at all, and once.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use super::format::{Encoding, Format, Join, Side};
use super::overlap;
use super::read::{self, Fault, FileRow, ReadError, Utf8Check};
use super::sort::Sorter;
use super::store::ReconcileStore;
use crate::clock::{Clock, Entropy};
use crate::explain::time_text;
use crate::id::ReconcileImportId;
use crate::job::Progress;
use crate::store::StoreError;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub id: ReconcileImportId,
    pub side: Side,
    pub scope: String,
    pub format: String,
    pub join: Join,
    /// Its name.
    pub file: String,
    pub sha256: [u8; 32],
    pub bytes: u64,
    pub rows: u64,
    /// Of them, those that an earlier import of the same counterpart had, too.
    pub known: u64,
    /// The time that it covers: of its first and last row, unless it was said.
    pub from_ms: i64,
    pub until_ms: i64,
    /// Somebody said which time it covers.
    pub said: bool,
    pub at_ms: i64,
    pub actor: String,
}

/// Where the file is.
#[derive(Debug)]
pub enum Content {
    Path(PathBuf),
    Bytes(Vec<u8>),
}

/// A file to read.
#[derive(Debug)]
pub struct NewImport {
    pub format: Format,
    pub file: String,
    pub content: Content,
    /// Instead of the format's.
    pub scope: Option<String>,
    pub from_ms: Option<i64>,
    pub until_ms: Option<i64>,
    pub actor: String,
}

/// What is wrong with the file.
pub type FileFault = Fault;

#[derive(Debug)]
pub enum ImportError {
    File(FileFault),
    /// It was read before.
    Duplicate(Box<Import>),
    Io(io::Error),
    Store(StoreError),
    Stopped,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::File(fault) => write!(f, "{fault}"),
            ImportError::Duplicate(import) => {
                write!(f, "the file was imported before, as {} ({})", import.id, import.file)
            }
            ImportError::Io(why) => write!(f, "the file cannot be read: {why}"),
            ImportError::Store(why) => write!(f, "the rows cannot be kept: {why}"),
            ImportError::Stopped => f.write_str("stopped; nothing was imported"),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImportError::File(why) => Some(why),
            ImportError::Io(why) => Some(why),
            ImportError::Store(why) => Some(why),
            ImportError::Duplicate(_) | ImportError::Stopped => None,
        }
    }
}

impl From<StoreError> for ImportError {
    fn from(why: StoreError) -> Self {
        ImportError::Store(why)
    }
}

impl From<ReadError> for ImportError {
    fn from(why: ReadError) -> Self {
        match why {
            ReadError::File(fault) => ImportError::File(fault),
            ReadError::Io(error) => ImportError::Io(error),
        }
    }
}

/// Rows that one transaction writes.
const ROWS_AT_ONCE: usize = 4_096;

trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// What a first reading found.
struct Checked {
    sha256: [u8; 32],
    bytes: u64,
    is_utf8: bool,
}

/// What a whole reading found.
#[derive(Default)]
struct Found {
    rows: u64,
    from_ms: Option<i64>,
    until_ms: Option<i64>,
}

/// Reads a file into the store. `currencies`: what the books and the orders are of; a row of another is refused. `folder`:
/// where rows that do not fit into memory are sorted.
pub fn import(
    store: &ReconcileStore,
    new: NewImport,
    currency: &str,
    currencies: &[String],
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    folder: &Path,
    progress: &Progress,
) -> Result<Import, ImportError> {
    let mut content: Box<dyn Source> = match new.content {
        Content::Path(path) => Box::new(File::open(path).map_err(ImportError::Io)?),
        Content::Bytes(bytes) => Box::new(Cursor::new(bytes)),
    };
    progress.begin("hashing", 0);
    let checked = check(&mut *content, progress)?;
    if let Some(before) = store.import_of(&new.format.name, &checked.sha256)? {
        return Err(ImportError::Duplicate(Box::new(before)));
    }
    let is_utf8 = match new.format.encoding {
        Encoding::Auto => checked.is_utf8,
        Encoding::Utf8 => true,
        Encoding::Gb18030 => false,
    };
    let mut reading = Reading { content, format: &new.format, currency, is_utf8, progress };
    let mut found = Found::default();
    progress.begin("checking", 0);
    reading.each(&mut |read| {
        if !currencies.iter().any(|known| **known == *read.row.currency) {
            let reason = format!("{} is no currency of the books or the orders", read.row.currency);
            return Err(Fault::new(read.line, reason).into());
        }
        found.note(&read);
        Ok(())
    })?;
    if found.rows == 0 {
        return Err(ImportError::File(Fault::new(0, "it has no rows")));
    }
    let from_ms = new.from_ms.or(found.from_ms).unwrap_or(0);
    let until_ms = new.until_ms.or(found.until_ms).unwrap_or(0);
    if from_ms > until_ms {
        let (from, until) = (time_text(from_ms), time_text(until_ms));
        let reason = format!("the time that it covers would begin at {from} and end before that, at {until}");
        return Err(ImportError::File(Fault::new(0, reason)));
    }
    let mut import = Import {
        id: ReconcileImportId::new(clock, entropy),
        side: new.format.side,
        scope: new.scope.unwrap_or_else(|| new.format.scope.clone()),
        format: new.format.name.clone(),
        join: new.format.join,
        file: new.file,
        sha256: checked.sha256,
        bytes: checked.bytes,
        rows: found.rows,
        known: 0,
        from_ms,
        until_ms,
        said: new.from_ms.is_some() && new.until_ms.is_some(),
        at_ms: clock.now_ms(),
        actor: new.actor,
    };
    store.forget_unfinished()?;
    store.begin(&import)?;
    progress.begin("importing", found.rows);
    let written = write(store, &mut reading, import.id)
        .and_then(|()| count_known(store, &import, found.from_ms..=found.until_ms, folder, progress));
    match written {
        Ok(known) => {
            import.known = known;
            store.finish(import.id, known)?;
        }
        Err(why) => {
            store.forget(import.id)?;
            return Err(why);
        }
    }
    Ok(import)
}

impl Found {
    fn note(&mut self, read: &FileRow) {
        self.rows += 1;
        let at = read.row.at_ms;
        self.from_ms = Some(self.from_ms.map_or(at, |from| from.min(at)));
        self.until_ms = Some(self.until_ms.map_or(at, |until| until.max(at)));
    }
}

struct Reading<'a> {
    content: Box<dyn Source>,
    format: &'a Format,
    currency: &'a str,
    is_utf8: bool,
    progress: &'a Progress,
}

impl Reading<'_> {
    fn each(&mut self, each: &mut dyn FnMut(FileRow) -> Result<(), ReadError>) -> Result<(), ImportError> {
        self.content.seek(SeekFrom::Start(0)).map_err(ImportError::Io)?;
        let (mut rows, mut stopped) = (0, false);
        let done = read::rows(&mut *self.content, self.format, self.currency, self.is_utf8, &mut |read| {
            rows += 1;
            if rows % 1_024 == 0 {
                self.progress.reach(rows);
                stopped |= self.progress.is_stopped();
            }
            if stopped { Err(Fault::new(0, "stopped").into()) } else { each(read) }
        });
        if stopped { Err(ImportError::Stopped) } else { Ok(done?) }
    }
}

fn write(
    store: &ReconcileStore,
    reading: &mut Reading<'_>,
    import: ReconcileImportId,
) -> Result<(), ImportError> {
    let (mut rows, mut n) = (Vec::with_capacity(ROWS_AT_ONCE), 1);
    let mut failed = None;
    let done = reading.each(&mut |read| {
        rows.push(read);
        if rows.len() < ROWS_AT_ONCE {
            return Ok(());
        }
        if let Err(why) = store.add_rows(import, n, &rows) {
            failed = Some(why);
            return Err(Fault::new(0, "the rows cannot be kept").into());
        }
        n += rows.len() as u64;
        rows.clear();
        Ok(())
    });
    if let Some(why) = failed {
        return Err(why.into());
    }
    done?;
    Ok(store.add_rows(import, n, &rows)?)
}

/// How many of an import's rows, which are of this time, earlier ones of the same counterpart have, too.
fn count_known(
    store: &ReconcileStore,
    import: &Import,
    time: RangeInclusive<Option<i64>>,
    folder: &Path,
    progress: &Progress,
) -> Result<u64, ImportError> {
    let failed = |why: io::Error| StoreError::other("rows cannot be sorted").caused_by(why);
    let sorted = |imports: &[ReconcileImportId]| {
        let mut sorter = Sorter::new(folder);
        for import in imports {
            store.each_row(*import, |row| {
                if time.contains(&Some(row.at_ms)) {
                    sorter.push(row).map_err(failed)?;
                }
                progress.add(1);
                Ok(if progress.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        sorter.sorted().map_err(failed)
    };
    let earlier = store.before(import)?;
    if earlier.is_empty() {
        return Ok(0);
    }
    progress.begin("overlaps", 0);
    let known = overlap::count_known(sorted(&[import.id])?, sorted(&earlier)?).map_err(failed)?;
    if progress.is_stopped() { Err(ImportError::Stopped) } else { Ok(known) }
}

fn check(content: &mut dyn Source, progress: &Progress) -> Result<Checked, ImportError> {
    let (mut context, mut utf8, mut bytes) = (Context::new(&SHA256), Utf8Check::default(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = content.read(&mut buffer).map_err(ImportError::Io)?;
        let part = buffer.get(..count).unwrap_or_default();
        utf8.push(part, count == 0);
        if count == 0 {
            break;
        }
        if progress.is_stopped() {
            return Err(ImportError::Stopped);
        }
        context.update(part);
        bytes += count as u64;
        progress.reach(bytes);
    }
    let mut sha256 = [0; 32];
    for (to, from) in sha256.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Ok(Checked { sha256, bytes, is_utf8: utf8.is_fine() })
}
