//! A task as the ladder let it pass: its cost is held under its name, and its row is not written yet.

use ledger::Nano;

use super::task::{Task, TaskMoney, TaskState, Wish};
use crate::books::Ticket;
use crate::directory::Environment;
use crate::id::{AccountId, ChannelId, KeyId, PriceId, ProjectId, RequestId, TaskId};

/// A task whose cost is held.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub id: TaskId,
    pub request: RequestId,
    pub account: AccountId,
    pub environment: Environment,
    pub key: KeyId,
    pub project: Option<ProjectId>,
    pub channel: ChannelId,
    pub credential: u32,
    pub model: Box<str>,
    pub upstream_model: Box<str>,
    pub wish: Wish,
    pub price: PriceId,
    pub price_row: u64,
    pub multiplier_ppm: u64,
    pub hold: Nano,
    /// Of the hold.
    pub ticket: Ticket,
}

impl Accepted {
    /// Its row as it is written first.
    pub(super) fn task(self, now_ms: i64, deadline_ms: i64) -> Task {
        Task {
            id: self.id,
            request: self.request,
            account: self.account,
            environment: self.environment,
            key: self.key,
            project: self.project,
            channel: self.channel,
            credential: self.credential,
            model: self.model,
            upstream_model: self.upstream_model,
            wish: self.wish,
            price: self.price,
            price_row: self.price_row,
            multiplier_ppm: self.multiplier_ppm,
            hold: self.hold,
            deadline_ms,
            created_ms: now_ms,
            state: TaskState::Queued,
            progress: 0,
            failure: None,
            upstream_id: None,
            result_expires_ms: None,
            used: None,
            upstream_cost: None,
            results: 0,
            money: TaskMoney::Held,
            charged: Nano::ZERO,
            attempts: 1,
            tried: Vec::new(),
            duplicates: 0,
            poll_ms: None,
            polls: 0,
            submitted_ms: None,
            ended_ms: None,
            deleted_ms: None,
            copies: None,
            version: 1,
        }
    }
}

/// A task that was accepted, of what was asked for.
#[cfg(test)]
pub(super) fn sample(asked: &crate::gateway::request::TaskWish) -> Task {
    let accepted = Accepted {
        id: TaskId::from_raw(1),
        request: RequestId::from_raw(2),
        account: AccountId::from_raw(3),
        environment: Environment::Live,
        key: KeyId::from_raw(4),
        project: None,
        channel: ChannelId::from_raw(5),
        credential: 0,
        model: "m".into(),
        upstream_model: "up/stream".into(),
        wish: Wish::of("m", asked),
        price: PriceId::from_raw(6),
        price_row: 1,
        multiplier_ppm: 1_000_000,
        hold: Nano::ZERO,
        ticket: Ticket { batch: 0 },
    };
    accepted.task(0, 0)
}

#[cfg(test)]
impl Task {
    /// One that stands so.
    pub(crate) fn sample(state: super::TaskState, money: super::TaskMoney) -> Task {
        let body = r#"{"model": "m", "prompt": "a"}"#.into();
        let wish =
            crate::gateway::request::TaskWish::read(crate::gateway::facts::Endpoint::Images, None, &body);
        Task { state, money, ..sample(&wish.unwrap()) }
    }
}
