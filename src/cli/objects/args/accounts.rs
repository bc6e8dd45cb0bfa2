//! Accounts, their switches, and what their invoices need.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Body, put, put_found, put_or_clear};
use crate::cli::Failure;

#[derive(Debug, Subcommand)]
pub enum Accounts {
    /// Every account.
    List,
    /// One account, by id or e-mail.
    Show { account: String },
    /// What an account has, lot by lot.
    Balance {
        /// Id or e-mail.
        account: String,
        /// The test books instead of the live ones.
        #[arg(long)]
        test: bool,
    },
    /// What its calls cost: gross, refunds and net.
    Costs(crate::cli::reports::CostsArgs),
    /// Make an account.
    Create {
        #[arg(long)]
        name: String,
        #[command(flatten)]
        fields: AccountFields,
    },
    /// Change what is named of an account.
    Edit {
        /// Id or e-mail.
        account: String,
        #[arg(long)]
        name: Option<String>,
        /// Refuse if the account is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: AccountFields,
    },
}

#[derive(Debug, Args)]
pub struct AccountFields {
    /// Address of its owner; none clears it.
    #[arg(long)]
    email: Option<String>,
    /// personal, enterprise or education.
    #[arg(long)]
    kind: Option<String>,
    /// IANA time zone in which its days and months begin.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// How far below zero the balance may go.
    #[arg(long, value_name = "AMOUNT")]
    overdraft: Option<String>,
    /// Whether refusals show callers its amounts: true or false.
    #[arg(long, value_name = "BOOL")]
    callers_see_account_money: Option<bool>,
    /// Note of the operator; none clears it.
    #[arg(long)]
    remark: Option<String>,
    /// Tell when the balance falls below this; none: never.
    #[arg(long, value_name = "AMOUNT")]
    low_balance_alert: Option<String>,
    /// What its invoices (发票) need, such as title=… and tax_number=…; replaces all; none clears them.
    #[arg(long, value_name = "NAME=TEXT")]
    invoice: Vec<String>,
    /// Id or name of the organization that it stands under; none clears it.
    #[arg(long)]
    organization: Option<String>,
    /// A group, by id or name, that its members may put keys into; replaces all; none takes all back.
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    #[command(flatten)]
    switches: SwitchFields,
}

/// The switches of an account or an organization: on, view_only, suspended, or default.
#[derive(Debug, Args)]
pub struct SwitchFields {
    /// Every call; goes with --model-calls.
    #[arg(long, value_name = "SWITCH", requires = "model_calls")]
    api_service: Option<String>,
    /// Model calls; goes with --api-service.
    #[arg(long, value_name = "SWITCH", requires = "api_service")]
    model_calls: Option<String>,
}

impl SwitchFields {
    pub fn put(self, body: &mut Body) {
        if let (Some(api_service), Some(model_calls)) = (self.api_service, self.model_calls) {
            let [api_service, model_calls] =
                [api_service, model_calls].map(|text| Some(text).filter(|text| text != "default"));
            let switches = json!({"api_service": api_service, "model_calls": model_calls});
            put(body, "switches", Some(switches));
        }
    }
}

impl AccountFields {
    pub fn body(
        self,
        organization: impl Fn(&str) -> Result<String, Failure>,
        group: impl Fn(&str) -> Result<String, Failure>,
    ) -> Result<Body, Failure> {
        let mut body = Body::new();
        put_or_clear(&mut body, "email", self.email);
        put(&mut body, "kind", self.kind);
        put(&mut body, "time_zone", self.time_zone);
        put(&mut body, "overdraft", self.overdraft);
        put(&mut body, "callers_see_account_money", self.callers_see_account_money);
        put_or_clear(&mut body, "remark", self.remark);
        put_or_clear(&mut body, "low_balance_alert", self.low_balance_alert);
        put(&mut body, "invoice", invoice(&self.invoice)?);
        put_found(&mut body, "organization", self.organization, organization)?;
        if !self.group.is_empty() {
            let named = self.group.iter().filter(|named| *named != "none").map(|named| group(named));
            body.insert("groups".into(), named.collect::<Result<Vec<_>, _>>()?.into());
        }
        self.switches.put(&mut body);
        Ok(body)
    }
}

/// `None`: nothing was said about it.
fn invoice(said: &[String]) -> Result<Option<Body>, Failure> {
    let fields = said.iter().filter(|field| *field != "none").map(|field| {
        let (name, text) = field
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--invoice: {field} is no NAME=TEXT")))?;
        Ok((name.to_owned(), Value::from(text)))
    });
    let fields: Result<Body, Failure> = fields.collect();
    Ok((!said.is_empty()).then_some(fields?))
}
