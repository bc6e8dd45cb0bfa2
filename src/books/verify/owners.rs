//! I3 of the holds of tasks: each belongs to a task whose row still has it. Who keeps the rows tells it ([`TaskRows`]);
//! the books know no more of a task than its id.

use std::ops::ControlFlow;

use hashbrown::HashSet;
use ledger::{Effect, HoldId, HoldOwner, Ledger, Timestamp};

use crate::id::TaskId;
use crate::store::{JournalReader, StoreError};

use crate::books::encoding;

/// What is known of the task that a hold belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRow {
    /// Its row has the hold, or is just about to be written.
    Holds,
    Missing,
    /// Its row says that the hold has had this end.
    Ended(&'static str),
}

/// The rows of tasks.
pub trait TaskRows {
    /// Of the task with a hold that was made then. May block.
    fn row_of(&self, task: TaskId, held: Timestamp) -> Result<TaskRow, StoreError>;
}

/// Open holds of tasks that nobody will end, with what is wrong with each. `last`: the batch as of which they are open.
pub(super) fn orphans(
    ledger: &Ledger,
    rows: &dyn TaskRows,
    journal: &JournalReader,
    (shard, last): (u32, u64),
) -> Result<Vec<(HoldId, String)>, StoreError> {
    let mut found = Vec::new();
    for hold in ledger.open_holds() {
        let HoldOwner::Task(task) = hold.owner else { continue };
        let task = TaskId::from_raw(task);
        let what = match rows.row_of(task, hold.at)? {
            TaskRow::Holds => continue,
            TaskRow::Missing => format!("is held for {task}, which has no row"),
            TaskRow::Ended(end) => format!("is held for {task}, whose row says that it was {end}"),
        };
        found.push((hold.id, format!("{} {what}", encoding::request_of(hold.id))));
    }
    if !found.is_empty() {
        // A row says that a hold has ended once the journal does, which has gone on meanwhile.
        let ended = ended_behind(journal, shard, last)?;
        found.retain(|(hold, _)| !ended.contains(hold));
    }
    found.sort_unstable();
    Ok(found)
}

/// Holds that ended behind a batch.
fn ended_behind(journal: &JournalReader, shard: u32, last: u64) -> Result<HashSet<HoldId>, StoreError> {
    let mut ended = HashSet::new();
    journal.read(shard, last + 1, &mut |batch| {
        // What cannot be read is a finding of whoever reads it next.
        let records = encoding::decode_batch(&batch.effects, None).unwrap_or_default();
        ended.extend(records.iter().flat_map(|record| &record.effects).filter_map(|effect| match effect {
            Effect::Settled(settled) => Some(settled.hold),
            Effect::Released(released) => Some(released.hold),
            _ => None,
        }));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ended)
}
