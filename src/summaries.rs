//! Monthly summaries (月度账单): when an account's month is over, it is told what came in, what was charged, and what is left.
//!
//! Promises: each account is told once for each month in which something happened to it, in its own time zone, whatever is
//! restarted in between; a gateway that was down at the turn of the month tells it within some days.
//! Must never: be in the way of a call. Runs on a thread of its own, which reads projections and posts notices.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use hashbrown::HashMap;
use ledger::Nano;

use crate::app::App;
use crate::books::movement::Family;
use crate::books::statement::{Statement, StatementError, Sums};
use crate::explain::period::Period;
use crate::id::AccountId;
use crate::notices::{Event, Facts, NewNotice};
use crate::store::StoreError;

/// Later than so long after its end, a month is not told any more.
const LATE_MS: i64 = 3 * 24 * 60 * 60 * 1_000;
/// Between two looks at the calendar.
const TICK: Duration = Duration::from_secs(60);

/// Why a round did not come to its end; the next one goes on.
#[derive(Debug)]
pub enum SummaryError {
    Statement(StatementError),
    Store(StoreError),
}

impl fmt::Display for SummaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SummaryError::Statement(why) => write!(f, "{why}"),
            SummaryError::Store(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for SummaryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SummaryError::Statement(why) => Some(why),
            SummaryError::Store(why) => Some(why),
        }
    }
}

impl From<StoreError> for SummaryError {
    fn from(why: StoreError) -> Self {
        SummaryError::Store(why)
    }
}

/// Months end with a quarter of an hour, in every zone.
const QUARTER_MS: i64 = 15 * 60 * 1_000;

/// What was told in this process.
#[derive(Debug, Default)]
pub struct Summaries {
    /// The month that was told last, by zone.
    done: HashMap<Box<str>, String>,
    /// The quarter of an hour in which was looked last.
    quarter: i64,
}

impl Summaries {
    /// Tells every month that has ended and was not told. Answers how many notices it was. Blocks.
    pub fn tell_due(&mut self, app: &App) -> Result<usize, SummaryError> {
        let (now, snapshot) = (app.books.now(), app.directory.snapshot_owned());
        let quarter = now.0.div_euclid(QUARTER_MS);
        if quarter == self.quarter {
            return Ok(0);
        }
        let mut due: HashMap<Box<str>, Period> = HashMap::new();
        for account in snapshot.accounts() {
            let name = &account.time_zone;
            if due.contains_key(name) {
                continue;
            }
            let month = snapshot.account(account.id).and_then(|entry| Period::month_before(now, &entry.zone));
            let Some(month) = month else { continue };
            let is_told = self.done.get(name) == Some(&month.name);
            if !is_told && now.0 - month.span.to.0 <= LATE_MS {
                due.insert(name.clone(), month);
            }
        }
        let mut told = 0;
        for (zone, month) in due {
            let active = app.projections.active_accounts(month.span.from.0, month.span.to.0)?;
            for book in active {
                let account = AccountId::from(ledger::AccountId(book));
                let is_of_zone =
                    snapshot.account(account).is_some_and(|entry| entry.account.time_zone == zone);
                if is_of_zone && ledger::AccountId(book).book() == ledger::Book::Live {
                    told += usize::from(tell(app, account, &month)?);
                }
            }
            self.done.insert(zone, month.name);
        }
        self.quarter = quarter;
        Ok(told)
    }
}

/// Tells one account its month, unless that was done before.
fn tell(app: &App, account: AccountId, month: &Period) -> Result<bool, SummaryError> {
    let same = |facts: &serde_json::Map<String, serde_json::Value>| {
        facts.get("period").and_then(serde_json::Value::as_str) == Some(&month.name)
    };
    let subject = account.into();
    if app.notices.was_told(Event::MonthlySummary, &subject, month.span.to.0, same)? {
        return Ok(false);
    }
    let book = account.in_book(ledger::Book::Live);
    let statement = Statement::of(&app.books, &app.projections, book, month.span);
    let statement = statement.map_err(SummaryError::Statement)?;
    let sums = statement.sums(&app.projections).map_err(SummaryError::Statement)?;
    let facts = facts(&statement, &sums, month, app.currency());
    app.notices.post(NewNotice { account: Some(account), subject, facts })?;
    Ok(true)
}

fn facts(statement: &Statement, sums: &Sums, month: &Period, currency: &str) -> Facts {
    let [opening, closing] = [statement.opening.balance, statement.closing.balance];
    let [credits, charges, refunds] =
        [Family::Credits, Family::Charges, Family::ChargeRefunds].map(|family| sums.of_family(family));
    // What neither came in nor was charged or refunded: compensation, corrections, expiries, money sent back.
    let explained = [credits, Nano(-charges.0), refunds].into_iter().fold(opening, Nano::saturating_add);
    Facts::MonthlySummary {
        period: month.name.as_str().into(),
        opening,
        credits,
        charges,
        refunds,
        others: closing.saturating_sub(explained),
        closing,
        currency: currency.into(),
    }
}

/// The thread that tells them, until it is dropped.
pub struct Worker(#[expect(dead_code, reason = "dropping it ends the thread")] Sender<()>);

impl Worker {
    pub fn start(app: Arc<App>) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let run = move || {
            let mut summaries = Summaries::default();
            loop {
                if let Err(why) = summaries.tell_due(&app) {
                    tracing::error!(%why, "monthly summaries could not be told; trying again");
                }
                match stopped.recv_timeout(TICK) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        std::thread::Builder::new().name("summaries".to_owned()).spawn(run)?;
        Ok(Worker(stop))
    }
}
