//! A directory and a call as plain figures: what the naive ladder reads, and what the documents are made of.
//! Things name each other by their place in a list; amounts are nano-units, moments milliseconds.

use std::fmt::{self, Debug};

use tallygate::catalogue::Code;
use tallygate::directory::{
    AccountKind, AccountRole, Environment, KeyStatus, Metric, ProjectStatus, RateMetric, Switch, Window,
};

/// A zone by its IANA name.
pub type Zone = &'static str;

#[derive(Clone, Debug, Default)]
pub struct World {
    pub organizations: Vec<Organization>,
    pub accounts: Vec<Account>,
    pub projects: Vec<Project>,
    pub members: Vec<Member>,
    pub groups: Vec<Group>,
    pub keys: Vec<Key>,
    pub models: Vec<Model>,
    pub channels: Vec<Channel>,
    pub policies: Vec<Policy>,
}

#[derive(Clone, Debug)]
pub struct Organization {
    pub parent: Option<usize>,
    pub zone: Zone,
    pub api_service: Option<Switch>,
    pub model_calls: Option<Switch>,
    pub limits: Vec<Limit>,
    pub policies: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Account {
    pub kind: AccountKind,
    pub zone: Zone,
    pub overdraft: i64,
    pub organization: Option<usize>,
    pub api_service: Option<Switch>,
    pub model_calls: Option<Switch>,
    /// With the role that each is for; `None`: for all keys.
    pub policies: Vec<(usize, Option<AccountRole>)>,
}

#[derive(Clone, Debug)]
pub struct Project {
    pub account: usize,
    pub status: ProjectStatus,
    pub arrears: i64,
    pub limits: Vec<Limit>,
    pub policies: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub account: usize,
    pub role: AccountRole,
    pub limits: Vec<Limit>,
    pub policies: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Group {
    pub multiplier_ppm: u64,
    pub models: Vec<&'static str>,
    /// Groups that stand in for it.
    pub fallback: Vec<usize>,
    pub limits: Vec<Limit>,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub account: usize,
    pub environment: Environment,
    pub status: KeyStatus,
    /// When the status ends.
    pub until: Option<i64>,
    pub expires_at: Option<i64>,
    pub schedule: Option<Schedule>,
    pub ip_ranges: Vec<&'static str>,
    pub group: Option<usize>,
    pub project: Option<usize>,
    pub member: Option<usize>,
    pub limits: Vec<Limit>,
    pub rates: Vec<Rate>,
    pub policies: Vec<usize>,
    /// Endpoints and models.
    pub allowed: Vec<(Vec<&'static str>, Vec<&'static str>)>,
}

#[derive(Clone, Debug)]
pub struct Limit {
    pub metric: Metric,
    pub window: Window,
    pub model: Option<usize>,
    /// Of videos and pictures as tasks, which none of these calls makes.
    pub is_of_tasks: bool,
    /// Nano-units, or calls.
    pub value: i64,
    pub schedule: Option<Schedule>,
}

#[derive(Clone, Debug)]
pub struct Rate {
    pub metric: RateMetric,
    pub value: u64,
    pub schedule: Option<Schedule>,
}

#[derive(Clone, Debug)]
pub struct Schedule {
    pub from: Option<i64>,
    pub until: Option<i64>,
    pub zone: Option<Zone>,
    pub weekly: Vec<Hours>,
}

/// Minutes of the day; days from 0, Monday.
#[derive(Clone, Debug)]
pub struct Hours {
    pub days: Vec<usize>,
    pub from: u16,
    pub until: u16,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub name: &'static str,
    pub is_retired: bool,
    pub endpoints: Vec<&'static str>,
    pub output_max: u32,
    pub image_max: Option<u32>,
    pub audio_max: Option<u32>,
    pub prices: Vec<Price>,
}

#[derive(Clone, Debug)]
pub struct Price {
    pub effective_at: i64,
    pub per_call: i64,
    /// By the names of the classes.
    pub per_million: Vec<(&'static str, i64)>,
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub models: Vec<usize>,
    pub groups: Vec<usize>,
    pub environments: Vec<Environment>,
    pub priority: i32,
    pub weight: u32,
    pub is_enabled: bool,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub is_deny: bool,
    pub actions: Vec<&'static str>,
    pub resources: Vec<String>,
    pub conditions: Vec<Condition>,
}

/// Operator, key and values as they are written.
#[derive(Clone, Debug)]
pub struct Condition {
    pub operator: &'static str,
    pub key: &'static str,
    pub values: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub at: i64,
    /// The random part of its id.
    pub draw: u64,
    pub is_address_wrong: bool,
    /// Why its Idempotency-Key refuses it.
    pub repeats: Option<Code>,
    pub sender: Sender,
    pub client: Option<&'static str>,
    pub body: Body,
    pub share_ppm: u64,
    pub floor: u32,
    pub least: u32,
    pub figures: Figures,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Malformed,
    Unknown,
    Key(usize),
}

#[derive(Clone, Debug)]
pub enum Body {
    Invalid,
    Chat { model: &'static str, input: u64, images: u32, audios: u32, cap: Option<u32>, choices: u32 },
}

/// The books as they are at the call.
#[derive(Clone, Debug)]
pub struct Figures {
    pub available: i64,
    pub ahead_ns: u64,
    pub tokens: u64,
    pub running: u64,
    /// Channels that rest.
    pub resting: Vec<usize>,
    /// Decides every counter.
    pub counters: u64,
    /// The most that a counter shows.
    pub top: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Key(usize),
    Member(usize),
    Project(usize),
    Group(usize),
    Organization(usize),
}

/// What one counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub holder: Holder,
    pub environment: Environment,
    pub model: Option<usize>,
    pub metric: Metric,
    pub window: Window,
}

impl Figures {
    /// Used and held. Every counter has figures of its own, so that no two can be taken for each other unseen.
    pub fn counter(&self, counted: Counted) -> (i64, i64) {
        let (kind, index) = match counted.holder {
            Holder::Key(index) => (1, index),
            Holder::Member(index) => (2, index),
            Holder::Project(index) => (3, index),
            Holder::Group(index) => (4, index),
            Holder::Organization(index) => (5, index),
        };
        let model = counted.model.map_or(0, |model| model + 1);
        let parts = [
            kind,
            index,
            model,
            counted.environment as usize,
            counted.metric as usize,
            counted.window as usize,
        ];
        let seed = parts
            .into_iter()
            .fold(self.counters, |seed, part| seed.wrapping_mul(31).wrapping_add(part as u64));
        let mut random = super::random::Random::new(seed);
        let mut figure = || if random.percent(50) { 0 } else { random.between(0, self.top) };
        match counted.metric {
            Metric::Spend => (figure(), figure()),
            Metric::Calls => (figure() / 16, figure() / 16),
        }
    }
}

/// One thing in a line.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, "organization", &self.organizations)?;
        list(f, "account", &self.accounts)?;
        list(f, "project", &self.projects)?;
        list(f, "member", &self.members)?;
        list(f, "group", &self.groups)?;
        list(f, "key", &self.keys)?;
        list(f, "model", &self.models)?;
        list(f, "channel", &self.channels)?;
        list(f, "policy", &self.policies)
    }
}

fn list<T: Debug>(f: &mut fmt::Formatter<'_>, name: &str, things: &[T]) -> fmt::Result {
    things.iter().enumerate().try_for_each(|(at, thing)| writeln!(f, "  {name} {at}: {thing:?}"))
}
