//! What the demo's directory and books hold at the beginning. All of it goes the ordinary way: commands of
//! the directory, entries of the ledger, and real calls where something must have been used.

use std::collections::BTreeMap;
use std::fmt;

use ledger::{Command, CreditSource, LotKind, Nano, Reference};

use crate::app::App;
use crate::books::BooksError;
use crate::directory::documents::Window;
use crate::directory::{
    Allowance, CapField, Channel, DirectoryError, Environment, Group, Key, KeyOrder, KeyStatus, Limit,
    Metric, Model, Origin, Price, Schedule, StatusNote, StatusOrigin, StatusReason,
};
use crate::id::{AccountId, GroupId, LotId};
use crate::keytext;
use crate::secret::Secret;

use super::keys::{DemoAccount, DemoKey, KEYS, Seed};
use super::prices::CHAT_MODELS;

const ACTOR: &str = "demo";
const CHANNEL: &str = "simulated upstream";
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
    channel(app, upstream_url, upstream_key)?;
    for key in &KEYS {
        if app.directory.find_key(seed.key(key).expose().as_bytes()).is_none() {
            self::key(app, seed, key)?;
        }
    }
    Ok(())
}

fn models(app: &App) -> Result<(), DirectoryError> {
    for demo in &CHAT_MODELS {
        if app.directory.snapshot().model(demo.name).is_some() {
            continue;
        }
        let model = app.directory.create_model(ACTOR, &|model: &mut Model| {
            model.name = demo.name.into();
            model.output_tokens_max = demo.max_output_tokens;
            model.image_tokens_max = Some(IMAGE_TOKENS_MAX);
            Ok(())
        })?;
        if demo.priced {
            app.directory.add_price(ACTOR, model.document.id, &|price: &mut Price| {
                price.per_million = demo.price.per_million;
                price.per_call = demo.price.per_call;
                Ok(())
            })?;
        }
    }
    Ok(())
}

const IMAGE_TOKENS_MAX: u32 = 2_000;

/// The one channel; its address follows the upstream when that had to be started anew.
fn channel(app: &App, upstream_url: &str, upstream_key: &Secret) -> Result<(), DirectoryError> {
    let known = app.directory.snapshot().channels().find(|channel| &*channel.name == CHANNEL).cloned();
    if let Some(known) = known {
        return app
            .directory
            .edit_channel(ACTOR, known.id, None, None, &|channel: &mut Channel| {
                channel.base_url = upstream_url.into();
                Ok(())
            })
            .map(drop);
    }
    let served = CHAT_MODELS.iter().filter(|model| model.name != WITHOUT_CHANNEL);
    let served: BTreeMap<Box<str>, Box<str>> =
        served.map(|model| (model.name.into(), model.name.into())).collect();
    app.directory.create_channel(ACTOR, upstream_key, &|channel: &mut Channel| {
        channel.name = CHANNEL.into();
        channel.base_url = upstream_url.into();
        channel.models = served.clone();
        channel.environments = vec![Environment::Live, Environment::Test];
        channel.output_cap_field = CapField::MaxCompletionTokens;
        Ok(())
    })?;
    Ok(())
}

fn key(app: &App, seed: &Seed, key: &DemoKey) -> Result<(), SeedError> {
    let account = account(app, key.account)?;
    let environment = match key.environment {
        keytext::Environment::Live => Environment::Live,
        keytext::Environment::Test => Environment::Test,
    };
    let order = KeyOrder { account, environment };
    let now = jiff::Timestamp::from_millisecond(app.clock.now_ms()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let group = (key.name == "group_without_model").then(|| deepseek_group(app)).transpose()?;
    app.directory.create_key(ACTOR, order, Some(seed.key(key)), &|made: &mut Key| {
        made.name = key.name.into();
        made.group = group;
        if key.name == "model_not_allowed" {
            made.allowed = vec![Allowance { endpoints: Vec::new(), models: vec![DEEPSEEK.into()] }];
        }
        state(made, key.name, now);
        Ok(())
    })?;
    Ok(())
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
        key.status_note = Some(Box::new(StatusNote { origin, reason, since: now, until: None, text: None }));
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

/// A group that does not contain the demo's first model.
fn deepseek_group(app: &App) -> Result<GroupId, DirectoryError> {
    if let Some(known) = app.directory.find_by_name::<Group>("group", DEEPSEEK_GROUP)? {
        return Ok(known.document.id);
    }
    let made = app.directory.create_group(ACTOR, &|group: &mut Group| {
        group.name = DEEPSEEK_GROUP.into();
        group.models = vec![DEEPSEEK.into()];
        Ok(())
    })?;
    Ok(made.document.id)
}

fn account(app: &App, which: DemoAccount) -> Result<AccountId, SeedError> {
    let (name, credit) = match which {
        DemoAccount::Funded => ("Demo", Some(PLENTY)),
        DemoAccount::Empty => ("Demo, nothing topped up", None),
        DemoAccount::Low => ("Demo, almost spent", Some(LITTLE)),
    };
    let known =
        app.directory.snapshot().accounts().find(|account| &*account.name == name).map(|known| known.id);
    let id = match known {
        Some(id) => id,
        None => {
            let made = app.directory.create_account(ACTOR, &|account| {
                account.name = name.into();
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

/// Limits the two keys that are to be spent to exactly what a real call has used of them.
pub fn limit_to_used(app: &App, text: &Secret, window: Window) -> Result<(), SeedError> {
    let Some(key) = app.directory.find_key(text.expose().as_bytes()) else { return Ok(()) };
    if !key.limits.is_empty() {
        return Ok(());
    }
    let snapshot = app.directory.snapshot_owned();
    let Some(account) = snapshot.account(key.account) else { return Ok(()) };
    let caller = crate::gateway::ladder::Caller { key: &key, account };
    let layers = crate::gateway::ladder::layers(caller, app.books.now().0);
    let kind = crate::gateway::ladder::window_kind(window);
    let used = layers
        .iter()
        .find(|layer| layer.counter.window == kind)
        .map(|layer| app.books.counter(&layer.counter, layer.window.start).used);
    let limit =
        Limit { metric: Metric::Spend, window, value: Nano(used.unwrap_or(0)), origin: Origin::Owner };
    app.directory.edit(ACTOR, key.id.raw(), None, &|key: &mut Key| {
        key.limits = vec![limit];
        Ok(())
    })?;
    Ok(())
}
