//! Rung 7: a policy lets the call pass, if any policy applies to it.

use jiff::Timestamp;

use crate::catalogue::{Code, Refusal};
use crate::directory::policy::{self, Decision, Found, Question};
use crate::directory::{Member, Project, Snapshot};
use crate::gateway::facts::Facts;

use super::case::{Caller, Case};
use super::evidence::{Evidence, Finding};

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(question) = question(case) else { return Ok(()) };
    match decide(case, &question) {
        Decision::Unrestricted | Decision::Allowed(_) => Ok(()),
        Decision::Denied { by, permission } => Err(Refusal::new(Code::PermissionDeniedExplicit)
            .param("policy", named(&by))
            .param("statement", by.statement_name())
            .param("action", permission.action(&question))
            .param("resource", permission.resource(&question))),
        Decision::NotAllowed { permission } => Err(Refusal::new(Code::PermissionDeniedImplicit)
            .param("action", permission.action(&question))
            .param("resource", permission.resource(&question))),
    }
}

/// Which policies were looked at, and the statement that decided.
pub fn evidence(case: &Case<'_>) -> Vec<Evidence> {
    let (Some(caller), Some(question)) = (case.caller, question(case)) else { return Vec::new() };
    let attached = attached(case.snapshot, caller).map(|attached| {
        let (policy, to) = (attached.policy, attached.to);
        let (name, id) = (&policy.name, policy.id);
        let en = format!("{name} ({id}), attached to {to}");
        Evidence::new("policy", Finding::Looked, en, format!("{name}（{id}），附加于 {to}"))
    });
    let mut evidence: Vec<_> = attached.collect();
    evidence.push(match decide(case, &question) {
        Decision::Unrestricted => Evidence::new(
            "decision",
            Finding::Pass,
            "no policy applies to this key: everything is allowed",
            "没有策略适用于该 Key：全部允许",
        ),
        Decision::Allowed([base, fine]) => Evidence::new(
            "decision",
            Finding::Pass,
            format!("allowed by {} and {}", statement(&base), statement(&fine)),
            format!("由 {} 和 {} 允许", statement(&base), statement(&fine)),
        ),
        Decision::Denied { by, .. } => Evidence::new(
            "decision",
            Finding::Fail,
            format!("denied by {}", statement(&by)),
            format!("被 {} 拒绝", statement(&by)),
        ),
        Decision::NotAllowed { permission } => {
            let (action, resource) = (permission.action(&question), permission.resource(&question));
            Evidence::new(
                "decision",
                Finding::Fail,
                format!("no statement allows {action} on {resource}"),
                format!("没有语句允许对 {resource} 执行 {action}"),
            )
        }
    });
    evidence
}

/// Whether policies let a caller use a model at any endpoint of it; for lists of models.
pub fn permits(snapshot: &Snapshot, caller: Caller<'_>, facts: &Facts, model: &str, endpoint: &str) -> bool {
    let question = ask(caller, facts, endpoint, model);
    !matches!(
        policy::evaluate(attached(snapshot, caller), &question),
        Decision::Denied { .. } | Decision::NotAllowed { .. }
    )
}

fn question<'a>(case: &Case<'a>) -> Option<Question<'a>> {
    let endpoint = case.facts.address.passed()?.called().path();
    Some(ask(case.caller?, case.facts, endpoint, &case.call?.model))
}

fn ask<'a>(caller: Caller<'a>, facts: &Facts, endpoint: &'a str, model: &'a str) -> Question<'a> {
    Question {
        project: caller.key.project,
        endpoint,
        model,
        environment: caller.key.environment,
        at: Timestamp::from_millisecond(facts.at_ms).unwrap_or(Timestamp::MAX),
        zone: &caller.account.zone,
        address: facts.client.address,
    }
}

fn decide<'a>(case: &Case<'a>, question: &Question<'a>) -> Decision<'a> {
    match case.caller {
        Some(caller) => policy::evaluate(attached(case.snapshot, caller), question),
        None => Decision::Unrestricted,
    }
}

fn attached<'a>(snapshot: &'a Snapshot, caller: Caller<'a>) -> impl Iterator<Item = policy::Attached<'a>> {
    let project = caller.project.map(|project| -> &'a Project { project });
    let member = caller.member.map(|member| -> &'a Member { member });
    policy::attached(snapshot, caller.key, &caller.account.account, project, member)
}

/// Name and id of the policy, and what it is attached to.
fn named(found: &Found<'_>) -> String {
    let policy = found.attached.policy;
    format!("{} ({}, {})", policy.name, policy.id, found.attached.to)
}

fn statement(found: &Found<'_>) -> String {
    format!("{} #{}", named(found), found.statement_name())
}
