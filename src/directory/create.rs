//! Making new objects: each begins as a blank document with an id of its own, which its editor fills.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use ledger::Nano;

use crate::catalogue::Language;
use crate::id::{
    AccountId, ChannelId, GroupId, KeyId, MemberId, ModelId, NoticeEndpointId, OperatorId, OrganizationId,
    PolicyId, PriceId, ProjectId,
};
use crate::keytext;
use crate::secret::Secret;

use super::commands::{Directory, Edit};
use super::decimal;
use super::documents::{
    Account, AccountKind, CapField, Channel, ChannelStatus, Environment, Group, Key, KeyStatus, KeyText,
    Model, ModelStatus, Price, ProviderKind,
};
use super::error::{DirectoryError, Kind};
use super::member::{AccountRole, Member, MemberKind};
use super::notice_endpoint::{EndpointStatus, NoticeEndpoint, NoticeTarget};
use super::operator::{Operator, OperatorRole, Token};
use super::organization::{Organization, Switches};
use super::policy::{Policy, PolicyDocument};
use super::project::{Project, ProjectStatus};
use super::rules::Document;
use super::snapshot::Snapshot;
use super::stored::Versioned;

/// Shortest foreign key that can be imported, in bytes.
const IMPORTED_KEY_BYTES_MIN: usize = 16;

/// What a new key needs beyond its text. The rest is set by the editor.
#[derive(Clone, Copy, Debug)]
pub struct KeyOrder {
    pub account: AccountId,
    pub environment: Environment,
}

/// How a key's present text, and those before it, come to their end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rotation {
    /// Seconds for which the present text works on.
    pub overlap_s: u32,
    /// Ends the texts of earlier rotations now, whatever they were promised.
    pub end_older: bool,
}

/// A key just made. Its text is nowhere else.
#[derive(Debug)]
pub struct CreatedKey {
    pub key: Versioned<Key>,
    pub text: Secret,
}

/// A token just issued. Its text is nowhere else.
#[derive(Debug)]
pub struct CreatedToken {
    pub token: Token,
    pub text: Secret,
}

/// A key that a text belongs to.
#[derive(Clone, Debug)]
pub struct KeyMatch {
    pub key: Arc<Key>,
    /// The text was replaced, and the time for which it went on working is over.
    pub is_replaced: bool,
}

impl Directory {
    /// Makes an account with a project, to which its keys belong that name no other.
    pub fn create_account(
        &self,
        actor: &str,
        edit: Edit<'_, Account>,
    ) -> Result<Versioned<Account>, DirectoryError> {
        let id = self.fresh(AccountId::new, |snapshot, id| snapshot.account(id).is_some());
        let now = self.now()?;
        let project = self.blank_project(id, now);
        let mut account = Account {
            id,
            name: "".into(),
            email: None,
            kind: AccountKind::Personal,
            time_zone: "UTC".into(),
            overdraft: Nano::ZERO,
            callers_see_account_money: None,
            remark: None,
            organization: None,
            switches: Switches::default(),
            low_balance_alert: None,
            invoice: BTreeMap::new(),
            default_project: Some(project.id),
            policies: Vec::new(),
            groups: Vec::new(),
            tasks: None,
            transcripts: None,
            created_at: now,
        };
        edit(&mut account)?;
        if account.default_project != Some(project.id) {
            return Err(DirectoryError::invalid("default_project", "is made with the account"));
        }
        let (account, project) = (Arc::new(account), Arc::new(Project { name: "default".into(), ..project }));
        self.commit(actor, |writer, snapshot| {
            account.check(None, snapshot, now)?;
            let written = writer.put(None, Arc::clone(&account))?;
            let project = writer.put(None, Arc::clone(&project))?;
            Ok((vec![written.change(), project.change()], written))
        })
    }

    pub fn create_model(
        &self,
        actor: &str,
        edit: Edit<'_, Model>,
    ) -> Result<Versioned<Model>, DirectoryError> {
        let id = self.fresh(ModelId::new, |snapshot, id| snapshot.model_by_id(id).is_some());
        self.create(actor, edit, Self::blank_model(id, self.now()?))
    }

    pub(super) fn blank_model(id: ModelId, created_at: Timestamp) -> Model {
        Model {
            id,
            name: "".into(),
            status: ModelStatus::Active,
            endpoints: Vec::new(),
            output_tokens_max: 4_096,
            image_tokens_max: None,
            audio_tokens_max: None,
            audio_seconds_max: None,
            owned_by: "tallygate".into(),
            created_at,
        }
    }

    pub fn create_group(
        &self,
        actor: &str,
        edit: Edit<'_, Group>,
    ) -> Result<Versioned<Group>, DirectoryError> {
        let id = self.fresh(GroupId::new, |snapshot, id| snapshot.group(id).is_some());
        self.create(
            actor,
            edit,
            Group {
                id,
                name: "".into(),
                multiplier_ppm: decimal::PPM,
                models: Vec::new(),
                fallback: Vec::new(),
                limits: Vec::new(),
                created_at: self.now()?,
            },
        )
    }

    pub fn create_organization(
        &self,
        actor: &str,
        edit: Edit<'_, Organization>,
    ) -> Result<Versioned<Organization>, DirectoryError> {
        let id = self.fresh(OrganizationId::new, |snapshot, id| snapshot.organization(id).is_some());
        self.create(
            actor,
            edit,
            Organization {
                id,
                name: "".into(),
                parent: None,
                switches: Switches::default(),
                limits: Vec::new(),
                policies: Vec::new(),
                time_zone: "UTC".into(),
                created_at: self.now()?,
            },
        )
    }

    pub fn create_project(
        &self,
        actor: &str,
        account: AccountId,
        edit: Edit<'_, Project>,
    ) -> Result<Versioned<Project>, DirectoryError> {
        self.create(actor, edit, self.blank_project(account, self.now()?))
    }

    fn blank_project(&self, account: AccountId, created_at: Timestamp) -> Project {
        Project {
            id: self.fresh(ProjectId::new, |snapshot, id| snapshot.project(id).is_some()),
            account,
            name: "".into(),
            status: ProjectStatus::Running,
            arrears: Nano::ZERO,
            limits: Vec::new(),
            policies: Vec::new(),
            created_at,
        }
    }

    pub fn create_member(
        &self,
        actor: &str,
        account: AccountId,
        edit: Edit<'_, Member>,
    ) -> Result<Versioned<Member>, DirectoryError> {
        let id = self.fresh(MemberId::new, |snapshot, id| snapshot.member(id).is_some());
        self.create(
            actor,
            edit,
            Member {
                id,
                account,
                name: "".into(),
                kind: MemberKind::Person,
                email: None,
                role: AccountRole::Developer,
                token: None,
                limits: Vec::new(),
                policies: Vec::new(),
                created_at: self.now()?,
            },
        )
    }

    pub fn create_operator(
        &self,
        actor: &str,
        role: OperatorRole,
        edit: Edit<'_, Operator>,
    ) -> Result<Versioned<Operator>, DirectoryError> {
        let id = self.fresh(OperatorId::new, |snapshot, id| snapshot.operator(id).is_some());
        let created_at = self.now()?;
        self.create(actor, edit, Operator { id, name: "".into(), email: None, role, token: None, created_at })
    }

    /// Gives an operator a new access token; the one before works no more.
    pub fn issue_operator_token(
        &self,
        actor: &str,
        id: OperatorId,
        expires_at: Option<Timestamp>,
    ) -> Result<CreatedToken, DirectoryError> {
        let created = self.new_token("tg-operator-", expires_at)?;
        self.edit(actor, id.raw(), None, &|operator: &mut Operator| {
            operator.token = Some(created.token);
            Ok(())
        })?;
        Ok(created)
    }

    pub fn issue_member_token(
        &self,
        actor: &str,
        id: MemberId,
        expires_at: Option<Timestamp>,
    ) -> Result<CreatedToken, DirectoryError> {
        let created = self.new_token("tg-member-", expires_at)?;
        self.edit(actor, id.raw(), None, &|member: &mut Member| {
            member.token = Some(created.token);
            Ok(())
        })?;
        Ok(created)
    }

    fn new_token(&self, prefix: &str, expires_at: Option<Timestamp>) -> Result<CreatedToken, DirectoryError> {
        let issued_at = self.now()?;
        if expires_at.is_some_and(|end| end <= issued_at) {
            return Err(DirectoryError::invalid("expires_at", "must be in the future"));
        }
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        let text = Secret::new(format!("{prefix}{}", crate::hex::encode(&bytes)));
        Ok(CreatedToken { token: Token { hash: self.hash(&text), issued_at, expires_at }, text })
    }

    /// `account` is `None` for a policy of the operator's.
    pub fn create_policy(
        &self,
        actor: &str,
        account: Option<AccountId>,
        document: &PolicyDocument,
        edit: Edit<'_, Policy>,
    ) -> Result<Versioned<Policy>, DirectoryError> {
        let id = self.fresh(PolicyId::new, |snapshot, id| snapshot.policy(id).is_some());
        let document = document.clone();
        self.create(actor, edit, Policy { id, account, name: "".into(), document, created_at: self.now()? })
    }

    /// `account` is `None` for the operator's own. A webhook has a secret, which is sealed and never shown again.
    pub fn create_notice_endpoint(
        &self,
        actor: &str,
        account: Option<AccountId>,
        target: NoticeTarget,
        secret: Option<&Secret>,
        edit: Edit<'_, NoticeEndpoint>,
    ) -> Result<Versioned<NoticeEndpoint>, DirectoryError> {
        let id = self.fresh(NoticeEndpointId::new, |snapshot, id| snapshot.notice_endpoint(id).is_some());
        let secret = secret.map(|secret| self.seal_webhook_secret(id, secret)).transpose()?;
        self.create(
            actor,
            edit,
            NoticeEndpoint {
                id,
                account,
                name: "".into(),
                target,
                by_member: false,
                secret,
                language: Language::En,
                events: Vec::new(),
                status: EndpointStatus::Enabled,
                created_at: self.now()?,
            },
        )
    }

    /// Adds the next version of a model's price. `effective_at` is now unless `edit` sets it.
    pub fn add_price(
        &self,
        actor: &str,
        model: ModelId,
        edit: Edit<'_, Price>,
    ) -> Result<Versioned<Price>, DirectoryError> {
        let newest = |snapshot: &Snapshot| {
            let prices = snapshot.model_by_id(model).map(|entry| entry.prices.as_slice()).unwrap_or_default();
            prices.iter().map(|price| price.version).max().unwrap_or(0)
        };
        let taken =
            |snapshot: &Snapshot, id| snapshot.models().flat_map(|entry| &entry.prices).any(|p| p.id == id);
        let now = self.now()?;
        let mut price = Self::blank_price(self.fresh(PriceId::new, taken), model, now);
        edit(&mut price)?;
        self.commit(actor, |writer, snapshot| {
            let price = Price { version: newest(snapshot) + 1, ..price.clone() };
            price.check(None, snapshot, now)?;
            let written = writer.put(None, Arc::new(price))?;
            Ok((vec![written.change()], written))
        })
    }

    /// `credentials` are the provider's keys; they are sealed and never shown again.
    pub fn create_channel(
        &self,
        actor: &str,
        credentials: &[Secret],
        edit: Edit<'_, Channel>,
    ) -> Result<Versioned<Channel>, DirectoryError> {
        let id = self.fresh(ChannelId::new, |snapshot, id| snapshot.channel(id).is_some());
        let sealed = self.seal_all(id, credentials)?;
        self.create(actor, edit, Self::blank_channel(id, sealed, self.now()?))
    }

    /// With credentials that are sealed already.
    pub(super) fn blank_channel(id: ChannelId, credentials: Vec<Box<str>>, created_at: Timestamp) -> Channel {
        Channel {
            id,
            name: "".into(),
            provider: ProviderKind::Openai,
            base_url: "".into(),
            credentials,
            models: Default::default(),
            groups: Vec::new(),
            environments: vec![Environment::Live],
            priority: 0,
            weight: 1,
            status: ChannelStatus::Enabled,
            output_cap_field: CapField::MaxCompletionTokens,
            cools_down: true,
            proxy: None,
            concurrency: None,
            requests_per_minute: None,
            cost_share_ppm: None,
            credit: None,
            cost_prices: Default::default(),
            task_api: None,
            created_at,
        }
    }

    pub(super) fn blank_price(id: PriceId, model: ModelId, now: Timestamp) -> Price {
        Price {
            id,
            model,
            version: 0,
            effective_at: now,
            per_million: Default::default(),
            units: Vec::new(),
            per_call: Nano::ZERO,
            created_at: now,
        }
    }

    /// Makes a key. `import` is the text of a foreign key that is to work here as well; without it a text is
    /// drawn. Either way the text is kept as a keyed hash alone.
    pub fn create_key(
        &self,
        actor: &str,
        order: KeyOrder,
        import: Option<Secret>,
        edit: Edit<'_, Key>,
    ) -> Result<CreatedKey, DirectoryError> {
        let text = match import {
            Some(text) => importable(text)?,
            None => self.draw(order.environment),
        };
        let (masked, hash) = (keytext::mask(text.expose()), self.hash(&text));
        if self.snapshot.load().key_by_hash(&hash).is_some() {
            return Err(DirectoryError::NameTaken { field: "import", name: masked });
        }
        let id = self.fresh(KeyId::new, |snapshot, id| snapshot.key(id).is_some());
        let key = self.blank_key(id, order, KeyText { hash, masked: masked.into() })?;
        Ok(CreatedKey { key: self.create(actor, edit, key)?, text })
    }

    /// In the default project of its account.
    fn blank_key(&self, id: KeyId, order: KeyOrder, text: KeyText) -> Result<Key, DirectoryError> {
        let mut key = Key::new(id, order.account, order.environment, text, self.now()?);
        let snapshot = self.snapshot.load();
        key.project = snapshot.account(order.account).and_then(|entry| entry.account.default_project);
        Ok(key)
    }

    /// Gives a key a new text; each old one works on to the end of its overlap.
    pub fn rotate_key(
        &self,
        actor: &str,
        id: KeyId,
        expected: Option<u64>,
        rotation: Rotation,
    ) -> Result<CreatedKey, DirectoryError> {
        let not_found = || DirectoryError::NotFound { kind: Kind::Key, id: id.to_string() };
        let environment = self.snapshot.load().key(id).ok_or_else(not_found)?.environment;
        let text = self.draw(environment);
        let (hash, masked) = (self.hash(&text), keytext::mask(text.expose()));
        let now = self.now()?;
        let until = now.checked_add(jiff::SignedDuration::from_secs(i64::from(rotation.overlap_s)));
        let until =
            until.map_err(|_| DirectoryError::invalid("overlap_seconds", "ends beyond the calendar"))?;
        let key = self.edit(actor, id.raw(), expected, &|key: &mut Key| {
            if key.status == KeyStatus::Revoked {
                return Err(DirectoryError::invalid("key", "is revoked for good: create a new one"));
            }
            if rotation.end_older {
                key.end_replaced(now);
            }
            Ok(key.take_text(KeyText { hash, masked: masked.as_str().into() }, until, now)?)
        })?;
        Ok(CreatedKey { key, text })
    }

    /// Makes many keys of one account in one transaction, such as for an import or a measurement.
    pub fn create_keys(
        &self,
        actor: &str,
        order: KeyOrder,
        count: u32,
        edit: Edit<'_, Key>,
    ) -> Result<Vec<Secret>, DirectoryError> {
        let mut seen = std::collections::HashSet::new();
        let mut made = Vec::new();
        for _ in 0..count {
            let text = self.draw(order.environment);
            let id = self.fresh(KeyId::new, |snapshot, id| snapshot.key(id).is_some() || seen.contains(&id));
            seen.insert(id);
            let text_kept = KeyText { hash: self.hash(&text), masked: keytext::mask(text.expose()).into() };
            let mut key = self.blank_key(id, order, text_kept)?;
            edit(&mut key)?;
            made.push((Arc::new(key), text));
        }
        let now = self.now()?;
        self.commit(actor, |writer, snapshot| {
            let written = made.iter().map(|(key, _)| {
                key.check(None, snapshot, now)?;
                Ok(writer.put(None, Arc::clone(key))?.change())
            });
            Ok((written.collect::<Result<_, DirectoryError>>()?, ()))
        })?;
        Ok(made.into_iter().map(|(_, text)| text).collect())
    }

    pub(super) fn create<D: Document>(
        &self,
        actor: &str,
        edit: Edit<'_, D>,
        mut document: D,
    ) -> Result<Versioned<D>, DirectoryError> {
        let now = self.now()?;
        edit(&mut document)?;
        self.commit(actor, |writer, snapshot| {
            document.check(None, snapshot, now)?;
            let written = writer.put(None, Arc::new(document.clone()))?;
            Ok((vec![written.change()], written))
        })
    }

    fn draw(&self, environment: Environment) -> Secret {
        let environment = match environment {
            Environment::Live => keytext::Environment::Live,
            Environment::Test => keytext::Environment::Test,
        };
        Secret::new(keytext::ApiKey::generate(&*self.entropy, environment).expose())
    }
}

/// A foreign key must be one that a caller can send, and long enough not to be guessed.
fn importable(text: Secret) -> Result<Secret, DirectoryError> {
    let fault = if text.expose().len() < IMPORTED_KEY_BYTES_MIN {
        "must have at least 16 characters"
    } else if !text.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        "must be visible ASCII without blanks"
    } else {
        return Ok(text);
    };
    Err(DirectoryError::invalid("import", fault))
}
