//! What must come of holding, settling and releasing a call.

use ledger::{
    Effect, Held, HeldLayer, HoldId, HoldOwner, LayerHold, LedgerError, Metric, Nano, ReleaseReason,
    Timestamp,
};
use ledger::{Released, Settled};

use super::{AuditAccount, Auditor, CEILING, Family, LARGEST, Outcome, REMEMBERED_MS, nano};

impl Auditor {
    pub(super) fn reserve(&self, mut wish: Held, layers: &[LayerHold]) -> Outcome {
        for amount in [wish.amount, wish.overdraft] {
            if amount.0 < 0 {
                return Err(LedgerError::BadAmount { amount });
            }
        }
        if i128::from(wish.overdraft.0) > CEILING {
            return Err(LedgerError::TooLarge);
        }
        if self.holds.contains_key(&wish.hold) {
            return Err(LedgerError::HoldExists { hold: wish.hold });
        }
        for (index, layer) in layers.iter().enumerate() {
            self.layer(&wish, layers, index, layer)?;
            let (counter, window, limit, amount) = (layer.counter, layer.window, layer.limit, layer.amount);
            wish.layers.push(HeldLayer { counter, window, limit, amount });
        }
        let account = self.account(wish.account);
        let (amount, available) = (i128::from(wish.amount.0), account.available(wish.at));
        let held = self.held(wish.account);
        if amount > 0 && amount > available + i128::from(wish.overdraft.0) {
            let (available, held) = (nano(available), nano(held));
            return Err(LedgerError::BalanceInsufficient { available, held, needed: wish.amount });
        }
        if account.sum(Family::Charges) + held + amount > LARGEST {
            return Err(LedgerError::TooLarge);
        }
        wish.debits = Self::draw(account, amount, wish.at, None).into();
        Ok(Effect::Held(wish))
    }

    fn layer(
        &self,
        wish: &Held,
        all: &[LayerHold],
        index: usize,
        layer: &LayerHold,
    ) -> Result<(), LedgerError> {
        if layer.amount < 0 {
            return Err(LedgerError::BadAmount { amount: Nano(layer.amount) });
        }
        if layer.counter.metric == Metric::Spend && layer.amount != wish.amount.0 {
            return Err(LedgerError::Malformed { what: "a layer holds another amount than the hold" });
        }
        if all[..index].iter().any(|earlier| earlier.counter == layer.counter) {
            return Err(LedgerError::Malformed { what: "a layer is named twice" });
        }
        let window = self.window(&layer.counter, layer.window.start);
        let long_ended = i128::from(layer.window.end.0) + i128::from(REMEMBERED_MS) <= i128::from(wish.at.0);
        if long_ended {
            return Err(LedgerError::Malformed { what: "a layer's window ended long ago" });
        }
        let used = window.map_or(0, |window| window.used());
        let held = self.held_of_layer(&layer.counter, layer.window.start);
        let after = used + held + i128::from(layer.amount);
        let (used, held) = (nano(used).0, nano(held).0);
        match layer.limit {
            Some(limit) if layer.amount > 0 && after > i128::from(limit) => {
                Err(LedgerError::LayerExhausted { index, layer: *layer, used, held })
            }
            _ if after > CEILING => Err(LedgerError::TooLarge),
            _ => Ok(()),
        }
    }

    pub(super) fn settle(&self, id: HoldId, cost: Nano, now: Timestamp) -> Outcome {
        if cost.0 < 0 {
            return Err(LedgerError::BadAmount { amount: cost });
        }
        let hold = self.holds.get(&id).ok_or(LedgerError::UnknownHold { hold: id })?;
        let mut settled = Settled {
            hold: id,
            account: hold.account,
            at: now,
            cost,
            debits: Default::default(),
            returned: Default::default(),
            overrun: Default::default(),
            loss: Nano(0),
        };
        let mut to_pay = cost.0;
        for part in &hold.debits {
            let (paid, back) = (part.amount.0.min(to_pay), part.amount.0 - part.amount.0.min(to_pay));
            to_pay -= paid;
            if paid > 0 {
                settled.debits.push(ledger::Debit { amount: Nano(paid), ..*part });
            }
            if back > 0 {
                settled.returned.push(ledger::Debit { amount: Nano(back), ..*part });
            }
        }
        let account = self.account(hold.account);
        let charged = match hold.owner {
            HoldOwner::Process(_) => i128::from(to_pay).min(self.room_beyond(hold, account, now)),
            HoldOwner::Task(_) => 0,
        };
        settled.overrun = Self::draw(account, charged, now, None).into();
        settled.loss = nano(i128::from(to_pay) - charged);
        Ok(Effect::Settled(settled))
    }

    /// How much more than its hold a call can be charged: what is there, and what each limit leaves.
    fn room_beyond(&self, hold: &Held, account: &AuditAccount, now: Timestamp) -> i128 {
        let there = account.available(now) + i128::from(hold.overdraft.0);
        let countable = LARGEST - account.sum(Family::Charges) - self.held(hold.account);
        let mut room = there.min(countable);
        for layer in hold.layers.iter().filter(|layer| layer.counter.metric == Metric::Spend) {
            let used = self.window(&layer.counter, layer.window.start).map_or(0, |window| window.used());
            let held = self.held_of_layer(&layer.counter, layer.window.start);
            room = room.min(layer.limit.map_or(CEILING, i128::from).min(CEILING) - used - held);
        }
        room.max(0)
    }

    pub(super) fn release(&self, id: HoldId, reason: ReleaseReason, now: Timestamp) -> Outcome {
        let hold = self.holds.get(&id).ok_or(LedgerError::UnknownHold { hold: id })?;
        let (account, returned) = (hold.account, hold.debits.clone());
        Ok(Effect::Released(Released { hold: id, account, at: now, reason, returned }))
    }
}
