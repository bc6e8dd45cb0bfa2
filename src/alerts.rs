//! Soft alerts (I1): a budget that is nearly used, a balance that runs low. They are seen in the figures of each decision,
//! without I/O; each is told once for its window, or once until the balance recovered, whatever is restarted in between.

use hashbrown::{HashMap, HashSet};
use ledger::Nano;
use parking_lot::Mutex;

use crate::directory::{Metric, Snapshot, Window};
use crate::gateway::facts::Readings;
use crate::gateway::ladder::{Caller, Layer, Scope};
use crate::id::{AccountId, GroupId, KeyId, MemberId, OrganizationId, ProjectId};
use crate::notices::{Event, Facts, NewNotice, Notices, Subject};
use crate::store::{Projections, StoreError};

/// Alerts that are remembered; beyond that, old ones may be told again.
const REMEMBERED_MAX: usize = 200_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Alerts {
    /// Percent of a budget from which on it is told; 0: never.
    budget_percent: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    budgets: HashSet<(ledger::CounterKey, i64, bool)>,
    low: HashMap<AccountId, bool>,
    found: Vec<Alert>,
}

/// Something to tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alert {
    Budget {
        account: AccountId,
        counter: ledger::CounterKey,
        window: Window,
        /// Of the window: a notice of the same since then is enough.
        since_ms: i64,
        percent: u32,
        used: Nano,
        limit: Nano,
    },
    LowBalance {
        account: AccountId,
        available: Nano,
        threshold: Nano,
        /// Nothing is remembered of the account: an earlier process may have told it.
        is_first: bool,
    },
}

impl Alerts {
    pub fn new(budget_percent: u32) -> Self {
        Alerts { budget_percent, state: Mutex::default() }
    }

    /// Looks at the figures of one decision.
    pub fn observe(&self, caller: Caller<'_>, scope: &Scope<'_>, readings: &Readings) {
        let account = &caller.account.account;
        if self.budget_percent > 0 {
            for (layer, reading) in scope.layers.iter().zip(&readings.counters) {
                self.budget(account.id, layer, reading.used);
            }
        }
        if let Some(threshold) = account.low_balance_alert {
            self.balance(account.id, readings.available, threshold);
        }
    }

    fn budget(&self, account: AccountId, layer: &Layer<'_>, used: i64) {
        let Some(limit) =
            layer.limit.filter(|limit| limit.metric == Metric::Spend && limit.value.is_positive())
        else {
            return;
        };
        let percent = i128::from(used) * 100 / i128::from(limit.value.0);
        if percent < i128::from(self.budget_percent) {
            return;
        }
        let is_full = percent >= 100;
        let mut state = self.state.lock();
        if state.budgets.len() >= REMEMBERED_MAX {
            state.budgets.clear();
        }
        if state.budgets.insert((layer.counter, layer.window.start.0, is_full)) {
            state.found.push(Alert::Budget {
                account,
                counter: layer.counter,
                window: limit.window,
                since_ms: layer.window.start.0,
                percent: u32::try_from(percent).unwrap_or(u32::MAX),
                used: Nano(used),
                limit: limit.value,
            });
        }
    }

    fn balance(&self, account: AccountId, available: Nano, threshold: Nano) {
        let is_low = available < threshold;
        let mut state = self.state.lock();
        if state.low.len() >= REMEMBERED_MAX {
            state.low.clear();
        }
        let was_low = state.low.insert(account, is_low);
        if is_low && was_low != Some(true) {
            let is_first = was_low.is_none();
            state.found.push(Alert::LowBalance { account, available, threshold, is_first });
        }
    }

    /// What is to be told since the last time.
    pub fn take(&self) -> Vec<Alert> {
        std::mem::take(&mut self.state.lock().found)
    }
}

impl Alert {
    /// Writes the notice, unless an earlier process did. Blocks.
    pub fn tell(
        &self,
        notices: &Notices,
        projections: &Projections,
        snapshot: &Snapshot,
        currency: &str,
    ) -> Result<(), StoreError> {
        if self.is_still_low(notices, projections)? {
            return Ok(());
        }
        let (notice, since_ms) = match *self {
            Alert::LowBalance { account, available, threshold, is_first: _ } => {
                let currency = currency.into();
                let facts = Facts::LowBalance { available, threshold, currency };
                (NewNotice { account: Some(account), subject: account.into(), facts }, i64::MAX)
            }
            Alert::Budget { account, counter, window, since_ms, percent, used, limit } => {
                let Some((owner, subject, name)) = holder(snapshot, account, &counter) else { return Ok(()) };
                let facts =
                    Facts::BudgetAlert { name, window, percent, used, limit, currency: currency.into() };
                (NewNotice { account: owner, subject, facts }, since_ms)
            }
        };
        let is_full = matches!(self, Alert::Budget { percent: 100.., .. });
        let told = notices.was_told(Event::BudgetAlert, &notice.subject, since_ms, |facts| {
            let percent = facts.get("percent").and_then(serde_json::Value::as_u64).unwrap_or(0);
            let same = facts.get("window") == serde_json::to_value(self.window()).ok().as_ref();
            same && (percent >= 100) == is_full
        })?;
        if !told {
            notices.post(notice)?;
        }
        Ok(())
    }

    /// Whether a balance was told to be low before this process began, and has not been known to recover since.
    fn is_still_low(&self, notices: &Notices, projections: &Projections) -> Result<bool, StoreError> {
        let Alert::LowBalance { account, threshold, is_first: true, .. } = *self else { return Ok(false) };
        let Some(told_ms) = notices.last_told(Event::LowBalance, &account.into())? else { return Ok(false) };
        // Test calls spend no money of the account.
        let book = account.in_book(ledger::Book::Live).0;
        Ok(!projections.had_since(book, told_ms, threshold.0)?)
    }

    fn window(&self) -> Option<Window> {
        match self {
            Alert::Budget { window, .. } => Some(*window),
            Alert::LowBalance { .. } => None,
        }
    }
}

/// Whom to tell, of what, and how people call it. Groups and organizations are the operator's.
fn holder(
    snapshot: &Snapshot,
    account: AccountId,
    counter: &ledger::CounterKey,
) -> Option<(Option<AccountId>, Subject, Box<str>)> {
    let raw = ledger::AccountId(counter.subject).in_book(ledger::Book::Live).0;
    Some(match counter.layer {
        ledger::Layer::Key => {
            let key = snapshot.key(KeyId::from_raw(counter.subject))?;
            (Some(account), key.id.into(), key.name.clone())
        }
        ledger::Layer::Member => {
            let member = snapshot.member(MemberId::from_raw(raw))?;
            (Some(account), member.id.into(), member.name.clone())
        }
        ledger::Layer::Project => {
            let project = snapshot.project(ProjectId::from_raw(raw))?;
            (Some(account), project.id.into(), project.name.clone())
        }
        ledger::Layer::Group => {
            let group = snapshot.group(GroupId::from_raw(raw))?;
            (None, group.id.into(), group.name.clone())
        }
        ledger::Layer::Organization => {
            let node = &snapshot.organization(OrganizationId::from_raw(raw))?.organization;
            (None, node.id.into(), node.name.clone())
        }
        ledger::Layer::Model | ledger::Layer::Account => return None,
    })
}
