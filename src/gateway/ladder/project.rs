//! Rung 5: the project of the key runs, and owes nothing.

use crate::catalogue::{Code, Refusal};
use crate::directory::ProjectStatus;

use super::case::Case;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(project) = case.caller.and_then(|caller| caller.project) else { return Ok(()) };
    let code = match project.status {
        ProjectStatus::Paused => Code::ProjectPaused,
        ProjectStatus::Archived => Code::ProjectArchived,
        ProjectStatus::Running if project.arrears.is_positive() => Code::ProjectInArrears,
        ProjectStatus::Running => return Ok(()),
    };
    Err(Refusal::new(code).param("project", &*project.name))
}
