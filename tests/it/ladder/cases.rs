//! Random directories and calls from a seed. Values are few and small, so that every rung refuses often, bounds are
//! met exactly, and things that must not be mixed up are there to be mixed up.

use tallygate::catalogue::Code;
use tallygate::directory::{
    AccountKind, AccountRole, Environment, KeyStatus, Metric, ProjectStatus, RateMetric, Switch, Window,
};

use super::random::Random;
use super::world::{
    Account, Body, Call, Channel, Condition, Figures, Group, Hours, Key, Limit, Member, Model,
};
use super::world::{Organization, Policy, Price, Project, Rate, Schedule, Sender, Statement, World, Zone};

/// Calls of one directory.
pub const CALLS: usize = 16;

/// 2026-11-27T00:00:00Z, a Friday.
const DAY: i64 = 1_795_737_600_000;
const MINUTE: i64 = 60_000;
const ZONES: [Zone; 3] = ["UTC", "Asia/Shanghai", "America/New_York"];
const NAMES: [&str; 4] = ["gpt-a", "gpt-b", "sonnet", "flash"];
const ROLES: [AccountRole; 3] = [AccountRole::Owner, AccountRole::Developer, AccountRole::Viewer];
const RANGES: [&str; 5] = ["10.0.0.0/8", "10.1.0.0/16", "192.168.1.7/32", "2001:db8::/32", "0.0.0.0/0"];
const CLIENTS: [&str; 5] = ["10.1.2.3", "10.200.0.1", "192.168.1.7", "::ffff:10.1.2.3", "2001:db8::1"];

struct Cases(Random);

/// A directory with its calls.
pub fn world(seed: u64) -> (World, Vec<Call>) {
    let mut cases = Cases(Random::new(seed));
    let world = cases.directory();
    let calls = (0..CALLS).map(|_| cases.call(&world)).collect();
    (world, calls)
}

impl Cases {
    fn chance(&mut self, percent: usize) -> bool {
        self.0.percent(percent)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        *self.0.pick(of).unwrap()
    }

    fn index(&mut self, count: usize) -> usize {
        self.0.below(count)
    }

    fn maybe<T>(&mut self, percent: usize, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance(percent).then(|| make(self))
    }

    /// Up to `most`, more often few than many.
    fn some<T>(&mut self, percent: usize, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut made = Vec::new();
        while made.len() < most && self.chance(percent) {
            made.push(make(self));
        }
        made
    }

    /// Moments of calls and of everything that begins or ends: they meet often.
    fn moment(&mut self) -> i64 {
        DAY + self.0.between(0, 10) * 8 * 60 * MINUTE
    }

    fn directory(&mut self) -> World {
        let mut world = World { policies: self.some(60, 4, Self::policy), ..World::default() };
        world.models = NAMES.into_iter().map(|name| self.model(name)).collect();
        world.groups = (0..3).map(|own| self.group(own)).collect();
        world.organizations = self.organizations(&world);
        world.accounts = (0..2).map(|_| self.account(&world)).collect();
        world.projects = (0..4).map(|index| self.project(&world, index % 2)).collect();
        world.members = (0..4).map(|index| self.member(&world, index % 2)).collect();
        world.channels = (0..4).map(|_| self.channel()).collect();
        world.keys = (0..6).map(|index| self.key(&world, index % 2)).collect();
        world
    }

    fn attached(&mut self, world: &World) -> Vec<usize> {
        let percent = if world.policies.is_empty() { 0 } else { 8 };
        self.some(percent, 1, |cases| cases.index(world.policies.len()))
    }

    fn switch(&mut self) -> Option<Switch> {
        let tight = self.chance(5);
        let switch = if tight { self.one(&[Switch::ViewOnly, Switch::Suspended]) } else { Switch::On };
        (tight || self.chance(30)).then_some(switch)
    }

    /// Two roots, and what stands below them, up to three deep.
    fn organizations(&mut self, world: &World) -> Vec<Organization> {
        let parents = [None, Some(0), Some(1), None, Some(3)];
        let node = |parent| Organization {
            parent,
            zone: self.one(&ZONES),
            api_service: self.switch(),
            model_calls: self.switch(),
            limits: self.limits(18, false),
            policies: self.attached(world),
        };
        parents.map(node).into()
    }

    fn account(&mut self, world: &World) -> Account {
        let kinds =
            [AccountKind::Personal, AccountKind::Enterprise, AccountKind::Enterprise, AccountKind::Education];
        let roles = self.one(&[None, Some(AccountRole::Owner), Some(AccountRole::Developer)]);
        let kind = self.one(&kinds);
        let is_let_in = kind == AccountKind::Education && self.chance(60);
        Account {
            kind,
            zone: self.one(&ZONES),
            overdraft: self.one(&[0, 0, 0, 10, 100]),
            organization: self.maybe(80, |cases| cases.index(world.organizations.len())),
            api_service: self.switch(),
            model_calls: if is_let_in { Some(Switch::On) } else { self.switch() },
            policies: self.attached(world).into_iter().map(|policy| (policy, roles)).collect(),
        }
    }

    fn project(&mut self, world: &World, account: usize) -> Project {
        let is_stopped = self.chance(8);
        Project {
            account,
            status: match is_stopped {
                true => self.one(&[ProjectStatus::Paused, ProjectStatus::Archived]),
                false => ProjectStatus::Running,
            },
            arrears: if self.chance(6) { self.one(&[1, 100]) } else { 0 },
            limits: self.limits(30, false),
            policies: self.attached(world),
        }
    }

    fn member(&mut self, world: &World, account: usize) -> Member {
        Member {
            account,
            role: self.one(&ROLES),
            limits: self.limits(30, false),
            policies: self.attached(world),
        }
    }

    fn group(&mut self, own: usize) -> Group {
        let lists: [&[&str]; 5] = [&[], &[], &["gpt-*"], &["gpt-a", "sonnet"], &["*"]];
        Group {
            multiplier_ppm: self.one(&[1_000_000, 1_000_000, 500_000, 1_333_333, 3_000_000, 0]),
            models: self.one(&lists).to_vec(),
            fallback: (0..3).filter(|other| *other != own && self.chance(25)).collect(),
            limits: self.limits(25, false),
        }
    }

    fn key(&mut self, world: &World, account: usize) -> Key {
        let statuses =
            [KeyStatus::Disabled, KeyStatus::PendingReview, KeyStatus::RiskFrozen, KeyStatus::Revoked];
        let status = if self.chance(9) { self.one(&statuses) } else { KeyStatus::Enabled };
        // The projects and members of the account have its parity.
        let own = [account, account + 2];
        let endpoints: [&[&str]; 4] = [&[], &[], &["chat/completions", "embeddings"], &["embeddings"]];
        let models: [&[&str]; 4] = [&[], &["gpt-*"], &["sonnet", "flash"], &["*"]];
        Key {
            account,
            environment: if self.chance(25) { Environment::Test } else { Environment::Live },
            status,
            until: self.maybe(20, Self::moment),
            expires_at: self.maybe(7, Self::moment),
            schedule: self.maybe(7, Self::schedule),
            ip_ranges: self.some(9, 2, |cases| cases.one(&RANGES)),
            group: self.maybe(85, |cases| cases.index(world.groups.len())),
            project: self.maybe(75, |cases| cases.one(&own)),
            member: self.maybe(75, |cases| cases.one(&own)),
            limits: self.limits(35, true),
            rates: self.some(35, 4, Self::rate),
            policies: self.attached(world),
            allowed: self.some(20, 2, |cases| (cases.one(&endpoints).to_vec(), cases.one(&models).to_vec())),
        }
    }

    fn limits(&mut self, percent: usize, may_count: bool) -> Vec<Limit> {
        self.some(percent, 4, |cases| cases.limit(may_count))
    }

    fn limit(&mut self, may_count: bool) -> Limit {
        let is_count = may_count && self.chance(30);
        let is_of_tasks = self.chance(10);
        let model = self.maybe(35, |cases| cases.index(NAMES.len()));
        Limit {
            metric: if is_count { Metric::Calls } else { Metric::Spend },
            window: if is_count { Window::Day } else { self.one(&Window::ALL) },
            model: model.filter(|_| !is_of_tasks),
            is_of_tasks,
            value: match is_count {
                true => self.one(&[0, 1, 2, 5, 10]),
                false => self.one(&[0, 1, 20, 50, 100, 200, 200, 500, 1_000]),
            },
            schedule: self.maybe(15, Self::schedule),
        }
    }

    fn rate(&mut self) -> Rate {
        let metric =
            self.one(&[RateMetric::RequestsPerSecond, RateMetric::TokensPerMinute, RateMetric::Concurrency]);
        Rate {
            metric,
            value: match metric {
                RateMetric::RequestsPerSecond => self.one(&[1, 2, 3, 10]),
                RateMetric::TokensPerMinute => self.one(&[10, 50, 100, 300]),
                RateMetric::Concurrency => self.one(&[1, 2, 5]),
            },
            schedule: self.maybe(15, Self::schedule),
        }
    }

    fn schedule(&mut self) -> Schedule {
        let from = self.maybe(25, Self::moment);
        let until = self.maybe(25, Self::moment);
        Schedule {
            from,
            until: until.filter(|until| from.is_none_or(|from| from < *until)),
            zone: self.maybe(30, |cases| cases.one(&ZONES)),
            weekly: self.some(60, 2, Self::hours),
        }
    }

    fn hours(&mut self) -> Hours {
        let first = self.index(7);
        let days = (0..1 + self.index(4)).map(|day| (first + day) % 7).collect();
        let from = self.one(&[0, 8, 9, 16, 19, 22]) * 60;
        let until = self.one(&[3, 8, 11, 16, 18, 24]) * 60;
        Hours { days, from, until: if from == until { until + 30 } else { until } }
    }

    fn model(&mut self, name: &'static str) -> Model {
        let endpoints: [&[&str]; 4] = [&[], &["chat/completions"], &["embeddings", "chat/completions"], &[]];
        let is_elsewhere = self.chance(6);
        Model {
            name,
            is_retired: self.chance(6),
            endpoints: if is_elsewhere { vec!["embeddings"] } else { self.one(&endpoints).to_vec() },
            output_max: self.one(&[4, 16, 40]),
            image_max: self.maybe(70, |cases| cases.one(&[0, 5, 30])),
            audio_max: self.maybe(70, |cases| cases.one(&[0, 5, 30])),
            prices: self.prices(),
        }
    }

    fn prices(&mut self) -> Vec<Price> {
        const CLASSES: [&str; 6] =
            ["cache_read", "cache_write", "reasoning", "audio_in", "audio_out", "image_in"];
        let count = if self.chance(5) { 0 } else { 1 + self.index(2) };
        let mut prices: Vec<Price> = Vec::new();
        for version in 0..count {
            // What costs this much cannot be held.
            let top = if self.0.per_mille(30) { i64::MAX } else { 4_000_000 };
            let amount = |cases: &mut Self| cases.one(&[0, 1, 500_000, 1_000_000, 2_000_000, 2_000_000, top]);
            let mut per_million = Vec::new();
            for class in ["input", "output"] {
                if self.chance(85) {
                    per_million.push((class, amount(self)));
                }
            }
            for class in CLASSES {
                if self.chance(12) {
                    per_million.push((class, amount(self)));
                }
            }
            // In force from long ago, or from a moment at which there may be calls.
            let is_old = version == 0 && self.chance(90);
            let effective_at = if is_old { 0 } else { self.moment() };
            if prices.iter().all(|price| price.effective_at != effective_at) {
                prices.push(Price { effective_at, per_call: self.one(&[0, 0, 0, 3, 20]), per_million });
            }
        }
        prices
    }

    fn channel(&mut self) -> Channel {
        let both = vec![Environment::Live, Environment::Test];
        let one = self.one(&[Environment::Live, Environment::Live, Environment::Test]);
        Channel {
            models: (0..NAMES.len()).filter(|_| self.chance(60)).collect(),
            groups: (0..3).filter(|_| self.chance(20)).collect(),
            environments: if self.chance(60) { both } else { vec![one] },
            priority: self.one(&[-1, 0, 0, 5]),
            weight: self.one(&[1, 1, 3, 0]),
            is_enabled: self.chance(85),
        }
    }

    fn policy(&mut self) -> Policy {
        let mut statements = vec![self.statement()];
        // Most policies let most calls pass, else there were nothing behind the rung.
        if self.chance(75) {
            statements.insert(
                0,
                Statement {
                    is_deny: false,
                    actions: vec!["*"],
                    resources: vec!["*".to_owned()],
                    conditions: Vec::new(),
                },
            );
        }
        statements.extend(self.some(30, 2, Self::statement));
        Policy { statements }
    }

    fn statement(&mut self) -> Statement {
        let actions: [&[&str]; 6] = [
            &["*"],
            &["tallygate:call", "models:inference"],
            &["tallygate:*"],
            &["models:*"],
            &["models:embed"],
            &["tallygate:call"],
        ];
        Statement {
            is_deny: self.chance(45),
            actions: self.one(&actions).to_vec(),
            resources: (0..1 + self.index(2)).map(|_| self.resource()).collect(),
            conditions: self.conditions(),
        }
    }

    fn resource(&mut self) -> String {
        let known = [
            "*",
            "arn:tallygate:*",
            "arn:tallygate:api:*",
            "arn:tallygate:api:*/chat/*",
            "arn:tallygate:api:-/chat/completions",
            "arn:tallygate:api:*/embeddings",
            "arn:tallygate:model:*",
            "arn:tallygate:model:gpt-?",
            "arn:tallygate:model:gpt-*",
            "arn:tallygate:model:sonnet",
        ];
        match self.index(known.len() + 2) {
            index if index < known.len() => known[index].to_owned(),
            _ => format!("arn:tallygate:api:{}/chat/completions", super::build::project_id(self.index(4))),
        }
    }

    /// An operator once at the most, as in an object.
    fn conditions(&mut self) -> Vec<Condition> {
        let mut conditions: Vec<Condition> = Vec::new();
        for condition in self.some(40, 2, Self::condition) {
            if conditions.iter().all(|known| known.operator != condition.operator) {
                conditions.push(condition);
            }
        }
        conditions
    }

    fn condition(&mut self) -> Condition {
        let range = |cases: &mut Self| cases.one(&RANGES).to_owned();
        let text = |cases: &mut Self, likes: bool| {
            let (key, values): (&str, &[&str]) = match cases.index(3) {
                0 => ("key:Environment", &["live", "test"]),
                1 if likes => ("request:Model", &["gpt-*", "*t", "s?nnet"]),
                1 => ("request:Model", &["gpt-a", "sonnet", "absent"]),
                _ if likes => ("request:Endpoint", &["chat/*", "*embeddings"]),
                _ => ("request:Endpoint", &["chat/completions", "embeddings"]),
            };
            (key, vec![cases.one(values).to_owned()])
        };
        let (operator, (key, values)) = match self.index(9) {
            0 => ("DateGreaterThan", ("request:Time", vec![self.moment_text()])),
            1 => ("DateLessThan", ("request:Time", vec![self.moment_text()])),
            2 => {
                let hours = ["08:00-16:00", "22:00-08:00", "00:00-24:00", "16:00-16:30"];
                (
                    "TimeOfDay",
                    ("request:Time", (0..1 + self.index(2)).map(|_| self.one(&hours).to_owned()).collect()),
                )
            }
            3 => ("IpAddress", ("client:Address", vec![range(self), range(self)])),
            4 => ("NotIpAddress", ("client:Address", vec![range(self)])),
            5 => ("StringEquals", text(self, false)),
            6 => ("StringNotEquals", text(self, false)),
            7 => ("StringLike", text(self, true)),
            _ => ("StringNotLike", text(self, true)),
        };
        Condition { operator, key, values }
    }

    fn moment_text(&mut self) -> String {
        jiff::Timestamp::from_millisecond(self.moment()).unwrap().to_string()
    }

    fn call(&mut self, world: &World) -> Call {
        let off = self.one(&[0, 0, -1, 1, 90 * MINUTE]);
        let sender = match self.index(40) {
            0 => Sender::Malformed,
            1 => Sender::Unknown,
            _ => Sender::Key(self.index(world.keys.len())),
        };
        Call {
            at: self.moment() + off,
            draw: self.one(&[1, 7, 1 << 20, 0x9e37_79b9_7f4a_7c15, u64::MAX]),
            is_address_wrong: self.chance(2),
            repeats: self.maybe(4, |cases| {
                cases.one(&[
                    Code::IdempotencyKeyReused,
                    Code::IdempotencyInProgress,
                    Code::DuplicateSubmission,
                ])
            }),
            sender,
            client: self.maybe(90, |cases| cases.one(&CLIENTS)),
            body: self.body(),
            share_ppm: self.one(&[250_000, 500_000, 333_333, 1_000_000]),
            floor: self.one(&[0, 8, 20]),
            least: self.one(&[0, 1, 4]),
            figures: Figures {
                available: self.one(&[-5, 0, 1, 30, 60, 150, 300, 1_000, 100_000]),
                ahead_ns: self.one(&[
                    0,
                    0,
                    1,
                    100_000_000,
                    333_333_333,
                    500_000_000,
                    900_000_000,
                    900_000_001,
                ]),
                tokens: self.one(&[0, 0, 10, 50, 80]),
                running: self.one(&[0, 0, 1, 2, 4]),
                resting: (0..4).filter(|_| self.chance(12)).collect(),
                counters: self.0.next(),
                top: self.one(&[0, 10, 40, 120]),
            },
        }
    }

    fn body(&mut self) -> Body {
        if self.chance(3) {
            return Body::Invalid;
        }
        let parts = [0, 0, 0, 0, 0, 0, 1, 2];
        let cap = self.one(&[None, None, Some(0), Some(5), Some(16), Some(40)]);
        Body::Chat {
            model: if self.chance(4) { "absent" } else { self.one(&NAMES) },
            input: self.one(&[0, 1, 5, 10, 20]),
            images: self.one(&parts),
            audios: self.one(&parts),
            cap: if self.chance(2) { Some(u32::MAX) } else { cap },
            choices: self.one(&[1, 1, 1, 2]),
        }
    }
}
