//! The upstream's bill: one JSON line for each answer, on disk before the
//! answer. One thread writes: it takes all rows that wait, appends them and
//! syncs once.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use ledger::{Nano, Price, TokenClass, Unit, Usage, rate};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::explain::units_text;

/// One row of the bill, as it is written and as it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillRow {
    /// Number of the row, from 1, without gaps.
    pub n: u64,
    /// When the row was written, RFC 3339 in UTC.
    pub time: String,
    /// The upstream's own id of the request (`x-request-id` of its answer).
    pub upstream_request_id: String,
    /// The id inside the answer (`chatcmpl-…`).
    pub answer_id: String,
    /// The caller's id of the request, if it sent one.
    pub gateway_request_id: Option<String>,
    pub model: String,
    /// Tokens by class; classes without tokens are left out.
    pub tokens: Tokens,
    /// What is not counted in tokens, each as its price is for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, String>,
    /// What the upstream charges, a decimal.
    pub cost: String,
    /// The same in nano-units.
    pub cost_nano: i64,
    pub outcome: BillOutcome,
}

/// How far the answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillOutcome {
    /// All of it was there to be sent.
    Whole,
    /// The upstream broke it off; what it had sent is billed.
    Cut,
    /// All of it was made, and nothing was sent.
    Unsent,
    /// The caller went away; what had been sent by then is billed.
    CallerGone,
}

/// Tokens by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    #[serde(skip_serializing_if = "none")]
    pub input: u64,
    #[serde(skip_serializing_if = "none")]
    pub cache_read: u64,
    #[serde(skip_serializing_if = "none")]
    pub cache_write: u64,
    #[serde(skip_serializing_if = "none")]
    pub output: u64,
    #[serde(skip_serializing_if = "none")]
    pub reasoning: u64,
    #[serde(skip_serializing_if = "none")]
    pub audio_in: u64,
    #[serde(skip_serializing_if = "none")]
    pub audio_out: u64,
    #[serde(skip_serializing_if = "none")]
    pub image_in: u64,
}

fn units(usage: &Usage) -> BTreeMap<String, String> {
    let used = Unit::ALL.into_iter().filter(|unit| usage.units(*unit) > 0);
    used.map(|unit| (unit.as_str().to_owned(), units_text(unit, usage.units(unit)))).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn none(tokens: &u64) -> bool {
    *tokens == 0
}

impl From<&Usage> for Tokens {
    fn from(usage: &Usage) -> Self {
        Self {
            input: usage.get(TokenClass::Input),
            cache_read: usage.get(TokenClass::CacheRead),
            cache_write: usage.get(TokenClass::CacheWrite),
            output: usage.get(TokenClass::Output),
            reasoning: usage.get(TokenClass::Reasoning),
            audio_in: usage.get(TokenClass::AudioIn),
            audio_out: usage.get(TokenClass::AudioOut),
            image_in: usage.get(TokenClass::ImageIn),
        }
    }
}

/// What a row is about, before it has a number.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub upstream_request_id: String,
    pub answer_id: String,
    pub gateway_request_id: Option<String>,
    pub model: &'static str,
    pub usage: Usage,
    pub price: Price,
    pub outcome: BillOutcome,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

struct Waiting {
    item: Item,
    done: oneshot::Sender<bool>,
}

/// The bill of one folder.
pub struct Bill {
    path: PathBuf,
    rows: mpsc::Sender<Waiting>,
}

impl Bill {
    /// Opens or makes the file. A last line that was not written to its end is
    /// taken away: its answer never went out.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let rows = whole_lines(&mut file)?;
        let (send, receive) = mpsc::channel();
        std::thread::Builder::new()
            .name("upstream-bill".into())
            .spawn(move || write(file, rows, &receive))?;
        Ok(Self { path: path.to_path_buf(), rows: send })
    }

    /// Writes a row; true when it is on disk.
    pub(super) async fn append(&self, item: Item) -> bool {
        self.enqueue(item).await.unwrap_or(false)
    }

    /// Hands a row over without waiting for it.
    pub(super) fn enqueue(&self, item: Item) -> oneshot::Receiver<bool> {
        let (done, written) = oneshot::channel();
        // Without a writer `done` is dropped, and the receiver learns it.
        let _handed = self.rows.send(Waiting { item, done });
        written
    }

    /// The lines of the rows for which `keep` is true, as they stand on disk.
    /// Blocking.
    pub fn lines(&self, keep: impl Fn(&BillRow) -> bool) -> io::Result<String> {
        let mut text = std::fs::read_to_string(&self.path)?;
        // What is being written just now is no row yet.
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        let kept =
            text.split_inclusive('\n').filter(|line| serde_json::from_str(line).is_ok_and(|row| keep(&row)));
        Ok(kept.collect())
    }

    /// All that was ever billed. Blocking.
    pub fn total(&self) -> io::Result<Nano> {
        let rows = self.lines(|_| true)?;
        let costs = rows.lines().filter_map(|line| serde_json::from_str::<BillRow>(line).ok());
        Ok(costs.fold(Nano::ZERO, |sum, row| sum.saturating_add(Nano(row.cost_nano))))
    }
}

/// Counts the whole lines, cuts off a broken one, and stands at the end.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    if whole < bytes.len() {
        file.set_len(whole as u64)?;
        file.sync_all()?;
    }
    file.seek(SeekFrom::Start(whole as u64))?;
    Ok(memchr::memchr_iter(b'\n', &bytes).count() as u64)
}

/// The writer: one append and one sync for all rows that wait. It ends with
/// the bill, or at the first failure: rows after it are refused, as a gap
/// would be worse than an upstream that is down.
fn write(mut file: File, mut rows: u64, waiting: &mpsc::Receiver<Waiting>) {
    let mut text = Vec::new();
    while let Ok(first) = waiting.recv() {
        let batch: Vec<Waiting> = std::iter::once(first).chain(waiting.try_iter()).collect();
        text.clear();
        for row in &batch {
            rows += 1;
            if serde_json::to_writer(&mut text, &numbered(rows, &row.item)).is_err() {
                return;
            }
            text.push(b'\n');
        }
        if file.write_all(&text).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        for row in batch {
            // Who asked may have gone away; the row stays.
            let _told = row.done.send(true);
        }
    }
}

fn numbered(n: u64, item: &Item) -> BillRow {
    let cost = rate(&item.price, &item.usage, 1_000_000).map_or(Nano::MAX, |rated| rated.total);
    BillRow {
        n,
        time: jiff::Timestamp::from_millisecond(item.at_ms).unwrap_or_default().to_string(),
        upstream_request_id: item.upstream_request_id.clone(),
        answer_id: item.answer_id.clone(),
        gateway_request_id: item.gateway_request_id.clone(),
        model: item.model.into(),
        tokens: Tokens::from(&item.usage),
        units: units(&item.usage),
        cost: cost.to_string(),
        cost_nano: cost.0,
        outcome: item.outcome,
    }
}
