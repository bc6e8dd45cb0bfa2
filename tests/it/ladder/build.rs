//! Plain figures as the program has them: documents in a snapshot, facts, readings. The books are read as the gateway
//! reads them: the counters of the call's scope, and none else.

use std::sync::Arc;

use jiff::Timestamp;
use ledger::{Book, Layer, Nano, TokenClass, WindowKind};
use serde_json::{Value, json};
use tallygate::catalogue::{Code, Refusal};
use tallygate::directory::documents::KeyHash;
use tallygate::directory::{
    self, Change, ChannelStatus, Environment, Metric, ModelStatus, Object, Origin, PolicyDocument,
    ProviderKind, StatusNote, StatusOrigin, StatusReason, Switches, Window,
};
use tallygate::gateway::channel_health::RestReason;
use tallygate::gateway::facts::{
    CallBody, ChannelReading, Checked, Client, CounterReading, Credential, Endpoint, Facts, RateReading,
    Readings, Repetition,
};
use tallygate::gateway::ladder::{Caller, HoldPolicy, Scope};
use tallygate::id::{
    AccountId, ChannelId, GroupId, KeyId, MemberId, ModelId, OrganizationId, PolicyId, PriceId, ProjectId,
    RequestId,
};

use super::world::{self, Body, Call, Counted, Holder, Sender, World};

/// Things of every kind have the same numbers, so that none can be taken for another unseen.
fn raw(index: usize) -> u64 {
    index as u64 + 1
}

pub fn project_id(index: usize) -> ProjectId {
    ProjectId::from_raw(raw(index))
}

/// The public id of what has limits.
pub fn holder_id(holder: Holder) -> String {
    match holder {
        Holder::Key(index) => KeyId::from_raw(raw(index)).to_string(),
        Holder::Member(index) => MemberId::from_raw(raw(index)).to_string(),
        Holder::Project(index) => project_id(index).to_string(),
        Holder::Group(index) => GroupId::from_raw(raw(index)).to_string(),
        Holder::Organization(index) => OrganizationId::from_raw(raw(index)).to_string(),
    }
}

pub fn account_id(index: usize) -> AccountId {
    AccountId::from_raw(raw(index))
}

pub fn channel_id(index: usize) -> ChannelId {
    ChannelId::from_raw(raw(index))
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

fn policies(indices: &[usize]) -> Vec<PolicyId> {
    indices.iter().map(|index| PolicyId::from_raw(raw(*index))).collect()
}

fn names(texts: &[&str]) -> Vec<Box<str>> {
    texts.iter().map(|text| (*text).into()).collect()
}

pub fn snapshot(world: &World) -> directory::Snapshot {
    let mut objects = Vec::new();
    let each = world.models.iter().enumerate();
    objects.extend(each.clone().map(|(index, model)| Object::Model(Arc::new(self::model(index, model)))));
    for (index, model) in each {
        let prices = model.prices.iter().enumerate();
        objects.extend(prices.map(|(version, given)| Object::Price(Arc::new(price(index, version, given)))));
    }
    let each = world.policies.iter().enumerate();
    objects.extend(each.map(|(index, given)| Object::Policy(Arc::new(policy(index, given)))));
    let each = world.organizations.iter().enumerate();
    objects
        .extend(each.map(|(index, given)| Object::Organization(Arc::new(organization(world, index, given)))));
    let each = world.accounts.iter().enumerate();
    objects.extend(each.map(|(index, given)| Object::Account(Arc::new(account(index, given)))));
    let each = world.projects.iter().enumerate();
    objects.extend(each.map(|(index, given)| Object::Project(Arc::new(project(world, index, given)))));
    let each = world.members.iter().enumerate();
    objects.extend(each.map(|(index, given)| Object::Member(Arc::new(member(world, index, given)))));
    let each = world.groups.iter().enumerate();
    objects.extend(each.map(|(index, given)| Object::Group(Arc::new(group(world, index, given)))));
    let each = world.channels.iter().enumerate();
    objects.extend(each.map(|(index, given)| Object::Channel(Arc::new(channel(world, index, given)))));
    let each = world.keys.iter().enumerate();
    objects.extend(each.map(|(index, given)| Object::Key(Arc::new(key(world, index, given)))));
    let mut snapshot = directory::Snapshot::default();
    snapshot.apply(objects.into_iter().zip(1..).map(|(object, version)| Change { version, object }));
    snapshot
}

fn model(index: usize, model: &world::Model) -> directory::Model {
    directory::Model {
        id: ModelId::from_raw(raw(index)),
        name: model.name.into(),
        status: if model.is_retired { ModelStatus::Retired } else { ModelStatus::Active },
        endpoints: names(&model.endpoints),
        output_tokens_max: model.output_max,
        image_tokens_max: model.image_max,
        audio_tokens_max: model.audio_max,
        audio_seconds_max: None,
        owned_by: "test".into(),
        created_at: at(0),
    }
}

fn price(model: usize, version: usize, price: &world::Price) -> directory::Price {
    let of = |class: TokenClass| {
        let given = price.per_million.iter().find(|(name, _)| *name == class.as_str());
        given.map(|(_, nano)| Nano(*nano))
    };
    directory::Price {
        id: PriceId::from_raw(raw(model) * 100 + raw(version)),
        model: ModelId::from_raw(raw(model)),
        version: u32::try_from(raw(version)).unwrap(),
        effective_at: at(price.effective_at),
        per_million: TokenClass::ALL.map(of),
        units: Vec::new(),
        per_call: Nano(price.per_call),
        created_at: at(0),
    }
}

fn policy(index: usize, policy: &world::Policy) -> directory::Policy {
    let statements = policy.statements.iter().map(|statement| {
        let mut written = json!({
            "Effect": if statement.is_deny { "Deny" } else { "Allow" },
            "Action": statement.actions,
            "Resource": statement.resources,
        });
        for condition in &statement.conditions {
            written["Condition"][condition.operator][condition.key] = json!(condition.values);
        }
        written
    });
    let source = json!({"Version": "2026-11-01", "Statement": statements.collect::<Vec<_>>()});
    directory::Policy {
        id: PolicyId::from_raw(raw(index)),
        account: None,
        name: format!("policy {index}").into(),
        document: PolicyDocument::read("document", &source).unwrap(),
        created_at: at(0),
    }
}

fn organization(world: &World, index: usize, node: &world::Organization) -> directory::Organization {
    directory::Organization {
        id: OrganizationId::from_raw(raw(index)),
        name: format!("organization {index}").into(),
        parent: node.parent.map(|parent| OrganizationId::from_raw(raw(parent))),
        switches: Switches { api_service: node.api_service, model_calls: node.model_calls },
        limits: limits(world, &node.limits),
        policies: policies(&node.policies),
        time_zone: node.zone.into(),
        created_at: at(0),
    }
}

fn account(index: usize, account: &world::Account) -> directory::Account {
    let attached = account.policies.iter().map(|(policy, role)| directory::AccountPolicy {
        policy: PolicyId::from_raw(raw(*policy)),
        role: *role,
    });
    directory::Account {
        id: account_id(index),
        name: format!("account {index}").into(),
        email: None,
        kind: account.kind,
        time_zone: account.zone.into(),
        overdraft: Nano(account.overdraft),
        callers_see_account_money: None,
        remark: None,
        organization: account.organization.map(|node| OrganizationId::from_raw(raw(node))),
        switches: Switches { api_service: account.api_service, model_calls: account.model_calls },
        low_balance_alert: None,
        invoice: std::collections::BTreeMap::new(),
        default_project: None,
        policies: attached.collect(),
        groups: Vec::new(),
        tasks: None,
        transcripts: None,
        created_at: at(0),
    }
}

fn project(world: &World, index: usize, project: &world::Project) -> directory::Project {
    directory::Project {
        id: project_id(index),
        account: account_id(project.account),
        name: format!("project {index}").into(),
        status: project.status,
        arrears: Nano(project.arrears),
        limits: limits(world, &project.limits),
        policies: policies(&project.policies),
        created_at: at(0),
    }
}

fn member(world: &World, index: usize, member: &world::Member) -> directory::Member {
    directory::Member {
        id: MemberId::from_raw(raw(index)),
        account: account_id(member.account),
        name: format!("member {index}").into(),
        kind: directory::MemberKind::Person,
        email: None,
        role: member.role,
        token: None,
        limits: limits(world, &member.limits),
        policies: policies(&member.policies),
        created_at: at(0),
    }
}

fn group(world: &World, index: usize, group: &world::Group) -> directory::Group {
    directory::Group {
        id: GroupId::from_raw(raw(index)),
        name: format!("group {index}").into(),
        multiplier_ppm: group.multiplier_ppm,
        models: names(&group.models),
        fallback: group.fallback.iter().map(|group| GroupId::from_raw(raw(*group))).collect(),
        limits: limits(world, &group.limits),
        created_at: at(0),
    }
}

fn channel(world: &World, index: usize, channel: &world::Channel) -> directory::Channel {
    let served = channel.models.iter().map(|model| world.models[*model].name);
    directory::Channel {
        id: channel_id(index),
        name: format!("channel {index}").into(),
        provider: ProviderKind::Openai,
        base_url: "http://127.0.0.1:9/v1".into(),
        credentials: vec!["".into()],
        models: served.map(|name| (name.into(), name.into())).collect(),
        groups: channel.groups.iter().map(|group| GroupId::from_raw(raw(*group))).collect(),
        environments: channel.environments.clone(),
        priority: channel.priority,
        weight: channel.weight,
        status: if channel.is_enabled { ChannelStatus::Enabled } else { ChannelStatus::Disabled },
        output_cap_field: directory::CapField::MaxTokens,
        cools_down: true,
        proxy: None,
        concurrency: None,
        requests_per_minute: None,
        cost_share_ppm: None,
        credit: None,
        cost_prices: Default::default(),
        task_api: None,
        created_at: at(0),
    }
}

fn key(world: &World, index: usize, key: &world::Key) -> directory::Key {
    let note = |until| StatusNote {
        origin: StatusOrigin::Operator,
        reason: StatusReason::Operator,
        since: at(0),
        until: Some(at(until)),
        text: None,
        evidence: None,
    };
    let rate = |rate: &world::Rate| directory::RateLimit {
        metric: rate.metric,
        value: rate.value,
        origin: Origin::Owner,
        schedule: rate.schedule.as_ref().map(schedule),
    };
    let allowance = |(endpoints, models): &(Vec<&str>, Vec<&str>)| directory::Allowance {
        endpoints: names(endpoints),
        models: names(models),
    };
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&raw(index).to_le_bytes());
    directory::Key {
        id: KeyId::from_raw(raw(index)),
        account: account_id(key.account),
        name: "".into(),
        environment: key.environment,
        hash: KeyHash(hash),
        masked: "".into(),
        previous: None,
        status: key.status,
        status_note: key.until.map(|until| Box::new(note(until))),
        expires_at: key.expires_at.map(at),
        schedule: key.schedule.as_ref().map(schedule),
        ip_ranges: key.ip_ranges.iter().map(|range| range.parse().unwrap()).collect(),
        group: key.group.map(|group| GroupId::from_raw(raw(group))),
        project: key.project.map(project_id),
        member: key.member.map(|member| MemberId::from_raw(raw(member))),
        limits: limits(world, &key.limits),
        rates: key.rates.iter().map(rate).collect(),
        policies: policies(&key.policies),
        allowed: key.allowed.iter().map(allowance).collect(),
        tasks: None,
        created_at: at(0),
    }
}

fn limits(world: &World, limits: &[world::Limit]) -> Vec<directory::Limit> {
    let limit = |limit: &world::Limit| directory::Limit {
        metric: limit.metric,
        window: limit.window,
        model: limit.model.map(|model| world.models[model].name.into()),
        tasks: limit.is_of_tasks,
        value: limit.metric.value(limit.value),
        origin: Origin::Owner,
        schedule: limit.schedule.as_ref().map(schedule),
    };
    limits.iter().map(limit).collect()
}

fn schedule(schedule: &world::Schedule) -> Box<directory::Schedule> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let minute = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let weekly = schedule.weekly.iter().map(|hours| {
        let days: Vec<_> = hours.days.iter().map(|day| DAYS[*day]).collect();
        json!({"days": days, "from": minute(hours.from), "until": minute(hours.until)})
    });
    let mut written = json!({"weekly": weekly.collect::<Vec<Value>>()});
    let moments = [("from", schedule.from), ("until", schedule.until)];
    for (name, moment) in moments.into_iter().filter_map(|(name, moment)| Some((name, moment?))) {
        written[name] = json!(at(moment).to_string());
    }
    if let Some(zone) = schedule.zone {
        written["time_zone"] = json!(zone);
    }
    let read: directory::Schedule = serde_json::from_value(written).unwrap();
    read.check("schedule").unwrap();
    Box::new(read)
}

/// What the request shows; the body only if it was read.
pub fn facts(world: &World, call: &Call, is_body_read: bool) -> Facts {
    let refused = |code| Box::new(Refusal::new(code));
    let credential = |index: usize, account: usize| Credential {
        key: KeyId::from_raw(raw(index)),
        account: account_id(account),
        project: None,
        member: None,
    };
    let body = match call.body {
        _ if !is_body_read => Checked::NotReached,
        Body::Invalid => Checked::Refused(refused(Code::InvalidJson)),
        Body::Chat { model, input, images, audios, cap, choices } => Checked::Passed(CallBody {
            model: model.into(),
            stream: false,
            body_bytes: 100,
            input_tokens_bound: input,
            image_parts: images,
            audio_parts: audios,
            output_cap: cap,
            choices,
            units: None,
        }),
    };
    Facts {
        request: RequestId::from_raw(u128::from(call.draw)),
        at_ms: call.at,
        config_version: 1,
        address: match call.is_address_wrong {
            true => Checked::Refused(refused(Code::WrongBaseUrl)),
            false => Checked::Passed(Endpoint::ChatCompletions),
        },
        credential: match call.sender {
            Sender::Malformed => Checked::Refused(refused(Code::MalformedKey)),
            Sender::Unknown => Checked::Passed(credential(world.keys.len(), 0)),
            Sender::Key(index) => Checked::Passed(credential(index, world.keys[index].account)),
        },
        body,
        client: Client { address: call.client.map(|address| address.parse().unwrap()), ..Client::default() },
        repetition: Repetition {
            refused: call.repeats.filter(|_| is_body_read).map(refused),
            ..Repetition::default()
        },
    }
}

pub fn policy_of(call: &Call) -> HoldPolicy {
    HoldPolicy {
        output_share_ppm: call.share_ppm,
        output_tokens_floor: call.floor,
        output_tokens_min: call.least,
    }
}

/// The books at the call; `None` if nobody knows the key.
pub fn readings(snapshot: &directory::Snapshot, call: &Call, facts: &Facts) -> Option<Readings> {
    let caller = Caller::of(snapshot, facts)?;
    let scope = Scope::of(snapshot, caller, facts);
    let counters = scope.layers.iter().map(|layer| {
        let counted = counted(&layer.counter, caller.key.environment);
        let (used, held) = call.figures.counter(counted);
        CounterReading { counter: layer.counter, window: layer.window, used, held }
    });
    let rests = |channel: &usize| ChannelReading {
        channel: channel_id(*channel),
        reason: RestReason::Errors,
        until_ms: facts.at_ms + 5_000,
    };
    Some(Readings {
        channels: call.figures.resting.iter().map(rests).collect(),
        available: Nano(call.figures.available),
        held: Nano::ZERO,
        counters: counters.collect(),
        rate: scope.rated.map(|rated| RateReading {
            limits: rated.limits,
            ahead_ns: call.figures.ahead_ns,
            tokens: call.figures.tokens,
            running: call.figures.running,
        }),
    })
}

fn counted(counter: &ledger::CounterKey, of_key: Environment) -> Counted {
    let index = |raw: u64| usize::try_from(raw).unwrap() - 1;
    let book = ledger::AccountId(counter.subject).book();
    let subject = index(ledger::AccountId(counter.subject).in_book(Book::Live).0);
    Counted {
        holder: match counter.layer {
            Layer::Key => Holder::Key(subject),
            Layer::Member => Holder::Member(subject),
            Layer::Project => Holder::Project(subject),
            Layer::Group => Holder::Group(subject),
            Layer::Organization => Holder::Organization(subject),
            Layer::Model | Layer::Account => panic!("no such counter: {counter:?}"),
        },
        environment: match (counter.layer, book) {
            (Layer::Key, _) => of_key,
            (_, Book::Live) => Environment::Live,
            (_, Book::Test) => Environment::Test,
        },
        model: (counter.model != 0).then(|| index(counter.model)),
        metric: match counter.metric {
            ledger::Metric::Spend => Metric::Spend,
            ledger::Metric::Calls => Metric::Calls,
        },
        window: match counter.window {
            WindowKind::Day => Window::Day,
            WindowKind::Month => Window::Month,
            WindowKind::Total => Window::Total,
        },
    }
}
