//! What an account, or one of its keys, wants to hold for image and video tasks alone.

use ledger::Nano;
use serde::{Deserialize, Serialize};

use super::error::FieldError;
use super::{checks, decimal};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskTerms {
    /// A task that can cost more is refused, unless its caller confirms so much (高成本任务); unset: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::optional_money")]
    pub cost_cap: Option<Nano>,
    /// An identical submission within the window is refused, instead of answered with the first one's task.
    #[serde(default)]
    pub refuse_duplicates: bool,
}

impl TaskTerms {
    pub(super) fn check(&self, field: &str) -> Result<(), FieldError> {
        let field = format!("{field}.cost_cap");
        self.cost_cap.iter().try_for_each(|cap| checks::not_negative(&field, *cap))
    }
}
