//! Image and video tasks: their highest cost is held when they are accepted, and ends once – charged at success,
//! given back else – whether or not anybody asks about them.
//!
//! The way of a task: the ladder decides and the hold is journaled under the task's name; its row is written; the
//! upstream is asked; the poller asks about it until it has an end, or its deadline comes. The end is first written
//! into the row, where one end alone finds room, then the ledger does what it says, then the row says what the
//! ledger did.
//!
//! Promises: the hold is on disk before the upstream is asked; whatever is lost in a crash – the upstream's name of
//! the task, an end that the ledger had not followed – is found again or ends with the deadline, and the row says
//! so; a task is charged at the price that was frozen at its acceptance.
//! Must never: keep a prompt, or of a picture that was sent more than its thumbnail, or a result in the clear; move money but by a command of the ledger; let a task have two ends.

mod accepted;
mod charged;
mod claim;
mod copies;
mod error;
mod fetch;
mod looks;
mod owners;
mod poll;
mod records;
mod results;
mod sealed_rows;
mod service;
mod settle;
mod store;
mod task;
mod thumbnails;
mod tried;
pub mod upstream;
mod used;

pub use accepted::Accepted;
pub use charged::{Charged, Fact, Verdict};
pub use claim::Claim;
pub use copies::examine as examine_copies;
pub use copies::{Carrier, Copier, Copies, CopyState, CopyStore, Fault, Kept, Reader, TaskCopies};
pub use error::TaskError;
pub use fetch::{FetchError, There};
pub use owners::Owners;
pub use poll::Poller;
pub use records::{Entry, Records};
pub use results::{Made, Results};
pub use sealed_rows::ResultPlace;
pub use service::{Onward, Place, Settings, Tasks};
pub use store::Search;
pub use task::{Failure, Task, TaskKind, TaskMoney, TaskState, Wish};
pub use thumbnails::{MEDIA_TYPE as THUMBNAIL_MEDIA_TYPE, Thumbnails, shrink};
pub use upstream::Submission;
pub use used::Used;
