//! The demo's keys. Their texts derive from a secret in the demo's folder, so that a restart prints the same.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::clock::{Entropy, SeededEntropy, SystemEntropy};
use crate::hex;
use crate::keytext::{ApiKey, Environment};
use crate::secret::Secret;

/// In the demo's folder; its presence says that the folder is a demo's.
pub const SEED_FILE: &str = "demo-seed";

/// A key of the demo and what it shows.
#[derive(Clone, Copy, Debug)]
pub struct DemoKey {
    pub name: &'static str,
    pub shows: &'static str,
    /// Which of the demo's accounts it belongs to.
    pub account: DemoAccount,
    pub environment: Environment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoAccount {
    /// Has plenty.
    Funded,
    /// Never had anything.
    Empty,
    /// Has less than a call costs.
    Low,
    /// Has plenty, and its API service is switched off.
    Suspended,
    ViewOnly,
    /// Stands under an organization that is switched off.
    UnderSuspended,
    /// Of the kind that makes no model calls until somebody lets it.
    Education,
}

const fn live(name: &'static str, account: DemoAccount, shows: &'static str) -> DemoKey {
    DemoKey { name, shows, account, environment: Environment::Live }
}

pub const KEYS: [DemoKey; 30] = [
    live("healthy", DemoAccount::Funded, "a call that works, and what it cost"),
    live("empty_balance", DemoAccount::Empty, "402 balance_exhausted"),
    live("low_balance", DemoAccount::Low, "402 balance_insufficient: available, needed, short by"),
    live("key_budget_spent", DemoAccount::Funded, "402 key_budget_exhausted: the month's limit of the key"),
    live("daily_spend", DemoAccount::Funded, "402 key_budget_exhausted: the day's limit of the key"),
    live("member_budget_spent", DemoAccount::Funded, "402 member_budget_exhausted"),
    live("project_budget_spent", DemoAccount::Funded, "402 project_budget_exhausted"),
    live("group_quota_spent", DemoAccount::Funded, "402 group_quota_exhausted"),
    live("qps_one", DemoAccount::Funded, "429 rate_limit_requests at the second call within a second"),
    live(
        "concurrency_one",
        DemoAccount::Funded,
        "429 concurrency_limit while a call of it runs (try demo-slow)",
    ),
    live("daily_zero", DemoAccount::Funded, "429 daily_calls_exhausted: 0, the default, blocks"),
    live("daily_spent", DemoAccount::Funded, "429 daily_calls_exhausted: the one call of the day is made"),
    live("revoked", DemoAccount::Funded, "401 key_revoked"),
    live("disabled", DemoAccount::Funded, "403 key_disabled: since when, and by whom"),
    live("pending_review", DemoAccount::Funded, "403 key_pending_review"),
    live("risk_frozen", DemoAccount::Funded, "403 key_risk_frozen, with the reason"),
    live("expired", DemoAccount::Funded, "403 key_expired"),
    live("outside_schedule", DemoAccount::Funded, "403 key_outside_schedule, with the next opening"),
    live("ip_denied", DemoAccount::Funded, "403 key_ip_not_allowed, with the caller's own address"),
    live("account_suspended", DemoAccount::Suspended, "403 account_suspended: set at the account itself"),
    live("account_view_only", DemoAccount::ViewOnly, "403 account_view_only"),
    live(
        "org_suspended",
        DemoAccount::UnderSuspended,
        "403 account_suspended: set at the organization above",
    ),
    live("education_default", DemoAccount::Education, "403 model_calls_suspended: the default of education"),
    live("project_paused", DemoAccount::Funded, "403 project_paused"),
    live("project_arrears", DemoAccount::Funded, "403 project_in_arrears"),
    live(
        "no_permission",
        DemoAccount::Funded,
        "403 permission_denied_implicit: its policy has embeddings alone",
    ),
    live("explicit_deny", DemoAccount::Funded, "403 permission_denied_explicit, with policy and statement"),
    live(
        "model_not_allowed",
        DemoAccount::Funded,
        "403 model_not_allowed_for_key: the key is for deepseek-chat",
    ),
    live("group_without_model", DemoAccount::Funded, "403 model_not_in_group: its group has DeepSeek alone"),
    DemoKey {
        name: "test_env",
        shows: "a test key: test books, no real money",
        account: DemoAccount::Funded,
        environment: Environment::Test,
    },
];

/// The secret of a demo folder.
pub struct Seed([u8; 32]);

impl Seed {
    /// Reads the folder's seed, or makes one. Says whether it was made.
    pub fn load_or_make(dir: &Path) -> io::Result<(Self, bool)> {
        let path = dir.join(SEED_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let seed = hex::decode::<32>(text.trim());
                let seed =
                    seed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a demo's seed"))?;
                Ok((Seed(seed), false))
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                SystemEntropy::new().fill(&mut seed);
                let mut file =
                    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                io::Write::write_all(&mut file, hex::encode(&seed).as_bytes())?;
                Ok((Seed(seed), true))
            }
            Err(why) => Err(why),
        }
    }

    pub fn key(&self, key: &DemoKey) -> Secret {
        Secret::new(ApiKey::generate(&self.entropy(key.name), key.environment).expose())
    }

    /// The token of the management interface.
    pub fn admin_token(&self) -> Secret {
        let mut bytes = [0; 24];
        self.entropy("admin token").fill(&mut bytes);
        Secret::new(format!("tg-admin-{}", hex::encode(&bytes)))
    }

    fn entropy(&self, purpose: &str) -> SeededEntropy {
        SeededEntropy::new(&[&self.0, purpose.as_bytes()].concat())
    }
}
