//! Keys.

use clap::{Args, Subcommand};
use serde_json::json;

use super::limits::{LimitFields, rate};
use super::{Body, put, put_found, put_or_clear};
use crate::cli::Failure;

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Every key.
    List {
        /// Only keys of this account, by id or e-mail.
        #[arg(long)]
        account: Option<String>,
    },
    /// One key with the use of its limits.
    Show { key: String },
    /// Make a key. Its text is printed this once.
    Create {
        /// Id or e-mail of the account that pays.
        account: String,
        #[arg(long)]
        name: String,
        /// A test key: test books, and only channels for tests.
        #[arg(long)]
        test: bool,
        /// Take the key of another product from this environment variable.
        #[arg(long, value_name = "NAME", conflicts_with = "import_stdin")]
        import_env: Option<String>,
        /// Take the key of another product from the standard input.
        #[arg(long)]
        import_stdin: bool,
        #[command(flatten)]
        fields: KeyFields,
    },
    /// Change what is named of a key.
    Edit {
        key: String,
        #[arg(long)]
        name: Option<String>,
        /// Refuse if the key is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: KeyFields,
    },
    /// Give a key a new text, printed this once; the old ones work on to the end of their overlaps.
    Rotate {
        key: String,
        /// How long the present text works on; default: a day.
        #[arg(long, value_name = "SECONDS")]
        overlap_seconds: Option<u32>,
        /// End the texts of earlier rotations now, whatever overlap they were given.
        #[arg(long)]
        end_older: bool,
    },
    /// What happened to a key, newest first.
    Log { key: String },
    /// Revoke a key, for ever.
    Revoke { key: String },
}

#[derive(Debug, Args)]
pub struct KeyFields {
    /// Id or name of its group; none clears it.
    #[arg(long)]
    group: Option<String>,
    /// Id of its project; none clears it.
    #[arg(long)]
    project: Option<String>,
    /// Id of the member or service account whose key it is; none clears it.
    #[arg(long)]
    member: Option<String>,
    #[command(flatten)]
    limits: LimitFields,
    /// How fast it may be used: qps=5, tpm=10000, concurrency=2. Replaces all; repeat it for several.
    #[arg(long = "rate", value_name = "METRIC=N")]
    rates: Vec<String>,
    /// Take all rates away.
    #[arg(long, conflicts_with = "rates")]
    no_rates: bool,
    /// Id of a policy of the key. Replaces all; repeat it for several.
    #[arg(long = "policy", value_name = "ID")]
    policies: Vec<String>,
    /// Take all policies away.
    #[arg(long, conflicts_with = "policies")]
    no_policies: bool,
    /// The key may use this model only, or those beginning so: gpt-*. Repeat it for several.
    #[arg(long = "allow-model", value_name = "NAME")]
    models: Vec<String>,
    /// The key may use this endpoint only: chat/completions. Repeat it for several.
    #[arg(long = "allow-endpoint", value_name = "PATH")]
    endpoints: Vec<String>,
    /// The key may use every model of its group at every endpoint.
    #[arg(long, conflicts_with_all = ["models", "endpoints"])]
    allow_all: bool,
}

impl KeyFields {
    pub fn body(self, group: impl Fn(&str) -> Result<String, Failure>) -> Result<Body, Failure> {
        let mut body = Body::new();
        put_found(&mut body, "group", self.group, group)?;
        put_or_clear(&mut body, "project", self.project);
        put_or_clear(&mut body, "member", self.member);
        self.limits.put(&mut body)?;
        if self.no_rates || !self.rates.is_empty() {
            let rates: Result<Vec<_>, _> = self.rates.iter().map(|text| rate(text)).collect();
            put(&mut body, "rates", Some(rates?));
        }
        if self.no_policies || !self.policies.is_empty() {
            put(&mut body, "policies", Some(self.policies));
        }
        if self.allow_all {
            put(&mut body, "allowed", Some(json!([])));
        } else if !self.models.is_empty() || !self.endpoints.is_empty() {
            let allowed = json!([{"models": self.models, "endpoints": self.endpoints}]);
            put(&mut body, "allowed", Some(allowed));
        }
        Ok(body)
    }
}
