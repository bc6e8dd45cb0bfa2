//! The state of the books and how an effect changes it.

use hashbrown::HashMap;

use crate::accounts::{Account, Balance, BriefBalance, Change};
use crate::command::{Command, LedgerError, Withdrawal};
use crate::counters::{Counter, CounterKey, Counters, Metric, Slot};
use crate::effect::{
    Credited, Debit, Effect, Held, HeldLayer, Refunded, Released, Settled, Withdrawn, total,
};
use crate::fits::Origin;
use crate::holds::Hold;
use crate::ids::{AccountId, HoldId, LotId, Reference, Timestamp};
use crate::money::Nano;
use crate::plant::planted;
use crate::postings::{self, Platform};

/// The books. See the crate's documentation.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(crate) now: Timestamp,
    pub(crate) accounts: HashMap<AccountId, Account>,
    pub(crate) counters: Counters,
    pub(crate) holds: HashMap<HoldId, Hold>,
    /// Fingerprint of each reference → fingerprint of what it stands for.
    pub(crate) references: HashMap<u128, u128>,
    /// Refunded so far of each charge that was refunded at all.
    pub(crate) refunded: HashMap<HoldId, Nano>,
    /// The platform's own accounts, of both books.
    pub(crate) platform: Platform,
}

impl Ledger {
    /// Plans and applies. What was planned fits, so it is not checked a second time.
    pub fn execute(&mut self, command: &Command, now: Timestamp) -> Result<Effect, LedgerError> {
        let effect = self.plan(command, now)?;
        debug_assert_eq!(self.fits(&effect, Origin::Plan), Ok(()), "{effect:?}");
        self.make(&effect);
        Ok(effect)
    }

    /// Ledger time: that of the latest effect.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn balance(&self, account: AccountId, now: Timestamp) -> Balance {
        self.accounts.get(&account).map(|known| known.balance(now.max(self.now))).unwrap_or_default()
    }

    /// The figures of a decision, without the lots.
    pub fn brief_balance(&self, account: AccountId, now: Timestamp) -> BriefBalance {
        self.accounts.get(&account).map(|known| known.brief(now.max(self.now))).unwrap_or_default()
    }

    pub fn counter(&self, key: &CounterKey, start: Timestamp) -> Counter {
        self.counters.get(key, start)
    }

    pub fn hold(&self, id: HoldId) -> Option<&Hold> {
        self.holds.get(&id)
    }

    pub fn open_holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        self.accounts.keys().copied()
    }

    /// The ends of all lots that have one.
    pub fn ends(&self) -> impl Iterator<Item = (Timestamp, AccountId, LotId)> {
        let of = |(id, account): (&AccountId, &Account)| {
            let id = *id;
            let ends = account.lots.iter().filter_map(move |lot| Some((lot.expires_at?, id, lot.id)));
            ends.collect::<Vec<_>>()
        };
        self.accounts.iter().flat_map(of)
    }

    /// Whether something of a lot is left, or held.
    pub fn has_lot(&self, account: AccountId, lot: LotId) -> bool {
        self.accounts.get(&account).is_some_and(|known| known.lot(lot).is_some())
    }

    /// Refunded so far of a charge.
    pub fn refunded(&self, charge: HoldId) -> Nano {
        self.refunded.get(&charge).copied().unwrap_or_default()
    }

    /// Whether a reference has posted.
    pub fn has_posted(&self, reference: &Reference) -> bool {
        self.references.contains_key(&reference.fingerprint())
    }

    /// Makes an effect true. An error means that the effect was not planned on this state; the state is
    /// then as it was. The end of a call may be applied earlier than it was planned, right after its hold:
    /// a lot can lack money until the effects in between have followed.
    pub fn apply(&mut self, effect: &Effect) -> Result<(), LedgerError> {
        self.fits(effect, Origin::Journal)?;
        self.make(effect);
        Ok(())
    }

    /// Changes the books. The effect fits them.
    fn make(&mut self, effect: &Effect) {
        match effect {
            Effect::Credited(effect) => self.apply_credited(effect),
            Effect::Held(effect) => self.apply_held(effect),
            Effect::Settled(effect) => self.apply_settled(effect),
            Effect::Released(effect) => self.apply_released(effect),
            Effect::Refunded(effect) => self.apply_refunded(effect),
            Effect::Withdrawn(effect) => self.apply_withdrawn(effect),
            Effect::Expired(effect) => {
                let account = self.accounts.entry(effect.account).or_default();
                account.touch(&effect.debit, Change::Minus, Change::Keep);
                add(&mut account.families.expiries, effect.debit.amount);
            }
            Effect::CostAccrued(_) => {}
        }
        postings::each(effect, |posting| self.platform.post(&posting));
        self.now = self.now.max(effect.at());
    }

    fn apply_credited(&mut self, effect: &Credited) {
        let account = self.accounts.entry(effect.account).or_default();
        let lot = Debit {
            lot: effect.lot,
            kind: effect.kind,
            priority: effect.priority,
            expires_at: effect.expires_at,
            amount: effect.amount.saturating_sub(effect.repaid),
        };
        account.owed = account.owed.saturating_sub(effect.repaid);
        if lot.amount.is_positive() {
            account.touch(&lot, Change::Plus, Change::Keep);
        }
        account.families.credit(effect.source, effect.amount);
        self.references.insert(effect.reference.fingerprint(), effect.content);
    }

    fn apply_held(&mut self, effect: &Held) {
        let account = self.accounts.entry(effect.account).or_default();
        for debit in &effect.debits {
            account.touch(debit, Change::Minus, Change::Plus);
        }
        add(&mut account.held, effect.amount);
        self.count_hold(effect);
    }

    /// Opens a hold and counts it in its layers; the account's side is done already.
    pub(crate) fn count_hold(&mut self, effect: &Held) {
        let slots = effect.layers.iter().map(|layer| {
            let slot = self.counters.open(layer.counter, layer.window, effect.at);
            if let Some(instance) = self.counters.at_mut(slot) {
                instance.counter.held = instance.counter.held.saturating_add(layer.amount);
                instance.holds += 1;
            }
            slot
        });
        let slots = slots.collect();
        self.holds.insert(
            effect.hold,
            Hold {
                id: effect.hold,
                account: effect.account,
                at: effect.at,
                amount: effect.amount,
                overdraft: effect.overdraft,
                owner: effect.owner,
                debits: effect.debits.clone(),
                layers: effect.layers.clone(),
                slots,
            },
        );
    }

    fn apply_settled(&mut self, effect: &Settled) {
        let Some(hold) = self.holds.remove(&effect.hold) else { return };
        let charged = effect.charged();
        let account = self.accounts.entry(hold.account).or_default();
        for debit in &effect.debits {
            account.touch(debit, Change::Keep, Change::Minus);
        }
        let given_back = if planted!(RestKept) { Change::Keep } else { Change::Plus };
        for debit in &effect.returned {
            account.touch(debit, given_back, Change::Minus);
        }
        for debit in &effect.overrun {
            account.touch(debit, Change::Minus, Change::Keep);
        }
        account.held = account.held.saturating_sub(hold.amount);
        add(&mut account.families.charges, charged);
        for (slot, layer) in hold.slots.iter().zip(&hold.layers) {
            let used = match layer.counter.metric {
                Metric::Spend => charged.0,
                Metric::Calls => layer.amount,
            };
            let counted_in =
                if planted!(SettleInTodaysWindow) { self.newest_of(layer).unwrap_or(*slot) } else { *slot };
            self.end_layer(*slot, layer);
            if let Some(instance) = self.counters.at_mut(counted_in) {
                instance.counter.used = instance.counter.used.saturating_add(used);
            }
        }
    }

    /// The instance of the layer's counter that began last.
    fn newest_of(&self, layer: &HeldLayer) -> Option<Slot> {
        let of_counter = self.counters.iter().filter(|(_, instance)| instance.key == layer.counter);
        of_counter.max_by_key(|(_, instance)| instance.window.start).map(|(slot, _)| slot)
    }

    fn apply_released(&mut self, effect: &Released) {
        let Some(hold) = self.holds.remove(&effect.hold) else { return };
        let account = self.accounts.entry(hold.account).or_default();
        for debit in &effect.returned {
            account.touch(debit, Change::Plus, Change::Minus);
        }
        account.held = account.held.saturating_sub(hold.amount);
        let forgotten = usize::from(planted!(ReleaseForgetsLayer));
        let layers = hold.slots.len().saturating_sub(forgotten);
        for (slot, layer) in hold.slots.iter().zip(&hold.layers).take(layers) {
            self.end_layer(*slot, layer);
        }
    }

    fn end_layer(&mut self, slot: Slot, layer: &HeldLayer) {
        if let Some(instance) = self.counters.at_mut(slot) {
            instance.counter.held = instance.counter.held.saturating_sub(layer.amount);
            instance.holds = instance.holds.saturating_sub(1);
        }
    }

    fn apply_refunded(&mut self, effect: &Refunded) {
        let account = self.accounts.entry(effect.account).or_default();
        let amount = total(&effect.credits);
        for credit in &effect.credits {
            account.touch(credit, Change::Plus, Change::Keep);
        }
        add(&mut account.families.charge_refunds, amount);
        for layer in &effect.layers {
            // An instance that ended and was forgotten limits nothing any more.
            let slot = self.counters.find(&layer.counter, layer.window.start);
            if let Some(instance) = slot.and_then(|slot| self.counters.at_mut(slot)) {
                instance.counter.used = instance.counter.used.saturating_sub(layer.amount);
            }
        }
        add(self.refunded.entry(effect.hold).or_default(), amount);
        self.references.insert(effect.reference.fingerprint(), effect.content);
    }

    fn apply_withdrawn(&mut self, effect: &Withdrawn) {
        let account = self.accounts.entry(effect.account).or_default();
        for debit in &effect.debits {
            account.touch(debit, Change::Minus, Change::Keep);
        }
        let amount = total(&effect.debits);
        match effect.kind {
            Withdrawal::Adjustment => {
                account.families.adjustments = account.families.adjustments.saturating_sub(amount);
            }
            Withdrawal::OrderRefund => add(&mut account.families.order_refunds, amount),
            Withdrawal::Chargeback => add(&mut account.families.chargebacks, amount),
        }
        self.references.insert(effect.reference.fingerprint(), effect.content);
    }
}

fn add(sum: &mut Nano, amount: Nano) {
    *sum = sum.saturating_add(amount);
}
