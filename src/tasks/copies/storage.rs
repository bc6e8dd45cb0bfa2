//! Where copies are: a folder or a bucket, written and read in the same way.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::disk::{self, Disk};
use super::rows::{Copy, StorageKind};
use super::s3::S3;
use super::sealed::{self, Opener};
use crate::config::{self, CopiesTo};
use crate::gateway::upstream::{AnswerStream, Upstreams};
use crate::secret::SecretBytes;

/// Length of every part but the last.
pub const PART_BYTES: usize = 8 << 20;
/// A file is read so much at a time.
const READ_BYTES: usize = 256 << 10;

/// Why storage does not give, or take, what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such object.
    Vanished,
    /// It is not what was written.
    Damaged,
    /// It cannot be asked, or does not do what it is asked. For operators.
    Unavailable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Vanished => f.write_str("the copy is not there any more"),
            Fault::Damaged => f.write_str("the copy is not what was written"),
            Fault::Unavailable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Fault {}

impl From<sealed::Damaged> for Fault {
    fn from(_: sealed::Damaged) -> Self {
        Fault::Damaged
    }
}

/// What the settings name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Storages {
    /// Where new copies go; `None`: none are made.
    pub to: Option<StorageKind>,
    disk: Option<Arc<Disk>>,
    s3: Option<Arc<S3>>,
}

/// One of them.
#[derive(Clone)]
pub enum Storage {
    Disk(Arc<Disk>),
    S3(Arc<S3>),
}

impl Storages {
    /// The error says what is wrong with the settings, or with the folder.
    pub fn open(settings: &config::Copies) -> Result<Self, String> {
        let to = match settings.to {
            CopiesTo::None => None,
            CopiesTo::Disk => Some(StorageKind::Disk),
            CopiesTo::S3 => Some(StorageKind::S3),
        };
        let open = |folder| {
            Disk::open(folder).map_err(|why| format!("the folder {} cannot be used: {why}", folder.display()))
        };
        let disk = settings.dir.as_deref().map(open).transpose()?.map(Arc::new);
        let s3 = S3::open(settings).map_err(|why| format!("the storage: {why}"))?.map(Arc::new);
        Ok(Storages { to, disk, s3 })
    }

    /// The error says that it is not there, for operators.
    pub fn of(&self, kind: StorageKind) -> Result<Storage, Fault> {
        let found = match kind {
            StorageKind::Disk => self.disk.clone().map(Storage::Disk),
            StorageKind::S3 => self.s3.clone().map(Storage::S3),
        };
        found.ok_or_else(|| Fault::Unavailable(format!("no storage of kind {} is set", kind.as_str())))
    }

    pub fn is_empty(&self) -> bool {
        self.disk.is_none() && self.s3.is_none()
    }
}

/// An object that is being written, part by part.
pub enum Writer {
    Disk(disk::Writing),
    S3 { s3: Arc<S3>, name: String },
}

impl Storage {
    pub fn write(&self, name: &str) -> Result<Writer, Fault> {
        match self {
            Storage::Disk(disk) => disk.begin(name).map(Writer::Disk),
            Storage::S3(s3) => Ok(Writer::S3 { s3: Arc::clone(s3), name: name.to_owned() }),
        }
    }

    /// `parts`: how many there can be. What is not there is removed already.
    pub async fn remove(&self, via: &Upstreams, name: &str, parts: u32) -> Result<(), Fault> {
        match self {
            Storage::Disk(disk) => disk.remove(name),
            Storage::S3(s3) => s3.remove(via, name, parts).await,
        }
    }

    /// Whether it can be used. For operators, who are told when the gateway starts.
    pub async fn check(&self, via: &Upstreams) -> Result<(), Fault> {
        match self {
            Storage::Disk(_) => Ok(()),
            Storage::S3(s3) => s3.check(via).await,
        }
    }
}

impl Writer {
    pub async fn put(&mut self, via: &Upstreams, part: u32, bytes: Bytes) -> Result<(), Fault> {
        match self {
            Writer::Disk(writing) => writing.put(&bytes),
            Writer::S3 { s3, name } => s3.put(via, name, part, bytes).await,
        }
    }

    pub fn finish(self) -> Result<(), Fault> {
        match self {
            Writer::Disk(writing) => writing.finish(),
            Writer::S3 { .. } => Ok(()),
        }
    }
}

/// An object that is being read, opened as it comes.
pub struct Reader {
    source: Source,
    opener: Opener,
}

enum Source {
    Disk(tokio::fs::File),
    S3 { s3: Arc<S3>, name: String, parts: u32, next: u32, now: Option<AnswerStream> },
}

impl Reader {
    /// Opens the object of a copy that is kept. Whether it is whole shows when it is read.
    pub async fn open(storage: Storage, copy: &Copy, key: &SecretBytes) -> Result<Self, Fault> {
        let name = copy.name().ok_or(Fault::Vanished)?;
        let opener = Opener::new(key, copy.length)?;
        let source = match storage {
            Storage::Disk(disk) => Source::Disk(open_file(&disk, &name, copy.length).await?),
            Storage::S3(s3) => Source::S3 { s3, name, parts: copy.parts, next: 0, now: None },
        };
        Ok(Reader { source, opener })
    }

    /// The next piece of what was copied; `None`: that was all, and it is as it was written.
    pub async fn next(&mut self, via: &Upstreams) -> Result<Option<Bytes>, Fault> {
        let mut plain = Vec::new();
        while plain.is_empty() {
            let Some(piece) = self.source.next(via).await? else {
                return if self.opener.is_over() { Ok(None) } else { Err(Fault::Damaged) };
            };
            self.opener.push(&piece, &mut plain)?;
        }
        Ok(Some(plain.into()))
    }
}

async fn open_file(disk: &Disk, name: &str, length: u64) -> Result<tokio::fs::File, Fault> {
    let failed = |why: std::io::Error| match why.kind() {
        std::io::ErrorKind::NotFound => Fault::Vanished,
        _ => Fault::Unavailable(format!("a file could not be read: {why}")),
    };
    let file = tokio::fs::File::open(disk.path(name)).await.map_err(failed)?;
    let found = file.metadata().await.map_err(failed)?.len();
    if found == sealed::sealed_bytes(length) { Ok(file) } else { Err(Fault::Damaged) }
}

impl Source {
    async fn next(&mut self, via: &Upstreams) -> Result<Option<Bytes>, Fault> {
        match self {
            Source::Disk(file) => {
                let mut piece = Vec::with_capacity(READ_BYTES);
                let read = file.read_buf(&mut piece).await;
                let read =
                    read.map_err(|why| Fault::Unavailable(format!("a file could not be read: {why}")))?;
                Ok((read > 0).then(|| piece.into()))
            }
            Source::S3 { s3, name, parts, next, now } => loop {
                if now.is_none() {
                    if *next >= *parts {
                        return Ok(None);
                    }
                    *now = Some(s3.get(via, name, *next).await?.body);
                    *next += 1;
                }
                let broke = |why| Fault::Unavailable(format!("the storage's answer broke off: {why}"));
                let Some(stream) = now else { return Ok(None) };
                match stream.next().await.map_err(broke)? {
                    Some(piece) => return Ok(Some(piece)),
                    None => *now = None,
                }
            },
        }
    }
}
