//! The ladder a second time, written from the published table and the requirements C, D and E alone: slow,
//! obvious, and without a line of the program's own. It reads plain figures and shares nothing with the program but
//! the names of codes and settings.
//!
//! Its calls are chat completions, so that the cap of a single task is not among its rungs: `tests/it/tasks.rs` has it.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use tallygate::catalogue::Code;
use tallygate::directory::{
    AccountKind, AccountRole, KeyStatus, Metric, ProjectStatus, RateMetric, Switch, Window,
};

use super::world::{
    Account, Body, Call, Channel, Condition, Counted, Holder, Key, Limit, Model, Organization, Policy,
};
use super::world::{Price, Rate, Schedule, Sender, Statement, World, Zone};

/// The rungs that are there, in their order.
pub const RUNGS: [u8; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

const ENDPOINT: &str = "chat/completions";

/// Why a rung refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    /// Whose limit it is, if it is one.
    pub limit: Option<Limited>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    pub whose: Whose,
    /// `None` where the window is not told apart.
    pub window: Option<Window>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    Holder(Holder),
    Model(usize),
    Account(usize),
}

/// What an admitted call goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub channel: usize,
    pub multiplier_ppm: u64,
    pub hold: i64,
    pub output_cap: u32,
}

/// A call, and how much of it is known.
#[derive(Clone, Copy)]
pub struct Naive<'a> {
    pub world: &'a World,
    pub call: &'a Call,
    pub is_body_read: bool,
    /// A list of models is asked for: that is looking, not calling.
    pub is_view: bool,
}

type Check = Result<(), Refused>;

fn refuse(code: Code) -> Check {
    Err(Refused { code, limit: None })
}

fn refuse_limit(code: Code, whose: Whose, window: Option<Window>) -> Check {
    Err(Refused { code, limit: Some(Limited { whose, window }) })
}

struct Chat {
    model: &'static str,
    input: u64,
    images: u32,
    audios: u32,
    cap: Option<u32>,
    choices: u32,
}

struct Hold {
    amount: i64,
    cap: u32,
    tokens: u128,
}

impl<'a> Naive<'a> {
    /// The first rung that refuses.
    pub fn decide(&self) -> Result<Admitted, (u8, Refused)> {
        for rung in RUNGS {
            self.check(rung).map_err(|refused| (rung, refused))?;
        }
        let hold = self.hold().unwrap().unwrap();
        Ok(Admitted {
            channel: self.channel().unwrap(),
            multiplier_ppm: self.multiplier(),
            hold: hold.amount,
            output_cap: hold.cap,
        })
    }

    /// The code of the first rung that refuses, of those that need nothing but the key.
    pub fn decide_before_body(&self) -> Option<Code> {
        let refused = |rung: u8| self.check(rung).err().map(|refused| refused.code);
        RUNGS.into_iter().take_while(|rung| *rung <= 5).find_map(refused)
    }

    /// What one rung says of what is known, whatever the others say.
    pub fn check(&self, rung: u8) -> Check {
        match rung {
            1 => self.address(),
            2 => self.credential(),
            6 => self.request(),
            // Of a key that nobody knows there is nothing to say.
            _ if self.key().is_none() => Ok(()),
            3 => self.key_state(),
            4 => self.account_switch(),
            5 => self.project(),
            7 => self.permission(),
            8 => self.model_rung(),
            9 => self.rate(),
            10 => self.counts(),
            11 => self.duplicates(),
            12 => self.budgets(),
            13 => self.balance(),
            14 => self.channel_rung(),
            _ => Ok(()),
        }
    }

    /// Whether it was sent before is looked up once its content is known.
    fn duplicates(&self) -> Check {
        self.call.repeats.filter(|_| self.is_body_read).map_or(Ok(()), refuse)
    }

    fn address(&self) -> Check {
        if self.call.is_address_wrong { refuse(Code::WrongBaseUrl) } else { Ok(()) }
    }

    fn credential(&self) -> Check {
        match self.call.sender {
            Sender::Malformed => refuse(Code::MalformedKey),
            Sender::Unknown => refuse(Code::UnknownKey),
            Sender::Key(key) if self.world.keys[key].status == KeyStatus::Revoked => refuse(Code::KeyRevoked),
            Sender::Key(_) => Ok(()),
        }
    }

    /// D1, D8: status, expired, schedule, address.
    fn key_state(&self) -> Check {
        let key = self.key().unwrap();
        let is_status_over = key.until.is_some_and(|until| self.call.at >= until);
        if !is_status_over {
            match key.status {
                KeyStatus::Disabled => return refuse(Code::KeyDisabled),
                KeyStatus::PendingReview => return refuse(Code::KeyPendingReview),
                KeyStatus::RiskFrozen => return refuse(Code::KeyRiskFrozen),
                KeyStatus::Enabled | KeyStatus::Revoked => {}
            }
        }
        if key.expires_at.is_some_and(|end| self.call.at >= end) {
            return refuse(Code::KeyExpired);
        }
        if !is_open(key.schedule.as_ref(), self.call.at, self.account().zone) {
            return refuse(Code::KeyOutsideSchedule);
        }
        if !key.ip_ranges.is_empty() {
            let Some(client) = self.call.client else { return refuse(Code::KeyIpNotAllowed) };
            if !key.ip_ranges.iter().any(|range| is_in_range(client, range)) {
                return refuse(Code::KeyIpNotAllowed);
            }
        }
        Ok(())
    }

    /// E1, E2, E3: a child can tighten, never loosen.
    fn account_switch(&self) -> Check {
        let account = self.account();
        let own_api = account.api_service.unwrap_or(Switch::On);
        let own_model = account.model_calls.unwrap_or(match account.kind {
            AccountKind::Personal | AccountKind::Enterprise => Switch::On,
            AccountKind::Education => Switch::Suspended,
        });
        let above = self.organizations();
        let api: Vec<Switch> =
            above.iter().filter_map(|(_, node)| node.api_service).chain([own_api]).collect();
        let model: Vec<Switch> =
            above.iter().filter_map(|(_, node)| node.model_calls).chain([own_model]).collect();
        if api.contains(&Switch::Suspended) {
            refuse(Code::AccountSuspended)
        } else if self.is_view {
            Ok(())
        } else if api.contains(&Switch::ViewOnly) {
            refuse(Code::AccountViewOnly)
        } else if model.contains(&Switch::Suspended) {
            refuse(Code::ModelCallsSuspended)
        } else if model.contains(&Switch::ViewOnly) {
            refuse(Code::ModelCallsViewOnly)
        } else {
            Ok(())
        }
    }

    /// E4.
    fn project(&self) -> Check {
        let Some(project) = self.key().unwrap().project else { return Ok(()) };
        let project = &self.world.projects[project];
        if project.status == ProjectStatus::Paused {
            refuse(Code::ProjectPaused)
        } else if project.status == ProjectStatus::Archived {
            refuse(Code::ProjectArchived)
        } else if project.arrears > 0 {
            refuse(Code::ProjectInArrears)
        } else {
            Ok(())
        }
    }

    fn request(&self) -> Check {
        if self.is_body_read && matches!(self.call.body, Body::Invalid) {
            return refuse(Code::InvalidJson);
        }
        match self.hold() {
            Some(Err(())) => refuse(Code::InvalidParameter),
            _ => Ok(()),
        }
    }

    /// E6: both permissions; deny wins; no allow is a deny; where nothing is attached, all is allowed.
    fn permission(&self) -> Check {
        let Some(chat) = self.chat() else { return Ok(()) };
        let policies = self.policies();
        if policies.is_empty() {
            return Ok(());
        }
        let project = match self.key().unwrap().project {
            Some(project) => super::build::project_id(project).to_string(),
            None => "-".to_owned(),
        };
        let wanted = [
            ("tallygate:call", format!("arn:tallygate:api:{project}/{ENDPOINT}")),
            ("models:inference", format!("arn:tallygate:model:{}", chat.model)),
        ];
        let statements: Vec<&Statement> = policies.iter().flat_map(|policy| &policy.statements).collect();
        let speaks = |statement: &Statement, (action, resource): &(&str, String)| {
            statement.actions.iter().any(|pattern| is_like(pattern, action))
                && statement.resources.iter().any(|pattern| is_like(pattern, resource))
                && statement.conditions.iter().all(|condition| self.holds(condition, &chat))
        };
        let is_said = |is_deny: bool, wanted: &(&str, String)| {
            statements.iter().any(|statement| statement.is_deny == is_deny && speaks(statement, wanted))
        };
        if wanted.iter().any(|wanted| is_said(true, wanted)) {
            refuse(Code::PermissionDeniedExplicit)
        } else if !wanted.iter().all(|wanted| is_said(false, wanted)) {
            refuse(Code::PermissionDeniedImplicit)
        } else {
            Ok(())
        }
    }

    fn policies(&self) -> Vec<&'a Policy> {
        let key = self.key().unwrap();
        let member = key.member.map(|member| &self.world.members[member]);
        let mut attached = Vec::new();
        for (_, node) in self.organizations() {
            attached.extend(&node.policies);
        }
        for (policy, role) in &self.account().policies {
            let is_for_all = role.is_none();
            let has_role = |role: &AccountRole| member.is_some_and(|member| member.role == *role);
            if is_for_all || role.as_ref().is_some_and(has_role) {
                attached.push(policy);
            }
        }
        if let Some(project) = key.project {
            attached.extend(&self.world.projects[project].policies);
        }
        if let Some(member) = member {
            attached.extend(&member.policies);
        }
        attached.extend(&key.policies);
        attached.into_iter().map(|policy| &self.world.policies[*policy]).collect()
    }

    fn holds(&self, condition: &Condition, chat: &Chat) -> bool {
        let any = |is_met: &dyn Fn(&str) -> bool| condition.values.iter().any(|value| is_met(value));
        let moment = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let text = match condition.key {
            "key:Environment" => self.key().unwrap().environment.as_str(),
            "request:Model" => chat.model,
            _ => ENDPOINT,
        };
        let in_range = |range: &str| self.call.client.is_some_and(|client| is_in_range(client, range));
        match condition.operator {
            "DateGreaterThan" => any(&|value| self.call.at > moment(value)),
            "DateLessThan" => any(&|value| self.call.at < moment(value)),
            "TimeOfDay" => {
                let (_, now) = wall_clock(self.call.at, self.account().zone);
                any(&|value| {
                    let (from, until) = value.split_once('-').unwrap();
                    let (from, until) = (minute(from), minute(until));
                    if from < until { from <= now && now < until } else { now >= from || now < until }
                })
            }
            "IpAddress" => any(&in_range),
            "NotIpAddress" => !any(&in_range),
            "StringEquals" => any(&|value| value == text),
            "StringNotEquals" => !any(&|value| value == text),
            "StringLike" => any(&|value| is_like(value, text)),
            "StringNotLike" => !any(&|value| is_like(value, text)),
            unknown => panic!("{unknown}"),
        }
    }

    fn model_rung(&self) -> Check {
        let Some(chat) = self.chat() else { return Ok(()) };
        let Some((index, model)) = self.model() else { return refuse(Code::ModelNotFound) };
        if model.is_retired {
            return refuse(Code::ModelRetired);
        }
        let key = self.key().unwrap();
        let is_listed = key.group.is_none_or(|group| is_named(&self.world.groups[group].models, chat.model));
        let is_offered = self
            .channels_of(index)
            .iter()
            .any(|(_, channel)| channel.environments.contains(&key.environment));
        // A model that nobody is served is the channel rung's matter.
        if !is_listed || (is_offered && self.reachable().is_empty()) {
            return refuse(Code::ModelNotInGroup);
        }
        let covers = |(endpoints, models): &(Vec<&str>, Vec<&str>)| {
            (endpoints.is_empty() || endpoints.contains(&ENDPOINT)) && is_named(models, chat.model)
        };
        if !key.allowed.is_empty() && !key.allowed.iter().any(covers) {
            return refuse(Code::ModelNotAllowedForKey);
        }
        if !model.endpoints.is_empty() && !model.endpoints.contains(&ENDPOINT) {
            return refuse(Code::EndpointNotSupportedByModel);
        }
        if self.price().is_none() {
            return refuse(Code::ModelUnpriced);
        }
        Ok(())
    }

    /// D8: per second, per minute, at the same time.
    fn rate(&self) -> Check {
        let Sender::Key(index) = self.call.sender else { return Ok(()) };
        let limited = |code| refuse_limit(code, Whose::Holder(Holder::Key(index)), None);
        for rate in self.rates(RateMetric::RequestsPerSecond) {
            let apart_ns = 1_000_000_000 / rate;
            // As many requests as are not yet spread out evenly.
            if self.call.figures.ahead_ns.div_ceil(apart_ns) >= rate {
                return limited(Code::RateLimitRequests);
            }
        }
        for rate in self.rates(RateMetric::TokensPerMinute) {
            let needed = match self.hold() {
                Some(Ok(hold)) => hold.tokens,
                _ => 0,
            };
            if u128::from(self.call.figures.tokens) + needed > u128::from(rate) {
                return limited(Code::RateLimitTokens);
            }
        }
        for rate in self.rates(RateMetric::Concurrency) {
            if self.call.figures.running + 1 > rate {
                return limited(Code::ConcurrencyLimit);
            }
        }
        Ok(())
    }

    fn counts(&self) -> Check {
        for is_of_model in [false, true] {
            for (holder, limit) in self.limits(Metric::Calls, is_of_model) {
                if self.left(holder, limit) < 1 {
                    return refuse_limit(Code::DailyCallsExhausted, whose(holder, limit), Some(Window::Day));
                }
            }
        }
        Ok(())
    }

    /// Key, member, project, model, group, organization, from the narrowest to the widest.
    fn budgets(&self) -> Check {
        let needed = match self.hold() {
            Some(Ok(hold)) => i128::from(hold.amount),
            _ => 0,
        };
        let is_over = |(holder, limit): &(Holder, &Limit)| {
            let left = self.left(*holder, limit);
            // Nothing left is nothing left, whatever the call costs: 0 means blocked (C6).
            left < needed || left <= 0
        };
        let own = self.limits(Metric::Spend, false);
        let of_models = self.limits(Metric::Spend, true);
        let first = |is_layer: &dyn Fn(Holder) -> bool| {
            for window in [Window::Day, Window::Month, Window::Total] {
                let found =
                    own.iter().find(|limit| is_layer(limit.0) && limit.1.window == window && is_over(limit));
                if let Some((holder, _)) = found {
                    return Some((*holder, window));
                }
            }
            None
        };
        let spent = |code, (holder, window)| refuse_limit(code, Whose::Holder(holder), Some(window));
        if let Some(found) = first(&|holder| matches!(holder, Holder::Key(_))) {
            return spent(Code::KeyBudgetExhausted, found);
        }
        if let Some(found) = first(&|holder| matches!(holder, Holder::Member(_))) {
            return spent(Code::MemberBudgetExhausted, found);
        }
        if let Some(found) = first(&|holder| matches!(holder, Holder::Project(_))) {
            return spent(Code::ProjectBudgetExhausted, found);
        }
        if let Some((holder, limit)) = of_models.iter().find(|limit| is_over(limit)) {
            return refuse_limit(Code::ModelBudgetExhausted, whose(*holder, limit), None);
        }
        if let Some(found) = first(&|holder| matches!(holder, Holder::Group(_))) {
            return spent(Code::GroupQuotaExhausted, found);
        }
        for (node, _) in self.organizations() {
            if let Some(found) = first(&|holder| holder == Holder::Organization(node)) {
                return spent(Code::OrganizationBudgetExhausted, found);
            }
        }
        Ok(())
    }

    fn balance(&self) -> Check {
        let account = self.key().unwrap().account;
        let limited = |code| refuse_limit(code, Whose::Account(account), None);
        let usable = self.usable_balance();
        let is_enough = match self.hold() {
            // What costs nothing needs nothing; debts are another matter.
            Some(Ok(hold)) => i128::from(hold.amount) <= usable && (usable > 0 || hold.amount == 0),
            _ => usable > 0,
        };
        match (is_enough, usable > 0) {
            (true, _) => Ok(()),
            (false, true) => limited(Code::BalanceInsufficient),
            (false, false) => limited(Code::BalanceExhausted),
        }
    }

    fn channel_rung(&self) -> Check {
        match (self.chat(), self.channel()) {
            (Some(_), None) if self.reachable().is_empty() => refuse(Code::NoChannel),
            (Some(_), None) => refuse(Code::ChannelCoolingDown),
            _ => Ok(()),
        }
    }

    // What the rungs ask.

    fn key(&self) -> Option<&'a Key> {
        match self.call.sender {
            Sender::Key(key) => Some(&self.world.keys[key]),
            Sender::Malformed | Sender::Unknown => None,
        }
    }

    fn account(&self) -> &'a Account {
        &self.world.accounts[self.key().unwrap().account]
    }

    /// The nearest first.
    fn organizations(&self) -> Vec<(usize, &'a Organization)> {
        let mut above = Vec::new();
        let mut next = self.account().organization;
        while let Some(node) = next {
            above.push((node, &self.world.organizations[node]));
            next = self.world.organizations[node].parent;
        }
        above
    }

    fn chat(&self) -> Option<Chat> {
        match self.call.body {
            Body::Chat { model, input, images, audios, cap, choices } if self.is_body_read => {
                Some(Chat { model, input, images, audios, cap, choices })
            }
            _ => None,
        }
    }

    fn model(&self) -> Option<(usize, &'a Model)> {
        let name = self.chat()?.model;
        self.world.models.iter().enumerate().find(|(_, model)| model.name == name)
    }

    /// The newest that is in force.
    fn price(&self) -> Option<&'a Price> {
        let (_, model) = self.model()?;
        let in_force = model.prices.iter().filter(|price| price.effective_at <= self.call.at);
        in_force.max_by_key(|price| price.effective_at)
    }

    /// The hold covers the dearest group that can serve.
    fn multiplier(&self) -> u64 {
        match self.reachable().iter().map(|(group, _)| self.multiplier_of(*group)).max() {
            Some(dearest) => dearest,
            None => self.multiplier_of(self.key().and_then(|key| key.group)),
        }
    }

    fn multiplier_of(&self, group: Option<usize>) -> u64 {
        group.map_or(1_000_000, |group| self.world.groups[group].multiplier_ppm)
    }

    fn channels_of(&self, model: usize) -> Vec<(usize, &'a Channel)> {
        let all = self.world.channels.iter().enumerate();
        all.filter(|(_, channel)| channel.is_enabled && channel.models.contains(&model)).collect()
    }

    /// Every channel that the key can reach with the group through which it does: its own first, then those that
    /// stand in for it, in their order. A channel is reached once.
    fn reachable(&self) -> Vec<(Option<usize>, usize)> {
        let (Some(key), Some((model, known))) = (self.key(), self.model()) else { return Vec::new() };
        let stand_ins = key.group.map_or(&[][..], |group| &self.world.groups[group].fallback);
        let stand_ins =
            stand_ins.iter().copied().filter(|group| is_named(&self.world.groups[*group].models, known.name));
        let mut reached: Vec<(Option<usize>, usize)> = Vec::new();
        for group in std::iter::once(key.group).chain(stand_ins.map(Some)) {
            for (index, channel) in self.channels_of(model) {
                let is_open =
                    channel.groups.is_empty() || group.is_some_and(|group| channel.groups.contains(&group));
                let is_new = reached.iter().all(|(_, known)| *known != index);
                if is_open && is_new && channel.environments.contains(&key.environment) {
                    reached.push((group, index));
                }
            }
        }
        reached
    }

    /// The first group's, of those the highest priority's, of those by weight: the call's draw, turned by eleven bits,
    /// falls into one of them.
    fn channel(&self) -> Option<usize> {
        let mut reachable = self.reachable();
        reachable.retain(|(_, index)| !self.call.figures.resting.contains(index));
        let (group, _) = *reachable.first()?;
        let channels: Vec<usize> =
            reachable.iter().filter(|(through, _)| *through == group).map(|(_, index)| *index).collect();
        let of = |index: &usize| &self.world.channels[*index];
        let highest = channels.iter().map(|index| of(index).priority).max()?;
        let equals: Vec<usize> = channels.into_iter().filter(|index| of(index).priority == highest).collect();
        let lots: Vec<usize> =
            equals.iter().flat_map(|index| std::iter::repeat_n(*index, of(index).weight as usize)).collect();
        match lots.len() as u64 {
            0 => equals.first().copied(),
            count => Some(lots[(self.call.draw.rotate_left(11) % count) as usize]),
        }
    }

    fn rates(&self, metric: RateMetric) -> Vec<u64> {
        let Some(key) = self.key() else { return Vec::new() };
        let holds = |rate: &&Rate| {
            rate.metric == metric && is_open(rate.schedule.as_ref(), self.call.at, self.account().zone)
        };
        key.rates.iter().filter(holds).map(|rate| rate.value).collect()
    }

    /// Every limit of this metric that holds now: those of all models together, or those of the model asked for.
    fn limits(&self, metric: Metric, is_of_model: bool) -> Vec<(Holder, &'a Limit)> {
        let (Some(key), Sender::Key(index)) = (self.key(), self.call.sender) else { return Vec::new() };
        let of_account = self.account().zone;
        let mut holders: Vec<(Holder, &'a [Limit], Zone)> =
            vec![(Holder::Key(index), &key.limits, of_account)];
        if let Some(member) = key.member {
            holders.push((Holder::Member(member), &self.world.members[member].limits, of_account));
        }
        if let Some(project) = key.project {
            holders.push((Holder::Project(project), &self.world.projects[project].limits, of_account));
        }
        if let Some(group) = key.group {
            holders.push((Holder::Group(group), &self.world.groups[group].limits, "UTC"));
        }
        for (node, organization) in self.organizations() {
            holders.push((Holder::Organization(node), &organization.limits, organization.zone));
        }
        let asked = self.model().map(|(index, _)| index);
        let mut found = Vec::new();
        for (holder, limits, zone) in holders {
            for limit in limits.iter().filter(|limit| !limit.is_of_tasks) {
                let is_meant = match limit.model {
                    None => !is_of_model,
                    Some(model) => is_of_model && asked == Some(model),
                };
                if limit.metric == metric && is_meant && is_open(limit.schedule.as_ref(), self.call.at, zone)
                {
                    found.push((holder, limit));
                }
            }
        }
        found
    }

    fn left(&self, holder: Holder, limit: &Limit) -> i128 {
        let counted = Counted {
            holder,
            environment: self.key().unwrap().environment,
            model: limit.model,
            metric: limit.metric,
            window: limit.window,
        };
        let (used, held) = self.call.figures.counter(counted);
        i128::from(limit.value) - i128::from(used) - i128::from(held)
    }

    fn usable_balance(&self) -> i128 {
        i128::from(self.call.figures.available) + i128::from(self.account().overdraft)
    }

    /// The minimum over all layers (C5).
    fn usable(&self) -> i128 {
        let mut usable = self.usable_balance();
        for (holder, limit) in [self.limits(Metric::Spend, false), self.limits(Metric::Spend, true)].concat()
        {
            usable = usable.min(self.left(holder, limit));
        }
        usable
    }

    /// What the call holds; `None` while model or price are not known, an error if it cannot be bounded.
    fn hold(&self) -> Option<Result<Hold, ()>> {
        self.key()?;
        let (chat, (_, model), price) = (self.chat()?, self.model()?, self.price()?);
        let mut input = u128::from(chat.input);
        for (parts, most) in [(chat.images, model.image_max), (chat.audios, model.audio_max)] {
            match most {
                None if parts > 0 => return Some(Err(())),
                most => input += u128::from(parts) * u128::from(most.unwrap_or(0)),
            }
        }
        let per_minute = self.rates(RateMetric::TokensPerMinute).into_iter().min();
        let own = chat.cap.map(|cap| cap.min(model.output_max));
        let cap = own.unwrap_or_else(|| self.cap(&chat, model, price, input, per_minute));
        let tokens = input + u128::from(chat.choices) * u128::from(cap);
        if per_minute.is_some_and(|rate| tokens > u128::from(rate)) {
            return Some(Err(()));
        }
        let exact = self.exact_cost(&chat, price, input, cap);
        // Up to the next nano: a hold covers what it is for.
        let amount = exact / NANO + u128::from(!exact.is_multiple_of(NANO));
        Some(match i64::try_from(amount) {
            Ok(amount) => Ok(Hold { amount, cap, tokens }),
            Err(_) => Err(()),
        })
    }

    /// The output cap of a call without one: what a share of the usable money buys, and of the tokens per minute.
    fn cap(&self, chat: &Chat, model: &Model, price: &Price, input: u128, per_minute: Option<u64>) -> u32 {
        let call = self.call;
        let money = u128::try_from(self.usable().max(0)).unwrap();
        let buys = |exact: u128| {
            let affordable = |cap: &u32| self.exact_cost(chat, price, input, *cap) <= exact;
            (0..=model.output_max).filter(affordable).max().unwrap_or(0)
        };
        let share = buys(money * u128::from(call.share_ppm) * 1_000_000);
        let floor = buys(money * NANO).min(call.floor);
        let mut cap = share.max(floor).max(call.least).min(model.output_max);
        if let Some(rate) = per_minute {
            let left = u128::from(rate).saturating_sub(input) / u128::from(chat.choices);
            let share = left * u128::from(call.share_ppm) / 1_000_000;
            let floor = left.min(u128::from(call.floor));
            let allowed = share.max(floor).max(u128::from(call.least));
            cap = u32::try_from(allowed.min(u128::from(cap))).unwrap();
        }
        cap
    }

    /// In 10⁻¹² nano-units: every token at the dearest class that it can be of.
    fn exact_cost(&self, chat: &Chat, price: &Price, input: u128, cap: u32) -> u128 {
        let of =
            |class: &str| price.per_million.iter().find(|(name, _)| *name == class).map(|(_, nano)| *nano);
        let dearest = |parent: &str, classes: &[&str]| {
            let parent = of(parent).unwrap_or(0);
            let all = classes.iter().map(|class| of(class).unwrap_or(parent)).chain([parent]);
            u128::try_from(all.max().unwrap()).unwrap()
        };
        let input_rate = dearest("input", &["cache_read", "cache_write", "audio_in", "image_in"]);
        let output_rate = dearest("output", &["reasoning", "audio_out"]);
        let per_call = u128::try_from(price.per_call).unwrap() * 1_000_000;
        let output = u128::from(chat.choices) * u128::from(cap);
        (per_call + input * input_rate + output * output_rate) * u128::from(self.multiplier())
    }
}

/// Nano-units per million tokens times millionths.
const NANO: u128 = 1_000_000_000_000;

fn whose(holder: Holder, limit: &Limit) -> Whose {
    limit.model.map_or(Whose::Holder(holder), Whose::Model)
}

/// Day of the week from 0, Monday, and minute of the day.
fn wall_clock(at: i64, zone: Zone) -> (usize, u16) {
    let there = Timestamp::from_millisecond(at).unwrap().to_zoned(TimeZone::get(zone).unwrap());
    let day = there.weekday().since(Weekday::Monday);
    (
        usize::try_from(day).unwrap(),
        u16::try_from(i32::from(there.hour()) * 60 + i32::from(there.minute())).unwrap(),
    )
}

fn is_open(schedule: Option<&Schedule>, at: i64, zone: Zone) -> bool {
    let Some(schedule) = schedule else { return true };
    if schedule.from.is_some_and(|from| at < from) || schedule.until.is_some_and(|until| at >= until) {
        return false;
    }
    if schedule.weekly.is_empty() {
        return true;
    }
    let (today, now) = wall_clock(at, schedule.zone.unwrap_or(zone));
    let yesterday = (today + 6) % 7;
    for hours in &schedule.weekly {
        // The hours of today, and what lasts from yesterday into today.
        let end = if hours.until > hours.from { hours.until } else { hours.until + 24 * 60 };
        if hours.days.contains(&today) && hours.from <= now && now < end {
            return true;
        }
        if hours.days.contains(&yesterday) && now + 24 * 60 < end {
            return true;
        }
    }
    false
}

fn minute(text: &str) -> u16 {
    let (hour, minute) = text.split_once(':').unwrap();
    hour.parse::<u16>().unwrap() * 60 + minute.parse::<u16>().unwrap()
}

/// Names of a list; `*` at the end stands for any rest. An empty list names every one.
fn is_named(names: &[&str], model: &str) -> bool {
    names.is_empty() || names.iter().any(|name| is_like(name, model))
}

/// `*` for any run of characters, `?` for one.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = rest.as_str();
            text.char_indices().any(|(at, _)| is_like(rest, &text[at..])) || is_like(rest, "")
        }
        Some(wanted) => {
            let mut more = text.chars();
            more.next().is_some_and(|first| wanted == '?' || wanted == first)
                && is_like(rest.as_str(), more.as_str())
        }
    }
}

/// Whether an address is in a range such as `10.0.0.0/8`. One of the old kind may be written as one of the new.
fn is_in_range(client: &str, range: &str) -> bool {
    let bits = |text: &str| -> (u8, u128) {
        match text.strip_prefix("::ffff:").unwrap_or(text).parse::<std::net::IpAddr>().unwrap() {
            std::net::IpAddr::V4(address) => (32, u128::from(u32::from(address))),
            std::net::IpAddr::V6(address) => (128, u128::from(address)),
        }
    };
    let (base, length) = range.split_once('/').unwrap();
    let ((width, address), (width_of_range, base)) = (bits(client), bits(base));
    let length: u8 = length.parse().unwrap();
    width == width_of_range && (length == 0 || address >> (width - length) == base >> (width - length))
}
