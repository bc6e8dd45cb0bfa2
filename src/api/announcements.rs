//! `/api/announcements`: what the operator tells everybody, or one account (系统公告).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::directory::{Announcement, Category, DirectoryError, FieldError, Key, Versioned};
use crate::id::{AccountId, AnnouncementId, PolicyId};

use super::access::Access;
use super::keys;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const CATEGORY: Kind = Kind::OneOf(Category::NAMES);

static WORDS: Shape = Shape {
    name: "AnnouncementWords",
    fields: &[
        field!("en", Kind::Text, Required, "In English"),
        field!("zh", Kind::Text, Required, "In Chinese"),
    ],
};

static POLICY_CHANGE: Shape = Shape {
    name: "AnnouncedPolicyChange",
    fields: &[
        field!("policy", Kind::Text, Required, "Id of the policy"),
        field!("version", COUNT, Required, "Version of the directory that made the change; as in /api/audit"),
        field!("keys_url", Kind::Text, Required, "Where the keys that it affects are listed"),
    ],
};

static ANNOUNCEMENT: Shape = Shape {
    name: "Announcement",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, ann_…"),
        field!("account", Kind::Text, Nullable, "Id of the account that it is for; null: everybody"),
        field!("category", CATEGORY, Required, "What it is about"),
        field!("title", Kind::Object(&WORDS), Required, "In both languages"),
        field!("text", Kind::Object(&WORDS), Required, "In both languages"),
        field!("change", Kind::Object(&POLICY_CHANGE), Nullable, "The change of a policy that it tells of"),
        field!("published_at", Kind::Time, Required, "Before then it is there for operators alone"),
        field!("withdrawn", Kind::Bool, Required, "It was taken back: there for operators alone"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static ANNOUNCEMENT_INPUT: Shape = Shape {
    name: "AnnouncementInput",
    fields: &[
        field!(
            "account",
            Kind::Text,
            OptionalNullable,
            "Id of the account that it is for; default: everybody"
        ),
        field!("category", CATEGORY, Required, "What it is about"),
        field!("title", Kind::Object(&WORDS), Required, "In both languages"),
        field!("text", Kind::Object(&WORDS), Required, "In both languages"),
        field!(
            "policy",
            Kind::Text,
            OptionalNullable,
            "Id of a policy: its newest change is what it tells of"
        ),
        field!("published_at", Kind::Time, Optional, "Default: now"),
    ],
};

static ANNOUNCEMENT_CHANGE: Shape = Shape {
    name: "AnnouncementChange",
    fields: &[
        field!("category", CATEGORY, Optional, "What it is about"),
        field!("title", Kind::Object(&WORDS), Optional, "In both languages"),
        field!("text", Kind::Object(&WORDS), Optional, "In both languages"),
        field!("published_at", Kind::Time, Optional, "Before then it is there for operators alone"),
        field!("withdrawn", Kind::Bool, Optional, "True takes it back"),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/announcements",
        "listAnnouncements",
        "Announcements from the newest on",
        &ANNOUNCEMENT,
        list,
    )
    .access(Access::EVERYBODY_READS)
    .query(&[
        Param { name: "category", about: "Only announcements of this category" },
        Param { name: "days", about: "Only those published in so many days, such as 7" },
        PAGE[0],
        PAGE[1],
    ]),
    Route::post(
        "/api/announcements",
        "createAnnouncement",
        "Announces something, now or later",
        &ANNOUNCEMENT_INPUT,
        &ANNOUNCEMENT,
        create,
    )
    .access(Access::SUPPORT),
    Route::get("/api/announcements/{id}", "getAnnouncement", "One announcement", &ANNOUNCEMENT, get)
        .access(Access::EVERYBODY_READS),
    Route::patch(
        "/api/announcements/{id}",
        "changeAnnouncement",
        "Changes what is named of an announcement, or withdraws it",
        &ANNOUNCEMENT_CHANGE,
        &ANNOUNCEMENT,
        change,
    )
    .access(Access::SUPPORT),
    Route::list(
        "/api/announcements/{id}/keys",
        "listAnnouncedKeys",
        "Keys that the announced change of a policy affects, as the policy is attached now",
        &keys::KEY,
        affected,
    )
    .access(Access::EVERYBODY_READS),
];

impl Resource for Announcement {
    fn view(_call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let announcement = &*stored.document;
        let change = announcement.policy.map(|change| {
            json!({
                "policy": change.policy,
                "version": change.version,
                "keys_url": format!("/api/announcements/{}/keys", announcement.id),
            })
        });
        json!({
            "id": announcement.id,
            "account": announcement.account,
            "category": announcement.category,
            "title": announcement.title,
            "text": announcement.text,
            "change": change,
            "published_at": announcement.published_at,
            "withdrawn": announcement.withdrawn,
            "created_at": announcement.created_at,
            "version": stored.version,
        })
    }
}

fn now(call: &Call<'_>) -> Timestamp {
    Timestamp::from_millisecond(call.app.clock.now_ms()).unwrap_or(Timestamp::MAX)
}

/// Members have what is public alone.
fn is_there(call: &Call<'_>, announcement: &Announcement) -> bool {
    call.is_there(announcement) && (call.own_account().is_none() || announcement.is_public(now(call)))
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let category = call.query_parsed::<Category>("category")?;
    let since_ms = call.days_ms()?.map(|days_ms| call.app.clock.now_ms().saturating_sub(days_ms));
    let (before, limit) = (call.query_parsed::<Place>("cursor")?, call.limit()? as usize);
    let snapshot = call.app.directory.snapshot_owned();
    let mut found: Vec<Place> = snapshot
        .announcements()
        .filter(|one| is_there(call, one) && category.is_none_or(|wanted| wanted == one.category))
        .map(|one| Place { at_ms: one.published_at.as_millisecond(), id: one.id })
        .filter(|place| since_ms.is_none_or(|since| place.at_ms >= since))
        .filter(|place| before.is_none_or(|before| *place < before))
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    let next = found.get(limit.saturating_sub(1)).filter(|_| found.len() > limit).map(Place::to_string);
    let row = |place: &Place| Ok(Announcement::view(call, &call.find::<Announcement>(place.id.raw())?));
    Ok(Reply::page(found.iter().take(limit).map(row).collect::<Result<_, Problem>>()?, next))
}

/// Where an announcement stands in the list: the older before the newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at_ms: i64,
    id: AnnouncementId,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.at_ms, self.id)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
        let (at_ms, id) = parts.ok_or("is no cursor")?;
        Ok(Place { at_ms, id })
    }
}

fn found(call: &Call<'_>) -> Result<Versioned<Announcement>, Problem> {
    let stored = resource::found::<Announcement>(call)?;
    if is_there(call, &stored.document) { Ok(stored) } else { Err(Problem::NotFound) }
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(resource::shown(call, &found(call)?))
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let category = fields.one_of("category")?.ok_or_else(|| FieldError::new("category", "is missing"))?;
    let (account, policy) = (fields.parsed::<AccountId>("account")?, fields.parsed::<PolicyId>("policy")?);
    let edit = |announcement: &mut Announcement| apply(announcement, &fields);
    let created = call.app.directory.create_announcement(&call.actor(), account, category, policy, &edit)?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    resource::change(call, &|announcement: &mut Announcement| apply(announcement, &call.fields()))
}

fn apply(announcement: &mut Announcement, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(category) = fields.one_of("category")? {
        announcement.category = category;
    }
    if let Some(title) = fields.value("title") {
        announcement.title = shape::named("title", title)?;
    }
    if let Some(text) = fields.value("text") {
        announcement.text = shape::named("text", text)?;
    }
    if let Some(at) = fields.parsed("published_at")? {
        announcement.published_at = at;
    }
    if let Some(withdrawn) = fields.boolean("withdrawn") {
        announcement.withdrawn = withdrawn;
    }
    Ok(())
}

fn affected(call: &Call<'_>) -> Result<Reply, Problem> {
    let (announcement, snapshot) = (found(call)?.document, call.app.directory.snapshot_owned());
    let is_affected = |key: &&Arc<Key>| {
        call.is_there(&***key) && keys::is_there(call, key) && announcement.affects(&snapshot, key)
    };
    resource::page_of(call, snapshot.keys().filter(is_affected))
}
