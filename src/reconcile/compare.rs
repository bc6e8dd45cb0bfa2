//! Two sides of the same money, row by row.
//!
//! Rows of one key and class are paired by amount and currency first; what is left is paired in the order of time and
//! differs. What several files have is one row ([`overlap`]). Pure but for the reading of the sorted rows.

use std::io;

use hashbrown::HashMap;
use ledger::Nano;
use serde::{Deserialize, Serialize};

use super::overlap;
use super::row::{Class, Row};
use super::sort::Sorted;

/// What is different. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One side has a row that the other side does not have.
    RowMissing,
    RowDoubled,
    AmountDiffers,
    SignDiffers,
    AccountDiffers,
    CurrencyDiffers,
    /// Both sides have it, at times too far apart.
    Late,
    /// A call was charged of which the upstream knows no answer.
    ChargedWithoutAnswer,
    /// Money went back that had never come, or never was charged.
    RefundWithoutCharge,
    /// The journal's chain of hashes does not hold.
    ChainCut,
    /// An upstream bills a call that the gateway never admitted.
    NeverAdmitted,
    /// An invariant of the books is broken.
    BooksBroken,
    /// A task succeeded, and the ledger charged nothing for it.
    TaskNotCharged,
    /// The ledger charged for a task that did not succeed.
    FailedTaskCharged,
    /// A task has a row, and the ledger has no hold and no outcome for it.
    TaskWithoutHold,
    /// The ledger holds or charged something for a task that has no row.
    HoldWithoutTask,
}

impl Kind {
    pub const ALL: [Kind; 16] = [
        Kind::RowMissing,
        Kind::RowDoubled,
        Kind::AmountDiffers,
        Kind::SignDiffers,
        Kind::AccountDiffers,
        Kind::CurrencyDiffers,
        Kind::Late,
        Kind::ChargedWithoutAnswer,
        Kind::RefundWithoutCharge,
        Kind::ChainCut,
        Kind::NeverAdmitted,
        Kind::BooksBroken,
        Kind::TaskNotCharged,
        Kind::FailedTaskCharged,
        Kind::TaskWithoutHold,
        Kind::HoldWithoutTask,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::RowMissing => "row_missing",
            Kind::RowDoubled => "row_doubled",
            Kind::AmountDiffers => "amount_differs",
            Kind::SignDiffers => "sign_differs",
            Kind::AccountDiffers => "account_differs",
            Kind::CurrencyDiffers => "currency_differs",
            Kind::Late => "late",
            Kind::ChargedWithoutAnswer => "charged_without_answer",
            Kind::RefundWithoutCharge => "refund_without_charge",
            Kind::ChainCut => "chain_cut",
            Kind::NeverAdmitted => "never_admitted",
            Kind::BooksBroken => "books_broken",
            Kind::TaskNotCharged => "task_not_charged",
            Kind::FailedTaskCharged => "failed_task_charged",
            Kind::TaskWithoutHold => "task_without_hold",
            Kind::HoldWithoutTask => "hold_without_task",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A difference with the rows that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: Kind,
    pub ours: Option<Row>,
    pub theirs: Option<Row>,
}

impl Difference {
    fn new(kind: Kind, ours: Option<&Row>, theirs: Option<&Row>) -> Self {
        Difference { kind, ours: ours.cloned(), theirs: theirs.cloned() }
    }

    /// The row that names it.
    pub fn row(&self) -> Option<&Row> {
        self.ours.as_ref().or(self.theirs.as_ref())
    }
}

/// What counts as a difference.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Rows further apart are late.
    pub late_ms: i64,
    /// The time that the other side's files cover, and how far from its ends a row may be on the other side of them.
    pub covered: (i64, i64),
    pub edge_ms: i64,
}

impl Rules {
    /// Whether a row of this time may be in the other side's files under another name.
    fn is_near(&self, row: &Row) -> bool {
        let (from, until) = self.covered;
        row.at_ms >= from.saturating_sub(NEAR_MS) && row.at_ms <= until.saturating_add(NEAR_MS)
    }

    /// Whether a row of this time can be expected on the other side.
    fn expects(&self, row: &Row) -> bool {
        let (from, until) = self.covered;
        !row.optional
            && row.at_ms >= from.saturating_add(self.edge_ms)
            && row.at_ms <= until.saturating_sub(self.edge_ms)
    }
}

/// What a walk came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub ours: u64,
    pub theirs: u64,
    pub matched: u64,
    /// Rows of ours near the end of what is covered, that a later file may have.
    pub awaited: u64,
}

/// Clocks of both sides are not further apart.
const NEAR_MS: i64 = 3_600_000;
/// Rows without a partner that may be found by their other name.
const ALIASES_MAX: usize = 100_000;

/// A walk through both sides, which may be interrupted and go on later.
#[derive(Default)]
pub struct Walk {
    pub counts: Counts,
    /// The last key that was compared: the rows up to it need not come again.
    pub after: Option<Box<str>>,
    lonely: Lonely,
}

impl Walk {
    /// A walk that had come so far.
    pub fn going_on(counts: Counts, after: Option<Box<str>>, waiting: Waiting) -> Self {
        let kept = waiting.ours.len() + waiting.theirs.len();
        let mut ours: HashMap<Box<str>, Vec<Row>> = HashMap::new();
        for row in waiting.ours {
            ours.entry(row.alias.clone()).or_default().push(row);
        }
        let lonely = Lonely { ours, theirs: waiting.theirs, kept };
        Walk { counts, after, lonely }
    }

    /// Compares all that is behind the last key. `found` is told each difference; `walked` how many rows were seen, and may
    /// stop the walk: then it is `false`, and goes on from there another time.
    pub fn compare(
        &mut self,
        mut ours: Sorted,
        mut theirs: Sorted,
        rules: &Rules,
        found: &mut dyn FnMut(Difference) -> io::Result<()>,
        walked: &mut dyn FnMut(u64) -> bool,
    ) -> io::Result<bool> {
        let Walk { counts, after, lonely } = self;
        loop {
            let key = match (ours.peek(), theirs.peek()) {
                (None, None) => break,
                (Some(one), None) | (None, Some(one)) => one.key.clone(),
                (Some(one), Some(other)) => (&one.key).min(&other.key).clone(),
            };
            let our_rows = ours.take_key(&key)?;
            let their_rows = overlap::once(theirs.take_key(&key)?, &|_| 0);
            counts.ours += our_rows.len() as u64;
            counts.theirs += their_rows.len() as u64;
            one_key(&our_rows, &their_rows, rules, counts, lonely, found)?;
            *after = Some(key);
            if !walked(counts.ours + counts.theirs) {
                return Ok(false);
            }
        }
        std::mem::take(lonely).pair(rules, counts, found)?;
        Ok(true)
    }

    /// What an interrupted walk would still look for.
    pub fn into_waiting(self) -> Waiting {
        Waiting { ours: self.lonely.ours.into_values().flatten().collect(), theirs: self.lonely.theirs }
    }
}

/// Rows without a partner that may yet be found by their other name, of both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub ours: Vec<Row>,
    pub theirs: Vec<Row>,
}

/// Rows that are alone under their key but have another name.
#[derive(Default)]
struct Lonely {
    ours: HashMap<Box<str>, Vec<Row>>,
    theirs: Vec<Row>,
    kept: usize,
}

impl Lonely {
    /// Whether a row of ours is kept for later, since it may yet find a partner. Whether one is expected does not matter
    /// here: what an upstream need not bill it may have billed.
    fn keeps_ours(&mut self, row: &Row, rules: &Rules) -> bool {
        let keeps = self.keeps(row) && rules.is_near(row);
        if keeps {
            self.kept += 1;
            self.ours.entry(row.alias.clone()).or_default().push(row.clone());
        }
        keeps
    }

    fn keeps_theirs(&mut self, row: &Row) -> bool {
        let keeps = self.keeps(row);
        if keeps {
            self.kept += 1;
            self.theirs.push(row.clone());
        }
        keeps
    }

    fn keeps(&self, row: &Row) -> bool {
        !row.alias.is_empty() && self.kept < ALIASES_MAX
    }

    fn pair(
        mut self,
        rules: &Rules,
        counts: &mut Counts,
        found: &mut dyn FnMut(Difference) -> io::Result<()>,
    ) -> io::Result<()> {
        for row in self.theirs {
            let partner =
                self.ours.get_mut(&row.alias).and_then(|rows| (!rows.is_empty()).then(|| rows.remove(0)));
            match partner {
                // A name that the call never learnt: its answer was cut or came too late.
                Some(own) => pair(&own, &row, rules, counts, found)?,
                None => found(Difference::new(missing_of_ours(&row, false), None, Some(&row)))?,
            }
        }
        let mut rest: Vec<Row> = self.ours.into_values().flatten().collect();
        rest.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        rest.iter().try_for_each(|row| missing_of_theirs(row, rules, counts, found))
    }
}

fn one_key(
    ours: &[Row],
    theirs: &[Row],
    rules: &Rules,
    counts: &mut Counts,
    lonely: &mut Lonely,
    found: &mut dyn FnMut(Difference) -> io::Result<()>,
) -> io::Result<()> {
    // Money came at all, by either side.
    let paid = ours.iter().chain(theirs).any(|row| row.class == Class::Payment);
    for class in Class::ALL {
        let ours: Vec<_> = ours.iter().filter(|row| row.class == class).collect();
        let theirs: Vec<_> = theirs.iter().filter(|row| row.class == class).collect();
        group(&ours, &theirs, paid, rules, counts, lonely, found)?;
    }
    Ok(())
}

/// Rows of one key and class.
fn group(
    ours: &[&Row],
    theirs: &[&Row],
    paid: bool,
    rules: &Rules,
    counts: &mut Counts,
    lonely: &mut Lonely,
    found: &mut dyn FnMut(Difference) -> io::Result<()>,
) -> io::Result<()> {
    if ours.len() != theirs.len() && same_sums(ours, theirs) {
        counts.matched += ours.len() as u64;
        return Ok(());
    }
    let (mut left, mut right) = (ours.to_vec(), theirs.to_vec());
    let mut paired: Vec<(&Row, &Row)> = Vec::new();
    left.retain(|own| {
        let partner = right.iter().position(|row| same_money(own, row));
        if let Some(partner) = partner {
            paired.push((own, right.remove(partner)));
        }
        partner.is_none()
    });
    for (own, row) in &paired {
        pair(own, row, rules, counts, found)?;
    }
    // Once more what is there already.
    let mut doubles = |rows: &mut Vec<&Row>, is_ours: bool| {
        let mut doubled = Vec::new();
        rows.retain(|row| {
            let twin = paired.iter().any(|(own, other)| same_money(if is_ours { own } else { other }, row));
            if twin {
                doubled.push(*row);
            }
            !twin
        });
        doubled.into_iter().try_for_each(|row| {
            let sides = if is_ours { (Some(row), None) } else { (None, Some(row)) };
            found(Difference::new(Kind::RowDoubled, sides.0, sides.1))
        })
    };
    doubles(&mut left, true)?;
    doubles(&mut right, false)?;
    let both = left.len().min(right.len());
    let (left_pairs, left_rest) = left.split_at(both);
    let (right_pairs, right_rest) = right.split_at(both);
    for (own, row) in left_pairs.iter().zip(right_pairs) {
        pair(own, row, rules, counts, found)?;
    }
    let left_rest = left_rest.iter().filter(|row| !lonely.keeps_ours(row, rules));
    left_rest.into_iter().try_for_each(|row| missing_of_theirs(row, rules, counts, found))?;
    right_rest.iter().try_for_each(|row| {
        let without_charge = row.class != Class::Payment && row.class != Class::Cost && !paid;
        match missing_of_ours(row, without_charge) {
            Kind::RowMissing | Kind::NeverAdmitted if lonely.keeps_theirs(row) => Ok(()),
            kind => found(Difference::new(kind, None, Some(row))),
        }
    })
}

/// One row of ours may stand for several of theirs, as where a file has the sum of an order's refunds.
fn same_sums(ours: &[&Row], theirs: &[&Row]) -> bool {
    let sum = |rows: &[&Row]| {
        let amounts: Option<Vec<Nano>> = rows.iter().map(|row| row.amount).collect();
        amounts.map(|amounts| amounts.iter().map(|amount| i128::from(amount.0)).sum::<i128>())
    };
    let currencies =
        |rows: &[&Row]| rows.iter().all(|row| ours.first().is_some_and(|one| one.currency == row.currency));
    !ours.is_empty()
        && !theirs.is_empty()
        && currencies(ours)
        && currencies(theirs)
        && sum(ours).is_some()
        && sum(ours) == sum(theirs)
}

fn same_money(own: &Row, row: &Row) -> bool {
    own.currency == row.currency
        && match (own.amount, row.amount) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
}

/// Two rows that are of the same thing.
fn pair(
    own: &Row,
    row: &Row,
    rules: &Rules,
    counts: &mut Counts,
    found: &mut dyn FnMut(Difference) -> io::Result<()>,
) -> io::Result<()> {
    let negated = |amount: Option<Nano>| amount.map(|amount| Nano(amount.0.saturating_neg()));
    let known = own.amount.is_some() && row.amount.is_some();
    let kind = if own.currency != row.currency {
        Some(Kind::CurrencyDiffers)
    } else if known && own.amount != row.amount && own.amount == negated(row.amount) {
        Some(Kind::SignDiffers)
    } else if known && own.amount != row.amount {
        Some(Kind::AmountDiffers)
    } else if !own.account.is_empty() && !row.account.is_empty() && own.account != row.account {
        Some(Kind::AccountDiffers)
    } else if own.at_ms.abs_diff(row.at_ms) > rules.late_ms.unsigned_abs() {
        Some(Kind::Late)
    } else {
        None
    };
    match kind {
        Some(kind) => found(Difference::new(kind, Some(own), Some(row))),
        None => {
            counts.matched += 1;
            Ok(())
        }
    }
}

fn missing_of_ours(row: &Row, without_charge: bool) -> Kind {
    match row.class {
        Class::Cost => Kind::NeverAdmitted,
        Class::Refund | Class::Dispute if without_charge => Kind::RefundWithoutCharge,
        _ => Kind::RowMissing,
    }
}

fn missing_of_theirs(
    row: &Row,
    rules: &Rules,
    counts: &mut Counts,
    found: &mut dyn FnMut(Difference) -> io::Result<()>,
) -> io::Result<()> {
    if !rules.expects(row) {
        counts.awaited += 1;
        return Ok(());
    }
    let charged = row.class == Class::Cost && row.charged.is_positive();
    let kind = if charged { Kind::ChargedWithoutAnswer } else { Kind::RowMissing };
    found(Difference::new(kind, Some(row), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::sort::Sorter;

    fn row(key: &str, alias: &str, nano: i64) -> Row {
        Row {
            alias: alias.into(),
            name: key.into(),
            ..Row::new(key, Class::Cost, Some(Nano(nano)), "USD", 0)
        }
    }

    /// Walks in portions of so many keys, each as a run of its own.
    fn walked(ours: &[Row], theirs: &[Row], keys_at_once: u64) -> (Counts, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules { late_ms: 1, covered: (i64::MIN, i64::MAX), edge_ms: 0 };
        let (mut counts, mut after, mut waiting) = (Counts::default(), None::<Box<str>>, Waiting::default());
        let mut found = Vec::new();
        loop {
            let sorted = |rows: &[Row]| {
                let mut sorter = Sorter::new(folder.path()).behind(after.as_deref());
                rows.iter().for_each(|row| sorter.push(row.clone()).unwrap());
                sorter.sorted().unwrap()
            };
            let (ours, theirs) = (sorted(ours), sorted(theirs));
            let mut walk = Walk::going_on(counts, after, waiting);
            let mut left = keys_at_once;
            let mut note = |difference: Difference| {
                let key = &difference.row().unwrap().key;
                found.push(format!("{} {key}", difference.kind.as_str()));
                Ok(())
            };
            let done = walk.compare(ours, theirs, &rules, &mut note, &mut |_| {
                left -= 1;
                left > 0
            });
            if done.unwrap() {
                found.sort();
                return (walk.counts, found);
            }
            (counts, after) = (walk.counts, walk.after.clone());
            waiting = walk.into_waiting();
        }
    }

    /// S46: what need not be billed, or is near the end of the file, is matched by its other name if it was billed all the same.
    #[test]
    fn s46_a_row_that_need_not_be_billed_is_found_by_its_other_name() {
        let optional = Row { optional: true, ..row("req_1#1", "req_1", 1) };
        let theirs = [row("up_1", "req_1", 1)];
        let (counts, found) = walked(std::slice::from_ref(&optional), &theirs, u64::MAX);
        assert_eq!((counts.matched, counts.awaited, found.len()), (1, 0, 0), "{found:?}");
        let (counts, found) = walked(&[optional], &[], u64::MAX);
        assert_eq!((counts.matched, counts.awaited, found.len()), (0, 1, 0), "{found:?}");
    }

    #[test]
    fn b7_a_walk_comes_to_the_same_wherever_it_is_interrupted() {
        // Under one key; by another name, ours first and theirs first; twice; other money; on one side alone.
        let ours = [row("a", "", 1), row("b", "x", 2), row("z", "y", 3), row("d", "", 4), row("e", "", 5)];
        let theirs = [
            row("a", "", 1),
            row("a", "", 1),
            row("y1", "x", 2),
            row("c", "y", 3),
            row("d", "", 40),
            row("f", "w", 6),
            row("g", "", 7),
        ];
        let whole = walked(&ours, &theirs, u64::MAX);
        assert_eq!(whole.0, Counts { ours: 5, theirs: 7, matched: 3, awaited: 0 });
        let wanted =
            ["amount_differs d", "never_admitted f", "never_admitted g", "row_doubled a", "row_missing e"];
        assert_eq!(whole.1, wanted);
        for keys_at_once in 1..10 {
            assert_eq!(walked(&ours, &theirs, keys_at_once), whole, "{keys_at_once} keys at once");
        }
    }
}
