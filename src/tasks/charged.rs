//! "Was I charged?" (失败任务是否扣费): computed from the task, its row of the request log and the ledger's record of
//! its hold, which are all shown, each with its source (A3, G3).

use ledger::{Effect, Nano};
use serde::Serialize;

use super::error::TaskError;
use super::service::Tasks;
use super::task::{Task, TaskMoney};
use crate::books::{ChargeState, lookup};
use crate::catalogue::Language;
use crate::directory::decimal;
use crate::explain::time_text;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is not finished: its highest cost is held, nothing is charged.
    NotYet,
    Charged,
    NotCharged,
    /// Charged, and given back since, wholly or in part.
    Refunded,
    /// What is on record does not fit together: a matter for whoever runs the gateway.
    Disagreement,
}

/// What one source says.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    pub source: &'static str,
    /// Which record it is.
    pub id: String,
    /// Its word for where things stand.
    pub says: String,
    /// `None`: it tells no amount.
    #[serde(with = "decimal::optional_money")]
    pub charged: Option<Nano>,
    pub at: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Charged {
    pub task: String,
    pub verdict: Verdict,
    #[serde(with = "decimal::money")]
    pub charged: Nano,
    #[serde(with = "decimal::money")]
    pub held: Nano,
    pub currency: String,
    /// The answer in one sentence.
    pub summary: String,
    pub facts: Vec<Fact>,
}

impl Tasks {
    /// A task that ends while its records are read one after the other seems to disagree with itself: it is read again.
    pub fn charged(&self, task: &Task, currency: &str, language: Language) -> Result<Charged, TaskError> {
        let found = self.charged_as(task, currency, language)?;
        match found.verdict {
            Verdict::Disagreement => self.charged_as(&self.get(task.id)?, currency, language),
            _ => Ok(found),
        }
    }

    fn charged_as(&self, task: &Task, currency: &str, language: Language) -> Result<Charged, TaskError> {
        let call = lookup::call(&self.books, &self.projections, task.request)?;
        let money = call.as_ref().map(|call| &*call.money).unwrap_or_default();
        let row = call.as_ref().map(|call| (call.state, call.charge));
        let (ledger_state, ledger_charge) = ChargeState::of(money);
        let open = self.books.task_holds().iter().any(|(request, _)| *request == task.request);
        let hold = money.iter().find_map(|effect| match effect {
            Effect::Settled(settled) => Some(settled.hold),
            _ => None,
        });
        // A refund is an entry of its own, behind the call's.
        let refunded = hold.map_or(Nano::ZERO, |hold| self.books.refunded(hold));
        let verdict = match verdict(task, row, ledger_state, open) {
            Verdict::Charged if refunded.is_positive() => Verdict::Refunded,
            verdict => verdict,
        };
        let facts = vec![
            Fact {
                source: "task",
                id: task.id.to_string(),
                says: format!("{} ({})", task.state.as_str(), task.money.as_str()),
                charged: Some(task.charged),
                at: Some(time_text(task.ended_ms.unwrap_or(task.created_ms))),
            },
            Fact {
                source: "task_state",
                id: task.upstream_id.as_deref().unwrap_or("-").to_owned(),
                says: match &task.failure {
                    Some(failure) => format!("{}: {} – {}", task.state.as_str(), failure.code, failure.text),
                    None => task.state.as_str().to_owned(),
                },
                charged: None,
                at: task.ended_ms.map(time_text),
            },
            Fact {
                source: "request_log",
                id: task.request.to_string(),
                says: row.map_or("no row", |(state, _)| state.as_str()).to_owned(),
                charged: row.map(|(_, charge)| charge),
                at: call.as_ref().map(|call| time_text(call.call.decided.facts.at_ms)),
            },
            ledger_fact(task, money, (ledger_charge, refunded), open),
        ];
        let charged = row.map_or(Nano::ZERO, |(_, charge)| charge.saturating_sub(refunded));
        let held = if open { task.hold } else { Nano::ZERO };
        let summary = summary(verdict, task, charged, currency, language);
        let (task, currency) = (task.id.to_string(), currency.to_owned());
        Ok(Charged { task, verdict, charged, held, currency, summary, facts })
    }
}

/// All of them must say the same.
fn verdict(task: &Task, row: Option<(ChargeState, Nano)>, ledger: ChargeState, open: bool) -> Verdict {
    let Some((log, charge)) = row else { return Verdict::Disagreement };
    let is_open = log == ChargeState::Held;
    if log != ledger || is_open != open {
        return Verdict::Disagreement;
    }
    match (task.state.is_final(), task.money, log) {
        (_, TaskMoney::Held, ChargeState::Held) => Verdict::NotYet,
        (true, TaskMoney::Settled, ChargeState::Settled) if charge == task.charged => Verdict::Charged,
        (true, TaskMoney::Settled, ChargeState::Refunded) => Verdict::Refunded,
        (true, TaskMoney::Released, ChargeState::Released) => Verdict::NotCharged,
        _ => Verdict::Disagreement,
    }
}

fn ledger_fact(task: &Task, money: &[Effect], (charge, refunded): (Nano, Nano), open: bool) -> Fact {
    let hold = task.hold;
    let says = money.iter().rev().find_map(|effect| match effect {
        Effect::Settled(settled) => Some(format!("hold of {hold} settled at {}", settled.cost)),
        Effect::Released(released) => Some(format!("hold of {hold} released: {}", released.reason.as_str())),
        Effect::Refunded(refund) => Some(format!("refunded {}", ledger::total(&refund.credits))),
        _ => None,
    });
    let says = says.map(|says| match refunded.is_positive() {
        true => format!("{says}; refunded {refunded}"),
        false => says,
    });
    Fact {
        source: "ledger_record",
        id: format!("hold of {}", task.request),
        says: says
            .unwrap_or_else(|| if open { format!("hold of {hold} is open") } else { "no hold".to_owned() }),
        charged: Some(charge),
        at: money.last().map(|effect| time_text(effect.at().0)),
    }
}

fn summary(verdict: Verdict, task: &Task, charged: Nano, currency: &str, language: Language) -> String {
    let (hold, state) = (task.hold, task.state.as_str());
    let [en, zh] = match verdict {
        Verdict::NotYet => [
            format!("Not yet: the task is {state}. Up to {hold} {currency} are held, nothing is charged."),
            format!("尚未扣费：任务状态为 {state}，已冻结最高 {hold} {currency}，未扣费。"),
        ],
        Verdict::Charged => [
            format!("Yes: the task succeeded and {charged} {currency} were charged."),
            format!("已扣费：任务成功，扣费 {charged} {currency}。"),
        ],
        Verdict::NotCharged => [
            format!(
                "No: the task is {state}. The {hold} {currency} that were held are back, nothing was charged."
            ),
            format!("未扣费：任务状态为 {state}，冻结的 {hold} {currency} 已退回，没有扣费。"),
        ],
        Verdict::Refunded => [
            format!("It was charged and refunded; {charged} {currency} of the charge are left."),
            format!("已扣费并退款，剩余扣费 {charged} {currency}。"),
        ],
        Verdict::Disagreement => [
            "The records do not agree: contact support with the task id and the facts below.".to_owned(),
            "记录不一致：请携带任务 ID 和下列事实联系支持。".to_owned(),
        ],
    };
    if language == Language::Zh { zh } else { en }
}
