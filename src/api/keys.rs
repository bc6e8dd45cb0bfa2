//! `/api/keys`: callers' keys. A key's text is in the answer to its creation and nowhere else.

use serde_json::{Value, json};

use crate::directory::{
    DirectoryError, Environment, FieldError, Key, KeyOrder, KeyStatus, Limit, Metric, Origin, Versioned,
};
use crate::explain::usable;
use crate::id::{AccountId, KeyId};
use crate::secret::Secret;

use super::own;
use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const ENVIRONMENT: Kind = Kind::OneOf(&["live", "test"]);
const STATUS: Kind = Kind::OneOf(&["enabled", "revoked"]);
const ORIGIN: Kind = Kind::OneOf(&["default", "owner", "operator", "organization"]);

static LIMIT_INPUT: Shape = Shape {
    name: "LimitInput",
    fields: &[
        field!("metric", Kind::OneOf(&["spend"]), Optional, "What is limited; default: spend"),
        field!("window", Kind::OneOf(&["day", "month", "total"]), Required, "In the account's time zone"),
        field!("value", Kind::Money, Nullable, "0 blocks; null means no limit"),
        field!("origin", ORIGIN, Optional, "Who set it, as refusals tell; default: operator"),
    ],
};

static ALLOWANCE: Shape = Shape {
    name: "Allowance",
    fields: &[
        field!(
            "endpoints",
            Kind::List(&Kind::Text),
            Optional,
            "Paths behind /v1/: chat/completions; empty: all"
        ),
        field!(
            "models",
            Kind::List(&Kind::Text),
            Optional,
            "Names, or beginnings of names with * behind; empty: all"
        ),
    ],
};
const ALLOWED: Kind = Kind::List(&Kind::Object(&ALLOWANCE));

static NOTICE: Shape = Shape {
    name: "Notice",
    fields: &[
        field!("code", Kind::OneOf(&["limit_zero", "limit_low"]), Required, "Stable name of the notice"),
        field!("field", Kind::Text, Required, "What it is about"),
        field!("message", Kind::Text, Required, "In words"),
    ],
};

macro_rules! key_fields {
    ($($more:expr),*) => {
        &[
            field!("id", Kind::Text, Required, "Public id, key_…: names the key without being it"),
            field!("account", Kind::Text, Required, "Id of the account that pays"),
            field!("name", Kind::Text, Required, "What people call it"),
            field!("environment", ENVIRONMENT, Required, "A test key posts to test books"),
            field!("masked", Kind::Text, Required, "Enough to recognise one's own key"),
            field!("status", STATUS, Required, "A revoked key stays revoked"),
            field!("group", Kind::Text, Nullable, "Id of its group"),
            field!("limits", Kind::List(&Kind::Object(&own::LIMIT)), Required, "Every limit with its use"),
            field!("allowed", ALLOWED, Required, "Models at endpoints that it may use; empty: all of its group"),
            field!("created_at", Kind::Time, Required, "When it was made"),
            field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
            $($more),*
        ]
    };
}

static KEY: Shape = Shape { name: "Key", fields: key_fields!() };

static CREATED_KEY: Shape = Shape {
    name: "CreatedKey",
    fields: key_fields!(
        field!("key", Kind::Secret, Required, "The key itself: shown this once"),
        field!(
            "notices",
            Kind::List(&Kind::Object(&NOTICE)),
            Required,
            "Limits under which no call can pass"
        )
    ),
};

static KEY_INPUT: Shape = Shape {
    name: "KeyInput",
    fields: &[
        field!("account", Kind::Text, Required, "Id of the account that pays"),
        field!("name", Kind::Text, Required, "What people call it"),
        field!("environment", ENVIRONMENT, Optional, "Default: live"),
        field!("group", Kind::Text, OptionalNullable, "Id of its group"),
        field!(
            "limits",
            Kind::List(&Kind::Object(&LIMIT_INPUT)),
            Optional,
            "Spend limits, one for each window"
        ),
        field!("allowed", ALLOWED, Optional, "Models at endpoints that it may use; empty: all of its group"),
        field!("import", Kind::Secret, Optional, "Text of a key from elsewhere that is to work here as well"),
    ],
};

static KEY_CHANGE: Shape = Shape {
    name: "KeyChange",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it"),
        field!("group", Kind::Text, OptionalNullable, "Id of its group"),
        field!("limits", Kind::List(&Kind::Object(&LIMIT_INPUT)), Optional, "Replaces all limits"),
        field!("allowed", ALLOWED, Optional, "Replaces the whole list"),
        field!("status", Kind::OneOf(&["revoked"]), Optional, "Revokes the key, for ever"),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

pub static ROUTES: &[Route] =
    &[
        Route::list("/api/keys", "listKeys", "Keys in the order in which they were made", &KEY, list)
            .query(&[Param { name: "account", about: "Only keys of this account" }, PAGE[0], PAGE[1]]),
        Route::post(
            "/api/keys",
            "createKey",
            "Makes a key. Its text is in this answer and nowhere else",
            &KEY_INPUT,
            &CREATED_KEY,
            create,
        ),
        Route::get("/api/keys/{id}", "getKey", "One key with the use of its limits", &KEY, get),
        Route::patch(
            "/api/keys/{id}",
            "changeKey",
            "Changes what is named of a key, or revokes it",
            &KEY_CHANGE,
            &KEY,
            change,
        ),
    ];

fn view(call: &Call<'_>, stored: &Versioned<Key>) -> Value {
    let key = &*stored.document;
    json!({
        "id": key.id,
        "account": key.account,
        "name": key.name,
        "environment": key.environment,
        "masked": key.masked,
        "status": key.status,
        "group": key.group,
        "limits": usable::limits(call.app, key).iter().map(own::limit_view).collect::<Vec<_>>(),
        "allowed": key.allowed,
        "created_at": key.created_at,
        "version": stored.version,
    })
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let Some(account) = call.query_parsed::<AccountId>("account")? else {
        return call.page_of::<Key>(|stored| view(call, stored));
    };
    let (after, limit) = (call.query_parsed::<u64>("cursor")?.unwrap_or(0), call.limit()? as usize);
    let snapshot = call.app.directory.snapshot();
    let mut ids: Vec<u64> = snapshot
        .keys()
        .filter(|key| key.account == account && key.id.raw() > after)
        .map(|key| key.id.raw())
        .collect();
    ids.sort_unstable();
    let next = ids.get(limit.saturating_sub(1)).filter(|_| ids.len() > limit).map(u64::to_string);
    let rows: Result<Vec<_>, Problem> =
        ids.into_iter().take(limit).map(|id| Ok(view(call, &call.find::<Key>(id)?))).collect();
    Ok(Reply::page(rows?, next))
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let account =
        fields.parsed::<AccountId>("account")?.ok_or_else(|| FieldError::new("account", "is missing"))?;
    let environment = fields.one_of("environment")?.unwrap_or(Environment::Live);
    let import = fields.text("import").map(Secret::new);
    let edit = |key: &mut Key| apply(key, &fields);
    let created =
        call.app.directory.create_key(call.actor(), KeyOrder { account, environment }, import, &edit)?;
    let mut body = view(call, &created.key);
    if let Value::Object(body) = &mut body {
        body.insert("key".into(), created.text.expose().into());
        body.insert("notices".into(), notices(call, &created.key.document));
    }
    Ok(Reply::created(body).at(created.key.version))
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let stored = call.find::<Key>(call.path_id::<KeyId>("id")?.raw())?;
    Ok(Reply::ok(view(call, &stored)).at(stored.version))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let (id, fields) = (call.path_id::<KeyId>("id")?.raw(), call.fields());
    let edit = |key: &mut Key| apply(key, &fields);
    let stored = call.app.directory.edit(call.actor(), id, call.expected, &edit)?;
    Ok(Reply::ok(view(call, &stored)).at(stored.version))
}

fn apply(key: &mut Key, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        key.name = name.into();
    }
    if let Some(group) = fields.nullable_parsed("group")? {
        key.group = group;
    }
    if let Some(limits) = fields.list("limits") {
        let read = limits.iter().enumerate().map(|(at, value)| limit(at, value));
        key.limits = read.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    }
    if let Some(allowed) = fields.list("allowed") {
        key.allowed = shape::decode("allowed", allowed)?;
    }
    if fields.one_of::<KeyStatus>("status")? == Some(KeyStatus::Revoked) {
        key.status = KeyStatus::Revoked;
    }
    Ok(())
}

/// `None` for a limit whose value is null: no limit.
fn limit(at: usize, value: &Value) -> Result<Option<Limit>, FieldError> {
    let Some(values) = value.as_object() else { return Ok(None) };
    let fields = Fields::new(values);
    let named = |error: FieldError| FieldError::new(format!("limits[{at}].{}", error.field), error.reason);
    let Some(amount) = fields.money("value").map_err(named)? else { return Ok(None) };
    let window = fields.one_of("window").map_err(named)?;
    Ok(Some(Limit {
        metric: fields.one_of("metric").map_err(named)?.unwrap_or(Metric::Spend),
        window: window.ok_or_else(|| FieldError::new(format!("limits[{at}].window"), "is missing"))?,
        value: amount,
        origin: fields.one_of("origin").map_err(named)?.unwrap_or(Origin::Operator),
    }))
}

/// Says of each limit that lets no call pass that it does (C6).
fn notices(call: &Call<'_>, key: &Key) -> Value {
    let cheapest = usable::cheapest_call(call.app, key);
    let notice = |(at, limit): (usize, &Limit)| {
        let field = format!("limits[{at}].value");
        if limit.value.0 == 0 {
            return Some(json!({
                "code": "limit_zero",
                "field": field,
                "message": call.words(
                    "The limit is 0: every call of this key that costs anything will be refused.",
                    "该限额为 0：此 Key 的所有计费调用都会被拒绝。",
                ),
            }));
        }
        let (cost, model) = cheapest.as_ref().filter(|(cost, _)| limit.value < *cost)?;
        let message = match call.language {
            crate::catalogue::Language::Zh => {
                format!("限额 {} 低于最便宜的模型（{model}）一次最小调用的冻结金额 {cost}。", limit.value)
            }
            crate::catalogue::Language::En => {
                format!(
                    "The limit {} is less than what the smallest call of the cheapest model ({model}) holds: {cost}.",
                    limit.value
                )
            }
        };
        Some(json!({"code": "limit_low", "field": field, "message": message}))
    };
    Value::Array(key.limits.iter().enumerate().filter_map(notice).collect())
}
