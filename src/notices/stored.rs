//! Notices and their deliveries in the store: written together, claimed one attempt at a time.
//!
//! A claim counts the attempt and puts the next one off before anything is sent. So a process that dies within an
//! attempt has used it up and lets the next one go on, and of several nodes one makes each attempt.

use serde_json::{Map, Value as Json};

use crate::catalogue::Language;
use crate::id::{AccountId, NoticeEndpointId, NoticeId};
use crate::store::{Db, Row, StoreError, Tx, Value};
use crate::store_params;

use super::event::{Event, EventCategory};
use super::facts::Words;

type Result<T> = std::result::Result<T, StoreError>;

/// By which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The notification centre: there as soon as it is written.
    InApp,
    Webhook,
    Mail,
}

impl Channel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::InApp => "in_app",
            Channel::Webhook => "webhook",
            Channel::Mail => "mail",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Channel::InApp, Channel::Webhook, Channel::Mail].into_iter().find(|known| known.as_str() == name)
    }
}

/// How far a delivery got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not attempted to an end yet.
    Pending,
    Delivered,
    /// The last attempt failed; there will be another.
    Failed,
    /// There will be no further attempt unless somebody asks for it.
    Dead,
}

impl State {
    pub const NAMES: &'static [&'static str] = &["pending", "delivered", "failed", "dead"];

    pub const fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Delivered => "delivered",
            State::Failed => "failed",
            State::Dead => "dead",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [State::Pending, State::Delivered, State::Failed, State::Dead]
            .into_iter()
            .find(|known| known.as_str() == name)
    }
}

impl std::str::FromStr for State {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        Self::parse(name).ok_or_else(|| format!("must be one of {}", Self::NAMES.join(", ")))
    }
}

/// A notice as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub id: NoticeId,
    /// `None`: the operator's.
    pub account: Option<AccountId>,
    /// The name of an [`Event`], or of one that only a newer program knows.
    pub event: String,
    /// Id of the object that it is about.
    pub subject: String,
    pub at_ms: i64,
    pub facts: Map<String, Json>,
    /// English, Chinese.
    pub texts: [Words; 2],
}

impl Notice {
    pub fn words(&self, language: Language) -> &Words {
        let [en, zh] = &self.texts;
        match language {
            Language::En => en,
            Language::Zh => zh,
        }
    }
}

/// One line of the delivery log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub channel: Channel,
    pub endpoint: Option<NoticeEndpointId>,
    /// Whose notification centre, which URL (without its query), which address.
    pub target: String,
    pub state: State,
    pub attempts: u32,
    pub next_at_ms: Option<i64>,
    pub last_error: Option<String>,
    pub delivered_at_ms: Option<i64>,
}

/// A delivery whose time has come.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub notice: Notice,
    /// Its number among those of the notice.
    pub n: u32,
    pub channel: Channel,
    pub endpoint: NoticeEndpointId,
    pub attempts: u32,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered {
        at_ms: i64,
    },
    /// `others_at_ms`: until then the endpoint is left alone.
    Again {
        at_ms: i64,
        others_at_ms: i64,
        error: String,
    },
    Dead {
        error: String,
    },
}

/// Writes a notice with all its deliveries, or nothing.
pub(super) fn insert(db: &Db, notice: &Notice, deliveries: &[Delivery]) -> Result<()> {
    db.transaction(|tx| insert_in(tx, notice, deliveries))
}

pub(super) fn insert_in(tx: &mut Tx<'_>, notice: &Notice, deliveries: &[Delivery]) -> Result<()> {
    let (facts, texts) = (json(&notice.facts)?, json(&notice.texts)?);
    tx.execute(
        "INSERT INTO notices (id, account, event, subject, at_ms, facts, texts)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        store_params![
            notice.id.raw(),
            notice.account.map(AccountId::raw),
            &notice.event,
            &notice.subject,
            notice.at_ms,
            &facts,
            &texts,
        ],
    )?;
    for (n, delivery) in (0u32..).zip(deliveries) {
        tx.execute(
            "INSERT INTO notice_deliveries
                 (notice, n, channel, endpoint, target, state, attempts, next_at, delivered_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            store_params![
                notice.id.raw(),
                n,
                delivery.channel.as_str(),
                delivery.endpoint.map(NoticeEndpointId::raw),
                &delivery.target,
                delivery.state.as_str(),
                delivery.attempts,
                delivery.next_at_ms,
                delivery.delivered_at_ms,
            ],
        )?;
    }
    Ok(())
}

/// Facts of the notices of an event and a subject since a moment.
pub(super) fn facts_since(
    db: &Db,
    event: Event,
    subject: &str,
    since_ms: i64,
) -> Result<Vec<Map<String, Json>>> {
    let sql = "SELECT facts FROM notices WHERE event = ?1 AND subject = ?2 AND at_ms >= ?3";
    let rows = db.query(sql, store_params![event.as_str(), subject, since_ms])?;
    Ok(rows.iter().filter_map(|row| serde_json::from_str(row.text(0).ok()?).ok()).collect())
}

/// When an event of a subject was last told.
pub(super) fn last_told(db: &Db, event: Event, subject: &str) -> Result<Option<i64>> {
    let sql = "SELECT at_ms FROM notices WHERE event = ?1 AND subject = ?2 ORDER BY at_ms DESC LIMIT 1";
    db.query_one(sql, store_params![event.as_str(), subject])?.map(|row| row.int(0)).transpose()
}

/// When operators were last told of an event, of whatever subject.
pub(super) fn last_told_operators(db: &Db, event: Event) -> Result<Option<i64>> {
    let sql = "SELECT at_ms FROM notices WHERE account IS NULL AND event = ?1 ORDER BY id DESC LIMIT 1";
    db.query_one(sql, store_params![event.as_str()])?.map(|row| row.int(0)).transpose()
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|why| StoreError::other("a notice cannot be written as JSON").caused_by(why))
}

/// Deliveries whose time has come, the longest waiting first.
pub(super) fn due(db: &Db, now_ms: i64, limit: u32) -> Result<Vec<Due>> {
    let sql = "SELECT m.id, m.account, m.event, m.subject, m.at_ms, m.facts, m.texts,
                      d.n, d.channel, d.endpoint, d.attempts
               FROM notice_deliveries d JOIN notices m ON m.id = d.notice
               WHERE d.next_at <= ?1 ORDER BY d.next_at, d.notice, d.n LIMIT ?2";
    let due = |row: &Row| {
        Ok(Due {
            notice: notice(row)?,
            n: row.u32(7)?,
            channel: channel(row.text(8)?)?,
            endpoint: NoticeEndpointId::from_raw(row.id(9)?),
            attempts: row.u32(10)?,
        })
    };
    db.query(sql, store_params![now_ms, limit])?.iter().map(due).collect()
}

/// When the next delivery is due, if any waits.
pub(super) fn next_due(db: &Db) -> Result<Option<i64>> {
    let sql = "SELECT next_at FROM notice_deliveries WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1";
    db.query_one(sql, store_params![])?.map(|row| row.int(0)).transpose()
}

/// Takes one attempt; `false` if somebody else has. Until `until_ms` nobody makes another.
pub(super) fn claim(db: &Db, due: &Due, now_ms: i64, until_ms: i64) -> Result<bool> {
    let sql = "UPDATE notice_deliveries SET attempts = attempts + 1, next_at = ?1
               WHERE notice = ?2 AND n = ?3 AND attempts = ?4 AND next_at <= ?5";
    let params = store_params![until_ms, due.notice.id.raw(), due.n, due.attempts, now_ms];
    Ok(db.execute(sql, params)? == 1)
}

/// Writes what became of the attempt that is the delivery's `attempts`-th. After a failed one all that waits for
/// the same endpoint waits a little longer, so that one that is down does not take the others' turns.
pub(super) fn finish(db: &Db, due: &Due, attempts: u32, outcome: &Outcome) -> Result<()> {
    let (state, next_at, error, delivered_at) = match outcome {
        Outcome::Delivered { at_ms } => (State::Delivered, None, None, Some(*at_ms)),
        Outcome::Again { at_ms, error, .. } => (State::Failed, Some(*at_ms), Some(error), None),
        Outcome::Dead { error } => (State::Dead, None, Some(error), None),
    };
    let sql = "UPDATE notice_deliveries SET state = ?1, next_at = ?2, last_error = ?3, delivered_at = ?4
               WHERE notice = ?5 AND n = ?6 AND attempts = ?7 AND next_at IS NOT NULL";
    let params =
        store_params![state.as_str(), next_at, error, delivered_at, due.notice.id.raw(), due.n, attempts];
    let Outcome::Again { others_at_ms, .. } = outcome else { return db.execute(sql, params).map(drop) };
    db.transaction(|tx| {
        tx.execute(sql, params)?;
        let sql = "UPDATE notice_deliveries SET next_at = ?1 WHERE next_at < ?1 AND endpoint = ?2";
        tx.execute(sql, store_params![*others_at_ms, due.endpoint.raw()]).map(drop)
    })
}

/// Gives every delivery that did not succeed all its attempts again, from now on. Returns how many there were.
pub(super) fn retry(db: &Db, id: NoticeId, now_ms: i64) -> Result<u64> {
    let sql = "UPDATE notice_deliveries SET state = ?1, attempts = 0, next_at = ?2
               WHERE notice = ?3 AND state IN (?4, ?5)";
    let (failed, dead) = (State::Failed.as_str(), State::Dead.as_str());
    db.execute(sql, store_params![State::Pending.as_str(), now_ms, id.raw(), failed, dead])
}

/// Which notices are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// `Some(None)`: the operator's.
    pub account: Option<Option<AccountId>>,
    pub event: Option<Event>,
    pub category: Option<EventCategory>,
    /// Those with a delivery in this state.
    pub state: Option<State>,
    /// None that tells amounts of money.
    pub without_money: bool,
    /// Only older ones than this.
    pub before: Option<u64>,
    /// Not before this time, in ms since 1970.
    pub from_ms: Option<i64>,
}

const NOTICE_SQL: &str = "SELECT id, account, event, subject, at_ms, facts, texts FROM notices";

/// Notices from the newest on.
pub(super) fn page(db: &Db, filter: &Filter, limit: u32) -> Result<Vec<Notice>> {
    let mut params: Vec<Value> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let mut condition = |sql: &str, value: Value| {
        params.push(value);
        conditions.push(sql.replace("?*", &format!("?{}", params.len())));
    };
    condition("id < ?*", filter.before.map_or(Value::Int(i64::MAX), Value::from));
    if let Some(from_ms) = filter.from_ms {
        condition("at_ms >= ?*", from_ms.into());
    }
    if let Some(Some(account)) = filter.account {
        condition("account = ?*", account.raw().into());
    }
    if let Some(event) = filter.event {
        condition("event = ?*", event.as_str().into());
    }
    if let Some(state) = filter.state {
        let sql = "EXISTS (SELECT 1 FROM notice_deliveries d WHERE d.notice = notices.id AND d.state = ?*)";
        condition(sql, state.as_str().into());
    }
    let is_hidden = |event: &Event| {
        let is_other = filter.category.is_some_and(|wanted| wanted != event.category());
        is_other || (filter.without_money && event.tells_money())
    };
    for event in Event::ALL.iter().copied().filter(is_hidden) {
        condition("event <> ?*", event.as_str().into());
    }
    if filter.account == Some(None) {
        conditions.push("account IS NULL".to_owned());
    }
    params.push(limit.into());
    let (conditions, last) = (conditions.join(" AND "), params.len());
    let sql = format!("{NOTICE_SQL} WHERE {conditions} ORDER BY id DESC LIMIT ?{last}");
    db.query(&sql, &params)?.iter().map(notice).collect()
}

pub(super) fn find(db: &Db, id: NoticeId) -> Result<Option<Notice>> {
    let row = db.query_one(&format!("{NOTICE_SQL} WHERE id = ?1"), store_params![id.raw()])?;
    row.as_ref().map(notice).transpose()
}

/// The delivery log of a notice.
pub(super) fn deliveries(db: &Db, id: NoticeId) -> Result<Vec<Delivery>> {
    let sql = "SELECT channel, endpoint, target, state, attempts, next_at, last_error, delivered_at
               FROM notice_deliveries WHERE notice = ?1 ORDER BY n";
    let delivery = |row: &Row| {
        let state = row.text(3)?;
        Ok(Delivery {
            channel: channel(row.text(0)?)?,
            endpoint: row.maybe(1, Row::id)?.map(NoticeEndpointId::from_raw),
            target: row.text(2)?.to_owned(),
            state: State::parse(state)
                .ok_or_else(|| StoreError::corrupt(format!("a delivery's state is {state}")))?,
            attempts: row.u32(4)?,
            next_at_ms: row.maybe(5, Row::int)?,
            last_error: row.maybe(6, Row::text)?.map(str::to_owned),
            delivered_at_ms: row.maybe(7, Row::int)?,
        })
    };
    db.query(sql, store_params![id.raw()])?.iter().map(delivery).collect()
}

fn channel(name: &str) -> Result<Channel> {
    Channel::parse(name).ok_or_else(|| StoreError::corrupt(format!("a delivery's channel is {name}")))
}

/// Columns: id, account, event, subject, at_ms, facts, texts.
fn notice(row: &Row) -> Result<Notice> {
    let corrupt = |why| StoreError::corrupt("a notice cannot be read").caused_by(why);
    Ok(Notice {
        id: NoticeId::from_raw(row.id(0)?),
        account: row.maybe(1, Row::id)?.map(AccountId::from_raw),
        event: row.text(2)?.to_owned(),
        subject: row.text(3)?.to_owned(),
        at_ms: row.int(4)?,
        facts: serde_json::from_str(row.text(5)?).map_err(corrupt)?,
        texts: serde_json::from_str(row.text(6)?).map_err(corrupt)?,
    })
}
