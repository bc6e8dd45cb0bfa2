//! `/api/accounts`: whose money.

use serde_json::{Value, json};

use crate::directory::{Account, DirectoryError, Environment, Versioned};
use crate::id::{AccountId, LotId};

use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Fields, Kind, Need, Shape, field};

const KINDS: Kind = Kind::OneOf(&["personal", "enterprise", "education"]);

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
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
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
            "IANA zone in which its days and months begin; default: UTC"
        ),
        field!("overdraft", Kind::Money, Optional, "How far below zero the balance may go; default: 0"),
        field!("callers_see_account_money", Kind::Bool, OptionalNullable, "null: as its kind has it"),
        field!("remark", Kind::Text, OptionalNullable, "Note of the operator"),
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
    .query(&[Param { name: "email", about: "Only the account with this address" }, PAGE[0], PAGE[1]]),
    Route::post("/api/accounts", "createAccount", "Makes an account", &ACCOUNT_INPUT, &ACCOUNT, create),
    Route::get("/api/accounts/{id}", "getAccount", "One account", &ACCOUNT, get),
    Route::patch(
        "/api/accounts/{id}",
        "changeAccount",
        "Changes what is named of an account; its balance changes by ledger entries alone",
        &ACCOUNT_INPUT,
        &ACCOUNT,
        change,
    ),
];

pub fn view(stored: &Versioned<Account>) -> Value {
    let account = &*stored.document;
    json!({
        "id": account.id,
        "name": account.name,
        "email": account.email,
        "kind": account.kind,
        "time_zone": account.time_zone,
        "overdraft": account.overdraft.to_string(),
        "callers_see_account_money": account.callers_see_account_money(),
        "remark": account.remark,
        "created_at": account.created_at,
        "version": stored.version,
    })
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    if let Some(email) = call.query_text("email") {
        let found = call.app.directory.find_by_name::<Account>("account_email", &email.to_lowercase())?;
        return Ok(Reply::page(found.iter().map(view).collect(), None));
    }
    call.page_of::<Account>(view)
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let created = call.app.directory.create_account(call.actor(), &|account| {
        account.time_zone = call.app.config.ledger.time_zone.as_str().into();
        apply(account, &call.fields())
    })?;
    give_test_credit(call, created.document.id)?;
    Ok(Reply::created(view(&created)).at(created.version))
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

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let stored = call.find::<Account>(call.path_id::<AccountId>("id")?.raw())?;
    Ok(Reply::ok(view(&stored)).at(stored.version))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.path_id::<AccountId>("id")?.raw();
    let edit = |account: &mut Account| apply(account, &call.fields());
    let stored = call.app.directory.edit(call.actor(), id, call.expected, &edit)?;
    Ok(Reply::ok(view(&stored)).at(stored.version))
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
    Ok(())
}
