//! `/api/accounts`: whose money.

use serde_json::{Value, json};

use crate::directory::organization::{self, EffectiveSwitch, SwitchSource};
use crate::directory::{
    Account, AccountPolicy, DirectoryError, Environment, FieldError, TranscriptTerms, Versioned,
};
use crate::id::{AccountId, LotId};

use super::access::{self, Access};
use super::limits;
use super::organizations::{SWITCHES, switches_view};
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const KINDS: Kind = Kind::OneOf(&["personal", "enterprise", "education"]);

const GROUPS: Kind = Kind::List(&Kind::Text);

pub static ACCOUNT: Shape = Shape {
    name: "Account",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, acc_…"),
        field!("name", Kind::Text, Required, "What people call it"),
        field!("email", Kind::Text, Nullable, "Address of its owner; unique"),
        field!("kind", KINDS, Required, "Kind of account"),
        field!("time_zone", Kind::Text, Required, "IANA zone in which its days and months begin"),
        field!("overdraft", Kind::Money, Required, "How far below zero the balance may go"),
        field!(
            "callers_see_account_money",
            Kind::Bool,
            Required,
            "Whether refusals show callers its amounts"
        ),
        field!("remark", Kind::Text, Nullable, "Note of the operator"),
        field!("organization", Kind::Text, Nullable, "Id of the organization that it stands under"),
        field!("default_project", Kind::Text, Nullable, "Where its keys belong that name no project"),
        field!("switches", Kind::Object(&SWITCHES), Required, "As they are set here"),
        field!(
            "low_balance_alert",
            Kind::Money,
            Nullable,
            "Below it, the balance is told to be low; null: never"
        ),
        field!(
            "invoice",
            Kind::Map(&Kind::Text),
            Required,
            "What its invoices (发票) need: title, tax_number …"
        ),
        field!("policies", Kind::List(&Kind::Object(&POLICY)), Required, "Policies of its keys"),
        field!("groups", GROUPS, Required, "Ids of the groups that its members may put keys into"),
        field!("tasks", Kind::Object(&limits::TASK_TERMS), Nullable, "For image and video tasks alone"),
        field!(
            "transcripts",
            Kind::Object(&TRANSCRIPT_TERMS),
            Nullable,
            "How long what is sent and answered in its calls is kept; null: it is not"
        ),
        field!("in_force", Kind::Object(&IN_FORCE), Required, "The switches as they hold, and from where"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
        field!(
            "notices",
            Kind::List(&Kind::Object(&ACCOUNT_NOTICE)),
            Optional,
            "In the answer to a change: what follows from it"
        ),
    ],
};

static TRANSCRIPT_TERMS: Shape = Shape {
    name: "TranscriptTerms",
    fields: &[field!("kept_days", TRANSCRIPT_DAYS, Required, "Days from the call on")],
};
const TRANSCRIPT_DAYS: Kind = Kind::Integer { min: 1, max: 366 };

static ACCOUNT_NOTICE: Shape = Shape {
    name: "AccountNotice",
    fields: &[
        field!("code", Kind::OneOf(&["windows_begin_anew"]), Required, "Stable name of the notice"),
        field!("field", Kind::Text, Required, "What it is about"),
        field!("message", Kind::Text, Required, "In words"),
    ],
};

static POLICY: Shape = Shape {
    name: "AccountPolicy",
    fields: &[
        field!("policy", Kind::Text, Required, "Its id"),
        field!(
            "role",
            Kind::OneOf(&["owner", "admin", "finance", "developer", "viewer"]),
            OptionalNullable,
            "Only keys of members with this role; default: all keys"
        ),
    ],
};

static SWITCH_IN_FORCE: Shape = Shape {
    name: "SwitchInForce",
    fields: &[
        field!(
            "value",
            Kind::OneOf(&["on", "view_only", "suspended"]),
            Required,
            "The tightest on the way up"
        ),
        field!("source", Kind::Text, Required, "default, account, or the id of an organization"),
    ],
};

static IN_FORCE: Shape = Shape {
    name: "SwitchesInForce",
    fields: &[
        field!("api_service", Kind::Object(&SWITCH_IN_FORCE), Required, "Every call"),
        field!("model_calls", Kind::Object(&SWITCH_IN_FORCE), Required, "Model calls"),
    ],
};

static ACCOUNT_INPUT: Shape = Shape {
    name: "AccountInput",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it"),
        field!("email", Kind::Text, OptionalNullable, "Address of its owner; unique"),
        field!("kind", KINDS, Optional, "Default: personal"),
        field!(
            "time_zone",
            Kind::Text,
            Optional,
            "IANA zone in which its days and months begin; default: the installation's. Operators alone change it: windows begin anew"
        ),
        field!("overdraft", Kind::Money, Optional, "How far below zero the balance may go; default: 0"),
        field!("callers_see_account_money", Kind::Bool, OptionalNullable, "null: as its kind has it"),
        field!("remark", Kind::Text, OptionalNullable, "Note of the operator"),
        field!("organization", Kind::Text, OptionalNullable, "Id of the organization that it stands under"),
        field!("switches", Kind::Object(&SWITCHES), Optional, "Replaces both"),
        field!(
            "default_project",
            Kind::Text,
            Optional,
            "In a change: where keys belong that name no project"
        ),
        field!("low_balance_alert", Kind::Money, OptionalNullable, "Below it, the balance is told to be low"),
        field!("invoice", Kind::Map(&Kind::Text), Optional, "Replaces all: names of your own, such as title"),
        field!("policies", Kind::List(&Kind::Object(&POLICY)), Optional, "Replaces all"),
        field!("groups", GROUPS, Optional, "Replaces all; operators alone grant groups"),
        field!(
            "tasks",
            Kind::Object(&limits::TASK_TERMS),
            OptionalNullable,
            "For image and video tasks alone; null: nothing"
        ),
        field!(
            "transcripts",
            Kind::Object(&TRANSCRIPT_TERMS),
            OptionalNullable,
            "How long what is sent and answered in its calls is kept: members alone turn it on. null: it is not"
        ),
        field!("version", COUNT, Optional, "In a change: the version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/accounts",
        "listAccounts",
        "Accounts in the order in which they were made",
        &ACCOUNT,
        list,
    )
    .access(Access::EVERYBODY_READS)
    .query(&[Param { name: "email", about: "Only the account with this address" }, PAGE[0], PAGE[1]]),
    Route::post("/api/accounts", "createAccount", "Makes an account", &ACCOUNT_INPUT, &ACCOUNT, create),
    Route::get("/api/accounts/{id}", "getAccount", "One account", &ACCOUNT, resource::get::<Account>)
        .access(Access::EVERYBODY_READS),
    Route::patch(
        "/api/accounts/{id}",
        "changeAccount",
        "Changes what is named of an account; its balance changes by ledger entries alone",
        &ACCOUNT_INPUT,
        &ACCOUNT,
        change,
    )
    .access(Access::ACCOUNT_CHANGES),
];

impl Resource for Account {
    fn view(call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let account = &*stored.document;
        let in_force = organization::switches(&call.app.directory.snapshot(), account);
        json!({
            "id": account.id,
            "name": account.name,
            "email": account.email,
            "kind": account.kind,
            "time_zone": account.time_zone,
            "overdraft": account.overdraft.to_string(),
            "callers_see_account_money": account.callers_see_account_money(),
            "remark": account.remark.as_ref().filter(|_| call.own_account().is_none()),
            "organization": account.organization,
            "switches": switches_view(account.switches),
            "default_project": account.default_project,
            "low_balance_alert": account.low_balance_alert.map(|at| at.to_string()),
            "invoice": account.invoice,
            "policies": account.policies.iter().map(policy_view).collect::<Vec<_>>(),
            "groups": account.groups,
            "tasks": limits::task_terms_view(account.tasks.as_deref()),
            "transcripts": account.transcripts,
            "in_force": {
                "api_service": in_force_view(in_force.api_service),
                "model_calls": in_force_view(in_force.model_calls),
            },
            "created_at": account.created_at,
            "version": stored.version,
        })
    }
}

fn policy_view(given: &AccountPolicy) -> Value {
    json!({"policy": given.policy, "role": given.role})
}

fn in_force_view(effective: EffectiveSwitch) -> Value {
    let source = match effective.source {
        SwitchSource::Default => "default".to_owned(),
        SwitchSource::Account => "account".to_owned(),
        SwitchSource::Organization(id) => id.to_string(),
    };
    json!({"value": effective.switch, "source": source})
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    match (call.query_text("email"), call.own_account()) {
        (Some(email), _) => resource::by_name::<Account>(call, "account_email", &email.to_lowercase()),
        (None, Some(own)) => {
            Ok(Reply::page(vec![Account::view(call, &call.find::<Account>(own.raw())?)], None))
        }
        (None, None) => resource::list::<Account>(call),
    }
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    may_keep_transcripts(call)?;
    let created = call.app.directory.create_account(&call.actor(), &|account| {
        account.time_zone = call.app.config.ledger.time_zone.as_str().into();
        apply(account, &call.fields())
    })?;
    give_test_credit(call, created.document.id)?;
    Ok(resource::created(call, &created))
}

/// Play money for the test book, as the configuration has it.
fn give_test_credit(call: &Call<'_>, account: AccountId) -> Result<(), Problem> {
    let amount = ledger::Nano::parse_decimal(&call.app.config.ledger.test_credit).unwrap_or_default();
    if !amount.is_positive() {
        return Ok(());
    }
    let command = ledger::Command::Credit {
        account: super::book(account, Environment::Test),
        lot: ledger::LotId(LotId::new(&*call.app.clock, &*call.app.entropy).raw()),
        kind: ledger::LotKind::Granted,
        priority: u8::MAX,
        expires_at: None,
        amount,
        source: ledger::CreditSource::Promotion,
        reference: ledger::Reference::new(format!("test-credit:{account}")),
    };
    call.app.books.execute_blocking(&command)?;
    Ok(())
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = ["kind", "overdraft", "remark", "organization", "switches", "groups", "time_zone"];
    call.operators_only(&fields)?;
    may_keep_transcripts(call)?;
    let before = resource::found::<Account>(call)?.document;
    let stored = call.edit(before.id.raw(), &|account: &mut Account| apply(account, &call.fields()))?;
    let mut body = Account::view(call, &stored);
    if let (Value::Object(body), true) = (&mut body, stored.document.time_zone != before.time_zone) {
        body.insert("notices".into(), json!([zone_notice(call)]));
    }
    Ok(Reply::ok(body).at(stored.version))
}

/// What is said in calls is the account's: it alone has it kept. Operators may end that.
fn may_keep_transcripts(call: &Call<'_>) -> Result<(), Problem> {
    let Some(terms) = call.fields().one_of::<Option<TranscriptTerms>>("transcripts")?.flatten() else {
        return Ok(());
    };
    if call.own_account().is_none() {
        return Err(access::forbidden("to turn transcripts on; the account's owner can"));
    }
    match call.app.transcripts.days_max() {
        0 => Err(FieldError::new("transcripts", "are not kept by this installation").into()),
        days_max if terms.kept_days > days_max => {
            let why = format!("must be from 1 to {days_max}, the longest that this installation keeps them");
            Err(FieldError::new("transcripts.kept_days", why).into())
        }
        _ => Ok(()),
    }
}

/// What was used is counted by windows that begin at a moment, and the new zone's begin at others.
fn zone_notice(call: &Call<'_>) -> Value {
    json!({
        "code": "windows_begin_anew",
        "field": "time_zone",
        "message": call.words(
            "Days and months begin at other moments now: what was used of daily and monthly limits so far does not count in them.",
            "日与月的起始时刻已改变：此前已用的每日、每月额度不计入新的周期。",
        ),
    })
}

fn apply(account: &mut Account, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        account.name = name.into();
    }
    if let Some(email) = fields.nullable_text("email") {
        account.email = email.map(Into::into);
    }
    if let Some(kind) = fields.one_of("kind")? {
        account.kind = kind;
    }
    if let Some(zone) = fields.text("time_zone") {
        account.time_zone = zone.into();
    }
    if let Some(overdraft) = fields.money("overdraft")? {
        account.overdraft = overdraft;
    }
    if let Some(shown) = fields.nullable_boolean("callers_see_account_money") {
        account.callers_see_account_money = shown;
    }
    if let Some(remark) = fields.nullable_text("remark") {
        account.remark = remark.map(Into::into);
    }
    if let Some(organization) = fields.nullable_parsed("organization")? {
        account.organization = organization;
    }
    if let Some(project) = fields.parsed("default_project")? {
        account.default_project = Some(project);
    }
    if fields.has("low_balance_alert") {
        account.low_balance_alert = fields.money("low_balance_alert")?;
    }
    if let Some(invoice) = fields.one_of("invoice")? {
        account.invoice = invoice;
    }
    if let Some(policies) = fields.list("policies") {
        account.policies = shape::decode("policies", policies)?;
    }
    if let Some(groups) = fields.list("groups") {
        account.groups = shape::decode("groups", groups)?;
    }
    if fields.has("tasks") {
        account.tasks = fields.one_of::<Option<_>>("tasks")?.flatten();
    }
    if fields.has("transcripts") {
        account.transcripts = fields.one_of::<Option<_>>("transcripts")?.flatten();
    }
    if let Some(switches) = fields.one_of("switches")? {
        account.switches = switches;
    }
    Ok(())
}
