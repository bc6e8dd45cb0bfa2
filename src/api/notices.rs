//! `/api/notice-endpoints`: where notices are sent to. `/api/notices`: what was told, and how far it got.

use serde_json::{Value, json};

use crate::catalogue::rfc3339;
use crate::directory::{DirectoryError, FieldError, NoticeEndpoint, NoticeTarget, Owner, Versioned};
use crate::id::{AccountId, NoticeEndpointId, NoticeId};
use crate::notices::{Delivery, Event, Filter, Notice, State};
use crate::secret::Secret;

use super::access::{Access, forbidden};
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const EVENT: Kind = Kind::OneOf(Event::NAMES);
const LANGUAGE: Kind = Kind::OneOf(&["en", "zh"]);
const STATUS: Kind = Kind::OneOf(&["enabled", "disabled"]);
const ENDPOINT_CHANNEL: Kind = Kind::OneOf(&["webhook", "mail"]);
const CHANNEL: Kind = Kind::OneOf(&["in_app", "webhook", "mail"]);
const STATE: Kind = Kind::OneOf(State::NAMES);
/// How the operator's own are asked for.
const OPERATOR: &str = "operator";

static ENDPOINT: Shape = Shape {
    name: "NoticeEndpoint",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, nep_…"),
        field!(
            "account",
            Kind::Text,
            Nullable,
            "Id of the account whose notices it gets; null: the operator's"
        ),
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("channel", ENDPOINT_CHANNEL, Required, "By which way it is reached; cannot be changed"),
        field!("url", Kind::Text, Nullable, "Of a webhook: where notices are posted to"),
        field!("address", Kind::Text, Nullable, "Of mail: the address"),
        field!(
            "by_member",
            Kind::Bool,
            Required,
            "A member named its target: it is called on the public internet alone"
        ),
        field!("language", LANGUAGE, Required, "Of title and text"),
        field!("events", Kind::List(&EVENT), Required, "What it is told; empty: everything"),
        field!("status", STATUS, Required, "A disabled endpoint is told nothing"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static ENDPOINT_INPUT: Shape = Shape {
    name: "NoticeEndpointInput",
    fields: &[
        field!(
            "account",
            Kind::Text,
            OptionalNullable,
            "Id of the account; default: the operator's own notices"
        ),
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("url", Kind::Text, Optional, "Of a webhook: https, or http on this machine"),
        field!(
            "secret",
            Kind::Secret,
            Optional,
            "Of a webhook: signs what is posted; sealed and never shown again"
        ),
        field!("address", Kind::Text, Optional, "A mail address, instead of url and secret"),
        field!("language", LANGUAGE, Optional, "Of title and text; default: en"),
        field!("events", Kind::List(&EVENT), Optional, "What it is told; default: everything"),
        field!("status", STATUS, Optional, "Default: enabled"),
    ],
};

static ENDPOINT_CHANGE: Shape = Shape {
    name: "NoticeEndpointChange",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("url", Kind::Text, Optional, "Of a webhook: https, or http on this machine"),
        field!("secret", Kind::Secret, Optional, "Of a webhook: replaces its secret"),
        field!("address", Kind::Text, Optional, "Of mail: the address"),
        field!("language", LANGUAGE, Optional, "Of title and text"),
        field!("events", Kind::List(&EVENT), Optional, "What it is told; empty: everything"),
        field!("status", STATUS, Optional, "A disabled endpoint is told nothing"),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

static DELIVERY: Shape = Shape {
    name: "NoticeDelivery",
    fields: &[
        field!("channel", CHANNEL, Required, "By which way"),
        field!("endpoint", Kind::Text, Nullable, "Id of the endpoint; null: the notification centre"),
        field!("target", Kind::Text, Required, "Account, URL without its query, or mail address"),
        field!("state", STATE, Required, "failed: there will be another attempt; dead: there will not"),
        field!("attempts", COUNT, Required, "Made by now"),
        field!("next_at", Kind::Time, Nullable, "When the next attempt is due"),
        field!("last_error", Kind::Text, Nullable, "Why the last attempt failed"),
        field!("delivered_at", Kind::Time, Nullable, "When it got there"),
    ],
};

static NOTICE: Shape = Shape {
    name: "Notice",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, ntc_…"),
        field!("at", Kind::Time, Required, "When it was written"),
        field!("account", Kind::Text, Nullable, "Id of the account that is told; null: the operator"),
        field!("event", Kind::Text, Required, "Stable name of what happened"),
        field!("category", Kind::Text, Nullable, "What it is sorted under"),
        field!("subject", Kind::Text, Required, "Id of the object that it happened to"),
        field!("facts", Kind::Any, Required, "What is known of it, for programs"),
        field!("title", Kind::Text, Required, "In one line"),
        field!("text", Kind::Text, Required, "For people"),
        field!("deliveries", Kind::List(&Kind::Object(&DELIVERY)), Required, "The delivery log"),
    ],
};

static NOTHING: Shape = Shape { name: "Nothing", fields: &[] };

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/notice-endpoints",
        "listNoticeEndpoints",
        "Webhooks and mail addresses in the order in which they were made",
        &ENDPOINT,
        list_endpoints,
    )
    .access(Access::MANAGERS_READ)
    .query(&[
        Param { name: "account", about: "Only those of this account, or of the `operator`" },
        PAGE[0],
        PAGE[1],
    ]),
    Route::post(
        "/api/notice-endpoints",
        "createNoticeEndpoint",
        "Makes a webhook (url and secret) or a mail address (address)",
        &ENDPOINT_INPUT,
        &ENDPOINT,
        create_endpoint,
    )
    .access(Access::ACCOUNT_CHANGES),
    Route::get(
        "/api/notice-endpoints/{id}",
        "getNoticeEndpoint",
        "One endpoint",
        &ENDPOINT,
        resource::get::<NoticeEndpoint>,
    )
    .access(Access::MANAGERS_READ),
    Route::patch(
        "/api/notice-endpoints/{id}",
        "changeNoticeEndpoint",
        "Changes what is named of an endpoint; what is on its way goes to where the endpoint is then",
        &ENDPOINT_CHANGE,
        &ENDPOINT,
        change_endpoint,
    )
    .access(Access::ACCOUNT_CHANGES),
    Route::list(
        "/api/notices",
        "listNotices",
        "Notices from the newest on, with their delivery logs",
        &NOTICE,
        list,
    )
    .access(Access::EVERYBODY_READS)
    .query(&[
        Param { name: "account", about: "Only what this account was told, or the `operator`" },
        Param { name: "event", about: "Only notices of this event" },
        Param { name: "category", about: "Only notices of this category: keys, money or channels" },
        Param { name: "days", about: "Only notices of so many days, such as 7" },
        Param { name: "from", about: "Only notices since this time" },
        Param { name: "state", about: "Only notices with a delivery in this state, such as dead" },
        PAGE[0],
        PAGE[1],
    ]),
    Route::get("/api/notices/{id}", "getNotice", "One notice with its delivery log", &NOTICE, get)
        .access(Access::EVERYBODY_READS),
    Route::post(
        "/api/notices/{id}/retry",
        "retryNotice",
        "Gives the deliveries that did not succeed all their attempts again, from now on",
        &NOTHING,
        &NOTICE,
        retry,
    )
    .access(Access::ACCOUNT_CHANGES),
];

impl Resource for NoticeEndpoint {
    fn view(_call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let endpoint = &*stored.document;
        let (url, address) = match &endpoint.target {
            NoticeTarget::Webhook { url } => (Some(url), None),
            NoticeTarget::Mail { address } => (None, Some(address)),
        };
        json!({
            "id": endpoint.id,
            "account": endpoint.account,
            "name": endpoint.name,
            "channel": endpoint.target.channel(),
            "url": url,
            "address": address,
            "by_member": endpoint.by_member,
            "language": endpoint.language,
            "events": endpoint.events,
            "status": endpoint.status,
            "created_at": endpoint.created_at,
            "version": stored.version,
        })
    }
}

/// `None`: not asked; `Some(None)`: the operator. Members see their own account's alone.
fn owner(call: &Call<'_>) -> Result<Option<Option<AccountId>>, Problem> {
    match call.query_text("account") {
        Some(OPERATOR) if call.own_account().is_none() => Ok(Some(None)),
        Some(OPERATOR) => Err(Problem::NotFound),
        _ => Ok(call.asked_account()?.map(Some)),
    }
}

fn list_endpoints(call: &Call<'_>) -> Result<Reply, Problem> {
    let owner = owner(call)?.map(|account| account.map_or(Owner::Operator, Owner::Account));
    resource::list_of(call, owner, call.app.directory.snapshot_owned().notice_endpoints())
}

fn secret(fields: &Fields<'_>) -> Option<Secret> {
    fields.text("secret").map(Secret::new)
}

fn create_endpoint(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let account = call.account_or_own(fields.parsed::<AccountId>("account")?)?;
    let target = match (fields.text("url"), fields.text("address")) {
        (Some(url), None) => NoticeTarget::Webhook { url: url.into() },
        (None, Some(address)) => NoticeTarget::Mail { address: address.into() },
        (Some(_), Some(_)) => return Err(FieldError::new("url", "is not for a mail address").into()),
        (None, None) => {
            return Err(FieldError::new("url", "is missing: name url and secret, or address").into());
        }
    };
    may_name(call, &target)?;
    let edit = |endpoint: &mut NoticeEndpoint| {
        endpoint.by_member = call.member().is_some();
        apply(endpoint, &fields)
    };
    let secret = secret(&fields);
    let created =
        call.app.directory.create_notice_endpoint(&call.actor(), account, target, secret.as_ref(), &edit)?;
    Ok(resource::created(call, &created))
}

/// The gateway's own machine and the networks around it are for operators to name.
fn may_name(call: &Call<'_>, target: &NoticeTarget) -> Result<(), Problem> {
    match call.own_account().is_some() && target.is_in_the_house() {
        true => Err(forbidden("to set url to an address that is not on the public internet")),
        false => Ok(()),
    }
}

fn change_endpoint(call: &Call<'_>) -> Result<Reply, Problem> {
    let (id, fields) = (call.path_id::<NoticeEndpointId>("id")?, call.fields());
    call.find::<NoticeEndpoint>(id.raw())?;
    if let Some(url) = fields.text("url") {
        may_name(call, &NoticeTarget::Webhook { url: url.into() })?;
    }
    let edit = |endpoint: &mut NoticeEndpoint| {
        if fields.has("url") {
            endpoint.by_member = call.member().is_some();
        }
        apply(endpoint, &fields)
    };
    let secret = secret(&fields);
    let stored =
        call.app.directory.edit_notice_endpoint(&call.actor(), id, call.expected, secret.as_ref(), &edit)?;
    Ok(resource::shown(call, &stored))
}

fn apply(endpoint: &mut NoticeEndpoint, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        endpoint.name = name.into();
    }
    if let Some(new) = fields.text("url") {
        match &mut endpoint.target {
            NoticeTarget::Webhook { url } => *url = new.into(),
            NoticeTarget::Mail { .. } => {
                return Err(DirectoryError::invalid("url", "is not for a mail address"));
            }
        }
    }
    if let Some(new) = fields.text("address") {
        match &mut endpoint.target {
            NoticeTarget::Mail { address } => *address = new.into(),
            NoticeTarget::Webhook { .. } => {
                return Err(DirectoryError::invalid("address", "is not for a webhook"));
            }
        }
    }
    if let Some(language) = fields.one_of("language")? {
        endpoint.language = language;
    }
    if let Some(events) = fields.list("events") {
        endpoint.events = shape::decode("events", events)?;
    }
    if let Some(status) = fields.one_of("status")? {
        endpoint.status = status;
    }
    Ok(())
}

fn view(call: &Call<'_>, notice: &Notice, deliveries: &[Delivery]) -> Value {
    let words = notice.words(call.language);
    json!({
        "id": notice.id,
        "at": rfc3339(notice.at_ms),
        "account": notice.account,
        "event": notice.event,
        "category": Event::parse(&notice.event).map(Event::category),
        "subject": notice.subject,
        "facts": notice.facts,
        "title": words.title,
        "text": words.text,
        "deliveries": deliveries.iter().map(view_delivery).collect::<Vec<_>>(),
    })
}

fn view_delivery(delivery: &Delivery) -> Value {
    json!({
        "channel": delivery.channel.as_str(),
        "endpoint": delivery.endpoint,
        "target": delivery.target,
        "state": delivery.state.as_str(),
        "attempts": delivery.attempts,
        "next_at": delivery.next_at_ms.map(rfc3339),
        "last_error": delivery.last_error,
        "delivered_at": delivery.delivered_at_ms.map(rfc3339),
    })
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let from = call.query_parsed::<jiff::Timestamp>("from")?.map(jiff::Timestamp::as_millisecond);
    let since = call.days_ms()?.map(|days_ms| call.app.clock.now_ms().saturating_sub(days_ms));
    let filter = Filter {
        account: owner(call)?,
        event: call.query_parsed("event")?,
        category: call.query_parsed("category")?,
        state: call.query_parsed("state")?,
        without_money: !sees_money(call),
        before: call.query_parsed("cursor")?,
        from_ms: since.max(from),
    };
    let limit = call.limit()?;
    let notices = call.app.notices.page(&filter, limit)?;
    let full = notices.len() as u64 == u64::from(limit);
    let next = notices.last().filter(|_| full).map(|(notice, _)| notice.id.raw().to_string());
    let rows = notices.iter().map(|(notice, deliveries)| view(call, notice, deliveries));
    Ok(Reply::page(rows.collect(), next))
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    shown(call, call.path_id("id")?)
}

fn retry(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.path_id("id")?;
    find(call, id)?;
    call.app.notices.retry(id)?;
    shown(call, id)
}

fn shown(call: &Call<'_>, id: NoticeId) -> Result<Reply, Problem> {
    let (notice, deliveries) = find(call, id)?;
    Ok(Reply::ok(view(call, &notice, &deliveries)))
}

/// What is not for the caller is not there for it.
fn find(call: &Call<'_>, id: NoticeId) -> Result<(Notice, Vec<Delivery>), Problem> {
    let is_there = |(notice, _): &(Notice, Vec<Delivery>)| {
        let is_own = call.own_account().is_none_or(|own| notice.account == Some(own));
        let is_money = Event::parse(&notice.event).is_some_and(Event::tells_money);
        is_own && (!is_money || sees_money(call))
    };
    call.app.notices.find(id)?.filter(is_there).ok_or(Problem::NotFound)
}

/// Amounts of an account are for the same roles here as in its balance.
fn sees_money(call: &Call<'_>) -> bool {
    call.principal.as_ref().is_some_and(|principal| Access::MONEY_READ.includes(principal))
}
