//! Sorting more rows than memory may hold: runs on disk, each sorted, merged as they are read.
//!
//! Promises: rows come out in the order of key, class, time and name; memory stays within [`BYTES_MAX`] for the rows that are
//! gathered and a buffer for each run. The files are unlinked as they are made: nothing is left behind, whatever happens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::row::{Class, Row};

/// Rows that are gathered before they are written, in bytes.
const BYTES_MAX: usize = 48 << 20;
/// Read ahead of each run.
const BUFFER_BYTES: usize = 256 << 10;

/// What rows are sorted by.
type Rank<'r> = (&'r str, Class, i64, &'r str);

fn rank(row: &Row) -> Rank<'_> {
    (&row.key, row.class, row.at_ms, &row.name)
}

/// Gathers rows of one side.
pub struct Sorter {
    folder: PathBuf,
    rows: Vec<Row>,
    bytes: usize,
    bytes_max: usize,
    runs: Vec<File>,
    count: u64,
    /// Rows up to this key were compared before.
    after: Option<Box<str>>,
}

impl Sorter {
    /// Runs are written into `folder`.
    pub fn new(folder: &Path) -> Self {
        Sorter::with_room(folder, BYTES_MAX)
    }

    fn with_room(folder: &Path, bytes_max: usize) -> Self {
        Sorter {
            folder: folder.to_owned(),
            rows: Vec::new(),
            bytes: 0,
            bytes_max,
            runs: Vec::new(),
            count: 0,
            after: None,
        }
    }

    /// Leaves out the rows up to a key.
    pub fn behind(self, after: Option<&str>) -> Self {
        Sorter { after: after.map(Into::into), ..self }
    }

    pub fn push(&mut self, row: Row) -> io::Result<()> {
        if self.after.as_ref().is_some_and(|after| row.key <= *after) {
            return Ok(());
        }
        self.bytes += row.weight();
        self.count += 1;
        self.rows.push(row);
        if self.bytes >= self.bytes_max { self.spill() } else { Ok(()) }
    }

    /// Rows gathered so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn spill(&mut self) -> io::Result<()> {
        self.rows.sort_unstable_by(|a, b| rank(a).cmp(&rank(b)));
        let mut to = BufWriter::with_capacity(BUFFER_BYTES, unnamed(&self.folder)?);
        let mut bytes = Vec::new();
        for row in self.rows.drain(..) {
            bytes.clear();
            row.write(&mut bytes);
            to.write_all(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes())?;
            to.write_all(&bytes)?;
        }
        let mut file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        self.runs.push(file);
        self.bytes = 0;
        Ok(())
    }

    /// The rows in their order.
    pub fn sorted(mut self) -> io::Result<Sorted> {
        self.rows.sort_unstable_by(|a, b| rank(b).cmp(&rank(a)));
        let mut runs: Vec<Run> = Vec::new();
        runs.push(Run::Memory(self.rows));
        runs.extend(
            self.runs.into_iter().map(|file| Run::Disk(BufReader::with_capacity(BUFFER_BYTES, file))),
        );
        let mut sorted = Sorted { runs, heads: BinaryHeap::new() };
        for index in 0..sorted.runs.len() {
            sorted.advance(index)?;
        }
        Ok(sorted)
    }
}

static UNNAMED: AtomicU64 = AtomicU64::new(0);

/// A file that has no name any more.
fn unnamed(folder: &Path) -> io::Result<File> {
    let number = UNNAMED.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("sorting-{}-{number}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

enum Run {
    /// Last row first.
    Memory(Vec<Row>),
    Disk(BufReader<File>),
}

/// The next row of a run.
struct Head {
    row: Row,
    run: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        rank(&self.row) == rank(&other.row)
    }
}
impl Eq for Head {}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        rank(&self.row).cmp(&rank(&other.row))
    }
}

/// Rows in their order.
pub struct Sorted {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
}

impl Sorted {
    fn advance(&mut self, index: usize) -> io::Result<()> {
        let next = match self.runs.get_mut(index) {
            Some(Run::Memory(rows)) => rows.pop(),
            Some(Run::Disk(from)) => read_row(from)?,
            None => None,
        };
        self.heads.extend(next.map(|row| Reverse(Head { row, run: index })));
        Ok(())
    }

    pub fn peek(&self) -> Option<&Row> {
        self.heads.peek().map(|Reverse(head)| &head.row)
    }

    pub fn next_row(&mut self) -> io::Result<Option<Row>> {
        let Some(Reverse(Head { row, run })) = self.heads.pop() else { return Ok(None) };
        self.advance(run)?;
        Ok(Some(row))
    }

    /// All rows of a key.
    pub fn take_key(&mut self, key: &str) -> io::Result<Vec<Row>> {
        let mut rows = Vec::new();
        while self.peek().is_some_and(|row| &*row.key == key) {
            rows.extend(self.next_row()?);
        }
        Ok(rows)
    }
}

fn read_row(from: &mut BufReader<File>) -> io::Result<Option<Row>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap_or(0)];
    from.read_exact(&mut bytes)?;
    Row::read(&bytes).map(Some).ok_or_else(|| io::Error::other("a sorted row cannot be read back"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_in_order_whatever_fits_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        for bytes_max in [1, 2_000, 1 << 20] {
            let mut sorter = Sorter::with_room(folder.path(), bytes_max);
            for number in 0..500_u64 {
                let key = format!("{:03}", number * 7_919 % 500);
                sorter.push(Row::new(key, Class::Cost, None, "USD", 0)).unwrap();
            }
            assert_eq!(sorter.count(), 500);
            let mut sorted = sorter.sorted().unwrap();
            for number in 0..500 {
                assert_eq!(&*sorted.next_row().unwrap().unwrap().key, format!("{number:03}"));
            }
            assert_eq!(sorted.next_row().unwrap(), None);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
