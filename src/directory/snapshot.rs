//! The directory in memory, immutable. A change makes a new snapshot that shares all but what it touched:
//! one shard of 1,024 for an account, a key, a project, a member, a policy or a notice endpoint, the root for models,
//! prices, channels, groups and organizations.

use std::sync::Arc;

use hashbrown::HashMap;
use jiff::tz::TimeZone;

use crate::id::{
    AccountId, AnnouncementId, AppealId, ChannelId, GroupId, KeyId, MemberId, ModelId, NoticeEndpointId,
    OperatorId, OrganizationId, PolicyId, ProjectId,
};

use super::announcement::Announcement;
use super::appeal::Appeal;
use super::documents::{Account, Channel, ChannelStatus, Environment, Group, Key, KeyHash, Model, Price};
use super::member::Member;
use super::notice_endpoint::NoticeEndpoint;
use super::operator::{Operator, Token, TokenHolder};
use super::organization::{DEPTH_MAX, Organization};
use super::policy::Policy;
use super::project::Project;
use super::shards::{ById, ByText, Identified, Shards, Worded};

/// An account with what is worked out once per change rather than once per call.
#[derive(Clone, Debug)]
pub struct AccountEntry {
    pub account: Arc<Account>,
    pub zone: TimeZone,
}

/// An organization with the zone of its budgets.
#[derive(Clone, Debug)]
pub struct OrganizationEntry {
    pub organization: Arc<Organization>,
    pub zone: TimeZone,
}

/// A model, its prices from the newest to the oldest, and the channels that serve it, best first.
#[derive(Clone, Debug)]
pub struct ModelEntry {
    pub model: Arc<Model>,
    pub prices: Vec<Arc<Price>>,
    pub channels: Vec<Arc<Channel>>,
}

impl ModelEntry {
    /// The price in force at `at_ms`; `None` if none is yet.
    pub fn price_at(&self, at_ms: i64) -> Option<&Arc<Price>> {
        self.prices.iter().find(|price| price.effective_at.as_millisecond() <= at_ms)
    }

    /// Whether any channel serves the model in this environment, whatever its groups.
    pub fn is_served(&self, environment: Environment) -> bool {
        self.channels.iter().any(|channel| channel.environments.contains(&environment))
    }

    /// The channels that a key of this environment and group may use, best first.
    pub fn channels_for(
        &self,
        environment: Environment,
        group: Option<GroupId>,
    ) -> impl Iterator<Item = &Arc<Channel>> {
        self.channels
            .iter()
            .filter(move |channel| channel.environments.contains(&environment) && channel.is_open_to(group))
    }
}

/// One document of the directory.
#[derive(Clone, Debug)]
pub enum Object {
    Account(Arc<Account>),
    Key(Arc<Key>),
    Model(Arc<Model>),
    Price(Arc<Price>),
    Channel(Arc<Channel>),
    Group(Arc<Group>),
    Organization(Arc<Organization>),
    Project(Arc<Project>),
    Member(Arc<Member>),
    Policy(Arc<Policy>),
    Operator(Arc<Operator>),
    Appeal(Arc<Appeal>),
    NoticeEndpoint(Arc<NoticeEndpoint>),
    Announcement(Arc<Announcement>),
    /// A version that changed no object.
    Nothing,
}

/// A document as it is from `version` on.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub object: Object,
}

#[derive(Clone, Debug, Default)]
struct Root {
    models: HashMap<Box<str>, ModelEntry>,
    names: HashMap<ModelId, Box<str>>,
    channels: HashMap<ChannelId, Arc<Channel>>,
    groups: HashMap<GroupId, Arc<Group>>,
    organizations: HashMap<OrganizationId, OrganizationEntry>,
    operators: HashMap<OperatorId, Arc<Operator>>,
    tokens: HashMap<KeyHash, TokenHolder>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    version: u64,
    root: Arc<Root>,
    accounts: Shards<ById<AccountEntry>>,
    keys: Shards<ById<Arc<Key>>>,
    texts: Shards<ByText<Arc<Key>>>,
    /// By the texts before the last rotations, whether they still work or not.
    replaced: Shards<ByText<Replaced>>,
    projects: Shards<ById<Arc<Project>>>,
    members: Shards<ById<Arc<Member>>>,
    policies: Shards<ById<Arc<Policy>>>,
    appeals: Shards<ById<Arc<Appeal>>>,
    notice_endpoints: Shards<ById<Arc<NoticeEndpoint>>>,
    announcements: Shards<ById<Arc<Announcement>>>,
}

/// A key under a text that it had.
#[derive(Clone, Debug)]
struct Replaced {
    text: KeyHash,
    key: Arc<Key>,
}

macro_rules! found_by_id {
    ($($value:ty => $id:ty, $get:expr;)*) => { $(
        impl Identified for $value {
            type Id = $id;

            fn id(&self) -> &$id {
                let get: fn(&$value) -> &$id = $get;
                get(self)
            }
        }
    )* };
}
found_by_id! {
    AccountEntry => AccountId, |entry| &entry.account.id;
    Arc<Key> => KeyId, |key| &key.id;
    Arc<Project> => ProjectId, |project| &project.id;
    Arc<Member> => MemberId, |member| &member.id;
    Arc<Policy> => PolicyId, |policy| &policy.id;
    Arc<NoticeEndpoint> => NoticeEndpointId, |endpoint| &endpoint.id;
    Arc<Appeal> => AppealId, |appeal| &appeal.id;
    Arc<Announcement> => AnnouncementId, |announcement| &announcement.id;
}

impl Worded for Arc<Key> {
    fn text(&self) -> &KeyHash {
        &self.hash
    }
}

impl Worded for Replaced {
    fn text(&self) -> &KeyHash {
        &self.text
    }
}

impl Snapshot {
    /// The configuration version that this snapshot shows.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn account(&self, id: AccountId) -> Option<&AccountEntry> {
        self.accounts.get(&id)
    }

    pub fn key(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.get(&id)
    }

    /// The key that has this text, or had it before one of its last rotations.
    pub fn key_by_hash(&self, hash: &KeyHash) -> Option<&Arc<Key>> {
        self.texts.get(hash).or_else(|| Some(&self.replaced.get(hash)?.key))
    }

    pub fn model(&self, name: &str) -> Option<&ModelEntry> {
        self.root.models.get(name)
    }

    pub fn model_by_id(&self, id: ModelId) -> Option<&ModelEntry> {
        self.model(self.root.names.get(&id)?)
    }

    pub fn models(&self) -> impl Iterator<Item = &ModelEntry> {
        self.root.models.values()
    }

    pub fn channel(&self, id: ChannelId) -> Option<&Arc<Channel>> {
        self.root.channels.get(&id)
    }

    pub fn channels(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.root.channels.values()
    }

    pub fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.root.groups.get(&id)
    }

    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.root.groups.values()
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values().map(|entry| &entry.account)
    }

    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.values()
    }

    pub fn project(&self, id: ProjectId) -> Option<&Arc<Project>> {
        self.projects.get(&id)
    }

    pub fn projects(&self) -> impl Iterator<Item = &Arc<Project>> {
        self.projects.values()
    }

    pub fn member(&self, id: MemberId) -> Option<&Arc<Member>> {
        self.members.get(&id)
    }

    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    pub fn policy(&self, id: PolicyId) -> Option<&Arc<Policy>> {
        self.policies.get(&id)
    }

    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    pub fn appeal(&self, id: AppealId) -> Option<&Arc<Appeal>> {
        self.appeals.get(&id)
    }

    pub fn appeals(&self) -> impl Iterator<Item = &Arc<Appeal>> {
        self.appeals.values()
    }

    pub fn announcement(&self, id: AnnouncementId) -> Option<&Arc<Announcement>> {
        self.announcements.get(&id)
    }

    pub fn announcements(&self) -> impl Iterator<Item = &Arc<Announcement>> {
        self.announcements.values()
    }

    pub fn operator(&self, id: OperatorId) -> Option<&Arc<Operator>> {
        self.root.operators.get(&id)
    }

    pub fn token_holder(&self, hash: &KeyHash) -> Option<TokenHolder> {
        self.root.tokens.get(hash).copied()
    }

    pub fn notice_endpoint(&self, id: NoticeEndpointId) -> Option<&Arc<NoticeEndpoint>> {
        self.notice_endpoints.get(&id)
    }

    pub fn notice_endpoints(&self) -> impl Iterator<Item = &Arc<NoticeEndpoint>> {
        self.notice_endpoints.values()
    }

    pub fn organization(&self, id: OrganizationId) -> Option<&OrganizationEntry> {
        self.root.organizations.get(&id)
    }

    pub fn organizations(&self) -> impl Iterator<Item = &OrganizationEntry> {
        self.root.organizations.values()
    }

    /// The node named and those above it, up to the root.
    pub fn organizations_above(
        &self,
        lowest: Option<OrganizationId>,
    ) -> impl Iterator<Item = &OrganizationEntry> + use<'_> {
        let entry = |id: Option<OrganizationId>| id.and_then(|id| self.organization(id));
        std::iter::successors(entry(lowest), move |below| entry(below.organization.parent)).take(DEPTH_MAX)
    }

    /// Levels of the tree from this node down to its deepest, itself among them.
    pub fn organization_height(&self, top: OrganizationId) -> usize {
        let depth = |entry: &OrganizationEntry| {
            let way = self.organizations_above(Some(entry.organization.id));
            way.map(|above| above.organization.id).position(|id| id == top)
        };
        self.organizations().filter_map(depth).max().map_or(1, |deepest| deepest + 1)
    }

    /// Takes changes in, in place. Shards that are shared with another snapshot are copied first, so a
    /// change to a clone leaves the original as it was, and a first load copies nothing.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        let mut root_changed = false;
        for change in changes {
            self.version = self.version.max(change.version);
            match change.object {
                Object::Account(account) => self.put_account(account),
                Object::Key(key) => self.put_key(key),
                Object::Project(project) => drop(self.projects.insert(project)),
                Object::Member(member) => self.put_member(member),
                Object::Appeal(appeal) => drop(self.appeals.insert(appeal)),
                Object::Policy(policy) => drop(self.policies.insert(policy)),
                Object::NoticeEndpoint(endpoint) => drop(self.notice_endpoints.insert(endpoint)),
                Object::Announcement(announcement) => drop(self.announcements.insert(announcement)),
                Object::Nothing => {}
                object => {
                    Arc::make_mut(&mut self.root).put(object);
                    root_changed = true;
                }
            }
        }
        if root_changed {
            Arc::make_mut(&mut self.root).link_channels();
        }
    }

    fn put_account(&mut self, account: Arc<Account>) {
        let zone = zone(&account.time_zone);
        self.accounts.insert(AccountEntry { account, zone });
    }

    fn put_key(&mut self, key: Arc<Key>) {
        if let Some(before) = self.keys.insert(Arc::clone(&key)) {
            if before.hash != key.hash {
                self.texts.remove(&before.hash);
            }
            for old in before.replaced().filter(|old| key.replaced().all(|kept| kept.hash != old.hash)) {
                self.replaced.remove(&old.hash);
            }
        }
        for old in key.replaced() {
            self.replaced.insert(Replaced { text: old.hash, key: Arc::clone(&key) });
        }
        self.texts.insert(key);
    }
}

impl Snapshot {
    fn put_member(&mut self, member: Arc<Member>) {
        let (id, token) = (member.id, member.token);
        let before = self.members.insert(member).and_then(|before| before.token);
        if before != token {
            Arc::make_mut(&mut self.root).put_token(before, token, TokenHolder::Member(id));
        }
    }
}

/// A zone is checked when its document is saved; one that a newer time-zone database dropped falls back to UTC.
fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

impl Root {
    fn put(&mut self, object: Object) {
        match object {
            Object::Model(model) => self.put_model(model),
            Object::Price(price) => self.put_price(price),
            Object::Channel(channel) => {
                self.channels.insert(channel.id, channel);
            }
            Object::Group(group) => {
                self.groups.insert(group.id, group);
            }
            Object::Organization(organization) => {
                let zone = zone(&organization.time_zone);
                self.organizations.insert(organization.id, OrganizationEntry { organization, zone });
            }
            Object::Operator(operator) => {
                let (id, token) = (operator.id, operator.token);
                let before = self.operators.insert(id, operator).and_then(|before| before.token);
                self.put_token(before, token, TokenHolder::Operator(id));
            }
            Object::Account(_)
            | Object::Key(_)
            | Object::Project(_)
            | Object::Member(_)
            | Object::Policy(_)
            | Object::Appeal(_)
            | Object::NoticeEndpoint(_)
            | Object::Announcement(_)
            | Object::Nothing => {}
        }
    }

    fn put_token(&mut self, before: Option<Token>, now: Option<Token>, holder: TokenHolder) {
        if let Some(before) = before {
            self.tokens.remove(&before.hash);
        }
        self.tokens.extend(now.map(|token| (token.hash, holder)));
    }

    fn put_model(&mut self, model: Arc<Model>) {
        let before = self.names.insert(model.id, model.name.clone());
        let prices =
            before.and_then(|name| self.models.remove(&name)).map(|entry| entry.prices).unwrap_or_default();
        self.models.insert(model.name.clone(), ModelEntry { model, prices, channels: Vec::new() });
    }

    fn put_price(&mut self, price: Arc<Price>) {
        let Some(entry) = self.names.get(&price.model).and_then(|name| self.models.get_mut(name)) else {
            return;
        };
        entry.prices.retain(|known| known.id != price.id);
        entry.prices.push(price);
        entry.prices.sort_by_key(|price| std::cmp::Reverse((price.effective_at, price.version)));
    }

    /// Lists with each model the enabled channels that serve it.
    fn link_channels(&mut self) {
        let mut channels: Vec<_> = self
            .channels
            .values()
            .filter(|channel| channel.status == ChannelStatus::Enabled)
            .cloned()
            .collect();
        channels.sort_by_key(|channel| (std::cmp::Reverse(channel.priority), channel.id));
        for (name, entry) in &mut self.models {
            entry.channels =
                channels.iter().filter(|channel| channel.models.contains_key(name)).cloned().collect();
        }
    }
}
