//! One route of the JSON API as data, and the one way in which every route is run.
//!
//! Who may call → the body's shape → the handler on a thread that may block → the answer. A handler gets a
//! checked body and holds no rule: it names the command and shows its result.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::app::App;
use crate::catalogue::{Language, Refusal};
use crate::directory::{AccountRole, Document, Edit, FieldError, Owner, Versioned};
use crate::gateway::facts::Credential;
use crate::id::{AccountId, MemberId};

use super::access::{self, Access, Principal};
use super::download::Download;
use super::problem::Problem;
use super::shape::{self, Fields, Shape};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Patch,
    Delete,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A caller with a key that is known and not revoked; nothing else of the ladder is asked, so that a
    /// limited or frozen key may still ask why. Sees its own calls alone.
    Key,
    /// The same, but a call whose key was never known may be asked about by anybody.
    KeyOrStranger,
    /// Who is known to the management interface, and has one of these roles.
    Role(Access),
}

/// A parameter of the query string.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    pub name: &'static str,
    pub about: &'static str,
}

#[derive(Debug)]
pub enum Answer {
    One(&'static Shape),
    /// `{"data": […], "next_cursor": …}`
    Page(&'static Shape),
    /// As JSON of this shape, or in another format that the query names; of any length.
    File(&'static Shape),
}

/// See the module.
pub struct Route {
    pub method: Method,
    /// With `{name}` for a parameter.
    pub path: &'static str,
    /// Name of the operation in `/openapi.json`.
    pub name: &'static str,
    pub about: &'static str,
    pub who: Who,
    pub query: &'static [Param],
    pub body: Option<&'static Shape>,
    pub answer: Answer,
    /// Of a POST: it changes nothing, and may be sent again at any time.
    pub reads: bool,
    pub run: fn(&Call<'_>) -> Result<Reply, Problem>,
}

/// Parameters of every list.
pub const PAGE: [Param; 2] = [
    Param { name: "cursor", about: "next_cursor of the page before" },
    Param { name: "limit", about: "Rows, from 1 to 1000; default 100" },
];

const DAY_MS: i64 = 86_400_000;

type Run = fn(&Call<'_>) -> Result<Reply, Problem>;

/// Routes are for superadmins and take no query, unless said otherwise.
impl Route {
    const fn new(
        method: Method,
        path: &'static str,
        name: &'static str,
        about: &'static str,
        answer: Answer,
        run: Run,
    ) -> Self {
        Route {
            method,
            path,
            name,
            about,
            who: Who::Role(Access::SUPERADMIN),
            query: &[],
            body: None,
            answer,
            reads: false,
            run,
        }
    }

    pub const fn get(
        path: &'static str,
        name: &'static str,
        about: &'static str,
        answer: &'static Shape,
        run: Run,
    ) -> Self {
        Self::new(Method::Get, path, name, about, Answer::One(answer), run)
    }

    pub const fn list(
        path: &'static str,
        name: &'static str,
        about: &'static str,
        row: &'static Shape,
        run: Run,
    ) -> Self {
        let route = Self::new(Method::Get, path, name, about, Answer::Page(row), run);
        Route { query: &PAGE, ..route }
    }

    pub const fn post(
        path: &'static str,
        name: &'static str,
        about: &'static str,
        body: &'static Shape,
        answer: &'static Shape,
        run: Run,
    ) -> Self {
        Route { body: Some(body), ..Self::new(Method::Post, path, name, about, Answer::One(answer), run) }
    }

    pub const fn patch(
        path: &'static str,
        name: &'static str,
        about: &'static str,
        body: &'static Shape,
        answer: &'static Shape,
        run: Run,
    ) -> Self {
        Route { body: Some(body), ..Self::new(Method::Patch, path, name, about, Answer::One(answer), run) }
    }

    pub const fn delete(
        path: &'static str,
        name: &'static str,
        about: &'static str,
        answer: &'static Shape,
        run: Run,
    ) -> Self {
        Self::new(Method::Delete, path, name, about, Answer::One(answer), run)
    }

    #[must_use]
    pub const fn answers(self, answer: Answer) -> Self {
        Route { answer, ..self }
    }

    #[must_use]
    pub const fn query(self, query: &'static [Param]) -> Self {
        Route { query, ..self }
    }

    #[must_use]
    pub const fn access(self, access: Access) -> Self {
        self.who(Who::Role(access))
    }

    #[must_use]
    pub const fn who(self, who: Who) -> Self {
        Route { who, ..self }
    }

    #[must_use]
    pub const fn reads(self) -> Self {
        Route { reads: true, ..self }
    }

    /// Whether its requests can be named by an `Idempotency-Key`.
    pub fn takes_names(&self) -> bool {
        self.method == Method::Post && self.is_management() && !self.reads
    }

    /// Whether it is for roles, rather than for callers with a key.
    pub fn is_management(&self) -> bool {
        matches!(self.who, Who::Role(_))
    }

    /// A change leaves out what stays.
    pub fn partial(&self) -> bool {
        self.method == Method::Patch
    }
}

/// The paths of one route under both prefixes (F6).
macro_rules! both {
    ($make:ident, $path:literal, $name:literal, $($rest:expr),+) => {
        [
            Route::$make(concat!("/v1", $path), $name, $($rest),+).who(Who::Key),
            Route::$make(concat!("/api/v1", $path), concat!($name, "Api"), $($rest),+).who(Who::Key),
        ]
    };
}
pub(super) use both;

/// A request of the API, checked as far as its route says.
pub struct Call<'a> {
    pub app: &'a Arc<App>,
    pub path: &'a [(String, String)],
    pub query: &'a [(String, String)],
    pub body: Map<String, Value>,
    /// The body as it came.
    pub raw: Bytes,
    /// Version that the caller last saw, by `If-Match` or the field `version`.
    pub expected: Option<u64>,
    /// Who calls, on routes for roles.
    pub principal: Option<Principal>,
    /// Whose key it is, on routes for callers; else why it is nobody's.
    pub caller: Result<Credential, Box<Refusal>>,
    pub language: Language,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

impl<'a> Call<'a> {
    /// A short text in the caller's language.
    pub fn words<'t>(&self, en: &'t str, zh: &'t str) -> &'t str {
        if self.language == Language::Zh { zh } else { en }
    }

    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.body)
    }

    /// Who is recorded as having made a change.
    pub fn actor(&self) -> String {
        self.principal.as_ref().map_or_else(|| "anonymous".to_owned(), Principal::actor)
    }

    /// The one account that is there for who calls; `None`: all of them.
    pub fn own_account(&self) -> Option<AccountId> {
        self.principal.as_ref().and_then(Principal::account)
    }

    /// The member who calls, if one does.
    pub fn member(&self) -> Option<(MemberId, AccountRole)> {
        match self.principal {
            Some(Principal::Member { member, role, .. }) => Some((member, role)),
            _ => None,
        }
    }

    /// The account that a list is asked for. Members see their own alone.
    pub fn asked_account(&self) -> Result<Option<AccountId>, Problem> {
        let asked = self.query_parsed::<AccountId>("account")?;
        self.account_or_own(asked)
    }

    /// An account that is named, or the caller's own; one that is not there for the caller cannot be found.
    pub fn account_or_own(&self, named: Option<AccountId>) -> Result<Option<AccountId>, Problem> {
        match (self.own_account(), named) {
            (Some(own), Some(named)) if named != own => Err(Problem::NotFound),
            (own, named) => Ok(own.or(named)),
        }
    }

    /// The account of something that is to be made: named, or the caller's own.
    pub fn account_of_new(&self) -> Result<AccountId, Problem> {
        let account = self.account_or_own(self.fields().parsed("account")?)?;
        Ok(account.ok_or_else(|| FieldError::new("account", "is missing"))?)
    }

    /// Refuses fields that operators alone may set.
    pub fn operators_only(&self, fields: &[&'static str]) -> Result<(), Problem> {
        let given = fields.iter().find(|field| self.body.contains_key(**field));
        match (self.own_account(), given) {
            (Some(_), Some(field)) => Err(access::forbidden(format!("to set {field}"))),
            _ => Ok(()),
        }
    }

    /// Owners are made and changed by owners alone.
    pub fn may_manage(&self, role: AccountRole) -> Result<(), Problem> {
        match self.member() {
            Some((_, own)) if role == AccountRole::Owner && own != AccountRole::Owner => {
                Err(access::forbidden("to manage an owner"))
            }
            _ => Ok(()),
        }
    }

    /// A path parameter; the router has made sure that it is there.
    pub fn path_text(&self, name: &str) -> &'a str {
        self.path.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// An id in the path. What is no id cannot be found.
    pub fn path_id<T: std::str::FromStr>(&self, name: &str) -> Result<T, Problem> {
        self.path_text(name).parse().map_err(|_| Problem::NotFound)
    }

    pub fn query_text(&self, name: &str) -> Option<&'a str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn query_parsed<T>(&self, name: &str) -> Result<Option<T>, FieldError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.query_text(name).map(|text| shape::parse(name, text)).transpose()
    }

    /// Whether a document is there for who calls; one that is not cannot be found.
    pub fn is_there(&self, document: &impl Document) -> bool {
        match (self.own_account(), document.owner()) {
            (None, _) | (Some(_), Owner::Everybody) => true,
            (Some(own), Owner::Account(owner)) => own == owner,
            (Some(_), Owner::Operator) => false,
        }
    }

    /// The stored document, if it is there for the caller.
    pub fn find<D: Document>(&self, id: u64) -> Result<Versioned<D>, Problem> {
        let found = self.app.directory.get::<D>(id)?;
        found.filter(|stored| self.is_there(&*stored.document)).ok_or(Problem::NotFound)
    }

    /// Changes a document that is there for the caller.
    pub fn edit<D: Document>(&self, id: u64, edit: Edit<'_, D>) -> Result<Versioned<D>, Problem> {
        self.find::<D>(id)?;
        Ok(self.app.directory.edit(&self.actor(), id, self.expected, edit)?)
    }

    /// How far back a list goes: `days`, from 1 to 366, in ms.
    pub fn days_ms(&self) -> Result<Option<i64>, FieldError> {
        match self.query_parsed::<i64>("days")? {
            None => Ok(None),
            Some(days) if (1..=366).contains(&days) => Ok(Some(days * DAY_MS)),
            Some(_) => Err(FieldError::new("days", "must be from 1 to 366")),
        }
    }

    /// Rows asked for: `limit`, from 1 to 1,000, else 100.
    pub fn limit(&self) -> Result<u32, FieldError> {
        match self.query_parsed::<u32>("limit")? {
            None => Ok(100),
            Some(limit) if (1..=1_000).contains(&limit) => Ok(limit),
            Some(_) => Err(FieldError::new("limit", "must be from 1 to 1000")),
        }
    }
}

/// The answer of a handler.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Value,
    /// Version of the object shown, for `ETag`.
    pub version: Option<u64>,
    /// Sent instead of the body.
    pub download: Option<Download>,
}

impl Reply {
    fn new(status: StatusCode, body: Value) -> Self {
        Reply { status, body, version: None, download: None }
    }

    pub fn ok(body: Value) -> Self {
        Reply::new(StatusCode::OK, body)
    }

    pub fn created(body: Value) -> Self {
        Reply::new(StatusCode::CREATED, body)
    }

    /// It waits for somebody.
    pub fn accepted(body: Value) -> Self {
        Reply::new(StatusCode::ACCEPTED, body)
    }

    pub fn file(download: Download) -> Self {
        Reply { download: Some(download), ..Reply::ok(Value::Null) }
    }

    #[must_use]
    pub fn at(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// Anything that serialises. What cannot be written as JSON is a fault of the program.
    pub fn of(value: &impl Serialize) -> Result<Self, Problem> {
        serde_json::to_value(value).map(Self::ok).map_err(|why| Problem::Internal(Box::new(why)))
    }

    pub fn page(rows: Vec<Value>, next_cursor: Option<String>) -> Self {
        let mut body = Map::new();
        body.insert("data".into(), Value::Array(rows));
        body.insert("next_cursor".into(), next_cursor.map_or(Value::Null, Value::String));
        Self::ok(Value::Object(body))
    }
}
