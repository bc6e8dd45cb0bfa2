//! What the commands on objects take, and the bodies that this makes.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::Failure;

type Body = Map<String, Value>;

/// Sets a field if something was said about it.
pub fn put(body: &mut Body, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

/// The same where the word `none` clears the field.
pub fn put_or_clear(body: &mut Body, name: &str, value: Option<String>) {
    put(body, name, value.map(|value| if value == "none" { Value::Null } else { Value::String(value) }));
}

/// The same for an object that is named by an id or by something else.
pub fn put_found(
    body: &mut Body,
    name: &str,
    value: Option<String>,
    find: impl Fn(&str) -> Result<String, Failure>,
) -> Result<(), Failure> {
    match value.as_deref() {
        None => {}
        Some("none") => put(body, name, Some(Value::Null)),
        Some(text) => put(body, name, Some(find(text)?)),
    }
    Ok(())
}

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
    Costs(crate::cli::statement::CostsArgs),
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
    pub fn body(self, organization: impl Fn(&str) -> Result<String, Failure>) -> Result<Body, Failure> {
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
    /// Give a key a new text, printed this once; the old one works on for a while.
    Rotate {
        key: String,
        /// How long the old text works on; default: a day.
        #[arg(long, value_name = "SECONDS")]
        overlap_seconds: Option<u32>,
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

/// The limits of anything that has some.
#[derive(Debug, Args)]
pub struct LimitFields {
    /// Spend: day=5.00, month=…, total=…; a key's calls per day: calls=100; of one model: day@MODEL=1.00,
    /// calls@MODEL=10. 0 blocks. Replaces all limits; repeat it for several.
    #[arg(long = "limit", value_name = "WINDOW=AMOUNT")]
    limits: Vec<String>,
    /// Who set the limits, as refusals tell: owner, operator, default or organization.
    #[arg(long, value_name = "WHO", requires = "limits")]
    limit_origin: Option<String>,
    /// Take all limits away.
    #[arg(long, conflicts_with = "limits")]
    no_limits: bool,
}

impl LimitFields {
    pub fn put(&self, body: &mut Body) -> Result<(), Failure> {
        if self.no_limits || !self.limits.is_empty() {
            let origin = self.limit_origin.as_deref().unwrap_or("operator");
            let limits: Result<Vec<_>, _> = self.limits.iter().map(|text| limit(text, origin)).collect();
            put(body, "limits", Some(limits?));
        }
        Ok(())
    }
}

fn limit(text: &str, origin: &str) -> Result<Value, Failure> {
    let expected =
        || Failure::usage(format!("--limit {text}: expected WINDOW=AMOUNT or WINDOW@MODEL=AMOUNT"));
    let (what, value) = text.split_once('=').ok_or_else(expected)?;
    let (window, model) = match what.split_once('@') {
        Some((window, model)) => (window, Some(model)),
        None => (what, None),
    };
    let (metric, window) = if window == "calls" { ("calls", "day") } else { ("spend", window) };
    Ok(json!({"metric": metric, "window": window, "model": model, "value": value, "origin": origin}))
}

fn rate(text: &str) -> Result<Value, Failure> {
    let read = text.split_once('=').and_then(|(metric, value)| Some((metric, value.parse::<u64>().ok()?)));
    let (metric, value) =
        read.ok_or_else(|| Failure::usage(format!("--rate {text}: expected qps=N, tpm=N or concurrency=N")))?;
    let metric = match metric {
        "qps" => "requests_per_second",
        "tpm" => "tokens_per_minute",
        other => other,
    };
    Ok(json!({"metric": metric, "value": value}))
}

#[derive(Debug, Subcommand)]
pub enum Models {
    /// Every model.
    List,
    /// One model, by id or name.
    Show { model: String },
    /// Make a model; it can be called once it has a price and a channel.
    Create {
        /// As callers name it.
        name: String,
        #[command(flatten)]
        fields: ModelFields,
    },
    /// Change what is named of a model.
    Edit {
        /// Id or name.
        model: String,
        /// Refuse if the model is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: ModelFields,
    },
}

#[derive(Debug, Args)]
pub struct ModelFields {
    /// active or retired.
    #[arg(long)]
    status: Option<String>,
    /// Where it works: chat/completions, embeddings … Repeat it for several; replaces them all.
    #[arg(long = "endpoint", value_name = "PATH")]
    endpoints: Vec<String>,
    /// Output tokens of one choice, at the most.
    #[arg(long, value_name = "TOKENS")]
    output_tokens_max: Option<u32>,
    /// Tokens of one image part, at the most.
    #[arg(long, value_name = "TOKENS")]
    image_tokens_max: Option<u32>,
    /// Tokens of one audio part, at the most.
    #[arg(long, value_name = "TOKENS")]
    audio_tokens_max: Option<u32>,
    /// Seconds of one recording, at the most.
    #[arg(long, value_name = "SECONDS")]
    audio_seconds_max: Option<u32>,
    /// As the model list shows it.
    #[arg(long, value_name = "NAME")]
    owned_by: Option<String>,
}

impl ModelFields {
    pub fn body(self) -> Body {
        let mut body = Body::new();
        put(&mut body, "status", self.status);
        put(&mut body, "endpoints", (!self.endpoints.is_empty()).then_some(self.endpoints));
        put(&mut body, "output_tokens_max", self.output_tokens_max);
        put(&mut body, "image_tokens_max", self.image_tokens_max);
        put(&mut body, "audio_tokens_max", self.audio_tokens_max);
        put(&mut body, "audio_seconds_max", self.audio_seconds_max);
        put(&mut body, "owned_by", self.owned_by);
        body
    }
}

#[derive(Debug, Subcommand)]
pub enum Channels {
    /// Every channel.
    List,
    /// One channel, by id or name.
    Show { channel: String },
    /// Make a channel. Its credential is read from --credential-env, else from the standard input.
    Create {
        #[arg(long)]
        name: String,
        /// Name of the environment variable that holds the provider's key. Repeat it for several keys.
        #[arg(long, value_name = "NAME")]
        credential_env: Vec<String>,
        #[command(flatten)]
        fields: ChannelFields,
    },
    /// Make models, prices and channels of the lines of a file: all of them or none.
    ///
    /// Each line is a JSON object with "kind" (model, price or channel) and the fields of the API's route. A channel
    /// may name an environment variable for its key: "credential_env".
    Import {
        file: std::path::PathBuf,
        /// Check everything and keep nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// How each channel does in the running server: what rests, why and until when.
    Health,
    /// Send one tiny real call through a channel. No account is charged for it.
    Test {
        /// Id or name.
        channel: String,
        /// A model that it serves, as callers name it; default: the first.
        #[arg(long)]
        model: Option<String>,
        /// Number of the provider's key to use; default: 1.
        #[arg(long)]
        credential: Option<u32>,
    },
    /// What credentials are sealed with, and what no master key at hand can open.
    MasterKey,
    /// Turn to a new master key and seal everything anew, while calls go on. Interrupted, it goes on at the next run.
    ///
    /// A key of the file in the data directory is made and replaced by itself. Where the configuration names the key,
    /// make the new one with `openssl rand -hex 32`, give it here, and put it in the configuration before the next start.
    RotateMasterKey {
        /// Name of the environment variable that holds the new key.
        #[arg(long, value_name = "NAME", conflicts_with = "key_stdin")]
        key_env: Option<String>,
        /// Read the new key from the standard input.
        #[arg(long)]
        key_stdin: bool,
    },
    /// End a rotation: the old master key opens nothing any more, and may be destroyed.
    ForgetOldMasterKey,
    /// Begin with another master key when the right one is lost for good. No server may run.
    ///
    /// Without --yes it only tells what must be entered anew.
    RenounceMasterKey {
        #[arg(long)]
        yes: bool,
    },
    /// Change what is named of a channel.
    Edit {
        /// Id or name.
        channel: String,
        #[arg(long)]
        name: Option<String>,
        /// Replace the provider's keys by what this environment variable holds. Repeat it for several keys.
        #[arg(long, value_name = "NAME", conflicts_with = "credential_stdin")]
        credential_env: Vec<String>,
        /// Replace the provider's keys by what the standard input holds.
        #[arg(long)]
        credential_stdin: bool,
        /// Refuse if the channel is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: ChannelFields,
    },
}

#[derive(Debug, Args)]
pub struct ChannelFields {
    /// Up to and including the version segment: https://host/v1
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// A model that it serves, as callers name it, or ASKED=SENT. Replaces all; repeat it for several.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Id or name of a group that may use it; none given: every group. Replaces all.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// live, test or live,test.
    #[arg(long, value_delimiter = ',', value_name = "ENVIRONMENTS")]
    environments: Vec<String>,
    /// Higher is tried first.
    #[arg(long, allow_hyphen_values = true)]
    priority: Option<i32>,
    /// Its share of the calls among channels of the same priority; 0: only where no other of them can.
    #[arg(long)]
    weight: Option<u32>,
    /// enabled or disabled.
    #[arg(long)]
    status: Option<String>,
    /// max_completion_tokens or max_tokens.
    #[arg(long, value_name = "FIELD")]
    output_cap_field: Option<String>,
    /// false: it is tried whatever happened before.
    #[arg(long, value_name = "BOOL")]
    cools_down: Option<bool>,
    /// HTTP proxy through which it is reached, http://host:port, or none.
    #[arg(long, value_name = "URL|none")]
    proxy: Option<String>,
    /// Calls at a time of one process, or none for no limit.
    #[arg(long, value_name = "COUNT|none")]
    concurrency: Option<String>,
    /// Calls in a minute of one process, or none for no limit.
    #[arg(long, value_name = "COUNT|none")]
    requests_per_minute: Option<String>,
    /// What it bills, as a share of the models' prices, or none if nobody knows.
    #[arg(long, value_name = "SHARE|none")]
    cost_share: Option<String>,
    /// How its upstream tells what is left of the platform's credit: deepseek_balance, openrouter_credits,
    /// billing_subscription, json, or none.
    #[arg(long, value_name = "SOURCE|none")]
    credit_source: Option<String>,
    /// Tell operators when less is left, in the upstream's currency.
    #[arg(long, value_name = "AMOUNT", requires = "credit_source")]
    credit_alert_below: Option<String>,
    /// Of the source json: the path behind the host.
    #[arg(long, value_name = "PATH", requires = "credit_source")]
    credit_path: Option<String>,
    /// Of the source json: where the amount stands in the answer, such as /data/balance.
    #[arg(long, value_name = "POINTER", requires = "credit_source")]
    credit_pointer: Option<String>,
}

impl ChannelFields {
    pub fn body(self, group: impl Fn(&str) -> Result<String, Failure>) -> Result<Body, Failure> {
        let mut body = Body::new();
        put(&mut body, "base_url", self.base_url);
        if !self.models.is_empty() {
            let pair = |text: &String| {
                let (asked, sent) = text.split_once('=').unwrap_or((text, text));
                (asked.to_owned(), Value::from(sent))
            };
            put(&mut body, "models", Some(self.models.iter().map(pair).collect::<Map<_, _>>()));
        }
        if !self.groups.is_empty() {
            put(
                &mut body,
                "groups",
                Some(self.groups.iter().map(|text| group(text)).collect::<Result<Vec<_>, _>>()?),
            );
        }
        if !self.environments.is_empty() {
            put(&mut body, "environments", Some(self.environments));
        }
        put(&mut body, "priority", self.priority);
        put(&mut body, "weight", self.weight);
        put(&mut body, "status", self.status);
        put(&mut body, "output_cap_field", self.output_cap_field);
        put(&mut body, "cools_down", self.cools_down);
        let limits = [("concurrency", self.concurrency), ("requests_per_minute", self.requests_per_minute)];
        for (name, limit) in limits {
            let read = |text: String| match &*text {
                "none" => Ok(Value::Null),
                count => count
                    .parse::<u32>()
                    .map(Value::from)
                    .map_err(|why| Failure::usage(format!("--{}: {why}", name.replace('_', "-")))),
            };
            put(&mut body, name, limit.map(read).transpose()?);
        }
        let nullable = |text: String| if text == "none" { Value::Null } else { text.into() };
        put(&mut body, "cost_share", self.cost_share.map(nullable));
        put(&mut body, "proxy", self.proxy.map(nullable));
        if let Some(source) = self.credit_source {
            let mut credit = Body::new();
            put(&mut credit, "alert_below", self.credit_alert_below);
            put(&mut credit, "path", self.credit_path);
            put(&mut credit, "pointer", self.credit_pointer);
            let check = if source == "none" {
                Value::Null
            } else {
                put(&mut credit, "source", Some(source));
                Value::Object(credit)
            };
            put(&mut body, "credit", Some(check));
        }
        Ok(body)
    }
}

#[derive(Debug, Subcommand)]
pub enum Groups {
    /// Every group.
    List,
    /// One group, by id or name.
    Show { group: String },
    /// Make a group.
    Create {
        name: String,
        #[command(flatten)]
        fields: GroupFields,
    },
    /// Change what is named of a group.
    Edit {
        /// Id or name.
        group: String,
        #[arg(long)]
        name: Option<String>,
        /// Refuse if the group is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: GroupFields,
    },
}

#[derive(Debug, Args)]
pub struct GroupFields {
    /// Every price is multiplied by it.
    #[arg(long)]
    multiplier: Option<String>,
    /// A model of the group, or those beginning so: gpt-*. Replaces all; repeat it for several.
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// The group has every model that its channels serve.
    #[arg(long, conflicts_with = "models")]
    all_models: bool,
    /// A group, by id, whose channels serve where none of its own can; replaces all, in this order.
    #[arg(long = "fallback", value_name = "GROUP")]
    fallback: Vec<String>,
    /// No group stands in for it.
    #[arg(long, conflicts_with = "fallback")]
    no_fallback: bool,
    #[command(flatten)]
    limits: LimitFields,
}

impl GroupFields {
    pub fn body(self) -> Result<Body, Failure> {
        let mut body = Body::new();
        put(&mut body, "multiplier", self.multiplier);
        if self.all_models || !self.models.is_empty() {
            put(&mut body, "models", Some(self.models));
        }
        if self.no_fallback || !self.fallback.is_empty() {
            put(&mut body, "fallback", Some(self.fallback));
        }
        self.limits.put(&mut body)?;
        Ok(body)
    }
}

#[derive(Debug, Subcommand)]
pub enum Prices {
    /// Every price version, newest first for each model.
    List {
        /// Only those of this model, by id or name.
        #[arg(long)]
        model: Option<String>,
    },
    /// One price version.
    Show { price: String },
    /// Add a price version; calls accepted before keep theirs.
    Add(Box<PriceAdd>),
}

/// Prices of tokens are decimals per million; `--unit` prices what is not sold by tokens.
#[derive(Debug, Args)]
pub struct PriceAdd {
    /// Id or name of the model.
    model: String,
    #[arg(long, value_name = "AMOUNT")]
    input: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    output: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    cache_read: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    cache_write: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    reasoning: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    audio_in: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    audio_out: Option<String>,
    #[arg(long, value_name = "AMOUNT")]
    image_in: Option<String>,
    /// Price of an image, second, million_characters or search, where it depends on them of one size and quality:
    /// image=0.04, image,size=1024x1024,quality=hd=0.08; repeatable.
    #[arg(long = "unit", value_name = "UNIT[,size=SIZE][,quality=QUALITY]=AMOUNT", value_parser = unit_price)]
    units: Vec<Body>,
    /// Added once per call.
    #[arg(long, value_name = "AMOUNT")]
    per_call: Option<String>,
    /// RFC 3339; default: now.
    #[arg(long, value_name = "TIME")]
    effective_at: Option<String>,
}

/// Reads `image,size=1024x1024=0.04`. What the parts may be is the API's to say.
fn unit_price(text: &str) -> Result<Body, String> {
    let (about, price) = text.rsplit_once('=').ok_or("expected UNIT=AMOUNT, such as image=0.04")?;
    let mut parts = about.split(',');
    let mut row = Body::new();
    put(&mut row, "unit", parts.next());
    for part in parts {
        let (name, value) = part.split_once('=').ok_or("expected size=… or quality=… behind the unit")?;
        put(&mut row, name, Some(value));
    }
    put(&mut row, "price", Some(price));
    Ok(row)
}

impl PriceAdd {
    pub fn body(self) -> Body {
        let mut classes = Body::new();
        put(&mut classes, "input", self.input);
        put(&mut classes, "output", self.output);
        put(&mut classes, "cache_read", self.cache_read);
        put(&mut classes, "cache_write", self.cache_write);
        put(&mut classes, "reasoning", self.reasoning);
        put(&mut classes, "audio_in", self.audio_in);
        put(&mut classes, "audio_out", self.audio_out);
        put(&mut classes, "image_in", self.image_in);
        let mut body = Body::new();
        put(&mut body, "model", Some(self.model));
        put(&mut body, "per_million", (!classes.is_empty()).then_some(classes));
        put(&mut body, "units", (!self.units.is_empty()).then_some(self.units));
        put(&mut body, "per_call", self.per_call);
        put(&mut body, "effective_at", self.effective_at);
        body
    }
}

#[derive(Debug, Args)]
pub struct Credit {
    /// Id or e-mail.
    pub account: String,
    amount: String,
    /// granted (spent first) or purchased.
    #[arg(long, default_value = "purchased")]
    kind: String,
    /// Name from outside, such as order:2026-17; posts once for ever.
    #[arg(long)]
    reference: String,
    /// Why, for the operation log.
    #[arg(long)]
    reason: String,
    /// Lower is spent first, among lots of a kind.
    #[arg(long)]
    priority: Option<u8>,
    /// RFC 3339; from then on what is left cannot be spent.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// The test books instead of the live ones.
    #[arg(long)]
    test: bool,
}

impl Credit {
    pub fn body(self) -> Body {
        let mut body = Body::new();
        put(&mut body, "amount", Some(self.amount));
        put(&mut body, "kind", Some(self.kind));
        put(&mut body, "reference", Some(self.reference));
        put(&mut body, "reason", Some(self.reason));
        put(&mut body, "priority", self.priority);
        put(&mut body, "expires_at", self.expires_at);
        put(&mut body, "environment", Some(if self.test { "test" } else { "live" }));
        body
    }
}
