//! The purses of a call: whatever between the key and the account has limits of its own, and the counters of
//! the books in which the call is held against them.

use std::cell::RefCell;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ledger::{Calendar, CounterKey, LayerHold, Nano, WindowInstance, WindowKind};
use smallvec::SmallVec;

use crate::catalogue::LimitView;
use crate::directory::organization::DEPTH_MAX;
use crate::directory::snapshot::OrganizationEntry;
use crate::directory::{Environment, Group, Key, Limit, Member, Metric, Model, Project, Snapshot, Window};
use crate::gateway::facts::{CounterReading, LAYERS_INLINE};
use crate::id::{AccountId, GroupId, KeyId, MemberId, ModelId, OrganizationId, ProjectId};
use crate::plant::planted;

use super::case::Caller;

/// A call has no more: key, member, project, group, and the organizations above the account.
const PURSES_INLINE: usize = 4 + DEPTH_MAX;

/// From the narrowest to the widest.
pub type Purses<'a> = SmallVec<[Purse<'a>; PURSES_INLINE]>;
pub type Layers<'a> = SmallVec<[Layer<'a>; LAYERS_INLINE]>;

/// Something that has limits.
#[derive(Clone, Copy, Debug)]
pub struct Purse<'a> {
    layer: ledger::Layer,
    /// Raw id of what has the limits.
    id: u64,
    /// Its name in the books, which count test calls apart.
    subject: u64,
    pub limits: &'a [Limit],
    /// The zone in which its days and months begin.
    pub zone: &'a TimeZone,
}

/// One counter that a call is held in, and the limit that it is held against.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    pub counter: CounterKey,
    pub window: WindowInstance,
    pub limit: Option<&'a Limit>,
}

/// A limit with what is used of it.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    pub purse: &'a Purse<'a>,
    pub limit: &'a Limit,
    pub reading: &'a CounterReading,
}

/// What of a call some limits are for alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfCall<'a> {
    pub model: Option<&'a Model>,
    /// It makes an image or a video in the background.
    pub is_task: bool,
}

/// What counters of tasks have in the place of a model: no model has this id.
const TASKS: u64 = u64::MAX;

static UTC: TimeZone = TimeZone::UTC;

/// The purses of a caller's calls.
pub fn purses<'a>(snapshot: &'a Snapshot, caller: Caller<'a>) -> Purses<'a> {
    let mut purses = Purses::new();
    collect(snapshot, caller, &mut purses);
    purses
}

/// The same, where they are to be.
pub fn collect<'a>(snapshot: &'a Snapshot, caller: Caller<'a>, purses: &mut Purses<'a>) {
    let (environment, zone) = (caller.key.environment, &caller.account.zone);
    purses.push(Purse::of_key(caller.key, zone));
    purses.extend(caller.member.map(|member| Purse::of_member(member, zone, environment)));
    purses.extend(caller.project.map(|project| Purse::of_project(project, zone, environment)));
    purses.extend(caller.group.map(|group| Purse::of_group(group, environment)));
    let above = snapshot.organizations_above(caller.account.account.organization);
    purses.extend(above.map(|entry| Purse::of_organization(entry, environment)));
}

impl<'a> Purse<'a> {
    /// A key is of one environment alone, so the books need no second name for it.
    pub fn of_key(key: &'a Key, zone: &'a TimeZone) -> Self {
        let id = key.id.raw();
        Purse { layer: ledger::Layer::Key, id, subject: id, limits: &key.limits, zone }
    }

    pub fn of_member(member: &'a Member, zone: &'a TimeZone, environment: Environment) -> Self {
        Self::new(ledger::Layer::Member, member.id.raw(), &member.limits, zone, environment)
    }

    pub fn of_project(project: &'a Project, zone: &'a TimeZone, environment: Environment) -> Self {
        Self::new(ledger::Layer::Project, project.id.raw(), &project.limits, zone, environment)
    }

    /// A group is no account's own: its windows begin in UTC.
    pub fn of_group(group: &'a Group, environment: Environment) -> Self {
        Self::new(ledger::Layer::Group, group.id.raw(), &group.limits, &UTC, environment)
    }

    pub fn of_organization(entry: &'a OrganizationEntry, environment: Environment) -> Self {
        let node = &entry.organization;
        Self::new(ledger::Layer::Organization, node.id.raw(), &node.limits, &entry.zone, environment)
    }

    fn new(
        layer: ledger::Layer,
        id: u64,
        limits: &'a [Limit],
        zone: &'a TimeZone,
        environment: Environment,
    ) -> Self {
        let book = match environment {
            Environment::Live => ledger::Book::Live,
            Environment::Test => ledger::Book::Test,
        };
        Purse { layer, id, subject: ledger::AccountId(id).in_book(book).0, limits, zone }
    }
}

/// The counters that a call is held in, the narrowest first. Spend per day, month and in total is always counted,
/// and a key's calls per day, so that a limit that is set later counts what was before it; what is counted for one
/// model alone, or for tasks alone, begins with its limit.
pub fn layers<'a>(purses: &[Purse<'a>], of_call: OfCall<'_>, at_ms: i64) -> Layers<'a> {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX);
    let mut counted = Counted { at, of_call, windows: None, layers: Layers::new() };
    // The limits for one model or for tasks stand between the account's own and those of groups and organizations.
    let is_wide = |purse: &&Purse<'_>| purse.layer > ledger::Layer::Model;
    purses.iter().filter(|purse| !is_wide(purse)).for_each(|purse| counted.always(purse));
    purses.iter().for_each(|purse| counted.of_some(purse));
    purses.iter().filter(is_wide).for_each(|purse| counted.always(purse));
    counted.layers
}

thread_local! {
    /// A memory of what depends on nothing but the moment and the zone.
    static CALENDAR: RefCell<Calendar> = RefCell::default();
}

struct Counted<'a, 'm> {
    at: Timestamp,
    of_call: OfCall<'m>,
    /// Those of the zone last asked for: most purses of a call share theirs.
    windows: Option<(&'a TimeZone, [WindowInstance; WindowKind::ALL.len()])>,
    layers: Layers<'a>,
}

impl<'a> Counted<'a, '_> {
    fn always(&mut self, purse: &Purse<'a>) {
        for window in Window::ALL {
            self.add(purse, Metric::Spend, window, 0);
        }
        if purse.layer == ledger::Layer::Key {
            self.add(purse, Metric::Calls, Window::Day, 0);
        }
    }

    /// What is counted of some calls alone.
    fn of_some(&mut self, purse: &Purse<'a>) {
        for limit in purse.limits {
            let some = match (&limit.model, self.of_call.model) {
                (Some(name), Some(model)) if *name == model.name => model.id.raw(),
                (None, _) if limit.tasks && self.of_call.is_task => TASKS,
                _ => continue,
            };
            let counter = purse.counter(limit.metric, limit.window, some);
            if self.layers.iter().all(|layer| layer.counter != counter) {
                self.add(purse, limit.metric, limit.window, some);
            }
        }
    }

    fn add(&mut self, purse: &Purse<'a>, metric: Metric, window: Window, some: u64) {
        let counter = purse.counter(metric, window, some);
        let limit = purse.limit(&counter, self.of_call.model, self.at);
        let window = self.window(window, purse.zone);
        self.layers.push(Layer { counter, window, limit });
    }

    fn window(&mut self, window: Window, zone: &'a TimeZone) -> WindowInstance {
        let instances = match self.windows {
            Some((known, instances)) if std::ptr::eq(known, zone) => instances,
            _ => {
                let at = ledger::Timestamp(self.at.as_millisecond());
                let instances = CALENDAR.with_borrow_mut(|calendar| calendar.instances(at, zone));
                self.windows = Some((zone, instances));
                instances
            }
        };
        let [day, month, total] = instances;
        match window {
            Window::Day => day,
            Window::Month => month,
            Window::Total => total,
        }
    }
}

impl<'a> Purse<'a> {
    /// The counter of the books for this limit; `None`: its model is gone.
    pub fn counter_of(&self, limit: &Limit, snapshot: &Snapshot) -> Option<CounterKey> {
        let some = match &limit.model {
            Some(name) => snapshot.model(name)?.model.id.raw(),
            None if limit.tasks => TASKS,
            None => 0,
        };
        Some(self.counter(limit.metric, limit.window, some))
    }

    /// The same for a kind of limits; `model` is 0 for all calls together.
    pub fn counter(&self, metric: Metric, window: Window, model: u64) -> CounterKey {
        CounterKey {
            layer: self.layer,
            subject: self.subject,
            model,
            metric: metric.counted(),
            window: window.kind(),
        }
    }

    pub fn is_counted_in(&self, counter: &CounterKey) -> bool {
        (counter.layer, counter.subject) == (self.layer, self.subject)
    }

    /// The tightest limit on a counter of this purse that is in force.
    pub fn limit(&self, counter: &CounterKey, model: Option<&Model>, at: Timestamp) -> Option<&'a Limit> {
        let model = model.filter(|model| model.id.raw() == counter.model).map(|model| &*model.name);
        let is_of_tasks = counter.model == TASKS;
        if counter.model != 0 && model.is_none() && !is_of_tasks {
            return None;
        }
        let limits = self.limits.iter().filter(|limit| {
            limit.metric.counted() == counter.metric
                && limit.window.kind() == counter.window
                && limit.model.as_deref() == model
                && limit.tasks == is_of_tasks
                && limit.is_in_force(at, self.zone)
                && !(planted!(ZeroUnlimited) && limit.value == Nano::ZERO)
        });
        limits.min_by_key(|limit| limit.value)
    }

    /// `key`, `member`, `project`, `group` or `organization`.
    pub fn scope(&self) -> &'static str {
        match self.layer {
            ledger::Layer::Key => "key",
            ledger::Layer::Member => "member",
            ledger::Layer::Project => "project",
            ledger::Layer::Model => "model",
            ledger::Layer::Group => "group",
            ledger::Layer::Organization => "organization",
            ledger::Layer::Account => "account",
        }
    }

    /// The public id of what has the limits.
    pub fn public_id(&self) -> String {
        match self.layer {
            ledger::Layer::Key => KeyId::from_raw(self.id).to_string(),
            ledger::Layer::Member => MemberId::from_raw(self.id).to_string(),
            ledger::Layer::Project => ProjectId::from_raw(self.id).to_string(),
            ledger::Layer::Model => ModelId::from_raw(self.id).to_string(),
            ledger::Layer::Group => GroupId::from_raw(self.id).to_string(),
            ledger::Layer::Organization => OrganizationId::from_raw(self.id).to_string(),
            ledger::Layer::Account => AccountId::from_raw(self.id).to_string(),
        }
    }
}

impl Layer<'_> {
    /// The layer as a hold of this amount counts in it.
    pub fn held(&self, amount: Nano) -> LayerHold {
        let amount = match self.counter.metric {
            ledger::Metric::Spend => amount.0,
            ledger::Metric::Calls => 1,
        };
        let limit = self.limit.map(Limit::ceiling);
        LayerHold { counter: self.counter, window: self.window, limit, amount }
    }
}

impl Measured<'_> {
    /// What the counter may still take; negative if the limit was lowered below what was used.
    pub fn left(&self) -> i64 {
        let held = if planted!(HeldIgnored) { 0 } else { self.reading.held };
        self.limit.ceiling().saturating_sub(self.reading.used).saturating_sub(held)
    }

    /// With the numbers as decimals; `needed` of the same metric. A limit for one model names the model,
    /// and the scope of one for tasks says so.
    pub fn view(&self, needed: Option<Nano>) -> LimitView {
        let (limit, reading) = (self.limit, self.reading);
        let (scope, id) = match &limit.model {
            Some(model) => ("model", model.to_string()),
            None if limit.tasks => ("task", self.purse.public_id()),
            None => (self.purse.scope(), self.purse.public_id()),
        };
        LimitView {
            scope: scope.into(),
            id: Some(id),
            window: Some(limit.window.as_str().into()),
            limit: Some(limit.value),
            used: Some(limit.metric.value(reading.used)),
            held: Some(limit.metric.value(reading.held)),
            needed,
            resets_at_ms: (limit.window != Window::Total).then_some(reading.window.end.0),
            origin: Some(limit.origin.as_str().into()),
            ..LimitView::default()
        }
    }
}
