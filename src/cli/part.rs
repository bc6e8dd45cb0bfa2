//! A file that an answer is written into: it is there whole or not at all, and an answer that was interrupted goes on where it
//! was, if the server says that it is still the same.
//!
//! Beside `FILE` stand `FILE.part`, with what came, and `FILE.part.note`, which says what answer that is of and how much
//! of it is on disk for certain.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, header};

use crate::api::RESUMED_AT;

/// So much may have to come once more after a crash.
const NOTED_EVERY_BYTES: u64 = 8 << 20;

/// See the module.
pub struct Part {
    file: PathBuf,
    part: PathBuf,
    note: PathBuf,
    to: BufWriter<File>,
    /// Which answer it is of; `None`: one that cannot be gone on with.
    tag: Option<String>,
    written: u64,
    noted: u64,
}

impl Part {
    /// Goes on with what an earlier command left, if there is anything.
    pub fn open(file: &Path) -> io::Result<Self> {
        let (part, note) = (beside(file, ".part"), beside(file, ".part.note"));
        let left = std::fs::read_to_string(&note).ok().and_then(|text| read_note(&text));
        let left = left.filter(|(_, bytes)| part.metadata().is_ok_and(|part| part.len() >= *bytes));
        let mut to = File::options().write(true).create(true).truncate(false).open(&part)?;
        let (tag, written) = left.map_or((None, 0), |(tag, bytes)| (Some(tag), bytes));
        to.set_len(written)?;
        to.seek(SeekFrom::Start(written))?;
        Ok(Part { file: file.to_owned(), part, note, to: BufWriter::new(to), tag, written, noted: written })
    }

    /// Begins anew.
    pub fn anew(file: &Path) -> io::Result<Self> {
        remove(&beside(file, ".part.note"))?;
        Self::open(file)
    }

    /// From where the answer is to go on, as its route takes it.
    pub fn resume(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{tag}:{}", self.written))
    }

    /// The answer begins: it is the rest of what is there, or another one.
    pub fn begin(&mut self, headers: &HeaderMap) -> io::Result<()> {
        let text =
            |value: &axum::http::HeaderValue| value.to_str().map(|text| text.trim_matches('"').to_owned());
        let tag = headers.get(header::ETAG).and_then(|value| text(value).ok());
        let resumed_at = headers.get(RESUMED_AT).and_then(|value| text(value).ok()?.parse().ok());
        if resumed_at != Some(self.written) || tag != self.tag {
            remove(&self.note)?;
            self.to.flush()?;
            self.to.get_ref().set_len(0)?;
            self.to.seek(SeekFrom::Start(0))?;
            (self.written, self.noted) = (0, 0);
        }
        self.tag = tag;
        Ok(())
    }

    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.written += bytes.len() as u64;
        if self.written - self.noted >= NOTED_EVERY_BYTES { self.note() } else { Ok(()) }
    }

    /// Bytes that are there.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// What is written so far can be gone on from.
    fn note(&mut self) -> io::Result<()> {
        let Some(tag) = &self.tag else { return Ok(()) };
        self.to.flush()?;
        self.to.get_ref().sync_all()?;
        std::fs::write(&self.note, format!("{tag} {}\n", self.written))?;
        self.noted = self.written;
        Ok(())
    }

    /// All has come.
    pub fn finish(mut self) -> io::Result<()> {
        self.to.flush()?;
        self.to.get_ref().sync_all()?;
        std::fs::rename(&self.part, &self.file)?;
        remove(&self.note)
    }

    /// Not all has come. Whether the same command goes on from here; else nothing is left behind.
    pub fn interrupted(mut self) -> io::Result<bool> {
        if self.tag.is_some() && self.written > 0 {
            return self.note().map(|()| true);
        }
        remove(&self.part)?;
        remove(&self.note)?;
        Ok(false)
    }
}

fn beside(file: &Path, more: &str) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(more);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// A tag and a number of bytes. `None`: it is torn, or something else.
fn read_note(text: &str) -> Option<(String, u64)> {
    let (tag, bytes) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((tag.to_owned(), bytes.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(tag: &str, resumed_at: Option<u64>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, format!("\"{tag}\"").parse().unwrap());
        if let Some(at) = resumed_at {
            headers.insert(RESUMED_AT, at.to_string().parse().unwrap());
        }
        headers
    }

    #[test]
    fn b6_a_file_goes_on_with_the_same_answer_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        let begun = |tag: &str, resumed_at, bytes: &[u8]| {
            let mut part = Part::open(&file).unwrap();
            let resume = part.resume();
            part.begin(&headers(tag, resumed_at)).unwrap();
            part.take(bytes).unwrap();
            (resume, part)
        };
        assert!(begun("a", None, b"one ").1.interrupted().unwrap());
        let (resume, part) = begun("a", Some(4), b"two ");
        assert_eq!((resume.as_deref(), part.interrupted().unwrap()), (Some("a:4"), true));
        // What came behind the note is not there for certain.
        std::fs::write(folder.path().join("f.part"), b"one two torn").unwrap();
        let (resume, part) = begun("a", Some(8), b"three");
        part.finish().unwrap();
        assert_eq!((resume.as_deref(), left()), (Some("a:8"), 1));
        assert_eq!(std::fs::read(&file).unwrap(), b"one two three");
        // Another answer begins at its beginning; the file is what it was until all has come.
        assert!(begun("a", None, b"long ago").1.interrupted().unwrap());
        let (resume, part) = begun("b", None, b"new");
        assert_eq!(
            (resume.as_deref(), std::fs::read(&file).unwrap()),
            (Some("a:8"), b"one two three".to_vec())
        );
        part.finish().unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), left()), (b"new".to_vec(), 1));
        // Nothing is left of one that cannot be gone on with, and a torn note is none.
        let mut part = Part::open(&file).unwrap();
        part.begin(&HeaderMap::new()).unwrap();
        part.take(b"x").unwrap();
        assert_eq!((part.interrupted().unwrap(), left()), (false, 1));
        std::fs::write(folder.path().join("f.part.note"), "a 8").unwrap();
        assert_eq!(Part::open(&file).unwrap().resume(), None);
    }
}
