//! What must be true of the books at every moment. I1 to I4, I7, I8 and I10 can be checked here; I3's owners,
//! I5, I6 and I9 need the journal and the request log and are checked where those are.

use std::fmt;

use hashbrown::HashMap;

use crate::counters::Slot;
use crate::effect::{Effect, Held};
use crate::ids::AccountId;
use crate::ledger::Ledger;
use crate::lots::LotKind;
use crate::money::Nano;
use crate::postings;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// "I1" … "I10".
    pub invariant: &'static str,
    pub account: Option<AccountId>,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// All that can be checked of a state.
pub fn check(ledger: &Ledger) -> Vec<Violation> {
    let mut found = Vec::new();
    conservation(ledger, &mut found);
    holds_and_counters(ledger, &mut found);
    nothing_below_zero(ledger, &mut found);
    found
}

/// I1: a transaction sums to zero.
pub fn balanced(effect: &Effect) -> Option<Violation> {
    let mut sum = 0_i128;
    postings::each(effect, |posting| sum += i128::from(posting.amount.0));
    (sum != 0).then(|| Violation {
        invariant: "I1",
        account: Some(effect.account()),
        what: format!("a transaction sums to {sum} nano-units"),
    })
}

/// I4, I7 and I10, on an effect and the state before it. `charged`: what was charged, of an effect that refunds.
pub fn admissible(ledger: &Ledger, effect: &Effect, charged: Option<Nano>) -> Option<Violation> {
    let violation =
        |invariant, what: String| Some(Violation { invariant, account: Some(effect.account()), what });
    match effect {
        Effect::Settled(settled) if ledger.hold(settled.hold).is_none() => {
            violation("I4", "a charge without a hold".to_owned())
        }
        Effect::Held(held) => beyond_a_limit(ledger, held)
            .or_else(|| beyond_the_overdraft(ledger, held))
            .and_then(|what| violation("I7", what)),
        Effect::Refunded(refunded) => {
            let amount = crate::effect::total(&refunded.credits);
            let after = ledger.refunded(refunded.hold).saturating_add(amount);
            let charged = charged?;
            if after > charged { violation("I10", format!("{after} refunded of {charged}")) } else { None }
        }
        _ => None,
    }
}

/// A hold for which one of its layers had no room. What is written early only makes room, so the order of a journal
/// says no worse than the order in which it was planned.
fn beyond_a_limit(ledger: &Ledger, held: &Held) -> Option<String> {
    held.layers.iter().filter(|layer| layer.amount > 0).find_map(|layer| {
        let limit = layer.limit?;
        let counter = ledger.counter(&layer.counter, layer.window.start);
        let needed = i128::from(counter.used) + i128::from(counter.held) + i128::from(layer.amount);
        let of = layer.counter.layer;
        (needed > i128::from(limit))
            .then(|| format!("a hold brings the limit of a {of:?} to {needed} of {limit}"))
    })
}

/// A hold that owes more than it was allowed to.
fn beyond_the_overdraft(ledger: &Ledger, held: &Held) -> Option<String> {
    let owes = held.debits.iter().filter(|debit| debit.kind == LotKind::Overdraft);
    let owes: i128 = owes.map(|debit| i128::from(debit.amount.0)).sum();
    let owed = ledger.accounts.get(&held.account).map_or(0, |account| i128::from(account.owed.0)) + owes;
    let allowed = held.overdraft;
    (owes > 0 && owed > i128::from(allowed.0))
        .then(|| format!("a hold brings an account to {owed} nano-units below zero, {allowed} is declared"))
}

/// I2: what came in less what went out is what is there, per account and in total.
fn conservation(ledger: &Ledger, found: &mut Vec<Violation>) {
    let mut total = 0_i128;
    for (id, account) in &ledger.accounts {
        let lots: i128 = account.lots.iter().map(|lot| i128::from(lot.available.0)).sum();
        let there = lots - i128::from(account.owed.0) + i128::from(account.held.0);
        let net = account.families.net();
        total += there;
        if net != there {
            let what = format!("movements sum to {net} nano-units, available and held to {there}");
            found.push(Violation { invariant: "I2", account: Some(*id), what });
        }
        let lots_held: i128 = account.lots.iter().map(|lot| i128::from(lot.held.0)).sum();
        let parts = lots_held + i128::from(account.owed_held.0);
        if parts != i128::from(account.held.0) {
            let what = format!("{} nano-units are held, lots and overdraft say {parts}", account.held.0);
            found.push(Violation { invariant: "I2", account: Some(*id), what });
        }
    }
    let platform: i128 = ledger.platform.sums.iter().flatten().sum();
    if total + platform != 0 {
        let what = format!("customers have {total} nano-units, the platform's accounts sum to {platform}");
        found.push(Violation { invariant: "I2", account: None, what });
    }
}

/// I3, the ledger's side: what each account and each counter holds is what the open holds say.
fn holds_and_counters(ledger: &Ledger, found: &mut Vec<Violation>) {
    let mut of_accounts: HashMap<AccountId, i128> = HashMap::new();
    let mut of_counters: HashMap<Slot, (i128, u32)> = HashMap::new();
    for hold in ledger.holds.values() {
        *of_accounts.entry(hold.account).or_default() += i128::from(hold.amount.0);
        for (slot, layer) in hold.slots.iter().zip(&hold.layers) {
            let (amount, holds) = of_counters.entry(*slot).or_default();
            *amount += i128::from(layer.amount);
            *holds += 1;
        }
    }
    for (id, account) in &ledger.accounts {
        let holds = of_accounts.remove(id).unwrap_or_default();
        if holds != i128::from(account.held.0) {
            let what = format!("open holds sum to {holds} nano-units, the account holds {}", account.held.0);
            found.push(Violation { invariant: "I3", account: Some(*id), what });
        }
    }
    for (slot, instance) in ledger.counters.iter() {
        let (amount, holds) = of_counters.remove(&slot).unwrap_or_default();
        if amount != i128::from(instance.counter.held) || holds != instance.holds {
            let held = instance.counter.held;
            let what = format!("{holds} open holds sum to {amount} in a layer, {held} is counted there");
            found.push(Violation { invariant: "I3", account: None, what });
        }
    }
    let nowhere = of_accounts.values().any(|amount| *amount != 0) || !of_counters.is_empty();
    if nowhere {
        let what = "a hold counts in an account or a layer that is not there".to_owned();
        found.push(Violation { invariant: "I3", account: None, what });
    }
}

/// I7: no lot and no counter below zero, and nobody owes more than holds and arrears explain.
fn nothing_below_zero(ledger: &Ledger, found: &mut Vec<Violation>) {
    for (id, account) in &ledger.accounts {
        let below = account.lots.iter().any(|lot| lot.available.0 < 0 || lot.held.0 < 0);
        if below || account.owed.0 < 0 || account.owed_held.0 < 0 || account.owed_held > account.owed {
            let what = "a lot, or what is owed, is below zero".to_owned();
            found.push(Violation { invariant: "I7", account: Some(*id), what });
        }
    }
    for (_, instance) in ledger.counters.iter() {
        let counter = instance.counter;
        if counter.used < 0 || counter.held < 0 {
            let what = format!("a counter is below zero: {} used, {} held", counter.used, counter.held);
            found.push(Violation { invariant: "I7", account: None, what });
        }
    }
}
