//! Why a call was allowed or refused: every rung of the ladder with its numbers, as they were.

use std::sync::Arc;

use ledger::{Effect, Nano};
use serde::Serialize;

use crate::app::App;
use crate::books::ChargeState;
use crate::books::lookup::StoredCall;
use crate::catalogue::{Code, Language, LimitView, Refusal};
use crate::directory::{DirectoryError, Environment, ObjectId, Snapshot};
use crate::gateway::facts::{Checked, Decided, Facts, Outcome};
use crate::gateway::ladder::{self, Evidence, HoldPolicy, Step, StepState, Would};
use crate::id::{AccountId, KeyId};

use super::attempts::{self, AttemptView};
use super::time_text;

/// Whose eyes an explanation is for (J4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Who holds the key: the account's amounts only where its setting shows them.
    Caller,
    /// Who owns the account.
    Owner,
    /// Who runs the gateway: upstream's own words, too.
    Operator,
}

/// What is explained, before it is put into words.
pub struct Case {
    pub decided: Arc<Decided>,
    pub outcome: Option<Box<Outcome>>,
    pub money: Vec<Effect>,
    /// Given back after the charge.
    pub refunded: Nano,
    /// The directory as the decision saw it.
    pub snapshot: Arc<Snapshot>,
    pub policy: HoldPolicy,
}

impl Case {
    /// A recorded call with the configuration of its time.
    pub fn of(app: &App, call: StoredCall) -> Result<Self, DirectoryError> {
        let facts = &call.call.decided.facts;
        let current = app.directory.snapshot_owned();
        let snapshot = match current.version() == facts.config_version {
            true => current,
            false => {
                let objects = facts
                    .credential
                    .passed()
                    .map(|credential| [ObjectId::Account(credential.account), ObjectId::Key(credential.key)]);
                Arc::new(
                    app.directory
                        .as_of(facts.config_version, objects.as_ref().map_or(&[], |ids| &ids[..]))?,
                )
            }
        };
        Ok(Case {
            refunded: app.books.refunded(call.call.decided.facts.request.into()),
            decided: Arc::clone(&call.call.decided),
            outcome: call.call.outcome,
            money: call.money,
            snapshot,
            policy: app.hold_policy(),
        })
    }

    pub fn facts(&self) -> &Facts {
        &self.decided.facts
    }

    /// Whose call it was; `None` if the key was never known.
    pub fn key(&self) -> Option<KeyId> {
        self.facts().credential.passed().map(|credential| credential.key)
    }

    pub fn account(&self) -> Option<AccountId> {
        self.facts().credential.passed().map(|credential| credential.account)
    }

    /// What was answered, if it was a refusal or a failure.
    pub fn code(&self) -> Option<Code> {
        let refused = self.decided.refusal.as_ref().map(|refusal| refusal.code);
        refused.or_else(|| self.outcome.as_ref().and_then(|outcome| outcome.code))
    }
}

/// An explanation, ready to be shown as JSON, as a page or in a terminal.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// `None` in a simulation.
    pub request_id: Option<String>,
    pub at: String,
    pub audience: Audience,
    pub verdict: Verdict,
    /// The answer in one sentence.
    pub summary: String,
    pub refusal: Option<Told>,
    /// Whether the account's balance was looked at (C7).
    pub balance_checked: bool,
    pub balance_note: Option<String>,
    pub call: Asked,
    /// What is no reason for the verdict, and should be looked at.
    pub warnings: Vec<String>,
    /// The ladder in the order in which it is evaluated.
    pub ladder: Vec<RungView>,
    /// The order of the users' guide: account balance → group → key → task cost.
    pub guide: Vec<GuideStep>,
    pub upstream: Option<Upstream>,
    pub config_version: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Admitted,
    Refused,
    /// Admitted, and then it failed.
    Failed,
}

/// A refusal in words.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    pub code: Code,
    pub status: u16,
    pub rung: u8,
    pub layer: &'static str,
    pub fault: &'static str,
    pub retryable: bool,
    pub title: &'static str,
    pub message: String,
    pub hint: String,
    pub charged: String,
    pub next: Vec<&'static str>,
    pub doc_path: String,
}

/// What was asked, without any content.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Asked {
    pub endpoint: Option<&'static str>,
    pub account: Option<String>,
    pub key: Option<String>,
    pub key_name: Option<String>,
    pub model: Option<String>,
    pub stream: Option<bool>,
    pub body_bytes: Option<u64>,
    /// Upper bound of the input's tokens.
    pub input_tokens_bound: Option<u64>,
    pub output_cap_asked: Option<u32>,
    pub output_cap: Option<u32>,
    /// Why the cap is what it is: caller, model or money.
    pub output_cap_reason: Option<&'static str>,
    pub hold: Option<String>,
    pub client_address: Option<String>,
    pub sdk: Option<String>,
    /// The client's own count of its retries.
    pub retry_count: u32,
    /// The page that the call came from, if a browser sent it.
    pub browser_origin: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct RungView {
    pub rung: u8,
    pub name: &'static str,
    pub title: &'static str,
    pub state: State,
    /// Behind the first failure: what this rung would have said, if enough was known.
    pub would: Option<&'static str>,
    pub code: Option<Code>,
    pub figures: Vec<Figure>,
    /// What else was looked at.
    pub evidence: Vec<EvidenceView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct EvidenceView {
    pub check: &'static str,
    /// `pass`, `fail` or `looked`.
    pub finding: &'static str,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Pass,
    Fail,
    NotReached,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pass => "pass",
            State::Fail => "fail",
            State::NotReached => "not_reached",
        }
    }
}

/// The numbers of one comparison. `None` where there is none, or where it may not be shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figure {
    pub scope: String,
    pub id: Option<String>,
    pub window: Option<String>,
    pub limit: Option<String>,
    pub used: Option<String>,
    pub held: Option<String>,
    /// Of a balance: what could be spent.
    pub available: Option<String>,
    pub needed: Option<String>,
    pub short_by: Option<String>,
    pub resets_at: Option<String>,
    pub origin: Option<String>,
    /// Amounts are left out for this audience.
    pub hidden: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct GuideStep {
    pub name: &'static str,
    pub title: &'static str,
    /// Whether there is a purse or a limit of this kind at all.
    pub applies: bool,
    pub state: State,
    pub would: Option<&'static str>,
    pub figures: Vec<Figure>,
}

/// What the upstream said; for operators.
#[derive(Clone, Debug, Serialize)]
pub struct Upstream {
    pub channel: Option<String>,
    pub status: Option<u16>,
    pub request_id: Option<String>,
    pub error: Option<String>,
    /// The channels that the call was sent to; the last one is that which is told above.
    pub attempts: Vec<AttemptView>,
}

/// Explains a case to an audience.
pub fn explain(case: &Case, audience: Audience, language: Language) -> Why {
    let (facts, decided) = (case.facts(), &*case.decided);
    let readings = decided.readings.as_ref();
    let refused = decided.refusal.as_ref().map(|refusal| refusal.code);
    let steps = ladder::explain(&case.snapshot, facts, readings, &case.policy, refused);
    let shows_money = shows_account_money(case, audience);
    let ladder: Vec<_> = steps.iter().map(|step| rung_view(step, shows_money, language)).collect();
    let refusal = told(case, shows_money, language);
    let verdict = match (&decided.refusal, &refusal) {
        (Some(_), _) => Verdict::Refused,
        (None, Some(_)) => Verdict::Failed,
        (None, None) => Verdict::Admitted,
    };
    let balance_checked = readings.is_some();
    Why {
        request_id: Some(facts.request.to_string()),
        at: time_text(facts.at_ms),
        audience,
        verdict,
        summary: refusal.as_ref().map_or_else(|| passed(language).to_owned(), |told| told.message.clone()),
        refusal,
        balance_checked,
        balance_note: (!balance_checked).then(|| not_checked(language).to_owned()),
        call: asked(case, audience),
        warnings: warnings(case, language),
        guide: guide(&steps, balance_checked, shows_money, language),
        ladder,
        upstream: (audience == Audience::Operator).then(|| upstream(case)).flatten(),
        config_version: facts.config_version,
    }
}

/// A live key in a page is a key that everybody has who opens the page.
fn warnings(case: &Case, language: Language) -> Vec<String> {
    let key = case.key().and_then(|id| case.snapshot.key(id));
    let is_live = key.is_some_and(|key| key.environment == Environment::Live);
    let origin = case.facts().client.browser_origin.as_deref().filter(|_| is_live);
    let warning = |origin: &str| match language {
        Language::En => format!(
            "This live key was used from a browser, by the page {origin}: whoever opens that page can read the key."
        ),
        Language::Zh => {
            format!("该正式 Key 在浏览器中被页面 {origin} 使用：打开该页面的任何人都能读取它。")
        }
    };
    origin.map(warning).into_iter().collect()
}

fn passed(language: Language) -> &'static str {
    match language {
        Language::En => "The call passed every check.",
        Language::Zh => "该调用通过了全部检查。",
    }
}

fn not_checked(language: Language) -> &'static str {
    match language {
        Language::En => "The balance was not checked: the call was refused before anybody looked at money.",
        Language::Zh => "未检查余额：该调用在查看金额之前就已被拒绝。",
    }
}

/// Whether the account's own amounts may be in the explanation.
fn shows_account_money(case: &Case, audience: Audience) -> bool {
    let account = case.account().and_then(|id| case.snapshot.account(id));
    match audience {
        Audience::Operator | Audience::Owner => true,
        Audience::Caller => account.is_some_and(|entry| entry.account.callers_see_account_money()),
    }
}

fn told(case: &Case, shows_money: bool, language: Language) -> Option<Told> {
    let code = case.code()?;
    let fresh;
    let refusal: &Refusal = match &case.decided.refusal {
        Some(refusal) => refusal,
        None => {
            fresh = Refusal::new(code);
            &fresh
        }
    };
    Some(Told {
        code,
        status: code.status(),
        rung: code.rung(),
        layer: code.layer(),
        fault: code.fault().as_str(),
        retryable: code.retryable(),
        title: code.title(language),
        message: refusal.message(language, shows_money),
        hint: refusal.hint(language),
        charged: ChargeState::of(&case.money).1.to_string(),
        next: code.next_steps(language).to_vec(),
        doc_path: format!("/errors/{code}"),
    })
}

fn rung_view(step: &Step, shows_money: bool, language: Language) -> RungView {
    let state = match step.state {
        StepState::Pass => State::Pass,
        StepState::Fail => State::Fail,
        StepState::NotReached { .. } => State::NotReached,
    };
    RungView {
        rung: step.rung,
        name: step.name,
        title: rung_title(step.rung, language),
        state,
        would: would_text(step.state),
        code: step.code,
        figures: step.figures.iter().map(|view| figure(view, shows_money)).collect(),
        evidence: step.evidence.iter().map(|evidence| evidence_view(evidence, language)).collect(),
    }
}

fn evidence_view(evidence: &Evidence, language: Language) -> EvidenceView {
    let text = if language == Language::Zh { &evidence.zh } else { &evidence.en };
    EvidenceView { check: evidence.check, finding: evidence.finding.as_str(), text: text.to_string() }
}

fn would_text(state: StepState) -> Option<&'static str> {
    match state {
        StepState::NotReached { would: Some(Would::Pass) } => Some("pass"),
        StepState::NotReached { would: Some(Would::Fail) } => Some("fail"),
        StepState::NotReached { would: None } | StepState::Pass | StepState::Fail => None,
    }
}

/// A rung's title, as the catalogue has it for the codes of the rung.
fn rung_title(rung: u8, language: Language) -> &'static str {
    Code::ALL.iter().find(|code| code.rung() == rung).map_or("", |code| code.rung_title(language))
}

fn figure(view: &LimitView, shows_money: bool) -> Figure {
    let hidden = view.scope != "key" && !shows_money;
    let shown = |amount: Option<ledger::Nano>| amount.filter(|_| !hidden).map(|amount| amount.to_string());
    Figure {
        scope: view.scope.to_string(),
        id: view.id.as_ref().map(ToString::to_string),
        window: view.window.as_ref().map(ToString::to_string),
        limit: shown(view.limit),
        used: shown(view.used),
        held: shown(view.held),
        available: shown(view.available),
        needed: view.needed.map(|amount| amount.to_string()),
        short_by: shown(view.short_by),
        resets_at: view.resets_at_ms.map(time_text),
        origin: view.origin.as_ref().map(ToString::to_string),
        hidden,
    }
}

fn asked(case: &Case, audience: Audience) -> Asked {
    let facts = case.facts();
    let key = case.key().and_then(|id| case.snapshot.key(id));
    let mut asked = Asked {
        endpoint: facts.address.passed().map(|endpoint| endpoint.path()),
        account: case.account().map(|id| id.to_string()),
        key: case.key().map(|id| id.to_string()),
        key_name: key.map(|key| key.name.to_string()),
        sdk: Some(facts.client.sdk.to_string()).filter(|sdk| !sdk.is_empty()),
        retry_count: facts.client.retry_count,
        browser_origin: facts.client.browser_origin.as_ref().map(ToString::to_string),
        // Who was never known may be told to anybody, so the address is not.
        client_address: facts
            .client
            .address
            .filter(|_| audience != Audience::Caller)
            .map(|ip| ip.to_string()),
        ..Asked::default()
    };
    if let Checked::Passed(body) = &facts.body {
        asked.model = Some(body.model.to_string());
        asked.stream = Some(body.stream);
        asked.body_bytes = Some(body.body_bytes);
        asked.input_tokens_bound = Some(body.input_tokens_bound);
        asked.output_cap_asked = body.output_cap;
    }
    if let Some(admitted) = &case.decided.admitted {
        asked.output_cap = Some(admitted.output_cap);
        asked.output_cap_reason = Some(admitted.cap_reason.as_str());
        asked.hold = Some(admitted.hold.to_string());
    }
    asked
}

/// The order in which users are taught to look, over the same rungs.
fn guide(steps: &[Step], checked: bool, shows_money: bool, language: Language) -> Vec<GuideStep> {
    const KEY_SIDE: &[&str] = &["key", "member", "project", "model", "organization"];
    let order: [(&'static str, [&'static str; 2], u8, &[&str]); 4] = [
        ("account_balance", ["Account balance", "账户余额"], 13, &["account"]),
        ("group_quota", ["Group quota", "分组额度"], 12, &["group"]),
        ("key_limit", ["Key limits", "单 Key 限额"], 12, KEY_SIDE),
        ("task_cost", ["Cost of this task", "任务费用"], 12, &["task"]),
    ];
    let step = |(name, [en, zh], rung, scopes): (_, [&'static str; 2], u8, &[&str])| {
        let rung = steps.iter().find(|step| step.rung == rung);
        let all = rung.map(|step| step.figures.as_slice()).unwrap_or_default();
        let own: Vec<_> = all.iter().filter(|view| scopes.contains(&&*view.scope)).collect();
        let state = match rung.map(|step| step.state) {
            _ if !checked => State::NotReached,
            // One rung stands for several questions: only that one failed whose own numbers were too small.
            Some(StepState::Fail) if own.iter().any(|view| falls_short(view)) => State::Fail,
            Some(StepState::NotReached { .. }) | None => State::NotReached,
            Some(StepState::Pass | StepState::Fail) => State::Pass,
        };
        GuideStep {
            name,
            title: if language == Language::Zh { zh } else { en },
            applies: !own.is_empty(),
            state,
            would: rung.and_then(|step| would_text(step.state)),
            figures: own.iter().map(|view| figure(view, shows_money)).collect(),
        }
    };
    order.into_iter().map(step).collect()
}

/// Whether a purse's own numbers show that it was too small.
fn falls_short(view: &LimitView) -> bool {
    let needed = view.needed.unwrap_or_default();
    match view.limit {
        None => view.short_by.is_some() || view.available.is_some_and(|left| left < needed || left.0 <= 0),
        Some(limit) => {
            let left = limit
                .saturating_sub(view.used.unwrap_or_default())
                .saturating_sub(view.held.unwrap_or_default());
            left < needed || left.0 <= 0
        }
    }
}

fn upstream(case: &Case) -> Option<Upstream> {
    let outcome = case.outcome.as_ref()?;
    let served = outcome.served();
    let channel = served.and_then(|attempt| attempt.channel);
    let channel = channel.or(case.decided.admitted.map(|admitted| admitted.channel));
    Some(Upstream {
        channel: channel.map(|channel| channel.to_string()),
        status: served.and_then(|attempt| attempt.status),
        request_id: served.and_then(|attempt| attempt.upstream_request.as_deref()).map(ToOwned::to_owned),
        error: outcome.upstream_error.as_ref().map(ToString::to_string),
        attempts: attempts::of(outcome, Audience::Operator),
    })
}
