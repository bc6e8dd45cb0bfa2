//! The seal of a verified journal: the books as of the last batch that was found clean, kept so that the next run reads
//! only what is new.
//!
//! The seal's own hash is a note in the audit log, whose rows are chained: a seal that was changed, or that belongs to
//! another journal, is not begun from, and is a finding.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use crate::directory::{Directory, DirectoryError};
use crate::hex;
use crate::job::Progress;
use crate::store::chain::sha256;
use crate::store::{JournalReader, Projections, StoreError};

use super::{Finding, Report, Run, TaskRows, run};
use crate::books::encoding::{self, Verified};

/// Name of the seal among the checkpoints, and kind of its note in the audit log.
const SEAL: &str = "verify";
const NOTE: &str = "verify_note";

/// Who verifies, and what.
pub struct Books<'a> {
    pub journal: &'a JournalReader,
    pub projections: &'a Projections,
    pub directory: &'a Directory,
    pub tasks: &'a dyn TaskRows,
    pub shard: u32,
    /// Written beside the seal.
    pub actor: &'a str,
}

/// A run over journal and audit log.
#[derive(Debug)]
pub struct Sealed {
    pub report: Report,
    /// Rows of the audit log that were read.
    pub audit_rows: u64,
    pub stopped: bool,
    /// Hash of the seal that the run left behind; `None`: something was found.
    pub seal: Option<String>,
}

#[derive(Debug)]
pub enum VerifyError {
    Store(StoreError),
    Directory(DirectoryError),
}

impl std::fmt::Display for VerifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VerifyError::Store(why) => write!(f, "the books cannot be read: {why}"),
            VerifyError::Directory(why) => write!(f, "the audit log cannot be read or written: {why}"),
        }
    }
}

impl std::error::Error for VerifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            VerifyError::Store(why) => Some(why),
            VerifyError::Directory(why) => Some(why),
        }
    }
}

impl From<StoreError> for VerifyError {
    fn from(why: StoreError) -> Self {
        VerifyError::Store(why)
    }
}

impl From<DirectoryError> for VerifyError {
    fn from(why: DirectoryError) -> Self {
        VerifyError::Directory(why)
    }
}

/// Verifies what is new since the last seal, or everything if `full`, and leaves a seal behind. A run that was stopped
/// leaves one as far as it came: the next goes on from there.
pub fn verify(books: &Books<'_>, full: bool, progress: &Progress) -> Result<Sealed, VerifyError> {
    let (from, broken) = if full { (None, None) } else { load(books)? };
    let audited = from.as_ref().map(|verified| verified.totals.audit);
    let Run { mut report, stopped, verified } =
        run(books.journal, books.projections, Some(books.tasks), books.shard, from, progress)?;
    if let Some(what) = broken.clone() {
        report.find(Finding { invariant: "seal", batch: 0, what });
    }
    let audit = books.directory.verify_audit_from(audited)?;
    for fault in &audit.faults {
        report.find(Finding { invariant: "audit", batch: fault.version, what: fault.what.clone() });
    }
    // A seal that was changed is told once; the whole run that it led to makes a new one.
    let clean = audit.faults.is_empty() && verified.is_some();
    let seal = match verified.filter(|_| clean) {
        Some(mut verified) => {
            verified.totals.audit = audit.last;
            Some(save(books, &verified)?)
        }
        None => None,
    };
    Ok(Sealed { report, audit_rows: audit.rows, stopped, seal })
}

fn save(books: &Books<'_>, verified: &Verified) -> Result<String, VerifyError> {
    let body = encoding::encode_verified(verified);
    let hash = hex::encode(&sha256(&body));
    let n = verified.checkpoint.n;
    books.projections.save_checkpoint(SEAL, n, body)?;
    let note: Value = json!({"through": n, "journal": hex::encode(&verified.checkpoint.hash), "seal": hash});
    books.directory.note(books.actor, NOTE, 0, &note)?;
    Ok(hash)
}

/// The last seal, or why there is none to begin from.
fn load(books: &Books<'_>) -> Result<(Option<Verified>, Option<String>), VerifyError> {
    let Some((_, body)) = books.projections.checkpoint(SEAL)? else { return Ok((None, None)) };
    let noted = books.directory.last_note(NOTE, 0)?;
    let noted = noted.as_ref().and_then(|note| note["seal"].as_str());
    if noted != Some(&*hex::encode(&sha256(&body))) {
        let what = "the seal of the last run is not the one that the audit log names; everything was read";
        return Ok((None, Some(what.to_owned())));
    }
    let Ok(verified) = encoding::decode_verified(&body) else { return Ok((None, None)) };
    let (n, hash) = (verified.checkpoint.n, verified.checkpoint.hash);
    let mut there = n == 0;
    books.journal.read(books.shard, n, &mut |batch| {
        there |= batch.n == n && batch.hash == hash;
        Ok(ControlFlow::Break(()))
    })?;
    if there {
        return Ok((Some(verified), None));
    }
    let what = format!("batch {n} of the journal is not the one that was verified; everything was read");
    Ok((None, Some(what)))
}
