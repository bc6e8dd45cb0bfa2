//! What the demo's directory and books hold at the beginning. All of it goes the ordinary way: commands of
//! the directory, entries of the ledger, and real calls where something must have been used.

use std::collections::BTreeMap;
use std::fmt;

use ledger::{Command, CreditSource, LotKind, Nano, Reference};

use crate::app::App;
use crate::books::BooksError;
use crate::directory::{
    AccountKind, Allowance, CapField, Channel, DirectoryError, Environment, FieldError, Group, Key, KeyOrder,
    KeyStatus, Limit, Member, Metric, Model, Organization, Origin, Policy, PolicyDocument, Price, Project,
    ProjectStatus, ProviderKind, RateLimit, RateMetric, Schedule, StatusNote, StatusOrigin, StatusReason,
    Switch, TaskApi, UnitPrice, Window, decimal,
};
use crate::explain::usable;
use crate::gateway::ladder::{self, Caller};
use crate::id::{AccountId, GroupId, LotId, MemberId, OrganizationId, PolicyId, ProjectId};
use crate::keytext;
use crate::secret::Secret;

use super::keys::{DemoAccount, DemoKey, KEYS, Seed};
use super::prices::{
    AUDIO_SECONDS_MAX, AUDIO_TOKENS_MAX, IMAGE_TOKENS_MAX, MODELS, STUDIO_IMAGE, STUDIO_VIDEO, UnitRow,
};
use super::upstream;

const ACTOR: &str = "demo";
const CHANNEL: &str = "simulated upstream";
/// For each format that the simulated upstream speaks.
const CHANNELS: [(&str, ProviderKind); 7] = [
    (CHANNEL, ProviderKind::Openai),
    (FAILURES, ProviderKind::Openai),
    (UNSTABLE, ProviderKind::Openai),
    (STUDIO, ProviderKind::Openai),
    ("simulated DeepSeek", ProviderKind::Deepseek),
    ("simulated Anthropic", ProviderKind::Anthropic),
    ("simulated Gemini", ProviderKind::Gemini),
];
/// Serves the models that always fail, and never cools down: each call is to show its failure, not that of the one before.
const FAILURES: &str = "simulated failures";
const FAILING: [&str; 5] = ["demo-429", "demo-500", "demo-timeout", "demo-no-credit", "demo-cut"];
/// Serves a model that fails in turn; its calls go on to the first channel.
const UNSTABLE: &str = "unstable upstream";
const UNSTABLE_MODEL: &str = "demo-unstable";
/// Makes videos and pictures, and speaks of them in a way of its own.
const STUDIO: &str = "simulated studio";
/// Has a price and no channel that serves it.
const WITHOUT_CHANNEL: &str = "demo-down";
const DEEPSEEK: &str = "deepseek-chat";
const DEEPSEEK_GROUP: &str = "deepseek";
/// $1,000, and a hundredth of a cent.
const PLENTY: Nano = Nano(1_000_000_000_000);
const LITTLE: Nano = Nano(10_000);

#[derive(Debug)]
pub enum SeedError {
    Directory(DirectoryError),
    Books(BooksError),
}

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeedError::Directory(why) => write!(f, "the demo's directory: {why}"),
            SeedError::Books(why) => write!(f, "the demo's books: {why}"),
        }
    }
}

impl std::error::Error for SeedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SeedError::Directory(why) => Some(why),
            SeedError::Books(why) => Some(why),
        }
    }
}

impl From<DirectoryError> for SeedError {
    fn from(why: DirectoryError) -> Self {
        SeedError::Directory(why)
    }
}

impl From<BooksError> for SeedError {
    fn from(why: BooksError) -> Self {
        SeedError::Books(why)
    }
}

/// Makes everything that is not there yet: a demo that was killed while it was seeded is completed by the
/// next start. Blocks.
pub fn seed(app: &App, seed: &Seed, upstream_url: &str, upstream_key: &Secret) -> Result<(), SeedError> {
    models(app)?;
    channels(app, upstream_url, upstream_key)?;
    for key in &KEYS {
        if app.directory.find_key(seed.key(key).expose().as_bytes()).is_none() {
            self::key(app, seed, key)?;
        }
    }
    Ok(())
}

fn models(app: &App) -> Result<(), DirectoryError> {
    for demo in &MODELS {
        if app.directory.snapshot().model(demo.name).is_some() {
            continue;
        }
        let model = app.directory.create_model(ACTOR, &|model: &mut Model| {
            model.name = demo.name.into();
            model.output_tokens_max = demo.max_output_tokens;
            model.endpoints = demo.paths();
            model.image_tokens_max = Some(IMAGE_TOKENS_MAX);
            model.audio_tokens_max = Some(AUDIO_TOKENS_MAX);
            model.audio_seconds_max = Some(AUDIO_SECONDS_MAX);
            Ok(())
        })?;
        if demo.priced {
            app.directory.add_price(ACTOR, model.document.id, &|price: &mut Price| {
                price.per_million = demo.price.per_million;
                price.units = demo.units.iter().map(unit_price).collect();
                price.per_call = demo.price.per_call;
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn unit_price(row: &UnitRow) -> UnitPrice {
    UnitPrice {
        unit: row.unit,
        size: row.size.map(Into::into),
        quality: row.quality.map(Into::into),
        price: row.price,
    }
}

/// The channels; their address follows the upstream when that had to be started anew.
fn channels(app: &App, upstream_url: &str, upstream_key: &Secret) -> Result<(), DirectoryError> {
    for (name, provider) in CHANNELS {
        let base_url = match provider {
            ProviderKind::Gemini => format!("{upstream_url}beta"),
            _ if name == STUDIO => upstream_url.replace("/v1", "/studio"),
            _ => upstream_url.to_owned(),
        };
        let known = app.directory.snapshot().channels().find(|channel| &*channel.name == name).cloned();
        if let Some(known) = known {
            app.directory.edit_channel(ACTOR, known.id, None, None, &|channel: &mut Channel| {
                channel.base_url = base_url.as_str().into();
                Ok(())
            })?;
            continue;
        }
        let served = served(name, provider);
        let task_api = (name == STUDIO).then(upstream::studio_task_api);
        let task_api = task_api.and_then(|api| serde_json::from_value::<Box<TaskApi>>(api).ok());
        let credentials = std::slice::from_ref(upstream_key);
        app.directory.create_channel(ACTOR, credentials, &|channel: &mut Channel| {
            channel.name = name.into();
            channel.provider = provider;
            channel.base_url = base_url.as_str().into();
            channel.models = served.clone();
            channel.task_api.clone_from(&task_api);
            channel.environments = vec![Environment::Live, Environment::Test];
            if provider == ProviderKind::Deepseek {
                channel.output_cap_field = CapField::MaxTokens;
            }
            // The upstream bills what the gateway charges.
            channel.cost_share_ppm = Some(decimal::PPM);
            channel.cools_down = name != FAILURES;
            channel.priority = if name == UNSTABLE { 10 } else { 0 };
            Ok(())
        })?;
    }
    Ok(())
}

/// What a channel serves, by the names that the upstream knows.
fn served(channel: &str, provider: ProviderKind) -> BTreeMap<Box<str>, Box<str>> {
    let by = |model: &str| match model {
        WITHOUT_CHANNEL => false,
        UNSTABLE_MODEL => channel != FAILURES && channel != STUDIO,
        STUDIO_VIDEO | STUDIO_IMAGE => channel == STUDIO,
        _ if provider != ProviderKind::Openai => true,
        _ => channel == if FAILING.contains(&model) { FAILURES } else { CHANNEL },
    };
    // The stable channel takes the calls of the unstable one to a model of the same price.
    let sent = |model: &'static str| match model {
        UNSTABLE_MODEL if channel == CHANNEL => "gpt-5-mini",
        model => model,
    };
    let own = MODELS.iter().filter(|model| model.provider() == provider);
    let names = own.map(|model| model.name).filter(|name| by(name));
    names.map(|name| (name.into(), sent(name).into())).collect()
}

fn key(app: &App, seed: &Seed, key: &DemoKey) -> Result<(), SeedError> {
    let account = account(app, key.account)?;
    let environment = match key.environment {
        keytext::Environment::Live => Environment::Live,
        keytext::Environment::Test => Environment::Test,
    };
    let order = KeyOrder { account, environment };
    let now = jiff::Timestamp::from_millisecond(app.clock.now_ms()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let group = match key.name {
        "group_without_model" => Some(group(app, DEEPSEEK_GROUP, &[DEEPSEEK])?),
        "group_quota_spent" => Some(group(app, "quota", &[])?),
        _ => None,
    };
    let project = match key.name {
        "project_paused" => Some(project(app, account, "paused", ProjectStatus::Paused, Nano::ZERO)?),
        "project_arrears" => Some(project(app, account, "in arrears", ProjectStatus::Running, DEBT)?),
        "project_budget_spent" => Some(project(app, account, "small", ProjectStatus::Running, Nano::ZERO)?),
        _ => None,
    };
    let policies = match key.name {
        "no_permission" => vec![policy(app, account, "embeddings alone", EMBEDDINGS_ALONE)?],
        "explicit_deny" => vec![policy(app, account, "no GPT", NO_GPT)?],
        _ => Vec::new(),
    };
    let member = (key.name == "member_budget_spent").then(|| member(app, account)).transpose()?;
    app.directory.create_key(ACTOR, order, Some(seed.key(key)), &|made: &mut Key| {
        made.name = key.name.into();
        (made.group, made.member) = (group, member);
        made.project = project.or(made.project);
        made.policies.clone_from(&policies);
        match key.name {
            "model_not_allowed" => {
                made.allowed = vec![Allowance { endpoints: Vec::new(), models: vec![DEEPSEEK.into()] }];
            }
            "qps_one" => made.rates = vec![one(RateMetric::RequestsPerSecond)],
            "concurrency_one" => made.rates = vec![one(RateMetric::Concurrency)],
            "daily_zero" => made.limits = vec![daily_calls(0, Origin::Default)],
            "daily_spent" => made.limits = vec![daily_calls(1, Origin::Owner)],
            _ => {}
        }
        state(made, key.name, now);
        Ok(())
    })?;
    Ok(())
}

fn one(metric: RateMetric) -> RateLimit {
    RateLimit { metric, value: 1, origin: Origin::Owner, schedule: None }
}

const DEBT: Nano = Nano(12_340_000_000);

fn daily_calls(count: i64, origin: Origin) -> Limit {
    let value = Metric::Calls.value(count);
    Limit { metric: Metric::Calls, ..Limit::spend(Window::Day, value, origin) }
}

/// What is wrong with the keys that show a state.
fn state(key: &mut Key, name: &str, now: jiff::Timestamp) {
    let (status, origin, reason) = match name {
        "revoked" => (KeyStatus::Revoked, StatusOrigin::Owner, StatusReason::Owner),
        "disabled" => (KeyStatus::Disabled, StatusOrigin::Owner, StatusReason::Owner),
        "pending_review" => (KeyStatus::PendingReview, StatusOrigin::Operator, StatusReason::Operator),
        "risk_frozen" => (KeyStatus::RiskFrozen, StatusOrigin::RiskPolicy, StatusReason::HighFrequency),
        _ => (KeyStatus::Enabled, StatusOrigin::Owner, StatusReason::Owner),
    };
    if status != KeyStatus::Enabled {
        key.status = status;
        key.status_note = Some(Box::new(StatusNote {
            origin,
            reason,
            since: now,
            until: None,
            text: None,
            evidence: None,
        }));
    }
    match name {
        "expired" => key.expires_at = Some(now),
        // A year from now: whatever the day and the hour of the demo, it is closed.
        "outside_schedule" => {
            let from = now.checked_add(jiff::SignedDuration::from_hours(365 * 24)).ok();
            key.schedule = Some(Box::new(Schedule { from, ..Schedule::default() }));
        }
        "ip_denied" => key.ip_ranges = DOCUMENTATION_NET.parse().ok().into_iter().collect(),
        _ => {}
    }
}

/// Nobody calls from there (RFC 5737).
const DOCUMENTATION_NET: &str = "192.0.2.0/24";

/// `models` empty: all.
fn group(app: &App, name: &str, models: &[&str]) -> Result<GroupId, DirectoryError> {
    if let Some(known) = app.directory.find_by_name::<Group>("group", name)? {
        return Ok(known.document.id);
    }
    let made = app.directory.create_group(ACTOR, &|group: &mut Group| {
        group.name = name.into();
        group.models = models.iter().map(|model| (*model).into()).collect();
        Ok(())
    })?;
    Ok(made.document.id)
}

fn project(
    app: &App,
    account: AccountId,
    name: &str,
    status: ProjectStatus,
    arrears: Nano,
) -> Result<ProjectId, DirectoryError> {
    let snapshot = app.directory.snapshot_owned();
    if let Some(known) = snapshot.projects().find(|known| known.account == account && &*known.name == name) {
        return Ok(known.id);
    }
    let made = app.directory.create_project(ACTOR, account, &|project: &mut Project| {
        (project.name, project.status, project.arrears) = (name.into(), status, arrears);
        Ok(())
    })?;
    Ok(made.document.id)
}

const EMBEDDINGS_ALONE: &str = r#"{"Version": "2026-11-01", "Statement": [{"Sid": "Embeddings", "Effect": "Allow",
    "Action": ["tallygate:call", "models:embed"],
    "Resource": ["arn:tallygate:api:*/embeddings", "arn:tallygate:model:*"]}]}"#;
const NO_GPT: &str = r#"{"Version": "2026-11-01", "Statement": [
    {"Sid": "Everything", "Effect": "Allow", "Action": "*", "Resource": "*"},
    {"Sid": "NoGpt", "Effect": "Deny", "Action": "models:inference", "Resource": "arn:tallygate:model:gpt-*"}]}"#;

fn policy(app: &App, account: AccountId, name: &str, document: &str) -> Result<PolicyId, DirectoryError> {
    let snapshot = app.directory.snapshot_owned();
    let known = snapshot.policies().find(|known| known.account == Some(account) && &*known.name == name);
    if let Some(known) = known {
        return Ok(known.id);
    }
    let source =
        serde_json::from_str(document).map_err(|why| FieldError::new("document", why.to_string()))?;
    let document = PolicyDocument::read("document", &source)?;
    let made = app.directory.create_policy(ACTOR, Some(account), &document, &|policy: &mut Policy| {
        policy.name = name.into();
        Ok(())
    })?;
    Ok(made.document.id)
}

fn member(app: &App, account: AccountId) -> Result<MemberId, DirectoryError> {
    let snapshot = app.directory.snapshot_owned();
    if let Some(known) = snapshot.members().find(|known| known.account == account) {
        return Ok(known.id);
    }
    let made = app.directory.create_member(ACTOR, account, &|member: &mut Member| {
        member.name = "a member with a budget".into();
        Ok(())
    })?;
    Ok(made.document.id)
}

/// An organization whose API service is switched off.
fn suspended_organization(app: &App) -> Result<OrganizationId, DirectoryError> {
    const NAME: &str = "Demo organization";
    if let Some(known) = app.directory.find_by_name::<Organization>("organization", NAME)? {
        return Ok(known.document.id);
    }
    let made = app.directory.create_organization(ACTOR, &|organization: &mut Organization| {
        organization.name = NAME.into();
        organization.switches.api_service = Some(Switch::Suspended);
        Ok(())
    })?;
    Ok(made.document.id)
}

fn account(app: &App, which: DemoAccount) -> Result<AccountId, SeedError> {
    let (name, credit) = match which {
        DemoAccount::Funded => ("Demo", Some(PLENTY)),
        DemoAccount::Empty => ("Demo, nothing topped up", None),
        DemoAccount::Low => ("Demo, almost spent", Some(LITTLE)),
        DemoAccount::Suspended => ("Demo, suspended", Some(PLENTY)),
        DemoAccount::ViewOnly => ("Demo, view only", Some(PLENTY)),
        DemoAccount::UnderSuspended => ("Demo, under a suspended organization", Some(PLENTY)),
        DemoAccount::Education => ("Demo, education", Some(PLENTY)),
    };
    let organization = match which {
        DemoAccount::UnderSuspended => Some(suspended_organization(app)?),
        _ => None,
    };
    let known =
        app.directory.snapshot().accounts().find(|account| &*account.name == name).map(|known| known.id);
    let id = match known {
        Some(id) => id,
        None => {
            let made = app.directory.create_account(ACTOR, &|account| {
                account.name = name.into();
                account.organization = organization;
                match which {
                    DemoAccount::Suspended => account.switches.api_service = Some(Switch::Suspended),
                    DemoAccount::ViewOnly => account.switches.api_service = Some(Switch::ViewOnly),
                    DemoAccount::Education => account.kind = AccountKind::Education,
                    _ => {}
                }
                Ok(())
            })?;
            made.document.id
        }
    };
    let live = ledger::AccountId(id.raw());
    if let Some(amount) = credit {
        self::credit(app, live, amount, LotKind::Purchased, format!("demo:{name}"))?;
    }
    if which == DemoAccount::Funded {
        // The setting was checked when it was read.
        let amount = Nano::parse_decimal(&app.config.ledger.test_credit).unwrap_or(Nano::ZERO);
        self::credit(
            app,
            live.in_book(ledger::Book::Test),
            amount,
            LotKind::Granted,
            format!("demo-test:{name}"),
        )?;
    }
    Ok(id)
}

fn credit(
    app: &App,
    account: ledger::AccountId,
    amount: Nano,
    kind: LotKind,
    reference: String,
) -> Result<(), BooksError> {
    let credit = Command::Credit {
        account,
        lot: ledger::LotId(LotId::new(&*app.clock, &*app.entropy).raw()),
        kind,
        priority: 0,
        expires_at: None,
        amount,
        source: CreditSource::Promotion,
        reference: Reference::new(reference),
    };
    match app.books.execute_blocking(&credit) {
        Ok(_) | Err(BooksError::Refused(ledger::LedgerError::AlreadyPosted { .. })) => Ok(()),
        Err(why) => Err(why),
    }
}

/// A purse of a demo key that is to be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    Key(Window),
    Member,
    Project,
    Group,
    /// The key's one call of the day.
    Call,
}

/// The demo keys of which something must have been used.
pub const SPENT: [(&str, Spent); 6] = [
    ("key_budget_spent", Spent::Key(Window::Month)),
    ("daily_spend", Spent::Key(Window::Day)),
    ("member_budget_spent", Spent::Member),
    ("project_budget_spent", Spent::Project),
    ("group_quota_spent", Spent::Group),
    ("daily_spent", Spent::Call),
];

/// Whether a key of the demo still has to make the call that spends its purse.
pub fn is_unspent(app: &App, key: &Key, spent: Spent) -> bool {
    let snapshot = app.directory.snapshot();
    match spent {
        Spent::Key(_) => key.limits.is_empty(),
        Spent::Member => key.member.and_then(|id| snapshot.member(id)).is_some_and(|of| of.limits.is_empty()),
        Spent::Project => {
            key.project.and_then(|id| snapshot.project(id)).is_some_and(|of| of.limits.is_empty())
        }
        Spent::Group => key.group.and_then(|id| snapshot.group(id)).is_some_and(|of| of.limits.is_empty()),
        // Again each day: the count of yesterday is not today's.
        Spent::Call => usable::limits(app, key).iter().any(|limit| limit.left.is_positive()),
    }
}

/// Limits a purse to exactly what a real call has used of it.
pub fn limit_to_used(app: &App, key: &Key, spent: Spent) -> Result<(), SeedError> {
    let snapshot = app.directory.snapshot_owned();
    let Some(caller) = Caller::of_key(&snapshot, key.id) else { return Ok(()) };
    let (scope, window, origin) = match spent {
        Spent::Key(window) => ("key", window, Origin::Owner),
        Spent::Member => ("member", Window::Month, Origin::Owner),
        Spent::Project => ("project", Window::Month, Origin::Owner),
        Spent::Group => ("group", Window::Month, Origin::Operator),
        Spent::Call => return Ok(()),
    };
    let purses = ladder::purses(&snapshot, caller);
    let Some(purse) = purses.iter().find(|purse| purse.scope() == scope) else { return Ok(()) };
    let limits = vec![Limit::spend(window, usable::spent(app, purse, window), origin)];
    let directory = &app.directory;
    match (spent, caller.member, caller.project, caller.group) {
        (Spent::Member, Some(member), _, _) => {
            let edit = |member: &mut Member| {
                member.limits.clone_from(&limits);
                Ok(())
            };
            directory.edit(ACTOR, member.id.raw(), None, &edit).map(drop)?;
        }
        (Spent::Project, _, Some(project), _) => {
            let edit = |project: &mut Project| {
                project.limits.clone_from(&limits);
                Ok(())
            };
            directory.edit(ACTOR, project.id.raw(), None, &edit).map(drop)?;
        }
        (Spent::Group, _, _, Some(group)) => {
            let edit = |group: &mut Group| {
                group.limits.clone_from(&limits);
                Ok(())
            };
            directory.edit(ACTOR, group.id.raw(), None, &edit).map(drop)?;
        }
        _ => {
            let edit = |key: &mut Key| {
                key.limits.clone_from(&limits);
                Ok(())
            };
            directory.edit(ACTOR, key.id.raw(), None, &edit).map(drop)?;
        }
    }
    Ok(())
}
