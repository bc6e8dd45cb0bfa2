//! Rung 4: the switches of the account and of the organizations above it. They outrank every limit.

use crate::catalogue::{Code, Refusal, Value};
use crate::directory::Snapshot;
use crate::directory::organization::{self, EffectiveSwitch, Switch, SwitchSource};
use crate::gateway::facts::Endpoint;

use super::case::Case;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(caller) = case.caller else { return Ok(()) };
    let switches = organization::switches(case.snapshot, &caller.account.account);
    // Viewing is what a view-only account may do, and a list of models is no model call.
    let is_view = case.facts.address.passed() == Some(&Endpoint::Models);
    let refusal = |code, switch| Err(refusal(case.snapshot, code, switch));
    match (switches.api_service.switch, switches.model_calls.switch) {
        (Switch::Suspended, _) => refusal(Code::AccountSuspended, switches.api_service),
        _ if is_view => Ok(()),
        (Switch::ViewOnly, _) => refusal(Code::AccountViewOnly, switches.api_service),
        (Switch::On, Switch::Suspended) => refusal(Code::ModelCallsSuspended, switches.model_calls),
        (Switch::On, Switch::ViewOnly) => refusal(Code::ModelCallsViewOnly, switches.model_calls),
        (Switch::On, Switch::On) => Ok(()),
    }
}

fn refusal(snapshot: &Snapshot, code: Code, switch: EffectiveSwitch) -> Refusal {
    let source = match switch.source {
        SwitchSource::Default => Value::from(("the default of this kind of account", "该类账户的默认设置")),
        SwitchSource::Account => Value::from(("the account itself", "账户本身")),
        SwitchSource::Organization(id) => match snapshot.organization(id) {
            Some(entry) => {
                let name = &entry.organization.name;
                (&*format!("the organization {name}, {id}"), &*format!("上级组织 {name}，{id}")).into()
            }
            None => id.to_string().into(),
        },
    };
    Refusal::new(code).param("source", source)
}
