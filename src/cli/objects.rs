//! The objects of the directory: list, show, create, edit.

mod announcements;
mod appeals;
mod args;
mod channels;
mod codes;
mod corrections;
mod master_key;
mod notices;
mod operators;
mod orders;
mod policies;
mod tasks;
mod tenants;

use serde_json::{Map, Value, json};

use super::print::cell;
use super::{Client, Context, Done, Failure};

pub use announcements::{Announcements, announcements};
pub use appeals::{Appeals, appeals};
pub(super) use args::put;
pub use args::{Accounts, Channels, Credit, Groups, Keys, Models, Prices};
pub use channels::channels;
pub use codes::{Codes, codes};
pub use corrections::{Corrections, Refund, corrections, refund};
pub use notices::{NoticeEndpoints, NoticesCommand, notice_endpoints, notices};
pub use operators::{Operators, operators};
pub use orders::{Orders, orders};
pub use policies::{Policies, policies};
pub use tasks::{Tasks, tasks};
pub use tenants::{Members, Organizations, Projects, members, organizations, projects};

type Columns = &'static [(&'static str, &'static str)];

const ACCOUNTS: Columns =
    &[("ID", "id"), ("NAME", "name"), ("E-MAIL", "email"), ("KIND", "kind"), ("ZONE", "time_zone")];
const KEYS: Columns = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("KEY", "masked"),
    ("STATUS", "status"),
    ("ACCOUNT", "account"),
    ("LIMITS", "limits_text"),
];
const MODELS: Columns =
    &[("ID", "id"), ("NAME", "name"), ("STATUS", "status"), ("OUTPUT MAX", "output_tokens_max")];
const CHANNELS: Columns = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("STATUS", "status"),
    ("PRIORITY", "priority"),
    ("BASE URL", "base_url"),
    ("FOR", "environments"),
];
const GROUPS: Columns =
    &[("ID", "id"), ("NAME", "name"), ("MULTIPLIER", "multiplier"), ("LIMITS", "limits_text")];
const ORGANIZATIONS: Columns =
    &[("ID", "id"), ("NAME", "name"), ("PARENT", "parent"), ("ZONE", "time_zone"), ("LIMITS", "limits_text")];
const PROJECTS: Columns = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("STATUS", "status"),
    ("OWES", "arrears"),
    ("ACCOUNT", "account"),
    ("LIMITS", "limits_text"),
];
const MEMBERS: Columns = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("KIND", "kind"),
    ("ROLE", "role"),
    ("ACCOUNT", "account"),
    ("LIMITS", "limits_text"),
];
const ORDERS: Columns = &[
    ("ID", "id"),
    ("STATE", "state"),
    ("AMOUNT", "amount"),
    ("TO PAY", "pay_amount"),
    ("IN", "pay_currency"),
    ("PROVIDER", "provider"),
    ("ACCOUNT", "account"),
    ("MADE", "created_at"),
];
const PAYMENT_PROVIDERS: Columns =
    &[("NAME", "id"), ("CURRENCY", "currency"), ("CALLS BACK AT", "callback_url"), ("CHECKED", "check")];
const CALLBACKS: Columns = &[
    ("ID", "id"),
    ("AT", "at"),
    ("PROVIDER", "provider"),
    ("NAME", "name"),
    ("VERDICT", "verdict"),
    ("EFFECT", "effect"),
];
const CODE_BATCHES: Columns = &[
    ("ID", "id"),
    ("VALUE", "value"),
    ("KIND", "kind"),
    ("COUNT", "count"),
    ("STATES", "states"),
    ("EXPIRES", "expires_at"),
    ("NOTE", "note"),
];
const CODES: Columns = &[
    ("ID", "id"),
    ("CODE", "code"),
    ("STATE", "state"),
    ("VALUE", "value"),
    ("ACCOUNT", "account"),
    ("REDEEMED", "redeemed_at"),
    ("BATCH", "batch"),
];
const CORRECTIONS: Columns = &[
    ("ID", "id"),
    ("KIND", "kind"),
    ("STATE", "state"),
    ("AMOUNT", "amount"),
    ("ACCOUNT", "account"),
    ("BY", "proposed_by"),
    ("AT", "proposed_at"),
    ("REASON", "reason"),
];
const TASKS: Columns = &[
    ("ID", "id"),
    ("STATE", "state"),
    ("MODEL", "model"),
    ("SIZE", "resolution"),
    ("SECONDS", "duration_seconds"),
    ("MONEY", "money"),
    ("HOLD", "hold"),
    ("CHARGED", "charged"),
    ("ACCOUNT", "account"),
    ("MADE", "created_at"),
];
const POLICIES: Columns = &[("ID", "id"), ("NAME", "name"), ("ACCOUNT", "account")];
const APPEALS: Columns =
    &[("ID", "id"), ("STATE", "state"), ("KEY", "key"), ("AT", "created_at"), ("STATEMENT", "statement")];
const ANNOUNCEMENTS: Columns = &[
    ("ID", "id"),
    ("CATEGORY", "category"),
    ("PUBLISHED", "published_at"),
    ("TITLE", "title_text"),
    ("ACCOUNT", "account"),
];
const OPERATORS: Columns = &[("ID", "id"), ("NAME", "name"), ("ROLE", "role"), ("E-MAIL", "email")];
const KEY_LOG: Columns = &[
    ("AT", "at"),
    ("ACTOR", "actor"),
    ("FROM", "from"),
    ("TO", "to"),
    ("REASON", "reason"),
    ("CHANGES", "changes_text"),
];
const AUDIT: Columns = &[
    ("VERSION", "version"),
    ("AT", "at"),
    ("ACTOR", "actor"),
    ("OBJECT", "object"),
    ("ACTION", "action"),
    ("CHANGES", "changes_text"),
];
const NOTICE_ENDPOINTS: Columns = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("CHANNEL", "channel"),
    ("URL", "url"),
    ("ADDRESS", "address"),
    ("STATUS", "status"),
    ("ACCOUNT", "account"),
];
const NOTICES: Columns = &[
    ("ID", "id"),
    ("AT", "at"),
    ("ACCOUNT", "account"),
    ("EVENT", "event"),
    ("TITLE", "title"),
    ("DELIVERIES", "deliveries_text"),
];
const PRICES: Columns = &[
    ("ID", "id"),
    ("MODEL", "model_name"),
    ("VERSION", "price_version"),
    ("IN FORCE", "in_force"),
    ("FROM", "effective_at"),
    ("PER MILLION", "per_million"),
    ("UNITS", "units"),
    ("PER CALL", "per_call"),
];

/// A kind of objects: its path, and the field by which one can be named instead of by its id.
pub(super) struct Noun<'p> {
    path: &'p str,
    prefix: &'static str,
    by: Option<&'static str>,
    columns: Columns,
}

pub(super) const ACCOUNT: Noun<'static> =
    Noun { path: "/api/accounts", prefix: "acc_", by: Some("email"), columns: ACCOUNTS };
const KEY: Noun<'static> = Noun { path: "/api/keys", prefix: "key_", by: None, columns: KEYS };
const MODEL: Noun<'static> = Noun { path: "/api/models", prefix: "mdl_", by: Some("name"), columns: MODELS };
const CHANNEL: Noun<'static> =
    Noun { path: "/api/channels", prefix: "chn_", by: Some("name"), columns: CHANNELS };
const GROUP: Noun<'static> = Noun { path: "/api/groups", prefix: "grp_", by: Some("name"), columns: GROUPS };
const ORGANIZATION: Noun<'static> =
    Noun { path: "/api/organizations", prefix: "org_", by: Some("name"), columns: ORGANIZATIONS };
const PROJECT: Noun<'static> = Noun { path: "/api/projects", prefix: "prj_", by: None, columns: PROJECTS };
const MEMBER: Noun<'static> = Noun { path: "/api/members", prefix: "mem_", by: None, columns: MEMBERS };
const APPEAL: Noun<'static> = Noun { path: "/api/appeals", prefix: "apl_", by: None, columns: APPEALS };
const ANNOUNCEMENT: Noun<'static> =
    Noun { path: "/api/announcements", prefix: "ann_", by: None, columns: ANNOUNCEMENTS };
const ORDER: Noun<'static> = Noun { path: "/api/orders", prefix: "ord_", by: None, columns: ORDERS };
const PAYMENT_PROVIDER: Noun<'static> =
    Noun { path: "/api/payment-providers", prefix: "", by: None, columns: PAYMENT_PROVIDERS };
const CALLBACK: Noun<'static> = Noun { path: "/api/callbacks", prefix: "evt_", by: None, columns: CALLBACKS };
const CODE_BATCH: Noun<'static> =
    Noun { path: "/api/code-batches", prefix: "cbt_", by: None, columns: CODE_BATCHES };
const CODE: Noun<'static> = Noun { path: "/api/codes", prefix: "cod_", by: None, columns: CODES };
const CORRECTION: Noun<'static> =
    Noun { path: "/api/corrections", prefix: "cor_", by: None, columns: CORRECTIONS };
const TASK: Noun<'static> = Noun { path: "/api/tasks", prefix: "task_", by: None, columns: TASKS };
const OPERATOR: Noun<'static> = Noun { path: "/api/operators", prefix: "opr_", by: None, columns: OPERATORS };
const POLICY: Noun<'static> = Noun { path: "/api/policies", prefix: "pol_", by: None, columns: POLICIES };
const NOTICE_ENDPOINT: Noun<'static> =
    Noun { path: "/api/notice-endpoints", prefix: "nep_", by: None, columns: NOTICE_ENDPOINTS };
const NOTICE: Noun<'static> = Noun { path: "/api/notices", prefix: "ntc_", by: None, columns: NOTICES };
const PRICE: Noun<'static> = Noun { path: "/api/prices", prefix: "prc_", by: None, columns: PRICES };

impl Noun<'_> {
    /// The id that a text names.
    pub(super) fn id(&self, client: &Client, text: &str) -> Result<String, Failure> {
        let by = match self.by {
            Some(by) if !text.starts_with(self.prefix) => by,
            _ => return Ok(text.to_owned()),
        };
        let page = client.get(&format!("{}?{by}={}", self.path, escaped(text)))?;
        let found = page.pointer("/data/0/id").and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| Failure {
            exit: super::Exit::No,
            text: format!("there is none with the {by} {text}"),
        })
    }

    fn list(&self, context: &mut Context, query: &str) -> Done {
        let client = context.client()?;
        self.list_by(context, &client, query)
    }

    fn list_by(&self, context: &mut Context, client: &Client, query: &str) -> Done {
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = client.get(&format!("{}?{query}{cursor}", self.path))?;
            if let Value::Array(data) = page["data"].take() {
                rows.extend(data);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        rows.iter_mut().for_each(limits_text);
        rows.iter_mut().for_each(changes_text);
        rows.iter_mut().for_each(notices::deliveries_text);
        rows.iter_mut().for_each(announcements::title_text);
        match context.json {
            true => context.out.json(&Value::Array(rows)),
            false => context.out.table(&rows, self.columns),
        }
    }

    fn show(&self, context: &mut Context, which: &str) -> Done {
        let client = context.client()?;
        self.show_by(context, &client, which)
    }

    fn show_by(&self, context: &mut Context, client: &Client, which: &str) -> Done {
        let id = self.id(client, which)?;
        let object = client.get(&format!("{}/{id}", self.path))?;
        answer(context, &object)
    }

    fn create(&self, context: &mut Context, client: &Client, body: Map<String, Value>) -> Done {
        let made = client.post(self.path, &Value::Object(body))?;
        answer(context, &made)
    }

    fn edit(&self, context: &mut Context, client: &Client, which: &str, body: Map<String, Value>) -> Done {
        if body.keys().all(|name| name == "version") {
            return Err(Failure::usage("nothing to change was named"));
        }
        let id = self.id(client, which)?;
        let changed = client.patch(&format!("{}/{id}", self.path), &Value::Object(body))?;
        answer(context, &changed)
    }
}

fn answer(context: &mut Context, value: &Value) -> Done {
    match context.json {
        true => context.out.json(value),
        false => context.out.object(value),
    }
}

/// A list shows of each limit of its own what it is for, and its value.
fn limits_text(row: &mut Value) {
    let limits = row["limits"].as_array();
    let text = limits.map(|limits| {
        let own = limits.iter().filter(|limit| limit["id"] == row["id"]);
        let of = |limit: &Value| {
            let what =
                if limit["metric"] == "calls" { "calls" } else { limit["window"].as_str().unwrap_or("") };
            let model = limit["model"].as_str().map(|model| format!("@{model}")).unwrap_or_default();
            format!("{what}{model} {}", cell(&limit["value"]))
        };
        own.map(of).collect::<Vec<_>>().join(", ")
    });
    if let (Some(text), Value::Object(fields)) = (text, row) {
        fields.insert("limits_text".into(), if text.is_empty() { Value::Null } else { text.into() });
    }
}

/// The fields that a row of the audit log changed.
fn changes_text(row: &mut Value) {
    let changes = row["changes"].as_array();
    let text = changes
        .map(|changes| changes.iter().map(|change| cell(&change["field"])).collect::<Vec<_>>().join(", "));
    if let (Some(text), Value::Object(fields)) = (text, row) {
        fields.insert("changes_text".into(), text.into());
    }
}

/// Who changed what.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// Only objects of this kind: account, key, policy …
    #[arg(long)]
    kind: Option<String>,
    /// Only the object with this id.
    #[arg(long, requires = "kind")]
    object: Option<String>,
    /// Only what this one did.
    #[arg(long)]
    actor: Option<String>,
}

pub fn audit(context: &mut Context, args: &AuditArgs) -> Done {
    let filters = [("kind", &args.kind), ("object", &args.object), ("actor", &args.actor)];
    let given = filters
        .into_iter()
        .filter_map(|(name, value)| Some(format!("&{name}={}", escaped(value.as_deref()?))));
    let query = format!("limit=1000{}", given.collect::<String>());
    Noun { path: "/api/audit", prefix: "", by: None, columns: AUDIT }.list(context, &query)
}

/// For a query string: everything but letters, digits and the unreserved signs (RFC 3986, 2.3) is escaped.
pub(super) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// A secret from an environment variable, or from the standard input.
fn secret(env: Option<&str>) -> Result<String, Failure> {
    match env {
        Some(name) => std::env::var(name).map_err(|_| Failure::usage(format!("{name} is not set"))),
        None => Ok(std::io::read_to_string(std::io::stdin())?.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

pub fn accounts(context: &mut Context, command: Accounts) -> Done {
    match command {
        Accounts::List => ACCOUNT.list(context, "limit=1000"),
        Accounts::Show { account } => ACCOUNT.show(context, &account),
        Accounts::Balance { account, test } => {
            let client = context.client()?;
            let id = ACCOUNT.id(&client, &account)?;
            let environment = if test { "test" } else { "live" };
            let balance = client.get(&format!("/api/accounts/{id}/balance?environment={environment}"))?;
            answer(context, &balance)
        }
        Accounts::Costs(args) => super::reports::costs(context, &args),
        Accounts::Create { name, fields } => {
            let client = context.client()?;
            let mut body =
                fields.body(|named| ORGANIZATION.id(&client, named), |named| GROUP.id(&client, named))?;
            body.insert("name".into(), name.into());
            ACCOUNT.create(context, &client, body)
        }
        Accounts::Edit { account, name, if_version, fields } => {
            let client = context.client()?;
            let mut body =
                fields.body(|named| ORGANIZATION.id(&client, named), |named| GROUP.id(&client, named))?;
            args::put(&mut body, "name", name);
            args::put(&mut body, "version", if_version);
            ACCOUNT.edit(context, &client, &account, body)
        }
    }
}

pub fn keys(context: &mut Context, command: Keys) -> Done {
    match command {
        Keys::List { account } => {
            let query = match account {
                None => "limit=1000".to_owned(),
                Some(account) => format!("limit=1000&account={}", ACCOUNT.id(&context.client()?, &account)?),
            };
            KEY.list(context, &query)
        }
        Keys::Show { key } => KEY.show(context, &key),
        Keys::Create { account, name, test, import_env, import_stdin, fields } => {
            let client = context.client()?;
            let mut body = fields.body(|group| GROUP.id(&client, group))?;
            body.insert("account".into(), ACCOUNT.id(&client, &account)?.into());
            body.insert("name".into(), name.into());
            body.insert("environment".into(), if test { "test" } else { "live" }.into());
            if import_stdin || import_env.is_some() {
                body.insert("import".into(), secret(import_env.as_deref())?.into());
            }
            KEY.create(context, &client, body)
        }
        Keys::Edit { key, name, if_version, fields } => {
            let client = context.client()?;
            let mut body = fields.body(|group| GROUP.id(&client, group))?;
            args::put(&mut body, "name", name);
            args::put(&mut body, "version", if_version);
            KEY.edit(context, &client, &key, body)
        }
        Keys::Rotate { key, overlap_seconds, end_older } => {
            let mut body = Map::new();
            put(&mut body, "overlap_seconds", overlap_seconds);
            put(&mut body, "end_older", end_older.then_some(true));
            let rotated = context.client()?.post(&format!("/api/keys/{key}/rotate"), &Value::Object(body))?;
            answer(context, &rotated)
        }
        Keys::Log { key } => {
            let path = format!("/api/keys/{key}/log");
            Noun { path: &path, prefix: "", by: None, columns: KEY_LOG }.list(context, "limit=1000")
        }
        Keys::Revoke { key } => {
            let client = context.client()?;
            let body = Map::from_iter([("status".to_owned(), json!("revoked"))]);
            KEY.edit(context, &client, &key, body)
        }
    }
}

pub fn models(context: &mut Context, command: Models) -> Done {
    match command {
        Models::List => MODEL.list(context, "limit=1000"),
        Models::Show { model } => MODEL.show(context, &model),
        Models::Create { name, fields } => {
            let mut body = fields.body();
            body.insert("name".into(), name.into());
            let client = context.client()?;
            MODEL.create(context, &client, body)
        }
        Models::Edit { model, if_version, fields } => {
            let mut body = fields.body();
            args::put(&mut body, "version", if_version);
            let client = context.client()?;
            MODEL.edit(context, &client, &model, body)
        }
    }
}

pub fn groups(context: &mut Context, command: Groups) -> Done {
    match command {
        Groups::List => GROUP.list(context, "limit=1000"),
        Groups::Show { group } => GROUP.show(context, &group),
        Groups::Create { name, fields } => {
            let client = context.client()?;
            let mut body = fields.body(|group| GROUP.id(&client, group))?;
            body.insert("name".into(), name.into());
            GROUP.create(context, &client, body)
        }
        Groups::Edit { group, name, if_version, fields } => {
            let client = context.client()?;
            let mut body = fields.body(|group| GROUP.id(&client, group))?;
            args::put(&mut body, "name", name);
            args::put(&mut body, "version", if_version);
            GROUP.edit(context, &client, &group, body)
        }
    }
}

pub fn prices(context: &mut Context, command: Prices) -> Done {
    match command {
        Prices::List { model } => {
            let query = model.map(|model| format!("model={}", escaped(&model))).unwrap_or_default();
            PRICE.list(context, &query)
        }
        Prices::Show { price } => PRICE.show(context, &price),
        Prices::Add(add) => {
            let client = context.client()?;
            PRICE.create(context, &client, add.body())
        }
    }
}

pub fn credit(context: &mut Context, command: Credit) -> Done {
    let client = context.client()?;
    let id = ACCOUNT.id(&client, &command.account)?;
    let credited = client.post(&format!("/api/accounts/{id}/credits"), &Value::Object(command.body()))?;
    answer(context, &credited)
}
