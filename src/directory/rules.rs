//! What a document must be before it is kept, beyond its shape: one function for each kind, for a new
//! document and for a changed one alike.

use std::sync::Arc;

use jiff::Timestamp;
use ledger::TokenClass;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::gateway::upstream::Target;
use crate::id::AccountId;

use super::checks;
use super::documents::{Account, Allowance, Channel, Group, Key, KeyStatus, Model, Price};
use super::error::{FieldError, Kind};
use super::limit::{self, Holder};
use super::policy;
use super::rate;
use super::snapshot::{Object, Snapshot};

/// A thousand times the list price: beyond that a multiplier is a slip of the pen.
const MULTIPLIER_PPM_MAX: u64 = 1_000_000_000;
const OUTPUT_TOKENS_MAX: u32 = 10_000_000;
const ALLOWANCES_MAX: usize = 64;
const ACCOUNT_POLICIES_MAX: usize = 64;
const ACCOUNT_GROUPS_MAX: usize = 64;
/// Groups that may stand in for one.
const FALLBACK_GROUPS_MAX: usize = 8;
const CHANNEL_MODELS_MAX: usize = 2_000;

/// A name that no two objects share: its space, the field that it stands in, and the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueName {
    pub space: &'static str,
    pub field: &'static str,
    pub name: String,
}

impl UniqueName {
    pub(super) fn new(space: &'static str, field: &'static str, name: impl Into<String>) -> Self {
        UniqueName { space, field, name: name.into() }
    }
}

/// Whose a document is, and so who may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The operator's alone.
    Operator,
    /// The operator's, and no secret.
    Everybody,
    Account(AccountId),
}

/// A document of the directory, whatever its kind.
pub trait Document: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    const KIND: Kind;

    fn raw_id(&self) -> u64;
    fn owner(&self) -> Owner;
    /// Names that must be free, or already this object's.
    fn unique_names(&self) -> Vec<UniqueName>;
    /// `before` is the document as it is kept now, if it is.
    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, now: Timestamp) -> Result<(), FieldError>;
    fn into_object(self: Arc<Self>) -> Object;
}

pub(super) fn unchanged<T: PartialEq>(field: &str, before: Option<&T>, now: &T) -> Result<(), FieldError> {
    match before {
        Some(before) if before != now => Err(FieldError::new(field, "cannot be changed")),
        _ => Ok(()),
    }
}

pub(super) fn present<T>(
    field: impl Into<String>,
    found: Option<T>,
    id: impl std::fmt::Display,
) -> Result<(), FieldError> {
    match found {
        Some(_) => Ok(()),
        None => Err(FieldError::new(field, format!("there is no {id}"))),
    }
}

impl Document for Account {
    const KIND: Kind = Kind::Account;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Account(self.id)
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        let email =
            self.email.iter().map(|email| UniqueName::new("account_email", "email", email.to_lowercase()));
        email.collect()
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        // A new account's own is made with it.
        if let Some(project) = self.default_project.filter(|_| before.is_some()) {
            let own = snapshot.project(project).filter(|project| project.account == self.id);
            present("default_project", own, project)?;
        }
        if let Some(organization) = self.organization {
            present("organization", snapshot.organization(organization), organization)?;
        }
        self.email.iter().try_for_each(|email| checks::email("email", email))?;
        checks::time_zone("time_zone", &self.time_zone)?;
        checks::not_negative("overdraft", self.overdraft)?;
        self.low_balance_alert.iter().try_for_each(|at| checks::not_negative("low_balance_alert", *at))?;
        checks::invoice("invoice", &self.invoice)?;
        if self.policies.len() > ACCOUNT_POLICIES_MAX {
            return Err(FieldError::new("policies", "are more than 64"));
        }
        checks::distinct("policies", &self.policies)?;
        self.check_groups(snapshot)?;
        self.tasks.iter().try_for_each(|terms| terms.check("tasks"))?;
        for (at, given) in self.policies.iter().enumerate() {
            policy::check_one(&format!("policies[{at}].policy"), given.policy, Some(self.id), snapshot)?;
        }
        self.remark.iter().try_for_each(|remark| checks::remark("remark", remark))
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Account(self)
    }
}

impl Document for Key {
    const KIND: Kind = Kind::Key;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Account(self.account)
    }

    /// The hash of a key's text is looked up in the snapshot instead: a second table of a million hashes
    /// would guard against a chance of one in 2^200.
    fn unique_names(&self) -> Vec<UniqueName> {
        Vec::new()
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        unchanged("account", before.map(|before| &before.account), &self.account)?;
        unchanged("environment", before.map(|before| &before.environment), &self.environment)?;
        // A text changes by a rotation alone, which keeps the one before.
        let replaced = self.previous.as_ref().map(|previous| &previous.hash);
        if before.is_some_and(|before| before.hash != self.hash && replaced != Some(&before.hash)) {
            return Err(FieldError::new("key", "cannot be changed"));
        }
        let account = snapshot.account(self.account);
        present("account", account, self.account)?;
        if let Some(group) = self.group {
            present("group", snapshot.group(group), group)?;
        }
        match self.project {
            Some(project) => {
                let own = snapshot.project(project).filter(|project| project.account == self.account);
                present("project", own, project)?;
            }
            None if account.is_some_and(|entry| entry.account.default_project.is_some()) => {
                return Err(FieldError::new("project", "is missing: every key belongs to one"));
            }
            None => {}
        }
        if let Some(member) = self.member {
            let own = snapshot.member(member).filter(|member| member.account == self.account);
            present("member", own, member)?;
        }
        if before.is_some_and(|before| before.status == KeyStatus::Revoked)
            && self.status != KeyStatus::Revoked
        {
            return Err(FieldError::new("status", "a revoked key stays revoked: create a new one"));
        }
        if let Some(text) = self.status_note.as_ref().and_then(|note| note.text.as_deref()) {
            checks::remark("status_text", text)?;
        }
        self.schedule.iter().try_for_each(|schedule| schedule.check("schedule"))?;
        checks::ip_ranges("ip_ranges", &self.ip_ranges)?;
        limit::check(&self.limits, Holder::Key, snapshot)?;
        rate::check(&self.rates)?;
        self.tasks.iter().try_for_each(|terms| terms.check("tasks"))?;
        policy::check_attached("policies", &self.policies, Some(self.account), snapshot)?;
        allowed(&self.allowed)
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Key(self)
    }
}

fn allowed(allowed: &[Allowance]) -> Result<(), FieldError> {
    if allowed.len() > ALLOWANCES_MAX {
        return Err(FieldError::new("allowed", "are more than 64"));
    }
    for (at, allowance) in allowed.iter().enumerate() {
        if allowance.endpoints.is_empty() && allowance.models.is_empty() {
            let reason = "names neither an endpoint nor a model: leave the list empty to allow all";
            return Err(FieldError::new(format!("allowed[{at}]"), reason));
        }
        checks::endpoints(&format!("allowed[{at}].endpoints"), &allowance.endpoints)?;
        checks::model_patterns(&format!("allowed[{at}].models"), &allowance.models)?;
    }
    Ok(())
}

impl Document for Model {
    const KIND: Kind = Kind::Model;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Everybody
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        vec![UniqueName::new("model", "name", &*self.name)]
    }

    fn check(&self, before: Option<&Self>, _: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::token("name", &self.name)?;
        // Channels, policies and old receipts speak of a model by its name.
        unchanged("name", before.map(|before| &before.name), &self.name)?;
        checks::name("owned_by", &self.owned_by)?;
        checks::endpoints("endpoints", &self.endpoints)?;
        let counts = [
            ("output_tokens_max", Some(self.output_tokens_max)),
            ("image_tokens_max", self.image_tokens_max),
            ("audio_tokens_max", self.audio_tokens_max),
            ("audio_seconds_max", self.audio_seconds_max),
        ];
        for (field, count) in counts {
            if count.is_some_and(|count| count == 0 || count > OUTPUT_TOKENS_MAX) {
                return Err(FieldError::new(field, "must be from 1 to 10,000,000"));
            }
        }
        Ok(())
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Model(self)
    }
}

impl Document for Price {
    const KIND: Kind = Kind::Price;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Everybody
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        Vec::new()
    }

    fn check(&self, before: Option<&Self>, snapshot: &Snapshot, now: Timestamp) -> Result<(), FieldError> {
        if before.is_some() {
            return Err(FieldError::new("id", "a price version never changes: add a new one"));
        }
        present("model", snapshot.model_by_id(self.model), self.model)?;
        if self.effective_at < now {
            return Err(FieldError::new("effective_at", "must not be in the past"));
        }
        checks::not_negative("per_call", self.per_call)?;
        self.check_units()?;
        let needs_tokens =
            self.sells_tokens() || (self.units.is_empty() && self.per_call == ledger::Nano::ZERO);
        for (class, price) in TokenClass::ALL.iter().zip(&self.per_million) {
            let field = format!("per_million.{}", class.as_str());
            match price {
                Some(price) => checks::not_negative(&field, *price)?,
                None if needs_tokens && matches!(class, TokenClass::Input | TokenClass::Output) => {
                    return Err(FieldError::new(
                        field,
                        "is missing: a price of tokens has one for input and one for output",
                    ));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Price(self)
    }
}

impl Document for Channel {
    const KIND: Kind = Kind::Channel;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Operator
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        vec![UniqueName::new("channel", "name", &*self.name)]
    }

    fn check(&self, _: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        checks::base_url("base_url", &self.base_url)?;
        if let Some(proxy) = &self.proxy {
            checks::base_url("proxy", proxy)?;
            if Target::parse_via(&self.base_url, proxy).is_err() {
                let reason = "must be http://host:port of an HTTP proxy, without a path or a password";
                return Err(FieldError::new("proxy", reason));
            }
        }
        if let Some(credit) = &self.credit {
            credit.check()?;
        }
        if self.models.is_empty() || self.models.len() > CHANNEL_MODELS_MAX {
            return Err(FieldError::new("models", "must name from 1 to 2,000 models"));
        }
        for (asked, sent) in &self.models {
            let field = format!("models.{asked}");
            present(&field, snapshot.model(asked), format_args!("model {asked}"))?;
            checks::token(&field, sent)?;
        }
        checks::distinct("groups", &self.groups)?;
        for (at, group) in self.groups.iter().enumerate() {
            present(format!("groups[{at}]"), snapshot.group(*group), group)?;
        }
        for (model, price) in &self.cost_prices {
            let field = format!("cost_prices.{model}");
            present(&field, self.models.get(model), format_args!("model {model} of the channel"))?;
            checks::not_negative(&field, price.per_call)?;
        }
        if let Some(api) = &self.task_api {
            api.check("task_api")?;
        }
        checks::distinct("environments", &self.environments)?;
        match self.environments.is_empty() {
            true => Err(FieldError::new("environments", "must name at least one of live and test")),
            false => Ok(()),
        }
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Channel(self)
    }
}

impl Account {
    fn check_groups(&self, snapshot: &Snapshot) -> Result<(), FieldError> {
        if self.groups.len() > ACCOUNT_GROUPS_MAX {
            return Err(FieldError::new("groups", "are more than 64"));
        }
        checks::distinct("groups", &self.groups)?;
        for (at, group) in self.groups.iter().enumerate() {
            present(format!("groups[{at}]"), snapshot.group(*group), group)?;
        }
        Ok(())
    }
}

impl Group {
    fn check_fallback(&self, snapshot: &Snapshot) -> Result<(), FieldError> {
        if self.fallback.len() > FALLBACK_GROUPS_MAX {
            return Err(FieldError::new("fallback", "must not name more than 8 groups"));
        }
        checks::distinct("fallback", &self.fallback)?;
        for (at, group) in self.fallback.iter().enumerate() {
            present(format!("fallback[{at}]"), snapshot.group(*group), group)?;
            if *group == self.id {
                return Err(FieldError::new(format!("fallback[{at}]"), "is the group itself"));
            }
        }
        Ok(())
    }
}

impl Document for Group {
    const KIND: Kind = Kind::Group;

    fn raw_id(&self) -> u64 {
        self.id.raw()
    }

    fn owner(&self) -> Owner {
        Owner::Everybody
    }

    fn unique_names(&self) -> Vec<UniqueName> {
        vec![UniqueName::new("group", "name", &*self.name)]
    }

    fn check(&self, _: Option<&Self>, snapshot: &Snapshot, _: Timestamp) -> Result<(), FieldError> {
        checks::name("name", &self.name)?;
        checks::model_patterns("models", &self.models)?;
        self.check_fallback(snapshot)?;
        limit::check(&self.limits, Holder::Several, snapshot)?;
        match self.multiplier_ppm > MULTIPLIER_PPM_MAX {
            true => Err(FieldError::new("multiplier", "must not be more than 1000")),
            false => Ok(()),
        }
    }

    fn into_object(self: Arc<Self>) -> Object {
        Object::Group(self)
    }
}
